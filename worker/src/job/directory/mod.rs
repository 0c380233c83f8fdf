//! Where a job's state is, in a directory of this machine or in a bucket: who may work on it, whose it is, and what its
//! chain says.

pub mod bucket;
pub mod foreign;
pub mod history;
pub mod lock;
pub mod place;
pub mod state;
