//! Where workers register: one thread that serves all their connections.

use super::Patience;
use super::frame::{self, Ended, FromLeader, FromWorker};
use crate::failure::{Failure, Result};
use crate::job::message::{Handle, Link, Message, ToWorker};
use crate::tls::{Security, Stream};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use weir_protocol::leader::End;
use weir_protocol::members::Session;

/// A worker that has not said who it is after this long is no worker.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// How long workers get to read how the job ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// Connections at a time.
const CONNECTIONS: usize = 4096;

/// Messages that wait for a worker that does not read; one more and it is given up.
const WAITING: usize = 4096;

/// Serves workers until it is dropped.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Where workers register.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the server is in the log; its workers miss it.
            let _ = thread.join();
        }
    }
}

/// Lets workers register with `job` at `address`, which is `HOST:PORT`. Fails with kind `User` when the address cannot be
/// had.
pub fn serve(address: &str, security: Security, job: Handle, patience: Patience) -> Result<Server> {
    let listener = TcpListener::bind(address).map_err(|error| {
        Failure::user(format!("workers cannot register at '{address}': it cannot be listened on")).because(error)
    })?;
    serve_on(listener, security, job, patience)
}

/// Lets workers register with `job` where this socket listens.
pub fn serve_on(listener: TcpListener, security: Security, job: Handle, patience: Patience) -> Result<Server> {
    let failed = |error| Failure::transient("the control server could not be set up").because(error);
    let local = listener.local_addr().map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stop, stopping) = watch::channel(false);
    let run = move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, security, job, patience, stopping).await,
                Err(error) => tracing::error!(%error, "workers cannot register"),
            }
        });
    };
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(run).map_err(failed)?;
    Ok(Server { address: local, stop, thread: Some(thread) })
}

async fn accept(
    listener: tokio::net::TcpListener,
    security: Security,
    job: Handle,
    patience: Patience,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else { continue };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (security, job) = (security.clone(), job.clone());
        tokio::spawn(async move {
            if let Err(failure) = serve_one(stream, &security, &job, patience).await {
                tracing::warn!(%peer, error = failure.chain(), "a worker's connection");
            }
            drop(place);
        });
    }
    // What was sent last, such as the job's end, may still be on its way.
    let _ = timeout(FAREWELL, places.acquire_many(CONNECTIONS as u32)).await;
}

async fn serve_one(stream: tokio::net::TcpStream, security: &Security, job: &Handle, patience: Patience) -> Result<()> {
    let (stream, _) = security.accept(stream).await?;
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, writer) = (BufReader::new(reader), BufWriter::new(writer));
    let first = timeout(INTRODUCTION, frame::read(&mut reader)).await;
    let Ok(Ok(Some(FromWorker::Register(worker)))) = first else {
        return Err(Failure::transient("somebody connected and did not say who they are"));
    };
    let session = job.session();
    let (sender, messages) = mpsc::channel(WAITING);
    let whole = job.clone();
    let link = Link::new(move |message| {
        if let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(message) {
            let _ = whole.tell(Message::Disconnected(session, "it does not read what it is told".to_owned()));
        }
    });
    let ordinal = worker.ordinal;
    if !job.tell(Message::Registered(session, worker, link)) {
        return Ok(());
    }
    let outcome = tokio::select! {
        outcome = hear(reader, job, session) => outcome,
        outcome = say(writer, messages, patience) => outcome,
    };
    let message = outcome.as_ref().err().map_or_else(|| "its connection was closed".to_owned(), Failure::chain);
    let _ = job.tell(Message::Disconnected(session, message));
    outcome.map_err(|failure| failure.within(format!("worker {ordinal}")))
}

async fn hear(mut reader: BufReader<ReadHalf<Stream>>, job: &Handle, session: Session) -> Result<()> {
    while let Some(frame) = frame::read(&mut reader).await? {
        let message = match frame {
            FromWorker::Heartbeat(readings) => Message::Heartbeat(session, readings),
            FromWorker::Report(report) => Message::Report(session, report),
            FromWorker::Register(_) => return Err(Failure::transient("it registered twice over one connection")),
        };
        if !job.tell(message) {
            // The job has ended; what it says last goes out.
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}

async fn say(
    mut writer: BufWriter<WriteHalf<Stream>>,
    mut messages: mpsc::Receiver<ToWorker>,
    patience: Patience,
) -> Result<()> {
    let mut ticks = interval(patience.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (frame, last) = tokio::select! {
            message = messages.recv() => match message {
                Some(ToWorker::Welcome) => (FromLeader::Welcome, false),
                Some(ToWorker::Command(command)) => (FromLeader::Command(command), false),
                Some(ToWorker::Refused(reason)) => (FromLeader::Refused(reason), true),
                Some(ToWorker::Replaced(reason)) => (FromLeader::Replaced(reason), true),
                Some(ToWorker::Closed(reason)) => (FromLeader::Closed(reason), true),
                Some(ToWorker::End(end)) => (FromLeader::Ended(ended(&end)), true),
                None => return Ok(()),
            },
            _ = ticks.tick() => (FromLeader::Heartbeat, false),
        };
        frame::write(&mut writer, &frame).await?;
        let flushed = writer.flush().await;
        flushed.map_err(|error| Failure::transient("the connection was lost").because(error))?;
        if last {
            let _ = writer.shutdown().await;
            return Ok(());
        }
    }
}

fn ended(end: &End) -> Ended {
    match end {
        End::Finished { .. } => Ended::Done("the job has finished".to_owned()),
        End::Stopped { .. } => Ended::Done("the job has stopped".to_owned()),
        End::Maintained => Ended::Done("the work on the job's state is done".to_owned()),
        End::HandedOver { revision } => Ended::Done(format!("the job is handed over to revision {revision}")),
        End::Stalled { message, .. } => Ended::Failed(format!("the job stands still: {message}")),
        End::GivenUp { message } => Ended::Failed(format!("the leader begins again: {message}")),
        End::Fenced { message } => Ended::Failed(format!("the leader was replaced: {message}")),
        End::Failed { message, .. } => Ended::Failed(format!("the job has failed: {message}")),
    }
}
