//! Names, labels and annotations of everything that belongs to a job.

/// Value of `app.kubernetes.io/name` on everything that belongs to a job.
pub const APP: &str = "weir-job";
/// Value of `app.kubernetes.io/managed-by`, and the field manager of server-side apply.
pub const CONTROLLER: &str = "weir-operator";

/// What all labels and annotations begin with that have a meaning to the controller.
pub const PREFIX: &str = "weir.dev/";
/// Label: the kind of application.
pub const LABEL_APP: &str = "app.kubernetes.io/name";
/// Label: who looks after the object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: the StreamJob's name.
pub const LABEL_JOB: &str = "weir.dev/job";
/// Label of a worker pod: its place among the workers, from 0; 0 leads.
pub const LABEL_ORDINAL: &str = "weir.dev/ordinal";
/// Label: the revision whose program a pod runs.
pub const LABEL_REVISION: &str = "weir.dev/revision";
/// Label of a pod: counts the pods of one ordinal.
pub const LABEL_ATTEMPT: &str = "weir.dev/attempt";
/// Label of a pod: `worker`, `check` or `maintenance`.
pub const LABEL_ROLE: &str = "weir.dev/role";
/// Label of the pods that run the job now (`true`): the scale selector.
pub const LABEL_ACTIVE: &str = "weir.dev/active";

/// Annotation of a worker pod: how many pods in a row of its ordinal have failed before it.
pub const FAILURES: &str = "weir.dev/failures";
/// Annotation of a worker pod: when the first of these failed, as a timestamp.
pub const FAILING_SINCE: &str = "weir.dev/failing-since";
/// Annotation of a job's Service: the highest attempt for which a leader's pod may ever have been made.
pub const LEADER_ATTEMPT: &str = "weir.dev/leader-attempt";
/// Annotation of a job's Service for users: the revision in force when it was last written.
pub const IN_FORCE: &str = "weir.dev/revision-in-force";
/// Annotation of a maintenance pod: the uid of what it is for.
pub const REQUEST: &str = "weir.dev/request";

/// Annotation of a StreamJob: a new value restarts all workers, with a savepoint before.
pub const RESTART: &str = "weir.dev/restart";
/// Annotation of a StreamJob: `true` makes the controller leave the job alone, but for its status and its deletion.
pub const PAUSE: &str = "weir.dev/pause-reconcile";

/// Annotations of a revision: what became of it.
pub const MARK_STABLE: &str = "weir.dev/stable";
/// The reason and the message of a revision that failed.
pub const MARK_FAILED: &str = "weir.dev/failed";
/// The revision was stopped because the user wanted it.
pub const MARK_SUSPENDED: &str = "weir.dev/suspended";
/// The revision has reached the end of its input.
pub const MARK_FINISHED: &str = "weir.dev/finished";

/// Finalizer of a StreamJob whose state is looked after when it is deleted.
pub const JOB_FINALIZER: &str = "weir.dev/state";
/// Finalizer of a Savepoint whose state is deleted with it.
pub const SAVEPOINT_FINALIZER: &str = "weir.dev/savepoint";

/// Port on which the leader takes registrations.
pub const CONTROL_PORT: u16 = 7071;
/// Port on which workers take rows.
pub const EXCHANGE_PORT: u16 = 7072;
/// Port of health and metrics.
pub const HEALTH_PORT: u16 = 8080;
/// Port of the leader's API.
pub const API_PORT: u16 = 8081;

/// Name of the worker pods' certificate Secret.
#[must_use]
pub fn worker_tls(job: &str) -> String {
    format!("{job}-worker-tls")
}

/// Name of a worker pod.
#[must_use]
pub fn worker(job: &str, ordinal: u32, revision: u64, attempt: u64) -> String {
    format!("{job}-w{ordinal}-{revision}-{attempt}")
}

/// Name of a revision, and of its ConfigMap; its check pod is called `<this>-check`.
#[must_use]
pub fn revision(job: &str, number: u64) -> String {
    format!("{job}-r{number}")
}

/// Name of the Service at which the workers of a program find their leader; `revision` is the one the pods are of.
#[must_use]
pub fn leader_service(job: &str, revision: u64) -> String {
    format!("{job}-leader-{revision}")
}

/// Name of the Service through which people reach the leader of the running revision.
#[must_use]
pub fn service(job: &str) -> String {
    format!("{job}-leader")
}
