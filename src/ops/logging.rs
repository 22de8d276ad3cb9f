//! Log lines to standard error: for a person on a terminal, JSON otherwise.
//!
//! Called once by `vouchd`. Log lines must hold no picture and no personal field. Callers see to that for what vouch writes;
//! here, libraries are held at `warn` whatever the level, since the lower levels of an HTTP library print what passes, and the
//! panic hook leaves the payload of a panic out, since its text may quote data. Left out: journald's own protocol; the journal
//! takes standard error.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Installs the subscriber and the panic hook. `traces` hears of spans, which no log line tells.
///
/// # Errors
/// If a subscriber is installed already.
pub fn init(config: &LogConfig, traces: Option<Box<dyn Layer<Registry> + Send + Sync>>) -> Result<(), TryInitError> {
    let terminal = std::io::stderr().is_terminal();
    let human = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if human {
        // https://no-color.org: any value that is not empty.
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        layer.with_ansi(colour).boxed()
    } else {
        layer.json().flatten_event(true).with_ansi(false).boxed()
    };
    tracing_subscriber::registry().with(traces).with(layer.with_filter(targets(config.level))).try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // `vouch` covers the library's modules, `vouch::…`, and the daemon's own target `vouchd`: targets match by prefix.
    // Anchors of the audit log are information that must reach the journal whatever the level.
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("vouch", level)
        .with_target("vouch::audit", level.max(LevelFilter::INFO))
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(thread = thread.name().unwrap_or("unnamed"), location, "panic");
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn libraries_stay_at_warn_whatever_the_level() {
        let targets = targets(LogLevel::Trace);
        assert!(targets.would_enable("vouch::api", &Level::TRACE));
        assert!(targets.would_enable("vouchd", &Level::TRACE));
        assert!(targets.would_enable("h2::codec", &Level::WARN));
        assert!(!targets.would_enable("h2::codec", &Level::INFO));
    }

    #[test]
    fn a_level_above_warn_holds_for_libraries_too() {
        let targets = targets(LogLevel::Error);
        assert!(!targets.would_enable("h2::codec", &Level::WARN));
        assert!(!targets.would_enable("vouch::api", &Level::WARN));
        assert!(targets.would_enable("vouch::audit", &Level::INFO), "anchors must reach the journal");
    }
}
