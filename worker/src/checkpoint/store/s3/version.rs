//! Reads parts of an object that must not have changed meanwhile.

use super::bucket::{Bucket, Pending};
use super::fault::{Cause, Fault};
use super::meter::Operation;
use super::retry::{GivenUp, Requests};
use crate::failure::{Failure, Result};
use bytes::Bytes;
use std::ops::Range;

/// A part of one version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRead {
    /// Its bytes, all of them.
    Bytes(Bytes),
    /// The object has another content by now.
    Changed,
    /// There is no such object any more.
    Gone,
}

impl Bucket {
    /// Begins to read a part, which is not empty, of the object whose content has this etag, in quotes or without:
    /// several can be under way at a time. Of a store that has no etags, an empty one stands for any content.
    pub fn start_range_of(&self, key: &str, etag: &str, range: Range<u64>) -> Pending<Result<VersionRead>> {
        let (key, etag) = (key.to_owned(), etag.to_owned());
        self.start(|requests| async move { requests.range_of(&key, &etag, range).await })
    }
}

impl Requests {
    async fn range_of(&self, key: &str, etag: &str, range: Range<u64>) -> Result<VersionRead> {
        let length = usize::try_from(range.end.saturating_sub(range.start))
            .map_err(|_| Failure::bug(format!("{range:?} of {key} does not fit into memory")))?;
        match self.attempt(Operation::Get, length, || self.range_of_once(key, etag, range.clone())).await {
            Ok(bytes) if bytes.len() == length => Ok(VersionRead::Bytes(bytes)),
            Ok(_) => Ok(VersionRead::Changed),
            Err(GivenUp { fault: Fault { cause: Cause::NotFound, .. }, .. }) => Ok(VersionRead::Gone),
            Err(GivenUp { fault: Fault { cause: Cause::Condition | Cause::Range, .. }, .. }) => {
                Ok(VersionRead::Changed)
            }
            Err(given_up) => Err(self.failure(given_up, &format!("{key} could not be read"))),
        }
    }

    async fn range_of_once(&self, key: &str, etag: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        let get = self.client().get_object().bucket(&self.settings.bucket).key(key);
        // Stores list etags with quotes and without, but the header has them.
        let etag = etag.trim_matches('"');
        let get = if etag.is_empty() { get } else { get.if_match(format!("\"{etag}\"")) };
        let get = get.range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let found = get.send().await.map_err(Fault::of)?;
        // Before the body is read: it may be a whole large object.
        if found.content_length.is_some_and(|length| length as u64 > range.end - range.start) {
            return Err(Fault::unsupported("the store does not know ranges: it gave the whole object"));
        }
        let body = found.body.collect().await;
        Ok(body.map_err(|error| Fault::unknown(format!("the content was cut off: {error}")))?.into_bytes())
    }
}
