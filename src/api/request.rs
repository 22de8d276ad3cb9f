//! What every call has in common: its deadline, its place, and its end when the caller goes away.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::api::audit::Entry;
use crate::api::callers::{Conduct, Terms};
use crate::api::listener::PeerIdentity;
use crate::document::mrz::Date;
use crate::error::Error;
use crate::inference::{Caller, RequestContext};
use crate::ops::traces::Trace;
use crate::pipeline::Engine;
use crate::pipeline::admission::Place;
use crate::pipeline::source::Media;
use crate::pipeline::verify::{self, CheckRequest, CheckResult, Event};

/// Longest reference of a caller's own to its verification.
pub const MAX_CLIENT_REFERENCE_BYTES: usize = 128;

/// How long a stream's error waits for a caller who reads slowly: without it the stream would end as if all had been told.
pub const LAST_WORD: Duration = Duration::from_secs(5);

/// One call. Dropping it, as tonic does when the caller has gone, ends what is still queued for it.
pub struct Call {
    pub engine: Arc<Engine>,
    pub context: Arc<RequestContext>,
    /// When the daemon had read the whole request.
    pub received: Instant,
    /// Its record in the audit log.
    pub audit: Entry,
    /// What its caller's account is told when it has ended.
    pub conduct: Arc<Conduct>,
}

impl Call {
    /// A call with the caller's deadline, or `max_duration` if that is nearer or there is none.
    pub fn new<T>(engine: Arc<Engine>, request: &tonic::Request<T>, max_duration: Duration) -> Self {
        let received = Instant::now();
        let wanted = request.metadata().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
        let deadline = received + wanted.map_or(max_duration, |wanted| wanted.min(max_duration));
        let caller = request.extensions().get::<PeerIdentity>().map_or_else(Caller::default, PeerIdentity::caller);
        let terms = request.extensions().get::<Terms>();
        let priority = terms.map_or_else(Default::default, |terms| terms.priority);
        let conduct = terms.map_or_else(Default::default, |terms| Arc::clone(&terms.conduct));
        let audit = request.extensions().get::<Entry>().cloned().unwrap_or_default();
        audit.take(Some(deadline), &engine.config_sha256);
        let trace = request.extensions().get::<Trace>().cloned().unwrap_or_default();
        let harmful = Arc::clone(&conduct);
        let context = RequestContext::prioritised(Some(deadline), caller, priority).traced(trace);
        let context = Arc::new(context.watched(move || harmful.harmed()));
        Self { engine, context, received, audit, conduct }
    }

    /// The day of the check, in UTC. This is the one place where a request learns of it.
    pub fn today(&self) -> Date {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Date::of_unix_time(since_1970.as_secs())
    }

    /// Waits for a place for a request that holds `bytes` of media.
    ///
    /// # Errors
    /// Those of [`Admission::enter`](crate::pipeline::admission::Admission::enter).
    pub async fn enter(&self, bytes: u64) -> Result<Place, Error> {
        let _waiting = self.context.trace.admission();
        let place = self.engine.admission.enter(bytes, &self.context).await?;
        self.conduct.asked();
        Ok(place)
    }

    /// Runs `work` until the deadline.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::DeadlineExceeded`].
    pub async fn until_deadline<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.context.deadline {
            None => work.await,
            Some(deadline) => {
                tokio::time::timeout_at(deadline.into(), work).await.unwrap_or(Err(Error::DeadlineExceeded))
            }
        }
    }

    /// Plans and runs a verification of one check.
    ///
    /// # Errors
    /// Those of [`verify::plan`], the door, and [`verify::run`].
    pub async fn one_check(&self, media: Vec<Media>, request: CheckRequest) -> Result<CheckResult, Error> {
        self.until_deadline(async {
            let wanted = verify::Request { media, checks: vec![request], claims: BTreeMap::new(), today: self.today() };
            let plan = verify::plan(&self.engine, wanted)?;
            let place = self.enter(plan.bytes()).await?;
            let (events, mut received) = tokio::sync::mpsc::unbounded_channel();
            verify::run(&self.engine, plan, place, &self.context, &events).await?;
            drop(events);
            while let Some(event) = received.recv().await {
                if let Event::Result(result) = event {
                    return Ok(result);
                }
            }
            Err(Error::internal("a verification ended without its result"))
        })
        .await
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.context.cancel();
    }
}

/// Reads a `grpc-timeout` header: at most eight digits and a unit (gRPC over HTTP/2, "Request-Headers"). `None` if it is malformed,
/// which is treated as no deadline.
pub(super) fn parse_timeout(text: &str) -> Option<Duration> {
    let (unit_at, unit) = text.char_indices().last()?;
    let digits = &text[..unit_at];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_malformed_ones_are_none() {
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse_timeout("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse_timeout("1m"), Some(Duration::from_millis(1)));
        assert_eq!(parse_timeout("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(parse_timeout("5n"), Some(Duration::from_nanos(5)));
        for malformed in ["", "5", "S", "-5S", "123456789S", "5x", "5 S", "5µ"] {
            assert_eq!(parse_timeout(malformed), None, "{malformed:?}");
        }
    }
}
