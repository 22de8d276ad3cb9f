//! `[[callers]]`: what users may ask for, as it is written.
//!
//! Called by `config`, which reads and checks it with all other settings, and by `api::callers`, which looks the names up and holds requests to it. Left out: who the users are on this host.

use serde::{Deserialize, Serialize};

use super::{Principal, Problem};
use crate::inference::Priority;

/// What a user may ask for. Of its numbers, 0 is without a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallerPolicy {
    /// What refusals and the status call it: 1 to 32 of `a-z 0-9 _ -`, no two the same. Must be given.
    pub name: String,
    /// Users that it is for, by name or number. With no users and no groups it is for everybody, and must be the last.
    pub users: Vec<Principal>,
    /// Groups whose members it is for, by name or number.
    pub groups: Vec<Principal>,
    /// What they may call, default everything.
    pub rpcs: Vec<Rpc>,
    /// `high`, `normal` (the default) or `low`: who goes first among those who wait.
    pub priority: Priority,
    /// Requests of a user at work or waiting at once, 0..=65_536, default 0.
    pub max_concurrent: usize,
    /// Requests of a user in a minute, 0..=1_000_000, default 0.
    pub requests_per_minute: u32,
    /// Of these, how many may come at once, 1..=65_536, default 10.
    pub burst: u32,
    /// Bytes of one request, of all its messages together, 0..=16 GiB, default 0: what `limits` and `live` say.
    pub max_bytes: u64,
    /// Connections of a user open at once, 0..=65_536, default 0: what `limits` says.
    pub max_connections: usize,
    /// Malformed requests of a user before it has to pause, 0..=1_000_000, default 64. Good requests and time make up for them. Each pause is twice as
    /// long as the last, from 250 ms to 10 s.
    pub malformed_burst: u32,
}

impl Default for CallerPolicy {
    fn default() -> Self {
        Self {
            name: "default".into(),
            users: Vec::new(),
            groups: Vec::new(),
            rpcs: Rpc::ALL.to_vec(),
            priority: Priority::Normal,
            max_concurrent: 0,
            requests_per_minute: 0,
            burst: 10,
            max_bytes: 0,
            max_connections: 0,
            // Above what a screen full of thumbnails sends at once, far below what a fuzzer does in a second.
            malformed_burst: 64,
        }
    }
}

/// A call of `vouch.v1.Verification`, by the name in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rpc {
    Verify,
    DetectFaces,
    MatchFaces,
    CheckPassiveLiveness,
    EstimateAge,
    ReadDocument,
    ScanMrz,
    VerifyLive,
    GetStatus,
}

impl Rpc {
    pub const ALL: [Self; 9] = [
        Self::Verify,
        Self::DetectFaces,
        Self::MatchFaces,
        Self::CheckPassiveLiveness,
        Self::EstimateAge,
        Self::ReadDocument,
        Self::ScanMrz,
        Self::VerifyLive,
        Self::GetStatus,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "Verify",
            Self::DetectFaces => "DetectFaces",
            Self::MatchFaces => "MatchFaces",
            Self::CheckPassiveLiveness => "CheckPassiveLiveness",
            Self::EstimateAge => "EstimateAge",
            Self::ReadDocument => "ReadDocument",
            Self::ScanMrz => "ScanMrz",
            Self::VerifyLive => "VerifyLive",
            Self::GetStatus => "GetStatus",
        }
    }

    /// Whether it works on media: these calls are recorded in the audit log, and quotas hold for them.
    pub fn takes_media(self) -> bool {
        self != Self::GetStatus
    }
}

/// Policies, which are gone through for each request.
const MAX_POLICIES: usize = 256;

/// What is out of its range or contradicts itself.
pub(super) fn problems(policies: &[CallerPolicy]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for policy in policies {
        let mut range = |key: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                let value = format!("{:?} with {key} = {value}", policy.name);
                problems.push(Problem { key: "callers", value, allowed: format!("with {key} in {low}..={high}") });
            }
        };
        range("max_concurrent", policy.max_concurrent as u64, 0, 65_536);
        range("requests_per_minute", u64::from(policy.requests_per_minute), 0, 1_000_000);
        range("burst", u64::from(policy.burst), 1, 65_536);
        range("max_bytes", policy.max_bytes, 0, 1 << 34);
        range("max_connections", policy.max_connections as u64, 0, 65_536);
        range("malformed_burst", u64::from(policy.malformed_burst), 0, 1_000_000);
    }
    let mut problem = |key, value: String, allowed: &str| {
        problems.push(Problem { key, value, allowed: allowed.into() });
    };
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    for (at, policy) in policies.iter().enumerate() {
        let (name, quoted) = (&policy.name, format!("{:?}", policy.name));
        if !(1..=32).contains(&name.len()) || !name.bytes().all(is_word) {
            problem("callers", quoted.clone(), "policies with names of 1 to 32 of a-z, 0-9, _ and -");
        }
        // The name of what holds for whom no policy names.
        if *name == CallerPolicy::default().name || policies[..at].iter().any(|other| other.name == *name) {
            problem("callers", quoted.clone(), "policies with different names, none of which is \"default\"");
        }
        if policy.users.is_empty() && policy.groups.is_empty() && at + 1 < policies.len() {
            problem("callers", quoted, "policies of which only the last is for everybody: name users or groups");
        }
    }
    if policies.len() > MAX_POLICIES {
        problem("callers", format!("{} policies", policies.len()), "at most 256 policies");
    }
    problems
}
