//! libFuzzer's way into `checks/aamva.rs`: AAMVA texts.
#![no_main]

#[path = "../checks/aamva.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
