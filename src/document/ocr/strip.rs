//! One line of a machine-readable zone as a strip of grey pixels, the input of the recogniser for zones.
//!
//! Called by [`MrzRecogniser`](super::MrzRecogniser) and by the maker of the strips that it is trained on, so that both see the same.

use super::{Quad, quad_size};
use crate::imaging::Image;
use crate::imaging::quality::luma;
use crate::imaging::warp::{Affine, Perspective, Sampling, warp};

/// Height of a strip.
pub const HEIGHT_PX: usize = 32;

/// Longest strip: 44 characters, the longest line, and eight more. Longer ones are squeezed.
pub const MAX_WIDTH_PX: usize = 640;

/// Height of the capital letters in a strip. The rest is room for lines that were found too high, too low or not quite straight.
const CAPITAL_PX: f64 = 18.0;

/// Distance of neighbouring characters in a strip, if they are printed as ICAO wants them: [`PITCH`] times as far apart as they are high.
const PITCH_PX: f64 = 12.0;
const PITCH: f64 = 2.54 / 2.4;

/// Room before the first and after the last character.
const END_PX: f64 = 8.0;

/// A strip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strip {
    pub width: usize,
    /// `[HEIGHT_PX, width]`, 0..=255.
    pub grey: Vec<u8>,
}

impl Strip {
    /// Cuts out the line in a quadrilateral that reaches from the top of the capital letters to the baseline. `None` if it is not convex,
    /// has no area, or is not finite.
    pub fn cut(image: &Image, quad: &Quad) -> Option<Self> {
        if image.width == 0 || image.height == 0 {
            return None;
        }
        let [along, across] = quad_size(quad);
        let content = along / across / PITCH * PITCH_PX;
        // The cast turns what is not a number into 0, and what is too large into the bound.
        let width = ((content + 2.0 * END_PX).round() as usize).clamp(HEIGHT_PX, MAX_WIDTH_PX);
        let scale = (width as f64 - 2.0 * END_PX) / content;
        let line = Perspective::from_rectangle([content * scale, CAPITAL_PX], quad)?;
        let top = (HEIGHT_PX as f64 - CAPITAL_PX) / 2.0;
        // From the strip to the line in it, and on to the picture.
        let shift = Affine { m: [[1.0, 0.0, -END_PX], [0.0, 1.0, -top]] };
        let map = line.between(&shift, &Affine::IDENTITY);
        let crop = warp(image, &map.in_pixel_centres(), [width as u32, HEIGHT_PX as u32], Sampling::Area);
        Some(Self { width, grey: luma(&crop) })
    }
}
