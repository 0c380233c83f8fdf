//! The receiving end of a connection: who calls, which channels its streams lead to, frames into inboxes, credits back.
//!
//! Reading never waits for a task: what comes has its credits, so the inbox has room.

use super::carry::{CREDIT, credit, leave, open};
use super::frame::{Header, Kind, MAX_OTHER_BODY};
use super::generations::Opened;
use super::hello::Hello;
use super::outlet::{WORTH_RETURNING, barrier_of_code, parse_address};
use super::rows::decode::{self, Decoder};
use super::rows::schema;
use super::traffic::Traffic;
use super::wire::{self, Broken};
use super::{FAREWELL, Shared, reach};
use crate::dataflow::element::Element;
use crate::dataflow::inbox::{Arrived, Inbox, Incoming};
use crate::failure::Failure;
use arrow::buffer::Buffer;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use weir_protocol::credit::Amount;
use weir_protocol::{CheckpointId, EventTime, Generation};

/// How long a caller may take to say who it is.
const LONGEST_HELLO: Duration = Duration::from_secs(10);

struct Inlet {
    opened: Arc<Opened>,
    worker: u32,
    address: SocketAddr,
    traffic: Arc<Traffic>,
    returns: Arc<Returns>,
}

struct Stream {
    inbox: Arc<Inbox>,
    channel: usize,
    decoder: Option<Arc<Decoder>>,
    ended: bool,
}

/// Credits that tasks have given back and that are not under way yet.
#[derive(Default)]
struct Returns {
    pending: Mutex<Pending>,
    due: Notify,
}

#[derive(Default)]
struct Pending {
    by_stream: BTreeMap<u32, Amount>,
    /// Streams whose sender has asked for all credits once. It has large rows, and gets everything whenever its channel
    /// is empty.
    asked: BTreeSet<u32>,
}

/// Serves a connection until its generation is closed or the caller is lost, which is told.
pub(super) async fn run(stream: TcpStream, address: SocketAddr, shared: &Shared) {
    let accepted = async {
        reach::watch(&stream, address, shared.settings.lost_after)?;
        shared.security.accept(stream).await
    };
    let stream = match accepted.await {
        Ok((stream, _)) => stream,
        Err(failure) => {
            tracing::warn!(%address, reason = failure.chain(), "a connection was refused");
            return;
        }
    };
    let (mut reader, mut writer) = open(stream);
    let (generation, hello) = match timeout(LONGEST_HELLO, hear_hello(&mut reader, &shared.settings.job)).await {
        Ok(Ok(heard)) => heard,
        Ok(Err(broken)) => return refuse(&mut writer, address, &format!("cannot serve it: {broken}")).await,
        Err(_) => return refuse(&mut writer, address, "has waited long enough for a hello").await,
    };
    let admitted = tokio::select! {
        admitted = shared.generations.admit(generation, shared.settings.patience) => admitted,
        () = hung_up(&mut reader) => return,
    };
    match admitted {
        Ok(opened) => {
            let (worker, traffic) = (hello.worker, shared.traffic.with(hello.worker));
            let inlet = Inlet { opened, worker, address, traffic, returns: Arc::default() };
            inlet.serve(reader, writer, shared).await;
        }
        Err(refusal) => refuse(&mut writer, address, &refusal.to_string()).await,
    }
}

async fn hear_hello(reader: &mut (impl AsyncRead + Unpin), job: &str) -> Result<(Generation, Hello), Broken> {
    let header = wire::read_header(reader).await?.ok_or(Broken::Gone)?;
    if header.kind != Kind::Hello {
        return Err(Broken::Unexpected(header.kind));
    }
    let body = wire::read_body(reader, &header).await?;
    Ok((header.generation, Hello::decode(&body, job)?))
}

/// Ends when the caller hangs up, or speaks before it was answered, which is as good.
async fn hung_up(reader: &mut (impl AsyncBufRead + Unpin)) {
    let _ = reader.fill_buf().await;
}

async fn refuse(writer: &mut (impl AsyncWrite + Unpin), address: SocketAddr, reason: &str) {
    tracing::warn!(%address, reason, "a connection was refused");
    let header = Header::over(Kind::Refusal, Generation(0), 0, reason.as_bytes());
    let farewell = async {
        wire::write(writer, header, reason.as_bytes()).await?;
        writer.shutdown().await.map_err(wire::broken)
    };
    // A caller that does not listen needs no reason.
    let _ = timeout(FAREWELL, farewell).await;
}

impl Inlet {
    async fn serve(&self, mut reader: impl AsyncRead + Unpin, mut writer: impl AsyncWrite + Unpin, shared: &Shared) {
        let served = self.opened.serve(self.address);
        let outcome = tokio::select! {
            outcome = self.listen(&mut reader) => outcome,
            outcome = self.answer(&mut writer, shared) => outcome,
            () = self.time_is_up() => Ok(()),
        };
        let named = format!("lost the worker {} at {}", self.worker, self.address);
        served.end(Some(self.worker), outcome.map_err(|broken| Failure::transient(named).because(broken)));
    }

    async fn time_is_up(&self) {
        self.opened.closed().await;
        sleep(FAREWELL).await;
    }

    /// Reads frames until the caller leaves.
    async fn listen(&self, reader: &mut (impl AsyncRead + Unpin)) -> Result<(), Broken> {
        let mut streams: Vec<Stream> = Vec::new();
        loop {
            let Some(header) = wire::read_header(reader).await? else {
                let done = !streams.is_empty() && streams.iter().all(|stream| stream.ended);
                return if done { Ok(()) } else { Err(Broken::Gone) };
            };
            let ours = self.opened.generation;
            if header.generation != ours {
                return Err(Broken::Generation { theirs: header.generation, ours });
            }
            let body = wire::read_body(reader, &header).await?;
            self.traffic.bytes_in.add(super::frame::HEADER as u64 + u64::from(header.length));
            match header.kind {
                Kind::Close => return Ok(()),
                Kind::Open => streams.push(self.attach(&header, &body, streams.len())?),
                _ => {
                    let open = streams.get_mut(header.stream as usize).filter(|stream| !stream.ended);
                    self.take_in(open.ok_or(Broken::Stream(header.stream))?, header, body)?;
                }
            }
        }
    }

    fn attach(&self, header: &Header, body: &Buffer, next: usize) -> Result<Stream, Broken> {
        let (task, channel) = parse_address(body).ok_or(Broken::Unexpected(Kind::Open))?;
        if header.stream as usize != next {
            return Err(Broken::Stream(header.stream));
        }
        let inbox = Arc::clone(self.opened.inbox(task).ok_or(Broken::Task(task))?);
        let (returns, stream) = (Arc::clone(&self.returns), header.stream);
        inbox.attach(channel, Arc::new(move |freed, left| returns.give_back(stream, freed, left)))?;
        Ok(Stream { inbox, channel, decoder: None, ended: false })
    }

    fn take_in(&self, stream: &mut Stream, header: Header, body: Buffer) -> Result<(), Broken> {
        let incoming = match header.kind {
            Kind::Columns => {
                stream.decoder = Some(Arc::new(Decoder::new(schema::decode(&body)?)));
                return Ok(());
            }
            Kind::Ask => {
                self.returns.ask(header.stream);
                return Ok(());
            }
            Kind::Rows | Kind::Changes => {
                let decoder = Arc::clone(stream.decoder.as_ref().ok_or(Broken::Unexpected(header.kind))?);
                self.traffic.batches_in.add(1);
                Incoming::Arrived(self.arrived(decoder, header, body))
            }
            _ => Incoming::Element(element(&header).ok_or(Broken::Unexpected(header.kind))?),
        };
        stream.ended = header.kind == Kind::End;
        stream.inbox.deliver(stream.channel, incoming)?;
        Ok(())
    }

    fn arrived(&self, decoder: Arc<Decoder>, header: Header, body: Buffer) -> Arrived {
        let born = born(header.value);
        let (worker, address) = (self.worker, self.address);
        let decode = move || {
            decoder.decode(&header, &body, born).map_err(|error| {
                Failure::transient(format!("rows from the worker {worker} at {address} cannot be read")).because(error)
            })
        };
        Arrived { size: decode::size(&header), decode: Arc::new(decode) }
    }

    /// Says hello, and gives credits back until the generation is closed.
    async fn answer(&self, writer: &mut (impl AsyncWrite + Unpin), shared: &Shared) -> Result<(), Broken> {
        let generation = self.opened.generation;
        let settings = &shared.settings;
        let hello = Hello { job: settings.job.clone(), worker: settings.worker, lane: 0 }.encode();
        wire::write(writer, Header::over(Kind::Hello, generation, 0, &hello), &hello).await?;
        while !self.opened.is_closed() {
            let credits = self.returns.take();
            if !credits.is_empty() {
                wire::write(writer, Header::over(Kind::Credit, generation, 0, &credits), &credits).await?;
                continue;
            }
            tokio::select! {
                () = self.returns.due.notified() => {}
                () = self.opened.closed() => {}
            }
        }
        leave(writer, Header::bare(Kind::Close, generation, 0)).await
    }
}

/// When rows were read, by their age in a frame.
fn born(age: u64) -> Option<Instant> {
    Instant::now().checked_sub(Duration::from_micros(age.checked_sub(1)?))
}

/// The element of a frame without rows.
fn element(header: &Header) -> Option<Element> {
    match header.kind {
        Kind::Watermark => {
            Some(Element::Watermark(EventTime(header.value.cast_signed()), born(u64::from(header.rows))))
        }
        Kind::Idle => Some(Element::Idle),
        Kind::End => Some(Element::End),
        Kind::Barrier => barrier_of_code(CheckpointId(header.value), header.rows).map(Element::Barrier),
        _ => None,
    }
}

impl Returns {
    /// Called by a task that has taken rows and left some.
    fn give_back(&self, stream: u32, freed: Amount, left: Amount) {
        let mut pending = self.pending.lock();
        let has_asked = pending.asked.contains(&stream);
        let amount = pending.by_stream.entry(stream).or_default();
        amount.rows = amount.rows.saturating_add(freed.rows);
        amount.bytes = amount.bytes.saturating_add(freed.bytes);
        let worth = amount.rows >= WORTH_RETURNING.rows || amount.bytes >= WORTH_RETURNING.bytes;
        drop(pending);
        if worth || (has_asked && left == Amount::default()) {
            self.due.notify_one();
        }
    }

    /// The sender of a stream waits for more room than it has when nothing is worth returning.
    fn ask(&self, stream: u32) {
        self.pending.lock().asked.insert(stream);
        self.due.notify_one();
    }

    /// What is pending, as the body of a frame.
    fn take(&self) -> Vec<u8> {
        let mut pending = self.pending.lock();
        let mut body = Vec::with_capacity(pending.by_stream.len() * CREDIT);
        while body.len() + CREDIT <= MAX_OTHER_BODY {
            let Some((stream, amount)) = pending.by_stream.pop_first() else { break };
            body.extend_from_slice(&credit(stream, amount));
        }
        body
    }
}
