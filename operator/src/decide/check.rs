//! Whether the state fits a new program: asked of a short pod of the new image, before anything stops.

use weir_crds::{ChangeStep, Reason};

use super::draft::{Draft, Trouble};
use super::health::{Standing, last_words, standing};
use super::view::View;
use crate::model::{Action, CheckVerdict, Exit, PodSeen, RevisionSeen, Role};

/// The exit code of a check that has found a misfit.
const MISFIT: i32 = 2;

/// Whether a revision has to be checked before it is told to anybody.
pub(super) fn is_needed(view: &View<'_>, target: &RevisionSeen) -> bool {
    let content = &target.content;
    let other = view.current().is_none_or(|current| current.content.program != content.program);
    let begins_elsewhere = content.restore.is_some()
        || view.current().is_some_and(|current| current.content.restored_from != content.restored_from);
    view.in_force > 0
        && view.in_force < target.number
        && other
        && content.takes_back.is_none()
        && !begins_elsewhere
        && !view.is_stable(content.program)
}

fn pods<'a>(view: &View<'a>, target: &RevisionSeen) -> impl Iterator<Item = &'a PodSeen> + use<'a> {
    let program = target.content.program;
    view.seen.pods.iter().filter(move |pod| pod.role == Role::Check && pod.revision == program && !pod.deleting)
}

/// What the check has found, if it has ended.
pub(super) fn verdict(view: &View<'_>, target: &RevisionSeen) -> Option<CheckVerdict> {
    if !is_needed(view, target) {
        return Some(CheckVerdict::Fits);
    }
    pods(view, target).find_map(|pod| match pod.exit() {
        Some(exit) if exit.code == 0 => Some(CheckVerdict::Fits),
        Some(exit) if exit.code == MISFIT => Some(CheckVerdict::Misfit { message: told(exit) }),
        _ => None,
    })
}

/// What the check says is JSON; if that was cut it is shown as it is.
fn told(exit: &Exit) -> String {
    let verdict = serde_json::from_str::<serde_json::Value>(&exit.message).ok();
    let message = verdict.as_ref().and_then(|verdict| verdict["message"].as_str());
    message.map_or_else(|| last_words(exit), str::to_owned)
}

/// Has it checked; what hinders that is told.
pub(super) fn check(view: &View<'_>, target: &RevisionSeen, draft: &mut Draft) {
    if let Some(change) = &mut draft.change {
        change.step = ChangeStep::Checking;
    }
    let mut waits = false;
    for pod in pods(view, target) {
        match standing(pod) {
            Standing::Stuck(trouble) => {
                draft.troubles.push(trouble);
                waits = true;
            }
            // It could not look, as when the store is away: another one may.
            Standing::Gone(_) | Standing::Crashing(_) => {
                let why = pod.exit().map_or_else(|| "its pod is gone".to_owned(), last_words);
                draft.troubles.push(Trouble::new(Reason::CrashLooping, format!("the check ended: {why}")));
                let ended = pod.exit().and_then(|exit| exit.finished).unwrap_or(pod.created);
                let due = ended.checked_add(jiff::SignedDuration::from_secs(10)).unwrap_or(view.now);
                if due <= view.now {
                    draft.act(Action::DeletePod { pod: pod.name.clone(), uid: pod.uid.clone() });
                } else {
                    draft.look_at(due, view.now);
                }
                waits = true;
            }
            _ => waits = true,
        }
    }
    if !waits {
        draft.act(Action::CreateCheck { program: target.content.program });
    }
}
