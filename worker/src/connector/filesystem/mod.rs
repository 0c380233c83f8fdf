//! Files in folders.

mod listing;
mod path_columns;
mod pattern;
mod position;
mod reader;
pub(super) mod sink;
pub(super) mod source;

#[cfg(test)]
mod tests;
