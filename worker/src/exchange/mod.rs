//! Data between workers.

pub mod frame;
