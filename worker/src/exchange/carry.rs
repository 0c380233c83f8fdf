//! The sending end of a connection, as the network sees it: dials, says hello, writes frames, hears of credits.

use super::frame::{Header, Kind};
use super::generations::Opened;
use super::hello::Hello;
use super::outlet::{Next, Outlet};
use super::traffic::Traffic;
use super::wire::{self, Broken, Outgoing};
use super::{DRAIN, FAREWELL, Shared, reach};
use crate::failure::Failure;
use crate::tls::Stream;
use arrow::buffer::Buffer;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, split};
use tokio::time::{sleep, timeout};
use weir_protocol::credit::Amount;

/// What a handshake may take beyond the patience of the other side.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Carries an outlet's frames until its generation is closed or the peer is lost, which is told.
pub(super) async fn run(outlet: &Outlet, shared: &Shared, opened: &Opened) {
    let served = opened.serve(outlet.peer);
    let outcome = tokio::select! {
        outcome = carry(outlet, shared) => outcome,
        () = time_is_up(outlet, opened) => Ok(()),
    };
    outlet.gone();
    served.end(outlet.worker.get().copied(), outcome);
}

/// A while after the generation's end.
async fn time_is_up(outlet: &Outlet, opened: &Opened) {
    opened.closed().await;
    sleep(if outlet.is_draining() { DRAIN } else { FAREWELL }).await;
}

async fn carry(outlet: &Outlet, shared: &Shared) -> Result<(), Failure> {
    let lost = |broken: Broken| {
        let name = outlet.worker.get().map_or(String::new(), |worker| format!(" {worker}"));
        Failure::transient(format!("lost the worker{name} at {}", outlet.peer)).because(broken)
    };
    let stream = reach::dial(outlet.peer, shared.settings.lost_after).await?;
    let stream = shared.security.connect_over(stream, outlet.peer).await?;
    let (mut reader, mut writer) = open(stream);
    let traffic = greet(outlet, shared, &mut reader, &mut writer).await.map_err(lost)?;
    let outcome = tokio::select! {
        outcome = hear(outlet, &mut reader) => outcome,
        outcome = speak(outlet, &mut writer, &traffic) => outcome,
    };
    traffic.credit_wait_ns.add(outlet.take_credit_wait_ns());
    outcome.map_err(lost)
}

/// The two directions of a connection. Small frames are read many at a time; what is larger than the buffer goes past
/// it.
pub(super) fn open(stream: Stream) -> (impl AsyncBufRead + Unpin, impl AsyncWrite + Unpin) {
    let (reader, writer) = split(stream);
    (BufReader::with_capacity(64 << 10, reader), writer)
}

async fn greet(
    outlet: &Outlet,
    shared: &Shared,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<Arc<Traffic>, Broken> {
    let settings = &shared.settings;
    let hello = Hello { job: settings.job.clone(), worker: settings.worker, lane: outlet.lane }.encode();
    wire::write(writer, Header::over(Kind::Hello, outlet.generation, 0, &hello), &hello).await?;
    let longest = settings.patience + HANDSHAKE;
    let answer = timeout(longest, wire::read(reader)).await.map_err(|_| Broken::Silent(longest))?;
    let (header, body) = answer?;
    match header.kind {
        Kind::Hello if header.generation == outlet.generation => {
            let hello = Hello::decode(&body, &settings.job)?;
            // Said once on a connection.
            let _ = outlet.worker.set(hello.worker);
            Ok(shared.traffic.with(hello.worker))
        }
        Kind::Refusal => Err(Broken::Refused(String::from_utf8_lossy(&body).into_owned())),
        other => Err(Broken::Unexpected(other)),
    }
}

/// Takes in credits until the other side leaves.
async fn hear(outlet: &Outlet, reader: &mut (impl AsyncRead + Unpin)) -> Result<(), Broken> {
    loop {
        let Some(header) = wire::read_header(reader).await? else {
            return if outlet.is_done() { Ok(()) } else { Err(Broken::Gone) };
        };
        if header.generation != outlet.generation {
            return Err(Broken::Generation { theirs: header.generation, ours: outlet.generation });
        }
        let body = wire::read_body(reader, &header).await?;
        match header.kind {
            Kind::Close => return Ok(()),
            Kind::Credit => take_in(outlet, &body)?,
            other => return Err(Broken::Unexpected(other)),
        }
    }
}

fn take_in(outlet: &Outlet, credits: &Buffer) -> Result<(), Broken> {
    let (credits, rest) = credits.as_chunks::<CREDIT>();
    if !rest.is_empty() {
        return Err(Broken::Unexpected(Kind::Credit));
    }
    credits.iter().map(parse_credit).try_for_each(|(stream, amount)| outlet.give_back(stream, amount))
}

/// Writes what tasks have put into the outlet until it is left.
async fn speak(outlet: &Outlet, writer: &mut (impl AsyncWrite + Unpin), traffic: &Traffic) -> Result<(), Broken> {
    let mut outgoing = Outgoing::default();
    loop {
        match outlet.next(&mut outgoing) {
            Next::Write => {
                traffic.bytes_out.add(outgoing.bytes() as u64);
                traffic.batches_out.add(outgoing.batches());
                traffic.credit_wait_ns.add(outlet.take_credit_wait_ns());
                outgoing.write(writer).await?;
            }
            Next::Wait => {
                writer.flush().await.map_err(wire::broken)?;
                outlet.work.notified().await;
            }
            Next::Leave => break,
        }
    }
    leave(writer, Header::bare(Kind::Close, outlet.generation, 0)).await
}

/// Says good-bye, and waits for the other side to hang up: hanging up on bytes that were not read could destroy what
/// was written last.
pub(super) async fn leave(writer: &mut (impl AsyncWrite + Unpin), close: Header) -> Result<(), Broken> {
    wire::write(writer, close, &[]).await?;
    writer.shutdown().await.map_err(wire::broken)?;
    pending().await
}

/// The size of one credit in the body of a `Credit` frame.
pub(super) const CREDIT: usize = 20;

/// One credit of a `Credit` frame.
pub(super) fn credit(stream: u32, amount: Amount) -> [u8; CREDIT] {
    let mut bytes = [0; CREDIT];
    bytes[..4].copy_from_slice(&stream.to_le_bytes());
    bytes[4..12].copy_from_slice(&amount.rows.to_le_bytes());
    bytes[12..].copy_from_slice(&amount.bytes.to_le_bytes());
    bytes
}

fn parse_credit(bytes: &[u8; CREDIT]) -> (u32, Amount) {
    let stream = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (stream, Amount { rows: number(4), bytes: number(12) })
}
