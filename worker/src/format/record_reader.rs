//! Cuts a stream of bytes into records, in memory that is bounded by the longest record allowed.

use std::io::{self, BufRead, ErrorKind, Read};

/// How records are told from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A record ends at each line end.
    Lines,
    /// A record ends at a line end outside of quotes.
    Quoted(Quoting),
}

/// Where line ends are part of a value (RFC 4180): a field that begins with a quote ends with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoting {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields; twice inside of one it stands for itself.
    pub quote: u8,
    /// Makes the next byte stand for itself.
    pub escape: Option<u8>,
    /// Records that begin with this have no quotes.
    pub comment: Option<u8>,
}

/// Reads records one after the other.
pub struct RecordReader {
    input: Box<dyn Read + Send>,
    framing: Framing,
    max_record: usize,
    /// The bytes from `start` to `filled` are read and not handed out; those up to `scanned` hold no record's end.
    buffer: Vec<u8>,
    start: usize,
    scanned: usize,
    filled: usize,
    state: State,
    ended: bool,
    offset: u64,
}

/// A record without its line end.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its bytes; the first ones if it is at fault.
    pub bytes: &'a [u8],
    /// How many lines it takes.
    pub lines: u64,
    /// Why it cannot be read as a whole.
    pub fault: Option<Fault>,
}

/// Why a record cannot be read as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Longer than is allowed.
    #[error("the record is longer than {limit} bytes ('source.max-record-size')")]
    TooLong {
        /// The bytes allowed.
        limit: usize,
    },
    /// A quote is not closed; the record is given up at its first line end.
    #[error("a quote is not closed")]
    Unclosed,
}

/// Where in a record of [`Framing::Quoted`] the scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    RecordStart,
    FieldStart,
    Plain,
    Quoted,
    AfterQuote,
    Escaped { quoted: bool },
    Comment,
}

/// The first read's size, and what later ones grow to.
const FIRST_READ: usize = 64 << 10;
const READ: usize = 512 << 10;

/// How much of a record that is too long is kept to be shown.
const SHOWN: usize = 4 << 10;

impl RecordReader {
    /// Reads records of up to `max_record` bytes from `input`, whose first byte has this `offset`.
    #[must_use]
    pub fn new(input: Box<dyn Read + Send>, offset: u64, framing: Framing, max_record: usize) -> Self {
        Self {
            input,
            framing,
            max_record,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            filled: 0,
            state: State::RecordStart,
            ended: false,
            offset,
        }
    }

    /// The offset of the next record's first byte.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Steps over a byte order mark, if the input begins with one.
    pub fn skip_byte_order_mark(&mut self) -> io::Result<()> {
        while self.filled - self.start < 3 && !self.ended {
            self.fill()?;
        }
        if self.buffer[self.start..self.filled].starts_with(b"\xef\xbb\xbf") {
            self.advance(3);
        }
        Ok(())
    }

    /// The next record; `None` at the end of the input.
    pub fn next_record(&mut self) -> io::Result<Option<Record<'_>>> {
        loop {
            if let Some(end) = self.find_end() {
                return Ok(Some(self.hand_out(end, 1, None)));
            }
            if self.filled - self.start > self.max_record {
                return self.give_up().map(Some);
            }
            if self.ended {
                if self.start == self.filled {
                    return Ok(None);
                }
                if matches!(self.state, State::Quoted | State::Escaped { quoted: true })
                    && let Some(line) = self.first_line()
                {
                    return Ok(Some(self.hand_out(line, 1, Some(Fault::Unclosed))));
                }
                return Ok(Some(self.hand_out(self.filled, 0, None)));
            }
            self.fill()?;
        }
    }

    /// The place of the line end that ends the record at `start`.
    fn find_end(&mut self) -> Option<usize> {
        let unseen = &self.buffer[self.scanned..self.filled];
        let length = match self.framing {
            Framing::Lines => line_end(unseen),
            Framing::Quoted(quoting) => quoted_end(unseen, &mut self.state, quoting),
        };
        let end = length.map(|length| self.scanned + length);
        self.scanned = end.unwrap_or(self.filled);
        end
    }

    fn first_line(&self) -> Option<usize> {
        line_end(&self.buffer[self.start..self.filled]).map(|length| self.start + length)
    }

    /// The record from `start` to `end`, after which `line_end` bytes are stepped over.
    fn hand_out(&mut self, end: usize, line_end: usize, fault: Option<Fault>) -> Record<'_> {
        let start = self.start;
        self.advance(end + line_end - start);
        let bytes = &self.buffer[start..end];
        let inside = match self.framing {
            Framing::Lines => 0,
            Framing::Quoted(_) => bytes.iter().filter(|byte| **byte == b'\n').count(),
        };
        Record { bytes: bytes.strip_suffix(b"\r").unwrap_or(bytes), lines: inside as u64 + 1, fault }
    }

    /// Gives up a record that is too long: one whose quote is not closed at its first line end.
    fn give_up(&mut self) -> io::Result<Record<'_>> {
        if let Some(line) = self.first_line() {
            return Ok(self.hand_out(line, 1, Some(Fault::Unclosed)));
        }
        let mut shown = self.buffer[self.start..self.filled].to_vec();
        shown.truncate(SHOWN);
        loop {
            let found = line_end(&self.buffer[self.start..self.filled]);
            self.advance(found.map_or(self.filled - self.start, |length| length + 1));
            if found.is_some() || self.ended {
                break;
            }
            self.fill()?;
        }
        // The shown bytes take a place of the buffer that was handed out already.
        let length = shown.len();
        self.buffer.splice(..0, shown);
        (self.start, self.scanned, self.filled) = (self.start + length, self.scanned + length, self.filled + length);
        Ok(Record { bytes: &self.buffer[..length], lines: 1, fault: Some(Fault::TooLong { limit: self.max_record }) })
    }

    fn advance(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
        self.scanned = self.start;
        self.state = State::RecordStart;
    }

    /// Reads more, behind what is there already.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.filled, 0);
        (self.scanned, self.filled) = (self.scanned - self.start, self.filled - self.start);
        self.start = 0;
        let room = if self.buffer.is_empty() { FIRST_READ } else { READ };
        if self.buffer.len() < self.filled + room {
            self.buffer.resize(self.filled + room, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.ended = true,
                Ok(bytes) => self.filled += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let length = rest.skip_until(b'\n').expect("memory can be read");
    (length > 0 && bytes[length - 1] == b'\n').then(|| length - 1)
}

fn quoted_end(bytes: &[u8], state: &mut State, quoting: Quoting) -> Option<usize> {
    for (place, &byte) in bytes.iter().enumerate() {
        if byte == b'\n' && !matches!(state, State::Quoted | State::Escaped { .. }) {
            return Some(place);
        }
        *state = after(*state, byte, quoting);
    }
    None
}

fn after(state: State, byte: u8, quoting: Quoting) -> State {
    match state {
        State::Comment => State::Comment,
        State::RecordStart if Some(byte) == quoting.comment => State::Comment,
        State::RecordStart | State::FieldStart if byte == quoting.quote => State::Quoted,
        State::Escaped { quoted: true } => State::Quoted,
        State::Escaped { quoted: false } => State::Plain,
        State::Quoted if Some(byte) == quoting.escape => State::Escaped { quoted: true },
        State::Quoted if byte == quoting.quote => State::AfterQuote,
        State::Quoted => State::Quoted,
        State::AfterQuote if byte == quoting.quote => State::Quoted,
        _ if Some(byte) == quoting.escape => State::Escaped { quoted: false },
        _ if byte == quoting.delimiter => State::FieldStart,
        _ => State::Plain,
    }
}

#[cfg(test)]
mod tests;
