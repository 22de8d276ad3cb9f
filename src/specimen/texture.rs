//! Fields of smooth or grainy values over a sheet or a picture.
//!
//! Called by the printing of documents and by the camera: worn ink, uneven paper, shadows, backdrops.

use super::random::Random;

/// A value for each pixel, row by row.
#[derive(Debug, Clone)]
pub struct Texture {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
}

impl Texture {
    /// The value of a pixel; beyond the border that of the nearest.
    pub fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y.min(self.height - 1) * self.width + x.min(self.width - 1)]
    }

    /// Smooth noise with mean 0 and a deviation of about 1, whose hills are about `cell` pixels wide.
    pub fn hills([width, height]: [usize; 2], cell: [f64; 2], random: &mut Random) -> Self {
        let [columns, rows] =
            [(width, cell[0]), (height, cell[1])].map(|(side, cell)| (side as f64 / cell.max(1.0)) as usize + 2);
        let grid: Vec<f32> = (0..columns * rows).map(|_| random.normal() * 1.5).collect();
        // The grid cell and the weight of its far side, smoothed so that no edges of cells are seen.
        let place = |at: usize, cell: f64| {
            let at = at as f64 / cell.max(1.0);
            let t = (at - at.floor()) as f32;
            (at as usize, t * t * (3.0 - 2.0 * t))
        };
        let across: Vec<(usize, f32)> = (0..width).map(|x| place(x, cell[0])).collect();
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let (row, down) = place(y, cell[1]);
            let (upper, lower) = (&grid[row * columns..][..columns], &grid[(row + 1) * columns..][..columns]);
            values.extend(across.iter().map(|&(column, t)| {
                let a = upper[column] + (upper[column + 1] - upper[column]) * t;
                let b = lower[column] + (lower[column + 1] - lower[column]) * t;
                a + (b - a) * down
            }));
        }
        Self { width, height, values }
    }

    /// Waves across the plane: a sine of the distance along `angle_deg`, with a wobble of smooth noise.
    pub fn waves([width, height]: [usize; 2], period: f64, angle_deg: f64, wobble: f64, random: &mut Random) -> Self {
        let (sin, cos) = (libm::sin(angle_deg.to_radians()), libm::cos(angle_deg.to_radians()));
        let phase = random.within(0.0, 1.0);
        let bends = Self::hills([width, height], [period * 9.0, period * 9.0], random);
        let step = std::f64::consts::TAU / period;
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let bend = f64::from(bends.values[y * width + x]) * wobble * period;
                let along = (x as f64 * cos + y as f64 * sin + bend) * step + phase * std::f64::consts::TAU;
                values.push(wave(along) as f32);
            }
        }
        Self { width, height, values }
    }
}

/// A sine, exact to 0.1 %: Bhaskara's approximation, which costs a tenth of the exact one.
pub(super) fn wave(angle: f64) -> f64 {
    let turn = angle / std::f64::consts::TAU;
    let half = 2.0 * (turn - turn.floor());
    let (x, sign) = if half < 1.0 { (half, 1.0) } else { (half - 1.0, -1.0) };
    let product = x * (1.0 - x);
    sign * 16.0 * product / (5.0 - 4.0 * product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheap_sine_is_close_to_the_exact_one() {
        for step in -1000..1000 {
            let angle = f64::from(step) / 90.0;
            assert!((wave(angle) - angle.sin()).abs() < 2e-3, "{angle}");
        }
    }

    #[test]
    fn hills_cover_the_plane_and_vary_about_0() {
        let hills = Texture::hills([300, 200], [12.0, 8.0], &mut Random::new(3, "hills"));
        assert_eq!(hills.values.len(), 60_000);
        let mean = hills.values.iter().sum::<f32>() / 60_000.0;
        let deviation = (hills.values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / 60_000.0).sqrt();
        assert!(mean.abs() < 0.15 && (0.6..1.4).contains(&deviation), "{mean} {deviation}");
        // Neighbours are alike.
        let steps = hills.values.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        assert!(steps.filter(|&step| step > 1.5).count() < 300);
    }
}
