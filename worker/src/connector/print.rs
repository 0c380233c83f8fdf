//! The sink `print`: rows as lines on standard output, for eyes, scripts and tests.
//!
//! Lines become visible when nothing waits at the input and at barriers at the latest; after a crash those since the last
//! checkpoint are printed again.

use super::options::Options;
use super::{Prepared, Sink, SinkWriter, TableShape, WriterContext};
use crate::batch::Batch;
use crate::diagnostic::Diagnostic;
use crate::failure::{Failure, Result};
use crate::format::UnsupportedType;
use crate::format::encode_json::{JsonEncoder, Op};
use crate::format::encode_text::TextEncoder;
use arrow::datatypes::Schema;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use weir_protocol::CheckpointId;

/// So many bytes of lines are held back at most.
const HELD_BYTES: usize = 64 << 10;

/// Reads the options of a table.
pub(super) fn sink(options: &Options, shape: &TableShape) -> Result<Arc<dyn Sink>, Vec<Diagnostic>> {
    let print = Print {
        format: options.choice("format", &[("text", Format::Text), ("json", Format::Json)]).unwrap_or(Format::Text),
        identifier: options.text("print-identifier"),
        stream: if options.boolean("standard-error").unwrap_or(false) { Stream::Error } else { Stream::Output },
    };
    if print.format == Format::Json && print.identifier.is_some() {
        let message = "'print-identifier' does not go with 'format' = 'json'".to_owned();
        options.mistake_in("print-identifier", message, Some("leave one of the two out".to_owned()));
    }
    if let Err(error) = JsonEncoder::new(&shape.schema, Op::LeftOut) {
        options.mistake(Diagnostic::new(format!("table '{}': {error}", shape.name)));
    }
    options.finish()?;
    Ok(Arc::new(print))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Flink's notation.
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Error,
}

#[derive(Debug)]
struct Print {
    format: Format,
    identifier: Option<String>,
    stream: Stream,
}

impl Print {
    fn lines(&self, schema: &Schema, subtask: u32, parallelism: u32) -> Result<Lines, UnsupportedType> {
        Ok(match self.format {
            Format::Json => Lines::Json(JsonEncoder::new(schema, Op::Written)?),
            Format::Text => Lines::Text(TextEncoder::new(schema, self.prefix(subtask, parallelism))?),
        })
    }

    /// What tells the writers of several tasks and tables apart.
    fn prefix(&self, subtask: u32, parallelism: u32) -> String {
        let number = subtask + 1;
        match (&self.identifier, parallelism > 1) {
            (Some(identifier), true) => format!("{identifier}:{number}> "),
            (Some(identifier), false) => format!("{identifier}> "),
            (None, true) => format!("{number}> "),
            (None, false) => String::new(),
        }
    }
}

impl Sink for Print {
    fn takes_changelog(&self) -> bool {
        true
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>> {
        let lines = self.lines(&context.schema, context.subtask, context.parallelism);
        Ok(Box::new(Printer {
            lines: lines.map_err(|error| Failure::user("the sink 'print' cannot write its rows").because(error))?,
            held: Vec::new(),
            output: match self.stream {
                Stream::Output => Box::new(io::stdout()),
                Stream::Error => Box::new(io::stderr()),
            },
            stream: self.stream,
        }))
    }
}

enum Lines {
    Text(TextEncoder),
    Json(JsonEncoder),
}

/// Hands whole lines over to the stream in one piece, which locks it: lines of different writers never mix.
struct Printer {
    lines: Lines,
    held: Vec<u8>,
    output: Box<dyn Write + Send>,
    stream: Stream,
}

impl SinkWriter for Printer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        const ROWS: usize = 256;
        for offset in (0..batch.num_rows()).step_by(ROWS) {
            let part = batch.slice(offset, ROWS.min(batch.num_rows() - offset));
            let encoded = match &self.lines {
                Lines::Text(encoder) => encoder.encode(&part, &mut self.held),
                Lines::Json(encoder) => encoder.encode(&part, &mut self.held),
            };
            encoded.map_err(|error| Failure::bug("rows differ from the sink's columns").because(error))?;
            if self.held.len() >= HELD_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn on_idle(&mut self) -> Result<()> {
        self.flush()
    }

    fn prepare(&mut self, _: CheckpointId, _last: bool) -> Result<Prepared> {
        self.flush()?;
        Ok(Prepared::default())
    }
}

impl Printer {
    fn flush(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let written = self.output.write_all(&self.held).and_then(|()| self.output.flush());
        self.held.clear();
        let name = match self.stream {
            Stream::Output => "stdout",
            Stream::Error => "stderr",
        };
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => {
                Failure::user(format!("{name} was closed: nobody reads what the sink 'print' writes"))
            }
            _ => Failure::transient(format!("the sink 'print' cannot write to {name}")).because(error),
        })
    }
}

#[cfg(test)]
mod tests;
