//! How large an LZ4 frame can become, found without unpacking it.
//!
//! Arrow's reader unpacks a buffer to its end, whatever length was promised; the blocks of a frame tell beforehand
//! whether it keeps to the promise. The format: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>.

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();

/// The most bytes that a frame unpacks to, and the size of its largest possible block. `None` if it is not one whole
/// frame, as our encoder writes them.
pub(super) fn bound(frame: &[u8]) -> Option<(u64, u64)> {
    let rest = frame.strip_prefix(&MAGIC)?;
    let (&flags, rest) = rest.split_first()?;
    let (&descriptor, rest) = rest.split_first()?;
    let block_checksums = flags & 0x10 != 0;
    let content_checksum = flags & 0x04 != 0;
    let optional = if flags & 0x08 != 0 { 8 } else { 0 } + if flags & 0x01 != 0 { 4 } else { 0 };
    let largest = match (descriptor >> 4) & 7 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return None,
    };
    // The byte behind the optional fields is the header's own checksum.
    let mut rest = rest.get(optional + 1..)?;
    let mut total = 0_u64;
    loop {
        let (size, behind) = rest.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size);
        if size == 0 {
            let end = if content_checksum { 4 } else { 0 };
            return (behind.len() == end).then_some((total, largest));
        }
        let (stored, length) = (size >> 31 == 1, size & 0x7fff_ffff);
        total += if stored { u64::from(length) } else { largest };
        rest = behind.get(length as usize + if block_checksums { 4 } else { 0 }..)?;
    }
}

/// Whether a frame unpacks to no more than was promised, but for what the last block may leave empty.
pub(super) fn keeps_to(frame: &[u8], promised: u64) -> bool {
    bound(frame).is_some_and(|(total, largest)| total <= promised.saturating_add(largest))
}
