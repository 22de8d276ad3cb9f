//! The audit log of the real daemon: a record of each call, nothing of a person in it, nothing of a picture on the disk, and what crashes, rotation and a full disk
//! leave of it.

mod common;
#[path = "common/drawn.rs"]
mod drawn;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use bytes::Bytes;
use common::{Client, pdf, photo, png, vouchd};
use drawn::drawn;
use hyper_util::rt::TokioIo;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use vouch::api::proto::verify_live_request::Message;
use vouch::api::proto::{
    CheckPassiveLivenessRequest, CheckRequest, DetectFacesRequest, DetectFacesResponse, EstimateAgeRequest,
    GetStatusRequest, LiveFrame, LivePolicy, MatchFacesRequest, Media, MediaKind, ReadDocumentRequest, ScanMrzRequest,
    VerifyEvent, VerifyLiveRequest, VerifyRequest, verify_event,
};
use vouch::audit::salt::Salt;
use vouch::audit::store;
use vouch::config::Rpc;
use vouch::specimen::document::{Kind, Options, specimen};
use vouch::specimen::photograph::{Shot, photograph};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const SALT: [u8; 32] = [7; 32];

/// A daemon with an audit log, its journal in a file; killed when dropped.
struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
    audit: PathBuf,
}

impl Daemon {
    fn start(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let audit = folder.path().join("audit");
        Self::start_in(folder, &audit, variables, &[])
    }

    /// `before` is put before the command of the daemon.
    fn start_in(folder: tempfile::TempDir, audit: &Path, variables: &[(&str, &str)], before: &[&str]) -> Self {
        let socket = folder.path().join("vouch.sock");
        fs::write(folder.path().join("salt"), SALT).unwrap();
        let plain = vouchd(&socket);
        let mut command = match before {
            [] => plain,
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(plain.get_program()).current_dir(common::root()).stdin(Stdio::null());
                command.env("VOUCH_SOCKET", &socket);
                command
            }
        };
        let journal = File::options().create(true).append(true).open(folder.path().join("journal")).unwrap();
        // The daemon itself sees to it that ONNX Runtime keeps no telemetry.
        command.env_remove("ORT_DISABLE_TELEMETRY");
        command.env("VOUCH_AUDIT__DIR", audit).env("VOUCH_AUDIT__SALT_FILE", folder.path().join("salt"));
        let child = command.envs(variables.iter().copied()).stderr(journal).spawn().unwrap();
        let mut daemon = Self { child, folder, audit: audit.to_owned() };
        let until = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let ended = daemon.child.try_wait().unwrap();
            assert_eq!(ended, None, "vouchd ended while starting: {}", daemon.journal());
            assert!(Instant::now() < until, "vouchd does not become ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.folder.path().join("journal")).unwrap()
    }

    async fn client(&self) -> Client {
        let socket = self.folder.path().join("vouch.sock");
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://vouch.local").connect_with_connector(connect).await.unwrap();
        Client::new(channel).max_encoding_message_size(64 << 20)
    }

    /// The daemon's own process, whatever it was started by.
    fn signal(&self, signal: Signal) {
        let pid = fs::read_to_string(self.folder.path().join("vouch.sock.lock")).unwrap();
        kill(Pid::from_raw(pid.trim().parse().unwrap()), signal).unwrap();
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        assert!(signal == Signal::SIGKILL || status.success(), "{status}: {}", self.journal());
    }

    /// Every record.
    fn records(&self) -> Vec<Value> {
        let files = store::files(&self.audit).unwrap();
        let texts: Vec<String> = files.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect();
        texts.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Operation, status code and gRPC code of every record of a call.
    fn calls(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let records = self.records().into_iter().filter(|record| record["class_uid"] == 6003);
        records
            .map(|one| (text(&one["api"]["operation"]), text(&one["status_code"]), text(&one["status_detail"])))
            .collect()
    }

    /// `vouch audit verify` on the folder, with the anchors of the journal.
    fn verify(&self) -> (Option<i32>, Value) {
        let journal = self.folder.path().join("journal");
        let output = vouch(&[&"audit", &"verify", &self.audit, &"--anchors", &journal, &"--json"]);
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn assert_whole(&self) -> Value {
        let (code, report) = self.verify();
        assert_eq!((code, &report["findings"]), (Some(0), &Value::Array(Vec::new())), "{report}");
        report
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Of a daemon under a tracer, both.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn vouch(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouch"));
    for argument in arguments {
        command.arg(argument);
    }
    command.output().unwrap()
}

fn media(kind: MediaKind, data: Bytes) -> Media {
    Media { kind: kind.into(), data }
}

async fn detect(client: &mut Client, image: Bytes) -> Result<DetectFacesResponse, Status> {
    client.detect_faces(DetectFacesRequest { image }).await.map(tonic::Response::into_inner)
}

/// A call that costs nothing and is refused for what it sends.
async fn junk(client: &mut Client) -> Status {
    detect(client, Bytes::from_static(b"no picture")).await.unwrap_err()
}

async fn verify(client: &mut Client, request: VerifyRequest) -> Result<Vec<VerifyEvent>, Status> {
    let mut events = client.verify(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(event) = events.message().await? {
        all.push(event);
    }
    Ok(all)
}

fn stream<T>(messages: Vec<T>) -> UnboundedReceiverStream<T> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    messages.into_iter().for_each(|message| drop(sender.send(message)));
    UnboundedReceiverStream::new(receiver)
}

const PASSPORT: [&str; 2] =
    ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_leaves_one_record_whatever_its_end() {
    let mut daemon = Daemon::start(&[]);
    let mut client = daemon.client().await;
    let selfie = photo("selfie.jpg");
    let pair = vec![media(MediaKind::Selfie, selfie.clone()), media(MediaKind::Portrait, photo("portrait.jpg"))];
    let request = VerifyRequest { media: pair.clone(), client_reference: "case 4711".into(), ..Default::default() };
    let events = verify(&mut client, request).await.unwrap();
    let Some(verify_event::Event::Accepted(accepted)) = &events[0].event else { panic!("{:?}", events[0]) };
    let mut expected = vec![("Verify", "OK", "OK")];

    client.get_status(GetStatusRequest::default()).await.unwrap();
    detect(&mut client, selfie.clone()).await.unwrap();
    expected.push(("DetectFaces", "OK", "OK"));
    let code = junk(&mut client).await.get_error_details().error_info().unwrap().reason.clone();
    expected.push(("DetectFaces", &code, "INVALID_ARGUMENT"));
    detect(&mut client, vec![0; 40 << 20].into()).await.unwrap_err();
    expected.push(("DetectFaces", "MESSAGE_TOO_LARGE", "INVALID_ARGUMENT"));
    let request = MatchFacesRequest { probe: selfie.clone(), reference: selfie.clone(), ..Default::default() };
    client.match_faces(request).await.unwrap();
    expected.push(("MatchFaces", "OK", "OK"));
    let request = CheckPassiveLivenessRequest { selfie: selfie.clone(), ..Default::default() };
    client.check_passive_liveness(request).await.unwrap();
    expected.push(("CheckPassiveLiveness", "OK", "OK"));
    let request = EstimateAgeRequest { selfie: selfie.clone(), minimum_age_years: Some(18.0), ..Default::default() };
    client.estimate_age(request).await.unwrap();
    expected.push(("EstimateAge", "OK", "OK"));
    let zone = png(&drawn(&PASSPORT));
    let request = ReadDocumentRequest { images: vec![zone.clone()], parts: vec!["mrz".into()] };
    client.read_document(request).await.unwrap();
    expected.push(("ReadDocument", "OK", "OK"));

    let mut scan = client.scan_mrz(stream(vec![ScanMrzRequest { frame: zone.clone() }])).await.unwrap().into_inner();
    while scan.message().await.unwrap().is_some() {}
    expected.push(("ScanMrz", "OK", "OK"));
    let policy = VerifyLiveRequest { message: Some(Message::Policy(LivePolicy::default())) };
    let mut live = client.verify_live(stream(vec![policy])).await.unwrap().into_inner();
    while live.message().await.unwrap().is_some() {}
    expected.push(("VerifyLive", "OK", "OK"));
    let mut live = client.verify_live(stream(vec![VerifyLiveRequest { message: None }])).await.unwrap().into_inner();
    live.message().await.unwrap_err();
    expected.push(("VerifyLive", "POLICY_MISSING", "INVALID_ARGUMENT"));

    let request = VerifyRequest {
        media: pair.clone(),
        checks: vec![CheckRequest { name: "ERIKSSON".into(), ..Default::default() }],
        ..Default::default()
    };
    verify(&mut client, request).await.unwrap_err();
    expected.push(("Verify", "CHECK_UNKNOWN", "INVALID_ARGUMENT"));
    let mut hurried = Request::new(VerifyRequest { media: pair.clone(), ..Default::default() });
    hurried.set_timeout(Duration::from_millis(30));
    let _ = client.verify(hurried).await.map(tonic::Response::into_inner);
    // Its stream was dropped, or its time was up.
    let until = Instant::now() + PATIENCE;
    while daemon.calls().len() < expected.len() + 1 {
        assert!(Instant::now() < until, "{:?}", daemon.calls());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let last = daemon.calls().pop().unwrap();
    assert!(last.0 == "Verify" && ["CANCELLED", "DEADLINE_EXCEEDED"].contains(&last.2.as_str()), "{last:?}");
    let mut calls = daemon.calls();
    calls.pop();
    let calls: Vec<_> = calls.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(calls, expected);

    daemon.end(Signal::SIGTERM);
    let records = daemon.records();
    let salt = Salt::new(&SALT);
    let first = &records[1];
    assert_eq!(first["api"]["request"]["uid"], accepted.verification_id.as_str());
    assert_eq!(first["actor"]["user"]["uid"], nix::unistd::geteuid().to_string());
    assert_eq!(first["actor"]["process"]["pid"], std::process::id());
    let noted = &first["unmapped"];
    assert_eq!(noted["media"][0]["digest"], salt.digest(&selfie).to_string());
    assert_eq!(noted["client_reference"], salt.digest(b"case 4711").to_string());
    assert_eq!((&noted["salt_id"], noted["config_sha256"].as_str().unwrap().len()), (&salt.id().into(), 64));
    assert!(noted["outcome"].is_string() && noted["models"]["face_detector"].as_str().unwrap().len() == 64);
    let of = |check: &str| {
        noted["checks"].as_array().unwrap().iter().find(|one| one["check"] == check).cloned().unwrap_or_default()
    };
    assert_eq!((&of("face_match")["outcome"], &of("face_match")["score"]), (&"PASS".into(), &Value::Null));
    assert_eq!(of("face_match")["calibration_sha256"].as_str().unwrap().len(), 64);
    let age = records.iter().find(|one| one["api"]["operation"] == "EstimateAge").unwrap();
    assert_eq!(age["unmapped"]["parameters"]["minimum_age_years"], 18.0);
    let scan = records.iter().find(|one| one["api"]["operation"] == "ScanMrz").unwrap();
    assert_eq!((&scan["unmapped"]["proved"], &scan["unmapped"]["frames"]["count"]), (&true.into(), &1.into()));
    assert_eq!(scan["unmapped"]["frames"]["digest"], salt.digest(&zone).to_string());
    let report = daemon.assert_whole();
    // Those of start and stop.
    assert_eq!((&report["anchors"], &report["notices"]), (&2.into(), &Value::Array(Vec::new())), "{report}");

    // The commands, on what is there.
    let picture = daemon.folder.path().join("selfie.jpg");
    fs::write(&picture, &selfie).unwrap();
    let output = vouch(&[&"audit", &"digest", &"--salt-file", &daemon.folder.path().join("salt"), &picture]);
    assert!(String::from_utf8(output.stdout).unwrap().contains(&salt.digest(&selfie).to_string()));
    let file = daemon.audit.join(store::file_name(1));
    let mut bytes = fs::read(&file).unwrap();
    bytes[300] ^= 1;
    fs::write(&file, bytes).unwrap();
    let output = vouch(&[&"audit", &"verify", &daemon.audit]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(65), "{text}");
    assert!(text.contains(&format!("{}:1: ALTERED: record 1: ", file.display())), "{text}");
    assert_eq!(vouch(&[&"audit", &"verify", &daemon.audit.join("none")]).status.code(), Some(66));
    assert_eq!(vouch(&[&"audit", &"verify", &daemon.audit, &"--anchor", &"1:ab"]).status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_salt_is_the_credential_of_the_service_manager_if_there_is_one() {
    let credentials = tempfile::tempdir().unwrap();
    let (path, salt) = (credentials.path().join("audit-salt"), [9; 32]);
    fs::write(&path, salt).unwrap();
    let variables = [("CREDENTIALS_DIRECTORY", credentials.path().to_str().unwrap())];
    let mut daemon = Daemon::start(&variables);
    daemon.end(Signal::SIGTERM);
    assert_eq!(daemon.records()[0]["unmapped"]["salt_id"], Salt::new(&salt).id());
    let journal = daemon.journal();
    assert!(journal.contains("\"source\":\"credential\"") || journal.contains("source=\"credential\""), "{journal}");

    // One that is there and cannot be read, by root neither.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = vouchd(&folder.path().join("vouch.sock"));
    let output = command.env("VOUCH_AUDIT__DIR", folder.path().join("audit")).envs(variables).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{words}");
    assert!(words.contains(&format!("the salt {} cannot be read", path.display())), "{words}");
}

/// Text in every form in which it could slip into a log.
fn forms(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let mut forms = vec![text.to_owned(), text.replace(' ', ""), text.replace('-', "")];
    forms.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    // Base64 of a longer text that holds this one at each of the three places; without the digits that depend on its neighbours.
    for skipped in 0..3 {
        if let Some(inner) =
            bytes.get(skipped..skipped + (bytes.len() - skipped) / 3 * 3).filter(|inner| inner.len() >= 6)
        {
            forms.push(base64::engine::general_purpose::STANDARD_NO_PAD.encode(inner));
        }
    }
    forms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_person_is_in_log_or_journal() {
    let mut daemon = Daemon::start(&[("VOUCH_AUDIT__SCORES", "true"), ("VOUCH_LOG", "trace")]);
    let mut client = daemon.client().await;
    let page = specimen(Kind::Td3, 23, &Options { dpi: 200, ..Options::default() }).pages.remove(0);
    let taken = photograph(&page, &Shot { seed: 1, level: 1, size_px: [1280, 720] });
    let truth = &taken.truth;
    let value = |name: &str| truth.fields.iter().find(|field| field.name == name).unwrap().value.clone();
    let document: Bytes = taken.jpeg.clone().into();
    let request = VerifyRequest {
        media: vec![media(MediaKind::DocumentFront, document.clone()), media(MediaKind::Selfie, photo("selfie.jpg"))],
        client_reference: format!("{} of the branch", value("family_name")),
        claims: [("family_name".to_owned(), value("family_name"))].into(),
        ..Default::default()
    };
    let events = verify(&mut client, request).await.unwrap();
    let mut secrets: Vec<String> = Vec::new();
    for event in events {
        if let Some(verify_event::Event::DocumentFields(read)) = event.event {
            secrets.extend(read.fields.iter().flat_map(|field| [field.value.clone(), field.raw.clone()]));
        }
    }
    assert!(secrets.contains(&value("document_number")), "the number was not read: {secrets:?}");
    let request = ReadDocumentRequest { images: vec![document.clone()], parts: Vec::new() };
    client.read_document(request).await.unwrap();
    let mut scan = client.scan_mrz(stream(vec![ScanMrzRequest { frame: document }])).await.unwrap().into_inner();
    scan.message().await.unwrap();
    drop(scan);
    let claims = [("birth_date".to_owned(), "no day of DOCKWEILER".to_owned())].into();
    let selfie = media(MediaKind::DocumentFront, photo("selfie.jpg"));
    let request = VerifyRequest { media: vec![selfie], claims, ..Default::default() };
    verify(&mut client, request).await.unwrap_err();
    daemon.end(Signal::SIGTERM);

    secrets.push("DOCKWEILER".into());
    secrets.extend(truth.fields.iter().flat_map(|field| [field.value.clone(), field.printed.clone()]));
    let lines = &truth.mrz.as_ref().unwrap().lines;
    secrets.extend(lines.iter().cloned());
    secrets.extend(lines.iter().flat_map(|line| line.split('<').map(str::to_owned).collect::<Vec<_>>()));
    // Shorter ones are in every text: letters, countries, years.
    secrets.retain(|secret| secret.len() >= 6 || (secret.len() >= 4 && secret.chars().all(char::is_alphabetic)));
    secrets.retain(|secret| !["passport", "document"].contains(&secret.to_lowercase().as_str()));
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() > 12, "{secrets:?}");
    let log: String = daemon.records().iter().map(|record| format!("{record}\n")).collect();
    assert!(log.contains("\"score\":") && log.contains("\"operation\":\"ScanMrz\""), "{log}");
    for (name, text) in [("audit log", log), ("journal", daemon.journal())] {
        let text = text.to_lowercase();
        for secret in &secrets {
            for form in forms(secret) {
                assert!(!text.contains(&form.to_lowercase()), "{secret:?} is in the {name} as {form:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_leaves_a_chain_that_the_next_one_goes_on_with() {
    // Nobody has to pause for what is sent here, so that all callers are at it when the daemon is killed.
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(config.path(), "[[callers]]\nname = 'test'\nmalformed_burst = 0\n").unwrap();
    let variables = [("VOUCH_AUDIT__MAX_FILE_BYTES", "16384"), ("VOUCH_CONFIG", config.path().to_str().unwrap())];
    let mut daemon = Daemon::start(&variables);
    let mut answered = 0;
    for _ in 0..3 {
        let callers = callers_of(&daemon, 3).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        daemon.end(Signal::SIGKILL);
        for caller in callers {
            let (answers, end) = caller.await.unwrap();
            // Of the caller's own transport: the daemon gives each of its errors a reason.
            let is_broken = [Code::Unavailable, Code::Unknown].contains(&end.code());
            assert!(is_broken && end.get_error_details().error_info().is_none(), "{end:?}");
            answered += answers;
        }
        daemon = daemon.restarted(&variables);
    }
    // What a power cut leaves of a line.
    daemon.end(Signal::SIGTERM);
    let newest = store::files(&daemon.audit).unwrap().pop().unwrap().1;
    let mut bytes = fs::read(&newest).unwrap();
    bytes.extend(b"{\"sequence\":99,\"prev");
    fs::write(&newest, bytes).unwrap();
    daemon = daemon.restarted(&variables);
    daemon.end(Signal::SIGTERM);
    let (code, report) = daemon.verify();
    assert_eq!((code, &report["findings"]), (Some(0), &Value::Array(Vec::new())), "{report}");
    let notices = report["notices"].as_array().unwrap();
    let noticed = |code: &str| notices.iter().filter(|notice| notice["code"] == code).count();
    // Of the ends, three are not recorded.
    assert_eq!((noticed("TORN_LINE_SET_ASIDE"), noticed("END_NOT_RECORDED")), (1, 3), "{report}");
    let output = vouch(&[&"audit", &"verify", &daemon.audit]);
    assert_eq!(output.status.code(), Some(0));
    let files = store::files(&daemon.audit).unwrap();
    let texts: String = files.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect();
    let calls = texts.matches("\"class_uid\":6003").count();
    assert!(answered > 0 && calls >= answered, "{answered} answers, {calls} records");
    assert!(
        calls <= answered + 9,
        "at most one more for each caller of each round: {answered} answers, {calls} records"
    );
}

/// It was: the settings in effect when the record was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_a_reload_overtakes_names_the_settings_that_it_began_with() {
    let config = tempfile::NamedTempFile::new().unwrap();
    let mut daemon = Daemon::start(&[("VOUCH_CONFIG", config.path().to_str().unwrap())]);
    let mut client = daemon.client().await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let frame = png(&drawn(&PASSPORT));
    sender.send(ScanMrzRequest { frame: frame.clone() }).unwrap();
    let mut scan = client.scan_mrz(UnboundedReceiverStream::new(receiver)).await.unwrap().into_inner();
    scan.message().await.unwrap();
    fs::write(config.path(), "[[callers]]\nname = 'test'\nmalformed_burst = 0\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    let hashes = |daemon: &Daemon, name: &str, of: &str| -> Vec<Value> {
        let records = daemon.records().into_iter();
        let is_it = |one: &Value| one["api"]["operation"] == name || one["unmapped"]["event"] == name;
        records.filter(is_it).map(|one| one["unmapped"][of].clone()).collect()
    };
    let until = Instant::now() + PATIENCE;
    while hashes(&daemon, "reload", "event").is_empty() {
        assert!(Instant::now() < until, "{}", daemon.journal());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The settings are exchanged in the moment after the record.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(junk(&mut client).await.code(), Code::InvalidArgument);
    drop(sender);
    while let Ok(Some(_)) = scan.message().await {}
    daemon.end(Signal::SIGTERM);
    let [start, reload, scan, junk] =
        ["start", "reload", "ScanMrz", "DetectFaces"].map(|name| hashes(&daemon, name, "config_sha256"));
    assert_ne!(start, reload);
    assert_eq!((scan, junk), (start, reload));
}

/// Callers that ask until the daemon has gone, and count its answers; with what ended them.
async fn callers_of(daemon: &Daemon, callers: usize) -> Vec<tokio::task::JoinHandle<(usize, Status)>> {
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let mut client = daemon.client().await;
        tasks.push(tokio::spawn(async move {
            let mut answered = 0;
            loop {
                let status = junk(&mut client).await;
                if status.code() != Code::InvalidArgument {
                    break (answered, status);
                }
                answered += 1;
            }
        }));
    }
    tasks
}

impl Daemon {
    /// Another daemon on the folder of one that has ended.
    fn restarted(mut self, variables: &[(&str, &str)]) -> Self {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        // What the ended one's drop would look for.
        fs::write(self.folder.path().join("vouch.sock.lock"), "0").unwrap();
        Self::start_in(folder, &self.audit.clone(), variables, &[])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_keeps_the_chain_and_the_log_says_what_it_removed() {
    let variables = [("VOUCH_AUDIT__MAX_FILE_BYTES", "8192"), ("VOUCH_AUDIT__MAX_FILES", "3")];
    let mut daemon = Daemon::start(&variables);
    let mut client = daemon.client().await;
    for _ in 0..60 {
        assert_eq!(junk(&mut client).await.code(), Code::InvalidArgument);
    }
    daemon.end(Signal::SIGTERM);
    let files = store::files(&daemon.audit).unwrap();
    assert_eq!(files.len(), 3, "{files:?}");
    for (_, path) in &files {
        assert!(fs::metadata(path).unwrap().len() <= 8192, "{path:?}");
    }
    let report = daemon.assert_whole();
    assert!(report["notices"].to_string().contains("BEGINNING_REMOVED"), "{report}");
    assert!(report["first"].as_u64().unwrap() > 1 && report["last"].as_u64().unwrap() > 60, "{report}");
    // One file more is gone than the log says.
    fs::remove_file(&files[0].1).unwrap();
    let (code, report) = daemon.verify();
    assert_eq!(code, Some(65));
    assert!(report["findings"].to_string().contains("BEGINNING_MISSING"), "{report}");
}

// ---------------------------------------------------------------- a full disk

/// A small file system; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let at = tempfile::tempdir().unwrap();
        let arguments = ["-t", "tmpfs", "-o", "size=128k", "tmpfs"];
        assert!(Command::new("mount").args(arguments).arg(at.path()).status().unwrap().success());
        Self(at)
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    fn fill(&self) {
        use std::io::Write as _;
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to mount a small file system"]
async fn on_a_full_disk_requests_are_refused_until_there_is_room() {
    for sync in ["each", "seconds"] {
        let disk = SmallDisk::new();
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = Daemon::start_in(folder, &disk.0.path().join("audit"), &[("VOUCH_AUDIT__SYNC", sync)], &[]);
        let mut client = daemon.client().await;
        assert_eq!(junk(&mut client).await.code(), Code::InvalidArgument);
        disk.fill();
        // The last page of the file has room for some.
        let mut answered = 1;
        let mut refused = loop {
            let status = junk(&mut client).await;
            if status.code() != Code::InvalidArgument {
                break status;
            }
            answered += 1;
            assert!(answered < 20);
        };
        for _ in 0..3 {
            assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
            let details = refused.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, "AUDIT_UNAVAILABLE");
            assert!(details.retry_info().unwrap().retry_delay.is_some());
            refused = verify(&mut client, VerifyRequest::default()).await.unwrap_err();
        }
        client.get_status(GetStatusRequest::default()).await.unwrap();
        fs::remove_file(disk.filler()).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while junk(&mut client).await.code() != Code::InvalidArgument {
            assert!(Instant::now() < until, "the log is not tried again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        answered += 1;
        daemon.end(Signal::SIGTERM);
        let report = daemon.assert_whole();
        assert!(report["notices"].to_string().contains("RECORDS_LOST"), "{report}");
        assert_eq!(daemon.calls().len(), answered, "{sync}");
        let gap = daemon.records().into_iter().find(|one| one["unmapped"]["event"] == "gap").unwrap();
        assert_eq!(gap["unmapped"]["lost"], 0);
        assert!(gap["unmapped"]["refused"].as_u64().unwrap() >= 4, "{gap}");
        drop(daemon);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to mount a small file system"]
async fn on_a_full_disk_requests_are_answered_and_counted_where_that_is_wanted() {
    let disk = SmallDisk::new();
    let folder = tempfile::tempdir().unwrap();
    let variables = [("VOUCH_AUDIT__ON_FAILURE", "warn")];
    let mut daemon = Daemon::start_in(folder, &disk.0.path().join("audit"), &variables, &[]);
    let mut client = daemon.client().await;
    disk.fill();
    let made = 30;
    for _ in 0..made {
        assert_eq!(junk(&mut client).await.code(), Code::InvalidArgument);
    }
    fs::remove_file(disk.filler()).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(junk(&mut client).await.code(), Code::InvalidArgument);
    daemon.end(Signal::SIGTERM);
    daemon.assert_whole();
    let lost: u64 = daemon.records().iter().filter_map(|one| one["unmapped"]["lost"].as_u64()).sum();
    assert!(lost >= 10, "{lost}");
    assert_eq!(daemon.calls().len() as u64 + lost, made + 1);
    let complaints = daemon.journal().matches("the audit log cannot be written").count();
    assert!((1..=2).contains(&complaints), "{complaints}");

    // Full from the start: one daemon begins all the same, the other does not.
    disk.fill();
    drop(daemon);
    let folder = tempfile::tempdir().unwrap();
    let other = disk.0.path().join("other");
    let mut refused = vouchd(&folder.path().join("vouch.sock"));
    let output = refused.env("VOUCH_AUDIT__DIR", &other).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
    let mut daemon = Daemon::start_in(folder, &other, &variables, &[]);
    let mut client = daemon.client().await;
    assert_eq!(junk(&mut client).await.code(), Code::InvalidArgument);
    fs::remove_file(disk.filler()).unwrap();
    daemon.end(Signal::SIGTERM);
    daemon.assert_whole();
}

// ---------------------------------------------------------------- callers who are not allowed

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn a_caller_who_is_not_allowed_leaves_a_record() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut daemon = Daemon::start(&[("VOUCH_SOCKET__MODE", "0666"), ("VOUCH_SOCKET__ALLOWED_USERS", "12001")]);
    fs::set_permissions(daemon.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = daemon.folder.path().join("vouch.sock");
    let connect = move || {
        // The raw system call changes this one thread alone.
        // SAFETY: a plain system call.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0);
        std::os::unix::net::UnixStream::connect(socket).unwrap()
    };
    let stranger = std::thread::spawn(connect).join().unwrap();
    assert!(stranger.as_raw_fd() > 0);
    stranger.set_nonblocking(true).unwrap();
    let mut stranger = Some(UnixStream::from_std(stranger).unwrap());
    let connect = tower::service_fn(move |_| {
        let stream = stranger.take().map(TokioIo::new).ok_or(std::io::Error::from(std::io::ErrorKind::NotConnected));
        async move { stream }
    });
    let channel = Endpoint::from_static("http://vouch.local").connect_with_connector(connect).await.unwrap();
    assert_eq!(junk(&mut Client::new(channel)).await.code(), Code::PermissionDenied);
    daemon.end(Signal::SIGTERM);
    let calls = daemon.calls();
    let expected = ("DetectFaces".to_owned(), "CALLER_NOT_ALLOWED".to_owned(), "PERMISSION_DENIED".to_owned());
    assert_eq!(calls, [expected]);
    let record = daemon.records().into_iter().find(|one| one["class_uid"] == 6003).unwrap();
    assert_eq!((&record["actor"]["user"]["uid"], &record["severity_id"]), (&"65534".into(), &3.into()));
}

// ---------------------------------------------------------------- nothing is written to the disk

/// Every system call that opens a file is looked at: those that a picture could be written through, under whichever name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_but_the_audit_log_is_opened_for_writing_while_requests_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, trace) = (folder.path().join("audit"), folder.path().join("trace"));
    let calls = "trace=open,openat,openat2,creat,memfd_create,mknod,mknodat,link,linkat";
    let before = ["strace", "-f", "-ttt", "-s", "4096", "--seccomp-bpf", "-e", calls, "-o", trace.to_str().unwrap()];
    let mut daemon = Daemon::start_in(folder, &audit, &[("VOUCH_AUDIT__MAX_FILE_BYTES", "4096")], &before);
    let ready = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let mut client = daemon.client().await;
    let page = specimen(Kind::Td3, 23, &Options { dpi: 200, ..Options::default() }).pages.remove(0);
    let document: Bytes = photograph(&page, &Shot { seed: 1, level: 1, size_px: [1280, 720] }).jpeg.clone().into();
    let pictures =
        vec![media(MediaKind::DocumentFront, document.clone()), media(MediaKind::Selfie, photo("selfie.jpg"))];
    for _ in 0..2 {
        verify(&mut client, VerifyRequest { media: pictures.clone(), ..Default::default() }).await.unwrap();
        detect(&mut client, photo("portrait.jpg")).await.unwrap();
        junk(&mut client).await;
    }
    let selfie = photo("selfie.jpg");
    let request = MatchFacesRequest { probe: selfie.clone(), reference: photo("portrait.jpg"), ..Default::default() };
    client.match_faces(request).await.unwrap();
    let request = CheckPassiveLivenessRequest { selfie: selfie.clone(), ..Default::default() };
    client.check_passive_liveness(request).await.unwrap();
    client.estimate_age(EstimateAgeRequest { selfie: selfie.clone(), ..Default::default() }).await.unwrap();
    let file = pdf(&[&drawn(&PASSPORT)], "");
    client.read_document(ReadDocumentRequest { images: vec![file], ..Default::default() }).await.unwrap();
    // A decoder reads on until there is no more.
    let refused = detect(&mut client, selfie.slice(..selfie.len() / 2)).await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "IMAGE_TRUNCATED");
    let mut scan = client.scan_mrz(stream(vec![ScanMrzRequest { frame: document }])).await.unwrap().into_inner();
    scan.message().await.unwrap();
    let frame = |index| LiveFrame { index, captured_us: u64::from(index) * 33_000, image: selfie.clone() };
    let messages = [Message::Policy(LivePolicy::default())].into_iter().chain((0..5).map(frame).map(Message::Frame));
    let messages = messages.map(|message| VerifyLiveRequest { message: Some(message) }).collect();
    let mut live = client.verify_live(stream(messages)).await.unwrap().into_inner();
    while live.message().await.unwrap().is_some() {}
    drop((scan, live, client));
    daemon.end(Signal::SIGTERM);

    let called: BTreeSet<String> = daemon.calls().into_iter().map(|(operation, ..)| operation).collect();
    let all: BTreeSet<String> = Rpc::ALL.iter().filter(|rpc| rpc.takes_media()).map(|rpc| format!("{rpc:?}")).collect();
    assert_eq!(called, all);
    let text = fs::read_to_string(&trace).unwrap();
    let writes = |line: &str| {
        ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE", "O_APPEND", "creat(", "memfd_create(", "mknod", "link"]
            .iter()
            .any(|word| line.contains(word))
    };
    let (mut at_start, mut at_work) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| writes(line) && !line.contains("resumed>") && !line.contains("= -1 E")) {
        // `PID TIME call("path", …) = fd`
        let mut words = line.split_whitespace();
        let time: f64 = words.nth(1).unwrap().parse().unwrap();
        let path = line.split('"').nth(1).unwrap_or(line).to_owned();
        if time > ready { at_work.push(path) } else { at_start.push(path) }
    }
    let is_of_log = |path: &String| Path::new(path).starts_with(&audit);
    assert!(text.lines().count() > 100 && at_start.iter().any(is_of_log), "the trace shows nothing: {at_start:?}");
    assert!(at_work.iter().any(is_of_log), "no file was begun, so the trace proves nothing: {at_work:?}");
    let others: Vec<_> = at_work.iter().filter(|path| !is_of_log(path)).collect();
    assert!(others.is_empty(), "opened for writing while requests were answered: {others:?}");
    // At the start also the lock of the socket, graphs that were optimised, and devices.
    let cache = common::root().join("models/pack").canonicalize().unwrap();
    let is_allowed = |path: &String| {
        is_of_log(path)
            || path.ends_with("vouch.sock.lock")
            // Not on any disk: the memory through which a decoder process gets files and gives pixels.
            || path == "vouch-decoder"
            // That process's own word on who is to be ended first.
            || path == "/proc/self/oom_score_adj"
            || path.starts_with("/dev/")
            || Path::new(path).canonicalize().unwrap_or_default().starts_with(&cache)
            || path.contains("/cache/")
    };
    let others: Vec<_> = at_start.iter().filter(|path| !is_allowed(path)).collect();
    assert!(others.is_empty(), "opened for writing at the start: {others:?}");
    daemon.assert_whole();
}
