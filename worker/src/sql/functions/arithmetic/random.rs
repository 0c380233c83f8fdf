//! Random numbers: without a seed another sequence in every batch, with a seed the sequence of Java's `Random`.
//!
//! A call with a constant seed has one sequence in each task, which goes on from batch to batch; a restart begins it anew.
//! With a seed that differs from row to row, each row is the first of its seed's sequence. Both are as in Flink.

use super::super::arguments::{Call, Values};
use arrow::array::{ArrayRef, Float64Array, Int32Array};
use arrow::datatypes::Int64Type;
use datafusion_common::Result;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// The linear congruential generator that the documentation of `java.util.Random` prescribes.
#[derive(Debug, Clone, Copy)]
struct JavaRandom(u64);

const MASK: u64 = (1 << 48) - 1;

impl JavaRandom {
    fn new(seed: i64) -> Self {
        Self((seed as u64 ^ 0x5_DEEC_E66D) & MASK)
    }

    fn next(&mut self, bits: u32) -> i32 {
        self.0 = self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & MASK;
        (self.0 >> (48 - bits)) as i32
    }

    fn double(&mut self) -> f64 {
        let high = i64::from(self.next(26)) << 27;
        (high + i64::from(self.next(27))) as f64 / (1_i64 << 53) as f64
    }

    /// From 0 to below `bound`, which is above 0.
    fn below(&mut self, bound: i32) -> i32 {
        let mut bits = self.next(31);
        if bound & (bound - 1) == 0 {
            return ((i64::from(bound) * i64::from(bits)) >> 31) as i32;
        }
        // What is above the last whole multiple of the bound would favour small numbers.
        while bits.wrapping_sub(bits % bound).wrapping_add(bound - 1) < 0 {
            bits = self.next(31);
        }
        bits % bound
    }
}

thread_local! {
    /// The sequences of the calls with a constant seed in the task of this thread, by call; a plan has few of them.
    static SEQUENCES: RefCell<HashMap<u64, JavaRandom>> = RefCell::new(HashMap::new());
}

/// Where the numbers of a call come from.
enum Numbers {
    Sequence(JavaRandom),
    Seeds(Values<Int64Type>),
}

impl Numbers {
    fn of(call: &Call<'_>, seeds: Option<Values<Int64Type>>) -> Self {
        match seeds {
            None => Self::Sequence(JavaRandom(uuid::Uuid::new_v4().as_u64_pair().0 & MASK)),
            Some(seeds) => match seeds.constant() {
                Some(seed) => Self::Sequence(
                    SEQUENCES.with_borrow(|known| known.get(&call.site).copied()).unwrap_or(JavaRandom::new(seed)),
                ),
                None => Self::Seeds(seeds),
            },
        }
    }

    fn next<T>(&mut self, row: usize, number: impl Fn(&mut JavaRandom) -> T) -> Option<T> {
        match self {
            Self::Sequence(random) => Some(number(random)),
            Self::Seeds(seeds) => Some(number(&mut JavaRandom::new(seeds.get(row)?))),
        }
    }

    /// The next batch of the call goes on here.
    fn keep(self, call: &Call<'_>, seeded: bool) {
        if let (Self::Sequence(random), true) = (self, seeded) {
            SEQUENCES.with_borrow_mut(|known| known.insert(call.site, random));
        }
    }
}

pub(super) fn random_double(call: &Call<'_>) -> Result<ArrayRef> {
    let seeds = if call.count() > 0 { Some(call.longs(0)?) } else { None };
    let seeded = seeds.is_some();
    let mut numbers = Numbers::of(call, seeds);
    let values: Float64Array = (0..call.rows).map(|row| numbers.next(row, JavaRandom::double)).collect();
    numbers.keep(call, seeded);
    Ok(Arc::new(values))
}

pub(super) fn random_integer(call: &Call<'_>) -> Result<ArrayRef> {
    let seeds = if call.count() > 1 { Some(call.longs(0)?) } else { None };
    let (seeded, bounds) = (seeds.is_some(), call.longs(call.count() - 1)?);
    let mut numbers = Numbers::of(call, seeds);
    let mut values = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        values.push(match bounds.get(row) {
            None => None,
            Some(bound) => match i32::try_from(bound) {
                Ok(bound) if bound > 0 => numbers.next(row, |random| random.below(bound)),
                _ => return call.error(format!("the bound must be a positive INT, not {bound}")),
            },
        });
    }
    numbers.keep(call, seeded);
    Ok(Arc::new(Int32Array::from(values)))
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::check;
    use super::JavaRandom;

    #[test]
    fn seeded_numbers_are_those_of_java() {
        let mut random = JavaRandom::new(42);
        assert_eq!([0; 5].map(|_: i32| random.below(100)), [30, 63, 48, 84, 70]);
        check(
            "RAND(42) -> DOUBLE 0.7275636800328681
             RAND(CAST(NULL AS INT)) -> DOUBLE NULL
             RAND_INTEGER(42, 10) -> INT 0
             RAND_INTEGER(1, 10) -> INT 5
             RAND_INTEGER(0, 100) -> INT 60
             RAND_INTEGER(1, 0) -> error the bound must be a positive INT",
        );
    }

    #[test]
    fn a_sequence_goes_on_from_row_to_row() {
        let mut random = JavaRandom::new(0);
        assert_eq!(random.double(), 0.730_967_787_376_657);
        assert_eq!(random.double(), 0.240_536_415_671_485_87);
    }
}
