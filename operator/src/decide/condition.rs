//! Conditions as kstatus reads them: Ready, Reconciling, Stalled.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use weir_crds::Reason;

/// What the three conditions are to say.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) ready: (bool, Reason, String),
    pub(super) reconciling: Option<(Reason, String)>,
    pub(super) stalled: Option<(Reason, String)>,
}

impl Conditions {
    pub(super) fn ready(reason: Reason, message: String) -> Self {
        Self { ready: (true, reason, message), reconciling: None, stalled: None }
    }

    pub(super) fn moving(reason: Reason, message: String) -> Self {
        Self { ready: (false, reason, message.clone()), reconciling: Some((reason, message)), stalled: None }
    }

    pub(super) fn stalled(reason: Reason, message: String) -> Self {
        Self { ready: (false, reason, message.clone()), reconciling: None, stalled: Some((reason, message)) }
    }

    pub(super) fn message(&self) -> &str {
        &self.ready.2
    }
}

/// The condition of this kind.
pub(super) fn condition<'a>(of: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    of.iter().find(|condition| condition.type_ == kind)
}

/// Longest message of a condition, in bytes.
const LONGEST: usize = 4_096;

/// The conditions as they are to be written; a moment changes only with its status.
pub(super) fn conditions(
    before: &[Condition],
    told: &Conditions,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let (ready, reason, message) = &told.ready;
    let reconciling = told.reconciling.clone();
    let stalled = told.stalled.clone();
    [
        ("Ready", *ready, *reason, message.clone()),
        abnormal("Reconciling", reconciling, Reason::Settled, "nothing is on its way"),
        abnormal("Stalled", stalled, Reason::Progressing, "nothing hinders"),
    ]
    .into_iter()
    .map(|(kind, holds, reason, message)| {
        let status = if holds { "True" } else { "False" };
        let earlier = condition(before, kind).filter(|condition| condition.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.name().to_owned(),
            message: cut(message),
            observed_generation: generation,
            last_transition_time: earlier.map_or(Time(now), |earlier| earlier.last_transition_time.clone()),
        }
    })
    .collect()
}

fn abnormal(
    kind: &'static str,
    told: Option<(Reason, String)>,
    calm: Reason,
    words: &str,
) -> (&'static str, bool, Reason, String) {
    match told {
        Some((reason, message)) => (kind, true, reason, message),
        None => (kind, false, calm, words.to_owned()),
    }
}

fn cut(mut message: String) -> String {
    if message.len() > LONGEST {
        let end = (0..=LONGEST - 4).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push_str(" …");
    }
    message
}
