//! Of picture files: what is decoded, what is refused, and within which bounds.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use image::codecs::{png::PngEncoder, tiff::TiffEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder};
use proptest::prelude::*;
use turbojpeg::{Compressor, Subsamp};

use super::*;

const SIDE: (u32, u32) = (40, 24);

/// Four even quadrants, so that lossy formats keep their colours: red, green / blue, yellow.
fn quadrants((width, height): (u32, u32)) -> Image {
    Image::build(width, height, |rgb| {
        for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            let right = i as u32 % width >= width / 2;
            let low = i as u32 / width >= height / 2;
            pixel.copy_from_slice(match (right, low) {
                (false, false) => &[220, 30, 30],
                (true, false) => &[30, 200, 40],
                (false, true) => &[20, 40, 210],
                (true, true) => &[230, 220, 20],
            });
        }
    })
}

fn encode_with(encoder: impl ImageEncoder, pixels: &[u8], size: (u32, u32), color: ExtendedColorType) {
    encoder.write_image(pixels, size.0, size.1, color).expect("encoding");
}

fn png_of(pixels: &[u8], size: (u32, u32), color: ExtendedColorType) -> Vec<u8> {
    let mut file = Vec::new();
    encode_with(PngEncoder::new(&mut file), pixels, size, color);
    file
}

fn webp_of(pixels: &[u8], size: (u32, u32), color: ExtendedColorType) -> Vec<u8> {
    let mut file = Vec::new();
    encode_with(WebPEncoder::new_lossless(&mut file), pixels, size, color);
    file
}

fn tiff_of(pixels: &[u8], size: (u32, u32), color: ExtendedColorType) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    encode_with(TiffEncoder::new(&mut file), pixels, size, color);
    file.into_inner()
}

/// A JPEG of `pixels` in `format`, adjusted by `settings`.
fn jpeg_of(
    pixels: &[u8],
    (width, height): (u32, u32),
    format: PixelFormat,
    settings: impl Fn(&mut Compressor),
) -> Vec<u8> {
    let mut compressor = Compressor::new().expect("compressor");
    compressor.set_quality(95).expect("quality");
    compressor.set_subsamp(Subsamp::None).expect("subsampling");
    settings(&mut compressor);
    let (width, height) = (width as usize, height as usize);
    let image = turbojpeg::Image { pixels, width, pitch: width * format.size(), height, format };
    compressor.compress_to_vec(image).expect("encoding")
}

fn jpeg(image: &Image) -> Vec<u8> {
    jpeg_of(&image.rgb, (image.width, image.height), PixelFormat::RGB, |_| ())
}

/// The TIFF block of an EXIF segment that holds the orientation and nothing else.
fn exif_block(orientation: u8) -> Vec<u8> {
    let mut block = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0]);
    block
}

fn with_exif(jpeg: &[u8], block: &[u8]) -> Vec<u8> {
    let mut file = jpeg[..2].to_vec();
    file.extend(b"\xff\xe1");
    file.extend((block.len() as u16 + 8).to_be_bytes());
    file.extend(b"Exif\0\0");
    file.extend(block);
    file.extend(&jpeg[2..]);
    file
}

fn decode_default(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode(bytes, &DecodeOptions::default())
}

/// Asserts that two pictures have one size and differ by at most `tolerance` away from the quadrants' edges.
fn assert_alike(got: &Image, expected: &Image, tolerance: u8, what: &str) {
    assert_eq!((got.width, got.height), (expected.width, expected.height), "{what}");
    let (w, h) = (got.width, got.height);
    for (x, y) in
        [(w / 4, h / 4), (w * 3 / 4, h / 4), (w / 4, h * 3 / 4), (w * 3 / 4, h * 3 / 4), (0, 0), (w - 1, h - 1)]
    {
        let (got, expected) = (got.pixel(x, y), expected.pixel(x, y));
        assert!(
            got.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= tolerance),
            "{what} at {x},{y}: {got:?} for {expected:?}"
        );
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()[..]].concat()
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut data = [width.to_be_bytes(), height.to_be_bytes()].concat();
    data.extend([8, 2, 0, 0, 0]);
    [b"\x89PNG\r\n\x1a\n".to_vec(), png_chunk(b"IHDR", &data)].concat()
}

fn riff_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let padding = &[0][..data.len() % 2];
    [kind.as_slice(), &(data.len() as u32).to_le_bytes(), data, padding].concat()
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = [b"WEBP".to_vec(), chunks.concat()].concat();
    [b"RIFF".to_vec(), (body.len() as u32).to_le_bytes().to_vec(), body].concat()
}

#[test]
fn every_format_gives_the_picture() {
    let expected = quadrants(SIDE);
    for (file, format, tolerance) in [
        (jpeg(&expected), Format::Jpeg, 4),
        (png_of(&expected.rgb, SIDE, ExtendedColorType::Rgb8), Format::Png, 0),
        (webp_of(&expected.rgb, SIDE, ExtendedColorType::Rgb8), Format::WebP, 0),
        (tiff_of(&expected.rgb, SIDE, ExtendedColorType::Rgb8), Format::Tiff, 0),
    ] {
        let decoded = decode_default(&file).expect("a good file");
        assert_alike(&decoded.image, &expected, tolerance, &format.to_string());
        assert_eq!((decoded.source_width, decoded.source_height, decoded.scale), (SIDE.0, SIDE.1, 1.0));
        assert_eq!((decoded.format, decoded.orientation), (format, Orientation::Upright));
    }
}

#[test]
fn every_orientation_is_applied_in_every_format() {
    let stored = quadrants(SIDE);
    let jpeg = jpeg(&stored);
    for orientation in Orientation::ALL {
        let block = exif_block(orientation as u8);
        let mut png = Vec::new();
        let mut encoder = PngEncoder::new(&mut png);
        encoder.set_exif_metadata(block.clone()).expect("PNG takes EXIF");
        encode_with(encoder, &stored.rgb, SIDE, ExtendedColorType::Rgb8);
        let mut webp = Vec::new();
        let mut encoder = WebPEncoder::new_lossless(&mut webp);
        encoder.set_exif_metadata(block.clone()).expect("WebP takes EXIF");
        encode_with(encoder, &stored.rgb, SIDE, ExtendedColorType::Rgb8);
        let tiff = tiff_with_orientation(&stored, orientation as u8);

        let expected = orient::apply(&stored, orientation);
        for (file, tolerance) in [(with_exif(&jpeg, &block), 4), (png, 0), (webp, 0), (tiff, 0)] {
            let decoded = decode_default(&file).expect("a good file");
            let what = format!("{} {orientation:?}", decoded.format);
            assert_alike(&decoded.image, &expected, tolerance, &what);
            assert_eq!(decoded.orientation, orientation, "{what}");
            assert_eq!((decoded.source_width, decoded.source_height), (expected.width, expected.height), "{what}");
        }
    }
}

/// A TIFF whose directory is written once more at the end, with the orientation among its entries.
fn tiff_with_orientation(image: &Image, orientation: u8) -> Vec<u8> {
    let mut tiff = tiff_of(&image.rgb, (image.width, image.height), ExtendedColorType::Rgb8);
    let word = |tiff: &[u8], at: usize| u32::from_le_bytes([tiff[at], tiff[at + 1], tiff[at + 2], tiff[at + 3]]);
    let directory = word(&tiff, 4) as usize;
    let count = usize::from(u16::from_le_bytes([tiff[directory], tiff[directory + 1]]));
    let mut entries: Vec<Vec<u8>> =
        tiff[directory + 2..directory + 2 + count * 12].chunks(12).map(<[u8]>::to_vec).collect();
    entries.push([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0].to_vec());
    entries.sort_by_key(|entry| u16::from_le_bytes([entry[0], entry[1]]));
    let end = tiff.len() as u32;
    tiff[4..8].copy_from_slice(&end.to_le_bytes());
    tiff.extend((count as u16 + 1).to_le_bytes());
    tiff.extend(entries.concat());
    tiff.extend([0; 4]);
    tiff
}

#[test]
fn a_damaged_exif_block_does_not_cost_the_picture() {
    let file = jpeg(&quadrants(SIDE));
    for block in [&b""[..], b"MM\0*", b"MM\0*\xff\xff\xff\xff", &exif_block(0), &exif_block(9), &exif_block(6)[..20]] {
        let decoded = decode_default(&with_exif(&file, block)).expect("a good picture");
        assert_eq!(decoded.orientation, Orientation::Upright);
    }
}

#[test]
fn a_jpeg_is_scaled_to_the_smallest_size_that_is_large_enough() {
    let image = quadrants((801, 403));
    let file = with_exif(&jpeg(&image), &exif_block(6));
    for (wanted, divisor) in [
        (None, 1),
        (Some(802), 1),
        (Some(402), 1),
        (Some(401), 2),
        (Some(201), 4),
        (Some(102), 4),
        (Some(101), 8),
        (Some(1), 8),
    ] {
        let options = DecodeOptions { min_long_side_px: wanted, ..DecodeOptions::default() };
        let decoded = decode(&file, &options).expect("a good file");
        assert_eq!((decoded.source_width, decoded.source_height), (403, 801), "{wanted:?}");
        assert_eq!(decoded.scale, 1.0 / f64::from(divisor), "{wanted:?}");
        assert_eq!((decoded.image.width, decoded.image.height), (403u32.div_ceil(divisor), 801u32.div_ceil(divisor)));
        // Quadrants of the turned picture: blue, red / yellow, green.
        let (w, h) = (decoded.image.width, decoded.image.height);
        for ((x, y), expected) in [
            ((w / 4, h / 4), [20, 40, 210]),
            ((w * 3 / 4, h / 4), [220, 30, 30]),
            ((w * 3 / 4, h * 3 / 4), [30, 200, 40]),
        ] {
            assert!(
                decoded.image.pixel(x, y).iter().zip(expected).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 5),
                "{wanted:?}"
            );
        }
    }
}

#[test]
fn grey_cmyk_progressive_arithmetic_and_lossless_jpegs_become_rgb() {
    let image = quadrants(SIDE);
    let luma = super::super::quality::luma(&image);
    let grey = decode_default(&jpeg_of(&luma, SIDE, PixelFormat::GRAY, |compressor| {
        compressor.set_subsamp(Subsamp::Gray).expect("grey");
    }));
    let grey = grey.expect("grey").image;
    let expected = Image::build(SIDE.0, SIDE.1, |rgb| {
        for (pixel, value) in rgb.chunks_exact_mut(3).zip(&luma) {
            pixel.fill(*value);
        }
    });
    assert_alike(&grey, &expected, 4, "grey");

    // Inverted inks as Adobe writes them; libjpeg adds the Adobe segment.
    let cmyk: Vec<u8> = image.rgb.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect();
    let file = jpeg_of(&cmyk, SIDE, PixelFormat::CMYK, |_| ());
    assert!(read_segments(&file).expect("whole").adobe);
    assert_alike(&decode_default(&file).expect("CMYK").image, &image, 6, "CMYK");
    let turned = decode_default(&with_exif(&file, &exif_block(8))).expect("turned CMYK");
    assert_alike(&turned.image, &orient::apply(&image, Orientation::Rotate270), 6, "turned CMYK");

    type Setting = fn(&mut Compressor);
    let progressive: Setting = |compressor| compressor.set_progressive(true).expect("progressive");
    let arithmetic: Setting = |compressor| compressor.set_arithmetic(true).expect("arithmetic");
    let lossless: Setting = |compressor| compressor.set_lossless(true).expect("lossless");
    for (setting, what) in [(progressive, "progressive"), (arithmetic, "arithmetic"), (lossless, "lossless")] {
        let file = jpeg_of(&image.rgb, SIDE, PixelFormat::RGB, setting);
        let options = DecodeOptions { min_long_side_px: Some(10), ..DecodeOptions::default() };
        assert_alike(&decode_default(&file).expect(what).image, &image, 4, what);
        let scale = decode(&file, &options).expect(what).scale;
        assert_eq!(scale, if what == "lossless" { 1.0 } else { 0.25 }, "{what}");
    }
}

#[test]
fn deep_grey_and_transparent_pixels_become_rgb() {
    let expect = |pixels: &[u8], color, expected: [u8; 3]| {
        for file in [png_of(pixels, (1, 1), color), tiff_of(pixels, (1, 1), color)] {
            let decoded = decode_default(&file).expect("a good file");
            assert_eq!(decoded.image.pixel(0, 0), expected, "{color:?} {}", decoded.format);
        }
    };
    let wide = |values: &[u16]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>();
    expect(&[77], ExtendedColorType::L8, [77; 3]);
    expect(&wide(&[0x8000]), ExtendedColorType::L16, [128; 3]);
    expect(&wide(&[0xffff, 0x0101, 0]), ExtendedColorType::Rgb16, [255, 1, 0]);
    expect(&[10, 20, 30, 0], ExtendedColorType::Rgba8, [255; 3]);
    expect(&[10, 20, 30, 255], ExtendedColorType::Rgba8, [10, 20, 30]);
    expect(&[0, 100, 255, 128], ExtendedColorType::Rgba8, [127, 177, 255]);
    expect(&wide(&[0, 0xffff, 0, 0x8000]), ExtendedColorType::Rgba16, [127, 255, 127]);
    let grey_alpha = decode_default(&png_of(&[0, 128], (1, 1), ExtendedColorType::La8)).expect("grey with alpha");
    assert_eq!(grey_alpha.image.pixel(0, 0), [127; 3]);
    let webp = decode_default(&webp_of(&[10, 20, 30, 0], (1, 1), ExtendedColorType::Rgba8)).expect("transparent WebP");
    assert_eq!(webp.image.pixel(0, 0), [255; 3]);
}

#[test]
fn a_palette_png_becomes_rgb() {
    // 2 × 1 pixels with 8-bit indices into a palette of two colours; a stored (uncompressed) deflate block.
    let raw = [0, 1, 0];
    let mut data = vec![0x78, 0x01, 0x01, 3, 0, 0xfc, 0xff];
    data.extend(raw);
    let (a, b) = raw.iter().fold((1u32, 0u32), |(a, b), byte| (a + u32::from(*byte), b + a + u32::from(*byte)));
    data.extend((b << 16 | a).to_be_bytes());
    let file = [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        png_chunk(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 1, 8, 3, 0, 0, 0]),
        png_chunk(b"PLTE", &[1, 2, 3, 200, 100, 50]),
        png_chunk(b"IDAT", &data),
        png_chunk(b"IEND", &[]),
    ]
    .concat();
    let image = decode_default(&file).expect("a good file").image;
    assert_eq!((image.pixel(0, 0), image.pixel(1, 0)), ([200, 100, 50], [1, 2, 3]));
}

#[test]
fn what_is_not_a_picture_is_named() {
    assert_eq!(decode_default(b"").expect_err("empty").code(), "IMAGE_EMPTY");
    for (bytes, expected) in [
        (&b"This is a text with the name portrait.jpg\n"[..], "text"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"GIF89a\x01\0\x01\0", "a GIF picture"),
        (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\0\0", "a BMP picture"),
        (b"PK\x03\x04\x14\0", "a ZIP archive"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a RIFF file of another kind"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video or another ISO media file"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF picture"),
        (b"\0\x01\x02\x03", "data of an unknown kind"),
    ] {
        let Err(DecodeError::UnsupportedFormat { found }) = decode_default(bytes) else { panic!("{expected}") };
        assert_eq!(found.to_string(), expected);
    }
}

#[test]
fn limits_are_checked_on_the_header() {
    let started = Instant::now();
    let error = decode_default(&png_header(50_000, 50_000)).expect_err("too large");
    assert_eq!(error, DecodeError::TooLarge { limit: Limit::SidePx, allowed: 20_000 });
    let error = decode_default(&png_header(10_000, 10_000)).expect_err("too large");
    assert_eq!(error, DecodeError::TooLarge { limit: Limit::Pixels, allowed: 50_000_000 });
    assert_eq!(error.code(), "IMAGE_TOO_LARGE");
    // The sides of a JPEG, set in its frame header to 60 000.
    let mut file = jpeg(&quadrants(SIDE));
    let frame = file.windows(2).position(|pair| pair == b"\xff\xc0").expect("a frame header");
    file[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    assert_eq!(decode_default(&file).expect_err("too large").code(), "IMAGE_TOO_LARGE");
    // Well below what one of these pictures would take to allocate and fill.
    assert!(started.elapsed().as_millis() < 100);

    let image = quadrants(SIDE);
    let options = DecodeOptions { max_pixels: 959, max_side_px: 40, ..DecodeOptions::default() };
    for file in [
        jpeg(&image),
        png_of(&image.rgb, SIDE, ExtendedColorType::Rgb8),
        webp_of(&image.rgb, SIDE, ExtendedColorType::Rgb8),
        tiff_of(&image.rgb, SIDE, ExtendedColorType::Rgb8),
    ] {
        let error = decode(&file, &options).expect_err("one pixel too many");
        assert_eq!(error, DecodeError::TooLarge { limit: Limit::Pixels, allowed: 959 });
        let exact = DecodeOptions { max_pixels: 960, max_bytes: file.len() as u64, ..options };
        assert!(decode(&file, &exact).is_ok());
        let error = decode(&file, &DecodeOptions { max_side_px: 39, ..exact }).expect_err("one column too many");
        assert_eq!(error, DecodeError::TooLarge { limit: Limit::SidePx, allowed: 39 });
        let error =
            decode(&file, &DecodeOptions { max_bytes: file.len() as u64 - 1, ..exact }).expect_err("one byte too many");
        assert!(matches!(error, DecodeError::TooLarge { limit: Limit::Bytes, .. }));
    }
}

#[test]
fn a_jpeg_of_many_scans_is_refused() {
    // Repeat one refinement-free scan of a progressive file: each copy costs a pass over the picture.
    let file = jpeg_of(&quadrants(SIDE).rgb, SIDE, PixelFormat::RGB, |compressor| {
        compressor.set_progressive(true).expect("progressive");
    });
    let scans: Vec<usize> = (0..file.len() - 1).filter(|at| file[*at..*at + 2] == *b"\xff\xda").collect();
    let mut bomb = file[..scans[1]].to_vec();
    for _ in 0..MAX_JPEG_SCANS + 5 {
        bomb.extend(&file[scans[1]..scans[2]]);
    }
    bomb.extend(&file[scans[1]..]);
    let error = decode_default(&bomb).expect_err("too many scans");
    let allowed = MAX_JPEG_SCANS.into();
    assert_eq!(error, DecodeError::TooLarge { limit: Limit::JpegScans, allowed });
}

/// A grey TIFF of one strip that holds a JPEG.
fn tiff_of_jpeg((width, height): (u32, u32), jpeg: &[u8]) -> Vec<u8> {
    let tags = [(256, width), (257, height), (258, 8), (259, 7), (262, 1), (273, 122), (277, 1), (278, height)];
    let mut file = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, value) in tags.into_iter().chain([(279, jpeg.len() as u32)]) {
        file.extend([&(tag as u16).to_le_bytes()[..], &[4, 0, 1, 0, 0, 0], &value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    assert_eq!(file.len(), 122);
    file.extend(jpeg);
    file
}

#[test]
fn a_jpeg_inside_of_a_tiff_keeps_the_limits_of_a_jpeg() {
    let grey = |size: (u32, u32), settings: &dyn Fn(&mut Compressor)| {
        jpeg_of(&vec![90; (size.0 * size.1) as usize], size, PixelFormat::GRAY, |compressor| {
            compressor.set_subsamp(Subsamp::Gray).expect("subsampling");
            settings(compressor);
        })
    };
    let good = tiff_of_jpeg(SIDE, &grey(SIDE, &|_| ()));
    assert!(decode_default(&good).expect("a good file").image.pixel(3, 3)[0].abs_diff(90) < 3);
    for larger in [(SIDE.0 + 1, SIDE.1), (SIDE.0, SIDE.1 + 1)] {
        let file = tiff_of_jpeg(SIDE, &grey(larger, &|_| ()));
        assert_eq!(decode_default(&file).expect_err("larger inside"), DecodeError::Corrupt(Format::Tiff));
    }
    let file = grey(SIDE, &|compressor| compressor.set_progressive(true).expect("progressive"));
    let scans: Vec<usize> = (0..file.len() - 1).filter(|at| file[*at..*at + 2] == *b"\xff\xda").collect();
    let repeated = file[scans[1]..scans[2]].repeat(MAX_JPEG_SCANS as usize);
    let bomb = [&file[..scans[1]], &repeated, &file[scans[1]..]].concat();
    let error = decode_default(&tiff_of_jpeg(SIDE, &bomb)).expect_err("too many scans");
    assert_eq!(error, DecodeError::TooLarge { limit: Limit::JpegScans, allowed: MAX_JPEG_SCANS.into() });
}

#[test]
fn a_webp_frame_larger_than_its_canvas_is_refused() {
    // A lossy file of 40 × 24, which no crate here can write; what is in it becomes the frame of a canvas.
    let frame = include_bytes!("../../../fuzz/corpus/decode/webp-lossy")[12..].to_vec();
    let on_canvas = |width: u8, height: u8| {
        let canvas = [0, 0, 0, 0, width - 1, 0, 0, height - 1, 0, 0];
        decode_default(&riff(&[riff_chunk(b"VP8X", &canvas), frame.clone()])).map(|decoded| decoded.source_width)
    };
    assert_eq!(on_canvas(40, 24), Ok(40));
    for (width, height) in [(1, 1), (39, 24), (40, 23), (41, 24), (24, 40)] {
        assert_eq!(on_canvas(width, height), Err(DecodeError::Corrupt(Format::WebP)));
    }
}

#[test]
fn animations_are_refused() {
    let still = webp_of(&[1, 2, 3], (1, 1), ExtendedColorType::Rgb8);
    // The still's own picture chunk becomes the one frame of an animation.
    let frame = [&[0; 12][..], &[100, 0, 0, 0], &still[12..]].concat();
    let animation = riff(&[
        riff_chunk(b"VP8X", &[0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        riff_chunk(b"ANIM", &[0; 6]),
        riff_chunk(b"ANMF", &frame),
    ]);
    assert_eq!(decode_default(&animation).expect_err("animated"), DecodeError::Animated(Format::WebP));

    let png = png_of(&[1, 2, 3], (1, 1), ExtendedColorType::Rgb8);
    let animated = [&png[..33], &png_chunk(b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0]), &png[33..]].concat();
    let error = decode_default(&animated).expect_err("animated");
    assert_eq!((error, error.code()), (DecodeError::Animated(Format::Png), "IMAGE_ANIMATED"));
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let image = quadrants(SIDE);
    let baseline = jpeg(&image);
    let progressive = jpeg_of(&image.rgb, SIDE, PixelFormat::RGB, |c| c.set_progressive(true).expect("progressive"));
    for file in [
        with_exif(&baseline, &exif_block(3)),
        progressive,
        png_of(&image.rgb, SIDE, ExtendedColorType::Rgb8),
        webp_of(&image.rgb, SIDE, ExtendedColorType::Rgb8),
    ] {
        assert!(decode_default(&file).is_ok());
        for length in 1..file.len() {
            match decode_default(&file[..length]) {
                Ok(_) => panic!("{:?} cut at {length} of {} was accepted", sniff(&file), file.len()),
                // Not yet recognisable as a picture.
                Err(DecodeError::UnsupportedFormat { .. }) => assert!(length < 12),
                Err(error) => assert_eq!(error.code(), "IMAGE_TRUNCATED", "cut at {length} of {}", file.len()),
            }
        }
    }
}

#[test]
fn a_cut_tiff_is_an_error_or_the_whole_picture() {
    // The directory lies at the end, so nearly every cut loses it; the last bytes may be ones that nobody needs.
    let image = quadrants(SIDE);
    let file = tiff_of(&image.rgb, SIDE, ExtendedColorType::Rgb8);
    for length in 4..file.len() {
        if let Ok(decoded) = decode_default(&file[..length]) {
            assert_eq!(decoded.image.rgb, image.rgb, "cut at {length} of {}", file.len());
        }
    }
}

#[test]
fn a_few_bytes_of_padding_before_the_end_are_accepted() {
    let image = quadrants(SIDE);
    let file = jpeg(&image);
    let padded = |count: usize| [&file[..file.len() - 2], &vec![0; count], &file[file.len() - 2..]].concat();
    assert_alike(&decode_default(&padded(4)).expect("padded").image, &image, 4, "padded");
    assert_eq!(decode_default(&padded(1000)).expect_err("much padding"), DecodeError::Corrupt(Format::Jpeg));
    // Anything after the end, as in files of several pictures, is not read.
    let trailing = [&file[..], &file[..], b"and more"].concat();
    assert_alike(&decode_default(&trailing).expect("trailing").image, &image, 4, "trailing");
}

#[test]
fn damaged_picture_data_is_an_error() {
    let image = quadrants((200, 160));
    let mut png = png_of(&image.rgb, (200, 160), ExtendedColorType::Rgb8);
    let middle = png.len() / 2;
    png[middle] ^= 0x55;
    assert_eq!(decode_default(&png).expect_err("damaged"), DecodeError::Corrupt(Format::Png));
}

#[test]
fn an_upright_picture_is_decoded_once_into_its_own_memory() {
    let decoded = decode_default(&png_of(&[1, 2, 3], (1, 1), ExtendedColorType::Rgb8)).expect("a good file");
    assert_eq!((Arc::strong_count(&decoded.image.rgb), decoded.image.rgb.len()), (1, 3));
}

#[test]
fn heic_is_read_where_the_host_has_libheif() {
    let tool = Command::new("heif-enc").arg("--version").output();
    if !heic::is_available() || tool.is_err() {
        println!("SKIPPED heic_is_read_where_the_host_has_libheif: needs libheif.so.1 and the program heif-enc");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let size = (128, 80);
    let image = quadrants(size);
    let source = folder.path().join("source.png");
    let target = folder.path().join("target.heic");
    std::fs::write(&source, png_of(&image.rgb, size, ExtendedColorType::Rgb8)).expect("writing");
    let run = Command::new("heif-enc").args(["-q", "90", "-o"]).arg(&target).arg(&source).output();
    assert!(run.expect("heif-enc").status.success(), "heif-enc failed");
    let plain = std::fs::read(&target).expect("reading");
    // A quarter turn clockwise, as telephones write it: the property "pixi", which nobody needs, becomes "irot" with the
    // angle 3 (times 90° anticlockwise).
    let mut turned = plain.clone();
    let property = turned.windows(4).position(|name| name == b"pixi").expect("heif-enc writes pixi");
    turned[property..property + 5].copy_from_slice(b"irot\x03");
    for (name, file, expected) in
        [("plain", plain, image.clone()), ("turned", turned, orient::apply(&image, Orientation::Rotate90))]
    {
        let decoded = decode_default(&file).expect("a good file");
        assert_alike(&decoded.image, &expected, 12, name);
        assert_eq!((decoded.format, decoded.orientation), (Format::Heic, Orientation::Upright));

        let options = DecodeOptions { max_pixels: 128 * 80 - 1, ..DecodeOptions::default() };
        assert_eq!(decode(&file, &options).expect_err("too large").code(), "IMAGE_TOO_LARGE");
        for length in (12..file.len()).step_by(7) {
            let error = decode_default(&file[..length]).expect_err("a cut file");
            assert!(["IMAGE_TRUNCATED", "IMAGE_CORRUPT"].contains(&error.code()), "{name} cut at {length}: {error}");
        }
    }
}

proptest! {
    // PROPTEST_CASES=100000 makes a short fuzzing run of it where no nightly compiler is at hand.
    #[test]
    fn changed_bytes_never_panic_and_never_change_the_declared_size(
        format in 0usize..4, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let image = quadrants((17, 9));
        let mut file = match format {
            0 => jpeg(&image),
            1 => png_of(&image.rgb, (17, 9), ExtendedColorType::Rgb8),
            2 => webp_of(&image.rgb, (17, 9), ExtendedColorType::Rgb8),
            _ => tiff_of(&image.rgb, (17, 9), ExtendedColorType::Rgb8),
        };
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        let options = DecodeOptions { max_pixels: 1_000_000, ..DecodeOptions::default() };
        if let Ok(decoded) = decode(&file, &options) {
            prop_assert_eq!(decoded.image.rgb.len(), decoded.image.width as usize * decoded.image.height as usize * 3);
            prop_assert_eq!((decoded.source_width, decoded.source_height), (decoded.image.width, decoded.image.height));
        }
    }
}
