//! A calibration as the text of its file: stable order, commented, numbers rounded to what the data can bear.
//!
//! Called by `vouch calibrate`. Written by hand instead of by a serialiser because the comments are half of its worth.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Calibration, CurveKind, Direction, IntervalMethod, Rate, Support};

impl Calibration {
    /// The text of the file. [`Calibration::parse`] reads it back; rates are rounded to four significant digits.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing to a String cannot fail");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# Measured, not chosen by hand: made by `vouch calibrate`, see docs/evaluation.md.")?;
        writeln!(out, "# Rates are shares (0..1) with their 95 % interval; `interval` says how that was computed:")?;
        writeln!(
            out,
            "# wilson (independent trials), subject_bootstrap (several trials per person), rule_of_three (no error seen,"
        )?;
        writeln!(
            out,
            "# so the upper end is 3 / number of independent trials and the value 0 means \"none seen\", not \"none\").\n"
        )?;
        writeln!(out, "check = {}", quoted(&self.check))?;
        writeln!(out, "score_kind = {}", quoted(&self.score_kind))?;
        match self.direction {
            Direction::HigherAccepts => writeln!(out, "direction = \"higher_accepts\"")?,
            Direction::LowerAccepts => writeln!(out, "direction = \"lower_accepts\"")?,
        }
        writeln!(out, "software = {}", quoted(&self.software))?;
        writeln!(out, "preprocessing = {}", quoted(&self.preprocessing))?;
        writeln!(out, "default_operating_point = {}", quoted(&self.default_operating_point))?;
        writeln!(
            out,
            "\n# The models that the figures hold for, by SHA-256. With others the check answers INCONCLUSIVE.\n[models]"
        )?;
        for (role, hash) in &self.models {
            writeln!(out, "{} = {}", key(role), quoted(hash))?;
        }
        writeln!(out, "\n[data]\nset = {}", quoted(&self.data.set))?;
        writeln!(out, "description = {}", quoted(&self.data.description))?;
        writeln!(out, "source = {}", quoted(&self.data.source))?;
        writeln!(out, "measured_on = {}", quoted(&self.data.measured_on))?;
        writeln!(out, "subjects = {}", self.data.subjects)?;
        write_counts(out, "trials", &self.data.trials)?;
        writeln!(out, "# Trials that gave no score, by reason; they are in none of the rates below.")?;
        write_counts(out, "failures_to_process", &self.data.failures_to_process)?;

        for point in &self.operating_points {
            writeln!(out, "\n[[operating_point]]\nname = {}", quoted(&point.name))?;
            writeln!(out, "threshold = {}", number(point.threshold))?;
            if let Some(review) = point.review_threshold {
                writeln!(out, "review_threshold = {}", number(review))?;
            }
            if let Some(note) = &point.note {
                writeln!(out, "note = {}", quoted(note))?;
            }
            for (name, rate) in &point.rates {
                writeln!(out, "rates.{} = {}", key(name), rate_text(rate))?;
            }
            for (name, limit) in &point.limits {
                writeln!(out, "limits.{} = {}", key(name), number(*limit))?;
            }
        }
        if let Some(curve) = &self.curve {
            writeln!(
                out,
                "\n# [score, rate, low_95, high_95]: share of trials to be rejected that score at least as well. Between points the"
            )?;
            writeln!(out, "# logarithm of the rate is linear in the score; beyond them nothing is extrapolated.")?;
            let kind = match curve.kind {
                CurveKind::Fmr => "fmr",
                CurveKind::Apcer => "apcer",
            };
            writeln!(out, "[curve]\nkind = \"{kind}\"\npoints = [")?;
            for [score, rate, low, high] in &curve.points {
                writeln!(out, "  [{}, {}, {}, {}],", number(*score), rounded(*rate), rounded(*low), rounded(*high))?;
            }
            writeln!(out, "]")?;
        }
        if let Some(fusion) = &self.fusion {
            writeln!(
                out,
                "\n# Score = sum of weight x measurement; fitted by logistic regression, weights scaled to 1 together.\n[fusion]"
            )?;
            for term in &fusion.terms {
                writeln!(out, "\n[[fusion.term]]\nmeasurement = {}", quoted(&term.measurement))?;
                writeln!(out, "weight = {}", number(term.weight))?;
            }
        }
        if let Some(age) = &self.age {
            writeln!(
                out,
                "\n# Age in years = intercept + sum over the estimators of linear x + quadratic x^2, held within `supported`."
            )?;
            writeln!(out, "[age]\nintercept = {}", number(age.intercept))?;
            writeln!(out, "supported = [{}, {}]", number(age.supported[0]), number(age.supported[1]))?;
            for estimator in &age.estimators {
                writeln!(out, "\n[[age.estimator]]\nname = {}", quoted(&estimator.name))?;
                writeln!(out, "linear = {}\nquadratic = {}", number(estimator.linear), number(estimator.quadratic))?;
            }
            writeln!(
                out,
                "\n# By estimated age from (inclusive) to (exclusive). bias = mean of estimate - true age; the offsets added to the"
            )?;
            writeln!(out, "# estimate held 95 % of the true ages. All from the folds that were not fitted on.")?;
            for band in &age.bands {
                writeln!(out, "\n[[age.band]]\nfrom = {}\nto = {}", number(band.from), number(band.to))?;
                writeln!(out, "images = {}\nmae = {}\nbias = {}", band.images, number(band.mae), number(band.bias))?;
                writeln!(out, "low_offset = {}\nhigh_offset = {}", number(band.low_offset), number(band.high_offset))?;
            }
        }
        Ok(())
    }
}

fn write_counts(out: &mut String, name: &str, counts: &BTreeMap<String, u64>) -> std::fmt::Result {
    let items: Vec<String> = counts.iter().map(|(name, count)| format!("{} = {count}", key(name))).collect();
    if items.is_empty() { writeln!(out, "{name} = {{}}") } else { writeln!(out, "{name} = {{ {} }}", items.join(", ")) }
}

fn rate_text(rate: &Rate) -> String {
    let interval = match rate.interval {
        IntervalMethod::Wilson => "wilson",
        IntervalMethod::RuleOfThree => "rule_of_three",
        IntervalMethod::SubjectBootstrap => "subject_bootstrap",
    };
    let remark = match rate.support() {
        Support::Sufficient => "",
        Support::FewErrors => " # fewer than 30 errors",
        Support::NoErrors => " # no error seen",
    };
    format!(
        "{{ value = {}, low_95 = {}, high_95 = {}, errors = {}, trials = {}, interval = \"{interval}\" }}{remark}",
        rounded(rate.value),
        rounded(rate.low_95),
        rounded(rate.high_95),
        rate.errors,
        rate.trials
    )
}

/// Four significant digits: an interval is never known better.
fn rounded(value: f64) -> String {
    number(format!("{value:.3e}").parse().unwrap_or(value))
}

/// A TOML float: always with a point or an exponent, and never with the noise of binary fractions beyond nine digits.
fn number(value: f64) -> String {
    let value: f64 = format!("{value:.8e}").parse().unwrap_or(value);
    if value != 0.0 && value.abs() < 1e-4 {
        return format!("{value:e}");
    }
    let text = format!("{value}");
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A bare TOML key where that is allowed, else a quoted one.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::sample;
    use super::super::{AgeBand, AgeModel, Estimator};
    use super::*;

    #[test]
    fn a_file_reads_back_as_it_was() {
        let mut file = sample();
        file.data.description = "two \"quoted\" words\nand a second line".to_owned();
        file.data.failures_to_process.insert("NO_FACE".to_owned(), 3);
        file.operating_points[0].review_threshold = Some(0.125);
        file.operating_points[0].note = Some("a note".to_owned());
        file.operating_points[0].limits.insert("sharpness".to_owned(), 15.0);
        file.age = Some(AgeModel {
            intercept: 0.65,
            supported: [1.0, 95.0],
            estimators: vec![Estimator { name: "age_a".to_owned(), linear: 0.199, quadratic: 0.00187 }],
            bands: vec![AgeBand {
                from: 0.0,
                to: 100.0,
                images: 40,
                mae: 5.25,
                bias: -0.5,
                low_offset: -11.0,
                high_offset: 12.0,
            }],
        });
        let text = file.to_toml();
        let read =
            Calibration::parse(&text, Path::new("face_match.toml")).unwrap_or_else(|error| panic!("{error}\n{text}"));
        // Rates are rounded when written; a second round changes nothing.
        assert_eq!(read.to_toml(), text);
        assert_eq!(read.data, file.data);
        assert_eq!(read.age, file.age);
        assert_eq!(read.curve, file.curve);
        let (written, original) = (&read.operating_points[0], &file.operating_points[0]);
        assert_eq!((written.threshold, written.review_threshold), (0.25, Some(0.125)));
        assert_eq!((&written.note, &written.limits), (&original.note, &original.limits));
        for (name, rate) in &original.rates {
            assert!((written.rates[name].high_95 - rate.high_95).abs() <= rate.high_95 * 1e-3);
            assert_eq!(written.rates[name].errors, rate.errors);
        }
    }

    #[test]
    fn numbers_are_toml_floats() {
        for (value, text) in [(1.0, "1.0"), (0.0, "0.0"), (0.1 + 0.2, "0.3"), (1.5e-7, "1.5e-7"), (-12.25, "-12.25")] {
            assert_eq!(number(value), text);
            let read: toml::Table = format!("x = {text}").parse().unwrap();
            assert!((read["x"].as_float().unwrap() - value).abs() < 1e-9);
        }
        assert_eq!(rounded(0.123456), "0.1235");
    }
}
