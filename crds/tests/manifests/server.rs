//! What people read from `kubectl`: the CRDs and the table of manifests before a real API server.
//!
//! An etcd and a kube-apiserver on loopback are enough. Their programs are those that `.ci/run` builds for the end-to-end
//! tests; without them the test is skipped, and says so.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir_crds::definitions;

use crate::table::{BAD, FORBIDDEN_CHANGES, GOOD, complete};

/// What kubectl answers where it, or the server, refuses before any rule is looked at. None: kubectl sees no mistake, as
/// it reads YAML more loosely than we do.
const BEFORE_RULES: &[(&str, Option<&str>)] = &[
    ("nothing", Some("no objects passed to apply")),
    ("two documents", Some("apiVersion not set")),
    ("broken YAML", Some("did not find expected ',' or '}'")),
    ("a tab", Some("cannot start any token")),
    ("a tab on the next line", Some("found a tab character")),
    ("a colon in a text", Some("mapping values are not allowed")),
    ("a key twice", None),
    ("SQL instead of a manifest", Some("invalid object to validate")),
    ("another kind", Some("no matches for kind \"Streamjob\" in version \"weir.dev/v1alpha1\"")),
    ("another version", Some("no matches for kind \"StreamJob\" in version \"weir.dev/v1\"")),
    ("all is missing", Some("apiVersion not set, kind not set")),
    ("every kind of mistake at once", Some("unknown field \"spec.paralelism\", unknown field \"spec.pipelin\"")),
    ("a generated name and a bad namespace", Some("cannot use generate name with apply")),
    ("no rule is judged by a field that is wrong itself", Some("spec.maxParallelism in body must be of type integer")),
    ("a storage misspelt", Some("unknown field \"spec.storage.locl\"")),
    ("a bucket that is an address", Some("spec.storage.s3.credentialsSecretRef.name: Required value")),
];

/// What nobody should have to read.
const UNREADABLE: &[&str] = &["should match", "rule:", "evaluation", "no such", "overload", "(root)"];

/// An API server of its own.
struct Server {
    folder: PathBuf,
    programs: PathBuf,
    children: Vec<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The folder of the programs that a cluster is made of.
fn programs() -> Option<PathBuf> {
    let cache = std::env::var_os("WEIR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/weir")))?;
    let mut folders: Vec<PathBuf> = cache.join("kind").read_dir().ok()?.map(|entry| entry.unwrap().path()).collect();
    let needed = ["etcd", "kube-apiserver", "kubectl", "kubeadm"];
    folders.retain(|folder| needed.iter().all(|program| folder.join(program).is_file()));
    folders.sort_by_key(|folder| folder.metadata().and_then(|metadata| metadata.modified()).unwrap());
    folders.pop()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    fn start(programs: PathBuf) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api-server");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut server = Self { folder, programs, children: Vec::new() };
        let (clients, peers, port) = (free_port(), free_port(), free_port());
        server.make_keys();
        fs::write(server.folder.join("tokens"), "token,admin,1,system:masters\n").unwrap();
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             users: [{{name: a, user: {{token: token}}}}]\n\
             clusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:{port}', insecure-skip-tls-verify: true}}}}]\n"
        );
        fs::write(server.folder.join("kubeconfig"), kubeconfig).unwrap();
        let etcd = ("127.0.0.1", clients);
        let (clients, peers) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
        server.run(
            "etcd",
            &[
                ("data-dir", "etcd"),
                ("listen-client-urls", &clients),
                ("advertise-client-urls", &clients),
                ("listen-peer-urls", &peers),
                ("initial-advertise-peer-urls", &peers),
                ("initial-cluster", &format!("default={peers}")),
            ],
        );
        server.wait("etcd", || TcpStream::connect(etcd).is_ok());
        server.run(
            "kube-apiserver",
            &[
                ("etcd-servers", &clients),
                ("bind-address", "127.0.0.1"),
                ("secure-port", &port.to_string()),
                ("cert-dir", "certs"),
                ("service-account-key-file", "sa.pub"),
                ("service-account-signing-key-file", "sa.key"),
                ("service-account-issuer", "https://kubernetes.default.svc"),
                ("service-cluster-ip-range", "10.0.0.0/24"),
                ("token-auth-file", "tokens"),
                ("authorization-mode", "RBAC"),
            ],
        );
        let mut ready = server.program("kubectl");
        ready.args(["get", "--raw", "/readyz"]);
        server.wait("the API server", || ready.output().unwrap().status.success());
        server
    }

    /// The keys that tokens of service accounts are signed with.
    fn make_keys(&self) {
        // Without a version kubeadm asks for one on the internet.
        let version = self.program("kubeadm").args(["version", "--output=short"]).output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let mut command = self.program("kubeadm");
        command.args(["init", "phase", "certs", "sa", "--kubernetes-version", version.trim(), "--cert-dir"]);
        let made = command.arg(&self.folder).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.folder).env("HOME", &self.folder).env("KUBECONFIG", self.folder.join("kubeconfig"));
        command
    }

    fn run(&mut self, name: &str, flags: &[(&str, &str)]) {
        let log = File::create(self.folder.join(format!("{name}.log"))).unwrap();
        let mut command = self.program(name);
        command.args(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
        self.children.push(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    fn wait(&mut self, who: &str, mut answers: impl FnMut() -> bool) {
        let began = Instant::now();
        while !answers() {
            for child in &mut self.children {
                assert!(child.try_wait().unwrap().is_none(), "{who} has ended: see {}", self.folder.display());
            }
            assert!(began.elapsed() < Duration::from_secs(300), "{who} is silent: see {}", self.folder.display());
        }
    }

    /// Whether kubectl could do it, and all that it says.
    fn kubectl(&self, args: &[&str], input: &str) -> (bool, String) {
        let mut command = self.program("kubectl");
        let pipes = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    }

    /// Applies a manifest; panics with what is said if it is refused.
    fn applied(&self, args: &[&str], manifest: &str) {
        let (done, said) = self.kubectl(&[&["apply", "-f", "-"], args].concat(), manifest);
        assert!(done, "{manifest}\n{said}");
    }

    /// What is said of a manifest that is refused.
    fn refused(&self, name: &str, manifest: &str) -> String {
        let (done, said) = self.kubectl(&["apply", "--dry-run=server", "-f", "-"], manifest);
        assert!(!done, "{name} is not refused: {said}");
        for word in UNREADABLE {
            assert!(!said.contains(word), "{name}: {said}");
        }
        said
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn kubectl_answers_every_bad_manifest_with_words() {
    let Some(programs) = programs() else {
        eprintln!("kubectl_answers_every_bad_manifest_with_words is skipped: there are no programs of a cluster");
        return;
    };
    let server = Server::start(programs);
    for (_, crd) in definitions() {
        server.applied(&[], &crd);
    }
    let (_, said) = server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=5m"], "");
    assert_eq!(said.matches("condition met").count(), 2, "{said}");
    server.kubectl(&["create", "namespace", "prod"], "");

    bad_manifests(&server);
    for manifest in GOOD {
        // One that was read back belongs to an object that exists.
        if !manifest.contains("resourceVersion") {
            server.applied(&["--dry-run=server"], &complete(manifest));
        }
    }
    changes(&server);
    savepoints(&server);
    people(&server);
}

fn bad_manifests(server: &Server) {
    for bad in BAD {
        let manifest = complete(bad.manifest);
        let before = BEFORE_RULES.iter().find(|(name, _)| *name == bad.name);
        if matches!(before, Some((_, None))) {
            server.applied(&["--dry-run=server"], &manifest);
            continue;
        }
        let said = server.refused(bad.name, &manifest);
        let expected = before.map_or(bad.cel.to_vec(), |(_, answer)| answer.iter().copied().collect());
        assert!(!expected.is_empty(), "{}: say what kubectl answers: {said}", bad.name);
        for part in expected {
            assert!(said.contains(part), "{}: {said}", bad.name);
        }
    }
}

fn changes(server: &Server) {
    for (old, new, path, cel) in FORBIDDEN_CHANGES {
        server.applied(&[], &complete(old));
        let said = server.refused(new, &complete(new));
        assert!(said.contains(cel) && said.contains(path), "{said}");
        server.kubectl(&["delete", "streamjob", "bids"], "");
    }
    // What was a default does not come in the way of another choice.
    server.applied(&[], &complete("  parallelism: 1\n"));
    server.applied(&[], &complete("  restart: {none: {}}\n"));
    server.kubectl(&["delete", "streamjob", "bids"], "");
}

fn savepoints(server: &Server) {
    let savepoint = |name: &str, job: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Savepoint\nmetadata: {{name: {name}}}\nspec: {{jobRef: {{name: {job}}}}}\n"
        )
    };
    server.applied(&[], &savepoint("before", "a"));
    assert!(server.refused("another job", &savepoint("before", "b")).contains("jobRef cannot be changed"));
    assert!(server.refused("a long name", &savepoint(&"s".repeat(64), "a")).contains("longer than 63 characters"));
    assert!(server.refused("no name", &savepoint("s", "A_b")).contains("expected the name of an object"));
}

/// What kubectl shows, and the scale subresource.
fn people(server: &Server) {
    server.applied(&[], &complete("  parallelism: 1\n"));
    let said = server.kubectl(&["scale", "sj/bids", "--replicas=200"], "").1;
    assert!(said.contains("parallelism is above maxParallelism"), "{said}");
    assert!(server.kubectl(&["scale", "sj/bids", "--replicas=4"], "").0);
    let said = server.kubectl(&["get", "sj"], "").1;
    assert!(
        said.starts_with("NAME   STATE   PARALLELISM   WORKERS   CHECKPOINT AGE   RESTARTS   AGE\nbids           4 "),
        "{said}"
    );
    let said = server.kubectl(&["get", "weir", "-o", "name"], "").1;
    assert_eq!(said, "savepoint.weir.dev/before\nstreamjob.weir.dev/bids\n");
    let said = server.kubectl(&["explain", "streamjob.spec.checkpoint.interval"], "").1;
    assert!(said.contains("Time from the start of one checkpoint to the start of the next"), "{said}");
}
