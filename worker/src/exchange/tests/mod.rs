//! Pieces of pipelines over loopback: two exchanges in one process, with inboxes and senders and no tasks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod flow;
mod peers;
mod strangers;

use super::rows::tests::every_type;
use super::{Compression, Exchange, Lost, Settings};
use crate::batch::Batch;
use crate::dataflow::element::Element;
use crate::dataflow::inbox::{Inbox, Received, Sender};
use crate::tls::Security;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use weir_protocol::{Generation, TaskId};

const JOB: &str = "shop/bids-17";

/// A test that waits longer than this has failed.
const LONGEST: Duration = Duration::from_secs(240);

/// One worker: its exchange, its inboxes, and who it lost.
struct Worker {
    exchange: Arc<Exchange>,
    inboxes: BTreeMap<TaskId, Arc<Inbox>>,
    losses: mpsc::Receiver<Lost>,
    tell: mpsc::Sender<Lost>,
}

fn task(subtask: u32) -> TaskId {
    TaskId { chain: 3, subtask }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

impl Worker {
    /// A worker with this many tasks of two channels each; no generation is open.
    fn new(number: u32, tasks: u32, security: Security, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(JOB, number);
        change(&mut settings);
        let exchange = Exchange::listen(loopback(), security, settings).unwrap();
        let inboxes = (0..tasks).map(|subtask| (task(subtask), Inbox::new(2))).collect();
        let (tell, losses) = mpsc::channel();
        Self { exchange, inboxes, losses, tell }
    }

    fn plain(number: u32, tasks: u32) -> Self {
        Self::new(number, tasks, Security::Insecure, |_| {})
    }

    fn open(&self, generation: u64) {
        let tell = self.tell.clone();
        let failed = move |lost| tell.send(lost).unwrap();
        self.exchange.open(Generation(generation), self.inboxes.clone(), Arc::new(failed));
    }

    fn sender(&self, generation: u64, to: SocketAddr, subtask: u32, channel: usize) -> Sender {
        self.exchange.sender(Generation(generation), to, task(subtask), channel).unwrap()
    }

    fn inbox(&self, subtask: u32) -> &Inbox {
        &self.inboxes[&task(subtask)]
    }

    /// The next element of a task.
    fn next(&self, subtask: u32) -> (usize, Element) {
        let deadline = Instant::now() + LONGEST;
        loop {
            match self.inbox(subtask).receive().unwrap() {
                Received::Element(channel, element) => return (channel, element),
                Received::Control(control) => panic!("nobody sends {control:?}"),
                Received::Announced(..) => continue,
                Received::Gathered(_) => panic!("nobody gathers"),
                Received::Nothing => assert!(Instant::now() < deadline, "nothing comes"),
            }
            self.inbox(subtask).wait(Some(deadline));
        }
    }

    /// Who was lost, and why.
    fn lost(&self) -> (Option<u32>, String) {
        let lost = self.losses.recv_timeout(LONGEST).unwrap();
        (lost.worker, lost.failure.chain())
    }
}

/// Two workers with one open generation: the first sends, the second receives.
fn pair(tasks: u32, security: &Security, change: impl Fn(&mut Settings)) -> (Worker, Worker) {
    let sending = Worker::new(0, 0, security.clone(), &change);
    let receiving = Worker::new(1, tasks, security.clone(), &change);
    sending.open(1);
    receiving.open(1);
    (sending, receiving)
}

fn numbers(from: i64, rows: i64) -> Batch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + rows));
    Batch::inserts(RecordBatch::try_from_iter([("n", column)]).unwrap())
}

/// An element in a word.
fn word(element: &Element) -> String {
    match element {
        Element::Batch(batch) => format!("{} rows", batch.num_rows()),
        Element::Watermark(watermark, _) => format!("w{watermark}"),
        other => format!("{other:?}"),
    }
}
