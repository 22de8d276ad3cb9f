//! Small grey pictures through the barcode reader (zxing-cpp, in C++): symbols within the picture, and what they say through the parsers behind.
//!
//! Run by the fuzz target `barcode` and, on the committed corpus, by `tests/fuzz_corpus.rs`. Three bytes come first: columns and rows, each less one, and a mode. Bit 0
//! of the mode climbs the whole ladder of attempts; bit 1 takes the rest as black and white, eight pixels a byte, so that symbols are small; bits 2 and 3 enlarge; the upper
//! four, if any is set, look for one symbology or two and not for all, which is faster.

use vouch::document::barcode::{Effort, Luma, MAX_SYMBOLS, Request, Symbology, join_parts, read};
use vouch::document::content::ReadBarcode;
use vouch::document::fields;

/// Longest side of a picture once enlarged, and of one on which the whole ladder is climbed, which enlarges it once more.
const MAX_SIDE_PX: u32 = 320;
const MAX_FULL_SIDE_PX: u32 = 192;

/// The ladder's pictures: enlarged and blurred ones of floats, and the decoder's own.
pub const MAX_BYTES: usize = 64 << 20;

pub fn check(bytes: &[u8]) {
    let [width, height, mode, rest @ ..] = bytes else { return };
    let effort = if mode & 1 == 0 { Effort::Once } else { Effort::Full };
    let longest = if effort == Effort::Once { MAX_SIDE_PX } else { MAX_FULL_SIDE_PX };
    let [width, height] = [width, height].map(|side| (u32::from(*side) + 1).min(longest));
    let factor = (u32::from(*mode >> 2 & 3) + 1).min(longest / width.max(height));
    let pixel = |x: u32, y: u32| {
        let at = (y * width + x) as usize;
        if mode & 2 == 0 {
            rest.get(at).copied().unwrap_or(128)
        } else {
            rest.get(at / 8).map_or(255, |byte| if byte >> (at % 8) & 1 == 1 { 0 } else { 255 })
        }
    };
    let (wide, high) = (width * factor, height * factor);
    let pixels = (0..wide * high).map(|at| pixel(at % wide / factor, at / wide / factor)).collect();
    let picture = Luma::new(wide, high, pixels).expect("as many pixels as the sides say");
    let wanted = match mode >> 4 {
        0 => Symbology::ALL.to_vec(),
        one => Symbology::ALL.into_iter().skip(usize::from(one) - 1).step_by(15).collect(),
    };
    let request = Request { wanted, effort, ..Request::default() };
    let found = read(&picture, &request, &|| false).expect("a decoder that does not fail");
    assert!(found.len() <= usize::from(MAX_SYMBOLS));
    for symbol in &found {
        // Corners are extrapolated, so they may lie outside, but not far.
        let far = f64::from(2 * wide.max(high));
        assert!(symbol.quad.iter().flatten().all(|place| f64::from(place.abs()) <= far), "{:?}", symbol.quad);
    }
    let count = found.len();
    let joined = join_parts(found);
    assert!(joined.len() <= count);
    for read in joined.into_iter().filter_map(ReadBarcode::of) {
        if let Some(licence) = &read.licence {
            fields::of_aamva(licence);
        }
    }
}
