//! What flows through a channel: `(Batch | Watermark | Idle | Barrier)* End`. Nothing overtakes, but for a barrier whose
//! time has come.

use crate::batch::Batch;
use std::time::Instant;
use weir_protocol::{CheckpointId, EventTime};

/// One element of a channel.
#[derive(Debug, Clone)]
pub enum Element {
    /// Rows.
    Batch(Batch),
    /// No row that follows is to be handled before those of this time. With the moment at which the rows were read that
    /// raised it, if rows did.
    Watermark(EventTime, Option<Instant>),
    /// The sender has nothing to say for a while and does not hold event time back. Any other element ends it.
    Idle,
    /// What came before belongs to the checkpoint, what follows does not.
    Barrier(Barrier),
    /// Nothing follows.
    End,
}

/// The border between two checkpoints in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// The checkpoint that it ends.
    pub checkpoint: CheckpointId,
    /// Whether the stream goes on.
    pub after: After,
    /// From when on it overtakes what waits before it; `None`: never. Only a barrier that others follow may.
    pub overtakes_at: Option<Instant>,
}

impl Barrier {
    /// A barrier that waits for everything before it.
    #[must_use]
    pub fn aligned(checkpoint: CheckpointId, after: After) -> Self {
        Self { checkpoint, after, overtakes_at: None }
    }

    /// True when it waits no longer.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.overtakes_at.is_some_and(|at| at <= Instant::now())
    }
}

/// What follows a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The stream goes on.
    More,
    /// The stream goes on, and what came before stands for itself: a savepoint must not need what is written later.
    MoreApart,
    /// No row follows in this generation: the job stops or has come to its end.
    Nothing,
}

/// What becomes of two elements of a channel, one right behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// Both stay.
    Both,
    /// The first now says what the second said, which goes.
    One,
    /// The first goes, and the second meets the one before it.
    Second,
}

impl Element {
    /// Meets the element that follows right behind. A watermark takes in the next one, and an idleness that a watermark
    /// ends at once has never been: so what is not rows stays few, however long rows wait.
    pub fn meet(&mut self, next: &Self) -> Meeting {
        match (self, next) {
            (Self::Watermark(last, born), Self::Watermark(next, next_born)) => {
                if next > last {
                    (*last, *born) = (*next, *next_born);
                }
                Meeting::One
            }
            (Self::Idle, Self::Idle) => Meeting::One,
            (Self::Idle, Self::Watermark(..)) => Meeting::Second,
            _ => Meeting::Both,
        }
    }
}
