//! Savepoints that were asked for during a run: who asked, and what became of it.

use std::collections::BTreeMap;
use weir_protocol::LinkNumber;
use weir_protocol::chain::Pin;

/// Requests that are remembered.
const LIMIT: usize = 1000;

/// A savepoint that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavepointRequest {
    /// The request's uid.
    pub uid: String,
    /// What is known of it.
    pub state: Savepoint,
}

/// What is known of a savepoint that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Savepoint {
    /// It will be taken.
    Pending,
    /// It is there.
    Completed(LinkNumber),
    /// It is not.
    Failed(String),
    /// It will be deleted with the next checkpoint.
    Releasing,
    /// It was to be deleted, and could not be.
    Kept(String),
}

/// Why a request cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another request made the savepoint of this name.
    #[error("there is a savepoint of this name already")]
    Exists,
    /// Another request for the name is under way.
    #[error("another request for a savepoint of this name is under way")]
    UnderWay,
    /// The savepoint of this name is being deleted.
    #[error("the savepoint of this name is being deleted")]
    Releasing,
    /// Nobody made a savepoint of this name.
    #[error("there is no savepoint of this name")]
    Unknown,
    /// Too many requests wait.
    #[error("too many savepoints are waiting to be taken")]
    TooMany,
}

/// The requests of a run, by name.
#[derive(Debug, Default)]
pub struct Savepoints(BTreeMap<String, SavepointRequest>);

impl Savepoints {
    /// All that are remembered.
    #[must_use]
    pub fn requests(&self) -> &BTreeMap<String, SavepointRequest> {
        &self.0
    }

    /// Notes a request; `pin` is the savepoint that has the name. Repeating a request changes nothing, unless it failed.
    pub(super) fn ask(&mut self, name: &str, uid: &str, pin: Option<&Pin>) -> Result<(), Conflict> {
        let known = self.0.get(name);
        match (known.map(|known| (&known.state, known.uid == uid)), pin) {
            (Some((Savepoint::Releasing, _)), _) => return Err(Conflict::Releasing),
            (Some((Savepoint::Pending, false)), _) => return Err(Conflict::UnderWay),
            (Some((Savepoint::Completed(_), false)), _) => return Err(Conflict::Exists),
            (_, Some(pin)) if pin.uid != uid => return Err(Conflict::Exists),
            (Some((Savepoint::Pending | Savepoint::Completed(_), true)), _) => return Ok(()),
            (Some((Savepoint::Failed(_) | Savepoint::Kept(_), _)) | None, _) => {}
        }
        self.make_room()?;
        let state = pin.map_or(Savepoint::Pending, |pin| Savepoint::Completed(pin.link));
        self.0.insert(name.to_owned(), SavepointRequest { uid: uid.to_owned(), state });
        Ok(())
    }

    /// What has ended is forgotten first.
    fn make_room(&mut self) -> Result<(), Conflict> {
        if self.0.len() < LIMIT {
            return Ok(());
        }
        let ended = |request: &SavepointRequest| !matches!(request.state, Savepoint::Pending | Savepoint::Releasing);
        let name = self.0.iter().find(|(_, request)| ended(request)).map(|(name, _)| name.clone());
        self.0.remove(&name.ok_or(Conflict::TooMany)?);
        Ok(())
    }

    /// Notes that a savepoint is to be deleted; `pin` is the savepoint that has the name.
    pub(super) fn release(&mut self, name: &str, pin: Option<&Pin>) -> Result<(), Conflict> {
        let uid = match (self.0.get(name), pin) {
            (Some(SavepointRequest { state: Savepoint::Pending, .. }), _) => return Err(Conflict::UnderWay),
            (None, None) => return Err(Conflict::Unknown),
            (Some(SavepointRequest { state: Savepoint::Failed(_) | Savepoint::Kept(_), .. }), None) => {
                return Err(Conflict::Unknown);
            }
            (_, Some(pin)) => pin.uid.clone(),
            (Some(request), None) => request.uid.clone(),
        };
        self.0.insert(name.to_owned(), SavepointRequest { uid, state: Savepoint::Releasing });
        Ok(())
    }

    pub(super) fn completed(&mut self, name: &str, uid: &str, link: LinkNumber) {
        if self.0.get(name).is_some_and(|request| request.state == Savepoint::Releasing) {
            return;
        }
        self.0.insert(name.to_owned(), SavepointRequest { uid: uid.to_owned(), state: Savepoint::Completed(link) });
    }

    /// A failure of another request for the name says nothing of this one; a release has no uid.
    pub(super) fn failed(&mut self, name: &str, uid: &str, message: &str) {
        let Some(request) = self.0.get_mut(name) else { return };
        if request.state == Savepoint::Releasing {
            request.state = Savepoint::Kept(message.to_owned());
        } else if request.uid == uid {
            request.state = Savepoint::Failed(message.to_owned());
        }
    }

    /// The uid of the request for a savepoint that is not there yet.
    pub(super) fn pending(&self, name: &str) -> Option<String> {
        let request = self.0.get(name)?;
        (request.state == Savepoint::Pending).then(|| request.uid.clone())
    }

    /// Nobody wants it any more: the request is forgotten.
    pub(super) fn withdrawn(&mut self, name: &str, uid: &str) {
        if self.0.get(name).is_some_and(|request| request.state == Savepoint::Pending && request.uid == uid) {
            self.0.remove(name);
        }
    }

    pub(super) fn released(&mut self, name: &str) {
        self.0.remove(name);
    }
}
