//! Files in folders of this machine and in buckets.

mod content;
mod listing;
mod location;
mod object;
mod path_columns;
mod pattern;
mod place;
mod position;
mod reader;
pub(super) mod sink;
pub(super) mod source;

#[cfg(test)]
mod tests;
