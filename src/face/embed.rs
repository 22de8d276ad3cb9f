//! Face to identity vector.
//!
//! Shipped with SFace (Zhong et al., 2021; OpenCV Zoo): 112 × 112 RGB on the ArcFace template, 128 values. Another ArcFace-style
//! model can take the role; its manifest entry says how its pixels are prepared. Vectors of different models must never be compared.

use std::sync::Arc;

use super::{Face, ModelPort, align};
use crate::error::Error;
use crate::imaging::Image;
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

    /// The values, for comparing all faces of a labelled data set when calibrating (`benches/accuracy`). The daemon has no use for
    /// them: it only ever asks for the cosine.
    pub fn values_for_calibration(&self) -> &[f32] {
        &self.0
    }
}

/// The embedder.
#[derive(Clone)]
pub struct FaceEmbedder {
    port: ModelPort,
}

impl FaceEmbedder {
    pub fn new(port: ModelPort) -> Self {
        Self { port }
    }

    /// The identity vector of a face.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run); [`Error::Internal`] if the model gave no direction.
    pub fn embed(&self, image: &Image, face: &Face, context: &Arc<RequestContext>) -> Result<Embedding, Error> {
        let [side, _] = self.port.input.size;
        let crop = align::to_template(image, face, &align::ARCFACE, side)
            .ok_or_else(|| Error::internal("the detector gave landmarks without extent"))?;
        let outputs = self.port.model.run(to_tensor(&crop, &self.port.input), context)?;
        outputs
            .first()
            .and_then(|(_, vector)| Embedding::normalised(&vector.data))
            .ok_or_else(|| Error::internal("the embedder gave a vector without direction"))
    }
}
