//! Face to identity vector.
//!
//! Shipped with two embedders whose errors differ: SFace (Zhong et al., 2021; OpenCV Zoo), 112 × 112 RGB on the ArcFace template, and dlib's
//! ResNet, 150 × 150 RGB on dlib's chip, 128 values each. Another model with the same crop can take a role; its manifest entry says how its
//! pixels are prepared. Each also gives the vector of the face together with its mirror image, at twice the cost. Vectors of different kinds must
//! never be compared; which kinds a match uses is a matter of calibration.

use std::sync::Arc;

use super::{Face, ModelPort, align};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::orient::{self, Orientation};
use crate::imaging::tensor::to_tensor;
use crate::inference::RequestContext;

/// An identity vector of length 1. Biometric data: it has no `Debug` and is never sent, logged or written.
#[derive(Clone, PartialEq)]
pub struct Embedding(Vec<f32>);

impl Embedding {
    /// Scales to length 1; `None` if the values allow no direction.
    pub fn normalised(values: &[f32]) -> Option<Self> {
        let length = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        (length.is_finite() && length > 0.0)
            .then(|| Self(values.iter().map(|&value| (f64::from(value) / length) as f32).collect()))
    }

    /// Cosine similarity, −1..1. Summed in `f64` in the order of the values, so that it is the same to the last bit however often it is asked.
    pub fn cosine(&self, other: &Self) -> f64 {
        self.0.iter().zip(&other.0).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    /// The direction between two vectors; `None` if they are opposite.
    fn between(&self, other: &Self) -> Option<Self> {
        Self::normalised(&self.0.iter().zip(&other.0).map(|(a, b)| a + b).collect::<Vec<_>>())
    }

    /// The values, for comparing all faces of a labelled data set when calibrating (`vouch evaluate --all-pairs`). The daemon has no use for
    /// them: it only ever asks for the cosine.
    pub fn values_for_calibration(&self) -> &[f32] {
        &self.0
    }
}

/// Which identity vector of a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EmbeddingKind {
    /// By the model of the role `face_embedder`.
    A,
    /// The same, together with the mirror image's.
    AMirrored,
    /// By the model of the role `face_embedder_b`.
    B,
    BMirrored,
}

impl EmbeddingKind {
    /// Those that take in the mirror image first: they give the plain ones beside.
    pub const ALL: [Self; 4] = [Self::AMirrored, Self::A, Self::BMirrored, Self::B];

    /// Name of the measurement that holds the cosine similarity of two vectors of this kind.
    pub const fn measurement(self) -> &'static str {
        match self {
            Self::A => "cosine_a",
            Self::AMirrored => "cosine_a_mirrored",
            Self::B => "cosine_b",
            Self::BMirrored => "cosine_b_mirrored",
        }
    }

    /// The kind without the mirror image, for one with it.
    pub const fn plain(self) -> Option<Self> {
        match self {
            Self::AMirrored => Some(Self::A),
            Self::BMirrored => Some(Self::B),
            Self::A | Self::B => None,
        }
    }
}

/// Padding of dlib's chip for its face recognition network, from the model's example.
const DLIB_PADDING: f64 = 0.25;

/// How an embedder's crop is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crop {
    /// On the ArcFace template.
    ArcFace,
    /// As dlib's face chip.
    DlibChip,
}

/// The embedder.
#[derive(Clone)]
pub struct FaceEmbedder {
    port: ModelPort,
    crop: Crop,
}

impl FaceEmbedder {
    pub fn new(port: ModelPort, crop: Crop) -> Self {
        Self { port, crop }
    }

    /// The identity vector of a face.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run); [`Error::Internal`] if the model gave no direction.
    pub fn embed(&self, image: &Image, face: &Face, context: &Arc<RequestContext>) -> Result<Embedding, Error> {
        self.run(&self.cut(image, face)?, context)
    }

    /// The identity vector of a face, and the one of the face and its mirror image together.
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    pub fn embed_with_mirror(
        &self,
        image: &Image,
        face: &Face,
        context: &Arc<RequestContext>,
    ) -> Result<[Embedding; 2], Error> {
        let crop = self.cut(image, face)?;
        let plain = self.run(&crop, context)?;
        let mirrored = self.run(&orient::apply(&crop, Orientation::FlipHorizontal), context)?;
        let both = plain.between(&mirrored).ok_or_else(no_direction)?;
        Ok([plain, both])
    }

    fn cut(&self, image: &Image, face: &Face) -> Result<Image, Error> {
        let template = match self.crop {
            Crop::ArcFace => align::ARCFACE,
            Crop::DlibChip => align::dlib_template(DLIB_PADDING),
        };
        align::to_template(image, face, &template, self.port.input.size[0])
            .ok_or_else(|| Error::internal("the detector gave landmarks without extent"))
    }

    fn run(&self, crop: &Image, context: &Arc<RequestContext>) -> Result<Embedding, Error> {
        let outputs = self.port.model.run(to_tensor(crop, &self.port.input), context)?;
        outputs.first().and_then(|(_, vector)| Embedding::normalised(&vector.data)).ok_or_else(no_direction)
    }
}

fn no_direction() -> Error {
    Error::internal("the embedder gave a vector without direction")
}
