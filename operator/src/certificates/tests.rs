//! A job's certificates over years, and what they let a process do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::*;

/// The Secrets of a job in a store that only this test writes.
struct Job {
    stored: Stored,
    now: Timestamp,
    terms: Terms,
}

impl Job {
    fn new() -> Self {
        let mut job = Self { stored: Stored::default(), now: Timestamp::now(), terms: Terms::default() };
        job.look();
        job
    }

    /// One look that writes everything.
    fn look(&mut self) -> Plan {
        let plan = plan(self.now, &self.terms, &self.stored).unwrap();
        self.write(&plan, 3);
        plan
    }

    /// Writes the first `count` Secrets of a plan, the authority first.
    fn write(&mut self, plan: &Plan, count: usize) {
        let secret = |data| Some(Secret { data: Some(data), ..Secret::default() });
        if let Some(authority) = plan.authority.as_ref().filter(|_| count > 0) {
            self.stored.authority = secret(authority.data());
        }
        if let Some(worker) = plan.worker.as_ref().filter(|_| count > 1) {
            self.stored.worker = secret(worker.data());
        }
        if let Some(controller) = plan.controller.as_ref().filter(|_| count > 2) {
            self.stored.controller = secret(controller.data());
        }
    }

    fn worker(&self) -> Credentials {
        Credentials::read(self.stored.worker.as_ref().unwrap()).unwrap()
    }

    fn controller(&self) -> Credentials {
        Credentials::read(self.stored.controller.as_ref().unwrap()).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

fn roots(credentials: &Credentials) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(credentials.authorities.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    Arc::new(roots)
}

fn pair(credentials: &Credentials) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(credentials.certificate.as_bytes()).unwrap();
    (vec![certificate], PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).unwrap())
}

/// A clock that the test sets: certificates of later years are checked in their years.
#[derive(Debug)]
struct Clock(Timestamp);

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(self.0.as_second()).unwrap())))
    }
}

/// Connects a client to a server in memory; the name in the client's certificate as the server sees it.
fn connect(server: &Credentials, client: &Credentials, now: Timestamp) -> Result<String, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clock = || Arc::new(Clock(now));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(server), Arc::clone(&provider)).build().unwrap();
    let (chain, key) = pair(server);
    let config = ServerConfig::builder_with_details(Arc::clone(&provider), clock());
    let config = config.with_safe_default_protocol_versions().unwrap().with_client_cert_verifier(verifier);
    let mut server = ServerConnection::new(Arc::new(config.with_single_cert(chain, key).unwrap())).unwrap();

    let (chain, key) = pair(client);
    let config = ClientConfig::builder_with_details(provider, clock()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots(client)).with_client_auth_cert(chain, key).unwrap();
    let name = ServerName::try_from("worker.weir").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();

    client.writer().write_all(b"x").unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).map_err(|error| error.to_string())?;
        feed(&bytes, |bytes| server.read_tls(bytes));
        server.process_new_packets().map_err(|error| format!("server: {error}"))?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).map_err(|error| error.to_string())?;
        feed(&bytes, |bytes| client.read_tls(bytes));
        client.process_new_packets().map_err(|error| format!("client: {error}"))?;
    }
    let mut read = [0];
    server.reader().read_exact(&mut read).map_err(|error| error.to_string())?;
    Ok(authority::Facts::of_der(&server.peer_certificates().unwrap()[0]).unwrap().names.join(","))
}

fn feed(mut bytes: &[u8], mut read: impl FnMut(&mut dyn Read) -> std::io::Result<usize>) {
    while !bytes.is_empty() {
        read(&mut bytes).unwrap();
    }
}

#[test]
fn each_role_is_known_by_its_own_name_and_no_other() {
    let job = Job::new();
    assert_eq!(connect(&job.worker(), &job.worker(), job.now).unwrap(), "worker.weir");
    assert_eq!(connect(&job.worker(), &job.controller(), job.now).unwrap(), "controller.weir");
    let refused = connect(&job.controller(), &job.worker(), job.now).unwrap_err();
    assert!(refused.contains("not valid for name"), "the controller is no worker: {refused}");
}

#[test]
fn certificates_of_another_job_are_refused() {
    let (job, other) = (Job::new(), Job::new());
    assert!(connect(&job.worker(), &other.worker(), job.now).is_err());
    assert!(connect(&job.worker(), &other.controller(), job.now).is_err());
}

#[test]
fn a_second_look_writes_nothing() {
    let mut job = Job::new();
    let plan = job.look();
    assert!(plan.authority.is_none() && plan.worker.is_none() && plan.controller.is_none());
    assert!(plan.look_again > job.now + Duration::from_secs(24 * 60 * 60));
}

#[test]
fn certificates_are_replaced_in_time_while_the_authority_stays() {
    let mut job = Job::new();
    let before = job.worker();
    job.now = plan(job.now, &job.terms, &job.stored).unwrap().look_again;
    let plan = job.look();
    assert!(plan.authority.is_none(), "the authority lives longer");
    assert_ne!(job.worker().certificate, before.certificate);
    assert_eq!(connect(&job.worker(), &before, job.now).unwrap(), "worker.weir", "the old one is good for a while");
}

/// Goes through years of looks; at each, processes that have the files of the look before meet those with new ones.
fn every_step_is_understood_by_those_who_have_not_seen_it(mut job: Job, looks: usize) {
    for _ in 0..looks {
        let (worker, controller) = (job.worker(), job.controller());
        job.now = plan(job.now, &job.terms, &job.stored).unwrap().look_again.max(job.now);
        job.look();
        for (server, client) in [
            (&worker, &job.worker()),
            (&job.worker(), &worker),
            (&worker, &job.controller()),
            (&job.worker(), &controller),
            (&job.worker(), &job.controller()),
        ] {
            connect(server, client, job.now).unwrap();
        }
    }
}

#[test]
fn an_authority_is_replaced_without_anybody_being_refused() {
    let job = Job::new();
    let first = job.worker().authorities;
    let mut years = Job { stored: job.stored.clone(), ..Job::new() };
    years.now = job.now;
    every_step_is_understood_by_those_who_have_not_seen_it(years, 20);
    let mut job = job;
    job.pass(job.terms.authority);
    for _ in 0..3 {
        job.look();
        job.pass(job.terms.overlap);
    }
    assert_ne!(job.worker().authorities, first);
    assert_eq!(job.worker().authorities.matches("BEGIN CERTIFICATE").count(), 1, "the old one is not trusted any more");
}

#[test]
fn a_lost_authority_is_replaced_without_anybody_being_refused() {
    let mut job = Job::new();
    job.stored.authority = None;
    let before = job.worker();
    job.look();
    assert_eq!(job.worker().certificate, before.certificate, "certificates stay until all trust the new authority");
    every_step_is_understood_by_those_who_have_not_seen_it(job, 4);
}

#[test]
fn a_crash_between_two_secrets_is_made_good_by_the_next_look() {
    for written in 0..3 {
        let mut job = Job { stored: Stored::default(), now: Timestamp::now(), terms: Terms::default() };
        let plan = plan(job.now, &job.terms, &job.stored).unwrap();
        job.write(&plan, written);
        job.look();
        assert_eq!(connect(&job.worker(), &job.controller(), job.now).unwrap(), "controller.weir", "after {written}");
    }
}

#[test]
fn damaged_secrets_are_made_again() {
    for (key, value) in [("tls.crt", "nonsense"), ("tls.key", "nonsense"), ("ca.crt", "")] {
        let mut job = Job::new();
        let data = job.stored.worker.as_mut().unwrap().data.as_mut().unwrap();
        data.insert(key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec()));
        job.look();
        assert_eq!(connect(&job.worker(), &job.controller(), job.now).unwrap(), "controller.weir", "{key}");
    }
}
