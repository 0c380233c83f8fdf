//! What the controller remembers of a job between two looks at it: nothing that cannot be found out again.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use weir_crds::Reason;

use crate::certificates::Credentials;
use crate::model::{Event, Needed, Refused};

/// How long an event is not told again.
const TOLD: SignedDuration = SignedDuration::from_mins(10);
/// Refusals that are kept.
const MOST_REFUSED: usize = 16;

/// Notes of all jobs, by uid.
#[derive(Default)]
pub struct Notes {
    of: Mutex<BTreeMap<String, Note>>,
}

/// Notes of one job.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// Requests that its leaders refused, newest last.
    pub refused: Vec<Refused>,
    /// The last write that the cluster refused.
    pub denied: Option<String>,
    /// What to show to its leaders, and until when this is known to be right.
    pub credentials: Option<(Arc<Credentials>, Timestamp)>,
    /// What was applied last, by kind and name: a hash of it, and the version that it got.
    pub applied: BTreeMap<(&'static str, String), (u64, String)>,
    /// Until when the job's certificates are known to be right.
    pub certified: Option<Timestamp>,
    /// Secrets and ConfigMaps that were there, and until when that is believed.
    pub found: BTreeMap<Needed, Timestamp>,
    /// Looks in a row that failed.
    pub failures: u32,
    /// Events that were told, by reason and message.
    told: BTreeMap<(Reason, String), Timestamp>,
}

impl Notes {
    /// What is noted of a job.
    #[must_use]
    pub fn get(&self, uid: &str) -> Note {
        self.of.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Changes what is noted of a job.
    pub fn edit<T>(&self, uid: &str, edit: impl FnOnce(&mut Note) -> T) -> T {
        edit(self.of.lock().entry(uid.to_owned()).or_default())
    }

    /// Forgets all jobs but these.
    pub fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.of.lock().retain(|uid, _| is_there(uid));
    }
}

impl Note {
    /// A leader refused a request; an earlier refusal of the same subject is forgotten.
    pub fn refuse(&mut self, refused: Refused) {
        self.refused.retain(|old| old.subject != refused.subject);
        self.refused.push(refused);
        if self.refused.len() > MOST_REFUSED {
            self.refused.remove(0);
        }
    }

    /// A leader accepted a request.
    pub fn accept(&mut self, subject: &str) {
        self.refused.retain(|old| old.subject != subject);
    }

    /// Whether an event is to be told now; then it counts as told.
    pub fn tells(&mut self, event: &Event, now: Timestamp) -> bool {
        self.told.retain(|_, at| now.duration_since(*at) < TOLD);
        self.told.insert((event.reason, event.message.clone()), now).is_none()
    }
}
