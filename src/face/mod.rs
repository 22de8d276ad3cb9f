//! Faces: where they are, and what the models say of them. Each file wraps one model and knows its pre- and
//! post-processing; none does I/O or reads a clock.
//!
//! Called by `pipeline`, which keeps the results of one picture together and hands them to the checks. Coordinates are
//! pixels of the [`Image`](crate::imaging::Image) handed in, origin at its top left corner.

pub mod age;
pub mod align;
pub mod detect;
pub mod embed;
pub mod landmarks;
pub mod liveness;
pub mod quality;

pub use crate::inference::ModelPort;
use crate::inference::output;

/// A rectangle; may reach over the border of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Bounds {
    pub fn centre(&self) -> [f64; 2] {
        [self.x + self.width / 2.0, self.y + self.height / 2.0]
    }

    pub fn area(&self) -> f64 {
        self.width * self.height
    }

    /// Share of the union that both cover, 0..1.
    pub fn intersection_over_union(&self, other: &Self) -> f64 {
        let overlap = |a: f64, a_size: f64, b: f64, b_size: f64| ((a + a_size).min(b + b_size) - a.max(b)).max(0.0);
        let common =
            overlap(self.x, self.width, other.x, other.width) * overlap(self.y, self.height, other.y, other.height);
        common / (self.area() + other.area() - common)
    }
}

/// A detected face.
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    pub bounds: Bounds,
    /// The detector's confidence, 0..1.
    pub score: f64,
    /// Eye, eye, nose tip, mouth corner, mouth corner; of each pair the one further left in an upright picture first.
    pub landmarks: [[f64; 2]; 5],
}

impl Face {
    /// Distance between the eye centres in pixels.
    pub fn inter_eye_px(&self) -> f64 {
        let [left, right, ..] = self.landmarks;
        (right[0] - left[0]).hypot(right[1] - left[1])
    }

    /// Lean of the eye line in degrees, −180..180, positive clockwise.
    pub fn roll_deg(&self) -> f64 {
        let [left, right, ..] = self.landmarks;
        (right[1] - left[1]).atan2(right[0] - left[0]).to_degrees()
    }

    /// The same face with every coordinate put through `map`; the bounds become those around the corners of the old ones.
    pub fn mapped(&self, map: impl Fn([f64; 2]) -> [f64; 2]) -> Self {
        let Bounds { x, y, width, height } = self.bounds;
        let corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]].map(&map);
        let along = |axis: usize| {
            let values = corners.map(|corner| corner[axis]);
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), &at| (low.min(at), high.max(at)));
            (low, high - low)
        };
        let ((x, width), (y, height)) = (along(0), along(1));
        Self { bounds: Bounds { x, y, width, height }, score: self.score, landmarks: self.landmarks.map(map) }
    }
}

/// Mean of the index under a discrete distribution; the index of the first value is `first`.
fn expected_index(probabilities: &[f32], first: f64) -> f64 {
    let total: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    let weighted: f64 = probabilities.iter().enumerate().map(|(index, &p)| (index as f64 + first) * f64::from(p)).sum();
    weighted / total
}
