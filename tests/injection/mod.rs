//! Faults and hostile callers for the real daemon, each with the daemon's state before and after compared.
//!
//! `tests/faults.rs` injects each once; `benches/faults.rs` injects them again and again, sends malformed inputs by the thousand, and prints the table of docs/security.md; `benches/soak.rs` uses some of
//! them while it loads the daemon. A [`Fault`] is one line of the table. What counts as *lost*: a request that gets neither its result nor a clear error by its deadline, or one of a bystander that does
//! not get its right result.

#![allow(dead_code, reason = "each target uses a part of it")]

pub mod callers;
pub mod decoders;
pub mod host;
pub mod inputs;
#[cfg(feature = "faults")]
pub mod inside;
pub mod models;
pub mod restart;
pub mod stand;
pub mod wire;

use std::collections::BTreeMap;

use stand::{Setting, Stand};

/// Does something to a daemon once, and notes what came of it.
pub type Inject = fn(&mut Stand, &mut Row);

/// What is done to a daemon.
pub struct Fault {
    pub name: &'static str,
    /// The daemon that it is done to.
    pub on: Setting,
    pub inject: Inject,
}

/// A line of the table.
#[derive(Debug, Default)]
pub struct Row {
    pub injected: u64,
    /// Injections after which the daemon was what it was before.
    pub survived: u64,
    /// What a daemon that survives must not do, in words.
    pub lost: Vec<String>,
    /// Ends of the daemon that nobody wanted.
    pub crashes: u64,
    /// How requests ended, bystanders' too.
    pub ends: BTreeMap<String, u64>,
}

impl Row {
    pub fn end(&mut self, how: impl Into<String>) {
        *self.ends.entry(how.into()).or_default() += 1;
    }

    /// Notes a loss unless `is_well`.
    pub fn expect(&mut self, is_well: bool, otherwise: impl FnOnce() -> String) {
        if !is_well {
            self.lost.push(otherwise());
        }
    }

    pub fn is_well(&self) -> bool {
        self.lost.is_empty() && self.crashes == 0 && self.survived == self.injected
    }

    /// How requests ended, the most frequent end first.
    pub fn ends(&self) -> String {
        let mut ends: Vec<_> = self.ends.iter().collect();
        ends.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        ends.into_iter().map(|(end, count)| format!("{count} {end}")).collect::<Vec<_>>().join(", ")
    }
}

/// All of them, those of one setting beside each other.
pub fn all() -> Vec<Fault> {
    use Setting::{Activated, Clock, Decoders, Endless, Failing, Hurried, Narrow, Plain, ReadOnly};
    let fault = |name, on, inject| Fault { name, on, inject };
    #[allow(unused_mut, reason = "the feature adds some")]
    let mut all = vec![
        fault("out of descriptors, callers", Plain, host::out_of_descriptors as Inject),
        fault("out of descriptors, metrics", Plain, host::out_of_descriptors_for_metrics),
        fault("200 connections that say nothing", Plain, callers::silent_crowd),
        fault("more connections than allowed", Plain, callers::too_many_connections),
        fault("random bytes, TLS, HTTP/1.1", Plain, callers::no_http2),
        fault("connection dropped in mid-upload", Plain, callers::dropped_upload),
        fault("stream reset in mid-upload", Plain, callers::reset_upload),
        fault("half closed after the request", Plain, callers::half_closed),
        fault("reads a byte at a time", Plain, callers::slow_reader),
        fault("never reads its answers", Plain, callers::never_reads),
        fault("8 million empty pictures in a message", Plain, callers::many_parts),
        fault("HTTP/2 rapid reset", Plain, callers::rapid_reset),
        fault("HTTP/2 CONTINUATION flood", Plain, callers::continuation_flood),
        fault("HTTP/2 PING flood, answers not read", Plain, callers::ping_flood),
        fault("HTTP/2 SETTINGS flood, answers not read", Plain, callers::settings_flood),
        fault("SIGKILL in mid-request, restart", Plain, restart::killed),
        fault("restart under load, socket held", Activated, restart::held_socket),
        fault("decoders killed at work", Decoders, decoders::killed_at_work),
        fault("decoders hang in a picture", Decoders, decoders::hanging),
        fault("decoders killed at rest", Decoders, decoders::killed_at_rest),
        fault("picture takes more memory than a decoder may", Decoders, decoders::too_much_memory),
        fault("half a message, then silence", Hurried, callers::half_a_message),
        fault("86 MB of messages that are never whole", Narrow, callers::too_much_on_its_way),
        fault("40 streams with frames of 7 MB", Narrow, callers::frames_of_many_streams),
        fault("model run fails in ONNX Runtime", Failing, models::failing_run),
        fault("model file cut off, reload", Failing, models::cut_file),
        fault("model run never ends", Endless, models::endless_run),
        fault("wall clock jumps by a day, to 1970, before 1970", Clock, host::clock_jumps),
        fault("audit log and cache become read-only", ReadOnly, host::read_only),
    ];
    #[cfg(feature = "faults")]
    all.splice(0..0, inside::all());
    all
}

/// Injects a fault some times, and compares the state of the daemon before and after.
pub fn inject(fault: &Fault, stand: &mut Stand, times: u64) -> Row {
    let mut row = Row::default();
    let before = stand.state();
    for _ in 0..times {
        row.injected += 1;
        let lost = row.lost.len();
        (fault.inject)(stand, &mut row);
        if let Some(status) = stand.ended() {
            row.crashes += 1;
            row.lost.push(format!("the daemon ended: {status}"));
            stand.restart();
            continue;
        }
        if fault.on != Setting::Endless {
            for difference in stand.differences(&before) {
                row.lost.push(difference);
            }
        }
        if row.lost.len() == lost {
            row.survived += 1;
        }
    }
    row
}
