//! Why a part of a running job failed, and what to do about it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// What asks a store that is away asks again after this time.
pub const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The user must change something: trying again cannot help.
    User,
    /// It may work the next time.
    Transient,
    /// Stored data is not what was written.
    Corrupt,
    /// A newer generation runs the job: end, touch nothing.
    Fenced,
    /// A mistake in Weir.
    Bug,
    /// The task was told to stop while it waited; no failure of its own.
    Cancelled,
}

/// A failure with its kind, what was being done, and its cause.
#[derive(Debug)]
pub struct Failure {
    /// What to do about it.
    pub kind: Kind,
    /// The step of the job that failed, where one did.
    pub step: Option<String>,
    /// A store that has answered before does not now, and that is all: whoever can wait asks again later.
    pub away: bool,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The outcome of a step of a running job.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure that says what went wrong on what.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, step: None, away: false, message: message.into(), source: None }
    }

    /// The user must change something.
    #[must_use]
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Kind::User, message)
    }

    /// It may work the next time.
    #[must_use]
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Kind::Transient, message)
    }

    /// Stored data is not what was written.
    #[must_use]
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    /// A mistake in Weir.
    #[must_use]
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    /// The task was told to stop.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "cancelled")
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was being done in front: `context: message`.
    #[must_use]
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Says which step failed, unless a step further down already did.
    #[must_use]
    pub fn within_step(mut self, step: &str) -> Self {
        self.step.get_or_insert_with(|| step.to_owned());
        self
    }

    /// The message with its step and all causes, for people.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause: Option<&dyn Error> = self.source.as_deref().map(|source| source as _);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some(step) => write!(f, "{step}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<arrow::error::ArrowError> for Failure {
    /// Kernels fail on values (overflow, a cast, a division by zero), which the user's data or query brought.
    fn from(error: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError as E;
        let kind = match &error {
            E::SchemaError(_) | E::CDataInterface(_) | E::MemoryError(_) => Kind::Bug,
            E::IoError(..) => Kind::Transient,
            _ => Kind::User,
        };
        Self::new(kind, error.to_string())
    }
}
