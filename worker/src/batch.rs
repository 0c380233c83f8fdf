//! Rows in columns, and what each row does to the table it belongs to.

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt8Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The change that a row makes, in the notation of Flink's changelogs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`: a new row.
    Insert = 0,
    /// `-U`: the old content of a row whose new content follows.
    UpdateBefore = 1,
    /// `+U`: the new content of a row.
    UpdateAfter = 2,
    /// `-D`: a row goes away.
    Delete = 3,
}

impl RowKind {
    /// The kind that a batch stores as `code`.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Insert, Self::UpdateBefore, Self::UpdateAfter, Self::Delete].into_iter().nth(usize::from(code))
    }

    /// `+I`, `-U`, `+U` or `-D`.
    #[must_use]
    pub fn notation(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// True for `+I` and `+U`.
    #[must_use]
    pub fn is_addition(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateAfter)
    }
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.notation())
    }
}

/// Rows in columns with their kinds: the unit that operators process.
///
/// Strings are `Utf8View` and byte strings `BinaryView`, so that filtering and taking copy 16 bytes a value.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The rows.
    pub rows: RecordBatch,
    /// One [`RowKind`] code per row; absent when every row is an insert.
    pub kinds: Option<UInt8Array>,
    /// When the oldest of the rows left its source, where that is measured.
    pub born: Option<Instant>,
}

impl Batch {
    /// Rows that are all inserts.
    #[must_use]
    pub fn inserts(rows: RecordBatch) -> Self {
        Self { rows, kinds: None, born: None }
    }

    /// Rows with their kinds. Both have the same length.
    #[must_use]
    pub fn changes(rows: RecordBatch, kinds: UInt8Array) -> Self {
        assert_eq!(rows.num_rows(), kinds.len(), "a batch has a kind for each of its rows");
        Self { rows, kinds: Some(kinds), born: None }
    }

    /// The number of rows.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// True when no row is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.num_rows() == 0
    }

    /// The columns' names and types.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    /// A column by its place.
    #[must_use]
    pub fn column(&self, index: usize) -> &ArrayRef {
        self.rows.column(index)
    }

    /// The kind of one row.
    #[must_use]
    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds.as_ref().map_or(RowKind::Insert, |kinds| {
            RowKind::from_code(kinds.value(row)).expect("a batch holds only codes of row kinds")
        })
    }

    /// The same changes with other columns.
    #[must_use]
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        Self { rows, kinds: self.kinds.clone(), born: self.born }
    }

    /// A view of `length` rows from `offset`, without a copy.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            rows: self.rows.slice(offset, length),
            kinds: self.kinds.as_ref().map(|kinds| kinds.slice(offset, length)),
            born: self.born,
        }
    }

    /// The rows for which `keep` is true; null counts as false.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self, ArrowError> {
        let kinds = self.kinds.as_ref().map(|kinds| compute::filter(kinds, keep)).transpose()?;
        Ok(Self {
            rows: compute::filter_record_batch(&self.rows, keep)?,
            kinds: kinds.map(|kinds| as_kinds(&kinds)),
            born: self.born,
        })
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self, ArrowError> {
        let kinds = self.kinds.as_ref().map(|kinds| compute::take(kinds, indices, None)).transpose()?;
        Ok(Self {
            rows: compute::take_record_batch(&self.rows, indices)?,
            kinds: kinds.map(|kinds| as_kinds(&kinds)),
            born: self.born,
        })
    }

    /// All rows of `batches`, which share a schema, in order. `None` for no batches.
    pub fn concat(batches: &[Self]) -> Result<Option<Self>, ArrowError> {
        let Some(first) = batches.first() else { return Ok(None) };
        if batches.len() == 1 {
            return Ok(Some(first.clone()));
        }
        let rows = compute::concat_batches(&first.schema(), batches.iter().map(|batch| &batch.rows))?;
        let kinds = batches.iter().any(|batch| batch.kinds.is_some()).then(|| {
            let codes = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| batch.kind(row) as u8));
            UInt8Array::from_iter_values(codes)
        });
        Ok(Some(Self { rows, kinds, born: batches.iter().filter_map(|batch| batch.born).min() }))
    }

    /// About how many bytes of memory the rows themselves take, in the time of a look at each column: what credits and
    /// budgets count. Text that a view shares with other batches counts by its share of rows.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let kinds = self.kinds.as_ref().map_or(0, Array::len);
        kinds + self.rows.columns().iter().map(column_bytes).sum::<usize>()
    }
}

fn as_kinds(array: &ArrayRef) -> UInt8Array {
    UInt8Array::from(array.to_data())
}

fn column_bytes(column: &ArrayRef) -> usize {
    let rows = column.len();
    match column.data_type() {
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8View | DataType::BinaryView => {
            // A view does not tell how much of a shared buffer it uses; each value has its length in the low 32 bits.
            let data = column.to_data();
            let views = &data.buffers()[0].typed_data::<u128>()[data.offset()..data.offset() + rows];
            views.iter().map(|view| 16 + (*view as u32 as usize).saturating_sub(12)).sum()
        }
        DataType::Struct(_) => {
            let children = column.to_data();
            children.child_data().iter().map(|child| column_bytes(&arrow::array::make_array(child.clone()))).sum()
        }
        data_type => match data_type.primitive_width() {
            Some(width) => rows * width,
            None => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
        },
    }
}

/// An all-insert batch of no rows.
#[must_use]
pub fn empty(schema: SchemaRef) -> Batch {
    Batch::inserts(RecordBatch::new_empty(schema))
}

/// The array of `rows` kinds that are all `kind`.
#[must_use]
pub fn uniform_kinds(kind: RowKind, rows: usize) -> UInt8Array {
    UInt8Array::from_value(kind as u8, rows)
}

/// A batch out of columns, for operators that build their output column by column.
pub fn from_columns(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<Batch, ArrowError> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(Batch::inserts(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?))
}
