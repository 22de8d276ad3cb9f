//! The models' part of a session of active liveness: each frame is decoded, its face tracked and looked at as closely as the session wants.
//!
//! Called by `api::verify_live` from blocking threads, one frame of a session at a time. The mesh of one frame says where to look in the next; the detector runs now
//! and then, to see further faces and when the face was lost. A session holds nothing of a frame but the file of the best one.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::source::MediaReader;
use super::{Engine, MediaLimits};
use crate::calibration::LoadedCalibration;
use crate::checks::{FURTHER_FACE_SHARE, Finding, Outcome, Terms as CheckTerms, Warning};
use crate::decoders::Job;
use crate::document::mrz::Date;
use crate::error::Error;
use crate::face::landmarks::{Mesh, Region};
use crate::face::{Face, align};
use crate::imaging::Image;
use crate::imaging::decode::DecodeOptions;
use crate::imaging::quality;
use crate::imaging::warp::Sampling;
use crate::inference::RequestContext;
use crate::live::challenge::Chance;
use crate::live::motion::{THUMB_SIDE, Thumb};
use crate::live::session::{FaceSeen, Policy, Sample, Seen, Session, Told, Verdict};
use crate::live::signals::{OUTLINES, Signals};
use crate::live::solid::{RELIEF_SIDE, Relief};
use crate::live::terms::Terms;
use crate::live::{CHECK, Gravity, Reason};
use crate::models::manifest::Role;

/// The models that take part.
pub const ROLES: [Role; 4] = [Role::FaceDetector, Role::FaceEmbedder, Role::FaceLandmarks, Role::PassiveLiveness];

/// Frames are decoded no smaller than this, if they are JPEGs: a face that fills a quarter of it still has more pixels than any model takes.
const LONG_SIDE_PX: u32 = 640;

/// Largest frame: 4096 × 4096. More than any camera streams, and still bounded to some 200 ms.
const MAX_PIXELS: u64 = 1 << 24;

/// How often the detector runs on a face that is tracked well, in milliseconds of capture time: a second face is seen within two of these.
const DETECT_MS: f64 = 330.0;

/// Overlap with the tracked face from which on a detection is of it.
const SAME_FACE_OVERLAP: f64 = 0.25;

/// Side of the aligned face on which sharpness is measured, as for `face_quality`.
const SHARPNESS_SIDE_PX: u32 = 128;

/// Part of the mesh's region that frames are compared by: the face without hair and background.
const THUMB_SHARE: f64 = 0.6;

/// A session at work.
pub struct LiveSession {
    engine: Arc<Engine>,
    context: Arc<RequestContext>,
    terms: Terms,
    session: Session,
    region: Option<Region>,
    detected_ms: Option<f64>,
    frame_size: Option<[u32; 2]>,
    best: Option<BestFrame>,
    processed: u32,
}

/// The frame that is best for a match.
#[derive(Debug, Clone, PartialEq)]
pub struct BestFrame {
    pub index: u32,
    /// The file as it was sent.
    pub file: Bytes,
}

/// A frame as it came in.
#[derive(Clone)]
pub struct Frame {
    pub index: u32,
    /// Capture time in milliseconds since the first frame.
    pub at_ms: f64,
    pub file: Bytes,
}

/// What a frame led to.
pub enum Looked {
    Told(Box<Told>, Option<Box<Shown>>),
    /// The frame cannot be used; the session goes on.
    Unusable(Error),
}

/// What was measured, for an operator's eyes. Pixels are those of the frame as sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub signals: Signals,
    pub region: Region,
    /// Outlines of face, eyes and lips.
    pub landmarks: Vec<[f64; 2]>,
    pub live: Option<f64>,
}

/// A decoded frame: where one of its pixels lies in the frame as sent is a matter of `scale` alone.
struct Picture {
    image: Image,
    /// Pixels of `image` per pixel of the frame.
    scale: f64,
}

impl LiveSession {
    /// A session on the terms of an operating point; `None` if there is no calibration for the models that are loaded.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the operating point is not known.
    pub fn new(
        engine: &Arc<Engine>,
        policy: Policy,
        operating_point: &str,
        context: &Arc<RequestContext>,
        chance: Chance,
    ) -> Result<Option<Self>, Error> {
        let Some(loaded) = engine.calibrations.get(CHECK) else { return Ok(None) };
        let Some(point) = loaded.calibration.operating_point(operating_point) else {
            let known: Vec<_> = loaded.calibration.operating_points.iter().map(|point| point.name.as_str()).collect();
            let reason = format!("{CHECK} has no operating point of this name, only {}", known.join(", "));
            return Err(Error::invalid("policy.operating_point", "OPERATING_POINT_UNKNOWN", reason));
        };
        let terms = Terms::from_point(point)
            .map_err(|wrong| Error::internal(format!("calibration of {CHECK}: {}", wrong.join(", "))))?;
        Ok(Some(Self {
            engine: Arc::clone(engine),
            context: Arc::clone(context),
            terms,
            session: Session::new(policy, terms, chance),
            region: None,
            detected_ms: None,
            frame_size: None,
            best: None,
            processed: 0,
        }))
    }

    /// How many actions will be asked for.
    pub fn steps(&self) -> usize {
        self.session.steps()
    }

    /// Frames that were looked at.
    pub fn processed(&self) -> u32 {
        self.processed
    }

    pub fn best(&self) -> Option<&BestFrame> {
        self.best.as_ref()
    }

    /// Ends the session from outside.
    pub fn end(&mut self, reason: Reason) -> Verdict {
        self.session.end(reason)
    }

    /// Looks at a frame. `shows` asks for what was measured.
    ///
    /// # Errors
    /// Those of the model runs; what is wrong with the frame itself is [`Looked::Unusable`].
    pub fn look(&mut self, frame: Frame, shows: bool) -> Result<Looked, Error> {
        self.context.check(Instant::now())?;
        self.processed += 1;
        let (picture, size) = match self.decode(&frame.file) {
            Ok(decoded) => decoded,
            Err(error @ Error::InvalidInput { .. }) => return Ok(Looked::Unusable(error)),
            Err(error) => return Err(error),
        };
        if *self.frame_size.get_or_insert(size) != size {
            let verdict = self.session.end(Reason::FrameSizeChanged);
            let progress = self.session.progress();
            return Ok(Looked::Told(Box::new(ended(verdict, progress)), None));
        }
        let (face, second_face) = self.find(&picture.image, frame.at_ms)?;
        let shown = face.as_ref().filter(|_| shows).map(|face| Box::new(shown(face, &picture)));
        let seen = Seen {
            index: frame.index,
            at_ms: frame.at_ms,
            frame_size: [picture.image.width, picture.image.height],
            face,
            second_face,
        };
        let told = self.session.see(seen);
        if told.is_best {
            self.best = Some(BestFrame { index: frame.index, file: frame.file });
        }
        Ok(Looked::Told(Box::new(told), shown))
    }

    fn decode(&self, file: &Bytes) -> Result<(Picture, [u32; 2]), Error> {
        let MediaReader { limits: MediaLimits { max_image_bytes, max_pixels }, decoders } = &self.engine.reader;
        let options = DecodeOptions {
            max_bytes: *max_image_bytes as u64,
            max_pixels: (*max_pixels).min(MAX_PIXELS),
            min_long_side_px: Some(LONG_SIDE_PX),
            ..DecodeOptions::default()
        };
        let decoded = decoders.picture(file, &options, &Job { field: "frame.image", context: &self.context })?;
        let size = [decoded.source_width, decoded.source_height];
        Ok((Picture { image: decoded.image, scale: decoded.scale }, size))
    }

    /// The tracked face with everything that the session wants of it, and whether there is a second one.
    fn find(&mut self, image: &Image, at_ms: f64) -> Result<(Option<FaceSeen>, Option<bool>), Error> {
        let is_due = self.detected_ms.is_none_or(|last| at_ms - last >= DETECT_MS);
        let mut detection = None;
        let mut mesh = None;
        if let Some(region) = self.region {
            mesh = self.mesh(image, &region)?;
        }
        if mesh.is_none() {
            // Lost, or not yet found.
            self.region = None;
            let found = self.detect(image, at_ms)?;
            if let Some(face) = &found.face {
                mesh = self.mesh(image, &Region::of_face(face))?;
            }
            detection = Some(found);
        } else if is_due {
            detection = Some(self.detect(image, at_ms)?);
        }
        let second_face = |detection: &Option<Detection>| detection.as_ref().map(|found| found.second_face);
        let Some(mesh) = mesh else { return Ok((None, second_face(&detection))) };
        let region = mesh.region();
        self.region = Some(region);
        let signals = Signals::of(&mesh);
        let crop_scale = f64::from(image.width.min(image.height)) / region.face_bounds().height;
        let wants = self.session.wants(at_ms, &signals, crop_scale);
        if (wants.sample || wants.embedding) && detection.is_none() {
            // Passive liveness and embedding were calibrated with the detector's box and points.
            detection = Some(self.detect(image, at_ms)?);
        }
        let (thumb, luma) = thumb(image, &region);
        let mut seen = FaceSeen { mesh, signals, thumb, luma, crop_scale, sample: None, embedding: None, relief: None };
        if wants.relief {
            seen.relief = relief(image, &seen.mesh, &region);
        }
        if let Some(face) = detection.as_ref().and_then(|found| found.face.as_ref()) {
            if wants.sample {
                seen.sample = self.sample(image, face)?;
            }
            let is_best = seen.sample.as_ref().is_some_and(|sample| self.session.would_be_best(sample, &seen.signals));
            if wants.embedding || is_best {
                seen.embedding = Some(self.engine.face_models.embedder.embed(image, face, &self.context)?);
            }
        }
        Ok((Some(seen), second_face(&detection)))
    }

    /// The mesh in a region, if there is a face.
    fn mesh(&self, image: &Image, region: &Region) -> Result<Option<Mesh>, Error> {
        let mesh = self.engine.face_models.landmarks.mesh(image, region, &self.context)?;
        Ok((mesh.presence >= self.terms.face_presence_min).then_some(mesh))
    }

    fn detect(&mut self, image: &Image, at_ms: f64) -> Result<Detection, Error> {
        self.detected_ms = Some(at_ms);
        let faces = self.engine.face_models.detector.find_upright(image, &self.context)?;
        let tracked = match &self.region {
            None => (!faces.is_empty()).then_some(0),
            Some(region) => {
                let bounds = region.face_bounds();
                let overlap = |index: &usize| faces[*index].bounds.intersection_over_union(&bounds);
                (0..faces.len())
                    .max_by(|a, b| overlap(a).total_cmp(&overlap(b)))
                    .filter(|best| overlap(best) >= SAME_FACE_OVERLAP)
            }
        };
        let area = match (tracked, &self.region) {
            (Some(index), _) => faces[index].bounds.area(),
            (None, Some(region)) => region.face_bounds().area(),
            (None, None) => 0.0,
        };
        let is_second =
            |(index, face): (usize, &Face)| Some(index) != tracked && face.bounds.area() >= FURTHER_FACE_SHARE * area;
        let second_face = faces.iter().enumerate().any(is_second);
        Ok(Detection { face: tracked.map(|index| faces[index].clone()), second_face })
    }

    fn sample(&self, image: &Image, face: &Face) -> Result<Option<Sample>, Error> {
        let score = self.engine.face_models.liveness.score(image, &face.bounds, &self.context)?;
        if score.crop_scale < self.terms.crop_scale_min {
            return Ok(None);
        }
        let aligned = align::to_template(image, face, &align::ARCFACE, SHARPNESS_SIDE_PX);
        let sharpness = aligned.map_or(0.0, |aligned| quality::measure(&aligned).sharpness);
        Ok(Some(Sample { live: score.live, sharpness }))
    }

    /// Passive liveness over the frames, judged by the calibration; and the reasons that it gives.
    pub fn judge_samples(&self, verdict: &Verdict, operating_point: &str, today: Date) -> (Finding, Option<Reason>) {
        let loaded: Option<&LoadedCalibration> = self.engine.calibrations.get(CHECK);
        let terms = CheckTerms {
            calibration: loaded,
            operating_point: loaded.and_then(|loaded| loaded.calibration.operating_point(operating_point)),
            parameters: &std::collections::BTreeMap::new(),
            today,
        };
        let mut finding = Finding::inconclusive(Vec::new());
        finding.measurements.insert("frames", verdict.samples as f64);
        let Some(score) = verdict.live else {
            finding.warnings.push(told(Reason::TooFewFrontalFrames));
            return (finding, Some(Reason::TooFewFrontalFrames));
        };
        let mut finding = finding.decide(score, &terms);
        if verdict.is_unsettled && finding.outcome != Outcome::Fail {
            finding.outcome = Outcome::Inconclusive;
            finding.warnings.push(told(Reason::TooFewFrontalFrames));
            return (finding, Some(Reason::TooFewFrontalFrames));
        }
        let reason = match finding.outcome {
            Outcome::Pass => None,
            Outcome::Review => Some(Reason::PassiveLivenessUnsure),
            Outcome::Fail => Some(Reason::PassiveLivenessFailed),
            Outcome::Inconclusive | Outcome::Skipped => Some(Reason::NotCalibrated),
        };
        (finding, reason)
    }
}

/// What the detector saw.
struct Detection {
    /// The tracked face.
    face: Option<Face>,
    second_face: bool,
}

/// A reason as a warning.
pub fn told(reason: Reason) -> Warning {
    let (code, message, _) = reason.told();
    Warning { code, message: message.into(), media: None }
}

/// The outcome that reasons lead to.
pub fn outcome(reasons: &[Reason]) -> Outcome {
    match reasons.iter().map(|reason| reason.gravity()).max() {
        None => Outcome::Pass,
        Some(Gravity::Review) => Outcome::Review,
        Some(Gravity::Inconclusive) => Outcome::Inconclusive,
        Some(Gravity::Fail) => Outcome::Fail,
    }
}

/// What is told with a session that ends before its frame was judged.
fn ended(verdict: Verdict, progress: f64) -> Told {
    Told {
        instruction: crate::live::session::Instruction::Done,
        progress,
        step_progress: 0.0,
        relative: None,
        prompt: None,
        step: verdict.steps.last().copied().filter(|step| !step.passed),
        is_best: false,
        verdict: Some(verdict),
    }
}

fn shown(face: &FaceSeen, picture: &Picture) -> Shown {
    let to_frame = 1.0 / picture.scale;
    let mut signals = face.signals;
    signals.span_px *= to_frame;
    signals.centre = signals.centre.map(|at| at * to_frame);
    let region = face.mesh.region();
    Shown {
        signals,
        region: Region {
            centre: region.centre.map(|at| at * to_frame),
            side_px: region.side_px * to_frame,
            roll_deg: region.roll_deg,
        },
        landmarks: OUTLINES.iter().map(|&index| face.mesh.in_picture(index).map(|at| at * to_frame)).collect(),
        live: face.sample.map(|sample| sample.live),
    }
}

/// The small grey picture of the face, and its mean luma.
pub fn thumb(image: &Image, region: &Region) -> (Thumb, f64) {
    let part = Region { side_px: region.side_px * THUMB_SHARE, ..*region };
    let (small, _) = align::upright_square(image, &part, THUMB_SIDE as u32, Sampling::Area);
    let luma = quality::luma(&small);
    let thumb: Thumb = std::array::from_fn(|at| luma[at]);
    let mean = luma.iter().map(|&value| f64::from(value)).sum::<f64>() / luma.len() as f64;
    (thumb, mean)
}

/// The face in grey as its mesh has it.
pub fn relief(image: &Image, mesh: &Mesh, region: &Region) -> Option<Relief> {
    let (crop, to_picture) = align::upright_square(image, region, RELIEF_SIDE as u32, Sampling::Area);
    Relief::new(mesh, quality::luma(&crop), &to_picture)
}
