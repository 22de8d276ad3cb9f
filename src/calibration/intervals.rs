//! How sure a measured rate is.
//!
//! Used by [`super::fit`] and by `evaluation`. Three kinds of interval, because one formula does not fit all data:
//! Wilson's score interval for independent trials (E. B. Wilson, JASA 22, 1927; recommended by Brown, Cai and DasGupta, 2001);
//! the rule of three where no error was seen (ISO/IEC 19795-1 annex B: 3/N at 95 %); and a bootstrap over subjects where many
//! trials share a person and are anything but independent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the normal distribution: two-sided 95 %.
const Z_95: f64 = 1.959_963_984_540_054;

/// Replicates of a bootstrap. 1 000 is the usual minimum for percentile intervals (Efron and Tibshirani, 1993, chapter 13);
/// more costs time in proportion and steadies the last digit.
pub const BOOTSTRAP_REPLICATES: usize = 1_000;

/// Fewer persons than this are too few for a bootstrap: its replicates only mix those that there are.
pub(crate) const FEW_SUBJECTS: usize = 10;

/// Fewer errors than this leave more than ±30 % at 90 % confidence ("rule of 30", ISO/IEC 19795-1 annex B).
pub const RULE_OF_30: u64 = 30;

/// A measured error rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// `errors / trials`, 0..1.
    pub value: f64,
    pub low_95: f64,
    pub high_95: f64,
    pub errors: u64,
    pub trials: u64,
    /// How the interval was computed.
    pub interval: IntervalMethod,
}

/// How an interval was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMethod {
    /// Wilson's score interval: trials taken as independent.
    Wilson,
    /// No error (or nothing but errors) was seen: the bound is 3 / number of independent trials.
    RuleOfThree,
    /// Percentiles of a bootstrap over subjects, widened to Wilson's where that is wider.
    SubjectBootstrap,
}

/// How much data stands behind a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// At least [`RULE_OF_30`] errors were seen.
    Sufficient,
    /// Some errors, but fewer: the interval is wide.
    FewErrors,
    /// None: only the upper bound means something.
    NoErrors,
}

impl Rate {
    /// A rate over independent trials. No trials at all give the interval 0..1.
    pub fn wilson(errors: u64, trials: u64) -> Self {
        Self::of_effective_trials(errors, trials, trials)
    }

    /// As [`Self::wilson`], but where no error was seen the bound is 3 / `independent` instead of 3 / `trials`.
    pub(crate) fn of_effective_trials(errors: u64, trials: u64, independent: u64) -> Self {
        let bound = if independent == 0 { 1.0 } else { (3.0 / independent as f64).min(1.0) };
        let value = if trials == 0 { 0.0 } else { errors as f64 / trials as f64 };
        let (low_95, high_95, interval) = if errors == 0 {
            (0.0, bound, IntervalMethod::RuleOfThree)
        } else if errors == trials {
            (1.0 - bound, 1.0, IntervalMethod::RuleOfThree)
        } else {
            let (low, high) = wilson_interval(errors, trials);
            (low, high, IntervalMethod::Wilson)
        };
        Self { value, low_95, high_95, errors, trials, interval }
    }

    /// A rate over trials that come in groups: `by_subject` holds (errors, trials) of each subject.
    ///
    /// The interval is the union of the bootstrap over subjects, of Wilson's over all trials and, for few subjects, of Wilson's over as many
    /// trials as there are subjects. Without any error it is the
    /// rule of three over *subjects*: a hundred frames of one session are hardly more than one trial. One subject alone says
    /// nothing about others: the interval is 0..1.
    pub fn by_subject(by_subject: &[(u64, u64)]) -> Self {
        let errors = by_subject.iter().map(|subject| subject.0).sum();
        let trials = by_subject.iter().map(|subject| subject.1).sum();
        let subjects = by_subject.iter().filter(|subject| subject.1 > 0).count();
        let mut rate = Self::of_effective_trials(errors, trials, subjects as u64);
        if subjects < 2 {
            (rate.low_95, rate.high_95) = (0.0, 1.0);
        } else if rate.interval == IntervalMethod::Wilson {
            let mut random = Random::new();
            let (low, high) = percentile_interval((0..BOOTSTRAP_REPLICATES).map(|_| {
                let (mut errors, mut trials) = (0, 0);
                for _ in by_subject {
                    let (e, n) = by_subject[random.below(by_subject.len())];
                    errors += e;
                    trials += n;
                }
                if trials == 0 { 0.0 } else { errors as f64 / trials as f64 }
            }));
            rate.widen_over_subjects((low, high), subjects);
        }
        rate
    }

    /// Widens the interval to one from a bootstrap over subjects and, where they are few, to what as many independent trials as subjects
    /// would allow.
    pub(crate) fn widen_over_subjects(&mut self, (mut low, mut high): (f64, f64), subjects: usize) {
        if subjects < FEW_SUBJECTS {
            let (few_low, few_high) = wilson_interval_of_share(self.value, subjects as f64);
            (low, high) = (low.min(few_low), high.max(few_high));
        }
        self.low_95 = self.low_95.min(low);
        self.high_95 = self.high_95.max(high);
        self.interval = IntervalMethod::SubjectBootstrap;
    }

    /// Whether enough errors were seen to take the value for more than an order of magnitude.
    pub fn support(&self) -> Support {
        match self.errors {
            0 => Support::NoErrors,
            errors if errors < RULE_OF_30 => Support::FewErrors,
            _ => Support::Sufficient,
        }
    }
}

/// Counts errors and trials by subject, ready for [`Rate::by_subject`]; `trials` yields (subject, is an error).
pub fn count_by_subject<'a>(trials: impl IntoIterator<Item = (&'a str, bool)>) -> Vec<(u64, u64)> {
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (subject, error) in trials {
        let count = counts.entry(subject).or_default();
        count.0 += u64::from(error);
        count.1 += 1;
    }
    counts.into_values().collect()
}

/// Wilson's 95 % score interval of `errors` in `trials`, within 0..1. No trials give (0, 1).
pub fn wilson_interval(errors: u64, trials: u64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    wilson_interval_of_share(errors as f64 / trials as f64, trials as f64)
}

pub(crate) fn wilson_interval_of_share(p: f64, n: f64) -> (f64, f64) {
    let z2 = Z_95 * Z_95;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// The 2.5 % and 97.5 % quantiles of the replicates; (0, 1) if there are none.
pub(crate) fn percentile_interval(replicates: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut sorted: Vec<f64> = replicates.collect();
    sorted.sort_by(f64::total_cmp);
    (quantile(&sorted, 0.025).unwrap_or(0.0), quantile(&sorted, 0.975).unwrap_or(1.0))
}

/// The `q` quantile (0..1) of ascending values, linear between order statistics (type 7 of Hyndman and Fan). `None` if empty.
pub fn quantile(ascending: &[f64], q: f64) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    Some(ascending[below] + (ascending[above] - ascending[below]) * (position - position.floor()))
}

/// SplitMix64 (Steele, Lea and Flood, 2014) with a fixed seed: a bootstrap gives the same interval every time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number in `0..n`; the bias of the multiplication is below 2⁻³² for the sizes used here.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_published_values() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score without continuity correction).
        for (errors, trials, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let (l, h) = wilson_interval(errors, trials);
            assert!((l - low).abs() < 5e-5 && (h - high).abs() < 5e-5, "{errors}/{trials}: {l} {h}");
        }
        assert_eq!(wilson_interval(0, 0), (0.0, 1.0));
    }

    #[test]
    fn no_error_gives_the_rule_of_three() {
        let rate = Rate::wilson(0, 30_000);
        assert_eq!((rate.value, rate.low_95, rate.high_95), (0.0, 0.0, 1e-4));
        assert_eq!((rate.interval, rate.support()), (IntervalMethod::RuleOfThree, Support::NoErrors));
        let all = Rate::wilson(300, 300);
        assert_eq!((all.value, all.low_95, all.high_95), (1.0, 0.99, 1.0));
        assert_eq!(Rate::wilson(0, 2).high_95, 1.0);
        assert_eq!(Rate::wilson(0, 0).high_95, 1.0);
    }

    #[test]
    fn thirty_errors_are_enough() {
        assert_eq!(Rate::wilson(29, 1_000).support(), Support::FewErrors);
        assert_eq!(Rate::wilson(30, 1_000).support(), Support::Sufficient);
    }

    #[test]
    fn correlated_trials_widen_the_interval() {
        // One of five subjects causes every error: the frames are worth far less than their number.
        let clustered = Rate::by_subject(&[(50, 50), (0, 50), (0, 50), (0, 50), (0, 50)]);
        let independent = Rate::wilson(100, 500);
        assert_eq!((clustered.value, clustered.errors, clustered.trials), (0.2, 50, 250));
        assert_eq!(clustered.interval, IntervalMethod::SubjectBootstrap);
        assert!(clustered.low_95 < 0.04, "{clustered:?}");
        assert!(clustered.high_95 >= 0.6 && clustered.high_95 > independent.high_95, "{clustered:?}");
        // The same number of errors spread evenly: no wider than Wilson's.
        let even = Rate::by_subject(&[(10, 50); 10]);
        assert_eq!((even.low_95, even.high_95), (independent.low_95, independent.high_95));
        // However even, two subjects are two.
        assert!(Rate::by_subject(&[(1, 50); 2]).high_95 > 0.6);
    }

    #[test]
    fn few_subjects_without_error_say_little() {
        assert_eq!(Rate::by_subject(&[(0, 100); 10]).high_95, 0.3);
        assert_eq!(Rate::by_subject(&[(0, 100); 2]).high_95, 1.0);
        let one = Rate::by_subject(&[(5, 100)]);
        assert_eq!((one.low_95, one.high_95), (0.0, 1.0));
        assert_eq!(Rate::by_subject(&[]).high_95, 1.0);
    }

    #[test]
    fn trials_are_counted_by_subject() {
        assert_eq!(count_by_subject([("b", true), ("a", false), ("b", false)]), [(0, 1), (1, 2)]);
    }

    #[test]
    fn quantiles_lie_between_order_statistics() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 1.0), Some(3.0));
        assert_eq!(quantile(&[7.0], 0.3), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn the_generator_matches_its_reference_and_stays_in_range() {
        // First output of SplitMix64 for the seed 0x9e3779b97f4a7c15 is the second one for the seed 0: 6e789e6aa1b965f4.
        assert_eq!(Random::new().below(1 << 32), 0x6e78_9e6a);
        let mut random = Random::new();
        let mut seen = [0u32; 5];
        for _ in 0..5_000 {
            seen[random.below(5)] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
    }
}
