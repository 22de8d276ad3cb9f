//! Passive liveness on folders of frames: `live/SUBJECT/*` and one folder per attack species, `SPECIES/SUBJECT/*`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;
use vouch::calibration::fit::{
    Attacks, FalseAccepts as _, Presentation, SortedScores, equal_error_rate, fit, rate_by_subject,
};
use vouch::calibration::intervals::quantile;
use vouch::calibration::{CurveKind, Data, OperatingPoint};

use super::daemon::{Daemon, Question};
use super::{
    Failures, Options, Report, failures_text, fitted_text, outcomes_text, percent, provenance, rate_json, targets,
    today,
};

/// Operating points tried, by the APCER of the worst species.
const TARGETS: [(&str, f64); 4] = [("1e-1", 0.1), ("5e-2", 0.05), ("2e-2", 0.02), ("1e-2", 0.01)];

/// Thresholds of the printed table.
const TABLE: [f64; 11] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9];

/// Operating points by the share of live frames rejected, each at the strictest threshold that keeps to it. Where attacks and live
/// frames lie far apart, the most lenient threshold that keeps to an APCER lies close to the attacks; these lie close to the live ones.
const LIVE_TARGETS: [(&str, f64); 3] = [("bpcer_2e-2", 0.02), ("bpcer_5e-2", 0.05), ("bpcer_1e-1", 0.1)];

const PREPROCESSING: &str = "whole camera frame; square of 2.7 times the face's height around it, shifted to stay inside the frame; \
    input as in the model manifest; softmax, class \"live\"";

const DESCRIPTION: &str = "Frames of webcam and selfie videos. Frames of one subject are correlated and the subjects are few, so the \
    intervals over subjects, not the values, say what is known. Species measured: those listed, nothing else (no mask, no \
    injected video). The model may have been trained on data of this kind.";

/// One frame and what it shows.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) set: String,
    /// `None` for a live one.
    pub(super) species: Option<String>,
    pub(super) subject: String,
    pub(super) path: PathBuf,
}

/// Asks about every frame, prints rates by species and subject, fits if asked to.
///
/// # Errors
/// As [`super::run`].
pub async fn measure(daemon: &Daemon, dirs: &[PathBuf], options: &Options) -> anyhow::Result<Report> {
    let mut frames = Vec::new();
    for dir in dirs {
        frames.extend(find_frames(dir)?);
    }
    let frames: Vec<Frame> = frames.into_iter().step_by(options.every).collect();
    let questions = frames.iter().map(|frame| Question::Liveness { selfie: frame.path.clone() }).collect();
    let measured = daemon.ask_all(questions).await?;

    let mut failures = Failures::new();
    let mut scored: Vec<(&Frame, f64)> = Vec::new();
    for (frame, answer) in frames.iter().zip(&measured.answers) {
        match answer {
            Ok(answer) => scored.extend(answer.score.map(|score| (frame, score))),
            Err(reason) => {
                *failures.entry(format!("{} {reason}", kind_of(frame))).or_default() += 1;
            }
        }
    }
    let presentation = |(frame, score): &(&Frame, f64)| Presentation {
        subject: format!("{}/{}", frame.set, frame.subject),
        score: *score,
    };
    let live: Vec<Presentation> =
        scored.iter().filter(|(frame, _)| frame.species.is_none()).map(presentation).collect();
    let mut by_species: BTreeMap<String, Vec<Presentation>> = BTreeMap::new();
    for item in &scored {
        if let Some(species) = &item.0.species {
            by_species.entry(species.clone()).or_default().push(presentation(item));
        }
    }

    let mut text = format!("passive_liveness: {} live frames scored", live.len());
    for (species, attacks) in &by_species {
        let subjects: BTreeSet<&str> = attacks.iter().map(|attack| attack.subject.as_str()).collect();
        let _ = write!(text, ", {} of {species} ({} subjects)", attacks.len(), subjects.len());
    }
    text.push('\n');
    text += &failures_text(&failures, frames.len());
    let sets: BTreeSet<&str> = frames.iter().map(|frame| frame.set.as_str()).collect();
    let mut json = json!({
        "check": "passive_liveness",
        "live": live.len(), "attacks": by_species.iter().map(|(name, all)| (name.clone(), all.len())).collect::<BTreeMap<_, _>>(),
        "failures_to_process": failures, "models": measured.models, "sets": {},
        "software": { "vouch": measured.version, "onnxruntime": measured.runtime, "device": measured.device },
    });
    let kinds: BTreeSet<&str> = frames.iter().map(kind_of).collect();
    for kind in kinds {
        let outcomes = measured.outcomes(|index| kind_of(&frames[index]) == kind);
        let _ = writeln!(text, "decisions on {kind}: {}", outcomes_text(&outcomes));
        json["outcomes"][kind] = json!(outcomes);
    }
    for set in &sets {
        let of_set: Vec<&(&Frame, f64)> = scored.iter().filter(|(frame, _)| frame.set == *set).collect();
        json["sets"][*set] = report_set(set, &of_set, &mut text);
    }

    text += "error rates by threshold, frames:\n";
    for threshold in TABLE {
        let bpcer = rate_by_subject(&live, |score| score < threshold);
        let _ = write!(text, "  {threshold}: BPCER {}", percent(&bpcer));
        let mut row = json!({ "threshold": threshold, "bpcer": rate_json(&bpcer) });
        for (species, attacks) in &by_species {
            let apcer = rate_by_subject(attacks, |score| score >= threshold);
            let _ = write!(text, "; APCER {species} {}", percent(&apcer));
            row[format!("apcer_{species}")] = rate_json(&apcer);
        }
        text.push('\n');
        json["by_threshold"][format!("{threshold}")] = row;
    }

    let calibration = if options.fit.is_some() {
        let subjects: BTreeSet<(&str, &str)> = frames.iter().map(|f| (f.set.as_str(), f.subject.as_str())).collect();
        let mut trials = BTreeMap::from([("live".to_owned(), live.len() as u64)]);
        trials.extend(by_species.iter().map(|(species, attacks)| (format!("attack_{species}"), attacks.len() as u64)));
        let data = Data {
            set: sets.iter().copied().collect::<Vec<_>>().join(" + "),
            description: DESCRIPTION.to_owned(),
            source: sets.iter().map(|set| source(set)).collect::<Vec<_>>().join("; "),
            measured_on: today(),
            subjects: subjects.len() as u64,
            trials,
            failures_to_process: failures,
        };
        let attacks = Attacks::new(by_species);
        let wanted = options.default.as_deref().unwrap_or(LIVE_TARGETS[1].0);
        let among_live = LIVE_TARGETS.iter().any(|(name, _)| *name == wanted);
        let targets = targets("apcer", &TARGETS, if among_live { "apcer_5e-2" } else { wanted }, options.review_rate)?;
        let false_rejects = |threshold: f64| rate_by_subject(&live, |score| score < threshold);
        let further = |threshold: f64| {
            attacks.rates(threshold).into_iter().map(|(species, rate)| (format!("apcer_{species}"), rate)).collect()
        };
        let provenance = provenance("passive_liveness", &measured, PREPROCESSING, data);
        let mut fitted = fit(provenance, CurveKind::Apcer, &attacks, &false_rejects, &further, &targets)?;
        if among_live {
            // Beside points close to the live frames, those close to the attacks would only be stepped into by mistake.
            fitted.calibration.operating_points.clear();
        }
        let review = options.review_rate.and_then(|rate| attacks.threshold_for(rate)).map(round_up);
        for (name, target) in LIVE_TARGETS {
            let threshold = strictest(&live, target);
            let mut rates = BTreeMap::from([
                ("apcer".to_owned(), attacks.rate(threshold)),
                ("bpcer".to_owned(), false_rejects(threshold)),
            ]);
            rates.extend(further(threshold));
            fitted.calibration.operating_points.push(OperatingPoint {
                name: name.to_owned(),
                threshold,
                review_threshold: review.filter(|review| *review < threshold),
                rates,
                limits: BTreeMap::new(),
                note: Some(
                    "the strictest threshold at this BPCER; few subjects: read the intervals, not the values"
                        .to_owned(),
                ),
            });
        }
        fitted.calibration.operating_points.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
        fitted.calibration.default_operating_point = wanted.to_owned();
        options.add_limits(&mut fitted.calibration);
        let problems = fitted.calibration.problems();
        if !problems.is_empty() {
            bail!("the calibration contradicts itself: {}", problems[0]);
        }
        text += &fitted_text(&fitted);
        Some(fitted.calibration)
    } else {
        None
    };
    Ok(Report { text, json, calibration })
}

/// The highest threshold, to four digits, at which at most this share of live frames is rejected.
fn strictest(live: &[Presentation], target: f64) -> f64 {
    let scores = SortedScores::new(live.iter().map(|shown| shown.score).collect());
    let allowed = (target * live.len() as f64 + 1e-9).floor() as usize;
    scores.as_slice().get(allowed).map_or(0.0, |score| (score * 1e4).floor() / 1e4)
}

/// Four digits, towards rejecting more.
fn round_up(score: f64) -> f64 {
    (score * 1e4).ceil() / 1e4
}

/// `live` or the attack species.
fn kind_of(frame: &Frame) -> &str {
    frame.species.as_deref().unwrap_or("live")
}

/// EER over all frames, over each subject's, and the median score of each session.
fn report_set(set: &str, scored: &[&(&Frame, f64)], text: &mut String) -> serde_json::Value {
    let scores = |live: bool, subject: Option<&str>| {
        let wanted =
            |frame: &Frame| frame.species.is_none() == live && subject.is_none_or(|name| frame.subject == name);
        SortedScores::new(scored.iter().filter(|(frame, _)| wanted(frame)).map(|(_, score)| *score).collect())
    };
    let mut json = json!({ "subjects": {} });
    let _ = writeln!(text, "{set}:");
    if let Some(eer) = equal_error_rate(&scores(true, None), &scores(false, None)) {
        let _ = writeln!(text, "  EER over all frames: {:.2} % at {:.4}", eer.rate * 100.0, eer.threshold);
        json["eer"] = json!({ "value": eer.rate, "threshold": eer.threshold });
    }
    let subjects: BTreeSet<&str> = scored.iter().map(|(frame, _)| frame.subject.as_str()).collect();
    let mut worst: Option<(f64, &str)> = None;
    for subject in subjects {
        let (live, attack) = (scores(true, Some(subject)), scores(false, Some(subject)));
        let (live_median, attack_median) = (quantile(live.as_slice(), 0.5), quantile(attack.as_slice(), 0.5));
        let eer = equal_error_rate(&live, &attack);
        let show = |median: Option<f64>| median.map_or("-".to_owned(), |median| format!("{median:.4}"));
        let shown_eer = eer.map_or("-".to_owned(), |eer| format!("{:.2} %", eer.rate * 100.0));
        let _ = writeln!(
            text,
            "  subject {subject}: {} live (median {}), {} attack (median {}), EER {shown_eer}",
            live.as_slice().len(),
            show(live_median),
            attack.as_slice().len(),
            show(attack_median)
        );
        json["subjects"][subject] = json!({
            "live": live.as_slice().len(), "live_median": live_median,
            "attack": attack.as_slice().len(), "attack_median": attack_median, "eer": eer.map(|eer| eer.rate),
        });
        if let Some(eer) = eer
            && worst.is_none_or(|(rate, _)| eer.rate > rate)
        {
            worst = Some((eer.rate, subject));
        }
    }
    if let Some((rate, subject)) = worst {
        let _ = writeln!(text, "  worst subject: {subject}, EER {:.2} %", rate * 100.0);
        json["worst_subject"] = json!({ "subject": subject, "eer": rate });
    }
    json
}

pub(super) fn find_frames(dir: &Path) -> anyhow::Result<Vec<Frame>> {
    let set = name(dir)?;
    let mut frames = Vec::new();
    for kind in entries(dir)?.into_iter().filter(|path| path.is_dir()) {
        let species = match name(&kind)?.as_str() {
            "live" => None,
            // The replay set's own word for its one species.
            "spoof" => Some("screen_replay".to_owned()),
            other => Some(other.to_owned()),
        };
        for subject in entries(&kind)?.into_iter().filter(|path| path.is_dir()) {
            for path in entries(&subject)?.into_iter().filter(|path| path.is_file()) {
                frames.push(Frame { set: set.clone(), species: species.clone(), subject: name(&subject)?, path });
            }
        }
    }
    if !frames.iter().any(|frame| frame.species.is_none()) || !frames.iter().any(|frame| frame.species.is_some()) {
        bail!("{}: no live/SUBJECT/* or no SPECIES/SUBJECT/*", dir.display());
    }
    Ok(frames)
}

/// In the order of their names, so that a run can be repeated.
fn entries(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("cannot read {}", dir.display()))?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> anyhow::Result<String> {
    path.file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .with_context(|| format!("{}: no name", path.display()))
}

/// Where the known sets come from; what is not known is said to be so.
fn source(set: &str) -> String {
    match set {
        "nuaa" => {
            "NUAA Photograph Imposter Database (Tan et al., 2010), for research; used for measuring only".to_owned()
        }
        "replay" => {
            "selfie videos and their screen replays from public samples, licence unclear; used for measuring only"
                .to_owned()
        }
        other => format!("{other}: source and licence not stated"),
    }
}
