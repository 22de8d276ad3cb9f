//! Draws on a copy of a picture what was found in it, so that a person can judge it by eye: faces with box, five landmarks, score and
//! pose; documents with outline, zone, barcodes, fields and portrait; the frames of a live session with what was measured on them.
//!
//! Called by `faces`, `document` and `live`. Marks grow with the picture. Leaves out everything that drawing libraries do beyond boxes, dots and
//! letters of one size, which is why none is needed.

use std::path::Path;

use image::{Rgb, RgbImage};

use super::connect::Failure;
use crate::api::proto::{
    Box, DetectFacesResponse, DocumentField, DocumentPage, Face, LiveFeedback, LiveSignals, Point,
};
use crate::imaging::decode::{DecodeOptions, decode};
use crate::imaging::pdf::{self, PdfOptions};

/// The main face; the others are drawn in the second colour. Both stand out from skin.
const MAIN: Rgb<u8> = Rgb([60, 255, 60]);
const OTHER: Rgb<u8> = Rgb([255, 170, 0]);
/// Eye, eye, nose, mouth corner, mouth corner: a mix-up of left and right is seen at once.
const POINTS: [Rgb<u8>; 5] =
    [Rgb([255, 0, 0]), Rgb([0, 90, 255]), Rgb([0, 255, 0]), Rgb([255, 0, 255]), Rgb([0, 255, 255])];
const BACKGROUND: Rgb<u8> = Rgb([0, 0, 0]);

/// What is drawn on a document.
const OUTLINE: Rgb<u8> = MAIN;
const ZONE: Rgb<u8> = OTHER;
const BARCODE: Rgb<u8> = Rgb([60, 120, 255]);
const FIELD: Rgb<u8> = Rgb([0, 200, 220]);
const PORTRAIT: Rgb<u8> = Rgb([255, 0, 200]);

/// What is drawn on a frame of a live session. The axes of the head are its right side in the picture, its top, and where the nose points.
const MESH: Rgb<u8> = Rgb([0, 220, 255]);
const AXES: [Rgb<u8>; 3] = [Rgb([255, 60, 60]), Rgb([60, 255, 60]), Rgb([90, 120, 255])];
const NUMBERS: Rgb<u8> = Rgb([255, 255, 255]);
const BAR_GROUND: Rgb<u8> = Rgb([70, 70, 70]);

/// What is known about one frame of a live session.
#[derive(Debug)]
pub struct LiveMarks<'a> {
    pub feedback: &'a LiveFeedback,
    /// The instruction in words.
    pub instruction: &'a str,
    /// Such as `step 2 of 3`, or empty.
    pub step: &'a str,
    /// The last that was measured, on this frame or before.
    pub live_probability: Option<f64>,
}

/// A picture as a person sees it, in whose pixels the daemon answers. `page` is that of a PDF file.
///
/// # Errors
/// [`Failure::BadInput`] if it cannot be decoded here.
pub fn canvas(path: &Path, data: &[u8], page: usize) -> Result<RgbImage, Failure> {
    let unusable = |reason: String| Failure::BadInput(format!("{} cannot be drawn on: {reason}", path.display()));
    let picture = if pdf::is_pdf(data) {
        pdf::render(data, page, &PdfOptions::default(), &|| false).map_err(|error| unusable(error.to_string()))?.image
    } else {
        decode(data, &DecodeOptions::default()).map_err(|error| unusable(error.to_string()))?.image
    };
    RgbImage::from_raw(picture.width, picture.height, picture.rgb.to_vec())
        .ok_or_else(|| unusable("its pixels do not fill its size".into()))
}

/// Writes a picture in the format that the name says.
///
/// # Errors
/// [`Failure::BadInput`] naming the file.
pub fn save(picture: &RgbImage, path: &Path) -> Result<(), Failure> {
    picture.save(path).map_err(|error| Failure::BadInput(format!("{}: {error}", path.display())))
}

/// Draws what was found on a page of a document. `fields` are those of the page.
pub fn document<'a>(picture: &mut RgbImage, page: &DocumentPage, fields: impl Iterator<Item = &'a DocumentField>) {
    let unit = unit(picture);
    for field in fields {
        outline(picture, &field.quad, FIELD, unit);
    }
    for barcode in &page.barcodes {
        outline(picture, &barcode.quad, BARCODE, 2 * unit);
    }
    for face in page.portrait.iter().flat_map(|portrait| portrait.face.iter().chain(&portrait.further)) {
        outline(picture, &corners(&face.r#box.unwrap_or_default()), PORTRAIT, 2 * unit);
    }
    outline(picture, page.mrz.as_ref().map_or(&[], |mrz| &mrz.quad), ZONE, 2 * unit);
    outline(picture, page.location.as_ref().map_or(&[], |location| &location.quad), OUTLINE, 3 * unit);
}

/// Draws what was measured on a frame of a live session: points, box and axes of the head; above, what the person was told; at the left the numbers,
/// with those relative to the neutral face once it is known; below, two bars: the whole session, and under it the present step.
pub fn live(picture: &mut RgbImage, marks: &LiveMarks) {
    let unit = unit(picture);
    let size = text_size(picture, marks.instruction.chars().count());
    let colour = if marks.feedback.instruction.starts_with("NOW_") { MAIN } else { OTHER };
    let mut lines = Vec::new();
    if let Some(signals) = &marks.feedback.signals {
        for point in &signals.landmarks {
            disc(picture, pixel(point.x), pixel(point.y), unit, MESH);
        }
        if let Some(bounds) = &signals.r#box {
            outline(picture, &corners(bounds), colour, 2 * unit);
            let middle = [bounds.x + bounds.width / 2.0, bounds.y + bounds.height / 2.0];
            for (direction, colour) in head_axes(signals).into_iter().zip(AXES) {
                let [x, y] = direction.map(|part| part * bounds.width * 0.35);
                let [from, to] = [middle, [middle[0] + x, middle[1] + y]].map(|[x, y]| Point { x, y });
                outline(picture, &[from, to], colour, 3 * unit);
            }
        }
        lines = live_numbers(signals);
    }
    lines.extend(marks.live_probability.map(|probability| format!("live {probability:.2}")));
    lines.push(format!("frame {}", marks.feedback.frame));
    write_text(picture, 0, 0, marks.instruction, size, colour);
    if !marks.step.is_empty() {
        write_text(picture, 0, 9 * size, marks.step, size, NUMBERS);
    }
    for (row, text) in (0_i64..).zip(&lines) {
        write_text(picture, 0, 20 * size + row * 9 * size, text, size, NUMBERS);
    }
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    for (row, share) in [(2, marks.feedback.progress), (1, marks.feedback.step_progress)] {
        let top = height - row * 6 * unit;
        fill(picture, [0, top, width, top + 5 * unit], BAR_GROUND);
        let colour = if row == 2 { MAIN } else { OTHER };
        fill(picture, [0, top, pixel(share.clamp(0.0, 1.0) * width as f64), top + 5 * unit], colour);
    }
}

/// Writes lines into the middle of a frame: how the session ended.
pub fn live_outcome(picture: &mut RgbImage, lines: &[String]) {
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let size = text_size(picture, longest);
    let rows = i64::try_from(lines.len()).unwrap_or(0);
    let top = (i64::from(picture.height()) - rows * 9 * size) / 2;
    let left = (i64::from(picture.width()) - (longest as i64 * 6 + 1) * size) / 2;
    for (row, text) in (0_i64..).zip(lines) {
        let colour = match (row, text.as_str()) {
            (0, "PASS") => MAIN,
            (0, _) => OTHER,
            _ => NUMBERS,
        };
        write_text(picture, left.max(0), top.max(0) + row * 9 * size, text, size, colour);
    }
}

fn live_numbers(signals: &LiveSignals) -> Vec<String> {
    let mut lines = if signals.neutral_known {
        vec![
            format!("yaw {:.0} {:+.0}", signals.yaw_deg, signals.yaw_from_neutral_deg),
            format!("pitch {:.0} {:+.0}", signals.pitch_deg, signals.pitch_from_neutral_deg),
        ]
    } else {
        vec![format!("yaw {:.0}", signals.yaw_deg), format!("pitch {:.0}", signals.pitch_deg)]
    };
    lines.push(format!("roll {:.0}", signals.roll_deg));
    if signals.neutral_known {
        lines.push(format!("eyes {:.2}", signals.eyes));
    }
    lines.push(format!("mouth {:.2}", signals.mouth));
    if signals.neutral_known {
        lines.push(format!("smile {:+.2}", signals.smile));
        lines.push(format!("size {:.2}", signals.size));
    }
    lines.push(format!("face {:.2}", signals.face_presence));
    lines
}

/// The axes of the head as they appear in the picture, each of length 1 in space: to its right side in the picture, to its top, and ahead.
fn head_axes(signals: &LiveSignals) -> [[f64; 2]; 3] {
    let [yaw, pitch, roll] = [signals.yaw_deg, signals.pitch_deg, signals.roll_deg].map(f64::to_radians);
    let axes = [[yaw.cos(), yaw.sin() * pitch.sin()], [0.0, -pitch.cos()], [yaw.sin(), -yaw.cos() * pitch.sin()]];
    axes.map(|[x, y]| [x * roll.cos() - y * roll.sin(), x * roll.sin() + y * roll.cos()])
}

/// The size in which so many letters go into the width of a picture.
fn text_size(picture: &RgbImage, letters: usize) -> i64 {
    let dots = letters as i64 * 6 + 1;
    (i64::from(picture.width()) / dots).clamp(1, 2 * unit(picture))
}

fn corners(bounds: &Box) -> [Point; 4] {
    let (right, bottom) = (bounds.x + bounds.width, bounds.y + bounds.height);
    [[bounds.x, bounds.y], [right, bounds.y], [right, bottom], [bounds.x, bottom]].map(|[x, y]| Point { x, y })
}

/// Draws the closed line through the corners.
fn outline(picture: &mut RgbImage, corners: &[Point], colour: Rgb<u8>, width: i64) {
    for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
        let (dx, dy) = (to.x - from.x, to.y - from.y);
        // Corners may lie far beyond the picture; a line of more steps than this is not drawn.
        let steps = dx.abs().max(dy.abs()).ceil();
        if !(0.0..=1e6).contains(&steps) {
            continue;
        }
        for step in 0..=steps as u32 {
            let share = f64::from(step) / steps.max(1.0);
            let (x, y) = (pixel(from.x + share * dx), pixel(from.y + share * dy));
            fill(picture, [x - width / 2, y - width / 2, x + (width + 1) / 2, y + (width + 1) / 2], colour);
        }
    }
}

/// 1 px up to 600 px of the longer side, then in proportion, so that marks are seen when the picture is shrunk to a screen.
fn unit(picture: &RgbImage) -> i64 {
    i64::from(picture.width().max(picture.height()) / 600).max(1)
}

/// Draws all faces of an answer. `picture` has the EXIF orientation applied: the coordinates of the answer are its pixels.
pub fn faces(picture: &mut RgbImage, found: &DetectFacesResponse) {
    let unit = unit(picture);
    // The main face comes first in the answer and is drawn last, on top.
    for (number, face) in found.faces.iter().enumerate().rev() {
        let colour = if number == 0 { MAIN } else { OTHER };
        draw_face(picture, face, number, colour, unit);
    }
}

fn draw_face(picture: &mut RgbImage, face: &Face, number: usize, colour: Rgb<u8>, unit: i64) {
    let Some(b) = &face.r#box else { return };
    let (left, top) = (pixel(b.x), pixel(b.y));
    let (right, bottom) = (pixel(b.x + b.width), pixel(b.y + b.height));
    let line = 2 * unit;
    fill(picture, [left - line, top - line, right + line, top], colour);
    fill(picture, [left - line, bottom, right + line, bottom + line], colour);
    fill(picture, [left - line, top, left, bottom], colour);
    fill(picture, [right, top, right + line, bottom], colour);
    for (point, colour) in face.landmarks.iter().zip(POINTS) {
        disc(picture, pixel(point.x), pixel(point.y), 3 * unit, BACKGROUND);
        disc(picture, pixel(point.x), pixel(point.y), 2 * unit, colour);
    }
    let mut lines = vec![format!("#{number} {:.2}", face.score)];
    if let Some(q) = &face.quality {
        lines.push(format!("yaw {:.0}", q.yaw_deg));
        lines.push(format!("pitch {:.0}", q.pitch_deg));
        lines.push(format!("roll {:.0}", q.roll_deg));
    }
    let size = 2 * unit;
    let width = lines.iter().map(|line| text_width(line, size)).max().unwrap_or(0) + size;
    let (x, y) = label_place(picture, [left - line, top, right + line, bottom + line], width);
    for (row, text) in (0_i64..).zip(&lines) {
        write_text(picture, x, y + row * 9 * size, text, size, colour);
    }
}

/// Where a label of that width leaves the face free: right of the box, else left of it, else below.
fn label_place(picture: &RgbImage, [left, top, right, bottom]: [i64; 4], width: i64) -> (i64, i64) {
    if right + width <= i64::from(picture.width()) {
        (right, top.max(0))
    } else if left >= width {
        (left - width, top.max(0))
    } else {
        (left.max(0), bottom)
    }
}

/// The nearest whole pixel; what lies outside the picture is clipped when drawn. NaN becomes 0. The bound is far beyond any
/// picture and keeps sums of coordinates from overflowing.
fn pixel(value: f64) -> i64 {
    value.round().clamp(-1e9, 1e9) as i64
}

/// Fills `[left, top, right, bottom)`, clipped to the picture.
fn fill(picture: &mut RgbImage, [left, top, right, bottom]: [i64; 4], colour: Rgb<u8>) {
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    for y in top.clamp(0, height)..bottom.clamp(0, height) {
        for x in left.clamp(0, width)..right.clamp(0, width) {
            // Both lie in 0..u32::MAX after clamping.
            picture.put_pixel(x as u32, y as u32, colour);
        }
    }
}

fn disc(picture: &mut RgbImage, x: i64, y: i64, radius: i64, colour: Rgb<u8>) {
    for dy in -radius..=radius {
        let half = ((radius * radius - dy * dy) as f64).sqrt() as i64;
        let row = y.saturating_add(dy);
        fill(picture, [x.saturating_sub(half), row, x.saturating_add(half + 1), row.saturating_add(1)], colour);
    }
}

fn text_width(text: &str, size: i64) -> i64 {
    text.chars().map(|_| 6 * size).sum()
}

/// Writes on a black ground; `size` is the side of one dot of the font in pixels.
fn write_text(picture: &mut RgbImage, x: i64, y: i64, text: &str, size: i64, colour: Rgb<u8>) {
    fill(picture, [x, y, x + text_width(text, size) + size, y + 9 * size], BACKGROUND);
    for (place, character) in (0_i64..).zip(text.chars()) {
        let glyph = glyph(character);
        for (row, bits) in (0_i64..).zip(glyph) {
            for column in (0..5_i64).filter(|column| bits >> (4 - column) & 1 == 1) {
                let (left, top) = (x + size + (place * 6 + column) * size, y + (row + 1) * size);
                fill(picture, [left, top, left + size, top + size], colour);
            }
        }
    }
}

/// A 5×7 dot font, drawn for this file: seven rows from the top, the highest of five bits is the leftmost dot. Letters, digits and
/// the signs of labels; anything else is a blank.
fn glyph(character: char) -> [u8; 7] {
    match character {
        '0' => [0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e],
        '1' => [0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e],
        '2' => [0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f],
        '3' => [0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e],
        '4' => [0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02],
        '5' => [0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e],
        '6' => [0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e],
        '7' => [0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08],
        '8' => [0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e],
        '9' => [0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c],
        '.' => [0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x0c],
        '-' => [0x00, 0x00, 0x00, 0x1f, 0x00, 0x00, 0x00],
        '+' => [0x00, 0x04, 0x04, 0x1f, 0x04, 0x04, 0x00],
        '#' => [0x0a, 0x0a, 0x1f, 0x0a, 0x1f, 0x0a, 0x0a],
        '_' => [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x1f],
        'a' => [0x00, 0x00, 0x0e, 0x01, 0x0f, 0x11, 0x0f],
        'b' => [0x10, 0x10, 0x16, 0x19, 0x11, 0x11, 0x1e],
        'c' => [0x00, 0x00, 0x0e, 0x10, 0x10, 0x11, 0x0e],
        'd' => [0x01, 0x01, 0x0d, 0x13, 0x11, 0x11, 0x0f],
        'e' => [0x00, 0x00, 0x0e, 0x11, 0x1f, 0x10, 0x0e],
        'f' => [0x06, 0x09, 0x08, 0x1c, 0x08, 0x08, 0x08],
        'g' => [0x00, 0x00, 0x0f, 0x11, 0x0f, 0x01, 0x0e],
        'h' => [0x10, 0x10, 0x16, 0x19, 0x11, 0x11, 0x11],
        'i' => [0x04, 0x00, 0x0c, 0x04, 0x04, 0x04, 0x0e],
        'j' => [0x02, 0x00, 0x06, 0x02, 0x02, 0x12, 0x0c],
        'k' => [0x10, 0x10, 0x12, 0x14, 0x18, 0x14, 0x12],
        'l' => [0x0c, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e],
        'm' => [0x00, 0x00, 0x1a, 0x15, 0x15, 0x11, 0x11],
        'n' => [0x00, 0x00, 0x16, 0x19, 0x11, 0x11, 0x11],
        'o' => [0x00, 0x00, 0x0e, 0x11, 0x11, 0x11, 0x0e],
        'p' => [0x00, 0x00, 0x1e, 0x11, 0x1e, 0x10, 0x10],
        'q' => [0x00, 0x00, 0x0f, 0x11, 0x0f, 0x01, 0x01],
        'r' => [0x00, 0x00, 0x16, 0x19, 0x10, 0x10, 0x10],
        's' => [0x00, 0x00, 0x0e, 0x10, 0x0e, 0x01, 0x1e],
        't' => [0x08, 0x08, 0x1c, 0x08, 0x08, 0x09, 0x06],
        'u' => [0x00, 0x00, 0x11, 0x11, 0x11, 0x13, 0x0d],
        'v' => [0x00, 0x00, 0x11, 0x11, 0x11, 0x0a, 0x04],
        'w' => [0x00, 0x00, 0x11, 0x11, 0x15, 0x15, 0x0a],
        'x' => [0x00, 0x00, 0x11, 0x0a, 0x04, 0x0a, 0x11],
        'y' => [0x00, 0x00, 0x11, 0x11, 0x0f, 0x01, 0x0e],
        'z' => [0x00, 0x00, 0x1f, 0x02, 0x04, 0x08, 0x1f],
        'A' => [0x0e, 0x11, 0x11, 0x11, 0x1f, 0x11, 0x11],
        'B' => [0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e],
        'C' => [0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e],
        'D' => [0x1c, 0x12, 0x11, 0x11, 0x11, 0x12, 0x1c],
        'E' => [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f],
        'F' => [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x10],
        'G' => [0x0e, 0x11, 0x10, 0x17, 0x11, 0x11, 0x0f],
        'H' => [0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
        'I' => [0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e],
        'J' => [0x07, 0x02, 0x02, 0x02, 0x02, 0x12, 0x0c],
        'K' => [0x11, 0x12, 0x14, 0x18, 0x14, 0x12, 0x11],
        'L' => [0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f],
        'M' => [0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11],
        'N' => [0x11, 0x11, 0x19, 0x15, 0x13, 0x11, 0x11],
        'O' => [0x0e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e],
        'P' => [0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10],
        'Q' => [0x0e, 0x11, 0x11, 0x11, 0x15, 0x12, 0x0d],
        'R' => [0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11],
        'S' => [0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e],
        'T' => [0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04],
        'U' => [0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e],
        'V' => [0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04],
        'W' => [0x11, 0x11, 0x11, 0x15, 0x15, 0x15, 0x0a],
        'X' => [0x11, 0x11, 0x0a, 0x04, 0x0a, 0x11, 0x11],
        'Y' => [0x11, 0x11, 0x11, 0x0a, 0x04, 0x04, 0x04],
        'Z' => [0x1f, 0x01, 0x02, 0x04, 0x08, 0x10, 0x1f],
        _ => [0; 7],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::FaceQuality;

    fn face(x: f64, y: f64) -> Face {
        Face {
            r#box: Some(Box { x, y, width: 40.0, height: 50.0 }),
            score: 0.93,
            landmarks: vec![Point { x: x + 12.0, y: y + 20.0 }; 5],
            quality: Some(FaceQuality { yaw_deg: -3.0, ..Default::default() }),
        }
    }

    #[test]
    fn box_and_landmark_lie_where_the_answer_says() {
        let mut picture = RgbImage::new(200, 150);
        faces(&mut picture, &DetectFacesResponse { faces: vec![face(30.0, 20.0)], ..Default::default() });
        assert_eq!(picture[(29, 45)], MAIN, "left edge");
        assert_eq!(picture[(50, 71)], MAIN, "bottom edge");
        assert_eq!(picture[(42, 40)], POINTS[4], "last landmark on top");
        assert_eq!(picture[(50, 55)], BACKGROUND, "inside of the box is untouched");
    }

    #[test]
    fn an_outline_runs_through_its_corners() {
        let mut picture = RgbImage::new(100, 80);
        let quad = [(10.0, 10.0), (90.0, 12.0), (85.0, 70.0), (8.0, 66.0)].map(|(x, y)| Point { x, y }).to_vec();
        let field = DocumentField { quad, ..DocumentField::default() };
        document(&mut picture, &DocumentPage::default(), std::iter::once(&field));
        for corner in [(10, 10), (90, 12), (85, 70), (8, 66), (50, 11)] {
            assert_eq!(picture[corner], FIELD, "{corner:?}");
        }
        assert_eq!(picture[(50, 40)], BACKGROUND);
        let far = [(f64::NAN, 0.0), (1e12, 5.0), (3.0, f64::INFINITY)].map(|(x, y)| Point { x, y });
        outline(&mut picture, &far, FIELD, 3);
    }

    #[test]
    fn marks_outside_the_picture_are_clipped() {
        let mut picture = RgbImage::new(20, 20);
        let mut odd = face(-30.0, 1e300);
        odd.landmarks[0] = Point { x: f64::NAN, y: f64::INFINITY };
        faces(&mut picture, &DetectFacesResponse { faces: vec![odd, face(15.0, -40.0)], ..Default::default() });
        assert_eq!(picture.dimensions(), (20, 20));
    }

    #[test]
    fn every_character_of_a_label_can_be_drawn() {
        for character in ('a'..='z').chain('A'..='Z').chain('0'..='9').chain("#.-+_".chars()) {
            assert_ne!(glyph(character), [0; 7], "{character}");
        }
    }

    fn near([a, b]: [f64; 2], [c, d]: [f64; 2]) -> bool {
        (a - c).abs() < 1e-9 && (b - d).abs() < 1e-9
    }

    #[test]
    fn axes_of_the_head_follow_the_signs_of_the_contract() {
        let axes = |yaw_deg, pitch_deg, roll_deg| {
            head_axes(&LiveSignals { yaw_deg, pitch_deg, roll_deg, ..LiveSignals::default() })
        };
        let [right, up, nose] = axes(0.0, 0.0, 0.0);
        assert!(near(right, [1.0, 0.0]) && near(up, [0.0, -1.0]) && near(nose, [0.0, 0.0]));
        assert!(axes(30.0, 0.0, 0.0)[2][0] > 0.4, "turned to the right side of the picture");
        assert!(axes(0.0, 30.0, 0.0)[2][1] < -0.4, "looks up");
        assert!(axes(0.0, 0.0, 30.0)[1][0] > 0.4, "leans to the right side of the picture");
    }

    #[test]
    fn a_live_frame_shows_points_and_progress_and_takes_odd_values() {
        let mut picture = RgbImage::new(320, 240);
        let signals = LiveSignals {
            r#box: Some(Box { x: 100.0, y: 80.0, width: 100.0, height: 100.0 }),
            landmarks: vec![Point { x: 190.0, y: 100.0 }, Point { x: f64::NAN, y: -1e300 }],
            yaw_deg: f64::NAN,
            ..LiveSignals::default()
        };
        let feedback =
            LiveFeedback { progress: 0.5, step_progress: f64::NAN, signals: Some(signals), ..LiveFeedback::default() };
        let marks =
            LiveMarks { feedback: &feedback, instruction: "look up", step: "step 1 of 3", live_probability: Some(0.5) };
        live(&mut picture, &marks);
        assert_eq!(picture[(190, 100)], MESH);
        assert_eq!(picture[(150, 80)], OTHER, "box");
        assert_eq!((picture[(100, 230)], picture[(200, 230)]), (MAIN, BAR_GROUND), "half of the session");
        assert_eq!(picture[(0, 236)], BAR_GROUND, "nothing of the step");
        live_outcome(&mut picture, &["INCONCLUSIVE".into(), "A_REASON_THAT_IS_TOO_LONG_FOR_ITS_LINE".repeat(2)]);
        live_outcome(&mut RgbImage::new(1, 1), &[]);
    }
}
