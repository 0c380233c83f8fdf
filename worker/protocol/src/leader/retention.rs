//! Deleting: what a retired link alone references, and what earlier generations left behind. Links go first, so that
//! no link that can be read ever lacks a file.

use super::Leader;
use super::action::Request;
use super::rules::Rule;
use super::store::{Answer, Purpose};
use crate::chain::{Link, Manifest, ObjectName, Prefix, is_orphan, retire};
use crate::ids::Generation;
use std::collections::BTreeSet;

impl Leader {
    pub(super) fn delete(&mut self, purpose: Purpose, keys: BTreeSet<String>) {
        let permit = self.permit.clone().expect("deletes follow a look back");
        self.send(purpose, Request::Delete { permit, keys });
    }

    pub(super) fn delete_retired(&mut self) {
        let Some(mut head) = self.view.head_link().cloned() else {
            return;
        };
        if !self.pins_hold() {
            match &mut head {
                Link::Start(start) => start.savepoints.clear(),
                Link::Checkpoint(manifest) => manifest.savepoints.clear(),
            }
        }
        let unreadable: BTreeSet<_> = self.view.unreadable.keys().copied().collect();
        let mut retirement = retire(&self.view.links, &unreadable, &head, self.options().checkpoint.retain);
        if !self.rules.hold(Rule::SpareReferenced) {
            let retired = retirement.links.iter().filter_map(|number| self.view.links.get(number)?.manifest());
            retirement.files = retired.flat_map(Manifest::paths).map(str::to_owned).collect();
        }
        if retirement.links.is_empty() {
            return;
        }
        for number in &retirement.links {
            self.view.links.remove(number);
            self.view.unreadable.remove(number);
        }
        let links = retirement.links.iter().map(|number| ObjectName::Link(*number).to_string()).collect();
        self.delete(Purpose::RetiredLinks(retirement.files), links);
    }

    pub(super) fn on_retired(&mut self, purpose: Purpose) {
        if let Purpose::RetiredLinks(files) = purpose
            && !files.is_empty()
        {
            self.delete(Purpose::RetiredFiles, files);
        }
        self.after_aside();
    }

    /// A link that cannot be read may still be repaired: as long as there is one, its files are nobody's orphans.
    pub(super) fn find_orphans(&mut self) {
        if self.view.unreadable.is_empty() {
            self.send(Purpose::OrphanList, Request::List { prefix: Prefix::State });
        }
    }

    pub(super) fn on_orphans(&mut self, answer: Answer) {
        if let Answer::Listed(names) = answer {
            let own = match self.rules.hold(Rule::SpareOwnFiles) {
                true => self.own_generation(),
                false => Generation(u64::MAX),
            };
            let orphans: BTreeSet<String> =
                names.into_iter().filter(|name| is_orphan(name, own, &self.view.links)).collect();
            if !orphans.is_empty() {
                self.delete(Purpose::RetiredFiles, orphans);
            }
        }
        self.after_aside();
    }
}
