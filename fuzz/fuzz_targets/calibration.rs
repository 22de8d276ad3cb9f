//! libFuzzer's way into `checks/calibration.rs`: calibration files.
#![no_main]

#[path = "../checks/calibration.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
