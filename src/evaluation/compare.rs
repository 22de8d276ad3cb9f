//! Two results of `vouch evaluate` side by side.
//!
//! Called by `cli::evaluate` for `--compare`. Every number that both results tell is set beside the other; whether a difference can be
//! chance is said where both have an interval.

use std::collections::BTreeMap;

use serde_json::Value;

use super::report::{Block, Column, Section, Table};
use super::summary::FORMAT;
use super::{DataError, Question};

/// Makes sure that a result can be compared with one of this question.
///
/// # Errors
/// [`DataError`] if it is no result, or of another question.
pub fn check(other: &Value, question: Question) -> Result<(), DataError> {
    if other["vouch_evaluation"] != FORMAT {
        return Err(DataError::bad("--compare: is no result of `vouch evaluate --json`"));
    }
    if other["question"] != question.as_str() {
        let reason = format!("--compare: is a result of {}, not of {}", other["question"], question.as_str());
        return Err(DataError::bad(reason));
    }
    Ok(())
}

/// Compares `other`, an earlier result that was [checked](check), with this one. The section goes to the report.
pub fn compare(this: &Value, other: &Value) -> Section {
    let mut blocks = Vec::new();
    if other["data"]["sha256"] != this["data"]["sha256"] {
        blocks.push(Block::Warning(
            "the two were measured on different data: a difference may come from the data alone".into(),
        ));
    }
    let mut changed = vec![];
    for (words, key) in
        [("models", "models"), ("calibration", "calibration_sha256"), ("software", "software"), ("options", "options")]
    {
        if this[key] != other[key] {
            changed.push(words);
        }
    }
    blocks.push(Block::Paragraph(if changed.is_empty() {
        "Models, calibration, software and options are the same.".into()
    } else {
        format!("Not the same: {}.", changed.join(", "))
    }));
    let (mine, theirs) = (numbers(this), numbers(other));
    let rows = mine.iter().filter_map(|(path, value)| {
        let earlier = theirs.get(path)?;
        let verdict = match (bounds(this, path), bounds(other, path)) {
            (Some(a), Some(b)) if a[0] > b[1] || b[0] > a[1] => "differs",
            (Some(_), Some(_)) if value == earlier => "the same",
            (Some(_), Some(_)) => "may be chance",
            _ => "",
        };
        let cells = [*earlier, *value, value - earlier].map(written);
        Some([path.clone()].into_iter().chain(cells).chain([verdict.to_owned()]).collect())
    });
    let mut columns = vec![Column::text("figure")];
    columns.extend(["other", "this", "difference"].map(Column::number));
    columns.push(Column::text("by the 95 % intervals"));
    let caption = format!(
        "Other: {} of {}",
        other["data"]["name"].as_str().unwrap_or("?"),
        other["date"].as_str().unwrap_or("?")
    );
    blocks.push(Block::Table(Table { caption, columns, rows: rows.collect() }));
    Section { title: "Compared with another run".into(), blocks }
}

/// Numbers that have an interval, and times: by their path.
fn numbers(result: &Value) -> BTreeMap<String, f64> {
    let with_interval = result["intervals"].as_object().into_iter().flatten();
    let mut found: BTreeMap<String, f64> =
        with_interval.filter_map(|(path, interval)| Some((path.clone(), interval["value"].as_f64()?))).collect();
    let times = result["latency_ms"].as_object().into_iter().flatten();
    found.extend(times.filter_map(|(name, ms)| Some((format!("latency_ms/{name}"), ms.as_f64()?))));
    for count in ["valid_but_wrong", "decoded", "false_positives", "wrong_fields"] {
        found.extend(result[count].as_f64().map(|value| (count.to_owned(), value)));
    }
    found
}

fn bounds(result: &Value, path: &str) -> Option<[f64; 2]> {
    let interval = &result["intervals"][path];
    Some([interval["low_95"].as_f64()?, interval["high_95"].as_f64()?])
}

fn written(value: f64) -> String {
    if value == value.round() && value.abs() < 1e6 { format!("{value}") } else { format!("{value:.5}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(value: f64, low: f64, high: f64) -> Value {
        json!({
            "vouch_evaluation": 1, "question": "face_match", "date": "2026-11-26", "data": { "sha256": "a", "name": "x" },
            "intervals": { "eer": { "value": value, "low_95": low, "high_95": high } }, "latency_ms": { "p50": 12.0 },
        })
    }

    fn verdicts(a: &Value, b: &Value) -> Vec<Vec<String>> {
        let section = compare(a, b);
        section
            .blocks
            .into_iter()
            .find_map(|block| if let Block::Table(table) = block { Some(table.rows) } else { None })
            .unwrap()
    }

    #[test]
    fn intervals_decide_what_differs() {
        let rows = verdicts(&result(0.02, 0.015, 0.025), &result(0.05, 0.04, 0.06));
        assert_eq!(rows[0], ["eer", "0.05000", "0.02000", "-0.03000", "differs"]);
        assert_eq!(rows[1], ["latency_ms/p50", "12", "12", "0", ""]);
        let rows = verdicts(&result(0.02, 0.015, 0.045), &result(0.05, 0.04, 0.06));
        assert_eq!(rows[0][4], "may be chance");
    }

    #[test]
    fn other_files_are_refused() {
        let this = result(0.1, 0.0, 0.2);
        assert!(check(&json!({}), Question::FaceMatch).is_err());
        assert_eq!(check(&this, Question::FaceMatch), Ok(()));
        let told = check(&this, Question::Age).unwrap_err().to_string();
        assert!(told.contains("is a result of \"face_match\", not of age"), "{told}");
    }
}
