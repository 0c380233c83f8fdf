//! Makes and deletes savepoints of a job that does not run.

use crate::cli::exit::{Code, Refusal, done};
use crate::cli::found::Found;
use crate::cli::upkeep::{ClaimAs, maintain};
use weir_protocol::leader::{Notice, Operation};
use weir_protocol::name;

/// `weir savepoint create`.
pub(super) fn create(found: &Found, claim: &ClaimAs, name: &str, request: Option<&str>) -> Result<Code, Refusal> {
    if !name::is_savepoint(name) {
        let rule = name::SAVEPOINT_RULE;
        return Err(Refusal::user(format!("error: {name:?} is no name for a savepoint\nhint: use {rule}")));
    }
    let hint = format!("curl --json '{{\"name\": \"{name}\"}}' http://ADDRESS/v1/savepoints");
    let uid = request.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let notices = maintain(found, claim, &hint, Operation::CreateSavepoint { name: name.to_owned(), uid })?;
    finish(&notices, name)
}

/// `weir savepoint delete`.
pub(super) fn delete(found: &Found, claim: &ClaimAs, name: &str) -> Result<Code, Refusal> {
    match found.pin(name) {
        Ok(_) => {}
        // Whoever claims for somebody else comes again after it has died.
        Err(_) if claim.is_given() => return Ok(done(&format!("savepoint '{name}' is deleted"))),
        Err(refusal) => return Err(refusal),
    }
    let hint = format!("curl -X DELETE http://ADDRESS/v1/savepoints/{name}");
    let notices = maintain(found, claim, &hint, Operation::DeleteSavepoint { name: name.to_owned() })?;
    finish(&notices, name)
}

fn finish(notices: &[Notice], name: &str) -> Result<Code, Refusal> {
    for notice in notices {
        match notice {
            Notice::SavepointFailed { name: of, message, .. } if of == name => {
                return Err(Refusal::user(format!("error: {message}")));
            }
            Notice::SavepointCompleted { name: of, link, .. } if of == name => {
                return Ok(done(&format!("savepoint '{name}' is complete (link {link})")));
            }
            Notice::SavepointReleased { name: of } if of == name => {
                return Ok(done(&format!("savepoint '{name}' is deleted")));
            }
            Notice::StoreTrouble { message }
            | Notice::CommitTrouble { message }
            | Notice::LinkUnusable { message, .. } => {
                eprintln!("warning: {message}");
            }
            _ => {}
        }
    }
    Err(Refusal::failed(format!("error: nothing became of savepoint '{name}'")))
}
