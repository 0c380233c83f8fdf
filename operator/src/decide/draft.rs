//! A decision in the making.

use std::time::Duration;

use jiff::Timestamp;
use weir_crds::{ChangeKind, ChangeStep, CheckpointStatus, JobState, Reason};

use crate::model::{Action, Event, EventKind};

/// A decision in the making.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) actions: Vec<Action>,
    pub(super) events: Vec<Event>,
    pub(super) again: Option<Duration>,
    pub(super) change: Option<Change>,
    /// What hinders, most important first.
    pub(super) troubles: Vec<Trouble>,
    /// Nothing goes on until somebody changes something.
    pub(super) stalled: Option<Trouble>,
    /// What the job is doing, if that does not follow from its leader.
    pub(super) state: Option<JobState>,
    pub(super) paused: bool,
    /// The newest that is known, whether the status tells it or not.
    pub(super) last_checkpoint: Option<CheckpointStatus>,
}

/// A change that is on its way.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) kind: ChangeKind,
    pub(super) revision: u64,
    pub(super) step: ChangeStep,
    pub(super) message: Option<String>,
}

/// Something that hinders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Trouble {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Draft {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn look_again(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |again| again.min(after)));
    }

    /// Look again when this moment has come.
    pub(super) fn look_at(&mut self, moment: Timestamp, now: Timestamp) {
        let wait = Duration::try_from(moment.duration_since(now)).unwrap_or_default();
        self.look_again(wait.max(Duration::from_millis(50)));
    }

    pub(super) fn changes(&mut self, kind: ChangeKind, revision: u64, step: ChangeStep) {
        self.change = Some(Change { kind, revision, step, message: None });
    }

    pub(super) fn waits_for(&mut self, message: impl Into<String>) {
        if let Some(change) = &mut self.change {
            change.message = Some(message.into());
        }
    }

    pub(super) fn stall(&mut self, trouble: Trouble) {
        self.stalled.get_or_insert(trouble);
    }

    pub(super) fn tell(&mut self, reason: Reason, message: impl Into<String>) {
        self.event(EventKind::Normal, reason, message.into());
    }

    pub(super) fn warn(&mut self, reason: Reason, message: impl Into<String>) {
        self.event(EventKind::Warning, reason, message.into());
    }

    fn event(&mut self, kind: EventKind, reason: Reason, message: String) {
        self.events.push(Event { kind, reason, message });
    }
}
