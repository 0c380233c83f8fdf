//! A bucket, for threads that may block.

use super::client::connect;
use super::fault::{Cause, Effect, Fault};
use super::meter::{Meter, Operation};
use super::retry::{GivenUp, Patience, Requests};
use super::settings::Settings;
use crate::failure::{Failure, Result};
use crate::stop::Stop;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::time::SystemTime;
use tokio::runtime::{Builder, Runtime};

/// Objects in one request to delete.
const DELETE_BATCH: usize = 1000;
/// Bodies of unknown size are not read beyond this.
const LARGEST_WHOLE: u64 = 1 << 30;
/// A body of this size is not sent as a whole before its answer comes.
const LARGE: usize = 256 << 10;
/// Threads that drive all requests of a bucket.
const THREADS: usize = 2;

/// A bucket. Clones share connections, limits and counters.
///
/// Its methods block and must not be called by a thread that drives other asynchronous work. A failure that the user can
/// mend (name, credentials, region, address, certificate) is of kind `User` until a request of that kind has succeeded,
/// then it is trouble that may pass: `Transient`, as all others.
#[derive(Clone)]
pub struct Bucket {
    requests: Arc<Requests>,
    threads: Arc<Threads>,
    stop: Option<Stop>,
}

/// The threads that drive requests; taken when dropped.
struct Threads(Option<Runtime>);

/// What must hold for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// There is no object of this name.
    IfAbsent,
    /// The object has this etag.
    IfMatch(String),
}

/// The outcome of a write.
#[derive(Debug)]
pub enum Put {
    /// The object holds the body; its etag.
    Done(String),
    /// The condition did not hold. Nobody has written this body by this call.
    Refused,
    /// Nothing was written.
    Failed(Failure),
    /// It may have been written, or may be yet.
    Unknown(Failure),
}

/// An object, as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its full name in the bucket.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Changes with its content.
    pub etag: String,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
}

/// What lies below a prefix.
#[derive(Debug, Default)]
struct Listing {
    entries: Vec<Entry>,
    folders: Vec<String>,
}

/// How far a listing goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// To the next slash.
    One,
    /// To the objects.
    All,
}

/// An outcome that is on its way.
#[must_use = "what is not waited for may fail unseen"]
pub struct Pending<T>(mpsc::Receiver<T>);

impl<T> Pending<Result<T>> {
    /// Blocks until it is there.
    pub fn wait(self) -> Result<T> {
        self.0.recv().unwrap_or_else(|_| Err(ended()))
    }
}

impl Bucket {
    /// Prepares a bucket for use; nothing is asked of it yet. Fails with kind `User` when the settings alone do not do.
    pub fn open(settings: Settings) -> Result<Self> {
        Self::open_counted(settings, Arc::default())
    }

    /// The same, with its requests counted there.
    pub fn open_counted(settings: Settings, meter: Arc<Meter>) -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("s3").enable_all().build();
        let runtime = runtime.map_err(|error| Failure::transient("no threads for requests to S3").because(error))?;
        let for_connecting = settings.clone();
        let connected = drive(&runtime, async move { connect(&for_connecting).await }).wait()?;
        let requests = Arc::new(Requests::new(settings, connected, meter));
        Ok(Self { requests, threads: Arc::new(Threads(Some(runtime))), stop: None })
    }

    /// The same bucket for one who is told by `stop` when to leave: requests then end with kind `Cancelled`, whatever
    /// they may have done. Until then they are tried with this patience.
    #[must_use]
    pub fn until(&self, stop: Stop, patience: Patience) -> Self {
        Self { requests: Arc::new(self.requests.with(patience)), threads: Arc::clone(&self.threads), stop: Some(stop) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.requests().settings.bucket
    }

    /// The store's address, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.requests().place()
    }

    /// What is counted of its requests.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.requests().meter)
    }

    /// Asks for one name of the bucket: fails as every request would, if the bucket cannot be used.
    pub fn check(&self) -> Result<()> {
        self.run(|requests| async move {
            let found = requests.attempt(Operation::List, 0, || requests.page("", Depth::One, None)).await;
            found.map(|_| ()).map_err(|given_up| requests.failure(given_up, "the bucket cannot be used"))
        })
    }

    /// Writes an object. After an attempt of unknown outcome a refused condition is looked into: if the object holds
    /// this very body, it is done.
    pub fn put(&self, key: &str, body: Bytes, condition: Condition) -> Put {
        let key = key.to_owned();
        let outcome = self.run(|requests| async move { Ok(requests.put(&key, body, &condition).await) });
        outcome.unwrap_or_else(Put::Unknown)
    }

    /// An object's content; `None` when there is no such object. Fails with kind `Corrupt` above 1 GiB.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let key = key.to_owned();
        self.run(|requests| async move { requests.get(&key).await })
    }

    /// A part of an object's content, less when the object ends before; `None` when there is no such object.
    pub fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.start_range(key, range).wait()
    }

    /// Begins to read a part of an object's content: several can be under way at a time.
    pub fn start_range(&self, key: &str, range: Range<u64>) -> Pending<Result<Option<Bytes>>> {
        let key = key.to_owned();
        self.start(|requests| async move { requests.range(&key, range).await })
    }

    /// Looks at an object; `None` when there is none.
    pub fn head(&self, key: &str) -> Result<Option<Entry>> {
        let key = key.to_owned();
        self.run(|requests| async move { requests.head(&key).await })
    }

    /// All objects whose names begin with `prefix`, in the order of their names' bytes.
    pub fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let prefix = prefix.to_owned();
        self.run(|requests| async move { Ok(requests.listing(&prefix, Depth::All).await?.entries) })
    }

    /// The folders right below `prefix`, which is empty or ends with a slash: names that end with one.
    pub fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.run(|requests| async move { Ok(requests.listing(&prefix, Depth::One).await?.folders) })
    }

    /// True when a name in the bucket begins with `prefix`.
    pub fn has_any(&self, prefix: &str) -> Result<bool> {
        let prefix = prefix.to_owned();
        self.run(|requests| async move {
            let once = || requests.page(&prefix, Depth::One, None);
            let found = requests.attempt(Operation::List, 0, once).await.map(|(page, _)| page);
            let found = found.map_err(|given_up| {
                requests.failure(given_up, &format!("the names below {prefix} could not be listed"))
            })?;
            Ok(!found.entries.is_empty() || !found.folders.is_empty())
        })
    }

    /// Deletes objects. One that does not exist is no failure.
    pub fn delete(&self, keys: &[String]) -> Result<()> {
        let keys = keys.to_vec();
        self.run(|requests| async move {
            for batch in keys.chunks(DELETE_BATCH) {
                requests.delete(batch).await?;
            }
            Ok(())
        })
    }

    pub(super) fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// Begins work on the bucket's threads.
    pub(super) fn start<T, F>(&self, work: impl FnOnce(Arc<Requests>) -> F) -> Pending<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let runtime = self.threads.0.as_ref().expect("the runtime lives as long as the bucket");
        let (work, stop) = (work(Arc::clone(self.requests())), self.stop.clone());
        drive(runtime, async move {
            match stop {
                None => work.await,
                Some(stop) => tokio::select! {
                    outcome = work => outcome,
                    () = stop.stopped() => Err(Failure::cancelled()),
                },
            }
        })
    }

    /// Has work done on the bucket's threads.
    pub(super) fn run<T, F>(&self, work: impl FnOnce(Arc<Requests>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.start(work).wait()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Whoever waited for a request still has the bucket: nothing that matters is under way. Blocking here would
        // panic in a thread that drives other asynchronous work.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn drive<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Pending<Result<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // One who no longer waits need not know.
        let _ = sender.send(work.await);
    });
    Pending(receiver)
}

fn ended() -> Failure {
    Failure::bug("a request to S3 ended without an outcome")
}

impl Requests {
    pub(super) fn client(&self) -> &Client {
        &self.connected.client
    }

    async fn put(&self, key: &str, body: Bytes, condition: &Condition) -> Put {
        let given_up =
            match self.attempt(Operation::Put, body.len(), || self.put_once(key, body.clone(), condition)).await {
                Ok(etag) => return Put::Done(etag),
                Err(given_up) => given_up,
            };
        match (&given_up.fault.cause, given_up.effect) {
            // With a condition on an etag, no object is another object.
            (Cause::Condition, Effect::None) => Put::Refused,
            (Cause::NotFound, Effect::None) if matches!(condition, Condition::IfMatch(_)) => Put::Refused,
            (Cause::Condition | Cause::NotFound, Effect::Unknown) => self.own_write(key, &body).await,
            (_, effect) => {
                let failure = self.failure(given_up, &format!("{key} could not be written"));
                match effect {
                    Effect::None => Put::Failed(failure),
                    Effect::Unknown => Put::Unknown(failure),
                }
            }
        }
    }

    /// Whether the object that stands in the way is what an earlier attempt of unknown outcome wrote.
    async fn own_write(&self, key: &str, body: &Bytes) -> Put {
        match self.attempt(Operation::Get, body.len(), || self.get_once(key)).await {
            Ok((found, etag)) if found == body => Put::Done(etag),
            Ok(_) => Put::Refused,
            // It was there and is gone: what we wrote may have been seen and deleted.
            Err(given_up) if given_up.fault.cause == Cause::NotFound => Put::Refused,
            Err(given_up) => Put::Unknown(self.failure(given_up, &format!("{key} may have been written"))),
        }
    }

    async fn put_once(&self, key: &str, body: Bytes, condition: &Condition) -> Result<String, Fault> {
        let length = body.len();
        let put = self.client().put_object().bucket(&self.settings.bucket).key(key).body(ByteStream::from(body));
        let put = match condition {
            Condition::None => put,
            Condition::IfAbsent => put.if_none_match("*"),
            Condition::IfMatch(etag) => put.if_match(etag),
        };
        match put.send().await.map_err(Fault::of) {
            Ok(done) => Ok(done.e_tag.unwrap_or_default()),
            Err(fault) if self.is_refused_unheard(key, length, condition, &fault).await => {
                Err(Fault { cause: Cause::Condition, ..fault })
            }
            Err(fault) => Err(fault),
        }
    }

    /// A store may refuse a large body before it has read it, and end the connection: then its answer is lost, however
    /// often it is tried. True when an object stands where there must be none.
    async fn is_refused_unheard(&self, key: &str, length: usize, condition: &Condition, fault: &Fault) -> bool {
        let is_unheard = fault.cause == Cause::Trouble && fault.effect == Effect::Unknown;
        is_unheard && length >= LARGE && *condition == Condition::IfAbsent && self.head_once(key).await.is_ok()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.attempt(Operation::Get, 0, || self.get_once(key)).await {
            Ok((body, _)) => {
                self.meter.moved(Operation::Get, body.len());
                Ok(Some(body))
            }
            Err(GivenUp { fault: Fault { cause: Cause::NotFound, .. }, .. }) => Ok(None),
            Err(GivenUp { fault: Fault { cause: Cause::Range, .. }, .. }) => {
                Err(Failure::corrupt(format!("{key} is larger than anything of its kind")))
            }
            Err(given_up) => Err(self.failure(given_up, &format!("{key} could not be read"))),
        }
    }

    async fn get_once(&self, key: &str) -> Result<(Bytes, String), Fault> {
        let get = self.client().get_object().bucket(&self.settings.bucket).key(key);
        let found = get.send().await.map_err(Fault::of)?;
        if found.content_length.is_some_and(|length| length as u64 > LARGEST_WHOLE) {
            return Err(Fault { cause: Cause::Range, effect: Effect::None, details: String::new() });
        }
        let body = found.body.collect().await.map_err(|error| cut(&error))?.into_bytes();
        Ok((body, found.e_tag.unwrap_or_default()))
    }

    async fn range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        if range.is_empty() {
            return Ok(self.head(key).await?.map(|_| Bytes::new()));
        }
        let length = usize::try_from(range.end - range.start)
            .map_err(|_| Failure::bug(format!("{range:?} of {key} does not fit into memory")))?;
        match self.attempt(Operation::Get, length, || self.range_once(key, range.clone())).await {
            Ok(body) => Ok(Some(body)),
            Err(GivenUp { fault: Fault { cause: Cause::NotFound, .. }, .. }) => Ok(None),
            Err(GivenUp { fault: Fault { cause: Cause::Range, .. }, .. }) => Ok(Some(Bytes::new())),
            Err(given_up) => Err(self.failure(given_up, &format!("{key} could not be read"))),
        }
    }

    async fn range_once(&self, key: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        let get = self.client().get_object().bucket(&self.settings.bucket).key(key);
        let get = get.range(format!("bytes={}-{}", range.start, range.end - 1));
        let found = get.send().await.map_err(Fault::of)?;
        let asked = range.end - range.start;
        // Before the body is read: it may be a whole large object.
        if found.content_range.is_none() || found.content_length.is_some_and(|length| length as u64 > asked) {
            return Err(Fault::unsupported("the store does not know ranges: it gave the whole object"));
        }
        Ok(found.body.collect().await.map_err(|error| cut(&error))?.into_bytes())
    }

    async fn head(&self, key: &str) -> Result<Option<Entry>> {
        match self.attempt(Operation::Head, 0, || self.head_once(key)).await {
            Ok(entry) => Ok(Some(entry)),
            Err(GivenUp { fault: Fault { cause: Cause::NotFound, .. }, .. }) => Ok(None),
            Err(given_up) => Err(self.failure(given_up, &format!("{key} could not be looked at"))),
        }
    }

    async fn head_once(&self, key: &str) -> Result<Entry, Fault> {
        let head = self.client().head_object().bucket(&self.settings.bucket).key(key);
        let found = head.send().await.map_err(Fault::of)?;
        Ok(Entry {
            key: key.to_owned(),
            bytes: found.content_length.map_or(0, |length| length as u64),
            etag: found.e_tag.unwrap_or_default(),
            modified: time(found.last_modified),
        })
    }

    async fn listing(&self, prefix: &str, depth: Depth) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut token: Option<String> = None;
        loop {
            let page = self.attempt(Operation::List, 0, || self.page(prefix, depth, token.as_deref())).await;
            let (found, next) =
                page.map_err(|given_up| self.failure(given_up, &format!("{prefix} could not be listed")))?;
            listing.entries.extend(found.entries);
            listing.folders.extend(found.folders);
            match next {
                None => break,
                next if next == token => {
                    return Err(Failure::transient(format!("the listing of {prefix} does not come to an end")));
                }
                next => token = next,
            }
        }
        listing.entries.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(listing)
    }

    async fn page(&self, prefix: &str, depth: Depth, token: Option<&str>) -> Result<(Listing, Option<String>), Fault> {
        let list = self.client().list_objects_v2().bucket(&self.settings.bucket).prefix(prefix);
        let list = if depth == Depth::One { list.delimiter("/") } else { list };
        let page = list.set_continuation_token(token.map(str::to_owned)).send().await.map_err(Fault::of)?;
        let next = page.next_continuation_token.filter(|_| page.is_truncated == Some(true));
        if page.is_truncated == Some(true) && next.is_none() {
            return Err(Fault::unsupported("a listing that goes on does not say where"));
        }
        let entries = page.contents.unwrap_or_default().into_iter().map(|object| Entry {
            key: object.key.unwrap_or_default(),
            bytes: object.size.map_or(0, |size| size as u64),
            etag: object.e_tag.unwrap_or_default(),
            modified: time(object.last_modified),
        });
        let folders = page.common_prefixes.unwrap_or_default().into_iter().filter_map(|folder| folder.prefix);
        Ok((Listing { entries: entries.collect(), folders: folders.collect() }, next))
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        let deleted = self.attempt(Operation::Delete, 0, || self.delete_once(keys)).await;
        deleted.map_err(|given_up| {
            let first = keys.first().map_or("", String::as_str);
            self.failure(given_up, &format!("{first} and {} more could not be deleted", keys.len().saturating_sub(1)))
        })
    }

    async fn delete_once(&self, keys: &[String]) -> Result<(), Fault> {
        let names = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
        let names = names
            .collect::<Result<Vec<_>, _>>()
            .and_then(|names| Delete::builder().set_objects(Some(names)).quiet(true).build());
        let names = names.map_err(|error| Fault::unsupported(error.to_string()))?;
        let delete = self.client().delete_objects().bucket(&self.settings.bucket).delete(names);
        let deleted = delete.send().await.map_err(Fault::of)?;
        let failed = deleted.errors.unwrap_or_default().into_iter().find(|error| error.code() != Some("NoSuchKey"));
        match failed {
            None => Ok(()),
            Some(error) => {
                let (key, code) = (error.key.unwrap_or_default(), error.code.unwrap_or_default());
                Err(Fault::unknown(format!("{key}: {code}: {}", error.message.unwrap_or_default())))
            }
        }
    }
}

/// A body that ended too early.
fn cut(error: &aws_sdk_s3::primitives::ByteStreamError) -> Fault {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    Fault::unknown(format!("the content was cut off: {cause}"))
}

fn time(time: Option<aws_sdk_s3::primitives::DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}
