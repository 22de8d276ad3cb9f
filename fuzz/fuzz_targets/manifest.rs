//! libFuzzer's way into `checks/manifest.rs`: an operator's own models.
#![no_main]

#[path = "../checks/manifest.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
