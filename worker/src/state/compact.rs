//! Merges deltas of one table: of each key the last row stays.

use crate::failure::Result;
use crate::operator::snapshot::TableDelta;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::Int64Type;
use arrow_row::{RowConverter, SortField};
use hashbrown::HashSet;
use std::collections::BTreeMap;
use weir_protocol::{EventTime, KeyGroup};

/// What a merge may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstones {
    /// Older rows may lie in files that are not part of the merge.
    Keep,
    /// The merge has all rows of its keys.
    Drop,
}

/// Merges deltas of one key group, given in the order in which they are to be applied. Rows that have expired at
/// `watermark` are left out. `None` when nothing is left.
pub fn merge(deltas: &[TableDelta], tombstones: Tombstones, watermark: EventTime) -> Result<Option<TableDelta>> {
    let Some(first) = deltas.first() else { return Ok(None) };
    let rows = compute::concat_batches(&first.rows.schema(), deltas.iter().map(|delta| &delta.rows))?;
    let deleted = deleted_rows(deltas);
    let expired = expired_rows(&rows, first.expires, watermark);
    let keep = last_of_each_key(&rows, first.key_columns)?;
    let stays = |row: &u32| {
        let row = *row as usize;
        !expired.as_ref().is_some_and(|expired| expired[row] && !deleted[row])
            && (tombstones == Tombstones::Keep || !deleted[row])
    };
    let indices: Vec<u32> = keep.into_iter().filter(stays).collect();
    if indices.is_empty() {
        return Ok(None);
    }
    let marks = BooleanArray::from_iter(indices.iter().map(|row| Some(deleted[*row as usize])));
    let rows = match indices.len() == rows.num_rows() {
        true => rows,
        false => compute::take_record_batch(&rows, &UInt32Array::from(indices))?,
    };
    Ok(Some(TableDelta {
        table: first.table.clone(),
        key_columns: first.key_columns,
        expires: first.expires,
        key_groups: vec![(first.key_groups[0].0, rows.num_rows())],
        dead: None,
        rows,
        deleted: (marks.true_count() > 0).then_some(marks),
    }))
}

/// Merges deltas of a table, given in the order in which they are to be applied, key group by key group. `None` when
/// there are no rows.
pub fn fold(deltas: &[TableDelta]) -> Result<Option<TableDelta>> {
    let mut groups: BTreeMap<KeyGroup, Vec<TableDelta>> = BTreeMap::new();
    for delta in deltas {
        let mut start = 0;
        for (group, rows) in &delta.key_groups {
            groups.entry(*group).or_default().push(TableDelta {
                table: delta.table.clone(),
                rows: delta.rows.slice(start, *rows),
                key_columns: delta.key_columns,
                expires: delta.expires,
                deleted: delta.deleted.as_ref().map(|deleted| deleted.slice(start, *rows)),
                key_groups: vec![(*group, *rows)],
                dead: None,
            });
            start += rows;
        }
    }
    let mut merged = Vec::new();
    for of_group in groups.values() {
        merged.extend(merge(of_group, Tombstones::Keep, EventTime::MIN)?);
    }
    let Some(first) = merged.first() else { return Ok(None) };
    let marks = BooleanArray::from(deleted_rows(&merged));
    Ok(Some(TableDelta {
        table: first.table.clone(),
        rows: compute::concat_batches(&first.rows.schema(), merged.iter().map(|delta| &delta.rows))?,
        key_columns: first.key_columns,
        expires: first.expires,
        deleted: (marks.true_count() > 0).then_some(marks),
        key_groups: merged.iter().flat_map(|delta| delta.key_groups.clone()).collect(),
        dead: deltas.iter().map(|delta| delta.dead).sum(),
    }))
}

fn deleted_rows(deltas: &[TableDelta]) -> Vec<bool> {
    let of_delta = |delta: &TableDelta| -> Vec<bool> {
        (0..delta.rows.num_rows()).map(|row| delta.deleted.as_ref().is_some_and(|marks| marks.value(row))).collect()
    };
    deltas.iter().flat_map(of_delta).collect()
}

/// A row is dead once event time has passed what its expiry column says.
fn expired_rows(rows: &RecordBatch, expires: Option<usize>, watermark: EventTime) -> Option<Vec<bool>> {
    let column = rows.column(expires?).as_primitive_opt::<Int64Type>()?;
    Some(column.iter().map(|end| end.is_some_and(|end| end.saturating_sub(1) <= watermark.0)).collect())
}

/// The rows that no later row replaces, in order.
fn last_of_each_key(rows: &RecordBatch, key_columns: usize) -> Result<Vec<u32>> {
    let count = rows.num_rows();
    if key_columns == 0 {
        return Ok(count.checked_sub(1).map(|last| last as u32).into_iter().collect());
    }
    let keys = &rows.columns()[..key_columns];
    let fields = keys.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let keys = RowConverter::new(fields)?.convert_columns(keys)?;
    let mut seen: HashSet<&[u8], foldhash::fast::FixedState> =
        HashSet::with_capacity_and_hasher(count, Default::default());
    let mut kept: Vec<u32> =
        (0..count).rev().filter(|row| seen.insert(keys.row(*row).data())).map(|row| row as u32).collect();
    kept.reverse();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use std::sync::Arc;

    /// `key=value` rows, `key=-` for a tombstone, with the value as expiry too.
    fn delta(rows: &str) -> TableDelta {
        let pairs: Vec<(&str, &str)> = rows.split_whitespace().map(|row| row.split_once('=').unwrap()).collect();
        let keys: ArrayRef =
            Arc::new(Int64Array::from_iter_values(pairs.iter().map(|(key, _)| key.parse::<i64>().unwrap())));
        let values: ArrayRef =
            Arc::new(Int64Array::from_iter(pairs.iter().map(|(_, value)| value.parse::<i64>().ok())));
        TableDelta {
            table: "t".into(),
            rows: RecordBatch::try_from_iter_with_nullable([("k", keys, false), ("v", values, true)]).unwrap(),
            key_columns: 1,
            expires: Some(1),
            deleted: Some(BooleanArray::from_iter(pairs.iter().map(|(_, value)| Some(*value == "-")))),
            key_groups: vec![(KeyGroup(3), pairs.len())],
            dead: None,
        }
    }

    fn check(deltas: &[&str], tombstones: Tombstones, watermark: i64, expected: &str) {
        let deltas: Vec<TableDelta> = deltas.iter().map(|rows| delta(rows)).collect();
        let merged = merge(&deltas, tombstones, EventTime(watermark)).unwrap();
        let shown = merged.map_or(String::new(), |merged| {
            let (keys, values) =
                (merged.rows.column(0).as_primitive::<Int64Type>(), merged.rows.column(1).as_primitive::<Int64Type>());
            let row = |row: usize| match merged.deleted.as_ref().is_some_and(|marks| marks.value(row)) {
                true => format!("{}=-", keys.value(row)),
                false => format!("{}={}", keys.value(row), values.value(row)),
            };
            (0..merged.rows.num_rows()).map(row).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_last_row_of_a_key_stays() {
        check(&["1=10 2=20", "1=11", "3=30 1=12"], Tombstones::Drop, 0, "2=20 3=30 1=12");
        check(&["1=10 2=20", "1=-"], Tombstones::Drop, 0, "2=20");
        check(&["1=10 2=20", "1=-"], Tombstones::Keep, 0, "2=20 1=-");
        check(&["1=-", "1=5"], Tombstones::Keep, 0, "1=5");
        check(&["1=10", "1=-"], Tombstones::Drop, 0, "");
    }

    #[test]
    fn rows_that_event_time_has_passed_are_left_out() {
        check(&["1=10 2=20", "3=21"], Tombstones::Drop, 19, "3=21");
        check(&["1=10 2=-"], Tombstones::Keep, 50, "2=-");
    }
}
