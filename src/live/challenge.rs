//! What is asked: actions drawn one at a time, when each is to be shown, so that nothing of the challenge exists before.
//!
//! Called by `session`. The source of chance is a parameter: the daemon gives the system's cryptographic generator, tests a list.

use super::Action;

/// Gives random bits.
pub type Chance = Box<dyn FnMut() -> u64 + Send + Sync>;

/// The most steps a challenge may have.
pub const MAX_STEPS: usize = 8;

/// A challenge in the course of being drawn.
pub struct Challenge {
    /// Given beforehand, in a rehearsal.
    fixed: Vec<Action>,
    allowed: Vec<Action>,
    steps: usize,
    drawn: Vec<Action>,
    chance: Chance,
}

impl Challenge {
    /// `steps` actions out of those allowed; `fixed`, if it is not empty, says all of them beforehand.
    pub fn new(steps: usize, allowed: Vec<Action>, fixed: Vec<Action>, chance: Chance) -> Self {
        let steps = if fixed.is_empty() { steps } else { fixed.len() };
        Self { fixed, allowed, steps, drawn: Vec::new(), chance }
    }

    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The next action; `None` after the last. Never the same twice in a row while there is another, at most one blink (people blink unasked), and at least one motion of
    /// the head where one is allowed, since nothing else shows that it is a head. `possible` says what this person can be asked for.
    pub fn draw(&mut self, possible: impl Fn(Action) -> bool) -> Option<Action> {
        let step = self.drawn.len();
        if step == self.steps {
            return None;
        }
        if let Some(&action) = self.fixed.get(step) {
            self.drawn.push(action);
            return Some(action);
        }
        let is_last = step + 1 == self.steps;
        let needs_head = is_last && !self.drawn.iter().any(|action| action.turns_head());
        let rules: [&dyn Fn(Action) -> bool; 4] = [
            &|action| possible(action),
            &|action| self.drawn.last() != Some(&action),
            &|action| action != Action::Blink || !self.drawn.contains(&Action::Blink),
            &|action| !needs_head || action.turns_head(),
        ];
        // A rule that would leave nothing does not hold.
        let mut left = self.allowed.clone();
        for rule in rules {
            let kept: Vec<Action> = left.iter().copied().filter(|action| rule(*action)).collect();
            if !kept.is_empty() {
                left = kept;
            }
        }
        let count = left.len();
        let action = left[self.below(count)];
        self.drawn.push(action);
        Some(action)
    }

    /// Evenly one of `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        // Values of the last, incomplete round are drawn again, so that none is favoured.
        let fair = u64::MAX - u64::MAX % bound;
        loop {
            let bits = (self.chance)();
            if bits < fair {
                return (bits % bound) as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> Chance {
        // SplitMix64: even enough to see all outcomes.
        let mut state = 7_u64;
        Box::new(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    fn drawn(steps: usize, allowed: &[Action], chance: Chance) -> Vec<Action> {
        let mut challenge = Challenge::new(steps, allowed.to_vec(), Vec::new(), chance);
        std::iter::from_fn(|| challenge.draw(|_| true)).collect()
    }

    #[test]
    fn every_action_comes_first_about_equally_often_and_no_rule_is_broken() {
        let mut chance = counting();
        let mut first = std::collections::BTreeMap::new();
        for _ in 0..8000 {
            let seed = chance();
            let mut state = seed;
            let steps = drawn(3, &Action::ALL, {
                let mut inner = counting();
                for _ in 0..seed % 1000 {
                    inner();
                }
                Box::new(move || {
                    state = state.rotate_left(7) ^ inner();
                    state
                })
            });
            assert_eq!(steps.len(), 3);
            assert!(steps.windows(2).all(|pair| pair[0] != pair[1]), "{steps:?}");
            assert!(steps.iter().any(|action| action.turns_head()), "{steps:?}");
            assert!(steps.iter().filter(|action| **action == Action::Blink).count() <= 1, "{steps:?}");
            *first.entry(steps[0]).or_insert(0) += 1;
        }
        assert!(first.values().all(|count| (850..1150).contains(count)), "{first:?}");
        assert_eq!(first.len(), 8);
    }

    #[test]
    fn rules_that_cannot_be_kept_do_not_hold() {
        assert_eq!(drawn(3, &[Action::Blink], counting()), [Action::Blink; 3]);
        let mut challenge = Challenge::new(1, vec![Action::MoveCloser], Vec::new(), counting());
        assert_eq!(challenge.draw(|_| false), Some(Action::MoveCloser));
    }

    #[test]
    fn the_last_step_is_a_motion_of_the_head_if_none_was() {
        for _ in 0..50 {
            let steps = drawn(2, &[Action::Smile, Action::OpenMouth, Action::LookUp], counting());
            assert!(steps.contains(&Action::LookUp), "{steps:?}");
        }
    }
}
