//! Lines of a zone from the map of their pixels.
//!
//! Called by [`PageLocator`](super::PageLocator). Pixels that touch each other make a line; its direction and place are those of its
//! moments, its height the median over its length, its ends where half of that is left. All of that is finer than a pixel, as a line has hundreds of them.

use super::Maps;
use crate::document::locate::Quad;
use crate::document::ocr::TextLine;
use crate::imaging::connected::connected;

/// A pixel belongs to a line from this probability on.
const MIN_PROBABILITY: f32 = 0.5;

/// Pieces of fewer pixels are no part of a line worth reading.
const MIN_PIXELS: usize = 8;

/// Most lines reported, those of most pixels: a zone has three.
const MAX_LINES: usize = 24;

const LINES: usize = 1;

/// The lines, in pixels of the canvas, each running to the right or, if it is steeper than 45°, downwards.
pub(super) fn lines(map: &Maps<'_>) -> Vec<TextLine> {
    let plane = map.planes[LINES];
    let mut open: Vec<bool> = (0..map.rows * map.columns)
        .map(|index| plane[index / map.columns * map.width + index % map.columns] >= MIN_PROBABILITY)
        .collect();
    let mut pieces: Vec<Vec<Pixel>> = Vec::new();
    connected(&mut open, map.columns, |piece, index| {
        let (column, row) = (index % map.columns, index / map.columns);
        let probability = f64::from(plane[row * map.width + column]);
        if pieces.len() == piece {
            pieces.push(Vec::new());
        }
        pieces[piece].push(Pixel { at: map.centre(column, row), probability });
    });
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
    pieces.truncate(MAX_LINES);
    let mut lines: Vec<TextLine> = pieces.iter().filter_map(|piece| line(piece, map.cell_px)).collect();
    lines.sort_by(|a, b| middle_y(&a.quad).total_cmp(&middle_y(&b.quad)));
    lines
}

fn middle_y(quad: &Quad) -> f64 {
    quad.iter().map(|corner| corner[1]).sum()
}

struct Pixel {
    at: [f64; 2],
    probability: f64,
}

/// The bar that a piece is.
fn line(pixels: &[Pixel], cell_px: f64) -> Option<TextLine> {
    if pixels.len() < MIN_PIXELS {
        return None;
    }
    let mass: f64 = pixels.iter().map(|pixel| pixel.probability).sum();
    let mean = [0, 1].map(|axis: usize| pixels.iter().map(|p| p.probability * p.at[axis]).sum::<f64>() / mass);
    let moment = |a: usize, b: usize| {
        pixels.iter().map(|p| p.probability * (p.at[a] - mean[a]) * (p.at[b] - mean[b])).sum::<f64>() / mass
    };
    let (xx, xy, yy) = (moment(0, 0), moment(0, 1), moment(1, 1));
    let angle = 0.5 * (2.0 * xy).atan2(xx - yy);
    let mut along = [angle.cos(), angle.sin()];
    let forward = if along[0].abs() >= along[1].abs() { along[0] } else { along[1] };
    if forward < 0.0 {
        along = along.map(|part| -part);
    }
    // How high the bar is at each place along it, in steps of a pixel.
    let place = |pixel: &Pixel| (pixel.at[0] - mean[0]) * along[0] + (pixel.at[1] - mean[1]) * along[1];
    let (low, high) = pixels.iter().map(place).fold((f64::MAX, f64::MIN), |(low, high), t| (low.min(t), high.max(t)));
    let count = ((high - low) / cell_px) as usize + 3;
    let mut heights = vec![0.0; count];
    for pixel in pixels {
        // Shared between the two nearest steps.
        let t = (place(pixel) - low) / cell_px + 1.0;
        let (step, share) = ((t as usize).min(count - 2), t.fract());
        heights[step] += pixel.probability * (1.0 - share) * cell_px;
        heights[step + 1] += pixel.probability * share * cell_px;
    }
    let mut sorted: Vec<f64> = heights.clone();
    sorted.sort_by(f64::total_cmp);
    let height = sorted[count / 2];
    let start = end(heights.iter(), height / 2.0)?;
    let stop = count as f64 - 1.0 - end(heights.iter().rev(), height / 2.0)?;
    let [start, stop] = [start, stop].map(|step| low + (step - 1.0) * cell_px);
    if stop - start < height || height <= 0.0 {
        return None;
    }
    let across = [-along[1], along[0]];
    let corner = |t: f64, d: f64| [0, 1].map(|axis: usize| mean[axis] + along[axis] * t + across[axis] * d);
    let half = height / 2.0;
    let capitals = [corner(start, -half), corner(stop, -half), corner(stop, half), corner(start, half)];
    Some(TextLine::of_capitals(capitals, mass / pixels.len() as f64))
}

/// Where values first reach a level, between two steps.
fn end<'a>(values: impl Iterator<Item = &'a f64>, level: f64) -> Option<f64> {
    let mut before = 0.0;
    for (step, &value) in values.enumerate() {
        if value >= level {
            return Some(step as f64 - (value - level) / (value - before).max(1e-9));
        }
        before = value;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 2] = [160, 96];

    /// The map of turned bars, given by their middle, size and angle in pixels of the canvas; a cell's value is the share of it that is covered.
    fn map(bars: &[([f64; 2], [f64; 2], f64)]) -> Vec<f32> {
        let [columns, rows] = SIZE;
        let mut map = vec![0.0f32; columns * rows];
        for (index, value) in map.iter_mut().enumerate() {
            let at = [(index % columns) as f64 * 2.0 + 1.0, (index / columns) as f64 * 2.0 + 1.0];
            for (middle, size, degrees) in bars {
                let (sin, cos) = degrees.to_radians().sin_cos();
                let [dx, dy] = [at[0] - middle[0], at[1] - middle[1]];
                let depth =
                    (size[0] / 2.0 - (dx * cos + dy * sin).abs()).min(size[1] / 2.0 - (dy * cos - dx * sin).abs());
                *value = value.max((depth / 2.0 + 0.5).clamp(0.0, 1.0) as f32);
            }
        }
        map
    }

    fn found(map: &[f32]) -> Vec<TextLine> {
        let [columns, rows] = SIZE;
        lines(&Maps { planes: vec![map, map], width: columns, columns, rows, cell_px: 2.0 })
    }

    #[test]
    fn a_bar_becomes_a_line_to_a_fraction_of_a_pixel() {
        for degrees in [0.0, 3.0, -17.0, 45.0, 90.0] {
            let (middle, size) = ([151.3, 92.7], [150.0, 6.0]);
            let lines = found(&map(&[(middle, size, degrees)]));
            assert_eq!(lines.len(), 1, "{degrees}°");
            let capitals = lines[0].capitals();
            let (sin, cos) = f64::to_radians(degrees).sin_cos();
            let corner = |x: f64, y: f64| [middle[0] + x * cos - y * sin, middle[1] + x * sin + y * cos];
            let expected = [corner(-75.0, -3.0), corner(75.0, -3.0), corner(75.0, 3.0), corner(-75.0, 3.0)];
            for (found, expected) in capitals.iter().zip(&expected) {
                let off = (found[0] - expected[0]).hypot(found[1] - expected[1]);
                assert!(off < 1.2, "{degrees}°: {capitals:?} for {expected:?}");
            }
        }
    }

    #[test]
    fn lines_come_from_top_to_bottom_and_specks_are_none() {
        let bars =
            [([150.0, 120.0], [200.0, 5.0], 2.0), ([150.0, 100.0], [200.0, 5.0], 2.0), ([40.0, 20.0], [3.0, 3.0], 0.0)];
        let lines = found(&map(&bars));
        assert_eq!(lines.len(), 2);
        assert!(lines[0].quad[0][1] < lines[1].quad[0][1]);
        assert!(found(&map(&[])).is_empty());
    }

    #[test]
    fn a_stub_at_the_end_of_a_line_does_not_make_it_longer() {
        let bars = [([150.0, 100.0], [200.0, 8.0], 0.0), ([255.0, 102.0], [14.0, 2.0], 0.0)];
        let lines = found(&map(&bars));
        assert_eq!(lines.len(), 1);
        assert!((lines[0].capitals()[1][0] - 250.0).abs() < 2.0, "{lines:?}");
    }
}
