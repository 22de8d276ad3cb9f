//! `vouch audit`: whether an audit log is whole, and whether a file was seen. Needs no daemon.
//!
//! Called by `cli`; the comparing is done by [`crate::audit::verify`].

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::connect::Failure;
use super::report::Paint;
use crate::audit::chain::Link;
use crate::audit::salt::Salt;
use crate::audit::verify::{self, Finding, Report};
use crate::error::exit;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Tell whether a log is whole: no record edited, removed, moved or added, and none cut off at the end. Ends with 65 if it is not
    #[command(after_help = super::EXIT_CODES)]
    Verify(VerifyArgs),
    /// Print the salted digests of files, to look up whether the daemon has seen them
    #[command(after_help = super::EXIT_CODES)]
    Digest(DigestArgs),
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The log's folder, or its files in their order; a cut at the end shows by the folder's head file or by anchors alone
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,

    /// A record that is known from elsewhere, such as from the journal: its number and its hash
    #[arg(long = "anchor", value_name = "SEQ:HASH", value_parser = anchor)]
    anchors: Vec<Link>,

    /// Lines of the journal with the daemon's anchors, such as of `journalctl -u vouchd`; - for standard input
    #[arg(long = "anchors", value_name = "FILE")]
    journals: Vec<PathBuf>,

    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DigestArgs {
    /// The file with the salt that the daemon had
    #[arg(long, value_name = "FILE")]
    salt_file: PathBuf,

    /// Files to print the digest of; - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn anchor(text: &str) -> Result<Link, String> {
    verify::parse_anchor(text).ok_or_else(|| "must be a number, a colon and 64 hexadecimal digits in lower case".into())
}

/// # Errors
/// Any [`Failure`]; a log that is not whole is none.
pub fn run(command: &AuditCommand) -> Result<u8, Failure> {
    match command {
        AuditCommand::Verify(args) => verify(args),
        AuditCommand::Digest(args) => digest(args),
    }
}

fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
    let mut anchors = args.anchors.clone();
    for path in &args.journals {
        let found = anchors_of(path)?;
        if found.is_empty() {
            return Err(Failure::BadInput(format!("{} holds no anchor", path.display())));
        }
        anchors.extend(found);
    }
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| Failure::File { path, reason: error.to_string() }
    };
    let report = match args.paths.as_slice() {
        [dir] if dir.is_dir() => verify::verify_dir(dir, &anchors).map_err(unreadable(dir))?,
        files => {
            if let Some(dir) = files.iter().find(|path| path.is_dir()) {
                return Err(Failure::Usage(format!("{} is a folder; name one folder, or files alone", dir.display())));
            }
            for file in files {
                File::open(file).map_err(unreadable(file))?;
            }
            verify::verify_files(files, &anchors).map_err(unreadable(&files[0]))?
        }
    };
    let out = io::stdout();
    let text = if args.json {
        // Only text and numbers: this cannot fail.
        format!("{}\n", serde_json::to_string(&report).unwrap_or_default())
    } else {
        to_text(&report, Paint { on: super::colour_wanted(&out) })
    };
    out.lock().write_all(text.as_bytes())?;
    Ok(if report.is_whole() { 0 } else { exit::DATA_ERR })
}

fn anchors_of(path: &Path) -> Result<Vec<Link>, Failure> {
    let unreadable = |error: io::Error| Failure::File { path: path.to_owned(), reason: error.to_string() };
    let lines: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(unreadable)?))
    };
    let mut found = Vec::new();
    for line in lines.split(b'\n') {
        // A journal may hold lines of others that are no text.
        let line = line.map_err(unreadable)?;
        found.extend(verify::anchor_in(&String::from_utf8_lossy(&line)));
    }
    Ok(found)
}

fn to_text(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(&format!("{}\n", paint.warning(&in_words(finding))));
    }
    for notice in &report.notices {
        text.push_str(&format!("{}\n", in_words(notice)));
    }
    let range = match (report.first, report.last) {
        (Some(first), Some(last)) => format!(" ({first} to {last})"),
        _ => String::new(),
    };
    let anchors = match report.anchors {
        0 => String::new(),
        count => format!(", {count} anchors agree"),
    };
    let verdict = match report.findings.len() {
        0 => paint.bold("whole"),
        1 => paint.warning("damaged: 1 finding"),
        count => paint.warning(&format!("damaged: {count} findings")),
    };
    text.push_str(&format!("{verdict}: {} records{range} in {} files{anchors}\n", report.records, report.files));
    if let (Some(last), Some(hash)) = (report.last, &report.hash) {
        text.push_str(&format!("ends with {last}:{hash}\n"));
    }
    text
}

/// `file:line: CODE: record 12: what`.
fn in_words(finding: &Finding) -> String {
    let mut words = String::new();
    if let Some(file) = &finding.file {
        words.push_str(&file.display().to_string());
        if let Some(line) = finding.line {
            words.push_str(&format!(":{line}"));
        }
        words.push_str(": ");
    }
    words.push_str(finding.code);
    words.push_str(": ");
    if let Some(sequence) = finding.sequence {
        words.push_str(&format!("record {sequence}: "));
    }
    words.push_str(&finding.what);
    words
}

fn digest(args: &DigestArgs) -> Result<u8, Failure> {
    let salt = Salt::load(&args.salt_file).map_err(|error| Failure::BadInput(error.to_string()))?;
    let mut text = format!("salt_id {}\n", salt.id());
    for path in &args.files {
        let read = if path == Path::new("-") {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes).map(|_| bytes)
        } else {
            std::fs::read(path)
        };
        let bytes = read.map_err(|error| Failure::File { path: path.clone(), reason: error.to_string() })?;
        text.push_str(&format!("{}  {}\n", salt.digest(&bytes), path.display()));
    }
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(0)
}
