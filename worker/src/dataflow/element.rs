//! What flows through a channel: `(Batch | Watermark | Idle | Barrier)* End`.

use crate::batch::Batch;
use weir_protocol::{CheckpointId, EventTime};

/// One element of a channel.
#[derive(Debug, Clone)]
pub enum Element {
    /// Rows.
    Batch(Batch),
    /// No row that follows is to be handled before those of this time.
    Watermark(EventTime),
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
