//! What goes between two workers in a second.
//!
//! The benchmark is the receiving worker; it starts its own program again as the sending one. Each has a thread per
//! channel where a job would have tasks: one encodes what it has made before, the other decodes and counts.

use super::Scratch;
use crate::batch::Batch;
use crate::cli::exit::{Code, Refusal};
use crate::cli::table::{self, Align};
use crate::dataflow::element::Element;
use crate::dataflow::inbox::{Control, Inbox, Received};
use crate::exchange::{Compression, Exchange, Settings};
use crate::failure::Failure;
use crate::job::usage;
use crate::tls::{Identity, Role, Security, self_made};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Instant;
use weir_protocol::{Generation, TaskId};

/// The name of the hidden command.
const COMMAND: &str = "send";

const GENERATION: Generation = Generation(1);

/// Measure how much data goes from one worker to another on this machine.
///
/// Two processes, as two workers of a job are, with the connections between them secured and not, and with rows that are
/// all numbers and rows that are mostly text. A GB is 10^9 bytes of columns in memory, whatever they are on the way.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir bench exchange
  weir bench exchange --megabytes 10000 --channels 4 --lanes 2 --lz4")]
pub(super) struct Arguments {
    /// How much to send for each line of the table.
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    megabytes: u64,
    /// Rows of a batch.
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rows: u32,
    /// Channels, each between two threads of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    channels: u32,
    /// Connections that share the channels.
    #[arg(long, value_name = "N", default_value = "1")]
    lanes: NonZero<u32>,
    /// Compress rows with LZ4.
    #[arg(long)]
    lz4: bool,
    /// Measure connections without certificates only.
    #[arg(long)]
    insecure: bool,
    /// Print an object in JSON for each line.
    #[arg(long)]
    json: bool,
}

/// What the sending process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Task {
    peer: SocketAddr,
    /// The folder of its certificate; `None` without.
    certificates: Option<PathBuf>,
    columns: Columns,
    bytes: u64,
    rows: u32,
    channels: u32,
    lanes: NonZero<u32>,
    lz4: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Columns {
    Numbers,
    Text,
}

/// What came through a channel.
#[derive(Debug, Default)]
struct Count {
    rows: u64,
    bytes: u64,
    /// When the first rows came.
    began: Option<Instant>,
}

struct Measured {
    bytes: u64,
    rows: u64,
    sent_bytes: u64,
    seconds: f64,
    cpu_seconds: Option<f64>,
}

/// Runs the benchmark.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    let scratch = Scratch::new()?;
    let mut lines = Vec::new();
    for secured in [false, true].into_iter().filter(|secured| !(*secured && arguments.insecure)) {
        for columns in [Columns::Numbers, Columns::Text] {
            let measured = measure(arguments, columns, secured.then_some(scratch.0.as_path()))?;
            let (connection, columns) = (if secured { "mTLS" } else { "plain" }, columns.name());
            if arguments.json {
                println!("{}", measured.object(connection, columns));
            } else {
                lines.push(measured.line(connection, columns));
            }
        }
    }
    if !arguments.json {
        print!("{}", table::render(&HEADINGS, &lines));
    }
    Ok(Code::Done)
}

const HEADINGS: [(&str, Align); 7] = [
    ("connection", Align::Left),
    ("rows of", Align::Left),
    ("GB/s", Align::Right),
    ("M rows/s", Align::Right),
    ("GB", Align::Right),
    ("GB sent", Align::Right),
    ("CPU s", Align::Right),
];

impl Columns {
    fn name(self) -> &'static str {
        match self {
            Self::Numbers => "numbers",
            Self::Text => "text",
        }
    }

    /// Rows like the bids of an auction.
    fn rows(self, rows: u32, seed: i64) -> Batch {
        let numbers = |factor: i64| -> ArrayRef {
            let value = move |row: i64| (row + seed).wrapping_mul(factor).rotate_left(17) & 0xff_ffff;
            Arc::new(Int64Array::from_iter_values((0..i64::from(rows)).map(value)))
        };
        let time = TimestampMillisecondArray::from_iter_values((0..i64::from(rows)).map(|row| 1_767_225_600_000 + row));
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("auction", numbers(0x9E37_79B9_7F4A_7C15_u64.cast_signed())),
            ("bidder", numbers(0x2545_F491_4F6C_DD1D)),
            ("price", numbers(0x5851_F42D_4C95_7F2D)),
            ("ts", Arc::new(time)),
        ];
        if let Self::Text = self {
            let url = |row| {
                format!("https://www.nexmark.com/auction/{:020}/item.htm?query=1&channel_id={row}", row * 31 + seed)
            };
            let texts = |text: &dyn Fn(i64) -> String| -> ArrayRef {
                Arc::new(StringViewArray::from_iter_values((0..i64::from(rows)).map(text)))
            };
            columns.push(("channel", texts(&|row| format!("channel-{}", row % 1000))));
            columns.push(("url", texts(&url)));
        }
        Batch::inserts(RecordBatch::try_from_iter(columns).expect("columns of one length make a batch"))
    }
}

fn measure(arguments: &Arguments, columns: Columns, certificates: Option<&Path>) -> Result<Measured, Refusal> {
    let (security, certificates) = match certificates {
        None => (Security::Insecure, None),
        Some(folder) => {
            let authority = self_made(folder)?;
            (Security::Mutual(authority.identity(Role::Worker)?), Some(authority.folder_of(Role::Worker)))
        }
    };
    let exchange = Exchange::listen(anywhere(), security, settings(0, arguments.lanes, arguments.lz4))?;
    let inboxes: BTreeMap<TaskId, Arc<Inbox>> = tasks(arguments.channels).map(|task| (task, Inbox::new(1))).collect();
    let loss: Arc<Mutex<Option<Failure>>> = Arc::default();
    let (lost, cancelled) = (Arc::clone(&loss), inboxes.clone());
    exchange.open(
        GENERATION,
        inboxes.clone(),
        Arc::new(move |it| {
            *lost.lock() = Some(it.failure);
            cancelled.values().for_each(|inbox| inbox.tell(Control::Cancel));
        }),
    );
    let cpu_before = usage::cpu_seconds();
    let child = spawn(&Task {
        peer: exchange.address(),
        certificates,
        columns,
        bytes: arguments.megabytes * 1_000_000 / u64::from(arguments.channels),
        rows: arguments.rows,
        channels: arguments.channels,
        lanes: arguments.lanes,
        lz4: arguments.lz4,
    })?;
    let (began, counts) = receive(inboxes)?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu_here = usage::cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    if let Some(failure) = loss.lock().take() {
        return Err(failure.into());
    }
    let cpu_there = result(child)?;
    let traffic = exchange.traffic();
    Ok(Measured {
        bytes: counts.iter().map(|count| count.bytes).sum(),
        rows: counts.iter().map(|count| count.rows).sum(),
        sent_bytes: traffic.values().map(|traffic| traffic.bytes_in.get()).sum(),
        seconds,
        cpu_seconds: cpu_here.zip(cpu_there).map(|(here, there)| here + there),
    })
}

/// Receives everything. Answers when the first rows came, and what each channel brought.
fn receive(inboxes: BTreeMap<TaskId, Arc<Inbox>>) -> Result<(Instant, Vec<Count>), Refusal> {
    let threads: Vec<_> = inboxes.into_values().map(|inbox| thread::spawn(move || drain(&inbox))).collect();
    let counts = threads.into_iter().map(|thread| thread.join().expect("a receiving thread does not panic"));
    let counts = counts.collect::<Result<Vec<_>, Failure>>()?;
    let began = counts.iter().filter_map(|count| count.began).min().unwrap_or_else(Instant::now);
    Ok((began, counts))
}

fn drain(inbox: &Inbox) -> Result<Count, Failure> {
    let mut count = Count::default();
    loop {
        match inbox.receive()? {
            Received::Element(_, Element::Batch(batch)) => {
                count.began.get_or_insert_with(Instant::now);
                count.rows += batch.num_rows() as u64;
                count.bytes += batch.bytes() as u64;
            }
            Received::Element(_, Element::End) | Received::Control(_) => return Ok(count),
            Received::Element(..) | Received::Announced(..) | Received::Gathered(_) => {}
            Received::Nothing => drop(inbox.wait(None)),
        }
    }
}

fn spawn(task: &Task) -> Result<Child, Refusal> {
    let failed =
        |error: std::io::Error| Refusal::failed(format!("error: the sending process could not be run: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(["bench", COMMAND])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let text = serde_json::to_vec(task).map_err(|error| failed(error.into()))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&text).map_err(failed)?;
    }
    Ok(child)
}

/// The processor time that the sending process has used.
fn result(child: Child) -> Result<Option<f64>, Refusal> {
    let failed = |what: String| Refusal::failed(format!("error: the sending process {what}"));
    let output = child.wait_with_output().map_err(|error| failed(format!("was lost: {error}")))?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(format!("gave no result: {error}")))
}

/// What the sending process does.
pub(super) fn send() -> Result<Code, Refusal> {
    let task: Task = serde_json::from_reader(std::io::stdin())
        .map_err(|error| Refusal::user(format!("error: this command is for the benchmark's own use: {error}")))?;
    let security = match &task.certificates {
        None => Security::Insecure,
        Some(folder) => Security::Mutual(Identity::in_folder(folder)?),
    };
    let exchange = Exchange::listen(anywhere(), security, settings(1, task.lanes, task.lz4))?;
    exchange.open(GENERATION, BTreeMap::new(), Arc::new(|lost| eprintln!("error: {}", lost.failure.chain())));
    let senders = tasks(task.channels).map(|to| exchange.sender(GENERATION, task.peer, to, 0));
    let senders = senders.collect::<Result<Vec<_>, Failure>>()?;
    let threads = senders.into_iter().map(|sender| {
        let task = task.clone();
        thread::spawn(move || {
            // Cut in two, as a batch is that goes to two tasks.
            let whole: Vec<Batch> = (0..8).map(|seed| task.columns.rows(task.rows * 2, seed)).collect();
            let halves = whole.iter().flat_map(|batch| [0, 1].map(|half| (batch, half * task.rows as usize)));
            let mut left = task.bytes;
            for (batch, start) in halves.cycle() {
                let half = batch.slice(start, task.rows as usize);
                let bytes = half.bytes() as u64;
                sender.send(Element::Batch(half))?;
                left = left.saturating_sub(bytes);
                if left == 0 {
                    break;
                }
            }
            sender.send(Element::End)
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().expect("a sending thread does not panic")?;
    }
    exchange.close(GENERATION);
    drop(exchange);
    println!("{}", json!(usage::cpu_seconds()));
    Ok(Code::Done)
}

fn settings(worker: u32, lanes: NonZero<u32>, lz4: bool) -> Settings {
    let compression = if lz4 { Compression::Lz4 } else { Compression::None };
    Settings { lanes, compression, ..Settings::new("the benchmark", worker) }
}

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn tasks(channels: u32) -> impl Iterator<Item = TaskId> {
    (0..channels).map(|subtask| TaskId { chain: 0, subtask })
}

impl Measured {
    fn line(&self, connection: &str, columns: &str) -> Vec<String> {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        vec![
            connection.to_owned(),
            columns.to_owned(),
            format!("{:.2}", gigabytes(self.bytes) / self.seconds),
            format!("{:.1}", self.rows as f64 / self.seconds / 1e6),
            format!("{:.2}", gigabytes(self.bytes)),
            format!("{:.2}", gigabytes(self.sent_bytes)),
            self.cpu_seconds.map_or_else(|| "?".to_owned(), |seconds| format!("{seconds:.2}")),
        ]
    }

    fn object(&self, connection: &str, columns: &str) -> serde_json::Value {
        json!({
            "connection": connection,
            "rows_of": columns,
            "bytes": self.bytes,
            "rows": self.rows,
            "sent_bytes": self.sent_bytes,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        })
    }
}
