//! A grey picture and the few filters that barcode reading needs.
//!
//! Used by the files beside it. Enlarging is cubic (Catmull-Rom): unlike the linear kind it does not flatten bars that are hardly
//! wider than a pixel.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

/// A grey picture, rows from the top, one byte per pixel, 0 black to 255 white.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luma {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Luma {
    /// Takes the pixels of a picture. `None` if a side is zero or over 65535, or the number of pixels is not `width * height`.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let fits = (1..=0xffff).contains(&width) && (1..=0xffff).contains(&height);
        (fits && pixels.len() as u64 == u64::from(width) * u64::from(height)).then_some(Self { width, height, pixels })
    }

    pub fn width(&self) -> u32 {
        self.width
    }

    pub fn height(&self) -> u32 {
        self.height
    }

    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Builds a picture pixel by pixel; the sides must not be zero.
    pub(super) fn build(width: u32, height: u32, mut value: impl FnMut(u32, u32) -> u8) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let mut pixels = Vec::with_capacity(width as usize * height as usize);
        for y in 0..height {
            pixels.extend((0..width).map(|x| value(x, y)));
        }
        Self { width, height, pixels }
    }

    /// The picture `factor` times as large; area averaging when it becomes smaller.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        let side = |pixels: u32| ((f64::from(pixels) * factor).round() as u32).clamp(1, 0xffff);
        let (width, height) = (side(self.width), side(self.height));
        let filter = if factor < 1.0 { FilterType::Box } else { FilterType::CatmullRom };
        let mut pixels = vec![0; width as usize * height as usize];
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
        let from = TypedImageRef::<U8>::from_buffer(self.width, self.height, &self.pixels);
        let to = TypedImage::<U8>::from_buffer(width, height, &mut pixels);
        let resized =
            from.is_ok_and(|from| to.is_ok_and(|mut to| Resizer::new().resize_typed(&from, &mut to, &options).is_ok()));
        if resized { Self { width, height, pixels } } else { self.clone() }
    }

    /// Value at a place between pixel centres (pixel `i` lies at `i`), by cubic interpolation; beyond the edge the edge goes on.
    pub(super) fn cubic(&self, x: f64, y: f64) -> u8 {
        let (left, top) = (x.floor(), y.floor());
        let (wx, wy) = (weights(x - left), weights(y - top));
        let (left, top) = (left as i64 - 1, top as i64 - 1);
        let mut sum = 0.0;
        for (dy, wy) in (0..).zip(wy) {
            let row = (top + dy).clamp(0, i64::from(self.height) - 1) as usize * self.width as usize;
            for (dx, wx) in (0..).zip(wx) {
                let column = (left + dx).clamp(0, i64::from(self.width) - 1) as usize;
                sum += wx * wy * f64::from(self.pixels.get(row + column).copied().unwrap_or(0));
            }
        }
        sum.round().clamp(0.0, 255.0) as u8
    }

    /// Smoothed from top to bottom only, by about a source pixel to each side, so that bars stay sharp.
    pub(super) fn smoothed_down(&self, pixels_per_source: f64) -> Self {
        self.box_blurred(0, pixels_per_source.round().clamp(1.0, 8.0) as usize)
    }

    /// Unsharp mask: what differs from the surroundings of `radius` pixels is doubled.
    pub(super) fn sharpened(&self, radius: f64) -> Self {
        let radius = radius.round().clamp(1.0, 16.0) as usize;
        let soft = self.box_blurred(radius, radius).box_blurred(radius / 2, radius / 2);
        let pixels = self.pixels.iter().zip(&soft.pixels);
        let pixels =
            pixels.map(|(value, soft)| (3 * i32::from(*value) - 2 * i32::from(*soft)).clamp(0, 255) as u8).collect();
        Self { pixels, ..*self }
    }

    fn box_blurred(&self, across: usize, down: usize) -> Self {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut rows = self.pixels.clone();
        if across > 0 {
            for (to, from) in rows.chunks_exact_mut(width).zip(self.pixels.chunks_exact(width)) {
                running_mean(
                    across,
                    from.len(),
                    |at| from.get(at).copied().unwrap_or(0),
                    |at, value| {
                        if let Some(slot) = to.get_mut(at) {
                            *slot = value;
                        }
                    },
                );
            }
        }
        if down == 0 {
            return Self { pixels: rows, ..*self };
        }
        let mut pixels = vec![0; rows.len()];
        for x in 0..width {
            running_mean(
                down,
                height,
                |at| rows.get(at * width + x).copied().unwrap_or(0),
                |at, value| {
                    if let Some(slot) = pixels.get_mut(at * width + x) {
                        *slot = value;
                    }
                },
            );
        }
        Self { pixels, ..*self }
    }
}

/// Mean over `radius` values to each side; at the ends the end value goes on.
fn running_mean(radius: usize, len: usize, get: impl Fn(usize) -> u8, mut set: impl FnMut(usize, u8)) {
    if len == 0 {
        return;
    }
    let at = |place: i64| u32::from(get(place.clamp(0, len as i64 - 1) as usize));
    let (radius, count) = (radius as i64, 2 * radius as u32 + 1);
    let mut sum: u32 = (-radius..=radius).map(at).sum();
    for place in 0..len as i64 {
        set(place as usize, (sum / count) as u8);
        sum = sum + at(place + radius + 1) - at(place - radius);
    }
}

/// Catmull-Rom weights of the four pixels around a place `t` (0..1) after the second of them.
fn weights(t: f64) -> [f64; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [(-t + 2.0 * t2 - t3) / 2.0, (2.0 - 5.0 * t2 + 3.0 * t3) / 2.0, (t + 4.0 * t2 - 3.0 * t3) / 2.0, (t3 - t2) / 2.0]
}
