//! The API over real HTTP on loopback, with a board that is filled by hand and a leader that is played by the test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod assignment;
mod client;
mod documented;
mod live;
mod secure;

use super::{JobNumbers, Server, TaskNumbers, View, metrics, serve};
use crate::dataflow::graph::Graph;
use crate::dataflow::metrics::{Ends, TaskMetrics};
use crate::failure::Kind;
use crate::job::board::Board;
use crate::job::message::{Handle, Message};
use crate::numbers::Numbers;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use weir_protocol::chain::{Pin, Sizes};
use weir_protocol::leader::{Course, ErrorKind, Event, FailureCause, Notice, Retained, State, Status};
use weir_protocol::snapshot::SnapshotCost;
use weir_protocol::{CheckpointId, EventTime, Generation, LinkNumber, Now, TaskId};

struct Fixture {
    server: Server,
    board: Arc<Board>,
    messages: mpsc::Receiver<Message>,
}

fn board() -> Arc<Board> {
    let folder = tempfile::tempdir().unwrap();
    let plan = Arc::new(crate::job::tests::plan(10, folder.path()));
    let graph = Arc::new(Graph::of(&plan));
    Arc::new(Board::new(plan, graph))
}

fn fixture() -> Fixture {
    let (sender, messages) = mpsc::channel();
    let board = board();
    let view = View { name: "bids".into(), board: Arc::clone(&board), handle: Handle::new(sender) };
    Fixture { server: serve("127.0.0.1:0", view, Vec::new()).unwrap(), board, messages }
}

fn status(state: State) -> Status {
    let retained = Retained {
        link: LinkNumber(4),
        checkpoint: CheckpointId(2),
        completed_unix_ms: 1000,
        sizes: Sizes { written_bytes: 1, total_bytes: 2, files: 3, in_flight_bytes: 1 },
        savepoints: vec!["old".into()],
    };
    Status {
        state,
        generation: Some(Generation(1)),
        course: Course::default(),
        last: None,
        in_progress: None,
        completed: 2,
        failed: BTreeMap::from([(FailureCause::Timeout, 1)]),
        restarts: 1,
        retained: vec![retained],
        unconfirmed: 0,
        savepoints: BTreeMap::from([("old".into(), Pin { uid: "first".into(), link: LinkNumber(4) })]),
        savepoints_pending: Vec::new(),
    }
}

/// A task of a generation that has counted `rows`.
fn task(rows: u64, late: u64) -> Arc<TaskMetrics> {
    let ends = Ends { source: true, sink: true };
    let task = TaskMetrics::new(TaskId { chain: 0, subtask: 0 }, "numbers -> files".into(), ends);
    task.rows_in.add(rows);
    task.rows_out.add(rows);
    task.rows_written.add(rows);
    task.busy_ns.add(rows * 500_000_000);
    task.late_rows.add(late);
    task.state_bytes.set(77);
    task.set_watermark(EventTime(5));
    task.latency.observe(Duration::from_micros(200), rows);
    task
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// True when every field of `part` is in `whole`, and every element of a list at its place.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        _ => whole == part,
    }
}

fn check(fixture: &Fixture, (method, path, body): (&str, &str, &str), expected: u16, part: &Value) {
    let (status, text) = ask(fixture.server.address(), method, path, body);
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text}"));
    assert_eq!(status, expected, "{method} {path} {body}: {text}");
    assert!(contains(&answer, part), "{method} {path} {body}: {text}");
    if expected >= 400 {
        assert!(
            !answer["error"].as_str().unwrap().is_empty() && !answer["hint"].as_str().unwrap().is_empty(),
            "{text}"
        );
    }
}

fn running() -> Fixture {
    let fixture = fixture();
    fill(&fixture.board);
    fixture
}

/// As a job has it that runs and has completed a checkpoint.
fn fill(board: &Board) {
    board.update(&status(State::Running), Now(0));
    board.deployed(Generation(1), [task(3, 1)]);
    let cost = SnapshotCost { align_us: 1, sync_us: 2, upload_us: 3, bytes: 4, in_flight_bytes: 1 };
    board.cost(Generation(1), CheckpointId(2), TaskId { chain: 0, subtask: 0 }, cost);
    board.notice(&Notice::CheckpointCompleted { checkpoint: CheckpointId(2), link: LinkNumber(4), duration_ms: 9 });
}

#[test]
fn every_path_answers_json() {
    let fixture = running();
    let task = json!({"id": "0.0", "running": true, "rowsIn": 3, "watermarkMs": 5, "stateBytes": 77, "lateRows": 1});
    let totals = json!({"rowsIn": 3, "rowsOut": 3, "lateRows": 1});
    let table = [
        ("GET", "/", "", 200, json!({"job": "bids"})),
        ("GET", "/healthz", "", 200, json!({"alive": true})),
        ("GET", "/readyz", "", 200, json!({"ready": true})),
        ("GET", "/v1/job", "", 200, json!({"name": "bids", "state": "running", "generation": 1, "restarts": 1})),
        ("GET", "/v1/job", "", 200, json!({"tasks": [task], "totals": totals, "lastFailure": null})),
        (
            "GET",
            "/v1/job/plan",
            "",
            200,
            json!({"nodes": [{"kind": "source", "connector": "datagen"}, {"operatorId": "files"}]}),
        ),
        ("GET", "/v1/job/plan", "", 200, json!({"chains": [{"tasks": 1}], "edges": []})),
        (
            "GET",
            "/v1/checkpoints",
            "",
            200,
            json!({"history": [{"checkpoint": 2, "outcome": "completed", "durationMs": 9}]}),
        ),
        ("GET", "/v1/checkpoints", "", 200, json!({"failed": {"timeout": 1}, "retained": [{"savepoints": ["old"]}]})),
        (
            "GET",
            "/v1/checkpoints/2",
            "",
            200,
            json!({"tasks": [{"id": "0.0", "alignUs": 1, "syncUs": 2, "uploadUs": 3, "bytes": 4}]}),
        ),
        ("GET", "/v1/checkpoints/9", "", 404, json!({})),
        ("GET", "/v1/checkpoints/x", "", 400, json!({})),
        (
            "GET",
            "/v1/savepoints",
            "",
            200,
            json!({"savepoints": [{"name": "old", "state": "completed", "checkpoint": 2}]}),
        ),
        ("GET", "/v1/savepoints/none", "", 404, json!({})),
        ("DELETE", "/v1/savepoints/none", "", 404, json!({})),
        ("POST", "/v1/savepoints", "{}", 422, json!({})),
        ("POST", "/v1/savepoints", "{", 400, json!({})),
        (
            "POST",
            "/v1/savepoints",
            r#"{"name": "Über"}"#,
            400,
            json!({"hint": "use 1 to 63 of a-z, 0-9 and -, with a letter or a digit first"}),
        ),
        ("POST", "/v1/savepoints", r#"{"name": "-a"}"#, 400, json!({})),
        ("POST", "/v1/savepoints?wait=601", r#"{"name": "a"}"#, 400, json!({})),
        ("POST", "/v1/savepoints?wait=x", r#"{"name": "a"}"#, 400, json!({})),
        ("POST", "/v1/savepoints", r#"{"name": "old"}"#, 409, json!({})),
        ("GET", "/v1/jobs", "", 404, json!({"hint": "did you mean /v1/job?"})),
        ("DELETE", "/v1/job", "", 405, json!({"hint": "it takes GET"})),
        ("PUT", "/v1/savepoints", "", 405, json!({"hint": "it takes GET and POST"})),
    ];
    for (method, path, body, status, part) in table {
        check(&fixture, (method, path, body), status, &part);
    }
    assert!(fixture.messages.try_recv().is_err(), "a refused request reached the job");
}

#[test]
fn a_job_is_not_ready_before_its_tasks_run_and_says_why() {
    let fixture = fixture();
    check(&fixture, ("GET", "/readyz", ""), 503, &json!({}));
    fixture.board.update(&status(State::Waiting), Now(0));
    let (generation, kind, message) = (Generation(1), ErrorKind::Transient, "the disk is full".to_owned());
    fixture.board.notice(&Notice::GenerationFailed { generation, task: None, kind, message, restart_in_ms: Some(5) });
    let error =
        "the job's tasks do not run: it waits for the restart after a failure; the last failure: the disk is full";
    check(&fixture, ("GET", "/readyz", ""), 503, &json!({"error": error}));
}

#[test]
fn a_savepoint_is_asked_once_waited_for_and_deleted() {
    let fixture = running();
    let body = r#"{"name": "new", "requestUid": "u", "then": "stop"}"#;
    check(&fixture, ("POST", "/v1/savepoints", body), 202, &json!({"name": "new", "state": "pending"}));
    check(&fixture, ("POST", "/v1/savepoints", body), 202, &json!({"state": "pending"}));
    check(&fixture, ("POST", "/v1/savepoints", r#"{"name": "new"}"#), 409, &json!({}));
    let asked = |message| matches!(message, Message::Leader(Event::SavepointRequested { name, uid, .. }) if name == "new" && uid == "u");
    assert!(fixture.messages.try_iter().all(asked));

    let address = fixture.server.address();
    let waiting = std::thread::spawn(move || {
        ask(address, "POST", "/v1/savepoints?wait=600", r#"{"name": "new", "requestUid": "u"}"#)
    });
    assert!(matches!(fixture.messages.recv(), Ok(Message::Leader(Event::SavepointRequested { .. }))));
    fixture.board.notice(&Notice::SavepointCompleted { name: "new".into(), uid: "u".into(), link: LinkNumber(4) });
    let (status, text) = waiting.join().unwrap();
    assert_eq!((status, text.contains("completed")), (200, true), "{text}");

    check(&fixture, ("DELETE", "/v1/savepoints/new", ""), 202, &json!({"state": "deleting"}));
    fixture.board.notice(&Notice::SavepointReleased { name: "new".into() });
    check(&fixture, ("GET", "/v1/savepoints/new", ""), 404, &json!({}));
}

#[test]
fn a_job_in_one_process_counts_what_it_found_in_memory() {
    let (status, text) = ask(running().server.address(), "GET", "/metrics", "");
    assert!(status == 200 && text.contains("\nweir_state_reused_bytes_total{from=\"left\"} 0\n"), "{text}");
}

#[test]
fn counters_go_on_when_a_generation_is_replaced_and_late_rows_are_not_added_up() {
    let board = board();
    let line = |wanted: &str| {
        let tasks = Arc::clone(&board);
        let parts: [Arc<dyn Numbers>; 2] =
            [Arc::new(TaskNumbers(move || tasks.readings())), Arc::new(JobNumbers(Arc::clone(&board)))];
        let text = metrics::text(&parts).unwrap();
        text.lines().filter(|line| line.starts_with(wanted)).map(str::to_owned).collect::<Vec<_>>()
    };
    let label = r#"{chain="0",name="numbers -> files",task="0"}"#;
    let rows = |count: u64| vec![format!("weir_task_rows_in_total{label} {count}")];
    board.deployed(Generation(1), [task(3, 2)]);
    assert_eq!(line("weir_task_rows_in_total"), rows(3));
    board.cancelled();
    assert_eq!(line("weir_task_rows_in_total"), rows(3));
    assert_eq!(line("weir_task_state_bytes"), Vec::<String>::new());
    board.deployed(Generation(2), [task(4, 1)]);
    assert_eq!(line("weir_task_rows_in_total"), rows(7));
    assert_eq!(line("weir_task_busy_seconds_total"), vec![format!("weir_task_busy_seconds_total{label} 3.5")]);
    assert_eq!(
        line("weir_task_late_rows_total"),
        vec![r#"weir_task_late_rows_total{chain="0",name="numbers -> files"} 2"#]
    );
    assert_eq!(line("weir_sink_latency_seconds_count"), vec![format!("weir_sink_latency_seconds_count{label} 7")]);
    assert_eq!(line("weir_generation"), vec!["weir_generation 2"]);
}

#[test]
fn an_address_that_cannot_be_had_is_the_users_to_change() {
    let fixture = fixture();
    let taken = fixture.server.address().to_string();
    for address in [taken.as_str(), "8081", "127.0.0.1:http"] {
        let view = View { name: "bids".into(), board: board(), handle: Handle::new(mpsc::channel().0) };
        let failure = serve(address, view, Vec::new()).err().unwrap();
        assert_eq!(failure.kind, Kind::User, "{address}");
        assert!(failure.to_string().contains("hint: "), "{failure}");
    }
}

#[test]
fn a_dropped_server_answers_those_who_wait_and_frees_its_address() {
    let Fixture { server, messages, .. } = running();
    let address = server.address();
    let waiting = std::thread::spawn(move || ask(address, "POST", "/v1/savepoints?wait=600", r#"{"name": "new"}"#));
    messages.recv().unwrap();
    drop(server);
    assert_eq!(waiting.join().unwrap().0, 202);
    assert!(TcpStream::connect(address).is_err());
}
