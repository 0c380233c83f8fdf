//! The source `datagen`: rows of random values and sequences, with Flink's options.
//!
//! A value is a function of the seed, its column and the row's number. Dates and times are not: like Flink's they are
//! those of the clock when the row is made, less a random time of `max-past`.

mod field;
mod value;

use super::numbered::{BATCH_ROWS, Course, Made, NumberedSource, RowMaker};
use super::options::Options;
use super::{Source, TableShape};
use crate::diagnostic::Diagnostic;
use crate::failure::Result;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use field::{FieldReader, Recipe};
use std::ops::Range;
use std::sync::Arc;
use value::Kitchen;

/// Flink's `rows-per-second`.
const ROWS_PER_SECOND: u64 = 10_000;

/// A batch holds about this many bytes at most.
const BATCH_BYTES: u64 = 8 << 20;

/// Reads the options of a table.
pub(super) fn source(options: &Options, shape: &TableShape) -> Result<Arc<dyn Source>, Vec<Diagnostic>> {
    let count = |key: &str, range| options.integer(key, range).map(i64::cast_unsigned);
    let reader = FieldReader::new(options);
    let recipes: Vec<Recipe> = shape.schema.fields().iter().map(|field| reader.read(field.name(), field)).collect();
    for (name, _) in &shape.metadata {
        options
            .mistake(Diagnostic::new(format!("table '{}': datagen has no metadata for column '{name}'", shape.name)));
    }
    let width = recipes.iter().map(Recipe::width).sum::<u64>().max(1);
    let ends = recipes.iter().filter_map(Recipe::rows).chain(count("number-of-rows", 1..=i64::MAX >> 4));
    let course = Course {
        splits: count("splits", 1..=1024).unwrap_or(16),
        end: ends.min(),
        rate: Some(count("rows-per-second", 1..=1_000_000_000).unwrap_or(ROWS_PER_SECOND)),
        batch_rows: (BATCH_BYTES / width).clamp(1, BATCH_ROWS),
    };
    let seed = options.integer("seed", i64::MIN..=i64::MAX).unwrap_or(0).cast_unsigned();
    options.finish()?;
    let maker = Arc::new(Datagen { seed, schema: Arc::clone(&shape.schema), recipes, width });
    Ok(Arc::new(NumberedSource::new(maker, course)))
}

#[derive(Debug)]
struct Datagen {
    seed: u64,
    schema: SchemaRef,
    recipes: Vec<Recipe>,
    width: u64,
}

impl RowMaker for Datagen {
    fn rows(&self, numbers: Range<u64>, projection: &[usize]) -> Result<Made> {
        let rows = (numbers.end - numbers.start) as usize;
        let kitchen = Kitchen { seed: self.seed, now: chrono::Utc::now() };
        let columns = projection.iter().map(|index| kitchen.column(&self.recipes[*index], numbers.start, rows));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows_made =
            RecordBatch::try_new_with_options(Arc::new(self.schema.project(projection)?), columns, &options)?;
        Ok(Made { rows: rows_made, bytes: rows * self.width as usize })
    }
}

#[cfg(test)]
mod tests;
