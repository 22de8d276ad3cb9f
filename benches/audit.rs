//! The audit log alone: what a record costs with each way to put it on the disk, by one caller and by sixteen, and how fast a log is verified.
//!
//! `cargo bench --bench audit`; `TMPDIR` chooses the disk. That every edit is found is tested: `cargo nextest run --test audit_edits --no-capture` prints the table.

#[path = "../tests/common/edits.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod edits;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use vouch::audit::AuditLog;
use vouch::audit::record::{Actor, Draft, Loaded, Medium};
use vouch::audit::verify::verify_dir;
use vouch::config::{AuditConfig, AuditSync, Config};

/// Records of each measurement.
const RECORDS: usize = 2000;

/// A selfie of a phone, made small by the caller.
const MEDIUM_BYTES: usize = 300_000;

fn draft(medium: &Bytes) -> Draft {
    let mut draft = Draft::new("MatchFaces", "0123456789abcdef".into(), Actor::default(), SystemTime::now());
    draft.asked = vec!["face_match"];
    if !medium.is_empty() {
        draft.media = vec![Arc::new(Medium::new("probe", medium.clone()))];
    }
    draft
}

/// Records a second, and the median and the 99th percentile of the time that a caller waits for one.
fn measure(dir: &Path, sync: AuditSync, callers: usize, medium: &Bytes) -> (f64, Duration, Duration) {
    let config = AuditConfig { dir: Some(dir.to_owned()), sync, ..Config::default().audit };
    let log = AuditLog::start(&config, "0".repeat(64), Loaded::default()).unwrap().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (log, medium) = (Arc::clone(&log), medium.clone());
            runtime.spawn(async move {
                let mut times = Vec::new();
                for _ in 0..RECORDS / callers {
                    let asked = Instant::now();
                    log.begin();
                    log.record(draft(&medium)).await.unwrap();
                    times.push(asked.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times: Vec<Duration> = tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    log.stop();
    times.sort();
    (rate, times[times.len() / 2], times[times.len() * 99 / 100])
}

fn main() {
    println!("{:<10}{:>8}{:>14}{:>14}{:>14}{:>14}", "sync", "callers", "medium bytes", "records/s", "median", "p99");
    for (name, sync) in [("each", AuditSync::Each), ("seconds", AuditSync::Seconds)] {
        for callers in [1, 16] {
            for medium in [Bytes::new(), Bytes::from(vec![7; MEDIUM_BYTES])] {
                let folder = tempfile::tempdir().unwrap();
                let (rate, median, p99) = measure(folder.path(), sync, callers, &medium);
                println!("{name:<10}{callers:>8}{:>14}{rate:>14.0}{median:>14.1?}{p99:>14.1?}", medium.len());
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    edits::write_log(folder.path(), 20_000);
    let bytes: usize = edits::read_files(folder.path()).iter().map(|(_, content)| content.len()).sum();
    let started = Instant::now();
    let report = verify_dir(folder.path(), &[]).unwrap();
    assert!(report.is_whole());
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "verified: {} records, {} bytes a record, {:.0} records/s",
        report.records,
        bytes as u64 / report.records,
        report.records as f64 / seconds
    );
}
