//! Affine and perspective maps of the plane, and cutting turned, scaled and slanted crops out of a picture.
//!
//! Called by `face`: an alignment is a similarity between landmarks and a model's template, a box crop is a scaling; and by
//! `document`, whose lines of text are quadrilaterals. All coordinates here are *pixel centres* (pixel `i` lies at `i`, as in
//! OpenCV's `warpAffine`), because the templates and the models were made with that convention. Sources: of the least-squares
//! similarity, Umeyama, "Least-squares estimation of transformation parameters between two point patterns", IEEE TPAMI 13
//! (1991), without its reflections; of the map from a rectangle to a quadrilateral, Heckbert, "Fundamentals of Texture Mapping
//! and Image Warping" (1989), 2.2.3.

use super::Image;

/// Largest side of a box, whose columns then have sums of 16 bits (256 · 255 < 2¹⁶). Reductions by more than 512 skip pixels.
const MAX_BOX_PX: usize = 256;

/// Added to a number between 0 and 2³², it leaves the nearest whole number in the low bits: a conversion that needs no look at each
/// number's range, so that the compiler makes one instruction of several.
const TO_WHOLE: f64 = (1u64 << 52) as f64;

/// An affine map: `x' = m[0][0]·x + m[0][1]·y + m[0][2]`, `y' = m[1][0]·x + m[1][1]·y + m[1][2]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    pub m: [[f64; 3]; 2],
}

impl Affine {
    /// The map that changes nothing.
    pub const IDENTITY: Self = Self { m: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]] };

    /// Where a point goes.
    #[inline(always)]
    pub fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [a, b] = &self.m;
        [a[0] * x + a[1] * y + a[2], b[0] * x + b[1] * y + b[2]]
    }

    /// The map that applies `self` first and `next` to its result.
    pub fn then(&self, next: &Self) -> Self {
        let origin = next.apply([self.m[0][2], self.m[1][2]]);
        let linear =
            |row: usize, column: usize| next.m[row][0] * self.m[0][column] + next.m[row][1] * self.m[1][column];
        Self { m: [[linear(0, 0), linear(0, 1), origin[0]], [linear(1, 0), linear(1, 1), origin[1]]] }
    }

    /// Factor by which areas grow; negative for a map that mirrors.
    pub fn determinant(&self) -> f64 {
        self.m[0][0] * self.m[1][1] - self.m[0][1] * self.m[1][0]
    }

    /// The map that undoes this one. `None` if this one squeezes the plane to a line or a point, or holds numbers that are not
    /// finite.
    pub fn invert(&self) -> Option<Self> {
        let [[a, b, tx], [c, d, ty]] = self.m;
        let scale = 1.0 / self.determinant();
        let inverse = Self {
            m: [[d * scale, -b * scale, (b * ty - d * tx) * scale], [-c * scale, a * scale, (c * tx - a * ty) * scale]],
        };
        inverse.m.iter().flatten().all(|value| value.is_finite()).then_some(inverse)
    }
}

/// A perspective map: `(x', y') = (u / w, v / w)` with `(u, v, w) = m · (x, y, 1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perspective {
    pub m: [[f64; 3]; 3],
}

impl Perspective {
    /// The map that takes the corners `(0, 0)`, `(width, 0)`, `(width, height)` and `(0, height)` of a rectangle to those of
    /// `quad`, in this order. `None` if the rectangle or the quadrilateral has no area, three corners lie on a line, the
    /// quadrilateral is not convex, or a number is not finite.
    pub fn from_rectangle([width, height]: [f64; 2], quad: &[[f64; 2]; 4]) -> Option<Self> {
        let turn = |i: usize| {
            let [a, b, c] = [quad[i], quad[(i + 1) % 4], quad[(i + 2) % 4]];
            (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])
        };
        let turns = [turn(0), turn(1), turn(2), turn(3)];
        // Only a convex quadrilateral turns the same way at each corner; a NaN turns no way.
        if !(turns.iter().all(|&turn| turn > 0.0) || turns.iter().all(|&turn| turn < 0.0)) {
            return None;
        }
        let [p0, p1, p2, p3] = *quad;
        let (dx1, dx2, dx3) = (p1[0] - p2[0], p3[0] - p2[0], p0[0] - p1[0] + p2[0] - p3[0]);
        let (dy1, dy2, dy3) = (p1[1] - p2[1], p3[1] - p2[1], p0[1] - p1[1] + p2[1] - p3[1]);
        let area = dx1 * dy2 - dx2 * dy1;
        let (g, h) = ((dx3 * dy2 - dx2 * dy3) / area, (dx1 * dy3 - dx3 * dy1) / area);
        // From the unit square, then the rectangle scaled to it.
        let m = [
            [(p1[0] - p0[0] + g * p1[0]) / width, (p3[0] - p0[0] + h * p3[0]) / height, p0[0]],
            [(p1[1] - p0[1] + g * p1[1]) / width, (p3[1] - p0[1] + h * p3[1]) / height, p0[1]],
            [g / width, h / height, 1.0],
        ];
        m.iter().flatten().all(|value| value.is_finite()).then_some(Self { m })
    }

    /// Where a point goes; not a number or infinite for points on the horizon.
    #[inline(always)]
    pub fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [u, v, w] = self.m.map(|row| row[0] * x + row[1] * y + row[2]);
        [u / w, v / w]
    }

    /// The map that applies `first`, then `self`, then `last`.
    pub fn between(&self, first: &Affine, last: &Affine) -> Self {
        let whole = |affine: &Affine| [affine.m[0], affine.m[1], [0.0, 0.0, 1.0]];
        let product = |a: &[[f64; 3]; 3], b: &[[f64; 3]; 3]| -> [[f64; 3]; 3] {
            std::array::from_fn(|row| {
                std::array::from_fn(|column| (0..3).map(|i| a[row][i] * b[i][column]).sum::<f64>())
            })
        };
        Self { m: product(&whole(last), &product(&self.m, &whole(first))) }
    }

    /// The map that undoes this one, by its adjugate. `None` if this one squeezes the plane to a line or a point, or holds numbers that are
    /// not finite.
    pub fn invert(&self) -> Option<Self> {
        let [[a, b, c], [d, e, f], [g, h, i]] = self.m;
        let m = [
            [e * i - f * h, c * h - b * i, b * f - c * e],
            [f * g - d * i, a * i - c * g, c * d - a * f],
            [d * h - e * g, b * g - a * h, a * e - b * d],
        ];
        let determinant = a * m[0][0] + b * m[1][0] + c * m[2][0];
        (determinant.is_finite() && determinant.abs() > f64::MIN_POSITIVE).then_some(Self { m })
    }

    /// For [`warp`], which counts in pixel centres: the same map of a map between pixel areas.
    pub fn in_pixel_centres(&self) -> Self {
        let shift = |by: f64| Affine { m: [[1.0, 0.0, by], [0.0, 1.0, by]] };
        self.between(&shift(0.5), &shift(-0.5))
    }
}

/// What [`warp`] asks of a map from the crop to the source.
pub trait CropMap: Sized {
    /// Where a point of the crop lies in the source.
    fn locate(&self, point: [f64; 2]) -> [f64; 2];
    /// Source pixels per crop pixel along a line, about the middle of a crop of `[width, height]` pixels.
    fn reduction(&self, size: [u32; 2]) -> f64;
    /// The map followed by `next`.
    fn followed_by(&self, next: &Affine) -> Self;
}

impl CropMap for Affine {
    #[inline(always)]
    fn locate(&self, point: [f64; 2]) -> [f64; 2] {
        self.apply(point)
    }

    fn reduction(&self, _size: [u32; 2]) -> f64 {
        self.determinant().abs().sqrt()
    }

    fn followed_by(&self, next: &Affine) -> Self {
        self.then(next)
    }
}

impl CropMap for Perspective {
    #[inline(always)]
    fn locate(&self, point: [f64; 2]) -> [f64; 2] {
        self.apply(point)
    }

    fn reduction(&self, [width, height]: [u32; 2]) -> f64 {
        let [x, y] = [width, height].map(|side| f64::from(side) / 2.0);
        let [from, right, below] = [[x, y], [x + 1.0, y], [x, y + 1.0]].map(|point| self.apply(point));
        let [a, b] = [right[0] - from[0], right[1] - from[1]];
        let [c, d] = [below[0] - from[0], below[1] - from[1]];
        (a * d - b * c).abs().sqrt()
    }

    fn followed_by(&self, next: &Affine) -> Self {
        self.between(&Affine::IDENTITY, next)
    }
}

/// The turning, uniform scaling and shift that brings `src` closest to `dst` in the sum of squared distances. Points with one
/// index belong together. `None` if there are no points, the counts differ, all of `src` coincide, or a number is not finite.
pub fn similarity_from_points(src: &[[f64; 2]], dst: &[[f64; 2]]) -> Option<Affine> {
    if src.is_empty() || src.len() != dst.len() {
        return None;
    }
    let mean = |points: &[[f64; 2]]| {
        let sum = points.iter().fold([0.0, 0.0], |sum, point| [sum[0] + point[0], sum[1] + point[1]]);
        [sum[0] / points.len() as f64, sum[1] / points.len() as f64]
    };
    let (src_mean, dst_mean) = (mean(src), mean(dst));
    // As complex numbers the map is dst = z · src + t, and least squares gives z = Σ conj(a)·b / Σ |a|² for centred a and b.
    let (mut real, mut imaginary, mut norm) = (0.0, 0.0, 0.0);
    for (s, d) in src.iter().zip(dst) {
        let a = [s[0] - src_mean[0], s[1] - src_mean[1]];
        let b = [d[0] - dst_mean[0], d[1] - dst_mean[1]];
        real += a[0] * b[0] + a[1] * b[1];
        imaginary += a[0] * b[1] - a[1] * b[0];
        norm += a[0] * a[0] + a[1] * a[1];
    }
    let (p, q) = (real / norm, imaginary / norm);
    let shift = [dst_mean[0] - p * src_mean[0] + q * src_mean[1], dst_mean[1] - q * src_mean[0] - p * src_mean[1]];
    let affine = Affine { m: [[p, -q, shift[0]], [q, p, shift[1]]] };
    affine.m.iter().flatten().all(|value| value.is_finite()).then_some(affine)
}

/// How [`warp`] reads the source where the crop is smaller than what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sampling {
    /// Averages over about the area of a crop pixel: no aliasing.
    #[default]
    Area,
    /// The four nearest pixels whatever the scale, as OpenCV's `INTER_LINEAR`; for models that were trained on such crops.
    Bilinear,
}

/// Cuts a crop of `[width, height]` pixels out of `source`. `dst_to_src` maps pixel centres of the crop to pixel centres of
/// the source. Outside the source its nearest border pixel is repeated.
///
/// With [`Sampling::Area`] and a reduction by `s` (square root of the growth of areas, in the middle of the crop) above 1, each crop pixel is the mean of
/// 2 × 2 bilinear readings; above 3 the part of the source that is seen is first averaged over boxes of `round(s / 2)` pixels,
/// so that the readings lie half a pixel to one and a half pixels apart. The work is bounded by the size of the source and of
/// the crop, whatever the map.
///
/// # Panics
/// If the source has no pixels.
pub fn warp(source: &Image, dst_to_src: &impl CropMap, [width, height]: [u32; 2], sampling: Sampling) -> Image {
    assert!(source.width > 0 && source.height > 0, "cutting out of nothing");
    let reduction = dst_to_src.reduction([width, height]);
    let averages = sampling == Sampling::Area && reduction > 1.0;
    let box_px = if averages { (reduction / 2.0).round() as usize } else { 1 };
    let box_px = box_px.min(MAX_BOX_PX).min(source.width.max(source.height) as usize);
    if box_px <= 1 {
        let whole = Level {
            rgb: &source.rgb,
            left: 0,
            top: 0,
            columns: source.width as usize,
            rows: source.height as usize,
            max_x: f64::from(source.width - 1),
            max_y: f64::from(source.height - 1),
        };
        return if averages {
            Image::build(width, height, |rgb| sample::<2>(&whole, dst_to_src, width as usize, rgb))
        } else {
            Image::build(width, height, |rgb| sample::<1>(&whole, dst_to_src, width as usize, rgb))
        };
    }

    // Box (i, j) covers the source pixels from i · box_px on, so its centre lies at i · box_px + (box_px − 1) / 2.
    let k = box_px as f64;
    let to_level = Affine { m: [[1.0 / k, 0.0, (1.0 - k) / (2.0 * k)], [0.0, 1.0 / k, (1.0 - k) / (2.0 * k)]] };
    let dst_to_level = dst_to_src.followed_by(&to_level);
    // The outermost readings lie a quarter of a crop pixel beyond the outermost centres.
    let (right, bottom) = (f64::from(width) - 0.75, f64::from(height) - 0.75);
    let corners = [[-0.25, -0.25], [right, -0.25], [-0.25, bottom], [right, bottom]];
    let corners = corners.map(|corner| dst_to_level.locate(corner));
    // The range of boxes that the crop sees along one axis, cut to those that exist.
    let seen = |axis: usize, side: u32| {
        let last = (side as usize).div_ceil(box_px) - 1;
        let low = corners.iter().map(|corner| corner[axis]).fold(f64::INFINITY, f64::min);
        let high = corners.iter().map(|corner| corner[axis]).fold(f64::NEG_INFINITY, f64::max);
        // Casts of f64 saturate, and a number that is not one becomes 0.
        let first = (low.floor() as usize).min(last);
        let end = (high.floor() as usize).saturating_add(1).min(last).max(first);
        (first, end - first + 1, last as f64)
    };
    let ((left, columns, max_x), (top, rows, max_y)) = (seen(0, source.width), seen(1, source.height));
    let averaged = average_boxes(source, box_px, [left, top], [columns, rows]);
    let level = Level { rgb: &averaged, left, top, columns, rows, max_x, max_y };
    Image::build(width, height, |rgb| sample::<2>(&level, &dst_to_level, width as usize, rgb))
}

/// A grid of RGB pixels of which a window `[rows, columns, 3]` from (`left`, `top`) on is at hand; the whole grid reaches from 0
/// to (`max_x`, `max_y`).
struct Level<'a> {
    rgb: &'a [u8],
    left: usize,
    top: usize,
    columns: usize,
    rows: usize,
    max_x: f64,
    max_y: f64,
}

/// Averages `size` boxes of `box_px × box_px` pixels from box `first` on; the last ones may be cut off by the border.
fn average_boxes(source: &Image, box_px: usize, first: [usize; 2], size: [usize; 2]) -> Vec<u8> {
    let mut averaged = vec![0; size[0] * size[1] * 3];
    // Told apart by size because the compiler unrolls what it knows.
    match box_px {
        2 => write_boxes::<2>(source, box_px, first, &mut averaged, size[0]),
        3 => write_boxes::<3>(source, box_px, first, &mut averaged, size[0]),
        4 => write_boxes::<4>(source, box_px, first, &mut averaged, size[0]),
        _ => write_boxes::<0>(source, box_px, first, &mut averaged, size[0]),
    }
    averaged
}

/// Writes rows of `width` averages. `KNOWN` is `box_px`, or 0 for any. With the wider registers of AVX2 it takes half the time and gives the same.
fn write_boxes<const KNOWN: usize>(source: &Image, box_px: usize, first: [usize; 2], out: &mut [u8], width: usize) {
    #[cfg(target_arch = "x86_64")]
    if has_wide_registers() {
        #[target_feature(enable = "avx2,bmi2")]
        fn wide<const KNOWN: usize>(source: &Image, box_px: usize, first: [usize; 2], out: &mut [u8], width: usize) {
            write_boxes_anywhere::<KNOWN>(source, box_px, first, out, width);
        }
        // SAFETY: this processor has what the function was compiled for.
        return unsafe { wide::<KNOWN>(source, box_px, first, out, width) };
    }
    write_boxes_anywhere::<KNOWN>(source, box_px, first, out, width);
}

#[inline(always)]
fn write_boxes_anywhere<const KNOWN: usize>(
    source: &Image,
    box_px: usize,
    first: [usize; 2],
    out: &mut [u8],
    width: usize,
) {
    let box_px = if KNOWN == 0 { box_px } else { KNOWN };
    let (source_width, source_height) = (source.width as usize, source.height as usize);
    let (start_x, end_x) = (first[0] * box_px, ((first[0] + width) * box_px).min(source_width));
    let seen_px = end_x - start_x;
    let mut column_sums = vec![0u16; seen_px * 3];
    let mut box_sums = vec![0i32; width * 3];
    for (box_y, out) in (first[1]..).zip(out.chunks_exact_mut(width * 3)) {
        let (start_y, end_y) = (box_y * box_px, ((box_y + 1) * box_px).min(source_height));
        column_sums.fill(0);
        for y in start_y..end_y {
            let row = &source.rgb[(y * source_width + start_x) * 3..(y * source_width + end_x) * 3];
            for (sum, value) in column_sums.iter_mut().zip(row) {
                *sum += u16::from(*value);
            }
        }
        for (sum, columns) in box_sums.chunks_exact_mut(3).zip(column_sums.chunks(box_px * 3)) {
            sum.fill(0);
            for column in columns.chunks_exact(3) {
                for (sum, value) in sum.iter_mut().zip(column) {
                    *sum += i32::from(*value);
                }
            }
        }
        // The last box may have fewer columns.
        let (whole, rows) = (seen_px / box_px * 3, end_y - start_y);
        write_means(&mut out[..whole], &box_sums[..whole], box_px * rows);
        write_means(&mut out[whole..], &box_sums[whole..], seen_px % box_px * rows);
    }
}

/// Writes `sums / count`, halves rounded up. There are no sums where `count` is 0.
#[inline(always)]
fn write_means(means: &mut [u8], sums: &[i32], count: usize) {
    // A quarter in the numerator keeps the quotient away from whole numbers, so that its error of 2⁻⁵³ cannot reach the next one.
    let (half, inverse) = ((count / 2) as f64 + 0.25, 1.0 / count as f64);
    for (mean, sum) in means.iter_mut().zip(sums) {
        *mean = ((f64::from(*sum) + half) * inverse - 0.5 + TO_WHOLE).to_bits() as u8;
    }
}

/// Writes a crop with rows of `width` pixels. Each is the mean of `N × N` bilinear readings of `level` at `dst_to_level`, spread
/// evenly over the crop pixel; `N` is 1 or 2. With the wider registers of AVX2 it takes half the time and gives the same.
fn sample<const N: usize>(level: &Level, dst_to_level: &impl CropMap, width: usize, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if has_wide_registers() {
        #[target_feature(enable = "avx2,bmi2")]
        fn wide<const N: usize>(level: &Level, dst_to_level: &impl CropMap, width: usize, out: &mut [u8]) {
            sample_anywhere::<N>(level, dst_to_level, width, out);
        }
        // SAFETY: this processor has what the function was compiled for.
        return unsafe { wide::<N>(level, dst_to_level, width, out) };
    }
    sample_anywhere::<N>(level, dst_to_level, width, out);
}

#[cfg(target_arch = "x86_64")]
fn has_wide_registers() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("bmi2")
}

#[inline(always)]
fn sample_anywhere<const N: usize>(level: &Level, dst_to_level: &impl CropMap, width: usize, out: &mut [u8]) {
    // Weights are whole numbers of 1/1024: four sums of 255 · 2²⁰ fit into 32 bits, and the error stays below a quarter of a
    // grey step.
    const BITS: u32 = 10;
    const ONE: u32 = 1 << BITS;
    // Pixels of a row whose places are computed at once, without a branch, before any of them is read.
    const RUN: usize = 64;

    /// The part at hand of one axis.
    struct Axis {
        first: f64,
        last: f64,
        /// The last pixel that has another after it, so that two can always be read.
        last_before: u32,
        /// Bytes from a pixel to the next.
        step: usize,
    }
    let axis = |first: usize, count: usize, max: f64, step: usize| Axis {
        first: first as f64,
        last: ((first + count - 1) as f64).min(max),
        last_before: count.saturating_sub(2) as u32,
        step: if count > 1 { step } else { 0 },
    };
    let across = axis(level.left, level.columns, level.max_x, 3);
    let down = axis(level.top, level.rows, level.max_y, level.columns * 3);
    // Splits a coordinate into the pixel before it and the weight of the pixel after that. What is not a number counts as the first.
    let split = |coordinate: f64, axis: &Axis| {
        let inside = if coordinate > axis.first { coordinate } else { axis.first };
        let inside = if inside < axis.last { inside } else { axis.last };
        let fixed = ((inside - axis.first) * f64::from(ONE) + TO_WHOLE).to_bits() as u32;
        let before = (fixed >> BITS).min(axis.last_before);
        [before, fixed - (before << BITS)]
    };
    let offset = |index: usize| (index as f64 + 0.5) / N as f64 - 0.5;
    // Red in the lower 32 bits and green in the upper ones.
    let red_green = |pixel: &[u8]| {
        let both = u64::from(u16::from_le_bytes([pixel[0], pixel[1]]));
        (both | both << 24) & 0xff_0000_00ff
    };
    for (y, row) in out.chunks_exact_mut(width.max(1) * 3).enumerate() {
        for (run, pixels) in row.chunks_mut(RUN * 3).enumerate() {
            let mut sums = [(0u64, 0u32); RUN];
            for reading in 0..N * N {
                let (first_x, y) = ((run * RUN) as f64 + offset(reading % N), y as f64 + offset(reading / N));
                let (mut columns, mut rows) = ([[0; RUN]; 2], [[0; RUN]; 2]);
                for i in 0..RUN {
                    let [x, y] = dst_to_level.locate([first_x + i as f64, y]);
                    [columns[0][i], columns[1][i]] = split(x, &across);
                    [rows[0][i], rows[1][i]] = split(y, &down);
                }
                for (i, (red_green_sum, blue_sum)) in sums.iter_mut().enumerate().take(pixels.len() / 3) {
                    let at = rows[0][i] as usize * level.columns * 3 + columns[0][i] as usize * 3;
                    let upper = &level.rgb[at..at + across.step + 3];
                    let lower = &level.rgb[at + down.step..at + down.step + across.step + 3];
                    let (wx, wy) = (columns[1][i], rows[1][i]);
                    let read = [
                        (&upper[..3], (ONE - wx) * (ONE - wy)),
                        (&upper[across.step..], wx * (ONE - wy)),
                        (&lower[..3], (ONE - wx) * wy),
                        (&lower[across.step..], wx * wy),
                    ];
                    for (pixel, weight) in read {
                        *red_green_sum += red_green(pixel) * u64::from(weight);
                        *blue_sum += u32::from(pixel[2]) * weight;
                    }
                }
            }
            // Readings are 1 or 4, so that dividing is shifting.
            let shift = 2 * BITS + (N * N).ilog2();
            let mean = |sum: u32| ((sum + (1 << (shift - 1))) >> shift) as u8;
            for (pixel, (red_green, blue)) in pixels.chunks_exact_mut(3).zip(sums) {
                pixel.copy_from_slice(&[mean(red_green as u32), mean((red_green >> 32) as u32), mean(blue)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A smooth picture with detail of about `period` pixels.
    fn waves(width: u32, height: u32, period: f64) -> Image {
        Image::build(width, height, |rgb| {
            for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                let (x, y) = ((i % width as usize) as f64, (i / width as usize) as f64);
                for (channel, byte) in pixel.iter_mut().enumerate() {
                    let phase = (x * 0.8 + y * 0.6 + x * y * 0.001) / period * std::f64::consts::TAU + channel as f64;
                    *byte = (127.5 + 120.0 * phase.sin()).round() as u8;
                }
            }
        })
    }

    fn similarity(scale: f64, degrees: f64, shift: [f64; 2]) -> Affine {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Affine { m: [[scale * cos, -scale * sin, shift[0]], [scale * sin, scale * cos, shift[1]]] }
    }

    /// Bilinear reading in plain f64, border repeated.
    fn bilinear(source: &Image, [x, y]: [f64; 2]) -> [f64; 3] {
        let (max_x, max_y) = (f64::from(source.width - 1), f64::from(source.height - 1));
        let (x, y) = (x.clamp(0.0, max_x), y.clamp(0.0, max_y));
        let (x0, y0) = (x.floor(), y.floor());
        let at = |x: f64, y: f64| source.pixel(x.min(max_x) as u32, y.min(max_y) as u32).map(f64::from);
        let mix = |a: [f64; 3], b: [f64; 3], t: f64| std::array::from_fn(|i| a[i] * (1.0 - t) + b[i] * t);
        let top = mix(at(x0, y0), at(x0 + 1.0, y0), x - x0);
        let bottom = mix(at(x0, y0 + 1.0), at(x0 + 1.0, y0 + 1.0), x - x0);
        mix(top, bottom, y - y0)
    }

    /// The exact way to avoid aliasing, at the cost of 16 × 16 readings for each crop pixel.
    fn supersampled(source: &Image, map: &Affine, x: u32, y: u32) -> [f64; 3] {
        const N: i32 = 16;
        let mut sum = [0.0; 3];
        for i in 0..N * N {
            let offset = |i: i32| (f64::from(i) + 0.5) / f64::from(N) - 0.5;
            let point = map.apply([f64::from(x) + offset(i % N), f64::from(y) + offset(i / N)]);
            let value = bilinear(source, point);
            sum = std::array::from_fn(|channel| sum[channel] + value[channel] / f64::from(N * N));
        }
        sum
    }

    #[test]
    fn bilinear_sampling_agrees_with_a_plain_reference() {
        let source = waves(61, 47, 9.0);
        for map in [Affine::IDENTITY, similarity(0.37, 20.0, [3.3, -4.1]), similarity(1.2, -130.0, [55.0, 40.5])] {
            let crop = warp(&source, &map, [40, 30], Sampling::Bilinear);
            for y in 0..30 {
                for x in 0..40 {
                    let expected = bilinear(&source, map.apply([x.into(), y.into()]));
                    for (channel, expected) in expected.into_iter().enumerate() {
                        let got = f64::from(crop.pixel(x, y)[channel]);
                        assert!((got - expected).abs() <= 0.75, "{map:?} {x},{y}: {got} for {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn area_sampling_is_close_to_the_exact_average_at_any_reduction() {
        // Waves of about six crop pixels and 240 grey steps.
        for scale in [1.01, 1.4, 1.6, 2.0, 2.5, 2.9, 3.3, 5.0, 7.7] {
            let source = waves(440, 440, 9.0 * scale);
            let map = similarity(scale, 15.0, [90.0, 20.0]);
            let crop = warp(&source, &map, [40, 40], Sampling::Area);
            let (mut worst, mut sum) = (0.0f64, 0.0);
            for y in 0..40 {
                for x in 0..40 {
                    for (channel, expected) in supersampled(&source, &map, x, y).into_iter().enumerate() {
                        let error = (f64::from(crop.pixel(x, y)[channel]) - expected).abs();
                        worst = worst.max(error);
                        sum += error / 4800.0;
                    }
                }
            }
            assert!(worst <= 6.0 && sum <= 2.5, "reduction {scale}: worst {worst:.2}, mean {sum:.2}");
        }
    }

    #[test]
    fn a_fine_checkerboard_becomes_grey_and_does_not_alias() {
        let source = Image::build(512, 512, |rgb| {
            for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                pixel.fill(255 * ((i % 512 + i / 512) % 2) as u8);
            }
        });
        let crop = warp(&source, &similarity(4.3, 7.0, [30.0, 10.0]), [80, 80], Sampling::Area);
        assert!(crop.rgb.iter().all(|value| (112..=144).contains(value)));
    }

    #[test]
    fn a_whole_reduction_averages_exactly_the_boxes() {
        let source = waves(64, 48, 5.0);
        // Crop pixel i shows the source pixels 4i..4i + 4, whose centre lies at 4i + 1.5: the mean of four boxes of 2 × 2.
        let crop = warp(&source, &Affine { m: [[4.0, 0.0, 1.5], [0.0, 4.0, 1.5]] }, [16, 12], Sampling::Area);
        for (x, y) in [(0, 0), (15, 11), (7, 3)] {
            let sum: u32 = (0..16).map(|i| u32::from(source.pixel(x * 4 + i % 4, y * 4 + i / 4)[0])).sum();
            assert!((f64::from(crop.pixel(x, y)[0]) - f64::from(sum) / 16.0).abs() <= 1.0);
        }
    }

    #[test]
    fn outside_the_source_the_border_is_repeated() {
        let source = waves(50, 40, 11.0);
        for (scale, sampling) in [(1.0, Sampling::Bilinear), (1.0, Sampling::Area), (5.0, Sampling::Area)] {
            let far = warp(&source, &similarity(scale, 0.0, [-5000.0, -5000.0]), [6, 6], sampling);
            assert!(far.rgb.chunks_exact(3).all(|pixel| pixel == &far.rgb[..3]));
        }
        let far = warp(&source, &similarity(1.0, 0.0, [900.0, 900.0]), [6, 6], Sampling::Area);
        assert_eq!(far.pixel(3, 3), source.pixel(49, 39));
    }

    #[test]
    fn hopeless_maps_give_a_picture_and_no_panic() {
        let source = waves(50, 40, 11.0);
        for value in [0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300] {
            for sampling in [Sampling::Area, Sampling::Bilinear] {
                let crop = warp(&source, &Affine { m: [[value; 3]; 2] }, [5, 5], sampling);
                assert_eq!((crop.width, crop.height, crop.rgb.len()), (5, 5, 75));
                warp(&source, &Affine { m: [[value, 0.0, 1.0], [0.0, value, 1.0]] }, [5, 5], sampling);
            }
        }
    }

    #[test]
    fn a_rectangle_goes_to_a_quadrilateral_corner_by_corner() {
        let quad = [[12.0, 7.0], [90.0, 15.0], [80.0, 60.0], [5.0, 44.0]];
        let map = Perspective::from_rectangle([40.0, 10.0], &quad).expect("convex");
        for (corner, expected) in [[0.0, 0.0], [40.0, 0.0], [40.0, 10.0], [0.0, 10.0]].into_iter().zip(quad) {
            assert!(close(map.apply(corner), expected), "{corner:?}");
        }
        // The diagonals meet where the middle of the rectangle goes.
        let middle = map.apply([20.0, 5.0]);
        let on_line =
            |a: [f64; 2], b: [f64; 2]| (b[0] - a[0]) * (middle[1] - a[1]) - (b[1] - a[1]) * (middle[0] - a[0]);
        assert!(on_line(quad[0], quad[2]).abs() < 1e-6 && on_line(quad[1], quad[3]).abs() < 1e-6);
        let mut crossed = quad;
        crossed.swap(2, 3);
        for (size, hopeless) in [
            ([40.0, 10.0], crossed),
            ([40.0, 10.0], [quad[0]; 4]),
            ([40.0, 10.0], [[f64::NAN; 2]; 4]),
            ([0.0, 10.0], quad),
            ([40.0, 10.0], [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 5.0]]),
        ] {
            assert_eq!(Perspective::from_rectangle(size, &hopeless), None, "{hopeless:?}");
        }
    }

    #[test]
    fn a_perspective_map_without_perspective_cuts_the_same_crop_as_the_affine_one() {
        let source = waves(200, 160, 13.0);
        for scale in [0.8, 2.2, 5.0] {
            let affine = similarity(scale, 12.0, [30.0, 8.0]);
            let quad = [[0.0, 0.0], [30.0, 0.0], [30.0, 20.0], [0.0, 20.0]].map(|corner| affine.apply(corner));
            let map = Perspective::from_rectangle([30.0, 20.0], &quad).expect("convex");
            let (a, b) =
                (warp(&source, &affine, [30, 20], Sampling::Area), warp(&source, &map, [30, 20], Sampling::Area));
            let worst = a.rgb.iter().zip(b.rgb.iter()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(1), "scale {scale}: {worst:?}");
        }
    }

    #[test]
    fn five_points_on_a_template_give_the_similarity_between_them() {
        let template =
            [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]];
        let known = similarity(3.7, 33.0, [210.0, -40.0]);
        let found =
            similarity_from_points(&template, &template.map(|point| known.apply(point))).expect("distinct points");
        for (found, known) in found.m.iter().flatten().zip(known.m.iter().flatten()) {
            assert!((found - known).abs() < 1e-9);
        }
    }

    #[test]
    fn points_that_say_nothing_give_no_similarity() {
        assert_eq!(similarity_from_points(&[], &[]), None);
        assert_eq!(similarity_from_points(&[[1.0, 2.0]; 5], &[[3.0, 4.0]; 5]), None);
        assert_eq!(similarity_from_points(&[[1.0, 2.0], [f64::NAN, 1.0]], &[[3.0, 4.0], [0.0, 0.0]]), None);
        assert_eq!(similarity_from_points(&[[1.0, 2.0]], &[[3.0, 4.0], [0.0, 0.0]]), None);
        assert_eq!(Affine { m: [[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]] }.invert(), None);
    }

    fn close(a: [f64; 2], b: [f64; 2]) -> bool {
        (a[0] - b[0]).abs() < 1e-6 && (a[1] - b[1]).abs() < 1e-6
    }

    proptest! {
        #[test]
        fn inverting_and_composing_undo_each_other(
            scale in 0.05f64..20.0, degrees in -180.0f64..180.0, shift in prop::array::uniform2(-1e3f64..1e3), point in prop::array::uniform2(-1e3f64..1e3),
        ) {
            let map = similarity(scale, degrees, shift);
            let back = map.invert().expect("a similarity can be undone");
            prop_assert!(close(back.apply(map.apply(point)), point));
            prop_assert!(close(map.then(&back).apply(point), point));
            let other = similarity(1.3, 40.0, [5.0, 6.0]);
            prop_assert!(close(map.then(&other).apply(point), other.apply(map.apply(point))));
        }

        #[test]
        fn no_other_similarity_fits_noisy_points_better(
            points in prop::collection::vec((prop::array::uniform2(-50.0f64..50.0), prop::array::uniform2(-50.0f64..50.0)), 3..8),
            nudge in prop::array::uniform4(-0.05f64..0.05),
        ) {
            let (src, dst): (Vec<_>, Vec<_>) = points.into_iter().unzip();
            prop_assume!(src.iter().any(|point| !close(*point, src[0])));
            let best = similarity_from_points(&src, &dst).expect("distinct points");
            let cost = |map: &Affine| -> f64 {
                src.iter().zip(&dst).map(|(s, d)| { let m = map.apply(*s); (m[0] - d[0]).powi(2) + (m[1] - d[1]).powi(2) }).sum()
            };
            let [[p, _, tx], [q, _, ty]] = best.m;
            let (p, q) = (p + nudge[0], q + nudge[1]);
            let other = Affine { m: [[p, -q, tx + nudge[2]], [q, p, ty + nudge[3]]] };
            prop_assert!(cost(&best) <= cost(&other) + 1e-9);
        }
    }
}
