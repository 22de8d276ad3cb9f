//! Sides of a quadrilateral fitted to the full picture.
//!
//! Called by `locate` with the corners found in the small picture. Across each side the colours are read at full resolution; the
//! place of the steepest change in each reading is a point of the side, and a line through these points that is robust
//! against those that lie on something else is the side. Accurate to about a pixel of the picture given where it is sharp.

use super::{Quad, distance};
use crate::imaging::Image;

/// Readings across one side.
const READINGS: usize = 64;

/// How far from the coarse side the true one is looked for, in pixels of the small picture.
const REACH_WORK_PX: f64 = 3.0;

/// Fits the sides of `quad` (pixel areas) that are not on the border of the picture. `work_px` is the size of a pixel of the small
/// picture in pixels of this one. A side or a corner that moves further than the reach allows keeps its coarse place.
pub(super) fn refine(image: &Image, quad: &Quad, on_border: [bool; 4], work_px: f64) -> Quad {
    let lines: [Option<Fitted>; 4] = std::array::from_fn(|i| {
        let (a, b) = (quad[i], quad[(i + 1) % 4]);
        if on_border[i] {
            Fitted::through(a, b)
        } else {
            fit(image, a, b, REACH_WORK_PX * work_px).or_else(|| Fitted::through(a, b))
        }
    });
    std::array::from_fn(|i| {
        // Corner i lies between the side before it and its own.
        let (Some(before), Some(after)) = (&lines[(i + 3) % 4], &lines[i]) else { return quad[i] };
        match before.meet(after) {
            Some(corner) if distance(corner, quad[i]) < 2.5 * REACH_WORK_PX * work_px => corner,
            _ => quad[i],
        }
    })
}

/// The points with `normal · p = offset`.
pub(in crate::document) struct Fitted {
    normal: [f64; 2],
    offset: f64,
}

impl Fitted {
    /// The line through two points; `None` if they lie too near to each other to tell a direction.
    pub fn through(a: [f64; 2], b: [f64; 2]) -> Option<Self> {
        let length = distance(a, b);
        (length > 1.0).then(|| {
            let normal = [-(b[1] - a[1]) / length, (b[0] - a[0]) / length];
            Self { normal, offset: normal[0] * a[0] + normal[1] * a[1] }
        })
    }

    /// Where two lines meet; `None` if they are nearly parallel.
    pub fn meet(&self, other: &Self) -> Option<[f64; 2]> {
        let determinant = self.normal[0] * other.normal[1] - self.normal[1] * other.normal[0];
        (determinant.abs() > 1e-3).then(|| {
            [
                (self.offset * other.normal[1] - other.offset * self.normal[1]) / determinant,
                (self.normal[0] * other.offset - other.normal[0] * self.offset) / determinant,
            ]
        })
    }
}

fn fit(image: &Image, a: [f64; 2], b: [f64; 2], reach: f64) -> Option<Fitted> {
    let length = distance(a, b);
    if length < 16.0 {
        return None;
    }
    let along = [(b[0] - a[0]) / length, (b[1] - a[1]) / length];
    let normal = [-along[1], along[0]];
    // Steps of a sixth of the small picture's pixel keep the work the same whatever the resolution.
    let step = (reach / 18.0).max(0.5);
    let half = (reach / step).round() as usize;
    // Distance over which the change is taken, on each side of a place.
    let window = 3usize;
    let samples = 2 * (half + window) + 1;
    let mut points: Vec<[f64; 3]> = Vec::with_capacity(READINGS);
    let mut profile = vec![[0f64; 3]; samples];
    for reading in 0..READINGS {
        let t = length * (0.08 + 0.84 * (reading as f64 + 0.5) / READINGS as f64);
        for (k, colour) in profile.iter_mut().enumerate() {
            let d = (k as f64 - (half + window) as f64) * step;
            *colour = [0.0; 3];
            // Four readings along the side stand for its neighbourhood and quieten noise.
            for n in 0..4 {
                let t = t + (f64::from(n) - 1.5) * step * 2.0;
                let value = read(image, a[0] + along[0] * t + normal[0] * d, a[1] + along[1] * t + normal[1] * d);
                *colour = std::array::from_fn(|c| colour[c] + value[c] / 4.0);
            }
        }
        let (mut best, mut at) = (0.0, 0);
        let change = |k: usize| {
            let channel = |c: usize| (1..=window).map(|w| profile[k + w][c] - profile[k - w][c]).sum::<f64>();
            let sum = channel(0).powi(2) + channel(1).powi(2) + channel(2).powi(2);
            sum.sqrt() / window as f64
        };
        for k in window..samples - window {
            // Of two edges of one strength the nearer to the coarse side is the likelier.
            let d = (k as f64 - (half + window) as f64) * step / reach;
            let value = change(k) * (1.0 - 0.3 * d * d);
            if value > best {
                (best, at) = (value, k);
            }
        }
        if best > 3.0 {
            points.push([t, (at as f64 - (half + window) as f64) * step, best.min(40.0)]);
        }
    }
    if points.len() < READINGS / 4 {
        return None;
    }
    robust_line(&points, length / 2.0, reach).map(|[at, slope]| {
        // d = at + slope · (t − length / 2)
        let ends = [0.0, length].map(|t| {
            let d = at + slope * (t - length / 2.0);
            [a[0] + along[0] * t + normal[0] * d, a[1] + along[1] * t + normal[1] * d]
        });
        Fitted::through(ends[0], ends[1])
    })?
}

/// The line `d = c0 + c1 · (t − middle)` that most points `[t, d, weight]` lie near: the best of those through two points each, then
/// least squares with Tukey's weights.
pub(in crate::document) fn robust_line(points: &[[f64; 3]], middle: f64, reach: f64) -> Option<[f64; 2]> {
    let tolerance = reach / 6.0;
    let near = |c: [f64; 2]| -> f64 {
        points
            .iter()
            .map(|[t, d, weight]| {
                let r = (d - c[0] - c[1] * (t - middle)) / tolerance;
                weight * (1.0 - r * r).max(0.0)
            })
            .sum()
    };
    let mut best = ([0.0, 0.0], near([0.0, 0.0]));
    let third = points.len() / 3;
    for p in &points[..third] {
        for q in &points[points.len() - third..] {
            let slope = (q[1] - p[1]) / (q[0] - p[0]).max(1.0);
            let line = [p[1] + slope * (middle - p[0]), slope];
            let score = near(line);
            if score > best.1 {
                best = (line, score);
            }
        }
    }
    let mut line = best.0;
    for _ in 0..4 {
        let (mut w, mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for [t, d, weight] in points {
            let t = t - middle;
            let r = (d - line[0] - line[1] * t) / (1.5 * tolerance);
            let weight = weight * (1.0 - r * r).max(0.0).powi(2);
            w += weight;
            x += weight * t;
            y += weight * d;
            xx += weight * t * t;
            xy += weight * t * d;
        }
        let determinant = w * xx - x * x;
        if w <= 0.0 || determinant.abs() < 1e-9 {
            return None;
        }
        line = [(y * xx - x * xy) / determinant, (w * xy - x * y) / determinant];
    }
    line.iter().all(|value| value.is_finite()).then_some(line)
}

/// Bilinear reading at a point in pixel areas, the border repeated.
fn read(image: &Image, x: f64, y: f64) -> [f64; 3] {
    let clamp = |value: f64, side: u32| (value - 0.5).clamp(0.0, f64::from(side - 1));
    let (x, y) = (clamp(x, image.width), clamp(y, image.height));
    let (x0, y0) = (x as u32, y as u32);
    let (x1, y1) = ((x0 + 1).min(image.width - 1), (y0 + 1).min(image.height - 1));
    let (tx, ty) = (x - f64::from(x0), y - f64::from(y0));
    let [a, b, c, d] = [image.pixel(x0, y0), image.pixel(x1, y0), image.pixel(x0, y1), image.pixel(x1, y1)];
    std::array::from_fn(|i| {
        let [a, b, c, d] = [a[i], b[i], c[i], d[i]].map(f64::from);
        (a * (1.0 - tx) + b * tx) * (1.0 - ty) + (c * (1.0 - tx) + d * tx) * ty
    })
}
