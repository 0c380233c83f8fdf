//! The controller dies before and after each of its writes: the end is always the same.

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use crate::api::Fault;
use crate::world::{World, manifest};

/// A story: what is there at first, and what a user does then.
struct Story {
    name: &'static str,
    before: fn(&mut World) -> LocalBoxFuture<'_, ()>,
    change: fn(&World),
}

const STORIES: [Story; 6] = [
    Story {
        name: "first start",
        before: |_| async {}.boxed_local(),
        change: |world| world.apply(&manifest(2, "weir:1")),
    },
    Story { name: "scale up", before: running, change: |world| world.apply(&json!({"spec": {"parallelism": 4}})) },
    Story { name: "scale down", before: running, change: |world| world.apply(&json!({"spec": {"parallelism": 1}})) },
    Story {
        name: "upgrade",
        before: running,
        change: |world| world.apply(&json!({"spec": {"worker": {"image": "weir:2"}}})),
    },
    Story { name: "suspend", before: running, change: |world| world.apply(&json!({"spec": {"state": "Suspended"}})) },
    Story { name: "resume", before: suspended, change: |world| world.apply(&json!({"spec": {"state": "Running"}})) },
];

fn running(world: &mut World) -> LocalBoxFuture<'_, ()> {
    async {
        world.apply(&manifest(2, "weir:1"));
        world.settle().await;
    }
    .boxed_local()
}

fn suspended(world: &mut World) -> LocalBoxFuture<'_, ()> {
    async {
        running(world).await;
        world.apply(&json!({"spec": {"state": "Suspended"}}));
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
    world.settle().await;
    let writes = world.server.script.lock().seen.clone();
    (world.summary(), writes)
}

/// Every write of every story, with each of these faults.
async fn always_the_same_end(faults: &[Fault]) {
    for story in &STORIES {
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

#[tokio::test]
async fn a_controller_that_dies_before_or_after_any_write_changes_nothing_in_the_end() {
    always_the_same_end(&[Fault::DiesBefore, Fault::DiesAfter]).await;
}

#[tokio::test]
async fn refused_and_unanswered_writes_change_nothing_in_the_end() {
    always_the_same_end(&[Fault::Answers(409), Fault::Answers(429), Fault::Answers(500), Fault::TimesOutAfter]).await;
}
