//! libFuzzer's way into `checks/audit.rs`: audit logs.
#![no_main]

#[path = "../checks/audit.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vouch_fuzz::within(check::MAX_BYTES, || check::check(bytes)));
