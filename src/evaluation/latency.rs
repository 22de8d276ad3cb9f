//! Figures of latency: percentiles of whole verifications and of the single results on their way.
//!
//! Called by `cli::evaluate` with the answers of a run. A run has so many callers that wait for each answer before they ask again (a
//! closed loop): the daemon is never offered more than that, so these are times under a known load, not under any.

use std::collections::BTreeMap;

use serde_json::json;

use super::report::{Axis, Block, Column, Headline, Mark, Plot, Scale, Section, Table};
use super::scores::{Scored, Scores};
use super::statistics::histogram;
use super::summary::{Circumstances, Evaluation, Figures, assemble, latency_json};
use crate::calibration::intervals::quantile;

/// Quantiles told.
const QUANTILES: [(&str, f64); 4] = [("50 %", 0.5), ("90 %", 0.9), ("95 %", 0.95), ("99 %", 0.99)];

/// The 97.5 % quantile of the normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// Every figure of a run.
pub fn evaluate(scores: &Scores, circumstances: &Circumstances<'_>) -> Evaluation {
    let mut figures = Figures::default();
    let answered: Vec<&Scored> = scores.scored.iter().filter(|scored| scored.answer.failure.is_none()).collect();
    let whole = sorted(answered.iter().map(|scored| scored.answer.latency_ms));
    let mut stages: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for scored in &answered {
        for (name, ms) in &scored.answer.stages_ms {
            stages.entry(name).or_default().push(*ms);
        }
    }
    figures.set("answered", json!(answered.len()));
    let mut rows = vec![row("whole answer", &whole)];
    for (name, times) in &mut stages {
        times.sort_by(f64::total_cmp);
        figures.set(&format!("stages_ms/{name}"), latency_json(times));
        rows.push(row(name, times));
    }
    if let Some(median) = quantile(&whole, 0.5) {
        let note = quantile(&whole, 0.95).map_or_else(String::new, |ms| format!("95 % within {ms:.1} ms"));
        figures.headlines.push(Headline { label: "median".into(), value: format!("{median:.1} ms"), note });
    }
    if let Some(seconds) = circumstances.seconds.filter(|seconds| *seconds > 0.0) {
        let throughput = answered.len() as f64 / seconds;
        figures.set("per_second", json!(throughput));
        let note = format!("with {} requests under way at once", circumstances.callers);
        figures.headlines.push(Headline {
            label: "verifications a second".into(),
            value: format!("{throughput:.2}"),
            note,
        });
    }
    for (name, q) in QUANTILES {
        if let Some((low, high)) = quantile_interval(&whole, q) {
            figures.set(&format!("latency_ms_intervals/{name}"), json!({ "low_95": low, "high_95": high }));
        }
    }
    let mut columns = vec![Column::text("")];
    columns.extend(QUANTILES.map(|(name, _)| Column::number(format!("{name}, ms"))));
    columns.extend([Column::number("longest, ms"), Column::number("times")]);
    let caption = "From sending to each result, milliseconds".into();
    let mut blocks = vec![Block::Table(Table { caption, columns, rows })];
    if let Some((low, high)) = quantile_interval(&whole, 0.5) {
        blocks
            .push(Block::Paragraph(format!("The median lies between {low:.1} and {high:.1} ms with 95 % confidence.")));
    }
    let longest = quantile(&whole, 0.99).unwrap_or(0.0);
    blocks.push(Block::Plot(Plot {
        title: "Whole answers".into(),
        description: "Share of verifications by time, up to the 99 % quantile".into(),
        x: Axis { label: "milliseconds".into(), scale: Scale::Linear, range: None, percent: false },
        y: Axis { label: "share of verifications".into(), scale: Scale::Linear, range: None, percent: true },
        marks: vec![Mark::Bars { name: "verifications".into(), bars: histogram(&whole, [0.0, longest], 50) }],
    }));
    figures.sections.push(Section { title: "Times".into(), blocks });
    figures.limits.push(
        "Verifications that failed or ran out of time are failures to process and in no percentile: look at both. Callers wait for each answer before they ask again, so more load than they make is not measured, and a moment in which the daemon \
         stands still counts once for each caller."
            .into(),
    );
    assemble(scores, circumstances, figures)
}

fn sorted(times: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times
}

fn row(name: &str, ascending: &[f64]) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    let times = QUANTILES.iter().map(|(_, q)| quantile(ascending, *q)).chain([ascending.last().copied()]);
    row.extend(times.map(|ms| ms.map_or_else(|| "–".into(), |ms| format!("{ms:.1}"))));
    row.push(ascending.len().to_string());
    row
}

/// 95 % interval of a quantile between order statistics, by the normal approximation of the binomial distribution of their ranks. `None`
/// where there are too few values for it.
pub fn quantile_interval(ascending: &[f64], q: f64) -> Option<(f64, f64)> {
    let n = ascending.len() as f64;
    let half = Z_95 * (n * q * (1.0 - q)).sqrt();
    // Ranks count from 1.
    let (low, high) = ((n * q - half).floor(), (n * q + half).ceil() + 1.0);
    (low >= 1.0 && high <= n).then(|| (ascending[low as usize - 1], ascending[high as usize - 1]))
}

#[cfg(test)]
mod tests {
    use super::super::Question;
    use super::super::scores::{Truth, testing};
    use super::*;

    #[test]
    fn the_interval_of_the_median_by_hand() {
        // n = 100: ranks 50 ± 9.8, so the 40th and the 61st value.
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile_interval(&values, 0.5), Some((40.0, 61.0)));
        assert_eq!(quantile_interval(&values[..5], 0.99), None);
    }

    #[test]
    fn stages_and_the_whole_are_told() {
        let header = testing::header(Question::Latency, 2);
        let scored = (0..2)
            .map(|index| {
                let mut scored = testing::scored(index, Truth::Media, 0.0);
                scored.answer.latency_ms = 10.0 * (index + 1) as f64;
                scored.answer.stages_ms.insert("first result".into(), 3.0);
                scored
            })
            .collect();
        let circumstances = Circumstances { seconds: Some(4.0), callers: 1, ..Circumstances::default() };
        let json = evaluate(&Scores { header, scored }, &circumstances).json;
        assert_eq!((&json["latency_ms"]["p50"], &json["per_second"]), (&json!(15.0), &json!(0.5)));
        assert_eq!(json["stages_ms"]["first result"]["p50"], 3.0);
    }
}
