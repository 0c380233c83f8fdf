//! The end of a wait that nobody wants the outcome of any more.

use std::sync::Arc;
use tokio::sync::watch;

/// Told once that whoever waits shall not wait any longer. Clones are told together.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// From now on nobody waits.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is told.
    pub async fn stopped(&self) {
        // The sender lives as long as this does.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }
}
