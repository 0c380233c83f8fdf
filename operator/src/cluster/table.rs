//! Objects of one kind, by job.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::runtime::watcher::Event;
use parking_lot::RwLock;

use super::{JobKey, Kept};

/// How long a deleted object is remembered as such: longer than any answer to a write is under way.
const GRAVE: Duration = Duration::from_secs(120);

/// What is kept of an object.
#[derive(Debug)]
pub struct Entry<T> {
    /// Its `resourceVersion`.
    pub version: String,
    /// Its uid.
    pub uid: String,
    /// Uid of the object that it was made for; none if it does not say.
    pub owner: Option<String>,
    /// What is kept.
    pub kept: Arc<T>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self {
            version: self.version.clone(),
            uid: self.uid.clone(),
            owner: self.owner.clone(),
            kept: Arc::clone(&self.kept),
        }
    }
}

/// Objects of one kind, by job and name.
pub struct Table<T> {
    content: RwLock<Content<T>>,
}

type ByJob<T> = HashMap<JobKey, Objects<T>>;

/// The objects of a job by name: mostly one or two, so that a map would be mostly air.
struct Objects<T>(Vec<(String, Entry<T>)>);

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Objects<T> {
    /// Where an object of this name is, or belongs.
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(of, _)| of.as_str().cmp(name))
    }

    fn get(&self, name: &str) -> Option<&Entry<T>> {
        self.place(name).ok().map(|at| &self.0[at].1)
    }

    fn insert(&mut self, name: String, entry: Entry<T>) {
        match self.place(&name) {
            Ok(at) => self.0[at].1 = entry,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (name, entry));
            }
        }
    }

    fn remove(&mut self, name: &str) -> Option<Entry<T>> {
        self.place(name).ok().map(|at| self.0.remove(at).1)
    }

    fn values(&self) -> impl Iterator<Item = &Entry<T>> {
        self.0.iter().map(|(_, entry)| entry)
    }
}

struct Content<T> {
    by_job: ByJob<T>,
    /// What a watch that starts again has delivered so far.
    arriving: Option<ByJob<T>>,
    gone: BTreeMap<String, Instant>,
    complete: bool,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let content = Content { by_job: HashMap::new(), arriving: None, gone: BTreeMap::new(), complete: false };
        Self { content: RwLock::new(content) }
    }
}

impl<T: Kept> Table<T> {
    /// Whether everything that there was has been delivered once.
    pub fn is_complete(&self) -> bool {
        self.content.read().complete
    }

    /// The objects of a job, by name.
    pub fn of(&self, job: &JobKey) -> Vec<(String, Entry<T>)> {
        let content = self.content.read();
        content.by_job.get(job).into_iter().flat_map(|objects| objects.0.iter().cloned()).collect()
    }

    /// The objects of a job that were made for the StreamJob of this uid, not for an earlier one of its name.
    pub fn made_for(&self, job: &JobKey, uid: &str) -> Vec<Entry<T>> {
        let content = self.content.read();
        let objects = content.by_job.get(job).into_iter().flat_map(Objects::values);
        objects.filter(|entry| entry.owner.as_deref().is_none_or(|owner| owner == uid)).cloned().collect()
    }

    /// One object of a job.
    pub fn get(&self, job: &JobKey, name: &str) -> Option<Entry<T>> {
        self.content.read().by_job.get(job)?.get(name).cloned()
    }

    /// All jobs that have objects.
    pub fn jobs(&self) -> Vec<JobKey> {
        self.content.read().by_job.keys().cloned().collect()
    }

    /// The jobs of a namespace with an object of which this holds.
    pub fn jobs_with(&self, namespace: &str, holds: impl Fn(&T) -> bool) -> Vec<JobKey> {
        let content = self.content.read();
        let of = content.by_job.iter().filter(|(job, _)| job.namespace == namespace);
        of.filter(|(_, objects)| objects.values().any(|entry| holds(&entry.kept))).map(|(job, _)| job.clone()).collect()
    }

    /// Takes an event of the watch; the jobs whose objects have changed by it.
    pub fn take(&self, event: Event<T::Object>) -> Vec<JobKey> {
        let mut content = self.content.write();
        match event {
            Event::Init => {
                content.arriving = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some((job, name, entry)) = entry(object) {
                    content.arriving.get_or_insert_default().entry(job).or_default().insert(name, entry);
                }
                Vec::new()
            }
            Event::InitDone => {
                let before = content.arriving.take().map(|new| std::mem::replace(&mut content.by_job, new));
                content.complete = true;
                before.map_or_else(Vec::new, |before| changed(&before, &content.by_job))
            }
            Event::Apply(object) => content.put(object),
            Event::Delete(object) => content.remove(&object),
        }
    }

    /// Takes the answer to a write. That of an object that is gone meanwhile is passed over.
    pub fn remember(&self, object: T::Object) {
        let mut content = self.content.write();
        if object.uid().is_none_or(|uid| !content.gone.contains_key(&uid)) {
            content.put(object);
        }
    }

    /// A write has been told that an object is gone.
    pub fn forget(&self, job: &JobKey, name: &str) {
        let mut content = self.content.write();
        let gone = content.by_job.get_mut(job).and_then(|objects| objects.remove(name));
        if let Some(entry) = gone {
            content.bury(entry.uid);
        }
    }
}

impl<T: Kept> Content<T> {
    fn put(&mut self, object: T::Object) -> Vec<JobKey> {
        let old_job = self.job_of(&object);
        let Some((job, name, entry)) = entry::<T>(object) else { return Vec::new() };
        let mut touched = Vec::new();
        if let Some(old) = old_job.filter(|old| *old != job) {
            self.drop_from(&old, &name);
            touched.push(old);
        }
        let objects = self.by_job.entry(job.clone()).or_default();
        match objects.get(&name) {
            Some(known) if known.uid == entry.uid && older(&entry.version, &known.version) => return touched,
            Some(known) if known.kept == entry.kept && known.uid == entry.uid => {}
            _ => touched.push(job),
        }
        objects.insert(name, entry);
        touched
    }

    fn remove(&mut self, object: &T::Object) -> Vec<JobKey> {
        if let Some(uid) = object.uid() {
            self.bury(uid);
        }
        let job = self.job_of(object);
        if let Some(job) = &job {
            self.drop_from(job, &object.name_any());
        }
        job.into_iter().collect()
    }

    fn drop_from(&mut self, job: &JobKey, name: &str) {
        if let Some(objects) = self.by_job.get_mut(job) {
            objects.remove(name);
            if objects.0.is_empty() {
                self.by_job.remove(job);
            }
        }
    }

    /// The job under which an object is kept; its labels may have changed meanwhile.
    fn job_of(&self, object: &T::Object) -> Option<JobKey> {
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let now = T::keep(object.clone()).map(|(job, _)| job);
        let kept = |job: &JobKey| self.by_job.get(job).is_some_and(|objects| objects.get(&name).is_some());
        match now {
            Some(job) if kept(&job) => Some(job),
            _ => self.by_job.keys().find(|job| job.namespace == namespace && kept(job)).cloned(),
        }
    }

    fn bury(&mut self, uid: String) {
        let now = Instant::now();
        self.gone.retain(|_, since| now.duration_since(*since) < GRAVE);
        self.gone.insert(uid, now);
    }
}

fn entry<T: Kept>(object: T::Object) -> Option<(JobKey, String, Entry<T>)> {
    let (name, version) = (object.name_any(), object.resource_version().unwrap_or_default());
    let uid = object.uid().unwrap_or_default();
    let owner = object.owner_references().iter().find(|owner| owner.controller == Some(true)).map(|of| of.uid.clone());
    let (job, kept) = T::keep(object)?;
    Some((job, name, Entry { version, uid, owner, kept: Arc::new(kept) }))
}

/// Versions are numbers that grow; where they are not, whatever comes later counts.
fn older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

fn changed<T: Kept>(before: &ByJob<T>, after: &ByJob<T>) -> Vec<JobKey> {
    let jobs: BTreeSet<&JobKey> = before.keys().chain(after.keys()).collect();
    let same = |job: &&JobKey| match (before.get(job), after.get(job)) {
        (Some(before), Some(after)) => {
            before.0.len() == after.0.len()
                && before
                    .0
                    .iter()
                    .all(|(name, old)| after.get(name).is_some_and(|new| old.uid == new.uid && old.kept == new.kept))
        }
        _ => false,
    };
    jobs.into_iter().filter(|job| !same(job)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use weir_crds::StreamJob;

    use super::super::KeptJob;
    use super::*;

    fn job(version: u64, parallelism: u32) -> StreamJob {
        let manifest = serde_json::json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "StreamJob",
            "metadata": {"name": "bids", "namespace": "shop", "uid": "u1", "resourceVersion": version.to_string()},
            "spec": {"parallelism": parallelism, "pipeline": {"sql": "SELECT 1"}},
        });
        serde_json::from_value(manifest).expect("a job")
    }

    fn parallelism(table: &Table<KeptJob>) -> Option<u32> {
        table.get(&JobKey::new("shop", "bids"), "bids").map(|entry| entry.kept.0.spec.parallelism)
    }

    #[test]
    fn an_event_older_than_an_own_write_is_passed_over() {
        let table: Table<KeptJob> = Table::default();
        table.take(Event::Apply(job(5, 1)));
        table.remember(job(9, 4));
        assert!(table.take(Event::Apply(job(7, 2))).is_empty());
        assert_eq!(parallelism(&table), Some(4));
        assert!(table.take(Event::Apply(job(9, 4))).is_empty(), "the event of an own write is no news");
        assert_eq!(table.take(Event::Apply(job(12, 5))).len(), 1);
    }

    #[test]
    fn the_late_answer_to_a_write_does_not_bring_a_deleted_object_back() {
        let table: Table<KeptJob> = Table::default();
        table.take(Event::Apply(job(5, 1)));
        table.take(Event::Delete(job(9, 1)));
        table.remember(job(8, 1));
        assert_eq!(parallelism(&table), None);
    }

    #[test]
    fn what_a_watch_no_longer_lists_when_it_starts_again_is_gone() {
        let table: Table<KeptJob> = Table::default();
        table.take(Event::Apply(job(5, 1)));
        assert!(!table.is_complete());
        table.take(Event::Init);
        assert_eq!(parallelism(&table), Some(1), "the old view holds until the new one is complete");
        assert_eq!(table.take(Event::InitDone), [JobKey::new("shop", "bids")]);
        assert_eq!(parallelism(&table), None);
        assert!(table.is_complete());
    }
}
