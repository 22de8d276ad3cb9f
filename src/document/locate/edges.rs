//! Edges of a small picture, and the straight lines that they lie on.
//!
//! Called by `locate` with the small picture; `quads` reads the lines. A line is known by its support: at each of its pixels whether
//! an edge runs along it there, and by how much the colours on its two sides differ.

use crate::imaging::Image;

/// Gradients below this (grey levels per pixel, of the smoothed picture) are noise of the sensor or of the JPEG coding.
const MIN_GRADIENT: f32 = 1.6;

/// Pixels join a segment while their gradient lies within this angle of its mean: 22.5°, as in LSD.
const ANGLE_TOLERANCE_COS: f32 = 0.924;

/// Shortest segment, in pixels.
const MIN_SEGMENT_PX: f32 = 14.0;

/// Lines kept, longest support first. Quadrilaterals are tried in number about as its third power.
const MAX_LINES: usize = 96;

/// Of these, lines in one sector of 15°: stripes and lines of text bring hundreds that would leave no room for others.
const MAX_LINES_PER_SECTOR: usize = 22;
const SECTORS: usize = 12;

/// Distance on each side of a line at which colours are compared, in pixels: beyond the blur of the edge itself.
const SIDE_OFFSET_PX: f32 = 3.0;

/// The small picture in three channels, smoothed, with the strongest gradient among them at each pixel. Coordinates are pixel
/// centres.
pub(super) struct Field {
    pub width: usize,
    pub height: usize,
    /// Luma, red against green, blue against yellow, in grey levels.
    pub channels: [Vec<f32>; 3],
    gradient: Vec<[f32; 2]>,
    magnitude: Vec<f32>,
}

impl Field {
    pub fn new(image: &Image) -> Self {
        let (width, height) = (image.width as usize, image.height as usize);
        let channel = |weigh: fn(f32, f32, f32) -> f32| {
            let plane = image.rgb.chunks_exact(3).map(|p| weigh(f32::from(p[0]), f32::from(p[1]), f32::from(p[2])));
            smooth(plane.collect(), width, height)
        };
        let channels = [
            channel(|r, g, b| 0.299 * r + 0.587 * g + 0.114 * b),
            channel(|r, g, _| 0.7 * (r - g)),
            channel(|r, g, b| 0.7 * (b - 0.5 * (r + g))),
        ];
        let mut gradient = vec![[0.0; 2]; width * height];
        let mut magnitude = vec![0.0; width * height];
        for y in 1..height.saturating_sub(1) {
            for x in 1..width.saturating_sub(1) {
                let at = y * width + x;
                let mut best = 0.0;
                for plane in &channels {
                    let g = [(plane[at + 1] - plane[at - 1]) / 2.0, (plane[at + width] - plane[at - width]) / 2.0];
                    let square = g[0] * g[0] + g[1] * g[1];
                    if square > best {
                        best = square;
                        gradient[at] = g;
                    }
                }
                magnitude[at] = best.sqrt();
            }
        }
        Self { width, height, channels, gradient, magnitude }
    }

    /// Whether there is an edge at a pixel.
    pub fn has_edge(&self, at: usize) -> bool {
        self.magnitude[at] > 2.0 * MIN_GRADIENT
    }

    /// Share of the stretch between two points with an edge along it, without its ends.
    pub fn covered(&self, from: [f32; 2], to: [f32; 2]) -> f32 {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let length = dx.hypot(dy).max(1.0);
        let normal = [-dy / length, dx / length];
        let count = (length / 1.5) as usize;
        let mut covered = 0;
        for k in 0..count {
            let t = 0.07 + 0.86 * (k as f32 + 0.5) / count as f32;
            let Some(at) = self.index(from[0] + dx * t, from[1] + dy * t) else { continue };
            let [gx, gy] = self.gradient[at];
            let across = (gx * normal[0] + gy * normal[1]).abs();
            covered +=
                usize::from(self.magnitude[at] > MIN_GRADIENT && across > ANGLE_TOLERANCE_COS * self.magnitude[at]);
        }
        covered as f32 / count.max(1) as f32
    }

    /// Index of the pixel nearest to a point, or `None` outside the picture.
    pub fn index(&self, x: f32, y: f32) -> Option<usize> {
        let (x, y) = (x.round(), y.round());
        (x >= 0.0 && y >= 0.0 && x < self.width as f32 && y < self.height as f32)
            .then(|| y as usize * self.width + x as usize)
    }
}

/// Binomial filter of five taps in both directions: a Gaussian of one pixel.
fn smooth(plane: Vec<f32>, width: usize, height: usize) -> Vec<f32> {
    let mut rows = plane.clone();
    for (row, out) in plane.chunks_exact(width).zip(rows.chunks_exact_mut(width)) {
        for x in 2..width.saturating_sub(2) {
            out[x] = (row[x - 2] + row[x + 2] + 4.0 * (row[x - 1] + row[x + 1]) + 6.0 * row[x]) / 16.0;
        }
    }
    let mut out = rows.clone();
    for y in 2..height.saturating_sub(2) {
        let line = |dy: usize| &rows[(y + dy - 2) * width..(y + dy - 1) * width];
        let (a, b, c, d, e) = (line(0), line(1), line(2), line(3), line(4));
        for (x, value) in out[y * width..(y + 1) * width].iter_mut().enumerate() {
            *value = (a[x] + e[x] + 4.0 * (b[x] + d[x]) + 6.0 * c[x]) / 16.0;
        }
    }
    out
}

/// A straight piece of an edge.
struct Segment {
    ends: [[f32; 2]; 2],
    length: f32,
}

/// A line across the picture: the points with `normal · p = offset`.
pub(super) struct Line {
    pub normal: [f32; 2],
    pub offset: f32,
    /// Positions along the line (`along · p`) at which it enters the picture, and its samples, one per pixel from there.
    start: f32,
    samples: usize,
    /// Sums up to each sample: of samples with an edge along the line, and of the difference of the colours (side of the normal
    /// minus other side) in three channels, and of its size.
    covered: Vec<f32>,
    peaked: Vec<f32>,
    difference: Vec<[f32; 3]>,
    size: Vec<f32>,
    /// A border of the picture rather than an edge in it.
    pub is_border: bool,
}

/// What is known of a stretch of a line.
#[derive(Clone, Copy, Default)]
pub(super) struct Support {
    /// Share of the stretch with an edge along it, 0..=1.
    pub covered: f32,
    /// The same, of edges that are steeper than what lies three pixels beside them.
    pub peaked: f32,
    /// Mean size of the difference of colours across it, in grey levels.
    pub contrast: f32,
    /// How much that difference is the same all along, 0..=1.
    pub constancy: f32,
}

impl Line {
    fn along(&self) -> [f32; 2] {
        [self.normal[1], -self.normal[0]]
    }

    /// Position of a point along the line.
    pub fn position(&self, [x, y]: [f32; 2]) -> f32 {
        let [u, v] = self.along();
        u * x + v * y
    }

    /// Where two lines meet; `None` if they are nearly parallel.
    pub fn meet(&self, other: &Self) -> Option<[f32; 2]> {
        let determinant = self.normal[0] * other.normal[1] - self.normal[1] * other.normal[0];
        (determinant.abs() > 0.3).then(|| {
            [
                (self.offset * other.normal[1] - other.offset * self.normal[1]) / determinant,
                (self.normal[0] * other.offset - other.normal[0] * self.offset) / determinant,
            ]
        })
    }

    /// Share of the stretch between two positions with an edge along it, 0..=1.
    pub fn covered(&self, from: f32, to: f32) -> f32 {
        let clip = |t: f32| ((t - self.start).round().max(0.0) as usize).min(self.samples);
        let (a, b) = (clip(from.min(to)), clip(from.max(to)));
        if b > a { (self.covered[b] - self.covered[a]) / (b - a) as f32 } else { 0.0 }
    }

    /// Sums over the stretch between two positions, cut to the picture, and the number of samples in it.
    pub fn support(&self, from: f32, to: f32) -> Support {
        let clip = |t: f32| ((t - self.start).round().max(0.0) as usize).min(self.samples);
        let (a, b) = (clip(from.min(to)), clip(from.max(to)));
        if b <= a {
            return Support::default();
        }
        let count = (b - a) as f32;
        let size = (self.size[b] - self.size[a]) / count;
        let mean: [f32; 3] = std::array::from_fn(|i| (self.difference[b][i] - self.difference[a][i]) / count);
        let mean = (mean[0] * mean[0] + mean[1] * mean[1] + mean[2] * mean[2]).sqrt();
        Support {
            covered: (self.covered[b] - self.covered[a]) / count,
            peaked: (self.peaked[b] - self.peaked[a]) / count,
            contrast: mean,
            constancy: mean / (size + 2.0),
        }
    }

    /// The line through two points.
    pub fn between(field: &Field, a: [f32; 2], b: [f32; 2]) -> Option<Self> {
        let length = (b[0] - a[0]).hypot(b[1] - a[1]).max(1e-3);
        let normal = [-(b[1] - a[1]) / length, (b[0] - a[0]) / length];
        Self::new(field, normal, normal[0] * a[0] + normal[1] * a[1], false)
    }

    fn new(field: &Field, normal: [f32; 2], offset: f32, is_border: bool) -> Option<Self> {
        // The stretch inside the picture: each border cuts the range of positions.
        let [u, v] = [normal[1], -normal[0]];
        let base = [normal[0] * offset, normal[1] * offset];
        let (mut low, mut high) = (f32::MIN, f32::MAX);
        for (start, step, end) in [(base[0], u, field.width as f32 - 1.0), (base[1], v, field.height as f32 - 1.0)] {
            if step.abs() < 1e-6 {
                if start < -0.6 || start > end + 0.6 {
                    return None;
                }
                continue;
            }
            let (a, b) = ((-start) / step, (end - start) / step);
            low = low.max(a.min(b));
            high = high.min(a.max(b));
        }
        if high - low < MIN_SEGMENT_PX {
            return None;
        }
        let samples = (high - low) as usize;
        let mut line = Self {
            normal,
            offset,
            start: low,
            samples,
            covered: vec![0.0; samples + 1],
            peaked: vec![0.0; samples + 1],
            difference: vec![[0.0; 3]; samples + 1],
            size: vec![0.0; samples + 1],
            is_border,
        };
        for k in 0..samples {
            let t = low + k as f32 + 0.5;
            let point = [base[0] + u * t, base[1] + v * t];
            let mut has_edge = false;
            let (mut here, mut beside) = (0f32, 0f32);
            for shift in [0.0, -1.0, 1.0, -SIDE_OFFSET_PX, SIDE_OFFSET_PX] {
                let Some(at) = field.index(point[0] + normal[0] * shift, point[1] + normal[1] * shift) else {
                    continue;
                };
                let magnitude = field.magnitude[at];
                let [gx, gy] = field.gradient[at];
                let across = (gx * normal[0] + gy * normal[1]).abs();
                if shift.abs() > 1.0 {
                    beside = beside.max(magnitude);
                } else if magnitude > MIN_GRADIENT && across > ANGLE_TOLERANCE_COS * magnitude {
                    has_edge = true;
                    here = here.max(across);
                }
            }
            let side = |sign: f32| {
                let reach = SIDE_OFFSET_PX * sign;
                field.index(point[0] + normal[0] * reach, point[1] + normal[1] * reach)
            };
            let difference = match (side(1.0), side(-1.0)) {
                (Some(a), Some(b)) => std::array::from_fn(|i| field.channels[i][a] - field.channels[i][b]),
                _ => [0.0; 3],
            };
            let [a, b, c] = difference;
            line.covered[k + 1] = line.covered[k] + f32::from(u8::from(has_edge));
            line.peaked[k + 1] = line.peaked[k] + f32::from(u8::from(has_edge && here > 1.2 * beside));
            line.difference[k + 1] = std::array::from_fn(|i| line.difference[k][i] + difference[i]);
            line.size[k + 1] = line.size[k] + (a * a + b * b + c * c).sqrt();
        }
        Some(line)
    }
}

/// The lines of a picture, those with the longest support first, and its four borders at the end.
pub(super) fn lines(field: &Field) -> Vec<Line> {
    let mut segments = segments(field);
    segments.sort_by(|a, b| b.length.total_cmp(&a.length));
    segments.truncate(1500);
    let mut is_used = vec![false; segments.len()];
    let mut gathered: Vec<(f32, [f32; 2], f32)> = Vec::new();
    for i in 0..segments.len() {
        if is_used[i] || gathered.len() >= 2 * MAX_LINES {
            continue;
        }
        let mut members = vec![i];
        let (mut normal, mut offset) = through(&segments, &members);
        // Two rounds: the longer the line is known, the better the rest of it is found.
        for round in 0..2 {
            members.clear();
            for (j, segment) in segments.iter().enumerate() {
                let far = |end: [f32; 2]| (normal[0] * end[0] + normal[1] * end[1] - offset).abs();
                let tolerance = if round == 0 { 1.5 } else { 1.2 };
                if j == i || (!is_used[j] && far(segment.ends[0]) < tolerance && far(segment.ends[1]) < tolerance) {
                    members.push(j);
                }
            }
            (normal, offset) = through(&segments, &members);
        }
        let length = members.iter().map(|&j| segments[j].length).sum();
        for &j in &members {
            let far = |end: [f32; 2]| (normal[0] * end[0] + normal[1] * end[1] - offset).abs();
            // A long segment that lies a little off may be a line of its own.
            is_used[j] |= j == i
                || segments[j].ends.iter().all(|&end| far(end) < if segments[j].length > 30.0 { 0.7 } else { 1.2 });
        }
        gathered.push((length, normal, offset));
    }
    gathered.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut lines: Vec<Line> = Vec::with_capacity(MAX_LINES + 4);
    let mut in_sector = [0; SECTORS];
    for (_, normal, offset) in gathered {
        let turn = normal[1].atan2(normal[0]).rem_euclid(std::f32::consts::PI) / std::f32::consts::PI;
        let sector = ((turn * SECTORS as f32) as usize).min(SECTORS - 1);
        if in_sector[sector] < MAX_LINES_PER_SECTOR && lines.len() < MAX_LINES {
            in_sector[sector] += 1;
            lines.extend(Line::new(field, normal, offset, false));
        }
    }
    let (right, bottom) = (field.width as f32 - 1.0, field.height as f32 - 1.0);
    for (normal, offset) in [([1.0, 0.0], 0.0), ([1.0, 0.0], right), ([0.0, 1.0], 0.0), ([0.0, 1.0], bottom)] {
        lines.extend(Line::new(field, normal, offset, true));
    }
    lines
}

/// Least-squares line through segments, each with the weight of its length.
fn through(segments: &[Segment], members: &[usize]) -> ([f32; 2], f32) {
    let (mut weight, mut sum) = (0.0, [0.0; 2]);
    for &j in members {
        let segment = &segments[j];
        weight += segment.length;
        let [a, b] = segment.ends;
        sum = [sum[0] + segment.length * (a[0] + b[0]) / 2.0, sum[1] + segment.length * (a[1] + b[1]) / 2.0];
    }
    let mean = [sum[0] / weight, sum[1] / weight];
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for &j in members {
        for end in segments[j].ends {
            let (dx, dy) = (end[0] - mean[0], end[1] - mean[1]);
            let weight = segments[j].length;
            xx += weight * dx * dx;
            xy += weight * dx * dy;
            yy += weight * dy * dy;
        }
    }
    let angle = 0.5 * (2.0 * xy).atan2(xx - yy);
    let normal = [-angle.sin(), angle.cos()];
    (normal, normal[0] * mean[0] + normal[1] * mean[1])
}

/// Straight pieces: regions of connected pixels with one direction of the gradient.
fn segments(field: &Field) -> Vec<Segment> {
    let (width, height) = (field.width, field.height);
    // Strong pixels first, sorted by counting: a region begins in the middle of an edge.
    let mut buckets: Vec<Vec<u32>> = vec![Vec::new(); 64];
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let at = y * width + x;
            let magnitude = field.magnitude[at];
            if magnitude <= MIN_GRADIENT {
                continue;
            }
            // The neighbours before and behind, along the gradient rounded to one of eight directions.
            let [gx, gy] = field.gradient[at];
            let step = |part: f32| if part.abs() > 0.38 * magnitude { part.signum() as isize } else { 0 };
            let shift = step(gy) * width as isize + step(gx);
            let neighbour = |sign: isize| field.magnitude[at.wrapping_add_signed(sign * shift)];
            // Only the crests are kept: else an edge runs together with others beside it.
            if magnitude >= neighbour(1) && magnitude > 0.999 * neighbour(-1) {
                buckets[(magnitude as usize).min(63)].push((y * width + x) as u32);
            }
        }
    }
    let mut is_taken = vec![true; width * height];
    for &at in buckets.iter().flatten() {
        is_taken[at as usize] = false;
    }
    let mut region: Vec<u32> = Vec::new();
    let mut found = Vec::new();
    for &seed in buckets.iter().rev().flatten() {
        if is_taken[seed as usize] {
            continue;
        }
        region.clear();
        region.push(seed);
        is_taken[seed as usize] = true;
        let unit = |at: usize| {
            let magnitude = field.magnitude[at];
            [field.gradient[at][0] / magnitude, field.gradient[at][1] / magnitude]
        };
        let mut sum = unit(seed as usize);
        let mut next = 0;
        while next < region.len() {
            let at = region[next] as usize;
            next += 1;
            let norm = (sum[0] * sum[0] + sum[1] * sum[1]).sqrt().max(1e-6);
            let (x, y) = (at % width, at / width);
            // Two pixels around, so that noise does not tear an edge.
            for ny in y.saturating_sub(2)..(y + 3).min(height) {
                for nx in x.saturating_sub(2)..(x + 3).min(width) {
                    let neighbour = ny * width + nx;
                    if is_taken[neighbour] {
                        continue;
                    }
                    let [ux, uy] = unit(neighbour);
                    if ux * sum[0] + uy * sum[1] > ANGLE_TOLERANCE_COS * norm {
                        is_taken[neighbour] = true;
                        sum = [sum[0] + ux, sum[1] + uy];
                        region.push(neighbour as u32);
                    }
                }
            }
        }
        segments_of(field, &mut region, &mut found);
    }
    found
}

/// The segment of a region if it is long and thin enough to be one; of a bow or a patch, the segments of its halves.
fn segments_of(field: &Field, region: &mut [u32], found: &mut Vec<Segment>) {
    if (region.len() as f32) < 0.8 * MIN_SEGMENT_PX {
        return;
    }
    let point = |at: u32| [(at as usize % field.width) as f32, (at as usize / field.width) as f32];
    let (mut weight, mut mean) = (0.0, [0.0; 2]);
    for &at in region.iter() {
        let (m, p) = (field.magnitude[at as usize], point(at));
        weight += m;
        mean = [mean[0] + m * p[0], mean[1] + m * p[1]];
    }
    mean = [mean[0] / weight, mean[1] / weight];
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for &at in region.iter() {
        let (m, p) = (field.magnitude[at as usize], point(at));
        let (dx, dy) = (p[0] - mean[0], p[1] - mean[1]);
        xx += m * dx * dx;
        xy += m * dx * dy;
        yy += m * dy * dy;
    }
    let angle = 0.5 * (2.0 * xy).atan2(xx - yy);
    let along = [angle.cos(), angle.sin()];
    let (mut low, mut high, mut across) = (f32::MAX, f32::MIN, 0.0);
    for &at in region.iter() {
        let p = point(at);
        let (dx, dy) = (p[0] - mean[0], p[1] - mean[1]);
        let t = dx * along[0] + dy * along[1];
        low = low.min(t);
        high = high.max(t);
        across += field.magnitude[at as usize] * (dy * along[0] - dx * along[1]).powi(2);
    }
    let length = high - low;
    // Crests wander by half a pixel about a straight edge.
    let spread = (across / weight).sqrt();
    if spread < 0.75 + 0.002 * length {
        if length >= MIN_SEGMENT_PX {
            let ends = [low, high].map(|t| [mean[0] + along[0] * t, mean[1] + along[1] * t]);
            found.push(Segment { ends, length });
        }
        return;
    }
    let (x, y) = (mean[0], mean[1]);
    let middle = divide(region, |at| {
        let p = point(at);
        (p[0] - x) * along[0] + (p[1] - y) * along[1] < 0.0
    });
    let (first, second) = region.split_at_mut(middle);
    // Each half is shorter than the whole: its mean divides it.
    if !first.is_empty() && !second.is_empty() {
        segments_of(field, first, found);
        segments_of(field, second, found);
    }
}

/// Brings the pixels that `belongs` holds for to the front and returns their number.
fn divide(region: &mut [u32], belongs: impl Fn(u32) -> bool) -> usize {
    let mut count = 0;
    for i in 0..region.len() {
        if belongs(region[i]) {
            region.swap(i, count);
            count += 1;
        }
    }
    count
}
