//! Keys as words: how the key columns of a batch are encoded, compared with those of groups, and turned into columns
//! again.
//!
//! A value that fits takes one word (see [`super::value`]), a decimal two, text and byte strings a view of two words
//! (see [`super::arena`]); anything else is encoded by arrow-row and held as a byte string. Null values have zero words
//! and a bit of their own.

use super::arena::{Arena, is_long};
use super::rows::{Columns, RowSet};
use super::value::{from_words, is_word, to_words};
use crate::failure::{Failure, Result};
use crate::operator::key_hash::{hash_keys, is_key_type};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, BooleanBufferBuilder, Decimal128Array,
    StringViewBuilder,
};
use arrow::buffer::NullBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, Decimal128Type, FieldRef};
use arrow_row::{RowConverter, SortField};
use std::sync::Arc;

const NULL_SHIFT: u32 = 32;
const NULLS_IN_HEADER: usize = 16;
/// The header's bits that tell which of the key's columns are null.
pub(super) const NULLS: u64 = 0xffff << NULL_SHIFT;

/// Where the columns of a key lie in a row.
#[derive(Debug)]
pub(super) struct KeyLayout {
    columns: Vec<KeyColumn>,
    words: usize,
}

#[derive(Debug)]
struct KeyColumn {
    field: FieldRef,
    form: Form,
    /// The first word.
    word: usize,
    /// The word and the bit that tell that it is null.
    null: (usize, u64),
}

#[derive(Debug)]
enum Form {
    Word,
    Decimal,
    Bytes,
    Encoded(RowConverter),
}

/// The keys of the rows of a batch: words laid out as in the rows of groups, with their hashes.
#[derive(Debug, Default)]
pub(super) struct KeyBatch {
    /// One run of `width` words per row; the first has the null bits of the header.
    pub(super) words: Vec<u64>,
    /// The hash that decides the key group.
    pub(super) hashes: Vec<u64>,
    /// Words of one key, the header included.
    pub(super) width: usize,
    /// Some text has more than 12 bytes, so that words alone do not tell whether keys are equal.
    pub(super) long: bool,
    bytes: Vec<(usize, BinaryViewArray)>,
}

impl KeyLayout {
    pub(super) fn new(fields: Vec<FieldRef>) -> Result<Self> {
        let null_words = if fields.len() > NULLS_IN_HEADER { fields.len().div_ceil(64) } else { 0 };
        let mut word = 1 + null_words;
        let mut columns = Vec::with_capacity(fields.len());
        for (place, field) in fields.into_iter().enumerate() {
            let form = Form::of(&field)?;
            let null = if null_words == 0 {
                (0, 1 << (NULL_SHIFT + place as u32))
            } else {
                (1 + place / 64, 1 << (place % 64))
            };
            let words = form.words();
            columns.push(KeyColumn { field, form, word, null });
            word += words;
        }
        Ok(Self { columns, words: word - 1 })
    }

    /// Words of a key after the header.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// The key's columns.
    pub(super) fn fields(&self) -> impl Iterator<Item = &FieldRef> {
        self.columns.iter().map(|column| &column.field)
    }

    /// The first words of the strings in it.
    pub(super) fn bytes_words(&self) -> impl Iterator<Item = usize> {
        let bytes = self.columns.iter().filter(|column| matches!(column.form, Form::Bytes | Form::Encoded(_)));
        bytes.map(|column| column.word)
    }

    /// Encodes and hashes the keys of `rows` rows.
    pub(super) fn encode(&self, columns: &[ArrayRef], rows: usize, batch: &mut KeyBatch) -> Result<()> {
        hash_keys(columns, rows, &mut batch.hashes)?;
        batch.width = 1 + self.words;
        batch.long = false;
        batch.bytes.clear();
        batch.words.clear();
        batch.words.resize(rows * batch.width, 0);
        for (column, array) in self.columns.iter().zip(columns) {
            column.encode(array, batch)?;
        }
        Ok(())
    }

    /// The words that [`decode`](Self::decode) needs.
    pub(super) fn decoded_words(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().flat_map(|column| {
            let values = column.word..column.word + column.form.words();
            values.chain([column.null.0])
        })
    }

    /// The key columns of groups, whose strings lie in `arena`.
    pub(super) fn decode(&self, groups: &mut Columns, arena: &Arena) -> Result<Vec<ArrayRef>> {
        self.columns.iter().map(|column| column.decode(groups, arena)).collect()
    }

    /// The key columns of rows.
    pub(super) fn decode_rows(&self, rows: &RowSet<'_>) -> Result<Vec<ArrayRef>> {
        self.decode(&mut rows.columns(self.decoded_words()), rows.arena)
    }
}

impl Form {
    fn of(field: &FieldRef) -> Result<Self> {
        match field.data_type() {
            DataType::Decimal128(..) => Ok(Self::Decimal),
            DataType::Utf8View | DataType::BinaryView => Ok(Self::Bytes),
            other if is_word(other) => Ok(Self::Word),
            other if is_key_type(other) => Ok(Self::Encoded(RowConverter::new(vec![SortField::new(other.clone())])?)),
            other => Err(Failure::user(format!("column {} of type {other} cannot be a key to group by", field.name()))),
        }
    }

    fn words(&self) -> usize {
        match self {
            Self::Word => 1,
            Self::Decimal | Self::Bytes | Self::Encoded(_) => 2,
        }
    }
}

impl KeyColumn {
    fn encode(&self, array: &ArrayRef, batch: &mut KeyBatch) -> Result<()> {
        let (width, word) = (batch.width, self.word);
        match &self.form {
            Form::Word => {
                let values = to_words(array)?;
                for (key, value) in batch.words.chunks_exact_mut(width).zip(&values) {
                    key[word] = *value as u64;
                }
            }
            Form::Decimal => {
                let values = array.as_primitive::<Decimal128Type>().values();
                for (key, value) in batch.words.chunks_exact_mut(width).zip(values) {
                    key[word] = *value as u64;
                    key[word + 1] = (*value >> 64) as u64;
                }
            }
            Form::Bytes => batch.encode_bytes(word, as_bytes(array)),
            Form::Encoded(converter) => {
                let encoded: ArrayRef =
                    Arc::new(converter.convert_columns(std::slice::from_ref(array))?.try_into_binary()?);
                batch.encode_bytes(word, compute::cast(&encoded, &DataType::BinaryView)?.as_binary_view().clone());
            }
        }
        if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
            self.encode_nulls(nulls, batch);
        }
        Ok(())
    }

    fn encode_nulls(&self, nulls: &NullBuffer, batch: &mut KeyBatch) {
        let words = self.form.words();
        for (row, key) in batch.words.chunks_exact_mut(batch.width).enumerate() {
            if nulls.is_null(row) {
                key[self.word..self.word + words].fill(0);
                key[self.null.0] |= self.null.1;
            }
        }
    }

    fn decode(&self, groups: &mut Columns, arena: &Arena) -> Result<ArrayRef> {
        let (word, (null_word, null)) = (self.word, self.null);
        let nulls = present(groups.column(null_word).iter().map(|bits| bits & null == 0));
        let data_type = self.field.data_type();
        match &self.form {
            Form::Word => from_words(signed(groups.take(word)), nulls, data_type),
            Form::Decimal => decimals(groups.pairs(word), nulls, data_type),
            Form::Bytes => Ok(bytes(groups.pairs(word), arena, nulls.as_ref(), data_type)),
            Form::Encoded(converter) => {
                let parser = converter.parser();
                let mut buffer = [0; 16];
                let mut parsed = Vec::with_capacity(groups.len());
                for place in groups.pairs(word) {
                    parsed.push(arena.read(place, &mut buffer).to_vec());
                }
                let columns = converter.convert_rows(parsed.iter().map(|bytes| parser.parse(bytes)))?;
                columns.into_iter().next().ok_or_else(|| Failure::bug("an encoded key has no column"))
            }
        }
    }
}

impl KeyBatch {
    /// The words of one key, the header's null bits first.
    #[inline]
    pub(super) fn key(&self, row: usize) -> &[u64] {
        &self.words[row * self.width..(row + 1) * self.width]
    }

    /// True when the group's row has the key of the batch's row. The words alone decide unless `long`.
    #[inline]
    pub(super) fn equals(&self, row: usize, group: &[u64], arena: &Arena) -> bool {
        let key = self.key(row);
        if (group[0] ^ key[0]) & NULLS != 0 {
            return false;
        }
        if !self.long {
            return if self.width == 2 { group[1] == key[1] } else { group[1..self.width] == key[1..] };
        }
        self.equals_long(row, group, arena)
    }

    #[cold]
    fn equals_long(&self, row: usize, group: &[u64], arena: &Arena) -> bool {
        let key = self.key(row);
        let mut word = 1;
        while word < self.width {
            let bytes = self.bytes.iter().find(|(at, _)| *at == word).filter(|_| is_long(key[word]));
            if group[word] != key[word] {
                return false;
            }
            match bytes {
                Some((_, values)) if arena.long([group[word], group[word + 1]]) != values.value(row) => return false,
                Some(_) => word += 1,
                None => {}
            }
            word += 1;
        }
        true
    }

    /// Equal for equal keys of one batch, whatever else it is.
    pub(super) fn identity(&self, row: usize) -> (Vec<u64>, Vec<&[u8]>) {
        let long = self.bytes.iter().filter(|(word, _)| is_long(self.key(row)[*word]));
        (self.key(row).to_vec(), long.map(|(_, values)| values.value(row)).collect())
    }

    /// Writes the key into a group's row, and its long strings into the arena.
    pub(super) fn write(&self, row: usize, group: &mut [u64], arena: &mut Arena) {
        let key = self.key(row);
        group[0] |= key[0];
        group[1..self.width].copy_from_slice(&key[1..]);
        for (word, values) in &self.bytes {
            if is_long(key[*word]) {
                group[*word..*word + 2].copy_from_slice(&arena.store(values.value(row)));
            }
        }
    }

    fn encode_bytes(&mut self, word: usize, values: BinaryViewArray) {
        let mut long = false;
        for (key, view) in self.words.chunks_exact_mut(self.width).zip(values.views()) {
            key[word] = *view as u64;
            let is_long = is_long(key[word]);
            key[word + 1] = if is_long { 0 } else { (*view >> 64) as u64 };
            long |= is_long;
        }
        self.long |= long;
        self.bytes.push((word, values));
    }
}

/// Text and byte strings as byte strings, without a copy.
pub(super) fn as_bytes(array: &ArrayRef) -> BinaryViewArray {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().clone().to_binary_view(),
        _ => array.as_binary_view().clone(),
    }
}

/// Which rows have a value; `None` when all have.
pub(super) fn present(is_present: impl Iterator<Item = bool> + Clone) -> Option<NullBuffer> {
    if is_present.clone().all(|is_present| is_present) {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(is_present.size_hint().0);
    is_present.for_each(|is_present| bits.append(is_present));
    Some(NullBuffer::new(bits.finish()))
}

/// Words as signed numbers, in the same memory.
pub(super) fn signed(words: Vec<u64>) -> Vec<i64> {
    words.into_iter().map(|word| word as i64).collect()
}

/// A decimal column out of two words per row.
pub(super) fn decimals(
    values: impl Iterator<Item = [u64; 2]>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let values = values.map(|words| decimal(&words, 0)).collect();
    Ok(Arc::new(Decimal128Array::new(values, nulls).with_data_type(data_type.clone())))
}

/// The 128 bits at `word`.
pub(super) fn decimal(row: &[u64], word: usize) -> i128 {
    (u128::from(row[word + 1]) << 64 | u128::from(row[word])) as i128
}

/// A text or byte-string column out of two words per row.
pub(super) fn bytes(
    values: impl Iterator<Item = [u64; 2]>,
    arena: &Arena,
    nulls: Option<&NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    let mut buffer = [0; 16];
    let rows = values.size_hint().0;
    let values = values.enumerate().map(|(at, words)| {
        let is_null = nulls.is_some_and(|nulls| nulls.is_null(at));
        (!is_null).then_some(words)
    });
    if *data_type == DataType::BinaryView {
        let mut builder = BinaryViewBuilder::with_capacity(rows);
        values.for_each(|words| builder.append_option(words.map(|words| arena.read(words, &mut buffer))));
        return Arc::new(builder.finish());
    }
    let mut builder = StringViewBuilder::with_capacity(rows);
    for words in values {
        let text = words
            .map(|words| std::str::from_utf8(arena.read(words, &mut buffer)).expect("text came from a column of text"));
        builder.append_option(text);
    }
    Arc::new(builder.finish())
}
