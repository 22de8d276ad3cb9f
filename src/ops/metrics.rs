//! What the daemon counts, for the status and for Prometheus.
//!
//! The stages count with the macros of the crate `metrics` and the names below. [`Counts`] keep all of it in any case, for `GetStatus`; with `[metrics]` in the configuration the exporter counts
//! beside them. Called by `vouchd`, which installs the recorders, and by `api::metrics`, which serves [`Exporter::render`]. Labels take values from closed sets alone (RPCs, codes, stages, models, checks, outcomes, the first 128 users): nothing here grows with
//! the number of callers or requests. Sources: Prometheus, "Metric and label naming", "Exposition formats"; histograms are of the classic kind.

use metrics::{Recorder, Unit, counter, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::layers::FanoutBuilder;

use super::counts::Counts;

pub const REQUESTS: &str = "vouch_requests_total";
pub const REQUEST_SECONDS: &str = "vouch_request_seconds";
pub const ERRORS: &str = "vouch_errors_total";
pub const CHECKS: &str = "vouch_checks_total";
pub const STAGE_SECONDS: &str = "vouch_stage_seconds";
pub const ADMISSION_WAIT_SECONDS: &str = "vouch_admission_wait_seconds";
pub const MODEL_RUN_SECONDS: &str = "vouch_model_run_seconds";
pub const MODEL_WAIT_SECONDS: &str = "vouch_model_wait_seconds";
pub const MODEL_BATCH_ITEMS: &str = "vouch_model_batch_items";
pub const MODEL_RUN_FAILURES: &str = "vouch_model_run_failures_total";
pub const DECODER_FAILURES: &str = "vouch_decoder_failures_total";
pub const DECODER_PROCESSES: &str = "vouch_decoder_processes";
pub const DECODER_RESIDENT_BYTES: &str = "vouch_decoder_resident_bytes";
pub const AUDIT_BROKEN: &str = "vouch_audit_broken";
pub const RELOADS: &str = "vouch_reloads_total";
pub const TRACE_SPANS: &str = "vouch_trace_spans_total";

pub const CALLER_REQUESTS: &str = "vouch_caller_requests_total";
pub const CALLER_REFUSED: &str = "vouch_caller_refused_total";
pub const CALLER_MALFORMED: &str = "vouch_caller_malformed_total";
pub const CALLER_BYTES: &str = "vouch_caller_bytes_total";
pub const CALLER_RUNNING: &str = "vouch_caller_running";
pub const CALLER_CONNECTIONS: &str = "vouch_caller_connections";
pub const CALLER_PAUSE_SECONDS: &str = "vouch_caller_pause_seconds";

pub const RUNNING: &str = "vouch_running";
pub const WAITING: &str = "vouch_waiting";
pub const REFUSED: &str = "vouch_refused_total";
pub const CONNECTIONS: &str = "vouch_connections";
pub const LIVE_SESSIONS: &str = "vouch_live_sessions";
pub const DRAINING: &str = "vouch_draining";
pub const UPTIME_SECONDS: &str = "vouch_uptime_seconds";
pub const BUILD_INFO: &str = "vouch_build_info";
pub const MODEL_INFO: &str = "vouch_model_info";
pub const MODEL_SESSIONS: &str = "vouch_model_sessions";
pub const MODEL_SESSIONS_PLANNED: &str = "vouch_model_sessions_planned";
pub const MODEL_SESSIONS_LOST: &str = "vouch_model_sessions_lost_total";
pub const MODEL_QUEUED: &str = "vouch_model_queued";
pub const MODEL_STALLED_SECONDS: &str = "vouch_model_stalled_seconds";
pub const CHECK_CALIBRATED: &str = "vouch_check_calibrated";
pub const RESIDENT_BYTES: &str = "process_resident_memory_bytes";
pub const CPU_SECONDS: &str = "process_cpu_seconds_total";
pub const OPEN_FDS: &str = "process_open_fds";
pub const THREADS: &str = "process_threads";

/// Upper bounds in seconds: from a face in a small picture to a document on a busy host.
const SECONDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Upper bounds of batches.
const ITEMS: [f64; 6] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

/// Gives what was counted as text.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

/// Why nothing can be counted.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Exporter(#[from] BuildError),
    #[error("there is a recorder already")]
    InstalledBefore,
}

/// Installs the recorders of this process: that of [`Counts`], and the exporter where it is wanted. To be called once, before anything is counted.
///
/// # Errors
/// If there is a recorder already.
pub fn install(wants_exporter: bool) -> Result<(Counts, Option<Exporter>), InstallError> {
    let counts = Counts::default();
    let exporter = if wants_exporter {
        let (recorder, exporter) = exporter()?;
        set(FanoutBuilder::default().add_recorder(counts.clone()).add_recorder(recorder).build())?;
        Some(exporter)
    } else {
        set(counts.clone())?;
        None
    };
    describe();
    // A series that begins with 1 is no increase to Prometheus: those that alerts go by begin with 0.
    counter!(RELOADS, "result" => "refused").increment(0);
    counter!(ERRORS, "code" => "INTERNAL", "reason" => "INTERNAL").increment(0);
    for reason in ["ended", "forbidden", "slow", "protocol", "at_rest"] {
        counter!(DECODER_FAILURES, "reason" => reason).increment(0);
    }
    Ok((counts, exporter))
}

fn set(recorder: impl Recorder + Sync + 'static) -> Result<(), InstallError> {
    metrics::set_global_recorder(recorder).map_err(|_| InstallError::InstalledBefore)
}

fn exporter() -> Result<(PrometheusRecorder, Exporter), BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full(MODEL_BATCH_ITEMS.into()), &ITEMS)?
        .build_recorder();
    let exporter = Exporter(recorder.handle());
    Ok((recorder, exporter))
}

impl Exporter {
    /// The exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Gathers what was measured since the last time, which is kept one by one until then. To be called every few seconds, since nobody may ever ask.
    pub fn gather(&self) {
        self.0.run_upkeep();
    }
}

fn describe() {
    describe_counter!(REQUESTS, "Calls that have ended, by RPC and gRPC code; CANCELLED where the caller left.");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From a call's headers to the end of its answer.");
    describe_counter!(ERRORS, "Calls that were not processed, by gRPC code and the reason of their ErrorInfo.");
    describe_counter!(CHECKS, "Checks that were answered, by outcome.");
    describe_histogram!(STAGE_SECONDS, Unit::Seconds, "Time of the stages of the work on a picture.");
    describe_histogram!(ADMISSION_WAIT_SECONDS, Unit::Seconds, "Time until an admitted request had its place.");
    describe_histogram!(MODEL_RUN_SECONDS, Unit::Seconds, "Time of the runs of a model.");
    describe_histogram!(MODEL_WAIT_SECONDS, Unit::Seconds, "Time of an input in a model's queue.");
    describe_histogram!(MODEL_BATCH_ITEMS, "Inputs in a run.");
    describe_counter!(MODEL_RUN_FAILURES, "Runs that failed.");
    describe_counter!(DECODER_FAILURES, "Decoder processes that ended at a file or at rest, by reason.");
    describe_gauge!(DECODER_PROCESSES, "Decoder processes that there are.");
    describe_gauge!(DECODER_RESIDENT_BYTES, Unit::Bytes, "Resident memory of all decoder processes together.");
    describe_counter!(RELOADS, "Reloads, by result: done or refused.");
    describe_counter!(TRACE_SPANS, "Spans of traces, by result: sent, failed or dropped.");
    describe_gauge!(AUDIT_BROKEN, "1 while the audit log cannot be written; absent without an audit log.");
    describe_counter!(
        CALLER_REQUESTS,
        "Calls with media that a user has begun; users beyond the first 128 are `other`."
    );
    describe_counter!(CALLER_REFUSED, "Calls and connections of a user that its policy refused, by key of the policy.");
    describe_counter!(CALLER_MALFORMED, "Calls of a user that could not be read or were not allowed.");
    describe_counter!(CALLER_BYTES, Unit::Bytes, "Bytes of a user's requests.");
    describe_gauge!(CALLER_RUNNING, "Calls of a user that have begun and not ended.");
    describe_gauge!(CALLER_CONNECTIONS, "Connections of a user.");
    describe_gauge!(CALLER_PAUSE_SECONDS, Unit::Seconds, "How long a user has to pause yet after malformed requests.");
    describe_gauge!(RUNNING, "Requests that have a place.");
    describe_gauge!(WAITING, "Requests that wait for one.");
    describe_counter!(REFUSED, "Requests that got none.");
    describe_gauge!(CONNECTIONS, "Open connections, those of callers who are not allowed included.");
    describe_gauge!(LIVE_SESSIONS, "Sessions of active liveness.");
    describe_gauge!(DRAINING, "1 while the daemon drains.");
    describe_gauge!(UPTIME_SECONDS, Unit::Seconds, "Since the start.");
    describe_gauge!(BUILD_INFO, "Always 1; version, ONNX Runtime and provider.");
    describe_gauge!(MODEL_INFO, "Always 1; the model of each role.");
    describe_gauge!(MODEL_SESSIONS, "Sessions that can run the model.");
    describe_gauge!(MODEL_SESSIONS_PLANNED, "Sessions that there shall be.");
    describe_counter!(MODEL_SESSIONS_LOST, "Sessions lost to a fault of the device.");
    describe_gauge!(MODEL_QUEUED, "Inputs that wait for the model.");
    describe_gauge!(MODEL_STALLED_SECONDS, Unit::Seconds, "How long the model has had work without progress.");
    describe_gauge!(CHECK_CALIBRATED, "1 if the check has a calibration that fits the models, or decides by rule.");
    describe_gauge!(RESIDENT_BYTES, Unit::Bytes, "Resident memory.");
    describe_counter!(CPU_SECONDS, Unit::Seconds, "Processor time, user and system.");
    describe_gauge!(OPEN_FDS, "Open file descriptors.");
    describe_gauge!(THREADS, "Threads.");
}
