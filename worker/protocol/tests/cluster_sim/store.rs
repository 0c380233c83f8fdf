//! The object store: strong listings, conditional puts. Time and outcomes are the world's.

use crate::tasks::Sums;
use std::collections::BTreeMap;
use weir_protocol::leader::{Outcome, Request};

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) files: BTreeMap<String, Sums>,
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
                let all = self.objects.keys().chain(self.files.keys());
                Outcome::Listed(all.filter(|name| name.starts_with(prefix.as_str())).cloned().collect())
            }
            Request::Delete { keys, .. } => {
                for key in keys {
                    self.objects.remove(key);
                    self.files.remove(key);
                }
                Outcome::Done
            }
        }
    }
}
