//! Apparent age in years, from two models whose errors differ.
//!
//! dlib's age-v1 sees the aligned face, faceres the face with some surroundings. How their numbers become one estimate is a matter of
//! calibration (`calibration/age_estimation.toml`), not of this file.

use std::sync::Arc;

use super::{Face, ModelPort, align, expected_index, output};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::tensor::to_tensor;
use crate::inference::RequestContext;

/// Padding of dlib's chip for age-v1, from the model's example.
const DLIB_PADDING: f64 = 0.2;

/// faceres was trained on a detector with larger boxes; 1.1 measured best with YuNet's.
const FACERES_SCALE: f64 = 1.1;

/// What each model says, in years.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgeEstimates {
    /// Mean of dlib age-v1's distribution over 0..=80.
    pub age_a_years: f64,
    /// Mean of faceres' distribution over 1..=100.
    pub age_b_years: f64,
}

/// Both models.
#[derive(Clone)]
pub struct AgeEstimators {
    dlib: ModelPort,
    faceres: ModelPort,
}

impl AgeEstimators {
    /// Models for the roles `age_a` and `age_b`.
    pub fn new(age_a: ModelPort, age_b: ModelPort) -> Self {
        Self { dlib: age_a, faceres: age_b }
    }

    /// Both estimates for a face.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn estimate(&self, image: &Image, face: &Face, context: &Arc<RequestContext>) -> Result<AgeEstimates, Error> {
        let chip = align::to_template(image, face, &align::dlib_template(DLIB_PADDING), self.dlib.input.size[0])
            .ok_or_else(|| Error::internal("the detector gave landmarks without extent"))?;
        let dlib = self.dlib.model.run(to_tensor(&chip, &self.dlib.input), context)?;
        let crop = align::around(image, &face.bounds, FACERES_SCALE, self.faceres.input.size[0]);
        let faceres = self.faceres.model.run(to_tensor(&crop, &self.faceres.input), context)?;
        let estimates = AgeEstimates {
            age_a_years: expected_index(&output(&dlib, "probabilities")?.data, 0.0),
            age_b_years: expected_index(&output(&faceres, "age_pred/Softmax")?.data, 1.0),
        };
        if estimates.age_a_years.is_finite() && estimates.age_b_years.is_finite() {
            Ok(estimates)
        } else {
            Err(Error::internal("an age model gave no number"))
        }
    }
}
