//! `vouch bench`: latency, throughput and cost of the running daemon under load.
//!
//! Reads or draws the pictures, asks once to see that they can be answered, and takes one step after the other: callers that wait for
//! their answer, requests on a schedule, or the search for saturation and loads around it. Reading order: `load` (what drives requests and
//! when they count), `tally` (what is counted), `plan` (which steps), `media` and `caller` (what is sent, to whom), `machine` (what it
//! costs), `figures`, `report` and `tables`. Left out: whether an answer is right, which is the matter of `vouch evaluate`; here it must only be the
//! same each time.

mod caller;
mod figures;
mod load;
mod machine;
mod media;
mod plan;
mod report;
mod tables;
mod tally;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum as _};

use self::caller::Callers;
use self::figures::{Setting, StepFigures, digits};
use self::load::{BROKEN, Load, Timing};
use self::machine::{Machine, Process, Readings};
use self::media::{MediaArgs, Pictures, Scenario, Weights};
use self::plan::{Plan, Planned};
use self::report::{FirstAnswer, Measurement, Settings};
use super::connect::{Failure, Target, answer, connect, parse_duration, patience, request, status};
use super::evaluate::{check_folder, write_whole};
use crate::api::proto::{self, DetectFacesRequest};
use crate::evaluation::report::{html, text};

/// Connections of a load for which none are asked for. The daemon takes 64 requests at once on one.
const CONNECTIONS: usize = 16;

/// Ends that are the daemon's own fault, whatever the load.
const FAULTS: [&str; 5] = ["INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED", BROKEN];

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to ask for
    #[arg(value_enum)]
    scenario: Scenario,
    #[command(flatten)]
    media: MediaArgs,
    /// How often each part of `mixed` comes [default: selfie=6,document=3,full=1]
    #[arg(long, value_name = "PART=WEIGHT,...", value_parser = Weights::parse)]
    mix: Option<Weights>,

    /// Closed loop: so many callers, each of which sends its next request when the last is answered; one that is refused waits as
    /// long as the daemon says. Several numbers, divided by commas, make a step each
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    callers: Vec<u16>,
    /// Open loop: so many requests a second on a fixed schedule, refused ones not sent again; latency counts from the intended start. Several
    /// numbers make a step each
    #[arg(long, value_name = "PER_SECOND,...", value_delimiter = ',', value_parser = parse_rate)]
    rate: Vec<f64>,
    /// Search the throughput at saturation with 1, 2, 4 and more callers, then offer 50, 70, 90 and 300 % of it [default, without --callers and
    /// --rate]
    #[arg(long)]
    saturate: bool,

    /// Length of a step's window, the time that counts
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Load before the window that does not count
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_warm_up)]
    warm_up: Duration,
    /// End a step of --callers after so many requests instead of by time
    #[arg(long, value_name = "N", requires = "callers", conflicts_with_all = ["rate", "saturate", "duration"],
          value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// How long one answer may take; the daemon stops working then
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Connections to the daemon, which takes 64 requests at once on each, and 256 connections by default [default: one for each caller, at most
    /// 16; 16 for --rate]
    // One of the daemon's connections is left for asking whether it is still there.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=255))]
    connections: Option<u16>,
    /// Requests of an open loop that may be under way at once; those beyond are counted as not sent
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_in_flight: u32,
    /// The daemon's process, to tell its processor time and memory [default: whoever listens at the socket]
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,

    /// Write the figures here as JSON (docs/performance.md lists the keys); - for standard output, in place of the text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report here: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs a measurement.
///
/// # Errors
/// Options that do not go together, pictures that cannot be used, a daemon that cannot be reached or goes away, results that cannot be
/// written; [`Failure::Wrong`] at the end if answers differed or the daemon failed. The steps that were done are reported in any case.
pub async fn run(args: &BenchArgs, target: &Target) -> Result<u8, Failure> {
    args.check()?;
    let mut pictures = Pictures::read(&args.media, args.scenario, args.mix)?;
    let status = status(target).await?;
    if pictures.lacks_document() {
        progress("drawing a passport");
        let face = find_face(target, &pictures).await?;
        pictures.draw_document(face.as_ref())?;
    }
    let daemon = args.pid.map_or_else(|| Process::behind(&target.socket), Process::of);
    let mut callers = Callers::new(target, pictures.parts()).await?;
    let mut measurement = Measurement {
        date: super::today().to_string(),
        machine: Machine::here(),
        status,
        pid: daemon.clone().map(|process| process.pid),
        settings: args.settings(),
        pictures: pictures.facts(),
        first_answers: first_answers(&callers),
        steps: Vec::new(),
        saturation: None,
        interrupted: false,
    };
    let ended = tokio::select! {
        ended = take_all(args, target, &mut callers, daemon.ok(), &mut measurement) => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    };
    measurement.interrupted = ended.is_none();
    if measurement.steps.is_empty() {
        return Err(ended.and_then(Result::err).unwrap_or(Failure::NothingMeasured));
    }
    write(args, &measurement)?;
    ended.unwrap_or(Ok(()))?;
    judge(&measurement.steps)
}

/// Where the daemon sees the face for the document that is to be drawn.
async fn find_face(target: &Target, pictures: &Pictures) -> Result<Option<proto::Box>, Failure> {
    let Some(picture) = pictures.face() else { return Ok(None) };
    let mut client = connect(target).await?;
    let call = client.detect_faces(request(target, DetectFacesRequest { image: picture.data.clone() })?);
    let files = picture.path.iter().map(|path| ("image".to_owned(), path.clone())).collect();
    let answer = answer(target, patience(target), call).await.map_err(|failure| failure.naming(files))?;
    Ok(answer.into_inner().faces.into_iter().next().and_then(|face| face.r#box))
}

/// Takes one step after the other and keeps what came of them.
async fn take_all(
    args: &BenchArgs,
    target: &Target,
    callers: &mut Callers,
    daemon: Option<Process>,
    measurement: &mut Measurement,
) -> Result<(), Failure> {
    let mut plan = Plan::new(args.loads(), args.searches(), args.max_in_flight as usize);
    while let Some(step) = plan.next() {
        let figures = take(args, &step, callers, daemon, measurement.machine.cores).await?;
        plan.done(&step, figures.answered_per_second);
        let is_broken = figures.all_faults().iter().any(|faults| faults.failed.contains_key(BROKEN));
        measurement.steps.push(figures);
        measurement.saturation = plan.saturation();
        if is_broken {
            // A daemon that has gone answers nothing in the steps to come either.
            status(target).await?;
        }
    }
    Ok(())
}

/// Takes one step.
async fn take(
    args: &BenchArgs,
    step: &Planned,
    callers: &mut Callers,
    daemon: Option<Process>,
    cores: usize,
) -> Result<StepFigures, Failure> {
    let connections = args.connections.map_or_else(|| connections(step.load), usize::from);
    let callers = Arc::new(callers.with_connections(connections).await?);
    let parts: Vec<&'static str> = callers.parts().iter().map(|part| part.name).collect();
    let timing = Timing { warm_up: args.warm_up, duration: args.duration };
    let mut readings = Readings::of(daemon);
    let outcome = load::run(&callers, step.load, timing, parts.len(), &mut readings).await;
    let cost = readings.cost(outcome.window);
    let figures = StepFigures::new(step, &outcome, cost, &parts, Setting { connections, cores });
    let latency = figures
        .latency_ms
        .map_or_else(String::new, |spread| format!(", 50 % {} ms, 99 % {} ms", digits(spread.p50), digits(spread.p99)));
    progress(&format!("{}: {} answers/s{latency}", figures.name(), digits(figures.answered_per_second)));
    Ok(figures)
}

impl BenchArgs {
    /// What clap cannot see.
    fn check(&self) -> Result<(), Failure> {
        if self.mix.is_some() && self.scenario != Scenario::Mixed {
            return Err(Failure::Usage("--mix is for the scenario mixed alone".into()));
        }
        let is_stdout = |path: &&PathBuf| path.as_path() == Path::new("-");
        if self.json.is_some() && self.json == self.html || self.html.iter().any(|path| is_stdout(&path)) {
            return Err(Failure::Usage("--html needs a file of its own".into()));
        }
        // A result that cannot be written is better known before minutes of load.
        for path in self.json.iter().filter(|path| !is_stdout(path)).chain(&self.html) {
            check_folder(path)?;
        }
        Ok(())
    }

    /// The steps that were asked for.
    fn loads(&self) -> Vec<Load> {
        let requests = self.requests;
        let closed = self.callers.iter().map(|callers| Load::Closed { callers: usize::from(*callers), requests });
        let max_in_flight = self.max_in_flight as usize;
        closed.chain(self.rate.iter().map(|per_second| Load::Open { per_second: *per_second, max_in_flight })).collect()
    }

    fn searches(&self) -> bool {
        self.saturate || (self.callers.is_empty() && self.rate.is_empty())
    }

    fn settings(&self) -> Settings {
        Settings {
            scenario: self.scenario.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
            warm_up_s: self.warm_up.as_secs_f64(),
            duration_s: self.requests.is_none().then_some(self.duration.as_secs_f64()),
            requests: self.requests,
            timeout_s: self.timeout.as_secs_f64(),
            max_in_flight: self.max_in_flight as usize,
        }
    }
}

/// How many connections a load has unless it is said.
fn connections(load: Load) -> usize {
    match load {
        Load::Closed { callers, .. } => callers.min(CONNECTIONS),
        Load::Open { .. } => CONNECTIONS,
    }
}

fn first_answers(callers: &Callers) -> Vec<FirstAnswer> {
    let answers = callers.parts().iter().zip(callers.verdicts());
    answers
        .map(|(part, verdict)| FirstAnswer {
            part: part.name,
            weight: part.weight,
            outcome: verdict.outcome,
            outcomes: verdict.outcomes.clone(),
        })
        .collect()
}

fn write(args: &BenchArgs, measurement: &Measurement) -> Result<(), Failure> {
    let document = measurement.document();
    if let Some(path) = &args.html {
        write_whole(path, html::render(&document).as_bytes())?;
    }
    // Numbers and words: there is nothing in them that JSON cannot say.
    let json = || format!("{:#}\n", measurement.json());
    let mut stdout = std::io::stdout().lock();
    match &args.json {
        Some(path) if path.as_path() == Path::new("-") => return Ok(stdout.write_all(json().as_bytes())?),
        Some(path) => write_whole(path, json().as_bytes())?,
        None => {}
    }
    Ok(stdout.write_all(text::render(&document).as_bytes())?)
}

/// The end of a measurement: overload and deadlines are results, contradictions and faults of the daemon's are not.
fn judge(steps: &[StepFigures]) -> Result<u8, Failure> {
    let faults = || steps.iter().flat_map(StepFigures::all_faults);
    let wrong: u64 = faults().map(|faults| faults.wrong).sum();
    if wrong > 0 {
        return Err(Failure::Wrong(format!(
            "answers with another outcome than the first to the same request: {wrong}"
        )));
    }
    let failed: u64 = faults().flat_map(|faults| FAULTS.iter().filter_map(|code| faults.failed.get(code))).sum();
    if failed > 0 {
        return Err(Failure::Wrong(format!("requests at which the daemon failed: {failed}; its journal has more")));
    }
    Ok(0)
}

/// A line on a terminal, for whoever waits.
fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{line}");
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok().filter(|rate| (0.01..=100_000.0).contains(rate));
    rate.ok_or_else(|| "expected requests a second, from 0.01 to 100000".into())
}

/// A time that may be none.
fn parse_warm_up(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s" | "0ms") { Ok(Duration::ZERO) } else { parse_duration(text) }
}
