//! Our own types to messages and back.

use std::time::Duration;

use super::proto;
use crate::checks::{self, AppliedPoint, MediaKind, Outcome};
use crate::error::Error;
use crate::inference::registry::{LoadedModel, Registry};
use crate::models::manifest::Role;
use crate::pipeline::Engine;
use crate::pipeline::source::Media;
use crate::pipeline::verify::CheckResult;

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// 16 random hexadecimal digits.
pub fn random_id() -> String {
    // The hasher's keys come from the system's random source; an id needs to be unique, not secret.
    use std::hash::{BuildHasher, Hasher};
    let hasher = std::collections::hash_map::RandomState::new().build_hasher();
    format!("{:016x}", hasher.finish())
}

/// # Errors
/// [`Error::InvalidInput`] if the kind is none of ours.
pub fn media(index: usize, media: proto::Media) -> Result<Media, Error> {
    let kind = match media.kind() {
        proto::MediaKind::Selfie => MediaKind::Selfie,
        proto::MediaKind::Portrait => MediaKind::Portrait,
        proto::MediaKind::Reference => MediaKind::Reference,
        proto::MediaKind::DocumentFront => MediaKind::DocumentFront,
        proto::MediaKind::DocumentBack => MediaKind::DocumentBack,
        proto::MediaKind::Unspecified => {
            let reason = "say what the picture shows: SELFIE, PORTRAIT, REFERENCE, DOCUMENT_FRONT or DOCUMENT_BACK";
            return Err(Error::invalid(format!("media[{index}].kind"), "MEDIA_KIND_UNKNOWN", reason));
        }
    };
    Ok(Media { kind, data: media.data, field: format!("media[{index}].data") })
}

pub fn media_kind(kind: MediaKind) -> proto::MediaKind {
    match kind {
        MediaKind::Selfie => proto::MediaKind::Selfie,
        MediaKind::Portrait => proto::MediaKind::Portrait,
        MediaKind::Reference => proto::MediaKind::Reference,
        MediaKind::DocumentFront => proto::MediaKind::DocumentFront,
        MediaKind::DocumentBack => proto::MediaKind::DocumentBack,
    }
}

pub fn outcome(outcome: Outcome) -> proto::Outcome {
    match outcome {
        Outcome::Pass => proto::Outcome::Pass,
        Outcome::Fail => proto::Outcome::Fail,
        Outcome::Review => proto::Outcome::Review,
        Outcome::Inconclusive => proto::Outcome::Inconclusive,
        Outcome::Skipped => proto::Outcome::Skipped,
    }
}

pub fn warning(warning: checks::Warning) -> proto::Warning {
    proto::Warning {
        code: warning.code.into(),
        message: warning.message,
        media: warning.media.map_or(proto::MediaKind::Unspecified, media_kind).into(),
    }
}

pub fn check_result(engine: &Engine, result: CheckResult) -> proto::CheckResult {
    let CheckResult { check, finding, duration } = result;
    let calibration = engine.calibrations.get(check.name());
    // A calibration is bound to the models that its score takes; those that it leaves out were not asked.
    let takes_part = |role: &Role| calibration.is_none_or(|loaded| loaded.calibration.models.contains_key(role.name()));
    let roles: Vec<Role> = check.roles().iter().copied().filter(takes_part).collect();
    proto::CheckResult {
        check: check.name().into(),
        outcome: outcome(finding.outcome).into(),
        score: finding.score,
        score_kind: check.score_kind().into(),
        calibrated: finding.calibrated.map(|value| proto::Calibrated {
            kind: value.kind.into(),
            value: value.value,
            low_95: value.low_95,
            high_95: value.high_95,
        }),
        operating_point: finding.operating_point.map(operating_point),
        warnings: finding.warnings.into_iter().map(warning).collect(),
        measurements: finding.measurements.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        models: model_refs(&engine.registry, &roles),
        calibration_sha256: calibration.map_or_else(String::new, |loaded| loaded.sha256.clone()),
        duration_ms: milliseconds(duration),
    }
}

pub fn operating_point(point: AppliedPoint) -> proto::OperatingPoint {
    proto::OperatingPoint { name: point.name, threshold: point.threshold, rates: point.rates.into_iter().collect() }
}

pub fn model_refs(registry: &Registry, roles: &[Role]) -> Vec<proto::ModelRef> {
    roles.iter().filter_map(|&role| registry.get(role)).map(|model| model_ref(model)).collect()
}

fn model_ref(model: &LoadedModel) -> proto::ModelRef {
    proto::ModelRef {
        role: model.entry.role.name().into(),
        name: model.entry.name.clone(),
        sha256: model.entry.sha256.clone(),
    }
}
