//! Files in folders, as a sink.

pub mod sink;
