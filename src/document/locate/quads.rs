//! Quadrilaterals of four lines, and which of them is the border of a document.
//!
//! Called by `locate` with the lines of the small picture. Every four lines that enclose an area are tried with a cheap score; the
//! best of them are judged by [`Features`], weighed by a logistic regression fitted on generated pictures
//! (`cargo bench --bench locate -- fit`).

use super::edges::{Field, Line, Support};
use super::{Format, Quad};
use crate::imaging::warp::Perspective;

/// Hypotheses that are judged with all features.
const MAX_JUDGED: usize = 80;

/// Candidates among which these are looked for: many differ by little and are left out.
const MAX_COMPARED: usize = 2000;

/// Smallest share of the picture's area that a document covers: below it, its sides have less than 60 pixels of the small picture.
const MIN_AREA_SHARE: f32 = 0.02;

/// A side must have an edge along at least this share of it to be tried at all. A finger and a low contrast hide half of one.
const MIN_COVERED: f32 = 0.3;

/// The same for the mean over the sides.
const MIN_MEAN_COVERED: f32 = 0.62;

/// Rounded corners take up to 6 % of the short side of an ID-1 card; this share at each end of a side is not looked at.
const CORNER_SHARE: f32 = 0.07;

/// How far corners may lie outside the picture, as a share of its sides.
const MAX_OUTSIDE: f32 = 0.12;

/// Focal lengths that are tried, in long sides of the picture: main cameras of telephones have 0.7 to 0.8 (24 to 28 mm on 36 mm
/// film); the others stand for wide and long lenses, cropped pictures and scans.
const FOCAL_LENGTHS: [f64; 5] = [0.66, 0.78, 1.0, 1.4, 5.0];

/// Focal length by which a fourth side is foretold, in long sides of the picture: between the common ones. The side is then looked for
/// around that place, so an error of a fifth does no harm.
const ASSUMED_FOCAL_LENGTH: f64 = 0.82;

/// Number of [`Features`].
pub const FEATURES: usize = 18;

/// What a hypothesis is judged by, in this order: mean, smallest and second smallest share of the sides with an edge along them;
/// mean and smallest constancy of the colours across them; mean and smallest contrast across them (logarithm); share of edge
/// beyond the corners; distance of the colours inside and outside the border, all around and at the side where it is smallest;
/// error of the aspect; error of the right angles; share of the picture (logarithm); number of sides on its border; mean and smallest
/// share of edges that stand out from what lies beside them; share of points with an edge inside, and around.
pub type Features = [f64; FEATURES];

/// Weights of the features, fitted on 500 pictures of the split `tune` (400 with a document).
const WEIGHTS: Features = [
    4.546, -2.144, 4.828, -3.374, 0.393, -2.332, 0.769, -5.076, 17.111, 4.505, -12.043, -15.651, 1.659, -4.928, 5.914,
    2.886, 1.161, -2.897,
];
const BIAS: f64 = -13.564;

/// Hypotheses below this estimated probability are not returned. Higher means fewer wrong quadrilaterals and more documents that are
/// not found.
const MIN_CONFIDENCE: f64 = 0.4;

/// A judged quadrilateral. Corners in pixel areas of the small picture, clockwise.
#[derive(Debug, Clone)]
pub struct Hypothesis {
    pub quad: Quad,
    pub features: Features,
    /// Weighed features: odds against there being no document.
    pub odds: f64,
    /// Estimated probability that this is the document; 0 for all but the best.
    pub confidence: f64,
    pub format: Format,
    /// The shape is about that of a document, or cannot be told.
    pub is_plausible: bool,
    /// Side `i` runs from corner `i` to the next one.
    pub on_border: [bool; 4],
}

/// Lines across one pair of opposite lines that are tried, those with most edge first.
const MAX_ACROSS: usize = 20;

/// The best hypothesis that is certain enough.
pub(super) fn best(field: &Field, lines: &mut Vec<Line>, hints: &[Quad]) -> Option<Hypothesis> {
    let judged = hypotheses(field, lines, hints);
    judged
        .into_iter()
        .max_by(|a, b| a.confidence.total_cmp(&b.confidence))
        .filter(|best| best.confidence >= MIN_CONFIDENCE)
}

/// Four lines in order around the area, their corners (`corners[i]` where line `i − 1` meets line `i`), and a cheap score.
struct Candidate {
    lines: [usize; 4],
    corners: [[f32; 2]; 4],
    score: f32,
}

pub(super) fn hypotheses(field: &Field, lines: &mut Vec<Line>, hints: &[Quad]) -> Vec<Hypothesis> {
    let mut candidates = candidates(field, lines, hints, lines.len());
    // The fourth side of a document is often hidden or faint: it is looked for where the other three say. The new lines come
    // first, so that only quadrilaterals with one of them are tried now.
    let fourth = fourth_sides(field, lines);
    let added = fourth.len();
    lines.splice(0..0, fourth);
    for candidate in &mut candidates {
        candidate.lines = candidate.lines.map(|line| line + added);
    }
    candidates.extend(self::candidates(field, lines, hints, added));
    candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(MAX_COMPARED);
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept.len() >= MAX_JUDGED {
            break;
        }
        let is_new = kept.iter().all(|other| {
            let far = |shift: usize| {
                (0..4).any(|i| {
                    let (a, b) = (candidate.corners[i], other.corners[(i + shift) % 4]);
                    (a[0] - b[0]).abs().max((a[1] - b[1]).abs()) > 2.5
                })
            };
            (0..4).all(far)
        });
        if is_new {
            kept.push(candidate);
        }
    }
    let bins = colour_bins(field);
    let mut judged: Vec<Hypothesis> = kept.iter().map(|candidate| judge(field, lines, &bins, candidate)).collect();
    share_confidence(&mut judged);
    judged
}

/// Turns the odds of the best plausible hypothesis into a probability: one of all is the document, or none (with odds of 1). Those that
/// are the same but for a little count for it. A square, as a photograph in the picture, counts against it, but a square on the
/// document itself does not: it is the portrait or a chip. The others keep a probability of 0.
fn share_confidence(judged: &mut [Hypothesis]) {
    let plausible = judged.iter().enumerate().filter(|(_, hypothesis)| hypothesis.is_plausible);
    let Some((at, best)) = plausible.max_by(|(_, a), (_, b)| a.odds.total_cmp(&b.odds)) else { return };
    let near = SAME_SHARE * super::distance(best.quad[0], best.quad[2]);
    let is_same =
        |other: &Quad| (0..4).any(|shift| (0..4).all(|k| super::distance(best.quad[k], other[(k + shift) % 4]) < near));
    let corners = best.quad.map(|corner| corner.map(|value| (value - 0.5) as f32));
    let (mut same, mut total) = (0.0, 1.0);
    for hypothesis in judged.iter() {
        if hypothesis.is_plausible || !holds(&corners, &[hypothesis.quad]) {
            total += hypothesis.odds;
            same += if is_same(&hypothesis.quad) { hypothesis.odds } else { 0.0 };
        }
    }
    judged[at].confidence = same / total;
}

/// Corners nearer than this share of the diagonal make two hypotheses the same: about what the fit to the full picture evens out.
const SAME_SHARE: f64 = 0.03;

/// Most lines that [`fourth_sides`] adds.
const MAX_FOURTH_SIDES: usize = 12;

/// Lines of which three are taken, those with the longest support.
const MAX_LINES_OF_THREE: usize = 44;

/// Where a fourth side should run, from three lines with edges along nearly all of a side and the proportions of the formats.
fn fourth_sides(field: &Field, lines: &[Line]) -> Vec<Line> {
    let size = [field.width as f64, field.height as f64];
    let mut proposed: Vec<(f32, [[f32; 2]; 2])> = Vec::new();
    let long = &lines[..lines.len().min(MAX_LINES_OF_THREE)];
    for (b, line_b) in long.iter().enumerate() {
        for line_c in &long[b + 1..] {
            let cos = line_b.normal[0] * line_c.normal[0] + line_b.normal[1] * line_c.normal[1];
            if cos.abs() < 0.82 || line_b.is_border || line_c.is_border {
                continue;
            }
            for line_a in long {
                if line_a.is_border {
                    continue;
                }
                let (Some(p), Some(q)) = (line_a.meet(line_b), line_a.meet(line_c)) else { continue };
                let (from, to) = (line_a.position(p), line_a.position(q));
                if (to - from).abs() < 30.0 || side_covered(line_a, from, to) < 0.8 {
                    continue;
                }
                // Both others must leave the first on one side with an edge.
                let (on_b, on_c) = (line_b.position(p), line_c.position(q));
                let leaves = |sign: f32| {
                    let sign_c = if agrees(line_b, line_c, sign > 0.0) { 1.0 } else { -1.0 };
                    line_b
                        .covered(on_b + 4.0 * sign, on_b + 34.0 * sign)
                        .min(line_c.covered(on_c + 4.0 * sign_c, on_c + 34.0 * sign_c))
                        > 0.75
                };
                if !leaves(1.0) && !leaves(-1.0) {
                    continue;
                }
                for [x, y] in opposite(size, line_b, line_c, p, q) {
                    let on_b = side_covered(line_b, line_b.position(p), line_b.position(x));
                    let on_c = side_covered(line_c, line_c.position(q), line_c.position(y));
                    if on_b.min(on_c) > 0.7 && on_b + on_c > 1.6 {
                        proposed.push((on_b + on_c, [x, y]));
                    }
                }
            }
        }
    }
    proposed.sort_by(|a, b| b.0.total_cmp(&a.0));
    proposed.truncate(400);
    let mut tried: Vec<[[f32; 2]; 2]> = Vec::new();
    let is_near = |a: [f32; 2], b: [f32; 2], reach: f32| (a[0] - b[0]).abs().max((a[1] - b[1]).abs()) < reach;
    let mut found: Vec<(f32, [[f32; 2]; 2])> = Vec::new();
    for (_, ends) in proposed {
        if tried.iter().any(|other| is_near(other[0], ends[0], 2.0) && is_near(other[1], ends[1], 2.0)) {
            continue;
        }
        tried.push(ends);
        let Some((covered, ends)) = settle(field, ends) else { continue };
        if !found.iter().any(|(_, other)| is_near(other[0], ends[0], 2.5) && is_near(other[1], ends[1], 2.5)) {
            found.push((covered, ends));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.truncate(MAX_FOURTH_SIDES);
    found.into_iter().filter_map(|(_, [x, y])| Line::between(field, x, y)).collect()
}

/// Where the side opposite to the one from `p` to `q` ends on the lines through these points, for each format, upright and across. The directions in space follow from the right angles: that of the two lines from where they meet, that of the
/// side from lying in the plane of its image and across the first.
fn opposite([width, height]: [f64; 2], line_p: &Line, line_q: &Line, p: [f32; 2], q: [f32; 2]) -> Vec<[[f32; 2]; 2]> {
    let mut found = Vec::with_capacity(16);
    let centre = [(width - 1.0) / 2.0, (height - 1.0) / 2.0];
    let focal = ASSUMED_FOCAL_LENGTH * width.max(height);
    let ray =
        |point: [f32; 2]| [(f64::from(point[0]) - centre[0]) / focal, (f64::from(point[1]) - centre[1]) / focal, 1.0];
    let plane = |line: &Line| {
        let [a, b] = line.normal.map(f64::from);
        [a * focal, b * focal, a * centre[0] + b * centre[1] - f64::from(line.offset)]
    };
    let (ray_p, ray_q) = (ray(p), ray(q));
    let Some(down) = unit(cross(plane(line_p), plane(line_q))) else { return found };
    let Some(right) = unit(cross(cross(ray_p, ray_q), down)) else { return found };
    // q lies on its ray and at p + length · right: depth · ray_q = ray_p + length · right.
    let (a, b, c) = (dot(ray_q, ray_q), dot(ray_q, right), dot(ray_q, ray_p));
    let d = dot(ray_p, right);
    let determinant = a - b * b;
    if determinant < 1e-9 {
        return found;
    }
    let depth = (c - b * d) / determinant;
    let length = (b * depth - d).abs();
    for aspect in [85.6 / 53.98, 53.98 / 85.6, 125.0 / 88.0, 88.0 / 125.0] {
        for sign in [1.0, -1.0] {
            let far = sign * length * aspect;
            let image = |from: [f64; 3]| -> Option<[f32; 2]> {
                let [x, y, z]: [f64; 3] = std::array::from_fn(|i| from[i] + far * down[i]);
                let point = [focal * x / z + centre[0], focal * y / z + centre[1]];
                (z > 0.1 && (0.0..width).contains(&point[0]) && (0.0..height).contains(&point[1]))
                    .then_some(point.map(|v| v as f32))
            };
            if let (Some(x), Some(y)) = (image(ray_p), image(ray_q.map(|v| v * depth))) {
                found.push([x, y]);
            }
        }
    }
    found
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn unit(a: [f64; 3]) -> Option<[f64; 3]> {
    let norm = dot(a, a).sqrt();
    (norm > 1e-12).then(|| a.map(|value| value / norm))
}

/// The place within a few pixels of a proposed side that has most edge along it, if that is enough.
fn settle(field: &Field, [x, y]: [[f32; 2]; 2]) -> Option<(f32, [[f32; 2]; 2])> {
    let length = (y[0] - x[0]).hypot(y[1] - x[1]);
    if length < 20.0 {
        return None;
    }
    let normal = [-(y[1] - x[1]) / length, (y[0] - x[0]) / length];
    let moved = |point: [f32; 2], by: f32| [point[0] + normal[0] * by, point[1] + normal[1] * by];
    let mut best = (0.0, [x, y]);
    for first in -3i8..=3 {
        for second in -3i8..=3 {
            let ends = [moved(x, 2.0 * f32::from(first)), moved(y, 2.0 * f32::from(second))];
            let covered = field.covered(ends[0], ends[1]);
            if covered > best.0 {
                best = (covered, ends);
            }
        }
    }
    (best.0 > 0.4).then_some(best)
}

/// Where the stretch of a side begins and ends, without its corners.
fn stretch(from: f32, to: f32) -> (f32, f32) {
    let cut = (to - from) * CORNER_SHARE;
    (from + cut, to - cut)
}

/// Share of a side with an edge along it; 0 on the border of the picture.
fn side_covered(line: &Line, from: f32, to: f32) -> f32 {
    if line.is_border {
        return 0.0;
    }
    let (from, to) = stretch(from, to);
    line.covered(from, to)
}

fn side_support(line: &Line, from: f32, to: f32) -> Support {
    if line.is_border {
        return Support::default();
    }
    let (from, to) = stretch(from, to);
    line.support(from, to)
}

/// A line across two opposite ones: where it meets them, at which of their positions, and how much edge it has between.
struct Crossing {
    line: usize,
    corners: [[f32; 2]; 2],
    positions: [f32; 2],
    covered: f32,
}

/// Candidates in which one of the first `count_first` lines takes part.
fn candidates(field: &Field, lines: &[Line], hints: &[Quad], count_first: usize) -> Vec<Candidate> {
    let count = lines.len();
    let (width, height) = (field.width as f32, field.height as f32);
    let is_near = |p: [f32; 2]| {
        p[0] > -MAX_OUTSIDE * width
            && p[0] < (1.0 + MAX_OUTSIDE) * width
            && p[1] > -MAX_OUTSIDE * height
            && p[1] < (1.0 + MAX_OUTSIDE) * height
    };
    let meets: Vec<Option<[f32; 2]>> = (0..count * count)
        .map(|at| lines[at / count].meet(&lines[at % count]).filter(|&point| is_near(point)))
        .collect();
    let meet = |i: usize, j: usize| meets[i * count + j];
    let min_area = MIN_AREA_SHARE * width * height;
    let mut found = Vec::new();
    let mut across: Vec<Crossing> = Vec::new();
    // Of the four, the one with the lowest index is `a`.
    for a in 0..count_first {
        for c in a + 1..count {
            let cos = lines[a].normal[0] * lines[c].normal[0] + lines[a].normal[1] * lines[c].normal[1];
            // Opposite sides of a rectangle tilted by 40° at arm's length differ by less than 35°.
            if cos.abs() < 0.82 || (lines[a].is_border && lines[c].is_border) {
                continue;
            }
            across.clear();
            for b in 0..count {
                // Each quadrilateral is met twice, once for each pair of opposite sides.
                if b <= a || b == c {
                    continue;
                }
                let (Some(p), Some(q)) = (meet(a, b), meet(c, b)) else { continue };
                let (from, to) = (lines[b].position(p), lines[b].position(q));
                if (to - from).abs() < 20.0 {
                    continue;
                }
                let covered = side_covered(&lines[b], from, to);
                if covered >= MIN_COVERED || lines[b].is_border {
                    across.push(Crossing {
                        line: b,
                        corners: [p, q],
                        positions: [lines[a].position(p), lines[c].position(q)],
                        covered,
                    });
                }
            }
            if across.len() > MAX_ACROSS {
                across.sort_by(|a, b| b.covered.total_cmp(&a.covered));
                across.truncate(MAX_ACROSS);
            }
            for (k, from) in across.iter().enumerate() {
                for to in &across[k + 1..] {
                    let (b, d, covered_b, covered_d) = (from.line, to.line, from.covered, to.covered);
                    let ([ab, cb], [ad, cd]) = (from.corners, to.corners);
                    let ([on_a, on_c], [to_a, to_c]) = (from.positions, to.positions);
                    let (length_a, length_c) = ((to_a - on_a).abs(), (to_c - on_c).abs());
                    if length_a < 20.0 || length_c < 20.0 || (to_a > on_a) != agrees(&lines[a], &lines[c], to_c > on_c)
                    {
                        continue;
                    }
                    let borders = [a, b, c, d].iter().filter(|&&i| lines[i].is_border).count();
                    if borders > 1 {
                        continue;
                    }
                    let covered_a = side_covered(&lines[a], on_a, to_a);
                    let covered_c = side_covered(&lines[c], on_c, to_c);
                    let covered = [covered_a, covered_b, covered_c, covered_d];
                    let lowest = [a, b, c, d]
                        .iter()
                        .zip(covered)
                        .filter(|(i, _)| !lines[**i].is_border)
                        .map(|(_, c)| c)
                        .fold(1.0, f32::min);
                    let mean = covered.iter().sum::<f32>() / (4 - borders) as f32;
                    if lowest < MIN_COVERED || mean < MIN_MEAN_COVERED {
                        continue;
                    }
                    // Around the area: along a from b to d, down d, back along c, up b.
                    let (corners, order) = ([ab, ad, cd, cb], [a, d, c, b]);
                    let Some((corners, order)) = clockwise(corners, order) else { continue };
                    let area = area(&corners);
                    if area < min_area || !holds(&corners, hints) {
                        continue;
                    }
                    let share = area / (width * height);
                    let score = mean + 0.5 * lowest + 0.08 * share.ln() - 0.2 * borders as f32;
                    found.push(Candidate { lines: order, corners, score });
                }
            }
        }
    }
    found
}

/// Whether going towards larger positions on `other` is the same sense as on `line`.
fn agrees(line: &Line, other: &Line, towards: bool) -> bool {
    let cos = line.normal[0] * other.normal[0] + line.normal[1] * other.normal[1];
    (cos > 0.0) == towards
}

/// Corners and sides turned round to go clockwise; `None` if they do not enclose a convex area. `lines[i]` runs from corner `i`
/// to the next one.
fn clockwise(corners: [[f32; 2]; 4], lines: [usize; 4]) -> Option<([[f32; 2]; 4], [usize; 4])> {
    let turn = |i: usize| {
        let (a, b, c) = (corners[i], corners[(i + 1) % 4], corners[(i + 2) % 4]);
        (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])
    };
    let turns = [turn(0), turn(1), turn(2), turn(3)];
    if turns.iter().all(|&turn| turn > 0.0) {
        return Some((corners, lines));
    }
    turns.iter().all(|&turn| turn < 0.0).then(|| {
        let [a, b, c, d] = corners;
        let [ab, bc, cd, da] = lines;
        ([a, d, c, b], [da, cd, bc, ab])
    })
}

fn area(corners: &[[f32; 2]; 4]) -> f32 {
    let [a, b, c, d] = corners;
    ((c[0] - a[0]) * (d[1] - b[1]) - (c[1] - a[1]) * (d[0] - b[0])).abs() / 2.0
}

/// Whether all corners of all hints lie inside, with two pixels to spare for their own errors.
fn holds(corners: &[[f32; 2]; 4], hints: &[Quad]) -> bool {
    hints.iter().flatten().all(|hint| {
        let (x, y) = (hint[0] as f32 - 0.5, hint[1] as f32 - 0.5);
        (0..4).all(|i| {
            let (a, b) = (corners[i], corners[(i + 1) % 4]);
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            dx * (y - a[1]) - dy * (x - a[0]) > -2.0 * (dx * dx + dy * dy).sqrt()
        })
    })
}

/// Number of colours that are told apart beside the border.
const BINS: usize = 8 * 4 * 4;

/// The colour of each pixel in eight steps of luma and four of each opponent colour.
fn colour_bins(field: &Field) -> Vec<u8> {
    let [luma, red, blue] = &field.channels;
    let step = |value: f32| ((value / 12.0).floor() + 2.0).clamp(0.0, 3.0) as u8;
    luma.iter()
        .zip(red)
        .zip(blue)
        .map(|((luma, red), blue)| (luma / 32.0).clamp(0.0, 7.0) as u8 * 16 + step(*red) * 4 + step(*blue))
        .collect()
}

/// Hellinger distance of two histograms, 0 (the same) to 1 (nothing in common).
fn hellinger(a: &[f32; BINS], b: &[f32; BINS]) -> f64 {
    let (sum_a, sum_b): (f32, f32) = (a.iter().sum(), b.iter().sum());
    if sum_a <= 0.0 || sum_b <= 0.0 {
        return 0.0;
    }
    let common: f32 = a.iter().zip(b).map(|(a, b)| (a * b).sqrt()).sum();
    f64::from((1.0 - common / (sum_a * sum_b).sqrt()).max(0.0)).sqrt()
}

fn judge(field: &Field, lines: &[Line], bins: &[u8], candidate: &Candidate) -> Hypothesis {
    let corners = &candidate.corners;
    let on_border: [bool; 4] = std::array::from_fn(|i| lines[candidate.lines[i]].is_border);
    let inner = on_border.iter().filter(|is_border| !**is_border).count().max(1) as f64;
    let (mut covered, mut peaked) = (Vec::with_capacity(4), Vec::with_capacity(4));
    let (mut constancy, mut contrast, mut beyond) = (Vec::with_capacity(4), Vec::with_capacity(4), 0.0);
    let diagonal = (corners[0][0] - corners[2][0]).hypot(corners[0][1] - corners[2][1]);
    let (mut all_inside, mut all_outside) = ([0f32; BINS], [0f32; BINS]);
    let mut nearest = 1.0f64;
    for i in 0..4 {
        let line = &lines[candidate.lines[i]];
        if line.is_border {
            continue;
        }
        let (p, q) = (corners[i], corners[(i + 1) % 4]);
        let (from, to) = (line.position(p), line.position(q));
        let support = side_support(line, from, to);
        covered.push(f64::from(support.covered));
        peaked.push(f64::from(support.peaked));
        constancy.push(f64::from(support.constancy));
        contrast.push(f64::from((1.0 + support.contrast).ln()));
        let reach = 0.25 * (to - from);
        let gap = 0.05 * (to - from);
        let after = [line.support(to + gap, to + reach).covered, line.support(from - reach, from - gap).covered];
        beyond += f64::from(after[0] + after[1]) / 2.0;

        let length = (to - from).abs().max(1.0);
        let along = [(q[0] - p[0]) / length, (q[1] - p[1]) / length];
        let inward = [-along[1], along[0]];
        let (mut inside, mut outside) = ([0f32; BINS], [0f32; BINS]);
        for step in 0..24 {
            let t = length * (0.08 + 0.84 * (step as f32 + 0.5) / 24.0);
            let point = [p[0] + along[0] * t, p[1] + along[1] * t];
            for depth in [3.0, 3.0 + 0.012 * diagonal, 3.0 + 0.024 * diagonal, 3.0 + 0.036 * diagonal] {
                if let Some(at) = field.index(point[0] + inward[0] * depth, point[1] + inward[1] * depth) {
                    inside[usize::from(bins[at])] += 1.0;
                }
                if let Some(at) = field.index(point[0] - inward[0] * depth, point[1] - inward[1] * depth) {
                    outside[usize::from(bins[at])] += 1.0;
                }
            }
        }
        nearest = nearest.min(hellinger(&inside, &outside));
        for bin in 0..BINS {
            all_inside[bin] += inside[bin];
            all_outside[bin] += outside[bin];
        }
    }
    covered.sort_by(f64::total_cmp);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let lowest = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min).min(10.0);
    let quad = corners.map(|[x, y]| [f64::from(x) + 0.5, f64::from(y) + 0.5]);
    let size = [field.width as f64, field.height as f64];
    let shape = shape(&quad, size);
    let share = f64::from(area(corners)) / (size[0] * size[1]);
    let borders = 4.0 - inner;
    let (inner_edges, outer_edges) = edge_shares(field, &quad);
    let features = [
        mean(&covered),
        covered.first().copied().unwrap_or(0.0),
        covered.get(1).copied().unwrap_or(0.0),
        mean(&constancy),
        lowest(&constancy),
        mean(&contrast),
        lowest(&contrast),
        beyond / inner,
        hellinger(&all_inside, &all_outside),
        nearest,
        if borders > 0.0 { 0.5 } else { shape.aspect_error.min(1.0) },
        shape.angle_error.min(1.0),
        share.max(1e-6).ln(),
        borders,
        mean(&peaked),
        lowest(&peaked),
        inner_edges,
        outer_edges,
    ];
    let logit: f64 = BIAS + features.iter().zip(WEIGHTS).map(|(value, weight)| value * weight).sum::<f64>();
    Hypothesis {
        quad,
        features,
        odds: logit.clamp(-40.0, 40.0).exp(),
        confidence: 0.0,
        format: if borders > 0.0 { Format::Other } else { shape.format },
        // The shape cannot be told where a side lies on the border of the picture.
        is_plausible: borders > 0.0 || shape.aspect_error.max(shape.angle_error) <= MAX_PLAUSIBLE_ERROR,
        on_border,
    }
}

/// Share of points with an edge, inside a quadrilateral and in a frame around it of a tenth of its size.
fn edge_shares(field: &Field, quad: &Quad) -> (f64, f64) {
    let Some(map) = Perspective::from_rectangle([1.0, 1.0], quad) else { return (0.0, 0.0) };
    let (mut inside, mut outside) = ([0.0, 0.0], [0.0, 0.0]);
    for row in 0..26 {
        for column in 0..26 {
            let place = [column, row].map(|i| (f64::from(i) + 0.5) / 26.0 * 1.24 - 0.12);
            let [x, y] = map.apply(place);
            let Some(at) = field.index(x as f32 - 0.5, y as f32 - 0.5) else { continue };
            let edge = f64::from(u8::from(field.has_edge(at)));
            if place.iter().all(|t| (0.03..0.97).contains(t)) {
                inside = [inside[0] + edge, inside[1] + 1.0];
            } else if place.iter().any(|t| !(-0.02..1.02).contains(t)) {
                outside = [outside[0] + edge, outside[1] + 1.0];
            }
        }
    }
    (inside[0] / f64::max(inside[1], 1.0), outside[0] / f64::max(outside[1], 1.0))
}

/// What rectangle a quadrilateral may be the picture of.
pub(super) struct Shape {
    pub format: Format,
    /// Size of the logarithm of its aspect over that of the nearest format.
    aspect_error: f64,
    /// Size of the cosine of the angle between its sides.
    angle_error: f64,
}

/// A format is named if the aspect is nearer to its own than this: half the distance between ID-1 and ID-2.
const MAX_ASPECT_ERROR: f64 = 0.055;

/// Beyond these errors a quadrilateral is something else, however clear its border: a screen, a sheet, a window, a photograph.
const MAX_PLAUSIBLE_ERROR: f64 = 0.1;

/// The rectangle in space that has this image under the focal length that fits best, the optical axis through the middle of the
/// picture and square pixels.
pub(super) fn shape(quad: &Quad, [width, height]: [f64; 2]) -> Shape {
    let mut best = Shape { format: Format::Other, aspect_error: 1.0, angle_error: 1.0 };
    let mut lowest = f64::INFINITY;
    let centred = quad.map(|[x, y]| [x - width / 2.0, y - height / 2.0]);
    let Some(map) = Perspective::from_rectangle([1.0, 1.0], &centred) else { return best };
    for focal in FOCAL_LENGTHS {
        let focal = focal * width.max(height);
        let column = |i: usize| [map.m[0][i] / focal, map.m[1][i] / focal, map.m[2][i]];
        let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        let (right, down) = (column(0), column(1));
        let (long, short) = (dot(right, right).sqrt(), dot(down, down).sqrt());
        let aspect = (long / short).max(short / long);
        let angle_error = (dot(right, down) / (long * short)).abs();
        for format in [Format::Id1, Format::Id2OrId3] {
            let Some(expected) = format.aspect() else { continue };
            let aspect_error = (aspect / expected).ln().abs();
            let error = aspect_error + angle_error;
            if error < lowest {
                lowest = error;
                let format = if aspect_error < MAX_ASPECT_ERROR { format } else { Format::Other };
                best = Shape { format, aspect_error, angle_error };
            }
        }
    }
    best
}
