//! Where a page and the lines of its machine-readable zone lie, seen in a small picture by the project's own network (`models/locator`).
//!
//! Called by `pipeline` and by [`mrz_reader`](super::mrz_reader); [`locate`](super::locate) fits what was seen to the full picture. The network says of each cell of the picture which point of the
//! page it shows; `perspective` makes corners of that, upright, also of those outside of the picture. On a finer map it marks the border
//! of the page and the lines; `zone_lines` makes [`TextLine`]s of these. Left out: reading, several pages in one picture, bent pages.

mod perspective;
mod zone_lines;

use std::sync::Arc;

use super::locate::Quad;
use super::ocr::TextLine;
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::resize::{Letterbox, letterbox};
use crate::imaging::tensor::to_tensor;
use crate::imaging::warp::{Affine, Perspective, Sampling, warp};
use crate::inference::{ModelPort, RequestContext, Tensor, output};

/// Sides of the input are multiples of this.
const CANVAS_MULTIPLE_PX: u32 = 32;

/// Pixels of the canvas to a cell of the map of the page, and to one of the fine maps.
const CELL_PX: f64 = 4.0;
const FINE_CELL_PX: f64 = 2.0;

/// Long side of the pictures that the network was trained on.
pub const LONG_SIDE_PX: u32 = 320;

/// Longest side that is looked at: what a hostile caller can cost is 16 times a run at 320.
const MAX_LONG_SIDE_PX: u32 = 1280;

/// Around a page that is looked at again, as a share of its sides: what the first look may be wrong by, and something of what the page lies on.
pub const MARGIN: f64 = 0.1;

/// How far a second look may move a corner, as a share of the diagonal. What moves further is another thing, such as a part of the page.
const MAX_CORRECTION: f64 = 0.12;

/// Confidence from which a page is taken for the document. Of 500 generated photographs none had less; of pictures of real cards laid over photographs
/// 22 of 29 between 0.4 and 0.5 had all corners within 1.5 % of the diagonal, which edges alone had of 27.
const MIN_CONFIDENCE: f64 = 0.5;

/// The locator.
#[derive(Clone)]
pub struct PageLocator {
    port: ModelPort,
}

/// What the network saw.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PageView {
    pub page: Option<SeenPage>,
    /// Lines of a machine-readable zone, from top to bottom of the picture; each runs as the page does, if one was seen.
    pub lines: Vec<TextLine>,
}

/// A page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeenPage {
    /// Corners clockwise from the page's own top left, in pixel areas of the picture; they may lie outside of it.
    pub quad: Quad,
    /// How well the places of the cells agree with each other, 0..1: the mean probability of the cells, less what is off.
    pub confidence: f64,
    /// Side of a pixel of what the network was given, in pixels of the picture: what the corners are exact to, about.
    pub pixel_px: f64,
}

impl SeenPage {
    /// Whether it is taken for the document.
    pub fn is_sure(&self) -> bool {
        self.confidence >= MIN_CONFIDENCE
    }

    /// How much of the page's width a part of it takes, from its left side to its right one. `None` if it lies beyond the page's horizon.
    pub fn share_of_width(&self, part: &Quad) -> Option<f64> {
        let to_page = Perspective::from_rectangle([1.0, 1.0], &self.quad)?.invert()?;
        let [a, b, c, d] = part.map(|corner| to_page.apply(corner)[0]);
        let share = ((b + c) - (a + d)).abs() / 2.0;
        share.is_finite().then_some(share)
    }

    /// The page as it lies in another picture.
    fn mapped(self, map: impl Fn([f64; 2]) -> [f64; 2]) -> Self {
        let quad = self.quad.map(map);
        let scale = distance(quad[0], quad[2]) / distance(self.quad[0], self.quad[2]).max(f64::MIN_POSITIVE);
        Self { quad, pixel_px: self.pixel_px * scale, ..self }
    }
}

impl PageLocator {
    pub fn new(port: ModelPort) -> Self {
        Self { port }
    }

    /// Looks at a picture that is scaled so that its long side has `long_side_px` pixels (at most 1280). Larger pictures than
    /// [`LONG_SIDE_PX`] show smaller lines, but less of a large page at once.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn look(&self, image: &Image, long_side_px: u32, context: &Arc<RequestContext>) -> Result<PageView, Error> {
        let fitted = letterbox(image, long_side_px.clamp(CANVAS_MULTIPLE_PX, MAX_LONG_SIDE_PX), CANVAS_MULTIPLE_PX);
        let (page, mut lines) = self.run(&fitted, context)?;
        if let Some(page) = &page {
            // The text runs as its page does.
            let [a, b, ..] = page.quad;
            for line in &mut lines {
                let [from, to, ..] = line.quad;
                if (to[0] - from[0]) * (b[0] - a[0]) + (to[1] - from[1]) * (b[1] - a[1]) < 0.0 {
                    *line = line.turned();
                }
            }
        }
        for line in &mut lines {
            line.quad = line.quad.map(|corner| fitted.to_picture(corner));
        }
        Ok(PageView { page: page.map(|page| page.mapped(|corner| fitted.to_picture(corner))), lines })
    }

    /// Looks once more at a page that was seen, brought upright and as large as it can be: its corners are told better then. The page as it was
    /// if it does not look like one any more.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn look_again(&self, image: &Image, seen: &SeenPage, context: &Arc<RequestContext>) -> Result<SeenPage, Error> {
        let Some((crop, to_picture)) = upright(image, &seen.quad) else { return Ok(*seen) };
        let fitted = letterbox(&crop, LONG_SIDE_PX, CANVAS_MULTIPLE_PX);
        let (page, _) = self.run(&fitted, context)?;
        let again = page.map(|page| page.mapped(|corner| to_picture.apply(fitted.to_picture(corner))));
        let diagonal = distance(seen.quad[0], seen.quad[2]);
        let is_same = |again: &SeenPage| {
            let is_near = again.quad.iter().zip(&seen.quad).all(|(a, b)| distance(*a, *b) <= MAX_CORRECTION * diagonal);
            is_near && (again.is_sure() || !seen.is_sure())
        };
        Ok(again.filter(is_same).unwrap_or(*seen))
    }

    /// What the network says of a canvas, in its pixels.
    fn run(
        &self,
        fitted: &Letterbox,
        context: &Arc<RequestContext>,
    ) -> Result<(Option<SeenPage>, Vec<TextLine>), Error> {
        let outputs = self.port.model.run(to_tensor(&fitted.canvas, &self.port.input), context)?;
        let canvas = [fitted.canvas.width as usize, fitted.canvas.height as usize];
        let content = [fitted.content_width, fitted.content_height].map(f64::from);
        let map = |name: &str, channels: usize, cell_px: f64| {
            Maps::new(output(&outputs, name)?, channels, canvas, content, cell_px)
        };
        let (page, fine) = (map("page", 3, CELL_PX)?, map("fine", 2, FINE_CELL_PX)?);
        Ok((perspective::page(&page, &fine), zone_lines::lines(&fine)))
    }
}

/// A page cut out upright with a margin around it, as large as the network takes it, and the map from there to the picture, in pixel areas.
fn upright(image: &Image, quad: &Quad) -> Option<(Image, Perspective)> {
    let side = |a: usize, b: usize| distance(quad[a], quad[b]);
    let page = [(side(0, 1) + side(3, 2)) / 2.0, (side(0, 3) + side(1, 2)) / 2.0];
    let scale = f64::from(LONG_SIDE_PX) / (page[0].max(page[1]) * (1.0 + 2.0 * MARGIN));
    let [width, height] = page.map(|side| side * scale);
    let [right, down] = [width * MARGIN, height * MARGIN];
    let shift = Affine { m: [[1.0, 0.0, -right], [0.0, 1.0, -down]] };
    let to_picture = Perspective::from_rectangle([width, height], quad)?.between(&shift, &Affine::IDENTITY);
    let size = [width + 2.0 * right, height + 2.0 * down].map(|side| side.round() as u32);
    let is_possible =
        size.iter().all(|side| (1..=LONG_SIDE_PX + 1).contains(side)) && image.width.min(image.height) > 0;
    is_possible.then(|| (warp(image, &to_picture.in_pixel_centres(), size, Sampling::Area), to_picture))
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Maps of one output, of which the part that shows the picture counts.
struct Maps<'a> {
    planes: Vec<&'a [f32]>,
    /// Of a whole plane.
    width: usize,
    /// Of the part that shows the picture.
    columns: usize,
    rows: usize,
    cell_px: f64,
}

impl<'a> Maps<'a> {
    fn new(
        tensor: &'a Tensor,
        channels: usize,
        canvas: [usize; 2],
        content: [f64; 2],
        cell_px: f64,
    ) -> Result<Self, Error> {
        let [width, height] = canvas.map(|side| side / cell_px as usize);
        if tensor.shape != [channels, height, width] || tensor.data.len() != channels * height * width {
            return Err(Error::internal(format!("page locator output of shape {:?}", tensor.shape)));
        }
        if tensor.data.iter().any(|value| !value.is_finite()) {
            return Err(Error::internal("the page locator gave no probabilities"));
        }
        let [columns, rows] = content.map(|side| (side / cell_px).ceil() as usize);
        let planes = tensor.data.chunks_exact(height * width).collect();
        Ok(Self { planes, width, columns: columns.min(width), rows: rows.min(height), cell_px })
    }

    /// The middle of a cell on the canvas.
    fn centre(&self, column: usize, row: usize) -> [f64; 2] {
        [(column as f64 + 0.5) * self.cell_px, (row as f64 + 0.5) * self.cell_px]
    }

    /// A plane's value at a point of the canvas, bilinear, the border repeated.
    fn read(&self, plane: usize, [x, y]: [f64; 2]) -> f64 {
        let clamp = |value: f64, count: usize| (value / self.cell_px - 0.5).clamp(0.0, count.max(1) as f64 - 1.0);
        let (x, y) = (clamp(x, self.columns), clamp(y, self.rows));
        let (x0, y0) = (x as usize, y as usize);
        let (x1, y1) = ((x0 + 1).min(self.columns.max(1) - 1), (y0 + 1).min(self.rows.max(1) - 1));
        let (tx, ty) = (x - x0 as f64, y - y0 as f64);
        let at = |x: usize, y: usize| f64::from(self.planes[plane][y * self.width + x]);
        (at(x0, y0) * (1.0 - tx) + at(x1, y0) * tx) * (1.0 - ty) + (at(x0, y1) * (1.0 - tx) + at(x1, y1) * tx) * ty
    }
}

#[cfg(test)]
mod tests {
    use super::perspective::tests::{TILTED, seen};
    use super::*;
    use crate::document::ocr::fake;
    use crate::inference::Outputs;
    use crate::models::manifest::Role;

    /// Both outputs for a canvas, from their planes.
    fn outputs([width, height]: [usize; 2], (page, fine): (Vec<Vec<f32>>, Vec<Vec<f32>>)) -> Outputs {
        let tensor = |planes: Vec<Vec<f32>>, cell: usize| Tensor {
            shape: [planes.len(), height / cell, width / cell].into(),
            data: planes.concat(),
        };
        vec![("page".into(), tensor(page, 4)), ("fine".into(), tensor(fine, 2))]
    }

    fn nothing([width, height]: [usize; 2]) -> Outputs {
        let planes = |count: usize, cell: usize| vec![vec![0.0; width / cell * height / cell]; count];
        outputs([width, height], (planes(3, 4), planes(2, 2)))
    }

    fn locator([width, height]: [usize; 2], outputs: Outputs) -> PageLocator {
        PageLocator::new(fake::port(Role::PageLocator, [3, height, width], outputs))
    }

    fn even(width: u32, height: u32) -> Image {
        Image::build(width, height, |rgb| rgb.fill(90))
    }

    fn off(a: &Quad, b: &Quad) -> f64 {
        a.iter().zip(b).map(|(a, b)| distance(*a, *b)).fold(0.0, f64::max)
    }

    #[test]
    fn a_page_is_told_in_the_pixels_of_the_picture() {
        let locator = locator([320, 192], outputs([320, 192], seen(&TILTED, 0.0, |_| true)));
        let view = locator.look(&even(1280, 768), LONG_SIDE_PX, &Arc::default()).unwrap();
        let page = view.page.unwrap();
        assert!(off(&page.quad, &TILTED.map(|corner| corner.map(|value| 4.0 * value))) < 2.0, "{page:?}");
        assert!((page.pixel_px - 4.0).abs() < 0.01 && page.is_sure() && view.lines.is_empty(), "{page:?}");
    }

    #[test]
    fn what_the_network_must_not_say_is_an_internal_error() {
        let good = outputs([320, 192], seen(&TILTED, 0.0, |_| true));
        let mut not_finite = good.clone();
        not_finite[1].1.data = vec![f32::NAN; 2 * 160 * 96];
        let mut too_small = good.clone();
        too_small[0].1 = good[1].1.clone();
        for outputs in [not_finite, too_small, good[..1].to_vec(), nothing([320, 224])] {
            let refused = locator([320, 192], outputs).look(&even(640, 384), LONG_SIDE_PX, &Arc::default());
            assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
        }
    }

    #[test]
    fn pictures_of_any_shape_and_size_can_be_looked_at() {
        for ([width, height], canvas, long_side_px) in [
            ([1, 1], [320, 320], LONG_SIDE_PX),
            ([3000, 1], [320, 32], LONG_SIDE_PX),
            ([1, 3000], [32, 320], LONG_SIDE_PX),
            ([9, 9], [1280, 1280], u32::MAX),
            ([9, 9], [32, 32], 0),
        ] {
            let seen = locator(canvas, nothing(canvas)).look(&even(width, height), long_side_px, &Arc::default());
            assert_eq!(seen.unwrap(), PageView::default(), "{width} × {height}");
        }
    }

    #[test]
    fn a_second_look_moves_the_corners_but_not_to_another_thing() {
        let seen_first = SeenPage {
            quad: [[145.0, 92.0], [495.0, 92.0], [495.0, 292.0], [145.0, 292.0]],
            confidence: 0.7,
            pixel_px: 2.0,
        };
        // Where it lies in what is cut out, at 320 pixels for 1.2 times its width.
        let scale = 320.0 / (1.2 * 350.0);
        let cut_out = |corner: [f64; 2], shift: f64| {
            [scale * (corner[0] - 145.0 + 35.0) + shift, scale * (corner[1] - 92.0 + 20.0)]
        };
        let look = |outputs: Outputs| {
            locator([320, 192], outputs).look_again(&even(640, 384), &seen_first, &Arc::default()).unwrap()
        };
        let shifted = |shift: f64| {
            let quad = seen_first.quad.map(|corner| cut_out(corner, shift));
            look(outputs([320, 192], seen(&quad, 0.0, |_| false)))
        };
        let moved = shifted(6.0);
        let expected = seen_first.quad.map(|[x, y]| [x + 6.0 / scale, y]);
        assert!(off(&moved.quad, &expected) < 1.0, "{moved:?}");
        assert!((moved.pixel_px - 1.0 / scale).abs() < 0.02 && moved.confidence > 0.9, "{moved:?}");
        assert_eq!(shifted(50.0), seen_first);
        assert_eq!(look(nothing([320, 192])), seen_first);
        // One that is less sure than a page must be does not take the place of one that is.
        let quad = seen_first.quad.map(|corner| cut_out(corner, 6.0));
        let unsure = seen(&quad, 0.1, |_| false);
        let told = locator([320, 192], outputs([320, 192], unsure.clone()));
        let view = told.look(&even(640, 384), LONG_SIDE_PX, &Arc::default()).unwrap();
        assert!(view.page.is_some_and(|page| !page.is_sure()), "{view:?}");
        assert_eq!(look(outputs([320, 192], unsure)), seen_first);
        // A quadrilateral without an area cannot be cut out, and is not looked at.
        let flat = SeenPage { quad: [[5.0, 5.0]; 4], ..seen_first };
        let none = locator([320, 192], nothing([320, 192]));
        assert_eq!(none.look_again(&even(640, 384), &flat, &Arc::default()).unwrap(), flat);
    }

    #[test]
    fn a_part_takes_its_share_of_the_width_in_every_direction() {
        for turn in 0..4 {
            let quad: Quad = std::array::from_fn(|corner| TILTED[(corner + turn) % 4]);
            let page = SeenPage { quad, confidence: 0.9, pixel_px: 1.0 };
            let map = Perspective::from_rectangle([1.0, 1.0], &quad).unwrap();
            let zone = [[0.05, 0.8], [0.8, 0.8], [0.8, 0.9], [0.05, 0.9]].map(|place| map.apply(place));
            assert!((page.share_of_width(&zone).unwrap() - 0.75).abs() < 1e-9, "{turn}");
            let turned: Quad = std::array::from_fn(|corner| zone[(corner + 2) % 4]);
            assert!((page.share_of_width(&turned).unwrap() - 0.75).abs() < 1e-9, "{turn}");
            assert_eq!(page.share_of_width(&[[f64::NAN; 2]; 4]), None);
        }
    }
}
