//! What stands in a record: OCSF (Open Cybersecurity Schema Framework) events, one for each request and one for each event of the log itself.
//!
//! Requests are API Activity (class 6003), events of the log Application Lifecycle (class 6002). What OCSF has no attribute for is in `unmapped`. Nothing of a
//! person is here: media and the caller's reference as salted digests, checks as outcomes and codes. Texts of the request are never copied, since they may be anything:
//! names of checks and operating points are ours, error codes are ours, error texts are left out. Pure: the time is a parameter.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::chain::{Hash, Link};
use super::salt::{Running, Salt};

/// The version of OCSF that the attributes are of.
const OCSF_VERSION: &str = "1.3.0";

/// Most warning codes in a record: a request has a few, and nothing that a caller sends may make a record grow without bound.
const MAX_WARNINGS: usize = 64;

/// A picture as it was sent. Its digest is computed once, by whoever asks first.
#[derive(Debug)]
pub struct Medium {
    /// What it shows, in the words of the API.
    pub kind: &'static str,
    pub bytes: u64,
    state: Mutex<State>,
}

/// A picture is let go of once its digest is known: a log that waits for its disk must not hold pictures.
#[derive(Debug)]
enum State {
    Sent(Bytes),
    Known(Hash),
}

impl Medium {
    pub fn new(kind: &'static str, data: Bytes) -> Self {
        Self { kind, bytes: data.len() as u64, state: Mutex::new(State::Sent(data)) }
    }

    /// Takes some milliseconds for large pictures: not to be called where others wait.
    pub fn digest(&self, salt: &Salt) -> Hash {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = match &*state {
            State::Sent(data) => salt.digest(data),
            State::Known(digest) => return *digest,
        };
        *state = State::Known(digest);
        digest
    }
}

/// The frames of a stream.
#[derive(Clone)]
pub struct Frames {
    pub count: u64,
    pub bytes: u64,
    /// Of all frames, one after the other.
    pub running: Running,
}

/// Who asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    pub uid: u32,
    /// The primary one first.
    pub groups: Vec<u32>,
    pub pid: Option<i32>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Number and name of the gRPC code.
    pub code: i32,
    pub name: &'static str,
    /// The stable code of the error (`IMAGE_TRUNCATED`, `CANCELLED`, …); `OK` without one.
    pub reason: String,
}

impl End {
    pub fn ok() -> Self {
        Self { code: 0, name: "OK", reason: "OK".into() }
    }

    /// The answer is withheld, as it could not be recorded in time.
    pub fn withheld() -> Self {
        Self { code: 14, name: "UNAVAILABLE", reason: "AUDIT_UNAVAILABLE".into() }
    }
}

/// The answer of one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckAnswer {
    pub check: String,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operating_point: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub calibration_sha256: String,
    /// Only where `audit.scores` allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// What is known of a request, put together while it is answered.
pub struct Draft {
    /// The RPC.
    pub operation: String,
    /// The verification's id, or that of this record where there is none.
    pub uid: String,
    pub actor: Actor,
    pub started: SystemTime,
    pub duration: Duration,
    pub end: End,
    pub outcome: Option<&'static str>,
    /// Checks or parts that were asked for by name, as far as there are such.
    pub asked: Vec<&'static str>,
    /// Numbers of the request that decide, such as the age limit.
    pub parameters: BTreeMap<&'static str, f64>,
    pub checks: Vec<CheckAnswer>,
    pub warnings: Vec<String>,
    pub proved: Option<bool>,
    /// Role to SHA-256 of the models that took part.
    pub models: BTreeMap<String, String>,
    /// Of the settings that the request was answered by; `None` where none had a part in its end, and those in effect when the record is written stand for them.
    pub config_sha256: Option<String>,
    pub client_reference: Option<Bytes>,
    pub media: Vec<std::sync::Arc<Medium>>,
    /// More media, which are counted alone.
    pub media_left_out: u64,
    pub frames: Option<Frames>,
}

impl Draft {
    pub fn new(operation: impl Into<String>, uid: String, actor: Actor, started: SystemTime) -> Self {
        Self {
            operation: operation.into(),
            uid,
            actor,
            started,
            duration: Duration::ZERO,
            end: End::ok(),
            outcome: None,
            asked: Vec::new(),
            parameters: BTreeMap::new(),
            checks: Vec::new(),
            warnings: Vec::new(),
            proved: None,
            models: BTreeMap::new(),
            config_sha256: None,
            client_reference: None,
            media: Vec::new(),
            media_left_out: 0,
            frames: None,
        }
    }

    /// Notes a warning's code, once.
    pub fn warn(&mut self, code: &str) {
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.iter().any(|known| known == code) {
            self.warnings.push(code.to_owned());
        }
    }
}

/// What all records of a daemon have in common.
#[derive(Clone)]
pub struct Common {
    pub salt: Salt,
    /// Whether scores are written.
    pub scores: bool,
    pub config_sha256: String,
}

#[derive(Serialize)]
struct ApiActivity<'a> {
    time: u64,
    start_time: u64,
    duration: u64,
    class_uid: u32,
    class_name: &'static str,
    category_uid: u32,
    category_name: &'static str,
    activity_id: u32,
    activity_name: &'static str,
    type_uid: u32,
    severity_id: u32,
    status_id: u32,
    status: &'static str,
    status_code: &'a str,
    status_detail: &'static str,
    metadata: Value,
    actor: Value,
    src_endpoint: Value,
    api: Value,
    unmapped: Unmapped<'a>,
}

#[derive(Serialize)]
struct Unmapped<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    asked: &'a [&'static str],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: &'a BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckAnswer>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    proved: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    media: Vec<Value>,
    #[serde(skip_serializing_if = "is_zero")]
    media_left_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_reference: Option<String>,
    salt_id: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    models: &'a BTreeMap<String, String>,
    config_sha256: &'a str,
}

/// Milliseconds since 1970, as OCSF counts time.
pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn metadata() -> Value {
    let product = json!({"name": "vouch", "vendor_name": "vouch", "version": env!("CARGO_PKG_VERSION")});
    json!({"version": OCSF_VERSION, "product": product, "log_name": "audit"})
}

/// The record of a request, as a JSON object on one line.
pub fn request(draft: &Draft, common: &Common) -> String {
    let Draft { actor, end, .. } = draft;
    let is_success = end.code == 0;
    let start_time = unix_ms(draft.started);
    let duration = u64::try_from(draft.duration.as_millis()).unwrap_or(u64::MAX);
    let digest = |medium: &Medium| json!({"kind": medium.kind, "bytes": medium.bytes, "digest": medium.digest(&common.salt).to_string()});
    let score = |check: &CheckAnswer| CheckAnswer { score: check.score.filter(|_| common.scores), ..check.clone() };
    let mut by = json!({"user": {
        "uid": actor.uid.to_string(),
        "groups": actor.groups.iter().map(|group| json!({"uid": group.to_string()})).collect::<Vec<_>>(),
    }});
    if let Some(pid) = actor.pid {
        by["process"] = json!({"pid": pid});
    }
    let mut response = json!({"code": end.code});
    if !is_success {
        response["error"] = json!(end.reason);
    }
    let record = ApiActivity {
        time: start_time.saturating_add(duration),
        start_time,
        duration,
        class_uid: 6003,
        class_name: "API Activity",
        category_uid: 6,
        category_name: "Application Activity",
        // None of create, read, update and delete.
        activity_id: 99,
        activity_name: "Verify",
        type_uid: 600_399,
        // Informational; medium for callers who are not allowed and faults of the daemon.
        severity_id: if matches!(end.name, "PERMISSION_DENIED" | "INTERNAL") { 3 } else { 1 },
        status_id: if is_success { 1 } else { 2 },
        status: if is_success { "Success" } else { "Failure" },
        status_code: &end.reason,
        status_detail: end.name,
        metadata: metadata(),
        actor: by,
        src_endpoint: json!({"name": "unix socket"}),
        api: json!({
            "operation": draft.operation,
            "service": {"name": "vouch.v1.Verification"},
            "request": {"uid": draft.uid},
            "response": response,
        }),
        unmapped: Unmapped {
            outcome: draft.outcome,
            asked: &draft.asked,
            parameters: &draft.parameters,
            checks: draft.checks.iter().map(score).collect(),
            warnings: &draft.warnings,
            proved: draft.proved,
            media: draft.media.iter().map(|medium| digest(medium)).collect(),
            media_left_out: draft.media_left_out,
            frames: draft.frames.as_ref().map(|frames| {
                let digest = frames.running.digest().to_string();
                json!({"count": frames.count, "bytes": frames.bytes, "digest": digest})
            }),
            client_reference: draft
                .client_reference
                .as_ref()
                .map(|reference| common.salt.digest(reference).to_string()),
            salt_id: common.salt.id(),
            models: &draft.models,
            config_sha256: draft.config_sha256.as_ref().unwrap_or(&common.config_sha256),
        },
    };
    // No map here has keys other than strings, so this cannot fail; numbers that are none become null.
    serde_json::to_string(&record).unwrap_or_default()
}

/// The end of a file that is no whole line: a write that did not finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub file: String,
    pub bytes: u64,
    pub hash: Hash,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Who wanted a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// By `vouch reload`, by number.
    User(u32),
    /// By SIGHUP, of which nobody tells who sent it.
    Signal,
}

/// What a daemon runs with.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Role to SHA-256.
    pub models: BTreeMap<String, String>,
    /// Check to SHA-256.
    pub calibrations: BTreeMap<String, String>,
}

/// An event of the log itself.
pub enum Event<'a> {
    /// A daemon has opened the log.
    Start {
        /// What the head file said; `None` if there was none that could be read.
        head: Option<Link>,
        torn: Option<&'a Torn>,
        loaded: &'a Loaded,
    },
    /// The daemon runs with something else from now on.
    Reload { loaded: &'a Loaded, asked_by: AskedBy },
    /// A daemon has closed the log.
    Stop,
    /// Files are about to be removed because more than `audit.max_files` would be kept.
    Retention {
        files: &'a [String],
        /// The last line of them.
        through: Link,
    },
    /// The log could not be written for a while.
    Gap {
        since: SystemTime,
        /// Requests that were answered without a record.
        lost: u64,
        /// Requests that were refused for want of one.
        refused: u64,
        /// The operating system's word for what was wrong.
        error: &'a str,
    },
}

/// The record of an event of the log, as a JSON object on one line.
pub fn event(event: &Event<'_>, common: &Common, now: SystemTime) -> String {
    let link = |link: &Link| json!({"sequence": link.sequence, "hash": link.hash.to_string()});
    let (activity_id, name, severity_id, detail) = match event {
        Event::Start { head, torn, loaded } => {
            let torn =
                torn.map(|torn| json!({"file": torn.file, "bytes": torn.bytes, "sha256": torn.hash.to_string()}));
            let detail = json!({
                "event": "start", "head": head.as_ref().map(link), "torn": torn, "pid": std::process::id(),
                "models": loaded.models, "calibrations": loaded.calibrations,
            });
            (3, "Start", 1, detail)
        }
        Event::Reload { loaded, asked_by } => {
            let uid = match asked_by {
                AskedBy::User(uid) => json!(uid),
                AskedBy::Signal => Value::Null,
            };
            let detail = json!({
                "event": "reload", "models": loaded.models, "calibrations": loaded.calibrations, "asked_by_uid": uid,
            });
            (99, "Reload", 1, detail)
        }
        Event::Stop => (4, "Stop", 1, json!({"event": "stop"})),
        Event::Retention { files, through } => {
            (99, "Retention", 1, json!({"event": "retention", "files": files, "through": link(through)}))
        }
        Event::Gap { since, lost, refused, error } => {
            let since = unix_ms(*since);
            (99, "Gap", 4, json!({"event": "gap", "since": since, "lost": lost, "refused": refused, "error": error}))
        }
    };
    let mut unmapped = detail;
    unmapped["salt_id"] = json!(common.salt.id());
    unmapped["config_sha256"] = json!(common.config_sha256);
    json!({
        "time": unix_ms(now), "class_uid": 6002, "class_name": "Application Lifecycle", "category_uid": 6,
        "category_name": "Application Activity", "activity_id": activity_id, "activity_name": name,
        "type_uid": 600_200 + activity_id, "severity_id": severity_id, "metadata": metadata(),
        "app": {"name": "vouchd", "vendor_name": "vouch", "version": env!("CARGO_PKG_VERSION")}, "unmapped": unmapped,
    })
    .to_string()
}
