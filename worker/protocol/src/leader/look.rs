//! Before a claim and before a start: everything that the store says about the job.
//!
//! Listing and reading take a while in which others act: a link may be retired, and a put that was long under way may
//! land in its place. So the generations and the head are listed once more at the end; if they have changed, or a link
//! was gone, everything is looked at again.
//!
//! A leader at work may never let that succeed, and only a claim ends its work. So for a claim the head counts as it was
//! listed, whatever has landed behind it since, if it is a manifest of the newest generation: nothing else can have been
//! read in its place, for what lands in a retired link's place had lost that number, and the leader of the newest
//! generation loses none behind its start. Such a claim is like one that was long under way. After it everything is looked
//! at again until it stands still, which it does: whoever is overtaken puts at most one more link.

use super::action::Request;
use super::claim::overtaken_by;
use super::store::{Answer, Purpose};
use super::{DELAYS_MS, Leader, Phase};
use crate::chain::{
    Assignment, Claim, Link, ObjectName, Prefix, decode_assignment, decode_claim, decode_link, parse_name,
};
use crate::ids::{Generation, LinkNumber, Now};
use std::collections::{BTreeMap, BTreeSet};

/// The longest of the delays between two looks: a leader at work may let any of them succeed.
const LONGEST_PAUSE: usize = 3;

/// What the chain is known to be: a listing, and what this leader has added since.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) highest: Option<Generation>,
    pub(super) claim: Option<Claim>,
    pub(super) links: BTreeMap<LinkNumber, Link>,
    /// What is wrong with each.
    pub(super) unreadable: BTreeMap<LinkNumber, String>,
    pub(super) pointers: BTreeSet<String>,
    pub(super) assignments: BTreeMap<u64, Assignment>,
    /// Revisions whose objects cannot be read.
    pub(super) unusable_assignments: BTreeSet<u64>,
    pub(super) deleted: bool,
    /// Whether the store has been looked at.
    pub(super) seen: bool,
}

impl View {
    /// The number of the newest link, whether or not it can be read.
    pub(super) fn head(&self) -> Option<LinkNumber> {
        self.links.keys().next_back().max(self.unreadable.keys().next_back()).copied()
    }

    pub(super) fn head_link(&self) -> Option<&Link> {
        self.links.get(&self.head()?)
    }
}

/// What is done with what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Claim,
    Start,
}

#[derive(Debug)]
pub(super) struct Look {
    pub(super) next: Next,
    open: usize,
    view: View,
    /// The newest link of the listing.
    listed: Option<LinkNumber>,
    /// What was listed and gone when it was read: a leader is at work, and what is missing is not damage.
    vanished: BTreeSet<ObjectName>,
    /// The highest generation and the head of the second listing, once it is under way.
    second: Option<(Option<Generation>, Option<LinkNumber>)>,
    again_at: Option<Now>,
    rounds: usize,
}

impl Look {
    pub(super) fn deadline(&self) -> Option<Now> {
        self.again_at
    }
}

impl Leader {
    pub(super) fn look(&mut self, next: Next) {
        self.look_again(next, 0);
    }

    fn look_again(&mut self, next: Next, rounds: usize) {
        let view = View::default();
        let vanished = BTreeSet::new();
        let look = Look { next, open: 5, view, listed: None, vanished, second: None, again_at: None, rounds };
        self.phase = Phase::Looking(Box::new(look));
        for prefix in [Prefix::Generations, Prefix::Chain, Prefix::Assignments, Prefix::Savepoints] {
            self.send(Purpose::LookList(prefix), Request::List { prefix });
        }
        self.send(Purpose::LookDeleted, Request::Get { key: ObjectName::Deleted });
    }

    pub(super) fn look_again_if_due(&mut self) {
        if let Phase::Looking(look) = &self.phase
            && look.again_at.is_some_and(|at| at <= self.now)
        {
            self.look_again(look.next, look.rounds + 1);
        }
    }

    pub(super) fn on_look(&mut self, purpose: Purpose, answer: Answer) {
        let Phase::Looking(look) = &mut self.phase else {
            return;
        };
        look.open -= 1;
        let mut wanted = Vec::new();
        match (purpose, answer) {
            (Purpose::LookList(prefix), Answer::Listed(names)) => wanted = look.take_listing(prefix, &names),
            (Purpose::LookDeleted, answer) => look.view.deleted = answer != Answer::NotFound,
            (Purpose::LookClaim(generation), Answer::Body(bytes)) => {
                look.view.claim = decode_claim(generation, &bytes).ok();
            }
            (Purpose::LookLink(number), Answer::Body(bytes)) => match decode_link(number, &bytes) {
                Ok(link) => {
                    look.view.links.insert(number, link);
                }
                Err(error) => {
                    look.view.unreadable.insert(number, error.to_string());
                }
            },
            (Purpose::LookAssignment(revision), Answer::Body(bytes)) => match decode_assignment(revision, &bytes) {
                Ok((_, assignment)) => {
                    look.view.assignments.insert(revision, assignment);
                }
                Err(_) => {
                    look.view.unusable_assignments.insert(revision);
                }
            },
            (Purpose::LookLink(number), _) => drop(look.vanished.insert(ObjectName::Link(number))),
            (Purpose::LookAssignment(revision), _) => drop(look.vanished.insert(ObjectName::Assignment(revision))),
            _ => {}
        }
        look.open += wanted.len();
        let seen_all = look.open == 0;
        for (purpose, key) in wanted {
            self.send(purpose, Request::Get { key });
        }
        if seen_all {
            self.seen();
        }
    }

    fn seen(&mut self) {
        let Phase::Looking(look) = &mut self.phase else {
            return;
        };
        let counts = look.vanished.is_empty() || look.counts_for_a_claim(&self.damaged);
        if look.second.is_none() && counts {
            look.second = Some((None, None));
            look.open = 2;
            for prefix in [Prefix::Generations, Prefix::Chain] {
                self.send(Purpose::LookList(prefix), Request::List { prefix });
            }
            return;
        }
        if !look.stands_still() && !look.counts_for_a_claim(&self.damaged) {
            // Claims only ever rise: whoever is overtaken need not wait until the one before it stands still.
            let highest = look.second.and_then(|(highest, _)| highest).max(look.view.highest);
            if let Some(message) = self.generation.and_then(|own| overtaken_by(own, highest)) {
                return self.fenced(message);
            }
            let delay_ms = DELAYS_MS[look.rounds.min(LONGEST_PAUSE)];
            look.again_at = Some(self.now.after_ms(delay_ms));
            return;
        }
        let next = look.next;
        let before = std::mem::replace(&mut self.view, std::mem::take(&mut look.view));
        // What this leader has stored since the listing; an overtaken one changes nothing.
        self.view.assignments.extend(before.assignments);
        self.view.seen = true;
        self.take_early_requests();
        self.decide(next);
    }
}

impl Look {
    fn stands_still(&self) -> bool {
        self.vanished.is_empty() && self.second == Some((self.view.highest, self.listed))
    }

    /// Whether the head is what it was when it was listed, though the chain may have moved on since, and all that a claim
    /// follows from is there. See the module's text.
    fn counts_for_a_claim(&self, damaged: &BTreeMap<LinkNumber, String>) -> bool {
        let Some(Link::Checkpoint(head)) = self.listed.and_then(|number| self.view.links.get(&number)) else {
            return false;
        };
        let overtaken = self.second.is_some_and(|(highest, _)| highest != self.view.highest);
        let of_the_newest = Some(head.generation) == self.view.highest && !overtaken;
        let needed = |name: &ObjectName| match name {
            ObjectName::Link(number) => head.savepoints.values().any(|pin| pin.link == *number),
            _ => true,
        };
        self.next == Next::Claim
            && of_the_newest
            && !damaged.contains_key(&head.number)
            && !self.vanished.iter().any(needed)
    }

    /// Notes what is there, and says what to read of it.
    fn take_listing(&mut self, prefix: Prefix, names: &[String]) -> Vec<(Purpose, ObjectName)> {
        let mut wanted = Vec::new();
        let names = names.iter().filter_map(|name| parse_name(name));
        if let Some((highest, head)) = &mut self.second {
            for name in names {
                match name {
                    ObjectName::Generation(number) => *highest = (*highest).max(Some(number)),
                    ObjectName::Link(number) => *head = (*head).max(Some(number)),
                    ObjectName::Assignment(_) | ObjectName::Savepoint(_) | ObjectName::Deleted => {}
                }
            }
            return wanted;
        }
        for name in names {
            match name {
                ObjectName::Generation(number) => self.view.highest = self.view.highest.max(Some(number)),
                ObjectName::Savepoint(name) => {
                    self.view.pointers.insert(name);
                }
                ObjectName::Link(number) => {
                    self.listed = self.listed.max(Some(number));
                    wanted.push((Purpose::LookLink(number), ObjectName::Link(number)));
                }
                ObjectName::Assignment(revision) => {
                    wanted.push((Purpose::LookAssignment(revision), ObjectName::Assignment(revision)));
                }
                ObjectName::Deleted => {}
            }
        }
        if let (Prefix::Generations, Some(highest)) = (prefix, self.view.highest) {
            wanted.push((Purpose::LookClaim(highest), ObjectName::Generation(highest)));
        }
        wanted
    }
}
