//! The audit record of a call, put together from the messages that pass.
//!
//! [`AuditLayer`] begins an [`Entry`] for each call that works on media and ends those that no handler has seen (callers who are not allowed, messages that are too
//! large). Handlers get it with their [`Call`](super::request::Call); `service` notes the request and the answer, so that an RPC's file knows nothing of the log unless
//! its media come in a stream. Whatever the end, there is exactly one record: who drops an entry without an end has recorded that the caller has gone.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_stream::Stream;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{Layer, Service};

use super::convert;
use super::listener::PeerIdentity;
use super::proto::{self, verify_event, verify_live_event};
use super::request::MAX_CLIENT_REFERENCE_BYTES;
use super::service::rpc_of;
use super::status::code_name;
use crate::audit::record::{Actor, CheckAnswer, Draft, End, Frames, Medium};
use crate::audit::{AuditLog, NotWritten, writer};
use crate::checks::{self, MediaKind};
use crate::error::{Error, Unavailable};
use crate::live;

/// How much earlier than ours another timer may end a call for the same deadline.
pub(super) const TIMER_GRACE: Duration = Duration::from_millis(5);

/// Frames from this size on are digested while others serve.
const LONG_FRAME_BYTES: usize = 1 << 20;

/// The record of one call; without an audit log it does nothing.
#[derive(Clone, Default)]
pub struct Entry(Option<Arc<Inner>>);

struct Inner {
    log: Arc<AuditLog>,
    begun: Instant,
    /// `None` once it was handed in.
    draft: Mutex<Option<Draft>>,
    /// A handler sees to the end.
    is_taken: AtomicBool,
    deadline: Mutex<Option<Instant>>,
}

impl Entry {
    fn new(log: &Arc<AuditLog>, operation: &str, peer: Option<&PeerIdentity>) -> Self {
        let actor = peer.map_or_else(Actor::default, |peer| Actor {
            uid: peer.uid,
            groups: std::iter::once(peer.gid)
                .chain(peer.groups.iter().copied().filter(|&gid| gid != peer.gid))
                .collect(),
            pid: peer.pid,
        });
        let draft = Draft::new(operation, convert::random_id(), actor, SystemTime::now());
        log.begin();
        Self(Some(Arc::new(Inner {
            log: Arc::clone(log),
            begun: Instant::now(),
            draft: Mutex::new(Some(draft)),
            is_taken: AtomicBool::new(false),
            deadline: Mutex::default(),
        })))
    }

    /// A handler takes the call, whose engine was loaded with settings of this hash, and will end its record.
    pub fn take(&self, deadline: Option<Instant>, config_sha256: &str) {
        self.note(|draft| draft.config_sha256 = Some(config_sha256.to_owned()));
        if let Some(inner) = &self.0 {
            inner.is_taken.store(true, Ordering::Relaxed);
            // The transport counts from the call's headers, the handler from when it has read the message.
            let deadline = deadline.map(|deadline| inner.begun + deadline.saturating_duration_since(Instant::now()));
            *inner.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
        }
    }

    /// Whether calls are refused because they could not be recorded.
    pub fn is_refused(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.log.refuses())
    }

    /// Adds something to the record.
    fn note(&self, add: impl FnOnce(&mut Draft)) {
        if let Some(inner) = &self.0
            && let Some(draft) = inner.draft.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            add(draft);
        }
    }

    /// Notes what a message says.
    pub fn note_message(&self, message: &impl Noted) {
        let mut media = Vec::new();
        self.note(|draft| {
            let known = draft.media.len();
            message.note(draft);
            media.extend(draft.media[known..].iter().cloned());
        });
        // Digests are computed beside the work, and by the log's own thread if it comes to need them first.
        if let Some(inner) = self.0.as_ref().filter(|_| !media.is_empty()) {
            let log = Arc::clone(&inner.log);
            tokio::task::spawn_blocking(move || {
                for medium in media {
                    medium.digest(log.salt());
                }
            });
        }
    }

    /// Notes a frame of a stream.
    pub fn frame(&self, data: &[u8]) {
        let Some(inner) = &self.0 else { return };
        let new = || Frames { count: 0, bytes: 0, running: inner.log.salt().running() };
        let note = || {
            self.note(|draft| {
                let frames = draft.frames.get_or_insert_with(new);
                frames.count += 1;
                frames.bytes += data.len() as u64;
                frames.running.add(data);
            });
        };
        // A frame of a camera takes less than a millisecond; a larger one must not keep this thread from what else is to be served.
        let is_long = data.len() >= LONG_FRAME_BYTES;
        if is_long && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            tokio::task::block_in_place(note);
        } else {
            note();
        }
    }

    /// Ends the record, and waits until it is written as far as the configuration wants. Only the first end counts.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the call must not be answered because it could not be recorded.
    async fn finish(self, end: End) -> Result<(), Error> {
        let Some((log, draft)) = self.ended(end) else { return Ok(()) };
        log.record(draft).await.map_err(|NotWritten| not_recorded())
    }

    fn ended(&self, end: End) -> Option<(Arc<AuditLog>, Draft)> {
        let inner = self.0.as_ref()?;
        let mut draft = inner.draft.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        draft.duration = inner.begun.elapsed();
        draft.end = end;
        Some((Arc::clone(&inner.log), draft))
    }

    /// Ends the record of a call that nobody waits for any more.
    fn abandon(&self) {
        let Some(inner) = &self.0 else { return };
        let deadline = *inner.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        let end = if std::thread::panicking() {
            End { code: Code::Internal as i32, name: "INTERNAL", reason: "PANIC".into() }
        } else if deadline.is_some_and(|deadline| Instant::now() + TIMER_GRACE >= deadline) {
            End { code: Code::DeadlineExceeded as i32, name: "DEADLINE_EXCEEDED", reason: "DEADLINE_EXCEEDED".into() }
        } else {
            End { code: Code::Cancelled as i32, name: "CANCELLED", reason: "CANCELLED".into() }
        };
        if let Some((log, draft)) = self.ended(end) {
            log.record_without_waiting(draft);
        }
    }

    /// Runs a call of one answer, and records how it ended before the answer is given.
    ///
    /// # Errors
    /// Those of the call, and that it could not be recorded.
    pub async fn answer<T: Noted>(self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let abandoned = Abandoned(self);
        let answered = call.await;
        if let Ok(answer) = &answered {
            abandoned.0.note_message(answer);
        }
        abandoned.0.clone().finish(end_of(answered.as_ref().err())).await?;
        answered
    }

    /// The events of a call, the last of which is given once the record is written.
    ///
    /// # Errors
    /// Those of the call, and that it could not be recorded.
    pub async fn stream<T, S>(self, call: impl Future<Output = Result<S, Status>>) -> Result<EventsOf<T>, Status>
    where
        T: Told + Send + Unpin + 'static,
        S: Stream<Item = Result<T, Status>> + Send + 'static,
    {
        let abandoned = Abandoned(self);
        match call.await {
            Ok(events) if abandoned.0.0.is_none() => Ok(Box::pin(events)),
            Ok(events) => {
                Ok(Box::pin(Recorded { events: Box::pin(events), entry: abandoned, ending: None, is_over: false }))
            }
            Err(status) => {
                abandoned.0.clone().finish(end_of(Some(&status))).await?;
                Err(status)
            }
        }
    }
}

/// Ends the record when it is dropped, unless it was ended before.
struct Abandoned(Entry);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever holds the last share of an entry without an end: a connection that broke before a handler took the call.
        if let Some(mut draft) = self.draft.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            draft.duration = self.begun.elapsed();
            draft.end = End { code: Code::Cancelled as i32, name: "CANCELLED", reason: "CANCELLED".into() };
            self.log.record_without_waiting(draft);
        }
    }
}

fn not_recorded() -> Error {
    Error::Unavailable { state: Unavailable::AuditUnavailable, retry_after: writer::RETRY_AFTER }
}

fn end_of(status: Option<&Status>) -> End {
    let Some(status) = status else { return End::ok() };
    let details = status.get_error_details();
    let name = code_name(status.code());
    // Reasons are ours; those of the transport have none.
    let reason = details.error_info().map_or_else(|| name.to_owned(), |info| info.reason.clone());
    End { code: status.code() as i32, name, reason }
}

// ---------------------------------------------------------------- streams

/// The events of a call.
pub type EventsOf<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Events that are noted as they pass. The last one waits for the record.
struct Recorded<T> {
    events: EventsOf<T>,
    entry: Abandoned,
    ending: Option<Ending<T>>,
    is_over: bool,
}

/// A record on its way, and what is given to the caller after it.
struct Ending<T> {
    record: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
    last: Option<Result<T, Status>>,
}

impl<T: Told + Unpin> Stream for Recorded<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(ending) = &mut this.ending {
                let recorded = std::task::ready!(ending.record.as_mut().poll(context));
                let last = this.ending.take().and_then(|ending| ending.last);
                return match recorded {
                    Ok(()) => {
                        this.is_over |= !matches!(last, Some(Ok(_)));
                        Poll::Ready(last)
                    }
                    Err(error) => {
                        this.is_over = true;
                        Poll::Ready(Some(Err(error.into())))
                    }
                };
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            let event = std::task::ready!(this.events.as_mut().poll_next(context));
            let end = match &event {
                Some(Ok(message)) => {
                    this.entry.0.note_message(message);
                    if !message.is_last() {
                        return Poll::Ready(event);
                    }
                    End::ok()
                }
                Some(Err(status)) => end_of(Some(status)),
                None => T::end_without_last(),
            };
            this.ending = Some(Ending { record: Box::pin(this.entry.0.clone().finish(end)), last: event });
        }
    }
}

// ---------------------------------------------------------------- the layer

/// Begins the record of each call that works on media.
#[derive(Clone)]
pub struct AuditLayer {
    pub log: Option<Arc<AuditLog>>,
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audited<S>;

    fn layer(&self, inner: S) -> Audited<S> {
        Audited { inner, log: self.log.clone() }
    }
}

/// A service whose calls are recorded.
#[derive(Clone)]
pub struct Audited<S> {
    inner: S,
    log: Option<Arc<AuditLog>>,
}

impl<S, B, R> Service<http::Request<B>> for Audited<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    R: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let rpc = rpc_of(request.uri().path()).filter(|rpc| rpc.takes_media());
        let entry = match (&self.log, rpc) {
            (Some(log), Some(rpc)) => {
                let peer = request.extensions().get::<PeerIdentity>();
                let entry = Entry::new(log, rpc.name(), peer);
                request.extensions_mut().insert(entry.clone());
                entry
            }
            _ => return Box::pin(self.inner.call(request)),
        };
        let answered = self.inner.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            let is_taken = entry.0.as_ref().is_none_or(|inner| inner.is_taken.load(Ordering::Relaxed));
            if !is_taken {
                // Refused before a handler saw it: the answer is a status alone.
                let status = Status::from_header_map(response.headers());
                if let Err(error) = entry.finish(end_of(status.as_ref())).await {
                    let _ = Status::from(error).add_header(response.headers_mut());
                }
            }
            Ok(response)
        })
    }
}

/// Refuses a call, before anything of it is read, while it could not be recorded.
///
/// # Errors
/// [`Error::Unavailable`].
pub fn refuse_unrecorded(request: &tonic::Request<()>) -> Result<(), Error> {
    match request.extensions().get::<Entry>() {
        Some(entry) if entry.is_refused() => {
            // It is counted, and the log tells the number when it can be written again.
            if let Some((log, _)) = entry.ended(End::ok()) {
                log.refuse();
            }
            Err(not_recorded())
        }
        _ => Ok(()),
    }
}

// ---------------------------------------------------------------- what messages say

/// A message of which something is recorded.
pub trait Noted {
    fn note(&self, draft: &mut Draft);
}

/// A message of a stream of answers.
pub trait Told: Noted {
    /// True if the answer is complete with it.
    fn is_last(&self) -> bool;

    /// How a stream has ended that had no last message and no error.
    fn end_without_last() -> End;
}

/// Media that are told one by one. No request that is answered has as many; one that is refused may have millions, of no bytes each.
const MAX_MEDIA: usize = 16;

fn medium(draft: &mut Draft, kind: &'static str, data: &Bytes) {
    if draft.media.len() >= MAX_MEDIA {
        draft.media_left_out += 1;
        return;
    }
    draft.media.push(Arc::new(Medium::new(kind, data.clone())));
}

/// Names that are ours; others may be anything, and are left out.
fn asked<'a>(draft: &mut Draft, names: impl IntoIterator<Item = &'a str>) {
    let known = |name: &str| checks::find(name).map(|check| check.name());
    // A request may repeat itself; the record does not.
    for name in names.into_iter().filter_map(known) {
        if !draft.asked.contains(&name) {
            draft.asked.push(name);
        }
    }
}

fn parameter(draft: &mut Draft, name: &str, value: f64) {
    let known = checks::ALL.iter().flat_map(|check| check.parameters()).find(|parameter| parameter.name == name);
    if let Some(parameter) = known {
        draft.parameters.insert(parameter.name, value);
    }
}

fn outcome(outcome: proto::Outcome) -> &'static str {
    let name = outcome.as_str_name();
    name.strip_prefix("OUTCOME_").unwrap_or(name)
}

fn models(draft: &mut Draft, models: &[proto::ModelRef]) {
    let models = models.iter().map(|model| (model.role.clone(), model.sha256.clone()));
    draft.models.extend(models.collect::<BTreeMap<_, _>>());
}

fn result(draft: &mut Draft, result: &proto::CheckResult) {
    models(draft, &result.models);
    draft.checks.push(CheckAnswer {
        check: result.check.clone(),
        outcome: outcome(result.outcome()),
        operating_point: result.operating_point.as_ref().map_or_else(String::new, |point| point.name.clone()),
        warnings: result.warnings.iter().map(|warning| warning.code.clone()).collect(),
        calibration_sha256: result.calibration_sha256.clone(),
        score: result.score,
    });
}

/// An answer of one check, whose outcome is that of the call.
fn only_result(draft: &mut Draft, only: Option<&proto::CheckResult>) {
    if let Some(only) = only {
        draft.outcome = Some(outcome(only.outcome()));
        result(draft, only);
    }
}

impl Noted for proto::VerifyRequest {
    fn note(&self, draft: &mut Draft) {
        for one in &self.media {
            let kind = match one.kind() {
                proto::MediaKind::Selfie => MediaKind::Selfie.as_str(),
                proto::MediaKind::Portrait => MediaKind::Portrait.as_str(),
                proto::MediaKind::Reference => MediaKind::Reference.as_str(),
                proto::MediaKind::DocumentFront => MediaKind::DocumentFront.as_str(),
                proto::MediaKind::DocumentBack => MediaKind::DocumentBack.as_str(),
                proto::MediaKind::Unspecified => "unspecified",
            };
            medium(draft, kind, &one.data);
        }
        asked(draft, self.checks.iter().map(|check| check.name.as_str()));
        for (name, value) in self.checks.iter().flat_map(|check| &check.parameters) {
            parameter(draft, name, *value);
        }
        reference(draft, &self.client_reference);
    }
}

fn reference(draft: &mut Draft, text: &str) {
    // The draft may wait for the disk: one that is too long is refused, and not kept until then.
    if (1..=MAX_CLIENT_REFERENCE_BYTES).contains(&text.len()) {
        draft.client_reference = Some(Bytes::copy_from_slice(text.as_bytes()));
    }
}

impl Noted for proto::VerifyEvent {
    fn note(&self, draft: &mut Draft) {
        match &self.event {
            Some(verify_event::Event::Accepted(accepted)) => {
                draft.uid.clone_from(&accepted.verification_id);
                // Where none was named, those that the media allow.
                draft.asked.clear();
                asked(draft, accepted.checks.iter().map(String::as_str));
            }
            Some(verify_event::Event::Result(checked)) => result(draft, checked),
            Some(verify_event::Event::Warning(warning)) => draft.warn(&warning.code),
            Some(verify_event::Event::Summary(summary)) => draft.outcome = Some(outcome(summary.outcome())),
            Some(
                verify_event::Event::Progress(_)
                | verify_event::Event::DocumentPart(_)
                | verify_event::Event::DocumentFields(_),
            )
            | None => {}
        }
    }
}

impl Told for proto::VerifyEvent {
    fn is_last(&self) -> bool {
        matches!(self.event, Some(verify_event::Event::Summary(_)))
    }

    fn end_without_last() -> End {
        End { code: Code::Internal as i32, name: "INTERNAL", reason: "INTERNAL".into() }
    }
}

impl Noted for proto::DetectFacesRequest {
    fn note(&self, draft: &mut Draft) {
        medium(draft, "image", &self.image);
    }
}

impl Noted for proto::DetectFacesResponse {
    fn note(&self, draft: &mut Draft) {
        models(draft, &self.models);
        self.warnings.iter().for_each(|warning| draft.warn(&warning.code));
    }
}

impl Noted for proto::MatchFacesRequest {
    fn note(&self, draft: &mut Draft) {
        medium(draft, "probe", &self.probe);
        medium(draft, "reference", &self.reference);
        asked(draft, ["face_match"]);
    }
}

impl Noted for proto::MatchFacesResponse {
    fn note(&self, draft: &mut Draft) {
        only_result(draft, self.result.as_ref());
    }
}

impl Noted for proto::CheckPassiveLivenessRequest {
    fn note(&self, draft: &mut Draft) {
        medium(draft, "selfie", &self.selfie);
        asked(draft, ["passive_liveness"]);
    }
}

impl Noted for proto::CheckPassiveLivenessResponse {
    fn note(&self, draft: &mut Draft) {
        only_result(draft, self.result.as_ref());
    }
}

impl Noted for proto::EstimateAgeRequest {
    fn note(&self, draft: &mut Draft) {
        medium(draft, "selfie", &self.selfie);
        asked(draft, ["age_estimation"]);
        let given =
            [("minimum_age_years", self.minimum_age_years), ("challenge_buffer_years", self.challenge_buffer_years)];
        given.into_iter().for_each(|(name, value)| {
            if let Some(value) = value {
                parameter(draft, name, value);
            }
        });
    }
}

impl Noted for proto::EstimateAgeResponse {
    fn note(&self, draft: &mut Draft) {
        only_result(draft, self.result.as_ref());
    }
}

impl Noted for proto::ReadDocumentRequest {
    fn note(&self, draft: &mut Draft) {
        self.images.iter().for_each(|image| medium(draft, "document", image));
        for part in ["mrz", "barcode", "visual", "portrait"] {
            if self.parts.is_empty() || self.parts.iter().any(|named| named == part) {
                draft.asked.push(part);
            }
        }
    }
}

impl Noted for proto::ReadDocumentResponse {
    fn note(&self, draft: &mut Draft) {
        models(draft, &self.models);
        self.pages.iter().flat_map(|page| &page.warnings).for_each(|warning| draft.warn(&warning.code));
    }
}

impl Noted for proto::ScanMrzEvent {
    fn note(&self, draft: &mut Draft) {
        models(draft, &self.models);
        draft.proved = Some(self.proved);
        self.warning.iter().for_each(|warning| draft.warn(&warning.code));
    }
}

impl Told for proto::ScanMrzEvent {
    fn is_last(&self) -> bool {
        self.proved
    }

    /// The caller had no more frames.
    fn end_without_last() -> End {
        End::ok()
    }
}

impl Noted for proto::LivePolicy {
    fn note(&self, draft: &mut Draft) {
        draft.asked.push(live::CHECK);
        if !self.reference.is_empty() {
            medium(draft, MediaKind::Reference.as_str(), &self.reference);
            asked(draft, ["face_match"]);
        }
        reference(draft, &self.client_reference);
    }
}

impl Noted for proto::VerifyLiveEvent {
    fn note(&self, draft: &mut Draft) {
        match &self.event {
            Some(verify_live_event::Event::Started(started)) => draft.uid.clone_from(&started.session_id),
            Some(verify_live_event::Event::Decision(decision)) => {
                draft.outcome = Some(outcome(decision.outcome()));
                [&decision.liveness, &decision.face_match].into_iter().flatten().for_each(|one| result(draft, one));
                decision.reasons.iter().chain(&decision.warnings).for_each(|warning| draft.warn(&warning.code));
                if !decision.best_frame.is_empty() {
                    medium(draft, "best_frame", &decision.best_frame);
                }
            }
            Some(
                verify_live_event::Event::Prompt(_)
                | verify_live_event::Event::Feedback(_)
                | verify_live_event::Event::Step(_),
            )
            | None => {}
        }
    }
}

impl Told for proto::VerifyLiveEvent {
    fn is_last(&self) -> bool {
        matches!(self.event, Some(verify_live_event::Event::Decision(_)))
    }

    /// The caller left before it had said what it wants.
    fn end_without_last() -> End {
        End { code: Code::Cancelled as i32, name: "CANCELLED", reason: "CANCELLED".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rpc;

    #[test]
    fn every_method_but_the_status_is_recorded() {
        let proto = include_str!("../../proto/vouch/v1/vouch.proto");
        let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        // `Reload` is of another service, and leaves an event of its own.
        let recorded: Vec<_> = methods.filter(|method| !["GetStatus", "Reload"].contains(method)).collect();
        let with_media: Vec<_> = Rpc::ALL.into_iter().filter(|rpc| rpc.takes_media()).map(Rpc::name).collect();
        assert_eq!(recorded, with_media);
    }

    #[test]
    fn a_request_of_many_media_makes_no_long_record() {
        let mut draft = Draft::new("ReadDocument", String::new(), Actor::default(), SystemTime::UNIX_EPOCH);
        let request = proto::ReadDocumentRequest { images: vec![Bytes::new(); 50_000], ..Default::default() };
        request.note(&mut draft);
        assert_eq!((draft.media.len(), draft.media_left_out), (MAX_MEDIA, 50_000 - MAX_MEDIA as u64));
    }

    #[test]
    fn names_that_are_not_ours_are_left_out() {
        let mut draft = Draft::new("Verify", String::new(), Actor::default(), SystemTime::UNIX_EPOCH);
        let check = |name: &str| proto::CheckRequest {
            name: name.into(),
            parameters: [("ERIKSSON".to_owned(), 1.0), ("minimum_age_years".to_owned(), 18.0)].into(),
            ..Default::default()
        };
        let request = proto::VerifyRequest {
            checks: vec![check("age_estimation"), check("ERIKSSON"), check("age_estimation")],
            claims: [("family_name".to_owned(), "ERIKSSON".to_owned())].into(),
            ..Default::default()
        };
        request.note(&mut draft);
        assert_eq!((draft.asked, draft.parameters), (vec!["age_estimation"], [("minimum_age_years", 18.0)].into()));
    }

    #[test]
    fn an_error_is_recorded_by_its_code_alone() {
        let status = Status::from(Error::invalid("claims.family_name", "CLAIM_INVALID", "ERIKSSON is no date"));
        let end = End { code: 3, name: "INVALID_ARGUMENT", reason: "CLAIM_INVALID".into() };
        assert_eq!(end_of(Some(&status)), end);
        assert_eq!(end_of(None), End::ok());
        assert_eq!(end_of(Some(&Status::aborted("x"))).reason, "ABORTED");
    }
}
