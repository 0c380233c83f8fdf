//! Parquet: columns in row groups.
//!
//! Only projected columns are read. A file's columns are found by name; one that a file does not have is NULL. A
//! column's type in the file must be the table's or one that the table's can hold without loss.

pub mod writer;

use super::sql_type;
use crate::failure::{Failure, Result};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::ChunkReader;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Reads the row groups of a file that begin within a range of bytes.
pub struct RowGroupReader {
    batches: ParquetRecordBatchReader,
    schema: SchemaRef,
    /// For each column of `schema`, its place in what is read.
    places: Vec<Option<usize>>,
}

/// What is to be read of a file.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The columns, with the table's types.
    pub schema: SchemaRef,
    /// Row groups whose first byte lies in here.
    pub bytes: Range<u64>,
    /// Rows of these row groups that are left out at the beginning.
    pub skipped_rows: u64,
    /// The most rows a batch has.
    pub max_rows: usize,
}

/// About how many bytes a batch may have.
const BATCH_BYTES: u64 = 8 << 20;

impl RowGroupReader {
    /// Opens a file. Fails with kind User where it is no sound Parquet file, or where a column's type does not fit.
    pub fn open(file: impl ChunkReader + 'static, selection: Selection) -> Result<Self> {
        guarded(|| Self::try_open(file, selection))
    }

    /// The next rows; `None` after the last one.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        guarded(|| {
            let Some(read) = self.batches.next() else {
                return Ok(None);
            };
            let read = read.map_err(unreadable)?;
            self.arrange(&read).map(Some)
        })
    }

    fn try_open(file: impl ChunkReader + 'static, selection: Selection) -> Result<Self> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let found = ArrowReaderMetadata::load(&file, options).map_err(unreadable)?;
        let viewed = Arc::new(Schema::new(found.schema().fields().iter().map(viewed).collect::<Fields>()));
        check_types(&viewed, &selection.schema)?;
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(&viewed));
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options).map_err(unreadable)?;

        let groups = found.metadata().row_groups();
        let owned: Vec<usize> =
            (0..groups.len()).filter(|group| selection.bytes.contains(&first_byte(&groups[*group]))).collect();
        let wanted = selection.schema.fields().iter().filter_map(|field| viewed.index_of(field.name()).ok());
        let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted);
        let batch_rows = batch_rows(owned.iter().map(|group| &groups[*group]), selection.max_rows);
        let skipped =
            usize::try_from(selection.skipped_rows).map_err(|_| Failure::corrupt("a row number is too large"))?;
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_row_groups(owned)
            .with_projection(mask)
            .with_offset(skipped)
            .with_batch_size(batch_rows)
            .build()
            .map_err(unreadable)?;
        let read = arrow::array::RecordBatchReader::schema(&batches);
        let places = selection.schema.fields().iter().map(|field| read.index_of(field.name()).ok()).collect();
        Ok(Self { batches, schema: selection.schema, places })
    }

    fn arrange(&self, read: &RecordBatch) -> Result<RecordBatch> {
        let rows = read.num_rows();
        let mut columns = Vec::with_capacity(self.places.len());
        for (field, place) in self.schema.fields().iter().zip(&self.places) {
            let column = match place {
                Some(place) => conform(read.column(*place), field.data_type())?,
                None => new_null_array(field.data_type(), rows),
            };
            if !field.is_nullable() && column.logical_null_count() > 0 {
                let name = field.name();
                return Err(Failure::user(format!("the column '{name}' is NOT NULL, but a row has no value there")));
            }
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// Runs code that is known to panic on some damaged files.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(Failure::user("the Parquet file is damaged")))
}

fn unreadable(error: impl Into<ParquetError>) -> Failure {
    Failure::user("the Parquet file cannot be read").because(error.into())
}

fn first_byte(group: &RowGroupMetaData) -> u64 {
    let columns = group.columns().iter();
    let pages = columns.map(|column| column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()));
    u64::try_from(pages.min().unwrap_or(0)).unwrap_or(0)
}

fn batch_rows<'a>(groups: impl Iterator<Item = &'a RowGroupMetaData>, max_rows: usize) -> usize {
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    for group in groups {
        rows = rows.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0));
        bytes = bytes.saturating_add(u64::try_from(group.total_byte_size()).unwrap_or(0));
    }
    let fitting = rows.saturating_mul(BATCH_BYTES) / bytes.max(1);
    usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, max_rows.max(1))
}

/// The field with views for texts and bytes.
fn viewed(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(viewed).collect()),
        DataType::List(item) => DataType::List(viewed(item)),
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

fn check_types(found: &Schema, wanted: &Schema) -> Result<()> {
    for column in wanted.fields() {
        match found.field_with_name(column.name()) {
            Ok(field) if fits(field.data_type(), column.data_type()) => {}
            Ok(field) => {
                let (name, theirs, ours) = (column.name(), sql_type(field.data_type()), sql_type(column.data_type()));
                return Err(Failure::user(format!(
                    "the column '{name}' is {theirs} in the file, which does not fit {ours}, its type in the table; \
                     declare the column as {theirs}"
                )));
            }
            Err(_) if column.is_nullable() => {}
            Err(_) => return Err(Failure::user(missing(column, found))),
        }
    }
    Ok(())
}

fn missing(column: &Field, found: &Schema) -> String {
    let name = column.name();
    let names: Vec<&str> = found.fields().iter().map(|field| field.name().as_str()).take(20).collect();
    format!("the file has no column '{name}', which is NOT NULL; it has {}", names.join(", "))
}

/// True when every value of the file's type is one of the table's.
fn fits(found: &DataType, wanted: &DataType) -> bool {
    use DataType as T;
    match (found, wanted) {
        (T::Int8, T::Int8 | T::Int16 | T::Int32 | T::Int64)
        | (T::Int16, T::Int16 | T::Int32 | T::Int64)
        | (T::Int32, T::Int32 | T::Int64)
        | (T::UInt8, T::Int16 | T::Int32 | T::Int64)
        | (T::UInt16, T::Int32 | T::Int64)
        | (T::UInt32, T::Int64)
        | (T::Float16, T::Float32 | T::Float64)
        | (T::Float32, T::Float64)
        | (T::FixedSizeBinary(_), T::BinaryView)
        | (T::Timestamp(..), T::Timestamp(..))
        | (T::Time32(_) | T::Time64(_), T::Time32(_)) => true,
        (T::Decimal128(precision, scale), T::Decimal128(to_precision, to_scale)) => {
            let whole = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
            scale <= to_scale && whole(*precision, *scale) <= whole(*to_precision, *to_scale)
        }
        (T::List(found), T::List(wanted)) => fits(found.data_type(), wanted.data_type()),
        (T::Struct(found), T::Struct(wanted)) => wanted.iter().all(|field| match named(found, field.name()) {
            Some((_, found)) => fits(found.data_type(), field.data_type()),
            None => field.is_nullable(),
        }),
        (found, wanted) => found == wanted,
    }
}

fn named<'a>(fields: &'a Fields, name: &str) -> Option<(usize, &'a FieldRef)> {
    fields.iter().enumerate().find(|(_, field)| field.name() == name)
}

/// Gives a column that [`fits`] the table's type.
fn conform(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    match (column.data_type(), wanted) {
        (found, wanted) if found == wanted => Ok(Arc::clone(column)),
        (DataType::Struct(found), DataType::Struct(fields)) => {
            let row = column.as_struct();
            let mut columns = Vec::with_capacity(fields.len());
            for field in fields {
                columns.push(match named(found, field.name()) {
                    Some((place, _)) => conform(row.column(place), field.data_type())?,
                    None => new_null_array(field.data_type(), row.len()),
                });
            }
            let nulls = row.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, row.len())?))
        }
        (DataType::List(_), DataType::List(item)) => {
            let (_, offsets, items, nulls) = column.as_list::<i32>().clone().into_parts();
            let items = conform(&items, item.data_type())?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, nulls)?))
        }
        (DataType::FixedSizeBinary(_), wanted) => cast(&cast(column, &DataType::Binary)?, wanted),
        (_, wanted) => cast(column, wanted),
    }
}

#[cfg(test)]
mod tests;
