//! What can be wrong with a certificate, and what it says.

use chrono::{DateTime, SecondsFormat};
use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is wrong with a certificate; reads on from "the certificate of X".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    UnknownAuthority,
    Expired(Option<u64>),
    NotYet(Option<u64>),
    OtherName(Vec<String>),
    Purpose,
    Other(String),
}

impl Flaw {
    pub(super) fn of(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            // Two authorities of one name are told apart by their signatures alone.
            E::UnknownIssuer | E::BadSignature => Self::UnknownAuthority,
            E::Expired => Self::Expired(None),
            E::ExpiredContext { not_after, .. } => Self::Expired(Some(not_after.as_secs())),
            E::NotValidYet => Self::NotYet(None),
            E::NotValidYetContext { not_before, .. } => Self::NotYet(Some(not_before.as_secs())),
            E::NotValidForName => Self::OtherName(Vec::new()),
            E::NotValidForNameContext { presented, .. } => Self::OtherName(presented.clone()),
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::Purpose,
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAuthority => f.write_str("was not made by this job's authority"),
            Self::Expired(at) => write!(f, "has expired{}", moment(*at)),
            Self::NotYet(at) => write!(f, "is not valid yet{}: is a clock wrong?", moment(*at)),
            Self::OtherName(names) if names.is_empty() => f.write_str("does not name a worker"),
            Self::OtherName(names) => write!(f, "does not name a worker but {}", names.join(", ")),
            Self::Purpose => f.write_str("is not made for both sides of a connection (clientAuth and serverAuth)"),
            Self::Other(text) => write!(f, "cannot be used: {text}"),
        }
    }
}

fn moment(unix_seconds: Option<u64>) -> String {
    let time = unix_seconds.and_then(|seconds| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0));
    time.map_or(String::new(), |time| format!(" ({})", time.to_rfc3339_opts(SecondsFormat::Secs, true)))
}

/// The DNS names of a certificate; `None` if it is none.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()?.map(|names| names.value.general_names.clone());
    let dns = names.into_iter().flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_owned()),
        _ => None,
    });
    Some(dns.collect())
}

/// When a certificate expires.
pub(super) fn expiry(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}
