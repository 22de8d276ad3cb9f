//! Small photographs of documents, as the network gets them that locates documents and zones: what it is trained on.
//!
//! Called by `examples/training_data.rs`. Pages are drawn once at a low resolution and photographed several times. Beside what `photograph`
//! takes there are pages that are turned in any direction, come so close that only a part is seen, or fill the picture as a scan does, and
//! pictures without a document.

use super::super::camera::{Capture, Frame, compressed};
use super::*;
use crate::document::page_locator::{LONG_SIDE_PX, MARGIN};
use crate::specimen::document::{Options, specimen};

/// Pages to choose from, and the share of pictures for which one of them is drawn anew.
const PAGES: usize = 256;
const NEW_PAGE: f64 = 0.06;
/// A page that comes close has about so many pixels to an inch in the picture.
const DPI: u32 = 120;

/// Compression of a picture that is made small afterwards is weaker than that of the file.
const MIN_QUALITY: u8 = 60;

/// A small photograph.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    pub image: Image,
    /// Degradation, 0..=4.
    pub level: u8,
    pub framing: Framing,
    /// The document with its corners clockwise from its own top left, in pixel areas; they may lie outside of the picture.
    pub document: Option<Quad>,
    /// The lines of its zone, if it has one.
    pub lines: Vec<Quad>,
}

/// How much of a document is in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Framing {
    /// As [`photograph`] takes it.
    Photograph,
    /// The same, turned in any direction.
    Turned,
    /// Larger than the picture.
    Close,
    /// As large as the picture.
    Whole,
    /// None.
    Absent,
    /// Cut out upright with a margin, from corners that were seen before and are not quite right.
    Again,
}

/// Thumbnails without end.
pub struct Thumbnails {
    random: Random,
    pages: Vec<Page>,
}

impl Thumbnails {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, "thumbnails"), pages: Vec::new() }
    }

    /// A page of the pool.
    fn page(&mut self) -> usize {
        if self.pages.len() == PAGES && !self.random.chance(NEW_PAGE) {
            return self.random.below(PAGES);
        }
        // A visa lies on a page that looks much like it: there is more to learn.
        const KINDS: [Kind; 15] = [
            Kind::Td3,
            Kind::Td3,
            Kind::Td3,
            Kind::Td1,
            Kind::Td1,
            Kind::Td2,
            Kind::MrvA,
            Kind::MrvA,
            Kind::MrvA,
            Kind::MrvB,
            Kind::MrvB,
            Kind::Licence,
            Kind::Licence,
            Kind::Letter,
            Kind::Letter,
        ];
        let kind = KINDS[self.random.below(KINDS.len())];
        let mut pages = specimen(kind, self.random.seed(), &Options { dpi: DPI, ..Options::default() }).pages;
        // Of cards the back has the zone or the barcode.
        let page = pages.swap_remove(usize::from(pages.len() > 1 && self.random.chance(0.6)));
        if self.pages.len() < PAGES {
            self.pages.push(page);
            self.pages.len() - 1
        } else {
            let at = self.random.below(PAGES);
            self.pages[at] = page;
            at
        }
    }
}

impl Iterator for Thumbnails {
    type Item = Thumbnail;

    fn next(&mut self) -> Option<Thumbnail> {
        const LEVELS: [u8; 9] = [0, 0, 1, 1, 2, 2, 3, 3, 4];
        let at = self.page();
        let mut random = Random::new(self.random.seed(), "thumbnail");
        let level = LEVELS[random.below(LEVELS.len())];
        let page = &self.pages[at];
        let page_px = [page.image.width, page.image.height].map(f64::from);
        let size = picture_size(&mut random);
        let (framing, pose, size) = match random.below(20) {
            0 => return Some(absent(level, size, &mut random)),
            1..=5 => {
                let angle = angle_deg(level, &mut random);
                (Framing::Photograph, pose(page_px, angle, level, size, &mut random), size)
            }
            6..=9 => {
                let angle = random.within(0.0, 360.0);
                (Framing::Turned, pose(page_px, angle, level, size, &mut random), size)
            }
            10..=11 => (Framing::Close, close(page, page_px, level, size, &mut random), size),
            12..=13 => {
                let (pose, size) = whole(page_px, &mut random);
                (Framing::Whole, pose, size)
            }
            _ => {
                let (pose, size) = again(page_px, &mut random);
                (Framing::Again, pose, size)
            }
        };
        let (frame, truth) = take(page, &pose, level, size, &mut random);
        let quality = truth.capture.as_ref().map_or(94, |capture| capture.jpeg_quality);
        Some(Thumbnail {
            image: compressed(&frame, quality.max(MIN_QUALITY)).to_image(),
            level,
            framing,
            document: Some(truth.document_quad),
            lines: truth.mrz.map(|mrz| mrz.quads).unwrap_or_default(),
        })
    }
}

/// The proportions of cameras, lying or standing.
fn picture_size(random: &mut Random) -> [u32; 2] {
    const SHORT_SIDES_PX: [u32; 6] = [180, 180, 213, 240, 240, 320];
    let short = SHORT_SIDES_PX[random.below(SHORT_SIDES_PX.len())];
    if random.chance(0.7) { [LONG_SIDE_PX, short] } else { [short, LONG_SIDE_PX] }
}

fn absent(level: u8, size: [u32; 2], random: &mut Random) -> Thumbnail {
    let mut canvas = Canvas::over(&backdrop(size, random), 1.0);
    things::clutter(&mut canvas, random.within(1.0, 4.0), level.max(1), random);
    let mut capture = Capture::of_level(level, random.within(3.0, 8.0), random);
    let quality = capture.jpeg_quality.take().unwrap_or(94);
    let frame = capture.develop(Frame::colour(&canvas.into_image()), random);
    let image = compressed(&frame, quality.max(MIN_QUALITY)).to_image();
    Thumbnail { image, level, framing: Framing::Absent, document: None, lines: Vec::new() }
}

/// Larger than the picture; of a page with a zone, its middle is in the picture.
fn close(page: &Page, page_px: [f64; 2], level: u8, size: [u32; 2], random: &mut Random) -> Pose {
    let angle = if random.chance(0.5) { random.within(-12.0, 12.0) } else { random.within(0.0, 360.0) };
    let seen = tilted(page_px, angle, level, random);
    let of_axis = |axis: usize| seen.map(|corner| corner[axis]);
    let extent = |axis: usize| {
        of_axis(axis).into_iter().fold(f64::MIN, f64::max) - of_axis(axis).into_iter().fold(f64::MAX, f64::min)
    };
    let [width, height] = size.map(f64::from);
    let scale = (width / extent(0)).min(height / extent(1)) * random.within(1.05, 2.2);
    let middle = match &page.truth.mrz {
        Some(mrz) => {
            let corners: Vec<&[f64; 2]> = mrz.quads.iter().flatten().collect();
            [0, 1].map(|axis: usize| {
                corners.iter().map(|corner| corner[axis]).sum::<f64>() / (corners.len() as f64 * page_px[axis])
            })
        }
        None => [random.within(0.2, 0.8), random.within(0.2, 0.8)],
    };
    let at = Perspective::from_rectangle([1.0, 1.0], &seen).map_or([0.0, 0.0], |map| map.apply(middle));
    let to = [random.within(0.3, 0.7) * width, random.within(0.2, 0.8) * height];
    Pose::new(seen.map(|corner| [0, 1].map(|axis: usize| (corner[axis] - at[axis]) * scale + to[axis])))
}

/// The picture is the page, cut out by hand or by a scanner, sometimes lying on its side or upside down.
fn whole(page_px: [f64; 2], random: &mut Random) -> (Pose, [u32; 2]) {
    let turns = if random.chance(0.75) { 0 } else { random.between(1, 3) as usize };
    let [width, height] = if turns % 2 == 0 { page_px } else { [page_px[1], page_px[0]] };
    let factor = f64::from(LONG_SIDE_PX) / width.max(height);
    let size = [width, height].map(|side| (side * factor).round());
    // How far the page goes beyond the picture, or, below 0, how much of a margin is left.
    let most = if random.chance(0.6) { 0.015 } else { 0.05 };
    let [[left, right], [top, bottom]] =
        size.map(|side| [random.within(-most, most) * side, side + random.within(-most, most) * side]);
    let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
    let slack = random.within(0.0, 0.008) * f64::from(LONG_SIDE_PX);
    let corners = corners.map(|[x, y]| [x + random.within(-slack, slack), y + random.within(-slack, slack)]);
    (Pose::new(std::array::from_fn(|corner| corners[(corner + turns) % 4])), size.map(|side| side as u32))
}

/// As the second look has it: upright with a margin around it, the corners about where they were seen first.
fn again(page_px: [f64; 2], random: &mut Random) -> (Pose, [u32; 2]) {
    let scale = f64::from(LONG_SIDE_PX) / (page_px[0].max(page_px[1]) * (1.0 + 2.0 * MARGIN));
    let [width, height] = page_px.map(|side| side * scale);
    // A page that was seen at some angle is cut out with the proportions of what was seen.
    let height = if random.chance(0.5) { height } else { height * random.within(0.85, 1.15) };
    let fit = (f64::from(LONG_SIDE_PX) / (width.max(height) * (1.0 + 2.0 * MARGIN))).min(1.0);
    let [width, height] = [width * fit, height * fit];
    let most = if random.chance(0.8) { 0.02 } else { 0.08 };
    let slack = random.within(0.0, most) * f64::from(LONG_SIDE_PX);
    let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]].map(|[u, v]: [f64; 2]| {
        [(u + MARGIN) * width + random.within(-slack, slack), (v + MARGIN) * height + random.within(-slack, slack)]
    });
    (Pose::new(corners), [width, height].map(|side| (side * (1.0 + 2.0 * MARGIN)).round() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_thumbnails_with_their_truth() {
        let take = |seed: u64, count: usize| Thumbnails::new(seed).take(count).collect::<Vec<_>>();
        let (first, again) = (take(5, 24), take(5, 4));
        for (small, same) in first.iter().zip(&again) {
            assert!(small.image.rgb == same.image.rgb && small.document == same.document && small.lines == same.lines);
        }
        let framings: std::collections::BTreeSet<u8> = first.iter().map(|small| small.framing as u8).collect();
        assert!(framings.len() >= 4, "{framings:?}");
        for small in &first {
            let size = [small.image.width, small.image.height];
            assert!(
                (LONG_SIDE_PX - 1..=LONG_SIDE_PX).contains(&size[0].max(size[1])) || small.framing == Framing::Again
            );
            assert_eq!(small.document.is_none(), small.framing == Framing::Absent);
            let Some(document) = &small.document else { continue };
            // Lines lie on their page.
            let to_page = Perspective::from_rectangle([1.0, 1.0], document).unwrap().invert().unwrap();
            for corner in small.lines.iter().flatten() {
                assert!(to_page.apply(*corner).iter().all(|part| (0.0..=1.0).contains(part)), "{:?}", small.framing);
            }
            let middle =
                |quad: &Quad| [0, 1].map(|axis: usize| quad.iter().map(|corner| corner[axis]).sum::<f64>() / 4.0);
            let is_seen =
                |[x, y]: [f64; 2]| (0.0..=f64::from(size[0])).contains(&x) && (0.0..=f64::from(size[1])).contains(&y);
            match small.framing {
                // Of a page that is too large at least the zone is seen, about.
                Framing::Close => {
                    assert!(small.lines.is_empty() || small.lines.iter().any(|line| is_seen(middle(line))))
                }
                _ => assert!(is_seen(middle(document)), "{:?}", small.framing),
            }
            if small.framing == Framing::Whole {
                let area_share = visible_area(document, size) / (f64::from(size[0]) * f64::from(size[1]));
                assert!(area_share > 0.85, "{area_share}");
            }
        }
        assert!(first.iter().zip(&take(6, 2)).any(|(one, other)| one.image.rgb != other.image.rgb));
    }
}
