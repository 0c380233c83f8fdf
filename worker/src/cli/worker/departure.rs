//! A worker that is told to go.

use super::Arguments;
use crate::cli::exit::{Code, Refusal, SECOND_SIGNAL, cut_short, say};
use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::time::Duration;

/// Why a worker that was told to go is not ready.
pub(super) const LEAVES: &str = "it is about to leave";

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGTERM: the tasks go on elsewhere.
    Leave,
    /// SIGINT: the job stops.
    Stop,
}

type Act = Box<dyn FnOnce(Wish) + Send>;

/// Waits for the signals that end this process. The first one is for whoever has something to hand over; the second, or
/// the time limit, ends the process.
pub(super) struct Departure(Arc<Mutex<Option<Act>>>);

impl Departure {
    /// From now on a signal ends the process, until somebody has something to hand over.
    pub(super) fn on_signals(arguments: &Arguments) -> Result<Self, Refusal> {
        let mut signals = Signals::new([SIGINT, SIGTERM])
            .map_err(|error| Refusal::failed(format!("error: signals cannot be caught: {error}")))?;
        let act: Arc<Mutex<Option<Act>>> = Arc::default();
        let taken = Arc::clone(&act);
        let (ordinal, limit, quiet) = (arguments.ordinal, arguments.drain_timeout, arguments.quiet);
        std::thread::spawn(move || {
            let mut arriving = signals.forever();
            let Some(first) = arriving.next() else { return };
            let wish = if first == SIGTERM { Wish::Leave } else { Wish::Stop };
            let Some(act) = taken.lock().take() else {
                say(&format!("worker {ordinal} was asked to end before it had begun"), quiet);
                std::process::exit(match wish {
                    Wish::Leave => Code::HandedOver as i32,
                    Wish::Stop => Code::Interrupted as i32,
                });
            };
            act(wish);
            if wish == Wish::Leave {
                std::thread::spawn(move || give_up(limit.into()));
            }
            if arriving.next().is_some() {
                cut_short(SECOND_SIGNAL);
            }
        });
        Ok(Self(act))
    }

    /// The first signal is for this one.
    pub(super) fn by(self, act: impl FnOnce(Wish) + Send + 'static) {
        *self.0.lock() = Some(Box::new(act));
    }
}

fn give_up(limit: Duration) {
    std::thread::sleep(limit);
    cut_short("the tasks did not end within the time for draining")
}
