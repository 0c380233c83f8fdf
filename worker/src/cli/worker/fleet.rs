//! `weir run --workers N`: the workers of a job as processes of this machine, restarted when they die.

use super::super::exit::{self, Code, Refusal};
use super::super::job;
use super::super::run::{Arguments, check_parallelism};
use super::lead;
use crate::checkpoint::store::Store;
use crate::failure::Failure;
use crate::tls::{self, Role};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use weir_protocol::chain::{Claimant, Prefix};
use weir_protocol::retry::{Backoff, Pace};

/// Between two starts of a worker that does not live long.
const PACE: Pace = Pace { initial_ms: 50, max_ms: 10_000, multiplier: 2.0, jitter: 0.0 };

/// A worker that has lived this long may be restarted at once.
const LONG: Duration = Duration::from_secs(10);

/// How often those that wait for their restart are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A leader that was restarted hears signals after this long.
const RESTARTED: Duration = Duration::from_secs(1);

/// How long workers get to end once their leader has.
pub(in crate::cli) const GRACE: Duration = Duration::from_secs(5);

/// Ends this process when `parent` does. Fails when it has ended already.
pub(super) fn end_with(parent: i32) -> Result<(), Refusal> {
    let failed =
        |error: rustix::io::Errno| Refusal::failed(format!("error: a worker cannot follow its parent: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    match rustix::process::getppid().map(Pid::as_raw_nonzero).map(std::num::NonZero::get) == Some(parent) {
        true => Ok(()),
        false => Err(Refusal::failed("error: the process that started this worker has ended")),
    }
}

/// Runs the job in `workers` processes.
pub(in super::super) fn run(arguments: &Arguments, workers: u32) -> Result<Code, Refusal> {
    let scratch = Scratch::new()?;
    let (name, text) = job::read(&arguments.file)?;
    let planned = job::plan_text(&name, &text, arguments.secrets.as_deref())?;
    check_parallelism(&planned, arguments.parallelism.unwrap_or(planned.job.parallelism))?;
    for warning in planned.plan.warnings.iter().filter(|_| !arguments.quiet) {
        eprintln!("warning: {warning}");
    }
    let manifest = scratch.0.join("job.yaml");
    let written = std::fs::write(&manifest, text);
    written.map_err(|error| Refusal::failed(format!("error: the manifest could not be copied: {error}")))?;
    let state = job::open_state(&planned.job, arguments.state_dir.as_deref(), arguments.secrets.as_deref())?;
    let authority = tls::self_made(&scratch.0.join("tls"))?;
    let door = door()?;
    let leader = door.local_addr();
    let leader = leader.map_err(|error| Refusal::failed(format!("error: the port has no address: {error}")))?;
    let plan = Launch {
        arguments,
        manifest,
        certificates: authority.folder_of(Role::Worker),
        leader: leader.to_string(),
        door,
        workers,
        claimant: state.claimant.clone(),
        // What lies in a directory of this machine needs no copies there.
        copies: state.meter.is_some().then(|| scratch.0.join("copies")),
        begun: highest(state.store.as_ref())?,
        store: Arc::clone(&state.store),
    };
    Fleet::start(plan)?.watch()
}

/// Where worker 0 takes registrations: held by this process, so that nobody else gets the port while worker 0 is restarted.
fn door() -> Result<TcpListener, Refusal> {
    TcpListener::bind("127.0.0.1:0")
        .map_err(|error| Refusal::failed(format!("error: no port of this machine can be had: {error}")))
}

/// The highest generation that has begun.
fn highest(store: &dyn Store) -> Result<Option<String>, Failure> {
    Ok(store.list(Prefix::Generations.as_str())?.pop())
}

/// What workers are started with.
struct Launch<'a> {
    arguments: &'a Arguments,
    manifest: PathBuf,
    certificates: PathBuf,
    leader: String,
    /// Where worker 0 listens, which it gets as its standard input.
    door: TcpListener,
    workers: u32,
    claimant: Claimant,
    /// The folder in which each worker has one for its local copies of state.
    copies: Option<PathBuf>,
    /// The highest generation before this run: whether --fresh or --restore has had its effect.
    begun: Option<String>,
    store: Arc<dyn Store>,
}

impl Launch<'_> {
    fn spawn(&self, ordinal: u32) -> Result<Child, Refusal> {
        let failed =
            |error: std::io::Error| Refusal::failed(format!("error: worker {ordinal} cannot be started: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        let input = match ordinal {
            0 => Stdio::from(OwnedFd::from(self.door.try_clone().map_err(failed)?)),
            _ => Stdio::null(),
        };
        command.args(self.options(ordinal)?).stdin(input);
        // What the run begins with, and what it shows, it says itself, each time anew.
        for name in ["WEIR_FRESH", "WEIR_RESTORE", "WEIR_QUIET"] {
            command.env_remove(name);
        }
        // The terminal's Ctrl-C is for this process, which asks the leader to stop.
        command.process_group(0).spawn().map_err(failed)
    }

    fn options(&self, ordinal: u32) -> Result<Vec<OsString>, Refusal> {
        let given = self.arguments;
        let mut options: Vec<OsString> = vec!["worker".into(), self.manifest.clone().into()];
        let mut add = |name: &str, value: OsString| options.extend([format!("--{name}").into(), value]);
        add("ordinal", ordinal.to_string().into());
        add("workers", self.workers.to_string().into());
        add("tls", self.certificates.clone().into());
        add("exchange", "127.0.0.1:0".into());
        if let Some(compression) = given.compress.and_then(|chosen| chosen.to_possible_value()) {
            add("compress", compression.get_name().into());
        }
        add("parent", std::process::id().to_string().into());
        add("pod", self.claimant.pod.clone().into());
        add("revision", self.claimant.revision.to_string().into());
        add("attempt", self.claimant.attempt.to_string().into());
        match ordinal {
            0 => add("control", lead::INHERITED.into()),
            _ => add("leader", self.leader.clone().into()),
        }
        let numbers = [
            ("parallelism", given.parallelism.map(|number| number.to_string())),
            ("speed", given.speed.map(|number| number.to_string())),
            ("state-budget", given.state_budget.map(|bytes| (bytes / u64::from(self.workers)).to_string())),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                add(name, value.into());
            }
        }
        for (name, path) in [("state-dir", &given.state_dir), ("secrets", &given.secrets)] {
            if let Some(path) = path {
                add(name, path.clone().into());
            }
        }
        if let Some(folder) = &self.copies {
            add("copies", folder.join(ordinal.to_string()).into());
        }
        if ordinal == 0 {
            if let Some(address) = &given.http {
                add("http", address.into());
            }
            let begins = highest(self.store.as_ref())? == self.begun;
            if let Some(from) = given.restore.as_ref().filter(|_| begins) {
                add("restore", from.into());
            }
            if given.fresh && begins {
                options.push("--fresh".into());
            }
            if begins {
                options.push("--by-hand".into());
            }
        }
        if given.quiet || ordinal > 0 {
            options.push("--quiet".into());
        }
        Ok(options)
    }
}

/// A worker that runs, or waits for its restart.
struct Slot {
    child: Option<Child>,
    /// How the one before it ended.
    ended: Option<ExitStatus>,
    since: Instant,
    due: Instant,
    backoff: Backoff,
}

struct Fleet<'a> {
    plan: Launch<'a>,
    slots: Vec<Slot>,
    signals: mpsc::Receiver<i32>,
    interrupts: u32,
    stop_due: Option<Instant>,
}

impl<'a> Fleet<'a> {
    fn start(plan: Launch<'a>) -> Result<Self, Refusal> {
        let mut caught = Signals::new([SIGINT, SIGTERM, SIGCHLD])
            .map_err(|error| Refusal::failed(format!("error: signals cannot be caught: {error}")))?;
        let (sender, signals) = mpsc::channel();
        std::thread::spawn(move || caught.forever().try_for_each(|signal| sender.send(signal)));
        let mut fleet = Self { plan, slots: Vec::new(), signals, interrupts: 0, stop_due: None };
        for ordinal in 0..fleet.plan.workers {
            let now = Instant::now();
            let child = Some(fleet.plan.spawn(ordinal)?);
            fleet.slots.push(Slot { child, ended: None, since: now, due: now, backoff: Backoff::new(PACE) });
        }
        Ok(fleet)
    }

    /// Until the leader says how the job ended.
    fn watch(mut self) -> Result<Code, Refusal> {
        loop {
            match self.signals.recv_timeout(LOOK) {
                Ok(SIGCHLD) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                Ok(_) => {
                    self.interrupts += 1;
                    if self.interrupts > 1 {
                        return Err(exit::early(exit::SECOND_SIGNAL));
                    }
                    self.stop_job();
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Refusal::failed("error: signals are no longer caught"));
                }
            }
            if let Some(code) = self.look()? {
                self.await_others();
                return Ok(code);
            }
        }
    }

    fn stop_job(&self) {
        let leader = self.slots[0].child.as_ref().and_then(|child| Pid::from_raw(child.id() as i32));
        if let Some(leader) = leader {
            let _ = kill_process(leader, Signal::INT);
        }
    }

    /// Restarts those that died; answers the job's end.
    fn look(&mut self) -> Result<Option<Code>, Refusal> {
        let now = Instant::now();
        for ordinal in 0..self.slots.len() {
            let slot = &mut self.slots[ordinal];
            let ended = slot.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                if let Some(code) = code(ordinal, status, self.interrupts) {
                    return Ok(Some(code));
                }
                if now.duration_since(slot.since) > LONG {
                    slot.backoff.reset();
                }
                slot.child = None;
                slot.ended = Some(status);
                let wait = match has_heard_of_the_end(status) {
                    // So will its leader's process.
                    true => GRACE,
                    false => Duration::from_millis(slot.backoff.next_ms(0.5)),
                };
                slot.due = now + wait;
            }
            if slot.child.is_none() && slot.due <= now {
                slot.since = now;
                let ended = slot.ended.take();
                self.tell_death(ordinal, ended);
                self.slots[ordinal].child = Some(self.plan.spawn(ordinal as u32)?);
                if ordinal == 0 && self.interrupts > 0 {
                    // It was asked to stop and died before it had: asked again once it can hear.
                    self.stop_due = Some(now + RESTARTED);
                }
            }
        }
        if self.stop_due.is_some_and(|due| due <= now) {
            self.stop_due = None;
            self.stop_job();
        }
        Ok(None)
    }

    fn tell_death(&self, ordinal: usize, ended: Option<ExitStatus>) {
        if let Some(status) = ended.filter(|_| !self.plan.arguments.quiet) {
            exit::line(&format!("worker {ordinal} has ended ({status}) and is started again"));
        }
    }

    /// They hear from the leader that the job has ended.
    fn await_others(&mut self) {
        let deadline = Instant::now() + GRACE;
        let running = |slot: &mut Slot| slot.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        while self.slots.iter_mut().any(running) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Fleet<'_> {
    /// No worker outlives its parent.
    fn drop(&mut self) {
        for child in self.slots.iter_mut().filter_map(|slot| slot.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a worker's end says about the job, which was asked so often to stop; `None` when it only died.
fn code(ordinal: usize, status: ExitStatus, interrupts: u32) -> Option<Code> {
    let known =
        [Code::Done, Code::Failed, Code::UserError, Code::Stopped, Code::Fenced, Code::HandedOver, Code::Interrupted];
    let code = known.into_iter().find(|code| status.code() == Some(*code as i32))?;
    // The others know of the job's end from their leader, whose own end says more.
    let own = match (ordinal, code) {
        // A leader that handed the job over ends like one whose job goes on.
        (0, Code::HandedOver) => false,
        // It alone was told to go and did not come to hand over; nobody has asked the job to end.
        (0, Code::Interrupted) => interrupts > 0,
        (0, _) => true,
        _ => matches!(code, Code::UserError | Code::Fenced),
    };
    own.then_some(code)
}

/// Whether a worker may have ended because its leader told it that the job has, in one way or the other.
pub(in crate::cli) fn has_heard_of_the_end(status: ExitStatus) -> bool {
    [Code::Done, Code::Failed].into_iter().any(|code| status.code() == Some(code as i32))
}

/// A folder for the certificates and the manifest, for the owner alone, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Refusal> {
        use std::os::unix::fs::DirBuilderExt;
        let folder = std::env::temp_dir().join(format!("weir-run-{}", uuid::Uuid::new_v4()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| {
            let shown: &Path = &folder;
            Refusal::user(format!(
                "error: the folder {} could not be created: {error}\nhint: set TMPDIR to a folder that can be written",
                shown.display()
            ))
        })?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_worker_that_ends_alone_does_not_end_the_job() {
        let exit = |code: Code| ExitStatus::from_raw((code as i32) << 8);
        let table = [
            (0, exit(Code::Done), 0, Some(Code::Done)),
            (0, exit(Code::Failed), 0, Some(Code::Failed)),
            (0, exit(Code::UserError), 0, Some(Code::UserError)),
            (0, exit(Code::Stopped), 1, Some(Code::Stopped)),
            (0, exit(Code::Fenced), 0, Some(Code::Fenced)),
            (0, exit(Code::HandedOver), 0, None),
            (0, exit(Code::GivenUp), 0, None),
            (0, exit(Code::Interrupted), 0, None),
            (0, exit(Code::Interrupted), 1, Some(Code::Interrupted)),
            (0, ExitStatus::from_raw(9), 1, None),
            (1, exit(Code::UserError), 0, Some(Code::UserError)),
            (1, exit(Code::Fenced), 0, Some(Code::Fenced)),
            (1, exit(Code::Failed), 0, None),
            (1, exit(Code::HandedOver), 0, None),
            (1, exit(Code::Interrupted), 1, None),
        ];
        for (ordinal, status, interrupts, expected) in table {
            let found = code(ordinal, status, interrupts);
            assert_eq!(found, expected, "worker {ordinal}, {status}, {interrupts} signals");
        }
    }
}
