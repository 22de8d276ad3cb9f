//! What a camera makes of a document.
//!
//! Called with a drawn sheet. [`place`] lays it into a scene in perspective; [`Capture::develop`] does to the scene what light, lens,
//! sensor and file format do, in this order. All strengths come from a level of degradation: 0 is a flatbed scan, 2 what people send
//! in, 4 what a person can just read. Left out: colour management, rolling shutter.

use turbojpeg::{Compressor, PixelFormat, Subsamp};

use super::random::Random;
use super::texture::Texture;
use crate::document::locate::Quad;
use crate::imaging::Image;
use crate::imaging::warp::{Affine, Perspective, Sampling, warp};

/// The worst level of degradation.
pub const MAX_LEVEL: u8 = 4;

/// Planes of values 0..=255, one for grey or three for red, green and blue, each row by row.
#[derive(Debug, Clone)]
pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub planes: Vec<Vec<f32>>,
}

impl Frame {
    pub fn colour(image: &Image) -> Self {
        let plane = |channel: usize| image.rgb.iter().skip(channel).step_by(3).map(|&value| f32::from(value)).collect();
        Self { width: image.width as usize, height: image.height as usize, planes: (0..3).map(plane).collect() }
    }

    /// One plane, of weights 0.299, 0.587 and 0.114.
    pub fn grey(image: &Image) -> Self {
        let luma = |rgb: &[u8]| 0.299 * f32::from(rgb[0]) + 0.587 * f32::from(rgb[1]) + 0.114 * f32::from(rgb[2]);
        let plane = image.rgb.chunks_exact(3).map(luma).collect();
        Self { width: image.width as usize, height: image.height as usize, planes: vec![plane] }
    }

    pub fn to_image(&self) -> Image {
        let byte = |value: f32| (value + 0.5).clamp(0.0, 255.0) as u8;
        Image::build(self.width as u32, self.height as u32, |rgb| {
            for (channel, plane) in (0..3).zip(self.planes.iter().cycle()) {
                for (to, from) in rgb.iter_mut().skip(channel).step_by(3).zip(plane) {
                    *to = byte(*from);
                }
            }
        })
    }
}

/// A bright reflection: its centre and radii as shares of the picture's width, and how much light it adds.
#[derive(Debug, Clone, Copy)]
struct Glare {
    centre: [f64; 2],
    radii: [f64; 2],
    strength: f64,
}

/// A shadow with a straight soft edge.
#[derive(Debug, Clone, Copy)]
struct Shadow {
    /// A point of the edge as shares of width and height, and the direction into the shadow.
    at: [f64; 2],
    angle: f64,
    /// Width of the edge as a share of the picture's width.
    softness: f64,
    /// 0..1: what is left of the light.
    light: f64,
}

/// How one picture is taken.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Radius (deviation) of the blur out of focus.
    pub defocus_px: f64,
    /// Length and direction of the movement.
    pub motion_px: f64,
    pub motion_deg: f64,
    /// Deviation of the noise in grey steps at mid-grey.
    pub noise: f64,
    /// What black and white become.
    pub black: f64,
    pub white: f64,
    pub gamma: f64,
    /// Factors of red, green and blue.
    pub cast: [f64; 3],
    /// Brightness at the left and right, top and bottom against the middle.
    gradient: [f64; 2],
    glares: Vec<Glare>,
    shadow: Option<Shadow>,
    /// Contrast of the stripes of a photographed screen, their period and direction.
    moire: Option<[f64; 3]>,
    /// Quality of JPEG compression, 1..=100; `None`: none.
    pub jpeg_quality: Option<u8>,
}

impl Capture {
    /// A picture without any fault.
    pub fn perfect() -> Self {
        Self {
            defocus_px: 0.0,
            motion_px: 0.0,
            motion_deg: 0.0,
            noise: 0.0,
            black: 0.0,
            white: 255.0,
            gamma: 1.0,
            cast: [1.0; 3],
            gradient: [0.0; 2],
            glares: Vec::new(),
            shadow: None,
            moire: None,
            jpeg_quality: None,
        }
    }

    /// A picture of a level of degradation. `detail_px` is the size of what must stay readable, the height of the capital letters:
    /// blur is in proportion to it.
    pub fn of_level(level: u8, detail_px: f64, random: &mut Random) -> Self {
        let level = level.min(MAX_LEVEL);
        if level == 0 {
            return Self {
                noise: random.within(0.0, 2.0),
                defocus_px: random.within(0.0, 0.02) * detail_px,
                jpeg_quality: random.chance(0.5).then(|| random.between(85, 97) as u8),
                ..Self::perfect()
            };
        }
        let by = f64::from(level) / f64::from(MAX_LEVEL);
        let mut capture = Self::perfect();
        capture.defocus_px = random.within(0.0, 0.05 + 0.08 * by) * detail_px;
        if random.chance(0.15 + 0.3 * by) {
            capture.motion_px = random.within(0.0, 0.1 + 0.25 * by) * detail_px;
            capture.motion_deg = random.within(0.0, 180.0);
        }
        capture.noise = random.within(0.0, 3.0 + 11.0 * by);
        capture.black = random.within(0.0, 20.0 + 50.0 * by);
        capture.white = random.within(255.0 - 105.0 * by, 255.0);
        capture.gamma = libm::exp(random.within(-0.25, 0.25 + 0.2 * by));
        capture.cast = std::array::from_fn(|_| random.within(1.0 - 0.2 * by, 1.0 + 0.05 * by));
        capture.gradient = std::array::from_fn(|_| random.within(-0.35 * by, 0.35 * by));
        if random.chance(0.1 + 0.25 * by) {
            for _ in 0..random.between(1, 2) {
                capture.glares.push(Glare {
                    centre: [random.within(0.0, 1.0), random.within(-0.2, 1.2)],
                    radii: [random.within(0.03, 0.2), random.within(0.02, 0.12)],
                    strength: random.within(20.0, 60.0 + 110.0 * by),
                });
            }
        }
        if random.chance(0.1 + 0.3 * by) {
            capture.shadow = Some(Shadow {
                at: [random.within(0.1, 0.9), random.within(0.1, 0.9)],
                angle: random.within(0.0, std::f64::consts::TAU),
                softness: random.within(0.005, 0.2),
                light: random.within(1.0 - 0.55 * by, 0.95),
            });
        }
        if random.chance(0.03 + 0.07 * by) {
            let contrast = random.within(0.02, 0.05 + 0.1 * by);
            capture.moire = Some([contrast, random.within(2.2, 9.0), random.within(0.0, 180.0)]);
        }
        if random.chance(0.75) {
            capture.jpeg_quality = Some(random.between((88.0 - 62.0 * by) as u32, 95) as u8);
        }
        capture
    }

    /// The scene as the camera's file shows it.
    pub fn develop(&self, mut frame: Frame, random: &mut Random) -> Frame {
        self.light_up(&mut frame);
        if self.defocus_px > 0.15 {
            let kernel = gaussian(self.defocus_px);
            frame.planes.iter_mut().for_each(|plane| *plane = blurred(plane, frame.width, &kernel));
        }
        if self.motion_px > 0.7 {
            let (width, height) = (frame.width, frame.height);
            frame.planes.iter_mut().for_each(|plane| *plane = self.moved(plane, width, height));
        }
        self.expose(&mut frame, random);
        match self.jpeg_quality {
            Some(quality) => compressed(&frame, quality),
            None => frame,
        }
    }

    fn light_up(&self, frame: &mut Frame) {
        let is_even =
            self.gradient == [0.0; 2] && self.glares.is_empty() && self.shadow.is_none() && self.moire.is_none();
        if is_even {
            return;
        }
        let (width, height) = (frame.width as f64, frame.height as f64);
        let shadow = self.shadow.map(|shadow| {
            let (sin, cos) = (libm::sin(shadow.angle), libm::cos(shadow.angle));
            (shadow, cos / (shadow.softness * width), sin / (shadow.softness * width))
        });
        let stripes = self.moire.map(|[contrast, period, degrees]| {
            let (sin, cos) = (libm::sin(degrees.to_radians()), libm::cos(degrees.to_radians()));
            (contrast, cos / period, sin / period)
        });
        for y in 0..frame.height {
            let v = (y as f64 + 0.5) / height - 0.5;
            for x in 0..frame.width {
                let u = (x as f64 + 0.5) / width - 0.5;
                let mut factor = 1.0 + self.gradient[0] * u * 2.0 + self.gradient[1] * v * 2.0;
                if let Some((shadow, dx, dy)) = shadow {
                    let depth = (x as f64 - shadow.at[0] * width) * dx + (y as f64 - shadow.at[1] * height) * dy;
                    let dark = (depth + 0.5).clamp(0.0, 1.0);
                    factor *= 1.0 - (1.0 - shadow.light) * dark * dark * (3.0 - 2.0 * dark);
                }
                let mut added = 0.0;
                for glare in &self.glares {
                    let dx = (u + 0.5 - glare.centre[0]) / glare.radii[0];
                    let dy = (v + 0.5 - glare.centre[1]) * height / width / glare.radii[1];
                    let distance = dx * dx + dy * dy;
                    if distance < 9.0 {
                        // As a bell, but rational.
                        added += glare.strength * (1.0 - distance / 9.0) * (1.0 - distance / 9.0) / (1.0 + distance);
                    }
                }
                let at = y * frame.width + x;
                for (channel, plane) in frame.planes.iter_mut().enumerate() {
                    let mut factor = factor;
                    if let Some((contrast, dx, dy)) = stripes {
                        // The stripes of the three colours of a screen stand beside each other.
                        let phase = x as f64 * dx + y as f64 * dy + channel as f64 / 3.0;
                        let saw = (phase - phase.floor()) * 2.0 - 1.0;
                        factor *= 1.0 + contrast * (1.0 - 2.0 * saw.abs());
                    }
                    plane[at] = plane[at] * factor as f32 + added as f32;
                }
            }
        }
    }

    /// Blur along the movement.
    fn moved(&self, plane: &[f32], width: usize, height: usize) -> Vec<f32> {
        let taps = (self.motion_px * 1.5).ceil() as usize + 1;
        let angle = self.motion_deg.to_radians();
        let [dx, dy] = [libm::cos(angle), libm::sin(angle)].map(|part| part * self.motion_px);
        let mut sums = vec![0.0; plane.len()];
        for tap in 0..taps {
            let share = tap as f64 / (taps - 1) as f64 - 0.5;
            let [shift_x, shift_y] = [dx * share, dy * share];
            let (whole_x, whole_y) = (shift_x.floor(), shift_y.floor());
            let (fx, fy) = ((shift_x - whole_x) as f32, (shift_y - whole_y) as f32);
            let row_at = |y: i64| y.clamp(0, height as i64 - 1) as usize * width;
            for y in 0..height {
                let (upper, lower) = (row_at(y as i64 + whole_y as i64), row_at(y as i64 + whole_y as i64 + 1));
                for x in 0..width {
                    let column = |x: i64| x.clamp(0, width as i64 - 1) as usize;
                    let (left, right) = (column(x as i64 + whole_x as i64), column(x as i64 + whole_x as i64 + 1));
                    let a = plane[upper + left] * (1.0 - fx) + plane[upper + right] * fx;
                    let b = plane[lower + left] * (1.0 - fx) + plane[lower + right] * fx;
                    sums[y * width + x] += (a + (b - a) * fy) / taps as f32;
                }
            }
        }
        sums
    }

    fn expose(&self, frame: &mut Frame, random: &mut Random) {
        let curve: Vec<f32> = (0..=1023)
            .map(|step| {
                let share = libm::pow(f64::from(step) / 1023.0, self.gamma);
                (self.black + (self.white - self.black) * share) as f32
            })
            .collect();
        let grey = [(self.cast[0] + self.cast[1] + self.cast[2]) / 3.0; 3];
        let cast = if frame.planes.len() == 3 { self.cast } else { grey };
        let noise = self.noise as f32;
        for (plane, cast) in frame.planes.iter_mut().zip(cast) {
            for value in plane.iter_mut() {
                let step = (value.clamp(0.0, 255.0) * (1023.0 / 255.0)) as usize;
                let exposed = curve[step] * cast as f32;
                // More light, more noise: as its square root.
                let deviation =
                    if noise > 0.0 { noise * (exposed.max(0.0) / 128.0 + 0.3).sqrt() * random.normal() } else { 0.0 };
                *value = exposed + deviation;
            }
        }
    }
}

/// The right half of a bell, from its middle on, the whole of which sums up to 1.
fn gaussian(deviation: f64) -> Vec<f32> {
    let radius = (deviation * 2.8).ceil() as usize;
    let half: Vec<f64> =
        (0..=radius).map(|at| libm::exp(-((at * at) as f64) / (2.0 * deviation * deviation))).collect();
    let sum = half[0] + 2.0 * half[1..].iter().sum::<f64>();
    half.iter().map(|value| (value / sum) as f32).collect()
}

/// A plane blurred along rows, then along columns; at the border its last value is repeated.
fn blurred(plane: &[f32], width: usize, kernel: &[f32]) -> Vec<f32> {
    let radius = kernel.len() - 1;
    let mut across = vec![0.0; plane.len()];
    let mut padded = vec![0.0; width + 2 * radius];
    for (to, row) in across.chunks_exact_mut(width).zip(plane.chunks_exact(width)) {
        padded[..radius].fill(row[0]);
        padded[radius..radius + width].copy_from_slice(row);
        padded[radius + width..].fill(row[width - 1]);
        for (to, from) in to.iter_mut().zip(&padded[radius..]) {
            *to = from * kernel[0];
        }
        for (distance, weight) in kernel.iter().enumerate().skip(1) {
            let (left, right) = (&padded[radius - distance..], &padded[radius + distance..]);
            for ((to, left), right) in to.iter_mut().zip(left).zip(right) {
                *to += (left + right) * weight;
            }
        }
    }
    let height = plane.len() / width;
    let mut down = vec![0.0; plane.len()];
    for (y, to) in down.chunks_exact_mut(width).enumerate() {
        let row = |y: i64| &across[y.clamp(0, height as i64 - 1) as usize * width..][..width];
        for (to, from) in to.iter_mut().zip(row(y as i64)) {
            *to = from * kernel[0];
        }
        for (distance, weight) in kernel.iter().enumerate().skip(1) {
            let (above, below) = (row(y as i64 - distance as i64), row(y as i64 + distance as i64));
            for ((to, above), below) in to.iter_mut().zip(above).zip(below) {
                *to += (above + below) * weight;
            }
        }
    }
    down
}

/// A frame as a JPEG file of a quality of 1..=100.
pub fn jpeg(frame: &Frame, quality: u8) -> Vec<u8> {
    let (width, height) = (frame.width, frame.height);
    let (format, subsampling) =
        if frame.planes.len() == 1 { (PixelFormat::GRAY, Subsamp::Gray) } else { (PixelFormat::RGB, Subsamp::Sub2x2) };
    let channels = format.size();
    let mut pixels = vec![0; width * height * channels];
    for (channel, plane) in frame.planes.iter().enumerate() {
        for (to, from) in pixels.iter_mut().skip(channel).step_by(channels).zip(plane) {
            *to = (from + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
    let image = turbojpeg::Image { pixels: pixels.as_slice(), width, pitch: width * channels, height, format };
    let compress = || -> Result<Vec<u8>, turbojpeg::Error> {
        let mut compressor = Compressor::new()?;
        compressor.set_quality(i32::from(quality.clamp(1, 100)))?;
        compressor.set_subsamp(subsampling)?;
        compressor.compress_to_vec(image)
    };
    // Compressing a picture in memory fails only without memory.
    compress().expect("the JPEG encoder takes any picture")
}

/// Through a JPEG file and back.
pub(super) fn compressed(frame: &Frame, quality: u8) -> Frame {
    let channels = frame.planes.len();
    let format = if channels == 1 { PixelFormat::GRAY } else { PixelFormat::RGB };
    let file = jpeg(frame, quality);
    let pixels = turbojpeg::decompress(&file, format).expect("a file of the encoder's own").pixels;
    let plane = |channel: usize| pixels.iter().skip(channel).step_by(channels).map(|&value| f32::from(value)).collect();
    Frame { width: frame.width, height: frame.height, planes: (0..channels).map(plane).collect() }
}

/// Lays a sheet over a backdrop, its corners (clockwise from its top left) at `quad` of the backdrop, in pixel areas. Its corners are
/// round with a radius of `corner_px` pixels of its own; outside of them the backdrop is seen. `None` if the quadrilateral is not
/// convex, not clockwise or has no area.
pub fn place(sheet: &Image, corner_px: f64, quad: &Quad, backdrop: &Image) -> Option<Image> {
    let [width, height] = [sheet.width, sheet.height].map(f64::from);
    let to_scene = Perspective::from_rectangle([width, height], quad)?;
    let to_sheet = to_scene.invert()?;
    // The part of the scene that the sheet may cover, with a pixel around it.
    let bound = |axis: usize, size: u32| {
        let (low, high) = quad
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), corner| (low.min(corner[axis]), high.max(corner[axis])));
        let [low, high] = [low - 1.0, high + 2.0].map(|value| value.clamp(0.0, f64::from(size)) as u32);
        (low, high - low)
    };
    let ((left, columns), (top, rows)) = (bound(0, backdrop.width), bound(1, backdrop.height));
    if columns == 0 || rows == 0 {
        return Some(backdrop.clone());
    }
    let shift = Affine { m: [[1.0, 0.0, f64::from(left)], [0.0, 1.0, f64::from(top)]] };
    let seen =
        warp(sheet, &to_sheet.in_pixel_centres().between(&shift, &Affine::IDENTITY), [columns, rows], Sampling::Area);
    // Of each side the distance of a point from it in pixels, positive inside.
    let sides: [[f64; 3]; 4] = std::array::from_fn(|corner| {
        let ([ax, ay], [bx, by]) = (quad[corner], quad[(corner + 1) % 4]);
        let length = ((bx - ax) * (bx - ax) + (by - ay) * (by - ay)).sqrt();
        let [nx, ny] = [(ay - by) / length, (bx - ax) / length];
        [nx, ny, -nx * ax - ny * ay]
    });
    // The share of a pixel that is covered is its distance from the nearest side and a half.
    let inside = |x: f64, y: f64| -> f64 {
        let flat = sides.iter().map(|[nx, ny, shift]| nx * x + ny * y + shift).fold(f64::INFINITY, f64::min);
        if flat <= -1.0 || corner_px <= 0.0 {
            return flat;
        }
        // Near a corner the distance from its circle counts, brought to pixels of the scene.
        let [u, v] = to_sheet.apply([x, y]);
        let [du, dv] = [(corner_px - u).max(u - width + corner_px), (corner_px - v).max(v - height + corner_px)];
        if du > 0.0 && dv > 0.0 {
            let [u2, v2] = to_sheet.apply([x + 1.0, y]);
            let reduction = ((u2 - u) * (u2 - u) + (v2 - v) * (v2 - v)).sqrt().max(1e-6);
            flat.min((corner_px - (du * du + dv * dv).sqrt()) / reduction)
        } else {
            flat
        }
    };
    Some(Image::build(backdrop.width, backdrop.height, |rgb| {
        rgb.copy_from_slice(&backdrop.rgb);
        let row_bytes = backdrop.width as usize * 3;
        let lines = rgb.chunks_exact_mut(row_bytes).skip(top as usize).zip(seen.rgb.chunks_exact(columns as usize * 3));
        for (y, (line, seen)) in lines.enumerate() {
            let line = &mut line[left as usize * 3..][..columns as usize * 3];
            for (x, (to, sheet)) in line.chunks_exact_mut(3).zip(seen.chunks_exact(3)).enumerate() {
                let at = [x as f64 + f64::from(left) + 0.5, y as f64 + f64::from(top) + 0.5];
                let share = (inside(at[0], at[1]) + 0.5).clamp(0.0, 1.0) as f32;
                for (to, sheet) in to.iter_mut().zip(sheet) {
                    let backdrop = f32::from(*to);
                    *to = (backdrop + (f32::from(*sheet) - backdrop) * share + 0.5) as u8;
                }
            }
        }
    }))
}

/// A surface that a document lies on: wood, cloth, stone, paper with print on it, a plain desk.
pub fn backdrop([width, height]: [u32; 2], random: &mut Random) -> Image {
    let size = [width as usize, height as usize];
    let base: [f64; 3] = {
        let light = random.within(25.0, 225.0);
        std::array::from_fn(|_| (light + random.within(-35.0, 35.0)).clamp(5.0, 250.0))
    };
    let mut layers: Vec<(Texture, [f32; 3])> = Vec::new();
    let strength = |random: &mut Random, most: f64| -> [f32; 3] {
        let common = random.within(1.0, most);
        std::array::from_fn(|_| (common * random.within(0.7, 1.2)) as f32)
    };
    let side = f64::from(width.max(height));
    match random.below(4) {
        // Wood: hills drawn out along one direction.
        0 => {
            let long = [side * random.within(0.2, 0.8), side * random.within(0.004, 0.02)];
            let cell = if random.chance(0.5) { long } else { [long[1], long[0]] };
            layers.push((Texture::hills(size, cell, random), strength(random, 22.0)));
        }
        // Cloth: two waves across each other.
        1 => {
            let (period, angle) = (random.within(3.0, 24.0), random.within(0.0, 180.0));
            for angle in [angle, angle + 90.0] {
                layers.push((
                    Texture::waves(size, period, angle, random.within(0.0, 0.3), random),
                    strength(random, 18.0),
                ));
            }
        }
        // Stone.
        2 => {
            for cell in [side * 0.1, side * 0.02, 4.0] {
                layers.push((Texture::hills(size, [cell, cell], random), strength(random, 20.0)));
            }
        }
        _ => {}
    }
    let soft = side * random.within(0.2, 0.6);
    layers.push((Texture::hills(size, [soft, soft], random), strength(random, 14.0)));
    let tiles = random
        .chance(0.2)
        .then(|| [random.within(0.08, 0.4) * side, random.within(1.0, 5.0), random.within(-60.0, 60.0)]);
    Image::build(width, height, |rgb| {
        for (at, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            let (x, y) = (at % size[0], at / size[0]);
            let joint =
                tiles.is_some_and(|[period, width, _]| (x as f64) % period < width || (y as f64) % period < width);
            for (channel, value) in pixel.iter_mut().enumerate() {
                let sum: f32 = layers.iter().map(|(texture, strength)| texture.values[at] * strength[channel]).sum();
                let joint = if joint { tiles.map_or(0.0, |tiles| tiles[2]) } else { 0.0 };
                *value = (base[channel] + joint + f64::from(sum)).clamp(0.0, 255.0) as u8;
            }
        }
    })
}
