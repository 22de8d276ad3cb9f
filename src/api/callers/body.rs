//! The body of a request, whose bytes are counted as they come, and which ends where a policy says that it is too long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::Policy;
use crate::api::status::with_details;
use crate::error::{Error, Quota};

/// What was read of a request so far.
#[derive(Debug, Default)]
pub struct Read {
    pub bytes: AtomicU64,
    /// It had more than the policy lets through.
    pub is_too_long: AtomicBool,
}

/// A body that counts.
pub struct Measured {
    pub(super) body: tonic::body::Body,
    pub(super) read: Arc<Read>,
    pub(super) policy: Arc<Policy>,
}

impl Body for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let length = data.remaining() as u64;
            let bytes = self.read.bytes.fetch_add(length, Ordering::Relaxed) + length;
            let limit = self.policy.max_bytes;
            if limit > 0 && bytes > limit {
                self.read.is_too_long.store(true, Ordering::Relaxed);
                let policy = self.policy.name.clone();
                let error = Error::QuotaSpent { quota: Quota::Bytes, policy, limit, retry_after: None };
                // Counted where the call ends.
                return Poll::Ready(Some(Err(with_details(error))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
