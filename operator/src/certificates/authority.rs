//! The authority of a job, and how one takes the place of another.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::leaf::Credentials;
use super::{Error, Terms, text};

/// How far the clocks of nodes may be behind.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// The authorities of a job: one that signs, and those that are trusted besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// Certificate of the one that signs, in PEM form.
    current: String,
    /// Its key; none if it was lost.
    key: Option<String>,
    /// The one that will sign: certificate and key.
    next: Option<(String, String)>,
    /// Certificate of the one that signed before.
    previous: Option<String>,
    /// When the last step was taken.
    since: Timestamp,
}

/// What a certificate says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) names: Vec<String>,
    pub(super) public_key: Vec<u8>,
}

impl Authorities {
    /// What a Secret holds; none if it holds no authority that can be read.
    #[must_use]
    pub fn read(secret: &Secret) -> Option<Self> {
        let current = text(secret, "ca.crt")?;
        let facts = Facts::of(&current)?;
        let key = text(secret, "ca.key").filter(|key| fits(key, &facts));
        let next = text(secret, "next.crt").zip(text(secret, "next.key"));
        let next = next.filter(|(certificate, key)| Facts::of(certificate).is_some_and(|facts| fits(key, &facts)));
        let previous = text(secret, "previous.crt").filter(|certificate| Facts::of(certificate).is_some());
        let since = text(secret, "since").and_then(|text| text.parse().ok()).unwrap_or(facts.not_before);
        Some(Self { current, key, next, previous, since })
    }

    /// What the Secret shall hold.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
        put("ca.crt", &self.current);
        if let Some(key) = &self.key {
            put("ca.key", key);
        }
        if let Some((certificate, key)) = &self.next {
            put("next.crt", certificate);
            put("next.key", key);
        }
        if let Some(previous) = &self.previous {
            put("previous.crt", previous);
        }
        put("since", &self.since.to_string());
        data
    }

    /// A first authority. If a worker has a certificate already, its authority was lost: it stays trusted meanwhile.
    pub(super) fn anew(now: Timestamp, terms: &Terms, worker: Option<&Credentials>) -> Result<Self, Error> {
        let made = make(now, terms)?;
        let lost = worker.and_then(Credentials::issuer_certificate);
        Ok(match lost {
            None => Self { current: made.0, key: Some(made.1), next: None, previous: None, since: now },
            Some(lost) => Self { current: lost, key: None, next: Some(made), previous: None, since: now },
        })
    }

    /// The next step of a replacement, if it is due.
    pub(super) fn advanced(&self, now: Timestamp, terms: &Terms) -> Result<Self, Error> {
        let waited = now >= self.since + terms.overlap;
        let step = match (&self.next, &self.previous) {
            (Some((certificate, key)), _) if waited => Self {
                current: certificate.clone(),
                key: Some(key.clone()),
                next: None,
                previous: Some(self.current.clone()),
                since: now,
            },
            (None, Some(_)) if waited => Self { previous: None, since: now, ..self.clone() },
            (None, None) if self.key.is_none() || now >= self.ends(terms) => {
                Self { next: Some(make(now, terms)?), since: now, ..self.clone() }
            }
            _ => self.clone(),
        };
        Ok(step)
    }

    /// When the next step is due.
    pub(super) fn due(&self, terms: &Terms) -> Timestamp {
        if self.next.is_some() || self.previous.is_some() { self.since + terms.overlap } else { self.ends(terms) }
    }

    /// Certificates of all that are trusted, the one that signs first.
    pub(super) fn trusted(&self) -> String {
        let next = self.next.as_ref().map(|(certificate, _)| certificate.as_str());
        let all = [Some(self.current.as_str()), next, self.previous.as_deref()];
        all.into_iter().flatten().map(|pem| format!("{}\n", pem.trim_end())).collect()
    }

    /// Whether certificates that this authority made are to be used: the current one's, and those of the next one when
    /// the current one's key was lost.
    pub(super) fn signs(&self, name: &str) -> bool {
        let next = self.next.as_ref().filter(|_| self.key.is_none()).map(|(certificate, _)| certificate);
        [Some(&self.current), next].into_iter().flatten().any(|pem| Facts::of(pem).is_some_and(|of| of.subject == name))
    }

    /// Signs: the current one, or the next one when the current key was lost.
    pub(super) fn sign(&self, params: &CertificateParams, public: &KeyPair) -> Result<String, Error> {
        let next = self.next.as_ref().map(|(certificate, key)| (certificate, key));
        let signer = self.key.as_ref().map(|key| (&self.current, key)).or(next);
        let (certificate, key) = signer.ok_or(Error::Unreadable)?;
        let facts = Facts::of(certificate).ok_or(Error::Unreadable)?;
        let key = KeyPair::from_pem(key).map_err(Error::Unmade)?;
        let params_of_signer = params_of(&facts.subject, facts.not_before, facts.not_after);
        let issuer = Issuer::from_params(&params_of_signer, key);
        Ok(params.signed_by(public, &issuer).map_err(Error::Unmade)?.pem())
    }

    fn ends(&self, terms: &Terms) -> Timestamp {
        Facts::of(&self.current).map_or(self.since, |facts| facts.not_before + SKEW + terms.authority * 2 / 3)
    }
}

impl Facts {
    /// What the first certificate of a PEM text says; none if there is none.
    pub(super) fn of(pem: &str) -> Option<Self> {
        Self::of_der(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)
    }

    /// What a certificate says; none if it is none.
    pub(super) fn of_der(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()?.map(|names| &names.value.general_names);
        let names = names.into_iter().flatten().filter_map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Some(Self {
            subject: common_name(parsed.subject())?,
            issuer: common_name(parsed.issuer())?,
            not_before: Timestamp::from_second(parsed.validity().not_before.timestamp()).ok()?,
            not_after: Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?,
            names: names.collect(),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
        })
    }
}

/// The certificates of a PEM text, one text each.
pub(super) fn each(pem: &str) -> impl Iterator<Item = &str> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END).filter(|part| part.contains(END)).map(str::trim_start)
}

/// Whether a key in PEM form belongs to a certificate.
pub(super) fn fits(key: &str, facts: &Facts) -> bool {
    KeyPair::from_pem(key).is_ok_and(|key| key.der_bytes() == facts.public_key)
}

/// A validity that began a little earlier, for nodes whose clocks are behind.
pub(super) fn limit(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let moment = |time: Timestamp| {
        let seconds = u64::try_from(time.as_second()).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    params.not_before = moment(from);
    params.not_after = moment(to);
}

/// From when on something made now is valid.
pub(super) fn valid_from(now: Timestamp) -> Timestamp {
    now - SKEW
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> Option<String> {
    name.iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

/// A new authority: certificate and key. Its name comes from its key, so that authorities are told apart by it.
fn make(now: Timestamp, terms: &Terms) -> Result<(String, String), Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Unmade)?;
    let name = format!("weir {:016x}", xxhash_rust::xxh3::xxh3_64(key.der_bytes()));
    let text = key.serialize_pem();
    let params = params_of(&name, valid_from(now), now + terms.authority);
    let issuer = CertifiedIssuer::self_signed(params, key).map_err(Error::Unmade)?;
    Ok((issuer.pem(), text))
}

fn params_of(name: &str, from: Timestamp, to: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    limit(&mut params, from, to);
    params
}
