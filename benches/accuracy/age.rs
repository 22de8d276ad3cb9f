//! Age on labelled faces: `ages.csv` with `file,age`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;
use serde_json::json;
use vouch::calibration::age::{AgeError, AgeSample, errors_by_true_age, fit_age};
use vouch::calibration::{AgeModel, Calibration, Data, Direction, OperatingPoint, Rate};

use super::daemon::{Daemon, Measured, Question};
use super::{Failures, Options, Report, failures_text, outcomes_text, percent, provenance, read_table, today};

/// The estimators, by the names of the measurements in which their raw values come.
const ESTIMATORS: [&str; 2] = ["age_a_years", "age_b_years"];
/// Thresholds, in years, measured for a minimum age of 18.
const CHALLENGE_AGES: [u32; 5] = [18, 21, 23, 25, 30];
const MINIMUM_AGE: f64 = 18.0;
/// Folds of the cross-validation.
const FOLDS: usize = 5;

const PREPROCESSING: &str = "largest, most central face; each estimator's own crop and input as in the model manifest; the estimates \
    combined as under [age]";
const DESCRIPTION: &str = "Aligned faces from the web, one picture each; persons are not told apart, so every picture counts as one. Some of \
    the true ages are themselves estimates. Rates of operating points hold for a minimum age of 18 on the corrected age: fpr \
    is the share of persons under 18 at or above the threshold, fnr the share of persons of 18 and more below it, which \
    depends on how old they are. fpr_13_to_18 and fnr_18_to_30 tell it for those from 13 to under 18 and from 18 to under 30.";
const SOURCE: &str = "UTKFace (Zhang et al., 2017), for non-commercial research; used for measuring only";

/// Asks for every face, prints errors by band, fits if asked to.
///
/// # Errors
/// As [`super::run`].
pub async fn measure(daemon: &Daemon, dir: &Path, options: &Options) -> anyhow::Result<Report> {
    let rows: Vec<[String; 2]> =
        read_table(&dir.join("ages.csv"), ["file", "age"])?.into_iter().step_by(options.every).collect();
    let mut truths = Vec::with_capacity(rows.len());
    for [file, age] in &rows {
        match age.parse::<f64>() {
            Ok(age) if (0.0..=130.0).contains(&age) => truths.push(age),
            _ => bail!("ages.csv: {file}: {age} is no age"),
        }
    }
    let questions = rows.iter().map(|[file, _]| Question::Age { selfie: dir.join(file) }).collect();
    let measured = daemon.ask_all(questions).await?;

    let mut failures = Failures::new();
    let mut scored: Vec<(f64, f64)> = Vec::new();
    let mut samples = Vec::new();
    for (answer, &true_age) in measured.answers.iter().zip(&truths) {
        match answer {
            Ok(answer) => {
                scored.extend(answer.score.map(|score| (score, true_age)));
                let estimates: Option<Vec<f64>> =
                    ESTIMATORS.iter().map(|name| answer.measurements.get(*name).copied()).collect();
                samples.extend(estimates.map(|estimates| AgeSample { true_age, estimates }));
            }
            Err(reason) => *failures.entry(reason.clone()).or_default() += 1,
        }
    }
    let answered = measured.answers.iter().flatten().count();
    let mut text = format!("age_estimation: {answered} faces answered\n");
    text += &failures_text(&failures, rows.len());
    let mut json = json!({
        "check": "age_estimation", "images": answered, "failures_to_process": failures, "models": measured.models,
        "software": { "vouch": measured.version, "onnxruntime": measured.runtime, "device": measured.device },
    });
    for (from, to) in [(0.0, 13.0), (13.0, MINIMUM_AGE), (MINIMUM_AGE, 30.0), (30.0, 130.0)] {
        let outcomes = measured.outcomes(|index| (from..to).contains(&truths[index]));
        let _ = writeln!(text, "decisions on ages {from} to under {to}: {}", outcomes_text(&outcomes));
        json["outcomes"][format!("{from}_to_{to}")] = json!(outcomes);
    }
    if let Some(error) = AgeError::of(scored.iter().copied()) {
        let _ = writeln!(text, "score as answered: {}", years(&error));
        json["score"] = error_json(&error);
        json["score_by_true_age"] = bands_json(&scored);
        text += "  by true age:\n";
        text += &bands_text(&scored);
    }

    // Samples are dealt to the folds in turn; the table is sorted by name and so by age, which makes the folds alike.
    let mut calibration = None;
    if samples.len() < answered {
        let _ = writeln!(text, "{} answers name no single estimates", answered - samples.len());
    }
    match fit_age(&ESTIMATORS, &samples, FOLDS) {
        Ok(fit) => {
            let truth = samples.iter().map(|sample| sample.true_age);
            let corrected: Vec<(f64, f64)> = fit.predictions.iter().copied().zip(truth).collect();
            for (name, error) in &fit.single {
                let _ = writeln!(text, "{name} alone: {}", years(error));
                json[name] = error_json(error);
            }
            let _ = writeln!(text, "plain mean: {}", years(&fit.mean));
            let _ = writeln!(text, "combined, cross-validated over {FOLDS} folds: {}", years(&fit.cross_validated));
            text += "  by true age:\n";
            text += &bands_text(&corrected);
            json["mean"] = error_json(&fit.mean);
            json["combined"] = error_json(&fit.cross_validated);
            json["combined_by_true_age"] = bands_json(&corrected);
            if options.fit.is_some() {
                let made = calibrate(&measured, fit.model, &corrected, failures, options)?;
                for point in &made.operating_points {
                    let _ = writeln!(text, "{}:", point.name);
                    for (name, rate) in &point.rates {
                        let _ = writeln!(text, "  {} {}", name.to_uppercase(), percent(rate));
                    }
                }
                calibration = Some(made);
            }
        }
        Err(reason) if options.fit.is_some() => bail!("no calibration: {reason}"),
        Err(reason) => {
            let _ = writeln!(text, "no combination of the estimators: {reason}");
        }
    }
    Ok(Report { text, json, calibration })
}

fn calibrate(
    measured: &Measured,
    model: AgeModel,
    corrected: &[(f64, f64)],
    failures: Failures,
    options: &Options,
) -> anyhow::Result<Calibration> {
    let data = Data {
        set: format!("UTKFace (aligned), {} of its pictures", corrected.len()),
        description: DESCRIPTION.to_owned(),
        source: SOURCE.to_owned(),
        measured_on: today(),
        subjects: corrected.len() as u64,
        trials: BTreeMap::from([("images".to_owned(), corrected.len() as u64)]),
        failures_to_process: failures,
    };
    // Wilson's interval: the pictures are taken as independent.
    let rate = |ages: std::ops::Range<f64>, wrong: &dyn Fn(f64) -> bool| {
        let of_age: Vec<f64> =
            corrected.iter().filter(|(_, truth)| ages.contains(truth)).map(|(age, _)| *age).collect();
        Rate::wilson(of_age.iter().filter(|age| wrong(**age)).count() as u64, of_age.len() as u64)
    };
    let operating_points = CHALLENGE_AGES
        .iter()
        .map(|&years| {
            let threshold = f64::from(years);
            let rates = [
                ("fpr", rate(0.0..MINIMUM_AGE, &|age| age >= threshold)),
                ("fpr_0_to_13", rate(0.0..13.0, &|age| age >= threshold)),
                ("fpr_13_to_18", rate(13.0..MINIMUM_AGE, &|age| age >= threshold)),
                ("fnr", rate(MINIMUM_AGE..f64::INFINITY, &|age| age < threshold)),
                ("fnr_18_to_30", rate(MINIMUM_AGE..30.0, &|age| age < threshold)),
                ("fnr_30_to_130", rate(30.0..130.0, &|age| age < threshold)),
            ];
            OperatingPoint {
                name: format!("challenge_{years}"),
                threshold,
                // As far below the minimum age as the threshold lies above it: between the two a document decides.
                review_threshold: Some(2.0 * MINIMUM_AGE - threshold).filter(|review| *review < threshold),
                rates: rates
                    .into_iter()
                    .filter(|(_, rate)| rate.trials > 0)
                    .map(|(name, rate)| (name.to_owned(), rate))
                    .collect(),
                limits: options.limits.iter().cloned().collect(),
                note: None,
            }
        })
        .collect();
    let origin = provenance("age_estimation", measured, PREPROCESSING, data);
    let calibration = Calibration {
        check: origin.check,
        score_kind: origin.score_kind,
        direction: Direction::HigherAccepts,
        software: origin.software,
        preprocessing: origin.preprocessing,
        default_operating_point: options.default.clone().unwrap_or_else(|| "challenge_25".to_owned()),
        models: origin.models,
        data: origin.data,
        operating_points,
        curve: None,
        age: Some(model),
    };
    let problems = calibration.problems();
    if !problems.is_empty() {
        bail!(
            "the calibration contradicts itself: {}",
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        );
    }
    Ok(calibration)
}

fn years(error: &AgeError) -> String {
    format!("MAE {:.2} years, bias {:+.2}, {} images", error.mae, error.bias, error.images)
}

fn error_json(error: &AgeError) -> serde_json::Value {
    json!({ "images": error.images, "mae": error.mae, "bias": error.bias })
}

fn bands_text(pairs: &[(f64, f64)]) -> String {
    let mut text = String::new();
    for (from, to, error) in errors_by_true_age(pairs) {
        let _ = writeln!(text, "    {from:>3.0} to {to:>3.0}: {}", years(&error));
    }
    text
}

fn bands_json(pairs: &[(f64, f64)]) -> serde_json::Value {
    errors_by_true_age(pairs)
        .into_iter()
        .map(|(from, to, error)| json!({ "from": from, "to": to, "error": error_json(&error) }))
        .collect()
}
