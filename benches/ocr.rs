//! How well lines are read, and how long each stage takes, with real models on one thread each.
//!
//! `cargo bench --bench ocr -- mrz DIR [LONG_SIDE_PX]` finds and reads the lines of every picture that `DIR/ground_truth.json`
//! lists (`[{"image": …, "lines": […]}]`): without repair, without grammar, what the recogniser holds for best.
//! `cargo bench --bench ocr -- lines DIR` reads the boxes of `DIR/box/*.csv` (`x1,y1,x2,y2,x3,y3,x4,y4,TEXT`) in `DIR/img`.

#[path = "models/mod.rs"]
mod models;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use models::{port, registry};

use vouch::document::ocr::{MrzRecogniser, Position, Quad, TextDetector, TextRecogniser};
use vouch::imaging::Image;
use vouch::imaging::decode::{DecodeOptions, decode};
use vouch::inference::RequestContext;
use vouch::models::manifest::Role;

/// Narrower lines than this are not read when lines of zones are wanted: the shortest have 24 characters.
const MIN_ZONE_ASPECT: f64 = 8.0;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["mrz", folder] => zones(Path::new(folder), 640),
        ["mrz", folder, side] => zones(Path::new(folder), side.parse()?),
        ["lines", folder] => lines(Path::new(folder)),
        _ => {
            println!("ocr: skipped; it needs `mrz DIR` or `lines DIR`");
            Ok(())
        }
    }
}

fn picture(path: &Path) -> anyhow::Result<Image> {
    Ok(decode(&std::fs::read(path)?, &DecodeOptions::default())?.image)
}

/// Median and 95th percentile.
fn in_ms(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("median {:.1} ms, 95 % {:.1} ms ({} runs)", at(50), at(95), times.len())
}

fn zones(folder: &Path, long_side_px: u32) -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Truth {
        image: String,
        lines: Vec<String>,
    }
    let truths: Vec<Truth> = serde_json::from_slice(&std::fs::read(folder.join("ground_truth.json"))?)?;
    let started = Instant::now();
    let registry = registry()?;
    println!("all models loaded in {} ms", started.elapsed().as_millis());
    let detector = TextDetector::new(port(&registry, Role::TextDetector)?);
    let recogniser = MrzRecogniser::new(port(&registry, Role::MrzRecogniser)?);
    let context: Arc<RequestContext> = Arc::default();
    let (mut finding, mut reading) = (Vec::new(), Vec::new());
    let (mut count, mut exact, mut listed, mut lost, mut whole) = (0, 0, 0, 0, 0);
    for truth in &truths {
        let picture = picture(&folder.join(&truth.image))?;
        let started = Instant::now();
        let found = detector.find(&picture, long_side_px, &context)?;
        finding.push(started.elapsed());
        let mut readings: Vec<Vec<Position>> = Vec::new();
        for line in found.iter().filter(|line| line.size()[0] >= MIN_ZONE_ASPECT * line.size()[1]) {
            for line in [*line, line.turned()] {
                let started = Instant::now();
                readings.push(recogniser.read(&picture, &line.capitals(), &context)?.as_read());
                reading.push(started.elapsed());
            }
        }
        let mut all = true;
        for wanted in &truth.lines {
            let wanted: Vec<char> = wanted.chars().collect();
            let best = |positions: &Vec<Position>| positions.iter().map(Position::best).collect::<Vec<_>>();
            let distance = |positions: &&Vec<Position>| edits(&best(positions), &wanted);
            let nearest = readings.iter().min_by_key(distance);
            let errors = nearest.as_ref().map_or(wanted.len(), distance);
            count += 1;
            exact += usize::from(errors == 0);
            all &= errors == 0;
            lost += usize::from(errors * 5 > wanted.len() * 2);
            listed += usize::from(nearest.is_some_and(|positions| {
                let known = |(position, &wanted): (&Position, &char)| position.probability(wanted) > 0.0;
                positions.len() == wanted.len() && positions.iter().zip(&wanted).all(known)
            }));
        }
        whole += usize::from(all);
    }
    println!("lines exact {exact} of {count}, with the printed characters all listed {listed}, not found {lost}");
    println!("pictures with all lines exact {whole} of {}", truths.len());
    println!("find at {long_side_px}: {}", in_ms(finding));
    println!("read a line: {}", in_ms(reading));
    Ok(())
}

fn lines(folder: &Path) -> anyhow::Result<()> {
    let registry = registry()?;
    let recogniser = TextRecogniser::new(port(&registry, Role::TextRecogniser)?);
    let context: Arc<RequestContext> = Arc::default();
    let (mut errors, mut errors_caseless, mut characters, mut exact, mut count) = (0, 0, 0, 0, 0);
    let mut reading = Vec::new();
    let mut boxes: Vec<_> = std::fs::read_dir(folder.join("box"))?.collect::<Result<_, _>>()?;
    boxes.sort_by_key(std::fs::DirEntry::path);
    for file in boxes {
        let name = file.path().with_extension("jpg");
        let picture = picture(&folder.join("img").join(name.file_name().unwrap_or_default()))?;
        for row in std::fs::read_to_string(file.path())?.lines() {
            let fields: Vec<&str> = row.splitn(9, ',').collect();
            let [corners @ .., wanted] = &fields[..] else { continue };
            let numbers: Vec<f64> = corners.iter().filter_map(|field| field.trim().parse().ok()).collect();
            let [a, b, c, d, e, f, g, h] = numbers[..] else { continue };
            let quad: Quad = [[a, b], [c, d], [e, f], [g, h]];
            let started = Instant::now();
            let line = recogniser.read(&picture, &quad, &context)?;
            reading.push(started.elapsed());
            let letters = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).collect::<Vec<_>>();
            let (found, wanted) = (line.text, wanted.trim());
            let (with_case, caseless) = (
                edits(&letters(&found), &letters(wanted)),
                edits(&letters(&found.to_uppercase()), &letters(&wanted.to_uppercase())),
            );
            errors += with_case;
            errors_caseless += caseless;
            characters += letters(wanted).len();
            exact += usize::from(caseless == 0);
            count += 1;
        }
    }
    let rate = |errors: usize| 100.0 * errors as f64 / characters.max(1) as f64;
    println!("lines exact but for case and spaces {exact} of {count}");
    println!(
        "character errors {:.2} %, without case {:.2} % (spaces not counted)",
        rate(errors),
        rate(errors_caseless)
    );
    println!("read a line: {}", in_ms(reading));
    Ok(())
}

/// Levenshtein distance.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
