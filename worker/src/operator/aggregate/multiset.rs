//! The values behind `MIN` and `MAX` when rows can be taken back: value → how often, per group and accumulator.

use super::accumulate::{Input, Values};
use super::arena::Arena;
use super::layout::{Accumulator, Kind, Layout, Side};
use std::collections::BTreeMap;

/// A value, ordered as SQL orders it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    /// See [`super::value`].
    Word(i64),
    /// A decimal of the column's scale.
    Decimal(i128),
    /// Text or a byte string.
    Bytes(Box<[u8]>),
}

/// The values of one accumulator of one group.
#[derive(Debug, Default)]
pub(super) struct Multiset {
    /// How often each value is there. A negative count waits for the row that was taken back before it came.
    counts: BTreeMap<Value, i64>,
    /// The values whose count has changed since the last snapshot, and whether that snapshot has them.
    changed: BTreeMap<Value, bool>,
}

/// The multisets of all groups, by a number that the group's row keeps.
#[derive(Debug, Default)]
pub(super) struct Multisets {
    /// The accumulators that have one.
    accumulators: Vec<usize>,
    /// By number: one multiset per such accumulator.
    sets: Vec<Vec<Multiset>>,
    free: Vec<usize>,
    bytes: usize,
}

impl Value {
    fn at(values: &Values, row: usize) -> Option<Self> {
        match values {
            Values::Words(values) => Some(Self::Word(values[row])),
            Values::Decimals(values) => Some(Self::Decimal(values[row])),
            Values::Bytes(values) => Some(Self::Bytes(values.value(row).into())),
            Values::Floats(_) | Values::None => None,
        }
    }

    fn bytes(&self) -> usize {
        let held = if let Self::Bytes(bytes) = self { bytes.len() } else { 0 };
        held + size_of::<Self>() + size_of::<i64>()
    }
}

impl Multiset {
    /// Changes how often `value` is there; the change of the bytes that it all takes.
    pub(super) fn change(&mut self, value: Value, by: i64) -> isize {
        let known = self.counts.get(&value).copied();
        let persisted = *self.changed.entry(value.clone()).or_insert(known.is_some());
        let size = value.bytes() as isize;
        match known.unwrap_or(0) + by {
            0 => {
                if !persisted {
                    self.changed.remove(&value);
                }
                self.counts.remove(&value);
                if known.is_some() { -size } else { 0 }
            }
            count => {
                self.counts.insert(value, count);
                if known.is_some() { 0 } else { size }
            }
        }
    }

    /// The least or greatest value that is there.
    pub(super) fn extreme(&self, side: Side) -> Option<&Value> {
        match side {
            Side::Least => self.counts.iter().find(|(_, count)| **count > 0).map(|(value, _)| value),
            Side::Greatest => self.counts.iter().rev().find(|(_, count)| **count > 0).map(|(value, _)| value),
        }
    }

    /// The changed values with their counts, 0 for those that are gone; they count as unchanged from now.
    pub(super) fn take_changed(&mut self) -> Vec<(Value, i64)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_keys().map(|value| (value.clone(), self.counts.get(&value).copied().unwrap_or(0))).collect()
    }

    /// Sets a count from a checkpoint.
    pub(super) fn restore(&mut self, value: Value, count: i64) {
        if count == 0 {
            self.counts.remove(&value);
        } else {
            self.counts.insert(value, count);
        }
    }

    /// Takes all values away.
    pub(super) fn clear(&mut self) {
        for value in std::mem::take(&mut self.counts).into_keys() {
            let persisted = *self.changed.entry(value.clone()).or_insert(true);
            if !persisted {
                self.changed.remove(&value);
            }
        }
    }
}

impl Multisets {
    /// For the least and greatest values of a layout.
    pub(super) fn new(layout: &Layout) -> Self {
        let extremes = layout.accumulators.iter().enumerate().filter(|(_, one)| one.kind.shape().is_some());
        Self { accumulators: extremes.map(|(number, _)| number).collect(), ..Self::default() }
    }

    /// The accumulators that have multisets.
    pub(super) fn accumulators(&self) -> &[usize] {
        &self.accumulators
    }

    /// True when no accumulator needs one.
    pub(super) fn is_unused(&self) -> bool {
        self.accumulators.is_empty()
    }

    /// New empty multisets for a group. Numbers start at 1: a row that has none holds 0.
    pub(super) fn allocate(&mut self) -> u64 {
        let sets = self.accumulators.iter().map(|_| Multiset::default()).collect();
        if let Some(number) = self.free.pop() {
            self.sets[number - 1] = sets;
            return number as u64;
        }
        self.sets.push(sets);
        self.sets.len() as u64
    }

    /// Gives back a group's multisets.
    pub(super) fn release(&mut self, number: u64) {
        let Some(number) = (number as usize).checked_sub(1) else { return };
        self.clear_all(number as u64 + 1);
        self.sets[number] = Vec::new();
        self.free.push(number + 1);
    }

    /// Takes all values of a group away.
    pub(super) fn clear_all(&mut self, number: u64) {
        let Some(number) = (number as usize).checked_sub(1) else { return };
        for set in &mut self.sets[number] {
            let held: usize = set.counts.keys().map(Value::bytes).sum();
            self.bytes = self.bytes.saturating_sub(held);
            set.clear();
        }
    }

    /// The multiset of a group's accumulator, by its place in [`accumulators`](Self::accumulators).
    pub(super) fn set(&mut self, number: u64, place: usize) -> &mut Multiset {
        &mut self.sets[number as usize - 1][place]
    }

    /// Adds and takes back the values of a batch. `numbers` has the multisets of each row's group.
    pub(super) fn change(&mut self, inputs: &[Input], numbers: &[u64], signs: &[i64]) {
        for place in 0..self.accumulators.len() {
            let input = &inputs[self.accumulators[place]];
            for (row, number) in numbers.iter().enumerate() {
                let counts = input.counts.as_ref().is_none_or(|counts| counts.value(row));
                if let Some(value) = Value::at(&input.values, row).filter(|_| counts) {
                    let growth = self.set(*number, place).change(value, signs[row]);
                    self.bytes = self.bytes.saturating_add_signed(growth);
                }
            }
        }
    }

    /// Writes the least and greatest values of a group into its row.
    pub(super) fn write(&self, number: u64, layout: &Layout, row: &mut [u64], arena: &mut Arena) {
        for (place, accumulator) in self.accumulators.iter().enumerate() {
            let to = &layout.accumulators[*accumulator];
            let Kind::Extreme(side, _) = to.kind else { continue };
            let value = self.sets[number as usize - 1][place].extreme(side);
            write_value(value, to, row, arena);
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
            + self.sets.capacity() * (size_of::<Vec<Multiset>>() + self.accumulators.len() * size_of::<Multiset>())
    }
}

fn write_value(value: Option<&Value>, to: &Accumulator, row: &mut [u64], arena: &mut Arena) {
    let seen = to.seen.expect("an extreme has a bit");
    let was_seen = row[seen.word] & seen.mask != 0;
    match value {
        None => {
            row[seen.word] &= !seen.mask;
            return;
        }
        Some(Value::Word(word)) => row[to.word] = *word as u64,
        Some(Value::Decimal(decimal)) => {
            row[to.word] = *decimal as u64;
            row[to.word + 1] = (*decimal >> 64) as u64;
        }
        Some(Value::Bytes(bytes)) => {
            let known = [row[to.word], row[to.word + 1]];
            let is_same = was_seen && arena.read(known, &mut [0; 16]) == &bytes[..];
            if !is_same {
                if was_seen {
                    arena.release(known);
                }
                row[to.word..to.word + 2].copy_from_slice(&arena.store(bytes));
            }
        }
    }
    row[seen.word] |= seen.mask;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_gets_each_changed_value_once_and_nothing_that_came_and_went() {
        let mut set = Multiset::default();
        set.change(Value::Word(1), 1);
        set.change(Value::Word(2), 1);
        set.change(Value::Word(2), -1);
        assert_eq!(set.take_changed(), [(Value::Word(1), 1)]);
        set.change(Value::Word(1), -1);
        set.change(Value::Word(1), 1);
        set.change(Value::Word(1), -1);
        set.change(Value::Word(0), 2);
        assert_eq!(set.extreme(Side::Least), Some(&Value::Word(0)));
        assert_eq!(set.take_changed(), [(Value::Word(0), 2), (Value::Word(1), 0)]);
        set.clear();
        assert_eq!(set.take_changed(), [(Value::Word(0), 0)]);
    }

    #[test]
    fn what_was_taken_back_too_early_is_not_there() {
        let mut set = Multiset::default();
        set.change(Value::Word(5), -1);
        assert_eq!(set.extreme(Side::Greatest), None);
        set.change(Value::Word(5), 2);
        assert_eq!(set.extreme(Side::Greatest), Some(&Value::Word(5)));
    }
}
