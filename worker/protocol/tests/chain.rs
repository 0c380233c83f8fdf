//! The chain's pure functions: codecs, folding, retention, fit and the way back.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use weir_protocol::chain::{
    Claim, Claimant, Committables, DecodeError, DroppedState, FallbackError, FoldError, Link, Manifest, Misfit,
    OperatorPlan, Origin, Pin, Plan, Sizes, Start, Stop, Terms, check_fit, decode_assignment, decode_claim,
    decode_link, decode_pointer, encode_claim, encode_link, fallback, fold, is_orphan, retire, subtract_ranges,
};
use weir_protocol::key_group::{KeyGroupMap, MaxParallelism};
use weir_protocol::snapshot::{
    Committable, InFlightFile, KeyGroupRange, OperatorSnapshot, SnapshotCost, SplitProgress, StateFile, TaskSnapshot,
};
use weir_protocol::{CheckpointId, EdgeId, EventTime, Generation, KeyGroup, LinkNumber, OperatorId, TaskId};

fn groups() -> MaxParallelism {
    MaxParallelism::new(8).expect("eight key groups")
}

fn operator(name: &str) -> OperatorId {
    OperatorId(name.to_owned())
}

fn plan() -> Plan {
    let known = |kind: &str| OperatorPlan {
        kind: kind.to_owned(),
        schema: serde_json::json!({"v": 1}),
        legend: serde_json::Value::Null,
    };
    Plan {
        fingerprint: "f".to_owned(),
        operators: [(operator("src"), known("source")), (operator("agg"), known("aggregate"))].into(),
        ..Plan::default()
    }
}

fn range(start: u16, end: u16) -> KeyGroupRange {
    KeyGroupRange { start: KeyGroup(start), end: KeyGroup(end) }
}

fn file(path: &str, ranges: &[KeyGroupRange]) -> StateFile {
    StateFile {
        path: path.to_owned(),
        table: "t".to_owned(),
        sequence: 1,
        bytes: 10,
        rows: 1,
        checksum: 7,
        key_groups: ranges.to_vec(),
    }
}

fn committables(ids: &[&str]) -> Committables {
    let one = |id: &&str| (id.to_string(), Committable { id: id.to_string(), payload: serde_json::Value::Null });
    match ids {
        [] => Committables::new(),
        ids => [(operator("sink"), ids.iter().map(one).collect())].into(),
    }
}

fn manifest(number: u64, files: &[&str], ids: &[&str]) -> Manifest {
    let mut manifest = Manifest {
        job: "job".to_owned(),
        number: LinkNumber(number),
        generation: Generation(1),
        attempt: format!("a{number}"),
        checkpoint: CheckpointId(number),
        completed_unix_ms: 5,
        terms: Terms::default(),
        parallelism: 2,
        max_parallelism: groups(),
        start: LinkNumber(1),
        previous: None,
        plan: "f".to_owned(),
        operators: BTreeMap::new(),
        in_flight: Vec::new(),
        committables: committables(ids),
        sinks: BTreeSet::from([operator("sink")]),
        savepoints: BTreeMap::new(),
        stop: None,
        holds: BTreeMap::new(),
        sizes: Sizes::default(),
    };
    let state = fold(&BTreeMap::new(), &Committables::new(), &BTreeSet::new(), &plan(), &BTreeMap::new());
    manifest.operators = state.expect("nothing to contradict").operators;
    let aggregate = manifest.operators.get_mut(&operator("agg")).expect("it is in the plan");
    aggregate.files = files.iter().map(|path| file(path, &[range(0, 8)])).collect();
    manifest
}

fn start(number: u64, origin: Origin) -> Start {
    Start {
        restored_from: None,
        left: Vec::new(),
        job: "job".to_owned(),
        number: LinkNumber(number),
        generation: Generation(1),
        attempt: format!("s{number}"),
        claimant: Claimant { revision: 1, attempt: 1, pod: "p".to_owned() },
        started_unix_ms: 1,
        terms: Terms::default(),
        key_groups: KeyGroupMap::initial(groups(), 2).expect("two of eight"),
        plan: "f".to_owned(),
        origin,
        skipped: BTreeSet::new(),
        committables: Committables::new(),
        sinks: BTreeSet::from([operator("sink")]),
        savepoints: BTreeMap::new(),
        stop: None,
        holds: BTreeMap::new(),
    }
}

fn chain(links: Vec<Link>) -> BTreeMap<LinkNumber, Link> {
    links.into_iter().map(|link| (link.number(), link)).collect()
}

fn checkpoint(manifest: Manifest) -> Link {
    Link::Checkpoint(Box::new(manifest))
}

#[test]
fn every_flipped_bit_and_every_truncation_of_a_link_is_found_and_named() {
    let link = checkpoint(manifest(3, &["state/agg/1-a"], &["x"]));
    let bytes = encode_link(&link);
    assert_eq!(decode_link(LinkNumber(3), &bytes), Ok(link));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let error = decode_link(LinkNumber(3), &damaged).expect_err("a flipped bit");
            assert!(error.to_string().contains("chain/00000000000000000003"), "{error}");
        }
        assert!(decode_link(LinkNumber(3), &bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn an_object_in_a_wrong_place_or_of_another_kind_is_refused() {
    let bytes = encode_link(&checkpoint(manifest(3, &[], &[])));
    assert!(matches!(decode_link(LinkNumber(4), &bytes), Err(DecodeError::Place { .. })));
    assert!(matches!(decode_claim(Generation(3), &bytes), Err(DecodeError::Kind { .. })));
    let claimant = Claimant { revision: 1, attempt: 2, pod: "p".to_owned() };
    let claim = Claim { job: "job".to_owned(), generation: Generation(2), claimant, incarnation: "i".to_owned() };
    assert_eq!(decode_claim(Generation(2), &encode_claim(&claim)), Ok(claim));
}

proptest! {
    #[test]
    fn random_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode_link(LinkNumber(1), &bytes).is_err());
        prop_assert!(decode_claim(Generation(1), &bytes).is_err());
        prop_assert!(decode_pointer("a", &bytes).is_err());
        prop_assert!(decode_assignment(1, &bytes).is_err());
    }

    #[test]
    fn subtracting_ranges_agrees_with_sets(
        from in proptest::collection::vec((0_u16..20, 0_u16..20), 0..5),
        removed in proptest::collection::vec((0_u16..20, 0_u16..20), 0..5),
    ) {
        let ranges = |pairs: &[(u16, u16)]| pairs.iter().map(|(a, b)| range(*a, *b)).collect::<Vec<_>>();
        let set = |ranges: &[KeyGroupRange]| {
            ranges.iter().flat_map(|range| range.start.0..range.end.0).collect::<BTreeSet<u16>>()
        };
        let (from, removed) = (ranges(&from), ranges(&removed));
        let left = subtract_ranges(&from, &removed);
        let expected: BTreeSet<u16> = set(&from).difference(&set(&removed)).copied().collect();
        prop_assert_eq!(set(&left), expected);
        prop_assert!(left.windows(2).all(|pair| pair[0].end < pair[1].start || pair[0].end <= pair[1].start));
    }
}

fn snapshot(subtask: u32, parts: Vec<(&str, OperatorSnapshot)>) -> (TaskId, TaskSnapshot) {
    let task = TaskId { chain: 0, subtask };
    let operators = parts.into_iter().map(|(name, part)| (operator(name), part)).collect();
    (
        task,
        TaskSnapshot { task, operators, in_flight: None, cost: SnapshotCost { bytes: 10, ..SnapshotCost::default() } },
    )
}

fn split(name: &str, position: u64, finished: bool) -> SplitProgress {
    SplitProgress { split: name.to_owned(), position: position.into(), watermark: EventTime(1), finished }
}

#[test]
fn folding_what_a_task_repeats_changes_nothing() {
    let aggregated = OperatorSnapshot {
        added: vec![file("b", &[range(0, 4)])],
        dropped: [("a".to_owned(), vec![range(0, 4)])].into(),
        counters: [("late".to_owned(), 2)].into(),
        committables: vec![Committable { id: "c".to_owned(), payload: serde_json::Value::Null }],
        ..OperatorSnapshot::default()
    };
    let read = OperatorSnapshot { splits: vec![split("1", 5, true)], ..OperatorSnapshot::default() };
    let snapshots = BTreeMap::from([
        snapshot(0, vec![("agg", aggregated.clone()), ("src", read)]),
        snapshot(1, vec![("agg", OperatorSnapshot { counters: aggregated.counters.clone(), ..Default::default() })]),
    ]);
    let mut base = manifest(3, &["a"], &[]).operators;
    let source = base.get_mut(&operator("src")).expect("it is in the plan");
    source.unfinished = [("1".to_owned(), split("1", 2, false)), ("2".to_owned(), split("2", 9, false))].into();
    let once = fold(&base, &Committables::new(), &BTreeSet::new(), &plan(), &snapshots).expect("no contradiction");
    let state = &once.operators[&operator("agg")];
    let left: Vec<_> = state.files.iter().map(|file| (file.path.as_str(), file.key_groups.clone())).collect();
    assert_eq!(left, [("a", vec![range(4, 8)]), ("b", vec![range(0, 4)])]);
    assert_eq!(state.counters["late"], 4);
    let source = &once.operators[&operator("src")];
    assert_eq!(source.finished, BTreeSet::from(["1".to_owned()]));
    assert_eq!(source.unfinished.keys().collect::<Vec<_>>(), ["2"], "an unmentioned split stays where it was");
    let twice = fold(&once.operators, &once.committables, &BTreeSet::new(), &plan(), &snapshots);
    assert_eq!(twice, Ok(once.clone()));
    let confirmed = BTreeSet::from(["c".to_owned()]);
    let later = fold(&once.operators, &once.committables, &confirmed, &plan(), &snapshots).expect("no contradiction");
    assert!(later.committables.is_empty(), "a confirmed committable does not come back");
}

fn in_flight(path: &str) -> InFlightFile {
    InFlightFile {
        path: path.to_owned(),
        edges: [EdgeId("src -> agg".to_owned())].into(),
        subtask: 1,
        key_groups: vec![range(4, 8)],
        bytes: 30,
        rows: 3,
        checksum: 9,
    }
}

#[test]
fn rows_in_flight_belong_to_their_checkpoint_alone() {
    let (task, mut overtaken) = snapshot(1, vec![("agg", OperatorSnapshot::default())]);
    overtaken.in_flight = Some(in_flight("state/in-flight/1-a"));
    let aligned = BTreeMap::from([snapshot(0, Vec::new()), snapshot(1, Vec::new())]);
    let before = manifest(3, &["a"], &[]).operators;
    let fold = |snapshots: &BTreeMap<_, _>| fold(&before, &Committables::new(), &BTreeSet::new(), &plan(), snapshots);
    let with = fold(&BTreeMap::from([snapshot(0, Vec::new()), (task, overtaken)])).expect("no contradiction");
    assert_eq!(with.in_flight, [in_flight("state/in-flight/1-a")]);
    assert_eq!((with.sizes.in_flight_bytes, with.sizes.total_bytes, with.sizes.files), (30, 40, 2));
    assert_eq!(fold(&aligned).expect("no contradiction").in_flight, []);
}

#[test]
fn a_build_that_does_not_know_rows_in_flight_reads_no_link_with_them() {
    let mut link = manifest(2, &["a"], &[]);
    let version = |link: &Link| {
        let bytes = encode_link(link);
        assert_eq!(decode_link(link.number(), &bytes).as_ref(), Ok(link));
        let header = String::from_utf8(bytes).expect("JSON").lines().next().expect("a header").to_owned();
        serde_json::from_str::<serde_json::Value>(&header).expect("JSON")["version"].as_u64()
    };
    assert_eq!(version(&checkpoint(link.clone())), Some(1));
    link.in_flight.push(in_flight("state/in-flight/1-a"));
    assert_eq!(version(&checkpoint(link.clone())), Some(2));
    let origin = Origin::Foreign { location: "elsewhere".to_owned(), manifest: Box::new(link), pin: None };
    assert_eq!(version(&Link::Start(Box::new(start(3, origin)))), Some(2));
}

#[test]
fn files_of_rows_in_flight_are_kept_and_deleted_like_state() {
    let mut older = manifest(2, &["a"], &[]);
    older.in_flight.push(in_flight("state/in-flight/1-a"));
    let head = checkpoint(manifest(3, &["a"], &[]));
    let links = chain(vec![checkpoint(older), head.clone()]);
    let files = |retain| retire(&links, &BTreeSet::new(), &head, retain).files;
    assert_eq!((files(2), files(1)), (BTreeSet::new(), BTreeSet::from(["state/in-flight/1-a".to_owned()])));
    assert!(!is_orphan("state/in-flight/1-a", Generation(2), &links));
    assert!(is_orphan("state/in-flight/1-b", Generation(2), &links));
}

#[test]
fn contradicting_snapshots_are_refused() {
    let holds = |position| OperatorSnapshot { splits: vec![split("1", position, false)], ..Default::default() };
    let twice = BTreeMap::from([snapshot(0, vec![("src", holds(1))]), snapshot(1, vec![("src", holds(2))])]);
    let check = |snapshots| fold(&BTreeMap::new(), &Committables::new(), &BTreeSet::new(), &plan(), snapshots);
    assert!(matches!(check(&twice), Err(FoldError::SplitTwice { .. })));
    let unknown = BTreeMap::from([snapshot(0, vec![("other", holds(1))])]);
    assert!(matches!(check(&unknown), Err(FoldError::UnknownOperator { .. })));
}

#[test]
fn retention_deletes_only_what_a_retired_manifest_alone_references() {
    let mut newest = manifest(5, &["c", "d"], &[]);
    newest.savepoints = [("kept".to_owned(), Pin { uid: "u".to_owned(), link: LinkNumber(2) })].into();
    let head = checkpoint(newest);
    let links = chain(vec![
        Link::Start(Box::new(start(1, Origin::Empty))),
        checkpoint(manifest(2, &["a"], &[])),
        checkpoint(manifest(3, &["a", "b"], &[])),
        checkpoint(manifest(4, &["b", "c"], &[])),
        head.clone(),
    ]);
    let check = |retain, retired: &[u64], files: &[&str]| {
        let retirement = retire(&links, &BTreeSet::new(), &head, retain);
        assert_eq!(retirement.links, retired.iter().map(|number| LinkNumber(*number)).collect(), "retain {retain}");
        assert_eq!(retirement.files, files.iter().map(ToString::to_string).collect(), "retain {retain}");
    };
    check(3, &[], &[]);
    check(2, &[3], &[]);
    check(1, &[3, 4], &["b"]);
    check(0, &[3, 4], &["b"]);
}

#[test]
fn no_file_is_deleted_as_long_as_a_link_that_cannot_be_read_may_be_repaired() {
    let mut newest = manifest(5, &["c"], &[]);
    newest.savepoints = [("kept".to_owned(), Pin { uid: "u".to_owned(), link: LinkNumber(3) })].into();
    let head = checkpoint(newest);
    // Link 3 is pinned and damaged; it references what link 2 does.
    let links = chain(vec![checkpoint(manifest(2, &["a"], &[])), checkpoint(manifest(4, &["c"], &[])), head.clone()]);
    let retirement = retire(&links, &[LinkNumber(3)].into(), &head, 1);
    assert_eq!((retirement.links, retirement.files), ([LinkNumber(2), LinkNumber(4)].into(), BTreeSet::new()));
}

#[test]
fn only_unreferenced_files_of_earlier_generations_are_orphans() {
    let links = chain(vec![checkpoint(manifest(2, &["state/agg/1-a"], &[]))]);
    let check = |name, expected| assert_eq!(is_orphan(name, Generation(2), &links), expected, "{name}");
    check("state/agg/1-a", false);
    check("state/agg/1-b", true);
    check("state/agg/2-b", false);
    check("state/agg/x-b", false);
    check("chain/1-b", false);
}

#[test]
fn the_checkpoint_before_is_used_only_if_nothing_was_committed_since() {
    let older = checkpoint(manifest(2, &["a"], &["x"]));
    let quiet = |number| {
        let mut manifest = manifest(number, &["a"], &["x"]);
        manifest.sinks.clear();
        manifest
    };
    let check = |links: Vec<Link>, expected: Result<Origin, FallbackError>| {
        assert_eq!(fallback(&chain(links), LinkNumber(3)), expected);
    };
    let committed = FallbackError::Committed { bad: LinkNumber(3), older: LinkNumber(2) };
    // The manifest is readable, its files are not.
    check(vec![older.clone(), checkpoint(manifest(3, &["b"], &["x"]))], Ok(Origin::Link(LinkNumber(2))));
    check(vec![older.clone(), checkpoint(manifest(3, &["b"], &["x", "y"]))], Err(committed.clone()));
    // The manifest is not readable: the plan before says whether a sink commits.
    check(vec![older], Err(committed));
    check(vec![checkpoint(quiet(2))], Ok(Origin::Link(LinkNumber(2))));
    check(vec![], Err(FallbackError::NoOlder { bad: LinkNumber(3) }));
    // A gap hides what happened.
    check(vec![checkpoint(quiet(1))], Err(FallbackError::Gap { bad: LinkNumber(3), older: LinkNumber(1) }));
    // A job that began anew goes back to nothing, not to the run before.
    let mut anew = start(2, Origin::Empty);
    anew.sinks.clear();
    check(vec![checkpoint(quiet(1)), Link::Start(Box::new(anew))], Ok(Origin::Empty));
}

#[test]
fn a_plan_that_lost_or_changed_a_state_does_not_fit() {
    let old = manifest(2, &[], &[]);
    assert_eq!(check_fit(&old, &plan(), groups()), []);
    let mut changed = plan();
    changed.operators.get_mut(&operator("agg")).expect("it is there").schema = serde_json::json!({"v": 2});
    assert!(matches!(check_fit(&old, &changed, groups()).as_slice(), [Misfit::Changed { .. }]));
    let mut lost = plan();
    lost.operators.remove(&operator("agg"));
    assert!(matches!(check_fit(&old, &lost, groups()).as_slice(), [Misfit::Dropped { .. }]));
    lost.dropped_state = DroppedState::Allow;
    assert_eq!(check_fit(&old, &lost, groups()), []);
    let mut overtaken = old.clone();
    overtaken.in_flight.push(in_flight("f"));
    assert!(matches!(check_fit(&overtaken, &plan(), groups()).as_slice(), [Misfit::InFlight { .. }]));
    let edges = [EdgeId("src -> agg".to_owned())].into();
    assert_eq!(check_fit(&overtaken, &Plan { edges, ..plan() }, groups()), []);
    let more = MaxParallelism::new(16).expect("sixteen key groups");
    assert!(matches!(check_fit(&old, &plan(), more).as_slice(), [Misfit::MaxParallelism { old: 8, new: 16 }]));
}

#[test]
fn a_start_stands_for_the_state_that_it_names() {
    let mut begun = start(4, Origin::Link(LinkNumber(2)));
    begun.stop = Some(Stop::Suspended);
    let link = Link::Start(Box::new(begun));
    assert_eq!(link.origin(), Origin::Link(LinkNumber(2)));
    assert_eq!(link.stop(), Some(Stop::Suspended));
    assert_eq!(decode_link(LinkNumber(4), &encode_link(&link)), Ok(link));
}
