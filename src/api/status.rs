//! Errors to gRPC statuses with google.rpc details.
//!
//! Whose fault an error is decides its code. Every status carries an ErrorInfo whose reason is stable and whose domain is `vouch`.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::convert::random_id;
use crate::error::{Error, Quota};
use crate::ops::metrics as names;

/// The domain of every ErrorInfo.
const DOMAIN: &str = "vouch";

/// Reason of what ends a body, within the daemon alone.
const NO_ROOM: &str = "NO_ROOM";

/// Metadata of the ErrorInfo of a spent quota.
const POLICY: &str = "policy";
const LIMIT: &str = "limit";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let status = with_details(error);
        let reason = status.get_error_details().error_info().map_or_else(String::new, |info| info.reason.clone());
        metrics::counter!(names::ERRORS, "code" => code_name(status.code()), "reason" => reason).increment(1);
        status
    }
}

/// The status of an error that is counted elsewhere.
pub fn with_details(error: Error) -> Status {
    let message = error.to_string();
    match error {
        Error::InvalidInput { field, code, reason } => {
            let mut details = info(code);
            details.add_bad_request_violation(field, reason);
            Status::with_error_details(Code::InvalidArgument, message, details)
        }
        Error::Overloaded { retry_after } => {
            let details = retry("OVERLOADED", retry_after);
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
        Error::QuotaSpent { quota, policy, limit, retry_after } => {
            let metadata = [(POLICY, policy.clone()), (LIMIT, limit.to_string())];
            let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
            let mut details = ErrorDetails::with_error_info(quota.code(), DOMAIN, HashMap::from(metadata));
            if retry_after.is_some() {
                details.set_retry_info(retry_after);
            }
            details.add_quota_failure_violation(format!("policy:{policy}"), format!("{} = {limit}", quota.name()));
            // What is too large stays too large.
            let code = if retry_after.is_some() { Code::ResourceExhausted } else { Code::InvalidArgument };
            Status::with_error_details(code, message, details)
        }
        Error::DeadlineExceeded => {
            Status::with_error_details(Code::DeadlineExceeded, message, info("DEADLINE_EXCEEDED"))
        }
        Error::Cancelled => Status::with_error_details(Code::Cancelled, message, info("CANCELLED")),
        Error::Unavailable { state, retry_after } => {
            let details = retry(state.code(), retry_after);
            Status::with_error_details(Code::Unavailable, message, details)
        }
        Error::PermissionDenied => {
            Status::with_error_details(Code::PermissionDenied, message, info("CALLER_NOT_ALLOWED"))
        }
        Error::RpcNotAllowed => Status::with_error_details(Code::PermissionDenied, message, info("RPC_NOT_ALLOWED")),
        Error::ReloadRefused { .. } => {
            Status::with_error_details(Code::FailedPrecondition, message, info("RELOAD_REFUSED"))
        }
        Error::Internal { detail } => {
            let id = random_id();
            tracing::error!(id, detail, "internal error");
            let metadata = HashMap::from([("id".to_owned(), id.clone())]);
            let details = ErrorDetails::with_error_info("INTERNAL", DOMAIN, metadata);
            Status::with_error_details(Code::Internal, format!("internal error {id}; the journal has more"), details)
        }
    }
}

/// What ends the body of a request for which there is no room. Nobody gets it: [`stopped_body`] makes overload of it.
pub fn no_room(retry_after: Duration) -> Status {
    Status::with_error_details(Code::ResourceExhausted, "too much is on its way", retry(NO_ROOM, retry_after))
}

/// The error for which the body of a request was ended before it was whole, which reaches the reader of its stream as a status: it is larger than its policy lets through, or there
/// was no room for it.
pub fn stopped_body(status: &Status) -> Option<Error> {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
    if info.reason == NO_ROOM {
        let retry_after = details.retry_info().and_then(|info| info.retry_delay)?;
        return Some(Error::Overloaded { retry_after });
    }
    if info.reason != Quota::Bytes.code() {
        return None;
    }
    let (policy, limit) = (info.metadata.get(POLICY)?.clone(), info.metadata.get(LIMIT)?.parse().ok()?);
    Some(Error::QuotaSpent { quota: Quota::Bytes, policy, limit, retry_after: None })
}

/// The code's name in the gRPC specification.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn info(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

fn retry(reason: &str, after: Duration) -> ErrorDetails {
    let mut details = info(reason);
    details.set_retry_info(Some(after));
    details
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Unavailable;

    #[test]
    fn an_input_error_names_its_field_and_its_code() {
        let status = Status::from(Error::invalid("media[1].data", "IMAGE_TRUNCATED", "the picture ends too early"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "IMAGE_TRUNCATED");
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(
            (violation.field.as_str(), violation.description.as_str()),
            ("media[1].data", "the picture ends too early")
        );
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let status = Status::from(Error::Overloaded { retry_after: Duration::from_millis(120) });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(Duration::from_millis(120)));
    }

    #[test]
    fn a_spent_quota_names_the_policy_and_its_key_and_tells_when_to_come_back_if_that_helps() {
        let spent = |quota, retry_after| {
            Status::from(Error::QuotaSpent { quota, policy: "kiosk".into(), limit: 60, retry_after })
        };
        let status = spent(Quota::Rate, Some(Duration::from_millis(900)));
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "RATE_EXCEEDED");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(900)));
        let violation = &details.quota_failure().unwrap().violations[0];
        assert_eq!(
            (violation.subject.as_str(), violation.description.as_str()),
            ("policy:kiosk", "requests_per_minute = 60")
        );

        let status = spent(Quota::Bytes, None);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.get_error_details().retry_info().is_none());
        assert!(
            matches!(stopped_body(&status), Some(Error::QuotaSpent { policy, limit: 60, .. }) if policy == "kiosk")
        );
        assert!(stopped_body(&spent(Quota::Rate, None)).is_none());
        let second = Duration::from_secs(1);
        let full = stopped_body(&no_room(second));
        assert!(matches!(full, Some(Error::Overloaded { retry_after }) if retry_after == second), "{full:?}");
        assert!(stopped_body(&Status::from(Error::Overloaded { retry_after: second })).is_none());
    }

    #[test]
    fn what_is_unavailable_has_a_stable_code_and_says_when_to_come_back() {
        for (state, code) in [
            (Unavailable::Draining, "DRAINING"),
            (Unavailable::ModelLost, "MODEL_LOST"),
            (Unavailable::AuditUnavailable, "AUDIT_UNAVAILABLE"),
        ] {
            let status = Status::from(Error::Unavailable { state, retry_after: Duration::from_secs(1) });
            assert_eq!(status.code(), Code::Unavailable);
            assert_eq!(status.get_error_details().error_info().unwrap().reason, code);
            assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
        }
    }

    #[test]
    fn an_internal_error_tells_an_id_and_nothing_else() {
        let status = Status::from(Error::internal("secret detail"));
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("secret"));
        let details = status.get_error_details();
        assert!(status.message().contains(&details.error_info().unwrap().metadata["id"]));
    }
}
