//! A real S3 server, versitygw, over a folder of its own.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;
use weir_worker::checkpoint::store::s3::{Credentials, Limits, Settings};

pub(crate) const BUCKET: &str = "states";
pub(crate) const KEY_ID: &str = "weir-test";
pub(crate) const SECRET: &str = "weir-test-secret";

/// A server that does not answer by then will not.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server; it ends with this value.
pub(crate) struct Gateway {
    child: Child,
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    _port: Port,
}

/// A port that nobody else is given while this lives; a server told of it can listen there.
struct Port {
    address: SocketAddr,
    _held: TcpSocket,
}

/// A certificate and its key in files.
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Gateway {
    /// Starts a server with one empty bucket. `None` where the server is not built, which only a laptop may lack.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(None)
    }

    pub(crate) fn start_with(tls: Option<&Tls>) -> Option<Self> {
        let Some(program) = program() else {
            assert!(env::var("CI").as_deref() != Ok("true"), "versitygw is missing: .ci/run s3-server builds it");
            eprintln!("SKIPPED: versitygw is missing; .ci/run s3-server builds it");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let port = Port::hold();
        let child = run(&program, folder.path(), tls, port.address);
        Some(Self { child, folder, address: port.address, _port: port })
    }

    /// Where the server keeps its objects.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Settings for a bucket behind `address`, which need no environment.
    pub(crate) fn settings_at(address: SocketAddr) -> Settings {
        Settings {
            bucket: BUCKET.to_owned(),
            endpoint: Some(format!("http://{address}")),
            region: Some("us-east-1".to_owned()),
            path_style: true,
            credentials: Credentials::Fixed { key_id: KEY_ID.into(), secret: SECRET.into(), token: None },
            authorities: None,
            limits: Limits { attempt: Duration::from_secs(20), ..Limits::default() },
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Self::settings_at(self.address)
    }
}

impl Port {
    fn hold() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Bound, and never listening: the system gives the port to nobody, and lets in who asks for it by its number.
        socket.set_reuseaddr(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { address: socket.local_addr().unwrap(), _held: socket }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let home = || env::var("HOME").map(|home| Path::new(&home).join(".cache/weir")).ok();
    let cache = env::var("WEIR_CACHE").map(PathBuf::from).ok().or_else(home);
    let folders = cache.map(|cache| cache.join("bin")).into_iter();
    let path = env::var_os("PATH").unwrap_or_default();
    folders.chain(env::split_paths(&path)).map(|folder| folder.join("versitygw")).find(|program| program.is_file())
}

fn run(program: &Path, folder: &Path, tls: Option<&Tls>, address: SocketAddr) -> Child {
    let mut command = Command::new(program);
    command.arg("--port").arg(address.to_string());
    if let Some(tls) = tls {
        command.arg("--cert").arg(&tls.certificate).arg("--key").arg(&tls.key);
    }
    command.arg("posix").arg(folder);
    command.env("ROOT_ACCESS_KEY", KEY_ID).env("ROOT_SECRET_KEY", SECRET);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It says where it will listen, or ends; what it says later goes nowhere.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let _ = lines.by_ref().map_while(Result::ok).find(|line| line.contains("://127.0.0.1"));
    std::thread::spawn(move || lines.for_each(drop));
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert_eq!(child.try_wait().unwrap(), None, "the server has ended");
        assert!(began.elapsed() < PATIENCE, "the server does not listen");
        std::thread::yield_now();
    }
    child
}
