//! The faces of one picture, with everything that is computed from them.
//!
//! Each intermediate result is computed when a check first asks for it and then shared: two checks that want the same one at the same time wait for one computation.
//! Called from blocking threads of the pipeline.

use std::sync::{Arc, OnceLock};

use super::source::{News, Source, Stage};
use crate::checks::{FaceEvidence, FacesInPicture, MediaKind};
use crate::error::Error;
use crate::face::Face;
use crate::face::age::{AgeEstimates, AgeEstimators};
use crate::face::detect::{FaceDetector, FoundFaces};
use crate::face::embed::{Embedding, FaceEmbedder};
use crate::face::landmarks::FaceLandmarks;
use crate::face::liveness::{LivenessScore, PassiveLiveness};
use crate::face::quality::{FaceQuality, measure};
use crate::imaging::Image;
use crate::imaging::decode::Decoded;

/// The models that look at faces.
#[derive(Clone)]
pub struct FaceModels {
    pub detector: FaceDetector,
    pub embedder: FaceEmbedder,
    pub landmarks: FaceLandmarks,
    pub liveness: PassiveLiveness,
    pub ages: AgeEstimators,
}

/// A picture in which faces are looked for.
pub struct Picture {
    source: Arc<Source>,
    models: Arc<FaceModels>,
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
    pub fn new(source: Arc<Source>, models: Arc<FaceModels>) -> Self {
        Self {
            source,
            models,
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
        let Decoded { image, source_width, source_height, scale, .. } = self.source.decoded()?;
        let (detector, context) = (&self.models.detector, &self.source.context);
        let FoundFaces { faces, rotation, image } = self.source.timed(Stage::Detect, || match search {
            Search::MainFace => detector.find(image, context),
            Search::AllFaces => detector.find_all(image, context),
        })?;
        let found = Found {
            image,
            faces: FacesInPicture { faces, rotation, source_px: 1.0 / scale },
            source_size: [*source_width, *source_height],
        };
        for warning in found.faces.warnings(self.source.kind()) {
            self.source.tell(News::Warning(warning));
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
        self.source.timed(stage, || work(found, face)).map(Some)
    }
}

impl FaceEvidence for Picture {
    fn kind(&self) -> MediaKind {
        self.source.kind()
    }

    fn faces(&self) -> Result<&FacesInPicture, Error> {
        self.found(Search::MainFace).map(|found| &found.faces)
    }

    fn quality(&self) -> Result<Option<FaceQuality>, Error> {
        let work = |found: &Found, face: &Face| {
            let pose = self.models.landmarks.pose(&found.image, face, &self.source.context)?;
            measure(&found.image, face, pose, found.faces.source_px)
                .ok_or_else(|| Error::internal("the detector gave landmarks without extent"))
        };
        self.quality.get_or_init(|| self.of_main_face(Stage::Quality, work)).clone()
    }

    fn embedding(&self) -> Result<Option<&Embedding>, Error> {
        let work = |found: &Found, face: &Face| self.models.embedder.embed(&found.image, face, &self.source.context);
        let embedding = self.embedding.get_or_init(|| self.of_main_face(Stage::Embed, work));
        embedding.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    fn liveness(&self) -> Result<Option<LivenessScore>, Error> {
        let work =
            |found: &Found, face: &Face| self.models.liveness.score(&found.image, &face.bounds, &self.source.context);
        self.liveness.get_or_init(|| self.of_main_face(Stage::Liveness, work)).clone()
    }

    fn ages(&self) -> Result<Option<AgeEstimates>, Error> {
        let work = |found: &Found, face: &Face| self.models.ages.estimate(&found.image, face, &self.source.context);
        self.ages.get_or_init(|| self.of_main_face(Stage::Age, work)).clone()
    }
}
