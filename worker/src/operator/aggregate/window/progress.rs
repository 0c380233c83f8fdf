//! How far event time has been handled: the task's watermark, and after a restore the one of each key group.
//!
//! A key group may have been ahead of the others when the checkpoint was taken. Until the task's watermark has passed
//! all of these floors, lateness and firing are judged per key group by the later of the two.

use crate::operator::snapshot::Restored;
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{EventTime, KeyGroup};

/// How far event time has been handled.
#[derive(Debug)]
pub(super) struct Progress {
    owned: Vec<KeyGroupRange>,
    watermark: EventTime,
    /// By key group, empty when none is ahead of the watermark.
    floors: Vec<EventTime>,
}

impl Progress {
    pub(super) fn new(owned: Vec<KeyGroupRange>) -> Self {
        Self { owned, watermark: EventTime::MIN, floors: Vec::new() }
    }

    /// Takes over the watermarks of a checkpoint.
    pub(super) fn restore(&mut self, restored: &Restored) {
        let end = self.owned.iter().map(|range| range.end.0).max().unwrap_or(0);
        let mut floors = vec![EventTime::MIN; usize::from(end)];
        for (range, watermark) in &restored.watermarks {
            for group in range.start.0..range.end.0.min(end) {
                floors[usize::from(group)] = *watermark;
            }
        }
        let owned =
            || self.owned.iter().flat_map(|range| range.start.0..range.end.0).map(|group| floors[usize::from(group)]);
        self.watermark = owned().min().unwrap_or(EventTime::MIN);
        self.floors = if owned().all(|floor| floor == self.watermark) { Vec::new() } else { floors };
    }

    /// The lowest watermark of all key groups.
    pub(super) fn lowest(&self) -> EventTime {
        self.watermark
    }

    /// The highest one.
    pub(super) fn highest(&self) -> EventTime {
        self.floors.iter().copied().fold(self.watermark, EventTime::max)
    }

    /// True when all key groups have the same.
    pub(super) fn is_uniform(&self) -> bool {
        self.floors.is_empty()
    }

    /// The watermark of one key group.
    pub(super) fn of(&self, group: KeyGroup) -> EventTime {
        self.floors.get(usize::from(group.0)).map_or(self.watermark, |floor| self.watermark.max(*floor))
    }

    /// Event time has advanced.
    pub(super) fn advance(&mut self, watermark: EventTime) {
        self.watermark = self.watermark.max(watermark);
        if self.floors.iter().all(|floor| *floor <= self.watermark) {
            self.floors = Vec::new();
        }
    }

    /// What a snapshot says about it.
    pub(super) fn watermarks(&self) -> Vec<(KeyGroupRange, EventTime)> {
        if self.is_uniform() {
            return self.owned.iter().map(|range| (*range, self.watermark)).collect();
        }
        let mut watermarks: Vec<(KeyGroupRange, EventTime)> = Vec::new();
        for group in self.owned.iter().flat_map(|range| range.start.0..range.end.0) {
            let watermark = self.of(KeyGroup(group));
            match watermarks.last_mut().filter(|(range, last)| range.end.0 == group && *last == watermark) {
                Some((range, _)) => range.end = KeyGroup(group + 1),
                None => {
                    let range = KeyGroupRange { start: KeyGroup(group), end: KeyGroup(group + 1) };
                    watermarks.push((range, watermark));
                }
            }
        }
        watermarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u16, end: u16) -> KeyGroupRange {
        KeyGroupRange { start: KeyGroup(start), end: KeyGroup(end) }
    }

    #[test]
    fn floors_hold_until_the_watermark_has_passed_them() {
        let mut progress = Progress::new(vec![range(2, 5), range(7, 8)]);
        let watermarks = vec![(range(2, 4), EventTime(10)), (range(4, 8), EventTime(20))];
        progress.restore(&Restored { watermarks, ..Restored::default() });
        assert_eq!([2, 4, 7].map(|group| progress.of(KeyGroup(group)).0), [10, 20, 20]);
        progress.advance(EventTime(5));
        assert_eq!(progress.lowest(), EventTime(10));
        progress.advance(EventTime(15));
        assert_eq!([2, 4].map(|group| progress.of(KeyGroup(group)).0), [15, 20]);
        let expected = [(range(2, 4), EventTime(15)), (range(4, 5), EventTime(20)), (range(7, 8), EventTime(20))];
        assert_eq!(progress.watermarks(), expected);
        progress.advance(EventTime(20));
        assert!(progress.is_uniform());
        assert_eq!(progress.watermarks(), [(range(2, 5), EventTime(20)), (range(7, 8), EventTime(20))]);
    }
}
