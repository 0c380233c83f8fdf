//! What reaches a running job, what its workers are told, and the ends of those ways.

use super::agent::message::{Command, Report};
use super::board::reading::TaskReading;
use crate::failure::{Failure, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use weir_protocol::Generation;
use weir_protocol::chain::Assignment;
use weir_protocol::leader::{End, Event, Then};
use weir_protocol::members::{Registration, Session};

/// What reaches a running job.
pub enum Message {
    /// For the leader.
    Leader(Event),
    /// This process is about to end: a checkpoint, and then another leader goes on.
    Leave,
    /// A worker has connected.
    Registered(Session, Registration, Link),
    /// A worker's connection is gone.
    Disconnected(Session, String),
    /// A worker lives, and its tasks have these numbers.
    Heartbeat(Session, Vec<TaskReading>),
    /// A worker says something.
    Report(Session, Report),
    /// The splits of a generation can be handed out, or not.
    SplitsReady(Generation, Result<()>),
    /// Splits for a worker's task.
    Splits(Session, Command),
    /// No more splits can be found.
    SplitsFailed(Generation, Failure),
}

/// What a worker is told.
pub enum ToWorker {
    /// It is registered.
    Welcome,
    /// It cannot take part, and why.
    Refused(String),
    /// Another one has its place, and how that came.
    Replaced(String),
    /// What to do.
    Command(Command),
    /// Nothing that it says counts any more.
    Closed(String),
    /// The job has ended.
    End(End),
}

/// The leader's end of the way to a worker. What is sent to a worker that is gone is lost, which harms nobody.
pub struct Link(Box<dyn Fn(ToWorker) + Send>);

impl Link {
    /// A link that sends by `send`, which must not wait.
    #[must_use]
    pub fn new(send: impl Fn(ToWorker) + Send + 'static) -> Self {
        Self(Box::new(send))
    }

    /// Sends.
    pub fn send(&self, message: ToWorker) {
        (self.0)(message);
    }
}

/// Steers a running job from other threads.
#[derive(Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    sessions: Arc<AtomicU64>,
}

impl Handle {
    /// Steers the job that reads these messages.
    #[must_use]
    pub fn new(messages: mpsc::Sender<Message>) -> Self {
        Self { messages, sessions: Arc::new(AtomicU64::new(1)) }
    }

    /// Takes a last checkpoint and ends the job.
    pub fn stop(&self) {
        self.send(Event::StopRequested);
    }

    /// Takes a last checkpoint and hands the job over to the next leader.
    pub fn leave(&self) {
        let _ = self.tell(Message::Leave);
    }

    /// Takes a savepoint. The board tells what becomes of it.
    pub fn savepoint(&self, name: String, uid: String, then: Then) {
        self.send(Event::SavepointRequested { name, uid, then });
    }

    /// Gives a savepoint up.
    pub fn release_savepoint(&self, name: String) {
        self.send(Event::SavepointReleased { name });
    }

    /// Takes the wish for a savepoint back. The board tells what becomes of it.
    pub fn withdraw_savepoint(&self, name: String, uid: String) {
        self.send(Event::SavepointWithdrawn { name, uid });
    }

    /// Says what the job shall be; `request` names the answer on the board. False when the job has ended.
    #[must_use]
    pub fn assign(&self, request: String, assignment: Assignment) -> bool {
        self.tell(Message::Leader(Event::AssignmentRequested { request, assignment: Box::new(assignment) }))
    }

    /// A number for a new connection of a worker.
    #[must_use]
    pub fn session(&self) -> Session {
        Session(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells the job something. False when it has ended.
    pub fn tell(&self, message: Message) -> bool {
        self.messages.send(message).is_ok()
    }

    fn send(&self, event: Event) {
        // A job that has ended does not listen.
        let _ = self.tell(Message::Leader(event));
    }
}
