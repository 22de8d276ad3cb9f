//! The spans of a request: the request itself, its wait at the door, its stages, its runs of models.
//!
//! Spans are those of the crate `tracing`, of a target of their own that no log line takes. They cost nothing unless the feature `otlp` is built in and `[traces]` names a collector, to which
//! `ops::otlp` then sends them. Called by `api` (begins and ends a request), `pipeline` and `inference`, which reach them through the request's context. What a span may hold is
//! [`ATTRIBUTES`]: words of ours, numbers of the machine, never anything that a caller has sent. Sources: W3C Trace Context; OpenTelemetry semantic conventions for RPC spans.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{HeaderMap, Uri};
use tonic::Code;
use tracing::Span;
use tracing::field::Empty;
use tracing_subscriber::{Layer, Registry};

#[cfg(feature = "otlp")]
pub use super::otlp::start;

/// The target of all spans. Below a log level of its own it would be a part of every log line.
pub const TARGET: &str = "request_trace";

/// All that a span may say.
pub const ATTRIBUTES: [&str; 9] = [
    "rpc.system.name",
    "rpc.method",
    "rpc.response.status_code",
    "vouch.stage",
    "vouch.media",
    "vouch.model.role",
    "vouch.provider",
    QUEUE_WAIT,
    BATCH_ITEMS,
];

/// Time of an input in a model's queue, in milliseconds; known when its run begins.
pub const QUEUE_WAIT: &str = "vouch.queue_wait_ms";

/// Inputs in the run.
pub const BATCH_ITEMS: &str = "vouch.batch_items";

/// Spans below one request. A verification has a few dozen; a session of active liveness would have tens of thousands, of which the first are told.
const MAX_SPANS: u32 = 256;

/// The trace of a request; nothing where it is not sampled. A copy is another handle on the same.
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    span: Span,
    left: AtomicU32,
}

impl Trace {
    /// Begins the trace of a call; `rpc` is its name without the service. A `traceparent` in the headers makes it a part of the caller's.
    pub fn begin(rpc: &'static str, headers: &HeaderMap) -> Self {
        let span = tracing::info_span!(
            target: TARGET, parent: None, "request", otel.name = rpc, otel.kind = "server", otel.status_code = Empty,
            rpc.system.name = "grpc", rpc.method = rpc, rpc.response.status_code = Empty,
        );
        if span.is_disabled() || !is_sampled(&span, headers) {
            return Self(None);
        }
        Self(Some(Arc::new(Inner { span, left: AtomicU32::new(MAX_SPANS) })))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Notes how the call ended. The span ends with the last work for it, which may be later where the caller has left.
    pub fn answered(&self, code: Code, name: &'static str) {
        if let Some(inner) = &self.0 {
            inner.span.record("rpc.response.status_code", name);
            // Whose fault it is decides, as in the semantic conventions: the caller's are no errors of a server.
            if matches!(
                code,
                Code::Unknown
                    | Code::DeadlineExceeded
                    | Code::Unimplemented
                    | Code::Internal
                    | Code::Unavailable
                    | Code::DataLoss
            ) {
                inner.span.record("otel.status_code", "ERROR");
            }
        }
    }

    /// The wait at the door; ends when it is dropped, as all spans do.
    pub fn admission(&self) -> Span {
        self.below(|parent| tracing::info_span!(target: TARGET, parent: parent, "admission"))
    }

    /// A stage of the work on a picture.
    pub fn stage(&self, stage: &'static str, media: &'static str) -> Span {
        self.below(|parent| {
            tracing::info_span!(target: TARGET, parent: parent, "stage", otel.name = stage, vouch.stage = stage, vouch.media = media)
        })
    }

    /// An input's way through a model: its wait and its run. Below the stage that this thread is in, if it is in one.
    pub fn model(&self, role: &'static str, provider: &'static str) -> Span {
        self.below(|request| {
            let stage = Span::current();
            let parent = if stage.is_disabled() { request } else { &stage };
            tracing::info_span!(
                target: TARGET, parent: parent, "model", otel.name = format!("run {role}"), vouch.model.role = role,
                vouch.provider = provider, vouch.queue_wait_ms = Empty, vouch.batch_items = Empty,
            )
        })
    }

    fn below(&self, make: impl FnOnce(&Span) -> Span) -> Span {
        let take_one = |left: u32| left.checked_sub(1);
        match &self.0 {
            Some(inner) if inner.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok() => {
                make(&inner.span)
            }
            _ => Span::none(),
        }
    }
}

/// Tells an input's span of the run that it is a part of.
pub fn running(span: &Span, waited: Duration, items: usize) {
    span.record(QUEUE_WAIT, waited.as_secs_f64() * 1e3);
    span.record(BATCH_ITEMS, items);
}

#[cfg(feature = "otlp")]
fn is_sampled(span: &Span, headers: &HeaderMap) -> bool {
    super::otlp::adopt(span, headers)
}

#[cfg(not(feature = "otlp"))]
fn is_sampled(_: &Span, _: &HeaderMap) -> bool {
    false
}

/// What the subscriber needs for spans to be sent, and what is to be called at the end: it sends what is left, for a moment.
pub type Started = (Option<Box<dyn Layer<Registry> + Send + Sync>>, Box<dyn FnOnce()>);

/// Without the feature there is no collector to send to; the configuration was refused if it names one.
///
/// # Errors
/// None.
#[cfg(not(feature = "otlp"))]
pub fn start(_: &crate::config::TracesConfig) -> std::io::Result<Started> {
    Ok((None, Box::new(|| {})))
}

/// Where traces are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collector {
    /// A Unix socket.
    Socket(PathBuf),
    /// Without TLS.
    Address(Uri),
}

impl Collector {
    /// Whether nothing leaves this host on the way.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Address(uri) => {
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl FromStr for Collector {
    /// What it must be.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ALLOWED: &str = "unix: and an absolute path, or http:// with a host and a port";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Socket(path)) } else { Err(ALLOWED) };
        }
        let uri: Uri = text.parse().map_err(|_| ALLOWED)?;
        let is_plain = uri.scheme_str() == Some("http") && uri.port().is_some() && matches!(uri.path(), "" | "/");
        // A password would stand in the configuration that is printed.
        let is_anonymous = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if is_plain && is_anonymous { Ok(Self::Address(uri)) } else { Err(ALLOWED) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_socket_or_an_address_and_what_is_of_this_host_is_known() {
        for (text, is_local) in [
            ("unix:/run/otel/otlp.sock", true),
            ("http://127.0.0.1:4317", true),
            ("http://localhost:4317/", true),
            ("http://[::1]:4317", true),
            ("http://127.0.0.1.example:4317", false),
            ("http://10.0.0.7:4317", false),
        ] {
            assert_eq!(text.parse::<Collector>().map(|collector| collector.is_local()), Ok(is_local), "{text}");
        }
        for text in [
            "",
            "unix:relative",
            "http://127.0.0.1",
            "https://127.0.0.1:4317",
            "http://a:b@127.0.0.1:4317",
            "http://127.0.0.1:4317/v1/traces",
            "/run/otel.sock",
        ] {
            assert!(text.parse::<Collector>().is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_is_begun_where_nobody_listens() {
        let trace = Trace::begin("Verify", &HeaderMap::new());
        assert!(!trace.is_on() && trace.stage("decode", "selfie").is_disabled() && trace.admission().is_disabled());
        trace.answered(Code::Internal, "INTERNAL");
    }
}
