//! Rows in flight: what a barrier has overtaken on its way to one task.
//!
//! ```text
//!   queue of an input:   rows 3 │ watermark │ rows 2 │ BARRIER │ rows 1        ──► task
//!                        next checkpoint             │         │ part of this one, as a stretch
//! ```
//!
//! A stretch is what was before the barrier of one input and had not been handled when the task took its snapshot: rows,
//! and the watermarks and idleness between them, in their order. With it goes how far the input was: replayed from there,
//! every row meets the watermarks that it would have met. A restored task replays all its stretches before it reads any
//! input. Key by key nothing changes its order: all rows of a key came through the same task, of one stretch after
//! another.

pub mod gather;
pub mod replay;

use super::inbox::Decode;
use crate::batch::Batch;
use crate::failure::Result;
use std::fmt;
use std::sync::Arc;
use weir_protocol::{EdgeId, EventTime};

/// What was in flight in one input.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The edge that the input belongs to.
    pub edge: EdgeId,
    /// Stretches of a lower stage were before all of a higher one.
    pub stage: u32,
    /// The input's watermark before it.
    pub watermark: EventTime,
    /// Whether the input was idle before it.
    pub is_idle: bool,
    /// In the order in which they were sent.
    pub pieces: Vec<Piece>,
}

/// One piece of a stretch.
#[derive(Clone)]
pub enum Piece {
    /// Rows.
    Rows(Batch),
    /// Rows of another process, as they came.
    Arrived {
        /// Makes a batch of them.
        decode: Arc<Decode>,
        /// The memory that they take.
        bytes: u64,
    },
    /// The input's watermark advances.
    Watermark(EventTime),
    /// The input is idle.
    Idle,
}

/// The part of a task's snapshot that is not the state of its operators.
#[derive(Debug, Clone)]
pub enum InFlight {
    /// All that the barrier has overtaken; empty when it waited.
    Stretches(Vec<Stretch>),
    /// It could not be gathered, so the snapshot is none. The text says why.
    Missing(String),
}

impl InFlight {
    /// These stretches, if one of them matters.
    #[must_use]
    pub fn of(stretches: Vec<Stretch>) -> Self {
        let matter = stretches.iter().any(Stretch::matters);
        Self::Stretches(if matter { stretches } else { Vec::new() })
    }

    /// Memory that its rows take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let Self::Stretches(stretches) = self else { return 0 };
        let of = |piece: &Piece| match piece {
            Piece::Rows(batch) => batch.bytes() as u64,
            Piece::Arrived { bytes, .. } => *bytes,
            Piece::Watermark(_) | Piece::Idle => 0,
        };
        stretches.iter().flat_map(|stretch| &stretch.pieces).map(of).sum()
    }
}

impl Default for InFlight {
    fn default() -> Self {
        Self::Stretches(Vec::new())
    }
}

impl Stretch {
    /// What is left of it when all its pieces have been handled.
    #[must_use]
    pub fn end(&self) -> Self {
        let mut end = Self { pieces: Vec::new(), ..self.clone() };
        for piece in &self.pieces {
            end.is_idle = matches!(piece, Piece::Idle);
            if let Piece::Watermark(watermark) = piece {
                end.watermark = end.watermark.max(*watermark);
            }
        }
        end
    }

    /// True when it has something that a restored task must know: rows, or a watermark, since rows that come later may be
    /// late under it.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Idle))
    }
}

impl Piece {
    /// Its rows, if it is some.
    pub fn rows(&self) -> Result<Option<Batch>> {
        match self {
            Self::Rows(batch) => Ok(Some(batch.clone())),
            Self::Arrived { decode, .. } => decode().map(Some),
            Self::Watermark(_) | Self::Idle => Ok(None),
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(batch) => write!(f, "{} rows", batch.num_rows()),
            Self::Arrived { .. } => f.write_str("rows"),
            Self::Watermark(watermark) => write!(f, "w{watermark}"),
            Self::Idle => f.write_str("idle"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_take_memory_while_they_are_still_as_they_came() {
        let nothing: Arc<Decode> = Arc::new(|| Err(crate::failure::Failure::bug("nobody asks for them")));
        let arrived = |bytes| Piece::Arrived { decode: Arc::clone(&nothing), bytes };
        let stretch = Stretch {
            edge: EdgeId("edge".into()),
            stage: 0,
            watermark: EventTime::MIN,
            is_idle: false,
            pieces: vec![arrived(700), Piece::Watermark(EventTime(1)), arrived(34)],
        };
        assert_eq!(InFlight::of(vec![stretch]).bytes(), 734);
    }
}
