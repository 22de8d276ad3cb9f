//! One session: settle, prompt, watch, and the verdict.
//!
//! Called by `pipeline::live` with each frame, in the order of capture. The face settles until its neutral state is known; then an action is drawn and prompted as soon
//! as the face is at rest, watched, and the next drawn only when it is done; at last the face comes to rest once more. Any sign of an attack ends the session at once:
//! it is held once. Bounded: one mesh, one embedding, some hundred numbers for each remembered frame, and the best frame, which the caller keeps.
//!
//! Left out: passive liveness and match against their calibrations, which the pipeline adds to the verdict.

use std::collections::VecDeque;

use super::actions::{self, AT_REST, Eyes, Progress, Watch};
use super::challenge::{Challenge, Chance};
use super::motion::{CUT_SHARE, Motion, Thumb};
use super::neutral::Neutral;
use super::signals::{Relative, Signals, median};
use super::solid::{Change, MIN_EXPECTED_PARALLAX, Relief, Solidity, parallax_share};
use super::terms::Terms;
use super::{Action, Mirroring, Reason, Side};
use crate::face::embed::Embedding;
use crate::face::landmarks::Mesh;

/// Without a face for so long the session ends.
const NO_FACE_MS: f64 = 10_000.0;

/// During the challenge the face may be lost for so long: hands pass, and a head bent far back is hard to find.
const FACE_LOST_MS: f64 = 1000.0;

/// How long the face may take to settle, and to come to rest between actions.
const SETTLE_MS: f64 = 20_000.0;

/// How long the face must have been at rest before a prompt.
const REST_MS: f64 = 120.0;

/// Up to so much longer, by chance, so that a recording cannot know when the prompt comes.
const MAX_DELAY_MS: usize = 600;

/// Frames of the face at rest are taken for passive liveness, and for the best frame, no more often than this.
const SAMPLE_MS: f64 = 180.0;

/// Frames at rest that passive liveness is decided by at least. After the last action more are waited for, up to [`CLOSING_MS`].
const MIN_SAMPLES: usize = 6;
const CLOSING_MS: f64 = 4000.0;

/// Pose that the neutral face may have: a person may look at a screen beside the camera, and cameras stand low.
const STRAIGHT_YAW_DEG: f64 = 20.0;
const STRAIGHT_PITCH_DEG: f64 = 25.0;

/// How far from the middle of the frame the face may settle, as a share of the side.
const OFF_CENTRE: f64 = 0.25;

/// Detections in a row with a second face that count: one alone may be a slip of the detector.
const SECOND_FACES: u32 = 2;

/// Level of an action from which on the face is compared halfway.
const HALFWAY: f64 = 0.7;

/// Frames that are put together by their median before actions are judged.
const SMOOTHED: usize = 3;

/// Share of an approach above which the frame has no room for one.
const APPROACH_ROOM: f64 = 1.3;

/// On which terms a session is held.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Not empty.
    pub actions: Vec<Action>,
    pub steps: usize,
    pub step_ms: f64,
    pub session_ms: f64,
    pub mirroring: Mirroring,
    pub rehearsal: Option<Rehearsal>,
}

/// For recorded clips.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal {
    /// Empty: drawn.
    pub steps: Vec<Action>,
    pub any_reaction_time: bool,
}

/// A frame.
pub struct Seen {
    pub index: u32,
    /// Capture time in milliseconds since the first frame.
    pub at_ms: f64,
    pub frame_size: [u32; 2],
    pub face: Option<FaceSeen>,
    /// Where the detector has run on this frame: whether it saw a second face that is not far behind.
    pub second_face: Option<bool>,
}

/// The face in a frame.
pub struct FaceSeen {
    pub mesh: Mesh,
    pub signals: Signals,
    pub thumb: Thumb,
    /// Mean luma of the face, 0..255.
    pub luma: f64,
    /// Side of the square that the frame has room for around the face, in heights of the face.
    pub crop_scale: f64,
    /// What was wanted, see [`Session::wants`].
    pub sample: Option<Sample>,
    pub embedding: Option<Embedding>,
    pub relief: Option<Relief>,
}

/// A closer look at a face at rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Passive liveness, 0..1.
    pub live: f64,
    /// Variance of the Laplacian of the aligned face.
    pub sharpness: f64,
}

/// What a frame should be looked at for beyond its mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    pub sample: bool,
    pub embedding: bool,
    pub relief: bool,
}

/// What to tell the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    NoFace,
    MultipleFaces,
    MoveCloser,
    MoveBack,
    CenterFace,
    TooDark,
    TooBright,
    LookStraight,
    HoldStill,
    Now(Action),
    Done,
}

impl Instruction {
    /// The upper-case word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoFace => "NO_FACE",
            Self::MultipleFaces => "MULTIPLE_FACES",
            Self::MoveCloser => "MOVE_CLOSER",
            Self::MoveBack => "MOVE_BACK",
            Self::CenterFace => "CENTER_FACE",
            Self::TooDark => "TOO_DARK",
            Self::TooBright => "TOO_BRIGHT",
            Self::LookStraight => "LOOK_STRAIGHT",
            Self::HoldStill => "HOLD_STILL",
            Self::Now(Action::TurnLeft) => "NOW_TURN_LEFT",
            Self::Now(Action::TurnRight) => "NOW_TURN_RIGHT",
            Self::Now(Action::LookUp) => "NOW_LOOK_UP",
            Self::Now(Action::LookDown) => "NOW_LOOK_DOWN",
            Self::Now(Action::Blink) => "NOW_BLINK",
            Self::Now(Action::Smile) => "NOW_SMILE",
            Self::Now(Action::OpenMouth) => "NOW_OPEN_MOUTH",
            Self::Now(Action::MoveCloser) => "NOW_MOVE_CLOSER",
            Self::Done => "DONE",
        }
    }
}

/// An action now asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prompt {
    pub step: usize,
    pub action: Action,
    /// The side of the frame that a turn leads to, if it has one and mirroring is known.
    pub frame_side: Option<Side>,
}

/// An action that has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepEnd {
    pub step: usize,
    pub action: Action,
    pub passed: bool,
    /// From the prompt to the first sign of the action; `None` if there was none.
    pub reaction_ms: Option<f64>,
    pub duration_ms: f64,
    /// The frame that ended it.
    pub frame: u32,
}

/// What a frame led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub instruction: Instruction,
    /// Of the session, 0..1; never falls.
    pub progress: f64,
    /// Of the present action, 0..1.
    pub step_progress: f64,
    /// `None` until the neutral face is known.
    pub relative: Option<Relative>,
    pub prompt: Option<Prompt>,
    pub step: Option<StepEnd>,
    /// This frame is the best so far for a match.
    pub is_best: bool,
    pub verdict: Option<Verdict>,
}

/// How the session ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Empty if every action was shown and nothing speaks against a person.
    pub reasons: Vec<Reason>,
    pub steps: Vec<StepEnd>,
    /// The lower quartile of passive liveness over the frames at rest, and their number; `None` if there were too few.
    pub live: Option<f64>,
    pub samples: usize,
    /// Frames of before the challenge had to be taken: they may speak against the person and not for them.
    pub is_unsettled: bool,
}

enum Stage {
    Settling {
        since_ms: f64,
    },
    /// For the face to be at rest.
    Waiting {
        since_ms: f64,
        rest_since_ms: Option<f64>,
        delay_ms: f64,
    },
    Watching(Watch),
    Closing {
        since_ms: f64,
    },
    Ended,
}

/// See the module.
pub struct Session {
    policy: Policy,
    terms: Terms,
    challenge: Challenge,
    mirroring: Mirroring,
    stage: Stage,
    neutral: Neutral,
    /// The neutral face with its mesh.
    known: Option<(Signals, Mesh)>,
    /// The face at rest, for the perspective of an approach.
    relief: Option<Relief>,
    recent: VecDeque<Signals>,
    eyes: Eyes,
    motion: Motion,
    solidity: Solidity,
    identity: Option<Embedding>,
    /// The face at rest is to be compared with the first one, and the face halfway through the present action.
    owes_rest: bool,
    owes_halfway: bool,
    samples: Vec<f64>,
    /// Those of before the challenge. They speak against nobody who comes later, and for nobody: who was there then may have gone.
    early: Vec<f64>,
    sampled_ms: Option<f64>,
    best: f64,
    steps: Vec<StepEnd>,
    second_faces: u32,
    last_ms: Option<f64>,
    last_index: u32,
    last_face_ms: f64,
    progress: f64,
}

impl Session {
    pub fn new(policy: Policy, terms: Terms, chance: Chance) -> Self {
        let fixed = policy.rehearsal.as_ref().map(|rehearsal| rehearsal.steps.clone()).unwrap_or_default();
        Self {
            challenge: Challenge::new(policy.steps, policy.actions.clone(), fixed, chance),
            mirroring: policy.mirroring,
            policy,
            terms,
            stage: Stage::Settling { since_ms: 0.0 },
            neutral: Neutral::default(),
            known: None,
            relief: None,
            recent: VecDeque::new(),
            eyes: Eyes::default(),
            motion: Motion::default(),
            solidity: Solidity::default(),
            identity: None,
            owes_rest: true,
            owes_halfway: false,
            samples: Vec::new(),
            early: Vec::new(),
            sampled_ms: None,
            best: 0.0,
            steps: Vec::new(),
            second_faces: 0,
            last_ms: None,
            last_index: 0,
            last_face_ms: 0.0,
            progress: 0.0,
        }
    }

    /// How many actions will be asked for.
    pub fn steps(&self) -> usize {
        self.challenge.steps()
    }

    /// What a frame with this face should be looked at for, so that models run only where their answer is used.
    pub fn wants(&self, at_ms: f64, signals: &Signals, crop_scale: f64) -> Wants {
        let is_due = self.sampled_ms.is_none_or(|last| at_ms - last >= SAMPLE_MS);
        let (mut is_halfway, mut is_near) = (false, false);
        let is_resting = match &self.known {
            None => self.is_straight(signals),
            Some((neutral, _)) => {
                let now = Relative::to(signals, neutral);
                if let Stage::Watching(watch) = &self.stage {
                    let level = actions::level(watch.action(), &now, self.mirroring, &self.terms);
                    // Still near enough to the front to be compared, and well on the way.
                    is_halfway = level >= HALFWAY;
                    is_near = level >= 0.9 && watch.action() == Action::MoveCloser;
                }
                actions::is_at_rest(&now, &self.terms)
            }
        };
        Wants {
            sample: is_due && is_resting && crop_scale >= self.terms.crop_scale_min,
            embedding: (self.owes_rest && self.known.is_some() && is_resting) || (self.owes_halfway && is_halfway),
            relief: is_near || (self.known.is_some() && self.relief.is_none() && is_resting),
        }
    }

    /// Judges a frame.
    pub fn see(&mut self, seen: Seen) -> Told {
        let mut told = Told {
            instruction: Instruction::HoldStill,
            progress: self.progress,
            step_progress: 0.0,
            relative: None,
            prompt: None,
            step: None,
            is_best: false,
            verdict: None,
        };
        if let Err(reason) = self.judge(seen, &mut told) {
            self.fail(reason, &mut told);
        }
        self.progress = self.progress.max(told.progress);
        told.progress = self.progress;
        told
    }

    /// Of the session so far, 0..1.
    pub fn progress(&self) -> f64 {
        self.progress
    }

    /// Ends the session from outside: no frames any more, bounds, time.
    pub fn end(&mut self, reason: Reason) -> Verdict {
        if let Stage::Watching(watch) = &self.stage {
            self.steps.push(StepEnd {
                step: self.steps.len(),
                action: watch.action(),
                passed: false,
                reaction_ms: None,
                duration_ms: self.last_ms.unwrap_or_default() - watch.prompted_ms(),
                frame: self.last_index,
            });
        }
        self.stage = Stage::Ended;
        self.verdict(vec![reason])
    }

    fn judge(&mut self, seen: Seen, told: &mut Told) -> Result<(), Reason> {
        let at_ms = seen.at_ms;
        let gap_ms = self.last_ms.map_or(0.0, |last| at_ms - last);
        (self.last_ms, self.last_index) = (Some(at_ms), seen.index);
        if at_ms > self.policy.session_ms {
            return Err(Reason::SessionExpired);
        }
        if self.is_in_challenge() && gap_ms > self.terms.frame_gap_ms_max {
            return Err(Reason::FramesInterrupted);
        }
        if gap_ms > self.terms.frame_gap_ms_max * CUT_SHARE {
            // Whoever is there now is to be compared: a cut is not seen over such a gap.
            self.owe();
        }
        if let Some(second) = seen.second_face {
            self.second_faces = if second { self.second_faces + 1 } else { 0 };
        }
        if self.second_faces >= SECOND_FACES && self.is_in_challenge() {
            return Err(Reason::MultipleFaces);
        }
        let Some(face) = seen.face else { return self.without_face(at_ms, told) };
        self.last_face_ms = at_ms;
        let blink = self.eyes.see(at_ms, face.signals.eyes, &self.terms);
        self.follow(at_ms, &face)?;
        self.compare(&face)?;
        if let Some(sample) = face.sample {
            told.is_best = self.sample(at_ms, &sample, &face);
        }
        if self.relief.is_none() && self.known.is_some() {
            self.relief = face.relief.clone();
        }
        self.recent.push_back(face.signals);
        if self.recent.len() > SMOOTHED {
            self.recent.pop_front();
        }
        // Eyes as they are: a blink may be on one frame only.
        let eyes = face.signals.eyes;
        let smooth = Signals { eyes, ..Signals::combined(self.recent.make_contiguous(), median) };
        let Some((neutral, mesh)) = &self.known else {
            return self.settle(at_ms, &face, seen.frame_size, told);
        };
        let now = Relative::to(&smooth, neutral);
        told.relative = Some(now);
        let change = Change::between(mesh, &face.mesh);
        let expression = [Action::Smile, Action::OpenMouth]
            .into_iter()
            .any(|action| actions::level(action, &now, self.mirroring, &self.terms) >= 0.5);
        if !expression && self.solidity.is_flat(&change, &self.terms) {
            return Err(Reason::FaceFlat);
        }
        self.step(seen.index, at_ms, &now, blink, &change, expression, &face, seen.frame_size, told)
    }

    fn is_in_challenge(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. } | Stage::Watching(_) | Stage::Closing { .. })
    }

    fn without_face(&mut self, at_ms: f64, told: &mut Told) -> Result<(), Reason> {
        self.recent.clear();
        self.motion.interrupt();
        self.neutral.reset();
        self.owe();
        told.instruction = Instruction::NoFace;
        let missing_ms = at_ms - self.last_face_ms;
        if self.is_in_challenge() && missing_ms > FACE_LOST_MS {
            Err(Reason::FaceLost)
        } else if missing_ms > NO_FACE_MS {
            Err(Reason::NoFace)
        } else {
            Ok(())
        }
    }

    /// Motion from frame to frame. Before the challenge a jump only means that the face has not settled.
    fn follow(&mut self, at_ms: f64, face: &FaceSeen) -> Result<(), Reason> {
        match self.motion.see(at_ms, &face.signals, &face.thumb, &self.terms) {
            Err(reason) if self.is_in_challenge() => Err(reason),
            Err(_) => {
                self.neutral.reset();
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Keeps what a closer look said; true if the frame is the best so far, and is of the session's own face.
    fn sample(&mut self, at_ms: f64, sample: &Sample, face: &FaceSeen) -> bool {
        self.sampled_ms = Some(at_ms);
        if self.known.is_none() {
            self.early.push(sample.live);
            return false;
        }
        self.samples.push(sample.live);
        let is_best = self.would_be_best(sample, &face.signals) && face.embedding.is_some();
        if is_best {
            self.best = self.worth(sample, &face.signals);
        }
        is_best
    }

    /// The same face as at the beginning? It is asked for at rest, and halfway through each action: until then the action is not done.
    fn compare(&mut self, face: &FaceSeen) -> Result<(), Reason> {
        let Some(embedding) = &face.embedding else { return Ok(()) };
        match &self.identity {
            None => self.identity = Some(embedding.clone()),
            Some(identity) if identity.cosine(embedding) < self.terms.continuity_cosine_min => {
                return Err(Reason::FaceChanged);
            }
            Some(_) => {}
        }
        let Some((neutral, _)) = &self.known else { return Ok(()) };
        let now = Relative::to(&face.signals, neutral);
        if actions::is_at_rest(&now, &self.terms) {
            self.owes_rest = false;
        }
        if let Stage::Watching(watch) = &self.stage
            && actions::level(watch.action(), &now, self.mirroring, &self.terms) >= HALFWAY
        {
            self.owes_halfway = false;
        }
        Ok(())
    }

    /// The face is to be compared anew.
    fn owe(&mut self) {
        self.owes_rest = true;
        self.owes_halfway = matches!(self.stage, Stage::Watching(_));
    }

    /// Whether a frame would be the best for a match: it is then to be compared with the face of the session too.
    pub fn would_be_best(&self, sample: &Sample, signals: &Signals) -> bool {
        self.worth(sample, signals) > self.best
    }

    fn worth(&self, sample: &Sample, signals: &Signals) -> f64 {
        let Some((neutral, _)) = &self.known else { return 0.0 };
        let now = Relative::to(signals, neutral);
        let straight = (1.0 - now.yaw_deg.hypot(now.pitch_deg) / 30.0).max(0.0);
        sample.sharpness * straight * now.eyes.clamp(0.0, 1.0).powi(2)
    }

    fn is_straight(&self, signals: &Signals) -> bool {
        signals.yaw_deg.abs() <= STRAIGHT_YAW_DEG && signals.pitch_deg.abs() <= STRAIGHT_PITCH_DEG
    }

    /// Before the neutral face is known: what keeps the person from being asked?
    fn settle(&mut self, at_ms: f64, face: &FaceSeen, size: [u32; 2], told: &mut Told) -> Result<(), Reason> {
        let Stage::Settling { since_ms } = self.stage else { return Ok(()) };
        if at_ms - since_ms > SETTLE_MS {
            return Err(Reason::NoNeutralFace);
        }
        let [width, height] = size.map(f64::from);
        let face_height = width.min(height) / face.crop_scale;
        let [x, y] = face.signals.centre;
        let off_centre = ((x / width - 0.5).abs() > OFF_CENTRE) || ((y / height - 0.5).abs() > OFF_CENTRE);
        let hindrances = [
            (self.second_faces > 0, Instruction::MultipleFaces),
            (face_height < self.terms.face_share_min * width.min(height), Instruction::MoveCloser),
            (face.crop_scale < self.terms.crop_scale_min, Instruction::MoveBack),
            (off_centre, Instruction::CenterFace),
            (face.luma < self.terms.luma_mean_min, Instruction::TooDark),
            (face.luma > self.terms.luma_mean_max, Instruction::TooBright),
            (!self.is_straight(&face.signals), Instruction::LookStraight),
        ];
        if let Some((_, instruction)) = hindrances.into_iter().find(|(holds, _)| *holds) {
            self.neutral.reset();
            told.instruction = instruction;
            return Ok(());
        }
        if let Some(neutral) = self.neutral.add(at_ms, face.signals) {
            self.known = Some((neutral, face.mesh.clone()));
            self.wait(at_ms);
        }
        told.instruction = Instruction::HoldStill;
        told.progress = SETTLED_SHARE * self.neutral.progress();
        Ok(())
    }

    /// Until the face is at rest.
    fn wait(&mut self, at_ms: f64) {
        let delay = if self.policy.rehearsal.is_some() { 0 } else { self.challenge.below(MAX_DELAY_MS) };
        self.stage = Stage::Waiting { since_ms: at_ms, rest_since_ms: None, delay_ms: delay as f64 };
        self.owes_rest = true;
    }

    #[expect(clippy::too_many_arguments, reason = "one frame, taken apart")]
    fn step(
        &mut self,
        index: u32,
        at_ms: f64,
        now: &Relative,
        blink: f64,
        change: &Change,
        expression: bool,
        face: &FaceSeen,
        size: [u32; 2],
        told: &mut Told,
    ) -> Result<(), Reason> {
        let at_rest = actions::is_at_rest(now, &self.terms);
        // A clip does not wait: in it one action may follow the other with a single frame at rest between them.
        let rest_ms = if self.takes_any_reaction_time() { 0.0 } else { REST_MS };
        told.progress = self.share(0.0);
        match &mut self.stage {
            Stage::Settling { .. } | Stage::Ended => {}
            Stage::Waiting { since_ms, rest_since_ms, delay_ms } => {
                if !at_rest {
                    *rest_since_ms = None;
                    told.instruction = Instruction::LookStraight;
                    return if at_ms - *since_ms > SETTLE_MS { Err(Reason::NoNeutralFace) } else { Ok(()) };
                }
                let resting_since = *rest_since_ms.get_or_insert(at_ms);
                if at_ms - resting_since >= rest_ms + *delay_ms && !self.owes_rest {
                    self.prompt(at_ms, now, face, size, told);
                }
            }
            Stage::Watching(watch) => {
                let action = watch.action();
                told.instruction = Instruction::Now(action);
                let reached = actions::level(action, now, self.mirroring, &self.terms) >= 1.0;
                let of_head = self.solidity.confirms(change, &self.terms);
                let confirmed = match action {
                    // With an expression the way of a turn is not judged, only the turn.
                    _ if action.turns_head() && expression => change.is_of_head(&self.terms),
                    _ if action.turns_head() => {
                        if reached && self.solidity.is_unconfirmed(of_head) {
                            return Err(Reason::FaceFlat);
                        }
                        of_head
                    }
                    Action::MoveCloser if reached => match approach(self.relief.as_ref(), face, size) {
                        Some(share) => {
                            let of_head = share >= self.terms.parallax_share_min;
                            if self.solidity.is_unconfirmed(of_head) {
                                return Err(Reason::NoParallax);
                            }
                            of_head
                        }
                        None => false,
                    },
                    _ => true,
                };
                let confirmed = confirmed && !self.owes_halfway;
                let prompted_ms = watch.prompted_ms();
                if at_ms - prompted_ms > self.policy.step_ms {
                    return Err(Reason::ActionMissing);
                }
                match watch.see(at_ms, now, blink, self.mirroring, confirmed, &self.terms) {
                    Progress::Going(level) => {
                        told.step_progress = level;
                        told.progress = self.share(level);
                    }
                    Progress::TooEarly => return Err(Reason::ActionTooEarly),
                    // A plane that is tilted shows something like a look down.
                    Progress::Wrong(other) if other.turns_head() && !expression && !of_head => {
                        return Err(Reason::FaceFlat);
                    }
                    Progress::Wrong(_) => return Err(Reason::WrongAction),
                    Progress::Done { begun_ms } => {
                        if action.is_turn() && self.mirroring == Mirroring::Unknown {
                            self.mirroring = Mirroring::told_by(action, actions::side_of_turn(now));
                        }
                        let end = StepEnd {
                            step: self.steps.len(),
                            action,
                            passed: true,
                            reaction_ms: Some(begun_ms - prompted_ms),
                            duration_ms: at_ms - prompted_ms,
                            frame: index,
                        };
                        self.steps.push(end);
                        (told.step, told.step_progress) = (Some(end), 1.0);
                        told.progress = self.share(0.0);
                        if self.steps.len() == self.challenge.steps() {
                            self.stage = Stage::Closing { since_ms: at_ms };
                            self.owes_rest = true;
                        } else {
                            self.wait(at_ms);
                        }
                    }
                }
            }
            Stage::Closing { since_ms } => {
                told.instruction = if at_rest { Instruction::HoldStill } else { Instruction::LookStraight };
                let is_enough = at_rest && !self.owes_rest && self.samples.len() >= MIN_SAMPLES;
                if is_enough || at_ms - *since_ms > CLOSING_MS {
                    let mut reasons = Vec::new();
                    if self.owes_rest {
                        // The face did not come back to be compared.
                        reasons.push(Reason::NoNeutralFace);
                    }
                    (told.progress, told.instruction) = (1.0, Instruction::Done);
                    self.stage = Stage::Ended;
                    told.verdict = Some(self.verdict(reasons));
                }
            }
        }
        Ok(())
    }

    fn takes_any_reaction_time(&self) -> bool {
        self.policy.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.any_reaction_time)
    }

    /// Draws the next action and asks for it.
    fn prompt(&mut self, at_ms: f64, now: &Relative, face: &FaceSeen, size: [u32; 2], told: &mut Told) {
        // A face that fills the frame cannot come nearer, one that has come nearer already has begun, and a small one shows no perspective.
        let grown_px = face.signals.span_px * (self.terms.closer_ratio_min - 1.0);
        let has_room = face.crop_scale / APPROACH_ROOM >= self.terms.crop_scale_min
            && actions::level(Action::MoveCloser, now, self.mirroring, &self.terms) < AT_REST
            && grown_px >= MIN_EXPECTED_PARALLAX * f64::from(size[0].max(size[1]));
        let Some(action) = self.challenge.draw(|action| action != Action::MoveCloser || has_room) else { return };
        let reaction_ms = if self.takes_any_reaction_time() { 0.0 } else { self.terms.reaction_ms_min };
        self.stage = Stage::Watching(Watch::new(action, at_ms, reaction_ms));
        self.solidity.begin_step();
        self.owes_halfway = true;
        told.instruction = Instruction::Now(action);
        told.prompt = Some(Prompt { step: self.steps.len(), action, frame_side: self.mirroring.side_of(action) });
    }

    /// Share of the session that is done, with so much of the present action.
    fn share(&self, level: f64) -> f64 {
        let steps = self.challenge.steps() as f64;
        SETTLED_SHARE + (CLOSED_SHARE - SETTLED_SHARE) * ((self.steps.len() as f64 + level.min(0.95)) / steps).min(1.0)
    }

    fn fail(&mut self, reason: Reason, told: &mut Told) {
        let ended = self.steps.len();
        told.verdict = Some(self.end(reason));
        told.step = self.steps.get(ended).copied();
        told.instruction = Instruction::Done;
    }

    fn verdict(&self, reasons: Vec<Reason>) -> Verdict {
        let mut live = self.samples.clone();
        let is_unsettled = live.len() < MIN_SAMPLES;
        if is_unsettled {
            live.extend(&self.early);
        }
        live.sort_by(f64::total_cmp);
        let is_enough = live.len() >= MIN_SAMPLES;
        Verdict {
            reasons,
            steps: self.steps.clone(),
            // Of six values the second, of nine the third.
            live: is_enough.then(|| live[(live.len() - 1) / 4]),
            samples: live.len(),
            is_unsettled,
        }
    }
}

/// The share of a head's perspective in an approach; `None` while it cannot be told.
fn approach(far: Option<&Relief>, face: &FaceSeen, size: [u32; 2]) -> Option<f64> {
    parallax_share(far?, face.relief.as_ref()?, f64::from(size[0].max(size[1])))
}

/// Share of the session's progress that is reached when the face has settled, and when the last action is done.
const SETTLED_SHARE: f64 = 0.15;
const CLOSED_SHARE: f64 = 0.95;

/// The level at rest is compared with that at which an action begins.
const _: () = assert!(AT_REST < actions::BEGUN);

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
