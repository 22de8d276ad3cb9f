//! Face detection with YuNet (Wu et al., "YuNet: a tiny millisecond-level face detector", 2023; OpenCV Zoo).
//!
//! [`FaceDetector::find`] serves a verification: a small input first, larger ones only where that finds nothing good, and
//! quarter turns where no upright face is found. [`FaceDetector::find_all`] serves `DetectFaces`: it looks closely at once.
//! Left out: tracking between frames, and the choice of what a second face means for a check.

use std::sync::Arc;

use super::{Bounds, Face, ModelPort, output};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::orient::{Rotation, rotate};
use crate::imaging::resize::{letterbox, resize};
use crate::imaging::tensor::to_tensor;
use crate::inference::{Outputs, RequestContext};

/// Long sides of the detector's input, tried in this order.
const INPUT_SIDES_PX: [u32; 3] = [320, 640, 1280];

/// Candidates below this score are not faces. OpenCV's sample uses 0.6 to 0.9; lower values find more small and covered
/// faces and more false ones.
const MIN_SCORE: f64 = 0.6;

/// From this score on, and with a face of at least [`GOOD_FACE_PX`] in the detector's input, a larger input changes the
/// landmarks by less than the embedding notices.
const GOOD_SCORE: f64 = 0.8;
const GOOD_FACE_PX: f64 = 48.0;

/// A face with at least this score stands upright. YuNet finds many faces lying on their side or upside down too, with
/// landmarks that belong elsewhere, but it likes them less: over 179 photographs, upright faces scored 0.89 to 0.96 (95 % from
/// 0.92 on), the same faces upside down at most 0.92 and always less than upright. Lowered, upside-down selfies go unnoticed;
/// raised, more pictures pay for a look at the three other directions.
const SURELY_UPRIGHT_SCORE: f64 = 0.92;

/// By how much a turned picture must score better than the upright one.
const ROTATION_GAIN: f64 = 0.01;

/// Overlap (intersection over union) above which two candidates are one face; OpenCV's value.
const SAME_FACE_OVERLAP: f64 = 0.3;

/// Most faces reported for a picture. More are never needed to say that there are many.
pub const MAX_FACES: usize = 64;

/// Sides of the input are multiples of this. The network needs multiples of 32; coarser steps keep the number of different
/// shapes, each with working memory of its own, at some ten for each long side.
const CANVAS_MULTIPLE_PX: u32 = 64;

/// The strides of the network's three heads.
const STRIDES: [u32; 3] = [8, 16, 32];

/// The faces of a picture.
#[derive(Debug, Clone)]
pub struct FoundFaces {
    /// The main face first (largest and most central), the others by score.
    pub faces: Vec<Face>,
    /// How the picture had to be turned.
    pub rotation: Rotation,
    /// The turned picture, in whose pixels the faces are given.
    pub image: Image,
}

/// The detector.
#[derive(Clone)]
pub struct FaceDetector {
    port: ModelPort,
}

impl FaceDetector {
    pub fn new(port: ModelPort) -> Self {
        Self { port }
    }

    /// Finds the faces that matter for a verification, turning the picture by quarter turns where that is needed.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn find(&self, image: &Image, context: &Arc<RequestContext>) -> Result<FoundFaces, Error> {
        self.search(image, &INPUT_SIDES_PX, context)
    }

    /// Like [`find`](Self::find), but without the small input that may miss faces in the background.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn find_all(&self, image: &Image, context: &Arc<RequestContext>) -> Result<FoundFaces, Error> {
        self.search(image, &INPUT_SIDES_PX[1..], context)
    }

    /// Finds the faces on the page of a document that was brought upright, the main one first. A portrait takes about a seventh of a page's
    /// width, too little for the smallest input. Where the page's direction `is_certain`, no other is tried.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn find_on_page(
        &self,
        page: &Image,
        is_certain: bool,
        context: &Arc<RequestContext>,
    ) -> Result<FoundFaces, Error> {
        if !is_certain {
            return self.find_all(page, context);
        }
        let faces = self.detect_escalating(page, &INPUT_SIDES_PX[1..], context)?;
        Ok(FoundFaces { faces: ordered(faces, page), rotation: Rotation::R0, image: page.clone() })
    }

    /// Finds faces that stand upright, as in the frames of a camera: the main face first. No other direction is tried.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn find_upright(&self, image: &Image, context: &Arc<RequestContext>) -> Result<Vec<Face>, Error> {
        Ok(ordered(self.detect_escalating(image, &INPUT_SIDES_PX[..2], context)?, image))
    }

    fn search(&self, image: &Image, sides: &[u32], context: &Arc<RequestContext>) -> Result<FoundFaces, Error> {
        let upright = self.detect_escalating(image, sides, context)?;
        let mut best = (best_score(&upright), Rotation::R0);
        if best.0 < SURELY_UPRIGHT_SCORE {
            // A small copy is enough to find out which way is up.
            let small = fitted(image, sides[sides.len().min(2) - 1]);
            for rotation in [Rotation::R90, Rotation::R270, Rotation::R180] {
                let faces = self.detect_escalating(&rotate(&small, rotation), sides, context)?;
                let score = best_score(&faces);
                if score > best.0 + ROTATION_GAIN {
                    best = (score, rotation);
                }
            }
        }
        let (_, rotation) = best;
        if rotation == Rotation::R0 {
            return Ok(FoundFaces { faces: ordered(upright, image), rotation, image: image.clone() });
        }
        // Once more on the whole picture: the small copy gave the direction, not the best landmarks.
        let image = rotate(image, rotation);
        let faces = self.detect_escalating(&image, sides, context)?;
        Ok(FoundFaces { faces: ordered(faces, &image), rotation, image })
    }

    /// Tries the input sizes until one gives a good face or the picture has no more detail.
    fn detect_escalating(
        &self,
        image: &Image,
        sides: &[u32],
        context: &Arc<RequestContext>,
    ) -> Result<Vec<Face>, Error> {
        let long_side = image.width.max(image.height);
        let mut found: Vec<Face> = Vec::new();
        for (attempt, &side) in sides.iter().enumerate() {
            if attempt > 0 && long_side <= sides[attempt - 1] {
                break;
            }
            let faces = self.detect(image, side, context)?;
            let scale = f64::from(side) / f64::from(long_side);
            let good = faces.iter().any(|face| face.score >= GOOD_SCORE && face.bounds.width * scale >= GOOD_FACE_PX);
            if good {
                return Ok(faces);
            }
            if best_score(&faces) > best_score(&found) {
                found = faces;
            }
        }
        Ok(found)
    }

    /// One run with the picture scaled so that its long side is `side` pixels.
    fn detect(&self, image: &Image, side: u32, context: &Arc<RequestContext>) -> Result<Vec<Face>, Error> {
        let fitted = letterbox(image, side, CANVAS_MULTIPLE_PX);
        let outputs = self.port.model.run(to_tensor(&fitted.canvas, &self.port.input), context)?;
        let candidates = candidates(&outputs, fitted.canvas.width, fitted.canvas.height)?;
        let kept = without_doubles(candidates);
        Ok(kept.into_iter().map(|face| face.mapped(|point| fitted.to_picture(point))).collect())
    }
}

/// The picture scaled so that its long side is `side` pixels; never enlarged.
fn fitted(image: &Image, side: u32) -> Image {
    let long_side = image.width.max(image.height);
    if long_side <= side {
        return image.clone();
    }
    let scaled = |length: u32| ((u64::from(length) * u64::from(side)).div_ceil(u64::from(long_side)) as u32).max(1);
    resize(image, scaled(image.width), scaled(image.height))
}

fn best_score(faces: &[Face]) -> f64 {
    faces.iter().map(|face| face.score).fold(0.0, f64::max)
}

/// Decodes the anchor-free heads. For the cell at column c and row r of stride s: score = √(cls · obj), box centre
/// (c + b₀, r + b₁) · s, box size e^b₂ · s by e^b₃ · s, landmark i at (c + k₂ᵢ, r + k₂ᵢ₊₁) · s.
fn candidates(outputs: &Outputs, width: u32, height: u32) -> Result<Vec<Face>, Error> {
    let mut faces = Vec::new();
    for stride in STRIDES {
        let (columns, rows) = (width.div_ceil(stride) as usize, height.div_ceil(stride) as usize);
        let head = |name: &str, values: usize| {
            let tensor = output(outputs, &format!("{name}_{stride}"))?;
            if tensor.data.len() == columns * rows * values {
                Ok(tensor.data.as_slice())
            } else {
                Err(Error::internal(format!("detector output {name}_{stride} has shape {:?}", tensor.shape)))
            }
        };
        let (class, object, bounds, points) = (head("cls", 1)?, head("obj", 1)?, head("bbox", 4)?, head("kps", 10)?);
        let s = f64::from(stride);
        for cell in 0..columns * rows {
            let score = (f64::from(class[cell].clamp(0.0, 1.0)) * f64::from(object[cell].clamp(0.0, 1.0))).sqrt();
            // A NaN from a damaged model is no face either.
            if score.is_nan() || score < MIN_SCORE {
                continue;
            }
            let (column, row) = ((cell % columns) as f64, (cell / columns) as f64);
            let [dx, dy, log_width, log_height] = [0, 1, 2, 3].map(|i| f64::from(bounds[cell * 4 + i]));
            let (box_width, box_height) = (log_width.exp() * s, log_height.exp() * s);
            let landmarks = [0, 1, 2, 3, 4].map(|i| {
                [
                    (column + f64::from(points[cell * 10 + 2 * i])) * s,
                    (row + f64::from(points[cell * 10 + 2 * i + 1])) * s,
                ]
            });
            let bounds = Bounds {
                x: (column + dx) * s - box_width / 2.0,
                y: (row + dy) * s - box_height / 2.0,
                width: box_width,
                height: box_height,
            };
            let finite = [bounds.x, bounds.y, box_width, box_height].into_iter().chain(landmarks.into_iter().flatten());
            if finite.into_iter().all(f64::is_finite) {
                faces.push(Face { bounds, score, landmarks });
            }
        }
    }
    Ok(faces)
}

/// Greedy non-maximum suppression: of overlapping candidates the best stays. At most [`MAX_FACES`], by score.
fn without_doubles(mut candidates: Vec<Face>) -> Vec<Face> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Face> = Vec::new();
    for candidate in candidates {
        if kept.len() == MAX_FACES {
            break;
        }
        if kept.iter().all(|face| face.bounds.intersection_over_union(&candidate.bounds) <= SAME_FACE_OVERLAP) {
            kept.push(candidate);
        }
    }
    kept
}

/// Distance from the middle, in half diagonals, at which a face counts 61 % (e^-½) of an equally large one in the middle; in a corner it is 2 %.
///
/// Raised to where a corner still counted half, LFW (whose persons stand in the middle) lost pairs to larger faces beside them: TAR at
/// FMR 1e-3 fell from 98.67 to 98.53 %.
const CENTRE_SPREAD: f64 = 0.35;

/// Puts the main face first: the largest, where a face counts less the further it is from the middle.
fn ordered(mut faces: Vec<Face>, image: &Image) -> Vec<Face> {
    let (middle_x, middle_y) = (f64::from(image.width) / 2.0, f64::from(image.height) / 2.0);
    let weight = |face: &Face| {
        let [x, y] = face.bounds.centre();
        let off_centre = (x - middle_x).hypot(y - middle_y) / middle_x.hypot(middle_y);
        face.bounds.area() * (-0.5 * (off_centre / CENTRE_SPREAD).powi(2)).exp()
    };
    let main = (0..faces.len()).max_by(|&a, &b| weight(&faces[a]).total_cmp(&weight(&faces[b])));
    if let Some(main) = main {
        faces[..=main].rotate_right(1);
    }
    faces
}
