//! Where a job stands, as a pure reading of its chain, and whether a generation may begin there.

use super::assignment::{Order, Refusal, order, pins_of_assignments};
use super::event::ErrorKind;
use super::look::View;
use super::notice::{Already, End};
use super::options::{Mode, Operation, Options, Resume, Running};
use super::rules::{Rule, Rules};
use crate::chain::{
    Committables, FallbackError, Left, Link, Manifest, ObjectName, Origin, Pin, Start, Stop, Terms, check_fit, fallback,
};
use crate::ids::{CheckpointId, LinkNumber};
use crate::key_group::KeyGroupMap;
use std::collections::{BTreeMap, BTreeSet};

/// What a generation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// Run the job.
    Run,
    /// Maintain its state.
    Maintain,
    /// Commit what a stopped job left, complete its savepoints' pointers, and nothing else.
    Settle,
}

/// What the head says.
#[derive(Debug)]
struct Standing {
    origin: Origin,
    skipped: BTreeSet<LinkNumber>,
    committables: Committables,
    savepoints: BTreeMap<String, Pin>,
    stop: Option<Stop>,
    holds: BTreeMap<String, String>,
    left: Vec<Left>,
    restored_from: Option<String>,
}

/// A start before it has a generation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub(super) errand: Errand,
    /// The revision to claim as.
    pub(super) claim: u64,
    pub(super) terms: Terms,
    pub(super) number: LinkNumber,
    pub(super) origin: Origin,
    pub(super) skipped: BTreeSet<LinkNumber>,
    pub(super) committables: Committables,
    pub(super) savepoints: BTreeMap<String, Pin>,
    pub(super) stop: Option<Stop>,
    pub(super) holds: BTreeMap<String, String>,
    pub(super) key_groups: KeyGroupMap,
    pub(super) plan: String,
    pub(super) sinks: BTreeSet<crate::ids::OperatorId>,
    pub(super) restored_from: Option<String>,
    pub(super) left: Vec<Left>,
}

/// The manifest that an origin stands for.
pub(super) fn manifest_of<'a>(origin: &'a Origin, links: &'a BTreeMap<LinkNumber, Link>) -> Option<&'a Manifest> {
    match origin {
        Origin::Empty => None,
        Origin::Link(number) => links.get(number)?.manifest(),
        Origin::Foreign { manifest, .. } => Some(manifest),
    }
}

fn refuse(message: String) -> Refusal {
    Refusal::End(user(message))
}

fn user(message: String) -> End {
    End::Failed { kind: ErrorKind::User, message }
}

fn corrupt(error: &FallbackError, view: &View, damaged: &BTreeMap<LinkNumber, String>) -> End {
    let details: Vec<&str> = view.unreadable.values().chain(damaged.values()).map(String::as_str).collect();
    let message = match details.is_empty() {
        true => error.to_string(),
        false => format!("{error} ({})", details.join("; ")),
    };
    End::Failed { kind: ErrorKind::Corrupt, message }
}

/// How a generation is to begin.
#[derive(Debug)]
pub(super) struct Beginning<'a> {
    pub(super) resume: &'a Resume,
    /// Whether this leader has not started a generation yet: only then it may lift a stop.
    pub(super) first: bool,
    /// Checkpoints whose files turned out to be unusable, and what was wrong with them.
    pub(super) damaged: &'a BTreeMap<LinkNumber, String>,
    /// The highest revision as which another leader may have begun.
    pub(super) claimed: u64,
    pub(super) rules: Rules,
}

/// The start that may be written behind the head, or how the leader ends instead.
pub(super) fn draft(view: &View, options: &Options, begin: &Beginning<'_>) -> Result<Draft, Refusal> {
    if view.deleted {
        return Err(refuse(format!("job {} has been deleted: its state can no longer be used", options.job)));
    }
    if let Some(link) = view.links.values().find(|link| link.job() != options.job) {
        let other = link.job();
        return Err(refuse(format!("this state belongs to job {other}, not to {}: name another folder", options.job)));
    }
    let order = order(view, options, begin)?;
    let standing = stand(view, begin, &order)?;
    let errand = errand(&standing, options, (begin, &order), view)?;
    match errand {
        Errand::Run => draft_run(view, options, (begin, order), standing),
        Errand::Maintain | Errand::Settle => Ok(draft_copy(view, options, (errand, order.claim, begin), standing)?),
    }
}

fn stand(view: &View, begin: &Beginning<'_>, order: &Order) -> Result<Standing, End> {
    let newest = view.links.values().next_back();
    let mut standing = Standing {
        origin: newest.map_or(Origin::Empty, Link::origin),
        skipped: BTreeSet::new(),
        committables: newest.map(|link| link.committables().clone()).unwrap_or_default(),
        savepoints: newest.map(|link| link.savepoints().clone()).unwrap_or_default(),
        stop: newest.and_then(Link::stop),
        holds: newest.map(|link| link.holds().clone()).unwrap_or_default(),
        left: newest.map(|link| link.left().to_vec()).unwrap_or_default(),
        restored_from: newest_start(view).and_then(|start| start.restored_from.clone()),
    };
    let unreadable = view.head().filter(|head| !view.links.contains_key(head));
    // A head that cannot be read may be a checkpoint.
    if order.rollback && unreadable.is_none() && begin.rules.hold(Rule::GoBackToWhatWasLeft) {
        go_back(&mut standing, &order.terms.code);
    }
    match way_back(view, begin.damaged, unreadable, &mut standing) {
        Ok(()) => {}
        Err(error) if matches!(order.resume, Resume::Head) => return Err(corrupt(&error, view, begin.damaged)),
        // Whoever begins from another state does not need this one, but what only its link lists would be lost.
        Err(_) => match unreadable {
            Some(head) => return Err(user(unread(view, head))),
            None => standing.origin = Origin::Empty,
        },
    }
    Ok(standing)
}

/// The code goes on from what it left when another one began with another state, if that one has completed no checkpoint.
fn go_back(standing: &mut Standing, code: &str) {
    if let Some(at) = standing.left.iter().position(|left| left.code == code) {
        let left = standing.left.drain(at..).next();
        if let Some(Left { origin, restored_from, .. }) = left {
            (standing.origin, standing.restored_from) = (origin, restored_from);
        }
    }
}

/// Nothing is known of a job whose starts cannot be read.
fn unstarted(options: &Options, view: &View) -> End {
    let details: Vec<&str> = view.unreadable.values().map(String::as_str).collect();
    let (job, details) = (&options.job, details.join("; "));
    let message = format!("no start of job {job} can be read ({details}): put the objects back from a backup");
    End::Failed { kind: ErrorKind::Corrupt, message }
}

/// Why nothing may begin behind a head that cannot be read, and how to have it all the same.
fn unread(view: &View, head: LinkNumber) -> String {
    let details = view.unreadable.get(&head).map_or("", String::as_str);
    format!(
        "the newest link cannot be read ({details}): output that waits for its commit may be listed there and nowhere \
         else, and so may savepoints. Put the object back from a backup; or, to give these up, move the object {} away \
         and run again",
        ObjectName::Link(head)
    )
}

/// What the plan has that the state does not know, which may be what became of the operators that are missed.
fn added(manifest: &Manifest, options: &Options) -> String {
    let new = options.plan.operators.iter().filter(|(id, _)| !manifest.operators.contains_key(id));
    let new: Vec<String> = new.map(|(id, plan)| format!("{id} ({})", plan.kind)).collect();
    if new.is_empty() { String::new() } else { format!("; new in the plan: {}", new.join(", ")) }
}

/// Goes back behind links that cannot be used, as far as that repeats nothing.
fn way_back(
    view: &View,
    damaged: &BTreeMap<LinkNumber, String>,
    unreadable: Option<LinkNumber>,
    standing: &mut Standing,
) -> Result<(), FallbackError> {
    if let Some(head) = unreadable {
        standing.skipped.insert(head);
        standing.origin = fallback(&view.links, head)?;
    }
    while let Origin::Link(number) = standing.origin {
        let readable = view.links.get(&number).and_then(Link::manifest).is_some();
        if readable && !damaged.contains_key(&number) {
            break;
        }
        standing.skipped.insert(number);
        standing.origin = fallback(&view.links, number)?;
    }
    Ok(())
}

fn errand(
    standing: &Standing,
    options: &Options,
    (begin, order): (&Beginning<'_>, &Order),
    view: &View,
) -> Result<Errand, End> {
    let pointed = standing.savepoints.keys().all(|name| view.pointers.contains(name));
    let settled = standing.committables.is_empty() && pointed;
    let checkpoint = manifest_of(&standing.origin, &view.links).map(|manifest| manifest.checkpoint);
    let already = if begin.first { Already::Yes } else { Already::No };
    match &options.mode {
        Mode::Maintain { running, .. } => match standing.stop {
            _ if view.head().is_none() => Err(user(format!("there is no state of job {}", options.job))),
            None if *running == Running::Refuse => {
                Err(user(format!("job {} is not stopped: ask its leader, or stop it first", options.job)))
            }
            _ => Ok(Errand::Maintain),
        },
        Mode::Run { .. } => match (standing.stop, &order.resume) {
            (None, _) | (Some(_), Resume::Empty | Resume::Savepoint(_) | Resume::Foreign { .. }) => Ok(Errand::Run),
            (Some(_), Resume::Head) if !begin.rules.hold(Rule::ObeyStops) => Ok(Errand::Run),
            (Some(Stop::Suspended | Stop::Assignment(_)), Resume::Head) if order.lifts => Ok(Errand::Run),
            (Some(_), Resume::Head) if !settled => Ok(Errand::Settle),
            (Some(stop), Resume::Head) => Err(end_of_stop(stop, checkpoint, already)),
        },
    }
}

/// How a leader of a stopped job ends.
pub(super) fn end_of_stop(stop: Stop, checkpoint: Option<CheckpointId>, already: Already) -> End {
    match (stop, checkpoint) {
        (Stop::Finished, Some(checkpoint)) => End::Finished { checkpoint, already },
        (Stop::Assignment(revision), _) => End::HandedOver { revision },
        (Stop::Finished | Stop::Suspended, checkpoint) => End::Stopped { checkpoint, already },
    }
}

fn draft_run(
    view: &View,
    options: &Options,
    (begin, order): (&Beginning<'_>, Order),
    standing: Standing,
) -> Result<Draft, Refusal> {
    let mut holds = standing.holds.clone();
    holds.extend(pins_of_assignments(view, order.terms.revision));
    let explicit = !matches!(order.resume, Resume::Head);
    let mut left = standing.left.clone();
    if explicit {
        leave(&mut left, &standing, view, &order.terms.code);
    }
    let origin = match order.resume {
        Resume::Head => standing.origin,
        Resume::Empty => Origin::Empty,
        Resume::Savepoint(name) => match savepoint_origin(&name, &standing.savepoints, view) {
            Ok(origin) => origin,
            Err(message) if standing.savepoints.contains_key(&name) => {
                return Err(End::Failed { kind: ErrorKind::Corrupt, message }.into());
            }
            Err(message) => return Err(refuse(message)),
        },
        Resume::Foreign { location, mut manifest, pin } => {
            if begin.rules.hold(Rule::DropForeign) {
                // What was prepared and what writers go on with is its own job's to make visible.
                manifest.committables.clear();
                manifest.operators.values_mut().for_each(|operator| operator.writers.clear());
            }
            holds.extend(pin.clone().map(|pin| (pin, location.clone())));
            Origin::Foreign { location, manifest, pin }
        }
    };
    if begin.rules.hold(Rule::StateFits) {
        refuse_misfits(manifest_of(&origin, &view.links), options, (order.rollback, order.terms.revision))?;
    }
    let mut committables = standing.committables;
    if explicit && !begin.rules.hold(Rule::CarryOnRestore) {
        committables.clear();
    }
    if let Origin::Foreign { manifest, .. } = &origin
        && explicit
    {
        committables.extend(manifest.committables.clone());
    }
    let newest = newest_start(view).filter(|start| start.key_groups.max_parallelism() == options.max_parallelism);
    let key_groups = match newest {
        Some(start) => start.key_groups.rescale(order.parallelism),
        None => KeyGroupMap::initial(options.max_parallelism, order.parallelism),
    };
    Ok(Draft {
        errand: Errand::Run,
        claim: order.claim,
        terms: order.terms,
        number: next_number(view),
        origin,
        skipped: standing.skipped,
        committables,
        savepoints: standing.savepoints,
        stop: None,
        holds,
        key_groups: key_groups.map_err(|error| user(error.to_string()))?,
        plan: options.plan.fingerprint.clone(),
        sinks: options.plan.sinks.clone(),
        restored_from: options.restored_from.clone().or(standing.restored_from),
        left,
    })
}

/// A code begins with another state: what the one that is in force would go on from is noted. What was noted of the code
/// itself is given up: it is told anew what to begin with.
fn leave(left: &mut Vec<Left>, standing: &Standing, view: &View, code: &str) {
    left.retain(|left| left.code != code);
    let in_force = view.links.values().next_back().map(|link| &link.terms().code);
    if let Some(before) = in_force.filter(|before| *before != code) {
        left.retain(|left| left.code != *before);
        let (origin, restored_from) = (standing.origin.clone(), standing.restored_from.clone());
        left.push(Left { code: before.clone(), origin, restored_from });
    }
}

/// State that the plan has no place for ends the leader.
fn refuse_misfits(
    manifest: Option<&Manifest>,
    options: &Options,
    (rollback, revision): (bool, u64),
) -> Result<(), Refusal> {
    let Some(manifest) = manifest else { return Ok(()) };
    let misfits = check_fit(manifest, &options.plan, options.max_parallelism);
    if misfits.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = misfits.iter().map(ToString::to_string).collect();
    let message = format!("{}{}", all.join("; "), added(manifest, options));
    Err(Refusal::End(match rollback {
        true => End::Stalled { revision, message },
        false => user(message),
    }))
}

/// A start that changes nothing but the list of savepoints.
fn draft_copy(
    view: &View,
    options: &Options,
    (errand, claim, begin): (Errand, u64, &Beginning<'_>),
    standing: Standing,
) -> Result<Draft, End> {
    let Some(start) = newest_start(view) else {
        return Err(match view.unreadable.is_empty() {
            true => user(format!("no start of job {} is left: run the job first", options.job)),
            false => unstarted(options, view),
        });
    };
    let mut savepoints = standing.savepoints;
    if let (Errand::Maintain, Mode::Maintain { operations, .. }) = (errand, &options.mode) {
        for operation in operations {
            if let Operation::DeleteSavepoint { name } = operation {
                savepoints.remove(name);
            }
        }
    }
    let terms = view.links.values().next_back().map(|link| link.terms().clone()).unwrap_or_default();
    Ok(Draft {
        errand,
        claim,
        terms,
        number: next_number(view),
        origin: standing.origin,
        skipped: standing.skipped,
        committables: standing.committables,
        savepoints,
        stop: standing.stop.filter(|_| begin.rules.hold(Rule::CopyStops)),
        holds: standing.holds,
        key_groups: start.key_groups.clone(),
        plan: start.plan.clone(),
        sinks: start.sinks.clone(),
        restored_from: options.restored_from.clone().or(standing.restored_from),
        left: standing.left,
    })
}

/// The state of a savepoint, or why there is none.
pub(super) fn savepoint_origin(name: &str, known: &BTreeMap<String, Pin>, view: &View) -> Result<Origin, String> {
    let Some(pin) = known.get(name) else {
        let known: Vec<&str> = known.keys().map(String::as_str).collect();
        let known =
            if known.is_empty() { "there is none".to_owned() } else { format!("there are {}", known.join(", ")) };
        return Err(format!("there is no savepoint {name:?} of this job: {known}"));
    };
    match view.links.get(&pin.link).and_then(Link::manifest) {
        Some(_) => Ok(Origin::Link(pin.link)),
        None => Err(match view.unreadable.get(&pin.link) {
            Some(details) => format!("savepoint {name:?} cannot be used: {details}"),
            None => format!("savepoint {name:?} cannot be used: link {} is missing", pin.link),
        }),
    }
}

fn newest_start(view: &View) -> Option<&Start> {
    view.links.values().rev().find_map(|link| match link {
        Link::Start(start) => Some(start.as_ref()),
        Link::Checkpoint(_) => None,
    })
}

fn next_number(view: &View) -> LinkNumber {
    LinkNumber(view.head().map_or(1, |head| head.0 + 1))
}
