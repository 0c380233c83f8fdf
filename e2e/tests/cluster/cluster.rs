//! The cluster of the environment, with Weir and an S3 server in it.

use crate::{output, watch};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;
use std::{env, io::Write};

/// The namespace of the controller and the name of its release.
pub(crate) const SYSTEM: &str = "weir-system";
/// The name of the chart's release, and so of its Deployment.
pub(crate) const RELEASE: &str = "weir";

static READY: OnceLock<()> = OnceLock::new();
static CLUSTER: RwLock<()> = RwLock::new(());

/// Who else may use the cluster meanwhile.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    /// Other scenarios: what is done concerns this one's namespace alone.
    Others,
    /// Nobody: nodes, the controller or the store are taken away.
    Nobody,
}

/// A scenario's time with the cluster.
pub(crate) enum Turn {
    /// See [`Beside::Others`].
    Shared { _guard: RwLockReadGuard<'static, ()> },
    /// See [`Beside::Nobody`].
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// What is asked of kubectl and what it answered.
pub(crate) struct Answer {
    command: String,
    ok: bool,
    /// What it printed to standard output.
    pub(crate) text: String,
    /// What it said beside that.
    pub(crate) said: String,
}

impl Answer {
    /// The text, if the command was successful; otherwise the test fails with what it said.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert!(self.ok, "{}\n{}{}", self.command, self.text, self.said);
        self.text
    }

    /// What it said when it refused; the test fails if it did not.
    #[track_caller]
    pub(crate) fn refusal(self) -> String {
        assert!(!self.ok, "{} was accepted: {}", self.command, self.text);
        self.said
    }

    /// Whether it was successful.
    pub(crate) const fn is_good(&self) -> bool {
        self.ok
    }

    /// Whether the way to the cluster failed and not what was asked.
    fn is_lost(&self) -> bool {
        !self.ok && LOST.iter().any(|words| self.said.contains(words))
    }
}

/// What kubectl says when a busy API server or kubelet did not answer.
const LOST: &[&str] = &[
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "error dialing backend",
    "TLS handshake timeout",
    "connection refused - did you specify the right host",
    "Unable to connect to the server",
    "the server was unable to return a response in the time allotted",
    "Too many requests",
    "http2: client connection lost",
];

/// Runs a program of the path with something to read. What did not reach the cluster is tried again.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Answer {
    let deadline = Instant::now() + watch::PATIENCE;
    loop {
        let answer = run_once(program, arguments, input);
        if !answer.is_lost() || Instant::now() > deadline {
            return answer;
        }
        eprintln!("tried again: {}: {}", answer.command, answer.said.trim());
    }
}

fn run_once(program: &str, arguments: &[&str], input: &str) -> Answer {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program} does not run: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A program that does not read all of it says itself why.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Answer {
        command: format!("{program} {}", arguments.join(" ")),
        ok: output.status.success(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `kubectl` with arguments.
pub(crate) fn kubectl(arguments: &[&str]) -> Answer {
    run("kubectl", arguments, "")
}

/// The repository.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set; e2e/run sets it"))
}

/// The image of worker pods.
pub(crate) fn worker_image() -> String {
    variable("WEIR_E2E_WORKER_IMAGE")
}

/// The same image under another name.
pub(crate) fn next_image() -> String {
    variable("WEIR_E2E_NEXT_IMAGE")
}

/// The image of the S3 server.
pub(crate) fn s3_image() -> String {
    variable("WEIR_E2E_S3_IMAGE")
}

/// The program `weir` on this machine.
pub(crate) fn weir() -> String {
    variable("WEIR_E2E_WEIR")
}

/// Waits for the cluster. Weir and the S3 server are there then; without a cluster the scenario is passed over by name.
pub(crate) fn enter(scenario: &str, beside: Beside) -> Option<Turn> {
    if env::var_os("WEIR_E2E").is_none() {
        eprintln!("{scenario}: passed over, as WEIR_E2E is not set (see e2e/run)");
        return None;
    }
    READY.get_or_init(|| {
        output::start_server(&s3_image());
        // A run that was killed may have left its upgrade half done: helm would refuse every other one.
        let pending = "owner=helm,status in (pending-install,pending-upgrade,pending-rollback)";
        kubectl(&["--namespace", SYSTEM, "delete", "secret", "--ignore-not-found", "--selector", pending]).good();
        install(&[]).good();
    });
    // A scenario that failed has said so itself.
    let turn = match beside {
        Beside::Others => Turn::Shared { _guard: CLUSTER.read().unwrap_or_else(PoisonError::into_inner) },
        Beside::Nobody => Turn::Alone { _guard: CLUSTER.write().unwrap_or_else(PoisonError::into_inner) },
    };
    eprintln!("-- {scenario}");
    Some(turn)
}

/// Like [`enter`], for a scenario that lays hands on nodes: on a cluster whose nodes are elsewhere it is passed over by name.
pub(crate) fn enter_nodes(scenario: &str, beside: Beside) -> Option<Turn> {
    let turn = enter(scenario, beside)?;
    if nodes_are_containers() {
        return Some(turn);
    }
    eprintln!("{scenario}: passed over, as the nodes are no containers of this machine");
    None
}

/// Whether the nodes are containers of this machine's docker, as those of kind are.
pub(crate) fn nodes_are_containers() -> bool {
    let nodes = kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]).good();
    let mut command = Command::new("docker");
    command.args(["container", "inspect"]).args(nodes.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Installs the chart with the images of the environment, or upgrades it, where only restricted pods may run.
pub(crate) fn install(further: &[&str]) -> Answer {
    install_of(&repository().join("charts/weir"), further)
}

/// The same with a chart of another place.
pub(crate) fn install_of(chart: &Path, further: &[&str]) -> Answer {
    let namespace = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {SYSTEM}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: restricted\n"
    );
    run("kubectl", &["apply", "-f", "-"], &namespace).good();
    let (operator, worker) = (variable("WEIR_E2E_OPERATOR_IMAGE"), worker_image());
    let mut values = Vec::new();
    for (key, image) in [("image", &operator), ("workerImage", &worker)] {
        let (repository, tag) = image.rsplit_once(':').expect("an image of the environment has a tag");
        values.push(format!("{key}.repository={repository},{key}.tag={tag}"));
    }
    let values = values.join(",");
    let chart = chart.to_str().unwrap();
    let mut arguments = vec!["upgrade", "--install", RELEASE, chart, "--namespace", SYSTEM, "--create-namespace"];
    // A tag may look like a number.
    arguments.extend(["--set-string", &values, "--wait", "--timeout", "10m"]);
    arguments.extend(further);
    run("helm", &arguments, "")
}
