//! Whether the state that a revision begins with fits its program: asked of a short pod of its image, before anything stops.

use weir_crds::{ChangeStep, Reason};

use super::draft::{Draft, Trouble};
use super::health::{Standing, last_words, standing};
use super::said::{Said, Verdict};
use super::view::View;
use crate::model::{Action, Against, CheckVerdict, PodSeen, RestorePoint, RevisionSeen, Role, restore_path};

/// Whether a revision has to be checked before it is told to anybody. That its program ran once says nothing about the state
/// that another one has made since.
pub(super) fn is_needed(view: &View<'_>, target: &RevisionSeen) -> bool {
    let content = &target.content;
    let other = view.current().is_none_or(|current| current.content.program != content.program);
    view.in_force > 0 && view.in_force < target.number && other && content.takes_back.is_none()
}

/// The state that a revision begins with.
fn against(view: &View<'_>, target: &RevisionSeen) -> Against {
    match &target.content.restore {
        Some(RestorePoint::Nothing) => return Against::Nothing,
        Some(RestorePoint::Savepoint(name)) => return Against::Restored(name.clone()),
        None => {}
    }
    let used = view.current().is_none_or(|current| current.content.restored_from == target.content.restored_from);
    let program = view.revision(target.content.program).filter(|_| !used);
    let path = program.and_then(|program| restore_path(program.content.manifest.as_ref()?));
    path.map_or(Against::Own, |path| Against::Restored(path.to_owned()))
}

fn pods<'a>(view: &View<'a>, target: &RevisionSeen) -> impl Iterator<Item = &'a PodSeen> + use<'a> {
    let revision = target.number;
    view.seen.pods.iter().filter(move |pod| pod.role == Role::Check && pod.revision == revision && !pod.deleting)
}

/// What the check has found, if it has ended.
pub(super) fn verdict(view: &View<'_>, target: &RevisionSeen) -> Option<CheckVerdict> {
    if !is_needed(view, target) {
        return Some(CheckVerdict::Fits);
    }
    pods(view, target).find_map(|pod| match Said::of(pod.exit()?)? {
        Said { verdict: Verdict::Fits, .. } => Some(CheckVerdict::Fits),
        Said { verdict: Verdict::Misfit, message } => Some(CheckVerdict::Misfit { message }),
        Said { verdict: Verdict::Unknown | Verdict::Done, .. } => None,
    })
}

/// Why a check that has ended came to no verdict.
fn why_none(pod: &PodSeen) -> String {
    match pod.exit().map(|exit| (Said::of(exit), exit)) {
        Some((Some(Said { message, .. }), _)) if !message.is_empty() => message,
        Some((_, exit)) => last_words(exit),
        None => pod.phase_message.clone().unwrap_or_else(|| "its pod is gone".to_owned()),
    }
}

/// What hinders the check, if it is needed and has not come to a verdict.
pub(super) fn trouble(view: &View<'_>, target: &RevisionSeen) -> Option<Trouble> {
    if verdict(view, target).is_some() {
        return None;
    }
    pods(view, target).find_map(|pod| match standing(pod) {
        Standing::Stuck(trouble) => Some(trouble),
        Standing::Gone(_) | Standing::Crashing(_) | Standing::Refused(_) => {
            Some(Trouble::new(Reason::CrashLooping, format!("the check could not be done: {}", why_none(pod))))
        }
        Standing::Well => None,
    })
}

/// Has it checked; what hinders that is told.
pub(super) fn check(view: &View<'_>, target: &RevisionSeen, draft: &mut Draft) {
    if let Some(change) = &mut draft.change {
        change.step = ChangeStep::Checking;
    }
    draft.troubles.extend(trouble(view, target));
    let mut waits = false;
    for pod in pods(view, target) {
        match standing(pod) {
            // It could not look, as when the store is away: another one may.
            Standing::Gone(_) | Standing::Crashing(_) | Standing::Refused(_) => {
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
        let (revision, program) = (target.number, target.content.program);
        draft.act(Action::CreateCheck { revision, program, against: against(view, target) });
    }
}
