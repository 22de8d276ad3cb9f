//! The faces of one picture, with everything that is computed from them.
//!
//! Each intermediate result is computed when a check first asks for it and then shared: two checks that want the same one at the same time wait for one computation.
//! Called from blocking threads of the pipeline.

use std::sync::{Arc, OnceLock};

use super::page::{Page, PortraitRegion};
use super::source::{News, Pixels, Source, Stage};
use crate::checks::{FaceEvidence, FacesInPicture, MediaKind, OnDocument};
use crate::document::upright_page::UprightPage;
use crate::error::Error;
use crate::face::Face;
use crate::face::age::{AgeEstimates, AgeEstimators};
use crate::face::detect::{FaceDetector, FoundFaces};
use crate::face::embed::{Embedding, EmbeddingKind, FaceEmbedder};
use crate::face::landmarks::FaceLandmarks;
use crate::face::liveness::{LivenessScore, PassiveLiveness};
use crate::face::quality::{FaceQuality, measure};
use crate::imaging::Image;
use crate::imaging::orient::Rotation;
use crate::inference::RequestContext;

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
    /// The decoded picture, turned upright unless it shows a document.
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
        let (detector, context) = (&self.models.detector, &self.source.context);
        let found = self.source.timed(Stage::Detect, || match (region, search) {
            (Some(region), _) => find_on_page(detector, image, &region, context),
            (None, Search::MainFace) => detector.find(image, context),
            (None, Search::AllFaces) => detector.find_all(image, context),
        });
        let FoundFaces { faces, rotation, image } = found?;
        let on_document = self.page.as_ref().map(|(_, place)| OnDocument { confirmed: region.is_some(), page: *place });
        let faces = FacesInPicture { faces, rotation, source_px: 1.0 / scale, on_document };
        let found = Found { image, faces, source_size };
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

/// The faces in a part of a picture that was brought upright for the detector, in pixels of the picture as it is: what else looks at a face turns it by its
/// landmarks, and takes its pixels from where they are most.
fn find_on_page(
    detector: &FaceDetector,
    image: &Image,
    region: &PortraitRegion,
    context: &Arc<RequestContext>,
) -> Result<FoundFaces, Error> {
    /// The detector then sees a portrait some ninety pixels wide.
    const LONG_SIDE_PX: f64 = 640.0;
    let Some(page) = UprightPage::cut(image, &region.quad, region.along, LONG_SIDE_PX) else {
        // An outline that no document has shows no portrait.
        return Ok(FoundFaces { faces: Vec::new(), rotation: Rotation::R0, image: image.clone() });
    };
    let found = detector.find_on_page(&page.image, region.is_certain, context)?;
    let (back, [width, height]) = (found.rotation.inverse(), [found.image.width, found.image.height]);
    let to_picture = |point: [f64; 2]| page.to_picture(back.apply_to_point(point, width, height));
    let faces = found.faces.iter().map(|face| face.mapped(to_picture)).collect();
    Ok(FoundFaces { faces, rotation: Rotation::R0, image: image.clone() })
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
