//! Several age estimators to one corrected age with its interval.
//!
//! `checks/` apply [`AgeModel::apply`]; `vouch calibrate` makes the model with [`fit_age`]. One polynomial of second degree
//! per estimator and no term across them: with some thousand images more does not survive cross-validation. Left out: the
//! age policy (minimum age, buffer), which belongs to the check.

use nalgebra::{DMatrix, DVector};
use serde::Deserialize;

use super::CalibratedValue;
use super::intervals::quantile;
use super::validate::Problem;

/// `intercept + Σ linear·x + quadratic·x²` over the estimators, in years.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgeModel {
    pub intercept: f64,
    /// Lowest and highest estimate seen when fitting, in years; estimates are held within.
    pub supported: [f64; 2],
    /// In the order of their names; all of them are needed.
    #[serde(rename = "estimator")]
    pub estimators: Vec<Estimator>,
    /// Ascending, without gaps.
    #[serde(rename = "band")]
    pub bands: Vec<AgeBand>,
}

/// One estimator's part in the sum.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimator {
    /// Name of the measurement that holds its raw value, such as `age_a_years`.
    pub name: String,
    pub linear: f64,
    pub quadratic: f64,
}

/// What was measured where the estimate lay in `from..to` years.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgeBand {
    pub from: f64,
    pub to: f64,
    pub images: u64,
    /// Mean absolute error, years.
    pub mae: f64,
    /// Mean of estimate − true age, years.
    pub bias: f64,
    /// 2.5 % and 97.5 % quantiles of true age − estimate, years; the first is at most 0, the second at least 0.
    pub low_offset: f64,
    pub high_offset: f64,
}

impl AgeModel {
    /// The corrected age from the raw estimates (name of the estimator, years), in any order.
    ///
    /// The interval held 95 % of the true ages of the band that the estimate falls in; its lower end is never below 0.
    /// `beyond_support` is set where the estimate had to be held within `supported`. `None` if an estimator is missing or its
    /// value is not finite.
    pub fn apply(&self, estimates: &[(&str, f64)]) -> Option<CalibratedValue> {
        let mut sum = self.intercept;
        for estimator in &self.estimators {
            let x = estimates.iter().find(|(name, _)| *name == estimator.name)?.1;
            if !x.is_finite() {
                return None;
            }
            sum += estimator.linear * x + estimator.quadratic * x * x;
        }
        let value = sum.clamp(self.supported[0], self.supported[1]);
        let band = self.bands.iter().find(|band| value < band.to).or(self.bands.last())?;
        Some(CalibratedValue {
            kind: "age_years",
            value,
            low_95: (value + band.low_offset).max(0.0),
            high_95: value + band.high_offset,
            beyond_support: value != sum,
        })
    }

    /// Finds what cannot be so; see [`super::Calibration::problems`].
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        let mut problem = |key: String, reason: &str| problems.push(Problem::new(key, reason));
        if !self.intercept.is_finite() {
            problem("age.intercept".into(), "is not a finite number");
        }
        let [low, high] = self.supported;
        if !(0.0 <= low && low < high && high <= MAX_AGE) {
            problem("age.supported".into(), "is not [lowest, highest] within 0..130 years");
        }
        if self.estimators.is_empty() {
            problem("age.estimator".into(), "is missing");
        }
        for (index, estimator) in self.estimators.iter().enumerate() {
            let key = format!("age.estimator[{}]", estimator.name);
            if self.estimators[..index].iter().any(|other| other.name == estimator.name) {
                problem(format!("{key}.name"), "is used twice");
            }
            if !estimator.is_monotone() {
                problem(key, "does not rise with the estimator's value over 0..100 years");
            }
        }
        if self.bands.is_empty() {
            problem("age.band".into(), "is missing");
        }
        for (index, band) in self.bands.iter().enumerate() {
            let key = format!("age.band[{index}]");
            let ascends = band.from < band.to;
            if !ascends || self.bands.get(index + 1).is_some_and(|next| next.from != band.to) {
                problem(key.clone(), "does not end where the next one begins");
            }
            if !(band.mae >= 0.0 && band.bias.abs() <= band.mae + 0.01) {
                problem(format!("{key}.mae"), "is smaller than the bias, which cannot be");
            }
            if !(band.low_offset <= 0.0
                && band.high_offset >= 0.0
                && band.low_offset.is_finite()
                && band.high_offset.is_finite())
            {
                problem(key, "has offsets that do not enclose the estimate");
            }
        }
    }
}

/// No estimate can lie above; the oldest person whose age is proved was 122.
const MAX_AGE: f64 = 130.0;

impl Estimator {
    /// Whether an older-looking face always gives an older answer, over the 0..100 years that estimators answer with.
    fn is_monotone(&self) -> bool {
        self.linear >= 0.0 && self.linear + 2.0 * self.quadratic * 100.0 >= 0.0
    }
}

/// One image: the true age and what each estimator said, in the order of the names given to [`fit_age`].
#[derive(Debug, Clone, PartialEq)]
pub struct AgeSample {
    pub true_age: f64,
    pub estimates: Vec<f64>,
    /// Part of the cross-validation, 0 to the number of parts − 1. All pictures of one person belong into one.
    pub fold: usize,
}

/// A fitted model and how well it and its parts do.
#[derive(Debug, Clone)]
pub struct AgeFit {
    /// Fitted on all images; its bands come from predictions for images not fitted on.
    pub model: AgeModel,
    /// Cross-validated error of the model.
    pub cross_validated: AgeError,
    /// Raw error of each estimator, in the order of the names.
    pub single: Vec<(String, AgeError)>,
    /// Raw error of the plain mean of the estimators.
    pub mean: AgeError,
    /// Per sample, in the order given: the model's estimate by the fold that did not see it.
    pub predictions: Vec<f64>,
}

/// Error of estimates over a set of images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgeError {
    pub images: u64,
    /// Mean absolute error, years.
    pub mae: f64,
    /// Mean of estimate − true age, years.
    pub bias: f64,
}

impl AgeError {
    /// Over pairs of (estimate, true age). `None` if there are none.
    pub fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let (mut images, mut absolute, mut signed) = (0u64, 0.0, 0.0);
        for (estimate, truth) in pairs {
            images += 1;
            absolute += (estimate - truth).abs();
            signed += estimate - truth;
        }
        (images > 0).then(|| Self { images, mae: absolute / images as f64, bias: signed / images as f64 })
    }
}

/// The limits of the bands, in years: finer where age limits of laws lie.
pub const BAND_LIMITS: [f64; 9] = [0.0, 13.0, 18.0, 25.0, 30.0, 40.0, 50.0, 65.0, MAX_AGE];

/// A band with fewer images than this joins its neighbour: a 2.5 % quantile needs 40 values to be one of them.
const MIN_BAND_IMAGES: usize = 40;

/// Fits the model by least absolute error and measures it by cross-validation.
///
/// Falls back to straight
/// lines where the polynomial would not rise with every estimator.
///
/// # Errors
/// A sentence saying what is wrong with the samples.
pub fn fit_age(names: &[&str], samples: &[AgeSample], folds: usize) -> Result<AgeFit, String> {
    if names.is_empty() || samples.iter().any(|sample| sample.estimates.len() != names.len()) {
        return Err("every sample needs one estimate per estimator".into());
    }
    if folds < 2 || samples.len() < folds * MIN_BAND_IMAGES {
        return Err(format!("{} images are too few for {folds} folds", samples.len()));
    }
    if samples.iter().any(|sample| !sample.true_age.is_finite() || sample.estimates.iter().any(|x| !x.is_finite())) {
        return Err("an age or an estimate is not a finite number".into());
    }
    let all: Vec<&AgeSample> = samples.iter().collect();
    let quadratic = solve(names, &all, true).is_some_and(|fit| fit.estimators.iter().all(Estimator::is_monotone));
    let solve_for = |samples: &[&AgeSample]| {
        solve(names, samples, quadratic)
            .filter(|fit| fit.estimators.iter().all(|estimator| estimator.linear >= 0.0))
            .ok_or_else(|| "no solution in which every estimator counts positively".to_owned())
    };
    let mut model = solve_for(&all)?;

    let mut predictions = vec![0.0; samples.len()];
    for fold in 0..folds {
        let others: Vec<&AgeSample> = samples.iter().filter(|sample| sample.fold % folds != fold).collect();
        let fitted = solve_for(&others)?;
        for (prediction, sample) in predictions.iter_mut().zip(samples).filter(|(_, s)| s.fold % folds == fold) {
            *prediction = fitted.evaluate(&sample.estimates);
        }
    }
    model.bands = bands(&predictions, samples);

    let error = |estimate: &dyn Fn(usize, &AgeSample) -> f64| {
        AgeError::of(samples.iter().enumerate().map(|(i, sample)| (estimate(i, sample), sample.true_age)))
            .ok_or_else(|| "no samples".to_owned())
    };
    let single = names
        .iter()
        .enumerate()
        .map(|(k, name)| Ok(((*name).to_owned(), error(&|_, sample| sample.estimates[k])?)))
        .collect::<Result<_, String>>()?;
    Ok(AgeFit {
        cross_validated: error(&|i, _| predictions[i])?,
        single,
        mean: error(&|_, sample| sample.estimates.iter().sum::<f64>() / names.len() as f64)?,
        model,
        predictions,
    })
}

impl AgeModel {
    fn evaluate(&self, estimates: &[f64]) -> f64 {
        let sum: f64 = self.estimators.iter().zip(estimates).map(|(e, x)| e.linear * x + e.quadratic * x * x).sum();
        (self.intercept + sum).clamp(self.supported[0], self.supported[1])
    }
}

/// Residuals below this count as this much when the next weights are made, years: half a year is nothing, and the weights stay bounded.
const LEAST_RESIDUAL_YEARS: f64 = 0.5;
/// Rounds of reweighting; the error moves in the fourth digit after twenty.
const ROUNDS: usize = 40;

/// Least absolute error without bands, by iteratively reweighted least squares; `None` where the estimates do not determine a solution.
///
/// Squares would let the old, whose age no model tells within ten years, decide about the young, at whom age limits lie.
fn solve(names: &[&str], samples: &[&AgeSample], quadratic: bool) -> Option<AgeModel> {
    // Years are scaled to about 1, so that the columns are of one size and the decomposition stays well conditioned.
    const SCALE: f64 = 100.0;
    let per_estimator = if quadratic { 2 } else { 1 };
    let columns = 1 + names.len() * per_estimator;
    let matrix = DMatrix::from_fn(samples.len(), columns, |row, column| match column {
        0 => 1.0,
        _ => {
            let x = samples[row].estimates[(column - 1) / per_estimator] / SCALE;
            if (column - 1) % per_estimator == 0 { x } else { x * x }
        }
    });
    let truth = DVector::from_iterator(samples.len(), samples.iter().map(|sample| sample.true_age));
    let svd = matrix.clone().svd(true, true);
    // A column that repeats another one leaves a singular value at rounding size.
    if svd.rank(1e-9 * svd.singular_values.max()) < columns {
        return None;
    }
    let mut solution = svd.solve(&truth, 0.0).ok()?;
    for _ in 0..ROUNDS {
        let residuals = &truth - &matrix * &solution;
        let roots = residuals.map(|years| years.abs().max(LEAST_RESIDUAL_YEARS).recip().sqrt());
        let weighted = DMatrix::from_fn(samples.len(), columns, |row, column| matrix[(row, column)] * roots[row]);
        solution = weighted.svd(true, true).solve(&truth.component_mul(&roots), 0.0).ok()?;
    }
    let mut model = AgeModel {
        intercept: solution[0],
        supported: [0.0, MAX_AGE],
        estimators: names
            .iter()
            .enumerate()
            .map(|(k, name)| Estimator {
                name: (*name).to_owned(),
                linear: solution[1 + k * per_estimator] / SCALE,
                quadratic: if quadratic { solution[2 + k * per_estimator] / (SCALE * SCALE) } else { 0.0 },
            })
            .collect(),
        bands: Vec::new(),
    };
    let fitted: Vec<f64> = samples.iter().map(|sample| model.evaluate(&sample.estimates)).collect();
    let lowest = fitted.iter().copied().fold(MAX_AGE, f64::min);
    let highest = fitted.iter().copied().fold(0.0, f64::max);
    model.supported = [(lowest * 10.0).floor() / 10.0, (highest * 10.0).ceil() / 10.0];
    Some(model)
}

fn bands(predictions: &[f64], samples: &[AgeSample]) -> Vec<AgeBand> {
    let mut bands = Vec::new();
    let mut pending: Vec<(f64, f64)> = Vec::new();
    let mut from = BAND_LIMITS[0];
    for limits in BAND_LIMITS.windows(2) {
        let inside = |estimate: f64| limits[0] <= estimate && estimate < limits[1];
        pending.extend(predictions.iter().zip(samples).filter(|(p, _)| inside(**p)).map(|(p, s)| (*p, s.true_age)));
        if pending.len() >= MIN_BAND_IMAGES {
            bands.push((from, limits[1], std::mem::take(&mut pending)));
            from = limits[1];
        }
    }
    // What is left over at the old end joins the last full band.
    if let Some(last) = bands.last_mut() {
        last.1 = MAX_AGE;
        last.2.append(&mut pending);
    }
    bands.into_iter().filter_map(|(from, to, pairs)| band(from, to, &pairs)).collect()
}

fn band(from: f64, to: f64, pairs: &[(f64, f64)]) -> Option<AgeBand> {
    let error = AgeError::of(pairs.iter().copied())?;
    let mut residuals: Vec<f64> = pairs.iter().map(|(estimate, truth)| truth - estimate).collect();
    residuals.sort_by(f64::total_cmp);
    let hundredths = |value: f64| (value * 100.0).round() / 100.0;
    Some(AgeBand {
        from,
        to,
        images: error.images,
        mae: hundredths(error.mae),
        bias: hundredths(error.bias),
        low_offset: hundredths(quantile(&residuals, 0.025)?).min(0.0),
        high_offset: hundredths(quantile(&residuals, 0.975)?).max(0.0),
    })
}

/// Error by true age: the table in which a reader sees whether children come out too old and old people too young.
pub fn errors_by_true_age(pairs: &[(f64, f64)]) -> Vec<(f64, f64, AgeError)> {
    BAND_LIMITS
        .windows(2)
        .filter_map(|limits| {
            let inside = pairs.iter().copied().filter(|(_, truth)| limits[0] <= *truth && *truth < limits[1]);
            Some((limits[0], limits[1], AgeError::of(inside)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// True age from two estimators that err in known ways, with a deterministic disturbance.
    fn samples(n: usize) -> Vec<AgeSample> {
        (0..n)
            .map(|i| {
                let true_age = 5.0 + (i * 37 % 800) as f64 / 10.0;
                let wobble = ((i * 7919) % 101) as f64 / 50.5 - 1.0;
                let other = ((i * 104_729) % 97) as f64 / 48.5 - 1.0;
                AgeSample {
                    true_age,
                    estimates: vec![0.8 * true_age + 6.0 + 3.0 * wobble, true_age - 4.0 + 6.0 * other],
                    fold: i,
                }
            })
            .collect()
    }

    #[test]
    fn an_exact_polynomial_is_found_again() {
        let data: Vec<AgeSample> = (0..200)
            .map(|i| {
                let (a, b) = (f64::from(i % 50) + 10.0, f64::from((i * 17) % 61) + 8.0);
                AgeSample {
                    true_age: 0.65 + 0.2 * a + 0.002 * a * a + 0.6 * b + 0.001 * b * b,
                    estimates: vec![a, b],
                    fold: i as usize,
                }
            })
            .collect();
        let fit = fit_age(&["age_a", "age_b"], &data, 5).unwrap();
        let model = &fit.model;
        assert!((model.intercept - 0.65).abs() < 1e-6);
        for (found, (linear, quadratic)) in model.estimators.iter().zip([(0.2, 0.002), (0.6, 0.001)]) {
            assert!((found.linear - linear).abs() < 1e-6 && (found.quadratic - quadratic).abs() < 1e-8, "{found:?}");
        }
        // Not zero: the oldest of a fold may lie beyond what the other folds support and is held at their limit.
        assert!(fit.cross_validated.mae < 0.05, "{:?}", fit.cross_validated);
        // By hand: 0.65 + .2·30 + .002·900 + .6·20 + .001·400 = 20.85.
        let age = model.apply(&[("age_b", 20.0), ("age_a", 30.0)]).unwrap();
        assert!((age.value - 20.85).abs() < 1e-6 && !age.beyond_support && age.kind == "age_years");
    }

    #[test]
    fn the_combination_beats_its_parts_and_their_mean() {
        let data = samples(2_000);
        let fit = fit_age(&["age_a", "age_b"], &data, 5).unwrap();
        let best_single = fit.single.iter().map(|(_, error)| error.mae).fold(f64::INFINITY, f64::min);
        assert!(fit.cross_validated.mae < best_single && fit.cross_validated.mae < fit.mean.mae, "{fit:?}");
        assert!(fit.cross_validated.bias.abs() < 0.1);
        assert_eq!(fit.predictions.len(), 2_000);
        let mut problems = Vec::new();
        fit.model.check(&mut problems);
        assert_eq!(problems, []);
        // The bands' intervals hold about 95 % of the true ages.
        let held = data
            .iter()
            .filter(|sample| {
                let age = fit.model.apply(&[("age_a", sample.estimates[0]), ("age_b", sample.estimates[1])]).unwrap();
                age.low_95 <= sample.true_age && sample.true_age <= age.high_95
            })
            .count();
        assert!((1_880..=1_930).contains(&held), "{held}");
    }

    #[test]
    fn estimates_are_held_within_the_support() {
        let fit = fit_age(&["age_a", "age_b"], &samples(1_000), 5).unwrap();
        let age = fit.model.apply(&[("age_a", 200.0), ("age_b", 200.0)]).unwrap();
        assert_eq!((age.value, age.beyond_support), (fit.model.supported[1], true));
        assert_eq!(fit.model.apply(&[("age_a", 30.0)]), None);
        assert_eq!(fit.model.apply(&[("age_a", 30.0), ("age_b", f64::NAN)]), None);
    }

    #[test]
    fn useless_samples_are_refused() {
        assert!(fit_age(&["age_a"], &samples(1_000), 5).is_err());
        assert!(fit_age(&["age_a", "age_b"], &samples(100), 5).unwrap_err().contains("too few"));
        let same: Vec<AgeSample> =
            samples(400).into_iter().map(|s| AgeSample { estimates: vec![s.estimates[0]; 2], ..s }).collect();
        assert!(fit_age(&["age_a", "age_b"], &same, 4).unwrap_err().contains("no solution"));
    }

    #[test]
    fn error_is_mean_absolute_and_signed() {
        let error = AgeError::of([(20.0, 18.0), (30.0, 34.0), (50.0, 50.0)]).unwrap();
        assert_eq!((error.images, error.mae), (3, 2.0));
        assert!((error.bias + 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(AgeError::of([]), None);
        let table = errors_by_true_age(&[(14.0, 12.0), (20.0, 17.0), (16.0, 17.0)]);
        assert_eq!(table.len(), 2);
        assert_eq!((table[1].0, table[1].1, table[1].2.images, table[1].2.mae), (13.0, 18.0, 2, 2.0));
    }
}
