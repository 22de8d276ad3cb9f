//! Where an identity document lies in a photograph.
//!
//! Called by the reading of documents, before anything is rectified or read. The picture is made small, its edges are grown to
//! segments and gathered to lines (`edges`); four lines make a quadrilateral, judged by its sides, its shape and the colours
//! on both sides of its border (`quads`); the best one is fitted to the full picture (`refine`). A picture that is itself a
//! cropped document is answered with its border (`whole`).
//!
//! That is what is done where the project's own network ([`page_locator`](super::page_locator)), which finds more pages and knows which way is up, is not
//! sure of one; where it is less sure than usual, both must agree for the edges to be taken ([`locate`]). Left out: more than one document in a picture (the one with the clearest border is returned), and documents that are
//! bent.
//!
//! Sources: line segments by growing regions of one gradient direction, Grompone von Gioi et al., "LSD: a line segment
//! detector", Image Processing On Line 2 (2012); shape of a rectangle from its perspective image, Zhang and He, "Whiteboard
//! scanning and image enhancement", Digital Signal Processing 17 (2007); sizes, ISO/IEC 7810 (ID-1, ID-2, ID-3).

mod edges;
mod quads;
pub(super) mod refine;
mod whole;

pub use quads::{FEATURES, Features, Hypothesis};

use super::page_locator::SeenPage;
use crate::imaging::Image;
use crate::imaging::resize::resize;
use crate::imaging::warp::Perspective;

/// Four corners, clockwise as the picture is seen, in pixel areas (the centre of the first pixel is 0.5).
pub type Quad = [[f64; 2]; 4];

/// Long side of the small picture on which lines are looked for. A card that fills a quarter of it has sides of about 120 and
/// 75 pixels; a larger one costs time in proportion to its area and brings more texture than sides.
const WORK_LONG_SIDE_PX: u32 = 480;

/// Pictures with a shorter side than this hold no document that can be read.
const MIN_SIDE_PX: u32 = 64;

/// Longest side of what [`rectified_size`] asks for: at 2400 pixels a passport page has 19 pixels per millimetre, about 45 for a
/// character of the machine-readable zone, more than any reader needs.
const MAX_RECTIFIED_PX: f64 = 2400.0;

/// Confidence of a picture that is itself the document: what speaks for it is weaker than a border that was seen.
const WHOLE_PICTURE_CONFIDENCE: f64 = 0.5;

/// Confidence of the locator from which its corners are exact; below, edges that agree with them are taken. Of 500 generated photographs 485 were above,
/// 472 of them with all corners within 1 % of the diagonal (edges alone: 299). Of 50 pictures of real cards laid over photographs that were below, 42 were
/// within 1.5 %, by edges 47 (`cargo bench --bench locate -- photographs`, `-- accuracy`).
const EXACT_CONFIDENCE: f64 = 0.7;

/// How far edges may put a corner from where the locator saw it, as a share of the diagonal, to be the same document's.
const MAX_DISAGREEMENT: f64 = 0.08;

/// How far from a side that the locator saw an edge of the picture may take its place, over how far it may be from one found by edges: half as far, 1.5
/// pixels of what the locator was given. Given as much, a visa's side moves to that of the passport below it.
const SEEN_REACH: f64 = 0.5;

/// In a picture that looks like a whole document, a quadrilateral with less of it than this is a portrait, a chip or a block of print.
const PART_SHARE: f64 = 0.3;

/// With more, it is the document less a margin that the cropping left.
const TRIMMED_SHARE: f64 = 0.8;

/// What a document's shape says of its format. ID-2 (105 × 74 mm), ID-3 (125 × 88 mm) and an open passport (176 × 125 mm) have
/// sides in the same proportion within 1 %, so that no picture of the outline tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 85.60 × 53.98 mm.
    Id1,
    /// Sides as 1.42 to 1: ID-2, ID-3 or an open passport.
    Id2OrId3,
    /// A shape that is none of these, or one that cannot be told because a part lies outside the picture.
    Other,
}

impl Format {
    /// Longer side over shorter side. `None` for [`Format::Other`].
    pub fn aspect(self) -> Option<f64> {
        match self {
            Self::Id1 => Some(85.6 / 53.98),
            Self::Id2OrId3 => Some(125.0 / 88.0),
            Self::Other => None,
        }
    }
}

/// A document that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// Corners in pixel areas of the picture given, clockwise: from the document's own top left if [`is_upright`](Self::is_upright), else from
    /// the one nearest to the top left of the picture.
    pub quad: Quad,
    /// 0..=1. Found by edges: probability that this is the document, estimated by a regression on generated pictures. Seen by the locator: how far
    /// the parts of the page agree with each other, [`SeenPage::confidence`].
    pub confidence: f64,
    pub format: Format,
    /// A corner lies beyond the border of the picture, so that a part of the document is missing. Of what was found by edges also if a side lies
    /// on the border: where it ends was not seen.
    pub cut_off: bool,
    /// The picture is itself a flat, cropped document: `quad` is the border of the picture, or nearly so.
    pub whole_picture: bool,
    /// The first corner is the document's own top left.
    pub is_upright: bool,
}

impl Located {
    /// The same outline with its first side as the text of the document runs, of which `text` is a part with its own top left first.
    #[must_use]
    pub fn along(self, text: &Quad) -> Self {
        let direction = |from: [f64; 2], to: [f64; 2]| {
            let length = distance(from, to).max(f64::MIN_POSITIVE);
            [(to[0] - from[0]) / length, (to[1] - from[1]) / length]
        };
        let wanted = direction(text[0], text[1]);
        let agreement = |first: usize| {
            let side = direction(self.quad[first], self.quad[(first + 1) % 4]);
            side[0] * wanted[0] + side[1] * wanted[1]
        };
        let first = (0..4).max_by(|&a, &b| agreement(a).total_cmp(&agreement(b))).unwrap_or(0);
        Self { quad: std::array::from_fn(|i| self.quad[(i + first) % 4]), is_upright: true, ..self }
    }

    /// The quadrilateral, wider by as much as its corners may be wrong.
    pub fn widened(&self) -> Quad {
        /// Of the distance of a corner from the centre.
        const MARGIN: f64 = 1.05;
        let centre = self.quad.iter().fold([0.0, 0.0], |sum, [x, y]| [sum[0] + x / 4.0, sum[1] + y / 4.0]);
        let widened = |[x, y]: [f64; 2]| [centre[0] + MARGIN * (x - centre[0]), centre[1] + MARGIN * (y - centre[1])];
        self.quad.map(widened)
    }
}

/// Every quadrilateral of a picture that was judged, in pixel areas of the small picture that it was found in, and the size of that
/// picture. For fitting the weights of the judgement and for looking into its failures; [`locate`] is the answer.
pub fn hypotheses(image: &Image) -> (Vec<Hypothesis>, [u32; 2]) {
    let work = shrink(image);
    let field = edges::Field::new(&work);
    (quads::hypotheses(&field, &mut edges::lines(&field), &[]), [work.width, work.height])
}

/// How unevenly strokes lie across the rows of a picture; the measure by which a cropped document is told from other pictures.
pub fn row_modulation(image: &Image) -> f64 {
    whole::row_modulation(&edges::Field::new(&shrink(image)))
}

fn shrink(image: &Image) -> Image {
    let factor = (f64::from(WORK_LONG_SIDE_PX) / f64::from(image.width.max(image.height))).min(1.0);
    let shrunk = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
    resize(image, shrunk(image.width), shrunk(image.height))
}

/// Finds the document in a picture in which the locator saw a page, or none. `hints` are as for [`by_edges`].
pub fn locate(image: &Image, seen: Option<&SeenPage>, hints: &[Quad]) -> Option<Located> {
    let is_large = image.width.min(image.height) >= MIN_SIDE_PX;
    let Some(seen) = seen.filter(|seen| is_large && seen.is_sure() && holds(seen, hints)) else {
        return by_edges(image, hints);
    };
    let agreeing = || by_edges(image, hints).map(|found| found.along(&seen.quad)).filter(|found| agree(found, seen));
    let exact = if seen.confidence < EXACT_CONFIDENCE { agreeing() } else { None };
    exact.or_else(|| Some(as_seen(image, seen)))
}

/// Whether what is known to lie on the document does lie on the page.
fn holds(seen: &SeenPage, hints: &[Quad]) -> bool {
    let slack = 0.02 * distance(seen.quad[0], seen.quad[2]);
    hints.iter().flatten().all(|corner| is_inside(*corner, &seen.quad, slack))
}

fn agree(found: &Located, seen: &SeenPage) -> bool {
    let most = MAX_DISAGREEMENT * distance(seen.quad[0], seen.quad[2]);
    found.quad.iter().zip(&seen.quad).all(|(a, b)| distance(*a, *b) <= most)
}

/// Whether a point lies inside of a clockwise quadrilateral, or at most `slack` outside of a side. What is not a number does not.
pub(super) fn is_inside([x, y]: [f64; 2], quad: &Quad, slack: f64) -> bool {
    (0..4).all(|side| {
        let ([ax, ay], [bx, by]) = (quad[side], quad[(side + 1) % 4]);
        ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / distance(quad[side], quad[(side + 1) % 4]).max(1e-9) > -slack
    })
}

/// The page that the locator saw, its sides fitted to the full picture.
pub fn as_seen(image: &Image, seen: &SeenPage) -> Located {
    let size = [f64::from(image.width), f64::from(image.height)];
    let margin = 0.01 * size[0].max(size[1]);
    // Beyond the border of the picture there is nothing to fit to.
    let on_border = std::array::from_fn(|side| {
        let (a, b) = (seen.quad[side], seen.quad[(side + 1) % 4]);
        (0..2).any(|axis| (a[axis] + b[axis]) / 2.0 < margin || (a[axis] + b[axis]) / 2.0 > size[axis] - margin)
    });
    let fitted = refine::refine(image, &seen.quad, on_border, SEEN_REACH * seen.pixel_px);
    // The sides of a very thin page may cross when they move.
    let is_convex = Perspective::from_rectangle([1.0, 1.0], &fitted).is_some();
    let quad = if is_convex { fitted } else { seen.quad };
    let shape = quads::shape(&quad, size);
    let is_outside =
        |corner: &[f64; 2]| (0..2).any(|axis| corner[axis] < -margin || corner[axis] > size[axis] + margin);
    let cut_off = quad.iter().any(is_outside);
    Located {
        quad,
        confidence: seen.confidence,
        format: shape.format,
        cut_off,
        whole_picture: on_border == [true; 4] && !cut_off,
        is_upright: true,
    }
}

/// Finds the document in a picture by its edges alone. `hints` are quadrilaterals that are known to lie on it, as a machine-readable zone or a barcode
/// that was read; a document must contain all of them. `None` if there is no document or it is not certain enough.
pub fn by_edges(image: &Image, hints: &[Quad]) -> Option<Located> {
    if image.width.min(image.height) < MIN_SIDE_PX {
        return None;
    }
    let work = shrink(image);
    let scale = [f64::from(image.width) / f64::from(work.width), f64::from(image.height) / f64::from(work.height)];
    let hints: Vec<Quad> = hints.iter().map(|hint| hint.map(|[x, y]| [x / scale[0], y / scale[1]])).collect();

    let field = edges::Field::new(&work);
    let found = quads::best(&field, &mut edges::lines(&field), &hints);
    let whole = whole::whole_picture(&field, &hints);
    // In a picture that looks like a document, a frame printed on it and its own trimmed edge are no documents of their own.
    let is_part = |quad: &Quad, format: Format| {
        let share = area(quad) / (f64::from(work.width) * f64::from(work.height));
        format == Format::Other || !(PART_SHARE..TRIMMED_SHARE).contains(&share)
    };
    let found = match (found, whole) {
        (None, None) => return None,
        (Some(found), None) => found,
        (Some(found), Some(_)) if !is_part(&found.quad, found.format) => found,
        (_, Some(format)) => {
            let (right, bottom) = (f64::from(image.width), f64::from(image.height));
            return Some(Located {
                quad: [[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]],
                confidence: WHOLE_PICTURE_CONFIDENCE,
                format,
                cut_off: false,
                whole_picture: true,
                is_upright: false,
            });
        }
    };
    let coarse = found.quad.map(|[x, y]| [x * scale[0], y * scale[1]]);
    let quad = refine::refine(image, &coarse, found.on_border, scale[0].max(scale[1]));
    let margin = 0.01 * f64::from(image.width.max(image.height));
    let outside = |value: f64, side: u32| value < -margin || value > f64::from(side) + margin;
    let is_outside = quad.iter().any(|[x, y]| outside(*x, image.width) || outside(*y, image.height));
    Some(Located {
        quad: from_top_left(quad),
        confidence: found.confidence,
        format: found.format,
        cut_off: is_outside || found.on_border.contains(&true),
        whole_picture: false,
        is_upright: false,
    })
}

/// Size `[width, height]` in pixels, the longer side first, of an upright picture of the document that keeps the highest
/// resolution that the photograph holds anywhere along its sides. The longer side has 16 to 2400 pixels. For [`Format::Other`] the
/// proportion is that of the quadrilateral's sides. Whether the document stands upright in it must be found from the content.
pub fn rectified_size(quad: &Quad, format: Format) -> [u32; 2] {
    let side = |i: usize| distance(quad[i], quad[(i + 1) % 4]);
    let pairs = [side(0).max(side(2)), side(1).max(side(3))];
    let (long, short) = if pairs[0] >= pairs[1] { (pairs[0], pairs[1]) } else { (pairs[1], pairs[0]) };
    let aspect = format.aspect().unwrap_or((long / short.max(1.0)).min(16.0));
    // Where the short side is the less foreshortened one, it sets the resolution.
    let width = long.max(short * aspect).round();
    // A quadrilateral that is not finite becomes the smallest size.
    let width = if width.is_finite() { width.clamp(16.0, MAX_RECTIFIED_PX) } else { 16.0 };
    [width as u32, (width / aspect).round().max(1.0) as u32]
}

/// The same corners in the same order, beginning with the one that is nearest to the top left corner of the picture.
fn from_top_left(quad: Quad) -> Quad {
    let first = (0..4).min_by(|&a, &b| (quad[a][0] + quad[a][1]).total_cmp(&(quad[b][0] + quad[b][1]))).unwrap_or(0);
    std::array::from_fn(|i| quad[(i + first) % 4])
}

fn area([a, b, c, d]: &Quad) -> f64 {
    ((c[0] - a[0]) * (d[1] - b[1]) - (c[1] - a[1]) * (d[0] - b[0])).abs() / 2.0
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 640 × 480 pixels: `card` where the quadrilateral is, in unit coordinates, `ground` elsewhere.
    fn picture(quad: &Quad, card: impl Fn(f64, f64) -> [u8; 3], ground: impl Fn(u32, u32) -> [u8; 3]) -> Image {
        let map = Perspective::from_rectangle([1.0, 1.0], quad).expect("a convex quadrilateral");
        let inverse = map.invert().expect("a map with an area");
        Image::build(640, 480, |rgb| {
            for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                let (x, y) = (i as u32 % 640, i as u32 / 640);
                let [u, v] = inverse.apply([f64::from(x) + 0.5, f64::from(y) + 0.5]);
                let is_inside = (0.0..1.0).contains(&u) && (0.0..1.0).contains(&v);
                pixel.copy_from_slice(&if is_inside { card(u, v) } else { ground(x, y) });
            }
        })
    }

    /// An ID-1 card about a point, turned.
    fn card_at(centre: [f64; 2], width: f64, degrees: f64) -> Quad {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let [a, b] = [width / 2.0, width / 2.0 * 53.98 / 85.6];
        [[-a, -b], [a, -b], [a, b], [-a, b]]
            .map(|[x, y]| [centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos])
    }

    /// A bright card with a dark portrait and lines of print.
    fn print(u: f64, v: f64) -> [u8; 3] {
        let is_portrait = (0.06..0.3).contains(&u) && (0.15..0.6).contains(&v);
        let row = (v * 14.0) as u32;
        let in_text = (0.36..0.92).contains(&u) && row % 2 == 1 && row > 1 && (v * 14.0).fract() < 0.7;
        let is_stroke = in_text && !((u * 60.0) as u32 * 7 + row * 5).is_multiple_of(3);
        if is_portrait {
            [120, 90, 80]
        } else if is_stroke {
            [60, 60, 70]
        } else {
            [225, 228, 220]
        }
    }

    fn noise(x: u32, y: u32) -> u8 {
        let mixed = (x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
        ((mixed ^ (mixed >> 15)).wrapping_mul(0x27d4_eb2f) >> 24) as u8
    }

    /// Largest distance of a corner from its place, whichever is first.
    fn error(found: &Quad, truth: &Quad) -> f64 {
        let shifted = |shift: usize| (0..4).map(|i| distance(found[(i + shift) % 4], truth[i])).fold(0.0, f64::max);
        (0..4).map(shifted).fold(f64::MAX, f64::min)
    }

    #[test]
    fn a_bright_card_on_a_dark_ground_is_found_upright_and_turned() {
        for degrees in [0.0, 30.0, 77.0, 181.0] {
            let quad = card_at([330.0, 230.0], 340.0, degrees);
            let located = by_edges(&picture(&quad, print, |_, _| [40, 45, 50]), &[]).expect("a card");
            assert!(error(&located.quad, &quad) < 1.5, "{degrees}: {:?}", located.quad);
            assert_eq!((located.format, located.cut_off, located.whole_picture), (Format::Id1, false, false));
        }
    }

    fn seen(quad: Quad) -> SeenPage {
        SeenPage { quad, confidence: 0.7, pixel_px: 3.0 }
    }

    #[test]
    fn a_page_that_was_seen_is_fitted_to_the_picture_and_stays_upright() {
        for turn in 0..4 {
            let card = card_at([330.0, 230.0], 340.0, 90.0 * f64::from(turn) + 8.0);
            let image = picture(&card, print, |_, _| [40, 45, 50]);
            let off = seen(std::array::from_fn(|corner| [card[corner][0] + 0.7, card[corner][1] - 0.6]));
            let located = locate(&image, Some(&off), &[]).unwrap();
            assert!((0..4).all(|i| distance(located.quad[i], card[i]) < 0.4), "{turn}: {located:?} for {card:?}");
            assert!(located.is_upright && !located.cut_off && !located.whole_picture, "{located:?}");
            assert_eq!((located.format, located.confidence), (Format::Id1, 0.7));
        }
    }

    #[test]
    fn edges_decide_where_the_page_is_not_sure_or_does_not_hold_what_was_read() {
        let card = card_at([330.0, 230.0], 340.0, 188.0);
        let image = picture(&card, print, |_, _| [40, 45, 50]);
        let by_edges = by_edges(&image, &[]);
        assert!(by_edges.as_ref().is_some_and(|located| !located.is_upright));
        assert_eq!(locate(&image, None, &[]), by_edges);
        assert_eq!(locate(&image, Some(&SeenPage { confidence: 0.49, ..seen(card) }), &[]), by_edges);
        // A part of the card, which does not hold the zone of the whole one.
        let part = seen(card.map(|[x, y]| [330.0 + (x - 330.0) / 2.0, 230.0 + (y - 230.0) / 2.0]));
        let zone = card_at([330.0, 230.0], 300.0, 188.0);
        let located = locate(&image, Some(&part), &[zone]).unwrap();
        assert!(!located.is_upright && error(&located.quad, &card) < 1.5, "{located:?}");
        assert!(locate(&image, Some(&part), &[]).unwrap().is_upright, "without the zone nothing speaks against it");
        assert_eq!(locate(&image, Some(&seen(card)), &[[[f64::NAN; 2]; 4]]), None);
        assert_eq!(locate(&Image::build(63, 900, |rgb| rgb.fill(9)), Some(&seen(card)), &[]), None);
    }

    #[test]
    fn edges_that_agree_with_an_inexact_page_are_taken_upright() {
        let card = card_at([330.0, 230.0], 340.0, 188.0);
        let image = picture(&card, print, |_, _| [40, 45, 50]);
        let off = |by: f64| SeenPage { confidence: 0.6, ..seen(card.map(|[x, y]| [x + by, y])) };
        let located = locate(&image, Some(&off(12.0)), &[]).unwrap();
        assert!((0..4).all(|i| distance(located.quad[i], card[i]) < 1.5), "{located:?} for {card:?}");
        assert!(located.is_upright);
        // Further away it is another thing, and surer pages are not asked for.
        for seen in [off(40.0), SeenPage { confidence: 0.7, ..off(12.0) }] {
            assert_eq!(locate(&image, Some(&seen), &[]), Some(as_seen(&image, &seen)));
        }
    }

    #[test]
    fn a_page_that_was_seen_beyond_the_picture_is_cut_off_and_one_that_is_the_picture_is_whole() {
        let card = card_at([520.0, 240.0], 330.0, 25.0);
        let located = as_seen(&picture(&card, print, |_, _| [40, 45, 50]), &seen(card));
        assert!(located.cut_off && !located.whole_picture, "{located:?}");
        let image = picture(&card, print, |_, _| [40, 45, 50]);
        let border = [[1.0, 1.0], [639.0, 0.0], [640.0, 479.0], [0.0, 480.0]];
        let located = as_seen(&image, &seen(border));
        assert!(located.whole_picture && !located.cut_off, "{located:?}");
        // All sides lie on the border of the picture, a corner far beyond it.
        let beyond = [[0.0, 0.0], [640.0, 0.0], [700.0, 520.0], [0.0, 480.0]];
        let located = as_seen(&image, &seen(beyond));
        assert!(located.cut_off && !located.whole_picture, "{located:?}");
    }

    #[test]
    fn an_outline_is_turned_as_its_text_runs() {
        let card = card_at([330.0, 230.0], 340.0, 100.0);
        let located = by_edges(&picture(&card, print, |_, _| [40, 45, 50]), &[]).unwrap();
        for turn in 0..4 {
            let text = card_at([320.0, 240.0], 60.0, 100.0 + 90.0 * f64::from(turn));
            let along = located.clone().along(&text);
            assert!(along.is_upright);
            let first = (turn as usize) % 4;
            assert!((0..4).all(|i| distance(along.quad[i], card[(i + first) % 4]) < 1.5), "{turn}: {along:?}");
        }
    }

    #[test]
    fn corners_are_clockwise_from_the_top_left() {
        let quad = card_at([330.0, 230.0], 340.0, 20.0);
        let found = by_edges(&picture(&quad, print, |_, _| [40, 45, 50]), &[]).expect("a card").quad;
        assert!((0..4).all(|i| distance(found[i], quad[i]) < 1.5), "{found:?}");
    }

    #[test]
    fn a_card_is_found_over_a_texture() {
        let quad = card_at([300.0, 250.0], 330.0, -15.0);
        let ground =
            |x: u32, y: u32| [90 + noise(x / 4, y / 4) / 4, 60 + noise(x / 4, y / 4) / 4, 30 + noise(x, y) / 8];
        let located = by_edges(&picture(&quad, print, ground), &[]).expect("a card");
        assert!(error(&located.quad, &quad) < 2.0, "{:?}", located.quad);
    }

    #[test]
    fn a_card_seen_at_a_slant_keeps_its_format() {
        // An ID-1 card tilted by 30° about its long axis before a camera of focal length 500 at 180 mm.
        let quad = [[-42.8, -26.99], [42.8, -26.99], [42.8, 26.99], [-42.8, 26.99]].map(|[x, y]: [f64; 2]| {
            let (sin, cos) = 30f64.to_radians().sin_cos();
            let depth = 180.0 + y * sin;
            [320.0 + 500.0 * x / depth, 240.0 + 500.0 * y * cos / depth]
        });
        let located = by_edges(&picture(&quad, print, |_, _| [40, 45, 50]), &[]).expect("a card");
        assert!(error(&located.quad, &quad) < 1.5, "{:?}", located.quad);
        assert_eq!(located.format, Format::Id1);
    }

    #[test]
    fn a_corner_outside_the_picture_is_reported_as_cut_off() {
        let quad = card_at([500.0, 240.0], 330.0, 25.0);
        let located = by_edges(&picture(&quad, print, |_, _| [40, 45, 50]), &[]);
        assert!(located.is_some_and(|located| located.cut_off));
    }

    #[test]
    fn pictures_without_a_document_have_none() {
        let even = Image::build(640, 480, |rgb| rgb.fill(120));
        assert_eq!(by_edges(&even, &[]), None);
        let textured = Image::build(640, 480, |rgb| {
            for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                pixel.fill(80 + noise(i as u32 % 640 / 3, i as u32 / 640 / 3) / 3);
            }
        });
        assert_eq!(by_edges(&textured, &[]), None);
        // A ball, as a face is.
        let ball = Image::build(640, 480, |rgb| {
            for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                let (x, y) = ((i % 640) as f64 - 320.0, (i / 640) as f64 - 240.0);
                pixel.copy_from_slice(&if x.hypot(y) < 150.0 { [200, 160, 140] } else { [60, 70, 90] });
            }
        });
        assert_eq!(by_edges(&ball, &[]), None);
    }

    #[test]
    fn a_picture_that_is_a_document_is_answered_with_its_border() {
        let image = Image::build(856, 540, |rgb| {
            for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                pixel.copy_from_slice(&print((i % 856) as f64 / 856.0, (i / 856) as f64 / 540.0));
            }
        });
        let located = by_edges(&image, &[]).expect("a card");
        assert!(located.whole_picture && !located.cut_off);
        assert_eq!(located.quad, [[0.0, 0.0], [856.0, 0.0], [856.0, 540.0], [0.0, 540.0]]);
        assert_eq!(located.format, Format::Id1);
    }

    #[test]
    fn a_document_must_contain_its_hints() {
        let quad = card_at([330.0, 230.0], 340.0, 0.0);
        let image = picture(&quad, print, |_, _| [40, 45, 50]);
        let inside = [[180.0, 280.0], [480.0, 280.0], [480.0, 320.0], [180.0, 320.0]];
        assert!(by_edges(&image, &[inside]).is_some_and(|located| error(&located.quad, &quad) < 1.5));
        let outside = inside.map(|[x, y]| [x, y + 130.0]);
        assert_eq!(by_edges(&image, &[outside]), None);
    }

    #[test]
    fn tiny_pictures_and_hints_that_are_no_numbers_do_no_harm() {
        assert_eq!(by_edges(&Image::build(1, 1, |_| {}), &[]), None);
        assert_eq!(by_edges(&Image::build(64, 3000, |rgb| rgb.fill(9)), &[]), None);
        assert_eq!(by_edges(&Image::build(60_000, 64, |rgb| rgb.fill(9)), &[]), None);
        let quad = card_at([330.0, 230.0], 340.0, 0.0);
        let image = picture(&quad, print, |_, _| [40, 45, 50]);
        assert_eq!(by_edges(&image, &[[[f64::NAN; 2]; 4]]), None);
    }

    #[test]
    fn the_rectified_size_keeps_the_resolution_within_bounds() {
        let frame = |width: f64, height: f64| [[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]];
        assert_eq!(rectified_size(&frame(856.0, 540.0), Format::Id1), [856, 540]);
        assert_eq!(rectified_size(&frame(540.0, 856.0), Format::Id1), [856, 540]);
        // Foreshortened to half along its long side: the short side holds 540 pixels.
        assert_eq!(rectified_size(&frame(541.0, 540.0), Format::Id1)[1], 540);
        assert_eq!(rectified_size(&frame(12_500.0, 8_800.0), Format::Id2OrId3), [2400, 1690]);
        assert_eq!(rectified_size(&frame(f64::NAN, f64::INFINITY), Format::Other)[0], 16);
    }
}
