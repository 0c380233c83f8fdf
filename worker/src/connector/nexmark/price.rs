//! Prices: spread evenly over their magnitudes, from 100 to 100,000,000.

/// Draws `100 · 10^(6u)` for an even `u` out of 20 random bits.
///
/// A product of two table entries stands for the power. The tables grow out of square roots and products, which IEEE 754
/// rounds the same way on every machine, where `pow` is free to differ.
#[derive(Debug)]
pub(super) struct Prices {
    coarse: [f64; STEPS],
    fine: [f64; STEPS],
}

const STEPS: usize = 1024;

impl Prices {
    pub(super) fn new() -> Self {
        let root = |number: f64, times: u32| (0..times).fold(number, |number, _| number.sqrt());
        // 1024 coarse steps make 10^6, 1024 fine steps one coarse step.
        let (coarse_step, fine_step) = (root(1e6, 10), root(1e6, 20));
        Self { coarse: powers(100.0, coarse_step), fine: powers(1.0, fine_step) }
    }

    /// The price for the low 20 bits of `bits`.
    #[inline]
    pub(super) fn of(&self, bits: u64) -> i64 {
        let (coarse, fine) = ((bits >> 10) as usize % STEPS, bits as usize % STEPS);
        (self.coarse[coarse] * self.fine[fine] + 0.5) as i64
    }
}

fn powers(first: f64, step: f64) -> [f64; STEPS] {
    let mut power = first;
    std::array::from_fn(|_| {
        let this = power;
        power *= step;
        this
    })
}
