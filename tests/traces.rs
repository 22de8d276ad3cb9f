//! Traces of the real daemon, as a played collector gets them: the tree of a verification, what its spans hold, and what becomes of them without a collector.

#[path = "common/drawn.rs"]
mod drawn;

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Daemon, photo, png, vouchd};
use drawn::drawn;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use vouch::api::proto::{DetectFacesRequest, Media, MediaKind, VerifyRequest};
use vouch::ops::traces::ATTRIBUTES;

/// The specimen of ICAO 9303 part 4, appendix B.
const PASSPORT: [&str; 2] =
    ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"];

/// What a caller says, and what its document holds.
const SECRETS: [&str; 6] = ["ERIKSSON", "Eriksson", "ANNA", "L898902C3", "1974", "case-4711"];

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const NOT_SAMPLED: &str = "11112222333344445555666677778888";

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn listen(&self, socket: &Path) {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.clone());
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} is {other:?} in {span:?}"),
    }
}

fn verification(traceparent: &str) -> Request<VerifyRequest> {
    let media = |kind: MediaKind, data| Media { kind: kind.into(), data };
    let mut request = Request::new(VerifyRequest {
        media: vec![
            media(MediaKind::Selfie, photo("selfie.jpg")),
            media(MediaKind::DocumentFront, png(&drawn(&PASSPORT))),
        ],
        claims: [("family_name", "Eriksson"), ("birth_date", "1974-08-12")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        client_reference: "case-4711".into(),
        ..VerifyRequest::default()
    });
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=ERIKSSON".parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_is_a_tree_of_its_stages_and_runs_and_holds_nothing_of_the_person() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("otlp.sock");
    let collector = Collector::default();
    collector.listen(&socket);
    let endpoint = format!("unix:{}", socket.display());
    // Callers that do not say are never sampled here, so that all that comes is of those who do.
    let mut daemon = Daemon::start_with(&[
        ("VOUCH_TRACES__ENDPOINT", &endpoint),
        ("VOUCH_TRACES__SAMPLE_RATIO", "0"),
        // A debug build on a busy machine takes long for a document.
        ("VOUCH_LIMITS__MAX_REQUEST_SECONDS", "200"),
    ]);
    let mut client = daemon.client().await;
    let mut events = client.verify(verification(&format!("00-{TRACE}-{CALLER}-01"))).await.unwrap().into_inner();
    while events.message().await.unwrap().is_some() {}
    let mut unsampled = Request::new(DetectFacesRequest { image: photo("selfie.jpg") });
    client.detect_faces(unsampled.get_ref().clone()).await.unwrap();
    unsampled.metadata_mut().insert("traceparent", format!("00-{NOT_SAMPLED}-{CALLER}-00").parse().unwrap());
    client.detect_faces(unsampled).await.unwrap();
    drop(client);
    // What waits is sent at the end.
    daemon.terminate();
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));

    let spans = collector.spans();
    let by_id: BTreeMap<_, _> = spans.iter().map(|span| (hex(&span.span_id), span)).collect();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:#?}");
    let roots: Vec<&Span> = spans.iter().filter(|span| hex(&span.parent_span_id) == CALLER).collect();
    let [root] = roots[..] else { panic!("{roots:#?}") };
    assert_eq!((root.name.as_str(), root.kind), ("Verify", 2), "2 is a server's");
    assert_eq!((text(root, "rpc.method").as_str(), text(root, "rpc.response.status_code").as_str()), ("Verify", "OK"));
    let below = |parent: &Span| spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect::<Vec<_>>();
    let stages: BTreeSet<&str> = below(root).iter().map(|span| span.name.as_str()).collect();
    for stage in ["admission", "decode", "detect", "embed", "mrz"] {
        assert!(stages.contains(stage), "{stage} in {stages:?}");
    }
    let decoded: Vec<String> =
        spans.iter().filter(|span| span.name == "decode").map(|span| text(span, "vouch.media")).collect();
    assert!(decoded.contains(&"selfie".to_owned()) && decoded.contains(&"document_front".to_owned()), "{decoded:?}");
    let runs: Vec<&Span> = spans.iter().filter(|span| span.name.starts_with("run ")).collect();
    assert!(runs.len() >= 5, "{runs:#?}");
    for run in &runs {
        assert_eq!(text(run, "vouch.batch_items"), "1");
        assert!(text(run, "vouch.queue_wait_ms").parse::<f64>().unwrap() >= 0.0);
        assert_eq!(text(run, "vouch.provider"), "CPUExecutionProvider");
        assert_eq!(run.name, format!("run {}", text(run, "vouch.model.role")));
    }
    let of_detection = runs.iter().filter(|run| run.name == "run face_detector");
    for run in of_detection {
        let stage = by_id[&hex(&run.parent_span_id)];
        assert_eq!(stage.name, "detect", "a run stands below the stage that it was made in");
    }
    for span in &spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        let parent = hex(&span.parent_span_id);
        assert!(parent == CALLER || by_id.contains_key(&parent), "{span:?}");
        assert!(span.events.is_empty() && span.links.is_empty() && span.trace_state.is_empty(), "{span:?}");
        assert!(span.attributes.iter().all(|one| ATTRIBUTES.contains(&one.key.as_str())), "{span:?}");
    }
    let all = format!("{:?}", collector.0.lock().unwrap());
    for secret in SECRETS {
        assert!(!all.contains(secret), "{secret}");
    }
}

/// The value of a series of the daemon's metrics; 0 if it is not there.
fn metric(socket: &Path, series: &str) -> f64 {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_requests_are_answered_and_spans_are_counted_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let [socket, metrics] = ["otlp.sock", "metrics.sock"].map(|name| folder.path().join(name));
    // Once nobody is there, once somebody who takes connections and never answers.
    for is_there in [false, true] {
        let _silent = is_there.then(|| UnixListener::bind(&socket).unwrap());
        let mut daemon = Daemon::start_with(&[
            ("VOUCH_TRACES__ENDPOINT", &format!("unix:{}", socket.display())),
            ("VOUCH_TRACES__SAMPLE_RATIO", "1"),
            ("VOUCH_METRICS__SOCKET", metrics.to_str().unwrap()),
        ]);
        let mut client = daemon.client().await;
        let request = DetectFacesRequest { image: photo("selfie.jpg") };
        client.detect_faces(request.clone()).await.unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while metric(&metrics, "vouch_trace_spans_total{result=\"failed\"}") < 3.0 {
            assert!(Instant::now() < until);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        client.detect_faces(request).await.unwrap();
        drop(client);
        let asked = Instant::now();
        daemon.terminate();
        assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_collector_elsewhere_is_refused_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = vouchd(&folder.path().join("v.sock"));
    let refused = command.env("VOUCH_TRACES__ENDPOINT", "http://192.0.2.1:4317").output().unwrap();
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("traces.allow_network"), "{refused:?}");
}
