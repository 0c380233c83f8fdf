//! Hands out the splits of a source to its tasks: a queue beside the leader, and at each task a desk that asks it.
//!
//! A checkpoint needs no word from here: a split that no task has reported, as in hand or as finished, is discovered
//! again after a restore. So what was handed out after a task's barrier goes back to the queue by itself.

use crate::connector::{Assignment, Enumerator, Split};
use crate::failure::{ASK_AGAIN, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use weir_protocol::EventTime;
use weir_protocol::snapshot::SplitProgress;

/// The splits of one source.
pub struct SplitQueue {
    inner: Inner,
}

struct Inner {
    enumerator: Box<dyn Enumerator>,
    known: BTreeSet<String>,
    /// For each task of a concurrent source its share; a single queue for an ordered one.
    waiting: Vec<VecDeque<SplitProgress>>,
    look_again: Option<Instant>,
    assignment: Assignment,
}

/// What a task gets that asks its desk for a split.
#[derive(Debug, Clone, PartialEq)]
pub enum Handout {
    /// Read this one.
    Split(SplitProgress),
    /// The queue has been asked; the task's inbox is told when it has answered.
    Asked,
    /// None now; ask again at this moment.
    Later(Instant),
    /// None any more.
    Done,
}

/// The queue's answer to a desk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitAnswer {
    /// Splits to read, in this order.
    pub splits: Vec<SplitProgress>,
    /// What follows them.
    pub then: Then,
}

/// What follows the splits that were handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// There may be more at once.
    More,
    /// There may be more after this many milliseconds.
    LaterMs(u64),
    /// There are none any more.
    Done,
}

/// A task's side of a queue. The queue may be in another process: its answer comes when it comes.
pub struct SplitDesk {
    ask: Box<dyn Fn() + Send + Sync>,
    state: Mutex<Desk>,
}

struct Desk {
    splits: VecDeque<SplitProgress>,
    then: Follow,
}

#[derive(Clone, Copy)]
enum Follow {
    Ask,
    Asked,
    Later(Instant),
    Done,
}

impl SplitDesk {
    /// A desk that asks its queue by `ask`.
    #[must_use]
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self { ask: Box::new(ask), state: Mutex::new(Desk { splits: VecDeque::new(), then: Follow::Ask }) }
    }

    /// The next split for the task.
    pub fn next(&self, now: Instant) -> Handout {
        let mut desk = self.state.lock();
        if let Some(split) = desk.splits.pop_front() {
            return Handout::Split(split);
        }
        match desk.then {
            Follow::Done => Handout::Done,
            Follow::Later(due) if now < due => Handout::Later(due),
            Follow::Asked => Handout::Asked,
            Follow::Ask | Follow::Later(_) => {
                desk.then = Follow::Asked;
                drop(desk);
                (self.ask)();
                Handout::Asked
            }
        }
    }

    /// The queue has answered.
    pub fn answer(&self, answer: SplitAnswer, now: Instant) {
        let mut desk = self.state.lock();
        desk.splits.extend(answer.splits);
        desk.then = match answer.then {
            Then::More => Follow::Ask,
            Then::LaterMs(wait) => Follow::Later(now + Duration::from_millis(wait)),
            Then::Done => Follow::Done,
        };
    }
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
        Ok(Self { inner: Inner { enumerator, known, waiting, look_again, assignment } })
    }

    /// Splits for a task: the next one, or all of its share where tasks read theirs at the same time. While a store is
    /// away, what would be found there later comes later.
    pub fn next(&mut self, subtask: u32, now: Instant) -> Result<SplitAnswer> {
        let inner = &mut self.inner;
        let queue = subtask as usize % inner.waiting.len();
        if inner.waiting[queue].is_empty() && inner.look_again.is_some_and(|due| due <= now) {
            inner.discover(now)?;
        }
        let most = match inner.assignment {
            Assignment::Ordered => 1,
            Assignment::Concurrent => usize::MAX,
        };
        let waiting = &mut inner.waiting[queue];
        let splits: Vec<SplitProgress> = waiting.drain(..waiting.len().min(most)).collect();
        let then = match inner.look_again {
            _ if !waiting.is_empty() => Then::More,
            Some(due) => Then::LaterMs(due.saturating_duration_since(now).as_millis() as u64 + 1),
            None => Then::Done,
        };
        Ok(SplitAnswer { splits, then })
    }
}

impl Inner {
    fn discover(&mut self, now: Instant) -> Result<()> {
        let began = Instant::now();
        let found = match self.enumerator.discover() {
            Err(failure) if failure.away => {
                // It took its time to find out.
                self.look_again = Some(now + began.elapsed() + ASK_AGAIN);
                return Ok(());
            }
            found => found?,
        };
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
    use crate::failure::Failure;
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

    /// Asks as a task does, until there is nothing more for now; answers how it ended besides.
    fn drain(queue: &mut SplitQueue, subtask: u32, now: Instant) -> (Vec<String>, Then) {
        let mut names = Vec::new();
        loop {
            let answer = queue.next(subtask, now).unwrap();
            names.extend(answer.splits.iter().map(|split| format!("{}@{}", split.split, split.position)));
            if answer.then != Then::More {
                return (names, answer.then);
            }
        }
    }

    #[test]
    fn an_ordered_source_hands_out_what_was_in_hand_first_and_nothing_twice() {
        let enumerator = Box::new(Growing(vec![vec!["a", "b", "c", "d"]], None));
        let mut queue =
            SplitQueue::new(Assignment::Ordered, 2, enumerator, vec![at("b", 7)], BTreeSet::from(["a".into()]))
                .unwrap();
        let now = Instant::now();
        assert_eq!(queue.next(0, now).unwrap().splits.len(), 1);
        assert_eq!(drain(&mut queue, 1, now), (vec!["c@0".to_owned(), "d@0".to_owned()], Then::Done));
        assert_eq!(drain(&mut queue, 0, now), (vec![], Then::Done));
    }

    #[test]
    fn a_concurrent_source_deals_its_splits_evenly_by_number_and_at_once() {
        let enumerator = Box::new(Growing(vec![vec!["s-0", "s-1", "s-2", "s-10", "s-9"]], None));
        let mut queue =
            SplitQueue::new(Assignment::Concurrent, 2, enumerator, vec![at("s-9", 3)], BTreeSet::new()).unwrap();
        let names = |answer: SplitAnswer| answer.splits.into_iter().map(|split| split.split).collect::<Vec<_>>();
        assert_eq!(names(queue.next(0, Instant::now()).unwrap()), ["s-0", "s-2", "s-10"]);
        assert_eq!(names(queue.next(1, Instant::now()).unwrap()), ["s-1", "s-9"]);
    }

    #[test]
    fn a_watched_source_is_looked_at_again_when_it_is_due() {
        let every = Duration::from_secs(60);
        let enumerator = Box::new(Growing(vec![vec!["a"], vec!["a", "b"]], Some(every)));
        let mut queue = SplitQueue::new(Assignment::Ordered, 1, enumerator, Vec::new(), BTreeSet::new()).unwrap();
        let now = Instant::now();
        let (names, then) = drain(&mut queue, 0, now);
        assert_eq!(names, ["a@0"]);
        assert!(matches!(then, Then::LaterMs(59_000..)), "{then:?}");
        let (names, then) = drain(&mut queue, 0, now + 2 * every);
        assert_eq!(names, ["b@0"]);
        assert!(matches!(then, Then::LaterMs(59_000..)), "{then:?}");
    }

    /// Finds a split at first and another one when its store is back.
    struct Absent(VecDeque<Option<&'static str>>);

    impl Enumerator for Absent {
        fn discover(&mut self) -> Result<Vec<Split>> {
            let found = self.0.pop_front().expect("it is asked no more often");
            let mut away = Failure::transient("nobody answers");
            away.away = true;
            found.map(|name| vec![Split { name: name.into(), start: 0.into() }]).ok_or(away)
        }

        fn look_again(&self) -> Option<Duration> {
            (!self.0.is_empty()).then_some(Duration::from_secs(1))
        }
    }

    #[test]
    fn a_look_into_a_store_that_is_away_is_repeated() {
        let enumerator = Box::new(Absent(VecDeque::from([Some("a"), None, None, Some("b")])));
        let mut queue = SplitQueue::new(Assignment::Ordered, 1, enumerator, Vec::new(), BTreeSet::new()).unwrap();
        let mut now = Instant::now();
        assert_eq!(drain(&mut queue, 0, now).0, ["a@0"]);
        for _ in 0..2 {
            now += Duration::from_secs(60);
            let (names, then) = drain(&mut queue, 0, now);
            assert!(names.is_empty() && matches!(then, Then::LaterMs(5_000..)), "{names:?} {then:?}");
        }
        now += Duration::from_secs(60);
        assert_eq!(drain(&mut queue, 0, now), (vec!["b@0".to_owned()], Then::Done));
    }

    #[test]
    fn a_desk_asks_once_and_again_when_it_is_due() {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = std::sync::Arc::clone(&asked);
        let desk = SplitDesk::new(move || {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        let asked = || asked.load(std::sync::atomic::Ordering::Relaxed);
        let now = Instant::now();
        assert_eq!((desk.next(now), desk.next(now), asked()), (Handout::Asked, Handout::Asked, 1));
        desk.answer(SplitAnswer { splits: vec![at("a", 0)], then: Then::LaterMs(1000) }, now);
        assert_eq!(desk.next(now), Handout::Split(at("a", 0)));
        let due = now + Duration::from_secs(1);
        assert_eq!((desk.next(now), asked()), (Handout::Later(due), 1));
        assert_eq!((desk.next(due), asked()), (Handout::Asked, 2));
        desk.answer(SplitAnswer { splits: Vec::new(), then: Then::Done }, due);
        assert_eq!((desk.next(due), asked()), (Handout::Done, 2));
    }
}
