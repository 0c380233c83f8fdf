//! The controller dies before and after each of its writes, or acts on what it saw long ago: the end is always the same.

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use crate::api::Fault;
use crate::store::Store;
use crate::world::{NAME, World, job_place, manifest, savepoint_place};

/// A story: what is there at first, and what a user does then.
struct Story {
    name: &'static str,
    before: Before,
    change: fn(&World),
    /// What the user does when the change has been under way for a while.
    then: Option<fn(&World)>,
}

/// Turns of the controller until a user changes something once more.
const A_WHILE: usize = 12;

type Before = fn(&mut World) -> LocalBoxFuture<'_, ()>;

/// What changes how a job runs.
const CHANGES: &[Story] = &[
    story("first start", nothing, |world| world.apply(&manifest(2, "weir:1"))),
    story("scale up", running, |world| world.apply(&parallelism(4))),
    story("scale down", running, |world| world.apply(&parallelism(1))),
    story("upgrade", running, |world| world.apply(&image("weir:2"))),
    story("suspend", running, |world| world.apply(&state("Suspended"))),
    story("resume", suspended, |world| world.apply(&state("Running"))),
];

/// Changes that a newer spec overtakes: the first one cannot come to an end until then.
const OVERTAKEN: &[Story] = &[
    Story {
        name: "upgrade, then another one",
        before: running,
        change: |world| held_up(world, &image("weir:2")),
        then: Some(|world| world.apply(&image("weir:3"))),
    },
    Story {
        name: "upgrade, then as it was, but wider",
        before: running,
        change: |world| held_up(world, &image("weir:2")),
        then: Some(|world| world.apply(&json!({"spec": {"parallelism": 3, "worker": {"image": "weir:1"}}}))),
    },
    Story {
        name: "scale up, then down",
        before: running,
        change: |world| held_up(world, &parallelism(4)),
        then: Some(|world| world.apply(&parallelism(1))),
    },
];

/// What a job is told, and then a newer spec.
type Newer = (Story, fn() -> Value);

const NEWER: &[Newer] = &[
    (story("first start", nothing, |world| world.apply(&manifest(2, "weir:1"))), || image("weir:2")),
    (story("scale up", running, |world| world.apply(&parallelism(4))), || parallelism(1)),
    (story("scale down", running, |world| world.apply(&parallelism(1))), || image("weir:2")),
    (story("upgrade", running, |world| world.apply(&image("weir:2"))), || image("weir:3")),
    (story("upgrade, to be taken back", running, |world| world.apply(&image("weir:2"))), || image("weir:1")),
    (story("upgrade, to be wider", running, |world| world.apply(&image("weir:2"))), || parallelism(3)),
    (story("upgrade, to be suspended", running, |world| world.apply(&image("weir:2"))), || state("Suspended")),
    (story("suspend", running, |world| world.apply(&state("Suspended"))), || state("Running")),
    (story("suspend, to be upgraded", running, |world| world.apply(&state("Suspended"))), || image("weir:2")),
    (story("resume", suspended, |world| world.apply(&state("Running"))), || state("Suspended")),
    (story("back to a savepoint of its own", saved, |world| world.apply(&back_to("monday"))), || image("weir:2")),
    (
        story("a version that does not work", running, |world| {
            world.job.lock().barren.push("weir:2".to_owned());
            world.apply(&image_within_10s("weir:2"));
        }),
        || image("weir:3"),
    ),
];

fn image(image: &str) -> Value {
    json!({"spec": {"worker": {"image": image}}})
}

/// An image that is taken back unless it proves itself soon.
fn image_within_10s(image: &str) -> Value {
    json!({"spec": {"rollback": {"deadline": "10s"}, "worker": {"image": image}}})
}

fn parallelism(parallelism: u32) -> Value {
    json!({"spec": {"parallelism": parallelism}})
}

fn state(state: &str) -> Value {
    json!({"spec": {"state": state}})
}

fn back_to(savepoint: &str) -> Value {
    json!({"spec": {"restoreFrom": {"savepoint": savepoint}}})
}

/// What begins with another state, and what goes back to the version before.
const RETURNS: &[Story] = &[
    story("first start from a savepoint of another job", another_savepoint, |world| {
        world.apply(&manifest(2, "weir:1"));
        world.apply(&back_to("monday"));
    }),
    story("back to a savepoint of its own", saved, |world| {
        world.apply(&back_to("monday"));
    }),
    story("back to a version that the state does not fit any more", upgraded, |world| {
        world.job.lock().misfits.push("weir:1".to_owned());
        world.apply(&image("weir:1"));
    }),
    story("rollback of an upgrade", running, |world| {
        world.job.lock().barren.push("weir:2".to_owned());
        world.apply(&image_within_10s("weir:2"));
    }),
    story("rollback of a version that crashes", running, |world| {
        let mut job = world.job.lock();
        job.fatal.push("weir:2".to_owned());
        job.barren.push("weir:2".to_owned());
        drop(job);
        world.apply(&image_within_10s("weir:2"));
    }),
];

/// Savepoints that people make and delete, and what becomes of the state of a deleted job.
const ENDS: &[Story] = &[
    story("savepoint", running, |world| world.create_savepoint("monday", NAME)),
    story("savepoint of a suspended job", suspended, |world| world.create_savepoint("monday", NAME)),
    story("savepoint deleted", saved, |world| world.delete(&savepoint_place("monday"))),
    story("savepoint of a suspended job deleted", saved_and_suspended, |world| {
        world.delete(&savepoint_place("monday"));
    }),
    story("job deleted, with a savepoint", |world| with_policy(world, "Savepoint"), |world| world.delete(&job_place())),
    story("job deleted, with its state", |world| with_policy(world, "Delete"), |world| world.delete(&job_place())),
];

const fn story(name: &'static str, before: Before, change: fn(&World)) -> Story {
    Story { name, before, change, then: None }
}

/// The first change of a job, for which it cannot stop.
fn held_up(world: &World, change: &Value) {
    world.job.lock().cannot_stop = Some((2, "the bucket is away".to_owned()));
    world.apply(change);
}

fn nothing(_: &mut World) -> LocalBoxFuture<'_, ()> {
    async {}.boxed_local()
}

fn running(world: &mut World) -> LocalBoxFuture<'_, ()> {
    changed(world, nothing, manifest(2, "weir:1"))
}

/// What comes of a change once all is done.
fn changed(world: &mut World, before: Before, change: Value) -> LocalBoxFuture<'_, ()> {
    async move {
        before(world).await;
        world.apply(&change);
        world.settle().await;
    }
    .boxed_local()
}

fn upgraded(world: &mut World) -> LocalBoxFuture<'_, ()> {
    changed(world, running, image("weir:2"))
}

fn suspended(world: &mut World) -> LocalBoxFuture<'_, ()> {
    changed(world, running, state("Suspended"))
}

/// With a savepoint that is complete.
fn saved(world: &mut World) -> LocalBoxFuture<'_, ()> {
    async {
        running(world).await;
        world.create_savepoint("monday", NAME);
        world.settle().await;
    }
    .boxed_local()
}

fn saved_and_suspended(world: &mut World) -> LocalBoxFuture<'_, ()> {
    changed(world, saved, state("Suspended"))
}

fn another_savepoint(world: &mut World) -> LocalBoxFuture<'_, ()> {
    async {
        world.create_savepoint("monday", "asks");
        let path = "s3://weir-state/jobs/shop/asks-0b8bd3f4-3c0f-4b1e-9b1e-1f2e3d4c5b6a/savepoints/monday";
        let status = json!({"status": {"state": "Completed", "path": path}});
        world.server.edit(|store| store.merge(&savepoint_place("monday"), &status, true)).expect("it is there");
    }
    .boxed_local()
}

fn with_policy<'a>(world: &'a mut World, policy: &'static str) -> LocalBoxFuture<'a, ()> {
    async move {
        let mut manifest = manifest(2, "weir:1");
        manifest["spec"]["deletionPolicy"] = json!(policy);
        world.apply(&manifest);
        world.settle().await;
    }
    .boxed_local()
}

/// Tells a story from its beginning on with one fault; how it ends, and the writes that it took.
async fn told(story: &Story, begin: &World, fault: Option<(usize, Fault)>) -> (Value, Vec<String>) {
    let mut world = begin.again();
    let (at, fault) = fault.unwrap_or((usize::MAX, Fault::None));
    world.script(at, fault);
    (story.change)(&world);
    if let Some(then) = story.then {
        for _ in 0..A_WHILE {
            world.turn().await;
        }
        then(&world);
    }
    world.settle().await;
    let writes = world.server.script.lock().seen.clone();
    (world.summary(), writes)
}

/// Every write of these stories, with each of these faults.
async fn always_the_same_end(stories: &[Story], faults: &[Fault]) {
    for story in stories {
        let mut begin = World::new();
        (story.before)(&mut begin).await;
        let (quiet, writes) = told(story, &begin, None).await;
        assert!(writes.len() > 3, "{}: {writes:#?}", story.name);
        for (at, write) in writes.iter().enumerate() {
            for fault in faults {
                let (end, _) = told(story, &begin, Some((at, *fault))).await;
                let what = format!("{}: {fault:?} at write {at} ({write}) of {writes:#?}", story.name);
                assert_eq!(end, quiet, "{what}\n{end:#}\nquiet: {quiet:#}");
            }
        }
    }
}

const DEATHS: &[Fault] = &[Fault::DiesBefore, Fault::DiesAfter];
const ANSWERS: &[Fault] = &[Fault::Answers(409), Fault::Answers(429), Fault::Answers(500), Fault::TimesOutAfter];

#[tokio::test]
async fn a_controller_that_dies_during_a_change_changes_nothing_in_the_end() {
    always_the_same_end(CHANGES, DEATHS).await;
}

#[tokio::test]
async fn refused_and_unanswered_writes_of_a_change_change_nothing_in_the_end() {
    always_the_same_end(CHANGES, ANSWERS).await;
}

/// A newer spec comes at the moment of any write, and the controller may die of that write: what runs in the end is what
/// runs when the newer spec comes after everything else.
#[tokio::test]
async fn a_newer_spec_that_comes_at_any_write_is_what_runs_in_the_end() {
    for (story, newer) in NEWER {
        let mut begin = World::new();
        (story.before)(&mut begin).await;
        let mut world = begin.again();
        (story.change)(&world);
        world.settle().await;
        world.apply(&newer());
        world.settle().await;
        let quiet = world.runs();
        let (_, writes) = told(story, &begin, None).await;
        for (at, write) in writes.iter().enumerate() {
            for fault in [Fault::None, Fault::DiesBefore, Fault::DiesAfter] {
                let mut world = begin.again();
                world.script(at, fault);
                let edit = newer();
                let apply =
                    move |store: &mut Store| drop(store.merge(&job_place(), &edit, false).expect("it is there"));
                world.server.script.lock().edit = Some((at, Box::new(apply)));
                (story.change)(&world);
                world.settle().await;
                assert!(world.server.script.lock().edit.is_none(), "{}: write {at} did not come", story.name);
                let (end, what) = (world.runs(), format!("{}: {fault:?} at write {at} ({write})", story.name));
                assert_eq!(end, quiet, "{what} of {writes:#?}\n{end:#}\nquiet: {quiet:#}");
            }
        }
    }
}

/// A controller looks at everything and is frozen then; another one takes over. The first one wakes, acts on what it saw,
/// and ends; by then the other one has done some of its work, or all.
async fn frozen(stories: &[Story]) {
    for story in stories {
        let mut begin = World::new();
        (story.before)(&mut begin).await;
        let (quiet, _) = told(story, &begin, None).await;
        for turns in [1, 4, 7] {
            for asleep in [Some(4), None] {
                let mut world = begin.again();
                (story.change)(&world);
                for _ in 0..turns {
                    world.turn().await;
                }
                let frozen = world.freeze();
                match asleep {
                    Some(asleep) => {
                        for _ in 0..asleep {
                            world.turn().await;
                        }
                    }
                    None => world.settle().await,
                }
                world.wake(frozen).await;
                world.settle().await;
                let end = world.summary();
                let what = format!("{}: frozen after {turns} turns, for {asleep:?}", story.name);
                assert_eq!(end, quiet, "{what}\n{end:#}\nquiet: {quiet:#}");
            }
        }
    }
}

#[tokio::test]
async fn a_frozen_controller_that_wakes_during_a_change_changes_nothing_in_the_end() {
    frozen(CHANGES).await;
}

#[tokio::test]
async fn a_frozen_controller_that_wakes_during_a_return_changes_nothing_in_the_end() {
    frozen(RETURNS).await;
}

#[tokio::test]
async fn a_frozen_controller_that_wakes_at_an_end_changes_nothing_in_the_end() {
    frozen(ENDS).await;
}

#[tokio::test]
async fn a_controller_that_dies_during_a_return_changes_nothing_in_the_end() {
    always_the_same_end(RETURNS, DEATHS).await;
}

#[tokio::test]
async fn refused_and_unanswered_writes_of_a_return_change_nothing_in_the_end() {
    always_the_same_end(RETURNS, ANSWERS).await;
}

#[tokio::test]
async fn a_controller_that_dies_at_an_end_changes_nothing_in_the_end() {
    always_the_same_end(ENDS, DEATHS).await;
}

#[tokio::test]
async fn refused_and_unanswered_writes_at_an_end_change_nothing_in_the_end() {
    always_the_same_end(ENDS, ANSWERS).await;
}

/// What the stories above end with when nothing happens: the state, revisions that were in force, savepoints that were taken
/// and those that are kept, and what pods did that worked on the state.
#[tokio::test]
async fn stories_end_as_they_should() {
    let endings = CHANGES.iter().chain(OVERTAKEN).chain(RETURNS).chain(ENDS).map(async |story| {
        let mut begin = World::new();
        (story.before)(&mut begin).await;
        let (end, writes) = told(story, &begin, None).await;
        let fields = ["state", "history", "savepoints", "kept", "worked"].map(|field| end[field].to_string());
        assert!(!writes.is_empty(), "{}", story.name);
        format!("{}: {}", story.name, fields.join(" "))
    });
    let endings = futures::future::join_all(endings).await;
    assert_eq!(endings.join("\n"), ENDINGS.join("\n"));
}

const ENDINGS: &[&str] = &[
    r#"first start: "Running" [1] 0 [] []"#,
    r#"scale up: "Running" [1,2] 0 [] []"#,
    r#"scale down: "Running" [1,2] 0 [] []"#,
    r#"upgrade: "Running" [1,2] 0 [] []"#,
    r#"suspend: "Suspended" [1] 1 ["suspend-1"] []"#,
    r#"resume: "Running" [1,2] 1 [] []"#,
    r#"upgrade, then another one: "Running" [1,3] 0 [] []"#,
    r#"upgrade, then as it was, but wider: "Running" [1,3] 0 [] []"#,
    r#"scale up, then down: "Running" [1,3] 0 [] []"#,
    r#"first start from a savepoint of another job: "Running" [1] 0 [] []"#,
    r#"back to a savepoint of its own: "Running" [1,2] 1 ["monday"] []"#,
    r#"back to a version that the state does not fit any more: "Running" [1,2] 0 [] []"#,
    r#"rollback of an upgrade: "Running" [1,2,3] 0 [] []"#,
    r#"rollback of a version that crashes: "Running" [1,2,3] 0 [] []"#,
    r#"savepoint: "Running" [1] 1 ["monday"] []"#,
    r#"savepoint of a suspended job: "Suspended" [1] 1 ["suspend-1"] ["savepoint create monday /etc/weir/job.yaml"]"#,
    r#"savepoint deleted: "Running" [1] 1 [] []"#,
    r#"savepoint of a suspended job deleted: "Suspended" [1] 2 ["monday","suspend-1"] ["savepoint delete monday /etc/weir/job.yaml"]"#,
    r#"job deleted, with a savepoint: null [1] 1 ["final-00000000"] []"#,
    r#"job deleted, with its state: null [1] 0 [] ["state delete /etc/weir/job.yaml"]"#,
];

/// Who waits for a condition of a Savepoint whose policy was changed since sees that it is of what there is now.
#[tokio::test]
async fn the_conditions_of_a_savepoint_are_of_its_last_change() {
    let mut world = World::new();
    saved(&mut world).await;
    let policy = json!({"spec": {"deletionPolicy": "Retain"}});
    world.server.edit(|store| store.merge(&savepoint_place("monday"), &policy, false)).expect("it is there");
    world.settle().await;
    // The summary compares the generations.
    assert_eq!(world.summary()["savepointObjects"][0][2], "Completed");
}
