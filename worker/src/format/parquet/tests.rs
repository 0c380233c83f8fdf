#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use ::parquet::arrow::ArrowWriter;
use arrow::array::{Decimal128Array, Int32Array, Int64Array, ListArray, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Int64Type, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

fn file(rows: &RecordBatch) -> File {
    let mut file = tempfile::tempfile().unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
    file.write_all(&bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

fn read(file: File, fields: Vec<Field>) -> Result<Vec<String>> {
    let schema = Arc::new(Schema::new(fields));
    let selection = Selection { schema: Arc::clone(&schema), bytes: 0..u64::MAX, skipped_rows: 0, max_rows: 100 };
    let mut reader = RowGroupReader::open(file, selection)?;
    let mut lines = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        assert_eq!(batch.schema(), schema);
        let drawn = pretty_format_batches(&[batch]).unwrap().to_string();
        let rows = drawn.lines().skip(3).filter(|line| line.starts_with('|'));
        lines.extend(rows.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|")));
    }
    Ok(lines)
}

#[test]
fn columns_are_found_by_name_and_widened_without_loss() {
    let inner = Fields::from(vec![Field::new("b", DataType::Int32, true), Field::new("c", DataType::Utf8, true)]);
    let inner_columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(StringArray::from(vec!["x", "y"]))];
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
    let rows = RecordBatch::try_from_iter([
        ("unused", Arc::new(Int64Array::from(vec![0, 0])) as ArrayRef),
        ("r", Arc::new(StructArray::new(inner, inner_columns, None))),
        ("l", Arc::new(list)),
        ("n", Arc::new(Int32Array::from(vec![Some(5), None]))),
        ("d", Arc::new(Decimal128Array::from(vec![150, -1]).with_precision_and_scale(5, 2).unwrap())),
        ("t", Arc::new(TimestampNanosecondArray::from(vec![1_500_000_000, 0]))),
    ])
    .unwrap();
    let wanted_row = vec![Field::new("c", DataType::Utf8View, true), Field::new("b", DataType::Int64, true)];
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("d", DataType::Decimal128(10, 3), true),
        Field::new("r", DataType::Struct(wanted_row.into()), true),
        Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Int64, true))), true),
        Field::new("absent", DataType::Utf8View, true),
    ];
    let expected =
        ["|5|1970-01-01T00:00:01.500|1.500|{c: x, b: 1}|[1, ]||", "||1970-01-01T00:00:00|-0.010|{c: y, b: 2}|||"];
    assert_eq!(read(file(&rows), fields).unwrap(), expected);
}

fn two_rows() -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    RecordBatch::try_from_iter([("n", numbers), ("s", texts)]).unwrap()
}

#[test]
fn what_does_not_fit_is_told_with_column_and_types() {
    let rows = two_rows();
    let table = [
        (
            Field::new("n", DataType::Int32, true),
            "the column 'n' is BIGINT in the file, which does not fit INT, its type in the table; declare the column as \
             BIGINT",
        ),
        (
            Field::new("s", DataType::Date32, true),
            "the column 's' is STRING in the file, which does not fit DATE, its type in the table; declare the column as \
             STRING",
        ),
        (
            Field::new("absent", DataType::Int64, false),
            "the file has no column 'absent', which is NOT NULL; it has n, s",
        ),
        (Field::new("s", DataType::Utf8View, false), "the column 's' is NOT NULL, but a row has no value there"),
    ];
    for (field, expected) in table {
        assert_eq!(read(file(&rows), vec![field]).unwrap_err().chain(), expected);
    }
}

#[test]
fn no_column_at_all_still_counts_rows() {
    let rows = two_rows();
    let schema = Arc::new(Schema::empty());
    let selection = Selection { schema, bytes: 0..u64::MAX, skipped_rows: 1, max_rows: 100 };
    let mut reader = RowGroupReader::open(file(&rows), selection).unwrap();
    assert_eq!(reader.next_batch().unwrap().unwrap().num_rows(), 1);
    assert!(reader.next_batch().unwrap().is_none());
}
