//! Buffers of a message that are alike go over the connection once.
//!
//! The description of a message says of each buffer where it lies, and several may lie at one place. Partial results of
//! single rows are such: their sum, least and greatest are one number, and so may be their key.

use super::encode::ALIGNMENT;
use arrow::buffer::Buffer;
use arrow_ipc::{Message, root_as_message};
use std::collections::BTreeMap;
use std::ops::Range;

/// Shorter buffers are not worth the search.
const SHORTEST: usize = 512;

/// The same message, with one of several buffers that are alike instead of all. `parts` begins with the marker and the
/// length of the description, then comes the description, then what it describes.
pub(super) fn shared(parts: Vec<Buffer>) -> Vec<Buffer> {
    let alike = alike(&parts);
    let rearranged = if alike.is_empty() { None } else { rearranged(&parts, &alike) };
    rearranged.unwrap_or(parts)
}

/// The parts that are like an earlier one, with that one.
fn alike(parts: &[Buffer]) -> BTreeMap<usize, usize> {
    let long = |(at, part): (usize, &Buffer)| (part.len() >= SHORTEST).then_some(at);
    let candidates: Vec<usize> = parts.iter().enumerate().filter_map(long).collect();
    let mut found = BTreeMap::new();
    for (later, at) in candidates.iter().enumerate() {
        let earlier = candidates[..later]
            .iter()
            .find(|earlier| !found.contains_key(*earlier) && parts[**earlier].as_slice() == parts[*at].as_slice());
        found.extend(earlier.map(|earlier| (*at, *earlier)));
    }
    found
}

/// `None` when the message is not made as it should be: then it goes as it is.
fn rearranged(parts: &[Buffer], alike: &BTreeMap<usize, usize>) -> Option<Vec<Buffer>> {
    let (prefix, rest) = parts.split_first()?;
    let described = u32::from_le_bytes(prefix.get(4..8)?.try_into().ok()?) as usize;
    let mut description = Vec::with_capacity(described);
    let in_description = rest.iter().take_while(|part| {
        let belongs = description.len() < described;
        if belongs {
            description.extend_from_slice(part);
        }
        belongs
    });
    let body = 1 + in_description.count();
    if description.len() != described || prefix.len() != 8 || alike.keys().chain(alike.values()).any(|at| *at < body) {
        return None;
    }
    let (kept, moved) = places(parts, body, alike);
    let mut patches: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
    {
        let message = root_as_message(&description).ok()?;
        let buffers = message.header_as_record_batch()?.buffers()?;
        let begin = buffers.bytes().as_ptr().addr().checked_sub(description.as_ptr().addr())?;
        for (at, buffer) in buffers.iter().enumerate() {
            let place = match usize::try_from(buffer.length()).ok()? {
                0 => 0,
                length => {
                    let (place, moved_length) = moved.get(&usize::try_from(buffer.offset()).ok()?)?;
                    (*moved_length == length).then_some(*place)?
                }
            };
            let width = size_of::<arrow_ipc::Buffer>();
            let patched = arrow_ipc::Buffer::new(i64::try_from(place).ok()?, buffer.length());
            patches.push((begin + at * width..begin + (at + 1) * width, patched.0.to_vec()));
        }
        let field = message._tab.loc() + usize::from(message._tab.vtable().get(Message::VT_BODYLENGTH));
        let length: usize = kept.iter().map(|at| parts[*at].len()).sum();
        patches.push((field..field + 8, i64::try_from(length).ok()?.to_le_bytes().to_vec()));
    }
    for (range, bytes) in patches {
        description.get_mut(range)?.copy_from_slice(&bytes);
    }
    let head = [prefix.clone(), Buffer::from_vec(description)];
    Some(head.into_iter().chain(kept.into_iter().map(|at| parts[at].clone())).collect())
}

/// The parts of the body that go, and for each place where a part began, where it or the one like it begins now, and its
/// length.
fn places(
    parts: &[Buffer],
    body: usize,
    alike: &BTreeMap<usize, usize>,
) -> (Vec<usize>, BTreeMap<usize, (usize, usize)>) {
    let (mut kept, mut moved) = (Vec::new(), BTreeMap::new());
    let mut now_of: BTreeMap<usize, usize> = BTreeMap::new();
    let (mut before, mut now) = (0, 0);
    let mut dropped = false;
    for (at, part) in parts.iter().enumerate().skip(body).filter(|(_, part)| !part.is_empty()) {
        let is_padding = before % ALIGNMENT != 0;
        dropped = if is_padding { dropped } else { alike.contains_key(&at) };
        if !dropped {
            kept.push(at);
            now_of.insert(at, now);
            now += part.len();
        }
        if !is_padding {
            moved.insert(before, (now_of[alike.get(&at).unwrap_or(&at)], part.len()));
        }
        before += part.len();
    }
    (kept, moved)
}
