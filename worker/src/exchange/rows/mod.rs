//! Rows and their columns as bytes: what encodes runs in the sending task, what decodes in the receiving one.

mod compact;
pub(super) mod decode;
pub(super) mod encode;
mod lz4;
pub(super) mod schema;
mod share;
#[cfg(test)]
pub(super) mod tests;
