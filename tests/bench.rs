//! `vouch bench` against the real daemon with real models: the keys of its JSON, what it says of the daemon, the parts of a mix.
//!
//! Nothing here is about how long anything takes: the machine may be busy, and the build is not optimised. What the load does is tested with
//! played servers, in `src/cli/bench/load.rs` and `tests/cli.rs`.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Daemon, photo, png};
use image::imageops::FilterType;
use serde_json::Value;
use vouch::specimen::document::{Kind, Options, specimen};

/// Runs `vouch bench` in a folder of pictures.
fn bench(daemon: &Daemon, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouch"));
    command.arg("bench").args(arguments).args(["--timeout", "10m"]).current_dir(folder);
    command.env("VOUCH_SOCKET", daemon.socket()).output().unwrap()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A sample photograph, small: an unoptimised build is slow by the pixel.
fn small(name: &str) -> Vec<u8> {
    let picture = image::load_from_memory(&photo(name)).unwrap().resize(400, 400, FilterType::Triangle);
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Jpeg).unwrap();
    file.into_inner()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map_or_else(Vec::new, |object| object.keys().map(String::as_str).collect())
}

/// The keys that docs/performance.md promises of a step, in alphabetical order.
const STEP_KEYS: [&str; 27] = [
    "accepted_ms",
    "answered",
    "answered_per_second",
    "callers",
    "connections",
    "cost",
    "daemon_cpu_s_per_answer",
    "failed",
    "first_result_ms",
    "generator_share_of_daemon",
    "histogram",
    "is_search",
    "late",
    "latency_ms",
    "loop",
    "not_sent",
    "offered_per_second",
    "p99_over_p50",
    "parts",
    "refusal_ms",
    "refused",
    "retry_delay_ms",
    "sent",
    "share_of_saturation",
    "start_lag_ms",
    "warnings",
    "window_s",
];

#[test]
fn a_measurement_has_every_key_and_knows_the_daemon() {
    // An unoptimised daemon takes its time.
    let daemon = Daemon::start_with(&[("VOUCH_LIMITS__MAX_REQUEST_SECONDS", "600")]);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("selfie.jpg", &small("selfie.jpg"));
    write("reference.jpg", &small("portrait.jpg"));
    write("broken.jpg", &small("selfie.jpg")[..2000]);
    let page = &specimen(Kind::Td3, 24, &Options { dpi: 100, ..Options::default() }).pages[0].image;
    write("passport.png", &png(page));

    let selfie = ["selfie", "--selfie", "selfie.jpg", "--reference", "reference.jpg", "--warm-up", "0"];
    let steps = ["--callers", "1,2", "--rate", "2", "--duration", "2s", "--json", "out.json", "--html", "out.html"];
    let text = succeeded(&bench(&daemon, folder.path(), &[&selfie[..], &steps].concat()));
    for words in ["highest throughput", "1 caller ", "2 callers", "2/s", "99 % / 50 %", "resident memory"] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
    assert!(fs::read_to_string(folder.path().join("out.html")).unwrap().contains("<svg class=\"drawing\""));
    let found: Value = serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    let expected = [
        "daemon",
        "date",
        "first_answers",
        "format",
        "interrupted",
        "machine",
        "pictures",
        "saturation",
        "settings",
        "steps",
        "warnings",
    ];
    assert_eq!(keys(&found), expected);
    assert_eq!(
        (&found["format"], &found["interrupted"], &found["saturation"]),
        (&1.into(), &false.into(), &Value::Null)
    );
    assert_eq!(found["daemon"]["pid"], daemon.child.id());
    assert!(found["daemon"]["models"].as_array().unwrap().iter().all(|m| m["sha256"].as_str().unwrap().len() == 64));
    let outcomes = &found["first_answers"][0]["outcomes"];
    assert_eq!(keys(outcomes), ["age_estimation", "face_match", "face_quality", "passive_liveness"]);

    let [one, two, open] = &found["steps"].as_array().unwrap()[..] else { panic!("three steps") };
    for step in [one, two, open] {
        let mut known = STEP_KEYS.to_vec();
        known.push("wrong");
        assert_eq!(keys(step), known);
        let count = |key: &str| step[key].as_u64().unwrap();
        assert_eq!(count("sent"), count("answered"), "{step}");
        assert_eq!((count("wrong"), count("refused"), count("not_sent")), (0, 0, 0));
        // The first request of all begins with the window.
        let latency = &step["latency_ms"];
        assert_eq!(latency["count"], step["answered"]);
        let at = |key: &str| latency[key].as_f64().unwrap();
        assert!(0.0 < at("p50") && at("p50") <= at("p90") && at("p90") <= at("p99") && at("p99") <= at("max"));
        assert!(step["first_result_ms"]["p50"].as_f64().unwrap() <= at("max"));
        let points: Vec<[f64; 2]> = serde_json::from_value(step["histogram"].clone()).unwrap();
        assert!(points.is_sorted_by(|a, b| a[0] <= b[0] && a[1] < b[1]) && points.last().unwrap()[1] == 1.0);
        let cost = &step["cost"]["daemon"];
        assert!(cost["cpu_s"].as_f64().unwrap() > 0.0, "{step}");
        assert!(cost["resident_bytes_peak"].as_u64() >= cost["resident_bytes_end"].as_u64());
    }
    assert_eq!((&one["loop"], &one["callers"], &two["connections"]), (&"closed".into(), &1.into(), &2.into()));
    assert_eq!((&open["loop"], &open["offered_per_second"], &open["sent"]), (&"open".into(), &2.0.into(), &4.into()));

    let mix = ["mixed", "--mix", "selfie=2,document=1", "--document", "passport.png", "--json", "-"];
    let mixed = [&mix[..], &selfie[1..], &["--callers", "2", "--requests", "3"]].concat();
    let found: Value = serde_json::from_str(&succeeded(&bench(&daemon, folder.path(), &mixed))).unwrap();
    let parts = found["steps"][0]["parts"].as_array().unwrap();
    let answered: Vec<_> =
        parts.iter().map(|part| (part["name"].as_str(), part["latency_ms"]["count"].as_u64())).collect();
    assert_eq!(answered, [(Some("selfie"), Some(2)), (Some("document"), Some(1))]);
    let drawn: Vec<&Value> = found["pictures"].as_array().unwrap().iter().map(|picture| &picture["drawn"]).collect();
    assert_eq!(drawn, [false, false, false]);

    let broken = bench(&daemon, folder.path(), &["document", "--document", "broken.jpg"]);
    assert_eq!(broken.status.code(), Some(65), "{broken:?}");
    assert!(String::from_utf8_lossy(&broken.stderr).contains("(broken.jpg)"), "{broken:?}");
}
