//! A request that is stopped on its way, until it is said what becomes of it.

use super::proxy::Request;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::time::{Duration, Instant};

/// Which request is stopped, and how far it is.
pub(crate) struct Held {
    method: &'static str,
    /// Something that the path and query contain.
    target: &'static str,
    /// Something that the body contains.
    content: &'static str,
    /// So many of them pass before.
    passing: Mutex<usize>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Awaited,
    Stopped,
    /// What becomes of it.
    Told(Fate),
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It never arrives.
    Lost,
    /// It is carried out, and nobody hears of it.
    Unanswered,
    /// It goes on as if nothing had been.
    Answered,
}

impl Held {
    /// The next request of this method whose target contains `target`.
    pub(crate) fn request(method: &'static str, target: &'static str) -> Self {
        Self {
            method,
            target,
            content: "",
            passing: Mutex::new(0),
            state: Mutex::new(State::Awaited),
            changed: Condvar::new(),
        }
    }

    /// Whose body contains this.
    pub(crate) fn with(self, content: &'static str) -> Self {
        Self { content, ..self }
    }

    /// After so many others of this kind.
    pub(crate) fn after(self, passing: usize) -> Self {
        *self.passing.lock() = passing;
        self
    }

    /// Waits until it is there; false when it has not come by then.
    pub(crate) fn comes(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        let timed_out = self.changed.wait_while_until(&mut state, |state| *state == State::Awaited, until).timed_out();
        !timed_out
    }

    /// It never arrives.
    pub(crate) fn lose(&self) {
        self.tell(Fate::Lost);
    }

    /// It goes on as if nothing had been.
    pub(crate) fn let_go(&self) {
        self.tell(Fate::Answered);
    }

    /// It is carried out now, and nobody hears of it.
    pub(crate) fn carry_out(&self) {
        self.tell(Fate::Unanswered);
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| *state != State::Over);
    }

    fn tell(&self, fate: Fate) {
        let mut state = self.state.lock();
        if matches!(*state, State::Awaited | State::Stopped) {
            *state = State::Told(fate);
            self.changed.notify_all();
        }
    }

    pub(super) fn concerns(&self, request: &Request) -> bool {
        let content = self.content.as_bytes();
        let contains = content.is_empty() || request.body.windows(content.len()).any(|window| window == content);
        if self.method != request.method || !request.target.contains(self.target) || !contains {
            return false;
        }
        let mut passing = self.passing.lock();
        let comes = *passing == 0;
        *passing = passing.saturating_sub(1);
        comes
    }

    /// Waits for what becomes of it; the answer, if somebody is to hear of it.
    pub(super) fn stop(&self, forward: impl FnOnce() -> io::Result<Vec<u8>>) -> Option<io::Result<Vec<u8>>> {
        let mut state = self.state.lock();
        if *state == State::Awaited {
            *state = State::Stopped;
            self.changed.notify_all();
        }
        self.changed.wait_while(&mut state, |state| *state == State::Stopped);
        let State::Told(fate) = *state else { return None };
        drop(state);
        let answer = (fate != Fate::Lost).then(forward);
        *self.state.lock() = State::Over;
        self.changed.notify_all();
        answer.filter(|_| fate == Fate::Answered)
    }
}
