//! Runs a job: the leader's side, the workers' sides with their tasks, and what runs beside both.

pub mod agent;
pub mod beside;
pub mod board;
pub mod budget;
pub mod deploy;
pub mod directory;
mod in_flight;
pub mod maintain;
pub mod measure;
pub mod message;
pub mod origin;
pub mod readiness;
pub mod runner;
pub mod settings;
pub mod split_service;
#[cfg(test)]
pub(crate) mod tests;
pub mod usage;
pub mod workers;
