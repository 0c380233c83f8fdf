//! Makes uploads visible by completing them.
//!
//! A name is written by one writer of one generation only, so an object of that name and size is the upload's own:
//! whoever completed it, it is done. An upload that is gone without its object was aborted by somebody else, or its
//! object was taken away before the commit was written down; which of the two it was, only the user can know.

use super::super::super::{CommitOutcome, Committer, Leftovers};
use super::super::place::BucketFolder;
use crate::checkpoint::store::s3::{Bucket, Completed, IfAbsent, Part, Upload};
use crate::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::SystemTime;
use weir_protocol::Generation;
use weir_protocol::snapshot::Committable;

/// Commits that are under way at a time.
const AT_A_TIME: usize = 16;

/// An upload whose parts are all there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Completion {
    pub(super) bucket: String,
    pub(super) key: String,
    /// The store's name for it.
    pub(super) upload: String,
    /// Of the parts, which are numbered from 1.
    pub(super) etags: Vec<String>,
    /// Of the object.
    pub(super) bytes: u64,
}

impl Completion {
    /// The id is the object's name below the sink's folder, as that of a file.
    pub(super) fn committable(&self, name: String) -> Result<Committable> {
        let payload = serde_json::to_value(self).map_err(|error| Failure::bug("an upload's parts").because(error))?;
        Ok(Committable { id: name, payload })
    }

    fn complete(&self, bucket: &Bucket) -> CommitOutcome {
        let upload = Upload { key: self.key.clone(), id: self.upload.clone(), begun: SystemTime::UNIX_EPOCH };
        let parts = self.etags.iter().zip(1..).map(|(etag, number)| Part { number, etag: etag.clone() });
        let parts: Vec<Part> = parts.collect();
        match bucket.complete_upload(&upload, &parts, IfAbsent::Yes) {
            Completed::Done(_) => CommitOutcome::Done,
            Completed::Exists => match self.look(bucket) {
                Ok(Standing::Ours) => abort(bucket, &upload),
                Ok(Standing::Absent) => retry(format!("{} has come and gone", self.shown())),
                Ok(Standing::Other(bytes)) => CommitOutcome::Lost(self.in_the_way(bytes)),
                Err(failure) => retry(failure.chain()),
            },
            Completed::NoSuchUpload => match self.look(bucket) {
                Ok(Standing::Ours) => CommitOutcome::Done,
                Ok(Standing::Absent) => CommitOutcome::Lost(self.vanished()),
                Ok(Standing::Other(bytes)) => CommitOutcome::Lost(self.in_the_way(bytes)),
                Err(failure) => retry(failure.chain()),
            },
            Completed::Unsupported(failure) => CommitOutcome::Refused(format!(
                "{}. The output waits in this upload: have the store do it, then run the job again",
                failure.chain()
            )),
            Completed::Failed(failure) | Completed::Unknown(failure) => retry(failure.chain()),
        }
    }

    /// What stands at the object's name.
    fn look(&self, bucket: &Bucket) -> Result<Standing> {
        Ok(match bucket.head(&self.key)? {
            None => Standing::Absent,
            Some(found) if found.bytes == self.bytes => Standing::Ours,
            Some(found) => Standing::Other(found.bytes),
        })
    }

    fn shown(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }

    fn vanished(&self) -> String {
        format!(
            "{} is not there, and neither is its upload {} ({} bytes): either the upload was aborted (by a lifecycle \
             rule or by hand) and its rows are missing from the output, or the object was taken away before the commit \
             was written down. If you know that it was there, put any object of {} bytes at that name and run the job \
             again; if not, these rows must be written again: go on from an earlier savepoint, or begin anew with --fresh",
            self.shown(),
            self.upload,
            self.bytes,
            self.bytes
        )
    }

    fn in_the_way(&self, bytes: u64) -> String {
        format!(
            "an object of {bytes} bytes that this job has not written stands at {}, where one of {} bytes belongs: move \
             it away and run the job again",
            self.shown(),
            self.bytes
        )
    }
}

enum Standing {
    Absent,
    Ours,
    Other(u64),
}

fn retry(message: String) -> CommitOutcome {
    CommitOutcome::Retry(message)
}

/// The object is there already: a store that keeps a completed upload for a while must not keep it for ever.
fn abort(bucket: &Bucket, upload: &Upload) -> CommitOutcome {
    match bucket.abort_upload(upload) {
        Ok(()) => CommitOutcome::Done,
        Err(failure) => retry(failure.chain()),
    }
}

/// Completes the uploads of one sink.
pub(super) struct UploadCommitter {
    folder: BucketFolder,
    stem: String,
}

impl UploadCommitter {
    /// For objects of this folder whose names begin with `stem`.
    pub(super) fn new(folder: BucketFolder, stem: String) -> Self {
        Self { folder, stem }
    }

    fn complete(&self, committable: &Committable) -> CommitOutcome {
        let completion: Completion = match serde_json::from_value(committable.payload.clone()) {
            Ok(completion) => completion,
            Err(error) => {
                return CommitOutcome::Lost(format!(
                    "it is no upload ({error}): if the table's path was changed, put the old one back until the job has \
                     stopped with all output committed"
                ));
            }
        };
        let bucket = match completion.bucket == self.folder.name() {
            true => self.folder.bucket(),
            false => self.folder.other(&completion.bucket),
        };
        match bucket {
            Ok(bucket) => completion.complete(&bucket),
            Err(failure) => retry(failure.chain()),
        }
    }

    /// The generation that an upload of this sink belongs to.
    fn generation_of(&self, file: &str) -> Option<Generation> {
        let name = file.rsplit('/').next()?;
        let rest = name.strip_prefix(&self.stem)?.strip_prefix('-')?;
        rest.split('-').next()?.parse().ok().map(Generation)
    }
}

impl Committer for UploadCommitter {
    fn commit(&mut self, committable: &Committable) -> CommitOutcome {
        self.complete(committable)
    }

    /// Each takes a round trip or two: several go at a time.
    fn commit_all(&mut self, committables: &BTreeMap<String, Committable>) -> BTreeMap<String, CommitOutcome> {
        let all: Vec<(&String, &Committable)> = committables.iter().collect();
        let mut outcomes = BTreeMap::new();
        let this = &*self;
        for some in all.chunks(AT_A_TIME) {
            std::thread::scope(|scope| {
                let mut started = Vec::with_capacity(some.len());
                for &(id, committable) in some {
                    started.push((id, scope.spawn(move || this.complete(committable))));
                }
                for (id, outcome) in started {
                    let outcome = outcome.join().unwrap_or_else(|_| retry(format!("the commit of {id} panicked")));
                    outcomes.insert(id.clone(), outcome);
                }
            });
        }
        outcomes
    }

    fn remove_leftovers(&mut self, generation: Generation, keep: &Leftovers) -> Result<()> {
        let bucket = self.folder.bucket()?;
        for upload in bucket.list_uploads(&self.folder.key(""))? {
            let Some(file) = self.folder.file(&upload.key) else { continue };
            let old = self.generation_of(file).is_some_and(|of| of < generation);
            if old && !keep.committables.contains(file) {
                bucket.abort_upload(&upload)?;
            }
        }
        Ok(())
    }
}
