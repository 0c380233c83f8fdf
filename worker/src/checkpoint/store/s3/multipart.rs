//! Uploads in parts: for objects that are large, or that must not be seen before a commit.

use super::bucket::{Bucket, Pending};
use super::fault::{Cause, Effect, Fault};
use super::meter::Operation;
use super::retry::{GivenUp, Requests};
use crate::failure::{Failure, Result};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MultipartUpload};
use bytes::Bytes;
use std::time::SystemTime;

/// An upload that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The full name that the object will have.
    pub key: String,
    /// The store's name for the upload.
    pub id: String,
    /// When it was begun, by the store's clock; the epoch where that is not known.
    pub begun: SystemTime,
}

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its place, from 1 to 10000.
    pub number: i32,
    /// What the store calls its content.
    pub etag: String,
}

/// The outcome of completing an upload.
#[derive(Debug)]
pub enum Completed {
    /// The object is there; its etag.
    Done(String),
    /// There is an object of that name, where there must be none. After an attempt of unknown outcome it may be this
    /// upload's own. The upload is there still.
    Exists,
    /// There is no such upload: it was completed or aborted before, perhaps by an attempt of this very call. The object
    /// tells which.
    NoSuchUpload,
    /// The store does not do such things, or not so: no other attempt will come to another end. The upload is as it was.
    Unsupported(Failure),
    /// The upload is as it was.
    Failed(Failure),
    /// It may have been completed, or may be yet.
    Unknown(Failure),
}

impl Bucket {
    /// Begins an upload.
    pub fn create_upload(&self, key: &str) -> Result<Upload> {
        self.start_upload(key).wait()
    }

    /// Begins to begin an upload: several can be under way at a time.
    pub fn start_upload(&self, key: &str) -> Pending<Result<Upload>> {
        let key = key.to_owned();
        self.start(|requests| async move {
            let id = requests.attempt(Operation::CreateUpload, 0, || requests.create_once(&key)).await;
            let id = id.map_err(|given_up| requests.failure(given_up, &format!("{key} could not be begun")))?;
            Ok(Upload { key, id, begun: SystemTime::UNIX_EPOCH })
        })
    }

    /// Uploads a part, or replaces it. All but the last one need 5 MiB or more.
    pub fn upload_part(&self, upload: &Upload, number: i32, body: Bytes) -> Result<Part> {
        self.start_part(upload, number, body).wait()
    }

    /// Begins to upload a part: several can be under way at a time.
    pub fn start_part(&self, upload: &Upload, number: i32, body: Bytes) -> Pending<Result<Part>> {
        let upload = upload.clone();
        self.start(|requests| async move {
            let length = body.len();
            let once = || requests.part_once(&upload, number, body.clone());
            let etag = requests.attempt(Operation::UploadPart, length, once).await;
            let doing = || format!("part {number} of {} could not be written", upload.key);
            Ok(Part { number, etag: etag.map_err(|given_up| requests.failure(given_up, &doing()))? })
        })
    }

    /// Makes the parts, in the order of their numbers, an object; with `if_absent` only where there is none.
    pub fn complete_upload(&self, upload: &Upload, parts: &[Part], if_absent: IfAbsent) -> Completed {
        let (upload, parts) = (upload.clone(), parts.to_vec());
        let outcome = self.run(|requests| async move { Ok(requests.complete(&upload, &parts, if_absent).await) });
        outcome.unwrap_or_else(Completed::Unknown)
    }

    /// Gives an upload up. One that does not exist is no failure.
    pub fn abort_upload(&self, upload: &Upload) -> Result<()> {
        let upload = upload.clone();
        self.run(|requests| async move {
            match requests.attempt(Operation::AbortUpload, 0, || requests.abort_once(&upload)).await {
                Ok(()) | Err(GivenUp { fault: Fault { cause: Cause::NotFound, .. }, .. }) => Ok(()),
                Err(given_up) => {
                    Err(requests.failure(given_up, &format!("the upload of {} could not be aborted", upload.key)))
                }
            }
        })
    }

    /// All uploads that were begun and not ended, of names that begin with `prefix`.
    pub fn list_uploads(&self, prefix: &str) -> Result<Vec<Upload>> {
        let prefix = prefix.to_owned();
        self.run(|requests| async move { requests.uploads(&prefix).await })
    }
}

/// Whether an upload may only make a new object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfAbsent {
    /// It must not replace one.
    Yes,
    /// It may replace one.
    No,
}

impl Requests {
    async fn create_once(&self, key: &str) -> Result<String, Fault> {
        let create = self.client().create_multipart_upload().bucket(&self.settings.bucket).key(key);
        let created = create.send().await.map_err(Fault::of)?;
        created.upload_id.ok_or_else(|| Fault::unsupported("an upload without an id"))
    }

    async fn part_once(&self, upload: &Upload, number: i32, body: Bytes) -> Result<String, Fault> {
        let part = self.client().upload_part().bucket(&self.settings.bucket).key(&upload.key).upload_id(&upload.id);
        let done = part.part_number(number).body(ByteStream::from(body)).send().await.map_err(Fault::of)?;
        done.e_tag.ok_or_else(|| Fault::unsupported("a part without an etag"))
    }

    async fn complete(&self, upload: &Upload, parts: &[Part], if_absent: IfAbsent) -> Completed {
        let once = || self.complete_once(upload, parts, if_absent);
        let given_up = match self.attempt(Operation::CompleteUpload, 0, once).await {
            Ok(etag) => return Completed::Done(etag),
            Err(given_up) => given_up,
        };
        match given_up.fault.cause {
            Cause::Condition => Completed::Exists,
            Cause::NotFound => Completed::NoSuchUpload,
            Cause::Unsupported if given_up.effect == Effect::None => {
                let doing = match if_absent {
                    IfAbsent::Yes => "could not be completed where there must be no object (If-None-Match)",
                    IfAbsent::No => "could not be completed",
                };
                Completed::Unsupported(self.failure(given_up, &format!("the upload of {} {doing}", upload.key)))
            }
            _ => {
                let effect = given_up.effect;
                let failure = self.failure(given_up, &format!("{} could not be completed", upload.key));
                match effect {
                    Effect::None => Completed::Failed(failure),
                    Effect::Unknown => Completed::Unknown(failure),
                }
            }
        }
    }

    async fn complete_once(&self, upload: &Upload, parts: &[Part], if_absent: IfAbsent) -> Result<String, Fault> {
        let mut parts: Vec<&Part> = parts.iter().collect();
        parts.sort_by_key(|part| part.number);
        let parts =
            parts.into_iter().map(|part| CompletedPart::builder().part_number(part.number).e_tag(&part.etag).build());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let complete = self.client().complete_multipart_upload().bucket(&self.settings.bucket).key(&upload.key);
        let complete = complete.upload_id(&upload.id).multipart_upload(parts);
        let complete = if if_absent == IfAbsent::Yes { complete.if_none_match("*") } else { complete };
        let done = complete.send().await.map_err(Fault::of)?;
        Ok(done.e_tag.unwrap_or_default())
    }

    async fn abort_once(&self, upload: &Upload) -> Result<(), Fault> {
        let abort = self.client().abort_multipart_upload().bucket(&self.settings.bucket);
        abort.key(&upload.key).upload_id(&upload.id).send().await.map_err(Fault::of)?;
        Ok(())
    }

    async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>> {
        let mut uploads = Vec::new();
        let mut after: Option<(String, String)> = None;
        loop {
            let page = self.attempt(Operation::ListUploads, 0, || self.uploads_page(prefix, after.as_ref())).await;
            let doing = || format!("the uploads below {prefix} could not be listed");
            let (found, next) = page.map_err(|given_up| self.failure(given_up, &doing()))?;
            uploads.extend(found);
            match next {
                None => return Ok(uploads),
                next if next == after => {
                    return Err(Failure::transient(format!("the uploads below {prefix} do not come to an end")));
                }
                next => after = next,
            }
        }
    }

    async fn uploads_page(
        &self,
        prefix: &str,
        after: Option<&(String, String)>,
    ) -> Result<(Vec<Upload>, Option<(String, String)>), Fault> {
        let list = self.client().list_multipart_uploads().bucket(&self.settings.bucket).prefix(prefix);
        let list = match after {
            Some((key, id)) => list.key_marker(key).upload_id_marker(id),
            None => list,
        };
        let page = list.send().await.map_err(Fault::of)?;
        let next = (page.is_truncated == Some(true))
            .then(|| (page.next_key_marker.unwrap_or_default(), page.next_upload_id_marker.unwrap_or_default()));
        Ok((page.uploads.unwrap_or_default().into_iter().map(upload).collect(), next))
    }
}

fn upload(found: MultipartUpload) -> Upload {
    let begun = found.initiated.and_then(|time| SystemTime::try_from(time).ok());
    Upload {
        key: found.key.unwrap_or_default(),
        id: found.upload_id.unwrap_or_default(),
        begun: begun.unwrap_or(SystemTime::UNIX_EPOCH),
    }
}
