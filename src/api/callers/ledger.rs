//! What one user has asked for, and whether the next request may begin.
//!
//! Called by `callers`, which keeps one [`Ledger`] for each user. Pure: time is a parameter, and nothing is looked up here. The rate is the generic cell rate algorithm (ITU-T I.371, annex A),
//! whose state is one point in time. Left out: fairness among those who may (`pipeline::admission`).

use std::time::{Duration, Instant};

use crate::error::{Error, Quota};

/// The numbers of a policy. Zero is without a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    pub max_concurrent: usize,
    pub requests_per_minute: u32,
    /// Requests that may come at once within the rate.
    pub burst: u32,
    /// Malformed requests, beyond the good ones, before a user has to pause.
    pub malformed_burst: u32,
}

impl Quotas {
    /// Those that hold for what is not allowed.
    pub fn pauses(self) -> Self {
        Self { malformed_burst: self.malformed_burst, ..Self::default() }
    }
}

/// How a request ended, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was answered.
    Good,
    /// It could not be read, asked for what there is not, or was not allowed.
    Malformed,
    /// Neither tells something of the caller: overload, a deadline, our own fault, or the caller left.
    Other,
}

/// The first pause of who sends malformed requests. Each further one doubles it, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest pause. It bounds what sends malformed input to six requests a minute, and a caller that was mended, or that passes on the pictures of others of whom one means harm, waits no
/// longer than that.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// One malformed request is forgotten in this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);

/// Bounds of what a user is told who has as many requests at work as may be.
const RETRY_WHEN_BUSY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));

/// One user's account.
#[derive(Debug, Default)]
pub struct Ledger {
    in_flight: usize,
    counts: CallerCounts,
    /// When the next request is due at the exact rate; in the past for who asks for less.
    due: Option<Instant>,
    /// Malformed requests that are not forgotten, at the time of the last change.
    malformed: f64,
    changed: Option<Instant>,
    pause: Duration,
    paused_until: Option<Instant>,
    /// Exponential mean of how long a request takes.
    mean: Duration,
}

/// Since the daemon first saw the user, or saw it again after it was forgotten.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CallerCounts {
    pub begun: u64,
    pub malformed: u64,
    pub bytes: u64,
    /// By [`Quota`].
    pub refused: [u64; Quota::ALL.len()],
}

impl Ledger {
    /// Begins a request, or tells what is spent and when it is worth trying again.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is spent by it but its own count.
    pub fn begin(&mut self, quotas: &Quotas, now: Instant) -> Result<(), Refusal> {
        match self.refusal(quotas, now) {
            Some(refusal) => {
                self.refuse(refusal.quota);
                Err(refusal)
            }
            None => {
                if let Some(interval) = interval(quotas) {
                    self.due = Some(self.due.map_or(now, |due| due.max(now)) + interval);
                }
                self.in_flight += 1;
                self.counts.begun += 1;
                Ok(())
            }
        }
    }

    fn refusal(&self, quotas: &Quotas, now: Instant) -> Option<Refusal> {
        let refusal = |quota, retry_after| Some(Refusal { quota, retry_after });
        if let Some(pause) = self.paused(quotas, now) {
            return Some(pause);
        }
        if quotas.max_concurrent > 0 && self.in_flight >= quotas.max_concurrent {
            let (least, most) = RETRY_WHEN_BUSY;
            return refusal(Quota::Concurrent, self.mean.clamp(least, most));
        }
        let (interval, due) = (interval(quotas)?, self.due?);
        let may_be_early = interval * (quotas.burst.max(1) - 1);
        let ahead = due.saturating_duration_since(now);
        if ahead > may_be_early { refusal(Quota::Rate, ahead - may_be_early) } else { None }
    }

    /// While the user has to pause after malformed input.
    pub fn paused(&self, quotas: &Quotas, now: Instant) -> Option<Refusal> {
        let until = self.paused_until.filter(|until| *until > now && quotas.malformed_burst > 0)?;
        Some(Refusal { quota: Quota::Malformed, retry_after: until - now })
    }

    /// Counts what was refused elsewhere.
    pub fn refuse(&mut self, quota: Quota) {
        self.counts.refused[quota as usize] += 1;
    }

    /// Ends a request that has begun.
    pub fn end(&mut self, quotas: &Quotas, end: End, took: Duration, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        // An eighth of each: the mean of the last dozen or so.
        self.mean = if self.mean.is_zero() { took } else { self.mean - self.mean / 8 + took / 8 };
        match end {
            End::Other => {}
            End::Good => {
                self.forget(now);
                // Whoever passes on the pictures of many people has bad ones among them; that is no attack.
                self.malformed = (self.malformed - 1.0).max(0.0);
                if self.malformed < 1.0 {
                    self.pause = Duration::ZERO;
                }
            }
            End::Malformed => self.malformed(quotas, now),
        }
    }

    /// Notes malformed input: a request, or a frame of one.
    pub fn malformed(&mut self, quotas: &Quotas, now: Instant) {
        self.counts.malformed += 1;
        self.forget(now);
        self.malformed += 1.0;
        let most = f64::from(quotas.malformed_burst);
        if quotas.malformed_burst > 0 && self.malformed > most {
            // The next one after the pause is one too many again, unless it comes late.
            self.malformed = most;
            // Several that were at work at once make one pause.
            if self.paused_until.is_none_or(|until| until <= now) {
                self.pause = (self.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
                self.paused_until = Some(now + self.pause);
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        // What passes while a user has to pause is no merit.
        let since = self.changed.max(self.paused_until.filter(|until| *until <= now));
        let passed = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.malformed = (self.malformed - passed.as_secs_f64() / FORGOTTEN_AFTER.as_secs_f64()).max(0.0);
        if self.malformed == 0.0 {
            self.pause = Duration::ZERO;
        }
        self.changed = Some(now);
    }

    /// Counts bytes of requests.
    pub fn read(&mut self, bytes: u64) {
        self.counts.bytes += bytes;
    }

    /// Requests that have begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn counts(&self) -> CallerCounts {
        self.counts
    }

    /// Forgets what a former policy has asked for; what is counted stays.
    pub fn pardon(&mut self) {
        (self.due, self.paused_until, self.pause, self.malformed) = (None, None, Duration::ZERO, 0.0);
    }

    /// Nothing at work, no pause to keep, and no rate to make up for.
    pub fn owes_nothing(&self, now: Instant) -> bool {
        self.in_flight == 0 && self.paused_for(now).is_zero() && self.due.is_none_or(|due| due <= now)
    }

    /// How long the user has to pause yet.
    pub fn paused_for(&self, now: Instant) -> Duration {
        self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

impl CallerCounts {
    pub fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.malformed += other.malformed;
        self.bytes += other.bytes;
        for (own, other) in self.refused.iter_mut().zip(other.refused) {
            *own += other;
        }
    }
}

/// What is spent, and after which time it is worth trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub quota: Quota,
    pub retry_after: Duration,
}

/// Between two requests at the exact rate.
fn interval(quotas: &Quotas) -> Option<Duration> {
    (quotas.requests_per_minute > 0).then(|| Duration::from_secs(60) / quotas.requests_per_minute)
}

impl Refusal {
    pub fn into_error(self, policy: &str, quotas: &Quotas) -> Error {
        let limit = match self.quota {
            Quota::Concurrent => quotas.max_concurrent as u64,
            Quota::Rate => u64::from(quotas.requests_per_minute),
            Quota::Malformed => u64::from(quotas.malformed_burst),
            // Not refused here.
            Quota::Bytes | Quota::Connections => 0,
        };
        Error::QuotaSpent { quota: self.quota, policy: policy.to_owned(), limit, retry_after: Some(self.retry_after) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Quotas = Quotas { max_concurrent: 0, requests_per_minute: 0, burst: 0, malformed_burst: 0 };
    const MS: Duration = Duration::from_millis(1);

    fn run(ledger: &mut Ledger, quotas: &Quotas, end: End, now: Instant) -> Result<(), Refusal> {
        ledger.begin(quotas, now)?;
        ledger.end(quotas, end, MS, now);
        Ok(())
    }

    #[test]
    fn without_limits_nothing_is_refused_and_all_is_counted() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for _ in 0..1000 {
            ledger.begin(&NONE, now).unwrap();
        }
        for _ in 0..1000 {
            ledger.end(&NONE, End::Malformed, MS, now);
        }
        assert_eq!((ledger.in_flight, ledger.counts.begun, ledger.counts.malformed), (0, 1000, 1000));
        assert_eq!(ledger.paused_for(now), Duration::ZERO);
    }

    #[test]
    fn a_rate_lets_its_burst_through_and_then_one_each_interval() {
        let quotas = Quotas { requests_per_minute: 60, burst: 3, ..NONE };
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        for _ in 0..3 {
            run(&mut ledger, &quotas, End::Good, start).unwrap();
        }
        let refused = run(&mut ledger, &quotas, End::Good, start).unwrap_err();
        assert_eq!(refused, Refusal { quota: Quota::Rate, retry_after: Duration::from_secs(1) });
        // Who comes back when told is served, and who comes a little earlier is not.
        assert!(run(&mut ledger, &quotas, End::Good, start + Duration::from_secs(1) - MS).is_err());
        run(&mut ledger, &quotas, End::Good, start + Duration::from_secs(1)).unwrap();
        assert!(run(&mut ledger, &quotas, End::Good, start + Duration::from_secs(1)).is_err());
        // A pause gives the whole burst back and no more.
        let later = start + Duration::from_secs(100);
        let through = (0..10).filter(|_| run(&mut ledger, &quotas, End::Good, later).is_ok()).count();
        assert_eq!(through, 3);
        assert_eq!(ledger.counts.refused[Quota::Rate as usize], 1 + 1 + 1 + 7);
    }

    #[test]
    fn in_an_hour_no_more_pass_than_the_rate_says() {
        let quotas = Quotas { requests_per_minute: 7, burst: 5, ..NONE };
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let through = (0..36_000_u32)
            .filter(|tenth| run(&mut ledger, &quotas, End::Good, start + Duration::from_millis(100) * *tenth).is_ok())
            .count();
        assert!((420..=425).contains(&through), "{through}");
    }

    #[test]
    fn as_many_as_may_run_at_once_and_one_more_when_one_has_ended() {
        let quotas = Quotas { max_concurrent: 2, ..NONE };
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.begin(&quotas, now).unwrap();
        ledger.begin(&quotas, now).unwrap();
        let refused = ledger.begin(&quotas, now).unwrap_err();
        assert_eq!(refused.quota, Quota::Concurrent);
        assert!(refused.retry_after >= RETRY_WHEN_BUSY.0);
        ledger.end(&quotas, End::Other, Duration::from_millis(400), now);
        ledger.begin(&quotas, now).unwrap();
        // It is told to come back after about as long as a request takes.
        assert_eq!(ledger.begin(&quotas, now).unwrap_err().retry_after, Duration::from_millis(400));
    }

    #[test]
    fn malformed_requests_make_pauses_that_double_up_to_a_bound() {
        let quotas = Quotas { malformed_burst: 5, ..NONE };
        let (mut ledger, mut now) = (Ledger::default(), Instant::now());
        for _ in 0..5 {
            run(&mut ledger, &quotas, End::Malformed, now).unwrap();
        }
        let mut pauses = Vec::new();
        for _ in 0..12 {
            run(&mut ledger, &quotas, End::Malformed, now).unwrap();
            let refused = run(&mut ledger, &quotas, End::Malformed, now).unwrap_err();
            assert_eq!(refused.quota, Quota::Malformed);
            pauses.push(refused.retry_after.as_millis());
            now += refused.retry_after;
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn who_sends_good_requests_between_bad_ones_never_pauses() {
        let quotas = Quotas { malformed_burst: 6, ..NONE };
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        // As many bad ones as good ones, three at a time.
        for request in 0..600 {
            let end = if request % 6 >= 3 { End::Good } else { End::Malformed };
            run(&mut ledger, &quotas, end, now).unwrap();
        }
    }

    #[test]
    fn slow_trickles_are_forgotten_and_so_is_a_mended_callers_past() {
        let quotas = Quotas { malformed_burst: 2, ..NONE };
        let (mut ledger, mut now) = (Ledger::default(), Instant::now());
        for _ in 0..100 {
            run(&mut ledger, &quotas, End::Malformed, now).unwrap();
            now += FORGOTTEN_AFTER;
        }
        for _ in 0..3 {
            run(&mut ledger, &quotas, End::Malformed, now).unwrap();
        }
        assert!(ledger.paused_for(now) > Duration::ZERO);
        now += Duration::from_secs(120);
        for _ in 0..2 {
            run(&mut ledger, &quotas, End::Malformed, now).unwrap();
        }
        assert_eq!(ledger.paused_for(now), Duration::ZERO, "an hour ago is no reason");
        run(&mut ledger, &quotas, End::Malformed, now).unwrap();
        assert_eq!(ledger.paused_for(now), FIRST_PAUSE);
    }

    #[test]
    fn another_policy_pardons_and_counts_go_on() {
        let quotas = Quotas { requests_per_minute: 1, burst: 1, malformed_burst: 1, ..NONE };
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        run(&mut ledger, &quotas, End::Malformed, now).unwrap();
        assert!(run(&mut ledger, &quotas, End::Good, now).is_err() && !ledger.owes_nothing(now));
        ledger.pardon();
        assert!(ledger.owes_nothing(now));
        run(&mut ledger, &quotas, End::Good, now).unwrap();
        assert_eq!((ledger.counts().begun, ledger.counts().refused[Quota::Rate as usize]), (2, 1));
    }

    #[test]
    fn many_malformed_at_once_make_one_pause() {
        let quotas = Quotas { malformed_burst: 2, ..NONE };
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for _ in 0..50 {
            ledger.begin(&quotas, now).unwrap();
        }
        for _ in 0..50 {
            ledger.end(&quotas, End::Malformed, MS, now);
        }
        assert_eq!(ledger.paused_for(now), FIRST_PAUSE);
    }
}
