//! Any text as a calibration file: one that is taken answers for every score, and says the same once written and read again.
//!
//! Run by the fuzz target `calibration` and, on the committed corpus, by `tests/fuzz_corpus.rs`.

use std::path::Path;

use vouch::calibration::{Calibration, Decision};
use vouch::live::terms::Terms;

/// The values of a file, several times over.
pub const MAX_BYTES: usize = 64 << 20;

const CHECKS: [&str; 4] = ["face_match", "passive_liveness", "age_estimation", "active_liveness"];

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in CHECKS {
        let path = format!("{name}.toml");
        if let Ok(calibration) = Calibration::parse(text, Path::new(&path)) {
            taken(&calibration, Path::new(&path));
        }
    }
}

fn taken(calibration: &Calibration, path: &Path) {
    assert_eq!(calibration.problems(), []);
    assert!(calibration.operating_point("").is_some(), "a default that is not there");
    let thresholds = calibration.operating_points.iter().map(|point| point.threshold);
    let scores = [0.0, -1.0, 1.0, 0.5, f64::MIN, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let scores: Vec<f64> = scores.into_iter().chain(thresholds).collect();
    for &score in &scores {
        for point in &calibration.operating_points {
            let decision = calibration.decide(point, score);
            assert!(!score.is_nan() || decision == Decision::Reject);
            assert!(score != point.threshold || decision == Decision::Accept);
        }
        if let Some(value) = calibration.calibrate(score) {
            assert!(!score.is_nan());
            assert!((0.0..=1.0).contains(&value.value), "{value:?}");
            assert!(value.low_95 <= value.value && value.value <= value.high_95, "{value:?}");
        }
    }
    for point in &calibration.operating_points {
        let _ = Terms::from_point(point);
    }
    if let Some(age) = &calibration.age {
        let estimates: Vec<(&str, f64)> = age.estimators.iter().map(|one| (one.name.as_str(), 30.0)).collect();
        if let Some(value) = age.apply(&estimates) {
            assert!(value.low_95 <= value.high_95, "{value:?}");
        }
    }
    let written = calibration.to_toml();
    let again = Calibration::parse(&written, path).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(again, *calibration);
}
