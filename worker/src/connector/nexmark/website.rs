//! Where bids come from: channels and their pages. There are 10,004 of them, made once for each source.

use super::super::random::Random;
use super::super::text_column::text_of_views;
use arrow::array::{ArrayRef, make_view};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::error::ArrowError;

/// Half of all bids come through these.
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// The others come through `channel-0` to `channel-9999`.
const CHANNELS: u64 = 10_000;

/// Channels and pages as views: a bid costs two copies of 16 bytes.
#[derive(Debug)]
pub(super) struct Website {
    /// All names fit into their views.
    channels: Vec<u128>,
    pages: Vec<u128>,
    page_text: Buffer,
}

impl Website {
    /// The channels and pages under a seed.
    pub(super) fn new(seed: u64) -> Self {
        let count = HOT_CHANNELS.len() + CHANNELS as usize;
        let (mut channels, mut pages, mut text) = (Vec::with_capacity(count), Vec::with_capacity(count), Vec::new());
        for channel in 0..count as u64 {
            let hot = HOT_CHANNELS.get(channel as usize);
            let number = channel.saturating_sub(HOT_CHANNELS.len() as u64);
            let name = hot.map_or_else(|| format!("channel-{number}"), |name| (*name).to_owned());
            channels.push(make_view(name.as_bytes(), 0, 0));
            let start = text.len();
            let mut random = Random::of(!seed, channel);
            push_address(&mut random, &mut text);
            if hot.is_none() && random.below(10) > 0 {
                let id = (number as u32).reverse_bits().cast_signed().unsigned_abs();
                text.extend_from_slice(format!("&channel_id={id}").as_bytes());
            }
            pages.push(make_view(&text[start..], 0, start as u32));
        }
        Self { channels, pages, page_text: Buffer::from_vec(text) }
    }

    /// The place of a channel and its page, for a bid: by `hot_draw`, one of two, and `draw` among the hot or the others.
    #[inline]
    pub(super) fn pick(hot: bool, draw: u32) -> usize {
        let among = |count: u64| ((u64::from(draw) * count) >> 32) as usize;
        if hot { among(HOT_CHANNELS.len() as u64) } else { HOT_CHANNELS.len() + among(CHANNELS) }
    }

    /// The view of a channel's name, which needs no buffer.
    #[inline]
    pub(super) fn channel(&self, place: usize) -> u128 {
        self.channels[place]
    }

    /// The view of a channel's page, into the buffer of [`Self::pages`].
    #[inline]
    pub(super) fn page(&self, place: usize) -> u128 {
        self.pages[place]
    }

    /// A column of pages out of their views.
    pub(super) fn pages(&self, views: Vec<u128>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        text_of_views(views, vec![self.page_text.clone()], nulls)
    }
}

fn push_address(random: &mut Random, text: &mut Vec<u8>) {
    text.extend_from_slice(b"https://www.nexmark.com/");
    for _ in 0..3 {
        let length = 3 + random.below(2) as usize;
        random.push_words(length, b'_', text);
        text.push(b'/');
    }
    text.extend_from_slice(b"item.htm?query=1");
}
