//! Whether a worker takes part in its job, and whether it lives.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A loop that has not come round for this long never will.
const STUCK: Duration = Duration::from_secs(120);

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

/// Shows that the loop on which a worker depends comes round: only a new process helps one that is stuck.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Mutex<Instant>>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Pulse {
    /// The loop has come round.
    pub fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Whether it still does, or why not, as a sentence.
    pub fn state(&self) -> Result<(), String> {
        let since = self.0.lock().elapsed();
        match since < STUCK {
            true => Ok(()),
            false => Err(format!("the worker has been stuck for {} s", since.as_secs())),
        }
    }
}
