//! The readings that satisfy the check digits.
//!
//! Called by `repair` when a check digit fails. The search is exact: a dynamic program over the remainders (modulo 10) of a
//! field's own sum and of the composite sum keeps the best few readings of each remainder. A reading is accepted only if it
//! holds [`ACCEPTED`] of the probability of all of them, among them that some character was misread in a way nobody foresaw.
//! Cost is bounded by the number of positions, whatever was read. Source of the sums: ICAO Doc 9303 part 3 section 4.9.

use super::super::check_digit::{FILLER, WEIGHTS, value};
use super::super::layout::{Check, FieldName, Layout, Span};
use super::super::parse::{self, long_number, text};
use super::{COST_LIMIT, Proof, Solver};

/// Share of the probability that a reading needs. Lower values repair more and are wrong more often.
const ACCEPTED: f64 = 0.95;

/// Cost (negative natural logarithm of a relative probability) of the assumption that a field holds a misread character that
/// is in no list. It is 3 % for a field whose check digit fails, times the tenth in which such a field would fit by chance.
const UNFORESEEN: f64 = 5.8;

/// Readings kept for each pair of remainders. More would only make the probabilities of improbable readings exact.
const KEPT: usize = 6;

impl Solver {
    /// Finds the reading that satisfies the check digits, and takes over the fields of it that are beyond doubt.
    pub(super) fn search_check_digits(&mut self, layout: &'static Layout) {
        let steps = chain(layout, &self.lines);
        let paths = self.readings(layout, &steps);
        let total: f64 = paths.iter().map(|path| (-path.cost).exp()).sum();
        let Some(best) = paths.iter().min_by(|a, b| a.cost.total_cmp(&b.cost)) else { return };
        let read: Vec<u8> = steps.iter().map(|step| parse::at(&self.lines, step.line, step.position)).collect();
        let mut parts: Vec<Part> = Vec::new();
        for step in &steps {
            let part = part_of(layout, step);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        for part in parts {
            let indices: Vec<usize> = (0..steps.len())
                .filter(|index| steps.get(*index).is_some_and(|step| part_of(layout, step) == part))
                .collect();
            let part_text = |symbols: &[u8]| -> Vec<u8> {
                indices.iter().filter_map(|index| symbols.get(*index).copied()).collect()
            };
            let mut readings: Vec<(Vec<u8>, f64)> = Vec::new();
            for path in &paths {
                let (text, weight) = (part_text(&path.symbols), (-path.cost).exp() / total);
                match readings.iter_mut().find(|(known, _)| *known == text) {
                    Some((_, known)) => *known += weight,
                    None => readings.push((text, weight)),
                }
            }
            let best_text = part_text(&best.symbols);
            let share = readings.iter().find(|(text, _)| *text == best_text).map_or(0.0, |(_, share)| *share);
            if best_text == part_text(&read) {
                continue;
            }
            if share >= ACCEPTED {
                for (index, symbol) in indices.iter().zip(&best_text) {
                    if let Some(step) = steps.get(*index) {
                        let proof = match (step.own, step.composite) {
                            (Some(own), Some(composite)) if own != composite && !best.composite_failed => {
                                Proof::TwoCheckDigits
                            }
                            _ => Proof::CheckDigit,
                        };
                        self.set(step.line, step.position, *symbol, proof);
                    }
                }
            } else if let Part::Field(name) = part {
                readings.sort_by(|a, b| b.1.total_cmp(&a.1));
                let own = part_text(&read);
                let others = readings.iter().filter(|(text, share)| *text != own && *share >= 0.01).take(4);
                self.uncertain.push((name, others.map(|(symbols, _)| text(symbols)).collect()));
            }
        }
    }

    /// The most probable readings of the chain, in no order. Each either satisfies its check digits or paid for the
    /// assumption that it holds an unforeseen misread.
    fn readings(&self, layout: &Layout, steps: &[Step]) -> Vec<Path> {
        let mut levels: Vec<Vec<Node>> = Vec::with_capacity(steps.len() + 1);
        levels.push(vec![Node::default()]);
        for step in steps {
            let mut candidates = self.candidates(layout, step.line, step.position);
            if candidates.is_empty() {
                candidates.push((parse::at(&self.lines, step.line, step.position), 0.0));
            }
            let mut next: Vec<Node> = Vec::new();
            for (parent, node) in levels.last().into_iter().flatten().enumerate() {
                for (symbol, cost) in &candidates {
                    let mut node = Node { cost: node.cost + cost, parent, symbol: *symbol, ..*node };
                    let symbol_value = value(*symbol);
                    if step.closes_own {
                        let is_right = symbol_value == Some(node.own) && (*symbol != FILLER || step.may_be_filler);
                        if !is_right {
                            node.cost += UNFORESEEN;
                            node.failed = true;
                        }
                        node.own = 0;
                    }
                    if step.closes_composite {
                        let is_right = symbol_value == Some(node.composite) && *symbol != FILLER;
                        if !is_right {
                            node.cost += if node.failed { 0.0 } else { UNFORESEEN };
                            node.composite_failed = true;
                        }
                    }
                    match symbol_value {
                        Some(value) => {
                            node.own = (node.own + value * step.own.unwrap_or(0)) % 10;
                            node.composite = (node.composite + value * step.composite.unwrap_or(0)) % 10;
                        }
                        None => {
                            // An unreadable character is an unforeseen misread by itself.
                            node.failed = true;
                            node.cost += UNFORESEEN;
                        }
                    }
                    next.push(node);
                }
            }
            levels.push(keep_best(next));
        }
        let last = levels.last().map_or(0, Vec::len);
        (0..last).filter_map(|index| trace(&levels, index)).collect()
    }
}

/// A position in the order in which sums are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Step {
    line: usize,
    position: usize,
    /// Weight in the sum of its own field.
    own: Option<u32>,
    /// Weight in the composite sum.
    composite: Option<u32>,
    /// The check digit of the field before it.
    closes_own: bool,
    /// It may be a filler, because the field is empty.
    may_be_filler: bool,
    /// The composite check digit.
    closes_composite: bool,
}

/// Positions that are decided together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Field(FieldName),
    Composite,
}

fn part_of(layout: &Layout, step: &Step) -> Part {
    let owner = layout.items.iter().find(|item| {
        let is_check =
            item.check.as_ref().is_some_and(|check| (check.line, check.position) == (step.line, step.position));
        is_check || item.span.contains(step.line, step.position)
    });
    owner.filter(|_| !step.closes_composite).map_or(Part::Composite, |item| Part::Field(item.name))
}

/// All positions that some check digit covers, and the check digits, in the order of the composite sum. The check digit of a
/// field follows its field there in every format; that is what lets one pass work out all sums.
fn chain(layout: &Layout, lines: &[Vec<u8>]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let weights = || WEIGHTS.into_iter().cycle();
    let positions =
        |spans: &'static [Span]| spans.iter().flat_map(|span| (span.start..span.end).map(|at| (span.line, at)));
    match &layout.composite {
        Some(composite) => {
            for ((line, position), weight) in positions(composite.covers).zip(weights()) {
                steps.push(Step { line, position, composite: Some(weight), ..Step::default() });
            }
            steps.push(Step {
                line: composite.line,
                position: composite.position,
                closes_composite: true,
                ..Step::default()
            });
        }
        None => {
            for check in layout.checks() {
                let covered = positions(check.covers).chain([(check.line, check.position)]);
                steps.extend(covered.map(|(line, position)| Step { line, position, ..Step::default() }));
            }
        }
    }
    let long = long_number(layout, lines);
    for item in layout.items {
        let Some(check) = &item.check else { continue };
        let rest = long.as_ref().filter(|_| item.name == FieldName::DocumentNumber);
        let (closing, rest_span) = match rest {
            Some(long) => ((long.rest.line, long.check_position), Some(long.rest)),
            None => ((check.line, check.position), None),
        };
        let is_empty = check_is_empty(check, lines);
        let covered: Vec<_> = positions(check.covers)
            .chain(rest_span.into_iter().flat_map(|span| (span.start..span.end).map(move |at| (span.line, at))))
            .collect();
        for step in &mut steps {
            let place = (step.line, step.position);
            if let Some(index) = covered.iter().position(|covered| *covered == place) {
                step.own = weights().nth(index % 3);
            }
            if place == closing {
                step.closes_own = true;
                step.may_be_filler = is_empty;
            }
        }
    }
    steps
}

fn check_is_empty(check: &Check, lines: &[Vec<u8>]) -> bool {
    check.covers.iter().all(|span| span.of(lines).iter().all(|symbol| *symbol == FILLER))
}

/// A reading of the chain up to some step: the remainders of its sums, and how it came about.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    cost: f64,
    own: u32,
    composite: u32,
    /// Some check digit is wrong, or a character is unreadable; the composite is then wrong at no further cost.
    failed: bool,
    composite_failed: bool,
    symbol: u8,
    /// Index in the level before.
    parent: usize,
}

struct Path {
    cost: f64,
    symbols: Vec<u8>,
    composite_failed: bool,
}

/// The best [`KEPT`] nodes of each state, cheapest first.
fn keep_best(mut nodes: Vec<Node>) -> Vec<Node> {
    let least = nodes.iter().map(|node| node.cost).fold(f64::INFINITY, f64::min);
    nodes.retain(|node| node.cost <= least + COST_LIMIT);
    nodes.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    let mut counts = [0_usize; 400];
    nodes.retain(|node| {
        let flags = usize::from(node.failed) * 2 + usize::from(node.composite_failed);
        let state = ((node.own % 10 * 10 + node.composite % 10) as usize) * 4 + flags;
        counts.get_mut(state).is_some_and(|count| {
            *count += 1;
            *count <= KEPT
        })
    });
    nodes
}

/// The characters of a node of the last level.
fn trace(levels: &[Vec<Node>], index: usize) -> Option<Path> {
    let last = levels.last()?.get(index)?;
    let mut symbols = Vec::with_capacity(levels.len());
    let mut at = index;
    // The first level is the empty reading.
    for level in levels.iter().skip(1).rev() {
        let node = level.get(at)?;
        symbols.push(node.symbol);
        at = node.parent;
    }
    symbols.reverse();
    Some(Path { cost: last.cost, symbols, composite_failed: last.composite_failed })
}
