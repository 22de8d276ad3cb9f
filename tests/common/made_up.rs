//! A made-up daemon on a socket, whose answers are computed from the bytes that it gets, and `vouch` as a process beside it.
//!
//! No model and no face is involved: a "picture" is a text that says what is seen in it, so every figure that `vouch evaluate` must
//! find is known beforehand. The words are told at [`Seen`].

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use vouch::api::proto::verification_server::{Verification, VerificationServer};
use vouch::api::proto::verify_event::Event;
use vouch::api::proto::{
    Barcode, Calibrated, Certainty, CheckPassiveLivenessRequest, CheckPassiveLivenessResponse, CheckResult,
    CheckStatus, DetectFacesRequest, DetectFacesResponse, DocumentField, DocumentPage, EstimateAgeRequest,
    EstimateAgeResponse, FieldSource, GetStatusRequest, GetStatusResponse, MatchFacesRequest, MatchFacesResponse,
    ModelStatus, Mrz, OperatingPoint, Outcome, ReadDocumentRequest, ReadDocumentResponse, RecordField, ScanMrzEvent,
    ScanMrzRequest, State, Summary, VerifyEvent, VerifyLiveEvent, VerifyLiveRequest, VerifyRequest, Warning,
};

/// Every how many calls one is refused for want of room.
const BUSY_EVERY: u32 = 7;

/// How the daemon behaves.
#[derive(Debug, Clone)]
pub struct Manner {
    /// SHA-256 of all its models.
    pub models: String,
    /// Check, its default operating point and the threshold there; no entry: not calibrated.
    pub points: Vec<(&'static str, &'static str, f64)>,
    /// Time that an answer takes.
    pub pause: Duration,
    /// After so many calls it tells other models.
    pub models_change_after: Option<u32>,
}

impl Default for Manner {
    fn default() -> Self {
        Self { models: "ab".repeat(32), points: Vec::new(), pause: Duration::ZERO, models_change_after: None }
    }
}

impl Manner {
    pub fn slow() -> Self {
        Self { pause: Duration::from_millis(15), ..Self::default() }
    }

    pub fn at(check: &'static str, point: &'static str, threshold: f64) -> Self {
        Self { points: vec![(check, point, threshold)], ..Self::default() }
    }
}

/// What a "picture" says.
///
/// Numbers are measurements. `noface` and `broken` are pictures that cannot be judged, `uncalibrated` one that is judged without an
/// outcome, `nomeasure` one of whose measurements is not a number. A document says `unreadable`, or lines that begin with `mrz`, `field` or `symbol`.
struct Seen<'a> {
    text: &'a str,
    numbers: Vec<f64>,
}

impl<'a> Seen<'a> {
    fn new(picture: &'a [u8]) -> Self {
        let text = std::str::from_utf8(picture).expect("test pictures are text");
        Self { text, numbers: text.split_whitespace().filter_map(|word| word.parse().ok()).collect() }
    }

    fn says(&self, word: &str) -> bool {
        self.text.split_whitespace().any(|other| other == word)
    }

    /// The rest of each line that begins with the word.
    fn lines(&self, word: &str) -> Vec<&'a str> {
        self.text.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).collect()
    }
}

struct MadeUp {
    manner: Manner,
    calls: AtomicU32,
}

impl MadeUp {
    async fn admit(&self) -> Result<(), Status> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call % BUSY_EVERY == BUSY_EVERY - 1 {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1)));
            return Err(Status::with_error_details(Code::ResourceExhausted, "busy", details));
        }
        if !self.manner.pause.is_zero() {
            tokio::time::sleep(self.manner.pause).await;
        }
        Ok(())
    }

    /// The answer of a check about pictures; `judge` makes measurements of their numbers, the score first.
    async fn check(
        &self,
        pictures: &[&[u8]],
        judge: impl Fn(&[Vec<f64>]) -> (f64, Vec<(String, f64)>),
    ) -> Result<CheckResult, Status> {
        self.admit().await?;
        let seen: Vec<Seen<'_>> = pictures.iter().map(|picture| Seen::new(picture)).collect();
        let says = |word: &str| seen.iter().any(|seen| seen.says(word));
        if says("broken") {
            return Err(broken());
        }
        let inconclusive = |code: &str| CheckResult {
            outcome: Outcome::Inconclusive.into(),
            warnings: vec![Warning { code: code.into(), ..Default::default() }],
            ..Default::default()
        };
        if says("noface") {
            return Ok(inconclusive("NO_FACE"));
        }
        let numbers: Vec<Vec<f64>> = seen.into_iter().map(|seen| seen.numbers).collect();
        let (score, measurements) = judge(&numbers);
        let mut result = inconclusive("NOT_CALIBRATED");
        if !pictures.iter().any(|picture| Seen::new(picture).says("uncalibrated")) {
            result.outcome = Outcome::Pass.into();
            result.warnings = vec![Warning { code: "MULTIPLE_FACES".into(), ..Default::default() }];
        }
        result.score = Some(score);
        result.measurements = measurements.into_iter().collect();
        if pictures.iter().any(|picture| Seen::new(picture).says("nomeasure")) {
            result.measurements.insert("sharpness".into(), f64::NAN);
        }
        Ok(result)
    }

    fn status(&self) -> GetStatusResponse {
        let changed = self.manner.models_change_after.is_some_and(|after| self.calls.load(Ordering::Relaxed) >= after);
        let sha256 = if changed { "ef".repeat(32) } else { self.manner.models.clone() };
        let roles = [
            "face_detector",
            "face_embedder",
            "face_embedder_b",
            "passive_liveness",
            "age_a",
            "age_b",
            "page_locator",
            "text_detector",
            "mrz_recogniser",
            "text_recogniser",
        ];
        let point = |name: &str, threshold| OperatingPoint { name: name.into(), threshold, rates: HashMap::new() };
        GetStatusResponse {
            version: "0.0.0".into(),
            runtime_version: "1.0".into(),
            device_in_use: "none".into(),
            state: State::Ready.into(),
            models: roles
                .iter()
                .map(|role| ModelStatus {
                    role: (*role).into(),
                    name: "m".into(),
                    sha256: sha256.clone(),
                    ..Default::default()
                })
                .collect(),
            checks: self
                .manner
                .points
                .iter()
                .map(|(check, name, threshold)| CheckStatus {
                    name: (*check).into(),
                    calibration_sha256: "cd".repeat(32),
                    default_operating_point: (*name).into(),
                    operating_points: vec![point(name, *threshold)],
                    calibrated: true,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }
}

fn broken() -> Status {
    let details = ErrorDetails::with_error_info("IMAGE_TRUNCATED", "vouch", HashMap::new());
    Status::with_error_details(Code::InvalidArgument, "cut off", details)
}

/// The service must be a type of this crate.
struct Service(Arc<MadeUp>);

#[tonic::async_trait]
impl Verification for Service {
    type VerifyStream = tokio_stream::Iter<std::vec::IntoIter<Result<VerifyEvent, Status>>>;
    type ScanMrzStream = tokio_stream::Empty<Result<ScanMrzEvent, Status>>;
    type VerifyLiveStream = tokio_stream::Empty<Result<VerifyLiveEvent, Status>>;

    async fn match_faces(&self, request: Request<MatchFacesRequest>) -> Result<Response<MatchFacesResponse>, Status> {
        let request = request.into_inner();
        // Likeness of two pictures: how close their first numbers are; of a second model, their second ones.
        let judge = |numbers: &[Vec<f64>]| {
            let likeness: Vec<f64> = numbers[0].iter().zip(&numbers[1]).map(|(a, b)| 1.0 - (a - b).abs()).collect();
            let names = ["cosine_a", "cosine_b"].map(str::to_owned);
            (likeness[0], names.into_iter().zip(likeness).collect())
        };
        let result = self.0.check(&[&request.probe, &request.reference], judge).await?;
        Ok(Response::new(MatchFacesResponse { result: Some(result) }))
    }

    async fn check_passive_liveness(
        &self,
        request: Request<CheckPassiveLivenessRequest>,
    ) -> Result<Response<CheckPassiveLivenessResponse>, Status> {
        let result = self.0.check(&[&request.into_inner().selfie], |numbers| (numbers[0][0], Vec::new())).await?;
        Ok(Response::new(CheckPassiveLivenessResponse { result: Some(result) }))
    }

    async fn estimate_age(
        &self,
        request: Request<EstimateAgeRequest>,
    ) -> Result<Response<EstimateAgeResponse>, Status> {
        let judge = |numbers: &[Vec<f64>]| {
            let [estimates] = numbers else { panic!("one picture") };
            let names = ["age_a_years", "age_b_years"].map(str::to_owned);
            let mean = estimates.iter().sum::<f64>() / estimates.len() as f64;
            (mean, names.into_iter().zip(estimates.iter().copied()).collect())
        };
        let mut result = self.0.check(&[&request.into_inner().selfie], judge).await?;
        if !self.0.manner.points.is_empty()
            && let Some(value) = result.score
        {
            let (low_95, high_95) = (value - 4.0, value + 4.0);
            result.calibrated = Some(Calibrated { kind: "age_years".into(), value, low_95, high_95 });
        }
        Ok(Response::new(EstimateAgeResponse { result: Some(result) }))
    }

    async fn read_document(
        &self,
        request: Request<ReadDocumentRequest>,
    ) -> Result<Response<ReadDocumentResponse>, Status> {
        self.0.admit().await?;
        let mut response = ReadDocumentResponse::default();
        for picture in &request.into_inner().images {
            let seen = Seen::new(picture);
            if seen.says("unreadable") {
                return Err(broken());
            }
            let lines = seen.lines("mrz");
            let mrz = (!lines.is_empty()).then(|| Mrz {
                lines: lines.iter().map(|line| (*line).to_owned()).collect(),
                check_digits_valid: seen.says("valid"),
                ..Default::default()
            });
            let barcodes = seen.lines("symbol").into_iter().map(|text| Barcode {
                payload: text.to_owned().into_bytes().into(),
                text: text.to_owned(),
                ..Default::default()
            });
            response.pages.push(DocumentPage { mrz, barcodes: barcodes.collect(), ..Default::default() });
            for field in seen.lines("field") {
                let (name, value) = field.split_once('=').expect("field name=value");
                let (value, is_sure) = value.strip_suffix('?').map_or((value, true), |value| (value, false));
                let certainty = if is_sure { Certainty::AsRead } else { Certainty::Uncertain };
                let source = FieldSource::Visual;
                response.fields.push(DocumentField {
                    name: name.into(),
                    value: value.into(),
                    certainty: certainty.into(),
                    source: source.into(),
                    ..Default::default()
                });
                response.record.push(RecordField {
                    name: name.into(),
                    value: value.into(),
                    source: source.into(),
                    ..Default::default()
                });
            }
        }
        Ok(Response::new(response))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        self.0.admit().await?;
        if request.get_ref().media.iter().any(|media| Seen::new(&media.data).says("broken")) {
            return Err(broken());
        }
        let result = CheckResult { check: "face_match".into(), outcome: Outcome::Pass.into(), ..Default::default() };
        let summary = Summary { outcome: Outcome::Pass.into(), ..Default::default() };
        let events = [Event::Result(result), Event::Summary(summary)];
        let events = events.map(|event| Ok(VerifyEvent { elapsed_ms: 1.0, event: Some(event) }));
        Ok(Response::new(tokio_stream::iter(Vec::from(events))))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.0.status()))
    }

    async fn detect_faces(&self, _: Request<DetectFacesRequest>) -> Result<Response<DetectFacesResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn scan_mrz(&self, _: Request<Streaming<ScanMrzRequest>>) -> Result<Response<Self::ScanMrzStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn verify_live(
        &self,
        _: Request<Streaming<VerifyLiveRequest>>,
    ) -> Result<Response<Self::VerifyLiveStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}

/// A folder with a daemon's socket, data and results: `data/` and `out/`.
pub struct Stage {
    folder: tempfile::TempDir,
    running: Mutex<Option<(Arc<MadeUp>, tokio::runtime::Runtime)>>,
}

impl Stage {
    /// With a daemon that runs.
    pub fn new(manner: Manner) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "out"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let stage = Self { folder, running: Mutex::default() };
        stage.start(manner);
        stage
    }

    /// Starts a daemon in place of the one that runs, if one does; its calls are counted from 0.
    pub fn start(&self, manner: Manner) {
        self.stop();
        let socket = self.path("s");
        let _ = fs::remove_file(&socket);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(socket).unwrap()
        };
        let made_up = Arc::new(MadeUp { manner, calls: AtomicU32::new(0) });
        let service = VerificationServer::new(Service(Arc::clone(&made_up)));
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        *self.running.lock().unwrap() = Some((made_up, runtime));
    }

    /// Ends the daemon as a crash does: connections are cut, the socket's file stays.
    pub fn stop(&self) {
        if let Some((_, runtime)) = self.running.lock().unwrap().take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    /// Calls about data, those that were refused included.
    pub fn calls(&self) -> u32 {
        let running = self.running.lock().unwrap();
        running.as_ref().map_or(0, |(made_up, _)| made_up.calls.load(Ordering::Relaxed))
    }

    /// Calls about data but for those that were refused for want of room.
    pub fn questions(&self) -> u32 {
        let calls = self.calls();
        calls - calls / BUSY_EVERY
    }

    pub fn wait_for_calls(&self, calls: u32) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.calls() < calls {
            assert!(Instant::now() < until, "the daemon was not asked");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A path below the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file below `data/`.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.path("data").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// All that lies in `out/`, by name.
    pub fn results(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.path("out")).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
    }

    /// `vouch` in this folder, asking this daemon; the words of a line are separated by spaces.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vouch"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VOUCH_")) {
            command.env_remove(name);
        }
        command.args(line.split_whitespace()).current_dir(self.folder.path()).env("VOUCH_SOCKET", self.path("s"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, line: &str) -> Ended {
        Ended::from(self.command(line).output().unwrap())
    }

    /// As [`run`](Self::run), which must succeed.
    pub fn succeed(&self, line: &str) -> Ended {
        let ended = self.run(line);
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.err);
        ended
    }
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output and standard error, every white space one space: what they say does not depend on where lines break.
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let flat = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { code: output.status.code(), out: flat(output.stdout), err: flat(output.stderr) }
    }
}

impl Ended {
    #[track_caller]
    pub fn says(&self, words: &str) {
        assert!(self.out.contains(words), "{words:?} is not in\n{}\n{}", self.out, self.err);
    }

    /// Ended with this code and an error that holds these words.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        for words in words {
            assert!(self.err.contains(words), "{words:?} is not in\n{}", self.err);
        }
        assert_eq!(self.out, "", "a failed run prints figures");
    }
}
