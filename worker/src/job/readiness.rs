//! Whether a worker takes part in its job.

use parking_lot::Mutex;
use std::sync::Arc;

/// Whether a worker takes part in its job: it has found its leader, or is it, and is not about to leave. That says
/// nothing about the job: a job that waits for its restart has ready workers.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<Result<(), String>>>);

impl Readiness {
    /// Not ready yet, for a reason that reads on from "the worker is not ready: ".
    #[must_use]
    pub fn not_yet(reason: impl Into<String>) -> Self {
        Self(Arc::new(Mutex::new(Err(reason.into()))))
    }

    /// It takes part from now on.
    pub fn begins(&self) {
        *self.0.lock() = Ok(());
    }

    /// It takes no part from now on.
    pub fn ends(&self, reason: impl Into<String>) {
        *self.0.lock() = Err(reason.into());
    }

    /// Whether it takes part, or why not, as a sentence.
    pub fn state(&self) -> Result<(), String> {
        self.0.lock().clone().map_err(|reason| format!("the worker is not ready: {reason}"))
    }
}
