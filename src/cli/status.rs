//! `vouch status`: state, models, checks, operating points and load of the daemon.
//!
//! Called by `cli`; the numbers are the daemon's own (`GetStatus`).

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::connect::{self, CallArgs, Failure, Target};
use super::report::{Paint, operating_point_to_json, operating_point_to_text};
use crate::api::proto::{self, AuditState, GetStatusResponse, State};

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub call: CallArgs,
}

/// Prints the status. The exit code is 0 when the daemon is ready, else 75.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(args: &StatusArgs, target: &Target) -> Result<u8, Failure> {
    let status = connect::status(target).await?;
    let out = std::io::stdout();
    let text = if args.call.json {
        format!("{}\n", to_json(&status))
    } else {
        to_text(&status, Paint { on: super::colour_wanted(&out) })
    };
    std::io::Write::write_all(&mut out.lock(), text.as_bytes())?;
    Ok(if status.state() == State::Ready { 0 } else { crate::error::exit::TEMP_FAIL })
}

pub fn state_word(state: State) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("STATE_").unwrap_or(name)
}

/// Of the audit log; the operator alone is told.
fn audit(status: &GetStatusResponse) -> Option<AuditState> {
    status.activity.as_ref().map(proto::Activity::audit)
}

pub fn uptime_seconds(status: &GetStatusResponse) -> f64 {
    status.uptime.as_ref().map_or(0.0, |uptime| uptime.seconds as f64 + f64::from(uptime.nanos) / 1e9)
}

fn to_json(status: &GetStatusResponse) -> Value {
    let models: Vec<Value> = status
        .models
        .iter()
        .map(|m| {
            json!({
                "role": m.role, "name": m.name, "sha256": m.sha256, "licence": m.licence, "provider": m.provider,
                "sessions": m.sessions, "sessions_planned": m.sessions_planned, "threads_per_session": m.threads_per_session, "max_batch": m.max_batch,
                "queued": m.queued, "runs_total": m.runs_total, "items_total": m.items_total,
                "mean_run_ms": m.mean_run_ms, "sessions_lost_total": m.sessions_lost_total,
            })
        })
        .collect();
    let checks: Vec<Value> = status
        .checks
        .iter()
        .map(|c| {
            json!({
                "name": c.name, "calibration_sha256": c.calibration_sha256, "calibrated": c.calibrated, "decides_by_rule": c.decides_by_rule,
                "default_operating_point": c.default_operating_point,
                "operating_points": c.operating_points.iter().map(operating_point_to_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    let callers: Vec<Value> = status
        .callers
        .iter()
        .map(|c| {
            json!({
                "uid": c.uid, "policy": c.policy, "priority": c.priority, "connections": c.connections, "running": c.running,
                "requests_total": c.requests_total, "malformed_total": c.malformed_total, "bytes_total": c.bytes_total,
                "refused_total": c.refused_total, "pause_ms": c.pause_ms,
            })
        })
        .collect();
    json!({
        "version": status.version, "state": state_word(status.state()), "uptime_seconds": uptime_seconds(status),
        "runtime_version": status.runtime_version, "device_requested": status.device_requested,
        "device_in_use": status.device_in_use, "device_fallback_reason": status.device_fallback_reason, "models": models, "checks": checks,
        "running": status.running, "waiting": status.waiting, "max_running": status.max_running,
        "max_waiting": status.max_waiting, "requests_total": status.requests_total,
        "refused_total": status.refused_total, "resident_bytes": status.resident_bytes, "callers": callers,
        "audit": audit(status).map(|state| state.as_str_name().trim_start_matches("AUDIT_STATE_")),
        "decoder_processes": status.decoder_processes, "decoder_resident_bytes": status.decoder_resident_bytes,
    })
}

fn to_text(status: &GetStatusResponse, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} {} · up {} · ONNX Runtime {} on {} (asked for: {})",
        paint.bold(&format!("vouchd {}", status.version)),
        state_word(status.state()),
        uptime_words(uptime_seconds(status)),
        status.runtime_version,
        status.device_in_use,
        status.device_requested
    );
    if !status.device_fallback_reason.is_empty() {
        let _ = writeln!(text, "{}", paint.warning(&format!("no usable GPU: {}", status.device_fallback_reason)));
    }
    if audit(status) == Some(AuditState::Broken) {
        let _ = writeln!(text, "{}", paint.warning("the audit log cannot be written: see the journal"));
    }
    if status.decoder_processes == 0 {
        let _ =
            writeln!(text, "{}", paint.warning("decoders run in the daemon's own process: decoders.isolated = false"));
    }
    let _ = writeln!(
        text,
        "load  {} of {} running, {} of {} waiting · {} requests, {} refused · {:.1} MiB resident, {:.1} in decoders",
        status.running,
        status.max_running,
        status.waiting,
        status.max_waiting,
        status.requests_total,
        status.refused_total,
        mib(status.resident_bytes),
        mib(status.decoder_resident_bytes)
    );
    let header = format!(
        "\n{:<18}{:<34}{:<10}{:<16}{:>8}{:>8}{:>7}{:>10}{:>10}",
        "role", "model", "sha256", "licence", "sessions", "threads", "batch", "runs", "mean ms"
    );
    let _ = writeln!(text, "{}", paint.dim(&header));
    for m in &status.models {
        let _ = writeln!(
            text,
            "{:<18}{:<34}{:<10}{:<16}{:>8}{:>8}{:>7}{:>10}{:>10.2}",
            m.role,
            m.name,
            short_hash(&m.sha256),
            m.licence,
            m.sessions,
            m.threads_per_session,
            m.max_batch,
            m.runs_total,
            m.mean_run_ms
        );
    }
    let _ = writeln!(text, "{}", paint.dim("\nchecks and operating points (* is the default)"));
    for check in &status.checks {
        let calibration = if check.decides_by_rule {
            "decides by rule".to_owned()
        } else if check.calibrated {
            format!("calibration {}", short_hash(&check.calibration_sha256))
        } else {
            paint.warning("not calibrated for these models: answers INCONCLUSIVE")
        };
        let _ = writeln!(text, "{}  {calibration}", paint.bold(&check.name));
        for point in &check.operating_points {
            let mark = if point.name == check.default_operating_point { '*' } else { ' ' };
            let _ = writeln!(text, "  {mark} {}", operating_point_to_text(point));
        }
    }
    if !status.callers.is_empty() {
        let header = format!(
            "\n{:<12}{:<20}{:<10}{:>12}{:>9}{:>10}{:>10}{:>10}",
            "user", "policy", "priority", "connections", "running", "requests", "malformed", "refused"
        );
        let _ = writeln!(text, "{}", paint.dim(&header));
    }
    for c in &status.callers {
        let refused: u64 = c.refused_total.values().sum();
        let pause = if c.pause_ms > 0.0 {
            paint.warning(&format!("  pauses for {:.1} s after malformed requests", c.pause_ms / 1e3))
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "{:<12}{:<20}{:<10}{:>12}{:>9}{:>10}{:>10}{:>10}{pause}",
            c.uid, c.policy, c.priority, c.connections, c.running, c.requests_total, c.malformed_total, refused
        );
    }
    text
}

/// Enough of a hash to compare by eye.
pub fn short_hash(sha256: &str) -> &str {
    sha256.get(..8).unwrap_or(sha256)
}

/// Bytes in MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub fn uptime_words(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else if seconds < 7200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}
