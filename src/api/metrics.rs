//! The metrics over HTTP: `GET /metrics` on a Unix socket of their own, or on a loopback address if the configuration names one.
//!
//! Called by `vouchd`. What is a state and not an event (load, models, process) is read from the engine when it is asked for. Also holds [`Observed`], which counts each call where it ends. Left
//! out: who may read; that is the matter of the socket's permissions, and there is nothing personal in it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics::{counter, gauge, histogram};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::net::Listener;
use tonic::Code;

use super::audit::TIMER_GRACE;
use super::callers::{Callers, Permit};
use super::listener::{BindError, Reservation, SocketFile};
use super::request::parse_timeout;
use super::service::rpc_of;
use crate::checks;
use crate::config::Rpc;
use crate::live;
use crate::ops::traces::Trace;
use crate::ops::{metrics as names, process};
use crate::pipeline::{Engine, EngineSlot};

/// Where metrics are read.
pub enum Place {
    Socket(Reservation),
    Loopback(SocketAddr),
}

/// Connections at once at each place; further ones wait. Whoever reads metrics reads them every few seconds.
const MAX_CONNECTIONS: usize = 16;

/// Longest connection.
const MAX_DURATION: Duration = Duration::from_secs(30);

/// Listens at one place, and serves there in the background until the runtime ends.
///
/// # Errors
/// If the socket cannot be put in place or the address not be bound.
pub async fn serve(
    place: Place,
    exporter: names::Exporter,
    engine: Arc<EngineSlot>,
    callers: Arc<Callers>,
) -> Result<(), BindError> {
    let answer = move |request: Request<Incoming>| {
        let answer = answer(&request, &exporter, &engine.current(), &callers);
        async move { answer }
    };
    match place {
        Place::Socket(reservation) => {
            let (listener, file) = reservation.listen()?.into_tokio()?;
            // The file goes with the listener, where the runtime ends.
            tokio::spawn(accept(listener, answer, file));
        }
        Place::Loopback(address) => {
            let failed = |cause| BindError::Address { address, cause };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            tokio::spawn(accept(listener, answer, None));
        }
    }
    Ok(())
}

async fn accept<L, F>(
    mut listener: L,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    _file: Option<SocketFile>,
) where
    L: Listener,
    L::Io: Send + Unpin + 'static,
    F: Future<Output = Result<Response<String>, http::Error>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, answer.clone(), place))),
            Err(error) => rest(&error).await,
        }
    }
}

/// Out of file descriptors, most likely: the next attempt would fail at once.
async fn rest(error: &std::io::Error) {
    tracing::warn!(%error, "a reader of metrics could not be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// One connection, whose place is free again when it ends, by itself or by force.
async fn connection<S, F>(stream: S, answer: impl Fn(Request<Incoming>) -> F, _place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Future<Output = Result<Response<String>, http::Error>>,
{
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    // How a reader ends it is no matter.
    let _ = tokio::time::timeout(MAX_DURATION, serving).await;
}

fn answer<B>(
    request: &Request<B>,
    exporter: &names::Exporter,
    engine: &Engine,
    callers: &Callers,
) -> Result<Response<String>, http::Error> {
    if (request.method(), request.uri().path()) != (&Method::GET, "/metrics") {
        return Response::builder().status(StatusCode::NOT_FOUND).body("only GET /metrics is here\n".into());
    }
    state(engine);
    callers.observe();
    Response::builder().header(CONTENT_TYPE, "text/plain; version=0.0.4").body(exporter.render())
}

/// Sets what is asked for and not counted.
fn state(engine: &Engine) {
    let door = engine.admission.status();
    gauge!(names::RUNNING).set(door.running as f64);
    gauge!(names::WAITING).set(door.waiting as f64);
    gauge!(names::DRAINING).set(f64::from(u8::from(door.draining)));
    gauge!(names::UPTIME_SECONDS).set(engine.started.elapsed().as_secs_f64());
    counter!(names::REFUSED).absolute(door.refused);
    gauge!(names::LIVE_SESSIONS).set(engine.live_sessions() as f64);
    let (registry, version) = (&engine.registry, env!("CARGO_PKG_VERSION"));
    let info = gauge!(names::BUILD_INFO, "version" => version, "runtime" => registry.runtime_version().to_owned(),
        "provider" => registry.provider().as_str());
    info.set(1.0);
    for model in registry.models() {
        let (status, role) = (model.status(), model.entry.role.name());
        gauge!(names::MODEL_SESSIONS, "role" => role).set(status.able as f64);
        gauge!(names::MODEL_SESSIONS_PLANNED, "role" => role).set(model.sessions as f64);
        gauge!(names::MODEL_QUEUED, "role" => role).set(status.queued as f64);
        gauge!(names::MODEL_STALLED_SECONDS, "role" => role).set(status.stalled_for.as_secs_f64());
        // One label set for each role: a reload brings another model under the same role, whose hash stands in the status and the audit.
        gauge!(names::MODEL_INFO, "role" => role, "provider" => model.provider.as_str()).set(1.0);
    }
    let undecided = engine.undecided();
    for check in checks::ALL.iter().map(|check| check.name()).chain([live::CHECK]) {
        let decides = !undecided.contains(&check);
        gauge!(names::CHECK_CALIBRATED, "check" => check).set(f64::from(u8::from(decides)));
    }
    let held = engine.reader.decoders.held();
    gauge!(names::DECODER_PROCESSES).set(held.processes as f64);
    gauge!(names::DECODER_RESIDENT_BYTES).set(held.resident_bytes as f64);
    if let Ok(usage) = process::usage() {
        gauge!(names::RESIDENT_BYTES).set(usage.resident_bytes as f64);
        counter!(names::CPU_SECONDS).absolute(usage.cpu.as_secs());
        gauge!(names::OPEN_FDS).set(usage.open_files as f64);
        gauge!(names::THREADS).set(usage.threads as f64);
    }
}

/// RPCs that work on no media.
pub const BESIDE: [&str; 5] = ["GetStatus", "Reload", "Check", "Watch", "ServerReflectionInfo"];

/// The last part of the path, if it is one of our RPCs or a health check; `other` for all else, since callers can send any path.
fn rpc(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    Rpc::ALL.into_iter().map(Rpc::name).chain(BESIDE).find(|known| *known == name).unwrap_or("other")
}

/// Counts the calls that pass through a service, and begins the trace of each that works on media: handlers find it in the extensions.
pub fn observe<B>(request: &mut Request<B>) -> Observer {
    let rpc = rpc(request.uri().path());
    let is_work = rpc_of(request.uri().path()).is_some_and(Rpc::takes_media);
    let trace = if is_work { Trace::begin(rpc, request.headers()) } else { Trace::default() };
    if trace.is_on() {
        request.extensions_mut().insert(trace.clone());
    }
    let wanted = request.headers().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    Observer { rpc, started: Instant::now(), wanted, code: None, permit: None, trace }
}

/// One call. Where it ends without having told its code, the caller has left.
pub struct Observer {
    rpc: &'static str,
    started: Instant,
    /// The caller's own limit.
    wanted: Option<Duration>,
    code: Option<Code>,
    permit: Option<Permit>,
    trace: Trace,
}

impl Observer {
    /// Ends a permit with the call.
    pub fn keep(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    fn hear(&mut self, headers: &HeaderMap) {
        if let Some(status) = tonic::Status::from_header_map(headers) {
            self.code = Some(status.code());
        }
    }

    /// Goes on counting in the body of the answer, whose trailers hold the code.
    pub fn watch<B>(mut self, response: Response<B>) -> Response<Observed<B>> {
        self.hear(response.headers());
        response.map(|body| Observed { body, observer: self, is_cut: false })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let is_late = self.wanted.is_some_and(|wanted| took + TIMER_GRACE >= wanted);
        let unheard = if is_late { Code::DeadlineExceeded } else { Code::Cancelled };
        let ended = self.code.unwrap_or(unheard);
        if let Some(permit) = self.permit.take() {
            permit.end(ended);
        }
        let code = super::status::code_name(ended);
        self.trace.answered(ended, code);
        counter!(names::REQUESTS, "rpc" => self.rpc, "code" => code).increment(1);
        histogram!(names::REQUEST_SECONDS, "rpc" => self.rpc).record(took);
    }
}

/// The body of an answer, which is counted when it ends. Long pieces of it are a part of what callers may have on its way until the transport has written them.
pub struct Observed<B> {
    body: B,
    observer: Observer,
    is_cut: bool,
}

impl<B> Observed<B> {
    fn hold(&mut self, data: Bytes) -> Frame<Bytes> {
        let held = match &self.observer.permit {
            Some(permit) => permit.conduct().hold_answer(data),
            None => Ok(data),
        };
        match held {
            Ok(data) => Frame::data(data),
            Err(error) => {
                self.is_cut = true;
                let mut trailers = HeaderMap::new();
                // Its texts are ours, and headers can hold them.
                let _ = tonic::Status::from(error).add_header(&mut trailers);
                self.observer.hear(&trailers);
                Frame::trailers(trailers)
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Observed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.is_cut {
            return Poll::Ready(None);
        }
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(polled.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(data) => self.hold(data),
                Err(frame) => {
                    frame.trailers_ref().into_iter().for_each(|trailers| self.observer.hear(trailers));
                    frame
                }
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.is_cut || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use tokio_util::sync::CancellationToken;

    use super::super::listener::PeerIdentity;
    use super::super::proto::DESCRIPTORS;
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_long_answer_has_its_share_until_it_is_written_and_ends_with_a_status_where_there_is_no_room() {
        let mut config = Config::default();
        config.limits.max_arriving_bytes = 150_000;
        let callers = Callers::resolve(&config).unwrap();
        let peer = PeerIdentity { uid: 0, gid: 0, groups: [].into(), pid: None, hang_up: CancellationToken::new() };
        let answer = || {
            let mut observer =
                observe(&mut Request::builder().uri("/vouch.v1.Verification/VerifyLive").body(()).unwrap());
            observer.keep(callers.begin(&peer, true, Some(Rpc::VerifyLive)).unwrap());
            observer.watch(Response::new("7".repeat(100_000))).into_body()
        };
        async fn frame(body: &mut Observed<String>) -> Option<Frame<Bytes>> {
            std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.map(Result::unwrap)
        }
        let unwritten = frame(&mut answer()).await.unwrap().into_data().unwrap();
        assert!(unwritten.len() == 100_000 && unwritten.iter().all(|byte| *byte == b'7'));
        let mut second = answer();
        let trailers = frame(&mut second).await.unwrap().into_trailers().unwrap();
        assert_eq!(tonic::Status::from_header_map(&trailers).unwrap().code(), Code::ResourceExhausted);
        assert!(second.is_end_stream() && frame(&mut second).await.is_none());
        drop(unwritten);
        assert!(frame(&mut answer()).await.unwrap().is_data());
    }

    #[test]
    fn every_rpc_of_the_contract_has_a_label_and_nothing_else_makes_one() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let methods: Vec<String> = files
            .iter()
            .flat_map(|file| file.service.iter().flat_map(|service| &service.method))
            .map(|method| method.name().to_owned())
            .collect();
        assert!(methods.len() >= 10);
        for method in methods {
            assert_eq!(rpc(&format!("/vouch.v1.Any/{method}")), method);
        }
        for foreign in ["", "/", "/vouch.v1.Verification/Nothing", "/a/b/c?d", "Verify2"] {
            assert_eq!(rpc(foreign), "other", "{foreign}");
        }
    }
}
