//! From a scores file to a calibration: thresholds with their rates, the curve from score to rate, and the weights of fused measurements.
//!
//! Called by `cli::calibrate`. An operating point that the data cannot bear is refused and not extrapolated
//! ([`crate::calibration::fit`]); what fusing brings is told by cross-validation over persons, never on those that the weights were fitted
//! on. The limits of the file in use (on size, on crop), which no score can tell, are carried over.

use std::collections::{BTreeMap, BTreeSet};

use super::face_match::{self, Pair};
use super::report::{Block, Column, Document, Headline, Section, Table};
use super::scores::{Header, Scored, Scores, Truth};
use super::statistics::{Estimate, Labelled, Persons, complement, equal_error_rate, error_rate};
use super::summary::{Names, in_words, interval, percent};
use super::{Question, age};
use crate::calibration::age::{AgeSample, errors_by_true_age, fit_age};
use crate::calibration::fit::{
    Attacks, FalseAccepts, FitError, Fitted, MAX_OPEN, Presentation, Provenance, SortedScores, Target, fit,
    rate_by_subject, round_up,
};
use crate::calibration::fusion::{Fusion, FusionSample, fit_fusion};
use crate::calibration::impostors::ImpostorScores;
use crate::calibration::{Calibration, CurveKind, Data, Decision, Direction, OperatingPoint, Rate};
use crate::checks;
use crate::face::embed::EmbeddingKind;

/// Fewer persons of one kind than this are no ground for a threshold.
const MIN_PERSONS: usize = 10;
/// A gate is for those under age: without them nothing is known of it.
const MIN_MINORS: usize = 30;
/// Of presentations the public sets have fewer; the intervals say what that means.
const MIN_PRESENTED: usize = 5;
/// Parts of the cross-validation where the labels name none.
const FOLDS: u32 = 5;

/// What the operator wants of the file.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `YYYY-MM-DD`.
    pub date: String,
    /// The default operating point; absent: that of `base`, or the product's.
    pub default: Option<String>,
    /// Rate of false accepts down to which a score below the threshold goes to REVIEW.
    pub review_rate: Option<f64>,
    /// Limits on measurements, put into every operating point.
    pub limits: Vec<(String, f64)>,
    pub note: Option<String>,
    /// Measurements to fuse; empty: all that there are.
    pub fuse: Vec<String>,
    /// The calibration in use.
    pub base: Option<Calibration>,
}

/// A calibration and what is to be said of it.
#[derive(Debug)]
pub struct Made {
    pub calibration: Calibration,
    pub document: Document,
}

/// Comparisons of different persons beyond the labelled pairs.
pub trait MoreImpostors {
    /// The scores of all of them by a fusion.
    ///
    /// # Errors
    /// A sentence.
    fn all(&self, fusion: &Fusion) -> Result<ImpostorScores, String>;

    /// The measurements of about so many of them, with the persons' numbers; each stands for as many as there are in all by their number.
    fn some(&self, names: &[&str], count: usize) -> Sample;
}

/// A part of all comparisons of different persons.
#[derive(Debug, Clone)]
pub struct Sample {
    pub comparisons: Vec<([u32; 2], Vec<f64>)>,
    /// How many each stands for.
    pub weight: f64,
}

/// Makes a calibration from scores.
///
/// # Errors
/// A sentence that says why the data bear none: another question, too few persons, one kind only, a default that is not supported.
pub fn calibrate(scores: &Scores, wanted: &Wanted, more: Option<&dyn MoreImpostors>) -> Result<Made, String> {
    if !scores.is_complete() {
        return Err(format!(
            "{} of {} trials are answered: finish the evaluation first",
            scores.scored.len(),
            scores.header.data.trials
        ));
    }
    match scores.header.question {
        Question::FaceMatch => face_match(scores, wanted, more),
        Question::Liveness => liveness(scores, wanted),
        Question::Age => age_estimation(scores, wanted),
        Question::Mrz | Question::Barcode | Question::Document | Question::Latency => {
            Err(format!("{} decides by no score, so there is nothing to calibrate", scores.header.question.as_str()))
        }
    }
}

/// What happened to a picture before its score; a change in the code makes older files wrong.
fn preprocessing(question: Question, fusion: Option<&Fusion>) -> String {
    match question {
        Question::FaceMatch => {
            let mirrored = fusion.is_some_and(|fusion| fusion.terms.iter().any(|t| t.measurement.ends_with("_mirrored")));
            let mirror = if mirrored { "; vectors of the crop and of its mirror image added" } else { "" };
            format!(
                "largest, most central face; similarity transform of its five landmarks to the 112 x 112 template (face_embedder) and to \
                 dlib's chip of 150 x 150 (face_embedder_b); input as in the model manifest{mirror}; cosine similarity of the two vectors of each \
                 kind, fused as under [fusion]"
            )
        }
        Question::Liveness => "whole camera frame; square of 2.7 times the face's height around it, shifted to stay inside the frame; \
                               input as in the model manifest; softmax, class \"live\""
            .into(),
        _ => "largest, most central face; each estimator's own crop and input as in the model manifest; the estimates combined as under [age]"
            .into(),
    }
}

fn provenance(header: &Header, data: Data, roles: impl Fn(&str) -> bool, fusion: Option<&Fusion>) -> Provenance {
    let check = header.question.check().unwrap_or_default();
    let daemon = &header.daemon;
    Provenance {
        check: check.to_owned(),
        score_kind: checks::find(check).map_or_else(String::new, |check| check.score_kind().to_owned()),
        software: format!("vouch {}, ONNX Runtime {}, {}", daemon.version, daemon.runtime, daemon.device),
        preprocessing: preprocessing(header.question, fusion),
        models: daemon
            .models
            .iter()
            .filter(|(role, _)| roles(role))
            .map(|(role, hash)| (role.clone(), hash.clone()))
            .collect(),
        data,
    }
}

fn data(scores: &Scores, wanted: &Wanted, subjects: usize, trials: BTreeMap<String, u64>, more: &str) -> Data {
    let described = &scores.header.data;
    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    for scored in &scores.scored {
        if let Some(reason) = &scored.answer.failure {
            *failures.entry(reason.clone()).or_default() += 1;
        }
    }
    Data {
        set: described.name.clone(),
        description: {
            let remarks: String = described.remarks.iter().map(|remark| format!(" To be known: {remark}.")).collect();
            format!("{}{more}{remarks}", described.description)
        },
        source: described.source.clone(),
        measured_on: if scores.header.date.is_empty() { wanted.date.clone() } else { scores.header.date.clone() },
        subjects: subjects as u64,
        trials,
        failures_to_process: failures,
    }
}

// ---------------------------------------------------------------- face match

/// Operating points tried, most lenient first; those that the impostors cannot bear are refused.
const FMR_TARGETS: [(&str, f64); 5] =
    [("fmr_1e-2", 1e-2), ("fmr_1e-3", 1e-3), ("fmr_1e-4", 1e-4), ("fmr_1e-5", 1e-5), ("fmr_1e-6", 1e-6)];

/// Comparisons of different persons that the weights are fitted on.
const FITTED_IMPOSTORS: usize = 100_000;

/// Labelled impostor pairs; their intervals resample persons.
struct LabelledImpostors {
    sorted: SortedScores,
    trials: Vec<(Persons, f64)>,
}

impl FalseAccepts for LabelledImpostors {
    fn trials(&self) -> u64 {
        self.sorted.trials()
    }

    fn rate(&self, threshold: f64) -> Rate {
        error_rate(&self.trials.iter().map(|(persons, score)| (*persons, *score >= threshold)).collect::<Vec<_>>())
    }

    fn threshold_for(&self, target: f64) -> Option<f64> {
        self.sorted.threshold_for(target)
    }

    fn curve_scores(&self) -> Vec<f64> {
        self.sorted.curve_scores()
    }
}

/// A pair with the values of the measurements to be fused.
#[derive(Debug, Clone)]
struct Measured {
    genuine: bool,
    persons: Persons,
    fold: u32,
    values: Vec<f64>,
}

fn face_match(scores: &Scores, wanted: &Wanted, more: Option<&dyn MoreImpostors>) -> Result<Made, String> {
    let pairs: Vec<Pair<'_>> =
        face_match::pairs(scores).into_iter().filter(|p| p.scored.answer.failure.is_none()).collect();
    let persons: BTreeSet<u32> = pairs.iter().flat_map(|pair| pair.persons.into_iter().flatten()).collect();
    let counted = if persons.is_empty() { pairs.len() } else { persons.len() };
    enough(counted, MIN_PERSONS, "persons")?;
    let names = measurements(&pairs, &wanted.fuse)?;
    let measured: Vec<Measured> = pairs
        .iter()
        .filter_map(|pair| {
            let value = |name: &String| pair.scored.answer.measurements.get(name).copied();
            let values: Option<Vec<f64>> = names.iter().map(value).collect();
            Some(Measured { genuine: pair.genuine, persons: pair.persons, fold: pair.fold, values: values? })
        })
        .collect();
    if !measured.iter().any(|pair| pair.genuine) || measured.iter().all(|pair| pair.genuine) {
        return Err("genuine and impostor pairs are both needed".into());
    }
    let by_name: Vec<&str> = names.iter().map(String::as_str).collect();
    let some = more.map(|more| more.some(&by_name, FITTED_IMPOSTORS));
    let fusion = fit_fusion(&by_name, &samples(&measured, some.as_ref(), |_| true))?.fusion;
    let gain = match gain(&measured, &by_name, some.as_ref()) {
        Ok(section) => Some(section),
        Err(_) if by_name.len() < 2 => None,
        Err(reason) => Some(Section {
            title: "What fusing brings".into(),
            blocks: vec![Block::Warning(format!("not known, for it cannot be cross-validated over persons: {reason}"))],
        }),
    };

    let scored: Vec<(Persons, bool, f64)> =
        measured.iter().map(|pair| (pair.persons, pair.genuine, fused(&fusion, &by_name, &pair.values))).collect();
    let of_kind = |genuine: bool| -> Vec<(Persons, f64)> {
        scored.iter().filter(|(_, kind, _)| *kind == genuine).map(|(persons, _, score)| (*persons, *score)).collect()
    };
    let (genuine, impostor) = (of_kind(true), of_kind(false));
    let all_pairs = more.map(|more| more.all(&fusion)).transpose()?;
    let labelled = LabelledImpostors {
        sorted: SortedScores::new(impostor.iter().map(|(_, score)| *score).collect()),
        trials: impostor,
    };
    let impostors: &dyn FalseAccepts = all_pairs.as_ref().map_or(&labelled, |all| all as &dyn FalseAccepts);
    let trials = [("genuine", genuine.len() as u64), ("impostor", impostors.trials())]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
    let kind_of_impostors = if all_pairs.is_some() {
        " Impostor rates come from all pairs of pictures of different persons; these pairs share pictures, so their intervals resample persons. FNMR \
         comes from the labelled genuine pairs."
    } else {
        " Impostor rates come from the labelled pairs."
    };
    let kind_of_impostors = format!("{kind_of_impostors} Weights, thresholds and rates come from the same persons.");
    let data = data(scores, wanted, counted, trials, &kind_of_impostors);
    let takes =
        |letter: &str| fusion.terms.iter().any(|term| term.measurement.starts_with(&format!("cosine_{letter}")));
    let takes_part = |role: &str| match role {
        "face_embedder" => takes("a"),
        "face_embedder_b" => takes("b"),
        _ => true,
    };
    let origin = provenance(&scores.header, data, takes_part, Some(&fusion));
    let default = default_point(wanted, &["fmr_1e-4", "fmr_1e-3", "fmr_1e-2"], |name| {
        let rate = FMR_TARGETS.iter().find(|(target, _)| *target == name).map(|(_, rate)| *rate)?;
        Some(3.0 / impostors.trials() as f64 <= rate)
    })?;
    let targets = targets(&FMR_TARGETS, &default, wanted.review_rate);
    let false_rejects = |threshold: f64| {
        error_rate(&genuine.iter().map(|(persons, score)| (*persons, *score < threshold)).collect::<Vec<_>>())
    };
    let mut fitted = fit(origin, CurveKind::Fmr, impostors, &false_rejects, &|_| Vec::new(), &targets).map_err(say)?;
    fitted.calibration.fusion = Some(fusion.clone());
    let mut sections: Vec<Section> = [weights_section(&fusion)].into_iter().chain(gain).collect();
    sections.extend(finish(&mut fitted, wanted, |old, new| {
        // The scores of old and new may be of different kinds: what each decides is compared, not where its threshold lies.
        changes(old, new, |calibration| {
            pairs
                .iter()
                .map(|pair| {
                    let told = |name: &str| pair.scored.answer.measurements.get(name).copied();
                    let score = match &calibration.fusion {
                        Some(fusion) => fusion.apply(told),
                        None => told(EmbeddingKind::A.measurement()),
                    };
                    (if pair.genuine { "genuine" } else { "impostor" }, score)
                })
                .collect()
        })
    })?);
    Ok(made(fitted.calibration, sections, &scores.header))
}

/// The measurements that are there for every answered pair, or those asked for.
fn measurements(pairs: &[Pair<'_>], asked: &[String]) -> Result<Vec<String>, String> {
    let has = |name: &String| pairs.iter().all(|pair| pair.scored.answer.measurements.contains_key(name));
    if let Some(absent) = asked.iter().find(|name| !has(name)) {
        return Err(format!(
            "--fuse {absent}: not every answer has it; evaluate with a daemon on an empty calibration directory"
        ));
    }
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let known: BTreeSet<&String> = pairs.iter().flat_map(|pair| pair.scored.answer.measurements.keys()).collect();
    let names: Vec<String> =
        known.into_iter().filter(|name| name.starts_with("cosine_") && has(name)).cloned().collect();
    // With and without the mirror image are one model's opinion twice; the better one is taken.
    let mirrored: Vec<String> = names.iter().filter(|name| name.ends_with("_mirrored")).cloned().collect();
    match (names.is_empty(), mirrored.is_empty()) {
        (true, _) => Err("the answers tell no similarities".into()),
        (false, true) => Ok(names),
        (false, false) => Ok(mirrored),
    }
}

fn value(names: &[&str], values: &[f64], name: &str) -> Option<f64> {
    names.iter().position(|known| *known == name).and_then(|place| values.get(place)).copied()
}

fn fused(fusion: &Fusion, names: &[&str], values: &[f64]) -> f64 {
    fusion.apply(|name| value(names, values, name)).unwrap_or(f64::NEG_INFINITY)
}

/// What the weights are fitted on: genuine pairs, and the other comparisons if there are any, else impostor pairs; of those for whose persons
/// `takes` is true.
fn samples(measured: &[Measured], some: Option<&Sample>, takes: impl Fn(Persons) -> bool) -> Vec<FusionSample> {
    let labelled = measured
        .iter()
        .filter(|pair| (pair.genuine || some.is_none()) && takes(pair.persons))
        .map(|pair| FusionSample { values: pair.values.clone(), accept: pair.genuine, weight: 1.0 });
    let further = some.into_iter().flat_map(|some| {
        let taken = some.comparisons.iter().filter(|(persons, _)| takes(Some(*persons)));
        taken.map(|(_, values)| FusionSample { values: values.clone(), accept: false, weight: some.weight })
    });
    labelled.chain(further).collect()
}

/// Error of each measurement and of their fusion, each pair scored by weights that were fitted without its persons.
fn gain(measured: &[Measured], names: &[&str], some: Option<&Sample>) -> Result<Section, String> {
    // A protocol's folds hold different persons; otherwise persons are dealt out, and pairs between two parts are in none.
    let mut fold_of: BTreeMap<u32, u32> = BTreeMap::new();
    let folds_are_apart = measured.iter().all(|pair| {
        pair.persons.into_iter().flatten().all(|person| *fold_of.entry(person).or_insert(pair.fold) == pair.fold)
    });
    let part = |person: u32| if folds_are_apart { fold_of.get(&person).copied().unwrap_or(0) } else { person % FOLDS };
    let part_of = |pair: &Measured| match pair.persons {
        Some([a, b]) => (part(a) == part(b)).then(|| part(a)),
        None => Some(pair.fold),
    };
    let parts: BTreeSet<u32> = measured.iter().filter_map(part_of).collect();
    let mut columns: BTreeMap<&str, Vec<Labelled>> = BTreeMap::new();
    for held_out in &parts {
        let elsewhere = |persons: Persons| persons.is_none_or(|pair| pair.iter().all(|p| part(*p) != *held_out));
        let known: Vec<Measured> = measured.iter().filter(|pair| part_of(pair) != Some(*held_out)).cloned().collect();
        let fitted = fit_fusion(names, &samples(&known, some, elsewhere))
            .map_err(|reason| format!("cross-validation: {reason}"))?;
        for pair in measured.iter().filter(|pair| part_of(pair) == Some(*held_out)) {
            let labelled = |score| Labelled { score, accept: pair.genuine, persons: pair.persons };
            for (name, value) in names.iter().zip(&pair.values) {
                columns.entry(name).or_default().push(labelled(*value));
            }
            // As log-odds: the scores of different weights lie on different scales.
            let log_odds = fitted.intercept + fitted.slope * fused(&fitted.fusion, names, &pair.values);
            columns.entry(FUSED).or_default().push(labelled(log_odds));
        }
    }
    let mut rows = Vec::new();
    for name in names.iter().copied().chain((names.len() > 1).then_some(FUSED)) {
        let Some(trials) = columns.get(name) else { continue };
        let Some((eer, _)) = equal_error_rate(trials) else { continue };
        let mut row = vec![name.to_owned(), percent(eer.value), interval(eer.low_95, eer.high_95)];
        for target in [1e-2, 1e-3] {
            row.push(tar(trials, target).map_or_else(|| "–".into(), |tar| percent(tar.value)));
        }
        rows.push(row);
    }
    let mut titles = vec![Column::text("score")];
    titles.extend(["EER", "95 %", "TAR at FMR 1e-2", "TAR at FMR 1e-3"].map(Column::number));
    let caption = format!("On the labelled pairs, in {} parts with different persons", parts.len());
    Ok(Section {
        title: "What fusing brings, cross-validated over persons".into(),
        blocks: vec![Block::Table(Table { caption, columns: titles, rows })],
    })
}

const FUSED: &str = "fused";

fn tar(trials: &[Labelled], target: f64) -> Option<Estimate> {
    let impostors = SortedScores::new(trials.iter().filter(|t| !t.accept).map(|t| t.score).collect());
    let threshold = impostors.threshold_for(target)?;
    let rejected: Vec<(Persons, bool)> =
        trials.iter().filter(|t| t.accept).map(|t| (t.persons, t.score < threshold)).collect();
    (!rejected.is_empty()).then(|| complement(&error_rate(&rejected)))
}

fn weights_section(fusion: &Fusion) -> Section {
    let rows = fusion.terms.iter().map(|term| vec![term.measurement.clone(), format!("{:.4}", term.weight)]).collect();
    let columns = vec![Column::text("measurement"), Column::number("weight")];
    let caption = "The score is their weighted mean, weights by logistic regression".into();
    Section { title: "Fusion".into(), blocks: vec![Block::Table(Table { caption, columns, rows })] }
}

// ---------------------------------------------------------------- liveness

/// Operating points by the APCER of the worst species.
const APCER_TARGETS: [(&str, f64); 4] =
    [("apcer_1e-1", 0.1), ("apcer_5e-2", 0.05), ("apcer_2e-2", 0.02), ("apcer_1e-2", 0.01)];

/// Operating points by the share of live frames rejected, each at the strictest threshold that keeps to it. Where attacks and live frames
/// lie far apart, the most lenient threshold that keeps to an APCER lies close to the attacks; these lie close to the live ones.
const BPCER_TARGETS: [(&str, f64); 3] = [("bpcer_2e-2", 0.02), ("bpcer_5e-2", 0.05), ("bpcer_1e-1", 0.1)];

fn liveness(scores: &Scores, wanted: &Wanted) -> Result<Made, String> {
    let mut live: Vec<Presentation> = Vec::new();
    let mut by_species: BTreeMap<String, Vec<Presentation>> = BTreeMap::new();
    let mut subjects = BTreeSet::new();
    for scored in &scores.scored {
        let Truth::Presentation { species, subject } = &scored.trial.truth else { continue };
        let Some(score) = scored.score() else { continue };
        let shown = Presentation { subject: subject.clone(), score };
        subjects.insert(subject.as_str());
        match species {
            None => live.push(shown),
            Some(species) => by_species.entry(species.clone()).or_default().push(shown),
        }
    }
    let persons =
        |shown: &[Presentation]| shown.iter().map(|shown| shown.subject.as_str()).collect::<BTreeSet<_>>().len();
    enough(persons(&live), MIN_PRESENTED, "live persons")?;
    let attacked: BTreeSet<&str> = by_species.values().flatten().map(|shown| shown.subject.as_str()).collect();
    enough(attacked.len(), MIN_PRESENTED, "persons attacked")?;

    let mut trials = BTreeMap::from([("live".to_owned(), live.len() as u64)]);
    trials.extend(by_species.iter().map(|(species, attacks)| (format!("attack_{species}"), attacks.len() as u64)));
    let data = data(scores, wanted, subjects.len(), trials, "");
    let attacks = Attacks::new(by_species);
    let default = default_point(wanted, &["bpcer_5e-2"], |name| {
        let known = APCER_TARGETS.iter().chain(&BPCER_TARGETS).any(|(target, _)| *target == name);
        known.then_some(true)
    })?;
    let by_bpcer = BPCER_TARGETS.iter().any(|(name, _)| *name == default);
    // Beside points close to the live frames, those close to the attacks would only be stepped into by mistake: for the curve alone, the one that
    // accepts everything will do.
    let everything = [("everything", 1.0)];
    let (of_rate, first): (&[(&str, f64)], &str) =
        if by_bpcer { (&everything, everything[0].0) } else { (&APCER_TARGETS, &default) };
    let targets = targets(of_rate, first, wanted.review_rate);
    let false_rejects = |threshold: f64| rate_by_subject(&live, |score| score < threshold);
    let further = |threshold: f64| {
        attacks.rates(threshold).into_iter().map(|(species, rate)| (format!("apcer_{species}"), rate)).collect()
    };
    let origin = provenance(&scores.header, data, |_| true, None);
    let mut fitted = fit(origin, CurveKind::Apcer, &attacks, &false_rejects, &further, &targets).map_err(say)?;
    if by_bpcer {
        fitted.calibration.operating_points.clear();
    }
    let review = wanted.review_rate.and_then(|rate| attacks.threshold_for(rate)).map(round_up);
    for (name, target) in BPCER_TARGETS {
        let threshold = strictest(&live, target);
        let rejects = false_rejects(threshold);
        if rejects.high_95 > MAX_OPEN * target {
            fitted
                .refused
                .push((name.to_owned(), format!("the data leave a BPCER of {} open there", percent(rejects.high_95))));
            continue;
        }
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
                "the strictest threshold at this BPCER; few subjects: read the intervals, not the values".into(),
            ),
        });
    }
    if !fitted.calibration.operating_points.iter().any(|point| point.name == default) {
        return Err(format!("the default operating point {default} is not supported by the data"));
    }
    fitted.calibration.operating_points.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
    fitted.calibration.default_operating_point = default;
    let sections = finish(&mut fitted, wanted, |old, new| {
        changes(old, new, |_| {
            scores
                .scored
                .iter()
                .filter_map(|scored| {
                    let Truth::Presentation { species, .. } = &scored.trial.truth else { return None };
                    Some((species.as_deref().unwrap_or("live"), scored.score()))
                })
                .collect()
        })
    })?;
    Ok(made(fitted.calibration, sections, &scores.header))
}

/// The highest threshold, to four digits, at which at most this share of live frames is rejected.
fn strictest(live: &[Presentation], target: f64) -> f64 {
    let scores = SortedScores::new(live.iter().map(|shown| shown.score).collect());
    let allowed = (target * live.len() as f64 + 1e-9).floor() as usize;
    scores.as_slice().get(allowed).map_or(0.0, |score| (score * 1e4).floor() / 1e4)
}

// ---------------------------------------------------------------- age

/// Thresholds, in years, measured for [`age::DEFAULT_MINIMUM_AGE`].
const CHALLENGE_AGES: [u32; 5] = [18, 21, 23, 25, 30];

const AGE_RATES: &str = " Rates of operating points hold for a minimum age of 18 on the corrected age: fpr is the share of persons under 18 at \
    or above the threshold, fnr the share of persons of 18 and more below it, which depends on how old they are; fpr_13_to_18 \
    and fnr_18_to_30 tell it for those from 13 to under 18 and from 18 to under 30.";

fn age_estimation(scores: &Scores, wanted: &Wanted) -> Result<Made, String> {
    let names = Names::of(&scores.scored);
    let answered: Vec<&Scored> = scores.scored.iter().filter(|scored| scored.answer.failure.is_none()).collect();
    let has = |name: &String| answered.iter().all(|scored| scored.answer.measurements.contains_key(name));
    let known: BTreeSet<&String> = answered.iter().flat_map(|scored| scored.answer.measurements.keys()).collect();
    let estimators: Vec<String> = if wanted.fuse.is_empty() {
        known.into_iter().filter(|name| age::is_estimator(name) && has(name)).cloned().collect()
    } else {
        wanted.fuse.clone()
    };
    if let Some(absent) = estimators.iter().find(|name| !has(name)) {
        return Err(format!("--fuse {absent}: not every answer has it"));
    }
    if estimators.is_empty() {
        return Err("the answers tell no raw estimates of the age".into());
    }
    let mut persons = Vec::new();
    let samples: Vec<AgeSample> = answered
        .iter()
        .enumerate()
        .filter_map(|(place, scored)| {
            let Truth::Face { age, .. } = scored.trial.truth else { return None };
            let estimates: Option<Vec<f64>> =
                estimators.iter().map(|name| scored.answer.measurements.get(name).copied()).collect();
            let estimates = estimates?;
            let person = names.persons(&scored.trial.truth);
            persons.push(person);
            // All pictures of a person go into one part. Labels are often sorted by age: dealing them out in turn keeps the parts alike.
            let fold = person.map_or(place, |[person, _]| person as usize) % FOLDS as usize;
            Some(AgeSample { true_age: age, estimates, fold })
        })
        .collect();
    let estimators: Vec<&str> = estimators.iter().map(String::as_str).collect();
    enough(if names.count() > 0 { names.count() } else { samples.len() }, MIN_PERSONS, "persons")?;
    let fit = fit_age(&estimators, &samples, FOLDS as usize)?;
    let corrected: Vec<(f64, f64)> =
        fit.predictions.iter().copied().zip(samples.iter().map(|sample| sample.true_age)).collect();

    let minimum = age::DEFAULT_MINIMUM_AGE;
    let rate = |ages: std::ops::Range<f64>, wrong: &dyn Fn(f64) -> bool| {
        let trials: Vec<(Persons, bool)> = corrected
            .iter()
            .zip(&persons)
            .filter(|((_, truth), _)| ages.contains(truth))
            .map(|((age, _), persons)| (*persons, wrong(*age)))
            .collect();
        error_rate(&trials)
    };
    let minors = samples.iter().filter(|sample| sample.true_age < minimum).count();
    enough(minors, MIN_MINORS, "pictures of persons under 18")?;
    let operating_points: Vec<OperatingPoint> = CHALLENGE_AGES
        .iter()
        .map(|&years| {
            let threshold = f64::from(years);
            let rates = [
                ("fpr", rate(0.0..minimum, &|age| age >= threshold)),
                ("fpr_0_to_13", rate(0.0..13.0, &|age| age >= threshold)),
                ("fpr_13_to_18", rate(13.0..minimum, &|age| age >= threshold)),
                ("fnr", rate(minimum..f64::INFINITY, &|age| age < threshold)),
                ("fnr_18_to_30", rate(minimum..30.0, &|age| age < threshold)),
                ("fnr_30_to_130", rate(30.0..130.0, &|age| age < threshold)),
            ];
            OperatingPoint {
                name: format!("challenge_{years}"),
                threshold,
                // As far below the minimum age as the threshold lies above it: between the two a document decides.
                review_threshold: Some(2.0 * minimum - threshold).filter(|review| *review < threshold),
                rates: rates
                    .into_iter()
                    .filter(|(_, rate)| rate.trials > 0)
                    .map(|(name, rate)| (name.to_owned(), rate))
                    .collect(),
                limits: BTreeMap::new(),
                note: None,
            }
        })
        .collect();
    let default = default_point(wanted, &["challenge_25"], |name| {
        operating_points.iter().any(|point| point.name == name).then_some(true)
    })?;
    let subjects = if names.count() > 0 { names.count() } else { samples.len() };
    let trials = BTreeMap::from([("images".to_owned(), samples.len() as u64)]);
    let origin = provenance(&scores.header, data(scores, wanted, subjects, trials, AGE_RATES), |_| true, None);
    let mut fitted = Fitted {
        calibration: Calibration {
            check: origin.check,
            score_kind: origin.score_kind,
            direction: Direction::HigherAccepts,
            software: origin.software,
            preprocessing: origin.preprocessing,
            default_operating_point: default,
            models: origin.models,
            data: origin.data,
            operating_points,
            curve: None,
            fusion: None,
            age: Some(fit.model.clone()),
        },
        refused: Vec::new(),
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, error: &crate::calibration::age::AgeError| {
        rows.push(vec![
            name.to_owned(),
            format!("{:.2}", error.mae),
            format!("{:+.2}", error.bias),
            error.images.to_string(),
        ]);
    };
    fit.single.iter().for_each(|(name, error)| row(name, error));
    row("plain mean", &fit.mean);
    row("combined and corrected, cross-validated", &fit.cross_validated);
    for (from, to, error) in errors_by_true_age(&corrected) {
        row(&format!("  of these, true age {from} to under {to}"), &error);
    }
    let mut columns = vec![Column::text("estimate")];
    columns.extend(["MAE, years", "bias, years", "pictures"].map(Column::number));
    let caption = format!("Errors; each picture's combined estimate by a fit on the other {} parts", FOLDS - 1);
    let mut sections = vec![Section {
        title: "What combining brings, cross-validated".into(),
        blocks: vec![Block::Table(Table { caption, columns, rows })],
    }];
    sections.extend(finish(&mut fitted, wanted, |old, new| {
        changes(old, new, |calibration| {
            samples
                .iter()
                .map(|sample| {
                    let named: Vec<(&str, f64)> =
                        estimators.iter().copied().zip(sample.estimates.iter().copied()).collect();
                    let estimate = calibration.age.as_ref().and_then(|model| model.apply(&named)).map(|age| age.value);
                    (if sample.true_age < minimum { "under age" } else { "of age" }, estimate)
                })
                .collect()
        })
    })?);
    Ok(made(fitted.calibration, sections, &scores.header))
}

// ---------------------------------------------------------------- all

fn say(error: FitError) -> String {
    error.to_string()
}

fn enough(there: usize, needed: usize, what: &str) -> Result<(), String> {
    if there >= needed {
        return Ok(());
    }
    Err(format!("{there} {what} are no ground for a threshold; at least {needed} are needed, and hundreds to say much"))
}

/// The default operating point: the one wanted, that in use, or the strictest usual one that the data bear. `known` says of a name
/// whether the data bear it, and nothing of one that does not exist.
fn default_point(wanted: &Wanted, usual: &[&str], known: impl Fn(&str) -> Option<bool>) -> Result<String, String> {
    if let Some(name) = &wanted.default {
        return known(name)
            .map(|_| name.clone())
            .ok_or_else(|| format!("--default {name}: there is no such operating point"));
    }
    let in_use = wanted.base.as_ref().map(|base| base.default_operating_point.as_str());
    let candidates = in_use.into_iter().chain(usual.iter().copied());
    let fallback = usual.last().copied().unwrap_or_default();
    Ok(candidates.into_iter().find(|name| known(name) == Some(true)).unwrap_or(fallback).to_owned())
}

/// The targets with the default one first, as [`fit`] wants them.
fn targets(all: &[(&str, f64)], default: &str, review_rate: Option<f64>) -> Vec<Target> {
    let mut targets: Vec<Target> = all
        .iter()
        .map(|(name, rate)| Target {
            name: (*name).to_owned(),
            rate: *rate,
            review_rate: review_rate.filter(|review| review > rate),
        })
        .collect();
    if let Some(place) = targets.iter().position(|target| target.name == default) {
        targets.swap(0, place);
    }
    targets
}

/// Puts in what no score can tell, checks the whole, and says what it holds and what changes.
fn finish(
    fitted: &mut Fitted,
    wanted: &Wanted,
    changes: impl Fn(&Calibration, &Calibration) -> Table,
) -> Result<Vec<Section>, String> {
    let base = wanted.base.as_ref();
    let carried = base.and_then(|base| base.operating_point(""));
    for point in &mut fitted.calibration.operating_points {
        // Limits belong to the check, not to a threshold: those of the point of the same name, or of the default.
        let same =
            base.and_then(|base| base.operating_points.iter().find(|other| other.name == point.name)).or(carried);
        point.limits = same.map(|same| same.limits.clone()).unwrap_or_default();
        point.limits.extend(wanted.limits.iter().cloned());
        let notes: Vec<String> = point.note.take().into_iter().chain(wanted.note.clone()).collect();
        point.note = Some(notes.join("; ")).filter(|note| !note.is_empty());
    }
    let problems = fitted.calibration.problems();
    if !problems.is_empty() {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(format!("the calibration would contradict itself: {}", problems.join("; ")));
    }
    let calibration = &fitted.calibration;
    let mut rows = Vec::new();
    for point in &calibration.operating_points {
        let is_default = point.name == calibration.default_operating_point;
        for (name, rate) in &point.rates {
            let shown = if is_default { format!("{} (default)", point.name) } else { point.name.clone() };
            rows.push(vec![shown, format!("{:.4}", point.threshold), name.to_uppercase(), in_words(rate)]);
        }
    }
    let columns = vec![
        Column::text("operating point"),
        Column::number("threshold"),
        Column::text("rate"),
        Column::text("measured"),
    ];
    let mut blocks = vec![Block::Table(Table { caption: "Operating points".into(), columns, rows })];
    for (name, reason) in &fitted.refused {
        blocks.push(Block::Warning(format!("{name} is not offered: {reason}")));
    }
    let mut sections = vec![Section { title: "What the data bear".into(), blocks }];
    if let Some(base) = base {
        let mut blocks = vec![Block::Table(thresholds(base, calibration)), Block::Table(changes(base, calibration))];
        let gone: Vec<&str> = base
            .operating_points
            .iter()
            .map(|point| point.name.as_str())
            .filter(|name| !calibration.operating_points.iter().any(|point| point.name == *name))
            .collect();
        if !gone.is_empty() {
            let words = "in use, and not in the new file: requests that name it would be refused";
            blocks.push(Block::Warning(format!("{}: {words}", gone.join(", "))));
        }
        let had_review = |point: &OperatingPoint| {
            let old = base.operating_points.iter().find(|other| other.name == point.name);
            point.review_threshold.is_none() && old.is_some_and(|old| old.review_threshold.is_some())
        };
        if calibration.operating_points.iter().any(had_review) {
            blocks.push(Block::Warning(
                "scores below the threshold would FAIL where the file in use sends some to REVIEW: give --review-rate"
                    .into(),
            ));
        }
        sections.push(Section { title: "What would change".into(), blocks });
    }
    Ok(sections)
}

fn thresholds(old: &Calibration, new: &Calibration) -> Table {
    let names: BTreeSet<&str> =
        old.operating_points.iter().chain(&new.operating_points).map(|point| point.name.as_str()).collect();
    let shown = |calibration: &Calibration, name: &str| {
        let point = calibration.operating_points.iter().find(|point| point.name == name);
        point.map_or_else(|| "–".into(), |point| format!("{:.4}", point.threshold))
    };
    let rows = names.into_iter().map(|name| vec![name.to_owned(), shown(old, name), shown(new, name)]).collect();
    let columns = vec![Column::text("operating point"), Column::number("threshold in use"), Column::number("new")];
    Table { caption: "Thresholds; comparable only where the score is made in the same way".into(), columns, rows }
}

/// Decisions at the default points of two calibrations on the same trials; `scored` gives each trial's kind and its score by a calibration.
fn changes<'a>(
    old: &Calibration,
    new: &Calibration,
    scored: impl Fn(&Calibration) -> Vec<(&'a str, Option<f64>)>,
) -> Table {
    let decided = |calibration: &Calibration| -> Vec<(&'a str, Option<Decision>)> {
        let point = calibration.operating_point("");
        let decide = |score: Option<f64>| Some(calibration.decide(point?, score?));
        scored(calibration).into_iter().map(|(kind, score)| (kind, decide(score))).collect()
    };
    let mut counts: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    let word = |decision: Option<Decision>| match decision {
        Some(Decision::Accept) => "PASS",
        Some(Decision::Review) => "REVIEW",
        Some(Decision::Reject) => "FAIL",
        None => "no score",
    };
    for ((kind, before), (_, after)) in decided(old).into_iter().zip(decided(new)) {
        *counts.entry((kind, word(before), word(after))).or_default() += 1;
    }
    let row = |((kind, before, after), count): (&(&str, &str, &str), &u64)| {
        [kind, before, after].map(|text| (*text).to_owned()).into_iter().chain([count.to_string()]).collect()
    };
    let mut columns = vec![Column::text("trials"), Column::text("in use"), Column::text("new")];
    columns.push(Column::number("number"));
    let caption = "Decisions of these trials at the two default operating points, without the limits".into();
    Table { caption, columns, rows: counts.iter().map(row).collect() }
}

fn made(calibration: Calibration, mut sections: Vec<Section>, header: &Header) -> Made {
    if header.daemon.version != env!("CARGO_PKG_VERSION") {
        let words = "what happened to a picture before its score is described as this version does it";
        let warning = format!(
            "the scores are of vouch {}, this is {}: {words}",
            header.daemon.version,
            env!("CARGO_PKG_VERSION")
        );
        sections.insert(0, Section { title: "Another version".into(), blocks: vec![Block::Warning(warning)] });
    }
    let headlines = calibration
        .operating_point("")
        .into_iter()
        .map(|point| Headline {
            label: "default operating point".into(),
            value: point.name.clone(),
            note: format!("threshold {:.4}", point.threshold),
        })
        .collect();
    let document = Document {
        title: format!("Calibration of {}", calibration.check),
        subtitle: format!("from {} trials of {}", header.data.trials, header.data.name),
        headlines,
        sections,
    };
    Made { calibration, document }
}
