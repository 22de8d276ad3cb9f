//! A sheet to draw on, measured in millimetres.
//!
//! Called by everything here that draws a part of a document. Origin top left, downwards positive. Left out: what a camera makes of
//! it, which is `camera`'s business.

use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Mask, Paint, Path, PathBuilder, Pixmap, Point,
    RadialGradient, Rect, Shader, SpreadMode, Stroke, Transform,
};

use super::font::Font;
use super::texture::Texture;
use crate::imaging::Image;

/// Largest side of a sheet.
const MAX_SIDE_PX: u32 = 8192;

/// A colour, 0..=255 red, green, blue, with an opacity of 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ink {
    pub rgb: [u8; 3],
    pub opacity: f32,
}

impl Ink {
    pub const fn solid(rgb: [u8; 3]) -> Self {
        Self { rgb, opacity: 1.0 }
    }

    pub const fn thin(rgb: [u8; 3], opacity: f32) -> Self {
        Self { rgb, opacity }
    }

    fn colour(self) -> Color {
        let [r, g, b] = self.rgb;
        Color::from_rgba8(r, g, b, (self.opacity.clamp(0.0, 1.0) * 255.0) as u8)
    }

    fn paint<'a>(self) -> Paint<'a> {
        Paint { shader: Shader::SolidColor(self.colour()), ..Paint::default() }
    }
}

/// Ink that changes evenly along the line between two points, in millimetres; beyond them it is that of the nearer end.
#[derive(Debug, Clone, Copy)]
pub struct Gradient<'a> {
    pub from: [f32; 2],
    pub to: [f32; 2],
    pub inks: &'a [Ink],
}

impl Gradient<'_> {
    fn paint<'a>(&self) -> Paint<'a> {
        let last = self.inks.len().saturating_sub(1).max(1) as f32;
        let stops = (0..)
            .zip(self.inks)
            .map(|(index, ink): (u16, &Ink)| GradientStop::new(f32::from(index) / last, ink.colour()))
            .collect();
        let [from, to] = [self.from, self.to].map(|[x, y]| Point::from_xy(x, y));
        let shader = LinearGradient::new(from, to, stops, SpreadMode::Pad, Transform::identity());
        // Points that coincide, or no ink: nothing is drawn.
        let nothing = Shader::SolidColor(Color::TRANSPARENT);
        Paint { shader: shader.unwrap_or(nothing), ..Paint::default() }
    }
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub struct Lettering<'a> {
    pub font: &'a Font,
    /// Size of the em.
    pub size_mm: f32,
    pub ink: Ink,
}

/// The sheet.
pub struct Canvas {
    pixmap: Pixmap,
    px_per_mm: f32,
}

impl Canvas {
    /// A sheet of one colour; its sides are rounded to whole pixels.
    pub fn new(size_mm: [f32; 2], px_per_mm: f32, rgb: [u8; 3]) -> Self {
        let [width, height] = size_mm.map(|side| ((side * px_per_mm).round() as u32).clamp(1, MAX_SIDE_PX));
        // Neither side is 0, and neither is too large.
        let mut pixmap = Pixmap::new(width, height).expect("a sheet has an area");
        pixmap.fill(Ink::solid(rgb).colour());
        Self { pixmap, px_per_mm }
    }

    /// A sheet that shows a picture already.
    pub fn over(picture: &Image, px_per_mm: f32) -> Self {
        let mut pixmap = Pixmap::new(picture.width.max(1), picture.height.max(1)).expect("a picture has an area");
        for (to, from) in pixmap.data_mut().chunks_exact_mut(4).zip(picture.rgb.chunks_exact(3)) {
            to[..3].copy_from_slice(from);
            to[3] = 255;
        }
        Self { pixmap, px_per_mm }
    }

    pub fn size_mm(&self) -> [f32; 2] {
        [self.pixmap.width(), self.pixmap.height()].map(|side| side as f32 / self.px_per_mm)
    }

    pub fn px_per_mm(&self) -> f32 {
        self.px_per_mm
    }

    /// Fills a shape given in millimetres.
    pub fn fill(&mut self, path: &Path, ink: Ink) {
        let scale = Transform::from_scale(self.px_per_mm, self.px_per_mm);
        self.pixmap.fill_path(path, &ink.paint(), FillRule::Winding, scale, None);
    }

    /// Draws along a line given in millimetres.
    pub fn stroke(&mut self, path: &Path, width_mm: f32, ink: Ink) {
        let scale = Transform::from_scale(self.px_per_mm, self.px_per_mm);
        let stroke = Stroke { width: width_mm, line_cap: LineCap::Round, ..Stroke::default() };
        self.pixmap.stroke_path(path, &ink.paint(), &stroke, scale, None);
    }

    /// As [`fill`](Self::fill), with ink that changes.
    pub fn fill_graded(&mut self, path: &Path, gradient: &Gradient) {
        let scale = Transform::from_scale(self.px_per_mm, self.px_per_mm);
        self.pixmap.fill_path(path, &gradient.paint(), FillRule::Winding, scale, None);
    }

    /// As [`stroke`](Self::stroke), with ink that changes.
    pub fn stroke_graded(&mut self, path: &Path, width_mm: f32, gradient: &Gradient) {
        let scale = Transform::from_scale(self.px_per_mm, self.px_per_mm);
        let stroke =
            Stroke { width: width_mm, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        self.pixmap.stroke_path(path, &gradient.paint(), &stroke, scale, None);
    }

    /// A soft spot: the ink in the middle of an ellipse, less and less of it towards the rim.
    pub fn glow(&mut self, [x, y]: [f32; 2], [across, down]: [f32; 2], ink: Ink) {
        // A smooth hill of the unit circle in few steps: its shares at quarters of the radius.
        let stops = [(0.0, 1.0), (0.25, 0.84), (0.5, 0.5), (0.75, 0.16), (1.0, 0.0)]
            .map(|(at, share)| GradientStop::new(at, Ink::thin(ink.rgb, ink.opacity * share).colour()));
        let zero = Point::from_xy(0.0, 0.0);
        let place = Transform::from_row(across, 0.0, 0.0, down, x, y);
        let shader = RadialGradient::new(zero, 0.0, zero, 1.0, stops.to_vec(), SpreadMode::Pad, place);
        let oval = Rect::from_xywh(x - across, y - down, 2.0 * across, 2.0 * down).and_then(PathBuilder::from_oval);
        if let (Some(shader), Some(oval)) = (shader, oval) {
            let scale = Transform::from_scale(self.px_per_mm, self.px_per_mm);
            self.pixmap.fill_path(&oval, &Paint { shader, ..Paint::default() }, FillRule::Winding, scale, None);
        }
    }

    /// Fills a rectangle: left, top, width, height.
    pub fn rectangle(&mut self, [x, y, width, height]: [f32; 4], ink: Ink) {
        if let Some(rectangle) = Rect::from_xywh(x, y, width, height) {
            self.fill(&PathBuilder::from_rect(rectangle), ink);
        }
    }

    /// Writes a line of text, its baseline beginning at `at`, and returns its length in millimetres.
    pub fn text(&mut self, text: &str, at: [f32; 2], lettering: Lettering) -> f32 {
        self.slanted_text(text, at, 0.0, lettering)
    }

    /// As [`text`](Self::text), turned clockwise around its beginning.
    pub fn slanted_text(&mut self, text: &str, at: [f32; 2], angle_deg: f32, lettering: Lettering) -> f32 {
        let Lettering { font, size_mm, ink } = lettering;
        let angle = f64::from(angle_deg).to_radians();
        let (sin, cos) = (libm::sin(angle) as f32, libm::cos(angle) as f32);
        let size = size_mm * self.px_per_mm;
        let mut along = 0.0;
        for character in text.chars() {
            if let Some(outline) = font.outline(character) {
                let [x, y] = [at[0] * self.px_per_mm + along * size * cos, at[1] * self.px_per_mm + along * size * sin];
                let place = Transform::from_row(size * cos, size * sin, -size * sin, size * cos, x, y);
                self.pixmap.fill_path(outline, &ink.paint(), FillRule::Winding, place, None);
            }
            along += font.advance(character);
        }
        along * size_mm
    }

    /// An empty stencil of the size of the sheet, one byte a pixel.
    pub fn stencil(&self) -> Mask {
        Mask::new(self.pixmap.width(), self.pixmap.height()).expect("a sheet has an area")
    }

    /// Prints through a stencil, with `coverage` (0..=1 for each pixel) saying how much ink arrives.
    pub fn print(&mut self, stencil: &Mask, ink: Ink, coverage: Option<&Texture>) {
        let width = self.pixmap.width() as usize;
        let rows = self.pixmap.data_mut().chunks_exact_mut(width * 4);
        for (y, (row, mask)) in rows.zip(stencil.data().chunks_exact(width)).enumerate() {
            for (x, (pixel, &mask)) in row.chunks_exact_mut(4).zip(mask).enumerate() {
                if mask == 0 {
                    continue;
                }
                let arrives = coverage.map_or(1.0, |coverage| coverage.at(x, y).clamp(0.0, 1.0));
                let alpha = f32::from(mask) / 255.0 * ink.opacity * arrives;
                for (channel, value) in pixel.iter_mut().zip(ink.rgb) {
                    let from = f32::from(*channel);
                    *channel = (from + (f32::from(value) - from) * alpha + 0.5) as u8;
                }
            }
        }
    }

    /// Changes each pixel by a texture of the size of the sheet, times `strength` for each channel in grey steps.
    pub fn tint(&mut self, texture: &Texture, strength: [f32; 3]) {
        let width = self.pixmap.width() as usize;
        for (y, row) in self.pixmap.data_mut().chunks_exact_mut(width * 4).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(4).enumerate() {
                let value = texture.at(x, y);
                for (channel, strength) in pixel.iter_mut().zip(strength) {
                    *channel = (f32::from(*channel) + value * strength + 0.5).clamp(0.0, 255.0) as u8;
                }
            }
        }
    }

    /// Size in pixels.
    pub fn size_px(&self) -> [usize; 2] {
        [self.pixmap.width() as usize, self.pixmap.height() as usize]
    }

    /// Lays a picture over a rectangle (left, top, width, height), its pixels averaged or repeated as needed; `opacity` 0..=1.
    pub fn picture(&mut self, picture: &Image, [x, y, width, height]: [f32; 4], opacity: f32) {
        use crate::imaging::warp::{Affine, Sampling, warp};
        let [left, top, columns, rows] =
            [x, y, width, height].map(|part| (part * self.px_per_mm).round().max(0.0) as u32);
        if picture.width == 0 || picture.height == 0 || columns == 0 || rows == 0 {
            return;
        }
        let [sx, sy] = [f64::from(picture.width) / f64::from(columns), f64::from(picture.height) / f64::from(rows)];
        let map = Affine { m: [[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5]] };
        let scaled = warp(picture, &map, [columns, rows], Sampling::Area);
        let (sheet, sheet_rows) = (self.pixmap.width() as usize, self.pixmap.height() as usize);
        let data = self.pixmap.data_mut();
        for (row, line) in scaled.rgb.chunks_exact(columns as usize * 3).enumerate() {
            let y = top as usize + row;
            for (column, rgb) in line.chunks_exact(3).enumerate() {
                let x = left as usize + column;
                if x >= sheet || y >= sheet_rows {
                    continue;
                }
                for (channel, &value) in data[(y * sheet + x) * 4..][..3].iter_mut().zip(rgb) {
                    let from = f32::from(*channel);
                    *channel = (from + (f32::from(value) - from) * opacity + 0.5) as u8;
                }
            }
        }
    }

    pub fn into_image(self) -> Image {
        let (width, height) = (self.pixmap.width(), self.pixmap.height());
        Image::build(width, height, |rgb| {
            for (to, from) in rgb.chunks_exact_mut(3).zip(self.pixmap.data().chunks_exact(4)) {
                to.copy_from_slice(&from[..3]);
            }
        })
    }
}
