//! SQL: from the text of a script to a streaming plan.

pub mod functions;
