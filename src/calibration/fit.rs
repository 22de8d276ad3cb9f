//! From labelled scores to rates, and from rates to a calibration file.
//!
//! Called by `vouch evaluate` and `vouch calibrate`, never by the daemon. Pure functions: no file, no clock. Everywhere here a higher score
//! accepts. Terms of ISO/IEC 19795-1 (FMR, FNMR), ISO/IEC 30107-3 (APCER per species, BPCER) and of LFW's protocol (Huang et al.,
//! 2007: the threshold of a fold is chosen on the other folds).
//!
//! The rule that everything here serves: a target that the data cannot bear is refused, and a bearable one with few errors
//! is marked.

use std::collections::BTreeMap;

use super::intervals::count_by_subject;
use super::{Calibration, Curve, CurveKind, Data, Direction, OperatingPoint, Problem, Rate, Support};

/// Thresholds and curve points are multiples of this: finer than any score is worth, coarse enough to be read.
const GRID: f64 = 1e4;

/// The least multiple of the grid that is not below `score`: rounding makes a threshold stricter, never more lenient.
pub(crate) fn round_up(score: f64) -> f64 {
    let rounded = (score * GRID).ceil() / GRID;
    // The product may itself have been rounded down to a whole number.
    if rounded < score { ((score * GRID).ceil() + 1.0) / GRID } else { rounded }
}

/// The greatest multiple of the grid that is not above `score`.
fn round_down(score: f64) -> f64 {
    -round_up(-score)
}

/// Trials that ought to be rejected: impostor comparisons or attacks.
pub trait FalseAccepts {
    /// Number of trials that the smallest supported rate depends on (of the smallest species, where there are several).
    fn trials(&self) -> u64;
    /// Share of trials at or above the threshold, with its interval.
    fn rate(&self, threshold: f64) -> Rate;
    /// The least threshold at which at most `target` of the trials are accepted. `None` if the trials are not known that far.
    fn threshold_for(&self, target: f64) -> Option<f64>;
    /// Scores at which the curve may have a point, in any order.
    fn curve_scores(&self) -> Vec<f64>;
}

/// Independent trials, sorted. The plain case of [`FalseAccepts`].
#[derive(Debug, Clone)]
pub struct SortedScores(Vec<f64>);

impl SortedScores {
    /// Takes scores in any order; those that are no number are a caller's fault and count as lowest.
    pub fn new(mut scores: Vec<f64>) -> Self {
        scores.iter_mut().filter(|score| score.is_nan()).for_each(|score| *score = f64::NEG_INFINITY);
        scores.sort_by(f64::total_cmp);
        Self(scores)
    }

    /// Ascending.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    fn at_or_above(&self, threshold: f64) -> u64 {
        (self.0.len() - self.below(threshold)) as u64
    }

    fn below(&self, threshold: f64) -> usize {
        self.0.partition_point(|score| *score < threshold)
    }

    /// Share of trials below the threshold: FNMR of genuine comparisons, BPCER of live presentations.
    pub fn false_reject_rate(&self, threshold: f64) -> Rate {
        Rate::wilson(self.below(threshold) as u64, self.0.len() as u64)
    }
}

impl FalseAccepts for SortedScores {
    fn trials(&self) -> u64 {
        self.0.len() as u64
    }

    fn rate(&self, threshold: f64) -> Rate {
        Rate::wilson(self.at_or_above(threshold), self.trials())
    }

    fn threshold_for(&self, target: f64) -> Option<f64> {
        // The small number keeps 0.001 × 3 000 from becoming 2.
        let allowed = (target * self.0.len() as f64 + 1e-9).floor() as usize;
        match self.0.len().checked_sub(allowed + 1) {
            // Just above the highest score that may not pass.
            Some(index) => Some(self.0[index].next_up()),
            None => self.0.first().copied(),
        }
    }

    fn curve_scores(&self) -> Vec<f64> {
        let n = self.0.len();
        log_ranks(n).into_iter().map(|rank| self.0[n - rank]).collect()
    }
}

/// Ranks 1..=n, about eight to a decade and `n` itself: where a curve on a logarithmic scale wants its points.
pub(super) fn log_ranks(n: usize) -> Vec<usize> {
    let mut ranks: Vec<usize> =
        (0..).map(|step| 10f64.powf(f64::from(step) / 8.0).round() as usize).take_while(|rank| *rank < n).collect();
    if n > 0 {
        ranks.push(n);
    }
    ranks.dedup();
    ranks
}

/// Presentations of a liveness set: attacks by species, or live ones as a single kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Presentation {
    /// The person shown, or attacked with: frames of one person are correlated.
    pub subject: String,
    /// 0..1, higher is more live.
    pub score: f64,
}

/// Attacks by species (ISO/IEC 30107-3: rates are told per species and the worst one counts).
#[derive(Debug, Clone, Default)]
pub struct Attacks {
    by_species: BTreeMap<String, Vec<Presentation>>,
}

impl Attacks {
    /// By the name of the species, in lower case and without spaces, such as `print` or `screen_replay`.
    pub fn new(by_species: BTreeMap<String, Vec<Presentation>>) -> Self {
        Self { by_species: by_species.into_iter().filter(|(_, attacks)| !attacks.is_empty()).collect() }
    }

    /// APCER of each species at the threshold.
    pub fn rates(&self, threshold: f64) -> BTreeMap<&str, Rate> {
        let rate = |attacks: &[Presentation]| rate_by_subject(attacks, |score| score >= threshold);
        self.by_species.iter().map(|(species, attacks)| (species.as_str(), rate(attacks))).collect()
    }

    fn sorted(&self) -> impl Iterator<Item = SortedScores> {
        self.by_species.values().map(|attacks| SortedScores::new(attacks.iter().map(|attack| attack.score).collect()))
    }
}

impl FalseAccepts for Attacks {
    fn trials(&self) -> u64 {
        self.by_species.values().map(|attacks| attacks.len() as u64).min().unwrap_or(0)
    }

    /// That of the worst species: the highest rate, then the highest upper end.
    fn rate(&self, threshold: f64) -> Rate {
        self.rates(threshold)
            .into_values()
            .max_by(|a, b| a.value.total_cmp(&b.value).then(a.high_95.total_cmp(&b.high_95)))
            .unwrap_or(Rate::wilson(0, 0))
    }

    fn threshold_for(&self, target: f64) -> Option<f64> {
        self.sorted().filter_map(|scores| scores.threshold_for(target)).max_by(f64::total_cmp)
    }

    fn curve_scores(&self) -> Vec<f64> {
        self.sorted().flat_map(|scores| scores.curve_scores()).collect()
    }
}

/// Share of presentations for which `error` holds, with an interval that respects that subjects come with many frames.
pub fn rate_by_subject(presentations: &[Presentation], error: impl Fn(f64) -> bool) -> Rate {
    Rate::by_subject(&count_by_subject(presentations.iter().map(|p| (p.subject.as_str(), error(p.score)))))
}

/// The error rate at the threshold where both kinds of error are as equal as the scores allow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EqualErrorRate {
    /// Mean of the two rates there, 0..1.
    pub rate: f64,
    pub threshold: f64,
}

/// Equal error rate of scores to accept against scores to reject. `None` if one side is empty.
pub fn equal_error_rate(accept: &SortedScores, reject: &SortedScores) -> Option<EqualErrorRate> {
    if accept.0.is_empty() || reject.0.is_empty() {
        return None;
    }
    let rates = |threshold: f64| {
        let false_accept = reject.at_or_above(threshold) as f64 / reject.0.len() as f64;
        let false_reject = accept.below(threshold) as f64 / accept.0.len() as f64;
        (false_accept, false_reject)
    };
    // Rates change only at scores; just above the highest one everything is rejected.
    let highest = accept.0.iter().chain(&reject.0).copied().fold(f64::NEG_INFINITY, f64::max);
    let candidates = accept.0.iter().chain(&reject.0).copied().chain([highest.next_up()]);
    candidates
        .map(|threshold| {
            let (false_accept, false_reject) = rates(threshold);
            (
                (false_accept - false_reject).abs(),
                EqualErrorRate { rate: (false_accept + false_reject) / 2.0, threshold },
            )
        })
        .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.rate.total_cmp(&b.1.rate)))
        .map(|(_, found)| found)
}

/// True accept rate (1 − FNMR) at the threshold that keeps the FMR at or below the target.
///
/// A measure to compare with published ones; whether the data can *support* that target is another question, which
/// [`fit`] answers. `None` if one side is empty.
pub fn true_accept_rate_at(
    genuine: &SortedScores,
    impostors: &impl FalseAccepts,
    target_fmr: f64,
) -> Option<(f64, f64)> {
    let threshold = impostors.threshold_for(target_fmr)?;
    (!genuine.0.is_empty()).then(|| (1.0 - genuine.false_reject_rate(threshold).value, threshold))
}

/// One comparison of a verification protocol.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairScore {
    pub score: f64,
    /// Whether both pictures show one person.
    pub genuine: bool,
    pub fold: u32,
}

/// Accuracy by LFW's View 2.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldAccuracy {
    /// Mean over the folds, 0..1.
    pub mean: f64,
    /// Standard error of the mean.
    pub standard_error: f64,
    /// (fold, accuracy, threshold chosen on the other folds).
    pub folds: Vec<(u32, f64, f64)>,
}

/// Share of right answers, each fold decided with the threshold that is best on the other folds. `None` for fewer than two folds.
pub fn cross_validated_accuracy(pairs: &[PairScore]) -> Option<FoldAccuracy> {
    let mut names: Vec<u32> = pairs.iter().map(|pair| pair.fold).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() < 2 {
        return None;
    }
    let folds: Vec<(u32, f64, f64)> = names
        .iter()
        .map(|&fold| {
            let (own, others): (Vec<PairScore>, Vec<PairScore>) = pairs.iter().partition(|pair| pair.fold == fold);
            let threshold = best_threshold(&others);
            let right = own.iter().filter(|pair| (pair.score >= threshold) == pair.genuine).count();
            (fold, right as f64 / own.len() as f64, threshold)
        })
        .collect();
    let n = folds.len() as f64;
    let mean = folds.iter().map(|fold| fold.1).sum::<f64>() / n;
    let variance = folds.iter().map(|fold| (fold.1 - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some(FoldAccuracy { mean, standard_error: (variance / n).sqrt(), folds })
}

/// The threshold with the most right answers, half-way between the scores that it separates; the lowest of equally good ones.
fn best_threshold(pairs: &[PairScore]) -> f64 {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
    let mut right = sorted.iter().filter(|pair| pair.genuine).count();
    let mut best = (right, sorted.first().map_or(0.0, |pair| pair.score));
    for (index, pair) in sorted.iter().enumerate() {
        // The threshold moves above this pair: it is rejected now.
        if pair.genuine {
            right -= 1
        } else {
            right += 1
        }
        let next = sorted.get(index + 1).map(|pair| pair.score);
        if right > best.0 && next != Some(pair.score) {
            best = (right, next.map_or(pair.score.next_up(), |next| (pair.score + next) / 2.0));
        }
    }
    best.1
}

/// What a file says besides its figures.
#[derive(Debug, Clone)]
pub struct Provenance {
    pub check: String,
    pub score_kind: String,
    pub software: String,
    pub preprocessing: String,
    /// Role to SHA-256.
    pub models: BTreeMap<String, String>,
    pub data: Data,
}

/// An operating point asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Such as `fmr_1e-3`.
    pub name: String,
    /// Highest rate of false accepts, 0..1.
    pub rate: f64,
    /// Scores below the threshold but with at most this rate go to REVIEW; above `rate`.
    pub review_rate: Option<f64>,
}

/// A calibration and what could not be put into it.
#[derive(Debug, Clone)]
pub struct Fitted {
    pub calibration: Calibration,
    /// Targets that the data cannot bear, each with the reason.
    pub refused: Vec<(String, String)>,
}

/// Why no calibration could be made at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    #[error("there are no trials of one of the two kinds")]
    NoTrials,
    #[error("the default operating point {name} is not supported by the data: {reason}")]
    DefaultRefused { name: String, reason: String },
    #[error("the fitted calibration contradicts itself: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unsound(Vec<Problem>),
}

/// An operating point is refused where the data leave open that its rate is more than so many times what its name says: many trials of few
/// persons prove little.
pub(crate) const MAX_OPEN: f64 = 10.0;

/// Rates beside the false accepts and false rejects, such as those of each attack species, at a threshold.
pub type FurtherRates<'a> = &'a dyn Fn(f64) -> Vec<(String, Rate)>;

/// Makes a calibration: a curve of the false-accept rate `kind` and the operating points that the data support.
///
/// `false_rejects` gives FNMR or BPCER at a threshold. A target is refused if even no error at all would leave its upper
/// bound (rule of three) above the target, if the upper end of its interval lies more than `MAX_OPEN` times above it, or if its threshold rejects everything. Fewer than 30 errors are noted on the point.
///
/// # Errors
/// [`FitError`] if nothing useful can be made; single refused targets are listed in the result instead.
pub fn fit(
    provenance: Provenance,
    kind: CurveKind,
    false_accepts: &dyn FalseAccepts,
    false_rejects: &dyn Fn(f64) -> Rate,
    further: FurtherRates<'_>,
    targets: &[Target],
) -> Result<Fitted, FitError> {
    let (accept_name, reject_name) = match kind {
        CurveKind::Fmr => ("fmr", "fnmr"),
        CurveKind::Apcer => ("apcer", "bpcer"),
    };
    if false_accepts.trials() == 0 || false_rejects(0.0).trials == 0 {
        return Err(FitError::NoTrials);
    }
    let mut operating_points = Vec::new();
    let mut refused: Vec<(String, String)> = Vec::new();
    for target in targets {
        match supported_threshold(false_accepts, target.rate) {
            Err(reason) => refused.push((target.name.clone(), reason)),
            Ok(threshold) => {
                let rejects = false_rejects(threshold);
                if rejects.errors == rejects.trials {
                    refused.push((target.name.clone(), format!("its threshold {threshold} would reject everything")));
                    continue;
                }
                let accepts = false_accepts.rate(threshold);
                let species = further(threshold);
                let of_species =
                    species.iter().filter(|(name, _)| name.starts_with(accept_name)).map(|(_, rate)| rate.high_95);
                let open = of_species.fold(accepts.high_95, f64::max);
                if open > MAX_OPEN * target.rate {
                    refused.push((
                        target.name.clone(),
                        format!("the data leave a rate of {open:.1e} open there, as few persons do"),
                    ));
                    continue;
                }
                let mut rates = BTreeMap::from([(accept_name.to_owned(), accepts), (reject_name.to_owned(), rejects)]);
                rates.extend(species);
                let review_threshold = target
                    .review_rate
                    .and_then(|rate| supported_threshold(false_accepts, rate).ok())
                    .filter(|review| *review < threshold);
                let note = match accepts.support() {
                    Support::Sufficient => None,
                    Support::FewErrors => Some(format!(
                        "only {} errors behind {accept_name}: read its interval, not its value",
                        accepts.errors
                    )),
                    Support::NoErrors => Some(format!("no error behind {accept_name}: only its upper bound is known")),
                };
                let name = target.name.clone();
                operating_points.push(OperatingPoint {
                    name,
                    threshold,
                    review_threshold,
                    rates,
                    limits: BTreeMap::new(),
                    note,
                });
            }
        }
    }
    let Some(default) = targets.first() else {
        return Err(FitError::NoTrials);
    };
    if let Some((name, reason)) = refused.iter().find(|(name, _)| *name == default.name) {
        return Err(FitError::DefaultRefused { name: name.clone(), reason: reason.clone() });
    }
    let default_operating_point = default.name.clone();
    operating_points.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
    let calibration = Calibration {
        check: provenance.check,
        score_kind: provenance.score_kind,
        direction: Direction::HigherAccepts,
        software: provenance.software,
        preprocessing: provenance.preprocessing,
        default_operating_point,
        models: provenance.models,
        data: provenance.data,
        operating_points,
        curve: curve(kind, false_accepts),
        fusion: None,
        age: None,
    };
    let problems = calibration.problems();
    if problems.is_empty() { Ok(Fitted { calibration, refused }) } else { Err(FitError::Unsound(problems)) }
}

/// The rounded threshold for a rate, or why there is none.
fn supported_threshold(false_accepts: &dyn FalseAccepts, rate: f64) -> Result<f64, String> {
    let trials = false_accepts.trials();
    let provable = 3.0 / trials as f64;
    if provable > rate {
        return Err(format!("{trials} trials without any error would prove no rate below {provable:.1e}"));
    }
    false_accepts.threshold_for(rate).map(round_up).ok_or_else(|| "the scores are not known that far".to_owned())
}

/// Points with at least this many errors make the curve: at three errors the rate is 3/N, which is also what the rule of
/// three would say beyond.
const MIN_CURVE_ERRORS: u64 = 3;

fn curve(kind: CurveKind, false_accepts: &dyn FalseAccepts) -> Option<Curve> {
    let mut scores: Vec<f64> = false_accepts.curve_scores().into_iter().map(round_down).collect();
    scores.sort_by(f64::total_cmp);
    scores.dedup();
    let mut points: Vec<[f64; 4]> = scores
        .into_iter()
        .map(|score| (score, false_accepts.rate(score)))
        .filter(|(_, rate)| rate.errors >= MIN_CURVE_ERRORS)
        .map(|(score, rate)| [score, rate.value, rate.low_95, rate.high_95])
        .collect();
    // Bootstrapped intervals of neighbouring points may cross; both ends take the wider course.
    for index in (1..points.len()).rev() {
        points[index - 1][3] = points[index - 1][3].max(points[index][3]);
    }
    for index in 1..points.len() {
        points[index][2] = points[index][2].min(points[index - 1][2]);
    }
    (points.len() >= 2).then_some(Curve { kind, points })
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{CalibratedValue, Decision};
    use super::*;

    fn provenance() -> Provenance {
        let file = sample();
        Provenance {
            check: file.check,
            score_kind: file.score_kind,
            software: file.software,
            preprocessing: file.preprocessing,
            models: file.models,
            data: file.data,
        }
    }

    fn target(name: &str, rate: f64) -> Target {
        Target { name: name.to_owned(), rate, review_rate: None }
    }

    /// 0, 1/n, 2/n, ...
    fn ramp(n: usize) -> Vec<f64> {
        (0..n).map(|i| i as f64 / n as f64).collect()
    }

    #[test]
    fn threshold_is_the_least_that_keeps_the_rate() {
        let scores = SortedScores::new(vec![0.1, 0.9, 0.5, 0.7, 0.3]);
        // One of five may pass: everything above 0.7.
        let threshold = scores.threshold_for(0.2).unwrap();
        assert!(threshold > 0.7 && threshold < 0.7 + 1e-12);
        assert_eq!(scores.rate(threshold).errors, 1);
        assert_eq!(scores.rate(scores.threshold_for(0.0).unwrap()).errors, 0);
        assert_eq!(scores.threshold_for(1.0), Some(0.1));
        assert_eq!(
            SortedScores::new(ramp(3_000)).rate(SortedScores::new(ramp(3_000)).threshold_for(1e-3).unwrap()).errors,
            3
        );
    }

    #[test]
    fn ties_never_let_more_pass_than_allowed() {
        let scores = SortedScores::new(vec![0.5; 10]);
        assert_eq!(scores.rate(scores.threshold_for(0.5).unwrap()).errors, 0);
    }

    #[test]
    fn rounding_a_threshold_never_makes_it_more_lenient() {
        // 0.85.next_up() × 10 000 is 8 500 exactly in double precision.
        assert_eq!(round_up(0.85f64.next_up()), 0.8501);
        assert_eq!((round_up(0.85), round_down(0.85)), (0.85, 0.85));
        assert_eq!((round_up(-0.12345), round_down(-0.12345)), (-0.1234, -0.1235));
        assert_eq!(round_down(0.85f64.next_down()), 0.8499);
    }

    #[test]
    fn equal_error_rate_by_hand() {
        // At 0.5: one of four impostors passes, one of four genuine ones is rejected.
        let genuine = SortedScores::new(vec![0.4, 0.6, 0.7, 0.8]);
        let impostor = SortedScores::new(vec![0.1, 0.2, 0.3, 0.5]);
        let eer = equal_error_rate(&genuine, &impostor).unwrap();
        assert_eq!((eer.rate, eer.threshold), (0.25, 0.5));
        let apart = equal_error_rate(&SortedScores::new(vec![0.8, 0.9]), &SortedScores::new(vec![0.1, 0.2])).unwrap();
        assert_eq!(apart.rate, 0.0);
        assert!(apart.threshold > 0.2 && apart.threshold <= 0.8);
        let inverted =
            equal_error_rate(&SortedScores::new(vec![0.1, 0.2]), &SortedScores::new(vec![0.8, 0.9])).unwrap();
        assert_eq!(inverted.rate, 1.0);
        assert_eq!(equal_error_rate(&genuine, &SortedScores::new(vec![])), None);
    }

    #[test]
    fn tar_at_fmr_by_hand() {
        let genuine = SortedScores::new(vec![0.45, 0.6, 0.7, 0.8]);
        let impostor = SortedScores::new((0..10).map(|i| f64::from(i) / 20.0).collect());
        // One impostor of ten (0.45) may pass, so the threshold lies just above 0.40.
        let (tar, threshold) = true_accept_rate_at(&genuine, &impostor, 0.1).unwrap();
        assert!(tar == 1.0 && threshold > 0.4 && threshold < 0.41);
        assert_eq!(true_accept_rate_at(&genuine, &impostor, 0.0).unwrap().0, 0.75);
    }

    #[test]
    fn a_fold_is_decided_by_the_other_folds() {
        let pair = |score, genuine, fold| PairScore { score, genuine, fold };
        // Fold 1 separates at 0.3, fold 2 at 0.7: each is judged with the other's threshold.
        let pairs = [
            pair(0.2, false, 1),
            pair(0.4, true, 1),
            pair(0.6, false, 2),
            pair(0.65, false, 2),
            pair(0.75, true, 2),
            pair(0.8, true, 2),
        ];
        let accuracy = cross_validated_accuracy(&pairs).unwrap();
        // Threshold 0.7 on fold 1 rejects its genuine pair; threshold 0.3 on fold 2 accepts both impostors.
        assert_eq!(accuracy.folds, [(1, 0.5, 0.7), (2, 0.5, (0.2 + 0.4) / 2.0)]);
        assert_eq!((accuracy.mean, accuracy.standard_error), (0.5, 0.0));
        assert_eq!(cross_validated_accuracy(&pairs[..2]), None);
    }

    #[test]
    fn best_threshold_does_not_split_ties() {
        let pair = |score, genuine| PairScore { score, genuine, fold: 0 };
        let threshold = best_threshold(&[pair(0.5, false), pair(0.5, true), pair(0.9, true), pair(0.1, false)]);
        assert!(threshold == 0.3 || threshold == 0.7, "{threshold}");
    }

    #[test]
    fn fit_offers_what_the_data_bear_and_refuses_the_rest() {
        // Impostors 0..0.5, genuine 0.4..1: 4 000 and 1 000 scores.
        let impostors = SortedScores::new(ramp(4_000).into_iter().map(|x| x / 2.0).collect());
        let genuine = SortedScores::new(ramp(1_000).into_iter().map(|x| 0.4 + 0.6 * x).collect());
        let targets = [target("fmr_1e-2", 1e-2), target("fmr_1e-3", 1e-3), target("fmr_1e-4", 1e-4)];
        let reject = |threshold: f64| genuine.false_reject_rate(threshold);
        let fitted = fit(provenance(), CurveKind::Fmr, &impostors, &reject, &|_| vec![], &targets).unwrap();
        let points = &fitted.calibration.operating_points;
        assert_eq!(points.iter().map(|point| point.name.as_str()).collect::<Vec<_>>(), ["fmr_1e-2", "fmr_1e-3"]);
        assert_eq!(fitted.refused.len(), 1);
        assert!(fitted.refused[0].1.contains("4000 trials"), "{:?}", fitted.refused);
        // The threshold for 40 errors lies at the 41st highest impostor (0.5 − 41 × 0.000125 = 0.494875), rounded up.
        assert_eq!(points[0].threshold, 0.4949);
        assert_eq!(points[0].rates["fmr"].errors, 40);
        assert_eq!(points[0].note, None);
        assert_eq!(points[1].rates["fmr"].errors, 4);
        assert!(points[1].note.as_deref().is_some_and(|note| note.contains("only 4 errors")));
        // The curve starts with everything accepted and ends at three errors.
        let curve = fitted.calibration.curve.as_ref().unwrap();
        assert_eq!(curve.points[0][1], 1.0);
        assert!((curve.points.last().unwrap()[1] * 4_000.0 - 3.0).abs() < 1.5);
        let beyond: CalibratedValue = fitted.calibration.calibrate(0.99).unwrap();
        assert!(beyond.beyond_support && beyond.low_95 == 0.0 && beyond.value >= 3.0 / 4_000.0);
        // What was fitted is reproduced by applying it.
        let at = fitted.calibration.calibrate(0.45).unwrap();
        assert!((at.value - 0.1).abs() < 0.002 && at.low_95 < 0.1 && at.high_95 > 0.1, "{at:?}");
    }

    #[test]
    fn a_default_without_support_is_an_error() {
        let few = SortedScores::new(ramp(100));
        let reject = |threshold: f64| few.false_reject_rate(threshold);
        let error =
            fit(provenance(), CurveKind::Fmr, &few, &reject, &|_| vec![], &[target("fmr_1e-3", 1e-3)]).unwrap_err();
        assert!(matches!(error, FitError::DefaultRefused { .. }), "{error}");
        let none = SortedScores::new(vec![]);
        let error =
            fit(provenance(), CurveKind::Fmr, &none, &reject, &|_| vec![], &[target("fmr_1e-2", 0.01)]).unwrap_err();
        assert_eq!(error, FitError::NoTrials);
    }

    #[test]
    fn apcer_is_that_of_the_worst_species() {
        let presentations = |scores: &[f64]| -> Vec<Presentation> {
            scores
                .iter()
                .enumerate()
                .map(|(i, &score)| Presentation { subject: format!("s{}", i % 5), score })
                .collect()
        };
        let print = presentations(&ramp(100).into_iter().map(|x| x / 4.0).collect::<Vec<_>>());
        let screen = presentations(&ramp(50));
        let attacks = Attacks::new(BTreeMap::from([
            ("print".to_owned(), print),
            ("screen_replay".to_owned(), screen),
            ("mask".to_owned(), vec![]),
        ]));
        let rates = attacks.rates(0.2);
        assert_eq!((rates["print"].errors, rates["screen_replay"].errors, rates.len()), (20, 40, 2));
        assert_eq!(attacks.rate(0.2).value, 0.8);
        assert_eq!(attacks.trials(), 50);
        // Ten per cent of the screens may pass: above the sixth highest, 0.88.
        assert!((attacks.threshold_for(0.1).unwrap() - 0.88).abs() < 1e-9);

        let live = presentations(&ramp(200).into_iter().map(|x| 0.5 + x / 2.0).collect::<Vec<_>>());
        let reject = |threshold: f64| rate_by_subject(&live, |score| score < threshold);
        let further = |threshold: f64| {
            attacks.rates(threshold).into_iter().map(|(species, rate)| (format!("apcer_{species}"), rate)).collect()
        };
        let mut wanted = target("apcer_1e-1", 0.1);
        wanted.review_rate = Some(0.5);
        let fitted = fit(provenance(), CurveKind::Apcer, &attacks, &reject, &further, &[wanted]).unwrap();
        let point = fitted.calibration.operating_point("").unwrap();
        assert_eq!(point.rates.keys().collect::<Vec<_>>(), ["apcer", "apcer_print", "apcer_screen_replay", "bpcer"]);
        assert_eq!((point.threshold, point.rates["apcer"].errors), (0.8801, 5));
        assert_eq!(fitted.calibration.decide(point, 0.6), Decision::Review);
    }

    #[test]
    fn a_threshold_that_rejects_everybody_is_refused() {
        let attacks = SortedScores::new(vec![1.0; 100]);
        let live = SortedScores::new(vec![0.9; 100]);
        let reject = |threshold: f64| live.false_reject_rate(threshold);
        let error =
            fit(provenance(), CurveKind::Apcer, &attacks, &reject, &|_| vec![], &[target("x", 0.1)]).unwrap_err();
        assert!(error.to_string().contains("reject everything"), "{error}");
    }

    #[test]
    fn ranks_are_even_on_a_logarithmic_scale() {
        assert_eq!(log_ranks(0), Vec::<usize>::new());
        assert_eq!(log_ranks(1), [1]);
        let ranks = log_ranks(1_000);
        assert_eq!((ranks[0], *ranks.last().unwrap()), (1, 1_000));
        assert!(ranks.len() < 30 && ranks.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
