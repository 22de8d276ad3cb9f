//! Counts what came of the requests of a step, and tells the figures.
//!
//! Called by `load` for each request and by `report` for the figures. Times go into HDR histograms (Gil Tene's high dynamic range
//! histogram, crate `hdrhistogram`): of fixed size whatever the number of requests, exact to 0.1 %.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::{End, Reply};

/// Longest time told apart, in microseconds: an hour, beyond any deadline but a day's. Longer ones count as this.
const LONGEST_US: u64 = 3_600_000_000;

/// Significant decimal digits. A fourth would take ten times the memory and tell nothing.
const DIGITS: u8 = 3;

/// A request that began later than this after its intended start counts as late: half a tenth of the quickest answers.
const LATE: Duration = Duration::from_millis(5);

/// Steps of the cumulative distribution, in percent, before those of its tail.
const DISTRIBUTION_STEP_PERCENT: usize = 2;
const TAIL: [f64; 6] = [0.99, 0.995, 0.998, 0.999, 0.9999, 1.0];

/// How a request began.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// It was to begin within the window.
    pub counts: bool,
    /// It ended within the window.
    pub ended_in_window: bool,
    /// From its intended start to its start.
    pub lag: Duration,
}

/// Ends that no request may have, whenever it comes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Faults {
    pub wrong: u64,
    /// By the name of the gRPC code.
    pub failed: BTreeMap<&'static str, u64>,
}

impl Faults {
    fn add(&mut self, end: &End) {
        match end {
            End::Wrong => self.wrong += 1,
            End::Failed { code } => *self.failed.entry(code).or_default() += 1,
            End::Answered | End::Refused { .. } => {}
        }
    }

    /// Requests that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Counts of one step. Those without a remark are of the requests that were to begin within the window.
#[derive(Debug, Clone)]
pub struct Tally {
    pub sent: u64,
    pub answered: u64,
    pub refused: u64,
    pub faults: Faults,
    /// Those of the requests that were to begin before the window: no figure has them, but no answer goes unchecked.
    pub warm_up: Faults,
    /// Scheduled, but too many were under way.
    pub not_sent: u64,
    /// Sent more than [`LATE`] after the intended start.
    pub late: u64,
    /// Answers that came within the window, whenever they were asked for.
    pub answers_in_window: u64,
    /// From the intended start to the summary.
    pub latency: Times,
    /// The same by part of the mix.
    pub latency_by_part: Vec<Times>,
    /// From the intended start to the start.
    pub start_lag: Times,
    /// From the intended start to the event `accepted`.
    pub accepted: Times,
    /// From the intended start to the first result.
    pub first_result: Times,
    /// From the intended start to the refusal.
    pub refusal: Times,
    /// For how long the daemon told refused callers to stay away.
    pub retry_delay: Times,
}

impl Tally {
    /// Nothing yet, of a mix of so many parts.
    pub fn new(parts: usize) -> Self {
        Self {
            sent: 0,
            answered: 0,
            refused: 0,
            faults: Faults::default(),
            warm_up: Faults::default(),
            not_sent: 0,
            late: 0,
            answers_in_window: 0,
            latency: Times::new(),
            latency_by_part: vec![Times::new(); parts],
            start_lag: Times::new(),
            accepted: Times::new(),
            first_result: Times::new(),
            refusal: Times::new(),
            retry_delay: Times::new(),
        }
    }

    /// Counts a request that has ended.
    pub fn add(&mut self, begun: Begun, reply: &Reply) {
        if begun.ended_in_window && reply.end == End::Answered {
            self.answers_in_window += 1;
        }
        if !begun.counts {
            self.warm_up.add(&reply.end);
            return;
        }
        self.faults.add(&reply.end);
        let Begun { lag, .. } = begun;
        self.sent += 1;
        self.late += u64::from(lag > LATE);
        self.start_lag.add(lag);
        match reply.end {
            End::Answered => {
                self.answered += 1;
                self.latency.add(lag + reply.ended);
                if let Some(times) = self.latency_by_part.get_mut(reply.part) {
                    times.add(lag + reply.ended);
                }
                reply.accepted.into_iter().for_each(|time| self.accepted.add(lag + time));
                reply.first_result.into_iter().for_each(|time| self.first_result.add(lag + time));
            }
            End::Refused { retry_after } => {
                self.refused += 1;
                self.refusal.add(lag + reply.ended);
                retry_after.into_iter().for_each(|delay| self.retry_delay.add(delay));
            }
            End::Wrong | End::Failed { .. } => {}
        }
    }
}

/// Many times of one kind.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

/// Milliseconds at which shares of the times lie: of 1000 times, 990 are at most `p99`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
    pub mean: f64,
}

impl Times {
    pub fn new() -> Self {
        // The bounds are valid: 1 is below an hour, and three digits are allowed.
        Self(Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("constant bounds"))
    }

    pub fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST_US));
    }

    /// `None` without any time.
    pub fn spread(&self) -> Option<Spread> {
        let at = |q: f64| milliseconds(self.0.value_at_quantile(q));
        (!self.0.is_empty()).then(|| Spread {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            max: milliseconds(self.0.max()),
            mean: round(self.0.mean() / 1e3),
        })
    }

    /// Points of the cumulative distribution, ascending: milliseconds, and the share of times that are at most so long. Empty without any time.
    pub fn distribution(&self) -> Vec<[f64; 2]> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let body = (0..=98).step_by(DISTRIBUTION_STEP_PERCENT).map(|percent| percent as f64 / 100.0);
        body.chain(TAIL).map(|share| [milliseconds(self.0.value_at_quantile(share)), share]).collect()
    }
}

fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e3
}

/// To microseconds: further digits are noise.
fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_thousand_known_times() {
        let mut times = Times::new();
        (1..=1000).for_each(|ms| times.add(Duration::from_millis(ms)));
        let spread = times.spread().unwrap();
        // Exact to 0.1 %.
        for (found, known) in [
            (spread.p50, 500.0),
            (spread.p90, 900.0),
            (spread.p95, 950.0),
            (spread.p99, 990.0),
            (spread.p99_9, 999.0),
            (spread.max, 1000.0),
            (spread.mean, 500.5),
        ] {
            assert!((found - known).abs() <= known * 1e-3, "{found} in place of {known}");
        }
        assert_eq!(spread.count, 1000);
        let points = times.distribution();
        assert!(points.is_sorted_by(|a, b| a[0] <= b[0] && a[1] < b[1]), "{points:?}");
        assert_eq!(points.len(), 56);
        assert!(points.last().is_some_and(|[ms, share]| *share == 1.0 && (ms - 1000.0).abs() <= 1.0), "{points:?}");
    }

    #[test]
    fn without_times_there_are_no_percentiles() {
        let times = Times::new();
        assert_eq!((times.spread(), times.distribution()), (None, vec![]));
        let mut longest = Times::new();
        longest.add(Duration::from_hours(5));
        assert!(longest.spread().is_some_and(|spread| spread.max >= 3.6e6));
    }

    fn reply(end: End) -> Reply {
        let ms = Duration::from_millis;
        Reply { part: 1, end, accepted: Some(ms(1)), first_result: Some(ms(5)), ended: ms(10) }
    }

    #[test]
    fn every_end_is_counted_once_and_only_answers_have_a_latency() {
        let mut tally = Tally::new(2);
        let begun = Begun { counts: true, ended_in_window: true, lag: Duration::from_millis(6) };
        for end in [
            End::Answered,
            End::Wrong,
            End::Refused { retry_after: Some(Duration::from_millis(40)) },
            End::Refused { retry_after: None },
            End::Failed { code: "INTERNAL" },
        ] {
            tally.add(begun, &reply(end));
        }
        assert_eq!((tally.sent, tally.answered, tally.refused), (5, 1, 2));
        assert_eq!((tally.faults.wrong, tally.faults.failures(), &tally.warm_up), (1, 1, &Faults::default()));
        assert_eq!((tally.late, tally.answers_in_window), (5, 1));
        let count = |times: &Times| times.spread().map_or(0, |spread| spread.count);
        assert_eq!([&tally.latency, &tally.accepted, &tally.refusal, &tally.retry_delay].map(count), [1, 1, 2, 1]);
        assert_eq!(tally.latency_by_part.iter().map(count).collect::<Vec<_>>(), [0, 1]);
        // From the intended start.
        assert!(tally.latency.spread().is_some_and(|spread| (spread.p50 - 16.0).abs() < 0.1));
    }

    #[test]
    fn an_answer_to_the_warm_up_counts_for_the_rate_alone() {
        let mut tally = Tally::new(2);
        tally.add(Begun { counts: false, ended_in_window: true, lag: Duration::ZERO }, &reply(End::Answered));
        tally.add(Begun { counts: true, ended_in_window: false, lag: Duration::ZERO }, &reply(End::Answered));
        assert_eq!((tally.sent, tally.answered, tally.answers_in_window), (1, 1, 1));
    }

    #[test]
    fn faults_of_the_warm_up_are_counted_apart_from_those_of_the_window() {
        let mut tally = Tally::new(2);
        for end in [End::Wrong, End::Failed { code: "INTERNAL" }, End::Refused { retry_after: None }] {
            tally.add(Begun { counts: false, ended_in_window: false, lag: Duration::ZERO }, &reply(end));
        }
        assert_eq!((tally.sent, tally.refused, &tally.faults), (0, 0, &Faults::default()));
        assert_eq!(tally.warm_up, Faults { wrong: 1, failed: [("INTERNAL", 1)].into() });
    }
}
