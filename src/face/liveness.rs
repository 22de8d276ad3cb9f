//! Passive liveness: is this face in front of the camera, or on paper or a screen?
//!
//! A network of the MiniFASNetV2 kind looks at the face with its surroundings, 2.7 times the height of the face, where the
//! edges of a print or a screen show. It needs the camera's whole frame: where the frame is too tight for that crop, its answer is worthless and even
//! inverted, so the crop's true scale is reported and the check refuses to decide. Left out: motion over several frames, challenges.

use std::sync::Arc;

use super::{Bounds, ModelPort, output};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::tensor::to_tensor;
use crate::imaging::warp::{Affine, Sampling, warp};
use crate::inference::RequestContext;

/// Side of the square that the network was trained on, in heights of the face box.
const CROP_SCALE: f64 = 2.7;

/// What the network saw and said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LivenessScore {
    /// Softmax of the class "live", 0..1.
    pub live: f64,
    /// Side of the square that the frame had room for, in heights of the face box; 2.7 where nothing was missing.
    pub crop_scale: f64,
}

/// The network.
#[derive(Clone)]
pub struct PassiveLiveness {
    port: ModelPort,
}

impl PassiveLiveness {
    pub fn new(port: ModelPort) -> Self {
        Self { port }
    }

    /// Scores the face in its frame.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn score(&self, frame: &Image, bounds: &Bounds, context: &Arc<RequestContext>) -> Result<LivenessScore, Error> {
        let (left, top, side) = square_inside(frame, bounds);
        let [width, height] = self.port.input.size;
        let step = side / f64::from(width);
        // Crop pixel 0 has its centre half a step inside the square.
        let to_frame = Affine { m: [[step, 0.0, left + step / 2.0 - 0.5], [0.0, step, top + step / 2.0 - 0.5]] };
        let picture = warp(frame, &to_frame, [width, height], Sampling::Area);
        let outputs = self.port.model.run(to_tensor(&picture, &self.port.input), context)?;
        let name = outputs.first().map_or("output", |(name, _)| name.as_ref());
        let logits = &output(&outputs, name)?.data;
        // Class 0 is live, 1 a flat copy, 2 a three-dimensional one.
        let live = softmax(logits).first().copied().unwrap_or(f64::NAN);
        if live.is_nan() {
            return Err(Error::internal("the liveness model gave no probability"));
        }
        Ok(LivenessScore { live, crop_scale: side / bounds.height })
    }
}

/// The square around the face, shrunk and shifted so that it lies inside the frame: left, top, side.
fn square_inside(frame: &Image, bounds: &Bounds) -> (f64, f64, f64) {
    let (frame_width, frame_height) = (f64::from(frame.width), f64::from(frame.height));
    let side = (bounds.height * CROP_SCALE).min(frame_width).min(frame_height);
    let [x, y] = bounds.centre();
    let inside = |centre: f64, length: f64| (centre - side / 2.0).clamp(0.0, length - side);
    (inside(x, frame_width), inside(y, frame_height), side)
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / total).collect()
}
