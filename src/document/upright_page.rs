//! A page brought upright out of a photograph, once it is known where it lies.
//!
//! Used by [`text_reader`](super::text_reader) for lines of text and by `pipeline` for the portrait: both models know text and faces that stand
//! upright. Left out: finding the page ([`locate`](super::locate)).

use super::ocr::{Quad, TextLine};
use crate::imaging::Image;
use crate::imaging::warp::{Perspective, Sampling, warp};

/// A part of a picture that shows a page upright.
#[derive(Debug, Clone)]
pub struct UprightPage {
    pub image: Image,
    /// Its corners in pixel areas of the picture, clockwise from the page's top left.
    pub quad: Quad,
    to_picture: Perspective,
}

impl UprightPage {
    /// The part inside `quad` (clockwise, any corner first), turned so that `along`, a direction in the picture, points to the right as
    /// far as quarter turns can bring it there, and made small enough that no side is longer than `max_side_px`. `None` for a quadrilateral that
    /// is not convex or has no area.
    pub fn cut(image: &Image, quad: &Quad, along: [f64; 2], max_side_px: f64) -> Option<Self> {
        let first = (0..4).max_by(|&a, &b| {
            let agreement = |corner: usize| {
                let [from, to] = [quad[corner], quad[(corner + 1) % 4]];
                let side = [to[0] - from[0], to[1] - from[1]];
                (side[0] * along[0] + side[1] * along[1]) / side[0].hypot(side[1]).max(f64::MIN_POSITIVE)
            };
            agreement(a).total_cmp(&agreement(b))
        })?;
        let quad: Quad = std::array::from_fn(|corner| quad[(first + corner) % 4]);
        let side = |a: usize, b: usize| (quad[b][0] - quad[a][0]).hypot(quad[b][1] - quad[a][1]);
        // As many pixels as the longer of two opposite sides holds.
        let (width, height) = (side(0, 1).max(side(3, 2)), side(1, 2).max(side(0, 3)));
        let shrink = (max_side_px / width.max(height)).min(1.0);
        let size = [width, height].map(|side| (side * shrink).round());
        let to_picture = Perspective::from_rectangle(size, &quad)?;
        let [width, height] = size.map(|side| side as u32);
        if width == 0 || height == 0 || image.width == 0 || image.height == 0 {
            return None;
        }
        if quad == whole(image) && [width, height] == [image.width, image.height] {
            return Some(Self { image: image.clone(), quad, to_picture });
        }
        Some(Self {
            image: warp(image, &to_picture.in_pixel_centres(), [width, height], Sampling::Area),
            quad,
            to_picture,
        })
    }

    /// A point of the page in the picture, both in pixel areas.
    pub fn to_picture(&self, point: [f64; 2]) -> [f64; 2] {
        self.to_picture.apply(point)
    }

    /// A line of text of the page in the picture.
    pub fn line_to_picture(&self, line: &TextLine) -> TextLine {
        TextLine { quad: line.quad.map(|corner| self.to_picture(corner)), ..*line }
    }
}

/// The corners of a picture, clockwise from the top left.
pub fn whole(image: &Image) -> Quad {
    let (width, height) = (f64::from(image.width), f64::from(image.height));
    [[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_page_is_cut_so_that_its_text_runs_to_the_right() {
        // Four quarters of different brightness; the text runs upwards in the picture.
        let image = Image::build(200, 100, |rgb| {
            for (at, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                let (right, low) = (at % 200 >= 100, at / 200 >= 50);
                pixel.fill(40 + 50 * u8::from(right) + 100 * u8::from(low));
            }
        });
        let quad = whole(&image);
        let page = UprightPage::cut(&image, &quad, [0.1, -1.0], 960.0).unwrap();
        assert_eq!((page.image.width, page.image.height), (100, 200));
        // Upwards is to the right: the top left of the page is the bottom left of the picture.
        assert_eq!(page.quad[0], [0.0, 100.0]);
        let at = |x: f64, y: f64| page.to_picture([x, y]).map(f64::round);
        assert_eq!((at(0.0, 0.0), at(100.0, 0.0), at(100.0, 200.0)), ([0.0, 100.0], [0.0, 0.0], [200.0, 0.0]));
        let pixel = |x: usize, y: usize| page.image.rgb[3 * (y * 100 + x)];
        assert_eq!([pixel(10, 10), pixel(90, 10), pixel(10, 190), pixel(90, 190)], [140, 40, 190, 90]);
        assert!(UprightPage::cut(&image, &[[0.0, 0.0]; 4], [1.0, 0.0], 960.0).is_none());
    }

    #[test]
    fn an_upright_picture_is_its_own_page() {
        let image = Image::build(64, 32, |rgb| rgb.fill(7));
        let page = UprightPage::cut(&image, &whole(&image), [1.0, 0.0], 960.0).unwrap();
        assert!(Arc::ptr_eq(&page.image.rgb, &image.rgb));
    }
}
