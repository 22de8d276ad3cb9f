//! `passive_liveness`: is a live person in front of the camera, judged from one picture?
//!
//! Score: the model's probability of "live", 0..1. Calibrated: attack presentation classification error rate at that score.
//! The model needs the surroundings of the face. Where a frame is somewhat too tight for its crop (`accept_crop_scale_min`), a rejection
//! still means something but an acceptance does not, so a good score is INCONCLUSIVE there; where it is far too tight (`crop_scale_min`), so is every score.

use super::{Check, Evidence, Finding, MediaKind, Outcome, Terms, limits};
use crate::error::Error;
use crate::models::manifest::Role;

pub struct PassiveLivenessCheck;

impl Check for PassiveLivenessCheck {
    fn name(&self) -> &'static str {
        "passive_liveness"
    }

    fn score_kind(&self) -> &'static str {
        "live_probability"
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::FaceDetector, Role::PassiveLiveness]
    }

    fn applies_to(&self, media: &[MediaKind]) -> bool {
        media.contains(&MediaKind::Selfie)
    }

    fn run(&self, evidence: &Evidence<'_>, terms: &Terms<'_>) -> Result<Finding, Error> {
        let Some(selfie) = evidence.selfie else {
            return Err(Error::internal("passive_liveness was planned without a selfie"));
        };
        let faces = selfie.faces()?;
        let mut finding = Finding::inconclusive(faces.warnings(selfie.kind()));
        let (Some(inter_eye_px), Some(score)) = (faces.inter_eye_px(), selfie.liveness()?) else {
            return Ok(finding);
        };
        finding.measurements.extend([("crop_scale", score.crop_scale), ("inter_eye_px", inter_eye_px)]);
        let measured = [("inter_eye_px", inter_eye_px), ("crop_scale", score.crop_scale)];
        let broken = limits::broken(terms, &measured, selfie.kind());
        if !broken.is_empty() {
            // The score is told for whoever measures; it decides nothing.
            finding.score = Some(score.live);
            finding.warnings.extend(broken);
            return Ok(finding);
        }
        let mut finding = finding.decide(score.live, terms);
        if matches!(finding.outcome, Outcome::Pass | Outcome::Review) {
            let broken = limits::broken(terms, &[("accept_crop_scale", score.crop_scale)], selfie.kind());
            if !broken.is_empty() {
                finding.warnings.extend(broken);
                finding.outcome = Outcome::Inconclusive;
            }
        }
        Ok(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::FaceEvidence;
    use super::super::testing::{codes, empty, picture, run, shipped};
    use super::*;
    use crate::face::liveness::LivenessScore;

    fn judge(selfie: &dyn FaceEvidence) -> Finding {
        let evidence = Evidence { selfie: Some(selfie), ..Evidence::default() };
        run(&PassiveLivenessCheck, &evidence, Some(&shipped("passive_liveness")), &[])
    }

    #[test]
    fn high_scores_pass_and_low_ones_fail() {
        let mut selfie = picture(MediaKind::Selfie);
        selfie.liveness = Some(LivenessScore { live: 1.0, crop_scale: 2.7 });
        assert_eq!(judge(&selfie).outcome, Outcome::Pass);
        selfie.liveness = Some(LivenessScore { live: 0.0, crop_scale: 2.7 });
        assert_eq!(judge(&selfie).outcome, Outcome::Fail);
    }

    #[test]
    fn a_somewhat_tight_frame_can_fail_and_cannot_pass() {
        let mut selfie = picture(MediaKind::Selfie);
        selfie.liveness = Some(LivenessScore { live: 0.0, crop_scale: 1.3 });
        assert_eq!(judge(&selfie).outcome, Outcome::Fail);
        selfie.liveness = Some(LivenessScore { live: 1.0, crop_scale: 1.3 });
        let finding = judge(&selfie);
        assert_eq!((finding.outcome, finding.score), (Outcome::Inconclusive, Some(1.0)));
        assert_eq!(codes(&finding), ["FRAME_TOO_TIGHT"]);
    }

    #[test]
    fn a_far_too_tight_frame_is_refused_whatever_its_score() {
        let mut selfie = picture(MediaKind::Selfie);
        selfie.liveness = Some(LivenessScore { live: 1.0, crop_scale: 1.0 });
        let finding = judge(&selfie);
        assert_eq!((finding.outcome, finding.score), (Outcome::Inconclusive, Some(1.0)));
        assert_eq!((&finding.calibrated, &finding.operating_point), (&None, &None));
        assert_eq!(codes(&finding), ["FRAME_TOO_TIGHT"]);
    }

    #[test]
    fn no_face_is_inconclusive() {
        let finding = judge(&empty(MediaKind::Selfie));
        assert_eq!((finding.outcome, codes(&finding)), (Outcome::Inconclusive, vec!["NO_FACE_DETECTED"]));
    }
}
