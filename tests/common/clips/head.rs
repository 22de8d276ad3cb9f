//! A head that moves, made from one photograph.
//!
//! Called by `mod.rs` for genuine clips and by `attacks.rs`. The landmark model gives the face's depth; around it the
//! depth runs on to the ears and then to the background. Each vertex of a grid over the frame turns with the head as
//! far as it belongs to it, and is seen in perspective; eyelids and mouth move in the texture first (`expression.rs`).
//! Left out: a back of the head, light that stays where it is while the head turns, hair as a thing of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use vouch::face::ModelPort;
use vouch::face::detect::FaceDetector;
use vouch::face::landmarks::{FaceLandmarks, Mesh, Region};
use vouch::imaging::Image;
use vouch::imaging::resize::resize;
use vouch::inference::RequestContext;
use vouch::inference::provider::{Device, GpuSettings};
use vouch::inference::registry::{InferenceSettings, Registry};
use vouch::models::find_pack_dir;
use vouch::models::manifest::{Manifest, Role};

use super::expression::{Eye, Mouth, smooth};
use super::raster::{Canvas, HEIGHT, Texture, Vertex, WIDTH, mix};

/// Height of the detector's box in the neutral frame, and where its middle lies: pixels.
pub const FACE_PX: f64 = 165.0;
pub const FACE_CENTRE: [f64; 2] = [320.0, 236.0];

/// Texels of a head's texture per pixel of the neutral frame, and how far it reaches over each side of the frame in
/// pixels.
pub const DETAIL: f32 = 1.5;
pub const MARGIN: f32 = 80.0;

/// Distance from the camera to the face, in pixels of the neutral frame: a face of 20 cm at 39 cm, as of a phone in the
/// hand. The landmark model shows but half of the perspective that is drawn; from further away it shows too little.
pub const DISTANCE: f32 = 320.0;
/// How far behind the face the background lies, in the same unit.
const BACKGROUND: f32 = 500.0;

/// Texels that become one where the photograph has ended.
const BLUR: u32 = 24;

/// Sides of the grid's cells on the head and away from it, in pixels.
const FINE_PX: f32 = 7.0;
const COARSE_PX: f32 = 32.0;

/// Vertices so near to the outline of the face, in pixels, take this share of their depth from it; all of it tears the
/// outline when the head turns.
const RIM_PX: f32 = 5.0;
const RIM_SHARE: f32 = 0.6;

/// By how much the eyes of the neutral frame are opened wider than the photograph's: the landmark model sees closed
/// lids as half closed, so that of narrow eyes too little would be left to fall.
const WIDE_EYED: f32 = 1.6;

/// The outline of the mesh, clockwise.
const OVAL: [usize; 36] = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
];
const FOREHEAD: usize = 10;
const CHIN: usize = 152;
const CHEEKS: [usize; 2] = [234, 454];
const EYE_CORNERS: [usize; 2] = [33, 263];

/// How a head is held and what its face does. The default is the neutral frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Turned towards the right side of the picture, degrees.
    pub yaw_deg: f64,
    /// Looking up, degrees.
    pub pitch_deg: f64,
    /// Leaning to the right side of the picture (clockwise), degrees.
    pub roll_deg: f64,
    /// 0: lips closed; 1: wide open.
    pub mouth_open: f64,
    /// 0: as in the photograph; 1: broadly.
    pub smile: f64,
    /// 0: as in the photograph; 1: closed.
    pub eyes_closed: f64,
    /// Size of the face as a share of that in the neutral frame: nearer above 1.
    pub scale: f64,
    /// Shift of the picture in pixels, right and down.
    pub dx_px: f64,
    pub dy_px: f64,
}

impl Default for Pose {
    fn default() -> Self {
        Self {
            yaw_deg: 0.0,
            pitch_deg: 0.0,
            roll_deg: 0.0,
            mouth_open: 0.0,
            smile: 0.0,
            eyes_closed: 0.0,
            scale: 1.0,
            dx_px: 0.0,
            dy_px: 0.0,
        }
    }
}

/// What a camera is pointed at.
pub trait Subject: Send + Sync {
    /// It in a pose, as a frame of [`WIDTH`] by [`HEIGHT`] pixels with the grain of a seed.
    fn frame(&self, pose: &Pose, seed: u64) -> Image;
}

/// The models that look at the photographs.
pub struct Models {
    detector: FaceDetector,
    landmarks: FaceLandmarks,
    _registry: Registry,
}

impl Models {
    /// Loaded once in a process.
    pub fn get() -> &'static Self {
        static MODELS: OnceLock<Models> = OnceLock::new();
        MODELS.get_or_init(|| {
            let pack = find_pack_dir(None);
            let own = std::env::var_os("VOUCH_MODELS").map(PathBuf::from);
            let manifest = Manifest::load(own.as_deref()).unwrap();
            let settings = InferenceSettings {
                device: Device::Cpu,
                gpu: GpuSettings::default(),
                sessions_per_model: 1,
                threads_per_session: 1,
                max_batch: 0,
                max_batch_delay: Duration::ZERO,
                queue_per_model: 16,
                cores: 1,
            };
            let roles = [Role::FaceDetector, Role::FaceLandmarks];
            let registry = Registry::load(&manifest, &roles, &pack, None, &settings, None).unwrap();
            let port = |role| {
                let model = registry.get(role).unwrap();
                ModelPort { model: Arc::clone(model) as _, input: model.entry.input.clone() }
            };
            let detector = FaceDetector::new(port(Role::FaceDetector));
            let landmarks = FaceLandmarks::new(port(Role::FaceLandmarks));
            Self { detector, landmarks, _registry: registry }
        })
    }

    /// The mesh of the main face of a picture, and the height and the middle of the detector's box in pixels.
    ///
    /// # Panics
    /// If there is no upright face.
    pub fn mesh(&self, image: &Image) -> (Mesh, f64, [f64; 2]) {
        let look = || {
            let context = Arc::new(RequestContext::default());
            let found = self.detector.find(image, &context).unwrap();
            let face = found.faces.first().expect("a photograph with a face");
            let first = self.landmarks.mesh(image, &Region::of_face(face), &context).unwrap();
            let mesh = self.landmarks.mesh(image, &first.region(), &context).unwrap();
            (mesh, face.bounds.height, face.bounds.centre())
        };
        // A model's answer cannot be waited for on a thread that drives asynchronous tests.
        std::thread::scope(|scope| scope.spawn(look).join()).unwrap()
    }
}

/// A vertex of the grid over the neutral frame.
struct Node {
    /// Pixels of the neutral frame.
    x: f32,
    y: f32,
    /// Depth behind the face's middle as part of the head, and as part of the scene: pixels.
    head: f32,
    scene: f32,
    /// How far it turns with the head, 0..1.
    turns: f32,
}

/// A head with what lies around it.
pub struct Head {
    /// The photograph with its eyes wide open, and with the lips closed besides.
    source: Texture,
    neutral: Texture,
    eyes: [Eye; 2],
    mouth: Mouth,
    columns: usize,
    nodes: Vec<Node>,
    /// What the head turns about: pixels of the neutral frame, depth.
    pivot: [f32; 3],
    /// Copies of the neutral texture, to draw expressions into.
    spare: Mutex<Vec<Texture>>,
}

impl Head {
    /// From a photograph with one upright face.
    ///
    /// # Panics
    /// If the photograph has no face or the model pack is missing.
    pub fn from_photo(photo: &Image) -> Self {
        let (mesh, height, centre) = Models::get().mesh(photo);
        let (photo_texture, to_texel) = scene(photo, FACE_PX / height, centre);
        let points: Vec<[f32; 2]> = (0..mesh.upright.len()).map(|index| to_texel(mesh.in_picture(index))).collect();
        let [left, right] = EYE_CORNERS.map(|corner| points[corner]);
        let lean = (right[1] - left[1]).atan2(right[0] - left[0]);
        let span = (mesh.eye_span() * mesh.scale() * FACE_PX / height) as f32 * DETAIL;
        let mut eyes = [0, 1].map(|side| Eye::new(side, &points, lean, &photo_texture));
        let mut source = photo_texture.clone();
        for eye in &mut eyes {
            eye.widen(&photo_texture, &mut source, WIDE_EYED);
        }
        let mouth = Mouth::new(&points, span, lean, &source);
        let mut neutral = source.clone();
        mouth.draw(&source, &mut neutral, 0.0, 0.0);
        // Once more: with the lips closed, the chin lies elsewhere.
        let (mesh, ..) = Models::get().mesh(&neutral_frame(&neutral));
        let (columns, nodes, pivot) = grid(&mesh);
        Self { source, neutral, eyes, mouth, columns, nodes, pivot, spare: Mutex::default() }
    }

    /// Hands out the texture with the expression of a pose: [`DETAIL`] texels a pixel, [`MARGIN`] pixels beyond the
    /// frame.
    pub fn with_expression<T>(&self, pose: &Pose, look: impl FnOnce(&Texture) -> T) -> T {
        let mouth = pose.mouth_open != 0.0 || pose.smile != 0.0;
        if !mouth && pose.eyes_closed == 0.0 {
            return look(&self.neutral);
        }
        let spare = self.spare.lock().unwrap().pop();
        let mut texture = spare.unwrap_or_else(|| self.neutral.clone());
        let mut areas = Vec::new();
        if mouth {
            self.mouth.draw(&self.source, &mut texture, pose.mouth_open as f32, pose.smile as f32);
            areas.push(self.mouth.area());
        }
        if pose.eyes_closed != 0.0 {
            for eye in &self.eyes {
                eye.draw(&self.source, &mut texture, pose.eyes_closed as f32);
                areas.push(eye.area());
            }
        }
        let result = look(&texture);
        for [left, top, right, bottom] in areas {
            for row in top..bottom {
                let line = row * texture.width;
                texture.texels[line + left..line + right]
                    .copy_from_slice(&self.neutral.texels[line + left..line + right]);
            }
        }
        self.spare.lock().unwrap().push(texture);
        result
    }

    /// The grid as the camera sees it.
    fn vertices(&self, pose: &Pose) -> Vec<Vertex> {
        let angle = |degrees: f64| {
            let (sin, cos) = degrees.to_radians().sin_cos();
            (sin as f32, cos as f32)
        };
        let ((sy, cy), (sp, cp), (sr, cr)) = (angle(pose.yaw_deg), angle(pose.pitch_deg), angle(pose.roll_deg));
        let [px, py, pz] = self.pivot;
        let distance = DISTANCE / pose.scale as f32;
        let (dx, dy) = (pose.dx_px as f32, pose.dy_px as f32);
        let (middle_x, middle_y) = (WIDTH as f32 / 2.0, HEIGHT as f32 / 2.0);
        let rows = self.nodes.len() / self.columns;
        let mut vertices = Vec::with_capacity(self.nodes.len());
        let mut row = 0;
        while row < rows {
            let mut column = 0;
            while column < self.columns {
                let node = &self.nodes[row * self.columns + column];
                let away = (DISTANCE + node.scene) / DISTANCE;
                let (mut x, mut y, mut z) = ((node.x - middle_x) * away, (node.y - middle_y) * away, node.scene);
                if node.turns > 0.0 {
                    // The head's own coordinates, at the head's depth whatever the scene's is.
                    let away = (DISTANCE + node.head) / DISTANCE;
                    let (ax, ay, az) = (
                        (node.x - middle_x) * away - (px - middle_x),
                        (node.y - middle_y) * away - (py - middle_y),
                        node.head - pz,
                    );
                    let (bx, by, bz) = (ax, ay * cp + az * sp, az * cp - ay * sp);
                    let (ex, ez) = (bx * cy - bz * sy, bz * cy + bx * sy);
                    let (fx, fy) = (ex * cr - by * sr, by * cr + ex * sr);
                    x += (fx - ax) * node.turns;
                    y += (fy - ay) * node.turns;
                    z += (ez - az) * node.turns;
                }
                let shrink = DISTANCE / (distance + z);
                let mut x = x * shrink + middle_x + dx;
                let mut y = y * shrink + middle_y + dy;
                // The rim always covers the frame.
                if column == 0 && x > -1.0 {
                    x = -1.0;
                } else if column + 1 == self.columns && x < WIDTH as f32 {
                    x = WIDTH as f32;
                }
                if row == 0 && y > -1.0 {
                    y = -1.0;
                } else if row + 1 == rows && y < HEIGHT as f32 {
                    y = HEIGHT as f32;
                }
                vertices.push(Vertex { x, y, z, u: (node.x + MARGIN) * DETAIL, v: (node.y + MARGIN) * DETAIL });
                column += 1;
            }
            row += 1;
        }
        vertices
    }
}

impl Subject for Head {
    fn frame(&self, pose: &Pose, seed: u64) -> Image {
        let vertices = self.vertices(pose);
        self.with_expression(pose, |texture| {
            let mut canvas = Canvas::new(seed);
            canvas.draw(texture, self.columns, &vertices);
            canvas.into_image()
        })
    }
}

/// The neutral frame, drawn flat.
fn neutral_frame(texture: &Texture) -> Image {
    let (right, bottom) = (WIDTH as f32, HEIGHT as f32);
    let corner = |x: f32, y: f32| Vertex { x, y, z: 0.0, u: (x + MARGIN) * DETAIL, v: (y + MARGIN) * DETAIL };
    let mut canvas = Canvas::new(0);
    canvas.draw(texture, 2, &[corner(0.0, 0.0), corner(right, 0.0), corner(0.0, bottom), corner(right, bottom)]);
    canvas.into_image()
}

/// The photograph scaled and placed as a texture, `scale` pixels of the frame to a pixel of the photograph and `centre`
/// at [`FACE_CENTRE`]; and the map from its pixels to texels. Where it ends, its border runs on and loses its detail.
fn scene(photo: &Image, scale: f64, centre: [f64; 2]) -> (Texture, impl Fn([f64; 2]) -> [f32; 2]) {
    let scale = scale * f64::from(DETAIL);
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(8);
    let photo = resize(photo, scaled(photo.width), scaled(photo.height));
    let sides = [WIDTH, HEIGHT].map(|side| ((side as f32 + 2.0 * MARGIN) * DETAIL) as usize + 2);
    let offset = [0, 1].map(|axis| {
        let place = (FACE_CENTRE[axis] + f64::from(MARGIN)) * f64::from(DETAIL);
        (place - centre[axis] * scale).round() as i32
    });
    // Which texel of the photograph each column and row shows, and how far beyond its end that is.
    let [columns, rows] = [0, 1].map(|axis| {
        let last = [photo.width, photo.height][axis] as i32 - 1;
        let places = (0..sides[axis] as i32).map(|place| place - offset[axis]);
        let shown = |place: i32| (place.clamp(0, last) as usize, (-place).max(place - last).max(0) as f32);
        places.map(shown).collect::<Vec<_>>()
    });
    let extended = Image::build(sides[0] as u32, sides[1] as u32, |rgb| {
        for (line, (row, _)) in rgb.chunks_exact_mut(sides[0] * 3).zip(&rows) {
            let row = row * photo.width as usize;
            for (pixel, (column, _)) in line.chunks_exact_mut(3).zip(&columns) {
                let at = (row + column) * 3;
                pixel.copy_from_slice(&photo.rgb[at..at + 3]);
            }
        }
    });
    let mut texture = Texture::from_image(&extended);
    let coarse = Texture::from_image(&resize(&extended, extended.width / BLUR, extended.height / BLUR));
    let mut at = 0;
    for (y, (_, below)) in rows.iter().enumerate() {
        for (x, (_, beside)) in columns.iter().enumerate() {
            let beyond = if below > beside { *below } else { *beside };
            if beyond > 0.0 {
                let blurred = coarse.sample(x as f32 / BLUR as f32 - 0.5, y as f32 / BLUR as f32 - 0.5);
                texture.texels[at] = mix(blurred, texture.texels[at], (smooth(beyond / 40.0) * 256.0) as u64);
            }
            at += 1;
        }
    }
    let place = move |[x, y]: [f64; 2]| [(x * scale) as f32 + offset[0] as f32, (y * scale) as f32 + offset[1] as f32];
    (texture, place)
}

/// The grid over the frame for a mesh found in the neutral frame: its columns, its nodes row by row, and the pivot.
fn grid(mesh: &Mesh) -> (usize, Vec<Node>, [f32; 3]) {
    let scale = mesh.scale();
    let points: Vec<[f32; 3]> = (0..mesh.upright.len())
        .map(|index| {
            let [x, y] = mesh.in_picture(index);
            [x as f32, y as f32, (mesh.upright[index][2] * scale) as f32]
        })
        .collect();
    let (top, chin) = (points[FOREHEAD], points[CHIN]);
    let [left, right] = CHEEKS.map(|cheek| points[cheek]);
    let length =
        |a: [f32; 3], b: [f32; 3]| ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2) + (a[2] - b[2]).powi(2)).sqrt();
    let (tall, wide) = (length(top, chin), length(left, right));
    let middle = [0, 1, 2].map(|axis| (left[axis] + right[axis]) / 2.0);
    // The ears lie a little behind the cheeks' last points.
    let edge = middle[2] + wide * 0.12;
    let pivot = [middle[0], (middle[1] + chin[1]) / 2.0, edge];
    let head =
        Ellipse { centre: [middle[0], (top[1] + chin[1]) / 2.0 - 0.12 * tall], radii: [0.68 * wide, 0.70 * tall] };
    let columns = stops(-MARGIN, WIDTH as f32 + MARGIN, head.centre[0], head.radii[0] * 1.7);
    let rows = stops(-MARGIN, HEIGHT as f32 + MARGIN, head.centre[1], head.radii[1] * 1.6);
    let outline = OVAL.map(|index| points[index]);
    let off = |point: &[f32; 3], x: f32, y: f32| (point[0] - x).hypot(point[1] - y);
    let mut depths = Vec::with_capacity(columns.len() * rows.len());
    // What is known of the depth: on the face and away from the head. The rest is filled in between.
    let mut known = Vec::with_capacity(columns.len() * rows.len());
    for &y in &rows {
        for &x in &columns {
            // The rim falls off steeply, which no plane through points around it shows.
            let rim =
                outline.iter().min_by(|a, b| off(a, x, y).total_cmp(&off(b, x, y))).filter(|p| off(p, x, y) < RIM_PX);
            let depth = match rim {
                Some(point) => {
                    let plane = depth_at(&points, x, y, wide * 0.055).unwrap_or(point[2]);
                    Some(plane + (point[2] - plane) * RIM_SHARE)
                }
                None if inside(&outline, x, y) => depth_at(&points, x, y, wide * 0.035),
                None => None,
            };
            known.push(depth.is_some() || head.radius(x, y) > 1.05);
            depths.push(depth.unwrap_or(edge));
        }
    }
    for _ in 0..400 {
        let mut row = 1;
        while row + 1 < rows.len() {
            let mut at = row * columns.len() + 1;
            let end = (row + 1) * columns.len() - 1;
            while at < end {
                if !known[at] {
                    let sum = depths[at - 1] + depths[at + 1] + depths[at - columns.len()] + depths[at + columns.len()];
                    depths[at] = sum / 4.0;
                }
                at += 1;
            }
            row += 1;
        }
    }
    let mut nodes = Vec::with_capacity(depths.len());
    for &y in &rows {
        for &x in &columns {
            let radius = head.radius(x, y);
            let turns = 1.0 - smoother((radius - 1.02) / 0.9);
            // Shoulders: below the chin, and the wider the further down.
            let below = (y - chin[1]) / tall;
            let across = (x - chin[0]).abs() / tall;
            let body = smooth(below * 2.5) * (1.0 - smooth((across - 0.45 - below) / 0.5));
            let away = smooth((radius - 1.15) / 1.2) * (1.0 - body);
            let head = depths[nodes.len()];
            nodes.push(Node { x, y, head, scene: head + (BACKGROUND - head) * away, turns });
        }
    }
    (columns.len(), nodes, pivot)
}

struct Ellipse {
    centre: [f32; 2],
    radii: [f32; 2],
}

impl Ellipse {
    /// Distance from the centre; 1 on the ellipse.
    fn radius(&self, x: f32, y: f32) -> f32 {
        ((x - self.centre[0]) / self.radii[0]).hypot((y - self.centre[1]) / self.radii[1])
    }
}

/// As `smooth`, with a second derivative of 0 at both ends.
pub fn smoother(share: f32) -> f32 {
    let share = share.clamp(0.0, 1.0);
    share * share * share * (share * (share * 6.0 - 15.0) + 10.0)
}

/// Lines of a grid: fine within `near` of the middle, coarse elsewhere.
fn stops(from: f32, to: f32, middle: f32, near: f32) -> Vec<f32> {
    let (first, last) = ((middle - near).max(from), (middle + near).min(to));
    let mut stops = Vec::new();
    for (start, end, step) in [(from, first, COARSE_PX), (first, last, FINE_PX), (last, to, COARSE_PX)] {
        let count = ((end - start) / step).ceil() as usize;
        stops.extend((0..count).map(|index| start + (end - start) * index as f32 / count as f32));
    }
    stops.push(to);
    stops
}

/// Whether a place lies within a closed line.
fn inside(outline: &[[f32; 3]], x: f32, y: f32) -> bool {
    let mut inside = false;
    let mut before = outline[outline.len() - 1];
    for &point in outline {
        let crosses = (point[1] > y) != (before[1] > y);
        if crosses && x < (before[0] - point[0]) * (y - point[1]) / (before[1] - point[1]) + point[0] {
            inside = !inside;
        }
        before = point;
    }
    inside
}

/// Depth of the plane through the points around a place, which count the less the further away they are (`spread`:
/// standard deviation in pixels). `None` where they are too few.
fn depth_at(points: &[[f32; 3]], x: f32, y: f32, spread: f32) -> Option<f32> {
    // Normal equations of z = a + b·dx + c·dy.
    let (mut n, mut sx, mut sy, mut sxx, mut sxy, mut syy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    let (mut sz, mut sxz, mut syz) = (0.0, 0.0, 0.0);
    for &[px, py, z] in points {
        let (dx, dy) = ((px - x) / spread, (py - y) / spread);
        let square = dx * dx + dy * dy;
        if square < 9.0 {
            let weight = (-square / 2.0).exp();
            n += weight;
            sx += weight * dx;
            sy += weight * dy;
            sxx += weight * dx * dx;
            sxy += weight * dx * dy;
            syy += weight * dy * dy;
            sz += weight * z;
            sxz += weight * dx * z;
            syz += weight * dy * z;
        }
    }
    if n < 0.05 {
        return None;
    }
    // A little stiffness where the points lie on a line.
    let (sxx, syy) = (sxx + 0.02 * n, syy + 0.02 * n);
    let determinant = n * (sxx * syy - sxy * sxy) - sx * (sx * syy - sxy * sy) + sy * (sx * sxy - sxx * sy);
    let a = sz * (sxx * syy - sxy * sxy) - sx * (sxz * syy - sxy * syz) + sy * (sxz * sxy - sxx * syz);
    Some(a / determinant)
}
