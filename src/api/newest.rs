//! The newest of a stream of frames: those that arrive while another is looked at replace each other.
//!
//! Called by `scan_mrz` and `verify_live`, whose callers send frames as fast as a camera gives them. At most two frames of a stream are held beside the one at work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::{Code, Streaming};

use super::status::stopped_body;
use crate::error::{Error, Unavailable};
use crate::pipeline::Engine;

/// How often one who waits for frames asks whether the daemon drains.
const DRAIN_CHECK: Duration = Duration::from_millis(200);

/// The newest of what has arrived.
pub struct Newest<T> {
    slot: Arc<Slot<T>>,
    /// Ended with this, whatever is waited for then.
    receiving: JoinSet<Result<(), Error>>,
    /// How it ended, if it has.
    ended: Option<Result<(), Error>>,
    engine: Arc<Engine>,
}

/// Where the newest lies until it is taken.
struct Slot<T> {
    newest: Mutex<Option<T>>,
    arrived: Notify,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, item: T) {
        // What it replaces is dropped after the lock is free.
        let _replaced = self.lock().replace(item);
        self.arrived.notify_one();
    }
}

/// What is to be looked at.
pub enum Arrival {
    /// A frame has come, to be taken by [`Newest::take`].
    Frame,
    /// The caller sends no more.
    Ended,
    /// Nothing has come for a moment.
    Nothing,
}

impl<T: Send + 'static> Newest<T> {
    /// Takes messages in until the caller sends no more. `accept` makes of each what is looked at, or `None` for what is not, and the error that ends the stream.
    pub fn of<M: Send + 'static>(
        engine: &Arc<Engine>,
        messages: Streaming<M>,
        field: &'static str,
        accept: impl FnMut(M) -> Result<Option<T>, Error> + Send + 'static,
    ) -> Self {
        let slot = Arc::new(Slot { newest: Mutex::new(None), arrived: Notify::new() });
        let mut receiving = JoinSet::new();
        receiving.spawn(receive(messages, field, Arc::clone(&slot), accept));
        Self { slot, receiving, ended: None, engine: Arc::clone(engine) }
    }

    /// Waits for a moment for a frame. One that is not taken is told again; the last one before what ended the stream.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while draining, and what ended the stream.
    pub async fn wait(&mut self) -> Result<Arrival, Error> {
        if self.slot.lock().is_none() && self.ended.is_none() {
            tokio::select! {
                () = self.slot.arrived.notified() => {}
                ended = self.receiving.join_next() => {
                    let panicked = |_| Err(Error::internal("receiving panicked"));
                    self.ended = Some(ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(panicked));
                }
                () = tokio::time::sleep(DRAIN_CHECK) => {}
            }
        }
        if self.slot.lock().is_some() {
            return Ok(Arrival::Frame);
        }
        if let Some(ended) = self.ended.take() {
            return ended.map(|()| Arrival::Ended);
        }
        if self.engine.admission.status().draining {
            return Err(Error::Unavailable { state: Unavailable::Draining, retry_after: Duration::from_secs(1) });
        }
        Ok(Arrival::Nothing)
    }

    /// Looks at the newest without taking it.
    pub fn peek<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.slot.lock().as_ref().map(look)
    }

    /// Takes the newest.
    pub fn take(&mut self) -> Option<T> {
        self.slot.lock().take()
    }
}

async fn receive<M, T>(
    mut messages: Streaming<M>,
    field: &'static str,
    slot: Arc<Slot<T>>,
    mut accept: impl FnMut(M) -> Result<Option<T>, Error>,
) -> Result<(), Error> {
    while let Some(message) = next(&mut messages, field).await? {
        if let Some(frame) = accept(message)? {
            slot.put(frame);
        }
    }
    Ok(())
}

/// The next message; `None` if the caller has closed the stream or has gone.
///
/// # Errors
/// [`Error::InvalidInput`] for a message that is too large or cannot be read, [`Error::QuotaSpent`] and [`Error::Overloaded`]; they end the stream.
pub async fn next<M>(messages: &mut Streaming<M>, field: &'static str) -> Result<Option<M>, Error> {
    let status = match messages.message().await {
        Ok(message) => return Ok(message),
        Err(status) => status,
    };
    if let Some(error) = stopped_body(&status) {
        return Err(error);
    }
    match status.code() {
        Code::OutOfRange => Err(Error::invalid(field, "MESSAGE_TOO_LARGE", status.message())),
        Code::Internal | Code::InvalidArgument => {
            Err(Error::invalid(field, "MESSAGE_MALFORMED", "a message of the stream cannot be read"))
        }
        // The caller has gone.
        _ => Ok(None),
    }
}
