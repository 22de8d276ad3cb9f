//! Any bytes as the EXIF block of a good picture: the picture is read, whatever the block says.
//!
//! Run by the fuzz target `exif` and, on the committed corpus, by `tests/fuzz_corpus.rs`. The block is put into a JPEG, a PNG and a WebP file.

use std::sync::LazyLock;

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder};
use vouch::imaging::decode::{DecodeOptions, decode};
use vouch::imaging::orient::{Orientation, apply, exif_orientation};

/// The block several times over, and small pictures with their decoders' tables.
pub const MAX_BYTES: usize = 8 << 20;

/// Columns and rows of the picture. They differ, so that a turned picture shows.
const SIZE: (u32, u32) = (5, 3);

/// Longest block: what a JPEG segment has room for.
const MAX_BLOCK_BYTES: usize = 65_535 - 2 - 6;

static PIXELS: LazyLock<Vec<u8>> = LazyLock::new(|| (0..SIZE.0 * SIZE.1 * 3).map(|value| value as u8 * 5).collect());

static JPEG: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut file = Vec::new();
    encode(JpegEncoder::new_with_quality(&mut file, 90));
    file
});

pub fn check(bytes: &[u8]) {
    // As a file of its own as well: whatever it is, the answer is one of eight.
    exif_orientation(bytes);
    let block = &bytes[..bytes.len().min(MAX_BLOCK_BYTES)];
    let mut jpeg = JPEG[..2].to_vec();
    jpeg.extend(b"\xff\xe1");
    jpeg.extend((block.len() as u16 + 8).to_be_bytes());
    jpeg.extend(b"Exif\0\0");
    jpeg.extend(block);
    jpeg.extend(&JPEG[2..]);
    let mut png = Vec::new();
    encode_with_exif(PngEncoder::new(&mut png), block);
    let mut webp = Vec::new();
    encode_with_exif(WebPEncoder::new_lossless(&mut webp), block);

    let upright = decode(&JPEG, &DecodeOptions::default()).expect("a good picture").image;
    let mut found = Vec::new();
    for file in [jpeg, png, webp] {
        let decoded = decode(&file, &DecodeOptions::default()).expect("the picture is good, whatever its EXIF block");
        assert_eq!(decoded.orientation, exif_orientation(&file));
        let sides = if decoded.orientation.swaps_sides() { (SIZE.1, SIZE.0) } else { SIZE };
        assert_eq!((decoded.image.width, decoded.image.height), sides);
        if found.is_empty() {
            assert!(decoded.image.rgb == apply(&upright, decoded.orientation).rgb);
        }
        found.push(decoded.orientation);
    }
    // A block that carries the mark of JPEG's segments itself is read past it in some containers.
    if !block.starts_with(b"Exif") {
        assert!(found.iter().all(|orientation| *orientation == found[0]), "{found:?}");
    }
    assert!(Orientation::ALL.contains(&found[0]));
}

fn encode(encoder: impl ImageEncoder) {
    encoder.write_image(&PIXELS, SIZE.0, SIZE.1, ExtendedColorType::Rgb8).expect("encoding into memory");
}

fn encode_with_exif(mut encoder: impl ImageEncoder, block: &[u8]) {
    encoder.set_exif_metadata(block.to_vec()).expect("the format takes EXIF");
    encode(encoder);
}
