//! Sharpness and exposure of a crop.
//!
//! Called by `face` on the aligned face. These are native values in the sense of ISO/IEC 29794-5 (sharpness, luminance mean,
//! under- and over-exposure prevention); thresholds on them live in `calibration/`. Measures that need landmarks or a model
//! (pose, occlusion) are made elsewhere.

use super::Image;

/// Luma below this counts as under-exposed. With [`OVER_EXPOSED_ABOVE`] it bounds the range that video calls legal (ITU-R
/// BT.601: 16 to 235), widened above for the bright skin of well lit photographs.
const UNDER_EXPOSED_BELOW: u8 = 16;

/// Luma above this counts as over-exposed.
const OVER_EXPOSED_ABOVE: u8 = 239;

/// Values of one crop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelQuality {
    /// Variance of the Laplacian of the luma; 0 for an even area, larger is sharper. It depends on the size of the crop, so
    /// compare values of crops of one size only.
    pub sharpness: f64,
    /// Mean luma, 0..=255.
    pub luma_mean: f64,
    /// Share of pixels with a luma below 16, 0..=1.
    pub under_exposed: f64,
    /// Share of pixels with a luma above 239, 0..=1.
    pub over_exposed: f64,
}

/// Measures a crop of at least one pixel. Sharpness is 0 for crops with a side below three pixels.
pub fn measure(crop: &Image) -> PixelQuality {
    let luma = luma(crop);
    let count = luma.len().max(1) as f64;
    let share = |is_counted: fn(u8) -> bool| luma.iter().filter(|value| is_counted(**value)).count() as f64 / count;
    PixelQuality {
        sharpness: laplacian_variance(&luma, crop.width as usize),
        luma_mean: luma.iter().map(|value| f64::from(*value)).sum::<f64>() / count,
        under_exposed: share(|value| value < UNDER_EXPOSED_BELOW),
        over_exposed: share(|value| value > OVER_EXPOSED_ABOVE),
    }
}

/// The luma plane `[height, width]`, 0..=255, with the weights of ITU-R BT.601 rounded as OpenCV does.
pub fn luma(image: &Image) -> Vec<u8> {
    let weigh = |pixel: &[u8]| 4899 * u32::from(pixel[0]) + 9617 * u32::from(pixel[1]) + 1868 * u32::from(pixel[2]);
    image.rgb.chunks_exact(3).map(|pixel| ((weigh(pixel) + (1 << 13)) >> 14) as u8).collect()
}

/// Variance of the four-neighbour Laplacian over the inner pixels of a plane with rows of `width` values. The outermost pixels
/// have no four neighbours and are left out rather than invented.
fn laplacian_variance(luma: &[u8], width: usize) -> f64 {
    if width < 3 || luma.len() < 3 * width {
        return 0.0;
    }
    let (mut sum, mut squares, mut count) = (0i64, 0i64, 0i64);
    for rows in luma.windows(3 * width).step_by(width) {
        let (above, row, below) = (&rows[..width], &rows[width..2 * width], &rows[2 * width..]);
        for x in 1..width - 1 {
            let neighbours = i64::from(above[x]) + i64::from(below[x]) + i64::from(row[x - 1]) + i64::from(row[x + 1]);
            let value = neighbours - 4 * i64::from(row[x]);
            sum += value;
            squares += value * value;
            count += 1;
        }
    }
    let mean = sum as f64 / count as f64;
    squares as f64 / count as f64 - mean * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> Image {
        Image::build(width, height, |rgb| {
            for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                pixel.fill(value(i as u32 % width, i as u32 / width));
            }
        })
    }

    #[test]
    fn luma_of_the_primaries() {
        let image =
            Image::build(5, 1, |rgb| rgb.copy_from_slice(&[255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0]));
        assert_eq!(luma(&image), [76, 150, 29, 255, 0]);
    }

    #[test]
    fn an_even_area_is_not_sharp_and_a_checkerboard_is() {
        assert_eq!(measure(&grey(16, 16, |_, _| 90)).sharpness, 0.0);
        // Every Laplacian of a 0/255 checkerboard is ±1020, half of each.
        assert_eq!(measure(&grey(18, 18, |x, y| 255 * ((x + y) % 2) as u8)).sharpness, 1020.0 * 1020.0);
        // A ramp has no second derivative.
        assert_eq!(measure(&grey(16, 16, |x, _| 10 * x as u8)).sharpness, 0.0);
    }

    #[test]
    fn exposure_counts_the_ends_of_the_range() {
        // Luma 15 and 240 count, 16 and 239 do not.
        let quality = measure(&grey(4, 4, |x, _| [15, 16, 239, 240][x as usize]));
        assert_eq!((quality.under_exposed, quality.over_exposed), (0.25, 0.25));
        assert_eq!(quality.luma_mean, 127.5);
    }

    #[test]
    fn tiny_crops_have_no_sharpness() {
        for (width, height) in [(1, 1), (2, 9), (9, 2)] {
            assert_eq!(measure(&grey(width, height, |x, y| (40 * (x + y)) as u8)).sharpness, 0.0);
        }
    }
}
