//! The engine: SQL to a streaming plan, the plan to tasks, tasks to exactly-once results.

pub mod api;
pub mod batch;
pub mod checkpoint;
pub mod cli;
pub mod connector;
pub mod control;
pub mod dataflow;
pub mod diagnostic;
pub mod exchange;
pub mod export;
pub mod failure;
pub mod format;
pub mod job;
pub mod numbers;
pub mod operator;
pub mod plan;
pub mod sql;
pub mod state;
pub mod stop;
pub mod tls;
