//! The API of a job that runs, over TLS: nothing is played.

use super::client::Client;
use crate::api::{View, serve_leader};
use crate::job::message::Handle;
use crate::job::runner::Runner;
use crate::job::tests::{runner, staying};
use crate::tls::Role;
use crate::tls::tests::{Jobs, jobs};
use serde_json::{Value, json};
use std::path::Path;
use std::thread::JoinHandle;
use weir_protocol::leader::{End, Resume};

struct Live {
    server: crate::api::Server,
    job: JoinHandle<End>,
    client: Client,
    handle: Handle,
    folder: tempfile::TempDir,
}

fn live(jobs: &Jobs) -> Live {
    live_as(jobs, |folder| runner(folder, u32::MAX, Resume::Head))
}

fn live_as(jobs: &Jobs, runner: impl FnOnce(&Path) -> Runner) -> Live {
    let folder = tempfile::tempdir().unwrap();
    let runner = runner(folder.path());
    let handle = runner.handle();
    let view = View { name: "test".into(), board: runner.board(), handle: runner.handle() };
    let server = serve_leader("127.0.0.1:0", jobs.secure(Role::Worker), view).unwrap();
    let client = Client::Of(jobs.secure(Role::Controller));
    Live { server, job: std::thread::spawn(move || runner.run()), client, handle, folder }
}

impl Live {
    fn get(&self, path: &str) -> Value {
        let (status, text) = self.client.ask(self.server.address(), "GET", path, "").unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Asks until the answer is good.
    fn until(&self, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        std::iter::repeat_with(|| self.get(path)).find(good).unwrap()
    }
}

#[test]
fn a_running_job_shows_itself_takes_savepoints_and_stops_by_request() {
    let jobs = jobs();
    let live = live(&jobs);
    let (address, client) = (live.server.address(), &live.client);
    let job = live.until("/v1/job", |job| job["state"] == "running" && job["totals"]["rowsOut"].as_u64() > Some(0));
    assert_eq!((&job["name"], &job["generation"]), (&json!("test"), &json!(1)));
    assert_eq!(job["tasks"].as_array().unwrap().len(), 2);
    // Details are kept of the newest ones: while a slow machine asks for them they may go.
    let mut details = std::iter::repeat_with(|| {
        let history = live.until("/v1/checkpoints", |list| list["completed"].as_u64() > Some(1));
        let number = history["retained"][0]["checkpoint"].as_u64().unwrap();
        client.ask(address, "GET", &format!("/v1/checkpoints/{number}"), "").unwrap()
    });
    let (_, details) = details.find(|(status, _)| *status == 200).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&details).unwrap()["tasks"].as_array().unwrap().len(), 2);

    let first = r#"{"name": "first", "requestUid": "u1"}"#;
    client.check(address, ("POST", "/v1/savepoints?wait=600", first), 200, &json!({"state": "completed"}));
    let link = live.get("/v1/savepoints/first")["link"].clone();
    client.check(address, ("POST", "/v1/savepoints?wait=600", first), 200, &json!({"link": link}));
    client.check(address, ("POST", "/v1/savepoints", r#"{"name": "first", "requestUid": "u2"}"#), 409, &json!({}));
    client.check(address, ("DELETE", "/v1/savepoints/first?wait=600", ""), 200, &json!({"state": "deleted"}));
    client.check(address, ("GET", "/v1/savepoints/first", ""), 404, &json!({}));

    let wide = r#"{"revision": 1, "parallelism": 17, "workers": 1, "code": "other"}"#;
    client.check(address, ("PUT", "/v1/assignment", wide), 422, &json!({}));
    let last = r#"{"name": "last", "then": "stop"}"#;
    let (status, text) = client.ask(address, "POST", "/v1/savepoints?wait=600", last).unwrap();
    let made: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &made["state"]), (200, &json!("completed")), "{made}");
    for field in ["checkpoint", "completedUnixMs", "sizes"] {
        assert!(!made[field].is_null(), "{field} is missing: {made}");
    }
    let end = live.job.join().unwrap();
    assert!(matches!(end, End::Stopped { .. }), "{end:?}");
    drop((live.server, live.folder));
}

#[test]
fn a_leader_that_stays_knows_the_savepoints_of_the_ended_job_and_changes_none() {
    let jobs = jobs();
    let live = live_as(&jobs, staying);
    let (address, client) = (live.server.address(), &live.client);
    let last = r#"{"name": "last", "then": "stop"}"#;
    client.check(address, ("POST", "/v1/savepoints?wait=600", last), 200, &json!({"state": "completed"}));
    live.until("/v1/job", |job| job["ending"] == "stopped");
    let kept = |hint: &str| json!({"error": "the job does not run", "hint": hint});
    for wait in ["", "?wait=600"] {
        let delete = format!("/v1/savepoints/last{wait}");
        client.check(address, ("DELETE", &delete, ""), 409, &kept("weir savepoint delete last deletes it"));
        client.check(address, ("GET", "/v1/savepoints/last", ""), 200, &json!({"state": "completed"}));
    }
    client.check(address, ("POST", "/v1/savepoints?wait=600", last), 200, &json!({"state": "completed"}));
    let more = r#"{"name": "more"}"#;
    client.check(
        address,
        ("POST", "/v1/savepoints?wait=600", more),
        409,
        &kept("weir savepoint create more takes one"),
    );
    assert_eq!(live.get("/v1/checkpoints")["retained"][0]["savepoints"], json!(["last"]));
    live.handle.stop();
    assert!(matches!(live.job.join().unwrap(), End::Stopped { .. }));
    drop((live.server, live.folder));
}

#[test]
fn a_running_job_hands_over_to_the_code_that_is_assigned() {
    let jobs = jobs();
    let live = live(&jobs);
    let (address, client) = (live.server.address(), &live.client);
    live.until("/v1/job", |job| job["state"] == "running");
    let unknown =
        r#"{"revision": 7, "parallelism": 3, "workers": 1, "code": "new", "restoreFrom": {"savepoint": "none"}}"#;
    let error = json!({"error": "there is no savepoint \"none\" of this job: there is none"});
    client.check(address, ("PUT", "/v1/assignment", unknown), 422, &error);
    assert_eq!(live.get("/v1/assignment")["assigned"], json!(0));

    let wanted = r#"{"revision": 7, "parallelism": 3, "workers": 1, "code": "new"}"#;
    client.check(address, ("PUT", "/v1/assignment", wanted), 202, &json!({"revision": 7, "state": "accepted"}));
    let end = live.job.join().unwrap();
    assert!(matches!(end, End::HandedOver { revision: 7 }), "{end:?}");
    client.check(address, ("PUT", "/v1/assignment", wanted), 503, &json!({"error": "the job has ended"}));
    drop((live.server, live.folder));
}
