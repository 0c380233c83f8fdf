//! Random numbers, another sequence in every batch.

use super::super::arguments::Call;
use arrow::array::{ArrayRef, Int32Array};
use datafusion_common::Result;
use std::sync::Arc;

/// SplitMix64, from a seed by chance.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(uuid::Uuid::new_v4().as_u64_pair().0)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn double(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 to below `bound`; what a multiplication favours is below 2^-32.
    fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u32
    }
}

pub(super) fn random_integer(call: &Call<'_>) -> Result<ArrayRef> {
    let mut generator = Random::new();
    let bounds = call.longs(0)?;
    let mut values = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        values.push(match bounds.get(row) {
            None => None,
            Some(bound) => match i32::try_from(bound).ok().and_then(|bound| u32::try_from(bound).ok()) {
                Some(bound) if bound > 0 => Some(generator.below(bound) as i32),
                _ => return call.error(format!("the bound must be a positive INT, not {bound}")),
            },
        });
    }
    Ok(Arc::new(Int32Array::from(values)))
}
