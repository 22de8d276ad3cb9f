//! Text drawn in OCR-B, so that no test needs a picture of a document.

use vouch::imaging::Image;
use vouch::specimen::canvas::Canvas;
use vouch::specimen::random::Random;
use vouch::specimen::zone::{Print, print};

/// Height of the capital letters, distance of neighbouring characters, and from line to line, in pixels.
const CAPITAL_PX: f32 = 28.0;
const PITCH_PX: usize = 28;
const LINE_PX: usize = 56;

/// Dark lines on light grey, the top left corner of the first capital at (40, 60).
pub fn drawn(lines: &[&str]) -> Image {
    let longest = lines.iter().map(|line| line.len()).max().unwrap_or(0);
    let size = [(longest * PITCH_PX + 80).max(600), lines.len().max(1) * LINE_PX + 104];
    // One unit of the sheet is one pixel.
    let mut sheet = Canvas::new(size.map(|side| side as f32), 1.0, [235; 3]);
    let style = Print {
        cap_height_mm: CAPITAL_PX,
        pitch_mm: PITCH_PX as f32,
        line_pitch_mm: LINE_PX as f32,
        ..Print::default()
    };
    print(&mut sheet, lines, [40.0, 60.0 + CAPITAL_PX], &style, &mut Random::new(0, "drawn"));
    sheet.into_image()
}
