//! What a worker needs before it can begin: its plan, its certificates, the job's state.

use super::{Arguments, security};
use crate::api::{self, ProcessNumbers, Server, Vitals};
use crate::checkpoint::store::s3::Settings;
use crate::cli::exit::{Code, Refusal, note};
use crate::cli::job::{self, Planned};
use crate::cli::{restore, run};
use crate::job::board::LastFailure;
use crate::job::directory::place::{Held, Place};
use crate::tls::Security;
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::leader::{ErrorKind, Resume};
use weir_protocol::retry::{Backoff, Pace};

/// Between two attempts to begin.
const PACE: Pace = Pace { initial_ms: 500, max_ms: 10_000, multiplier: 2.0, jitter: 0.2 };

/// A worker that can begin.
pub(super) struct Begun {
    pub(super) planned: Planned,
    pub(super) security: Security,
    pub(super) place: Place,
    /// The bucket of the manifest.
    pub(super) bucket: Option<Settings>,
    pub(super) state: Held,
    /// What the job begins with; for the leader.
    pub(super) resume: Resume,
}

/// Why a worker cannot begin.
struct Hindrance {
    refusal: Refusal,
    /// It is not this worker's own, or may pass by itself.
    elsewhere: bool,
}

/// Begins. A worker that stays tries again until it can, and shows meanwhile why it cannot; so does any other one
/// while its store is away, and one of a fleet, whose parent has begun, whenever the cause is elsewhere.
pub(super) fn until_begun(arguments: &Arguments) -> Result<Begun, Refusal> {
    let mut backoff = Backoff::new(PACE);
    let mut shown: Option<(String, Vec<Server>)> = None;
    loop {
        let Hindrance { refusal, elsewhere } = match begin(arguments) {
            Ok(begun) => return Ok(begun),
            Err(hindrance) => hindrance,
        };
        let passes = refusal.code == Code::Failed || (arguments.parent.is_some() && elsewhere);
        if refusal.code == Code::Fenced || !(arguments.stays() || passes) {
            return Err(refusal);
        }
        let text = refusal.to_string();
        if shown.as_ref().is_none_or(|(before, _)| *before != text) {
            eprintln!("{text}\nworker {} tries again until it can begin", arguments.ordinal);
            note(&text);
            // The ports are free before they are taken again.
            drop(shown.take());
            shown = Some((text, show(arguments, &refusal)?));
        }
        std::thread::sleep(Duration::from_millis(backoff.next_ms(0.5)));
    }
}

fn begin(arguments: &Arguments) -> Result<Begun, Hindrance> {
    let own = |refusal: Refusal| Hindrance { elsewhere: refusal.code == Code::Failed, refusal };
    let planned = job::plan(arguments.file(), arguments.secrets.as_deref());
    let planned = planned.map_err(|refusal| Hindrance { refusal, elsewhere: true })?;
    open(arguments, planned).map_err(own)
}

fn open(arguments: &Arguments, planned: Planned) -> Result<Begun, Refusal> {
    let security = security(arguments)?;
    let bucket = job::bucket_of(&planned.job, arguments.secrets.as_deref())?;
    let place = job::place_of(&planned.job, arguments.state_dir.as_deref(), bucket.as_ref())?;
    let resume = if arguments.ordinal == 0 && !arguments.fresh {
        run::check_parallelism(&planned, arguments.parallelism.unwrap_or(planned.job.parallelism))?;
        restore::resume(&planned.job, &place, arguments.restore.as_deref(), bucket.as_ref())?
    } else {
        Resume::Empty
    };
    let state = place.join(&planned.job.name)?;
    Ok(Begun { planned, security, place, bucket, state, resume })
}

/// Serves why the worker cannot begin.
fn show(arguments: &Arguments, refusal: &Refusal) -> Result<Vec<Server>, Refusal> {
    let kind = if refusal.code == Code::UserError { ErrorKind::User } else { ErrorKind::Transient };
    let failure = LastFailure { kind, message: refusal.to_string() };
    let mut servers = Vec::new();
    if let Some(address) = &arguments.health {
        let reason = format!("the worker cannot begin: {refusal}");
        let (alive, ready) = (Box::new(|| Ok(())), Box::new(move || Err(reason.clone())));
        let vitals = Vitals { alive, ready, numbers: vec![Arc::new(ProcessNumbers)] };
        servers.push(api::serve_vitals(address, vitals)?);
    }
    if let (0, Some(address), Ok(security)) = (arguments.ordinal, &arguments.api, security(arguments)) {
        let name = job::name_in(arguments.file()).unwrap_or_default();
        servers.push(api::serve_failure(address, security, &name, &failure)?);
    }
    Ok(servers)
}
