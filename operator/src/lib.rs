//! Weir's controller: it reconciles StreamJobs into worker pods.

pub mod certificates;
pub mod lease;
