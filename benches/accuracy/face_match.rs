//! 1:1 match on a verification protocol in LFW's manner: `pairs.csv` with `a,b,same,fold`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::json;
use vouch::calibration::fit::{
    FalseAccepts, Fitted, PairScore, SortedScores, cross_validated_accuracy, equal_error_rate, fit, true_accept_rate_at,
};
use vouch::calibration::impostors::{ImpostorScores, Template};
use vouch::calibration::{CurveKind, Data, Rate};
use vouch::checks::FaceEvidence as _;
use vouch::face::embed::Embedding;

use super::daemon::{Answer, Daemon, Measured, Question};
use super::engine::{InProcess, in_parallel};
use super::{
    Failures, Options, Report, failures_text, fitted_text, outcomes_text, percent, provenance, rate_json, read_table,
    targets, today,
};

/// False match rates for which TAR is told. The last says little on 1 500 pairs; it is there to compare with publications.
const REPORTED_FMR: [f64; 2] = [1e-2, 1e-3];

/// Operating points tried, most lenient first; `fit` refuses those that the pairs cannot support.
const TARGETS: [(&str, f64); 4] = [("1e-2", 1e-2), ("1e-3", 1e-3), ("1e-4", 1e-4), ("1e-5", 1e-5)];

const PREPROCESSING: &str = "largest, most central face; similarity transform of its five landmarks to the 112 x 112 template; \
    input as in the model manifest; cosine similarity of the two embeddings";

/// Asks for every pair, prints rates, fits if asked to.
///
/// # Errors
/// As [`super::run`].
pub async fn measure(daemon: &Daemon, dir: &Path, all_pairs: bool, options: &Options) -> anyhow::Result<Report> {
    let pairs: Vec<[String; 4]> =
        read_table(&dir.join("pairs.csv"), ["a", "b", "same", "fold"])?.into_iter().step_by(options.every).collect();
    let labels: Vec<(bool, u32)> = pairs
        .iter()
        .map(|[a, b, same, fold]| match (same.as_str(), fold.parse()) {
            ("0" | "1", Ok(fold)) => Ok((same == "1", fold)),
            _ => Err(anyhow::anyhow!("pairs.csv: same or fold of {a},{b} is not a number that fits")),
        })
        .collect::<anyhow::Result<_>>()?;
    let questions =
        pairs.iter().map(|[a, b, ..]| Question::Match { probe: dir.join(a), reference: dir.join(b) }).collect();
    let measured = daemon.ask_all(questions).await?;

    let mut scored = Vec::new();
    let mut with_failures = Vec::new();
    let mut failures = Failures::new();
    for (answer, &(genuine, fold)) in measured.answers.iter().zip(&labels) {
        let score = match answer {
            Ok(answer) => {
                let score = answer.score.unwrap_or(f64::NEG_INFINITY);
                scored.push(PairScore { score, genuine, fold });
                score
            }
            Err(reason) => {
                *failures.entry(format!("{} {reason}", if genuine { "genuine" } else { "impostor" })).or_default() += 1;
                // For a user a pair that cannot be compared is a pair that does not match.
                f64::NEG_INFINITY
            }
        };
        with_failures.push(PairScore { score, genuine, fold });
    }
    let scores = |genuine: bool| {
        SortedScores::new(scored.iter().filter(|pair| pair.genuine == genuine).map(|pair| pair.score).collect())
    };
    let (genuine, impostor) = (scores(true), scores(false));

    let mut text = format!(
        "face_match: {} genuine and {} impostor comparisons scored\n",
        genuine.as_slice().len(),
        impostor.as_slice().len()
    );
    text += &failures_text(&failures, pairs.len());
    let mut json = json!({
        "check": "face_match",
        "genuine": genuine.as_slice().len(), "impostor": impostor.as_slice().len(),
        "failures_to_process": failures, "models": measured.models,
        "software": { "vouch": measured.version, "onnxruntime": measured.runtime, "device": measured.device },
    });
    for (name, pairs) in [("accuracy", &scored), ("accuracy_failures_as_non_match", &with_failures)] {
        if let Some(accuracy) = cross_validated_accuracy(pairs) {
            let (mean, error) = (accuracy.mean * 100.0, accuracy.standard_error * 100.0);
            let _ = writeln!(text, "{name}: {mean:.2} % ± {error:.2} (threshold of each fold from the others)");
            json[name] = json!({
                "mean": accuracy.mean, "standard_error": accuracy.standard_error,
                "folds": accuracy.folds.iter().map(|(fold, accuracy, threshold)| json!({
                    "fold": fold, "accuracy": accuracy, "threshold": threshold,
                })).collect::<Vec<_>>(),
            });
        }
    }
    if let Some(eer) = equal_error_rate(&genuine, &impostor) {
        let _ = writeln!(text, "EER: {:.2} % at {:.4}", eer.rate * 100.0, eer.threshold);
        json["eer"] = json!({ "value": eer.rate, "threshold": eer.threshold });
    }
    for (name, genuine) in [("genuine", true), ("impostor", false)] {
        let outcomes = measured.outcomes(|index| labels[index].0 == genuine);
        let _ = writeln!(text, "decisions on {name} pairs: {}", outcomes_text(&outcomes));
        json[format!("outcomes_{name}")] = json!(outcomes);
    }
    for target in REPORTED_FMR {
        if let Some((tar, threshold)) = true_accept_rate_at(&genuine, &impostor, target) {
            let (fmr, fnmr) = (impostor.rate(threshold), genuine.false_reject_rate(threshold));
            let _ = writeln!(
                text,
                "TAR at FMR {target:.0e}: {:.2} % at {threshold:.4}; FMR {}, FNMR {}",
                tar * 100.0,
                percent(&fmr),
                percent(&fnmr)
            );
            json[format!("tar_at_fmr_{target:.0e}")] =
                json!({ "tar": tar, "threshold": threshold, "fmr": rate_json(&fmr), "fnmr": rate_json(&fnmr) });
        }
    }

    let every_pair = if all_pairs {
        let every_pair = compare_all(dir, &pairs, &measured, options, &mut text)?;
        for exponent in 2..=5 {
            let target = 10f64.powi(-exponent);
            if let Some((tar, threshold)) = true_accept_rate_at(&genuine, &every_pair, target) {
                let (fmr, fnmr) = (every_pair.rate(threshold), genuine.false_reject_rate(threshold));
                let _ = writeln!(
                    text,
                    "all pairs: TAR at FMR 1e-{exponent}: {:.2} % at {threshold:.4}; FMR {}, FNMR {}",
                    tar * 100.0,
                    percent(&fmr),
                    percent(&fnmr)
                );
                json["all_pairs"][format!("tar_at_fmr_1e-{exponent}")] =
                    json!({ "tar": tar, "threshold": threshold, "fmr": rate_json(&fmr), "fnmr": rate_json(&fnmr) });
            }
        }
        Some(every_pair)
    } else {
        None
    };

    let calibration = if options.fit.is_some() {
        let subjects = pairs.iter().flat_map(|[a, b, ..]| [a, b]).filter_map(|path| Path::new(path).parent());
        let impostor_source = if every_pair.is_some() { ALL_PAIRS } else { PROTOCOL_PAIRS };
        let impostor: &dyn FalseAccepts = every_pair.as_ref().map_or(&impostor, |every_pair| every_pair);
        let data = Data {
            set: "LFW (deep-funneled), View 2, folds 1 to 5".to_owned(),
            description: format!("{DESCRIPTION} {impostor_source}"),
            source: SOURCE.to_owned(),
            measured_on: today(),
            subjects: subjects.collect::<BTreeSet<_>>().len() as u64,
            trials: [("genuine", genuine.trials()), ("impostor", impostor.trials())]
                .map(|(name, trials)| (name.to_owned(), trials))
                .into(),
            failures_to_process: failures,
        };
        let mut fitted = calibrate(&measured, data, &genuine, impostor, options)?;
        options.add_limits(&mut fitted.calibration);
        text += &fitted_text(&fitted);
        Some(fitted.calibration)
    } else {
        None
    };
    Ok(Report { text, json, calibration })
}

const DESCRIPTION: &str = "Press photographs of public persons, both pictures of a pair alike in kind: no selfie is compared with a \
    document portrait here, for want of such data. Expect a higher FNMR on printed portraits. Persons are mostly adult, \
    male and of European descent; rates for others are not measured.";

const ALL_PAIRS: &str = "Impostor rates come from all pairs of pictures of different persons among the protocol's pictures; these pairs \
    share pictures, so their intervals resample persons. FNMR comes from the protocol's genuine pairs.";

const PROTOCOL_PAIRS: &str = "Impostor rates come from the protocol's own pairs.";

const SOURCE: &str = "Labeled Faces in the Wild, University of Massachusetts, Amherst (Huang et al., 2007); for research, no licence for \
    products stated; used for measuring only";

/// Embeds every picture of the protocol in this process and compares each with all pictures of other persons. The protocol's
/// own pairs are compared too and must give the daemon's scores.
///
/// # Errors
/// A picture without a face, models that give other scores than the daemon.
fn compare_all(
    dir: &Path,
    pairs: &[[String; 4]],
    measured: &Measured,
    options: &Options,
    text: &mut String,
) -> anyhow::Result<ImpostorScores> {
    let files: BTreeSet<&str> = pairs.iter().flat_map(|[a, b, ..]| [a.as_str(), b.as_str()]).collect();
    let files: Vec<&str> = files.into_iter().collect();
    let engine = InProcess::load(options.pack.as_deref())?;
    let embeddings = in_parallel(&files, options.callers, |file| {
        let picture = engine.picture(fs::read(dir.join(file)).with_context(|| format!("cannot read {file}"))?);
        Ok(picture.embedding().with_context(|| (*file).to_owned())?.cloned())
    })?;
    let by_file: BTreeMap<&str, &Embedding> =
        files.iter().zip(&embeddings).filter_map(|(file, embedding)| Some((*file, embedding.as_ref()?))).collect();

    let mut largest_difference = 0f64;
    for ([a, b, ..], answer) in pairs.iter().zip(&measured.answers) {
        if let (Some(a), Some(b), Ok(Answer { score: Some(score), .. })) =
            (by_file.get(a.as_str()), by_file.get(b.as_str()), answer)
        {
            largest_difference = largest_difference.max((a.cosine(b) - score).abs());
        }
    }
    if largest_difference > SAME_SCORE {
        bail!(
            "scores in this process differ from the daemon's by up to {largest_difference}: not the same models or code"
        );
    }

    let persons: BTreeSet<&Path> = files.iter().filter_map(|file| Path::new(file).parent()).collect();
    let numbers: BTreeMap<&Path, u32> = persons.into_iter().zip(0..).collect();
    let templates: Vec<Template> = by_file
        .iter()
        .filter_map(|(file, embedding)| {
            let identity = *numbers.get(Path::new(file).parent()?)?;
            Some(Template { identity, vector: embedding.values_for_calibration().to_vec() })
        })
        .collect();
    let scores = ImpostorScores::of_all_pairs(&templates)?;
    let _ = writeln!(
        text,
        "all pairs: {} pictures of {} persons, {} comparisons; scores here and from the daemon differ by at most {largest_difference:.1e}",
        templates.len(),
        scores.persons(),
        scores.pairs()
    );
    let highest: Vec<String> =
        scores.highest(12).iter().map(|(score, a, b)| format!("{score:.3} ({a}, {b})")).collect();
    let _ = writeln!(text, "  highest, with the persons' numbers: {}", highest.join(", "));
    Ok(scores)
}

/// Scores of the same pictures in two processes may differ by no more than this; the rounding of the API's numbers is smaller.
const SAME_SCORE: f64 = 1e-6;

/// Makes the calibration. `impostor` is the protocol's pairs or, where the embeddings are at hand, all pairs of different
/// persons (`vouch::calibration::impostors::ImpostorScores`), which alone can bear points below 1e-2 on this data.
///
/// # Errors
/// If the data support no calibration, or not the default operating point.
pub fn calibrate(
    measured: &Measured,
    data: Data,
    genuine: &SortedScores,
    impostor: &dyn FalseAccepts,
    options: &Options,
) -> anyhow::Result<Fitted> {
    let targets = targets("fmr", &TARGETS, options.default.as_deref().unwrap_or("fmr_1e-2"), options.review_rate)?;
    let provenance = provenance("face_match", measured, PREPROCESSING, data);
    let false_rejects = |threshold: f64| -> Rate { genuine.false_reject_rate(threshold) };
    Ok(fit(provenance, CurveKind::Fmr, impostor, &false_rejects, &|_| Vec::new(), &targets)?)
}
