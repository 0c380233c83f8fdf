//! The rules between fields: what CEL checks on the API server, with the same meaning, plus what CEL cannot say.

use super::mistake::Mistake;
use crate::manifest::{Content, Node};
use crate::{Duration, MAX_JOB_NAME, RestartSpec, StreamJob, StreamJobSpec};

/// A group of fields of which one is written.
struct Choice {
    path: &'static str,
    names: &'static [&'static str],
    required: bool,
}

const CHOICES: [Choice; 4] = [
    Choice { path: "spec.pipeline", names: &["sql", "sqlFrom"], required: true },
    Choice { path: "spec.storage", names: &["s3", "local", "persistentVolumeClaim"], required: true },
    Choice { path: "spec.restart", names: &["exponentialDelay", "fixedDelay", "failureRate", "none"], required: true },
    Choice { path: "spec.restoreFrom", names: &["savepoint", "path", "job"], required: false },
];

/// Checks the rules between fields. `shape` are the mistakes found so far: what they made unreadable is not judged.
pub(crate) fn check(job: &StreamJob, root: &Node, shape: &[Mistake]) -> Vec<Mistake> {
    let mut judge = Judge { root, shape, mistakes: Vec::new() };
    judge.name(job.metadata.name.as_deref().unwrap_or_default());
    judge.namespace(job.metadata.namespace.as_deref());
    for choice in &CHOICES {
        judge.choice(choice);
    }
    judge.numbers(&job.spec);
    judge.checkpoint(&job.spec);
    judge.restart(&job.spec.restart);
    judge.texts(&job.spec);
    judge.mistakes
}

struct Judge<'a> {
    root: &'a Node,
    shape: &'a [Mistake],
    mistakes: Vec<Mistake>,
}

impl Judge<'_> {
    /// Reports a mistake at `path`, unless one of the fields that the rule reads is unreadable.
    fn refuse(&mut self, path: &str, reads: &[&str], message: impl Into<String>, hint: Option<String>) {
        if self.readable(path) && reads.iter().all(|read| self.readable(read)) {
            let at = self.root.at_path(path).and_then(|node| node.at).or_else(|| self.root.position_of(path));
            self.mistakes.push(Mistake::new(path, at, message).maybe_hint(hint));
        }
    }

    fn readable(&self, path: &str) -> bool {
        !self.shape.iter().any(|mistake| !mistake.path.is_empty() && is_within(path, &mistake.path))
    }

    fn name(&mut self, name: &str) {
        const PATH: &str = "metadata.name";
        if name.is_empty() {
            let generated = self.root.at_path("metadata.generateName").is_some();
            let hint = if generated { "generateName is for kubectl create; a job is its name" } else { "name the job" };
            self.refuse(PATH, &[], "missing required field", Some(hint.into()));
            return;
        }
        if name.len() > MAX_JOB_NAME {
            let message = format!("has {} characters, more than {MAX_JOB_NAME}", name.len());
            self.refuse(PATH, &[], message, Some("pods and services add suffixes to the name".into()));
        }
        if !is_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            let hint = "names begin with a letter and hold only a-z, 0-9 and -, no - at the end";
            let message = format!("\"{}\" cannot be the name of a job", super::mistake::excerpt(name));
            self.refuse(PATH, &[], message, Some(hint.into()));
        }
    }

    fn namespace(&mut self, namespace: Option<&str>) {
        if let Some(name) = namespace.filter(|name| !is_label(name) || name.len() > 63) {
            let message = format!("\"{}\" cannot be the name of a namespace", super::mistake::excerpt(name));
            let hint = "namespaces hold only a-z, 0-9 and -, at most 63 characters";
            self.refuse("metadata.namespace", &[], message, Some(hint.into()));
        }
    }

    fn choice(&mut self, choice: &Choice) {
        let Some(Node { content: Content::Map(entries), .. }) = self.root.at_path(choice.path) else {
            return;
        };
        let written = entries.iter().filter(|entry| entry.value.content != Content::Null);
        let written: Vec<&str> = written.map(|entry| entry.key.as_str()).collect();
        let chosen: Vec<&str> = choice.names.iter().copied().filter(|name| written.contains(name)).collect();
        let names = choice.names.join(", ");
        match chosen[..] {
            [_] => {}
            // A misspelt name was probably meant to be the choice.
            [] if !choice.required || written.iter().any(|name| !choice.names.contains(name)) => {}
            [] => self.refuse(choice.path, &[], format!("needs one of {names}"), None),
            [.., last] => {
                let path = format!("{}.{last}", choice.path);
                let message = format!("{} exclude each other", chosen.join(" and "));
                let hint = Some(format!("keep one of {names}"));
                let at = self.root.position_of(&path);
                self.mistakes.push(Mistake::new(path, at, message).maybe_hint(hint));
            }
        }
    }

    fn numbers(&mut self, spec: &StreamJobSpec) {
        if spec.parallelism > spec.max_parallelism {
            let message = format!("{} is above maxParallelism, which is {}", spec.parallelism, spec.max_parallelism);
            let hint = "a job has maxParallelism key groups to spread; it can be set for a new job only";
            self.refuse("spec.parallelism", &["spec.maxParallelism"], message, Some(hint.into()));
        }
    }

    fn checkpoint(&mut self, spec: &StreamJobSpec) {
        let checkpoint = &spec.checkpoint;
        let shortest = Duration::from_millis(10);
        for (path, duration) in
            [("spec.checkpoint.interval", checkpoint.interval), ("spec.checkpoint.timeout", checkpoint.timeout)]
        {
            if duration < shortest {
                self.refuse(path, &[], format!("{duration} is shorter than {shortest}"), None);
            }
        }
        if let Some(unaligned) = checkpoint.unaligned.as_ref().filter(|one| one.after >= checkpoint.timeout) {
            let message = format!("{} is not shorter than the timeout, {}", unaligned.after, checkpoint.timeout);
            let hint = "a checkpoint is given up at its timeout, so this would never happen";
            self.refuse("spec.checkpoint.unaligned.after", &["spec.checkpoint.timeout"], message, Some(hint.into()));
        }
        if spec.rollback.deadline.is_zero() {
            let hint = "to keep failed upgrades set spec.rollback.enabled: false";
            self.refuse("spec.rollback.deadline", &[], "is zero: every upgrade would be undone", Some(hint.into()));
        }
    }

    fn restart(&mut self, restart: &RestartSpec) {
        if let Some(delay) = &restart.exponential_delay {
            let path = "spec.restart.exponentialDelay.initial";
            if delay.initial.is_zero() {
                self.refuse(path, &[], "is zero: the wait could not grow", None);
            }
            if delay.initial > delay.max {
                let message = format!("{} is longer than max, which is {}", delay.initial, delay.max);
                self.refuse(path, &["spec.restart.exponentialDelay.max"], message, None);
            }
        }
        if restart.failure_rate.as_ref().is_some_and(|rate| rate.window.is_zero()) {
            self.refuse("spec.restart.failureRate.window", &[], "is zero: no failure would be counted", None);
        }
    }

    fn texts(&mut self, spec: &StreamJobSpec) {
        if spec.pipeline.sql.as_ref().is_some_and(|sql| sql.trim().is_empty()) {
            let hint = "write CREATE TABLE and INSERT INTO statements";
            self.refuse("spec.pipeline.sql", &[], "holds no SQL", Some(hint.into()));
        }
        let claim = spec.storage.as_ref().and_then(|storage| storage.persistent_volume_claim.as_ref());
        if claim.is_some_and(|claim| claim.sub_path.starts_with('/') || claim.sub_path.split('/').any(|p| p == "..")) {
            let message = "must be relative to the volume and hold no `..`";
            self.refuse("spec.storage.persistentVolumeClaim.subPath", &[], message, None);
        }
    }
}

/// Whether `path` is `ancestor` or lies in it.
fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether a text is a DNS label, of any length.
fn is_label(text: &str) -> bool {
    let inner = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && text.bytes().all(|byte| inner(&byte)) && !text.starts_with('-') && !text.ends_with('-')
}

/// The rules of a change: what cannot be changed in a job that exists.
pub(crate) fn check_update(old: &StreamJobSpec, new: &StreamJobSpec) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if old.max_parallelism != new.max_parallelism {
        let message = format!("cannot be changed from {} to {}", old.max_parallelism, new.max_parallelism);
        let hint = "the state is divided into that many key groups; create a new StreamJob";
        mistakes.push(Mistake::new("spec.maxParallelism", None, message).hint(hint));
    }
    let place = |spec: &StreamJobSpec| {
        spec.storage.as_ref().map(|storage| {
            let s3 = storage.s3.as_ref().map(|s3| (s3.bucket.clone(), s3.prefix.clone()));
            let local = storage.local.as_ref().map(|local| local.path.clone());
            let claim = storage.persistent_volume_claim.as_ref();
            (s3, local, claim.map(|claim| (claim.claim_name.clone(), claim.sub_path.clone())))
        })
    };
    let (before, after) = (place(old), place(new));
    if before.is_some() && before != after {
        let hint = "the job's state lies there; restore a savepoint into a new StreamJob";
        mistakes.push(Mistake::new("spec.storage", None, "cannot be moved or removed").hint(hint));
    }
    mistakes
}
