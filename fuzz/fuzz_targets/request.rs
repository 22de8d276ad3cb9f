//! libFuzzer's way into `checks/request.rs`: gRPC messages.
#![no_main]

#[path = "../checks/request.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
