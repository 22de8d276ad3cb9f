//! Several measurements to one score.
//!
//! `checks/` apply [`Fusion::apply`]; `vouch calibrate` makes the weights with [`fit_fusion`] by logistic regression. The score is a weighted
//! mean, so similarities stay similarities in −1..1 whatever their number, and all that holds for a single one (thresholds, curves, all
//! pairs of a data set by one vector for each picture) holds for the fused one. The regression's own intercept and slope are not
//! kept in the file: what a score means is told by the measured curve. Left out: anything that is not linear, which some thousand pairs do not bear.

use nalgebra::{DMatrix, DVector};
use serde::Deserialize;

use super::validate::Problem;

/// `Σ weight · measurement`, weights positive and 1 together.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fusion {
    #[serde(rename = "term")]
    pub terms: Vec<Term>,
}

/// One measurement's part in the score.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Name of the measurement, such as `cosine_a`.
    pub measurement: String,
    pub weight: f64,
}

/// A fusion and the regression that it comes from: log-odds = `intercept + slope · score`. Scores of two fits lie on different scales, their
/// log-odds on one.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedFusion {
    pub fusion: Fusion,
    pub slope: f64,
    pub intercept: f64,
}

/// Weights need not add up to 1 more exactly than a file of nine digits tells them.
const ROUNDING: f64 = 1e-6;

impl Fusion {
    /// The score; `None` if a measurement is missing or not finite. Summed in the order of the terms: the same to the last bit every time.
    pub fn apply(&self, measurement: impl Fn(&str) -> Option<f64>) -> Option<f64> {
        let mut score = 0.0;
        for term in &self.terms {
            score += term.weight * measurement(&term.measurement).filter(|value| value.is_finite())?;
        }
        Some(score)
    }

    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        for (index, term) in self.terms.iter().enumerate() {
            let key = format!("fusion.term[{}]", term.measurement);
            if self.terms[..index].iter().any(|other| other.measurement == term.measurement) {
                problems.push(Problem::new(format!("{key}.measurement"), "is used twice"));
            }
            if !(term.weight.is_finite() && term.weight > 0.0) {
                problems.push(Problem::new(format!("{key}.weight"), "is not a positive finite number"));
            }
        }
        let sum: f64 = self.terms.iter().map(|term| term.weight).sum();
        let adds_up = (sum - 1.0).abs() <= ROUNDING;
        if !adds_up {
            problems.push(Problem::new("fusion.term", format!("has weights that add up to {sum}, not to 1")));
        }
    }
}

/// A trial with the values of the measurements to be fused.
#[derive(Debug, Clone, PartialEq)]
pub struct FusionSample {
    pub values: Vec<f64>,
    /// Whether it ought to be accepted.
    pub accept: bool,
    /// How often it counts, above 0.
    pub weight: f64,
}

/// Pull of the standardised weights towards 0, as a share of one trial: keeps the regression finite on data that a line separates without
/// an error, and moves the weights of other data by less than their noise.
const RIDGE: f64 = 1e-2;
/// Steps after which the regression is taken to have no solution.
const MAX_STEPS: usize = 100;

/// Fits the weights by logistic regression. Where the trials to be rejected outnumber the others, in sum of their weights, the fit is best where few of them
/// are accepted: all pairs of a data set give weights for low error rates, as many impostor as genuine pairs those for the equal error rate.
///
/// A measurement that the regression gives no positive weight beside the others adds nothing: it is left out and the rest is fitted again.
///
/// # Errors
/// A sentence saying what is wrong with the samples.
pub fn fit_fusion(names: &[&str], samples: &[FusionSample]) -> Result<FittedFusion, String> {
    if names.is_empty() || samples.iter().any(|sample| sample.values.len() != names.len()) {
        return Err("every trial needs a value for each measurement".into());
    }
    if samples.iter().any(|sample| sample.values.iter().any(|value| !value.is_finite())) {
        return Err("a measurement is not a finite number".into());
    }
    if !samples.iter().any(|sample| sample.accept) || samples.iter().all(|sample| sample.accept) {
        return Err("both kinds of trials are needed".into());
    }
    let mut kept: Vec<usize> = (0..names.len()).collect();
    loop {
        let (intercept, weights) = regress(samples, &kept)?;
        let least = weights.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        match least {
            Some((place, weight)) if *weight <= 0.0 && kept.len() > 1 => {
                kept.remove(place);
            }
            Some((_, weight)) if *weight <= 0.0 => {
                return Err("no measurement is higher for trials that ought to be accepted".into());
            }
            _ => {
                let sum: f64 = weights.iter().sum();
                let term = |(place, weight): (&usize, &f64)| Term {
                    measurement: names[*place].to_owned(),
                    // As the file will hold it.
                    weight: (weight / sum * 1e8).round() / 1e8,
                };
                let fusion = Fusion { terms: kept.iter().zip(&weights).map(term).collect() };
                return Ok(FittedFusion { fusion, slope: sum, intercept });
            }
        }
    }
}

/// Intercept and weights of the raw measurements by Newton's method on standardised ones (iteratively reweighted least squares).
fn regress(samples: &[FusionSample], columns: &[usize]) -> Result<(f64, Vec<f64>), String> {
    let total: f64 = samples.iter().map(|sample| sample.weight).sum();
    let weight = |sample: &FusionSample| sample.weight / total;
    let scale = samples.len() as f64;
    let moments: Vec<(f64, f64)> = columns
        .iter()
        .map(|column| {
            let mean: f64 = samples.iter().map(|s| weight(s) * s.values[*column]).sum();
            let variance: f64 = samples.iter().map(|s| weight(s) * (s.values[*column] - mean).powi(2)).sum();
            (mean, variance.sqrt())
        })
        .collect();
    if moments.iter().any(|(_, deviation)| *deviation <= 0.0) {
        return Err("a measurement has one value for all trials".into());
    }
    let size = columns.len() + 1;
    let mut solution: DVector<f64> = DVector::zeros(size);
    let mut row = DVector::zeros(size);
    for _ in 0..MAX_STEPS {
        let mut gradient: DVector<f64> = DVector::zeros(size);
        let mut hessian: DMatrix<f64> = DMatrix::zeros(size, size);
        for sample in samples {
            row[0] = 1.0;
            for (place, (column, (mean, deviation))) in columns.iter().zip(&moments).enumerate() {
                row[place + 1] = (sample.values[*column] - mean) / deviation;
            }
            let probability = 1.0 / (1.0 + (-solution.dot(&row)).exp());
            let target = f64::from(u8::from(sample.accept));
            let counts = weight(sample) * scale;
            gradient.axpy(counts * (probability - target), &row, 1.0);
            hessian.ger(counts * probability * (1.0 - probability), &row, &row, 1.0);
        }
        for place in 0..size {
            // The intercept is pulled too: with perfect separation nothing else holds it.
            gradient[place] += RIDGE * solution[place];
            hessian[(place, place)] += RIDGE;
        }
        let step = hessian.cholesky().ok_or("the regression has no solution")?.solve(&gradient);
        // A full step may overshoot where probabilities are all but certain.
        let length = step.norm();
        solution -= &step * (1.0f64).min(4.0 / length.max(f64::MIN_POSITIVE));
        if length < 1e-9 {
            let weights: Vec<f64> =
                moments.iter().enumerate().map(|(place, (_, deviation))| solution[place + 1] / deviation).collect();
            let shift: f64 = weights.iter().zip(&moments).map(|(weight, (mean, _))| weight * mean).sum();
            return Ok((solution[0] - shift, weights));
        }
    }
    Err("the regression does not settle".into())
}

#[cfg(test)]
mod tests {
    use super::super::intervals::Random;
    use super::*;

    /// Sums of twelve uniform numbers: normal enough, mean 0, variance 1.
    fn normal(random: &mut Random) -> f64 {
        (0..12).map(|_| random.below(1 << 24) as f64 / f64::from(1 << 24)).sum::<f64>() - 6.0
    }

    /// Two independent measurements whose kinds lie `apart` standard deviations from each other.
    fn samples(n: usize, apart: [f64; 2], scale: [f64; 2]) -> Vec<FusionSample> {
        let mut random = Random::new();
        (0..n)
            .map(|index| {
                let accept = index % 3 == 0;
                let values =
                    (0..2).map(|k| (normal(&mut random) + if accept { apart[k] } else { 0.0 }) * scale[k]).collect();
                FusionSample { values, accept, weight: 1.0 }
            })
            .collect()
    }

    #[test]
    fn the_weights_are_those_of_the_best_linear_score() {
        // For normal kinds of one variance the best weights are difference / variance: 2 / 1 and 1 / 0.25 over scales 1 and 0.5.
        let fitted = fit_fusion(&["a", "b"], &samples(60_000, [2.0, 1.0], [1.0, 0.5])).unwrap();
        // With one trial of three to be accepted: at the middle between the kinds the log-odds are those of the prior, ln(1 / 2).
        let middle = fitted.fusion.apply(|name| Some(if name == "a" { 1.0 } else { 0.25 })).unwrap();
        let log_odds = fitted.intercept + fitted.slope * middle;
        assert!((log_odds - 0.5f64.ln()).abs() < 0.1, "{log_odds}");
        let fusion = fitted.fusion;
        let [a, b] = [fusion.terms[0].weight, fusion.terms[1].weight];
        assert!((a + b - 1.0).abs() < 1e-7);
        assert!((a - 0.5).abs() < 0.02, "{a} {b}");
    }

    #[test]
    fn what_adds_nothing_is_left_out() {
        let mut all = samples(3_000, [2.0, 0.0], [1.0, 1.0]);
        // Against its own direction.
        all.iter_mut().for_each(|sample| sample.values[1] -= f64::from(u8::from(sample.accept)));
        let fusion = fit_fusion(&["a", "b"], &all).unwrap().fusion;
        assert_eq!(fusion.terms, [Term { measurement: "a".into(), weight: 1.0 }]);
    }

    #[test]
    fn separated_kinds_still_have_weights() {
        let sample = |value: f64, accept| FusionSample { values: vec![value, value * 2.0], accept, weight: 1.0 };
        let all: Vec<FusionSample> = (0..40).map(|n| sample(f64::from(n), n >= 20)).collect();
        let fusion = fit_fusion(&["a", "b"], &all).unwrap().fusion;
        assert!(fusion.terms.iter().all(|term| term.weight > 0.0));
    }

    #[test]
    fn unusable_samples_are_refused() {
        let one = |value: f64, accept| FusionSample { values: vec![value], accept, weight: 1.0 };
        assert!(fit_fusion(&["a"], &[one(1.0, true)]).unwrap_err().contains("both kinds"));
        assert!(fit_fusion(&["a"], &[one(f64::NAN, true), one(0.0, false)]).unwrap_err().contains("finite"));
        assert!(fit_fusion(&["a"], &[one(1.0, true), one(1.0, false)]).unwrap_err().contains("one value"));
        assert!(fit_fusion(&["a", "b"], &[one(1.0, true), one(0.0, false)]).is_err());
        assert!(fit_fusion(&["a"], &[one(0.0, true), one(1.0, false)]).unwrap_err().contains("no measurement"));
    }

    #[test]
    fn a_score_needs_every_measurement() {
        let term = |name: &str, weight| Term { measurement: name.into(), weight };
        let fusion = Fusion { terms: vec![term("a", 0.25), term("b", 0.75)] };
        assert_eq!(fusion.apply(|name| Some(if name == "a" { 0.4 } else { 0.8 })), Some(0.25 * 0.4 + 0.75 * 0.8));
        assert_eq!(fusion.apply(|name| (name == "a").then_some(0.4)), None);
        assert_eq!(fusion.apply(|_| Some(f64::NAN)), None);
        let mut problems = Vec::new();
        Fusion { terms: vec![term("a", 0.5), term("a", -0.5)] }.check(&mut problems);
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
