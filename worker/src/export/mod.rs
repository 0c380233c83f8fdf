//! A checkpoint as Parquet files that need nothing else: one per table of keyed state, or one per range of key groups
//! where a table is large, with readable columns (see [`crate::operator::legend`]), and an index in JSON.
//!
//! ```text
//! index.json                                     what is exported, and all that is no keyed state
//! <operator>/<table>.parquet                     a table
//! <operator>/<table>-<first>-<last>.parquet      the rows of some key groups of a large table
//! ```
//!
//! Nothing is seen at the target before all of it is there. Memory is bounded by the largest key group of a table, not by
//! the state.

pub mod index;
mod table;
pub mod target;

use crate::checkpoint::store::Store;
use crate::failure::{Failure, Result};
use crate::format::parquet::writer::ParquetWriter;
use crate::operator::legend::{KEY_GROUP, Legend};
use arrow::array::{Int32Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use index::{ExportedColumn, ExportedFile, ExportedOperator, ExportedTable, Index};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use table::{Rows, Table};
use target::Target;
use weir_protocol::chain::{Manifest, OperatorState};
use weir_protocol::snapshot::StateFile;
use weir_protocol::{KeyGroup, OperatorId};

/// A table is divided into files of about so many bytes of state.
pub const FILE_BYTES: u64 = 256 << 20;
/// Rows that are made readable at a time.
const BATCH_ROWS: usize = 64 << 10;

/// A checkpoint that is to be exported.
pub struct Export<'a> {
    /// The objects that the checkpoint refers to.
    pub store: &'a dyn Store,
    /// The checkpoint.
    pub manifest: &'a Manifest,
    /// The savepoint's name, if it is one.
    pub savepoint: Option<&'a str>,
    /// A table is divided into files of about so many bytes of state, see [`FILE_BYTES`].
    pub file_bytes: u64,
}

impl Export<'_> {
    /// Writes everything, or nothing. Fails with kind `Corrupt` when the state is not what was written, and with kind
    /// `User` when the target holds something already.
    pub fn run(&self, mut target: Target) -> Result<Index> {
        match self.write(&mut target) {
            Ok(index) => {
                target.commit(&index.to_json()?)?;
                Ok(index)
            }
            Err(failure) => {
                target.give_up();
                Err(failure)
            }
        }
    }

    fn write(&self, target: &mut Target) -> Result<Index> {
        let mut index = Index::of(self.manifest, self.savepoint);
        for (id, state) in &self.manifest.operators {
            let mut exported = ExportedOperator::of(id, state, self.manifest.committables.get(id));
            for (name, files) in by_table(state) {
                let legend = legend(state, name).map_err(|failure| failure.within(format!("operator {id}")))?;
                let table = self.table(target, (id, state), &files, legend);
                exported.tables.push(table.map_err(|failure| failure.within(format!("operator {id}, table {name}")))?);
            }
            index.operators.push(exported);
        }
        Ok(index)
    }

    fn table(
        &self,
        target: &mut Target,
        (id, state): (&OperatorId, &OperatorState),
        files: &[&StateFile],
        legend: Option<Legend>,
    ) -> Result<ExportedTable> {
        let table = Table::open(self.store, files, &state.watermarks)?;
        let ranges = table.ranges(self.file_bytes);
        let mut exported =
            ExportedTable { name: files[0].table.clone(), columns: Vec::new(), rows: 0, files: Vec::new() };
        let mut legend = legend;
        for range in &ranges {
            let path = match ranges.len() {
                1 => format!("{id}/{}.parquet", exported.name),
                _ => format!("{id}/{}-{:05}-{:05}.parquet", exported.name, range.start().0, range.end().0),
            };
            let Some(file) = write_file(target, &path, table.rows(range), &mut legend)? else { continue };
            exported.rows += file.rows;
            exported.files.push(ExportedFile { key_groups: [range.start().0, range.end().0], ..file });
        }
        exported.columns = legend.as_ref().map(columns).unwrap_or_default();
        Ok(exported)
    }
}

/// Writes one file, unless all of its rows are dead. A table that has no legend gets a plain one with its first rows.
fn write_file(
    target: &mut Target,
    path: &str,
    rows: Rows<'_>,
    legend: &mut Option<Legend>,
) -> Result<Option<ExportedFile>> {
    let mut writer: Option<ParquetWriter<target::File>> = None;
    for group in rows {
        let (key_group, delta) = group?;
        let legend = legend.get_or_insert_with(|| Legend::plain(&delta.table, &delta.rows.schema(), delta.key_columns));
        for start in (0..delta.rows.num_rows()).step_by(BATCH_ROWS) {
            let rows = delta.rows.slice(start, BATCH_ROWS.min(delta.rows.num_rows() - start));
            let rows = with_key_group(key_group, &legend.read(&rows)?)?;
            let writer = match &mut writer {
                Some(writer) => writer,
                none => none.insert(ParquetWriter::new(target.create(path)?, rows.schema())?),
            };
            writer.write(&rows)?;
        }
    }
    let Some(writer) = writer else { return Ok(None) };
    let (file, rows) = writer.finish()?;
    let bytes = target.close(file)?;
    Ok(Some(ExportedFile { path: path.to_owned(), key_groups: [0, 0], rows, bytes }))
}

fn with_key_group(key_group: KeyGroup, rows: &RecordBatch) -> Result<RecordBatch> {
    let group = Int32Array::from_value(i32::from(key_group.0), rows.num_rows());
    let first = Field::new(KEY_GROUP, DataType::Int32, true);
    let schema = rows.schema();
    let fields = [Arc::new(first)].into_iter().chain(schema.fields().iter().cloned());
    let columns = [Arc::new(group) as _].into_iter().chain(rows.columns().iter().cloned());
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        columns.collect(),
        &options,
    )?)
}

fn columns(legend: &Legend) -> Vec<ExportedColumn> {
    let key_group = ExportedColumn { name: KEY_GROUP.to_owned(), sql_type: "INT".to_owned(), role: None };
    let column = |column: &crate::operator::legend::Column| ExportedColumn {
        name: column.name.clone(),
        sql_type: column.sql_type.clone(),
        role: Some(column.role),
    };
    [key_group].into_iter().chain(legend.columns.iter().map(column)).collect()
}

/// An operator's files by table, in the order in which they are to be applied.
fn by_table(state: &OperatorState) -> BTreeMap<&str, Vec<&StateFile>> {
    let mut tables: BTreeMap<&str, Vec<&StateFile>> = BTreeMap::new();
    for file in &state.files {
        tables.entry(&file.table).or_default().push(file);
    }
    tables.values_mut().for_each(|files| files.sort_by_key(|file| file.sequence));
    tables
}

/// What a table's columns mean, if the checkpoint says so.
fn legend(state: &OperatorState, table: &str) -> Result<Option<Legend>> {
    if state.legend.is_null() {
        return Ok(None);
    }
    let legends: Vec<Legend> = serde_json::from_value(state.legend.clone())
        .map_err(|error| Failure::corrupt("the legend of its state is of another form").because(error))?;
    Ok(legends.into_iter().find(|legend| legend.table == table))
}

/// Key groups from the first to the last.
type KeyGroups = RangeInclusive<KeyGroup>;

#[cfg(test)]
mod tests;
