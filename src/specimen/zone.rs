//! Prints the lines of a machine-readable zone.
//!
//! Called by the documents and by the maker of training strips. Source of the measures: ICAO Doc 9303 part 3 section 4.2: OCR-B size
//! 1, ten characters an inch; lines of all formats stand 6.35 mm or less apart.

use tiny_skia::{FillRule, Path, PathBuilder, Stroke, Transform};

use super::canvas::{Canvas, Ink};
use super::font::Font;
use super::random::Random;
use super::texture::Texture;

/// Distance of neighbouring characters: ten an inch.
pub const PITCH_MM: f32 = 2.54;

/// How the lines are printed.
#[derive(Debug, Clone, Copy)]
pub struct Print<'a> {
    pub font: &'a Font,
    /// Height of the capital letters; 2.4 mm in OCR-B size 1.
    pub cap_height_mm: f32,
    pub pitch_mm: f32,
    /// From baseline to baseline.
    pub line_pitch_mm: f32,
    /// Added to the width of all strokes; less than 0 makes them thinner.
    pub spread_mm: f32,
    pub ink: Ink,
    /// How much of the ink is lost here and there, 0..=1.
    pub wear: f64,
    /// How far the middle of a line hangs below its ends, as on the page of a book that is not flat.
    pub bend_mm: f32,
    /// Deviation of a character from its place, as of a worn printer.
    pub jitter_mm: f32,
}

impl Default for Print<'_> {
    /// As on a good passport.
    fn default() -> Self {
        Self {
            font: Font::ocr_b(),
            cap_height_mm: 2.4,
            pitch_mm: PITCH_MM,
            line_pitch_mm: 6.35,
            spread_mm: 0.0,
            ink: Ink::solid([24, 24, 28]),
            wear: 0.0,
            bend_mm: 0.0,
            jitter_mm: 0.0,
        }
    }
}

/// Where a line was printed: from the left edge of the first character's cell to the right edge of the last one's, from the top of
/// the capitals to the baseline; millimetres, clockwise from the top left.
pub type LineQuad = [[f32; 2]; 4];

/// Prints lines, the baseline of the first beginning at `at`.
pub fn print(canvas: &mut Canvas, lines: &[&str], at: [f32; 2], print: &Print, random: &mut Random) -> Vec<LineQuad> {
    let size_mm = print.cap_height_mm / print.font.cap_height;
    let mut quads = Vec::new();
    let mut all = PathBuilder::new();
    for (index, line) in lines.iter().enumerate() {
        let baseline = at[1] + index as f32 * print.line_pitch_mm;
        let length = line.chars().count() as f32 * print.pitch_mm;
        for (position, character) in line.chars().enumerate() {
            let Some(outline) = print.font.outline(character) else { continue };
            // The cell is as wide as the pitch; the character stands in its middle.
            let x = at[0] + (position as f32 + 0.5) * print.pitch_mm - print.font.advance(character) * size_mm / 2.0;
            let share = ((position as f32 + 0.5) * print.pitch_mm / length.max(1e-3)) * 2.0 - 1.0;
            let y = baseline + print.bend_mm * (1.0 - share * share);
            let [dx, dy] = [random.normal(), random.normal()].map(|deviation| deviation * print.jitter_mm);
            let place = Transform::from_row(size_mm, 0.0, 0.0, size_mm, x + dx, y + dy);
            if let Some(placed) = outline.clone().transform(place) {
                all.push_path(&placed);
            }
        }
        // The line as a whole lies two thirds of the bend lower.
        let (top, bottom) = (baseline - print.cap_height_mm, baseline);
        let hang = print.bend_mm * 2.0 / 3.0;
        let (left, right) = (at[0], at[0] + length);
        quads.push([[left, top + hang], [right, top + hang], [right, bottom + hang], [left, bottom + hang]]);
    }
    if let Some(path) = all.finish() {
        through_stencil(canvas, &path, print, random);
    }
    quads
}

fn through_stencil(canvas: &mut Canvas, path: &Path, print: &Print, random: &mut Random) {
    let scale = Transform::from_scale(canvas.px_per_mm(), canvas.px_per_mm());
    let mut stencil = canvas.stencil();
    stencil.fill_path(path, FillRule::Winding, true, scale);
    if print.spread_mm != 0.0 {
        let stroke = Stroke { width: print.spread_mm.abs(), ..Stroke::default() };
        if let Some(rim) = path.stroke(&stroke, canvas.px_per_mm()) {
            let mut border = canvas.stencil();
            border.fill_path(&rim, FillRule::Winding, true, scale);
            for (value, rim) in stencil.data_mut().iter_mut().zip(border.data()) {
                *value = if print.spread_mm > 0.0 { (*value).max(*rim) } else { value.saturating_sub(*rim) };
            }
        }
    }
    let coverage = (print.wear > 0.0).then(|| {
        let dot = f64::from(canvas.px_per_mm()) * random.within(0.1, 1.2);
        let mut hills = Texture::hills(canvas.size_px(), [dot, dot * random.within(0.6, 1.6)], random);
        for value in &mut hills.values {
            *value = 1.0 - (*value * 0.6 - 0.9 + 1.5 * print.wear as f32).clamp(0.0, 1.0);
        }
        hills
    });
    canvas.print(&stencil, print.ink, coverage.as_ref());
}
