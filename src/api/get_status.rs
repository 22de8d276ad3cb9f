//! `GetStatus`: version, models, calibrations and load. Needs no place, so that it answers under overload too.

use super::convert::{self, milliseconds};
use super::proto::{self, GetStatusResponse};
use crate::checks;
use crate::inference::registry::LoadedModel;
use crate::live;
use crate::ops::process;
use crate::pipeline::Engine;

pub fn get_status(engine: &Engine) -> GetStatusResponse {
    let door = engine.admission.status();
    let limits = engine.admission.limits();
    let uptime = engine.started.elapsed();
    GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        state: if door.draining { proto::State::Draining } else { proto::State::Ready }.into(),
        uptime: Some(prost_types::Duration {
            seconds: i64::try_from(uptime.as_secs()).unwrap_or(i64::MAX),
            nanos: uptime.subsec_nanos() as i32,
        }),
        runtime_version: engine.registry.runtime_version().into(),
        device_requested: engine.registry.device().as_str().into(),
        device_in_use: engine.registry.provider().as_str().into(),
        device_fallback_reason: engine.registry.fallback().unwrap_or_default().into(),
        models: engine.registry.models().map(|model| model_status(model)).collect(),
        checks: checks::ALL
            .iter()
            .map(|check| (check.name(), check.decides_by_rule()))
            .chain([(live::CHECK, false)])
            .map(|(name, decides_by_rule)| check_status(engine, name, decides_by_rule))
            .collect(),
        running: door.running as u32,
        waiting: door.waiting as u32,
        max_running: limits.max_running as u32,
        max_waiting: limits.max_waiting as u32,
        requests_total: door.requests,
        refused_total: door.refused,
        decoder_processes: engine.reader.decoders.processes() as u32,
        resident_bytes: process::resident_bytes().unwrap_or(0),
    }
}

fn model_status(model: &LoadedModel) -> proto::ModelStatus {
    let status = model.status();
    proto::ModelStatus {
        role: model.entry.role.name().into(),
        name: model.entry.name.clone(),
        sha256: model.entry.sha256.clone(),
        licence: model.entry.licence.clone(),
        provider: model.provider.as_str().into(),
        sessions: status.able as u32,
        sessions_planned: model.sessions as u32,
        threads_per_session: model.threads as u32,
        max_batch: model.max_batch as u32,
        queued: status.queued as u32,
        runs_total: status.runs,
        items_total: status.items,
        mean_run_ms: milliseconds(status.run_time) / status.runs.max(1) as f64,
        sessions_lost_total: status.lost,
    }
}

fn check_status(engine: &Engine, name: &str, decides_by_rule: bool) -> proto::CheckStatus {
    let loaded = engine.calibrations.get(name);
    let points = loaded.map_or(&[][..], |loaded| &loaded.calibration.operating_points);
    proto::CheckStatus {
        name: name.into(),
        calibration_sha256: loaded.map_or_else(String::new, |loaded| loaded.sha256.clone()),
        default_operating_point: loaded
            .map_or_else(String::new, |loaded| loaded.calibration.default_operating_point.clone()),
        operating_points: points.iter().map(|point| convert::operating_point(point.into())).collect(),
        calibrated: loaded.is_some(),
        decides_by_rule,
    }
}
