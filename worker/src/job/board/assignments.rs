//! Requests for assignments: who waits for an answer, and what became of the last one.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_protocol::leader::AssignmentAnswer;

/// The requests that wait, and the last assignment that the job could not change to.
#[derive(Debug, Default)]
pub struct Assignments {
    waiting: Arc<Mutex<BTreeMap<String, Option<AssignmentAnswer>>>>,
    failed: Option<(u64, String)>,
}

/// A request that waits for its answer; dropped, it waits no more.
#[derive(Debug)]
pub struct Awaited {
    waiting: Arc<Mutex<BTreeMap<String, Option<AssignmentAnswer>>>>,
    request: String,
}

impl Awaited {
    /// What the request is called.
    #[must_use]
    pub fn request(&self) -> &str {
        &self.request
    }

    /// Its answer, once there is one.
    #[must_use]
    pub fn answer(&self) -> Option<AssignmentAnswer> {
        self.waiting.lock().get(&self.request).cloned().flatten()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.request);
    }
}

impl Assignments {
    pub(super) fn wait(&self) -> Awaited {
        let request = uuid::Uuid::new_v4().to_string();
        self.waiting.lock().insert(request.clone(), None);
        Awaited { waiting: Arc::clone(&self.waiting), request }
    }

    pub(super) fn answered(&mut self, request: &str, revision: u64, answer: &AssignmentAnswer) {
        if let Some(slot) = self.waiting.lock().get_mut(request) {
            *slot = Some(answer.clone());
        }
        // It is tried again.
        if *answer == AssignmentAnswer::Accepted && self.failed.as_ref().is_some_and(|(of, _)| *of == revision) {
            self.failed = None;
        }
    }

    pub(super) fn failed(&mut self, revision: u64, message: &str) {
        self.failed = Some((revision, message.to_owned()));
    }

    pub(super) fn last_failed(&self) -> Option<(u64, String)> {
        self.failed.clone()
    }
}
