//! The body of a request, whose bytes are counted as they come, and which ends where a policy says that it is too long, or where what all callers have
//! begun to send and not finished is more than the daemon holds for them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::Policy;
use super::room::{Holder, Room};
use crate::api::status::{no_room, with_details};
use crate::error::{Error, Quota};

/// When it is worth trying again while too many messages are on their way: they arrive whole, or their time is up.
pub(super) const RETRY_WHEN_FULL: Duration = Duration::from_secs(1);

/// Bytes of a message that are not counted, so that small questions, as for the state, are heard also when there is no room.
const FREE_BYTES: u64 = 4096;

/// What was read of a request so far.
#[derive(Debug, Default)]
pub struct Read {
    pub bytes: AtomicU64,
    /// It had more than the policy lets through.
    pub is_too_long: AtomicBool,
}

/// Where gRPC's messages end within a body: each begins with a byte and four of its length.
#[derive(Debug, Default)]
struct Framing {
    head: [u8; 5],
    head_bytes: usize,
    /// Of the message, still to come.
    missing: u64,
    /// Of the message, here.
    here: u64,
    /// Of the largest message that was whole.
    whole: u64,
}

impl Framing {
    /// Takes more of the body in.
    fn feed(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.head_bytes < self.head.len() {
                let taken = data.len().min(self.head.len() - self.head_bytes);
                self.head[self.head_bytes..][..taken].copy_from_slice(&data[..taken]);
                (self.head_bytes, data) = (self.head_bytes + taken, &data[taken..]);
                if self.head_bytes == self.head.len() {
                    let [_, length @ ..] = self.head;
                    self.missing = u32::from_be_bytes(length).into();
                }
            } else {
                let taken = self.missing.min(data.len() as u64);
                (self.missing, self.here) = (self.missing - taken, self.here + taken);
                data = &data[taken as usize..];
            }
            if self.head_bytes == self.head.len() && self.missing == 0 {
                *self = Self { whole: self.whole.max(self.here), ..Self::default() };
            }
        }
    }

    /// Bytes that tonic holds: of the message that is not whole yet, or of the largest one, whose memory it keeps for the next.
    fn held(&self) -> u64 {
        self.here.max(self.whole)
    }
}

/// A body that counts.
pub struct Measured {
    body: tonic::body::Body,
    read: Arc<Read>,
    policy: Arc<Policy>,
    /// Bytes of messages that are on their way: tonic holds each until it is whole, and no handler has seen it. Whole ones wait at the door (`pipeline::admission`), which has a bound of its own.
    arriving: Arc<Room>,
    holder: Holder,
    /// Whether the bytes count for the policy.
    counted: bool,
    framing: Framing,
    /// What this body has of `arriving`.
    held: u64,
}

impl Measured {
    pub(super) fn new(body: tonic::body::Body, permit: &super::Permit) -> Self {
        let super::Permit { callers, holder, policy, read, counted, .. } = permit;
        Self {
            body,
            read: Arc::clone(read),
            policy: Arc::clone(policy),
            arriving: Arc::clone(&callers.arriving),
            holder: *holder,
            counted: *counted,
            framing: Framing::default(),
            held: 0,
        }
    }

    /// # Errors
    /// The policy's bound on the bytes of a request, or that there is no room. Neither is counted here: both are where the call ends.
    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        let length = data.len() as u64;
        let bytes = self.read.bytes.fetch_add(length, Ordering::Relaxed) + length;
        let limit = self.policy.max_bytes;
        if self.counted && limit > 0 && bytes > limit {
            self.read.is_too_long.store(true, Ordering::Relaxed);
            let policy = self.policy.name.clone();
            return Err(with_details(Error::QuotaSpent { quota: Quota::Bytes, policy, limit, retry_after: None }));
        }
        self.framing.feed(data);
        // It only grows, until the body is dropped.
        let held = self.framing.held().saturating_sub(FREE_BYTES);
        if held > self.held && !self.arriving.grow(self.holder, held - self.held) {
            return Err(no_room(RETRY_WHEN_FULL));
        }
        self.held = held;
        Ok(())
    }
}

impl Body for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.take(data)
        {
            return Poll::Ready(Some(Err(status)));
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

impl Drop for Measured {
    fn drop(&mut self) {
        self.arriving.shrink(self.holder.uid, self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_the_message_that_is_not_whole_or_the_largest_however_it_comes() {
        let message = |length: u32| [&[0][..], &length.to_be_bytes(), &vec![7; length as usize]].concat();
        let body = [message(10), message(0), message(300), message(1)].concat();
        for step in [1, 2, 3, 5, 7, 64, 1000] {
            let (mut framing, mut most) = (Framing::default(), 0);
            for piece in body.chunks(step) {
                framing.feed(piece);
                most = most.max(framing.here);
            }
            assert_eq!((framing.here, framing.held()), (0, 300), "in steps of {step}");
            assert!(most < 300 && (step > 200 || most >= 300 - step as u64), "{most} in steps of {step}");
        }
        let mut framing = Framing::default();
        framing.feed(&message(2000));
        framing.feed(&message(u32::MAX >> 8)[..1005]);
        assert_eq!((framing.here, framing.held()), (1000, 2000));
    }
}
