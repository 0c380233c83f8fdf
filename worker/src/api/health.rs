//! Whether the process lives, and whether it is of use.

use super::refusal::Refusal;
use crate::job::board::Board;
use crate::numbers::Numbers;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use weir_protocol::leader;

/// Whether the process is ready, or why it is not, as a sentence.
pub type Probe = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a process tells about itself.
pub struct Vitals {
    /// Whether it lives: one that does not is to be started again.
    pub alive: Probe,
    /// Whether it is ready.
    pub ready: Probe,
    /// What it counts.
    pub numbers: Vec<Arc<dyn Numbers>>,
}

pub(super) async fn alive(State(vitals): State<Arc<Vitals>>) -> Result<Json<Value>, Refusal> {
    match (vitals.alive)() {
        Ok(()) => Ok(Json(json!({"alive": true}))),
        Err(reason) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason, "start the process again")),
    }
}

pub(super) async fn ready(State(vitals): State<Arc<Vitals>>) -> Result<Json<Value>, Refusal> {
    match (vitals.ready)() {
        Ok(()) => Ok(Json(json!({"ready": true}))),
        Err(reason) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason, "ask again; /v1/job tells more")),
    }
}

/// A process that runs a job by itself is ready while the job's tasks run.
pub(super) fn job_runs(board: &Board) -> Result<(), String> {
    let state = state_of(board);
    if state == leader::State::Running {
        return Ok(());
    }
    let mut error = format!("the job's tasks do not run: {}", reason(state));
    if let Some(failure) = board.last_failure() {
        error.push_str("; the last failure: ");
        error.push_str(&failure.message);
    }
    Err(error)
}

/// Where the leader is.
pub(super) fn state_of(board: &Board) -> leader::State {
    board.status().map_or(leader::State::Idle, |(status, _)| status.state)
}

/// The state's name in the API.
pub(super) fn name(state: leader::State) -> &'static str {
    match state {
        leader::State::Idle => "idle",
        leader::State::Starting => "starting",
        leader::State::Awaiting => "awaiting",
        leader::State::Settling => "settling",
        leader::State::Deploying => "deploying",
        leader::State::Running => "running",
        leader::State::Stopping => "stopping",
        leader::State::Cancelling => "cancelling",
        leader::State::Waiting => "waiting",
        leader::State::Maintaining => "maintaining",
        leader::State::Ended => "ended",
    }
}

fn reason(state: leader::State) -> &'static str {
    match state {
        leader::State::Idle => "it has not begun",
        leader::State::Starting => "its state is looked up",
        leader::State::Awaiting => {
            "its turn has not come: nothing is assigned to its code yet, or another one still runs"
        }
        leader::State::Settling => "sinks commit what an earlier run left",
        leader::State::Deploying => "they are being started",
        leader::State::Running => "they do",
        leader::State::Stopping => "its last checkpoint is complete and sinks commit it",
        leader::State::Cancelling => "they are being ended",
        leader::State::Waiting => "it waits for the restart after a failure",
        leader::State::Maintaining => "its state is worked on",
        leader::State::Ended => "it has ended",
    }
}
