//! Nothing counts before a look back.
//!
//! A put says that an object is there, not that its writer may still act: a leader that was frozen wakes up and finds
//! its put done. So after the put of a start or of a manifest the leader looks whether the next generation is claimed,
//! the job is deleted, or its own claim is gone. Only if none is does it get a [`Permit`]; whoever claims after that
//! sees the link.

use super::action::Request;
use super::checkpoint::Goal;
use super::claim::overtaken;
use super::notice::End;
use super::rules::Rule;
use super::store::{Answer, Purpose};
use super::{Leader, Phase};
use crate::chain::{ObjectName, Stop, decode_claim};
use crate::ids::{Generation, LinkNumber, Now};

/// The right to commit what a link lists, to abort what earlier generations left, and to delete what the link made
/// superfluous. Only a look back makes one, and it never expires: whoever comes later knows the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    generation: Generation,
    link: LinkNumber,
}

impl Permit {
    /// The generation that looked back.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The link that stands.
    #[must_use]
    pub fn link(&self) -> LinkNumber {
        self.link
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    NextGeneration,
    OwnClaim,
    Deleted,
}

/// What a look back is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Start,
    Manifest,
}

#[derive(Debug)]
pub(super) struct LookBack {
    subject: Subject,
    link: LinkNumber,
    open: u32,
}

impl Leader {
    pub(super) fn look_back(&mut self, subject: Subject, link: LinkNumber) {
        let own = self.own_generation();
        let rule = match subject {
            Subject::Start => Rule::LookBackAfterStart,
            Subject::Manifest => Rule::LookBackAfterManifest,
        };
        if !self.rules.hold(rule) {
            return self.stands(subject, Permit { generation: own, link });
        }
        self.looking_back = Some(LookBack { subject, link, open: 3 });
        let questions = [
            (Question::NextGeneration, ObjectName::Generation(Generation(own.0 + 1))),
            (Question::OwnClaim, ObjectName::Generation(own)),
            (Question::Deleted, ObjectName::Deleted),
        ];
        for (question, key) in questions {
            self.send(Purpose::LookBack(question), Request::Get { key });
        }
    }

    pub(super) fn on_looked_back(&mut self, question: Question, answer: &Answer) {
        let own = self.own_generation();
        let Some(looking) = self.looking_back.as_mut() else {
            return;
        };
        looking.open -= 1;
        let (link, subject, open) = (looking.link, looking.subject, looking.open);
        let fenced = match (question, answer) {
            (Question::NextGeneration, Answer::NotFound) | (Question::Deleted, Answer::NotFound) => None,
            (Question::NextGeneration, _) => Some(overtaken(Generation(own.0 + 1))),
            (Question::Deleted, _) if !self.rules.hold(Rule::AskForDeletion) => None,
            (Question::Deleted, _) => Some("the job has been deleted".to_owned()),
            (Question::OwnClaim, Answer::Body(bytes)) if self.is_own_claim(own, bytes) => None,
            (Question::OwnClaim, _) if !self.rules.hold(Rule::ConditionalClaim) => None,
            (Question::OwnClaim, _) => Some(format!("the claim of generation {own} is no longer this leader's")),
        };
        if let Some(message) = fenced {
            return match self.handed_over_by_its_stop(question) {
                Some(revision) => self.finish(End::HandedOver { revision }),
                None => self.fenced(message),
            };
        }
        if open == 0 {
            self.looking_back = None;
            self.stands(subject, Permit { generation: own, link });
        }
    }

    /// The revision for which the manifest stops the job, when its leader was quick: it may claim as soon as the manifest is
    /// there. What is left to commit is its own to commit.
    fn handed_over_by_its_stop(&self, question: Question) -> Option<u64> {
        let (Question::NextGeneration, Some(Goal::Assignment(revision))) = (question, self.attempt.as_ref()?.goal)
        else {
            return None;
        };
        let hands_over = self.rules.hold(Rule::FencedTouchesNothing) && !self.is_own_to_carry_out(revision);
        hands_over.then_some(revision)
    }

    fn watch_later(&mut self) {
        self.watch_at = Some(self.now.after_ms(self.options().watch_ms));
    }

    /// When to look whether another leader has taken over: workers may never come to one that was cut off and replaced,
    /// and its checkpoints and commits may hang, so that no look back would tell it.
    pub(super) fn next_watch(&self) -> Option<Now> {
        let works = match self.phase {
            Phase::Settling | Phase::Deploying | Phase::Running => true,
            // Whoever it hands over to claims before it has ended.
            Phase::Stopping(stop) => !matches!(stop, Stop::Assignment(_)),
            _ => false,
        };
        self.watch_at.filter(|_| works)
    }

    pub(super) fn watch_if_due(&mut self) {
        if self.next_watch().is_some_and(|at| at <= self.now) {
            self.watch_at = None;
            let key = ObjectName::Generation(Generation(self.own_generation().0 + 1));
            self.send(Purpose::Watch, Request::Get { key });
        }
    }

    pub(super) fn on_watched(&mut self, answer: &Answer) {
        self.watch_later();
        // The manifest that is on its way may be what the next one has waited for: then its look back says how this one ends.
        let lands = self.attempt.as_ref().is_some_and(|attempt| attempt.manifest.is_some());
        if *answer != Answer::NotFound && self.next_watch().is_some() && !lands {
            self.fenced(overtaken(Generation(self.own_generation().0 + 1)));
        }
    }

    fn stands(&mut self, subject: Subject, permit: Permit) {
        self.permit = Some(permit);
        self.watch_later();
        match subject {
            Subject::Start => self.start_stands(),
            Subject::Manifest => self.checkpoint_complete(),
        }
    }

    fn is_own_claim(&self, own: Generation, bytes: &[u8]) -> bool {
        decode_claim(own, bytes).is_ok_and(|claim| claim.incarnation == self.options().incarnation)
    }

    /// Another leader has taken over: this one ends and touches nothing.
    pub(super) fn fenced(&mut self, message: String) {
        if !self.rules.hold(Rule::FencedTouchesNothing) {
            self.abort_own_committables();
        }
        self.finish(End::Fenced { message });
    }
}
