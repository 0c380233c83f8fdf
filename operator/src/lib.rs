//! Weir's controller: it reconciles StreamJobs into worker pods.

pub mod build;
pub mod certificates;
pub mod decide;
pub mod leader_client;
pub mod lease;
pub mod model;
pub mod telemetry;
