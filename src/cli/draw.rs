//! Draws detected faces on a picture: box, five landmarks, score and pose, so that a person can judge them by eye.
//!
//! Called by `faces`. Marks grow with the picture. Leaves out everything that drawing libraries do beyond boxes, dots and a few
//! letters, which is why none is needed.

use image::{Rgb, RgbImage};

use crate::api::proto::{DetectFacesResponse, Face};

/// The main face; the others are drawn in the second colour. Both stand out from skin.
const MAIN: Rgb<u8> = Rgb([60, 255, 60]);
const OTHER: Rgb<u8> = Rgb([255, 170, 0]);
/// Eye, eye, nose, mouth corner, mouth corner: a mix-up of left and right is seen at once.
const POINTS: [Rgb<u8>; 5] =
    [Rgb([255, 0, 0]), Rgb([0, 90, 255]), Rgb([0, 255, 0]), Rgb([255, 0, 255]), Rgb([0, 255, 255])];
const BACKGROUND: Rgb<u8> = Rgb([0, 0, 0]);

/// Draws all faces of an answer. `picture` has the EXIF orientation applied: the coordinates of the answer are its pixels.
pub fn faces(picture: &mut RgbImage, found: &DetectFacesResponse) {
    // 1 px up to 600 px of the longer side, then in proportion, so that marks are seen when the picture is shrunk to a screen.
    let unit = i64::from(picture.width().max(picture.height()) / 600).max(1);
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
