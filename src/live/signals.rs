//! What a mesh shows: pose, eyes, mouth, size and place, as numbers that do not depend on resolution, place or lean.
//!
//! Called by `pipeline::live` for each frame. Distances are three-dimensional and in units of the distance between the outer corners of the eyes, which is nearly
//! the same however the head turns. Left out: what is normal for this person (`neutral`).

use crate::face::landmarks::Mesh;

/// Corners and lids of the eyes in MediaPipe's canonical mesh: outer and inner corner, then pairs of upper and lower lid.
const EYES: [([usize; 2], [[usize; 2]; 3]); 2] =
    [([33, 133], [[159, 145], [158, 153], [160, 144]]), ([263, 362], [[386, 374], [385, 380], [387, 373]])];

/// The middle of the upper and of the lower lip's inner edge, and the corners of the mouth.
const LIPS: [usize; 2] = [13, 14];
const MOUTH_CORNERS: [usize; 2] = [61, 291];

/// Outlines of face, eyes and lips, for drawing.
pub const OUTLINES: [usize; 100] = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157,
    158, 159, 160, 161, 246, 263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 61, 146,
    91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 78, 308, 13, 14, 168, 6, 197,
    195, 5, 4, 1, 2,
];

/// One frame's face in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signals {
    /// Degrees, positive towards the right side of the picture.
    pub yaw_deg: f64,
    /// Degrees, positive upwards.
    pub pitch_deg: f64,
    /// Degrees, positive clockwise.
    pub roll_deg: f64,
    /// Openness of the eyes: mean distance of the lids over the width of the eye, of both eyes; some 0.3 open, below 0.2 closed.
    pub eyes: f64,
    /// Distance of the lips.
    pub mouth: f64,
    /// Distance of the mouth's corners.
    pub mouth_width: f64,
    /// By how much the corners of the mouth lie above the middle of the lips.
    pub mouth_lift: f64,
    /// Distance between the outer corners of the eyes in pixels of the frame.
    pub span_px: f64,
    /// Middle of the face in pixels of the frame.
    pub centre: [f64; 2],
    /// As in [`HeadPose`](crate::face::landmarks::HeadPose).
    pub presence: f64,
}

impl Signals {
    pub fn of(mesh: &Mesh) -> Self {
        let distance = |[a, b]: [usize; 2]| {
            let (a, b) = (mesh.upright[a], mesh.upright[b]);
            ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2) + (a[2] - b[2]).powi(2)).sqrt()
        };
        let span = mesh.eye_span();
        let eye = |(corners, lids): ([usize; 2], [[usize; 2]; 3])| {
            lids.iter().map(|lids| distance(*lids)).sum::<f64>() / 3.0 / distance(corners)
        };
        let height = |pair: [usize; 2]| (mesh.upright[pair[0]][1] + mesh.upright[pair[1]][1]) / 2.0;
        let pose = mesh.pose();
        let count = mesh.upright.len() as f64;
        let [sum_x, sum_y] = mesh.upright.iter().fold([0.0; 2], |[sum_x, sum_y], &[x, y, _]| [sum_x + x, sum_y + y]);
        Self {
            yaw_deg: pose.yaw_deg,
            pitch_deg: pose.pitch_deg,
            roll_deg: pose.roll_deg,
            eyes: (eye(EYES[0]) + eye(EYES[1])) / 2.0,
            mouth: distance(LIPS) / span,
            mouth_width: distance(MOUTH_CORNERS) / span,
            mouth_lift: (height(LIPS) - height(MOUTH_CORNERS)) / span,
            span_px: span * mesh.scale(),
            centre: mesh.to_picture.apply([sum_x / count, sum_y / count]),
            presence: pose.presence,
        }
    }

    /// Each value put through `pick` over several frames.
    pub fn combined(frames: &[Self], pick: impl Fn(&mut [f64]) -> f64) -> Self {
        let each = |value: fn(&Self) -> f64| pick(&mut frames.iter().map(value).collect::<Vec<f64>>());
        Self {
            yaw_deg: each(|s| s.yaw_deg),
            pitch_deg: each(|s| s.pitch_deg),
            roll_deg: each(|s| s.roll_deg),
            eyes: each(|s| s.eyes),
            mouth: each(|s| s.mouth),
            mouth_width: each(|s| s.mouth_width),
            mouth_lift: each(|s| s.mouth_lift),
            span_px: each(|s| s.span_px),
            centre: [each(|s| s.centre[0]), each(|s| s.centre[1])],
            presence: each(|s| s.presence),
        }
    }
}

/// The middle one of the values, by size; 0 of none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// How far a face is from the person's own neutral one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Relative {
    pub yaw_deg: f64,
    pub pitch_deg: f64,
    /// Openness of the eyes as a share of the neutral one.
    pub eyes: f64,
    /// Opening of the mouth, in distances between the eyes.
    pub mouth: f64,
    /// Widening of the mouth, in the same unit.
    pub smile_width: f64,
    /// Lift of its corners, in the same unit.
    pub smile_lift: f64,
    /// Size as a share of the neutral one.
    pub size: f64,
}

impl Relative {
    pub fn to(signals: &Signals, neutral: &Signals) -> Self {
        Self {
            yaw_deg: signals.yaw_deg - neutral.yaw_deg,
            pitch_deg: signals.pitch_deg - neutral.pitch_deg,
            eyes: signals.eyes / neutral.eyes.max(f64::MIN_POSITIVE),
            mouth: signals.mouth - neutral.mouth,
            smile_width: signals.mouth_width - neutral.mouth_width,
            smile_lift: signals.mouth_lift - neutral.mouth_lift,
            size: signals.span_px / neutral.span_px.max(f64::MIN_POSITIVE),
        }
    }
}
