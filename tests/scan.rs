//! `ScanMrz` and `vouch scan` against the real daemon, with frames that are drawn here.

mod common;
#[path = "common/drawn.rs"]
mod drawn;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Daemon, png};
use drawn::drawn;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Streaming};
use tonic_types::StatusExt;
use vouch::api::proto::{GetStatusRequest, ScanMrzEvent, ScanMrzRequest};
use vouch::document::mrz::{Format, generate};
use vouch::specimen::person::Person;
use vouch::specimen::random::Random;

const PASSPORT: [&str; 2] =
    ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"];

struct Scan {
    frames: UnboundedSender<ScanMrzRequest>,
    events: Streaming<ScanMrzEvent>,
}

impl Scan {
    async fn start(daemon: &Daemon) -> Self {
        let (frames, stream) = unbounded_channel();
        let events = daemon.client().await.scan_mrz(UnboundedReceiverStream::new(stream)).await.unwrap().into_inner();
        Self { frames, events }
    }

    fn send(&self, frame: Bytes) {
        self.frames.send(ScanMrzRequest { frame }).unwrap();
    }

    async fn next(&mut self) -> Option<ScanMrzEvent> {
        self.events.message().await.unwrap()
    }
}

#[tokio::test]
async fn a_scan_goes_on_over_bad_frames_and_ends_once_the_zone_is_proved() {
    let daemon = Daemon::start();
    let mut scan = Scan::start(&daemon).await;
    scan.send(png(&drawn(&[])));
    let event = scan.next().await.unwrap();
    assert_eq!((event.frame, event.mrz, event.proved, event.warning), (0, None, false, None));
    for broken in [&b"\xff\xd8\xff no picture"[..], b"", b"%PDF-1.7 no picture either"].map(Bytes::from_static) {
        scan.send(broken);
        let event = scan.next().await.unwrap();
        let code = event.warning.unwrap().code;
        assert!(code.starts_with("IMAGE_"), "{code}");
    }
    scan.send(png(&drawn(&PASSPORT)));
    let event = scan.next().await.unwrap();
    let mrz = event.mrz.unwrap();
    assert_eq!((mrz.lines.as_slice(), mrz.check_digits_valid), (PASSPORT.map(String::from).as_slice(), true));
    assert!(event.proved, "{:?}", event.fields);
    assert_eq!((event.frame, event.frames_used, event.frames_dropped, event.quad.len()), (4, 1, 0, 4));
    let roles: Vec<&str> = event.models.iter().map(|model| model.role.as_str()).collect();
    assert_eq!(roles, ["page_locator", "text_detector", "mrz_recogniser"]);
    let number = event.fields.iter().find(|field| field.name == "document_number").unwrap();
    assert_eq!(number.value, "L898902C3");
    assert_eq!(scan.next().await, None, "a proved scan ends by itself");
}

#[tokio::test]
async fn frames_that_wait_are_replaced_by_newer_ones_and_the_last_one_is_looked_at() {
    let daemon = Daemon::start();
    let scan = Scan::start(&daemon).await;
    let empty = png(&drawn(&[]));
    (0..20).for_each(|_| scan.send(empty.clone()));
    // The caller has no more.
    let Scan { frames, mut events } = scan;
    drop(frames);
    let mut seen = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        seen.push((event.frame, event.frames_dropped));
    }
    assert_eq!(seen.last().map(|(frame, _)| *frame), Some(19), "{seen:?}");
    assert!(seen.len() < 20, "twenty frames at once are more than one at a time");
    for (count, (frame, dropped)) in (1..).zip(&seen) {
        assert_eq!(*dropped, frame + 1 - count, "{seen:?}");
    }
}

#[tokio::test]
async fn a_frame_of_another_document_starts_anew() {
    let daemon = Daemon::start();
    let mut scan = Scan::start(&daemon).await;
    // A birth date that its check digit does not know: read the same however often, and never proved.
    let forged = [PASSPORT[0], "L898902C36UTO8408122F1204159ZE184226B<<<<<10"];
    for count in 1..=2 {
        scan.send(png(&drawn(&forged)));
        let event = scan.next().await.unwrap();
        assert_eq!((event.frames_used, event.proved, event.mrz.unwrap().check_digits_valid), (count, false, false));
    }
    let fields = Person::new(&mut Random::new(3, "person")).fields(Format::Td3);
    let other = generate(&fields).unwrap();
    scan.send(png(&drawn(&other.iter().map(String::as_str).collect::<Vec<_>>())));
    let event = scan.next().await.unwrap();
    assert_eq!((event.frames_used, event.proved, event.mrz.unwrap().lines), (1, true, other));
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_scan_with_its_reason() {
    let daemon = Daemon::start();
    let mut scan = Scan::start(&daemon).await;
    scan.send(vec![0; 40 << 20].into());
    let refused = scan.events.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
}

#[tokio::test]
async fn a_scan_that_waits_for_frames_does_not_hold_up_the_drain() {
    let mut daemon = Daemon::start();
    let mut scan = Scan::start(&daemon).await;
    scan.send(png(&drawn(&[])));
    scan.next().await.unwrap();
    let asked = Instant::now();
    daemon.terminate();
    let ended = scan.events.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    drop(scan);
    let status = tokio::task::spawn_blocking(move || daemon.child.wait().unwrap()).await.unwrap();
    assert!(status.success() && asked.elapsed() < Duration::from_secs(10), "{status} {:?}", asked.elapsed());
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let daemon = Daemon::start();
    {
        let mut scan = Scan::start(&daemon).await;
        scan.send(png(&drawn(&[])));
        scan.next().await.unwrap();
        (0..5).for_each(|_| scan.send(png(&drawn(&[]))));
    }
    let mut client = daemon.client().await;
    for _ in 0..100 {
        let status = client.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
        if (status.running, status.waiting) == (0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a place is still taken");
}

#[tokio::test]
async fn the_command_scans_files_until_the_zone_is_proved() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let files = [("empty.png", png(&drawn(&[]))), ("passport.png", png(&drawn(&PASSPORT)))];
    for (name, content) in &files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let run = |frames: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vouch"));
        command.arg("--socket").arg(daemon.socket()).arg("scan").args(frames).current_dir(folder.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, out, err) = run(&["empty.png", "passport.png", "empty.png"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("no zone yet") && out.contains("proved, frames: 1") && out.contains("ERIKSSON"), "{out}");
    let (code, out, _) = run(&["--json", "empty.png"]);
    assert_eq!(code, Some(3));
    let event: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&event["frame"], &event["proved"], &event["mrz"]),
        (&0.into(), &false.into(), &serde_json::Value::Null)
    );
    let (code, _, err) = run(&["nothing.png"]);
    assert_eq!(code, Some(66));
    assert!(err.contains("nothing.png"), "{err}");
}
