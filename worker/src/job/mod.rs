//! Runs a job.

pub mod deploy;
