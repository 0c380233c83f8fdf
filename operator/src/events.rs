//! Events: what happened to a job, for `kubectl describe`. One that cannot be told is logged and no more.
//!
//! Needs `create` and `patch` of `events` in `events.k8s.io`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{self, EventType, Reporter};

use crate::controller::{Context, limited};
use crate::model::{Event, EventKind, name};

/// The longest text that the API takes.
const LONGEST_NOTE: usize = 1_000;

/// Tells people what happens.
pub struct Recorder(events::Recorder);

impl Recorder {
    /// A recorder of this replica.
    #[must_use]
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: name::CONTROLLER.to_owned(), instance: Some(identity.to_owned()) };
        Self(events::Recorder::new(client, reporter))
    }

    async fn publish(&self, event: &Event, regarding: &ObjectReference) -> kube::Result<()> {
        let type_ = match event.kind {
            EventKind::Normal => EventType::Normal,
            EventKind::Warning => EventType::Warning,
        };
        let note = event.message.chars().take(LONGEST_NOTE).collect::<String>();
        let event = events::Event {
            type_,
            reason: event.reason.name().to_owned(),
            note: Some(note),
            action: event.reason.name().to_owned(),
            secondary: None,
        };
        limited(self.0.publish(&event, regarding)).await
    }
}

/// Tells events of a job that were not told lately.
pub async fn tell(ctx: &Context, uid: &str, regarding: &ObjectReference, events: &[Event], now: Timestamp) {
    for event in events {
        if !ctx.notes.edit(uid, |note| note.tells(event, now)) {
            continue;
        }
        tracing::info!(reason = event.reason.name(), message = event.message, "told");
        if let Err(error) = ctx.events.publish(event, regarding).await {
            tracing::warn!(error = %error, reason = event.reason.name(), "an event could not be told");
        }
    }
}
