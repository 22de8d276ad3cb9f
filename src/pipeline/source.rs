//! A picture as it came in: decoded once, whoever asks for it.
//!
//! [`picture`](super::picture) looks for faces in it, [`document`](super::document) for text and codes; where both do, they share
//! the pixels. This is where stages are timed and the deadline is asked, since `imaging`, `face` and `document` read no clock.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::checks::{MediaKind, Warning};
use crate::document::content::ReadBarcode;
use crate::document::locate::Located;
use crate::document::mrz_reader::FoundMrz;
use crate::error::Error;
use crate::imaging::decode::{DecodeOptions, Decoded, decode};
use crate::inference::RequestContext;

/// A part of the work on a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Decode,
    Detect,
    Quality,
    Embed,
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
    Mrz(Arc<FoundMrz>),
    Barcode(Arc<ReadBarcode>),
}

/// Hears the news of a picture.
pub type Listener = dyn Fn(MediaKind, News) + Send + Sync;

/// The encoded file.
#[derive(Debug, Clone)]
pub struct Media {
    pub kind: MediaKind,
    pub data: Bytes,
    /// Its place in the request, for error messages, such as `media[0].data`.
    pub field: String,
}

/// A picture at work.
pub struct Source {
    media: Media,
    options: DecodeOptions,
    pub context: Arc<RequestContext>,
    listener: Arc<Listener>,
    decoded: OnceLock<Result<Decoded, Error>>,
}

impl Source {
    pub fn new(
        media: Media,
        options: DecodeOptions,
        context: &Arc<RequestContext>,
        listener: &Arc<Listener>,
    ) -> Arc<Self> {
        Arc::new(Self {
            media,
            options,
            context: Arc::clone(context),
            listener: Arc::clone(listener),
            decoded: OnceLock::new(),
        })
    }

    pub fn kind(&self) -> MediaKind {
        self.media.kind
    }

    /// The pixels, upright by EXIF.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the file cannot be decoded.
    pub fn decoded(&self) -> Result<&Decoded, Error> {
        let work = || {
            self.timed(Stage::Decode, || {
                decode(&self.media.data, &self.options)
                    .map_err(|error| Error::invalid(&self.media.field, error.code(), error.to_string()))
            })
        };
        self.decoded.get_or_init(work).as_ref().map_err(Clone::clone)
    }

    /// Runs a stage of the work and tells how long it took.
    ///
    /// # Errors
    /// Those of `work`, and the request's end.
    pub fn timed<T>(&self, stage: Stage, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let started = Instant::now();
        self.context.check(started)?;
        let result = work()?;
        self.tell(News::Stage(stage, started.elapsed()));
        Ok(result)
    }

    pub fn tell(&self, news: News) {
        (self.listener)(self.media.kind, news);
    }
}
