//! Any bytes through `imaging::decode`: no panic, no memory error, and a picture only with as many bytes as its size says.
//!
//! Seeds are worth having: a few small files of each format in `fuzz/corpus/decode`. The limits are lower than the daemon's so
//! that the time goes into parsing rather than into filling large pictures.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vouch::imaging::decode::{DecodeOptions, decode};

fuzz_target!(|bytes: &[u8]| {
    let wanted = bytes.last().map(|last| u32::from(*last) * 4);
    let options = DecodeOptions {
        max_pixels: 1_000_000,
        max_side_px: 4_000,
        min_long_side_px: wanted,
        ..DecodeOptions::default()
    };
    match decode(bytes, &options) {
        Ok(decoded) => {
            let image = decoded.image;
            assert_eq!(image.rgb.len(), image.width as usize * image.height as usize * 3);
            assert!(u64::from(decoded.source_width) * u64::from(decoded.source_height) <= options.max_pixels);
            assert!(image.width <= decoded.source_width && image.height <= decoded.source_height);
        }
        Err(error) => assert!(error.code().starts_with("IMAGE_") && error.to_string().len() < 200),
    }
});
