//! Readers of one generator that keep together.
//!
//! Windows wait for the reader that is furthest behind in event time, and what the others have read by then must be kept.
//! At full speed nothing else keeps readers of different tasks together: so one that is far ahead of the last one waits.
//! It never waits for more than that: the last one always goes on.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// How many row numbers a reader may be ahead of the last one: some tens of milliseconds of work.
pub(super) const LEAD: u64 = 1 << 19;

/// Nobody waits for a reader that is here.
const AWAY: u64 = u64::MAX;

/// The readers in this process.
#[derive(Debug, Default)]
pub(super) struct Convoy {
    readers: Mutex<Vec<Weak<AtomicU64>>>,
}

/// A reader's place. It leaves the convoy when it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    convoy: Arc<Convoy>,
    next: Arc<AtomicU64>,
}

impl Convoy {
    /// A new reader, for which nobody waits yet.
    pub(super) fn join(self: &Arc<Self>) -> Member {
        let next = Arc::new(AtomicU64::new(AWAY));
        self.readers.lock().push(Arc::downgrade(&next));
        Member { convoy: Arc::clone(self), next }
    }

    /// The lowest number that a reader reads next.
    fn last(&self) -> u64 {
        let mut readers = self.readers.lock();
        readers.retain(|reader| reader.strong_count() > 0);
        let places = readers.iter().filter_map(Weak::upgrade).map(|next| next.load(Ordering::Relaxed));
        places.min().unwrap_or(AWAY)
    }
}

impl Member {
    /// The reader wants to read `next`; answers whether it is too far ahead of the others.
    pub(super) fn is_ahead(&self, next: u64) -> bool {
        self.next.store(next, Ordering::Relaxed);
        next > self.convoy.last().saturating_add(LEAD)
    }

    /// The reader has nothing to read.
    pub(super) fn rest(&self) {
        self.next.store(AWAY, Ordering::Relaxed);
    }
}
