//! The directory of a job's state on this machine: who may work in it, whose it is, and what its chain says.

pub mod foreign;
pub mod history;
pub mod lock;
pub mod state;
