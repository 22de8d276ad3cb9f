//! Pages of a PDF file to upright 8-bit RGB.
//!
//! Called by `pipeline` for files that [`is_pdf`] recognises: scans of passports and cards, proofs of address. The renderer is
//! `hayro` (pure Rust, no unsafe code); the file format is ISO 32000-1. A page that is filled by one embedded picture is
//! rendered at that picture's own resolution, so that the scan's pixels are kept; other pages at [`PdfOptions::min_dpi`].
//!
//! What bounds the cost of a hostile file: `streams` counts what streams expand to before the renderer expands them; `survey`
//! walks the page's drawing operators once without drawing, asks for the deadline at each, and refuses a page whose drawing
//! would cost more than any scanned document's. Only then is the page drawn. The work runs on a thread of its own with a large
//! stack, since the renderer recurses up to 50 forms deep. A panic in the renderer is caught there and becomes
//! [`PdfError::Damaged`].
//!
//! What is left out: encrypted files are refused even where the password is empty, since their streams cannot be counted
//! beforehand; so are JBIG2 pictures made of symbols, and compression inside of compression of rare kinds; colour profiles are as the renderer applies them; forms,
//! annotations without an appearance and optional content are not treated specially. Drawing itself cannot be interrupted, and
//! a failed allocation cannot be caught: `survey`'s limits are what bounds both, and around them the daemon renders in a
//! process of its own with limits on memory and time (`decoders`).

mod streams;
mod survey;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hayro::hayro_interpret::{InterpreterSettings, InterpreterWarning, TransformExt};
use hayro::hayro_syntax::page::Page;
use hayro::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use hayro::kurbo::Affine;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::vello_cpu::{Pixmap, RasterizerSettings, RenderContext, Resources, TargetInit};
use hayro::{RenderCache, RenderSettings, render_into};
use serde::{Deserialize, Serialize};

use super::Image;

/// PDF's unit of length is 1/72 inch (ISO 32000-1, 8.3.2.3).
const POINTS_PER_INCH: f64 = 72.0;

/// Stack of the rendering thread; only what is used of it takes memory. The renderer nests 50 forms and 512 arrays at most.
pub const STACK_BYTES: usize = 64 << 20;

/// The header may stand behind other bytes, within the first 1024 (PDF Reference 1.7, appendix H, note 13).
const HEADER_WITHIN_BYTES: usize = 1024;

/// The end marker stands within the last 1024 bytes (the same, note 18).
const TRAILER_WITHIN_BYTES: usize = 1024;

/// A page is drawn smaller than wanted where [`PdfOptions::max_pixels`] demands it, down to this share of the resolution. Below
/// it, the page is refused, as a text would become unreadable.
const MIN_SHRINK: f64 = 0.5;

/// A picture that covers this share of its page makes the page a scan.
const SCAN_SHARE: f64 = 0.5;

/// Difference of a picture's horizontal and vertical resolution, as a share, up to which its pixels are kept as they are.
const MAX_STRETCH: f64 = 0.02;

/// What to accept and how to render.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PdfOptions {
    /// Size of the file.
    pub max_bytes: u64,
    /// Pages in the file.
    pub max_pages: usize,
    /// Width × height of a rendered page and of a picture embedded in it. Rendering takes up to about 24 bytes of memory per
    /// pixel of each.
    pub max_pixels: u64,
    /// Longer side of a rendered page, in pixels.
    pub max_side_px: u32,
    /// Resolution of a page that is not filled by one picture.
    pub min_dpi: f64,
    /// Highest resolution of a page. Pictures of a higher one are reduced to it.
    pub max_dpi: f64,
}

impl Default for PdfOptions {
    fn default() -> Self {
        Self {
            max_bytes: 32 << 20,
            // A passport is one page, a card two; a proof of address rarely has more than ten.
            max_pages: 50,
            // A4 at 400 dpi has 15.5 MP, A3 31 MP.
            max_pixels: 32_000_000,
            max_side_px: 20_000,
            // Capital letters of an MRZ are 2.5 mm high: 20 pixels.
            min_dpi: 200.0,
            max_dpi: 400.0,
        }
    }
}

/// A rendered page.
#[derive(Debug, Clone)]
pub struct RenderedPage {
    pub image: Image,
    /// Pixels per inch of paper, as the file gives the size of the paper.
    pub dpi: f64,
    /// One embedded picture fills at least half of the page: a scan rather than a drawn text.
    pub is_scan: bool,
}

/// A quantity with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PdfLimit {
    Bytes,
    /// Pixels of a rendered page or of a picture in it.
    Pixels,
    /// Bytes that a stream expands to.
    StreamBytes,
    /// Drawing operators, path elements and painted area.
    Drawing,
}

impl std::fmt::Display for PdfLimit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Bytes => "bytes",
            Self::Pixels => "pixels on a page",
            Self::StreamBytes => "bytes in a stream once expanded",
            Self::Drawing => "drawing operations on a page",
        })
    }
}

/// Why a PDF file gave no picture. The texts hold nothing of the file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PdfError {
    #[error("the PDF file is encrypted; send it without protection")]
    Encrypted,
    #[error("the PDF file is damaged")]
    Damaged,
    /// Its cost cannot be told before it is spent.
    #[error("the PDF file uses a kind of compression that is not accepted")]
    Unsupported,
    #[error("the PDF file has no such page")]
    Empty,
    #[error("the PDF file has more than {allowed} pages")]
    TooManyPages { allowed: usize },
    #[error("the PDF file has more than {allowed} {limit}")]
    TooLarge { limit: PdfLimit, allowed: u64 },
    #[error("the time for the PDF file ran out")]
    DeadlineExceeded,
}

impl PdfError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Encrypted => "PDF_ENCRYPTED",
            Self::Damaged => "PDF_DAMAGED",
            Self::Unsupported => "PDF_UNSUPPORTED",
            Self::Empty => "PDF_EMPTY",
            Self::TooManyPages { .. } => "PDF_TOO_MANY_PAGES",
            Self::TooLarge { .. } => "IMAGE_TOO_LARGE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
        }
    }
}

/// A question to the caller: is the time up? It is asked often and must be quick.
pub type Deadline<'a> = &'a (dyn Fn() -> bool + Sync);

/// Tells a PDF file by its header. Readers accept it behind up to 1 KiB of other bytes, but a file that is a picture to one reader and a
/// PDF to another shows a person something else than the machine: only white space and a byte order mark may come before it.
pub fn is_pdf(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes[..bytes.len().min(HEADER_WITHIN_BYTES)].trim_ascii_start().starts_with(b"%PDF-")
}

/// Counts the pages; at least 1.
///
/// # Errors
/// See [`PdfError`]. More than [`PdfOptions::max_pages`] pages are an error.
pub fn page_count(bytes: &[u8], options: &PdfOptions, deadline: Deadline<'_>) -> Result<usize, PdfError> {
    on_large_stack(|| page_count_here(bytes, options, deadline))
}

/// As [`page_count`], on the calling thread, which must have a stack of [`STACK_BYTES`].
///
/// # Errors
/// Those of [`page_count`].
pub fn page_count_here(bytes: &[u8], options: &PdfOptions, deadline: Deadline<'_>) -> Result<usize, PdfError> {
    guarded(|| open(bytes, options, deadline).map(|pdf| pdf.pages().len()))
}

/// Renders one page, counted from 0, upright and over white.
///
/// # Errors
/// See [`PdfError`]; [`PdfError::Empty`] if there is no such page. A blank page gives a white picture. A picture on the page that cannot be
/// decoded makes the file damaged.
pub fn render(
    bytes: &[u8],
    page: usize,
    options: &PdfOptions,
    deadline: Deadline<'_>,
) -> Result<RenderedPage, PdfError> {
    on_large_stack(|| render_here(bytes, page, options, deadline))
}

/// As [`render`], on the calling thread, which must have a stack of [`STACK_BYTES`].
///
/// # Errors
/// Those of [`render`].
pub fn render_here(
    bytes: &[u8],
    page: usize,
    options: &PdfOptions,
    deadline: Deadline<'_>,
) -> Result<RenderedPage, PdfError> {
    guarded(|| {
        let pdf = open(bytes, options, deadline)?;
        let pages = pdf.pages();
        let page = pages.get(page).ok_or(PdfError::Empty)?;
        let drawn = draw(&pdf, page, options, deadline)?;
        // What stood on it was lost with the end of the file.
        let is_lost = !is_whole(bytes) && drawn.image.rgb.iter().all(|value| *value == 255);
        if is_lost { Err(PdfError::Damaged) } else { Ok(drawn) }
    })
}

/// Runs `work` on a thread with a large stack.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, PdfError> + Send) -> Result<T, PdfError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("pdf".into()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        // No thread could be started: an overloaded host, not the file's fault, but there is no time for it now.
        thread.map_err(|_| PdfError::DeadlineExceeded)?.join().unwrap_or(Err(PdfError::Damaged))
    })
}

/// Turns a panic into an error. `survey` stops the renderer by unwinding with the error as payload.
fn guarded<T>(work: impl FnOnce() -> Result<T, PdfError>) -> Result<T, PdfError> {
    let into_error =
        |payload: Box<dyn Any + Send>| payload.downcast::<PdfError>().map_or(PdfError::Damaged, |error| *error);
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(into_error(payload)))
}

fn open(bytes: &[u8], options: &PdfOptions, deadline: Deadline<'_>) -> Result<Pdf, PdfError> {
    if bytes.len() as u64 > options.max_bytes {
        return Err(PdfError::TooLarge { limit: PdfLimit::Bytes, allowed: options.max_bytes });
    }
    if deadline() {
        return Err(PdfError::DeadlineExceeded);
    }
    if streams::is_encrypted(bytes) {
        return Err(PdfError::Encrypted);
    }
    streams::check_file(bytes, options, deadline)?;
    let pdf = Pdf::new(bytes.to_vec()).map_err(|error| match error {
        LoadPdfError::Decryption(DecryptionError::InvalidEncryption | DecryptionError::MissingIDEntry)
        | LoadPdfError::Invalid => PdfError::Damaged,
        LoadPdfError::Decryption(_) => PdfError::Encrypted,
    })?;
    match pdf.pages().len() {
        0 if is_whole(bytes) => Err(PdfError::Empty),
        // The pages were lost with the end of the file.
        0 => Err(PdfError::Damaged),
        count if count > options.max_pages => Err(PdfError::TooManyPages { allowed: options.max_pages }),
        _ => Ok(pdf),
    }
}

/// True if the file ends as a PDF file must.
fn is_whole(bytes: &[u8]) -> bool {
    bytes[bytes.len().saturating_sub(TRAILER_WITHIN_BYTES)..].windows(5).any(|end| end == b"%%EOF")
}

fn draw(pdf: &Pdf, page: &Page<'_>, options: &PdfOptions, deadline: Deadline<'_>) -> Result<RenderedPage, PdfError> {
    streams::check_page(pdf, page, options, deadline)?;
    let (width_pt, height_pt) = page.render_dimensions();
    let (width_pt, height_pt) = (f64::from(width_pt), f64::from(height_pt));
    if !(width_pt.is_finite() && height_pt.is_finite() && width_pt >= 1.0 && height_pt >= 1.0) {
        return Err(PdfError::Damaged);
    }
    let survey = survey::run(page, options, deadline)?;
    let is_scan = survey.main_picture.is_some_and(|picture| picture.page_share >= SCAN_SHARE);
    let scale = pixels_per_point(survey.main_picture, (width_pt, height_pt), options)?;
    survey.check_cost(scale)?;

    let side = |length_pt: f64, scale: f64| ((length_pt * scale).round() as u16).max(1);
    let (width, height) = (side(width_pt, scale.0), side(height_pt, scale.1));
    let to_pixels = Affine::scale_non_uniform(f64::from(width) / width_pt, f64::from(height) / height_pt);
    let mut context = RenderContext::new(width, height);
    let cache = RenderCache::new();
    let broken_picture = Arc::new(AtomicBool::new(false));
    let seen = broken_picture.clone();
    let settings = InterpreterSettings {
        warning_sink: Arc::new(move |warning| {
            if matches!(warning, InterpreterWarning::ImageDecodeFailure) {
                seen.store(true, Ordering::Relaxed);
            }
        }),
        ..InterpreterSettings::default()
    };
    let transform = to_pixels * page.initial_transform(true).to_kurbo();
    if deadline() {
        return Err(PdfError::DeadlineExceeded);
    }
    render_into(page, &cache, &settings, &RenderSettings::default(), &mut context, transform);
    if broken_picture.load(Ordering::Relaxed) {
        return Err(PdfError::Damaged);
    }
    if deadline() {
        return Err(PdfError::DeadlineExceeded);
    }
    context.flush();
    let mut pixmap = Pixmap::new(width, height);
    let settings = RasterizerSettings { target_init: TargetInit::Clear(WHITE), ..Default::default() };
    context.render_with(&mut pixmap, &mut Resources::default(), settings);
    let image = Image::build(width.into(), height.into(), |rgb| {
        for (pixel, rgb) in pixmap.data().iter().zip(rgb.chunks_exact_mut(3)) {
            rgb.copy_from_slice(&[pixel.r, pixel.g, pixel.b]);
        }
    });
    Ok(RenderedPage { image, dpi: scale.0.max(scale.1) * POINTS_PER_INCH, is_scan })
}

/// The resolution at which to draw a page of this size, in pixels per point along both axes.
///
/// # Errors
/// [`PdfError::TooLarge`] if the page would have to be drawn at less than half of it.
fn pixels_per_point(
    picture: Option<survey::Picture>,
    (width_pt, height_pt): (f64, f64),
    options: &PdfOptions,
) -> Result<(f64, f64), PdfError> {
    let (min, max) = (options.min_dpi / POINTS_PER_INCH, options.max_dpi / POINTS_PER_INCH);
    let wanted = match picture {
        // A scan keeps its own resolution, however coarse. Cameras' files give pages of metres at 72 dpi: that is theirs too.
        Some(picture) if picture.page_share >= SCAN_SHARE => {
            let (x, y) = picture.density;
            let denser = x.max(y);
            // Sizes of paper are rounded; a picture that is stretched by more was meant to be.
            let kept = if (x - y).abs() <= MAX_STRETCH * denser { (x, y) } else { (denser, denser) };
            let reduced = (max / denser).min(1.0);
            (kept.0 * reduced, kept.1 * reduced)
        }
        Some(picture) => {
            let scale = picture.density.0.max(picture.density.1).max(min).min(max);
            (scale, scale)
        }
        None => (min, min),
    };
    let (width, height) = (width_pt * wanted.0, height_pt * wanted.1);
    let by_pixels = (options.max_pixels as f64 / (width * height)).sqrt();
    let by_side = f64::from(options.max_side_px.min(u16::MAX.into())) / width.max(height);
    let fitting = by_pixels.min(by_side);
    // Written so that what is not a number is refused.
    if !(fitting >= MIN_SHRINK && width > 0.0 && height > 0.0) {
        return Err(PdfError::TooLarge { limit: PdfLimit::Pixels, allowed: options.max_pixels });
    }
    // Rounding to whole pixels may add half a pixel to each side of a reduced page.
    let factor = if fitting >= 1.0 { 1.0 } else { fitting * 0.999 };
    Ok((wanted.0 * factor, wanted.1 * factor))
}
