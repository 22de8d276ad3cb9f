//! Figures of 1:1 face match: FMR, FNMR and their trade-off, TAR at an FMR, EER, accuracy over folds, and what the operating points in use do.
//!
//! Called by `cli::evaluate` with the scores of a run. Terms of ISO/IEC 19795-1; accuracy after LFW's View 2 (Huang et al., 2007). A pair
//! that could not be compared is in none of the rates but the failures to process and `accuracy_failures_as_non_match`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::groups::differential;
use super::report::{Axis, Block, Column, Mark, Plot, Scale, Section, Table};
use super::scores::{Scored, Scores, Truth};
use super::statistics::{
    Estimate, Labelled, Persons, Resampling, complement, det_curve, equal_error_rate, error_rate, histogram,
};
use super::summary::{
    Circumstances, Evaluation, FEW_PERSONS, Figures, assemble, cells, headline, in_words, outcomes, outcomes_table,
    percent, rate_columns,
};
use crate::calibration::Rate;
use crate::calibration::fit::{FalseAccepts, MAX_OPEN, PairScore, SortedScores, cross_validated_accuracy};
use crate::calibration::impostors::ImpostorScores;

/// False match rates for which TAR is told on the labelled pairs.
const TARGETS: [(&str, f64); 3] = [("1e-1", 1e-1), ("1e-2", 1e-2), ("1e-3", 1e-3)];

/// As [`TARGETS`] over all pairs of different persons, of which there are thousands of times as many.
const ALL_PAIRS_TARGETS: [(&str, f64); 4] = [("1e-2", 1e-2), ("1e-3", 1e-3), ("1e-4", 1e-4), ("1e-5", 1e-5)];

/// Folds where the labels name none.
const FOLDS: u32 = 10;

/// A pair with its label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub scored: &'a Scored,
    pub genuine: bool,
    pub fold: u32,
    pub persons: Persons,
}

/// The trials of a face match, with folds dealt out where the labels have none: in turn, each kind by itself, so that every fold holds both; the
/// pairs of one kind that have a first person in common stay together.
pub(super) fn pairs(scores: &Scores) -> Vec<Pair<'_>> {
    let with_folds = scores.scored.iter().all(|scored| matches!(scored.trial.truth, Truth::Pair { fold: Some(_), .. }));
    let mut dealt: [BTreeMap<u32, u32>; 2] = Default::default();
    let mut alone = [0u32; 2];
    let mut pairs = Vec::with_capacity(scores.scored.len());
    for scored in &scores.scored {
        let Truth::Pair { genuine, fold, subjects } = &scored.trial.truth else { continue };
        let kind = usize::from(*genuine);
        let place = match subjects {
            Some([person, _]) => {
                let next = dealt[kind].len() as u32;
                *dealt[kind].entry(*person).or_insert(next)
            }
            None => {
                alone[kind] += 1;
                alone[kind]
            }
        };
        let fold = fold.filter(|_| with_folds).unwrap_or(place % FOLDS);
        pairs.push(Pair { scored, genuine: *genuine, fold, persons: *subjects });
    }
    pairs
}

/// TAR at a false match rate: the threshold keeps to it on the impostors given, and both rates there have their intervals.
#[derive(Debug, Clone, Copy)]
struct TarAt {
    threshold: f64,
    tar: Estimate,
    fnmr: Rate,
    fmr: Rate,
    /// Whether that many impostors could show the rate at all: without any error their bound would not lie above it.
    supported: bool,
}

/// On the labelled pairs: persons are drawn again, and each draw places its own threshold.
fn tar_at(target: f64, impostors: &SortedScores, trials: &[Labelled]) -> Option<TarAt> {
    let threshold = impostors.threshold_for(target)?;
    let mut found = tar_at_threshold(target, threshold, None, trials);
    let mut order: Vec<usize> = (0..trials.len()).filter(|index| !trials[*index].accept).collect();
    order.sort_by(|a, b| trials[*b].score.total_cmp(&trials[*a].score));
    let resampling = Resampling::new(trials.iter().map(|trial| trial.persons));
    let interval = resampling.interval(|weights| {
        let impostor: f64 = order.iter().map(|index| weights[*index]).sum();
        let genuine: f64 = trials.iter().zip(weights).filter(|(trial, _)| trial.accept).map(|(_, weight)| weight).sum();
        if impostor <= 0.0 || genuine <= 0.0 {
            return None;
        }
        let mut passed = 0.0;
        // The highest score that may not pass any more; scores above it do.
        let refused = order.iter().find(|index| {
            passed += weights[**index];
            passed > target * impostor + 1e-9
        })?;
        let accepts = |trial: &Labelled| trial.accept && trial.score > trials[*refused].score;
        Some(
            trials.iter().zip(weights).filter(|(trial, _)| accepts(trial)).map(|(_, weight)| weight).sum::<f64>()
                / genuine,
        )
    });
    let (low, high) = interval.unwrap_or((0.0, 1.0));
    found.tar.low_95 = found.tar.low_95.min(low);
    found.tar.high_95 = found.tar.high_95.max(high);
    Some(found)
}

/// Over all pairs: the threshold is as unsure as the FMR there, so the TAR may be that of either end.
fn tar_at_all_pairs(target: f64, impostors: &ImpostorScores, trials: &[Labelled]) -> Option<TarAt> {
    let threshold = impostors.threshold_for(target)?;
    let mut found = tar_at_threshold(target, threshold, Some(impostors.rate(threshold)), trials);
    for end in [found.fmr.low_95, found.fmr.high_95] {
        // As far beyond the target as the end lies beyond the value.
        if let Some(threshold) = (end > 0.0).then(|| impostors.threshold_for(target * found.fmr.value / end)).flatten()
        {
            let other = tar_at_threshold(target, threshold, Some(found.fmr), trials).tar;
            found.tar.low_95 = found.tar.low_95.min(other.value);
            found.tar.high_95 = found.tar.high_95.max(other.value);
        }
    }
    Some(found)
}

/// `fmr` is that of other impostors than the labelled ones.
fn tar_at_threshold(target: f64, threshold: f64, fmr: Option<Rate>, trials: &[Labelled]) -> TarAt {
    let errors = |accept: bool| -> Vec<(Persons, bool)> {
        let of_kind = trials.iter().filter(|trial| trial.accept == accept);
        of_kind.map(|trial| (trial.persons, (trial.score >= threshold) != accept)).collect()
    };
    let fnmr = error_rate(&errors(true));
    let fmr = fmr.unwrap_or_else(|| error_rate(&errors(false)));
    // As `vouch calibrate` judges it: enough comparisons, and persons enough to say so.
    let supported = 3.0 / fmr.trials.max(1) as f64 <= target && fmr.high_95 <= MAX_OPEN * target;
    TarAt { threshold, tar: complement(&fnmr), fnmr, fmr, supported }
}

/// Every figure of a run; `all_pairs` holds the scores of all pictures of different persons, where they were compared.
pub fn evaluate(scores: &Scores, circumstances: &Circumstances<'_>, all_pairs: Option<&ImpostorScores>) -> Evaluation {
    let pairs = pairs(scores);
    let mut figures = Figures::default();
    let scored: Vec<(Pair<'_>, f64)> = pairs.iter().filter_map(|pair| Some((*pair, pair.scored.score()?))).collect();
    let labelled: Vec<Labelled> = scored
        .iter()
        .map(|(pair, score)| Labelled { score: *score, accept: pair.genuine, persons: pair.persons })
        .collect();
    let of_kind = |genuine: bool| -> Vec<(Persons, f64)> {
        labelled.iter().filter(|trial| trial.accept == genuine).map(|trial| (trial.persons, trial.score)).collect()
    };
    let (genuine, impostor) = (of_kind(true), of_kind(false));
    let impostor_scores = SortedScores::new(impostor.iter().map(|(_, score)| *score).collect());
    let fmr_at = |threshold: f64| {
        error_rate(&impostor.iter().map(|(persons, score)| (*persons, *score >= threshold)).collect::<Vec<_>>())
    };
    let fnmr_at = |threshold: f64| {
        error_rate(&genuine.iter().map(|(persons, score)| (*persons, *score < threshold)).collect::<Vec<_>>())
    };
    let subjects: BTreeSet<u32> = pairs.iter().flat_map(|pair| pair.persons.into_iter().flatten()).collect();
    figures.set("check", json!("face_match"));
    figures.set("genuine", json!(genuine.len()));
    figures.set("impostor", json!(impostor.len()));
    figures.set("subjects", json!((!subjects.is_empty()).then_some(subjects.len())));

    // ------------------------------------------------ accuracy
    let mut rates = Vec::new();
    let as_pair = |pair: &Pair<'_>, score| PairScore { score, genuine: pair.genuine, fold: pair.fold };
    let answered: Vec<PairScore> = scored.iter().map(|(pair, score)| as_pair(pair, *score)).collect();
    let every: Vec<PairScore> =
        pairs.iter().map(|pair| as_pair(pair, pair.scored.score().unwrap_or(f64::NEG_INFINITY))).collect();
    let answered_persons: Vec<Persons> = scored.iter().map(|(pair, _)| pair.persons).collect();
    let every_person: Vec<Persons> = pairs.iter().map(|pair| pair.persons).collect();
    for (key, words, trials, persons) in [
        ("accuracy", "accuracy", &answered, &answered_persons),
        ("accuracy_failures_as_non_match", "accuracy, failures as non-matches", &every, &every_person),
    ] {
        let Some(accuracy) = cross_validated_accuracy(trials) else { continue };
        let threshold = |fold: u32| accuracy.folds.iter().find(|(name, ..)| *name == fold).map_or(0.0, |(.., t)| *t);
        let errors: Vec<(Persons, bool)> = trials
            .iter()
            .zip(persons)
            .map(|(pair, persons)| (*persons, (pair.score >= threshold(pair.fold)) != pair.genuine))
            .collect();
        let errors = error_rate(&errors);
        // LFW's figure is the mean over folds; of folds of one size that is the share of right answers.
        let pooled = complement(&errors);
        let value = accuracy.mean;
        let estimate = Estimate { value, low_95: pooled.low_95.min(value), high_95: pooled.high_95.max(value) };
        figures.put(key, &estimate);
        if key == "accuracy" {
            figures.set("accuracy_standard_error", json!(accuracy.standard_error));
            figures.headlines.push(headline("accuracy, threshold from the other folds", &estimate));
        }
        rates.push(vec![
            words.to_owned(),
            percent(estimate.value),
            super::summary::interval(estimate.low_95, estimate.high_95),
            format!("± {} over {} folds", percent(accuracy.standard_error), accuracy.folds.len()),
        ]);
    }
    if let Some((eer, threshold)) = equal_error_rate(&labelled) {
        figures.put("eer", &eer);
        figures.set("eer_threshold", json!(threshold));
        rates.push(vec![
            "EER (a summary, no operating point)".into(),
            percent(eer.value),
            super::summary::interval(eer.low_95, eer.high_95),
            format!("at {threshold:.4}"),
        ]);
    }
    let columns = vec![Column::text(""), Column::number("value"), Column::number("95 %"), Column::text("")];
    let caption = "Over all answered pairs".into();
    let mut overall = vec![Block::Table(Table { caption, columns, rows: rates })];

    // ------------------------------------------------ TAR at FMR
    let (mut rows, mut unsupported) = (Vec::new(), Vec::new());
    for (name, target) in TARGETS {
        let Some(found) = tar_at(target, &impostor_scores, &labelled) else { continue };
        figures.put(&format!("tar_at_fmr/{name}"), &found.tar);
        figures.set(&format!("tar_at_fmr_detail/{name}"), detail(&found));
        if !found.supported {
            unsupported.push(name);
        }
        if name == "1e-3" {
            let mut shown = headline(format!("TAR at FMR {name}"), &found.tar);
            if !found.supported {
                shown.note += &format!("; {} impostors cannot show that FMR", impostor.len());
            }
            figures.headlines.push(shown);
        }
        rows.push(tar_row(name, &found));
    }
    overall.push(Block::Table(tar_table("TAR at an FMR on the labelled pairs", rows)));
    if !unsupported.is_empty() {
        overall.push(Block::Warning(format!(
            "{} impostor pairs cannot show an FMR of {}: even without an error the rule of three leaves {}. The TAR there is for comparison \
             with other publications, not for choosing a threshold",
            impostor.len(),
            unsupported.join(" or "),
            percent(3.0 / impostor.len().max(1) as f64)
        )));
    }
    if let Some(all) = all_pairs {
        let mut rows = Vec::new();
        for (name, target) in ALL_PAIRS_TARGETS {
            if let Some(found) = tar_at_all_pairs(target, all, &labelled) {
                figures.put(&format!("all_pairs/tar_at_fmr/{name}"), &found.tar);
                figures.set(&format!("all_pairs/tar_at_fmr_detail/{name}"), detail(&found));
                rows.push(tar_row(name, &found));
            }
        }
        figures.set("all_pairs/comparisons", json!(all.pairs()));
        figures.set("all_pairs/subjects", json!(all.persons()));
        let caption = format!(
            "TAR at an FMR over all {} comparisons of different persons among the pictures; intervals resample the {} persons",
            all.pairs(),
            all.persons()
        );
        overall.push(Block::Table(tar_table(&caption, rows)));
        overall.push(Block::Paragraph(
            "Among so many comparisons the highest scores are partly wrong names in the data, and count as false matches.".into(),
        ));
    }
    if !subjects.is_empty() && subjects.len() < FEW_PERSONS {
        let words = "persons: intervals resample persons, and so few say next to nothing about others";
        overall.insert(0, Block::Warning(format!("{} {words}", subjects.len())));
    }
    overall.extend(by_measurement(&pairs, &mut figures));
    figures.sections.push(Section { title: "How well persons are told apart".into(), blocks: overall });

    // ------------------------------------------------ operating points in use
    let daemon = &scores.header.daemon;
    let mut rows = Vec::new();
    for point in &daemon.operating_points {
        let (fmr, fnmr) = (fmr_at(point.threshold), fnmr_at(point.threshold));
        figures.set(
            &format!("operating_points/{}", point.name),
            json!({
                "threshold": point.threshold, "fmr": fmr, "fnmr": fnmr, "stated": point.rates,
            }),
        );
        let is_default = point.name == daemon.default_operating_point;
        if is_default {
            figures.put("fmr", &fmr);
            figures.put("fnmr", &fnmr);
            figures.headlines.push(headline(format!("FNMR at {}", point.name), &Estimate::from(&fnmr)));
        }
        for (rate_name, rate) in [("FMR", &fmr), ("FNMR", &fnmr)] {
            let stated = point.rates.get(&rate_name.to_lowercase()).map_or_else(|| "–".into(), |rate| percent(*rate));
            let name = if is_default { format!("{} (used)", point.name) } else { point.name.clone() };
            let mut row = vec![name, format!("{:.4}", point.threshold), rate_name.into(), stated];
            row.extend(cells(rate));
            rows.push(row);
        }
    }
    let kinds = [("genuine".to_owned(), true), ("impostor".to_owned(), false)].map(|(name, genuine)| {
        (name, outcomes(pairs.iter().filter(|pair| pair.genuine == genuine).map(|pair| pair.scored)))
    });
    figures.set("decisions", json!(kinds.iter().cloned().collect::<BTreeMap<_, _>>()));
    let mut blocks = vec![Block::Table(outcomes_table(&kinds))];
    if !rows.is_empty() {
        let mut columns = vec![
            Column::text("operating point"),
            Column::number("threshold"),
            Column::text("rate"),
            Column::number("stated"),
        ];
        columns.extend(rate_columns());
        let caption = "The daemon's operating points on these data, beside what its calibration states".into();
        blocks.insert(0, Block::Table(Table { caption, columns, rows }));
    }
    figures.sections.push(Section { title: "Operating points in use".into(), blocks });

    // ------------------------------------------------ groups
    let default = daemon.operating_points.iter().find(|point| point.name == daemon.default_operating_point);
    let threshold = default.map(|point| point.threshold).or_else(|| equal_error_rate(&labelled).map(|(_, t)| t));
    if let Some(threshold) = threshold {
        let of = |genuine: bool| {
            scored
                .iter()
                .filter(move |(pair, _)| pair.genuine == genuine)
                .map(move |(pair, score)| (&pair.scored.trial.groups, pair.persons, (*score >= threshold) != genuine))
        };
        let mut found = differential("fnmr", of(true));
        found.extend(differential("fmr", of(false)));
        if !found.is_empty() {
            figures.set("groups", json!(found));
            let words = format!("Error rates at the threshold {threshold:.4}, group by group.");
            let mut blocks = vec![Block::Paragraph(words)];
            blocks.extend(found.iter().flat_map(super::groups::Differential::blocks));
            figures.sections.push(Section { title: "Differential performance".into(), blocks });
        }
    }

    // ------------------------------------------------ plots
    figures.sections.push(plots(&labelled, default.map(|point| (point.name.as_str(), point.threshold)), all_pairs));
    figures.limits.push(
        "Pairs are as like each other as the data are: where both pictures of a pair come from one kind of camera, a selfie against the \
         print of a document does worse."
            .into(),
    );
    assemble(scores, circumstances, figures)
}

fn detail(found: &TarAt) -> Value {
    json!({ "threshold": found.threshold, "fmr": found.fmr, "fnmr": found.fnmr, "supported": found.supported })
}

fn tar_table(caption: &str, rows: Vec<Vec<String>>) -> Table {
    let mut columns: Vec<Column> = ["FMR", "TAR", "95 %", "threshold"].map(Column::number).into();
    columns.push(Column::text("FMR seen there"));
    Table { caption: caption.into(), columns, rows }
}

fn tar_row(name: &str, found: &TarAt) -> Vec<String> {
    vec![
        name.into(),
        percent(found.tar.value),
        super::summary::interval(found.tar.low_95, found.tar.high_95),
        format!("{:.4}", found.threshold),
        in_words(&found.fmr),
    ]
}

/// The single similarities that a fused score is made of, each by itself: what fusing them brings.
fn by_measurement(pairs: &[Pair<'_>], figures: &mut Figures) -> Vec<Block> {
    let names: BTreeSet<&String> = pairs
        .iter()
        .flat_map(|pair| pair.scored.answer.measurements.keys())
        .filter(|n| n.starts_with("cosine_"))
        .collect();
    if names.len() < 2 {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for name in names {
        let trials: Vec<Labelled> = pairs
            .iter()
            .filter(|pair| pair.scored.score().is_some())
            .filter_map(|pair| {
                let score = *pair.scored.answer.measurements.get(name)?;
                Some(Labelled { score, accept: pair.genuine, persons: pair.persons })
            })
            .collect();
        let impostor = SortedScores::new(trials.iter().filter(|t| !t.accept).map(|trial| trial.score).collect());
        let (Some((eer, _)), Some(tar)) = (equal_error_rate(&trials), tar_at(1e-3, &impostor, &trials)) else {
            continue;
        };
        figures.put(&format!("by_measurement/{name}/eer"), &eer);
        figures.put(&format!("by_measurement/{name}/tar_at_fmr/1e-3"), &tar.tar);
        rows.push(vec![name.clone(), percent(eer.value), percent(tar.tar.value)]);
    }
    let columns = vec![Column::text("similarity"), Column::number("EER"), Column::number("TAR at FMR 1e-3")];
    vec![Block::Table(Table { caption: "The single similarities that the score is made of".into(), columns, rows })]
}

/// Points of the curve in the report.
const CURVE_POINTS: usize = 400;
/// Bins of the histogram.
const BINS: usize = 60;

fn plots(trials: &[Labelled], default: Option<(&str, f64)>, all_pairs: Option<&ImpostorScores>) -> Section {
    let mut marks =
        vec![Mark::Line { name: "labelled pairs".into(), points: det_curve(trials, CURVE_POINTS), dashed: false }];
    let genuine = SortedScores::new(trials.iter().filter(|trial| trial.accept).map(|trial| trial.score).collect());
    if let Some(all) = all_pairs {
        let mut points: Vec<[f64; 2]> = all
            .curve_scores()
            .into_iter()
            .map(|threshold| [all.rate_alone(threshold), genuine.false_reject_rate(threshold).value])
            .collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        marks.push(Mark::Line { name: "impostors from all pairs".into(), points, dashed: true });
    }
    let axis = |label: &str| Axis { label: label.into(), scale: Scale::Probit, range: None, percent: true };
    let det = Plot {
        title: "Detection error trade-off".into(),
        description: "False non-match rate against false match rate over all thresholds, on normal deviate axes".into(),
        x: axis("false match rate"),
        y: axis("false non-match rate"),
        marks,
    };
    let scores: Vec<f64> = trials.iter().map(|trial| trial.score).collect();
    let (low, high) =
        scores.iter().fold((f64::MAX, f64::MIN), |(low, high), score| (low.min(*score), high.max(*score)));
    let bars = |accept: bool| {
        let of_kind: Vec<f64> = trials.iter().filter(|t| t.accept == accept).map(|t| t.score).collect();
        histogram(&of_kind, [low, high], BINS)
    };
    let mut marks = vec![
        Mark::Bars { name: "impostor".into(), bars: bars(false) },
        Mark::Bars { name: "genuine".into(), bars: bars(true) },
    ];
    marks.extend(default.map(|(name, at)| Mark::Rule { name: name.into(), at, vertical: true }));
    let histogram = Plot {
        title: "Scores".into(),
        description: "Share of genuine and of impostor pairs by score".into(),
        x: Axis { label: "score".into(), scale: Scale::Linear, range: None, percent: false },
        y: Axis { label: "share of pairs".into(), scale: Scale::Linear, range: None, percent: true },
        marks,
    };
    Section { title: "Curves".into(), blocks: vec![Block::Plot(det), Block::Plot(histogram)] }
}
