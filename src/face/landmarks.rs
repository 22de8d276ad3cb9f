//! Dense face mesh: head pose, and whether an unobstructed face is there at all.
//!
//! MediaPipe's face_landmark: 192 × 192 around the upright face, 468 points with depth. Left out: iris, expressions, smoothing over time.

use std::sync::Arc;

use super::{Face, ModelPort, align, output};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::tensor::to_tensor;
use crate::inference::RequestContext;

/// The crop's side in sides of the detector's box, as MediaPipe's graph has it.
const CROP_SCALE: f64 = 1.5;

/// Points of MediaPipe's canonical mesh: the cheeks in front of the ears, the top of the forehead, the tip of the chin.
const LEFT_CHEEK: usize = 234;
const RIGHT_CHEEK: usize = 454;
const FOREHEAD: usize = 10;
const CHIN: usize = 152;

/// Head pose and presence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadPose {
    /// Degrees, positive when the face is turned to the right side of the picture.
    pub yaw_deg: f64,
    /// Degrees, positive when it looks up.
    pub pitch_deg: f64,
    /// Degrees, positive when the head leans to the right side of the picture (clockwise).
    pub roll_deg: f64,
    /// The model's confidence that it sees a face, 0..1; falls when the face is covered.
    pub presence: f64,
}

/// The mesh model.
#[derive(Clone)]
pub struct FaceLandmarks {
    port: ModelPort,
}

impl FaceLandmarks {
    pub fn new(port: ModelPort) -> Self {
        Self { port }
    }

    /// The pose of a face.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn pose(&self, image: &Image, face: &Face, context: &Arc<RequestContext>) -> Result<HeadPose, Error> {
        let roll_deg = face.roll_deg();
        let crop = align::around(image, &face.bounds, CROP_SCALE, roll_deg, self.port.input.size[0]);
        let outputs = self.port.model.run(to_tensor(&crop, &self.port.input), context)?;
        let mesh = &output(&outputs, "conv2d_21")?.data;
        let presence = output(&outputs, "conv2d_31")?.data.first().copied().unwrap_or(f32::NAN);
        if mesh.len() < 468 * 3 || !mesh.iter().all(|value| value.is_finite()) || presence.is_nan() {
            return Err(Error::internal("the landmark model gave no mesh"));
        }
        let point = |index: usize| [0, 1, 2].map(|axis| f64::from(mesh[index * 3 + axis]));
        let difference = |from: usize, to: usize| {
            let (from, to) = (point(from), point(to));
            [to[0] - from[0], to[1] - from[1], to[2] - from[2]]
        };
        // Depth grows away from the camera.
        let [across_x, _, across_z] = difference(LEFT_CHEEK, RIGHT_CHEEK);
        let [_, down_y, down_z] = difference(FOREHEAD, CHIN);
        Ok(HeadPose {
            yaw_deg: across_z.atan2(across_x).to_degrees(),
            pitch_deg: -down_z.atan2(down_y).to_degrees(),
            roll_deg,
            presence: 1.0 / (1.0 + (-f64::from(presence)).exp()),
        })
    }
}
