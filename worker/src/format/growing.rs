//! Columns that grow record by record.

use super::RecordError;
use super::column::Column;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

/// How reading a record ends; a mistake is seldom and large.
pub(super) type Read = Result<(), Box<RecordError>>;

/// Columns of the same number of rows.
pub(super) struct Growing {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
}

impl Growing {
    /// Empty columns, those of `schema` at `projection`, ascending.
    pub(super) fn new(schema: &SchemaRef, projection: &[usize]) -> Self {
        let schema = Arc::new(schema.project(projection).expect("the projection names columns of the table"));
        let columns = schema.fields().iter().map(Column::new).collect();
        Self { schema, columns, rows: 0 }
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// One more row, which `read` puts into the columns; it gets the row's number. What a record that is bad has put
    /// there is taken out.
    pub(super) fn push(&mut self, read: impl FnOnce(&mut [Column], usize) -> Read) -> Result<(), RecordError> {
        match read(&mut self.columns, self.rows) {
            Ok(()) => self.rows += 1,
            Err(error) => {
                self.columns.iter_mut().for_each(|column| column.truncate(self.rows));
                return Err(*error);
            }
        }
        Ok(())
    }

    /// All rows so far, which leaves none.
    pub(super) fn take(&mut self) -> RecordBatch {
        let columns = self.columns.iter_mut().map(|column| column.finish(self.rows)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .expect("each column has a value of its type for each row")
    }
}

/// A record as text.
pub(super) fn text_of(record: &[u8]) -> Result<&str, RecordError> {
    std::str::from_utf8(record)
        .map_err(|error| RecordError::Syntax(format!("byte {} of the record is no UTF-8", error.valid_up_to() + 1)))
}
