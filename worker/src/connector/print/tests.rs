//! Tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use arrow::array::{Int64Array, RecordBatch};
use std::sync::Mutex;

/// What was written to the stream, or why it cannot be written to.
#[derive(Clone, Default)]
struct Stage {
    pieces: Arc<Mutex<Vec<String>>>,
    broken: Option<ErrorKind>,
}

impl Write for Stage {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(kind) = self.broken {
            return Err(kind.into());
        }
        self.pieces.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn batch(rows: usize) -> Batch {
    let numbers = Arc::new(Int64Array::from_iter_values(0..rows as i64)) as _;
    Batch::inserts(RecordBatch::try_from_iter([("n", numbers)]).unwrap())
}

fn printer(print: &Print, stage: &Stage) -> Printer {
    let lines = print.lines(&batch(0).schema(), 1, 2).unwrap();
    Printer { lines, held: Vec::new(), output: Box::new(stage.clone()), stream: print.stream }
}

const TEXT: Print = Print { format: Format::Text, identifier: None, stream: Stream::Output };

#[test]
fn lines_show_when_the_input_is_idle_and_at_barriers() {
    let stage = Stage::default();
    let mut printer = printer(&TEXT, &stage);
    printer.write(&batch(2)).unwrap();
    assert!(stage.pieces.lock().unwrap().is_empty());
    printer.on_idle().unwrap();
    printer.on_idle().unwrap();
    printer.write(&batch(1)).unwrap();
    printer.prepare(CheckpointId(1), true).unwrap();
    assert_eq!(*stage.pieces.lock().unwrap(), ["2> +I[0]\n2> +I[1]\n", "2> +I[0]\n"]);
}

#[test]
fn little_is_held_back_and_pieces_are_whole_lines() {
    let stage = Stage::default();
    let mut printer = printer(&TEXT, &stage);
    printer.write(&batch(50_000)).unwrap();
    let pieces = stage.pieces.lock().unwrap();
    assert!(pieces.len() > 5);
    assert!(
        pieces.iter().all(|piece| piece.ends_with('\n') && piece.starts_with("2> +I[") && piece.len() < 2 * HELD_BYTES)
    );
}

#[test]
fn a_closed_stream_is_for_the_user_to_mend() {
    let check = |kind: ErrorKind, expected: crate::failure::Kind, text: &str| {
        let mut printer = printer(&TEXT, &Stage { broken: Some(kind), ..Stage::default() });
        printer.write(&batch(1)).unwrap();
        let failure = printer.on_idle().unwrap_err();
        assert_eq!(failure.kind, expected);
        assert!(failure.chain().contains(text), "{}", failure.chain());
    };
    check(ErrorKind::BrokenPipe, crate::failure::Kind::User, "stdout was closed");
    check(ErrorKind::StorageFull, crate::failure::Kind::Transient, "cannot write to stdout");
}

#[test]
fn writers_are_told_apart_as_in_flink() {
    let check = |identifier: Option<&str>, parallelism: u32, expected: &str| {
        let print = Print { identifier: identifier.map(str::to_owned), ..TEXT };
        assert_eq!(print.prefix(1, parallelism), expected);
    };
    check(None, 1, "");
    check(None, 2, "2> ");
    check(Some("out"), 1, "out> ");
    check(Some("out"), 2, "out:2> ");
}

#[test]
fn mistakes_in_options_are_told_with_what_was_meant() {
    let schema = batch(0).schema();
    let shape =
        TableShape { name: "t".to_owned(), schema, metadata: vec![], partitioned_by: vec![], primary_key: vec![] };
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let mistakes = sink(&Options::of("t", pairs), &shape).err().unwrap_or_default();
        let told: Vec<String> = mistakes.iter().map(|mistake| mistake.render("").replace('\n', " / ")).collect();
        assert!(told.iter().any(|text| text.contains(expected)), "{expected:?} is not in {told:?}");
    };
    check(&[("format", "jsn")], "one of text, json expected / hint: did you mean 'json'?");
    check(&[("format", "json"), ("print-identifier", "x")], "does not go with 'format' = 'json'");
    check(&[("standard-eror", "true")], "did you mean 'standard-error'?");
}
