//! `weir worker` as whoever starts it meets it: addresses, certificates and leaders that are not what they should be.

use super::place::*;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const LOOPBACK: [&str; 3] = ["--insecure", "--exchange", "127.0.0.1:0"];

/// The arguments of a worker with this number, and more.
fn worker<'a>(ordinal: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["worker", "job.yaml", "--quiet", "--ordinal", ordinal], more].concat()
}

#[test]
fn what_is_wrong_with_a_workers_addresses_and_certificates_is_said_and_nothing_is_written() {
    let place = Place::new(&job(COUNT), ROW);
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let with = |more: &[&'static str]| [&LOOPBACK[..], more].concat();
    let at = |option: &'static str| [with(&["--control", "127.0.0.1:0"]), vec![option, taken.as_str()]].concat();
    let table: [(&str, &str, Vec<&str>, &[&str]); 9] = [
        ("no certificates", "0", vec![], &["workers need certificates", "--tls", "--insecure"]),
        ("no such folder", "0", vec!["--tls", "nowhere"], &["nowhere"]),
        ("no leader", "1", with(&[]), &["a worker needs its leader", "--leader HOST:PORT"]),
        (
            "everywhere",
            "0",
            vec!["--insecure", "--exchange", "0.0.0.0:0", "--control", "127.0.0.1:0"],
            &["cannot reach this one at 0.0.0.0", "--advertise"],
        ),
        ("rows", "0", vec!["--insecure", "--control", "127.0.0.1:0", "--exchange", &taken], &[&taken]),
        ("registrations", "0", with(&[]).into_iter().chain(["--control", &taken]).collect(), &[&taken]),
        ("health", "0", at("--health"), &[&taken]),
        ("API", "0", at("--api"), &[&taken]),
        ("all", "0", at("--http"), &[&taken]),
    ];
    for (what, ordinal, more, parts) in table {
        place.check(what, &worker(ordinal, &more), USER_ERROR, parts);
        assert!(!place.path(".weir/job/chain").exists() && !place.path("out").exists(), "{what}");
    }
    place.check("a run", &["run", "job.yaml", "--quiet", "--http", &taken], USER_ERROR, &[&taken, "hint: "]);
    assert!(!place.path(".weir/job/chain").exists() && !place.path("out").exists());
}

#[test]
fn a_worker_whose_leader_nobody_answers_for_says_so_and_goes_on_looking() {
    let place = Place::new(&job(COUNT), ROW);
    let leader = "127.0.0.1:1";
    // Nobody else has ports of that address.
    let health = TcpListener::bind("127.0.77.1:0").unwrap().local_addr().unwrap().to_string();
    let more = [&LOOPBACK[..], &["--leader", leader, "--health", &health]].concat();
    let running = place.start(&worker("1", &more));
    let expected = format!("its leader at {leader} is away: cannot connect to {leader}");
    let mut looks = PATIENCE.as_millis() / 10;
    let mut said = String::new();
    while !said.contains(&expected) && looks > 0 {
        looks -= 1;
        let _ = running.ended.recv_timeout(std::time::Duration::from_millis(20));
        said = ready(&health);
    }
    assert!(said.starts_with("HTTP/1.1 503") && said.contains(&expected), "{said}");
    let (code, told) = running.stop();
    assert!(matches!(code, Some(HANDED_OVER | STOPPED)), "{code:?} {told}");
    assert!(!place.path(".weir/job/chain").exists());
    assert!(fs::read_dir(place.path("in")).unwrap().count() == 1);
}

/// What a worker answers when it is asked whether it is ready; nothing as long as it does not answer.
fn ready(address: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok().map(|_| answer)
    };
    ask().unwrap_or_default()
}
