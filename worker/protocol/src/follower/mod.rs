//! A worker that follows a leader: it looks for it, registers, obeys, and ends its tasks when it misses it.
//!
//! ```text
//!              Tick           Connected              Welcome
//!  ┌──▶ away ────────▶ dialing ────────▶ introducing ────────▶ registered
//!  │      ▲               │ nobody there      │ not welcome         │
//!  │      └───────────────┴───────────────────┘                     │
//!  └──────────── ending tasks ◀── silence, a lost connection, given up by the leader
//! ```
//!
//! It ends when the job has ended, when it is not wanted or another worker has its place, and, wherever it stands, when it
//! was asked to end and its tasks have.
//!
//! [`Follower`] is the other half of [`Members`](crate::members::Members), which takes a registration as the word that none
//! of the worker's tasks runs.
//!
//! Invariants: a worker registers only while none of its tasks runs; what comes over a connection that is not its current
//! one changes nothing; over one connection it never starts tasks of a generation that is not newer than all that it was
//! told there to start or to end.

mod event;

pub use event::{Action, AfterRefusal, Concern, Connection, Event, Options, Outcome, Word};

use crate::ids::{Generation, Now};
use crate::retry::{Backoff, draw};
use event::Phase;

/// A worker's side of its place in a job. See the module's diagram.
#[derive(Debug)]
pub struct Follower<C, R> {
    options: Options,
    now: Now,
    phase: Phase,
    backoff: Backoff,
    /// Connections so far.
    dialed: u64,
    /// The newest generation that this leader told it to start or to end.
    newest: Option<Generation>,
    out: Vec<Action<C, R>>,
}

impl<C, R> Follower<C, R> {
    /// A worker without a leader; the first event begins.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            now: Now::default(),
            phase: Phase::Away { until: Now::default() },
            backoff: Backoff::new(options.pace),
            dialed: 0,
            newest: None,
            out: Vec::new(),
            options,
        }
    }

    /// Takes one event and returns what to do, in this order. Time never goes back; after [`Action::End`] nothing follows.
    pub fn step(&mut self, now: Now, event: Event<C, R>) -> Vec<Action<C, R>> {
        self.now = self.now.max(now);
        self.handle(event);
        self.advance();
        std::mem::take(&mut self.out)
    }

    /// When it wants an [`Event::Tick`] if nothing happens before; a moment in the past means at once.
    #[must_use]
    pub fn deadline(&self) -> Option<Now> {
        match self.phase {
            Phase::Away { until } | Phase::Dialing { until, .. } | Phase::Introducing { until, .. } => Some(until),
            Phase::Registered { heard, beat_at, .. } => Some(beat_at.min(heard.after_ms(self.options.lost_after_ms))),
            Phase::EndingTasks | Phase::Ended => None,
        }
    }

    /// The connection over which it is registered.
    #[must_use]
    pub fn registered(&self) -> Option<Connection> {
        match self.phase {
            Phase::Registered { connection, .. } => Some(connection),
            _ => None,
        }
    }

    fn handle(&mut self, event: Event<C, R>) {
        match event {
            Event::Connected(connection) => {
                if matches!(self.phase, Phase::Dialing { connection: current, .. } if connection == current) {
                    self.phase = Phase::Introducing { connection, until: self.now.after_ms(self.options.welcome_ms) };
                    self.out.push(Action::Register(connection));
                }
            }
            Event::Lost { connection, message } => {
                if self.is_current(connection) {
                    self.lose(message);
                }
            }
            Event::Heard { connection, word } => {
                if self.is_current(connection) {
                    self.hear(connection, word);
                }
            }
            Event::Report(report) => {
                if let Some(connection) = self.registered() {
                    self.out.push(Action::Say(connection, report));
                }
            }
            Event::TasksEnded => {
                if self.phase == Phase::EndingTasks {
                    self.look_later();
                }
            }
            Event::Left(report) => {
                if let Some(connection) = self.registered() {
                    self.out.push(Action::Say(connection, report));
                }
                self.end(Outcome::Left);
            }
            Event::Tick => {}
        }
    }

    fn is_current(&self, connection: Connection) -> bool {
        self.connection() == Some(connection)
    }

    /// The connection that there is, or that is being made.
    fn connection(&self) -> Option<Connection> {
        match self.phase {
            Phase::Dialing { connection, .. }
            | Phase::Introducing { connection, .. }
            | Phase::Registered { connection, .. } => Some(connection),
            Phase::Away { .. } | Phase::EndingTasks | Phase::Ended => None,
        }
    }

    /// A silent leader is lost, and one that does not say welcome is none.
    fn advance(&mut self) {
        match self.phase {
            Phase::Away { until } if until <= self.now => self.dial(),
            Phase::Dialing { until, .. } if until <= self.now => {
                self.lose(format!("there was no connection to it within {} ms", self.options.connect_ms));
            }
            Phase::Introducing { until, .. } if until <= self.now => {
                self.lose("the leader did not say welcome in time".to_owned());
            }
            Phase::Registered { heard, .. } if self.now.ms_since(heard) >= self.options.lost_after_ms => {
                self.lose(format!("nothing was heard of the leader for {} ms", self.options.lost_after_ms));
            }
            Phase::Registered { connection, heard, beat_at } if beat_at <= self.now => {
                let beat_at = self.now.after_ms(self.options.heartbeat_ms);
                self.phase = Phase::Registered { connection, heard, beat_at };
                self.out.push(Action::Beat(connection));
            }
            _ => {}
        }
    }

    fn dial(&mut self) {
        self.dialed += 1;
        let connection = Connection(self.dialed);
        self.phase = Phase::Dialing { connection, until: self.now.after_ms(self.options.connect_ms) };
        self.out.push(Action::Dial(connection));
    }

    fn hear(&mut self, connection: Connection, word: Word<C>) {
        match &mut self.phase {
            Phase::Registered { heard, .. } => *heard = self.now,
            // Nobody else gets commands.
            _ if matches!(word, Word::Welcome | Word::Command(..)) => self.welcome(connection),
            _ => {}
        }
        match word {
            Word::Welcome | Word::Heartbeat => {}
            Word::Command(concern, command) => {
                if self.counts(concern) {
                    self.out.push(Action::Perform(command));
                }
            }
            Word::Refused(reason) => match self.options.after_refusal {
                AfterRefusal::End => self.end(Outcome::Refused(reason)),
                AfterRefusal::LookAgain => self.lose(format!("it does not take this worker: {reason}")),
            },
            Word::Replaced(reason) => self.end(Outcome::Replaced(reason)),
            Word::Closed(reason) => self.lose(format!("the leader gave this worker up: {reason}")),
            Word::Done(how) => self.end(Outcome::Ended(how)),
            Word::Failed(why) => self.end(Outcome::Failed(why)),
        }
    }

    fn welcome(&mut self, connection: Connection) {
        self.backoff.reset();
        // None of its tasks runs: whatever this leader starts is new.
        self.newest = None;
        self.phase = Phase::Registered { connection, heard: self.now, beat_at: self.now };
        self.out.push(Action::TellRegistered);
    }

    /// Whether a command still counts: what is said of an old generation comes too late.
    fn counts(&mut self, concern: Concern) -> bool {
        let newest = self.newest;
        match concern {
            Concern::Deploy(generation) | Concern::Cancel(generation) => {
                self.newest = newest.max(Some(generation));
                // That nothing of it runs is answered as often as it is asked.
                newest < Some(generation) || matches!(concern, Concern::Cancel(_))
            }
            Concern::Tasks(generation) => newest == Some(generation),
            Concern::Worker => true,
        }
    }

    /// The leader is away. Whoever looks for another one has no tasks any more.
    fn lose(&mut self, message: String) {
        let had_tasks = self.registered().is_some();
        self.out.extend(self.connection().map(Action::HangUp));
        self.out.push(Action::TellAway { message });
        match had_tasks {
            true => {
                self.phase = Phase::EndingTasks;
                self.out.push(Action::EndTasks);
            }
            false => self.look_later(),
        }
    }

    fn look_later(&mut self) {
        let wait_ms = self.backoff.next_ms(draw(&self.dialed.to_le_bytes(), self.options.seed));
        self.phase = Phase::Away { until: self.now.after_ms(wait_ms) };
    }

    fn end(&mut self, outcome: Outcome) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.out.push(Action::End(outcome));
        }
    }
}
