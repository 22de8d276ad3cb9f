//! What is held in front of a camera in place of a person, clips that are no recordings, and frames that are none.
//!
//! Used by the tests of active liveness. [`FlatPhoto`] is a subject like a head; the functions on clips change what a
//! camera delivered. Left out: screens with their pattern of pixels, masks.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use vouch::imaging::Image;
use vouch::imaging::resize::resize;
use vouch::specimen::random::Random;

use super::head::{DETAIL, DISTANCE, FACE_CENTRE, FACE_PX, Head, MARGIN, Pose, Subject};
use super::raster::{Canvas, HEIGHT, Texture, Vertex, WIDTH, with_grain};
use super::{Clip, decoded, encoded};

/// The print: how far it reaches to the sides, up and down from the middle of the face, in heights of the face, and its
/// white border.
const PRINT_SIDE: f64 = 0.95;
const PRINT_UP: f64 = 0.95;
const PRINT_DOWN: f64 = 1.1;
const BORDER: f64 = 0.08;

/// Cells of the print's grid to a side; a cell is drawn without perspective.
const CELLS: usize = 12;

/// A printed photograph of a head, held in a room. It follows a pose as a plane does: turned, leant, nearer, shifted.
/// What a face does, it does not.
pub struct FlatPhoto {
    head: Arc<Head>,
    /// The eyes are cut out, and someone blinks behind.
    holes: bool,
}

impl FlatPhoto {
    pub fn new(head: &Arc<Head>) -> Self {
        Self { head: Arc::clone(head), holes: false }
    }

    /// With holes for the eyes: they close with the pose's `eyes_closed`.
    pub fn with_holes(head: &Arc<Head>) -> Self {
        Self { head: Arc::clone(head), holes: true }
    }
}

impl Subject for FlatPhoto {
    fn frame(&self, pose: &Pose, seed: u64) -> Image {
        let printed = Pose { eyes_closed: if self.holes { pose.eyes_closed } else { 0.0 }, ..Pose::default() };
        let [border, picture] = [BORDER, 0.0].map(|border| sheet(pose, border));
        self.head.with_expression(&printed, |texture| {
            let mut canvas = Canvas::new(seed);
            draw_flat(&mut canvas, room());
            canvas.draw(paper(), CELLS + 1, &border);
            canvas.draw(texture, CELLS + 1, &picture);
            canvas.into_image()
        })
    }
}

/// The print with a border, in heights of the face, as a grid in front of the camera.
fn sheet(pose: &Pose, border: f64) -> Vec<Vertex> {
    let [(sy, cy), (sp, cp), (sr, cr)] =
        [pose.yaw_deg, pose.pitch_deg, pose.roll_deg].map(|degrees| degrees.to_radians().sin_cos());
    let distance = f64::from(DISTANCE);
    let (middle_x, middle_y) = (WIDTH as f64 / 2.0, HEIGHT as f64 / 2.0);
    let along = |step: usize, from: f64, to: f64| (from + (to - from) * step as f64 / CELLS as f64) * FACE_PX;
    let mut vertices = Vec::new();
    for row in 0..=CELLS {
        for column in 0..=CELLS {
            let x = along(column, -PRINT_SIDE - border, PRINT_SIDE + border);
            let y = along(row, -PRINT_UP - border, PRINT_DOWN + border);
            let (by, bz) = (y * cp, -y * sp);
            let (ex, ez) = (x * cy - bz * sy, bz * cy + x * sy);
            let (fx, fy) = (ex * cr - by * sr, by * cr + ex * sr);
            let shrink = distance / (distance / pose.scale + ez);
            let place = |offset: f64, centre: f64, middle: f64, shift: f64| {
                ((offset + centre - middle) * shrink + middle + shift) as f32
            };
            let texel = |offset: f64, centre: f64| ((offset + centre) as f32 + MARGIN) * DETAIL;
            vertices.push(Vertex {
                x: place(fx, FACE_CENTRE[0], middle_x, pose.dx_px),
                y: place(fy, FACE_CENTRE[1], middle_y, pose.dy_px),
                z: ez as f32,
                u: texel(x, FACE_CENTRE[0]),
                v: texel(y, FACE_CENTRE[1]),
            });
        }
    }
    vertices
}

/// White, as large as a head's texture.
fn paper() -> &'static Texture {
    static PAPER: OnceLock<Texture> = OnceLock::new();
    let side = |pixels: usize| ((pixels as f32 + 2.0 * MARGIN) * DETAIL) as usize + 2;
    PAPER.get_or_init(|| Texture::new(side(WIDTH), side(HEIGHT), [236, 235, 230]))
}

/// A room out of focus.
fn room() -> &'static Texture {
    static ROOM: OnceLock<Texture> = OnceLock::new();
    ROOM.get_or_init(|| {
        // Left, top, right, bottom in hundredths of the picture, and a colour.
        let things = [
            ([0, 0, 100, 72], [176, 170, 158]),
            ([0, 72, 100, 100], [112, 92, 74]),
            ([6, 14, 27, 72], [134, 104, 76]),
            ([70, 10, 94, 46], [206, 216, 222]),
            ([81, 10, 83, 46], [150, 150, 148]),
            ([62, 58, 100, 78], [92, 66, 50]),
            ([66, 50, 72, 58], [60, 92, 70]),
            ([30, 24, 36, 33], [120, 62, 56]),
        ];
        let small = Image::build(80, 60, |rgb| {
            for (at, pixel) in rgb.chunks_exact_mut(3).enumerate() {
                let (x, y) = (at % 80 * 100 / 80, at / 80 * 100 / 60);
                for ([left, top, right, bottom], colour) in things {
                    if (left..right).contains(&x) && (top..bottom).contains(&y) {
                        pixel.copy_from_slice(&colour);
                    }
                }
            }
        });
        let small = resize(&small, 40, 30);
        Texture::from_image(&resize(&small, WIDTH as u32 + 2, HEIGHT as u32 + 2))
    })
}

/// Fills a canvas with a texture of its size.
fn draw_flat(canvas: &mut Canvas, texture: &Texture) {
    let (right, bottom) = (WIDTH as f32, HEIGHT as f32);
    let corner = |x: f32, y: f32| Vertex { x, y, z: 0.0, u: x, v: y };
    canvas.draw(texture, 2, &[corner(0.0, 0.0), corner(right, 0.0), corner(0.0, bottom), corner(right, bottom)]);
}

/// A frame without a face.
pub fn empty_scene(seed: u64) -> Bytes {
    encoded(&with_grain(room(), seed))
}

/// A frame with two persons side by side.
pub fn two_faces(left: &Head, right: &Head, seed: u64) -> Bytes {
    let shifted = |head: &Head, dx_px: f64| head.frame(&Pose { dx_px, scale: 0.8, ..Pose::default() }, seed);
    let (mut picture, right) = (shifted(left, -150.0).rgb.to_vec(), shifted(right, 150.0));
    for (row, other) in picture.chunks_exact_mut(WIDTH * 3).zip(right.rgb.chunks_exact(WIDTH * 3)) {
        row[WIDTH / 2 * 3..].copy_from_slice(&other[WIDTH / 2 * 3..]);
    }
    encoded(&Image { width: WIDTH as u32, height: HEIGHT as u32, rgb: picture.into() })
}

/// A frame scaled to another size, such as 3840 × 2160.
pub fn resized(frame: &Bytes, width: u32, height: u32) -> Bytes {
    encoded(&resize(&decoded(frame), width, height))
}

/// A frame whose file ends after a share of its bytes.
pub fn cut_short(frame: &Bytes, share: f64) -> Bytes {
    frame.slice(..(frame.len() as f64 * share) as usize)
}

/// A frame in whose file some bits are wrong, anywhere after the first 200 bytes.
pub fn bit_flipped(frame: &Bytes, count: usize, seed: u64) -> Bytes {
    let mut random = Random::new(seed, "bits");
    let mut file = frame.to_vec();
    for _ in 0..count {
        let at = 200 + random.below(file.len() - 200);
        file[at] ^= 1 << random.below(8);
    }
    file.into()
}

/// A frame encoded once more, with a grain of its own on top.
pub fn again(frame: &Bytes, seed: u64) -> Bytes {
    let mut texture = Texture::from_image(&decoded(frame));
    // A copy is sampled between its pixels, so it needs a row and a column more than it shows.
    texture = texture.with_rim();
    encoded(&with_grain(&texture, seed))
}

/// A clip whose frames before `part` are followed by that part over and over, each time with a new grain.
pub fn looped(clip: &Clip, part: Range<usize>, times: usize, seed: u64) -> Clip {
    let before = clip.frames[..part.start].iter().map(|frame| frame.jpeg.clone());
    let length = part.len() as u64;
    let round = |time: usize| {
        let frames = clip.frames[part.clone()].iter().enumerate();
        frames.map(move |(index, frame)| again(&frame.jpeg, seed + time as u64 * length + index as u64))
    };
    Clip::of(before.chain((0..times).flat_map(round)))
}

/// One frame, `count` times, each time with a new grain.
pub fn frozen(frame: &Bytes, count: usize, seed: u64) -> Clip {
    Clip::of((0..count as u64).map(|index| again(frame, seed + index)))
}

/// The frames of one clip before frame `at`, those of another from there on.
pub fn cut(from: &Clip, to: &Clip, at: usize) -> Clip {
    let frames = from.frames[..at].iter().chain(&to.frames[at..]);
    Clip::of(frames.map(|frame| frame.jpeg.clone()))
}

/// A clip with a part of it in another order.
pub fn reordered(clip: &Clip, part: Range<usize>, seed: u64) -> Clip {
    let mut random = Random::new(seed, "order");
    let mut files: Vec<Bytes> = clip.frames.iter().map(|frame| frame.jpeg.clone()).collect();
    for at in (part.start + 1..part.end).rev() {
        files.swap(at, part.start + random.below(at - part.start + 1));
    }
    Clip::of(files)
}

/// A clip backwards.
pub fn backwards(clip: &Clip) -> Clip {
    Clip::of(clip.frames.iter().rev().map(|frame| frame.jpeg.clone()))
}

/// Every n-th frame of a clip at the usual distance: n times as fast.
pub fn faster(clip: &Clip, times: usize) -> Clip {
    Clip::of(clip.frames.iter().step_by(times).map(|frame| frame.jpeg.clone()))
}
