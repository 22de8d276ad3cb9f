//! `vouch document` and `vouch barcode`: what stands on the pictures of a document; `vouch mrz`: what lines of text say.
//!
//! Called by `cli`. `vouch mrz` needs no daemon: parsing lines is the same code there as here. Printing is shared by all three, since
//! all answer with the same message.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::PathBuf;

use clap::Args;
use image::RgbImage;
use serde_json::{Value, json};

use super::connect::{self, CallArgs, Failure, Target};
use super::draw;
use super::reading::{
    barcode_to_json, barcode_to_text, comparison_to_json, comparison_to_text, field_to_json, field_to_text,
    location_to_json, location_to_text, mrz_to_json, mrz_to_text, portrait_to_json, portrait_to_text, record_to_json,
};
use super::report::{Paint, exit_code_of, models_to_json, warning_to_json, warning_to_text};
use crate::api::proto::{
    Agreement, Certainty, CheckDigit, DocumentField, DocumentPage, FieldComparison, Outcome, ReadDocumentRequest,
    ReadDocumentResponse,
};
use crate::api::read_document::{field_message, mrz_message};
use crate::document::fields;
use crate::document::mrz::{Date, ReadLine, repair};

#[derive(Debug, Args)]
pub struct DocumentArgs {
    /// The pictures of one document, such as the front and the back of a card
    #[arg(required = true, num_args = 1..=4, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Write a copy of the first page with everything found drawn on it: outline green, zone orange, barcodes blue, fields cyan, portrait
    /// magenta (.png or .jpg); of further pages beside it
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
    #[command(flatten)]
    pub call: CallArgs,
}

#[derive(Debug, Args)]
pub struct BarcodeArgs {
    /// The picture
    image: PathBuf,
    #[command(flatten)]
    pub call: CallArgs,
}

#[derive(Debug, Args)]
pub struct MrzArgs {
    /// The lines, top to bottom; read from standard input if there are none
    #[arg(value_name = "LINE")]
    lines: Vec<String>,
    /// The day that decides centuries [default: today, UTC]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_date)]
    date: Option<Date>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Prints everything that the document says. The exit code tells what [`ReadDocumentResponse`] amounts to.
///
/// # Errors
/// Any [`Failure`].
pub async fn document(args: &DocumentArgs, target: &Target) -> Result<u8, Failure> {
    let read = read(&args.images, &[], target).await?;
    let code = print(&read, outcome(&read), args.call.json)?;
    if let Some(path) = &args.draw {
        draw::save(&drawn(&args.images, &read)?, path)?;
    }
    Ok(code)
}

/// The pages beside each other, with everything that was found on them.
fn drawn(images: &[PathBuf], read: &ReadDocumentResponse) -> Result<RgbImage, Failure> {
    let mut pages: Vec<RgbImage> = Vec::new();
    for (number, page) in (0..).zip(&read.pages) {
        let Some(path) = usize::try_from(page.image).ok().and_then(|image| images.get(image)) else { continue };
        let before = read.pages.iter().take(number).filter(|other| other.image == page.image).count();
        let mut canvas = draw::canvas(path, &connect::read_picture(path)?, before)?;
        let fields = read.fields.iter().filter(|field| usize::try_from(field.page) == Ok(number));
        draw::document(&mut canvas, page, fields);
        pages.push(canvas);
    }
    let (width, height) = (pages.iter().map(RgbImage::width).sum(), pages.iter().map(RgbImage::height).max());
    let mut sheet = RgbImage::new(width, height.unwrap_or(0));
    let mut left = 0;
    for page in &pages {
        image::imageops::replace(&mut sheet, page, left, 0);
        left += i64::from(page.width());
    }
    Ok(sheet)
}

/// Prints the barcodes of a picture. The exit code is 3 if there is none.
///
/// # Errors
/// Any [`Failure`].
pub async fn barcode(args: &BarcodeArgs, target: &Target) -> Result<u8, Failure> {
    let read = read(std::slice::from_ref(&args.image), &["barcode"], target).await?;
    let has_any = read.pages.iter().any(|page| !page.barcodes.is_empty());
    let outcome = match outcome(&read) {
        Outcome::Inconclusive if has_any => Outcome::Pass,
        outcome => outcome,
    };
    print(&read, outcome, args.call.json)
}

async fn read(images: &[PathBuf], parts: &[&str], target: &Target) -> Result<ReadDocumentResponse, Failure> {
    let pictures = images.iter().map(|path| connect::read_picture(path)).collect::<Result<Vec<_>, _>>()?;
    let parts = parts.iter().map(|&part| part.to_owned()).collect();
    let request = connect::request(target, ReadDocumentRequest { images: pictures, parts })?;
    let mut client = connect::connect(target).await?;
    let files = images.iter().enumerate().map(|(index, path)| (format!("images[{index}]"), path.clone())).collect();
    let read = connect::answer(target, connect::patience(target), client.read_document(request))
        .await
        .map_err(|failure| failure.naming(files))?
        .into_inner();
    Ok(read)
}

/// Prints the fields of the lines. The exit code tells what [`ReadDocumentResponse`] amounts to.
///
/// # Errors
/// [`Failure::BadInput`] if the lines are no MRZ.
pub fn mrz(args: &MrzArgs) -> Result<u8, Failure> {
    let mut lines = args.lines.clone();
    if lines.is_empty() {
        let mut text = String::new();
        // An MRZ has 90 characters; who sends more than this has sent something else.
        let input = std::io::stdin().take(1 << 16).read_to_string(&mut text);
        input.map_err(|error| Failure::BadInput(format!("standard input: {error}")))?;
        lines = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    }
    let today = args.date.unwrap_or_else(super::today);
    let lines: Vec<_> = lines.iter().map(|line| ReadLine::from_text(line)).collect();
    let repaired = repair(&lines, today).map_err(|error| Failure::BadInput(error.to_string()))?;
    let fields = fields::of_mrz(&repaired.mrz).into_iter().map(|field| field_message(field, 0)).collect();
    let page = DocumentPage { mrz: Some(mrz_message(&repaired)), ..DocumentPage::default() };
    let read = ReadDocumentResponse { pages: vec![page], fields, ..Default::default() };
    print(&read, outcome(&read), args.json)
}

fn print(read: &ReadDocumentResponse, outcome: Outcome, json: bool) -> Result<u8, Failure> {
    let mut out = std::io::stdout();
    let paint = Paint { on: super::colour_wanted(&out) };
    let text = if json { format!("{}\n", to_json(read, outcome)) } else { to_text(read, paint) };
    out.write_all(text.as_bytes())?;
    Ok(exit_code_of(outcome))
}

/// What a document's reading amounts to: FAIL with a wrong check digit, REVIEW with a field that could be read otherwise or with sources
/// that contradict each other, INCONCLUSIVE if nothing was found.
fn outcome(read: &ReadDocumentResponse) -> Outcome {
    let is_open = |field: &DocumentField| {
        field.certainty() == Certainty::Uncertain || field.warnings.iter().any(|code| fields::is_absurd(code))
    };
    let contradicts =
        |comparison: &FieldComparison| matches!(comparison.agreement(), Agreement::Differs | Agreement::Unsure);
    let mut mrzs = read.pages.iter().filter_map(|page| page.mrz.as_ref());
    if mrzs.any(|mrz| mrz.composite() == CheckDigit::Failed)
        || read.fields.iter().any(|field| field.check_digit() == CheckDigit::Failed)
    {
        Outcome::Fail
    } else if read.fields.iter().any(is_open) || read.comparisons.iter().any(contradicts) {
        Outcome::Review
    } else if read.fields.is_empty() {
        Outcome::Inconclusive
    } else {
        Outcome::Pass
    }
}

/// `2000-02-29`.
fn parse_date(text: &str) -> Result<Date, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let date = match parts.as_slice() {
        [year, month, day] if text.len() == 10 => {
            (|| Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?))()
        }
        _ => None,
    };
    date.ok_or_else(|| "not a day in the form 2000-02-29".to_owned())
}

// ---------------------------------------------------------------- JSON

fn to_json(read: &ReadDocumentResponse, outcome: Outcome) -> Value {
    json!({
        "outcome": super::report::outcome_word(outcome),
        "fields": read.fields.iter().map(field_to_json).collect::<Vec<_>>(),
        "record": read.record.iter().map(record_to_json).collect::<Vec<_>>(),
        "comparisons": read.comparisons.iter().map(comparison_to_json).collect::<Vec<_>>(),
        "pages": read.pages.iter().map(page_to_json).collect::<Vec<_>>(),
        "models": models_to_json(&read.models),
        "duration_ms": read.duration_ms,
    })
}

fn page_to_json(page: &DocumentPage) -> Value {
    json!({
        "width_px": page.width_px,
        "height_px": page.height_px,
        "image": page.image,
        "location": page.location.as_ref().map(location_to_json),
        "portrait": page.portrait.as_ref().map(portrait_to_json),
        "mrz": page.mrz.as_ref().map(mrz_to_json),
        "barcodes": page.barcodes.iter().map(barcode_to_json).collect::<Vec<_>>(),
        "warnings": page.warnings.iter().map(warning_to_json).collect::<Vec<_>>(),
        "stage_ms": page.stage_ms,
    })
}

// ---------------------------------------------------------------- text

fn to_text(read: &ReadDocumentResponse, paint: Paint) -> String {
    let mut text = String::new();
    for (number, page) in read.pages.iter().enumerate() {
        if page.width_px > 0 {
            let stages: BTreeMap<_, _> = page.stage_ms.iter().collect();
            let stages: Vec<String> = stages.iter().map(|(stage, ms)| format!("{stage} {ms:.1} ms")).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{} {} × {} px, {}",
                paint.bold(&format!("page {}", number + 1)),
                page.width_px,
                page.height_px,
                stages.join(", ")
            );
        }
        text.extend(page.location.iter().map(|location| location_to_text(location, "", paint)));
        text.extend(page.portrait.iter().map(|portrait| portrait_to_text(portrait, "", paint)));
        text.extend(page.mrz.iter().map(|mrz| mrz_to_text(mrz, "", paint)));
        text.extend(page.barcodes.iter().map(|barcode| barcode_to_text(barcode, "", paint)));
        for warning in &page.warnings {
            let _ = writeln!(text, "{}", warning_to_text(warning, paint));
        }
    }
    let many = read.pages.len() > 1;
    for field in &read.fields {
        let margin = if many { paint.dim(&format!("{} ", field.page + 1)) } else { String::new() };
        text += &field_to_text(field, &margin, paint);
    }
    text.extend(read.comparisons.iter().map(|comparison| comparison_to_text(comparison, "", paint)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> ReadDocumentResponse {
        let lines: Vec<_> = lines.iter().map(|line| ReadLine::from_text(line)).collect();
        let repaired = repair(&lines, Date::new(2026, 11, 23).unwrap()).unwrap();
        let fields = fields::of_mrz(&repaired.mrz).into_iter().map(|field| field_message(field, 0)).collect();
        let page = DocumentPage { mrz: Some(mrz_message(&repaired)), ..DocumentPage::default() };
        ReadDocumentResponse { pages: vec![page], fields, ..Default::default() }
    }

    const FIRST: &str = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<";

    #[test]
    fn outcomes_tell_right_digits_from_wrong_ones() {
        let good = lines(&[FIRST, "L898902C36UTO7408122F1204159ZE184226B<<<<<10"]);
        assert_eq!(outcome(&good), Outcome::Pass);
        let wrong = lines(&[FIRST, "L898902C36UTO7408123F1204159ZE184226B<<<<<10"]);
        assert_eq!(outcome(&wrong), Outcome::Fail);
        assert_eq!(outcome(&ReadDocumentResponse::default()), Outcome::Inconclusive);
    }

    #[test]
    fn json_keys_are_stable_and_repairs_are_listed() {
        // An O where only a digit can stand.
        let read = lines(&[FIRST, "L898902C36UTO74O8122F1204159ZE184226B<<<<<10"]);
        let read = to_json(&read, outcome(&read));
        assert_eq!(read["outcome"], "PASS");
        assert_eq!(read["pages"][0]["mrz"]["format"], "TD3");
        assert_eq!(read["pages"][0]["mrz"]["repairs"][0]["from"], "O");
        assert_eq!(read["pages"][0]["mrz"]["repairs"][0]["to"], "0");
        let birth = read["fields"].as_array().unwrap().iter().find(|field| field["name"] == "birth_date").unwrap();
        assert_eq!((&birth["value"], &birth["check_digit"]), (&json!("1974-08-12"), &json!("VALID")));
        assert_eq!(birth["certainty"], "PROVED");
    }

    #[test]
    fn days_are_read_strictly() {
        assert_eq!(parse_date("2000-02-29").unwrap().to_string(), "2000-02-29");
        for wrong in ["2001-02-29", "2000-2-29", "20000229", "2000-02-29-1", "", "abcd-ef-gh"] {
            assert!(parse_date(wrong).is_err(), "{wrong}");
        }
    }
}
