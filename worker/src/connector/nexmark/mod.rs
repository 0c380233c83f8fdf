//! The source `nexmark`: the events of the Nexmark benchmark (an auction house: persons, auctions, bids), made on the fly.
//!
//! Proportions, ids, values, sizes of texts and times follow the public benchmark (github.com/nexmark/nexmark); the
//! random numbers are our own. An event is a function of the seed and its number, so every run makes the same events, in
//! however many tasks and after however many restarts.

mod event;
mod layout;
mod market;
mod price;
mod website;

use super::numbered::{BATCH_ROWS, Course, NumberedSource};
use super::options::Options;
use super::{Source, TableShape};
use crate::diagnostic::Diagnostic;
use chrono::NaiveDateTime;
use event::Events;
use layout::Layout;
use market::{HotRatios, Market, Proportions, Sizes};
use std::sync::Arc;

/// Values of texts are at most this long on average, in bytes.
const MAX_AVERAGE_SIZE: u64 = 1 << 20;

/// A batch holds about this many bytes of text at most.
const BATCH_BYTES: u64 = 8 << 20;

/// 2026-01-01 00:00:00, in milliseconds since 1970.
const BASE_TIME_MS: i64 = 1_767_225_600_000;

/// Reads the options of a table.
pub(super) fn source(options: &Options, shape: &TableShape) -> Result<Arc<dyn Source>, Vec<Diagnostic>> {
    let layout = Layout::of(options, shape);
    let market = read_market(options);
    let count = |key: &str, range, default: u64| options.integer(key, range).map_or(default, i64::cast_unsigned);
    let largest = market.sizes.person.max(market.sizes.auction).max(market.sizes.bid);
    let course = Course {
        splits: count("splits", 1..=1024, 16),
        end: Some(count("events.num", 0..=i64::MAX >> 4, 0)).filter(|events| *events > 0),
        rate: options.integer("rate", 1..=1_000_000_000).map(i64::cast_unsigned),
        batch_rows: (BATCH_BYTES / largest.max(1)).clamp(1, BATCH_ROWS),
    };
    let seed = options.integer("seed", i64::MIN..=i64::MAX).unwrap_or(0).cast_unsigned();
    options.finish()?;
    let layout = layout.ok_or_else(Vec::new)?;
    Ok(Arc::new(NumberedSource::new(Arc::new(Events::new(seed, market, layout)), course)))
}

fn read_market(options: &Options) -> Market {
    let number = |key: &str, range, default: u64| options.integer(key, range).map_or(default, i64::cast_unsigned);
    let event_rate = number("first-event.rate", 1..=1_000_000_000, 10_000);
    if number("next-event.rate", 1..=1_000_000_000, event_rate) != event_rate {
        let message = "'next-event.rate' differs from 'first-event.rate': a changing pace is not supported".to_owned();
        options.mistake_in("next-event.rate", message, Some("leave it out".to_owned()));
    }
    Market {
        proportions: Proportions {
            persons: number("person.proportion", 1..=10_000, 1),
            auctions: number("auction.proportion", 1..=10_000, 3),
            bids: number("bid.proportion", 0..=1_000_000, 46),
        },
        hot: HotRatios {
            auctions: number("bid.hot-ratio.auctions", 1..=1_000_000, 2),
            bidders: number("bid.hot-ratio.bidders", 1..=1_000_000, 4),
            sellers: number("auction.hot-ratio.sellers", 1..=1_000_000, 4),
        },
        sizes: Sizes {
            person: size(options, "person.avg-size", 200),
            auction: size(options, "auction.avg-size", 500),
            bid: size(options, "bid.avg-size", 100),
        },
        event_rate,
        base_time_ms: options.parsed("base-time", parse_time).unwrap_or(BASE_TIME_MS),
    }
}

fn size(options: &Options, key: &str, default: u64) -> u64 {
    let size = options.bytes(key).unwrap_or(default);
    if size > MAX_AVERAGE_SIZE {
        options.mistake_in(key, format!("'{key}' is larger than {MAX_AVERAGE_SIZE} bytes"), None);
    }
    size
}

fn parse_time(text: &str) -> Result<i64, String> {
    let time = NaiveDateTime::parse_from_str(text.trim(), "%Y-%m-%d %H:%M:%S%.f");
    let time = time.map_err(|_| "a time such as '2026-01-01 00:00:00' expected".to_owned())?;
    Ok(time.and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests;
