//! The sending end of a connection, as tasks see it: streams with their queues and credits.
//!
//! ```text
//!             close, all streams ended      queues are empty
//!  Running ─────────────────────────▶ Draining ───────────▶ Gone
//!     │ │                                                    ▲
//!     │ └── close ──────────────────▶ Leaving ───────────────┤
//!     └── the connection is lost ────────────────────────────┘
//! ```
//!
//! A task puts frames into its stream's queue, after it has taken credits for rows; the connection takes them from one
//! stream after another. Queues are as long as credits let them be: what is not rows collapses.

use super::Compression;
use super::frame::{Header, Kind};
use super::rows::encode::{Encoded, Encoder, in_pieces};
use super::wire::{Broken, Outgoing};
use crate::dataflow::element::{After, Barrier, Element, Meeting};
use crate::dataflow::inbox::{CHANNEL_BUDGET, Urgency};
use crate::failure::{Failure, Result};
use arrow::buffer::Buffer;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use weir_protocol::credit::{Amount, Credits, Take};
use weir_protocol::{CheckpointId, Generation, TaskId};

/// The sending end of a connection.
pub(super) struct Outlet {
    pub(super) generation: Generation,
    pub(super) peer: SocketAddr,
    pub(super) lane: u32,
    /// The number of the worker there, once it has said it.
    pub(super) worker: OnceLock<u32>,
    state: Mutex<State>,
    /// Told that there is something to do for the connection.
    pub(super) work: Notify,
    credit_wait_ns: AtomicU64,
}

struct State {
    streams: Vec<Stream>,
    /// Streams with something in their queue, each once, in the order of their turns.
    ready: VecDeque<usize>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Leaving,
    Gone,
}

struct Stream {
    queue: VecDeque<Message>,
    credits: Credits,
    ended: bool,
    /// Whether it is among the ready ones.
    is_ready: bool,
    writable: Arc<Condvar>,
}

enum Message {
    /// A frame whose body is made once: `Open` and `Columns`.
    Told(Kind, Vec<u8>),
    Rows(Encoded),
    Element(Element),
    /// Asks for all credits, also those that are not worth a frame.
    Ask,
}

/// What the connection does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Write what was handed over.
    Write,
    /// Wait for work.
    Wait,
    /// Say good-bye.
    Leave,
}

/// Credits that are not worth a frame while nobody asks for them: the other side keeps less than this.
pub(super) const WORTH_RETURNING: Amount = Amount { rows: CHANNEL_BUDGET.rows / 4, bytes: CHANNEL_BUDGET.bytes / 4 };

/// The sender of one channel.
pub(super) struct Remote {
    outlet: Arc<Outlet>,
    stream: usize,
    encoder: Mutex<Encoder>,
}

/// Frames that are written at once, at most.
const MOST_FRAMES: usize = 64;
const MOST_BYTES: usize = 1 << 20;

impl Outlet {
    pub(super) fn new(generation: Generation, peer: SocketAddr, lane: u32) -> Arc<Self> {
        let state = State { streams: Vec::new(), ready: VecDeque::new(), phase: Phase::Running };
        Arc::new(Self {
            generation,
            peer,
            lane,
            worker: OnceLock::new(),
            state: Mutex::new(state),
            work: Notify::new(),
            credit_wait_ns: AtomicU64::new(0),
        })
    }

    /// A new stream, to a channel of a task.
    pub(super) fn stream(self: &Arc<Self>, task: TaskId, channel: usize, compression: Compression) -> Result<Remote> {
        let channel = u32::try_from(channel).map_err(|_| Failure::bug("a task has billions of channels"))?;
        let mut state = self.state.lock();
        let stream = state.streams.len();
        state.streams.push(Stream {
            queue: VecDeque::new(),
            credits: Credits::new(CHANNEL_BUDGET),
            ended: false,
            is_ready: false,
            writable: Arc::new(Condvar::new()),
        });
        state.push(stream, Message::Told(Kind::Open, address(task, channel)));
        drop(state);
        self.work.notify_one();
        Ok(Remote { outlet: Arc::clone(self), stream, encoder: Mutex::new(Encoder::new(compression)) })
    }

    /// The generation is over. Frames of streams that have all ended still go out.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Running {
            let ended = !state.streams.is_empty() && state.streams.iter().all(|stream| stream.ended);
            state.enter(if ended { Phase::Draining } else { Phase::Leaving });
        }
        drop(state);
        self.work.notify_one();
    }

    /// The connection is over: nobody waits any more.
    pub(super) fn gone(&self) {
        self.state.lock().enter(Phase::Gone);
    }

    /// Whether frames are still to go out although the generation is over.
    pub(super) fn is_draining(&self) -> bool {
        self.state.lock().phase == Phase::Draining
    }

    /// Whether all streams have ended and their frames have been handed over.
    pub(super) fn is_done(&self) -> bool {
        let state = self.state.lock();
        !state.streams.is_empty() && state.ready.is_empty() && state.streams.iter().all(|stream| stream.ended)
    }

    /// Hands frames to the connection.
    pub(super) fn next(&self, outgoing: &mut Outgoing) -> Next {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Leaving | Phase::Gone) {
            return Next::Leave;
        }
        while outgoing.frames() < MOST_FRAMES && outgoing.bytes() < MOST_BYTES {
            let Some(stream) = state.ready.pop_front() else { break };
            let Stream { queue, is_ready, .. } = &mut state.streams[stream];
            let message = queue.pop_front().expect("a ready stream has a message");
            *is_ready = !queue.is_empty();
            if *is_ready {
                state.ready.push_back(stream);
            }
            let (header, body) = message.frame(self.generation, stream as u32);
            outgoing.push(header, body);
        }
        match (outgoing.frames(), state.phase) {
            (1.., _) => Next::Write,
            (0, Phase::Draining) => Next::Leave,
            (0, _) => Next::Wait,
        }
    }

    /// The peer's task has taken this much out of a stream.
    pub(super) fn give_back(&self, stream: u32, amount: Amount) -> Result<(), Broken> {
        let mut state = self.state.lock();
        let stream = state.streams.get_mut(stream as usize).ok_or(Broken::Stream(stream))?;
        stream.credits.give_back(amount.rows, amount.bytes)?;
        stream.writable.notify_all();
        Ok(())
    }

    /// How long tasks have waited for credits since the last call, in nanoseconds.
    pub(super) fn take_credit_wait_ns(&self) -> u64 {
        self.credit_wait_ns.swap(0, Ordering::Relaxed)
    }

    fn put(&self, stream: usize, message: Message) -> Result<()> {
        let mut state = self.running()?;
        let was_empty = state.ready.is_empty();
        state.push(stream, message);
        drop(state);
        // With something ready the connection knows that it has work.
        if was_empty {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Takes the credits of rows, and answers how long it waited for them.
    fn take_credits(&self, stream: usize, size: Amount, urgency: Urgency) -> Result<Duration> {
        let mut state = self.running()?;
        if urgency.take(&mut state.streams[stream].credits, size) == Take::Granted {
            return Ok(Duration::ZERO);
        }
        if !fits_beside_pending(size) {
            state.push(stream, Message::Ask);
            self.work.notify_one();
        }
        let began = Instant::now();
        let writable = Arc::clone(&state.streams[stream].writable);
        loop {
            writable.wait(&mut state);
            if state.phase != Phase::Running {
                return Err(Failure::cancelled());
            }
            if urgency.take(&mut state.streams[stream].credits, size) == Take::Granted {
                break;
            }
        }
        let waited = began.elapsed();
        self.credit_wait_ns.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
        Ok(waited)
    }

    fn running(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.phase == Phase::Running { Ok(state) } else { Err(Failure::cancelled()) }
    }
}

impl State {
    fn push(&mut self, stream: usize, message: Message) {
        let Stream { queue, ended, is_ready, .. } = &mut self.streams[stream];
        *ended |= matches!(message, Message::Element(Element::End));
        if let Message::Element(element) = &message {
            while let Some(Message::Element(last)) = queue.back_mut() {
                match last.meet(element) {
                    Meeting::Both => break,
                    Meeting::One => return,
                    Meeting::Second => queue.pop_back(),
                };
            }
        }
        queue.push_back(message);
        if !std::mem::replace(is_ready, true) {
            self.ready.push_back(stream);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        if phase != Phase::Draining {
            self.ready.clear();
            self.streams.iter_mut().for_each(|stream| stream.queue.clear());
        }
        for stream in &self.streams {
            stream.writable.notify_all();
        }
    }
}

/// How long ago rows were read, in microseconds and one more; 0 when it is not known.
fn age(born: Option<Instant>) -> u64 {
    born.map_or(0, |born| 1 + born.elapsed().as_micros() as u64)
}

impl Message {
    fn frame(self, generation: Generation, stream: u32) -> (Header, Vec<Buffer>) {
        let bare = |kind, value| (Header { value, ..Header::bare(kind, generation, stream) }, Vec::new());
        match self {
            Self::Told(kind, body) => (Header::over(kind, generation, stream, &body), vec![Buffer::from_vec(body)]),
            Self::Rows(rows) => {
                let (header, _) = bare(rows.kind, age(rows.born));
                let header = Header { length: rows.length, rows: rows.rows, body_crc: rows.crc, ..header };
                (header, rows.parts)
            }
            Self::Ask => bare(Kind::Ask, 0),
            Self::Element(Element::Watermark(watermark, born)) => {
                let (header, body) = bare(Kind::Watermark, watermark.0.cast_unsigned());
                (Header { rows: u32::try_from(age(born)).unwrap_or(u32::MAX), ..header }, body)
            }
            Self::Element(Element::Idle) => bare(Kind::Idle, 0),
            Self::Element(Element::End) => bare(Kind::End, 0),
            Self::Element(Element::Barrier(barrier)) => {
                let (header, body) = bare(Kind::Barrier, barrier.checkpoint.0);
                (Header { rows: barrier_code(&barrier), ..header }, body)
            }
            Self::Element(Element::Batch(_)) => unreachable!("rows are encoded before they are queued"),
        }
    }
}

impl Remote {
    /// Sends an element, and answers how long it waited for credits. Fails with kind `Cancelled` when the generation is
    /// over or the peer is lost.
    pub(super) fn send(&self, element: Element, urgency: Urgency) -> Result<Duration> {
        let mut encoder = self.encoder.lock();
        let Element::Batch(batch) = element else {
            self.outlet.put(self.stream, Message::Element(element))?;
            return Ok(Duration::ZERO);
        };
        let mut waited = Duration::ZERO;
        in_pieces(batch, &mut |piece| {
            let (columns, rows) = encoder.encode(&piece)?;
            if let Some(columns) = columns {
                self.outlet.put(self.stream, Message::Told(Kind::Columns, columns))?;
            }
            waited += self.outlet.take_credits(self.stream, rows.size(), urgency)?;
            self.outlet.put(self.stream, Message::Rows(rows))
        })?;
        Ok(waited)
    }
}

/// Whether rows find room although the other side keeps what is not worth returning.
fn fits_beside_pending(size: Amount) -> bool {
    size.rows <= CHANNEL_BUDGET.rows - WORTH_RETURNING.rows
        && size.bytes <= CHANNEL_BUDGET.bytes - WORTH_RETURNING.bytes
}

/// The body of `Open`.
fn address(task: TaskId, channel: u32) -> Vec<u8> {
    [task.chain, task.subtask, channel].into_iter().flat_map(u32::to_le_bytes).collect()
}

/// The task and the channel that the body of `Open` names.
pub(super) fn parse_address(body: &[u8]) -> Option<(TaskId, usize)> {
    let (chain, rest) = body.split_first_chunk()?;
    let (subtask, rest) = rest.split_first_chunk()?;
    let channel: &[u8; 4] = rest.try_into().ok()?;
    let task = TaskId { chain: u32::from_le_bytes(*chain), subtask: u32::from_le_bytes(*subtask) };
    Some((task, u32::from_le_bytes(*channel) as usize))
}

/// The barrier's code: in the lowest two bits what follows it, above them one more than the milliseconds until it
/// overtakes, or 0 when it never does. Clocks of two processes need not agree; the way itself does not count.
fn barrier_code(barrier: &Barrier) -> u32 {
    let after = match barrier.after {
        After::More => 0,
        After::MoreApart => 1,
        After::Nothing => 2,
    };
    let wait = barrier.overtakes_at.map_or(0, |at| {
        let wait_ms = at.saturating_duration_since(Instant::now()).as_millis();
        u32::try_from(wait_ms).unwrap_or(u32::MAX).min(LONGEST_WAIT_MS) + 1
    });
    wait << 2 | after
}

/// Twelve days.
const LONGEST_WAIT_MS: u32 = (1 << 30) - 2;

/// The barrier of a checkpoint, by its code.
pub(super) fn barrier_of_code(checkpoint: CheckpointId, code: u32) -> Option<Barrier> {
    let after = [After::More, After::MoreApart, After::Nothing].into_iter().nth((code & 3) as usize)?;
    let wait = (code >> 2).checked_sub(1).map(|wait_ms| Duration::from_millis(u64::from(wait_ms)));
    Some(Barrier { checkpoint, after, overtakes_at: wait.map(|wait| Instant::now() + wait) })
}
