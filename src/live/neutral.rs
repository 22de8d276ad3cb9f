//! The person's own face at rest, learned in the first second, so that no action is judged by what faces are like on average.
//!
//! Called by `session` with frames that show one face, near and straight enough.

use std::collections::VecDeque;

use super::signals::{Signals, median};

/// For how long the face must have been at rest, in milliseconds of capture time.
const REST_MS: f64 = 700.0;

/// Fewest frames of that time; fewer do not give a median.
const MIN_FRAMES: usize = 6;

/// The face counts as at rest while pose stays within these many degrees over the whole time. Faces that listen sway by one or two (labelled clips: at most 3 in a second
/// of rest).
const STILL_DEG: f64 = 6.0;

/// Eyes: this share of the frames is taken to show them more closed than they are, since people blink.
const EYES_OPEN_QUANTILE: f64 = 0.6;

/// What has been seen while the face is at rest.
#[derive(Debug, Default)]
pub struct Neutral {
    frames: VecDeque<(f64, Signals)>,
}

impl Neutral {
    /// Forgets what was seen: the face was not at rest.
    pub fn reset(&mut self) {
        self.frames.clear();
    }

    /// Share of the time that is over, 0..1.
    pub fn progress(&self) -> f64 {
        match (self.frames.front(), self.frames.back()) {
            (Some((first, _)), Some((last, _))) => ((last - first) / REST_MS).clamp(0.0, 1.0),
            _ => 0.0,
        }
    }

    /// Adds a frame; the neutral face once it is known.
    pub fn add(&mut self, at_ms: f64, signals: Signals) -> Option<Signals> {
        self.frames.push_back((at_ms, signals));
        // The longest stretch that ends now and is still.
        while self.is_restless() {
            self.frames.pop_front();
        }
        while self.frames.len() > MIN_FRAMES && self.frames[1].0 <= at_ms - REST_MS {
            self.frames.pop_front();
        }
        let whole = self.frames.len() >= MIN_FRAMES && at_ms - self.frames[0].0 >= REST_MS;
        whole.then(|| {
            let frames: Vec<Signals> = self.frames.iter().map(|(_, signals)| *signals).collect();
            let mut eyes: Vec<f64> = frames.iter().map(|signals| signals.eyes).collect();
            eyes.sort_by(f64::total_cmp);
            let open = eyes[((eyes.len() - 1) as f64 * EYES_OPEN_QUANTILE) as usize];
            Signals { eyes: open, ..Signals::combined(&frames, median) }
        })
    }

    fn is_restless(&self) -> bool {
        [|s: &Signals| s.yaw_deg, |s: &Signals| s.pitch_deg].into_iter().any(|value| {
            let (low, high) = self.frames.iter().fold((f64::MAX, f64::MIN), |(low, high), (_, signals)| {
                (low.min(value(signals)), high.max(value(signals)))
            });
            high - low > STILL_DEG
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::actions::testing::neutral;
    use super::*;

    #[test]
    fn it_is_known_after_a_second_of_rest_and_not_while_the_head_moves() {
        let mut learned = Neutral::default();
        for frame in 0..30 {
            let moving = Signals { yaw_deg: f64::from(frame) * 2.0, ..neutral() };
            assert_eq!(learned.add(f64::from(frame) * 33.0, moving), None);
        }
        let known = (30..60).find_map(|frame| {
            learned.add(f64::from(frame) * 33.0, Signals { yaw_deg: 3.0, ..neutral() }).map(|known| (frame, known))
        });
        let (frame, known) = known.unwrap();
        assert_eq!(known.yaw_deg, 3.0);
        assert!((51..56).contains(&frame), "{frame}");
    }

    #[test]
    fn a_blink_does_not_make_the_eyes_small() {
        let mut learned = Neutral::default();
        let mut known = None;
        for frame in 0..25 {
            let eyes = if (8..14).contains(&frame) { 0.1 } else { 0.3 };
            known = known.or(learned.add(f64::from(frame) * 33.0, Signals { eyes, ..neutral() }));
        }
        assert_eq!(known.unwrap().eyes, 0.3);
    }
}
