//! What the daemon needs of its host: logging, metrics, the service manager, its own process.
//!
//! Called by `vouchd` and by the status RPC. Nothing here knows of requests or models.

pub mod counts;
pub mod faults;
pub mod logging;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
pub mod process;
pub mod systemd;
pub mod traces;
