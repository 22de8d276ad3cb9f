//! What the daemon and a decoder process say to each other.
//!
//! Used by `pool` (the daemon's side) and `process` (the other). Small messages go over a socket that keeps their borders, as JSON; files, pixels and symbols lie in a
//! memory file of the process, which the daemon writes and reads by copying ([`Layout`]). One question, one answer, in turn.
//!
//! The daemon believes nothing that it reads here: [`PictureHead::checked`] and [`PageHead::checked`] compare what came with what was asked for, kinds and errors are
//! closed sets, and no text of a decoder process is handed on but the content of barcodes. Left out: versions, since both sides are one program file.

use serde::{Deserialize, Serialize};

use crate::document::barcode::{self, BarcodeError};
use crate::imaging::decode::{DecodeError, DecodeOptions, Format};
use crate::imaging::orient::Orientation;
use crate::imaging::pdf::{PdfError, PdfOptions};

/// Longest message. The longest that is sent, a question for barcodes, has some 500 bytes.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// Longest list of symbols as JSON: 32 symbols of some 7 kB each (PDF417 holds 2710 digits, and a byte takes up to four characters here), twice over.
pub const MAX_SYMBOLS_BYTES: usize = 1 << 20;

/// The memory file: what goes in at the beginning, what comes out behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub input_bytes: usize,
    pub output_bytes: usize,
}

impl Layout {
    /// Room for every file and every picture that the limits allow. Only what is used of it takes memory.
    pub fn new(max_file_bytes: usize, max_pixels: u64, max_side_px: u32) -> Self {
        /// Whole pages of memory, of whatever size they are.
        const PAGE: u64 = 1 << 16;
        // Pages of PDF files are rounded to whole pixels at both sides.
        let pixels = max_pixels + 2 * u64::from(max_side_px) + 1;
        let whole_pages = |bytes: u64| usize::try_from(bytes.next_multiple_of(PAGE)).unwrap_or(usize::MAX);
        Self {
            // A file, or the grey picture in which barcodes are looked for.
            input_bytes: whole_pages(pixels.max(max_file_bytes as u64)),
            output_bytes: whole_pages((pixels * 3).max(MAX_SYMBOLS_BYTES as u64)),
        }
    }

    pub fn bytes(&self) -> usize {
        self.input_bytes + self.output_bytes
    }
}

/// The first message to a process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    pub layout: Layout,
    /// Memory that it may take beyond what it has when it is ready.
    pub memory_bytes: u64,
    /// Processor time after which the kernel kills it.
    pub processor_seconds: u64,
}

/// The answer to it: ready, or why not.
pub type Hello = Result<(), Refusal>;

/// What a process could not be confined by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step} failed: {}", std::io::Error::from_raw_os_error(*errno))]
pub struct Refusal {
    pub step: Step,
    pub errno: i32,
}

/// A step on the way to a confined process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Step {
    #[error("mapping its memory file")]
    Memory,
    #[error("setting its limits")]
    Limits,
    #[error("tying it to the daemon")]
    Tie,
    #[error("its filter of system calls (seccomp)")]
    Filter,
    #[error("the proof that its filter of system calls holds")]
    Proof,
}

/// A question. `bytes` is the length of the file in the memory file.
#[derive(Debug, Serialize, Deserialize)]
pub enum Question {
    Picture { bytes: usize, options: DecodeOptions },
    PageCount { bytes: usize, options: PdfOptions },
    Page { bytes: usize, page: usize, options: PdfOptions },
    Barcodes { width: u32, height: u32, request: barcode::Request, budget_ms: u64 },
}

/// An answer of the same kind.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The pixels lie in the memory file.
    Picture(Result<PictureHead, DecodeError>),
    PageCount(Result<usize, PdfError>),
    /// The pixels lie in the memory file.
    Page(Result<PageHead, PdfError>),
    /// The symbols lie in the memory file, as so many bytes of JSON.
    Barcodes(Result<usize, BarcodeError>),
}

/// A decoded picture without its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PictureHead {
    pub source_width: u32,
    pub source_height: u32,
    /// Source pixels per pixel along each side: 1, 2, 4 or 8.
    pub reduction: u32,
    pub format: Format,
    pub orientation: Orientation,
}

/// A rendered page without its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PageHead {
    pub width: u32,
    pub height: u32,
    pub dpi: f64,
    pub is_scan: bool,
}

impl PictureHead {
    /// Width and height of the picture, if it is one that these options allow.
    pub fn checked(&self, options: &DecodeOptions) -> Option<(u32, u32)> {
        let Self { source_width: width, source_height: height, reduction, .. } = *self;
        let is_allowed = is_within(width, height, options.max_pixels, options.max_side_px)
            && (reduction == 1 || [2, 4, 8].contains(&reduction) && options.min_long_side_px.is_some());
        is_allowed.then(|| (width.div_ceil(reduction), height.div_ceil(reduction)))
    }
}

impl PageHead {
    /// Width and height of the page, if it is one that these options allow.
    pub fn checked(&self, options: &PdfOptions) -> Option<(u32, u32)> {
        // Sides are rounded, so each may be a pixel longer than the limits that it was made for.
        let (width, height) = (self.width, self.height);
        let rounded = |side: u32| side.saturating_sub(1).max(1);
        let is_allowed = width > 0
            && height > 0
            && is_within(rounded(width), rounded(height), options.max_pixels, options.max_side_px)
            && self.dpi.is_finite()
            && self.dpi > 0.0;
        is_allowed.then_some((width, height))
    }
}

fn is_within(width: u32, height: u32, max_pixels: u64, max_side_px: u32) -> bool {
    width > 0 && height > 0 && width.max(height) <= max_side_px && u64::from(width) * u64::from(height) <= max_pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::barcode::{Attempt, Barcode, Symbology};

    fn head(source_width: u32, source_height: u32, reduction: u32) -> PictureHead {
        PictureHead { source_width, source_height, reduction, format: Format::Jpeg, orientation: Orientation::Upright }
    }

    #[test]
    fn a_picture_that_was_not_allowed_is_not_believed() {
        let full = DecodeOptions { max_pixels: 1000, max_side_px: 100, ..DecodeOptions::default() };
        let reduced = DecodeOptions { min_long_side_px: Some(10), ..full };
        assert_eq!(head(100, 10, 1).checked(&full), Some((100, 10)));
        assert_eq!(head(99, 9, 8).checked(&reduced), Some((13, 2)));
        for (wrong, options) in [
            (head(0, 10, 1), full),
            (head(10, 0, 1), full),
            (head(101, 1, 1), full),
            (head(100, 11, 1), full),
            (head(u32::MAX, u32::MAX, 8), reduced),
            (head(99, 9, 2), full),
            (head(99, 9, 0), reduced),
            (head(99, 9, 3), reduced),
            (head(99, 9, 16), reduced),
        ] {
            assert_eq!(wrong.checked(&options), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_page_that_was_not_allowed_is_not_believed() {
        let options = PdfOptions { max_pixels: 1000, max_side_px: 100, ..PdfOptions::default() };
        let page = |width, height, dpi| PageHead { width, height, dpi, is_scan: false };
        assert_eq!(page(100, 10, 200.0).checked(&options), Some((100, 10)));
        let wrong = [(0, 1, 1.0), (1, 0, 1.0), (102, 1, 1.0), (100, 12, 1.0), (1, 1, f64::NAN), (1, 1, 0.0)];
        for (width, height, dpi) in wrong {
            assert_eq!(page(width, height, dpi).checked(&options), None, "{width} {height} {dpi}");
        }
    }

    #[test]
    fn whatever_is_believed_has_its_place_in_the_memory_file() {
        let (pixels, side) = (50_000_000, 20_000);
        let layout = Layout::new(20 << 20, pixels, side);
        assert!(layout.input_bytes >= 20 << 20 && layout.input_bytes as u64 >= pixels);
        let options = PdfOptions { max_pixels: pixels, max_side_px: side, ..PdfOptions::default() };
        for (width, height) in [(side + 1, 2501), (7072, 7071), (1, 1)] {
            let page = PageHead { width, height, dpi: 1.0, is_scan: true };
            let (width, height) = page.checked(&options).expect("within the limits");
            assert!(width as usize * height as usize * 3 <= layout.output_bytes);
        }
    }

    #[test]
    fn unknown_kinds_and_numbers_that_are_none_are_no_answers() {
        let good = serde_json::to_string(&Answer::Picture(Ok(head(1, 1, 1)))).unwrap();
        assert!(serde_json::from_str::<Answer>(&good).is_ok());
        for (from, to) in [("Jpeg", "Exe"), ("Upright", "Sideways"), (":1", ":-1"), (":1", ":4294967296"), ("Ok", "Ko")]
        {
            assert!(serde_json::from_str::<Answer>(&good.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn symbols_come_through_to_the_bit() {
        let quad = [[0.1f32, 3999.97], [1.0 / 3.0, 1e-7], [16_777_215.0, 0.7], [2.5, 11.999999]];
        let symbol = Barcode {
            symbology: Symbology::Pdf417,
            bytes: (0..=255).collect(),
            text: "\u{0}\u{1e}ä\"".into(),
            quad,
            part: None,
            inverted: true,
            found_by: Attempt::Turned,
            agreed: false,
        };
        let text = serde_json::to_vec(&vec![symbol.clone()]).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<Barcode>>(&text).unwrap(), [symbol]);
    }
}
