//! Where files lie: in a folder of this machine, or as objects of a bucket whose names begin alike.

use super::super::Environment;
use super::super::options::Options;
use crate::checkpoint::store::s3::meter::Meter;
use crate::checkpoint::store::s3::{Bucket, Credentials, Patience, Settings};
use crate::failure::{Failure, Result};
use crate::stop::Stop;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// A place that files are named from.
#[derive(Clone)]
pub(super) enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// Objects of a bucket.
    Bucket(BucketFolder),
}

/// The objects of a bucket whose names begin alike. Nothing is asked of the bucket before it is needed.
#[derive(Clone)]
pub(super) struct BucketFolder {
    access: Arc<Access>,
    /// Ends with a slash, unless it is empty.
    prefix: String,
    /// When whoever asks leaves, and how long they wait for a store that is away.
    until: Option<(Stop, Patience)>,
}

struct Access {
    settings: Settings,
    meter: Arc<Meter>,
    opened: Mutex<Option<Bucket>>,
    /// What uploads are begun with has been found to be in order.
    writable: Mutex<bool>,
}

/// What the option `path` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// A path of this machine, without `file://`.
    Local(String),
    /// `s3://<bucket>/<key>`.
    Object {
        /// The bucket's name.
        bucket: String,
        /// What follows, without a slash at its beginning.
        key: String,
    },
}

/// A mistake, and a hint.
pub(super) type Refused = (String, String);

/// Reads the option `path`.
pub(super) fn read(written: &str) -> Result<Written, Refused> {
    let Some((scheme, rest)) = written.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return Ok(Written::Local(written.to_owned()));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "file" => {
            // file:/a, file:///a and file://localhost/a are the same.
            let path = rest.strip_prefix("//").unwrap_or(rest);
            Ok(Written::Local(path.strip_prefix("localhost").unwrap_or(path).to_owned()))
        }
        "s3" | "s3a" | "s3n" | "s3p" => object(written, rest),
        known @ ("gs" | "abfs" | "abfss" | "wasb" | "wasbs" | "oss" | "hdfs") => {
            Err((format!("the path '{written}' is on {known}://, which is not available in this version"), hint()))
        }
        _ => Err((format!("the path '{written}' has the unknown scheme '{scheme}'"), hint())),
    }
}

fn hint() -> String {
    "use a path of this machine, such as '/data/events' or 'file:///data/events', or one of a bucket, such as \
     's3://bucket/events'"
        .to_owned()
}

fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn object(written: &str, rest: &str) -> Result<Written, Refused> {
    let path = rest.strip_prefix("//").unwrap_or_default();
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let sound = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte));
    if !sound {
        let message = format!("the path '{written}' names no bucket: 3 to 63 of a-z, 0-9, '-' and '.' expected");
        return Err((message, "write 's3://<bucket>/<folder>'".to_owned()));
    }
    Ok(Written::Object { bucket: bucket.to_owned(), key: key.trim_start_matches('/').to_owned() })
}

/// The options that say how a bucket is reached. What they leave out comes from the environment.
pub(super) fn settings(options: &Options, bucket: &str) -> Settings {
    let mut settings = Settings::from_environment(bucket);
    let endpoint = options.parsed("s3.endpoint", |text| match text.split_once("://") {
        Some(("http" | "https", host)) if !host.is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("an address such as 'http://minio:9000' expected".to_owned()),
    });
    if endpoint.is_some() {
        settings.endpoint = endpoint;
        // Other stores than AWS rarely have a host name for each bucket.
        settings.path_style = true;
    }
    settings.region = options.text("s3.region").filter(|region| !region.is_empty()).or(settings.region);
    settings.path_style = options.boolean("s3.path-style-access").unwrap_or(settings.path_style);
    match (options.text("s3.access-key"), options.text("s3.secret-key")) {
        (Some(key_id), Some(secret)) => settings.credentials = Credentials::Fixed { key_id, secret, token: None },
        (None, None) => {}
        (key_id, _) => {
            let (given, missing) =
                if key_id.is_some() { ("s3.access-key", "s3.secret-key") } else { ("s3.secret-key", "s3.access-key") };
            let hint = format!("add '{missing}' = '${{secret:…}}', or leave both to the environment");
            options.mistake_in(given, format!("'{given}' needs '{missing}' beside it"), Some(hint));
        }
    }
    settings
}

/// Refuses options of buckets beside a path of this machine.
pub(super) fn refuse_settings(options: &Options) {
    for name in options.with_prefix("s3.").into_keys() {
        let message = format!("'s3.{name}' has a meaning only for a path on s3://");
        options.mistake_in(&format!("s3.{name}"), message, Some("leave it out".to_owned()));
    }
}

impl Place {
    /// Reads the options of a folder that files are written to; `None` after a mistake.
    pub(super) fn to_write(options: &Options, environment: &Environment) -> Option<Self> {
        let written = options.required("path");
        if written.is_empty() {
            return None;
        }
        match read(&written) {
            Ok(Written::Local(path)) => {
                refuse_settings(options);
                Some(Self::Folder(environment.working_directory.join(path)))
            }
            Ok(Written::Object { bucket, key }) => {
                Some(Self::Bucket(BucketFolder::new(settings(options, &bucket), key.trim_end_matches('/'))))
            }
            Err((message, hint)) => {
                options.mistake_in("path", message, Some(hint));
                None
            }
        }
    }

    /// The same place for one who is told by `stop` when to leave, and waits so long for a store that is away.
    pub(super) fn until(&self, stop: &Stop, patience: Patience) -> Self {
        match self {
            Self::Folder(folder) => Self::Folder(folder.clone()),
            Self::Bucket(folder) => {
                Self::Bucket(BucketFolder { until: Some((stop.clone(), patience)), ..folder.clone() })
            }
        }
    }

    /// What is counted of requests to its bucket, if it is in one.
    pub(super) fn meter(&self) -> Option<Arc<Meter>> {
        match self {
            Self::Folder(_) => None,
            Self::Bucket(folder) => Some(Arc::clone(&folder.access.meter)),
        }
    }

    /// A file's whole name, for people and for metadata.
    pub(super) fn shown(&self, file: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(file).display().to_string(),
            Self::Bucket(folder) => folder.shown(file),
        }
    }
}

impl BucketFolder {
    /// The objects of a bucket below a folder; all for an empty one.
    pub(super) fn new(settings: Settings, folder: &str) -> Self {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let (opened, writable) = (Mutex::new(None), Mutex::new(false));
        let access = Access { settings, meter: Arc::default(), opened, writable };
        Self { access: Arc::new(access), prefix, until: None }
    }

    /// The bucket's name.
    pub(super) fn name(&self) -> &str {
        &self.access.settings.bucket
    }

    /// An object's name in the bucket.
    pub(super) fn key(&self, file: &str) -> String {
        format!("{}{file}", self.prefix)
    }

    /// An object's name below this folder.
    pub(super) fn file<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.prefix)
    }

    /// An object's name for people.
    pub(super) fn shown(&self, file: &str) -> String {
        format!("s3://{}/{}{file}", self.name(), self.prefix)
    }

    /// The bucket.
    pub(super) fn bucket(&self) -> Result<Bucket> {
        let bucket = self.access.bucket()?;
        Ok(match &self.until {
            Some((stop, patience)) => bucket.until(stop.clone(), *patience),
            None => bucket,
        })
    }

    /// Another bucket of the same store.
    pub(super) fn other(&self, name: &str) -> Result<Bucket> {
        let settings = Settings { bucket: name.to_owned(), ..self.access.settings.clone() };
        Bucket::open_counted(settings, Arc::clone(&self.access.meter))
    }

    /// The bucket, for writing: the first time it is asked whether it can be used so, with names that begin with `stem`.
    /// Fails with kind `User` when it cannot, or when it ends uploads by itself.
    pub(super) fn writable(&self, stem: &str) -> Result<Bucket> {
        let bucket = self.bucket()?;
        let mut writable = self.access.writable.lock();
        if !*writable {
            // A listing says best what is wrong; nothing has such names.
            let usable = bucket.list(&self.key(&format!("{stem}/"))).and_then(|_| bucket.list_uploads(&self.key(stem)));
            usable.map_err(|failure| failure.within(self.shown("")))?;
            if let Some(rule) = bucket.abort_rule(&self.prefix) {
                return Err(Failure::user(format!(
                    "{}: the rule '{}' of the bucket's lifecycle ends uploads after {} days: rows that wait for their \
                     commit would be lost if the job stood still for so long; take this folder out of the rule \
                     (AbortIncompleteMultipartUpload), or write to another one",
                    self.shown(""),
                    rule.id,
                    rule.days
                )));
            }
            *writable = true;
        }
        Ok(bucket)
    }
}

impl Access {
    fn bucket(&self) -> Result<Bucket> {
        let mut opened = self.opened.lock();
        if let Some(bucket) = opened.as_ref() {
            return Ok(bucket.clone());
        }
        let bucket = Bucket::open_counted(self.settings.clone(), Arc::clone(&self.meter))?;
        *opened = Some(bucket.clone());
        Ok(bucket)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn paths_are_of_this_machine_or_of_a_bucket() {
        let local = |path: &str| Some(Written::Local(path.to_owned()));
        let object = |bucket: &str, key: &str| Some(Written::Object { bucket: bucket.into(), key: key.into() });
        let table = [
            ("a/b", local("a/b")),
            ("/a:b", local("/a:b")),
            ("file:///a", local("/a")),
            ("FILE:/a", local("/a")),
            ("s3://bucket/a/b.json", object("bucket", "a/b.json")),
            ("s3a://my-bucket.1//a/", object("my-bucket.1", "a/")),
            ("s3://bucket", object("bucket", "")),
            ("s3://", None),
            ("s3:bucket/a", None),
            ("s3://Bucket/a", None),
            ("gs://bucket/a", None),
        ];
        for (path, expected) in table {
            assert_eq!(read(path).ok(), expected, "{path}");
        }
    }
}
