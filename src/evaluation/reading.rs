//! Figures of reading: machine-readable zones, barcodes, fields of documents.
//!
//! Called by `cli::evaluate` with the scores of a run. The gravest figure is what is wrong and looks proved: `valid_but_wrong` counts zones
//! whose check digits are all right and whose lines are not those printed; `unmarked` those of them in which the answer doubts no field.

use std::collections::BTreeMap;

use serde_json::json;

use super::Question;
use super::groups::{Differential, differential};
use super::report::{Block, Column, Section, Table};
use super::scores::{Reading, Scored, Scores};
use super::statistics::{Estimate, complement, error_rate};
use super::summary::{Circumstances, Evaluation, Figures, assemble, cells, headline, in_words, rate_columns};
use crate::calibration::Rate;

/// Every figure of a run of [`Question::Mrz`], [`Question::Barcode`] or [`Question::Document`].
pub fn evaluate(scores: &Scores, circumstances: &Circumstances<'_>) -> Evaluation {
    let read: Vec<(&Scored, Reading)> =
        scores.scored.iter().map(|scored| (scored, scored.answer.reading.clone().unwrap_or_default())).collect();
    let mut figures = match scores.header.question {
        Question::Barcode => barcodes(&read),
        Question::Document => documents(&read),
        _ => zones(&read),
    };
    let wrong = |(_, reading): &&(&Scored, Reading)| reading.expected;
    let trials = read.iter().filter(wrong).map(|(scored, reading)| (&scored.trial.groups, None, !reading.exact));
    let found = differential("not_exact", trials);
    if !found.is_empty() {
        figures.set("groups", json!(found));
        let blocks = found.iter().flat_map(Differential::blocks).collect();
        figures.sections.push(Section { title: "By group".into(), blocks });
    }
    assemble(scores, circumstances, figures)
}

/// Share of trials for which this does not hold.
fn misses<'a>(read: impl IntoIterator<Item = &'a (&'a Scored, Reading)>, holds: impl Fn(&Reading) -> bool) -> Rate {
    error_rate(&read.into_iter().map(|(_, reading)| (None, !holds(reading))).collect::<Vec<_>>())
}

fn count(read: &[(&Scored, Reading)], holds: impl Fn(&Reading) -> bool) -> u64 {
    read.iter().filter(|(_, reading)| holds(reading)).count() as u64
}

fn row(name: &str, rate: &Rate) -> Vec<String> {
    let mut cells: Vec<String> = cells(rate).into();
    cells.insert(0, name.to_owned());
    cells
}

fn rates_table(caption: &str, rows: Vec<Vec<String>>) -> Block {
    let mut columns = vec![Column::text("")];
    columns.extend(rate_columns());
    Block::Table(Table { caption: caption.into(), columns, rows })
}

fn zones(read: &[(&Scored, Reading)]) -> Figures {
    let mut figures = Figures::default();
    let not_exact = misses(read, |reading| reading.exact);
    let exact = complement(&not_exact);
    figures.put("exact_rate", &exact);
    figures.headlines.push(headline("zones exactly as printed", &exact));
    let not_found = misses(read, |reading| reading.found);
    figures.put("not_found_rate", &not_found);
    // Lines and characters of one zone share its light and its focus, so they are counted by zone.
    let lines: Vec<(u64, u64)> =
        read.iter().map(|(_, r)| (u64::from(r.lines - r.lines_exact.min(r.lines)), u64::from(r.lines))).collect();
    let wrong_lines = Rate::by_subject(&lines);
    figures.put("line_exact_rate", &complement(&wrong_lines));
    let characters: Vec<(u64, u64)> =
        read.iter().map(|(_, r)| (u64::from(r.character_errors.min(r.characters)), u64::from(r.characters))).collect();
    let character_errors = Rate::by_subject(&characters);
    figures.put("character_error_rate", &character_errors);
    let is_valid_but_wrong = |reading: &Reading| reading.valid && !reading.exact;
    let valid_but_wrong = count(read, is_valid_but_wrong);
    let unmarked = count(read, |reading| is_valid_but_wrong(reading) && !reading.doubted);
    let doubted = count(read, |reading| reading.exact && reading.doubted);
    figures.set("valid_but_wrong", json!(valid_but_wrong));
    figures.set("valid_but_wrong_unmarked", json!(unmarked));
    figures.set("exact_but_doubted", json!(doubted));
    figures.set("exact", json!(count(read, |reading| reading.exact)));
    let bound = misses(read, |reading| !is_valid_but_wrong(reading));
    figures.put("valid_but_wrong_rate", &bound);
    figures.headlines.push(headline("wrong with all check digits right", &Estimate::from(&bound)));
    let rows = vec![
        row("zones not exact", &not_exact),
        row("zones not found", &not_found),
        row("lines not exact", &wrong_lines),
        row("characters wrong", &character_errors),
        row("wrong with all check digits right", &bound),
    ];
    let blocks = vec![
        rates_table("Errors", rows),
        Block::Paragraph(format!(
            "Of the {valid_but_wrong} zones that are wrong with all check digits right, {unmarked} carry no field that the answer itself doubts; {doubted} \
             exact zones carry one. Names, States, nationality and sex have no check digit in any format."
        )),
    ];
    figures.sections.push(Section { title: "Zones, lines, characters".into(), blocks });
    figures
}

fn barcodes(read: &[(&Scored, Reading)]) -> Figures {
    let mut figures = Figures::default();
    let (with, without): (Vec<_>, Vec<_>) = read.iter().cloned().partition(|(_, reading)| reading.expected);
    let missed = misses(&with, |reading| reading.exact);
    let false_found = misses(&without, |reading| !reading.found);
    let decoded = complement(&missed);
    figures.set("decoded", json!(count(&with, |reading| reading.exact)));
    figures.set("with_symbol", json!(with.len()));
    figures.set("wrong_payload", json!(count(&with, |reading| reading.found && !reading.exact)));
    figures.set("false_positives", json!(count(&without, |reading| reading.found)));
    figures.set("without_symbol", json!(without.len()));
    figures.put("decoded_rate", &decoded);
    figures.put("false_positive_rate", &false_found);
    figures.headlines.push(headline("decoded", &decoded));
    figures.headlines.push(headline("false positives", &Estimate::from(&false_found)));
    let wrong = misses(&with, |reading| !reading.found || reading.exact);
    let rows = vec![
        row("symbols not decoded, or not as expected", &missed),
        row("of them decoded to something else", &wrong),
        row("pictures without a symbol in which one was found", &false_found),
    ];
    figures.sections.push(Section { title: "Symbols".into(), blocks: vec![rates_table("Errors", rows)] });
    figures.limits.push(
        "The daemon looks for the symbols that identity documents carry (PDF417, QR, Aztec, Data Matrix, Code 128, Code 39): others, such as those of goods, count \
         here as not decoded."
            .into(),
    );
    figures
}

fn documents(read: &[(&Scored, Reading)]) -> Figures {
    let mut figures = Figures::default();
    let not_exact = misses(read, |reading| reading.exact);
    let exact = complement(&not_exact);
    figures.put("exact_rate", &exact);
    figures.headlines.push(headline("documents with every field right", &exact));
    let mut fields: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    // Fields of one document share its light and its focus, so they are counted by document.
    let mut by_document = Vec::new();
    for (_, reading) in read {
        for (name, verdict) in &reading.fields {
            *fields.entry(name).or_default().entry(verdict).or_default() += 1;
        }
        let wrong = reading.fields.values().filter(|verdict| *verdict != RIGHT).count();
        by_document.push((wrong as u64, reading.fields.len() as u64));
    }
    let not_right = Rate::by_subject(&by_document);
    figures.put("field_exact_rate", &complement(&not_right));
    figures.headlines.push(headline("fields right", &complement(&not_right)));
    let mut rows = Vec::new();
    for (name, verdicts) in &fields {
        let of = |verdict: &str| verdicts.get(verdict).copied().unwrap_or(0);
        let total: u64 = verdicts.values().sum();
        let rate = Rate::wilson(total - of(RIGHT), total);
        figures.put(&format!("fields/{name}"), &complement(&rate));
        let mut row = vec![(*name).to_owned()];
        row.extend([RIGHT, WRONG, DOUBTED, MISSING].map(|verdict| of(verdict).to_string()));
        row.push(in_words(&rate));
        rows.push(row);
        figures.set(&format!("field_counts/{name}"), json!(verdicts));
    }
    let total = |verdict: &str| -> u64 { fields.values().filter_map(|counts| counts.get(verdict)).sum() };
    figures.set("wrong_fields", json!(total(WRONG)));
    figures.set("doubted_fields", json!(total(DOUBTED)));
    figures.set("missing_fields", json!(total(MISSING)));
    let mut columns = vec![Column::text("field")];
    columns.extend(["right", "wrong", "wrong but doubted", "missing"].map(Column::number));
    columns.push(Column::text("not right"));
    let caption = "Fields of the record, one value for each fact".into();
    figures
        .sections
        .push(Section { title: "Fields".into(), blocks: vec![Block::Table(Table { caption, columns, rows })] });
    figures.limits.push("Fields that the answer has and the truth does not list are not counted.".into());
    figures
}

/// Verdicts over a field, as the scores file has them.
pub const RIGHT: &str = "right";
pub const WRONG: &str = "wrong";
/// Not as printed, and the answer itself is not certain of it.
pub const DOUBTED: &str = "doubted";
pub const MISSING: &str = "missing";

/// Compares lines with those printed.
pub fn compare_lines(printed: &[String], read: Option<&[String]>, valid: bool, doubted: bool) -> Reading {
    let lines = read.unwrap_or_default();
    let errors =
        |(index, line): (usize, &String)| strsim::levenshtein(line, lines.get(index).map_or("", String::as_str)) as u32;
    Reading {
        expected: true,
        found: read.is_some(),
        exact: printed == lines,
        valid,
        doubted,
        lines: printed.len() as u32,
        lines_exact: printed.iter().filter(|line| lines.contains(line)).count() as u32,
        characters: printed.iter().map(|line| line.chars().count() as u32).sum(),
        character_errors: printed.iter().enumerate().map(errors).sum(),
        fields: BTreeMap::new(),
    }
}

/// Compares symbols with the payload that one of them should have; `found` yields bytes and text of each.
pub fn compare_payload<'a>(expected: Option<&[u8]>, found: impl IntoIterator<Item = (&'a [u8], &'a str)>) -> Reading {
    let (mut any, mut exact) = (false, false);
    for (bytes, text) in found {
        any = true;
        exact |= expected.is_some_and(|expected| bytes == expected || is_same_text(text, expected));
    }
    Reading { expected: expected.is_some(), found: any, exact, ..Reading::default() }
}

/// The same text but for the brackets, separators and line ends in which renderings of one payload differ.
fn is_same_text(text: &str, expected: &[u8]) -> bool {
    let kept = |character: &char| !"()\u{1d} \r\n".contains(*character);
    text.chars().filter(kept).eq(String::from_utf8_lossy(expected).chars().filter(kept))
}

/// Compares fields with those printed; `record` yields name, value and whether the answer is certain of it.
pub fn compare_fields<'a>(
    printed: &BTreeMap<String, String>,
    record: impl IntoIterator<Item = (&'a str, &'a str, bool)>,
) -> Reading {
    let record: BTreeMap<&str, (&str, bool)> =
        record.into_iter().map(|(name, value, certain)| (name, (value, certain))).collect();
    let verdict = |(name, value): (&String, &String)| {
        let verdict = match record.get(name.as_str()) {
            None | Some(("", _)) => MISSING,
            Some((read, _)) if read == value => RIGHT,
            Some((_, true)) => WRONG,
            Some((_, false)) => DOUBTED,
        };
        (name.clone(), verdict.to_owned())
    };
    let fields: BTreeMap<String, String> = printed.iter().map(verdict).collect();
    Reading {
        expected: true,
        found: !record.is_empty(),
        exact: fields.values().all(|verdict| verdict == RIGHT),
        doubted: fields.values().any(|verdict| verdict == DOUBTED),
        fields,
        ..Reading::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scores::{Answer, Trial, Truth, testing};
    use super::*;

    fn scored(index: usize, reading: Reading) -> Scored {
        Scored {
            trial: Trial { index, truth: Truth::Document, groups: BTreeMap::new() },
            answer: Answer { reading: Some(reading), latency_ms: 2.0, ..Answer::default() },
        }
    }

    fn evaluated(question: Question, readings: Vec<Reading>) -> serde_json::Value {
        let header = testing::header(question, readings.len());
        let scored = readings.into_iter().enumerate().map(|(index, reading)| scored(index, reading)).collect();
        evaluate(&Scores { header, scored }, &Circumstances::default()).json
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_zone_counts_by_line_and_character() {
        let printed = lines(&["P<UTO", "L8988"]);
        let exact = compare_lines(&printed, Some(&printed), true, false);
        let wrong = compare_lines(&printed, Some(&lines(&["P<UT0", "L8988"])), true, false);
        let none = compare_lines(&printed, None, false, false);
        assert_eq!((wrong.lines_exact, wrong.character_errors, wrong.exact), (1, 1, false));
        assert_eq!((none.found, none.character_errors), (false, 10));
        let json = evaluated(Question::Mrz, vec![exact.clone(), exact, wrong, none]);
        assert_eq!(json["exact_rate"], 0.5);
        assert_eq!((&json["valid_but_wrong"], &json["valid_but_wrong_unmarked"]), (&json!(1), &json!(1)));
        assert_eq!(json["line_exact_rate"], 0.625);
        assert_eq!(json["character_error_rate"], 11.0 / 40.0);
        assert!(json["intervals"]["exact_rate"]["low_95"].as_f64().unwrap() < 0.2);
    }

    #[test]
    fn barcodes_count_finds_where_there_is_nothing() {
        let hit = compare_payload(Some(b"(01)0123"), [(&b"\x1d010123"[..], "010123")]);
        let other = compare_payload(Some(b"abc"), [(&b"abd"[..], "abd")]);
        let missed = compare_payload(Some(b"abc"), []);
        let ghost = compare_payload(None, [(&b"x"[..], "x")]);
        let quiet = compare_payload(None, []);
        let json = evaluated(Question::Barcode, vec![hit, other, missed, ghost, quiet]);
        assert_eq!((&json["decoded"], &json["with_symbol"], &json["wrong_payload"]), (&json!(1), &json!(3), &json!(1)));
        assert_eq!((&json["false_positives"], &json["without_symbol"]), (&json!(1), &json!(2)));
    }

    #[test]
    fn fields_are_right_wrong_doubted_or_missing() {
        let printed: BTreeMap<String, String> =
            [("sex", "F"), ("birth_date", "1990-01-02"), ("document_number", "X1"), ("height", "1")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let reading = compare_fields(
            &printed,
            [
                ("sex", "F", true),
                ("birth_date", "1990-01-03", true),
                ("document_number", "X7", false),
                ("other", "y", true),
            ],
        );
        let verdicts: Vec<&str> = reading.fields.values().map(String::as_str).collect();
        assert_eq!(verdicts, [WRONG, DOUBTED, MISSING, RIGHT]);
        let json = evaluated(Question::Document, vec![reading]);
        assert_eq!((&json["exact_rate"], &json["wrong_fields"]), (&json!(0.0), &json!(1)));
        assert_eq!(json["fields"]["sex"], 1.0);
        assert_eq!(json["field_exact_rate"], 0.25);
    }
}
