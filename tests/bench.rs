//! `vouch bench` against the real daemon with real models: the keys of its JSON, what it says of the daemon, the parts of a mix.
//!
//! Nothing here is about how long anything takes: the machine may be busy, and the build is not optimised. What the load does is tested with
//! played servers, in `src/cli/bench/load.rs` and `tests/cli.rs`.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Daemon, photo, png};
use image::imageops::FilterType;
use serde_json::Value;
use vouch::specimen::document::{Kind, Options, specimen};

/// Lists the keys of the JSON.
const DOCUMENT: &str = include_str!("../docs/performance.md");

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

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// Words in backticks.
fn coded(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The keys that docs/performance.md lists under a line, each with its meaning.
fn documented(heading: &str) -> BTreeMap<&'static str, &'static str> {
    let text = DOCUMENT.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{heading} is gone")).1;
    let rows = text.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let (names, meaning) = row.trim_matches('|').split_once('|').unwrap();
        coded(names).into_iter().map(move |name| (name, meaning))
    })
    .collect()
}

/// What docs/performance.md says a spread holds.
fn spread_keys() -> BTreeSet<&'static str> {
    let text = DOCUMENT.split_once("A *spread* is an object with").unwrap().1;
    coded(text.split_once(", or null").unwrap().0).into_iter().collect()
}

/// The keys of all objects in a value, but not of spreads, nor of outcomes, which are named by checks.
fn nested_keys<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        found.insert(key);
        if !key.ends_with("_ms") && key != "outcomes" {
            nested_keys(value, found);
        }
    }
    value.as_array().into_iter().flatten().for_each(|value| nested_keys(value, found));
}

/// The object has the keys that the document lists, no more and no fewer, and so have the objects in it.
fn agrees(object: &Value, heading: &str) {
    let documented = documented(heading);
    assert_eq!(keys(object), documented.keys().copied().collect(), "{heading}");
    for (key, meaning) in documented {
        let mut found = BTreeSet::new();
        nested_keys(&object[key], &mut found);
        if key == "steps" || found.is_empty() {
            continue;
        }
        let told = if meaning.contains("spread") { spread_keys() } else { coded(meaning).into_iter().collect() };
        assert_eq!(found, told, "{key}");
    }
}

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
    agrees(&found, "### Keys of the JSON");
    assert_eq!(
        (&found["format"], &found["interrupted"], &found["saturation"]),
        (&1.into(), &false.into(), &Value::Null)
    );
    assert_eq!(found["daemon"]["pid"], daemon.child.id());
    assert!(found["daemon"]["models"].as_array().unwrap().iter().all(|m| m["sha256"].as_str().unwrap().len() == 64));
    let outcomes = &found["first_answers"][0]["outcomes"];
    let checks = ["age_estimation", "face_match", "face_quality", "passive_liveness"];
    assert!(keys(outcomes).into_iter().eq(checks), "{outcomes}");

    let [one, two, open] = &found["steps"].as_array().unwrap()[..] else { panic!("three steps") };
    for step in [one, two, open] {
        agrees(step, "Of a step:");
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
