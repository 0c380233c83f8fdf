//! A worker and leaders that come, go, fall silent and say things too late.

use proptest::prelude::*;
use weir_protocol::follower::{Action, AfterRefusal, Concern, Connection, Event, Follower, Options, Word};
use weir_protocol::retry::Pace;
use weir_protocol::{Generation, Now};

type Heard = Event<&'static str, &'static str>;

fn options() -> Options {
    Options {
        heartbeat_ms: 1_000,
        lost_after_ms: 3_000,
        connect_ms: 5_000,
        welcome_ms: 10_000,
        pace: Pace { initial_ms: 100, max_ms: 1_000, multiplier: 2.0, jitter: 0.0 },
        seed: 1,
        after_refusal: AfterRefusal::LookAgain,
    }
}

fn connected(connection: u64) -> Heard {
    Event::Connected(Connection(connection))
}

fn lost(connection: u64) -> Heard {
    Event::Lost { connection: Connection(connection), message: "it broke".to_owned() }
}

fn heard(connection: u64, word: Word<&'static str>) -> Heard {
    Event::Heard { connection: Connection(connection), word }
}

fn told(connection: u64, concern: Concern, command: &'static str) -> Heard {
    heard(connection, Word::Command(concern, command))
}

fn deploy(connection: u64, generation: u64) -> Heard {
    told(connection, Concern::Deploy(Generation(generation)), "deploy")
}

fn cancel(connection: u64, generation: u64) -> Heard {
    told(connection, Concern::Cancel(Generation(generation)), "cancel")
}

fn shown(action: &Action<&'static str, &'static str>) -> String {
    match action {
        Action::Dial(connection) => format!("dial {}", connection.0),
        Action::Register(connection) => format!("register {}", connection.0),
        Action::TellRegistered => "registered".to_owned(),
        Action::Beat(connection) => format!("beat {}", connection.0),
        Action::Perform(command) => (*command).to_owned(),
        Action::Say(connection, report) => format!("say {} {report}", connection.0),
        Action::HangUp(connection) => format!("hang up {}", connection.0),
        Action::EndTasks => "end tasks".to_owned(),
        Action::TellAway { message } => format!("away: {message}"),
        Action::End(outcome) => format!("{outcome:?}"),
    }
}

/// Each event with what follows from it at that moment, in milliseconds.
fn check_with(options: Options, history: Vec<(u64, Heard, &[&str])>) {
    let mut follower = Follower::new(options);
    for (at, event, expected) in history {
        let said = format!("{event:?} at {at}");
        let actions: Vec<String> = follower.step(Now(at), event).iter().map(shown).collect();
        assert_eq!(actions, expected, "{said}");
    }
}

fn check(history: Vec<(u64, Heard, &[&str])>) {
    check_with(options(), history);
}

#[test]
fn it_registers_beats_and_does_what_it_is_told() {
    check(vec![
        (0, Event::Tick, &["dial 1"]),
        (5, connected(1), &["register 1"]),
        (6, heard(1, Word::Heartbeat), &[]),
        (7, heard(1, Word::Welcome), &["registered", "beat 1"]),
        (8, deploy(1, 1), &["deploy"]),
        (9, told(1, Concern::Tasks(Generation(1)), "barrier"), &["barrier"]),
        (10, Event::Report("acked"), &["say 1 acked"]),
        (11, told(1, Concern::Worker, "forget"), &["forget"]),
        (1_007, Event::Tick, &["beat 1"]),
        (2_000, heard(1, Word::Done("it has finished".to_owned())), &[r#"Ended("it has finished")"#]),
        (9_000, Event::Tick, &[]),
        (9_000, Event::Left("left"), &[]),
    ]);
}

#[test]
fn it_ends_its_tasks_before_it_looks_for_another_leader() {
    let silent = "away: nothing was heard of the leader for 3000 ms";
    check(vec![
        (0, Event::Tick, &["dial 1"]),
        (0, connected(1), &["register 1"]),
        (0, heard(1, Word::Welcome), &["registered", "beat 1"]),
        (0, deploy(1, 1), &["deploy"]),
        (2_900, Event::Tick, &["beat 1"]),
        (3_000, Event::Tick, &["hang up 1", silent, "end tasks"]),
        (20_000, Event::Tick, &[]),
        (20_000, Event::Report("late"), &[]),
        (20_000, Event::TasksEnded, &[]),
        (20_099, Event::Tick, &[]),
        (20_100, Event::Tick, &["dial 2"]),
        (20_100, Event::Report("late"), &[]),
        (20_200, connected(2), &["register 2"]),
    ]);
}

#[test]
fn delays_grow_until_a_leader_says_welcome() {
    check(vec![
        (0, Event::Tick, &["dial 1"]),
        (0, lost(1), &["hang up 1", "away: it broke"]),
        (100, Event::Tick, &["dial 2"]),
        (100, connected(2), &["register 2"]),
        (10_099, Event::Tick, &[]),
        (10_100, Event::Tick, &["hang up 2", "away: the leader did not say welcome in time"]),
        (10_299, Event::Tick, &[]),
        (10_300, Event::Tick, &["dial 3"]),
        (15_300, Event::Tick, &["hang up 3", "away: there was no connection to it within 5000 ms"]),
        (15_700, Event::Tick, &["dial 4"]),
        (15_700, connected(4), &["register 4"]),
        (15_700, heard(4, Word::Welcome), &["registered", "beat 4"]),
        (15_700, lost(4), &["hang up 4", "away: it broke", "end tasks"]),
        (15_700, Event::TasksEnded, &[]),
        (15_800, Event::Tick, &["dial 5"]),
    ]);
}

#[test]
fn what_comes_over_an_old_connection_changes_nothing() {
    check(vec![
        (0, Event::Tick, &["dial 1"]),
        (0, lost(1), &["hang up 1", "away: it broke"]),
        (100, Event::Tick, &["dial 2"]),
        (100, connected(1), &[]),
        (100, connected(2), &["register 2"]),
        (100, heard(1, Word::Welcome), &[]),
        (100, heard(2, Word::Welcome), &["registered", "beat 2"]),
        (100, deploy(1, 9), &[]),
        (100, deploy(2, 2), &["deploy"]),
        (100, heard(1, Word::Replaced("by another".to_owned())), &[]),
        (100, heard(1, Word::Failed("it has failed".to_owned())), &[]),
        (100, lost(1), &[]),
    ]);
}

#[test]
fn a_generation_starts_once_and_never_after_a_newer_one_or_its_own_end() {
    check(vec![
        (0, Event::Tick, &["dial 1"]),
        (0, connected(1), &["register 1"]),
        (0, heard(1, Word::Welcome), &["registered", "beat 1"]),
        (0, deploy(1, 2), &["deploy"]),
        (0, deploy(1, 2), &[]),
        (0, deploy(1, 1), &[]),
        (0, told(1, Concern::Tasks(Generation(1)), "barrier"), &[]),
        (0, cancel(1, 1), &["cancel"]),
        (0, told(1, Concern::Tasks(Generation(2)), "barrier"), &["barrier"]),
        (0, cancel(1, 3), &["cancel"]),
        (0, deploy(1, 3), &[]),
        (0, deploy(1, 4), &["deploy"]),
    ]);
}

#[test]
fn who_is_not_wanted_ends_or_looks_again_as_it_was_told_to() {
    let refused = || heard(1, Word::Refused("another build".to_owned()));
    let begun = |word: Heard, follows: &'static [&'static str]| -> Vec<(u64, Heard, &[&str])> {
        vec![(0, Event::Tick, &["dial 1"]), (0, connected(1), &["register 1"]), (0, word, follows)]
    };
    check(begun(refused(), &["hang up 1", "away: it does not take this worker: another build"]));
    let ends = Options { after_refusal: AfterRefusal::End, ..options() };
    check_with(ends, begun(refused(), &[r#"Refused("another build")"#]));
    let replaced = heard(1, Word::Replaced("a newer one".to_owned()));
    check(begun(replaced, &[r#"Replaced("a newer one")"#]));
    let closed = heard(1, Word::Closed("silence".to_owned()));
    check(begun(closed, &["hang up 1", "away: the leader gave this worker up: silence"]));
}

#[test]
fn who_leaves_says_so_last_wherever_it_stands() {
    check(vec![
        (0, Event::Tick, &["dial 1"]),
        (0, connected(1), &["register 1"]),
        (0, heard(1, Word::Welcome), &["registered", "beat 1"]),
        (0, Event::Report("leaving"), &["say 1 leaving"]),
        (0, Event::Left("left"), &["say 1 left", "Left"]),
    ]);
    check(vec![(0, Event::Tick, &["dial 1"]), (0, Event::Left("left"), &["Left"]), (0, connected(1), &[])]);
    check(vec![
        (0, Event::Tick, &["dial 1"]),
        (0, heard(1, Word::Welcome), &["registered", "beat 1"]),
        (0, lost(1), &["hang up 1", "away: it broke", "end tasks"]),
        (0, Event::Left("left"), &["Left"]),
        (0, Event::TasksEnded, &[]),
    ]);
}

fn any_event() -> impl Strategy<Value = Heard> {
    let connection = 1_u64..6;
    let word = prop_oneof![
        4 => Just(Word::Welcome),
        4 => Just(Word::Heartbeat),
        1 => Just(Word::Closed("closed".to_owned())),
        1 => Just(Word::Refused("refused".to_owned())),
        4 => (0_u64..6).prop_map(|generation| Word::Command(Concern::Deploy(Generation(generation)), "deploy")),
        4 => (0_u64..6).prop_map(|generation| Word::Command(Concern::Cancel(Generation(generation)), "cancel")),
        4 => (0_u64..6).prop_map(|generation| Word::Command(Concern::Tasks(Generation(generation)), "barrier")),
    ];
    prop_oneof![
        6 => Just(Event::Tick),
        4 => connection.clone().prop_map(connected),
        1 => connection.clone().prop_map(lost),
        8 => (connection, word).prop_map(|(connection, word)| heard(connection, word)),
        2 => Just(Event::Report("report")),
        3 => Just(Event::TasksEnded),
    ]
}

proptest! {
    /// Whatever comes: nobody registers or speaks over a connection that is not the newest, none is registered over while
    /// tasks run, and a worker without a leader is never without a next look for one.
    #[test]
    fn it_registers_only_over_its_newest_connection_and_without_tasks(
        events in prop::collection::vec((0_u64..2_000, any_event()), 1..80)
    ) {
        let mut follower = Follower::new(options());
        let (mut now, mut newest, mut tasks, mut waits) = (0, 0, false, false);
        for (later, event) in events {
            now += later;
            waits &= event != Event::TasksEnded;
            for action in follower.step(Now(now), event) {
                match action {
                    Action::Dial(connection) => {
                        prop_assert!(!tasks, "tasks ran when it dialed");
                        prop_assert!(connection.0 > newest);
                        newest = connection.0;
                    }
                    Action::Register(connection) => {
                        prop_assert!(!tasks && !waits, "tasks ran when it registered");
                        prop_assert_eq!(connection.0, newest);
                    }
                    Action::Beat(connection) | Action::Say(connection, _) => {
                        prop_assert_eq!(connection.0, newest);
                    }
                    Action::Perform("deploy") => tasks = true,
                    Action::EndTasks => (tasks, waits) = (false, true),
                    _ => {}
                }
            }
            prop_assert!(waits || follower.deadline().is_some(), "it waits for nothing");
        }
    }
}
