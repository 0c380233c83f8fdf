//! The worker processes of a benchmark's job. One that dies is started again.

use crate::cli::exit::{Code, Refusal};
use crate::cli::worker::fleet::{GRACE, has_heard_of_the_end};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// From a worker's death to its next start, as `weir run --workers` and a kubelet have it at first.
const RESTART: Duration = Duration::from_millis(50);

/// What workers are started with.
pub(super) struct Launch {
    /// The job.
    pub(super) manifest: PathBuf,
    /// Their certificates.
    pub(super) certificates: PathBuf,
    /// Where state lies, if not where the manifest says.
    pub(super) state: Option<PathBuf>,
    /// The folder in which each has one for local copies.
    pub(super) copies: Option<PathBuf>,
    /// Where the leader takes registrations.
    pub(super) control: SocketAddr,
    /// Where it serves its API.
    pub(super) api: SocketAddr,
    /// How many the job begins with.
    pub(super) workers: u32,
}

/// The processes.
pub(super) struct Processes {
    launch: Launch,
    /// Where each serves its metrics.
    pub(super) health: Vec<SocketAddr>,
    slots: Vec<Slot>,
}

struct Slot {
    child: Option<Child>,
    due: Instant,
}

impl Processes {
    /// Starts one for each address of `health`.
    pub(super) fn start(launch: Launch, health: Vec<SocketAddr>) -> Result<Self, Refusal> {
        let mut processes = Self { launch, health, slots: Vec::new() };
        for ordinal in 0..processes.health.len() {
            let child = Some(processes.spawn(ordinal)?);
            processes.slots.push(Slot { child, due: Instant::now() });
        }
        Ok(processes)
    }

    /// Kills one without a warning; answers when.
    pub(super) fn kill(&mut self, ordinal: u32) -> Instant {
        let now = Instant::now();
        if let Some(child) = self.slots.get_mut(ordinal as usize).and_then(|slot| slot.child.as_mut()) {
            // One that has just ended is as dead.
            let _ = child.kill();
        }
        now
    }

    /// Starts those again that died. Fails when one has ended by itself.
    pub(super) fn look(&mut self) -> Result<(), Refusal> {
        for ordinal in 0..self.slots.len() {
            let slot = &mut self.slots[ordinal];
            if let Some(status) = slot.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                let heard = ordinal > 0 && has_heard_of_the_end(status);
                // It has said itself why.
                if let Some(code) = status.code().filter(|code| !heard && *code != Code::HandedOver as i32) {
                    return Err(Refusal::failed(format!("error: worker {ordinal} has ended with code {code}")));
                }
                slot.child = None;
                slot.due = Instant::now() + if heard { GRACE } else { RESTART };
            }
            if slot.child.is_none() && slot.due <= Instant::now() {
                let child = self.spawn(ordinal)?;
                self.slots[ordinal].child = Some(child);
            }
        }
        Ok(())
    }

    fn spawn(&self, ordinal: usize) -> Result<Child, Refusal> {
        let failed =
            |error: std::io::Error| Refusal::failed(format!("error: worker {ordinal} cannot be started: {error}"));
        let launch = &self.launch;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("worker").arg(&launch.manifest).arg("--quiet").args(["--pod", "bench"]);
        command.args(["--ordinal", &ordinal.to_string(), "--workers", &launch.workers.to_string()]);
        command.args(["--exchange", "127.0.0.1:0", "--parent", &std::process::id().to_string()]);
        command.args(["--health", &self.health[ordinal].to_string()]).arg("--tls").arg(&launch.certificates);
        if let Some(state) = &launch.state {
            command.arg("--state-dir").arg(state);
        }
        if let Some(copies) = &launch.copies {
            command.arg("--copies").arg(copies.join(ordinal.to_string()));
        }
        match ordinal {
            0 => command.args(["--control", &launch.control.to_string(), "--api", &launch.api.to_string()]),
            _ => command.args(["--leader", &launch.control.to_string()]),
        };
        command.stdin(Stdio::null()).spawn().map_err(failed)
    }
}

impl Drop for Processes {
    /// None outlives the benchmark.
    fn drop(&mut self) {
        for child in self.slots.iter_mut().filter_map(|slot| slot.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
