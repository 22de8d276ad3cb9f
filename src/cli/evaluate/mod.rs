//! `vouch evaluate`: how right the daemon is on the customer's own labelled data.
//!
//! Reads the labels, asks the daemon, writes figures as JSON and as a page to keep. What was answered is kept in a file beside the
//! results while the run goes on, so that the same command goes on where it was interrupted; results are moved in place when they are
//! whole, and only then. The figures are made by [`crate::evaluation`].

pub mod all_pairs;
pub mod ask;
pub mod engine;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::connect::{Failure, Target, connect, parse_duration, status};
use crate::api::proto::GetStatusResponse;
use crate::calibration::impostors::ImpostorScores;
use crate::checks;
use crate::evaluation::data_set::{self, DataSet};
use crate::evaluation::report::{html, text};
use crate::evaluation::scores::{DaemonDescription, DataDescription, FORMAT, Header, Log, PointInUse, Scored, Scores};
use crate::evaluation::summary::{Circumstances, Evaluation};
use crate::evaluation::{DataError, Question, age, compare, face_match, latency, liveness, reading};
use crate::models::manifest::Role;

/// What to evaluate.
#[derive(Debug, Subcommand)]
pub enum EvaluateCommand {
    /// 1:1 match: FMR, FNMR, TAR at an FMR, EER, accuracy over folds, differences between groups
    FaceMatch(FaceMatchArgs),
    /// Passive liveness: APCER of each attack species, BPCER, by threshold and by subject
    Liveness(LivenessArgs),
    /// Age: MAE, bias by band, and what age gates let pass
    Age(AgeArgs),
    /// Machine-readable zones: exact zones, lines and characters, and what is wrong with all check digits right
    Mrz(MrzArgs),
    /// Barcodes: decoded, and found where there is none
    Barcode(BarcodeArgs),
    /// Fields of documents: right, wrong, missing
    Document(DocumentArgs),
    /// How long whole verifications take
    Latency(LatencyArgs),
}

#[derive(Debug, Args)]
pub struct FaceMatchArgs {
    /// Table with a header: a,b,same[,fold][,subject_a,subject_b][,any group]; pictures lie below its folder
    #[arg(long, value_name = "CSV")]
    pairs: PathBuf,
    /// Compare each picture with those of all other persons too, by the models of the pack in this process
    #[arg(long)]
    all_pairs: bool,
    #[command(flatten)]
    engine: all_pairs::EngineArgs,
    /// Decide by this operating point instead of the daemon's default
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    operating_point: String,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub struct LivenessArgs {
    /// Folders with live/SUBJECT/* and SPECIES/SUBJECT/*, or such a class folder itself
    #[arg(long, value_name = "DIR", num_args = 1.., required = true)]
    dir: Vec<PathBuf>,
    /// What a folder's attacks are called, such as spoof=screen_replay; may be repeated [default: the folder's name]
    #[arg(long, value_name = "FOLDER=SPECIES", value_parser = parse_species)]
    species: Vec<(String, String)>,
    /// Decide by this operating point instead of the daemon's default
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    operating_point: String,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub struct AgeArgs {
    /// Table with a header: file,age[,subject][,any group]; pictures lie below its folder
    #[arg(long, value_name = "CSV")]
    labels: PathBuf,
    /// The age that a gate is to keep
    #[arg(long, value_name = "YEARS", default_value_t = age::DEFAULT_MINIMUM_AGE, value_parser = parse_age)]
    minimum_age: f64,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub struct MrzArgs {
    /// JSON list of {"image", "lines"[, "format"]}; pictures lie below its folder
    #[arg(long, value_name = "JSON")]
    truth: PathBuf,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub struct BarcodeArgs {
    /// Folder of pictures, each with its payload beside it as NAME.txt or NAME.bin; without one it shows no symbol
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub struct DocumentArgs {
    /// Truth as `vouch specimen` writes it, or a folder of such files
    #[arg(long, value_name = "JSON|DIR")]
    truth: PathBuf,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
pub struct LatencyArgs {
    /// Folder of selfies, or with selfie/ and document/ below
    #[arg(long, value_name = "DIR")]
    media: PathBuf,
    /// Verify everything so often
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    #[command(flatten)]
    run: RunArgs,
}

/// Options of every evaluation.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Write the figures here as JSON (docs/evaluation.md lists the keys)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report here: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Keep every trial's score here, for `vouch calibrate`
    #[arg(long, value_name = "FILE")]
    scores: Option<PathBuf>,
    /// Set another result, written with --json, beside this one
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Name of the data set [default: that of its folder]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// What the data show and how they differ from use, for the report
    #[arg(long, value_name = "TEXT", default_value = "not described")]
    description: String,
    /// Where the data come from, for the report
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    source: String,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    callers: u16,
    /// Take every N-th trial only: for a quick look, not for figures to keep
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Begin anew where an interrupted run left answers
    #[arg(long)]
    restart: bool,
    /// How long one answer may take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
}

fn parse_age(text: &str) -> Result<f64, String> {
    let age: Option<f64> = text.parse().ok().filter(|age| (1.0..100.0).contains(age));
    age.ok_or_else(|| "expected years from 1 to 99".into())
}

fn parse_species(text: &str) -> Result<(String, String), String> {
    let (folder, species) = text.split_once('=').ok_or("expected FOLDER=SPECIES")?;
    Ok((folder.to_owned(), species.to_owned()))
}

impl EvaluateCommand {
    pub fn run_args(&self) -> &RunArgs {
        match self {
            Self::FaceMatch(args) => &args.run,
            Self::Liveness(args) => &args.run,
            Self::Age(args) => &args.run,
            Self::Mrz(args) => &args.run,
            Self::Barcode(args) => &args.run,
            Self::Document(args) => &args.run,
            Self::Latency(args) => &args.run,
        }
    }

    fn data_set(&self) -> Result<DataSet, DataError> {
        let set = match self {
            Self::FaceMatch(args) => data_set::face_match(&args.pairs),
            Self::Liveness(args) => data_set::liveness(&args.dir, &args.species),
            Self::Age(args) => data_set::age(&args.labels),
            Self::Mrz(args) => data_set::mrz(&args.truth),
            Self::Barcode(args) => data_set::barcode(&args.dir),
            Self::Document(args) => data_set::document(&args.truth),
            Self::Latency(args) => data_set::latency(&args.media).map(|set| set.repeated(args.rounds as usize)),
        }?;
        Ok(set.thinned(self.run_args().every as usize))
    }

    fn operating_point(&self) -> &str {
        match self {
            Self::FaceMatch(args) => &args.operating_point,
            Self::Liveness(args) => &args.operating_point,
            Self::Age(_) | Self::Mrz(_) | Self::Barcode(_) | Self::Document(_) | Self::Latency(_) => "",
        }
    }
}

/// Runs an evaluation.
///
/// # Errors
/// Labels that cannot be used, a daemon that cannot be reached, results that cannot be written. Answers that came are kept then.
pub async fn run(command: &EvaluateCommand, target: &Target) -> Result<u8, Failure> {
    let args = command.run_args();
    let set = command.data_set()?;
    let other = args.compare.as_deref().map(read_result).transpose()?;
    if let Some(other) = &other {
        compare::check(other, set.question)?;
    }
    let results: Vec<&PathBuf> = [&args.json, &args.html, &args.scores].into_iter().flatten().collect();
    for (index, path) in results.iter().enumerate() {
        check_folder(path)?;
        if results[..index].contains(path) {
            return Err(Failure::BadInput(format!("{}: two results cannot go into one file", path.display())));
        }
    }
    let client = connect(target).await?;
    let mut header = header(command, &set, &status(target).await?)?;
    let partial = args.partial();
    let (known, mut log) = match &partial {
        Some(path) => open_log(path, &mut header, args.restart)?,
        None => (Vec::new(), None),
    };

    let asking = ask::Asking {
        target: target.clone(),
        question: set.question,
        operating_point: command.operating_point().to_owned(),
        minimum_age: match command {
            EvaluateCommand::Age(args) => Some(args.minimum_age),
            _ => None,
        },
        callers: usize::from(args.callers),
        show_progress: std::io::stderr().is_terminal(),
    };
    let mut answered: BTreeMap<usize, Scored> = known.into_iter().map(|scored| (scored.trial.index, scored)).collect();
    let was_resumed = !answered.is_empty();
    let missing = set.cases.iter().filter(|case| !answered.contains_key(&case.trial.index)).cloned().collect();
    let started = Instant::now();
    let done = answered.len();
    let keep = |scored: Scored| {
        if let Some(log) = &mut log {
            log.add(&scored).map_err(|error| unwritable(partial.as_deref(), &error))?;
        }
        answered.insert(scored.trial.index, scored);
        Ok(())
    };
    let outcome = ask::ask_all(&client, &asking, missing, done, keep).await;
    drop(log);
    if let Err(failure) = outcome {
        if let Some(path) = partial.as_deref().filter(|path| path.exists()) {
            eprintln!("the answers so far are kept in {}; the same command goes on from there", path.display());
        }
        return Err(failure);
    }
    let seconds = (!was_resumed).then(|| started.elapsed().as_secs_f64());
    // The same daemon with the same models and calibration to the end, or the scores do not belong together.
    if self::header(command, &set, &status(target).await?)?.daemon != header.daemon {
        return Err(Failure::BadInput(
            "the daemon's models or calibration changed during the run; begin anew with --restart".into(),
        ));
    }
    let scores = Scores { header, scored: answered.into_values().collect() };
    let date = scores.header.date.clone();
    let circumstances = Circumstances { date: &date, callers: usize::from(args.callers), seconds };
    let all_pairs = match command {
        EvaluateCommand::FaceMatch(args) if args.all_pairs => Some(compare_all(&set, &scores, &args.engine).await?),
        _ => None,
    };
    let mut evaluation = figures(command, &scores, &circumstances, all_pairs.as_ref());
    if let Some(other) = &other {
        evaluation.document.sections.insert(0, compare::compare(&evaluation.json, other));
    }
    write_results(args, &scores, &evaluation)?;
    if let Some(partial) = &partial {
        // Whole now, as --scores or in the figures.
        let _ = std::fs::remove_file(partial);
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text::render(&evaluation.document).as_bytes())?;
    Ok(0)
}

/// Compares all pairs on threads of their own, so that Ctrl-C still ends the command.
async fn compare_all(
    set: &DataSet,
    scores: &Scores,
    engine: &all_pairs::EngineArgs,
) -> Result<ImpostorScores, Failure> {
    let total = scores.scored.len();
    let (set, scores, engine) = (set.clone(), scores.clone(), engine.clone());
    let compared = tokio::task::spawn_blocking(move || all_pairs::scores(&set, &scores, &engine));
    tokio::select! {
        compared = compared => compared.unwrap_or_else(|_| Err(Failure::BadInput("the comparison panicked".into()))),
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted { done: total, total }),
    }
}

fn figures(
    command: &EvaluateCommand,
    scores: &Scores,
    circumstances: &Circumstances<'_>,
    all_pairs: Option<&ImpostorScores>,
) -> Evaluation {
    match command {
        EvaluateCommand::FaceMatch(_) => face_match::evaluate(scores, circumstances, all_pairs),
        EvaluateCommand::Liveness(_) => liveness::evaluate(scores, circumstances),
        EvaluateCommand::Age(args) => age::evaluate(scores, circumstances, args.minimum_age),
        EvaluateCommand::Mrz(_) | EvaluateCommand::Barcode(_) | EvaluateCommand::Document(_) => {
            reading::evaluate(scores, circumstances)
        }
        EvaluateCommand::Latency(_) => latency::evaluate(scores, circumstances),
    }
}

impl RunArgs {
    /// Where answers are kept while a run goes on: beside the first result that was asked for.
    fn partial(&self) -> Option<PathBuf> {
        let result = [&self.scores, &self.json, &self.html].into_iter().flatten().next()?;
        let mut name = result.as_os_str().to_owned();
        name.push(".partial");
        Some(name.into())
    }
}

/// What is asked of whom, for the scores file.
fn header(command: &EvaluateCommand, set: &DataSet, status: &GetStatusResponse) -> Result<Header, Failure> {
    let args = command.run_args();
    let roles: Vec<&str> = match set.question {
        Question::FaceMatch | Question::Liveness | Question::Age | Question::Mrz | Question::Document => {
            let name = set.question.check().unwrap_or_else(|| set.question.as_str());
            checks::find(name).map_or(Vec::new(), |check| check.roles().iter().map(|role| role.name()).collect())
        }
        Question::Barcode => Vec::new(),
        Question::Latency => Role::ALL.iter().map(|role| role.name()).collect(),
    };
    let check = set.question.check().and_then(|name| status.checks.iter().find(|check| check.name == name));
    let operating_points: Vec<PointInUse> = check
        .map_or(&[][..], |check| &check.operating_points)
        .iter()
        .map(|point| PointInUse {
            name: point.name.clone(),
            threshold: point.threshold,
            rates: point.rates.iter().map(|(name, rate)| (name.clone(), *rate)).collect(),
        })
        .collect();
    let asked = command.operating_point();
    if !asked.is_empty() && !operating_points.iter().any(|point| point.name == asked) {
        let known: Vec<&str> = operating_points.iter().map(|point| point.name.as_str()).collect();
        return Err(Failure::BadInput(format!("--operating-point {asked}: the daemon has {}", known.join(", "))));
    }
    let default = check.map_or("", |check| check.default_operating_point.as_str());
    let point = if asked.is_empty() { default } else { asked };
    let mut options = BTreeMap::new();
    match command {
        EvaluateCommand::Age(age) => drop(options.insert("minimum age".to_owned(), age.minimum_age.to_string())),
        // Times depend on it, and scores do not.
        EvaluateCommand::Latency(_) => drop(options.insert("callers".to_owned(), args.callers.to_string())),
        _ => {}
    }
    if !point.is_empty() {
        options.insert("operating point".to_owned(), point.to_owned());
    }
    Ok(Header {
        vouch_scores: FORMAT,
        question: set.question,
        date: super::today().to_string(),
        data: DataDescription {
            name: args.name.clone().unwrap_or_else(|| set.name.clone()),
            description: args.description.clone(),
            source: args.source.clone(),
            trials: set.cases.len(),
            sha256: set.sha256(),
            remarks: set.remarks.clone(),
        },
        daemon: DaemonDescription {
            version: status.version.clone(),
            runtime: status.runtime_version.clone(),
            device: status.device_in_use.clone(),
            models: status
                .models
                .iter()
                .filter(|model| roles.contains(&model.role.as_str()))
                .map(|model| (model.role.clone(), model.sha256.clone()))
                .collect(),
            calibration_sha256: check.map_or_else(String::new, |check| check.calibration_sha256.clone()),
            default_operating_point: point.to_owned(),
            operating_points,
        },
        options,
    })
}

/// Opens the file of an interrupted run of the same question, data and daemon, or begins one.
fn open_log(path: &Path, header: &mut Header, restart: bool) -> Result<(Vec<Scored>, Option<Log>), Failure> {
    let unwritable = |error: std::io::Error| unwritable(Some(path), &error);
    if restart {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(error)),
            _ => {}
        }
    }
    if !path.exists() {
        return Ok((Vec::new(), Some(Log::begin(path, header).map_err(unwritable)?)));
    }
    let scores =
        Scores::read(path).map_err(|error| Failure::BadInput(format!("{error}; begin anew with --restart")))?;
    header.date.clone_from(&scores.header.date);
    if scores.header != *header {
        let differs = [
            ("question", scores.header.question != header.question),
            ("data", scores.header.data != header.data),
            ("daemon (version, models or calibration)", scores.header.daemon != header.daemon),
            ("options", scores.header.options != header.options),
        ];
        let differs: Vec<&str> = differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect();
        return Err(Failure::BadInput(format!(
            "{} holds an interrupted run with another {}; begin anew with --restart, or take other file names",
            path.display(),
            differs.join(" and another ")
        )));
    }
    eprintln!("{} of {} answers are there already; going on", scores.scored.len(), header.data.trials);
    let log = Log::resume(path, &scores).map_err(unwritable)?;
    Ok((scores.scored, Some(log)))
}

fn unwritable(path: Option<&Path>, error: &std::io::Error) -> Failure {
    Failure::Unwritable { path: path.map_or_else(PathBuf::new, Path::to_owned), reason: error.to_string() }
}

/// A result that cannot be written is better known before an hour of asking.
///
/// # Errors
/// [`Failure::Unwritable`].
pub fn check_folder(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let reason = if path.is_dir() {
        "is a directory".to_owned()
    } else {
        // A file that is gone at once: whether one can be made, by the only way that is sure.
        match tempfile::NamedTempFile::new_in(folder) {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        }
    };
    Err(Failure::Unwritable { path: path.to_owned(), reason })
}

fn read_result(path: &Path) -> Result<Value, Failure> {
    let text = std::fs::read(path).map_err(|error| DataError::Missing(vec![format!("{}: {error}", path.display())]))?;
    let result = serde_json::from_slice(&text);
    Ok(result.map_err(|error| DataError::Bad(vec![format!("{}: {error}", path.display())]))?)
}

fn write_results(args: &RunArgs, scores: &Scores, evaluation: &Evaluation) -> Result<(), Failure> {
    if let Some(path) = &args.scores {
        let mut lines = json_line(path, &scores.header)?;
        for scored in &scores.scored {
            lines += &json_line(path, scored)?;
        }
        write_mode(path, lines.as_bytes(), Some(0o600))?;
    }
    if let Some(path) = &args.json {
        let text =
            serde_json::to_string_pretty(&evaluation.json).map_err(|error| unwritable(Some(path), &error.into()))?;
        write_whole(path, format!("{text}\n").as_bytes())?;
    }
    if let Some(path) = &args.html {
        write_whole(path, html::render(&evaluation.document).as_bytes())?;
    }
    Ok(())
}

fn json_line(path: &Path, value: &impl serde::Serialize) -> Result<String, Failure> {
    let line = serde_json::to_string(value).map_err(|error| unwritable(Some(path), &error.into()))?;
    Ok(line + "\n")
}

/// Writes a file so that it is there whole or not at all.
///
/// # Errors
/// [`Failure::Unwritable`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_mode(path, bytes, None)
}

/// As [`write_whole`], for these users alone.
fn write_mode(path: &Path, bytes: &[u8], mode: Option<u32>) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As any new file, as far as the user's mask allows; a file that is replaced keeps its mode.
        let mode = mode.map(Permissions::from_mode);
        let mode = mode.or_else(|| std::fs::metadata(path).ok().map(|metadata| metadata.permissions()));
        let mode = mode.unwrap_or_else(|| Permissions::from_mode(0o666));
        let mut beside = tempfile::Builder::new().permissions(mode).tempfile_in(folder)?;
        beside.write_all(bytes)?;
        beside.as_file().sync_all()?;
        beside.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| unwritable(Some(path), &error))
}
