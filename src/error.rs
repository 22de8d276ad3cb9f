//! The one error type of a request, sorted by whose fault it is.
//!
//! Called by every stage that a request passes; `api::status` turns it into a gRPC status with one exhaustive match. Startup
//! errors are `anyhow` errors of the binaries instead and end the process with the exit codes below. An outcome such as "no
//! face" is not an error and does not appear here.

use std::time::Duration;

/// Exit codes of both binaries, from BSD `sysexits.h`.
pub mod exit {
    /// The input cannot be read: undecodable, too large, unsupported.
    pub const DATA_ERR: u8 = 65;
    /// A file that is needed is missing.
    pub const NO_INPUT: u8 = 66;
    /// The daemon cannot be reached or is going away.
    pub const UNAVAILABLE: u8 = 69;
    /// Our own fault.
    pub const SOFTWARE: u8 = 70;
    /// No room now; trying again later helps.
    pub const TEMP_FAIL: u8 = 75;
    /// The caller is not allowed.
    pub const NO_PERM: u8 = 77;
    /// The configuration, a model or a calibration is bad.
    pub const CONFIG: u8 = 78;
}

/// Why a request was not processed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A field of the request cannot be used. `field` is its path in the request, such as `media[0].data`.
    #[error("{field}: {reason}")]
    InvalidInput {
        field: String,
        /// Stable upper-case code, such as `IMAGE_TRUNCATED`.
        code: &'static str,
        reason: String,
    },
    /// No room in the queue, or no turn in time.
    #[error("the daemon has more requests than it can answer in time; try again in {} ms", retry_after.as_millis())]
    Overloaded { retry_after: Duration },
    /// What the policy of the caller's user allows is spent. `limit` is the number in the policy.
    #[error("{}", quota_spent(*.quota, .policy, *.limit, *.retry_after))]
    QuotaSpent {
        quota: Quota,
        policy: String,
        limit: u64,
        /// `None` if it does not help to try again.
        retry_after: Option<Duration>,
    },
    /// The caller's deadline has passed.
    #[error("the deadline passed before the answer was ready")]
    DeadlineExceeded,
    /// The caller has gone.
    #[error("the caller has gone")]
    Cancelled,
    /// The daemon cannot answer for a while.
    #[error("{state}; try again in {} ms", retry_after.as_millis())]
    Unavailable { state: Unavailable, retry_after: Duration },
    /// The caller's user or group may not use the daemon.
    #[error("this user is not allowed to use the daemon")]
    PermissionDenied,
    /// The policy of the caller's user does not have this RPC.
    #[error("this user is not allowed to call this RPC")]
    RpcNotAllowed,
    /// What a reload would put in place is wrong. Everything stays as it was.
    #[error("the reload was refused, and everything stays as it was:\n{problems}")]
    ReloadRefused { problems: String },
    /// Our bug, or a model run that failed. `detail` goes to the journal and never to the caller.
    #[error("internal error")]
    Internal { detail: String },
}

/// What a policy gives out, each by the name of its key in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    Rate,
    Concurrent,
    Malformed,
    Bytes,
    Connections,
}

impl Quota {
    pub const ALL: [Self; 5] = [Self::Rate, Self::Concurrent, Self::Malformed, Self::Bytes, Self::Connections];

    /// The key in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "requests_per_minute",
            Self::Concurrent => "max_concurrent",
            Self::Malformed => "malformed_burst",
            Self::Bytes => "max_bytes",
            Self::Connections => "max_connections",
        }
    }

    /// Stable upper-case code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Rate => "RATE_EXCEEDED",
            Self::Concurrent => "CONCURRENCY_EXCEEDED",
            Self::Malformed => "TOO_MUCH_MALFORMED",
            Self::Bytes => "BYTES_EXCEEDED",
            Self::Connections => "CONNECTIONS_EXCEEDED",
        }
    }
}

fn quota_spent(quota: Quota, policy: &str, limit: u64, retry_after: Option<Duration>) -> String {
    let what = match quota {
        Quota::Malformed => "too many malformed requests of this user",
        Quota::Bytes => "the request is larger than this user's may be",
        Quota::Rate | Quota::Concurrent | Quota::Connections => "this user has asked for more than it may",
    };
    let when = retry_after.map_or_else(String::new, |after| format!("; try again in {} ms", after.as_millis()));
    format!("{what} ({} = {limit} of the policy {policy:?}){when}", quota.name())
}

/// Why the daemon cannot answer for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the daemon is draining")]
    Draining,
    #[error("the device of a model has failed, and the model is made anew")]
    ModelLost,
    #[error("the audit log cannot be written, and nothing is answered without a record")]
    AuditUnavailable,
    #[error("no decoder process can be started")]
    NoDecoder,
}

impl Unavailable {
    /// Stable upper-case code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Draining => "DRAINING",
            Self::ModelLost => "MODEL_LOST",
            Self::AuditUnavailable => "AUDIT_UNAVAILABLE",
            Self::NoDecoder => "DECODER_UNAVAILABLE",
        }
    }
}

impl Error {
    /// Shortens the building of `InvalidInput`.
    pub fn invalid(field: impl Into<String>, code: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidInput { field: field.into(), code, reason: reason.into() }
    }

    /// Shortens the building of `Internal`.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::Internal { detail: detail.into() }
    }
}
