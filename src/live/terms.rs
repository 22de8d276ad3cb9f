//! The limits of active liveness, out of the operating point of `calibration/active_liveness.toml`.
//!
//! Called when a session begins. Each limit on what is measured is a key of the file; a file that lacks one is refused when the daemon
//! starts ([`Terms::from_point`]). How each was found stands in the file and in `docs/accuracy.md`. Left out: how many frames a thing must be seen on, for how long, and the noise of
//! landmarks, which belong to the way of measuring and stand where it is done.

use crate::calibration::OperatingPoint;

macro_rules! terms {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Limits; degrees, milliseconds, and ratios without a unit.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct Terms {
            $($(#[$doc])* pub $name: f64,)*
        }

        impl Terms {
            /// # Errors
            /// The limits that the point lacks or that are not known.
            pub fn from_point(point: &OperatingPoint) -> Result<Self, Vec<String>> {
                let known = [$(stringify!($name)),*];
                let missing = known.iter().filter(|name| !point.limits.contains_key(**name)).map(|name| format!("{name} is missing"));
                let unknown = point.limits.keys().filter(|name| !known.contains(&name.as_str())).map(|name| format!("{name} is not known"));
                let wrong: Vec<String> = missing.chain(unknown).collect();
                if !wrong.is_empty() {
                    return Err(wrong);
                }
                Ok(Self { $($name: point.limits[stringify!($name)],)* })
            }
        }
    };
}

terms! {
    /// Yaw from neutral that is a turn.
    turn_deg_min,
    /// Pitch from neutral that is a look up or down.
    look_deg_min,
    /// Share of their openness at which eyes are closed.
    eyes_closed_max,
    /// Widening of the mouth, as a share of the distance between the eyes' outer corners, that is a smile...
    smile_width_min,
    /// ...together with this lift of its corners.
    smile_lift_min,
    /// Opening of the mouth beyond neutral, in the same unit.
    mouth_open_min,
    /// Growth of the face that is an approach.
    closer_ratio_min,
    /// A person reacts to a prompt no sooner.
    reaction_ms_min,
    /// Frames of a challenge may be apart by no more.
    frame_gap_ms_max,
    /// A head turns no faster, in degrees a second.
    head_speed_max,
    /// A face's centre moves no faster, in distances between the eyes' outer corners a second.
    shift_speed_max,
    /// From here on, a plane's change of shape is told from a head's.
    shape_change_min,
    /// Residual of a plane over that of a head; a face for which it stays below is flat.
    flat_ratio_max,
    /// The same where a turn is accepted: it must be above.
    solid_ratio_min,
    /// Residual of a head where a turn is accepted.
    solid_residual_max,
    /// Share of the perspective of a head that an approach must have.
    parallax_share_min,
    /// Mean squared distance, in units of the landmarks' noise, below which two stretches of motion are one.
    loop_distance_max,
    /// Cosine between two faces of one session.
    continuity_cosine_min,
    /// Correlation of the face's picture from one frame to the next.
    cut_correlation_min,
    /// Height of the whole square seen around the face, in heights of the face.
    crop_scale_min,
    /// Height of the face as a share of the frame's shorter side.
    face_share_min,
    /// Mean luma of the face.
    luma_mean_min,
    /// The same.
    luma_mean_max,
    /// The landmark model's confidence.
    face_presence_min,
}

#[cfg(test)]
mod tests {
    use super::super::{CHECK, SCORE_KIND};
    use super::*;
    use crate::checks::testing::shipped;
    use crate::pipeline::live::ROLES;

    #[test]
    fn the_shipped_calibration_has_every_limit_at_every_operating_point_and_the_models_that_run() {
        let calibration = shipped(CHECK).calibration;
        assert_eq!(calibration.score_kind, SCORE_KIND);
        let mut roles: Vec<_> = ROLES.iter().map(|role| role.name().to_owned()).collect();
        roles.sort();
        assert_eq!(calibration.models.keys().cloned().collect::<Vec<_>>(), roles);
        for point in &calibration.operating_points {
            assert!(Terms::from_point(point).is_ok(), "{}", point.name);
        }
    }

    #[test]
    fn a_limit_that_is_missing_or_misspelt_is_named() {
        let calibration = shipped(CHECK).calibration;
        let mut point = calibration.operating_point("").unwrap().clone();
        let value = point.limits.remove("turn_deg_min").unwrap();
        point.limits.insert("turn_degree_min".into(), value);
        let wrong = Terms::from_point(&point).unwrap_err();
        assert_eq!(wrong, ["turn_deg_min is missing", "turn_degree_min is not known"]);
    }
}
