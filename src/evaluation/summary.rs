//! What every evaluation says, whatever was asked: how rates are written, failures to process, time, and where the figures come from.
//!
//! Called by the files of figures beside it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::report::{Block, Column, Document, Headline, Section, Table};
use super::scores::{Header, Scored, Scores, Truth};
use super::statistics::{Estimate, Persons, error_rate};
use crate::calibration::intervals::quantile;
use crate::calibration::{Rate, Support};

/// Version of the JSON result; `--compare` refuses others.
pub const FORMAT: u32 = 1;

/// Persons below which a rate says next to nothing.
pub const FEW_PERSONS: usize = 10;

/// The figures of one run, for programs and for people.
#[derive(Debug, Clone)]
pub struct Evaluation {
    pub json: Value,
    pub document: Document,
}

/// What a file of figures adds to what all of them have in common.
#[derive(Debug, Default)]
pub struct Figures {
    pub json: Map<String, Value>,
    pub headlines: Vec<Headline>,
    pub sections: Vec<Section>,
    /// What the figures do not show.
    pub limits: Vec<String>,
}

impl Figures {
    /// Puts a number at a path such as `tar_at_fmr/1e-3`, and its interval at the same path under `intervals`.
    pub fn put(&mut self, path: &str, value: impl Into<Interval>) {
        let Interval { value, detail } = value.into();
        self.set(path, json!(value));
        if let Value::Object(intervals) = self.json.entry("intervals").or_insert_with(|| json!({})) {
            intervals.insert(path.into(), detail);
        }
    }

    /// Puts a value at a path.
    pub fn set(&mut self, path: &str, value: Value) {
        let mut place = &mut self.json;
        let (folders, name) = path.rsplit_once('/').map_or((None, path), |(folders, name)| (Some(folders), name));
        for folder in folders.iter().flat_map(|folders| folders.split('/')) {
            let Value::Object(below) = place.entry(folder).or_insert_with(|| json!({})) else { return };
            place = below;
        }
        place.insert(name.into(), value);
    }
}

/// A number and what is known of how sure it is.
#[derive(Debug, Clone)]
pub struct Interval {
    value: f64,
    detail: Value,
}

impl From<&Rate> for Interval {
    fn from(rate: &Rate) -> Self {
        Self { value: rate.value, detail: json!(rate) }
    }
}

impl From<&Estimate> for Interval {
    fn from(estimate: &Estimate) -> Self {
        Self { value: estimate.value, detail: json!(estimate) }
    }
}

/// Circumstances of a run that the scores do not hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Circumstances<'a> {
    /// `YYYY-MM-DD`.
    pub date: &'a str,
    /// Requests under way at once.
    pub callers: usize,
    /// Wall time of the run in seconds, where it was not interrupted.
    pub seconds: Option<f64>,
}

/// Puts the parts of an evaluation together.
pub fn assemble(scores: &Scores, circumstances: &Circumstances<'_>, figures: Figures) -> Evaluation {
    let Scores { header, scored } = scores;
    let (failures, reasons) = failures_to_process(scored);
    let mut json = Map::new();
    json.insert("vouch_evaluation".into(), json!(FORMAT));
    json.insert("question".into(), json!(header.question));
    json.insert("date".into(), json!(circumstances.date));
    json.insert("data".into(), json!(header.data));
    json.insert(
        "software".into(),
        json!({ "vouch": header.daemon.version, "onnxruntime": header.daemon.runtime, "device": header.daemon.device }),
    );
    json.insert("models".into(), json!(header.daemon.models));
    json.insert("calibration_sha256".into(), json!(header.daemon.calibration_sha256));
    json.insert("options".into(), json!(header.options));
    json.insert("trials".into(), json!(scored.len()));
    let mut failed = json!(failures);
    failed["by_reason"] = json!(reasons);
    json.insert("failures_to_process".into(), failed);
    json.insert("latency_ms".into(), latency_json(&latencies(scored)));
    json.insert("callers".into(), json!(circumstances.callers));
    json.insert("seconds".into(), json!(circumstances.seconds));
    json.extend(figures.json);

    let mut sections = figures.sections;
    sections.push(failures_section(&failures, &reasons));
    sections.push(time_section(scored, circumstances));
    sections.push(origin_section(header, circumstances));
    let mut limits: Vec<Block> = figures.limits.into_iter().map(Block::Paragraph).collect();
    limits.extend(header.data.remarks.iter().map(|remark| Block::Warning(remark.clone())));
    limits.push(Block::Paragraph(
        "Figures hold for data like these, for these models and this version. People, cameras, light or attacks of another kind can do \
         better or worse, and nothing here says by how much."
            .into(),
    ));
    sections.push(Section { title: "What the figures do not show".into(), blocks: limits });
    let document = Document {
        title: header.question.title().into(),
        subtitle: format!("{}, {} trials, measured {}", header.data.name, scored.len(), circumstances.date),
        headlines: figures.headlines,
        sections,
    };
    Evaluation { json: Value::Object(json), document }
}

/// The share of trials without an answer that counts, over persons, and how often each reason came.
pub fn failures_to_process(scored: &[Scored]) -> (Rate, BTreeMap<String, u64>) {
    let mut reasons = BTreeMap::new();
    for reason in scored.iter().filter_map(|scored| scored.answer.failure.as_ref()) {
        *reasons.entry(reason.clone()).or_default() += 1;
    }
    let names = Names::of(scored);
    let trials: Vec<(Persons, bool)> =
        scored.iter().map(|scored| (names.persons(&scored.trial.truth), scored.answer.failure.is_some())).collect();
    (error_rate(&trials), reasons)
}

/// Numbers for subjects that are known by name.
#[derive(Debug)]
pub struct Names<'a>(BTreeMap<&'a str, u32>);

impl<'a> Names<'a> {
    pub fn of(scored: &'a [Scored]) -> Self {
        let mut names = BTreeMap::new();
        for scored in scored {
            if let Truth::Presentation { subject, .. } | Truth::Face { subject: Some(subject), .. } =
                &scored.trial.truth
            {
                let next = names.len() as u32;
                names.entry(subject.as_str()).or_insert(next);
            }
        }
        Self(names)
    }

    /// Whose trial it is.
    pub fn persons(&self, truth: &Truth) -> Persons {
        match truth {
            Truth::Pair { subjects, .. } => *subjects,
            Truth::Presentation { subject, .. } => self.0.get(subject.as_str()).map(|number| [*number; 2]),
            Truth::Face { subject, .. } => {
                subject.as_ref().and_then(|subject| self.0.get(subject.as_str())).map(|number| [*number; 2])
            }
            Truth::Document | Truth::Media => None,
        }
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

fn latencies(scored: &[Scored]) -> Vec<f64> {
    // A refusal is quick, and no answer.
    let answered = scored.iter().filter(|scored| scored.answer.failure.is_none());
    let mut all: Vec<f64> = answered.map(|scored| scored.answer.latency_ms).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// Percentiles of ascending times.
pub fn latency_json(ascending: &[f64]) -> Value {
    let at = |q: f64| quantile(ascending, q);
    let mean = (!ascending.is_empty()).then(|| ascending.iter().sum::<f64>() / ascending.len() as f64);
    json!({ "p50": at(0.5), "p90": at(0.9), "p95": at(0.95), "p99": at(0.99), "max": ascending.last(), "mean": mean })
}

fn failures_section(rate: &Rate, reasons: &BTreeMap<String, u64>) -> Section {
    let mut blocks = vec![Block::Paragraph(format!("Trials without an answer that counts: {}.", in_words(rate)))];
    if !reasons.is_empty() {
        blocks.push(Block::Table(Table {
            caption: "By reason; they are in none of the error rates unless it is said".into(),
            columns: vec![Column::text("reason"), Column::number("trials")],
            rows: reasons.iter().map(|(reason, count)| vec![reason.clone(), count.to_string()]).collect(),
        }));
    }
    Section { title: "Failures to process".into(), blocks }
}

fn time_section(scored: &[Scored], circumstances: &Circumstances<'_>) -> Section {
    let times = latencies(scored);
    let at = |q: f64| quantile(&times, q).map_or_else(|| "–".into(), |ms| format!("{ms:.1} ms"));
    let mut facts = vec![
        ("median".to_owned(), at(0.5)),
        ("90 %".to_owned(), at(0.9)),
        ("95 %".to_owned(), at(0.95)),
        ("99 %".to_owned(), at(0.99)),
    ];
    if let Some(seconds) = circumstances.seconds {
        facts.push(("whole run".into(), format!("{seconds:.1} s")));
    }
    let words = format!(
        "From sending to the answer, with {} requests under way at once: waiting for each other is included.",
        circumstances.callers
    );
    Section { title: "Time".into(), blocks: vec![Block::Paragraph(words), Block::Facts(facts)] }
}

fn origin_section(header: &Header, circumstances: &Circumstances<'_>) -> Section {
    let Header { data, daemon, options, .. } = header;
    let mut facts = vec![
        ("data set".to_owned(), data.name.clone()),
        ("description".to_owned(), data.description.clone()),
        ("source".to_owned(), data.source.clone()),
        ("SHA-256 of labels, paths and sizes".to_owned(), data.sha256.clone()),
        ("measured on".to_owned(), circumstances.date.to_owned()),
        (
            "software".to_owned(),
            format!("vouch {}, ONNX Runtime {}, {}", daemon.version, daemon.runtime, daemon.device),
        ),
    ];
    let calibration = if daemon.calibration_sha256.is_empty() { "none" } else { &daemon.calibration_sha256 };
    if header.question.check().is_some() {
        facts.push(("calibration".into(), calibration.to_owned()));
    }
    facts.extend(daemon.models.iter().map(|(role, sha256)| (format!("model {role}"), sha256.clone())));
    facts.extend(options.iter().map(|(name, value)| (name.clone(), value.clone())));
    Section { title: "Where the figures come from".into(), blocks: vec![Block::Facts(facts)] }
}

/// `1.23 %`, with more digits below a thousandth.
pub fn percent(share: f64) -> String {
    let digits = match share.abs() {
        0.0 => 2,
        share if share < 1e-5 => 5,
        share if share < 1e-3 => 4,
        _ => 2,
    };
    format!("{:.digits$} %", share * 100.0)
}

/// `0.80 to 1.90 %`, the interval alone.
pub fn interval(low: f64, high: f64) -> String {
    format!("{} to {}", percent(low.max(0.0)).trim_end_matches(" %"), percent(high.min(1.0)))
}

/// `1.23 % (95 %: 0.80 to 1.90 %; 20 of 1500)`, with a remark where few errors stand behind it.
pub fn in_words(rate: &Rate) -> String {
    let remark = match rate.support() {
        Support::Sufficient => String::new(),
        Support::FewErrors => "; fewer than 30 errors".into(),
        Support::NoErrors => format!("; none seen, so at most {} by the rule of three", percent(rate.high_95)),
    };
    let (low, high) = (rate.low_95, rate.high_95);
    format!("{} (95 %: {}; {} of {}{remark})", percent(rate.value), interval(low, high), rate.errors, rate.trials)
}

/// Cells of a table: value, interval, errors, trials.
pub fn cells(rate: &Rate) -> [String; 4] {
    [percent(rate.value), interval(rate.low_95, rate.high_95), rate.errors.to_string(), rate.trials.to_string()]
}

/// The columns of [`cells`].
pub fn rate_columns() -> [Column; 4] {
    ["value", "95 %", "errors", "trials"].map(Column::number)
}

/// A headline with a share.
pub fn headline(label: impl Into<String>, estimate: &Estimate) -> Headline {
    Headline {
        label: label.into(),
        value: percent(estimate.value),
        note: format!("95 %: {}", interval(estimate.low_95, estimate.high_95)),
    }
}

impl From<&Rate> for Estimate {
    fn from(rate: &Rate) -> Self {
        Self { value: rate.value, low_95: rate.low_95, high_95: rate.high_95 }
    }
}

/// How often each outcome was given.
pub fn outcomes<'a>(scored: impl IntoIterator<Item = &'a Scored>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for scored in scored {
        let outcome = if scored.answer.outcome.is_empty() { "NO_ANSWER" } else { &scored.answer.outcome };
        *counts.entry(outcome.to_owned()).or_default() += 1;
    }
    counts
}

/// The outcomes of several kinds of trials as a table.
pub fn outcomes_table(kinds: &[(String, BTreeMap<String, u64>)]) -> Table {
    let known = ["PASS", "REVIEW", "FAIL", "INCONCLUSIVE"];
    let mut columns = vec![Column::text("trials")];
    columns.extend(known.map(Column::number));
    columns.push(Column::number("refused"));
    let rows = kinds.iter().map(|(kind, counts)| {
        let named = known.iter().map(|name| counts.get(*name).copied().unwrap_or(0));
        let rest: u64 = counts.iter().filter(|(name, _)| !known.contains(&name.as_str())).map(|(_, n)| n).sum();
        let counts = named.chain([rest]).map(|count| count.to_string());
        std::iter::once(kind.clone()).chain(counts).collect()
    });
    Table {
        caption: "What the daemon decided, with its own calibration and limits".into(),
        columns,
        rows: rows.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_rates_keep_digits_that_tell_them_apart() {
        assert_eq!(percent(0.0123), "1.23 %");
        assert_eq!(percent(0.000_123), "0.0123 %");
        assert_eq!(percent(0.0), "0.00 %");
        assert_eq!(interval(0.008, 0.019), "0.80 to 1.90 %");
        let none = in_words(&Rate::wilson(0, 300));
        assert!(none.contains("none seen, so at most 1.00 % by the rule of three"), "{none}");
    }
}
