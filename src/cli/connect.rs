//! The way to the daemon: socket, message limits, deadline, pictures from files, and what can go wrong in words and codes.
//!
//! Called by every command that talks to the daemon. Leaves the meaning of answers to `report` and the commands.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::api::proto::verification_client::VerificationClient;
use crate::api::proto::{GetStatusRequest, GetStatusResponse};
use crate::api::status::code_name;
use crate::error::exit;
use crate::evaluation::DataError;

/// Largest message of the contract, in bytes (`proto/vouch/v1/vouch.proto`). The daemon refuses larger ones.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// How long the client waits after the deadline, so that the daemon's own, better explained answer arrives first.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);

/// `EX_IOERR` of `sysexits.h`: the answer could not be written.
const IO_ERR: u8 = 74;

/// Options of every command that calls the daemon.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// How long to wait for the whole answer, such as 500ms, 10s or 2m; the daemon stops working then
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,

    /// Print JSON instead of text: one object on each line
    #[arg(long)]
    pub json: bool,
}

/// Which daemon to call, and how long to wait.
#[derive(Debug, Clone)]
pub struct Target {
    pub socket: PathBuf,
    pub timeout: Duration,
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The daemon was not reached, or the connection broke.
    #[error("the daemon cannot be reached at {}: {reason}", socket.display())]
    Unreachable { socket: PathBuf, reason: String, forbidden: bool },
    /// The daemon refused the call or failed. Boxed because a status is large and errors are rare. `files` tells which file
    /// was sent in which field of the request, so that words can name what the operator named.
    #[error("{}", status.message())]
    Refused { status: Box<Status>, files: Vec<(String, PathBuf)> },
    /// The stream ended before its last event.
    #[error("the daemon ended the answer before its summary")]
    Unfinished,
    /// A file could not be opened or read.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// A file or argument cannot be used.
    #[error("{0}")]
    BadInput(String),
    /// The options do not go together.
    #[error("{0}")]
    Usage(String),
    /// Labelled data that cannot be used.
    #[error("{0}")]
    Data(#[from] DataError),
    /// A result could not be written.
    #[error("{} cannot be written: {reason}", path.display())]
    Unwritable { path: PathBuf, reason: String },
    /// The user stopped a run that can go on.
    #[error("stopped after {done} of {total}")]
    Interrupted { done: usize, total: usize },
    /// The user stopped a measurement before any of it was whole.
    #[error("stopped before the first step was complete")]
    NothingMeasured,
    /// Answers that contradict each other, or that the daemon could not give.
    #[error("{0}")]
    Wrong(String),
    /// The daemon answered, and left out what this user may not know.
    #[error("{0}")]
    NotTold(String),
    /// Standard output could not be written.
    #[error("the answer could not be written: {0}")]
    Output(std::io::Error),
    /// The operating system refused what the client itself needs.
    #[error("the client could not start: {0}")]
    Runtime(std::io::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused { status: Box::new(status), files: Vec::new() }
    }
}

impl From<std::io::Error> for Failure {
    /// The commands write to standard output alone; files and sockets have their own variants.
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// The same failure, knowing which file went into which field of the request.
    pub fn naming(self, files: Vec<(String, PathBuf)>) -> Self {
        match self {
            Self::Refused { status, .. } => Self::Refused { status, files },
            other => other,
        }
    }

    /// The exit code, as `vouch --help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable { forbidden: true, .. } | Self::NotTold(_) => exit::NO_PERM,
            Self::Unreachable { .. } | Self::Unfinished => exit::UNAVAILABLE,
            Self::Refused { status, .. } => match status.code() {
                Code::InvalidArgument | Code::OutOfRange => exit::DATA_ERR,
                Code::PermissionDenied | Code::Unauthenticated => exit::NO_PERM,
                Code::FailedPrecondition => exit::CONFIG,
                Code::ResourceExhausted
                | Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Aborted => exit::TEMP_FAIL,
                Code::Ok
                | Code::Unknown
                | Code::NotFound
                | Code::AlreadyExists
                | Code::Unimplemented
                | Code::Internal
                | Code::DataLoss => exit::SOFTWARE,
            },
            Self::File { .. } => exit::NO_INPUT,
            Self::BadInput(_) | Self::Data(DataError::Bad(_)) => exit::DATA_ERR,
            Self::Data(DataError::Missing(_)) => exit::NO_INPUT,
            Self::Output(_) | Self::Unwritable { .. } => IO_ERR,
            Self::Interrupted { .. } | Self::NothingMeasured => exit::TEMP_FAIL,
            Self::Runtime(_) | Self::Wrong(_) => exit::SOFTWARE,
            Self::Usage(_) => super::USAGE,
        }
    }

    /// True when standard output was a pipe whose reader left, as `head` does; nobody waits for an explanation then.
    pub fn is_reader_gone(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == ErrorKind::BrokenPipe)
    }

    /// The error for a person: one line, then one indented line for each detail that the daemon gave.
    pub fn in_words(&self, colour: bool) -> String {
        let (red, reset) = if colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        let mut text = format!("{red}error:{reset} ");
        let Self::Refused { status, files } = self else {
            // Names may come from tables and folders of others: nothing in them steers the terminal.
            let words: String =
                self.to_string().chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
            let _ = writeln!(text, "{words}");
            return text;
        };
        let _ = writeln!(text, "{} ({})", status.message(), words_for(status.code()));
        let details = status.get_error_details();
        for violation in details.bad_request().map_or(&[][..], |bad| &bad.field_violations) {
            let file = files.iter().find(|(field, _)| *field == violation.field);
            let file = file.map(|(_, path)| format!(" ({})", path.display())).unwrap_or_default();
            let line = format!("{}{file}: {}", violation.field, violation.description);
            // The daemon's message often says the same; once is enough.
            if line != status.message() {
                let _ = writeln!(text, "  {line}");
            }
        }
        for violation in details.quota_failure().map_or(&[][..], |quota| &quota.violations) {
            let _ = writeln!(text, "  limit of {}: {}", violation.subject, violation.description);
        }
        if let Some(info) = details.error_info() {
            let _ = writeln!(text, "  reason: {}", info.reason);
            let mut metadata: Vec<_> = info.metadata.iter().collect();
            metadata.sort();
            for (key, value) in metadata {
                let _ = writeln!(text, "  {key}: {value}");
            }
        }
        if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
            let _ = writeln!(text, "  try again in {} ms", delay.as_millis());
        }
        text
    }

    /// The error as the last line of `--json` output: `{"event":"error", ...}` with stable keys.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "event": "error",
            "message": self.to_string(),
            "exit_code": self.exit_code(),
        });
        if let Self::Refused { status, .. } = self {
            let details = status.get_error_details();
            object["code"] = json!(code_name(status.code()));
            object["reason"] = json!(details.error_info().map(|info| info.reason.as_str()));
            object["field_violations"] = details
                .bad_request()
                .map_or(&[][..], |bad| &bad.field_violations)
                .iter()
                .map(|violation| json!({"field": violation.field, "description": violation.description}))
                .collect();
            object["retry_after_ms"] = json!(
                details
                    .retry_info()
                    .and_then(|retry| retry.retry_delay)
                    // A delay beyond 2^64 ms is no delay that anyone waits for.
                    .map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
            );
        }
        object
    }
}

/// Opens a connection to the daemon.
///
/// # Errors
/// [`Failure::Unreachable`] if nobody listens at the socket or this user may not connect.
pub async fn connect(target: &Target) -> Result<VerificationClient<Channel>, Failure> {
    Ok(VerificationClient::new(channel(target).await?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

/// As [`connect`], for a client of any service.
///
/// # Errors
/// As [`connect`].
pub async fn channel(target: &Target) -> Result<Channel, Failure> {
    let socket = target.socket.clone();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The URI is a formality of HTTP/2: the connector above decides where the bytes go.
    Endpoint::from_static("http://vouchd")
        .connect_with_connector(connector)
        .await
        .map_err(|error| unreachable(target, &error))
}

/// Asks the daemon for its state, over a connection of its own.
///
/// # Errors
/// As [`connect`] and [`answer`].
pub async fn status(target: &Target) -> Result<GetStatusResponse, Failure> {
    let mut client = connect(target).await?;
    // Others than the operator are told what they may know.
    let call = client.get_status(request(target, GetStatusRequest { with_activity: true })?);
    Ok(answer(target, patience(target), call).await?.into_inner())
}

/// Wraps a message for sending, with the deadline that the daemon is to keep.
///
/// # Errors
/// [`Failure::BadInput`] if the message is larger than [`MAX_MESSAGE_BYTES`].
pub fn request<M: prost::Message>(target: &Target, message: M) -> Result<Request<M>, Failure> {
    let size = message.encoded_len();
    if size > MAX_MESSAGE_BYTES {
        return Err(Failure::BadInput(format!(
            "the pictures come to {:.1} MiB together; the daemon takes {} MiB",
            size as f64 / f64::from(1 << 20),
            MAX_MESSAGE_BYTES >> 20
        )));
    }
    let mut request = Request::new(message);
    request.set_timeout(target.timeout);
    Ok(request)
}

/// The moment after which the client waits no longer: the deadline, counted from now, and a little more.
pub fn patience(target: &Target) -> Instant {
    Instant::now() + target.timeout + DEADLINE_GRACE
}

/// Waits for the daemon's answer until the given moment.
///
/// # Errors
/// [`Failure::Refused`] with the daemon's status, or with DEADLINE_EXCEEDED when no answer came in time;
/// [`Failure::Unreachable`] if the connection broke.
pub async fn answer<T>(
    target: &Target,
    until: Instant,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(until, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(status)) => Err(refusal(target, status)),
        Err(_) => Err(too_late()),
    }
}

/// Reads one picture as it is. Nothing beyond [`MAX_MESSAGE_BYTES`] is read.
///
/// # Errors
/// [`Failure::File`] if it cannot be opened or read, [`Failure::BadInput`] if it is larger than a message may be.
pub fn read_picture(path: &Path) -> Result<Bytes, Failure> {
    let unreadable = |error: std::io::Error| Failure::File { path: path.to_owned(), reason: io_words(&error) };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Failure::File { path: path.to_owned(), reason: "is a directory".into() });
    }
    let too_large = || {
        let mib = MAX_MESSAGE_BYTES >> 20;
        Failure::BadInput(format!("{}: larger than the {mib} MiB that the daemon takes", path.display()))
    };
    let limit = MAX_MESSAGE_BYTES as u64;
    if metadata.len() > limit {
        return Err(too_large());
    }
    // A pipe says 0, so the size is checked again while reading.
    let mut data = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut data).map_err(unreadable)?;
    if data.len() > MAX_MESSAGE_BYTES {
        return Err(too_large());
    }
    Ok(data.into())
}

/// Sorts a status: one that the daemon sent is a refusal; one that the client's own transport made is a broken connection or a
/// deadline that the daemon did not answer.
fn refusal(target: &Target, status: Status) -> Failure {
    let causes = || std::iter::successors(std::error::Error::source(&status), |cause| cause.source());
    // First over the whole chain: a timeout comes wrapped in an error of the transport.
    if causes().any(|cause| cause.is::<tonic::TimeoutExpired>()) {
        return too_late();
    }
    // Only the client's own transport leaves a cause; a status that the daemon sent has none.
    if causes().next().is_some() {
        return Failure::Unreachable {
            socket: target.socket.clone(),
            reason: "the connection broke".into(),
            forbidden: false,
        };
    }
    if status.code() == Code::Cancelled && status.message() == tonic::TimeoutExpired(()).to_string() {
        return too_late();
    }
    status.into()
}

fn too_late() -> Failure {
    Status::deadline_exceeded("no answer before the deadline").into()
}

fn unreachable(target: &Target, error: &tonic::transport::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    let mut reason = "no connection".to_owned();
    let mut forbidden = false;
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            reason = match io.kind() {
                ErrorKind::NotFound => "no such socket; is vouchd running?".into(),
                ErrorKind::ConnectionRefused => "nobody listens there; is vouchd running?".into(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                    format!("{}; does this user have as many connections as it may?", io_words(io))
                }
                _ => io_words(io),
            };
            forbidden = io.kind() == ErrorKind::PermissionDenied;
        }
        source = error.source();
    }
    Failure::Unreachable { socket: target.socket.clone(), reason, forbidden }
}

/// The system's words without Rust's "(os error 2)".
fn io_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn words_for(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument | Code::OutOfRange => "the input cannot be used",
        Code::ResourceExhausted => "a limit is reached",
        Code::DeadlineExceeded => "the time was up",
        Code::Cancelled | Code::Aborted => "the call was cancelled",
        Code::Unavailable => "the daemon is not ready",
        Code::PermissionDenied | Code::Unauthenticated => "not allowed",
        Code::Unimplemented => "this daemon does not know the call",
        Code::FailedPrecondition => "the daemon's configuration does not allow it",
        Code::Ok | Code::Unknown | Code::NotFound | Code::AlreadyExists | Code::Internal | Code::DataLoss => {
            "the daemon failed"
        }
    }
}

/// Reads `500ms`, `10s` or `2m`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("expected a number with the unit ms, s or m".into()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number before the unit")?;
    match Duration::try_from_secs_f64(number * seconds_per_unit) {
        // gRPC cannot express a timeout of more than eight digits; a day is beyond any verification.
        Ok(duration) if !duration.is_zero() && duration <= Duration::from_hours(24) => Ok(duration),
        _ => Err("expected a time between 1ms and 24 hours".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn durations_need_a_unit_and_a_sensible_size() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "10", "s", "-1s", "0s", "1h", "1e3s", "99999999m", "1..2s"] {
            assert!(parse_duration(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn pictures_over_the_message_limit_are_refused_before_they_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_MESSAGE_BYTES as u64 + 1).unwrap();
        let failure = read_picture(file.path()).unwrap_err();
        assert_eq!(failure.exit_code(), exit::DATA_ERR);
    }

    #[test]
    fn pictures_come_back_as_they_are() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"\xff\xd8picture").unwrap();
        assert_eq!(read_picture(file.path()).unwrap(), &b"\xff\xd8picture"[..]);
    }

    #[test]
    fn a_missing_picture_is_named_in_words() {
        let failure = read_picture(Path::new("/nonexistent/a.jpg")).unwrap_err();
        assert_eq!(failure.exit_code(), exit::NO_INPUT);
        assert_eq!(failure.in_words(false), "error: /nonexistent/a.jpg: no such file or directory\n");
    }
}
