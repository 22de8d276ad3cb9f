//! What poor pictures do to the checks: the tables from which the limits in `face_quality` and `passive_liveness` were read off.
//!
//! `cargo bench --bench accuracy -- quality|liveness_limits DATA`, see README.md beside this file. Pictures are degraded on purpose, step by step, which
//! the daemon cannot be asked for: the same engine runs in this process. Error rates on labelled data as they are come from `vouch
//! evaluate`, calibration files from `vouch calibrate`.

mod degrade;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use vouch::calibration::{Calibration, OperatingPoint};

/// What poor pictures do to the checks.
#[derive(Debug, Parser)]
#[command(name = "accuracy")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What blur, small size, bad light, cover and pose do to the match, for the limits of face_quality. PAIRS as for `vouch evaluate face-match`.
    Quality {
        pairs: PathBuf,
        #[command(flatten)]
        options: Options,
    },
    /// What tight frames and small faces do to the liveness score, for its limits. DIRs as for `vouch evaluate liveness`.
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
    /// The model pack.
    #[arg(long)]
    pack: Option<PathBuf>,
    /// The directory of the calibration whose default operating point is applied.
    #[arg(long, default_value = "calibration")]
    calibration: PathBuf,
    /// Writes every figure here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// `quality` only: writes face_quality.toml here.
    #[arg(long)]
    fit: Option<PathBuf>,
    /// NAME=VALUE: a limit on a measurement that the calibration file gets; may be repeated.
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = parse_limit)]
    limits: Vec<(String, f64)>,
    /// A remark on the operating point of the calibration file, such as how the limits were found.
    #[arg(long)]
    note: Option<String>,
    /// Takes every N-th trial only.
    #[arg(long, default_value_t = 1)]
    every: usize,
}

impl Options {
    /// The calibration in `--calibration` and its default operating point.
    ///
    /// # Errors
    /// If there is none.
    fn calibration(&self, check: &str) -> anyhow::Result<(Calibration, OperatingPoint)> {
        let calibration = Calibration::load(&self.calibration.join(format!("{check}.toml")))?;
        let point = calibration.operating_point("").cloned();
        Ok((calibration, point.with_context(|| format!("{check} has no default operating point"))?))
    }
}

fn parse_limit(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    let value = value.parse().map_err(|_| format!("{value} is not a number"))?;
    Ok((name.to_owned(), value))
}

/// What a measurement found.
#[derive(Debug)]
struct Report {
    /// For a person.
    text: String,
    /// The same figures and more.
    json: serde_json::Value,
    /// The calibration asked for with `--fit`.
    calibration: Option<Calibration>,
}

fn main() -> ExitCode {
    // Cargo passes --bench to every bench target, and runs this one without any further argument in a plain `cargo bench`.
    let arguments: Vec<OsString> = env::args_os().filter(|argument| argument != "--bench").collect();
    if arguments.len() < 2 {
        println!("accuracy: needs labelled data, nothing measured; see benches/accuracy/README.md");
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

fn run(arguments: Vec<OsString>) -> anyhow::Result<Report> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let (Command::Quality { options, .. } | Command::LivenessLimits { options, .. }) = &arguments.command;
    if options.every == 0 {
        bail!("--every must be at least 1");
    }
    let report = match &arguments.command {
        Command::Quality { pairs, options } => degrade::quality(pairs, options),
        Command::LivenessLimits { dirs, options } => degrade::liveness_limits(dirs, options),
    }?;
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
