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

impl Window {
    /// The windows that a moment falls in. A session's bounds follow from other rows: it gets the one that a single row
    /// makes.
    pub fn spans(self, time: i64) -> impl Iterator<Item = Span> {
        let (first, step, count, length) = match self {
            Self::Tumble { size_ms, offset_ms } => (floor(time, size_ms, offset_ms), 0, 1, Length::Fixed(size_ms)),
            Self::Hop { slide_ms, size_ms, offset_ms } => {
                let last = floor(time, slide_ms, offset_ms);
                let count = (size_ms - (time - last) + slide_ms - 1) / slide_ms;
                (last, -slide_ms, count, Length::Fixed(size_ms))
            }
            Self::Cumulate { step_ms, size_ms, offset_ms } => {
                let start = floor(time, size_ms, offset_ms);
                let shortest = (time - start) / step_ms + 1;
                (start, 0, size_ms / step_ms - shortest + 1, Length::Growing { shortest, step_ms })
            }
            Self::Session { gap_ms } => (time, 0, 1, Length::Fixed(gap_ms)),
        };
        (0..count).map(move |place| {
            let start = first + place * step;
            let length = match length {
                Length::Fixed(length) => length,
                Length::Growing { shortest, step_ms } => (shortest + place) * step_ms,
            };
            Span { start, end: start + length }
        })
    }
}

#[derive(Clone, Copy)]
enum Length {
    Fixed(i64),
    Growing { shortest: i64, step_ms: i64 },
}

/// The start of the stretch of `size` that a moment lies in; stretches are moved by `offset`.
fn floor(time: i64, size: i64, offset: i64) -> i64 {
    (time - offset).div_euclid(size) * size + offset
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_falls_in_the_windows_that_flink_says() {
        let check = |window: Window, time: i64, expected: &[(i64, i64)]| {
            let spans: Vec<(i64, i64)> = window.spans(time).map(|span| (span.start, span.end)).collect();
            assert_eq!(spans, expected, "{window:?} at {time}");
        };
        let tumble = |offset_ms| Window::Tumble { size_ms: 10, offset_ms };
        check(tumble(0), 19, &[(10, 20)]);
        check(tumble(3), 12, &[(3, 13)]);
        check(tumble(0), -1, &[(-10, 0)]);
        let hop = Window::Hop { slide_ms: 5, size_ms: 10, offset_ms: 0 };
        check(hop, 12, &[(10, 20), (5, 15)]);
        check(hop, 10, &[(10, 20), (5, 15)]);
        check(Window::Hop { slide_ms: 4, size_ms: 12, offset_ms: 1 }, -2, &[(-3, 9), (-7, 5), (-11, 1)]);
        let cumulate = Window::Cumulate { step_ms: 5, size_ms: 15, offset_ms: 0 };
        check(cumulate, 7, &[(0, 10), (0, 15)]);
        check(cumulate, 15, &[(15, 20), (15, 25), (15, 30)]);
    }
}
