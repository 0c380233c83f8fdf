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
use serde_json::{Value, json};

pub use https::Https;
pub use report::{
    AssignmentReport, ChangeReport, CheckpointsReport, FailedChange, JobReport, LastFailure, Progress, Retained,
    SavepointReport, Sizes, TaskReport,
};

use crate::certificates::Credentials;

/// How long an answer about what is known may take.
const LOOK: Duration = Duration::from_secs(5);
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

/// What a job shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Orders assignments, from 1 on.
    pub revision: u64,
    /// Subtasks of every keyed operator.
    pub parallelism: u32,
    /// Worker processes to wait for.
    pub workers: u32,
    /// What runs.
    pub code: String,
    /// A leader of this code takes over from the last checkpoint, without waiting for a stop.
    pub force: bool,
    /// The code that is taken back.
    pub rollback: Option<String>,
    /// State to begin with instead of the job's own.
    pub restore_from: Option<RestorePoint>,
}

/// State to begin with, among what the job's own place holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestorePoint {
    /// None.
    Nothing,
    /// A savepoint of the job, by name.
    Savepoint(String),
}

/// What a job does after a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    Continue,
    /// It stops.
    Stop,
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

    /// Says what the job shall be; done when it is stored.
    pub async fn assign(&self, assignment: &Assignment) -> Result<(), Error> {
        let _: Value = self.change(http::Method::PUT, "/v1/assignment", Some(assignment.body())).await?;
        Ok(())
    }

    /// Asks for a savepoint; the same name and uid ask for the same one. A failed one comes as [`Error::Refused`] with
    /// status 500.
    pub async fn take_savepoint(&self, name: &str, uid: &str, then: Then) -> Result<SavepointReport, Error> {
        let then = match then {
            Then::Continue => "continue",
            Then::Stop => "stop",
        };
        let body = json!({"name": name, "requestUid": uid, "then": then});
        self.change(http::Method::POST, "/v1/savepoints", Some(body)).await
    }

    /// Gives a savepoint up; one that is not there is given up already.
    pub async fn delete_savepoint(&self, name: &str) -> Result<(), Error> {
        let gone: Result<Value, _> = self.change(http::Method::DELETE, &format!("/v1/savepoints/{name}"), None).await;
        match gone {
            Ok(_) | Err(Error::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.ask(Request { method: http::Method::GET, path: path.to_owned(), body: None, limit: LOOK }).await
    }

    async fn change<T: DeserializeOwned>(
        &self,
        method: http::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, Error> {
        self.ask(Request { method, path: path.to_owned(), body, limit: CHANGE }).await
    }

    async fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T, Error> {
        let path = request.path.clone();
        let answer = self.transport.send(self.peer, request).await?;
        if !(200..300).contains(&answer.status) {
            return Err(Error::Refused { status: answer.status, message: report::refusal(&answer.body) });
        }
        serde_json::from_slice(&answer.body).map_err(|error| Error::Malformed { path, reason: error.to_string() })
    }
}

impl Assignment {
    /// The request's body.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({
            "revision": self.revision,
            "parallelism": self.parallelism,
            "workers": self.workers,
            "code": self.code,
        });
        if self.force {
            body["force"] = json!(true);
        }
        if let Some(code) = &self.rollback {
            body["rollback"] = json!(code);
        }
        match &self.restore_from {
            None => {}
            Some(RestorePoint::Nothing) => body["restoreFrom"] = json!("nothing"),
            Some(RestorePoint::Savepoint(name)) => body["restoreFrom"] = json!({"savepoint": name}),
        }
        body
    }
}

impl Error {
    /// Whether the leader itself answered.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Malformed { .. })
    }
}
