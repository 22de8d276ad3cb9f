//! A walk over a page's drawing operators without drawing.
//!
//! Called by the module above before it draws. It finds the picture that the page consists of, if it does, and adds up what
//! drawing would cost, following forms, patterns, masks and glyphs as the renderer does. At every operator it asks for the
//! deadline. It can stop the renderer's interpreter only by unwinding; the payload is the [`PdfError`], and no panic hook runs.
//!
//! The limits were set by rendering: on one core of a 2020s server a page that just keeps each of them takes a few seconds.

use std::collections::{HashMap, HashSet};
use std::panic::resume_unwind;

use hayro::hayro_interpret::font::{Glyph, GlyphRun};
use hayro::hayro_interpret::hayro_syntax::object::Stream;
use hayro::hayro_interpret::pattern::{Pattern, TilingPattern};
use hayro::hayro_interpret::shading::ShadingType;
use hayro::hayro_interpret::util::x_y_advances;
use hayro::hayro_interpret::{
    BlendMode, CacheKey, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps, InterpreterCache,
    InterpreterSettings, Paint, SoftMask, TransformExt, interpret_page,
};
use hayro::hayro_syntax::page::Page;
use hayro::kurbo::{Affine, BezPath, PathEl, Point, Rect, Shape, Stroke};

use super::{Deadline, PdfError, PdfLimit, PdfOptions, streams};

/// Calls of the device: paths, clips, groups, pictures, glyphs. A dense page of text has 10 000 glyphs, a detailed map 200 000
/// paths.
const MAX_OPERATIONS: u64 = 300_000;

/// Elements of all paths, those of glyphs included.
const MAX_ELEMENTS: u64 = 5_000_000;

/// Tiles of 4 × 4 pixels that all outlines pass through; each takes memory in the renderer until the page is done.
const MAX_EDGE_TILES: f64 = 20_000_000.0;

/// Pixels painted with paths and pictures, in pages of the largest allowed size.
const MAX_PAINTED_PAGES: f64 = 30.0;

/// Layers as large as the page: transparency groups and soft masks that hold something.
const MAX_LAYERS: u64 = 2_000;

/// Masks that are drawn in memory of their own, each as large as the page and kept until the page is done.
const MAX_SOFT_MASKS: usize = 8;

/// Copies of a pattern's cell that are drawn one by one.
const MAX_PATTERN_COPIES: f64 = 1_000.0;

/// A picture on the page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Picture {
    /// Share of the page's area that it covers, 0..=1.
    pub page_share: f64,
    /// Its pixels per point along the page's horizontal and vertical axis.
    pub density: (f64, f64),
}

/// What was found.
pub(super) struct Survey {
    /// The picture that covers most of the page.
    pub main_picture: Option<Picture>,
    painted_pt2: f64,
    outline_pt: f64,
    max_pixels: u64,
}

impl Survey {
    /// # Errors
    /// [`PdfError::TooLarge`] if drawing at this many pixels per point would cost too much.
    pub(super) fn check_cost(&self, (scale_x, scale_y): (f64, f64)) -> Result<(), PdfError> {
        let painted = self.painted_pt2 * scale_x * scale_y;
        let tiles = self.outline_pt * scale_x.max(scale_y) / 4.0;
        // Written so that a sum that is not a number is refused.
        if painted <= MAX_PAINTED_PAGES * self.max_pixels as f64 && tiles <= MAX_EDGE_TILES {
            Ok(())
        } else {
            Err(too_much(MAX_EDGE_TILES as u64))
        }
    }
}

/// Walks the page.
///
/// # Errors
/// [`PdfError::TooLarge`] as soon as a limit is passed.
///
/// # Panics
/// Unwinds with a [`PdfError`] as payload where the interpreter must be stopped.
pub(super) fn run(page: &Page<'_>, options: &PdfOptions, deadline: Deadline<'_>) -> Result<Survey, PdfError> {
    let (width, height) = page.render_dimensions();
    let target = Rect::new(0.0, 0.0, width.into(), height.into());
    let transform = page.initial_transform(true).to_kurbo();
    let cache = InterpreterCache::new();
    let mut context = Context::new(transform, target, &cache, page.xref(), InterpreterSettings::default());
    let mut surveyor = Surveyor {
        options,
        deadline,
        page: target,
        weight: 1,
        operations: 0,
        elements: 0,
        layers: 0,
        picture_pixels: 0,
        outline_pt: 0.0,
        painted_pt2: 0.0,
        main_picture: None,
        soft_masks: HashSet::new(),
        glyphs: HashMap::new(),
    };
    interpret_page(page, &mut context, &mut surveyor);
    Ok(Survey {
        main_picture: surveyor.main_picture,
        painted_pt2: surveyor.painted_pt2,
        outline_pt: surveyor.outline_pt,
        max_pixels: options.max_pixels,
    })
}

struct Surveyor<'o> {
    options: &'o PdfOptions,
    deadline: Deadline<'o>,
    page: Rect,
    /// How often what is now walked would be drawn.
    weight: u64,
    operations: u64,
    elements: u64,
    layers: u64,
    picture_pixels: u64,
    outline_pt: f64,
    painted_pt2: f64,
    main_picture: Option<Picture>,
    soft_masks: HashSet<u128>,
    /// Elements and control-polygon length of a glyph's outline, by its key.
    glyphs: HashMap<u128, (u64, f64)>,
}

impl Surveyor<'_> {
    fn operation(&mut self, count: u64) {
        self.operations = self.operations.saturating_add(count.saturating_mul(self.weight));
        if self.operations > MAX_OPERATIONS {
            stop(too_much(MAX_OPERATIONS));
        }
        if (self.deadline)() {
            stop(PdfError::DeadlineExceeded);
        }
    }

    fn elements(&mut self, count: u64) {
        self.elements = self.elements.saturating_add(count.saturating_mul(self.weight));
        if self.elements > MAX_ELEMENTS {
            stop(too_much(MAX_ELEMENTS));
        }
    }

    fn area(&mut self, bounds: Rect) {
        self.painted_pt2 += bounds.intersect(self.page).area() * self.weight as f64;
    }

    /// An outline in page coordinates.
    fn outline(&mut self, path: &BezPath, transform: Affine) {
        self.elements(path.elements().len() as u64);
        // Longer lines leave the page and cost nothing there.
        let longest = 2.0 * (self.page.width() + self.page.height());
        let mut length = 0.0;
        let mut last = Point::ZERO;
        for element in path.elements() {
            let mut line = |to: Point| {
                let to = transform * to;
                length += last.distance(to).min(longest);
                last = to;
            };
            match *element {
                PathEl::MoveTo(to) => last = transform * to,
                PathEl::LineTo(to) => line(to),
                PathEl::QuadTo(a, to) => {
                    line(a);
                    line(to);
                }
                PathEl::CurveTo(a, b, to) => {
                    line(a);
                    line(b);
                    line(to);
                }
                PathEl::ClosePath => {}
            }
        }
        if !length.is_finite() {
            stop(PdfError::Damaged);
        }
        self.outline_pt += length * self.weight as f64;
    }

    fn stroke(&mut self, path: &BezPath, transform: Affine, dashes: &[f32], width: f64) {
        let period: f64 = dashes.iter().map(|dash| f64::from(dash.abs())).sum();
        if !dashes.is_empty() {
            // The renderer cuts the whole line into dashes, also where it lies outside of the page.
            let count = path.perimeter(1.0) / period.max(f64::MIN_POSITIVE) * dashes.len() as f64;
            if !count.is_finite() || count > MAX_ELEMENTS as f64 {
                stop(too_much(MAX_ELEMENTS));
            }
            self.elements(count as u64 * 4);
        }
        // Both sides of the line.
        self.outline(path, transform);
        self.outline(path, transform);
        let reach = Stroke::new(width).width;
        self.area(transform.transform_rect_bbox(path.control_box().inflate(reach, reach)));
    }

    fn paint<'a>(&mut self, paint: &Paint<'a>, bounds: Rect, is_stroke: bool)
    where
        Self: Device<'a>,
    {
        let Paint::Pattern(pattern) = paint else { return };
        match &**pattern {
            Pattern::Shading(shading) => match &*shading.shading.shading_type {
                // Evaluated at each pixel, which costs more than paint of one colour.
                ShadingType::FunctionBased { .. } | ShadingType::RadialAxial { .. } => {
                    self.weight = self.weight.saturating_mul(8);
                    self.area(bounds);
                    self.weight /= 8;
                }
                // The renderer fills tables of a mesh's whole extent. No scanned document has one.
                ShadingType::TriangleMesh { .. }
                | ShadingType::CoonsPatchMesh { .. }
                | ShadingType::TensorProductPatchMesh { .. } => stop(too_much(0)),
                ShadingType::Dummy => {}
            },
            Pattern::Tiling(tiling) => self.tiling(tiling, bounds, is_stroke),
        }
    }

    fn tiling<'a>(&mut self, tiling: &TilingPattern<'a>, bounds: Rect, is_stroke: bool)
    where
        Self: Device<'a>,
    {
        let area = tiling.matrix.inverse().transform_rect_bbox(bounds.intersect(self.page));
        let (x_advance, y_advance) = x_y_advances(&tiling.matrix);
        let copies = |cell: f64, visible: f64, step: f32| {
            let step = f64::from(step.abs());
            if visible >= step { (cell / step).ceil() } else { ((visible + cell) / step).ceil() + 1.0 }
        };
        let copies = copies(tiling.bbox.width(), area.width(), tiling.x_step)
            * copies(tiling.bbox.height(), area.height(), tiling.y_step);
        // The cell is drawn once into a picture of its own.
        let cell = tiling.bbox.width().min(area.width())
            * x_advance.length()
            * tiling.bbox.height().min(area.height())
            * y_advance.length();
        if !(copies <= MAX_PATTERN_COPIES && cell <= 4.0 * self.page.area()) {
            stop(too_much(MAX_PATTERN_COPIES as u64));
        }
        self.painted_pt2 += 2.0 * cell * self.weight as f64;
        let weight = self.weight;
        self.weight = weight.saturating_mul(copies.max(1.0) as u64);
        self.operation(1);
        let _ = tiling.interpret(self, tiling.matrix, is_stroke);
        self.weight = weight;
    }

    fn soft_mask<'a>(&mut self, mask: Option<&SoftMask<'a>>)
    where
        Self: Device<'a>,
    {
        let Some(mask) = mask else { return };
        self.layer();
        if self.soft_masks.insert(mask.cache_key()) {
            if self.soft_masks.len() > MAX_SOFT_MASKS {
                stop(too_much(MAX_SOFT_MASKS as u64));
            }
            mask.interpret(self);
        }
    }

    /// How much more a pixel costs under a mask.
    fn mask_factor(mask: Option<&SoftMask<'_>>) -> u64 {
        if mask.is_some() { 4 } else { 1 }
    }

    fn layer(&mut self) {
        self.layers = self.layers.saturating_add(self.weight);
        if self.layers > MAX_LAYERS {
            stop(too_much(MAX_LAYERS));
        }
    }

    fn picture_stream(&mut self, stream: &Stream<'_>) {
        if let Err(error) = streams::check_stream(stream, self.options, self.deadline) {
            stop(error);
        }
        for mask in [&b"SMask"[..], b"Mask"] {
            if let Some(mask) = stream.dict().get::<Stream<'_>>(mask)
                && let Err(error) = streams::check_stream(&mask, self.options, self.deadline)
            {
                stop(error);
            }
        }
    }
}

impl<'a> Device<'a> for Surveyor<'_> {
    fn draw_path(&mut self, path: &BezPath, props: DrawProps<'a>, draw_mode: &DrawMode) {
        self.operation(1);
        self.soft_mask(props.soft_mask.as_ref());
        let bounds = props.transform.transform_rect_bbox(path.control_box());
        let (is_filled, stroke) = match draw_mode {
            DrawMode::Fill(_) => (true, None),
            DrawMode::Stroke(stroke) => (false, Some(stroke)),
            DrawMode::FillAndStroke(_, stroke) => (true, Some(stroke)),
            DrawMode::Invisible => (false, None),
        };
        if is_filled {
            self.outline(path, props.transform);
            for _ in 0..Self::mask_factor(props.soft_mask.as_ref()) {
                self.area(bounds);
            }
            self.paint(&props.paint, bounds, false);
        }
        if let Some(stroke) = stroke {
            self.stroke(path, props.transform, &stroke.dash_array, stroke.line_width.into());
            let reach = f64::from(stroke.line_width);
            let bounds = props.transform.transform_rect_bbox(path.control_box().inflate(reach, reach));
            self.paint(&props.paint, bounds, true);
        }
    }

    fn push_clip_path(&mut self, clip_path: &ClipPath) {
        self.operation(1);
        self.outline(&clip_path.path, Affine::IDENTITY);
    }

    fn push_transparency_group(&mut self, _opacity: f32, mask: Option<SoftMask<'a>>, _blend_mode: BlendMode) {
        self.operation(1);
        self.layer();
        self.soft_mask(mask.as_ref());
    }

    fn draw_glyph_run(&mut self, glyph_run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, draw_mode: &DrawMode) {
        self.soft_mask(props.soft_mask.as_ref());
        for positioned in glyph_run.glyphs() {
            self.operation(1);
            let transform = props.transform * positioned.transform();
            match &**positioned {
                Glyph::Outline(glyph) => {
                    let (count, length) = *self.glyphs.entry(glyph.identifier().cache_key()).or_insert_with(|| {
                        let outline = glyph.outline();
                        (
                            outline.elements().len() as u64,
                            outline.control_box().width() + outline.control_box().height(),
                        )
                    });
                    self.elements(count);
                    let (x, y) = x_y_advances(&transform);
                    let longest = 2.0 * (self.page.width() + self.page.height());
                    let extent = (length * x.length().max(y.length())).min(longest);
                    self.outline_pt += 2.0 * extent * self.weight as f64;
                    let area = Rect::new(0.0, 0.0, extent / 2.0, extent / 2.0);
                    self.area(area);
                    self.paint(&props.paint, self.page, !matches!(draw_mode, DrawMode::Fill(_)));
                }
                Glyph::Type3(glyph) => glyph.interpret(self, props.transform, positioned.transform(), &props.paint),
            }
        }
    }

    fn draw_image(&mut self, image: Image<'a, '_>, props: ImageDrawProps<'a>) {
        self.operation(1);
        self.soft_mask(props.soft_mask.as_ref());
        let (width, height) = (f64::from(image.width()), f64::from(image.height()));
        match &image {
            Image::Raster(image) => self.picture_stream(image.stream()),
            Image::Stencil(image) => self.picture_stream(image.stream()),
        }
        // A picture is decoded each time that it is drawn.
        let pixels = (u64::from(image.width()) * u64::from(image.height())).saturating_mul(self.weight);
        self.picture_pixels = self.picture_pixels.saturating_add(pixels);
        let allowed = self.options.max_pixels.saturating_mul(2);
        if self.picture_pixels > allowed {
            stop(PdfError::TooLarge { limit: PdfLimit::Pixels, allowed });
        }
        let bounds = props.transform.transform_rect_bbox(Rect::new(0.0, 0.0, width, height));
        self.area(bounds);
        if let Image::Stencil(_) = image {
            self.layer();
        }
        let visible = bounds.intersect(self.page).area();
        let page_share = if self.page.area() > 0.0 { visible / self.page.area() } else { 0.0 };
        let (x, y) = x_y_advances(&props.transform);
        let density = (1.0 / x.length(), 1.0 / y.length());
        // A picture may lie on its side on a page that is itself turned.
        let density = if x.x.abs() >= x.y.abs() { density } else { (density.1, density.0) };
        let is_larger = self.main_picture.is_none_or(|main| page_share > main.page_share);
        if is_larger && page_share > 0.0 && density.0.is_finite() && density.1.is_finite() {
            self.main_picture = Some(Picture { page_share, density });
        }
    }

    fn pop_clip(&mut self) {}

    fn pop_transparency_group(&mut self) {}
}

fn too_much(allowed: u64) -> PdfError {
    PdfError::TooLarge { limit: PdfLimit::Drawing, allowed }
}

/// Ends the interpreter's walk.
fn stop(error: PdfError) -> ! {
    resume_unwind(Box::new(error))
}
