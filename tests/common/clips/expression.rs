//! Eyelids and lips moved inside the texture of a face.
//!
//! Called by `head.rs` before it turns the head. Each part is a map from the texels of a box to those of the
//! photograph: lids and lips are slid along the upright of the face, with what lies around them following less and
//! less. Left out: wrinkles, teeth, the gaze.

use super::raster::{Texture, mix, pack};

/// Points of the mesh along the edges of the lids and of the lips' inner sides, from the left to the right of a
/// picture.
const UPPER_LIDS: [[usize; 9]; 2] =
    [[33, 246, 161, 160, 159, 158, 157, 173, 133], [362, 398, 384, 385, 386, 387, 388, 466, 263]];
const LOWER_LIDS: [[usize; 9]; 2] =
    [[33, 7, 163, 144, 145, 153, 154, 155, 133], [362, 382, 381, 380, 374, 373, 390, 249, 263]];
const UPPER_LIP: [usize; 11] = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308];
const LOWER_LIP: [usize; 11] = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308];
/// The lower edges of the brows above the middle of the eyes.
const BROWS: [usize; 2] = [52, 282];
const UNDER_NOSE: usize = 2;
const CHIN: usize = 152;

/// Opening of the mouth at `mouth_open` = 1, in distances between the outer corners of the eyes.
const WIDEST_MOUTH: f32 = 0.42;
/// Share of the opening by which the upper lip rises.
const UPPER_LIP_SHARE: f32 = 0.12;
/// How far the corners of the mouth go outwards and up at `smile` = 1, in the same unit.
const SMILE_OUT: f32 = 0.14;
const SMILE_UP: f32 = 0.135;
/// What is left of an open mouth's arch, above the line between its corners, once it is closed.
const ARCH_LEFT: f32 = 0.3;
/// An opening of the photograph's mouth from which its inside is worth showing.
const INSIDE_SEEN: f32 = 0.06;

/// A place and an upright: local coordinates along the eyes and down the face.
#[derive(Clone, Copy)]
struct Axes {
    origin: [f32; 2],
    cos: f32,
    sin: f32,
}

impl Axes {
    fn local(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (x, y) = (x - self.origin[0], y - self.origin[1]);
        [x * self.cos + y * self.sin, y * self.cos - x * self.sin]
    }

    fn texel(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        [self.origin[0] + u * self.cos - v * self.sin, self.origin[1] + u * self.sin + v * self.cos]
    }
}

/// A box of texels: left, top, right, bottom, the last two not in it.
type Area = [usize; 4];

/// The box around a local rectangle of half the width `wide`, from `up` to `down`.
fn box_around(axes: &Axes, wide: f32, up: f32, down: f32, texture: &Texture) -> Area {
    let corners = [[-wide, up], [wide, up], [-wide, down], [wide, down]].map(|corner| axes.texel(corner));
    let low = |axis: usize| corners.iter().map(|corner| corner[axis]).fold(f32::MAX, f32::min).max(0.0) as usize;
    let high = |axis: usize, side: usize| {
        (corners.iter().map(|corner| corner[axis]).fold(0.0, f32::max).max(0.0) as usize + 1).min(side)
    };
    [low(0), low(1), high(0, texture.width), high(1, texture.height)]
}

/// A curve over the local horizontal, one value for each half texel.
struct Curve {
    /// Half texels left of the origin.
    half: i32,
    values: Vec<f32>,
}

impl Curve {
    /// The line through points sorted by their horizontal, level beyond its ends, its corners rounded over `blur`
    /// texels.
    fn through(points: &[[f32; 2]], wide: f32, blur: f32) -> Self {
        let half = (wide * 2.0) as i32 + 2;
        let at = |u: f32| {
            let after = points.iter().position(|point| point[0] > u).unwrap_or(points.len());
            if after == 0 {
                return points[0][1];
            }
            let Some([right, end]) = points.get(after).copied() else { return points[after - 1][1] };
            let [left, start] = points[after - 1];
            start + (end - start) * (u - left) / (right - left)
        };
        let line: Vec<f32> = (-half..=half).map(|step| at(step as f32 / 2.0)).collect();
        let reach = (blur * 2.0) as usize;
        let mean = |index: usize| {
            let part = &line[index.saturating_sub(reach)..(index + reach + 1).min(line.len())];
            part.iter().sum::<f32>() / part.len() as f32
        };
        Self { half, values: (0..line.len()).map(mean).collect() }
    }

    fn index(&self, u: f32) -> usize {
        let index = (u * 2.0 + self.half as f32 + 0.5) as i32;
        let last = self.values.len() as i32 - 1;
        (if index < 0 {
            0
        } else if index > last {
            last
        } else {
            index
        }) as usize
    }
}

/// 0 below 0, 1 above 1, a smooth step between.
pub fn smooth(share: f32) -> f32 {
    if share <= 0.0 {
        0.0
    } else if share >= 1.0 {
        1.0
    } else {
        share * share * (3.0 - 2.0 * share)
    }
}

/// The lids of one eye.
pub struct Eye {
    axes: Axes,
    area: Area,
    half_width: f32,
    upper: Curve,
    lower: Vec<f32>,
    /// Height of the skin above the lid that makes room for a wider eye.
    skin: f32,
}

impl Eye {
    /// The eye on the left (0) or right (1) side of a picture, from the points of a mesh in texels.
    pub fn new(side: usize, points: &[[f32; 2]], lean: f32, texture: &Texture) -> Self {
        let (first, last) = (points[UPPER_LIDS[side][0]], points[UPPER_LIDS[side][8]]);
        let origin = [(first[0] + last[0]) / 2.0, (first[1] + last[1]) / 2.0];
        let axes = Axes { origin, cos: lean.cos(), sin: lean.sin() };
        let half_width = (last[0] - first[0]).hypot(last[1] - first[1]) / 2.0;
        let wide = half_width * 1.25;
        let lids = [UPPER_LIDS[side], LOWER_LIDS[side]].map(|lid| lid.map(|point| axes.local(points[point])));
        let [upper, lower] = lids.map(|lid| Curve::through(&lid, wide, half_width * 0.1));
        let brow = axes.local(points[BROWS[side]])[1];
        let lid = upper.values[upper.index(0.0)];
        let skin = ((lid - brow) * 0.8).max(half_width * 0.3);
        let area = box_around(&axes, wide, lid - skin - half_width, half_width, texture);
        Self { axes, area, half_width, upper, lower: lower.values, skin }
    }

    /// Draws the eye opened wider, the distance of its lids multiplied by `factor`; that is then where its lids are.
    pub fn widen(&mut self, source: &Texture, into: &mut Texture, factor: f32) {
        let [left, top, right, bottom] = self.area;
        for y in top..bottom {
            for x in left..right {
                let [u, v] = self.axes.local([x as f32, y as f32]);
                let index = self.upper.index(u);
                let (upper, lower) = (self.upper.values[index], self.lower[index]);
                let lash = self.half_width * 0.16;
                // Three quarters of it by the upper lid; the skin beside the lids makes room.
                let more = (lower - upper) * (factor - 1.0) * smooth((1.2 - (u / self.half_width).abs()) * 4.0);
                let (high, low) = (upper - more * 0.75, lower + more * 0.25);
                let shift = if v < high {
                    more * 0.75 * (1.0 - smooth((high - lash - v) / (self.skin - lash)))
                } else if v < low {
                    more * (0.75 - (v - high) / (low - high))
                } else {
                    -more * 0.25 * (1.0 - smooth((v - low - lash) / self.skin))
                };
                let [sx, sy] = self.axes.texel([u, v + shift]);
                into.texels[y * into.width + x] = source.sample(sx, sy);
            }
        }
        for (upper, lower) in self.upper.values.iter_mut().zip(&mut self.lower) {
            let more = (*lower - *upper) * (factor - 1.0);
            *upper -= more * 0.75;
            *lower += more * 0.25;
        }
    }

    /// Draws the eye with its lids closed by a share. The lid is skin from under the eye: above it there may be a brow.
    pub fn draw(&self, source: &Texture, into: &mut Texture, closed: f32) {
        let [left, top, right, bottom] = self.area;
        let lash = self.half_width * 0.16;
        let dark = pack(38, 26, 22);
        // An eye that has hardly begun to close must not differ from an open one.
        let begun = (closed * 4.0).min(1.0);
        let mut y = top;
        while y < bottom {
            let mut x = left;
            while x < right {
                let (dx, dy) = (x as f32 - self.axes.origin[0], y as f32 - self.axes.origin[1]);
                let u = dx * self.axes.cos + dy * self.axes.sin;
                let v = dy * self.axes.cos - dx * self.axes.sin;
                let index = self.upper.index(u);
                let (upper, lower) = (self.upper.values[index] - lash * 0.6, self.lower[index]);
                let edge = upper + (lower + lash * 0.9 - upper) * closed;
                let t = u / self.half_width;
                if t > -1.1 && t < 1.1 && v > upper - lash * 2.5 && v < edge + lash {
                    let [sx, sy] = self.axes.texel([u, lower + lash * 2.5 + (edge - v) * 0.7]);
                    // A lid lies in the shadow of the brow.
                    let skin = mix(source.sample(sx, sy), dark, 220);
                    // The lashes: darkest on the lid's edge, thinner towards the corners.
                    let off = (if v > edge { v - edge } else { (edge - v) * 0.8 }) / (lash * (1.25 - t * t));
                    let line = (1.0 - off) * 1.6 * closed * 2.0;
                    let line = line.clamp(0.0, 0.9);
                    let shaded = mix(dark, skin, (line * 256.0) as u64);
                    // The lid begins softly under the skin above it, and it ends with its lashes.
                    let cover = smooth((v - upper + lash * 2.5) / (lash * 3.5))
                        * smooth((edge + lash * 0.5 - v) / (lash * 0.5));
                    let cover = cover * smooth((1.1 - if t < 0.0 { -t } else { t }) * 6.0) * begun;
                    let at = y * into.width + x;
                    into.texels[at] = mix(shaded, source.texels[at], (cover * 256.0) as u64);
                }
                x += 1;
            }
            y += 1;
        }
    }

    /// The box of texels that [`draw`](Self::draw) writes.
    pub fn area(&self) -> Area {
        self.area
    }
}

/// Lips and jaw.
pub struct Mouth {
    axes: Axes,
    area: Area,
    half_width: f32,
    /// Distance between the outer corners of the eyes in texels.
    span: f32,
    upper: Curve,
    lower: Vec<f32>,
    /// Where closed lips meet: of an open mouth, the upper lip is arched.
    closed: Vec<f32>,
    /// For each column of the curves: height of the opening of lips and of jaw, 1 in the middle, and how a smile pulls
    /// outwards and upwards.
    lips: Vec<f32>,
    jaw: Vec<f32>,
    out: Vec<f32>,
    up: Vec<f32>,
    nose: f32,
    chin: f32,
    inside: bool,
}

impl Mouth {
    /// From the points of a mesh in texels; `span` is the distance between the outer corners of the eyes.
    pub fn new(points: &[[f32; 2]], span: f32, lean: f32, texture: &Texture) -> Self {
        let (first, last) = (points[UPPER_LIP[0]], points[UPPER_LIP[10]]);
        let origin = [(first[0] + last[0]) / 2.0, (first[1] + last[1]) / 2.0];
        let axes = Axes { origin, cos: lean.cos(), sin: lean.sin() };
        let half_width = (last[0] - first[0]).hypot(last[1] - first[1]) / 2.0;
        let wide = half_width * 2.6;
        let lips = [UPPER_LIP, LOWER_LIP].map(|lip| lip.map(|point| axes.local(points[point])));
        let [upper, lower] = lips.map(|lip| Curve::through(&lip, wide, half_width * 0.06));
        let [nose, chin] = [UNDER_NOSE, CHIN].map(|point| axes.local(points[point])[1]);
        let middle = upper.index(0.0);
        let inside = lower.values[middle] - upper.values[middle] > INSIDE_SEEN * span;
        let profile = |shape: &dyn Fn(f32) -> f32| {
            let places = (-upper.half..=upper.half).map(|step| step as f32 / 2.0 / half_width);
            places.map(shape).collect::<Vec<f32>>()
        };
        let window = |t: f32| (1.0 - (t / 2.6).powi(2)).max(0.0).powi(2);
        Self {
            area: box_around(&axes, wide, nose - half_width, chin + span * WIDEST_MOUTH + (chin - nose) * 0.9, texture),
            lips: profile(&|t| (1.0 - t * t).max(0.0).powf(0.6)),
            jaw: profile(&|t| (-t * t / 3.2).exp() * window(t)),
            out: profile(&|t| t * (0.5 - t * t / 2.0).exp() * window(t * 0.8)),
            up: profile(&|t| t * t * (1.0 - t * t).exp() * window(t * 0.8)),
            axes,
            half_width,
            span,
            closed: if inside { upper.values.iter().map(|v| v * ARCH_LEFT).collect() } else { upper.values.clone() },
            upper,
            lower: lower.values,
            nose,
            chin,
            inside,
        }
    }

    /// Draws mouth and chin, opened (0: lips closed, 1: wide) and smiling (0: as in the photograph, 1: broadly).
    pub fn draw(&self, source: &Texture, into: &mut Texture, open: f32, smile: f32) {
        let [left, top, right, bottom] = self.area;
        let gap = open * WIDEST_MOUTH * self.span;
        let (out, up) = (smile * SMILE_OUT * self.span, smile * SMILE_UP * self.span);
        let middle = self.upper.index(0.0);
        let flat = 1.0 - smooth(open * 2.5);
        let (upper, lower) = (self.upper.values[middle], self.lower[middle]);
        let drop = upper + (self.closed[middle] - upper) * flat + gap * (1.0 - UPPER_LIP_SHARE) - lower;
        let (lip_height, neck) = (self.half_width * 0.7, (self.chin - self.nose) * 0.85);
        let (dark, darker) = (pack(62, 24, 24), pack(30, 9, 10));
        // How far a smile reaches up and down from the corners of the mouth.
        let reach = 1.0 / (self.half_width * 1.1);
        let mut y = top;
        while y < bottom {
            let mut x = left;
            while x < right {
                let (dx, dy) = (x as f32 - self.axes.origin[0], y as f32 - self.axes.origin[1]);
                let mut u = dx * self.axes.cos + dy * self.axes.sin;
                let mut v = dy * self.axes.cos - dx * self.axes.sin;
                if smile != 0.0 {
                    let index = self.upper.index(u);
                    let t = v * reach;
                    let near = 1.0 / (1.0 + t * t);
                    let near = near * near * smooth((v - self.nose + self.half_width) * 2.0 * reach);
                    u -= out * self.out[index] * near;
                    v += up * self.up[index] * near;
                }
                let index = self.upper.index(u);
                let (upper, lower) = (self.upper.values[index], self.lower[index]);
                let opening = gap * self.lips[index];
                let upper_edge = upper - opening * UPPER_LIP_SHARE + (self.closed[index] - upper) * flat;
                let lower_edge = upper_edge + opening;
                let mut painted = false;
                let from = if v < upper_edge {
                    let share = (v - self.nose) / (upper_edge - self.nose);
                    v + (upper - upper_edge) * smooth(share)
                } else if v < lower_edge {
                    let share = (v - upper_edge) / (lower_edge - upper_edge);
                    painted = !self.inside;
                    upper + share * (lower - upper)
                } else {
                    // Near the lips the skin follows the lips, further down the jaw, under the chin less and less.
                    let share = smooth((v - lower_edge) / lip_height);
                    let shift = (lower_edge - lower) * (1.0 - share) + drop * self.jaw[index] * share;
                    let below = v - self.chin - if drop > 0.0 { drop } else { 0.0 };
                    v - shift * (1.0 - smooth(below / neck))
                };
                let at = y * into.width + x;
                if painted {
                    let depth = (if v - upper_edge < lower_edge - v { v - upper_edge } else { lower_edge - v }) * 40.0;
                    let inner = mix(darker, dark, if depth > 256.0 { 256 } else { depth as u64 });
                    into.texels[at] = inner;
                } else {
                    let [sx, sy] = self.axes.texel([u, from]);
                    into.texels[at] = source.sample(sx, sy);
                }
                x += 1;
            }
            y += 1;
        }
    }

    /// The box of texels that [`draw`](Self::draw) writes.
    pub fn area(&self) -> Area {
        self.area
    }
}
