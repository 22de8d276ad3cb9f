//! Apparent age in years, from two models whose errors differ.
//!
//! dlib's age-v1 sees the aligned face, faceres the face with some surroundings. How their numbers become one estimate is a matter of
//! calibration (`calibration/age_estimation.toml`), not of this file.

use std::sync::Arc;

use super::{Face, ModelPort, align, expected_index, output};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::orient::{self, Orientation};
use crate::imaging::tensor::to_tensor;
use crate::inference::RequestContext;

/// Padding of dlib's chip for age-v1, from the model's example.
const DLIB_PADDING: f64 = 0.2;

/// faceres was trained on a detector with larger boxes; 1.1 measured best with YuNet's.
const FACERES_SCALE: f64 = 1.1;

/// What each model says, in years.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgeEstimates {
    /// Mean of dlib age-v1's distribution over 0..=80, of the face and its mirror image.
    pub age_a_years: f64,
    /// Mean of faceres' distribution over 1..=100, of the face and its mirror image.
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
        let crop = align::around(image, &face.bounds, FACERES_SCALE, self.faceres.input.size[0]);
        let estimates = AgeEstimates {
            age_a_years: mean_with_mirror(&self.dlib, &chip, "probabilities", 0.0, context)?,
            age_b_years: mean_with_mirror(&self.faceres, &crop, "age_pred/Softmax", 1.0, context)?,
        };
        if estimates.age_a_years.is_finite() && estimates.age_b_years.is_finite() {
            Ok(estimates)
        } else {
            Err(Error::internal("an age model gave no number"))
        }
    }
}

/// Mean of what a model says of a crop and of its mirror image, years. The two err apart from each other: together they take 0.03 to 0.05
/// years off the mean absolute error for twice the cost (docs/accuracy.md).
fn mean_with_mirror(
    port: &ModelPort,
    crop: &Image,
    probabilities: &str,
    first_age: f64,
    context: &Arc<RequestContext>,
) -> Result<f64, Error> {
    let years = |crop: &Image| {
        let outputs = port.model.run(to_tensor(crop, &port.input), context)?;
        Ok::<f64, Error>(expected_index(&output(&outputs, probabilities)?.data, first_age))
    };
    Ok((years(crop)? + years(&orient::apply(crop, Orientation::FlipHorizontal))?) / 2.0)
}
