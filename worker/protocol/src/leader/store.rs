//! Requests to the store: sent again until they have an answer that says something.
//!
//! A put has three outcomes. After an unknown one the identical body is put again until it is done or there is an
//! object of that name, which is then read back: no time-out gives it up meanwhile.

use super::action::{Action, Request};
use super::checkpoint::Abort;
use super::event::{ErrorKind, OpId, Outcome};
use super::look_back::Question;
use super::notice::{AssignmentAnswer, End, FailureCause, Notice};
use super::rules::Rule;
use super::{DELAYS_MS, Leader};
use crate::chain::Prefix;
use crate::ids::{Generation, LinkNumber, Now};
use std::collections::{BTreeMap, BTreeSet};

/// What an answer is for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Purpose {
    LookList(Prefix),
    LookDeleted,
    LookClaim(Generation),
    LookLink(LinkNumber),
    LookAssignment(u64),
    Claim,
    ClaimReadBack,
    Start,
    StartReadBack,
    LookBack(Question),
    Watch,
    Manifest,
    ManifestReadBack,
    Pointer(String),
    PointerReadBack(String),
    StalePointer(String),
    PointerRelease(String),
    RetiredLinks(BTreeSet<String>),
    RetiredFiles,
    OrphanList,
    /// The job is deleted.
    Mark,
    Assignment(u64),
    AssignmentReadBack(u64),
}

impl Purpose {
    /// Whether the leader's way does not depend on it.
    fn is_aside(&self) -> bool {
        match self {
            Self::Pointer(_) | Self::PointerReadBack(_) | Self::StalePointer(_) | Self::PointerRelease(_) => true,
            Self::RetiredLinks(_) | Self::RetiredFiles | Self::OrphanList | Self::Mark => true,
            Self::Assignment(_) | Self::AssignmentReadBack(_) => true,
            Self::LookList(_) | Self::LookDeleted | Self::LookClaim(_) | Self::LookLink(_) => false,
            Self::LookAssignment(_) => false,
            Self::Claim | Self::ClaimReadBack | Self::Start | Self::StartReadBack => false,
            Self::LookBack(_) | Self::Watch | Self::Manifest | Self::ManifestReadBack => false,
        }
    }
}

/// An answer that says something.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Done,
    Exists,
    NotFound,
    Body(Vec<u8>),
    Listed(Vec<String>),
}

#[derive(Debug, Clone)]
struct Pending {
    request: Request,
    purpose: Purpose,
    tries: u32,
    /// An outcome was unknown: it may be done, or be done yet.
    unknown: bool,
    /// Set while no answer is awaited.
    resend_at: Option<Now>,
}

#[derive(Debug, Default)]
pub(super) struct Ops {
    next: u64,
    pending: BTreeMap<OpId, Pending>,
}

impl Ops {
    fn add(&mut self, pending: Pending) -> OpId {
        let op = OpId(self.next);
        self.next += 1;
        self.pending.insert(op, pending);
        op
    }

    /// Forgets everything under way; answers to it will be ignored.
    pub(super) fn forget_all(&mut self) {
        self.pending.clear();
    }

    /// Forgets what belongs to the generation: assignments are stored whatever becomes of it.
    pub(super) fn forget_generation(&mut self) {
        let keep = |purpose: &Purpose| matches!(purpose, Purpose::Assignment(_) | Purpose::AssignmentReadBack(_));
        self.pending.retain(|_, pending| keep(&pending.purpose));
    }

    pub(super) fn deadline(&self) -> Option<Now> {
        self.pending.values().filter_map(|pending| pending.resend_at).min()
    }

    /// Gives up a put of which it is certain that it did not happen and will not; false when it is not certain.
    pub(super) fn give_up_manifest(&mut self) -> bool {
        let put = self.pending.iter().find(|(_, pending)| pending.purpose == Purpose::Manifest);
        let Some((&op, pending)) = put else {
            return false;
        };
        let certain = !pending.unknown && pending.resend_at.is_some();
        if certain {
            self.pending.remove(&op);
        }
        certain
    }

    /// Whether something is under way on which the leader's way does not depend.
    pub(super) fn any_aside(&self) -> bool {
        self.pending.values().any(|pending| pending.purpose.is_aside())
    }
}

impl Leader {
    pub(super) fn send(&mut self, purpose: Purpose, request: Request) {
        let pending = Pending { request: request.clone(), purpose, tries: 0, unknown: false, resend_at: None };
        let op = self.ops.add(pending);
        self.act(Action::Store { op, request });
    }

    pub(super) fn resend_due(&mut self) {
        let due = |pending: &Pending| pending.resend_at.is_some_and(|at| at <= self.now);
        let ops: Vec<OpId> = self.ops.pending.iter().filter(|(_, pending)| due(pending)).map(|(op, _)| *op).collect();
        for op in ops {
            let pending = self.ops.pending.remove(&op).expect("the number was just found");
            let request = pending.request.clone();
            let op = self.ops.add(Pending { resend_at: None, ..pending });
            self.act(Action::Store { op, request });
        }
    }

    pub(super) fn on_stored(&mut self, op: OpId, outcome: Outcome) {
        // No entry, or one that waits to be sent again: an answer that came twice, or to what has been forgotten.
        if self.ops.pending.get(&op).is_none_or(|pending| pending.resend_at.is_some()) {
            return;
        }
        let answer = match outcome {
            Outcome::Done => Answer::Done,
            Outcome::Exists => Answer::Exists,
            Outcome::NotFound => Answer::NotFound,
            Outcome::Body(bytes) => Answer::Body(bytes),
            Outcome::Listed(names) => Answer::Listed(names),
            Outcome::Unknown { message } => return self.on_unknown(op, message),
            Outcome::Failed { kind: ErrorKind::Transient, message } => return self.resend_later(op, message),
            Outcome::Failed { kind, message } => return self.on_refused(op, kind, message),
        };
        let pending = self.ops.pending.remove(&op).expect("it was just found");
        self.deliver(pending.purpose, answer);
    }

    fn on_unknown(&mut self, op: OpId, message: String) {
        let pending = self.ops.pending.get_mut(&op).expect("the caller found it");
        if matches!(pending.request, Request::PutIfAbsent { .. }) {
            pending.unknown = true;
            if !self.rules.hold(Rule::UnknownIsNotDone) {
                let pending = self.ops.pending.remove(&op).expect("it was just found");
                return self.deliver(pending.purpose, Answer::Done);
            }
            if pending.purpose == Purpose::Manifest && !self.rules.hold(Rule::UnknownIsNotFailed) {
                self.ops.pending.remove(&op);
                return self.abort_attempt(Abort { cause: FailureCause::Store, message });
            }
        }
        self.resend_later(op, message);
    }

    fn resend_later(&mut self, op: OpId, message: String) {
        let pending = self.ops.pending.get_mut(&op).expect("the caller found it");
        let delay_ms = DELAYS_MS[(pending.tries as usize).min(DELAYS_MS.len() - 1)];
        pending.tries = pending.tries.saturating_add(1);
        pending.resend_at = Some(self.now.after_ms(delay_ms));
        if pending.tries == 1 {
            self.report(Notice::StoreTrouble { message });
        }
    }

    fn on_refused(&mut self, op: OpId, kind: ErrorKind, message: String) {
        let pending = self.ops.pending.remove(&op).expect("the caller found it");
        if let Purpose::Assignment(revision) | Purpose::AssignmentReadBack(revision) = pending.purpose {
            let message = message.clone();
            self.refuse_assignment(revision, &AssignmentAnswer::NotStored { message });
        }
        if pending.purpose.is_aside() && pending.purpose != Purpose::Mark {
            self.report(Notice::StoreTrouble { message });
            return self.after_aside();
        }
        self.end_after_cancel(End::Failed { kind, message });
    }
}
