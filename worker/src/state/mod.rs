//! Keyed state outside of operators: its files, and their compaction.

pub mod compact;
pub mod file;
pub mod in_flight;
#[cfg(test)]
mod one_object;
