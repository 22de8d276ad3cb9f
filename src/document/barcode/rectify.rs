//! Straightens a region of a picture so that bars stand upright and rows lie level.
//!
//! Called by the ladder of attempts beside it for every region that `locate` found. zxing-cpp follows the rows of a PDF417 only if
//! they are level within about four degrees, so a turned, slanted or bent symbol (a card held in the hand, a label on a bottle) must
//! be straightened first. The region is turned by its own direction; then the slope of rows and bars is fitted as a smooth function
//! of the place, by least squares on the gradients (the brightness along a line does not change, so `Ix + slope · Iy = 0`, as in
//! Lucas and Kanade, IJCAI 1981), and integrated into a displacement. Modules of changing width are left to the decoder.

use super::Luma;
use super::locate::Region;

/// Wanted length of the straightened picture along the rows, in pixels: three to four pixels for each of the about 400 modules of
/// the widest symbols in use.
const LENGTH_PX: f64 = 1500.0;

/// Greatest enlargement. A module is hardly ever seen in less than a pixel, and four pixels are enough for the decoder.
const MAX_ENLARGEMENT: f64 = 4.0;

/// Room around the region for the quiet zone and for edges that were not found, as a share of its length and in pixels.
const MARGIN: (f64, f64) = (0.06, 10.0);

/// Rounds of fitting. Each sees slopes that the last has made smaller; after three they change no more.
const ROUNDS: usize = 3;

/// Terms of a fitted slope: constant, along the row, across the rows, both, and the square along its own line.
const TERMS: usize = 5;

/// A way from a straightened picture to the picture it was cut from.
#[derive(Debug, Clone)]
pub(super) struct Map {
    center: [f64; 2],
    along: [f64; 2],
    down: [f64; 2],
    /// Half lengths of the cut in source pixels.
    half: [f64; 2],
    /// Pixels of the straightened picture per source pixel.
    enlargement: f64,
    /// Slope of the rows: source pixels down per source pixel along.
    rows: [f64; TERMS],
    /// Slant of the bars: source pixels along per source pixel down.
    bars: [f64; TERMS],
}

impl Map {
    /// Pixels of the straightened picture per source pixel.
    pub fn pixels_per_source(&self) -> f64 {
        self.enlargement
    }

    fn size(&self) -> (u32, u32) {
        let side = |half: f64| ((2.0 * half * self.enlargement).ceil()).clamp(1.0, 4000.0) as u32;
        (side(self.half[0]), side(self.half[1]))
    }

    /// Where a point of the straightened picture comes from, both in pixels.
    pub fn to_picture(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [long, high] = self.half;
        let (u, v) = (x / self.enlargement / long - 1.0, y / self.enlargement / high - 1.0);
        let [a, b, c, d, e] = self.rows;
        let drop = long * (a * u + b * u * u / 2.0 + c * u * v + d * u * u * v / 2.0 + e * u * u * u / 3.0);
        let [a, b, c, d, e] = self.bars;
        let lean = high * (a * v + b * u * v + c * v * v / 2.0 + d * u * v * v / 2.0 + e * v * v * v / 3.0);
        let (s, t) = (u * long + lean, v * high + drop);
        [0, 1].map(|axis| self.center[axis] + s * self.along[axis] + t * self.down[axis])
    }

    /// The straightened picture.
    pub fn sample(&self, picture: &Luma) -> Luma {
        let (width, height) = self.size();
        Luma::build(width, height, |x, y| {
            let [x, y] = self.to_picture([f64::from(x), f64::from(y)]);
            picture.cubic(x, y)
        })
    }
}

/// The region straightened, and the region only turned upright, for when the fit was led astray.
pub(super) fn maps(picture: &Luma, region: &Region) -> [Map; 2] {
    let (sin, cos) = region.angle.sin_cos();
    let half = region.half.map(|half| half * (1.0 + MARGIN.0) + MARGIN.1);
    let mut turned = Map {
        center: region.center,
        along: [cos, sin],
        down: [-sin, cos],
        half,
        enlargement: (LENGTH_PX / (2.0 * half[0])).min(1.0),
        rows: [0.0; TERMS],
        bars: [0.0; TERMS],
    };
    let mut straight = turned.clone();
    for _ in 0..ROUNDS {
        let [rows, bars] = slopes(&straight.sample(picture));
        for (sum, term) in straight.rows.iter_mut().zip(rows).chain(straight.bars.iter_mut().zip(bars)) {
            *sum = (*sum + term).clamp(-0.7, 0.7);
        }
    }
    let enlargement = (LENGTH_PX / (2.0 * half[0])).clamp(0.25, MAX_ENLARGEMENT);
    (turned.enlargement, straight.enlargement) = (enlargement, enlargement);
    [straight, turned]
}

/// Fitted slopes of rows and bars that are still in a nearly straight picture, over coordinates from −1 to 1.
fn slopes(picture: &Luma) -> [[f64; TERMS]; 2] {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut fits = [Fit::default(), Fit::default()];
    let pixels = picture.pixels();
    if width < 3 || height < 3 {
        return [[0.0; TERMS]; 2];
    }
    for (y, lines) in pixels.windows(3 * width).step_by(width).enumerate() {
        let (above, line, below) = (&lines[..width], &lines[width..2 * width], &lines[2 * width..]);
        let v = 2.0 * (y + 1) as f64 / height as f64 - 1.0;
        for x in 1..width - 1 {
            let at = |row: &[u8], x: usize| i32::from(row[x]);
            // Sobel's operator: the smoothing across makes the direction of the gradient true enough for lines of one pixel.
            let column = |x: usize| at(above, x) + 2 * at(line, x) + at(below, x);
            let row = |line: &[u8]| at(line, x - 1) + 2 * at(line, x) + at(line, x + 1);
            let (gx, gy) = (column(x + 1) - column(x - 1), row(below) - row(above));
            if gx.abs() + gy.abs() < MIN_GRADIENT {
                continue;
            }
            let u = 2.0 * x as f64 / width as f64 - 1.0;
            let (gx, gy) = (f64::from(gx), f64::from(gy));
            if gy.abs() > 2.0 * gx.abs() {
                fits[0].add([1.0, u, v, u * v, u * u], gx, gy);
            } else if gx.abs() > 2.0 * gy.abs() {
                fits[1].add([1.0, u, v, u * v, v * v], gy, gx);
            }
        }
    }
    fits.map(|fit| fit.solve())
}

/// Least sum of the absolute Sobel gradients that counts as an edge: eight grey values of step, above the noise of a camera.
const MIN_GRADIENT: i32 = 32;

/// Normal equations of `along + slope · across = 0`.
#[derive(Debug, Default)]
struct Fit {
    left: [[f64; TERMS]; TERMS],
    right: [f64; TERMS],
}

impl Fit {
    fn add(&mut self, basis: [f64; TERMS], along: f64, across: f64) {
        for ((row, right), a) in self.left.iter_mut().zip(&mut self.right).zip(basis) {
            for (cell, b) in row.iter_mut().zip(basis) {
                *cell += a * b * across * across;
            }
            *right -= a * along * across;
        }
    }

    /// Gauss-Jordan elimination with a small ridge, so that terms no edge speaks of stay zero.
    fn solve(mut self) -> [f64; TERMS] {
        let ridge = self.left[0][0] * 1e-6 + 1e-9;
        for at in 0..TERMS {
            self.left[at][at] += ridge;
        }
        for pivot in 0..TERMS {
            let (row, right) = (self.left[pivot], self.right[pivot]);
            for other in (0..TERMS).filter(|other| *other != pivot) {
                let factor = self.left[other][pivot] / row[pivot];
                for (cell, value) in self.left[other].iter_mut().zip(row) {
                    *cell -= factor * value;
                }
                self.right[other] -= factor * right;
            }
        }
        std::array::from_fn(|at| {
            let value = self.right[at] / self.left[at][at];
            if value.is_finite() { value.clamp(-0.5, 0.5) } else { 0.0 }
        })
    }
}
