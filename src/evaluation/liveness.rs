//! Figures of passive liveness: APCER of each attack species and of the worst, BPCER, by threshold, by subject, and over several frames.
//!
//! Called by `cli::evaluate` with the scores of a run. Terms of ISO/IEC 30107-3. Frames of one person are correlated, so every interval
//! resamples persons, and a species without an error is bounded by its persons and not by its frames.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::groups::differential;
use super::report::{Axis, Block, Column, Mark, Plot, Scale, Section, Table};
use super::scores::{Scored, Scores, Truth};
use super::statistics::{Estimate, Labelled, Persons, det_curve, equal_error_rate, error_rate, histogram};
use super::summary::{
    Circumstances, Evaluation, FEW_PERSONS, Figures, Names, assemble, cells, headline, outcomes, outcomes_table,
    percent, rate_columns,
};
use crate::calibration::Rate;
use crate::calibration::intervals::quantile;

/// Thresholds of the table and of the plot: dense where scores pile up, near 0 and 1.
const TABLE: [f64; 11] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9];

/// Frames of one person taken together, to show what that brings.
const FRAMES_TOGETHER: [usize; 4] = [1, 3, 5, 10];

/// A presentation that was scored.
#[derive(Debug, Clone, Copy)]
struct Shown<'a> {
    scored: &'a Scored,
    /// `None` for a live one.
    species: Option<&'a str>,
    subject: &'a str,
    persons: Persons,
    score: f64,
}

/// Every figure of a run.
pub fn evaluate(scores: &Scores, circumstances: &Circumstances<'_>) -> Evaluation {
    let mut figures = Figures::default();
    let names = Names::of(&scores.scored);
    let presentation = |scored| presentation(scored, &names);
    let shown: Vec<Shown<'_>> = scores.scored.iter().filter_map(presentation).collect();
    let live: Vec<Shown<'_>> = shown.iter().copied().filter(|shown| shown.species.is_none()).collect();
    let mut species: BTreeMap<&str, Vec<Shown<'_>>> = BTreeMap::new();
    for attack in shown.iter().filter(|shown| shown.species.is_some()) {
        species.entry(attack.species.unwrap_or_default()).or_default().push(*attack);
    }
    let bpcer_at = |threshold: f64| rate(&live, |score| score < threshold);
    let apcer_at = |attacks: &[Shown<'_>], threshold: f64| rate(attacks, |score| score >= threshold);
    figures.set("check", json!("passive_liveness"));
    let persons = |shown: &[Shown<'_>]| shown.iter().map(|shown| shown.subject).collect::<BTreeSet<_>>().len();
    figures.set("live", json!({ "frames": live.len(), "subjects": persons(&live) }));
    for (name, attacks) in &species {
        figures.set(&format!("attacks/{name}"), json!({ "frames": attacks.len(), "subjects": persons(attacks) }));
    }

    let labelled = labelled(&shown);
    let eer = equal_error_rate(&labelled);
    let daemon = &scores.header.daemon;
    let default = daemon.operating_points.iter().find(|point| point.name == daemon.default_operating_point);
    let threshold = default.map(|point| point.threshold).or(eer.map(|(_, threshold)| threshold));

    // ------------------------------------------------ at the threshold in use
    let mut blocks = Vec::new();
    if let Some(threshold) = threshold {
        let where_from = default.map_or("that of the EER, for want of a calibration", |point| point.name.as_str());
        figures.set("threshold", json!(threshold));
        let mut rows = Vec::new();
        let mut row = |name: String, persons: usize, rate: &Rate| {
            let mut cells: Vec<String> = cells(rate).into();
            cells.insert(0, name);
            cells.push(persons.to_string());
            rows.push(cells);
        };
        let bpcer = bpcer_at(threshold);
        let mut worst: Option<(&str, Rate)> = None;
        for (name, attacks) in &species {
            let apcer = apcer_at(attacks, threshold);
            figures.put(&format!("apcer_by_species/{name}"), &apcer);
            row(format!("APCER {name}"), persons(attacks), &apcer);
            let is_worse = worst.is_none_or(|(_, known)| (apcer.value, apcer.high_95) > (known.value, known.high_95));
            if is_worse {
                worst = Some((*name, apcer));
            }
        }
        row("BPCER".into(), persons(&live), &bpcer);
        figures.put("bpcer", &bpcer);
        if let Some((name, apcer)) = worst {
            figures.put("apcer", &apcer);
            figures.set("apcer_worst_species", json!(name));
            figures.headlines.push(headline(format!("APCER, worst species ({name})"), &Estimate::from(&apcer)));
        }
        figures.headlines.push(headline("BPCER", &Estimate::from(&bpcer)));
        let mut columns = vec![Column::text("rate")];
        columns.extend(rate_columns());
        columns.push(Column::number("persons"));
        let caption =
            format!("Single frames at the threshold {threshold:.4} ({where_from}); intervals resample persons");
        blocks.push(Block::Table(Table { caption, columns, rows }));
        for (what, count) in
            species.iter().map(|(name, attacks)| (*name, persons(attacks))).chain([("live", persons(&live))])
        {
            if count < FEW_PERSONS {
                blocks.push(Block::Warning(format!(
                    "{what}: {count} persons. The interval, not the value, says what is known"
                )));
            }
        }
    }
    if let Some((eer, threshold)) = &eer {
        figures.put("eer", eer);
        figures.set("eer_threshold", json!(threshold));
        let words = "All attack species together; a summary, no operating point";
        blocks.push(Block::Paragraph(format!(
            "EER over frames: {} (95 %: {}) at {threshold:.4}. {words}.",
            percent(eer.value),
            super::summary::interval(eer.low_95, eer.high_95)
        )));
    }
    let mut kinds: BTreeMap<String, Vec<&Scored>> = BTreeMap::new();
    for scored in &scores.scored {
        if let Truth::Presentation { species, .. } = &scored.trial.truth {
            kinds.entry(species.clone().unwrap_or_else(|| "live".into())).or_default().push(scored);
        }
    }
    let kinds: Vec<_> = kinds.into_iter().map(|(kind, all)| (kind, outcomes(all))).collect();
    figures.set("decisions", json!(kinds.iter().cloned().collect::<BTreeMap<_, _>>()));
    blocks.push(Block::Table(outcomes_table(&kinds)));
    figures.sections.push(Section { title: "Attacks and live persons".into(), blocks });

    let tables = [
        by_threshold(&mut figures, &live, &species),
        by_subject(&mut figures, &shown, threshold),
        frames_together(&mut figures, &shown, threshold),
    ];
    figures.sections.extend(tables);

    if let Some(threshold) = threshold {
        let of = |is_live: bool| {
            shown
                .iter()
                .filter(move |shown| shown.species.is_none() == is_live)
                .map(move |shown| (&shown.scored.trial.groups, shown.persons, (shown.score >= threshold) != is_live))
        };
        let mut found = differential("bpcer", of(true));
        found.extend(differential("attacks_accepted", of(false)));
        if !found.is_empty() {
            figures.set("groups", json!(found));
            let blocks = found.iter().flat_map(super::groups::Differential::blocks).collect();
            figures.sections.push(Section { title: "Differential performance".into(), blocks });
        }
    }
    figures.sections.push(plots(&labelled, &live, &species, threshold));
    figures.limits.push(
        "Only the attack species listed were measured: other instruments (masks, injected video, better screens) can pass more often. Frames that the \
         daemon refused to judge are failures to process and in none of the rates."
            .into(),
    );
    assemble(scores, circumstances, figures)
}

fn presentation<'a>(scored: &'a Scored, names: &Names<'_>) -> Option<Shown<'a>> {
    let Truth::Presentation { species, subject } = &scored.trial.truth else { return None };
    let score = scored.score()?;
    let persons = names.persons(&scored.trial.truth);
    Some(Shown { scored, species: species.as_deref(), subject, persons, score })
}

fn labelled(shown: &[Shown<'_>]) -> Vec<Labelled> {
    let trial =
        |shown: &Shown<'_>| Labelled { score: shown.score, accept: shown.species.is_none(), persons: shown.persons };
    shown.iter().map(trial).collect()
}

fn rate(shown: &[Shown<'_>], error: impl Fn(f64) -> bool) -> Rate {
    error_rate(&shown.iter().map(|shown| (shown.persons, error(shown.score))).collect::<Vec<_>>())
}

fn by_threshold(figures: &mut Figures, live: &[Shown<'_>], species: &BTreeMap<&str, Vec<Shown<'_>>>) -> Section {
    let mut columns = vec![Column::number("threshold"), Column::number("BPCER"), Column::number("95 %")];
    for name in species.keys() {
        columns.extend([Column::number(format!("APCER {name}")), Column::number("95 %")]);
    }
    let (mut rows, mut table) = (Vec::new(), Vec::new());
    for threshold in TABLE {
        let bpcer = rate(live, |score| score < threshold);
        let [value, interval, ..] = cells(&bpcer);
        let mut row = vec![threshold.to_string(), value, interval];
        let mut entry = json!({ "threshold": threshold, "bpcer": bpcer });
        for (name, attacks) in species {
            let apcer = rate(attacks, |score| score >= threshold);
            let [value, interval, ..] = cells(&apcer);
            row.extend([value, interval]);
            entry["apcer"][*name] = json!(apcer);
        }
        rows.push(row);
        table.push(entry);
    }
    figures.set("by_threshold", json!(table));
    let caption = "Error rates of single frames".into();
    Section { title: "By threshold".into(), blocks: vec![Block::Table(Table { caption, columns, rows })] }
}

/// One line for each person and kind of presentation.
fn by_subject(figures: &mut Figures, shown: &[Shown<'_>], threshold: Option<f64>) -> Section {
    let mut sessions: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for shown in shown {
        sessions.entry((shown.species.unwrap_or("live"), shown.subject)).or_default().push(shown.score);
    }
    let (mut rows, mut table) = (Vec::new(), Vec::new());
    for ((kind, subject), mut session) in sessions {
        session.sort_by(f64::total_cmp);
        let at = |q: f64| quantile(&session, q).unwrap_or(f64::NAN);
        let wrong = threshold.map(|threshold| {
            let wrong = |score: &&f64| (**score >= threshold) != (kind == "live");
            session.iter().filter(wrong).count()
        });
        rows.push(vec![
            kind.to_owned(),
            subject.to_owned(),
            session.len().to_string(),
            format!("{:.4}", at(0.0)),
            format!("{:.4}", at(0.5)),
            format!("{:.4}", at(1.0)),
            wrong.map_or_else(|| "–".into(), |wrong| wrong.to_string()),
        ]);
        table.push(json!({
            "kind": kind, "subject": subject, "frames": session.len(), "lowest": at(0.0), "median": at(0.5),
            "highest": at(1.0), "errors": wrong,
        }));
    }
    figures.set("by_subject", json!(table));
    let mut columns = vec![Column::text("presentation"), Column::text("subject")];
    columns.extend(["frames", "lowest", "median", "highest", "errors"].map(Column::number));
    let caption = "Scores of each subject, and frames on the wrong side of the threshold".into();
    Section { title: "By subject".into(), blocks: vec![Block::Table(Table { caption, columns, rows })] }
}

/// What it brings to judge several frames of one person by their median.
fn frames_together(figures: &mut Figures, shown: &[Shown<'_>], threshold: Option<f64>) -> Section {
    let mut sessions: BTreeMap<(Option<&str>, &str, Persons), Vec<f64>> = BTreeMap::new();
    for shown in shown {
        sessions.entry((shown.species, shown.subject, shown.persons)).or_default().push(shown.score);
    }
    let mut rows = Vec::new();
    for frames in FRAMES_TOGETHER {
        let mut together = Vec::new();
        for ((species, _, persons), session) in &sessions {
            for frames in session.chunks_exact(frames) {
                let mut frames = frames.to_vec();
                frames.sort_by(f64::total_cmp);
                let score = quantile(&frames, 0.5).unwrap_or(f64::NAN);
                together.push(Labelled { score, accept: species.is_none(), persons: *persons });
            }
        }
        let Some((eer, _)) = equal_error_rate(&together) else { continue };
        figures.put(&format!("frames_together/{frames}/eer"), &eer);
        let mut row = vec![frames.to_string(), together.len().to_string(), percent(eer.value)];
        if let Some(threshold) = threshold {
            for (accept, name) in [(false, "attacks_accepted"), (true, "bpcer")] {
                let trials: Vec<(Persons, bool)> = together
                    .iter()
                    .filter(|trial| trial.accept == accept)
                    .map(|trial| (trial.persons, (trial.score >= threshold) != accept))
                    .collect();
                let rate = error_rate(&trials);
                figures.put(&format!("frames_together/{frames}/{name}"), &rate);
                row.push(super::summary::in_words(&rate));
            }
        }
        rows.push(row);
    }
    let mut columns: Vec<Column> = ["frames", "groups of frames", "EER"].map(Column::number).into();
    if threshold.is_some() {
        columns.extend([Column::text("attacks accepted, all species"), Column::text("BPCER")]);
    }
    let caption = "The median of so many frames of one subject, in the order of the data, at the same threshold".into();
    Section { title: "Several frames".into(), blocks: vec![Block::Table(Table { caption, columns, rows })] }
}

fn plots(
    labelled: &[Labelled],
    live: &[Shown<'_>],
    species: &BTreeMap<&str, Vec<Shown<'_>>>,
    threshold: Option<f64>,
) -> Section {
    let share =
        |label: &str| Axis { label: label.into(), scale: Scale::Linear, range: Some([0.0, 1.0]), percent: true };
    let score_axis = || Axis { label: "score".into(), scale: Scale::Linear, range: Some([0.0, 1.0]), percent: false };
    let rule = || threshold.map(|at| Mark::Rule { name: "threshold".into(), at, vertical: true });
    let steps = || (0..=200).map(|step| f64::from(step) / 200.0);
    let curve = |name: String, shown: &[Shown<'_>], wrong: &dyn Fn(f64, f64) -> bool, dashed| {
        let at = |threshold: f64| {
            let errors = shown.iter().filter(|shown| wrong(shown.score, threshold)).count();
            [threshold, errors as f64 / shown.len().max(1) as f64]
        };
        Mark::Line { name, points: steps().map(at).collect(), dashed }
    };
    let mut marks = vec![curve("BPCER".into(), live, &|score, threshold| score < threshold, true)];
    for (name, attacks) in species {
        marks.push(curve(format!("APCER {name}"), attacks, &|score, threshold| score >= threshold, false));
    }
    marks.extend(rule());
    let rates = Plot {
        title: "Error rates over the threshold".into(),
        description: "BPCER and APCER of each species over the threshold, single frames".into(),
        x: score_axis(),
        y: share("error rate"),
        marks,
    };
    let bars =
        |shown: &[Shown<'_>]| histogram(&shown.iter().map(|shown| shown.score).collect::<Vec<_>>(), [0.0, 1.0], 50);
    let mut marks: Vec<Mark> =
        species.iter().map(|(name, attacks)| Mark::Bars { name: (*name).into(), bars: bars(attacks) }).collect();
    marks.push(Mark::Bars { name: "live".into(), bars: bars(live) });
    marks.extend(rule());
    let histogram = Plot {
        title: "Scores".into(),
        description: "Share of frames by score, live ones and each attack species".into(),
        x: score_axis(),
        y: Axis { label: "share of frames".into(), scale: Scale::Linear, range: None, percent: true },
        marks,
    };
    let axis = |label: &str| Axis { label: label.into(), scale: Scale::Probit, range: None, percent: true };
    let det = Plot {
        title: "Detection error trade-off".into(),
        description: "BPCER against the share of attacks accepted, all species together, on normal deviate axes".into(),
        x: axis("attacks accepted, all species"),
        y: axis("BPCER"),
        marks: vec![Mark::Line { name: "single frames".into(), points: det_curve(labelled, 400), dashed: false }],
    };
    Section { title: "Curves".into(), blocks: vec![Block::Plot(rates), Block::Plot(histogram), Block::Plot(det)] }
}
