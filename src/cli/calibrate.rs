//! `vouch calibrate`: a calibration file from the scores that `vouch evaluate --scores` kept.
//!
//! Reads the scores, fits, shows what would change for the operating points in use, and writes the file whole or not at all. The fitting is
//! [`crate::evaluation::calibrate`]; needs no daemon. The daemon takes the file at its next start, and refuses to decide by it with other models.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::connect::Failure;
use super::evaluate::all_pairs::{Vectors, vectors};
use super::evaluate::{check_folder, write_whole};
use crate::calibration::Calibration;
use crate::calibration::fusion::Fusion;
use crate::calibration::impostors::ImpostorScores;
use crate::evaluation::calibrate::{MoreImpostors, Sample, Wanted, calibrate};
use crate::evaluation::report::{html, text};
use crate::evaluation::scores::Scores;
use crate::evaluation::{Question, data_set};

#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Scores of `vouch evaluate face-match`, `liveness` or `age`
    #[arg(long, value_name = "FILE")]
    scores: PathBuf,
    /// The calibration file to write; its name is that of the check, such as calibration/face_match.toml
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The calibration in use, for its limits and to show what changes [default: the file at --out, if there is one]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Of a face match: the table of the evaluation; each picture is compared with those of all other persons, in this process
    #[arg(long, value_name = "CSV")]
    all_pairs: Option<PathBuf>,
    /// With --all-pairs: the model pack [default: where the daemon looks for it]
    #[arg(long, value_name = "DIR", requires = "all_pairs")]
    pack: Option<PathBuf>,
    /// Measurements to make the score of, such as cosine_a,cosine_b [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    fuse: Vec<String>,
    /// The default operating point, such as fmr_1e-4
    #[arg(long, value_name = "NAME")]
    default: Option<String>,
    /// Send scores below a threshold to REVIEW down to this rate of false accepts
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    review_rate: Option<f64>,
    /// A limit on a measurement for every operating point, such as inter_eye_px_min=10; may be repeated
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = parse_limit)]
    limits: Vec<(String, f64)>,
    /// A remark on every operating point, such as how the limits were found
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Write what is printed as a page too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok().filter(|rate| (0.0..1.0).contains(rate));
    rate.ok_or_else(|| "expected a rate from 0 to 1".into())
}

fn parse_limit(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if !crate::checks::is_limit(name) {
        return Err(format!("{name} is no limit of any check"));
    }
    let value: Option<f64> = value.parse().ok().filter(|value: &f64| value.is_finite());
    Ok((name.to_owned(), value.ok_or("expected a number after =")?))
}

/// The identity vectors of a data set as impostors beyond its pairs.
struct AllPairs(Vectors);

impl MoreImpostors for AllPairs {
    fn all(&self, fusion: &Fusion) -> Result<ImpostorScores, String> {
        self.0.impostors(fusion).map_err(|failure| failure.to_string())
    }

    fn some(&self, names: &[&str], count: usize) -> Sample {
        self.0.some_impostors(names, count)
    }
}

/// Makes a calibration file.
///
/// # Errors
/// Scores that cannot be used or bear no calibration; a file that cannot be written.
pub fn run(args: &CalibrateArgs) -> Result<u8, Failure> {
    let scores = Scores::read(&args.scores)?;
    let check = scores.header.question.check().unwrap_or_default();
    let name = format!("{check}.toml");
    if !check.is_empty() && args.out.file_name().and_then(|name| name.to_str()) != Some(&name) {
        return Err(Failure::BadInput(format!("--out {}: the file must be named {name}", args.out.display())));
    }
    for path in [Some(&args.out).filter(|_| !args.dry_run), args.html.as_ref()].into_iter().flatten() {
        check_folder(path)?;
    }
    let load = |path: &PathBuf| {
        let unreadable = |error: std::io::Error| Failure::File { path: path.clone(), reason: error.to_string() };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        // A copy of the file in use may have any name.
        let named = Path::new(&name).to_owned();
        Calibration::parse(&text, &named).map_err(|error| Failure::BadInput(format!("{}: {error}", path.display())))
    };
    let base = match &args.base {
        Some(path) => Some(load(path)?),
        None if args.out.exists() => Some(load(&args.out)?),
        None => None,
    };
    let all_pairs = match &args.all_pairs {
        Some(_) if scores.header.question != Question::FaceMatch => {
            return Err(Failure::BadInput("--all-pairs is for scores of a face match".into()));
        }
        Some(pairs) => {
            let set = data_set::face_match(pairs)?;
            if set.sha256() != scores.header.data.sha256 {
                let reason = format!("{} is not the table that the scores are of", pairs.display());
                return Err(Failure::BadInput(reason));
            }
            let vectors = vectors(&set, args.pack.as_deref())?;
            vectors.agree_with_measurements(&set, &scores)?;
            Some(AllPairs(vectors))
        }
        None => None,
    };
    let wanted = Wanted {
        date: super::today().to_string(),
        default: args.default.clone(),
        review_rate: args.review_rate,
        limits: args.limits.clone(),
        note: args.note.clone(),
        fuse: args.fuse.clone(),
        base,
    };
    let more = all_pairs.as_ref().map(|all| all as &dyn MoreImpostors);
    let made =
        calibrate(&scores, &wanted, more).map_err(|reason| Failure::BadInput(format!("no calibration: {reason}")))?;
    let toml = made.calibration.to_toml();
    // What the daemon would refuse is not written.
    Calibration::parse(&toml, &args.out).map_err(|error| Failure::BadInput(error.to_string()))?;
    if !args.dry_run {
        write_whole(&args.out, toml.as_bytes())?;
    }
    if let Some(path) = &args.html {
        write_whole(path, html::render(&made.document).as_bytes())?;
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text::render(&made.document).as_bytes())?;
    let done = if args.dry_run { "would be written" } else { "is written; the daemon takes it at its next start" };
    writeln!(stdout, "{} {done}", args.out.display())?;
    Ok(0)
}
