//! Rows as text and bytes: what files and terminals hold, apart from where they lie.

pub mod encode_json;
pub mod encode_text;
mod scalar;
mod values;

pub use values::UnsupportedType;
