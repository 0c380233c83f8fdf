//! The certificate of a role.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256};

use super::authority::{Authorities, Facts, each, fits, limit, valid_from};
use super::{Error, Terms, text};

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A worker, the leader among them: may read.
    Worker,
    /// The controller: may read and change.
    Controller,
}

impl Role {
    /// The DNS name that says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker.weir",
            Self::Controller => "controller.weir",
        }
    }

    /// Name of the Secret of a job with this role's certificate.
    #[must_use]
    pub fn secret(self, job: &str) -> String {
        match self {
            Self::Worker => format!("{job}-worker-tls"),
            Self::Controller => format!("{job}-controller-tls"),
        }
    }
}

/// A certificate, its key, and the authorities to trust, all in PEM form.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// Certificates of the authorities.
    pub authorities: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Credentials {
    /// What a Secret holds; none if a part is missing.
    #[must_use]
    pub fn read(secret: &Secret) -> Option<Self> {
        let [certificate, key, authorities] = ["tls.crt", "tls.key", "ca.crt"].map(|name| text(secret, name));
        Some(Self { certificate: certificate?, key: key?, authorities: authorities? })
    }

    /// What the Secret shall hold, under the names that Kubernetes uses.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let parts = [("tls.crt", &self.certificate), ("tls.key", &self.key), ("ca.crt", &self.authorities)];
        parts.map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec()))).into()
    }

    /// When it must be replaced: after two thirds of its life.
    pub(super) fn due(&self) -> Timestamp {
        Facts::of(&self.certificate).map_or(Timestamp::UNIX_EPOCH, |facts| {
            facts.not_before + facts.not_after.duration_since(facts.not_before) * 2 / 3
        })
    }

    /// The certificate of the authority that made this one.
    pub(super) fn issuer_certificate(&self) -> Option<String> {
        let issuer = Facts::of(&self.certificate)?.issuer;
        let found = each(&self.authorities).find(|pem| Facts::of(pem).is_some_and(|facts| facts.subject == issuer));
        found.map(|pem| format!("{pem}\n"))
    }

    fn usable(&self, role: Role, now: Timestamp, authorities: &Authorities) -> bool {
        let Some(facts) = Facts::of(&self.certificate) else { return false };
        facts.names == [role.name()] && authorities.signs(&facts.issuer) && now < self.due() && fits(&self.key, &facts)
    }
}

/// The certificate of a role from now on: the stored one as long as it is good, with the authorities of now.
pub(super) fn renewed(
    role: Role,
    now: Timestamp,
    terms: &Terms,
    authorities: &Authorities,
    stored: Option<&Credentials>,
) -> Result<Credentials, Error> {
    let trusted = authorities.trusted();
    if let Some(stored) = stored.filter(|stored| stored.usable(role, now, authorities)) {
        return Ok(Credentials { authorities: trusted, ..stored.clone() });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Unmade)?;
    let mut params = CertificateParams::new([role.name().to_owned()]).map_err(Error::Unmade)?;
    params.distinguished_name.push(DnType::CommonName, role.name());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    limit(&mut params, valid_from(now), now + terms.leaf);
    Ok(Credentials { certificate: authorities.sign(&params, &key)?, key: key.serialize_pem(), authorities: trusted })
}
