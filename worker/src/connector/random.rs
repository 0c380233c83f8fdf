//! Random numbers and text that are a function of a seed and a row's number.

/// A stream of random numbers: wyrand, started anew for each row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Random(u64);

impl Random {
    /// The stream of row `number` under `seed`. Different pairs give streams that have nothing to do with each other.
    #[inline]
    pub(super) fn of(seed: u64, number: u64) -> Self {
        Self(scramble(scramble(seed ^ 0x9e37_79b9_7f4a_7c15) ^ number))
    }

    /// 64 random bits.
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }

    /// A number from 0 to `bound`, which is left out; 0 for a bound of 0.
    #[inline]
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Appends `length` letters, runs of eight of which are of the alphabet's lower half or, `H` to `a`, of its upper one:
    /// what the benchmark's filler text looks like.
    #[inline]
    pub(super) fn push_filler(&mut self, length: usize, out: &mut Vec<u8>) {
        let start = out.len();
        // Room for all words at once: a look at the capacity for each of them would cost as much as the word.
        out.resize(start + length.next_multiple_of(8), 0);
        for word in out[start..].as_chunks_mut::<8>().0 {
            let bits = self.next();
            let steps = alphabet_steps(bits);
            let lower = LANES_OF_A + steps;
            let upper = LANES_OF_A - steps;
            *word = if bits.count_ones() & 1 == 0 { lower } else { upper }.to_le_bytes();
        }
        out.truncate(start + length);
    }

    /// Appends `length` lower-case letters, one in thirteen of them replaced by `gap`.
    pub(super) fn push_words(&mut self, length: usize, gap: u8, out: &mut Vec<u8>) {
        let end = out.len() + length;
        for _ in 0..length.div_ceil(8) {
            let letters = LANES_OF_A + alphabet_steps(self.next());
            // A lane of 7 random bits is below 10 in 1 of 12.8 cases: its top bit then stays clear.
            let kept = ((self.next() & LANES_OF_7_BITS) + 0x7676_7676_7676_7676) & !LANES_OF_7_BITS;
            let gaps = ((kept ^ !LANES_OF_7_BITS) >> 7) * 0xff;
            let word = (letters & !gaps) | (u64::from_le_bytes([gap; 8]) & gaps);
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.truncate(end);
    }

    /// Appends `length` digits of the hexadecimal system.
    pub(super) fn push_hex(&mut self, length: usize, out: &mut Vec<u8>) {
        let end = out.len() + length;
        for _ in 0..length.div_ceil(16) {
            let mut bits = self.next();
            out.extend(
                std::iter::repeat_with(|| {
                    let digit = b"0123456789abcdef"[(bits & 15) as usize];
                    bits >>= 4;
                    digit
                })
                .take(16),
            );
        }
        out.truncate(end);
    }
}

const LANES_OF_A: u64 = 0x6161_6161_6161_6161;
const LANES_OF_7_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// Eight numbers from 0 to 25, one a byte: each byte of `bits` times 26 / 256, all lanes at once.
#[inline]
fn alphabet_steps(bits: u64) -> u64 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let low = (((bits & EVEN) * 26) >> 8) & EVEN;
    let high = (((bits >> 8) & EVEN) * 26) & !EVEN;
    low | high
}

/// The finaliser of splitmix64: a bijection that spreads every bit over all bits.
#[inline]
fn scramble(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
