//! What lies about a document in a photograph: papers, pens, cables, keys, coins; the fingers that hold it; the screen that shows it.
//!
//! Called by `photograph` before and after the document is laid into the scene. Everything is measured in pixels of the scene, at the
//! scale of the document. Left out: depth (all things lie in the plane of the document, seen from above).

use tiny_skia::{Path, PathBuilder};

use super::View;
use crate::document::locate::Quad;
use crate::imaging::Image;
use crate::specimen::canvas::{Canvas, Gradient, Ink, Lettering};
use crate::specimen::document::security::{emblem, polygon, rounded};
use crate::specimen::font::Font;
use crate::specimen::person::STATES;
use crate::specimen::random::Random;
use crate::specimen::truth::PageTruth;

type Rgb = [u8; 3];

/// Millimetres of a thing to pixels of the scene.
#[derive(Clone, Copy)]
struct Spot {
    middle: [f32; 2],
    sin: f32,
    cos: f32,
    scale: f32,
}

impl Spot {
    fn any(canvas: &Canvas, scale: f64, random: &mut Random) -> Self {
        let [width, height] = canvas.size_mm();
        let middle = [width * random.within(-0.05, 1.05) as f32, height * random.within(-0.05, 1.05) as f32];
        Self::at(middle, scale, random.within(0.0, std::f64::consts::TAU))
    }

    fn at(middle: [f32; 2], scale: f64, angle: f64) -> Self {
        Self { middle, sin: libm::sin(angle) as f32, cos: libm::cos(angle) as f32, scale: scale as f32 }
    }

    fn place(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [x, y] = [x * self.scale, y * self.scale];
        [self.middle[0] + x * self.cos - y * self.sin, self.middle[1] + x * self.sin + y * self.cos]
    }

    fn polygon(&self, corners: &[[f32; 2]]) -> Option<Path> {
        let mut path = PathBuilder::new();
        polygon(&mut path, &corners.iter().map(|corner| self.place(*corner)).collect::<Vec<_>>());
        path.finish()
    }

    fn turned(&self, path: Path) -> Option<Path> {
        let (s, c) = (self.sin * self.scale, self.cos * self.scale);
        path.transform(tiny_skia::Transform::from_row(c, s, -s, c, self.middle[0], self.middle[1]))
    }
}

fn shade(rgb: Rgb, factor: f32) -> Rgb {
    rgb.map(|value| (f32::from(value) * factor).clamp(0.0, 255.0) as u8)
}

/// The soft shadow beside something flat with this outline.
pub fn drop_shadow(canvas: &mut Canvas, outline: &[[f32; 2]], scale: f64, random: &mut Random) {
    let height = (random.within(0.5, 2.6) * scale) as f32;
    let angle = random.within(0.0, std::f64::consts::TAU);
    let [dx, dy] = [libm::cos(angle) as f32 * height * 0.7, libm::sin(angle) as f32 * height * 0.7];
    let mut path = PathBuilder::new();
    polygon(&mut path, &outline.iter().map(|[x, y]| [x + dx, y + dy]).collect::<Vec<_>>());
    if let Some(path) = path.finish() {
        soft(canvas, &path, height, random.within(0.25, 0.55) as f32);
    }
}

/// Darkens along a closed line, less and less outwards.
fn soft(canvas: &mut Canvas, path: &Path, width: f32, strength: f32) {
    const STEPS: usize = 6;
    let ink = Ink::thin([0, 0, 0], strength / STEPS as f32);
    canvas.fill(path, Ink::thin([0, 0, 0], strength));
    for step in 1..=STEPS {
        canvas.stroke(path, 2.0 * width * step as f32 / STEPS as f32, ink);
    }
}

/// A few things, more of them at higher levels.
pub fn clutter(canvas: &mut Canvas, scale: f64, level: u8, random: &mut Random) {
    if random.chance(0.35) {
        return;
    }
    let most = 1 + u32::from(level);
    for _ in 0..random.between(1, most) {
        match random.below(6) {
            0 | 1 => paper(canvas, scale, random),
            2 => pen(canvas, scale, random),
            3 => cable(canvas, scale, random),
            4 => keys(canvas, scale, random),
            _ => coin(canvas, scale, random),
        }
    }
}

/// A sheet with some lines of text, or with none.
fn paper(canvas: &mut Canvas, scale: f64, random: &mut Random) {
    const WORDS: [&str; 16] = [
        "and",
        "the order of",
        "14 May",
        "please call",
        "invoice",
        "total",
        "milk",
        "bread",
        "1.99",
        "to whom",
        "meeting",
        "page 2",
        "thank you",
        "notes",
        "No. 204",
        "remember",
    ];
    let spot = Spot::any(canvas, scale, random);
    let [w, h]: [f32; 2] = [[210.0, 297.0], [148.0, 210.0], [76.0, 76.0], [80.0, 160.0]][random.below(4)];
    let paper: Rgb = match random.below(4) {
        0 => [250, 236, 150],
        1 => [226, 236, 240],
        _ => [244, 243, 238],
    };
    let corners = [[-w, -h], [w, -h], [w, h], [-w, h]].map(|[x, y]| [x / 2.0, y / 2.0]);
    let Some(sheet) = spot.polygon(&corners) else { return };
    soft(canvas, &sheet, 1.2 * scale as f32, 0.35);
    let inks = [Ink::solid(paper), Ink::solid(shade(paper, random.within(0.82, 1.0) as f32))];
    canvas.fill_graded(&sheet, &Gradient { from: spot.place(corners[0]), to: spot.place(corners[2]), inks: &inks });
    if random.chance(0.2) {
        return;
    }
    let size = random.within(2.6, 5.0) as f32;
    let angle_deg = libm::atan2(f64::from(spot.sin), f64::from(spot.cos)).to_degrees() as f32;
    let ink = Ink::thin([40, 42, 60], random.within(0.6, 0.95) as f32);
    let rows = ((h - 24.0) / (size * 1.7)).min(26.0) as usize;
    for row in 0..rows {
        if random.chance(0.15) {
            continue;
        }
        let lettering = Lettering { font: Font::text(), size_mm: size * spot.scale, ink };
        let mut along = 12.0;
        let end = w - random.within(12.0, f64::from(w) * 0.5) as f32;
        while along < end {
            let at = spot.place([along - w / 2.0, 14.0 + size * 1.7 * row as f32 - h / 2.0]);
            let length = canvas.slanted_text(random.pick(&WORDS), at, angle_deg, lettering);
            along += length / spot.scale + size * 0.3;
        }
    }
}

fn pen(canvas: &mut Canvas, scale: f64, random: &mut Random) {
    let spot = Spot::any(canvas, scale, random);
    let colours: [Rgb; 6] =
        [[30, 40, 110], [24, 24, 26], [180, 40, 40], [220, 200, 60], [200, 204, 210], [40, 110, 80]];
    let colour = colours[random.below(colours.len())];
    let (half, thick) = (random.within(62.0, 75.0) as f32, random.within(3.2, 5.0) as f32);
    let tip = half + 12.0;
    let Some(body) =
        spot.polygon(&[[-half, -thick], [half, -thick], [tip, -0.6], [tip, 0.6], [half, thick], [-half, thick]])
    else {
        return;
    };
    soft(canvas, &body, 2.2 * scale as f32, 0.4);
    let inks =
        [shade(colour, 0.55), shade(colour, 1.1), shade(colour, 1.6), colour, shade(colour, 0.4)].map(Ink::solid);
    canvas.fill_graded(&body, &Gradient { from: spot.place([0.0, -thick]), to: spot.place([0.0, thick]), inks: &inks });
    if let Some(clip) =
        spot.polygon(&[[-half + 4.0, -1.0], [-half + 42.0, -0.8], [-half + 42.0, 0.8], [-half + 4.0, 1.0]])
    {
        canvas.fill(&clip, Ink::solid([206, 208, 212]));
    }
    if let Some(ring) =
        spot.polygon(&[[half - 32.0, -thick], [half - 29.0, -thick], [half - 29.0, thick], [half - 32.0, thick]])
    {
        canvas.fill(&ring, Ink::thin([220, 222, 226], 0.85));
    }
}

fn cable(canvas: &mut Canvas, scale: f64, random: &mut Random) {
    let [width, height] = canvas.size_mm();
    // In over one border, out over another.
    let side = random.below(4);
    let mut beyond = |side: usize| {
        let share = random.within(0.0, 1.0) as f32;
        match side % 4 {
            0 => [share * width, -0.1 * height],
            1 => [1.1 * width, share * height],
            2 => [share * width, 1.1 * height],
            _ => [-0.1 * width, share * height],
        }
    };
    let (from, to) = (beyond(side), beyond(side + 1));
    let mut point = || [width * random.within(-0.1, 1.1) as f32, height * random.within(-0.1, 1.1) as f32];
    let [a, b, middle] = [(); 3].map(|()| point());
    let mut path = PathBuilder::new();
    path.move_to(from[0], from[1]);
    // The handles on both sides of the middle lie on one line, so that no kink is seen.
    let [dx, dy] = [(to[0] - from[0]) * 0.25, (to[1] - from[1]) * 0.25];
    path.cubic_to(a[0], a[1], middle[0] - dx, middle[1] - dy, middle[0], middle[1]);
    path.cubic_to(middle[0] + dx, middle[1] + dy, b[0], b[1], to[0], to[1]);
    let Some(path) = path.finish() else { return };
    let rgb: Rgb = if random.chance(0.6) { [28, 28, 30] } else { [226, 226, 224] };
    let thick = (random.within(2.8, 5.0) * scale) as f32;
    for step in 1..=4 {
        canvas.stroke(&path, thick * (1.0 + 0.3 * step as f32), Ink::thin([0, 0, 0], 0.08));
    }
    for (share, factor) in [(1.0, 0.75), (0.7, 1.0), (0.3, 1.35)] {
        canvas.stroke(&path, thick * share, Ink::solid(shade(rgb, factor)));
    }
}

/// A part of a keyboard.
fn keys(canvas: &mut Canvas, scale: f64, random: &mut Random) {
    let [width, height] = canvas.size_mm();
    let at = [width * random.within(0.0, 1.0) as f32, if random.chance(0.7) { 0.0 } else { height }];
    let spot = Spot::at(at, scale, random.within(-0.25, 0.25));
    let is_dark = random.chance(0.6);
    let (board, key, ink): (Rgb, Rgb, Rgb) = if is_dark {
        ([22, 22, 24], [48, 49, 52], [210, 210, 210])
    } else {
        ([196, 198, 202], [240, 241, 243], [70, 70, 76])
    };
    if let Some(body) = rounded([-140.0, -55.0, 280.0, 110.0], 6.0).and_then(|path| spot.turned(path)) {
        soft(canvas, &body, 3.0 * scale as f32, 0.4);
        canvas.fill(&body, Ink::solid(board));
    }
    let angle_deg = libm::atan2(f64::from(spot.sin), f64::from(spot.cos)).to_degrees() as f32;
    for row in 0..5 {
        for column in 0..14 {
            let (x, y) = (-136.0 + 19.2 * column as f32 + 2.5 * row as f32, -50.0 + 19.6 * row as f32);
            if x > 120.0 {
                continue;
            }
            if let Some(cap) = rounded([x, y, 17.0, 17.0], 2.0).and_then(|path| spot.turned(path)) {
                canvas.fill(&cap, Ink::solid(key));
                canvas.stroke(&cap, (0.3 * scale) as f32, Ink::thin(shade(key, 1.25), 0.6));
            }
            let letter = random.character("QWERTZUIOPASDFGHJKLYXCVBNM1234567890");
            let lettering = Lettering { font: Font::text(), size_mm: 5.0 * spot.scale, ink: Ink::solid(ink) };
            canvas.slanted_text(&letter.to_string(), spot.place([x + 3.0, y + 7.5]), angle_deg, lettering);
        }
    }
}

fn coin(canvas: &mut Canvas, scale: f64, random: &mut Random) {
    let spot = Spot::any(canvas, scale, random);
    let radius = random.within(8.0, 13.0) as f32 * spot.scale;
    let metal: Rgb = [[196, 168, 92], [186, 188, 192], [176, 112, 76]][random.below(3)];
    let [x, y] = spot.middle;
    for (share, factor) in [(1.0, 0.75), (0.95, 1.08), (0.84, 0.9)] {
        if let Some(disc) = PathBuilder::from_circle(x, y, radius * share) {
            if share == 1.0 {
                soft(canvas, &disc, 1.2 * spot.scale, 0.35);
            }
            canvas.fill(&disc, Ink::solid(shade(metal, factor)));
        }
    }
    emblem(canvas, spot.middle, radius * 0.7, &STATES[random.below(STATES.len())], Ink::thin(shade(metal, 0.6), 0.8));
    canvas.glow([x - radius * 0.3, y - radius * 0.35], [radius * 0.6; 2], Ink::thin([255, 255, 250], 0.35));
}

/// The mark of a border post.
pub fn stamp(canvas: &mut Canvas, view: &View, middle_mm: [f64; 2], random: &mut Random) {
    let [x, y] = view.at_mm(middle_mm);
    let spot = Spot::at([x, y], view.scale, random.within(-0.6, 0.6));
    let rgb: Rgb = [[60, 60, 150], [150, 50, 60], [40, 110, 70]][random.below(3)];
    let ink = Ink::thin(rgb, 0.5);
    if let Some(frame) = rounded([-19.0, -13.0, 38.0, 26.0], 4.0).and_then(|path| spot.turned(path)) {
        canvas.stroke(&frame, 0.8 * spot.scale, ink);
    }
    let angle_deg = libm::atan2(f64::from(spot.sin), f64::from(spot.cos)).to_degrees() as f32;
    let day = format!("{:02} {:02} 20{:02}", random.between(1, 28), random.between(1, 12), random.between(19, 29));
    for (row, text) in ["SPECIMEN", day.as_str(), "BORDER POST"].into_iter().enumerate() {
        let lettering = Lettering { font: Font::bold(), size_mm: 5.0 * spot.scale, ink };
        canvas.slanted_text(text, spot.place([-14.0, -4.5 + 7.0 * row as f32]), angle_deg, lettering);
    }
}

/// One or two fingertips on the border of the document, where nothing is covered that a reader needs. Returns how many.
pub fn fingers(canvas: &mut Canvas, truth: &PageTruth, view: &View, random: &mut Random) -> u8 {
    const SKINS: [Rgb; 6] =
        [[240, 200, 172], [226, 178, 146], [204, 150, 114], [170, 116, 82], [128, 84, 60], [94, 62, 46]];
    let skin = SKINS[random.below(SKINS.len())];
    let wanted = random.between(1, 2);
    let [width, height] = view.size_mm();
    let mut drawn = 0;
    for _ in 0..10 {
        if drawn >= wanted {
            break;
        }
        let thick = random.within(14.0, 19.0);
        let depth = random.within(3.0, 11.0);
        let along = random.within(0.06, 0.94);
        // The tip, and the way out over the nearest border.
        let (tip, out) = match random.below(4) {
            0 => ([along * width, depth], [0.0, -1.0]),
            1 => ([width - depth, along * height], [1.0, 0.0]),
            2 => ([along * width, height - depth], [0.0, 1.0]),
            _ => ([depth, along * height], [-1.0, 0.0]),
        };
        let reach = thick / 2.0 + 0.8;
        let bounds = [tip[0] - reach, tip[1] - reach, tip[0] + reach, tip[1] + reach];
        let hides = |quad: &Quad| {
            let [left, top, right, bottom] =
                quad.iter().fold([f64::MAX, f64::MAX, f64::MIN, f64::MIN], |all, corner| {
                    let [x, y] = corner.map(|part| part / view.px_per_mm);
                    [all[0].min(x), all[1].min(y), all[2].max(x), all[3].max(y)]
                });
            // The finger covers all from the tip outwards.
            let [from_x, to_x] = [bounds[0] + 200.0 * f64::min(out[0], 0.0), bounds[2] + 200.0 * f64::max(out[0], 0.0)];
            let [from_y, to_y] = [bounds[1] + 200.0 * f64::min(out[1], 0.0), bounds[3] + 200.0 * f64::max(out[1], 0.0)];
            left < to_x && right > from_x && top < to_y && bottom > from_y
        };
        let is_free =
            truth.quads().filter(|(name, _)| !matches!(*name, "document" | "portrait")).all(|(_, quad)| !hides(quad));
        if is_free && finger(canvas, view, tip, out, thick, skin, random) {
            drawn += 1;
        }
    }
    drawn as u8
}

/// Draws one, and says whether it did.
fn finger(
    canvas: &mut Canvas,
    view: &View,
    tip: [f64; 2],
    out: [f64; 2],
    thick: f64,
    skin: Rgb,
    random: &mut Random,
) -> bool {
    let lean = random.within(-0.3, 0.3);
    let way = [out[0] - out[1] * lean, out[1] + out[0] * lean];
    // The round end of the stroke is the fingertip: its middle lies half the thickness behind.
    let near = view.at_mm([0, 1].map(|axis: usize| tip[axis] + way[axis] * thick * 0.4));
    let far = view.at_mm([0, 1].map(|axis: usize| tip[axis] + way[axis] * 34.0));
    let [dx, dy] = [far[0] - near[0], far[1] - near[1]];
    let length = (dx * dx + dy * dy).sqrt().max(1e-3);
    let [ux, uy] = [dx / length, dy / length];
    // Straight on out of the picture, whatever the perspective would do.
    let [width, height] = canvas.size_mm();
    let end = width + height;
    // A finger ends in a hand: where that would be in the picture, there is none.
    let wrist = [near[0] + ux * 75.0 * view.scale as f32, near[1] + uy * 75.0 * view.scale as f32];
    if (0.0..=width).contains(&wrist[0]) && (0.0..=height).contains(&wrist[1]) {
        return false;
    }
    let thick = (thick * view.scale) as f32;
    let from = |back: f32, side: f32| [near[0] + ux * back - uy * side, near[1] + uy * back + ux * side];
    let stroke = |canvas: &mut Canvas, share: f32, side: f32, ink: Ink| {
        let (start, stop) = (from(0.0, side * thick), from(end, side * thick));
        let mut path = PathBuilder::new();
        path.move_to(start[0], start[1]);
        path.line_to(stop[0], stop[1]);
        if let Some(path) = path.finish() {
            canvas.stroke(&path, thick * share, ink);
        }
    };
    for step in 1..=5 {
        stroke(canvas, 1.0 + 0.09 * step as f32, 0.03, Ink::thin([0, 0, 0], 0.07));
    }
    // Round: darker towards both sides, the light a little to the left.
    const BANDS: u8 = 12;
    for band in 0..BANDS {
        let inward = f32::from(band) / f32::from(BANDS - 1);
        let light = 0.66 + 0.4 * (1.0 - (1.0 - inward) * (1.0 - inward));
        stroke(canvas, 1.0 - 0.86 * inward, -0.07 * inward, Ink::solid(shade(skin, light)));
    }
    let [tx, ty] = from(-thick * 0.12, 0.0);
    canvas.glow([tx, ty], [thick * 0.42; 2], Ink::thin([226, 110, 96], 0.22));
    for crease in [1.35, 1.45, 1.52] {
        let ([ax, ay], [bx, by], [cx, cy]) = (
            from(thick * crease, -0.36 * thick),
            from(thick * (crease + 0.05), 0.0),
            from(thick * crease, 0.34 * thick),
        );
        let mut path = PathBuilder::new();
        path.move_to(ax, ay);
        path.quad_to(bx, by, cx, cy);
        if let Some(path) = path.finish() {
            canvas.stroke(&path, thick * 0.018, Ink::thin(shade(skin, 0.55), 0.5));
        }
    }
    if random.chance(0.75) {
        // The nail, drawn upright and turned.
        let (w, h) = (0.56, 0.62);
        let angle = libm::atan2(f64::from(uy), f64::from(ux)) - std::f64::consts::FRAC_PI_2;
        let mut spot = Spot::at(from(-thick * 0.08, 0.0), 1.0, angle);
        spot.scale = thick;
        let nail = rounded([-w / 2.0, -h / 2.0, w, h], 0.24).and_then(|path| spot.turned(path));
        if let Some(nail) = nail {
            let pink =
                [f32::from(skin[0]) * 0.6 + 98.0, f32::from(skin[1]) * 0.62 + 68.0, f32::from(skin[2]) * 0.62 + 66.0];
            let pink = pink.map(|value| value.min(250.0) as u8);
            let inks = [shade(pink, 1.06), pink, shade(pink, 0.93)].map(Ink::solid);
            let gradient = Gradient { from: spot.place([-w / 2.0, 0.0]), to: spot.place([w / 2.0, 0.0]), inks: &inks };
            canvas.fill_graded(&nail, &gradient);
            canvas.stroke(&nail, thick * 0.02, Ink::thin(shade(skin, 0.6), 0.5));
        }
        let [gx, gy] = spot.place([-0.1, -0.05]);
        canvas.glow([gx, gy], [thick * 0.1, thick * 0.16], Ink::thin([255, 255, 255], 0.4));
    }
    true
}

/// A screen with a window in which the document is shown: what is seen around it.
pub fn screen(size: [u32; 2], view: &View, random: &mut Random) -> Image {
    let is_dark = random.chance(0.4);
    let (ground, bar, ink): (Rgb, Rgb, Rgb) = if is_dark {
        ([30, 31, 34], [52, 54, 60], [200, 200, 204])
    } else {
        ([236, 237, 240], [214, 217, 222], [60, 62, 68])
    };
    let [width, height] = size.map(|side| side as f32);
    let mut canvas = Canvas::new([width, height], 1.0, ground);
    let [page_width, page_height] = view.size_mm();
    let spread = |corners: [[f64; 2]; 4], canvas: &mut Canvas, rgb: Rgb| {
        let mut path = PathBuilder::new();
        polygon(&mut path, &corners.map(|corner| view.at_mm(corner)));
        if let Some(path) = path.finish() {
            canvas.fill(&path, Ink::solid(rgb));
        }
    };
    let gap = random.within(3.0, 12.0);
    let (left, right, top) = (-page_width * 0.3, page_width * 1.3, -gap - 9.0);
    spread([[left, top], [right, top], [right, top + 7.0], [left, top + 7.0]], &mut canvas, bar);
    let below = page_height + gap;
    spread([[left, below], [right, below], [right, below + 5.0], [left, below + 5.0]], &mut canvas, bar);
    let [x, y] = view.at_mm([left + page_width * 0.35, top + 5.0]);
    let [x2, y2] = view.at_mm([left + page_width * 0.35 + 10.0, top + 5.0]);
    let angle_deg = libm::atan2(f64::from(y2 - y), f64::from(x2 - x)).to_degrees() as f32;
    let lettering = Lettering { font: Font::text(), size_mm: 3.6 * view.scale as f32, ink: Ink::solid(ink) };
    canvas.slanted_text("scan_0001.jpg – 100 %   File   Edit   View   Help", [x, y], angle_deg, lettering);
    canvas.into_image()
}
