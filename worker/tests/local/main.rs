//! `weir run` on one machine as its user meets it: every mistake (what is wrong, where, what to do, and nothing written),
//! failures and restarts, state of other places.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, clippy::type_complexity, reason = "tests are tables")]

mod backpressure;
mod damage;
mod directories;
mod export;
mod full;
mod place;
mod refusals;
mod restarts;
mod restore;
mod rows;
mod savepoints;
mod workers;
