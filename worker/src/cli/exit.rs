//! How a command ends.

use crate::failure::{Failure, Kind};
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// The documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The job has finished, or the command has done its work.
    Done = 0,
    /// The job failed, after the restarts that it is allowed.
    Failed = 1,
    /// The user must change something.
    UserError = 2,
    /// The job was stopped and can go on.
    Stopped = 3,
    /// Another process has taken the job over.
    Fenced = 4,
    /// The process was asked to end and the job goes on elsewhere.
    HandedOver = 5,
    /// Tasks did not end when they were told to: only another process can go on.
    GivenUp = 6,
    /// Ended at once, without a last checkpoint.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The longest text that Kubernetes takes as the reason of a container's end, in bytes.
const LONGEST_NOTE: usize = 4096;

/// Notes why the process ends, or cannot begin, in the file that `WEIR_TERMINATION_LOG` names. That nobody may read it
/// there is no failure.
pub(super) fn note(text: &str) {
    if let Some(file) = std::env::var_os("WEIR_TERMINATION_LOG").filter(|file| !file.is_empty()) {
        let _ = std::fs::write(file, shortened(text, LONGEST_NOTE));
    }
}

/// Says a line on standard error in one piece, so that those of several processes do not mix.
pub(super) fn line(text: &str) {
    // Nobody may listen: that is no reason to stop.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Says and notes why the process ends, where nothing went wrong in it; it is only noted where `quiet` is wanted.
pub(super) fn say(text: &str, quiet: bool) {
    note(text);
    if !quiet {
        line(text);
    }
}

/// Why a process ends that was told twice.
pub(super) const SECOND_SIGNAL: &str = "a second signal came before the tasks had ended";

/// Why a process ends before its tasks have.
pub(super) fn early(why: &str) -> Refusal {
    Refusal::new(Code::Interrupted, format!("error: {why}; the job goes on from its last checkpoint"))
}

/// Ends the process before its tasks have ended.
pub(super) fn cut_short(why: &str) -> ! {
    early(why).tell();
    std::process::exit(Code::Interrupted as i32);
}

/// Prints that a command's work is done, and notes it in words that no other program says by chance.
pub(super) fn done(text: &str) -> Code {
    println!("{text}");
    note(&serde_json::json!({"verdict": "done", "message": text}).to_string());
    Code::Done
}

/// The beginning of a text, at most so many bytes.
pub(super) fn shortened(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Why a command could not do its work, for people.
#[derive(Debug)]
pub struct Refusal {
    /// The exit code.
    pub code: Code,
    text: String,
}

impl Refusal {
    /// Says and notes it.
    pub(super) fn tell(&self) {
        let text = self.to_string();
        line(&text);
        note(&text);
    }

    /// A refusal with this exit code.
    #[must_use]
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The user must change something.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self { code: Code::UserError, text: text.into() }
    }

    /// Something went wrong that is not the user's.
    #[must_use]
    pub fn failed(text: impl Into<String>) -> Self {
        Self { code: Code::Failed, text: text.into() }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let code = match failure.kind {
            Kind::User | Kind::Corrupt => Code::UserError,
            Kind::Fenced => Code::Fenced,
            Kind::Transient | Kind::Bug | Kind::Cancelled => Code::Failed,
        };
        Self { code, text: format!("error: {}", failure.chain()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_no_longer_than_it_may_be() {
        let long = "é".repeat(3000);
        assert_eq!(shortened(&long, 11).len(), 10);
        assert_eq!(shortened(&format!("x{long}"), 11).len(), 11, "no character is cut");
        assert_eq!(shortened("short", 11), "short");
    }
}
