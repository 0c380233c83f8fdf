//! A pod as it was seen.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self as core, Pod};

use super::name;

/// What a pod is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It runs the job.
    Worker,
    /// It tells whether a new program fits the job's state.
    Check,
    /// It works on the state of a stopped job.
    Maintenance,
}

impl Role {
    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Check => "check",
            Self::Maintenance => "maintenance",
        }
    }
}

/// A pod of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSeen {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// What it is for.
    pub role: Role,
    /// Its place among the workers; 0 for other roles.
    pub ordinal: u32,
    /// The revision whose program it runs.
    pub revision: u64,
    /// Counts the pods of an ordinal.
    pub attempt: u64,
    /// Whether it is in the scale selector.
    pub active: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why the phase is what it is, such as `Evicted: The node was low on resource`.
    pub phase_message: Option<String>,
    /// The condition Ready; none before it was first set.
    pub ready: Option<bool>,
    /// Why it has no node: the scheduler's words.
    pub unscheduled: Option<String>,
    /// Its address.
    pub address: Option<String>,
    /// Its only container.
    pub container: ContainerSeen,
    /// Pods of its ordinal that failed before it, in a row.
    pub failures: u32,
    /// When the first of these failed.
    pub failing_since: Option<Timestamp>,
    /// What a maintenance pod is for: the annotation `weir.dev/request`.
    pub request: Option<String>,
    /// The address at which it looks for its leader.
    pub leader: Option<String>,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all is there that it needs.
    Pending,
    /// Its container runs, or is about to again.
    Running,
    /// It has ended well.
    Succeeded,
    /// It has ended, or was ended: evicted, for example.
    Failed,
    /// Nobody knows: its node is lost.
    Unknown,
}

/// A pod's container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSeen {
    /// What it does.
    pub state: ContainerState,
    /// Whether the kubelet last found it ready.
    pub ready: bool,
    /// How often it was restarted.
    pub restarts: u32,
    /// How it ended before it was started again.
    pub last: Option<Exit>,
}

/// What a container does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// The kubelet has said nothing about it.
    #[default]
    Unknown,
    /// It is not there yet, or not yet again.
    Waiting {
        /// `ContainerCreating`, `ImagePullBackOff`, `CrashLoopBackOff`, ….
        reason: String,
        /// For humans.
        message: String,
    },
    /// It runs.
    Running {
        /// Since when.
        since: Option<Timestamp>,
    },
    /// It has ended.
    Terminated(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, ….
    pub reason: String,
    /// Its termination message.
    pub message: String,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

impl PodSeen {
    /// What a pod of a job says about itself; none if its labels are not those of a job's pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let label = |name: &str| meta.labels.as_ref()?.get(name).map(String::as_str);
        let annotation = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
        let role = [Role::Worker, Role::Check, Role::Maintenance]
            .into_iter()
            .find(|role| Some(role.label()) == label(name::LABEL_ROLE))?;
        let number = |name: &str| label(name).and_then(|text| text.parse::<u64>().ok());
        let ordinal = number(name::LABEL_ORDINAL).and_then(|number| u32::try_from(number).ok());
        if role == Role::Worker && ordinal.is_none() {
            return None;
        }
        let status = pod.status.clone().unwrap_or_default();
        let condition = |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
        let first = status.container_statuses.as_ref().and_then(|containers| containers.first());
        let env =
            pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|container| container.env.iter().flatten());
        Some(Self {
            name: meta.name.clone()?,
            uid: meta.uid.clone().unwrap_or_default(),
            role,
            ordinal: ordinal.unwrap_or(0),
            revision: number(name::LABEL_REVISION)?,
            attempt: number(name::LABEL_ATTEMPT).unwrap_or(0),
            active: label(name::LABEL_ACTIVE) == Some("true"),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            deleting: meta.deletion_timestamp.is_some(),
            phase: phase(status.phase.as_deref()),
            phase_message: told(status.reason.as_deref(), status.message.as_deref()),
            ready: condition("Ready").map(|condition| condition.status == "True"),
            unscheduled: condition("PodScheduled")
                .filter(|condition| condition.status == "False")
                .and_then(|condition| told(condition.reason.as_deref(), condition.message.as_deref())),
            address: status.pod_ip.clone().filter(|address| !address.is_empty()),
            container: first.map(container).unwrap_or_default(),
            failures: annotation(name::FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0),
            failing_since: annotation(name::FAILING_SINCE).and_then(|text| text.parse().ok()),
            request: annotation(name::REQUEST).map(str::to_owned),
            leader: env.filter(|variable| variable.name == "WEIR_LEADER").find_map(|variable| variable.value.clone()),
        })
    }

    /// Whether it is the pod of a leader.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.role == Role::Worker && self.ordinal == 0
    }

    /// How its container ended last, whether or not it was started again.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        match &self.container.state {
            ContainerState::Terminated(exit) => Some(exit),
            _ => self.container.last.as_ref(),
        }
    }
}

fn phase(text: Option<&str>) -> Phase {
    match text {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        _ => Phase::Pending,
    }
}

fn told(reason: Option<&str>, message: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = [reason, message].into_iter().flatten().filter(|text| !text.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

fn container(status: &core::ContainerStatus) -> ContainerSeen {
    ContainerSeen {
        state: status.state.as_ref().map(state).unwrap_or_default(),
        ready: status.ready,
        restarts: u32::try_from(status.restart_count).unwrap_or(0),
        last: status.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(exit),
    }
}

fn state(state: &core::ContainerState) -> ContainerState {
    if let Some(terminated) = &state.terminated {
        return ContainerState::Terminated(exit(terminated));
    }
    if let Some(running) = &state.running {
        return ContainerState::Running { since: running.started_at.as_ref().map(|time| time.0) };
    }
    match &state.waiting {
        Some(waiting) => ContainerState::Waiting {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: waiting.message.clone().unwrap_or_default(),
        },
        None => ContainerState::Unknown,
    }
}

fn exit(terminated: &core::ContainerStateTerminated) -> Exit {
    Exit {
        code: terminated.exit_code,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone().unwrap_or_default(),
        started: terminated.started_at.as_ref().map(|time| time.0),
        finished: terminated.finished_at.as_ref().map(|time| time.0),
    }
}
