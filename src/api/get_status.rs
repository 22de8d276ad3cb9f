//! `GetStatus`: version, models, calibrations and load, and where it is asked for what has been counted. Needs no place, so that it answers under overload too.

use super::callers::{CallerStatus, Callers};
use super::convert::{self, milliseconds};
use super::listener::PeerIdentity;
use super::proto::{self, GetStatusResponse};
use crate::checks;
use crate::error::Quota;
use crate::inference::registry::LoadedModel;
use crate::live;
use crate::ops::counts::{Counts, Times, label};
use crate::ops::{metrics as names, process};
use crate::pipeline::Engine;

/// `counts` are given where the caller wants to know of them. The operator sees the accounts of all users, and others their own.
pub fn get_status(
    engine: &Engine,
    callers: &Callers,
    peer: Option<&PeerIdentity>,
    counts: Option<&Counts>,
) -> GetStatusResponse {
    let accounts = match peer {
        Some(peer) if peer.is_operator() => callers.status(None),
        Some(peer) => callers.status(Some(peer.uid)),
        None => Vec::new(),
    };
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
        decoder_resident_bytes: engine.reader.decoders.held().resident_bytes,
        resident_bytes: process::resident_bytes().unwrap_or(0),
        callers: accounts.into_iter().map(caller_status).collect(),
        activity: counts.map(|counts| activity(engine, counts)),
    }
}

fn caller_status(status: CallerStatus) -> proto::CallerStatus {
    let refused = Quota::ALL.into_iter().map(|quota| (quota.name().to_owned(), status.counts.refused[quota as usize]));
    proto::CallerStatus {
        uid: status.uid,
        policy: status.policy,
        priority: status.priority.as_str().into(),
        connections: status.connections as u32,
        running: status.in_flight as u32,
        requests_total: status.counts.begun,
        malformed_total: status.counts.malformed,
        bytes_total: status.counts.bytes,
        refused_total: refused.filter(|(_, count)| *count > 0).collect(),
        pause_ms: milliseconds(status.paused_for),
    }
}

fn activity(engine: &Engine, counts: &Counts) -> proto::Activity {
    let usage = process::usage().ok();
    let audit = match counts.gauge(names::AUDIT_BROKEN) {
        None => proto::AuditState::Off,
        Some(broken) if broken > 0.0 => proto::AuditState::Broken,
        Some(_) => proto::AuditState::Writing,
    };
    let wait = counts.histograms(names::ADMISSION_WAIT_SECONDS).into_iter().next();
    let stages = counts.histograms(names::STAGE_SECONDS).into_iter();
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    proto::Activity {
        process_id: std::process::id(),
        config_sha256: engine.config_sha256.clone(),
        connections: counts.gauge(names::CONNECTIONS).unwrap_or(0.0) as u32,
        live_sessions: small(engine.live_sessions()),
        max_live_sessions: small(engine.live.max_sessions),
        threads: usage.map_or(0, |usage| small(usage.threads)),
        open_files: usage.map_or(0, |usage| small(usage.open_files)),
        cpu_seconds: usage.map_or(0.0, |usage| usage.cpu.as_secs_f64()),
        audit: audit.into(),
        rpcs: rpcs(counts),
        errors: counts
            .counters(names::ERRORS)
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(key, count)| {
                let [code, reason] = ["code", "reason"].map(|name| label(&key, name).to_owned());
                proto::ErrorCount { code, reason, count }
            })
            .collect(),
        outcomes: counts
            .counters(names::CHECKS)
            .into_iter()
            .map(|(key, count)| {
                let outcome = proto::Outcome::from_str_name(&format!("OUTCOME_{}", label(&key, "outcome")));
                let outcome = outcome.unwrap_or_default().into();
                proto::OutcomeCount { check: label(&key, "check").to_owned(), outcome, count }
            })
            .collect(),
        admission_wait: wait.map(|(_, times)| timing(times)),
        stages: stages
            .map(|(key, times)| {
                let stage = label(&key, "stage").to_owned();
                proto::StageActivity { stage, time: Some(timing(times)) }
            })
            .collect(),
        models: models(counts),
    }
}

fn rpcs(counts: &Counts) -> Vec<proto::RpcActivity> {
    let ended = counts.counters(names::REQUESTS);
    let of = |rpc: &str| {
        let of = ended.iter().filter(|(key, _)| label(key, "rpc") == rpc);
        of.map(|(key, count)| proto::CodeCount { code: label(key, "code").to_owned(), count: *count }).collect()
    };
    let times = counts.histograms(names::REQUEST_SECONDS).into_iter();
    times
        .map(|(key, times)| {
            let rpc = label(&key, "rpc");
            proto::RpcActivity { codes: of(rpc), rpc: rpc.to_owned(), time: Some(timing(times)) }
        })
        .collect()
}

fn models(counts: &Counts) -> Vec<proto::ModelActivity> {
    let [waits, items] = [names::MODEL_WAIT_SECONDS, names::MODEL_BATCH_ITEMS].map(|name| counts.histograms(name));
    let failures = counts.counters(names::MODEL_RUN_FAILURES);
    let of = |all: &[(metrics::Key, Times)], role: &str| {
        all.iter().find(|(key, _)| label(key, "role") == role).map(|(_, times)| times.clone()).unwrap_or_default()
    };
    let runs = counts.histograms(names::MODEL_RUN_SECONDS).into_iter();
    runs.map(|(key, run)| {
        let role = label(&key, "role");
        let failed = failures.iter().find(|(key, _)| label(key, "role") == role);
        proto::ModelActivity {
            role: role.to_owned(),
            run: Some(timing(run)),
            wait: Some(timing(of(&waits, role))),
            items: of(&items, role).total as u64,
            failures: failed.map_or(0, |(_, count)| *count),
        }
    })
    .collect()
}

fn timing(times: Times) -> proto::Timing {
    proto::Timing { count: times.count(), total_seconds: times.total, buckets: times.buckets }
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
