//! The daemon's settings: defaults, then the file, then the environment, then flags; the later wins.
//!
//! Read once by `vouchd` at start; every part of the daemon gets its section by reference. Keys that are not known are errors
//! in every layer, so that a misspelt limit is never silently the default. Sizes are in bytes and times carry their unit in
//! the key. `systemd/vouch.toml` shows every key with its default, and a test keeps the two the same.
//!
//! Left out: finding the model pack and the calibrations when they are not configured (`models`, `calibration`), and
//! which settings a reload takes (`api::reload`); all others take effect at the next start.

mod callers;

pub use callers::{CallerPolicy, Rpc};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::value::{Dict, Map, Num, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Serialize};

use crate::inference::provider::{Device, GpuProvider, Precision};
use crate::ops::traces::Collector;

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long requests that are running may take to finish after SIGTERM. Seconds, 0..=3600, default 20. Keep it below the
    /// service manager's own patience (`TimeoutStopSec`).
    pub drain_seconds: u64,
    /// Policies of users; the first that names a caller or one of its groups holds. Default: none, and [`CallerPolicy::default`] holds for all.
    pub callers: Vec<CallerPolicy>,
    pub socket: SocketConfig,
    pub models: ModelsConfig,
    pub calibration: CalibrationConfig,
    pub inference: InferenceConfig,
    pub limits: LimitsConfig,
    pub decoders: DecodersConfig,
    pub live: LiveConfig,
    pub metrics: MetricsConfig,
    pub traces: TracesConfig,
    pub audit: AuditConfig,
    pub log: LogConfig,
}

/// Where the daemon listens and who may talk to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketConfig {
    /// The Unix socket. Absolute path of at most [`MAX_SOCKET_PATH_BYTES`] bytes. Default: [`default_socket`].
    pub path: PathBuf,
    /// Permissions of the socket file, octal in a string, default `"0660"`. Who cannot write to it cannot connect.
    pub mode: String,
    /// Group of the socket file, by name. Default: the daemon's own, or that of a set-group-id directory.
    pub group: Option<String>,
    /// Users whose requests are answered, by name or number. While this and `allowed_groups` are both empty, whoever may open
    /// the socket is allowed. Root and the daemon's own user always are.
    pub allowed_users: Vec<Principal>,
    /// Groups whose members' requests are answered, by name or number.
    pub allowed_groups: Vec<Principal>,
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Principal {
    Id(u32),
    Name(String),
}

/// Where the models are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsConfig {
    /// Directory of the model pack. Default: searched for in the usual places.
    pub pack_dir: Option<PathBuf>,
    /// A `models.toml` whose entries replace roles of the pack. Default: none.
    pub overrides: Option<PathBuf>,
    /// Where optimised graphs are kept. Default: beside the pack.
    pub cache_dir: Option<PathBuf>,
}

/// Where the calibrations are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationConfig {
    /// Directory of the calibration files. Default: searched for in the usual places.
    pub dir: Option<PathBuf>,
}

/// How models are run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceConfig {
    pub device: Device,
    /// What runs models on a GPU: `cuda`, the default, or `tensorrt`.
    pub gpu_provider: GpuProvider,
    /// Numbers that a GPU calculates with: `full`, the default, or `half`, which only `tensorrt` offers.
    pub gpu_precision: Precision,
    /// Directory of the libraries for GPUs. Default: `runtime-gpu` in the pack.
    pub gpu_runtime_dir: Option<PathBuf>,
    /// Sessions for each model, 0..=64; 0, the default, chooses by the cores available.
    pub sessions_per_model: usize,
    /// Threads of each session, 0..=256; 0, the default, chooses by the cores available.
    pub threads_per_session: usize,
    /// Most inputs run at once by one session, 0..=256; 0, the default, takes what was measured to be best for the model.
    pub max_batch: usize,
    /// How long the first input of a batch waits for company. Microseconds, 0..=1_000_000, default 0: never wait.
    pub max_batch_delay_us: u64,
    /// Inputs that may wait for one model, 1..=65_536, default 256. One more is refused as overload.
    pub queue_per_model: usize,
}

/// What requests may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// One gRPC message. Bytes, 1 MiB..=256 MiB, default 32 MiB.
    pub max_message_bytes: usize,
    /// One picture as sent. Bytes, 64 KiB..=`max_message_bytes`, default 20 MiB.
    pub max_image_bytes: usize,
    /// Width times height of one picture, 100_000..=500_000_000, default 50_000_000. Decoding takes 3 bytes for each.
    pub max_pixels: u64,
    /// Requests worked on at once, 0..=1024; 0, the default, is twice the cores available.
    pub max_running: usize,
    /// Requests that may wait for their turn, 0..=65_536, default 256.
    pub max_waiting: usize,
    /// Bytes that waiting requests may hold together, at least `max_message_bytes`, default 512 MiB.
    pub max_waiting_bytes: u64,
    /// Bytes of messages that callers have begun to send and not finished, of frames that were not looked at yet, of the largest message of each
    /// stream, whose memory is kept for the next, and of answers with a picture in them that were not read yet, together; one user has at most three quarters of it. Up to 4 MiB for each connection, which HTTP/2 takes before they are looked at,
    /// come on top of it. At least twice `max_message_bytes`, default 512 MiB.
    pub max_arriving_bytes: u64,
    /// A request that would wait longer than this for its turn, as far as can be told, is refused at once. Milliseconds, 10..=3_600_000,
    /// default 10000.
    pub max_wait_ms: u64,
    /// Connections open at once, 1..=65_536, default 256; one user has at most three quarters of them unless a policy says otherwise. One more is closed at once.
    pub max_connections: usize,
    /// A request without a nearer deadline of its own ends after this. Seconds, 1..=3600, default 30.
    pub max_request_seconds: u64,
}

/// Where foreign bytes are decoded, and what that may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodersConfig {
    /// Whether pictures, PDF files and barcodes are read in confined processes, default true. Where the host does not allow that, the daemon does not start.
    pub isolated: bool,
    /// How many there are, 0..=256; 0, the default, is twice the cores available.
    pub processes: usize,
    /// Memory that each may take for a file. MiB, 64..=65_536, default 1024: decoding takes up to 16 bytes for each pixel of `limits.max_pixels`.
    pub memory_mb: u64,
    /// How long decoding a file, rendering a page or looking for barcodes may take. Milliseconds, 100..=600_000, default 10_000.
    pub deadline_ms: u64,
}

/// What a session of active liveness (`VerifyLive`) may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveConfig {
    /// Sessions held at once, 1..=4096, default 256; one user has at most three quarters of them. One more is refused as overload.
    pub max_sessions: usize,
    /// Longest session. Seconds, 5..=600, default 120. A policy may ask for less.
    pub max_seconds: u64,
    /// Frames of one session, 100..=100_000, default 7200: two minutes at 60 a second.
    pub max_frames: u32,
    /// Bytes of all frames of one session, 1 MiB..=16 GiB, default 1 GiB.
    pub max_bytes: u64,
}

/// Where metrics are read; nothing is served while both are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// A Unix socket of their own. Default: none.
    pub socket: Option<PathBuf>,
    /// Permissions of that socket file. Default: `"0600"`, so that callers do not learn what others ask for, or `"0660"` with a `group`.
    pub mode: Option<String>,
    /// Group of that socket file, by name. Default: as that of `socket.group`.
    pub group: Option<String>,
    /// An address and port of the loopback interface, such as `"127.0.0.1:9477"`, which every user of the host can read. Default: none.
    pub listen: Option<SocketAddr>,
}

impl MetricsConfig {
    /// Their socket, for whoever can open it.
    pub fn own_socket(&self) -> Option<SocketConfig> {
        let mode = if self.group.is_some() { "0660" } else { "0600" };
        Some(SocketConfig {
            path: self.socket.clone()?,
            mode: self.mode.clone().unwrap_or_else(|| mode.into()),
            group: self.group.clone(),
            allowed_users: Vec::new(),
            allowed_groups: Vec::new(),
        })
    }
}

/// Where spans of requests are sent (docs/observability.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// A collector of OTLP over gRPC: `unix:` and the path of its socket, or `http://` with host and port. Refused by a daemon that was built without the feature `otlp`. Default: none.
    pub endpoint: Option<String>,
    /// Share of the requests whose spans are sent, 0..=1, default 0.1. For a request with a `traceparent`, its caller has decided.
    pub sample_ratio: f64,
    /// Whether the collector may be on another host, default false.
    pub allow_network: bool,
}

/// What is recorded of each verification (docs/audit.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// Directory of the audit log. Default: none, and nothing is recorded.
    pub dir: Option<PathBuf>,
    /// Whether scores are recorded beside outcomes, default false. The score of an age estimate is an age.
    pub scores: bool,
    /// A record that would make a file larger begins the next file. Bytes, 4096..=1 TiB, default 64 MiB.
    pub max_file_bytes: u64,
    /// Files that are kept, the newest included, 0..=1_000_000; 0, the default, keeps all.
    pub max_files: usize,
    pub sync: AuditSync,
    /// Records between two anchors in the journal, 1..=1_000_000, default 1000.
    pub anchor_every: u64,
    /// File of the salt of digests, at least 32 bytes. Default: the credential `audit-salt` of the service manager, else a new salt at each start.
    pub salt_file: Option<PathBuf>,
    pub on_failure: AuditFailure,
}

/// When records are put on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditSync {
    /// Before the answer is sent; the default.
    Each,
    /// Once a second: a power cut may take the last second.
    Seconds,
}

/// What happens to requests while records cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditFailure {
    /// They are refused; the default.
    Refuse,
    /// They are answered, and the log tells later how many were not recorded.
    Warn,
}

impl AuditFailure {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Warn => "warn",
        }
    }
}

/// What is logged, to standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info` (the default), `debug` or `trace`, for vouch itself. Libraries are held at `warn`.
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise; the default.
    Auto,
    Human,
    /// One JSON object a line.
    Json,
}

/// Longest `socket.path`. The kernel takes 107 bytes (`sun_path` without its closing zero); the daemon first binds to this
/// path with `.new` after it.
pub const MAX_SOCKET_PATH_BYTES: usize = 103;

const MIB: usize = 1024 * 1024;

impl Default for Config {
    fn default() -> Self {
        Self {
            drain_seconds: 20,
            callers: Vec::new(),
            socket: SocketConfig {
                path: default_socket(),
                mode: "0660".into(),
                group: None,
                allowed_users: Vec::new(),
                allowed_groups: Vec::new(),
            },
            models: ModelsConfig::default(),
            calibration: CalibrationConfig::default(),
            inference: InferenceConfig {
                device: Device::Cpu,
                gpu_provider: GpuProvider::Cuda,
                gpu_precision: Precision::Full,
                gpu_runtime_dir: None,
                sessions_per_model: 0,
                threads_per_session: 0,
                max_batch: 0,
                max_batch_delay_us: 0,
                queue_per_model: 256,
            },
            limits: LimitsConfig {
                max_message_bytes: 32 * MIB,
                // Above the largest JPEG of a 50-megapixel phone, below a message so that two such pictures do not fit.
                max_image_bytes: 20 * MIB,
                max_pixels: 50_000_000,
                max_running: 0,
                max_waiting: 256,
                max_waiting_bytes: 512 * MIB as u64,
                max_arriving_bytes: 512 * MIB as u64,
                max_wait_ms: 10_000,
                max_connections: 256,
                max_request_seconds: 30,
            },
            // The slowest pictures and pages within the limits above take two to three seconds on one core.
            decoders: DecodersConfig { isolated: true, processes: 0, memory_mb: 1024, deadline_ms: 10_000 },
            live: LiveConfig { max_sessions: 256, max_seconds: 120, max_frames: 7200, max_bytes: 1 << 30 },
            metrics: MetricsConfig::default(),
            traces: TracesConfig { endpoint: None, sample_ratio: 0.1, allow_network: false },
            audit: AuditConfig {
                dir: None,
                scores: false,
                max_file_bytes: 64 * MIB as u64,
                max_files: 0,
                sync: AuditSync::Each,
                anchor_every: 1000,
                salt_file: None,
                on_failure: AuditFailure::Refuse,
            },
            log: LogConfig { level: LogLevel::Info, format: LogFormat::Auto },
        }
    }
}

/// Where the daemon listens and its client looks unless told otherwise: `/run/vouch/vouch.sock` for root and for users without
/// a runtime directory, else `$XDG_RUNTIME_DIR/vouch/vouch.sock`.
pub fn default_socket() -> PathBuf {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    socket_in(runtime_dir.filter(|_| !nix::unistd::geteuid().is_root()).as_deref())
}

fn socket_in(runtime_dir: Option<&Path>) -> PathBuf {
    // A relative runtime directory is invalid by the XDG base directory specification and is ignored.
    runtime_dir.filter(|dir| dir.is_absolute()).unwrap_or(Path::new("/run")).join("vouch/vouch.sock")
}

impl Config {
    /// SHA-256 of the settings, in hexadecimal: the same for the same settings of one version, whichever layers they come from. It stands in each audit record.
    pub fn sha256(&self) -> String {
        // All keys are text, so this cannot fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        crate::audit::chain::Hash::of(text.as_bytes()).to_string()
    }

    /// Keys, as `section.key`, whose values differ.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let [ours, theirs] = [self, other].map(|config| {
            let mut values = BTreeMap::new();
            if let Ok(table) = toml::Table::try_from(config) {
                flatten("", &table, &mut values);
            }
            values
        });
        let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        keys.into_iter().filter(|key| ours.get(*key) != theirs.get(*key)).cloned().collect()
    }
}

fn flatten(prefix: &str, table: &toml::Table, values: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(section) => flatten(&format!("{prefix}{key}."), section, values),
            value => drop(values.insert(format!("{prefix}{key}"), value.clone())),
        }
    }
}

impl SocketConfig {
    /// The permission bits of `mode`, or `None` if it is not an octal number up to 0777.
    pub fn mode_bits(&self) -> Option<u32> {
        mode_bits(&self.mode)
    }
}

fn mode_bits(mode: &str) -> Option<u32> {
    u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o777)
}

/// What the command line of `vouchd` says; each value present is stronger than all other layers.
#[derive(Debug, Default, Clone)]
pub struct Flags {
    pub socket: Option<PathBuf>,
    pub pack: Option<PathBuf>,
    pub calibration: Option<PathBuf>,
    pub device: Option<String>,
    pub log: Option<String>,
}

/// Why there is no configuration. Its text is for the operator: one problem a line, each naming key and origin.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` or `VOUCH_CONFIG` cannot be read.
    #[error("cannot read the configuration file {}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    /// The settings are wrong; every problem found.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// The effective settings and where each came from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// `section.key` to `flag --socket`, `environment variable VOUCH_SOCKET`, `file …`; keys with their default are absent.
    pub origins: BTreeMap<String, String>,
}

/// Puts the layers together and checks the result.
///
/// `environment` is given by the caller (`std::env::vars`), so that tests need not change the process's own.
///
/// # Errors
/// [`ConfigError::File`] if `file` cannot be read; [`ConfigError::Invalid`] for syntax errors, unknown keys (all of them at
/// once), values of the wrong type, and values out of range (all of them at once).
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Loaded, ConfigError> {
    let defaults = dict_of(Config::default())?;
    let mut figment = Figment::from(Layer { name: DEFAULTS.into(), dict: defaults.clone() });
    if let Some(path) = file {
        figment = figment.merge(Layer { name: format!("file {}", path.display()), dict: read(path)? });
    }
    let mut problems = Vec::new();
    for layer in environment_layers(environment, &defaults, &mut problems).into_iter().chain(flag_layers(flags)) {
        figment = figment.merge(layer);
    }
    let merged: Dict = figment.extract().map_err(invalid)?;
    unknown_keys(&merged, &defaults, "", &figment, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError::Invalid(problems));
    }
    let config: Config = figment.extract().map_err(invalid)?;

    let mut origins = BTreeMap::new();
    for key in leaf_keys(&defaults, "") {
        if let Some(metadata) = figment.find_metadata(&key).filter(|metadata| metadata.name != DEFAULTS) {
            origins.insert(key, metadata.name.to_string());
        }
    }
    match validate(&config) {
        problems if problems.is_empty() => Ok(Loaded { config, origins }),
        problems => Err(ConfigError::Invalid(
            problems
                .into_iter()
                .map(|Problem { key, value, allowed }| {
                    let origin = origins.get(key).map(|origin| format!(" (from {origin})")).unwrap_or_default();
                    format!("{key} = {value}{origin}: must be {allowed}")
                })
                .collect(),
        )),
    }
}

impl Loaded {
    /// Refuses what this build cannot do. Apart from [`load`], so that a sample of all settings is one for every build.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a collector of traces without the feature `otlp`.
    pub fn check_features(&self) -> Result<(), ConfigError> {
        const KEY: &str = "traces.endpoint";
        if cfg!(feature = "otlp") || self.config.traces.endpoint.is_none() {
            return Ok(());
        }
        let origin = self.origins.get(KEY).map(|origin| format!(" (from {origin})")).unwrap_or_default();
        Err(ConfigError::Invalid(vec![format!("{KEY}{origin}: this vouchd was built without the feature otlp")]))
    }
}

impl fmt::Display for Loaded {
    /// The effective settings as TOML, each value that is not a default followed by its origin. The hash of them all stands above.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# config_sha256 = {}", self.config.sha256())?;
        let table = toml::Table::try_from(&self.config).map_err(|_| fmt::Error)?;
        let origin = |key: &str| self.origins.get(key).map(|origin| format!("  # {origin}")).unwrap_or_default();
        for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
            writeln!(f, "{key} = {value}{}", origin(key))?;
        }
        for (section, values) in &table {
            let Some(values) = values.as_table() else {
                continue;
            };
            writeln!(f, "\n[{section}]")?;
            for (key, value) in values {
                writeln!(f, "{key} = {value}{}", origin(&format!("{section}.{key}")))?;
            }
        }
        Ok(())
    }
}

/// A value out of its range.
struct Problem {
    key: &'static str,
    value: String,
    allowed: String,
}

/// Checks ranges and what spans several keys; types and spelling are known to be right by now.
fn validate(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut range = |key, value: u64, low: u64, high: u64| {
        if !(low..=high).contains(&value) {
            problems.push(Problem { key, value: value.to_string(), allowed: format!("in {low}..={high}") });
        }
    };
    let inference = &config.inference;
    let limits = &config.limits;
    range("drain_seconds", config.drain_seconds, 0, 3600);
    range("inference.sessions_per_model", inference.sessions_per_model as u64, 0, 64);
    range("inference.threads_per_session", inference.threads_per_session as u64, 0, 256);
    range("inference.max_batch", inference.max_batch as u64, 0, 256);
    range("inference.max_batch_delay_us", inference.max_batch_delay_us, 0, 1_000_000);
    range("inference.queue_per_model", inference.queue_per_model as u64, 1, 65_536);
    range("limits.max_message_bytes", limits.max_message_bytes as u64, MIB as u64, 256 * MIB as u64);
    range("limits.max_image_bytes", limits.max_image_bytes as u64, 65_536, limits.max_message_bytes as u64);
    range("limits.max_pixels", limits.max_pixels, 100_000, 500_000_000);
    range("limits.max_running", limits.max_running as u64, 0, 1024);
    range("limits.max_waiting", limits.max_waiting as u64, 0, 65_536);
    range("limits.max_wait_ms", limits.max_wait_ms, 10, 3_600_000);
    // The upper bound is 1 TiB: beyond every host, within what a TOML integer holds.
    range("limits.max_waiting_bytes", limits.max_waiting_bytes, limits.max_message_bytes as u64, 1 << 40);
    range("limits.max_arriving_bytes", limits.max_arriving_bytes, 2 * limits.max_message_bytes as u64, 1 << 40);
    range("limits.max_connections", limits.max_connections as u64, 1, 65_536);
    range("limits.max_request_seconds", limits.max_request_seconds, 1, 3600);
    let decoders = &config.decoders;
    range("decoders.processes", decoders.processes as u64, 0, 256);
    range("decoders.memory_mb", decoders.memory_mb, 64, 65_536);
    range("decoders.deadline_ms", decoders.deadline_ms, 100, 600_000);
    let live = &config.live;
    range("live.max_sessions", live.max_sessions as u64, 1, 4096);
    range("live.max_seconds", live.max_seconds, 5, 600);
    range("live.max_frames", u64::from(live.max_frames), 100, 100_000);
    range("live.max_bytes", live.max_bytes, MIB as u64, 1 << 34);
    let audit = &config.audit;
    range("audit.max_file_bytes", audit.max_file_bytes, 4096, 1 << 40);
    range("audit.max_files", audit.max_files as u64, 0, 1_000_000);
    range("audit.anchor_every", audit.anchor_every, 1, 1_000_000);

    problems.extend(callers::problems(&config.callers));

    let mut problem = |key, value: String, allowed: &str| {
        problems.push(Problem { key, value, allowed: allowed.into() });
    };
    let socket = &config.socket;
    let path = socket.path.as_os_str();
    if !socket.path.is_absolute() || socket.path.file_name().is_none() || path.len() > MAX_SOCKET_PATH_BYTES {
        let allowed = format!("an absolute path of a file, of at most {MAX_SOCKET_PATH_BYTES} bytes");
        problem("socket.path", format!("{path:?}"), &allowed);
    }
    let metrics = &config.metrics;
    if let Some(path) = &metrics.socket
        && (!path.is_absolute() || path.as_os_str().len() > MAX_SOCKET_PATH_BYTES || *path == socket.path)
    {
        let allowed = format!("an absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes, other than socket.path");
        problem("metrics.socket", format!("{path:?}"), &allowed);
    }
    if let Some(address) = metrics.listen.filter(|address| !address.ip().is_loopback()) {
        problem("metrics.listen", format!("\"{address}\""), "a loopback address");
    }
    let traces = &config.traces;
    if let Some(endpoint) = &traces.endpoint {
        let wrong = match endpoint.parse::<Collector>() {
            Err(allowed) => Some(allowed),
            Ok(collector) if !collector.is_local() && !traces.allow_network => {
                Some("a socket or an address of this host, unless traces.allow_network is true")
            }
            Ok(_) => None,
        };
        if let Some(allowed) = wrong {
            problem("traces.endpoint", format!("{endpoint:?}"), allowed);
        }
    }
    if !(0.0..=1.0).contains(&traces.sample_ratio) {
        problem("traces.sample_ratio", traces.sample_ratio.to_string(), "in 0..=1");
    }
    for (key, mode) in [("socket.mode", Some(&socket.mode)), ("metrics.mode", metrics.mode.as_ref())] {
        if let Some(mode) = mode.filter(|mode| mode_bits(mode).is_none()) {
            problem(key, format!("{mode:?}"), "an octal number in a string, \"0000\" to \"0777\"");
        }
    }
    if inference.gpu_precision == Precision::Half && inference.gpu_provider != GpuProvider::Tensorrt {
        problem("inference.gpu_precision", "\"half\"".into(), "full, unless inference.gpu_provider is tensorrt");
    }
    for (key, value) in [
        ("inference.gpu_runtime_dir", &inference.gpu_runtime_dir),
        ("models.pack_dir", &config.models.pack_dir),
        ("models.overrides", &config.models.overrides),
        ("models.cache_dir", &config.models.cache_dir),
        ("calibration.dir", &config.calibration.dir),
        ("audit.dir", &config.audit.dir),
        ("audit.salt_file", &config.audit.salt_file),
    ] {
        if value.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            problem(key, "\"\"".into(), "a path; leave the key out for the default");
        }
    }
    problems
}

// ---------------------------------------------------------------- layers

/// Name of the lowest layer.
const DEFAULTS: &str = "defaults";

/// Values with one origin.
struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        // The plain key is shown: figment's own interpolation would prefix its profile's name.
        Metadata::named(self.name.clone()).interpolater(|_, keys| keys.join("."))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// One layer for each variable, so that each value knows which variable it came from.
///
/// Variables are `VOUCH_SECTION__KEY`, `VOUCH_DRAIN_SECONDS` and the short names. Where the default is text, the variable is
/// taken as it stands: reading `VOUCH_SOCKET__MODE=0660` as a TOML number would make 660 of it. Lists are written with commas.
fn environment_layers(
    environment: impl IntoIterator<Item = (String, String)>,
    defaults: &Dict,
    problems: &mut Vec<String>,
) -> Vec<Layer> {
    let mut layers: BTreeMap<String, Layer> = BTreeMap::new();
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix("VOUCH_") else {
            continue;
        };
        let key = match rest {
            // Names the file, not a setting.
            "CONFIG" => continue,
            "SOCKET" => "socket.path".to_owned(),
            "PACK_DIR" => "models.pack_dir".to_owned(),
            "LOG" => "log.level".to_owned(),
            _ => rest.to_lowercase().replace("__", "."),
        };
        let value = match Value::from(defaults.clone()).find(&key) {
            Some(Value::String(..) | Value::Empty(..)) => Value::from(text),
            Some(Value::Array(..)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::from(items.map(Value::from).collect::<Vec<_>>())
            }
            // What is no number, or neither true nor false, stays text, and the type check names it.
            Some(Value::Num(_, Num::F32(_) | Num::F64(_))) => {
                text.parse::<f64>().map_or_else(|_| Value::from(text), Value::from)
            }
            Some(Value::Num(..)) => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
            Some(Value::Bool(..)) => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
            Some(Value::Dict(..) | Value::Char(..)) | None => {
                problems.push(format!("environment variable {name}: no such setting"));
                continue;
            }
        };
        let layer = Layer { name: format!("environment variable {name}"), dict: nested(&key, value) };
        if let Some(other) = layers.insert(key, layer) {
            problems.push(format!("environment variable {name}: {} says the same setting", other.name));
        }
    }
    layers.into_values().collect()
}

fn flag_layers(flags: &Flags) -> impl Iterator<Item = Layer> {
    let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    [
        ("--socket", "socket.path", text(&flags.socket)),
        ("--pack", "models.pack_dir", text(&flags.pack)),
        ("--calibration", "calibration.dir", text(&flags.calibration)),
        ("--device", "inference.device", flags.device.clone()),
        ("--log", "log.level", flags.log.clone()),
    ]
    .into_iter()
    .filter_map(|(flag, key, value)| Some(Layer { name: format!("flag {flag}"), dict: nested(key, value?) }))
}

/// `a.b` and `v` to `{a: {b: v}}`.
fn nested(key: &str, value: impl Into<Value>) -> Dict {
    match key.split_once('.') {
        Some((section, rest)) => Dict::from([(section.to_owned(), Value::from(nested(rest, value)))]),
        None => Dict::from([(key.to_owned(), value.into())]),
    }
}

/// The settings of a file, not yet checked. Its errors name the line and quote nothing of it.
fn read(path: &Path) -> Result<Dict, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::File { path: path.to_owned(), cause })?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let message = error.message().replace('\n', " ");
        ConfigError::Invalid(vec![format!("file {}, line {line}: {message}", path.display())])
    })?;
    dict_of(table)
}

fn dict_of(settings: impl Serialize) -> Result<Dict, ConfigError> {
    let value = Value::serialize(settings).map_err(invalid)?;
    value.deserialize().map_err(invalid)
}

/// Names every key that the defaults do not have, with its origin and the keys that are there instead.
fn unknown_keys(found: &Dict, known: &Dict, prefix: &str, figment: &Figment, problems: &mut Vec<String>) {
    for (name, value) in found {
        let key = format!("{prefix}{name}");
        match (known.get(name), value) {
            (Some(Value::Dict(_, known)), Value::Dict(_, found)) => {
                unknown_keys(found, known, &format!("{key}."), figment, problems);
            }
            (Some(_), _) => {}
            (None, _) => {
                let origin = figment.find_metadata(&key).map_or(String::new(), |origin| format!("{}: ", origin.name));
                let keys = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                problems.push(format!("{origin}unknown key {key}; known here: {keys}"));
            }
        }
    }
}

fn leaf_keys(dict: &Dict, prefix: &str) -> Vec<String> {
    dict.iter()
        .flat_map(|(name, value)| match value {
            Value::Dict(_, inner) => leaf_keys(inner, &format!("{prefix}{name}.")),
            _ => vec![format!("{prefix}{name}")],
        })
        .collect()
}

/// figment's errors in our words: `socket.mode (from file vouch.toml): invalid type: …`.
fn invalid(error: figment::Error) -> ConfigError {
    let one = |error: figment::Error| {
        let origin = error.metadata.as_ref().map(|metadata| format!(" (from {})", metadata.name)).unwrap_or_default();
        let problem = match error.kind {
            Kind::UnknownVariant(found, known) => {
                format!("{found:?} is none of {}", known.join(", "))
            }
            kind => kind.to_string(),
        };
        format!("{}{origin}: {problem}", error.path.join("."))
    };
    ConfigError::Invalid(error.into_iter().map(one).collect())
}
