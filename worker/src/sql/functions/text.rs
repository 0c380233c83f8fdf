//! Columns of text under construction: new text in shared blocks, or parts of text that exists.

use super::arguments::Texts;
use arrow::array::{ArrayRef, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use std::mem;
use std::sync::Arc;

/// Bytes of text after which a new block begins.
const BLOCK: usize = 1 << 20;
/// Text up to this length lies in the view itself.
const INLINE: usize = 12;

/// A column of new text.
pub(super) struct TextColumn {
    views: Vec<u128>,
    valid: Vec<bool>,
    blocks: Vec<Buffer>,
    block: String,
    any_null: bool,
}

impl TextColumn {
    /// An empty column with room for `rows`.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            views: Vec::with_capacity(rows),
            valid: Vec::with_capacity(rows),
            blocks: Vec::new(),
            block: String::new(),
            any_null: false,
        }
    }

    /// Appends a string or null.
    pub(super) fn push(&mut self, text: Option<&str>) {
        match text {
            Some(text) if text.len() <= INLINE => self.view(make_view(text.as_bytes(), 0, 0)),
            Some(text) => self.write(|block| block.push_str(text)),
            None => self.push_null(),
        }
    }

    /// Appends null.
    pub(super) fn push_null(&mut self) {
        self.any_null = true;
        self.views.push(0);
        self.valid.push(false);
    }

    /// Appends what `write` adds at the end of the block it is given.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.block.len();
        write(&mut self.block);
        let text = &self.block.as_bytes()[start..];
        if text.len() <= INLINE {
            let view = make_view(text, 0, 0);
            self.block.truncate(start);
            self.view(view);
            return;
        }
        let block = u32::try_from(self.blocks.len()).expect("a column has fewer blocks than rows");
        let offset = u32::try_from(start).expect("a block is sealed before it is a gigabyte long");
        let view = make_view(text, block, offset);
        self.view(view);
        if self.block.len() >= BLOCK {
            self.blocks.push(Buffer::from_vec(mem::take(&mut self.block).into_bytes()));
        }
    }

    /// Appends the last string again, without a copy. There must be one.
    #[inline]
    pub(super) fn repeat(&mut self, row: usize) {
        let view = self.views[row];
        self.view(view);
    }

    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        self.views.len()
    }

    #[inline]
    fn view(&mut self, view: u128) {
        self.views.push(view);
        self.valid.push(true);
    }

    /// The column.
    pub(super) fn finish(mut self) -> ArrayRef {
        if !self.block.is_empty() {
            self.blocks.push(Buffer::from_vec(self.block.into_bytes()));
        }
        let nulls = self.any_null.then(|| NullBuffer::from(self.valid));
        // SAFETY: every view was made from valid UTF-8: inline, or as a range of a block that is in `blocks` now.
        Arc::new(unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(self.views), self.blocks, nulls) })
    }
}

/// A column of parts of another column's text, which shares its bytes.
pub(super) enum PartColumn<'a> {
    /// Parts of a column.
    Shared {
        /// The column.
        source: &'a StringViewArray,
        /// Views of the parts.
        views: Vec<u128>,
        /// Which rows are not null.
        valid: Vec<bool>,
    },
    /// Parts of a constant are copied.
    Copied(TextColumn),
}

impl<'a> PartColumn<'a> {
    /// An empty column for parts of `source`.
    pub(super) fn new(source: Texts<'a>, rows: usize) -> Self {
        match source {
            Texts::Column(source) => {
                Self::Shared { source, views: Vec::with_capacity(rows), valid: Vec::with_capacity(rows) }
            }
            Texts::Constant(_) => Self::Copied(TextColumn::new(rows)),
        }
    }

    /// Appends `part`, which must be a slice of the source's text in `row`, or null.
    #[inline]
    pub(super) fn push(&mut self, row: usize, part: Option<&str>) {
        match self {
            Self::Copied(column) => column.push(part),
            Self::Shared { source, views, valid } => {
                valid.push(part.is_some());
                views.push(part.map_or(0, |part| part_view(source, row, part)));
            }
        }
    }

    /// The column.
    pub(super) fn finish(self) -> ArrayRef {
        match self {
            Self::Copied(column) => column.finish(),
            Self::Shared { source, views, valid } => {
                let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
                let views = ScalarBuffer::from(views);
                // SAFETY: every view is inline, or a range of a string that `source` has, in the same buffer.
                Arc::new(unsafe { StringViewArray::new_unchecked(views, source.data_buffers().to_vec(), nulls) })
            }
        }
    }
}

/// The view of `part`, a slice of the text in `row`.
#[inline]
fn part_view(source: &StringViewArray, row: usize, part: &str) -> u128 {
    let whole = source.value(row).as_bytes();
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    assert!(start <= whole.len() && part.len() <= whole.len() - start, "a part lies in its row's text");
    if part.len() <= INLINE {
        return inline_view(&whole[start..], part.len());
    }
    // A view of long text: length, prefix, buffer and offset, 32 bits each from the lowest.
    let view = source.views()[row];
    let (buffer, offset) = ((view >> 64) as u32, (view >> 96) as u32);
    make_view(part.as_bytes(), buffer, offset + u32::try_from(start).expect("text is shorter than 4 GB"))
}

/// The view of the first `length` bytes of `text`, which fit into it. Where 16 bytes can be read there is no copy whose
/// length varies.
#[inline]
fn inline_view(text: &[u8], length: usize) -> u128 {
    let Some(bytes) = text.first_chunk::<16>() else {
        return make_view(&text[..length], 0, 0);
    };
    let kept = u128::from_le_bytes(*bytes) & ((1 << (8 * length)) - 1);
    kept << 32 | length as u128
}
