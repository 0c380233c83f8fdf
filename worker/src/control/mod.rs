//! The connections between a job's leader and its workers.
//!
//! A worker dials its leader, says who it is, and stays connected; both sides say something at least once per heartbeat.
//! What is said are the [`Command`](crate::job::agent::message::Command)s and
//! [`Report`](crate::job::agent::message::Report)s of the job; nothing about it is decided here. Whom a leader takes is
//! decided by [`Members`](weir_protocol::members::Members), and when a worker registers, obeys, misses its leader and looks
//! for another one by [`Follower`](weir_protocol::follower::Follower).

mod frame;
mod leader_side;
#[cfg(test)]
mod tests;
mod worker_side;

pub use leader_side::{Server, serve, serve_on};
pub use worker_side::{AfterRefusal, Client, Outcome};

use std::time::Duration;

/// How patient both sides of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Something is said at least this often.
    pub heartbeat: Duration,
    /// So many heartbeats in a row may be missed.
    pub missed_heartbeats: u32,
}

impl Patience {
    /// Whoever was silent for this long is lost.
    #[must_use]
    pub fn lost_after(self) -> Duration {
        self.heartbeat * self.missed_heartbeats.max(1)
    }
}
