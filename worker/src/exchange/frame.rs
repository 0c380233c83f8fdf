//! Frames: what goes over a connection, a fixed header and what it says of the body behind it.
//!
//! ```text
//!  0  magic 0x57 0x58   version   kind
//!  4  stream            which channel of this connection
//!  8  generation
//! 16  value             event time, checkpoint or age of rows: by kind
//! 24  length            of the body, in bytes
//! 28  rows
//! 32  crc of the body   CRC-32C
//! 36  crc of the header CRC-32C of the 36 bytes before
//! ```
//!
//! All numbers are little-endian. The header's own checksum is looked at before its length is believed.
//!
//! The grammar of a connection, from the one who dialled: `Hello (Open | Columns | Rows | Changes | Watermark
//! | Idle | Barrier | End | Ask)* Close`, where `Open` gives the next stream number its channel, and `Columns` says what
//! rows of a stream look like from there on; from the one who was called: `(Hello Credit* Close) | Refusal`.

use weir_protocol::Generation;

/// The size of a header.
pub(super) const HEADER: usize = 40;

/// The longest body of rows. A sender cuts batches that are larger; a single row may be no larger than this.
pub(super) const MAX_ROWS_BODY: usize = 256 << 20;

/// The longest body of anything else.
pub(super) const MAX_OTHER_BODY: usize = 1 << 20;

const MAGIC: [u8; 2] = *b"WX";

/// The version of everything that goes over a connection.
const VERSION: u8 = 1;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Who speaks, for which job: the first frame of either side.
    Hello = 1,
    /// Why the caller gets nothing.
    Refusal = 2,
    /// A new stream, and the channel it leads to.
    Open = 3,
    /// Rows that are all inserts.
    Rows = 4,
    /// Rows, and their kinds behind them.
    Changes = 5,
    /// Event time has advanced.
    Watermark = 6,
    /// The stream is idle.
    Idle = 7,
    /// A barrier; `rows` says what follows it.
    Barrier = 8,
    /// The stream's end.
    End = 9,
    /// Credits for many streams.
    Credit = 10,
    /// The speaker leaves the generation, and nothing was lost.
    Close = 11,
    /// The columns of a stream's rows.
    Columns = 12,
    /// The stream has rows that need all of its credits.
    Ask = 13,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Hello,
        Self::Refusal,
        Self::Open,
        Self::Rows,
        Self::Changes,
        Self::Watermark,
        Self::Idle,
        Self::Barrier,
        Self::End,
        Self::Credit,
        Self::Close,
        Self::Columns,
        Self::Ask,
    ];

    fn max_body(self) -> usize {
        match self {
            Self::Rows | Self::Changes => MAX_ROWS_BODY,
            Self::Hello | Self::Refusal | Self::Open | Self::Columns | Self::Credit => MAX_OTHER_BODY,
            Self::Watermark | Self::Idle | Self::Barrier | Self::End | Self::Close | Self::Ask => 0,
        }
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) stream: u32,
    pub(super) generation: Generation,
    pub(super) value: u64,
    pub(super) length: u32,
    pub(super) rows: u32,
    pub(super) body_crc: u32,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("it does not speak Weir's protocol: does something else listen there?")]
    Magic,
    #[error("it speaks version {0} of the protocol and this process version {VERSION}: run the same build everywhere")]
    Version(u8),
    #[error("a frame's header was damaged on the way")]
    HeaderDamaged,
    #[error("a frame's body was damaged on the way")]
    BodyDamaged,
    #[error("there is no kind {0} of frames")]
    Kind(u8),
    #[error("a frame of {length} bytes is longer than the {max} that a {kind:?} may have")]
    TooLong { kind: Kind, length: u32, max: usize },
}

impl Header {
    /// A frame that is a header alone.
    pub(super) fn bare(kind: Kind, generation: Generation, stream: u32) -> Self {
        Self { kind, stream, generation, value: 0, length: 0, rows: 0, body_crc: crc(&[]) }
    }

    /// A frame with a body.
    pub(super) fn over(kind: Kind, generation: Generation, stream: u32, body: &[u8]) -> Self {
        let length = u32::try_from(body.len()).expect("a body is shorter than 4 GB");
        Self { length, body_crc: crc(body), ..Self::bare(kind, generation, stream) }
    }

    /// The bytes of a header.
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2..4].copy_from_slice(&[VERSION, self.kind as u8]);
        bytes[4..8].copy_from_slice(&self.stream.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.generation.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.value.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.rows.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_crc.to_le_bytes());
        let own = crc(&bytes[..36]);
        bytes[36..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// Reads a header. What it says of its length is within the limits of its kind.
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Result<Self, Error> {
        if bytes[..2] != MAGIC {
            return Err(Error::Magic);
        }
        if bytes[2] != VERSION {
            return Err(Error::Version(bytes[2]));
        }
        if crc(&bytes[..36]) != u32_at(bytes, 36) {
            return Err(Error::HeaderDamaged);
        }
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == bytes[3]).ok_or(Error::Kind(bytes[3]))?;
        let (length, max) = (u32_at(bytes, 24), kind.max_body());
        if length as usize > max {
            return Err(Error::TooLong { kind, length, max });
        }
        Ok(Self {
            kind,
            stream: u32_at(bytes, 4),
            generation: Generation(u64_at(bytes, 8)),
            value: u64_at(bytes, 16),
            length,
            rows: u32_at(bytes, 28),
            body_crc: u32_at(bytes, 32),
        })
    }

    /// Whether this is the body that the header announced.
    pub(super) fn check(&self, body: &[u8]) -> Result<(), Error> {
        if crc(body) == self.body_crc { Ok(()) } else { Err(Error::BodyDamaged) }
    }
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn crc(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of a body in parts.
pub(super) fn crc_of_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.for_each(|part| digest.update(part));
    digest.finalize() as u32
}
