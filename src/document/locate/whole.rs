//! Whether a picture is itself a flat, cropped document.
//!
//! Called by `locate` where no quadrilateral was certain. A border that is that of the picture leaves no edge to find, so what speaks
//! for a document is the shape of the picture and print that stands in rows; or a zone known to lie on the document
//! that is as wide as documents have it.

use super::edges::Field;
use super::{Format, Quad};

/// Largest size of the logarithm of a picture's aspect over that of a format: cropped by hand, to the nearest millimetre or two.
/// Photographs of 3 to 2 and 4 to 3 lie 0.055 and 0.063 away.
const MAX_ASPECT_ERROR: f64 = 0.035;

/// The same where a zone on the document is known.
const MAX_ASPECT_ERROR_WITH_HINT: f64 = 0.08;

/// Least width of a machine-readable zone, as a share of the document's: 77 mm of 85.6 mm, 113 mm of 125 mm after ICAO Doc 9303, less a
/// margin for the detection of its ends.
const MIN_HINT_SHARE: f64 = 0.75;

/// Least [`row_modulation`] of a document. Thirty cropped documents had 0.33 to 0.67, 310 crops of webcam pictures of faces at most 0.19
/// (`cargo bench --bench locate -- full`).
const MIN_ROW_MODULATION: f64 = 0.26;

/// Rows to each side that make the mean that a row is compared with: about two lines of print on a card.
const NEIGHBOURS: usize = 10;

/// The format of the document that the picture is, or `None` if it is not one.
pub(super) fn whole_picture(field: &Field, hints: &[Quad]) -> Option<Format> {
    let (width, height) = (field.width as f64, field.height as f64);
    let aspect = width.max(height) / width.min(height);
    let error = |format: Format| format.aspect().map_or(1.0, |expected| (aspect / expected).ln().abs());
    let format = if error(Format::Id1) < error(Format::Id2OrId3) { Format::Id1 } else { Format::Id2OrId3 };
    let widest = hints.iter().map(|hint| {
        let side = |i: usize| super::distance(hint[i], hint[(i + 1) % 4]);
        side(0).max(side(1))
    });
    let is_wide = widest.fold(0.0, f64::max) >= MIN_HINT_SHARE * width.max(height);
    let is_document = if hints.is_empty() {
        error(format) < MAX_ASPECT_ERROR && row_modulation(field) >= MIN_ROW_MODULATION
    } else {
        is_wide && error(format) < MAX_ASPECT_ERROR_WITH_HINT
    };
    is_document.then_some(format)
}

/// How unevenly strokes lie across rows: 0 for an even texture, above 0.26 for print in lines. Taken over three strips, of which the middle
/// one counts, upright and on the side, of which the larger counts.
pub(super) fn row_modulation(field: &Field) -> f64 {
    let luma = &field.channels[0];
    let modulation = |rows: usize, columns: usize, at: &dyn Fn(usize, usize) -> f32| {
        let mut strips = [0, 1, 2].map(|strip| {
            let (from, to) = ((strip * columns / 3).max(1), ((strip + 1) * columns / 3).min(columns));
            let strokes: Vec<f64> = (0..rows)
                .map(|row| {
                    // Strong edges count no more than print does.
                    let sum: f32 =
                        (from..to).map(|column| (at(row, column) - at(row, column - 1)).abs().min(16.0)).sum();
                    f64::from(sum) / (to - from).max(1) as f64
                })
                .collect();
            let (mut square, mut total) = (0.0, 0.0);
            for (row, value) in strokes.iter().enumerate() {
                let near = &strokes[row.saturating_sub(NEIGHBOURS)..(row + NEIGHBOURS + 1).min(rows)];
                let mean = near.iter().sum::<f64>() / near.len() as f64;
                square += (value - mean).powi(2);
                total += mean;
            }
            // Half a grey level keeps noise on an even ground from counting.
            (square / rows as f64).sqrt() / (total / rows as f64 + 0.5)
        });
        strips.sort_by(f64::total_cmp);
        strips[1]
    };
    let (width, height) = (field.width, field.height);
    modulation(height, width, &|row, column| luma[row * width + column]).max(modulation(
        width,
        height,
        &|row, column| luma[column * width + row],
    ))
}
