//! What [`super::Follower`] hears and what it wants done: the full list of both.
//!
//! `C` is a command of the leader and `R` a report of the worker's tasks. Neither is looked into here.

use crate::ids::{Generation, Now};
use crate::retry::Pace;

/// One attempt to reach a leader, and the connection that came of it; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub u64);

/// What a worker does that its leader does not want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    /// It ends.
    End,
    /// It looks for a leader that wants it: another one may be about to take over.
    LookAgain,
}

/// How patient a worker is.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Both sides say something at least this often, in milliseconds.
    pub heartbeat_ms: u64,
    /// A leader that was silent for this long is lost, in milliseconds.
    pub lost_after_ms: u64,
    /// A connection that is not there after this long is given up, in milliseconds.
    pub connect_ms: u64,
    /// A leader that takes a connection and does not say welcome after this long is none, in milliseconds.
    pub welcome_ms: u64,
    /// The delays between two attempts to reach the leader.
    pub pace: Pace,
    /// Spreads those delays, so that the workers of a job do not all come at once.
    pub seed: u64,
    /// What it does when the leader does not want it.
    pub after_refusal: AfterRefusal,
}

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// Tasks of this generation are to start.
    Deploy(Generation),
    /// Tasks of this generation are to end.
    Cancel(Generation),
    /// Tasks of this generation are told something.
    Tasks(Generation),
    /// The worker, whatever runs on it.
    Worker,
}

/// What a leader says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word<C> {
    /// The worker is registered.
    Welcome,
    /// The leader lives.
    Heartbeat,
    /// What to do.
    Command(Concern, C),
    /// The worker cannot take part, and why.
    Refused(String),
    /// Another worker has its place, and how that came.
    Replaced(String),
    /// Nothing that the worker says over this connection counts any more, and why.
    Closed(String),
    /// The job has ended as it should, and how.
    Done(String),
    /// The job cannot go on, and why.
    Failed(String),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<C, R> {
    /// The leader's machine has taken the connection.
    Connected(Connection),
    /// There is no such connection, or not any more.
    Lost {
        /// The connection.
        connection: Connection,
        /// How that was seen.
        message: String,
    },
    /// The leader said something.
    Heard {
        /// Over this connection.
        connection: Connection,
        /// What.
        word: Word<C>,
    },
    /// The tasks have something to say.
    Report(R),
    /// None of the worker's tasks runs, as [`Action::EndTasks`] wanted.
    TasksEnded,
    /// The worker was asked to end and its tasks go on elsewhere; this is the last that it reports.
    Left(R),
    /// The deadline has come; the first one begins.
    Tick,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<C, R> {
    /// Connect to the leader, wherever its address leads now.
    Dial(Connection),
    /// Say over this connection who the worker is. None of its tasks runs.
    Register(Connection),
    /// Tell the user that the worker is registered.
    TellRegistered,
    /// Say over this connection that the worker lives.
    Beat(Connection),
    /// Do what the leader says.
    Perform(C),
    /// Say over this connection what the tasks report.
    Say(Connection, R),
    /// Close this connection.
    HangUp(Connection),
    /// End all tasks; no report of theirs counts any more.
    EndTasks,
    /// Tell the user that the leader is away.
    TellAway {
        /// How that was seen.
        message: String,
    },
    /// Nothing follows.
    End(Outcome),
}

/// How a worker's work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The job has ended.
    Ended(String),
    /// The job cannot go on.
    Failed(String),
    /// The leader does not want this worker.
    Refused(String),
    /// Another worker has its place.
    Replaced(String),
    /// The worker was asked to end, and its tasks go on elsewhere.
    Left,
}

/// Where a worker stands with its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It looks for its leader then.
    Away {
        until: Now,
    },
    /// It waits until then for a connection.
    Dialing {
        connection: Connection,
        until: Now,
    },
    /// It waits until then for the welcome.
    Introducing {
        connection: Connection,
        until: Now,
    },
    /// It has heard of its leader then, and says next that it lives.
    Registered {
        connection: Connection,
        heard: Now,
        beat_at: Now,
    },
    /// It has lost its leader, and its tasks have not ended yet.
    EndingTasks,
    Ended,
}
