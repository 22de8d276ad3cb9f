//! What poor pictures do to the checks, degraded step by step: the ground for the limits in `face_quality` and `passive_liveness`.
//!
//! `quality` degrades the first picture of each pair of an LFW-like protocol and matches it against the untouched second one;
//! `liveness_limits` crops and shrinks camera frames. Everything is deterministic. Left out: the choice of a limit, which is a
//! judgement on the printed table and comes back with `--limit`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::imageops::blur;
use image::{ExtendedColorType, ImageEncoder as _, RgbImage};
use serde_json::json;
use vouch::calibration::fit::{Presentation, SortedScores, equal_error_rate, rate_by_subject};
use vouch::calibration::fusion::Term;
use vouch::calibration::intervals::quantile;
use vouch::calibration::{Calibration, Data, Direction, Fusion, OperatingPoint, Rate};
use vouch::checks::FaceEvidence as _;
use vouch::cli::evaluate::engine::{InProcess, in_parallel};
use vouch::document::mrz::Date;
use vouch::evaluation::data_set;
use vouch::evaluation::scores::Truth;
use vouch::evaluation::summary::in_words as percent;
use vouch::face::Bounds;
use vouch::face::embed::{Embedding, EmbeddingKind};
use vouch::imaging::Image;
use vouch::imaging::resize::resize;
use vouch::models::manifest::Role;
use vouch::pipeline::picture::{Picture, Search};

use super::{Options, Report};

/// A way to spoil a picture and how much of it. `bounds` is the face.
type Spoil = fn(&Image, &Bounds, f64) -> Image;

/// For the match: name, the unit of the steps, the steps.
const QUALITY_STEPS: &[(&str, &str, Spoil, &[f64])] = &[
    ("none", "", |image, _, _| image.clone(), &[0.0]),
    ("blur", "sigma, shares of the face's width", blurred, &[0.01, 0.02, 0.03, 0.04]),
    ("shrink", "divisor", shrunk, &[1.5, 2.0, 2.5, 3.0, 4.0, 5.0]),
    ("darken", "factor", gained, &[0.5, 0.25, 0.12, 0.06]),
    ("brighten", "factor", gained, &[1.25, 1.5, 2.0, 3.0]),
    ("cover", "share of the face's height, from below", covered, &[0.2, 0.3, 0.4, 0.5, 0.6]),
    ("cut", "share of the face's width, at the left", cut, &[0.1, 0.2, 0.3, 0.4]),
];

/// For liveness.
const LIVENESS_STEPS: &[(&str, &str, Spoil, &[f64])] = &[
    ("none", "", |image, _, _| image.clone(), &[0.0]),
    ("crop", "side in heights of the face", cropped, &[2.7, 2.5, 2.3, 2.1, 1.9, 1.7, 1.5, 1.3, 1.1]),
    ("shrink", "divisor", shrunk, &[1.5, 2.0, 3.0, 4.0, 6.0, 8.0]),
];

/// Absolute pose of the worse of two faces, degrees: limits of the bins.
const POSE_BINS: [f64; 8] = [0.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 90.0];

const QUALITY_PREPROCESSING: &str = "largest, most central face; sharpness and exposure on its aligned crop of 128 x 128; pose and presence from \
    the dense mesh; the score is the smallest margin to any limit, 0.5 at the limit";

/// What was measured on one degraded picture.
struct Spoiled {
    /// By name of the measurement.
    embeddings: BTreeMap<&'static str, Embedding>,
    values: [(&'static str, f64); 9],
}

/// FNMR, FMR and the native values at each step; writes `face_quality` with the limits given.
///
/// # Errors
/// As [`super::run`].
pub fn quality(pairs: &Path, options: &Options) -> anyhow::Result<Report> {
    let set = data_set::face_match(pairs)?;
    // A genuine pair, and its person.
    let pairs: Vec<([PathBuf; 2], Option<u32>)> = set
        .cases
        .into_iter()
        .filter_map(|case| match case.trial.truth {
            Truth::Pair { genuine: true, subjects, .. } => {
                Some((case.media.try_into().ok()?, subjects.map(|[person, _]| person)))
            }
            _ => None,
        })
        .step_by(options.every)
        .collect();
    let (calibration, point) = options.calibration("face_match")?;
    let fusion = calibration.fusion.unwrap_or_else(|| Fusion {
        terms: vec![Term { measurement: EmbeddingKind::A.measurement().to_owned(), weight: 1.0 }],
    });
    let engine = InProcess::load(options.pack.as_deref())?;
    let read = |file: &Path| -> anyhow::Result<Picture> {
        Ok(engine.picture(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?))
    };
    let references = in_parallel(&pairs, |([_, b], _)| spoiled(&read(b)?))?;
    let persons: Vec<Option<u32>> = pairs.iter().map(|(_, person)| *person).collect();
    let similarity = |probe: &Spoiled, reference: &Spoiled| {
        let of = |name: &str| Some(probe.embeddings.get(name)?.cosine(reference.embeddings.get(name)?));
        fusion.apply(of).unwrap_or(f64::NEG_INFINITY)
    };

    let mut text = format!("{} genuine pairs at {} ({})\n", pairs.len(), point.name, point.threshold);
    let mut json =
        json!({ "pairs": pairs.len(), "operating_point": point.name, "threshold": point.threshold, "steps": [] });
    let mut failures = Failures::new();
    for &(name, unit, spoil, steps) in QUALITY_STEPS {
        let _ = writeln!(text, "{name} {}", if unit.is_empty() { String::new() } else { format!("({unit})") });
        for &step in steps {
            let probes = in_parallel(&pairs, |([a, _], _)| {
                let original = read(a)?;
                let found = original.found(Search::MainFace)?;
                let Some(face) = found.faces.main() else { return Ok(None) };
                spoiled(&engine.picture(encoded(&spoil(&found.image, &face.bounds, step))?))
            })?;
            let scores: Vec<f64> = probes
                .iter()
                .zip(&references)
                .filter_map(|pair| match pair {
                    (Some(probe), Some(reference)) => Some(similarity(probe, reference)),
                    _ => None,
                })
                .collect();
            let (mut impostors, mut false_matches) = (0u64, 0u64);
            for (probe, own) in probes.iter().zip(&persons) {
                for (reference, other) in references.iter().zip(&persons).filter(|(_, other)| own != *other) {
                    if let (Some(probe), Some(reference), Some(_)) = (probe, reference, other) {
                        impostors += 1;
                        false_matches += u64::from(similarity(probe, reference) >= point.threshold);
                    }
                }
            }
            let below = scores.iter().filter(|score| **score < point.threshold).count() as u64;
            let (fnmr, fmr) = (Rate::wilson(below, scores.len() as u64), Rate::wilson(false_matches, impostors));
            let lost = (pairs.len() - scores.len()) as u64;
            if name == "none" {
                failures.extend((lost > 0).then(|| ("NO_FACE_DETECTED".to_owned(), lost)));
                text += &pose_text(&probes, &references, point.threshold, &similarity);
            }
            let spread = spread(&probes);
            let _ = writeln!(text, "  {step}: FNMR {}, no face {lost}, FMR {:.1e}", percent(&fnmr), fmr.value);
            for (value, [p1, p50, p99]) in &spread {
                if name == "none" || moves(name, value) {
                    let _ = writeln!(text, "      {value}: median {p50:.3}, 1 % {p1:.3}, 99 % {p99:.3}");
                }
            }
            if let Some(all) = json["steps"].as_array_mut() {
                all.push(json!({
                    "kind": name, "step": step, "fnmr": fnmr, "fmr": fmr, "no_face": lost, "values_1_50_99": spread,
                }));
            }
        }
    }
    let calibration = if options.fit.is_some() {
        let names: BTreeSet<u32> = persons.iter().flatten().copied().collect();
        Some(quality_calibration(&engine, pairs.len(), names.len(), failures, options)?)
    } else {
        None
    };
    Ok(Report { text, json, calibration })
}

fn spoiled(picture: &Picture) -> anyhow::Result<Option<Spoiled>> {
    let Some(quality) = picture.quality()? else { return Ok(None) };
    let mut embeddings = BTreeMap::new();
    for kind in EmbeddingKind::ALL {
        embeddings.extend(picture.embedding(kind)?.map(|embedding| (kind.measurement(), embedding.clone())));
    }
    let values = [
        ("inter_eye_px", quality.inter_eye_px),
        ("sharpness", quality.sharpness),
        ("luma_mean", quality.luma_mean),
        ("under_exposed", quality.under_exposed),
        ("over_exposed", quality.over_exposed),
        ("face_presence", quality.pose.presence),
        ("cut_off_px", quality.cut_off_px),
        (YAW, quality.pose.yaw_deg),
        (PITCH, quality.pose.pitch_deg),
    ];
    Ok(Some(Spoiled { embeddings, values }))
}

/// A picture from pixels passes through a lossless file, so that it is decoded as a user's would be.
fn encoded(image: &Image) -> anyhow::Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::NoFilter)
        .write_image(&image.rgb, image.width, image.height, ExtendedColorType::Rgb8)
        .context("cannot encode a picture")?;
    Ok(file.into_inner())
}

/// Reason to number of pictures.
type Failures = BTreeMap<String, u64>;

const YAW: &str = "yaw_deg";
const PITCH: &str = "pitch_deg";

/// Which values a way to spoil pictures is about; the others are not printed.
fn moves(spoil: &str, value: &str) -> bool {
    matches!(
        (spoil, value),
        ("blur", "sharpness")
            | ("shrink", "inter_eye_px" | "sharpness")
            | ("darken", "luma_mean" | "under_exposed" | "sharpness")
            | ("brighten", "luma_mean" | "over_exposed" | "sharpness")
            | ("cover", "face_presence")
            | ("cut", "cut_off_px" | "face_presence")
    )
}

/// 1 %, 50 % and 99 % quantiles of each value.
fn spread(probes: &[Option<Spoiled>]) -> BTreeMap<&'static str, [f64; 3]> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in probes.iter().flatten().flat_map(|probe| probe.values) {
        values.entry(name).or_default().push(value);
    }
    let quantiles = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        [0.01, 0.5, 0.99].map(|q| quantile(&values, q).unwrap_or(f64::NAN))
    };
    values.into_iter().map(|(name, values)| (name, quantiles(values))).collect()
}

/// FNMR by the larger angle of the two pictures.
fn pose_text(
    probes: &[Option<Spoiled>],
    references: &[Option<Spoiled>],
    threshold: f64,
    similarity: &dyn Fn(&Spoiled, &Spoiled) -> f64,
) -> String {
    let mut text = String::new();
    for angle in [YAW, PITCH] {
        let of = |face: &Spoiled| {
            face.values.iter().find(|(name, _)| *name == angle).map_or(f64::NAN, |(_, value)| value.abs())
        };
        for bin in POSE_BINS.windows(2) {
            let inside: Vec<f64> = probes
                .iter()
                .zip(references)
                .filter_map(|pair| match pair {
                    (Some(probe), Some(reference)) => Some((probe, reference)),
                    _ => None,
                })
                .filter(|(probe, reference)| (bin[0]..bin[1]).contains(&of(probe).max(of(reference))))
                .map(|(probe, reference)| similarity(probe, reference))
                .collect();
            let below = inside.iter().filter(|score| **score < threshold).count() as u64;
            let rate = percent(&Rate::wilson(below, inside.len() as u64));
            let _ = writeln!(text, "  {angle} of the worse face {} to {}: FNMR {rate}", bin[0], bin[1]);
        }
    }
    text
}

fn quality_calibration(
    engine: &InProcess,
    pictures: usize,
    subjects: usize,
    failures: Failures,
    options: &Options,
) -> anyhow::Result<Calibration> {
    let data = Data {
        set: "LFW (deep-funneled), View 2, folds 1 to 5, degraded step by step".to_owned(),
        description: "Press photographs of 250 x 250. One picture of each genuine pair was blurred, shrunk, darkened, brightened, covered \
            or cut in steps and matched with the untouched other one. No camera or user was involved; the limits say where \
            face_match begins to suffer, not what looks good."
            .to_owned(),
        source: "Labeled Faces in the Wild, University of Massachusetts, Amherst (Huang et al., 2007); for research, no licence for \
            products stated; used for measuring only"
            .to_owned(),
        measured_on: today().to_string(),
        subjects: subjects as u64,
        trials: BTreeMap::from([("images".to_owned(), pictures as u64)]),
        failures_to_process: failures,
    };
    let registry = &engine.engine.registry;
    let roles = [Role::FaceDetector, Role::FaceLandmarks];
    let models = registry.models().filter(|model| roles.contains(&model.entry.role));
    let calibration = Calibration {
        check: "face_quality".to_owned(),
        score_kind: "quality_0_1".to_owned(),
        direction: Direction::HigherAccepts,
        software: format!("vouch {}, ONNX Runtime {}, cpu", env!("CARGO_PKG_VERSION"), registry.runtime_version()),
        preprocessing: QUALITY_PREPROCESSING.to_owned(),
        default_operating_point: "match".to_owned(),
        models: models.map(|model| (model.entry.role.name().to_owned(), model.entry.sha256.clone())).collect(),
        data,
        operating_points: vec![OperatingPoint {
            name: "match".to_owned(),
            threshold: 0.5,
            review_threshold: Some(QUALITY_REVIEW),
            rates: BTreeMap::new(),
            limits: options.limits.iter().cloned().collect(),
            note: options.note.clone(),
        }],
        curve: None,
        fusion: None,
        age: None,
    };
    let problems = calibration.problems();
    if !problems.is_empty() {
        bail!("the calibration contradicts itself: {}; --limit and --note are needed", problems[0]);
    }
    Ok(calibration)
}

/// The day in UTC.
fn today() -> Date {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Date::of_unix_time(since_1970.as_secs())
}

/// Down to 70 % of a lower limit, or up to 130 % of an upper one, a person may look: a judgement, not measured.
const QUALITY_REVIEW: f64 = 0.35;

/// Scores, crop scale and eye distance at each step, for live frames and each attack species.
///
/// # Errors
/// As [`super::run`].
pub fn liveness_limits(dirs: &[PathBuf], options: &Options) -> anyhow::Result<Report> {
    let set = data_set::liveness(dirs, &[])?;
    let frames: Vec<_> = set.cases.into_iter().step_by(options.every).collect();
    let (_, point) = options.calibration("passive_liveness")?;
    let engine = InProcess::load(options.pack.as_deref())?;
    let mut text = format!("{} frames at {} ({})\n", frames.len(), point.name, point.threshold);
    let mut json =
        json!({ "frames": frames.len(), "operating_point": point.name, "threshold": point.threshold, "steps": [] });
    for &(name, unit, spoil, steps) in LIVENESS_STEPS {
        let _ = writeln!(text, "{name} {}", if unit.is_empty() { String::new() } else { format!("({unit})") });
        for &step in steps {
            let answers = in_parallel(&frames, |frame| {
                let Some(path) = frame.media.first() else { return Ok(None) };
                let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                let original = engine.picture(file);
                let found = original.found(Search::MainFace)?;
                let Some(face) = found.faces.main() else { return Ok(None) };
                let picture = engine.picture(encoded(&spoil(&found.image, &face.bounds, step))?);
                let inter_eye_px = picture.faces()?.inter_eye_px();
                anyhow::Ok(
                    picture.liveness()?.zip(inter_eye_px).map(|(score, eyes)| (score.live, score.crop_scale, eyes)),
                )
            })?;
            let mut by_kind: BTreeMap<&str, Vec<Presentation>> = BTreeMap::new();
            let (mut scales, mut eyes, mut no_face) = (Vec::new(), Vec::new(), 0);
            for (frame, answer) in frames.iter().zip(&answers) {
                let Some((score, scale, inter_eye_px)) = *answer else {
                    no_face += 1;
                    continue;
                };
                scales.push(scale);
                eyes.push(inter_eye_px);
                let Truth::Presentation { species, subject } = &frame.trial.truth else { continue };
                let kind = species.as_deref().unwrap_or("live");
                by_kind.entry(kind).or_default().push(Presentation { subject: subject.clone(), score });
            }
            let median = |mut values: Vec<f64>| {
                values.sort_by(f64::total_cmp);
                quantile(&values, 0.5).unwrap_or(f64::NAN)
            };
            let (scale, eyes) = (median(scales), median(eyes));
            let _ =
                writeln!(text, "  {step}: crop_scale {scale:.2}, inter_eye_px {eyes:.1} (medians), no face {no_face}");
            let sorted = |kind: &str| {
                SortedScores::new(by_kind.get(kind).into_iter().flatten().map(|shown| shown.score).collect())
            };
            let mut kinds = serde_json::Map::new();
            for (kind, shown) in &by_kind {
                let is_live = *kind == "live";
                let rate = rate_by_subject(shown, |score| (score >= point.threshold) != is_live);
                let eer = (!is_live).then(|| equal_error_rate(&sorted("live"), &sorted(kind))).flatten();
                let middle = median(shown.iter().map(|shown| shown.score).collect());
                let term = if is_live { "BPCER" } else { "APCER" };
                let _ = write!(text, "    {kind}: {term} {}, median score {middle:.3}", percent(&rate));
                let _ =
                    writeln!(text, "{}", eer.map_or(String::new(), |eer| format!(", EER {:.1} %", eer.rate * 100.0)));
                kinds.insert(
                    (*kind).to_owned(),
                    json!({ "rate": rate, "median": middle, "eer": eer.map(|eer| eer.rate) }),
                );
            }
            if let Some(all) = json["steps"].as_array_mut() {
                all.push(json!({
                    "kind": name, "step": step, "crop_scale": scale, "inter_eye_px": eyes, "no_face": no_face, "kinds": kinds,
                }));
            }
        }
    }
    Ok(Report { text, json, calibration: None })
}

fn blurred(image: &Image, bounds: &Bounds, sigma: f64) -> Image {
    let Some(pixels) = RgbImage::from_raw(image.width, image.height, image.rgb.to_vec()) else { return image.clone() };
    let pixels = blur(&pixels, (sigma * bounds.width) as f32);
    Image::build(image.width, image.height, |rgb| rgb.copy_from_slice(&pixels))
}

fn shrunk(image: &Image, _: &Bounds, divisor: f64) -> Image {
    let side = |length: u32| (f64::from(length) / divisor).round().max(1.0) as u32;
    resize(image, side(image.width), side(image.height))
}

fn gained(image: &Image, _: &Bounds, gain: f64) -> Image {
    Image::build(image.width, image.height, |rgb| {
        for (to, from) in rgb.iter_mut().zip(image.rgb.iter()) {
            *to = (f64::from(*from) * gain).round().min(255.0) as u8;
        }
    })
}

/// A grey area over the lower `share` of the face, as a scarf or a hand would lie.
fn covered(image: &Image, bounds: &Bounds, share: f64) -> Image {
    let top = bounds.y + bounds.height * (1.0 - share);
    let rows = top.max(0.0) as u32..((bounds.y + bounds.height * 1.1).max(0.0) as u32).min(image.height);
    let columns = bounds.x.max(0.0) as u32..((bounds.x + bounds.width).max(0.0) as u32).min(image.width);
    Image::build(image.width, image.height, |rgb| {
        rgb.copy_from_slice(&image.rgb);
        for y in rows {
            for x in columns.clone() {
                let at = (y as usize * image.width as usize + x as usize) * 3;
                rgb[at..at + 3].fill(128);
            }
        }
    })
}

/// The part of the picture to the right of a line through the face.
fn cut(image: &Image, bounds: &Bounds, share: f64) -> Image {
    let left = (bounds.x + bounds.width * share).clamp(0.0, f64::from(image.width) - 1.0) as u32;
    part(image, [left, 0], [image.width - left, image.height])
}

/// A square around the face, `side` heights of it, shifted to lie inside the frame.
fn cropped(image: &Image, bounds: &Bounds, side: f64) -> Image {
    let length = (bounds.height * side).round().min(f64::from(image.width.min(image.height))).max(1.0);
    let [x, y] = bounds.centre();
    let start = |centre: f64, whole: u32| (centre - length / 2.0).clamp(0.0, f64::from(whole) - length) as u32;
    part(image, [start(x, image.width), start(y, image.height)], [length as u32; 2])
}

fn part(image: &Image, [left, top]: [u32; 2], [width, height]: [u32; 2]) -> Image {
    Image::build(width, height, |rgb| {
        for (row, to) in rgb.chunks_exact_mut(width as usize * 3).enumerate() {
            let from = ((top as usize + row) * image.width as usize + left as usize) * 3;
            to.copy_from_slice(&image.rgb[from..from + width as usize * 3]);
        }
    })
}
