//! libFuzzer's way into `checks/heic.rs`: HEIC files.
#![no_main]

#[allow(dead_code, reason = "of the check of the other formats a part is needed")]
#[path = "../checks/decode.rs"]
mod decode;

#[path = "../checks/heic.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
