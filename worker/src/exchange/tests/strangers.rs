//! Callers that do not keep to the protocol: each is lost with a reason, and nobody else notices.

use super::*;
use crate::exchange::carry::credit;
use crate::exchange::frame::{HEADER, Header, Kind};
use crate::exchange::hello::Hello;
use crate::exchange::rows::encode::Encoder;
use crate::tls::Role;
use crate::tls::tests::jobs;
use arrow::buffer::Buffer;
use proptest::prelude::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use weir_protocol::credit::Amount;

/// A frame of generation 1, as bytes.
fn frame(kind: Kind, stream: u32, body: &[u8]) -> Vec<u8> {
    [&Header::over(kind, Generation(1), stream, body).encode(), body].concat()
}

pub(super) fn hello(stream: &mut TcpStream, job: &str, worker: u32, generation: u64) {
    let body = Hello { job: job.into(), worker, lane: 0 }.encode();
    let header = Header::over(Kind::Hello, Generation(generation), 0, &body);
    stream.write_all(&[&header.encode(), body.as_slice()].concat()).unwrap();
}

fn open(stream: u32, subtask: u32, channel: u32) -> Vec<u8> {
    let body: Vec<u8> = [task(subtask).chain, subtask, channel].into_iter().flat_map(u32::to_le_bytes).collect();
    frame(Kind::Open, stream, &body)
}

fn columns() -> Vec<u8> {
    let (told, _) = Encoder::new(Compression::None).encode(&numbers(0, 1)).unwrap();
    frame(Kind::Columns, 0, &told.unwrap())
}

fn rows(count: i64) -> Vec<u8> {
    let (_, encoded) = Encoder::new(Compression::None).encode(&numbers(0, count)).unwrap();
    let body: Vec<u8> = encoded.parts.iter().flat_map(Buffer::as_slice).copied().collect();
    let header = Header { rows: encoded.rows, ..Header::over(Kind::Rows, Generation(1), 0, &body) };
    [&header.encode(), body.as_slice()].concat()
}

/// A caller that said hello as worker 7, and was answered.
fn caller(receiving: &Worker) -> TcpStream {
    let mut stream = TcpStream::connect(receiving.exchange.address()).unwrap();
    hello(&mut stream, JOB, 7, 1);
    let mut answer = [0; HEADER];
    stream.read_exact(&mut answer).unwrap();
    let answer = Header::decode(&answer).unwrap();
    assert_eq!((answer.kind, answer.generation), (Kind::Hello, Generation(1)));
    std::io::copy(&mut (&stream).take(u64::from(answer.length)), &mut std::io::sink()).unwrap();
    stream
}

/// Sends bytes after a hello, hangs up, and checks why the caller was lost.
#[track_caller]
fn check(bytes: &[&[u8]], reason: &str) {
    let receiving = Worker::plain(1, 2);
    receiving.open(1);
    let mut stream = caller(&receiving);
    // The other side may hang up on the first half.
    let _ = stream.write_all(&bytes.concat());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let (worker, text) = receiving.lost();
    assert_eq!(worker, Some(7));
    assert!(text.starts_with("lost the worker 7 at 127.0.0.1:") && text.contains(reason), "{text}");
}

#[test]
fn frames_that_do_not_fit_end_the_connection() {
    let of_generation_2 = Header::bare(Kind::Idle, Generation(2), 0).encode();
    let mut damaged_header = frame(Kind::Idle, 0, &[]);
    damaged_header[24] ^= 1;
    let mut damaged_rows = rows(10);
    *damaged_rows.last_mut().unwrap() ^= 1;
    let mut other_version = frame(Kind::Idle, 0, &[]);
    other_version[2] = 9;
    let too_long = Header { length: 1, ..Header::bare(Kind::Watermark, Generation(1), 0) }.encode();
    let bad_barrier = Header { rows: 3, ..Header::bare(Kind::Barrier, Generation(1), 0) }.encode();
    let opened = open(0, 0, 0);
    check(&[], "has its process ended?");
    check(&[&opened], "has its process ended?");
    check(&[&opened, &rows(10)[..100]], "");
    check(&[&opened, &columns(), &rows(10)[..100]], "has its process ended?");
    check(&[&opened, &of_generation_2], "generation 2 on a connection of generation 1");
    check(&[b"GET / HTTP/1.1\r\nHost: weir.example.com\r\n\r\n"], "does not speak Weir's protocol");
    check(&[&opened, &damaged_header], "header was damaged");
    check(&[&opened, &columns(), &damaged_rows], "body was damaged");
    check(&[&other_version], "version 9");
    check(&[&opened, &too_long], "longer than the 0");
    check(&[&opened, &bad_barrier], "Barrier where none may be");
    check(&[&opened, &rows(10)], "Rows where none may be");
    check(&[&opened, &frame(Kind::Columns, 0, b"[{}]")], "columns of a stream cannot be understood");
    check(&[&opened, &frame(Kind::Credit, 0, &[])], "Credit where none may be");
    check(&[&frame(Kind::Idle, 0, &[])], "stream 0, which is not open");
    check(&[&opened, &frame(Kind::Idle, 1, &[])], "stream 1, which is not open");
    check(&[&opened, &frame(Kind::End, 0, &[]), &frame(Kind::Idle, 0, &[])], "stream 0, which is not open");
    check(&[&open(1, 0, 0)], "stream 1, which is not open");
    check(&[&open(0, 5, 0)], "task 3.5, which does not run here");
    check(&[&open(0, 0, 2)], "none with number 2");
    check(&[&opened, &open(1, 0, 0)], "has a sender already");
    check(&[&frame(Kind::Open, 0, &[1, 2, 3])], "Open where none may be");
    check(&[&opened, &columns(), &rows(30_000), &rows(30_000), &rows(30_000)], "more than it has credits for");
}

#[test]
fn rows_that_cannot_be_read_fail_the_task_with_the_name_of_the_worker() {
    let receiving = Worker::plain(1, 1);
    receiving.open(1);
    let mut stream = caller(&receiving);
    let body = frame(Kind::Rows, 0, &[0; 64]);
    stream.write_all(&[open(0, 0, 0), columns(), body].concat()).unwrap();
    let deadline = Instant::now() + LONGEST;
    let failure = loop {
        assert!(Instant::now() < deadline, "nothing comes");
        match receiving.inbox(0).receive() {
            Err(failure) => break failure.chain(),
            Ok(_) => drop(receiving.inbox(0).wait(Some(deadline))),
        }
    };
    assert!(failure.contains("rows from the worker 7 at 127.0.0.1:"), "{failure}");
}

#[test]
fn credits_that_were_never_taken_are_not_believed() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let sending = Worker::plain(0, 0);
    sending.open(1);
    let check = |body: &[u8], reason: &str| {
        sending.sender(1, listener.local_addr().unwrap(), 0, 0);
        let (mut peer, _) = listener.accept().unwrap();
        hello(&mut peer, JOB, 6, 1);
        peer.write_all(&frame(Kind::Credit, 0, body)).unwrap();
        let (_, text) = sending.lost();
        assert!(text.contains(reason), "{text}");
        sending.open(1);
    };
    check(&credit(0, Amount { rows: 1, bytes: 1 }), "were given back to a channel");
    check(&credit(9, Amount { rows: 0, bytes: 0 }), "stream 9, which is not open");
    check(&[0; 19], "Credit where none may be");
}

#[test]
fn a_caller_that_says_something_else_first_is_told_why_it_gets_nothing() {
    let receiving = Worker::plain(1, 1);
    receiving.open(1);
    for (first, reason) in [
        (frame(Kind::Idle, 0, &[]), "Idle where none may be"),
        (frame(Kind::Hello, 0, b"{}"), "does not say who it is"),
        (b"GET / HTTP/1.1\r\nHost: weir.example.com\r\n\r\n".to_vec(), "does not speak Weir's protocol"),
    ] {
        let mut stream = TcpStream::connect(receiving.exchange.address()).unwrap();
        stream.write_all(&first).unwrap();
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains(reason), "{text}");
    }
    assert!(receiving.losses.try_recv().is_err());
}

#[test]
fn a_peer_without_a_certificate_of_the_job_gets_nothing() {
    let jobs = jobs();
    let receiving = Worker::new(1, 1, jobs.secure(Role::Worker), |_| {});
    receiving.open(1);
    let other = Security::Mutual(jobs.other.identity(Role::Worker).unwrap());
    for stranger in [jobs.intruder(Role::Worker), other, Security::Insecure] {
        let sending = Worker::new(0, 0, stranger, |_| {});
        sending.open(1);
        let sender = sending.sender(1, receiving.exchange.address(), 0, 0);
        // It may be sent before the peer is refused.
        let _ = sender.send(Element::Batch(numbers(0, 7)));
        assert_eq!(sending.lost().0, None, "it does not even learn whom it has reached");
    }
    let sending = Worker::new(0, 0, jobs.secure(Role::Worker), |_| {});
    sending.open(1);
    sending.sender(1, receiving.exchange.address(), 0, 0).send(Element::Batch(numbers(0, 1))).unwrap();
    assert_eq!(word(&receiving.next(0).1), "1 rows", "the first that comes is of a worker of the job");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever a caller sends after its hello, the worker goes on for others.
    #[test]
    fn no_bytes_of_a_caller_harm_the_worker(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        kind in 0_u8..16,
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let receiving = Worker::plain(1, 2);
        receiving.open(1);
        let mut stream = caller(&receiving);
        let mut bytes = [open(0, 0, 0), columns(), rows(10), frame(Kind::End, 0, &[])].concat();
        for (place, value) in mutations {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let mut header = Header::over(Kind::Rows, Generation(1), 0, &noise).encode();
        header[3] = kind;
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&noise);
        let _ = stream.write_all(&bytes);
        drop(stream);
        prop_assert_eq!(receiving.lost().0, Some(7));
        let sending = Worker::plain(0, 0);
        sending.open(1);
        let sender = sending.sender(1, receiving.exchange.address(), 1, 0);
        sender.send(Element::Batch(numbers(0, 1))).unwrap();
        prop_assert_eq!(word(&receiving.next(1).1), "1 rows");
    }
}
