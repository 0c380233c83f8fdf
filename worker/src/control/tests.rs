#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::frame::{self, Ended, FromLeader, FromWorker};
use super::{Patience, serve};
use crate::job::agent::message::{Command, Report};
use crate::job::message::{Handle, Link, Message, ToWorker};
use crate::tls::tests::jobs;
use crate::tls::{Role, Security, Stream};
use proptest::prelude::*;
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use weir_protocol::Generation;
use weir_protocol::leader::{End, ErrorKind};
use weir_protocol::members::{Registration, Session};

/// The worker that is played here says nothing that it is not told to: a slow machine must not take it for dead.
const PATIENCE: Patience = Patience { heartbeat: Duration::from_millis(50), missed_heartbeats: 2_400 };

fn worker() -> Registration {
    Registration {
        job: "job".into(),
        ordinal: 3,
        revision: 1,
        attempt: 1,
        build: "b".into(),
        plan: "p".into(),
        code: "c".into(),
        exchange: "127.0.0.1:1".into(),
    }
}

/// A leader that listens, and what it hears.
fn leader() -> (super::Server, mpsc::Receiver<Message>) {
    let (sender, messages) = mpsc::channel();
    let server = serve("127.0.0.1:0", Security::Insecure, Handle::new(sender), PATIENCE).unwrap();
    (server, messages)
}

fn registered(messages: &mpsc::Receiver<Message>) -> (Session, Registration, Link) {
    match messages.recv().unwrap() {
        Message::Registered(session, worker, link) => (session, worker, link),
        _ => panic!("a registration comes first"),
    }
}

async fn connect(server: &super::Server) -> Stream {
    Security::Insecure.connect(server.address()).await.unwrap()
}

async fn say(stream: &mut Stream, frame: &FromWorker) {
    frame::write(stream, frame).await.unwrap();
    stream.flush().await.unwrap();
}

/// The next thing that the leader says besides that it lives.
async fn hear(stream: &mut Stream) -> Option<FromLeader> {
    loop {
        match frame::read(stream).await.unwrap() {
            Some(FromLeader::Heartbeat) => {}
            other => return other,
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn what_a_worker_says_reaches_the_job_and_what_the_job_says_reaches_the_worker() {
    let (server, messages) = leader();
    runtime().block_on(async {
        let mut stream = connect(&server).await;
        say(&mut stream, &FromWorker::Register(worker())).await;
        let (session, worker_seen, link) = registered(&messages);
        assert_eq!(worker_seen, worker());
        link.send(ToWorker::Welcome);
        assert!(matches!(hear(&mut stream).await, Some(FromLeader::Welcome)));
        let report = Report::Cancelled { generation: Generation(4) };
        say(&mut stream, &FromWorker::Report(report.clone())).await;
        assert!(matches!(messages.recv().unwrap(), Message::Report(from, told) if from == session && told == report));
        let command = Command::Cancel { generation: Generation(5) };
        link.send(ToWorker::Command(command.clone()));
        assert!(matches!(hear(&mut stream).await, Some(FromLeader::Command(told)) if told == command));
        let end = End::Failed { kind: ErrorKind::User, message: "bad".into() };
        link.send(ToWorker::End(end));
        let Some(FromLeader::Ended(Ended::Failed(why))) = hear(&mut stream).await else { panic!("an end") };
        assert_eq!(why, "the job has failed: bad");
        assert!(hear(&mut stream).await.is_none());
    });
}

#[test]
fn a_connection_that_breaks_is_told_once() {
    let (server, messages) = leader();
    runtime().block_on(async {
        let mut stream = connect(&server).await;
        say(&mut stream, &FromWorker::Register(worker())).await;
        let (session, _, link) = registered(&messages);
        drop(stream);
        assert!(matches!(messages.recv().unwrap(), Message::Disconnected(from, _) if from == session));
        link.send(ToWorker::Welcome);
    });
}

#[test]
fn who_does_not_register_first_is_not_listened_to() {
    let (server, messages) = leader();
    runtime().block_on(async {
        let mut stream = connect(&server).await;
        say(&mut stream, &FromWorker::Report(Report::Cancelled { generation: Generation(1) })).await;
        assert!(frame::read::<FromLeader>(&mut stream).await.unwrap_or(None).is_none());
    });
    drop(server);
    assert!(messages.try_recv().is_err());
}

#[test]
fn a_worker_with_a_certificate_of_another_job_never_gets_to_register() {
    let jobs = jobs();
    let (sender, messages) = mpsc::channel();
    let server = serve("127.0.0.1:0", jobs.secure(Role::Worker), Handle::new(sender), PATIENCE).unwrap();
    let other = Security::Mutual(jobs.other.identity(Role::Worker).unwrap());
    runtime().block_on(async {
        for stranger in [jobs.intruder(Role::Worker), other, Security::Insecure] {
            // A client may have said all it wants before it is told that it is refused.
            let Ok(mut stream) = stranger.connect(server.address()).await else { continue };
            let _ = frame::write(&mut stream, &FromWorker::Register(worker())).await;
            let _ = stream.flush().await;
            assert!(frame::read::<FromLeader>(&mut stream).await.unwrap_or(None).is_none());
        }
        let mut stream = jobs.secure(Role::Worker).connect(server.address()).await.unwrap();
        say(&mut stream, &FromWorker::Register(worker())).await;
        assert_eq!(registered(&messages).1, worker());
    });
    drop(server);
    let others = messages.try_iter().filter(|message| matches!(message, Message::Registered(..)));
    assert_eq!(others.count(), 0);
}

proptest! {
    #[test]
    fn random_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = runtime().block_on(frame::read::<FromWorker>(&mut bytes.as_slice()));
        let _ = runtime().block_on(frame::read::<FromLeader>(&mut bytes.as_slice()));
    }

    /// A length that promises much takes no memory for what does not come.
    #[test]
    fn a_frame_that_is_cut_is_no_panic(length in any::<u32>(), body in "[\\[\\]{}\",:a-zA-Z0-9]{0,80}") {
        let bytes = [&length.to_le_bytes()[..], body.as_bytes()].concat();
        let _ = runtime().block_on(frame::read::<FromLeader>(&mut bytes.as_slice()));
    }
}
