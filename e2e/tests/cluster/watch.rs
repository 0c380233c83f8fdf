//! Waiting for what happens in the cluster: every change is looked at when it is told, until it is what was waited for.

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long something may take that ends: a slow machine with two cores starts pods for minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Objects by name.
pub(crate) type Objects = BTreeMap<String, Value>;

/// Waits until what `kubectl get SELECTION` shows is as wanted. `look` says what was wanted, once it is there.
#[track_caller]
pub(crate) fn until<T>(what: &str, selection: &[&str], mut look: impl FnMut(&Objects) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut objects = Objects::new();
    while Instant::now() < deadline {
        objects.clear();
        if let Some(found) = follow(selection, deadline, &mut objects, &mut look) {
            return found;
        }
    }
    let seen: Vec<String> = objects.values().map(|object| format!("{:#}", object["status"])).collect();
    panic!("{what}: not within {} s. Last seen: {}", PATIENCE.as_secs(), seen.join("\n"))
}

/// One watch, which the server or the deadline may end.
fn follow<T>(
    selection: &[&str],
    deadline: Instant,
    objects: &mut Objects,
    look: &mut impl FnMut(&Objects) -> Option<T>,
) -> Option<T> {
    let left = deadline.saturating_duration_since(Instant::now()).as_secs().max(1);
    let mut watch = Watch::start(selection, left);
    // Nothing may be there yet, and that may be what is waited for.
    let listed = crate::cluster::kubectl(&[&["get", "-o", "name"], selection].concat());
    if listed.is_good()
        && listed.text.is_empty()
        && let Some(found) = look(objects)
    {
        return Some(found);
    }
    let events = watch.child.stdout.take().expect("standard output is a pipe");
    for event in serde_json::Deserializer::from_reader(events).into_iter::<Value>() {
        let event = event.ok()?;
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str()?.to_owned();
        match event["type"].as_str() {
            Some("DELETED") => drop(objects.remove(&name)),
            _ => drop(objects.insert(name, object.clone())),
        }
        if let Some(found) = look(objects) {
            return Some(found);
        }
    }
    None
}

/// A running `kubectl get --watch`, which ends with this value.
struct Watch {
    child: Child,
}

impl Watch {
    fn start(selection: &[&str], seconds: u64) -> Self {
        let child = Command::new("kubectl")
            .arg("get")
            .args(selection)
            .args(["--watch", "--output-watch-events", "-o", "json", &format!("--request-timeout={seconds}s")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("kubectl is on the path");
        Self { child }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries again until something is there. What is asked takes its time, so nothing is spun.
#[track_caller]
pub(crate) fn ask<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
    }
}

/// A condition of an object: its status and reason.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let found = of_type(object, kind)?;
    Some((found["status"].as_str()?, found["reason"].as_str().unwrap_or("")))
}

/// What a condition of an object says; nothing if there is none.
pub(crate) fn message<'a>(object: &'a Value, kind: &str) -> &'a str {
    of_type(object, kind).and_then(|found| found["message"].as_str()).unwrap_or("")
}

fn of_type<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
