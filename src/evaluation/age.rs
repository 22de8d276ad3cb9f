//! Figures of age estimation: MAE and bias, by band of true age, and what an age gate lets pass.
//!
//! Called by `cli::evaluate` with the scores of a run. A gate is an operating point of the daemon's calibration (`challenge_25`: the estimate
//! must be 25 or more for a minimum age of 18); its false positives are the persons under age whom it passes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::groups::{Differential, MeanByGroup, differential};
use super::report::{Axis, Block, Column, Headline, Mark, Plot, Scale, Section, Table};
use super::scores::{PointInUse, Scored, Scores, Truth};
use super::statistics::{Estimate, Persons, Resampling, error_rate};
use super::summary::{
    Circumstances, Evaluation, FEW_PERSONS, Figures, Names, assemble, cells, headline, outcomes, outcomes_table,
    rate_columns,
};
use crate::calibration::Rate;
use crate::calibration::age::BAND_LIMITS;

/// The age that gates are measured for where the run names none.
pub const DEFAULT_MINIMUM_AGE: f64 = 18.0;

/// Years above the minimum age from which on the daemon lets pass by default (Challenge 25 for 18).
const BUFFER_YEARS: f64 = 7.0;

/// Years before the minimum age whose persons are the hardest to turn away.
const NEAR_YEARS: f64 = 5.0;

/// A face that was estimated.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    scored: &'a Scored,
    age: f64,
    estimate: f64,
    persons: Persons,
}

impl Seen<'_> {
    fn error(&self) -> f64 {
        self.estimate - self.age
    }
}

/// Every figure of a run; gates are measured for persons under `minimum_age`.
pub fn evaluate(scores: &Scores, circumstances: &Circumstances<'_>, minimum_age: f64) -> Evaluation {
    let mut figures = Figures::default();
    let names = Names::of(&scores.scored);
    let seen: Vec<Seen<'_>> = scores
        .scored
        .iter()
        .filter_map(|scored| {
            let Truth::Face { age, .. } = scored.trial.truth else { return None };
            let estimate = scored.score()?;
            Some(Seen { scored, age, estimate, persons: names.persons(&scored.trial.truth) })
        })
        .collect();
    figures.set("check", json!("age_estimation"));
    figures.set("images", json!(seen.len()));
    figures.set("minimum_age", json!(minimum_age));

    // ------------------------------------------------ error
    let mut blocks = Vec::new();
    if (1..FEW_PERSONS).contains(&names.count()) {
        let words = "persons: intervals resample persons, and so few say next to nothing about others";
        blocks.push(Block::Warning(format!("{} {words}", names.count())));
    }
    if let Some((mae, bias)) = error_of(&seen) {
        figures.put("mae", &mae);
        figures.put("bias", &bias);
        figures.headlines.push(years_headline("mean absolute error", &mae));
        figures.headlines.push(years_headline("bias (estimate − true age)", &bias));
        blocks.push(Block::Paragraph(format!(
            "Mean absolute error {}, bias {} over {} pictures.",
            years(&mae),
            years(&bias),
            seen.len()
        )));
    }
    let mut rows = Vec::new();
    for limits in BAND_LIMITS.windows(2) {
        let [from, to] = [limits[0], limits[1]];
        let inside: Vec<Seen<'_>> = seen.iter().copied().filter(|seen| (from..to).contains(&seen.age)).collect();
        let name = band_name(from, to);
        let Some((mae, bias)) = error_of(&inside) else { continue };
        figures.put(&format!("mae_by_band/{name}"), &mae);
        figures.put(&format!("bias_by_band/{name}"), &bias);
        rows.push(vec![
            name,
            inside.len().to_string(),
            format!("{:.2}", mae.value),
            between(&mae),
            format!("{:+.2}", bias.value),
            between(&bias),
        ]);
    }
    let mut columns = vec![Column::text("true age")];
    columns.extend(["pictures", "MAE, years", "95 %", "bias, years", "95 %"].map(Column::number));
    let caption = "By band of true age, both ends in years, the upper one excluded".into();
    if !rows.is_empty() {
        blocks.push(Block::Table(Table { caption, columns, rows }));
    }
    blocks.push(Block::Paragraph(
        "An estimator that is unbiased over all ages still makes the young older and the old younger: what it is unsure of it pulls \
         towards the middle. The bands of true age show it."
            .into(),
    ));
    let raw: Vec<Seen<'_>> = scores
        .scored
        .iter()
        .filter(|scored| scored.answer.failure.is_none())
        .filter_map(|scored| match scored.trial.truth {
            // Without a calibration there is no age, only what each model says.
            Truth::Face { age, .. } => {
                Some(Seen { scored, age, estimate: f64::NAN, persons: names.persons(&scored.trial.truth) })
            }
            _ => None,
        })
        .collect();
    if seen.is_empty() && !raw.is_empty() {
        blocks.push(Block::Warning(
            "the daemon has no calibration of the age and gives no estimate, only what each model says".into(),
        ));
    }
    blocks.extend(by_estimator(&raw, &mut figures));
    figures.sections.push(Section { title: "Error in years".into(), blocks });

    // ------------------------------------------------ gates
    let gates = gates(scores, &seen, minimum_age, &mut figures);
    figures.sections.push(gates);
    let held = seen.iter().filter_map(|seen| {
        let range = |name: &str| seen.scored.answer.measurements.get(name).copied();
        let (low, high) = (range(LOW_95)?, range(HIGH_95)?);
        Some((seen.persons, !(low..=high).contains(&seen.age)))
    });
    let held: Vec<(Persons, bool)> = held.collect();
    if !held.is_empty() {
        let outside = error_rate(&held);
        figures.put("outside_stated_interval", &outside);
        figures.sections.push(Section {
            title: "The intervals that are told with each estimate".into(),
            blocks: vec![Block::Paragraph(format!(
                "True age outside of the stated 95 % interval: {}. It should be about 5 %.",
                super::summary::in_words(&outside)
            ))],
        });
    }
    if let Some(mut section) = groups(&seen, &mut figures) {
        let used = scores
            .header
            .daemon
            .operating_points
            .iter()
            .find(|p| p.name == scores.header.daemon.default_operating_point);
        if let Some(gate) = used {
            let near = seen.iter().filter(|seen| ((minimum_age - NEAR_YEARS)..minimum_age).contains(&seen.age));
            let found = differential(
                "fpr_near",
                near.map(|seen| (&seen.scored.trial.groups, seen.persons, seen.estimate >= gate.threshold)),
            );
            figures.set("gate_groups", json!(found));
            section.blocks.extend(found.iter().flat_map(Differential::blocks));
        }
        figures.sections.push(section);
    }
    figures.sections.push(plots(&seen, minimum_age));
    figures.limits.push(
        "Labels of age are often estimates themselves; their error is part of the error shown. A single estimate is no proof of age: near the \
         limit only a document is."
            .into(),
    );
    assemble(scores, circumstances, figures)
}

/// The stated interval, as `cli::evaluate` stores it among the measurements.
pub const LOW_95: &str = "calibrated_low_95";
pub const HIGH_95: &str = "calibrated_high_95";

fn band_name(from: f64, to: f64) -> String {
    if to >= BAND_LIMITS[BAND_LIMITS.len() - 1] { format!("{from}+") } else { format!("{from}-{to}") }
}

/// Mean absolute error and bias with intervals over persons; `None` without any picture.
fn error_of(seen: &[Seen<'_>]) -> Option<(Estimate, Estimate)> {
    if seen.is_empty() {
        return None;
    }
    let resampling = Resampling::new(seen.iter().map(|seen| seen.persons));
    let mean_of = |value: fn(&Seen<'_>) -> f64| {
        let values: Vec<f64> = seen.iter().map(value).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let weighted = |weights: &[f64]| {
            let all: f64 = weights.iter().sum();
            (all > 0.0).then(|| weights.iter().zip(&values).map(|(w, v)| w * v).sum::<f64>() / all)
        };
        resampling.estimate(mean, weighted)
    };
    Some((mean_of(|seen| seen.error().abs()), mean_of(|seen| seen.error())))
}

fn between(estimate: &Estimate) -> String {
    if estimate.low_95.is_finite() && estimate.high_95.is_finite() {
        format!("{:.2} to {:.2}", estimate.low_95, estimate.high_95)
    } else {
        "unknown: one person".into()
    }
}

fn years(estimate: &Estimate) -> String {
    format!("{:.2} years (95 %: {})", estimate.value, between(estimate))
}

fn years_headline(label: &str, estimate: &Estimate) -> Headline {
    let value = format!("{:.2} years", estimate.value);
    Headline { label: label.into(), value, note: format!("95 %: {}", between(estimate)) }
}

/// The raw estimates that the answer is made of, each by itself: what combining and correcting them brings.
fn by_estimator(seen: &[Seen<'_>], figures: &mut Figures) -> Option<Block> {
    let names: BTreeSet<&String> =
        seen.iter().flat_map(|seen| seen.scored.answer.measurements.keys()).filter(|n| is_estimator(n)).collect();
    let mut rows = Vec::new();
    for name in names {
        let raw: Vec<Seen<'_>> = seen
            .iter()
            .filter_map(|seen| Some(Seen { estimate: *seen.scored.answer.measurements.get(name)?, ..*seen }))
            .collect();
        let (mae, bias) = error_of(&raw)?;
        figures.put(&format!("by_estimator/{name}/mae"), &mae);
        figures.put(&format!("by_estimator/{name}/bias"), &bias);
        rows.push(vec![name.clone(), years(&mae), years(&bias)]);
    }
    let columns = vec![Column::text("raw estimate"), Column::text("MAE"), Column::text("bias")];
    let caption = "The models' own estimates, before they are combined and corrected".into();
    (!rows.is_empty()).then_some(Block::Table(Table { caption, columns, rows }))
}

/// Raw estimates are measurements such as `age_a_years`.
pub fn is_estimator(measurement: &str) -> bool {
    measurement.starts_with("age_") && measurement.ends_with("_years")
}

fn gates(scores: &Scores, seen: &[Seen<'_>], minimum_age: f64, figures: &mut Figures) -> Section {
    let daemon = &scores.header.daemon;
    let near = (minimum_age - NEAR_YEARS).max(0.0);
    let bands = [
        ("FPR", "fpr", 0.0, minimum_age),
        ("FPR", "fpr_near", near, minimum_age),
        ("FNR", "fnr_near", minimum_age, minimum_age + 2.0 * NEAR_YEARS + 2.0),
        ("FNR", "fnr", minimum_age, f64::INFINITY),
    ];
    let mut rows = Vec::new();
    // The points of the calibration are for the usual minimum age; for another one the daemon takes its own buffer.
    let asked = PointInUse { name: "request".into(), threshold: minimum_age + BUFFER_YEARS, rates: BTreeMap::new() };
    let is_usual = minimum_age == DEFAULT_MINIMUM_AGE;
    let points = if is_usual { daemon.operating_points.as_slice() } else { std::slice::from_ref(&asked) };
    for point in points.iter().filter(|_| !daemon.operating_points.is_empty()) {
        let is_default = !is_usual || point.name == daemon.default_operating_point;
        for (words, key, from, to) in bands {
            let is_false_pass = words == "FPR";
            let trials: Vec<(Persons, bool)> = seen
                .iter()
                .filter(|seen| (from..to).contains(&seen.age))
                .map(|seen| (seen.persons, (seen.estimate >= point.threshold) == is_false_pass))
                .collect();
            if trials.is_empty() {
                continue;
            }
            let rate: Rate = error_rate(&trials);
            figures.put(&format!("gates/{}/{key}", point.name), &rate);
            let ages = if to.is_finite() { format!("{from} to under {to}") } else { format!("{from} and more") };
            if is_default && key == "fpr_near" {
                let label = format!("{} passes at {from} to {}", point.name, to - 1.0);
                figures.headlines.push(headline(label, &Estimate::from(&rate)));
            }
            let name = if is_default { format!("{} (used)", point.name) } else { point.name.clone() };
            let mut row = vec![name, words.to_owned(), ages];
            row.extend(cells(&rate));
            rows.push(row);
        }
    }
    let kinds: Vec<(String, BTreeMap<String, u64>)> = [
        (0.0, near),
        (near, minimum_age),
        (minimum_age, 25.0_f64.max(minimum_age)),
        (25.0_f64.max(minimum_age), f64::INFINITY),
    ]
    .into_iter()
    .filter(|(from, to)| from < to)
    .map(|(from, to)| {
        let inside = scores
            .scored
            .iter()
            .filter(|scored| matches!(scored.trial.truth, Truth::Face { age, .. } if (from..to).contains(&age)));
        let name = if to.is_finite() { format!("{from} to under {to}") } else { format!("{from} and more") };
        (name, outcomes(inside))
    })
    .collect();
    figures.set("decisions", json!(kinds.iter().cloned().collect::<BTreeMap<_, _>>()));
    let mut blocks = Vec::new();
    if rows.is_empty() {
        blocks.push(Block::Warning("the daemon has no calibration of the age: there is no gate to be measured".into()));
    } else {
        let mut columns = vec![Column::text("gate"), Column::text("rate"), Column::text("true age")];
        columns.extend(rate_columns());
        let caption = format!(
            "Gates for a minimum age of {minimum_age}: FPR is the share of those under age whose estimate passes, FNR the share of those of age \
             whose estimate does not"
        );
        blocks.push(Block::Table(Table { caption, columns, rows }));
        let young = seen.iter().filter(|seen| (near..minimum_age).contains(&seen.age)).count();
        if young < 100 {
            blocks.push(Block::Warning(format!(
                "{young} pictures of persons from {near} to under {minimum_age}: the rates there are wide open"
            )));
        }
    }
    blocks.push(Block::Table(outcomes_table(&kinds)));
    Section { title: "Age gates".into(), blocks }
}

fn groups(seen: &[Seen<'_>], figures: &mut Figures) -> Option<Section> {
    let columns: BTreeSet<&String> = seen.iter().flat_map(|seen| seen.scored.trial.groups.keys()).collect();
    let (mut found, mut blocks) = (Vec::new(), Vec::new());
    for column in columns {
        let values: BTreeSet<&String> = seen.iter().filter_map(|seen| seen.scored.trial.groups.get(column)).collect();
        let mut rows = Vec::new();
        let (mut best, mut worst) = (f64::INFINITY, 0.0f64);
        let mut small = 0;
        for value in values {
            let inside: Vec<Seen<'_>> =
                seen.iter().copied().filter(|seen| seen.scored.trial.groups.get(column) == Some(value)).collect();
            let Some((mae, bias)) = error_of(&inside) else { continue };
            let persons = Resampling::new(inside.iter().map(|seen| seen.persons)).persons();
            let too_small = persons < MeanByGroup::MIN_TRIALS;
            if too_small {
                small += 1;
            } else {
                best = best.min(mae.value);
                worst = worst.max(mae.value);
            }
            let remark = if too_small { "too small" } else { "" };
            let count = inside.len().to_string();
            rows.push(vec![value.clone(), count, years(&mae), years(&bias), remark.into()]);
            found.push(MeanByGroup {
                column: column.clone(),
                group: value.clone(),
                trials: inside.len(),
                mean: mae,
                too_small,
            });
        }
        let titles = vec![
            Column::text(column.clone()),
            Column::number("pictures"),
            Column::text("MAE"),
            Column::text("bias"),
            Column::text(""),
        ];
        blocks.push(Block::Table(Table { caption: format!("Error by {column}"), columns: titles, rows }));
        if worst > best && best > 0.0 {
            blocks.push(Block::Paragraph(format!(
                "Worst to best group: {:.2} times the mean absolute error.",
                worst / best
            )));
        }
        if small > 0 {
            blocks.push(Block::Warning(format!("groups of {column} that are too small to say anything: {small}")));
        }
    }
    if found.is_empty() {
        return None;
    }
    figures.set("groups", json!(found));
    Some(Section { title: "Differential performance".into(), blocks })
}

fn plots(seen: &[Seen<'_>], minimum_age: f64) -> Section {
    let axis = |label: &str| Axis { label: label.into(), scale: Scale::Linear, range: None, percent: false };
    let oldest = seen.iter().map(|seen| seen.age).fold(0.0, f64::max);
    let scatter = Plot {
        title: "Estimate over true age".into(),
        description: "One point for each picture; the dashed line is a perfect estimate".into(),
        x: axis("true age, years"),
        y: axis("estimate, years"),
        marks: vec![
            Mark::Points {
                name: "pictures".into(),
                points: seen.iter().map(|seen| [seen.age, seen.estimate]).collect(),
            },
            Mark::Line { name: "perfect".into(), points: vec![[0.0, 0.0], [oldest, oldest]], dashed: true },
            Mark::Rule { name: format!("minimum age {minimum_age}"), at: minimum_age, vertical: true },
        ],
    };
    let (mut band, mut line) = (Vec::new(), Vec::new());
    for limits in BAND_LIMITS.windows(2) {
        let inside: Vec<Seen<'_>> =
            seen.iter().copied().filter(|seen| (limits[0]..limits[1]).contains(&seen.age)).collect();
        let Some((_, bias)) = error_of(&inside) else { continue };
        let centre = inside.iter().map(|seen| seen.age).sum::<f64>() / inside.len() as f64;
        line.push([centre, bias.value]);
        if bias.low_95.is_finite() {
            band.push([centre, bias.low_95, bias.high_95]);
        }
    }
    let bias = Plot {
        title: "Bias by band of true age".into(),
        description: "Mean of estimate minus true age in each band, at the band's mean age, with its 95 % interval"
            .into(),
        x: axis("true age, years"),
        y: axis("bias, years"),
        marks: vec![
            Mark::Band { points: band },
            Mark::Line { name: "bias".into(), points: line, dashed: false },
            Mark::Rule { name: "none".into(), at: 0.0, vertical: false },
        ],
    };
    Section { title: "Curves".into(), blocks: vec![Block::Plot(scatter), Block::Plot(bias)] }
}
