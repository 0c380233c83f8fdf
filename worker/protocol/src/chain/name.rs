//! The names of the objects in a job's folder.

use crate::ids::{Generation, LinkNumber};
use std::fmt;

/// The name of an object that the protocol reads and writes, relative to the job's folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectName {
    /// The claim of a generation; never deleted.
    Generation(Generation),
    /// A link of the chain.
    Link(LinkNumber),
    /// An assignment, by its revision.
    Assignment(u64),
    /// The pointer to a savepoint's link.
    Savepoint(String),
    /// The mark that the job is deleted.
    Deleted,
}

/// The folders that the protocol lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prefix {
    /// All claims.
    Generations,
    /// All links.
    Chain,
    /// All assignments.
    Assignments,
    /// All pointers to savepoints.
    Savepoints,
    /// All files of keyed state.
    State,
}

impl Prefix {
    /// The folder's name with its slash.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generations => "generations/",
            Self::Chain => "chain/",
            Self::Assignments => "assignments/",
            Self::Savepoints => "savepoints/",
            Self::State => "state/",
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generation(number) => write!(f, "generations/{:020}", number.0),
            Self::Link(number) => write!(f, "chain/{:020}", number.0),
            Self::Assignment(revision) => write!(f, "assignments/{revision:020}"),
            Self::Savepoint(name) => write!(f, "savepoints/{name}"),
            Self::Deleted => f.write_str("deleted"),
        }
    }
}

/// Reads a name of a listing; `None` for what the protocol did not write, which it never touches.
#[must_use]
pub fn parse_name(name: &str) -> Option<ObjectName> {
    if name == "deleted" {
        return Some(ObjectName::Deleted);
    }
    let (folder, rest) = name.split_once('/')?;
    match folder {
        "generations" => Some(ObjectName::Generation(Generation(padded(rest)?))),
        "chain" => Some(ObjectName::Link(LinkNumber(padded(rest)?))),
        "assignments" => Some(ObjectName::Assignment(padded(rest)?)),
        "savepoints" if !rest.is_empty() && !rest.contains('/') => Some(ObjectName::Savepoint(rest.to_owned())),
        _ => None,
    }
}

/// A number as it is written: exactly twenty digits, so that every number has one name.
fn padded(digits: &str) -> Option<u64> {
    let wellformed = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    wellformed.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_itself_and_sorts_by_its_number() {
        let names = [
            ObjectName::Generation(Generation(7)),
            ObjectName::Link(LinkNumber(u64::MAX)),
            ObjectName::Assignment(0),
            ObjectName::Savepoint("before-upgrade".to_owned()),
            ObjectName::Deleted,
        ];
        for name in names {
            assert_eq!(parse_name(&name.to_string()), Some(name));
        }
        assert!(ObjectName::Link(LinkNumber(9)).to_string() < ObjectName::Link(LinkNumber(10)).to_string());
    }

    #[test]
    fn names_that_the_protocol_does_not_write_are_not_read() {
        let foreign = [
            "",
            "chain",
            "chain/",
            "chain/1",
            "chain/0000000000000000000a",
            "chain/00000000000000000001.tmp",
            "chain/99999999999999999999",
            "savepoints/",
            "savepoints/a/b",
            "other/00000000000000000001",
            "deleted/x",
        ];
        for name in foreign {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
