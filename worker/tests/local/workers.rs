//! `weir worker` as whoever starts it meets it: addresses, certificates and leaders that are not what they should be.

use super::place::*;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use weir_worker::tls::{Role, self_made};

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
    let table: [(&str, &str, Vec<&str>, &[&str]); 12] = [
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
        (
            "all to everybody, beside certificates",
            "0",
            vec!["--tls", "nowhere", "--http", "127.0.0.1:0"],
            &["without a certificate", "--api", "--insecure"],
        ),
        ("certificates, and none", "0", with(&["--tls", "nowhere"]), &["--tls names", "leave one of them out"]),
        (
            "anew, and not",
            "0",
            with(&["--fresh", "--restore", "before"]),
            &["--fresh forgets", "leave one of them out"],
        ),
    ];
    for (what, ordinal, more, parts) in table {
        place.check(what, &worker(ordinal, &more), USER_ERROR, parts);
        assert!(!place.path(".weir/job/chain").exists() && !place.path("out").exists(), "{what}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(worker("1", &["--exchange", "127.0.0.1:0", "--restore", "before"])).current_dir(place.path("."));
    command.envs([("WEIR_FRESH", "false"), ("WEIR_QUIET", "false"), ("WEIR_INSECURE", "true")]);
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("a worker needs its leader"), "what is off excludes nothing: {said}");
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
    is_not_ready(&running, &health, &format!("its leader at {leader} is away: cannot connect to {leader}"));
    let (code, told) = running.stop();
    assert!(matches!(code, Some(HANDED_OVER | STOPPED)), "{code:?} {told}");
    assert!(!place.path(".weir/job/chain").exists());
    assert!(fs::read_dir(place.path("in")).unwrap().count() == 1);
}

#[test]
fn a_leader_whose_workers_do_not_come_stops_at_the_first_signal() {
    let place = Place::new(&job(COUNT), ROW);
    let health = TcpListener::bind("127.0.77.4:0").unwrap().local_addr().unwrap().to_string();
    let more = ["--control", "127.0.0.1:0", "--workers", "2", "--health", &health];
    let leading = place.start(&worker("0", &[&LOOPBACK[..], &more].concat()));
    says(&leading, &health, ("HTTP/1.1 200", ""));
    leading.signal("INT");
    let (code, told) = leading.end(PATIENCE);
    assert_eq!(code, Some(STOPPED), "{told}");
}

#[test]
fn a_worker_of_another_plan_or_with_another_jobs_certificate_is_told_so_and_the_job_runs_without_it() {
    let place = Place::new(&job(COUNT), ROW);
    place.write("other.yaml", &job(PRICES));
    let certificates = |job: &str| {
        let folder = self_made(&place.path(job)).unwrap().folder_of(Role::Worker);
        folder.display().to_string()
    };
    let (own, others) = (certificates("own"), certificates("others"));
    let [leader, health] = ["127.0.77.2:0", "127.0.77.3:0"]
        .map(|address| TcpListener::bind(address).unwrap().local_addr().unwrap().to_string());
    let more = ["--exchange", "127.0.0.1:0", "--workers", "2"];
    let leading = place.start(&worker("0", &[&more[..], &["--tls", &own, "--control", &leader]].concat()));
    let follows = |tls: &'static str| {
        let tls = if tls == "own" { &own } else { &others };
        [&more[..], &["--leader", &leader, "--tls", tls]].concat()
    };
    let mut another = worker("1", &follows("own"));
    another[1] = "other.yaml";
    let parts = ["the leader's plan has the fingerprint", "all workers of a job need the same SQL"];
    place.check("another plan", &another, USER_ERROR, &parts);
    let stranger = place.start(&worker("1", &[&follows("others")[..], &["--health", &health]].concat()));
    is_not_ready(&stranger, &health, "was not made by this job's authority");
    assert!(matches!(stranger.stop().0, Some(HANDED_OVER | STOPPED)));
    place.check("a worker of the job", &worker("1", &follows("own")), FINISHED, &[]);
    assert_eq!(leading.end(PATIENCE).0, Some(FINISHED));
    assert_eq!(place.lines("out").len(), 1);
}

#[test]
fn a_leader_that_alone_is_told_to_go_and_does_not_come_to_hand_over_is_started_again() {
    let source = "CREATE TABLE numbers (k BIGINT, v BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '500',
        'number-of-rows' = '3000', 'fields.k.min' = '0', 'fields.k.max' = '9');";
    let sink = "CREATE TABLE copies (k BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');";
    let statements = [source, sink, "INSERT INTO copies SELECT k FROM numbers;"];
    let place = Place::new(&manifest("  checkpoint: {interval: 100ms}\n", &statements), "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["run", "job.yaml", "--workers", "2"]).current_dir(place.path("."));
    // No checkpoint is as quick as that.
    command.env("WEIR_DRAIN_TIMEOUT", "1ms").stdout(Stdio::null()).stderr(Stdio::piped());
    let running = Running::new(command.spawn().unwrap());
    let links = || fs::read_dir(place.path(".weir/job/chain")).map_or(0, Iterator::count);
    running.until("checkpoints", || links() > 2);
    assert!(Command::new("kill").args(["-s", "TERM", &leader_of(&running)]).status().unwrap().success());
    let (code, said) = running.end(PATIENCE);
    assert_eq!(code, Some(FINISHED), "{said}");
    for part in
        ["within the time for draining", "worker 0 has ended (exit status: 130) and is started again", "has finished"]
    {
        assert!(said.contains(part), "{part:?} is not said:\n{said}");
    }
    assert_eq!(place.lines("out").len(), 3000);
}

/// The process of worker 0 of a run.
fn leader_of(running: &Running) -> String {
    let run = running.child.id();
    let children = fs::read_to_string(format!("/proc/{run}/task/{run}/children")).unwrap();
    let leads = |pid: &&str| {
        fs::read(format!("/proc/{pid}/cmdline")).unwrap().windows(12).any(|part| part == b"--ordinal\x000\0")
    };
    children.split_whitespace().find(leads).unwrap().to_owned()
}

/// Waits until a worker says this when it is asked whether it is ready, and that it is not.
#[track_caller]
fn is_not_ready(running: &Running, health: &str, why: &str) {
    says(running, health, ("HTTP/1.1 503", why));
}

/// Waits until a worker's answer to whether it is ready begins and goes on like this.
#[track_caller]
fn says(running: &Running, health: &str, (begin, why): (&str, &str)) {
    let mut looks = PATIENCE.as_millis() / 10;
    let mut said = String::new();
    while !(said.starts_with(begin) && said.contains(why)) && looks > 0 {
        looks -= 1;
        let _ = running.ended.recv_timeout(std::time::Duration::from_millis(20));
        said = ready(health);
    }
    assert!(said.starts_with(begin) && said.contains(why), "{said}");
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
