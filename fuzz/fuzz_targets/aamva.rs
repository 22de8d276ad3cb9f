//! Feeds arbitrary bytes to the AAMVA parser: it must return, without a panic, within the time libFuzzer allows.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = vouch::document::aamva::parse(bytes) {
        assert!(!record.elements.is_empty());
    }
});
