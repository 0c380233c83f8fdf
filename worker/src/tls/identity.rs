//! Who this process is, and whom it believes: read from files, and read again when they change.
//!
//! Kubernetes replaces a mounted secret by swapping a symbolic link, so that all files change at one moment, under the
//! same paths. New files that do not fit together leave the old ones in force; that is logged once and can be asked for.

use super::certificate::{Flaw, expiry};
use super::{Role, peer};
use crate::failure::{Failure, Result};
use crate::numbers::{Family, Numbers};
use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Larger than any chain of certificates.
const FILE_LIMIT: u64 = 1024 * 1024;

/// A certificate with its key, and the authorities whose certificates are believed.
pub struct Identity {
    files: Files,
    look_every: Duration,
    state: Mutex<State>,
}

/// What rustls needs, of one reading of the files.
pub(super) struct Configs {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    role: Role,
    expires: UnixTime,
}

struct State {
    /// What was read last, whether it could be used or not.
    read: Result<Contents, Error>,
    current: Arc<Configs>,
    looked: Instant,
    reloads: u64,
    trouble: Option<String>,
}

#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
}

#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
}

/// Why files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Error {
    #[error("cannot read the {part} {path}: {reason}\nhint: is the secret mounted, and is the path right?")]
    Unreadable { part: &'static str, path: String, reason: String },
    #[error("the {part} {path} is larger than {FILE_LIMIT} bytes: is it the right file?")]
    TooLarge { part: &'static str, path: String },
    #[error("{path} holds no {part} in PEM form: it should begin with -----BEGIN {label}-----")]
    NotPem { part: &'static str, path: String, label: &'static str },
    #[error("the {part} in {path} cannot be understood: {reason}")]
    Malformed { part: &'static str, path: String, reason: String },
    #[error("the key {key} does not fit the certificate {certificate}: they were not made together")]
    Mismatch { key: String, certificate: String },
    #[error("the certificate {path} {flaw}")]
    Refused { path: String, flaw: String },
    #[error("the certificate {path} names neither {} nor {} among its DNS names", Role::Worker.name(), Role::Controller.name())]
    Nameless { path: String },
}

impl Identity {
    /// Reads a certificate (with intermediates behind it), its key, and one or more authorities, all in PEM form. Fails
    /// with kind `User` when they are missing or malformed or do not fit together, when the certificate has expired, or
    /// when none of the authorities made it.
    pub fn load(certificate: &Path, key: &Path, authorities: &Path) -> Result<Arc<Self>> {
        Self::looking(certificate, key, authorities, LOOK_EVERY)
    }

    /// Reads `tls.crt`, `tls.key` and `ca.crt` of a folder, the names that Kubernetes gives them.
    pub fn in_folder(folder: &Path) -> Result<Arc<Self>> {
        Self::load(&folder.join("tls.crt"), &folder.join("tls.key"), &folder.join("ca.crt"))
    }

    /// As [`Self::in_folder`], looking at the files again with every use.
    #[cfg(test)]
    pub(crate) fn watched(folder: &Path) -> Result<Arc<Self>> {
        Self::looking(&folder.join("tls.crt"), &folder.join("tls.key"), &folder.join("ca.crt"), Duration::ZERO)
    }

    fn looking(certificate: &Path, key: &Path, authorities: &Path, look_every: Duration) -> Result<Arc<Self>> {
        let files = Files { certificate: certificate.into(), key: key.into(), authorities: authorities.into() };
        let contents = files.read().map_err(|error| Failure::user(error.to_string()))?;
        let current = files.configs(&contents).map_err(|error| Failure::user(error.to_string()))?;
        let state =
            State { read: Ok(contents), current: Arc::new(current), looked: Instant::now(), reloads: 0, trouble: None };
        Ok(Arc::new(Self { files, look_every, state: Mutex::new(state) }))
    }

    /// What this process is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.current().role
    }

    /// When the certificate expires, in seconds since 1970.
    #[must_use]
    pub fn expires_unix_s(&self) -> u64 {
        self.current().expires.as_secs()
    }

    /// How many times changed files have replaced the ones before.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.state.lock().reloads
    }

    /// Why the files as they are now cannot be used; those before are in force.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.state.lock().trouble.clone()
    }

    /// The newest usable reading of the files.
    pub(super) fn current(&self) -> Arc<Configs> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= self.look_every {
            state.looked = Instant::now();
            state.look(&self.files);
        }
        Arc::clone(&state.current)
    }
}

impl Numbers for Identity {
    fn families(&self) -> Vec<Family> {
        let help = "When this process's certificate expires, in seconds since 1970.";
        let expires =
            Family::gauge("weir_certificate_expires_timestamp_seconds", help).of(self.expires_unix_s() as f64);
        let help = "How often changed certificates have come into force.";
        let reloads = Family::counter("weir_certificate_reloads_total", help).of(self.reloads() as f64);
        let help =
            "1 while the certificates' files have changed and cannot be used, so that those before are in force.";
        let refused = f64::from(u8::from(self.trouble().is_some()));
        vec![expires, reloads, Family::gauge("weir_certificate_refused", help).of(refused)]
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("files", &self.files).finish_non_exhaustive()
    }
}

impl State {
    fn look(&mut self, files: &Files) {
        let read = files.read();
        if read == self.read {
            return;
        }
        match read.as_ref().map_err(Error::clone).and_then(|contents| files.configs(contents)) {
            Ok(configs) => {
                self.current = Arc::new(configs);
                self.reloads += 1;
                self.trouble = None;
                tracing::info!(certificate = %files.certificate.display(), "certificates were replaced");
            }
            Err(error) => {
                let error = error.to_string();
                tracing::error!(error, "new certificates cannot be used, the old ones stay in force");
                self.trouble = Some(error);
            }
        }
        self.read = read;
    }
}

impl Files {
    /// Small files, read where the connection is made: a secret is mounted from memory.
    fn read(&self) -> Result<Contents, Error> {
        Ok(Contents {
            certificate: read("certificate", &self.certificate)?,
            key: read("key", &self.key)?,
            authorities: read("authorities", &self.authorities)?,
        })
    }

    fn configs(&self, contents: &Contents) -> Result<Configs, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates("certificate", &self.certificate, &contents.certificate)?;
        let key = self.key(&contents.key)?;
        let roots = Arc::new(self.roots(&contents.authorities)?);
        let own = chain[0].clone();
        let key = self.certified(chain, key, &provider)?;
        let path = || self.certificate.display().to_string();
        let role = peer::role(Some(std::slice::from_ref(&own))).ok_or_else(|| Error::Nameless { path: path() })?;
        let expires = expiry(&own).unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO));
        let invalid = |error: rustls::Error| Error::Refused { path: path(), flaw: flaw(&error) };
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| malformed("authorities", &self.authorities, &error.to_string()))?;
        verifier.verify_client_cert(&own, &key.cert[1..], UnixTime::now()).map_err(invalid)?;

        let key = Arc::new(SingleCertAndKey::from(key));
        let versions = [&TLS13, &TLS12];
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(invalid)?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&key) as Arc<_>);
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(invalid)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(key);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Configs { client: Arc::new(client), server: Arc::new(server), role, expires })
    }

    fn key(&self, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                Error::NotPem { part: "key", path: self.key.display().to_string(), label: "PRIVATE KEY" }
            }
            other => malformed("key", &self.key, &other.to_string()),
        })
    }

    fn roots(&self, bytes: &[u8]) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for authority in certificates("authorities", &self.authorities, bytes)? {
            roots.add(authority).map_err(|error| malformed("authorities", &self.authorities, &error.to_string()))?;
        }
        Ok(roots)
    }

    fn certified(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, Error> {
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Error::Mismatch {
                key: self.key.display().to_string(),
                certificate: self.certificate.display().to_string(),
            },
            rustls::Error::InvalidCertificate(_) => malformed("certificate", &self.certificate, &error.to_string()),
            other => malformed("key", &self.key, &other.to_string()),
        })
    }
}

fn read(part: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let shown = || path.display().to_string();
    let mut bytes = Vec::new();
    let outcome = File::open(path).and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut bytes));
    outcome.map_err(|error| Error::Unreadable { part, path: shown(), reason: error.to_string() })?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(Error::TooLarge { part, path: shown() });
    }
    Ok(bytes)
}

/// At least one.
fn certificates(part: &'static str, path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| malformed(part, path, &error.to_string()))?;
    if found.is_empty() {
        return Err(Error::NotPem { part, path: path.display().to_string(), label: "CERTIFICATE" });
    }
    Ok(found)
}

fn malformed(part: &'static str, path: &Path, reason: &str) -> Error {
    Error::Malformed { part, path: path.display().to_string(), reason: reason.to_owned() }
}

fn flaw(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => match Flaw::of(error) {
            Flaw::UnknownAuthority => "was made by none of the authorities that it comes with".to_owned(),
            flaw => flaw.to_string(),
        },
        other => format!("cannot be used: {other}"),
    }
}
