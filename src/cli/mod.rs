//! The commands of the `vouch` binary: a thin client of the daemon, the care of the model pack, and specimens to try it with.
//!
//! Called by `src/bin/vouch.rs`. Parses the arguments, runs one command, prints errors in words and turns the end into an exit
//! code. Knows nothing of pictures or models beyond the messages of `proto/vouch/v1/vouch.proto`, except for `specimen`. Exit codes follow BSD
//! `sysexits.h` (see [`crate::error::exit`]), with 0 to 3 telling the outcome of a verification.

pub mod audit;
pub mod bench;
pub mod calibrate;
pub mod completions;
pub mod connect;
pub mod document;
pub mod draw;
pub mod evaluate;
pub mod exchange;
pub mod faces;
pub mod live;
pub mod man;
pub mod models;
pub mod reading;
pub mod reload;
pub mod report;
pub mod scan;
pub mod specimen;
pub mod status;
pub mod top;
pub mod verify;
pub mod vouchd;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, Subcommand};

use connect::{Failure, Target};

use crate::document::mrz::Date;

/// `EX_USAGE` of `sysexits.h`: the command line itself is wrong. Clap's own 2 would be read as REVIEW.
const USAGE: u8 = 64;

const EXIT_CODES: &str = "\
Exit codes:
  0   PASS, or the command did what it was asked
  1   FAIL
  2   REVIEW
  3   INCONCLUSIVE or SKIPPED
  64  the command line is wrong
  65  the input cannot be used: undecodable, too large, unsupported
  66  a file that is needed cannot be opened
  69  the daemon cannot be reached
  70  a fault of the daemon's
  74  the answer could not be written
  75  the daemon is overloaded or not ready, or the time was up; trying again helps
  77  this user may not use the daemon
  78  the configuration or the model pack is bad";

/// Talks to the identity-verification daemon vouchd.
#[derive(Debug, Parser)]
#[command(name = "vouch", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// The daemon's Unix socket [default: $XDG_RUNTIME_DIR/vouch/vouch.sock; for root /run/vouch/vouch.sock]
    #[arg(long, global = true, env = "VOUCH_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify one person's media; every event is printed the moment it arrives
    #[command(after_help = EXIT_CODES)]
    Verify(verify::VerifyArgs),
    /// Compare the faces of two pictures, 1:1
    #[command(after_help = EXIT_CODES)]
    Match(verify::MatchArgs),
    /// Tell from one picture whether a live person is in front of the camera
    #[command(after_help = EXIT_CODES)]
    Liveness(verify::LivenessArgs),
    /// Hold a session of active liveness with the frames of a video, a folder or a camera: the person does what is asked
    #[command(after_help = EXIT_CODES, mut_arg("timeout", |timeout| timeout.default_value(live::DEFAULT_TIMEOUT)))]
    Live(live::LiveArgs),
    /// Estimate the age of the person in a picture
    #[command(after_help = EXIT_CODES)]
    Age(verify::AgeArgs),
    /// Find faces, and draw them on a copy of the picture
    #[command(after_help = EXIT_CODES)]
    Faces(faces::FacesArgs),
    /// Read an identity document: machine-readable zone, barcodes, fields
    #[command(after_help = EXIT_CODES)]
    Document(document::DocumentArgs),
    /// Read the barcodes of a picture
    #[command(after_help = EXIT_CODES)]
    Barcode(document::BarcodeArgs),
    /// Read a machine-readable zone from several pictures of it, until it is proved
    #[command(after_help = EXIT_CODES)]
    Scan(scan::ScanArgs),
    /// Read the lines of a machine-readable zone; needs no daemon
    #[command(after_help = EXIT_CODES)]
    Mrz(document::MrzArgs),
    /// Draw documents that do not exist, and photographs of them, to try an integration with; needs no daemon
    #[command(after_help = EXIT_CODES)]
    Specimen(specimen::SpecimenArgs),
    /// Measure how right the daemon is on labelled data of your own
    #[command(subcommand, after_help = EXIT_CODES)]
    Evaluate(evaluate::EvaluateCommand),
    /// Make a calibration file from the scores of an evaluation; needs no daemon
    #[command(after_help = EXIT_CODES)]
    Calibrate(calibrate::CalibrateArgs),
    /// Load the running daemon and tell its latency, throughput and cost
    #[command(after_help = EXIT_CODES)]
    Bench(bench::BenchArgs),
    /// Show the daemon's state, models, checks and load
    Status(status::StatusArgs),
    /// Watch what the daemon does: rates, latencies, queues, outcomes, errors
    #[command(after_help = EXIT_CODES)]
    Top(top::TopArgs),
    /// Have the daemon read models, calibrations and the list of callers anew
    #[command(after_help = EXIT_CODES)]
    Reload(reload::ReloadArgs),
    /// Check the daemon's audit log, and look up what it has seen; needs no daemon
    #[command(subcommand, after_help = EXIT_CODES)]
    Audit(audit::AuditCommand),
    /// Make, check and move the model pack
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::ManArgs),
}

impl Command {
    /// With `--json`, which of some commands is a file and no form.
    fn prints_json(&self) -> bool {
        match self {
            Self::Verify(args) => args.call.json,
            Self::Match(args) => args.call.json,
            Self::Liveness(args) => args.call.json,
            Self::Live(args) => args.call.json,
            Self::Age(args) => args.call.json,
            Self::Faces(args) => args.call.json,
            Self::Document(args) => args.call.json,
            Self::Barcode(args) => args.call.json,
            Self::Scan(args) => args.call.json,
            Self::Mrz(args) => args.json,
            Self::Status(args) => args.call.json,
            Self::Top(args) => args.json,
            Self::Reload(args) => args.call.json,
            Self::Audit(audit::AuditCommand::Verify(args)) => args.json,
            Self::Audit(_) | Self::Models(_) | Self::Specimen(_) | Self::Evaluate(_) | Self::Calibrate(_) => false,
            Self::Bench(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }
}

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that has gone away is no reason to fail louder than the usage error itself.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let target = |timeout| Target { socket: cli.socket.clone().unwrap_or_else(crate::config::default_socket), timeout };
    let prints_json = cli.command.prints_json();
    let result = match cli.command {
        Command::Verify(args) => block_on(verify::verify(&args, &target(args.call.timeout))),
        Command::Match(args) => block_on(verify::match_faces(&args, &target(args.call.timeout))),
        Command::Liveness(args) => block_on(verify::liveness(&args, &target(args.call.timeout))),
        Command::Live(args) => block_on(live::live(&args, &target(args.call.timeout))),
        Command::Age(args) => block_on(verify::age(&args, &target(args.call.timeout))),
        Command::Faces(args) => block_on(faces::run(&args, &target(args.call.timeout))),
        Command::Document(args) => block_on(document::document(&args, &target(args.call.timeout))),
        Command::Barcode(args) => block_on(document::barcode(&args, &target(args.call.timeout))),
        Command::Scan(args) => block_on(scan::scan(&args, &target(args.call.timeout))),
        Command::Mrz(args) => document::mrz(&args),
        Command::Specimen(args) => specimen::run(&args),
        Command::Evaluate(command) => block_on(evaluate::run(&command, &target(command.run_args().timeout))),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Bench(args) => block_on_threads(bench::run(&args, &target(args.timeout))),
        Command::Status(args) => block_on(status::run(&args, &target(args.call.timeout))),
        Command::Top(args) => block_on(top::run(&args, &target(args.timeout()))),
        Command::Reload(args) => block_on(reload::run(&args, &target(args.call.timeout))),
        Command::Audit(command) => audit::run(&command),
        Command::Models(command) => Ok(models::main(command)),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(mut failure) => {
            // The last line, so that a program need not read standard error.
            if prints_json
                && !matches!(failure, Failure::Output(_))
                && let Err(error) = writeln!(std::io::stdout(), "{}", failure.to_json())
            {
                failure = Failure::Output(error);
            }
            if !failure.is_reader_gone() {
                eprint!("{}", failure.in_words(colour_wanted(&std::io::stderr())));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Whether to colour what goes to `stream`: only on a terminal that can, and never when `NO_COLOR` is set (no-color.org).
pub fn colour_wanted(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The day in UTC.
fn today() -> Date {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Date::of_unix_time(since_1970.as_secs())
}

/// One command is one conversation with the daemon, so one thread is enough.
fn block_on(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    run_to_end(tokio::runtime::Builder::new_current_thread(), command)
}

/// As [`block_on`], on as many threads as there are cores: a load of many callers must not wait for its own generator.
fn block_on_threads(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    run_to_end(tokio::runtime::Builder::new_multi_thread(), command)
}

fn run_to_end(
    mut builder: tokio::runtime::Builder,
    command: impl Future<Output = Result<u8, Failure>>,
) -> Result<u8, Failure> {
    let runtime = builder.enable_all().build().map_err(Failure::Runtime)?;
    let result = runtime.block_on(command);
    // What still runs on other threads after an interruption is not waited for.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
