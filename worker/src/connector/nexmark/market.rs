//! Who is who at the auction house at a given event: the arithmetic of ids, types and times, without randomness.
//!
//! Event numbers run through rounds of (by default) 50: first the round's persons, then its auctions, then its bids.

use std::ops::Range;

/// Ids of auctions and persons count from here.
pub(super) const FIRST_ID: u64 = 1000;

/// The ids of bidders lie this much above those of the persons they stand for, as in the benchmark.
pub(super) const BIDDER_SHIFT: u64 = 1000;

/// One in this many ids is the hot one of its block.
pub(super) const HOT_BLOCK: u64 = 100;

/// Bids may name an auction, or a person, that comes only this many ids later.
const LEAD: u64 = 10;

/// So many of the latest auctions may be bid for.
const IN_FLIGHT_AUCTIONS: u64 = 100;

/// So many of the latest persons sell and bid.
const ACTIVE_PERSONS: u64 = 1000;

/// All that options say about the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Market {
    /// How many of which type make a round.
    pub(super) proportions: Proportions,
    /// How hot the hot ids are.
    pub(super) hot: HotRatios,
    /// The average sizes of events.
    pub(super) sizes: Sizes,
    /// Events per second of event time.
    pub(super) event_rate: u64,
    /// The time of event 0, in milliseconds since 1970.
    pub(super) base_time_ms: i64,
}

/// How many events of each type a round has. Persons and auctions are never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proportions {
    pub(super) persons: u64,
    pub(super) auctions: u64,
    pub(super) bids: u64,
}

/// A hot id is chosen in all but one of this many cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HotRatios {
    pub(super) auctions: u64,
    pub(super) bidders: u64,
    pub(super) sellers: u64,
}

/// Average sizes of events in bytes: the field `extra` pads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) person: u64,
    pub(super) auction: u64,
    pub(super) bid: u64,
}

/// The type of an event; its code is the column `event_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum EventType {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

/// The place of one event in the stream: goes from event to event without divisions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Ids of persons and auctions that earlier rounds used.
    persons_before: u64,
    auctions_before: u64,
    /// The event's place in its round.
    offset: u64,
    /// When it happens, in milliseconds since 1970.
    pub(super) time_ms: i64,
    /// What of its time is less than a millisecond, in parts of `event_rate`.
    fraction: u64,
}

impl Market {
    /// The place of event `number`.
    pub(super) fn place(&self, number: u64) -> Place {
        let round = number / self.proportions.round();
        Place {
            persons_before: round * self.proportions.persons,
            auctions_before: round * self.proportions.auctions,
            offset: number % self.proportions.round(),
            time_ms: self.time_ms(number),
            fraction: (u128::from(number) * 1000 % u128::from(self.event_rate)) as u64,
        }
    }

    /// Goes on to the next event.
    #[inline]
    pub(super) fn advance(&self, place: &mut Place) {
        place.offset += 1;
        if place.offset == self.proportions.round() {
            place.offset = 0;
            place.persons_before += self.proportions.persons;
            place.auctions_before += self.proportions.auctions;
        }
        place.time_ms += (1000 / self.event_rate).cast_signed();
        place.fraction += 1000 % self.event_rate;
        if place.fraction >= self.event_rate {
            place.fraction -= self.event_rate;
            place.time_ms += 1;
        }
    }

    /// The type of the event at `place`.
    #[inline]
    pub(super) fn event_type(&self, place: &Place) -> EventType {
        if place.offset >= self.proportions.persons + self.proportions.auctions {
            EventType::Bid
        } else if place.offset >= self.proportions.persons {
            EventType::Auction
        } else {
            EventType::Person
        }
    }

    /// The latest person, counted from 0; at a person, that one.
    #[inline]
    pub(super) fn latest_person(&self, place: &Place) -> u64 {
        place.persons_before + place.offset.min(self.proportions.persons - 1)
    }

    /// The latest auction, counted from 0, at an auction or a bid; at an auction, that one.
    #[inline]
    pub(super) fn latest_auction(&self, place: &Place) -> u64 {
        place.auctions_before + (place.offset - self.proportions.persons).min(self.proportions.auctions - 1)
    }

    /// The auctions, counted from 0, that a bid may be for, some of which are yet to come.
    #[inline]
    pub(super) fn auctions_in_flight(&self, place: &Place) -> Range<u64> {
        let latest = self.latest_auction(place);
        latest.saturating_sub(IN_FLIGHT_AUCTIONS)..latest + 1 + LEAD
    }

    /// The persons, counted from 0, who may sell or bid, some of whom are yet to come.
    #[inline]
    pub(super) fn active_persons(&self, place: &Place) -> Range<u64> {
        let persons = self.latest_person(place) + 1;
        persons.saturating_sub(ACTIVE_PERSONS)..persons + LEAD
    }

    /// An auction runs for less than this many milliseconds: twice the time in which as many are opened as are in flight.
    pub(super) fn longest_auction_ms(&self) -> u64 {
        let events = IN_FLIGHT_AUCTIONS * self.proportions.round() / self.proportions.auctions;
        (events * 1000 / self.event_rate * 2).max(1)
    }

    fn time_ms(&self, number: u64) -> i64 {
        let since = u128::from(number) * 1000 / u128::from(self.event_rate);
        self.base_time_ms.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

impl Proportions {
    /// The events of a round.
    #[inline]
    pub(super) fn round(&self) -> u64 {
        self.persons + self.auctions + self.bids
    }
}
