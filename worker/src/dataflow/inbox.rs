//! The input side of a task: one bounded queue per channel, and the task's control messages.
//!
//! A sender waits for credits of its own channel only, so a slow task stalls nothing but its own inputs. The task waits
//! for any channel that it may read; channels that delivered the barrier of a checkpoint under way are left alone until
//! the others have caught up. A barrier that overtakes is announced when it arrives; what it passes, here and later, is
//! gathered for the task's snapshot, and handled by the task as if there had been no barrier.
//!
//! The sender of a channel may be in another process. Then credits are taken there, before the element travels, and the
//! inbox tells the other side what the task has taken; elements are delivered here without waiting, and a sender that
//! spends what it does not have is found out. Its rows are decoded by the task, when it takes them.

use super::element::{Barrier, Element, Meeting};
use super::in_flight::gather::{Gather, Gathered, Step};
use crate::batch::Batch;
use crate::failure::{Failure, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_protocol::CheckpointId;
use weir_protocol::align::Overtaken;
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
    /// A barrier that may overtake is in the queue of an input. It comes before any element.
    Announced(usize, Barrier),
    /// All that the barrier of [`Inbox::gather`] has passed, or why it could not be gathered.
    Gathered(Gathered),
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
    /// What is told before elements.
    news: VecDeque<Received>,
    gather: Option<Gather>,
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
    /// Makes a batch of them, in the thread that needs it: the task's, and that of a snapshot which they are part of.
    pub decode: Arc<Decode>,
}

/// Makes a batch of what came from another process.
pub type Decode = dyn Fn() -> Result<Batch> + Send + Sync;

/// Told what a task has taken out of a channel, and what is still in it.
pub type GiveBack = dyn Fn(Amount, Amount) + Send + Sync;

/// Sends one element to a task in another process: waits for credits, and answers how long it waited.
pub type SendAway = dyn Fn(Element, Urgency) -> Result<Duration> + Send + Sync;

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

/// Whether a sender may overdraw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// It may not.
    None,
    /// A barrier that waits for nothing is right behind: it may take the channel's credits once more.
    Barrier,
}

impl Urgency {
    /// Takes credits.
    pub fn take(self, credits: &mut Credits, size: Amount) -> Take {
        match self {
            Self::None => credits.take(size.rows, size.bytes),
            Self::Barrier => credits.take_urgent(size.rows, size.bytes),
        }
    }
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
                news: VecDeque::new(),
                gather: None,
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
            // Whether a barrier was behind them is not known yet.
            Incoming::Arrived(arrived) => Urgency::Barrier.take(&mut found.credits, arrived.size) == Take::Granted,
            Incoming::Element(_) => true,
        };
        if !paid || found.queue.len() >= LONGEST_QUEUE {
            return Err(Refused::Overdrawn(channel));
        }
        state.arrive(channel, incoming);
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

    /// Takes the next thing to do that is no element, without waiting.
    #[must_use]
    pub fn told(&self) -> Option<Received> {
        self.state.lock().told()
    }

    /// Takes the next thing to do, without waiting. Fails when rows of another process cannot be decoded.
    pub fn receive(&self) -> Result<Received> {
        let mut state = self.state.lock();
        if let Some(told) = state.told() {
            return Ok(told);
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
        while state.control.is_empty() && state.news.is_empty() && state.readable().is_none() {
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

    /// True when there is nothing to do.
    #[cfg(test)]
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        state.control.is_empty() && state.news.is_empty() && state.readable().is_none()
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

    /// A barrier has overtaken: gathers what is before it in the inputs that are behind, now and as it arrives. The
    /// answer is received as [`Received::Gathered`]; it takes the place of an earlier one that is still to come.
    pub fn gather(&self, overtaken: &Overtaken) {
        let mut state = self.state.lock();
        let mut gather = Gather::new(state.channels.len(), overtaken);
        let queues = state.channels.iter_mut().map(|channel| &mut channel.queue);
        let step = gather.begin(queues);
        state.news.retain(|news| !matches!(news, Received::Gathered(_)));
        state.gather = Some(gather);
        state.gathered(step);
    }

    /// Gathers no more.
    pub fn stop_gathering(&self) {
        let mut state = self.state.lock();
        state.gather = None;
        state.news.retain(|news| !matches!(news, Received::Gathered(_)));
    }

    fn send(&self, input: usize, element: Element, urgency: Urgency) -> Result<Duration> {
        let mut state = self.state.lock();
        let mut waited = Duration::ZERO;
        if let Element::Batch(batch) = &element {
            let (rows, bytes) = size(batch);
            let size = Amount { rows, bytes };
            while !state.cancelled && urgency.take(&mut state.channels[input].credits, size) == Take::Wait {
                let began = Instant::now();
                self.writable[input].wait(&mut state);
                waited += began.elapsed();
            }
        }
        if state.cancelled {
            return Err(Failure::cancelled());
        }
        state.arrive(input, Incoming::Element(element));
        self.readable.notify_one();
        Ok(waited)
    }
}

impl State {
    fn told(&mut self) -> Option<Received> {
        self.control.pop_front().map(Received::Control).or_else(|| self.news.pop_front())
    }

    /// Puts what has arrived behind the others, unless it is a barrier that has overtaken.
    fn arrive(&mut self, input: usize, incoming: Incoming) {
        let step = self.gather.as_mut().map_or(Step::Handle, |gather| gather.arrives(input, &incoming));
        if self.gathered(step) == Step::Drop {
            return;
        }
        if let Incoming::Element(Element::Barrier(barrier)) = &incoming
            && barrier.overtakes_at.is_some()
        {
            self.news.push_back(Received::Announced(input, *barrier));
        }
        self.channels[input].push(incoming);
    }

    /// Tells the task when gathering has come to its end.
    fn gathered(&mut self, step: Step) -> Step {
        if let Some(gathered) = self.gather.as_mut().and_then(Gather::take) {
            self.gather = None;
            self.news.push_back(Received::Gathered(gathered));
        }
        step
    }

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
    pub(super) fn size(&self) -> Amount {
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
            To::Here { inbox, channel } => inbox.send(*channel, element, Urgency::None),
            To::Away(send) => send(element, Urgency::None),
        }
    }

    /// Sends what stands before a barrier that waits for nothing: it may take the channel's credits once more.
    pub fn send_urgent(&self, element: Element) -> Result<Duration> {
        match &self.0 {
            To::Here { inbox, channel } => inbox.send(*channel, element, Urgency::Barrier),
            To::Away(send) => send(element, Urgency::Barrier),
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
    use weir_protocol::align::Aligned;
    use weir_protocol::{EventTime, Now};

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
                Received::Announced(input, _) => received.push(format!("{input}:announced")),
                Received::Gathered(gathered) => received.push(format!("{gathered:?}")),
                Received::Element(input, Element::Batch(batch)) => {
                    received.push(format!("{input}:{}", batch.num_rows()));
                }
                Received::Element(input, Element::Watermark(watermark, _)) => {
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
            sender.send(Element::Watermark(EventTime(watermark), None)).unwrap();
        }
        sender.send(rows(1)).unwrap();
        sender.send(Element::Watermark(EventTime(7), None)).unwrap();
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
        let barrier = Barrier::aligned(CheckpointId(1), After::More);
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

    fn overtaken(behind: &[usize]) -> Overtaken {
        let aligned = Aligned { checkpoint: CheckpointId(1), since: Now(0) };
        Overtaken { aligned, behind: behind.to_vec() }
    }

    fn barrier(checkpoint: u64) -> Element {
        let overtakes_at = Some(Instant::now());
        Element::Barrier(Barrier { checkpoint: CheckpointId(checkpoint), after: After::More, overtakes_at })
    }

    #[test]
    fn what_a_barrier_overtakes_is_gathered_and_read_all_the_same() {
        let inbox = Inbox::new(3);
        inbox.sender(1).send(rows(10)).unwrap();
        for element in [rows(1), Element::Watermark(EventTime(5), None), rows(2), barrier(1), rows(3)] {
            inbox.sender(0).send(element).unwrap();
        }
        inbox.sender(2).send(rows(20)).unwrap();
        inbox.gather(&overtaken(&[0, 1]));
        for element in [rows(11), Element::Idle, barrier(1), rows(12)] {
            inbox.sender(1).send(element).unwrap();
        }
        let gathered = "Ok([[1 rows, w5, 2 rows], [10 rows, 11 rows, idle], []])";
        let read = ["0:1", "1:10", "2:20", "0:w5", "1:11", "0:2", "1:Idle", "0:3", "1:12"];
        assert_eq!(drain(&inbox), [&["0:announced", gathered], &read[..]].concat());
    }

    #[test]
    fn a_barrier_that_may_overtake_is_announced_before_anything_is_read() {
        let inbox = Inbox::new(1);
        let sender = inbox.sender(0);
        sender.send(rows(1)).unwrap();
        sender.send(Element::Barrier(Barrier::aligned(CheckpointId(1), After::More))).unwrap();
        sender.send(barrier(2)).unwrap();
        assert!(drain(&inbox).starts_with(&["0:announced".to_owned(), "0:1".to_owned()]));
    }

    #[test]
    fn gathering_ends_with_a_newer_checkpoint_or_when_nobody_waits_for_it() {
        let inbox = Inbox::new(1);
        inbox.gather(&overtaken(&[0]));
        inbox.sender(0).send(barrier(2)).unwrap();
        assert!(drain(&inbox)[0].contains("a newer checkpoint began"));
        inbox.gather(&overtaken(&[0]));
        inbox.stop_gathering();
        inbox.sender(0).send(rows(1)).unwrap();
        inbox.sender(0).send(Element::End).unwrap();
        assert_eq!(drain(&inbox), ["0:1", "0:End"]);
    }

    #[test]
    fn rows_before_a_barrier_that_waits_for_nothing_find_room_once_more() {
        let inbox = Inbox::new(1);
        let full = CHANNEL_BUDGET.rows.cast_signed();
        let sender = inbox.sender(0);
        sender.send(rows(full)).unwrap();
        assert_eq!(sender.send_urgent(rows(full)).unwrap(), Duration::ZERO);
        let waiting = inbox.sender(0);
        let held = std::thread::spawn(move || waiting.send_urgent(rows(1)));
        assert!(matches!(inbox.receive().unwrap(), Received::Element(0, Element::Batch(_))));
        held.join().unwrap().unwrap();
        assert_eq!(drain(&inbox), [format!("0:{full}"), "0:1".to_owned()]);
    }
}
