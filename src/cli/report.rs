//! Events and results for eyes (text, coloured on a terminal) and for programs (`--json`: one object on each line).
//!
//! Called by `verify`; `faces` and `status` take the words and number formats from here. The JSON keys are stable: the field
//! names of the contract in snake_case beside `event`, enums as their short upper-case words (`PASS`, `SELFIE`).

use std::collections::{BTreeMap, HashMap};
use std::io::{Stdout, Write};

use serde_json::{Value, json};

use super::connect::Failure;
use super::reading;
use crate::api::proto::document_part::Part;
use crate::api::proto::verify_event::Event;
use crate::api::proto::{Calibrated, CheckResult, MediaKind, ModelRef, OperatingPoint, Outcome, Summary, Warning};

/// Where events go, and in which form.
#[derive(Debug)]
pub struct Report {
    out: Stdout,
    json: bool,
    paint: Paint,
}

impl Report {
    /// A report on standard output.
    pub fn to_stdout(json: bool) -> Self {
        let out = std::io::stdout();
        let paint = Paint { on: super::colour_wanted(&out) };
        Self { out, json, paint }
    }

    /// Prints one event and flushes, so that a reader sees it now. `elapsed_ms` is absent for the answer to a unary call.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn event(&mut self, elapsed_ms: Option<f64>, event: &Event) -> Result<(), Failure> {
        let text = if self.json {
            format!("{}\n", event_to_json(elapsed_ms, event))
        } else {
            event_to_text(elapsed_ms, event, self.paint)
        };
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }
}

/// The exit code that tells an outcome.
pub fn exit_code_of(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Pass => 0,
        Outcome::Fail => 1,
        Outcome::Review => 2,
        // A value that this client does not know is no answer that it could act upon.
        Outcome::Inconclusive | Outcome::Skipped | Outcome::Unspecified => 3,
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    pub on: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub fn warning(self, text: &str) -> String {
        self.wrap("33", text)
    }

    fn outcome(self, outcome: Outcome) -> String {
        let code = match outcome {
            Outcome::Pass => "1;32",
            Outcome::Fail => "1;31",
            Outcome::Review => "1;33",
            Outcome::Inconclusive | Outcome::Skipped | Outcome::Unspecified => "1;35",
        };
        self.wrap(code, outcome_word(outcome))
    }
}

/// `PASS` for `OUTCOME_PASS`.
pub fn outcome_word(outcome: Outcome) -> &'static str {
    let name = outcome.as_str_name();
    name.strip_prefix("OUTCOME_").unwrap_or(name)
}

fn media_word(media: MediaKind) -> &'static str {
    let name = media.as_str_name();
    name.strip_prefix("MEDIA_KIND_").unwrap_or(name)
}

/// `Some("SELFIE")`, or nothing where no picture is meant.
fn media_or_null(media: MediaKind) -> Option<&'static str> {
    (media != MediaKind::Unspecified).then(|| media_word(media))
}

// ---------------------------------------------------------------- JSON

/// One event as a JSON object. Maps are sorted by key.
pub fn event_to_json(elapsed_ms: Option<f64>, event: &Event) -> Value {
    let mut object = match event {
        Event::Accepted(accepted) => json!({
            "event": "accepted",
            "verification_id": accepted.verification_id,
            "client_reference": accepted.client_reference,
            "checks": accepted.checks,
        }),
        Event::Progress(progress) => json!({
            "event": "progress",
            "stage": progress.stage,
            "media": media_or_null(progress.media()),
            "duration_ms": progress.duration_ms,
        }),
        Event::Result(result) => result_to_json(result),
        Event::Warning(warning) => {
            let mut object = warning_to_json(warning);
            object["event"] = json!("warning");
            object
        }
        Event::DocumentPart(part) => {
            let (name, mut object) = match &part.part {
                Some(Part::Mrz(mrz)) => ("mrz", reading::mrz_to_json(mrz)),
                Some(Part::Barcode(barcode)) => ("barcode", reading::barcode_to_json(barcode)),
                Some(Part::Location(location)) => ("location", reading::location_to_json(location)),
                Some(Part::Portrait(portrait)) => ("portrait", reading::portrait_to_json(portrait)),
                // A part of a kind that this client does not know yet.
                None => ("unknown", json!({})),
            };
            object["media"] = json!(media_or_null(part.media()));
            object["page"] = json!(part.page);
            object["event"] = json!(name);
            object
        }
        Event::DocumentFields(document) => json!({
            "event": "fields",
            "fields": document.fields.iter().map(reading::field_to_json).collect::<Vec<_>>(),
            "record": document.record.iter().map(reading::record_to_json).collect::<Vec<_>>(),
            "comparisons": document.comparisons.iter().map(reading::comparison_to_json).collect::<Vec<_>>(),
        }),
        Event::Summary(summary) => json!({
            "event": "summary",
            "outcome": outcome_word(summary.outcome()),
            "outcomes": outcomes(summary),
            "duration_ms": summary.duration_ms,
        }),
    };
    if let Some(elapsed_ms) = elapsed_ms {
        object["elapsed_ms"] = json!(elapsed_ms);
    }
    object
}

fn result_to_json(result: &CheckResult) -> Value {
    json!({
        "event": "result",
        "check": result.check,
        "outcome": outcome_word(result.outcome()),
        "score": result.score,
        "score_kind": result.score_kind,
        "calibrated": result.calibrated.as_ref().map(|c| json!({
            "kind": c.kind, "value": c.value, "low_95": c.low_95, "high_95": c.high_95,
        })),
        "operating_point": result.operating_point.as_ref().map(operating_point_to_json),
        "warnings": result.warnings.iter().map(warning_to_json).collect::<Vec<_>>(),
        "measurements": sorted(&result.measurements),
        "models": models_to_json(&result.models),
        "calibration_sha256": result.calibration_sha256,
        "duration_ms": result.duration_ms,
    })
}

pub fn operating_point_to_json(point: &OperatingPoint) -> Value {
    json!({"name": point.name, "threshold": point.threshold, "rates": sorted(&point.rates)})
}

pub fn warning_to_json(warning: &Warning) -> Value {
    json!({"code": warning.code, "message": warning.message, "media": media_or_null(warning.media())})
}

pub fn models_to_json(models: &[ModelRef]) -> Value {
    models.iter().map(|m| json!({"role": m.role, "name": m.name, "sha256": m.sha256})).collect()
}

// ---------------------------------------------------------------- text

/// One event as lines of text, each ending in a line feed.
fn event_to_text(elapsed_ms: Option<f64>, event: &Event, paint: Paint) -> String {
    let margin = match elapsed_ms {
        Some(ms) => paint.dim(&format!("{ms:9.1} ms ")) + " ",
        None => String::new(),
    };
    match event {
        Event::Accepted(accepted) => {
            format!("{margin}accepted {} ({})\n", accepted.verification_id, accepted.checks.join(", "))
        }
        Event::Progress(progress) => {
            let line = format!(
                "{:<9}{:<10}{:8.1} ms",
                progress.stage,
                media_or_null(progress.media()).unwrap_or_default().to_lowercase(),
                progress.duration_ms
            );
            format!("{margin}{}\n", paint.dim(&line))
        }
        Event::Result(result) => result_to_text(&margin, result, paint),
        Event::DocumentPart(part) => match &part.part {
            Some(Part::Mrz(mrz)) => indented(&margin, &reading::mrz_to_text(mrz, "", paint)),
            Some(Part::Barcode(barcode)) => indented(&margin, &reading::barcode_to_text(barcode, "", paint)),
            Some(Part::Location(location)) => indented(&margin, &reading::location_to_text(location, "", paint)),
            Some(Part::Portrait(portrait)) => indented(&margin, &reading::portrait_to_text(portrait, "", paint)),
            None => String::new(),
        },
        Event::DocumentFields(document) => {
            let fields = document.fields.iter().map(|field| reading::field_to_text(field, "", paint));
            let differences =
                document.comparisons.iter().map(|comparison| reading::comparison_to_text(comparison, "", paint));
            indented(&margin, &fields.chain(differences).collect::<String>())
        }
        Event::Warning(warning) => format!("{margin}{}\n", warning_to_text(warning, paint)),
        Event::Summary(summary) => {
            let each: Vec<String> =
                outcomes(summary).into_iter().map(|(check, outcome)| format!("{check} {outcome}")).collect();
            format!(
                "{margin}{} in {:.1} ms: {}\n",
                paint.outcome(summary.outcome()),
                summary.duration_ms,
                each.join(", ")
            )
        }
    }
}

/// Lines of text with the margin before the first and as much room before the others.
fn indented(margin: &str, text: &str) -> String {
    let room = if margin.is_empty() { "" } else { "              " };
    let lines =
        text.lines().enumerate().map(|(index, line)| format!("{}{line}\n", if index == 0 { margin } else { room }));
    lines.collect()
}

fn result_to_text(margin: &str, result: &CheckResult, paint: Paint) -> String {
    let mut lines = vec![format!("{margin}{} {}", paint.outcome(result.outcome()), paint.bold(&result.check))];
    let mut line = |label: &str, text: String| {
        lines.push(format!("{:13} {} {text}", "", paint.dim(&format!("{label:<13}"))));
    };
    if let Some(score) = result.score {
        let score = if score.fract() == 0.0 { format!("{score}") } else { format!("{score:.4}") };
        line("score", format!("{score} {}", result.score_kind));
    }
    if let Some(calibrated) = &result.calibrated {
        line("calibrated", calibrated_to_text(calibrated));
    }
    if let Some(point) = &result.operating_point {
        line("decided at", operating_point_to_text(point));
    }
    if !result.measurements.is_empty() {
        let each: Vec<String> =
            sorted(&result.measurements).iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        line("measured", each.join(", "));
    }
    for warning in &result.warnings {
        line("warning", warning_to_text(warning, paint));
    }
    let models: Vec<&str> = result.models.iter().map(|model| model.name.as_str()).collect();
    let models = if models.is_empty() { String::new() } else { format!(" with {}", models.join(", ")) };
    line("took", format!("{:.1} ms{models}", result.duration_ms));
    lines.join("\n") + "\n"
}

fn calibrated_to_text(calibrated: &Calibrated) -> String {
    let Calibrated { kind, value, low_95, high_95 } = calibrated;
    if kind.ends_with("_years") {
        format!("{value:.1} years (95 %: {low_95:.1} to {high_95:.1})")
    } else {
        format!("{kind} {} (95 %: {} to {})", rate(*value), rate(*low_95), rate(*high_95))
    }
}

/// `fmr_1e-4, threshold 0.4200, measured fmr 1.0e-4, fnmr 1.20 %`.
pub fn operating_point_to_text(point: &OperatingPoint) -> String {
    let mut text = format!("{}, threshold {:.4}", point.name, point.threshold);
    let rates: Vec<String> =
        sorted(&point.rates).iter().map(|(name, value)| format!("{name} {}", rate(**value))).collect();
    if !rates.is_empty() {
        text += ", measured ";
        text += &rates.join(", ");
    }
    text
}

/// `MULTIPLE_FACES (selfie): two faces were found`.
pub fn warning_to_text(warning: &Warning, paint: Paint) -> String {
    let media = match media_or_null(warning.media()) {
        Some(word) => format!(" ({})", word.to_lowercase()),
        None => String::new(),
    };
    format!("{}{media}: {}", paint.warning(&warning.code), warning.message)
}

/// A share of 0..1: per cent where that is readable, else a power of ten.
fn rate(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else if value >= 0.001 {
        format!("{:.2} %", value * 100.0)
    } else {
        format!("{value:.1e}")
    }
}

/// Each check's outcome in its short word.
pub fn outcomes(summary: &Summary) -> BTreeMap<&str, &'static str> {
    summary
        .outcomes
        .iter()
        .map(|(check, outcome)| {
            (check.as_str(), outcome_word(Outcome::try_from(*outcome).unwrap_or(Outcome::Unspecified)))
        })
        .collect()
}

fn sorted(map: &HashMap<String, f64>) -> BTreeMap<&String, &f64> {
    map.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_readable_at_every_size() {
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(0.0123), "1.23 %");
        assert_eq!(rate(0.00012), "1.2e-4");
        assert_eq!(rate(1.0), "100.00 %");
    }

    #[test]
    fn absent_values_are_null_and_unknown_outcomes_are_no_pass() {
        let result = CheckResult { check: "face_match".into(), outcome: 99, ..Default::default() };
        let object = event_to_json(None, &Event::Result(result.clone()));
        assert_eq!(object["score"], Value::Null);
        assert_eq!(object["operating_point"], Value::Null);
        assert_eq!(object["outcome"], "UNSPECIFIED");
        assert!(object.get("elapsed_ms").is_none());
        assert_eq!(exit_code_of(result.outcome()), 3);
    }

    #[test]
    fn text_without_colour_holds_no_escape() {
        let result = CheckResult {
            check: "face_match".into(),
            outcome: Outcome::Pass.into(),
            score: Some(0.75),
            score_kind: "cosine_similarity".into(),
            ..Default::default()
        };
        let text = event_to_text(Some(12.0), &Event::Result(result.clone()), Paint { on: false });
        assert!(text.starts_with("     12.0 ms  PASS face_match\n"), "{text}");
        assert!(!text.contains('\x1b'));
        assert!(event_to_text(None, &Event::Result(result), Paint { on: true }).contains("\x1b[1;32mPASS"));
    }
}
