//! libFuzzer's way into `checks/exif.rs`: EXIF blocks.
#![no_main]

#[path = "../checks/exif.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
