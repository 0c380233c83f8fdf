//! What becomes of what the controller wants, with a leader that is played.

use super::secure::leader;
use super::{Fixture, ask, check, contains, status};
use crate::api::server::LIMITS;
use crate::job::message::Message;
use crate::tls::Security;
use serde_json::{Value, json};
use weir_protocol::Now;
use weir_protocol::chain::{Assignment, RestoreFrom, Terms};
use weir_protocol::leader::{AssignmentAnswer, Course, Event, Notice, State, Switching};

const WANTED: &str = r#"{"revision": 3, "parallelism": 8, "workers": 4, "code": "3f9a"}"#;

fn assignment(restore_from: Option<RestoreFrom>) -> Assignment {
    let code = "3f9a".to_owned();
    Assignment { revision: 3, parallelism: 8, workers: 4, code, force: false, rollback: None, restore_from }
}

/// Puts `body` to a leader that answers as told; what it was asked.
fn put(fixture: &Fixture, body: &str, answer: AssignmentAnswer, expected: u16, part: &Value) -> Assignment {
    let (address, sent) = (fixture.server.address(), body.to_owned());
    let asking = std::thread::spawn(move || ask(address, "PUT", "/v1/assignment", &sent));
    let Ok(Message::Leader(Event::AssignmentRequested { request, assignment })) = fixture.messages.recv() else {
        panic!("something else was asked");
    };
    fixture.board.notice(&Notice::AssignmentAnswered { request, revision: assignment.revision, answer });
    let (status, text) = asking.join().unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    assert!(status == expected && contains(&found, part), "{body}: {status} {text}");
    *assignment
}

#[test]
fn an_assignment_is_handed_to_the_leader_as_it_was_sent() {
    let fixture = leader(Security::Insecure, LIMITS);
    let accepted = json!({"revision": 3, "state": "accepted"});
    let asked = put(&fixture, WANTED, AssignmentAnswer::Accepted, 202, &accepted);
    assert_eq!(asked, assignment(None));
    let with = |more: &str| WANTED.replace('}', &format!(", {more}}}"));
    let table = [
        (with(r#""restoreFrom": "nothing""#), assignment(Some(RestoreFrom::Nothing))),
        (with(r#""restoreFrom": {"savepoint": "a"}"#), assignment(Some(RestoreFrom::Savepoint("a".into())))),
        (with(r#""force": true, "restoreFrom": null"#), Assignment { force: true, ..assignment(None) }),
        (with(r#""rollback": "77""#), Assignment { rollback: Some("77".into()), ..assignment(None) }),
    ];
    for (body, expected) in table {
        assert_eq!(put(&fixture, &body, AssignmentAnswer::Accepted, 202, &accepted), expected, "{body}");
    }
}

#[test]
fn an_assignment_that_says_nothing_that_could_be_done_does_not_reach_the_job() {
    let fixture = leader(Security::Insecure, LIMITS);
    let with = |field: &str, value: &str| {
        let mut body: Value = serde_json::from_str(WANTED).unwrap();
        body[field] = serde_json::from_str(value).unwrap();
        body.to_string()
    };
    let table = [
        ("{".to_owned(), 400, json!({})),
        ("[]".to_owned(), 422, json!({"error": "an assignment is an object, not a list"})),
        ("{}".to_owned(), 422, json!({"error": "revision is missing"})),
        (
            with("paralellism", "2"),
            422,
            json!({"error": "there is no field 'paralellism'", "hint": "did you mean parallelism?"}),
        ),
        (with("image", "2"), 422, json!({"error": "there is no field 'image'"})),
        (with("revision", "0"), 422, json!({"error": "revision is a whole number from 1 on, not 0"})),
        (with("revision", "-1"), 422, json!({})),
        (with("revision", "1.5"), 422, json!({})),
        (
            with("parallelism", "\"4\""),
            422,
            json!({"error": "parallelism is a whole number from 1 on, not the text \"4\""}),
        ),
        (with("parallelism", "0"), 422, json!({})),
        (with("parallelism", "5000000000"), 422, json!({})),
        (with("workers", "null"), 422, json!({"error": "workers is a whole number from 1 on, not null"})),
        (with("workers", "0"), 422, json!({})),
        (with("code", "7"), 422, json!({"error": "code is text, not 7"})),
        (with("code", "\"\""), 422, json!({"error": "code has 0 bytes: use 1 to 200"})),
        (with("code", "null"), 422, json!({"error": "code is missing"})),
        (with("force", "\"yes\""), 422, json!({"error": "force is true or false, not the text \"yes\""})),
        (
            with("restoreFrom", "\"all\""),
            422,
            json!({"hint": "use \"nothing\", {\"savepoint\": \"NAME\"}, {\"path\": \"PATH\"} or {\"job\": \"NAME\"}"}),
        ),
        (with("restoreFrom", r#"{"path": "/x"}"#), 422, json!({})),
        (with("restoreFrom", r#"{"savepoint": "A"}"#), 422, json!({"error": "\"A\" is no name for a savepoint"})),
    ];
    for (body, expected, part) in table {
        check(&fixture, ("PUT", "/v1/assignment", &body), expected, &part);
    }
    check(&fixture, ("POST", "/v1/assignment", WANTED), 405, &json!({"hint": "it takes GET and PUT"}));
    assert!(fixture.messages.try_recv().is_err(), "a refused assignment reached the job");
}

#[test]
fn every_answer_of_the_leader_has_a_status() {
    use AssignmentAnswer as A;
    let fixture = leader(Security::Insecure, LIMITS);
    let message = || "so it is".to_owned();
    let table = [
        (A::Stale { highest: 9 }, 409, json!({"error": "revision 3 is stale: 9 is known"})),
        (A::Conflict, 409, json!({"error": "revision 3 is assigned already, with another content"})),
        (
            A::TooLargeParallelism { max_parallelism: 4 },
            422,
            json!({"error": "parallelism is above the job's maxParallelism, which is 4"}),
        ),
        (A::UnknownRestorePoint { message: message() }, 422, json!({"error": "so it is"})),
        (A::Invalid { message: message() }, 422, json!({"error": "so it is"})),
        (A::Busy, 429, json!({})),
        (A::NotStored { message: message() }, 503, json!({"error": "the assignment could not be stored: so it is"})),
    ];
    for (answer, expected, part) in table {
        put(&fixture, WANTED, answer, expected, &part);
    }
}

#[test]
fn who_asks_sees_how_far_an_assignment_is() {
    let fixture = leader(Security::Insecure, LIMITS);
    let terms = Terms { revision: 2, assigned: 3, code: "old".into(), workers: 2 };
    let course = Course { terms, parallelism: 4, assigned: 3, switching: Some(Switching::Preparing(3)) };
    let show = |course: &Course, part: &Value| {
        fixture
            .board
            .update(&weir_protocol::leader::Status { course: course.clone(), ..status(State::Running) }, Now(1));
        check(&fixture, ("GET", "/v1/assignment", ""), 200, part);
    };
    let part = json!({
        "revision": 2, "parallelism": 4, "workers": 2, "code": "old", "assigned": 3,
        "change": {"revision": 3, "step": "preparing"}, "failed": null,
    });
    show(&course, &part);
    fixture.board.notice(&Notice::AssignmentFailed { revision: 3, message: "no workers".into() });
    show(
        &Course { switching: None, ..course.clone() },
        &json!({"change": null, "failed": {"revision": 3, "message": "no workers"}}),
    );
    put(&fixture, WANTED, AssignmentAnswer::Accepted, 202, &json!({}));
    show(&course, &json!({"failed": null}));
}

#[test]
fn a_savepoint_on_its_way_is_given_up() {
    let fixture = leader(Security::Insecure, LIMITS);
    let savepoint = |name: &str| format!(r#"{{"name": "{name}", "requestUid": "u"}}"#);
    check(&fixture, ("POST", "/v1/savepoints", &savepoint("new")), 202, &json!({"state": "pending"}));
    check(&fixture, ("DELETE", "/v1/savepoints/new", ""), 202, &json!({"state": "withdrawing"}));
    let asked: Vec<Message> = fixture.messages.try_iter().collect();
    assert!(
        matches!(&asked[..], [_, Message::Leader(Event::SavepointWithdrawn { name, uid })] if name == "new" && uid == "u")
    );
    fixture.board.notice(&Notice::SavepointWithdrawn { name: "new".into(), uid: "u".into() });
    check(&fixture, ("GET", "/v1/savepoints/new", ""), 404, &json!({}));
}
