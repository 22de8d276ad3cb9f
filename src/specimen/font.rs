//! The shapes of letters.
//!
//! Called by `canvas` and `zone`. The fonts are part of the program, so that a specimen has the same bytes on every host: OCR-B as
//! drawn by Norbert Schwarz and Matthew Skala (free of any condition; Debian `fonts-ocr-b`), and Roboto (Apache-2.0; Debian
//! `fonts-roboto-unhinted`, cut down to Latin letters). Other fonts can be read from files, for training data.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use skrifa::instance::{LocationRef, Size};
use skrifa::outline::{DrawSettings, OutlinePen};
use skrifa::{FontRef, MetadataProvider as _};
use tiny_skia::{Path, PathBuilder};

static OCR_B: &[u8] = include_bytes!("fonts/OCRB.otf");
static OCR_B_SHARP: &[u8] = include_bytes!("fonts/OCRBS.otf");
static TEXT: &[u8] = include_bytes!("fonts/Roboto-Regular.ttf");
static BOLD: &[u8] = include_bytes!("fonts/Roboto-Bold.ttf");

/// A font, its glyphs in units of the em with the baseline at 0 and downwards positive.
#[derive(Debug)]
pub struct Font {
    glyphs: BTreeMap<char, Glyph>,
    /// Height of capital letters.
    pub cap_height: f32,
}

#[derive(Debug)]
struct Glyph {
    /// `None` for a space.
    outline: Option<Path>,
    advance: f32,
}

impl Font {
    /// Reads the first font of a TrueType or OpenType file; of its letters those of Latin scripts.
    ///
    /// # Errors
    /// If it is no such file.
    pub fn parse(file: &[u8]) -> Result<Self, skrifa::raw::ReadError> {
        let font = FontRef::from_index(file, 0)?;
        let (characters, outlines) = (font.charmap(), font.outline_glyphs());
        let metrics = font.glyph_metrics(Size::new(1.0), LocationRef::default());
        let mut glyphs = BTreeMap::new();
        for character in (' '..='~').chain('\u{a0}'..='\u{17f}').chain(['–', '—', '’']) {
            let Some(glyph) = characters.map(character) else { continue };
            let mut pen = Pen(PathBuilder::new());
            if let Some(outline) = outlines.get(glyph) {
                // A glyph that is damaged stays empty.
                let _ = outline.draw(DrawSettings::unhinted(Size::new(1.0), LocationRef::default()), &mut pen);
            }
            let advance = metrics.advance_width(glyph).unwrap_or(0.0);
            glyphs.insert(character, Glyph { outline: pen.0.finish(), advance });
        }
        let cap = glyphs.get(&'H').and_then(|glyph| glyph.outline.as_ref()).map(|outline| -outline.bounds().top());
        Ok(Self { glyphs, cap_height: cap.unwrap_or(0.7) })
    }

    pub fn ocr_b() -> &'static Self {
        static FONT: OnceLock<Font> = OnceLock::new();
        built_in(&FONT, OCR_B)
    }

    /// OCR-B with square ends of strokes.
    pub fn ocr_b_sharp() -> &'static Self {
        static FONT: OnceLock<Font> = OnceLock::new();
        built_in(&FONT, OCR_B_SHARP)
    }

    pub fn text() -> &'static Self {
        static FONT: OnceLock<Font> = OnceLock::new();
        built_in(&FONT, TEXT)
    }

    pub fn bold() -> &'static Self {
        static FONT: OnceLock<Font> = OnceLock::new();
        built_in(&FONT, BOLD)
    }

    /// The shape of a character; `None` for one without.
    pub fn outline(&self, character: char) -> Option<&Path> {
        self.glyphs.get(&character)?.outline.as_ref()
    }

    /// How far the next character stands from this one, 0 for a character that the font does not have.
    pub fn advance(&self, character: char) -> f32 {
        self.glyphs.get(&character).map_or(0.0, |glyph| glyph.advance)
    }

    /// Length of a text.
    pub fn length(&self, text: &str) -> f32 {
        text.chars().map(|character| self.advance(character)).sum()
    }
}

fn built_in(font: &'static OnceLock<Font>, file: &[u8]) -> &'static Font {
    // The file is part of the program, and a test reads all of them.
    font.get_or_init(|| Font::parse(file).expect("the fonts of the program are sound"))
}

/// Turns outlines upside down: fonts count upwards, pictures downwards.
struct Pen(PathBuilder);

impl OutlinePen for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.0.move_to(x, -y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.0.line_to(x, -y);
    }

    fn quad_to(&mut self, cx: f32, cy: f32, x: f32, y: f32) {
        self.0.quad_to(cx, -cy, x, -y);
    }

    fn curve_to(&mut self, ax: f32, ay: f32, bx: f32, by: f32, x: f32, y: f32) {
        self.0.cubic_to(ax, -ay, bx, -by, x, -y);
    }

    fn close(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::ocr::MRZ_CHARACTERS;

    #[test]
    fn the_built_in_fonts_have_the_letters_that_are_needed() {
        for font in [Font::ocr_b(), Font::ocr_b_sharp()] {
            assert!(MRZ_CHARACTERS.chars().all(|character| font.outline(character).is_some()));
            let pitches = MRZ_CHARACTERS.chars().map(|character| font.advance(character));
            assert!(pitches.into_iter().all(|pitch| (pitch - font.advance('A')).abs() < 1e-3), "one pitch");
        }
        for font in [Font::text(), Font::bold()] {
            assert!("ÅåÉßŁłŞőž–’ 09".chars().all(|character| font.advance(character) > 0.0));
            assert!((0.6..0.8).contains(&font.cap_height));
        }
    }

    #[test]
    fn what_is_no_font_is_refused() {
        assert!(Font::parse(b"").is_err());
        assert!(Font::parse(&[0; 100]).is_err());
        let mut cut = TEXT.to_vec();
        cut.truncate(5000);
        // Whatever is left of it, reading it ends.
        let _ = Font::parse(&cut);
    }
}
