//! Credentials that are read again when they rotate.

use super::settings::Credentials as Origin;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_s3::config::{Region, SharedHttpClient};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;

/// Credentials without an end are looked at again after this time: a file may have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Others are renewed this long before their end.
const BEFORE_THE_END: Duration = Duration::from_secs(300);

/// Gives out credentials and renews them in time, or when the store has refused them.
#[derive(Debug)]
pub(super) struct Renewed {
    origin: Origin,
    region: Region,
    http: Option<SharedHttpClient>,
    known: Mutex<Option<Known>>,
    refused: AtomicBool,
}

#[derive(Debug)]
struct Known {
    credentials: Credentials,
    since: Instant,
}

impl Renewed {
    /// Credentials of this origin; `http` reaches those who give them out, where it is not the usual one.
    pub(super) fn new(origin: Origin, region: Region, http: Option<SharedHttpClient>) -> Self {
        Self { origin, region, http, known: Mutex::new(None), refused: AtomicBool::new(false) }
    }

    /// The store has refused them: they are asked for anew.
    pub(super) fn refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    async fn current(&self) -> Result<Credentials, CredentialsError> {
        let mut known = self.known.lock().await;
        let refused = self.refused.swap(false, Ordering::Relaxed);
        if let Some(known) = known.as_ref().filter(|known| !refused && known.is_fresh()) {
            return Ok(known.credentials.clone());
        }
        match (self.load().await, known.as_ref()) {
            (Ok(credentials), _) => {
                *known = Some(Known { credentials: credentials.clone(), since: Instant::now() });
                Ok(credentials)
            }
            // Those that are there may still do.
            (Err(_), Some(known)) if !known.has_ended() => Ok(known.credentials.clone()),
            (Err(error), _) => Err(error),
        }
    }

    async fn load(&self) -> Result<Credentials, CredentialsError> {
        match &self.origin {
            Origin::Fixed { key_id, secret, token } => {
                Ok(Credentials::new(key_id, secret, token.clone(), None, "secret"))
            }
            Origin::Folder(folder) => of_folder(folder),
            Origin::Surroundings => {
                let mut config = ProviderConfig::default().with_region(Some(self.region.clone()));
                if let Some(http) = &self.http {
                    config = config.with_http_client(http.clone());
                }
                // The chain remembers the files it has read: a new one reads them again.
                let chain = DefaultCredentialsChain::builder().configure(config).region(self.region.clone());
                chain.build().await.provide_credentials().await
            }
        }
    }
}

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

impl Known {
    fn is_fresh(&self) -> bool {
        match self.credentials.expiry() {
            Some(end) => SystemTime::now() + BEFORE_THE_END < end || self.since.elapsed() < LOOK_AGAIN,
            None => self.since.elapsed() < LOOK_AGAIN,
        }
    }

    fn has_ended(&self) -> bool {
        self.credentials.expiry().is_some_and(|end| end <= SystemTime::now())
    }
}

fn of_folder(folder: &Path) -> Result<Credentials, CredentialsError> {
    let read = |name: &str| {
        let path = folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CredentialsError::invalid_configuration(format!("{}: {error}", path.display()))),
        }
    };
    let wanted = |name: &str| {
        let missing = || format!("the file {} is missing or empty", folder.join(name).display());
        read(name)?.ok_or_else(|| CredentialsError::not_loaded(missing()))
    };
    let (key_id, secret) = (wanted("AWS_ACCESS_KEY_ID")?, wanted("AWS_SECRET_ACCESS_KEY")?);
    Ok(Credentials::new(key_id, secret, read("AWS_SESSION_TOKEN")?, None, "folder"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::fs;

    #[test]
    fn refused_credentials_are_read_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let renewed = Renewed::new(Origin::Folder(folder.path().to_owned()), Region::new("r"), None);
        let current = || runtime.block_on(renewed.current());
        let missing = current().unwrap_err();
        let missing = std::error::Error::source(&missing).unwrap().to_string();
        assert!(missing.ends_with("AWS_ACCESS_KEY_ID is missing or empty"), "{missing}");
        put("AWS_ACCESS_KEY_ID", "one\n");
        put("AWS_SECRET_ACCESS_KEY", "hush");
        assert_eq!(current().unwrap().access_key_id(), "one");
        put("AWS_ACCESS_KEY_ID", "two");
        put("AWS_SESSION_TOKEN", "short");
        assert_eq!(current().unwrap().access_key_id(), "one");
        renewed.refused();
        let second = current().unwrap();
        assert_eq!((second.access_key_id(), second.session_token()), ("two", Some("short")));
        fs::remove_file(folder.path().join("AWS_ACCESS_KEY_ID")).unwrap();
        renewed.refused();
        assert_eq!(current().unwrap().access_key_id(), "two");
    }
}
