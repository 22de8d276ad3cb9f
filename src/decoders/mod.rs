//! Foreign bytes to pixels, pages and symbols, away from the daemon's own memory.
//!
//! Called by `pipeline`, for every picture, page and look for barcodes. The decoders (libjpeg-turbo, the host's libheif, zxing-cpp, and the Rust ones beside them) are those of `imaging` and
//! `document::barcode`; here is decided where they run. In the daemon they run in processes of their own (`pool`), which cannot open, connect or start anything
//! (`sandbox`), have a limit of memory and of time, and are killed where a request ends. Whatever they answer is compared with what was asked for (`wire`). Command
//! line tools that read their user's own files let them run in their own process ([`Decoders::in_process`]): the same functions, so the same pixels.
//!
//! What a taken-over decoder can still do: answer wrongly, for the file that took it over and for those that it is asked about later, and keep what it has seen, until it is replaced
//! ([`Wear`]).

mod pool;
pub mod process;
mod sandbox;
mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use pool::{Held, Pool, PoolSettings, StartError, Wear};
use wire::{Answer, MAX_SYMBOLS_BYTES, Question};

use crate::config::Config;
use crate::document::barcode::{self, Barcode, Luma};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::decode::{self, DecodeError, DecodeOptions, Decoded};
use crate::imaging::pdf::{self, PdfError, PdfOptions, RenderedPage};
use crate::inference::RequestContext;
use crate::pipeline::MediaLimits;

/// Code of a file at which a decoder has ended.
const FAILED: &str = "IMAGE_DECODER_FAILED";

/// The decoders of a daemon or a command.
pub struct Decoders(Where);

enum Where {
    Here,
    Isolated(Pool),
}

/// For whom something is decoded.
pub struct Job<'a> {
    /// Its place in the request, for error messages, such as `media[0].data`.
    pub field: &'a str,
    pub context: &'a RequestContext,
}

impl Decoders {
    /// Decoders that run in the process that calls them, where a file can neither be given up nor kept from doing harm.
    pub fn in_process() -> Self {
        Self(Where::Here)
    }

    /// Decoders in processes of their own.
    pub fn isolated(pool: Pool) -> Self {
        Self(Where::Isolated(pool))
    }

    /// As the configuration says. `cores` are those that the process may use.
    ///
    /// # Errors
    /// If there cannot be the processes that are asked for.
    pub fn start(config: &Config, cores: usize) -> Result<Self, StartError> {
        let wanted = &config.decoders;
        if !wanted.isolated {
            tracing::warn!("decoders run in the daemon's own process (decoders.isolated = false)");
            return Ok(Self::in_process());
        }
        let started = Instant::now();
        let limits =
            MediaLimits { max_image_bytes: config.limits.max_image_bytes, max_pixels: config.limits.max_pixels };
        let pool = Pool::start(PoolSettings {
            // Not the path of the file: after an upgrade another program lies there, which may speak otherwise.
            program: PathBuf::from("/proc/self/exe"),
            // As many as requests are worked on at once, so that two slow files do not hold up all others.
            processes: if wanted.processes == 0 { 2 * cores } else { wanted.processes },
            memory_bytes: wanted.memory_mb << 20,
            deadline: Duration::from_millis(wanted.deadline_ms),
            max_file_bytes: limits.max_image_bytes,
            max_pixels: limits.max_pixels,
            wear: Wear::default(),
        })?;
        tracing::info!(
            processes = pool.processes(),
            start_ms = started.elapsed().as_millis(),
            "decoders run in processes of their own"
        );
        Ok(Self::isolated(pool))
    }

    /// Processes that decode; 0 where the caller's own does.
    pub fn processes(&self) -> usize {
        match &self.0 {
            Where::Here => 0,
            Where::Isolated(pool) => pool.processes(),
        }
    }

    /// What the processes hold now; nothing where the caller's own decodes.
    pub fn held(&self) -> Held {
        match &self.0 {
            Where::Here => Held::default(),
            Where::Isolated(pool) => pool.held(),
        }
    }

    /// A picture file to upright RGB.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if it cannot be decoded, and the request's end.
    pub fn picture(&self, file: &[u8], options: &DecodeOptions, job: &Job<'_>) -> Result<Decoded, Error> {
        let invalid = |error: DecodeError| Error::invalid(job.field, error.code(), error.to_string());
        let Where::Isolated(pool) = &self.0 else {
            return decode::decode(file, options).map_err(invalid);
        };
        // Said here as well: a longer file has no room in the memory of a process.
        if file.len() as u64 > options.max_bytes {
            return Err(invalid(DecodeError::TooLarge { limit: decode::Limit::Bytes, allowed: options.max_bytes }));
        }
        let question = Question::Picture { bytes: file.len(), options: *options };
        pool.ask(job, file, &question, |answer, output| {
            let Answer::Picture(answer) = answer else { return None };
            let head = match answer {
                Ok(head) => head,
                Err(error) => return Some(Err(error)),
            };
            let (width, height) = head.checked(options)?;
            Some(Ok(Decoded {
                image: Image::try_build(width, height, |rgb| output.copy(rgb).ok_or(())).ok()?,
                source_width: head.source_width,
                source_height: head.source_height,
                scale: 1.0 / f64::from(head.reduction),
                format: head.format,
                orientation: head.orientation,
            }))
        })?
        .map_err(invalid)
    }

    /// Pages of a PDF file; at least 1.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if they cannot be counted or are too many, and the request's end.
    pub fn page_count(&self, file: &[u8], options: &PdfOptions, job: &Job<'_>) -> Result<usize, Error> {
        let counted = match &self.0 {
            Where::Here => pdf::page_count(file, options, &is_over(job)),
            Where::Isolated(_) if file.len() as u64 > options.max_bytes => Err(too_large(options)),
            Where::Isolated(pool) => {
                let question = Question::PageCount { bytes: file.len(), options: *options };
                pool.ask(job, file, &question, |answer, _| match answer {
                    Answer::PageCount(Ok(count)) => (1..=options.max_pages).contains(&count).then_some(Ok(count)),
                    Answer::PageCount(Err(error)) => Some(Err(error)),
                    _ => None,
                })?
            }
        };
        job.context.check(Instant::now())?;
        counted.map_err(|error| Error::invalid(job.field, error.code(), error.to_string()))
    }

    /// A page of a PDF file, counted from 0, upright and over white.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if it cannot be rendered, and the request's end.
    pub fn page(&self, file: &[u8], page: usize, options: &PdfOptions, job: &Job<'_>) -> Result<RenderedPage, Error> {
        let rendered = match &self.0 {
            Where::Here => pdf::render(file, page, options, &is_over(job)),
            Where::Isolated(_) if file.len() as u64 > options.max_bytes => Err(too_large(options)),
            Where::Isolated(pool) => {
                let question = Question::Page { bytes: file.len(), page, options: *options };
                pool.ask(job, file, &question, |answer, output| {
                    let Answer::Page(answer) = answer else { return None };
                    let head = match answer {
                        Ok(head) => head,
                        Err(error) => return Some(Err(error)),
                    };
                    let (width, height) = head.checked(options)?;
                    let image = Image::try_build(width, height, |rgb| output.copy(rgb).ok_or(())).ok()?;
                    Some(Ok(RenderedPage { image, dpi: head.dpi, is_scan: head.is_scan }))
                })?
            }
        };
        job.context.check(Instant::now())?;
        rendered.map_err(|error| Error::invalid(job.field, error.code(), error.to_string()))
    }

    /// The symbols of a picture. After `budget` no new attempt is begun.
    ///
    /// # Errors
    /// [`Error::Internal`] if the decoder fails, [`Error::InvalidInput`] where it ends at the picture, and the request's end.
    pub fn barcodes(
        &self,
        picture: &Luma,
        request: &barcode::Request,
        budget: Duration,
        job: &Job<'_>,
    ) -> Result<Vec<Barcode>, Error> {
        let read = match &self.0 {
            Where::Here => {
                let end = Instant::now() + budget;
                let is_over = || {
                    let now = Instant::now();
                    now >= end || job.context.check(now).is_err()
                };
                barcode::read(picture, request, &is_over)
            }
            Where::Isolated(pool) => {
                let question = Question::Barcodes {
                    width: picture.width(),
                    height: picture.height(),
                    request: request.clone(),
                    budget_ms: u64::try_from(budget.as_millis()).unwrap_or(u64::MAX),
                };
                pool.ask(job, picture.pixels(), &question, |answer, output| {
                    let length = match answer {
                        Answer::Barcodes(Ok(length)) => length,
                        Answer::Barcodes(Err(error)) => return Some(Err(error)),
                        _ => return None,
                    };
                    let mut text = vec![0; Some(length).filter(|length| *length <= MAX_SYMBOLS_BYTES)?];
                    output.copy(&mut text)?;
                    let symbols: Vec<Barcode> = serde_json::from_slice(&text).ok()?;
                    (symbols.len() <= usize::from(barcode::MAX_SYMBOLS)).then_some(Ok(symbols))
                })?
            }
        };
        job.context.check(Instant::now())?;
        read.map_err(|error| Error::internal(error.to_string()))
    }
}

fn is_over<'a>(job: &'a Job<'_>) -> impl Fn() -> bool + Sync + use<'a> {
    || job.context.check(Instant::now()).is_err()
}

fn too_large(options: &PdfOptions) -> PdfError {
    PdfError::TooLarge { limit: pdf::PdfLimit::Bytes, allowed: options.max_bytes }
}
