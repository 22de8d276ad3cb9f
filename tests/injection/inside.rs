//! Panics inside of the daemon, at the points of `vouch::ops::faults`: in a stage, in a worker, in async code, and while a lock is held.
//!
//! Four requests are under way each time. One of them, and only one, ends with INTERNAL; the others get their right results, and so does what comes after.

use std::fs;
use std::time::{Duration, Instant};

use tonic::Code;
use vouch::ops::faults::POINTS;

use super::stand::{DEADLINE, HANGS, Setting, Stand, end_of, verify};
use super::{Fault, Inject, Row, decoders, models};
use crate::common::decoders::decoders_of;

pub fn all() -> Vec<Fault> {
    let fault = |name, inject| Fault { name, on: Setting::Plain, inject };
    vec![
        fault("panic in a check", (|stand, row| in_one_request(stand, row, "check")) as Inject),
        fault("panic while a picture is decoded", |stand, row| in_one_request(stand, row, "decode")),
        fault("panic in a handler, lock of the door held", |stand, row| in_one_request(stand, row, "door")),
        fault("panic of who asks a model, lock of its queue held", |stand, row| in_one_request(stand, row, "queue")),
        fault("panic of a model's worker beside its run", |stand, row| in_one_request(stand, row, "worker")),
        fault("panic of what tells events", |stand, row| in_one_request(stand, row, "events")),
        fault("panic of the audit log's thread", in_the_audit_log),
        fault("panic of the audit log's thread at rest", in_the_audit_log_at_rest),
        fault("panic of the thread that starts decoders", in_the_starter),
        fault("panic in a reload", in_a_reload),
    ]
}

/// Has the next who comes by a point panic.
fn arm(stand: &Stand, point: &str) {
    assert!(POINTS.contains(&point));
    fs::write(stand.path("faults").join(point), "").unwrap();
}

fn has_fired(stand: &Stand, point: &str) -> bool {
    !stand.path("faults").join(point).exists()
}

/// Four verifications at once; how each ended, `None` for a right result.
fn verifications(stand: &Stand, row: &mut Row) -> Vec<Option<tonic::Status>> {
    let (client, pictures) = (stand.client(), stand.pictures.clone());
    let all: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, request) = (client.clone(), pictures.verification());
            stand.runtime.spawn(async move { tokio::time::timeout(DEADLINE, verify(&mut client, request)).await })
        })
        .collect();
    let mut ends = Vec::new();
    for one in all {
        match stand.runtime.block_on(one).unwrap() {
            Err(_) => row.lost.push(HANGS.into()),
            Ok(Ok(known)) => {
                row.end("OK");
                row.expect(known == stand.known, || "another answer beside a panic".into());
                ends.push(None);
            }
            Ok(Err((status, known))) => {
                row.end(end_of(&status));
                // What was told before is right.
                row.expect(known.iter().all(|(check, found)| stand.known.get(check) == Some(found)), || {
                    format!("another answer before a panic: {known:?}")
                });
                ends.push(Some(status));
            }
        }
    }
    ends
}

fn in_one_request(stand: &mut Stand, row: &mut Row, point: &str) {
    let told_before = stand.journal().matches("panic").count();
    arm(stand, point);
    let ends = verifications(stand, row);
    row.expect(has_fired(stand, point), || format!("nobody came by {point}"));
    let errors: Vec<_> = ends.iter().flatten().collect();
    row.expect(errors.len() == 1 && errors[0].code() == Code::Internal, || format!("the ends of four: {errors:?}"));
    for status in errors {
        // An id and nothing of what went wrong.
        row.expect(status.message().starts_with("internal error ") && status.message().len() < 80, || {
            format!("the caller is told {:?}", status.message())
        });
    }
    row.expect(stand.journal().matches("panic").count() > told_before, || {
        "the journal does not tell of the panic".into()
    });
    row.expect(!stand.journal().contains("a test wanted this"), || "the journal has the panic's text".into());
}

/// Whose records were being written cannot be answered; a second later the log is open again, and its chain is whole.
fn in_the_audit_log(stand: &mut Stand, row: &mut Row) {
    arm(stand, "audit");
    let ends = verifications(stand, row);
    row.expect(has_fired(stand, "audit"), || "nobody came by audit".into());
    let errors: Vec<_> = ends.iter().flatten().map(end_of).collect();
    row.expect(!errors.is_empty() && errors.iter().all(|end| end == "UNAVAILABLE (AUDIT_UNAVAILABLE)"), || {
        format!("the ends of four: {errors:?}")
    });
    expect_open_again(stand, row);
}

/// It was: the thread ended, no record was written any more, and the log did not count as broken.
fn in_the_audit_log_at_rest(stand: &mut Stand, row: &mut Row) {
    expect_fired_at_rest(stand, row, "tick");
    expect_open_again(stand, row);
}

/// It was: the kernel ended all decoder processes with their thread, and none could be started.
fn in_the_starter(stand: &mut Stand, row: &mut Row) {
    let before = decoders_of(stand.child.id());
    expect_fired_at_rest(stand, row, "starter");
    std::thread::sleep(Duration::from_millis(100));
    let now = decoders_of(stand.child.id());
    row.expect(now == before && !now.is_empty(), || format!("{} decoders before, {} after", before.len(), now.len()));
    decoders::killed_at_rest(stand, row);
}

fn expect_fired_at_rest(stand: &Stand, row: &mut Row, point: &str) {
    arm(stand, point);
    let until = Instant::now() + Duration::from_secs(10);
    while !has_fired(stand, point) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    row.expect(has_fired(stand, point), || format!("nobody came by {point}"));
}

fn expect_open_again(stand: &Stand, row: &mut Row) {
    let until = Instant::now() + Duration::from_secs(10);
    let (client, pictures) = (stand.client(), stand.pictures.clone());
    while let Err((status, _)) = stand.runtime.block_on(verify(&mut client.clone(), pictures.verification())) {
        if Instant::now() > until || status.code() != Code::Unavailable {
            return row.lost.push(format!("the log is not opened again: {status:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    row.end("OK");
}

fn in_a_reload(stand: &mut Stand, row: &mut Row) {
    let bystander = stand.bystander();
    let refused = |stand: &Stand| stand.count("vouch_reloads_total{result=\"refused\"}");
    let before = refused(stand);
    arm(stand, "reload");
    let end = models::reload(stand);
    row.expect(has_fired(stand, "reload") && end == "INTERNAL", || format!("a reload that panics: {end}"));
    // Counted after the service manager was told that it is over.
    row.expect(refused(stand) == before + 1, || "a reload that panics is not told as over".into());
    row.end(end);
    let end = models::reload(stand);
    row.expect(end == "OK", || format!("the next reload: {end}"));
    row.end(end);
    bystander.leave(stand, row);
}
