//! Clips of a head that moves, made from one photograph: what a camera delivers, without a person in front of it.
//!
//! Used by the tests of active liveness. An [`Actor`] is told what to do frame by frame, as a person at the prompts of
//! a session; a [`Performance`] is a clip that is planned beforehand. Both move a [`Subject`]: a [`head::Head`], or one
//! of those of `attacks.rs`. A test target that uses this declares `mod common;` beside it. Left out: sound of any
//! kind, blinks that nobody asked for, light that changes.

#![allow(dead_code, reason = "each test target uses a part of it")]

pub mod attacks;
pub mod expression;
pub mod head;
pub mod raster;

use std::cell::RefCell;
use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use turbojpeg::{Compressor, PixelFormat, Subsamp, Transform, TransformOp};
use vouch::api::proto::LiveAction;
use vouch::imaging::Image;
use vouch::imaging::decode::{DecodeOptions, decode};
use vouch::specimen::random::Random;

use self::head::{Head, Pose, Subject, smoother};

/// Time from frame to frame, in microseconds.
pub const FRAME_US: u64 = 33_333;
/// When the first frame of a clip is taken: a clock that has run for a while.
const START_US: u64 = 7_000_000;
/// How long an actor takes to react to a prompt unless told otherwise, in milliseconds.
const REACTION_MS: f64 = 450.0;
/// Quality of the frames' JPEG files.
const QUALITY: i32 = 92;

/// One frame of a camera.
#[derive(Debug, Clone)]
pub struct ClipFrame {
    pub jpeg: Bytes,
    /// When it was taken, in microseconds.
    pub captured_us: u64,
    /// Counts up from 0.
    pub index: u32,
}

/// Frames in the order of their capture.
#[derive(Debug, Clone, Default)]
pub struct Clip {
    pub frames: Vec<ClipFrame>,
}

impl Clip {
    /// Files as frames with even distances.
    pub fn of(files: impl IntoIterator<Item = Bytes>) -> Self {
        let frame =
            |(index, jpeg)| ClipFrame { jpeg, captured_us: START_US + index as u64 * FRAME_US, index: index as u32 };
        Self { frames: files.into_iter().enumerate().map(frame).collect() }
    }
}

/// What has been made in this process, by name.
struct Made<T>(Mutex<Vec<(String, Slot<T>)>>);

type Slot<T> = Arc<OnceLock<Arc<T>>>;

impl<T> Made<T> {
    /// The thing of a name, made by the first who asks; others wait meanwhile.
    fn get(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut all = self.0.lock().unwrap();
        let known = all.iter().find(|(of, _)| of == name).map(|(_, slot)| Arc::clone(slot));
        let slot = known.unwrap_or_else(|| {
            let slot = Arc::default();
            all.push((name.to_owned(), Arc::clone(&slot)));
            slot
        });
        drop(all);
        Arc::clone(slot.get_or_init(|| Arc::new(make())))
    }
}

/// The head made from a sample photograph, such as `portrait.jpg`; made once in a process.
pub fn head(photo: &str) -> Arc<Head> {
    static HEADS: Made<Head> = Made(Mutex::new(Vec::new()));
    HEADS.get(photo, || Head::from_photo(&decoded(&crate::common::photo(photo))))
}

/// A clip that several tests of a process use, made by the first of them.
pub fn cached(name: &str, make: impl FnOnce() -> Clip) -> Arc<Clip> {
    static CLIPS: Made<Clip> = Made(Mutex::new(Vec::new()));
    CLIPS.get(name, make)
}

/// The pixels of a file.
pub fn decoded(file: &[u8]) -> Image {
    decode(file, &DecodeOptions::default()).unwrap().image
}

/// A picture as a JPEG file.
pub fn encoded(image: &Image) -> Bytes {
    thread_local! {
        static COMPRESSOR: RefCell<Compressor> = RefCell::new({
            let mut compressor = Compressor::new().unwrap();
            compressor.set_quality(QUALITY).unwrap();
            compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
            compressor
        });
    }
    let (width, height) = (image.width as usize, image.height as usize);
    let pixels = turbojpeg::Image { pixels: &image.rgb[..], width, pitch: width * 3, height, format: PixelFormat::RGB };
    COMPRESSOR.with_borrow_mut(|compressor| compressor.compress_to_vec(pixels)).unwrap().into()
}

/// How long the parts of an action take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    pub onset_ms: f64,
    pub hold_ms: f64,
    pub release_ms: f64,
}

impl Timing {
    /// As people do it.
    pub fn of(action: LiveAction) -> Self {
        let (onset_ms, hold_ms, release_ms) = match action {
            LiveAction::Blink => (100.0, 100.0, 150.0),
            LiveAction::MoveCloser => (800.0, 500.0, 700.0),
            _ => (450.0, 400.0, 400.0),
        };
        Self { onset_ms, hold_ms, release_ms }
    }

    pub fn total_ms(&self) -> f64 {
        self.onset_ms + self.hold_ms + self.release_ms
    }

    /// How far the action is `ms` milliseconds after its begin, 0..1.
    fn share(&self, ms: f64) -> f64 {
        let rest = ms - self.onset_ms - self.hold_ms;
        if rest <= 0.0 { smooth_step(ms / self.onset_ms) } else { 1.0 - smooth_step(rest / self.release_ms) }
    }
}

fn smooth_step(share: f64) -> f64 {
    f64::from(smoother(share as f32))
}

/// The pose in which an action is done. Left and right are the person's own, in frames that are not mirrored.
pub fn pose_of(action: LiveAction) -> Pose {
    let neutral = Pose::default();
    match action {
        LiveAction::Unspecified => neutral,
        LiveAction::TurnLeft => Pose { yaw_deg: 27.0, ..neutral },
        LiveAction::TurnRight => Pose { yaw_deg: -27.0, ..neutral },
        LiveAction::LookUp => Pose { pitch_deg: 24.0, ..neutral },
        LiveAction::LookDown => Pose { pitch_deg: -19.0, ..neutral },
        LiveAction::Blink => Pose { eyes_closed: 1.0, ..neutral },
        LiveAction::Smile => Pose { smile: 1.0, ..neutral },
        LiveAction::OpenMouth => Pose { mouth_open: 0.85, ..neutral },
        LiveAction::MoveCloser => Pose { scale: 1.4, ..neutral },
    }
}

/// A pose with a share of another one's difference to neutral on top.
pub fn towards(pose: &Pose, other: &Pose, share: f64) -> Pose {
    Pose {
        yaw_deg: pose.yaw_deg + other.yaw_deg * share,
        pitch_deg: pose.pitch_deg + other.pitch_deg * share,
        roll_deg: pose.roll_deg + other.roll_deg * share,
        mouth_open: pose.mouth_open + other.mouth_open * share,
        smile: pose.smile + other.smile * share,
        eyes_closed: pose.eyes_closed + other.eyes_closed * share,
        scale: pose.scale * (1.0 + (other.scale - 1.0) * share),
        dx_px: pose.dx_px + other.dx_px * share,
        dy_px: pose.dy_px + other.dy_px * share,
    }
}

/// The sway of a person who holds still: below a degree, about a pixel.
#[derive(Debug, Clone)]
struct Sway {
    /// For yaw, pitch, roll, shift to the right and down, and scale: swings of an amplitude, a frequency in hertz, a
    /// phase.
    swings: [[[f64; 3]; 3]; 6],
}

impl Sway {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "sway");
        let swings = [0.5, 0.35, 0.25, 0.9, 0.6, 0.003].map(|amplitude| {
            [[1.0, 0.15, 0.4], [0.5, 0.5, 1.1], [0.2, 1.3, 2.3]].map(|[share, slowest, fastest]| {
                [amplitude * share, random.within(slowest, fastest), random.within(0.0, TAU)]
            })
        });
        Self { swings }
    }

    fn at(&self, ms: f64) -> Pose {
        let [yaw_deg, pitch_deg, roll_deg, dx_px, dy_px, scale] = self.swings.map(|swings| {
            let swing =
                |[amplitude, frequency, phase]: [f64; 3]| amplitude * (ms / 1000.0 * frequency * TAU + phase).sin();
            swings.into_iter().map(swing).sum::<f64>()
        });
        Pose { yaw_deg, pitch_deg, roll_deg, dx_px, dy_px, scale: 1.0 + scale, ..Pose::default() }
    }
}

/// Something that is done from a time on.
#[derive(Debug, Clone, Copy)]
struct Deed {
    pose: Pose,
    begin_ms: f64,
    timing: Timing,
}

/// A subject in front of a camera that does what it is told.
pub struct Actor {
    subject: Arc<dyn Subject>,
    seed: u64,
    sway: Option<Sway>,
    deeds: Vec<Deed>,
    reaction_ms: f64,
    mirrored: bool,
    frame_us: u64,
    frames: u32,
}

impl Actor {
    /// At rest. The seed makes the sway and the grain.
    pub fn new(subject: Arc<dyn Subject>, seed: u64) -> Self {
        let sway = Some(Sway::new(seed));
        Self {
            subject,
            seed,
            sway,
            deeds: Vec::new(),
            reaction_ms: REACTION_MS,
            mirrored: false,
            frame_us: FRAME_US,
            frames: 0,
        }
    }

    /// Reacts to prompts after this many milliseconds.
    #[must_use]
    pub fn reacting_after_ms(mut self, reaction_ms: f64) -> Self {
        self.reaction_ms = reaction_ms;
        self
    }

    /// Takes a frame each so many milliseconds in place of 30 in a second; a quick blink may then fall between two.
    #[must_use]
    pub fn every_ms(mut self, frame_ms: f64) -> Self {
        self.frame_us = (frame_ms * 1000.0) as u64;
        self
    }

    /// Frames as a mirror shows them.
    #[must_use]
    pub fn mirrored(mut self) -> Self {
        self.mirrored = true;
        self
    }

    /// Without the sway: as a picture on a stand.
    #[must_use]
    pub fn without_sway(mut self) -> Self {
        self.sway = None;
        self
    }

    /// Does an action after the reaction time, on top of what it is doing.
    pub fn prompt(&mut self, action: LiveAction) {
        self.prompt_pose(pose_of(action), Timing::of(action));
    }

    /// Takes a pose after the reaction time; what differs from the default pose is added to what it is doing.
    pub fn prompt_pose(&mut self, pose: Pose, timing: Timing) {
        self.deeds.push(Deed { pose, begin_ms: self.now_ms() + self.reaction_ms, timing });
    }

    /// From the next frame on another subject is in front of the camera, at the same place.
    pub fn replace_by(&mut self, subject: Arc<dyn Subject>) {
        self.subject = subject;
    }

    /// Milliseconds from the first frame to the next one.
    pub fn now_ms(&self) -> f64 {
        f64::from(self.frames) * self.frame_us as f64 / 1000.0
    }

    /// True if nothing is being done or about to be.
    pub fn is_at_rest(&self) -> bool {
        self.deeds.iter().all(|deed| deed.begin_ms + deed.timing.total_ms() <= self.now_ms())
    }

    /// The pose of the next frame.
    pub fn pose(&self) -> Pose {
        let now = self.now_ms();
        let still = self.sway.as_ref().map_or_else(Pose::default, |sway| sway.at(now));
        let active = self.deeds.iter().filter(|deed| now > deed.begin_ms);
        active.fold(still, |pose, deed| towards(&pose, &deed.pose, deed.timing.share(now - deed.begin_ms)))
    }

    /// Takes the next frame.
    pub fn next_frame(&mut self) -> ClipFrame {
        let shot = self.next_shot();
        shot.frame(&*self.subject, self.mirrored)
    }

    /// Plans the next frame without drawing it.
    fn next_shot(&mut self) -> Shot {
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(self.frames.into());
        // A camera's clock jitters a little.
        let jitter = Random::new(seed, "clock").below(401) as u64;
        let captured_us = START_US + u64::from(self.frames) * self.frame_us + jitter;
        let shot = Shot { pose: self.pose(), seed, captured_us, index: self.frames };
        self.frames += 1;
        shot
    }
}

/// A frame that is not drawn yet.
struct Shot {
    pose: Pose,
    seed: u64,
    captured_us: u64,
    index: u32,
}

impl Shot {
    fn frame(&self, subject: &dyn Subject, mirrored: bool) -> ClipFrame {
        let mut jpeg = encoded(&subject.frame(&self.pose, self.seed));
        if mirrored {
            jpeg = turbojpeg::transform(&Transform::op(TransformOp::Hflip), &jpeg).unwrap().to_vec().into();
        }
        ClipFrame { jpeg, captured_us: self.captured_us, index: self.index }
    }
}

/// A clip that is planned and then drawn.
pub struct Performance {
    actor: Actor,
    shots: Vec<Shot>,
}

impl Performance {
    /// Of a subject at rest; the seed makes the sway and the grain.
    pub fn new(subject: Arc<dyn Subject>, seed: u64) -> Self {
        Self { actor: Actor::new(subject, seed).reacting_after_ms(0.0), shots: Vec::new() }
    }

    /// Does nothing for some milliseconds.
    #[must_use]
    pub fn rest(mut self, ms: f64) -> Self {
        let end = self.actor.now_ms() + ms;
        while self.actor.now_ms() < end {
            self.shots.push(self.actor.next_shot());
        }
        self
    }

    /// Does an action from begin to end.
    #[must_use]
    pub fn act(self, action: LiveAction) -> Self {
        self.act_in(pose_of(action), Timing::of(action))
    }

    /// Takes a pose and leaves it again.
    #[must_use]
    pub fn act_in(mut self, pose: Pose, timing: Timing) -> Self {
        self.actor.prompt_pose(pose, timing);
        self.rest(timing.total_ms())
    }

    /// Draws all frames, on two threads.
    pub fn clip(&self) -> Clip {
        let draw = |shots: &[Shot]| {
            shots.iter().map(|shot| shot.frame(&*self.actor.subject, self.actor.mirrored)).collect::<Vec<_>>()
        };
        let (first, second) = self.shots.split_at(self.shots.len() / 2);
        let frames = std::thread::scope(|scope| {
            let other = scope.spawn(|| draw(second));
            let mut frames = draw(first);
            frames.extend(other.join().unwrap());
            frames
        });
        Clip { frames }
    }
}
