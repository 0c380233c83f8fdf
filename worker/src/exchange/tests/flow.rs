//! What arrives, in which order, and who waits for whom.

use super::*;
use crate::dataflow::element::{After, Barrier};
use crate::dataflow::inbox::CHANNEL_BUDGET;
use crate::failure::Kind;
use crate::tls::{Role, self_made};
use arrow::array::{StringViewArray, UInt8Array};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use weir_protocol::{CheckpointId, EventTime};

/// Sends rows of every type, with and without kinds, in slices, and checks what arrives.
fn check_content(security: &Security, compression: Compression, lanes: u32) {
    let (sending, receiving) = pair(4, security, |settings| {
        settings.compression = compression;
        settings.lanes = NonZero::new(lanes).unwrap();
    });
    let rows = every_type(3000);
    let kinds = UInt8Array::from_iter_values((0..3000).map(|row| (row % 4) as u8));
    let batches = [
        Batch::inserts(rows.clone()),
        Batch::changes(rows.slice(100, 1000), kinds.slice(100, 1000)),
        Batch::inserts(rows.slice(2999, 1)),
        Batch::changes(rows.slice(0, 0), kinds.slice(0, 0)),
        Batch::inserts(rows.slice(7, 2500)),
    ];
    for subtask in 0..4 {
        let sender = sending.sender(1, receiving.exchange.address(), subtask, 1);
        for batch in &batches {
            sender.send(Element::Batch(batch.clone())).unwrap();
        }
        sender.send(Element::End).unwrap();
        for batch in &batches {
            let (channel, Element::Batch(arrived)) = receiving.next(subtask) else { panic!("rows come") };
            assert_eq!((channel, &arrived.rows, &arrived.kinds), (1, &batch.rows, &batch.kinds));
        }
        assert!(matches!(receiving.next(subtask), (1, Element::End)));
    }
    let (there, here) = (sending.exchange.traffic(), receiving.exchange.traffic());
    assert_eq!(there[&1].batches_out.get(), 20);
    assert_eq!(here[&0].batches_in.get(), 20);
    assert_eq!(there[&1].bytes_out.get(), here[&0].bytes_in.get());
}

#[test]
fn all_types_arrive_over_plain_connections() {
    check_content(&Security::Insecure, Compression::None, 1);
    check_content(&Security::Insecure, Compression::Lz4, 3);
}

#[test]
fn all_types_arrive_over_secured_connections() {
    let folder = tempfile::tempdir().unwrap();
    let identity = self_made(folder.path()).unwrap().identity(Role::Worker).unwrap();
    check_content(&Security::Mutual(identity), Compression::None, 2);
}

#[test]
fn elements_of_a_channel_arrive_in_order() {
    let (sending, receiving) = pair(1, &Security::Insecure, |_| {});
    let sender = sending.sender(1, receiving.exchange.address(), 0, 0);
    let barrier = |checkpoint, after| Element::Barrier(Barrier::aligned(CheckpointId(checkpoint), after));
    let sent = [
        Element::Watermark(EventTime(-5), None),
        Element::Batch(numbers(0, 3)),
        barrier(7, After::More),
        Element::Batch(numbers(3, 4)),
        Element::Watermark(EventTime::MAX, None),
        barrier(8, After::MoreApart),
        Element::Idle,
        Element::Batch(numbers(7, 1)),
        barrier(9, After::Nothing),
        Element::End,
    ];
    for element in &sent {
        sender.send(element.clone()).unwrap();
    }
    let words: Vec<_> = sent.iter().map(word).collect();
    let arrived: Vec<_> = sent.iter().map(|_| word(&receiving.next(0).1)).collect();
    assert_eq!(arrived, words);
}

#[test]
fn a_barrier_says_on_the_way_how_long_it_still_waits() {
    let (sending, receiving) = pair(1, &Security::Insecure, |_| {});
    let sender = sending.sender(1, receiving.exchange.address(), 0, 0);
    for (checkpoint, wait, urgent) in [(1, 0, true), (2, 3600, false), (3, u64::from(u32::MAX), false)] {
        let overtakes_at = Some(Instant::now() + Duration::from_secs(wait));
        let barrier = Barrier { checkpoint: CheckpointId(checkpoint), after: After::More, overtakes_at };
        sender.send(Element::Barrier(barrier)).unwrap();
        let (_, Element::Barrier(arrived)) = receiving.next(0) else { panic!("a barrier comes") };
        assert_eq!((arrived.overtakes_at.is_some(), arrived.is_urgent()), (true, urgent), "{wait} s");
    }
}

#[test]
fn columns_that_change_on_the_way_are_told_again() {
    let (sending, receiving) = pair(1, &Security::Insecure, |_| {});
    let sender = sending.sender(1, receiving.exchange.address(), 0, 0);
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec!["a", "b"]));
    let other = Batch::inserts(RecordBatch::try_from_iter([("t", texts)]).unwrap());
    for batch in [numbers(0, 1), other.clone(), numbers(1, 1)] {
        sender.send(Element::Batch(batch)).unwrap();
    }
    receiving.next(0);
    let (_, Element::Batch(arrived)) = receiving.next(0) else { panic!("rows come") };
    assert_eq!(arrived.rows, other.rows);
    receiving.next(0);
}

#[test]
fn a_task_that_takes_nothing_for_long_is_no_lost_peer() {
    let (sending, receiving) = pair(1, &Security::Insecure, |settings| settings.lost_after = Duration::ZERO);
    let sender = sending.sender(1, receiving.exchange.address(), 0, 0);
    let (rows, batches) = (8192, 20);
    let held = thread::spawn(move || {
        for batch in 0..batches {
            sender.send(Element::Batch(numbers(batch * rows, rows))).unwrap();
        }
    });
    // More than twice the least limit.
    assert_eq!(sending.losses.recv_timeout(Duration::from_secs(5)).err(), Some(mpsc::RecvTimeoutError::Timeout));
    assert!(!held.is_finished(), "all was sent although nothing was taken");
    for _ in 0..batches {
        assert_eq!(word(&receiving.next(0).1), format!("{rows} rows"));
    }
    held.join().unwrap();
}

#[test]
fn a_slow_task_stalls_nothing_but_its_own_inputs() {
    let (sending, receiving) = pair(2, &Security::Insecure, |_| {});
    let to = receiving.exchange.address();
    let slow = sending.sender(1, to, 0, 0);
    let fast = sending.sender(1, to, 1, 0);
    let (rows, batches) = (8192, 20);
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let held = thread::spawn(move || {
        for batch in 0..batches {
            slow.send(Element::Batch(numbers(batch * rows, rows))).unwrap();
            count.fetch_add(rows as u64, Ordering::Relaxed);
        }
    });
    for batch in 0..50 * batches {
        fast.send(Element::Batch(numbers(batch, rows))).unwrap();
        assert_eq!(word(&receiving.next(1).1), "8192 rows");
        assert!(sent.load(Ordering::Relaxed) <= CHANNEL_BUDGET.rows);
    }
    for batch in 0..batches {
        let (_, Element::Batch(arrived)) = receiving.next(0) else { panic!("rows come") };
        assert_eq!(arrived.rows, numbers(batch * rows, rows).rows);
    }
    held.join().unwrap();
}

#[test]
fn rows_larger_than_the_budget_pass_alone() {
    let (sending, receiving) = pair(1, &Security::Insecure, |_| {});
    let text = "x".repeat(CHANNEL_BUDGET.bytes as usize + 1000);
    let huge: ArrayRef = Arc::new(StringViewArray::from_iter_values([&text]));
    let huge = Batch::inserts(RecordBatch::try_from_iter([("t", huge)]).unwrap());
    let short: ArrayRef = Arc::new(StringViewArray::from_iter_values(["short"]));
    let short = Batch::inserts(RecordBatch::try_from_iter([("t", short)]).unwrap());
    let sender = sending.sender(1, receiving.exchange.address(), 0, 0);
    let batches = [short.clone(), huge.clone(), short.clone(), huge.clone(), huge, short];
    let sent = batches.clone();
    let sending =
        thread::spawn(move || sent.into_iter().try_for_each(|batch| sender.send(Element::Batch(batch)).map(drop)));
    for batch in batches {
        let (_, Element::Batch(arrived)) = receiving.next(0) else { panic!("rows come") };
        assert_eq!(arrived.rows, batch.rows);
    }
    sending.join().unwrap().unwrap();
}

#[test]
fn the_end_of_the_generation_lets_go_whoever_waits() {
    let (sending, receiving) = pair(1, &Security::Insecure, |_| {});
    let sender = sending.sender(1, receiving.exchange.address(), 0, 0);
    let held = thread::spawn(move || {
        loop {
            if let Err(failure) = sender.send(Element::Batch(numbers(0, 5000))) {
                return failure.kind;
            }
        }
    });
    receiving.next(0);
    sending.exchange.close(Generation(1));
    assert_eq!(held.join().unwrap(), Kind::Cancelled);
    // A worker that leaves in good order is not lost: what comes next is what another one does.
    drop(sending);
    let other = Worker::plain(9, 0);
    other.open(1);
    other.sender(1, receiving.exchange.address(), 0, 0);
    assert_eq!(receiving.lost().0, Some(9));
}

#[test]
fn a_generation_that_ends_the_other_side_cancels_here() {
    let (sending, receiving) = pair(1, &Security::Insecure, |_| {});
    let sender = sending.sender(1, receiving.exchange.address(), 0, 0);
    sender.send(Element::Batch(numbers(0, 1))).unwrap();
    receiving.next(0);
    receiving.exchange.close(Generation(1));
    let failure = loop {
        if let Err(failure) = sender.send(Element::Batch(numbers(0, 5000))) {
            break failure;
        }
    };
    assert_eq!(failure.kind, Kind::Cancelled);
    assert!(sending.losses.try_recv().is_err());
}

#[test]
fn what_was_sent_before_the_end_arrives_although_the_generation_is_closed() {
    for _ in 0..20 {
        let (sending, receiving) = pair(1, &Security::Insecure, |_| {});
        let sender = sending.sender(1, receiving.exchange.address(), 0, 0);
        for batch in 0..4 {
            sender.send(Element::Batch(numbers(batch, 8000))).unwrap();
        }
        sender.send(Element::End).unwrap();
        sending.exchange.close(Generation(1));
        drop(sending);
        let words: Vec<_> = (0..5).map(|_| word(&receiving.next(0).1)).collect();
        assert_eq!(words, ["8000 rows", "8000 rows", "8000 rows", "8000 rows", "End"]);
        assert!(receiving.losses.try_recv().is_err());
    }
}
