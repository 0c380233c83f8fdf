//! A fork keeps a savepoint of its origin until its own first checkpoint holds everything, and gives it up after that.
//! Every link says what is not given up yet, so that no crash forgets it.

use super::super::Leader;
use super::super::action::Action;
use super::super::look::View;
use super::super::rules::Rule;
use crate::chain::{Origin, RestoreFrom};
use std::collections::BTreeMap;

/// What a start must see to that begins as a new revision: pins of its own assignment, and of those it overtakes.
pub(in crate::leader) fn pins_of_assignments(view: &View, revision: u64) -> BTreeMap<String, String> {
    let in_force = view.links.values().next_back().map_or(0, |link| link.terms().revision);
    let assignments = view.assignments.values();
    let assignments = assignments.filter(|one| in_force < one.revision && one.revision <= revision);
    let pins = assignments.filter_map(|assignment| match &assignment.restore_from {
        Some(RestoreFrom::Foreign { location, pin: Some(pin), .. }) => Some((pin.clone(), location.clone())),
        _ => None,
    });
    pins.collect()
}

impl Leader {
    /// Asks for the release of what is not needed any more; asked again after each checkpoint until it is done.
    pub(in crate::leader) fn release_pins(&mut self) {
        let needed = match &self.base {
            Origin::Foreign { pin, .. } if self.rules.hold(Rule::HoldOrigin) => pin.clone(),
            Origin::Foreign { .. } | Origin::Empty | Origin::Link(_) => None,
        };
        let open = self.holds.iter().filter(|(pin, _)| Some(*pin) != needed.as_ref());
        let open: Vec<(String, String)> = open.map(|(pin, location)| (pin.clone(), location.clone())).collect();
        for (pin, location) in open {
            self.act(Action::ReleasePin { location, pin });
        }
    }

    pub(in crate::leader) fn on_pin_released(&mut self, pin: &str) {
        let needed = matches!(&self.base, Origin::Foreign { pin: Some(needed), .. } if needed == pin);
        if !needed {
            self.holds.remove(pin);
        }
    }
}
