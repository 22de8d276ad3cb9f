//! The door: how many requests run, how many wait, and what happens to the rest.
//!
//! Every RPC that runs models passes through here once, a scan with each frame that is looked at. Each caller has a line of its own, and a place
//! that becomes free goes to the caller who has the fewest, so that nobody who asks for much keeps others from their share. A caller is a process: who starts many of them has the shares of many. One request more than may wait, or one that
//! could not be begun in time, is refused at once with a time after which it is worth trying again; where all lines are full, who has the longest gives its last
//! place to who has a shorter one. A priority weighs what a caller has: see `weight`. A daemon that drains admits nobody. Left out: rates and quotas by user, which
//! are `api::callers`' and hold before a request comes here.
//!
//! Source of the sharing: round robin over queues by sender, Nagle, "On packet switches with infinite storage", RFC 970 (1985).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{Error, Unavailable};
use crate::inference::{Caller, Priority, RequestContext};
use crate::ops::metrics as names;

/// The bounds of the door.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    pub max_running: usize,
    pub max_waiting: usize,
    /// Bytes of media that waiting requests may hold together.
    pub max_waiting_bytes: u64,
    /// A request that would wait longer than this, as far as can be told, is refused instead.
    pub max_wait: Duration,
}

/// Running and waiting requests.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    draining: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
    waiting_bytes: u64,
    /// Callers who have a place or wait for one.
    lines: BTreeMap<Caller, Line>,
    /// Twice the places given so far.
    turn: u64,
    requests: u64,
    refused: u64,
    /// Exponential mean of how long a request holds its place; zero before the first has ended.
    mean_held: Duration,
}

/// The requests of one caller.
#[derive(Debug, Default)]
struct Line {
    running: usize,
    waiting: VecDeque<Waiting>,
    /// That of its newest request.
    priority: Priority,
    /// When it last got a place, or began: who comes back to ask again stands behind those who never left.
    turn: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    bytes: u64,
    /// Hears when a place has been counted as its own.
    answer: oneshot::Sender<Result<(), Error>>,
}

/// A place; dropping it lets the next one in.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    caller: Caller,
    started: Instant,
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

/// Different times that refused callers are told.
const SPREAD: u64 = 16;

/// Share of the newest request in the mean of how long one holds its place.
const NEWEST_SHARE: u32 = 8;

/// What one place or one waiting request of a caller counts: of those who always ask, a priority gets four times the places of the next lower one. Who waits and has none goes before who has one, so of several places everybody gets one.
fn weight(priority: Priority) -> usize {
    match priority {
        Priority::High => 1,
        Priority::Normal => 4,
        Priority::Low => 16,
    }
}

/// Turns by which a caller stands behind who got the last place at the same time: where there is but one place, these make the same shares, since three of a higher priority
/// then pass one of the next lower. A turn is two.
fn turns_behind(priority: Priority) -> u64 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 6,
        Priority::Low => 12,
    }
}

impl Admission {
    pub fn new(limits: AdmissionLimits) -> Arc<Self> {
        Arc::new(Self { limits, draining: AtomicBool::new(false), state: Mutex::default() })
    }

    pub fn limits(&self) -> AdmissionLimits {
        self.limits
    }

    /// From now on nobody new is admitted; who waits already still gets a place.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn status(&self) -> AdmissionStatus {
        let state = self.lock();
        AdmissionStatus {
            running: state.running,
            waiting: state.waiting,
            requests: state.requests,
            refused: state.refused,
            draining: self.draining.load(Ordering::Relaxed),
        }
    }

    /// Waits for a place for a request that holds `bytes` of media.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while draining; [`Error::Overloaded`] if too many wait, or the request would wait longer than it may;
    /// [`Error::DeadlineExceeded`] if no place came in time after all.
    pub async fn enter(self: &Arc<Self>, bytes: u64, context: &RequestContext) -> Result<Place, Error> {
        let asked = Instant::now();
        let mut in_line = {
            let mut state = self.lock();
            state.requests += 1;
            crate::ops::faults::point("door");
            if self.draining.load(Ordering::Relaxed) {
                state.refused += 1;
                return Err(Error::Unavailable { state: Unavailable::Draining, retry_after: Duration::from_secs(1) });
            }
            let now = Instant::now();
            context.check(now)?;
            if state.running < self.limits.max_running {
                state.give_place(context.caller, context.priority);
                metrics::histogram!(names::ADMISSION_WAIT_SECONDS).record(Duration::ZERO);
                return Ok(self.place(context.caller));
            }
            self.line_up(&mut state, bytes, context, now)?
        };
        let answer = match context.deadline {
            None => (&mut in_line.answer).await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), &mut in_line.answer).await {
                Ok(answer) => answer,
                Err(_) => return Err(Error::DeadlineExceeded),
            },
        };
        answer.map_err(|_| Error::internal("the door forgot a request"))??;
        metrics::histogram!(names::ADMISSION_WAIT_SECONDS).record(asked.elapsed());
        Ok(self.place(context.caller))
    }

    fn place(self: &Arc<Self>, caller: Caller) -> Place {
        Place { admission: Arc::clone(self), caller, started: Instant::now() }
    }

    /// Puts a request at the end of its caller's line.
    fn line_up(
        &self,
        state: &mut State,
        bytes: u64,
        context: &RequestContext,
        now: Instant,
    ) -> Result<InLine<'_>, Error> {
        let wait = self.expected_wait(state, context.caller, context.priority);
        let until_deadline = context.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(now));
        if wait > self.limits.max_wait || wait > until_deadline || bytes > self.limits.max_waiting_bytes {
            return Err(self.refusal(state, wait));
        }
        let Some(leaving) = self.who_makes_room(state, context, bytes) else {
            return Err(self.refusal(state, wait));
        };
        for caller in leaving {
            let Some(last) = state.take(caller, VecDeque::pop_back) else { continue };
            let wait = self.expected_wait(state, caller, state.priority(caller));
            let refusal = self.refusal(state, wait);
            // Who has gone need not be told.
            let _ = last.answer.send(Err(refusal));
        }
        state.waiting += 1;
        state.waiting_bytes += bytes;
        let (answer, receiver) = oneshot::channel();
        let (number, caller) = (state.requests, context.caller);
        state.line(caller, context.priority).waiting.push_back(Waiting { number, bytes, answer });
        Ok(InLine { admission: self, caller, number, answer: receiver })
    }

    /// The callers who give up their last places in the line, once for each, so that a request of `bytes` fits; `None` if nobody has so much that it would be fair.
    fn who_makes_room(&self, state: &State, context: &RequestContext, bytes: u64) -> Option<Vec<Caller>> {
        let (caller, own_weight) = (context.caller, weight(context.priority));
        let mut leaving: BTreeMap<Caller, usize> = BTreeMap::new();
        let (mut waiting, mut waiting_bytes) = (state.waiting, state.waiting_bytes);
        loop {
            let stays = |caller: &Caller, line: &Line| line.waiting.len() - leaving.get(caller).unwrap_or(&0);
            let held = |caller: &Caller, line: &Line| -> u64 {
                line.waiting.iter().take(stays(caller, line)).map(|waiting| waiting.bytes).sum()
            };
            let weighed = |length: usize, line: &Line| length * weight(line.priority);
            let bytes_weighed = |held: u64, weight: usize| held.saturating_mul(weight as u64);
            // What is short decides who has most. Who has as much as that gains nothing by sending away another.
            let most = if waiting >= self.limits.max_waiting {
                let own = (state.lines.get(&caller).map_or(0, |line| line.waiting.len()) + 1) * own_weight;
                let longest = state.lines.iter().map(|(other, line)| (weighed(stays(other, line), line), *other)).max();
                longest.filter(|(length, _)| *length > own).map(|(_, other)| other)
            } else if waiting_bytes + bytes > self.limits.max_waiting_bytes {
                let own = state.lines.get(&caller).map_or(0, |line| held(&caller, line)) + bytes;
                let own = bytes_weighed(own, own_weight);
                let all = state.lines.iter();
                let largest =
                    all.map(|(other, line)| (bytes_weighed(held(other, line), weight(line.priority)), *other)).max();
                largest.filter(|(held, _)| *held > own).map(|(_, other)| other)
            } else {
                return Some(leaving.into_iter().flat_map(|(other, count)| vec![other; count]).collect());
            }?;
            let line = state.lines.get(&most)?;
            waiting_bytes -= line.waiting[stays(&most, line) - 1].bytes;
            waiting -= 1;
            *leaving.entry(most).or_default() += 1;
        }
    }

    /// Gives places that have become free to the caller who has the fewest, weighed by priority; of several, to the one whose turn is longest ago, and then to who asked first.
    fn give_on(&self, state: &mut State) {
        while state.running < self.limits.max_running {
            let waits = state.lines.iter().filter(|(_, line)| !line.waiting.is_empty());
            let has = |line: &Line| (line.running * weight(line.priority), line.turn, line.waiting[0].number);
            let Some((&caller, line)) = waits.min_by_key(|(_, line)| has(line)) else { return };
            let priority = line.priority;
            let Some(next) = state.take(caller, VecDeque::pop_front) else { return };
            state.give_place(caller, priority);
            if next.answer.send(Ok(())).is_err() {
                // The caller has gone.
                state.take_place(caller);
            }
        }
    }

    /// How long a caller's next request waits at the present pace: until those of its own line have had their turns, between which those of as
    /// many others get theirs, or of more or fewer where their priority differs.
    fn expected_wait(&self, state: &State, caller: Caller, priority: Priority) -> Duration {
        let own = state.lines.get(&caller).map_or(0, |line| line.waiting.len()) + 1;
        let before: usize = state
            .lines
            .iter()
            .map(|(other, line)| match *other == caller {
                true => own,
                false => line.waiting.len().min((own * weight(priority)).div_ceil(weight(line.priority))),
            })
            .sum();
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let places = u32::try_from(self.limits.max_running.max(1)).unwrap_or(u32::MAX);
        state.mean_held.saturating_mul(before) / places
    }

    /// Refuses with the time after which the line will be shorter: what the caller would have waited, but no longer than anybody may. The refused are spread over as
    /// long again, so that they do not come back all at once.
    fn refusal(&self, state: &mut State, wait: Duration) -> Error {
        let spread = u32::try_from(state.refused % SPREAD).unwrap_or_default();
        state.refused += 1;
        let wait = wait.clamp(MIN_RETRY, self.limits.max_wait.max(MIN_RETRY));
        Error::Overloaded { retry_after: wait + wait * spread / SPREAD as u32 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock; the state is whole even if the mutex says otherwise.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give_place(&mut self, caller: Caller, priority: Priority) {
        self.running += 1;
        self.turn += 2;
        let turn = self.turn + turns_behind(priority);
        let line = self.line(caller, priority);
        line.running += 1;
        line.turn = turn;
    }

    fn priority(&self, caller: Caller) -> Priority {
        self.lines.get(&caller).map_or_else(Priority::default, |line| line.priority)
    }

    /// A line that begins now comes after all who have waited since before the last place was given, and before who got that.
    fn line(&mut self, caller: Caller, priority: Priority) -> &mut Line {
        let turn = self.turn.saturating_sub(1) + turns_behind(priority);
        let line = self.lines.entry(caller).or_insert_with(|| Line { turn, ..Line::default() });
        line.priority = priority;
        line
    }

    fn take_place(&mut self, caller: Caller) {
        self.running -= 1;
        if let Some(line) = self.lines.get_mut(&caller) {
            line.running -= 1;
        }
        self.forget(caller);
    }

    /// Takes a request out of its caller's line.
    fn take(
        &mut self,
        caller: Caller,
        which: impl FnOnce(&mut VecDeque<Waiting>) -> Option<Waiting>,
    ) -> Option<Waiting> {
        let taken = which(&mut self.lines.get_mut(&caller)?.waiting)?;
        self.waiting -= 1;
        self.waiting_bytes -= taken.bytes;
        self.forget(caller);
        Some(taken)
    }

    /// Callers without requests take no memory.
    fn forget(&mut self, caller: Caller) {
        if self.lines.get(&caller).is_some_and(|line| line.running == 0 && line.waiting.is_empty()) {
            self.lines.remove(&caller);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // One that takes very long must not make the line seem too long for everybody: as many as there are places may always wait.
        let held = self.started.elapsed().min(self.admission.limits.max_wait);
        let mut state = self.admission.lock();
        let mean = state.mean_held;
        state.mean_held = if mean.is_zero() { held } else { mean - mean / NEWEST_SHARE + held / NEWEST_SHARE };
        state.take_place(self.caller);
        self.admission.give_on(&mut state);
    }
}

/// A request that waits. Dropping it leaves the line, also when the caller goes away and the future that waits is dropped.
struct InLine<'a> {
    admission: &'a Admission,
    caller: Caller,
    number: u64,
    answer: oneshot::Receiver<Result<(), Error>>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        let number = self.number;
        let leave = |line: &mut VecDeque<Waiting>| {
            let at = line.iter().position(|waiting| waiting.number == number)?;
            line.remove(at)
        };
        let left = state.take(self.caller, leave);
        // A place that was given in the moment of leaving, and that nobody took.
        if left.is_none() && matches!(self.answer.try_recv(), Ok(Ok(()))) {
            state.take_place(self.caller);
            self.admission.give_on(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Caller = Caller(1);
    const B: Caller = Caller(2);

    fn limits(max_running: usize, max_waiting: usize, max_waiting_bytes: u64) -> AdmissionLimits {
        AdmissionLimits { max_running, max_waiting, max_waiting_bytes, max_wait: Duration::from_secs(60) }
    }

    fn door(max_running: usize, max_waiting: usize, max_waiting_bytes: u64) -> Arc<Admission> {
        Admission::new(limits(max_running, max_waiting, max_waiting_bytes))
    }

    fn of(caller: Caller) -> RequestContext {
        RequestContext::new(None, caller)
    }

    async fn settle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// How many places each of two callers gets who always have ten requests in line, of `turns` that are given out.
    async fn shares(places: usize, priorities: [Priority; 2], turns: u32) -> [u32; 2] {
        let door = door(places, 100, 10_000);
        let served = Arc::new(Mutex::new([0; 2]));
        let tasks = priorities.into_iter().enumerate().flat_map(|(index, priority)| {
            let (door, served) = (Arc::clone(&door), Arc::clone(&served));
            (0..10).map(move |_| {
                let (door, served) = (Arc::clone(&door), Arc::clone(&served));
                tokio::spawn(async move {
                    loop {
                        let context = RequestContext::prioritised(None, Caller(index as u64), priority);
                        let place = door.enter(10, &context).await.unwrap();
                        served.lock().unwrap()[index] += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        drop(place);
                    }
                })
            })
        });
        let tasks: Vec<_> = tasks.collect();
        tokio::time::sleep(Duration::from_millis(u64::from(turns) * 10 / places as u64)).await;
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let [first, second] = *served.lock().unwrap();
        [first, second]
    }

    #[tokio::test(start_paused = true)]
    async fn a_higher_priority_gets_about_four_times_the_places_and_nobody_none() {
        for places in [1, 4, 16] {
            for (priorities, least, most) in [
                ([Priority::High, Priority::Normal], 2.5, 5.0),
                ([Priority::Normal, Priority::Low], 2.5, 5.0),
                ([Priority::High, Priority::Low], 6.0, 17.0),
                ([Priority::Normal, Priority::Normal], 0.9, 1.1),
                ([Priority::Low, Priority::Low], 0.9, 1.1),
            ] {
                let [higher, lower] = shares(places, priorities, 800).await;
                let ratio = f64::from(higher) / f64::from(lower);
                // Everybody who waits has a place where there are several; and who has ten in line can fill no more than ten of sixteen.
                let least = f64::min(least, [99.0, 3.0, 1.4][usize::from(places > 1) + usize::from(places > 4)]);
                assert!((least..=most).contains(&ratio), "{places} places, {priorities:?}: {higher} to {lower}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_of_low_priority_makes_room_for_a_high_one() {
        let door = door(1, 4, 10_000);
        let _place = door.enter(10, &of(A)).await.unwrap();
        let enter = |caller: Caller, priority: Priority| {
            let door = Arc::clone(&door);
            tokio::spawn(async move { door.enter(10, &RequestContext::prioritised(None, caller, priority)).await })
        };
        let low: Vec<_> = (0..2).map(|_| enter(A, Priority::Low)).collect();
        let normal: Vec<_> = (0..2).map(|_| enter(B, Priority::Normal)).collect();
        settle().await;
        // Three of its own for one of low priority, and the last of those stays.
        let high: Vec<_> = (0..3).map(|_| enter(Caller(3), Priority::High)).collect();
        settle().await;
        assert!(high.iter().all(|one| !one.is_finished()));
        let gone = |of: &[tokio::task::JoinHandle<_>]| of.iter().filter(|one| one.is_finished()).count();
        assert_eq!((gone(&low), gone(&normal)), (2, 1));
    }

    /// Enters from a task of its own, which ends with the answer.
    fn enter(door: &Arc<Admission>, caller: Caller) -> tokio::task::JoinHandle<Result<Place, Error>> {
        let door = Arc::clone(door);
        tokio::spawn(async move { door.enter(10, &of(caller)).await })
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_goes_to_who_waits() {
        let door = door(1, 1, 100);
        let first = door.enter(10, &of(A)).await.unwrap();
        let waiting = enter(&door, A);
        settle().await;
        assert_eq!((door.status().running, door.status().waiting), (1, 1));
        drop(first);
        drop(waiting.await.unwrap().unwrap());
        assert_eq!((door.status().running, door.status().waiting), (0, 0));
        assert!(door.lock().lines.is_empty(), "callers without requests are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_may_wait_is_refused_at_once_and_so_are_too_many_bytes() {
        let door = door(1, 1, 100);
        let _first = door.enter(10, &of(A)).await.unwrap();
        assert!(matches!(door.enter(101, &of(A)).await, Err(Error::Overloaded { .. })));
        let waiting = enter(&door, A);
        settle().await;
        assert!(matches!(
            door.enter(10, &of(A)).await,
            Err(Error::Overloaded { retry_after }) if retry_after >= MIN_RETRY
        ));
        assert_eq!(door.status().refused, 2);
        // The caller goes away; its place in the line is free again.
        waiting.abort();
        settle().await;
        assert_eq!(door.status().waiting, 0);
        assert_eq!(door.lock().waiting_bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_the_wait() {
        let door = door(1, 4, 100);
        let _first = door.enter(10, &of(A)).await.unwrap();
        let deadline = tokio::time::Instant::now().into_std() + Duration::from_millis(50);
        let context = RequestContext::new(Some(deadline), A);
        assert!(matches!(door.enter(10, &context).await, Err(Error::DeadlineExceeded)));
        assert_eq!(door.status().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_daemon_admits_nobody_new() {
        let door = door(2, 4, 100);
        door.drain();
        let refused = door.enter(1, &of(A)).await;
        assert!(matches!(refused, Err(Error::Unavailable { state: Unavailable::Draining, .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_little_is_served_between_those_of_who_asks_for_much() {
        let door = door(1, 100, 10_000);
        let mut place = door.enter(10, &of(A)).await.unwrap();
        let many: Vec<_> = (0..20).map(|_| enter(&door, A)).collect();
        settle().await;
        let few: Vec<_> = (0..3).map(|_| enter(&door, B)).collect();
        settle().await;
        let mut order = Vec::new();
        let mut waiting: Vec<_> =
            few.into_iter().map(|one| (B, one)).chain(many.into_iter().map(|one| (A, one))).collect();
        for _ in 0..6 {
            drop(place);
            settle().await;
            let at = waiting.iter().position(|(_, one)| one.is_finished()).unwrap();
            let (caller, one) = waiting.remove(at);
            order.push(caller);
            place = one.await.unwrap().unwrap();
        }
        assert_eq!(order, [B, A, B, A, B, A]);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_who_ask_again_and_again_do_not_keep_out_one_who_never_leaves() {
        let door = door(1, 100, 10_000);
        let served = Arc::new(Mutex::new(BTreeMap::<Caller, u32>::new()));
        let work = |caller: Caller, at_once: u64| {
            (0..at_once).map(move |_| caller).map(|caller| {
                let (door, served) = (Arc::clone(&door), Arc::clone(&served));
                tokio::spawn(async move {
                    loop {
                        let place = door.enter(10, &of(caller)).await.unwrap();
                        *served.lock().unwrap().entry(caller).or_default() += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        drop(place);
                        // Whoever has nothing under way is forgotten meanwhile.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
            })
        };
        let workers: Vec<_> = work(A, 20).chain(work(B, 1)).chain(work(Caller(3), 1)).collect();
        tokio::time::sleep(Duration::from_secs(9)).await;
        workers.iter().for_each(tokio::task::JoinHandle::abort);
        let served = served.lock().unwrap();
        let total: u32 = served.values().sum();
        assert!(total > 800, "{served:?}");
        assert!(served.values().all(|&places| places * 4 > total), "everybody has about a third: {served:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_sent_away_for_one_that_does_not_fit_all_the_same() {
        let door = door(1, 100, 100);
        let _place = door.enter(10, &of(A)).await.unwrap();
        let waiting = [enter(&door, A), enter(&door, A), enter(&door, A)];
        let large = |caller| {
            let door = Arc::clone(&door);
            tokio::spawn(async move { door.enter(35, &of(caller)).await })
        };
        let others = [large(Caller(3)), large(Caller(4))];
        settle().await;
        // All bytes are taken, nobody has as many as this one asks for.
        assert!(matches!(door.enter(90, &of(B)).await, Err(Error::Overloaded { .. })));
        settle().await;
        assert!(waiting.iter().chain(&others).all(|one| !one.is_finished()));
        // One of the two large ones makes room for a small one: they hold most.
        let small = enter(&door, B);
        settle().await;
        assert!(!small.is_finished() && waiting.iter().all(|one| !one.is_finished()));
        assert_eq!(others.iter().filter(|one| one.is_finished()).count(), 1);
        assert_eq!(door.lock().waiting_bytes, 75);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_took_very_long_keeps_nobody_from_waiting() {
        let door = Admission::new(AdmissionLimits { max_wait: Duration::from_millis(250), ..limits(1, 100, 10_000) });
        let place = door.enter(10, &of(A)).await.unwrap();
        door.lock().mean_held = Duration::from_secs(30).min(door.limits.max_wait);
        let next = enter(&door, A);
        settle().await;
        assert!(!next.is_finished());
        drop(place);
        next.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_of_one_caller_makes_room_for_another() {
        let door = door(1, 4, 10_000);
        let _place = door.enter(10, &of(A)).await.unwrap();
        let mut many: Vec<_> = (0..4).map(|_| enter(&door, A)).collect();
        settle().await;
        let other = [enter(&door, B), enter(&door, B), enter(&door, B)];
        settle().await;
        // Two each is the fair share; the newest of the many had to go, and the third of the few.
        assert!(matches!(many.pop().unwrap().await.unwrap(), Err(Error::Overloaded { .. })));
        assert!(matches!(many.pop().unwrap().await.unwrap(), Err(Error::Overloaded { .. })));
        assert_eq!(many.iter().filter(|one| one.is_finished()).count(), 0);
        let [first, second, third] = other;
        assert!(!first.is_finished() && !second.is_finished());
        assert!(matches!(third.await.unwrap(), Err(Error::Overloaded { .. })));
        assert_eq!(door.status().waiting, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_refused_with_times_that_do_not_coincide() {
        let door = Admission::new(AdmissionLimits { max_wait: Duration::from_millis(250), ..limits(1, 100, 10_000) });
        let place = door.enter(10, &of(A)).await.unwrap();
        door.lock().mean_held = Duration::from_millis(100);
        let waiting = [enter(&door, A), enter(&door, A)];
        settle().await;
        let mut times = Vec::new();
        for _ in 0..3 {
            match door.enter(10, &of(A)).await {
                Err(Error::Overloaded { retry_after }) => times.push(retry_after.as_millis()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(times, [250, 265, 281], "the longest wait, and a little more for each");
        // Another caller has a line of its own, between whose requests those of the first get theirs.
        let other = enter(&door, B);
        settle().await;
        assert!(!other.is_finished());
        // A deadline nearer than the expected wait is no use waiting for.
        let soon = RequestContext::new(Some(Instant::now() + Duration::from_millis(80)), B);
        assert!(matches!(door.enter(10, &soon).await, Err(Error::Overloaded { .. })));
        drop((place, waiting));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_given_to_who_has_just_gone_is_given_on() {
        let door = door(1, 4, 100);
        let place = door.enter(10, &of(A)).await.unwrap();
        let context = of(A);
        let mut waits = Box::pin(door.enter(10, &context));
        assert!(futures_poll(&mut waits).await);
        drop(place);
        // The place is its own by now, but it never looks.
        drop(waits);
        assert_eq!(door.status().running, 0);
        assert!(door.enter(10, &of(B)).await.is_ok());
    }

    /// Polls once; true if the future is not ready.
    async fn futures_poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }
}
