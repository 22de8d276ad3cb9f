//! Two made-up answers of a daemon, two seconds apart, for the tests of `rates` and `view`.

use crate::api::proto::{
    Activity, AuditState, CallerStatus, CheckStatus, CodeCount, ErrorCount, GetStatusResponse, ModelActivity,
    ModelStatus, Outcome, OutcomeCount, RpcActivity, StageActivity, State, Timing,
};

/// `count` values in one bucket of [`crate::ops::counts`].
fn timing(bucket: usize, count: u64, seconds_each: f64) -> Option<Timing> {
    let mut buckets = vec![0; bucket + 1];
    buckets[bucket] = count;
    Some(Timing { count, total_seconds: count as f64 * seconds_each, buckets })
}

fn rpc(name: &str, codes: &[(&str, u64)], time: Option<Timing>) -> RpcActivity {
    let codes = codes.iter().map(|(code, count)| CodeCount { code: (*code).into(), count: *count }).collect();
    RpcActivity { rpc: name.into(), codes, time }
}

/// `n` is 0 in the first answer and 1 in the second.
fn answer(n: u64) -> GetStatusResponse {
    let roles = ["face_detector", "face_embedder", "face_embedder_b", "passive_liveness", "age_a", "text_detector"];
    let model = |(index, role): (usize, &&str)| {
        let runs = if index < 3 { 1000 + 20 * n } else { 0 };
        ModelActivity {
            role: (*role).into(),
            run: timing(28 + 4 * (index % 3), runs, 0.05),
            wait: timing(8, runs, 0.0003),
            items: runs * 3 / 2,
            failures: 0,
        }
    };
    let outcome =
        |check: &str, outcome: Outcome, count| OutcomeCount { check: check.into(), outcome: outcome.into(), count };
    GetStatusResponse {
        version: "0.1.0".into(),
        state: State::Ready.into(),
        uptime: Some(prost_types::Duration { seconds: 7300 + 2 * n as i64, nanos: 0 }),
        runtime_version: "1.32.0".into(),
        device_requested: "cpu".into(),
        device_in_use: "CPUExecutionProvider".into(),
        models: roles
            .iter()
            .map(|role| ModelStatus {
                role: (*role).into(),
                sha256: "ab".repeat(32),
                provider: "CPUExecutionProvider".into(),
                sessions: 2,
                queued: if *role == "face_detector" { 3 } else { 0 },
                ..ModelStatus::default()
            })
            .collect(),
        checks: vec![CheckStatus {
            name: "face_match".into(),
            calibration_sha256: "cd".repeat(32),
            ..CheckStatus::default()
        }],
        running: 4,
        waiting: 2,
        max_running: 4,
        max_waiting: 256,
        requests_total: 1000 + 30 * n,
        refused_total: 8 + 4 * n,
        resident_bytes: 512 << 20,
        decoder_resident_bytes: 90 << 20,
        callers: vec![
            CallerStatus {
                uid: 990,
                policy: "orchestrator".into(),
                connections: 3,
                running: 5,
                requests_total: 1000 + 24 * n,
                ..CallerStatus::default()
            },
            CallerStatus {
                uid: 4_294_967_294,
                policy: "default".into(),
                connections: 2,
                running: 1,
                requests_total: 30 + 6 * n,
                malformed_total: 30 + 6 * n,
                refused_total: [("malformed_burst".into(), 8 * n), ("max_bytes".into(), 1 + n)].into(),
                pause_ms: 1500.0,
                ..CallerStatus::default()
            },
        ],
        activity: Some(Activity {
            process_id: 4242,
            config_sha256: "0123456789abcdef".repeat(4),
            connections: 5,
            live_sessions: 1,
            max_live_sessions: 256,
            threads: 44,
            open_files: 61,
            cpu_seconds: 100.0 + 3.0 * n as f64,
            audit: AuditState::Writing.into(),
            rpcs: vec![
                rpc("DetectFaces", &[("OK", 200 + 6 * n)], timing(32, 200 + 6 * n, 0.02)),
                rpc("GetStatus", &[("OK", 50 + n)], timing(4, 50 + n, 0.0002)),
                rpc(
                    "Verify",
                    &[("OK", 990 + 20 * n), ("RESOURCE_EXHAUSTED", 10 + 4 * n)],
                    timing(44, 1000 + 24 * n, 0.2),
                ),
            ],
            errors: vec![
                ErrorCount { code: "RESOURCE_EXHAUSTED".into(), reason: "OVERLOADED".into(), count: 8 + 4 * n },
                ErrorCount { code: "INVALID_ARGUMENT".into(), reason: "IMAGE_TRUNCATED".into(), count: 2 },
            ],
            outcomes: vec![
                outcome("face_match", Outcome::Pass, 900 + 18 * n),
                outcome("face_match", Outcome::Fail, 100 + 2 * n),
                outcome("age_estimation", Outcome::Review, 40),
            ],
            admission_wait: timing(16, 1000 + 20 * n, 0.001),
            stages: vec![
                StageActivity { stage: "decode".into(), time: timing(26, 2000 + 40 * n, 0.01) },
                StageActivity { stage: "detect".into(), time: timing(30, 2000 + 40 * n, 0.02) },
                StageActivity { stage: "embed".into(), time: timing(36, 2000 + 40 * n, 0.05) },
            ],
            models: roles.iter().enumerate().map(model).collect(),
        }),
        ..GetStatusResponse::default()
    }
}

pub fn first() -> GetStatusResponse {
    answer(0)
}

pub fn second() -> GetStatusResponse {
    answer(1)
}
