//! `/v1/job`: what the job does.

use super::rates::Rate;
use super::{Site, health};
use crate::job::board::LastFailure;
use crate::job::board::reading::TaskReading;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::EventTime;
use weir_protocol::leader::{End, ErrorKind};

pub(super) async fn show(State(site): State<Arc<Site>>) -> Json<Value> {
    let board = &site.view.board;
    let (totals, readings) = (board.totals(), board.readings());
    let tasks: Vec<Value> = {
        let (rates, now) = (site.rates.lock(), Instant::now());
        readings.iter().map(|reading| task(reading, rates.of(now, reading))).collect()
    };
    Json(json!({
        "name": site.view.name,
        "state": health::name(health::state_of(board)),
        "generation": board.generation().map(|generation| generation.0),
        "restarts": board.status().map_or(0, |(status, _)| status.restarts),
        "lastFailure": board.last_failure().map(|failure| last_failure(&failure)),
        "ending": board.end().map(|end| ending(&end)),
        "registered": board.workers_registered(),
        "uptimeMs": board.uptime().as_millis() as u64,
        "totals": {
            "rowsIn": totals.rows_in,
            "rowsOut": totals.rows_out,
            "bytesIn": totals.bytes_in,
            "lateRows": totals.late_rows,
            "badRecords": totals.bad_records,
        },
        "tasks": tasks,
    }))
}

/// How a job has ended.
fn ending(end: &End) -> &'static str {
    match end {
        End::Finished { .. } => "finished",
        End::Stopped { .. } | End::Maintained => "stopped",
        End::HandedOver { .. } => "handedOver",
        End::GivenUp { .. } => "givenUp",
        End::Stalled { .. } => "stalled",
        End::Fenced { .. } => "fenced",
        End::Failed { .. } => "failed",
    }
}

/// Why something failed.
pub(super) fn last_failure(failure: &LastFailure) -> Value {
    json!({"kind": kind_name(failure.kind), "message": failure.message})
}

/// A kind's name in the API and in metrics.
pub(super) fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::User => "user",
        ErrorKind::Transient => "transient",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Fenced => "fenced",
        ErrorKind::Bug => "bug",
    }
}

fn task(reading: &TaskReading, rate: Option<Rate>) -> Value {
    let shares = rate.and_then(|rate| rate.shares);
    json!({
        "id": reading.task.to_string(),
        "chain": reading.task.chain,
        "subtask": reading.task.subtask,
        "name": reading.name,
        "running": reading.running,
        "rowsIn": reading.rows_in,
        "rowsOut": reading.rows_out,
        "bytesIn": reading.bytes_in,
        "bytesOut": reading.bytes_out,
        "rowsInPerSecond": rate.map(|rate| tenths(rate.rows_in)),
        "rowsOutPerSecond": rate.map(|rate| tenths(rate.rows_out)),
        "bytesInPerSecond": rate.map(|rate| tenths(rate.bytes_in)),
        "bytesOutPerSecond": rate.map(|rate| tenths(rate.bytes_out)),
        "busyRatio": shares.map(|shares| thousandths(shares.busy)),
        "idleRatio": shares.map(|shares| thousandths(shares.idle)),
        "backpressuredRatio": shares.map(|shares| thousandths(shares.backpressured)),
        "watermarkMs": reading.watermark.filter(|watermark| *watermark != EventTime::MAX).map(|watermark| watermark.0),
        "eventTimeEnded": reading.watermark == Some(EventTime::MAX),
        "stateBytes": reading.state_bytes,
        "lateRows": reading.late_rows,
        "badRecords": reading.bad_records,
    })
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
