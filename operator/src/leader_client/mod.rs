//! What a job's leader is asked and told: a client of `docs/http.md`, over mutual TLS.
//!
//! The server is called `worker.weir` wherever it listens; the controller shows `controller.weir`. Every request has a
//! limit of time and its answer a limit of size. All of them may be repeated without another effect.
//!
//! [`Transport`] carries requests: [`Https`] over the network, a script in tests.

mod https;
mod report;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use https::Https;
pub use report::{
    AssignmentReport, ChangeReport, CheckpointsReport, FailedChange, JobReport, LastFailure, Progress, Retained,
    SavepointReport, Sizes, TaskReport,
};

use crate::certificates::Credentials;
use crate::model::LeaderRequest;

/// How long an answer about what is known may take.
const LOOK: Duration = Duration::from_secs(3);
/// How long a change may take to be stored; it is sent again after that.
const CHANGE: Duration = Duration::from_secs(15);

/// Where a leader listens, and what to show to it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Address of the leader's Service.
    pub address: SocketAddr,
    /// What the controller is, to this job.
    pub credentials: Arc<Credentials>,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its method.
    pub method: http::Method,
    /// Path and query.
    pub path: String,
    /// JSON to send.
    pub body: Option<Value>,
    /// How long everything may take.
    pub limit: Duration,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// The body.
    pub body: bytes::Bytes,
}

/// Carries requests to leaders.
pub trait Transport: Send + Sync {
    /// Sends a request and waits for the whole answer, no longer than its limit.
    fn send<'a>(&'a self, peer: &'a Peer, request: Request) -> BoxFuture<'a, Result<Answer, Error>>;
}

/// Why a leader gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The controller's own certificate or key cannot be used.
    #[error("the controller's certificate for this job cannot be used: {0}")]
    Credentials(String),
    /// Nobody answered; whether the request arrived is unknown.
    #[error("the leader at {address} cannot be reached")]
    Unreachable {
        /// Where it should be.
        address: SocketAddr,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time; what the request does is unknown.
    #[error("the leader at {address} did not answer within {limit:?}")]
    TimedOut {
        /// Where it is.
        address: SocketAddr,
        /// How long was waited.
        limit: Duration,
    },
    /// The leader refused.
    #[error("the leader refused with {status}: {message}")]
    Refused {
        /// Status of HTTP.
        status: u16,
        /// What it said, with its hint.
        message: String,
    },
    /// The answer is not what `docs/http.md` says.
    #[error("the leader's answer to {path} cannot be understood: {reason}")]
    Malformed {
        /// What was asked.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The leader of one job.
#[derive(Clone, Copy)]
pub struct Leader<'a> {
    transport: &'a dyn Transport,
    peer: &'a Peer,
}

impl<'a> Leader<'a> {
    /// The leader at `peer`.
    #[must_use]
    pub fn new(transport: &'a dyn Transport, peer: &'a Peer) -> Self {
        Self { transport, peer }
    }

    /// What the job does.
    pub async fn job(&self) -> Result<JobReport, Error> {
        self.read("/v1/job").await
    }

    /// What can be restored, and what is under way.
    pub async fn checkpoints(&self) -> Result<CheckpointsReport, Error> {
        self.read("/v1/checkpoints").await
    }

    /// What the job is and what it becomes.
    pub async fn assignment(&self) -> Result<AssignmentReport, Error> {
        self.read("/v1/assignment").await
    }

    /// The savepoints that the job knows.
    pub async fn savepoints(&self) -> Result<Vec<SavepointReport>, Error> {
        let list: report::Savepoints = self.read("/v1/savepoints").await?;
        Ok(list.savepoints)
    }

    /// Asks for a change. What a leader says to a repeated request is as good as what it said first.
    pub async fn ask(&self, request: &LeaderRequest) -> Result<(), Error> {
        let (method, path) = request.route();
        let method = method.parse().expect("routes have methods of HTTP");
        let _: Value = self.send(Request { method, path, body: request.body(), limit: CHANGE }).await?;
        Ok(())
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.send(Request { method: http::Method::GET, path: path.to_owned(), body: None, limit: LOOK }).await
    }

    async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T, Error> {
        let path = request.path.clone();
        let answer = self.transport.send(self.peer, request).await?;
        if !(200..300).contains(&answer.status) {
            return Err(Error::Refused { status: answer.status, message: report::refusal(&answer.body) });
        }
        serde_json::from_slice(&answer.body).map_err(|error| Error::Malformed { path, reason: error.to_string() })
    }
}

impl Error {
    /// Whether the leader itself answered.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Malformed { .. })
    }
}
