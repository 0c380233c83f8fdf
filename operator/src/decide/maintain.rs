//! Short pods that work on the state of a stopped job: one at a time.

use std::time::Duration;

use super::draft::Draft;
use super::fleet::next_leader_attempt;
use super::health::{Standing, last_words, standing};
use super::said::{Said, Verdict};
use super::view::View;
use crate::model::{Action, Maintenance, Phase, PodSeen, Role};

/// What became of a piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// It is on its way, or another one is; for humans.
    Waits(String),
    /// It is done.
    Done,
    /// It failed; what the pod said.
    Failed(String),
}

/// Has a piece of work done; `request` is the uid of what it is for.
pub(super) fn work(view: &View<'_>, request: &str, arguments: &[&str], draft: &mut Draft) -> Work {
    let pods = || view.seen.pods.iter().filter(|pod| pod.role == Role::Maintenance && !pod.deleting);
    if let Some(own) = pods().find(|pod| pod.request.as_deref() == Some(request)) {
        return look_at(own, draft);
    }
    if let Some(other) = pods().find(|pod| !matches!(pod.phase, Phase::Succeeded | Phase::Failed)) {
        return Work::Waits(format!("pod {} to end its work", other.name));
    }
    let newest = view.current().or(view.newest()).or(view.revisions.last().copied());
    let Some(program) = newest.map(|newest| newest.content.program) else {
        return Work::Done;
    };
    let attempt = next_leader_attempt(view, program);
    draft.act(Action::Certificates);
    draft.act(Action::Prepare { program, workers: 1 });
    draft.act(Action::Lead { program, attempt, address: None });
    draft.act(Action::CreateMaintenance(Maintenance {
        pod: format!("{}-m{attempt}-{program}", view.seen.name()),
        program,
        attempt,
        request: request.to_owned(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
    }));
    draft.look_again(Duration::from_secs(2));
    Work::Waits("a pod that works on the state".to_owned())
}

fn look_at(pod: &PodSeen, draft: &mut Draft) -> Work {
    match pod.phase {
        Phase::Succeeded if pod.exit().and_then(Said::of).is_some_and(|said| said.verdict == Verdict::Done) => {
            Work::Done
        }
        Phase::Succeeded => Work::Failed(format!(
            "pod {} ended without a word of its work: its image holds no weir, or an older one",
            pod.name
        )),
        Phase::Failed => {
            Work::Failed(pod.exit().map(last_words).or_else(|| pod.phase_message.clone()).unwrap_or_default())
        }
        Phase::Unknown => {
            draft.act(Action::DeletePod { pod: pod.name.clone(), uid: pod.uid.clone() });
            Work::Waits(format!("another pod: the node of {} is lost", pod.name))
        }
        Phase::Pending | Phase::Running => {
            draft.look_again(Duration::from_secs(2));
            if let Standing::Stuck(trouble) = standing(pod) {
                let message = trouble.message.clone();
                draft.troubles.push(trouble);
                return Work::Waits(message);
            }
            Work::Waits(format!("pod {} works on the state", pod.name))
        }
    }
}

/// The pods whose work is done and written down go.
pub(super) fn clear(view: &View<'_>, is_wanted: impl Fn(&str) -> bool, draft: &mut Draft) {
    let over = view.seen.pods.iter().filter(|pod| {
        let ended = matches!(pod.phase, Phase::Succeeded | Phase::Failed);
        pod.role == Role::Maintenance && ended && !pod.request.as_deref().is_some_and(&is_wanted)
    });
    super::fleet::delete(over, draft);
}

/// Whether the job has no worker, not even one on its way out: only then is its state anybody's to work on.
pub(super) fn is_still(view: &View<'_>) -> bool {
    view.workers().next().is_none()
}

/// The pod that failed goes after a while, so that another one is made.
pub(super) fn try_again(view: &View<'_>, request: &str, draft: &mut Draft) {
    let ended = |pod: &&PodSeen| matches!(pod.phase, Phase::Succeeded | Phase::Failed);
    let failed = view.seen.pods.iter().filter(|pod| pod.role == Role::Maintenance).filter(ended);
    for pod in failed.filter(|pod| pod.request.as_deref() == Some(request) && !pod.deleting) {
        let ended = pod.exit().and_then(|exit| exit.finished).unwrap_or(pod.created);
        let pause = Duration::from_secs(10).saturating_sub(view.since(ended));
        match pause.is_zero() {
            true => draft.act(Action::DeletePod { pod: pod.name.clone(), uid: pod.uid.clone() }),
            false => draft.look_again(pause),
        }
    }
}
