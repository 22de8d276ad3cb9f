//! Carries a model pack to a host without a network: one tar archive out, and in again.
//!
//! Called by `vouch models bundle` and `vouch models import`. The archive holds the shipped manifest, for people to read, and the
//! files of the pack. An import trusts nothing in it: only plain files whose names the manifest of this binary knows are
//! accepted, each of exactly the stated size and hash, and the pack changes only after all of them were checked. An operator's
//! own models are not part of a bundle; they travel with their `models.toml`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{Manifest, ManifestError, SHIPPED};
use super::{PackError, PackLock, hexadecimal, persist, verify_file};

/// The copy of the manifest in the archive.
const MANIFEST_NAME: &str = "manifest.toml";

/// A manifest is a few kilobytes; the bound keeps an archive from making an import read for ever.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Why an archive was not written or not taken in.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{0}")]
    Busy(io::Error),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("there is no ONNX Runtime for the processor architecture {0} in the manifest")]
    NoBuild(&'static str),
    #[error("{} was refused: {reason}; the pack was not changed", archive.display())]
    Refused { archive: PathBuf, reason: String },
}

/// What a file of the pack must be.
struct Expected {
    sha256: String,
    bytes: u64,
    /// False for a shipped model that an operator's own one replaces here.
    needed: bool,
}

/// Every file that a bundle may hold, by its path in the archive and in the pack.
fn expected_files(manifest: &Manifest) -> Result<BTreeMap<String, Expected>, BundleError> {
    let build = manifest.runtime().build().ok_or(BundleError::NoBuild(std::env::consts::ARCH))?;
    let shipped = Manifest::shipped()?;
    let models = shipped.models().iter().map(|entry| {
        let needed = manifest.models().iter().any(|used| used.sha256 == entry.sha256);
        let expected = Expected { sha256: entry.sha256.clone(), bytes: entry.bytes.unwrap_or(0), needed };
        (entry.file.display().to_string(), expected)
    });
    let runtime = Expected { sha256: build.sha256().to_owned(), bytes: build.bytes, needed: true };
    Ok(models.chain([(manifest.runtime().file.display().to_string(), runtime)]).collect())
}

/// Writes the pack as one archive and returns its size in bytes. The same pack gives the same bytes.
///
/// # Errors
/// [`BundleError`] if a file of the pack is missing or wrong, or the archive cannot be written.
pub fn bundle(manifest: &Manifest, pack_dir: &Path, archive: &Path) -> Result<u64, BundleError> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |cause: io::Error| BundleError::Io { path, cause }
    };
    let files: Vec<(String, Expected)> =
        expected_files(manifest)?.into_iter().filter(|(_, expected)| expected.needed).collect();
    for (name, expected) in &files {
        verify_file(&pack_dir.join(name), &expected.sha256)?;
    }
    let folder = archive.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let output = tempfile::Builder::new().prefix(".partial-").tempfile_in(folder).map_err(io_error(folder))?;
    let mut builder = tar::Builder::new(io::BufWriter::new(output));
    append(&mut builder, MANIFEST_NAME, SHIPPED.len() as u64, SHIPPED.as_bytes()).map_err(io_error(archive))?;
    for (name, expected) in &files {
        let path = pack_dir.join(name);
        let file = File::open(&path).map_err(io_error(&path))?;
        append(&mut builder, name, expected.bytes, file.take(expected.bytes)).map_err(io_error(archive))?;
    }
    let output = builder.into_inner().map_err(io_error(archive))?;
    let output = output.into_inner().map_err(|error| io_error(archive)(error.into_error()))?;
    let size = output.as_file().metadata().map_err(io_error(archive))?.len();
    persist(output, archive).map_err(io_error(archive))?;
    Ok(size)
}

fn append(builder: &mut tar::Builder<impl Write>, name: &str, size: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    builder.append_data(&mut header, name, content)
}

/// Takes the files of a bundle into the pack and returns how many there were.
///
/// # Errors
/// [`BundleError::Refused`] if the archive holds anything but the expected files or lacks one, and the pack is then as it was;
/// [`BundleError::Io`] if reading or writing fails.
pub fn import(manifest: &Manifest, archive: &Path, pack_dir: &Path) -> Result<usize, BundleError> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |cause: io::Error| BundleError::Io { path, cause }
    };
    let expected = expected_files(manifest)?;
    let input = File::open(archive).map_err(io_error(archive))?;
    let _lock = PackLock::take(pack_dir).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => BundleError::Busy(error),
        _ => io_error(pack_dir)(error),
    })?;
    // Removed again when it goes out of scope, whatever happens.
    let staging = tempfile::Builder::new().prefix(".import-").tempdir_in(pack_dir).map_err(io_error(pack_dir))?;
    let staged = stage(io::BufReader::new(input), &expected, staging.path()).map_err(|error| match error {
        StageError::Refused(reason) => BundleError::Refused { archive: archive.to_owned(), reason },
        StageError::Write(cause) => BundleError::Io { path: pack_dir.to_owned(), cause },
    })?;
    let count = staged.len();
    for (name, file) in staged {
        let path = pack_dir.join(name);
        let folder = path.parent().unwrap_or(pack_dir);
        std::fs::create_dir_all(folder).map_err(io_error(folder))?;
        persist(file, &path).map_err(io_error(&path))?;
    }
    Ok(count)
}

enum StageError {
    Refused(String),
    Write(io::Error),
}

impl StageError {
    fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }
}

/// Copies the members of the archive into `folder` and checks them.
fn stage<'a>(
    archive: impl Read,
    expected: &'a BTreeMap<String, Expected>,
    folder: &Path,
) -> Result<BTreeMap<&'a str, tempfile::NamedTempFile>, StageError> {
    let mut archive = tar::Archive::new(archive);
    let not_tar = |error: io::Error| StageError::Refused(format!("not a sound tar archive ({error})"));
    let mut staged = BTreeMap::new();
    let mut manifest_seen = false;
    // Raw: extension headers (long names, sparse files, links) show as what they are and are refused like any other.
    for entry in archive.entries().map_err(not_tar)?.raw(true) {
        let entry = entry.map_err(not_tar)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let size = entry.header().size().map_err(not_tar)?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(StageError::refused(format!("{name:?} is not a plain file")));
        }
        if name == MANIFEST_NAME && !manifest_seen && size <= MAX_MANIFEST_BYTES {
            manifest_seen = true;
            continue;
        }
        let (name, expected) = expected
            .get_key_value(&name)
            .ok_or_else(|| StageError::refused(format!("{name:?} is not part of a model pack")))?;
        if staged.contains_key(name.as_str()) {
            return Err(StageError::refused(format!("{name:?} comes twice")));
        }
        if size != expected.bytes {
            let reason = format!(
                "{name:?} has {size} bytes, the manifest of this vouch expects {}; a bundle fits the version and the \
                 processor architecture of the vouch that made it",
                expected.bytes
            );
            return Err(StageError::Refused(reason));
        }
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(StageError::Write)?;
        let (found, copied) = copy_and_hash(entry, file.as_file_mut()).map_err(StageError::Write)?;
        if copied != expected.bytes {
            return Err(StageError::refused(format!("the archive ends within {name:?}")));
        }
        if found != expected.sha256 {
            let expected = &expected.sha256;
            return Err(StageError::refused(format!(
                "{name:?} has the SHA-256 {found}, the manifest expects {expected}"
            )));
        }
        staged.insert(name.as_str(), file);
    }
    match expected.iter().find(|(name, expected)| expected.needed && !staged.contains_key(name.as_str())) {
        Some((name, _)) => Err(StageError::refused(format!("{name:?} is missing"))),
        None => Ok(staged),
    }
}

fn copy_and_hash(mut from: impl Read, to: &mut File) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut copied = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok((hexadecimal(&hash.finalize()), copied)),
            count => {
                hash.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
                copied += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::sha256_of;

    fn expected() -> BTreeMap<String, Expected> {
        let file =
            |content: &[u8], needed| Expected { sha256: sha256_of(content), bytes: content.len() as u64, needed };
        BTreeMap::from([
            ("a.onnx".to_owned(), file(b"alpha", true)),
            ("b.onnx".to_owned(), file(b"beta", false)),
            ("runtime/lib.so".to_owned(), file(b"library", true)),
        ])
    }

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in members {
            append(&mut builder, name, content.len() as u64, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// A member whose header says anything; `append_data` would refuse such names.
    fn hostile(name: &str, kind: tar::EntryType, size: u64) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        if kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(bytes.len() + 2048, 0);
        bytes
    }

    fn refusal(archive: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        match stage(archive, &expected(), folder.path()) {
            Err(StageError::Refused(reason)) => {
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
                reason
            }
            Err(StageError::Write(error)) => panic!("{error}"),
            Ok(staged) => panic!("{} members were accepted", staged.len()),
        }
    }

    const GOOD: [(&str, &[u8]); 3] = [("manifest.toml", b"x"), ("a.onnx", b"alpha"), ("runtime/lib.so", b"library")];

    #[test]
    fn a_good_archive_is_staged_whole() {
        let folder = tempfile::tempdir().unwrap();
        let expected = expected();
        let Ok(staged) = stage(archive(&GOOD).as_slice(), &expected, folder.path()) else { panic!("refused") };
        assert_eq!(staged.keys().copied().collect::<Vec<_>>(), ["a.onnx", "runtime/lib.so"]);
        assert_eq!(std::fs::read(staged["a.onnx"].path()).unwrap(), b"alpha");
    }

    #[test]
    fn hostile_archives_are_refused() {
        let name_cases = ["../a.onnx", "/etc/passwd", "runtime/../../a.onnx", "./a.onnx", "c.onnx", ""];
        for name in name_cases {
            let reason = refusal(&hostile(name, tar::EntryType::Regular, 5));
            assert!(reason.contains("not part of a model pack"), "{name:?}: {reason}");
        }
        let kinds = [
            tar::EntryType::Symlink,
            tar::EntryType::Link,
            tar::EntryType::Directory,
            tar::EntryType::Fifo,
            tar::EntryType::Char,
            tar::EntryType::GNULongName,
            tar::EntryType::GNUSparse,
            tar::EntryType::XHeader,
        ];
        for kind in kinds {
            let reason = refusal(&hostile("a.onnx", kind, 0));
            // A sparse file without a sparse header is refused by the archive reader itself.
            assert!(reason.contains("not a plain file") || kind.is_gnu_sparse(), "{kind:?}: {reason}");
        }
        let huge = refusal(&hostile("a.onnx", tar::EntryType::Regular, 7 << 30));
        assert!(huge.contains("7516192768 bytes"), "{huge}");
        let huge = refusal(&hostile("manifest.toml", tar::EntryType::Regular, 7 << 30));
        assert!(huge.contains("not part of a model pack"), "{huge}");
    }

    #[test]
    fn wrong_missing_doubled_and_cut_members_are_refused() {
        assert!(refusal(&archive(&[("a.onnx", b"alphb"), GOOD[2]])).contains("SHA-256"));
        assert!(refusal(&archive(&[GOOD[1]])).contains("\"runtime/lib.so\" is missing"));
        assert!(refusal(&archive(&[GOOD[1], GOOD[1], GOOD[2]])).contains("comes twice"));
        assert!(refusal(&archive(&[GOOD[0], GOOD[0]])).contains("not part of a model pack"));
        let whole = archive(&[GOOD[1], GOOD[2]]);
        let cut = refusal(&whole[..514]);
        assert!(cut.contains("ends within") || cut.contains("not a sound tar archive"), "{cut}");
        assert!(refusal(b"this is no archive, but long enough to hold a header".repeat(20).as_slice()).contains("tar"));
        assert!(refusal(b"").contains("is missing"));
    }
}
