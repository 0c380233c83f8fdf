//! The object store: strong listings, conditional puts, and now and then damage that somebody repairs later. Time and
//! outcomes are the world's.

use crate::rng::Rng;
use crate::tasks::{ROWS, SPLITS, Sums, sink, source, sum};
use std::collections::{BTreeMap, BTreeSet};
use weir_protocol::chain::{Manifest, ObjectName, OperatorState, Sizes, Terms};
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::leader::{Outcome, Request};
use weir_protocol::snapshot::{Committable, KeyGroupRange, SplitProgress, StateFile};
use weir_protocol::{CheckpointId, EventTime, Generation, KeyGroup, LinkNumber};

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) files: BTreeMap<String, Sums>,
    /// What damaged objects should be.
    backup: BTreeMap<String, Vec<u8>>,
    file_backup: BTreeMap<String, Sums>,
    /// Names of what was damaged at some time.
    damaged: BTreeSet<String>,
    /// Another job's state that this one begins from, as long as that job keeps it.
    pub(crate) origin: Option<(Box<Manifest>, BTreeMap<String, Sums>)>,
}

impl Store {
    /// What the request does and answers, at this moment.
    pub(crate) fn execute(&mut self, request: &Request) -> Outcome {
        match request {
            Request::PutIfAbsent { key, body } => match self.objects.entry(key.to_string()) {
                std::collections::btree_map::Entry::Occupied(_) => Outcome::Exists,
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(body.clone());
                    Outcome::Done
                }
            },
            Request::Get { key } => match self.objects.get(&key.to_string()) {
                Some(body) => Outcome::Body(body.clone()),
                None => Outcome::NotFound,
            },
            Request::List { prefix } => {
                let all = self.objects.keys().chain(self.files.keys()).chain(self.file_backup.keys());
                let names: BTreeSet<&String> = all.filter(|name| name.starts_with(prefix.as_str())).collect();
                Outcome::Listed(names.into_iter().cloned().collect())
            }
            Request::Delete { keys, .. } => {
                for key in keys {
                    self.objects.remove(key);
                    self.files.remove(key);
                    self.backup.remove(key);
                    self.file_backup.remove(key);
                }
                Outcome::Done
            }
        }
    }

    /// A deleted job keeps its mark and its claims.
    pub(crate) fn remove_all(&mut self) {
        let kept = |name: &String| name.starts_with("generations/") || *name == ObjectName::Deleted.to_string();
        self.objects.retain(|name, _| kept(name));
        self.backup.retain(|name, _| kept(name));
        self.files.clear();
        self.file_backup.clear();
    }

    /// What an object says, or would say if it were not damaged.
    pub(crate) fn intact(&self, name: &str) -> Option<&Vec<u8>> {
        self.backup.get(name).or_else(|| self.objects.get(name))
    }

    pub(crate) fn intact_file(&self, path: &str) -> Option<&Sums> {
        self.files.get(path).or_else(|| self.file_backup.get(path))
    }

    pub(crate) fn has_file(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.file_backup.contains_key(path)
    }

    /// Whether something was damaged that has this name, or lies in this folder.
    pub(crate) fn was_damaged(&self, name: &str) -> bool {
        self.damaged.iter().any(|damaged| damaged.starts_with(name))
    }

    /// Whether a sentence names something that was damaged.
    pub(crate) fn names_damage(&self, message: &str) -> bool {
        self.damaged.iter().any(|damaged| message.contains(damaged.as_str()))
    }

    /// Damages one object; returns its name.
    pub(crate) fn damage(&mut self, rng: &mut Rng) -> Option<String> {
        let names: Vec<String> = self.objects.keys().chain(self.files.keys()).cloned().collect();
        if names.is_empty() {
            return None;
        }
        let name = names[rng.within(0, names.len() as u64 - 1) as usize].clone();
        self.damaged.insert(name.clone());
        if let Some(sums) = self.files.remove(&name) {
            self.file_backup.insert(name.clone(), sums);
            return Some(name);
        }
        let body = self.objects.get_mut(&name)?;
        self.backup.entry(name.clone()).or_insert_with(|| body.clone());
        let at = rng.within(0, body.len() as u64 - 1) as usize;
        body[at] ^= 1 << rng.within(0, 7);
        Some(name)
    }

    /// Puts back what it was, unless it has been deleted meanwhile.
    pub(crate) fn repair(&mut self, name: &str) {
        if let Some(body) = self.backup.remove(name)
            && self.objects.contains_key(name)
        {
            self.objects.insert(name.to_owned(), body);
        }
        if let Some(sums) = self.file_backup.remove(name) {
            self.files.insert(name.to_owned(), sums);
        }
    }

    pub(crate) fn repair_all(&mut self) {
        let names: Vec<String> = self.backup.keys().chain(self.file_backup.keys()).cloned().collect();
        names.iter().for_each(|name| self.repair(name));
    }

    pub(crate) fn of_origin(&self, path: &str) -> Option<Sums> {
        self.origin.as_ref()?.1.get(path).cloned()
    }

    /// Another job has a savepoint.
    pub(crate) fn put_origin(&mut self, rng: &mut Rng) {
        let sums: Sums = (0..SPLITS).map(|split| (split, rng.within(0, ROWS))).collect();
        let splits = sums.iter().map(|(split, at)| SplitProgress {
            split: split.to_string(),
            position: (*at).into(),
            watermark: EventTime::MIN,
            finished: false,
        });
        let operator = |kind: &str| OperatorState { kind: kind.to_owned(), ..OperatorState::default() };
        let read = OperatorState {
            unfinished: splits.map(|split| (split.split.clone(), split)).collect(),
            ..operator("source")
        };
        let file = StateFile {
            path: "state/sum/9-other".to_owned(),
            table: "sums".to_owned(),
            sequence: 1,
            bytes: 1,
            rows: 1,
            checksum: 0,
            key_groups: vec![KeyGroupRange { start: KeyGroup(0), end: KeyGroup(SPLITS) }],
        };
        let files = BTreeMap::from([(file.path.clone(), sums)]);
        let counted = OperatorState { files: vec![file], ..operator("sum") };
        let foreign = Committable { id: "0-foreign".to_owned(), payload: serde_json::Value::Null };
        let manifest = Manifest {
            job: "another".to_owned(),
            number: LinkNumber(7),
            generation: Generation(9),
            attempt: "another-9".to_owned(),
            checkpoint: CheckpointId(5),
            completed_unix_ms: 0,
            terms: Terms::default(),
            parallelism: 2,
            max_parallelism: MaxParallelism::new(u32::from(SPLITS)).expect("a few key groups"),
            start: LinkNumber(1),
            previous: None,
            plan: "plan".to_owned(),
            operators: [(source(), read), (sum(), counted), (sink(), operator("sink"))].into(),
            committables: [(sink(), [(foreign.id.clone(), foreign)].into())].into(),
            in_flight: Vec::new(),
            sinks: [sink()].into(),
            savepoints: BTreeMap::new(),
            stop: None,
            holds: BTreeMap::new(),
            sizes: Sizes::default(),
        };
        self.origin = Some((Box::new(manifest), files));
    }
}
