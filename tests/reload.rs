//! Reloads of the real daemon under load: by the command, by SIGHUP, with what is good and with what is bad.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Client, Daemon, photo, root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use vouch::api::proto::administration_client::AdministrationClient;
use vouch::api::proto::{GetStatusRequest, GetStatusResponse, MatchFacesRequest, ReloadRequest};
use vouch::audit::store;

/// A configuration file with a copy of the calibrations beside it.
struct Setting {
    folder: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let setting = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(setting.path("calibration")).unwrap();
        for entry in fs::read_dir(root().join("calibration")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), setting.path("calibration").join(entry.file_name())).unwrap();
        }
        setting.write("");
        setting
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration, with more after it.
    fn write(&self, more: &str) {
        let text = format!("[calibration]\ndir = {:?}\n{more}", self.path("calibration"));
        fs::write(self.path("vouch.toml"), text).unwrap();
    }

    fn start(&self) -> Daemon {
        let [config, audit] = ["vouch.toml", "audit"].map(|name| self.path(name));
        Daemon::start_with(&[("VOUCH_CONFIG", config.to_str().unwrap()), ("VOUCH_AUDIT__DIR", audit.to_str().unwrap())])
    }

    fn edit_calibration(&self, check: &str, edit: impl FnOnce(String) -> String) {
        let path = self.path("calibration").join(check).with_extension("toml");
        fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
    }
}

fn reload(socket: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vouch")).arg("--socket").arg(socket).args(["reload"]).output().unwrap()
}

async fn status(client: &mut Client) -> GetStatusResponse {
    client.get_status(GetStatusRequest::default()).await.unwrap().into_inner()
}

fn calibration_of(status: &GetStatusResponse, check: &str) -> String {
    status.checks.iter().find(|found| found.name == check).unwrap().calibration_sha256.clone()
}

fn model_of<'a>(status: &'a GetStatusResponse, role: &str) -> &'a vouch::api::proto::ModelStatus {
    status.models.iter().find(|found| found.role == role).unwrap()
}

/// Asks for the match of two pictures without a pause until told to stop, four times at least, and gives the bits of all scores. A request that fails ends the test.
fn load(daemon: &Daemon, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<u64>> {
    let (socket, stop) = (daemon.socket(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut client = common::client_of(&socket).await;
        let mut scores = Vec::new();
        while !stop.load(Ordering::Relaxed) || scores.len() < 4 {
            let request = MatchFacesRequest {
                probe: photo("selfie.jpg"),
                reference: photo("portrait.jpg"),
                ..MatchFacesRequest::default()
            };
            let answer = client.match_faces(request).await.expect("no request is lost").into_inner();
            scores.push(answer.result.unwrap().score.unwrap().to_bits());
        }
        scores
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_exchanges_models_and_calibrations_under_load_and_loses_no_request() {
    let setting = Setting::new();
    let daemon = setting.start();
    let mut client = daemon.client().await;
    let before = status(&mut client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(&daemon, &stop);

    let output = reload(&daemon.socket());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "reloaded; nothing has changed\n", "{output:?}");

    // The same network with a comment: another file, the same scores. And a comment in a calibration.
    let mut bytes = fs::read(root().join("models/pack/fr_liveness.onnx")).unwrap();
    bytes.extend(b"\x32\x04same");
    fs::write(setting.path("own.onnx"), &bytes).unwrap();
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let own = format!(
        "[[model]]\nrole = \"passive_liveness\"\nname = \"own\"\nfile = \"own.onnx\"\nsha256 = \"{sha256}\"\nlicence = \"MIT\"\n\
         input = {{ name = \"input\", layout = \"nchw\", colour = \"bgr\", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0], size = [128, 128] }}\n\
         outputs = [\"output\"]\nbatch_exact = true\n"
    );
    fs::write(setting.path("models.toml"), own).unwrap();
    setting.edit_calibration("face_match", |text| text + "\n# looked at again\n");
    setting.write(&format!("[models]\noverrides = {:?}\n[limits]\nmax_waiting = 7\n", setting.path("models.toml")));
    let output = reload(&daemon.socket());
    let told = "in effect: models.overrides\nother models: passive_liveness\n\
                other calibrations: active_liveness, face_match, passive_liveness\n\
                changed, in effect after a restart: limits.max_waiting\n\
                without a calibration, decide nothing: passive_liveness, active_liveness\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), told, "{output:?}");

    let after = status(&mut client).await;
    assert_eq!(model_of(&after, "passive_liveness").sha256, sha256);
    assert_ne!(calibration_of(&after, "face_match"), calibration_of(&before, "face_match"));
    // It was measured with another model, so it decides nothing now; that of active liveness goes with it.
    assert_eq!(calibration_of(&after, "passive_liveness"), "");
    assert_eq!(after.max_waiting, before.max_waiting);
    // What did not change was taken over with its sessions and its counts, and so was the door.
    let runs = |status: &GetStatusResponse| model_of(status, "face_embedder").runs_total;
    assert!(runs(&after) >= runs(&before) && after.requests_total > before.requests_total);
    assert!(after.uptime.unwrap().seconds >= before.uptime.unwrap().seconds);

    // And back, by the signal.
    setting.write("");
    kill(Pid::from_raw(daemon.child.id() as i32), Signal::SIGHUP).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while model_of(&status(&mut client).await, "passive_liveness").sha256 == sha256 {
        assert!(Instant::now() < until, "SIGHUP does not reload");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_ne!(calibration_of(&status(&mut client).await, "passive_liveness"), "");

    // The chain tells with what each request was answered.
    let log: String = store::files(&setting.path("audit"))
        .unwrap()
        .into_iter()
        .map(|(_, file)| fs::read_to_string(file).unwrap())
        .collect();
    let reloads: Vec<&str> = log.lines().filter(|line| line.contains("\"event\":\"reload\"")).collect();
    let with_own: Vec<bool> = reloads.iter().map(|line| line.contains(&sha256)).collect();
    assert_eq!(with_own, [false, true, false], "{log}");
    let own_uid = format!("\"asked_by_uid\":{}", nix::unistd::Uid::current());
    let asked = |line: &&str| (line.contains(&own_uid), line.contains("\"asked_by_uid\":null"));
    assert_eq!(reloads.iter().map(asked).collect::<Vec<_>>(), [(true, false), (true, false), (false, true)], "{log}");
    let verify = |log: &Path| {
        Command::new(env!("CARGO_BIN_EXE_vouch")).args(["audit", "verify"]).arg(log).output().unwrap().status.code()
    };
    assert_eq!(verify(&setting.path("audit")), Some(0));

    stop.store(true, Ordering::Relaxed);
    let scores = load.await.unwrap();
    assert!(scores.iter().all(|score| *score == scores[0]), "{scores:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_reload_is_refused_with_every_problem_and_changes_nothing() {
    let setting = Setting::new();
    let daemon = setting.start();
    let mut client = daemon.client().await;
    let before = status(&mut client).await;
    let good = fs::read_to_string(setting.path("calibration/age_estimation.toml")).unwrap();

    setting.write("[limits]\nmax_waitin = 7\n[log]\nlevle = 'info'\n");
    let refused = reload(&daemon.socket());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{words}");
    assert!(words.contains("limits.max_waitin") && words.contains("log.levle"), "{words}");

    setting.write(&format!("[models]\npack_dir = {:?}\n", setting.path("nowhere")));
    let refused = reload(&daemon.socket());
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nowhere"), "{refused:?}");

    setting.write("");
    setting.edit_calibration("age_estimation", |text| text.replace("direction", "directoin"));
    // What is good beside it is not taken either: all of the new or all of the old.
    setting.edit_calibration("face_match", |text| text + "\n# looked at again\n");
    let refused = reload(&daemon.socket());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{words}");
    assert!(words.contains("age_estimation.toml"), "{words}");
    let kept = status(&mut client).await;
    for check in ["age_estimation", "face_match"] {
        assert_eq!(calibration_of(&kept, check), calibration_of(&before, check));
    }

    // The sessions that were still to be made at the start come all the same.
    let until = Instant::now() + Duration::from_secs(120);
    while status(&mut client).await.models.iter().any(|model| model.sessions < model.sessions_planned) {
        assert!(Instant::now() < until, "a refused reload has ended the making of sessions");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fs::write(setting.path("calibration/age_estimation.toml"), good).unwrap();
    assert_eq!(reload(&daemon.socket()).status.code(), Some(0));
    assert_ne!(calibration_of(&status(&mut client).await, "face_match"), calibration_of(&before, "face_match"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_reloads_leave_no_memory_and_no_threads_behind() {
    let setting = Setting::new();
    let daemon = setting.start();
    let mut client = daemon.client().await;
    // The sessions beyond the first are still being made at the start.
    let until = Instant::now() + Duration::from_secs(120);
    while status(&mut client).await.models.iter().any(|model| model.sessions < model.sessions_planned) {
        assert!(Instant::now() < until, "the sessions do not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let threads = || fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap().count();
    let files = || fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).unwrap().count();
    let sessions = |status: &GetStatusResponse| status.models.iter().map(|model| model.sessions).sum::<u32>();
    // The first reload starts threads of the runtime that stay.
    let mut seen = Vec::new();
    for round in 0..20 {
        setting.edit_calibration("face_match", |text| text + "\n# looked at again\n");
        assert_eq!(reload(&daemon.socket()).status.code(), Some(0));
        let now = status(&mut client).await;
        seen.push((threads(), files(), now.resident_bytes >> 20, sessions(&now)));
        assert_eq!(seen[round].3, seen[0].3);
    }
    let (first, last) = (seen[4], seen[19]);
    assert!(last.0 <= first.0 + 2 && last.1 <= first.1 + 2 && last.2 <= first.2 + 16, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_ended_while_it_reloads_ends_well() {
    let setting = Setting::new();
    let mut daemon = setting.start();
    // Another cache folder: every model is loaded anew.
    setting.write(&format!("[models]\ncache_dir = {:?}\n", setting.path("cache")));
    let pid = Pid::from_raw(daemon.child.id() as i32);
    kill(pid, Signal::SIGHUP).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn callers_are_read_anew_and_a_reload_is_for_the_operator_alone() {
    let setting = Setting::new();
    let daemon = setting.start();
    let mut client = daemon.client().await;
    setting.write("[socket]\nallowed_users = ['no-such-user-23001']\n");
    let refused = reload(&daemon.socket());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no-such-user-23001"), "{refused:?}");
    setting.write("[socket]\nallowed_users = [23001]\n");
    let output = reload(&daemon.socket());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "in effect: socket.allowed_users\n", "{output:?}");
    // Whoever runs the tests runs the daemon, and so stays allowed.
    status(&mut client).await;
    let mut operator = AdministrationClient::new(common::channel_of(&daemon.socket()).await);
    let answer = operator.reload(ReloadRequest {}).await.unwrap().into_inner();
    assert!(answer.applied.is_empty() && answer.needs_restart.is_empty(), "{answer:?}");
}
