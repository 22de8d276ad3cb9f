//! Sends the spans of `ops::traces` to a collector by OTLP over gRPC. Built with the feature `otlp` alone.
//!
//! Called by `vouchd`. The SDK's own processor gathers spans and sends them from a thread of its own; no request ever waits for it. Around it stand what this daemon promises: a bound on what
//! waits, a count of what was sent, failed and dropped, and a list of the attributes that may leave. Left out: trying again; what a collector does not take is gone, and counted.
//! Source: OpenTelemetry Protocol 1.x, "OTLP/gRPC".

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use hyper_util::rt::TokioIo;
use metrics::counter;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Status, TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter,
    SpanProcessor,
};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Layer;

use super::metrics::TRACE_SPANS;
use super::traces::{ATTRIBUTES, Collector, Started, TARGET};
use crate::config::TracesConfig;

/// Spans that wait to be sent, some kB each; more are dropped. At 30 spans a verification and ten sampled verifications a second, seven seconds without a collector.
const MAX_WAITING: usize = 2048;

/// Spans in one message, and how long the first of them waits for others.
const MAX_BATCH: usize = 512;
const DELAY: Duration = Duration::from_secs(1);

/// How long one message may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the daemon's end may be held up by what is left to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Begins to send spans to the collector of the configuration, if it names one. To be called before the subscriber is set up.
///
/// # Errors
/// If the system gives no thread or descriptor. A collector that is not there is none.
pub fn start(config: &TracesConfig) -> io::Result<Started> {
    let Some(collector) = config.endpoint.as_ref().and_then(|endpoint| endpoint.parse::<Collector>().ok()) else {
        return Ok((None, Box::new(|| {})));
    };
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = Exporter::new(&collector, Arc::clone(&waiting))?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(MAX_WAITING)
        .with_max_export_batch_size(MAX_BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let inner = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let resource = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.name", "vouchd"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Bounded { inner, waiting })
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
        .with_resource(resource)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("vouch"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // Our spans alone: no log line becomes an event of one, and no library's span is sent.
        .with_filter(Targets::new().with_target(TARGET, tracing::Level::INFO));
    let flush = move || {
        if let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::warn!(%error, "not all spans could be sent at the end");
        }
    };
    Ok((Some(Box::new(layer)), Box::new(flush)))
}

/// Makes a request's span a part of its caller's trace, if the headers tell one, and says whether it is sampled.
pub fn adopt(span: &Span, headers: &HeaderMap) -> bool {
    let remote = TraceContextPropagator::new().extract_with_context(&Context::new(), &Traceparent(headers));
    // It fails only where the layer is not there.
    let _ = span.set_parent(remote);
    span.context().span().span_context().is_sampled()
}

/// What is taken from a caller: numbers alone. A `tracestate` is text of anybody's making and stays behind.
struct Traceparent<'a>(&'a HeaderMap);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then(|| self.0.get(key)?.to_str().ok()).flatten()
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// Hands spans on as long as there is room.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    /// Handed on and not yet sent.
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut SdkSpan, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        let one_more = |waiting: usize| (waiting < MAX_WAITING).then_some(waiting + 1);
        match self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => self.inner.on_end(span),
            Err(_) => counter!(TRACE_SPANS, "result" => "dropped").increment(1),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Sends spans, reduced to what may leave, and counts them.
struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    /// For the connection alone: the processor's thread knows nothing of tokio, and the daemon's own runtime begins after the logs and ends before the last spans.
    runtime: Runtime,
    waiting: Arc<AtomicUsize>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

impl Exporter {
    fn new(collector: &Collector, waiting: Arc<AtomicUsize>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inner = {
            let _context = runtime.enter();
            opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_channel(channel(collector)?)
                .with_timeout(EXPORT_TIMEOUT)
                .build()
                .map_err(io::Error::other)?
        };
        Ok(Self { inner, runtime, waiting })
    }
}

/// Connects when there is something to send, and again when the collector has gone and come.
fn channel(collector: &Collector) -> io::Result<Channel> {
    let endpoint = match collector {
        // The URI is a formality of HTTP/2: the connector decides where the bytes go.
        Collector::Socket(_) => Endpoint::from_static("http://collector"),
        Collector::Address(uri) => Endpoint::from_shared(uri.to_string()).map_err(io::Error::other)?,
    };
    let endpoint = endpoint.timeout(EXPORT_TIMEOUT).connect_timeout(EXPORT_TIMEOUT);
    Ok(match collector {
        Collector::Address(_) => endpoint.connect_lazy(),
        Collector::Socket(path) => {
            let path = path.clone();
            endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
        }
    })
}

impl SpanExporter for Exporter {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        batch.iter_mut().for_each(reduce);
        // On the processor's own thread, which does nothing else.
        let sent = self.runtime.block_on(async {
            let limit = tokio::time::timeout(EXPORT_TIMEOUT, self.inner.export(batch)).await;
            limit.unwrap_or(Err(opentelemetry_sdk::error::OTelSdkError::Timeout(EXPORT_TIMEOUT)))
        });
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let result = if sent.is_ok() { "sent" } else { "failed" };
        counter!(TRACE_SPANS, "result" => result).increment(count as u64);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Leaves of a span its name, its times, its place in the trace, and the attributes that may leave.
fn reduce(span: &mut SpanData) {
    span.attributes.retain(|attribute| ATTRIBUTES.contains(&attribute.key.as_str()));
    span.events = Default::default();
    span.links = Default::default();
    if let Status::Error { description } = &mut span.status {
        *description = "".into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_caller_the_numbers_are_taken_and_no_text() {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
        headers.insert("tracestate", "vendor=ERIKSSON".parse().unwrap());
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Traceparent(&headers));
        let remote = context.span().span_context().clone();
        assert_eq!(remote.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(remote.is_remote() && remote.is_sampled());
        assert_eq!(remote.trace_state().header(), "");
    }
}
