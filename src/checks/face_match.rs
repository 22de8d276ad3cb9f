//! `face_match`: is the person of the selfie the one of the portrait (without one, of the document; without that, of the reference)?
//!
//! Score: cosine similarity of the identity vectors, −1..1; where the calibration fuses several kinds of vectors, the weighted mean of their
//! similarities, each of which is told as a measurement. Calibrated: false match rate at that score. Whether a picture is live is not asked here.

use super::{Check, Evidence, Finding, MediaKind, Outcome, PORTRAIT_DOUBTS, Terms, limits};
use crate::calibration::Calibration;
use crate::error::Error;
use crate::face::embed::EmbeddingKind;
use crate::models::manifest::Role;

pub struct FaceMatch;

/// The vectors that a match on these terms compares: those that the calibration fuses, the plain one where it fuses none, and all of them
/// where there is no calibration, since one is going to be made from them.
pub(crate) fn kinds(calibration: Option<&Calibration>) -> Vec<EmbeddingKind> {
    let Some(calibration) = calibration else { return EmbeddingKind::ALL.into() };
    let Some(fusion) = &calibration.fusion else { return vec![EmbeddingKind::A] };
    let is_fused = |kind: &EmbeddingKind| fusion.terms.iter().any(|term| term.measurement == kind.measurement());
    EmbeddingKind::ALL.into_iter().filter(is_fused).collect()
}

impl Check for FaceMatch {
    fn name(&self) -> &'static str {
        "face_match"
    }

    fn score_kind(&self) -> &'static str {
        "cosine_similarity"
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::FaceDetector, Role::FaceEmbedder, Role::FaceEmbedderB]
    }

    fn applies_to(&self, media: &[MediaKind]) -> bool {
        media.contains(&MediaKind::Selfie)
            && [MediaKind::Portrait, MediaKind::DocumentFront, MediaKind::Reference]
                .iter()
                .any(|side| media.contains(side))
    }

    fn run(&self, evidence: &Evidence<'_>, terms: &Terms<'_>) -> Result<Finding, Error> {
        let (Some(probe), Some(reference)) = (evidence.selfie, evidence.other_side) else {
            return Err(Error::internal("face_match was planned without its two pictures"));
        };
        let mut finding = Finding::inconclusive(Vec::new());
        let mut usable = true;
        for (picture, name) in [(probe, "probe_inter_eye_px"), (reference, "reference_inter_eye_px")] {
            let faces = picture.faces()?;
            finding.warnings.extend(faces.warnings(picture.kind()));
            let Some(inter_eye_px) = faces.inter_eye_px() else {
                usable = false;
                continue;
            };
            finding.measurements.insert(name, inter_eye_px);
            let broken = limits::broken(terms, &[("inter_eye_px", inter_eye_px)], picture.kind());
            usable &= broken.is_empty();
            finding.warnings.extend(broken);
        }
        let calibration = terms.calibration.map(|loaded| &loaded.calibration);
        for kind in kinds(calibration) {
            if let (Some(probe), Some(reference)) = (probe.embedding(kind)?, reference.embedding(kind)?) {
                finding.measurements.insert(kind.measurement(), probe.cosine(reference));
            }
        }
        let similarity = |name: &str| finding.measurements.get(name).copied();
        let score = match calibration.and_then(|calibration| calibration.fusion.as_ref()) {
            Some(fusion) => fusion.apply(similarity),
            None => similarity(EmbeddingKind::A.measurement()),
        };
        match score {
            Some(score) if usable => {
                let mut finding = finding.decide(score, terms);
                let is_doubted = finding.warnings.iter().any(|warning| PORTRAIT_DOUBTS.contains(&warning.code));
                if is_doubted && finding.outcome == Outcome::Pass {
                    finding.outcome = Outcome::Review;
                }
                Ok(finding)
            }
            // The score, if there is one, is told for whoever measures; it decides nothing.
            score => Ok(Finding { score, ..finding }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{codes, empty, picture, run, shipped};
    use super::super::{FaceEvidence, OnDocument};
    use super::*;
    use crate::face::embed::Embedding;

    fn compare(probe: &dyn FaceEvidence, reference: &dyn FaceEvidence) -> Finding {
        let evidence = Evidence { selfie: Some(probe), other_side: Some(reference), ..Evidence::default() };
        run(&FaceMatch, &evidence, Some(&shipped("face_match")), &[])
    }

    #[test]
    fn a_portrait_that_may_be_none_is_for_a_person() {
        let (selfie, mut portrait) = (picture(MediaKind::Selfie), picture(MediaKind::DocumentFront));
        for (confirmed, page, expected) in [
            (true, 0, (Outcome::Pass, vec![])),
            (false, 0, (Outcome::Review, vec!["PORTRAIT_NOT_CONFIRMED"])),
            (true, 1, (Outcome::Review, vec!["PORTRAIT_ON_OTHER_PAGE"])),
        ] {
            portrait.faces.on_document = Some(OnDocument { confirmed, page });
            let finding = compare(&selfie, &portrait);
            assert_eq!((finding.outcome, codes(&finding)), expected);
        }
        portrait.faces.on_document = Some(OnDocument { confirmed: true, page: 0 });
        let second = portrait.faces.faces[0].clone();
        portrait.faces.faces.push(second);
        assert_eq!(codes(&compare(&selfie, &portrait)), ["SEVERAL_FACES_ON_DOCUMENT"]);
    }

    #[test]
    fn equal_vectors_pass_and_orthogonal_ones_fail() {
        let (selfie, mut portrait) = (picture(MediaKind::Selfie), picture(MediaKind::Portrait));
        let same = compare(&selfie, &portrait);
        assert_eq!((same.outcome, same.score), (Outcome::Pass, Some(1.0)));
        assert!(same.operating_point.is_some() && same.calibrated.is_some());
        portrait.embedding = Embedding::normalised(&[0.0, 1.0]);
        let other = compare(&selfie, &portrait);
        assert_eq!((other.outcome, other.score), (Outcome::Fail, Some(0.0)));
    }

    #[test]
    fn a_picture_without_a_face_is_inconclusive_and_says_which() {
        let finding = compare(&empty(MediaKind::Selfie), &picture(MediaKind::Portrait));
        assert_eq!((finding.outcome, finding.score), (Outcome::Inconclusive, None));
        assert_eq!(codes(&finding), ["NO_FACE_DETECTED"]);
        assert_eq!(finding.warnings[0].media, Some(MediaKind::Selfie));
    }

    #[test]
    fn a_face_of_a_few_pixels_is_inconclusive() {
        let mut tiny = picture(MediaKind::Portrait);
        tiny.faces.source_px = 0.05;
        let finding = compare(&picture(MediaKind::Selfie), &tiny);
        assert_eq!(finding.outcome, Outcome::Inconclusive);
        assert_eq!(codes(&finding), ["FACE_TOO_SMALL"]);
    }

    #[test]
    fn without_a_calibration_there_is_a_score_and_no_decision() {
        let (selfie, portrait) = (picture(MediaKind::Selfie), picture(MediaKind::Portrait));
        let evidence = Evidence { selfie: Some(&selfie), other_side: Some(&portrait), ..Evidence::default() };
        let finding = run(&FaceMatch, &evidence, None, &[]);
        assert_eq!((finding.outcome, finding.score), (Outcome::Inconclusive, Some(1.0)));
        assert_eq!(codes(&finding), ["NOT_CALIBRATED"]);
    }
}
