//! The engine: SQL to a streaming plan, the plan to tasks, tasks to exactly-once results.

pub mod batch;
pub mod connector;
pub mod diagnostic;
pub mod failure;
pub mod format;
pub mod operator;
pub mod plan;
