//! Makes events: every field of each, in columns.

use super::super::numbered::{Made, RowMaker};
use super::super::random::Random;
use super::super::text_column::{TextColumn, text_of_views};
use super::layout::{Column, Layout, assemble};
use super::market::{BIDDER_SHIFT, EventType, FIRST_ID, HOT_BLOCK, Market, Place};
use super::price::Prices;
use super::website::Website;
use crate::failure::Result;
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use std::ops::Range;
use std::sync::Arc;

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;

/// Makes events out of their numbers.
#[derive(Debug)]
pub(super) struct Events {
    seed: u64,
    market: Market,
    layout: Layout,
    prices: Prices,
    website: Website,
}

impl Events {
    pub(super) fn new(seed: u64, market: Market, layout: Layout) -> Self {
        Self { seed, market, layout, prices: Prices::new(), website: Website::new(seed) }
    }
}

impl RowMaker for Events {
    fn rows(&self, numbers: Range<u64>, projection: &[usize]) -> Result<Made> {
        let rows = (numbers.end - numbers.start) as usize;
        let mut columns = Columns::new(rows, &self.market);
        let mut place = self.market.place(numbers.start);
        for (row, number) in numbers.enumerate() {
            let mut random = Random::of(self.seed, number);
            let event_type = self.market.event_type(&place);
            columns.event_types[row] = event_type as i32;
            match event_type {
                EventType::Bid => self.make_bid(&mut columns.bids, row, &place, &mut random),
                EventType::Auction => self.make_auction(&mut columns.auctions, row, &place, &mut random),
                EventType::Person => self.make_person(&mut columns.persons, row, &place, &mut random),
            }
            self.market.advance(&mut place);
        }
        Ok(self.finish(columns, projection)?)
    }
}

/// The fields of all events of a batch; those of other types' rows stay zero.
struct Columns {
    event_types: Vec<i32>,
    persons: Persons,
    auctions: Auctions,
    bids: Bids,
}

struct Persons {
    id: Vec<i64>,
    name: TextColumn,
    email: TextColumn,
    credit_card: TextColumn,
    city: TextColumn,
    state: TextColumn,
    time: Vec<i64>,
    extra: TextColumn,
}

struct Auctions {
    id: Vec<i64>,
    item_name: TextColumn,
    description: TextColumn,
    initial_bid: Vec<i64>,
    reserve: Vec<i64>,
    time: Vec<i64>,
    expires: Vec<i64>,
    seller: Vec<i64>,
    category: Vec<i64>,
    extra: TextColumn,
}

struct Bids {
    auction: Vec<i64>,
    bidder: Vec<i64>,
    price: Vec<i64>,
    channel: Vec<u128>,
    page: Vec<u128>,
    time: Vec<i64>,
    extra: TextColumn,
}

impl Columns {
    fn new(rows: usize, market: &Market) -> Self {
        let parts = &market.proportions;
        let share = |part: u64| (rows as u64 * part / parts.round() + part.min(rows as u64)) as usize;
        let (persons, auctions, bids) = (share(parts.persons), share(parts.auctions), share(parts.bids));
        let text = |count: usize, size: u64| TextColumn::new(rows, count * size as usize);
        let numbers = || vec![0i64; rows];
        Self {
            event_types: vec![0; rows],
            persons: Persons {
                id: numbers(),
                name: text(persons, 16),
                email: text(persons, 16),
                credit_card: text(persons, 20),
                city: text(persons, 12),
                state: text(0, 0),
                time: numbers(),
                extra: text(persons, market.sizes.person),
            },
            auctions: Auctions {
                id: numbers(),
                item_name: text(auctions, 16),
                description: text(auctions, 64),
                initial_bid: numbers(),
                reserve: numbers(),
                time: numbers(),
                expires: numbers(),
                seller: numbers(),
                category: numbers(),
                extra: text(auctions, market.sizes.auction),
            },
            bids: Bids {
                auction: numbers(),
                bidder: numbers(),
                price: numbers(),
                channel: vec![0; rows],
                page: vec![0; rows],
                time: numbers(),
                extra: text(bids, market.sizes.bid),
            },
        }
    }
}

impl Events {
    fn make_bid(&self, bids: &mut Bids, row: usize, place: &Place, random: &mut Random) {
        let hot = &self.market.hot;
        let bits = random.next();
        bids.auction[row] = if below(bits >> 32, hot.auctions) > 0 {
            id(self.market.latest_auction(place) / HOT_BLOCK * HOT_BLOCK)
        } else {
            id(within(bits, &self.market.auctions_in_flight(place)))
        };
        let bits = random.next();
        let bidder = if below(bits >> 32, hot.bidders) > 0 {
            self.market.latest_person(place) / HOT_BLOCK * HOT_BLOCK + 1
        } else {
            within(bits, &self.market.active_persons(place))
        };
        bids.bidder[row] = id(bidder + BIDDER_SHIFT);
        let bits = random.next();
        bids.price[row] = self.prices.of(bits >> 32);
        let channel = Website::pick(bits >> 63 == 0, bits as u32);
        bids.channel[row] = self.website.channel(channel);
        bids.page[row] = self.website.page(channel);
        bids.time[row] = place.time_ms;
        push_extra(&mut bids.extra, row, 32, self.market.sizes.bid, random);
    }

    fn make_auction(&self, auctions: &mut Auctions, row: usize, place: &Place, random: &mut Random) {
        auctions.id[row] = id(self.market.latest_auction(place));
        let bits = random.next();
        auctions.seller[row] = if below(bits >> 32, self.market.hot.sellers) > 0 {
            id(self.market.latest_person(place) / HOT_BLOCK * HOT_BLOCK)
        } else {
            id(within(bits, &self.market.active_persons(place)))
        };
        auctions.category[row] = (FIRST_CATEGORY + random.below(CATEGORIES)).cast_signed();
        let bits = random.next();
        auctions.initial_bid[row] = self.prices.of(bits);
        auctions.reserve[row] = self.prices.of(bits) + self.prices.of(bits >> 32);
        auctions.time[row] = place.time_ms;
        let runs_for = 1 + random.below(self.market.longest_auction_ms());
        auctions.expires[row] = place.time_ms.saturating_add_unsigned(runs_for);
        let name = push_words(&mut auctions.item_name, row, 20, random);
        let description = push_words(&mut auctions.description, row, 100, random);
        let size = 48 + name + description;
        push_extra(&mut auctions.extra, row, size, self.market.sizes.auction, random);
    }

    fn make_person(&self, persons: &mut Persons, row: usize, place: &Place, random: &mut Random) {
        persons.id[row] = id(self.market.latest_person(place));
        let first = FIRST_NAMES[random.below(FIRST_NAMES.len() as u64) as usize];
        let last = LAST_NAMES[random.below(LAST_NAMES.len() as u64) as usize];
        let city = CITIES[random.below(CITIES.len() as u64) as usize];
        let state = STATES[random.below(STATES.len() as u64) as usize];
        let name = format!("{first} {last}");
        persons.name.set_text(row, &name);
        persons.city.set_text(row, city);
        persons.state.set_text(row, state);
        persons.time[row] = place.time_ms;
        let email = push_email(&mut persons.email, row, random);
        let bits = random.next();
        let group = |index: u64| below(bits >> (16 * index) & 0xffff, 10_000 << 16);
        let card = format!("{:04} {:04} {:04} {:04}", group(0), group(1), group(2), group(3));
        persons.credit_card.set_text(row, &card);
        let size = 8 + name.len() + email + card.len() + city.len() + state.len();
        push_extra(&mut persons.extra, row, size, self.market.sizes.person, random);
    }

    fn finish(&self, columns: Columns, projection: &[usize]) -> Result<Made, ArrowError> {
        let Columns { event_types, persons, auctions, bids } = columns;
        let rows = event_types.len();
        let of_type = |code: i32| NullBuffer::new(BooleanBuffer::collect_bool(rows, |row| event_types[row] == code));
        let nulls = [EventType::Person, EventType::Auction, EventType::Bid].map(|kind| of_type(kind as i32));
        let text = persons.extra.mark() + auctions.extra.mark() + auctions.description.mark() + bids.extra.mark();
        let made = [persons.finish(&nulls[0])?, auctions.finish(&nulls[1])?, bids.finish(&nulls[2], &self.website)?];
        let event_types: ArrayRef = Arc::new(Int32Array::new(ScalarBuffer::from(event_types), None));
        let columns = projection.iter().map(|index| match &self.layout.columns[*index] {
            Column::EventType => Ok(Arc::clone(&event_types)),
            Column::Event { event_type, places, fields } => {
                assemble(fields, places, &made[*event_type], &nulls[*event_type])
            }
        });
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        let schema = Arc::new(self.layout.schema.project(projection)?);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows_made = RecordBatch::try_new_with_options(schema, columns, &options)?;
        // Numbers and the texts that are the same for all take about 100 bytes of an event.
        Ok(Made { rows: rows_made, bytes: text + rows * 100 })
    }
}

impl Persons {
    fn finish(self, nulls: &NullBuffer) -> Result<Vec<ArrayRef>, ArrowError> {
        let text = |column: TextColumn| column.finish_text(Some(nulls.clone()));
        Ok(vec![
            numbers(self.id, nulls),
            text(self.name)?,
            text(self.email)?,
            text(self.credit_card)?,
            text(self.city)?,
            text(self.state)?,
            times(self.time, nulls),
            text(self.extra)?,
        ])
    }
}

impl Auctions {
    fn finish(self, nulls: &NullBuffer) -> Result<Vec<ArrayRef>, ArrowError> {
        let text = |column: TextColumn| column.finish_text(Some(nulls.clone()));
        Ok(vec![
            numbers(self.id, nulls),
            text(self.item_name)?,
            text(self.description)?,
            numbers(self.initial_bid, nulls),
            numbers(self.reserve, nulls),
            times(self.time, nulls),
            times(self.expires, nulls),
            numbers(self.seller, nulls),
            numbers(self.category, nulls),
            text(self.extra)?,
        ])
    }
}

impl Bids {
    fn finish(self, nulls: &NullBuffer, website: &Website) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![
            numbers(self.auction, nulls),
            numbers(self.bidder, nulls),
            numbers(self.price, nulls),
            text_of_views(self.channel, vec![], Some(nulls.clone()))?,
            website.pages(self.page, Some(nulls.clone()))?,
            times(self.time, nulls),
            self.extra.finish_text(Some(nulls.clone()))?,
        ])
    }
}

/// The fields of an event carry its nulls too: whoever takes a field alone need not look at its event.
fn numbers(values: Vec<i64>, nulls: &NullBuffer) -> ArrayRef {
    Arc::new(Int64Array::new(ScalarBuffer::from(values), Some(nulls.clone())))
}

fn times(values: Vec<i64>, nulls: &NullBuffer) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::new(ScalarBuffer::from(values), Some(nulls.clone())))
}

/// A number below `bound`, which is at most 32 bits, out of the low 32 of `bits`.
#[inline]
fn below(bits: u64, bound: u64) -> u64 {
    (bits & 0xffff_ffff).wrapping_mul(bound) >> 32
}

#[inline]
fn within(bits: u64, range: &Range<u64>) -> u64 {
    range.start + below(bits, range.end - range.start)
}

#[inline]
fn id(count: u64) -> i64 {
    (FIRST_ID + count).cast_signed()
}

/// Sets a filler that brings an event of `size` bytes to `average` on average, give or take a fifth of what is missing.
#[inline]
fn push_extra(column: &mut TextColumn, row: usize, size: usize, average: u64, random: &mut Random) {
    let missing = (average as usize).saturating_sub(size);
    let slack = (missing + 2) / 5;
    let mark = column.mark();
    if missing > 0 {
        let length = missing - slack + random.below(2 * slack as u64) as usize;
        random.push_filler(length, &mut column.bytes);
    }
    column.set(row, mark);
}

/// Sets 3 to `longest` - 1 letters and spaces, without spaces at the ends. Answers their number.
fn push_words(column: &mut TextColumn, row: usize, longest: u64, random: &mut Random) -> usize {
    let mark = column.mark();
    let length = push_trimmed(&mut column.bytes, longest, random);
    column.set(row, mark);
    length
}

fn push_trimmed(bytes: &mut Vec<u8>, longest: u64, random: &mut Random) -> usize {
    let mark = bytes.len();
    let length = 3 + random.below(longest - 3) as usize;
    random.push_words(length, b' ', bytes);
    let kept = bytes[mark..].trim_ascii_end().len();
    bytes.truncate(mark + kept);
    let blanks = kept - bytes[mark..].trim_ascii_start().len();
    bytes.drain(mark..mark + blanks);
    bytes.len() - mark
}

fn push_email(column: &mut TextColumn, row: usize, random: &mut Random) -> usize {
    let mark = column.mark();
    push_trimmed(&mut column.bytes, 7, random);
    column.bytes.push(b'@');
    push_trimmed(&mut column.bytes, 5, random);
    column.bytes.extend_from_slice(b".com");
    let length = column.mark() - mark;
    column.set(row, mark);
    length
}
