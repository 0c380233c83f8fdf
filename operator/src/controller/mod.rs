//! The loop: what has changed is looked at, each job by one task at a time, a bounded number of jobs at once.
//!
//! [`reconcile`] is the whole of a look. Everything is level-based: it does not matter what changed, or how often; a look that
//! fails is repeated, later each time, and one job's failures delay no other.
//!
//! Each scope (the whole cluster, or one of several namespaces) has watches, tables and a loop of its own, so that a
//! namespace that may not be read holds up no other.

mod context;
mod notes;
mod orphans;
mod triggers;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use kube::core::PartialObjectMeta;
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config};
use tokio::sync::watch;
use weir_crds::StreamJob;

pub use context::{Context, limited};
pub use notes::{Note, Notes};
pub use orphans::look_after_orphans;

use crate::apply::{self, Effect, Round, apply};
use crate::build::build;
use crate::cluster::{JobKey, Scope};
use crate::decide::decide;
use crate::observe::{self, observe};
use crate::report::report;
use crate::telemetry::{Health, Outcome};

/// A look that wrote something is followed by another one, which sees what became of it.
const AFTER_WRITE: Duration = Duration::from_millis(100);
/// The same, when only a leader was asked.
const AFTER_ASKING: Duration = Duration::from_millis(500);
/// Without any event a job is looked at this often.
const RESYNC: Duration = Duration::from_secs(300);
/// After a conflict: the watch is about to deliver what was written.
const AFTER_CONFLICT: Duration = Duration::from_millis(100);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Why a look at a job did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be seen.
    #[error("the job could not be looked at")]
    Observe(#[source] observe::Error),
    /// Something could not be done.
    #[error("not all could be done")]
    Apply(#[source] apply::Error),
    /// The status could not be written.
    #[error("the status could not be written")]
    Report(#[source] apply::Error),
    /// A mistake of ours, with this job alone.
    #[error("the look at this job panicked: {0}")]
    Panicked(String),
}

impl Error {
    /// Whether somebody else wrote meanwhile, or a leader's answer decides what follows: looked at again soon.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        let (Self::Apply(error) | Self::Report(error)) = self else { return false };
        matches!(error, apply::Error::Conflict { .. } | apply::Error::Refused { .. })
    }
}

/// One look at a job: what it asks for is validated, all about it is observed, what is to happen is decided, the objects for
/// it are built and applied, and what there is to tell is reported. Answers when to look again.
pub async fn reconcile(ctx: &Context, key: &JobKey) -> Result<Option<Duration>, Error> {
    let Some(seen) = ctx.cluster.jobs.get(key, &key.name) else { return Ok(None) };

    let validated = weir_crds::validate(&seen.kept.0);
    let observed = observe(ctx, key, &seen, validated).await.map_err(Error::Observe)?;
    let decision = decide(&observed, ctx.now());
    let writes = build(&observed, &decision);
    let mut round = Round::new(ctx, key, &seen);
    let applied = apply(&mut round, &decision.status, &writes).await;
    note_denial(ctx, &seen.uid, &applied);
    if let Err(conflict @ apply::Error::Conflict { .. }) = applied {
        return Err(Error::Apply(conflict));
    }
    let reported = report(ctx, key, &observed, &decision, &mut round).await;

    let effect = applied.map_err(Error::Apply)?.max(reported.map_err(Error::Report)?);
    let again = decision.again.unwrap_or(RESYNC);
    Ok(Some(match effect {
        Effect::Written => again.min(AFTER_WRITE),
        Effect::Asked => again.min(AFTER_ASKING),
        Effect::None => again,
    }))
}

/// What the cluster refuses is part of the next look, until a round goes through.
fn note_denial(ctx: &Context, uid: &str, applied: &Result<Effect, apply::Error>) {
    match applied {
        Ok(_) => ctx.notes.edit(uid, |note| note.denied = None),
        Err(denied @ apply::Error::Denied { .. }) => ctx.notes.edit(uid, |note| note.denied = Some(denied.to_string())),
        Err(_) => {}
    }
}

/// How the loop of a scope runs.
pub struct Loop {
    /// What every look needs.
    pub ctx: Arc<Context>,
    /// What is looked after.
    pub scope: Scope,
    /// Jobs that are looked at at once, at most.
    pub concurrency: u16,
    /// Is told when the scope has been seen.
    pub health: Arc<Health>,
}

impl Loop {
    /// Looks after jobs until `stop` is true; looks that are under way end first.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let ctx = Arc::clone(&self.ctx);
        let (triggers, reader) = triggers::triggers(&ctx, &self.scope, Arc::clone(&self.health));
        let sweep = orphans::sweep(Arc::clone(&ctx));
        let config = Config::default().concurrency(self.concurrency);
        let queue = triggers.map(Ok::<_, Infallible>).take_until(stopped(stop));
        let again = |job: Arc<JobMeta>, error: &Error, ctx: Arc<Context>| retry(&ctx, &key_of(&job), error);
        let jobs = applier(spawned, again, ctx, reader, queue, config).for_each(|_| std::future::ready(()));
        // The sweep never ends by itself.
        tokio::select! {
            () = jobs => {}
            () = sweep => {}
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone stops too.
    let _ = stop.wait_for(|stop| *stop).await.map(drop);
}

type JobMeta = PartialObjectMeta<StreamJob>;

fn key_of(job: &JobMeta) -> JobKey {
    let meta = &job.metadata;
    JobKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// A look as a task of its own.
fn spawned(job: Arc<JobMeta>, ctx: Arc<Context>) -> BoxFuture<'static, Result<Action, Error>> {
    let task = tokio::spawn(look(job, ctx));
    async move { task.await.unwrap_or_else(|ended| Err(Error::Panicked(ended.to_string()))) }.boxed()
}

/// A look with what belongs around it: a panic fails this look alone; it is counted and logged.
async fn look(job: Arc<JobMeta>, ctx: Arc<Context>) -> Result<Action, Error> {
    let key = key_of(&job);
    let began = Instant::now();
    let looked = AssertUnwindSafe(reconcile(&ctx, &key)).catch_unwind().await;
    let looked = looked.unwrap_or_else(|panic| Err(Error::Panicked(panic_text(panic.as_ref()))));
    let outcome = match &looked {
        Ok(_) => Outcome::Done,
        Err(error) if error.is_conflict() => Outcome::Conflict,
        Err(_) => Outcome::Failed,
    };
    ctx.metrics.reconciled("StreamJob", outcome, began.elapsed());
    let uid = ctx.cluster.jobs.get(&key, &key.name).map(|entry| entry.uid);
    match (&looked, uid) {
        (Ok(_), Some(uid)) => ctx.notes.edit(&uid, |note| note.failures = 0),
        (Err(error), Some(uid)) if !error.is_conflict() => ctx.notes.edit(&uid, |note| note.failures += 1),
        _ => {}
    }
    looked.map(|again| again.map_or_else(Action::await_change, Action::requeue))
}

/// When to look again after a look that failed.
fn retry(ctx: &Context, key: &JobKey, error: &Error) -> Action {
    if error.is_conflict() {
        tracing::debug!(job = key.name, namespace = key.namespace, error = observe::chain(error), "looking again");
        return Action::requeue(AFTER_CONFLICT);
    }
    let seen = ctx.cluster.jobs.get(key, &key.name);
    let failures = seen.as_ref().map_or(1, |entry| ctx.notes.get(&entry.uid).failures);
    let wait = backoff(failures, &key.name);
    tracing::warn!(
        job = key.name,
        namespace = key.namespace,
        error = observe::chain(error),
        failures,
        retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        "a look at a job failed"
    );
    Action::requeue(wait)
}

/// Twice as long each time; jobs that fail for one reason do not all come back at one moment.
fn backoff(failures: u32, name: &str) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_RETRY);
    let share = xxhash_rust::xxh3::xxh3_64(name.as_bytes()) % 256;
    doubled + doubled.mul_f64(share as f64 / 1024.0)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_come_later_each_time_up_to_a_limit() {
        let waits: Vec<_> = (1..=12).map(|failures| backoff(failures, "bids")).collect();
        assert!(waits.is_sorted());
        assert!(waits[0] >= FIRST_RETRY && waits[0] < FIRST_RETRY * 2);
        assert!(waits[11] >= LAST_RETRY && waits[11] < LAST_RETRY * 2);
        assert_ne!(backoff(9, "bids"), backoff(9, "asks"));
    }
}
