//! `checkpoint.unaligned.after`: so long a checkpoint waits for its barriers before they overtake, if it has to.

use super::place::*;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Rows of the input, each with a key of its own.
const ROWS: usize = 240_000;

/// Milliseconds that a checkpoint waits, as the manifest says.
const AFTER: u64 = 200;

/// A job that counts each number and shows it: so many in a second, and no more than somebody reads.
fn place(interval: &str, rate: u32) -> Place {
    let spec = format!("  checkpoint: {{interval: {interval}, unaligned: {{after: {AFTER}ms}}}}\n");
    let numbers = format!(
        "CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '{rate}',
            'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '{ROWS}');"
    );
    let shown = "CREATE TABLE shown (id BIGINT, n BIGINT) WITH ('connector' = 'print', 'format' = 'json');";
    let insert = "INSERT INTO shown SELECT id, count(*) FROM numbers GROUP BY id;";
    Place::new(&manifest(&spec, &[&numbers, shown, insert]), "")
}

fn weir(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).current_dir(place.0.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The job while it runs, and who reads what it shows.
struct Watched {
    running: Running,
    api: String,
    gate: Arc<Gate>,
    reader: JoinHandle<Vec<u8>>,
}

/// Whether there is somebody who reads.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, open: bool) {
        *self.open.lock().unwrap() = open;
        self.changed.notify_all();
    }

    /// All there is to read, whenever the gate is open.
    fn read(&self, mut from: ChildStdout) -> Vec<u8> {
        let (mut all, mut part) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            drop(self.changed.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
            match from.read(&mut part).unwrap() {
                0 => return all,
                read => all.extend(&part[..read]),
            }
        }
    }
}

impl Watched {
    fn start(place: &Place) -> Self {
        let mut child = weir(place, &["run", "job.yaml", "--http", "127.0.0.1:0"]).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let running = Running::new(child);
        let api = running.api();
        let gate = Arc::<Gate>::default();
        let of_reader = Arc::clone(&gate);
        Self { running, api, gate, reader: std::thread::spawn(move || of_reader.read(output)) }
    }

    fn checkpoints(&self) -> serde_json::Value {
        ask(&self.api, "GET", "/v1/checkpoints", "")
    }

    /// The newest checkpoints that are complete, the newest first: number, milliseconds, bytes in flight.
    fn completed(&self) -> Vec<(u64, u64, u64)> {
        let history = self.checkpoints()["history"].as_array().cloned().unwrap_or_default();
        let completed = history.iter().filter(|entry| entry["outcome"] == "completed");
        let number = |value: &serde_json::Value| value.as_u64();
        // Sizes come a moment later.
        let entry = |entry: &serde_json::Value| {
            let in_flight = number(&entry["sizes"]["inFlightBytes"])?;
            Some((number(&entry["checkpoint"]).unwrap(), number(&entry["durationMs"]).unwrap(), in_flight))
        };
        completed.filter_map(entry).collect()
    }

    /// Waits until a checkpoint has waited long enough, since nobody reads, and for its end once somebody does.
    fn overtake(&self) -> (u64, u64, u64) {
        self.gate.set(false);
        let mut waits = 0;
        self.running.until("a checkpoint that waits", || {
            let in_progress = &self.checkpoints()["inProgress"];
            waits = in_progress["checkpoint"].as_u64().unwrap_or(0);
            in_progress["sinceMs"].as_u64() > Some(AFTER)
        });
        self.gate.set(true);
        let mut ended = (0, 0, 0);
        self.running.until("its end", || {
            ended = self.completed().first().copied().unwrap_or(ended);
            ended.0 >= waits
        });
        self.gate.set(false);
        ended
    }
}

/// The newest link's checkpoint: bytes of rows in flight, and rows of state.
fn newest(place: &Place) -> (u64, usize) {
    let links = fs::read_dir(place.path(".weir/job/chain")).unwrap();
    let newest = links.map(|entry| entry.unwrap().path()).max().unwrap();
    let text = fs::read_to_string(newest).unwrap();
    let body: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let checkpoint = &body["checkpoint"];
    let operators = checkpoint["operators"].as_object().unwrap().values();
    let files = operators.filter_map(|operator| operator["files"].as_array()).flatten();
    let rows = files.map(|file| file["rows"].as_u64().unwrap() as usize).sum();
    (checkpoint["sizes"]["inFlightBytes"].as_u64().unwrap(), rows)
}

/// The numbers in lines of what the job shows; each was counted once. The last line may not be there as a whole.
fn numbers(lines: &[u8]) -> BTreeSet<u64> {
    let text = std::str::from_utf8(lines).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let number = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(row["op"] == "+I" && row["n"] == 1, "{line}");
        row["id"].as_u64().unwrap()
    };
    whole.lines().map(number).collect()
}

#[test]
fn a_checkpoint_that_waits_too_long_overtakes_and_is_restored_at_any_parallelism() {
    // Long enough that the sink waits for its reader when a checkpoint begins, and not within a checkpoint.
    let place = place("1s", 40_000);
    let watched = Watched::start(&place);
    let state = loop {
        let (_, took, in_flight) = watched.overtake();
        assert!(in_flight == 0 || took >= AFTER, "{in_flight} bytes in flight after {took} ms");
        // What is seen of a stopped process stays so until it is killed.
        watched.running.signal("STOP");
        match newest(&place) {
            (1.., state) => break state,
            (0, _) => watched.running.signal("CONT"),
        }
    };
    watched.running.signal("KILL");
    watched.gate.set(true);
    let before = numbers(&watched.reader.join().unwrap());
    std::thread::scope(|scope| {
        for parallelism in ["1", "2", "3"] {
            let (copy, before) = (self::place("1s", 1_000_000), &before);
            let from = place.path(".weir");
            assert!(Command::new("cp").arg("-r").args([&from, copy.0.path()]).status().unwrap().success());
            scope.spawn(move || {
                let output = weir(&copy, &["run", "job.yaml", "--parallelism", parallelism]).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let after = numbers(&output.stdout);
                // Which numbers the state had is not seen, but how many.
                assert_eq!(after.len() + state, ROWS, "parallelism {parallelism}");
                assert_eq!(after.union(before).count(), ROWS, "parallelism {parallelism}");
            });
        }
    });
}

#[test]
fn a_checkpoint_that_need_not_wait_overtakes_nothing() {
    let place = place("100ms", 40_000);
    let watched = Watched::start(&place);
    watched.gate.set(true);
    let mut seen = BTreeSet::new();
    watched.running.until("some checkpoints", || {
        seen.extend(watched.completed());
        seen.iter().filter(|(_, took, _)| *took < AFTER).count() >= 8
    });
    assert!(seen.iter().all(|(_, took, in_flight)| *in_flight == 0 || *took >= AFTER), "{seen:?}");
    watched.running.signal("KILL");
    watched.reader.join().unwrap();
}
