//! A server of its own thread: takes connections, a limited number at once, and gives none of them unlimited time.
//!
//! A client has a limited time for its handshake, for the head and the body of every request, between two requests, and
//! for taking an answer; so the room of those who are slow is free again soon, and who waits for room waits in the
//! system's queue.

use super::guard;
use crate::failure::{Failure, Result};
use crate::tls::{Security, Stream};
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) connections: usize,
    /// Time for the head of a request, from the end of the one before.
    pub(super) head: Duration,
    /// Time for its body.
    pub(super) body: Duration,
    /// Time in which nothing of an answer is taken.
    pub(super) stall: Duration,
}

/// Enough for dashboards, scrapers and a controller.
pub(super) const LIMITS: Limits = Limits {
    connections: 256,
    head: Duration::from_secs(30),
    body: Duration::from_secs(10),
    stall: Duration::from_secs(10),
};

/// How long a stopping server waits for the clients of its last answers.
const GRACE: Duration = Duration::from_secs(2);

/// How long the server waits when the system has no room for more connections.
const BREATH: Duration = Duration::from_millis(200);

/// A running server. It stops when it is dropped, after the answers that are on their way.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What a server serves.
pub(super) struct Content {
    pub(super) router: Router,
    /// What goes on beside the requests; it does not end by itself.
    pub(super) beside: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Starts a server on `address`, which is `HOST:PORT`; port 0 takes a free one. Its content is told when it is to stop.
/// Fails with kind `User` when the address is malformed or cannot be had.
pub(super) fn start(
    address: &str,
    security: Security,
    limits: Limits,
    content: impl FnOnce(watch::Receiver<bool>) -> Content,
) -> Result<Server> {
    let listener = bind(address)?;
    let failed = |what: &str, error: io::Error| {
        Failure::transient(format!("the HTTP server on {address} {what}")).because(error)
    };
    let local = listener.local_addr().map_err(|error| failed("has no address", error))?;
    listener.set_nonblocking(true).map_err(|error| failed("could not be set up", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed("could not be set up", error))?;
    let (stop, stopping) = watch::channel(false);
    let Content { router, beside } = content(stopping.clone());
    let door =
        Door { security, limits, router: TowerToHyperService::new(guard::guarded(router, limits.body)), stopping };
    let run = async move {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the http server could not begin"),
        };
        tokio::select! {
            () = door.serve(listener) => {}
            () = beside => {}
        }
    };
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || runtime.block_on(run));
    let thread = thread.map_err(|error| failed("could not be started", error))?;
    Ok(Server { address: local, stop, thread: Some(thread) })
}

impl Server {
    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the server is in the log and no business of the job.
            let _ = thread.join();
        }
    }
}

fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        use io::ErrorKind as E;
        let hint = match error.kind() {
            E::AddrInUse => "another process listens there; choose another port, or port 0 for a free one",
            E::PermissionDenied => "ports below 1024 need privileges; choose another one",
            E::AddrNotAvailable => "no interface of this machine has that address; 127.0.0.1 always is one",
            _ => "give HOST:PORT, such as 127.0.0.1:8081, or 0.0.0.0:8081 to be reached from other machines",
        };
        Failure::user(format!("cannot serve HTTP on '{address}': {error}\nhint: {hint}"))
    })
}

/// Where connections come in.
#[derive(Clone)]
struct Door {
    security: Security,
    limits: Limits,
    router: TowerToHyperService<Router>,
    stopping: watch::Receiver<bool>,
}

impl Door {
    async fn serve(mut self, listener: tokio::net::TcpListener) {
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        loop {
            let next = async {
                let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => break,
                next = next => next,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    let door = self.clone();
                    connections.spawn(async move {
                        door.connection(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(BREATH).await;
                }
            }
        }
        drop(listener);
        let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
        connections.shutdown().await;
    }

    async fn connection(self, stream: TcpStream) {
        let Self { security, limits, router, mut stopping } = self;
        let accepted = tokio::select! {
            accepted = security.accept(stream) => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(failure) => return tracing::info!(error = failure.chain(), "a connection to the http api was refused"),
        };
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        let stream = Paced { stream, longest: limits.stall, stalled: None };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.head);
        let mut http = pin!(http.serve_connection(TokioIo::new(stream), service));
        // What goes wrong with a connection is the client's to notice.
        let ended = tokio::select! {
            _ = http.as_mut() => true,
            _ = stopping.wait_for(|stop| *stop) => false,
        };
        if !ended {
            http.as_mut().graceful_shutdown();
            let _ = http.await;
        }
    }
}

/// A connection that is given up when its peer takes nothing for too long.
struct Paced {
    stream: Stream,
    longest: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn paced<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(outcome) = write(Pin::new(&mut self.stream), cx) {
            self.stalled = None;
            return Poll::Ready(outcome);
        }
        let longest = self.longest;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(longest)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.paced(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.paced(cx, Stream::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.paced(cx, Stream::poll_shutdown)
    }
}
