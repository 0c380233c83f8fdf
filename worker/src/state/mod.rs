//! Keyed state outside of operators: its files, and how several become one.

mod columns;
pub mod compact;
pub mod file;
pub mod in_flight;
pub mod join;
#[cfg(test)]
mod one_object;
