//! Checkpoints beside the tasks: what a snapshot becomes on its way to the store.

pub mod ledger;
pub mod merge;
pub mod store;
pub mod writer;
