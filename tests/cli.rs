//! The `vouch` binary against a daemon played by this file: what it sends, what it prints, how it ends.
//!
//! No model and no real daemon is needed. The played daemon acts by the caller's reference (`client_reference`) of the request, or, where a
//! command has none, by what its first picture holds.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};
use vouch::api::proto::verification_server::{Verification, VerificationServer};
use vouch::api::proto::verify_event::Event;
use vouch::api::proto::{
    self, Accepted, Calibrated, CheckPassiveLivenessRequest, CheckPassiveLivenessResponse, CheckResult, CheckStatus,
    DetectFacesRequest, DetectFacesResponse, EstimateAgeRequest, EstimateAgeResponse, Face, FaceQuality,
    GetStatusRequest, GetStatusResponse, MatchFacesRequest, MatchFacesResponse, MediaKind, ModelRef, ModelStatus,
    OperatingPoint, Outcome, Point, Progress, ReadDocumentRequest, ReadDocumentResponse, ScanMrzEvent, ScanMrzRequest,
    State, Summary, VerifyEvent, VerifyLiveEvent, VerifyLiveRequest, VerifyRequest, Warning,
};

// ---------------------------------------------------------------- the played daemon

#[derive(Default)]
struct Daemon {
    /// What arrived, for the test to look at.
    verify_request: Mutex<Option<VerifyRequest>>,
    grpc_timeout: Mutex<Option<String>>,
    match_request: Mutex<Option<MatchFacesRequest>>,
    age_request: Mutex<Option<EstimateAgeRequest>>,
    document_request: Mutex<Option<ReadDocumentRequest>>,
    /// Holds back everything after the first event until the test has seen it.
    go_on: Notify,
    draining: bool,
    /// Verifications so far.
    verified: AtomicU64,
    /// Connections so far.
    connections: AtomicU64,
}

fn result(check: &str, outcome: Outcome) -> CheckResult {
    CheckResult {
        check: check.into(),
        outcome: outcome.into(),
        score: Some(0.7512),
        score_kind: "cosine_similarity".into(),
        calibrated: Some(Calibrated { kind: "fmr".into(), value: 1.2e-6, low_95: 0.0, high_95: 3.1e-5 }),
        operating_point: Some(OperatingPoint {
            name: "fmr_1e-4".into(),
            threshold: 0.42,
            rates: [("fmr".into(), 1e-4), ("fnmr".into(), 0.0123)].into(),
        }),
        warnings: vec![Warning {
            code: "MULTIPLE_FACES".into(),
            message: "2 faces were found; the largest was used".into(),
            media: MediaKind::Selfie.into(),
        }],
        measurements: [("selfie_face_width_px".into(), 240.0)].into(),
        models: vec![ModelRef { role: "face_embedder".into(), name: "sface".into(), sha256: "ab".repeat(32) }],
        calibration_sha256: "cd".repeat(32),
        duration_ms: 21.5,
    }
}

fn refusal(kind: &str) -> Status {
    let mut details = ErrorDetails::new();
    match kind {
        "bad-input" => {
            details
                .set_error_info("IMAGE_TRUNCATED", "vouch", [])
                .add_bad_request_violation("media[0].data", "the JPEG ends before its last line");
            Status::with_error_details(Code::InvalidArgument, "the request cannot be used", details)
        }
        "overload" => {
            details.set_error_info("OVERLOADED", "vouch", []).set_retry_info(Some(Duration::from_millis(250)));
            Status::with_error_details(Code::ResourceExhausted, "at the limit of waiting requests", details)
        }
        "draining" => {
            details.set_error_info("DRAINING", "vouch", []).set_retry_info(Some(Duration::from_secs(2)));
            Status::with_error_details(Code::Unavailable, "the daemon is draining", details)
        }
        "denied" => {
            details.set_error_info("CALLER_NOT_ALLOWED", "vouch", []);
            Status::with_error_details(Code::PermissionDenied, "this user is not allowed to use the daemon", details)
        }
        "internal" => {
            details.set_error_info("INTERNAL", "vouch", [("error_id".to_owned(), "7f3a".to_owned())]);
            Status::with_error_details(Code::Internal, "internal error", details)
        }
        other => panic!("no such refusal: {other}"),
    }
}

/// The service must be a type of this crate.
struct Service(Arc<Daemon>);

#[tonic::async_trait]
impl Verification for Service {
    type VerifyStream = ReceiverStream<Result<VerifyEvent, Status>>;
    type ScanMrzStream = tokio_stream::Empty<Result<ScanMrzEvent, Status>>;

    type VerifyLiveStream = tokio_stream::Empty<Result<VerifyLiveEvent, Status>>;

    async fn verify_live(
        &self,
        _: Request<Streaming<VerifyLiveRequest>>,
    ) -> Result<Response<Self::VerifyLiveStream>, Status> {
        unreachable!("not called by these tests")
    }

    async fn scan_mrz(&self, _: Request<Streaming<ScanMrzRequest>>) -> Result<Response<Self::ScanMrzStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        *self.0.grpc_timeout.lock().unwrap() =
            request.metadata().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
        let request = request.into_inner();
        let mut play = request.client_reference.clone();
        if play.is_empty()
            && let Some(picture) = request.media.first()
        {
            play = String::from_utf8_lossy(&picture.data).into_owned();
        }
        *self.0.verify_request.lock().unwrap() = Some(request);
        let is_odd = self.0.verified.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let play = match play.split_once('/') {
            Some((_, odd)) if is_odd => odd.to_owned(),
            Some((even, _)) => even.to_owned(),
            None => play,
        };
        if let Some(kind) = play.strip_prefix("refuse:") {
            return Err(refusal(kind));
        }
        let (sender, receiver) = mpsc::channel(1);
        let daemon = Arc::clone(&self.0);
        tokio::spawn(async move {
            let send = async |elapsed_ms, event| {
                // The client may have left on purpose.
                let _ = sender.send(Ok(VerifyEvent { elapsed_ms, event: Some(event) })).await;
            };
            let accepted = Accepted {
                verification_id: "0193c2".into(),
                client_reference: play.clone(),
                checks: vec!["face_match".into()],
            };
            send(0.2, Event::Accepted(accepted)).await;
            let outcome = match play.as_str() {
                "hold" => {
                    daemon.go_on.notified().await;
                    Outcome::Pass
                }
                "silent" => return std::future::pending().await,
                "cut" => return,
                "slow" => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Outcome::Pass
                }
                "fail-midway" => {
                    let _ = sender.send(Err(refusal("internal"))).await;
                    return;
                }
                name => Outcome::from_str_name(&format!("OUTCOME_{name}")).unwrap_or(Outcome::Pass),
            };
            let progress = Progress { stage: "decode".into(), media: MediaKind::Selfie.into(), duration_ms: 11.8 };
            send(12.0, Event::Progress(progress)).await;
            send(40.0, Event::Result(result("face_match", outcome))).await;
            // What a newer daemon might send: an event of a kind unknown here.
            let _ = sender.send(Ok(VerifyEvent { elapsed_ms: 41.0, event: None })).await;
            let summary = Summary {
                outcome: outcome.into(),
                outcomes: [("face_match".into(), outcome.into())].into(),
                duration_ms: 42.0,
            };
            send(42.0, Event::Summary(summary.clone())).await;
            if play == "twice" {
                send(43.0, Event::Summary(summary)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn detect_faces(&self, _: Request<DetectFacesRequest>) -> Result<Response<DetectFacesResponse>, Status> {
        let landmarks = vec![Point { x: 20.0, y: 30.0 }; 5];
        Ok(Response::new(DetectFacesResponse {
            faces: vec![
                Face {
                    r#box: Some(proto::Box { x: 10.0, y: 12.0, width: 30.0, height: 40.0 }),
                    score: 0.93,
                    landmarks: landmarks.clone(),
                    quality: Some(FaceQuality { yaw_deg: -3.0, inter_eye_px: 14.0, ..Default::default() }),
                },
                Face {
                    r#box: Some(proto::Box { x: 70.0, ..Default::default() }),
                    score: 0.6,
                    landmarks,
                    quality: None,
                },
            ],
            width_px: 240,
            height_px: 160,
            ..Default::default()
        }))
    }

    async fn match_faces(&self, request: Request<MatchFacesRequest>) -> Result<Response<MatchFacesResponse>, Status> {
        *self.0.match_request.lock().unwrap() = Some(request.into_inner());
        Ok(Response::new(MatchFacesResponse { result: Some(result("face_match", Outcome::Fail)) }))
    }

    async fn check_passive_liveness(
        &self,
        _: Request<CheckPassiveLivenessRequest>,
    ) -> Result<Response<CheckPassiveLivenessResponse>, Status> {
        let result = Some(result("passive_liveness", Outcome::Inconclusive));
        Ok(Response::new(CheckPassiveLivenessResponse { result }))
    }

    async fn estimate_age(
        &self,
        request: Request<EstimateAgeRequest>,
    ) -> Result<Response<EstimateAgeResponse>, Status> {
        *self.0.age_request.lock().unwrap() = Some(request.into_inner());
        Ok(Response::new(EstimateAgeResponse { result: Some(result("age_estimation", Outcome::Review)) }))
    }

    async fn read_document(
        &self,
        request: Request<ReadDocumentRequest>,
    ) -> Result<Response<ReadDocumentResponse>, Status> {
        let request = request.into_inner();
        let page = proto::DocumentPage {
            width_px: 320,
            height_px: 200,
            barcodes: vec![proto::Barcode {
                symbology: "QR_CODE".into(),
                payload: bytes::Bytes::from_static(b"a\x1b[2Jb"),
                text: "a\x1b[2Jb".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let pages = if request.parts.is_empty() { vec![proto::DocumentPage::default()] } else { vec![page] };
        *self.0.document_request.lock().unwrap() = Some(request);
        Ok(Response::new(ReadDocumentResponse { pages, ..Default::default() }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let state = if self.0.draining { State::Draining } else { State::Ready };
        Ok(Response::new(GetStatusResponse {
            version: "0.1.0".into(),
            state: state.into(),
            device_requested: "cpu".into(),
            device_in_use: "CPUExecutionProvider".into(),
            models: vec![ModelStatus { role: "face_embedder".into(), name: "sface".into(), ..Default::default() }],
            checks: vec![CheckStatus {
                name: "face_match".into(),
                default_operating_point: "fmr_1e-4".into(),
                operating_points: vec![OperatingPoint { name: "fmr_1e-4".into(), ..Default::default() }],
                ..Default::default()
            }],
            resident_bytes: 3 << 20,
            ..Default::default()
        }))
    }
}

/// The played daemon on its own socket, with two picture files beside it.
struct Stage {
    daemon: Arc<Daemon>,
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn new() -> Self {
        Self::with(Daemon::default())
    }

    fn with(daemon: Daemon) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.jpg"), b"portrait bytes").unwrap();
        std::fs::write(folder.path().join("b.jpg"), b"selfie bytes").unwrap();
        let daemon = Arc::new(daemon);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(folder.path().join("vouch.sock")).unwrap()
        };
        let counted = Arc::clone(&daemon);
        let incoming = UnixListenerStream::new(listener).map(move |connection| {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            connection
        });
        let service = VerificationServer::new(Service(Arc::clone(&daemon))).max_decoding_message_size(32 << 20);
        let (reporter, health) = tonic_health::server::health_reporter();
        runtime.block_on(reporter.set_serving::<VerificationServer<Service>>());
        runtime.spawn(
            tonic::transport::Server::builder().add_service(health).add_service(service).serve_with_incoming(incoming),
        );
        Self { daemon, folder, runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        vouch(&self.path("vouch.sock"), self.folder.path(), arguments)
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    /// `vouch verify` of both pictures with the given reference, which tells the played daemon what to do.
    fn verify(&self, play: &str, more: &[&str]) -> Ended {
        let mut arguments = vec!["verify", "--portrait", "a.jpg", "--selfie", "b.jpg", "--client-reference", play];
        arguments.extend(more);
        self.run(&arguments)
    }
}

fn vouch(socket: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouch"));
    command.args(arguments).current_dir(folder).env("VOUCH_SOCKET", socket).stdin(Stdio::null());
    command
}

#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("the process ended by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

// ---------------------------------------------------------------- verify

#[test]
fn verify_prints_each_event_as_text() {
    let ended = Stage::new().verify("PASS", &[]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    for expected in [
        "      0.2 ms  accepted 0193c2 (face_match)",
        "decode   selfie        11.8 ms",
        "     40.0 ms  PASS face_match",
        "0.7512 cosine_similarity",
        "fmr 1.2e-6 (95 %: 0 to 3.1e-5)",
        "fmr_1e-4, threshold 0.4200, measured fmr 1.0e-4, fnmr 1.23 %",
        "MULTIPLE_FACES (selfie): 2 faces were found; the largest was used",
        "21.5 ms with sface",
        "     42.0 ms  PASS in 42.0 ms: face_match PASS",
    ] {
        assert!(ended.out.contains(expected), "{expected:?} is not in\n{}", ended.out);
    }
    assert!(!ended.out.contains('\x1b'), "colour in a pipe");
}

#[test]
fn verify_prints_each_event_as_a_json_line() {
    let ended = Stage::new().verify("REVIEW", &["--json"]);
    assert_eq!(ended.code, 2);
    let lines = ended.json_lines();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["accepted", "progress", "result", "summary"]);
    assert_eq!(
        lines[1],
        json!({"event": "progress", "elapsed_ms": 12.0, "stage": "decode", "media": "SELFIE", "duration_ms": 11.8})
    );
    assert_eq!(lines[2]["outcome"], "REVIEW");
    assert_eq!(lines[2]["operating_point"]["rates"], json!({"fmr": 1e-4, "fnmr": 0.0123}));
    assert_eq!(lines[2]["warnings"][0]["code"], "MULTIPLE_FACES");
    assert_eq!(lines[3]["outcomes"], json!({"face_match": "REVIEW"}));
}

#[test]
fn events_are_printed_before_the_next_one_exists() {
    let stage = Stage::new();
    let mut child = stage
        .command(&["verify", "--selfie", "b.jpg", "--client-reference", "hold"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    // The daemon sends nothing more until this line has been read.
    out.read_line(&mut first).unwrap();
    assert!(first.contains("accepted 0193c2"), "{first}");
    stage.daemon.go_on.notify_one();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("PASS face_match"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn exit_code_tells_the_outcome() {
    let stage = Stage::new();
    for (outcome, code) in [("PASS", 0), ("FAIL", 1), ("REVIEW", 2), ("INCONCLUSIVE", 3), ("SKIPPED", 3)] {
        assert_eq!(stage.verify(outcome, &[]).code, code, "{outcome}");
    }
}

#[test]
fn request_holds_what_the_command_line_says() {
    let stage = Stage::new();
    let ended = stage.verify(
        "PASS",
        &[
            "--check",
            "face_match:fmr_1e-3",
            "--check",
            "age_estimation",
            "--set",
            "age_estimation.minimum_age_years=21",
            "--timeout",
            "7s",
        ],
    );
    assert_eq!(ended.code, 0, "{}", ended.err);
    let request = stage.daemon.verify_request.lock().unwrap().clone().unwrap();
    let media: Vec<_> = request.media.iter().map(|media| (media.kind(), media.data.to_vec())).collect();
    assert_eq!(
        media,
        [(MediaKind::Selfie, b"selfie bytes".to_vec()), (MediaKind::Portrait, b"portrait bytes".to_vec())]
    );
    assert_eq!(request.checks[0].name, "face_match");
    assert_eq!(request.checks[0].operating_point, "fmr_1e-3");
    assert_eq!(request.checks[1].parameters, [("minimum_age_years".to_owned(), 21.0)].into());
    // gRPC's own notation; the daemon must see the caller's 7 s.
    assert_eq!(stage.daemon.grpc_timeout.lock().unwrap().as_deref(), Some("7000000u"));
}

#[test]
fn setting_of_a_check_that_was_not_named_is_refused() {
    let ended = Stage::new().verify("PASS", &["--set", "age_estimation.minimum_age_years=21"]);
    assert_eq!(ended.code, 65);
    assert!(ended.err.contains("--check age_estimation"), "{}", ended.err);
}

// ---------------------------------------------------------------- errors

#[test]
fn refusals_are_explained_in_words_and_told_by_the_exit_code() {
    let stage = Stage::new();
    let table: [(&str, i32, &[&str]); 5] = [
        ("bad-input", 65, &["media[0].data (b.jpg): the JPEG ends before its last line", "reason: IMAGE_TRUNCATED"]),
        ("overload", 75, &["at the limit of waiting requests", "try again in 250 ms"]),
        ("draining", 75, &["the daemon is draining", "try again in 2000 ms"]),
        ("denied", 77, &["this user is not allowed to use the daemon"]),
        ("internal", 70, &["internal error", "error_id: 7f3a"]),
    ];
    for (kind, code, words) in table {
        let ended = stage.verify(&format!("refuse:{kind}"), &[]);
        assert_eq!((ended.code, ended.out.as_str()), (code, ""), "{kind}: {}", ended.err);
        for expected in words {
            assert!(ended.err.contains(expected), "{kind}: {expected:?} is not in\n{}", ended.err);
        }
        for dump in ["Status", "Some(", "MetadataMap", "ErrorDetails"] {
            assert!(!ended.err.contains(dump), "{kind}: looks like a debug dump:\n{}", ended.err);
        }
    }
}

#[test]
fn refusal_is_the_last_json_line() {
    let ended = Stage::new().verify("refuse:bad-input", &["--json"]);
    assert_eq!(
        ended.json_lines(),
        [json!({
            "event": "error",
            "code": "INVALID_ARGUMENT",
            "exit_code": 65,
            "message": "the request cannot be used",
            "reason": "IMAGE_TRUNCATED",
            "field_violations": [{"field": "media[0].data", "description": "the JPEG ends before its last line"}],
            "retry_after_ms": null,
        })]
    );
}

#[test]
fn stream_that_breaks_off_is_no_success() {
    let stage = Stage::new();
    let cut = stage.verify("cut", &[]);
    assert_eq!(cut.code, 69, "{}", cut.err);
    assert!(cut.err.contains("before its summary"), "{}", cut.err);
    let failed = stage.verify("fail-midway", &["--json"]);
    assert_eq!(failed.code, 70);
    let events: Vec<_> = failed.json_lines().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["accepted", "error"]);
}

#[test]
fn deadline_ends_a_silent_stream() {
    let started = Instant::now();
    let ended = Stage::new().verify("silent", &["--timeout", "300ms"]);
    assert_eq!(ended.code, 75, "{}", ended.err);
    assert!(ended.err.contains("the time was up"), "{}", ended.err);
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

#[test]
fn daemon_that_is_not_there_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.sock");
    let ended = Ended::from(vouch(&missing, folder.path(), &["status"]).output().unwrap());
    assert_eq!(ended.code, 69);
    assert!(ended.err.contains("is vouchd running?"), "{}", ended.err);

    let dead = folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let ended = Ended::from(vouch(&dead, folder.path(), &["status", "--json"]).output().unwrap());
    assert_eq!(ended.code, 69);
    assert!(ended.err.contains("nobody listens there"), "{}", ended.err);
    // Root may open any socket, so the case of a forbidden one can only be played by another user.
    if !nix::unistd::geteuid().is_root() {
        let closed = Stage::new();
        std::fs::set_permissions(closed.path("vouch.sock"), PermissionsExt::from_mode(0o000)).unwrap();
        assert_eq!(closed.run(&["status"]).code, 77);
    }
}

#[test]
fn files_that_cannot_be_sent_are_refused_before_the_call() {
    let stage = Stage::new();
    let huge = std::fs::File::create(stage.path("huge.jpg")).unwrap();
    huge.set_len((32 << 20) + 1).unwrap();
    let half = std::fs::File::create(stage.path("half.jpg")).unwrap();
    half.set_len(17 << 20).unwrap();
    for (arguments, code, words) in [
        (["match", "huge.jpg", "a.jpg"], 65, "larger than the 32 MiB"),
        (["match", "half.jpg", "half.jpg"], 65, "34.0 MiB together"),
        (["match", "absent.jpg", "a.jpg"], 66, "absent.jpg: no such file"),
        (["match", ".", "a.jpg"], 66, "is a directory"),
    ] {
        let ended = stage.run(&arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{arguments:?}: {}", ended.err);
    }
    assert!(stage.daemon.match_request.lock().unwrap().is_none(), "something was sent");
}

#[test]
fn wrong_command_line_is_not_taken_for_a_review() {
    let stage = Stage::new();
    for arguments in [&["verify", "--timeout", "10"][..], &["verify", "--check", ""], &["nonsense"], &[]] {
        assert_eq!(stage.run(arguments).code, 64, "{arguments:?}");
    }
    let help = stage.run(&["verify", "--help"]);
    assert_eq!(help.code, 0);
    assert!(help.out.contains("2   REVIEW"), "{}", help.out);
}

#[test]
fn reader_that_leaves_gets_no_complaint() {
    let stage = Stage::new();
    let mut child = stage
        .command(&["verify", "--selfie", "b.jpg", "--client-reference", "hold"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    stage.daemon.go_on.notify_one();
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (74, ""));
}

// ---------------------------------------------------------------- the other commands

#[test]
fn unary_commands_share_the_result_and_the_exit_codes() {
    let stage = Stage::new();
    let matched = stage.run(&["match", "b.jpg", "a.jpg", "--operating-point", "fmr_1e-3", "--json"]);
    assert_eq!(matched.code, 1, "{}", matched.err);
    assert_eq!(matched.json_lines()[0]["check"], "face_match");
    let sent = stage.daemon.match_request.lock().unwrap().clone().unwrap();
    assert_eq!((&sent.probe[..], &sent.reference[..]), (&b"selfie bytes"[..], &b"portrait bytes"[..]));
    assert_eq!(sent.operating_point, "fmr_1e-3");

    let live = stage.run(&["liveness", "b.jpg"]);
    assert_eq!(live.code, 3);
    assert!(live.out.starts_with("INCONCLUSIVE passive_liveness\n"), "{}", live.out);

    let age = stage.run(&["age", "b.jpg", "--minimum-age", "21"]);
    assert_eq!(age.code, 2);
    let sent = stage.daemon.age_request.lock().unwrap().clone().unwrap();
    assert_eq!((sent.minimum_age_years, sent.challenge_buffer_years), (Some(21.0), None));
}

#[test]
fn faces_are_listed_and_drawn_in_upright_coordinates() {
    let stage = Stage::new();
    // Stored lying on its side: 160 × 240 px with EXIF orientation 6 is shown as 240 × 160.
    let mut exif = b"MM\0\x2a\0\0\0\x08\0\x01".to_vec();
    exif.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0");
    let file = std::fs::File::create(stage.path("lying.jpg")).unwrap();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(file, 95);
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif).unwrap();
    encoder.encode_image(&image::RgbImage::from_pixel(160, 240, image::Rgb([128; 3]))).unwrap();

    let ended = stage.run(&["faces", "lying.jpg", "--draw", "out.png"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(ended.out.starts_with("2 faces in 240 × 160 px"), "{}", ended.out);
    let drawn = image::open(stage.path("out.png")).unwrap().into_rgb8();
    assert_eq!(drawn.dimensions(), (240, 160));
    assert_eq!(drawn[(25, 11)], image::Rgb([60, 255, 60]), "upper edge of the main face");
    assert_eq!(drawn[(20, 30)], image::Rgb([0, 255, 255]), "landmark");

    let listed = stage.run(&["faces", "lying.jpg", "--json"]).json_lines();
    assert_eq!(listed[0]["faces"][0]["box"], json!({"x": 10.0, "y": 12.0, "width": 30.0, "height": 40.0}));
    assert_eq!(listed[0]["faces"][1]["quality"], Value::Null);
}

#[test]
fn picture_that_cannot_be_drawn_on_is_an_input_error() {
    let ended = Stage::new().run(&["faces", "a.jpg", "--draw", "out.png"]);
    assert_eq!(ended.code, 65);
    assert!(ended.err.contains("a.jpg cannot be drawn on"), "{}", ended.err);
}

#[test]
fn status_tells_models_checks_and_readiness() {
    let ready = Stage::new().run(&["status"]);
    assert_eq!(ready.code, 0);
    for expected in ["vouchd 0.1.0 READY", "3.0 MiB resident", "face_embedder", "not calibrated", "* fmr_1e-4"] {
        assert!(ready.out.contains(expected), "{expected:?} is not in\n{}", ready.out);
    }
    let draining = Stage::with(Daemon { draining: true, ..Default::default() }).run(&["status", "--json"]);
    assert_eq!(draining.code, 75);
    assert_eq!(draining.json_lines()[0]["state"], "DRAINING");
}

// ---------------------------------------------------------------- bench

impl Stage {
    /// `vouch bench selfie` in short steps, of a daemon that does what the selfie says: one word, or two for even and odd requests.
    fn bench(&self, play: &str, more: &[&str]) -> (Ended, Value) {
        std::fs::write(self.path("selfie.jpg"), play).unwrap();
        let mut arguments = vec!["bench", "selfie", "--selfie", "selfie.jpg", "--reference", "a.jpg"];
        arguments.extend(["--json", "bench.json"]);
        if !more.contains(&"--warm-up") {
            arguments.extend(["--warm-up", "50ms"]);
        }
        if !more.contains(&"--requests") && !more.contains(&"--duration") {
            arguments.extend(["--duration", "300ms"]);
        }
        arguments.extend(more);
        let _ = std::fs::remove_file(self.path("bench.json"));
        let ended = self.run(&arguments);
        let written = std::fs::read(self.path("bench.json")).unwrap_or_else(|_| b"null".to_vec());
        (ended, serde_json::from_slice(&written).unwrap())
    }
}

#[test]
fn bench_searches_saturation_unless_a_load_is_given() {
    let stage = Stage::new();
    let (ended, found) = stage.bench("slow", &["--html", "bench.html"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("throughput at saturation"), "{}", ended.out);
    let steps = found["steps"].as_array().unwrap();
    let is_closed = |step: &&Value| step["loop"] == "closed" && step["is_search"] == true;
    let search: Vec<&Value> = steps.iter().take_while(is_closed).collect();
    // Nothing keeps callers from being answered side by side, so two are answered more than one.
    assert!(search.len() >= 2, "{steps:?}");
    assert_eq!([&search[0]["callers"], &search[1]["callers"]], [1, 2]);
    let open: Vec<&Value> = steps[search.len()..].iter().map(|step| &step["share_of_saturation"]).collect();
    assert_eq!(open, [0.5, 0.7, 0.9, 3.0]);
    let saturation = found["saturation"]["per_second"].as_f64().unwrap();
    let offered = steps.last().unwrap()["offered_per_second"].as_f64().unwrap();
    assert!((offered - 3.0 * saturation).abs() < 1e-6 * offered);
    let html = std::fs::read_to_string(stage.path("bench.html")).unwrap();
    assert_eq!(html.matches("<svg class=\"drawing\"").count(), 3);
}

#[test]
fn bench_fails_where_one_request_has_two_outcomes() {
    let stage = Stage::new();
    let (ended, found) = stage.bench("PASS/FAIL", &["--callers", "2", "--requests", "20"]);
    assert_eq!(ended.code, 70, "{ended:?}");
    assert!(ended.err.contains("answers with another outcome than the first"), "{}", ended.err);
    let step = &found["steps"][0];
    let count = |key: &str| step[key].as_u64().unwrap();
    assert_eq!((count("sent"), count("answered") + count("wrong")), (20, 20));
    // Two callers may overtake each other where the window begins.
    assert!((8..=12).contains(&count("wrong")), "{step}");
    assert_eq!(step["latency_ms"]["count"], step["answered"]);
}

#[test]
fn bench_counts_refusals_and_failures_apart() {
    let stage = Stage::new();
    // The first request of all is even, and answered.
    let (ended, found) = stage.bench("PASS/refuse:overload", &["--rate", "100", "--connections", "2"]);
    assert_eq!(ended.code, 0, "overload is a result: {ended:?}");
    let step = &found["steps"][0];
    assert_eq!(step["sent"], 30, "{step}");
    let count = |key: &str| step[key].as_u64().unwrap();
    assert_eq!(count("answered") + count("refused"), 30);
    // Half of them, but for those of the warm-up that arrive among them on a busy machine.
    assert!((12..=18).contains(&count("refused")), "{step}");
    assert_eq!(step["retry_delay_ms"]["p50"].as_f64().unwrap().round(), 250.0);
    assert!(step["refusal_ms"]["p99"].as_f64().unwrap() > 0.0);

    let (ended, found) = Stage::new().bench("PASS/refuse:internal", &["--callers", "1", "--requests", "4"]);
    assert_eq!(ended.code, 70, "{ended:?}");
    assert_eq!(found["steps"][0]["failed"], json!({ "INTERNAL": 2 }));
    for half in ["PASS/cut", "PASS/twice"] {
        let (ended, found) = Stage::new().bench(half, &["--callers", "1", "--requests", "4"]);
        assert_eq!(ended.code, 70, "{half}: {ended:?}");
        assert_eq!(found["steps"][0]["failed"], json!({ "DATA_LOSS": 2 }), "{half}");
    }
    // Refused at the first request: there is nothing to measure.
    let (ended, found) = Stage::new().bench("refuse:bad-input", &["--callers", "1"]);
    assert_eq!((ended.code, found), (65, Value::Null), "{ended:?}");
    assert!(ended.err.contains("media[0].data (selfie.jpg)"), "{}", ended.err);
}

#[test]
fn bench_tells_processor_time_of_the_process_that_it_is_given() {
    let stage = Stage::new();
    // The played daemon lives in this process, which is not called vouchd.
    let (ended, unknown) = stage.bench("PASS", &["--callers", "1", "--requests", "3"]);
    assert_eq!((ended.code, &unknown["daemon"]["pid"]), (0, &Value::Null));
    assert_eq!(unknown["steps"][0]["cost"]["daemon"], Value::Null);
    assert!(unknown["warnings"][0].as_str().unwrap().contains("name the daemon with --pid"), "{unknown}");
    let pid = std::process::id();
    let (ended, known) = stage.bench("PASS", &["--callers", "1", "--requests", "3", "--pid", &pid.to_string()]);
    assert_eq!((ended.code, &known["daemon"]["pid"]), (0, &json!(pid)), "{ended:?}");
    assert!(known["steps"][0]["cost"]["daemon"]["resident_bytes_peak"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn bench_reports_the_steps_done_when_it_is_interrupted() {
    let stage = Stage::new();
    std::fs::write(stage.path("selfie.jpg"), "slow").unwrap();
    let bench = ["bench", "selfie", "--selfie", "selfie.jpg", "--reference", "a.jpg", "--json", "-"];
    let interrupted = |more: &[&str], after: u64| {
        let mut command = stage.command(&[&bench[..], more].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let before = stage.daemon.verified.load(Ordering::Relaxed);
        let until = Instant::now() + Duration::from_secs(60);
        while stage.daemon.verified.load(Ordering::Relaxed) < before + after {
            assert!(Instant::now() < until, "nothing is asked");
            std::thread::sleep(Duration::from_millis(10));
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT)
            .unwrap();
        Ended::from(child.wait_with_output().unwrap())
    };
    let ended = interrupted(&["--callers", "1", "--duration", "10m"], 5);
    assert_eq!((ended.code, ended.out.as_str()), (75, ""), "{ended:?}");
    assert!(ended.err.contains("stopped before the first step was complete"), "{}", ended.err);

    // A caller that waits 20 ms for each answer has 17 at most in a step of 350 ms.
    let many = ["1"; 100].join(",");
    let ended = interrupted(&["--callers", &many, "--duration", "300ms", "--warm-up", "50ms"], 40);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    let found: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(found["interrupted"], true);
    assert!((1..100).contains(&found["steps"].as_array().unwrap().len()), "{found}");
}

#[test]
fn bench_finds_faults_in_the_warm_up_too() {
    for (play, words) in [("PASS/FAIL", "another outcome"), ("PASS/refuse:internal", "the daemon failed")] {
        let stage = Stage::new();
        // The second request of all comes in the warm-up, and the window is over before the third.
        let late = ["--rate", "0.5", "--warm-up", "300ms", "--duration", "300ms"];
        let (ended, found) = stage.bench(play, &late);
        assert_eq!(ended.code, 70, "{play}: {ended:?}");
        assert!(ended.err.contains(words), "{}", ended.err);
        let step = &found["steps"][0];
        assert_eq!((&step["sent"], &step["wrong"], &step["failed"]), (&json!(0), &json!(0), &json!({})), "{step}");
        let warm_up = &step["warm_up"];
        assert_eq!(warm_up["wrong"].as_u64().unwrap() + warm_up["failed"].as_object().unwrap().len() as u64, 1);
    }
}

#[test]
fn bench_keeps_its_connections_from_step_to_step() {
    let stage = Stage::new();
    let (ended, found) = stage.bench("PASS", &["--callers", "5,3,5", "--rate", "50", "--connections", "4"]);
    assert_eq!((ended.code, &found["steps"][3]["connections"]), (0, &json!(4)), "{ended:?}");
    // One asks for the state, and one finds out who listens.
    assert_eq!(stage.daemon.connections.load(Ordering::Relaxed), 2 + 4);
}

#[test]
fn bench_ends_and_reports_when_the_daemon_dies_in_a_step() {
    for load in [["--callers", "2"], ["--rate", "50"]] {
        let stage = Stage::new();
        std::fs::write(stage.path("selfie.jpg"), "slow").unwrap();
        let bench = ["bench", "selfie", "--selfie", "selfie.jpg", "--reference", "a.jpg", "--json", "-"];
        let long = ["--duration", "10m", "--warm-up", "50ms"];
        let mut command = stage.command(&[&bench[..], &load, &long].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while stage.daemon.verified.load(Ordering::Relaxed) < 20 {
            assert!(Instant::now() < until, "nothing is asked");
            std::thread::sleep(Duration::from_millis(10));
        }
        let Stage { runtime, folder: _folder, .. } = stage;
        drop(runtime);
        let died = Instant::now();
        let ended = Ended::from(child.wait_with_output().unwrap());
        assert!(died.elapsed() < Duration::from_secs(60), "it went on for {:?}", died.elapsed());
        assert_eq!(ended.code, 69, "{ended:?}");
        assert!(ended.err.contains("nobody listens there"), "{}", ended.err);
        let found: Value = serde_json::from_str(&ended.out).unwrap();
        let step = &found["steps"][0];
        assert_eq!(step["ended_early"], true, "{step}");
        assert!(step["failed"]["CONNECTION_BROKEN"].as_u64().unwrap() > 1 && step["answered"] != 0, "{step}");
    }
}

#[test]
fn bench_refuses_what_does_not_go_together() {
    let stage = Stage::new();
    let given = ["--selfie", "b.jpg", "--reference", "a.jpg"];
    for (arguments, code, words) in [
        (vec!["selfie", "--selfie", "b.jpg"], 64, "give --reference FILE"),
        (vec!["mixed"], 64, "give --selfie FILE and --reference FILE"),
        ([&["selfie", "--mix", "full=1"][..], &given].concat(), 64, "--mix is for the scenario mixed alone"),
        ([&["selfie", "--rate", "0"][..], &given].concat(), 64, "requests a second"),
        ([&["selfie", "--rate", "many"][..], &given].concat(), 64, "requests a second"),
        ([&["selfie", "--callers", "0"][..], &given].concat(), 64, "0 is not in 1..=1024"),
        ([&["selfie", "--connections", "256"][..], &given].concat(), 64, "256 is not in 1..=255"),
        ([&["selfie", "--requests", "5"][..], &given].concat(), 64, "--callers"),
        ([&["selfie", "--requests", "5", "--callers", "1", "--rate", "1"][..], &given].concat(), 64, "cannot be used"),
        ([&["mixed", "--mix", "face=1"][..], &given].concat(), 64, "no part is called face"),
        ([&["selfie", "--json", "x", "--html", "x"][..], &given].concat(), 64, "a file of its own"),
        ([&["selfie", "--json", "none/x"][..], &given].concat(), 74, "none/x cannot be written"),
        (vec!["selfie", "--selfie", "none.jpg", "--reference", "a.jpg"], 66, "none.jpg"),
        (vec!["everything"], 64, "invalid value"),
    ] {
        let ended = stage.run(&[&["bench"][..], &arguments].concat());
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{arguments:?}: {}", ended.err);
    }
    assert_eq!(stage.daemon.verified.load(Ordering::Relaxed), 0, "something was sent");
    let nobody = vouch(&stage.path("none.sock"), stage.folder.path(), &[&["bench", "selfie"][..], &given].concat());
    assert_eq!(Ended::from({ nobody }.output().unwrap()).code, 69);
}

// ---------------------------------------------------------------- completions and manual pages

#[test]
fn completions_name_the_commands() {
    let stage = Stage::new();
    for shell in ["bash", "zsh", "fish"] {
        let ended = stage.run(&["completions", shell]);
        assert_eq!(ended.code, 0);
        assert!(ended.out.contains("liveness") && ended.out.contains("client-reference"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page_and_the_daemon_too() {
    let stage = Stage::new();
    let folder = tempfile::tempdir().unwrap();
    let ended = stage.run(&["man", folder.path().to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let page = |name: &str| {
        std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert!(page("vouch.1").contains(r"vouch\-verify(1)") && !page("vouch.1").contains(r"vouch\-man(1)"));
    assert!(page("vouch-models-pull.1").contains("Fetch and convert the models"));
    assert!(page("vouchd.8").contains(r"\-\-check\-config"));
    let ended = stage.run(&["man", folder.path().join("not/there").to_str().unwrap()]);
    assert_eq!(ended.code, 74, "{}", ended.err);
}

// ---------------------------------------------------------------- the client in Python

/// The example of another language must read the contract as `vouch` does.
#[test]
fn python_orchestrator_agrees_with_the_command_line() {
    let stage = Stage::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (play, code, words) in [
        ("PASS", 0, "summary PASS"),
        ("FAIL", 1, "face_match FAIL, cosine_similarity 0.7512"),
        ("REVIEW", 2, "at fmr_1e-4, MULTIPLE_FACES"),
        ("INCONCLUSIVE", 3, "health: SERVING"),
        ("refuse:bad-input", 65, "media[0].data: the JPEG ends before its last line"),
        ("refuse:overload", 75, "try again in 250 ms"),
        ("refuse:denied", 77, "reason: CALLER_NOT_ALLOWED"),
        ("refuse:internal", 70, "internal error"),
        ("cut", 69, "ended before its summary"),
    ] {
        let output = Command::new("python3")
            .arg(root.join("examples/python/orchestrate.py"))
            .args(["--portrait", "a.jpg", "--selfie", "b.jpg", "--client-reference", play])
            .current_dir(stage.folder.path())
            .env("PYTHONPATH", root.join(".cache/python"))
            .env("VOUCH_SOCKET", stage.path("vouch.sock"))
            .output()
            .unwrap();
        let ended = Ended::from(output);
        assert_eq!(ended.code, code, "{play}: {ended:?}");
        assert!((ended.out.clone() + &ended.err).contains(words), "{play}: {words:?} is not in {ended:?}");
    }
}

// ---------------------------------------------------------------- documents

/// The passport of ICAO Doc 9303 part 4, appendix A.
const PASSPORT: [&str; 2] =
    ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"];

fn mrz(arguments: &[&str]) -> Ended {
    let arguments = [&["mrz"][..], arguments].concat();
    Ended::from(vouch(Path::new("/nonexistent/vouch.sock"), Path::new("/"), &arguments).output().unwrap())
}

#[test]
fn mrz_lines_are_read_without_a_daemon_and_the_exit_code_tells_wrong_digits() {
    let good = mrz(&PASSPORT);
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.out.contains("TD3, all check digits are right"), "{}", good.out);
    assert!(good.out.contains("family_name            ERIKSSON"), "{}", good.out);
    let wrong = mrz(&[PASSPORT[0], "L898902C36UTO7408123F1204159ZE184226B<<<<<10"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    let no_mrz = mrz(&["HELLO"]);
    assert_eq!((no_mrz.code, no_mrz.out.as_str()), (65, ""));
    assert!(!no_mrz.err.contains("HELLO"), "errors quote no field: {}", no_mrz.err);
}

#[test]
fn mrz_takes_lines_from_standard_input_and_a_day_for_the_century() {
    let mut command = vouch(Path::new("/nonexistent"), Path::new("/"), &["mrz", "--json", "--date", "1970-01-01"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), PASSPORT.join("\n").as_bytes()).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    let read = &ended.json_lines()[0];
    let field = |name: &str| {
        let fields = read["fields"].as_array().unwrap();
        fields.iter().find(|field| field["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
    };
    assert_eq!((field("birth_date"), field("expiry_date")), ("1874-08-12".into(), "2012-04-15".into()));
    assert_eq!(read["outcome"], "PASS");
}

#[test]
fn specimens_are_written_without_a_daemon_and_have_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let specimen = |arguments: &[&str]| {
        let arguments = [&["specimen", "--seed", "7"][..], arguments].concat();
        Ended::from(vouch(Path::new("/nonexistent/vouch.sock"), folder.path(), &arguments).output().unwrap())
    };
    let ended = specimen(&["--kind", "td1", "--dpi", "72", "--sheet", "-o", "a"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.out, "a/td1-7-front.png\na/td1-7-back.png\na/td1-7.json\na/sheet.png\n");
    assert_eq!(specimen(&["--kind", "td1", "--dpi", "72", "-o", "b"]).code, 0);
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    for name in ["td1-7-front.png", "td1-7-back.png", "td1-7.json"] {
        assert!(bytes(&format!("a/{name}")) == bytes(&format!("b/{name}")), "{name}");
    }
    let truth: Value = serde_json::from_slice(&bytes("a/td1-7.json")).unwrap();
    assert_eq!((&truth["kind"], &truth["seed"]), (&json!("td1"), &json!(7)));
    assert_eq!(truth["pages"][1]["file"], "td1-7-back.png");
    let lines: Vec<&str> =
        truth["pages"][1]["mrz"]["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(mrz(&lines).code, 0);

    let ended = specimen(&["--kind", "letter", "--dpi", "72", "--photo", "2", "--size", "320x400", "-o", "a"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "a/letter-7-photo2.jpg\na/letter-7-photo2.json\n"));

    assert_eq!(specimen(&["--kind", "td4"]).code, 64);
    assert_eq!(specimen(&["--portrait", "missing.jpg"]).code, 66);
    assert_eq!(specimen(&["--dpi", "72", "-o", "a/td1-7.json"]).code, 74);
}

#[test]
fn barcode_asks_for_barcodes_alone_and_obeys_no_control_character() {
    let stage = Stage::new();
    let ended = stage.run(&["barcode", "a.jpg"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(stage.daemon.document_request.lock().unwrap().as_ref().unwrap().parts, ["barcode"]);
    assert!(ended.out.contains("barcode QR_CODE, 6 bytes"), "{}", ended.out);
    assert!(ended.out.contains("a\\u{1b}[2Jb"), "{}", ended.out);
}

#[test]
fn a_document_that_shows_nothing_is_inconclusive() {
    let stage = Stage::new();
    let ended = stage.run(&["document", "a.jpg", "b.jpg"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let request = stage.daemon.document_request.lock().unwrap().take().unwrap();
    assert_eq!((request.images.len(), request.parts.len()), (2, 0));
}

/// It was: nothing on standard output for half of the commands.
#[test]
fn with_json_the_error_of_every_command_is_its_last_line() {
    for arguments in [
        "verify --selfie /nope",
        "match /nope /nope",
        "liveness /nope",
        "live /nope",
        "age /nope",
        "faces /nope",
        "document /nope",
        "barcode /nope",
        "scan /nope",
        "mrz ABC",
        "status",
        "top --once",
        "reload",
        "audit verify /nope",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_vouch"))
            .args(arguments.split(' '))
            .args(["--json", "--socket", "/nope/vouch.sock"].iter().take(if arguments.starts_with("audit") {
                1
            } else {
                3
            }))
            .output()
            .unwrap();
        let code = output.status.code().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_default();
        assert!(code >= 64 && last["event"] == "error" && last["exit_code"] == code, "{arguments}: {code} {text}");
    }
}
