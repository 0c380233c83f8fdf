//! What is needed to reach a bucket.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir_crds::S3StorageSpec;

/// Whether the addresses of buckets are known to be right.
static KEEPS_ASKING: AtomicBool = AtomicBool::new(false);

/// From now on a store that nobody answers for is away and no mistake of the user's: this process is of a job that has run
/// before, or whose starter looks after it.
pub fn keep_asking() {
    KEEPS_ASKING.store(true, Ordering::Relaxed);
}

/// Whether a store that does not answer is only away.
pub(super) fn keeps_asking() -> bool {
    KEEPS_ASKING.load(Ordering::Relaxed)
}

/// Where a bucket is and how to talk to it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub bucket: String,
    /// Address of the store, `http://…` or `https://…`; `None` is AWS.
    pub endpoint: Option<String>,
    /// Region; `None` is found in the environment, the profile or the machine's metadata.
    pub region: Option<String>,
    /// Write the bucket into the path of requests, not into the host name.
    pub path_style: bool,
    /// Who asks.
    pub credentials: Credentials,
    /// A file of PEM certificates: the authorities that are trusted instead of the machine's.
    pub authorities: Option<PathBuf>,
    /// What is waited for, and how long.
    pub limits: Limits,
}

/// Where credentials come from.
#[derive(Clone)]
pub enum Credentials {
    /// The environment, a profile, a web identity, the machine's role: in the order of AWS' tools.
    Surroundings,
    /// A folder with the files `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and perhaps `AWS_SESSION_TOKEN`, as a
    /// mounted Secret has them; read again when they change.
    Folder(PathBuf),
    /// These, for ever.
    Fixed {
        /// Access key id.
        key_id: String,
        /// Secret access key.
        secret: String,
        /// Session token of temporary credentials.
        token: Option<String>,
    },
}

/// Limits of time and number.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a connection to be made.
    pub connect: Duration,
    /// For one attempt of a request that moves nothing; 2 s are added for each MiB that it moves.
    pub attempt: Duration,
    /// Attempts of one request.
    pub attempts: u32,
    /// No attempt begins later than this after the first one began.
    pub patience: Duration,
    /// Requests that are under way at a time.
    pub concurrency: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(10),
            attempts: 6,
            patience: Duration::from_secs(30),
            concurrency: 32,
        }
    }
}

impl Settings {
    /// A bucket of which only the name is known: endpoint, region and credentials come from the environment, as AWS'
    /// tools read it (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_CA_BUNDLE` and those of
    /// credentials).
    #[must_use]
    pub fn from_environment(bucket: impl Into<String>) -> Self {
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        Self {
            bucket: bucket.into(),
            // Other stores rarely have a host name for each bucket.
            path_style: endpoint.is_some(),
            endpoint,
            region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
            credentials: Credentials::Surroundings,
            authorities: variable("AWS_CA_BUNDLE").map(PathBuf::from),
            limits: Limits::default(),
        }
    }

    /// What a manifest says, and the environment where it says nothing.
    #[must_use]
    pub fn of(spec: &S3StorageSpec, credentials: Credentials) -> Self {
        let surroundings = Self::from_environment(&spec.bucket);
        Self {
            path_style: spec.force_path_style || (spec.endpoint.is_none() && surroundings.path_style),
            endpoint: spec.endpoint.clone().or(surroundings.endpoint),
            region: spec.region.clone().or(surroundings.region),
            credentials,
            ..surroundings
        }
    }
}

impl Credentials {
    /// Where they come from, for messages.
    #[must_use]
    pub fn origin(&self) -> String {
        match self {
            Self::Surroundings => "the environment, the profile or the role of this machine".to_owned(),
            Self::Folder(folder) => format!("the files in {}", folder.display()),
            Self::Fixed { .. } => "the secret".to_owned(),
        }
    }
}

impl fmt::Debug for Credentials {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let fixed = Credentials::Fixed { key_id: "AKIA".into(), secret: "hush".into(), token: Some("hush".into()) };
        let settings = Settings { credentials: fixed, ..Settings::from_environment("b") };
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hush") && !shown.contains("AKIA"), "{shown}");
    }
}
