//! One picture of a verification, with everything that is computed from it.
//!
//! Each intermediate result is computed when a check first asks for it and then shared: two checks that want the same one at the same time wait for one computation.
//! Called from blocking threads of the pipeline. This is where stages are timed, since `imaging` and `face` read no clock.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::checks::{FaceEvidence, FacesInPicture, MediaKind, Warning};
use crate::error::Error;
use crate::face::Face;
use crate::face::age::{AgeEstimates, AgeEstimators};
use crate::face::detect::{FaceDetector, FoundFaces};
use crate::face::embed::{Embedding, FaceEmbedder};
use crate::face::landmarks::FaceLandmarks;
use crate::face::liveness::{LivenessScore, PassiveLiveness};
use crate::face::quality::{FaceQuality, measure};
use crate::imaging::Image;
use crate::imaging::decode::{DecodeOptions, Decoded, decode};
use crate::inference::RequestContext;

/// The models that look at faces.
#[derive(Clone)]
pub struct FaceModels {
    pub detector: FaceDetector,
    pub embedder: FaceEmbedder,
    pub landmarks: FaceLandmarks,
    pub liveness: PassiveLiveness,
    pub ages: AgeEstimators,
}

/// A part of the work on a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Decode,
    Detect,
    Quality,
    Embed,
    Liveness,
    Age,
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
        }
    }
}

/// What a picture has to tell while it is worked on.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// A stage has ended.
    Stage(Stage, Duration),
    /// Something about the picture as a whole.
    Warning(Warning),
}

/// Hears the news of a picture.
pub type Listener = dyn Fn(MediaKind, News) + Send + Sync;

/// A picture as it came in.
#[derive(Debug, Clone)]
pub struct Media {
    pub kind: MediaKind,
    /// The encoded file.
    pub data: Bytes,
    /// Its place in the request, for error messages, such as `media[0].data`.
    pub field: String,
}

/// A picture at work.
pub struct Picture {
    media: Media,
    models: Arc<FaceModels>,
    decode_options: DecodeOptions,
    context: Arc<RequestContext>,
    listener: Arc<Listener>,
    found: OnceLock<Result<Found, Error>>,
    quality: OnceLock<Result<Option<FaceQuality>, Error>>,
    embedding: OnceLock<Result<Option<Embedding>, Error>>,
    liveness: OnceLock<Result<Option<LivenessScore>, Error>>,
    ages: OnceLock<Result<Option<AgeEstimates>, Error>>,
}

/// The analysed picture and its faces.
pub struct Found {
    /// Turned upright.
    pub image: Image,
    pub faces: FacesInPicture,
    /// Size of the source picture, EXIF orientation applied.
    pub source_size: [u32; 2],
}

/// How closely to look for faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// As closely as the main face needs.
    MainFace,
    /// For small faces too.
    AllFaces,
}

impl Picture {
    pub fn new(
        media: Media,
        models: Arc<FaceModels>,
        decode_options: DecodeOptions,
        context: Arc<RequestContext>,
        listener: Arc<Listener>,
    ) -> Self {
        Self {
            media,
            models,
            decode_options,
            context,
            listener,
            found: OnceLock::new(),
            quality: OnceLock::new(),
            embedding: OnceLock::new(),
            liveness: OnceLock::new(),
            ages: OnceLock::new(),
        }
    }

    /// Decodes the picture and finds its faces; the first call decides how closely it looks.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the picture cannot be decoded, and those of the detector.
    pub fn found(&self, search: Search) -> Result<&Found, Error> {
        self.found.get_or_init(|| self.find(search)).as_ref().map_err(Clone::clone)
    }

    fn find(&self, search: Search) -> Result<Found, Error> {
        let Decoded { image, source_width, source_height, scale, .. } = self.timed(Stage::Decode, || {
            decode(&self.media.data, &self.decode_options)
                .map_err(|error| Error::invalid(&self.media.field, error.code(), error.to_string()))
        })?;
        let detector = &self.models.detector;
        let FoundFaces { faces, rotation, image } = self.timed(Stage::Detect, || match search {
            Search::MainFace => detector.find(&image, &self.context),
            Search::AllFaces => detector.find_all(&image, &self.context),
        })?;
        let found = Found {
            image,
            faces: FacesInPicture { faces, rotation, source_px: 1.0 / scale },
            source_size: [source_width, source_height],
        };
        for warning in found.faces.warnings(self.media.kind) {
            (self.listener)(self.media.kind, News::Warning(warning));
        }
        Ok(found)
    }

    /// Runs a stage on the main face, if there is one.
    fn of_main_face<T>(
        &self,
        stage: Stage,
        work: impl FnOnce(&Found, &Face) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let found = self.found(Search::MainFace)?;
        let Some(face) = found.faces.main() else { return Ok(None) };
        self.timed(stage, || work(found, face)).map(Some)
    }

    fn timed<T>(&self, stage: Stage, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let started = Instant::now();
        self.context.check(started)?;
        let result = work()?;
        (self.listener)(self.media.kind, News::Stage(stage, started.elapsed()));
        Ok(result)
    }
}

impl FaceEvidence for Picture {
    fn kind(&self) -> MediaKind {
        self.media.kind
    }

    fn faces(&self) -> Result<&FacesInPicture, Error> {
        self.found(Search::MainFace).map(|found| &found.faces)
    }

    fn quality(&self) -> Result<Option<FaceQuality>, Error> {
        let work = |found: &Found, face: &Face| {
            let pose = self.models.landmarks.pose(&found.image, face, &self.context)?;
            measure(&found.image, face, pose, found.faces.source_px)
                .ok_or_else(|| Error::internal("the detector gave landmarks without extent"))
        };
        self.quality.get_or_init(|| self.of_main_face(Stage::Quality, work)).clone()
    }

    fn embedding(&self) -> Result<Option<&Embedding>, Error> {
        let work = |found: &Found, face: &Face| self.models.embedder.embed(&found.image, face, &self.context);
        let embedding = self.embedding.get_or_init(|| self.of_main_face(Stage::Embed, work));
        embedding.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    fn liveness(&self) -> Result<Option<LivenessScore>, Error> {
        let work = |found: &Found, face: &Face| self.models.liveness.score(&found.image, &face.bounds, &self.context);
        self.liveness.get_or_init(|| self.of_main_face(Stage::Liveness, work)).clone()
    }

    fn ages(&self) -> Result<Option<AgeEstimates>, Error> {
        let work = |found: &Found, face: &Face| self.models.ages.estimate(&found.image, face, &self.context);
        self.ages.get_or_init(|| self.of_main_face(Stage::Age, work)).clone()
    }
}
