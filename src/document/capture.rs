//! What a photograph of a document suffers from.
//!
//! Called by the reading of documents once the document has been located, so that a person can be asked for a better picture. Each
//! warning is a measured value beside a bound; the values are public because a bound is a matter of policy. The bounds were chosen on
//! generated pictures (`cargo bench --bench locate -- capture`), not on photographs of real documents.
//!
//! Left out: a picture of a screen. Moiré was not tried, for want of such pictures to measure it on.
//!
//! Source of the size of characters: ICAO Doc 9303 part 3 (OCR-B, ten characters to an inch).

use super::locate::{Format, Located};
use crate::imaging::Image;
use crate::imaging::quality::luma;
use crate::imaging::warp::{Affine, Perspective, Sampling, warp};

/// Below this many pixels to a millimetre (10 to the pitch of a character in the machine-readable zone, about 100 to an inch) the strokes
/// of OCR-B, 0.35 mm wide, have less than one and a half pixels.
pub const MIN_PX_PER_MM: f64 = 4.0;

/// Luma of the paper below which the darker half of the range has too few steps left for print on it.
pub const MIN_PAPER_LUMA: f64 = 70.0;

/// Share of the document under one reflection that can hide a field: a date is about 1 % of an ID-1 card.
pub const MIN_GLARE_SHARE: f64 = 0.01;

/// Documents with more white than this are white paper in good light, or overexposed as a whole, not reflecting.
const MAX_GLARE_SHARE: f64 = 0.4;

/// Least sharpness of readable print. In generated pictures a Gaussian blur of 0.3 mm, nearly the width of the strokes of OCR-B,
/// brings the median to 0.20 and one of 0.6 mm all below 0.17; without it, 95 % lie above 0.19.
pub const MIN_SHARPNESS: f64 = 0.18;

/// Colour of a document below which it may be a copy: grey pictures under tinted light had 0.01 to 0.03, documents in colour 0.06 and more.
pub const MIN_COLOUR: f64 = 0.045;

/// Resolution at which sharpness is measured, so that the blur counts in millimetres of the document whatever the camera.
const MEASURED_PX_PER_MM: f64 = 5.0;

/// All channels at or above this are saturated; JPEG coding takes a few steps off 255.
const SATURATED: u8 = 247;

/// Corners may lie this share of the diagonal outside the picture without anything being lost but the margin.
const OUTSIDE_SHARE: f64 = 0.01;

/// Stable codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaptureWarning {
    /// A part of the document lies outside the picture.
    DocumentCutOff,
    /// Small print cannot be read for blur.
    Blurred,
    /// A reflection covers a part.
    Glare,
    /// The paper is too dark.
    TooDark,
    /// The machine-readable zone has less than 10 pixels to a character.
    TooSmall,
    /// The document has no colours: it may be a copy without them. A copy in colour is not noticed, and a document printed in
    /// greys is suspected wrongly.
    ColourCopySuspected,
    /// The text is mirrored, as in the preview of a front camera. Told by whoever reads the text.
    Mirrored,
}

impl CaptureWarning {
    pub fn code(self) -> &'static str {
        match self {
            Self::DocumentCutOff => "DOCUMENT_CUT_OFF",
            Self::Blurred => "BLURRED",
            Self::Glare => "GLARE",
            Self::TooDark => "TOO_DARK",
            Self::TooSmall => "TOO_SMALL",
            Self::ColourCopySuspected => "COLOUR_COPY_SUSPECTED",
            Self::Mirrored => "MIRRORED",
        }
    }
}

/// Native values of one located document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaptureMeasures {
    /// Pixels of the photograph per millimetre along the longer sides, taking the document for an ID-1 card or an ID-3 page.
    pub px_per_mm: f64,
    /// Slope of the steepest print at five pixels per millimetre, as a share of the range of the luma per pixel: 0 (blurred) to 1.
    pub sharpness: f64,
    /// 80th percentile of the luma, 0..=255: that of the paper.
    pub paper_luma: f64,
    /// Share of the largest connected saturated area, 0..=1.
    pub glare_share: f64,
    /// Standard deviation of the opponent colours about a tint that grows with the luma, as a share of the luma of the paper.
    pub colour: f64,
    /// A side or a corner lies outside the picture.
    pub cut_off: bool,
}

/// The warnings of a located document, in the order of [`CaptureWarning`].
pub fn assess(image: &Image, located: &Located) -> Vec<CaptureWarning> {
    let Some(measures) = measure(image, located) else { return Vec::new() };
    let told = [
        (measures.cut_off, CaptureWarning::DocumentCutOff),
        (measures.sharpness < MIN_SHARPNESS, CaptureWarning::Blurred),
        ((MIN_GLARE_SHARE..MAX_GLARE_SHARE).contains(&measures.glare_share), CaptureWarning::Glare),
        (measures.paper_luma < MIN_PAPER_LUMA, CaptureWarning::TooDark),
        (measures.px_per_mm < MIN_PX_PER_MM, CaptureWarning::TooSmall),
        (measures.colour < MIN_COLOUR, CaptureWarning::ColourCopySuspected),
    ];
    told.into_iter().filter(|(holds, _)| *holds).map(|(_, warning)| warning).collect()
}

/// Measures a located document. `None` if the quadrilateral is not a convex one or the picture is empty.
pub fn measure(image: &Image, located: &Located) -> Option<CaptureMeasures> {
    if image.width == 0 || image.height == 0 {
        return None;
    }
    let quad = &located.quad;
    let side = |i: usize| (quad[i][0] - quad[(i + 1) % 4][0]).hypot(quad[i][1] - quad[(i + 1) % 4][1]);
    let (first, second) = (side(0).max(side(2)), side(1).max(side(3)));
    let is_upright = first >= second;
    let [long_mm, short_mm] = if located.format == Format::Id2OrId3 { [125.0, 88.0] } else { [85.6, 53.98] };
    let px_per_mm = first.max(second) / long_mm;

    let [width, height] =
        if is_upright { [long_mm, short_mm] } else { [short_mm, long_mm] }.map(|mm| (mm * MEASURED_PX_PER_MM) as u32);
    let centres = quad.map(|[x, y]| [x - 0.5, y - 0.5]);
    let half = Affine { m: [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]] };
    let map =
        Perspective::from_rectangle([f64::from(width), f64::from(height)], &centres)?.between(&half, &Affine::IDENTITY);
    let crop = warp(image, &map, [width, height], Sampling::Area);
    let luma = luma(&crop);

    let diagonal = f64::from(image.width).hypot(f64::from(image.height));
    let outside = |value: f64, side: u32| (-value).max(value - f64::from(side)) > OUTSIDE_SHARE * diagonal;
    let is_outside = quad.iter().any(|[x, y]| outside(*x, image.width) || outside(*y, image.height));
    let mut sorted = luma.clone();
    sorted.sort_unstable();
    let paper_luma = f64::from(sorted[sorted.len() * 4 / 5]);
    Some(CaptureMeasures {
        px_per_mm,
        sharpness: sharpness(&luma, &sorted, width as usize),
        paper_luma,
        glare_share: largest_saturated(&crop) as f64 / luma.len() as f64,
        colour: colour(&crop) / paper_luma.max(1.0),
        cut_off: located.cut_off || is_outside,
    })
}

/// The steepest print: the 99.5th percentile of the differences between neighbours, over the range from the 5th to the 95th percentile
/// of the luma. Noise of a few grey levels does not reach it, unlike a sum over all differences.
fn sharpness(luma: &[u8], sorted: &[u8], width: usize) -> f64 {
    let mut counts = [0usize; 256];
    for row in luma.chunks_exact(width) {
        for pair in row.windows(2) {
            counts[usize::from(pair[0].abs_diff(pair[1]))] += 1;
        }
    }
    for (above, below) in luma.iter().zip(luma.iter().skip(width)) {
        counts[usize::from(above.abs_diff(*below))] += 1;
    }
    let mut left = counts.iter().sum::<usize>() / 200;
    let mut steepest = 0;
    for (difference, count) in counts.into_iter().enumerate().rev() {
        if count > left {
            steepest = difference;
            break;
        }
        left -= count;
    }
    let range = f64::from(sorted[sorted.len() * 19 / 20]) - f64::from(sorted[sorted.len() / 20]);
    steepest as f64 / range.max(1.0)
}

/// Pixels of the largest area of saturated pixels that touch.
fn largest_saturated(crop: &Image) -> usize {
    let (width, height) = (crop.width as usize, crop.height as usize);
    let mut is_left: Vec<bool> =
        crop.rgb.chunks_exact(3).map(|pixel| pixel.iter().all(|value| *value >= SATURATED)).collect();
    let (mut largest, mut stack) = (0, Vec::new());
    for start in 0..is_left.len() {
        if !std::mem::take(&mut is_left[start]) {
            continue;
        }
        stack.push(start);
        let mut size = 0;
        while let Some(at) = stack.pop() {
            size += 1;
            let (x, y) = (at % width, at / width);
            let near = [
                (x > 0, at.wrapping_sub(1)),
                (x + 1 < width, at + 1),
                (y > 0, at.wrapping_sub(width)),
                (y + 1 < height, at + width),
            ];
            for (exists, neighbour) in near {
                if exists && std::mem::take(&mut is_left[neighbour]) {
                    stack.push(neighbour);
                }
            }
        }
        largest = largest.max(size);
    }
    largest
}

/// Standard deviation of the opponent colours that is left when what grows with the luma is taken away, as the light's tint does.
fn colour(crop: &Image) -> f64 {
    let mut variance = 0.0;
    for opponent in [|r: f64, g: f64, _: f64| r - g, |r: f64, g: f64, b: f64| b - (r + g) / 2.0] {
        let (mut n, mut x, mut y, mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        for pixel in crop.rgb.chunks_exact(3) {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f64::from);
            // Saturated pixels have lost their tint.
            if r.max(g).max(b) >= f64::from(SATURATED) {
                continue;
            }
            let (luma, value) = (0.299 * r + 0.587 * g + 0.114 * b, opponent(r, g, b));
            n += 1.0;
            x += luma;
            y += value;
            xx += luma * luma;
            xy += luma * value;
            yy += value * value;
        }
        if n < 2.0 {
            return 0.0;
        }
        let (sxx, sxy, syy) = (xx - x * x / n, xy - x * y / n, yy - y * y / n);
        variance += (syy - if sxx > 0.0 { sxy * sxy / sxx } else { 0.0 }).max(0.0) / n;
    }
    variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUAD: [[f64; 2]; 4] = [[20.0, 30.0], [620.0, 30.0], [620.0, 408.0], [20.0, 408.0]];

    fn located(quad: [[f64; 2]; 4]) -> Located {
        Located { quad, confidence: 1.0, format: Format::Id1, cut_off: false, whole_picture: false, is_upright: false }
    }

    /// A card of 7 pixels per millimetre with a coloured field and strokes of four pixels, as `change` alters it.
    fn card(change: impl Fn(u32, u32, [u8; 3]) -> [u8; 3]) -> Image {
        Image::build(640, 440, |rgb| {
            for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                let (x, y) = (i as u32 % 640, i as u32 / 640);
                let colour = match (x, y) {
                    (60..=220, 80..=300) => [150, 90, 70],
                    (240..=600, 80..=380) if x % 10 < 4 && y % 40 < 20 => [40, 40, 50],
                    _ => [200, 210, 225],
                };
                pixel.copy_from_slice(&change(x, y, colour));
            }
        })
    }

    fn warnings(image: &Image) -> Vec<CaptureWarning> {
        assess(image, &located(QUAD))
    }

    #[test]
    fn a_good_picture_has_no_warnings() {
        assert_eq!(warnings(&card(|_, _, colour| colour)), []);
    }

    #[test]
    fn each_fault_has_its_warning() {
        assert_eq!(warnings(&card(|_, _, colour| colour.map(|value| value / 4))), [CaptureWarning::TooDark]);
        let glare = |x: u32, y: u32, colour| if x.abs_diff(400) + y.abs_diff(200) < 60 { [255; 3] } else { colour };
        assert_eq!(warnings(&card(glare)), [CaptureWarning::Glare]);
        let grey = |_: u32, _: u32, [_, green, _]: [u8; 3]| [green; 3];
        assert_eq!(warnings(&card(grey)), [CaptureWarning::ColourCopySuspected]);
        // Strokes as wide ramps.
        let ramp =
            |x: u32, _: u32, _: [u8; 3]| if x < 320 { [(x / 2) as u8, 60, 90] } else { [160, 60, (x / 4) as u8] };
        assert_eq!(warnings(&card(ramp)), [CaptureWarning::Blurred]);
    }

    #[test]
    fn a_small_document_and_one_beyond_the_border_are_told() {
        let image = card(|_, _, colour| colour);
        let small = QUAD.map(|[x, y]| [100.0 + x * 0.5, 50.0 + y * 0.5]);
        assert!(assess(&image, &located(small)).contains(&CaptureWarning::TooSmall));
        let beyond = QUAD.map(|[x, y]| [x + 60.0, y]);
        assert!(assess(&image, &located(beyond)).contains(&CaptureWarning::DocumentCutOff));
        let on_border = Located { cut_off: true, ..located(QUAD) };
        assert_eq!(assess(&image, &on_border), [CaptureWarning::DocumentCutOff]);
    }

    #[test]
    fn quadrilaterals_without_area_have_no_measures() {
        let image = card(|_, _, colour| colour);
        assert_eq!(measure(&image, &located([[1.0, 1.0]; 4])), None);
        assert_eq!(measure(&image, &located([[f64::NAN; 2]; 4])), None);
    }

    #[test]
    fn the_resolution_is_that_of_the_longer_side() {
        let image = card(|_, _, colour| colour);
        let measures = measure(&image, &located(QUAD)).expect("a convex quadrilateral");
        assert!((measures.px_per_mm - 600.0 / 85.6).abs() < 1e-9);
    }
}
