//! Any text as the file of an operator's own models: taken entries replace shipped ones of their role, and none is there twice.
//!
//! Run by the fuzz target `manifest` and, on the committed corpus, by `tests/fuzz_corpus.rs`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};

use tempfile::NamedTempFile;
use vouch::models::manifest::{Conversion, Manifest};

/// The shipped manifest and the file's values.
pub const MAX_BYTES: usize = 64 << 20;

pub fn check(bytes: &[u8]) {
    thread_local!(static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("a temporary file")));
    let loaded = FILE.with_borrow_mut(|file| {
        let path = file.path().to_owned();
        let file = file.as_file_mut();
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).expect("an empty file");
        file.write_all(bytes).expect("a written file");
        Manifest::load(Some(&path))
    });
    match loaded {
        Ok(manifest) => {
            let shipped = Manifest::shipped().expect("the shipped manifest");
            let roles: BTreeSet<_> = manifest.models().iter().map(|model| model.role).collect();
            assert_eq!(roles.len(), manifest.models().len());
            assert!(shipped.models().iter().all(|model| roles.contains(&model.role)));
            for model in manifest.models() {
                let hash = &model.sha256;
                assert!(hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
                assert!(!model.outputs.is_empty());
                if shipped.entry(model.role) != Some(model) {
                    assert!(model.file.is_absolute() && model.is_own() && !model.built_in);
                    assert_eq!(model.convert, Conversion::None);
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
