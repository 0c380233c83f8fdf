//! Weir's controller: it reconciles StreamJobs into worker pods.
//!
//! `validate → observe → decide → build → apply → report`: [`controller::reconcile`] is one look at a job. [`decide`] and
//! [`build`] are pure functions of what was seen ([`model`]); the rest performs.

pub mod apply;
pub mod build;
pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod decide;
pub mod events;
pub mod leader_client;
pub mod lease;
pub mod model;
pub mod observe;
pub mod report;
pub mod telemetry;
