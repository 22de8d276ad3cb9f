//! What the streams of a PDF file expand to, counted before the renderer expands them.
//!
//! Called by the module above: on the raw file before it is parsed (object streams are expanded while parsing), and on the
//! streams afterwards, when their filters are known. Filters: ISO 32000-1, 7.4.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::{DeflateDecoder, ZlibDecoder};
use hayro::hayro_syntax::object::{Array, Dict, Name, Object, Stream};
use hayro::hayro_syntax::page::Page;
use hayro::hayro_syntax::{Filter, Pdf};

use super::{Deadline, PdfError, PdfLimit, PdfOptions};

/// What deflate can make of one byte (zlib, "technical details": 1032 : 1).
const MAX_DEFLATE_RATIO: u64 = 1032;

/// What LZW with 12-bit codes can make of one byte: a code of 9 bits or more for at most 4096 bytes.
const MAX_LZW_RATIO: u64 = 4096 * 8 / 9;

/// Bytes that a stream without a picture may expand to: drawing operators, fonts, tables. Embedded Asian fonts have 20 MB.
const MAX_DATA_BYTES: u64 = 64 << 20;

/// Bytes of drawing operators in one form or page. Forms nest 50 deep and are all in memory then.
const MAX_CONTENT_BYTES: u64 = 16 << 20;

/// Bytes that all streams of a file may expand to: twenty pages of A4 at 300 dpi. The renderer keeps object streams expanded.
const MAX_FILE_EXPANDED_BYTES: u64 = 512 << 20;

/// Dictionaries inside each other. Files in use have fewer than ten; pairs of `<` in compressed data add some by chance.
const MAX_DICTIONARY_DEPTH: usize = 400;

/// Bytes that the parser may search for the ends of streams; a well-formed file costs its own size. Two seconds.
const MAX_SEARCHED_BYTES: usize = 2 << 30;

/// Scans of a progressive JPEG, as for JPEG files.
const MAX_JPEG_SCANS: usize = 32;

/// Pixels of a JPEG 2000 picture, whose decoder is slow and takes memory by parts that the header does not bound: A4 at 300 dpi.
const MAX_JPX_PIXELS: u64 = 10_000_000;

/// Tiles of a JPEG 2000 picture.
const MAX_JPX_TILES: u64 = 4096;

/// Filters of one stream; writers use one or two.
const MAX_FILTERS: usize = 4;

/// True if a name `/Encrypt` stands anywhere in the plain part of the file. The dictionaries that may hold it, a trailer or the
/// dictionary of a cross-reference stream, are never compressed (ISO 32000-1, 7.5.5 and 7.5.8).
pub(super) fn is_encrypted(bytes: &[u8]) -> bool {
    has_name(bytes, &[b"Encrypt"])
}

/// True if one of these names stands in the plain part of the file, `#xx` escapes resolved.
fn has_name(bytes: &[u8], names: &[&[u8]]) -> bool {
    let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.into_iter().any(|(at, _)| names.iter().any(|name| name_is(&bytes[at + 1..], name)))
}

/// True if `/W` with an array of three numbers and more stands in the file, as the dictionary of each cross-reference stream must have it,
/// without a reference (ISO 32000-1, 7.5.8.2). Compressed pictures hold the name alone by chance.
fn has_field_widths(bytes: &[u8]) -> bool {
    let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &bytes[at + 1..]);
    let names = slashes.filter(|rest| name_is(rest, b"W"));
    names.into_iter().any(|rest| {
        // The name may be written with an escape: `#57`.
        let mut rest = &rest[if rest[0] == b'#' { 3 } else { 1 }..];
        let (mut is_open, mut numbers) = (false, 0);
        loop {
            rest = rest.trim_ascii_start();
            match rest {
                [b'\0', after @ ..] => rest = after,
                [b'%', after @ ..] => {
                    let end = after.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(after.len());
                    rest = &after[end..];
                }
                [b'[', after @ ..] if !is_open => (is_open, rest) = (true, after),
                [b'0'..=b'9' | b'+' | b'-' | b'.', ..] if is_open => {
                    numbers += 1;
                    let digits = rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.'));
                    rest = &rest[digits.count()..];
                }
                // The array may go on with anything; three numbers are enough.
                _ => break numbers >= 3,
            }
        }
    })
}

/// True if `bytes` begin with this name and then end or go on with something that is no part of a name.
fn name_is(bytes: &[u8], name: &[u8]) -> bool {
    let mut at = 0;
    for expected in name {
        match bytes.get(at) {
            Some(b'#') => {
                let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                if digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) != Some(*expected) {
                    return false;
                }
                at += 3;
            }
            Some(byte) if byte == expected => at += 1,
            _ => return false,
        }
    }
    // White space and delimiters, ISO 32000-1, 7.2.2.
    bytes.get(at).is_none_or(|byte| b"\0\t\n\x0c\r ()<>[]{}/%".contains(byte))
}

/// Refuses a file whose deflated streams expand to too much, one of them or all together. Nothing is known of the streams'
/// dictionaries yet, so every stream is tried as zlib and as bare deflate, and so is what comes out of it.
///
/// # Errors
/// [`PdfError::TooLarge`], [`PdfError::DeadlineExceeded`]; [`PdfError::Unsupported`] for a file whose object streams may use
/// filters that cannot be recognised in this way.
pub(super) fn check_file(bytes: &[u8], options: &PdfOptions, deadline: Deadline<'_>) -> Result<(), PdfError> {
    check_structure(bytes)?;
    // Only a file with a cross-reference stream has object streams. Nobody writes them with these.
    let odd: [&[u8]; 8] =
        [b"LZWDecode", b"LZW", b"RunLengthDecode", b"RL", b"ASCII85Decode", b"A85", b"ASCIIHexDecode", b"AHx"];
    if has_name(bytes, &odd) && has_field_widths(bytes) {
        return Err(PdfError::Unsupported);
    }
    let mut budget = MAX_FILE_EXPANDED_BYTES;
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], b"stream") {
        let start = at + found + b"stream".len();
        at = start;
        if bytes[..start - b"stream".len()].ends_with(b"end") {
            continue;
        }
        let data = &bytes[start..];
        let data = data.strip_prefix(b"\r").unwrap_or(data);
        let data = data.strip_prefix(b"\n").unwrap_or(data);
        let data = &data[..find(data, b"endstream").unwrap_or(data.len())];
        at = start + data.len();
        let mut data = Cow::Borrowed(data);
        for level in 0.. {
            let allowed = picture_bytes(options).min(budget);
            let (count, inner) = inflated(&data, allowed, true, deadline)?.ok_or(too_large(allowed))?;
            if count == 0 {
                break;
            }
            if level == MAX_FILTERS {
                return Err(PdfError::Unsupported);
            }
            budget -= count;
            data = inner.into();
        }
    }
    Ok(())
}

/// Refuses what makes the renderer's parser slow, which cannot be interrupted: dictionaries nested without an end, and many
/// streams without one, for each of which it searches the rest of the file.
///
/// # Errors
/// [`PdfError::Damaged`].
fn check_structure(bytes: &[u8]) -> Result<(), PdfError> {
    let (mut depth, mut open, mut open_starts, mut searched) = (0usize, 0usize, 0usize, 0usize);
    // A dictionary inside of another stands behind a name; pixels of the value of `<` do not.
    let mut has_name = true;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'/' => has_name = true,
            b'<' if bytes.get(at + 1) == Some(&b'<') => {
                depth += usize::from(has_name);
                has_name = false;
                if depth > MAX_DICTIONARY_DEPTH {
                    return Err(PdfError::Damaged);
                }
                at += 2;
                continue;
            }
            b'>' if bytes.get(at + 1) == Some(&b'>') => {
                depth = depth.saturating_sub(1);
                at += 2;
                continue;
            }
            b's' if bytes[at..].starts_with(b"stream") => {
                if bytes[..at].ends_with(b"end") {
                    searched = searched.saturating_add((open * at).saturating_sub(open_starts));
                    (open, open_starts) = (0, 0);
                } else {
                    open += 1;
                    open_starts += at;
                }
            }
            _ => {}
        }
        at += 1;
    }
    searched = searched.saturating_add((open * bytes.len()).saturating_sub(open_starts));
    if searched > MAX_SEARCHED_BYTES { Err(PdfError::Damaged) } else { Ok(()) }
}

/// As [`check_file`] for the filters as they are declared: the page's drawing operators, and every stream of the file that the
/// page may use.
///
/// # Errors
/// [`PdfError::TooLarge`], [`PdfError::DeadlineExceeded`].
pub(super) fn check_page(
    pdf: &Pdf,
    page: &Page<'_>,
    options: &PdfOptions,
    deadline: Deadline<'_>,
) -> Result<(), PdfError> {
    let mut content = 0u64;
    let raw = page.raw();
    if let Some(stream) = raw.get::<Stream<'_>>(b"Contents") {
        expanded(&stream, MAX_CONTENT_BYTES, options, deadline)?;
    } else if let Some(parts) = raw.get::<Array<'_>>(b"Contents") {
        for part in parts.iter::<Stream<'_>>() {
            content = content.saturating_add(expanded(&part, MAX_CONTENT_BYTES, options, deadline)?).saturating_add(1);
            if content > MAX_CONTENT_BYTES {
                return Err(too_large(MAX_CONTENT_BYTES));
            }
        }
    }
    for object in pdf.objects() {
        if deadline() {
            return Err(PdfError::DeadlineExceeded);
        }
        if let Object::Stream(stream) = object {
            check_stream(&stream, options, deadline)?;
        }
    }
    Ok(())
}

/// # Errors
/// [`PdfError::TooLarge`] if the stream, or the picture that it is, is larger than allowed.
pub(super) fn check_stream(stream: &Stream<'_>, options: &PdfOptions, deadline: Deadline<'_>) -> Result<(), PdfError> {
    let dict = stream.dict();
    let subtype = dict.get::<Name<'_>>(b"Subtype");
    let (width, height) = (number(dict, b"Width", b"W"), number(dict, b"Height", b"H"));
    let allowed = if let (Some(width), Some(height)) = (width, height) {
        if width.saturating_mul(height) > options.max_pixels || width.max(height) > u64::from(options.max_side_px) {
            return Err(PdfError::TooLarge { limit: PdfLimit::Pixels, allowed: options.max_pixels });
        }
        picture_bytes(options)
    } else if subtype.as_deref() == Some(b"Form") || dict.contains_key(b"PatternType") {
        MAX_CONTENT_BYTES
    } else {
        MAX_DATA_BYTES
    };
    expanded(stream, allowed, options, deadline).map(|_| ())
}

/// Bytes of a picture of the largest size with four channels of 8 bits; deeper ones must be smaller.
fn picture_bytes(options: &PdfOptions) -> u64 {
    options.max_pixels.saturating_mul(4).max(MAX_DATA_BYTES)
}

fn number(dict: &Dict<'_>, key: &[u8], short: &[u8]) -> Option<u64> {
    dict.get::<u32>(key).or_else(|| dict.get::<u32>(short)).map(u64::from)
}

/// Counts the bytes that the stream's general filters make of it, up to the first picture codec, whose header is then checked.
///
/// # Errors
/// [`PdfError::TooLarge`] if they are more than `allowed`, or the picture is larger than the options allow.
fn expanded(stream: &Stream<'_>, allowed: u64, options: &PdfOptions, deadline: Deadline<'_>) -> Result<u64, PdfError> {
    let filters = stream.filters();
    if filters.len() > MAX_FILTERS {
        return Err(PdfError::Unsupported);
    }
    let mut data = stream.raw_data();
    // The most that the filters so far can have made, where it was not counted.
    let mut at_most: Option<u64> = None;
    for (position, filter) in filters.iter().enumerate() {
        let ratio = match filter {
            Filter::AsciiHexDecode | Filter::Crypt => 1,
            // `z` stands for four zero bytes.
            Filter::Ascii85Decode => 4,
            Filter::RunLengthDecode => 64,
            Filter::LzwDecode => MAX_LZW_RATIO,
            Filter::FlateDecode => MAX_DEFLATE_RATIO,
            Filter::DctDecode | Filter::JpxDecode | Filter::Jbig2Decode | Filter::CcittFaxDecode => {
                // Nobody packs a picture's code into LZW or run lengths, and then its header could not be checked.
                let header = if at_most.is_none() { &data[..] } else { return Err(PdfError::Unsupported) };
                check_codec(*filter, header, stream.dict(), options)?;
                break;
            }
        };
        let is_last = position + 1 == filters.len();
        let bound = at_most.unwrap_or(data.len() as u64).saturating_mul(ratio);
        let can_be_counted = matches!(filter, Filter::FlateDecode | Filter::Ascii85Decode | Filter::AsciiHexDecode);
        if at_most.is_some() || !can_be_counted || (is_last && bound <= allowed) {
            at_most = Some(bound);
            continue;
        }
        data = match filter {
            Filter::FlateDecode => {
                let (count, kept) = inflated(&data, allowed, !is_last, deadline)?.ok_or(too_large(allowed))?;
                if is_last {
                    return Ok(count);
                }
                kept
            }
            Filter::Ascii85Decode => decode_ascii85(&data, allowed).ok_or(too_large(allowed))?,
            _ => decode_hex(&data),
        }
        .into();
    }
    let count = at_most.unwrap_or(data.len() as u64);
    if count > allowed { Err(too_large(allowed)) } else { Ok(count) }
}

/// Checks the size that a picture's own code declares: the decoders take memory by it, not by the dictionary.
///
/// # Errors
/// [`PdfError::TooLarge`] if the picture is larger than allowed; [`PdfError::Unsupported`] for rare kinds whose cost cannot be told.
fn check_codec(filter: Filter, data: &[u8], dict: &Dict<'_>, options: &PdfOptions) -> Result<(), PdfError> {
    let word = |at: usize| -> Option<u64> {
        let word = data.get(at..at.checked_add(4)?)?;
        Some(u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]])))
    };
    let too_many = PdfError::TooLarge { limit: PdfLimit::Pixels, allowed: options.max_pixels };
    match filter {
        // The renderer reduces the size in a JPEG's header to that of the dictionary, which has been checked. Each scan of a
        // progressive one costs a pass over the picture.
        Filter::DctDecode => {
            let scans = data.windows(2).filter(|pair| *pair == b"\xff\xda").count();
            if scans > MAX_JPEG_SCANS { Err(PdfError::Unsupported) } else { Ok(()) }
        }
        // SIZ, ISO/IEC 15444-1, A.5.1: length, capabilities, size of the reference grid, its offset, size of the tiles, their
        // offset, count of components.
        Filter::JpxDecode => {
            // Each is looked at, since the first may stand in a box that the decoder passes over.
            let starts = data.windows(4).enumerate().filter(|(_, bytes)| bytes == b"\xff\x4f\xff\x51");
            let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
            if starts.is_empty() {
                return Err(PdfError::Damaged);
            }
            for at in starts {
                let field = |offset: usize| word(at + offset).ok_or(PdfError::Damaged);
                let (width, height) = (field(8)?, field(12)?);
                let (tile_width, tile_height) = (field(24)?.max(1), field(28)?.max(1));
                let components = data.get(at + 40..at + 42).map_or(0, |count| u16::from_be_bytes([count[0], count[1]]));
                let tiles = width.div_ceil(tile_width).saturating_mul(height.div_ceil(tile_height));
                let allowed = options.max_pixels.min(MAX_JPX_PIXELS);
                if width.saturating_mul(height) > allowed {
                    return Err(PdfError::TooLarge { limit: PdfLimit::Pixels, allowed });
                }
                if components > 4 || tiles > MAX_JPX_TILES {
                    return Err(PdfError::Unsupported);
                }
            }
            Ok(())
        }
        Filter::Jbig2Decode => check_jbig2(data, dict, options),
        Filter::CcittFaxDecode => {
            let parameters = |key: &[u8]| {
                dict.get::<Dict<'_>>(key).into_iter().chain(
                    dict.get::<Array<'_>>(key)
                        .into_iter()
                        .flat_map(|list| list.iter::<Object<'_>>().filter_map(Object::into_dict)),
                )
            };
            for parameters in parameters(b"DecodeParms").chain(parameters(b"DP")) {
                let columns = number(&parameters, b"Columns", b"Columns").unwrap_or(1728);
                let rows = number(dict, b"Height", b"H").or(number(&parameters, b"Rows", b"Rows")).unwrap_or(1);
                if columns.saturating_mul(rows) > options.max_pixels {
                    return Err(too_many);
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Checks the size of the page and of each region of a JBIG2 picture (ISO/IEC 14492, 7.2 to 7.4). Dictionaries of symbols are
/// refused: the size of a symbol stands in the compressed data, and one alone can take a minute.
///
/// # Errors
/// [`PdfError::TooLarge`], [`PdfError::Unsupported`], [`PdfError::Damaged`].
fn check_jbig2(data: &[u8], dict: &Dict<'_>, options: &PdfOptions) -> Result<(), PdfError> {
    const PAGE_INFORMATION: u8 = 48;
    let word = |at: usize| -> Result<u64, PdfError> {
        let word = at.checked_add(4).and_then(|end| data.get(at..end)).ok_or(PdfError::Damaged)?;
        Ok(u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]])))
    };
    let byte = |at: usize| data.get(at).copied().ok_or(PdfError::Damaged);
    // Every page and region may be as large as the largest picture, but all together only twice that.
    let mut left = options.max_pixels.saturating_mul(2);
    let mut at = 0usize;
    while at < data.len() {
        let number = word(at)?;
        let flags = byte(at + 4)?;
        let count = byte(at + 5)? >> 5;
        if count > 4 {
            return Err(PdfError::Unsupported);
        }
        let reference_bytes = if number <= 256 {
            1
        } else if number <= 65_536 {
            2
        } else {
            4
        };
        let page_bytes = if flags & 0x40 == 0 { 1 } else { 4 };
        at += 6 + usize::from(count) * reference_bytes + page_bytes;
        let length = word(at)?;
        at += 4;
        match flags & 0x3f {
            // Text regions and the symbol dictionaries that they need; tables of codes.
            0 | 4 | 6 | 7 | 53 => return Err(PdfError::Unsupported),
            // Halftone, generic and refinement regions.
            kind @ (20 | 22 | 23 | 36 | 38 | 39 | 40 | 42 | 43 | PAGE_INFORMATION) => {
                let (width, mut height) = (word(at)?, word(at + 4)?);
                if kind == PAGE_INFORMATION && height == u64::from(u32::MAX) {
                    height = number_of_rows(dict);
                }
                let pixels = width.saturating_mul(height);
                left = left
                    .checked_sub(pixels)
                    .filter(|_| pixels <= options.max_pixels)
                    .ok_or(PdfError::TooLarge { limit: PdfLimit::Pixels, allowed: options.max_pixels })?;
            }
            // Pattern dictionaries are bounded by the decoder; ends and extensions hold no pixels.
            _ => {}
        }
        if length == u64::from(u32::MAX) {
            return Err(PdfError::Unsupported);
        }
        at = at.saturating_add(length as usize);
    }
    Ok(())
}

/// The height that a picture's dictionary states; the largest number if none.
fn number_of_rows(dict: &Dict<'_>) -> u64 {
    number(dict, b"Height", b"H").unwrap_or(u64::MAX)
}

/// Expands zlib, or else bare deflate, and returns the count of bytes and, if `keep`, the bytes. `None` if that is more than `allowed` bytes. A damaged stream gives what comes before
/// the damage.
fn inflated(data: &[u8], allowed: u64, keep: bool, deadline: Deadline<'_>) -> Result<Option<(u64, Vec<u8>)>, PdfError> {
    let is_zlib =
        matches!(data, [cmf, flags, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 == 0);
    let mut decoder: Box<dyn Read> =
        if is_zlib { Box::new(ZlibDecoder::new(data)) } else { Box::new(DeflateDecoder::new(data)) };
    let (mut total, mut kept) = (0, Vec::new());
    let mut buffer = vec![0; 1 << 16];
    loop {
        if deadline() {
            return Err(PdfError::DeadlineExceeded);
        }
        match decoder.read(&mut buffer) {
            Ok(0) | Err(_) => return Ok(Some((total, kept))),
            Ok(count) => {
                total += count as u64;
                if keep {
                    kept.extend_from_slice(&buffer[..count]);
                }
            }
        }
        if total > allowed {
            return Ok(None);
        }
    }
}

/// ASCII base-85 without its check of digits: `None` if the result is more than `allowed` bytes.
fn decode_ascii85(data: &[u8], allowed: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut group = [0u32; 5];
    let mut filled = 0;
    for byte in data {
        match byte {
            b'z' if filled == 0 => out.extend([0; 4]),
            b'!'..=b'u' => {
                group[filled] = u32::from(byte - b'!');
                filled += 1;
                if filled == 5 {
                    out.extend(
                        group.iter().fold(0u32, |sum, digit| sum.wrapping_mul(85).wrapping_add(*digit)).to_be_bytes(),
                    );
                    filled = 0;
                }
            }
            b'~' => break,
            _ => {}
        }
        if out.len() as u64 > allowed {
            return None;
        }
    }
    if filled > 1 {
        group[filled..].fill(84);
        let word = group.iter().fold(0u32, |sum, digit| sum.wrapping_mul(85).wrapping_add(*digit)).to_be_bytes();
        out.extend(&word[..filled - 1]);
    }
    Some(out)
}

fn decode_hex(data: &[u8]) -> Vec<u8> {
    let mut digits = data
        .iter()
        .take_while(|byte| **byte != b'>')
        .filter_map(|byte| char::from(*byte).to_digit(16))
        .map(|digit| digit as u8);
    let mut out = Vec::new();
    while let Some(high) = digits.next() {
        out.push(high << 4 | digits.next().unwrap_or(0));
    }
    out
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn too_large(allowed: u64) -> PdfError {
    PdfError::TooLarge { limit: PdfLimit::StreamBytes, allowed }
}
