//! The one check of a manifest: from text or from a typed resource to a [`ValidatedJob`], or to every mistake in it.
//!
//! Two passes over one tree: `structure` compares it with the CRD's schema, `relation` checks the rules between fields.
//! What both let through is taken apart into enums here, once.

mod form;
mod mistake;
mod path;
mod relation;
mod structure;
mod wording;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde_json::Value;

use crate::manifest::{Content, Node, text_position};
use crate::{
    CheckpointSpec, Checkpointing, ConfigMapKey, PipelineSpec, RestartSpec, RestartStrategy, RestoreFrom, RestoreSpec,
    Rollback, Sql, Storage, StorageSpec, StreamJob, ValidatedJob, schema,
};

pub(crate) use form::Form;
pub use mistake::Mistake;
pub(crate) use mistake::excerpt;

/// Reads the one StreamJob in a YAML text.
///
/// Any text is answered, in bounded time and memory.
///
/// # Errors
/// Every mistake that can be told apart, in the order of the text: a text that is no YAML, or no StreamJob, has one.
pub fn parse(text: &str) -> Result<ValidatedJob, Vec<Mistake>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = Node::read(text).map_err(|mistake| vec![mistake])?;
    is_stream_job(&root).map_err(|mistake| vec![mistake])?;
    let mut job = check(&root).map_err(in_text_order)?;
    job.sql_position = root.at_path("spec.pipeline.sql").and_then(|sql| text_position(text, sql));
    Ok(job)
}

/// Checks a StreamJob that the API server has taken, or that was built in code.
///
/// # Errors
/// Every mistake, without lines and columns.
pub fn validate(job: &StreamJob) -> Result<ValidatedJob, Vec<Mistake>> {
    let value = serde_json::to_value(job)
        .map_err(|error| vec![Mistake::of_file(format!("the job cannot be written as JSON: {error}"), None)])?;
    check(&Node::from(value))
}

/// Checks a change of a StreamJob that exists: what cannot be changed in it, besides what [`validate`] checks.
///
/// # Errors
/// Every mistake, without lines and columns.
pub fn validate_update(old: &StreamJob, new: &StreamJob) -> Result<ValidatedJob, Vec<Mistake>> {
    let forbidden = relation::check_update(&old.spec, &new.spec);
    match validate(new) {
        Ok(job) if forbidden.is_empty() => Ok(job),
        Ok(_) => Err(forbidden),
        Err(mut mistakes) => {
            mistakes.extend(forbidden);
            Err(mistakes)
        }
    }
}

/// Tells what else a document is, before its fields are called mistakes.
fn is_stream_job(root: &Node) -> Result<(), Mistake> {
    if !matches!(root.content, Content::Map(_)) {
        return Err(Mistake::of_file("expected a StreamJob, found something that is no map of fields".into(), root.at)
            .hint("a manifest begins with apiVersion: weir.dev/v1alpha1 and kind: StreamJob; SQL goes into spec.pipeline.sql"));
    }
    for (field, expected) in [("kind", StreamJob::kind(&())), ("apiVersion", StreamJob::api_version(&()))] {
        let Some(node) = root.field(field) else {
            continue;
        };
        if node.content != Content::Text(expected.to_string()) {
            let found = match &node.content {
                Content::Text(text) => excerpt(text),
                other => excerpt(&Node { content: other.clone(), at: None }.to_json().to_string()),
            };
            return Err(Mistake::new(field, node.at, format!("expected {expected}, found {found}"))
                .hint("this reads manifests with apiVersion: weir.dev/v1alpha1 and kind: StreamJob"));
        }
    }
    Ok(())
}

fn check(root: &Node) -> Result<ValidatedJob, Vec<Mistake>> {
    let structure::Checked { repaired, mut mistakes } = structure::check(&schema::MANIFEST, root);
    match read(repaired) {
        Ok(job) => {
            mistakes.extend(relation::check(&job, root, &mistakes));
            if mistakes.is_empty() { Ok(take_apart(job)) } else { Err(mistakes) }
        }
        // The metadata is typed by Kubernetes more narrowly than its schema says (times, for one).
        Err(error) if mistakes.is_empty() => {
            Err(vec![Mistake::of_file(format!("the manifest cannot be read: {error}"), root.at)])
        }
        Err(_) => Err(mistakes),
    }
}

fn read(mut repaired: Value) -> Result<StreamJob, serde_json::Error> {
    if let Some(fields) = repaired.as_object_mut() {
        fields.remove("status");
    }
    serde_json::from_value(repaired)
}

fn in_text_order(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort_by_key(|mistake| (mistake.line.unwrap_or(u32::MAX), mistake.column));
    mistakes
}

fn take_apart(raw: StreamJob) -> ValidatedJob {
    let ObjectMeta { name, namespace, .. } = raw.metadata.clone();
    let spec = &raw.spec;
    ValidatedJob {
        name: name.expect("a job without a name is refused"),
        namespace: namespace.unwrap_or_else(|| "default".into()),
        parallelism: spec.parallelism,
        max_parallelism: spec.max_parallelism,
        slots_per_worker: spec.slots_per_worker,
        state: spec.state,
        upgrade_mode: spec.upgrade_mode,
        restore_from: spec.restore_from.as_ref().and_then(restore_from),
        sql: sql(&spec.pipeline),
        sql_position: None,
        checkpoint: checkpointing(&spec.checkpoint),
        storage: spec.storage.as_ref().map(storage),
        restart: restart(&spec.restart),
        worker: spec.worker.clone(),
        rollback: Rollback { enabled: spec.rollback.enabled, deadline: spec.rollback.deadline.get() },
        allow_dropped_state: spec.allow_dropped_state,
        deletion_policy: spec.deletion_policy,
        raw,
    }
}

fn restore_from(spec: &RestoreSpec) -> Option<RestoreFrom> {
    let savepoint = spec.savepoint.clone().map(RestoreFrom::Savepoint);
    let path = || spec.path.clone().map(RestoreFrom::Path);
    let job = || spec.job.as_ref().map(|job| RestoreFrom::Job(job.name.clone()));
    savepoint.or_else(path).or_else(job)
}

fn sql(spec: &PipelineSpec) -> Sql {
    let inline = spec.sql.clone().map(Sql::Inline);
    let reference = || {
        let key = &spec.sql_from.as_ref()?.config_map_key_ref;
        Some(Sql::ConfigMap(ConfigMapKey { name: key.name.clone(), key: key.key.clone() }))
    };
    inline.or_else(reference).expect("a pipeline without SQL is refused")
}

fn checkpointing(spec: &CheckpointSpec) -> Checkpointing {
    Checkpointing {
        interval: spec.interval.get(),
        timeout: spec.timeout.get(),
        min_pause: spec.min_pause.get(),
        mode: spec.mode,
        unaligned_after: spec.unaligned.as_ref().map(|unaligned| unaligned.after.get()),
        tolerable_failures: spec.tolerable_failures,
        retain: spec.retain,
    }
}

fn storage(spec: &StorageSpec) -> Storage {
    let s3 = spec.s3.clone().map(Storage::S3);
    let local = || spec.local.clone().map(Storage::Local);
    let claim = || spec.persistent_volume_claim.clone().map(Storage::PersistentVolumeClaim);
    s3.or_else(local).or_else(claim).expect("a storage without a place is refused")
}

fn restart(spec: &RestartSpec) -> RestartStrategy {
    if let Some(delay) = &spec.exponential_delay {
        return RestartStrategy::ExponentialDelay {
            initial: delay.initial.get(),
            max: delay.max.get(),
            multiplier: delay.multiplier,
            jitter: delay.jitter,
            reset_after: delay.reset_after.get(),
        };
    }
    if let Some(fixed) = &spec.fixed_delay {
        return RestartStrategy::FixedDelay { attempts: fixed.attempts, delay: fixed.delay.get() };
    }
    if let Some(rate) = &spec.failure_rate {
        return RestartStrategy::FailureRate {
            max_failures: rate.max_failures,
            window: rate.window.get(),
            delay: rate.delay.get(),
        };
    }
    assert!(spec.none.is_some(), "a restart without a strategy is refused");
    RestartStrategy::None
}
