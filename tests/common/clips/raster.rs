//! Triangles with a texture, drawn into frames with the grain of a sensor.
//!
//! Called by `head.rs` and `attacks.rs`. Tests are compiled without optimisation, so the loops over pixels are plain
//! `while` loops over packed texels, without calls: some 20 ns a pixel. Left out: anti-aliasing of edges, light,
//! minification by more than two.

use std::sync::OnceLock;

use vouch::imaging::Image;
use vouch::specimen::random::Random;

/// Size of all frames in pixels.
pub const WIDTH: usize = 640;
pub const HEIGHT: usize = 480;

/// The grain adds at most this to either side; textures keep as much away from black and white, so that nothing
/// overflows.
const GRAIN: u64 = 6;
/// Values of a texture, after which room for the grain is left.
const VALUES: u64 = 255 - 2 * GRAIN;
/// Standard deviation of the grain, in steps of 1/255.
const GRAIN_SIGMA: f64 = 1.4;
/// Texels of grain from which each row of a frame takes a stretch.
const GRAINS: usize = 1 << 14;

/// One bit in each lane of a texel.
const LANES: u64 = 1 | 1 << 20 | 1 << 40;

/// A picture whose pixels are packed into lanes of 20 bits each, in which weighted sums of four do not overflow.
#[derive(Clone)]
pub struct Texture {
    pub width: usize,
    pub height: usize,
    pub texels: Vec<u64>,
}

impl Texture {
    pub fn new(width: usize, height: usize, [r, g, b]: [u8; 3]) -> Self {
        Self { width, height, texels: vec![pack(r, g, b); width * height] }
    }

    pub fn from_image(image: &Image) -> Self {
        let mut texture = Self::new(image.width as usize, image.height as usize, [0; 3]);
        let (mut at, mut byte) = (0, 0);
        while at < texture.texels.len() {
            texture.texels[at] = pack(image.rgb[byte], image.rgb[byte + 1], image.rgb[byte + 2]);
            at += 1;
            byte += 3;
        }
        texture
    }

    /// With its last row and column once more.
    pub fn with_rim(&self) -> Self {
        let mut texels = Vec::with_capacity((self.width + 1) * (self.height + 1));
        for row in (0..self.height).chain([self.height - 1]) {
            let line = &self.texels[row * self.width..(row + 1) * self.width];
            texels.extend_from_slice(line);
            texels.push(line[self.width - 1]);
        }
        Self { width: self.width + 1, height: self.height + 1, texels }
    }

    /// The mixture of the four texels around a place; places outside are moved to the border.
    pub fn sample(&self, x: f32, y: f32) -> u64 {
        let (mut x, mut y) = ((x * 256.0) as i32, (y * 256.0) as i32);
        let (right, bottom) = ((self.width as i32 - 2) << 8, (self.height as i32 - 2) << 8);
        if x < 0 {
            x = 0;
        } else if x > right {
            x = right;
        }
        if y < 0 {
            y = 0;
        } else if y > bottom {
            y = bottom;
        }
        let at = (y >> 8) as usize * self.width + (x >> 8) as usize;
        let (fx, fy) = ((x & 255) as u64, (y & 255) as u64);
        let both = (fx * fy) >> 8;
        let sum = self.texels[at] * (256 + both - fx - fy)
            + self.texels[at + 1] * (fx - both)
            + self.texels[at + self.width] * (fy - both)
            + self.texels[at + self.width + 1] * both;
        (sum >> 8) & (LANES * 255)
    }
}

/// A colour as a texel.
pub fn pack(r: u8, g: u8, b: u8) -> u64 {
    let value = |byte: u8| u64::from(byte) * VALUES / 255;
    value(r) | value(g) << 20 | value(b) << 40
}

/// `share` of 256 parts of `a`, the rest of `b`.
pub fn mix(a: u64, b: u64, share: u64) -> u64 {
    ((a * share + b * (256 - share)) >> 8) & (LANES * 255)
}

/// A point of a sheet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vertex {
    /// Where it lies in the frame, in pixels; pixel `i` has its centre at `i`.
    pub x: f32,
    pub y: f32,
    /// How far away it is, in any unit.
    pub z: f32,
    /// Where it lies in the texture, in texels.
    pub u: f32,
    pub v: f32,
}

/// A frame in the making.
pub struct Canvas {
    pub rgb: Vec<u8>,
    grain: &'static [u64],
    /// Where each row's grain begins.
    starts: Vec<usize>,
}

impl Canvas {
    /// Black, with a grain that depends on the seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "grain");
        Self {
            rgb: vec![0; WIDTH * HEIGHT * 3],
            grain: grain(),
            starts: (0..HEIGHT).map(|_| random.below(GRAINS)).collect(),
        }
    }

    pub fn into_image(self) -> Image {
        Image { width: WIDTH as u32, height: HEIGHT as u32, rgb: self.rgb.into() }
    }

    /// Draws a grid of vertices, `columns` in each row, its far cells first. Cells that show their back are left out.
    pub fn draw(&mut self, texture: &Texture, columns: usize, vertices: &[Vertex]) {
        let cells = cells(columns, vertices);
        let mut at = 0;
        while at < cells.len() {
            let top = cells[at];
            let (a, b) = (&vertices[top], &vertices[top + 1]);
            let (c, d) = (&vertices[top + columns], &vertices[top + columns + 1]);
            self.triangle(texture, a, b, d);
            self.triangle(texture, a, d, c);
            at += 1;
        }
    }

    /// Draws a triangle whose corners go round clockwise; nothing if they go round the other way.
    fn triangle(&mut self, texture: &Texture, a: &Vertex, b: &Vertex, c: &Vertex) {
        let (abx, aby, acx, acy) = (b.x - a.x, b.y - a.y, c.x - a.x, c.y - a.y);
        let area = abx * acy - acx * aby;
        if area < 1e-3 {
            return;
        }
        let (abu, abv, acu, acv) = (b.u - a.u, b.v - a.v, c.u - a.u, c.v - a.v);
        let (ux, uy) = ((abu * acy - acu * aby) / area, (acu * abx - abu * acx) / area);
        let (vx, vy) = ((abv * acy - acv * aby) / area, (acv * abx - abv * acx) / area);
        // Corners from the top to the bottom; a shared edge is walked in the same direction from both of its sides.
        let (mut top, mut middle, mut bottom) = (a, b, c);
        if middle.y < top.y {
            (top, middle) = (middle, top);
        }
        if bottom.y < middle.y {
            (middle, bottom) = (bottom, middle);
            if middle.y < top.y {
                (top, middle) = (middle, top);
            }
        }
        let mut y = ceil(top.y);
        if y < 0 {
            y = 0;
        }
        let mut end = ceil(bottom.y);
        if end > HEIGHT as i32 {
            end = HEIGHT as i32;
        }
        let long = slope(top, bottom);
        let (upper, lower) = (slope(top, middle), slope(middle, bottom));
        let (width, right, below) =
            (texture.width as i32, (texture.width as i32 - 2) << 16, (texture.height as i32 - 2) << 16);
        let (step_u, step_v) = ((ux * 65536.0) as i32, (vx * 65536.0) as i32);
        while y < end {
            let line = y as f32;
            let one = top.x + (line - top.y) * long;
            let other =
                if line < middle.y { top.x + (line - top.y) * upper } else { middle.x + (line - middle.y) * lower };
            let (mut x, mut last) = if one < other { (ceil(one), ceil(other)) } else { (ceil(other), ceil(one)) };
            if x < 0 {
                x = 0;
            }
            if last > WIDTH as i32 {
                last = WIDTH as i32;
            }
            if x < last {
                let (dx, dy) = (x as f32 - a.x, line - a.y);
                let mut u = ((a.u + dx * ux + dy * uy) * 65536.0) as i32;
                let mut v = ((a.v + dx * vx + dy * vy) * 65536.0) as i32;
                let (mut du, mut dv) = (step_u, step_v);
                let steps = i64::from(last - x - 1);
                let (u_end, v_end) = (i64::from(u) + steps * i64::from(du), i64::from(v) + steps * i64::from(dv));
                // Slivers may point out of the texture by rounding; they are a pixel or two.
                if u < 0 || u > right || u_end < 0 || u_end > i64::from(right) {
                    (u, du) = (
                        if u < 0 {
                            0
                        } else if u > right {
                            right
                        } else {
                            u
                        },
                        0,
                    );
                }
                if v < 0 || v > below || v_end < 0 || v_end > i64::from(below) {
                    (v, dv) = (
                        if v < 0 {
                            0
                        } else if v > below {
                            below
                        } else {
                            v
                        },
                        0,
                    );
                }
                let mut byte = (y as usize * WIDTH + x as usize) * 3;
                let stop = (y as usize * WIDTH + last as usize) * 3;
                let mut grain = self.starts[y as usize] + x as usize;
                let (texels, rgb, grains) = (&texture.texels[..], &mut self.rgb[..], self.grain);
                while byte < stop {
                    let at = ((v >> 16) * width + (u >> 16)) as usize;
                    let (fx, fy) = ((u as u64 >> 8) & 255, (v as u64 >> 8) & 255);
                    let both = (fx * fy) >> 8;
                    let sum = texels[at] * (256 + both - fx - fy)
                        + texels[at + 1] * (fx - both)
                        + texels[at + texture.width] * (fy - both)
                        + texels[at + texture.width + 1] * both
                        + grains[grain];
                    rgb[byte] = (sum >> 8) as u8;
                    rgb[byte + 1] = (sum >> 28) as u8;
                    rgb[byte + 2] = (sum >> 48) as u8;
                    u += du;
                    v += dv;
                    byte += 3;
                    grain += 1;
                }
            }
            y += 1;
        }
    }
}

/// A picture of the size of a frame with grain on it.
pub fn with_grain(texture: &Texture, seed: u64) -> Image {
    let mut canvas = Canvas::new(seed);
    let (right, bottom) = (WIDTH as f32, HEIGHT as f32);
    let corner = |x: f32, y: f32| Vertex { x, y, z: 0.0, u: x, v: y };
    canvas.draw(texture, 2, &[corner(0.0, 0.0), corner(right, 0.0), corner(0.0, bottom), corner(right, bottom)]);
    canvas.into_image()
}

/// Change of x for each row of an edge; 0 for one that lies flat, which no row crosses.
fn slope(upper: &Vertex, lower: &Vertex) -> f32 {
    let height = lower.y - upper.y;
    if height > 1e-6 { (lower.x - upper.x) / height } else { 0.0 }
}

/// The next whole number that is not less.
fn ceil(value: f32) -> i32 {
    let whole = value as i32;
    if whole as f32 >= value { whole } else { whole + 1 }
}

/// The top left vertex of each cell of a grid, the farthest cells first, in 256 steps of depth.
fn cells(columns: usize, vertices: &[Vertex]) -> Vec<usize> {
    let (mut near, mut far) = (f32::MAX, f32::MIN);
    for vertex in vertices {
        near = if vertex.z < near { vertex.z } else { near };
        far = if vertex.z > far { vertex.z } else { far };
    }
    let scale = 255.0 / if far - near > 1e-3 { far - near } else { 1e-3 };
    let rows = vertices.len() / columns;
    let mut steps = Vec::with_capacity(vertices.len());
    let mut counts = [0_usize; 257];
    let mut row = 0;
    while row + 1 < rows {
        let mut column = 0;
        while column + 1 < columns {
            let top = row * columns + column;
            let nearest = if vertices[top].z < vertices[top + columns + 1].z { top } else { top + columns + 1 };
            let step = ((far - vertices[nearest].z) * scale) as usize;
            steps.push((step, top));
            counts[step + 1] += 1;
            column += 1;
        }
        row += 1;
    }
    let mut step = 0;
    while step < 256 {
        counts[step + 1] += counts[step];
        step += 1;
    }
    let mut sorted = vec![0; steps.len()];
    for (step, top) in steps {
        sorted[counts[step]] = top;
        counts[step] += 1;
    }
    sorted
}

/// Grain in lanes of 8 fractional bits, its middle at [`GRAIN`]; mostly of brightness, a little of colour.
fn grain() -> &'static [u64] {
    static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut random = Random::new(0, "grain");
        let mut normal = || (0..4).map(|_| random.within(-1.0, 1.0)).sum::<f64>() * 0.866;
        let mut texel = || {
            let common = normal() * GRAIN_SIGMA;
            let mut lane = || {
                let value = (common + normal() * GRAIN_SIGMA * 0.5).clamp(-(GRAIN as f64), GRAIN as f64);
                ((value + GRAIN as f64) * 256.0) as u64
            };
            lane() | lane() << 20 | lane() << 40
        };
        (0..GRAINS + WIDTH).map(|_| texel()).collect()
    })
}
