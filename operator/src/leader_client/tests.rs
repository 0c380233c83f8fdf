//! Against a server on loopback that asks for certificates as a leader does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::*;
use crate::certificates::{Plan, Stored, Terms, plan};
use crate::model::{Assign, RestorePoint};

fn certificates() -> Plan {
    plan(Timestamp::now(), &Terms::default(), &Stored::default()).unwrap()
}

/// Answers one request with these bytes; what it was asked, or why it did not hear it.
fn leader(credentials: Credentials, answer: &'static str) -> (SocketAddr, JoinHandle<Result<String, String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let (stream, _) = listener.accept().map_err(|error| error.to_string())?;
        let connection = ServerConnection::new(Arc::new(server(&credentials))).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let mut request = Vec::new();
        while !complete(&request) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the connection ended".to_owned());
            }
            request.extend_from_slice(&bytes[..count]);
        }
        stream.write_all(answer.as_bytes()).map_err(|error| error.to_string())?;
        stream.flush().map_err(|error| error.to_string())?;
        Ok(String::from_utf8(request).unwrap())
    };
    (address, std::thread::spawn(serve))
}

/// Whether the head, and the body that it announces, are there.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0_usize)
}

fn server(credentials: &Credentials) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(credentials.authorities.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(credentials.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    config.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap()
}

fn http(status: &str, body: &str) -> &'static str {
    let text =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    Box::leak(text.into_boxed_str())
}

#[tokio::test]
async fn an_assignment_arrives_as_the_controllers() {
    let plan = certificates();
    let (address, asked) =
        leader(plan.worker.unwrap(), http("202 Accepted", r#"{"revision": 3, "state": "accepted"}"#));
    let peer = Peer { address, credentials: Arc::new(plan.identity) };
    let assign = Assign {
        revision: 3,
        parallelism: 8,
        workers: 4,
        code: "3f9a".to_owned(),
        force: false,
        rollback: None,
        restore: Some(RestorePoint::Savepoint("before".to_owned())),
    };
    Leader::new(&Https::new(), &peer).ask(&LeaderRequest::Assign(assign)).await.unwrap();
    let request = asked.join().unwrap().unwrap();
    assert!(request.starts_with("PUT /v1/assignment HTTP/1.1\r\n"), "{request}");
    let body: Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let expected =
        json!({"revision": 3, "parallelism": 8, "workers": 4, "code": "3f9a", "restoreFrom": {"savepoint": "before"}});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_refusal_is_passed_on_with_its_hint() {
    let plan = certificates();
    let body = r#"{"error": "revision 3 is stale: 5 is known", "hint": "choose a higher revision"}"#;
    let (address, asked) = leader(plan.worker.unwrap(), http("409 Conflict", body));
    let peer = Peer { address, credentials: Arc::new(plan.identity) };
    let error = Leader::new(&Https::new(), &peer).assignment().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the leader refused with 409: revision 3 is stale: 5 is known; choose a higher revision"
    );
    asked.join().unwrap().unwrap();
}

#[tokio::test]
async fn somebody_else_at_the_leaders_address_hears_nothing() {
    let (address, heard) = leader(certificates().worker.unwrap(), http("200 OK", "{}"));
    let peer = Peer { address, credentials: Arc::new(certificates().identity) };
    let error = Leader::new(&Https::new(), &peer).job().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(heard.join().unwrap().is_err());
}

#[tokio::test]
async fn a_leader_that_is_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), credentials: Arc::new(certificates().identity) };
    let request =
        Request { method: http::Method::GET, path: "/v1/job".to_owned(), body: None, limit: Duration::from_millis(50) };
    let error = Https::new().send(&peer, request).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

#[test]
fn reports_are_read_as_they_are_documented() {
    let page = include_str!("../../../docs/http.md");
    let block = |heading: &str| {
        let section = &page[page.find(heading).unwrap()..];
        let start = section.find("```json\n").unwrap() + 8;
        section[start..start + section[start..].find("```").unwrap()].to_owned()
    };
    let job: JobReport = serde_json::from_str(&block("## GET /v1/job\n")).unwrap();
    assert_eq!((job.state.as_str(), job.generation, job.tasks.len()), ("running", Some(2), 1));
    let checkpoints: CheckpointsReport = serde_json::from_str(&block("## GET /v1/checkpoints")).unwrap();
    assert_eq!(checkpoints.retained[0].sizes.total_bytes, 65_536);
    let savepoint: SavepointReport = serde_json::from_str(&block("## POST /v1/savepoints")).unwrap();
    assert_eq!((savepoint.state.as_str(), savepoint.link), ("completed", Some(20)));
    let text = &page[page.find("`GET` tells what is in force").unwrap()..];
    let start = text.find("```json\n").unwrap() + 8;
    let assignment: AssignmentReport =
        serde_json::from_str(&text[start..start + text[start..].find("```").unwrap()]).unwrap();
    assert_eq!((assignment.revision, assignment.change.unwrap().step.as_str()), (2, "preparing"));
}
