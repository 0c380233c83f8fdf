//! Kinds of event-time windows and their arithmetic.

use weir_protocol::EventTime;

/// A window function with its sizes in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// Windows of one size that follow each other.
    Tumble {
        /// The length.
        size_ms: i64,
        /// Moves all windows by this much.
        offset_ms: i64,
    },
    /// Windows of one size that start every `slide`.
    Hop {
        /// From a window's start to the next one's.
        slide_ms: i64,
        /// The length, a multiple of the slide.
        size_ms: i64,
        /// Moves all windows by this much.
        offset_ms: i64,
    },
    /// Windows that start together and grow by `step` up to `size`.
    Cumulate {
        /// From a window's end to the next one's.
        step_ms: i64,
        /// The longest length, a multiple of the step.
        size_ms: i64,
        /// Moves all windows by this much.
        offset_ms: i64,
    },
    /// Windows that end after a gap without rows of their key.
    Session {
        /// The gap.
        gap_ms: i64,
    },
}

/// One window: `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Its first millisecond.
    pub start: i64,
    /// The millisecond after its last.
    pub end: i64,
}

impl Span {
    /// The last moment of the window: it fires when the watermark reaches it.
    #[must_use]
    pub fn max_time(self) -> EventTime {
        EventTime(self.end - 1)
    }
}
