//! Frames as they arrive, before any is decoded: order, clock, bounds, and whether their bytes have come before.
//!
//! Called by `api::verify_live` for every frame, also for those that newer ones will replace. Time is a parameter: the capture time of the frame, and how long the
//! session has lasted by the daemon's clock.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::Reason;

/// How far capture times may run ahead of the daemon's clock, in milliseconds: the first frame may have been late by this much. A recording that is played at twice its
/// speed is ahead by this after as long again.
const AHEAD_MS: f64 = 1500.0;

/// How much further behind the daemon's clock than at their best they may fall, in milliseconds: frames wait in buffers, and whoever has read a prompt shall
/// not have time to look for a clip that fits.
const BEHIND_MS: f64 = 2500.0;

/// Longest for which the same bytes may come again and again: a browser that takes pictures of a slow camera sends each several times.
const FROZEN_MS: f64 = 1500.0;

/// What a session may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub max_frames: u32,
    pub max_bytes: u64,
}

/// The bounds, clock and memory of one session. It holds eight bytes for each frame.
#[derive(Debug)]
pub struct Intake {
    bounds: Bounds,
    /// In a rehearsal, capture times come from a recording.
    compares_clocks: bool,
    hasher: RandomState,
    seen: HashSet<u64>,
    first: Option<(f64, f64)>,
    /// How far capture times were behind the clock at their best.
    least_lag_ms: f64,
    last: Option<Last>,
    frames: u32,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    index: u32,
    captured_us: u64,
    digest: u64,
    /// When these bytes came first.
    since_ms: f64,
}

impl Intake {
    pub fn new(bounds: Bounds, compares_clocks: bool) -> Self {
        Self {
            bounds,
            compares_clocks,
            hasher: RandomState::new(),
            seen: HashSet::new(),
            first: None,
            least_lag_ms: f64::MAX,
            last: None,
            frames: 0,
            bytes: 0,
        }
    }

    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Takes a frame in; `elapsed_ms` is the session's age by the daemon's clock. Its capture time in milliseconds since the first frame.
    ///
    /// # Errors
    /// Why the session ends with this frame.
    pub fn take(&mut self, index: u32, captured_us: u64, image: &[u8], elapsed_ms: f64) -> Result<f64, Reason> {
        self.frames += 1;
        self.bytes += image.len() as u64;
        if self.frames > self.bounds.max_frames {
            return Err(Reason::TooManyFrames);
        }
        if self.bytes > self.bounds.max_bytes {
            return Err(Reason::TooManyBytes);
        }
        let captured_ms = captured_us as f64 / 1e3;
        let (first_captured_ms, first_elapsed_ms) = *self.first.get_or_insert((captured_ms, elapsed_ms));
        let at_ms = captured_ms - first_captured_ms;
        if self.last.is_some_and(|last| index <= last.index || captured_us <= last.captured_us) {
            return Err(Reason::FramesOutOfOrder);
        }
        let lag_ms = elapsed_ms - first_elapsed_ms - at_ms;
        self.least_lag_ms = self.least_lag_ms.min(lag_ms);
        if self.compares_clocks && lag_ms < -AHEAD_MS {
            return Err(Reason::ClockMismatch);
        }
        if self.compares_clocks && lag_ms - self.least_lag_ms > BEHIND_MS {
            return Err(Reason::FramesInterrupted);
        }
        let digest = self.hasher.hash_one(image);
        let again = self.last.filter(|last| last.digest == digest);
        let since_ms = again.map_or(at_ms, |last| last.since_ms);
        self.last = Some(Last { index, captured_us, digest, since_ms });
        if again.is_some() {
            return if at_ms - since_ms > FROZEN_MS { Err(Reason::FramesFrozen) } else { Ok(at_ms) };
        }
        if self.seen.insert(digest) { Ok(at_ms) } else { Err(Reason::FramesRepeated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_US: u64 = 33_333;

    fn intake() -> Intake {
        Intake::new(Bounds { max_frames: 100, max_bytes: 10_000 }, true)
    }

    /// Takes frame `index` at 30 frames a second, `speed` times as fast by the daemon's clock.
    fn take(intake: &mut Intake, index: u32, image: &[u8], speed: f64) -> Result<f64, Reason> {
        let captured_us = u64::from(index) * FRAME_US;
        intake.take(index, captured_us, image, captured_us as f64 / 1e3 / speed)
    }

    #[test]
    fn capture_time_counts_from_the_first_frame() {
        let mut intake = intake();
        assert_eq!(intake.take(7, 5_000_000, b"a", 300.0), Ok(0.0));
        assert_eq!(intake.take(9, 5_040_000, b"b", 340.0), Ok(40.0));
    }

    #[test]
    fn steps_back_end_the_session() {
        for (index, captured_us) in [(3, 200_000), (4, 100_000), (4, 50_000), (2, 300_000)] {
            let mut intake = intake();
            assert!(intake.take(3, 100_000, b"a", 0.0).is_ok());
            assert_eq!(intake.take(index, captured_us, b"b", 10.0), Err(Reason::FramesOutOfOrder), "{index}");
        }
    }

    #[test]
    fn the_same_bytes_may_come_again_and_for_long_they_are_frozen() {
        let mut intake = intake();
        assert!(take(&mut intake, 0, b"a", 1.0).is_ok());
        let told: Vec<_> = (1..60).map(|index| take(&mut intake, index, b"b", 1.0)).collect();
        assert_eq!(told[0], Ok(FRAME_US as f64 / 1e3));
        assert!(told[1..45].iter().all(Result::is_ok));
        assert_eq!(told[47], Err(Reason::FramesFrozen));
    }

    #[test]
    fn bytes_that_come_again_after_others_are_a_loop() {
        let mut intake = intake();
        for index in 0..3 {
            assert!(take(&mut intake, index, &[index as u8], 1.0).is_ok());
        }
        assert_eq!(take(&mut intake, 3, &[0], 1.0), Err(Reason::FramesRepeated));
    }

    #[test]
    fn a_clip_at_twice_its_speed_runs_ahead_of_the_clock_and_a_rehearsal_may() {
        let first = |compares: bool| {
            let mut intake = Intake::new(Bounds { max_frames: 1000, max_bytes: 10_000 }, compares);
            (0..200_u32).find_map(|index| take(&mut intake, index, &index.to_le_bytes(), 2.0).err())
        };
        assert_eq!((first(true), first(false)), (Some(Reason::ClockMismatch), None));
    }

    #[test]
    fn frames_that_fall_behind_the_clock_leave_no_time_to_think() {
        let mut intake = intake();
        // Slow from the beginning is no harm...
        assert!(intake.take(0, 0, b"a", 0.0).is_ok());
        assert!(intake.take(1, 33_000, b"b", 1000.0).is_ok());
        // ...and a pause of which the capture times know nothing is.
        assert_eq!(intake.take(2, 66_000, b"c", 4000.0), Err(Reason::FramesInterrupted));
    }

    #[test]
    fn frames_and_bytes_are_bounded() {
        let mut intake = intake();
        let ended = (0..200_u32).find_map(|index| take(&mut intake, index, &index.to_le_bytes(), 1.0).err());
        assert_eq!((ended, intake.frames()), (Some(Reason::TooManyFrames), 101));
        let mut intake = self::intake();
        assert_eq!(take(&mut intake, 0, &[0; 10_001], 1.0), Err(Reason::TooManyBytes));
    }
}
