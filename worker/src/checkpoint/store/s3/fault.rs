//! Why an attempt failed: whose fault it is, whether it can have changed anything, and whether to try again.

use super::meter::Ended;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;
use std::time::Duration;

/// No store may make us wait longer than this, whatever it asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pause of a store that only says that it has too much to do.
const USUAL_PAUSE: Duration = Duration::from_millis(500);

/// An attempt that did not bring what was asked for.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) effect: Effect,
    /// What was said.
    pub(super) details: String,
}

/// Whether a failed attempt can have changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It has not and will not.
    None,
    /// It may have, or may do so yet.
    Unknown,
}

/// Whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nobody's: there is no such object or upload.
    NotFound,
    /// Nobody's: the condition of the request does not hold.
    Condition,
    /// Nobody's: the range lies behind the object's end.
    Range,
    /// There is no such bucket.
    Bucket,
    /// There are no credentials, or they are refused.
    Credentials,
    /// The credentials are good, but not for this.
    Denied,
    /// The bucket is in another region.
    Region,
    /// No connection could be made.
    Unreachable,
    /// The other side's certificate is not trusted.
    Certificate,
    /// The clocks differ too much.
    Clock,
    /// The store understands the request but does not do such things, or not so.
    Unsupported,
    /// The store wants fewer requests for a while.
    Throttled(Duration),
    /// Another write of the object is under way.
    Conflict,
    /// Anything else that may pass.
    Trouble,
}

impl Cause {
    /// True for what is an answer and no failure.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::NotFound | Self::Condition | Self::Range)
    }

    /// True when it may be otherwise the next time. Credentials may have been renewed meanwhile.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Throttled(_) | Self::Conflict | Self::Trouble | Self::Unreachable | Self::Credentials => true,
            Self::NotFound | Self::Condition | Self::Range | Self::Bucket | Self::Denied | Self::Region => false,
            Self::Certificate | Self::Clock | Self::Unsupported => false,
        }
    }

    /// True when the store does not do its work at all for a while, or nobody reaches it.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Throttled(_) | Self::Trouble | Self::Unreachable => true,
            // The next attempts tell whether these pass; they do not pass with time alone.
            Self::Conflict | Self::Credentials => false,
            Self::NotFound | Self::Condition | Self::Range | Self::Bucket | Self::Denied | Self::Region => false,
            Self::Certificate | Self::Clock | Self::Unsupported => false,
        }
    }

    /// True when it is for the user to change something, unless it has worked before.
    pub(super) fn is_of_user(&self) -> bool {
        match self {
            Self::Bucket | Self::Credentials | Self::Denied | Self::Region => true,
            Self::Unreachable | Self::Certificate | Self::Clock | Self::Unsupported => true,
            Self::NotFound | Self::Condition | Self::Range => false,
            Self::Throttled(_) | Self::Conflict | Self::Trouble => false,
        }
    }
}

impl Fault {
    /// Something that may pass, of which nobody knows what it did.
    pub(super) fn unknown(details: impl Into<String>) -> Self {
        Self { cause: Cause::Trouble, effect: Effect::Unknown, details: details.into() }
    }

    /// The store does not do as it should.
    pub(super) fn unsupported(details: impl Into<String>) -> Self {
        Self { cause: Cause::Unsupported, effect: Effect::Unknown, details: details.into() }
    }

    /// What the SDK says.
    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(context) => {
                let (code, message) = (context.err().code(), context.err().message());
                Self::answered(context.raw(), code, message)
            }
            SdkError::ConstructionFailure(_) => Self::before_sending(&error),
            // Something came back that is no answer of such a store.
            SdkError::ResponseError(ref context) => {
                let status = context.raw().status().as_u16();
                Self::unknown(format!("an answer that is none of S3 (status {status}): {}", chain(&error)))
            }
            _ => Self::while_sending(&error),
        }
    }

    fn answered(response: &HttpResponse, code: Option<&str>, message: Option<&str>) -> Self {
        let status = response.status().as_u16();
        let cause = cause(status, code.unwrap_or_default(), response.headers().get("retry-after"));
        // A server that fails may have done its work; one that answers "no", or that it cannot do such things, has not. An answer of 200 with an error in
        // it is how S3 reports a failure that it met after it had begun to answer.
        let effect = if (300..500).contains(&status) || status == 501 { Effect::None } else { Effect::Unknown };
        let mut details = match (code, message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => "no reason given".to_owned(),
        };
        details.push_str(&format!(" (status {status})"));
        if let Some(region) = response.headers().get("x-amz-bucket-region").filter(|_| cause == Cause::Region) {
            details.push_str(&format!("; the bucket is in {region}"));
        }
        Self { cause, effect, details }
    }

    fn before_sending(error: &(dyn Error + 'static)) -> Self {
        let cause = match find::<CredentialsError>(error) {
            Some(_) => Cause::Credentials,
            None => Cause::Unsupported,
        };
        Self { cause, effect: Effect::None, details: chain(error) }
    }

    fn while_sending(error: &(dyn Error + 'static)) -> Self {
        if find::<CredentialsError>(error).is_some() {
            return Self { cause: Cause::Credentials, effect: Effect::None, details: chain(error) };
        }
        let details = chain(error);
        let connecting =
            find::<hyper_util::client::legacy::Error>(error).is_some_and(hyper_util::client::legacy::Error::is_connect);
        match connecting {
            true if find::<rustls::Error>(error).is_some() || details.contains("certificate") => {
                Self { cause: Cause::Certificate, effect: Effect::None, details }
            }
            true => Self { cause: Cause::Unreachable, effect: Effect::None, details },
            false => Self::unknown(details),
        }
    }

    /// How the attempt is counted.
    pub(super) fn ended(&self) -> Ended {
        match &self.cause {
            cause if cause.is_answer() => Ended::Answered,
            Cause::Throttled(_) => Ended::Throttled,
            _ => Ended::Failed,
        }
    }
}

fn cause(status: u16, code: &str, retry_after: Option<&str>) -> Cause {
    match (status, code) {
        (_, "NoSuchBucket") => Cause::Bucket,
        (_, "NoSuchKey" | "NoSuchUpload" | "NotFound") => Cause::NotFound,
        (_, "PreconditionFailed") | (412, _) => Cause::Condition,
        (_, "InvalidRange") | (416, _) => Cause::Range,
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken") => Cause::Credentials,
        (_, "TokenRefreshRequired" | "InvalidSecurity" | "InvalidClientTokenId") => Cause::Credentials,
        // What versitygw says of a key that it does not know.
        (_, "XAdminUserNotFound") => Cause::Credentials,
        (_, "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed") => Cause::Region,
        (_, "IllegalLocationConstraintException" | "IncorrectEndpoint") => Cause::Region,
        (_, "RequestTimeTooSkewed" | "RequestExpired") => Cause::Clock,
        (_, "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded") | (429, _) => {
            let asked = retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
            Cause::Throttled(asked.unwrap_or(USUAL_PAUSE).min(LONGEST_PAUSE))
        }
        (503, _) => {
            let asked = retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
            asked.map_or(Cause::Trouble, |asked| Cause::Throttled(asked.min(LONGEST_PAUSE)))
        }
        (409, _) => Cause::Conflict,
        (_, "RequestTimeout" | "IncompleteBody" | "BadDigest" | "InternalError") => Cause::Trouble,
        (301 | 307, _) => Cause::Region,
        (401 | 403, _) => Cause::Denied,
        // An answer to HEAD has no code. Any other one is about something else than the object.
        (404, "") => Cause::NotFound,
        (400..=499 | 501, _) => Cause::Unsupported,
        _ => Cause::Trouble,
    }
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with its causes. Many wrap the next one without adding to it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_a_cause() {
        let table = [
            (404, "NoSuchBucket", None, Cause::Bucket),
            (404, "NoSuchKey", None, Cause::NotFound),
            (404, "", None, Cause::NotFound),
            (404, "NoSuchWebsiteConfiguration", None, Cause::Unsupported),
            (404, "XAdminUserNotFound", None, Cause::Credentials),
            (412, "PreconditionFailed", None, Cause::Condition),
            (416, "InvalidRange", None, Cause::Range),
            (403, "SignatureDoesNotMatch", None, Cause::Credentials),
            (403, "AccessDenied", None, Cause::Denied),
            (403, "RequestTimeTooSkewed", None, Cause::Clock),
            (301, "PermanentRedirect", None, Cause::Region),
            (400, "AuthorizationHeaderMalformed", None, Cause::Region),
            (409, "ConditionalRequestConflict", None, Cause::Conflict),
            (503, "SlowDown", None, Cause::Throttled(USUAL_PAUSE)),
            (503, "SlowDown", Some("2"), Cause::Throttled(Duration::from_secs(2))),
            (503, "", Some("100000"), Cause::Throttled(LONGEST_PAUSE)),
            (503, "ServiceUnavailable", None, Cause::Trouble),
            (500, "InternalError", None, Cause::Trouble),
            (200, "InternalError", None, Cause::Trouble),
            (400, "InvalidArgument", None, Cause::Unsupported),
            (501, "NotImplemented", None, Cause::Unsupported),
        ];
        for (status, code, retry_after, expected) in table {
            assert_eq!(cause(status, code, retry_after), expected, "{status} {code} {retry_after:?}");
        }
    }

    #[test]
    fn only_a_store_that_does_not_work_for_a_while_is_away() {
        let table = [
            (503, "SlowDown", true),
            (429, "", true),
            (503, "ServiceUnavailable", true),
            (500, "InternalError", true),
            (502, "", true),
            (507, "XMinioStorageFull", true),
            (200, "InternalError", true),
            (400, "RequestTimeout", true),
            (403, "AccessDenied", false),
            (403, "ExpiredToken", false),
            (403, "SignatureDoesNotMatch", false),
            (404, "NoSuchBucket", false),
            (404, "NoSuchUpload", false),
            (409, "OperationAborted", false),
            (412, "PreconditionFailed", false),
            (400, "EntityTooSmall", false),
            (400, "InvalidPart", false),
            (301, "PermanentRedirect", false),
            (403, "RequestTimeTooSkewed", false),
            (501, "NotImplemented", false),
        ];
        for (status, code, expected) in table {
            let cause = cause(status, code, None);
            assert_eq!(cause.is_absence(), expected, "{status} {code}: {cause:?}");
            assert!(!cause.is_absence() || cause.may_pass());
        }
        assert!(Cause::Unreachable.is_absence() && !Cause::Certificate.is_absence());
    }
}
