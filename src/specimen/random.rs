//! Chance that depends on a seed alone.
//!
//! Called by everything here that draws. Each part of a specimen has a stream of its own, named by what it is for, so that a change of
//! one part leaves the others as they were. Angles and powers are computed by `libm`, in plain Rust: the functions of the host's C
//! library may differ in the last bit between versions and processors.

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use sha2::{Digest as _, Sha256};

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// The stream of `name` for `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
        let mut state = [0; 16];
        state.copy_from_slice(&digest[..16]);
        Self(Pcg64Mcg::from_seed(state))
    }

    /// Evenly within `low..high`.
    pub fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// Evenly one of `0..count`; 0 for no count.
    pub fn below(&mut self, count: usize) -> usize {
        if count == 0 { 0 } else { self.0.random_range(0..count) }
    }

    /// Evenly one of `low..=high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        self.0.random_range(low..=high)
    }

    /// True in `share` of the cases.
    pub fn chance(&mut self, share: f64) -> bool {
        self.0.random::<f64>() < share
    }

    /// Evenly one of them.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// One of the characters of an ASCII alphabet.
    pub fn character(&mut self, alphabet: &str) -> char {
        char::from(alphabet.as_bytes()[self.below(alphabet.len())])
    }

    /// As many characters of an ASCII alphabet.
    pub fn characters(&mut self, alphabet: &str, count: usize) -> String {
        (0..count).map(|_| self.character(alphabet)).collect()
    }

    /// Nearly normal with mean 0 and deviation 1: the sum of four even numbers, which ends at ±3.5.
    pub fn normal(&mut self) -> f32 {
        let bits = self.0.next_u64();
        let sum: u32 = (0..4).map(|part| (bits >> (16 * part)) as u32 & 0xffff).sum();
        // Four even numbers of 0..65536 have the variance 4 · 65536² / 12.
        (sum as f32 - 131_070.0) / 37_837.2
    }

    /// A seed for what is drawn on its own.
    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_seed_and_name_alone() {
        let numbers = |seed, name| {
            let mut random = Random::new(seed, name);
            [random.seed(), random.seed()]
        };
        assert_eq!(numbers(7, "photo"), numbers(7, "photo"));
        assert_ne!(numbers(7, "photo"), numbers(8, "photo"));
        assert_ne!(numbers(7, "photo"), numbers(7, "page"));
        // Pinned: specimens of a seed stay the same from version to version.
        assert_eq!(Random::new(7, "page").below(1_000_000), PINNED);
    }

    const PINNED: usize = 115_522;

    #[test]
    fn nearly_normal_numbers_have_mean_0_and_deviation_1() {
        let mut random = Random::new(1, "noise");
        let numbers: Vec<f64> = (0..20_000).map(|_| f64::from(random.normal())).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|number| (number - mean) * (number - mean)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }
}
