//! An authority of one's own, for a job on one machine and for tests.

use super::{Identity, Role};
use crate::failure::{Failure, Result};
use chrono::{Datelike, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{Error, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How long self-made certificates are valid.
const YEARS: i32 = 10;

/// An authority whose key is in memory alone: once it is dropped, nobody makes certificates in its name.
pub struct Authority {
    folder: PathBuf,
    pub(super) issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Makes an authority and, below `folder`, what a worker and a controller of its job need: `worker/` and `controller/`
/// with `tls.crt`, `tls.key` and `ca.crt` each. Keys are readable for their owner alone; files of an earlier authority
/// are replaced.
pub fn self_made(folder: &Path) -> Result<Authority> {
    let authority = Authority { folder: folder.to_owned(), issuer: issuer()? };
    for role in [Role::Worker, Role::Controller] {
        authority.issue(role, &authority.folder_of(role))?;
    }
    Ok(authority)
}

impl Authority {
    /// The folder of what a process of this role needs.
    #[must_use]
    pub fn folder_of(&self, role: Role) -> PathBuf {
        self.folder.join(match role {
            Role::Worker => "worker",
            Role::Controller => "controller",
        })
    }

    /// A process of this role.
    pub fn identity(&self, role: Role) -> Result<Arc<Identity>> {
        Identity::in_folder(&self.folder_of(role))
    }

    /// The authority's own certificate, in PEM form.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Makes a certificate with a key, and writes them with the authority's own into a folder.
    pub fn issue(&self, role: Role, folder: &Path) -> Result<()> {
        let key = KeyPair::generate().map_err(unmade)?;
        let certificate = leaf(role)?.signed_by(&key, &self.issuer).map_err(unmade)?;
        let files = [
            ("tls.crt", certificate.pem(), 0o644),
            ("tls.key", key.serialize_pem(), 0o600),
            ("ca.crt", self.certificate(), 0o644),
        ];
        let failed =
            |error| Failure::user(format!("cannot write certificates into {}", folder.display())).because(error);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        for (name, text, mode) in files {
            write(&folder.join(name), &text, mode).map_err(failed)?;
        }
        Ok(())
    }
}

fn issuer() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    // A name of its own, so that authorities are told apart by it.
    params.distinguished_name.push(DnType::CommonName, format!("weir {}", uuid::Uuid::new_v4()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    limit(&mut params);
    CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(unmade)?).map_err(unmade)
}

/// What a certificate of a role says.
pub(super) fn leaf(role: Role) -> Result<CertificateParams> {
    let mut params = CertificateParams::new([role.name().to_owned()]).map_err(unmade)?;
    params.distinguished_name.push(DnType::CommonName, role.name());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    limit(&mut params);
    Ok(params)
}

fn limit(params: &mut CertificateParams) {
    let year = Utc::now().year();
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
}

/// The mode holds from the first byte on, also for a file that was there.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())
}

fn unmade(error: rcgen::Error) -> Failure {
    Failure::bug("a certificate could not be made").because(error)
}
