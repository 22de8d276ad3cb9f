//! The faces of one picture, with everything that is computed from them.
//!
//! Each intermediate result is computed when a check first asks for it and then shared: two checks that want the same one at the same time wait for one computation.
//! Called from blocking threads of the pipeline.

use std::sync::{Arc, OnceLock};

use super::page::Page;
use super::source::{News, Pixels, Source, Stage};
use crate::checks::{FaceEvidence, FacesInPicture, MediaKind, OnDocument};
use crate::document::ocr::{Quad, is_inside};
use crate::error::Error;
use crate::face::Face;
use crate::face::age::{AgeEstimates, AgeEstimators};
use crate::face::detect::{FaceDetector, FoundFaces};
use crate::face::embed::{Embedding, EmbeddingKind, FaceEmbedder};
use crate::face::landmarks::FaceLandmarks;
use crate::face::liveness::{LivenessScore, PassiveLiveness};
use crate::face::quality::{FaceQuality, measure};
use crate::imaging::Image;

/// The models that look at faces.
#[derive(Clone)]
pub struct FaceModels {
    pub detector: FaceDetector,
    pub embedder: FaceEmbedder,
    pub embedder_b: FaceEmbedder,
    pub landmarks: FaceLandmarks,
    pub liveness: PassiveLiveness,
    pub ages: AgeEstimators,
}

/// A picture in which faces are looked for.
pub struct Picture {
    source: Arc<Source>,
    /// For a page of a document, the outline of which tells whose face is the portrait, with its place in the document.
    page: Option<(Arc<Page>, usize)>,
    models: Arc<FaceModels>,
    found: OnceLock<Result<Found, Error>>,
    quality: OnceLock<Result<Option<FaceQuality>, Error>>,
    /// By kind.
    embeddings: [OnceLock<Result<Option<Embedding>, Error>>; EmbeddingKind::ALL.len()],
    liveness: OnceLock<Result<Option<LivenessScore>, Error>>,
    ages: OnceLock<Result<Option<AgeEstimates>, Error>>,
}

/// The analysed picture and its faces.
pub struct Found {
    /// The picture or, of a document, the part that shows it, turned upright.
    pub image: Image,
    /// Where that part begins in the decoded picture.
    origin: [f64; 2],
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
        let [left, top] = self.origin;
        face.mapped(|point| {
            let [x, y] = back.apply_to_point(point, self.image.width, self.image.height);
            [(x + left) * scale, (y + top) * scale]
        })
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
    pub fn of_page(page: &Arc<Page>, place: usize, models: Arc<FaceModels>) -> Self {
        Self::with_page(Arc::clone(&page.source), Some((Arc::clone(page), place)), models)
    }

    fn with_page(source: Arc<Source>, page: Option<(Arc<Page>, usize)>, models: Arc<FaceModels>) -> Self {
        Self {
            source,
            page,
            models,
            found: OnceLock::new(),
            quality: OnceLock::new(),
            embeddings: std::array::from_fn(|_| OnceLock::new()),
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
        let region = match &self.page {
            Some((page, _)) => page.portrait_region()?,
            None => None,
        };
        let part = region.and_then(|region| part_around(image, &region));
        let (searched, origin) = part.as_ref().map_or((image, [0.0; 2]), |(part, origin)| (part, *origin));
        let (detector, context) = (&self.models.detector, &self.source.context);
        let FoundFaces { faces, rotation, image } = self.source.timed(Stage::Detect, || match search {
            Search::MainFace => detector.find(searched, context),
            Search::AllFaces => detector.find_all(searched, context),
        })?;
        let on_document = self.page.as_ref().map(|(_, place)| OnDocument { confirmed: region.is_some(), page: *place });
        let faces = FacesInPicture { faces, rotation, source_px: 1.0 / scale, on_document };
        let mut found = Found { image, origin, faces, source_size };
        if let Some(region) = region {
            let all = std::mem::take(&mut found.faces.faces);
            let centre = |face: &Face| found.in_source(face).bounds.centre().map(|at| at * scale);
            found.faces.faces = all.into_iter().filter(|face| is_inside(centre(face), &region)).collect();
        }
        if self.page.is_none() {
            for warning in found.faces.warnings(self.source.kind()) {
                self.source.tell(News::Warning(warning));
            }
        } else if let Some(portrait) = found.portrait() {
            // What a page of a document lacks, another page may have: the checks tell it.
            self.source.tell(News::Portrait(Arc::new(portrait)));
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

/// The upright rectangle around a quadrilateral, as far as it lies in the picture, and its top left corner. `None` if it is the whole
/// picture or none of it.
fn part_around(image: &Image, quad: &Quad) -> Option<(Image, [f64; 2])> {
    let along = |axis: usize, size: u32| {
        let values = quad.map(|corner| corner[axis].clamp(0.0, f64::from(size)));
        let (low, high) = values.iter().fold((f64::MAX, 0.0_f64), |(low, high), at| (low.min(*at), high.max(*at)));
        // Whole pixels of a picture: they fit.
        [low.floor() as u32, high.ceil() as u32]
    };
    let ([left, right], [top, bottom]) = (along(0, image.width), along(1, image.height));
    let (width, height) = (right.saturating_sub(left), bottom.saturating_sub(top));
    let is_whole = (width, height) == (image.width, image.height);
    let part = (width > 0 && height > 0 && !is_whole).then(|| image.part([left, top], [width, height]));
    part.map(|part| (part, [f64::from(left), f64::from(top)]))
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

    fn embedding(&self, kind: EmbeddingKind) -> Result<Option<&Embedding>, Error> {
        let of = |kind: EmbeddingKind| &self.embeddings[kind as usize];
        let (embedder, stage) = match kind {
            EmbeddingKind::A | EmbeddingKind::AMirrored => (&self.models.embedder, Stage::Embed),
            EmbeddingKind::B | EmbeddingKind::BMirrored => (&self.models.embedder_b, Stage::EmbedB),
        };
        let work = |found: &Found, face: &Face| {
            let Some(plain) = kind.plain() else { return embedder.embed(&found.image, face, &self.source.context) };
            let [alone, both] = embedder.embed_with_mirror(&found.image, face, &self.source.context)?;
            // Whoever asks for the plain one has it now; if somebody was faster it is the same.
            let _ = of(plain).set(Ok(Some(alone)));
            Ok(both)
        };
        let embedding = of(kind).get_or_init(|| self.of_main_face(stage, work));
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
