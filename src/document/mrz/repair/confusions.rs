//! What recognisers of OCR-B take for what, and how probable it is at a place.
//!
//! Called by the other steps of `repair`. Sources: public reports of open MRZ readers and the errors of a general recogniser on
//! printed MRZ; the costs are this module's own and were chosen so that a wrong repair is rarer than a missed one. Left out:
//! any use of check digits.

use super::super::check_digit::FILLER;
use super::super::layout::{Alphabet, FieldName, Layout};
use super::{COST_LIMIT, Cell, Proof, Solver};

impl Solver {
    /// Replaces characters that cannot stand where they were read by the only or most probable one that can.
    pub(super) fn force_alphabet(&mut self, layout: &Layout, only_state: bool) {
        let state = layout.item(FieldName::IssuingState).map(|item| item.span);
        for line in 0..self.cells.len() {
            for position in 0..self.cells.get(line).map_or(0, Vec::len) {
                if only_state && !state.is_some_and(|span| span.contains(line, position)) {
                    continue;
                }
                let candidates = self.candidates(layout, line, position);
                if let Some((symbol, _)) = candidates.first() {
                    self.set(line, position, *symbol, Proof::Alphabet);
                }
            }
        }
    }

    /// The readings of a position that its alphabet allows, with their costs; the first costs nothing. Empty if nothing that
    /// can stand there looks like what was read.
    pub(super) fn candidates(&self, layout: &Layout, line: usize, position: usize) -> Vec<(u8, f64)> {
        let Some(cell) = self.cells.get(line).and_then(|line| line.get(position)) else { return Vec::new() };
        let first_of_code = layout.item(FieldName::DocumentCode).map(|item| (item.span.line, item.span.start));
        let alphabet =
            if first_of_code == Some((line, position)) { Alphabet::Letters } else { layout.alphabet(line, position) };
        let is_allowed = alphabet.allows(cell.symbol);
        let mut all: Vec<(u8, f64)> = Vec::new();
        let mut add = |symbol: u8, cost: f64| {
            if alphabet.allows(symbol) && cost <= COST_LIMIT {
                match all.iter_mut().find(|(known, _)| *known == symbol) {
                    Some((_, known)) => *known = known.min(cost),
                    None => all.push((symbol, cost)),
                }
            }
        };
        add(cell.symbol, 0.0);
        for (symbol, cost) in &cell.others {
            add(*symbol, *cost);
        }
        // A recogniser that was sure of its reading makes a confusion less probable.
        let sureness = if cell.probability >= 1.0 { 0.0 } else { -(1.0 - cell.probability).max(1e-3).ln() };
        for confusion in CONFUSIONS.iter().filter(|confusion| confusion.read == cell.symbol) {
            let cost = if !is_allowed {
                confusion.rank
            } else if alphabet == Alphabet::Any {
                self.confusion_cost(layout, line, position, confusion)
            } else {
                continue;
            };
            add(confusion.printed, cost + sureness);
        }
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        let least = all.first().map_or(0.0, |(_, cost)| *cost);
        all.iter_mut().for_each(|(_, cost)| *cost -= least);
        all
    }

    /// How improbable a confusion is in a field that may hold letters and digits. Only a letter between digits is suspect by
    /// itself.
    pub(super) fn confusion_cost(&self, layout: &Layout, line: usize, position: usize, confusion: &Confusion) -> f64 {
        let neighbours = self.neighbours(layout, line, position);
        if confusion.printed == FILLER || confusion.read == FILLER {
            return if confusion.printed == FILLER && neighbours.contains(&Some(FILLER)) { 3.0 } else { 6.0 };
        }
        let is_like = |printed: u8, symbol: u8| symbol.is_ascii_digit() == printed.is_ascii_digit();
        let others: Vec<u8> = neighbours.into_iter().flatten().filter(|symbol| *symbol != FILLER).collect();
        let is_odd_one = !others.is_empty() && others.iter().all(|symbol| is_like(confusion.printed, *symbol));
        // Every other confusion of a common pair is probable enough to forbid the one above if it fits as well: without a
        // recogniser's own probabilities a repair must be the only one of its kind.
        match (confusion.is_strong(), is_odd_one && confusion.read.is_ascii_uppercase()) {
            (true, true) => confusion.rank + 0.1,
            (true, false) => 3.0,
            (false, _) => 6.0,
        }
    }

    /// The characters before and after a position within its field; for letters beyond repetitions of the same letter, as a
    /// recogniser that misreads a zero misreads the one beside it too. `None` at the ends of the field.
    pub(super) fn neighbours(&self, layout: &Layout, line: usize, position: usize) -> [Option<u8>; 2] {
        let span = layout.items.iter().rev().map(|item| item.span).find(|span| span.contains(line, position));
        let (Some(span), Some(line)) = (span, self.cells.get(line)) else { return [None, None] };
        let read = line.get(position).map(|cell| cell.symbol);
        let other =
            |cell: &Cell| Some(cell.symbol).filter(|symbol| !symbol.is_ascii_uppercase() || Some(*symbol) != read);
        let before = line.get(span.start..position).and_then(|cells| cells.iter().rev().find_map(other));
        let after = line.get(position + 1..span.end).and_then(|cells| cells.iter().find_map(other));
        [before, after]
    }
}

/// A character that is taken for another.
pub(super) struct Confusion {
    pub(super) read: u8,
    pub(super) printed: u8,
    /// Cost against the most probable confusion of the same character; up to 0.5 counts as strong.
    rank: f64,
}

impl Confusion {
    fn is_strong(&self) -> bool {
        self.rank <= 0.5
    }
}

const fn confusion(read: u8, printed: u8, rank: f64) -> Confusion {
    Confusion { read, printed, rank }
}

/// Pairs that recognisers of OCR-B confuse, after public reports of open MRZ readers and errors of a general recogniser on
/// printed MRZ. The rank orders the readings of one character where it cannot stand.
pub(super) static CONFUSIONS: &[Confusion] = &[
    confusion(b'O', b'0', 0.0),
    confusion(b'0', b'O', 0.0),
    confusion(b'D', b'0', 1.0),
    confusion(b'0', b'D', 2.0),
    confusion(b'Q', b'0', 0.6),
    confusion(b'0', b'Q', 3.0),
    confusion(b'I', b'1', 0.0),
    confusion(b'1', b'I', 0.0),
    confusion(b'L', b'1', 1.0),
    confusion(b'1', b'L', 2.0),
    confusion(b'B', b'8', 0.4),
    confusion(b'8', b'B', 0.4),
    confusion(b'S', b'5', 0.4),
    confusion(b'5', b'S', 0.4),
    confusion(b'Z', b'2', 0.4),
    confusion(b'2', b'Z', 0.4),
    confusion(b'G', b'6', 0.6),
    confusion(b'6', b'G', 0.6),
    confusion(b'A', b'4', 1.0),
    confusion(b'4', b'A', 1.0),
    confusion(b'T', b'7', 1.0),
    confusion(b'7', b'T', 1.0),
    confusion(b'K', FILLER, 0.6),
    confusion(b'C', FILLER, 1.0),
    confusion(b'S', FILLER, 2.0),
    confusion(b'X', FILLER, 0.6),
    confusion(FILLER, b'K', 3.0),
    confusion(FILLER, b'C', 3.0),
];
