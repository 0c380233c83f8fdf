//! Rows to bytes and back, and bytes that are none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::decode::{Decoder, Error};
use super::encode::{Encoded, Encoder, in_pieces};
use super::{lz4, schema};
use crate::batch::Batch;
use crate::exchange::Compression;
use crate::exchange::frame::Header;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, ListArray, NullArray, RecordBatch, StringArray, StringViewArray, StructArray, UInt8Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};
use proptest::prelude::*;
use std::sync::Arc;
use weir_protocol::Generation;

/// A text that is sometimes short, sometimes long.
fn text(row: usize) -> String {
    if row.is_multiple_of(3) { format!("r{row}") } else { format!("the long text of row {row}, which is not inlined") }
}

/// Every type of column that goes between tasks, every fifth value null where there are nulls.
pub(in crate::exchange) fn every_type(rows: usize) -> RecordBatch {
    let given = |row: &usize| row % 5 != 4;
    let ints: ArrayRef = Arc::new(Int32Array::from_iter((0..rows).map(|row| given(&row).then_some(row as i32 % 100))));
    let of = |data_type: DataType| cast(&cast(&ints, &DataType::Int64).unwrap(), &data_type).unwrap();
    let timestamp = |unit, zone: Option<&str>| of(DataType::Timestamp(unit, zone.map(Into::into)));
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter((0..rows).map(|row| given(&row).then(|| text(row)))));
    let bytes: ArrayRef =
        Arc::new(BinaryViewArray::from_iter((0..rows).map(|row| given(&row).then(|| text(row).into_bytes()))));
    let nulls = NullBuffer::from_iter((0..rows).map(|row| row % 7 != 6));
    let inner: ArrayRef =
        Arc::new(StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int32, true)), Arc::clone(&ints))]));
    let fields = vec![Field::new("t", DataType::Utf8View, true), Field::new("i", inner.data_type().clone(), true)];
    let row: ArrayRef =
        Arc::new(StructArray::new(fields.into(), vec![Arc::clone(&texts), Arc::clone(&inner)], Some(nulls.clone())));
    let list = |values: &ArrayRef| -> ArrayRef {
        // Lists of 0, 1 and 2 values.
        let lengths = (0..rows).map(|row| row % 3).scan(rows, |left, length| {
            let length = length.min(*left);
            *left -= length;
            Some(length)
        });
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        Arc::new(ListArray::new(field, offsets, Arc::clone(values), Some(nulls.clone())))
    };
    let fixed = FixedSizeBinaryArray::try_from_iter((0..rows.max(1)).map(|row| [row as u8, 1, 2])).unwrap();
    RecordBatch::try_from_iter_with_nullable([
        (
            "boolean",
            Arc::new(BooleanArray::from_iter((0..rows).map(|row| given(&row).then_some(row % 2 == 0)))) as ArrayRef,
            true,
        ),
        ("tinyint", of(DataType::Int8), true),
        ("smallint", of(DataType::Int16), true),
        ("int", Arc::clone(&ints), true),
        ("bigint", of(DataType::Int64), true),
        ("not null", Arc::new(Int64Array::from_iter_values(0..rows as i64)), false),
        ("unsigned", of(DataType::UInt64), true),
        ("float", of(DataType::Float32), true),
        ("double", Arc::new(Float64Array::from_iter_values((0..rows).map(|row| row as f64 / 3.0))), true),
        ("decimal", of(DataType::Decimal128(20, 3)), true),
        ("date", cast(&ints, &DataType::Date32).unwrap(), true),
        ("time", cast(&ints, &DataType::Time32(TimeUnit::Millisecond)).unwrap(), true),
        ("timestamp 3", timestamp(TimeUnit::Millisecond, None), true),
        ("timestamp 6", timestamp(TimeUnit::Microsecond, None), true),
        ("timestamp ltz", timestamp(TimeUnit::Microsecond, Some("UTC")), true),
        ("text", Arc::clone(&texts), true),
        ("bytes", bytes, true),
        ("row", Arc::clone(&row), true),
        ("list of bigint", list(&of(DataType::Int64)), true),
        ("list of text", list(&texts), true),
        ("list of row", list(&row), true),
        ("list of list", list(&list(&texts)), true),
        ("offsets", Arc::new(StringArray::from_iter_values((0..rows).map(text))), true),
        ("offset bytes", Arc::new(BinaryArray::from_iter((0..rows).map(|row| given(&row).then_some(b"abc")))), true),
        ("fixed", Arc::new(fixed.slice(0, rows)), true),
        ("null", Arc::new(NullArray::new(rows)), true),
    ])
    .unwrap()
}

fn kinds(rows: usize) -> UInt8Array {
    UInt8Array::from_iter_values((0..rows).map(|row| (row % 4) as u8))
}

/// The frame of a batch: its header and its body in one aligned piece, as it is read from a connection.
fn frame(encoded: &Encoded) -> (Header, Buffer) {
    let bytes: Vec<u8> = encoded.parts.iter().flat_map(Buffer::as_slice).copied().collect();
    assert_eq!(bytes.len(), encoded.length as usize);
    let header = Header { rows: encoded.rows, ..Header::over(encoded.kind, Generation(1), 0, &bytes) };
    assert_eq!(header.body_crc, encoded.crc);
    (header, aligned(&bytes))
}

fn aligned(bytes: &[u8]) -> Buffer {
    let mut buffer = arrow::buffer::MutableBuffer::new(bytes.len());
    buffer.extend_from_slice(bytes);
    buffer.into()
}

fn encode(batch: &Batch, compression: Compression) -> Encoded {
    Encoder::new(compression).encode(batch).unwrap().1
}

fn decoder(batch: &Batch) -> Decoder {
    let told = Encoder::new(Compression::None).encode(batch).unwrap().0.unwrap();
    let schema = schema::decode(&told).unwrap();
    assert_eq!(schema, batch.schema());
    Decoder::new(schema)
}

#[test]
fn rows_of_every_type_arrive_as_they_were_sent() {
    for (rows, compression) in
        [(0, Compression::None), (1, Compression::Lz4), (500, Compression::None), (500, Compression::Lz4)]
    {
        let whole = every_type(rows);
        let slices = [(0, rows), (rows / 3, rows / 2), (rows, 0), (rows / 2, rows - rows / 2)];
        for (offset, length) in slices {
            let inserts = Batch::inserts(whole.slice(offset, length));
            let changes = Batch::changes(whole.slice(offset, length), kinds(rows).slice(offset, length));
            for batch in [inserts, changes] {
                let (header, body) = frame(&encode(&batch, compression));
                let decoded = decoder(&batch).decode(&header, &body, None).unwrap();
                assert_eq!(decoded.rows, batch.rows, "{offset} {length} {compression:?}");
                assert_eq!(decoded.kinds, batch.kinds, "{offset} {length} {compression:?}");
            }
        }
    }
}

#[test]
fn a_small_slice_takes_no_more_than_it_needs() {
    let rows = every_type(20_000).project(&[15, 16, 17, 19, 21]).unwrap();
    let batch = Batch::inserts(rows.slice(10_000, 3));
    let encoded = encode(&batch, Compression::None);
    assert!(encoded.length < 4096, "{} bytes", encoded.length);
}

#[test]
fn columns_that_are_alike_travel_once() {
    for (rows, alike) in [(60, false), (1000, true), (1001, true), (1003, true)] {
        let column = |from: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(from..from + rows)) };
        let other = cast(&column(0), &DataType::UInt64).unwrap();
        let columns = [column(0), column(7), other, column(7), column(0)];
        let columns = columns.into_iter().enumerate().map(|(at, column)| (format!("c{at}"), column));
        let batch = Batch::changes(RecordBatch::try_from_iter(columns).unwrap(), kinds(rows as usize));
        let encoded = encode(&batch, Compression::None);
        let times = if alike { 2 } else { 5 };
        let least = (times * 8 + 1) * rows as u32;
        assert!((least..least + 2048).contains(&encoded.length), "{rows} rows: {} bytes", encoded.length);
        let (header, body) = frame(&encoded);
        let decoded = decoder(&batch).decode(&header, &body, None).unwrap();
        assert_eq!((decoded.rows, decoded.kinds), (batch.rows, batch.kinds), "{rows} rows");
    }
}

proptest! {
    #[test]
    fn whatever_columns_are_alike_rows_arrive_as_they_were_sent(
        columns in prop::collection::vec((0_i64..3, any::<bool>()), 1..8),
        rows in 1_usize..700,
    ) {
        let columns = columns.into_iter().enumerate().map(|(at, (from, nulls))| {
            let value = |row: i64| (!nulls || row % 3 > 0).then_some(from + row / 8);
            (format!("c{at}"), Arc::new(Int64Array::from_iter((0..rows as i64).map(value))) as ArrayRef, true)
        });
        let batch = Batch::inserts(RecordBatch::try_from_iter_with_nullable(columns).unwrap());
        let (header, body) = frame(&encode(&batch, Compression::None));
        prop_assert_eq!(decoder(&batch).decode(&header, &body, None).unwrap().rows, batch.rows);
    }
}

#[test]
fn neither_end_copies_what_can_be_shared() {
    let batch = Batch::inserts(every_type(300).project(&[4, 15]).unwrap());
    let within = |address: usize, memory: &[u8]| {
        (memory.as_ptr() as usize..memory.as_ptr() as usize + memory.len()).contains(&address)
    };
    let sent = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().as_ptr() as usize;
    let encoded = encode(&batch, Compression::None);
    assert!(encoded.parts.iter().any(|part| within(sent, part)), "the column's memory is sent as it is");
    let (header, body) = frame(&encoded);
    let decoded = decoder(&batch).decode(&header, &body, None).unwrap();
    let text = decoded.column(1).as_string_view();
    assert!(within(text.views().as_ptr() as usize, &body) && within(text.data_buffers()[0].as_ptr() as usize, &body));
}

#[test]
fn a_large_batch_is_cut_and_a_large_row_passes_whole() {
    let check = |batch: Batch, expected: &[usize]| {
        let mut pieces = Vec::new();
        in_pieces(batch.clone(), &mut |piece| {
            pieces.push(piece);
            Ok(())
        })
        .unwrap();
        assert_eq!(pieces.iter().map(Batch::num_rows).collect::<Vec<_>>(), expected);
        assert_eq!(Batch::concat(&pieces).unwrap().unwrap().rows, batch.rows);
    };
    let ints = |rows: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(0..rows)) };
    let texts = |lengths: &[usize]| -> ArrayRef {
        Arc::new(StringViewArray::from_iter_values(lengths.iter().map(|length| "x".repeat(*length))))
    };
    let of = |column| Batch::inserts(RecordBatch::try_from_iter([("c", column)]).unwrap());
    check(of(ints(1000)), &[1000]);
    check(of(ints(40_000)), &[10_000; 4]);
    check(of(texts(&[3 << 20, 3 << 20, 10, 10])), &[1, 1, 2]);
    check(of(texts(&[20 << 20])), &[1]);
}

#[test]
fn a_type_that_does_not_exist_is_refused() {
    let check = |columns: &str| assert!(schema::decode(columns.as_bytes()).is_err(), "{columns}");
    check("");
    check("{}");
    check(r#"[{"name":"a","nullable":true,"type":{"Plain":"Float16"}}]"#);
    check(r#"[{"name":"a","nullable":true,"type":{"FixedBytes":0}}]"#);
    check(r#"[{"name":"a","nullable":true,"type":{"FixedBytes":4294967295}}]"#);
    check(r#"[{"name":"a","nullable":true,"type":{"Decimal128":[39,2]}}]"#);
    check(r#"[{"name":"a","nullable":true,"type":{"Decimal128":[0,0]}}]"#);
    let deep = 200;
    let nested =
        r#"{"List":{"name":"a","nullable":true,"type":"#.repeat(deep) + r#"{"Plain":"Int8"}"# + &"}}".repeat(deep);
    check(&format!(r#"[{{"name":"a","nullable":true,"type":{nested}}}]"#));
}

#[test]
fn kinds_and_numbers_of_rows_that_do_not_fit_are_refused() {
    let batch = Batch::changes(every_type(10), kinds(10));
    let (header, body) = frame(&encode(&batch, Compression::None));
    let decode = |header: Header, body: &Buffer| decoder(&batch).decode(&header, body, None);
    assert!(decode(header, &body).is_ok());
    let mut other = body.to_vec();
    *other.last_mut().unwrap() = 4;
    assert!(matches!(decode(header, &aligned(&other)), Err(Error::Kinds)));
    assert!(decode(Header { rows: 9, ..header }, &body).is_err());
    assert!(matches!(decode(Header { rows: u32::MAX, ..header }, &body), Err(Error::Short)));
}

#[test]
fn a_compressed_buffer_that_grows_past_its_promise_is_found_out() {
    let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; 500_000]));
    let batch = Batch::inserts(RecordBatch::try_from_iter([("zeros", zeros)]).unwrap());
    let (header, body) = frame(&encode(&batch, Compression::Lz4));
    let promise = 4_000_000_u64.to_le_bytes();
    let at = body.windows(8).position(|bytes| bytes == promise).unwrap();
    assert!(lz4::keeps_to(&body[at + 8..][..lz4_length(&body[at + 8..])], 4_000_000));
    let mut lies = body.to_vec();
    lies[at..at + 8].copy_from_slice(&100_u64.to_le_bytes());
    // The block that holds four million bytes is allowed for; what it unpacks to is still not what was promised.
    assert!(decoder(&batch).decode(&header, &aligned(&lies), None).is_err());
    let frame = &body[at + 8..][..lz4_length(&body[at + 8..])];
    let block_end = frame.len() - 4;
    let doubled = [&frame[..block_end], &frame[7..block_end], &frame[block_end..]].concat();
    assert!(!lz4::keeps_to(&doubled, 100));
}

/// The length of the frame at the start of these bytes.
fn lz4_length(bytes: &[u8]) -> usize {
    (1..=bytes.len()).find(|length| lz4::bound(&bytes[..*length]).is_some()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever a peer puts behind a right checksum is refused or is a batch; nothing panics.
    #[test]
    fn a_mutated_body_is_refused_or_is_a_batch(
        rows in 0_usize..40,
        compressed in any::<bool>(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_usize..3), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        announced in prop::option::of(any::<u32>()),
    ) {
        let batch = Batch::changes(every_type(rows), kinds(rows));
        let compression = if compressed { Compression::Lz4 } else { Compression::None };
        let encoded = encode(&batch, compression);
        let (header, body) = frame(&encoded);
        let mut bytes = body.to_vec();
        for (place, value, how) in mutations {
            // Half of the mutations hit the message's description, where they do most.
            let description = 8 + u32::from_le_bytes(bytes[4..8].try_into().unwrap_or_default()) as usize;
            let place = if how == 0 { place.index(bytes.len()) } else { place.index(description.clamp(1, bytes.len())) };
            bytes[place] = if how == 2 { bytes[place] ^ (1 << (value % 8)) } else { value };
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let header = Header { rows: announced.unwrap_or(header.rows), ..header };
        if let Ok(decoded) = decoder(&batch).decode(&header, &aligned(&bytes), None) {
            prop_assert_eq!(decoded.num_rows(), header.rows as usize);
            // Reading all of it touches what was not copied.
            let _ = decoded.bytes();
            arrow::util::pretty::pretty_format_batches(&[decoded.rows]).unwrap();
        }
    }

    #[test]
    fn random_bytes_are_no_columns_and_no_compressed_frame(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = schema::decode(&bytes);
        let _ = lz4::bound(&bytes);
        let framed = [&0x184D_2204_u32.to_le_bytes()[..], &bytes].concat();
        let _ = lz4::bound(&framed);
    }
}
