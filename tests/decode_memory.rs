//! What a small picture file may cost in memory, whatever it expands to: counted by an allocator of its own, which is why this is a test target of its own.
//!
//! Only what Rust code takes is counted. The fuzz targets count what C and C++ libraries take as well (`fuzz/src/lib.rs`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use vouch::imaging::decode::{DecodeOptions, decode};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is handed on to the system's allocator; what is counted changes nothing of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's own promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's own promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes of a file's own tables that decoders may take, and as much again for what is not theirs.
const TABLE_BYTES: usize = 2 * (16 << 20);

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    let mut sum = flate2::Crc::new();
    sum.update(&body);
    [&(data.len() as u32).to_be_bytes()[..], &body, &sum.sum().to_be_bytes()].concat()
}

fn deflated(mebibytes: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let part = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        std::io::Write::write_all(&mut encoder, &part).unwrap();
    }
    encoder.finish().unwrap()
}

/// A PNG of one pixel with a chunk behind its header.
fn png_with(extra: &[u8]) -> Vec<u8> {
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&[1, 2, 3], 1, 1, ExtendedColorType::Rgb8).unwrap();
    [&png[..33], extra, &png[33..]].concat()
}

/// A TIFF of one grey pixel, whose one strip or tile is deflated data.
fn tiff_with(layout: &[(u16, u32)], data: &[u8]) -> Vec<u8> {
    let common = [(256, 1), (257, 1), (258, 8), (259, 8), (262, 1), (277, 1)];
    let mut tags: Vec<(u16, u32)> = common.iter().chain(layout).copied().collect();
    tags.sort_unstable();
    let start = 8 + 2 + 12 * tags.len() as u32 + 4;
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend((tags.len() as u16).to_le_bytes());
    for (tag, value) in tags {
        let value = if value == u32::MAX { start } else { value };
        file.extend([&tag.to_le_bytes()[..], &4u16.to_le_bytes(), &1u32.to_le_bytes(), &value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    file.extend(data);
    file
}

#[test]
fn a_small_file_of_one_pixel_takes_no_memory_for_what_it_expands_to() {
    let bomb = deflated(400);
    let length = bomb.len() as u32;
    // One pixel by its container, 36 and 268 million by the data inside.
    let mut jpeg = Vec::new();
    let grey = vec![90; 6000 * 6000];
    JpegEncoder::new_with_quality(&mut jpeg, 30).write_image(&grey, 6000, 6000, ExtendedColorType::L8).unwrap();
    let canvas =
        b"RIFF\xc0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0VP8 \xa2\0\0\0\x10\0\0\x9d\x01\x2a\xff\x3f\xff\x3f";
    let mut tiff_of_jpeg = tiff_with(&[(273, u32::MAX), (278, 1), (279, jpeg.len() as u32)], &jpeg);
    // Deflate becomes JPEG.
    let at = tiff_of_jpeg.windows(9).position(|entry| entry == b"\x03\x01\x04\0\x01\0\0\0\x08").unwrap();
    tiff_of_jpeg[at + 8] = 7;
    // Found by fuzzing: a width of seven million values, of which the file holds none.
    let mut tiff_of_values = tiff_with(&[(273, u32::MAX), (278, 1), (279, 1)], &[0; 8]);
    tiff_of_values[14..18].copy_from_slice(&7_667_713u32.to_le_bytes());
    let files = [
        ("a TIFF's tag", tiff_of_values),
        ("a JPEG in a TIFF", tiff_of_jpeg),
        ("a WebP's frame", [&canvas[..], &[0; 152]].concat()),
        ("a PNG's profile", png_with(&chunk(b"iCCP", &[b"p\0\0", &bomb[..]].concat()))),
        ("a PNG's text", png_with(&chunk(b"zTXt", &[b"c\0\0", &bomb[..]].concat()))),
        ("a PNG's international text", png_with(&chunk(b"iTXt", &[b"c\0\x01\0\0\0", &bomb[..]].concat()))),
        ("a PNG's pixels", png_with(&chunk(b"IDAT", &bomb))),
        ("a TIFF's strip", tiff_with(&[(273, u32::MAX), (278, 1), (279, length)], &bomb)),
        ("a TIFF's strip of all rows", tiff_with(&[(273, u32::MAX), (278, u32::MAX - 1), (279, length)], &bomb)),
        ("a TIFF's tile", tiff_with(&[(322, 20_000), (323, 20_000), (324, u32::MAX), (325, length)], &bomb)),
    ];
    for (name, file) in files {
        let before = HELD.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let result = decode(&file, &DecodeOptions::default()).map(|decoded| decoded.image.width);
        let peak = PEAK.load(Ordering::Relaxed) - before;
        println!("{name}: {} bytes of file, {peak} of memory, {result:?}", file.len());
        assert!(peak <= TABLE_BYTES + 4 * file.len(), "{name}: {peak} bytes");
    }
}
