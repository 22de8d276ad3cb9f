//! The faces of one picture, with everything that is computed from them.
//!
//! Each intermediate result is computed when a check first asks for it and then shared: two checks that want the same one at the same time wait for one computation.
//! Called from blocking threads of the pipeline.

use std::sync::{Arc, OnceLock};

use super::page::Page;
use super::source::{News, Pixels, Source, Stage};
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
    /// For a page of a document, the outline of which tells whose face is the portrait.
    page: Option<Arc<Page>>,
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

/// The portrait of a document.
#[derive(Debug, Clone)]
pub struct Portrait {
    /// In pixels of the source picture, EXIF orientation applied.
    pub face: Face,
    /// Further faces on the page, in the same pixels: a second, smaller or paler image of the portrait.
    pub further: Vec<Face>,
}

impl Found {
    /// A face in pixels of the source picture: turned back and scaled.
    pub fn in_source(&self, face: &Face) -> Face {
        let (back, scale) = (self.faces.rotation.inverse(), self.faces.source_px);
        face.mapped(|point| back.apply_to_point(point, self.image.width, self.image.height).map(|at| at * scale))
    }

    fn portrait(&self) -> Option<Portrait> {
        let (face, further) = self.faces.faces.split_first()?;
        Some(Portrait {
            face: self.in_source(face),
            further: further.iter().map(|face| self.in_source(face)).collect(),
        })
    }
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
        Self::with_page(source, None, models)
    }

    /// The faces on a page of a document. Those beside the document, such as its holder's, are none of them.
    pub fn of_page(page: &Arc<Page>, models: Arc<FaceModels>) -> Self {
        Self::with_page(Arc::clone(&page.source), Some(Arc::clone(page)), models)
    }

    fn with_page(source: Arc<Source>, page: Option<Arc<Page>>, models: Arc<FaceModels>) -> Self {
        Self {
            source,
            page,
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

    /// The portrait, if this is a page of a document that shows one.
    ///
    /// # Errors
    /// Those of [`found`](Self::found).
    pub fn portrait(&self) -> Result<Option<Portrait>, Error> {
        Ok(self.found(Search::MainFace)?.portrait())
    }

    fn find(&self, search: Search) -> Result<Found, Error> {
        let &Pixels { ref image, scale, source_size } = self.source.decoded()?;
        let (detector, context) = (&self.models.detector, &self.source.context);
        let FoundFaces { faces, rotation, image } = self.source.timed(Stage::Detect, || match search {
            Search::MainFace => detector.find(image, context),
            Search::AllFaces => detector.find_all(image, context),
        })?;
        // What a page of a document lacks, another page may have: the checks tell it.
        let mut found = Found { image, faces: FacesInPicture { faces, rotation, source_px: 1.0 / scale }, source_size };
        if let Some(page) = &self.page {
            if let Some(located) = page.located()? {
                let (all, centre) = (std::mem::take(&mut found.faces.faces), |face: &Face| {
                    found.in_source(face).bounds.centre().map(|at| at * scale)
                });
                found.faces.faces = all.into_iter().filter(|face| located.contains(centre(face))).collect();
            }
            if let Some(portrait) = found.portrait() {
                self.source.tell(News::Portrait(Arc::new(portrait)));
            }
        } else {
            for warning in found.faces.warnings(self.source.kind()) {
                self.source.tell(News::Warning(warning));
            }
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
