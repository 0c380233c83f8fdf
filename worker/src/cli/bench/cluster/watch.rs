//! Watches the output of a job: how many rows its sinks have written, all few milliseconds, as each worker tells in its
//! metrics.

use super::http;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks: how exact times are.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// The moments at which there was new output.
pub(super) struct Watch {
    moments: Arc<Mutex<Vec<Instant>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A time without new output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    /// When the last row before it was seen.
    pub(super) from: Instant,
    /// When the first row after it was seen.
    pub(super) to: Instant,
}

impl Pause {
    /// How long it was.
    pub(super) fn length(&self) -> Duration {
        self.to - self.from
    }
}

impl Watch {
    /// Begins to watch these workers.
    pub(super) fn start(workers: Vec<SocketAddr>) -> Self {
        let (moments, ends) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (to, over): (Arc<Mutex<Vec<Instant>>>, _) = (Arc::clone(&moments), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            let mut known = vec![0; workers.len()];
            while !over.load(Ordering::Relaxed) {
                let mut more = false;
                for (worker, known) in workers.iter().zip(&mut known) {
                    let Ok(text) = http::metrics(*worker) else { continue };
                    let rows = http::sum(&text, "weir_task_rows_out_total", &["sink"]) as u64;
                    // A process that was started again counts from nothing.
                    more |= rows > *known || (rows > 0 && rows < *known);
                    *known = rows;
                }
                if more {
                    to.lock().push(Instant::now());
                }
                std::thread::sleep(LOOK);
            }
        });
        Self { moments, ends, thread: Some(thread) }
    }

    /// The longest time without new output that ended after `since`.
    pub(super) fn longest_pause(&self, since: Instant) -> Option<Pause> {
        longest(&self.moments.lock(), since)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn longest(moments: &[Instant], since: Instant) -> Option<Pause> {
    let pauses = moments.windows(2).map(|pair| Pause { from: pair[0], to: pair[1] });
    pauses.filter(|pause| pause.to > since).max_by_key(Pause::length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_is_one_that_ends_later() {
        let began = Instant::now();
        let moments: Vec<Instant> = [0, 900, 910, 1200, 1210].map(|ms| began + Duration::from_millis(ms)).to_vec();
        let found = longest(&moments, began + Duration::from_millis(900)).map(|pause| (pause.from, pause.to));
        assert_eq!(found, Some((moments[2], moments[3])));
        assert_eq!(longest(&moments, began + Duration::from_millis(1210)), None);
        assert_eq!(longest(&[], began), None);
    }
}
