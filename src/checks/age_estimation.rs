//! `age_estimation`: does the person look old enough?
//!
//! Score: estimated age in years, after the calibration has weighed the models and corrected their bias. An estimate is no proof of age: from `minimum_age_years
//! + challenge_buffer_years` on it passes (Challenge 25 for 18 + 7), within the buffer to either side of the minimum it is REVIEW with
//! `AGE_BORDERLINE`, so that a document decides, and only below that it fails.

use std::collections::BTreeMap;

use super::{
    AppliedPoint, Check, Evidence, Finding, MediaKind, Outcome, Parameter, Terms, Warning, limits, not_calibrated,
};
use crate::calibration::OperatingPoint;
use crate::error::Error;
use crate::models::manifest::Role;

pub struct AgeEstimation;

const MINIMUM_AGE: &str = "minimum_age_years";
const BUFFER: &str = "challenge_buffer_years";

impl Check for AgeEstimation {
    fn name(&self) -> &'static str {
        "age_estimation"
    }

    fn score_kind(&self) -> &'static str {
        "age_years"
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::AgeA, Role::AgeB, Role::FaceDetector]
    }

    fn applies_to(&self, media: &[MediaKind]) -> bool {
        media.contains(&MediaKind::Selfie)
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter { name: MINIMUM_AGE, range: [1.0, 99.0] }, Parameter { name: BUFFER, range: [0.0, 30.0] }]
    }

    fn run(&self, evidence: &Evidence<'_>, terms: &Terms<'_>) -> Result<Finding, Error> {
        let Some(selfie) = evidence.selfie else {
            return Err(Error::internal("age_estimation was planned without a selfie"));
        };
        let faces = selfie.faces()?;
        let mut finding = Finding::inconclusive(faces.warnings(selfie.kind()));
        let (Some(inter_eye_px), Some(ages)) = (faces.inter_eye_px(), selfie.ages()?) else { return Ok(finding) };
        let estimates = [("age_a_years", ages.age_a_years), ("age_b_years", ages.age_b_years)];
        finding.measurements.extend(estimates);
        let broken = limits::broken(terms, &[("inter_eye_px", inter_eye_px)], selfie.kind());
        let model = terms.calibration.and_then(|loaded| loaded.calibration.age.as_ref());
        let (Some(estimate), Some(point)) = (model.and_then(|model| model.apply(&estimates)), terms.operating_point)
        else {
            finding.warnings.push(not_calibrated());
            return Ok(finding);
        };
        if !broken.is_empty() {
            finding.warnings.extend(broken);
            return Ok(finding);
        }
        let policy = Policy::new(terms, point);
        finding.score = Some(estimate.value);
        finding.calibrated = Some(estimate);
        finding.outcome = policy.decide(estimate.value);
        finding.operating_point = Some(policy.applied);
        let warning = match finding.outcome {
            Outcome::Review => {
                Some(("AGE_BORDERLINE", "the estimate is too close to the minimum age; ask for a document"))
            }
            Outcome::Fail => Some(("AGE_BELOW_MINIMUM", "the person looks clearly younger than the minimum age")),
            _ => None,
        };
        finding.warnings.extend(warning.map(|(code, message)| Warning::new(code, message, selfie.kind())));
        Ok(finding)
    }
}

/// From which estimated age on to pass, and from which on to ask for a document.
struct Policy {
    applied: AppliedPoint,
    review_from: f64,
}

impl Policy {
    /// The operating point, with the request's numbers in place of its own where it gives any. A point's thresholds stand a
    /// buffer above and below the minimum age. Rates are stated only for the pair of ages that they were measured with.
    fn new(terms: &Terms<'_>, point: &OperatingPoint) -> Self {
        let review_from = |point: &OperatingPoint| point.review_threshold.unwrap_or(point.threshold);
        let (above, below) = (point.threshold, review_from(point));
        let given = |name: &str| terms.parameters.get(name).copied();
        let minimum = given(MINIMUM_AGE).unwrap_or((above + below) / 2.0);
        let buffer = given(BUFFER).unwrap_or((above - below) / 2.0);
        let wanted = (minimum + buffer, minimum - buffer);
        let measured = terms.calibration.and_then(|loaded| {
            let mut points = loaded.calibration.operating_points.iter();
            points.find(|point| (point.threshold, review_from(point)) == wanted)
        });
        let applied = measured.map_or_else(
            || AppliedPoint { name: "request".into(), threshold: wanted.0, rates: BTreeMap::new() },
            AppliedPoint::from,
        );
        Self { applied, review_from: wanted.1 }
    }

    fn decide(&self, age_years: f64) -> Outcome {
        if age_years >= self.applied.threshold {
            Outcome::Pass
        } else if age_years >= self.review_from {
            Outcome::Review
        } else {
            Outcome::Fail
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{codes, empty, picture, run, shipped};
    use super::*;
    use crate::face::age::AgeEstimates;

    fn judge(years: f64, parameters: &[(&str, f64)]) -> Finding {
        let mut selfie = picture(MediaKind::Selfie);
        selfie.ages = Some(AgeEstimates { age_a_years: years, age_b_years: years });
        let evidence = Evidence { selfie: Some(&selfie), ..Evidence::default() };
        run(&AgeEstimation, &evidence, Some(&shipped("age_estimation")), parameters)
    }

    #[test]
    fn the_default_is_challenge_25() {
        assert_eq!(judge(45.0, &[]).outcome, Outcome::Pass);
        let borderline = judge(19.0, &[]);
        assert_eq!((borderline.outcome, codes(&borderline)), (Outcome::Review, vec!["AGE_BORDERLINE"]));
        let child = judge(3.0, &[]);
        assert_eq!((child.outcome, codes(&child)), (Outcome::Fail, vec!["AGE_BELOW_MINIMUM"]));
        assert_eq!(child.operating_point.unwrap().threshold, 25.0);
    }

    #[test]
    fn the_request_sets_the_minimum_and_the_buffer() {
        let finding = judge(45.0, &[(MINIMUM_AGE, 60.0), (BUFFER, 5.0)]);
        assert_eq!(finding.outcome, Outcome::Fail);
        let point = finding.operating_point.unwrap();
        assert_eq!((point.threshold, point.name.as_str(), point.rates.len()), (65.0, "request", 0));
        assert_eq!(judge(45.0, &[(MINIMUM_AGE, 16.0)]).outcome, Outcome::Pass);
    }

    #[test]
    fn no_face_is_inconclusive() {
        let selfie = empty(MediaKind::Selfie);
        let evidence = Evidence { selfie: Some(&selfie), ..Evidence::default() };
        let finding = run(&AgeEstimation, &evidence, Some(&shipped("age_estimation")), &[]);
        assert_eq!((finding.outcome, codes(&finding)), (Outcome::Inconclusive, vec!["NO_FACE_DETECTED"]));
    }
}
