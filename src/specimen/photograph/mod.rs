//! Photographs of drawn documents, as people take them.
//!
//! Called by `vouch specimen --photo`, by tests and benchmarks. A page is laid on a backdrop with other things about it, held by fingers or
//! shown on a screen, seen in the perspective of a pinhole camera, and then developed by [`Capture`]. The truth of the page is moved with
//! it. Left out: documents that are bent (creases are drawn, the page stays flat), reflections of rooms, distortion by the lens.

mod things;
pub mod thumbnails;

use tiny_skia::PathBuilder;
use turbojpeg::PixelFormat;

use super::camera::{Capture, Frame, MAX_LEVEL, backdrop, jpeg, place};
use super::canvas::{Canvas, Gradient, Ink};
use super::document::security::polygon;
use super::document::{Kind, Page};
use super::person::STATES;
use super::random::Random;
use super::texture::wave;
use super::truth::{CaptureTruth, PageTruth};
use crate::document::locate::Quad;
use crate::imaging::Image;
use crate::imaging::warp::Perspective;

/// Shortest and longest side of a photograph.
pub const MIN_SIDE_PX: u32 = 64;
pub const MAX_SIDE_PX: u32 = 4096;

/// What is asked of a photograph.
#[derive(Debug, Clone, Copy)]
pub struct Shot {
    pub seed: u64,
    /// 0, a scan, to [`MAX_LEVEL`]; higher ones are taken for it.
    pub level: u8,
    /// Sides of [`MIN_SIDE_PX`] to [`MAX_SIDE_PX`]; others are taken for the nearest of them.
    pub size_px: [u32; 2],
}

/// A photograph with the truth about it.
#[derive(Debug, Clone)]
pub struct Photograph {
    pub jpeg: Vec<u8>,
    pub truth: PageTruth,
}

impl Photograph {
    /// The picture in the file.
    pub fn image(&self) -> Image {
        let read = turbojpeg::decompress(&self.jpeg, PixelFormat::RGB).expect("a file of the encoder's own");
        Image::build(read.width as u32, read.height as u32, |rgb| rgb.copy_from_slice(&read.pixels))
    }
}

/// How the document lies before the camera.
struct Pose {
    quad: Quad,
    /// How far its top is turned clockwise.
    angle_deg: f64,
}

impl Pose {
    fn new(quad: Quad) -> Self {
        let angle_deg = libm::atan2(quad[1][1] - quad[0][1], quad[1][0] - quad[0][0]).to_degrees();
        Self { quad, angle_deg }
    }
}

/// Takes a photograph of a page.
pub fn photograph(page: &Page, shot: &Shot) -> Photograph {
    let level = shot.level.min(MAX_LEVEL);
    let size = shot.size_px.map(|side| side.clamp(MIN_SIDE_PX, MAX_SIDE_PX));
    let mut random = Random::new(shot.seed, &format!("photograph {} {} {level}", page.kind.name(), page.truth.side));
    let page_px = [page.image.width, page.image.height].map(f64::from);
    let angle = angle_deg(level, &mut random);
    let pose = pose(page_px, angle, level, size, &mut random);
    let (developed, truth) = take(page, &pose, level, size, &mut random);
    let quality = truth.capture.as_ref().map_or(94, |capture| capture.jpeg_quality);
    Photograph { jpeg: jpeg(&developed, quality), truth }
}

/// What the sensor gives of a page that lies at `pose`, before it is written to a file of the quality that the truth names.
fn take(page: &Page, pose: &Pose, level: u8, size: [u32; 2], random: &mut Random) -> (Frame, PageTruth) {
    let page_px = [page.image.width, page.image.height].map(f64::from);
    // The pose keeps the quadrilateral convex.
    let to_scene = Perspective::from_rectangle(page_px, &pose.quad).expect("a pose is convex");
    let scale = scale(&to_scene, page_px) * page.px_per_mm;
    let view = View { to_scene, page_px, px_per_mm: page.px_per_mm, scale };

    let is_screen = level > 0 && random.chance(0.06);
    let mut scene = if level == 0 {
        scanner_lid(size, random)
    } else if is_screen {
        things::screen(size, &view, random)
    } else {
        let mut canvas = Canvas::over(&backdrop(size, random), 1.0);
        things::clutter(&mut canvas, scale, level, random);
        booklet(&mut canvas, page.kind, &view, &page.truth, random);
        things::drop_shadow(&mut canvas, &view.outline(page.corner_px), scale, random);
        canvas.into_image()
    };
    if let Some(placed) = place(&page.image, page.corner_px, &pose.quad, &scene) {
        scene = placed;
    }
    let mut canvas = Canvas::over(&scene, 1.0);
    let creases = if level > 0 && !is_screen { creases(&mut canvas, page.kind, &view, random) } else { 0 };
    let has_finger = level > 0 && !is_screen && random.chance(0.3);
    let fingers = if has_finger { things::fingers(&mut canvas, &page.truth, &view, random) } else { 0 };

    let capital_px = match &page.truth.mrz {
        Some(mrz) => mrz.quads.first().map_or(0.0, |quad| distance(to_scene.apply(quad[0]), to_scene.apply(quad[3]))),
        // Without a zone, the print of a licence or a letter.
        None => 2.0 * scale,
    };
    let mut frame = Frame::colour(&canvas.into_image());
    if is_screen {
        raster(&mut frame, random);
    }
    let mut capture = Capture::of_level(level, capital_px, random);
    let quality = capture.jpeg_quality.take().unwrap_or(94);
    let developed = capture.develop(frame, random);

    let frame_area = f64::from(size[0]) * f64::from(size[1]);
    let is_inside = |corner: &&[f64; 2]| (0..2).all(|axis| (0.0..=f64::from(size[axis])).contains(&corner[axis]));
    let short = |value: f64| (value * 1000.0).round() / 1000.0;
    let facts = CaptureTruth {
        level,
        angle_deg: short(pose.angle_deg),
        coverage: short(visible_area(&pose.quad, size) / frame_area),
        corners_inside: pose.quad.iter().filter(is_inside).count() as u8,
        mrz_capital_px: short(capital_px),
        blur_px: short(capture.defocus_px),
        motion_px: short(capture.motion_px),
        noise: short(capture.noise),
        jpeg_quality: quality,
        is_screen,
        fingers,
        creases,
    };
    let truth = page.truth.seen(&to_scene, size, facts);
    (developed, truth)
}

/// Where the page is seen.
struct View {
    /// From pixel areas of the page to those of the scene.
    to_scene: Perspective,
    page_px: [f64; 2],
    /// Of the page.
    px_per_mm: f64,
    /// Pixels of the scene to a millimetre in the middle of the page.
    scale: f64,
}

impl View {
    /// The place of a point of the page, given in millimetres from its top left.
    fn at_mm(&self, [x, y]: [f64; 2]) -> [f32; 2] {
        self.to_scene.apply([x * self.px_per_mm, y * self.px_per_mm]).map(|part| part as f32)
    }

    /// The border of the page with its round corners.
    fn outline(&self, corner_px: f64) -> Vec<[f32; 2]> {
        // Points of a quarter circle are enough for a shadow.
        const STEPS: u32 = 5;
        let [width, height] = self.page_px;
        let middles = [
            [corner_px, corner_px],
            [width - corner_px, corner_px],
            [width - corner_px, height - corner_px],
            [corner_px, height - corner_px],
        ];
        let mut outline = Vec::new();
        for (quarter, [x, y]) in (2..).zip(middles) {
            for step in 0..=STEPS {
                let angle = (f64::from(quarter) + f64::from(step) / f64::from(STEPS)) * std::f64::consts::FRAC_PI_2;
                let at = [x + corner_px * libm::cos(angle), y + corner_px * libm::sin(angle)];
                outline.push(self.to_scene.apply(at).map(|part| part as f32));
            }
        }
        outline
    }

    fn size_mm(&self) -> [f64; 2] {
        self.page_px.map(|side| side / self.px_per_mm)
    }
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    ((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1])).sqrt()
}

/// Pixels of the scene to one of the page, in its middle.
fn scale(to_scene: &Perspective, page_px: [f64; 2]) -> f64 {
    let [x, y] = page_px.map(|side| side / 2.0);
    let [from, right, below] = [[x, y], [x + 1.0, y], [x, y + 1.0]].map(|point| to_scene.apply(point));
    let area = (right[0] - from[0]) * (below[1] - from[1]) - (right[1] - from[1]) * (below[0] - from[0]);
    area.abs().sqrt()
}

/// How far people turn a document: mostly little, sometimes upside down or anyhow.
fn angle_deg(level: u8, random: &mut Random) -> f64 {
    match random.below(10) {
        _ if level == 0 => random.within(-2.5, 2.5),
        0..=6 => random.within(-15.0, 15.0),
        7 => 180.0 + random.within(-15.0, 15.0),
        _ => random.within(0.0, 360.0),
    }
}

/// The outline of a page that is turned and then tilted before a pinhole camera, around the origin.
fn tilted(page_px: [f64; 2], angle_deg: f64, level: u8, random: &mut Random) -> Quad {
    let tilt = [0.0, 9.0, 15.0, 20.0, 25.0][usize::from(level)];
    let tilts = [random.within(-tilt, tilt), random.within(-tilt, tilt)].map(f64::to_radians);
    let away = page_px[0].max(page_px[1]) * random.within(1.8, 4.0);
    let [(sin, cos), (sin_x, cos_x), (sin_y, cos_y)] =
        [angle_deg.to_radians(), tilts[0], tilts[1]].map(|angle| (libm::sin(angle), libm::cos(angle)));
    [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]].map(|[u, v]: [f64; 2]| {
        let [x, y] = [u * page_px[0], v * page_px[1]];
        let [x, y] = [x * cos - y * sin, x * sin + y * cos];
        let [y, z] = [y * cos_x, y * sin_x];
        let [x, z] = [x * cos_y + z * sin_y, z * cos_y - x * sin_y];
        let near = away / (away + z);
        [x * near, y * near]
    })
}

/// Fits a page, turned and tilted, into the frame.
fn pose(page_px: [f64; 2], angle_deg: f64, level: u8, size: [u32; 2], random: &mut Random) -> Pose {
    let seen = tilted(page_px, angle_deg, level, random);
    let bounds = |axis: usize| {
        seen.iter().fold((f64::MAX, f64::MIN), |(low, high), corner| (low.min(corner[axis]), high.max(corner[axis])))
    };
    let [(left, right), (top, bottom)] = [bounds(0), bounds(1)];
    let [width, height] = size.map(f64::from);
    // As large as it may be with a narrow margin; of some the border is cut off.
    let largest = (width / (right - left)).min(height / (bottom - top)) * 0.97;
    let share = area(&seen) * largest * largest / (width * height);
    let is_cut = level > 0 && random.chance(0.1);
    let factor = if is_cut { random.within(1.04, 1.2) } else { random.within(0.68, 1.0) };
    // A quarter of the picture at least, where it fits.
    let factor = factor.max((0.26 / share).sqrt().min(1.0));
    let scale = largest * factor;
    let place = |low: f64, high: f64, side: f64, random: &mut Random| {
        let room = side - (high - low) * scale;
        let from = if room >= 0.0 { random.within(0.02, 0.98) * room } else { random.within(-0.1, 1.1) * room };
        from - low * scale
    };
    let shift = [place(left, right, width, random), place(top, bottom, height, random)];
    let quad = seen.map(|[x, y]| [x * scale + shift[0], y * scale + shift[1]]);
    Pose::new(quad)
}

fn area(corners: &[[f64; 2]]) -> f64 {
    let next = corners.iter().cycle().skip(1);
    let sum: f64 = corners.iter().zip(next).map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum();
    sum.abs() / 2.0
}

/// The area of a quadrilateral within the picture: its corners are cut at one border after the other (Sutherland and Hodgman, 1974).
fn visible_area(quad: &Quad, size: [u32; 2]) -> f64 {
    let mut corners: Vec<[f64; 2]> = quad.to_vec();
    for (axis, border, sign) in
        [(0, 0.0, 1.0), (0, f64::from(size[0]), -1.0), (1, 0.0, 1.0), (1, f64::from(size[1]), -1.0)]
    {
        let depth = |corner: &[f64; 2]| (corner[axis] - border) * sign;
        let mut kept = Vec::new();
        for (index, corner) in corners.iter().enumerate() {
            let next = &corners[(index + 1) % corners.len()];
            let (here, there) = (depth(corner), depth(next));
            if here >= 0.0 {
                kept.push(*corner);
            }
            if (here >= 0.0) != (there >= 0.0) {
                let share = here / (here - there);
                kept.push(std::array::from_fn(|part| corner[part] + (next[part] - corner[part]) * share));
            }
        }
        corners = kept;
    }
    area(&corners)
}

/// White, and a little grey towards the border.
fn scanner_lid([width, height]: [u32; 2], random: &mut Random) -> Image {
    let light = random.within(232.0, 252.0) as f32;
    let mut canvas = Canvas::new([width as f32, height as f32], 1.0, [light as u8; 3]);
    let [x, y] = [width as f32 * random.within(0.3, 0.7) as f32, height as f32 * random.within(0.3, 0.7) as f32];
    canvas.glow([x, y], [width as f32 * 0.9, height as f32 * 0.9], Ink::thin([255, 255, 255], 0.5));
    canvas.into_image()
}

/// The pages of a passport about its data page or a visa, as far as they are in the picture.
fn booklet(canvas: &mut Canvas, kind: Kind, view: &View, truth: &PageTruth, random: &mut Random) {
    const PAGE_MM: [f64; 2] = [125.0, 88.0];
    let [width, height] = view.size_mm();
    match kind {
        Kind::Td3 if random.chance(0.7) => {
            let own = STATES.iter().find(|state| truth.fields.iter().any(|field| field.value == state.code));
            let paper = own.unwrap_or(&STATES[0]).paper;
            leaf(canvas, view, &Leaf { left: 0.0, right: width, spine: 0.0, far: -height, paper }, random);
        }
        Kind::MrvA | Kind::MrvB if random.chance(0.8) => {
            let left = (width - PAGE_MM[0]) * random.within(0.2, 0.8);
            let top = (height - PAGE_MM[1]) * random.within(0.1, 0.9);
            let paper = STATES[random.below(STATES.len())].paper;
            let lower = Leaf { left, right: left + PAGE_MM[0], spine: top, far: top + PAGE_MM[1], paper };
            leaf(canvas, view, &Leaf { far: top - PAGE_MM[1], ..lower }, random);
            leaf(canvas, view, &lower, random);
        }
        _ => {}
    }
}

/// A page of a passport, in millimetres from the top left of the document.
struct Leaf {
    left: f64,
    right: f64,
    /// Where it is sewn, and the side across.
    spine: f64,
    far: f64,
    paper: [u8; 3],
}

fn leaf(canvas: &mut Canvas, view: &View, leaf: &Leaf, random: &mut Random) {
    let &Leaf { left, right, spine, far, paper } = leaf;
    let (top, bottom) = (spine.min(far), spine.max(far));
    let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
    // A strong tilt would bring far corners behind the camera.
    let is_before = corners.into_iter().all(|corner| {
        let [x, y] = corner.map(|part| part * view.px_per_mm);
        let row = view.to_scene.m[2];
        row[0] * x + row[1] * y + row[2] > 0.2
    });
    let outline = corners.map(|corner| view.at_mm(corner));
    let mut page = PathBuilder::new();
    polygon(&mut page, &outline);
    let (true, Some(page)) = (is_before, page.finish()) else { return };
    things::drop_shadow(canvas, &outline, view.scale, random);
    let middle = (left + right) / 2.0;
    let shade = |factor: f32| Ink::solid(paper.map(|value| (f32::from(value) * factor) as u8));
    let inks = [shade(0.6), shade(0.92), shade(0.98), shade(1.0), shade(0.95)];
    canvas.fill_graded(
        &page,
        &Gradient { from: view.at_mm([middle, spine]), to: view.at_mm([middle, far]), inks: &inks },
    );
    let mut lines = PathBuilder::new();
    for line in 0..((bottom - top) / 2.2) as usize {
        let y = top + 1.5 + line as f64 * 2.2;
        for step in 0..=30 {
            let share = f64::from(step) / 30.0;
            let x = left + 2.0 + share * (right - left - 4.0);
            let [px, py] = view.at_mm([x, y + 0.8 * libm::sin(share * 9.0 + y * 0.1)]);
            if step == 0 { lines.move_to(px, py) } else { lines.line_to(px, py) }
        }
    }
    if let Some(lines) = lines.finish() {
        let ink = Ink::thin(paper.map(|value| (f32::from(value) * 0.62) as u8), 0.4);
        canvas.stroke(&lines, (0.1 * view.scale) as f32, ink);
    }
    if random.chance(0.6) {
        let share = [random.within(0.25, 0.75), random.within(0.3, 0.7)];
        things::stamp(canvas, view, [left + (right - left) * share[0], spine + (far - spine) * share[1]], random);
    }
}

/// Lines along which paper was folded, or scratches of a card.
fn creases(canvas: &mut Canvas, kind: Kind, view: &View, random: &mut Random) -> u8 {
    let is_paper = matches!(kind, Kind::Td3 | Kind::MrvA | Kind::MrvB | Kind::Letter);
    let count = if random.chance(if is_paper { 0.3 } else { 0.2 }) { random.between(1, 3) } else { 0 };
    let [width, height] = view.size_mm();
    for _ in 0..count {
        let (from, to) = if is_paper && random.chance(0.5) {
            ([0.0, random.within(0.05, 0.95) * height], [width, random.within(0.05, 0.95) * height])
        } else if is_paper {
            ([random.within(0.05, 0.95) * width, 0.0], [random.within(0.05, 0.95) * width, height])
        } else {
            let from = [random.within(0.0, 1.0) * width, random.within(0.0, 1.0) * height];
            (
                from,
                [0, 1].map(|axis: usize| (from[axis] + random.within(-25.0, 25.0)).clamp(0.0, [width, height][axis])),
            )
        };
        let bend = random.within(-1.5, 1.5);
        let light = random.within(0.15, 0.45) as f32;
        for (shift, rgb, opacity) in [(0.0, [30, 28, 30], light * 0.8), (0.28, [255, 255, 255], light)] {
            let mut path = PathBuilder::new();
            for step in 0..=12 {
                let share = f64::from(step) / 12.0;
                let sway = bend * (share * (1.0 - share)) * 4.0 + random.within(-0.12, 0.12) + shift;
                let at = [0, 1].map(|axis: usize| from[axis] + (to[axis] - from[axis]) * share + sway);
                let [x, y] = view.at_mm([at[0].clamp(0.0, width), at[1].clamp(0.0, height)]);
                if step == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
            }
            if let Some(path) = path.finish() {
                let thick = if is_paper { 0.35 } else { 0.15 };
                canvas.stroke(&path, ((thick * view.scale) as f32).max(0.6), Ink::thin(rgb, opacity));
            }
        }
    }
    count as u8
}

/// The pixels of a screen, whose red, green and blue parts are as wide as about one pixel of the camera: their beat is the moiré.
fn raster(frame: &mut Frame, random: &mut Random) {
    let angle = random.within(-6.0, 6.0).to_radians();
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    // Pixels of the screen to one of the camera, and how it changes along the picture.
    let pace = random.within(0.85, 1.18);
    let slope = random.within(-0.06, 0.06) / frame.width as f64;
    let [across, down] = [random.within(0.03, 0.13), random.within(0.02, 0.08)];
    let glow = random.within(6.0, 26.0) as f32;
    for y in 0..frame.height {
        for x in 0..frame.width {
            let (fx, fy) = (x as f64, y as f64);
            let bent = pace + slope * (fx + fy);
            let (u, v) = ((fx * cos + fy * sin) * bent, (fy * cos - fx * sin) * bent);
            let rows = 1.0 + down * wave(v * std::f64::consts::TAU);
            for (channel, plane) in frame.planes.iter_mut().enumerate() {
                let stripes = 1.0 + across * wave((u + channel as f64 / 3.0) * std::f64::consts::TAU);
                let value = &mut plane[y * frame.width + x];
                // A screen is never black.
                *value = (*value * 0.9 + glow) * (rows * stripes) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::barcode::{Luma, Request, Symbology, read};
    use crate::specimen::document::{Options, specimen};

    const SIZE: [u32; 2] = [480, 320];

    fn pages(kind: Kind, seed: u64) -> Vec<Page> {
        specimen(kind, seed, &Options { dpi: 96, ..Options::default() }).pages
    }

    #[test]
    fn a_seed_takes_the_same_photograph_and_another_another() {
        let page = &pages(Kind::Td1, 4)[1];
        for level in [0, 3] {
            let take = |seed| photograph(page, &Shot { seed, level, size_px: SIZE });
            let (first, again) = (take(4), take(4));
            assert!(first.jpeg == again.jpeg && first.truth == again.truth);
            assert!(first.jpeg != take(5).jpeg);
        }
    }

    #[test]
    fn the_truth_moves_with_the_page() {
        let (mut whole, mut count) = (0, 0);
        for kind in Kind::ALL {
            let page = &pages(kind, 9)[0];
            for seed in 0..6 {
                let level = (seed % 5) as u8;
                let taken = photograph(page, &Shot { seed, level, size_px: SIZE });
                let truth = &taken.truth;
                let image = taken.image();
                assert_eq!(([image.width, image.height], truth.size_px), (SIZE, SIZE));
                assert_eq!(truth.quads().count(), page.truth.quads().count());
                for (name, quad) in truth.quads() {
                    // Clockwise and convex, so that a rectangle can be mapped to it. What is a fraction of a pixel tall cannot be judged.
                    let is_small = area(quad) < 20.0;
                    assert!(
                        is_small || Perspective::from_rectangle([1.0, 1.0], quad).is_some(),
                        "{kind:?} {seed} {name}"
                    );
                    assert!(quad.iter().flatten().all(|part| part.abs() < 2000.0), "{kind:?} {seed} {name}");
                }
                let capture = truth.capture.as_ref().expect("it was photographed");
                assert!((0.2..0.95).contains(&capture.coverage), "{kind:?} {seed}: {}", capture.coverage);
                whole += u32::from(capture.corners_inside == 4);
                count += 1;
            }
        }
        assert!(whole * 100 >= count * 80, "{whole} of {count} lie in the picture whole");
    }

    #[test]
    fn the_barcode_of_a_photograph_is_where_the_truth_says() {
        let back = specimen(Kind::Licence, 5, &Options::default()).pages.remove(1);
        let mut found_any = false;
        for seed in 0..2 {
            let taken = photograph(&back, &Shot { seed, level: 1, size_px: [1600, 1000] });
            let image = taken.image();
            let green = image.rgb.iter().skip(1).step_by(3).copied().collect();
            let grey = Luma::new(image.width, image.height, green).expect("a picture");
            let wanted = Request { wanted: vec![Symbology::Pdf417], ..Request::default() };
            let truth = taken.truth.barcode.expect("a barcode");
            for code in read(&grey, &wanted, &|| false).unwrap() {
                assert_eq!(code.text, truth.text);
                let middle = |quad: &[[f64; 2]; 4]| {
                    [0, 1].map(|axis: usize| quad.iter().map(|corner| corner[axis]).sum::<f64>() / 4.0)
                };
                let found = middle(&code.quad.map(|corner| corner.map(f64::from)));
                assert!(distance(found, middle(&truth.quad)) < 25.0, "{seed}");
                found_any = true;
            }
        }
        assert!(found_any);
    }

    #[test]
    fn round_corners_show_what_lies_below() {
        let one = |rgb: [u8; 3], width, height| {
            Image::build(width, height, |bytes| bytes.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&rgb)))
        };
        let (red, blue) = (one([200, 0, 0], 100, 60), one([0, 0, 200], 300, 200));
        let quad = [[50.0, 40.0], [250.0, 40.0], [250.0, 160.0], [50.0, 160.0]];
        let placed = place(&red, 10.0, &quad, &blue).expect("convex");
        for (at, expected) in [
            ([52, 42], 2),
            ([247, 157], 2),
            ([58, 48], 0),
            ([150, 41], 0),
            ([51, 100], 0),
            ([48, 100], 2),
            ([150, 161], 2),
        ] {
            assert_eq!(placed.pixel(at[0], at[1])[expected], 200, "{at:?}");
        }
        let crossed = [quad[0], quad[2], quad[1], quad[3]];
        assert!(place(&red, 0.0, &crossed, &blue).is_none());
    }

    #[test]
    fn the_visible_part_of_a_document_is_measured() {
        let quad = [[-50.0, 20.0], [50.0, 20.0], [50.0, 60.0], [-50.0, 60.0]];
        assert!((visible_area(&quad, [100, 100]) - 2000.0).abs() < 1e-9);
        assert!((visible_area(&quad, [30, 40]) - 600.0).abs() < 1e-9);
    }
}
