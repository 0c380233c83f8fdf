//! What is decided, and the writes that it becomes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use weir_crds::{CheckpointStatus, Reason, SavepointStatus, StreamJobStatus};

use super::{Ask, Content, Mark};

/// What is to happen to a job now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The status. If its `change` differs from what is in the cluster it is written before the actions; else after.
    pub status: StreamJobStatus,
    /// What is to be done, in this order; one that fails ends the round.
    pub actions: Vec<Action>,
    /// What is worth telling.
    pub events: Vec<Event>,
    /// Look again after so long at the latest, even if nothing happens.
    pub again: Option<Duration>,
    /// The job's newest checkpoint that is known: the status may tell of an older one, as it is not written for each.
    pub last_checkpoint: Option<CheckpointStatus>,
}

/// The state that a program is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Against {
    /// The job's own.
    Own,
    /// What the job is to begin with: a savepoint of its own, by its name in the store, or a path.
    Restored(String),
    /// None: it is enough that the program can be planned.
    Nothing,
}

/// One thing that is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The job's certificates are made, or renewed; pods that mount them come later in the list.
    Certificates,
    /// A revision is written down.
    Record {
        /// Its number.
        number: u64,
        /// What it says.
        content: Box<Content>,
    },
    /// What became of a revision is written down.
    Mark {
        /// Its number.
        number: u64,
        /// What became of it.
        mark: Mark,
    },
    /// A revision that nothing needs any more goes, with its ConfigMap and Service.
    Forget {
        /// Its number.
        number: u64,
    },
    /// ConfigMap of the revision `program`, PodDisruptionBudget and NetworkPolicy are as they should be.
    Prepare {
        /// The revision that the pods are of.
        program: u64,
        /// Worker pods of the revision in force.
        workers: u32,
    },
    /// The Service of `program`'s workers leads to the leader's pod of this attempt.
    Lead {
        /// The revision that the pods are of.
        program: u64,
        /// The attempt of the leader's pod.
        attempt: u64,
        /// The address that the Service must have, if its pods know one already.
        address: Option<String>,
    },
    /// The Service for people leads to the leader's pod of this revision and attempt.
    Serve {
        /// The revision that is in force.
        revision: u64,
        /// The revision that its pods are of.
        program: u64,
        /// The attempt of the leader's pod.
        attempt: u64,
    },
    /// A worker's pod is made.
    CreatePod(NewPod),
    /// A pod that tells whether a program fits the state that a revision begins with is made.
    CreateCheck {
        /// The revision.
        revision: u64,
        /// The revision that the program is of.
        program: u64,
        /// The state.
        against: Against,
    },
    /// A pod that works on the state of the stopped job is made.
    CreateMaintenance(Maintenance),
    /// A pod comes into the scale selector, or leaves it.
    Activate {
        /// Its name.
        pod: String,
        /// Its uid.
        uid: String,
        /// Whether it is in it.
        active: bool,
    },
    /// A pod goes.
    DeletePod {
        /// Its name.
        pod: String,
        /// Its uid.
        uid: String,
    },
    /// A leader is asked for something.
    Ask(Ask),
    /// The job's finalizer is set or taken away.
    Finalizer(Finalizer),
    /// A Savepoint's finalizer is set or taken away.
    SavepointFinalizer {
        /// The Savepoint.
        name: String,
        /// Its uid.
        uid: String,
        /// Set or taken away.
        finalizer: Finalizer,
    },
    /// A Savepoint's status is written.
    SavepointStatus {
        /// The Savepoint.
        name: String,
        /// Its uid.
        uid: String,
        /// The status.
        status: Box<SavepointStatus>,
    },
}

/// Whether a finalizer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalizer {
    /// It is.
    Set,
    /// It is not.
    Removed,
}

/// A worker's pod that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPod {
    /// The revision whose program it runs.
    pub program: u64,
    /// Its place among the workers.
    pub ordinal: u32,
    /// Counts the pods of the ordinal.
    pub attempt: u64,
    /// The address of the Service of its leader.
    pub leader: String,
    /// Whether it is in the scale selector.
    pub active: bool,
    /// Pods of its ordinal that failed before it, in a row.
    pub failures: u32,
    /// When the first of these failed.
    pub failing_since: Option<Timestamp>,
}

/// Work on the state of a stopped job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// Name of the pod.
    pub pod: String,
    /// The revision whose program it runs.
    pub program: u64,
    /// It claims as the leader of this attempt.
    pub attempt: u64,
    /// The uid of what it is for.
    pub request: String,
    /// The arguments of `weir`, up to the manifest.
    pub arguments: Vec<String>,
}

/// Something that is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether it needs attention.
    pub kind: EventKind,
    /// From the closed list.
    pub reason: Reason,
    /// For humans.
    pub message: String,
}

/// Whether an event needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It does not.
    Normal,
    /// It does.
    Warning,
}

/// One write to the cluster, or request to a leader.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The job's certificates: Secrets `<job>-ca`, `<job>-worker-tls`, `<job>-controller-tls`.
    Certificates,
    /// Server-side apply.
    Apply(Object),
    /// Created by name; that it exists already is as good.
    CreateRevision(Box<ControllerRevision>),
    /// Created by name; that it exists already is as good.
    CreatePod(Box<Pod>),
    /// An annotation of a revision object is set.
    Annotate {
        /// The ControllerRevision.
        revision: String,
        /// Annotation and value.
        annotation: (String, String),
    },
    /// A label of a pod is set, or removed, if it has this uid.
    Label {
        /// The pod.
        pod: String,
        /// Its uid.
        uid: String,
        /// The label.
        label: String,
        /// Its value.
        value: Option<String>,
    },
    /// A pod is deleted, if it has this uid.
    DeletePod {
        /// The pod.
        pod: String,
        /// Its uid.
        uid: String,
    },
    /// A revision's objects are deleted, if they are there: ConfigMap, Service, and last the ControllerRevision.
    DeleteRevision {
        /// The ConfigMap and the ControllerRevision.
        revision: String,
        /// The Service.
        service: String,
    },
    /// A leader is asked.
    Ask(Ask),
    /// The finalizer `name::JOB_FINALIZER` of the StreamJob.
    Finalizer(Finalizer),
    /// The finalizer `name::SAVEPOINT_FINALIZER` of a Savepoint.
    SavepointFinalizer {
        /// The Savepoint.
        name: String,
        /// Its uid.
        uid: String,
        /// Set or taken away.
        finalizer: Finalizer,
    },
    /// The status of a Savepoint.
    SavepointStatus {
        /// The Savepoint.
        name: String,
        /// Its uid.
        uid: String,
        /// The status.
        status: Box<SavepointStatus>,
    },
}

/// An object that is applied as often as one likes.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A revision's manifest.
    ConfigMap(Box<ConfigMap>),
    /// Where workers or people find the leader.
    Service(Box<Service>),
    /// How many workers may be evicted at once.
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    /// Who may talk to the workers.
    NetworkPolicy(Box<NetworkPolicy>),
}
