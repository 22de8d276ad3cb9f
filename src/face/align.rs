//! Crops of a face: turned and scaled to a template by its five landmarks, or cut out around its box.
//!
//! Called by the wrappers of the models, each of which was trained on one of these geometries.

use super::landmarks::Region;
use super::{Bounds, Face};
use crate::imaging::Image;
use crate::imaging::warp::{Affine, Sampling, similarity_from_points, warp};

/// Where the five landmarks lie in a crop, as shares of its side.
pub type Template = [[f64; 2]; 5];

/// The ArcFace template of 112 px, that most embedders are trained with (InsightFace, `face_align.py`).
pub const ARCFACE: Template = [
    [38.2946 / 112.0, 51.6963 / 112.0],
    [73.5318 / 112.0, 51.5014 / 112.0],
    [56.0252 / 112.0, 71.7366 / 112.0],
    [41.5493 / 112.0, 92.3655 / 112.0],
    [70.7299 / 112.0, 92.2041 / 112.0],
];

/// Mean positions in the unit box of dlib's face chips (eye centres and mouth corners averaged from its 68 points).
const DLIB_UNIT: Template = [
    [0.225_492, 0.215_990],
    [0.754_761, 0.215_990],
    [0.490_127, 0.515_625],
    [0.254_149, 0.780_233],
    [0.726_104, 0.780_233],
];

/// dlib's template with `padding` (share of the unit box) on each side, as in dlib's `get_face_chip_details`.
pub fn dlib_template(padding: f64) -> Template {
    DLIB_UNIT.map(|point| point.map(|share| (padding + share) / (1.0 + 2.0 * padding)))
}

/// The face turned, scaled and shifted so that its landmarks come closest to the template. `[side, side, 3]`; what lies
/// outside the picture repeats its border. `None` if the landmarks coincide, which no face's do.
pub fn to_template(image: &Image, face: &Face, template: &Template, side: u32) -> Option<Image> {
    let target = template.map(|point| point.map(|share| share * f64::from(side)));
    let to_image = similarity_from_points(&face.landmarks, &target)?.invert()?;
    Some(warp(image, &to_image, [side, side], Sampling::Area))
}

/// A square around the box's centre, its side the box's longer one times `scale`. `[side, side, 3]`; what lies outside the picture repeats its border.
pub fn around(image: &Image, bounds: &Bounds, scale: f64, side: u32) -> Image {
    let side_px = bounds.width.max(bounds.height) * scale;
    upright_square(image, &Region { centre: bounds.centre(), side_px, roll_deg: 0.0 }, side, Sampling::Area).0
}

/// A region, turned so that a face that leans with it stands upright: `[side, side, 3]`, what lies outside the picture repeats its border; and the way
/// from its pixels back to those of the picture.
pub fn upright_square(image: &Image, region: &Region, side: u32, sampling: Sampling) -> (Image, Affine) {
    let step = region.side_px / f64::from(side);
    let (sin, cos) = region.roll_deg.to_radians().sin_cos();
    let (a, b) = (step * cos, step * sin);
    let [x, y] = region.centre;
    let half = f64::from(side) / 2.0;
    let to_picture = Affine { m: [[a, -b, x - (a - b) * half], [b, a, y - (a + b) * half]] };
    (warp(image, &to_picture, [side, side], sampling), to_picture)
}
