//! The folders of a partitioned table: `column=value`, one level per column.

use super::super::super::TableShape;
use super::super::super::options::Options;
use crate::batch::Batch;
use crate::failure::Result;
use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How rows are spread over folders.
#[derive(Debug, Clone)]
pub(super) struct Partitioning {
    columns: Vec<usize>,
    names: Vec<String>,
    null_name: String,
}

impl Partitioning {
    /// Reads the options of partitions.
    pub(super) fn of(shape: &TableShape, options: &Options) -> Self {
        let null_name = options.text("partition.default-name").unwrap_or_else(|| "__DEFAULT_PARTITION__".to_owned());
        let names = shape.partitioned_by.iter().map(|column| shape.schema.field(*column).name().clone()).collect();
        Self { columns: shape.partitioned_by.clone(), names, null_name }
    }

    /// The columns that files hold: all but those that folders tell.
    pub(super) fn file_schema(&self, schema: &SchemaRef) -> SchemaRef {
        let fields = schema.fields().iter().enumerate().filter(|(place, _)| !self.columns.contains(place));
        Arc::new(Schema::new(fields.map(|(_, field)| Arc::clone(field)).collect::<Vec<_>>()))
    }

    /// The rows of each folder, in order, without the columns that the folder tells.
    pub(super) fn split(&self, batch: &Batch) -> Result<Vec<(String, Batch)>> {
        if self.columns.is_empty() {
            return Ok(vec![(String::new(), batch.clone())]);
        }
        let mut rows: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let columns: Vec<&ArrayRef> = self.columns.iter().map(|column| batch.column(*column)).collect();
        let options = FormatOptions::new().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.3f"));
        let formats =
            columns.iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let folders = self.names.iter().zip(&columns).zip(&formats).map(|((name, column), format)| {
                let value = if column.is_null(row) { self.null_name.clone() } else { format.value(row).to_string() };
                format!("{}={}", escaped(name), escaped(if value.is_empty() { &self.null_name } else { &value }))
            });
            rows.entry(folders.collect::<Vec<_>>().join("/")).or_default().push(row as u32);
        }
        let kept: Vec<usize> = (0..batch.rows.num_columns()).filter(|place| !self.columns.contains(place)).collect();
        let narrow = batch.with_rows(batch.rows.project(&kept)?);
        rows.into_iter().map(|(folder, rows)| Ok((folder, narrow.take(&UInt32Array::from(rows))?))).collect()
    }
}

/// A name without what a path or a glob would take for something else, as Hive escapes it.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() || "\"#%'*/:=?\\{[]^".contains(c) {
            out.push_str(&format!("%{:02X}", c as u32));
        } else {
            out.push(c);
        }
    }
    // A folder that begins with a dot or an underscore is hidden from readers.
    if out.starts_with('.') { out.replacen('.', "%2E", 1) } else { out }
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn folder_names_are_safe() {
        for (name, expected) in [("plain-1 x", "plain-1 x"), ("a/b:c", "a%2Fb%3Ac"), ("..", "%2E."), ("50%", "50%25")] {
            assert_eq!(escaped(name), expected);
        }
    }
}
