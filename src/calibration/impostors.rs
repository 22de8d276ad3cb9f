//! All comparisons of different persons that a face data set holds.
//!
//! A protocol's few thousand impostor pairs say nothing about an FMR below 1e-3. Comparing every picture with every picture
//! of another person gives millions: enough to place a threshold for 1e-5. **Those pairs are not independent**: one
//! picture takes part in thousands, so their number overstates what is known. The intervals here therefore come from a
//! bootstrap over *persons* (R. M. Bolle et al., "The subsets bootstrap", 2004), and where no error is seen the rule of three
//! counts only the disjoint pairs of persons.
//!
//! Called by whoever has embeddings in the process (the API never returns any). Scores stream into a histogram on the grid of
//! the thresholds; only the highest pairs are kept, by person, for the bootstrap. A second source of error that no interval
//! shows: wrong names in the data set. [`ImpostorScores::highest`] lists the pairs that a person should look at.

use std::collections::BTreeMap;

use super::Rate;
use super::fit::{FalseAccepts, log_ranks};
use super::intervals::{BOOTSTRAP_REPLICATES, IntervalMethod, Random, percentile_interval};

/// Steps of the histogram per unit of score; thresholds are rounded to the same grid, so its counts are exact.
const STEPS_PER_UNIT: usize = 10_000;
/// Scores lie in −1..1.
const STEPS: usize = 2 * STEPS_PER_UNIT + 1;
/// At most about this many highest pairs are kept with their persons. 16 bytes each; also the cost of one bootstrap replicate.
const KEPT_PAIRS: u64 = 100_000;

/// One face in a data set.
#[derive(Debug, Clone)]
pub struct Template {
    /// Number of the person; equal numbers mean one person.
    pub identity: u32,
    /// Of any length but 0, the same for all; need not be normalised.
    pub vector: Vec<f32>,
}

/// Scores of all pairs of different persons.
#[derive(Debug, Clone)]
pub struct ImpostorScores {
    /// `at_or_above[k]`: pairs that score at least `k / STEPS_PER_UNIT − 1`.
    at_or_above: Vec<u64>,
    /// Pictures of each person.
    pictures: BTreeMap<u32, u64>,
    /// The highest pairs: (score, person, other person), descending.
    highest: Vec<(f64, u32, u32)>,
    /// Every pair at or above this grid step is in `highest`.
    kept_from: usize,
}

/// Why the templates cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("template {index} has another length than the first, or none")]
    Length { index: usize },
    #[error("template {index} is zero or holds values that are no finite numbers")]
    NotUsable { index: usize },
    #[error("fewer than two persons")]
    TooFewPersons,
}

impl ImpostorScores {
    /// Compares every template with every one of another person by cosine similarity; each pair once.
    ///
    /// n templates of length d cost n² · d multiplications (done twice, so that nothing but the histogram and the highest
    /// pairs is ever held).
    ///
    /// # Errors
    /// [`TemplateError`] with the index of the template at fault.
    pub fn of_all_pairs(templates: &[Template]) -> Result<Self, TemplateError> {
        let length = templates.first().map_or(0, |template| template.vector.len());
        let mut normalised = Vec::with_capacity(templates.len());
        let mut pictures: BTreeMap<u32, u64> = BTreeMap::new();
        for (index, template) in templates.iter().enumerate() {
            if template.vector.is_empty() || template.vector.len() != length {
                return Err(TemplateError::Length { index });
            }
            let norm = template.vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            if !(norm.is_finite() && norm > 0.0) {
                return Err(TemplateError::NotUsable { index });
            }
            normalised.push((template.identity, template.vector.iter().map(|x| x / norm).collect::<Vec<f32>>()));
            *pictures.entry(template.identity).or_default() += 1;
        }
        if pictures.len() < 2 {
            return Err(TemplateError::TooFewPersons);
        }

        let mut at_or_above = vec![0u64; STEPS];
        for_each_impostor_pair(&normalised, |score, _, _| at_or_above[step_below(score)] += 1);
        for step in (1..STEPS).rev() {
            at_or_above[step - 1] += at_or_above[step];
        }
        let kept_from = at_or_above.partition_point(|count| *count > KEPT_PAIRS);
        let mut highest = Vec::new();
        for_each_impostor_pair(&normalised, |score, a, b| {
            if step_below(score) >= kept_from {
                highest.push((score, a, b));
            }
        });
        highest.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(Self { at_or_above, pictures, highest, kept_from })
    }

    /// Number of pairs compared.
    pub fn pairs(&self) -> u64 {
        self.at_or_above[0]
    }

    /// Number of persons.
    pub fn persons(&self) -> usize {
        self.pictures.len()
    }

    /// Share of pairs at or above the threshold, without its interval, which costs a bootstrap.
    pub fn rate_alone(&self, threshold: f64) -> f64 {
        self.count_at(nearest_step(threshold)) as f64 / self.pairs() as f64
    }

    /// The `n` highest pairs as (score, person, other person), descending: first place to look for wrong labels.
    pub fn highest(&self, n: usize) -> &[(f64, u32, u32)] {
        &self.highest[..n.min(self.highest.len())]
    }

    fn count_at(&self, step: usize) -> u64 {
        self.at_or_above.get(step).copied().unwrap_or(0)
    }

    /// 95 % interval of the share of pairs at or above `step`, by resampling persons. `step` is at or above `kept_from`.
    fn bootstrap(&self, step: usize) -> (f64, f64) {
        let index: BTreeMap<u32, usize> =
            self.pictures.keys().enumerate().map(|(index, person)| (*person, index)).collect();
        let pictures: Vec<f64> = self.pictures.values().map(|&n| n as f64).collect();
        // Errors by pair of persons; most pairs have none.
        let mut errors: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for (_, a, b) in self.highest.iter().take_while(|(score, _, _)| step_below(*score) >= step) {
            *errors.entry((index[a], index[b])).or_default() += 1.0;
        }
        let errors: Vec<((usize, usize), f64)> = errors.into_iter().collect();
        let mut random = Random::new();
        let mut weights = vec![0.0f64; pictures.len()];
        percentile_interval((0..BOOTSTRAP_REPLICATES).map(|_| {
            weights.fill(0.0);
            for _ in 0..pictures.len() {
                weights[random.below(pictures.len())] += 1.0;
            }
            // A person drawn twice is never compared with themself: pairs of different persons only, as in the data.
            let sum: f64 = weights.iter().zip(&pictures).map(|(w, n)| w * n).sum();
            let squares: f64 = weights.iter().zip(&pictures).map(|(w, n)| (w * n) * (w * n)).sum();
            let pairs = (sum * sum - squares) / 2.0;
            let wrong: f64 = errors.iter().map(|((a, b), count)| weights[*a] * weights[*b] * count).sum();
            if pairs > 0.0 { wrong / pairs } else { 0.0 }
        }))
    }
}

impl FalseAccepts for ImpostorScores {
    fn trials(&self) -> u64 {
        self.pairs()
    }

    /// `threshold` is taken to the grid of 1e-4. For rates above that of the kept pairs (about 1e-2) the interval has the relative
    /// width of the lowest kept one, which is wider than its own would be.
    fn rate(&self, threshold: f64) -> Rate {
        let step = nearest_step(threshold);
        let (errors, trials) = (self.count_at(step), self.pairs());
        let disjoint = self.persons() as u64 / 2;
        let mut rate = Rate::of_effective_trials(errors, trials, disjoint);
        if rate.interval == IntervalMethod::Wilson {
            let known = step.max(self.kept_from);
            let (low, high) = self.bootstrap(known);
            let known_value = self.count_at(known) as f64 / trials as f64;
            let widen = if known_value > 0.0 { rate.value / known_value } else { 1.0 };
            rate.low_95 = rate.low_95.min(low * widen);
            rate.high_95 = rate.high_95.max(high * widen).min(1.0);
            rate.interval = IntervalMethod::SubjectBootstrap;
        }
        rate
    }

    fn threshold_for(&self, target: f64) -> Option<f64> {
        let allowed = (target * self.pairs() as f64 + 1e-9).floor() as u64;
        let step = self.at_or_above.partition_point(|count| *count > allowed);
        (step < STEPS).then(|| score_of(step))
    }

    fn curve_scores(&self) -> Vec<f64> {
        let pairs = usize::try_from(self.pairs()).unwrap_or(usize::MAX);
        log_ranks(pairs)
            .into_iter()
            .map(|rank| score_of(self.at_or_above.partition_point(|count| *count >= rank as u64).saturating_sub(1)))
            .collect()
    }
}

/// The highest grid step that the score reaches.
fn step_below(score: f64) -> usize {
    (((score + 1.0) * STEPS_PER_UNIT as f64).floor().max(0.0) as usize).min(STEPS - 1)
}

fn nearest_step(threshold: f64) -> usize {
    ((threshold + 1.0) * STEPS_PER_UNIT as f64).round().max(0.0) as usize
}

fn score_of(step: usize) -> f64 {
    (step as f64 - STEPS_PER_UNIT as f64) / STEPS_PER_UNIT as f64
}

fn for_each_impostor_pair(templates: &[(u32, Vec<f32>)], mut visit: impl FnMut(f64, u32, u32)) {
    for (index, (person, vector)) in templates.iter().enumerate() {
        for (other, other_vector) in &templates[index + 1..] {
            if person != other {
                let score: f32 = vector.iter().zip(other_vector).map(|(x, y)| x * y).sum();
                let (a, b) = if person < other { (*person, *other) } else { (*other, *person) };
                visit(f64::from(score).clamp(-1.0, 1.0), a, b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic directions; person `p` has `p % 3 + 1` pictures.
    fn templates(persons: u32) -> Vec<Template> {
        let mut random = Random::new();
        let mut all = Vec::new();
        for identity in 0..persons {
            for _ in 0..=identity % 3 {
                let vector = (0..8).map(|_| random.below(2_001) as f32 / 1_000.0 - 1.0).collect();
                all.push(Template { identity, vector });
            }
        }
        all
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot: f64 = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        dot / norm(a) / norm(b)
    }

    #[test]
    fn counts_agree_with_all_scores_sorted() {
        let all = templates(30);
        let mut scores = Vec::new();
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                if a.identity != b.identity {
                    scores.push(cosine(&a.vector, &b.vector));
                }
            }
        }
        let streamed = ImpostorScores::of_all_pairs(&all).unwrap();
        assert_eq!((streamed.pairs() as usize, streamed.persons()), (scores.len(), 30));
        for threshold in [-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 0.9] {
            let expected = scores.iter().filter(|score| **score >= threshold).count() as u64;
            assert_eq!(streamed.rate(threshold).errors, expected, "at {threshold}");
        }
        let threshold = streamed.threshold_for(0.01).unwrap();
        let accepted = scores.iter().filter(|score| **score >= threshold).count();
        assert!(accepted <= scores.len() / 100 && accepted + 3 >= scores.len() / 100, "{accepted} of {}", scores.len());
        let highest = scores.iter().copied().fold(-1.0, f64::max);
        assert!((streamed.highest(1)[0].0 - highest).abs() < 1e-6);
    }

    #[test]
    fn persons_make_the_interval_wider_than_pairs_would() {
        let streamed = ImpostorScores::of_all_pairs(&templates(60)).unwrap();
        let rate = streamed.rate(streamed.threshold_for(0.02).unwrap());
        let naive = Rate::wilson(rate.errors, rate.trials);
        assert_eq!(rate.interval, IntervalMethod::SubjectBootstrap);
        assert!(rate.low_95 < naive.low_95 && rate.high_95 > naive.high_95, "{rate:?} {naive:?}");
        // Without an error only 30 disjoint pairs of 60 persons count.
        assert_eq!(streamed.rate(1.0).high_95, 0.1);
    }

    #[test]
    fn scores_on_the_grid_and_at_its_ends_are_counted_once() {
        let template = |identity, vector: [f32; 2]| Template { identity, vector: vector.to_vec() };
        let three =
            [template(0, [1.0, 0.0]), template(1, [2.0, 0.0]), template(2, [-1.0, 0.0]), template(0, [0.0, 1.0])];
        let streamed = ImpostorScores::of_all_pairs(&three).unwrap();
        // 1, −1, 0 (persons 1 and 0), −1, 0 (persons 2 and 0).
        let counts = [-1.0, -0.9999, 0.0, 0.0001, 1.0].map(|threshold| streamed.rate(threshold).errors);
        assert_eq!(counts, [5, 3, 3, 1, 1]);
        assert_eq!(streamed.highest(9)[0], (1.0, 0, 1));
        assert_eq!(streamed.threshold_for(0.0), None);
    }

    #[test]
    fn unusable_templates_are_named() {
        let template = |identity, vector: &[f32]| Template { identity, vector: vector.to_vec() };
        let error = |templates: &[Template]| ImpostorScores::of_all_pairs(templates).unwrap_err();
        assert_eq!(error(&[template(0, &[1.0]), template(1, &[1.0, 0.0])]), TemplateError::Length { index: 1 });
        assert_eq!(error(&[template(0, &[1.0]), template(1, &[0.0])]), TemplateError::NotUsable { index: 1 });
        assert_eq!(error(&[template(0, &[1.0]), template(0, &[1.0])]), TemplateError::TooFewPersons);
        assert_eq!(error(&[]), TemplateError::TooFewPersons);
    }
}
