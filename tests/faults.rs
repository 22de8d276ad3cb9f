//! Faults injected into the real daemon, each once: what it is made of, what it answers and its audit log are the same before and after, no request is lost, and nobody else is hurt.
//!
//! `make faults` injects them again and again and prints the table (`benches/faults.rs`). Those inside of the daemon need the feature `faults`, with which `make test` builds.

mod common;
mod injection;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{client_of, photo, root};
use injection::stand::{Setting, Stand};
use injection::{Row, all, inject, inputs};
use vouch::api::proto::{GetStatusRequest, MatchFacesRequest};

/// Injects all faults of a setting that `wanted` picks, each once, into one daemon.
fn all_of(setting: Setting, wanted: impl Fn(&str) -> bool) {
    let mut stand = Stand::new(setting);
    let mut problems = Vec::new();
    let faults: Vec<_> = all().into_iter().filter(|fault| fault.on == setting && wanted(fault.name)).collect();
    assert!(!faults.is_empty());
    for fault in faults {
        let began = Instant::now();
        let row = inject(&fault, &mut stand, 1);
        eprintln!("{}: {} in {:.1} s", fault.name, row.ends(), began.elapsed().as_secs_f64());
        if !row.is_well() {
            problems.push(format!("{}: {row:#?}", fault.name));
        }
    }
    assert!(problems.is_empty(), "{}\n{}", problems.join("\n"), stand.journal());
}

#[cfg(feature = "faults")]
#[test]
fn a_panic_in_a_stage_or_under_a_lock_ends_one_request_and_poisons_nothing() {
    all_of(Setting::Plain, |name| {
        ["in a check", "decoded", "of its queue", "in a reload"].iter().any(|part| name.contains(part))
    });
}

/// It was: the call was reset without a status.
#[cfg(feature = "faults")]
#[test]
fn a_handler_that_panics_answers_internal() {
    all_of(Setting::Plain, |name| name.contains("panic in a handler"));
}

/// It was: the stream ended with OK, without the results that were missing.
#[cfg(feature = "faults")]
#[test]
fn a_stream_whose_events_end_by_a_panic_does_not_end_as_if_all_was_told() {
    all_of(Setting::Plain, |name| name.contains("what tells events"));
}

/// It was: the thread ended and its session with it, unnoticed; without the last one, whoever came would have waited until the deadline.
#[cfg(feature = "faults")]
#[test]
fn a_worker_that_panics_beside_its_run_goes_on() {
    all_of(Setting::Plain, |name| name.contains("worker"));
}

/// It was: the thread ended, and every later request was refused for want of a record.
#[cfg(feature = "faults")]
#[test]
fn the_audit_log_outlives_a_panic_of_its_thread() {
    all_of(Setting::Plain, |name| name.contains("audit log's thread"));
}

/// It was: all decoder processes ended with it, and no other could be started.
#[cfg(feature = "faults")]
#[test]
fn decoders_outlive_a_panic_of_the_thread_that_starts_them() {
    all_of(Setting::Plain, |name| name.contains("starts decoders"));
}

#[test]
fn decoders_that_die_or_hang_cost_their_own_requests_alone() {
    all_of(Setting::Decoders, |_| true);
}

/// It was: they waited, with a connection that seemed to be open.
#[test]
fn without_a_descriptor_who_connects_is_told_so() {
    all_of(Setting::Plain, |name| name.contains("out of descriptors"));
}

#[test]
fn hostile_callers_hurt_nobody_else() {
    let others = ["panic", "flood", "SIGKILL", "descriptors"];
    all_of(Setting::Plain, |name| !others.iter().any(|part| name.contains(part)));
}

#[test]
fn floods_are_bounded() {
    all_of(Setting::Plain, |name| name.contains("flood"));
}

#[test]
fn a_killed_daemon_leaves_nothing_that_keeps_the_next_one_away() {
    all_of(Setting::Plain, |name| name.contains("SIGKILL"));
}

#[test]
fn no_request_is_lost_across_a_restart_with_a_held_socket() {
    all_of(Setting::Activated, |_| true);
}

#[test]
fn what_never_arrives_whole_is_ended() {
    all_of(Setting::Hurried, |_| true);
}

#[test]
fn what_callers_have_on_its_way_is_bounded() {
    all_of(Setting::Narrow, |_| true);
}

#[test]
fn a_model_that_fails_takes_its_own_check_alone() {
    all_of(Setting::Failing, |_| true);
}

#[test]
fn a_model_that_never_ends_stops_the_feed_of_the_watchdog() {
    all_of(Setting::Endless, |_| true);
}

#[test]
fn the_wall_clock_decides_nothing_but_dates() {
    all_of(Setting::Clock, |_| true);
}

#[test]
#[ignore = "needs root, to mount read-only"]
fn on_a_read_only_disk_the_log_refuses_and_the_cache_only_warns() {
    all_of(Setting::ReadOnly, |_| true);
}

#[test]
fn malformed_inputs_to_every_rpc_get_an_answer_of_their_own() {
    let mut stand = Stand::new(Setting::Plain);
    let before = stand.state();
    let mut row = Row::default();
    inputs::send_all(&mut stand, &mut row, 120, 1);
    row.lost.extend(stand.differences(&before));
    assert!(stand.ended().is_none() && row.is_well(), "{row:#?}\n{}", stand.journal());
}

/// systemd's own tool listens, starts the daemon on the first connection, and hands it the socket.
#[test]
fn under_socket_activation_the_first_request_waits_for_the_warm_up() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("vouch.sock");
    let mut child = Command::new("systemd-socket-activate")
        .arg(format!("--listen={}", socket.display()))
        .arg(format!("--setenv=VOUCH_SOCKET={}", folder.path().join("unused").display()))
        .arg(env!("CARGO_BIN_EXE_vouchd"))
        .current_dir(root())
        .spawn()
        .expect("systemd-socket-activate (`make test-tools`)");
    let until = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        assert!(Instant::now() < until, "systemd-socket-activate does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Nothing runs but the tool: it becomes the daemon with the first connection.
    let name = || std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
    assert!(name().starts_with("systemd-socket"), "{}", name());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (score, sessions) = runtime.block_on(async {
        let mut client = client_of(&socket).await;
        let request = MatchFacesRequest {
            probe: photo("selfie.jpg"),
            reference: photo("portrait.jpg"),
            ..MatchFacesRequest::default()
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(100));
        let answer = client.match_faces(request).await.unwrap().into_inner();
        let status = client.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
        (answer.result.unwrap().score.unwrap(), status.models.iter().map(|model| model.sessions).min().unwrap())
    });
    assert!(score > 0.4 && sessions >= 1, "{score}, {sessions}");
    assert!(name().starts_with("vouchd"), "{}", name());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(socket.exists(), "the socket belongs to the service manager");
}
