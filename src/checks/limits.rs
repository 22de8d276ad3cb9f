//! Limits on measurements, from a calibration's operating point: which are broken, and in what words.
//!
//! A limit is named after its measurement with `_min` or `_max` behind it. `face_quality` judges by nothing else; the other checks use them
//! to refuse evidence on which their score means nothing.

use super::{MediaKind, Terms, Warning};

/// Limits that checks know: measurement, whether it is a minimum, warning code, message.
const KNOWN: &[(&str, bool, &str, &str)] = &[
    ("inter_eye_px", true, "FACE_TOO_SMALL", "the face has too few pixels"),
    ("crop_scale", true, "FRAME_TOO_TIGHT", "too little is seen around the face; send the whole camera frame"),
    (
        "accept_crop_scale",
        true,
        "FRAME_TOO_TIGHT",
        "too little is seen around the face to accept it; send the whole camera frame",
    ),
    ("sharpness", true, "IMAGE_BLURRED", "the face is blurred"),
    ("luma_mean", true, "TOO_DARK", "the face is too dark"),
    ("luma_mean", false, "TOO_BRIGHT", "the face is too bright"),
    ("under_exposed", false, "TOO_DARK", "too much of the face is black"),
    ("over_exposed", false, "TOO_BRIGHT", "too much of the face is white"),
    ("yaw_deg", false, "HEAD_TURNED", "the head is turned to the side"),
    ("pitch_deg", false, "HEAD_TILTED", "the head is turned up or down"),
    ("face_presence", true, "FACE_COVERED", "the face is covered or hard to see"),
    ("cut_off_px", false, "FACE_CUT_OFF", "the face reaches over the border of the picture"),
];

/// How far a measurement keeps its limit: 0.5 exactly at the limit, 1 far on the good side, 0 far on the bad side.
pub(super) struct Margin {
    pub margin: f64,
    pub code: &'static str,
    pub message: &'static str,
}

/// The margins of all limits of the operating point for which there is a measurement. Angles count without their sign.
pub(super) fn margins(terms: &Terms<'_>, measured: &[(&'static str, f64)]) -> Vec<Margin> {
    let Some(point) = terms.operating_point else { return Vec::new() };
    let mut margins = Vec::new();
    for &(measurement, is_minimum, code, message) in KNOWN {
        let suffix = if is_minimum { "min" } else { "max" };
        let limit = point.limits.get(&format!("{measurement}_{suffix}"));
        let value = measured.iter().find_map(|&(name, value)| (name == measurement).then_some(value.abs()));
        if let (Some(&limit), Some(value)) = (limit, value) {
            let share = (value / (2.0 * limit)).clamp(0.0, 1.0);
            margins.push(Margin { margin: if is_minimum { share } else { 1.0 - share }, code, message });
        }
    }
    margins
}

/// A warning for each limit that is broken.
pub(super) fn broken(terms: &Terms<'_>, measured: &[(&'static str, f64)], media: MediaKind) -> Vec<Warning> {
    margins(terms, measured)
        .into_iter()
        .filter(|margin| margin.margin < 0.5)
        .map(|margin| Warning::new(margin.code, margin.message, media))
        .collect()
}

/// Whether a check knows this limit.
pub(super) fn is_known(limit: &str) -> bool {
    KNOWN.iter().any(|&(measurement, is_minimum, ..)| {
        limit == format!("{measurement}_{}", if is_minimum { "min" } else { "max" })
    })
}
