//! Runs a job in one process: its tasks, its leader, and what runs beside them.

pub mod beside;
pub mod board;
pub mod budget;
pub mod deploy;
pub mod directory;
mod in_flight;
pub mod maintain;
pub mod measure;
pub mod reading;
pub mod runner;
pub mod savepoints;
pub mod settings;
#[cfg(test)]
pub(crate) mod tests;
pub mod usage;
