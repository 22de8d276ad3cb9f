//! The door: how many requests run, how many wait, and what happens to the rest.
//!
//! Every RPC that runs models passes through here once, a scan with each frame that is looked at. Requests run in the order of their arrival. One more than may wait is
//! refused at once with a time after which it is worth trying again; a daemon that drains admits nobody. Left out: fairness between callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::inference::RequestContext;

/// The bounds of the door.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    pub max_running: usize,
    pub max_waiting: usize,
    /// Bytes of media that waiting requests may hold together.
    pub max_waiting_bytes: u64,
}

/// Running and waiting requests.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_bytes: AtomicU64,
    draining: AtomicBool,
    requests: AtomicU64,
    refused: AtomicU64,
    /// Exponential mean of how long a request holds its place, in microseconds.
    mean_us: AtomicU64,
}

/// A place; dropping it lets the next one in.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    started: Instant,
    _permit: OwnedSemaphorePermit,
}

/// What the door shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionStatus {
    pub running: usize,
    pub waiting: usize,
    pub requests: u64,
    pub refused: u64,
    pub draining: bool,
}

/// What a refused caller is told at least.
const MIN_RETRY: Duration = Duration::from_millis(20);

impl Admission {
    pub fn new(limits: AdmissionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            places: Arc::new(Semaphore::new(limits.max_running)),
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            mean_us: AtomicU64::new(0),
        })
    }

    pub fn limits(&self) -> AdmissionLimits {
        self.limits
    }

    /// From now on nobody new is admitted; who waits already still gets a place.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn status(&self) -> AdmissionStatus {
        AdmissionStatus {
            running: self.limits.max_running - self.places.available_permits(),
            waiting: self.waiting.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            draining: self.draining.load(Ordering::Relaxed),
        }
    }

    /// Waits for a place for a request that holds `bytes` of media.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while draining, [`Error::Overloaded`] if too many wait, [`Error::DeadlineExceeded`] if no place came in time.
    pub async fn enter(self: &Arc<Self>, bytes: u64, context: &RequestContext) -> Result<Place, Error> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.draining.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Unavailable { state: "draining", retry_after: Duration::from_secs(1) });
        }
        context.check(Instant::now())?;
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait(bytes, context).await?,
        };
        Ok(Place { admission: Arc::clone(self), started: Instant::now(), _permit: permit })
    }

    async fn wait(self: &Arc<Self>, bytes: u64, context: &RequestContext) -> Result<OwnedSemaphorePermit, Error> {
        // Counted before the comparison, so that a burst cannot slip through between the two. The guard gives the place in the
        // queue back also when the caller goes away and this future is dropped.
        let waiting = Waiting::new(self, bytes);
        if waiting.requests > self.limits.max_waiting || waiting.bytes_in_all > self.limits.max_waiting_bytes {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Overloaded { retry_after: self.expected_wait() });
        }
        let place = Arc::clone(&self.places).acquire_owned();
        let permit = match context.deadline {
            None => place.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), place).await {
                Ok(permit) => permit,
                Err(_) => return Err(Error::DeadlineExceeded),
            },
        };
        permit.map_err(|_| Error::internal("the semaphore of places is closed"))
    }

    /// How long the queue takes to empty at the present pace.
    fn expected_wait(&self) -> Duration {
        let mean = Duration::from_micros(self.mean_us.load(Ordering::Relaxed));
        let rounds = self.waiting.load(Ordering::Relaxed).div_ceil(self.limits.max_running.max(1));
        (mean * u32::try_from(rounds).unwrap_or(u32::MAX)).max(MIN_RETRY)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let held_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Two requests that end together may lose one of the two updates, which an estimate can bear.
        let mean_us = self.admission.mean_us.load(Ordering::Relaxed);
        let updated = if mean_us == 0 { held_us } else { mean_us - mean_us / 8 + held_us / 8 };
        self.admission.mean_us.store(updated, Ordering::Relaxed);
    }
}

struct Waiting<'a> {
    admission: &'a Admission,
    bytes: u64,
    /// Waiting requests and their bytes, this one included.
    requests: usize,
    bytes_in_all: u64,
}

impl<'a> Waiting<'a> {
    fn new(admission: &'a Admission, bytes: u64) -> Self {
        Self {
            admission,
            bytes,
            requests: admission.waiting.fetch_add(1, Ordering::Relaxed) + 1,
            bytes_in_all: admission.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.admission.waiting.fetch_sub(1, Ordering::Relaxed);
        self.admission.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(max_running: usize, max_waiting: usize, max_waiting_bytes: u64) -> Arc<Admission> {
        Admission::new(AdmissionLimits { max_running, max_waiting, max_waiting_bytes })
    }

    async fn settle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_goes_to_who_waits() {
        let door = door(1, 1, 100);
        let context = RequestContext::default();
        let first = door.enter(10, &context).await.unwrap();
        let waiting = tokio::spawn({
            let door = Arc::clone(&door);
            async move { door.enter(10, &RequestContext::default()).await.map(drop) }
        });
        settle().await;
        assert_eq!((door.status().running, door.status().waiting), (1, 1));
        drop(first);
        waiting.await.unwrap().unwrap();
        assert_eq!((door.status().running, door.status().waiting), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_may_wait_is_refused_at_once_and_so_are_too_many_bytes() {
        let door = door(1, 1, 100);
        let context = RequestContext::default();
        let _first = door.enter(10, &context).await.unwrap();
        assert!(matches!(door.enter(101, &context).await, Err(Error::Overloaded { .. })));
        let waiting = tokio::spawn({
            let door = Arc::clone(&door);
            async move { door.enter(10, &RequestContext::default()).await.map(drop) }
        });
        settle().await;
        assert!(matches!(
            door.enter(10, &context).await,
            Err(Error::Overloaded { retry_after }) if retry_after >= MIN_RETRY
        ));
        assert_eq!(door.status().refused, 2);
        // The caller goes away; its place in the queue is free again.
        waiting.abort();
        settle().await;
        assert_eq!(door.status().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_the_wait() {
        let door = door(1, 4, 100);
        let _first = door.enter(10, &RequestContext::default()).await.unwrap();
        let deadline = tokio::time::Instant::now().into_std() + Duration::from_millis(50);
        let context = RequestContext::new(Some(deadline));
        assert!(matches!(door.enter(10, &context).await, Err(Error::DeadlineExceeded)));
        assert_eq!(door.status().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_daemon_admits_nobody_new() {
        let door = door(2, 4, 100);
        door.drain();
        let refused = door.enter(1, &RequestContext::default()).await;
        assert!(matches!(refused, Err(Error::Unavailable { state: "draining", .. })));
    }
}
