//! Requests over the network.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::{Answer, Error, Peer, Request, Transport};
use crate::certificates::{Credentials, Role};

/// How long a connection to a leader is kept for the next request, and its client besides: a look at a job is a few
/// requests, and there may be thousands of jobs.
const IDLE: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(3);
/// Clients that are kept, at most: with their connections they are most of what a job costs the controller.
const MOST_KEPT: usize = 32;
/// Larger than any answer of a sound leader: one of 32,768 tasks has some 20 MiB.
const LARGEST_ANSWER: usize = 32 * 1024 * 1024;

/// Requests over mutual TLS. Connections are kept for the few requests of one look, no longer.
#[derive(Default)]
pub struct Https {
    clients: Mutex<BTreeMap<SocketAddr, Entry>>,
}

type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

struct Entry {
    credentials: Arc<Credentials>,
    client: HttpsClient,
    used: Instant,
}

impl Https {
    /// A transport without connections.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn client(&self, peer: &Peer) -> Result<HttpsClient, Error> {
        let now = Instant::now();
        let mut clients = self.clients.lock();
        clients.retain(|_, entry| now.duration_since(entry.used) < IDLE * 2);
        if let Some(entry) = clients.get_mut(&peer.address).filter(|entry| entry.credentials == peer.credentials) {
            entry.used = now;
            return Ok(entry.client.clone());
        }
        if clients.len() >= MOST_KEPT
            && let Some(oldest) = clients.iter().min_by_key(|(_, entry)| entry.used).map(|(address, _)| *address)
        {
            clients.remove(&oldest);
        }
        let client = connected(config(&peer.credentials)?);
        let credentials = Arc::clone(&peer.credentials);
        clients.insert(peer.address, Entry { credentials, client: client.clone(), used: now });
        Ok(client)
    }
}

impl Transport for Https {
    fn send<'a>(&'a self, peer: &'a Peer, request: Request) -> BoxFuture<'a, Result<Answer, Error>> {
        async move {
            let client = self.client(peer)?;
            let (address, limit) = (peer.address, request.limit);
            match tokio::time::timeout(limit, exchange(&client, address, request)).await {
                Ok(answer) => answer.map_err(|source| Error::Unreachable { address, source }),
                Err(_) => Err(Error::TimedOut { address, limit }),
            }
        }
        .boxed()
    }
}

async fn exchange(
    client: &HttpsClient,
    address: SocketAddr,
    request: Request,
) -> Result<Answer, Box<dyn StdError + Send + Sync>> {
    let body = request.body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let request = http::Request::builder()
        .method(request.method)
        .uri(format!("https://{address}{}", request.path))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let answer = client.request(request).await?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await?.to_bytes();
    Ok(Answer { status, body })
}

fn connected(config: ClientConfig) -> HttpsClient {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    http.set_nodelay(true);
    let name = ServerName::try_from(Role::Worker.name()).expect("the name of a role is a DNS name");
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .with_server_name_resolver(FixedServerNameResolver::new(name))
        .enable_http1()
        .wrap_connector(http);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1)
        .build(connector)
}

/// Trusts the job's authorities alone; sessions are not resumed, so that one that is no longer trusted cannot come back.
fn config(credentials: &Credentials) -> Result<ClientConfig, Error> {
    let refused = |error: &dyn std::fmt::Display| Error::Credentials(error.to_string());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(credentials.authorities.as_bytes()) {
        roots.add(authority.map_err(|error| refused(&error))?).map_err(|error| refused(&error))?;
    }
    let chain = CertificateDer::pem_slice_iter(credentials.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| refused(&error))?;
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).map_err(|error| refused(&error))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(&error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| refused(&error))?;
    config.resumption = Resumption::disabled();
    Ok(config)
}
