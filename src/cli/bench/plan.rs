//! Which steps a measurement takes, one after the other: those that were asked for, then the search for saturation and the loads around it.
//!
//! Called by `vouch bench`, which tells it the throughput of each step. Pure: the search is tested against a made-up capacity.

use std::collections::VecDeque;

use super::load::Load;

/// The search ends where twice the callers raise the throughput by no more than this: beyond it more callers wait longer and get nothing.
pub const LEAST_RISE: f64 = 0.03;

/// The search ends here at the latest. A daemon takes 256 connections and, by default, as many waiting requests.
const MOST_CALLERS: usize = 256;

/// Offered loads beside saturation, as shares of it: half, the load that capacity is planned for, nearly all, and three times too much.
pub const LOADS: [f64; 4] = [0.5, 0.7, 0.9, 3.0];

/// The load that the headlines tell.
pub const PLANNED_LOAD: f64 = 0.7;

/// One step to take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    pub load: Load,
    /// Of the search for saturation.
    pub is_search: bool,
    /// Offered load as a share of the throughput at saturation.
    pub share: Option<f64>,
}

/// The throughput at saturation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saturation {
    /// Answers a second.
    pub per_second: f64,
    /// With so many callers of a closed loop.
    pub callers: usize,
}

/// The steps still to come.
#[derive(Debug)]
pub struct Plan {
    steps: VecDeque<Planned>,
    /// Whether saturation is to be searched once `steps` are done.
    search: bool,
    max_in_flight: usize,
    best: Option<Saturation>,
    saturation: Option<Saturation>,
}

impl Plan {
    /// First `loads`, then, with `search`, saturation.
    pub fn new(loads: Vec<Load>, search: bool, max_in_flight: usize) -> Self {
        let steps = loads.into_iter().map(|load| Planned { load, is_search: false, share: None }).collect();
        Self { steps, search, max_in_flight, best: None, saturation: None }
    }

    /// The next step, or none if all are done.
    pub fn next(&mut self) -> Option<Planned> {
        if self.steps.is_empty() && std::mem::take(&mut self.search) {
            self.steps.push_back(searching(1));
        }
        self.steps.pop_front()
    }

    /// Takes note of the answers a second of the step that [`next`](Self::next) gave last.
    pub fn done(&mut self, step: &Planned, per_second: f64) {
        let Planned { load: Load::Closed { callers, .. }, is_search: true, .. } = *step else { return };
        let before = self.best.map_or(0.0, |best| best.per_second);
        if per_second > before {
            self.best = Some(Saturation { per_second, callers });
        }
        if per_second > before * (1.0 + LEAST_RISE) && callers * 2 <= MOST_CALLERS {
            self.steps.push_back(searching(callers * 2));
            return;
        }
        self.saturation = self.best;
        if let Some(saturation) = self.saturation {
            self.steps.extend(LOADS.map(|share| Planned {
                load: Load::Open { per_second: share * saturation.per_second, max_in_flight: self.max_in_flight },
                is_search: false,
                share: Some(share),
            }));
        }
    }

    /// Known once the search is over; absent if nothing was answered in it.
    pub fn saturation(&self) -> Option<Saturation> {
        self.saturation
    }
}

fn searching(callers: usize) -> Planned {
    Planned { load: Load::Closed { callers, requests: None }, is_search: true, share: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a plan against a server whose throughput with so many callers is given.
    fn callers_tried(plan: &mut Plan, throughput: impl Fn(usize) -> f64) -> (Vec<usize>, Vec<f64>) {
        let (mut callers_tried, mut rates) = (Vec::new(), Vec::new());
        while let Some(step) = plan.next() {
            let per_second = match step.load {
                Load::Closed { callers, .. } => {
                    callers_tried.push(callers);
                    throughput(callers)
                }
                Load::Open { per_second, .. } => {
                    rates.push(per_second);
                    per_second
                }
            };
            plan.done(&step, per_second);
        }
        (callers_tried, rates)
    }

    #[test]
    fn the_search_ends_where_twice_the_callers_bring_nothing() {
        // Each answer takes 100 ms, and 6 are worked on at once.
        let mut plan = Plan::new(Vec::new(), true, 100);
        let (callers, rates) = callers_tried(&mut plan, |callers| (callers as f64 * 10.0).min(60.0));
        assert_eq!(callers, [1, 2, 4, 8, 16]);
        assert_eq!(plan.saturation(), Some(Saturation { per_second: 60.0, callers: 8 }));
        assert_eq!(rates, LOADS.map(|share| share * 60.0));
    }

    #[test]
    fn throughput_that_falls_again_leaves_the_best_step_standing() {
        let mut plan = Plan::new(Vec::new(), true, 100);
        callers_tried(&mut plan, |callers| if callers > 2 { 15.0 } else { 10.0 * callers as f64 });
        assert_eq!(plan.saturation(), Some(Saturation { per_second: 20.0, callers: 2 }));
    }

    #[test]
    fn the_search_has_an_end_without_saturation_and_without_answers() {
        let mut plan = Plan::new(Vec::new(), true, 100);
        let (callers, _) = callers_tried(&mut plan, |callers| callers as f64);
        assert_eq!((callers.len(), callers.last()), (9, Some(&MOST_CALLERS)));
        let mut silent = Plan::new(Vec::new(), true, 100);
        assert_eq!(callers_tried(&mut silent, |_| 0.0), (vec![1], vec![]));
        assert_eq!(silent.saturation(), None);
    }

    #[test]
    fn what_was_asked_for_comes_first() {
        let asked = Load::Closed { callers: 3, requests: Some(7) };
        let mut plan = Plan::new(vec![asked], false, 100);
        assert_eq!(plan.next().map(|step| step.load), Some(asked));
        assert_eq!(plan.next(), None);
    }
}
