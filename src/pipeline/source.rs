//! A picture as it came in: decoded once, whoever asks for it.
//!
//! [`picture`](super::picture) looks for faces in it, [`document`](super::document) for text and codes; where both do, they share
//! the pixels. This is where stages are timed and the deadline is asked, since `imaging`, `face` and `document` read no clock.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::MediaLimits;
use super::document::MAX_PAGES;
use super::picture::Portrait;
use crate::checks::{MediaKind, Warning};
use crate::document::content::ReadBarcode;
use crate::document::locate::Located;
use crate::document::mrz_reader::FoundMrz;
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::decode::{DecodeOptions, Decoded, decode};
use crate::imaging::pdf;
use crate::inference::RequestContext;
use crate::ops::{faults, metrics as names};

/// A part of the work on a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Decode,
    Detect,
    Quality,
    Embed,
    /// By the second embedder.
    EmbedB,
    Liveness,
    Age,
    Mrz,
    Barcode,
    Text,
    Locate,
}

impl Stage {
    /// Lower-case word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Detect => "detect",
            Self::Quality => "quality",
            Self::Embed => "embed",
            Self::EmbedB => "embed_b",
            Self::Liveness => "liveness",
            Self::Age => "age",
            Self::Mrz => "mrz",
            Self::Barcode => "barcode",
            Self::Text => "text",
            Self::Locate => "locate",
        }
    }
}

/// What a picture has to tell while it is worked on.
#[derive(Debug, Clone)]
pub enum News {
    /// A stage has ended.
    Stage(Stage, Duration),
    /// Something about the picture as a whole.
    Warning(Warning),
    Located(Arc<Located>),
    Portrait(Arc<Portrait>),
    Mrz(Arc<FoundMrz>),
    Barcode(Arc<ReadBarcode>),
}

/// Which picture has news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub media: MediaKind,
    /// Place of the page in its document, counted from 0; 0 for a picture of a face.
    pub page: usize,
}

/// Hears the news of a picture.
pub type Listener = dyn Fn(Origin, News) + Send + Sync;

/// The encoded file.
#[derive(Debug, Clone)]
pub struct Media {
    pub kind: MediaKind,
    pub data: Bytes,
    /// Its place in the request, for error messages, such as `media[0].data`.
    pub field: String,
}

/// A decoded picture, EXIF orientation applied.
pub struct Pixels {
    pub image: Image,
    /// Pixels of `image` per pixel of the source.
    pub scale: f64,
    /// Width and height of the source.
    pub source_size: [u32; 2],
}

/// A picture at work: a file, or a page of one.
pub struct Source {
    media: Media,
    /// In a file with pages, the one that this is, counted from 0.
    page_of_file: Option<usize>,
    file: u32,
    origin: Origin,
    limits: MediaLimits,
    min_long_side_px: Option<u32>,
    pub context: Arc<RequestContext>,
    listener: Arc<Listener>,
    decoded: OnceLock<Result<Pixels, Error>>,
}

impl Source {
    /// A picture of a face, decoded no larger than `min_long_side_px` demands.
    pub fn of_face(
        media: Media,
        limits: MediaLimits,
        min_long_side_px: u32,
        context: &Arc<RequestContext>,
        listener: &Arc<Listener>,
    ) -> Arc<Self> {
        Arc::new(Self {
            origin: Origin { media: media.kind, page: 0 },
            media,
            page_of_file: None,
            file: 0,
            limits,
            min_long_side_px: Some(min_long_side_px),
            context: Arc::clone(context),
            listener: Arc::clone(listener),
            decoded: OnceLock::new(),
        })
    }

    /// The pages of a document, each decoded in full, since an MRZ or a barcode may be a small part of it: a picture is one page, a PDF
    /// file as many as it has.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a PDF file whose pages cannot be counted, and for more than [`MAX_PAGES`] in all.
    pub fn of_document(
        media: Vec<Media>,
        limits: MediaLimits,
        context: &Arc<RequestContext>,
        listener: &Arc<Listener>,
    ) -> Result<Vec<Arc<Self>>, Error> {
        let mut pages: Vec<Arc<Self>> = Vec::new();
        for (file, media) in (0..).zip(media) {
            let is_over = || context.check(Instant::now()).is_err();
            let in_file = if pdf::is_pdf(&media.data) {
                let counted = pdf::page_count(&media.data, &limits.pdf(), &is_over);
                context.check(Instant::now())?;
                Some(counted.map_err(|error| Error::invalid(&media.field, error.code(), error.to_string()))?)
            } else {
                None
            };
            for page in 0..in_file.unwrap_or(1) {
                if pages.len() == MAX_PAGES {
                    let reason = format!("with it the document has more than {MAX_PAGES} pages");
                    return Err(Error::invalid(&media.field, "DOCUMENT_TOO_MANY_PAGES", reason));
                }
                pages.push(Arc::new(Self {
                    origin: Origin { media: media.kind, page: pages.len() },
                    media: media.clone(),
                    page_of_file: in_file.map(|_| page),
                    file,
                    limits,
                    min_long_side_px: None,
                    context: Arc::clone(context),
                    listener: Arc::clone(listener),
                    decoded: OnceLock::new(),
                }));
            }
        }
        Ok(pages)
    }

    pub fn kind(&self) -> MediaKind {
        self.media.kind
    }

    /// Place of the file among those of its document, counted from 0.
    pub fn file(&self) -> u32 {
        self.file
    }

    /// The pixels, upright by EXIF.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the file cannot be decoded.
    pub fn decoded(&self) -> Result<&Pixels, Error> {
        let work = || self.timed(Stage::Decode, || self.decode());
        self.decoded.get_or_init(work).as_ref().map_err(Clone::clone)
    }

    fn decode(&self) -> Result<Pixels, Error> {
        faults::point("decode");
        let invalid = |code, reason| Error::invalid(&self.media.field, code, reason);
        let Some(page) = self.page_of_file else {
            let options = DecodeOptions {
                max_bytes: self.limits.max_image_bytes as u64,
                max_pixels: self.limits.max_pixels,
                min_long_side_px: self.min_long_side_px,
                ..DecodeOptions::default()
            };
            let Decoded { image, scale, source_width, source_height, .. } =
                decode(&self.media.data, &options).map_err(|error| invalid(error.code(), error.to_string()))?;
            return Ok(Pixels { image, scale, source_size: [source_width, source_height] });
        };
        let is_over = || self.context.check(Instant::now()).is_err();
        let rendered = pdf::render(&self.media.data, page, &self.limits.pdf(), &is_over);
        self.context.check(Instant::now())?;
        let image = rendered.map_err(|error| invalid(error.code(), error.to_string()))?.image;
        Ok(Pixels { source_size: [image.width, image.height], scale: 1.0, image })
    }

    /// Runs a stage of the work and tells how long it took.
    ///
    /// # Errors
    /// Those of `work`, and the request's end.
    pub fn timed<T>(&self, stage: Stage, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let started = Instant::now();
        self.context.check(started)?;
        let result = work()?;
        let took = started.elapsed();
        metrics::histogram!(names::STAGE_SECONDS, "stage" => stage.as_str()).record(took);
        self.tell(News::Stage(stage, took));
        Ok(result)
    }

    pub fn tell(&self, news: News) {
        (self.listener)(self.origin, news);
    }
}
