//! Measures the accuracy of a running daemon on labelled data and makes calibration files from it.
//!
//! `cargo bench --bench accuracy -- face_match|liveness|age DIR... --socket S`, see README.md beside this file. It talks to the
//! daemon over its socket like any other client, so that what is measured is what users get: decoding, detection, alignment
//! and all. Trials that give no score are counted by reason and reported, never dropped in silence. What the daemon cannot be asked
//! (all pairs of embeddings, pictures degraded on purpose) runs on the same engine inside this process.
//!
//! Left out: speed, and any judgement on whether the rates are good enough.

mod age;
mod daemon;
mod degrade;
mod engine;
mod face_match;
mod liveness;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use vouch::calibration::fit::{Fitted, Provenance, Target};
use vouch::calibration::{Calibration, Data, OperatingPoint, Rate, Support};

/// Accuracy of a running vouchd on labelled data.
#[derive(Debug, Parser)]
#[command(name = "accuracy")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// 1:1 match: FMR, FNMR, EER, accuracy over folds. DIR holds pairs.csv (`a,b,same,fold`, paths below DIR).
    #[command(name = "face_match")]
    FaceMatch {
        dir: PathBuf,
        /// Takes the impostor scores from all pairs of different persons, embedded in this process by the models in --pack.
        #[arg(long)]
        all_pairs: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Passive liveness: APCER by species, BPCER, EER by subject. Each DIR holds live/SUBJECT/*, SPECIES/SUBJECT/*.
    Liveness {
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// Age: MAE and bias by band, the best combination of the estimators. DIR holds ages.csv (`file,age`).
    Age {
        dir: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// What blur, small size, bad light, cover and pose do to the match, for the limits of face_quality. DIR as for face_match. No daemon.
    Quality {
        dir: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// What tight frames and small faces do to the liveness score, for its limits. DIRs as for liveness. No daemon.
    #[command(name = "liveness_limits")]
    LivenessLimits {
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// The daemon's socket.
    #[arg(long, env = "VOUCH_SOCKET", default_value = "vouchd.sock")]
    socket: PathBuf,
    /// The model pack, for what runs in this process.
    #[arg(long)]
    pack: Option<PathBuf>,
    /// The directory of the calibration whose default operating point `quality` and `liveness_limits` apply.
    #[arg(long, default_value = "calibration")]
    calibration: PathBuf,
    /// Operating point to ask the daemon for, instead of its default; not for age.
    #[arg(long, default_value = "")]
    operating_point: String,
    /// Writes every figure here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes a calibration file here; its name must be that of the check, such as calibration/face_match.toml.
    #[arg(long)]
    fit: Option<PathBuf>,
    /// Operating point to make the default of the calibration file.
    #[arg(long)]
    default: Option<String>,
    /// NAME=VALUE: a limit on a measurement that every operating point of the calibration file gets; may be repeated.
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = parse_limit)]
    limits: Vec<(String, f64)>,
    /// A remark on the operating points of the calibration file, such as how the limits were found.
    #[arg(long)]
    note: Option<String>,
    /// Rate of false accepts down to which a score below the threshold goes to REVIEW.
    #[arg(long)]
    review_rate: Option<f64>,
    /// Requests under way at once.
    #[arg(long, default_value_t = 4)]
    callers: usize,
    /// Takes every N-th trial only: for a quick look, not for figures to publish.
    #[arg(long, default_value_t = 1)]
    every: usize,
}

impl Options {
    /// Adds the limits and the note of the command line to every operating point.
    fn add_limits(&self, calibration: &mut Calibration) {
        for point in &mut calibration.operating_points {
            point.limits.extend(self.limits.iter().cloned());
            let notes: Vec<String> = point.note.take().into_iter().chain(self.note.clone()).collect();
            point.note = Some(notes.join("; ")).filter(|note| !note.is_empty());
        }
    }

    /// The default operating point of a calibration in `--calibration`.
    ///
    /// # Errors
    /// If there is none.
    fn default_point(&self, check: &str) -> anyhow::Result<OperatingPoint> {
        let calibration = Calibration::load(&self.calibration.join(format!("{check}.toml")))?;
        calibration.operating_point("").cloned().with_context(|| format!("{check} has no default operating point"))
    }
}

fn parse_limit(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    let value = value.parse().map_err(|_| format!("{value} is not a number"))?;
    Ok((name.to_owned(), value))
}

/// What a measurement found.
#[derive(Debug)]
pub struct Report {
    /// For a person.
    pub text: String,
    /// The same figures and more.
    pub json: serde_json::Value,
    /// The calibration asked for with `--fit`.
    pub calibration: Option<Calibration>,
}

fn main() -> ExitCode {
    // Cargo passes --bench to every bench target, and runs this one without any further argument in a plain `cargo bench`.
    let arguments: Vec<OsString> = env::args_os().filter(|argument| argument != "--bench").collect();
    if arguments.len() < 2 {
        println!("accuracy: needs a daemon and labelled data, nothing measured; see benches/accuracy/README.md");
        return ExitCode::SUCCESS;
    }
    match run(arguments) {
        Ok(report) => {
            print!("{}", report.text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("accuracy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Parses the command line (program name first), measures, and writes the files asked for.
///
/// # Errors
/// A data set that cannot be read, a daemon that cannot be reached, data that support no calibration.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Report> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let (Command::FaceMatch { options, .. }
    | Command::Liveness { options, .. }
    | Command::Age { options, .. }
    | Command::Quality { options, .. }
    | Command::LivenessLimits { options, .. }) = &arguments.command;
    if options.callers == 0 || options.every == 0 {
        bail!("--callers and --every must be at least 1");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let report = runtime.block_on(async {
        let daemon = || daemon::Daemon::connect(&options.socket, options.callers, options.operating_point.clone());
        match &arguments.command {
            Command::FaceMatch { dir, all_pairs, options } => {
                face_match::measure(&daemon().await?, dir, *all_pairs, options).await
            }
            Command::Liveness { dirs, options } => liveness::measure(&daemon().await?, dirs, options).await,
            Command::Age { dir, options } => age::measure(&daemon().await?, dir, options).await,
            Command::Quality { dir, options } => degrade::quality(dir, options),
            Command::LivenessLimits { dirs, options } => degrade::liveness_limits(dirs, options),
        }
    })?;
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report.json).context("cannot write the figures as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let (Some(path), Some(calibration)) = (&options.fit, &report.calibration) {
        let text = calibration.to_toml();
        // What the daemon would refuse is not written.
        Calibration::parse(&text, path)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report)
}

/// Reads a table with a header line of exactly `columns`; the data sets' names hold neither commas nor quotes.
fn read_table<const N: usize>(path: &Path, columns: [&str; N]) -> anyhow::Result<Vec<[String; N]>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, line)| line) != Some(columns.join(",").as_str()) {
        bail!("{}: the first line is not {}", path.display(), columns.join(","));
    }
    lines
        .map(|(index, line)| {
            let fields: Vec<String> = line.split(',').map(str::to_owned).collect();
            fields.try_into().map_err(|_| anyhow::anyhow!("{}:{}: not {N} fields", path.display(), index + 1))
        })
        .collect()
}

/// Today in UTC, `YYYY-MM-DD`.
fn today() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() / 86_400);
    date_of(days)
}

/// The date of a day counted from 1970-01-01, by H. Hinnant's `civil_from_days` (for days from that date on).
pub fn date_of(days: u64) -> String {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `1.23 % (95 %: 0.80–1.90, 20 of 1 500)`, with a remark where few errors stand behind it.
fn percent(rate: &Rate) -> String {
    let remark = match rate.support() {
        Support::Sufficient => "",
        Support::FewErrors => ", fewer than 30 errors",
        Support::NoErrors => ", no error seen",
    };
    // Rates below a thousandth need more digits to be told apart.
    let digits = if rate.value > 0.0 && rate.value < 1e-3 { 4 } else { 2 };
    let [value, low, high] = [rate.value, rate.low_95, rate.high_95].map(|rate| format!("{:.digits$}", rate * 100.0));
    format!("{value} % (95 %: {low}–{high}, {} of {}{remark})", rate.errors, rate.trials)
}

fn rate_json(rate: &Rate) -> serde_json::Value {
    serde_json::json!({
        "value": rate.value, "low_95": rate.low_95, "high_95": rate.high_95, "errors": rate.errors, "trials": rate.trials,
    })
}

/// Reason to number of trials.
type Failures = BTreeMap<String, u64>;

/// `PASS 10, REVIEW 2`.
fn outcomes_text(outcomes: &BTreeMap<String, u64>) -> String {
    outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect::<Vec<_>>().join(", ")
}

fn failures_text(failures: &Failures, trials: usize) -> String {
    let total: u64 = failures.values().sum();
    let mut text = format!("failures to process: {}\n", percent(&Rate::wilson(total, trials as u64)));
    for (reason, count) in failures {
        let _ = writeln!(text, "  {reason}: {count}");
    }
    text
}

/// The targets with the default one first, as `fit` wants them.
fn targets(
    prefix: &str,
    rates: &[(&str, f64)],
    default: &str,
    review_rate: Option<f64>,
) -> anyhow::Result<Vec<Target>> {
    let mut targets: Vec<Target> = rates
        .iter()
        .map(|(name, rate)| Target {
            name: format!("{prefix}_{name}"),
            rate: *rate,
            review_rate: review_rate.filter(|review| review > rate),
        })
        .collect();
    let Some(index) = targets.iter().position(|target| target.name == default) else {
        let known: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        bail!("--default {default}: not one of {}", known.join(", "));
    };
    targets.swap(0, index);
    Ok(targets)
}

fn fitted_text(fitted: &Fitted) -> String {
    let mut text = String::from("operating points:\n");
    for point in &fitted.calibration.operating_points {
        let _ = writeln!(text, "  {} at {:.4}", point.name, point.threshold);
        for (name, rate) in &point.rates {
            let _ = writeln!(text, "    {} {}", name.to_uppercase(), percent(rate));
        }
    }
    for (name, reason) in &fitted.refused {
        let _ = writeln!(text, "  {name} refused: {reason}");
    }
    text
}

/// What every calibration file made here says of its origin.
fn provenance(check: &str, measured: &daemon::Measured, preprocessing: &str, data: Data) -> Provenance {
    Provenance {
        check: check.to_owned(),
        score_kind: measured.score_kind.clone(),
        software: format!("vouch {}, ONNX Runtime {}, {}", measured.version, measured.runtime, measured.device),
        preprocessing: preprocessing.to_owned(),
        models: measured.models.clone(),
        data,
    }
}
