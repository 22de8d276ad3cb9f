//! The figures of one step, and what limits their meaning.
//!
//! Called by `vouch bench` after each step; `report` shows them. The field names are the keys of the JSON (docs/performance.md), so they are
//! stable.

use serde::Serialize;

use super::load::{Load, Outcome};
use super::machine::Cost;
use super::plan::Planned;
use super::tally::{Faults, Spread};

/// Load of its own above this share of the daemon's processor time makes a generator part of what it measures.
const MOST_OWN_SHARE: f64 = 0.15;

/// Cores taken by others, or by the host, above this share of all make times longer than the daemon's own.
const MOST_OTHERS_SHARE: f64 = 0.05;

/// With less than this share of all cores idle, what others take is taken from the daemon.
const LEAST_IDLE_SHARE: f64 = 0.05;

/// Requests that began late above this share make the load another than the one that was asked for.
const MOST_LATE_SHARE: f64 = 0.01;

/// Fewer answers have no 99 % quantile but their longest.
const ANSWERS_FOR_P99: u64 = 100;

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepFigures {
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub kind: &'static str,
    /// Of a closed loop.
    pub callers: Option<usize>,
    /// Of an open loop: requests offered a second.
    pub offered_per_second: Option<f64>,
    /// Offered load as a share of the throughput at saturation, where it was chosen so.
    pub share_of_saturation: Option<f64>,
    /// Whether it belongs to the search for saturation.
    pub is_search: bool,
    pub connections: usize,
    /// Length of the window, in seconds.
    pub window_s: f64,
    pub sent: u64,
    pub answered: u64,
    pub refused: u64,
    #[serde(flatten)]
    pub faults: Faults,
    /// What of that kind came before the window.
    pub warm_up: Faults,
    /// Before its time, since the daemon was gone.
    pub ended_early: bool,
    pub not_sent: u64,
    pub late: u64,
    /// Answers that came within the window, by its length.
    pub answered_per_second: f64,
    pub latency_ms: Option<Spread>,
    pub p99_over_p50: Option<f64>,
    pub start_lag_ms: Option<Spread>,
    pub accepted_ms: Option<Spread>,
    pub first_result_ms: Option<Spread>,
    pub refusal_ms: Option<Spread>,
    pub retry_delay_ms: Option<Spread>,
    /// Latency by part of the mix.
    pub parts: Vec<PartFigures>,
    /// Processor time of the daemon within the window by the answers that came in it, in seconds.
    pub daemon_cpu_s_per_answer: Option<f64>,
    /// Processor time of this process as a share of the daemon's.
    pub generator_share_of_daemon: Option<f64>,
    pub cost: Cost,
    /// Milliseconds, and the share of answers that took at most so long.
    pub histogram: Vec<[f64; 2]>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartFigures {
    pub name: &'static str,
    pub latency_ms: Option<Spread>,
}

impl StepFigures {
    /// Of a step on so many connections, on a machine of so many cores.
    pub fn new(step: &Planned, outcome: &Outcome, cost: Cost, parts: &[&'static str], setting: Setting) -> Self {
        let Outcome { tally, window, ended_early } = outcome;
        let (kind, callers, offered_per_second) = match step.load {
            Load::Closed { callers, .. } => ("closed", Some(callers), None),
            Load::Open { per_second, .. } => ("open", None, Some(per_second)),
        };
        let latency_ms = tally.latency.spread();
        let cpu_s = cost.daemon.map(|daemon| daemon.cpu_s);
        let of_parts = parts.iter().zip(&tally.latency_by_part);
        let mut figures = Self {
            kind,
            callers,
            offered_per_second,
            share_of_saturation: step.share,
            is_search: step.is_search,
            connections: setting.connections,
            window_s: window.as_secs_f64(),
            sent: tally.sent,
            answered: tally.answered,
            refused: tally.refused,
            faults: tally.faults.clone(),
            warm_up: tally.warm_up.clone(),
            ended_early: *ended_early,
            not_sent: tally.not_sent,
            late: tally.late,
            answered_per_second: tally.answers_in_window as f64 / window.as_secs_f64().max(f64::MIN_POSITIVE),
            p99_over_p50: latency_ms.filter(|spread| spread.p50 > 0.0).map(|spread| spread.p99 / spread.p50),
            latency_ms,
            start_lag_ms: tally.start_lag.spread(),
            accepted_ms: tally.accepted.spread(),
            first_result_ms: tally.first_result.spread(),
            refusal_ms: tally.refusal.spread(),
            retry_delay_ms: tally.retry_delay.spread(),
            parts: of_parts.map(|(name, times)| PartFigures { name, latency_ms: times.spread() }).collect(),
            daemon_cpu_s_per_answer: cpu_s
                .filter(|_| tally.answers_in_window > 0)
                .map(|cpu_s| cpu_s / tally.answers_in_window as f64),
            generator_share_of_daemon: cpu_s.filter(|cpu_s| *cpu_s > 0.0).map(|cpu_s| cost.generator_cpu_s / cpu_s),
            cost,
            histogram: tally.latency.distribution(),
            warnings: Vec::new(),
        };
        figures.warnings = figures.limits(setting.cores);
        figures
    }

    /// What the step is called: `4 callers`, `12.5/s`.
    pub fn name(&self) -> String {
        match (self.callers, self.offered_per_second) {
            (Some(1), _) => "1 caller".into(),
            (Some(callers), _) => format!("{callers} callers"),
            (None, rate) => match (rate.unwrap_or(0.0), self.share_of_saturation) {
                (rate, None) => format!("{rate}/s"),
                (rate, Some(share)) => format!("{}/s ({:.0} %)", digits(rate), share * 100.0),
            },
        }
    }

    /// Faults of the window and of what came before it.
    pub fn all_faults(&self) -> [&Faults; 2] {
        [&self.faults, &self.warm_up]
    }

    /// What a reader has to know before relying on the figures.
    fn limits(&self, cores: usize) -> Vec<String> {
        let mut limits = Vec::new();
        let share = |count: u64| count as f64 / self.sent.max(1) as f64;
        let codes = |faults: &Faults| {
            let codes: Vec<String> = faults.failed.iter().map(|(code, count)| format!("{code} {count}")).collect();
            codes.join(", ")
        };
        if self.ended_early {
            limits.push("ended early: every connection broke, one after the other".into());
        }
        let Faults { wrong, .. } = self.faults;
        if wrong > 0 {
            limits.push(format!("{wrong} of {} requests had another outcome than the first", self.sent));
        }
        let failures = self.faults.failures();
        if failures > 0 {
            limits.push(format!(
                "{failures} of {} requests failed and are in no percentile: {}",
                self.sent,
                codes(&self.faults)
            ));
        }
        if self.warm_up.wrong > 0 {
            limits.push(format!("in the warm-up {} requests had another outcome than the first", self.warm_up.wrong));
        }
        let failures = self.warm_up.failures();
        if failures > 0 {
            limits.push(format!("in the warm-up {failures} requests failed: {}", codes(&self.warm_up)));
        }
        if self.not_sent > 0 {
            limits.push(format!(
                "{} requests were not sent, since as many as --max-in-flight were under way: the load was lower than it says",
                self.not_sent
            ));
        }
        if share(self.late) > MOST_LATE_SHARE {
            limits.push(format!(
                "the load generator fell behind: {} of {} requests began more than 5 ms late (which their latency includes)",
                self.late, self.sent
            ));
        }
        if self.answered == 0 {
            limits.push("no request was answered".into());
        } else if self.answered < ANSWERS_FOR_P99 {
            limits.push(format!("too few answers for a 99 % quantile ({}): it is the longest of them", self.answered));
        }
        if let Some(share) = self.generator_share_of_daemon.filter(|share| *share > MOST_OWN_SHARE) {
            limits.push(format!("the load generator used {:.0} % as much processor time as the daemon", share * 100.0));
        }
        let all = cores.max(1) as f64;
        if let Some(stolen) = self.cost.stolen_cores.filter(|stolen| *stolen > MOST_OTHERS_SHARE * all) {
            limits.push(format!("the host of this virtual machine took {stolen:.2} cores away"));
        }
        if let (Some(others), Some(idle)) = (self.cost.other_cores, self.cost.idle_cores)
            && others > MOST_OTHERS_SHARE * all
            && idle < LEAST_IDLE_SHARE * all
        {
            limits.push(format!("no core was idle, and other processes kept {others:.2} of them busy"));
        }
        limits
    }
}

/// Circumstances of a step.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub connections: usize,
    /// Of the machine.
    pub cores: usize,
}

/// A number with three digits that count, as long as it is not large.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::machine::DaemonCost;
    use super::super::tally::Tally;
    use super::*;

    #[test]
    fn what_distorts_a_step_is_told_and_what_does_not_is_not() {
        let step = Planned { load: Load::Closed { callers: 2, requests: None }, is_search: false, share: None };
        let daemon = DaemonCost {
            cpu_s: 10.0,
            cores: 1.0,
            resident_bytes_begin: 0,
            resident_bytes_end: 0,
            resident_bytes_peak: 0,
        };
        let limits = |generator_cpu_s: f64, other_cores: f64, idle_cores: f64, stolen_cores: f64, tally: Tally| {
            let cost = Cost {
                daemon: Some(daemon),
                generator_cpu_s,
                generator_cores: 0.0,
                other_cores: Some(other_cores),
                idle_cores: Some(idle_cores),
                stolen_cores: Some(stolen_cores),
            };
            let outcome = Outcome { tally, window: Duration::from_secs(10), ended_early: false };
            StepFigures::new(&step, &outcome, cost, &[], Setting { connections: 1, cores: 4 }).warnings.join("; ")
        };
        let good = || Tally { sent: 200, answered: 200, ..Tally::new(0) };
        assert_eq!(limits(1.0, 0.1, 0.0, 0.1, good()), "");
        // Others are no harm while there is room.
        assert_eq!(limits(1.0, 2.0, 1.0, 0.0, good()), "");
        assert!(limits(1.6, 0.0, 1.0, 0.0, good()).contains("16 % as much processor time"));
        assert!(limits(1.0, 0.5, 0.1, 0.0, good()).contains("other processes kept 0.50 of them busy"));
        assert!(limits(1.0, 0.0, 1.0, 0.3, good()).contains("took 0.30 cores away"));
        let faults = Faults { wrong: 1, failed: [("INTERNAL", 3)].into() };
        let warm_up = Faults { wrong: 5, failed: [("UNKNOWN", 6)].into() };
        let bad = Tally { sent: 200, answered: 90, faults, warm_up, not_sent: 4, late: 3, ..Tally::new(0) };
        let told = limits(1.0, 0.0, 1.0, 0.0, bad);
        for words in [
            "1 of 200 requests had another outcome",
            "INTERNAL 3",
            "in the warm-up 5 requests had another outcome",
            "in the warm-up 6 requests failed: UNKNOWN 6",
            "4 requests were not sent",
            "3 of 200 requests began",
            "(90)",
        ] {
            assert!(told.contains(words), "{words} is not in {told}");
        }
        assert!(limits(0.0, 0.0, 1.0, 0.0, Tally::new(0)).contains("no request was answered"));
    }

    #[test]
    fn three_digits_count() {
        let shown = [0.0, 0.0123, 0.999, 1.0, 9.99, 9.996, 12.34, 99.96, 1234.5].map(digits);
        assert_eq!(shown, ["0.00", "0.012", "0.999", "1.00", "9.99", "10.0", "12.3", "100", "1234"]);
    }
}
