//! Gathers what a barrier has overtaken: first from the queues, then from what arrives, until the barrier of every input
//! has come.

use super::Piece;
use crate::dataflow::element::Element;
use crate::dataflow::inbox::Incoming;
use std::collections::VecDeque;
use std::sync::Arc;
use weir_protocol::align::Overtaken;
use weir_protocol::gather::{Arrival, Gathering, Passing};

/// The outcome: the pieces of each input, or why there are none.
pub type Gathered = Result<Vec<Vec<Piece>>, String>;

/// Bytes that may arrive while a barrier is awaited. What was in the queues is bounded already, and barriers follow each
/// other quickly: more than this means that a sender is stuck, and memory is not the place to wait for it.
const MOST_BYTES: u64 = 256 << 20;

/// What to do with something that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is handled like everything else.
    Handle,
    /// It has done its work.
    Drop,
}

/// What has been gathered up to now.
pub(crate) struct Gather {
    gathering: Gathering,
    pieces: Vec<Vec<Piece>>,
    arrived_bytes: u64,
    outcome: Option<Gathered>,
}

impl Gather {
    pub(crate) fn new(inputs: usize, overtaken: &Overtaken) -> Self {
        let gathering = Gathering::new(inputs, overtaken);
        Self { gathering, pieces: vec![Vec::new(); inputs], arrived_bytes: 0, outcome: None }
    }

    /// Looks through the queues, and takes the barrier out of those that have it.
    pub(crate) fn begin<'a>(&mut self, queues: impl Iterator<Item = &'a mut VecDeque<Incoming>>) -> Step {
        for (input, queue) in queues.enumerate() {
            let place = queue.iter().position(|incoming| self.arrives(input, incoming) == Step::Drop);
            if let Some(place) = place {
                queue.remove(place);
            }
        }
        self.arrived_bytes = 0;
        if self.gathering.is_complete() && self.outcome.is_none() {
            self.complete();
        }
        Step::Handle
    }

    /// Something arrives.
    pub(crate) fn arrives(&mut self, input: usize, incoming: &Incoming) -> Step {
        match incoming {
            Incoming::Element(Element::Barrier(barrier)) => {
                let passing = self.gathering.barrier(input, barrier.checkpoint);
                return self.pass(passing);
            }
            Incoming::Element(Element::End) => {
                let passing = self.gathering.end(input);
                self.pass(passing);
            }
            Incoming::Element(Element::Batch(batch)) => self.keep(input, || Piece::Rows(batch.clone())),
            Incoming::Arrived(arrived) => {
                self.keep(input, || Piece::Arrived { decode: Arc::clone(&arrived.decode), bytes: arrived.size.bytes });
            }
            Incoming::Element(Element::Watermark(watermark, _)) => self.keep(input, || Piece::Watermark(*watermark)),
            Incoming::Element(Element::Idle) => self.keep(input, || Piece::Idle),
        }
        if self.gathering.element(input) == Arrival::Keep {
            self.arrived_bytes += incoming.size().bytes;
        }
        if self.arrived_bytes > MOST_BYTES {
            let limit = MOST_BYTES >> 20;
            self.outcome = Some(Err(format!("more than {limit} MiB of rows came before a barrier that had overtaken")));
        }
        Step::Handle
    }

    /// The outcome, once there is one.
    pub(crate) fn take(&mut self) -> Option<Gathered> {
        self.outcome.take()
    }

    fn keep(&mut self, input: usize, piece: impl FnOnce() -> Piece) {
        if self.gathering.element(input) == Arrival::Pass {
            return;
        }
        match (self.pieces[input].last_mut(), piece()) {
            (Some(Piece::Watermark(last)), Piece::Watermark(next)) => *last = (*last).max(next),
            (Some(Piece::Idle), Piece::Idle) => {}
            (_, piece) => self.pieces[input].push(piece),
        }
    }

    fn pass(&mut self, passing: Passing) -> Step {
        match passing {
            Passing::Pass => Step::Handle,
            Passing::Ends => Step::Drop,
            Passing::Completes => {
                self.complete();
                Step::Drop
            }
            Passing::GivenUp => {
                let text = "a newer checkpoint began before all barriers of this one had come";
                self.outcome = Some(Err(text.to_owned()));
                Step::Handle
            }
        }
    }

    fn complete(&mut self) {
        self.outcome = Some(Ok(std::mem::take(&mut self.pieces)));
    }
}
