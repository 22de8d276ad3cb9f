//! Model runs behind one small seam.
//!
//! `face/` and `document/` see [`Model`] and nothing else: they hand in one input without its batch dimension and get the
//! outputs of that input back. Behind the seam a bounded queue gathers inputs into batches (`batcher`), and worker threads
//! that own ONNX Runtime sessions run them (`session`, the only place that names `ort`). Tests put a closure behind the seam.

pub mod batcher;
pub mod gpu;
pub mod provider;
pub mod registry;
mod rewrite;
pub mod session;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::models::manifest::InputSpec;
use crate::ops::traces::Trace;

/// A dense `f32` array in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sizes of the dimensions, outermost first, without the batch dimension.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values.
    pub data: Vec<f32>,
}

/// The named outputs of a model for one input, in the order of the model.
pub type Outputs = Vec<(Arc<str>, Tensor)>;

/// Of whom a request is. Callers share the daemon fairly; what the number stands for is the business of whoever gives it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller(pub u64);

/// How soon a request has its turn among those that wait. Nobody is kept out by it for ever: see [`Admission`](crate::pipeline::admission).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Requests by which one of this priority lets later ones of a higher go first in a model's queue. Some more than work at once on a
    /// host of many cores; raised, one of low priority stays longer in the middle of its work, where it holds memory.
    fn lets_pass(self) -> u64 {
        match self {
            Self::High => 0,
            Self::Normal => 32,
            Self::Low => 64,
        }
    }
}

/// What a queued piece of work knows of the request that it belongs to.
#[derive(Debug, Default)]
pub struct RequestContext {
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    pub caller: Caller,
    pub priority: Priority,
    /// Where the spans of its work belong.
    pub trace: Trace,
    /// Requests are numbered as they come. Where work of several waits for one model, that of the oldest is done first: it is the nearest to its end, and
    /// finishing one request after the other keeps each waiting for less than working on all of them by turns. A priority counts as being older or younger.
    order: u64,
    cancelled: AtomicBool,
    on_harm: OnHarm,
}

/// Who is told that the request's input has done harm.
#[derive(Clone, Default)]
struct OnHarm(Option<Arc<dyn Fn() + Send + Sync>>);

impl fmt::Debug for OnHarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnHarm").field(&self.0.is_some()).finish()
    }
}

/// Requests so far.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

impl RequestContext {
    /// A context with a deadline, or without one.
    pub fn new(deadline: Option<Instant>, caller: Caller) -> Self {
        Self::prioritised(deadline, caller, Priority::default())
    }

    /// The same with a priority.
    pub fn prioritised(deadline: Option<Instant>, caller: Caller, priority: Priority) -> Self {
        let order = REQUESTS.fetch_add(1, Ordering::Relaxed) + priority.lets_pass();
        Self { deadline, caller, priority, order, ..Self::default() }
    }

    /// The same context, whose work is a part of a trace.
    pub fn traced(self, trace: Trace) -> Self {
        Self { trace, ..self }
    }

    /// The same context, of whose harm `tell` is told, also when its caller has left.
    pub fn watched(self, tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_harm: OnHarm(Some(Arc::new(tell))), ..self }
    }

    /// The request's input has ended a process of the daemon.
    pub fn harmed(&self) {
        if let Some(tell) = &self.on_harm.0 {
            tell();
        }
    }

    /// Which of two requests goes first where both wait: the lower.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// Says that nobody waits for the answer any more; queued work of this request is dropped.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// [`Error::Cancelled`] or [`Error::DeadlineExceeded`] when work for this request has become pointless.
    pub fn check(&self, now: Instant) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            Err(Error::Cancelled)
        } else if self.deadline.is_some_and(|deadline| now >= deadline) {
            Err(Error::DeadlineExceeded)
        } else {
            Ok(())
        }
    }
}

/// A model that can be asked.
pub trait Model: Send + Sync {
    /// Runs the model on one input (shape without the batch dimension) and blocks until its outputs are there.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if the queue is full, [`Error::Cancelled`] or [`Error::DeadlineExceeded`] if the request ended
    /// first, [`Error::Internal`] if the run failed.
    fn run(&self, input: Tensor, context: &Arc<RequestContext>) -> Result<Outputs, Error>;
}

/// A model together with the input that it wants.
#[derive(Clone)]
pub struct ModelPort {
    pub model: Arc<dyn Model>,
    pub input: InputSpec,
}

/// Finds an output by name.
///
/// # Errors
/// [`Error::Internal`] if the model has no such output; the registry's warm-up has made sure that it has.
pub fn output<'a>(outputs: &'a Outputs, name: &str) -> Result<&'a Tensor, Error> {
    outputs
        .iter()
        .find_map(|(found, tensor)| (found.as_ref() == name).then_some(tensor))
        .ok_or_else(|| Error::internal(format!("the model gave no output {name}")))
}
