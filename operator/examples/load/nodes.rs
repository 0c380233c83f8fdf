//! Nodes that say of each pod that it runs, and leaders that do at once what they are told.
//!
//! A pod has an address of loopback, where one listener for all of them takes the requests of the controller: mutual TLS with
//! the certificate of the pod's job, and the answers of `docs/http.md`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use weir_operator::certificates::{Credentials, Role};
use weir_operator::model::name;

use super::NAMESPACE;

/// Statuses that are written at once.
const AT_ONCE: usize = 8;
/// Time between two checkpoints of a job.
const INTERVAL_MS: i64 = 10_000;
/// A connection without a request for so long is closed.
const IDLE: Duration = Duration::from_secs(20);

/// The leaders of all jobs.
pub(crate) struct Leaders {
    client: Client,
    /// The job of each address.
    jobs: Mutex<HashMap<Ipv4Addr, String>>,
    /// What a job was told last.
    terms: Mutex<HashMap<String, Value>>,
    configs: Mutex<HashMap<String, Arc<ServerConfig>>>,
    addresses: AtomicU32,
}

/// Starts both, for as long as the process lives.
pub(crate) fn start(client: &Client, leaders: &Arc<Leaders>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, name::API_PORT)).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let serving = Arc::clone(leaders);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (leaders, runtime) = (Arc::clone(&serving), runtime.clone());
            let served = move || drop(leaders.serve(stream, &runtime));
            std::thread::Builder::new().stack_size(512 * 1024).spawn(served).unwrap();
        }
    });
    let (pods, leaders) = (Api::<Pod>::namespaced(client.clone(), NAMESPACE), Arc::clone(leaders));
    tokio::spawn(async move {
        let events = watcher(pods.clone(), Config::default()).default_backoff();
        let started = events.filter_map(|event| {
            let pod = match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => Some(pod),
                _ => None,
            };
            let waits = |pod: &Pod| pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none());
            std::future::ready(pod.filter(waits))
        });
        let started = started.map(|pod| leaders.run(&pods, pod));
        started.buffer_unordered(AT_ONCE).for_each(|()| std::future::ready(())).await;
    });
}

impl Leaders {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            jobs: Mutex::default(),
            terms: Mutex::default(),
            configs: Mutex::default(),
            addresses: AtomicU32::new(256),
        }
    }

    /// The pod runs from now on.
    async fn run(&self, pods: &Api<Pod>, pod: Pod) {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 0)) + number);
        self.jobs.lock().insert(address, pod.labels()[name::LABEL_JOB].clone());
        let at = Timestamp::now();
        let status = json!({
            "phase": "Running", "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"name": "weir", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                "state": {"running": {"startedAt": at}}}],
        });
        // One that is gone meanwhile needs none.
        let patch = Patch::Merge(json!({"status": status}));
        drop(pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await);
    }

    /// Answers requests of one connection until it ends.
    fn serve(&self, stream: TcpStream, runtime: &tokio::runtime::Handle) -> std::io::Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_nodelay(true)?;
        let SocketAddr::V4(address) = stream.local_addr()? else { return Ok(()) };
        let Some(job) = self.jobs.lock().get(address.ip()).cloned() else { return Ok(()) };
        let connection = ServerConnection::new(self.config(&job, runtime)).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let mut request = Vec::new();
        loop {
            let Some(length) = complete(&request) else {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes)?;
                if count == 0 {
                    return Ok(());
                }
                request.extend_from_slice(&bytes[..count]);
                continue;
            };
            let text = String::from_utf8(request.drain(..length).collect()).map_err(std::io::Error::other)?;
            let body = self.answer(&job, &text).to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
            stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes())?;
            stream.flush()?;
        }
    }

    /// How a worker of the job shows who it is, and whom it believes.
    fn config(&self, job: &str, runtime: &tokio::runtime::Handle) -> Arc<ServerConfig> {
        if let Some(config) = self.configs.lock().get(job) {
            return Arc::clone(config);
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let secret = runtime.block_on(secrets.get(&Role::Worker.secret(job))).unwrap();
        let credentials = Credentials::read(&secret).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(credentials.authorities.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let chain = vec![CertificateDer::from_pem_slice(credentials.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_client_cert_verifier(verifier.build().unwrap()).with_single_cert(chain, key).unwrap();
        Arc::clone(self.configs.lock().entry(job.to_owned()).or_insert(Arc::new(config)))
    }

    fn answer(&self, job: &str, request: &str) -> Value {
        let mut terms = self.terms.lock();
        if request.starts_with("PUT") {
            let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let told: Value = serde_json::from_str(body).unwrap();
            terms.insert(job.to_owned(), told);
            return json!({});
        }
        let terms = terms.get(job).cloned().unwrap_or_else(|| json!({"revision": 0}));
        let state = if terms["revision"] == 0 { "awaiting" } else { "running" };
        match request.split_whitespace().nth(1) {
            Some("/v1/job") => json!({"state": state, "generation": 1, "registered": terms["workers"]}),
            Some("/v1/assignment") => terms,
            Some("/v1/checkpoints") => checkpoints(),
            _ => json!({"savepoints": []}),
        }
    }
}

fn checkpoints() -> Value {
    let number = Timestamp::now().as_millisecond() / INTERVAL_MS;
    let retained = |number: i64| {
        json!({"link": number, "checkpoint": number, "completedUnixMs": number * INTERVAL_MS,
            "sizes": {"totalBytes": 104_857_600, "writtenBytes": 1_048_576}})
    };
    let history = |number: i64| json!({"checkpoint": number, "outcome": "completed", "durationMs": 40});
    json!({
        "completed": 100,
        "history": (0..10).map(|back| history(number - back)).collect::<Vec<_>>(),
        "retained": (0..3).map(|back| retained(number - back)).collect::<Vec<_>>(),
    })
}

/// The length of a request, once its head and the body that it announces are there.
fn complete(request: &[u8]) -> Option<usize> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
    let body = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    Some(end + body.unwrap_or(0)).filter(|length| request.len() >= *length)
}
