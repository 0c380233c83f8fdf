//! Text and bytes of a slice, without what the slice does not use.
//!
//! A view refers to buffers that many slices may share; sent as they are, each slice would take all of them along.

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray, GenericListArray, OffsetSizeTrait, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ByteViewType, DataType};
use std::sync::Arc;

/// Buffers that are many, and smaller than this, are copied into one: each costs a place in the header and a piece of
/// the vectored write.
const SMALL_BUFFER: usize = 4096;

/// Buffers that are not worth joining.
const FEW_BUFFERS: usize = 4;

/// The array with views that refer to little more than they use; `None` if it is that already.
pub(super) fn compact(array: &dyn Array) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Utf8View => views(array.as_string_view()),
        DataType::BinaryView => views(array.as_binary_view()),
        DataType::Struct(_) => columns(array.as_struct()),
        DataType::List(_) => values(array.as_list::<i32>()),
        DataType::LargeList(_) => values(array.as_list::<i64>()),
        _ => None,
    }
}

fn views<T: ByteViewType>(array: &GenericByteViewArray<T>) -> Option<ArrayRef> {
    let buffers = array.data_buffers();
    let held: usize = buffers.iter().map(arrow::buffer::Buffer::len).sum();
    if held == 0 && buffers.is_empty() {
        return None;
    }
    let used = array.total_buffer_bytes_used();
    let scattered = buffers.len() > FEW_BUFFERS && held / buffers.len() < SMALL_BUFFER;
    (scattered || held > used + used / 8).then(|| Arc::new(array.gc()) as ArrayRef)
}

fn columns(array: &StructArray) -> Option<ArrayRef> {
    let compacted: Vec<_> = array.columns().iter().map(|column| compact(column.as_ref())).collect();
    if compacted.iter().all(Option::is_none) {
        return None;
    }
    let columns = array.columns().iter().zip(compacted).map(|(column, new)| new.unwrap_or_else(|| Arc::clone(column)));
    Some(Arc::new(StructArray::new(array.fields().clone(), columns.collect(), array.nulls().cloned())))
}

fn values<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> Option<ArrayRef> {
    let offsets = array.offsets();
    let (first, last) = (*offsets.first()?, *offsets.last()?);
    let used = array.values().slice(first.as_usize(), (last - first).as_usize());
    let values = compact(used.as_ref())?;
    let (DataType::List(field) | DataType::LargeList(field)) = array.data_type() else { return None };
    let lengths = offsets.windows(2).map(|pair| (pair[1] - pair[0]).as_usize());
    let offsets = OffsetBuffer::<O>::from_lengths(lengths);
    Some(Arc::new(GenericListArray::new(Arc::clone(field), offsets, values, array.nulls().cloned())))
}
