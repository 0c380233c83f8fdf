//! The input side of a task: one bounded queue per channel, and the task's control messages.
//!
//! A sender waits for credits of its own channel only, so a slow task stalls nothing but its own inputs. The task waits
//! for any channel that it may read; channels that delivered the barrier of a checkpoint under way are left alone until
//! the others have caught up.
//!
//! The sender of a channel may be in another process. Then credits are taken there, before the element travels, and the
//! inbox tells the other side what the task has taken; elements are delivered here without waiting, and a sender that
//! spends what it does not have is found out. Its rows are decoded by the task, when it takes them.

use super::element::{Barrier, Element, Meeting};
use crate::batch::Batch;
use crate::failure::{Failure, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_protocol::CheckpointId;
use weir_protocol::credit::{Amount, Credits, Take};

/// What may be under way in one channel: enough to keep the receiver busy while the sender makes the next batch, little
/// enough that a barrier does not wait long behind it.
pub const CHANNEL_BUDGET: Amount = Amount { rows: 32 * 1024, bytes: 8 << 20 };

/// What the job tells a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// A source: emit this barrier.
    Inject(Barrier),
    /// The checkpoint will not complete.
    Aborted(CheckpointId),
    /// A source: its desk has an answer.
    Splits,
    /// Stop as soon as possible; the generation is over.
    Cancel,
}

/// What a task finds in its inbox.
#[derive(Debug)]
pub enum Received {
    /// The next element of an input.
    Element(usize, Element),
    /// A message of the job; these come first.
    Control(Control),
    /// Nothing now.
    Nothing,
}

/// The input side of a task.
pub struct Inbox {
    state: Mutex<State>,
    readable: Condvar,
    writable: Vec<Condvar>,
}

struct State {
    channels: Vec<Channel>,
    control: VecDeque<Control>,
    cancelled: bool,
    /// Where the next look for a readable channel begins, so that all get their turn.
    turn: usize,
}

struct Channel {
    queue: VecDeque<Incoming>,
    credits: Credits,
    blocked: bool,
    /// Where credits go, of a channel that is fed from another process.
    give_back: Option<Arc<GiveBack>>,
}

/// What comes through a channel.
pub enum Incoming {
    /// An element of this process, or one without rows.
    Element(Element),
    /// Rows of another process.
    Arrived(Arrived),
}

/// Rows that came from another process, as they came.
pub struct Arrived {
    /// The credits that the sender has taken for them.
    pub size: Amount,
    /// Makes a batch of them, in the task's own thread.
    pub decode: Box<dyn FnOnce() -> Result<Batch> + Send>,
}

/// Told what a task has taken out of a channel, and what is still in it.
pub type GiveBack = dyn Fn(Amount, Amount) + Send + Sync;

/// Sends one element to a task in another process: waits for credits, and answers how long it waited.
pub type SendAway = dyn Fn(Element) -> Result<Duration> + Send + Sync;

/// Why an inbox does not take what another process sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such channel.
    #[error("the task has {channels} channels and none with number {channel}")]
    Unknown {
        /// The number asked for.
        channel: usize,
        /// How many there are.
        channels: usize,
    },
    /// Another sender feeds it.
    #[error("channel {0} has a sender already")]
    Taken(usize),
    /// More is sent than there are credits for.
    #[error("channel {0} was sent more than it has credits for")]
    Overdrawn(usize),
}

/// The output side of one channel.
#[derive(Clone)]
pub struct Sender(To);

#[derive(Clone)]
enum To {
    Here { inbox: Arc<Inbox>, channel: usize },
    Away(Arc<SendAway>),
}

/// More elements than this in one channel mean that its sender does not keep to the rules: rows take credits, watermarks
/// become one, and checkpoints come one at a time.
const LONGEST_QUEUE: usize = 2 * CHANNEL_BUDGET.rows as usize;

impl Inbox {
    /// An inbox with this many channels.
    #[must_use]
    pub fn new(channels: usize) -> Arc<Self> {
        let channel = || Channel {
            queue: VecDeque::new(),
            credits: Credits::new(CHANNEL_BUDGET),
            blocked: false,
            give_back: None,
        };
        Arc::new(Self {
            state: Mutex::new(State {
                channels: std::iter::repeat_with(channel).take(channels).collect(),
                control: VecDeque::new(),
                cancelled: false,
                turn: 0,
            }),
            readable: Condvar::new(),
            writable: std::iter::repeat_with(Condvar::new).take(channels).collect(),
        })
    }

    /// The sender of a channel, for a task of this process.
    #[must_use]
    pub fn sender(self: &Arc<Self>, channel: usize) -> Sender {
        Sender(To::Here { inbox: Arc::clone(self), channel })
    }

    /// Says that a channel is fed by [`Inbox::deliver`], from another process that `give_back` tells of credits. It is
    /// called by the task's thread and must not wait. A channel has one sender in its life.
    pub fn attach(&self, channel: usize, give_back: Arc<GiveBack>) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let channels = state.channels.len();
        let found = state.channels.get_mut(channel).ok_or(Refused::Unknown { channel, channels })?;
        if found.give_back.is_some() {
            return Err(Refused::Taken(channel));
        }
        found.give_back = Some(give_back);
        Ok(())
    }

    /// Takes in, without waiting, what another process has sent. After a cancellation it is dropped.
    pub fn deliver(&self, channel: usize, incoming: Incoming) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let channels = state.channels.len();
        let cancelled = state.cancelled;
        let found = state.channels.get_mut(channel).ok_or(Refused::Unknown { channel, channels })?;
        if cancelled {
            return Ok(());
        }
        let paid = match &incoming {
            Incoming::Arrived(arrived) => found.credits.take(arrived.size.rows, arrived.size.bytes) == Take::Granted,
            Incoming::Element(_) => true,
        };
        if !paid || found.queue.len() >= LONGEST_QUEUE {
            return Err(Refused::Overdrawn(channel));
        }
        found.push(incoming);
        self.readable.notify_one();
        Ok(())
    }

    /// The number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.writable.len()
    }

    /// Tells the task something. A cancellation also ends the waiting of all who send to it.
    pub fn tell(&self, control: Control) {
        let mut state = self.state.lock();
        if control == Control::Cancel {
            state.cancelled = true;
            self.writable.iter().for_each(|writable| {
                writable.notify_all();
            });
        }
        state.control.push_back(control);
        self.readable.notify_one();
    }

    /// Takes the next thing to do, without waiting. Fails when rows of another process cannot be decoded.
    pub fn receive(&self) -> Result<Received> {
        let mut state = self.state.lock();
        if let Some(control) = state.control.pop_front() {
            return Ok(Received::Control(control));
        }
        let Some(input) = state.readable() else { return Ok(Received::Nothing) };
        let channels = state.channels.len();
        state.turn = (input + 1) % channels;
        let channel = &mut state.channels[input];
        let incoming = channel.queue.pop_front().expect("a readable channel has an element");
        let size = incoming.size();
        if size != Amount::default() {
            channel.credits.give_back(size.rows, size.bytes).expect("a batch gives back what it took");
            self.writable[input].notify_one();
        }
        let (left, give_back) = (channel.credits.under_way(), channel.give_back.clone());
        drop(state);
        match incoming {
            Incoming::Element(element) => Ok(Received::Element(input, element)),
            Incoming::Arrived(arrived) => {
                if let Some(give_back) = give_back {
                    give_back(size, left);
                }
                Ok(Received::Element(input, Element::Batch((arrived.decode)()?)))
            }
        }
    }

    /// Waits until there is something to do, at most until `deadline`. Answers how long it waited.
    pub fn wait(&self, deadline: Option<Instant>) -> Duration {
        let began = Instant::now();
        let mut state = self.state.lock();
        while state.control.is_empty() && state.readable().is_none() {
            match deadline {
                None => self.readable.wait(&mut state),
                Some(deadline) => {
                    if self.readable.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        began.elapsed()
    }

    /// Leaves a channel alone until [`Inbox::unblock_all`].
    pub fn block(&self, input: usize) {
        self.state.lock().channels[input].blocked = true;
    }

    /// Reads all channels again.
    pub fn unblock_all(&self) {
        let mut state = self.state.lock();
        state.channels.iter_mut().for_each(|channel| channel.blocked = false);
    }

    fn send(&self, input: usize, element: Element) -> Result<Duration> {
        let mut state = self.state.lock();
        let mut waited = Duration::ZERO;
        if let Element::Batch(batch) = &element {
            let (rows, bytes) = size(batch);
            while !state.cancelled && state.channels[input].credits.take(rows, bytes) == Take::Wait {
                let began = Instant::now();
                self.writable[input].wait(&mut state);
                waited += began.elapsed();
            }
        }
        if state.cancelled {
            return Err(Failure::cancelled());
        }
        state.channels[input].push(Incoming::Element(element));
        self.readable.notify_one();
        Ok(waited)
    }
}

impl State {
    fn readable(&self) -> Option<usize> {
        let channels = self.channels.len();
        (0..channels)
            .map(|step| (self.turn + step) % channels)
            .find(|input| !self.channels[*input].blocked && !self.channels[*input].queue.is_empty())
    }
}

impl Channel {
    /// Puts it behind the others, or makes one of the last and it.
    fn push(&mut self, incoming: Incoming) {
        if let Incoming::Element(element) = &incoming {
            while let Some(Incoming::Element(last)) = self.queue.back_mut() {
                match last.meet(element) {
                    Meeting::Both => break,
                    Meeting::One => return,
                    Meeting::Second => self.queue.pop_back(),
                };
            }
        }
        self.queue.push_back(incoming);
    }
}

impl Incoming {
    /// The credits that it holds.
    fn size(&self) -> Amount {
        match self {
            Self::Element(Element::Batch(batch)) => {
                let (rows, bytes) = size(batch);
                Amount { rows, bytes }
            }
            Self::Element(_) => Amount::default(),
            Self::Arrived(arrived) => arrived.size,
        }
    }
}

impl Sender {
    /// The sender of a channel whose task runs in another process.
    #[must_use]
    pub fn away(send: Arc<SendAway>) -> Self {
        Self(To::Away(send))
    }

    /// Sends, and answers how long it had to wait for credits. Fails with kind `Cancelled` when the receiver was
    /// cancelled or cannot be reached any more.
    pub fn send(&self, element: Element) -> Result<Duration> {
        match &self.0 {
            To::Here { inbox, channel } => inbox.send(*channel, element),
            To::Away(send) => send(element),
        }
    }
}

fn size(batch: &Batch) -> (u64, u64) {
    (batch.num_rows() as u64, batch.bytes() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::dataflow::element::After;
    use crate::failure::Kind;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use weir_protocol::EventTime;

    fn rows(count: i64) -> Element {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
        Element::Batch(Batch::inserts(RecordBatch::try_from_iter([("n", column)]).unwrap()))
    }

    /// What is received until nothing is left: `input:rows`, or the element's kind.
    fn drain(inbox: &Inbox) -> Vec<String> {
        let mut received = Vec::new();
        loop {
            match inbox.receive().unwrap() {
                Received::Nothing => return received,
                Received::Control(control) => received.push(format!("{control:?}")),
                Received::Element(input, Element::Batch(batch)) => {
                    received.push(format!("{input}:{}", batch.num_rows()));
                }
                Received::Element(input, Element::Watermark(watermark)) => {
                    received.push(format!("{input}:w{watermark}"));
                }
                Received::Element(input, element) => received.push(format!("{input}:{element:?}")),
            }
        }
    }

    #[test]
    fn channels_take_turns_and_control_comes_first() {
        let inbox = Inbox::new(2);
        for count in [1, 2] {
            inbox.sender(0).send(rows(count)).unwrap();
            inbox.sender(1).send(rows(count + 10)).unwrap();
        }
        inbox.tell(Control::Aborted(CheckpointId(3)));
        assert_eq!(drain(&inbox), ["Aborted(CheckpointId(3))", "0:1", "1:11", "0:2", "1:12"]);
    }

    #[test]
    fn a_blocked_channel_waits_for_the_others() {
        let inbox = Inbox::new(2);
        inbox.block(0);
        inbox.sender(0).send(rows(1)).unwrap();
        inbox.sender(1).send(rows(2)).unwrap();
        assert_eq!(drain(&inbox), ["1:2"]);
        inbox.unblock_all();
        assert_eq!(drain(&inbox), ["0:1"]);
    }

    #[test]
    fn a_watermark_right_behind_another_replaces_it() {
        let inbox = Inbox::new(1);
        let sender = inbox.sender(0);
        for watermark in [1, 5, 3] {
            sender.send(Element::Watermark(EventTime(watermark))).unwrap();
        }
        sender.send(rows(1)).unwrap();
        sender.send(Element::Watermark(EventTime(7))).unwrap();
        assert_eq!(drain(&inbox), ["0:w5", "0:1", "0:w7"]);
    }

    #[test]
    fn a_full_channel_holds_its_own_sender_only_and_a_cancellation_lets_it_go() {
        let inbox = Inbox::new(2);
        let full = CHANNEL_BUDGET.rows.cast_signed();
        inbox.sender(0).send(rows(full)).unwrap();
        let waiting = inbox.sender(0);
        let held = std::thread::spawn(move || waiting.send(rows(1)));
        inbox.sender(1).send(rows(1)).unwrap();
        let barrier = Barrier { checkpoint: CheckpointId(1), after: After::More };
        inbox.sender(0).send(Element::Barrier(barrier)).unwrap();
        inbox.tell(Control::Cancel);
        // It waited for room, or came after the cancellation: either way it is told.
        assert_eq!(held.join().unwrap().unwrap_err().kind, Kind::Cancelled);
    }

    #[test]
    fn room_is_given_back_when_a_batch_is_received() {
        let inbox = Inbox::new(1);
        let full = CHANNEL_BUDGET.rows.cast_signed();
        inbox.sender(0).send(rows(full)).unwrap();
        let waiting = inbox.sender(0);
        let held = std::thread::spawn(move || waiting.send(rows(2)));
        assert!(matches!(inbox.receive().unwrap(), Received::Element(0, Element::Batch(_))));
        held.join().unwrap().unwrap();
        assert_eq!(drain(&inbox), ["0:2"]);
    }
}
