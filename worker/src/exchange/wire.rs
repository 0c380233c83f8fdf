//! Reading and writing frames, for both ends of a connection.

use super::frame::{self, HEADER, Header, Kind};
use super::hello;
use super::rows::schema;
use crate::dataflow::inbox::Refused;
use arrow::buffer::Buffer;
use bytes::BufMut;
use std::io::{Error as IoError, ErrorKind, IoSlice};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weir_protocol::credit::Overpaid;
use weir_protocol::{Generation, TaskId};

/// Why a connection cannot go on; reads on from "lost the worker …:".
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the connection broke")]
    Connection(#[source] IoError),
    #[error("its machine does not answer: can the two machines reach each other?")]
    Unreachable(#[source] IoError),
    #[error("it closed the connection: has its process ended?")]
    Gone,
    #[error("it said nothing for {} seconds", .0.as_secs())]
    Silent(Duration),
    #[error("it refused this worker's connection: it {0}")]
    Refused(String),
    #[error(transparent)]
    Frame(#[from] frame::Error),
    #[error(transparent)]
    Hello(#[from] hello::Error),
    #[error(transparent)]
    Columns(#[from] schema::Error),
    #[error("it sent a frame of generation {theirs} on a connection of generation {ours}")]
    Generation { theirs: Generation, ours: Generation },
    #[error("it sent a {0:?} where none may be")]
    Unexpected(Kind),
    #[error("it sent on stream {0}, which is not open")]
    Stream(u32),
    #[error("it sends to task {0}, which does not run here")]
    Task(TaskId),
    #[error(transparent)]
    Inbox(#[from] Refused),
    #[error(transparent)]
    Credits(#[from] Overpaid),
}

/// Where bodies begin in memory: what Arrow likes best.
const ALIGNMENT: usize = 64;

/// Reads a header. `None` when the stream ended before it began.
pub(super) async fn read_header(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Header>, Broken> {
    let mut bytes = [0; HEADER];
    let first = reader.read(&mut bytes).await.map_err(broken)?;
    if first == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut bytes[first..]).await.map_err(broken)?;
    Ok(Some(Header::decode(&bytes)?))
}

/// Reads the body that a header announces, into memory that begins at a multiple of 64, and checks it.
pub(super) async fn read_body(reader: &mut (impl AsyncRead + Unpin), header: &Header) -> Result<Buffer, Broken> {
    let length = header.length as usize;
    if length == 0 {
        header.check(&[])?;
        return Ok(Buffer::from(&[]));
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(length + ALIGNMENT);
    let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    bytes.resize(start, 0);
    let end = start + length;
    while bytes.len() < end {
        let missing = end - bytes.len();
        if reader.read_buf(&mut (&mut bytes).limit(missing)).await.map_err(broken)? == 0 {
            return Err(Broken::Gone);
        }
    }
    header.check(&bytes[start..])?;
    Ok(Buffer::from_vec(bytes).slice_with_length(start, length))
}

/// Reads a frame that must come.
pub(super) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Result<(Header, Buffer), Broken> {
    let header = read_header(reader).await?.ok_or(Broken::Gone)?;
    let body = read_body(reader, &header).await?;
    Ok((header, body))
}

/// Writes a frame whose body is short, and lets it go.
pub(super) async fn write(writer: &mut (impl AsyncWrite + Unpin), header: Header, body: &[u8]) -> Result<(), Broken> {
    let mut outgoing = Outgoing::default();
    outgoing.push(header, vec![Buffer::from(body)]);
    outgoing.write(writer).await?;
    writer.flush().await.map_err(broken)
}

/// Frames that are written together.
#[derive(Default)]
pub(super) struct Outgoing {
    frames: Vec<([u8; HEADER], Vec<Buffer>)>,
    bytes: usize,
    batches: u64,
}

impl Outgoing {
    pub(super) fn push(&mut self, header: Header, body: Vec<Buffer>) {
        self.bytes += HEADER + header.length as usize;
        self.batches += u64::from(matches!(header.kind, Kind::Rows | Kind::Changes));
        self.frames.push((header.encode(), body));
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Writes all and forgets it. The memory of rows goes to the socket as it is.
    pub(super) async fn write(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<(), Broken> {
        let parts = self.frames.iter().flat_map(|(header, body)| {
            [header.as_slice()].into_iter().chain(body.iter().map(Buffer::as_slice)).filter(|part| !part.is_empty())
        });
        let mut slices: Vec<IoSlice<'_>> = parts.map(IoSlice::new).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = writer.write_vectored(rest).await.map_err(broken)?;
            if written == 0 {
                return Err(Broken::Connection(ErrorKind::WriteZero.into()));
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        self.frames.clear();
        (self.bytes, self.batches) = (0, 0);
        Ok(())
    }
}

/// What the failure of a read or a write means.
pub(super) fn broken(error: IoError) -> Broken {
    match error.kind() {
        ErrorKind::UnexpectedEof => Broken::Gone,
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Broken::Unreachable(error),
        _ => Broken::Connection(error),
    }
}
