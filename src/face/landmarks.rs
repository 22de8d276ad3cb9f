//! Dense face mesh: 468 points with depth, head pose, and whether an unobstructed face is there at all.
//!
//! MediaPipe's face_landmark: 192 × 192 around the upright face. Asked by `face_quality` for the pose of one picture, and by active liveness for each frame;
//! there the region of the next frame comes from the mesh of the one before ([`Mesh::region`]), so that the detector need not run on each. Left out: iris,
//! expressions (`live/signals.rs`), smoothing over time.

use std::sync::Arc;

use super::{Bounds, Face, ModelPort, align, output};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::tensor::to_tensor;
use crate::imaging::warp::{Affine, Sampling};
use crate::inference::RequestContext;

/// The crop's side in sides of the detector's box, or of the box around the mesh, as MediaPipe's graph has it.
const CROP_SCALE: f64 = 1.5;

/// Up to this reduction single bilinear readings are good enough, as MediaPipe itself reads its crops at any.
const MAX_COARSE_REDUCTION: f64 = 3.0;

/// Points of the mesh.
pub const POINTS: usize = 468;

/// Points of MediaPipe's canonical mesh: the cheeks in front of the ears, the top of the forehead, the tip of the chin.
const LEFT_CHEEK: usize = 234;
const RIGHT_CHEEK: usize = 454;
const FOREHEAD: usize = 10;
const CHIN: usize = 152;

/// The outer corners of the eyes, the one further left in an upright picture first.
const EYE_CORNERS: [usize; 2] = [33, 263];

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

/// A square of a picture, turned with the face in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Pixels of the picture.
    pub centre: [f64; 2],
    pub side_px: f64,
    /// By how much the face in it leans, positive clockwise.
    pub roll_deg: f64,
}

impl Region {
    /// Where the mesh of a detected face is looked for.
    pub fn of_face(face: &Face) -> Self {
        let Bounds { width, height, .. } = face.bounds;
        Self { centre: face.bounds.centre(), side_px: width.max(height) * CROP_SCALE, roll_deg: face.roll_deg() }
    }

    /// The box that a detector would have put around the face in it.
    pub fn face_bounds(&self) -> Bounds {
        let side = self.side_px / CROP_SCALE;
        Bounds { x: self.centre[0] - side / 2.0, y: self.centre[1] - side / 2.0, width: side, height: side }
    }
}

/// The mesh of one face.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// [`POINTS`] points in pixels of the model's input, in which the face stands nearly upright; the third value is depth in the same unit, growing away from
    /// the camera.
    pub upright: Vec<[f64; 3]>,
    /// From there to pixels of the picture.
    pub to_picture: Affine,
    /// The lean that the crop has taken out.
    crop_roll_deg: f64,
    /// As in [`HeadPose`].
    pub presence: f64,
}

impl Mesh {
    /// A point in pixels of the picture.
    pub fn in_picture(&self, index: usize) -> [f64; 2] {
        let [x, y, _] = self.upright[index];
        self.to_picture.apply([x, y])
    }

    /// Length of one pixel of the model's input in pixels of the picture.
    pub fn scale(&self) -> f64 {
        self.to_picture.determinant().abs().sqrt()
    }

    /// Distance between the outer corners of the eyes in three dimensions, in pixels of the model's input: nearly the same however the head is turned.
    pub fn eye_span(&self) -> f64 {
        let [a, b] = EYE_CORNERS.map(|index| self.upright[index]);
        ((b[0] - a[0]).powi(2) + (b[1] - a[1]).powi(2) + (b[2] - a[2]).powi(2)).sqrt()
    }

    pub fn pose(&self) -> HeadPose {
        let difference = |from: usize, to: usize| {
            let (from, to) = (self.upright[from], self.upright[to]);
            [to[0] - from[0], to[1] - from[1], to[2] - from[2]]
        };
        let [across_x, _, across_z] = difference(LEFT_CHEEK, RIGHT_CHEEK);
        let [_, down_y, down_z] = difference(FOREHEAD, CHIN);
        HeadPose {
            yaw_deg: across_z.atan2(across_x).to_degrees(),
            pitch_deg: -down_z.atan2(down_y).to_degrees(),
            roll_deg: self.crop_roll_deg,
            presence: self.presence,
        }
    }

    /// Where to look for the same face in the next frame.
    pub fn region(&self) -> Region {
        let [left, right] = EYE_CORNERS.map(|index| self.upright[index]);
        let lean = (right[1] - left[1]).atan2(right[0] - left[0]);
        let (sin, cos) = lean.sin_cos();
        // The box around the points, in axes that lean with the eyes.
        let (mut low, mut high) = ([f64::MAX; 2], [f64::MIN; 2]);
        for &[x, y, _] in &self.upright {
            for (axis, value) in [x * cos + y * sin, y * cos - x * sin].into_iter().enumerate() {
                low[axis] = low[axis].min(value);
                high[axis] = high[axis].max(value);
            }
        }
        let [u, v] = [0, 1].map(|axis| (low[axis] + high[axis]) / 2.0);
        Region {
            centre: self.to_picture.apply([u * cos - v * sin, u * sin + v * cos]),
            side_px: (high[0] - low[0]).max(high[1] - low[1]) * CROP_SCALE * self.scale(),
            roll_deg: self.crop_roll_deg + lean.to_degrees(),
        }
    }
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
        Ok(self.run(image, &Region::of_face(face), Sampling::Area, context)?.pose())
    }

    /// The mesh of the face in a region of a frame. Read more coarsely than for [`pose`](Self::pose) where that costs a quarter: the frames around it make up for it.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn mesh(&self, image: &Image, region: &Region, context: &Arc<RequestContext>) -> Result<Mesh, Error> {
        let reduction = region.side_px / f64::from(self.port.input.size[0]);
        let sampling = if reduction <= MAX_COARSE_REDUCTION { Sampling::Bilinear } else { Sampling::Area };
        self.run(image, region, sampling, context)
    }

    fn run(
        &self,
        image: &Image,
        region: &Region,
        sampling: Sampling,
        context: &Arc<RequestContext>,
    ) -> Result<Mesh, Error> {
        let (crop, to_picture) = align::upright_square(image, region, self.port.input.size[0], sampling);
        let outputs = self.port.model.run(to_tensor(&crop, &self.port.input), context)?;
        let mesh = &output(&outputs, "conv2d_21")?.data;
        let presence = output(&outputs, "conv2d_31")?.data.first().copied().unwrap_or(f32::NAN);
        if mesh.len() < POINTS * 3 || !mesh.iter().all(|value| value.is_finite()) || presence.is_nan() {
            return Err(Error::internal("the landmark model gave no mesh"));
        }
        let points = mesh.as_chunks::<3>().0.iter().take(POINTS);
        Ok(Mesh {
            upright: points.map(|point| point.map(f64::from)).collect(),
            to_picture,
            crop_roll_deg: region.roll_deg,
            presence: 1.0 / (1.0 + (-f64::from(presence)).exp()),
        })
    }
}

#[cfg(test)]
impl Mesh {
    /// A mesh of made points, for tests.
    pub fn made(upright: Vec<[f64; 3]>, to_picture: Affine) -> Self {
        Self { upright, to_picture, crop_roll_deg: 0.0, presence: 1.0 }
    }
}
