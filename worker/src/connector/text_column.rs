//! A column of text or bytes that is made row by row: views into one buffer, each row written where it stays.

use arrow::array::{ArrayRef, BinaryViewArray, ByteView, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use std::sync::Arc;

/// The longest value that lies in its view.
const INLINE: usize = 12;

/// Values of a column under construction. Rows that are never set are empty.
#[derive(Debug)]
pub(super) struct TextColumn {
    views: Vec<u128>,
    /// Where values are appended before [`Self::set`] takes them.
    pub(super) bytes: Vec<u8>,
}

impl TextColumn {
    /// A column of `rows` empty values with room for `bytes` bytes of text.
    pub(super) fn new(rows: usize, bytes: usize) -> Self {
        Self { views: vec![0; rows], bytes: Vec::with_capacity(bytes) }
    }

    /// How much text there is: where the next value starts.
    pub(super) fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Makes what was appended since `mark` the value of `row`.
    #[inline]
    pub(super) fn set(&mut self, row: usize, mark: usize) {
        let value = &self.bytes[mark..];
        if value.len() > INLINE {
            self.views[row] = ByteView::new(value.len() as u32, &value[..4]).with_offset(mark as u32).as_u128();
        } else {
            self.views[row] = make_view(value, 0, 0);
            self.bytes.truncate(mark);
        }
    }

    /// Sets the value of `row`.
    pub(super) fn set_text(&mut self, row: usize, value: &str) {
        let mark = self.mark();
        self.bytes.extend_from_slice(value.as_bytes());
        self.set(row, mark);
    }

    /// The column as text. The values are text because only text was appended.
    pub(super) fn finish_text(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        text_of_views(self.views, vec![Buffer::from_vec(self.bytes)], nulls)
    }

    /// The column as bytes.
    pub(super) fn finish_bytes(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let buffers = vec![Buffer::from_vec(self.bytes)];
        Ok(Arc::new(BinaryViewArray::try_new(ScalarBuffer::from(self.views), buffers, nulls)?))
    }
}

/// A column of text out of views into `buffers`, whose bytes are ASCII.
pub(super) fn text_of_views(
    views: Vec<u128>,
    buffers: Vec<Buffer>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let views = ScalarBuffer::from(views);
    if cfg!(debug_assertions) {
        return Ok(Arc::new(StringViewArray::try_new(views, buffers, nulls)?));
    }
    // SAFETY: views are made by `TextColumn::set` or `make_view` from slices of the very buffers, which hold ASCII; debug
    // builds check every one. Checking costs more than making the text.
    Ok(Arc::new(unsafe { StringViewArray::new_unchecked(views, buffers, nulls) }))
}
