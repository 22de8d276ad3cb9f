//! How well documents are found in photographs, and what it costs, on generated pictures.
//!
//! `cargo bench --bench locate -- accuracy CARDS LIST BACKGROUNDS SPLIT COUNT [DRAW]` lays card pictures over backgrounds and compares
//! the quadrilateral found with the true one. CARDS is a folder of pictures of whole, tightly cropped documents; LIST a text file
//! with lines `NAME ID1|PAGE` that names those to use; BACKGROUNDS a folder of photographs, beside which textures are drawn; SPLIT
//! is `tune` or `report`: the two share no card, no photograph and no seed. Pictures that went wrong are drawn into the folder DRAW.
//! `-- cut CARDS LIST BACKGROUNDS SPLIT COUNT [DRAW]`: the same with a side of the document beyond the border of the picture.
//! `-- fit CARDS LIST BACKGROUNDS COUNT`: fits the weights of the judgement on the split `tune` and prints them.
//! `-- negatives DIR...`: share of pictures without a document in which one is found. `-- textures COUNT`: the same on drawn ones.
//! `-- full CARDS LIST NEGATIVES`: cropped documents, and pictures without a document cropped to the same shapes.
//! `-- capture CARDS LIST BACKGROUNDS SPLIT COUNT`: rates of the capture warnings on clean and on degraded pictures.
//! `-- timing CARDS LIST BACKGROUNDS`: milliseconds at 2 and 12 megapixels on one core, after decoding.
//! `-- photographs COUNT [DRAW]`: generated photographs of documents of every kind, 1280 × 720 pixels, levels of degradation in turn.
//!
//! All but `fit` and `capture` say what the edges alone find, what the page locator sees, and what the service makes of both (after `make pack`).

#[path = "models/mod.rs"]
mod models;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use image::ImageEncoder as _;
use vouch::document::capture;
use vouch::document::locate::{
    FEATURES, Features, Format, Located, Quad, as_seen, by_edges, hypotheses, locate, row_modulation,
};
use vouch::document::page_locator::{LONG_SIDE_PX, PageLocator, SeenPage};
use vouch::imaging::Image;
use vouch::imaging::resize::resize;
use vouch::imaging::warp::Perspective;
use vouch::models::manifest::Role;
use vouch::specimen::document::{Kind, Options, specimen};
use vouch::specimen::photograph::{Shot, photograph};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["accuracy", cards, list, backgrounds, split, count] => {
            accuracy(&Material::read(cards, list, backgrounds, split), Border::Inside, number(count), None)
        }
        ["accuracy", cards, list, backgrounds, split, count, draw] => {
            accuracy(&Material::read(cards, list, backgrounds, split), Border::Inside, number(count), Some(draw))
        }
        ["cut", cards, list, backgrounds, split, count] => {
            accuracy(&Material::read(cards, list, backgrounds, split), Border::Crossed, number(count), None)
        }
        ["cut", cards, list, backgrounds, split, count, draw] => {
            accuracy(&Material::read(cards, list, backgrounds, split), Border::Crossed, number(count), Some(draw))
        }
        ["fit", cards, list, backgrounds, count] => {
            fit(&Material::read(cards, list, backgrounds, "tune"), number(count))
        }
        ["negatives", folders @ ..] => negatives(folders),
        ["textures", count] => textures(number(count)),
        ["full", cards, list, others] => full_frames(cards, list, others),
        ["capture", cards, list, backgrounds, split, count] => {
            capture_warnings(&Material::read(cards, list, backgrounds, split), number(count))
        }
        ["photographs", count] => photographs(number(count), None),
        ["photographs", count, draw] => photographs(number(count), Some(draw)),
        ["timing", cards, list, backgrounds] => timing(&Material::read(cards, list, backgrounds, "report")),
        // `cargo bench` without arguments runs everything, and there is nothing to run on.
        _ => println!("usage: see the head of benches/locate.rs"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number of pictures")
}

/// A way to find the document, by its name.
type Way<'a> = (&'static str, Box<dyn Fn(&Image) -> Option<Located> + Sync + 'a>);

/// The page locator and what looks through it.
struct Looker(PageLocator);

impl Looker {
    fn new() -> Self {
        let registry = models::registry().expect("a model pack: make pack");
        Self(PageLocator::new(models::port(&registry, Role::PageLocator).expect("a model")))
    }

    fn look(&self, image: &Image) -> Option<SeenPage> {
        self.0.look(image, LONG_SIDE_PX, &Arc::default()).expect("the model runs").page
    }

    fn look_twice(&self, image: &Image) -> Option<SeenPage> {
        Some(self.0.look_again(image, &self.look(image)?, &Arc::default()).expect("the model runs"))
    }

    /// By edges alone, by what the locator sees at the first look, at the second, and then fitted to the picture, and all as in the service.
    fn ways(&self) -> Vec<Way<'_>> {
        let unfitted = |image: &Image, page: SeenPage| Located { quad: page.quad, ..as_seen(image, &page) };
        vec![
            ("edges", Box::new(|image| by_edges(image, &[]))),
            ("seen", Box::new(move |image| self.look(image).map(|page| unfitted(image, page)))),
            ("seen twice", Box::new(move |image| self.look_twice(image).map(|page| unfitted(image, page)))),
            ("seen twice, fitted", Box::new(|image| self.look_twice(image).map(|page| as_seen(image, &page)))),
            ("all", Box::new(|image| locate(image, self.look_twice(image).as_ref(), &[]))),
        ]
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): a stream that depends on the seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    fn colour(&mut self, low: f64, high: f64) -> [f32; 3] {
        std::array::from_fn(|_| self.within(low, high) as f32)
    }
}

fn mix(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Card {
    image: Image,
    is_id1: bool,
}

struct Material {
    cards: Vec<Card>,
    photographs: Vec<PathBuf>,
    first_seed: u64,
}

impl Material {
    fn read(cards: &str, list: &str, backgrounds: &str, split: &str) -> Self {
        let (parity, first_seed) = match split {
            "tune" => (0, 0),
            "report" => (1, 1_000_000),
            _ => panic!("the split is tune or report"),
        };
        let cards = read_list(cards, list).into_iter().skip(parity).step_by(2).map(|(path, is_id1)| {
            let image = open(&path).unwrap_or_else(|| panic!("cannot read a card of the list"));
            Card { image, is_id1 }
        });
        let photographs = pictures_below(Path::new(backgrounds)).into_iter().skip(parity).step_by(2).collect();
        Self { cards: cards.collect(), photographs, first_seed }
    }
}

fn read_list(folder: &str, list: &str) -> Vec<(PathBuf, bool)> {
    let text = std::fs::read_to_string(list).expect("the list of cards");
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, format)| (Path::new(folder).join(name), format == "ID1")).collect()
}

fn pictures_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(pictures_below(&path));
        } else if path.extension().is_some_and(|ending| ending == "jpg" || ending == "png") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn open(path: &Path) -> Option<Image> {
    let decoded = image::ImageReader::open(path).ok()?.with_guessed_format().ok()?.decode().ok()?.into_rgb8();
    let (width, height) = decoded.dimensions();
    Some(Image { width, height, rgb: decoded.into_raw().into() })
}

/// A picture of linear light-free values 0..=255, `[height][width]`.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 3]>,
}

impl Canvas {
    fn new(width: usize, height: usize, mut colour: impl FnMut(f32, f32) -> [f32; 3]) -> Self {
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                pixels.push(colour(x as f32, y as f32));
            }
        }
        Self { width, height, pixels }
    }

    fn to_image(&self) -> Image {
        Image::build(self.width as u32, self.height as u32, |rgb| {
            for (bytes, pixel) in rgb.chunks_exact_mut(3).zip(&self.pixels) {
                for (byte, value) in bytes.iter_mut().zip(pixel) {
                    *byte = value.round().clamp(0.0, 255.0) as u8;
                }
            }
        })
    }

    fn from_image(image: &Image) -> Self {
        let pixels = image.rgb.chunks_exact(3).map(|p| [p[0], p[1], p[2]].map(f32::from)).collect();
        Self { width: image.width as usize, height: image.height as usize, pixels }
    }
}

/// Smooth noise in 0..1 on a lattice of unit cells.
fn value_noise(seed: u64, x: f32, y: f32) -> f32 {
    let (fx, fy) = (x.floor(), y.floor());
    let lattice = |dx: f32, dy: f32| {
        let key = ((fx + dx) as i64 as u64).wrapping_mul(0x9e37_79b9) ^ (((fy + dy) as i64 as u64) << 32) ^ seed;
        (mix(key) >> 40) as f32 / (1u64 << 24) as f32
    };
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (tx, ty) = (smooth(x - fx), smooth(y - fy));
    let top = lattice(0.0, 0.0) * (1.0 - tx) + lattice(1.0, 0.0) * tx;
    let bottom = lattice(0.0, 1.0) * (1.0 - tx) + lattice(1.0, 1.0) * tx;
    top * (1.0 - ty) + bottom * ty
}

fn fractal(seed: u64, x: f32, y: f32) -> f32 {
    (0..4)
        .map(|octave| {
            value_noise(seed + octave, x * (1 << octave) as f32, y * (1 << octave) as f32) / (2 << octave) as f32
        })
        .sum()
}

fn blend(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

const TEXTURES: [&str; 8] = ["plain", "wood", "cloth", "noise", "stripes", "papers", "tiles", "marble"];

/// A drawn background; `unit` is 1 % of the longer side.
fn texture(kind: &str, width: usize, height: usize, random: &mut Random) -> Canvas {
    let seed = random.next();
    let unit = width.max(height) as f32 / 100.0;
    let (dark, light) = {
        let base = random.colour(20.0, 215.0);
        let spread = random.within(10.0, 90.0) as f32;
        (base, base.map(|value| (value + spread).min(250.0)))
    };
    let angle = random.within(0.0, std::f64::consts::TAU) as f32;
    let (sin, cos) = angle.sin_cos();
    let turned = move |x: f32, y: f32| ((x * cos + y * sin) / unit, (y * cos - x * sin) / unit);
    let size = random.within(1.0, 9.0) as f32;
    match kind {
        "plain" => Canvas::new(width, height, |x, y| {
            let (u, v) = turned(x, y);
            blend(dark, light, (0.5 + u / 300.0 + 0.08 * value_noise(seed, u * 3.0, v * 3.0)).clamp(0.0, 1.0))
        }),
        "wood" => Canvas::new(width, height, |x, y| {
            let (u, v) = turned(x, y);
            let plank = (v / (size * 4.0)).floor();
            let shift = plank * 17.3;
            let rings = (fractal(seed, u * 0.06 + shift, v * 0.5) * 40.0 / (1.0 + size * 0.2)).fract();
            let grain = fractal(seed + 9, u * 0.2 + shift, v * 6.0);
            let gap = if (v / (size * 4.0)).fract() < 0.02 { 0.5 } else { 1.0 };
            blend(
                [dark[0] * 0.9 + 20.0, dark[1] * 0.7 + 10.0, dark[2] * 0.5],
                [light[0], light[1] * 0.8, light[2] * 0.6],
                0.5 * rings + 0.5 * grain,
            )
            .map(|value| value * gap)
        }),
        "cloth" => Canvas::new(width, height, |x, y| {
            let (u, v) = turned(x, y);
            let fold = 0.5 + 0.5 * (fractal(seed, u * 0.05, v * 0.05) * 20.0).sin();
            let weave = ((u * 20.0 / size).sin() * (v * 20.0 / size).sin()) * 0.5 + 0.5;
            blend(dark, light, 0.6 * weave + 0.4 * fold)
        }),
        "noise" => Canvas::new(width, height, |x, y| {
            let (u, v) = turned(x, y);
            blend(dark, light, (fractal(seed, u / size, v / size) * 2.0 - 0.5).clamp(0.0, 1.0))
        }),
        "stripes" => {
            let second = random.colour(10.0, 245.0);
            Canvas::new(width, height, move |x, y| {
                let (u, v) = turned(x, y);
                let band = (u / size + 0.2 * value_noise(seed, u * 0.1, v * 0.1)).fract();
                if band.abs() < 0.5 { dark } else { blend(light, second, 0.6) }
            })
        }
        "tiles" => {
            let joint = random.colour(40.0, 220.0);
            Canvas::new(width, height, move |x, y| {
                let (u, v) = turned(x, y);
                let (i, j) = (u / (size * 3.0), v / (size * 3.0));
                let is_joint = (i - i.floor()).min(j - j.floor()) < 0.06;
                let tile = value_noise(seed, i.floor() * 7.7, j.floor() * 3.3);
                if is_joint { joint } else { blend(dark, light, 0.6 * tile + 0.4 * fractal(seed, u, v)) }
            })
        }
        "marble" => Canvas::new(width, height, |x, y| {
            let (u, v) = turned(x, y);
            let vein = ((u * 0.3 + 8.0 * fractal(seed, u * 0.08, v * 0.08)).sin().abs()).powf(0.4);
            blend(dark, light, vein)
        }),
        "papers" => {
            let mut canvas = texture("wood", width, height, random);
            for _ in 0..2 + random.below(4) {
                let (cx, cy) = (random.within(0.0, width as f64) as f32, random.within(0.0, height as f64) as f32);
                let half = [random.within(22.0, 60.0) as f32 * unit, random.within(30.0, 80.0) as f32 * unit];
                let (sin, cos) = (random.within(0.0, 6.3) as f32).sin_cos();
                let (paper, ink) = (random.colour(200.0, 250.0), random.colour(10.0, 90.0));
                let line = random.within(0.9, 2.2) as f32 * unit;
                let seed = random.next();
                for y in 0..height {
                    for x in 0..width {
                        let (dx, dy) = (x as f32 - cx, y as f32 - cy);
                        let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
                        if u.abs() < half[0] && v.abs() < half[1] {
                            let row = (v / line).floor();
                            let in_line = (v / line - row) < 0.5 && u.abs() < half[0] * 0.85;
                            let is_ink = in_line && value_noise(seed, u / line * 3.0, row * 11.0) > 0.55;
                            canvas.pixels[y * width + x] = if is_ink { blend(paper, ink, 0.8) } else { paper };
                        }
                    }
                }
            }
            canvas
        }
        _ => panic!("an unknown texture"),
    }
}

fn crop_of_photograph(path: &Path, width: usize, height: usize, random: &mut Random) -> Option<Canvas> {
    let photograph = open(path)?;
    let aspect = width as f64 / height as f64;
    let largest = f64::from(photograph.width).min(f64::from(photograph.height) * aspect);
    let crop_width = (largest * random.within(0.6, 1.0)).floor().max(8.0);
    let crop_height = (crop_width / aspect).floor().max(8.0);
    let left = random.within(0.0, f64::from(photograph.width) - crop_width) as u32;
    let top = random.within(0.0, (f64::from(photograph.height) - crop_height).max(0.0)) as u32;
    let (w, h) = (crop_width as u32, (crop_height as u32).min(photograph.height - top));
    Some(Canvas::from_image(&resize(&crop(&photograph, [left, top], [w, h]), width as u32, height as u32)))
}

fn crop(image: &Image, [left, top]: [u32; 2], [width, height]: [u32; 2]) -> Image {
    Image::build(width, height, |rgb| {
        for (y, row) in rgb.chunks_exact_mut(width as usize * 3).enumerate() {
            let from = ((top as usize + y) * image.width as usize + left as usize) * 3;
            row.copy_from_slice(&image.rgb[from..from + row.len()]);
        }
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Border {
    Inside,
    Crossed,
}

struct Scene {
    image: Image,
    /// Corners of the document in pixel areas, clockwise.
    quad: Quad,
    is_id1: bool,
    background: String,
    note: String,
}

/// What the capture warnings are about; all zero is a good photograph.
#[derive(Clone, Copy, Default)]
struct Degradation {
    /// Standard deviation of a Gaussian, in millimetres on the document.
    blur_mm: f64,
    /// Share of the document's area under a specular reflection.
    glare: f64,
    /// Factor on all values; 0 means the ordinary range.
    gain: f64,
    grey: bool,
}

/// Lays a card over a background as a camera would see it. The longer side of the document's upright bounding box is 25 % to 90 %
/// of that side of the picture, its tilt up to 35°, its turn anything.
fn scene(material: &Material, seed: u64, border: Border, long_side: usize, degradation: Option<Degradation>) -> Scene {
    let random = &mut Random(mix(seed + 77));
    let (width, height) = (long_side, long_side * 3 / 4);
    let (width, height) = if random.chance(0.5) { (width, height) } else { (height, width) };
    let card = &material.cards[random.below(material.cards.len())];
    let (mut canvas, background) = if random.chance(0.4) {
        let path = &material.photographs[random.below(material.photographs.len())];
        let crop = crop_of_photograph(path, width, height, random).expect("a readable photograph");
        (crop, "photograph".to_owned())
    } else {
        let kind = TEXTURES[random.below(TEXTURES.len())];
        let half = texture(kind, width / 2, height / 2, random).to_image();
        (Canvas::from_image(&resize(&half, width as u32, height as u32)), kind.to_owned())
    };

    let millimetres = if card.is_id1 { [85.6, 53.98] } else { [125.0, 88.0] };
    let (quad, tilt) = pose(random, [width as f64, height as f64], millimetres, border);
    let card_size = [f64::from(card.image.width), f64::from(card.image.height)];
    let to_picture = Perspective::from_rectangle(card_size, &quad).expect("a convex quadrilateral");
    let from_picture = Perspective { m: inverse(&to_picture.m) };
    let per_mm = card_size[0] / millimetres[0];
    // ISO/IEC 7810: corners of an ID-1 card have a radius of 3.18 mm; many passports are trimmed the same way.
    let radius = if card.is_id1 || random.chance(0.3) { 3.18 * per_mm } else { 0.0 };
    let covered = |[x, y]: [f64; 2]| {
        let [u, v] = from_picture.apply([x, y]);
        let [dx, dy] = [
            (u - card_size[0] / 2.0).abs() - (card_size[0] / 2.0 - radius),
            (v - card_size[1] / 2.0).abs() - (card_size[1] / 2.0 - radius),
        ];
        if radius > 0.0 && dx > 0.0 && dy > 0.0 {
            (dx * dx + dy * dy <= radius * radius).then_some([u, v])
        } else {
            (dx <= radius && dy <= radius).then_some([u, v])
        }
    };

    let diagonal = distance(quad[0], quad[2]);
    let shadow = if random.chance(0.5) { random.within(0.55, 0.9) as f32 } else { 1.0 };
    let shadow_by = [random.within(-0.02, 0.02) * diagonal, random.within(-0.02, 0.02) * diagonal];
    let gain = card_gain(random);
    let glare = degradation.map_or(0.0, |d| d.glare);
    let glare_at = [random.within(0.3, 0.7) * card_size[0], random.within(0.3, 0.7) * card_size[1]];
    let glare_radius = (glare * card_size[0] * card_size[1] / std::f64::consts::PI).sqrt();
    let is_grey = degradation.is_some_and(|d| d.grey);
    let low: [f64; 2] = std::array::from_fn(|i| quad.iter().map(|c| c[i]).fold(f64::MAX, f64::min) - diagonal * 0.04);
    let high: [f64; 2] = std::array::from_fn(|i| quad.iter().map(|c| c[i]).fold(f64::MIN, f64::max) + diagonal * 0.04);
    for y in (low[1].max(0.0) as usize)..(high[1].max(0.0) as usize).min(height) {
        for x in (low[0].max(0.0) as usize)..(high[0].max(0.0) as usize).min(width) {
            let pixel = &mut canvas.pixels[y * width + x];
            let (px, py) = (x as f64, y as f64);
            let shaded = [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [0.5, 0.5]]
                .iter()
                .filter(|d| {
                    covered([px + 0.5 - shadow_by[0] * (1.0 + d[0]), py + 0.5 - shadow_by[1] * (1.0 + d[1])]).is_some()
                })
                .count();
            let mut colour = pixel.map(|value| value * (1.0 - (1.0 - shadow) * shaded as f32 / 4.0));
            let mut sum = [0f32; 3];
            let mut share = 0f32;
            for [dx, dy] in [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]] {
                if let Some([u, v]) = covered([px + dx, py + dy]) {
                    let mut sampled = bilinear(&card.image, u - 0.5, v - 0.5).map(|value| value * gain);
                    if glare_radius > 0.0 {
                        let reach = distance([u, v], glare_at) / glare_radius;
                        sampled = blend(sampled, [420.0; 3], (2.0 - 2.0 * reach).clamp(0.0, 1.0) as f32);
                    }
                    if is_grey {
                        sampled = [0.299 * sampled[0] + 0.587 * sampled[1] + 0.114 * sampled[2]; 3];
                    }
                    sum = std::array::from_fn(|i| sum[i] + sampled[i] / 4.0);
                    share += 0.25;
                }
            }
            colour = std::array::from_fn(|i| colour[i] * (1.0 - share) + sum[i]);
            *pixel = colour;
        }
    }
    let finger = degradation.is_none() && random.chance(0.3);
    if finger {
        draw_finger(&mut canvas, &quad, random);
    }
    light(&mut canvas, degradation, random);
    let px_per_mm = diagonal / (millimetres[0] * millimetres[0] + millimetres[1] * millimetres[1]).sqrt();
    let extra = degradation.map_or(0.0, |d| d.blur_mm * px_per_mm);
    blur(&mut canvas, (random.within(0.3, 1.6) * long_side as f64 / 1632.0).hypot(extra));
    let noise = random.within(0.5, 6.0) as f32;
    for pixel in &mut canvas.pixels {
        let bits = random.next();
        for (i, value) in pixel.iter_mut().enumerate() {
            // The sum of three uniform numbers is near enough to a normal one.
            let part = |k: usize| ((bits >> (i * 18 + k * 6)) & 63) as f32 / 32.0 - 0.985;
            *value += noise * (part(0) + part(1) + part(2));
        }
    }
    let quality = random.within(50.0, 95.0) as u8;
    let note = format!("{background} tilt {tilt:.0} finger {finger} noise {noise:.1} shadow {shadow:.2}");
    Scene { image: through_jpeg(&canvas.to_image(), quality), quad, is_id1: card.is_id1, background, note }
}

fn card_gain(random: &mut Random) -> f32 {
    random.within(0.75, 1.05) as f32
}

/// Corners of a document before a camera, and its tilt in degrees.
fn pose(random: &mut Random, size: [f64; 2], millimetres: [f64; 2], border: Border) -> (Quad, f64) {
    let focal = random.within(0.65, 1.1) * size[0].max(size[1]);
    let (turn, axis, tilt) = (random.within(0.0, 360.0), random.within(0.0, 360.0), random.within(0.0, 35.0));
    let share = random.within(0.25, 0.9);
    let (sin, cos) = turn.to_radians().sin_cos();
    let (axis_sin, axis_cos) = axis.to_radians().sin_cos();
    let (tilt_sin, tilt_cos) = tilt.to_radians().sin_cos();
    let project = |at: [f64; 3]| -> Quad {
        let [a, b] = millimetres.map(|side| side / 2.0);
        [[-a, -b], [a, -b], [a, b], [-a, b]].map(|[x, y]| {
            let (x, y) = (x * cos - y * sin, x * sin + y * cos);
            // Turned about the axis (axis_cos, axis_sin, 0), after Rodrigues.
            let along = x * axis_cos + y * axis_sin;
            let across = y * axis_cos - x * axis_sin;
            let (x, y, z) = (
                along * axis_cos - across * tilt_cos * axis_sin,
                along * axis_sin + across * tilt_cos * axis_cos,
                across * tilt_sin,
            );
            let depth = z + at[2];
            [focal * (x + at[0]) / depth + size[0] / 2.0, focal * (y + at[1]) / depth + size[1] / 2.0]
        })
    };
    let extent = |quad: &Quad| {
        let low: [f64; 2] = std::array::from_fn(|i| quad.iter().map(|corner| corner[i]).fold(f64::MAX, f64::min));
        let high: [f64; 2] = std::array::from_fn(|i| quad.iter().map(|corner| corner[i]).fold(f64::MIN, f64::max));
        (low, high)
    };
    let (mut near, mut far) = (millimetres[0] * 0.7, millimetres[0] * 40.0);
    for _ in 0..40 {
        let middle = (near + far) / 2.0;
        let (low, high) = extent(&project([0.0, 0.0, middle]));
        if ((high[0] - low[0]) / size[0]).max((high[1] - low[1]) / size[1]) > share {
            near = middle
        } else {
            far = middle
        }
    }
    let at = |shift: [f64; 2]| [shift[0] * far / focal, shift[1] * far / focal, far];
    for _ in 0..60 {
        let reach = if border == Border::Inside { 0.4 } else { 0.6 };
        let shift = [random.within(-reach, reach) * size[0], random.within(-reach, reach) * size[1]];
        let quad = project(at(shift));
        let (low, high) = extent(&quad);
        let margin = 0.008 * size[0];
        let inside = |i: usize| low[i] > margin && high[i] < size[i] - margin;
        let outside = quad.iter().filter(|c| (0..2).any(|i| c[i] < -margin || c[i] > size[i] + margin)).count();
        match border {
            Border::Inside if inside(0) && inside(1) => return (quad, tilt),
            Border::Crossed if outside == 2 || outside == 1 => return (quad, tilt),
            _ => {}
        }
    }
    (project(at([0.0, 0.0])), tilt)
}

fn inverse(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let cofactor = |r: usize, c: usize| {
        let (a, b, d, e) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[a][d] * m[b][e] - m[a][e] * m[b][d]
    };
    let determinant: f64 = (0..3).map(|c| m[0][c] * cofactor(0, c)).sum();
    std::array::from_fn(|r| std::array::from_fn(|c| cofactor(c, r) / determinant))
}

fn bilinear(image: &Image, x: f64, y: f64) -> [f32; 3] {
    let (x, y) = (x.clamp(0.0, f64::from(image.width - 1)), y.clamp(0.0, f64::from(image.height - 1)));
    let (x0, y0) = (x as u32, y as u32);
    let (x1, y1) = ((x0 + 1).min(image.width - 1), (y0 + 1).min(image.height - 1));
    let (tx, ty) = ((x - f64::from(x0)) as f32, (y - f64::from(y0)) as f32);
    let read = |x, y| image.pixel(x, y).map(f32::from);
    blend(blend(read(x0, y0), read(x1, y0), tx), blend(read(x0, y1), read(x1, y1), tx), ty)
}

/// A finger over one side: a capsule of skin colour, darker towards its edges, that reaches in by a part of the shorter side.
fn draw_finger(canvas: &mut Canvas, quad: &Quad, random: &mut Random) {
    let side = random.below(4);
    let (a, b) = (quad[side], quad[(side + 1) % 4]);
    let t = random.within(0.1, 0.9);
    let on_side = [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t];
    let centre: [f64; 2] = std::array::from_fn(|i| quad.iter().map(|corner| corner[i]).sum::<f64>() / 4.0);
    let length = distance(on_side, centre);
    let direction = [(centre[0] - on_side[0]) / length, (centre[1] - on_side[1]) / length];
    let diagonal = distance(quad[0], quad[2]);
    let (radius, reach) = (random.within(0.05, 0.09) * diagonal, random.within(0.02, 0.12) * diagonal);
    let skin =
        [[224.0, 172.0, 140.0], [198.0, 134.0, 100.0], [120.0, 75.0, 52.0], [245.0, 200.0, 175.0]][random.below(4)];
    for y in 0..canvas.height {
        for x in 0..canvas.width {
            let d = [x as f64 - on_side[0], y as f64 - on_side[1]];
            let along = (d[0] * direction[0] + d[1] * direction[1]).min(reach);
            if along < -3.0 * diagonal {
                continue;
            }
            let away = distance(d, [direction[0] * along, direction[1] * along]) / radius;
            if away < 1.0 {
                let shade = (1.05 - 0.35 * away * away) as f32;
                canvas.pixels[y * canvas.width + x] = skin.map(|value: f32| value * shade);
            }
        }
    }
}

/// A gradient of light, sometimes a soft shadow over a half of the picture, exposure and white balance.
fn light(canvas: &mut Canvas, degradation: Option<Degradation>, random: &mut Random) {
    let (sin, cos) = (random.within(0.0, 6.3) as f32).sin_cos();
    let slope = random.within(0.0, 0.35) as f32;
    let edge = random.within(-0.3, 0.3) as f32;
    let depth = if degradation.is_none() && random.chance(0.4) { random.within(0.15, 0.5) as f32 } else { 0.0 };
    let softness = random.within(0.01, 0.2) as f32;
    let gain = match degradation {
        Some(Degradation { gain, .. }) if gain > 0.0 => gain,
        _ => random.within(0.6, 1.1),
    } as f32;
    let white: [f32; 3] = std::array::from_fn(|_| gain * random.within(0.92, 1.08) as f32);
    let (width, height) = (canvas.width as f32, canvas.height as f32);
    for (i, pixel) in canvas.pixels.iter_mut().enumerate() {
        let (x, y) = ((i % canvas.width) as f32 / width - 0.5, (i / canvas.width) as f32 / height - 0.5);
        let along = x * cos + y * sin;
        let dark = depth * ((along - edge) / softness + 0.5).clamp(0.0, 1.0);
        let factor = (1.0 + slope * along) * (1.0 - dark);
        *pixel = std::array::from_fn(|c| (pixel[c] * factor * white[c]).min(255.0));
    }
}

/// Gaussian by three box filters (Wells 1986).
fn blur(canvas: &mut Canvas, sigma: f64) {
    let radius = (((12.0 * sigma * sigma / 3.0 + 1.0).sqrt() - 1.0) / 2.0) as f32;
    // A box of fractional radius: whole pixels inside, two at the ends with a part of their weight.
    let whole = radius.floor() as isize;
    let part = radius - radius.floor();
    let weight = 1.0 / (2.0 * radius + 1.0);
    let (width, height) = (canvas.width as isize, canvas.height as isize);
    for _ in 0..3 {
        for is_row in [true, false] {
            let (lines, count, step, stride) =
                if is_row { (height, width, 1, width) } else { (width, height, width, 1) };
            let mut line = vec![[0f32; 3]; count as usize];
            for l in 0..lines {
                for (k, value) in line.iter_mut().enumerate() {
                    *value = canvas.pixels[(l * stride + k as isize * step) as usize];
                }
                let at = |k: isize| line[k.clamp(0, count - 1) as usize];
                let mut sum = [0f32; 3];
                for k in -whole..=whole {
                    sum = std::array::from_fn(|c| sum[c] + at(k)[c]);
                }
                for k in 0..count {
                    let (before, after) = (at(k - whole - 1), at(k + whole + 1));
                    canvas.pixels[(l * stride + k * step) as usize] =
                        std::array::from_fn(|c| (sum[c] + part * (before[c] + after[c])) * weight);
                    let leaving = at(k - whole);
                    sum = std::array::from_fn(|c| sum[c] + after[c] - leaving[c]);
                }
            }
        }
    }
}

fn through_jpeg(image: &Image, quality: u8) -> Image {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .write_image(&image.rgb, image.width, image.height, image::ExtendedColorType::Rgb8)
        .expect("an RGB picture");
    let decoded = image::ImageReader::with_format(Cursor::new(bytes), image::ImageFormat::Jpeg)
        .decode()
        .expect("just encoded")
        .into_rgb8();
    Image { width: image.width, height: image.height, rgb: decoded.into_raw().into() }
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Largest distance of a corner from its true place, whichever corner is called the first.
fn corner_error(found: &Quad, truth: &Quad) -> f64 {
    (0..4)
        .map(|shift| (0..4).map(|i| distance(found[(i + shift) % 4], truth[i])).fold(0.0, f64::max))
        .fold(f64::MAX, f64::min)
}

/// Runs `work` for each number below `count` on two threads and returns the results in order.
fn in_parallel<T: Send>(count: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = Mutex::new(0);
    let results = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let i = {
                        let mut next = next.lock().expect("no thread panics here");
                        *next += 1;
                        *next - 1
                    };
                    if i >= count {
                        break;
                    }
                    let result = work(i);
                    results.lock().expect("no thread panics here").insert(i, result);
                }
            });
        }
    });
    results.into_inner().expect("no thread panicked").into_values().collect()
}

fn accuracy(material: &Material, border: Border, count: u64, draw: Option<&str>) {
    for (name, find) in &Looker::new().ways() {
        println!("--- {name}");
        accuracy_of(find, material, border, count, draw);
    }
}

fn accuracy_of(
    find: &(dyn Fn(&Image) -> Option<Located> + Sync),
    material: &Material,
    border: Border,
    count: u64,
    draw: Option<&str>,
) {
    let rows = in_parallel(count, |i| {
        let scene = scene(material, material.first_seed + i, border, 1632, None);
        let found = find(&scene.image);
        let truth = distance(scene.quad[0], scene.quad[2]).max(distance(scene.quad[1], scene.quad[3]));
        let picture = f64::from(scene.image.width).hypot(f64::from(scene.image.height));
        let errors = found.as_ref().map(|found| {
            let error = corner_error(&found.quad, &scene.quad);
            (error / truth, error / picture)
        });
        let is_right = errors.is_some_and(|(error, _)| error <= 0.015);
        if let (Some(folder), false) = (draw, is_right && border == Border::Inside) {
            let word = match errors {
                None => "none",
                Some((error, _)) if error > 0.05 => "wrong",
                Some(_) => "near",
            };
            save(&drawn(&scene.image, &scene.quad, found.as_ref()), &Path::new(folder).join(format!("{word}_{i}.png")));
            println!("{i} {word} {:?} {}", errors, scene.note);
        }
        let format = found.as_ref().map(|found| (found.format, found.cut_off, found.confidence));
        (scene.background, scene.is_id1, truth / picture, errors, format)
    });
    let share = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        groups.entry("all".to_owned()).or_default().push(i);
        groups.entry(format!("background {}", row.0)).or_default().push(i);
        let size = ["document's diagonal below 35 % of the picture's", "35 to 60 %", "over 60 %"];
        groups.entry(format!("size {}", size[(row.2 > 0.35) as usize + (row.2 > 0.6) as usize])).or_default().push(i);
    }
    println!("{:60} {:>5} {:>8} {:>9} {:>8} {:>8}", "", "n", "<=1.5%d", "<=1.5%pic", "none", "wrong>5%");
    for (name, members) in &groups {
        let of = |is_counted: &dyn Fn(Option<(f64, f64)>) -> bool| {
            share(members.iter().filter(|&&i| is_counted(rows[i].3)).count(), members.len())
        };
        println!(
            "{:60} {:>5} {:>8.1} {:>9.1} {:>8.1} {:>8.1}",
            name,
            members.len(),
            of(&|e| e.is_some_and(|(d, _)| d <= 0.015)),
            of(&|e| e.is_some_and(|(_, p)| p <= 0.015)),
            of(&|e| e.is_none()),
            of(&|e| e.is_some_and(|(d, _)| d > 0.05)),
        );
    }
    let mut errors: Vec<f64> = rows.iter().filter_map(|row| row.3.map(|(d, _)| d)).filter(|&d| d <= 0.05).collect();
    errors.sort_by(f64::total_cmp);
    if let Some(median) = errors.get(errors.len() / 2) {
        println!("median corner error of quads within 5 %: {:.2} % of the document's diagonal", 100.0 * median);
    }
    let right: Vec<_> = rows.iter().filter(|row| row.3.is_some_and(|(d, _)| d <= 0.015)).collect();
    let named = right
        .iter()
        .filter(|row| row.4.is_some_and(|(format, _, _)| (format == Format::Id1) == row.1 && format != Format::Other))
        .count();
    println!("format right: {:.1} % of those within 1.5 %", share(named, right.len()));
    let cut = rows.iter().filter(|row| row.4.is_some_and(|(_, cut_off, _)| cut_off)).count();
    println!("said to be cut off: {:.1} %", share(cut, rows.len()));
}

/// Fits the weights of the judgement: conditional logistic regression, with "no document" as one of the choices, by Adam (Kingma and Ba
/// 2015) on standardised features. Every fifth picture shows no document.
fn fit(material: &Material, count: u64) {
    const STEPS: usize = 1500;
    let pictures: Vec<Vec<(bool, Features)>> = in_parallel(count, |i| {
        let random = &mut Random(mix(5_000_000 + i));
        let (image, truth) = match i % 10 {
            8 => (texture(TEXTURES[random.below(8)], 816, 612, random).to_image(), None),
            9 => {
                let path = &material.photographs[random.below(material.photographs.len())];
                (crop_of_photograph(path, 1024, 768, random).expect("a photograph").to_image(), None)
            }
            _ => {
                let scene = scene(material, material.first_seed + i, Border::Inside, 1632, None);
                (scene.image, Some(scene.quad))
            }
        };
        let (found, size) = hypotheses(&image);
        let factor = f64::from(image.width) / f64::from(size[0]);
        let is_right = |quad: &Quad| {
            truth.is_some_and(|truth| {
                corner_error(&quad.map(|c| c.map(|v| v * factor)), &truth) < 0.03 * distance(truth[0], truth[2])
            })
        };
        found.iter().map(|hypothesis| (is_right(&hypothesis.quad), hypothesis.features)).collect()
    });
    let shown: Vec<_> = pictures.iter().enumerate().filter(|(i, _)| i % 10 < 8).collect();
    let reached = shown.iter().filter(|(_, found)| found.iter().any(|(is_right, _)| *is_right)).count();
    println!("a right hypothesis on {reached} of {} pictures", shown.len());
    let all: Vec<&Features> = pictures.iter().flatten().map(|(_, features)| features).collect();
    let mean: Features = std::array::from_fn(|k| all.iter().map(|f| f[k]).sum::<f64>() / all.len() as f64);
    let deviation: Features = std::array::from_fn(|k| {
        (all.iter().map(|f| (f[k] - mean[k]).powi(2)).sum::<f64>() / all.len() as f64).sqrt() + 1e-9
    });
    // The last parameter is the bias.
    let mut weights = [0.0; FEATURES + 1];
    let (mut first, mut second) = ([0.0; FEATURES + 1], [0.0; FEATURES + 1]);
    for step in 1..=STEPS {
        let mut gradient = weights.map(|weight| 1e-4 * weight);
        for picture in &pictures {
            let inputs = picture.iter().map(|(is_right, features)| {
                let mut input = [1.0; FEATURES + 1];
                for k in 0..FEATURES {
                    input[k] = (features[k] - mean[k]) / deviation[k];
                }
                let logit: f64 = input.iter().zip(weights).map(|(value, weight)| value * weight).sum();
                (*is_right, logit.clamp(-30.0, 30.0).exp(), input)
            });
            let inputs: Vec<_> = inputs.collect();
            let total = 1.0 + inputs.iter().map(|(_, odds, _)| odds).sum::<f64>();
            let right: f64 = inputs.iter().filter(|(is_right, ..)| *is_right).map(|(_, odds, _)| odds).sum();
            for (is_right, odds, input) in &inputs {
                let pull = odds / total - if *is_right { odds / right } else { 0.0 };
                for k in 0..=FEATURES {
                    gradient[k] += pull * input[k] / pictures.len() as f64;
                }
            }
        }
        for k in 0..=FEATURES {
            first[k] = 0.9 * first[k] + 0.1 * gradient[k];
            second[k] = 0.999 * second[k] + 0.001 * gradient[k] * gradient[k];
            let (m, v) = (first[k] / (1.0 - 0.9f64.powi(step as i32)), second[k] / (1.0 - 0.999f64.powi(step as i32)));
            weights[k] -= 0.02 * m / (v.sqrt() + 1e-8);
        }
    }
    let raw: Vec<f64> = (0..FEATURES).map(|k| weights[k] / deviation[k]).collect();
    let bias = weights[FEATURES] - (0..FEATURES).map(|k| raw[k] * mean[k]).sum::<f64>();
    println!("weights {raw:.3?}, bias {bias:.3}");
}

fn negatives(folders: &[&str]) {
    let looker = Looker::new();
    for (folder, (name, find)) in
        folders.iter().flat_map(|folder| looker.ways().into_iter().map(move |way| (folder, way)))
    {
        println!("--- {name}");
        let paths = pictures_below(Path::new(folder));
        let found = in_parallel(paths.len() as u64, |i| {
            let image = open(&paths[i as usize])?;
            find(&image).map(|located| (located.confidence, located.whole_picture))
        });
        let wrong: Vec<_> = found.iter().zip(&paths).filter(|(found, _)| found.is_some()).collect();
        println!(
            "{folder}: {} of {} pictures with a quadrilateral ({:.1} %)",
            wrong.len(),
            paths.len(),
            100.0 * wrong.len() as f64 / paths.len().max(1) as f64
        );
        for (found, path) in wrong {
            println!("  {found:?} {}", path.display());
        }
    }
}

fn textures(count: u64) {
    for (name, find) in &Looker::new().ways() {
        textures_of(name, find, count);
    }
}

fn textures_of(name: &str, find: &(dyn Fn(&Image) -> Option<Located> + Sync), count: u64) {
    let found = in_parallel(count, |i| {
        let random = &mut Random(mix(9_000_000 + i));
        let kind = TEXTURES[(i % 8) as usize];
        let mut canvas = texture(kind, 816, 612, random);
        light(&mut canvas, None, random);
        blur(&mut canvas, 0.8);
        find(&canvas.to_image()).map(|located| (kind, located.confidence))
    });
    let wrong: Vec<_> = found.iter().flatten().collect();
    println!("{name}: {} of {count} drawn pictures without a document with a quadrilateral: {wrong:?}", wrong.len());
}

fn full_frames(cards: &str, list: &str, others: &str) {
    for (name, find) in &Looker::new().ways() {
        println!("--- {name}");
        full_frames_of(find, cards, list, others);
    }
}

fn full_frames_of(find: &dyn Fn(&Image) -> Option<Located>, cards: &str, list: &str, others: &str) {
    let list = read_list(cards, list);
    let count = list.len();
    let mut rows = Vec::new();
    let found = list.iter().filter(|(path, is_id1)| {
        let card = open(path).expect("a card of the list");
        let height = if *is_id1 { 806 } else { 901 };
        let located = find(&resize(&card, 1280, height));
        rows.push(row_modulation(&resize(&card, 1280, height)));
        let right = located
            .as_ref()
            .is_some_and(|found| corner_error(&found.quad, &frame(1280.0, f64::from(height))) < 0.03 * 1500.0);
        if !right {
            println!("  not whole: {} {:?}", path.file_name().unwrap_or_default().display(), located.map(|l| l.quad));
        }
        right
    });
    println!("the whole picture: {} of {count} cropped documents", found.count());
    rows.sort_by(f64::total_cmp);
    println!("modulation of their rows, lowest first: {rows:.2?}");
    let mut rows = Vec::new();
    let mut wrong = [0, 0, 0];
    for path in pictures_below(Path::new(others)) {
        let Some(picture) = open(&path) else { continue };
        for (aspect, count) in [85.6 / 53.98, 125.0 / 88.0].into_iter().zip(0..) {
            let height = ((f64::from(picture.width) / aspect) as u32).min(picture.height);
            let width = ((f64::from(height) * aspect) as u32).min(picture.width);
            let cropped = crop(&picture, [(picture.width - width) / 2, (picture.height - height) / 2], [width, height]);
            wrong[count] += usize::from(find(&cropped).is_some());
            rows.push(row_modulation(&cropped));
        }
        wrong[2] += 1;
    }
    rows.sort_by(|a, b| b.total_cmp(a));
    println!("modulation of the rows of other pictures, highest first: {:.2?}", &rows[..rows.len().min(20)]);
    println!(
        "pictures without a document, cropped to the shape of ID-1 / of a page: {} / {} of {}",
        wrong[0], wrong[1], wrong[2]
    );
}

fn frame(width: f64, height: f64) -> Quad {
    [[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]]
}

fn capture_warnings(material: &Material, count: u64) {
    let good = Degradation { gain: 0.9, ..Degradation::default() };
    let kinds = [
        ("good", good),
        ("blur 0.15 mm", Degradation { blur_mm: 0.15, ..good }),
        ("blur 0.30 mm", Degradation { blur_mm: 0.3, ..good }),
        ("blur 0.60 mm", Degradation { blur_mm: 0.6, ..good }),
        ("blur 1.00 mm", Degradation { blur_mm: 1.0, ..good }),
        ("glare on 2 %", Degradation { glare: 0.02, ..good }),
        ("glare on 6 %", Degradation { glare: 0.06, ..good }),
        ("gain 0.35", Degradation { gain: 0.35, ..good }),
        ("gain 0.20", Degradation { gain: 0.2, ..good }),
        ("gain 0.10", Degradation { gain: 0.1, ..good }),
        ("grey copy", Degradation { grey: true, ..good }),
    ];
    for (name, degradation) in kinds {
        let warnings = in_parallel(count, |i| {
            let scene = scene(material, material.first_seed + i, Border::Inside, 2448, Some(degradation));
            let format = if scene.is_id1 { Format::Id1 } else { Format::Id2OrId3 };
            let located = Located {
                quad: scene.quad,
                confidence: 1.0,
                format,
                cut_off: false,
                whole_picture: false,
                is_upright: true,
            };
            (capture::assess(&scene.image, &located), capture::measure(&scene.image, &located))
        });
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for warning in warnings.iter().flat_map(|(warnings, _)| warnings) {
            *counts.entry(warning.code()).or_default() += 1;
        }
        let shares: Vec<String> =
            counts.iter().map(|(code, n)| format!("{code} {:.0} %", 100.0 * *n as f64 / count as f64)).collect();
        println!("{name:14} {}", shares.join(", "));
        type Value = fn(&capture::CaptureMeasures) -> f64;
        let values: [(&str, Value); 5] = [
            ("px per mm", |m| m.px_per_mm),
            ("sharpness", |m| m.sharpness),
            ("paper", |m| m.paper_luma),
            ("glare", |m| m.glare_share),
            ("colour", |m| m.colour),
        ];
        for (what, value) in values {
            let mut sorted: Vec<f64> =
                warnings.iter().filter_map(|(_, measures)| measures.as_ref().map(value)).collect();
            sorted.sort_by(f64::total_cmp);
            let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
            println!("    {what}: 5 % {:.3}, median {:.3}, 95 % {:.3}", at(0.05), at(0.5), at(0.95));
        }
    }
}

fn timing(material: &Material) {
    let looker = Looker::new();
    let sizes = [("2 MP", 1632), ("12 MP", 4032)];
    for ((way, find), (name, long_side)) in looker.ways().iter().flat_map(|way| sizes.map(|size| (way, size))) {
        let mut times: Vec<f64> = Vec::new();
        for seed in 0..12 {
            let scene = scene(material, material.first_seed + seed, Border::Inside, long_side, None);
            for _ in 0..3 {
                let start = Instant::now();
                std::hint::black_box(find(&scene.image));
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        times.sort_by(f64::total_cmp);
        println!("{way}, {name}: median {:.1} ms, slowest {:.1} ms", times[times.len() / 2], times[times.len() - 1]);
    }
}

/// What a way found in a photograph.
struct Found {
    /// Largest distance of a corner, over the document's diagonal; `None` if nothing was found.
    error: Option<f64>,
    is_upright: bool,
    ms: f64,
    confidence: f64,
}

/// First seed of the photographs; the training of the locator draws from other streams of chance.
const FIRST_PHOTOGRAPH: u64 = 600_000;

/// How near the found corners are to the true ones, and whether the first corner is the document's own top left, on photographs of
/// documents that lie in the picture whole, and on those of which a corner is outside.
fn photographs(count: u64, draw: Option<&str>) {
    let looker = Looker::new();
    let ways = looker.ways();
    let rows = in_parallel(count, |i| {
        let kind = Kind::ALL[(i / 5) as usize % Kind::ALL.len()];
        let (seed, level) = (FIRST_PHOTOGRAPH + i, (i % 5) as u8);
        let document = specimen(kind, seed, &Options { dpi: 200, ..Options::default() });
        let page = &document.pages[(i / 35) as usize % document.pages.len()];
        let taken = photograph(page, &Shot { seed, level, size_px: [1280, 720] });
        let (image, truth) = (taken.image(), taken.truth.document_quad);
        let is_whole = taken.truth.capture.expect("a photograph").corners_inside == 4;
        let results: Vec<_> = ways
            .iter()
            .map(|(name, find)| {
                let started = Instant::now();
                let found = find(&image);
                let ms = started.elapsed().as_secs_f64() * 1e3;
                let diagonal = distance(truth[0], truth[2]).max(distance(truth[1], truth[3]));
                let error = found.as_ref().map(|found| corner_error(&found.quad, &truth) / diagonal);
                let is_upright = found.as_ref().is_some_and(|found| distance(found.quad[0], truth[0]) < 0.3 * diagonal);
                if let (Some(folder), true) =
                    (draw, *name == "all" && is_whole && error.is_none_or(|error| error > 0.01))
                {
                    save(
                        &drawn(&image, &truth, found.as_ref()),
                        &Path::new(folder).join(format!("{}_{i}.png", kind.name())),
                    );
                    println!("{} {i} level {level} {error:?}", kind.name());
                }
                Found { error, is_upright, ms, confidence: found.map_or(0.0, |found| found.confidence) }
            })
            .collect();
        (kind, level, is_whole, results)
    });
    for (index, (name, _)) in ways.iter().enumerate() {
        println!("--- {name}");
        println!(
            "{:22} {:>5} {:>7} {:>7} {:>7} {:>7} {:>9} {:>10} {:>8}",
            "", "n", "<=1 %", "<=2 %", ">5 %", "none", "median %", "upright %", "ms"
        );
        let mut groups: BTreeMap<String, Vec<&Found>> = BTreeMap::new();
        for (kind, level, is_whole, results) in &rows {
            let result = &results[index];
            groups.entry("all".into()).or_default().push(result);
            if *is_whole {
                groups.entry("whole".into()).or_default().push(result);
                groups.entry(format!("whole, level {level}")).or_default().push(result);
                groups.entry(format!("whole, {}", kind.name())).or_default().push(result);
            } else {
                groups.entry("a corner outside".into()).or_default().push(result);
            }
            let step = (result.confidence * 10.0).floor() / 10.0;
            groups.entry(format!("confidence {step:.1}")).or_default().push(result);
        }
        for (name, results) in groups {
            let share = |is_counted: &dyn Fn(Option<f64>) -> bool| {
                100.0 * results.iter().filter(|result| is_counted(result.error)).count() as f64 / results.len() as f64
            };
            let middle = |mut values: Vec<f64>| {
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
            };
            println!(
                "{name:22} {:5} {:7.1} {:7.1} {:7.1} {:7.1} {:9.2} {:10.1} {:8.1}",
                results.len(),
                share(&|error| error.is_some_and(|error| error <= 0.01)),
                share(&|error| error.is_some_and(|error| error <= 0.02)),
                share(&|error| error.is_some_and(|error| error > 0.05)),
                share(&|error| error.is_none()),
                100.0 * middle(results.iter().filter_map(|result| result.error).collect()),
                100.0 * results.iter().filter(|result| result.is_upright).count() as f64 / results.len() as f64,
                middle(results.iter().map(|result| result.ms).collect()),
            );
        }
    }
}

/// The picture at a third of its size with the true corners in green and those found in red.
fn drawn(image: &Image, truth: &Quad, found: Option<&Located>) -> Image {
    let factor = 544.0 / f64::from(image.width.max(image.height));
    let small = resize(image, (f64::from(image.width) * factor) as u32, (f64::from(image.height) * factor) as u32);
    let mut canvas = Canvas::from_image(&small);
    let quads = [Some((truth, [0.0, 255.0, 0.0])), found.map(|found| (&found.quad, [255.0, 0.0, 0.0]))];
    for (quad, colour) in quads.into_iter().flatten() {
        for i in 0..4 {
            let (a, b) = (quad[i], quad[(i + 1) % 4]);
            for step in 0..1500 {
                let t = f64::from(step) / 1500.0;
                let (x, y) = ((a[0] + (b[0] - a[0]) * t) * factor, (a[1] + (b[1] - a[1]) * t) * factor);
                if x >= 0.0 && y >= 0.0 && (x as usize) < canvas.width && (y as usize) < canvas.height {
                    let at = y as usize * canvas.width + x as usize;
                    canvas.pixels[at] = colour;
                }
            }
        }
    }
    canvas.to_image()
}

fn save(image: &Image, path: &Path) {
    let file = std::fs::File::create(path).expect("the folder to draw into");
    image::codecs::png::PngEncoder::new(std::io::BufWriter::new(file))
        .write_image(&image.rgb, image.width, image.height, image::ExtendedColorType::Rgb8)
        .expect("an RGB picture");
}
