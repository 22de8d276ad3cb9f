//! What was read on a document, for eyes and for programs: zones, barcodes and fields.
//!
//! Called by `document`, which prints whole readings, and by `report`, which prints them as they arrive. The JSON keys are those of the
//! contract.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::faces::face_to_json;
use super::report::Paint;
use crate::api::proto::{
    Agreement, Barcode, Certainty, CheckDigit, DocumentField, DocumentLocation, FieldComparison, FieldSource, Mrz,
    Point, Portrait, RecordField,
};

pub fn source_word(source: FieldSource) -> &'static str {
    let name = source.as_str_name();
    name.strip_prefix("FIELD_SOURCE_").unwrap_or(name)
}

pub fn check_digit_word(digit: CheckDigit) -> &'static str {
    let name = digit.as_str_name();
    name.strip_prefix("CHECK_DIGIT_").unwrap_or(name)
}

pub fn certainty_word(certainty: Certainty) -> &'static str {
    let name = certainty.as_str_name();
    name.strip_prefix("CERTAINTY_").unwrap_or(name)
}

pub fn field_to_json(field: &DocumentField) -> Value {
    json!({
        "name": field.name,
        "value": field.value,
        "raw": field.raw,
        "source": source_word(field.source()),
        "check_digit": check_digit_word(field.check_digit()),
        "certainty": certainty_word(field.certainty()),
        "alternatives": field.alternatives,
        "warnings": field.warnings,
        "page": field.page,
        "confidence": field.confidence,
        "quad": quad_to_json(&field.quad),
    })
}

pub fn mrz_to_json(mrz: &Mrz) -> Value {
    let repairs = mrz.repairs.iter().map(|repair| {
        json!({
            "line": repair.line, "position": repair.position,
            "from": repair.from, "to": repair.to, "proof": repair.proof,
        })
    });
    json!({
        "format": mrz.format,
        "lines": mrz.lines,
        "check_digits_valid": mrz.check_digits_valid,
        "composite": check_digit_word(mrz.composite()),
        "repairs": repairs.collect::<Vec<_>>(),
        "quad": quad_to_json(&mrz.quad),
    })
}

pub fn barcode_to_json(barcode: &Barcode) -> Value {
    let payload: String = barcode.payload.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "symbology": barcode.symbology,
        "content": barcode.content,
        "text": barcode.text,
        "payload_hex": payload,
        "quad": quad_to_json(&barcode.quad),
        "warnings": barcode.warnings,
    })
}

pub fn location_to_json(location: &DocumentLocation) -> Value {
    json!({
        "quad": quad_to_json(&location.quad),
        "confidence": location.confidence,
        "format": location.format,
        "whole_picture": location.whole_picture,
        "upright": location.upright,
    })
}

pub fn portrait_to_json(portrait: &Portrait) -> Value {
    json!({
        "face": portrait.face.as_ref().map(face_to_json),
        "further": portrait.further.iter().map(face_to_json).collect::<Vec<_>>(),
    })
}

pub fn quad_to_json(quad: &[Point]) -> Value {
    quad.iter().map(|point| json!([point.x, point.y])).collect()
}

pub fn record_to_json(field: &RecordField) -> Value {
    json!({
        "name": field.name,
        "value": field.value,
        "source": source_word(field.source()),
        "agreeing": field.agreeing().map(source_word).collect::<Vec<_>>(),
        "agreement": agreement_word(field.agreement()),
    })
}

pub fn comparison_to_json(comparison: &FieldComparison) -> Value {
    json!({
        "name": comparison.name,
        "sources": comparison.sources().map(source_word).collect::<Vec<_>>(),
        "agreement": agreement_word(comparison.agreement()),
        "detail": comparison.detail,
    })
}

/// `None` where there is nothing to compare.
fn agreement_word(agreement: Agreement) -> Option<&'static str> {
    let name = agreement.as_str_name();
    (agreement != Agreement::Unspecified).then(|| name.strip_prefix("AGREEMENT_").unwrap_or(name))
}

/// Lines of text, each ending in a line feed and beginning with `margin`.
pub fn mrz_to_text(mrz: &Mrz, margin: &str, paint: Paint) -> String {
    // Writing to a String cannot fail.
    let mut text = String::new();
    let state = if mrz.check_digits_valid { "all check digits are right" } else { "not all check digits are right" };
    let _ = writeln!(text, "{margin}{} {}, {state}", paint.bold("MRZ"), mrz.format);
    for line in &mrz.lines {
        let _ = writeln!(text, "{margin}  {line}");
    }
    for repair in &mrz.repairs {
        let shown = |symbol: &str| if symbol.is_empty() { "nothing".to_owned() } else { symbol.to_owned() };
        let _ = writeln!(
            text,
            "{margin}  line {}, position {}: {} read, {} meant ({})",
            repair.line + 1,
            repair.position + 1,
            shown(&repair.from),
            shown(&repair.to),
            repair.proof
        );
    }
    text
}

/// As [`mrz_to_text`].
pub fn location_to_text(location: &DocumentLocation, margin: &str, paint: Paint) -> String {
    let corners: Vec<String> = location.quad.iter().map(|point| format!("{:.0},{:.0}", point.x, point.y)).collect();
    let place = if location.whole_picture { "the whole picture".to_owned() } else { corners.join(" ") };
    let upright = if location.upright { ", upright" } else { "" };
    format!("{margin}{} at {place}{upright}\n", paint.bold("document"))
}

/// As [`mrz_to_text`].
pub fn portrait_to_text(portrait: &Portrait, margin: &str, paint: Paint) -> String {
    let bounds = portrait.face.as_ref().and_then(|face| face.r#box).unwrap_or_default();
    let further = match portrait.further.len() {
        0 => String::new(),
        1 => ", and once more".to_owned(),
        more => format!(", and {more} times more"),
    };
    format!(
        "{margin}{} at {:.0},{:.0}, {:.0} × {:.0} px{further}\n",
        paint.bold("portrait"),
        bounds.x,
        bounds.y,
        bounds.width,
        bounds.height
    )
}

/// The text with what a terminal would obey, control characters and such, escaped. Quotes, as in O'CONNOR, stay.
fn visible(text: &str) -> String {
    text.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

/// As [`mrz_to_text`].
pub fn barcode_to_text(barcode: &Barcode, margin: &str, paint: Paint) -> String {
    let mut text = String::new();
    let content = if barcode.content.is_empty() { "" } else { " with " };
    let _ = writeln!(
        text,
        "{margin}{} {}{content}{}, {} bytes",
        paint.bold("barcode"),
        barcode.symbology,
        barcode.content,
        barcode.payload.len()
    );
    if barcode.content.is_empty() {
        // Escaped: a payload may hold control characters, which a terminal would obey.
        let _ = writeln!(text, "{margin}  {}", visible(&barcode.text));
    }
    for warning in &barcode.warnings {
        let _ = writeln!(text, "{margin}  {}", paint.warning(warning));
    }
    text
}

/// One line of text, ending in a line feed.
pub fn field_to_text(field: &DocumentField, margin: &str, paint: Paint) -> String {
    let mut remarks: Vec<String> = Vec::new();
    if field.check_digit() == CheckDigit::Failed {
        remarks.push(paint.warning("check digit is wrong"));
    }
    match field.certainty() {
        Certainty::Uncertain if field.alternatives.is_empty() => remarks.push(paint.warning("uncertain")),
        Certainty::Uncertain => {
            remarks.push(format!("{} {}", paint.warning("or"), field.alternatives.join(" or ")));
        }
        Certainty::Proved | Certainty::Presumed => {
            remarks.push(paint.dim(&certainty_word(field.certainty()).to_lowercase()));
        }
        Certainty::AsRead | Certainty::Unspecified => {}
    }
    remarks.extend(field.warnings.iter().map(|code| paint.warning(code)));
    let value = if field.value.is_empty() { "-".to_owned() } else { visible(&field.value) };
    let line = format!(
        "{} {:<22} {value:<32} {}",
        paint.dim(&format!("{:<8}", source_word(field.source()))),
        field.name,
        remarks.join(", ")
    );
    format!("{margin}{}\n", line.trim_end())
}

/// As [`field_to_text`]; empty for sources that agree.
pub fn comparison_to_text(comparison: &FieldComparison, margin: &str, paint: Paint) -> String {
    match comparison.agreement() {
        Agreement::Differs | Agreement::Unsure => {
            let sources: Vec<_> = comparison.sources().map(source_word).collect();
            let word = agreement_word(comparison.agreement()).unwrap_or_default();
            let detail = if comparison.detail.is_empty() { String::new() } else { format!(" ({})", comparison.detail) };
            format!("{margin}{} {}: {}{detail}\n", paint.warning(word), comparison.name, sources.join(" and "))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_names_stay_as_they_are() {
        assert_eq!(visible("O'CONNOR \"JO\" ÉTÉ"), "O'CONNOR \"JO\" ÉTÉ");
        assert_eq!(visible("\u{1b}[2J\n\u{202e}"), "\\u{1b}[2J\\n\\u{202e}");
    }
}
