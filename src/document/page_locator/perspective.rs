//! The corners of a page from the places that the cells of a picture show.
//!
//! Called by [`PageLocator`](super::PageLocator) with the map of the page (probability, u, v) and of its border. The perspective that agrees best
//! with all cells gives the corners; where the border was seen along a side, the side is laid through it.
//!
//! Source: the direct linear transformation, Hartley and Zisserman, "Multiple View Geometry" (2004), 4.1, weighted anew in each round by how
//! far a cell is off (the square of Cauchy's weights).

use nalgebra::{SMatrix, SymmetricEigen};

use super::{Maps, SeenPage};
use crate::document::locate::Quad;
use crate::document::locate::refine::{Fitted, robust_line};
use crate::imaging::warp::Perspective;

/// A cell shows the page from this probability on.
const MIN_PROBABILITY: f32 = 0.5;

/// Cells of a page that is large enough to be one: of the training's smallest pages, some 80 × 50 px, a fifth.
const MIN_CELLS: usize = 50;

const ROUNDS: usize = 4;

/// A quarter of the weight for a cell that is off by so many pixels of the canvas.
const QUARTER_WEIGHT_PX: f64 = 2.0;

/// Of the planes.
const PAGE: usize = 0;
const U: usize = 1;
const V: usize = 2;
const BORDER: usize = 0;

/// How far from a side its border is looked for, as a share of the diagonal, in two rounds; and where along it. Looked for once, at 0.06 of it,
/// 86.6 % of generated pages had all corners within 1 % of the diagonal; twice, 88.8.
const REACHES: [f64; 2] = [0.08, 0.03];
const STATIONS: usize = 48;
const WITHOUT_ENDS: f64 = 0.06;

/// The border is seen from this probability on; a side is laid through it if it is seen at this share of the stations in the picture.
const MIN_BORDER: f64 = 0.3;
const MIN_SEEN: f64 = 0.4;

/// Pixels of the canvas to either side of the strongest sign of the border that its place is the mean of.
const CREST_PX: f64 = 3.0;

/// How far outside of the picture a corner may lie, in sides of the picture. What is farther was not seen but made up, and to follow its border costs
/// time in proportion.
const FARTHEST: f64 = 3.0;

/// A page whose corners are this near to those of the picture, as a share of the diagonal, fills it: its border may lie outside, and what looks
/// like one is the picture's own.
const FILLS: f64 = 0.04;

/// The page, in pixels of the canvas.
pub(super) fn page(page: &Maps<'_>, border: &Maps<'_>) -> Option<SeenPage> {
    let cells = cells(page);
    if cells.len() < MIN_CELLS {
        return None;
    }
    let (map, agreement) = fit(&cells, page.columns.max(page.rows) as f64 * page.cell_px)?;
    let quad = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]].map(|corner| map.apply(corner));
    // Convex, with an area, and not mirrored: a page is seen from its front.
    Perspective::from_rectangle([1.0, 1.0], &quad)?;
    let size = [border.columns, border.rows].map(|count| count as f64 * border.cell_px);
    let turn = |a: usize, b: usize, c: usize| {
        (quad[b][0] - quad[a][0]) * (quad[c][1] - quad[b][1]) - (quad[b][1] - quad[a][1]) * (quad[c][0] - quad[b][0])
    };
    let is_far = |corner: &[f64; 2]| {
        (0..2).any(|axis| corner[axis] < -FARTHEST * size[axis] || corner[axis] > (1.0 + FARTHEST) * size[axis])
    };
    if turn(0, 1, 2) <= 0.0 || quad.iter().any(is_far) {
        return None;
    }
    let mut fitted = quad;
    if !fills(&quad, size) {
        for reach in REACHES {
            fitted = on_border(&fitted, border, reach);
        }
    }
    let is_convex = Perspective::from_rectangle([1.0, 1.0], &fitted).is_some();
    let quad = if is_convex { fitted } else { quad };
    Some(SeenPage { quad, confidence: agreement, pixel_px: 1.0 })
}

/// A cell of the page: its place on the canvas, the place of the page that it shows, and its probability.
struct Cell {
    at: [f64; 2],
    shows: [f64; 2],
    probability: f64,
}

fn cells(map: &Maps<'_>) -> Vec<Cell> {
    let mut cells = Vec::new();
    for row in 0..map.rows {
        for column in 0..map.columns {
            let index = row * map.width + column;
            let [probability, u, v] = [PAGE, U, V].map(|plane| map.planes[plane][index]);
            if probability >= MIN_PROBABILITY {
                cells.push(Cell {
                    at: map.centre(column, row),
                    shows: [u, v].map(f64::from),
                    probability: f64::from(probability),
                });
            }
        }
    }
    cells
}

/// The perspective from the page to the canvas, and how far its cells agree with it, 0..1.
fn fit(cells: &[Cell], side_px: f64) -> Option<(Perspective, f64)> {
    // About the middle and of a size about 1, as the method needs it.
    let scaled = |[x, y]: [f64; 2]| [x / side_px - 0.5, y / side_px - 0.5];
    let mut weights: Vec<f64> = cells.iter().map(|cell| cell.probability).collect();
    let mut found = [[0.0; 3]; 3];
    for _ in 0..ROUNDS {
        let mut normal = SMatrix::<f64, 9, 9>::zeros();
        for (cell, weight) in cells.iter().zip(&weights) {
            let ([x, y], [u, v]) = (scaled(cell.at), cell.shows.map(|part| part - 0.5));
            let rows = [[u, v, 1.0, 0.0, 0.0, 0.0, -x * u, -x * v, -x], [0.0, 0.0, 0.0, u, v, 1.0, -y * u, -y * v, -y]];
            for row in rows {
                for (i, a) in row.iter().enumerate().filter(|(_, a)| **a != 0.0) {
                    for (j, b) in row.iter().enumerate().take(i + 1) {
                        normal[(i, j)] += weight * weight * a * b;
                    }
                }
            }
        }
        // The lower triangle is what is read of a symmetric matrix.
        let eigen = SymmetricEigen::try_new(normal, 1e-14, 200)?;
        let least = eigen.eigenvalues.imin();
        let vector = eigen.eigenvectors.column(least);
        found = std::array::from_fn(|row| std::array::from_fn(|column| vector[3 * row + column]));
        let map = Perspective { m: found };
        for (cell, weight) in cells.iter().zip(&mut weights) {
            let ([x, y], seen) = (scaled(cell.at), map.apply(cell.shows.map(|part| part - 0.5)));
            let off = (seen[0] - x).hypot(seen[1] - y) * side_px / QUARTER_WEIGHT_PX;
            *weight = cell.probability / (1.0 + off * off);
        }
    }
    if !found.iter().flatten().chain(&weights).all(|value| value.is_finite()) {
        return None;
    }
    // Back from the scaled places: shift and scale on both sides.
    let [r0, r1, r2] = found;
    let back = |row: [f64; 3]| std::array::from_fn(|i| side_px * (row[i] + 0.5 * r2[i]));
    let m = [back(r0), back(r1), r2];
    let shifted = m.map(|[a, b, c]: [f64; 3]| [a, b, c - 0.5 * (a + b)]);
    let agreement = weights.iter().sum::<f64>() / cells.len() as f64;
    Some((Perspective { m: shifted }, agreement))
}

/// Whether each corner lies near one of the picture's, and none near the same.
fn fills(quad: &Quad, [width, height]: [f64; 2]) -> bool {
    let frame = [[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]];
    let near = FILLS * width.hypot(height);
    (0..4).any(|turn| {
        (0..4).all(|corner| {
            let ([x, y], [u, v]) = (quad[corner], frame[(corner + turn) % 4]);
            (x - u).hypot(y - v) <= near
        })
    })
}

/// The quadrilateral with each side laid through the border that was seen along it, at most `reach` of the diagonal away.
fn on_border(quad: &Quad, border: &Maps<'_>, reach: f64) -> Quad {
    let diagonal = (quad[2][0] - quad[0][0]).hypot(quad[2][1] - quad[0][1]);
    let reach = (reach * diagonal).max(2.0 * border.cell_px);
    let sides: [Option<Fitted>; 4] = std::array::from_fn(|side| {
        let (from, to) = (quad[side], quad[(side + 1) % 4]);
        along_border(border, from, to, reach).or_else(|| Fitted::through(from, to))
    });
    std::array::from_fn(|corner| {
        let (Some(before), Some(after)) = (&sides[(corner + 3) % 4], &sides[corner]) else { return quad[corner] };
        match before.meet(after) {
            Some(at) if (at[0] - quad[corner][0]).hypot(at[1] - quad[corner][1]) < 3.0 * reach => at,
            _ => quad[corner],
        }
    })
}

fn along_border(border: &Maps<'_>, from: [f64; 2], to: [f64; 2], reach: f64) -> Option<Fitted> {
    let length = (to[0] - from[0]).hypot(to[1] - from[1]);
    if length < 4.0 * border.cell_px {
        return None;
    }
    let along = [(to[0] - from[0]) / length, (to[1] - from[1]) / length];
    let normal = [-along[1], along[0]];
    let point = |t: f64, d: f64| [from[0] + along[0] * t + normal[0] * d, from[1] + along[1] * t + normal[1] * d];
    let size = [border.columns, border.rows].map(|count| count as f64 * border.cell_px);
    let step = border.cell_px / 2.0;
    let half = (reach / step) as i32;
    let (mut inside, mut points) = (0, Vec::new());
    for station in 0..STATIONS {
        let share = WITHOUT_ENDS + (1.0 - 2.0 * WITHOUT_ENDS) * (station as f64 + 0.5) / STATIONS as f64;
        let t = length * share;
        if !(0..2).all(|axis| (0.0..=size[axis]).contains(&point(t, 0.0)[axis])) {
            continue;
        }
        inside += 1;
        let seen = |d: i32| (f64::from(d) * step, border.read(BORDER, point(t, f64::from(d) * step)));
        let (crest, best) = (-half..=half).map(seen).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
        if best < MIN_BORDER {
            continue;
        }
        let (mut mass, mut sum) = (0.0, 0.0);
        for (d, probability) in (-half..=half).map(seen).filter(|(d, _)| (d - crest).abs() <= CREST_PX) {
            // Squared, so that the crest counts more than its foot.
            mass += probability * probability;
            sum += probability * probability * d;
        }
        points.push([t, sum / mass, best]);
    }
    if points.len() < 6 || (points.len() as f64) < MIN_SEEN * f64::from(inside) || inside < STATIONS as i32 / 4 {
        return None;
    }
    let [at, slope] = robust_line(&points, length / 2.0, reach)?;
    let end = |t: f64| point(t, at + slope * (t - length / 2.0));
    Fitted::through(end(0.0), end(length))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const CELLS: [usize; 2] = [80, 48];

    fn maps<'a>(planes: &'a [Vec<f32>], columns: usize, rows: usize, cell_px: f64) -> Maps<'a> {
        Maps { planes: planes.iter().map(Vec::as_slice).collect(), width: columns, columns, rows, cell_px }
    }

    /// What a perfect network would say of a page on a canvas of 320 × 192 pixels, with the places off by a wave of `noise`; the border only
    /// where `has_border` says.
    pub fn seen(quad: &Quad, noise: f64, has_border: impl Fn([f64; 2]) -> bool) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let to_page = Perspective::from_rectangle([1.0, 1.0], quad).unwrap().invert().unwrap();
        let [columns, rows] = CELLS;
        let mut page: Vec<Vec<f32>> = vec![Vec::new(); 3];
        for index in 0..columns * rows {
            let at = [(index % columns) as f64 * 4.0 + 2.0, (index / columns) as f64 * 4.0 + 2.0];
            let [u, v] = to_page.apply(at);
            let is_page = (0.0..=1.0).contains(&u) && (0.0..=1.0).contains(&v);
            let wave = |phase: f64| noise * (index as f64 * 2.4 + phase).sin();
            page[PAGE].push(if is_page { 0.95 } else { 0.02 });
            page[U].push((u + wave(0.0)) as f32);
            page[V].push((v + wave(1.0)) as f32);
        }
        let (columns, rows) = (columns * 2, rows * 2);
        let mut fine = vec![vec![0.0; columns * rows]; 2];
        for (index, value) in fine[BORDER].iter_mut().enumerate() {
            let at = [(index % columns) as f64 * 2.0 + 1.0, (index / columns) as f64 * 2.0 + 1.0];
            let to_side = |side: usize| {
                let ([ax, ay], [bx, by]) = (quad[side], quad[(side + 1) % 4]);
                (((bx - ax) * (at[1] - ay) - (by - ay) * (at[0] - ax)) / (bx - ax).hypot(by - ay)).abs()
            };
            let distance: f64 = (0..4).map(to_side).fold(f64::MAX, f64::min);
            *value = if has_border(at) { (1.0 - distance / 3.0).max(0.0) as f32 } else { 0.0 };
        }
        (page, fine)
    }

    fn found(quad: &Quad, noise: f64, has_border: impl Fn([f64; 2]) -> bool) -> Option<SeenPage> {
        let (coarse, fine) = seen(quad, noise, has_border);
        let [columns, rows] = CELLS;
        page(&maps(&coarse, columns, rows, 4.0), &maps(&fine, 2 * columns, 2 * rows, 2.0))
    }

    fn error(found: &Quad, quad: &Quad) -> f64 {
        found.iter().zip(quad).map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1])).fold(0.0, f64::max)
    }

    pub const TILTED: Quad = [[60.0, 30.0], [270.0, 50.0], [255.0, 170.0], [70.0, 150.0]];

    #[test]
    fn the_corners_follow_from_the_places_of_the_cells_in_every_direction() {
        for turn in 0..4 {
            let quad: Quad = std::array::from_fn(|corner| TILTED[(corner + turn) % 4]);
            let page = found(&quad, 0.0, |_| false).unwrap();
            assert!(error(&page.quad, &quad) < 0.01, "{turn}: {page:?}");
            assert!(page.confidence > 0.94, "{page:?}");
            // Places that contradict each other make it less sure.
            let noisy = found(&quad, 0.03, |_| false).unwrap();
            assert!(error(&noisy.quad, &quad) < 4.0, "{noisy:?}");
            assert!(noisy.confidence < page.confidence - 0.2, "{noisy:?}");
        }
    }

    #[test]
    fn corners_outside_of_the_picture_are_told() {
        let quad = [[-30.0, -12.0], [290.0, 20.0], [280.0, 230.0], [-20.0, 205.0]];
        let page = found(&quad, 0.0, |_| false).unwrap();
        assert!(error(&page.quad, &quad) < 0.05, "{page:?}");
    }

    #[test]
    fn a_side_is_laid_through_its_border_where_that_was_seen() {
        // The places say one thing, the border, three pixels away, another.
        let shifted = TILTED.map(|[x, y]| [x, y - 3.0]);
        let (coarse, _) = seen(&TILTED, 0.0, |_| false);
        let [columns, rows] = CELLS;
        let with = |has_border: &dyn Fn([f64; 2]) -> bool| {
            let (_, fine) = seen(&shifted, 0.0, has_border);
            page(&maps(&coarse, columns, rows, 4.0), &maps(&fine, 2 * columns, 2 * rows, 2.0)).unwrap().quad
        };
        assert!(error(&with(&|_| true), &shifted) < 0.4, "{:?}", with(&|_| true));
        // A finger hides a third of each side.
        let is_seen = |[x, y]: [f64; 2]| !(120.0..190.0).contains(&x) && !(80.0..110.0).contains(&y);
        assert!(error(&with(&is_seen), &shifted) < 0.6, "{:?}", with(&is_seen));
        // Only specks of it.
        let specks = |[x, y]: [f64; 2]| (x as i32 / 8) % 8 == 0 && (y as i32 / 8) % 8 == 0;
        assert!(error(&with(&specks), &TILTED) < 0.05, "{:?}", with(&specks));
    }

    #[test]
    fn a_page_that_is_mirrored_or_reaches_the_horizon_is_none() {
        let mirrored = TILTED.map(|[x, y]| [320.0 - x, y]);
        assert_eq!(found(&mirrored, 0.0, |_| false), None);
        // Its far side lies 20 pictures away.
        let far = [[60.0, 20.0], [6_400.0, -900.0], [6_400.0, 1_200.0], [60.0, 170.0]];
        assert!(Perspective::from_rectangle([1.0, 1.0], &far).is_some());
        assert_eq!(found(&far, 0.0, |_| false), None);
    }

    #[test]
    fn nothing_and_nonsense_are_no_page() {
        let (mut coarse, fine) = seen(&TILTED, 0.0, |_| true);
        let [columns, rows] = CELLS;
        let told =
            |coarse: &[Vec<f32>]| page(&maps(coarse, columns, rows, 4.0), &maps(&fine, 2 * columns, 2 * rows, 2.0));
        assert!(told(&coarse).is_some());
        // All cells show the same point of the page.
        coarse[U].fill(0.3);
        coarse[V].fill(0.3);
        assert_eq!(told(&coarse), None);
        coarse[PAGE].fill(0.1);
        assert_eq!(told(&coarse), None);
    }
}
