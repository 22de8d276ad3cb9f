//! Pictures whose size stands in a file twice: in the container, and in the data inside of it; and what a TIFF's directory says it holds.
//!
//! Called by `decode` before the decoders run. They take memory and time by what the inner data says of itself and compare it with the container afterwards, if at all, so a
//! container of one pixel would let in what no limit has seen. Left out: whatever the decoders compare themselves before they begin. Sources: RFC 9649 (WebP), RFC 6386 (VP8), TIFF
//! Technical Note 2 (JPEG in TIFF), ITU-T T.81 (JPEG).

use std::io::Cursor;

use tiff::decoder::{ChunkType, Decoder};
use tiff::tags::{CompressionMethod, Tag};

use super::decode::{DecodeError, Format, Limit, MAX_JPEG_SCANS};

/// Bytes of the tables that all strips of a TIFF share: four of quantisation and eight of Huffman codes have some 3 000. The decoder reads them once for each strip.
const MAX_JPEG_TABLE_BYTES: usize = 16 << 10;

/// Pixels that a strip or a tile may always have, larger than the picture though it may be. Tiles in use have 128 × 128 to 1024 × 1024.
const MAX_TILE_PIXELS: u64 = 1 << 20;

/// Values of one tag: 16 strips for each of 16 384 rows, or all three tables of 16-bit colours. 8 MiB in the decoder.
const MAX_TAG_VALUES: u64 = 1 << 18;

/// Tags that the decoder may read. Those above hold colour profiles and other data of programs, which it does not.
const DECODED_TAGS: std::ops::Range<u64> = 0..34_000;

/// A text of any length among them, which the decoder does not read either.
const XMP: u64 = 700;

/// Checks that the frames of a WebP file are as large as its canvas.
///
/// # Errors
/// [`DecodeError::Corrupt`] if one is not.
pub(super) fn check_webp(bytes: &[u8], canvas: (u32, u32)) -> Result<(), DecodeError> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let [name @ .., a, b, c, d] = rest.get(..8).unwrap_or_default() {
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        let data = &rest[8..];
        // Three bytes of tag and three of start code, then 14 bits of width and of height, each with two of scale.
        if let (b"VP8 ", Some(&[0x9d, 0x01, 0x2a, w0, w1, h0, h1])) = (name, data.get(3..10)) {
            let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            if (side(w0, w1), side(h0, h1)) != canvas {
                return Err(DecodeError::Corrupt(Format::WebP));
            }
        }
        rest = data.get(length + length % 2..).unwrap_or_default();
    }
    Ok(())
}

/// Checks that no tag of a TIFF file's first directory says that it has more values than a picture can need. The decoder takes 32 bytes for each before it looks for them.
///
/// # Errors
/// [`DecodeError::Corrupt`] if one does. What is no TIFF is left to the decoder.
pub(super) fn check_tiff_tags(bytes: &[u8]) -> Result<(), DecodeError> {
    let is_little = bytes.starts_with(b"II");
    let number = |at: u64, length: usize| {
        let at = usize::try_from(at).ok()?;
        let digits = bytes.get(at..at.checked_add(length)?)?;
        let add = |sum: u64, digit: &u8| sum << 8 | u64::from(*digit);
        Some(if is_little { digits.iter().rev().fold(0, add) } else { digits.iter().fold(0, add) })
    };
    // BigTIFF has the magic number 43, and numbers of eight bytes in place of four.
    let is_big = number(2, 2) == Some(43);
    let (at_offset, count_bytes, word, entry) = if is_big { (8, 8, 8, 20) } else { (4, 2, 4, 12) };
    let Some(directory) = number(at_offset, word) else { return Ok(()) };
    let entries = number(directory, count_bytes).unwrap_or(0);
    let first = directory.saturating_add(count_bytes as u64);
    for at in (0..entries).map(|index| first.saturating_add(index.saturating_mul(entry))) {
        // Where the file ends the decoder says so.
        let (Some(tag), Some(values)) = (number(at, 2), number(at.saturating_add(4), word)) else { break };
        if DECODED_TAGS.contains(&tag) && tag != XMP && values > MAX_TAG_VALUES {
            return Err(DecodeError::Corrupt(Format::Tiff));
        }
    }
    Ok(())
}

/// Checks that the JPEG data in a TIFF file are no larger than the strips or tiles that they fill, and of no more scans than a JPEG file may have.
///
/// # Errors
/// [`DecodeError::Corrupt`] and [`DecodeError::TooLarge`]. What is no TIFF is left to the decoder.
pub(super) fn check_tiff(bytes: &[u8], (width, height): (u32, u32)) -> Result<(), DecodeError> {
    let Ok(mut decoder) = Decoder::new(Cursor::new(bytes)) else { return Ok(()) };
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression);
    if compression.ok().flatten().map(CompressionMethod::from_u16_exhaustive) != Some(CompressionMethod::ModernJPEG) {
        return Ok(());
    }
    let corrupt = DecodeError::Corrupt(Format::Tiff);
    let (places, lengths) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let mut numbers = |tag| decoder.find_tag_unsigned_vec::<u64>(tag).ok().flatten().ok_or(corrupt);
    let (places, lengths) = (numbers(places)?, numbers(lengths)?);
    let tables = match decoder.find_tag(Tag::JPEGTables).map_err(|_| corrupt)? {
        Some(tables) => tables.into_u8_vec().map_err(|_| corrupt)?,
        None => Vec::new(),
    };
    // Each strip is read by itself: without a bound on their sum, many may be the same large part of the file.
    let sum = lengths.iter().fold(0u64, |sum, length| sum.saturating_add(*length));
    if tables.len() > MAX_JPEG_TABLE_BYTES || sum > bytes.len() as u64 {
        return Err(corrupt);
    }
    let (strip_width, strip_height) = decoder.chunk_dimensions();
    let pixels = (u64::from(width) * u64::from(height)).max(MAX_TILE_PIXELS);
    for (place, length) in places.into_iter().zip(lengths) {
        let end = place.saturating_add(length).min(bytes.len() as u64);
        let data = bytes.get(place as usize..end as usize).unwrap_or_default();
        // As the decoder puts them together: the tables without their end marker, the data without their start marker.
        let joined = match tables.split_at_checked(tables.len().wrapping_sub(2)) {
            Some((tables, _)) => [tables, data.get(2..).unwrap_or_default()].concat(),
            None => data.to_vec(),
        };
        let mut scans = 0;
        // Compressed data never holds a marker, and what looks like one in a segment of the application is not in use inside of a TIFF.
        for at in (0..joined.len()).filter(|at| joined[*at] == 0xff) {
            match joined[at + 1..] {
                [0xda, ..] => scans += 1,
                [0xc4 | 0xc8 | 0xcc, ..] => {}
                [0xc0..=0xcf, _, _, _, h0, h1, w0, w1, ..] => {
                    let [w, h] = [[w0, w1], [h0, h1]].map(|side| u32::from(u16::from_be_bytes(side)));
                    if w > strip_width || h > strip_height || u64::from(w) * u64::from(h) > pixels {
                        return Err(corrupt);
                    }
                }
                _ => {}
            }
        }
        if scans > MAX_JPEG_SCANS {
            return Err(DecodeError::TooLarge { limit: Limit::JpegScans, allowed: MAX_JPEG_SCANS.into() });
        }
    }
    Ok(())
}
