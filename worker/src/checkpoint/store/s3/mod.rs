//! Objects in a bucket: S3, or a store that speaks as S3 does.
//!
//! [`Bucket`] is the only one that knows the SDK. Its callers are threads: they block, while requests run on a small
//! runtime of the bucket's own. The SDK tries nothing again by itself; that is done here, because what an earlier
//! attempt may have done decides what an answer means.

pub mod bucket;
mod client;
mod credentials;
mod fault;
mod growing;
mod lifecycle;
pub mod meter;
mod multipart;
mod objects;
mod probe;
mod retry;
pub mod settings;
mod version;

pub use bucket::{Bucket, Condition, Entry, Pending, Put};
pub use growing::{GrowingUpload, WholeUpload};
pub use lifecycle::AbortRule;
pub use multipart::{Completed, IfAbsent, Part, Upload};
pub use objects::S3Store;
pub use retry::{AWAY, Patience};
pub use settings::{Credentials, Limits, Settings};
pub use version::VersionRead;
