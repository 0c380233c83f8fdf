#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use proptest::prelude::*;

/// Gives its bytes in pieces of these sizes, over and over.
struct Pieces {
    bytes: Vec<u8>,
    sizes: Vec<usize>,
    reads: usize,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.reads % self.sizes.len()].min(out.len()).min(self.bytes.len());
        self.reads += 1;
        out[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes.drain(..size);
        Ok(size)
    }
}

const QUOTED: Framing =
    Framing::Quoted(Quoting { delimiter: b',', quote: b'"', escape: Some(b'\\'), comment: Some(b'#') });

/// The records of a text, read in pieces of `sizes`, each with its offset, the lines it takes, and a `!` for a fault.
fn records(text: &str, framing: Framing, max_record: usize, sizes: &[usize]) -> Vec<String> {
    let input = Pieces { bytes: text.as_bytes().to_vec(), sizes: sizes.to_vec(), reads: 0 };
    let mut reader = RecordReader::new(Box::new(input), 100, framing, max_record);
    reader.skip_byte_order_mark().unwrap();
    let mut out = Vec::new();
    loop {
        let offset = reader.offset();
        match reader.next_record().unwrap() {
            Some(record) => {
                let fault = if record.fault.is_some() { "!" } else { "" };
                let shown = String::from_utf8_lossy(record.bytes).into_owned();
                let shown = if shown.len() > 20 { format!("{} bytes", shown.len()) } else { shown };
                out.push(format!("{offset}+{} {shown}{fault}", record.lines));
            }
            None => {
                out.push(format!("{offset} end"));
                return out;
            }
        }
    }
}

#[test]
fn records_end_where_their_framing_says() {
    let long = "x".repeat(200_000);
    let table: [(&str, Framing, &[&str]); 11] = [
        ("", Framing::Lines, &["100 end"]),
        ("a\nbc\r\n\nd", Framing::Lines, &["100+1 a", "102+1 bc", "106+1 ", "107+1 d", "108 end"]),
        ("\u{feff}a\n", Framing::Lines, &["103+1 a", "105 end"]),
        ("a,\"b\nc\"\nd\n", QUOTED, &["100+2 a,\"b\nc\"", "108+1 d", "110 end"]),
        ("a\"b\nc\n", QUOTED, &["100+1 a\"b", "104+1 c", "106 end"]),
        ("\"a\"\"\n\"\nc\n", QUOTED, &["100+2 \"a\"\"\n\"", "107+1 c", "109 end"]),
        ("\"a\\\"\n\"\nc\n", QUOTED, &["100+2 \"a\\\"\n\"", "107+1 c", "109 end"]),
        ("# it's \"\nc\n", QUOTED, &["100+1 # it's \"", "109+1 c", "111 end"]),
        ("\"a\nb\nc", QUOTED, &["100+1 \"a!", "103+1 b", "105+1 c", "106 end"]),
        (&format!("a\n{long}\nb\n"), Framing::Lines, &["100+1 a", "102+1 4096 bytes!", "200103+1 b", "200105 end"]),
        (&format!("\"a\nb\n{long}"), QUOTED, &["100+1 \"a!", "103+1 b", "105+1 4096 bytes!", "200105 end"]),
    ];
    for (text, framing, expected) in table {
        for sizes in [&[1 << 20][..], &[1, 70_000], &[3, 5, 100_000]] {
            assert_eq!(records(text, framing, 1000, sizes), expected, "{:?} in pieces of {sizes:?}", text.get(..20));
        }
    }
}

proptest! {
    #[test]
    fn pieces_make_no_difference(text in "[a\",\\\\#\n\r]{0,60}", sizes in prop::collection::vec(1..7_usize, 1..5), quoted: bool) {
        let framing = if quoted { QUOTED } else { Framing::Lines };
        prop_assert_eq!(records(&text, framing, 1000, &sizes), records(&text, framing, 1000, &[1000]));
    }
}
