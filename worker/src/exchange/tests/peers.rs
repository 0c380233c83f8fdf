//! Peers that are early, late, of another generation or another job, or gone.

use super::*;
use crate::failure::Kind;
use std::net::TcpListener;
use std::thread;

#[test]
fn a_connection_waits_until_its_generation_is_opened() {
    let (sending, receiving) = (Worker::plain(0, 0), Worker::plain(1, 1));
    sending.open(4);
    let sender = sending.sender(4, receiving.exchange.address(), 0, 0);
    sender.send(Element::Batch(numbers(0, 2))).unwrap();
    receiving.open(3);
    receiving.exchange.close(Generation(3));
    receiving.open(4);
    assert_eq!(word(&receiving.next(0).1), "2 rows");
}

#[test]
fn a_connection_waits_no_longer_than_it_has_patience() {
    let sending = Worker::plain(0, 0);
    let receiving = Worker::new(1, 1, Security::Insecure, |settings| settings.patience = Duration::from_millis(20));
    sending.open(4);
    sending.sender(4, receiving.exchange.address(), 0, 0);
    let (_, reason) = sending.lost();
    assert!(reason.contains("has not begun generation 4"), "{reason}");
}

#[test]
fn an_older_generation_is_refused() {
    let check = |newest: &dyn Fn(&Worker)| {
        let (sending, receiving) = (Worker::plain(0, 0), Worker::plain(1, 1));
        sending.open(4);
        newest(&receiving);
        sending.sender(4, receiving.exchange.address(), 0, 0);
        let (_, reason) = sending.lost();
        assert!(reason.contains("has left generation 4: it is at 5"), "{reason}");
    };
    check(&|receiving| receiving.open(5));
    check(&|receiving| receiving.exchange.close(Generation(5)));
}

#[test]
fn another_job_is_refused_by_name() {
    let sending = Worker::new(0, 0, Security::Insecure, |settings| settings.job = "shop/other-3".into());
    let receiving = Worker::plain(1, 1);
    sending.open(1);
    receiving.open(1);
    sending.sender(1, receiving.exchange.address(), 0, 0);
    let (_, reason) = sending.lost();
    assert!(reason.contains("shop/other-3") && reason.contains(JOB), "{reason}");
}

#[test]
fn a_peer_that_nobody_answers_for_is_lost_by_address() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let sending = Worker::plain(0, 0);
    sending.open(1);
    let sender = sending.sender(1, nobody, 0, 0);
    let (worker, reason) = sending.lost();
    assert!(worker.is_none() && reason.contains(&nobody.to_string()), "{reason}");
    let failure = loop {
        if let Err(failure) = sender.send(Element::Batch(numbers(0, 5000))) {
            break failure;
        }
    };
    assert_eq!(failure.kind, Kind::Cancelled);
}

#[test]
fn a_peer_that_is_killed_is_lost_by_its_number_and_cancels_who_waits_for_it() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let sending = Worker::plain(0, 0);
    sending.open(1);
    let sender = sending.sender(1, listener.local_addr().unwrap(), 0, 0);
    let (mut stranger, _) = listener.accept().unwrap();
    strangers::hello(&mut stranger, JOB, 6, 1);
    let held = thread::spawn(move || {
        loop {
            if let Err(failure) = sender.send(Element::Batch(numbers(0, 5000))) {
                return failure.kind;
            }
        }
    });
    drop((stranger, listener));
    let (worker, reason) = sending.lost();
    assert_eq!(worker, Some(6));
    assert!(reason.contains("lost the worker 6 at 127.0.0.1:"), "{reason}");
    assert_eq!(held.join().unwrap(), Kind::Cancelled);
}

#[test]
fn a_closed_generation_sends_nothing() {
    let worker = Worker::plain(0, 0);
    let refused = worker.exchange.sender(Generation(1), loopback(), task(0), 0).err().unwrap();
    assert_eq!(refused.kind, Kind::Cancelled);
}

#[test]
fn an_address_in_use_is_the_users_to_change() {
    let worker = Worker::plain(0, 0);
    let address = worker.exchange.address();
    let failure = Exchange::listen(address, Security::Insecure, Settings::new(JOB, 1)).err().unwrap();
    assert_eq!(failure.kind, Kind::User);
    assert!(failure.to_string().contains(&address.to_string()), "{failure}");
}
