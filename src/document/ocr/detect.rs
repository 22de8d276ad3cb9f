//! Finds lines of text with a network that gives each pixel the probability of lying in the core of a line.
//!
//! Source: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020: the map is cut at a
//! threshold, each connected piece becomes the smallest rectangle around it, and the rectangle grows by what the training had
//! shrunk it. Used through [`TextDetector`] only.

use std::sync::Arc;

use super::TextLine;
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::connected::connected;
use crate::imaging::resize::letterbox;
use crate::imaging::tensor::to_tensor;
use crate::inference::{ModelPort, RequestContext};

/// Most lines reported for a picture, the best by score. PaddleOCR's `max_candidates`.
pub const MAX_LINES: usize = 1000;

/// A pixel belongs to a line from this probability on; PaddleOCR's `thresh`.
const MIN_PROBABILITY: f32 = 0.3;

/// A rectangle is a line from this score on; RapidOCR's `box_thresh` for this model. Raised, faint and small lines are lost.
const MIN_SCORE: f64 = 0.5;

/// How far a rectangle grows: by `area × ratio / perimeter` on each side, as the training shrank it. On 130 lines of
/// machine-readable zones, 90 were read as printed with 1.4, 93 with 1.6 (RapidOCR's `unclip_ratio`), 95 with 1.9.
const GROWTH: f64 = 1.6;

/// Rectangles thinner than this on the map are noise; RapidOCR's `min_size`.
const MIN_SIDE_PX: f64 = 3.0;

/// Pieces of fewer pixels cannot fill half of a rectangle of [`MIN_SIDE_PX`], and a map of noise has very many of them.
const MIN_PIXELS: usize = 5;

/// Sides of the input are multiples of this. The network needs multiples of 32; coarser steps keep the number of different
/// shapes, each with working memory of its own, small.
const CANVAS_MULTIPLE_PX: u32 = 64;

/// Smallest and largest long side of the input. The upper bound is what a hostile caller can cost: 16 times a run at 640.
const LONG_SIDE_PX: std::ops::RangeInclusive<u32> = 64..=2560;

/// A piece whose sides are nearer to each other than this may be one or two characters of upright text, so that its longer side
/// says nothing of its direction.
const MIN_ELONGATION: f64 = 1.5;

/// The detector.
#[derive(Clone)]
pub struct TextDetector {
    port: ModelPort,
}

impl TextDetector {
    pub fn new(port: ModelPort) -> Self {
        Self { port }
    }

    /// Finds lines of text in a picture that is scaled, up or down, so that its long side has `long_side_px` pixels (at least 64,
    /// at most 2560). Text should be some ten pixels high then; a zone that fills the width of the picture is found at 640.
    ///
    /// Sorted from top to bottom by the middle of the line, at most [`MAX_LINES`].
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn find(
        &self,
        image: &Image,
        long_side_px: u32,
        context: &Arc<RequestContext>,
    ) -> Result<Vec<TextLine>, Error> {
        let long_side_px = long_side_px.clamp(*LONG_SIDE_PX.start(), *LONG_SIDE_PX.end());
        let fitted = letterbox(image, long_side_px, CANVAS_MULTIPLE_PX);
        let outputs = self.port.model.run(to_tensor(&fitted.canvas, &self.port.input), context)?;
        let (_, map) = outputs.first().ok_or_else(|| Error::internal("the text detector gave no output"))?;
        let (width, height) = (fitted.canvas.width as usize, fitted.canvas.height as usize);
        if map.data.len() != width * height {
            let reason = format!("text detector output of shape {:?} for {width} × {height} pixels", map.shape);
            return Err(Error::internal(reason));
        }
        let mut lines = lines(&map.data, width);
        for line in &mut lines {
            line.quad = line.quad.map(|corner| fitted.to_picture(corner));
        }
        Ok(lines)
    }
}

/// The lines of a map with rows of `width` pixels, in pixels of the map.
fn lines(map: &[f32], width: usize) -> Vec<TextLine> {
    let mut lines: Vec<TextLine> = pieces(map, width).iter().filter_map(line_around).collect();
    lines.sort_by(|a, b| b.score.total_cmp(&a.score));
    lines.truncate(MAX_LINES);
    let middle = |line: &TextLine, axis: usize| line.quad.iter().map(|corner| corner[axis]).sum::<f64>();
    lines.sort_by(|a, b| middle(a, 1).total_cmp(&middle(b, 1)).then(middle(a, 0).total_cmp(&middle(b, 0))));
    lines
}

/// Pixels that touch each other, diagonally too.
struct Piece {
    pixels: usize,
    /// Sum of their probabilities.
    mass: f64,
    top: usize,
    /// For each row from `top` on, the first column and the one after the last.
    rows: Vec<[usize; 2]>,
}

/// All pieces of at least [`MIN_PIXELS`], in the order of their first pixels.
fn pieces(map: &[f32], width: usize) -> Vec<Piece> {
    // A NaN is no text.
    let mut open: Vec<bool> = map.iter().map(|&probability| probability >= MIN_PROBABILITY).collect();
    let mut pieces: Vec<Piece> = Vec::new();
    connected(&mut open, width, |index, at| {
        let (x, y) = (at % width, at / width);
        if pieces.len() == index {
            pieces.push(Piece { pixels: 0, mass: 0.0, top: y, rows: Vec::new() });
        }
        let piece = &mut pieces[index];
        piece.pixels += 1;
        piece.mass += f64::from(map[at].min(1.0));
        let row = y - piece.top;
        if piece.rows.len() <= row {
            piece.rows.resize(row + 1, [usize::MAX, 0]);
        }
        let [first, end] = piece.rows[row];
        piece.rows[row] = [first.min(x), end.max(x + 1)];
    });
    pieces.retain(|piece| piece.pixels >= MIN_PIXELS);
    pieces
}

/// The grown rectangle around a piece, unless it is too small or too empty.
fn line_around(piece: &Piece) -> Option<TextLine> {
    let rectangle = smallest_rectangle(&convex_hull(piece))?;
    let [along, across] = rectangle.size;
    let score = piece.mass / (along * across);
    if along.min(across) < MIN_SIDE_PX || score.is_nan() || score < MIN_SCORE {
        return None;
    }
    let growth = along * across * GROWTH / (2.0 * (along + across));
    let [x, y] = [(along / 2.0 + growth), (across / 2.0 + growth)];
    let corner = |along: f64, across: f64| rectangle.point(along, across);
    Some(TextLine { quad: [corner(-x, -y), corner(x, -y), corner(x, y), corner(-x, y)], score: score.min(1.0) })
}

/// Corners of the pixels of a piece that lie on its convex hull, counter-clockwise in a frame whose y axis points up (Andrew's
/// monotone chain).
fn convex_hull(piece: &Piece) -> Vec<[f64; 2]> {
    let mut points: Vec<[f64; 2]> = Vec::with_capacity(4 * piece.rows.len());
    for (index, &[first, end]) in piece.rows.iter().enumerate() {
        let y = (piece.top + index) as f64;
        for y in [y, y + 1.0] {
            points.extend([[first as f64, y], [end as f64, y]]);
        }
    }
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    points.dedup();
    let turns_left =
        |a: [f64; 2], b: [f64; 2], c: [f64; 2]| (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) > 0.0;
    let half = |points: &mut dyn Iterator<Item = [f64; 2]>| {
        let mut chain: Vec<[f64; 2]> = Vec::new();
        for point in points {
            while let [.., a, b] = chain.as_slice() {
                if turns_left(*a, *b, point) {
                    break;
                }
                chain.pop();
            }
            chain.push(point);
        }
        // The last point begins the other half.
        chain.pop();
        chain
    };
    let mut hull = half(&mut points.iter().copied());
    hull.extend(half(&mut points.iter().rev().copied()));
    hull
}

/// A rectangle by its middle, the direction of its text and its size along and across it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rectangle {
    middle: [f64; 2],
    /// Unit vector.
    along: [f64; 2],
    size: [f64; 2],
}

impl Rectangle {
    /// The point at these distances from the middle, along the text and, a quarter turn clockwise in the picture, across it.
    fn point(&self, along: f64, across: f64) -> [f64; 2] {
        let [x, y] = self.along;
        [self.middle[0] + x * along - y * across, self.middle[1] + y * along + x * across]
    }
}

/// The rectangle of least area around a convex hull: one of its sides lies on a side of the hull (Freeman and Shapira,
/// "Determining the minimum-area encasing rectangle for an arbitrary closed curve", 1975). `None` for fewer than three corners.
fn smallest_rectangle(hull: &[[f64; 2]]) -> Option<Rectangle> {
    if hull.len() < 3 {
        return None;
    }
    let mut best: Option<(f64, Rectangle)> = None;
    for (index, from) in hull.iter().enumerate() {
        let to = hull[(index + 1) % hull.len()];
        let length = (to[0] - from[0]).hypot(to[1] - from[1]);
        let [x, y] = [(to[0] - from[0]) / length, (to[1] - from[1]) / length];
        // Extents along the side and across it.
        let mut low = [f64::INFINITY; 2];
        let mut high = [f64::NEG_INFINITY; 2];
        for point in hull {
            for (axis, value) in [point[0] * x + point[1] * y, point[1] * x - point[0] * y].into_iter().enumerate() {
                low[axis] = low[axis].min(value);
                high[axis] = high[axis].max(value);
            }
        }
        let size = [high[0] - low[0], high[1] - low[1]];
        let area = size[0] * size[1];
        if best.is_none_or(|(smallest, _)| area < smallest) {
            let [u, v] = [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0];
            best = Some((area, directed([u * x - v * y, u * y + v * x], [x, y], size)));
        }
    }
    best.map(|(_, rectangle)| rectangle)
}

/// Chooses which of a rectangle's four directions the text takes: along the longer side, unless the rectangle is nearly square,
/// to the right or else downwards.
fn directed(middle: [f64; 2], side: [f64; 2], size: [f64; 2]) -> Rectangle {
    let quarter_turn = |[x, y]: [f64; 2]| [-y, x];
    let lies = |[x, y]: [f64; 2]| x.abs() >= y.abs();
    let elongated = size[0].max(size[1]) >= MIN_ELONGATION * size[0].min(size[1]);
    let keeps = if elongated { size[0] >= size[1] } else { lies(side) };
    let (mut along, size) = if keeps { (side, size) } else { (quarter_turn(side), [size[1], size[0]]) };
    let forward = if lies(along) { along[0] } else { along[1] };
    if forward < 0.0 {
        along = [-along[0], -along[1]];
    }
    Rectangle { middle, along, size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inference::{Model, Outputs, Tensor};
    use crate::models::manifest::{Manifest, Role};

    /// A map of `width × height` that is `value` inside a turned rectangle.
    fn bar(width: usize, height: usize, middle: [f64; 2], size: [f64; 2], degrees: f64, value: f32) -> Vec<f32> {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let inside = |at: usize| {
            let (x, y) = ((at % width) as f64 + 0.5 - middle[0], (at / width) as f64 + 0.5 - middle[1]);
            (x * cos + y * sin).abs() <= size[0] / 2.0 && (y * cos - x * sin).abs() <= size[1] / 2.0
        };
        (0..width * height).map(|at| if inside(at) { value } else { 0.0 }).collect()
    }

    fn near(found: [f64; 2], expected: [f64; 2], by: f64) -> bool {
        (found[0] - expected[0]).hypot(found[1] - expected[1]) <= by
    }

    #[test]
    fn a_bar_becomes_a_grown_rectangle_that_reads_to_the_right() {
        let found = lines(&bar(200, 100, [100.0, 50.0], [120.0, 10.0], 0.0, 0.9), 200);
        assert_eq!(found.len(), 1);
        // 120 · 10 · 1.6 / 260 = 7.38 pixels on each side.
        let growth = 1200.0 * GROWTH / 260.0;
        let expected = [
            [40.0 - growth, 45.0 - growth],
            [160.0 + growth, 45.0 - growth],
            [160.0 + growth, 55.0 + growth],
            [40.0 - growth, 55.0 + growth],
        ];
        for (found, expected) in found[0].quad.into_iter().zip(expected) {
            assert!(near(found, expected, 1e-9), "{found:?} for {expected:?}");
        }
        assert!((found[0].score - 0.9).abs() < 1e-6);
        let turned = found[0].turned();
        assert_eq!((turned.quad[0], turned.quad[1]), (found[0].quad[2], found[0].quad[3]));
        assert!((found[0].size()[0] - 120.0 - 2.0 * growth).abs() < 1e-9);
    }

    #[test]
    fn steep_text_reads_downwards_and_short_text_to_the_right() {
        let [line] = lines(&bar(100, 200, [50.0, 100.0], [120.0, 10.0], 90.0, 0.9), 100)[..] else { panic!() };
        assert!(line.quad[1][1] > line.quad[0][1] + 100.0, "{line:?}");
        assert!(line.quad[0][0] > line.quad[3][0] + 10.0, "the feet of such text are on the left: {line:?}");
        // Higher than wide, but not by enough: a digit.
        let [line] = lines(&bar(100, 100, [50.0, 50.0], [20.0, 26.0], 0.0, 0.9), 100)[..] else { panic!() };
        assert!(line.quad[1][0] > line.quad[0][0] + 20.0, "{line:?}");
    }

    #[test]
    fn noise_faint_and_empty_pieces_are_no_lines() {
        assert_eq!(lines(&[], 0), []);
        assert_eq!(lines(&vec![f32::NAN; 64 * 64], 64), []);
        assert_eq!(lines(&bar(100, 100, [50.0, 50.0], [60.0, 10.0], 0.0, 0.4), 100), [], "faint");
        assert_eq!(lines(&bar(100, 100, [50.0, 50.0], [60.0, 2.0], 0.0, 0.9), 100), [], "thin");
        let frame: Vec<f32> = (0..10_000)
            .map(|at| if [at % 100, at / 100].iter().any(|side| [10, 90].contains(side)) { 0.9 } else { 0.0 })
            .collect();
        assert_eq!(lines(&frame, 100), [], "a frame does not fill its rectangle");
        // Every fourth pixel in both directions: 160 000 pieces of one pixel.
        let dots: Vec<f32> =
            (0..1600 * 1600).map(|at| if at % 4 == 0 && (at / 1600) % 4 == 0 { 1.0 } else { 0.0 }).collect();
        assert_eq!(lines(&dots, 1600), []);
    }

    #[test]
    fn the_number_of_lines_is_bounded_and_all_text_is_one_line() {
        // Boxes of 5 × 5 pixels, a good hundred in each direction.
        let boxes: Vec<f32> =
            (0..800 * 800).map(|at| if at % 800 % 7 < 5 && at / 800 % 7 < 5 { 0.8 } else { 0.0 }).collect();
        let found = lines(&boxes, 800);
        assert_eq!(found.len(), MAX_LINES);
        assert!(found.is_sorted_by(|a, b| a.quad[0][1] <= b.quad[0][1]));
        let full = lines(&vec![1.0; 2560 * 640], 2560);
        assert_eq!(full.len(), 1);
    }

    struct Fake {
        map: Vec<f32>,
        shape: Vec<usize>,
    }

    impl Model for Fake {
        fn run(&self, input: Tensor, _: &Arc<RequestContext>) -> Result<Outputs, Error> {
            assert_eq!(input.shape, self.shape);
            Ok(vec![("map".into(), Tensor { shape: vec![self.map.len()], data: self.map.clone() })])
        }
    }

    fn detector(map: Vec<f32>, shape: [usize; 3]) -> TextDetector {
        let input = Manifest::shipped().unwrap().entry(Role::TextDetector).unwrap().input.clone();
        TextDetector::new(ModelPort { model: Arc::new(Fake { map, shape: shape.into() }), input })
    }

    #[test]
    fn lines_come_back_in_pixels_of_the_picture() {
        let picture = Image::build(1280, 600, |rgb| rgb.fill(200));
        // 640 × 300 on a canvas of 640 × 320: half the size.
        let map = bar(640, 320, [200.0, 100.0], [200.0, 12.0], 10.0, 0.95);
        let found = detector(map, [3, 320, 640]).find(&picture, 640, &Arc::default()).unwrap();
        assert_eq!(found.len(), 1);
        let middle = [0, 1].map(|axis| found[0].quad.iter().map(|corner| corner[axis]).sum::<f64>() / 4.0);
        assert!(near(middle, [400.0, 200.0], 2.0), "{middle:?}");
        let [from, to, ..] = found[0].quad;
        let degrees = (to[1] - from[1]).atan2(to[0] - from[0]).to_degrees();
        assert!((degrees - 10.0).abs() < 1.0, "{degrees}");
        let wrong = detector(vec![0.0; 5], [3, 320, 640]).find(&picture, 640, &Arc::default());
        assert!(matches!(wrong, Err(Error::Internal { .. })));
    }

    #[test]
    fn wished_sizes_are_kept_within_bounds() {
        let picture = Image::build(100, 100, |rgb| rgb.fill(200));
        for (wished, side) in [(0, 64), (640, 640), (u32::MAX, 2560)] {
            let found = detector(vec![0.0; side * side], [3, side, side]).find(&picture, wished, &Arc::default());
            assert_eq!(found.unwrap(), []);
        }
        let sliver = Image::build(4000, 1, |rgb| rgb.fill(200));
        assert_eq!(detector(vec![0.0; 640 * 64], [3, 64, 640]).find(&sliver, 640, &Arc::default()).unwrap(), []);
    }

    proptest! {
        #[test]
        fn a_turned_bar_is_found_where_it_is(degrees in -89.0f64..89.0, length in 40.0f64..150.0, height in 6.0f64..14.0) {
            let found = lines(&bar(240, 240, [120.0, 120.0], [length, height], degrees, 0.99), 240);
            prop_assert_eq!(found.len(), 1);
            let middle = [0, 1].map(|axis| found[0].quad.iter().map(|corner| corner[axis]).sum::<f64>() / 4.0);
            prop_assert!(near(middle, [120.0, 120.0], 1.0));
            let [from, to, ..] = found[0].quad;
            let along = (to[1] - from[1]).atan2(to[0] - from[0]).to_degrees();
            // A steep bar may be read from either end, always downwards.
            let difference = (along - degrees).rem_euclid(180.0);
            prop_assert!(difference.min(180.0 - difference) < 3.0, "{} for {}", along, degrees);
        }

        #[test]
        fn any_map_gives_finite_quads(map in prop::collection::vec(prop_oneof![Just(f32::NAN), Just(9.0), -1.0f32..2.0], 400)) {
            for line in lines(&map, 20) {
                prop_assert!(line.quad.iter().flatten().all(|value| value.is_finite()));
                prop_assert!((MIN_SCORE..=1.0).contains(&line.score));
            }
        }
    }
}
