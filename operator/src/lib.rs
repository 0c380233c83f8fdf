//! Weir's controller: it reconciles StreamJobs into worker pods.

pub mod build;
pub mod decide;
pub mod model;
