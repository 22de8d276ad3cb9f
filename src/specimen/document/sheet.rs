//! A page while it is drawn: the canvas, and beside it the truth about everything printed.
//!
//! Called by the pages. Whatever a reader may look for is printed through here and nowhere else, so that picture and truth cannot differ.

use tiny_skia::PathBuilder;

use super::security::{Area, fill};
use super::{Kind, Page, Request};
use crate::document::locate::Quad;
use crate::document::mrz::{Date, Fields, generate};
use crate::imaging::Image;
use crate::specimen::canvas::{Canvas, Ink, Lettering};
use crate::specimen::font::Font;
use crate::specimen::person::State;
use crate::specimen::random::Random;
use crate::specimen::truth::{BarcodeTruth, FieldTruth, MrzTruth, PageTruth, rounded};
use crate::specimen::zone::{self, LineQuad, Print};

/// Height of the machine-readable zone on all formats (ICAO Doc 9303 parts 4 to 7, section 3).
pub const ZONE_MM: f32 = 23.2;

/// Round corners of cards (ISO/IEC 7810).
pub const CARD_CORNER_MM: f32 = 3.18;

const BLACK: [u8; 3] = [22, 22, 26];

/// A page on the way.
pub struct Sheet {
    pub canvas: Canvas,
    pub size_mm: [f32; 2],
    pub style: Style,
    /// How far the printer of the personal data missed the place meant for it.
    offset: [f32; 2],
    kind: Kind,
    truth: PageTruth,
}

/// The habits of a State.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub caption: Ink,
    pub value: Ink,
    pub caption_mm: f32,
    pub value_mm: f32,
    dates: Dates,
    is_bold: bool,
}

#[derive(Debug, Clone, Copy)]
enum Dates {
    /// `12 AUG 1984`.
    Words,
    /// `12 AUG/AOÛT 1984`.
    TwoLanguages,
    /// `12.08.1984`.
    Dots,
    /// `1984-08-12`.
    YearFirst,
}

impl Style {
    fn of(state: &State) -> Self {
        let [first, second] = state.print;
        let dark = |rgb: [u8; 3]| rgb.map(|value| (f32::from(value) * 0.5) as u8);
        let (dates, is_bold) = match state.code {
            "UTO" => (Dates::Words, true),
            "XQA" => (Dates::Dots, false),
            "XQB" => (Dates::TwoLanguages, true),
            _ => (Dates::YearFirst, false),
        };
        let caption = Ink::solid(dark(if is_bold { first } else { second }));
        Self { caption, value: Ink::solid(BLACK), caption_mm: 1.75, value_mm: 3.1, dates, is_bold }
    }

    fn value_font(&self) -> &'static Font {
        if self.is_bold { Font::bold() } else { Font::text() }
    }

    /// A day as this State prints it.
    pub fn date(&self, date: Date) -> String {
        const ENGLISH: [&str; 12] =
            ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
        const FRENCH: [&str; 12] =
            ["JAN", "FÉV", "MARS", "AVR", "MAI", "JUIN", "JUIL", "AOÛT", "SEPT", "OCT", "NOV", "DÉC"];
        let (year, month, day) = (date.year(), date.month(), date.day());
        let [english, french] = [ENGLISH, FRENCH].map(|names| names[usize::from(month - 1)]);
        match self.dates {
            Dates::Words => format!("{day:02} {english} {year}"),
            Dates::TwoLanguages if english == french => format!("{day:02} {english} {year}"),
            Dates::TwoLanguages => format!("{day:02} {english}/{french} {year}"),
            Dates::Dots => format!("{day:02}.{month:02}.{year}"),
            Dates::YearFirst => format!("{year}-{month:02}-{day:02}"),
        }
    }
}

/// A caption with its value below.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub caption: &'a str,
    /// Name of the field; `None` for what no reader knows.
    pub name: Option<&'static str>,
    /// As `vouch document` gives it.
    pub value: String,
    pub printed: String,
}

impl<'a> Entry<'a> {
    /// A value that is printed as it is.
    pub fn plain(caption: &'a str, name: &'static str, printed: impl Into<String>) -> Self {
        let printed = printed.into();
        Self { caption, name: Some(name), value: printed.clone(), printed }
    }

    pub fn of(caption: &'a str, name: &'static str, value: impl Into<String>, printed: impl Into<String>) -> Self {
        Self { caption, name: Some(name), value: value.into(), printed: printed.into() }
    }

    pub fn other(caption: &'a str, printed: impl Into<String>) -> Self {
        Self { caption, name: None, value: String::new(), printed: printed.into() }
    }
}

impl Sheet {
    /// An empty page of the paper of a State.
    pub fn new(request: &Request, side: &'static str, size_mm: [f32; 2], paper: [u8; 3], random: &mut Random) -> Self {
        let canvas = Canvas::new(size_mm, request.px_per_mm, paper);
        let size_px = canvas.size_px().map(|side| side as u32);
        let [width, height] = size_px.map(f64::from);
        let truth = PageTruth {
            side,
            size_px,
            document_quad: [[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]],
            fields: Vec::new(),
            mrz: None,
            barcode: None,
            portrait_quad: None,
            capture: None,
        };
        let offset = std::array::from_fn(|_| random.within(-0.35, 0.35) as f32);
        Self { canvas, size_mm, style: Style::of(&request.person.state), offset, kind: request.kind, truth }
    }

    fn quad_px(&self, quad: LineQuad) -> Quad {
        rounded(quad.map(|corner| corner.map(|side| f64::from(side * self.canvas.px_per_mm()))))
    }

    fn area_px(&self, [x, y, width, height]: Area) -> Quad {
        self.quad_px([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    }

    /// Prints a caption, its baseline beginning at `at`, and the value below it, narrowed to `room` millimetres.
    pub fn entry(&mut self, entry: &Entry, at: [f32; 2], room: f32) {
        self.caption(entry.caption, at, room);
        self.value(entry, [at[0], at[1] + self.style.value_mm * 1.1], room);
    }

    /// Prints the value alone.
    pub fn value(&mut self, entry: &Entry, at: [f32; 2], room: f32) {
        let font = self.style.value_font();
        let size_mm = fitting(font, &entry.printed, self.style.value_mm, room);
        let at = [at[0] + self.offset[0], at[1] + self.offset[1]];
        let length = self.canvas.text(&entry.printed, at, Lettering { font, size_mm, ink: self.style.value });
        if let Some(name) = entry.name {
            self.remember(name, entry, at, length, size_mm * font.cap_height);
        }
    }

    /// Prints a caption and the value behind it in one line.
    pub fn inline(&mut self, entry: &Entry, at: [f32; 2], room: f32) {
        let lettering = Lettering { font: Font::text(), size_mm: self.style.caption_mm, ink: self.style.caption };
        let taken = self.canvas.text(entry.caption, at, lettering) + 0.7;
        self.value(entry, [at[0] + taken, at[1]], room - taken);
    }

    /// Prints a value of several lines, such as an address, with the baseline of the first beginning at `at`.
    pub fn block(&mut self, entry: &Entry, at: [f32; 2], pitch_mm: f32, room: f32) {
        let font = self.style.value_font();
        let lines: Vec<&str> = entry.printed.split('\n').collect();
        let size_mm = lines.iter().map(|line| fitting(font, line, self.style.value_mm, room)).fold(f32::MAX, f32::min);
        let at = [at[0] + self.offset[0], at[1] + self.offset[1]];
        let mut longest: f32 = 0.0;
        for (row, line) in lines.iter().enumerate() {
            let lettering = Lettering { font, size_mm, ink: self.style.value };
            longest = longest.max(self.canvas.text(line, [at[0], at[1] + row as f32 * pitch_mm], lettering));
        }
        if let Some(name) = entry.name {
            let [x, y] = at;
            let (top, bottom) = (y - size_mm * font.cap_height, y + (lines.len() - 1) as f32 * pitch_mm);
            let quad = self.quad_px([[x, top], [x + longest, top], [x + longest, bottom], [x, bottom]]);
            let (value, printed) = (entry.value.clone(), entry.printed.clone());
            self.truth.fields.push(FieldTruth { name, value, printed, quad });
        }
    }

    fn remember(&mut self, name: &'static str, entry: &Entry, [x, y]: [f32; 2], length: f32, tall: f32) {
        let quad = self.quad_px([[x, y - tall], [x + length, y - tall], [x + length, y], [x, y]]);
        self.truth.fields.push(FieldTruth { name, value: entry.value.clone(), printed: entry.printed.clone(), quad });
    }

    pub fn caption(&mut self, text: &str, at: [f32; 2], room: f32) {
        let size_mm = fitting(Font::text(), text, self.style.caption_mm, room);
        self.canvas.text(text, at, Lettering { font: Font::text(), size_mm, ink: self.style.caption });
    }

    /// Prints the machine-readable zone along the lower edge.
    pub fn zone(&mut self, fields: &Fields, left: f32, random: &mut Random) {
        let [width, height] = self.size_mm;
        // The print of the ground has to be pale here.
        self.canvas.rectangle([0.0, height - ZONE_MM, width, ZONE_MM], Ink::thin([252, 252, 250], 0.62));
        // Our people have names with a spelling, and numbers that fit.
        let lines = generate(fields).expect("the zone of a person of ours");
        let mut print = Print { spread_mm: random.within(-0.03, 0.05) as f32, ..Print::default() };
        print.wear = if random.chance(0.3) { random.within(0.0, 0.15) } else { 0.0 };
        // Middles of the lines above the lower edge: 15.75 and 9.4 mm for two of them, about the middle of the zone for three.
        let first = if lines.len() == 3 { 18.4 } else { 15.75 };
        let at = [left + self.offset[0], height - first + print.cap_height_mm / 2.0 + self.offset[1]];
        let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
        let quads = zone::print(&mut self.canvas, &texts, at, &print, random);
        let quads = quads.into_iter().map(|quad| self.quad_px(quad)).collect();
        self.truth.mrz = Some(MrzTruth { format: fields.format.name(), lines, quads });
    }

    /// Lays the portrait into an area, cut to its shape.
    pub fn portrait(&mut self, picture: &Image, area: Area) {
        self.canvas.picture(&cut_to(picture, area[2] / area[3]), area, 1.0);
        self.truth.portrait_quad = Some(self.area_px(area));
    }

    /// A small pale copy of the portrait in one colour.
    pub fn ghost(&mut self, picture: &Image, area: Area, rgb: [u8; 3]) {
        let cut = cut_to(picture, area[2] / area[3]);
        let tinted = Image::build(cut.width, cut.height, |bytes| {
            for (to, from) in bytes.chunks_exact_mut(3).zip(cut.rgb.chunks_exact(3)) {
                let luma =
                    (0.299 * f32::from(from[0]) + 0.587 * f32::from(from[1]) + 0.114 * f32::from(from[2])) / 255.0;
                // Dark skin would become a blot.
                let luma = luma.sqrt();
                for (to, ink) in to.iter_mut().zip(rgb) {
                    *to = (f32::from(ink) + (255.0 - f32::from(ink)) * luma + 0.5) as u8;
                }
            }
        });
        self.canvas.picture(&tinted, area, 0.42);
    }

    /// `SPECIMEN` across an area, in an ink through which the rest is read. The portrait stays free, so that a picture in its place can be
    /// compared with others.
    pub fn overprint(&mut self, [x, y, width, height]: Area) {
        let word = "SPECIMEN";
        let font = Font::bold();
        // The word fills most of the diagonal, and is no taller than a third of the area.
        let diagonal = (width * width + height * height).sqrt();
        let size_mm = (0.72 * diagonal / font.length(word)).min(height * 0.42);
        let angle = -libm::atan2(f64::from(height * 0.62), f64::from(width));
        let (sin, cos) = (libm::sin(angle) as f32, libm::cos(angle) as f32);
        let [along, across] = [font.length(word) * size_mm / 2.0, font.cap_height * size_mm / 2.0];
        let at = [x + width / 2.0 - along * cos - across * sin, y + height / 2.0 - along * sin + across * cos];
        let ink = Ink::thin([196, 30, 44], 0.17);
        self.canvas.slanted_text(word, at, angle.to_degrees() as f32, Lettering { font, size_mm, ink });
    }

    /// The scribble of a hand.
    pub fn signature(&mut self, [x, y, width, height]: Area, random: &mut Random) {
        let mut path = PathBuilder::new();
        let loops = random.between(5, 9);
        let middle = y + height * 0.6;
        let rise = random.within(-0.15, 0.05) as f32;
        let point = |share: f32, lift: f32| [x + width * share, middle + height * (rise * share - lift)];
        let [mut px, mut py] = point(0.0, 0.1);
        path.move_to(px, py);
        for stroke in 0..loops {
            let share = (stroke as f32 + 1.0) / (loops as f32 + 1.0);
            let is_tall = stroke == 0 || random.chance(0.25);
            let lift = if is_tall { random.within(0.35, 0.6) } else { random.within(0.08, 0.24) } as f32;
            let lean = random.within(0.0, 0.08) as f32;
            let [tx, ty] = point(share + lean, lift);
            let [bx, by] = point(share + random.within(0.0, 0.05) as f32, -random.within(0.0, 0.3) as f32);
            path.cubic_to(px + width * 0.04, py, tx - width * 0.03, ty - height * 0.1, tx, ty);
            path.cubic_to(tx + width * 0.03, ty + height * 0.08, bx - width * 0.05, by + height * 0.08, bx, by);
            [px, py] = [bx, by];
        }
        let [ex, ey] = point(1.0, random.within(-0.1, 0.3) as f32);
        path.cubic_to(px + width * 0.1, py + height * 0.15, ex - width * 0.1, ey, ex, ey);
        if random.chance(0.4) {
            let ([fx, fy], [tx, ty]) = (point(0.15, -0.35), point(0.9, -0.28));
            path.move_to(fx, fy);
            path.quad_to((fx + tx) / 2.0, fy - height * 0.12, tx, ty);
        }
        let ink = if random.chance(0.5) { [26, 34, 92] } else { [20, 20, 24] };
        if let Some(path) = path.finish() {
            self.canvas.stroke(&path, random.within(0.22, 0.36) as f32, Ink::thin(ink, 0.9));
        }
    }

    /// A barcode was drawn over an area by the page itself.
    pub fn has_barcode(&mut self, symbology: &'static str, text: String, area: Area) {
        let quad = self.area_px(area);
        self.truth.barcode = Some(BarcodeTruth { symbology, text, quad });
    }

    /// The page as it comes out of the printer; outside of round corners it is white.
    pub fn finish(mut self, corner_mm: f32) -> Page {
        let [width, height] = self.size_mm;
        // Just beyond the edge, so that the outermost pixels are covered whole.
        let [far_x, far_y] = [width + 0.2, height + 0.2];
        for ([x, y], [dx, dy]) in [
            ([-0.2, -0.2], [1.0, 1.0]),
            ([far_x, -0.2], [-1.0, 1.0]),
            ([far_x, far_y], [-1.0, -1.0]),
            ([-0.2, far_y], [1.0, -1.0]),
        ] {
            if corner_mm <= 0.0 {
                break;
            }
            // What a quarter circle leaves of its square; its curve has handles of this share of the radius.
            let (reach, handle) = (corner_mm + 0.2, 0.2 + corner_mm * (1.0 - 0.552_285));
            let mut corner = PathBuilder::new();
            corner.move_to(x, y);
            corner.line_to(x + dx * reach, y);
            corner.line_to(x + dx * reach, y + dy * 0.2);
            corner.cubic_to(x + dx * handle, y + dy * 0.2, x + dx * 0.2, y + dy * handle, x + dx * 0.2, y + dy * reach);
            corner.line_to(x, y + dy * reach);
            corner.close();
            fill(&mut self.canvas, corner, Ink::solid([255, 255, 255]));
        }
        self.truth.fields.sort_by(|a, b| a.quad[3][1].total_cmp(&b.quad[3][1]));
        let corner_px = f64::from(corner_mm * self.canvas.px_per_mm());
        let px_per_mm = f64::from(self.canvas.px_per_mm());
        Page { kind: self.kind, image: self.canvas.into_image(), truth: self.truth, corner_px, px_per_mm }
    }
}

/// The size of letters with which a text is no longer than `room`.
fn fitting(font: &Font, text: &str, size_mm: f32, room: f32) -> f32 {
    let length = font.length(text) * size_mm;
    if length > room { size_mm * room / length } else { size_mm }
}

/// The middle of a picture, as wide for its height as asked.
fn cut_to(picture: &Image, aspect: f32) -> Image {
    let [width, height] = [picture.width, picture.height].map(|side| side as f32);
    let [columns, rows] = if width > height * aspect { [height * aspect, height] } else { [width, width / aspect] }
        .map(|side| side as u32);
    let [columns, rows] = [columns.clamp(1, picture.width), rows.clamp(1, picture.height)];
    picture.part([(picture.width - columns) / 2, (picture.height - rows) / 2], [columns, rows])
}
