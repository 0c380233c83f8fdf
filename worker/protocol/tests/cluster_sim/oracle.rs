//! What must hold, whatever happened.
//!
//! A start from another state than the head's (a savepoint, nothing, another job's) begins a new count: what was read
//! behind that state is read again because somebody asked for it. Within a count every row counts exactly once. A rollback
//! before the first checkpoint takes a count back: the one before goes on as if it had never been.

use crate::tasks::{ROWS, Row, SPLITS, positions_of, read_sums, sum};
use crate::world::{Item, Proc, Start, World, generation_of};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weir_protocol::chain::{
    self, Claimant, Link, Manifest, ObjectName, Origin, Stop, decode_claim, decode_link, parse_name,
};
use weir_protocol::{Generation, LinkNumber};

/// So many links may land between a look and the start that follows it: a claim may be long under way.
const RECENT: usize = 8;

type Positions = BTreeMap<u16, u64>;

/// One count.
#[derive(Debug)]
struct Count {
    /// Where it began to read.
    from: Positions,
    /// Where another count went on from something else: rows up to there count.
    until: Option<Positions>,
    rows: BTreeMap<Row, u32>,
}

/// What is known of the chain by looking at every put.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: Vec<Count>,
    /// The one that goes on.
    current: usize,
    /// Since the last checkpoint: codes in whose place others began with another state, what they would go on from, and
    /// their counts.
    left: Vec<(String, Origin, usize)>,
    /// The count that a generation belongs to, by its start.
    of: BTreeMap<Generation, usize>,
    /// The newest checkpoint's stop flag, until a start lifts it.
    stopped: bool,
    claims: BTreeMap<Generation, Claimant>,
    /// What the newest links said of revisions and stops.
    recent: VecDeque<(chain::Terms, Option<Stop>)>,
    /// Links that could not be read and were passed over: what they list is lost.
    skipped: BTreeSet<LinkNumber>,
    /// Links that landed when the job was deleted.
    of_the_deleted: BTreeSet<(Generation, LinkNumber)>,
    /// Processes that have put a start behind links that cannot be read.
    began: BTreeSet<Proc>,
}

impl World {
    pub(crate) fn head_number(&self) -> Option<LinkNumber> {
        let links = self.store.objects.range("chain/".to_owned().."chain0".to_owned());
        links.filter_map(|(name, _)| link_number(name)).next_back()
    }

    pub(crate) fn head(&self) -> Option<Link> {
        self.link(self.head_number()?)
    }

    pub(crate) fn newest_generation(&self) -> Generation {
        let claims = self.store.objects.range("generations/".to_owned().."generations0".to_owned());
        let newest = claims.filter_map(|(name, _)| match parse_name(name)? {
            ObjectName::Generation(generation) => Some(generation),
            _ => None,
        });
        newest.max().unwrap_or_default()
    }

    pub(crate) fn link(&self, number: LinkNumber) -> Option<Link> {
        decode_link(number, self.store.intact(&ObjectName::Link(number).to_string())?).ok()
    }

    fn manifest(&self, number: LinkNumber) -> Option<Manifest> {
        self.link(number)?.manifest().cloned()
    }

    pub(crate) fn newest_manifest(&self) -> Option<Manifest> {
        self.state_of(&self.head()?.origin())
    }

    fn state_of(&self, origin: &Origin) -> Option<Manifest> {
        match origin {
            Origin::Empty => None,
            Origin::Link(number) => self.manifest(*number),
            Origin::Foreign { manifest, .. } => Some(manifest.as_ref().clone()),
        }
    }

    fn positions(&self, origin: &Origin) -> Positions {
        let beginning = || (0..SPLITS).map(|split| (split, 0)).collect();
        let Some(manifest) = self.state_of(origin) else { return beginning() };
        let mut positions = positions_of(&manifest);
        // What was in flight is counted by whoever goes on.
        for (split, rows) in manifest.in_flight.iter().filter_map(|file| self.store.intact_file(&file.path)).flatten() {
            let position = positions.entry(*split).or_default();
            // More only where a rule that is switched off has them replayed twice.
            *position = position.saturating_sub(*rows);
        }
        positions
    }

    /// An object has come to be; `before` was the head until then.
    pub(crate) fn check_put(&mut self, key: &ObjectName, before: Option<LinkNumber>) {
        match key {
            ObjectName::Link(number) if self.is_deleted() => {
                let link = self.link(*number).expect("it was just put");
                self.ledger.of_the_deleted.insert((link.generation(), *number));
            }
            ObjectName::Generation(generation) => self.check_claim(*generation),
            // A link in a retired one's place is none.
            ObjectName::Link(number) if Some(*number) > before => {
                let link = self.link(*number).expect("it was just put");
                let before = before.and_then(|before| self.link(before));
                self.link_landed(&link, before.as_ref());
            }
            _ => {}
        }
    }

    fn check_claim(&mut self, generation: Generation) {
        let body = &self.store.objects[&ObjectName::Generation(generation).to_string()];
        let Ok(claim) = decode_claim(generation, body) else { return };
        let pair = |claimant: &Claimant| (claimant.revision, claimant.attempt);
        let own = pair(&claim.claimant);
        let broken = self.ledger.claims.values().next_back().and_then(|before| match pair(before) {
            of if of > own => Some(format!("generation {generation} is claimed as {own:?}")),
            of if of == own && before.pod != claim.claimant.pod => {
                let (one, other) = (&before.pod, &claim.claimant.pod);
                Some(format!("generation {generation} is claimed as {own:?} by {other}, as {one} has before"))
            }
            _ => None,
        });
        // A claim that nobody can read orders nobody.
        if let Some(broken) = broken.filter(|_| !self.store.was_damaged("generations/")) {
            self.break_rule(broken);
        }
        self.ledger.claims.insert(generation, claim.claimant);
    }

    fn link_landed(&mut self, link: &Link, before: Option<&Link>) {
        self.trace(|| {
            format!("link {} lands: {:?}, {:?}, {}", link.number(), link.terms(), link.stop(), link.attempt())
        });
        self.judge_link(link, before);
        self.ledger.recent.push_back((link.terms().clone(), link.stop()));
        if self.ledger.recent.len() > RECENT {
            self.ledger.recent.pop_front();
        }
    }

    fn judge_link(&mut self, link: &Link, before: Option<&Link>) {
        match link {
            Link::Checkpoint(manifest) => {
                self.ledger.stopped |= manifest.stop == Some(Stop::Suspended);
                self.ledger.left.clear();
            }
            Link::Start(start) => {
                self.check_terms(start, before);
                let way_back = before.and_then(|before| self.way_back(start, before));
                let from = way_back.map(|at| self.take_back(at)).or_else(|| before.map(Link::origin));
                let goes_on = from.as_ref() == Some(&start.origin)
                    || (!start.skipped.is_empty() && !self.begins_elsewhere(start, before));
                if (!goes_on || self.begins_elsewhere(start, before)) && self.finished {
                    // Who says from where begins again what had ended.
                    self.finished = false;
                    self.after(0, Item::Chaos);
                    if self.controller.is_some() {
                        self.after(0, Item::Reconcile);
                    }
                }
                if !start.skipped.is_empty() {
                    // Nor can a stop be obeyed that cannot be read.
                    self.ledger.stopped = false;
                    self.ledger.skipped.extend(&start.skipped);
                }
                if let Some(before) = before {
                    self.leave(start, before);
                }
                if !goes_on || self.ledger.counts.is_empty() {
                    let until = from.map(|from| self.positions(&from));
                    if let Some(last) = self.ledger.counts.get_mut(self.ledger.current) {
                        // What a head lists that cannot be read is lost to whoever begins elsewhere.
                        last.until = if start.skipped.is_empty() { until } else { Some(last.from.clone()) };
                    }
                    if !start.skipped.is_empty() {
                        self.released.extend(self.answered.keys().cloned());
                    }
                    let from = self.positions(&start.origin);
                    self.ledger.current = self.ledger.counts.len();
                    self.ledger.counts.push(Count { from, until: None, rows: BTreeMap::new() });
                }
                self.ledger.of.insert(start.generation, self.ledger.current);
                let maintains = self.process_of(start).is_some_and(|process| self.processes[process].kind.maintains());
                if !maintains && start.stop.is_none() && self.may_lift(start, before) {
                    self.ledger.stopped = false;
                }
            }
        }
    }

    /// What a start goes back to that takes another code back, if that one began with another state and has completed no
    /// checkpoint: nothing of it stays.
    fn way_back(&self, start: &chain::Start, before: &Link) -> Option<usize> {
        let wanted = self.controller.as_ref()?.wanted.get(&start.terms.revision)?;
        let first = before.terms().revision < start.terms.revision && start.skipped.is_empty();
        wanted.rollback.as_ref().filter(|_| first)?;
        self.ledger.left.iter().position(|(code, ..)| *code == start.terms.code)
    }

    /// The count of what was left goes on; those after it never were.
    fn take_back(&mut self, at: usize) -> Origin {
        let (_, origin, count) = self.ledger.left.drain(at..).next().expect("it was just found");
        self.trace(|| format!("taken back: what came after count {count}"));
        for taken_back in &mut self.ledger.counts[count + 1..] {
            taken_back.until.get_or_insert_with(|| taken_back.from.clone());
        }
        self.ledger.counts[count].until = None;
        self.ledger.current = count;
        origin
    }

    /// A start of another code from another state: a rollback goes back to what it has left.
    fn leave(&mut self, start: &chain::Start, before: &Link) {
        let wanted = self.controller.as_ref().and_then(|of| of.wanted.get(&start.terms.revision));
        let asked = wanted.is_some_and(|wanted| wanted.restore_from.is_some());
        if asked && before.terms().revision < start.terms.revision {
            let (old, new) = (&before.terms().code, &start.terms.code);
            self.ledger.left.retain(|(code, ..)| code != new && code != old);
            if old != new {
                self.ledger.left.push((old.clone(), before.origin(), self.ledger.current));
            }
        }
    }

    /// Whether somebody asked for this start to be from another state than the head's.
    fn begins_elsewhere(&mut self, start: &chain::Start, before: Option<&Link>) -> bool {
        let Some(process) = self.process_of(start) else { return false };
        let first = self.ledger.began.insert(process);
        match &self.processes[process].kind {
            Start::Fresh | Start::Restoring(_) | Start::Forking => first,
            Start::Pod { .. } => {
                let wanted = self.controller.as_ref().and_then(|of| of.wanted.get(&start.terms.revision));
                let new = before.is_none_or(|before| before.terms().revision < start.terms.revision);
                new && wanted.is_some_and(|wanted| wanted.restore_from.is_some())
            }
            Start::Obeying | Start::Lifting | Start::Maintaining { .. } | Start::Deleting => false,
        }
    }

    fn process_of(&self, start: &chain::Start) -> Option<Proc> {
        start.attempt.strip_prefix('p')?.split('-').next()?.parse().ok()
    }

    /// Whether this start may end a suspension.
    fn may_lift(&self, start: &chain::Start, before: Option<&Link>) -> bool {
        let kind = self.process_of(start).map(|process| &self.processes[process].kind);
        match kind {
            Some(Start::Obeying | Start::Maintaining { .. } | Start::Deleting) => false,
            Some(Start::Pod { .. }) => before.is_none_or(|before| start.terms.revision > before.terms().assigned),
            _ => true,
        }
    }

    /// A start of another revision or code than before: somebody has to have asked for it, and the job has stopped.
    fn check_terms(&mut self, start: &chain::Start, before: Option<&Link>) {
        let (Some(controller), Some(before)) = (&self.controller, before) else { return };
        let (old, new) = (before.terms(), &start.terms);
        let revision = new.revision;
        let mut broken = None;
        if old.revision > revision {
            broken = Some(format!("revision {} goes back to {revision}", old.revision));
        }
        let wanted = controller.wanted.get(&revision);
        if revision == 0 {
            // It began before anything was assigned.
        } else if wanted.is_none_or(|wanted| wanted.code != new.code) {
            broken = Some(format!("revision {revision} with code {} was never wanted", new.code));
        }
        // A claim may have been right when it was made: what landed since did so for somebody who is fenced.
        let stopped = before.number().0 < RECENT as u64
            || self.ledger.recent.iter().any(|(terms, stop)| match stop {
                Some(Stop::Assignment(flag)) => *flag <= revision,
                // What has ended, or sleeps, is in nobody's hands.
                Some(Stop::Suspended | Stop::Finished) => revision > terms.assigned,
                None => false,
            })
            // The same code ran when it was claimed.
            || self.ledger.recent.iter().any(|(terms, _)| terms.code == new.code);
        let takes_over = |wanted: &chain::Assignment| {
            wanted.code == new.code && (wanted.force || wanted.rollback.as_ref() == Some(&old.code))
        };
        // Also if a later one of the same code then began instead.
        let forced = self.ledger.claims.values().any(|claim| {
            claim.revision > old.revision && controller.wanted.get(&claim.revision).is_some_and(takes_over)
        });
        // Of a head that cannot be read nobody knows what runs.
        let blind = !start.skipped.is_empty()
            || (0..RECENT as u64)
                .filter_map(|back| before.number().0.checked_sub(back))
                .any(|number| self.store.was_damaged(&ObjectName::Link(LinkNumber(number)).to_string()));
        if old.code != new.code && !stopped && !forced && !blind {
            broken = Some(format!("revision {revision} takes over although the job has not stopped for it"));
        }
        let way_back = self.way_back(start, before).map(|at| self.ledger.left[at].1.clone());
        let moved = way_back.unwrap_or_else(|| before.origin()) != start.origin && start.skipped.is_empty();
        if moved && (revision == old.revision || wanted.is_none_or(|wanted| wanted.restore_from.is_none())) {
            broken = Some(format!("revision {revision} begins from another state, and nobody asked for it"));
        }
        if let Some(broken) = broken {
            self.break_rule(broken);
        }
    }

    /// What is stopped must not run, as far as a leader can know: one that has been overtaken cannot.
    pub(crate) fn check_deploy(&mut self, process: Proc, start: &chain::Start) {
        let generation = start.generation;
        if self.newest_generation() != generation {
            return;
        }
        if self.ledger.stopped && !matches!(self.processes[process].kind, Start::Lifting) {
            self.break_rule(format!("generation {generation} runs although the job is suspended"));
        }
        if self.finished {
            self.break_rule(format!("generation {generation} runs although the job is finished"));
        }
        if let Origin::Foreign { .. } = &start.origin
            && self.store.origin.is_none()
        {
            self.break_rule(format!("generation {generation} needs its origin, which was given up"));
        }
    }

    /// What is deleted is nobody's: whoever looks back behind the mark sees it.
    pub(crate) fn check_permit(&mut self, generation: Generation, link: LinkNumber) {
        if self.ledger.of_the_deleted.contains(&(generation, link)) {
            self.break_rule(format!("generation {generation} goes on with link {link} although the job is deleted"));
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.store.objects.contains_key(&ObjectName::Deleted.to_string())
    }

    /// Whether somebody has begun without links that could not be read.
    pub(crate) fn any_is_lost(&self) -> bool {
        !self.ledger.skipped.is_empty()
    }

    /// Whether somebody has begun without this link, since it could not be read.
    pub(crate) fn is_lost(&self, link: LinkNumber) -> bool {
        self.ledger.skipped.contains(&link)
    }

    /// Rows become visible.
    pub(crate) fn count(&mut self, id: &str, rows: &[Row]) {
        let Some(count) = self.ledger.of.get(&generation_of(id)).copied() else {
            return self.break_rule(format!("{id} is committed, but its generation never began"));
        };
        let count = &mut self.ledger.counts[count];
        let mut repeated = None;
        for row in rows {
            let times = count.rows.entry(*row).or_default();
            *times += 1;
            if *times > 1 || row.1 < count.from[&row.0] {
                repeated = Some(*row);
            }
        }
        if let Some(row) = repeated {
            self.break_rule(format!("row {row:?} is repeated by {id}"));
        }
    }

    /// What must hold once the job has finished.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        if self.is_deleted() {
            return Ok(());
        }
        if !self.finished {
            return Err("the job has not finished".to_owned());
        }
        for (number, count) in self.ledger.counts.iter().enumerate() {
            for split in 0..SPLITS {
                let until = count.until.as_ref().map_or(ROWS, |until| until[&split]);
                for row in count.from[&split]..until {
                    if !count.rows.contains_key(&(split, row)) {
                        return Err(format!("row {:?} is lost in count {number}", (split, row)));
                    }
                }
            }
        }
        let head = self.head().ok_or("the chain is empty")?;
        if head.stop() != Some(Stop::Finished) {
            return Err("the head is not flagged finished".to_owned());
        }
        let Origin::Link(newest) = head.origin() else { return Err("the head has no state".to_owned()) };
        self.check_files("the head", newest)?;
        let manifest = self.manifest(newest).expect("its files were just read");
        let stored = |path: &str| self.store.files.get(path).cloned();
        let sums = read_sums(&manifest.operators[&sum()].files, &stored)?;
        if sums.len() != usize::from(SPLITS) || sums.values().any(|sum| *sum != ROWS) {
            return Err(format!("the final state is {sums:?}"));
        }
        let savepoints = match &head {
            Link::Checkpoint(manifest) => &manifest.savepoints,
            Link::Start(start) => &start.savepoints,
        };
        for (name, pin) in &self.answered {
            if self.released.contains(name) {
                continue;
            }
            if savepoints.get(name) != Some(pin) {
                return Err(format!("savepoint {name} was {pin:?}, and is {:?} now", savepoints.get(name)));
            }
            self.check_files(&format!("savepoint {name}"), pin.link)?;
            if !self.store.objects.contains_key(&ObjectName::Savepoint(name.clone()).to_string()) {
                return Err(format!("savepoint {name} has no pointer"));
            }
        }
        Ok(())
    }

    fn check_files(&self, what: &str, link: LinkNumber) -> Result<(), String> {
        let manifest = self.manifest(link).ok_or_else(|| format!("{what}: link {link} is gone"))?;
        match manifest.paths().find(|path| !self.store.has_file(path)) {
            Some(path) => Err(format!("{what}: file {path} is gone")),
            None => Ok(()),
        }
    }
}

fn link_number(name: &str) -> Option<LinkNumber> {
    match parse_name(name)? {
        ObjectName::Link(number) => Some(number),
        _ => None,
    }
}
