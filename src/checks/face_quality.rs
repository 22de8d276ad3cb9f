//! `face_quality`: is the selfie good enough to be judged and kept?
//!
//! Score: 0..1, the smallest margin to any limit of the operating point; 0.5 means exactly at the limit. The native values stand
//! in the measurements. Identity and liveness are not asked here.

use super::{Check, Evidence, Finding, MediaKind, Terms, Warning, limits};
use crate::error::Error;
use crate::models::manifest::Role;

pub struct FaceQualityCheck;

impl Check for FaceQualityCheck {
    fn name(&self) -> &'static str {
        "face_quality"
    }

    fn score_kind(&self) -> &'static str {
        "quality_0_1"
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::FaceDetector, Role::FaceLandmarks]
    }

    fn applies_to(&self, media: &[MediaKind]) -> bool {
        media.contains(&MediaKind::Selfie)
    }

    fn run(&self, evidence: &Evidence<'_>, terms: &Terms<'_>) -> Result<Finding, Error> {
        let Some(selfie) = evidence.selfie else {
            return Err(Error::internal("face_quality was planned without a selfie"));
        };
        let mut finding = Finding::inconclusive(selfie.faces()?.warnings(selfie.kind()));
        let Some(quality) = selfie.quality()? else { return Ok(finding) };
        let measured = [
            ("inter_eye_px", quality.inter_eye_px),
            ("sharpness", quality.sharpness),
            ("luma_mean", quality.luma_mean),
            ("under_exposed", quality.under_exposed),
            ("over_exposed", quality.over_exposed),
            ("yaw_deg", quality.pose.yaw_deg),
            ("pitch_deg", quality.pose.pitch_deg),
            ("roll_deg", quality.pose.roll_deg),
            ("face_presence", quality.pose.presence),
            ("cut_off_px", quality.cut_off_px),
        ];
        finding.measurements.extend(measured);
        let margins = limits::margins(terms, &measured);
        for margin in &margins {
            let known = finding.warnings.iter().any(|warning| warning.code == margin.code);
            if margin.margin < 0.5 && !known {
                finding.warnings.push(Warning::new(margin.code, margin.message, selfie.kind()));
            }
        }
        let score = margins.iter().map(|margin| margin.margin).fold(1.0, f64::min);
        let mut finding = finding.decide(score, terms);
        if terms.operating_point.is_none() {
            // Without limits the smallest margin is no score at all.
            finding.score = None;
        }
        Ok(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::super::testing::{FakePicture, codes, empty, picture, run, shipped};
    use super::*;
    use crate::face::quality::FaceQuality;

    fn judge(selfie: &FakePicture) -> Finding {
        let evidence = Evidence { selfie: Some(selfie), ..Evidence::default() };
        run(&FaceQualityCheck, &evidence, Some(&shipped("face_quality")), &[])
    }

    fn with(change: impl Fn(&mut FaceQuality)) -> FakePicture {
        let mut selfie = picture(MediaKind::Selfie);
        selfie.quality.iter_mut().for_each(change);
        selfie
    }

    #[test]
    fn a_good_picture_passes_with_all_its_measurements() {
        let finding = judge(&picture(MediaKind::Selfie));
        assert_eq!((finding.outcome, codes(&finding)), (Outcome::Pass, vec![]));
        assert_eq!(finding.measurements.len(), 10);
    }

    #[test]
    fn each_defect_has_its_own_warning() {
        type Defect = fn(&mut FaceQuality);
        let defects: [(Defect, &str); 7] = [
            (|quality| quality.sharpness = 0.5, "IMAGE_BLURRED"),
            (|quality| quality.inter_eye_px = 4.0, "FACE_TOO_SMALL"),
            (|quality| quality.luma_mean = 5.0, "TOO_DARK"),
            (|quality| quality.luma_mean = 254.0, "TOO_BRIGHT"),
            (|quality| quality.pose.yaw_deg = -80.0, "HEAD_TURNED"),
            (|quality| quality.pose.presence = 0.01, "FACE_COVERED"),
            (|quality| quality.cut_off_px = 200.0, "FACE_CUT_OFF"),
        ];
        for (defect, code) in defects {
            let finding = judge(&with(defect));
            assert_eq!(codes(&finding), [code]);
            assert_ne!(finding.outcome, Outcome::Pass, "{code}");
        }
    }

    #[test]
    fn no_face_is_inconclusive() {
        let finding = judge(&empty(MediaKind::Selfie));
        assert_eq!((finding.outcome, codes(&finding)), (Outcome::Inconclusive, vec!["NO_FACE_DETECTED"]));
    }
}
