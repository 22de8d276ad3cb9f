//! Scores drawn from distributions that are known, and how often an interval holds what is true of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use vouch::evaluation::Question;
use vouch::evaluation::scores::{
    Answer, DaemonDescription, DataDescription, FORMAT, Header, PointInUse, Scored, Scores, Trial, Truth,
};

/// SplitMix64 (Steele, Lea and Flood, 2014); not the library's own, whose bootstrap must not meet its own numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0..1.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True as often as the chance says.
    pub fn hits(&mut self, chance: f64) -> bool {
        self.uniform() < chance
    }

    /// Of mean 0 and variance 1, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// The normal distribution function.
pub fn phi(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// Scores of a run; operating points by name and threshold, the first one the default.
pub fn scores(question: Question, points: &[(&str, f64)], trials: Vec<(Truth, Answer)>) -> Scores {
    let point = |(name, threshold): &(&str, f64)| PointInUse {
        name: (*name).into(),
        threshold: *threshold,
        rates: BTreeMap::new(),
    };
    let header = Header {
        date: "2026-11-26".into(),
        vouch_scores: FORMAT,
        question,
        data: DataDescription {
            name: "drawn".into(),
            description: "drawn from known distributions".into(),
            source: "this test".into(),
            trials: trials.len(),
            sha256: "00".repeat(32),
            remarks: Vec::new(),
        },
        daemon: DaemonDescription {
            version: "0.0.0".into(),
            runtime: "1.0".into(),
            device: "none".into(),
            models: BTreeMap::from([("face_detector".into(), "ab".repeat(32))]),
            calibration_sha256: String::new(),
            default_operating_point: points.first().map_or_else(String::new, |(name, _)| (*name).into()),
            operating_points: points.iter().map(point).collect(),
        },
        options: BTreeMap::new(),
    };
    let scored = trials
        .into_iter()
        .enumerate()
        .map(|(index, (truth, answer))| Scored { trial: Trial { index, truth, groups: BTreeMap::new() }, answer });
    Scores { header, scored: scored.collect() }
}

/// An answer with a score, or, as often as the chance says, a failure.
pub fn answer(dice: &mut Dice, score: f64, chance_of_failure: f64) -> Answer {
    let mut answer = Answer { outcome: "PASS".into(), score: Some(score), latency_ms: 1.0, ..Answer::default() };
    if dice.hits(chance_of_failure) {
        answer.score = None;
        answer.failure = Some("NO_FACE".into());
    }
    answer
}

/// Interval against truth, by measure.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<String, Count>);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    draws: u32,
    held: u32,
    value: f64,
    width: f64,
}

impl Coverage {
    /// Counts an interval with `low_95` and `high_95`, and `value` where it has one.
    #[track_caller]
    pub fn add(&mut self, measure: &str, interval: &Value, truth: f64) {
        let bound =
            |name: &str| interval[name].as_f64().unwrap_or_else(|| panic!("{measure} has no {name}: {interval}"));
        let (low, high) = (bound("low_95"), bound("high_95"));
        let value = interval["value"].as_f64().unwrap_or(low);
        assert!(low <= value && value <= high, "{measure}: {interval}");
        let count = self.0.entry(measure.into()).or_default();
        count.draws += 1;
        count.held += u32::from((low..=high).contains(&truth));
        count.value += value;
        count.width += high - low;
    }

    /// As [`add`](Self::add), for a measure that stands under `intervals` of a result.
    #[track_caller]
    pub fn add_from(&mut self, result: &Value, path: &str, truth: f64) {
        self.add(path, &result["intervals"][path], truth);
    }

    fn merge(&mut self, other: Self) {
        for (measure, count) in other.0 {
            let all = self.0.entry(measure).or_default();
            all.draws += count.draws;
            all.held += count.held;
            all.value += count.value;
            all.width += count.width;
        }
    }

    /// Every measure must hold the truth in at least 92 % of the draws, and those of `independent` trials in no more than 99.5 %: an
    /// interval that is never wrong says nothing. With 400 draws, 95 % are seen as 93 to 97 %.
    #[track_caller]
    pub fn check(&self, title: &str, independent: &[&str]) {
        let mut wrong = Vec::new();
        for (measure, count) in &self.0 {
            let n = f64::from(count.draws);
            let share = f64::from(count.held) / n;
            let line = format!(
                "{title}: {measure}: held in {:.1} % of {} draws, mean value {:.4}, mean width {:.4}",
                share * 100.0,
                count.draws,
                count.value / n,
                count.width / n
            );
            println!("{line}");
            if share < 0.92 || share > 0.995 && independent.contains(&measure.as_str()) {
                wrong.push(line);
            }
        }
        assert!(independent.iter().all(|measure| self.0.contains_key(*measure)), "{independent:?}");
        assert!(wrong.is_empty(), "intervals that do not hold what they say:\n{}", wrong.join("\n"));
    }
}

/// Counts over many draws, each with a seed of its own, on all cores.
pub fn over_draws(draws: u64, one: impl Fn(&mut Dice, &mut Coverage) + Sync) -> Coverage {
    let (all, next) = (Mutex::new(Coverage::default()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut coverage = Coverage::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= draws {
                        break;
                    }
                    one(&mut Dice::new(seed), &mut coverage);
                }
                all.lock().unwrap().merge(coverage);
            });
        }
    });
    all.into_inner().unwrap()
}
