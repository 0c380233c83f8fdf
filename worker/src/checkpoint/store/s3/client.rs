//! The SDK's client, set up so that everything which may wait or repeat is decided here.

use super::credentials::Renewed;
use super::settings::{Credentials, Settings};
use crate::failure::{Failure, Result};
use aws_config::default_provider::region::DefaultRegionChain;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;

/// The region that stores other than AWS expect when nobody names one.
const USUAL_REGION: &str = "us-east-1";

/// A client, and who gives it credentials.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) credentials: Arc<Renewed>,
    pub(super) region: String,
}

/// Makes a client. Sends nothing to the bucket; a region that nobody names may be asked of the machine's metadata.
/// Fails with kind `User` when there is no region or when the file of authorities cannot be used.
pub(super) async fn connect(settings: &Settings) -> Result<Connected> {
    let plain = settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    // Without TLS the machine needs no authorities at all, unless others are asked for credentials.
    let needed = !plain || matches!(settings.credentials, Credentials::Surroundings);
    let authorities = settings.authorities.as_deref().filter(|_| needed).map(trust).transpose()?;
    let http = if plain { Builder::new().build_http() } else { https(authorities.clone()) };
    let region = region(settings).await?;
    let reach = authorities.map(|trust| https(Some(trust)));
    let credentials = Arc::new(Renewed::new(settings.credentials.clone(), region.clone(), reach));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(settings.limits.connect)
        .disable_read_timeout()
        .disable_operation_timeout()
        .disable_operation_attempt_timeout();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .region(region.clone())
        .force_path_style(settings.path_style)
        .credentials_provider(SharedCredentialsProvider::new(Arc::clone(&credentials) as Arc<dyn ProvideCredentials>))
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
        // An attempt has a time limit by its size, which also ends a stream that stalls.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Many stores refuse the newer checksums; state files have their own.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    config.set_endpoint_url(settings.endpoint.clone());
    Ok(Connected { client: Client::from_conf(config.build()), credentials, region: region.to_string() })
}

async fn region(settings: &Settings) -> Result<Region> {
    match (&settings.region, &settings.endpoint) {
        (Some(region), _) => Ok(Region::new(region.clone())),
        (None, Some(_)) => Ok(Region::from_static(USUAL_REGION)),
        (None, None) => DefaultRegionChain::builder().build().region().await.ok_or_else(|| {
            Failure::user(format!(
                "the region of the bucket '{}' is not known: set spec.storage.s3.region, or AWS_REGION",
                settings.bucket
            ))
        }),
    }
}

fn https(authorities: Option<TrustStore>) -> SharedHttpClient {
    let context = TlsContext::builder().with_trust_store(authorities.unwrap_or_default()).build();
    let context = context.expect("a trust store alone is a complete context");
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https()
}

/// The authorities in a file. They are looked at here, because the client would panic on one that it cannot read; the
/// bundles of machines often have such.
fn trust(path: &Path) -> Result<TrustStore> {
    let refused = |what: &str| Failure::user(format!("the authorities in {} cannot be used: {what}", path.display()));
    let pem = std::fs::read_to_string(path).map_err(|error| refused(&error.to_string()))?;
    let good = pem.split_inclusive("-----END CERTIFICATE-----").filter(|one| is_authority(one));
    let mut number = 0;
    let store = good.fold(TrustStore::empty(), |store, one| {
        number += 1;
        store.with_pem_certificate(one)
    });
    if number == 0 {
        return Err(refused("it has no certificates in PEM"));
    }
    Ok(store)
}

fn is_authority(pem: &str) -> bool {
    let certificate = CertificateDer::pem_slice_iter(pem.as_bytes()).next();
    certificate.and_then(Result::ok).is_some_and(|one| rustls::RootCertStore::empty().add(one).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn authorities_are_read_with_care() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let good = rcgen::generate_simple_self_signed(["store".to_owned()]).unwrap().cert.pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, accepted) in [(String::new(), false), (broken.to_owned(), false), (format!("{broken}{good}"), true)]
        {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(trust(&path).is_ok(), accepted, "{text}");
        }
        assert!(trust(&folder.path().join("none")).is_err());
    }
}
