//! Intervals that know which trials belong to one person, and rates of scored pairs.
//!
//! Used by the files of figures beside it. A person who comes in many trials is hardly more than one trial, so intervals resample persons
//! and not trials; a comparison of two persons counts as often as both were drawn (R. M. Bolle et al., "The subsets bootstrap", 2004).
//! What single trials allow is in [`crate::calibration::intervals`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::calibration::Rate;
use crate::calibration::intervals::{
    BOOTSTRAP_REPLICATES, FEW_SUBJECTS, IntervalMethod, Random, percentile_interval, wilson_interval_of_share,
};

/// A number with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    pub low_95: f64,
    pub high_95: f64,
}

/// The persons of one trial: twice the same for a trial of one person, `None` where they are not known.
pub type Persons = Option<[u32; 2]>;

/// Draws persons again, and tells how often each trial counts then.
#[derive(Debug)]
pub struct Resampling {
    /// By trial, as places in the list of persons. A trial of unknown persons is a person of its own.
    persons: Vec<[usize; 2]>,
    count: usize,
}

impl Resampling {
    pub fn new(trials: impl IntoIterator<Item = Persons>) -> Self {
        let mut places: BTreeMap<u32, usize> = BTreeMap::new();
        let mut count = 0;
        let mut next = || {
            count += 1;
            count - 1
        };
        let persons = trials
            .into_iter()
            .map(|persons| match persons {
                Some(pair) => pair.map(|person| *places.entry(person).or_insert_with(&mut next)),
                None => [next(); 2],
            })
            .collect();
        Self { persons, count }
    }

    /// Different persons.
    pub fn persons(&self) -> usize {
        self.count
    }

    /// The 2.5 % and 97.5 % quantiles of a statistic over draws of as many persons as there are, with a fixed seed: the same input
    /// gives the same interval. The statistic is given how often each trial counts; draws for which it has no value are left out.
    /// `None` for fewer than two persons, who say nothing about others.
    pub fn interval(&self, mut statistic: impl FnMut(&[f64]) -> Option<f64>) -> Option<(f64, f64)> {
        if self.count < 2 {
            return None;
        }
        let mut random = Random::new();
        let mut drawn = vec![0.0f64; self.count];
        let mut weights = vec![0.0f64; self.persons.len()];
        let replicates: Vec<f64> = (0..BOOTSTRAP_REPLICATES)
            .filter_map(|_| {
                drawn.fill(0.0);
                (0..self.count).for_each(|_| drawn[random.below(self.count)] += 1.0);
                for (weight, [a, b]) in weights.iter_mut().zip(&self.persons) {
                    *weight = if a == b { drawn[*a] } else { drawn[*a] * drawn[*b] };
                }
                statistic(&weights)
            })
            .collect();
        (!replicates.is_empty()).then(|| percentile_interval(replicates.into_iter()))
    }

    /// A value with the interval of the statistic that it is one value of.
    pub fn estimate(&self, value: f64, statistic: impl FnMut(&[f64]) -> Option<f64>) -> Estimate {
        // One person alone: anything is possible. Callers know the range and say so.
        let (low, high) = self.interval(statistic).unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        Estimate { value, low_95: low.min(value), high_95: high.max(value) }
    }
}

/// Share of trials that are errors. The interval is the wider one of Wilson's and of the bootstrap over persons; without any error it is
/// the rule of three over trials that share no person.
pub fn error_rate(trials: &[(Persons, bool)]) -> Rate {
    let errors = trials.iter().filter(|(_, error)| *error).count() as u64;
    let total = trials.len() as u64;
    if trials.iter().all(|(persons, _)| persons.is_none()) {
        return Rate::wilson(errors, total);
    }
    let mut rate = Rate::of_effective_trials(errors, total, without_common_persons(trials));
    if rate.interval == IntervalMethod::Wilson {
        let resampling = Resampling::new(trials.iter().map(|(persons, _)| *persons));
        let share = |weights: &[f64]| {
            let all: f64 = weights.iter().sum();
            let wrong: f64 = weights.iter().zip(trials).filter(|(_, (_, error))| *error).map(|(w, _)| w).sum();
            (all > 0.0).then(|| wrong / all)
        };
        let interval = resampling.interval(share).unwrap_or((0.0, 1.0));
        rate.widen_over_subjects(interval, resampling.persons());
    }
    rate
}

/// How many trials can be put aside of which no two have a person in common: taken in order, so at least half of what is possible.
fn without_common_persons(trials: &[(Persons, bool)]) -> u64 {
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    let mut count = 0;
    for (persons, _) in trials {
        let is_new = persons.is_none_or(|pair| pair.iter().all(|person| !taken.contains(person)));
        if is_new {
            count += 1;
            taken.extend(persons.iter().flatten());
        }
    }
    count
}

/// The complement: an accuracy from an error rate.
pub fn complement(rate: &Rate) -> Estimate {
    Estimate { value: 1.0 - rate.value, low_95: 1.0 - rate.high_95, high_95: 1.0 - rate.low_95 }
}

/// A score, whether it ought to be accepted, and whose it is. Higher scores accept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    pub score: f64,
    pub accept: bool,
    pub persons: Persons,
}

/// Equal error rate with its interval over persons, and its threshold. `None` if one of the two kinds is missing.
///
/// Where the two rates do not meet exactly, their mean where they are closest.
pub fn equal_error_rate(trials: &[Labelled]) -> Option<(Estimate, f64)> {
    let mut order: Vec<usize> = (0..trials.len()).collect();
    order.sort_by(|a, b| trials[*a].score.total_cmp(&trials[*b].score));
    let at = |weights: &[f64]| -> Option<(f64, f64)> {
        let mut totals = [0.0f64; 2];
        for (trial, weight) in trials.iter().zip(weights) {
            totals[usize::from(trial.accept)] += weight;
        }
        if totals.iter().any(|total| *total <= 0.0) {
            return None;
        }
        // Below the threshold: accepted kind wrongly rejected, other kind rightly.
        let (mut below, mut best) = ([0.0f64; 2], (f64::INFINITY, 0.0, 0.0));
        let mut place = 0;
        loop {
            let (accepts, rejects) = (1.0 - below[0] / totals[0], below[1] / totals[1]);
            let threshold = order.get(place).map(|index| trials[*index].score);
            let mean = (accepts + rejects) / 2.0;
            let apart = (accepts - rejects).abs();
            if apart < best.0 || (apart == best.0 && mean < best.1) {
                let last = || trials[order[place - 1]].score.next_up();
                best = (apart, mean, threshold.unwrap_or_else(last));
            }
            let Some(threshold) = threshold else { break };
            while let Some(index) = order.get(place).filter(|index| trials[**index].score == threshold) {
                below[usize::from(trials[*index].accept)] += weights[*index];
                place += 1;
            }
        }
        Some((best.1, best.2))
    };
    let (value, threshold) = at(&vec![1.0; trials.len()])?;
    let resampling = Resampling::new(trials.iter().map(|trial| trial.persons));
    let estimate = resampling.estimate(value, |weights| at(weights).map(|(rate, _)| rate));
    let (low, high) = few_errors(trials, value, resampling.persons());
    let (low, high) = (estimate.low_95.min(low).max(0.0), estimate.high_95.max(high).min(1.0));
    Some((Estimate { value, low_95: low, high_95: high }, threshold))
}

/// What an equal error rate of next to no error still allows: a bootstrap of scores that are apart finds them apart every time.
fn few_errors(trials: &[Labelled], value: f64, persons: usize) -> (f64, f64) {
    let of_kind = |accept: bool| -> Vec<(Persons, bool)> {
        trials.iter().filter(|trial| trial.accept == accept).map(|trial| (trial.persons, false)).collect()
    };
    let kinds = [of_kind(true), of_kind(false)];
    let (mut low, mut high) = (value, value);
    let mut widen = |(l, h): (f64, f64)| (low, high) = (low.min(l), high.max(h));
    let fewest = kinds.iter().map(Vec::len).min().unwrap_or(0) as f64;
    if value * fewest < FEW_ERRORS {
        widen(wilson_interval_of_share(value, fewest));
    }
    if value == 0.0 {
        let independent = kinds.iter().map(|kind| without_common_persons(kind)).min().unwrap_or(0);
        widen((0.0, 3.0 / independent.max(1) as f64));
    }
    if persons < FEW_SUBJECTS {
        widen(wilson_interval_of_share(value, persons as f64));
    }
    (low, high)
}

/// Errors of the smaller kind below which a bootstrap knows less than the formula.
const FEW_ERRORS: f64 = 5.0;

/// A point of a detection error trade-off curve: (false accept rate, false reject rate).
pub type DetPoint = [f64; 2];

/// The detection error trade-off over all thresholds, from strict to lenient, thinned to at most `points` of them.
pub fn det_curve(trials: &[Labelled], points: usize) -> Vec<DetPoint> {
    let sorted = |accept: bool| {
        let mut scores: Vec<f64> = trials.iter().filter(|t| t.accept == accept).map(|t| t.score).collect();
        scores.sort_by(f64::total_cmp);
        scores
    };
    let (accept, reject) = (sorted(true), sorted(false));
    if accept.is_empty() || reject.is_empty() {
        return Vec::new();
    }
    let mut thresholds: Vec<f64> = accept.iter().chain(&reject).copied().collect();
    thresholds.sort_by(f64::total_cmp);
    thresholds.dedup();
    let all: Vec<DetPoint> = thresholds
        .iter()
        .rev()
        .map(|threshold| {
            let below = |scores: &[f64]| scores.partition_point(|score| score < threshold) as f64 / scores.len() as f64;
            [1.0 - below(&reject), below(&accept)]
        })
        .collect();
    // Corners of the steps are what is seen; of equal false accept rates the lowest false reject rate stays.
    let mut corners: Vec<DetPoint> = Vec::new();
    for point in all {
        match corners.last_mut() {
            Some(last) if last[0] == point[0] => *last = point,
            _ => corners.push(point),
        }
    }
    let step = corners.len().div_ceil(points.max(1)).max(1);
    let last = corners.len().saturating_sub(1);
    corners.into_iter().enumerate().filter(|(i, _)| i % step == 0 || *i == last).map(|(_, point)| point).collect()
}

/// Counts of values in equal bins over `[low, high]` as (from, to, share of all values); values outside go into the outer bins.
pub fn histogram(values: &[f64], [low, high]: [f64; 2], bins: usize) -> Vec<[f64; 3]> {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let width = (high - low) / bins.max(1) as f64;
    if finite.is_empty() || width.is_nan() || width <= 0.0 {
        return Vec::new();
    }
    let mut counts = vec![0u64; bins.max(1)];
    for value in &finite {
        let bin = ((value - low) / width).floor().max(0.0) as usize;
        counts[bin.min(bins - 1)] += 1;
    }
    let total = finite.len() as f64;
    let bar = |(bin, count): (usize, u64)| {
        let from = low + width * bin as f64;
        [from, from + width, count as f64 / total]
    };
    counts.into_iter().enumerate().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Support;

    fn labelled(score: f64, accept: bool) -> Labelled {
        Labelled { score, accept, persons: None }
    }

    #[test]
    fn unknown_persons_are_independent_trials() {
        let trials: Vec<(Persons, bool)> = (0..100).map(|n| (None, n < 10)).collect();
        assert_eq!(error_rate(&trials), Rate::wilson(10, 100));
    }

    #[test]
    fn one_person_behind_all_errors_widens_the_interval() {
        let trials: Vec<(Persons, bool)> = (0..250).map(|n| (Some([n / 50, n / 50]), n < 50)).collect();
        let rate = error_rate(&trials);
        assert_eq!((rate.value, rate.interval), (0.2, IntervalMethod::SubjectBootstrap));
        assert!(rate.low_95 < 0.04 && rate.high_95 >= 0.6, "{rate:?}");
    }

    #[test]
    fn without_an_error_pairs_of_the_same_persons_count_once() {
        // 90 comparisons of ten persons: five pairs have nobody in common.
        let all = (0..10).flat_map(|a| (0..10).filter(move |b| a != *b).map(move |b| (Some([a, b]), false)));
        let rate = error_rate(&all.collect::<Vec<_>>());
        assert_eq!((rate.trials, rate.high_95, rate.support()), (90, 3.0 / 5.0, Support::NoErrors));
    }

    #[test]
    fn equal_error_rate_by_hand() {
        let trials: Vec<Labelled> = [(0.4, true), (0.6, true), (0.7, true), (0.8, true)]
            .into_iter()
            .chain([(0.1, false), (0.2, false), (0.3, false), (0.5, false)])
            .map(|(score, accept)| labelled(score, accept))
            .collect();
        let (rate, threshold) = equal_error_rate(&trials).unwrap();
        assert_eq!((rate.value, threshold), (0.25, 0.5));
        assert!(rate.low_95 < 0.25 && rate.high_95 > 0.25);
        let apart = [labelled(0.9, true), labelled(0.1, false)];
        assert_eq!(equal_error_rate(&apart).unwrap().0.value, 0.0);
        let inverted = [labelled(0.1, true), labelled(0.9, false)];
        assert_eq!(equal_error_rate(&inverted).unwrap().0.value, 1.0);
        assert!(equal_error_rate(&apart[..1]).is_none());
        // All alike: nothing can be told apart.
        let alike = [labelled(0.5, true), labelled(0.5, false)];
        assert_eq!(equal_error_rate(&alike).unwrap().0.value, 0.5);
    }

    #[test]
    fn the_trade_off_goes_from_strict_to_lenient() {
        let trials = [labelled(0.2, false), labelled(0.4, true), labelled(0.6, false), labelled(0.8, true)];
        assert_eq!(det_curve(&trials, 100), [[0.0, 0.5], [0.5, 0.0], [1.0, 0.0]]);
        let many: Vec<Labelled> = (0..10_000).map(|n| labelled(f64::from(n % 977), n % 3 == 0)).collect();
        let curve = det_curve(&many, 200);
        assert!(curve.len() <= 202 && curve.last() == Some(&[1.0, 0.0]));
        assert!(curve.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] >= pair[1][1]));
    }

    #[test]
    fn histograms_hold_every_finite_value() {
        let bars = histogram(&[-5.0, 0.0, 0.5, 1.0, f64::NAN, 9.0], [0.0, 1.0], 2);
        assert_eq!(bars, [[0.0, 0.5, 0.4], [0.5, 1.0, 0.6]]);
        assert!(histogram(&[], [0.0, 1.0], 2).is_empty());
        assert!(histogram(&[1.0], [1.0, 1.0], 2).is_empty());
    }
}
