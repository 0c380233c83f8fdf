//! Handshakes over loopback, and what becomes of certificates that do not fit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::authority::leaf;
use super::*;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Two authorities that know nothing of each other, with a worker and a controller each.
pub(crate) struct Jobs {
    folder: TempDir,
    pub(crate) own: Authority,
    pub(crate) other: Authority,
}

pub(crate) fn jobs() -> Jobs {
    let folder = tempfile::tempdir().unwrap();
    let own = self_made(&folder.path().join("own")).unwrap();
    let other = self_made(&folder.path().join("other")).unwrap();
    Jobs { folder, own, other }
}

impl Jobs {
    pub(crate) fn secure(&self, role: Role) -> Security {
        Security::Mutual(self.own.identity(role).unwrap())
    }

    /// A process with a certificate of the other job that trusts both authorities.
    pub(crate) fn intruder(&self, role: Role) -> Security {
        let folder = self.folder.path().join("intruder");
        self.other.issue(role, &folder).unwrap();
        fs::write(folder.join("ca.crt"), self.own.certificate() + &self.other.certificate()).unwrap();
        Security::Mutual(Identity::in_folder(&folder).unwrap())
    }
}

/// A client that trusts an authority and shows what it is given.
struct Raw(Arc<ClientConfig>);

impl Raw {
    fn showing(authority: &str, shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        Self(Arc::new(match shown {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        }))
    }

    async fn connect(&self, address: SocketAddr) -> std::io::Result<Stream> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(Role::Worker.name()).unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}

/// Connects a client that trusts an authority and shows no certificate.
pub(crate) async fn connect_without_certificate(authority: &Authority, address: SocketAddr) -> std::io::Result<Stream> {
    Raw::showing(&authority.certificate(), None).connect(address).await
}

fn made_by(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> (String, KeyPair) {
    let mut params = leaf(Role::Worker).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key)
}

fn raw(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Raw {
    let (certificate, key) = made_by(&authority.issuer, change);
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    Raw::showing(&authority.certificate(), Some((chain, key)))
}

fn renamed(name: &str) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().unwrap())]
}

fn expired(params: &mut CertificateParams) {
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
}

fn early(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(4000, 1, 1);
    params.not_after = rcgen::date_time_ymd(4001, 1, 1);
}

enum Client<'a> {
    Of(&'a Security),
    Raw(&'a Raw),
}

/// What both sides say about a connection over which the server sends one byte.
fn meet(server: &Security, client: &Client) -> (Result<Role, String>, Result<u8, String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut stream, peer) = server.accept(stream).await.map_err(|failure| failure.chain())?;
            stream.write_all(&[7]).await.map_err(|error| error.to_string())?;
            // Until the client has gone: a connection closed on unread bytes would be reset.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            Ok(peer.role)
        };
        let client = async {
            let mut stream = match client {
                Client::Of(security) => security.connect(address).await.map_err(|failure| failure.chain())?,
                Client::Raw(raw) => raw.connect(address).await.map_err(|error| error.to_string())?,
            };
            stream.write_all(b"more than the handshake").await.map_err(|error| error.to_string())?;
            stream.read_u8().await.map_err(|error| error.to_string())
        };
        tokio::join!(server, client)
    })
}

#[track_caller]
fn check(server: &Security, client: &Client, expected: (Result<Role, &str>, Result<u8, &str>)) {
    let (at_server, at_client) = meet(server, client);
    let fits = |found: &Result<String, String>, expected: Result<String, &str>| match (found, expected) {
        (Ok(found), Ok(expected)) => *found == expected,
        (Err(found), Err(expected)) => found.contains(expected),
        _ => false,
    };
    let roles = (at_server.map(|role| format!("{role:?}")), expected.0.map(|role| format!("{role:?}")));
    assert!(fits(&roles.0, roles.1), "the server: {:?}, not {:?}", roles.0, expected.0);
    let bytes = (at_client.map(|byte| byte.to_string()), expected.1.map(|byte| byte.to_string()));
    assert!(fits(&bytes.0, bytes.1), "the client: {:?}, not {:?}", bytes.0, expected.1);
}

#[test]
fn a_peer_is_who_its_certificate_says() {
    let jobs = jobs();
    let worker = jobs.secure(Role::Worker);
    check(&worker, &Client::Of(&worker), (Ok(Role::Worker), Ok(7)));
    check(&worker, &Client::Of(&jobs.secure(Role::Controller)), (Ok(Role::Controller), Ok(7)));
    let both = raw(&jobs.own, |params| {
        let controller = rcgen::SanType::DnsName(Role::Controller.name().try_into().unwrap());
        params.subject_alt_names.push(controller);
    });
    check(&worker, &Client::Raw(&both), (Ok(Role::Controller), Ok(7)));
    check(&Security::Insecure, &Client::Of(&Security::Insecure), (Ok(Role::Controller), Ok(7)));
}

#[test]
fn a_peer_that_is_refused_gets_no_byte_and_both_sides_say_why() {
    let jobs = jobs();
    let worker = jobs.secure(Role::Worker);
    let stranger = Security::Mutual(jobs.other.identity(Role::Worker).unwrap());
    let not_made = "was not made by this job's authority";
    let not_trusted = "refused the certificate of this process: it was not made by an authority";
    check(&worker, &Client::Of(&stranger), (Err(not_trusted), Err(not_made)));
    check(&worker, &Client::Of(&jobs.intruder(Role::Worker)), (Err(not_made), Err(not_trusted)));
    check(&worker, &Client::Of(&jobs.intruder(Role::Controller)), (Err(not_made), Err(not_trusted)));
    let none = Raw::showing(&jobs.own.certificate(), None);
    check(&worker, &Client::Raw(&none), (Err("showed no certificate"), Err("demands a certificate")));
    let late = raw(&jobs.own, expired);
    check(&worker, &Client::Raw(&late), (Err("has expired (2020-01-01T00:00:00Z)"), Err("it has expired")));
    let nameless = raw(&jobs.own, renamed("stranger.weir"));
    let (at_server, at_client) = meet(&worker, &Client::Raw(&nameless));
    assert!(at_server.unwrap_err().contains("names neither worker.weir nor controller.weir"));
    assert!(at_client.is_err());
}

#[test]
fn a_server_is_a_worker_wherever_it_listens() {
    let jobs = jobs();
    let (worker, controller) = (jobs.secure(Role::Worker), jobs.secure(Role::Controller));
    let (_, at_client) = meet(&controller, &Client::Of(&worker));
    let error = at_client.unwrap_err();
    assert!(error.contains("does not name a worker but") && error.contains("controller.weir"), "{error}");
}

#[test]
fn who_does_not_speak_tls_is_told_apart() {
    let jobs = jobs();
    let worker = jobs.secure(Role::Worker);
    let (at_server, at_client) = meet(&worker, &Client::Of(&Security::Insecure));
    assert!(at_server.unwrap_err().contains("does not speak TLS: does it run with --insecure?"));
    assert!(at_client.is_ok_and(|byte| byte != 7), "an alert, nothing else");
    let (_, at_client) = meet(&Security::Insecure, &Client::Of(&worker));
    assert!(at_client.unwrap_err().contains("does it run with --insecure?"));
}

#[test]
fn a_worker_that_is_not_there_is_named() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = runtime.block_on(Security::Insecure.connect(address)).err().unwrap();
    assert_eq!(failure.kind, crate::failure::Kind::Transient);
    assert!(failure.to_string().contains(&format!("cannot connect to {address}")), "{failure}");
}

#[tokio::test]
async fn an_address_at_which_no_machine_answers_is_given_up_soon() {
    // A listener whose queue is full drops what would come in, as an address does that is nobody's any more.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    let failure = loop {
        match Security::Insecure.connect_anew(address).await {
            Ok(stream) => queued.push(stream),
            Err(failure) => break failure,
        }
        assert!(queued.len() < 100, "the queue is never full");
    };
    assert_eq!(failure.to_string(), format!("no machine answered at {address} within a second"));
}

#[test]
fn keys_are_their_owners_alone() {
    let jobs = jobs();
    for role in [Role::Worker, Role::Controller] {
        let folder = jobs.own.folder_of(role);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("tls.key"))), (0o700, 0o600));
        assert_eq!(jobs.own.identity(role).unwrap().role(), role);
    }
}

/// A change to one file of an identity, and what loading it says.
type Damage<'a> = (&'a str, Option<&'a str>, &'a str);

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let jobs = jobs();
    let own = &jobs.own;
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let open_end = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let large = "#".repeat(2_000_000);
    let table: [Damage; 12] = [
        ("tls.crt", None, "cannot read the certificate"),
        ("tls.key", None, "cannot read the key"),
        ("ca.crt", None, "cannot read the authorities"),
        (
            "tls.crt",
            Some("hello"),
            "holds no certificate in PEM form: it should begin with -----BEGIN CERTIFICATE-----",
        ),
        ("tls.key", Some("hello"), "holds no key in PEM form: it should begin with -----BEGIN PRIVATE KEY-----"),
        ("ca.crt", Some(""), "holds no authorities in PEM form"),
        ("tls.crt", Some(garbage), "cannot be understood"),
        ("tls.crt", Some(open_end), "cannot be understood"),
        ("ca.crt", Some(garbage), "the authorities in"),
        ("ca.crt", Some(&large), "is larger than"),
        ("tls.key", Some(&other_key), "does not fit the certificate"),
        ("ca.crt", Some(&jobs.other.certificate()), "was made by none of the authorities that it comes with"),
    ];
    for (name, content, expected) in table {
        let folder = tempfile::tempdir().unwrap();
        own.issue(Role::Worker, folder.path()).unwrap();
        match content {
            Some(content) => fs::write(folder.path().join(name), content).unwrap(),
            None => fs::remove_file(folder.path().join(name)).unwrap(),
        }
        refused(folder.path(), expected);
    }
}

#[test]
fn certificates_that_nobody_would_take_are_refused_at_once() {
    let jobs = jobs();
    let name = |name| Box::new(renamed(name)) as Box<dyn FnOnce(&mut CertificateParams)>;
    let no_client = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    let table = [
        (Box::new(expired) as Box<dyn FnOnce(&mut CertificateParams)>, "has expired (2020-01-01T00:00:00Z)"),
        (Box::new(early), "is not valid yet (4000-01-01T00:00:00Z): is a clock wrong?"),
        (name("leader.weir"), "names neither worker.weir nor controller.weir among its DNS names"),
        (Box::new(no_client), "is not made for both sides of a connection"),
    ];
    for (change, expected) in table {
        let folder = tempfile::tempdir().unwrap();
        jobs.own.issue(Role::Worker, folder.path()).unwrap();
        put(folder.path(), made_by(&jobs.own.issuer, change));
        refused(folder.path(), expected);
    }
}

#[track_caller]
fn refused(folder: &Path, expected: &str) {
    let failure = Identity::in_folder(folder).err().unwrap();
    assert_eq!(failure.kind, crate::failure::Kind::User, "{failure}");
    assert!(failure.to_string().contains(expected), "{failure}, not {expected}");
}

fn put(folder: &Path, (certificate, key): (String, KeyPair)) {
    fs::write(folder.join("tls.crt"), certificate).unwrap();
    fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
}

/// Both authorities are trusted while the certificates are replaced, then the old one no more.
#[test]
fn an_authority_is_replaced_without_a_restart() {
    let jobs = jobs();
    let folder = jobs.own.folder_of(Role::Worker);
    let identity = Identity::watched(&folder).unwrap();
    let server = Security::Mutual(Arc::clone(&identity));
    let (old, new) = (jobs.secure(Role::Worker), jobs.intruder(Role::Worker));
    check(&server, &Client::Of(&new), (Err("was not made by this job's authority"), Err("refused")));

    let authorities = folder.join("ca.crt");
    fs::write(&authorities, jobs.own.certificate() + &jobs.other.certificate()).unwrap();
    check(&server, &Client::Of(&new), (Ok(Role::Worker), Ok(7)));
    check(&server, &Client::Of(&old), (Ok(Role::Worker), Ok(7)));

    jobs.other.issue(Role::Worker, &folder).unwrap();
    check(&server, &Client::Of(&new), (Ok(Role::Worker), Ok(7)));
    check(&server, &Client::Of(&old), (Err("refused the certificate"), Err("was not made by this job's authority")));
    assert_eq!((identity.reloads(), identity.trouble()), (2, None));
}

#[test]
fn new_files_that_do_not_fit_leave_the_old_ones_in_force() {
    let jobs = jobs();
    let folder = jobs.own.folder_of(Role::Worker);
    let identity = Identity::watched(&folder).unwrap();
    let (server, client) = (Security::Mutual(Arc::clone(&identity)), jobs.secure(Role::Controller));
    let key = fs::read(folder.join("tls.key")).unwrap();
    for (damage, said) in [("torn", "holds no key"), ("-----BEGIN PRIVATE KEY-----\n", "cannot be understood")] {
        fs::File::create(folder.join("tls.key")).unwrap().write_all(damage.as_bytes()).unwrap();
        check(&server, &Client::Of(&client), (Ok(Role::Controller), Ok(7)));
        assert!(identity.trouble().unwrap().contains(said), "{:?}", identity.trouble());
    }
    fs::write(folder.join("tls.key"), key).unwrap();
    check(&server, &Client::Of(&client), (Ok(Role::Controller), Ok(7)));
    assert_eq!(identity.trouble(), None);
}

/// As Kubernetes does it: files are links through `..data`, which is swapped.
#[test]
fn a_swapped_link_is_seen() {
    let jobs = jobs();
    let folder = tempfile::tempdir().unwrap();
    jobs.own.issue(Role::Worker, &folder.path().join("first")).unwrap();
    jobs.other.issue(Role::Worker, &folder.path().join("second")).unwrap();
    symlink("first", folder.path().join("..data")).unwrap();
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    let server = Security::Mutual(Identity::watched(folder.path()).unwrap());
    let other = Security::Mutual(jobs.other.identity(Role::Controller).unwrap());
    check(&server, &Client::Of(&jobs.secure(Role::Controller)), (Ok(Role::Controller), Ok(7)));
    symlink("second", folder.path().join("..new")).unwrap();
    fs::rename(folder.path().join("..new"), folder.path().join("..data")).unwrap();
    check(&server, &Client::Of(&other), (Ok(Role::Controller), Ok(7)));
}
