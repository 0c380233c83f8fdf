//! Columns whose value is the same for all rows of a file: partitions and metadata.

use super::position::{Position, Version};
use crate::connector::TableShape;
use crate::failure::{Failure, Result};
use crate::format;
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, TimeUnit};

/// Flink's metadata keys of the filesystem connector.
pub(super) const METADATA_KEYS: [&str; 4] = ["file.path", "file.name", "file.size", "file.modification-time"];

/// The type of a metadata column.
fn metadata_type(key: &str) -> DataType {
    match key {
        "file.size" => DataType::Int64,
        "file.modification-time" => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        _ => DataType::Utf8View,
    }
}

/// A metadata column as a field of the rows that a reader returns.
pub(super) fn metadata_field(name: &str, key: &str) -> Field {
    Field::new(name, metadata_type(key), false)
}

/// A metadata column.
pub(super) fn metadata(field: &Field, key: &str, path: &str, version: &Version, rows: usize) -> Result<ArrayRef> {
    let text = match key {
        "file.path" => path.to_owned(),
        "file.name" => path.rsplit('/').next().unwrap_or_default().to_owned(),
        "file.size" => version.size.to_string(),
        _ => chrono::DateTime::from_timestamp_millis(version.modified_ms)
            .unwrap_or_default()
            .format("%Y-%m-%d %H:%M:%S%.3fZ")
            .to_string(),
    };
    format::constant(field, Some(&text), rows).map_err(|error| Failure::bug(error.to_string()))
}

/// A partition column: the value of `name=value` among the folders of the file's path. The name that Hive gives to the
/// partition without a value stands for NULL.
pub(super) fn partition(
    shape: &TableShape,
    column: usize,
    position: &Position,
    default: &str,
) -> Result<Option<String>> {
    let name = shape.schema.field(column).name();
    let folders = position.file.split('/');
    let value =
        folders.filter_map(|folder| folder.split_once('=')).find(|(key, _)| key == name).map(|(_, value)| value);
    match value {
        Some(value) if value == default => Ok(None),
        Some(value) => Ok(Some(unescape(value))),
        None => Err(Failure::user(format!(
            "the file {} lies in no folder '{name}=…', though the table is partitioned by '{name}'",
            position.file
        ))),
    }
}

/// Resolves `%3A` and its like, with which Hive writes characters that a name cannot have.
fn unescape(value: &str) -> String {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| after.first_chunk::<2>()).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                out.push(code);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
