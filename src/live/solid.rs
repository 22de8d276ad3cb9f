//! A head or a plane? A photograph that is waved moves as a plane; a head that turns does not, and one that comes nearer grows more at the nose than at the ears.
//!
//! Called by `session` with each frame once the neutral face is known. The neutral mesh is fitted to the present one twice: as a plane (homography of its two
//! dimensions) and as a rigid body (similarity of its three). Which leaves the smaller residual tells. On labelled clips of people who turn, the plane leaves two to
//! five times the residual of the body; of photographs that are turned by 20 to 60 degrees in any direction, most often half.
//! Left out: masks and heads of wax, which are solid.

use nalgebra::{Matrix3, SMatrix, SVector, Vector3};

use super::terms::Terms;
use crate::face::landmarks::Mesh;

/// Points that expressions hardly move: forehead, temples, corners of the eyes, bridge, tip and wings of the nose, cheekbones.
const RIGID: [usize; 51] = [
    10, 109, 338, 67, 297, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 234, 454, 33, 133, 362, 263, 168, 6, 197,
    195, 5, 4, 1, 19, 2, 48, 278, 64, 294, 98, 327, 129, 358, 116, 345, 117, 346, 118, 347, 50, 280, 123, 352, 93, 323,
    151,
];

/// Flat frames that make a flat face, if they are at least twice as many as solid ones: single frames are blurred or half covered.
const FLAT_FRAMES: u32 = 5;

/// Frames on which a turn is reached without being one of a head, before it is said to be none.
const UNCONFIRMED_FRAMES: u32 = 3;

/// How two meshes of one face differ. Residuals are root mean squares in the extent of the points, over two dimensions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Beyond shift, turn and size in the picture: the change of shape.
    pub shape: f64,
    /// Beyond what a plane can do.
    pub plane: f64,
    /// Beyond what a rigid body can do.
    pub body: f64,
}

impl Change {
    pub fn between(from: &Mesh, to: &Mesh) -> Self {
        let (from, to) = (centred(from), centred(to));
        let flat = |points: &[Vector3<f64>]| -> Vec<Vector3<f64>> {
            points.iter().map(|point| Vector3::new(point.x, point.y, 0.0)).collect()
        };
        let extent = root_mean_square(to.iter().map(|point| point.xy().norm_squared()));
        Self {
            shape: similarity_residual(&flat(&from), &flat(&to)) / extent,
            plane: homography_residual(&from, &to).unwrap_or(0.0) / extent,
            body: similarity_residual(&from, &to) / extent,
        }
    }

    /// A plane's residual over a body's.
    pub fn ratio(&self) -> f64 {
        self.plane / self.body.max(1e-9)
    }

    /// True if a head has turned so.
    pub fn is_of_head(&self, terms: &Terms) -> bool {
        self.ratio() >= terms.solid_ratio_min && self.body <= terms.solid_residual_max
    }
}

/// What the frames so far say.
#[derive(Debug, Default)]
pub struct Solidity {
    flat: u32,
    solid: u32,
    unconfirmed: u32,
}

impl Solidity {
    /// Adds a frame on which the face has no expression. True if the face is flat.
    pub fn is_flat(&mut self, change: &Change, terms: &Terms) -> bool {
        if change.shape >= terms.shape_change_min {
            if change.ratio() <= terms.flat_ratio_max {
                self.flat += 1;
            } else if change.ratio() >= terms.solid_ratio_min {
                self.solid += 1;
            }
        }
        self.flat >= FLAT_FRAMES && self.flat > 2 * self.solid
    }

    /// Adds a frame on which an asked turn of the head is reached. True if it is none of a head.
    pub fn is_unconfirmed(&mut self, of_head: bool) -> bool {
        self.unconfirmed = if of_head { 0 } else { self.unconfirmed + 1 };
        self.unconfirmed >= UNCONFIRMED_FRAMES
    }
}

/// The share of the perspective that an approach of a head would have, by the growth of the eyes' distance from `from` to `to` in a frame whose longer side is
/// `frame_side_px`: about 1 for a head, 0 for a plane. `None` if the approach is too short, or the face too small, to tell. The focal length is taken to be the longer side of
/// the frame, as of most webcams; of a phone's front camera, whose angle is wider, a head then shows more than 1.
pub fn parallax_share(from: &Mesh, to: &Mesh, frame_side_px: f64) -> Option<f64> {
    let expected = (to.eye_span() * to.scale() - from.eye_span() * from.scale()) / frame_side_px;
    if expected < MIN_EXPECTED_PARALLAX {
        return None;
    }
    // In units of the distance between the eyes, and turned as the neutral face is: what is left is growth that goes with depth.
    let (from_span, to_span) = (from.eye_span(), to.eye_span());
    let from: Vec<Vector3<f64>> = centred(from).iter().map(|point| point / from_span).collect();
    let to: Vec<Vector3<f64>> = centred(to).iter().map(|point| point / to_span).collect();
    let flat = |points: &[Vector3<f64>]| -> Vec<Vector3<f64>> {
        points.iter().map(|point| Vector3::new(point.x, point.y, 0.0)).collect()
    };
    let (flat_from, flat_to) = (flat(&from), flat(&to));
    let (rotation, scale) = similarity(&flat_from, &flat_to);
    let (mut product, mut square) = (0.0, 0.0);
    for ((from, flat_from), flat_to) in from.iter().zip(&flat_from).zip(&flat_to) {
        let aligned = scale * rotation * flat_from;
        // A point nearer by z grows by z times the difference of the inverse distances.
        let direction = aligned * -from.z;
        product += direction.dot(&(flat_to - aligned));
        square += direction.norm_squared();
    }
    Some(product / square.max(f64::MIN_POSITIVE) / expected)
}

/// Below this the perspective of a head is lost in the landmarks' noise.
const MIN_EXPECTED_PARALLAX: f64 = 0.025;

/// The rigid points around their centre.
fn centred(mesh: &Mesh) -> Vec<Vector3<f64>> {
    let points: Vec<Vector3<f64>> = RIGID.iter().map(|&index| Vector3::from(mesh.upright[index])).collect();
    let centre = points.iter().sum::<Vector3<f64>>() / points.len() as f64;
    points.into_iter().map(|point| point - centre).collect()
}

fn root_mean_square(squares: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = squares.len() as f64;
    (squares.sum::<f64>() / count).sqrt()
}

/// The rotation and scale that bring centred points closest to others (Umeyama 1991).
fn similarity(from: &[Vector3<f64>], to: &[Vector3<f64>]) -> (Matrix3<f64>, f64) {
    let covariance: Matrix3<f64> = from.iter().zip(to).map(|(from, to)| to * from.transpose()).sum();
    let size: f64 = from.iter().map(|point| point.norm_squared()).sum();
    let svd = covariance.svd(true, true);
    let (Some(u), Some(v_t)) = (svd.u, svd.v_t) else { return (Matrix3::identity(), 1.0) };
    let mut signs = Vector3::new(1.0, 1.0, 1.0);
    if (u * v_t).determinant() < 0.0 {
        // The smallest singular value is the last one.
        signs.z = -1.0;
    }
    let rotation = u * Matrix3::from_diagonal(&signs) * v_t;
    (rotation, svd.singular_values.dot(&signs) / size.max(f64::MIN_POSITIVE))
}

fn similarity_residual(from: &[Vector3<f64>], to: &[Vector3<f64>]) -> f64 {
    let (rotation, scale) = similarity(from, to);
    root_mean_square(from.iter().zip(to).map(|(from, to)| (scale * rotation * from - to).xy().norm_squared()))
}

/// The residual of the homography that brings the points closest (least squares with h₃₃ = 1; the points are centred, so none is near infinity).
fn homography_residual(from: &[Vector3<f64>], to: &[Vector3<f64>]) -> Option<f64> {
    let scale = 1.0 / root_mean_square(from.iter().map(|point| point.xy().norm_squared()));
    let (mut normal, mut right) = (SMatrix::<f64, 8, 8>::zeros(), SVector::<f64, 8>::zeros());
    for (from, to) in from.iter().zip(to) {
        let ([x, y], [u, v]) = ([from.x * scale, from.y * scale], [to.x * scale, to.y * scale]);
        for (row, value) in
            [([x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y], u), ([0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y], v)]
        {
            let row = SVector::<f64, 8>::from(row);
            normal += row * row.transpose();
            right += row * value;
        }
    }
    let h = normal.cholesky()?.solve(&right);
    Some(root_mean_square(from.iter().zip(to).map(|(from, to)| {
        let [x, y] = [from.x * scale, from.y * scale];
        let w = h[6] * x + h[7] * y + 1.0;
        let [u, v] = [(h[0] * x + h[1] * y + h[2]) / w, (h[3] * x + h[4] * y + h[5]) / w];
        ((u - to.x * scale).powi(2) + (v - to.y * scale).powi(2)) / scale.powi(2)
    })))
}

#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::face::landmarks::POINTS;
    use crate::imaging::warp::Affine;

    /// A head of made points: an ellipsoid's front with a nose, in pixels of the model's input, turned and then seen in perspective from `distance` eye spans.
    pub fn head(yaw_deg: f64, pitch_deg: f64, distance: f64) -> Mesh {
        body(yaw_deg, pitch_deg, distance, 1.0)
    }

    /// The same as a print: all of the depth is gone before it is turned; the landmark model then still sees the depth of a face.
    pub fn print(yaw_deg: f64, pitch_deg: f64, distance: f64) -> Mesh {
        let mut flat = body(yaw_deg, pitch_deg, distance, 0.0);
        let upright = body(0.0, 0.0, distance, 1.0);
        for (point, upright) in flat.upright.iter_mut().zip(&upright.upright) {
            point[2] = upright[2];
        }
        flat
    }

    fn body(yaw_deg: f64, pitch_deg: f64, distance: f64, depth: f64) -> Mesh {
        let (sin_yaw, cos_yaw) = yaw_deg.to_radians().sin_cos();
        let (sin_pitch, cos_pitch) = pitch_deg.to_radians().sin_cos();
        let span = 70.0;
        let upright = (0..POINTS)
            .map(|index| {
                // Spread evenly over the front by the golden angle.
                let (share, angle) = ((index as f64 + 0.5) / POINTS as f64, index as f64 * 2.399_963);
                let (x, y) = match index {
                    // The outer corners of the eyes.
                    33 => (-0.5, -0.3),
                    263 => (0.5, -0.3),
                    _ => (0.95 * share.sqrt() * angle.cos(), 1.2 * share.sqrt() * angle.sin()),
                };
                let share = ((x / 0.95_f64).powi(2) + (y / 1.2_f64).powi(2)).min(1.0);
                let nose = 0.35 * (-(x * x + y * y) * 30.0).exp();
                let z = depth * (-0.8 * (1.0 - share).sqrt() - nose);
                let (x, z) = (x * cos_yaw - z * sin_yaw, x * sin_yaw + z * cos_yaw);
                let (y, z) = (y * cos_pitch + z * sin_pitch, z * cos_pitch - y * sin_pitch);
                let grown = span * distance / (distance + z);
                [96.0 + x * grown, 96.0 + y * grown, z * span]
            })
            .collect();
        Mesh::made(upright, Affine { m: [[1.0, 0.0, 224.0], [0.0, 1.0, 144.0]] })
    }
}

#[cfg(test)]
mod tests {
    use super::super::actions::testing::terms;
    use super::testing::{head, print};
    use super::*;

    #[test]
    fn a_head_that_turns_is_solid_and_a_print_that_turns_is_flat() {
        let terms = terms();
        for (yaw, pitch) in [(25.0, 0.0), (-30.0, 0.0), (0.0, 20.0), (20.0, -15.0)] {
            let of_head = Change::between(&head(0.0, 0.0, 8.0), &head(yaw, pitch, 8.0));
            assert!(of_head.is_of_head(&terms), "{yaw} {pitch} {of_head:?}");
            let of_print = Change::between(&print(0.0, 0.0, 8.0), &print(yaw * 1.6, pitch * 1.6, 8.0));
            assert!(of_print.ratio() < terms.flat_ratio_max && !of_print.is_of_head(&terms), "{of_print:?}");
            let mut solidity = Solidity::default();
            assert!(!(0..30).any(|_| solidity.is_flat(&of_head, &terms)));
            let mut solidity = Solidity::default();
            assert!((0..FLAT_FRAMES).any(|_| solidity.is_flat(&of_print, &terms)));
        }
    }

    #[test]
    fn shift_turn_in_the_picture_and_size_are_no_change_of_shape() {
        let same = head(0.0, 0.0, 8.0);
        let change = Change::between(&same, &same);
        assert!(change.shape < 1e-9 && change.plane < 1e-6 && change.body < 1e-9, "{change:?}");
    }

    #[test]
    fn a_head_that_comes_nearer_shows_its_depth_and_a_print_does_not() {
        let nearer = |mesh: fn(f64, f64, f64) -> Mesh| {
            let (far, mut near) = (mesh(0.0, 0.0, 8.0), mesh(0.0, 0.0, 5.5));
            near.to_picture.m[0][0] *= 8.0 / 5.5;
            near.to_picture.m[1][1] *= 8.0 / 5.5;
            // Focal length in pixels: distance in spans times the span's pixels.
            parallax_share(&far, &near, 8.0 * far.eye_span()).unwrap()
        };
        let (of_head, of_print) = (nearer(head), nearer(print));
        assert!(of_head > 0.5 && of_print.abs() < 0.1, "{of_head} {of_print}");
        assert_eq!(parallax_share(&head(0.0, 0.0, 8.0), &head(0.0, 0.0, 8.0), 640.0), None);
    }
}
