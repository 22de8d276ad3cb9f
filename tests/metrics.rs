//! Metrics of the real daemon: what is counted, that labels stay few, and that dashboard and alerts name what there is.

mod common;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Daemon, connect_as, photo, root, verification, vouchd};
use tonic::Code;
use vouch::api::proto::{DetectFacesRequest, VerifyRequest};
use vouch::ops::metrics::{CALLER_PAUSE_SECONDS, CALLER_REFUSED, DECODER_FAILURES, ERRORS};

fn start(socket: &Path) -> Daemon {
    Daemon::start_with(&[("VOUCH_METRICS__SOCKET", socket.to_str().unwrap())])
}

/// The answer to a request without headers of its own, as HTTP/1.0 has it: it ends with the connection.
fn ask(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn scrape(socket: &Path) -> String {
    let answer = ask(UnixStream::connect(socket).unwrap(), "/metrics");
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.contains("text/plain; version=0.0.4"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The value of the series that is written exactly so.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_errors_outcomes_stages_and_models_are_counted_under_few_labels() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("metrics.sock");
    let daemon = start(&socket);
    // Callers would learn from them what others ask for.
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = daemon.client().await;
    for _ in 0..2 {
        let mut events = client.verify(verification()).await.unwrap().into_inner();
        while events.message().await.unwrap().is_some() {}
    }
    let broken = DetectFacesRequest { image: Bytes::from_static(b"\xff\xd8\xff no picture") };
    assert_eq!(client.detect_faces(broken).await.unwrap_err().code(), Code::InvalidArgument);
    drop(client.verify(verification()).await.unwrap());

    let mut late = tonic::Request::new(DetectFacesRequest { image: photo("selfie.jpg") });
    late.metadata_mut().insert("grpc-timeout", "2m".parse().unwrap());
    client.detect_faces(late).await.unwrap_err();

    // What the caller has left ends when the daemon notices.
    let until = Instant::now() + Duration::from_secs(20);
    let text = loop {
        let text = scrape(&socket);
        let ended = ["rpc=\"Verify\",code=\"CANCELLED\"", "rpc=\"DetectFaces\",code=\"DEADLINE_EXCEEDED\""];
        if ended.iter().all(|labels| text.contains(&format!("vouch_requests_total{{{labels}}} 1"))) {
            break text;
        }
        assert!(Instant::now() < until, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(value(&text, "vouch_requests_total{rpc=\"Verify\",code=\"OK\"}"), 2.0);
    assert_eq!(value(&text, "vouch_requests_total{rpc=\"DetectFaces\",code=\"INVALID_ARGUMENT\"}"), 1.0);
    assert_eq!(value(&text, "vouch_request_seconds_count{rpc=\"Verify\"}"), 3.0);
    assert_eq!(value(&text, "vouch_requests_total{rpc=\"DetectFaces\",code=\"DEADLINE_EXCEEDED\"}"), 1.0);
    let reason = text.lines().find(|line| line.starts_with("vouch_errors_total{code=\"INVALID_ARGUMENT\"")).unwrap();
    assert!(reason.contains("reason=\"IMAGE_"), "{reason}");
    assert!(value(&text, "vouch_checks_total{check=\"face_match\",outcome=\"PASS\"}") >= 2.0);
    assert!(value(&text, "vouch_stage_seconds_count{stage=\"decode\"}") >= 4.0);
    assert!(value(&text, "vouch_stage_seconds_bucket{stage=\"decode\",le=\"+Inf\"}") >= 4.0);
    assert!(value(&text, "vouch_model_run_seconds_count{role=\"face_detector\"}") >= 4.0);
    assert!(value(&text, "vouch_model_batch_items_sum{role=\"face_detector\"}") >= 4.0);
    assert!(value(&text, "vouch_admission_wait_seconds_count") >= 3.0);
    assert_eq!(value(&text, "vouch_check_calibrated{check=\"face_match\"}"), 1.0);
    assert!(value(&text, "process_resident_memory_bytes") > 5e7);
    assert!(value(&text, "vouch_decoder_processes") >= 2.0 && value(&text, "vouch_decoder_resident_bytes") > 1e6);
    assert!(value(&text, "process_open_fds") > 5.0 && value(&text, "process_threads") > 5.0);

    // Callers cannot make series: paths, names of checks and references that they choose are no labels.
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let before = series(&scrape(&socket));
    for number in 0..20 {
        let mut request = verification();
        request.checks[0].name = format!("check_{number}");
        request.client_reference = format!("person-{number}");
        client.verify(request).await.unwrap_err();
        let mut channel = tonic::client::Grpc::new(common::channel_of(&daemon.socket()).await);
        channel.ready().await.unwrap();
        let path = format!("/vouch.v1.Verification/Guess{number}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<VerifyRequest, VerifyRequest>::default();
        let unknown = channel.unary(tonic::Request::new(VerifyRequest::default()), path, codec).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unimplemented);
    }
    let text = scrape(&socket);
    assert!(!text.contains("person-") && !text.contains("check_1") && !text.contains("Guess"), "{text}");
    // One for calls of that kind that end so, the time of the others (buckets, sum, count), and one reason.
    assert!(series(&text) <= before + 24, "{before} and {}", series(&text));
    assert!(ask(UnixStream::connect(&socket).unwrap(), "/other").starts_with("HTTP/1.0 404"));
}

#[test]
#[ignore = "needs root, to connect as another user"]
fn a_group_reads_metrics_where_it_is_named_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("metrics.sock");
    let daemon = start(&socket);
    assert!(connect_as(&socket, 65_534, 23_001, &[]).is_err());
    drop(daemon);
    let variables = [("VOUCH_METRICS__SOCKET", socket.to_str().unwrap()), ("VOUCH_METRICS__GROUP", "23001")];
    let _daemon = Daemon::start_with(&variables);
    connect_as(&socket, 65_534, 65_534, &[23_001]).unwrap();
    assert!(connect_as(&socket, 65_534, 65_534, &[]).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loopback_address_is_served_only_where_it_is_configured() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = Daemon::start_with(&[("VOUCH_METRICS__LISTEN", &free.to_string())]);
    let answer = ask(std::net::TcpStream::connect(free).unwrap(), "/metrics");
    assert!(answer.contains("vouch_build_info"), "{answer}");
    let listens = |daemon: &Daemon| {
        let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", daemon.child.id())).unwrap();
        sockets.contains(&format!(":{:04X} 00000000:0000 0A", free.port()))
    };
    assert!(listens(&daemon));
    drop(daemon);
    assert!(!listens(&Daemon::start()));

    let folder = tempfile::tempdir().unwrap();
    let refused = vouchd(&folder.path().join("v.sock")).env("VOUCH_METRICS__LISTEN", "0.0.0.0:9477").output().unwrap();
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("metrics.listen"), "{refused:?}");
}

/// Names of series in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.starts_with("vouch_") || word.starts_with("process_"))
        .map(|word| ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).into())
        .collect()
}

#[test]
fn dashboard_alerts_and_docs_name_what_is_counted_and_the_docs_name_all() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let counted = names(&read("src/ops/metrics.rs").lines().filter(|l| l.starts_with("pub const")).collect::<String>());
    assert!(counted.len() > 25, "{counted:?}");
    for file in ["systemd/monitoring/vouch-dashboard.json", "systemd/monitoring/vouch-alerts.yml"] {
        let named = names(&read(file));
        assert!(named.len() >= 8 && named.is_subset(&counted), "{file}: {named:?}");
        // What an attack shows in.
        let attack = [DECODER_FAILURES, CALLER_REFUSED, CALLER_PAUSE_SECONDS, ERRORS].map(String::from);
        assert!(named.is_superset(&BTreeSet::from(attack)), "{file}: {named:?}");
    }
    assert_eq!(names(&read("docs/metrics.md")), counted);
    serde_json::from_str::<serde_json::Value>(&read("systemd/monitoring/vouch-dashboard.json")).unwrap();
}
