//! Data between workers: channels whose two ends are in different processes.
//!
//! A worker dials each worker that it sends to, once per lane, and everything between their tasks goes over these
//! connections in frames around Arrow IPC. The sending task encodes its rows itself, the receiving task decodes them;
//! the two threads in between move bytes and know nothing of rows.
//!
//! ```text
//!  task ─▶ Remote ─ credits, encode ─▶ Outlet ═══ frames ═══▶ inlet ─▶ Inbox ─ decode ─▶ task
//!             ▲                          ▲                      │         │
//!             └──── waits for room ──────┴═══ credit frames ════╧═════════┘
//! ```
//!
//! What is sent has its credits, so an inbox always has room: reading never waits for a task, and a slow task stalls
//! nothing but its own inputs. Within a channel nothing overtakes on the way; a barrier that may does so in the inbox; channels of a connection take turns.
//!
//! A generation is opened, and then closed. A connection of a generation that is not open here yet waits for it; one of
//! an older generation is refused. A connection that ends otherwise than by `Close` is a lost peer: whoever waits to
//! send to it is cancelled, and the one who opened the generation is told. So is a peer that cannot be reached any more
//! (`reach`).
//!
//! Invariants: what comes from the network never panics and never allocates more than the limits in `frame` and the
//! credits of a channel allow; a frame of another generation ends its connection; every task of the runtime ends with
//! its generation or with the exchange.

mod carry;
mod frame;
mod generations;
mod hello;
mod inlet;
mod numbers;
mod outlet;
mod reach;
mod rows;
#[cfg(test)]
mod tests;
mod traffic;
mod wire;

pub use traffic::Traffic;

use crate::dataflow::inbox::{Inbox, Sender};
use crate::failure::{Failure, Result};
use crate::tls::Security;
use generations::{Generations, Opened};
use outlet::Outlet;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use weir_protocol::{Generation, TaskId};

/// What an exchange is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The job, by a name that no other job has. Both ends of a connection must say the same.
    pub job: String,
    /// The number of this worker.
    pub worker: u32,
    /// How many connections lead to each other worker.
    pub lanes: NonZero<u32>,
    /// Whether rows are compressed.
    pub compression: Compression,
    /// How long a connection waits for its generation to be opened on the other side.
    pub patience: Duration,
    /// A peer whose machine has not answered for so long is lost; at least two seconds.
    pub lost_after: Duration,
}

/// Whether rows are compressed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are: the best choice for a fast network.
    #[default]
    None,
    /// With LZ4.
    Lz4,
}

impl Settings {
    /// One lane, no compression, a minute of patience; lost after three seconds.
    #[must_use]
    pub fn new(job: impl Into<String>, worker: u32) -> Self {
        Self {
            job: job.into(),
            worker,
            lanes: NonZero::<u32>::MIN,
            compression: Compression::None,
            patience: Duration::from_secs(60),
            lost_after: Duration::from_secs(3),
        }
    }
}

/// A worker that cannot be reached any more, or does not keep to the protocol.
#[derive(Debug)]
pub struct Lost {
    /// The generation whose connection it was.
    pub generation: Generation,
    /// The number of the worker, if it had said it.
    pub worker: Option<u32>,
    /// The other end of the connection; of an incoming one not where the worker listens.
    pub address: SocketAddr,
    /// Names the worker and says what happened; its kind is `Transient`.
    pub failure: Failure,
}

/// Told of every connection that was lost, by a thread of the exchange: it must not wait.
pub type Failed = Arc<dyn Fn(Lost) + Send + Sync>;

/// The exchange of a process.
pub struct Exchange {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
    listening: AbortHandle,
    alive: Option<Alive>,
    /// Disconnected when the last task of the runtime has ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

/// What all connections share.
struct Shared {
    settings: Settings,
    security: Security,
    generations: Generations,
    traffic: traffic::Ledger,
}

/// Every task of the runtime holds one, so that their end can be waited for.
type Alive = mpsc::Sender<()>;

/// Connections from other workers at one time.
const MOST_CONNECTIONS: usize = 4096;

/// How long what was sent before the end may take to go out.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a good-bye may take.
const FAREWELL: Duration = Duration::from_millis(500);

impl Exchange {
    /// Listens at an address; port 0 takes any that is free. Fails with kind `User` when it cannot be had.
    pub fn listen(address: SocketAddr, security: Security, settings: Settings) -> Result<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("exchange")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Failure::transient("the threads of the exchange could not be started").because(error))?;
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(|error| {
            Failure::user(format!(
                "cannot listen for other workers at {address}; choose another address, or end what listens there"
            ))
            .because(error)
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::transient("a listening socket does not tell its address").because(error))?;
        let generations = Generations::default();
        let shared = Arc::new(Shared { settings, security, generations, traffic: traffic::Ledger::default() });
        let (alive, ended) = mpsc::channel();
        let listening = runtime.spawn(accept(listener, Arc::clone(&shared), alive.clone())).abort_handle();
        let (alive, ended) = (Some(alive), Mutex::new(ended));
        Ok(Arc::new(Self { shared, address, runtime: Some(runtime), listening, alive, ended }))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on frames of this generation for these tasks are taken; connections that came earlier have waited.
    pub fn open(&self, generation: Generation, inboxes: BTreeMap<TaskId, Arc<Inbox>>, failed: Failed) {
        self.shared.generations.open(generation, inboxes, failed);
    }

    /// The sender of one channel of a task that runs in the worker that listens at `peer`. The generation is open.
    /// Dials the peer unless a connection leads there already; that this failed is told to `failed` of the generation,
    /// and the sender then fails with kind `Cancelled`, as it does after [`Exchange::close`].
    pub fn sender(&self, generation: Generation, peer: SocketAddr, task: TaskId, channel: usize) -> Result<Sender> {
        let Some(opened) = self.shared.generations.find(generation) else { return Err(Failure::cancelled()) };
        let lanes = self.shared.settings.lanes.get();
        let lane = (task.chain.wrapping_add(task.subtask).wrapping_add(channel as u32)) % lanes;
        let outlet = opened.outlet(peer, lane, || self.dial(&opened, peer, lane));
        let remote = outlet.stream(task, channel, self.shared.settings.compression)?;
        Ok(Sender::away(Arc::new(move |element, urgency| remote.send(element, urgency))))
    }

    /// The generation is over: its connections are closed, waiting senders end with kind `Cancelled`, and frames of it
    /// are dropped. What was sent on streams that have all ended still goes out.
    pub fn close(&self, generation: Generation) {
        self.shared.generations.close(generation);
    }

    /// What went to and came from each other worker, by its number, since the start.
    #[must_use]
    pub fn traffic(&self) -> BTreeMap<u32, Arc<Traffic>> {
        self.shared.traffic.all()
    }

    fn dial(&self, opened: &Arc<Opened>, peer: SocketAddr, lane: u32) -> Arc<Outlet> {
        let outlet = Outlet::new(opened.generation, peer, lane);
        let runtime = self.runtime.as_ref().expect("the runtime lives as long as the exchange");
        let (shared, opened) = (Arc::clone(&self.shared), Arc::clone(opened));
        let (carried, alive) = (Arc::clone(&outlet), self.alive.clone());
        runtime.spawn(async move {
            carry::run(&carried, &shared, &opened).await;
            drop(alive);
        });
        outlet
    }
}

impl Drop for Exchange {
    /// Closes all generations, and gives what was sent a moment to go out.
    fn drop(&mut self) {
        self.listening.abort();
        self.shared.generations.close_all();
        self.alive = None;
        // An error says that all have ended, or that time is up.
        let _ = self.ended.get_mut().recv_timeout(DRAIN);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, alive: Alive) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, address)) => {
                let (shared, alive) = (Arc::clone(&shared), alive.clone());
                tokio::spawn(async move {
                    inlet::run(stream, address, &shared).await;
                    drop((place, alive));
                });
            }
            // Of the connection, or of a process that has too many files open: neither ends listening.
            Err(error) => {
                tracing::warn!(%error, "a connection from another worker could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
