//! Revisions that nothing needs any more.

use std::collections::BTreeSet;

use super::draft::Draft;
use super::view::View;
use crate::model::{Action, RevisionSeen};

/// Failed revisions that are remembered, newest first.
const REMEMBERED: usize = 4;

/// Once a revision is in force and has proven itself: it, what it is made of, what it could go back to, and what failed
/// lately are kept.
pub(super) fn prune(view: &View<'_>, target: &RevisionSeen, draft: &mut Draft) {
    if !view.is_stable(target.content.program) {
        return;
    }
    let mut kept: BTreeSet<u64> = [target.number, target.content.program].into();
    let program = target.content.program;
    let earlier = view.revisions.iter().rev().find(|revision| {
        revision.content.program != program && revision.failed().is_none() && view.is_stable(revision.content.program)
    });
    kept.extend(earlier.into_iter().flat_map(|earlier| [earlier.number, earlier.content.program]));
    let failed = view.revisions.iter().rev().filter(|revision| revision.failed().is_some()).take(REMEMBERED);
    kept.extend(failed.flat_map(|failed| [failed.number, failed.content.program]));
    // The mark that a program is stable may stand on an earlier revision of it.
    let proof = |revision: &&&RevisionSeen| revision.is_stable() && kept.contains(&revision.content.program);
    let proofs: Vec<u64> = view.revisions.iter().filter(proof).map(|revision| revision.number).collect();
    kept.extend(proofs);
    kept.extend(view.programs());
    for revision in &view.revisions {
        if !kept.contains(&revision.number) {
            draft.act(Action::Forget { number: revision.number });
        }
    }
}
