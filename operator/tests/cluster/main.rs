//! The controller against a cluster in memory: objects with versions, uids and owners, leaders that speak HTTP, and
//! everything that can go wrong between them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod crashes;
mod faults;
mod leader;
mod store;
mod watched;
mod world;
