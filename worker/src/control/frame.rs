//! What goes over a connection between a leader and a worker: a length in four bytes, little endian, and JSON.

use crate::failure::{Failure, Result};
use crate::job::agent::message::{Command, Report};
use crate::job::board::reading::TaskReading;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weir_protocol::members::Registration;

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    /// Who it is; the first frame, and none of its tasks runs.
    Register(Registration),
    /// It lives, and its tasks have these numbers.
    Heartbeat(Vec<TaskReading>),
    /// What its tasks do.
    Report(Report),
}

/// What a leader says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromLeader {
    /// The worker is registered.
    Welcome,
    /// The worker cannot take part, and why.
    Refused(String),
    /// Another worker has its place, and how that came.
    Replaced(String),
    /// The leader lives.
    Heartbeat,
    /// What to do.
    Command(Command),
    /// Nothing that the worker says over this connection counts any more.
    Closed(String),
    /// The job has ended.
    Ended(Ended),
}

/// How a job ended, as its workers' processes say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ended {
    /// Its input has ended, or it was stopped: the worker's work is done.
    Done(String),
    /// It cannot go on, or another leader has taken over.
    Failed(String),
}

/// A manifest with a few hundred thousand files.
const LONGEST: usize = 256 << 20;

/// Writes a frame. The caller flushes.
pub(super) async fn write<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), frame: &T) -> Result<()> {
    let body = serde_json::to_vec(frame).map_err(|error| Failure::bug("a message is no JSON").because(error))?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length as usize <= LONGEST);
    let Some(length) = length else {
        return Err(Failure::bug(format!("a message of {} bytes is longer than messages may be", body.len())));
    };
    let lost = |error| Failure::transient("the connection was lost").because(error);
    stream.write_all(&length.to_le_bytes()).await.map_err(lost)?;
    stream.write_all(&body).await.map_err(lost)
}

/// Reads a frame; `None` when the other side has closed the connection between two frames. Memory grows with what has
/// arrived, not with what a length promises.
pub(super) async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<T>> {
    let lost = |error| Failure::transient("the connection was lost").because(error);
    let mut length = [0; 4];
    match stream.read(&mut length).await.map_err(lost)? {
        0 => return Ok(None),
        read => {
            stream.read_exact(&mut length[read..]).await.map_err(lost)?;
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(Failure::transient(format!("a message of {length} bytes was announced: this is no peer of ours")));
    }
    let mut body = Vec::new();
    stream.take(length as u64).read_to_end(&mut body).await.map_err(lost)?;
    if body.len() < length {
        return Err(Failure::transient("the connection was lost in the middle of a message"));
    }
    serde_json::from_slice(&body)
        .map(Some)
        .map_err(|error| Failure::transient("a message could not be understood").because(error))
}
