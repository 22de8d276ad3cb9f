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
mod tests {
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
        for block in
            [&b""[..], b"MM\0*", b"MM\0*\xff\xff\xff\xff", &exif_block(0), &exif_block(9), &exif_block(6)[..20]]
        {
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
            assert_eq!(
                (decoded.image.width, decoded.image.height),
                (403u32.div_ceil(divisor), 801u32.div_ceil(divisor))
            );
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
        let webp =
            decode_default(&webp_of(&[10, 20, 30, 0], (1, 1), ExtendedColorType::Rgba8)).expect("transparent WebP");
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
            let error = decode(&file, &DecodeOptions { max_bytes: file.len() as u64 - 1, ..exact })
                .expect_err("one byte too many");
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
        let frame = include_bytes!("../../fuzz/corpus/decode/webp-lossy")[12..].to_vec();
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
        let progressive =
            jpeg_of(&image.rgb, SIDE, PixelFormat::RGB, |c| c.set_progressive(true).expect("progressive"));
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
                assert!(
                    ["IMAGE_TRUNCATED", "IMAGE_CORRUPT"].contains(&error.code()),
                    "{name} cut at {length}: {error}"
                );
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
}
