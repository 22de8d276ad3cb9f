//! The committed corpus of each fuzz target through the same checks as there: what fuzzing has found once stays found.
//!
//! The checks are the files of `fuzz/checks/`, which the targets of `fuzz/` take as well. `fuzz/README.md` says how the corpus comes about.

#![allow(
    dead_code,
    reason = "the checks tell their fuzz targets how much memory they may hold, which nothing here counts"
)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/checks/aamva.rs"]
mod aamva;
#[path = "../fuzz/checks/audit.rs"]
mod audit;
#[path = "../fuzz/checks/barcode.rs"]
mod barcode;
#[path = "../fuzz/checks/calibration.rs"]
mod calibration;
#[path = "../fuzz/checks/config.rs"]
mod config;
#[path = "../fuzz/checks/decode.rs"]
mod decode;
#[path = "../fuzz/checks/exif.rs"]
mod exif;
#[path = "../fuzz/checks/heic.rs"]
mod heic;
#[path = "../fuzz/checks/manifest.rs"]
mod manifest;
#[path = "../fuzz/checks/mrz.rs"]
mod mrz;
#[path = "../fuzz/checks/pdf.rs"]
mod pdf;
#[path = "../fuzz/checks/request.rs"]
mod request;

/// A target with its check.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 12] = [
    ("aamva", aamva::check),
    ("audit", audit::check),
    ("barcode", barcode::check),
    ("calibration", calibration::check),
    ("config", config::check),
    ("decode", decode::check),
    ("exif", exif::check),
    ("heic", heic::check),
    ("manifest", manifest::check),
    ("mrz", mrz::check),
    ("pdf", pdf::check),
    ("request", request::check),
];

/// Bytes of all corpora together: they are read by every test run and stored for ever.
const MAX_CORPUS_BYTES: u64 = 300 << 10;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    // Another folder of the same form can be looked at: `VOUCH_FUZZ_CORPUS=FOLDER cargo test --test fuzz_corpus`.
    let root = std::env::var_os("VOUCH_FUZZ_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"), Into::into);
    let folder = root.join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

fn run(target: &str) {
    let (_, check) = TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    let files = corpus(target);
    assert!(files.len() >= 3, "a corpus of {} files tries nothing", files.len());
    for (name, bytes) in files {
        // A failed check tells what was wrong, and this which file it was.
        println!("{name}");
        check(&bytes);
    }
}

macro_rules! corpora {
    ($($test:ident: $target:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                run($target);
            }
        )*

        #[test]
        fn every_target_has_a_test_and_a_line_in_cargo_toml() {
            assert_eq!([$($target),*], TARGETS.map(|(name, _)| name));
            let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
            let binaries = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""));
            assert_eq!(binaries.collect::<Vec<_>>(), TARGETS.map(|(name, _)| name));
        }
    };
}

corpora! {
    aamva_texts_are_read_or_refused: "aamva",
    audit_logs_are_whole_or_found_not_to_be: "audit",
    pictures_of_barcodes_are_read: "barcode",
    calibration_files_are_taken_or_refused: "calibration",
    configuration_files_are_taken_or_refused: "config",
    picture_files_are_decoded_or_refused: "decode",
    exif_blocks_never_cost_the_picture: "exif",
    heic_files_are_decoded_or_refused: "heic",
    models_of_the_operator_are_taken_or_refused: "manifest",
    machine_readable_zones_are_read_or_refused: "mrz",
    pdf_files_are_drawn_or_refused: "pdf",
    calls_end_and_leave_nothing_behind: "request",
}

#[test]
fn the_corpus_stays_small() {
    let bytes: u64 = TARGETS.iter().flat_map(|(target, _)| corpus(target)).map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(bytes <= MAX_CORPUS_BYTES, "{bytes} bytes");
}
