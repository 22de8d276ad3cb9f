//! libFuzzer's way into `checks/barcode.rs`: pictures of barcodes.
#![no_main]

#[path = "../checks/barcode.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
