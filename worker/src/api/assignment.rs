//! `/v1/assignment`: what the job shall be, and what it is.
//!
//! A request is checked here as far as it can be without the job; the leader stores it before anything happens. A
//! repeated request changes nothing.

use super::refusal::Refusal;
use super::{Site, savepoints};
use crate::diagnostic::nearest;
use crate::failure::Kind;
use crate::job::origin::Wanted;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::chain::{Assignment, RestoreFrom};
use weir_protocol::leader::{AssignmentAnswer, Switching};
use weir_protocol::name;

/// How long the leader may take to answer: the store may have to be asked.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);

/// Bytes of a code's name.
const CODE_LIMIT: usize = 200;

const FIELDS: [&str; 7] = ["revision", "parallelism", "workers", "code", "force", "rollback", "restoreFrom"];

const EXAMPLE: &str =
    r#"send {"revision": 2, "parallelism": 4, "workers": 4, "code": "3f9a"} with Content-Type: application/json"#;

pub(super) async fn put(
    State(site): State<Arc<Site>>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let Json(body) = body.map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text(), EXAMPLE))?;
    let (mut wanted, elsewhere) = parse(&body)?;
    let revision = wanted.revision;
    let board = &site.view.board;
    if let Some(elsewhere) = elsewhere {
        // What it leads to may be another state by now: what is known already is not looked up again.
        let assigned = board.status().map_or(0, |(status, _)| status.course.assigned);
        wanted.restore_from = Some(match revision > assigned {
            true => find(&site, elsewhere, revision).await?,
            false => RestoreFrom::Asked(elsewhere.to_string()),
        });
    }
    let mut changes = board.changes();
    let awaited = board.await_assignment();
    if !site.view.handle.assign(awaited.request().to_owned(), wanted) {
        return Err(unavailable("the job has ended", "/v1/job tells how"));
    }
    savepoints::wait_until(&site, &mut changes, LONGEST_ANSWER, || awaited.answer().is_some()).await;
    match awaited.answer() {
        Some(answer) => match refused(revision, answer) {
            Some(refusal) => Err(refusal),
            None => Ok((StatusCode::ACCEPTED, Json(json!({"revision": revision, "state": "accepted"})))),
        },
        None => Err(unavailable("the leader has not answered yet", "send it again: the same request changes nothing")),
    }
}

/// Finds the state of another job, beside the requests of others: a bucket may be slow.
async fn find(site: &Site, wanted: Wanted, revision: u64) -> Result<RestoreFrom, Refusal> {
    let hint = "name a savepoint, or stop the other job first";
    let refused = |error: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error, hint);
    let Some(origins) = site.view.board.origins.get().map(Arc::clone) else {
        return Err(refused("this job cannot begin with the state of another one".to_owned()));
    };
    let found = tokio::task::spawn_blocking(move || origins.find(&wanted, revision)).await;
    let found = found.map_err(|error| unavailable(&format!("the state was not found: {error}"), "send it again"))?;
    found.map_err(|failure| match failure.kind {
        Kind::User | Kind::Corrupt => refused(failure.chain()),
        _ => unavailable(&failure.chain(), "send it again"),
    })
}

pub(super) async fn show(State(site): State<Arc<Site>>) -> Json<Value> {
    let board = &site.view.board;
    let course = board.status().map(|(status, _)| status.course).unwrap_or_default();
    let change = course.switching.map(|switching| {
        let (step, revision) = match switching {
            Switching::Gathering(revision) => ("gathering", revision),
            Switching::Preparing(revision) => ("preparing", revision),
            Switching::Stopping(revision) => ("stopping", revision),
        };
        json!({"revision": revision, "step": step})
    });
    let failed = board.failed_assignment().filter(|(revision, _)| *revision > course.terms.revision);
    Json(json!({
        "revision": course.terms.revision,
        "parallelism": course.parallelism,
        "workers": course.terms.workers,
        "code": course.terms.code,
        "assigned": course.assigned,
        "change": change,
        "failed": failed.map(|(revision, message)| json!({"revision": revision, "message": message})),
    }))
}

fn unavailable(error: &str, hint: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, hint)
}

/// The refusal that an answer is, if it is one.
fn refused(revision: u64, answer: AssignmentAnswer) -> Option<Refusal> {
    use AssignmentAnswer as A;
    let higher = "GET /v1/assignment tells what is assigned; choose a higher revision";
    let (status, error, hint) = match answer {
        A::Stale { highest } => {
            (StatusCode::CONFLICT, format!("revision {revision} is stale: {highest} is known"), higher.to_owned())
        }
        A::Conflict => {
            let error = format!("revision {revision} is assigned already, with another content");
            (StatusCode::CONFLICT, error, higher.to_owned())
        }
        A::TooLargeParallelism { max_parallelism } => (
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("parallelism is above the job's maxParallelism, which is {max_parallelism}"),
            format!("use 1 to {max_parallelism}: the number of key groups is fixed with the job's first checkpoint"),
        ),
        A::UnknownRestorePoint { message } => {
            (StatusCode::UNPROCESSABLE_ENTITY, message, "GET /v1/savepoints lists what can be restored".to_owned())
        }
        A::Invalid { message } => (StatusCode::UNPROCESSABLE_ENTITY, message, EXAMPLE.to_owned()),
        A::Busy => {
            let error = "too many assignments wait to be stored".to_owned();
            (StatusCode::TOO_MANY_REQUESTS, error, "send it again in a moment".to_owned())
        }
        A::NotStored { message } => {
            let error = format!("the assignment could not be stored: {message}");
            return Some(unavailable(&error, "send it again: the same request changes nothing"));
        }
        A::Accepted => return None,
    };
    Some(Refusal::new(status, error, hint))
}

/// The assignment, and the state of another job that it is to begin with.
fn parse(body: &Value) -> Result<(Assignment, Option<Wanted>), Refusal> {
    let Value::Object(fields) = body else {
        return Err(misfit(format!("an assignment is an object, not {}", shape(body))));
    };
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let hint = match nearest(unknown, FIELDS) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("the fields are {}", FIELDS.join(", ")),
        };
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("there is no field '{unknown}'"), hint));
    }
    let (restore_from, elsewhere) = restore_from(fields)?;
    let assignment = Assignment {
        revision: number(fields, "revision", u64::MAX)?,
        parallelism: number(fields, "parallelism", u64::from(u32::MAX))? as u32,
        workers: number(fields, "workers", u64::from(u32::MAX))? as u32,
        code: text(fields, "code")?.ok_or_else(|| misfit("code is missing".to_owned()))?,
        force: match fields.get("force") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(force)) => *force,
            Some(other) => return Err(misfit(format!("force is true or false, not {}", shape(other)))),
        },
        rollback: text(fields, "rollback")?,
        restore_from,
    };
    Ok((assignment, elsewhere))
}

fn number(fields: &Map<String, Value>, name: &str, largest: u64) -> Result<u64, Refusal> {
    let value = fields.get(name).ok_or_else(|| misfit(format!("{name} is missing")))?;
    match value.as_u64() {
        Some(number) if (1..=largest).contains(&number) => Ok(number),
        _ => Err(misfit(format!("{name} is a whole number from 1 on, not {}", shape(value)))),
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if (1..=CODE_LIMIT).contains(&text.len()) => Ok(Some(text.clone())),
        Some(Value::String(text)) => Err(misfit(format!("{name} has {} bytes: use 1 to {CODE_LIMIT}", text.len()))),
        Some(other) => Err(misfit(format!("{name} is text, not {}", shape(other)))),
    }
}

fn restore_from(fields: &Map<String, Value>) -> Result<(Option<RestoreFrom>, Option<Wanted>), Refusal> {
    let hint = r#"use "nothing", {"savepoint": "NAME"}, {"path": "PATH"} or {"job": "NAME"}"#;
    let misfit = |error: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error, hint);
    let point = match fields.get("restoreFrom") {
        None | Some(Value::Null) => return Ok((None, None)),
        Some(Value::String(nothing)) if nothing == "nothing" => return Ok((Some(RestoreFrom::Nothing), None)),
        Some(Value::Object(point)) => point,
        Some(other) => return Err(misfit(format!("restoreFrom cannot be {}", shape(other)))),
    };
    let text = |name: &str| point.get(name).and_then(Value::as_str);
    let release = point.get("release").map_or(Some(false), Value::as_bool);
    match (text("savepoint"), text("path"), text("job"), release, point.len()) {
        (Some(savepoint), None, None, Some(false), 1) if name::is_savepoint(savepoint) => {
            Ok((Some(RestoreFrom::Savepoint(savepoint.to_owned())), None))
        }
        (Some(savepoint), None, None, Some(false), 1) => {
            Err(misfit(format!("{savepoint:?} is no name for a savepoint")))
        }
        (None, Some(path), None, Some(release), 1 | 2) if point.len() == 1 || point.contains_key("release") => {
            Ok((None, Some(Wanted::Path { path: path.to_owned(), release })))
        }
        (None, None, Some(job), Some(false), 1) => Ok((None, Some(Wanted::Job(job.to_owned())))),
        _ => Err(misfit("restoreFrom names something else than a savepoint, a path or a job".to_owned())),
    }
}

fn misfit(error: String) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error, EXAMPLE)
}

/// A value for a message: what it is, and in short what it says.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
