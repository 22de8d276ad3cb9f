//! Tells the service manager how far the daemon is (`sd_notify(3)`).
//!
//! Called by `vouchd`. Does nothing where `NOTIFY_SOCKET` is not set, that is, outside systemd. Left out: the watchdog and
//! reloading, which the daemon does not offer.

use sd_notify::NotifyState;

/// The socket is there and models are warm: `Type=notify` units count as started now.
pub fn ready() {
    notify(&[NotifyState::Ready, NotifyState::Status("ready")]);
}

/// No new requests are taken; running ones finish.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("draining: running requests finish")]);
}

fn notify(states: &[NotifyState]) {
    // The daemon works without a service manager that listens, so this is not worth stopping for.
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be notified");
    }
}
