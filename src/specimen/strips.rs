//! Lines of machine-readable zones as a reader cuts them out of photographs: what the recogniser of zones is trained on.
//!
//! Called by `examples/training_data.rs`. A sheet with a zone and what surrounds it is printed, photographed, and its lines are cut out
//! by [`Strip::cut`], as the daemon cuts them out, with corners about as wrong as a detector's. Most lines are
//! as likely as those of real documents; a few hold characters that no rule foretells, so that the network does not only guess. Other text
//! it must answer with nothing.

use tiny_skia::PathBuilder;

use super::camera::{Capture, Frame, MAX_LEVEL};
use super::canvas::{Canvas, Ink, Lettering};
use super::font::Font;
use super::person::Person;
use super::random::Random;
use super::texture::Texture;
use super::zone::{self, LineQuad, Print};
use crate::document::locate::Quad;
use crate::document::mrz::{Format, generate};
use crate::document::ocr::MRZ_CHARACTERS;
use crate::document::ocr::strip::Strip;
use crate::imaging::Image;
use crate::imaging::warp::{Perspective, Sampling, warp};

const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";

/// Shares of the sheets with what is not the usual zone.
const OTHER_TEXT: f64 = 0.08;
const UPSIDE_DOWN: f64 = 0.05;
const OTHER_FONT: f64 = 0.12;
const THUMBNAIL: f64 = 0.15;

/// A strip with what stands on it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Empty for what is no line of a zone.
    pub text: String,
    /// Degradation, 0..=4; 4 for a picture that was made very small.
    pub level: u8,
    pub strip: Strip,
}

/// Strips without end. `others` are fonts beside OCR-B, which some documents use for their zone and all for the rest of the text.
pub struct Strips {
    random: Random,
    others: Vec<Font>,
    ready: Vec<Sample>,
}

impl Strips {
    pub fn new(seed: u64, others: Vec<Font>) -> Self {
        Self { random: Random::new(seed, "strips"), others, ready: Vec::new() }
    }
}

impl Iterator for Strips {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        while self.ready.is_empty() {
            let mut random = Random::new(self.random.seed(), "sheet");
            self.ready = sheet(&self.others, &mut random);
        }
        self.ready.pop()
    }
}

/// The lines of one photographed sheet.
fn sheet(others: &[Font], random: &mut Random) -> Vec<Sample> {
    const SHARES: [u8; 12] = [0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4];
    let level = SHARES[random.below(SHARES.len())];
    let is_other_text = random.chance(OTHER_TEXT);
    let print = print_style(level, others, random);
    let lines = if is_other_text { other_text(random) } else { zone_lines(random) };
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) as f32;

    // Height of the capitals in the photograph. Beside what cameras take there are pictures that were made small, with five pixels to a
    // character, but are clear otherwise.
    let is_thumbnail = random.chance(THUMBNAIL);
    let [low, high] = [[17.0, 30.0], [14.0, 28.0], [11.0, 24.0], [8.5, 19.0], [7.0, 14.0]][usize::from(level)];
    let [low, high] = if is_thumbnail { [4.5, 9.0] } else { [low, high] };
    let level = if is_thumbnail { level.min(1) } else { level };
    let capital_px = low * libm::pow(high / low, random.within(0.0, 1.0));
    let scale = capital_px / f64::from(print.cap_height_mm);
    let px_per_mm = (scale * 1.15).clamp(5.0, 10.0) as f32;

    let margin = [random.within(3.0, 9.0) as f32, random.within(3.0, 9.0) as f32];
    let block = (lines.len() as f32 - 1.0) * print.line_pitch_mm + print.cap_height_mm;
    let size_mm = [longest * print.pitch_mm + 2.0 * margin[0], block + 2.0 * margin[1]];
    let mut canvas = paper(size_mm, px_per_mm, print.ink, random);
    surroundings(&mut canvas, margin, block, others, random);
    let first = [margin[0], margin[1] + print.cap_height_mm];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let quads = if is_other_text {
        let font =
            if others.is_empty() || random.chance(0.3) { Font::text() } else { &others[random.below(others.len())] };
        let lettering = Lettering { font, size_mm: print.cap_height_mm / font.cap_height, ink: print.ink };
        let place = |(index, line): (usize, &&str)| {
            let baseline = first[1] + index as f32 * print.line_pitch_mm;
            let right = first[0] + canvas.text(line, [first[0], baseline], lettering);
            let top = baseline - print.cap_height_mm;
            [[first[0], top], [right, top], [right, baseline], [first[0], baseline]]
        };
        lines.iter().enumerate().map(place).collect()
    } else {
        zone::print(&mut canvas, &lines, first, &print, random)
    };
    marks(&mut canvas, level, random);

    let (photograph, to_photograph) = photographed(canvas, scale, capital_px, level, random);
    let is_turned = !is_other_text && random.chance(UPSIDE_DOWN);
    let is_line = !is_other_text && !is_turned;
    let mut samples = Vec::new();
    for (line, quad) in lines.iter().zip(quads) {
        let quad = off_the_mark(&quad, print.pitch_mm, level, random);
        let mut quad: Quad = quad.map(|corner| to_photograph.apply(corner));
        if is_turned {
            quad = [quad[2], quad[3], quad[0], quad[1]];
        }
        if let Some(strip) = Strip::cut(&photograph, &quad) {
            let text = if is_line { (*line).to_owned() } else { String::new() };
            samples.push(Sample { text, level: if is_thumbnail { MAX_LEVEL } else { level }, strip });
        }
    }
    samples
}

fn print_style<'a>(level: u8, others: &'a [Font], random: &mut Random) -> Print<'a> {
    let by = f64::from(level) / 4.0;
    let mut print = Print::default();
    if !others.is_empty() && random.chance(OTHER_FONT) {
        print.font = &others[random.below(others.len())];
    } else if random.chance(0.25) {
        print.font = Font::ocr_b_sharp();
    }
    print.cap_height_mm *= random.within(0.88, 1.12) as f32;
    if random.chance(0.8) {
        print.pitch_mm *= random.within(0.95, 1.05) as f32;
    } else {
        print.pitch_mm *= random.within(0.82, 1.16) as f32;
    }
    print.line_pitch_mm = random.within(3.9, 6.6) as f32;
    print.spread_mm = random.within(-0.12, 0.22) as f32;
    print.wear = if random.chance(0.35) { random.within(0.0, 0.25 + 0.35 * by) } else { 0.0 };
    print.bend_mm = if random.chance(0.3) { random.within(-0.6, 0.6) as f32 } else { 0.0 };
    print.jitter_mm = if random.chance(0.3) { random.within(0.0, 0.09) as f32 } else { 0.0 };
    let dark = random.within(0.0, 50.0 + 50.0 * by);
    let rgb = std::array::from_fn(|_| (dark + random.within(-15.0, 25.0)).clamp(0.0, 255.0) as u8);
    print.ink = Ink::thin(rgb, random.within(1.0 - 0.35 * by, 1.0) as f32);
    print
}

/// Two or three lines of one length.
fn zone_lines(random: &mut Random) -> Vec<String> {
    const FORMATS: [Format; 10] = [
        Format::Td3,
        Format::Td3,
        Format::Td3,
        Format::Td3,
        Format::Td1,
        Format::Td1,
        Format::Td1,
        Format::Td2,
        Format::MrvA,
        Format::MrvB,
    ];
    let format = FORMATS[random.below(FORMATS.len())];
    let lengths = format.line_lengths();
    let mut lines: Vec<String> = if random.chance(0.06) {
        lengths.iter().map(|&length| random.characters(MRZ_CHARACTERS, length)).collect()
    } else {
        fields_of_anyone(format, random).unwrap_or_else(|| {
            let fields = Person::new(random).fields(format);
            // The names of our people all have a spelling.
            generate(&fields).expect("the zone of a person of ours")
        })
    };
    // Characters that no rule foretells.
    if random.chance(0.12) {
        for line in &mut lines {
            let count = random.between(0, 4);
            for _ in 0..count {
                let (at, alphabet) = (random.below(line.len()), random.pick(&[LETTERS, DIGITS, MRZ_CHARACTERS]));
                let other = random.character(alphabet).to_string();
                line.replace_range(at..at + 1, &other);
            }
        }
    }
    lines
}

/// Names and numbers without the bounds of our few names, and fillers in any number.
fn fields_of_anyone(format: Format, random: &mut Random) -> Option<Vec<String>> {
    if random.chance(0.3) {
        return None;
    }
    let name = |random: &mut Random| -> String {
        let length = random.between(2, 11);
        (0..length)
            .map(|index| {
                let alphabet = if random.chance(0.25) {
                    LETTERS
                } else if index % 2 == 0 {
                    "BCDFGHJKLMNPRSTVWZ"
                } else {
                    "AEIOUY"
                };
                random.character(alphabet)
            })
            .collect()
    };
    let names = |random: &mut Random, most: u32| -> String {
        let count = random.between(1, most);
        (0..count).map(|_| name(random)).collect::<Vec<_>>().join(" ")
    };
    let mut fields = Person::new(random).fields(format);
    fields.primary = names(random, 2);
    fields.secondary = if random.chance(0.05) { String::new() } else { names(random, 3) };
    fields.issuing_state = random.characters(LETTERS, 3);
    fields.nationality = if random.chance(0.8) { fields.issuing_state.clone() } else { random.characters(LETTERS, 3) };
    if random.chance(0.05) {
        fields.issuing_state = "D".to_owned();
        fields.nationality = "D".to_owned();
    }
    let second = random.pick(&["", "", "D", "O", "S", "M", "C", "R", "T"]);
    let first = match format {
        Format::Td3 => "P",
        Format::MrvA | Format::MrvB => "V",
        _ => random.pick(&["I", "A", "C", "I"]),
    };
    fields.document_code = format!("{first}{second}");
    fields.document_number = {
        // Most States leave out O and I, which look like digits.
        const CLEAR: &str = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789";
        let letters = random.between(0, 3) as usize;
        match random.below(8) {
            0 => random.characters(MRZ_CHARACTERS.trim_end_matches('<'), 9),
            1 | 2 => random.characters(CLEAR, 9),
            // Specimens are numbered so.
            3 => format!(
                "{}{}",
                random.characters(LETTERS, letters),
                random.pick(&["0", "0", "1", "2", "9"]).repeat(9 - letters)
            ),
            4 => format!("{}{}", random.characters(LETTERS, letters), random.characters("0001", 9 - letters)),
            5 => random.characters(DIGITS, 8),
            _ => format!("{}{}", random.characters(LETTERS, letters), random.characters(DIGITS, 9 - letters)),
        }
    };
    let room = match format {
        Format::Td3 => 14,
        Format::Td1 => 11,
        Format::MrvA => 16,
        Format::MrvB => 8,
        _ => 7,
    };
    let optional = |random: &mut Random, room: usize| -> String {
        let length = random.below(room + 1);
        let alphabet = random.pick(&[DIGITS, DIGITS, LETTERS, MRZ_CHARACTERS]);
        random.characters(alphabet, length)
    };
    fields.optional_data = if random.chance(0.6) { optional(random, room) } else { String::new() };
    if format == Format::Td1 && random.chance(0.3) {
        fields.optional_data_2 = optional(random, 11);
    }
    generate(&fields).ok()
}

/// Lines that are no zone: words and numbers in the letters of people.
fn other_text(random: &mut Random) -> Vec<String> {
    const WORDS: [&str; 30] = [
        "Date of birth",
        "Surname",
        "Given names",
        "Nationality",
        "passport",
        "Signature of bearer",
        "Place of birth",
        "valid until",
        "Authority",
        "of the",
        "street",
        "12.08.1984",
        "No.",
        "EUR",
        "identity card",
        "Sex / Sexe",
        "height",
        "177 cm",
        "residence",
        "permit",
        "3 / 7",
        "www",
        "total",
        "thank you",
        "Nom",
        "Prénoms",
        "eyes brown",
        "08 AUG 2031",
        "district",
        "Remarks",
    ];
    let count = random.between(2, 3);
    (0..count)
        .map(|_| {
            let mut line = String::new();
            while line.chars().count() < 28 {
                if !line.is_empty() {
                    line.push(' ');
                }
                if random.chance(0.15) {
                    let length = random.between(2, 8) as usize;
                    line.push_str(&random.characters(DIGITS, length));
                } else {
                    line.push_str(random.pick(&WORDS));
                }
            }
            line.chars().take(44).collect()
        })
        .collect()
}

/// Paper with a security print, darker where ink will not be lost on it.
fn paper(size_mm: [f32; 2], px_per_mm: f32, ink: Ink, random: &mut Random) -> Canvas {
    let darkest = f64::from(ink.rgb[0]) + 75.0;
    let light = random.within(darkest.min(200.0), 250.0);
    let rgb = std::array::from_fn(|_| (light + random.within(-22.0, 8.0)).clamp(0.0, 255.0) as u8);
    let mut canvas = Canvas::new(size_mm, px_per_mm, rgb);
    let strength = |random: &mut Random, most: f64| -> [f32; 3] {
        let common = random.within(2.0, most);
        std::array::from_fn(|_| (common * random.within(0.4, 1.3)) as f32)
    };
    let scale = f64::from(px_per_mm);
    if random.chance(0.6) {
        let cell = [random.within(1.0, 15.0) * scale, random.within(1.0, 10.0) * scale];
        let hills = Texture::hills(canvas.size_px(), cell, random);
        let strength = strength(random, 22.0);
        canvas.tint(&hills, strength);
    }
    for _ in 0..random.below(3) {
        let period = random.within(0.35, 4.0) * scale;
        let (angle, wobble) = (random.within(0.0, 180.0), random.within(0.0, 0.8));
        let waves = Texture::waves(canvas.size_px(), period, angle, wobble, random);
        let strength = strength(random, 20.0);
        canvas.tint(&waves, strength);
    }
    canvas
}

/// What stands around a zone: text, a signature, a portrait's lower edge, the border of the page.
fn surroundings(canvas: &mut Canvas, margin: [f32; 2], block: f32, others: &[Font], random: &mut Random) {
    let [width, height] = canvas.size_mm();
    let colour = |random: &mut Random| {
        let dark = random.within(0.0, 140.0);
        std::array::from_fn(|_| (dark + random.within(0.0, 60.0)) as u8)
    };
    if random.chance(0.5) {
        let font =
            if others.is_empty() || random.chance(0.6) { Font::bold() } else { &others[random.below(others.len())] };
        let ink = Ink::solid(colour(random));
        let size_mm = random.within(2.0, 4.0) as f32;
        let baseline = margin[1] - random.within(0.8, 4.0) as f32;
        let text = other_text(random).swap_remove(0).to_uppercase();
        canvas.text(&text, [random.within(0.0, 40.0) as f32, baseline], Lettering { font, size_mm, ink });
    }
    if random.chance(0.25) {
        // The lower edge of a portrait.
        let (left, wide) = (random.within(0.0, 0.3) as f32 * width, random.within(20.0, 35.0) as f32);
        canvas.rectangle([left, 0.0, wide, margin[1] - random.within(0.8, 3.0) as f32], Ink::solid(colour(random)));
    }
    let outside = Ink::solid(std::array::from_fn(|_| random.within(0.0, 255.0) as u8));
    if random.chance(0.4) {
        let from = margin[1] + block + random.within(1.0, 6.0) as f32;
        canvas.rectangle([0.0, from, width, (height - from).max(0.1)], outside);
    }
    for is_right in [false, true] {
        if random.chance(0.3) {
            let wide = (margin[0] - random.within(0.8, 6.0) as f32).max(0.1);
            canvas.rectangle([if is_right { width - wide } else { 0.0 }, 0.0, wide, height], outside);
        }
    }
}

/// What lies over the print: strokes of a pen, scratches, threads, bright films.
fn marks(canvas: &mut Canvas, level: u8, random: &mut Random) {
    let [width, height] = canvas.size_mm();
    let count = if random.chance(0.15 + 0.08 * f64::from(level)) { random.between(1, 3) } else { 0 };
    for _ in 0..count {
        let mut path = PathBuilder::new();
        let point = |random: &mut Random| {
            let at = [random.within(0.0, 1.0), random.within(-0.2, 1.2)];
            [at[0] as f32 * width, at[1] as f32 * height]
        };
        let [from, over, to] = [point(random), point(random), point(random)];
        path.move_to(from[0], from[1]);
        path.quad_to(over[0], over[1], to[0], to[1]);
        let rgb: [u8; 3] = if random.chance(0.5) { [235, 235, 240] } else { [60, 60, 110] };
        let ink = Ink::thin(rgb, random.within(0.2, 0.75) as f32);
        if let Some(path) = path.finish() {
            canvas.stroke(&path, random.within(0.05, 0.35) as f32, ink);
        }
    }
    if random.chance(0.12) {
        // The film of a hologram: bright and dark patches.
        let cell = f64::from(canvas.px_per_mm()) * random.within(2.0, 9.0);
        let film = Texture::hills(canvas.size_px(), [cell, cell], random);
        canvas.tint(&film, std::array::from_fn(|_| random.within(4.0, 26.0) as f32));
    }
}

/// The sheet as a camera sees it, and the map from its millimetres to the pixel areas of the photograph.
fn photographed(canvas: Canvas, scale: f64, capital_px: f64, level: u8, random: &mut Random) -> (Image, Perspective) {
    let size_mm = canvas.size_mm().map(f64::from);
    let sheet = canvas.into_image();
    let size = size_mm.map(|side| (side * scale).round().max(24.0));
    let slant = 0.02 + 0.02 * f64::from(level);
    // A quarter turn or more costs no more detail than these few degrees do, since the strip is cut out upright.
    let angle = random.within(-3.0, 3.0).to_radians();
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    let quad: Quad = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]].map(|[u, v]: [f64; 2]| {
        let [x, y] = [(u - 0.5) * size[0], (v - 0.5) * size[1]];
        let pushed = [x + random.within(-slant, slant) * size[0] * 0.5, y + random.within(-slant, slant) * size[1]];
        [pushed[0] * cos - pushed[1] * sin + size[0] / 2.0, pushed[0] * sin + pushed[1] * cos + size[1] / 2.0]
    });
    let from_sheet = |sides: [f64; 2]| Perspective::from_rectangle(sides, &quad);
    let pixels = [f64::from(sheet.width), f64::from(sheet.height)];
    // A rectangle whose corners are moved by a few hundredths of its sides stays convex.
    let (to_photograph, from_pixels) = (from_sheet(size_mm).expect("convex"), from_sheet(pixels).expect("convex"));
    let to_sheet = from_pixels.invert().expect("a map with an area");
    let seen = warp(&sheet, &to_sheet.in_pixel_centres(), size.map(|side| side as u32), Sampling::Area);
    let capture = Capture::of_level(level, capital_px, random);
    (capture.develop(Frame::grey(&seen), random).to_image(), to_photograph)
}

/// The corners of a line as a detector finds them: too high or too low, too long more often than too short.
fn off_the_mark(quad: &LineQuad, pitch_mm: f32, level: u8, random: &mut Random) -> Quad {
    let height = f64::from(quad[3][1] - quad[0][1]);
    let loose = 0.06 + 0.03 * f64::from(level);
    let grown = random.within(-0.10, 0.22) * height / 2.0;
    let shift = random.within(-loose, loose) * height;
    let [before, after] = [0, 1].map(|_| {
        let share = if random.chance(0.15) { random.within(0.5, 3.0) } else { random.within(-0.3, 0.5) };
        share * f64::from(pitch_mm)
    });
    let mut corners: Quad = quad.map(|corner| corner.map(f64::from));
    for (index, corner) in corners.iter_mut().enumerate() {
        corner[0] += if index == 0 || index == 3 { -before } else { after };
        corner[1] += shift + if index < 2 { -grown } else { grown };
        corner[1] += random.within(-loose, loose) * 0.5 * height;
    }
    corners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_depend_on_their_seed_and_keep_their_text() {
        let first: Vec<Sample> = Strips::new(5, Vec::new()).take(60).collect();
        let again: Vec<Sample> = Strips::new(5, Vec::new()).take(60).collect();
        let key = |samples: &[Sample]| -> Vec<(String, Vec<u8>)> {
            samples.iter().map(|sample| (sample.text.clone(), sample.strip.grey.clone())).collect()
        };
        assert_eq!(key(&first), key(&again));
        assert!(first.iter().all(|sample| sample.text.len() <= 44 && sample.strip.width <= 640));
        assert!(first.iter().any(|sample| !sample.text.is_empty()));
        // A strip is not of one colour: the print is seen.
        for sample in &first {
            let (least, most) = (sample.strip.grey.iter().min(), sample.strip.grey.iter().max());
            assert!(most > least, "an empty strip");
        }
    }
}
