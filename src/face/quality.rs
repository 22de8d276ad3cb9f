//! Quality of a face picture in the terms of ISO/IEC 29794-5: native values, without judgement.
//!
//! Judged by `checks/face_quality.rs` against limits from calibration. Left out: mapping to the standard's 0–100 scale, background
//! uniformity and expression.

use super::landmarks::HeadPose;
use super::{Face, align};
use crate::imaging::Image;
use crate::imaging::quality::{self, PixelQuality};

/// Side of the aligned crop on which sharpness and exposure are measured: large enough that blur shows, small enough that a
/// larger picture of the same sharpness gives the same value.
const CROP_SIDE_PX: u32 = 128;

/// Native values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaceQuality {
    /// Distance between the eye centres, in pixels of the source picture.
    pub inter_eye_px: f64,
    /// Variance of the Laplacian of the aligned face's luma.
    pub sharpness: f64,
    /// Mean luma of the aligned face, 0..255.
    pub luma_mean: f64,
    /// Share of nearly black pixels in the aligned face.
    pub under_exposed: f64,
    /// Share of nearly white pixels in the aligned face.
    pub over_exposed: f64,
    pub pose: HeadPose,
    /// By how many source pixels the box reaches over the border of the picture.
    pub cut_off_px: f64,
}

/// Measures a face. `source_px` is the length of one pixel of `image` in pixels of the source picture. `None` if the landmarks coincide, which no face's do.
pub fn measure(image: &Image, face: &Face, pose: HeadPose, source_px: f64) -> Option<FaceQuality> {
    let crop = align::to_template(image, face, &align::ARCFACE, CROP_SIDE_PX)?;
    let PixelQuality { sharpness, luma_mean, under_exposed, over_exposed } = quality::measure(&crop);
    let bounds = &face.bounds;
    let over_border = [
        -bounds.x,
        -bounds.y,
        bounds.x + bounds.width - f64::from(image.width),
        bounds.y + bounds.height - f64::from(image.height),
    ];
    Some(FaceQuality {
        inter_eye_px: face.inter_eye_px() * source_px,
        sharpness,
        luma_mean,
        under_exposed,
        over_exposed,
        pose,
        cut_off_px: over_border.into_iter().fold(0.0, f64::max) * source_px,
    })
}
