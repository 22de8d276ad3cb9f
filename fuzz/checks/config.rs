//! Any text as the configuration file, and any text as environment: settings that can be written down and read again, or every problem in a line of its own.
//!
//! Run by the fuzz target `config` and, on the committed corpus, by `tests/fuzz_corpus.rs`. What follows the first zero byte is the environment, one `NAME=VALUE` a line.

use std::cell::RefCell;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use vouch::config::{ConfigError, Flags, Loaded, load};

/// The values of a file, several times over: layers, their union, the settings.
pub const MAX_BYTES: usize = 64 << 20;

pub fn check(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let environment = String::from_utf8_lossy(bytes.get(at + 1..).unwrap_or_default()).into_owned();
    let variables = || environment.lines().filter_map(|line| line.split_once('=')).map(|(a, b)| (a.into(), b.into()));
    let loaded = with_file(&bytes[..at], |path| load(Some(path), variables(), &Flags::default()));
    match loaded {
        Ok(loaded) => {
            let text = loaded.to_string();
            let again = with_file(text.as_bytes(), |path| load(Some(path), [], &Flags::default()));
            let again = again.unwrap_or_else(|error| panic!("settings that were shown are not taken: {error}"));
            assert_eq!(again.config.sha256(), loaded.config.sha256());
            assert_eq!(again.config.differences(&loaded.config), Vec::<String>::new());
            only_known_origins(&loaded);
        }
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.is_empty()));
        }
        Err(ConfigError::File { .. }) => {
            assert!(std::str::from_utf8(&bytes[..at]).is_err(), "a file of text that is there can be read");
        }
    }
}

fn only_known_origins(loaded: &Loaded) {
    assert!(loaded.origins.values().all(|origin| origin.starts_with("file ") || origin.contains("VOUCH_")));
}

/// Writes a file that is always the same one, since its path stands in messages.
fn with_file<T>(text: &[u8], use_it: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("a temporary file")));
    FILE.with_borrow_mut(|file| {
        let path = file.path().to_owned();
        let file = file.as_file_mut();
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).expect("an empty file");
        file.write_all(text).expect("a written file");
        use_it(&path)
    })
}
