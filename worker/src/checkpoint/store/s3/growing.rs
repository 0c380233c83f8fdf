//! An object that is uploaded while it grows, and that is none before its upload is completed.

use super::bucket::{Bucket, Pending};
use super::multipart::{Part, Upload};
use crate::failure::{Failure, Result};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;

/// Bytes of a part. Stores want 5 MiB or more of all but the last one.
const PART: usize = 8 << 20;
/// Parts of an object that are under way at a time.
const UNDER_WAY: usize = 2;

/// An upload that grows. Writing waits while too much of it is under way.
pub struct GrowingUpload {
    bucket: Bucket,
    key: String,
    upload: Begun,
    buffer: Vec<u8>,
    bytes: u64,
    sent: i32,
    under_way: VecDeque<Pending<Result<Part>>>,
    parts: Vec<Part>,
}

/// An upload whose parts are all there.
#[derive(Debug, Clone)]
pub struct WholeUpload {
    /// The upload.
    pub upload: Upload,
    /// Its parts, in their order.
    pub parts: Vec<Part>,
    /// Bytes of the object that it will be.
    pub bytes: u64,
}

enum Begun {
    Soon(Option<Pending<Result<Upload>>>),
    Yes(Upload),
}

impl GrowingUpload {
    /// The most bytes that it can have: an object has at most 10,000 parts.
    pub const MOST_BYTES: u64 = 64 << 30;

    /// Begins an upload, which is begun while the first bytes come.
    #[must_use]
    pub fn begin(bucket: Bucket, key: &str) -> Self {
        let upload = Begun::Soon(Some(bucket.start_upload(key)));
        Self {
            bucket,
            key: key.to_owned(),
            upload,
            buffer: Vec::new(),
            bytes: 0,
            sent: 0,
            under_way: VecDeque::new(),
            parts: Vec::new(),
        }
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The object's full name.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Bytes in memory, at most.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.capacity() + self.under_way.len() * PART
    }

    /// Adds bytes.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            self.bytes += now.len() as u64;
            if self.buffer.len() == PART {
                self.send()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Sends the last part on its way.
    pub fn close(&mut self) -> Result<()> {
        if self.buffer.is_empty() && self.sent > 0 { Ok(()) } else { self.send() }
    }

    /// Waits until all parts are there; the upload must be closed.
    pub fn finish(mut self) -> Result<WholeUpload> {
        while !self.under_way.is_empty() {
            self.wait_for_one()?;
        }
        Ok(WholeUpload { upload: self.upload.get()?.clone(), parts: self.parts, bytes: self.bytes })
    }

    /// Gives it up, as far as that can be done.
    pub fn abort(mut self) {
        self.under_way.drain(..).for_each(|pending| drop(pending.wait()));
        let Ok(upload) = self.upload.get() else { return };
        if let Err(failure) = self.bucket.abort_upload(upload) {
            tracing::warn!(key = upload.key, error = failure.chain(), "an upload stays behind");
        }
    }

    /// Sends what is held back as a part; waits while too many are under way.
    fn send(&mut self) -> Result<()> {
        while self.under_way.len() >= UNDER_WAY {
            self.wait_for_one()?;
        }
        let body = Bytes::from(std::mem::take(&mut self.buffer));
        self.sent += 1;
        let pending = self.bucket.start_part(self.upload.get()?, self.sent, body);
        self.under_way.push_back(pending);
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<()> {
        if let Some(pending) = self.under_way.pop_front() {
            self.parts.push(pending.wait()?);
        }
        Ok(())
    }
}

impl io::Write for GrowingUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map(|()| bytes.len()).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Begun {
    fn get(&mut self) -> Result<&Upload> {
        if let Self::Soon(pending) = self {
            let pending = pending.take().ok_or_else(|| Failure::transient("the upload could not be begun"))?;
            *self = Self::Yes(pending.wait()?);
        }
        match self {
            Self::Yes(upload) => Ok(upload),
            Self::Soon(_) => Err(Failure::bug("an upload that was waited for has not begun")),
        }
    }
}
