//! `vouch top` beside a real daemon: its counts, a restart, and a terminal that is left as it was.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Client, Daemon, photo, root, vouchd};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::Value;
use vouch::api::proto::{CheckRequest, DetectFacesRequest, Media, MediaKind, VerifyRequest};

fn top(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouch"));
    command.env("VOUCH_SOCKET", socket).env("TERM", "xterm").env_remove("NO_COLOR").current_dir(root());
    command.arg("top").args(args);
    command
}

async fn verify(client: &mut Client) {
    let media = [(MediaKind::Selfie, "selfie.jpg"), (MediaKind::Portrait, "portrait.jpg")];
    let request = VerifyRequest {
        media: media.map(|(kind, file)| Media { kind: kind.into(), data: photo(file) }).into(),
        checks: vec![CheckRequest { name: "face_match".into(), ..CheckRequest::default() }],
        ..VerifyRequest::default()
    };
    let mut events = client.verify(request).await.unwrap().into_inner();
    while events.message().await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_those_of_the_calls_and_a_restart_is_told() {
    let mut daemon = Daemon::start();
    let socket = daemon.socket();
    let mut client = daemon.client().await;
    let mut watching =
        top(&socket, &["--json", "--interval", "300ms"]).stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = move || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    // It has its first answer; what is called from now on lies in its intervals.
    assert_eq!(next()["calls"]["ended"], 0);
    for _ in 0..2 {
        verify(&mut client).await;
    }
    let broken = DetectFacesRequest { image: Bytes::from_static(b"\xff\xd8\xff no picture") };
    client.detect_faces(broken).await.unwrap_err();

    let until = Instant::now() + Duration::from_secs(30);
    let (mut ended, mut failed, mut passed, mut decoded, mut runs) = (0, 0, 0, 0, 0);
    let mut connections = 0;
    while ended < 3 {
        assert!(Instant::now() < until, "{ended} calls were told");
        let interval = next();
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        assert_eq!(interval["since"], "last");
        ended += number(&interval["calls"]["ended"]);
        failed += number(&interval["calls"]["failed"]);
        passed += number(&interval["checks"]["face_match"]["PASS"]);
        decoded += number(&interval["stages"]["decode"]["count"]);
        let detector = interval["models"].as_array().unwrap().iter().find(|model| model["role"] == "face_detector");
        runs += number(&detector.unwrap()["run"]["count"]);
        connections = number(&interval["connections"]);
    }
    assert_eq!((ended, failed, passed, decoded, connections), (3, 1, 2, 4, 2));
    assert!(runs >= 4, "{runs}");

    let once = top(&socket, &["--once", "--json", "--interval", "200ms"]).output().unwrap();
    assert_eq!(once.status.code(), Some(0));
    let once: Value = serde_json::from_slice(&once.stdout).unwrap();
    assert_eq!(once["rpcs"]["Verify"]["ended_total"], 2);
    assert_eq!(once["rpcs"]["Verify"]["ended"], 0);
    assert_eq!(once["process_id"], daemon.child.id());
    assert_eq!((&once["audit"], once["config_sha256"].as_str().unwrap().len()), (&Value::from("off"), 64));
    let reason = once["errors"].as_array().unwrap().iter().find(|error| error["count_total"] == 1).unwrap();
    assert_eq!(reason["code"], "INVALID_ARGUMENT");
    let table = top(&socket, &["--once", "--interval", "200ms"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    for words in ["READY", "face_detector", "decode", "face_match", "IMAGE_", "(2)"] {
        assert!(table.contains(words), "{words} in\n{table}");
    }
    assert!(!table.contains('\x1b'), "no colour in a file");

    on_a_terminal(&socket);

    drop(client);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    while next()["event"] != "unreachable" {}
    let gone = top(&socket, &["--once"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(69), "{gone:?}");
    daemon.child = vouchd(&socket).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(100);
    let told = loop {
        let told = next();
        if told["event"] == "interval" {
            break told;
        }
        assert!(Instant::now() < until, "{told}");
    };
    assert_eq!((&told["since"], &told["calls"]["ended"]), (&Value::from("restart"), &Value::from(0)));
    assert_eq!(told["process_id"], daemon.child.id());
    assert_eq!(next()["since"], "last");
    kill(Pid::from_raw(watching.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(watching.wait().unwrap().code(), Some(130));
}

/// Draws on a terminal of 80 × 24, is asked for help and for the end by keys, and by a signal.
fn on_a_terminal(socket: &Path) {
    for (ending, code) in [(None, 0), (Some(Signal::SIGTERM), 143)] {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).unwrap();
        let flags = || tcgetattr(terminal.slave.as_fd()).unwrap().local_flags;
        let before = flags();
        assert!(before.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        let stdio = || Stdio::from(terminal.slave.try_clone().unwrap());
        let mut child = top(socket, &["--interval", "200ms"]).stdin(stdio()).stdout(stdio()).spawn().unwrap();
        let mut master = std::fs::File::from(terminal.master.try_clone().unwrap());
        let mut seen = String::new();
        let mut until = |words: &str| {
            let mut bytes = [0; 4096];
            while !seen.contains(words) {
                let read = master.read(&mut bytes).unwrap();
                seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
            std::mem::take(&mut seen)
        };
        let drawn = until("q quit");
        assert!(drawn.starts_with("\x1b[?1049h") && drawn.contains("face_detector"), "{drawn}");
        assert!(!flags().contains(LocalFlags::ICANON));
        let mut keys = std::fs::File::from(terminal.master.try_clone().unwrap());
        keys.write_all(b"?").unwrap();
        until("sort by activity, latency, name");
        keys.write_all(b"? ").unwrap();
        until("PAUSED");
        match ending {
            Some(signal) => kill(Pid::from_raw(child.id() as i32), signal).unwrap(),
            None => keys.write_all(b"q").unwrap(),
        }
        until("\x1b[?1049l");
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(flags(), before);
    }
}

#[test]
fn a_daemon_that_is_not_there_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let ended = top(&folder.path().join("v.sock"), &[]).output().unwrap();
    assert_eq!(ended.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("is vouchd running?"), "{ended:?}");
    let wrong = top(&folder.path().join("v.sock"), &["--interval", "1ms"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(64));
}
