//! A job and everything about it that the controller has seen.

use std::collections::BTreeMap;

use jiff::Timestamp;
use weir_crds::{StreamJob, ValidatedJob};

use super::{LeaderSeen, PodSeen, Refused, RevisionSeen, SavepointSeen};

/// A job and everything about it that the controller has seen, at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The StreamJob as it is in the cluster, status included.
    pub job: StreamJob,
    /// What it asks for, as far as it can be understood.
    pub wish: Wish,
    /// The image of jobs that name none.
    pub default_image: String,
    /// All revisions of the job, in any order.
    pub revisions: Vec<RevisionSeen>,
    /// All pods of the job, of every role and in every state, in any order.
    pub pods: Vec<PodSeen>,
    /// The Services of the job by name: those of `name::leader_service` and that of `name::service`.
    pub services: BTreeMap<String, ServiceSeen>,
    /// What the leaders' pods (ordinal 0, role worker, with an address, not deleted) say, by the pod's name.
    pub leaders: BTreeMap<String, LeaderSeen>,
    /// Requests to leaders that were refused since this controller began, newest last; forgotten when one of the same
    /// subject is accepted.
    pub refused: Vec<Refused>,
    /// The Savepoints of this job.
    pub savepoints: Vec<SavepointSeen>,
    /// Where `spec.restoreFrom` leads, if it names a Savepoint or a job.
    pub origin: Option<OriginSeen>,
    /// What the job's pods mount and does not exist; `build::needed` names what to look for.
    pub missing: Vec<Needed>,
    /// Writes that the cluster refused lately, such as pods for which there is no quota, for humans.
    pub denied: Option<String>,
    /// The namespace is being deleted: nothing new can be made in it.
    pub namespace_ends: bool,
}

/// An object in the job's namespace, by name, without which its pods do not start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needed {
    /// A Secret.
    Secret(String),
    /// A ConfigMap.
    ConfigMap(String),
}

/// What a job asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// It can be understood.
    Valid {
        /// The job.
        job: Box<ValidatedJob>,
        /// Its SQL, wherever it stands.
        sql: String,
    },
    /// Fields contradict each other: what was asked before stays in force.
    Invalid {
        /// For humans: all mistakes, each with its field.
        message: String,
    },
    /// The ConfigMap of `sqlFrom` or its key is missing: what was asked before stays in force.
    NoSql {
        /// For humans.
        message: String,
    },
}

/// What `spec.restoreFrom.savepoint` or `.job` leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum OriginSeen {
    /// There is no such object.
    Missing {
        /// For humans.
        message: String,
    },
    /// It is not complete yet.
    Waiting {
        /// For humans.
        message: String,
    },
    /// A complete Savepoint.
    Savepoint {
        /// The uid of the job that it is of.
        job_uid: String,
        /// Its name in the store.
        name: String,
        /// `status.path`.
        path: String,
    },
    /// Another job.
    Job {
        /// Its StreamJob.
        job: Box<StreamJob>,
        /// Its leader's pod (name and address) if the job runs.
        leader: Option<(String, String)>,
        /// The savepoint of this job's own name there ([`crate::decide::fork_name`]), if it is complete.
        pinned: bool,
    },
}

/// A Service of the job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSeen {
    /// Its address; none before it has one, or for a headless one.
    pub address: Option<String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a check pod has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckVerdict {
    /// The job can go on with its state.
    Fits,
    /// It cannot.
    Misfit {
        /// For humans.
        message: String,
    },
}

impl Observed {
    /// The StreamJob's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.job.metadata.name.as_deref().unwrap_or_default()
    }

    /// The StreamJob's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.job.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The StreamJob's uid.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.job.metadata.uid.as_deref().unwrap_or_default()
    }

    /// When the StreamJob was deleted, if it was.
    #[must_use]
    pub fn deleted(&self) -> Option<Timestamp> {
        self.job.metadata.deletion_timestamp.as_ref().map(|time| time.0)
    }

    /// An annotation of the StreamJob.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.job.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }
}
