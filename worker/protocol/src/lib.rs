//! Every protocol decision of Weir, without I/O, clocks, randomness or threads.
//!
//! The worker performs, this crate decides. A control core is a state machine `step(now, event) -> actions` whose action
//! enum is the full list of what it can do to the world; a data core is a type with a method per input. Nothing here
//! reads a clock, a file or a random source, so that a simulation can replay every history from a seed.

pub mod align;
pub mod chain;
pub mod credit;
pub mod follower;
pub mod frontier;
pub mod gather;
pub mod ids;
pub mod key_group;
pub mod leader;
pub mod members;
pub mod name;
pub mod restart;
pub mod retry;
mod rules;
pub mod snapshot;

pub use ids::{CheckpointId, EdgeId, EventTime, Generation, KeyGroup, LinkNumber, Now, OperatorId, TaskId};
