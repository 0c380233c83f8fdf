//! Which generations are open here, and who waits for one that is not yet.

use super::outlet::Outlet;
use super::{Failed, Lost};
use crate::dataflow::inbox::Inbox;
use crate::failure::Failure;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use weir_protocol::{Generation, TaskId};

/// The generations of this process.
#[derive(Default)]
pub(super) struct Generations {
    state: Mutex<State>,
    /// Changes with every generation that is opened or closed.
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    open: BTreeMap<Generation, Arc<Opened>>,
    /// The highest that was ever opened or closed.
    newest: Option<Generation>,
    waiting: usize,
}

/// A generation that is open.
pub(super) struct Opened {
    pub(super) generation: Generation,
    inboxes: BTreeMap<TaskId, Arc<Inbox>>,
    failed: Failed,
    outlets: Mutex<BTreeMap<(SocketAddr, u32), Arc<Outlet>>>,
    closed: watch::Sender<bool>,
}

/// A connection of a generation, whose end is told however it comes.
pub(super) struct Served<'a> {
    opened: &'a Opened,
    address: SocketAddr,
    ended: bool,
}

/// Why a connection gets nothing here. Reads on from "the worker …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("has left generation {asked}: it is at {newest}")]
    Old { asked: Generation, newest: Generation },
    #[error("has not begun generation {asked} within {} seconds", patience.as_secs())]
    NotBegun { asked: Generation, patience: Duration },
    #[error("has too many connections that wait for a generation it has not begun")]
    TooMany,
}

/// Connections that may wait for a generation.
const MOST_WAITING: usize = 1024;

impl Generations {
    pub(super) fn open(&self, generation: Generation, inboxes: BTreeMap<TaskId, Arc<Inbox>>, failed: Failed) {
        let (outlets, closed) = (Mutex::default(), watch::Sender::new(false));
        let opened = Arc::new(Opened { generation, inboxes, failed, outlets, closed });
        let mut state = self.state.lock();
        state.reach(generation);
        let before = state.open.insert(generation, opened);
        drop(state);
        if let Some(before) = before {
            before.close();
        }
        self.changes.send_replace(());
    }

    pub(super) fn close(&self, generation: Generation) {
        let mut state = self.state.lock();
        state.reach(generation);
        let opened = state.open.remove(&generation);
        drop(state);
        if let Some(opened) = opened {
            opened.close();
        }
        self.changes.send_replace(());
    }

    pub(super) fn close_all(&self) {
        let open: Vec<Generation> = self.state.lock().open.keys().copied().collect();
        open.into_iter().for_each(|generation| self.close(generation));
    }

    pub(super) fn find(&self, generation: Generation) -> Option<Arc<Opened>> {
        self.state.lock().open.get(&generation).map(Arc::clone)
    }

    /// Waits until the generation is open.
    pub(super) async fn admit(&self, asked: Generation, patience: Duration) -> Result<Arc<Opened>, Refusal> {
        let mut changes = self.changes.subscribe();
        if let Some(answer) = self.state.lock().look(asked) {
            return answer;
        }
        let _place = Place::take(self)?;
        let opened = async {
            loop {
                if let Some(answer) = self.state.lock().look(asked) {
                    return answer;
                }
                changes.changed().await.expect("the sender is in self");
            }
        };
        tokio::time::timeout(patience, opened).await.unwrap_or(Err(Refusal::NotBegun { asked, patience }))
    }
}

impl State {
    fn reach(&mut self, generation: Generation) {
        self.newest = self.newest.max(Some(generation));
    }

    /// What a connection of a generation is told; `None` if it has to wait.
    fn look(&self, asked: Generation) -> Option<Result<Arc<Opened>, Refusal>> {
        if let Some(opened) = self.open.get(&asked) {
            return Some(Ok(Arc::clone(opened)));
        }
        let newest = self.newest.filter(|newest| *newest >= asked)?;
        Some(Err(Refusal::Old { asked, newest }))
    }
}

/// A place among those who wait, given back however the waiting ends.
struct Place<'a>(&'a Generations);

impl<'a> Place<'a> {
    fn take(generations: &'a Generations) -> Result<Self, Refusal> {
        let mut state = generations.state.lock();
        if state.waiting >= MOST_WAITING {
            return Err(Refusal::TooMany);
        }
        state.waiting += 1;
        Ok(Self(generations))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

impl Opened {
    /// The inbox of a task that runs here.
    pub(super) fn inbox(&self, task: TaskId) -> Option<&Arc<Inbox>> {
        self.inboxes.get(&task)
    }

    /// The connection to a worker, made by `dial` if there is none.
    pub(super) fn outlet(&self, peer: SocketAddr, lane: u32, dial: impl FnOnce() -> Arc<Outlet>) -> Arc<Outlet> {
        let mut outlets = self.outlets.lock();
        let outlet = Arc::clone(outlets.entry((peer, lane)).or_insert_with(dial));
        if *self.closed.borrow() {
            outlet.close();
        }
        outlet
    }

    /// Waits until the generation is closed.
    pub(super) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        closed.wait_for(|closed| *closed).await.expect("the sender is in self");
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// A connection begins to be served.
    pub(super) fn serve(&self, address: SocketAddr) -> Served<'_> {
        Served { opened: self, address, ended: false }
    }

    /// Tells of a lost peer, unless the generation is over anyway.
    fn lost(&self, worker: Option<u32>, address: SocketAddr, failure: Failure) {
        if !self.is_closed() {
            (self.failed)(Lost { generation: self.generation, worker, address, failure });
        }
    }

    fn close(&self) {
        self.closed.send_replace(true);
        self.outlets.lock().values().for_each(|outlet| outlet.close());
    }
}

impl Served<'_> {
    /// The connection has ended, well or not.
    pub(super) fn end(mut self, worker: Option<u32>, outcome: Result<(), Failure>) {
        self.ended = true;
        if let Err(failure) = outcome {
            self.opened.lost(worker, self.address, failure);
        }
    }
}

impl Drop for Served<'_> {
    /// A panic would else leave senders waiting for ever.
    fn drop(&mut self) {
        if !self.ended {
            let failure = Failure::bug(format!("the connection with {} was dropped; please report it", self.address));
            self.opened.lost(None, self.address, failure);
        }
    }
}
