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
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::tally::{Begun, Tally};

/// Processor time and memory are looked at this often: often enough to meet a peak of memory, seldom enough to cost nothing.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// A caller that was refused without being told for how long, or that failed, waits this long: no storm of refusals.
const PAUSE: Duration = Duration::from_millis(100);

/// The code of a connection that broke, beside those of gRPC.
pub const BROKEN: &str = "CONNECTION_BROKEN";

/// A step ends where nothing but broken connections was seen for so long: nobody is there. Some twenty attempts of one caller; a daemon that was
/// only started again is mostly back by then.
const GONE_AFTER: Duration = Duration::from_secs(2);

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
    /// Nobody was there any more.
    pub ended_early: bool,
}

/// Runs one step to its end: until the last of its requests is answered, or nobody is there to answer. Dropping it takes back what is under way.
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
    let step = Arc::new(Step {
        ask: Arc::clone(ask),
        started,
        from,
        until,
        stop: CancellationToken::new(),
        gone: OnceLock::new(),
        counts: Mutex::new(Counts { tally: Tally::new(parts), broken_since: None }),
    });
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

    step.pause(from).await;
    meter.begin();
    loop {
        tokio::select! {
            () = over(&step, &mut tasks) => break,
            () = sleep(SAMPLE_EVERY) => meter.sample(),
        }
    }
    meter.end();
    let window = Instant::now().saturating_duration_since(from);
    finished(&mut tasks).await;
    let tally = std::mem::replace(&mut step.counts().tally, Tally::new(0));
    Outcome { tally, window, ended_early: step.gone.get().is_some() }
}

/// Waits for the end of the window. It may be dropped and begun again.
async fn over<A: Ask>(step: &Step<A>, tasks: &mut JoinSet<()>) {
    match step.until {
        Some(until) => step.pause(until).await,
        None => finished(tasks).await,
    }
}

/// Waits for the end of all tasks. It may be dropped and begun again.
async fn finished(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        assert!(ended.is_ok(), "a caller panicked");
    }
}

/// What the tasks of a step share.
struct Step<A> {
    ask: Arc<A>,
    started: Instant,
    /// The window. Without an end it lasts until all requests are done.
    from: Instant,
    until: Option<Instant>,
    /// No request is to begin any more: as many as were asked for have begun, or nobody is there.
    stop: CancellationToken,
    /// Since when nobody is there.
    gone: OnceLock<Instant>,
    counts: Mutex<Counts>,
}

struct Counts {
    tally: Tally,
    /// The first of the broken connections since which nothing else was seen.
    broken_since: Option<Instant>,
}

impl<A: Ask> Step<A> {
    fn is_over(&self, moment: Instant) -> bool {
        [self.until, self.gone.get().copied()].into_iter().flatten().any(|end| moment >= end)
    }

    /// Waits until a moment, or until no request is to begin any more.
    async fn pause(&self, until: Instant) {
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.stop.cancelled() => {}
        }
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
        let mut counts = self.counts();
        counts.tally.add(begun, &reply);
        if reply.end == (End::Failed { code: BROKEN }) {
            let since = *counts.broken_since.get_or_insert(ended);
            if ended.saturating_duration_since(since) >= GONE_AFTER && !self.is_over(ended) {
                self.gone.get_or_init(|| ended);
                self.stop.cancel();
            }
        } else {
            counts.broken_since = None;
        }
        drop(counts);
        reply
    }

    /// A panic elsewhere leaves counters that are still right.
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Whether one more request may begin in the window. After the last nobody waits for a turn: the window ends with its reply.
    fn take(&self, stop: &CancellationToken) -> bool {
        let Some(requests) = self.requests else { return true };
        let taken = self.counted.fetch_add(1, Ordering::Relaxed);
        if taken + 1 >= requests {
            stop.cancel();
        }
        taken < requests
    }
}

async fn call_in_turn<A: Ask>(step: Arc<Step<A>>, counters: Arc<Counters>, caller: u64) {
    loop {
        let now = Instant::now();
        if step.stop.is_cancelled() || step.is_over(now) || (now >= step.from && !counters.take(&step.stop)) {
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
        step.pause(step.until.map_or(again, |until| again.min(until))).await;
    }
}

async fn call_on_schedule<A: Ask>(step: Arc<Step<A>>, per_second: f64, max_in_flight: usize) {
    let places = Arc::new(Semaphore::new(max_in_flight));
    let mut under_way = JoinSet::new();
    for number in 0.. {
        let intended = step.started + offset(number, per_second);
        if intended > Instant::now() && !step.is_over(intended) {
            tokio::select! {
                () = step.ask.wait_until(intended) => {}
                () = step.stop.cancelled() => {}
            }
        } else {
            // Behind: the requests that are under way have a turn too.
            tokio::task::yield_now().await;
        }
        if step.is_over(intended) || step.stop.is_cancelled() {
            break;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            step.counts().tally.not_sent += u64::from(intended >= step.from);
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

    /// Every other request is refused for a long time.
    struct Strict;

    impl Ask for Strict {
        async fn ask(&self, shot: Shot) -> Reply {
            sleep(ms(100)).await;
            let refused = End::Refused { retry_after: Some(ms(60_000)) };
            let end = if shot.number.is_multiple_of(2) { End::Answered } else { refused };
            Reply { part: 0, end, accepted: None, first_result: None, ended: ms(100) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_does_not_prolong_the_window_of_counted_requests() {
        // Of two callers one is refused first, and is asleep when the other has the last answer.
        for (callers, requests, window_ms) in [(1, 2, 200.0), (2, 3, 200.0)] {
            let load = Load::Closed { callers, requests: Some(requests) };
            let outcome = run(&Arc::new(Strict), load, timing(0, 0), 1, &mut ()).await;
            assert_eq!((outcome.tally.sent, outcome.ended_early), (requests, false));
            assert!(near(outcome.window.as_millis() as f64, window_ms), "{:?}", outcome.window);
        }
    }

    /// A server that is there in some spans of time alone.
    struct Mortal {
        started: Instant,
        lives_ms: &'static [(u128, u128)],
    }

    impl Ask for Mortal {
        async fn ask(&self, _: Shot) -> Reply {
            sleep(ms(10)).await;
            let now = self.started.elapsed().as_millis();
            let lives = self.lives_ms.iter().any(|&(from, to)| (from..to).contains(&now));
            let end = if lives { End::Answered } else { End::Failed { code: BROKEN } };
            Reply { part: 0, end, accepted: None, first_result: None, ended: ms(10) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_ends_soon_after_its_server() {
        let requests = Load::Closed { callers: 3, requests: Some(1_000_000) };
        for load in [closed(1), closed(8), open(200.0), open(1.0), requests] {
            let mortal = |lives_ms| Arc::new(Mortal { started: Instant::now(), lives_ms });
            let outcome = run(&mortal(&[(0, 5000)]), load, timing(1000, 600_000), 1, &mut ()).await;
            assert!(outcome.ended_early && outcome.tally.answered > 3, "{load:?}: {outcome:?}");
            let seconds = outcome.window.as_secs_f64();
            assert!((5.9..8.1).contains(&seconds), "{load:?}: {seconds} s");
            // In the warm-up, too.
            let outcome = run(&mortal(&[(0, 100)]), load, timing(60_000, 600_000), 1, &mut ()).await;
            assert_eq!(
                (outcome.ended_early, outcome.window, outcome.tally.sent),
                (true, Duration::ZERO, 0),
                "{load:?}"
            );
            assert!(outcome.tally.warm_up.failures() > 1, "{load:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_outlasts_a_restart() {
        let restarted = Arc::new(Mortal { started: Instant::now(), lives_ms: &[(0, 2000), (3500, 99_000)] });
        let outcome = run(&restarted, closed(4), timing(0, 10_000), 1, &mut ()).await;
        assert_eq!((outcome.ended_early, outcome.window), (false, ms(10_000)));
        assert!(outcome.tally.faults.failures() > 10 && outcome.tally.answered > 1000, "{:?}", outcome.tally);
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
