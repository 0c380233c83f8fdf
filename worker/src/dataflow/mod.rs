//! Tasks and the channels between them.
//!
//! A task is a thread that runs a chain of operators; a channel leads from one task to another and carries
//! `(Batch | Watermark | Idle | Barrier)* End`. What a task reads, aligns and forwards is decided by the data cores of
//! the protocol; here it is performed.

pub mod chain;
pub mod edge;
pub mod element;
pub mod explain;
pub mod graph;
pub mod in_flight;
pub mod inbox;
pub mod metrics;
pub mod pace;
pub mod source;
pub mod splits;
pub mod task;
pub mod throttle;
pub mod watermark;
