//! `/v1/checkpoints`: the newest checkpoints, what can be restored, and what each task's part cost.

use super::Site;
use super::refusal::Refusal;
use crate::job::board::{CheckpointDetails, CheckpointOutcome};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use weir_protocol::Now;
use weir_protocol::chain::Sizes;
use weir_protocol::leader::{FailureCause, Retained, Status};

pub(super) async fn list(State(site): State<Arc<Site>>) -> Json<Value> {
    let board = &site.view.board;
    let history: Vec<Value> = board.checkpoints().iter().rev().map(entry).collect();
    let Some((status, now)) = board.status() else {
        return Json(json!({"completed": 0, "failed": {}, "inProgress": null, "history": history, "retained": []}));
    };
    Json(json!({
        "completed": status.completed,
        "failed": status.failed.iter().map(|(cause, count)| (cause_name(*cause).to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "inProgress": in_progress(&status, now),
        "history": history,
        "retained": status.retained.iter().rev().map(retained).collect::<Vec<_>>(),
    }))
}

pub(super) async fn show(State(site): State<Arc<Site>>, Path(number): Path<String>) -> Result<Json<Value>, Refusal> {
    let Ok(wanted) = number.parse::<u64>() else {
        return Err(Refusal::malformed(
            format!("'{number}' is no number of a checkpoint"),
            "/v1/checkpoints lists them",
        ));
    };
    let checkpoints = site.view.board.checkpoints();
    let Some(details) = checkpoints.iter().rev().find(|details| details.checkpoint.0 == wanted) else {
        let error = format!("checkpoint {wanted} is not known");
        let hint = "details are kept of the newest checkpoints of this run; /v1/checkpoints lists them";
        return Err(Refusal::new(StatusCode::NOT_FOUND, error, hint));
    };
    let mut value = entry(details);
    let tasks = details.tasks.iter().map(|(task, cost)| {
        json!({
            "id": task.to_string(),
            "alignUs": cost.align_us,
            "syncUs": cost.sync_us,
            "uploadUs": cost.upload_us,
            "bytes": cost.bytes,
            "inFlightBytes": cost.in_flight_bytes,
        })
    });
    value["tasks"] = tasks.collect();
    Ok(Json(value))
}

fn entry(details: &CheckpointDetails) -> Value {
    let generation = details.generation.map(|generation| generation.0);
    let mut value = json!({"checkpoint": details.checkpoint.0, "generation": generation});
    match &details.outcome {
        CheckpointOutcome::InProgress => value["outcome"] = json!("inProgress"),
        CheckpointOutcome::Completed { link, duration_ms } => {
            value["outcome"] = json!("completed");
            value["link"] = json!(link.0);
            value["durationMs"] = json!(duration_ms);
            value["sizes"] = details.sizes.map_or(Value::Null, sizes);
        }
        CheckpointOutcome::Failed { cause, message } => {
            value["outcome"] = json!("failed");
            value["cause"] = json!(cause_name(*cause));
            value["message"] = json!(message);
        }
    }
    value
}

/// The checkpoint that is being taken.
pub(super) fn in_progress(status: &Status, now: Now) -> Option<Value> {
    let attempt = status.in_progress.as_ref()?;
    Some(json!({
        "checkpoint": attempt.checkpoint.0,
        "sinceMs": now.ms_since(attempt.begun),
        "acknowledged": attempt.acknowledged,
        "tasks": attempt.tasks,
    }))
}

fn retained(retained: &Retained) -> Value {
    json!({
        "link": retained.link.0,
        "checkpoint": retained.checkpoint.0,
        "completedUnixMs": retained.completed_unix_ms,
        "sizes": sizes(retained.sizes),
        "savepoints": retained.savepoints,
    })
}

pub(super) fn sizes(sizes: Sizes) -> Value {
    json!({
        "writtenBytes": sizes.written_bytes,
        "totalBytes": sizes.total_bytes,
        "files": sizes.files,
        "inFlightBytes": sizes.in_flight_bytes,
    })
}

/// A cause's name in the API and in metrics.
pub(super) fn cause_name(cause: FailureCause) -> &'static str {
    match cause {
        FailureCause::Timeout => "timeout",
        FailureCause::Declined => "declined",
        FailureCause::Store => "store",
        FailureCause::Generation => "generation",
        FailureCause::Withdrawn => "withdrawn",
    }
}
