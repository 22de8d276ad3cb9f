//! How a face moves from frame to frame: too fast for a head, cut, or the same stretch twice.
//!
//! Called by `session` with each frame that shows a face. What is remembered is bounded: nine numbers for each of the last frames.

use std::collections::VecDeque;

use super::Reason;
use super::signals::{Signals, median};
use super::terms::Terms;

/// Side of the small picture of the face, aligned by the mesh, that frames are compared by.
pub const THUMB_SIDE: usize = 24;

/// The face in grey, [`THUMB_SIDE`] squared.
pub type Thumb = [u8; THUMB_SIDE * THUMB_SIDE];

/// Frames of a stretch that is looked for among earlier ones: at 30 frames a second 0.4 s, long enough that no person repeats it so closely.
const STRETCH: usize = 12;

/// A stretch is looked for among those that ended this many frames earlier or more.
const APART: usize = 20;

/// Frames that are remembered; a loop longer than this is not seen as one.
const REMEMBERED: usize = 900;

/// The jitter of landmarks on a face that stands still, by which differences are divided: centre (in eye spans), size (logarithm), yaw, pitch, roll, eyes, mouth's
/// opening and width. Over labelled clips of people, two stretches with motion never came closer than a mean squared distance of 11 in these units.
const NOISE: [f64; DIMENSIONS] = [0.006, 0.006, 0.006, 0.5, 0.5, 0.4, 0.01, 0.012, 0.012];
const DIMENSIONS: usize = 9;

/// A stretch has motion if it varies by this many times the noise, squared. Without motion any two are alike.
const MOTION: f64 = 30.0;

/// Cuts are looked for between frames no further apart than this share of the longest gap: further apart, two pictures of one face may differ as much.
pub const CUT_SHARE: f64 = 0.5;

/// The same small picture of the face for so long, in milliseconds, comes from no camera: its noise alone changes it.
const FROZEN_MS: f64 = 1500.0;

/// Speeds are taken over at least this time, in milliseconds (three steps at 30 frames a second), between medians of three frames: the slip of one frame is no motion.
const SPEED_MS: f64 = 90.0;

/// Frames that are kept for it: enough for a second at 30 a second, and more than [`SPEED_MS`] at any rate that is of use.
const RECENT: usize = 30;

/// The motion of one face.
#[derive(Debug, Default)]
pub struct Motion {
    vectors: VecDeque<[f64; DIMENSIONS]>,
    recent: VecDeque<(f64, Signals)>,
    thumb: Option<Box<Thumb>>,
    /// When the present one came first.
    thumb_since_ms: f64,
    span_px: f64,
}

impl Motion {
    /// Forgets the last frame: the face was lost in between, so nothing is known of how it moved.
    pub fn interrupt(&mut self) {
        self.recent.clear();
        self.thumb = None;
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// What a person in front of a camera cannot do.
    pub fn see(&mut self, at_ms: f64, signals: &Signals, thumb: &Thumb, terms: &Terms) -> Result<(), Reason> {
        if self.span_px == 0.0 {
            self.span_px = signals.span_px;
        }
        let cut = self.thumb.as_deref().is_some_and(|last| {
            let close =
                self.recent.back().is_some_and(|(last_ms, _)| at_ms - last_ms <= terms.frame_gap_ms_max * CUT_SHARE);
            close && correlation(last, thumb) < terms.cut_correlation_min
        });
        if self.thumb.as_deref() != Some(thumb) {
            self.thumb_since_ms = at_ms;
        }
        let frozen = at_ms - self.thumb_since_ms > FROZEN_MS;
        self.thumb = Some(Box::new(*thumb));
        let fast = self.is_too_fast(at_ms, signals, terms);
        self.vectors.push_back(self.vector(signals));
        if self.vectors.len() > REMEMBERED {
            self.vectors.pop_front();
        }
        if frozen {
            return Err(Reason::FramesFrozen);
        }
        if cut {
            return Err(Reason::FramesCut);
        }
        if fast {
            return Err(Reason::MotionImpossible);
        }
        if self.is_looped(terms) { Err(Reason::FramesLooped) } else { Ok(()) }
    }

    /// Speed over the last [`SPEED_MS`].
    fn is_too_fast(&mut self, at_ms: f64, signals: &Signals, terms: &Terms) -> bool {
        self.recent.push_back((at_ms, *signals));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        let recent = self.recent.make_contiguous();
        // The middle frame of each three, with the median of the three.
        let smooth = |middle: usize| {
            let three: Vec<Signals> = recent[middle - 1..=middle + 1].iter().map(|(_, signals)| *signals).collect();
            (recent[middle].0, Signals::combined(&three, median))
        };
        if recent.len() < 4 {
            return false;
        }
        let (now_ms, now) = smooth(recent.len() - 2);
        let before = (1..recent.len() - 2).rev().find(|&middle| now_ms - recent[middle].0 >= SPEED_MS);
        let Some((before_ms, before)) = before.map(smooth) else { return false };
        let seconds = (now_ms - before_ms) / 1e3;
        let turn = (now.yaw_deg - before.yaw_deg).hypot(now.pitch_deg - before.pitch_deg) / seconds;
        let moved = (now.centre[0] - before.centre[0]).hypot(now.centre[1] - before.centre[1]);
        let shift = moved / before.span_px.max(f64::MIN_POSITIVE) / seconds;
        turn > terms.head_speed_max || shift > terms.shift_speed_max
    }

    fn vector(&self, signals: &Signals) -> [f64; DIMENSIONS] {
        let values = [
            signals.centre[0] / self.span_px,
            signals.centre[1] / self.span_px,
            signals.span_px.max(f64::MIN_POSITIVE).ln(),
            signals.yaw_deg,
            signals.pitch_deg,
            signals.roll_deg,
            signals.eyes,
            signals.mouth,
            signals.mouth_width,
        ];
        std::array::from_fn(|at| values[at] / NOISE[at])
    }

    /// Whether the last stretch, if it has motion, has come before.
    fn is_looped(&self, terms: &Terms) -> bool {
        let count = self.vectors.len();
        if count < 2 * STRETCH + APART {
            return false;
        }
        let last = count - STRETCH;
        let mean: [f64; DIMENSIONS] =
            std::array::from_fn(|at| (last..count).map(|frame| self.vectors[frame][at]).sum::<f64>() / STRETCH as f64);
        let variation = (last..count).map(|frame| squared(&self.vectors[frame], &mean)).sum::<f64>() / STRETCH as f64;
        if variation < MOTION {
            return false;
        }
        let limit = terms.loop_distance_max * STRETCH as f64;
        (0..=last - STRETCH - APART).any(|start| {
            let mut total = 0.0;
            (0..STRETCH).all(|offset| {
                total += squared(&self.vectors[start + offset], &self.vectors[last + offset]);
                total < limit
            })
        })
    }
}

fn squared(a: &[f64; DIMENSIONS], b: &[f64; DIMENSIONS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// Correlation of two pictures, −1..1, which does not see that one is brighter; 1 where one of them has no contrast at all.
pub fn correlation(a: &Thumb, b: &Thumb) -> f64 {
    let mean = |picture: &Thumb| picture.iter().map(|&value| f64::from(value)).sum::<f64>() / picture.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut product, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a) - mean_a, f64::from(b) - mean_b);
        product += a * b;
        square_a += a * a;
        square_b += b * b;
    }
    if square_a == 0.0 || square_b == 0.0 { 1.0 } else { product / (square_a * square_b).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::super::actions::testing::{neutral, terms};
    use super::*;

    fn thumb(seed: u8) -> Thumb {
        std::array::from_fn(|at| (at as u8).wrapping_mul(seed).wrapping_add(seed))
    }

    /// The same picture with the noise of a camera.
    fn noisy(frame: usize) -> Thumb {
        let mut thumb = thumb(3);
        thumb[frame % thumb.len()] ^= 1;
        thumb
    }

    /// A head that wanders as a person's does: three rhythms that do not meet again.
    fn wandering(frame: usize, jitter: f64) -> Signals {
        let t = frame as f64 / 30.0;
        let noise = jitter * ((frame * 7919 % 13) as f64 / 6.0 - 1.0);
        Signals {
            yaw_deg: 8.0 * (t * 1.9).sin() + 3.0 * (t * 5.3).sin() + noise,
            pitch_deg: 4.0 * (t * 1.1).cos() + noise,
            centre: [320.0 + 6.0 * (t * 0.7).sin(), 240.0],
            ..neutral()
        }
    }

    fn run(frames: impl Iterator<Item = Signals>) -> Option<(usize, Reason)> {
        let mut motion = Motion::default();
        frames.enumerate().find_map(|(frame, signals)| {
            motion.see(frame as f64 * 33.3, &signals, &noisy(frame), &terms()).err().map(|reason| (frame, reason))
        })
    }

    #[test]
    fn a_person_may_move_on_and_on() {
        assert_eq!(run((0..600).map(|frame| wandering(frame, 0.3))), None);
    }

    #[test]
    fn a_clip_that_is_played_again_is_a_loop_also_with_other_noise() {
        let looped = (0..300).map(|frame| wandering(frame % 70, if frame < 70 { 0.2 } else { -0.2 }));
        let (frame, reason) = run(looped).unwrap();
        assert_eq!(reason, Reason::FramesLooped);
        assert!((82..140).contains(&frame), "{frame}");
    }

    #[test]
    fn a_face_at_rest_is_no_loop() {
        assert_eq!(run((0..300).map(|frame| Signals { yaw_deg: (frame % 3) as f64 * 0.3, ..neutral() })), None);
    }

    #[test]
    fn a_head_does_not_turn_that_fast_and_a_slip_of_one_frame_is_none() {
        let turning = |speed: f64| {
            run((0..60).map(move |frame| Signals {
                yaw_deg: speed * ((frame as f64 / 30.0 - 1.0) * 30.0).clamp(-15.0, 15.0),
                ..neutral()
            }))
        };
        assert_eq!(turning(4.0), None);
        assert_eq!(turning(20.0).unwrap().1, Reason::MotionImpossible);
        let slip = (0..60).map(|frame| Signals { yaw_deg: if frame == 30 { 40.0 } else { 0.0 }, ..neutral() });
        assert_eq!(run(slip), None);
    }

    #[test]
    fn a_picture_without_the_noise_of_a_camera_is_frozen() {
        let mut motion = Motion::default();
        let ended = (0..90).find_map(|frame| motion.see(frame as f64 * 33.3, &neutral(), &thumb(3), &terms()).err());
        assert_eq!(ended, Some(Reason::FramesFrozen));
    }

    #[test]
    fn another_picture_from_one_frame_to_the_next_is_a_cut() {
        let mut motion = Motion::default();
        let mut see = |frame: usize, seed: u8| motion.see(frame as f64 * 33.3, &neutral(), &thumb(seed), &terms());
        for frame in 0..10 {
            assert_eq!(see(frame, 3), Ok(()));
        }
        assert_eq!(see(10, 101), Err(Reason::FramesCut));
    }
}
