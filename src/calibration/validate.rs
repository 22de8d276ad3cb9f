//! What a well-formed calibration file must also satisfy: every contradiction in it, by key.
//!
//! Called when a file is loaded and before one is written. It looks at the file alone; whether the models fit is
//! [`Calibration::matches_models`](super::Calibration::matches_models).

use std::collections::BTreeSet;
use std::fmt;

use super::{Calibration, Curve, Direction, OperatingPoint, Rate};

/// One thing wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, such as `operating_point[fmr_1e-3].rates.fmr`.
    pub key: String,
    pub reason: String,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// Which way a rate moves when the threshold gets stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Someone accepted who should not be: falls.
    FalseAccept,
    /// Someone rejected who should be accepted: rises.
    FalseReject,
}

/// The rates that a file may hold: `fmr`, `fnmr` (ISO/IEC 19795-1); `apcer` of the worst species, `apcer_<species>`, `bpcer`
/// (ISO/IEC 30107-3); `fpr` and `fnr` of an age threshold, `fpr_<from>_to_<to>` and `fnr_<from>_to_<to>` for the ages from
/// (inclusive) to (exclusive).
fn rate_kind(name: &str) -> Option<Kind> {
    match name {
        "fmr" | "apcer" | "fpr" => Some(Kind::FalseAccept),
        "fnmr" | "bpcer" | "fnr" => Some(Kind::FalseReject),
        _ if name.starts_with("apcer_") || name.starts_with("fpr_") => Some(Kind::FalseAccept),
        _ if name.starts_with("fnr_") => Some(Kind::FalseReject),
        _ => None,
    }
}

impl Calibration {
    /// Everything in this calibration that cannot be so; empty if it is sound.
    ///
    /// Thresholds that contradict their rates are found here: a stricter threshold may not have more false accepts, nor fewer
    /// false rejects, than a more lenient one measured on as many trials.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_words(&mut problems);
        self.check_points(&mut problems);
        if let Some(curve) = &self.curve {
            check_curve(curve, self.direction, &mut problems);
        }
        if let Some(fusion) = &self.fusion {
            fusion.check(&mut problems);
        }
        if let Some(age) = &self.age {
            age.check(&mut problems);
        }
        problems
    }

    fn check_words(&self, problems: &mut Vec<Problem>) {
        for (key, value) in [
            ("check", &self.check),
            ("score_kind", &self.score_kind),
            ("software", &self.software),
            ("preprocessing", &self.preprocessing),
            ("data.set", &self.data.set),
            ("data.description", &self.data.description),
            ("data.source", &self.data.source),
        ] {
            if value.trim().is_empty() {
                problems.push(Problem::new(key, "is empty"));
            }
        }
        if !is_date(&self.data.measured_on) {
            problems.push(Problem::new("data.measured_on", format!("{:?} is not YYYY-MM-DD", self.data.measured_on)));
        }
        if self.models.is_empty() {
            problems.push(Problem::new("models", "names no model, so the figures are bound to nothing"));
        }
        for (role, hash) in &self.models {
            if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                problems.push(Problem::new(
                    format!("models.{role}"),
                    "is not a SHA-256 of 64 lower-case hexadecimal digits",
                ));
            }
        }
    }

    fn check_points(&self, problems: &mut Vec<Problem>) {
        let mut names = BTreeSet::new();
        for point in &self.operating_points {
            let key = format!("operating_point[{}]", point.name);
            if !is_point_name(&point.name) {
                problems.push(Problem::new(format!("{key}.name"), "is not made of a-z, 0-9, '_', '-' and '.'"));
            }
            if !names.insert(&point.name) {
                problems.push(Problem::new(format!("{key}.name"), "is used twice"));
            }
            self.check_point(point, &key, problems);
        }
        if !names.contains(&self.default_operating_point) {
            let reason = format!("{:?} is not the name of an operating point", self.default_operating_point);
            problems.push(Problem::new("default_operating_point", reason));
        }
        self.check_order(problems);
    }

    fn check_point(&self, point: &OperatingPoint, key: &str, problems: &mut Vec<Problem>) {
        if !point.threshold.is_finite() {
            problems.push(Problem::new(format!("{key}.threshold"), "is not a finite number"));
        }
        if let Some(review) = point.review_threshold
            && (!review.is_finite() || self.accepts(review, point.threshold))
        {
            problems.push(Problem::new(format!("{key}.review_threshold"), "is not more lenient than the threshold"));
        }
        if point.rates.is_empty() && point.note.is_none() {
            problems.push(Problem::new(format!("{key}.rates"), "are missing, and no note says why"));
        }
        for (name, limit) in &point.limits {
            if !(limit.is_finite() && *limit > 0.0) {
                problems.push(Problem::new(format!("{key}.limits.{name}"), "is not a positive finite number"));
            }
        }
        for (name, rate) in &point.rates {
            let key = format!("{key}.rates.{name}");
            if rate_kind(name).is_none() {
                problems.push(Problem::new(&key, "is not the name of a rate"));
            }
            check_rate(rate, &key, problems);
        }
    }

    fn check_order(&self, problems: &mut Vec<Problem>) {
        let mut points: Vec<&OperatingPoint> = self.operating_points.iter().collect();
        // From lenient to strict.
        points.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
        if self.direction == Direction::LowerAccepts {
            points.reverse();
        }
        for pair in points.windows(2) {
            let [lenient, strict] = pair else { continue };
            for (name, strict_rate) in &strict.rates {
                let Some(lenient_rate) = lenient.rates.get(name).filter(|rate| rate.trials == strict_rate.trials)
                else {
                    continue;
                };
                let contradicts = match rate_kind(name) {
                    Some(Kind::FalseAccept) => strict_rate.errors > lenient_rate.errors,
                    Some(Kind::FalseReject) => strict_rate.errors < lenient_rate.errors,
                    None => false,
                };
                if contradicts {
                    problems.push(Problem::new(
                        format!("operating_point[{}].rates.{name}", strict.name),
                        format!("contradicts that of {}, whose threshold is more lenient", lenient.name),
                    ));
                }
            }
        }
    }
}

/// The value is written rounded to four digits, so it may differ from errors / trials by this share of it.
const ROUNDING: f64 = 1e-3;

fn check_rate(rate: &Rate, key: &str, problems: &mut Vec<Problem>) {
    if rate.trials == 0 || rate.errors > rate.trials {
        problems.push(Problem::new(key, format!("{} errors in {} trials cannot be", rate.errors, rate.trials)));
        return;
    }
    let value = rate.errors as f64 / rate.trials as f64;
    // Written so that a value that is no number does not agree.
    let agrees = (rate.value - value).abs() <= value * ROUNDING;
    if !agrees {
        problems.push(Problem::new(key, format!("value {} is not {} / {}", rate.value, rate.errors, rate.trials)));
    }
    if !(0.0 <= rate.low_95 && rate.low_95 <= rate.value && rate.value <= rate.high_95 && rate.high_95 <= 1.0) {
        problems.push(Problem::new(key, "does not satisfy 0 <= low_95 <= value <= high_95 <= 1"));
    }
}

fn check_curve(curve: &Curve, direction: Direction, problems: &mut Vec<Problem>) {
    if curve.points.len() < 2 {
        problems.push(Problem::new("curve.points", "are fewer than two"));
    }
    for (index, [score, rate, low, high]) in curve.points.iter().enumerate() {
        if !(score.is_finite() && 0.0 <= *low && low <= rate && rate <= high && *high <= 1.0 && *rate > 0.0) {
            let reason =
                "is not [score, rate, low_95, high_95] with 0 <= low_95 <= rate <= high_95 <= 1 and a rate above 0";
            problems.push(Problem::new(format!("curve.points[{index}]"), reason));
        }
    }
    for (index, pair) in curve.points.windows(2).enumerate() {
        let (a, b) = (pair[0], pair[1]);
        let key = format!("curve.points[{}]", index + 1);
        if a[0] >= b[0] {
            problems.push(Problem::new(&key, "does not ascend by score"));
        }
        let monotone = (1..4).all(|column| match direction {
            Direction::HigherAccepts => a[column] >= b[column],
            Direction::LowerAccepts => a[column] <= b[column],
        });
        if !monotone {
            problems.push(Problem::new(&key, "breaks the monotone course of the rate or its interval"));
        }
    }
}

fn is_point_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'))
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |part: &str, digits: usize| {
        (part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse::<u32>().ok())
            .flatten()
    };
    let [year, month, day] = parts[..] else {
        return false;
    };
    number(year, 4).is_some_and(|year| year >= 2000)
        && number(month, 2).is_some_and(|month| (1..=12).contains(&month))
        && number(day, 2).is_some_and(|day| (1..=31).contains(&day))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    fn keys(change: impl FnOnce(&mut Calibration)) -> Vec<String> {
        let mut file = sample();
        change(&mut file);
        file.problems().into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn the_sample_is_sound() {
        assert_eq!(sample().problems(), []);
    }

    #[test]
    fn each_contradiction_is_named() {
        type Change = fn(&mut Calibration);
        let cases: [(&str, Change); 17] = [
            ("data.source", |file| file.data.source = "  ".into()),
            ("data.measured_on", |file| file.data.measured_on = "23.11.2026".into()),
            ("models", |file| file.models.clear()),
            ("models.face_embedder", |file| {
                file.models.insert("face_embedder".into(), "AB".repeat(32));
            }),
            ("default_operating_point", |file| file.default_operating_point = "fmr_1e-9".into()),
            ("operating_point[FMR].name", |file| file.operating_points[0].name = "FMR".into()),
            ("operating_point[fmr_1e-3].name", |file| file.operating_points[0].name = "fmr_1e-3".into()),
            ("operating_point[fmr_1e-2].threshold", |file| file.operating_points[0].threshold = f64::INFINITY),
            ("operating_point[fmr_1e-3].review_threshold", |file| {
                file.operating_points[1].review_threshold = Some(0.4)
            }),
            ("operating_point[fmr_1e-2].rates", |file| file.operating_points[0].rates.clear()),
            ("operating_point[fmr_1e-2].rates.far", |file| {
                file.operating_points[0].rates.insert("far".into(), Rate::wilson(1, 2));
            }),
            ("operating_point[fmr_1e-2].rates.fmr", |file| {
                file.operating_points[0].rates.insert("fmr".into(), Rate { value: 0.5, ..Rate::wilson(100, 10_000) });
            }),
            ("operating_point[fmr_1e-2].rates.fmr", |file| {
                file.operating_points[0].rates.insert("fmr".into(), Rate { high_95: 1.5, ..Rate::wilson(100, 10_000) });
            }),
            ("operating_point[fmr_1e-2].rates.fmr", |file| {
                file.operating_points[0]
                    .rates
                    .insert("fmr".into(), Rate { errors: 3, trials: 2, ..Rate::wilson(1, 2) });
            }),
            // More false matches at the stricter threshold.
            ("operating_point[fmr_1e-3].rates.fmr", |file| {
                file.operating_points[1].rates.insert("fmr".into(), Rate::wilson(101, 10_000));
            }),
            ("curve.points[1]", |file| {
                if let Some(curve) = &mut file.curve {
                    curve.points[1][0] = -0.3;
                }
            }),
            ("curve.points[2]", |file| {
                if let Some(curve) = &mut file.curve {
                    curve.points[2] = [0.4, 0.02, 0.009, 0.03];
                }
            }),
        ];
        for (key, change) in cases {
            assert!(keys(change).contains(&key.to_owned()), "{key}: found {:?}", keys(change));
        }
    }

    #[test]
    fn a_rate_that_is_no_number_is_a_problem() {
        let found = keys(|file| {
            file.operating_points[0].rates.insert("fmr".into(), Rate { value: f64::NAN, ..Rate::wilson(100, 10_000) });
        });
        assert!(found.iter().all(|key| key == "operating_point[fmr_1e-2].rates.fmr") && !found.is_empty());
    }
}
