//! Proof that a bucket does what checkpoints rest upon: of two writes of one name only the first happens, in one piece
//! or in parts.

use super::bucket::{Bucket, Condition, Put};
use super::multipart::{Completed, IfAbsent};
use crate::failure::{Failure, Result};
use bytes::Bytes;
use std::time::{Duration, SystemTime};

/// What a process left that was killed here is removed after this time.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Writes, writes again, lists and deletes an object below `folder`. Fails with kind `User` when the bucket cannot be
/// used or does not honour conditional writes.
pub(super) fn prove(bucket: &Bucket, folder: &str) -> Result<()> {
    let probes = format!("{folder}.probe-");
    let key = format!("{probes}{}", uuid::Uuid::new_v4());
    let abandoned: Vec<String> = abandoned(bucket, &probes)?;
    let proven = prove_with(bucket, &probes, &key);
    let removed = bucket.delete(&[abandoned, vec![key]].concat());
    proven.and(removed)
}

fn abandoned(bucket: &Bucket, probes: &str) -> Result<Vec<String>> {
    let now = SystemTime::now();
    let old = |written: SystemTime| now.duration_since(written).is_ok_and(|age| age > ABANDONED);
    Ok(bucket.list(probes)?.into_iter().filter(|entry| old(entry.modified)).map(|entry| entry.key).collect())
}

fn prove_with(bucket: &Bucket, probes: &str, key: &str) -> Result<()> {
    let put = |body: &'static str| bucket.put(key, Bytes::from_static(body.as_bytes()), Condition::IfAbsent);
    match put("first") {
        Put::Done(_) => {}
        Put::Refused => return Err(wrong(bucket, "refuses to write an object that does not exist")),
        Put::Failed(failure) | Put::Unknown(failure) => return Err(failure),
    }
    match put("second") {
        Put::Refused => {}
        Put::Done(_) => {
            return Err(wrong(bucket, "ignores If-None-Match: it writes over an object that must not exist"));
        }
        Put::Failed(failure) | Put::Unknown(failure) => return Err(failure),
    }
    prove_parts(bucket, key)?;
    if bucket.get(key)?.as_deref() != Some(b"first".as_slice()) {
        return Err(wrong(bucket, "refused a write and did it all the same"));
    }
    if !bucket.list(probes)?.iter().any(|entry| entry.key == key) {
        return Err(wrong(bucket, "does not list an object that was just written"));
    }
    Ok(())
}

/// Large files are written in parts, and so is all output.
fn prove_parts(bucket: &Bucket, key: &str) -> Result<()> {
    let upload = bucket.create_upload(key)?;
    let completed = bucket
        .upload_part(&upload, 1, Bytes::from_static(b"third"))
        .map(|part| bucket.complete_upload(&upload, &[part], IfAbsent::Yes));
    let proven = completed.and_then(|completed| match completed {
        Completed::Exists => Ok(()),
        Completed::Done(_) | Completed::NoSuchUpload => Err(wrong(
            bucket,
            "ignores If-None-Match of CompleteMultipartUpload: it writes over an object that must not exist",
        )),
        Completed::Unsupported(refused) => {
            Err(wrong(bucket, "does not do CompleteMultipartUpload with If-None-Match").because(refused.chain()))
        }
        Completed::Failed(failure) | Completed::Unknown(failure) => Err(failure),
    });
    proven.and(bucket.abort_upload(&upload))
}

fn wrong(bucket: &Bucket, what: &str) -> Failure {
    Failure::user(format!(
        "the store at {} (bucket '{}') {what}. Two leaders could both write the same checkpoint there: use a store \
         with conditional writes and consistent listings, such as AWS S3 or MinIO",
        bucket.place(),
        bucket.name()
    ))
}
