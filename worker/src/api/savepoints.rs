//! `/v1/savepoints`: takes, shows and deletes savepoints.
//!
//! A request is known by its name and uid: repeated, it changes nothing and answers what became of it.

use super::checkpoints::{self, sizes};
use super::health::state_of;
use super::refusal::Refusal;
use super::{Site, health};
use crate::job::board::Board;
use crate::job::board::savepoints::{Conflict, Savepoint};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use weir_protocol::leader::{self, Status};
use weir_protocol::name;

/// The longest wait that a client may ask for, in seconds.
const LONGEST_WAIT: u64 = 600;

/// A leader answers within this.
const ANSWER: Duration = Duration::from_secs(1);

/// Bytes of a request's uid.
const UID_LIMIT: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Create {
    name: String,
    request_uid: Option<String>,
    #[serde(default)]
    then: Then,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Then {
    #[default]
    Continue,
    Stop,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    #[serde(default)]
    wait: u64,
}

pub(super) async fn create(
    State(site): State<Arc<Site>>,
    wait: Result<Query<Wait>, QueryRejection>,
    request: Result<Json<Create>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let wait = bounded(wait)?;
    let Json(request) = request.map_err(|rejection| {
        let hint = r#"send {"name": "before-upgrade"} with Content-Type: application/json; "requestUid" and "then" ("continue" or "stop") are optional"#;
        Refusal::new(rejection.status(), rejection.body_text(), hint)
    })?;
    check_name(&request.name)?;
    let uid = request.request_uid.unwrap_or_else(|| request.name.clone());
    if uid.is_empty() || uid.len() > UID_LIMIT {
        return Err(Refusal::malformed(format!("requestUid has {} bytes", uid.len()), format!("use 1 to {UID_LIMIT}")));
    }
    let mut changes = site.view.board.changes();
    site.view.board.ask_savepoint(&request.name, &uid).map_err(|conflict| conflicting(&request.name, conflict))?;
    let then = match request.then {
        Then::Continue => leader::Then::Continue,
        Then::Stop => leader::Then::Stop,
    };
    site.view.handle.savepoint(request.name.clone(), uid, then);
    let state = || asked_for(&site.view.board, &request.name);
    wait_until(&site, &mut changes, wait, || state() != Some(Savepoint::Pending)).await;
    match state() {
        Some(Savepoint::Failed(message)) if state_of(&site.view.board) == leader::State::Ended => Err(Refusal::new(
            StatusCode::CONFLICT,
            message,
            format!("weir savepoint create {} takes one", request.name),
        )),
        Some(Savepoint::Failed(message)) => {
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message, "the same request asks for it again"))
        }
        Some(Savepoint::Completed(_)) => Ok((StatusCode::OK, describe(&site, &request.name)?)),
        _ => Ok((StatusCode::ACCEPTED, describe(&site, &request.name)?)),
    }
}

pub(super) async fn list(State(site): State<Arc<Site>>) -> Json<Value> {
    let board = &site.view.board;
    let mut names: BTreeSet<String> = board.savepoints().into_keys().collect();
    if let Some((status, _)) = board.status() {
        names.extend(status.savepoints.into_keys());
        names.extend(status.savepoints_pending);
    }
    let savepoints = names.iter().filter_map(|name| describe(&site, name).ok()).map(|Json(savepoint)| savepoint);
    Json(json!({"savepoints": savepoints.collect::<Vec<_>>()}))
}

pub(super) async fn show(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    describe(&site, &name)
}

pub(super) async fn delete(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    wait: Result<Query<Wait>, QueryRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let (wait, board) = (bounded(wait)?, &site.view.board);
    let mut changes = board.changes();
    if let Some(uid) = board.pending_savepoint(&name) {
        return withdraw(&site, (name, uid), &mut changes, wait).await;
    }
    board.release_savepoint(&name).map_err(|conflict| conflicting(&name, conflict))?;
    site.view.handle.release_savepoint(name.clone());
    let state = || asked_for(board, &name);
    // Of a job that has ended the answer comes at once.
    let wait = if state_of(board) == leader::State::Ended { wait.max(ANSWER) } else { wait };
    wait_until(&site, &mut changes, wait, || state() != Some(Savepoint::Releasing)).await;
    match state() {
        Some(Savepoint::Kept(message)) => {
            Err(Refusal::new(StatusCode::CONFLICT, message, format!("weir savepoint delete {name} deletes it")))
        }
        None => Ok((StatusCode::OK, answer(&name, "deleted"))),
        Some(_) => Ok((StatusCode::ACCEPTED, answer(&name, "deleting"))),
    }
}

/// Takes a wish back. One whose checkpoint is being put down comes true all the same.
async fn withdraw(
    site: &Site,
    (name, uid): (String, String),
    changes: &mut watch::Receiver<()>,
    wait: Duration,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let board = &site.view.board;
    site.view.handle.withdraw_savepoint(name.clone(), uid);
    let state = || asked_for(board, &name);
    wait_until(site, changes, wait, || state() != Some(Savepoint::Pending)).await;
    match state() {
        Some(Savepoint::Completed(_)) => {
            let error = format!("savepoint '{name}' was complete before it could be given up");
            Err(Refusal::new(StatusCode::CONFLICT, error, "the same request deletes it now"))
        }
        Some(Savepoint::Pending) => Ok((StatusCode::ACCEPTED, answer(&name, "withdrawing"))),
        _ => Ok((StatusCode::OK, answer(&name, "deleted"))),
    }
}

/// What became of the request for a savepoint.
fn asked_for(board: &Board, name: &str) -> Option<Savepoint> {
    board.savepoints().remove(name).map(|request| request.state)
}

fn answer(name: &str, state: &str) -> Json<Value> {
    Json(json!({"name": name, "state": state}))
}

fn bounded(wait: Result<Query<Wait>, QueryRejection>) -> Result<Duration, Refusal> {
    let hint = format!("give whole seconds up to {LONGEST_WAIT}, such as ?wait=30");
    let seconds = match wait {
        Ok(Query(Wait { wait })) => wait,
        Err(rejection) => return Err(Refusal::malformed(rejection.body_text(), hint)),
    };
    if seconds > LONGEST_WAIT {
        return Err(Refusal::malformed(format!("a wait of {seconds} seconds is too long"), hint));
    }
    Ok(Duration::from_secs(seconds))
}

/// Waits for the outcome, but no longer than asked for, and not for a job that has ended.
pub(super) async fn wait_until(
    site: &Site,
    changes: &mut watch::Receiver<()>,
    longest: Duration,
    done: impl Fn() -> bool,
) {
    let mut stopping = site.stopping.clone();
    let outcome = async {
        // The board lives as long as the site.
        while !done() && changes.changed().await.is_ok() {}
    };
    tokio::select! {
        biased;
        () = outcome => {}
        _ = stopping.wait_for(|stop| *stop) => {}
        () = tokio::time::sleep(longest) => {}
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name::is_savepoint(name) {
        return Ok(());
    }
    Err(Refusal::malformed(format!("{name:?} is no name for a savepoint"), format!("use {}", name::SAVEPOINT_RULE)))
}

fn conflicting(name: &str, conflict: Conflict) -> Refusal {
    let (status, hint) = match conflict {
        Conflict::Exists => (StatusCode::CONFLICT, "choose another name, or repeat the requestUid it was made with"),
        Conflict::UnderWay => (StatusCode::CONFLICT, "wait for it, or choose another name"),
        Conflict::Releasing => (StatusCode::CONFLICT, "it goes with the next checkpoint; ask again then"),
        Conflict::Unknown => (StatusCode::NOT_FOUND, "/v1/savepoints lists them"),
        Conflict::TooMany => (StatusCode::TOO_MANY_REQUESTS, "wait until some are taken"),
    };
    Refusal::new(status, format!("savepoint '{name}': {conflict}"), hint)
}

/// What this run knows of the request, and what the chain says of the savepoint.
fn describe(site: &Site, name: &str) -> Result<Json<Value>, Refusal> {
    let asked = site.view.board.savepoints().remove(name);
    let status = site.view.board.status().map(|(status, _)| status);
    let pin = status.as_ref().and_then(|status| status.savepoints.get(name));
    let pending = status.as_ref().is_some_and(|status| status.savepoints_pending.iter().any(|pending| pending == name));
    let value = match (asked.as_ref().map(|asked| (&asked.uid, &asked.state)), pin) {
        (Some((uid, Savepoint::Releasing)), _) => json!({"name": name, "requestUid": uid, "state": "deleting"}),
        (Some((uid, Savepoint::Completed(link))), _) => completed(name, uid, link.0, status.as_ref()),
        (Some((uid, Savepoint::Pending)), _) => waiting(site, name, Some(uid)),
        (_, Some(pin)) => completed(name, &pin.uid, pin.link.0, status.as_ref()),
        (Some((uid, Savepoint::Failed(message) | Savepoint::Kept(message))), None) => {
            json!({"name": name, "requestUid": uid, "state": "failed", "message": message})
        }
        (None, None) if pending => waiting(site, name, None),
        (None, None) => return Err(conflicting(name, Conflict::Unknown)),
    };
    Ok(Json(value))
}

/// A savepoint is taken with a checkpoint: how far the one under way is, or why there is none.
fn waiting(site: &Site, name: &str, uid: Option<&String>) -> Value {
    let board = &site.view.board;
    let mut value = json!({"name": name, "requestUid": uid, "state": "pending"});
    let progress = board.status().and_then(|(status, now)| checkpoints::in_progress(&status, now));
    match (progress, health::job_runs(board)) {
        (Some(progress), _) => value["checkpointInProgress"] = progress,
        (None, Err(why)) => value["message"] = json!(why),
        (None, Ok(())) => {}
    }
    value
}

fn completed(name: &str, uid: &str, link: u64, status: Option<&Status>) -> Value {
    let mut value = json!({"name": name, "requestUid": uid, "state": "completed", "link": link});
    let retained = status.and_then(|status| status.retained.iter().find(|retained| retained.link.0 == link));
    if let Some(retained) = retained {
        value["checkpoint"] = json!(retained.checkpoint.0);
        value["completedUnixMs"] = json!(retained.completed_unix_ms);
        value["sizes"] = sizes(retained.sizes);
    }
    value
}
