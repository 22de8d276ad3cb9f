//! A head or a plane? A photograph that is waved moves as a plane; a head that turns does not, and one that comes nearer grows more at the nose than at the ears.
//!
//! Called by `session` with each frame once the neutral face is known. The neutral mesh is fitted to the present one twice: as a plane (homography of its two
//! dimensions) and as a rigid body (similarity of its three). Which leaves the smaller residual tells. On labelled clips of people who turn, the plane leaves two to
//! five times the residual of the body; of photographs that are turned by 20 to 60 degrees in any direction, most often half.
//! Left out: masks and heads of wax, which are solid.

use nalgebra::{Matrix3, SMatrix, SVector, Vector3};

use super::terms::Terms;
use crate::face::landmarks::Mesh;
use crate::imaging::warp::Affine;

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
    step: Step,
}

/// The same since the last prompt.
#[derive(Debug, Default)]
struct Step {
    flat: u32,
    solid: u32,
    unconfirmed: u32,
}

impl Solidity {
    /// An action has been asked for.
    pub fn begin_step(&mut self) {
        self.step = Step::default();
    }

    /// Adds a frame on which the face has no expression. True if the face is flat.
    pub fn is_flat(&mut self, change: &Change, terms: &Terms) -> bool {
        if change.shape >= terms.shape_change_min {
            if change.ratio() <= terms.flat_ratio_max {
                self.flat += 1;
            } else if change.ratio() >= terms.solid_ratio_min {
                self.solid += 1;
            }
        }
        if change.shape >= terms.shape_change_min * EARLY_SHARE {
            if change.ratio() < terms.solid_ratio_min * UNSURE_SHARE {
                self.step.flat += 1;
            } else if change.ratio() >= terms.solid_ratio_min {
                self.step.solid += 1;
            }
        }
        self.flat >= FLAT_FRAMES && self.flat > 2 * self.solid
    }

    /// Whether an asked turn that is reached on this frame is one of a head, by this frame and by the way to it: a photograph that is turned far enough to look like a turned head
    /// has changed its shape as a plane before.
    pub fn confirms(&self, change: &Change, terms: &Terms) -> bool {
        change.is_of_head(terms) && self.step.solid > self.step.flat
    }

    /// Adds a frame on which an asked turn is reached. True if it is none of a head.
    pub fn is_unconfirmed(&mut self, confirmed: bool) -> bool {
        self.step.unconfirmed = if confirmed { 0 } else { self.step.unconfirmed + 1 };
        self.step.unconfirmed >= UNCONFIRMED_FRAMES
    }
}

/// The way of a turn is judged from this share of `shape_change_min` on...
const EARLY_SHARE: f64 = 0.7;

/// ...and is flat below this share of `solid_ratio_min`.
const UNSURE_SHARE: f64 = 0.75;

/// Side of the picture of the face that parallax is measured on, in pixels.
pub const RELIEF_SIDE: usize = 192;

/// Half the side of the patches that are found again, and how far from the expected place they are looked for, in pixels of that picture: perspective moves them
/// by one or two.
const PATCH: i64 = 7;
const SEARCH: i64 = 4;

/// Patches that match less closely than this are not the same.
const PATCH_CORRELATION_MIN: f64 = 0.8;

/// Fewest patches found again that can tell.
const PATCHES_MIN: usize = 20;

/// Below this the perspective of a head is lost in noise.
pub const MIN_EXPECTED_PARALLAX: f64 = 0.02;

/// A face in grey, with the depth of its points: the landmarks alone are drawn towards an average face and do not show perspective.
#[derive(Debug, Clone)]
pub struct Relief {
    /// [`RELIEF_SIDE`] squared.
    grey: Vec<u8>,
    /// Points in pixels of the picture, depth in the same unit.
    points: Vec<[f64; 3]>,
    /// Distance between the outer corners of the eyes, in pixels of the picture and of the frame.
    span: f64,
    span_px: f64,
}

impl Relief {
    /// `grey` is the part of the frame that the mesh's own region shows, [`RELIEF_SIDE`] squared; `to_picture` leads from its pixels to those of the frame.
    pub fn new(mesh: &Mesh, grey: Vec<u8>, to_picture: &Affine) -> Option<Self> {
        let from_picture = to_picture.invert()?;
        let step = to_picture.determinant().abs().sqrt();
        let scale = mesh.scale() / step;
        let points = (0..mesh.upright.len()).map(|index| {
            let [x, y] = from_picture.apply(mesh.in_picture(index));
            [x, y, mesh.upright[index][2] * scale]
        });
        Some(Self {
            grey,
            points: points.collect(),
            span: mesh.eye_span() * scale,
            span_px: mesh.eye_span() * mesh.scale(),
        })
    }

    fn at(&self, x: i64, y: i64) -> f64 {
        f64::from(self.grey[y as usize * RELIEF_SIDE + x as usize])
    }

    /// Where the patch around a point of another picture lies in this one, near an expected place.
    fn find(&self, other: &Self, [x, y]: [i64; 2], [near_x, near_y]: [i64; 2]) -> Option<[f64; 2]> {
        let margin = PATCH + SEARCH;
        let inside = |at: i64| (margin..RELIEF_SIDE as i64 - margin).contains(&at);
        if ![x, y, near_x, near_y].into_iter().all(inside) {
            return None;
        }
        let window = || (-PATCH..=PATCH).flat_map(|v| (-PATCH..=PATCH).map(move |u| (u, v)));
        let count = ((2 * PATCH + 1) * (2 * PATCH + 1)) as f64;
        let mean = window().map(|(u, v)| other.at(x + u, y + v)).sum::<f64>() / count;
        let wanted: Vec<f64> = window().map(|(u, v)| other.at(x + u, y + v) - mean).collect();
        let energy: f64 = wanted.iter().map(|value| value * value).sum();
        let likeness = |dx: i64, dy: i64| {
            let (mut sum, mut square, mut product) = (0.0, 0.0, 0.0);
            for ((u, v), wanted) in window().zip(&wanted) {
                let value = self.at(near_x + dx + u, near_y + dy + v);
                sum += value;
                square += value * value;
                product += value * wanted;
            }
            product / ((square - sum * sum / count) * energy).sqrt().max(f64::MIN_POSITIVE)
        };
        let places = (-SEARCH..=SEARCH).flat_map(|dy| (-SEARCH..=SEARCH).map(move |dx| (dx, dy)));
        let (best, dx, dy) = places.map(|(dx, dy)| (likeness(dx, dy), dx, dy)).max_by(|a, b| a.0.total_cmp(&b.0))?;
        // At the edge of the search it may lie beyond.
        if best < PATCH_CORRELATION_MIN || dx.abs() == SEARCH || dy.abs() == SEARCH {
            return None;
        }
        // The top of the parabola through three neighbours.
        let finer = |before: f64, after: f64| {
            let curve = before + after - 2.0 * best;
            if curve < 0.0 { ((before - after) / (2.0 * curve)).clamp(-0.5, 0.5) } else { 0.0 }
        };
        let fine_x = finer(likeness(dx - 1, dy), likeness(dx + 1, dy));
        let fine_y = finer(likeness(dx, dy - 1), likeness(dx, dy + 1));
        Some([(near_x + dx) as f64 + fine_x, (near_y + dy) as f64 + fine_y])
    }
}

/// The share of the perspective that an approach of a head would have, by the growth of the eyes' distance in a frame whose longer side is `frame_side_px`: about 1 for a
/// head, 0 for a plane. `None` if the approach is too short or too little of the face was found again. The focal length is taken to be the longer side of the frame, as of
/// most webcams; of a phone's front camera, whose angle is wider, a head shows more than 1.
pub fn parallax_share(from: &Relief, to: &Relief, frame_side_px: f64) -> Option<f64> {
    let expected = (to.span_px - from.span_px) / frame_side_px;
    if expected < MIN_EXPECTED_PARALLAX {
        return None;
    }
    // A point at (x, y) and depth z, all in eye spans from the middle, goes to the similar place plus γ · −z · (x, y): five unknowns, fitted to all patches at once.
    let count = from.points.len() as f64;
    let middle: [f64; 3] = std::array::from_fn(|axis| from.points.iter().map(|point| point[axis]).sum::<f64>() / count);
    let (mut rows, mut found) = (Vec::new(), 0);
    for (index, point) in from.points.iter().enumerate().step_by(3) {
        if MOVING.contains(&index) {
            continue;
        }
        let (here, near) = ([point[0], point[1]], [to.points[index][0], to.points[index][1]]);
        let rounded = here.map(|at| at.round() as i64);
        let Some(place) = to.find(from, rounded, near.map(|at| at.round() as i64)) else { continue };
        found += 1;
        let [x, y] = [0, 1].map(|axis| (rounded[axis] as f64 - middle[axis]) / from.span);
        let nearness = -(point[2] - middle[2]) / from.span;
        let [u, v] = place.map(|at| at / to.span);
        rows.push((SVector::<f64, 5>::from([x, -y, 1.0, 0.0, nearness * x]), u));
        rows.push((SVector::<f64, 5>::from([y, x, 0.0, 1.0, nearness * y]), v));
    }
    if found < PATCHES_MIN {
        return None;
    }
    let mut solution = solve(&rows)?;
    // Once more without the patches that fit worst: a highlight does not move as skin does.
    let residual =
        |solution: &SVector<f64, 5>, (row, value): &(SVector<f64, 5>, f64)| (row.dot(solution) - value).abs();
    let mut residuals: Vec<f64> = rows.iter().map(|row| residual(&solution, row)).collect();
    residuals.sort_by(f64::total_cmp);
    let limit = residuals[residuals.len() * 4 / 5];
    let kept: Vec<_> = rows.iter().filter(|row| residual(&solution, row) <= limit).copied().collect();
    solution = solve(&kept)?;
    Some(solution[4] / expected)
}

fn solve(rows: &[(SVector<f64, 5>, f64)]) -> Option<SVector<f64, 5>> {
    let (mut normal, mut right) = (SMatrix::<f64, 5, 5>::zeros(), SVector::<f64, 5>::zeros());
    for (row, value) in rows {
        normal += row * row.transpose();
        right += row * *value;
    }
    Some(normal.cholesky()?.solve(&right))
}

/// Points of the lips and eyes, which move by themselves.
const MOVING: [usize; 72] = [
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 78, 95, 88, 178, 87, 14,
    317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 33, 7, 163, 144, 145, 153, 154, 155, 133, 173,
    157, 158, 159, 160, 161, 246, 263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466,
];

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

    /// A mesh as a picture with texture, drawn where its points lie.
    pub fn relief(mesh: &Mesh) -> Relief {
        let mut grey = vec![128.0_f64; RELIEF_SIDE * RELIEF_SIDE];
        for (index, point) in mesh.upright.iter().enumerate() {
            let contrast = if index % 2 == 0 { 90.0 } else { -90.0 };
            let [x, y] = [point[0], point[1]];
            for v in -6..=6_i32 {
                for u in -6..=6_i32 {
                    let (px, py) = ((x + f64::from(u)).floor(), (y + f64::from(v)).floor());
                    if !(0.0..RELIEF_SIDE as f64).contains(&px) || !(0.0..RELIEF_SIDE as f64).contains(&py) {
                        continue;
                    }
                    let near = (-((px - x).powi(2) + (py - y).powi(2)) / 4.0).exp();
                    grey[py as usize * RELIEF_SIDE + px as usize] += contrast * near;
                }
            }
        }
        let grey = grey.into_iter().map(|value| value.clamp(0.0, 255.0) as u8).collect();
        Relief::new(mesh, grey, &mesh.to_picture).unwrap()
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
    use super::testing::{head, print, relief};
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
            assert!(solidity.confirms(&of_head, &terms));
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
            let (far, near) = (relief(&far), relief(&near));
            // Focal length in pixels: distance in spans times the span's pixels.
            parallax_share(&far, &near, 8.0 * 70.0).unwrap()
        };
        let (of_head, of_print) = (nearer(head), nearer(print));
        assert!((0.5..1.5).contains(&of_head) && of_print.abs() < 0.2, "{of_head} {of_print}");
        let still = head(0.0, 0.0, 8.0);
        assert_eq!(parallax_share(&relief(&still), &relief(&still), 640.0), None);
    }
}
