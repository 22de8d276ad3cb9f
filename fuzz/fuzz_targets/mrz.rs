//! libFuzzer's way into `checks/mrz.rs`: machine-readable zones.
#![no_main]

#[path = "../checks/mrz.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
