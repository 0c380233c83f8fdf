//! The table of groups: which of them a snapshot finds.

use super::{call, input_schema};
use crate::operator::aggregate::call::Function;
use crate::operator::aggregate::group_table::GroupTable;
use crate::operator::aggregate::key::KeyBatch;
use crate::operator::aggregate::layout::{Layout, Mode};
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_protocol::key_group::MaxParallelism;

const KEYS: usize = 100_000;

#[test]
fn each_changed_group_is_found_once_whatever_came_and_went_in_its_row() {
    let calls = [call(Function::CountRows, None, None, DataType::Int64)];
    let layout = Arc::new(Layout::new(&input_schema(), &[0], &calls, Mode::Append, 0).unwrap());
    let key_groups = MaxParallelism::new(128).unwrap();
    let mut table = GroupTable::new(Arc::clone(&layout), key_groups);
    let mut keys = KeyBatch::default();
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..KEYS as i64));
    layout.key.encode(&[column], KEYS, &mut keys).unwrap();
    let insert = |table: &mut GroupTable, key: usize| {
        let group = table.find_or_insert(&keys, key);
        table.mark(group);
        table.mark(group);
        group
    };
    // A thousand groups stay; in one more row others come and go.
    let mut expected = BTreeMap::new();
    for key in 0..KEYS {
        let group = insert(&mut table, key);
        if key % 100 == 0 {
            expected.insert(group, key_groups.key_group_of_hash(keys.hashes[key]));
        } else {
            table.remove(keys.hashes[key], group);
        }
    }
    assert!(table.bytes() < 1 << 20, "{} bytes for a thousand groups", table.bytes());
    let changed = table.take_changed([1]);
    let found: Vec<_> = changed.by_key_group().collect();
    assert!(found.is_sorted(), "by key group");
    assert_eq!(found.iter().map(|(key_group, group)| (*group, *key_group)).collect::<BTreeMap<_, _>>(), expected);
    assert_eq!((found.len(), changed.columns.len()), (expected.len(), expected.len()));
    let words: Vec<u64> = changed.groups.iter().map(|group| table.row(*group)[1]).collect();
    assert_eq!(changed.columns.column(1), words);
    assert!(table.take_changed([]).groups.is_empty(), "nothing has changed since");
}
