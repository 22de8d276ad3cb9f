//! A panic of a handler, or of the task that tells a stream's events, becomes the error of its request.
//!
//! Called by `server`, as the layer next to the handlers, and by the RPCs that answer with a stream. Left to itself, the panic of a handler would reset the stream without a status, and that of a task
//! would end it as if all had been told. Panics of blocking threads come to `pipeline` as errors already.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tonic::Status;
use tower::Service;

use crate::error::Error;

/// Runs a request's work, whose panic is [`Error::Internal`]. What the work holds is dropped by the panic as by any other end, and what is locked is whole, since no lock is held across
/// code that can leave it otherwise.
///
/// # Errors
/// Those of `work`.
pub async fn caught<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.unwrap_or_else(|_| Err(Error::internal("a request's task panicked; its place stands in the journal")))
}

/// Answers for a handler that panics.
#[derive(Clone)]
pub struct Caught<S>(pub S);

impl<S, A, B> Service<http::Request<A>> for Caught<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    B: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        let answer = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.call(request)));
        Box::pin(async move {
            let answer = async {
                match answer {
                    Ok(answer) => Ok(answer.await),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            };
            match caught(answer).await {
                Ok(answered) => answered,
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_no_other_end_is_changed() {
        async fn ends(how: u8) -> Result<u8, Error> {
            tokio::task::yield_now().await;
            match how {
                0 => Ok(7),
                1 => Err(Error::DeadlineExceeded),
                _ => panic!("of a test"),
            }
        }
        assert_eq!(caught(ends(0)).await.unwrap(), 7);
        assert!(matches!(caught(ends(1)).await, Err(Error::DeadlineExceeded)));
        assert!(matches!(caught(ends(2)).await, Err(Error::Internal { .. })));
    }
}
