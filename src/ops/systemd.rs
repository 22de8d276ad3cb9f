//! Tells the service manager how far the daemon is (`sd_notify(3)`), and that it still works (its watchdog).
//!
//! Called by `vouchd` and by what serves and reloads. Does nothing where `NOTIFY_SOCKET` is not set, that is, outside systemd.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon has said that it stops: a reload that ends in the meantime must not say that it is ready.
static IS_STOPPING: AtomicBool = AtomicBool::new(false);

/// The socket is there and models are warm: `Type=notify` units count as started now, or as reloaded.
pub fn ready() {
    if IS_STOPPING.load(Ordering::Relaxed) {
        return;
    }
    notify(&[NotifyState::Ready, NotifyState::Status("ready")]);
}

/// Models and calibrations are read anew; requests go on.
pub fn reloading() {
    if IS_STOPPING.load(Ordering::Relaxed) {
        return;
    }
    let now = NotifyState::monotonic_usec_now();
    let mut states = vec![NotifyState::Reloading, NotifyState::Status("reloading: requests go on")];
    // `Type=notify-reload` asks for the time; other types do not miss it.
    states.extend(now.ok());
    notify(&states);
}

/// No new requests are taken; running ones finish.
pub fn stopping() {
    IS_STOPPING.store(true, Ordering::Relaxed);
    notify(&[NotifyState::Stopping, NotifyState::Status("draining: running requests finish")]);
}

/// Lets the watchdog of the service manager, if it has one, hear three times in each of its periods that the daemon works, as long as `stalled_for`, how
/// long there has been work without progress, is shorter than a period. Runs on the runtime that serves requests, so that one that hangs is
/// noticed too. `status` is told along.
pub async fn feed_watchdog(stalled_for: impl Fn() -> Duration, status: impl Fn() -> String) {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) else { return };
    let mut pause = tokio::time::interval(period / 3);
    let mut is_told = false;
    loop {
        pause.tick().await;
        let stalled = stalled_for();
        if stalled < period {
            notify(&[NotifyState::Watchdog, NotifyState::Status(&status())]);
            is_told = false;
        } else if !is_told {
            tracing::error!(seconds = stalled.as_secs(), "a model makes no progress: the watchdog is not fed");
            is_told = true;
        }
    }
}

fn notify(states: &[NotifyState]) {
    // The daemon works without a service manager that listens, so this is not worth stopping for.
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be notified");
    }
}
