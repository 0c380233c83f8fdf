//! The leader's API over TLS: who gets what.

use super::client::Client;
use super::{Fixture, View, ask, board, fill};
use crate::api::server::LIMITS;
use crate::api::{Limits, ProcessNumbers, Vitals, serve_failure, serve_leader, serve_leader_within, serve_vitals};
use crate::job::board::LastFailure;
use crate::job::message::{Handle, Message};
use crate::job::readiness::{Pulse, Readiness};
use crate::tls::tests::jobs;
use crate::tls::{Identity, Role, Security};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use weir_protocol::leader::{ErrorKind, Event};

pub(super) fn leader(security: Security, limits: Limits) -> Fixture {
    let (sender, messages) = mpsc::channel();
    let board = board();
    fill(&board);
    let view = View { name: "bids".into(), board: Arc::clone(&board), handle: Handle::new(sender) };
    Fixture { server: serve_leader_within(limits, "127.0.0.1:0", security, view).unwrap(), board, messages }
}

#[test]
fn workers_read_and_the_controller_writes() {
    let jobs = jobs();
    let fixture = leader(jobs.secure(Role::Worker), LIMITS);
    let address = fixture.server.address();
    let (worker, controller) = (Client::Of(jobs.secure(Role::Worker)), Client::Of(jobs.secure(Role::Controller)));
    for reader in [&worker, &controller] {
        for path in ["/", "/v1/job", "/v1/job/plan", "/v1/checkpoints", "/v1/savepoints"] {
            reader.check(address, ("GET", path, ""), 200, &json!({}));
        }
    }
    let forbidden = json!({"hint": "show a certificate for controller.weir"});
    let savepoint = r#"{"name": "mine"}"#;
    for (method, path, body) in
        [("POST", "/v1/savepoints", savepoint), ("DELETE", "/v1/savepoints/old", ""), ("PUT", "/v1/assignment", "{}")]
    {
        worker.check(address, (method, path, body), 403, &forbidden);
    }
    assert!(fixture.messages.try_recv().is_err(), "a worker's request reached the job");
    controller.check(address, ("POST", "/v1/savepoints", savepoint), 202, &json!({"state": "pending"}));
    let asked = fixture.messages.try_recv();
    assert!(matches!(asked, Ok(Message::Leader(Event::SavepointRequested { name, .. })) if name == "mine"));
}

#[test]
fn without_a_certificate_of_the_job_there_is_nothing() {
    let jobs = jobs();
    let fixture = leader(jobs.secure(Role::Worker), LIMITS);
    let intruder = Client::Of(jobs.intruder(Role::Controller));
    let table = [
        (intruder, "refused the certificate of this process"),
        (Client::Of(Security::Mutual(jobs.other.identity(Role::Controller).unwrap())), "was not made by this job's"),
        (Client::Nobody(Box::new(jobs.own)), "demands a certificate"),
        (Client::Of(Security::Insecure), "no answer but"),
    ];
    for (client, expected) in table {
        for path in ["/", "/v1/job", "/healthz", "/nowhere"] {
            let error = client.ask(fixture.server.address(), "GET", path, "").unwrap_err();
            assert!(error.contains(expected), "{path}: {error}, not {expected}");
        }
    }
}

#[test]
fn certificates_are_replaced_while_the_api_serves() {
    let jobs = jobs();
    let folder = jobs.own.folder_of(Role::Worker);
    let fixture = leader(Security::Mutual(Identity::watched(&folder).unwrap()), LIMITS);
    let address = fixture.server.address();
    let (old, new) = (Client::Of(jobs.secure(Role::Controller)), Client::Of(jobs.intruder(Role::Controller)));
    old.check(address, ("GET", "/v1/job", ""), 200, &json!({}));
    assert!(new.ask(address, "GET", "/v1/job", "").is_err());
    jobs.other.issue(Role::Worker, &folder).unwrap();
    new.check(address, ("GET", "/v1/job", ""), 200, &json!({}));
    assert!(old.ask(address, "GET", "/v1/job", "").is_err());
}

#[test]
fn health_and_the_job_have_ports_of_their_own() {
    let jobs = jobs();
    let fixture = leader(jobs.secure(Role::Worker), LIMITS);
    let controller = Client::Of(jobs.secure(Role::Controller));
    for path in ["/metrics", "/healthz", "/readyz"] {
        controller.check(fixture.server.address(), ("GET", path, ""), 404, &json!({}));
    }

    let readiness = Readiness::not_yet("it has not found its leader at 10.0.0.1:7000");
    let identity = jobs.own.identity(Role::Worker).unwrap();
    let worker = readiness.clone();
    let pulse = Pulse::default();
    let vitals = Vitals {
        alive: Box::new(move || pulse.state()),
        ready: Box::new(move || worker.state()),
        numbers: vec![Arc::new(ProcessNumbers), identity],
    };
    let server = serve_vitals("127.0.0.1:0", vitals).unwrap();
    let (address, anybody) = (server.address(), Client::Of(Security::Insecure));
    let not_ready = json!({"error": "the worker is not ready: it has not found its leader at 10.0.0.1:7000"});
    anybody.check(address, ("GET", "/readyz", ""), 503, &not_ready);
    readiness.begins();
    anybody.check(address, ("GET", "/readyz", ""), 200, &json!({"ready": true}));
    readiness.ends("it is about to leave");
    anybody.check(
        address,
        ("GET", "/readyz", ""),
        503,
        &json!({"error": "the worker is not ready: it is about to leave"}),
    );
    anybody.check(address, ("GET", "/healthz", ""), 200, &json!({"alive": true}));
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/job", 404),
        ("POST", "/v1/savepoints", 404),
        ("PUT", "/v1/assignment", 404),
        ("POST", "/metrics", 405),
    ] {
        anybody.check(address, (method, path, "{}"), status, &json!({}));
    }
    let (status, text) = anybody.ask(address, "GET", "/metrics", "").unwrap();
    assert_eq!(status, 200);
    for name in
        ["process_resident_memory_bytes ", "weir_certificate_expires_timestamp_seconds ", "weir_certificate_refused 0"]
    {
        assert!(text.lines().any(|line| line.starts_with(name)), "no {name} in\n{text}");
    }
}

#[test]
fn a_client_that_does_not_send_what_it_announced_is_answered_all_the_same() {
    let limits = Limits { body: Duration::ZERO, ..LIMITS };
    let fixture = leader(Security::Insecure, limits);
    let mut stream = TcpStream::connect(fixture.server.address()).unwrap();
    stream.write_all(b"POST /v1/savepoints HTTP/1.1\r\nHost: weir\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[test]
fn a_client_that_sends_no_head_loses_its_place_to_one_that_does() {
    // Who does send one has time enough for it on a slow machine.
    let limits = Limits { head: Duration::from_secs(2), connections: 1, ..LIMITS };
    let fixture = leader(Security::Insecure, limits);
    let silent = TcpStream::connect(fixture.server.address()).unwrap();
    let (status, _) = ask(fixture.server.address(), "GET", "/v1/job", "");
    assert_eq!(status, 200);
    drop(silent);
}

#[test]
fn who_finds_no_room_waits_for_it() {
    let fixture = leader(Security::Insecure, Limits { connections: 1, ..LIMITS });
    let connect = || TcpStream::connect(fixture.server.address()).unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: weir\r\n\r\n";
    let (mut first, mut second) = (connect(), connect());
    let mut answer = [0; 8];
    first.write_all(request).unwrap();
    first.read_exact(&mut answer).unwrap();
    second.write_all(request).unwrap();
    second.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(second.read_exact(&mut answer).is_err(), "there was room for two");
    drop(first);
    second.set_read_timeout(None).unwrap();
    second.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1");
}

#[test]
fn a_body_without_end_is_cut_off() {
    let fixture = leader(Security::Insecure, LIMITS);
    let body = format!(r#"{{"name": "{}"}}"#, "x".repeat(100_000));
    let (status, text) = ask(fixture.server.address(), "POST", "/v1/savepoints", &body);
    assert_eq!(status, 413, "{text}");
}

#[test]
fn a_leaders_address_is_checked_as_any() {
    let (sender, _messages) = mpsc::channel();
    let view = View { name: "bids".into(), board: board(), handle: Handle::new(sender) };
    assert!(serve_leader("nowhere", Security::Insecure, view).is_err());
}

#[test]
fn a_job_that_cannot_begin_says_why() {
    let jobs = jobs();
    let failure = LastFailure { kind: ErrorKind::User, message: "line 3: there is no table 'bid'".to_owned() };
    let server = serve_failure("127.0.0.1:0", jobs.secure(Role::Worker), "bids", &failure).unwrap();
    let controller = Client::Of(jobs.secure(Role::Controller));
    let why = json!({"kind": "user", "message": "line 3: there is no table 'bid'"});
    controller.check(server.address(), ("GET", "/v1/job", ""), 200, &json!({"name": "bids", "lastFailure": why}));
    let error = json!({"error": "the job cannot run: line 3: there is no table 'bid'"});
    controller.check(server.address(), ("GET", "/v1/checkpoints", ""), 503, &error);
    controller.check(server.address(), ("POST", "/v1/savepoints", "{}"), 503, &error);
}
