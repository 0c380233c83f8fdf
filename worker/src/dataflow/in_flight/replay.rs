//! Replays what was in flight, before a restored task reads its inputs.
//!
//! Event time is what the stretches say, together: the minimum over all of them, each beginning where its input was. So
//! no row meets a later watermark than it would have met. A stretch that has come to its end keeps holding event time at
//! its last watermark, as its input would have done; when all have, the inputs take over from there. Rows that have
//! changed their task, because the parallelism is another one, come with the stretches of all inputs of the old task,
//! whether these have rows for the new one or not.

use super::{Piece, Stretch};
use std::collections::VecDeque;
use weir_protocol::EventTime;
use weir_protocol::frontier::{Change, Frontier};

/// The stretches that a task has not replayed yet, and how far event time is.
pub struct Replay {
    frontier: Frontier,
    rest: Vec<Rest>,
}

/// What is left of a stretch.
struct Rest {
    stretch: Stretch,
    /// The task's input that its rows are for.
    input: usize,
    pieces: VecDeque<Piece>,
}

/// The next thing to do.
pub struct Next {
    /// Which stretch it comes from.
    pub stretch: usize,
    /// The input of the chain's first step.
    pub input: usize,
    /// What it is.
    pub piece: Piece,
}

impl Replay {
    /// The replay of `stretches`, each with the input of the chain's first step that it feeds. `None` when there is
    /// nothing to do.
    #[must_use]
    pub fn new(stretches: Vec<(Stretch, usize)>) -> Option<Self> {
        if stretches.is_empty() {
            return None;
        }
        let mut frontier = Frontier::new(stretches.len(), EventTime::MIN);
        for (place, (stretch, _)) in stretches.iter().enumerate() {
            if stretch.watermark > EventTime::MIN {
                frontier.update(place, stretch.watermark);
            }
            if stretch.is_idle {
                frontier.idle(place);
            }
        }
        let rest = stretches.into_iter().map(|(mut stretch, input)| {
            let pieces = std::mem::take(&mut stretch.pieces).into();
            Rest { stretch, input, pieces }
        });
        Some(Self { frontier, rest: rest.collect() })
    }

    /// How far event time is.
    #[must_use]
    pub fn watermark(&self) -> EventTime {
        self.frontier.watermark()
    }

    /// The next piece; `None` at the end of all stretches. Stretches of a stage take turns by their watermarks, the
    /// lowest first, so that event time goes on evenly.
    pub fn next(&mut self) -> Option<Next> {
        let left = self.rest.iter().enumerate().filter(|(_, rest)| !rest.pieces.is_empty());
        let order = |place: usize| self.frontier.of_input(place).map(|(watermark, _)| watermark);
        let (stretch, _) = left.min_by_key(|(place, rest)| (rest.stretch.stage, order(*place), *place))?;
        let rest = &mut self.rest[stretch];
        let piece = rest.pieces.pop_front()?;
        Some(Next { stretch, input: rest.input, piece })
    }

    /// Follows event time. Idleness is not for others to know: the task has its inputs still to read.
    pub fn follow(&mut self, next: &Next) -> Option<EventTime> {
        let change = match &next.piece {
            Piece::Rows(_) | Piece::Arrived(_) => self.frontier.active(next.stretch),
            Piece::Watermark(watermark) => self.frontier.update(next.stretch, *watermark),
            Piece::Idle => self.frontier.idle(next.stretch),
        };
        match change {
            Change::Advanced(watermark) | Change::Idle { advanced: Some(watermark) } => Some(watermark),
            Change::Nothing | Change::Resumed(_) | Change::Idle { advanced: None } => None,
        }
    }

    /// What is left, as the stretches of another snapshot. Those that have ended are in it for their watermarks.
    #[must_use]
    pub fn rest(&self) -> Vec<Stretch> {
        let rest = self.rest.iter().enumerate().map(|(place, rest)| {
            let (watermark, is_idle) = self.frontier.of_input(place).unwrap_or((EventTime::MAX, false));
            let pieces = rest.pieces.iter().cloned().collect();
            Stretch { watermark, is_idle, pieces, ..rest.stretch.clone() }
        });
        rest.collect()
    }

    /// The stage of what comes after all stretches.
    #[must_use]
    pub fn next_stage(&self) -> u32 {
        self.rest.iter().map(|rest| rest.stretch.stage.saturating_add(1)).max().unwrap_or(0)
    }
}
