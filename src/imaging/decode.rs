//! Picture files to upright 8-bit RGB.
//!
//! Called by `decoders`, once per picture of a request. The format is told by the first bytes and never by a name. JPEG goes
//! through libjpeg-turbo, which reports damage that other decoders pass over in silence and can decode at 1/2, 1/4 or 1/8 of
//! the size at less cost; HEIC through the host's libheif if there is one; PNG, WebP and TIFF through the `image` crate.
//!
//! Every limit is checked on the header before memory for pixels is taken. What is left out: colour profiles are ignored,
//! animations are refused, and of several pictures in one file only the first is read. No decoder used here can be interrupted
//! once it has started, so here time is bounded by the limits alone: the slowest file found within the default limits, a
//! progressive JPEG of 50 MP with more than 32 scans, took 2.4 s. The daemon lets decoders run in processes that it can kill
//! (`decoders`), which also ends what a fault or a panic in them does.

use std::io::{Cursor, ErrorKind};

use image::codecs::{png::PngDecoder, tiff::TiffDecoder, webp::WebPDecoder};
use image::metadata::Orientation as StoredOrientation;
use image::{ColorType, ImageDecoder, ImageError, Limits};
use serde::{Deserialize, Serialize};
use turbojpeg::{Colorspace, Decompressor, PixelFormat, ScalingFactor};

use super::Image;
use super::contained;
use super::heic;
use super::orient::{self, Orientation};

/// Bytes that one decoded pixel may take before it is brought to RGB: four channels of 16 bits. Files with more (four channels
/// of 32-bit floats) are accepted only where they have accordingly fewer pixels.
const MAX_DECODED_BYTES_PER_PIXEL: u64 = 8;

/// Bytes that a decoder may take for a pixel of the picture at hand: the deepest pixel, four channels of 32 bits, once as it is handed over and once on its way there.
const DECODER_BYTES_PER_PIXEL: u64 = 2 * 16;

/// Bytes that a decoder may take beside pixels, for chunks and tables. A PNG's colour profile that expands to more is left out by the decoder; those of printers have
/// some megabytes.
const DECODER_TABLE_BYTES: u64 = 16 << 20;

/// Scans of a progressive JPEG. Encoders in use write 10 to 18; each one costs a pass over the whole picture, so a small file
/// with thousands of scans would cost minutes (libjpeg-turbo, "Two issues with the JPEG standard").
pub(super) const MAX_JPEG_SCANS: u32 = 32;

/// Bytes of padding before a JPEG's end marker that are accepted. Webcams and some telephones write a few; the picture before
/// them is whole. A long remainder would rather mean that the picture data has been damaged.
const MAX_JPEG_PADDING_BYTES: u32 = 64;

/// What to accept and how large a picture is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeOptions {
    /// Size of the file.
    pub max_bytes: u64,
    /// Width × height. While it runs, a decode may take up to 16 bytes of memory for each pixel that the file's header tells (deep TIFF; a
    /// progressive JPEG 9), some 27 MiB for tables (16, and what is held while they grow), and four times the file; afterwards 3 bytes a pixel.
    pub max_pixels: u64,
    /// Longer side, in pixels.
    pub max_side_px: u32,
    /// If given, a JPEG may be decoded at 1/2, 1/4 or 1/8 as long as its longer side stays at least this many pixels.
    pub min_long_side_px: Option<u32>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            // The largest message that the daemon's interface takes.
            max_bytes: 32 << 20,
            // Above the sensors of cameras and scanners met in practice (telephones bin to 12 or 24 MP, some give 48).
            max_pixels: 50_000_000,
            // 50 MP at 8:1, more than any panorama of a face.
            max_side_px: 20_000,
            min_long_side_px: None,
        }
    }
}

/// Kind of a picture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Tiff,
    Heic,
}

impl std::fmt::Display for Format {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Tiff => "TIFF",
            Self::Heic => "HEIC",
        })
    }
}

/// A decoded picture. `I` is what its pixels became ([`Canvas::Picture`]).
#[derive(Debug, Clone)]
pub struct Decoded<I = Image> {
    /// Upright, perhaps smaller than the source.
    pub image: I,
    /// Width in pixels of the upright picture at full size.
    pub source_width: u32,
    /// Height in pixels of the upright picture at full size.
    pub source_height: u32,
    /// Image pixels per source pixel: 1, 1/2, 1/4 or 1/8. Exact: pixel `i` of the image covers the source pixels from
    /// `i / scale` to `(i + 1) / scale`; the last column and row may reach over the border of the source.
    pub scale: f64,
    pub format: Format,
    /// How the pixels were stored; already applied. Always upright for HEIC, where libheif applies it.
    pub orientation: Orientation,
}

/// Where pixels are put: into memory of their own (`OwnMemory`), or wherever a decoder process shall leave them.
pub trait Canvas {
    type Picture;

    /// Lets `fill` write the pixels (`[height, width, 3]`, 8-bit RGB) in the place where they stay. It writes all of them or fails: what lay there before is unknown.
    ///
    /// # Errors
    /// Whatever `fill` returns.
    fn build(
        &mut self,
        width: u32,
        height: u32,
        fill: impl FnOnce(&mut [u8]) -> Result<(), DecodeError>,
    ) -> Result<Self::Picture, DecodeError>;

    /// Takes a picture that is there already.
    fn place(&mut self, image: Image) -> Self::Picture;
}

/// The canvas of [`decode`].
struct OwnMemory;

impl Canvas for OwnMemory {
    type Picture = Image;

    fn build(
        &mut self,
        width: u32,
        height: u32,
        fill: impl FnOnce(&mut [u8]) -> Result<(), DecodeError>,
    ) -> Result<Image, DecodeError> {
        Image::try_build(width, height, fill)
    }

    fn place(&mut self, image: Image) -> Image {
        image
    }
}

/// A quantity with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    Bytes,
    Pixels,
    SidePx,
    /// Bytes of the decoded pixels before they are brought to 8-bit RGB.
    DecodedBytes,
    JpegScans,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Bytes => "bytes",
            Self::Pixels => "pixels",
            Self::SidePx => "pixels along its longer side",
            Self::DecodedBytes => "bytes once decoded",
            Self::JpegScans => "progressive JPEG scans",
        })
    }
}

/// What a file is that cannot be read. A closed set, since a decoder process names it and is not trusted with words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Found {
    #[error("a GIF picture")]
    Gif,
    #[error("a PDF document")]
    Pdf,
    #[error("a BMP picture")]
    Bmp,
    #[error("an AVIF picture")]
    Avif,
    #[error("a video or another ISO media file")]
    IsoMedia,
    #[error("a ZIP archive")]
    Zip,
    #[error("a RIFF file of another kind")]
    Riff,
    #[error("text")]
    Text,
    #[error("data of an unknown kind")]
    Unknown,
    #[error("a {0} picture of a rare kind")]
    Rare(Format),
    #[error("a HEIC picture, and libheif is not installed")]
    HeicWithoutLibrary,
    #[error("a HEIC picture of a kind that the host's libheif cannot read")]
    HeicOfOtherKind,
}

/// Why a file gave no picture. The texts hold nothing of the picture's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DecodeError {
    #[error("the picture is empty")]
    Empty,
    /// `found` says what it is instead.
    #[error("not a JPEG, PNG, WebP, TIFF or HEIC picture that can be read here: {found}")]
    UnsupportedFormat { found: Found },
    #[error("the {0} picture ends too early")]
    Truncated(Format),
    #[error("the {0} picture is damaged")]
    Corrupt(Format),
    #[error("the picture has more than {allowed} {limit}")]
    TooLarge { limit: Limit, allowed: u64 },
    #[error("the {0} picture is animated; send a single picture")]
    Animated(Format),
    #[error("the picture takes more memory than a decoder may use")]
    OutOfMemory,
}

impl DecodeError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "IMAGE_EMPTY",
            Self::UnsupportedFormat { .. } => "IMAGE_UNSUPPORTED_FORMAT",
            Self::Truncated(_) => "IMAGE_TRUNCATED",
            Self::Corrupt(_) => "IMAGE_CORRUPT",
            Self::TooLarge { .. } => "IMAGE_TOO_LARGE",
            Self::Animated(_) => "IMAGE_ANIMATED",
            Self::OutOfMemory => "IMAGE_DECODER_FAILED",
        }
    }
}

/// Decodes a picture file and turns the picture upright.
///
/// # Errors
/// See [`DecodeError`]. A file that ends early or is visibly damaged is an error even if part of it could be shown.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, DecodeError> {
    decode_onto(&mut OwnMemory, bytes, options)
}

/// As [`decode`], with the pixels on a canvas.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_onto<C: Canvas>(
    canvas: &mut C,
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<Decoded<C::Picture>, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() as u64 > options.max_bytes {
        return Err(DecodeError::TooLarge { limit: Limit::Bytes, allowed: options.max_bytes });
    }
    let decoded = match sniff(bytes)? {
        Format::Jpeg => return decode_jpeg(canvas, bytes, options),
        Format::Png => decode_png(bytes, options)?,
        Format::WebP => decode_webp(bytes, options)?,
        Format::Tiff => decode_tiff(bytes, options)?,
        Format::Heic => {
            let image = heic::decode(bytes, |width, height| check_size(width, height, options))?;
            full_size(image, Format::Heic, Orientation::Upright)
        }
    };
    let Decoded { image, source_width, source_height, scale, format, orientation } = decoded;
    Ok(Decoded { image: canvas.place(image), source_width, source_height, scale, format, orientation })
}

/// Tells the format from the first bytes.
fn sniff(bytes: &[u8]) -> Result<Format, DecodeError> {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    let is_riff = bytes.starts_with(b"RIFF");
    let brand = bytes.get(8..12).unwrap_or_default();
    if bytes.starts_with(b"\xff\xd8\xff") {
        return Ok(Format::Jpeg);
    }
    if bytes.starts_with(PNG) {
        return Ok(Format::Png);
    }
    if is_riff && brand == b"WEBP" {
        return Ok(Format::WebP);
    }
    if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| bytes.starts_with(*magic)) {
        return Ok(Format::Tiff);
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return match brand {
            b"heic" | b"heix" | b"heim" | b"heis" | b"mif1" | b"msf1" | b"hevc" | b"hevx" => Ok(Format::Heic),
            b"avif" | b"avis" => Err(DecodeError::UnsupportedFormat { found: Found::Avif }),
            _ => Err(DecodeError::UnsupportedFormat { found: Found::IsoMedia }),
        };
    }
    // Files that end inside the signature.
    if bytes == b"\xff\xd8" {
        return Err(DecodeError::Truncated(Format::Jpeg));
    }
    if bytes.len() >= 2 && PNG.starts_with(bytes) {
        return Err(DecodeError::Truncated(Format::Png));
    }
    if is_riff && (bytes.len() < 12 && b"WEBP".starts_with(&bytes[bytes.len().min(8)..])) {
        return Err(DecodeError::Truncated(Format::WebP));
    }
    let head = &bytes[..bytes.len().min(512)];
    let found = if bytes.starts_with(b"GIF8") {
        Found::Gif
    } else if head.windows(5).any(|window| window == b"%PDF-") {
        Found::Pdf
    } else if bytes.starts_with(b"BM") && bytes.len() > 14 && bytes[6..10] == [0; 4] {
        Found::Bmp
    } else if bytes.starts_with(b"PK\x03\x04") {
        Found::Zip
    } else if is_riff {
        Found::Riff
    } else if head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..)) {
        Found::Text
    } else {
        Found::Unknown
    };
    Err(DecodeError::UnsupportedFormat { found })
}

/// # Errors
/// [`DecodeError::TooLarge`] if a picture of this size is not allowed.
fn check_size(width: u32, height: u32, options: &DecodeOptions) -> Result<(), DecodeError> {
    if width.max(height) > options.max_side_px {
        return Err(DecodeError::TooLarge { limit: Limit::SidePx, allowed: options.max_side_px.into() });
    }
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return Err(DecodeError::TooLarge { limit: Limit::Pixels, allowed: options.max_pixels });
    }
    Ok(())
}

/// Wraps a picture that was decoded at full size.
fn full_size(image: Image, format: Format, orientation: Orientation) -> Decoded {
    Decoded { source_width: image.width, source_height: image.height, image, scale: 1.0, format, orientation }
}

// ---------------------------------------------------------------------------------------------------------------- JPEG

fn decode_jpeg<C: Canvas>(
    canvas: &mut C,
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<Decoded<C::Picture>, DecodeError> {
    let Segments { adobe, scan_start } = read_segments(bytes)?;
    // Compressed data never holds the end marker, so its absence tells a cut file from a damaged one.
    let is_cut = || !bytes[scan_start..].windows(2).any(|pair| pair == b"\xff\xd9");
    let jpeg_error = |error| match jpeg_error(error) {
        DecodeError::Corrupt(_) if is_cut() => DecodeError::Truncated(Format::Jpeg),
        error => error,
    };
    let mut decompressor = Decompressor::new().map_err(jpeg_error)?;
    let header = decompressor.read_header(bytes).map_err(jpeg_error)?;
    let (Ok(stored_width), Ok(stored_height)) = (u32::try_from(header.width), u32::try_from(header.height)) else {
        return Err(DecodeError::Corrupt(Format::Jpeg));
    };
    check_size(stored_width, stored_height, options)?;
    decompressor.set_scan_limit(MAX_JPEG_SCANS).map_err(jpeg_error)?;

    let long_side = header.width.max(header.height);
    let factor = match options.min_long_side_px {
        Some(wanted) if !header.is_lossless => {
            [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF]
                .into_iter()
                .find(|factor| factor.scale(long_side) >= wanted as usize)
                .unwrap_or(ScalingFactor::ONE)
        }
        _ => ScalingFactor::ONE,
    };
    decompressor.set_scaling_factor(factor).map_err(jpeg_error)?;
    let (width, height) = (factor.scale(header.width), factor.scale(header.height));

    let orientation = orient::exif_orientation(bytes);
    let mut read = |format: PixelFormat, pixels: &mut [u8]| {
        let output = turbojpeg::Image { pixels, width, pitch: width * format.size(), height, format };
        match decompressor.decompress(bytes, output) {
            Err(turbojpeg::Error::TurboJpegError(message)) if is_harmless(&message) => Ok(()),
            result => result.map_err(jpeg_error),
        }
    };
    // Scaling only divides, so the new sides fit as the old ones did.
    let (small_width, small_height) = (width as u32, height as u32);
    let image = match header.colorspace {
        Colorspace::CMYK | Colorspace::YCCK => {
            let mut cmyk = vec![0; width * height * 4];
            read(PixelFormat::CMYK, &mut cmyk)?;
            let image = Image::build(small_width, small_height, |rgb| cmyk_to_rgb(&cmyk, adobe, rgb));
            canvas.place(orient::apply(&image, orientation))
        }
        _ if orientation == Orientation::Upright => {
            canvas.build(small_width, small_height, |rgb| read(PixelFormat::RGB, rgb))?
        }
        _ => {
            let mut stored = vec![0; width * height * 3];
            read(PixelFormat::RGB, &mut stored)?;
            canvas.place(orient::apply_to_pixels(&stored, small_width, small_height, orientation))
        }
    };
    let (source_width, source_height) =
        if orientation.swaps_sides() { (stored_height, stored_width) } else { (stored_width, stored_height) };
    let scale = factor.num() as f64 / factor.denom() as f64;
    Ok(Decoded { image, source_width, source_height, scale, format: Format::Jpeg, orientation })
}

/// What is found before the first scan of a JPEG.
struct Segments {
    /// An Adobe segment is there.
    adobe: bool,
    /// Offset of the first scan's marker.
    scan_start: usize,
}

/// Walks the segments up to the first scan.
///
/// # Errors
/// [`DecodeError::Truncated`] if the file ends before the first scan; libjpeg itself gives no clear answer then.
fn read_segments(bytes: &[u8]) -> Result<Segments, DecodeError> {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: u8 = 0xd9;
    const APP14: u8 = 0xee;
    let mut adobe = false;
    let mut at = 2;
    loop {
        // libjpeg skips garbage before a marker; so does this.
        while *bytes.get(at).ok_or(DecodeError::Truncated(Format::Jpeg))? != 0xff {
            at += 1;
        }
        while *bytes.get(at).ok_or(DecodeError::Truncated(Format::Jpeg))? == 0xff {
            at += 1;
        }
        match bytes[at] {
            START_OF_SCAN => {
                return Ok(Segments { adobe, scan_start: at });
            }
            END_OF_IMAGE => return Err(DecodeError::Corrupt(Format::Jpeg)),
            // Markers without a length: a stuffed zero, TEM, RST0..RST7, SOI.
            0x00 | 0x01 | 0xd0..=0xd8 => at += 1,
            marker => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
                    return Err(DecodeError::Truncated(Format::Jpeg));
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                adobe |= marker == APP14 && bytes.get(at + 3..at + 8) == Some(b"Adobe");
                at += 1 + length;
            }
        }
    }
}

/// Sorts libjpeg-turbo's messages. They are fixed texts with numbers, but they are not handed on.
fn jpeg_error(error: turbojpeg::Error) -> DecodeError {
    let turbojpeg::Error::TurboJpegError(message) = error else {
        return DecodeError::Corrupt(Format::Jpeg);
    };
    if message.starts_with("Insufficient memory") || message.contains("Memory allocation failure") {
        DecodeError::OutOfMemory
    } else if message.starts_with("Premature end") {
        DecodeError::Truncated(Format::Jpeg)
    } else if message.starts_with("Progressive JPEG image has more than") {
        DecodeError::TooLarge { limit: Limit::JpegScans, allowed: MAX_JPEG_SCANS.into() }
    } else if message.starts_with("Unsupported") || message.contains("not supported") {
        DecodeError::UnsupportedFormat { found: Found::Rare(Format::Jpeg) }
    } else {
        DecodeError::Corrupt(Format::Jpeg)
    }
}

/// True if libjpeg's complaint is only about a little padding before the end marker. libjpeg keeps the first complaint of a
/// decode, and nothing is read after the end marker, so the picture itself was read without any.
fn is_harmless(message: &str) -> bool {
    message
        .strip_prefix("Corrupt JPEG data: ")
        .and_then(|rest| rest.strip_suffix(" extraneous bytes before marker 0xd9"))
        .and_then(|count| count.parse::<u32>().ok())
        .is_some_and(|count| count <= MAX_JPEG_PADDING_BYTES)
}

/// Brings CMYK to RGB without a profile. Adobe's programs store the inks inverted, 255 meaning none.
fn cmyk_to_rgb(cmyk: &[u8], adobe: bool, rgb: &mut [u8]) {
    for (ink, pixel) in cmyk.chunks_exact(4).zip(rgb.chunks_exact_mut(3)) {
        let light = |value: u8| u32::from(if adobe { value } else { 255 - value });
        for channel in 0..3 {
            pixel[channel] = ((light(ink[channel]) * light(ink[3]) + 127) / 255) as u8;
        }
    }
}

// ------------------------------------------------------------------------------------------------------ PNG, WebP, TIFF

fn decode_png(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, DecodeError> {
    let truncated = DecodeError::Truncated(Format::Png);
    let word = |at: usize| -> Result<u32, DecodeError> {
        let word = bytes.get(at..at + 4).ok_or(truncated)?;
        Ok(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
    };
    // The first chunk is IHDR by the standard; if it is not, the decoder refuses the file below.
    let mut size = (0, 0);
    if bytes.get(12..16) == Some(b"IHDR") {
        size = (word(16)?, word(20)?);
        check_size(size.0, size.1, options)?;
    }
    // Walk the chunks: a whole file ends with IEND, and an animation announces itself with acTL.
    let mut at = 8;
    loop {
        let length = word(at)? as usize;
        match bytes.get(at + 4..at + 8).ok_or(truncated)? {
            b"acTL" => return Err(DecodeError::Animated(Format::Png)),
            b"IEND" => break,
            _ => at += 12 + length,
        }
    }
    // The four bytes of check sum after IEND.
    word(at + 8)?;
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), decoder_limits(size, options))
        .map_err(|error| decoder_error(error, Format::Png, options))?;
    read_pixels(decoder, Format::Png, orient::exif_orientation(bytes), options)
}

fn decode_webp(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, DecodeError> {
    let size = bytes.get(4..8).ok_or(DecodeError::Truncated(Format::WebP))?;
    if u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]])) + 8 > bytes.len() as u64 {
        return Err(DecodeError::Truncated(Format::WebP));
    }
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| decoder_error(error, Format::WebP, options))?;
    if decoder.has_animation() {
        return Err(DecodeError::Animated(Format::WebP));
    }
    contained::check_webp(bytes, decoder.dimensions())?;
    read_pixels(decoder, Format::WebP, orient::exif_orientation(bytes), options)
}

fn decode_tiff(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, DecodeError> {
    let into_error = |error| decoder_error(error, Format::Tiff, options);
    contained::check_tiff_tags(bytes)?;
    let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(into_error)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, options)?;
    contained::check_tiff(bytes, (width, height))?;
    decoder.set_limits(decoder_limits((width, height), options)).map_err(into_error)?;
    // The tag stands in the TIFF directory itself, so there is no EXIF block to look for.
    let orientation = match decoder.orientation().unwrap_or(StoredOrientation::NoTransforms) {
        StoredOrientation::NoTransforms => Orientation::Upright,
        StoredOrientation::FlipHorizontal => Orientation::FlipHorizontal,
        StoredOrientation::Rotate180 => Orientation::Rotate180,
        StoredOrientation::FlipVertical => Orientation::FlipVertical,
        StoredOrientation::Rotate90FlipH => Orientation::Transpose,
        StoredOrientation::Rotate90 => Orientation::Rotate90,
        StoredOrientation::Rotate270FlipH => Orientation::Transverse,
        StoredOrientation::Rotate270 => Orientation::Rotate270,
    };
    read_pixels(decoder, Format::Tiff, orientation, options)
}

/// The part that PNG, WebP and TIFF share: check, read, bring to RGB, turn.
fn read_pixels(
    decoder: impl ImageDecoder,
    format: Format,
    orientation: Orientation,
    options: &DecodeOptions,
) -> Result<Decoded, DecodeError> {
    let (width, height) = decoder.dimensions();
    check_size(width, height, options)?;
    let allowed = options.max_pixels.saturating_mul(MAX_DECODED_BYTES_PER_PIXEL);
    if decoder.total_bytes() > allowed {
        return Err(DecodeError::TooLarge { limit: Limit::DecodedBytes, allowed });
    }
    let into_error = |error| decoder_error(error, format, options);
    let image = if decoder.color_type() == ColorType::Rgb8 {
        Image::try_build(width, height, |rgb| decoder.read_image(rgb).map_err(into_error))?
    } else {
        let color = decoder.color_type();
        let mut raw = vec![0; decoder.total_bytes() as usize];
        decoder.read_image(&mut raw).map_err(into_error)?;
        Image::try_build(width, height, |rgb| to_rgb8(color, &raw, rgb, format))?
    };
    Ok(full_size(orient::apply(&image, orientation), format, orientation))
}

/// Memory limit for the decoders' own buffers, by the size that the header tells: what `max_pixels` allows would let a picture of one pixel take all of it, for a
/// colour profile that expands a thousandfold and is not looked at.
fn decoder_limits((width, height): (u32, u32), options: &DecodeOptions) -> Limits {
    let largest = options.max_pixels.saturating_mul(MAX_DECODED_BYTES_PER_PIXEL);
    let pixels = u64::from(width) * u64::from(height);
    let mut limits = Limits::default();
    limits.max_alloc = Some((pixels * DECODER_BYTES_PER_PIXEL).min(largest) + DECODER_TABLE_BYTES);
    limits
}

fn decoder_error(error: ImageError, format: Format, options: &DecodeOptions) -> DecodeError {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => DecodeError::Truncated(format),
        ImageError::Limits(_) => DecodeError::TooLarge {
            limit: Limit::DecodedBytes,
            allowed: options.max_pixels.saturating_mul(MAX_DECODED_BYTES_PER_PIXEL),
        },
        ImageError::Unsupported(_) => DecodeError::UnsupportedFormat { found: Found::Rare(format) },
        _ => DecodeError::Corrupt(format),
    }
}

/// Brings decoded samples (native byte order, row-major) to RGB: grey is repeated, deeper samples are rounded to 8 bits, and
/// transparent pixels are laid over white, as paper and browsers do.
fn to_rgb8(color: ColorType, raw: &[u8], rgb: &mut [u8], format: Format) -> Result<(), DecodeError> {
    let wide = |bytes: &[u8]| ((u32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) * 255 + 32_767) / 65_535) as u8;
    // A float that is not a number becomes 0 by the rules of `as`.
    let float = |bytes: &[u8]| {
        (f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).clamp(0.0, 1.0) * 255.0).round() as u8
    };
    let byte = |bytes: &[u8]| bytes[0];
    match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => convert::<1>(color, raw, rgb, byte),
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => convert::<2>(color, raw, rgb, wide),
        ColorType::Rgb32F | ColorType::Rgba32F => convert::<4>(color, raw, rgb, float),
        _ => return Err(DecodeError::UnsupportedFormat { found: Found::Rare(format) }),
    }
    Ok(())
}

/// As [`to_rgb8`] for samples of `BYTES` bytes each, which `sample` brings to 0..=255.
fn convert<const BYTES: usize>(color: ColorType, raw: &[u8], rgb: &mut [u8], sample: impl Fn(&[u8]) -> u8) {
    let channels = usize::from(color.channel_count());
    let over_white = |value: u8, alpha: u8| {
        let alpha = u32::from(alpha);
        ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    for (stored, pixel) in raw.chunks_exact(channels * BYTES).zip(rgb.chunks_exact_mut(3)) {
        let channel = |index: usize| sample(&stored[index * BYTES..]);
        let [red, green, blue] = if color.has_color() { [channel(0), channel(1), channel(2)] } else { [channel(0); 3] };
        let alpha = if color.has_alpha() { channel(channels - 1) } else { 255 };
        pixel.copy_from_slice(&[red, green, blue].map(|value| over_white(value, alpha)));
    }
}

#[cfg(test)]
mod tests;
