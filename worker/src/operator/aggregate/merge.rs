//! Merges accumulators into accumulators: partial results into groups, panes into windows, sessions into each other.

use super::accumulate::{Target, add_float, add_wide, add_word, keep_bytes, keep_decimal, keep_word};
use super::arena::Arena;
use super::key::decimal;
use super::layout::{Accumulator, Kind, Layout, SEEN, Shape};
use super::rows::RowSet;
use std::ops::Range;

/// Merges the `rows` of `from` into the groups that `target` names for them.
pub(super) fn merge(target: &mut Target<'_>, from: &RowSet<'_>, rows: Range<usize>) {
    let (layout, stride) = (target.layout, target.layout.stride);
    for accumulator in &layout.accumulators {
        for row in rows.clone() {
            let start = target.groups[row] as usize * stride;
            merge_one(accumulator, &mut target.words[start..start + stride], target.arena, from.row(row), from.arena);
        }
    }
    for row in rows {
        let start = target.groups[row] as usize * stride;
        merge_seen(layout, &mut target.words[start..start + stride], from.row(row));
    }
}

/// Merges one row into another.
pub(super) fn merge_row(layout: &Layout, to: &mut [u64], to_arena: &mut Arena, from: &[u64], from_arena: &Arena) {
    for accumulator in &layout.accumulators {
        merge_one(accumulator, to, to_arena, from, from_arena);
    }
    merge_seen(layout, to, from);
}

#[inline]
fn merge_one(accumulator: &Accumulator, to: &mut [u64], to_arena: &mut Arena, from: &[u64], from_arena: &Arena) {
    let word = accumulator.word;
    match accumulator.kind {
        Kind::CountRows | Kind::CountValues | Kind::SumWords => add_word(&mut to[word], from[word] as i64),
        Kind::SumFloats => add_float(&mut to[word], f64::from_bits(from[word])),
        Kind::SumDecimals => {
            add_wide(&mut to[word..word + 3], decimal(from, word));
            // The low 128 bits were added as a signed number; what is left of the highest word is their sign.
            let sign = (decimal(from, word) >> 127) as u64;
            to[word + 2] = to[word + 2].wrapping_add(from[word + 2].wrapping_sub(sign));
        }
        // Without a value the words are such that they never win.
        Kind::Extreme(side, Shape::Word) => keep_word(&mut to[word], from[word] as i64, side),
        Kind::Extreme(side, Shape::Decimal) => keep_decimal(&mut to[word..word + 2], decimal(from, word), side),
        Kind::Extreme(side, Shape::Bytes) => {
            let seen = accumulator.seen.expect("an extreme has a bit");
            if from[seen.word] & seen.mask != 0 {
                let mut buffer = [0; 16];
                let value = from_arena.read([from[word], from[word + 1]], &mut buffer);
                keep_bytes(to, to_arena, accumulator, side, value);
            }
        }
    }
}

#[inline]
fn merge_seen(layout: &Layout, to: &mut [u64], from: &[u64]) {
    to[0] |= from[0] & SEEN;
    let (start, count) = layout.seen;
    for word in start..start + count {
        to[word] |= from[word];
    }
}
