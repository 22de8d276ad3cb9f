//! Pages of documents with text and a photograph, and tables to lay them on.

use image::imageops::{FilterType, crop_imm, replace, resize};
use image::{Rgb, RgbImage};

use super::drawn::drawn;

/// Writes a line of text whose capitals are `height` pixels high.
pub fn write(page: &mut RgbImage, [x, y]: [i64; 2], height: u32, text: &str) {
    let line = drawn(&[text]);
    let line = RgbImage::from_raw(line.width, line.height, line.rgb.to_vec()).unwrap();
    // Capitals are 28 pixels high and begin at (40, 60); a margin of 6 pixels keeps their smoothed edges.
    let width = 28 * u32::try_from(text.len()).unwrap() + 6;
    let scaled = |side: u32| side * height / 28;
    let line = crop_imm(&line, 34, 54, width, 40).to_image();
    replace(page, &resize(&line, scaled(width), scaled(40), FilterType::Triangle), x, y);
}

/// A dark table with the grain of wood, the same on every run, on which `page` lies at a place.
pub fn on_a_table(page: &RgbImage, [width, height]: [u32; 2], [x, y]: [i64; 2]) -> RgbImage {
    let mut grain = 1_u32;
    let mut picture = RgbImage::from_fn(width, height, |_, _| {
        grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let light = (grain >> 28) as u8;
        Rgb([60 + light, 45 + light, 35 + light])
    });
    replace(&mut picture, page, x, y);
    picture
}

/// A page of 1000 × 630 pixels with captions, what they name, and a photograph.
pub fn card(photograph: &[u8]) -> RgbImage {
    let mut card = RgbImage::from_pixel(1000, 630, Rgb([235; 3]));
    let face = image::load_from_memory(photograph).unwrap().to_rgb8();
    replace(&mut card, &resize(&face, 240, 300, FilterType::Triangle), 50, 140);
    for (row, (caption, text)) in (0..).zip([
        ("SURNAME", "SPECIMEN"),
        ("GIVEN NAMES", "BERND OTTO"),
        ("DATE OF BIRTH", "04 AUG 1961"),
        ("DOCUMENT NO", "P1234567"),
    ]) {
        write(&mut card, [360, 120 + 110 * row], 18, caption);
        write(&mut card, [360, 155 + 110 * row], 28, text);
    }
    card
}
