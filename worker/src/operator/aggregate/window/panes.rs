//! Arithmetic of windows that are aligned with time: the panes that they share, and which windows contain a pane.
//!
//! A pane is the longest stretch of time that no window cuts. All times are milliseconds; windows start at
//! `offset + n * interval`, also before 1970. Times at the ends of the range saturate.

use crate::operator::window::Window;

/// How time is cut into panes and windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panes {
    /// The length of a pane.
    pub(super) pane_ms: i64,
    /// From a window's end to the next one's.
    interval_ms: i64,
    /// The longest window.
    size_ms: i64,
    offset_ms: i64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All windows have one length.
    Slide,
    /// Windows grow from a common start.
    Grow,
}

impl Panes {
    /// Of windows that are not sessions, with positive lengths.
    pub(super) fn new(window: Window) -> Option<Self> {
        let (interval_ms, size_ms, offset_ms, kind) = match window {
            Window::Tumble { size_ms, offset_ms } => (size_ms, size_ms, offset_ms, Kind::Slide),
            Window::Hop { slide_ms, size_ms, offset_ms } => (slide_ms, size_ms, offset_ms, Kind::Slide),
            Window::Cumulate { step_ms, size_ms, offset_ms } => (step_ms, size_ms, offset_ms, Kind::Grow),
            Window::Session { .. } => return None,
        };
        let pane_ms = greatest_common_divisor(interval_ms, size_ms);
        (interval_ms > 0 && size_ms > 0).then_some(Self { pane_ms, interval_ms, size_ms, offset_ms, kind })
    }

    /// True when windows grow from a common start.
    pub(super) fn grow(&self) -> bool {
        self.kind == Kind::Grow
    }

    /// The start of the pane of a time.
    #[inline]
    pub(super) fn start(&self, time: i64) -> i64 {
        floor(time, self.pane_ms, self.offset_ms)
    }

    /// The end of a pane.
    pub(super) fn end(&self, pane: i64) -> i64 {
        pane.saturating_add(self.pane_ms)
    }

    /// The end of the first window that contains the pane.
    pub(super) fn first_end(&self, pane: i64) -> i64 {
        match self.kind {
            Kind::Grow => self.end(pane),
            Kind::Slide => {
                let earliest = self.end(pane).saturating_sub(self.size_ms);
                let start = floor(earliest.saturating_add(self.interval_ms - 1), self.interval_ms, self.offset_ms);
                start.saturating_add(self.size_ms)
            }
        }
    }

    /// The end of the last window that contains the pane; before [`first_end`](Self::first_end) when none does.
    pub(super) fn last_end(&self, pane: i64) -> i64 {
        let interval = if self.grow() { self.size_ms } else { self.interval_ms };
        floor(pane, interval, self.offset_ms).saturating_add(self.size_ms)
    }

    /// The end of the first window that contains the pane and has not fired at `watermark`.
    pub(super) fn next_end(&self, pane: i64, watermark: i64) -> Option<i64> {
        let (first, last) = (self.first_end(pane), self.last_end(pane));
        let next = if first.saturating_sub(1) > watermark {
            first
        } else {
            let passed = (watermark.saturating_sub(first.saturating_sub(1))) / self.interval_ms;
            first.saturating_add(passed.saturating_add(1).saturating_mul(self.interval_ms))
        };
        (next <= last).then_some(next)
    }

    /// The start of the window that ends at `end`.
    pub(super) fn window_start(&self, end: i64) -> i64 {
        match self.kind {
            Kind::Slide => end.saturating_sub(self.size_ms),
            Kind::Grow => floor(end.saturating_sub(1), self.size_ms, self.offset_ms),
        }
    }
}

#[inline]
fn floor(time: i64, interval: i64, offset: i64) -> i64 {
    time.saturating_sub(time.wrapping_sub(offset).rem_euclid(interval))
}

fn greatest_common_divisor(left: i64, right: i64) -> i64 {
    if right == 0 { left } else { greatest_common_divisor(right, left % right) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const TUMBLE: Window = Window::Tumble { size_ms: 10, offset_ms: 0 };
    const TUMBLE_OFFSET: Window = Window::Tumble { size_ms: 10, offset_ms: -3 };
    const HOP: Window = Window::Hop { slide_ms: 2, size_ms: 10, offset_ms: 1 };
    const HOP_UNEVEN: Window = Window::Hop { slide_ms: 4, size_ms: 10, offset_ms: 0 };
    const HOP_GAPS: Window = Window::Hop { slide_ms: 10, size_ms: 4, offset_ms: 0 };
    const CUMULATE: Window = Window::Cumulate { step_ms: 5, size_ms: 20, offset_ms: 3 };

    #[test]
    fn a_time_has_its_pane_and_its_windows() {
        // (window, time, pane's start, ends of the windows)
        let cases: [(Window, i64, i64, &[i64]); 16] = [
            (TUMBLE, 0, 0, &[10]),
            (TUMBLE, 9, 0, &[10]),
            (TUMBLE, 10, 10, &[20]),
            (TUMBLE, -1, -10, &[0]),
            (TUMBLE, -10, -10, &[0]),
            (TUMBLE, -11, -20, &[-10]),
            (TUMBLE_OFFSET, 6, -3, &[7]),
            (TUMBLE_OFFSET, 7, 7, &[17]),
            (TUMBLE_OFFSET, -4, -13, &[-3]),
            (HOP, 0, -1, &[1, 3, 5, 7, 9]),
            (HOP, 1, 1, &[3, 5, 7, 9, 11]),
            (HOP_UNEVEN, 5, 4, &[6, 10, 14]),
            (HOP_UNEVEN, 7, 6, &[10, 14]),
            (HOP_GAPS, 5, 4, &[]),
            (CUMULATE, 3, 3, &[8, 13, 18, 23]),
            (CUMULATE, -1, -2, &[3]),
        ];
        for (window, time, pane, ends) in cases {
            let panes = Panes::new(window).unwrap();
            assert_eq!(panes.start(time), pane, "{window:?} at {time}");
            let mut found = Vec::new();
            let mut watermark = i64::MIN;
            while let Some(end) = panes.next_end(pane, watermark) {
                found.push(end);
                watermark = end - 1;
                assert!(panes.window_start(end) <= time && time < end, "{window:?}: {time} in the window to {end}");
            }
            assert_eq!(found, ends, "{window:?} at {time}");
            assert_eq!(found.is_empty(), panes.last_end(pane) < panes.first_end(pane));
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        for window in [TUMBLE, TUMBLE_OFFSET, HOP, CUMULATE] {
            let panes = Panes::new(window).unwrap();
            for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
                let pane = panes.start(time);
                for watermark in [i64::MIN, 0, i64::MAX] {
                    panes.next_end(pane, watermark);
                }
                panes.window_start(panes.first_end(pane));
            }
        }
        assert_eq!(Panes::new(Window::Session { gap_ms: 1 }), None);
    }
}
