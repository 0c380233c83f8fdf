//! Hands out the splits of a source to its tasks.
//!
//! A checkpoint needs no word from here: a split that no task has reported, as in hand or as finished, is discovered
//! again after a restore. So what was handed out after a task's barrier goes back to the queue by itself.

use crate::connector::{Assignment, Enumerator, Split};
use crate::failure::Result;
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;
use weir_protocol::EventTime;
use weir_protocol::snapshot::SplitProgress;

/// The splits of one source.
pub struct SplitQueue {
    inner: Mutex<Inner>,
}

struct Inner {
    enumerator: Box<dyn Enumerator>,
    known: BTreeSet<String>,
    /// For each task of a concurrent source its share; a single queue for an ordered one.
    waiting: Vec<VecDeque<SplitProgress>>,
    look_again: Option<Instant>,
}

/// What a task gets that asks for a split.
#[derive(Debug, Clone, PartialEq)]
pub enum Handout {
    /// Read this one.
    Split(SplitProgress),
    /// None now; ask again at this moment.
    Later(Instant),
    /// None any more.
    Done,
}

impl SplitQueue {
    /// The queue of a source with `parallelism` tasks. `restored` are the unfinished splits of the checkpoint that the
    /// job goes on from, `finished` the names of those that are read.
    pub fn new(
        assignment: Assignment,
        parallelism: u32,
        mut enumerator: Box<dyn Enumerator>,
        restored: Vec<SplitProgress>,
        finished: BTreeSet<String>,
    ) -> Result<Self> {
        enumerator.resume(&restored, &finished)?;
        let discovered = enumerator.discover()?;
        let look_again = enumerator.look_again().map(|after| Instant::now() + after);
        let mut known = finished;
        known.extend(restored.iter().map(|split| split.split.clone()));
        let fresh: Vec<SplitProgress> =
            discovered.into_iter().filter(|split| known.insert(split.name.clone())).map(untouched).collect();
        let queues = match assignment {
            Assignment::Ordered => 1,
            Assignment::Concurrent => parallelism.max(1) as usize,
        };
        let mut waiting = vec![VecDeque::new(); queues];
        let mut all: Vec<SplitProgress> = restored.into_iter().chain(fresh).collect();
        if assignment == Assignment::Concurrent {
            all.sort_by(|one, other| natural(&one.split).cmp(&natural(&other.split)));
        }
        for (place, split) in all.into_iter().enumerate() {
            waiting[place % queues].push_back(split);
        }
        Ok(Self { inner: Mutex::new(Inner { enumerator, known, waiting, look_again }) })
    }

    /// The next split for a task.
    pub fn next(&self, subtask: u32, now: Instant) -> Result<Handout> {
        let mut inner = self.inner.lock();
        let queue = subtask as usize % inner.waiting.len();
        if let Some(split) = inner.waiting[queue].pop_front() {
            return Ok(Handout::Split(split));
        }
        let Some(due) = inner.look_again else { return Ok(Handout::Done) };
        if now < due {
            return Ok(Handout::Later(due));
        }
        inner.discover(now)?;
        match (inner.waiting[queue].pop_front(), inner.look_again) {
            (Some(split), _) => Ok(Handout::Split(split)),
            (None, Some(due)) => Ok(Handout::Later(due)),
            (None, None) => Ok(Handout::Done),
        }
    }
}

impl Inner {
    fn discover(&mut self, now: Instant) -> Result<()> {
        let found = self.enumerator.discover()?;
        let queues = self.waiting.len();
        for split in found {
            if self.known.insert(split.name.clone()) {
                let queue = self.known.len() % queues;
                self.waiting[queue].push_back(untouched(split));
            }
        }
        self.look_again = self.enumerator.look_again().map(|after| now + after);
        Ok(())
    }
}

fn untouched(split: Split) -> SplitProgress {
    SplitProgress { split: split.name, position: split.start, watermark: EventTime::MIN, finished: false }
}

/// Splits of a concurrent source are dealt out by number where their names end in one: 2 comes before 10.
fn natural(name: &str) -> (&str, u64) {
    let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
    (&name[..digits], name[digits..].parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::time::Duration;

    struct Growing(Vec<Vec<&'static str>>, Option<Duration>);

    impl Enumerator for Growing {
        fn discover(&mut self) -> Result<Vec<Split>> {
            let names = if self.0.len() > 1 { self.0.remove(0) } else { self.0[0].clone() };
            Ok(names.into_iter().map(|name| Split { name: name.into(), start: 0.into() }).collect())
        }

        fn look_again(&self) -> Option<Duration> {
            self.1
        }
    }

    fn at(name: &str, position: i64) -> SplitProgress {
        SplitProgress { split: name.into(), position: position.into(), watermark: EventTime(5), finished: false }
    }

    fn drain(queue: &SplitQueue, subtask: u32) -> Vec<String> {
        let mut names = Vec::new();
        while let Handout::Split(split) = queue.next(subtask, Instant::now()).unwrap() {
            names.push(format!("{}@{}", split.split, split.position));
        }
        names
    }

    #[test]
    fn an_ordered_source_hands_out_what_was_in_hand_first_and_nothing_twice() {
        let enumerator = Box::new(Growing(vec![vec!["a", "b", "c", "d"]], None));
        let queue = SplitQueue::new(Assignment::Ordered, 2, enumerator, vec![at("b", 7)], BTreeSet::from(["a".into()]))
            .unwrap();
        assert_eq!(drain(&queue, 1), ["b@7", "c@0", "d@0"]);
        assert_eq!(queue.next(0, Instant::now()).unwrap(), Handout::Done);
    }

    #[test]
    fn a_concurrent_source_deals_its_splits_evenly_by_number() {
        let enumerator = Box::new(Growing(vec![vec!["s-0", "s-1", "s-2", "s-10", "s-9"]], None));
        let queue =
            SplitQueue::new(Assignment::Concurrent, 2, enumerator, vec![at("s-9", 3)], BTreeSet::new()).unwrap();
        assert_eq!(drain(&queue, 0), ["s-0@0", "s-2@0", "s-10@0"]);
        assert_eq!(drain(&queue, 1), ["s-1@0", "s-9@3"]);
    }

    #[test]
    fn a_watched_source_is_looked_at_again_when_it_is_due() {
        let every = Duration::from_secs(60);
        let enumerator = Box::new(Growing(vec![vec!["a"], vec!["a", "b"]], Some(every)));
        let queue = SplitQueue::new(Assignment::Ordered, 1, enumerator, Vec::new(), BTreeSet::new()).unwrap();
        let now = Instant::now();
        assert!(matches!(queue.next(0, now).unwrap(), Handout::Split(split) if split.split == "a"));
        assert!(matches!(queue.next(0, now).unwrap(), Handout::Later(_)));
        assert!(matches!(queue.next(0, now + 2 * every).unwrap(), Handout::Split(split) if split.split == "b"));
        assert!(matches!(queue.next(0, now + 2 * every).unwrap(), Handout::Later(_)));
    }
}
