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
use crate::decoders::{Decoders, Job};
use crate::document::barcode::{self, Barcode, Luma};
use crate::document::content::ReadBarcode;
use crate::document::locate::Located;
use crate::document::mrz_reader::FoundMrz;
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::decode::{DecodeOptions, Decoded};
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

/// What media are read by, and what they may cost.
#[derive(Clone)]
pub struct MediaReader {
    pub limits: MediaLimits,
    pub decoders: Arc<Decoders>,
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
    reader: MediaReader,
    min_long_side_px: Option<u32>,
    pub context: Arc<RequestContext>,
    listener: Arc<Listener>,
    decoded: OnceLock<Result<Pixels, Error>>,
}

impl Source {
    /// A picture of a face, decoded no larger than `min_long_side_px` demands.
    pub fn of_face(
        media: Media,
        reader: &MediaReader,
        min_long_side_px: u32,
        context: &Arc<RequestContext>,
        listener: &Arc<Listener>,
    ) -> Arc<Self> {
        Arc::new(Self {
            origin: Origin { media: media.kind, page: 0 },
            media,
            page_of_file: None,
            file: 0,
            reader: reader.clone(),
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
        reader: &MediaReader,
        context: &Arc<RequestContext>,
        listener: &Arc<Listener>,
    ) -> Result<Vec<Arc<Self>>, Error> {
        let mut pages: Vec<Arc<Self>> = Vec::new();
        for (file, media) in (0..).zip(media) {
            let in_file = if pdf::is_pdf(&media.data) {
                let job = Job { field: &media.field, context };
                Some(reader.decoders.page_count(&media.data, &reader.limits.pdf(), &job)?)
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
                    reader: reader.clone(),
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
        let (MediaReader { limits, decoders }, data) = (&self.reader, &self.media.data);
        let job = self.job();
        if let Some(page) = self.page_of_file {
            let image = decoders.page(data, page, &limits.pdf(), &job)?.image;
            return Ok(Pixels { source_size: [image.width, image.height], scale: 1.0, image });
        }
        let options = DecodeOptions {
            max_bytes: limits.max_image_bytes as u64,
            max_pixels: limits.max_pixels,
            min_long_side_px: self.min_long_side_px,
            ..DecodeOptions::default()
        };
        let Decoded { image, scale, source_width, source_height, .. } = decoders.picture(data, &options, &job)?;
        Ok(Pixels { image, scale, source_size: [source_width, source_height] })
    }

    /// The symbols in a grey copy of the picture. After `budget` no new attempt is begun.
    ///
    /// # Errors
    /// Those of [`Decoders::barcodes`].
    pub fn barcodes(
        &self,
        picture: &Luma,
        request: &barcode::Request,
        budget: Duration,
    ) -> Result<Vec<Barcode>, Error> {
        self.reader.decoders.barcodes(picture, request, budget, &self.job())
    }

    fn job(&self) -> Job<'_> {
        Job { field: &self.media.field, context: &self.context }
    }

    /// Runs a stage of the work and tells how long it took.
    ///
    /// # Errors
    /// Those of `work`, and the request's end.
    pub fn timed<T>(&self, stage: Stage, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let started = Instant::now();
        self.context.check(started)?;
        let result = self.context.trace.stage(stage.as_str(), self.origin.media.as_str()).in_scope(work)?;
        let took = started.elapsed();
        metrics::histogram!(names::STAGE_SECONDS, "stage" => stage.as_str()).record(took);
        self.tell(News::Stage(stage, took));
        Ok(result)
    }

    pub fn tell(&self, news: News) {
        (self.listener)(self.origin, news);
    }
}
