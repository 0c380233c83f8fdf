//! Text and byte strings of groups: two words each, with the bytes of long ones in an arena.
//!
//! The two words are laid out as Arrow's views are: the length in the low 32 bits of the first, then the bytes
//! themselves when there are at most 12, otherwise the first four and, as the second word, a place in the arena.
//! Bytes are never overwritten, so a copy of the words stays readable until [`Arena::clear`] or a rebuild.

/// The longest string that lies in the words themselves.
const INLINE: usize = 12;

/// The bytes of long strings.
#[derive(Debug, Clone, Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    garbage: usize,
}

/// The first word of a view tells the length.
pub(super) fn length(first: u64) -> usize {
    first as u32 as usize
}

/// True when the bytes lie elsewhere than in the words.
pub(super) fn is_long(first: u64) -> bool {
    length(first) > INLINE
}

impl Arena {
    /// Keeps a string.
    pub(super) fn store(&mut self, value: &[u8]) -> [u64; 2] {
        let length = u32::try_from(value.len()).expect("Arrow's views hold strings of less than 4 GiB");
        let mut view = [0_u8; 16];
        view[..4].copy_from_slice(&length.to_le_bytes());
        if value.len() <= INLINE {
            view[4..4 + value.len()].copy_from_slice(value);
        } else {
            view[4..8].copy_from_slice(&value[..4]);
            view[8..].copy_from_slice(&(self.bytes.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(value);
        }
        let view = u128::from_le_bytes(view);
        [view as u64, (view >> 64) as u64]
    }

    /// The bytes of a string; `buffer` holds those of a short one.
    pub(super) fn read<'a>(&'a self, words: [u64; 2], buffer: &'a mut [u8; 16]) -> &'a [u8] {
        let length = length(words[0]);
        if length > INLINE {
            let start = words[1] as usize;
            return &self.bytes[start..start + length];
        }
        *buffer = (u128::from(words[1]) << 64 | u128::from(words[0])).to_le_bytes();
        &buffer[4..4 + length]
    }

    /// The bytes of a string that [`is_long`].
    pub(super) fn long(&self, words: [u64; 2]) -> &[u8] {
        let start = words[1] as usize;
        &self.bytes[start..start + length(words[0])]
    }

    /// Notes that a string is no longer used.
    pub(super) fn release(&mut self, words: [u64; 2]) {
        if is_long(words[0]) {
            self.garbage += length(words[0]);
        }
    }

    /// True when so much of it is unused that a rebuild pays.
    pub(super) fn is_wasteful(&self) -> bool {
        self.garbage > 64 * 1024 && self.garbage > self.bytes.len() / 2
    }

    /// Forgets all strings.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.garbage = 0;
    }

    /// Bytes of strings, unused ones included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_any_length_come_back() {
        let mut arena = Arena::default();
        let values: Vec<Vec<u8>> = (0..40).map(|length| (0..length).map(|at| at as u8 ^ 0x55).collect()).collect();
        let words: Vec<_> = values.iter().map(|value| arena.store(value)).collect();
        for (value, words) in values.iter().zip(words) {
            assert_eq!(arena.read(words, &mut [0; 16]), value);
            assert_eq!(is_long(words[0]), value.len() > 12);
        }
    }
}
