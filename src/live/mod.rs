//! Active liveness: from what each frame of a camera shows to prompts, feedback and a decision.
//!
//! A person is asked, one at a time, for actions that nobody could know before; an attacker must produce the right motion, in the right order, at the right
//! time, on the right face, and on a head and not on paper. Everything here is pure: time is the capture time of frames, chance is a parameter, and models have
//! been run by `pipeline::live`, which calls [`session::Session`] with each frame.
//!
//! Reading order: this file (words), [`terms`] (limits, from `calibration/active_liveness.toml`), [`challenge`] (what is asked), [`signals`] (what a mesh shows),
//! [`neutral`] (the person's own face at rest), [`actions`] (has the asked thing been done?), [`motion`] (cuts, loops, impossible motion), [`solid`] (a head or a
//! plane?), [`intake`] (order, clock and bounds of frames, before any is decoded), [`session`] (all of it together).
//!
//! What it does not stop: a live deepfake with a good renderer does what it is asked, on a head that turns. That takes a trusted camera.

pub mod actions;
pub mod challenge;
pub mod intake;
pub mod motion;
pub mod neutral;
pub mod session;
pub mod signals;
pub mod solid;
pub mod terms;

/// Name of the check and of its calibration file.
pub const CHECK: &str = "active_liveness";

/// What the check's score is: the lower quartile of passive liveness over the frames in which the face was at rest. A quarter of them may be worse; with the worst
/// one alone a single blurred frame of a live person would decide.
pub const SCORE_KIND: &str = "live_probability_lower_quartile";

/// What a person can be asked for. Left and right are the person's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    TurnLeft,
    TurnRight,
    LookUp,
    LookDown,
    Blink,
    Smile,
    OpenMouth,
    MoveCloser,
}

impl Action {
    pub const ALL: [Self; 8] = [
        Self::TurnLeft,
        Self::TurnRight,
        Self::LookUp,
        Self::LookDown,
        Self::Blink,
        Self::Smile,
        Self::OpenMouth,
        Self::MoveCloser,
    ];

    /// Lower-case word of the command line; in upper case it follows `NOW_` in instructions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TurnLeft => "turn_left",
            Self::TurnRight => "turn_right",
            Self::LookUp => "look_up",
            Self::LookDown => "look_down",
            Self::Blink => "blink",
            Self::Smile => "smile",
            Self::OpenMouth => "open_mouth",
            Self::MoveCloser => "move_closer",
        }
    }

    /// True for the motions of the head that show whether it is one.
    pub fn turns_head(self) -> bool {
        matches!(self, Self::TurnLeft | Self::TurnRight | Self::LookUp | Self::LookDown)
    }

    /// True for those with a side.
    pub fn is_turn(self) -> bool {
        matches!(self, Self::TurnLeft | Self::TurnRight)
    }
}

/// A side of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// −1 for the left side of a picture, 1 for the right one: the sign of a yaw towards it.
    pub fn sign(self) -> f64 {
        match self {
            Self::Left => -1.0,
            Self::Right => 1.0,
        }
    }
}

/// Whether frames show the person as in a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mirroring {
    #[default]
    NotMirrored,
    Mirrored,
    /// The first turn tells.
    Unknown,
}

impl Mirroring {
    /// The side of the frame that a turn leads to; `None` while mirroring is not known, and for what is no turn.
    pub fn side_of(self, action: Action) -> Option<Side> {
        let not_mirrored = match action {
            Action::TurnLeft => Side::Right,
            Action::TurnRight => Side::Left,
            _ => return None,
        };
        match self {
            Self::NotMirrored => Some(not_mirrored),
            Self::Mirrored => Some(not_mirrored.other()),
            Self::Unknown => None,
        }
    }

    /// What a turn that led to a side says about the frames.
    pub fn told_by(action: Action, side: Side) -> Self {
        if Self::NotMirrored.side_of(action) == Some(side) { Self::NotMirrored } else { Self::Mirrored }
    }
}

/// Whether a reason speaks of an attack or of a session that allows no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    Review,
    Inconclusive,
    Fail,
}

/// Why a session does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    WrongAction,
    ActionTooEarly,
    ActionMissing,
    MultipleFaces,
    FaceChanged,
    FaceLost,
    FaceFlat,
    NoParallax,
    FramesCut,
    FramesLooped,
    FramesRepeated,
    FramesFrozen,
    FramesOutOfOrder,
    ClockMismatch,
    MotionImpossible,
    PassiveLivenessFailed,
    PassiveLivenessUnsure,
    FaceMatchFailed,
    FaceMatchUnsure,
    FaceMatchInconclusive,
    NotCalibrated,
    NoFace,
    NoNeutralFace,
    TooFewFrontalFrames,
    FrameSizeChanged,
    FramesInterrupted,
    TooManyFrames,
    TooManyBytes,
    SessionExpired,
    CallerEnded,
}

impl Reason {
    /// Stable code, what it means, and how grave it is.
    pub fn told(self) -> (&'static str, &'static str, Gravity) {
        use Gravity::{Fail, Inconclusive, Review};
        match self {
            Self::WrongAction => ("WRONG_ACTION", "another action was shown than the one asked for", Fail),
            Self::ActionTooEarly => {
                ("ACTION_TOO_EARLY", "the action began sooner than a person can react to its prompt", Fail)
            }
            Self::ActionMissing => ("ACTION_MISSING", "the action asked for was not shown in time", Fail),
            Self::MultipleFaces => ("MULTIPLE_FACES", "a second face was seen during the challenge", Fail),
            Self::FaceChanged => ("FACE_CHANGED", "the face is not the same throughout the session", Fail),
            Self::FaceLost => ("FACE_LOST", "the face left the frame during the challenge", Fail),
            Self::FaceFlat => ("FACE_FLAT", "the face moves as a plane, not as a head", Fail),
            Self::NoParallax => ("NO_PARALLAX", "the face grew on approach without the perspective of a head", Fail),
            Self::FramesCut => ("FRAMES_CUT", "the picture jumped from one frame to the next", Fail),
            Self::FramesLooped => {
                ("FRAMES_LOOPED", "a stretch of motion came twice, the same to the last detail", Fail)
            }
            Self::FramesRepeated => ("FRAMES_REPEATED", "a frame came again that had come before others", Fail),
            Self::FramesFrozen => ("FRAMES_FROZEN", "the frames stood still as no camera's do", Fail),
            Self::FramesOutOfOrder => {
                ("FRAMES_OUT_OF_ORDER", "index or capture time of a frame did not go forward", Fail)
            }
            Self::ClockMismatch => {
                ("CAPTURE_CLOCK_MISMATCH", "capture times do not go with the time at which frames arrived", Fail)
            }
            Self::MotionImpossible => ("MOTION_IMPOSSIBLE", "the head moved faster than a head can", Fail),
            Self::PassiveLivenessFailed => {
                ("PASSIVE_LIVENESS_FAILED", "the frames look like those of a print or a screen", Fail)
            }
            Self::PassiveLivenessUnsure => {
                ("PASSIVE_LIVENESS_UNSURE", "passive liveness lies between its thresholds", Review)
            }
            Self::FaceMatchFailed => ("FACE_MATCH_FAILED", "the person is not the one of the reference", Fail),
            Self::FaceMatchUnsure => ("FACE_MATCH_UNSURE", "the match lies between its thresholds", Review),
            Self::FaceMatchInconclusive => ("FACE_MATCH_INCONCLUSIVE", "the reference allows no match", Inconclusive),
            Self::NotCalibrated => ("NOT_CALIBRATED", "the calibration was made with other models", Inconclusive),
            Self::NoFace => ("NO_FACE_DETECTED", "no face was seen for too long", Inconclusive),
            Self::NoNeutralFace => {
                ("NO_NEUTRAL_FACE", "the face was never at rest in front of the camera", Inconclusive)
            }
            Self::TooFewFrontalFrames => {
                ("TOO_FEW_FRONTAL_FRAMES", "too few frames show the face at rest to judge them", Inconclusive)
            }
            Self::FrameSizeChanged => ("FRAME_SIZE_CHANGED", "the frames changed their size", Inconclusive),
            Self::FramesInterrupted => ("FRAMES_INTERRUPTED", "the frames stopped for too long", Inconclusive),
            Self::TooManyFrames => ("TOO_MANY_FRAMES", "the session had more frames than it may have", Inconclusive),
            Self::TooManyBytes => ("TOO_MANY_BYTES", "the session had more bytes than it may have", Inconclusive),
            Self::SessionExpired => ("SESSION_EXPIRED", "the session took longer than it may take", Inconclusive),
            Self::CallerEnded => ("FRAMES_ENDED", "the frames ended before the challenge did", Inconclusive),
        }
    }

    pub fn code(self) -> &'static str {
        self.told().0
    }

    pub fn gravity(self) -> Gravity {
        self.told().2
    }
}
