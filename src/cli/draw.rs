//! Draws on a copy of a picture what was found in it, so that a person can judge it by eye: faces with box, five landmarks, score and
//! pose; documents with outline, zone, barcodes, fields and portrait.
//!
//! Called by `faces` and `document`. Marks grow with the picture. Leaves out everything that drawing libraries do beyond boxes, dots and a few
//! letters, which is why none is needed.

use std::path::Path;

use image::{Rgb, RgbImage};

use super::connect::Failure;
use crate::api::proto::{DetectFacesResponse, DocumentField, DocumentPage, Face, Point};
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
        let bounds = face.r#box.unwrap_or_default();
        let (right, bottom) = (bounds.x + bounds.width, bounds.y + bounds.height);
        let corners = [[bounds.x, bounds.y], [right, bounds.y], [right, bottom], [bounds.x, bottom]];
        outline(picture, &corners.map(|[x, y]| Point { x, y }), PORTRAIT, 2 * unit);
    }
    outline(picture, page.mrz.as_ref().map_or(&[], |mrz| &mrz.quad), ZONE, 2 * unit);
    outline(picture, page.location.as_ref().map_or(&[], |location| &location.quad), OUTLINE, 3 * unit);
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

/// A 5×7 dot font, drawn for this file: seven rows from the top, the highest of five bits is the leftmost dot. Only what the
/// labels need; anything else is a blank.
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
        '#' => [0x0a, 0x0a, 0x1f, 0x0a, 0x1f, 0x0a, 0x0a],
        'a' => [0x00, 0x00, 0x0e, 0x01, 0x0f, 0x11, 0x0f],
        'c' => [0x00, 0x00, 0x0e, 0x10, 0x10, 0x11, 0x0e],
        'h' => [0x10, 0x10, 0x16, 0x19, 0x11, 0x11, 0x11],
        'i' => [0x04, 0x00, 0x0c, 0x04, 0x04, 0x04, 0x0e],
        'l' => [0x0c, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e],
        'o' => [0x00, 0x00, 0x0e, 0x11, 0x11, 0x11, 0x0e],
        'p' => [0x00, 0x00, 0x1e, 0x11, 0x1e, 0x10, 0x10],
        'r' => [0x00, 0x00, 0x16, 0x19, 0x10, 0x10, 0x10],
        't' => [0x08, 0x08, 0x1c, 0x08, 0x08, 0x09, 0x06],
        'w' => [0x00, 0x00, 0x11, 0x11, 0x15, 0x15, 0x0a],
        'y' => [0x00, 0x00, 0x11, 0x11, 0x0f, 0x01, 0x0e],
        _ => [0; 7],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::{Box, FaceQuality, Point};

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
        for character in "#0123456789.-yawpitchroll".chars() {
            assert_ne!(glyph(character), [0; 7], "{character}");
        }
    }
}
