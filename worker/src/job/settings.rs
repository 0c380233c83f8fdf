//! From a manifest's settings to what the leader is told.

use crate::dataflow::graph::Graph;
use crate::plan::{NodeKind, Plan};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use weir_crds::{RestartStrategy, RestoreFrom, ValidatedJob};
use weir_protocol::chain::{self, Claimant, DroppedState, OperatorPlan, Start};
use weir_protocol::key_group::{Error, MaxParallelism};
use weir_protocol::leader::{CheckpointOptions, Direction, Mode, Operation, Options, Running};
use weir_protocol::restart::Strategy;
use weir_protocol::retry::Pace;

/// A request in so many milliseconds costs next to nothing, and a leader that was replaced is not long in the way.
const WATCH_MS: u64 = 5_000;

/// A checkpoint that only names a state is written in one go; a disk may still stall.
const MAINTENANCE_TIMEOUT_MS: u64 = 60_000;

/// What the leader of a job on this machine is told.
pub fn options(
    job: &ValidatedJob,
    plan: &Plan,
    claimant: Claimant,
    parallelism: u32,
    mode: Mode,
) -> Result<Options, Error> {
    let incarnation = uuid::Uuid::new_v4().to_string();
    Ok(Options {
        job: job.name.clone(),
        claimant,
        incarnation,
        unix_ms: unix_ms(),
        parallelism,
        direction: Direction::default(),
        max_parallelism: MaxParallelism::new(job.max_parallelism)?,
        plan: plan_of(plan, job.allow_dropped_state),
        mode,
        restored_from: restored_from(job),
        checkpoint: CheckpointOptions {
            interval_ms: Some(ms(job.checkpoint.interval)),
            min_pause_ms: ms(job.checkpoint.min_pause),
            timeout_ms: ms(job.checkpoint.timeout),
            unaligned_after_ms: job.checkpoint.unaligned_after.map(ms),
            tolerable_failures: job.checkpoint.tolerable_failures,
            retain: job.checkpoint.retain,
        },
        restart: strategy(&job.restart),
        watch_ms: WATCH_MS,
    })
}

/// What a job's `spec.restoreFrom` says, as its chain remembers that it was used.
#[must_use]
pub fn restored_from(job: &ValidatedJob) -> Option<String> {
    job.restore_from.as_ref().map(|from| match from {
        RestoreFrom::Savepoint(name) => format!("savepoint {name}"),
        RestoreFrom::Path(path) => format!("path {path}"),
        RestoreFrom::Job(name) => format!("job {name}"),
    })
}

/// What the protocol needs to know of a plan.
#[must_use]
pub fn plan_of(plan: &Plan, allow_dropped_state: bool) -> chain::Plan {
    let mut of = chain::Plan {
        fingerprint: format!("{:016x}", plan.fingerprint),
        dropped_state: if allow_dropped_state { DroppedState::Allow } else { DroppedState::Refuse },
        ..chain::Plan::default()
    };
    of.edges = Graph::of(plan).edge_ids(plan).into_iter().collect();
    for node in &plan.nodes {
        let Some(id) = &node.id else { continue };
        let schema = crate::operator::build::state_schema(plan, node);
        let legends = crate::operator::build::legends(plan, node);
        // Only numbers and names: it always becomes JSON.
        let legend = if legends.is_empty() { Value::Null } else { serde_json::to_value(legends).unwrap_or_default() };
        of.operators.insert(id.clone(), OperatorPlan { kind: node.name.clone(), schema, legend });
        if let NodeKind::Sink(sink) = &node.kind
            && sink.sink.commits()
        {
            of.sinks.insert(id.clone());
        }
    }
    of
}

/// What a leader is told that works on the state of a job which does not run. `retain` is how many checkpoints to keep;
/// `None` keeps all. `running` says what to do when nothing shows that the job stands still.
#[must_use]
pub fn maintenance(
    start: &Start,
    claimant: Claimant,
    running: Running,
    retain: Option<u32>,
    operation: Operation,
) -> Options {
    Options {
        job: start.job.clone(),
        claimant,
        incarnation: uuid::Uuid::new_v4().to_string(),
        unix_ms: unix_ms(),
        parallelism: start.key_groups.parallelism(),
        direction: Direction::default(),
        max_parallelism: start.key_groups.max_parallelism(),
        plan: chain::Plan::default(),
        mode: Mode::Maintain { operations: vec![operation], running },
        restored_from: None,
        checkpoint: CheckpointOptions {
            interval_ms: None,
            min_pause_ms: 0,
            timeout_ms: MAINTENANCE_TIMEOUT_MS,
            unaligned_after_ms: None,
            tolerable_failures: 0,
            retain: retain.unwrap_or(u32::MAX),
        },
        restart: Strategy::None,
        watch_ms: WATCH_MS,
    }
}

fn strategy(restart: &RestartStrategy) -> Strategy {
    match *restart {
        RestartStrategy::ExponentialDelay { initial, max, multiplier, jitter, reset_after } => {
            Strategy::ExponentialDelay {
                pace: Pace { initial_ms: ms(initial), max_ms: ms(max), multiplier, jitter },
                reset_after_ms: ms(reset_after),
            }
        }
        RestartStrategy::FixedDelay { attempts, delay } => Strategy::FixedDelay { attempts, delay_ms: ms(delay) },
        RestartStrategy::FailureRate { max_failures, window, delay } => {
            Strategy::FailureRate { max_failures, window_ms: ms(window), delay_ms: ms(delay) }
        }
        RestartStrategy::None => Strategy::None,
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
