//! How a worker's pod stands, and what hinders it.

use std::time::Duration;

use jiff::Timestamp;
use weir_crds::{Reason, RestartStrategy};
use xxhash_rust::xxh3::xxh3_64;

use super::draft::Trouble;
use crate::model::{ContainerState, Exit, Phase, PodSeen};

/// The exit code of a worker whose user must change something: it is started again by the kubelet alone.
const USER_ERROR: i32 = 2;

/// How a worker's pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It runs, or will.
    Well,
    /// It will not run before something is there that is missing: another pod would not either.
    Stuck(Trouble),
    /// The user must change something; another pod would end the same way.
    Refused(String),
    /// It is gone, or nobody knows where: it is replaced at once.
    Gone(String),
    /// Its container ends again and again: it is replaced after a while.
    Crashing(Exit),
}

/// How a worker's pod stands.
pub(super) fn standing(pod: &PodSeen) -> Standing {
    if pod.deleting {
        return Standing::Gone(format!("pod {} is being deleted", pod.name));
    }
    match pod.phase {
        Phase::Failed | Phase::Succeeded | Phase::Unknown => {
            let why = pod.phase_message.clone().unwrap_or_else(|| format!("it is in phase {:?}", pod.phase));
            return Standing::Gone(format!("pod {} has ended: {why}", pod.name));
        }
        Phase::Pending | Phase::Running => {}
    }
    // The kubelet says both; the one that is said alone comes from those who miss the kubelet.
    if pod.phase == Phase::Running && pod.ready == Some(false) && pod.container.ready {
        return Standing::Gone(format!("the node of pod {} is lost", pod.name));
    }
    if let Some(message) = &pod.unscheduled {
        return Standing::Stuck(Trouble::new(Reason::Unschedulable, format!("pod {}: {message}", pod.name)));
    }
    match &pod.container.state {
        ContainerState::Waiting { reason, message } => waiting(pod, reason, message),
        ContainerState::Terminated(exit) if exit.code == USER_ERROR => Standing::Refused(last_words(exit)),
        _ => Standing::Well,
    }
}

fn waiting(pod: &PodSeen, reason: &str, message: &str) -> Standing {
    let stuck = |kind: Reason| {
        let text = if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") };
        Standing::Stuck(Trouble::new(kind, format!("pod {}: {text}", pod.name)))
    };
    match reason {
        "CrashLoopBackOff" => match pod.exit() {
            Some(exit) if exit.code == USER_ERROR => Standing::Refused(last_words(exit)),
            exit => Standing::Crashing(exit.cloned().unwrap_or_default()),
        },
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "RegistryUnavailable" => {
            stuck(Reason::ImageUnavailable)
        }
        "CreateContainerConfigError" if message.to_lowercase().contains("secret") => stuck(Reason::SecretMissing),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            stuck(Reason::ContainerNotStarted)
        }
        _ => Standing::Well,
    }
}

/// What a container said before it ended.
pub(super) fn last_words(exit: &Exit) -> String {
    match (exit.message.trim(), exit.reason.as_str()) {
        ("", "") => format!("it ended with exit code {}", exit.code),
        ("", reason) => format!("it ended with exit code {} ({reason})", exit.code),
        (message, _) => message.to_owned(),
    }
}

/// Whether its process is up, as far as the kubelet knows.
pub(super) fn is_up(pod: &PodSeen) -> bool {
    standing(pod) == Standing::Well && matches!(pod.container.state, ContainerState::Running { .. })
}

/// When a crashing pod is replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// At this moment, by one that remembers so many failures since a moment.
    At { moment: Timestamp, failures: u32, since: Timestamp },
    /// Never: the strategy allows no more.
    Never,
}

/// When the strategy has a crashing pod replaced.
pub(super) fn pace(strategy: &RestartStrategy, pod: &PodSeen, exit: &Exit, now: Timestamp) -> Pace {
    let ended = exit.finished.unwrap_or(now);
    let lived = exit.started.map_or(Duration::ZERO, |started| span(started, ended));
    let since = pod.failing_since.unwrap_or(ended);
    let (failures, since) = match strategy {
        RestartStrategy::ExponentialDelay { reset_after, .. } if lived >= *reset_after => (0, ended),
        RestartStrategy::FailureRate { window, .. } if span(since, ended) > *window => (0, ended),
        _ => (pod.failures, since),
    };
    let (delay, allowed) = match strategy {
        RestartStrategy::ExponentialDelay { initial, max, multiplier, jitter, .. } => {
            let exponent = i32::try_from(failures.min(1_000)).unwrap_or(1_000);
            let grown = initial.as_secs_f64() * multiplier.powi(exponent);
            let delay = grown.min(max.as_secs_f64());
            // The pod's uid stands in for chance: the same pod gets the same delay however often it is asked.
            let chance = (xxh3_64(pod.uid.as_bytes()) % 2_001) as f64 / 1_000.0 - 1.0;
            let jittered = (delay * (1.0 + jitter * chance)).clamp(0.0, 86_400.0);
            (Duration::from_secs_f64(jittered), u32::MAX)
        }
        RestartStrategy::FixedDelay { attempts, delay } => (*delay, *attempts),
        RestartStrategy::FailureRate { max_failures, delay, .. } => (*delay, *max_failures),
        RestartStrategy::None => (Duration::ZERO, 0),
    };
    if failures >= allowed {
        return Pace::Never;
    }
    let delay = jiff::SignedDuration::try_from(delay).unwrap_or(jiff::SignedDuration::MAX);
    let moment = ended.checked_add(delay).unwrap_or(Timestamp::MAX);
    Pace::At { moment, failures: failures.saturating_add(1), since }
}

fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
