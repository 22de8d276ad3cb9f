//! What security printers lay under the text of a document: fine lines, rosettes, relief, tiny text, colours that run into each other.
//!
//! Called by the pages. Every motif is made of sums of waves with numbers from the seed, and the emblems are of four States that do not
//! exist, so that no page can look like that of an existing one. Left out: what cannot be seen in a picture (ultraviolet and infrared
//! ink, relief that is felt), and holograms that change with the angle.

use std::f64::consts::TAU;

use tiny_skia::{Path, PathBuilder, Rect};

use crate::specimen::canvas::{Canvas, Gradient, Ink, Lettering};
use crate::specimen::font::Font;
use crate::specimen::person::State;
use crate::specimen::random::Random;
use crate::specimen::texture::Texture;

/// A rectangle: left, top, width, height in millimetres.
pub type Area = [f32; 4];

/// Width of a fine line. Below a pixel at 300 dpi it becomes fainter, not narrower, as in a scan.
const FINE_MM: f32 = 0.07;

/// Fills an area with the print of a State.
pub fn background(canvas: &mut Canvas, area: Area, state: &State, random: &mut Random) {
    let [x, y, width, height] = area;
    let [first, second] = state.print;
    let (from, to) = ([x, y], [x + width, y + height * random.within(-0.3, 0.6) as f32]);
    let wash = [(first, 0.30), (state.paper, 0.35), (second, 0.26)].map(|(rgb, opacity)| Ink::thin(rgb, opacity));
    if let Some(rectangle) = Rect::from_xywh(x, y, width, height) {
        canvas.fill_graded(&PathBuilder::from_rect(rectangle), &Gradient { from, to, inks: &wash });
    }
    let lines = [(second, 0.55), (first, 0.60), (second, 0.50)].map(|(rgb, opacity)| Ink::thin(rgb, opacity));
    let iris = Gradient { from, to, inks: &lines };
    let medallion = [x + width * random.within(0.52, 0.74) as f32, y + height * random.within(0.4, 0.6) as f32];
    relief(canvas, area, medallion, height * random.within(0.26, 0.36) as f32, &iris, random);
    let bands = random.between(1, 3);
    for band in 0..bands {
        let inks = [(first, 0.5), (second, 0.55), (first, 0.45)].map(|(rgb, opacity)| Ink::thin(rgb, opacity));
        let share = (f64::from(band) + random.within(0.25, 0.75)) / f64::from(bands);
        let middle = y + height * share as f32;
        guilloche(canvas, area, middle, &Gradient { from: to, to: from, inks: &inks }, random);
    }
    for _ in 0..random.between(1, 2) {
        let radius = height * random.within(0.14, 0.26) as f32;
        let centre = [x + width * random.within(0.05, 0.95) as f32, y + height * random.within(0.15, 0.85) as f32];
        rosette(canvas, centre, radius, Ink::thin(first, 0.5), random);
    }
    emblem(canvas, medallion, height * 0.2, state, Ink::thin(second, 0.3));
}

/// Paper or plastic is never even.
pub fn grain(canvas: &mut Canvas, random: &mut Random) {
    let cell = f64::from(canvas.px_per_mm()) * 14.0;
    let cloud = Texture::hills(canvas.size_px(), [cell, cell], random);
    canvas.tint(&cloud, [0.9, 0.8, 0.9]);
}

/// Fine lines from side to side which rise around a medallion, so that it seems embossed.
fn relief(canvas: &mut Canvas, area: Area, centre: [f32; 2], radius: f32, iris: &Gradient, random: &mut Random) {
    let [x, y, width, height] = area.map(f64::from);
    let [centre, radius] = [centre.map(f64::from), [f64::from(radius); 2]];
    let pitch = random.within(0.62, 0.85);
    let petals = f64::from(random.between(5, 12));
    let (length, swing) = (random.within(14.0, 40.0), random.within(0.4, 1.6));
    let phase = random.within(0.0, TAU);
    let mut path = PathBuilder::new();
    let steps = (width / 0.7) as usize;
    for line in 0..(height / pitch) as usize {
        let base = y + (line as f64 + 0.5) * pitch;
        for step in 0..=steps {
            let along = width * step as f64 / steps as f64;
            let wave = swing * libm::sin(along / length * TAU + phase + base * 0.05);
            let (dx, dy) = (x + along - centre[0], base - centre[1]);
            let distance = (dx * dx + dy * dy).sqrt() / radius[0];
            let lift = if distance < 1.0 {
                let flower = 0.55 + 0.45 * libm::cos(petals * libm::atan2(dy, dx));
                1.5 * pitch * (1.0 - distance) * (3.0 * distance).min(1.0) * flower
            } else {
                0.0
            };
            let [px, py] = [(x + along) as f32, (base + wave - lift).clamp(y, y + height) as f32];
            if step == 0 { path.move_to(px, py) } else { path.line_to(px, py) }
        }
    }
    if let Some(path) = path.finish() {
        canvas.stroke_graded(&path, FINE_MM, iris);
    }
}

/// A band of waves that share their nodes, from side to side.
fn guilloche(canvas: &mut Canvas, area: Area, middle: f32, iris: &Gradient, random: &mut Random) {
    let [x, y, width, height] = area.map(f64::from);
    let count = random.between(14, 30);
    let long = random.within(0.6, 2.2) * TAU / width;
    let short = long * f64::from(random.between(3, 9));
    let (swing, depth) = (height * random.within(0.03, 0.12), height * random.within(0.04, 0.13));
    let [a, b] = [random.within(0.0, TAU), random.within(0.0, TAU)];
    let spread = random.within(0.4, 1.0) * TAU / 2.0;
    let mut path = PathBuilder::new();
    let steps = (width / 0.45) as usize;
    for line in 0..count {
        let phase = spread * f64::from(line) / f64::from(count);
        for step in 0..=steps {
            let along = width * step as f64 / steps as f64;
            let spine = f64::from(middle) + swing * libm::sin(long * along + a);
            let envelope = depth * (0.55 + 0.45 * libm::cos(long * 2.0 * along + b));
            let at = spine
                + envelope * libm::sin(short * along + phase)
                + depth * 0.5 * libm::sin(phase * 2.0 + long * along);
            let [px, py] = [(x + along) as f32, at.clamp(y, y + height) as f32];
            if step == 0 { path.move_to(px, py) } else { path.line_to(px, py) }
        }
    }
    if let Some(path) = path.finish() {
        canvas.stroke_graded(&path, FINE_MM, iris);
    }
}

/// Closed waves around a point.
pub fn rosette(canvas: &mut Canvas, [x, y]: [f32; 2], radius: f32, ink: Ink, random: &mut Random) {
    let (petals, inner) = (f64::from(random.between(6, 16)), f64::from(random.between(2, 5)));
    let count = random.between(8, 16);
    let depth = random.within(0.12, 0.3);
    let mut path = PathBuilder::new();
    for line in 0..count {
        let share = f64::from(line) / f64::from(count);
        let steps = 260;
        for step in 0..steps {
            let angle = TAU * f64::from(step) / f64::from(steps);
            let swing = depth * libm::cos(petals * angle + share * TAU) + 0.12 * libm::cos(inner * angle - share * TAU);
            let distance = f64::from(radius) * (0.28 + 0.72 * (0.45 + 0.55 * share)) * (0.72 + swing);
            let [px, py] = [distance * libm::cos(angle), distance * libm::sin(angle)].map(|part| part as f32);
            if step == 0 { path.move_to(x + px, y + py) } else { path.line_to(x + px, y + py) }
        }
        path.close();
    }
    if let Some(path) = path.finish() {
        canvas.stroke(&path, FINE_MM, ink);
    }
}

/// A line of words too small for a copier.
pub fn microtext(canvas: &mut Canvas, words: &str, from: [f32; 2], length: f32, ink: Ink) {
    let lettering = Lettering { font: Font::text(), size_mm: 0.55, ink };
    let word = Font::text().length(words) * lettering.size_mm;
    let mut along = 0.0;
    while along + word <= length && word > 0.0 {
        along += canvas.text(words, [from[0] + along, from[1]], lettering) + 0.2;
    }
}

/// The mark of one of our States in a ring of rope.
pub fn emblem(canvas: &mut Canvas, centre: [f32; 2], radius: f32, state: &State, ink: Ink) {
    let at = |[u, v]: [f32; 2]| [centre[0] + u * radius, centre[1] + v * radius];
    for share in [1.0, 0.93, 0.8] {
        if let Some(circle) = PathBuilder::from_circle(centre[0], centre[1], radius * share) {
            canvas.stroke(&circle, radius * 0.025, ink);
        }
    }
    let mut beads = PathBuilder::new();
    for bead in 0..36 {
        let angle = TAU * f64::from(bead) / 36.0;
        let [u, v] = [libm::cos(angle) as f32, libm::sin(angle) as f32].map(|part| part * 0.865);
        let [x, y] = at([u, v]);
        beads.push_circle(x, y, radius * 0.035);
    }
    fill(canvas, beads, ink);
    let mut figure = PathBuilder::new();
    match state.code {
        // The sun over the sea.
        "UTO" => {
            star(&mut figure, at([0.0, -0.05]), radius * 0.42, 16, 0.62);
            fill(canvas, figure, ink);
            for row in 0..3 {
                let mut sea = PathBuilder::new();
                let v = 0.28 + 0.13 * row as f32;
                for step in 0..=40 {
                    let u = -0.55 + 1.1 * step as f32 / 40.0;
                    let [x, y] = at([u, v + 0.045 * libm::sin(f64::from(u) * 17.0) as f32]);
                    if step == 0 { sea.move_to(x, y) } else { sea.line_to(x, y) }
                }
                if let Some(sea) = sea.finish() {
                    canvas.stroke(&sea, radius * 0.045, ink);
                }
            }
        }
        // A tree.
        "XQA" => {
            for [u, v, r] in [[0.0, -0.3, 0.3], [-0.27, -0.05, 0.25], [0.27, -0.05, 0.25], [0.0, 0.0, 0.22]] {
                let [x, y] = at([u, v]);
                figure.push_circle(x, y, radius * r);
            }
            polygon(&mut figure, &[[-0.07, 0.1], [0.07, 0.1], [0.13, 0.6], [-0.13, 0.6]].map(at));
            fill(canvas, figure, ink);
        }
        // Mountains and a star.
        "XQB" => {
            polygon(&mut figure, &[[-0.6, 0.4], [-0.22, -0.2], [0.0, 0.1], [0.22, -0.1], [0.6, 0.4]].map(at));
            star(&mut figure, at([0.2, -0.45]), radius * 0.2, 6, 0.45);
            fill(canvas, figure, ink);
        }
        // An island in the air.
        _ => {
            polygon(&mut figure, &[[-0.55, 0.05], [0.55, 0.05], [0.3, 0.28], [0.05, 0.5], [-0.25, 0.3]].map(at));
            polygon(&mut figure, &[[-0.12, 0.0], [-0.12, -0.35], [0.0, -0.52], [0.12, -0.35], [0.12, 0.0]].map(at));
            star(&mut figure, at([-0.42, -0.3]), radius * 0.12, 5, 0.42);
            star(&mut figure, at([0.42, -0.3]), radius * 0.12, 5, 0.42);
            fill(canvas, figure, ink);
        }
    }
}

/// A thin film over the print: a rosette in the colours of a rainbow.
pub fn film(canvas: &mut Canvas, centre: [f32; 2], radius: f32, random: &mut Random) {
    canvas.glow(centre, [radius * 1.3; 2], Ink::thin([250, 252, 255], random.within(0.25, 0.5) as f32));
    let colours: [[u8; 3]; 4] = [[240, 120, 160], [250, 220, 130], [120, 220, 190], [130, 160, 250]];
    let first = random.below(4);
    for (ring, share) in [1.0, 0.78, 0.55, 0.34].into_iter().enumerate() {
        let ink = Ink::thin(colours[(first + ring) % 4], 0.55);
        rosette(canvas, centre, radius * share, ink, random);
    }
}

pub fn polygon(path: &mut PathBuilder, corners: &[[f32; 2]]) {
    for (index, [x, y]) in corners.iter().copied().enumerate() {
        if index == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path.close();
}

fn star(path: &mut PathBuilder, [x, y]: [f32; 2], radius: f32, points: u32, waist: f32) {
    let corners: Vec<[f32; 2]> = (0..2 * points)
        .map(|corner| {
            let angle = TAU * (f64::from(corner) / f64::from(2 * points) - 0.25);
            let distance = if corner % 2 == 0 { radius } else { radius * waist };
            [x + distance * libm::cos(angle) as f32, y + distance * libm::sin(angle) as f32]
        })
        .collect();
    polygon(path, &corners);
}

pub fn fill(canvas: &mut Canvas, path: PathBuilder, ink: Ink) {
    if let Some(path) = path.finish() {
        canvas.fill(&path, ink);
    }
}

/// A rectangle with round corners.
pub fn rounded([x, y, width, height]: Area, radius: f32) -> Option<Path> {
    // A quarter circle is nearly a cubic curve whose handles have this share of the radius.
    let handle = radius * 0.552_285;
    let (right, bottom) = (x + width, y + height);
    let mut path = PathBuilder::new();
    path.move_to(x + radius, y);
    path.line_to(right - radius, y);
    path.cubic_to(right - radius + handle, y, right, y + radius - handle, right, y + radius);
    path.line_to(right, bottom - radius);
    path.cubic_to(right, bottom - radius + handle, right - radius + handle, bottom, right - radius, bottom);
    path.line_to(x + radius, bottom);
    path.cubic_to(x + radius - handle, bottom, x, bottom - radius + handle, x, bottom - radius);
    path.line_to(x, y + radius);
    path.cubic_to(x, y + radius - handle, x + radius - handle, y, x + radius, y);
    path.close();
    path.finish()
}
