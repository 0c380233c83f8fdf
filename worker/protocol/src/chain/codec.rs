//! Objects as bytes: a header line and a body line, both JSON.
//!
//! ```text
//! {"weir":"link","version":1,"xxh3":"8c1f…","bytes":1234}
//! {"checkpoint":{…}}
//! ```
//!
//! The checksum is seeded with the version, and the header is compared byte by byte with the one that the body demands,
//! so that every flipped bit and every truncation is found, wherever it is.
//!
//! Version 2 is a link with rows in flight, which a build that does not know them would lose; all else is version 1.

use super::assignment::Assignment;
use super::link::{Claim, Link, Origin, Pointer};
use super::name::ObjectName;
use crate::ids::{Generation, LinkNumber};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const VERSION: u32 = 2;
const WITHOUT_IN_FLIGHT: u32 = 1;

/// An object that cannot be used. The object's name leads, because it is what the user looks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No readable header.
    #[error("{object} is damaged: its header cannot be read")]
    Header {
        /// The object's name.
        object: String,
    },
    /// Something else than its name promises.
    #[error("{object} is not a {expected} but a {found:?}")]
    Kind {
        /// The object's name.
        object: String,
        /// What belongs there.
        expected: &'static str,
        /// What the header says.
        found: String,
    },
    /// Written by a build that knows more.
    #[error("{object} has format version {found}, this build reads up to {VERSION}: use the newer build")]
    Version {
        /// The object's name.
        object: String,
        /// What the header says.
        found: u32,
    },
    /// Shorter or longer than it was written.
    #[error("{object} is damaged: it has {found} bytes of content instead of {expected}")]
    Length {
        /// The object's name.
        object: String,
        /// What the header says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// Its content changed after it was written.
    #[error("{object} is damaged: its checksum does not match its content")]
    Checksum {
        /// The object's name.
        object: String,
    },
    /// The bytes are as they were written, but they do not say what they should.
    #[error("{object} cannot be understood: {message}")]
    Content {
        /// The object's name.
        object: String,
        /// What the parser says.
        message: String,
    },
    /// The body says that it is another object.
    #[error("{object} holds the body of {body}")]
    Place {
        /// The object's name.
        object: String,
        /// The object that the body names.
        body: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    weir: String,
    version: u32,
    xxh3: String,
    bytes: u64,
}

/// The bytes of a link.
#[must_use]
pub fn encode_link(link: &Link) -> Vec<u8> {
    let manifest = match link {
        Link::Start(start) => match &start.origin {
            Origin::Foreign { manifest, .. } => Some(manifest),
            Origin::Empty | Origin::Link(_) => None,
        },
        Link::Checkpoint(manifest) => Some(manifest),
    };
    let in_flight = manifest.is_some_and(|manifest| !manifest.in_flight.is_empty());
    encode("link", if in_flight { VERSION } else { WITHOUT_IN_FLIGHT }, link)
}

/// Reads the link that was stored as number `number`.
///
/// # Errors
/// When the object is damaged, of another kind, newer, or in a wrong place.
pub fn decode_link(number: LinkNumber, bytes: &[u8]) -> Result<Link, DecodeError> {
    let object = ObjectName::Link(number).to_string();
    let link: Link = decode("link", &object, bytes)?;
    match link.number() == number {
        true => Ok(link),
        false => Err(DecodeError::Place { object, body: ObjectName::Link(link.number()).to_string() }),
    }
}

/// The bytes of a claim.
#[must_use]
pub fn encode_claim(claim: &Claim) -> Vec<u8> {
    encode("claim", WITHOUT_IN_FLIGHT, claim)
}

/// The bytes of the mark that a job is deleted, by the leader of this generation. That it is there says everything: nobody
/// reads them but people.
#[must_use]
pub fn encode_mark(job: &str, generation: Generation) -> Vec<u8> {
    encode("deleted", WITHOUT_IN_FLIGHT, &serde_json::json!({"job": job, "generation": generation}))
}

/// Reads the claim that was stored for `generation`.
///
/// # Errors
/// As for [`decode_link`].
pub fn decode_claim(generation: Generation, bytes: &[u8]) -> Result<Claim, DecodeError> {
    let object = ObjectName::Generation(generation).to_string();
    let claim: Claim = decode("claim", &object, bytes)?;
    match claim.generation == generation {
        true => Ok(claim),
        false => Err(DecodeError::Place { object, body: ObjectName::Generation(claim.generation).to_string() }),
    }
}

/// The bytes of a savepoint's pointer.
#[must_use]
pub fn encode_pointer(pointer: &Pointer) -> Vec<u8> {
    encode("savepoint", WITHOUT_IN_FLIGHT, pointer)
}

/// Reads the pointer that was stored for the savepoint `name`.
///
/// # Errors
/// As for [`decode_link`].
pub fn decode_pointer(name: &str, bytes: &[u8]) -> Result<Pointer, DecodeError> {
    let object = ObjectName::Savepoint(name.to_owned()).to_string();
    let pointer: Pointer = decode("savepoint", &object, bytes)?;
    match pointer.name == name {
        true => Ok(pointer),
        false => Err(DecodeError::Place { object, body: ObjectName::Savepoint(pointer.name).to_string() }),
    }
}

#[derive(Serialize, Deserialize)]
struct Assigned<T> {
    job: String,
    assignment: T,
}

/// The bytes of an assignment of `job`.
#[must_use]
pub fn encode_assignment(job: &str, assignment: &Assignment) -> Vec<u8> {
    encode("assignment", WITHOUT_IN_FLIGHT, &Assigned { job: job.to_owned(), assignment })
}

/// Reads the assignment that was stored as `revision`, and the job it is for.
///
/// # Errors
/// As for [`decode_link`].
pub fn decode_assignment(revision: u64, bytes: &[u8]) -> Result<(String, Assignment), DecodeError> {
    let object = ObjectName::Assignment(revision).to_string();
    let Assigned::<Assignment> { job, assignment } = decode("assignment", &object, bytes)?;
    match assignment.revision == revision {
        true => Ok((job, assignment)),
        false => Err(DecodeError::Place { object, body: ObjectName::Assignment(assignment.revision).to_string() }),
    }
}

fn encode<T: Serialize>(kind: &str, version: u32, content: &T) -> Vec<u8> {
    let body = serde_json::to_vec(content).expect("links have string keys and no failing serializer");
    let mut bytes = header_line(kind, version, &body);
    bytes.extend_from_slice(&body);
    bytes
}

fn header_line(kind: &str, version: u32, body: &[u8]) -> Vec<u8> {
    let header = Header {
        weir: kind.to_owned(),
        version,
        xxh3: format!("{:016x}", xxh3_64_with_seed(body, u64::from(version))),
        bytes: body.len() as u64,
    };
    let mut line = serde_json::to_vec(&header).expect("a header is plain data");
    line.push(b'\n');
    line
}

fn decode<T: DeserializeOwned>(kind: &'static str, object: &str, bytes: &[u8]) -> Result<T, DecodeError> {
    let object = || object.to_owned();
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or_else(|| DecodeError::Header { object: object() })?;
    let (line, body) = bytes.split_at(end + 1);
    let header: Header = serde_json::from_slice(line).map_err(|_| DecodeError::Header { object: object() })?;
    if header.weir != kind {
        return Err(DecodeError::Kind { object: object(), expected: kind, found: header.weir });
    }
    if header.version > VERSION {
        return Err(DecodeError::Version { object: object(), found: header.version });
    }
    if header.bytes != body.len() as u64 {
        return Err(DecodeError::Length { object: object(), expected: header.bytes, found: body.len() as u64 });
    }
    if header_line(kind, header.version, body) != line {
        return Err(DecodeError::Checksum { object: object() });
    }
    serde_json::from_slice(body).map_err(|error| DecodeError::Content { object: object(), message: error.to_string() })
}
