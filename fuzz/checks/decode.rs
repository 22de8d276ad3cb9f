//! Any bytes through `imaging::decode`: a picture that keeps what was asked for, or an error that has a code.
//!
//! Run by the fuzz target `decode` and, on the committed corpus, by `tests/fuzz_corpus.rs`. The limits are lower than the daemon's, so that the time goes into parsing
//! rather than into filling large pictures. JPEG (libjpeg-turbo), PNG, WebP and TIFF; HEIC, whose library is the host's and never instrumented, has the target `heic`.

use vouch::imaging::decode::{DecodeError, DecodeOptions, decode};

const OPTIONS: DecodeOptions =
    DecodeOptions { max_bytes: 1 << 20, max_pixels: 262_144, max_side_px: 4_000, min_long_side_px: None };

/// 16 bytes for each pixel, as [`DecodeOptions::max_pixels`] says, and what the decoders may take for chunks and tables.
pub const MAX_BYTES: usize = 16 * OPTIONS.max_pixels as usize + (18 << 20);

pub fn check(bytes: &[u8]) {
    // HEIC's mark.
    if bytes.get(4..8) != Some(b"ftyp") {
        picture(bytes);
    }
}

/// The check for every format.
pub fn picture(bytes: &[u8]) {
    let wanted = bytes.last().map(|last| u32::from(*last) * 4);
    let options = DecodeOptions { min_long_side_px: wanted, ..OPTIONS };
    let decoded = match decode(bytes, &options) {
        Ok(decoded) => decoded,
        Err(error) => {
            assert!(error.code().starts_with("IMAGE_") && error.to_string().len() < 200);
            return;
        }
    };
    let (image, source) = (&decoded.image, [decoded.source_width, decoded.source_height]);
    assert_eq!(image.rgb.len(), image.width as usize * image.height as usize * 3);
    assert!(source.iter().all(|side| (1..=options.max_side_px).contains(side)));
    assert!(u64::from(source[0]) * u64::from(source[1]) <= options.max_pixels);
    for (side, source) in [image.width, image.height].into_iter().zip(source) {
        assert_eq!(f64::from(side), (f64::from(source) * decoded.scale).ceil());
    }
    if decoded.scale < 1.0 {
        assert!(Some(image.width.max(image.height)) >= wanted);
    }
    // The same bytes give the same picture: memory that was never written would show here.
    let again = decode(bytes, &options).expect("it could be decoded before");
    assert!(again.image.rgb == image.rgb && again.orientation == decoded.orientation);
    // A limit that the picture exceeds by one is kept, in every format.
    for tight in [
        DecodeOptions { max_pixels: u64::from(source[0]) * u64::from(source[1]) - 1, ..options },
        DecodeOptions { max_side_px: source[0].max(source[1]) - 1, ..options },
    ] {
        assert!(matches!(decode(bytes, &tight), Err(DecodeError::TooLarge { .. })));
    }
}
