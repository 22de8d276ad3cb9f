//! Serves on the socket until a signal, then drains.
//!
//! Called by `vouchd` with the services of `api/` once models are warm. Adds what every gRPC server should offer (health,
//! reflection), asks [`Callers`] for each call, counts it and begins its audit record, and asks [`Access`] before each request. SIGTERM and SIGINT drain: health says NOT_SERVING, no connection is
//! accepted any more, running requests finish within `drain_seconds`. A second signal ends at once. SIGHUP reloads.
//!
//! Left out: admission and deadlines of requests, which are the pipeline's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::body::Body;
use tonic::service::RoutesBuilder;
use tonic::service::interceptor::InterceptorLayer;
use tonic_health::ServingStatus;
use tower::Service;
use tower::util::MapResponseLayer;

use crate::api::audit::{AuditLayer, refuse_unrecorded};
use crate::api::callers::{Callers, Terms};
use crate::api::listener::{Accepting, Access, BindError, PeerIdentity, Reservation};
use crate::api::metrics::observe;
use crate::api::reload::{AdministrationService, Reloader, is_reload};
use crate::api::service::rpc_of;
use crate::api::status::stopped_body;
use crate::api::unwind::Caught;
use crate::audit::AuditLog;
use crate::audit::record::AskedBy;
use crate::config::Config;
use crate::error::Error;
use crate::ops::systemd;

/// Why serving did not start, or ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the server cannot start: {0}")]
    Start(#[from] io::Error),
    #[error("the reflection service cannot be built: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("the server ended on its own: {0}")]
    Ended(String),
}

/// Bytes of one message that may be on their way before the daemon has taken any of them. A picture of some megabytes then
/// needs a few round trips instead of the hundred of HTTP/2's default, 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// The same for all messages of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;

/// Requests that one connection may have open at once; the client holds further ones back. tonic reads a whole message before a
/// handler sees it; what all callers have begun to send is bounded by `max_arriving_bytes`, and what waits by `max_waiting_bytes`.
const MAX_STREAMS_PER_CONNECTION: u32 = 64;

/// What a request may take beyond `max_request_seconds` before it is ended here: requests end by their own deadline, and this catches those that never arrive whole.
const READING_GRACE: Duration = Duration::from_secs(5);

/// What a reload may take before its caller hears no more of it: engines for a GPU are built for a quarter of an hour.
const LONGEST_RELOAD: Duration = Duration::from_secs(3600);

/// A caller that says nothing for so long is asked whether it is there, and has so long to answer: one that was stopped, or that reads nothing, does not keep its connection for ever.
const ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a health check may ask for: the daemon as a whole, or its service.
const HEALTH_NAMES: [&str; 2] = ["", super::service::SERVICE_NAME];

/// Puts the socket in place, serves `services`, and returns when the drain is over. `draining` is cancelled when it begins, for
/// those who tell the state or refuse new work; cancelled from outside, it begins the drain as a signal does. `audit` gets the record of each call.
///
/// # Errors
/// [`ServeError`]; never for a connection or a request, and not if the drain had to be cut short, which is logged.
pub async fn serve(
    config: &Config,
    reservation: Reservation,
    mut services: RoutesBuilder,
    reloader: Arc<Reloader>,
    callers: Arc<Callers>,
    audit: Option<Arc<AuditLog>>,
    draining: CancellationToken,
) -> Result<(), ServeError> {
    services.add_service(AdministrationService::server(Arc::clone(&reloader)));
    let (mut health, health_service) = tonic_health::server::health_reporter();
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    services.add_service(health_service);
    let mut reflection = tonic_reflection::server::Builder::configure();
    for descriptors in [super::proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        reflection = reflection.register_encoded_file_descriptor_set(descriptors);
    }
    services.add_service(reflection.build_v1()?);

    let mut signals = Signals::new()?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let access = reservation.access();
    // `_file` holds the lock and removes the socket when this function ends, that is, after the drain.
    let Accepting { incoming, connections, file: _file } =
        reservation.listen()?.accept(config.limits.max_connections, Arc::clone(&callers))?;
    let stop_accepting = CancellationToken::new();
    let longest = Duration::from_secs(config.limits.max_request_seconds) + READING_GRACE;
    let router = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(ALIVE_TIMEOUT))
        .layer(tower::layer::layer_fn({
            let access = Arc::clone(&access);
            move |inner| Observing { inner, callers: Arc::clone(&callers), access: Arc::clone(&access) }
        }))
        .layer(AuditLayer { log: audit })
        .layer(InterceptorLayer::new(move |request| enforce(&access, request)))
        .layer(tower::layer::layer_fn(move |inner| Bounded { inner, longest }))
        .layer(MapResponseLayer::new(unreadable_as_input_error))
        .layer(tower::layer::layer_fn(Caught))
        .add_routes(services.routes());
    let mut server =
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, stop_accepting.clone().cancelled_owned()));
    systemd::ready();
    tracing::info!(socket = %config.socket.path.display(), "ready");

    loop {
        tokio::select! {
            () = signals.next() => break,
            () = draining.cancelled() => break,
            ended = &mut server => return Err(ServeError::Ended(format!("{ended:?}"))),
            _ = hang_up.recv() => {
                let reloader = Arc::clone(&reloader);
                // What came of it stands in the journal.
                tokio::spawn(async move { drop(reloader.reload(AskedBy::Signal).await) });
            }
        }
    }
    tracing::info!(connections = connections.count(), config.drain_seconds, "draining");
    systemd::stopping();
    draining.cancel();
    // Callers that watch health hear it first. Then the entry goes, which ends their streams: they would hold up the drain.
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::NotServing).await;
        health.clear_service_status(name).await;
    }
    stop_accepting.cancel();
    let drained = tokio::select! {
        ended = tokio::time::timeout(Duration::from_secs(config.drain_seconds), &mut server) => ended.is_ok(),
        () = signals.next() => false,
    };
    if drained {
        tracing::info!("stopped");
    } else {
        tracing::warn!(connections = connections.count(), "stopped before all requests had finished");
    }
    Ok(())
}

/// Counts each call, refused ones too, and refuses what the policy of its user does not give.
#[derive(Clone)]
struct Observing<S> {
    inner: S,
    callers: Arc<Callers>,
    access: Arc<Access>,
}

impl<S, B> Service<http::Request<Body>> for Observing<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let mut observer = observe(&mut request);
        let rpc = rpc_of(request.uri().path());
        // Whom the kernel does not name is refused by the access check.
        let peer = request.extensions().get::<PeerIdentity>();
        let begun = peer.map(|peer| self.callers.begin(peer, self.access.allowed(peer), rpc));
        match begun {
            None => {}
            Some(Ok(permit)) => {
                request.extensions_mut().insert(permit.terms());
                request = request.map(|body| permit.measure(body));
                observer.keep(permit);
            }
            Some(Err(error)) => {
                let refused = observer.watch(tonic::Status::from(error).into_http::<Body>());
                return Box::pin(async move { Ok(refused.map(Body::new)) });
            }
        }
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map(|response| observer.watch(response).map(Body::new)) })
    }
}

/// Ends calls that are not answered in time, as those are whose message never comes whole, which no handler sees. A reload of the operator's has time to load.
#[derive(Clone)]
struct Bounded<S> {
    inner: S,
    longest: Duration,
}

impl<S, A, B> Service<http::Request<A>> for Bounded<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    B: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        // Others are refused by it, and may not keep a message on its way for so long.
        let is_operator = request.extensions().get::<PeerIdentity>().is_some_and(PeerIdentity::is_operator);
        let longest = if is_operator && is_reload(request.uri().path()) { LONGEST_RELOAD } else { self.longest };
        let answer = tokio::time::timeout(longest, self.inner.call(request));
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Ok(tonic::Status::from(Error::DeadlineExceeded).into_http()))
        })
    }
}

/// tonic refuses a message over the limit before a handler sees it, with the code OUT_OF_RANGE, and one that is no message of the
/// contract with INTERNAL, both without details. Either is the caller's input, so it is told like every other such error.
fn unreadable_as_input_error<B: Default>(response: http::Response<B>) -> http::Response<B> {
    let Some(status) = tonic::Status::from_header_map(response.headers()) else { return response };
    if let Some(error) = stopped_body(&status) {
        // Told by the body of the request, and counted here.
        return tonic::Status::from(error).into_http();
    }
    let code = match status.code() {
        Code::OutOfRange => "MESSAGE_TOO_LARGE",
        // Our own errors have details.
        Code::Internal if status.details().is_empty() => "MESSAGE_MALFORMED",
        _ => return response,
    };
    tonic::Status::from(Error::invalid("", code, status.message())).into_http()
}

/// The peer's identity was put into the request by tonic, from `Connected`; without it nobody is let in.
fn enforce(access: &Arc<Access>, request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    match request.extensions().get::<PeerIdentity>() {
        Some(peer) if access.allowed(peer) => {}
        _ => return Err(Error::PermissionDenied.into()),
    }
    if request.extensions().get::<Terms>().is_some_and(|terms| !terms.allows) {
        return Err(Error::RpcNotAllowed.into());
    }
    refuse_unrecorded(&request)?;
    Ok(request)
}

/// SIGTERM of a service manager and SIGINT of a terminal mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_and_a_reload_of_the_operators_has_time() {
        let never = tower::service_fn(|_: http::Request<()>| std::future::pending::<Result<http::Response<()>, ()>>());
        let mut bounded = Bounded { inner: never, longest: Duration::from_secs(35) };
        let [operator, other] = [0, 12_001].map(|uid| PeerIdentity {
            uid,
            gid: 65_534,
            groups: [].into(),
            pid: None,
            hang_up: CancellationToken::new(),
        });
        for (rpc, peer, longest) in [
            ("Verification/Verify", &operator, Duration::from_secs(35)),
            ("Administration/Reload", &other, Duration::from_secs(35)),
            ("Administration/Reload", &operator, LONGEST_RELOAD),
        ] {
            let request = http::Request::builder().uri(format!("http://vouch/vouch.v1.{rpc}"));
            let began = tokio::time::Instant::now();
            let answer = bounded.call(request.extension(peer.clone()).body(()).unwrap()).await.unwrap();
            let status = tonic::Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(
                (status.code(), began.elapsed().as_secs()),
                (Code::DeadlineExceeded, longest.as_secs()),
                "{rpc}"
            );
        }
    }
}
