//! The tables and plots of a measurement.
//!
//! Called by `report`, which puts them in order. One row or one line for each step.

use super::figures::{StepFigures, digits};
use super::machine::DaemonCost;
use super::tally::Spread;
use crate::evaluation::report::{Axis, Column, Mark, Plot, Scale, Table};

/// More lines than this cannot be told apart in one plot.
const MOST_CURVES: usize = 8;

// ---------------------------------------------------------------- tables

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), digits)
}

/// One number of a spread.
type OfSpread = fn(&Spread) -> f64;

fn at(spread: Option<Spread>, of: OfSpread) -> String {
    cell(spread.as_ref().map(of))
}

fn table(caption: &str, titles: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let columns = std::iter::once(Column::text("step")).chain(titles.iter().map(|title| Column::number(*title)));
    Table { caption: caption.into(), columns: columns.collect(), rows: rows.collect() }
}

fn percentile_cells(spread: Option<Spread>) -> [String; 7] {
    [
        at(spread, |spread| spread.p50),
        at(spread, |spread| spread.p90),
        at(spread, |spread| spread.p95),
        at(spread, |spread| spread.p99),
        at(spread, |spread| spread.p99_9),
        at(spread, |spread| spread.max),
        at(spread, |spread| spread.mean),
    ]
}

const PERCENTILES: [&str; 7] = ["50 %", "90 %", "95 %", "99 %", "99.9 %", "longest", "mean"];

/// Throughput and latency.
pub fn latency_table(steps: &[StepFigures]) -> Table {
    let titles = [["answers/s"].as_slice(), &PERCENTILES, &["99 % / 50 %"]].concat();
    let rows = steps.iter().map(|step| {
        let mut row = vec![step.name(), digits(step.answered_per_second)];
        row.extend(percentile_cells(step.latency_ms));
        row.push(cell(step.p99_over_p50));
        row
    });
    table("Throughput, and latency of answers in milliseconds", &titles, rows)
}

/// Latency by part of a mix.
pub fn parts_table(steps: &[StepFigures]) -> Table {
    let titles = [["answered"].as_slice(), &PERCENTILES].concat();
    let rows = steps.iter().flat_map(|step| {
        step.parts.iter().map(|part| {
            let count = part.latency_ms.map_or(0, |spread| spread.count);
            let mut row = vec![format!("{}, {}", step.name(), part.name), count.to_string()];
            row.extend(percentile_cells(part.latency_ms));
            row
        })
    });
    table("Latency by part of the mix, in milliseconds", &titles, rows)
}

/// What came of the requests.
pub fn counts_table(steps: &[StepFigures]) -> Table {
    let rows = steps.iter().map(|step| {
        let faults = &step.faults;
        let ends = [step.sent, step.answered, faults.wrong, step.refused, faults.failures()];
        let counts = ends.into_iter().chain([step.not_sent, step.late]);
        std::iter::once(step.name()).chain(counts.map(|count| count.to_string())).collect()
    });
    let titles = ["sent", "answered", "wrong", "refused", "failed", "not sent", "late"];
    table("Requests that were to begin within the window", &titles, rows)
}

/// Processor time and memory.
pub fn cost_table(steps: &[StepFigures]) -> Table {
    let rows = steps.iter().map(|step| {
        let daemon = step.cost.daemon;
        let memory =
            |of: fn(&DaemonCost) -> u64| daemon.as_ref().map_or_else(|| "–".into(), |daemon| mebibytes(of(daemon)));
        vec![
            step.name(),
            cell(step.daemon_cpu_s_per_answer),
            cell(daemon.map(|daemon| daemon.cores)),
            memory(|daemon| daemon.resident_bytes_begin),
            memory(|daemon| daemon.resident_bytes_end),
            memory(|daemon| daemon.resident_bytes_peak),
            digits(step.cost.generator_cores),
            cell(step.cost.other_cores),
            cell(step.cost.stolen_cores),
        ]
    });
    let titles = ["s/answer", "cores", "MiB begin", "end", "peak", "own cores", "others'", "stolen"];
    table(
        "Processor time and resident memory of the daemon; cores that the load generator and others kept busy",
        &titles,
        rows,
    )
}

/// Times on the way to an answer, and those of refusals.
pub fn ways_table(steps: &[StepFigures]) -> Table {
    let rows = steps.iter().map(|step| {
        let mut row = vec![step.name()];
        for spread in [step.start_lag_ms, step.accepted_ms, step.first_result_ms, step.refusal_ms] {
            row.extend([at(spread, |spread| spread.p50), at(spread, |spread| spread.p99)]);
        }
        row.push(at(step.retry_delay_ms, |spread| spread.p50));
        row
    });
    let titles = [
        "start lag 50 %",
        "99 %",
        "accepted 50 %",
        "99 %",
        "first result 50 %",
        "99 %",
        "refusal 50 %",
        "99 %",
        "retry after",
    ];
    table("On the way, in milliseconds", &titles, rows)
}

/// Bytes in whole MiB.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}

// ---------------------------------------------------------------- plots

/// Lines of the median, 90 % and 99 % over a measure of load.
pub fn percentiles(title: &str, axis: &str, steps: &[&StepFigures], load: fn(&StepFigures) -> f64) -> Plot {
    let mut steps = steps.to_vec();
    steps.sort_by(|a, b| load(a).total_cmp(&load(b)));
    let lines: [(&str, OfSpread); 3] =
        [("50 %", |spread| spread.p50), ("90 %", |spread| spread.p90), ("99 %", |spread| spread.p99)];
    let marks = lines.map(|(name, of)| Mark::Line {
        name: name.into(),
        points: steps.iter().filter_map(|step| Some([load(step), of(&step.latency_ms?)])).collect(),
        dashed: false,
    });
    Plot {
        title: title.into(),
        description: format!("Percentiles of latency in milliseconds, on a logarithmic axis, over {axis}"),
        x: Axis::new(axis, Scale::Linear),
        y: Axis::new("latency, ms", Scale::Log10),
        marks: marks.into(),
    }
}

/// Of each step the share of answers that take longer, so that the tail is seen.
pub fn distributions(steps: &[StepFigures]) -> Plot {
    // The last ones are the loads around saturation, or what was asked for.
    let shown = &steps[steps.len().saturating_sub(MOST_CURVES)..];
    let marks = shown.iter().map(|step| Mark::Line {
        name: step.name(),
        // Further out than one answer there is none.
        points: step
            .histogram
            .iter()
            .map(|[ms, share]| [*ms, 1.0 - share])
            .filter(|[_, longer]| longer * step.answered as f64 >= 1.0)
            .collect(),
        dashed: step.callers.is_some(),
    });
    Plot {
        title: "Distribution of latency".into(),
        description: "Share of answers that take longer than so many milliseconds, one line for each step".into(),
        x: Axis::new("latency, ms", Scale::Log10),
        y: Axis::new("share of answers that take longer", Scale::Log10).in_percent(),
        marks: marks.collect(),
    }
}
