//! Savepoints: checkpoints with a name, which retention spares.
//!
//! The head lists all savepoints of the job, so a request that comes twice is found whatever happened meanwhile, and a
//! link that lands late in a retired place brings no name back. `savepoints/<name>` repeats it for those outside.

use super::action::Request;
use super::checkpoint::{Abort, Goal};
use super::event::Then;
use super::notice::{FailureCause, Notice};
use super::options::{Mode, Operation};
use super::rules::Rule;
use super::store::{Answer, Purpose};
use super::{Leader, Phase};
use crate::chain::{Link, ObjectName, Pin, Pointer, decode_pointer, encode_mark, encode_pointer};
use crate::ids::LinkNumber;
use crate::name;
use std::collections::{BTreeMap, BTreeSet};

/// A savepoint that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) name: String,
    pub(super) uid: String,
    then: Then,
}

impl Wish {
    pub(super) fn stops(&self) -> bool {
        self.then == Then::Stop
    }
}

impl Leader {
    pub(super) fn on_savepoint_requested(&mut self, name: String, uid: String, then: Then) {
        let failed = |message: String| Notice::SavepointFailed { name: name.clone(), uid: uid.clone(), message };
        if !name::is_savepoint(&name) {
            let message = format!("{name:?} is no name for a savepoint: use {}", name::SAVEPOINT_RULE);
            return self.report(failed(message));
        }
        if let Some(wish) = self.wishes.iter().find(|wish| wish.name == name) {
            if wish.uid != uid {
                self.report(failed(format!("another request for savepoint {name:?} is under way")));
            }
            return;
        }
        match self.savepoints.get(&name) {
            Some(_) if self.releases.contains(&name) => {
                self.report(failed(format!("savepoint {name:?} is being deleted: ask again later")));
            }
            // If it was to stop the job it has: one that runs by now was told to since.
            Some(pin) if pin.uid == uid && self.rules.hold(Rule::SavepointOnce) => {
                let link = pin.link;
                self.report(Notice::SavepointCompleted { name, uid, link });
            }
            Some(_) if self.rules.hold(Rule::SavepointOnce) => self.report(failed(name_is_taken(&name))),
            _ => self.wishes.push(Wish { name, uid, then }),
        }
    }

    /// Wishes that came before the start stood, when nobody knew which savepoints there are.
    pub(super) fn sort_wishes(&mut self) {
        let once = self.rules.hold(Rule::SavepointOnce);
        for wish in std::mem::take(&mut self.wishes) {
            match self.savepoints.get(&wish.name) {
                Some(pin) if pin.uid == wish.uid => {
                    if self.view.pointers.contains(&wish.name) {
                        self.pointer_stands(wish.name);
                    }
                }
                Some(_) if once => {
                    let message = name_is_taken(&wish.name);
                    self.report(Notice::SavepointFailed { name: wish.name, uid: wish.uid, message });
                }
                _ => self.wishes.push(wish),
            }
        }
        let savepoints = &self.savepoints;
        self.releases.retain(|name| savepoints.contains_key(name));
    }

    /// A request is taken back, with the checkpoint that was begun for it alone.
    pub(super) fn on_savepoint_withdrawn(&mut self, name: String, uid: String) {
        let asked = |wish: &Wish| wish.name == name && wish.uid == uid;
        let Some(wish) = self.wishes.iter().find(|wish| asked(wish)).cloned() else {
            return self.report_unwithdrawn(name, uid);
        };
        if self.attempt.as_ref().is_some_and(|attempt| attempt.manifest.is_some() && attempt.wishes.contains(&wish)) {
            // Its manifest may be there already.
            return;
        }
        self.wishes.retain(|wish| !asked(wish));
        if let Some(attempt) = &mut self.attempt {
            attempt.wishes.retain(|wish| !asked(wish));
        }
        self.report(Notice::SavepointWithdrawn { name, uid });
        if wish.stops() && self.attempt.as_ref().is_some_and(|attempt| attempt.goal == Some(Goal::Suspend)) {
            let others = self.stop_requested || self.wishes.iter().any(Wish::stops);
            if !others {
                let message = "the savepoint it was begun for was withdrawn".to_owned();
                self.abort_attempt(Abort { cause: FailureCause::Withdrawn, message });
            }
        }
    }

    fn report_unwithdrawn(&mut self, name: String, uid: String) {
        match self.savepoints.get(&name).filter(|pin| pin.uid == uid) {
            Some(pin) => {
                let link = pin.link;
                self.report(Notice::SavepointCompleted { name, uid, link });
            }
            None => self.report(Notice::SavepointWithdrawn { name, uid }),
        }
    }

    pub(super) fn on_savepoint_released(&mut self, name: String) {
        if !self.savepoints.contains_key(&name) {
            let message = format!("there is no savepoint {name:?}");
            return self.report(Notice::SavepointFailed { name, uid: String::new(), message });
        }
        self.releases.insert(name);
    }

    pub(super) fn wish_for_maintenance(&mut self) {
        let Mode::Maintain { operations, .. } = self.options().mode.clone() else {
            return;
        };
        for operation in operations {
            match operation {
                Operation::CreateSavepoint { name, uid } if self.restored.is_some() && self.base.is_own() => {
                    self.on_savepoint_requested(name, uid, Then::Continue);
                }
                Operation::CreateSavepoint { name, uid } => {
                    let message = "the job has no completed checkpoint of its own: run it first".to_owned();
                    self.report(Notice::SavepointFailed { name, uid, message });
                }
                Operation::DeleteSavepoint { name } => self.report(Notice::SavepointReleased { name }),
                Operation::DeleteJob => {
                    let (key, body) = (ObjectName::Deleted, encode_mark(&self.options().job, self.own_generation()));
                    self.send(Purpose::Mark, Request::PutIfAbsent { key, body });
                }
            }
        }
    }

    /// The names asked with a checkpoint are its link's; the pointers follow.
    pub(super) fn announce(&mut self, wishes: &[Wish], releases: BTreeSet<String>, link: LinkNumber) {
        for wish in wishes {
            let pin = Pin { uid: wish.uid.clone(), link };
            self.put_pointer(wish.name.clone(), pin);
        }
        for name in releases {
            self.delete(Purpose::PointerRelease(name.clone()), [ObjectName::Savepoint(name).to_string()].into());
        }
    }

    /// A leader may have died between a savepoint's manifest and its pointer, or between a release and its pointer.
    pub(super) fn complete_pointers(&mut self) {
        let completes = self.rules.hold(Rule::CompletePointers);
        let missing: Vec<(String, Pin)> = self
            .savepoints
            .iter()
            .filter(|(name, _)| !self.view.pointers.contains(*name))
            .map(|(name, pin)| (name.clone(), pin.clone()))
            .collect();
        for (name, pin) in missing.into_iter().filter(|_| completes) {
            self.put_pointer(name, pin);
        }
        let pointers = self.view.pointers.iter().filter(|name| !self.savepoints.contains_key(*name));
        let stale: BTreeSet<String> = pointers.map(|name| ObjectName::Savepoint(name.clone()).to_string()).collect();
        if !stale.is_empty() {
            self.delete(Purpose::RetiredFiles, stale);
        }
    }

    fn put_pointer(&mut self, name: String, pin: Pin) {
        let pointer = Pointer { job: self.options().job.clone(), name: name.clone(), pin };
        let key = ObjectName::Savepoint(name.clone());
        self.send(Purpose::Pointer(name), Request::PutIfAbsent { key, body: encode_pointer(&pointer) });
    }

    pub(super) fn on_pointer(&mut self, purpose: Purpose, answer: Answer) {
        match (purpose, answer) {
            (Purpose::Pointer(name), Answer::Done) => self.pointer_stands(name),
            (Purpose::Pointer(name), _) => {
                let key = ObjectName::Savepoint(name.clone());
                self.send(Purpose::PointerReadBack(name), Request::Get { key });
            }
            (Purpose::PointerReadBack(name), Answer::Body(bytes)) => {
                let pin = decode_pointer(&name, &bytes).ok().map(|pointer| pointer.pin);
                match pin.as_ref() == self.savepoints.get(&name) {
                    true => self.pointer_stands(name),
                    // What is left of a savepoint that was given up.
                    false => {
                        let keys = [ObjectName::Savepoint(name.clone()).to_string()].into();
                        self.delete(Purpose::StalePointer(name), keys);
                    }
                }
            }
            (Purpose::PointerReadBack(name) | Purpose::StalePointer(name), _) => {
                if let Some(pin) = self.savepoints.get(&name).cloned() {
                    self.put_pointer(name, pin);
                }
            }
            (Purpose::PointerRelease(name), _) => self.report(Notice::SavepointReleased { name }),
            _ => {}
        }
        self.after_aside();
    }

    pub(super) fn pointer_stands(&mut self, name: String) {
        if let Some(pin) = self.savepoints.get(&name).cloned() {
            self.report(Notice::SavepointCompleted { name, uid: pin.uid, link: pin.link });
        }
    }

    /// Something beside the leader's way is done: the end may have waited for it.
    pub(super) fn after_aside(&mut self) {
        if matches!(self.phase, Phase::Stopping(_) | Phase::Maintaining) {
            self.stop_if_settled();
        }
    }

    /// A stop was given up with its checkpoint: the job goes on as it was.
    pub(super) fn stop_failed(&mut self, message: &str) {
        self.stop_requested = false;
        self.report(Notice::StopFailed { message: message.to_owned() });
        let (failed, rest): (Vec<Wish>, Vec<Wish>) = self.wishes.drain(..).partition(Wish::stops);
        self.wishes = rest;
        for Wish { name, uid, .. } in failed {
            self.report(Notice::SavepointFailed { name, uid, message: message.to_owned() });
        }
    }

    /// All savepoints of the job, as far as they are known.
    pub(super) fn known_savepoints(&self) -> &BTreeMap<String, Pin> {
        match self.own_start {
            Some(_) => &self.savepoints,
            None => self.view.links.values().next_back().map_or(&self.savepoints, Link::savepoints),
        }
    }

    /// The savepoints that retention spares.
    pub(super) fn pins_hold(&self) -> bool {
        self.rules.hold(Rule::PinSavepoints)
    }
}

fn name_is_taken(name: &str) -> String {
    format!("there is a savepoint {name:?} already: choose another name")
}
