//! Drives load: callers that wait for their answer (closed loop), or requests on a schedule (open loop).
//!
//! Called by `vouch bench` for each step. Knows no daemon: whoever answers stands behind [`Ask`], so that the arithmetic of schedules and
//! of what counts is tested with a played server and a paused clock.
//!
//! The latency of a scheduled request counts from its *intended* start. A server that stands still for a second thereby delays
//! every request of that second, as it does in use; a generator that waited instead would see one slow answer (Gil Tene,
//! "How NOT to Measure Latency": coordinated omission). Whatever is not sent as intended is counted, never left out in silence.
//!
//! A step has a warm-up and then a window. Requests count that were to begin within the window; they are awaited to their end, however late.
//! Rates (answers, processor time) are those of the window itself, whenever the request had begun.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::tally::{Begun, Tally};

/// Processor time and memory are looked at this often: often enough to meet a peak of memory, seldom enough to cost nothing.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// A caller that was refused without being told for how long, or that failed, waits this long: no storm of refusals.
const PAUSE: Duration = Duration::from_millis(100);

/// Whoever answers requests.
pub trait Ask: Send + Sync + 'static {
    /// Sends a request and waits for its end, which is always a [`Reply`].
    fn ask(&self, shot: Shot) -> impl Future<Output = Reply> + Send;

    /// Waits until a moment. By default to a millisecond, as tokio's timers do.
    fn wait_until(&self, moment: Instant) -> impl Future<Output = ()> + Send {
        sleep_until(moment)
    }
}

/// Looks at the processor time and memory of a step's window.
pub trait Meter {
    /// The window begins.
    fn begin(&mut self) {}
    /// It goes on.
    fn sample(&mut self) {}
    /// It is over; requests that began in it may still be under way.
    fn end(&mut self) {}
}

impl Meter for () {}

/// One request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// Counts the requests of a step, from 0.
    pub number: u64,
    /// Who sends it: the caller of a closed loop; the number of an open one.
    pub caller: u64,
}

/// How a request ended. Times count from when it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Which part of the mix it was.
    pub part: usize,
    pub end: End,
    /// The daemon had read it and given it a place.
    pub accepted: Option<Duration>,
    /// The first result of a check.
    pub first_result: Option<Duration>,
    /// The summary, the refusal or the failure.
    pub ended: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Answered,
    /// With another outcome than the same request had before.
    Wrong,
    /// For want of room; try again after this.
    Refused {
        retry_after: Option<Duration>,
    },
    /// With this code.
    Failed {
        code: &'static str,
    },
}

/// The load of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// So many callers, each of which sends its next request when the last is answered. With `requests`, the step ends after so many
    /// instead of by time.
    Closed { callers: usize, requests: Option<u64> },
    /// Requests a second, at even distances, whatever is still under way; beyond `max_in_flight` they are counted as not sent.
    Open { per_second: f64, max_in_flight: usize },
}

/// Times of a step.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Before the window.
    pub warm_up: Duration,
    /// The window; without meaning where a closed loop counts requests.
    pub duration: Duration,
}

/// What came of a step.
#[derive(Debug)]
pub struct Outcome {
    pub tally: Tally,
    /// How long the window was.
    pub window: Duration,
}

/// Runs one step to its end: until the last of its requests is answered. Dropping it takes back what is under way.
///
/// # Panics
/// If a task of its own panics, which none does.
pub async fn run<A: Ask>(ask: &Arc<A>, load: Load, timing: Timing, parts: usize, meter: &mut impl Meter) -> Outcome {
    let started = Instant::now();
    let from = started + timing.warm_up;
    let until = match load {
        Load::Closed { requests: Some(_), .. } => None,
        _ => Some(from + timing.duration),
    };
    let step = Arc::new(Step { ask: Arc::clone(ask), started, from, until, tally: Mutex::new(Tally::new(parts)) });
    let mut tasks = JoinSet::new();
    match load {
        Load::Closed { callers, requests } => {
            let counters = Arc::new(Counters { next: AtomicU64::new(0), counted: AtomicU64::new(0), requests });
            for caller in 0..callers as u64 {
                tasks.spawn(call_in_turn(Arc::clone(&step), Arc::clone(&counters), caller));
            }
        }
        Load::Open { per_second, max_in_flight } => {
            tasks.spawn(call_on_schedule(Arc::clone(&step), per_second, max_in_flight));
        }
    }

    sleep_until(from).await;
    meter.begin();
    loop {
        tokio::select! {
            () = over(until, &mut tasks) => break,
            () = sleep(SAMPLE_EVERY) => meter.sample(),
        }
    }
    meter.end();
    let window = from.elapsed();
    over(None, &mut tasks).await;
    let mut tally = step.tally.lock().unwrap_or_else(PoisonError::into_inner);
    Outcome { tally: std::mem::replace(&mut tally, Tally::new(0)), window }
}

/// Waits for a moment or, without one, for the end of all tasks. It may be dropped and begun again.
async fn over(until: Option<Instant>, tasks: &mut JoinSet<()>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => {
            while let Some(ended) = tasks.join_next().await {
                assert!(ended.is_ok(), "a caller panicked");
            }
        }
    }
}

/// What the tasks of a step share.
struct Step<A> {
    ask: Arc<A>,
    started: Instant,
    /// The window. Without an end it lasts until all requests are done.
    from: Instant,
    until: Option<Instant>,
    tally: Mutex<Tally>,
}

impl<A: Ask> Step<A> {
    fn is_over(&self, moment: Instant) -> bool {
        self.until.is_some_and(|until| moment >= until)
    }

    /// Sends a request that was to begin at `intended`, and counts it.
    async fn send(&self, shot: Shot, intended: Instant) -> Reply {
        let sent = Instant::now();
        let reply = self.ask.ask(shot).await;
        let ended = sent + reply.ended;
        let begun = Begun {
            counts: intended >= self.from,
            ended_in_window: ended >= self.from && !self.is_over(ended),
            lag: sent.saturating_duration_since(intended),
        };
        self.tally().add(begun, &reply);
        reply
    }

    /// A panic elsewhere leaves counters that are still right.
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the callers of a closed loop share.
struct Counters {
    next: AtomicU64,
    /// Requests begun in the window.
    counted: AtomicU64,
    requests: Option<u64>,
}

impl Counters {
    /// Whether one more request may begin in the window.
    fn take(&self) -> bool {
        self.requests.is_none_or(|requests| self.counted.fetch_add(1, Ordering::Relaxed) < requests)
    }
}

async fn call_in_turn<A: Ask>(step: Arc<Step<A>>, counters: Arc<Counters>, caller: u64) {
    loop {
        let now = Instant::now();
        if step.is_over(now) || (now >= step.from && !counters.take()) {
            return;
        }
        let number = counters.next.fetch_add(1, Ordering::Relaxed);
        let reply = step.send(Shot { number, caller }, now).await;
        let pause = match reply.end {
            End::Answered | End::Wrong => continue,
            End::Refused { retry_after } => retry_after.unwrap_or(PAUSE),
            End::Failed { .. } => PAUSE,
        };
        let again = Instant::now() + pause;
        sleep_until(step.until.map_or(again, |until| again.min(until))).await;
    }
}

async fn call_on_schedule<A: Ask>(step: Arc<Step<A>>, per_second: f64, max_in_flight: usize) {
    let places = Arc::new(Semaphore::new(max_in_flight));
    let mut under_way = JoinSet::new();
    for number in 0.. {
        let intended = step.started + offset(number, per_second);
        if step.is_over(intended) {
            break;
        }
        if intended > Instant::now() {
            step.ask.wait_until(intended).await;
        } else {
            // Behind: the requests that are under way have a turn too.
            tokio::task::yield_now().await;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            step.tally().not_sent += u64::from(intended >= step.from);
            continue;
        };
        let step = Arc::clone(&step);
        under_way.spawn(async move {
            step.send(Shot { number, caller: number }, intended).await;
            drop(place);
        });
        // Tasks that are done are let go, so that the set does not grow with the step.
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

/// When the request of this number is to begin, after the start of the step. Reckoned from the number each time: adding up distances would
/// add up their rounding.
fn offset(number: u64, per_second: f64) -> Duration {
    Duration::from_secs_f64(number as f64 / per_second)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A server that takes so long for each answer and works on so many at once; others wait, or are refused beyond `waiting`.
    struct Server {
        places: Semaphore,
        service: Duration,
        waiting: usize,
        under_way: AtomicU64,
        /// One request stands still for a second.
        stalls_at: Option<u64>,
    }

    impl Server {
        fn new(places: usize, service: Duration) -> Self {
            let waiting = usize::MAX;
            Self { places: Semaphore::new(places), service, waiting, under_way: AtomicU64::new(0), stalls_at: None }
        }

        async fn serve(&self, number: u64) -> End {
            if self.under_way.load(Ordering::Relaxed) as usize > self.waiting {
                return End::Refused { retry_after: Some(ms(50)) };
            }
            self.under_way.fetch_add(1, Ordering::Relaxed);
            let place = self.places.acquire().await.unwrap();
            sleep(self.service).await;
            if self.stalls_at == Some(number) {
                sleep(ms(1000)).await;
            }
            drop(place);
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            End::Answered
        }
    }

    impl Ask for Server {
        async fn ask(&self, shot: Shot) -> Reply {
            let sent = Instant::now();
            let end = self.serve(shot.number).await;
            Reply { part: 0, end, accepted: None, first_result: None, ended: sent.elapsed() }
        }
    }

    fn timing(warm_up: u64, duration: u64) -> Timing {
        Timing { warm_up: ms(warm_up), duration: ms(duration) }
    }

    fn open(per_second: f64) -> Load {
        Load::Open { per_second, max_in_flight: 1000 }
    }

    fn closed(callers: usize) -> Load {
        Load::Closed { callers, requests: None }
    }

    async fn measured(server: Server, load: Load, timing: Timing) -> Outcome {
        run(&Arc::new(server), load, timing, 1, &mut ()).await
    }

    fn near(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= expected * 0.02 + 2.0
    }

    #[test]
    fn the_schedule_has_no_drift() {
        assert_eq!(offset(0, 3.0), Duration::ZERO);
        assert_eq!(offset(3_000_000, 3.0), Duration::from_secs(1_000_000));
        assert_eq!(offset(1, 4.0), ms(250));
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_sends_what_it_says_whatever_is_under_way() {
        // Each answer takes five times the distance of two requests.
        let outcome = measured(Server::new(1000, ms(500)), open(10.0), timing(1000, 4000)).await;
        assert_eq!((outcome.tally.sent, outcome.tally.answered, outcome.tally.not_sent), (40, 40, 0));
        assert_eq!(outcome.tally.answers_in_window, 40, "{:?}", outcome.window);
        let spread = outcome.tally.latency.spread().unwrap();
        assert!(near(spread.p50, 500.0) && near(spread.max, 500.0), "{spread:?}");
    }

    /// The one that a closed loop hides: while a server stands still, requests go on to be due.
    #[tokio::test(start_paused = true)]
    async fn a_second_of_standstill_is_seen_by_all_who_were_due_in_it() {
        let stalling = || Server { stalls_at: Some(500), ..Server::new(1, ms(2)) };
        let seen = measured(stalling(), open(100.0), timing(0, 10_000)).await.tally.latency.spread().unwrap();
        // A tenth of the requests was due in that second, and waited half of it in the mean.
        assert!(seen.p99 > 850.0, "{seen:?}");
        assert!(seen.p90 < 250.0 && seen.p50 < 10.0, "{seen:?}");
        let hidden = measured(stalling(), closed(1), timing(0, 10_000)).await.tally.latency.spread().unwrap();
        assert!(hidden.p99 < 10.0 && hidden.max > 1000.0, "{hidden:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_under_way_is_counted_as_not_sent() {
        let load = Load::Open { per_second: 100.0, max_in_flight: 5 };
        let tally = measured(Server::new(1000, ms(1000)), load, timing(1000, 2000)).await.tally;
        assert_eq!(tally.sent + tally.not_sent, 200);
        assert_eq!(tally.sent, 10, "five each second");
    }

    /// A generator whose clock is late.
    struct Sleepy(Server);

    impl Ask for Sleepy {
        fn ask(&self, shot: Shot) -> impl Future<Output = Reply> + Send {
            self.0.ask(shot)
        }

        async fn wait_until(&self, moment: Instant) {
            sleep_until(moment + ms(30)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lateness_of_the_generator_is_counted_and_part_of_the_latency() {
        let late = Arc::new(Sleepy(Server::new(100, ms(10))));
        let tally = run(&late, open(10.0), timing(0, 1000), 1, &mut ()).await.tally;
        // The first is due at once and waits for nobody.
        assert_eq!((tally.sent, tally.late), (10, 9));
        assert!(tally.start_lag.spread().is_some_and(|lag| near(lag.p50, 30.0)));
        assert!(tally.latency.spread().is_some_and(|spread| near(spread.p50, 40.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_wait_for_their_answer() {
        let outcome = measured(Server::new(2, ms(100)), closed(4), timing(500, 10_000)).await;
        let spread = outcome.tally.latency.spread().unwrap();
        // Two at once, four callers: each waits a turn.
        assert!(near(spread.p50, 200.0), "{spread:?}");
        assert!(near(outcome.tally.answers_in_window as f64, 200.0), "{:?}", outcome.tally.answers_in_window);
        assert!(near(outcome.tally.sent as f64, 200.0));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_requests_and_no_more() {
        let load = Load::Closed { callers: 3, requests: Some(20) };
        let outcome = measured(Server::new(10, ms(100)), load, timing(250, 0)).await;
        assert_eq!((outcome.tally.sent, outcome.tally.answered), (20, 20));
        assert!(near(outcome.window.as_millis() as f64, 750.0), "{:?}", outcome.window);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_stays_away_as_long_as_told() {
        let server = Server { waiting: 0, ..Server::new(1, ms(100)) };
        let tally = measured(server, closed(2), timing(0, 10_000)).await.tally;
        // One is always at work; the other asks again every 50 ms, now and then in the place of the first.
        assert!(near(tally.answered as f64, 100.0), "{tally:?}");
        assert!((80..=220).contains(&tally.refused), "{tally:?}");
        assert!(tally.retry_delay.spread().is_some_and(|delay| near(delay.p50, 50.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn overload_shows_as_refusals_and_the_rate_stays_that_of_the_server() {
        let server = Server { waiting: 20, ..Server::new(1, ms(100)) };
        let outcome = measured(server, open(30.0), timing(5000, 10_000)).await;
        assert!(near(outcome.tally.answers_in_window as f64, 100.0), "{:?}", outcome.tally);
        assert_eq!(outcome.tally.sent, 300);
        assert!(outcome.tally.refused > 180, "{:?}", outcome.tally.refused);
        // Whoever got in waited for 20 others.
        assert!(outcome.tally.latency.spread().is_some_and(|spread| spread.p50 > 1900.0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_search_finds_the_capacity_of_a_server() {
        // 6 at once, 100 ms each: 60 a second.
        let mut plan = Plan::new(Vec::new(), true, 1000);
        while let Some(step) = plan.next() {
            let outcome = measured(Server::new(6, ms(100)), step.load, timing(1000, 5000)).await;
            plan.done(&step, outcome.tally.answers_in_window as f64 / outcome.window.as_secs_f64());
        }
        let found = plan.saturation().unwrap();
        assert!(near(found.per_second, 60.0) && found.callers == 8, "{found:?}");
    }

    #[derive(Default)]
    struct Calls(Vec<&'static str>);

    impl Meter for Calls {
        fn begin(&mut self) {
            self.0.push("begin");
        }
        fn sample(&mut self) {
            self.0.push("sample");
        }
        fn end(&mut self) {
            self.0.push("end");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_meter_is_read_at_both_ends_of_the_window_and_in_between() {
        let mut calls = Calls::default();
        run(&Arc::new(Server::new(1, ms(70))), closed(1), timing(1000, 1000), 1, &mut calls).await;
        let Calls(calls) = calls;
        assert_eq!((calls[0], calls[calls.len() - 1]), ("begin", "end"));
        assert!((8..=10).contains(&(calls.len() - 2)), "{calls:?}");
    }
}
