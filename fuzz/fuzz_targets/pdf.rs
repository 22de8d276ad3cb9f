//! libFuzzer's way into `checks/pdf.rs`: PDF files.
#![no_main]

#[path = "../checks/pdf.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
