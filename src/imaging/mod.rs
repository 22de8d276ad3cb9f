//! Bytes to pixels, and pixels to pixels.
//!
//! Called by `pipeline` (decoding, turning a picture that lies on its side) and by `face` (letterboxed detector input, aligned
//! crops, quality). Nothing here reads a file, the network or a clock; the one exception is `heic`, which asks the dynamic
//! linker once for the host's libheif. Colour profiles are not applied: every picture is taken to be sRGB.
//!
//! Two coordinate conventions meet in this module and are kept apart by name:
//! - *Pixel areas*: pixel `i` covers `i..i + 1`. Sizes and scales ([`decode::Decoded::scale`], [`resize`]) use it.
//! - *Pixel centres*: pixel `i` lies at the integer `i`, as in OpenCV. [`warp`] uses it, because the alignment templates of the
//!   face models were made with it.

use std::convert::Infallible;
use std::sync::Arc;

pub mod connected;
mod contained;
pub mod decode;
pub mod heic;
pub mod orient;
pub mod pdf;
pub mod quality;
pub mod resize;
pub mod tensor;
pub mod warp;

/// An upright RGB picture, shared and never copied.
#[derive(Debug, Clone)]
pub struct Image {
    pub width: u32,
    pub height: u32,
    /// `[height, width, 3]`, 8-bit RGB, row-major without padding.
    pub rgb: Arc<[u8]>,
}

impl Image {
    /// Makes a picture of `width × height` pixels and lets `fill` write its bytes (`[height, width, 3]`, all zero at first)
    /// in the place where they stay.
    pub fn build(width: u32, height: u32, fill: impl FnOnce(&mut [u8])) -> Self {
        let built = Self::try_build(width, height, |rgb| {
            fill(rgb);
            Ok::<(), Infallible>(())
        });
        match built {
            Ok(image) => image,
            Err(never) => match never {},
        }
    }

    /// As [`build`](Self::build), for a filling that can fail.
    ///
    /// # Errors
    /// Whatever `fill` returns.
    pub fn try_build<E>(width: u32, height: u32, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let zeroed = Arc::<[u8]>::new_zeroed_slice(width as usize * height as usize * 3);
        // SAFETY: every byte of the slice has been set to zero by its allocation, and zero is a valid `u8`.
        let mut rgb = unsafe { zeroed.assume_init() };
        // The slice has one owner here, so this never copies.
        fill(Arc::make_mut(&mut rgb))?;
        Ok(Self { width, height, rgb })
    }

    /// A copy of the part with its top left corner at a place.
    ///
    /// # Panics
    /// If the part reaches over the border of the picture.
    pub fn part(&self, [left, top]: [u32; 2], [width, height]: [u32; 2]) -> Self {
        let row_bytes = self.width as usize * 3;
        let (first, count) = (left as usize * 3, width as usize * 3);
        let rows = self.rgb.chunks_exact(row_bytes).skip(top as usize);
        Self::build(width, height, |rgb| {
            for (target, row) in rgb.chunks_exact_mut(count).zip(rows) {
                target.copy_from_slice(&row[first..first + count]);
            }
        })
    }

    /// The three bytes of the pixel in column `x` and row `y`.
    ///
    /// # Panics
    /// If the pixel lies outside the picture.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        assert!(x < self.width && y < self.height, "pixel outside the picture");
        let at = (y as usize * self.width as usize + x as usize) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }
}
