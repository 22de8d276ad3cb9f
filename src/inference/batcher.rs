//! One bounded queue per model, from which worker threads take batches.
//!
//! [`Batcher`] is what `face/` calls through the [`Model`] trait. It knows no model: it sees tensors that may share a batch
//! when their shapes are equal, and a [`BatchRunner`] per worker. Workers take from the queue directly, without a task in
//! between: a request costs one hop to the worker and one back. Left out: choosing the limits (`registry`), running the
//! graph (`session`).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::oneshot;
use tracing::Span;

use super::{Model, Outputs, RequestContext, Tensor};
use crate::error::{Error, Unavailable};
use crate::ops::{faults, metrics as names, traces};

/// Runs a batch. Owned by one worker thread.
pub trait BatchRunner: Send {
    /// Runs the model once on inputs of equal shape and gives the outputs of each, in order.
    ///
    /// # Errors
    /// What went wrong, for the journal.
    fn run_batch(&mut self, inputs: &[Tensor]) -> Result<Vec<Outputs>, String>;

    /// Called once when there has been no work for [`REST_AFTER`]: the time to give back working memory.
    fn rest(&mut self) {}

    /// Asked after a run that failed: true if what the runner stands on is gone, as after the fault of a device, so that no further run can be trusted to it.
    fn is_lost(&self) -> bool {
        false
    }

    /// Makes a lost runner anew.
    ///
    /// # Errors
    /// What went wrong, for the journal; it is asked again later.
    fn rebuild(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Pause before a lost runner is built once more when it could not be built; doubled from the first to the last.
const REBUILD_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// How long a worker waits for work before its runner rests. Shorter, and resting costs time between requests that follow each other.
pub const REST_AFTER: Duration = Duration::from_secs(1);

/// The bounds of one queue.
#[derive(Debug, Clone, Copy)]
pub struct BatcherLimits {
    /// Most inputs in one run, at least 1.
    pub max_batch: usize,
    /// How long the first input of a batch may wait for others. Zero takes what is there: batches then form by themselves
    /// while the workers are busy, and an idle model adds no delay.
    pub max_delay: Duration,
    /// Most inputs waiting; one more is refused.
    pub max_queued: usize,
}

/// Counters since the start, for status and metrics.
#[derive(Debug, Default)]
pub struct BatcherCounters {
    runs: AtomicU64,
    items: AtomicU64,
    run_ns: AtomicU64,
    lost: AtomicU64,
}

/// A snapshot of a queue and its counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatcherStatus {
    pub queued: usize,
    /// Workers that can run the model at the moment.
    pub able: usize,
    /// How long there has been none.
    pub unable_for: Option<Duration>,
    /// How long there has been work without progress: the longest of the runs at the moment, or the time since something was last begun or ended while inputs wait.
    pub stalled_for: Duration,
    pub runs: u64,
    pub items: u64,
    pub run_time: Duration,
    /// How often a runner was lost.
    pub lost: u64,
}

struct Entry {
    input: Tensor,
    context: Arc<RequestContext>,
    queued_at: Instant,
    /// A runner was lost with it. It is run once more, alone: if it was the cause, it takes no other with it.
    is_suspect: bool,
    /// What hears of the run: that which the caller was in.
    span: Span,
    reply: oneshot::Sender<Result<Outputs, Error>>,
}

/// What a worker does next.
enum Next {
    Batch(Vec<Entry>),
    Rest,
    /// The queue is closed and empty.
    End,
}

struct Queue {
    /// Sorted by the age of their requests, the oldest first.
    entries: VecDeque<Entry>,
    /// Workers with a runner that can be used.
    able: usize,
    /// When the last of them was lost.
    unable_since: Option<Instant>,
    /// For each worker, when its run began.
    running: Vec<Option<Instant>>,
    /// When a batch was last taken, a run last ended, or an input came into an empty queue.
    progress: Instant,
    closed: bool,
}

struct Shared {
    limits: BatcherLimits,
    queue: Mutex<Queue>,
    /// Signalled on every new entry and on closing.
    changed: Condvar,
    counters: BatcherCounters,
    meters: Meters,
}

/// What is measured of each run. It does nothing unless a recorder was installed before the queue was made.
struct Meters {
    run: Histogram,
    wait: Histogram,
    items: Histogram,
    failures: Counter,
    lost: Counter,
}

impl Meters {
    fn new(model: &str) -> Self {
        let model = model.to_owned();
        Self {
            run: histogram!(names::MODEL_RUN_SECONDS, "role" => model.clone()),
            wait: histogram!(names::MODEL_WAIT_SECONDS, "role" => model.clone()),
            items: histogram!(names::MODEL_BATCH_ITEMS, "role" => model.clone()),
            failures: counter!(names::MODEL_RUN_FAILURES, "role" => model.clone()),
            lost: counter!(names::MODEL_SESSIONS_LOST, "role" => model),
        }
    }
}

/// A model's queue with its workers. Dropping it finishes what is queued and joins the workers.
pub struct Batcher {
    name: String,
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Batcher {
    /// Starts one worker thread for each runner.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn start(name: &str, runners: Vec<Box<dyn BatchRunner>>, limits: BatcherLimits) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            limits,
            queue: Mutex::new(Queue {
                entries: VecDeque::new(),
                able: 0,
                unable_since: None,
                running: Vec::new(),
                progress: Instant::now(),
                closed: false,
            }),
            changed: Condvar::new(),
            counters: BatcherCounters::default(),
            meters: Meters::new(name),
        });
        let batcher = Self { name: name.into(), shared, workers: Mutex::default() };
        runners.into_iter().try_for_each(|runner| batcher.add(runner))?;
        Ok(batcher)
    }

    /// Starts one more worker thread.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn add(&self, mut runner: Box<dyn BatchRunner>) -> std::io::Result<()> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let number = workers.len();
        {
            let mut queue = self.shared.lock();
            // Before the worker can be lost.
            queue.able += 1;
            queue.running.resize(number + 1, None);
        }
        let shared = Arc::clone(&self.shared);
        let worker = std::thread::Builder::new().name(format!("{}-{number}", self.name)).spawn(move || {
            let mut is_rested = true;
            loop {
                match shared.next(is_rested) {
                    Next::Batch(batch) => {
                        shared.lock().begin(number);
                        // Also outside of the run itself nothing may end the worker: nobody else empties its queue. Those of the batch hear that their answer was dropped.
                        if catch_unwind(AssertUnwindSafe(|| shared.run(runner.as_mut(), batch))).is_err() {
                            tracing::error!("a model's worker panicked and goes on; its place stands in the journal");
                        }
                        shared.lock().end(number);
                        is_rested = false;
                        if runner.is_lost() {
                            shared.rebuild(runner.as_mut());
                        }
                    }
                    Next::Rest => {
                        // As in a run: a panic must not end the worker, since nobody else empties its queue.
                        if catch_unwind(AssertUnwindSafe(|| runner.rest())).is_err() {
                            tracing::error!("a model's rest panicked");
                        }
                        is_rested = true;
                    }
                    Next::End => break,
                }
            }
        });
        if worker.is_err() {
            self.shared.lock().able -= 1;
        }
        workers.push(worker?);
        Ok(())
    }

    /// Runners, lost ones too.
    pub fn workers(&self) -> usize {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn status(&self) -> BatcherStatus {
        let counters = &self.shared.counters;
        let queue = self.shared.lock();
        BatcherStatus {
            queued: queue.entries.len(),
            able: queue.able,
            unable_for: queue.unable_since.map(|since| since.elapsed()),
            stalled_for: queue.stalled_for(Instant::now()),
            runs: counters.runs.load(Ordering::Relaxed),
            items: counters.items.load(Ordering::Relaxed),
            run_time: Duration::from_nanos(counters.run_ns.load(Ordering::Relaxed)),
            lost: counters.lost.load(Ordering::Relaxed),
        }
    }
}

impl Model for Batcher {
    fn run(&self, input: Tensor, context: &Arc<RequestContext>) -> Result<Outputs, Error> {
        let now = Instant::now();
        context.check(now)?;
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.shared.lock();
            faults::point("queue");
            if queue.able == 0 {
                let retry_after = REBUILD_PAUSES[1];
                return Err(Error::Unavailable { state: Unavailable::ModelLost, retry_after });
            }
            if queue.entries.len() >= self.shared.limits.max_queued {
                drop(queue);
                return Err(Error::Overloaded { retry_after: self.shared.expected_wait() });
            }
            let (context, span) = (Arc::clone(context), Span::current());
            queue.put(Entry { input, context, queued_at: now, is_suspect: false, span, reply });
        }
        // All, not one: a worker that is filling a batch of another shape must not swallow the only wake-up.
        self.shared.changed.notify_all();
        answer.blocking_recv().unwrap_or_else(|_| Err(Error::internal("the model's worker dropped the request")))
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // A worker catches all panics, so there is nothing to hear from it.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under the lock; the queue is whole even if the mutex says otherwise.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mean run time × runs that stand in the queue: what a refused caller should wait.
    fn expected_wait(&self) -> Duration {
        let runs = self.counters.runs.load(Ordering::Relaxed).max(1);
        let mean = Duration::from_nanos(self.counters.run_ns.load(Ordering::Relaxed) / runs);
        let batches = self.limits.max_queued.div_ceil(self.limits.max_batch.max(1));
        (mean * u32::try_from(batches).unwrap_or(u32::MAX)).max(Duration::from_millis(10))
    }

    /// Blocks until there is something to do.
    fn next(&self, is_rested: bool) -> Next {
        let idle_since = Instant::now();
        let mut queue = self.lock();
        loop {
            if let Some(first) = queue.pop_live() {
                return Next::Batch(self.fill_batch(queue, first));
            }
            if queue.closed {
                return Next::End;
            }
            queue = if is_rested {
                self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
            } else {
                let left = REST_AFTER.saturating_sub(idle_since.elapsed());
                if left.is_zero() {
                    return Next::Rest;
                }
                self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Adds entries of the same shape until the batch is full or the first entry has waited long enough.
    fn fill_batch(&self, mut queue: MutexGuard<'_, Queue>, first: Entry) -> Vec<Entry> {
        let until = first.queued_at + self.limits.max_delay;
        let mut batch = vec![first];
        loop {
            queue.take_alike(&mut batch, self.limits.max_batch);
            let now = Instant::now();
            if batch[0].is_suspect || batch.len() >= self.limits.max_batch || now >= until || queue.closed {
                return batch;
            }
            queue = self.changed.wait_timeout(queue, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn run(&self, runner: &mut dyn BatchRunner, batch: Vec<Entry>) {
        faults::point("worker");
        let mut inputs = Vec::with_capacity(batch.len());
        let mut askers = Vec::with_capacity(batch.len());
        let (started, items) = (Instant::now(), batch.len());
        for Entry { input, context, queued_at, is_suspect, span, reply } in batch {
            traces::running(&span, started.saturating_duration_since(queued_at), items);
            inputs.push(input);
            askers.push((context, queued_at, is_suspect, span, reply));
        }
        let started = Instant::now();
        // A panic in the runner must end these requests and no others.
        let result = catch_unwind(AssertUnwindSafe(|| runner.run_batch(&inputs)))
            .unwrap_or_else(|_| Err("the model run panicked".into()))
            .and_then(|outputs| {
                if outputs.len() == inputs.len() {
                    Ok(outputs)
                } else {
                    Err(format!("{} inputs gave {} outputs", inputs.len(), outputs.len()))
                }
            });
        let run_time = started.elapsed();
        for (_, queued_at, ..) in &askers {
            self.meters.wait.record(started.saturating_duration_since(*queued_at));
        }
        self.meters.run.record(run_time);
        self.meters.items.record(inputs.len() as f64);
        if result.is_err() {
            self.meters.failures.increment(1);
        }
        let elapsed = u64::try_from(run_time.as_nanos()).unwrap_or(u64::MAX);
        self.counters.runs.fetch_add(1, Ordering::Relaxed);
        self.counters.items.fetch_add(inputs.len() as u64, Ordering::Relaxed);
        self.counters.run_ns.fetch_add(elapsed, Ordering::Relaxed);
        // A failed send means that the caller has gone, which is fine.
        match result {
            Ok(outputs) => {
                for ((.., reply), outputs) in askers.into_iter().zip(outputs) {
                    let _ = reply.send(Ok(outputs));
                }
            }
            Err(detail) => {
                let is_lost = runner.is_lost();
                let mut queue = self.lock();
                for (input, (context, queued_at, is_suspect, span, reply)) in inputs.into_iter().zip(askers) {
                    if is_lost && !is_suspect {
                        queue.put(Entry { input, context, queued_at, is_suspect: true, span, reply });
                    } else {
                        let _ = reply.send(Err(Error::internal(detail.clone())));
                    }
                }
                drop(queue);
                if is_lost {
                    tracing::error!(reason = detail, "a model's device failed: its session is made anew");
                    self.changed.notify_all();
                }
            }
        }
    }

    /// Tries until the runner is there again, or the queue is closed. Meanwhile the other workers do the work; without any, requests are refused.
    fn rebuild(&self, runner: &mut dyn BatchRunner) {
        self.counters.lost.fetch_add(1, Ordering::Relaxed);
        self.meters.lost.increment(1);
        {
            let mut queue = self.lock();
            queue.able -= 1;
            if queue.able == 0 {
                queue.unable_since = Some(Instant::now());
            }
        }
        let [mut pause, longest] = REBUILD_PAUSES;
        loop {
            let rebuilt =
                catch_unwind(AssertUnwindSafe(|| runner.rebuild())).unwrap_or_else(|_| Err("it panicked".into()));
            let mut queue = self.lock();
            let Err(reason) = rebuilt else {
                queue.able += 1;
                queue.unable_since = None;
                return;
            };
            tracing::error!(reason, pause_ms = pause.as_millis() as u64, "a lost session cannot be made anew yet");
            // With no worker left, nobody else answers those who wait.
            if queue.able == 0 {
                let unavailable = Error::Unavailable { state: Unavailable::ModelLost, retry_after: longest };
                for entry in queue.entries.drain(..) {
                    let _ = entry.reply.send(Err(unavailable.clone()));
                }
            }
            let until = Instant::now() + pause;
            while !queue.closed && Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if queue.closed {
                return;
            }
            pause = (pause * 2).min(longest);
        }
    }
}

impl Queue {
    fn begin(&mut self, worker: usize) {
        self.progress = Instant::now();
        self.running[worker] = Some(self.progress);
    }

    fn end(&mut self, worker: usize) {
        self.progress = Instant::now();
        self.running[worker] = None;
    }

    fn stalled_for(&self, now: Instant) -> Duration {
        let longest_run = self.running.iter().flatten().min();
        // Without any worker, those who wait are answered by the one that is made anew.
        let waiting = (!self.entries.is_empty() && self.able > 0).then_some(&self.progress);
        longest_run
            .into_iter()
            .chain(waiting)
            .map(|since| now.saturating_duration_since(*since))
            .max()
            .unwrap_or_default()
    }

    /// Behind the work of all requests that are as old or older.
    fn put(&mut self, entry: Entry) {
        if self.entries.is_empty() {
            self.progress = Instant::now();
        }
        let at = self.entries.partition_point(|other| other.context.order <= entry.context.order);
        self.entries.insert(at, entry);
    }

    /// The oldest entry that somebody still waits for; the dead ones before it are answered and dropped.
    fn pop_live(&mut self) -> Option<Entry> {
        while let Some(entry) = self.entries.pop_front() {
            if let Some(entry) = live(entry) {
                return Some(entry);
            }
        }
        None
    }

    /// Moves the oldest entries of the batch's shape into the batch, which becomes full or a power of two: a GPU prepares each size anew, for seconds.
    fn take_alike(&mut self, batch: &mut Vec<Entry>, max_batch: usize) {
        if batch[0].is_suspect || batch.len() >= max_batch {
            return;
        }
        let there = batch.len() + self.entries.iter().filter(|entry| entry.is_alike(&batch[0])).count();
        let wanted = if there >= max_batch { max_batch } else { 1 << there.ilog2() };
        let mut index = 0;
        while batch.len() < wanted && index < self.entries.len() {
            if self.entries[index].is_alike(&batch[0]) {
                batch.extend(self.entries.remove(index).and_then(live));
            } else {
                index += 1;
            }
        }
    }
}

impl Entry {
    /// Whether it may share a run with `first`.
    fn is_alike(&self, first: &Self) -> bool {
        !self.is_suspect && self.input.shape == first.input.shape
    }
}

/// Answers and drops an entry whose request has ended.
fn live(entry: Entry) -> Option<Entry> {
    match entry.context.check(Instant::now()) {
        Ok(()) => Some(entry),
        Err(ended) => {
            let _ = entry.reply.send(Err(ended));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::Caller;
    use super::*;

    /// Announces each batch, waits for leave, then answers with the first value of each input.
    struct Gated {
        batches: mpsc::Sender<Vec<f32>>,
        leave: mpsc::Receiver<()>,
    }

    impl BatchRunner for Gated {
        fn run_batch(&mut self, inputs: &[Tensor]) -> Result<Vec<Outputs>, String> {
            self.batches.send(inputs.iter().map(|input| input.data[0]).collect()).unwrap();
            self.leave.recv().unwrap();
            if inputs.iter().any(|input| input.data[0] < 0.0) {
                panic!("negative input");
            }
            Ok(inputs.iter().map(|input| vec![("out".into(), input.clone())]).collect())
        }
    }

    /// Tells when it rests, and does it badly.
    struct Sleeper(mpsc::Sender<Instant>);

    impl BatchRunner for Sleeper {
        fn run_batch(&mut self, inputs: &[Tensor]) -> Result<Vec<Outputs>, String> {
            Ok(inputs.iter().map(|_| Vec::new()).collect())
        }

        fn rest(&mut self) {
            self.0.send(Instant::now()).unwrap();
            panic!("restless");
        }
    }

    #[test]
    fn a_runner_rests_once_after_work_and_a_panic_there_ends_nothing() {
        let (rested_in, rested) = mpsc::channel();
        let limits = BatcherLimits { max_batch: 1, max_delay: Duration::ZERO, max_queued: 1 };
        let batcher = Batcher::start("test", vec![Box::new(Sleeper(rested_in))], limits).unwrap();
        batcher.run(Tensor { shape: vec![1], data: vec![0.0] }, &Arc::default()).unwrap();
        let worked = Instant::now();
        let at = rested.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(at + Duration::from_millis(50) >= worked + REST_AFTER, "{:?}", at - worked);
        assert!(rested.recv_timeout(REST_AFTER * 2).is_err(), "without work it goes on resting");
        batcher.run(Tensor { shape: vec![1], data: vec![0.0] }, &Arc::default()).unwrap();
    }

    #[test]
    fn a_run_that_does_not_end_and_inputs_that_nobody_takes_are_a_stall() {
        let rig = rig(1, 8);
        assert_eq!(rig.batcher.status().stalled_for, Duration::ZERO);
        let batcher = Arc::clone(&rig.batcher);
        let run = |value: f32| {
            let batcher = Arc::clone(&batcher);
            std::thread::spawn(move || batcher.run(Tensor { shape: vec![1], data: vec![value] }, &Arc::default()))
        };
        let first = run(1.0);
        rig.batches.recv_timeout(Duration::from_secs(30)).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let second = run(2.0);
        let stalled = rig.batcher.status().stalled_for;
        assert!(stalled >= Duration::from_millis(50), "{stalled:?}");
        rig.leave.send(()).unwrap();
        rig.batches.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(rig.batcher.status().stalled_for < stalled, "the next run has just begun");
        rig.leave.send(()).unwrap();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
        while rig.batcher.status().stalled_for > Duration::ZERO {
            std::thread::yield_now();
        }

        // Without a worker that takes it, an input in the queue is one too.
        let mut queue = Queue {
            entries: VecDeque::new(),
            able: 1,
            unable_since: None,
            running: vec![None],
            progress: Instant::now(),
            closed: false,
        };
        let later = Instant::now() + Duration::from_secs(9);
        assert_eq!(queue.stalled_for(later), Duration::ZERO);
        let (reply, _answer) = oneshot::channel();
        let input = Tensor { shape: vec![1], data: vec![0.0] };
        queue.put(Entry {
            input,
            context: Arc::default(),
            queued_at: later,
            is_suspect: false,
            span: Span::none(),
            reply,
        });
        assert!(queue.stalled_for(later) >= Duration::from_secs(8));
    }

    struct Rig {
        batcher: Arc<Batcher>,
        batches: mpsc::Receiver<Vec<f32>>,
        leave: mpsc::Sender<()>,
    }

    fn rig(max_batch: usize, max_queued: usize) -> Rig {
        let (batches_in, batches) = mpsc::channel();
        let (leave, leave_out) = mpsc::channel();
        let runner = Gated { batches: batches_in, leave: leave_out };
        let limits = BatcherLimits { max_batch, max_delay: Duration::ZERO, max_queued };
        let batcher = Batcher::start("test", vec![Box::new(runner)], limits).unwrap();
        Rig { batcher: Arc::new(batcher), batches, leave }
    }

    impl Rig {
        /// Asks from a thread of its own and returns once the entry stands in the queue behind `queued` others.
        fn ask(&self, value: f32, shape: usize, context: Arc<RequestContext>) -> JoinHandle<Result<Outputs, Error>> {
            let before = self.batcher.status().queued;
            let batcher = Arc::clone(&self.batcher);
            let asked = std::thread::spawn(move || {
                batcher.run(Tensor { shape: vec![shape], data: vec![value; shape] }, &context)
            });
            while self.batcher.status().queued == before && !asked.is_finished() {
                std::thread::yield_now();
            }
            asked
        }

        /// Occupies the worker, so that what is asked next has to queue.
        fn occupy(&self) -> JoinHandle<Result<Outputs, Error>> {
            let batcher = Arc::clone(&self.batcher);
            let asked =
                std::thread::spawn(move || batcher.run(Tensor { shape: vec![1], data: vec![0.0] }, &Arc::default()));
            assert_eq!(self.batches.recv().unwrap(), [0.0]);
            asked
        }
    }

    fn first(answer: JoinHandle<Result<Outputs, Error>>) -> f32 {
        answer.join().unwrap().unwrap()[0].1.data[0]
    }

    #[test]
    fn what_queues_behind_a_busy_worker_becomes_one_batch_and_answers_go_to_their_callers() {
        let rig = rig(4, 16);
        let busy = rig.occupy();
        let asked: Vec<_> = (1..=5).map(|value| rig.ask(value as f32, 1, Arc::default())).collect();
        rig.leave.send(()).unwrap();
        assert_eq!(rig.batches.recv().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        rig.leave.send(()).unwrap();
        assert_eq!(rig.batches.recv().unwrap(), [5.0]);
        rig.leave.send(()).unwrap();
        assert_eq!(first(busy), 0.0);
        let answers: Vec<_> = asked.into_iter().map(first).collect();
        assert_eq!(answers, [1.0, 2.0, 3.0, 4.0, 5.0]);
        let status = rig.batcher.status();
        assert_eq!((status.runs, status.items, status.queued), (3, 6, 0));
    }

    #[test]
    fn work_of_an_older_request_is_done_before_that_of_a_younger_one() {
        let rig = rig(1, 16);
        let [older, younger] = [(); 2].map(|()| Arc::new(RequestContext::new(None, Caller::default())));
        let busy = rig.occupy();
        let asked = [(1.0, &younger), (2.0, &older), (3.0, &younger), (4.0, &older)];
        let asked = asked.map(|(value, context)| rig.ask(value, 1, Arc::clone(context)));
        for expected in [2.0, 4.0, 1.0, 3.0] {
            rig.leave.send(()).unwrap();
            assert_eq!(rig.batches.recv().unwrap(), [expected]);
        }
        rig.leave.send(()).unwrap();
        first(busy);
        assert_eq!(asked.map(first), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn batches_have_few_sizes() {
        let rig = rig(8, 16);
        let busy = rig.occupy();
        let asked: Vec<_> = (1..=7).map(|value| rig.ask(value as f32, 1, Arc::default())).collect();
        for expected in [&[1.0, 2.0, 3.0, 4.0][..], &[5.0, 6.0], &[7.0]] {
            rig.leave.send(()).unwrap();
            assert_eq!(rig.batches.recv().unwrap(), expected);
        }
        rig.leave.send(()).unwrap();
        first(busy);
        assert_eq!(asked.into_iter().map(first).sum::<f32>(), 28.0);
    }

    #[test]
    fn only_equal_shapes_share_a_batch() {
        let rig = rig(4, 16);
        let busy = rig.occupy();
        let asked = [rig.ask(1.0, 1, Arc::default()), rig.ask(2.0, 2, Arc::default()), rig.ask(3.0, 1, Arc::default())];
        for _ in 0..3 {
            rig.leave.send(()).unwrap();
        }
        assert_eq!(rig.batches.recv().unwrap(), [1.0, 3.0]);
        assert_eq!(rig.batches.recv().unwrap(), [2.0]);
        first(busy);
        assert_eq!(asked.map(first), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn entries_whose_caller_left_or_whose_deadline_passed_are_never_run() {
        let rig = rig(4, 16);
        let busy = rig.occupy();
        let gone = Arc::new(RequestContext::default());
        let left = rig.ask(1.0, 1, Arc::clone(&gone));
        let late = Arc::new(RequestContext::new(Some(Instant::now() + Duration::from_millis(50)), Caller::default()));
        let late = rig.ask(2.0, 1, late);
        let wanted = rig.ask(3.0, 1, Arc::default());
        gone.cancel();
        std::thread::sleep(Duration::from_millis(60));
        rig.leave.send(()).unwrap();
        assert_eq!(rig.batches.recv().unwrap(), [3.0]);
        rig.leave.send(()).unwrap();
        first(busy);
        assert_eq!(first(wanted), 3.0);
        assert!(matches!(left.join().unwrap(), Err(Error::Cancelled)));
        assert!(matches!(late.join().unwrap(), Err(Error::DeadlineExceeded)));
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let rig = rig(1, 1);
        let busy = rig.occupy();
        let queued = rig.ask(1.0, 1, Arc::default());
        let refused = rig.ask(2.0, 1, Arc::default()).join().unwrap();
        assert!(matches!(refused, Err(Error::Overloaded { retry_after }) if retry_after >= Duration::from_millis(10)));
        rig.leave.send(()).unwrap();
        rig.leave.send(()).unwrap();
        first(busy);
        assert_eq!(first(queued), 1.0);
    }

    #[test]
    fn a_panic_in_a_run_ends_its_requests_and_no_others() {
        let rig = rig(1, 16);
        rig.leave.send(()).unwrap();
        rig.leave.send(()).unwrap();
        let failed = rig.ask(-1.0, 1, Arc::default()).join().unwrap();
        assert!(matches!(failed, Err(Error::Internal { .. })));
        assert_eq!(first(rig.ask(1.0, 1, Arc::default())), 1.0);
    }

    /// A device that fails for good with a negative input, until it is made anew, which fails `refusals` times.
    struct Fragile {
        lost: bool,
        refusals: usize,
        batches: mpsc::Sender<Vec<f32>>,
        leave: mpsc::Receiver<()>,
    }

    impl BatchRunner for Fragile {
        fn run_batch(&mut self, inputs: &[Tensor]) -> Result<Vec<Outputs>, String> {
            self.batches.send(inputs.iter().map(|input| input.data[0]).collect()).unwrap();
            self.leave.recv().unwrap();
            assert!(!self.lost, "nothing is run on a device that is lost");
            self.lost = inputs.iter().any(|input| input.data[0] < 0.0);
            if self.lost {
                Err("device fault".into())
            } else {
                Ok(inputs.iter().map(|input| vec![("out".into(), input.clone())]).collect())
            }
        }

        fn is_lost(&self) -> bool {
            self.lost
        }

        fn rebuild(&mut self) -> Result<(), String> {
            if self.refusals > 0 {
                self.refusals -= 1;
                return Err("not yet".into());
            }
            self.lost = false;
            Ok(())
        }
    }

    fn fragile(refusals: usize) -> Rig {
        let (batches_in, batches) = mpsc::channel();
        let (leave, leave_out) = mpsc::channel();
        let runner = Fragile { lost: false, refusals, batches: batches_in, leave: leave_out };
        let limits = BatcherLimits { max_batch: 4, max_delay: Duration::ZERO, max_queued: 16 };
        Rig { batcher: Arc::new(Batcher::start("test", vec![Box::new(runner)], limits).unwrap()), batches, leave }
    }

    #[test]
    fn a_device_fault_costs_its_cause_alone_an_answer() {
        let rig = fragile(0);
        let busy = rig.occupy();
        let asked = [1.0, -2.0, 3.0, 4.0].map(|value| rig.ask(value, 1, Arc::default()));
        for _ in 0..6 {
            rig.leave.send(()).unwrap();
        }
        first(busy);
        // All together, and after the fault each alone.
        let batches: Vec<Vec<f32>> = rig.batches.iter().take(5).collect();
        assert_eq!(batches, [vec![1.0, -2.0, 3.0, 4.0], vec![1.0], vec![-2.0], vec![3.0], vec![4.0]]);
        let [one, cause, three, four] = asked;
        assert!(matches!(cause.join().unwrap(), Err(Error::Internal { .. })));
        assert_eq!([first(one), first(three), first(four)], [1.0, 3.0, 4.0]);
        // The next request meets a whole device.
        rig.leave.send(()).unwrap();
        assert_eq!(first(rig.ask(4.0, 1, Arc::default())), 4.0);
        assert_eq!(rig.batcher.status().lost, 2);
    }

    #[test]
    fn while_the_only_device_is_lost_requests_are_refused_and_not_kept() {
        let rig = fragile(2);
        rig.leave.send(()).unwrap();
        // Its second try finds no device.
        let cause = rig.ask(-1.0, 1, Arc::default()).join().unwrap();
        assert!(matches!(cause, Err(Error::Unavailable { state: Unavailable::ModelLost, .. })), "{cause:?}");
        let refused = rig.batcher.run(Tensor { shape: vec![1], data: vec![1.0] }, &Arc::default());
        assert!(matches!(refused, Err(Error::Unavailable { .. })));
        let status = rig.batcher.status();
        assert!(status.able == 0 && status.unable_for.is_some(), "{status:?}");
        let until = Instant::now() + Duration::from_secs(20);
        rig.leave.send(()).unwrap();
        loop {
            match rig.batcher.run(Tensor { shape: vec![1], data: vec![1.0] }, &Arc::default()) {
                Ok(outputs) => break assert_eq!(outputs[0].1.data, [1.0]),
                Err(_) => assert!(Instant::now() < until, "the device never came back"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = rig.batcher.status();
        assert_eq!((status.able, status.unable_for), (1, None));
    }

    #[test]
    fn a_delay_lets_a_batch_fill_and_a_full_batch_does_not_wait() {
        let (batches_in, batches) = mpsc::channel();
        let (leave, leave_out) = mpsc::channel();
        let runner = Gated { batches: batches_in, leave: leave_out };
        // The test would take a minute if a full batch waited.
        let limits = BatcherLimits { max_batch: 2, max_delay: Duration::from_secs(60), max_queued: 4 };
        let batcher = Arc::new(Batcher::start("test", vec![Box::new(runner)], limits).unwrap());
        leave.send(()).unwrap();
        let asked: Vec<_> = (1..=2)
            .map(|value| {
                let batcher = Arc::clone(&batcher);
                std::thread::spawn(move || {
                    batcher.run(Tensor { shape: vec![1], data: vec![value as f32] }, &Arc::default())
                })
            })
            .collect();
        let mut batch = batches.recv().unwrap();
        batch.sort_by(f32::total_cmp);
        assert_eq!(batch, [1.0, 2.0]);
        asked.into_iter().for_each(|asked| {
            asked.join().unwrap().unwrap();
        });
    }

    #[test]
    fn dropping_the_batcher_answers_what_is_queued() {
        let Rig { batcher, batches, leave } = rig(1, 4);
        leave.send(()).unwrap();
        let answer = batcher.run(Tensor { shape: vec![1], data: vec![7.0] }, &Arc::default()).unwrap();
        assert_eq!(answer[0].1.data, [7.0]);
        drop(batcher);
        assert_eq!(batches.try_iter().count(), 1);
    }
}
