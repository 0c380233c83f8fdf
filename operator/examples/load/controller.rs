//! The controller as a process, and what it costs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::requests::{Counts, counted, told};
use super::server::Server;

/// A controller, until it is dropped.
pub(crate) struct Controller {
    child: Child,
    address: SocketAddr,
    part: Part,
}

/// What was counted when a part began.
struct Part {
    began: Instant,
    looks: Vec<(f64, u64)>,
    requests: Counts,
    cpu_s: f64,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Controller {
    /// Starts one as its manifest in the chart does: this program, or the one that `WEIR_OPERATOR` names.
    pub(crate) fn start(server: &Server, identity: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let program = std::env::var_os("WEIR_OPERATOR").map_or_else(|| std::env::current_exe().unwrap(), PathBuf::from);
        let mut command = Command::new(program);
        command.env("WEIR_IDENTITY", identity).env("WEIR_LISTEN", address.to_string());
        command.env("KUBECONFIG", server.kubeconfig("controller")).stderr(server.file(&format!("{identity}.log")));
        let child = command.spawn().unwrap();
        let part = Part { began: Instant::now(), looks: Vec::new(), requests: counted(&server.requests()), cpu_s: 0.0 };
        Self { child, address, part }
    }

    /// What follows is counted anew.
    pub(crate) async fn part_begins(&mut self, server: &Server) {
        let requests = counted(&server.requests());
        self.part = Part { began: Instant::now(), looks: self.looks(), requests, cpu_s: self.cpu_s() };
        // The most memory so far is that of this part alone.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    /// Waits for something, as long as the controller lives.
    pub(crate) async fn meanwhile(&mut self, what: impl Future<Output = ()>) {
        tokio::pin!(what);
        while tokio::time::timeout(Duration::from_secs(1), &mut what).await.is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "the controller has ended: its log says why");
        }
    }

    /// Waits until it has looked so often.
    pub(crate) async fn until_looks(&mut self, looks: u64) {
        while self.looks().last().is_none_or(|(_, count)| *count < looks) {
            assert!(self.child.try_wait().unwrap().is_none(), "the controller has ended: its log says why");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Says what the part has cost.
    pub(crate) async fn tell(&mut self, what: &str, server: &Server) {
        let seconds = self.part.began.elapsed().as_secs_f64();
        let looks: Vec<(f64, u64)> = {
            let before = |at: usize| self.part.looks.get(at).map_or(0, |(_, count)| *count);
            self.looks().into_iter().enumerate().map(|(at, (bound, count))| (bound, count - before(at))).collect()
        };
        let all = looks.last().map_or(0, |(_, count)| *count);
        let cpu = self.cpu_s() - self.part.cpu_s;
        println!("\n{what}");
        println!("  memory: {} MB, at most {} MB", self.memory("VmRSS"), self.memory("VmHWM"));
        println!(
            "  looks: {all}, {:.1} a second; p50 {:.1} ms, p99 {:.1} ms",
            all as f64 / seconds,
            quantile(&looks, 0.5) * 1e3,
            quantile(&looks, 0.99) * 1e3
        );
        println!("  processor: {cpu:.1} s, {:.1} % of a core", cpu / seconds * 100.0);
        println!("  API server: {}", told(&self.part.requests, &counted(&server.requests()), seconds));
    }

    /// Bounds in seconds, and how many looks took no longer; none before it answers.
    fn looks(&self) -> Vec<(f64, u64)> {
        let text = self.metrics().unwrap_or_default();
        let bucket = |line: &str| {
            let (bound, count) =
                line.strip_prefix("weir_operator_reconcile_seconds_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        };
        text.lines().filter_map(bucket).collect()
    }

    fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// A size in its status, in millions of bytes.
    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let kibibytes: u64 = line.trim_matches(|of: char| !of.is_ascii_digit()).parse().unwrap();
        kibibytes * 1024 / 1_000_000
    }

    /// Time on processors so far; the kernel counts hundredths of seconds.
    fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

/// The time that a share of all looks keeps, between the bounds as Prometheus has it.
fn quantile(looks: &[(f64, u64)], share: f64) -> f64 {
    let wanted = looks.last().map_or(0, |(_, count)| *count) as f64 * share;
    let mut before = (0.0, 0);
    for (bound, count) in looks {
        if *count as f64 >= wanted && *count > 0 {
            let within = (wanted - before.1 as f64) / (count - before.1).max(1) as f64;
            return before.0 + (bound - before.0) * within;
        }
        before = (*bound, *count);
    }
    before.0
}
