//! From labelled files through a socket to a calibration file that loads: the accuracy bench against a made-up daemon.
//!
//! The daemon here computes its scores from the bytes that it gets, so every figure that the bench must find is known. Models
//! and faces are not involved; the bench's own code is compiled in unchanged.

#[path = "../benches/accuracy/main.rs"]
#[allow(dead_code)]
mod accuracy;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use vouch::api::proto::verification_server::{Verification, VerificationServer};
use vouch::api::proto::{
    CheckPassiveLivenessRequest, CheckPassiveLivenessResponse, CheckResult, DetectFacesRequest, DetectFacesResponse,
    EstimateAgeRequest, EstimateAgeResponse, GetStatusRequest, GetStatusResponse, MatchFacesRequest,
    MatchFacesResponse, ModelRef, Outcome, ReadDocumentRequest, ReadDocumentResponse, ScanMrzEvent, ScanMrzRequest,
    VerifyEvent, VerifyLiveEvent, VerifyLiveRequest, VerifyRequest, Warning,
};
use vouch::calibration::{CalibrationSet, Decision, Support};

/// Answers from the bytes of a "picture": numbers, or the words `noface`, `broken`, `uncalibrated N`.
#[derive(Default)]
struct MadeUp {
    calls: AtomicU32,
}

impl MadeUp {
    /// Every seventh call is refused for want of room, as a busy daemon would.
    fn admit(&self) -> Result<(), Status> {
        if self.calls.fetch_add(1, Ordering::Relaxed) % 7 == 6 {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1)));
            return Err(Status::with_error_details(Code::ResourceExhausted, "busy", details));
        }
        Ok(())
    }

    fn result(&self, role: &str, picture: &[u8], score: impl Fn(&[f64]) -> f64) -> Result<CheckResult, Status> {
        self.admit()?;
        let text = std::str::from_utf8(picture).unwrap();
        let inconclusive = |code: &str, score| CheckResult {
            outcome: Outcome::Inconclusive.into(),
            score,
            score_kind: "made_up".into(),
            warnings: vec![Warning { code: code.into(), ..Default::default() }],
            ..Default::default()
        };
        if text.contains("broken") {
            let details = ErrorDetails::with_error_info("IMAGE_TRUNCATED", "vouch", HashMap::new());
            return Err(Status::with_error_details(Code::InvalidArgument, "cut off", details));
        }
        if text.contains("noface") {
            return Ok(inconclusive("NO_FACE", None));
        }
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let mut result = inconclusive("NOT_CALIBRATED", Some(score(&numbers)));
        if !text.contains("uncalibrated") {
            result.outcome = Outcome::Pass.into();
            result.warnings.clear();
        }
        result.models = vec![ModelRef { role: role.into(), name: "m".into(), sha256: "ab".repeat(32) }];
        result.measurements =
            ["age_a_years", "age_b_years"].map(str::to_owned).into_iter().zip(numbers).collect::<HashMap<_, _>>();
        Ok(result)
    }
}

#[tonic::async_trait]
impl Verification for MadeUp {
    type VerifyStream = tokio_stream::Empty<Result<VerifyEvent, Status>>;
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

    async fn verify(&self, _: Request<VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn detect_faces(&self, _: Request<DetectFacesRequest>) -> Result<Response<DetectFacesResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn match_faces(&self, request: Request<MatchFacesRequest>) -> Result<Response<MatchFacesResponse>, Status> {
        let request = request.into_inner();
        let both = [request.probe.as_ref(), b" ", request.reference.as_ref()].concat();
        let result = self.result("face_embedder", &both, |numbers| 1.0 - (numbers[0] - numbers[1]).abs())?;
        Ok(Response::new(MatchFacesResponse { result: Some(result) }))
    }

    async fn check_passive_liveness(
        &self,
        request: Request<CheckPassiveLivenessRequest>,
    ) -> Result<Response<CheckPassiveLivenessResponse>, Status> {
        let result = self.result("passive_liveness", &request.into_inner().selfie, |numbers| numbers[0])?;
        Ok(Response::new(CheckPassiveLivenessResponse { result: Some(result) }))
    }

    async fn estimate_age(
        &self,
        request: Request<EstimateAgeRequest>,
    ) -> Result<Response<EstimateAgeResponse>, Status> {
        let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / numbers.len() as f64;
        let result = self.result("age_a_years", &request.into_inner().selfie, mean)?;
        Ok(Response::new(EstimateAgeResponse { result: Some(result) }))
    }

    async fn read_document(&self, _: Request<ReadDocumentRequest>) -> Result<Response<ReadDocumentResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(GetStatusResponse {
            version: "0.0.0".into(),
            runtime_version: "1.0".into(),
            device_in_use: "none".into(),
            ..Default::default()
        }))
    }
}

/// Runs the bench on `data` with a daemon of its own; files asked for land in `dir`.
fn bench(dir: &Path, arguments: &[&str], data: &[&Path]) -> anyhow::Result<accuracy::Report> {
    let socket = dir.join("s");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(async { UnixListener::bind(&socket).unwrap() });
    runtime.spawn(
        tonic::transport::Server::builder()
            .add_service(VerificationServer::new(MadeUp::default()))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    let mut line: Vec<OsString> = vec!["accuracy".into()];
    line.extend(arguments.iter().take(1).map(OsString::from));
    line.extend(data.iter().map(OsString::from));
    line.extend(arguments.iter().skip(1).map(OsString::from));
    line.extend(["--socket".into(), socket.clone().into(), "--callers".into(), "3".into()]);
    let report = accuracy::run(line);
    drop(runtime);
    fs::remove_file(socket).unwrap();
    report
}

fn write(dir: &Path, name: &str, content: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// 400 genuine and 400 impostor pairs in two folds. Genuine scores 0.6 and 0.9, four of them 0.3; impostors 0 to 0.399.
fn face_match_set(dir: &Path) {
    let mut table = String::from("a,b,same,fold\n");
    for i in 0..400 {
        let genuine = match i {
            0 | 101 | 200 | 301 => 0.3,
            _ if i / 2 % 2 == 0 => 0.6,
            _ => 0.9,
        };
        for (kind, score, same) in [("g", genuine, 1), ("i", f64::from(i) / 1_000.0, 0)] {
            write(dir, &format!("p/{kind}{i}a"), "0");
            write(dir, &format!("p/{kind}{i}b"), &format!("{}", 1.0 - score));
            table += &format!("p/{kind}{i}a,p/{kind}{i}b,{same},{}\n", i % 2 + 1);
        }
    }
    write(dir, "p/x", "noface");
    write(dir, "p/y", "broken");
    table += "p/x,p/g0a,1,1\np/g0a,p/y,0,2\n";
    write(dir, "pairs.csv", &table);
}

#[test]
fn face_match_from_pairs_to_a_loaded_calibration() {
    let dir = tempfile::tempdir().unwrap();
    face_match_set(dir.path());
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let (file, json) = (out.join("face_match.toml"), out.join("figures.json"));
    let arguments = ["face_match", "--fit", file.to_str().unwrap(), "--json", json.to_str().unwrap()];
    let report = bench(dir.path(), &arguments, &[dir.path()]).unwrap();

    // Every pair was scored in spite of the refusals; the two that could not be are counted by reason.
    assert_eq!((report.json["genuine"].as_u64(), report.json["impostor"].as_u64()), (Some(400), Some(400)));
    assert_eq!(report.json["failures_to_process"]["genuine NO_FACE"], 1);
    assert_eq!(report.json["failures_to_process"]["impostor IMAGE_TRUNCATED"], 1);
    // Every threshold between 0.399 and 0.6 is best: four genuine pairs of 800 are wrong.
    assert!((report.json["accuracy"]["mean"].as_f64().unwrap() - 796.0 / 800.0).abs() < 1e-9);
    // A failed genuine pair counts as a non-match, a failed impostor pair as rejected.
    let strict = report.json["accuracy_failures_as_non_match"]["mean"].as_f64().unwrap();
    assert!((strict - 797.0 / 802.0).abs() < 1e-4, "{strict}");
    assert!(report.text.contains("TAR at FMR 1e-2: 99.00 %"), "{}", report.text);
    let written: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&written["check"], &written["impostor"]), (&"face_match".into(), &400.into()));

    let set = CalibrationSet::load(&out).unwrap();
    let calibration = &set.get("face_match").unwrap().calibration;
    let point = calibration.operating_point("").unwrap();
    // Four of 400 impostors may pass: above 0.395, which is the fifth highest.
    assert_eq!((point.name.as_str(), point.threshold, point.rates["fmr"].errors), ("fmr_1e-2", 0.3951, 4));
    assert_eq!((point.rates["fmr"].support(), point.rates["fnmr"].errors), (Support::FewErrors, 4));
    assert_eq!(calibration.decide(point, 0.6), Decision::Accept);
    assert!(report.text.contains("fmr_1e-3 refused"), "{}", report.text);
    assert_eq!(calibration.models["face_embedder"], "ab".repeat(32));
    assert_eq!(calibration.data.failures_to_process.values().sum::<u64>(), 2);
    // Persons are told apart by their folder.
    assert_eq!(calibration.data.subjects, 1);
}

#[test]
fn an_operating_point_that_the_pairs_cannot_bear_is_no_default() {
    let dir = tempfile::tempdir().unwrap();
    face_match_set(dir.path());
    let file = dir.path().join("face_match.toml");
    let arguments = ["face_match", "--fit", file.to_str().unwrap(), "--default", "fmr_1e-4"];
    let error = bench(dir.path(), &arguments, &[dir.path()]).unwrap_err().to_string();
    assert!(error.contains("fmr_1e-4") && error.contains("400 trials"), "{error}");
    assert!(!file.exists());
}

#[test]
fn liveness_by_species_and_subject() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("made");
    for subject in 0..5 {
        for frame in 0..20 {
            let x = f64::from(frame) / 100.0;
            write(&set, &format!("live/s{subject}/{frame}"), &format!("{}", 0.8 + x / 2.0));
            write(&set, &format!("print/s{subject}/{frame}"), &format!("uncalibrated {x}"));
            // Subject 3's screen looks live half of the time.
            let screen = if subject == 3 && frame >= 10 { 0.85 } else { 0.2 + x };
            write(&set, &format!("spoof/s{subject}/{frame}"), &format!("{screen}"));
        }
    }
    write(&set, "live/s0/none", "noface");
    let file = dir.path().join("passive_liveness.toml");
    let arguments = ["liveness", "--fit", file.to_str().unwrap(), "--default", "apcer_1e-1"];
    let report = bench(dir.path(), &arguments, &[&set]).unwrap();

    assert_eq!(report.json["attacks"]["screen_replay"], 100);
    assert_eq!(report.json["failures_to_process"]["live NO_FACE"], 1);
    assert_eq!(report.json["sets"]["made"]["worst_subject"]["subject"], "s3");
    assert_eq!(report.json["sets"]["made"]["subjects"]["s0"]["eer"], 0.0);
    assert!(report.text.contains("worst subject: s3"), "{}", report.text);

    let calibration = vouch::calibration::Calibration::load(&file).unwrap();
    let point = calibration.operating_point("").unwrap();
    // Ten of 100 screen replays may pass, and exactly ten score 0.85: above the next one, 0.39.
    assert_eq!((point.threshold, point.rates["apcer"].errors, point.rates["bpcer"].errors), (0.3901, 10, 0));
    assert_eq!((point.rates["apcer_print"].errors, point.rates["apcer_screen_replay"].errors), (0, 10));
    // One subject of five caused them all: the interval must reach far above 10 %.
    assert!(point.rates["apcer"].high_95 >= 0.3, "{:?}", point.rates["apcer"]);
    // Five subjects without an error prove little, however many frames they have.
    assert_eq!(point.rates["bpcer"].high_95, 0.6);
    // At 5 % the ties at 0.85 must not pass, which costs live frames.
    let strict = calibration.operating_point("apcer_5e-2").unwrap();
    assert!(strict.threshold > 0.85 && strict.rates["apcer"].errors == 0 && strict.rates["bpcer"].errors > 0);
}

#[test]
fn age_combines_the_estimators() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = String::from("file,age\n");
    for i in 0..600 {
        let age = 5 + i % 60;
        // One estimator is too low by 10 %, the other too high by 8 years; both wobble.
        let a = f64::from(age) * 0.9 + f64::from(i * 7 % 11) / 2.0 - 2.5;
        let b = f64::from(age) + 8.0 + f64::from(i * 11 % 13) / 2.0 - 3.0;
        write(dir.path(), &format!("f{i}"), &format!("{a} {b}"));
        table += &format!("f{i},{age}\n");
    }
    write(dir.path(), "f", "noface");
    table += "f,30\n";
    write(dir.path(), "ages.csv", &table);
    let file = dir.path().join("age_estimation.toml");
    let report = bench(dir.path(), &["age", "--fit", file.to_str().unwrap()], &[dir.path()]).unwrap();
    assert_eq!(
        (report.json["images"].as_u64(), report.json["failures_to_process"]["NO_FACE"].as_u64()),
        (Some(600), Some(1))
    );
    let mae = |name: &str| report.json[name]["mae"].as_f64().unwrap();
    assert!(
        mae("combined") < mae("mean") && mae("combined") < mae("age_a_years") && mae("combined") < 1.5,
        "{}",
        report.text
    );
    assert!((report.json["age_b_years"]["bias"].as_f64().unwrap() - 8.0).abs() < 0.05);

    let calibration = vouch::calibration::Calibration::load(&file).unwrap();
    let age = calibration.age.as_ref().unwrap().apply(&[("age_a_years", 36.0), ("age_b_years", 48.0)]).unwrap();
    assert!((age.value - 40.0).abs() < 1.0 && age.low_95 < 40.0 && age.high_95 > 40.0, "{age:?}");
    let point = calibration.operating_point("").unwrap();
    assert_eq!((point.name.as_str(), point.rates["fpr"].trials), ("challenge_25", 130));
    assert_eq!(point.rates["fpr"].errors, 0);
    // Everybody of 18 to 24 and hardly anybody of 25 to 29 lies below 25.
    assert!((0.5..0.75).contains(&point.rates["fnr_18_to_30"].value), "{:?}", point.rates);
}

#[test]
fn a_damaged_table_or_a_missing_daemon_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pairs.csv", "a,b,same\n");
    let error = bench(dir.path(), &["face_match"], &[dir.path()]).unwrap_err().to_string();
    assert!(error.contains("pairs.csv: the first line is not a,b,same,fold"), "{error}");
    write(dir.path(), "ages.csv", "file,age\nx,old\n");
    let error = bench(dir.path(), &["age"], &[dir.path()]).unwrap_err().to_string();
    assert!(error.contains("x: old is no age"), "{error}");
    let line = ["accuracy", "age", "/nonexistent", "--socket", "/nonexistent/s"].map(OsString::from);
    let error = accuracy::run(line).unwrap_err().to_string();
    assert!(error.contains("cannot reach a daemon at /nonexistent/s"), "{error}");
}

#[test]
fn the_day_of_a_measurement_is_a_date() {
    for (days, date) in [(0, "1970-01-01"), (11_016, "2000-02-29"), (20_780, "2026-11-23"), (20_818, "2026-12-31")] {
        assert_eq!(accuracy::date_of(days), date);
    }
}
