//! A drawn head and shoulders, in the place of a photograph.
//!
//! Called by the pages when no picture is given. Proportions follow what ICAO Doc 9303 part 3 section 3.9 asks of a portrait (width to
//! height as 35 to 45, the head two thirds to four fifths of the height, eyes level), so that what looks for a face may find one. It is
//! plainly a drawing: nobody is shown. Left out: ages beyond grey hair and a few lines, and expressions.

use tiny_skia::{PathBuilder, Rect};

use super::security::{fill, polygon};
use crate::document::mrz::Sex;
use crate::imaging::Image;
use crate::specimen::canvas::{Canvas, Gradient, Ink};
use crate::specimen::random::Random;

/// Width and height, in the units of the drawing.
pub const SIZE: [f32; 2] = [35.0, 45.0];

/// The middle of the face.
const CENTRE: f32 = 17.5;

type Rgb = [u8; 3];

const SKINS: [Rgb; 9] = [
    [250, 222, 200],
    [244, 208, 178],
    [236, 192, 156],
    [222, 172, 132],
    [200, 148, 108],
    [176, 122, 84],
    [146, 98, 66],
    [116, 76, 52],
    [88, 58, 42],
];
const HAIRS: [Rgb; 7] =
    [[28, 24, 24], [48, 34, 28], [84, 56, 38], [128, 88, 52], [186, 146, 88], [140, 66, 36], [70, 66, 66]];
const GREY_HAIRS: [Rgb; 2] = [[150, 148, 146], [205, 203, 200]];
const IRISES: [Rgb; 5] = [[62, 40, 26], [92, 64, 38], [98, 120, 84], [82, 116, 150], [110, 112, 108]];
const CLOTHES: [Rgb; 9] = [
    [38, 44, 62],
    [70, 74, 80],
    [110, 34, 44],
    [40, 78, 62],
    [222, 222, 218],
    [96, 120, 158],
    [30, 30, 32],
    [148, 110, 74],
    [120, 84, 128],
];

/// What makes a face.
struct Face {
    skin: Rgb,
    hair: Rgb,
    /// Half the width at the cheekbones and at the jaw.
    cheek: f32,
    jaw: f32,
    crown: f32,
    chin: f32,
    eyes: f32,
    has_beard: bool,
    is_long: bool,
}

/// Draws one, `width_px` pixels wide.
pub fn portrait(sex: Sex, age: u16, width_px: u32, random: &mut Random) -> Image {
    let mut canvas = Canvas::new(SIZE, width_px.max(1) as f32 / SIZE[0], [214, 220, 226]);
    let is_woman = match sex {
        Sex::Female => true,
        Sex::Male => false,
        Sex::Unspecified => random.chance(0.5),
    };
    let skin = SKINS[random.below(SKINS.len())];
    let is_grey = random.chance(f64::from(age.saturating_sub(38)) / 40.0);
    let hair = if is_grey {
        GREY_HAIRS[random.below(2)]
    } else if skin[0] < 190 {
        HAIRS[random.below(3)]
    } else {
        HAIRS[random.below(HAIRS.len())]
    };
    let chin = random.within(34.6, 36.4) as f32;
    let crown = random.within(6.2, 7.6) as f32;
    let cheek = random.within(9.2, 10.6) as f32;
    let face = Face {
        skin,
        hair,
        cheek,
        jaw: cheek * random.within(if is_woman { 0.58 } else { 0.68 }, if is_woman { 0.74 } else { 0.86 }) as f32,
        crown,
        chin,
        eyes: crown + (chin - crown) * random.within(0.49, 0.53) as f32,
        has_beard: !is_woman && random.chance(0.35),
        is_long: random.chance(if is_woman { 0.65 } else { 0.06 }),
    };
    ground(&mut canvas, random);
    if face.is_long {
        long_hair(&mut canvas, &face, random);
    }
    body(&mut canvas, &face, random);
    head(&mut canvas, &face);
    if face.has_beard {
        beard(&mut canvas, &face, random);
    }
    features(&mut canvas, &face, is_woman, age, random);
    hair_line(&mut canvas, &face, is_woman, age, random);
    if random.chance(0.2 + f64::from(age.min(80)) / 400.0) {
        glasses(&mut canvas, &face, random);
    }
    canvas.into_image()
}

fn mixed(a: Rgb, b: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|channel| {
        (f32::from(a[channel]) + (f32::from(b[channel]) - f32::from(a[channel])) * share + 0.5) as u8
    })
}

/// The same colour with more or less light.
fn shade(rgb: Rgb, factor: f32) -> Rgb {
    rgb.map(|value| (f32::from(value) * factor).clamp(0.0, 255.0) as u8)
}

fn ground(canvas: &mut Canvas, random: &mut Random) {
    let base: Rgb = [random.between(196, 232) as u8, random.between(204, 232) as u8, random.between(208, 240) as u8];
    let inks = [Ink::solid(shade(base, 1.05)), Ink::solid(shade(base, 0.9))];
    if let Some(all) = Rect::from_xywh(0.0, 0.0, SIZE[0], SIZE[1]) {
        let gradient = Gradient { from: [0.0, 0.0], to: [SIZE[0] * 0.4, SIZE[1]], inks: &inks };
        canvas.fill_graded(&PathBuilder::from_rect(all), &gradient);
    }
}

/// What hangs behind the shoulders.
fn long_hair(canvas: &mut Canvas, face: &Face, random: &mut Random) {
    let reach = face.cheek + random.within(1.6, 3.4) as f32;
    let bottom = random.within(33.0, 44.0) as f32;
    let top = face.crown - 1.6;
    let mut path = PathBuilder::new();
    path.move_to(CENTRE, top);
    path.cubic_to(CENTRE + reach * 1.15, top, CENTRE + reach * 1.1, 22.0, CENTRE + reach, bottom);
    path.quad_to(CENTRE, bottom + 2.0, CENTRE - reach, bottom);
    path.cubic_to(CENTRE - reach * 1.1, 22.0, CENTRE - reach * 1.15, top, CENTRE, top);
    path.close();
    if let Some(path) = path.finish() {
        let inks = [Ink::solid(shade(face.hair, 0.95)), Ink::solid(shade(face.hair, 0.68))];
        canvas.fill_graded(&path, &Gradient { from: [10.0, 5.0], to: [20.0, 44.0], inks: &inks });
    }
}

fn body(canvas: &mut Canvas, face: &Face, random: &mut Random) {
    let cloth = CLOTHES[random.below(CLOTHES.len())];
    let neck = face.jaw * 0.82;
    let shoulder = face.chin + random.within(4.6, 5.6) as f32;
    let neck_skin = shade(face.skin, 0.86);
    let mut path = PathBuilder::new();
    path.move_to(CENTRE - neck, face.chin - 7.0);
    path.line_to(CENTRE + neck, face.chin - 7.0);
    path.cubic_to(
        CENTRE + neck,
        shoulder - 1.0,
        CENTRE + neck + 2.0,
        shoulder + 0.5,
        CENTRE + neck + 4.0,
        shoulder + 1.5,
    );
    path.line_to(CENTRE + neck + 4.0, 46.0);
    path.line_to(CENTRE - neck - 4.0, 46.0);
    path.line_to(CENTRE - neck - 4.0, shoulder + 1.5);
    path.cubic_to(CENTRE - neck - 2.0, shoulder + 0.5, CENTRE - neck, shoulder - 1.0, CENTRE - neck, face.chin - 7.0);
    path.close();
    fill(canvas, path, Ink::solid(neck_skin));
    // The shadow of the chin.
    canvas.glow([CENTRE, face.chin - 0.3], [neck * 1.25, 4.2], Ink::thin(shade(face.skin, 0.45), 0.55));

    let mut path = PathBuilder::new();
    let slope = shoulder + random.within(2.6, 4.0) as f32;
    path.move_to(-1.0, 46.0);
    path.line_to(-1.0, slope + 1.5);
    path.cubic_to(4.0, slope - 1.6, CENTRE - neck - 3.0, shoulder + 0.8, CENTRE - neck - 0.7, shoulder - 0.8);
    let depth = random.within(2.2, 7.0) as f32;
    path.quad_to(CENTRE, shoulder + depth, CENTRE + neck + 0.7, shoulder - 0.8);
    path.cubic_to(CENTRE + neck + 3.0, shoulder + 0.8, 31.0, slope - 1.6, 36.0, slope + 1.5);
    path.line_to(36.0, 46.0);
    path.close();
    if let Some(path) = path.finish() {
        let inks = [Ink::solid(shade(cloth, 1.08)), Ink::solid(shade(cloth, 0.78))];
        canvas.fill_graded(&path, &Gradient { from: [6.0, shoulder], to: [30.0, 46.0], inks: &inks });
    }
    if random.chance(0.45) {
        // A collar.
        let colour = if random.chance(0.6) { [236, 236, 232] } else { shade(cloth, 1.25) };
        for side in [-1.0, 1.0] {
            let corners = [[neck + 0.8, -1.6], [neck + 1.8, 0.6], [neck * 0.45, 4.6], [0.2, 3.2]];
            let mut collar = PathBuilder::new();
            polygon(&mut collar, &corners.map(|[dx, dy]| [CENTRE + side * dx, shoulder + dy]));
            if let Some(path) = collar.finish() {
                canvas.fill(&path, Ink::solid(colour));
                canvas.stroke(&path, 0.12, Ink::thin(shade(colour, 0.6), 0.6));
            }
        }
    }
}

fn head(canvas: &mut Canvas, face: &Face) {
    let &Face { skin, cheek, jaw, crown, chin, eyes, .. } = face;
    for side in [-1.0, 1.0] {
        let x = CENTRE + side * (cheek + 0.35);
        if let Some(ear) = Rect::from_xywh(x - 1.35, eyes - 1.5, 2.7, 6.2).and_then(PathBuilder::from_oval) {
            canvas.fill(&ear, Ink::solid(shade(skin, 0.9)));
        }
        canvas.glow([x, eyes + 1.6], [0.8, 2.0], Ink::thin(shade(skin, 0.55), 0.6));
    }
    let mut path = PathBuilder::new();
    path.move_to(CENTRE, crown);
    path.cubic_to(CENTRE + cheek * 0.75, crown, CENTRE + cheek * 1.04, eyes - 7.0, CENTRE + cheek, eyes);
    let mouth = chin - (chin - eyes) * 0.34;
    path.cubic_to(CENTRE + cheek * 0.98, eyes + 5.0, CENTRE + jaw * 1.08, mouth, CENTRE + jaw * 0.72, chin - 1.5);
    path.quad_to(CENTRE + jaw * 0.36, chin, CENTRE, chin);
    path.quad_to(CENTRE - jaw * 0.36, chin, CENTRE - jaw * 0.72, chin - 1.5);
    path.cubic_to(CENTRE - jaw * 1.08, mouth, CENTRE - cheek * 0.98, eyes + 5.0, CENTRE - cheek, eyes);
    path.cubic_to(CENTRE - cheek * 1.04, eyes - 7.0, CENTRE - cheek * 0.75, crown, CENTRE, crown);
    path.close();
    if let Some(path) = path.finish() {
        // Light from the left above.
        let inks = [shade(skin, 0.97), shade(skin, 1.03), skin, shade(skin, 0.86)].map(Ink::solid);
        let gradient = Gradient { from: [CENTRE - cheek, eyes - 4.0], to: [CENTRE + cheek, eyes + 4.0], inks: &inks };
        canvas.fill_graded(&path, &gradient);
    }
    canvas.glow([CENTRE - 1.0, eyes - 6.5], [7.0, 4.5], Ink::thin([255, 250, 240], 0.16));
    for side in [-1.0, 1.0] {
        let red = mixed(skin, [210, 84, 74], 0.5);
        canvas.glow([CENTRE + side * cheek * 0.55, eyes + 5.4], [3.2, 2.6], Ink::thin(red, 0.30));
        // The hollow of the eye.
        canvas.glow([CENTRE + side * cheek * 0.44, eyes - 0.6], [3.4, 2.3], Ink::thin(shade(skin, 0.62), 0.34));
    }
}

fn beard(canvas: &mut Canvas, face: &Face, random: &mut Random) {
    let &Face { hair, jaw, chin, eyes, cheek, skin, .. } = face;
    let mouth = chin - (chin - eyes) * 0.34;
    if random.chance(0.4) {
        // Not shaved for a day or two.
        let shadow = mixed(skin, hair, 0.6);
        canvas.glow([CENTRE, mouth + 2.0], [jaw * 1.02, 5.0], Ink::thin(shadow, 0.5));
        return;
    }
    let drop = random.within(0.3, 2.2) as f32;
    let mut path = PathBuilder::new();
    path.move_to(CENTRE - cheek * 0.97, eyes + 3.2);
    path.cubic_to(CENTRE - jaw * 1.12, mouth + 1.0, CENTRE - jaw * 0.8, chin + drop, CENTRE, chin + drop);
    path.cubic_to(CENTRE + jaw * 0.8, chin + drop, CENTRE + jaw * 1.12, mouth + 1.0, CENTRE + cheek * 0.97, eyes + 3.2);
    path.cubic_to(CENTRE + jaw * 0.85, mouth - 1.0, CENTRE + 4.5, mouth - 3.0, CENTRE, mouth - 2.3);
    path.cubic_to(CENTRE - 4.5, mouth - 3.0, CENTRE - jaw * 0.85, mouth - 1.0, CENTRE - cheek * 0.97, eyes + 3.2);
    path.close();
    if let Some(path) = path.finish() {
        let inks = [0.0, 0.7, 0.95, 0.97].map(|opacity| Ink::thin(shade(hair, 0.88), opacity));
        canvas.fill_graded(&path, &Gradient { from: [CENTRE, eyes + 2.0], to: [CENTRE, chin], inks: &inks });
    }
}

fn features(canvas: &mut Canvas, face: &Face, is_woman: bool, age: u16, random: &mut Random) {
    let &Face { skin, hair, cheek, chin, eyes, .. } = face;
    let iris = if skin[0] < 190 { IRISES[random.below(2)] } else { IRISES[random.below(IRISES.len())] };
    let apart = cheek * random.within(0.42, 0.47) as f32;
    let open = random.within(0.75, 1.05) as f32;
    let half = random.within(1.9, 2.25) as f32;
    let brow = random.within(2.3, 3.0) as f32;
    let thick = random.within(if is_woman { 0.35 } else { 0.55 }, if is_woman { 0.6 } else { 0.95 }) as f32;
    let dark = mixed(hair, [30, 24, 22], 0.45);
    for side in [-1.0, 1.0] {
        let x = CENTRE + side * apart;
        let lids = |height: f32| {
            let mut path = PathBuilder::new();
            path.move_to(x - half, eyes + 0.15);
            path.cubic_to(
                x - half * 0.5,
                eyes - height * 1.25,
                x + half * 0.5,
                eyes - height * 1.25,
                x + half,
                eyes + 0.05,
            );
            path.cubic_to(
                x + half * 0.5,
                eyes + height * 0.8,
                x - half * 0.5,
                eyes + height * 0.8,
                x - half,
                eyes + 0.15,
            );
            path.close();
            path.finish()
        };
        if let Some(white) = lids(open) {
            canvas.fill(&white, Ink::solid([240, 238, 234]));
        }
        for (radius, ink) in
            [(0.92, Ink::solid(shade(iris, 0.7))), (0.74, Ink::solid(iris)), (0.38, Ink::solid([14, 12, 12]))]
        {
            if let Some(circle) = PathBuilder::from_circle(x, eyes - 0.02, radius) {
                canvas.fill(&circle, ink);
            }
        }
        if let Some(circle) = PathBuilder::from_circle(x - 0.3, eyes - 0.3, 0.17) {
            canvas.fill(&circle, Ink::thin([255, 255, 255], 0.9));
        }
        // The upper lid, its crease and the lower lid.
        for (lift, width, ink) in [
            (0.0, if is_woman { 0.34 } else { 0.24 }, Ink::thin([34, 24, 22], 0.9)),
            (0.75, 0.14, Ink::thin(shade(skin, 0.55), 0.7)),
        ] {
            let mut lid = PathBuilder::new();
            lid.move_to(x - half, eyes + 0.15 - lift * 0.8);
            let top = eyes - open * 1.25 - lift;
            lid.cubic_to(x - half * 0.5, top, x + half * 0.5, top, x + half, eyes + 0.05 - lift * 0.8);
            if let Some(lid) = lid.finish() {
                canvas.stroke(&lid, width, ink);
            }
        }
        let mut lower = PathBuilder::new();
        lower.move_to(x - half * 0.9, eyes + 0.3);
        lower.quad_to(x, eyes + open * 1.25, x + half * 0.9, eyes + 0.25);
        if let Some(lower) = lower.finish() {
            canvas.stroke(&lower, 0.13, Ink::thin(shade(skin, 0.5), 0.7));
        }
        let mut arch = PathBuilder::new();
        arch.move_to(x - side * 2.5, eyes - brow + 0.35);
        arch.quad_to(x + side * 0.6, eyes - brow - 1.1, x + side * 3.0, eyes - brow + 0.55);
        arch.quad_to(x + side * 0.5, eyes - brow - 1.0 + thick * 1.6, x - side * 2.5, eyes - brow + 0.35 + thick);
        arch.close();
        fill(canvas, arch, Ink::thin(dark, 0.88));
        if age > 48 {
            let mut line = PathBuilder::new();
            line.move_to(x - side * 1.6, eyes + 2.3);
            line.quad_to(x + side * 0.3, eyes + 3.1, x + side * 2.2, eyes + 2.2);
            if let Some(line) = line.finish() {
                canvas.stroke(&line, 0.16, Ink::thin(shade(skin, 0.6), 0.55));
            }
        }
    }
    let tip = eyes + (chin - eyes) * 0.42;
    let wide = random.within(1.5, 2.3) as f32;
    canvas.glow([CENTRE + 1.1, eyes + 3.6], [1.3, 4.2], Ink::thin(shade(skin, 0.55), 0.42));
    canvas.glow([CENTRE - 0.3, tip - 1.2], [0.9, 2.6], Ink::thin([255, 246, 232], 0.32));
    canvas.glow([CENTRE, tip + 0.5], [wide * 1.3, 1.0], Ink::thin(shade(skin, 0.5), 0.6));
    for side in [-1.0, 1.0] {
        canvas.glow([CENTRE + side * wide * 0.48, tip + 0.1], [0.55, 0.34], Ink::thin(shade(skin, 0.25), 0.9));
        let mut wing = PathBuilder::new();
        wing.move_to(CENTRE + side * wide * 0.8, tip - 1.1);
        wing.quad_to(CENTRE + side * wide * 1.2, tip - 0.1, CENTRE + side * wide * 0.75, tip + 0.25);
        if let Some(wing) = wing.finish() {
            canvas.stroke(&wing, 0.17, Ink::thin(shade(skin, 0.5), 0.65));
        }
        if age > 40 {
            let mut fold = PathBuilder::new();
            fold.move_to(CENTRE + side * wide * 1.25, tip - 0.2);
            fold.quad_to(CENTRE + side * (wide + 2.3), tip + 1.9, CENTRE + side * (wide + 2.2), tip + 4.0);
            if let Some(fold) = fold.finish() {
                canvas.stroke(&fold, 0.2, Ink::thin(shade(skin, 0.6), 0.45));
            }
        }
    }
    let mouth = chin - (chin - eyes) * 0.34;
    let half = random.within(3.0, 3.9) as f32;
    let lip = mixed(skin, if is_woman { [178, 58, 66] } else { [168, 84, 78] }, random.within(0.35, 0.7) as f32);
    let (upper, lower) = (random.within(0.55, 0.95) as f32, random.within(0.9, 1.5) as f32);
    let smile = random.within(-0.2, 0.4) as f32;
    let mut lips = PathBuilder::new();
    lips.move_to(CENTRE - half, mouth - smile);
    lips.cubic_to(
        CENTRE - half * 0.5,
        mouth - upper * 1.5,
        CENTRE - 0.5,
        mouth - upper * 1.2,
        CENTRE,
        mouth - upper * 0.6,
    );
    lips.cubic_to(
        CENTRE + 0.5,
        mouth - upper * 1.2,
        CENTRE + half * 0.5,
        mouth - upper * 1.5,
        CENTRE + half,
        mouth - smile,
    );
    lips.cubic_to(
        CENTRE + half * 0.5,
        mouth + lower * 1.3,
        CENTRE - half * 0.5,
        mouth + lower * 1.3,
        CENTRE - half,
        mouth - smile,
    );
    lips.close();
    fill(canvas, lips, Ink::thin(lip, 0.9));
    let mut parting = PathBuilder::new();
    parting.move_to(CENTRE - half, mouth - smile);
    parting.cubic_to(
        CENTRE - half * 0.4,
        mouth + 0.25,
        CENTRE + half * 0.4,
        mouth + 0.25,
        CENTRE + half,
        mouth - smile,
    );
    if let Some(parting) = parting.finish() {
        canvas.stroke(&parting, 0.22, Ink::thin(shade(lip, 0.45), 0.85));
    }
    if !face.has_beard {
        canvas.glow([CENTRE, mouth + lower + 1.1], [2.6, 0.8], Ink::thin(shade(skin, 0.55), 0.4));
    }
}

/// What of the hair lies before the face.
fn hair_line(canvas: &mut Canvas, face: &Face, is_woman: bool, age: u16, random: &mut Random) {
    let &Face { hair, cheek, crown, eyes, is_long, .. } = face;
    let style = random.below(if is_woman { 4 } else { 5 });
    if !is_woman && !is_long && (style == 4 || age > 60 && random.chance(0.4)) {
        // Bald, with a rest above the ears.
        for side in [-1.0, 1.0] {
            canvas.glow([CENTRE + side * cheek * 1.0, eyes - 4.5], [1.5, 4.0], Ink::thin(hair, 0.95));
        }
        canvas.glow([CENTRE - 2.5, crown + 2.6], [4.0, 2.0], Ink::thin([255, 252, 246], 0.4));
        return;
    }
    let lift = random.within(1.0, 2.6) as f32;
    let out = random.within(0.5, 1.3) as f32;
    let top = crown - lift;
    // Where the hair ends on the forehead, and how far down at the sides.
    let fringe = crown + random.within(2.4, 5.0) as f32;
    let side_end = if is_long || style == 1 && is_woman { eyes + 7.0 } else { eyes - random.within(0.0, 1.8) as f32 };
    let part = CENTRE + random.within(-5.0, 5.0) as f32;
    let mut path = PathBuilder::new();
    path.move_to(CENTRE - cheek - out, side_end);
    path.cubic_to(CENTRE - cheek - out - 0.8, crown + 3.0, CENTRE - cheek * 0.8, top, CENTRE, top);
    path.cubic_to(CENTRE + cheek * 0.8, top, CENTRE + cheek + out + 0.8, crown + 3.0, CENTRE + cheek + out, side_end);
    path.quad_to(CENTRE + cheek * 1.02, eyes - 2.0, CENTRE + cheek * 0.86, eyes - 5.2);
    match style {
        // Parted.
        0 | 1 => {
            path.quad_to(CENTRE + cheek * 0.7, fringe + 1.0, part, fringe - 1.8);
            path.quad_to(CENTRE - cheek * 0.6, fringe + 1.4, CENTRE - cheek * 0.86, eyes - 5.2);
        }
        // Straight.
        2 => {
            path.quad_to(CENTRE + cheek * 0.5, fringe, CENTRE, fringe);
            path.quad_to(CENTRE - cheek * 0.5, fringe, CENTRE - cheek * 0.86, eyes - 5.2);
        }
        // Combed back.
        _ => {
            path.cubic_to(
                CENTRE + cheek * 0.6,
                crown + 1.2,
                CENTRE - cheek * 0.6,
                crown + 1.2,
                CENTRE - cheek * 0.86,
                eyes - 5.2,
            );
        }
    }
    path.quad_to(CENTRE - cheek * 1.02, eyes - 2.0, CENTRE - cheek - out, side_end);
    path.close();
    if let Some(path) = path.finish() {
        let inks = [shade(hair, 1.15), hair, shade(hair, 0.72)].map(Ink::solid);
        canvas.fill_graded(&path, &Gradient { from: [CENTRE - 6.0, top], to: [CENTRE + 8.0, eyes], inks: &inks });
    }
    let strands = random.between(10, 22);
    for _ in 0..strands {
        let (from, turn) = (random.within(-0.85, 0.85) as f32, random.within(-1.2, 1.2) as f32);
        let mut strand = PathBuilder::new();
        let root = [part + (CENTRE + from * cheek - part) * 0.35, top + 0.5 + from.abs()];
        strand.move_to(root[0], root[1]);
        strand.quad_to(
            CENTRE + from * cheek * 0.9 + turn,
            crown,
            CENTRE + from * (cheek + 0.4),
            crown + 2.0 + from * from * 6.0,
        );
        if let Some(strand) = strand.finish() {
            let tone = if random.chance(0.5) { 1.35 } else { 0.7 };
            canvas.stroke(&strand, 0.14, Ink::thin(shade(hair, tone), 0.4));
        }
    }
    canvas.glow([CENTRE - 3.0, top + 2.0], [4.5, 1.5], Ink::thin([255, 250, 240], 0.14));
}

fn glasses(canvas: &mut Canvas, face: &Face, random: &mut Random) {
    let &Face { cheek, eyes, .. } = face;
    let frame: Rgb = [[30, 28, 30], [92, 60, 40], [150, 150, 156], [60, 40, 80]][random.below(4)];
    let width = random.within(0.22, 0.6) as f32;
    let (across, down) = (random.within(3.3, 3.8) as f32, random.within(2.3, 3.0) as f32);
    for side in [-1.0, 1.0] {
        let x = CENTRE + side * cheek * 0.45;
        if let Some(lens) =
            super::security::rounded([x - across, eyes - down * 0.85, across * 2.0, down * 2.0], down * 0.7)
        {
            canvas.fill(&lens, Ink::thin([235, 242, 250], 0.10));
            canvas.stroke(&lens, width, Ink::solid(frame));
        }
        let mut arm = PathBuilder::new();
        arm.move_to(x + side * across, eyes - 0.6);
        arm.line_to(CENTRE + side * (cheek + 0.6), eyes - 1.0);
        if let Some(arm) = arm.finish() {
            canvas.stroke(&arm, width, Ink::solid(frame));
        }
    }
    let mut bridge = PathBuilder::new();
    bridge.move_to(CENTRE - (cheek * 0.45 - across), eyes - 0.5);
    bridge.quad_to(CENTRE, eyes - 1.3, CENTRE + (cheek * 0.45 - across), eyes - 0.5);
    if let Some(bridge) = bridge.finish() {
        canvas.stroke(&bridge, width, Ink::solid(frame));
    }
}
