//! Has the asked action been done, has it begun, or has another one?
//!
//! Called by `session` with each frame, relative to the person's own neutral face. An action has a level: 0 at rest, 1 where the calibration's threshold is reached.
//! It begins at [`BEGUN`] and is done once it has held level 1 on two frames; a blink is done when the eyes have opened again.

use std::collections::VecDeque;

use super::signals::{Relative, median};
use super::terms::Terms;
use super::{Action, Mirroring, Side};

/// Level at which an action has begun: above the sway of a person who waits, below any intent.
pub const BEGUN: f64 = 0.45;

/// Level below which a face is at rest.
pub const AT_REST: f64 = 0.4;

/// Level from which another action than the asked one is a wrong one and no accompaniment: a head that turns by 45 degrees dips by 13.
const WRONG: f64 = 1.2;

/// The head's motions, and how far another one may go with the asked one, as a share of it.
const HEAD: [Action; 4] = [Action::TurnLeft, Action::TurnRight, Action::LookUp, Action::LookDown];
const PLAIN: f64 = 0.85;

/// Frames on which an action must hold its level, or a wrong one its own: one alone may be a slip of the landmarks.
const FRAMES: u32 = 2;

/// Frames over which the openness of the eyes is compared: about a second, so that a squint or a look down becomes the measure itself.
const EYES_FRAMES: usize = 30;

/// Share of that openness at which eyes are open again.
const REOPENED: f64 = 0.85;

/// Longest a blink may last, in milliseconds; longer, the eyes are closed or look down.
const BLINK_MS: f64 = 1500.0;

/// How far the person is into an action, 0 at rest, 1 where it counts. Of a turn while mirroring is unknown, to either side.
pub fn level(action: Action, now: &Relative, mirroring: Mirroring, terms: &Terms) -> f64 {
    match action {
        Action::TurnLeft | Action::TurnRight => {
            let towards = match mirroring.side_of(action) {
                Some(side) => side.sign() * now.yaw_deg,
                None => now.yaw_deg.abs(),
            };
            towards / terms.turn_deg_min
        }
        Action::LookUp => now.pitch_deg / terms.look_deg_min,
        Action::LookDown => -now.pitch_deg / terms.look_deg_min,
        // Half of a blink; the other half is that the eyes open again.
        Action::Blink => (1.0 - now.eyes) / (1.0 - terms.eyes_closed_max) / 2.0,
        // Both are needed: a mouth is wide when it speaks, and its corners rise when the head tilts.
        Action::Smile => (now.smile_width / terms.smile_width_min).min(now.smile_lift / terms.smile_lift_min),
        Action::OpenMouth => now.mouth / terms.mouth_open_min,
        Action::MoveCloser => (now.size - 1.0) / (terms.closer_ratio_min - 1.0),
    }
}

/// True if the face is near its neutral state in all that can be asked for but blinking and coming closer: whoever has come closer may stay there.
pub fn is_at_rest(now: &Relative, terms: &Terms) -> bool {
    [Action::TurnLeft, Action::LookUp, Action::LookDown, Action::Smile, Action::OpenMouth]
        .into_iter()
        .all(|action| level(action, now, Mirroring::Unknown, terms) < AT_REST)
}

/// Finds blinks in the openness of the eyes.
#[derive(Debug, Default)]
struct Blinks {
    open: VecDeque<f64>,
    closed_since_ms: Option<f64>,
}

impl Blinks {
    /// How far a blink is: 0 open, 0.5 closed, 1 on the frame on which it ends.
    fn level(&mut self, at_ms: f64, eyes: f64, terms: &Terms) -> f64 {
        let usual = median(&mut self.open.iter().copied().collect::<Vec<_>>());
        if self.open.is_empty() || eyes >= usual * terms.eyes_closed_max {
            self.open.push_back(eyes);
            if self.open.len() > EYES_FRAMES {
                self.open.pop_front();
            }
        }
        match self.closed_since_ms {
            None if self.open.len() > 3 && eyes < usual * terms.eyes_closed_max => {
                self.closed_since_ms = Some(at_ms);
                0.5
            }
            None => 0.0,
            Some(since_ms) if at_ms - since_ms > BLINK_MS => {
                // Whatever this is, it is the state of the eyes now.
                (self.closed_since_ms, self.open) = (None, VecDeque::from([eyes]));
                0.0
            }
            Some(_) if eyes >= usual * REOPENED => {
                self.closed_since_ms = None;
                1.0
            }
            Some(_) => 0.5,
        }
    }
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Nothing to be said; the level, 0..1.
    Going(f64),
    Done {
        /// When the action had begun.
        begun_ms: f64,
    },
    /// It began before a person could have reacted.
    TooEarly,
    Wrong(Action),
}

/// Watches for one action.
#[derive(Debug)]
pub struct Watch {
    action: Action,
    prompted_ms: f64,
    reaction_ms: f64,
    begun_ms: Option<f64>,
    done_frames: u32,
    wrong_frames: u32,
    /// The eyes have been open since the prompt.
    eyes_open: bool,
}

impl Watch {
    /// Asked for at `prompted_ms`; begun sooner than `reaction_ms` later it is too early.
    pub fn new(action: Action, prompted_ms: f64, reaction_ms: f64) -> Self {
        Self { action, prompted_ms, reaction_ms, begun_ms: None, done_frames: 0, wrong_frames: 0, eyes_open: false }
    }

    pub fn action(&self) -> Action {
        self.action
    }

    pub fn prompted_ms(&self) -> f64 {
        self.prompted_ms
    }

    /// Judges a frame. `blink` is the level of [`Eyes`]; `confirmed` says whether a head and no plane has moved.
    pub fn see(
        &mut self,
        at_ms: f64,
        now: &Relative,
        blink: f64,
        mirroring: Mirroring,
        confirmed: bool,
        terms: &Terms,
    ) -> Progress {
        self.eyes_open |= blink == 0.0;
        // A blink that was going on at the prompt is none that was asked for.
        let blink = if self.eyes_open { blink } else { 0.0 };
        let of = |action| if action == Action::Blink { blink } else { level(action, now, mirroring, terms) };
        let own = of(self.action);
        if own >= BEGUN {
            if self.begun_ms.is_none() {
                self.begun_ms = Some(at_ms);
                // A blink comes by itself at any time.
                if at_ms - self.prompted_ms < self.reaction_ms && self.action != Action::Blink {
                    return Progress::TooEarly;
                }
            }
        } else if self.action != Action::Blink || blink == 0.0 {
            self.begun_ms = None;
        }
        // A diagonal turn is none of both.
        let is_plain = !self.action.turns_head()
            || HEAD.into_iter().all(|other| {
                other == self.action || (other.is_turn() && self.action.is_turn()) || of(other) < own.max(1.0) * PLAIN
            });
        self.done_frames = if own >= 1.0 && confirmed && is_plain { self.done_frames + 1 } else { 0 };
        let needed = if self.action == Action::Blink { 1 } else { FRAMES };
        if self.done_frames >= needed {
            return Progress::Done { begun_ms: self.begun_ms.unwrap_or(at_ms) };
        }
        match wrong(self.action, own, of) {
            Some(other) => {
                self.wrong_frames += 1;
                if self.wrong_frames >= FRAMES {
                    return Progress::Wrong(other);
                }
            }
            None => self.wrong_frames = 0,
        }
        Progress::Going(own.clamp(0.0, 1.0))
    }
}

/// Another motion than the asked one that is plain enough to be meant. Smiles and blinks go along with anything and never are.
fn wrong(asked: Action, own: f64, level: impl Fn(Action) -> f64) -> Option<Action> {
    let others = [Action::TurnLeft, Action::TurnRight, Action::LookUp, Action::LookDown, Action::OpenMouth];
    others.into_iter().filter(|other| *other != asked).find(|other| {
        let goes_along = match *other {
            // A grin opens the mouth, and a mouth falls open when the head goes up.
            Action::OpenMouth => matches!(asked, Action::Smile | Action::LookUp),
            // Who comes nearer bends a little.
            Action::LookUp | Action::LookDown => asked == Action::MoveCloser,
            _ => false,
        };
        !goes_along && own < BEGUN.max(level(*other) / 3.0) && level(*other) >= WRONG
    })
}

/// Follows the eyes through the whole session, whatever is asked.
#[derive(Debug, Default)]
pub struct Eyes(Blinks);

impl Eyes {
    /// The blink's level on this frame, see [`Watch::see`].
    pub fn see(&mut self, at_ms: f64, eyes: f64, terms: &Terms) -> f64 {
        self.0.level(at_ms, eyes, terms)
    }
}

/// The side that a turn led to.
pub fn side_of_turn(now: &Relative) -> Side {
    if now.yaw_deg < 0.0 { Side::Left } else { Side::Right }
}

#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::live::signals::Signals;

    /// A face that looks straight into a camera of 640 × 480.
    pub fn neutral() -> Signals {
        Signals {
            yaw_deg: 0.0,
            pitch_deg: 0.0,
            roll_deg: 0.0,
            eyes: 0.3,
            mouth: 0.02,
            mouth_width: 0.55,
            mouth_lift: 0.0,
            span_px: 80.0,
            centre: [320.0, 240.0],
            presence: 1.0,
        }
    }

    pub fn terms() -> Terms {
        let calibration = crate::checks::testing::shipped(super::super::CHECK).calibration;
        Terms::from_point(calibration.operating_point("").unwrap()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::terms;
    use super::*;

    #[test]
    fn a_blink_that_was_going_on_at_the_prompt_does_not_count_and_the_next_one_does() {
        let (terms, now) = (terms(), Relative { eyes: 1.0, size: 1.0, ..Relative::default() });
        let mut watch = Watch::new(Action::Blink, 0.0, 150.0);
        let mut see = |at_ms: f64, blink: f64| watch.see(at_ms, &now, blink, Mirroring::NotMirrored, true, &terms);
        for (at_ms, blink) in [(0.0, 0.5), (33.0, 0.5), (66.0, 1.0), (100.0, 0.0), (600.0, 0.5)] {
            assert!(matches!(see(at_ms, blink), Progress::Going(_)), "{at_ms}");
        }
        assert_eq!(see(700.0, 1.0), Progress::Done { begun_ms: 600.0 });
    }
}
