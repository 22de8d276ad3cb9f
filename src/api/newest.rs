//! The newest of a stream of frames: those that arrive while another is looked at replace each other.
//!
//! Called by `scan_mrz` and `verify_live`, whose callers send frames as fast as a camera gives them. At most two frames of a stream are held beside the one at work.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Streaming};

use super::status::stopped_body;
use crate::error::{Error, Unavailable};
use crate::pipeline::Engine;

/// How often one who waits for frames asks whether the daemon drains.
const DRAIN_CHECK: Duration = Duration::from_millis(200);

/// The newest of what has arrived.
pub struct Newest<T> {
    arrived: watch::Receiver<Option<T>>,
    /// Ended with this, whatever is waited for then.
    receiving: JoinSet<Result<(), Error>>,
    engine: Arc<Engine>,
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

impl<T: Clone + Send + Sync + 'static> Newest<T> {
    /// Takes messages in until the caller sends no more. `accept` makes of each what is looked at, or `None` for what is not, and the error that ends the stream.
    pub fn of<M: Send + 'static>(
        engine: &Arc<Engine>,
        messages: Streaming<M>,
        field: &'static str,
        accept: impl FnMut(M) -> Result<Option<T>, Error> + Send + 'static,
    ) -> Self {
        let (newest, arrived) = watch::channel(None);
        let mut receiving = JoinSet::new();
        receiving.spawn(receive(messages, field, newest, accept));
        Self { arrived, receiving, engine: Arc::clone(engine) }
    }

    /// Waits for a moment for a frame that was not yet taken.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while draining, and what ended the stream.
    pub async fn wait(&mut self) -> Result<Arrival, Error> {
        match tokio::time::timeout(DRAIN_CHECK, self.arrived.changed()).await {
            Ok(Ok(())) => {
                // Told again by the next call if it is not taken.
                self.arrived.mark_changed();
                Ok(Arrival::Frame)
            }
            Ok(Err(_)) => {
                let ended = self.receiving.join_next().await;
                ended
                    .unwrap_or(Ok(Ok(())))
                    .unwrap_or_else(|_| Err(Error::internal("receiving panicked")))
                    .map(|()| Arrival::Ended)
            }
            Err(_) if self.engine.admission.status().draining => {
                Err(Error::Unavailable { state: Unavailable::Draining, retry_after: Duration::from_secs(1) })
            }
            Err(_) => Ok(Arrival::Nothing),
        }
    }

    /// Looks at the newest without taking it.
    pub fn peek<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.arrived.borrow().as_ref().map(look)
    }

    /// Takes the newest.
    pub fn take(&mut self) -> Option<T> {
        self.arrived.borrow_and_update().clone()
    }
}

async fn receive<M, T>(
    mut messages: Streaming<M>,
    field: &'static str,
    newest: watch::Sender<Option<T>>,
    mut accept: impl FnMut(M) -> Result<Option<T>, Error>,
) -> Result<(), Error> {
    while let Some(message) = next(&mut messages, field).await? {
        if let Some(frame) = accept(message)? {
            newest.send_replace(Some(frame));
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
