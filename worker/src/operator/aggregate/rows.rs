//! Rows of words outside of a table, views of chosen rows of either, and words of rows as columns.

use super::arena::{Arena, is_long};
use super::layout::Layout;

/// Rows of words with the strings that they refer to.
#[derive(Debug, Default)]
pub(super) struct RowBuffer {
    /// Row after row.
    pub(super) words: Vec<u64>,
    /// Their strings.
    pub(super) arena: Arena,
}

/// Chosen rows, in order.
#[derive(Clone, Copy)]
pub(super) struct RowSet<'a> {
    /// Row after row.
    pub(super) words: &'a [u64],
    /// Words of a row.
    pub(super) stride: usize,
    /// The chosen rows; `None` is all.
    pub(super) picks: Option<&'a [u32]>,
    /// Their strings.
    pub(super) arena: &'a Arena,
}

impl RowBuffer {
    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.arena.clear();
    }

    /// Makes it `rows` rows that have seen nothing.
    pub(super) fn reset(&mut self, layout: &Layout, rows: usize) {
        self.clear();
        self.words.reserve(rows * layout.stride);
        for _ in 0..rows {
            self.words.extend_from_slice(&layout.initial);
        }
    }

    /// Appends a row of another place, with its strings.
    pub(super) fn push(&mut self, layout: &Layout, row: &[u64], arena: &Arena) {
        let start = self.words.len();
        self.words.extend_from_slice(row);
        if layout.has_bytes() {
            move_strings(layout, &mut self.words[start..], arena, &mut self.arena);
        }
    }

    /// All rows.
    pub(super) fn all(&self, layout: &Layout) -> RowSet<'_> {
        RowSet { words: &self.words, stride: layout.stride, picks: None, arena: &self.arena }
    }
}

/// Copies the strings that `row` refers to into another arena.
pub(super) fn move_strings(layout: &Layout, row: &mut [u64], from: &Arena, to: &mut Arena) {
    for word in layout.bytes_words() {
        if is_long(row[word]) {
            let moved = to.store(from.long([row[word], row[word + 1]]));
            row[word..word + 2].copy_from_slice(&moved);
        }
    }
}

/// Some words of rows, a column for each.
#[derive(Debug)]
pub(super) struct Columns {
    /// By word; empty for those that were not asked for.
    columns: Vec<Vec<u64>>,
    /// Those that were.
    words: Vec<usize>,
    rows: usize,
}

/// Rows that stay in the cache while they are looked at again.
pub(super) const CACHED_ROWS: usize = 128;

impl<'a> RowSet<'a> {
    /// The number of chosen rows.
    pub(super) fn len(&self) -> usize {
        self.picks.map_or_else(|| self.words.len() / self.stride, <[u32]>::len)
    }

    /// A chosen row.
    #[inline]
    pub(super) fn row(&self, at: usize) -> &'a [u64] {
        let index = self.picks.map_or(at, |picks| picks[at] as usize);
        &self.words[index * self.stride..(index + 1) * self.stride]
    }

    /// The chosen rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a [u64]> + Clone {
        let set = *self;
        (0..set.len()).map(move |at| set.row(at))
    }

    /// Two words of each chosen row.
    pub(super) fn pairs(&self, word: usize) -> impl Iterator<Item = [u64; 2]> {
        self.iter().map(move |row| [row[word], row[word + 1]])
    }

    /// One word of each chosen row.
    pub(super) fn column(&self, word: usize) -> impl Iterator<Item = u64> {
        self.iter().map(move |row| row[word])
    }

    /// Some words of each chosen row. Rows may lie all over the memory: what is fetched of one is used for all columns
    /// before the next ones push it out of the processor's cache.
    pub(super) fn columns(&self, words: impl IntoIterator<Item = usize>) -> Columns {
        let rows = self.len();
        let mut columns = Columns::with_capacity(words, rows);
        for start in (0..rows).step_by(CACHED_ROWS) {
            let end = rows.min(start + CACHED_ROWS);
            columns.extend(end - start, |at| self.row(start + at));
        }
        columns
    }
}

impl Columns {
    /// Columns of these words, each named once or more, with room for `rows` rows.
    pub(super) fn with_capacity(words: impl IntoIterator<Item = usize>, rows: usize) -> Self {
        let mut words: Vec<usize> = words.into_iter().collect();
        words.sort_unstable();
        words.dedup();
        let mut columns: Vec<Vec<u64>> = vec![Vec::new(); words.last().map_or(0, |last| last + 1)];
        words.iter().for_each(|word| columns[*word].reserve_exact(rows));
        Self { columns, words, rows: 0 }
    }

    /// Columns of these words with `rows` rows, to be [put](Self::put) there.
    pub(super) fn zeroed(words: impl IntoIterator<Item = usize>, rows: usize) -> Self {
        let mut columns = Self::with_capacity(words, 0);
        columns.words.iter().for_each(|word| columns.columns[*word] = vec![0; rows]);
        columns.rows = rows;
        columns
    }

    /// Puts rows at their places; they are few enough to stay in the cache.
    pub(super) fn put<'a>(&mut self, places: &[usize], row: impl Fn(usize) -> &'a [u64]) {
        for word in &self.words {
            let column = &mut self.columns[*word];
            places.iter().enumerate().for_each(|(at, place)| column[*place] = row(at)[*word]);
        }
    }

    /// Appends `rows` rows; they are few enough to stay in the cache.
    pub(super) fn extend<'a>(&mut self, rows: usize, row: impl Fn(usize) -> &'a [u64]) {
        for word in &self.words {
            self.columns[*word].extend((0..rows).map(|at| row(at)[*word]));
        }
        self.rows += rows;
    }

    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// One word of each row.
    pub(super) fn column(&self, word: usize) -> &[u64] {
        &self.columns[word]
    }

    /// One word of each row, which nobody needs after this.
    pub(super) fn take(&mut self, word: usize) -> Vec<u64> {
        std::mem::take(&mut self.columns[word])
    }

    /// Two words of each row.
    pub(super) fn pairs(&self, word: usize) -> impl Iterator<Item = [u64; 2]> {
        self.columns[word].iter().zip(&self.columns[word + 1]).map(|(low, high)| [*low, *high])
    }
}
