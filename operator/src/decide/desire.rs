//! What the user wants, as a revision could say it.
//!
//! Two programs are the same if the manifests that their workers read mean the same to this version of the controller:
//! stored ones are read again and compared, hashes are not. So a new controller, which may know more fields, and a new
//! default image restart no job. Only what has not begun yet takes up a new default image: a wrong one may be why.

use serde_json::{Map, Value, json};
use weir_crds::{Reason, StreamJobSpec, UpgradeMode, ValidatedJob};
use xxhash_rust::xxh3::xxh3_128;

use super::draft::Trouble;
use super::fork_name;
use super::view::View;
use crate::model::{Content, OriginSeen, RestorePoint, RevisionSeen, Wish, name, restore_path};

/// What the user wants.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    /// Hash of all that decides whether a change can succeed.
    pub(super) key: String,
    pub(super) program: Program,
    pub(super) parallelism: u32,
    pub(super) workers: u32,
    pub(super) upgrade_mode: UpgradeMode,
    /// A state to begin with that was not used yet.
    pub(super) restore: Option<Restore>,
}

/// What pods are made of.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) manifest: Value,
    pub(super) image: String,
    pub(super) restart: Option<String>,
    pub(super) restored_from: Option<String>,
}

/// A state to begin with.
#[derive(Clone, Debug)]
pub(super) enum Restore {
    /// A savepoint of this job.
    Own(String),
    /// A path; the manifest carries it.
    Path,
    /// Another job's, which has to be asked first.
    Pin,
    /// It is not there.
    Missing(String),
}

/// What a user wants, or why it cannot be followed.
pub(super) fn desired(view: &View<'_>) -> Result<Desired, Trouble> {
    let (job, sql) = match &view.seen.wish {
        Wish::Valid { job, sql } => (job, sql),
        Wish::Invalid { message } => return Err(Trouble::new(Reason::InvalidSpec, message)),
        Wish::NoSql { message } => return Err(Trouble::new(Reason::SqlMissing, message)),
    };
    if job.storage.is_none() {
        let message = "spec.storage: a job on a cluster needs a place for its state; name a bucket in storage.s3";
        return Err(Trouble::new(Reason::InvalidSpec, message));
    }
    let used = used(view);
    let asked = job.raw.spec.restore_from.as_ref().filter(|_| job.restore_from.is_some());
    let asked = asked.map(|from| hash(&json!(from)));
    let fresh = asked.clone().filter(|asked| used.as_ref() != Some(asked));
    let (found, path) = match &fresh {
        Some(_) => find(view, job),
        None => (None, None),
    };
    let program = Program {
        manifest: manifest(view, job, sql, path),
        image: job.worker.image.clone().unwrap_or_else(|| view.seen.default_image.clone()),
        restart: view.seen.annotation(name::RESTART).map(str::to_owned),
        restored_from: fresh.or(used),
    };
    let restore = found.filter(|found| !is_recorded(view, &program, found));
    let key = json!([
        meaning(&program.manifest),
        program.restart,
        asked,
        job.allow_dropped_state,
        format!("{:?}", job.upgrade_mode),
    ]);
    Ok(Desired {
        key: hash(&key),
        program,
        parallelism: job.parallelism,
        workers: job.workers(),
        upgrade_mode: job.upgrade_mode,
        restore,
    })
}

/// The value of `restoreFrom` that was used last: by what has begun, not by what was only written down.
pub(super) fn used(view: &View<'_>) -> Option<String> {
    let begun = |revision: &&&RevisionSeen| revision.number <= view.in_force || revision.is_stable();
    match view.revisions.iter().rev().find(begun) {
        Some(newest) => newest.content.restored_from.clone(),
        None => view.status.restored_from.clone().filter(|_| view.in_force > 0),
    }
}

/// Whether the newest revision, which has not begun, is this program and begins with this state.
fn is_recorded(view: &View<'_>, program: &Program, found: &Restore) -> bool {
    let Some(newest) = view.newest() else { return false };
    let Some(recorded) = view.revision(newest.content.program).filter(|recorded| program.is(view, recorded)) else {
        return false;
    };
    let recorded = recorded.content.manifest.as_ref().and_then(restore_path);
    // The state of a job that was asked to keep it is there whether or not its leader answers now.
    let is_kept = recorded.is_some_and(|path| path.ends_with(&fork_name(view.seen.uid())));
    match found {
        Restore::Own(name) => newest.content.restore == Some(RestorePoint::Savepoint(name.clone())),
        Restore::Path => is_kept || recorded == restore_path(&program.manifest),
        Restore::Pin => is_kept,
        // It was there when the revision was recorded, and may be needed no more.
        Restore::Missing(_) => true,
    }
}

/// Where `restoreFrom` leads, and the path that workers can follow.
fn find(view: &View<'_>, job: &ValidatedJob) -> (Option<Restore>, Option<String>) {
    use weir_crds::RestoreFrom;
    let missing = |message: &str| (Some(Restore::Missing(message.to_owned())), None);
    match (&job.restore_from, &view.seen.origin) {
        (None, _) => (None, None),
        (Some(RestoreFrom::Path(path)), _) => (Some(Restore::Path), Some(path.clone())),
        (_, Some(OriginSeen::Missing { message } | OriginSeen::Waiting { message })) => missing(message),
        (_, Some(OriginSeen::Savepoint { job_uid, name, .. })) if job_uid == view.seen.uid() => {
            (Some(Restore::Own(name.clone())), None)
        }
        (_, Some(OriginSeen::Savepoint { path, .. })) => (Some(Restore::Path), Some(path.clone())),
        (_, Some(OriginSeen::Job { job, leader, pinned })) => {
            let Some(folder) = crate::build::place(job).filter(|_| crate::build::reads(&view.seen.job, job)) else {
                return missing("restoreFrom.job: the state of that job is on a volume that this job does not mount");
            };
            match (pinned, leader) {
                (true, _) => {
                    let path = format!("{folder}/savepoints/{}", fork_name(view.seen.uid()));
                    (Some(Restore::Path), Some(path))
                }
                (false, Some(_)) => (Some(Restore::Pin), None),
                (false, None) => (Some(Restore::Path), Some(folder)),
            }
        }
        (_, None) => missing("what restoreFrom names has not been looked for yet"),
    }
}

/// The StreamJob that workers read. Fields that only the controller reads are left out.
fn manifest(view: &View<'_>, job: &ValidatedJob, sql: &str, path: Option<String>) -> Value {
    let mut spec = json!(job.raw.spec);
    if let Some(fields) = spec.as_object_mut() {
        for field in ["state", "upgradeMode", "rollback", "deletionPolicy", "restoreFrom"] {
            fields.remove(field);
        }
        fields.insert("pipeline".to_owned(), json!({"sql": sql}));
        if let Some(path) = path {
            fields.insert("restoreFrom".to_owned(), json!({"path": path}));
        }
    }
    json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": view.seen.name(), "namespace": view.seen.namespace(), "uid": view.seen.uid()},
        "spec": spec,
    })
}

/// A hash of what a manifest means to its workers: without what is assigned, or used once.
fn meaning(manifest: &Value) -> String {
    // Read by today's types, a manifest of an earlier controller has today's defaults.
    let spec = serde_json::from_value::<StreamJobSpec>(manifest["spec"].clone());
    let mut spec = spec.map_or_else(|_| manifest["spec"].clone(), |spec| json!(spec));
    if let Some(fields) = spec.as_object_mut() {
        for field in ["parallelism", "slotsPerWorker", "allowDroppedState", "restoreFrom"] {
            fields.remove(field);
        }
    }
    hash(&spec)
}

impl Program {
    /// Whether a recorded program is this one. The image that a manifest does not name counts until it has begun.
    pub(super) fn is(&self, view: &View<'_>, recorded: &RevisionSeen) -> bool {
        let content = &recorded.content;
        (content.image == self.image || view.has_begun(recorded.number))
            && content.restart == self.restart
            && content.restored_from == self.restored_from
            && content.manifest.as_ref().is_some_and(|manifest| meaning(manifest) == meaning(&self.manifest))
    }

    /// Whether pods of a recorded program can be used for this one: even the parts of the manifest that count only once
    /// are the same, and the image, unless it is the program in force.
    pub(super) fn is_exactly(&self, view: &View<'_>, recorded: &RevisionSeen) -> bool {
        let dropped = |manifest: &Value| manifest["spec"]["allowDroppedState"].clone();
        let manifest = recorded.content.manifest.as_ref();
        let runs = view.current().is_some_and(|current| current.content.program == recorded.number);
        (runs || recorded.content.image == self.image)
            && self.is(view, recorded)
            && manifest.is_some_and(|manifest| dropped(manifest) == dropped(&self.manifest))
    }

    /// What runs, for the leader.
    pub(super) fn code(&self) -> String {
        hash(&json!([meaning(&self.manifest), self.image, self.restart, self.restored_from]))
    }
}

impl Desired {
    /// What a new revision with this program would say.
    pub(super) fn content(&self, number: u64) -> Content {
        let restore = match &self.restore {
            Some(Restore::Own(name)) => Some(RestorePoint::Savepoint(name.clone())),
            _ => None,
        };
        Content {
            key: self.key.clone(),
            code: self.program.code(),
            program: number,
            parallelism: self.parallelism,
            workers: self.workers,
            force: false,
            takes_back: None,
            restore,
            restored_from: self.program.restored_from.clone(),
            image: self.program.image.clone(),
            restart: self.program.restart.clone(),
            manifest: Some(self.program.manifest.clone()),
        }
    }
}

/// A hash that does not depend on the order of fields.
fn hash(value: &Value) -> String {
    format!("{:032x}", xxh3_128(sorted(value).to_string().as_bytes()))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            Value::Object(names.into_iter().map(|name| (name.clone(), sorted(&fields[name]))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
