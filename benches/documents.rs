//! How well documents are read, on labelled data that the caller names, with the plain decoder beside it where there is one.
//!
//! `cargo bench --bench documents -- barcodes DIR [ANGLE]`: zxing-cpp's `test/samples` (a folder for each kind, same-named `.txt` or
//! `.bin` with the payload), turned by so many degrees; `-- aamva DIR`: the texts of idparser's tests with its `expected.json`;
//! `-- mrz DIR`: pictures of machine-readable zones with a `ground_truth.json`, through a daemon of its own (after `make pack`);
//! `-- photographs DIR COUNT`: the same on so many generated photographs of every level of degradation, written to DIR before;
//! `-- frames DIR`: how many of these, or of other pictures with a `ground_truth.json`, are read in a second, by four callers at once;
//! `-- budget`: what a verification of a 12-megapixel passport takes stage by stage, drawn here, with a daemon of its own (after `make
//! pack sample-photos`).

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/drawn.rs"]
mod drawn;
#[path = "../tests/common/pages.rs"]
mod pages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use vouch::api::proto::document_part::Part;
use vouch::api::proto::verify_event::Event;
use vouch::api::proto::{Certainty, Media, MediaKind, ReadDocumentRequest, VerifyRequest};
use vouch::document::aamva::{self, Field, Height, Record, Weight};
use vouch::document::barcode::{Luma, Request, Symbology, join_parts, read};
use vouch::document::mrz::{self, DateParts, Fields, Format, Sex};
use vouch::specimen::document::{Kind, Options, specimen};
use vouch::specimen::photograph::{Shot, photograph};
use zxingcpp::{ImageFormat, ImageView, TextMode};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["barcodes", folder] => barcodes(Path::new(folder), 0.0),
        ["barcodes", folder, angle] => barcodes(Path::new(folder), angle.parse().expect("an angle in degrees")),
        ["aamva", folder] => aamva(Path::new(folder)),
        ["mrz", folder] => zones(Path::new(folder)),
        ["photographs", folder, count] => {
            take_photographs(Path::new(folder), count.parse().expect("a number of photographs"));
            zones(Path::new(folder));
        }
        ["frames", folder] => frames(Path::new(folder)),
        ["budget"] => budget(),
        // `cargo bench` without arguments runs everything, and there is nothing to run on.
        _ => println!(
            "usage: documents barcodes DIR [ANGLE] | documents aamva DIR | documents mrz DIR | documents photographs DIR COUNT | documents frames DIR | documents budget"
        ),
    }
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]
}

// ---------------------------------------------------------------- barcodes

#[derive(Default)]
struct Row {
    samples: usize,
    plain: usize,
    ours: usize,
    plain_ms: Vec<f64>,
    ours_ms: Vec<f64>,
}

fn barcodes(root: &Path, angle: f64) {
    let request = Request { wanted: Symbology::ALL.to_vec(), ..Request::default() };
    println!(
        "{:24}{:>8}{:>8}{:>8}{:>22}{:>22}",
        "folder", "samples", "plain", "ours", "plain ms p50/p95", "ours ms p50/p95"
    );
    let (mut samples, mut plain, mut ours) = (0, 0, 0);
    for folder in files_of(root).into_iter().filter(|path| path.is_dir()) {
        let mut row = Row::default();
        for file in files_of(&folder) {
            if !matches!(file.extension().and_then(|extension| extension.to_str()), Some("png" | "jpg" | "webp")) {
                continue;
            }
            let grey = turned(&image::open(&file).unwrap().into_luma8(), angle);
            let picture = Luma::new(grey.width(), grey.height(), grey.into_raw()).unwrap();
            measure(&picture, &request, expected(&file).as_deref(), &mut row);
        }
        if row.samples == 0 {
            continue;
        }
        row.plain_ms.sort_by(f64::total_cmp);
        row.ours_ms.sort_by(f64::total_cmp);
        let times = |ms: &[f64]| format!("{:.1} / {:.1}", percentile(ms, 0.5), percentile(ms, 0.95));
        println!(
            "{:24}{:8}{:8}{:8}{:>22}{:>22}",
            folder.file_name().unwrap().to_string_lossy(),
            row.samples,
            row.plain,
            row.ours,
            times(&row.plain_ms),
            times(&row.ours_ms)
        );
        (samples, plain, ours) = (samples + row.samples, plain + row.plain, ours + row.ours);
    }
    println!("{:24}{samples:8}{plain:8}{ours:8}", "all");
}

/// Reads a picture with both. A sample without a payload beside it holds no symbol: what is found there counts against the reader
/// as a false find, shown as a number in the same column.
fn measure(picture: &Luma, request: &Request, expected: Option<&[u8]>, row: &mut Row) {
    let view = ImageView::from_slice(picture.pixels(), picture.width(), picture.height(), ImageFormat::Lum).unwrap();
    let started = Instant::now();
    let plain = zxingcpp::read().from(view.clone()).unwrap();
    row.plain_ms.push(started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let ours = join_parts(read(picture, request, &|| false).unwrap());
    row.ours_ms.push(started.elapsed().as_secs_f64() * 1e3);
    row.samples += 1;
    let Some(expected) = expected else {
        row.plain += usize::from(!plain.is_empty());
        row.ours += usize::from(!ours.is_empty());
        return;
    };
    // Expected texts are in one of the decoder's renderings, so a payload is right in any of them, for both readers alike.
    let renderings = [TextMode::HRI, TextMode::Plain, TextMode::ECI, TextMode::Escaped];
    let rendered: Vec<_> =
        renderings.iter().flat_map(|&mode| zxingcpp::read().text_mode(mode).from(view.clone()).unwrap()).collect();
    let is_right = |bytes: &[u8], text: &str| {
        bytes == expected
            || alike(text, expected)
            || rendered.iter().any(|code| code.bytes() == bytes && alike(&code.text(), expected))
    };
    row.plain += usize::from(plain.iter().any(|code| is_right(&code.bytes(), &code.text())));
    row.ours += usize::from(ours.iter().any(|code| is_right(&code.bytes, &code.text)));
}

/// The same text but for the brackets and separators that renderings of GS1 payloads put in or leave out.
fn alike(text: &str, expected: &[u8]) -> bool {
    let kept = |character: &char| !"()\u{1d} ".contains(*character);
    text.chars().filter(kept).eq(String::from_utf8_lossy(expected).chars().filter(kept))
}

/// The payload beside a sample, which several samples of one symbol may share (`01-1.png`, `01-2.png`, `01.txt`).
fn expected(sample: &Path) -> Option<Vec<u8>> {
    let stem = sample.file_stem()?.to_str()?;
    let shared = stem.rsplit_once('-').map(|(head, _)| head);
    let candidates =
        [Some(stem), shared].into_iter().flatten().flat_map(|stem| ["txt", "bin"].map(|kind| (stem, kind)));
    candidates.into_iter().find_map(|(stem, kind)| std::fs::read(sample.with_file_name(format!("{stem}.{kind}"))).ok())
}

/// Turned clockwise on a white ground large enough to hold it.
fn turned(image: &image::GrayImage, angle: f64) -> image::GrayImage {
    if angle == 0.0 {
        return image.clone();
    }
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    let (sin, cos) = angle.to_radians().sin_cos();
    let size = [width * cos.abs() + height * sin.abs(), width * sin.abs() + height * cos.abs()].map(f64::ceil);
    image::GrayImage::from_fn(size[0] as u32, size[1] as u32, |x, y| {
        let (x, y) = (f64::from(x) + 0.5 - size[0] / 2.0, f64::from(y) + 0.5 - size[1] / 2.0);
        let (x, y) = (x * cos + y * sin + width / 2.0 - 0.5, -x * sin + y * cos + height / 2.0 - 0.5);
        let value = image::imageops::interpolate_bilinear(image, x as f32, y as f32);
        value.unwrap_or(image::Luma([255]))
    })
}

// ---------------------------------------------------------------- MRZ

/// An image is exact if every line is as printed. `valid but wrong` counts what no reader may do: an answer whose check digits are
/// all right and whose lines are not those printed.
fn zones(root: &Path) {
    let truth: Vec<Value> = serde_json::from_slice(&std::fs::read(root.join("ground_truth.json")).unwrap()).unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let daemon = common::Daemon::start();
        let mut client = daemon.client().await;
        let (mut exact, mut found, mut valid_but_wrong, mut unmarked, mut lines, mut lines_exact) = (0, 0, 0, 0, 0, 0);
        let mut marked = 0;
        let mut ms = Vec::new();
        // Pictures and exact ones by level of degradation, where it is known.
        let mut levels: BTreeMap<u64, [usize; 2]> = BTreeMap::new();
        for case in &truth {
            let name = case["image"].as_str().unwrap();
            let expected: Vec<&str> =
                case["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
            let image = std::fs::read(root.join(name)).unwrap().into();
            let request = ReadDocumentRequest { images: vec![image], parts: vec!["mrz".into()] };
            let started = Instant::now();
            let answer = client.read_document(request).await;
            ms.push(started.elapsed().as_secs_f64() * 1e3);
            let mut is_uncertain = false;
            let mrz = match answer {
                Ok(answer) => {
                    let mut answer = answer.into_inner();
                    is_uncertain = answer.fields.iter().any(|field| field.certainty() == Certainty::Uncertain);
                    answer.pages.remove(0).mrz
                }
                Err(refused) => {
                    println!("{name}: {}", refused.message());
                    None
                }
            };
            let read = mrz.as_ref().map_or(&[][..], |mrz| &mrz.lines);
            let is_exact = *read == *expected;
            exact += usize::from(is_exact);
            found += usize::from(mrz.is_some());
            lines += expected.len();
            lines_exact += expected.iter().filter(|line| read.iter().any(|read| read == *line)).count();
            let is_valid = mrz.as_ref().is_some_and(|mrz| mrz.check_digits_valid);
            valid_but_wrong += usize::from(is_valid && !is_exact);
            unmarked += usize::from(is_valid && !is_exact && !is_uncertain);
            marked += usize::from(is_exact && is_uncertain);
            if let Some(level) = case["level"].as_u64() {
                let [count, right] = levels.entry(level).or_default();
                *count += 1;
                *right += usize::from(is_exact);
            }
            if !is_exact {
                println!("{name} ({}): {}", case["format"], match (is_valid, is_uncertain) {
                    (true, false) => "VALID BUT WRONG",
                    (true, true) => "valid but wrong, with an uncertain field",
                    _ => "not exact",
                });
                for (index, line) in expected.iter().enumerate() {
                    println!("  printed {line}\n  read    {}", read.get(index).map_or("-", String::as_str));
                }
            }
        }
        ms.sort_by(f64::total_cmp);
        for (level, [count, right]) in levels {
            println!("level {level}: {right} of {count} exact");
        }
        println!(
            "{} images: {exact} exact ({marked} of them with an uncertain field), {found} with a zone, {valid_but_wrong} valid but \
             wrong ({unmarked} of them without an uncertain field); {lines_exact} of {lines} lines exact; \
             {:.0} ms median, {:.0} ms p95",
            truth.len(),
            percentile(&ms, 0.5),
            percentile(&ms, 0.95)
        );
    });
}

/// First seed of the photographs; the training of the recogniser draws from other streams of chance.
const FIRST_SEED: u64 = 500_000;

/// Writes photographs of 1280 × 720 pixels of every kind of document with a zone, and their truth.
fn take_photographs(folder: &Path, count: u64) {
    std::fs::create_dir_all(folder).unwrap();
    let kinds = [Kind::Td3, Kind::Td1, Kind::Td2, Kind::MrvA, Kind::MrvB];
    let (mut truth, mut cut) = (Vec::new(), 0);
    for index in 0..count {
        let (seed, level) = (FIRST_SEED + index, (index % 5) as u8);
        let document = specimen(kinds[(index / 5) as usize % kinds.len()], seed, &Options::default());
        let page = document.pages.iter().find(|page| page.truth.mrz.is_some()).unwrap();
        let taken = photograph(page, &Shot { seed, level, size_px: [1280, 720] });
        let zone = taken.truth.mrz.unwrap();
        let is_seen = |[x, y]: &[f64; 2]| (0.0..=1280.0).contains(x) && (0.0..=720.0).contains(y);
        if !zone.quads.iter().flatten().all(is_seen) {
            cut += 1;
            continue;
        }
        let image = format!("{index}-level{level}.jpg");
        std::fs::write(folder.join(&image), &taken.jpeg).unwrap();
        truth.push(json!({ "image": image, "format": zone.format, "lines": zone.lines, "level": level }));
    }
    println!("{} photographs; {cut} more left out, as a part of the zone lies outside of the picture", truth.len());
    std::fs::write(folder.join("ground_truth.json"), serde_json::to_vec_pretty(&truth).unwrap()).unwrap();
}

/// How long pictures are sent.
const FRAMES_FOR: Duration = Duration::from_secs(20);

/// Callers that each wait for an answer before they send the next picture.
const CALLERS: usize = 4;

/// Pictures read in a second by a daemon of its own, everything included: files in, fields out.
fn frames(root: &Path) {
    let truth: Vec<Value> = serde_json::from_slice(&std::fs::read(root.join("ground_truth.json")).unwrap()).unwrap();
    let cases: Arc<Vec<(Bytes, Vec<String>)>> = Arc::new(
        truth
            .iter()
            .map(|case| {
                let lines = case["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned());
                (std::fs::read(root.join(case["image"].as_str().unwrap())).unwrap().into(), lines.collect())
            })
            .collect(),
    );
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let daemon = common::Daemon::start();
        let mut callers = tokio::task::JoinSet::new();
        let started = Instant::now();
        for caller in 0..CALLERS {
            let (mut client, cases) = (daemon.client().await, Arc::clone(&cases));
            callers.spawn(async move {
                let (mut exact, mut ms) = (0, Vec::new());
                // Each begins at another picture.
                let from = caller * cases.len() / CALLERS;
                for (file, expected) in cases.iter().cycle().skip(from) {
                    let request = ReadDocumentRequest { images: vec![file.clone()], parts: vec!["mrz".into()] };
                    let sent = Instant::now();
                    let answer = client.read_document(request).await.unwrap().into_inner();
                    ms.push(sent.elapsed().as_secs_f64() * 1e3);
                    let read = answer.pages.first().and_then(|page| page.mrz.as_ref());
                    exact += usize::from(read.is_some_and(|mrz| mrz.lines == *expected));
                    if started.elapsed() >= FRAMES_FOR {
                        break;
                    }
                }
                (exact, ms)
            });
        }
        let done = callers.join_all().await;
        let seconds = started.elapsed().as_secs_f64();
        let exact: usize = done.iter().map(|(exact, _)| exact).sum();
        let mut ms: Vec<f64> = done.into_iter().flat_map(|(_, ms)| ms).collect();
        ms.sort_by(f64::total_cmp);
        println!(
            "{:.1} pictures a second ({} in {seconds:.1} s, {exact} exact); {:.1} ms median, {:.1} ms p95 with {CALLERS} callers",
            ms.len() as f64 / seconds,
            ms.len(),
            percentile(&ms, 0.5),
            percentile(&ms, 0.95)
        );
    });
}

// ---------------------------------------------------------------- time

/// Verifications that are timed, after one that is not.
const RUNS: usize = 15;

/// A passport of 12 megapixels on a table, as JPEG, with a selfie: when what is known, and what each stage took.
fn budget() {
    let mut page = image::RgbImage::from_pixel(1250, 880, image::Rgb([235; 3]));
    image::imageops::replace(&mut page, &pages::card(&common::photo("portrait.jpg")), 60, 30);
    let date = |year, month, day| DateParts { year: Some(year), month: Some(month), day: Some(day) };
    let fields = Fields {
        format: Format::Td3,
        document_code: "P".into(),
        issuing_state: "UTO".into(),
        primary: "Specimen".into(),
        secondary: "Bernd Otto".into(),
        document_number: "P1234567".into(),
        nationality: "UTO".into(),
        birth: date(1961, 8, 4),
        sex: Sex::Male,
        expiry: date(2031, 6, 30),
        optional_data: String::new(),
        optional_data_2: String::new(),
    };
    for (row, line) in (0..).zip(&mrz::generate(&fields).unwrap()) {
        pages::write(&mut page, [40, 730 + 60 * row], 26, line);
    }
    let page = image::imageops::resize(&page, 3000, 2112, image::imageops::FilterType::Triangle);
    let picture = pages::on_a_table(&page, [4032, 3024], [500, 430]);
    let mut file = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 90).encode_image(&picture).unwrap();
    println!("{} x {} px, {} bytes", picture.width(), picture.height(), file.len());
    let media = |kind: MediaKind, data: Bytes| Media { kind: kind.into(), data };
    let media =
        vec![media(MediaKind::DocumentFront, file.into()), media(MediaKind::Selfie, common::photo("selfie.jpg"))];
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut known: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    tokio.block_on(async {
        let daemon = common::Daemon::start();
        let mut client = daemon.client().await;
        for run in 0..=RUNS {
            let request = VerifyRequest { media: media.clone(), ..VerifyRequest::default() };
            let mut stream = client.verify(request).await.unwrap().into_inner();
            let mut note = |what: String, ms: f64| {
                if run > 0 {
                    known.entry(what).or_default().push(ms);
                }
            };
            while let Some(event) = stream.message().await.unwrap() {
                let at = event.elapsed_ms;
                match event.event.unwrap() {
                    Event::Progress(progress) => {
                        let of = progress.media().as_str_name().trim_start_matches("MEDIA_KIND_").to_lowercase();
                        note(format!("stage {} of {of}", progress.stage), progress.duration_ms);
                    }
                    Event::DocumentPart(part) => {
                        let part = match part.part.unwrap() {
                            Part::Mrz(mrz) => {
                                assert!(mrz.check_digits_valid, "{mrz:?}");
                                "zone"
                            }
                            Part::Location(_) => "outline",
                            Part::Portrait(_) => "portrait",
                            Part::Barcode(_) => "barcode",
                        };
                        note(format!("known {part}"), at);
                    }
                    Event::DocumentFields(_) => note("known fields".into(), at),
                    Event::Result(result) => {
                        note(format!("known {} {}", result.check, result.outcome().as_str_name()), at)
                    }
                    Event::Summary(_) => note("known everything".into(), at),
                    _ => {}
                }
            }
        }
    });
    println!("{:56}{:>10}{:>10}", "ms over the runs", "median", "p95");
    for (what, ms) in &mut known {
        ms.sort_by(f64::total_cmp);
        println!("{what:56}{:10.1}{:10.1}", percentile(ms, 0.5), percentile(ms, 0.95));
    }
}

// ---------------------------------------------------------------- AAMVA

fn aamva(root: &Path) {
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(root.join("expected.json")).unwrap()).unwrap();
    let (mut texts, mut absent, mut right, mut wanted, mut micros) = (0, 0, 0, 0, Vec::new());
    for case in &cases {
        let case = case.as_object().unwrap();
        let Ok(bytes) = std::fs::read(root.join("IdParser.Test").join(case["file"].as_str().unwrap())) else {
            absent += 1;
            continue;
        };
        texts += 1;
        let started = Instant::now();
        let record = aamva::parse(&bytes);
        micros.push(started.elapsed().as_secs_f64() * 1e6);
        for (key, want) in case.iter().filter(|(key, _)| !["file", "raw_exists"].contains(&key.as_str())) {
            let found = record.as_ref().map_or(String::new(), |record| field(record, key, want.as_str().unwrap()));
            wanted += 1;
            right += usize::from(*want == found);
            if *want != found {
                println!("{} {key}: expected {want}, found {found:?}", case["file"]);
            }
        }
    }
    micros.sort_by(f64::total_cmp);
    let median = percentile(&micros, 0.5);
    println!(
        "{texts} texts ({absent} of the list are not there): {right} of {wanted} fields right, {median:.0} µs each"
    );
}

/// A field in the words of idparser.
fn field(record: &Record, key: &str, expected: &str) -> String {
    fn text(field: &Option<Field<String>>) -> String {
        field.as_ref().and_then(|field| field.value.clone()).unwrap_or_default()
    }
    fn date(field: &Option<Field<aamva::Date>>) -> String {
        let day = |date: aamva::Date| format!("{:04}-{:02}-{:02}", date.year, date.month, date.day);
        field.as_ref().and_then(|field| field.value).map(day).unwrap_or_default()
    }
    fn word<T: std::fmt::Debug>(field: &Option<Field<T>>) -> String {
        field.as_ref().and_then(|field| field.value.as_ref()).map(|value| format!("{value:?}")).unwrap_or_default()
    }
    match key {
        "First" => text(&record.given_name),
        "Middle" => text(&record.middle_names),
        "Last" => text(&record.family_name),
        "Suffix" => text(&record.suffix),
        "StreetLine1" => text(&record.address.street_1),
        "StreetLine2" => text(&record.address.street_2),
        "City" => text(&record.address.city),
        "JurisdictionCode" => text(&record.address.jurisdiction),
        "PostalCode" => text(&record.address.postal_code),
        "IdNumber" => text(&record.number),
        "VehicleClass" => text(&record.vehicle_class),
        "RestrictionCodes" => text(&record.restrictions),
        "EndorsementCodes" => text(&record.endorsements),
        "DocumentDiscriminator" => text(&record.document_discriminator),
        "InventoryControlNumber" => text(&record.inventory_control_number),
        "DateOfBirth" => date(&record.birth),
        "IssueDate" => date(&record.issue),
        "ExpirationDate" => date(&record.expiry),
        "RevisionDate" => date(&record.card_revision),
        "Under18Until" => date(&record.under_18_until),
        "Under19Until" => date(&record.under_19_until),
        "Under21Until" => date(&record.under_21_until),
        "Sex" => word(&record.sex),
        "EyeColor" => word(&record.eyes),
        "HairColor" => word(&record.hair),
        "Country" => match text(&record.country).as_str() {
            "USA" => "Usa".into(),
            "CAN" => "Canada".into(),
            other => other.into(),
        },
        "AamvaVersionNumber" => {
            let years = ["", "2000", "2003", "2005", "2009", "2010", "2011", "2012", "2013", "2016", "2020"];
            format!("Aamva{}", years.get(usize::from(record.header.version)).unwrap_or(&"?"))
        }
        "Height" => match record.height.as_ref().and_then(|field| field.value) {
            Some(Height::Centimetres(centimetres)) => format!("FromMetric:{centimetres}"),
            Some(Height::Inches(inches)) if expected.contains(',') => {
                format!("FromImperial:{},{}", inches / 12, inches % 12)
            }
            Some(Height::Inches(inches)) => format!("FromImperial:{inches}"),
            None => String::new(),
        },
        "Weight" => match record.weight.as_ref().and_then(|field| field.value) {
            Some(Weight::Kilograms(kilograms)) => format!("FromMetric:{kilograms}"),
            Some(Weight::Pounds(pounds)) => format!("FromImperial:{pounds}"),
            Some(Weight::PoundsRange(low, Some(high))) => format!("FromRange:WeightRange.Lbs{low}To{high}"),
            Some(Weight::PoundsRange(_, None)) | None => String::new(),
        },
        other => format!("no rule for {other}"),
    }
}
