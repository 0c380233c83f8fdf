//! A job's life: what is decided in each situation, and that it always ends in the same place.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chaos;
mod cluster;
mod images;
mod reasons;
mod rendered;
mod restores;
mod situations;
mod store;
mod words;
