//! Weir's controller: it reconciles StreamJobs into worker pods.

pub mod certificates;
pub mod leader_client;
pub mod lease;
pub mod telemetry;
