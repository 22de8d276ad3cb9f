//! The Python example against the real daemon with real models: the contract as another language sees it.
//!
//! Needs the model pack, the sample photographs and the Python packages; `make test` fetches all three and runs this.

mod common;

use std::process::{Command, Output};

use common::{Daemon, root};

/// Runs orchestrate.py; returns exit code, standard output and standard error.
fn orchestrate(daemon: &Daemon, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new("python3")
        .arg("examples/python/orchestrate.py")
        .args(arguments)
        .current_dir(root())
        .env("PYTHONPATH", ".cache/python")
        .env("VOUCH_SOCKET", daemon.socket())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn python_orchestrator_verifies_people_with_the_real_daemon() {
    let daemon = Daemon::start();
    let portrait = ".cache/photos/portrait.jpg";

    let (code, out, err) = orchestrate(
        &daemon,
        &["--portrait", portrait, "--selfie", ".cache/photos/selfie.jpg", "--check", "face_match"],
    );
    assert_eq!(code, 0, "one person: {out}{err}");
    assert!(out.starts_with("health: SERVING\n"), "{out}");
    let events: Vec<&str> = out.lines().filter_map(|line| line.split(" ms  ").nth(1)).collect();
    assert!(events[0].starts_with("accepted "), "{out}");
    assert!(events.iter().any(|event| event.starts_with("face_match PASS, cosine_similarity ")), "{out}");
    assert_eq!(events.last(), Some(&"summary PASS"), "{out}");

    let (code, out, err) = orchestrate(
        &daemon,
        &["--portrait", portrait, "--selfie", ".cache/photos/other-person.jpg", "--check", "face_match"],
    );
    assert_eq!(code, 1, "two persons: {out}{err}");

    let (code, out, err) = orchestrate(&daemon, &["--portrait", "Cargo.toml", "--selfie", portrait]);
    assert_eq!(code, 65, "no picture at all: {out}{err}");
    assert!(err.contains("media[1].data: "), "the field is named: {err}");

    let (code, out, err) = orchestrate(&daemon, &["--selfie", portrait, "--check", "no_such_check"]);
    assert_eq!(code, 65, "unknown check: {out}{err}");
}
