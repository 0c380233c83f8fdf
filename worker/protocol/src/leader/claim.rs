//! A generation begins: look, claim, look again, start, look back, settle, deploy.

use super::action::{Action, Request, Restore};
use super::assignment::{Refusal, order};
use super::event::ErrorKind;
use super::look::Next;
use super::look_back::Subject;
use super::notice::{Already, End, Notice};
use super::options::Resume;
use super::rules::Rule;
use super::standing::{Beginning, Draft, Errand, draft, end_of_stop, manifest_of};
use super::store::{Answer, Purpose};
use super::{Leader, Phase};
use crate::chain::{
    Claim, Claimant, Link, ObjectName, Origin, Start, decode_claim, decode_link, encode_claim, encode_link,
};
use crate::ids::{CheckpointId, Generation};

/// How often a leader looks that may not begin yet, in milliseconds.
const AWAIT_MS: u64 = 1_000;

impl Leader {
    /// Everything is seen: whether a generation may begin, from where, and what comes next.
    pub(super) fn decide(&mut self, next: Next) {
        if let Some(message) = self.seen_to_be_fenced() {
            return self.fenced(message);
        }
        if next == Next::Claim && self.assignment_is_coming() {
            return self.wait_for_its_turn(next, "an assignment is being stored".to_owned());
        }
        let begin = Beginning {
            resume: &self.resume,
            first: self.own_start.is_none(),
            damaged: &self.damaged,
            claimed: self.claimed_by_others(),
            rules: self.rules,
        };
        if let Ok(order) = order(&self.view, self.options(), &begin) {
            self.tried = order.terms.revision;
        }
        let draft = match draft(&self.view, self.options(), &begin) {
            Ok(draft) => draft,
            Err(Refusal::Wait(message)) => return self.wait_for_its_turn(next, message),
            Err(Refusal::End(end)) => return self.finish(end),
        };
        match next {
            // An assignment has come since: it is claimed as what it is.
            Next::Start if self.claimed == Some(draft.claim) => self.put_start(draft),
            Next::Claim | Next::Start => self.claim(draft.claim),
        }
    }

    /// The leader may not begin yet: it looks again in a while, or as soon as something is assigned.
    fn wait_for_its_turn(&mut self, next: Next, message: String) {
        if self.awaited.as_ref() != Some(&message) {
            self.awaited = Some(message.clone());
            self.report(Notice::Awaiting { message });
        }
        self.phase = Phase::Awaiting { next, until: self.now.after_ms(AWAIT_MS) };
    }

    pub(super) fn look_for_its_turn_if_due(&mut self) {
        if let Phase::Awaiting { next, until } = self.phase
            && until <= self.now
        {
            self.look(next);
        }
    }

    /// A higher generation than the own one, or the own claim gone.
    fn seen_to_be_fenced(&self) -> Option<String> {
        let own = self.generation?;
        let in_link = self.view.links.values().map(Link::generation).max();
        let highest = self.view.highest.max(in_link);
        let is_gone = self.view.highest < Some(own);
        overtaken_by(own, highest).or_else(|| is_gone.then(|| format!("the claim of generation {own} is gone")))
    }

    fn claim(&mut self, revision: u64) {
        let claimant = Claimant { revision, ..self.options().claimant.clone() };
        if let Some(message) = self.claim_to_wait_for(&claimant) {
            return self.wait_for_its_turn(Next::Claim, message);
        }
        if let Some(end) = self.claim_refused(&claimant) {
            return self.finish(end);
        }
        self.claimed_over = self.claimed_by_others();
        self.claimed = Some(revision);
        let generation = Generation(self.view.highest.map_or(1, |highest| highest.0 + 1));
        let options = self.options();
        let claim = Claim { job: options.job.clone(), generation, claimant, incarnation: options.incarnation.clone() };
        self.phase = Phase::Claiming(generation);
        let (key, body) = (ObjectName::Generation(generation), encode_claim(&claim));
        self.send(Purpose::Claim, Request::PutIfAbsent { key, body });
    }

    /// The highest revision as which another leader has claimed; any, if that cannot be read.
    fn claimed_by_others(&self) -> u64 {
        match &self.view.claim {
            Some(claim) if claim.incarnation == self.options().incarnation => self.claimed_over,
            Some(claim) => claim.claimant.revision,
            None if self.view.highest.is_some() => u64::MAX,
            None => 0,
        }
    }

    /// A higher revision has claimed, but it need not get further: a leader that has never begun stays and listens.
    fn claim_to_wait_for(&self, own: &Claimant) -> Option<String> {
        let before = &self.view.claim.as_ref()?.claimant;
        let guided = self.options().direction.guide.is_assigned();
        let waits = guided && self.generation.is_none() && self.rules.hold(Rule::ClaimInOrder);
        (waits && before.revision > own.revision)
            .then(|| format!("revision {} has claimed the job, this leader's is {}", before.revision, own.revision))
    }

    /// A lower (revision, attempt) never claims over a higher one, an equal one only from the same pod.
    fn claim_refused(&self, own: &Claimant) -> Option<End> {
        let before = &self.view.claim.as_ref()?.claimant;
        let (old, new) = ((before.revision, before.attempt), (own.revision, own.attempt));
        if new < old && self.rules.hold(Rule::ClaimInOrder) {
            let message = format!("revision {} attempt {} has claimed the job before", old.0, old.1);
            return Some(End::Fenced { message });
        }
        let shared = new == old && before.pod != own.pod && self.rules.hold(Rule::OnePodPerAttempt);
        shared.then(|| End::Failed {
            kind: ErrorKind::User,
            message: format!(
                "the job's folder is in use by another one ({}, this is {}): two clusters or two runs must not share it",
                before.pod, own.pod
            ),
        })
    }

    pub(super) fn on_claim(&mut self, purpose: &Purpose, answer: Answer) {
        let Phase::Claiming(generation) = self.phase else {
            return;
        };
        let unconditional = !self.rules.hold(Rule::ConditionalClaim);
        let own = match (purpose, answer) {
            (Purpose::Claim, Answer::Done) => true,
            (Purpose::Claim, _) if unconditional => true,
            (Purpose::Claim, _) => {
                let key = ObjectName::Generation(generation);
                return self.send(Purpose::ClaimReadBack, Request::Get { key });
            }
            (_, Answer::Body(bytes)) => {
                decode_claim(generation, &bytes).is_ok_and(|claim| claim.incarnation == self.options().incarnation)
            }
            _ => false,
        };
        match own {
            true => {
                self.generation = Some(generation);
                self.look(Next::Start);
            }
            false => self.look(Next::Claim),
        }
    }

    fn put_start(&mut self, draft: Draft) {
        let options = self.options();
        let start = Start {
            job: options.job.clone(),
            number: draft.number,
            generation: self.own_generation(),
            attempt: format!("{}-{}-start-{}", options.incarnation, self.own_generation(), draft.number),
            claimant: Claimant { revision: draft.claim, ..options.claimant.clone() },
            started_unix_ms: self.unix_ms(),
            terms: draft.terms,
            origin: draft.origin,
            skipped: draft.skipped,
            committables: draft.committables,
            savepoints: draft.savepoints,
            stop: draft.stop,
            holds: draft.holds,
            key_groups: draft.key_groups,
            plan: draft.plan,
            sinks: draft.sinks,
            restored_from: draft.restored_from,
            left: draft.left,
        };
        self.errand = draft.errand;
        self.already = if self.own_start.is_none() { Already::Yes } else { Already::No };
        let body = encode_link(&Link::Start(Box::new(start.clone())));
        let key = ObjectName::Link(start.number);
        self.phase = Phase::Starting(Box::new(start));
        self.send(Purpose::Start, Request::PutIfAbsent { key, body });
    }

    pub(super) fn on_start(&mut self, purpose: &Purpose, answer: Answer) {
        let Phase::Starting(start) = &mut self.phase else {
            return;
        };
        let number = start.number;
        match (purpose, answer) {
            (Purpose::Start, Answer::Done) => self.look_back(Subject::Start, number),
            (Purpose::Start, _) if !self.rules.hold(Rule::OwnLinksOnly) => self.look_back(Subject::Start, number),
            (Purpose::Start, _) if !self.rules.hold(Rule::DecideAnew) => {
                start.number.0 += 1;
                let body = encode_link(&Link::Start(start.clone()));
                let key = ObjectName::Link(start.number);
                self.send(Purpose::Start, Request::PutIfAbsent { key, body });
            }
            (Purpose::Start, _) => {
                self.send(Purpose::StartReadBack, Request::Get { key: ObjectName::Link(number) });
            }
            (_, Answer::Body(bytes)) => {
                let ours = decode_link(number, &bytes).is_ok_and(|link| link.attempt() == start.attempt);
                match ours {
                    true => self.look_back(Subject::Start, number),
                    // Its place was taken: whoever took it may have changed everything.
                    false => self.look(Next::Start),
                }
            }
            _ => self.fenced(format!("link {number} was written and deleted by a later generation")),
        }
    }

    pub(super) fn start_stands(&mut self) {
        let Phase::Starting(start) = &self.phase else {
            return;
        };
        let start = start.clone();
        self.resume = Resume::Head;
        self.carried = start.committables.clone();
        self.unconfirmed = start.committables.clone();
        self.savepoints = start.savepoints.clone();
        self.holds = start.holds.clone();
        self.awaited = None;
        let newest = self.view.links.values().filter_map(Link::manifest).map(|manifest| manifest.checkpoint).max();
        self.next_checkpoint = CheckpointId(newest.map_or(1, |newest| newest.0 + 1));
        let restored = manifest_of(&start.origin, &self.view.links).map(|manifest| manifest.checkpoint);
        self.restored = restored;
        self.base = start.origin.clone();
        for number in &start.skipped {
            let message = match self.view.unreadable.get(number).or_else(|| self.damaged.get(number)) {
                Some(details) => details.clone(),
                None => format!("the state files of link {number} cannot be used"),
            };
            self.out.push(Action::Report(Notice::LinkUnusable { link: *number, message }));
        }
        let number = start.number;
        self.view.unreadable.remove(&number);
        self.view.links.insert(number, Link::Start(start));
        self.own_start = Some(number);
        // What was asked before the restart may be in a link that landed all the same.
        self.sort_wishes();
        self.report(Notice::Started { generation: self.own_generation(), restored });
        self.phase = Phase::Settling;
        if self.rules.hold(Rule::CommitWhatTheHeadLeft) {
            self.commit_waiting();
        } else {
            self.unconfirmed.clear();
        }
        self.settle();
    }

    /// What the head left must be confirmed before anything new begins: a sink may need it for its own order.
    pub(super) fn settle(&mut self) {
        if !matches!(self.phase, Phase::Settling) || !self.unconfirmed.is_empty() {
            return;
        }
        self.complete_pointers();
        self.release_pins();
        self.delete_retired();
        self.find_orphans();
        self.delete_overtaken_assignments();
        match self.errand {
            Errand::Run => self.deploy(),
            Errand::Maintain | Errand::Settle => self.maintain(),
        }
    }

    fn deploy(&mut self) {
        let permit = self.permit.clone().expect("only a start that stands is settled");
        let generation = self.own_generation();
        let start = self.start_link().clone();
        let location = match &start.origin {
            Origin::Foreign { location, .. } => Some(location.clone()),
            Origin::Empty | Origin::Link(_) => None,
        };
        let manifest = manifest_of(&start.origin, &self.view.links).cloned();
        let restore = manifest.map(|manifest| Box::new(Restore { manifest, location }));
        self.act(Action::AbortLeftovers { permit, before: generation, keep: self.waiting_ids() });
        self.ended.clear();
        self.phase = Phase::Deploying;
        self.act(Action::Deploy { generation, start: Box::new(start), restore });
    }

    /// The own start, once it stands.
    pub(super) fn start_link(&self) -> &Start {
        let link = self.own_start.and_then(|number| self.view.links.get(&number));
        match link {
            Some(Link::Start(start)) => start,
            _ => unreachable!("the own start is kept as long as its generation lives"),
        }
    }

    /// A run that only maintains has done its work, or writes it down first.
    pub(super) fn maintained(&self) -> End {
        let start = self.start_link();
        match (self.errand, start.stop) {
            (Errand::Settle, Some(stop)) => end_of_stop(stop, self.restored, self.already),
            _ => End::Maintained,
        }
    }
}

/// What fences the leader of `own` when the highest generation is this one.
pub(super) fn overtaken_by(own: Generation, highest: Option<Generation>) -> Option<String> {
    highest.filter(|highest| *highest > own).map(overtaken)
}

/// What fences a leader whose generation is no longer the highest.
pub(super) fn overtaken(by: Generation) -> String {
    format!("generation {by} has been claimed")
}
