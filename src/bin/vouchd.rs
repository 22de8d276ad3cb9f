//! The daemon: arguments, configuration, logging, lock, decoders, models, audit log, service, drain, in this order.
//!
//! The socket's place is reserved first, so that a second daemon fails at once, but the socket appears only after each model has a
//! warm session, so that who can connect is also answered; under socket activation callers wait in the meantime. Whatever prevents the
//! start is one line on standard error per problem, and an exit code of `vouch::error::exit`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use vouch::api::callers::Callers;
use vouch::api::listener::{Access, BindError, Reservation, group_ids};
use vouch::api::metrics;
use vouch::api::reload::{Reloader, loaded};
use vouch::api::server::{ServeError, serve};
use vouch::api::service::VerificationService;
use vouch::audit::{AuditLog, OpenError};
use vouch::cli::vouchd::Args;
use vouch::config::{self, Config, ConfigError, Flags, MetricsConfig, Principal};
use vouch::decoders::{self, Decoders};
use vouch::error::exit;
use vouch::ops::metrics::{Exporter, install};
use vouch::ops::{logging, process, systemd, traces};
use vouch::pipeline::{Engine, EngineSlot, LoadError};

/// Of a decoder process: its socket, its memory, and what the kernel tells of that.
const DESCRIPTORS_OF_A_DECODER: usize = 3;

/// Of the sockets, the log, the runtime, connections to the metrics, and those that are kept spare.
const OTHER_DESCRIPTORS: usize = 64;

fn main() -> ExitCode {
    // Before anything else: a decoder process has no configuration, no log and no models.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == decoders::process::ARGUMENT) {
        return decoders::process::run();
    }
    process::turn_telemetry_off();
    process::bound_kept_memory();
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                eprintln!("vouchd: {line}");
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
    let Args { socket, pack, calibration, device, log, .. } = args;
    let flags = Flags { socket, pack, calibration, device, log };
    let environment: Vec<(String, String)> = environment.collect();
    let file = args.config.clone();
    let read = move || config::load(file.as_deref(), environment.clone(), &flags);
    let read_config = read()?;
    read_config.check_features()?;
    if args.check_config {
        Access::resolve(&read_config.config.socket)?;
        Callers::resolve(&read_config.config)?;
        find_group_of(&read_config.config.metrics)?;
        // A reader that has gone away is no fault of the configuration.
        let _ = write!(std::io::stdout(), "{read_config}");
        return Ok(());
    }
    let config = read_config.config;
    let (traces, flush_traces) = traces::start(&config.traces).context("traces cannot be sent")?;
    logging::init(&config.log, traces).context("logging cannot be set up")?;
    if !args.allow_core_dumps {
        process::disable_core_dumps().context("core dumps cannot be disabled")?;
    }
    let reservation = Reservation::take(&config.socket)?;
    let callers = Callers::resolve(&config)?;
    find_group_of(&config.metrics)?;
    let socket = config.metrics.own_socket();
    let socket = socket.map(|socket| Reservation::take_own(&socket)).transpose()?;
    let loopback = config.metrics.listen.map(metrics::Place::Loopback);
    let of_metrics: Vec<_> = socket.map(metrics::Place::Socket).into_iter().chain(loopback).collect();
    // Before anything is counted.
    let (counts, exporter) = install(!of_metrics.is_empty()).context("nothing can be counted")?;
    let cores = process::available_cores();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), cores, "starting");

    // Before there is a socket to connect to: whoever can connect finds decoders and warm models.
    let decoders = Decoders::start(&config, cores).context(NO_DECODERS)?;
    check_descriptors(&config, decoders.processes());
    let engine = EngineSlot::new(Engine::load(&config, decoders, cores)?);
    let audit = AuditLog::start(&config.audit, config.sha256(), loaded(&engine.current()))?;
    let reloader = Reloader::new(
        Arc::clone(&engine),
        reservation.access(),
        Arc::clone(&callers),
        audit.clone(),
        config.clone(),
        cores,
        Box::new(read),
    );
    let mut services = RoutesBuilder::default();
    let max_duration = Duration::from_secs(config.limits.max_request_seconds);
    services.add_service(VerificationService::server(
        Arc::clone(&engine),
        Arc::clone(&callers),
        counts,
        config.limits.max_message_bytes,
        max_duration,
    ));
    let draining = CancellationToken::new();

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.spawn({
        let (engine, draining) = (Arc::clone(&engine), draining.clone());
        async move {
            draining.cancelled().await;
            engine.current().admission.drain();
        }
    });
    if let Some(exporter) = exporter {
        for place in of_metrics {
            let (engine, callers) = (Arc::clone(&engine), Arc::clone(&callers));
            runtime.block_on(metrics::serve(place, exporter.clone(), engine, callers))?;
        }
        runtime.spawn(gather(exporter));
    }
    runtime.spawn(give_back_memory(Arc::clone(&engine)));
    runtime.spawn({
        let (engine, of_status) = (Arc::clone(&engine), Arc::clone(&engine));
        let status = move || {
            let door = of_status.current().admission.status();
            let state = if door.draining { "draining" } else { "ready" };
            format!("{state}: {} running, {} waiting, {} requests so far", door.running, door.waiting, door.requests)
        };
        systemd::feed_watchdog(move || engine.current().registry.stalled_for(), status)
    });
    let lost = runtime.spawn(end_without_device(Arc::clone(&engine), draining.clone()));
    let result = runtime.block_on(serve(
        &config,
        reservation,
        services,
        Arc::clone(&reloader),
        callers,
        audit.clone(),
        draining,
    ));
    engine.current().registry.end_loading();
    runtime.block_on(reloader.ended());
    // Work that did not finish within the drain is not waited for.
    let is_lost = lost.is_finished();
    runtime.shutdown_background();
    if let Some(audit) = audit {
        audit.stop();
    }
    flush_traces();
    result?;
    anyhow::ensure!(!is_lost, "a model has lost its device and could not be made anew for {DEVICE_PATIENCE:?}");
    Ok(())
}

/// Says at the start what would otherwise show under load alone: callers turned away before there are as many as may be.
fn check_descriptors(config: &Config, decoders: usize) {
    let limit = process::raise_descriptor_limit().unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        u64::MAX
    });
    let wanted = (config.limits.max_connections + DESCRIPTORS_OF_A_DECODER * decoders + OTHER_DESCRIPTORS) as u64;
    if limit < wanted {
        tracing::warn!(limit, wanted, "fewer files may be open than limits.max_connections needs: raise LimitNOFILE=");
    }
}

/// Apart from taking the socket, which would name the key of the other one.
fn find_group_of(metrics: &MetricsConfig) -> Result<(), BindError> {
    let group: Vec<_> = metrics.group.clone().map(Principal::Name).into_iter().collect();
    group_ids(&group, "metrics.group").map(drop)
}

/// Said before the reason.
const NO_DECODERS: &str = "decoders.isolated = true, but there can be no confined decoder process (false lets vouchd decode in its own process)";

/// Now and then, if there were requests in between. A longer pause keeps more (some 10 MB for each second of full load on two
/// cores), a shorter one costs more fresh pages.
async fn give_back_memory(engine: Arc<EngineSlot>) {
    let mut pause = tokio::time::interval(Duration::from_secs(5));
    // Once more after the last activity: models rest a second later, and what they give back shall go too.
    let (mut seen, mut was_active) = (0, false);
    loop {
        pause.tick().await;
        let status = engine.current().admission.status();
        let is_active = status.requests != seen || status.running > 0;
        if is_active || was_active {
            // It fails only when the runtime is going away.
            let _ = tokio::task::spawn_blocking(process::give_back_free_memory).await;
        }
        (seen, was_active) = (status.requests, is_active);
    }
}

/// Now and then, whether or not somebody reads the metrics.
async fn gather(exporter: Exporter) {
    let mut pause = tokio::time::interval(Duration::from_secs(5));
    loop {
        pause.tick().await;
        exporter.gather();
    }
}

/// How long a model may be without any session before the daemon ends itself.
const DEVICE_PATIENCE: Duration = Duration::from_secs(60);

/// Returns when a model has been without its device for too long, having begun the drain: some faults of a GPU stay with the process that saw them, and the
/// service manager's next one finds the device whole, or falls back.
async fn end_without_device(engine: Arc<EngineSlot>, draining: CancellationToken) {
    let mut pause = tokio::time::interval(Duration::from_secs(5));
    loop {
        pause.tick().await;
        if engine.current().registry.unable_for().is_some_and(|time| time > DEVICE_PATIENCE) {
            tracing::error!("a model has lost its device for good: the daemon ends, to be started anew");
            return draining.cancel();
        }
    }
}

/// The code of `vouch::error::exit` for what prevented the start.
fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return match error {
            ConfigError::File { .. } => exit::NO_INPUT,
            ConfigError::Invalid(_) => exit::CONFIG,
        };
    }
    if let Some(error) = error.downcast_ref::<LoadError>() {
        return error.exit_code();
    }
    if error.downcast_ref::<decoders::StartError>().is_some() {
        return exit::CONFIG;
    }
    if let Some(error) = error.downcast_ref::<OpenError>() {
        return error.exit_code();
    }
    match error.downcast_ref::<ServeError>() {
        Some(ServeError::Bind(error)) => error.exit_code(),
        Some(ServeError::Start(_) | ServeError::Reflection(_) | ServeError::Ended(_)) => exit::SOFTWARE,
        None => error.downcast_ref::<BindError>().map_or(exit::SOFTWARE, BindError::exit_code),
    }
}
