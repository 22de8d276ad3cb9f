//! Digests that say whether a file was seen, to those alone who hold the salt.
//!
//! A digest is HMAC-SHA-256 (RFC 2104) with the salt as its key: who has a log and guesses at a picture or a reference cannot test the guess without the salt, and who
//! has the salt can look any file up (`vouch audit digest`). `openssl dgst -sha256 -mac HMAC -macopt hexkey:…` gives the same.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::chain::Hash;

/// Shortest salt in bytes: as long as the digest, so that guessing it is no shorter a way.
pub const MIN_SALT_BYTES: usize = 32;

/// Longest salt file that is read.
const MAX_SALT_BYTES: u64 = 1 << 16;

/// Name of the credential of the service manager (`LoadCredential=`).
const CREDENTIAL: &str = "audit-salt";

/// Why there is no salt.
#[derive(Debug, thiserror::Error)]
pub enum SaltError {
    #[error("the salt {} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("the salt {} has {bytes} bytes; {MIN_SALT_BYTES} to {MAX_SALT_BYTES} are needed", path.display())]
    Length { path: PathBuf, bytes: u64 },
    #[error("no random salt can be drawn: {0}")]
    Random(getrandom::Error),
}

/// The key of all digests. Has no `Debug`, so that it is printed nowhere.
#[derive(Clone)]
pub struct Salt {
    key: Hmac<Sha256>,
}

impl Salt {
    /// That of the service manager's credential `audit-salt`; else that of the file; else a random one, which ends with the process. The journal is told which.
    ///
    /// # Errors
    /// [`SaltError`] if the one that there should be cannot be used.
    pub fn find(file: Option<&Path>) -> Result<Self, SaltError> {
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self::find_in(credentials.as_deref(), file)
    }

    fn find_in(credentials: Option<&Path>, file: Option<&Path>) -> Result<Self, SaltError> {
        let of = |source: &str, path: &Path| {
            tracing::info!(source, path = %path.display(), "the salt of the audit log's digests");
            Self::load(path)
        };
        if let Some(path) = credentials.map(|directory| directory.join(CREDENTIAL)) {
            // Only one that is surely not there is passed over: another salt in its place would make digests that nobody can look up.
            match path.try_exists() {
                Ok(true) => return of("credential", &path),
                Ok(false) => {}
                Err(cause) => return Err(SaltError::Unreadable { path, cause }),
            }
        }
        if let Some(path) = file {
            return of("file", path);
        }
        tracing::info!(source = "random", "the salt of the audit log's digests ends with this process");
        let mut bytes = [0; MIN_SALT_BYTES];
        getrandom::fill(&mut bytes).map_err(SaltError::Random)?;
        Ok(Self::new(&bytes))
    }

    /// Reads a file; all its bytes are the salt.
    ///
    /// # Errors
    /// [`SaltError`].
    pub fn load(path: &Path) -> Result<Self, SaltError> {
        let unreadable = |cause| SaltError::Unreadable { path: path.to_owned(), cause };
        let bytes = fs::metadata(path).map_err(unreadable)?.len();
        if !(MIN_SALT_BYTES as u64..=MAX_SALT_BYTES).contains(&bytes) {
            return Err(SaltError::Length { path: path.to_owned(), bytes });
        }
        Ok(Self::new(&fs::read(path).map_err(unreadable)?))
    }

    /// A salt of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self { key: Hmac::new_from_slice(bytes).expect("HMAC takes keys of every length") }
    }

    /// The digest of a whole file or text.
    pub fn digest(&self, bytes: &[u8]) -> Hash {
        let mut running = self.running();
        running.add(bytes);
        running.digest()
    }

    /// A digest of parts that come one after the other; that of all of them in one piece.
    pub fn running(&self) -> Running {
        Running(self.key.clone())
    }

    /// Tells salts apart without telling them: 16 hexadecimal digits.
    pub fn id(&self) -> String {
        self.digest(b"salt_id").to_string()[..16].to_owned()
    }
}

/// See [`Salt::running`].
#[derive(Clone)]
pub struct Running(Hmac<Sha256>);

impl Running {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn digest(&self) -> Hash {
        Hash(self.0.clone().finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2 (the key is shorter than a salt file may be, which `new` does not mind).
    #[test]
    fn the_digest_is_hmac_sha_256() {
        let digest = Salt::new(b"Jefe").digest(b"what do ya want for nothing?");
        assert_eq!(digest.to_string(), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let mut running = Salt::new(b"Jefe").running();
        running.add(b"what do ya want ");
        running.add(b"for nothing?");
        assert_eq!(running.digest(), digest);
    }

    #[test]
    fn salts_that_are_too_short_or_missing_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("salt");
        assert!(matches!(Salt::load(&path), Err(SaltError::Unreadable { .. })));
        fs::write(&path, [7; 31]).unwrap();
        assert!(matches!(Salt::load(&path), Err(SaltError::Length { bytes: 31, .. })));
        fs::write(&path, [7; 32]).unwrap();
        assert_eq!(Salt::load(&path).ok().unwrap().id(), Salt::new(&[7; 32]).id());
        assert_ne!(Salt::new(&[7; 32]).id(), Salt::new(&[8; 32]).id());
    }

    /// It was: a credential that cannot be read was taken for none.
    #[test]
    fn the_credential_is_before_the_file_and_must_be_readable_if_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (credential, file) = (folder.path().join(CREDENTIAL), folder.path().join("file"));
        fs::write(&file, [8; 32]).unwrap();
        let find = || Salt::find_in(Some(folder.path()), Some(&file)).map(|salt| salt.id());
        assert_eq!(find().ok(), Some(Salt::new(&[8; 32]).id()));
        fs::write(&credential, [7; 32]).unwrap();
        assert_eq!(find().ok(), Some(Salt::new(&[7; 32]).id()));
        // A link to itself, which root cannot read either.
        fs::remove_file(&credential).unwrap();
        std::os::unix::fs::symlink(&credential, &credential).unwrap();
        assert!(matches!(find(), Err(SaltError::Unreadable { path, .. }) if path == credential));
    }

    #[test]
    fn without_a_salt_each_start_has_its_own() {
        assert_ne!(Salt::find(None).ok().unwrap().id(), Salt::find(None).ok().unwrap().id());
    }
}
