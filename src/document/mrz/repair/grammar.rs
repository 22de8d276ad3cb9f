//! What the grammar of an MRZ proves without check digits, and doubts that check digits cannot settle.
//!
//! Called by `repair`. The codes of States are a closed list (`states`); behind the end of the names there are only fillers
//! (ICAO Doc 9303 part 3 section 4.6). Check digits cannot tell 6 from G, 1 from L, nor 0, A, K, U and the filler from each
//! other: their values are equal modulo 10.

use super::super::check_digit::{FILLER, value};
use super::super::layout::{Alphabet, FieldName, Item, Layout, Span};
use super::super::parse::{self, is_filler_lookalike, is_valid, split_names, text};
use super::super::states;
use super::confusions::CONFUSIONS;
use super::{Cell, Proof, Solver};

impl Solver {
    /// A State that is not known becomes the only known one that looks like it.
    pub(super) fn repair_state(&mut self, layout: &Layout, name: FieldName) {
        let Some(item) = layout.item(name) else { return };
        let raw = item.span.of(&self.lines).to_vec();
        let is_known = |raw: &[u8]| states::find(text(raw).trim_end_matches('<')).is_some();
        if is_known(&raw) || raw.iter().all(|symbol| *symbol == FILLER) {
            return;
        }
        let looks_like = |read: u8, printed: u8, cell: Option<&Cell>| {
            read == printed
                || cell.is_some_and(|cell| cell.others.iter().any(|(other, cost)| *other == printed && *cost < 5.0))
                || CONFUSIONS.iter().any(|confusion| (confusion.read, confusion.printed) == (read, printed))
        };
        let read: Vec<_> = (item.span.start..item.span.end)
            .map(|position| self.cells.get(item.span.line).and_then(|line| line.get(position)))
            .collect();
        let fitting: Vec<Vec<u8>> = states::STATES
            .iter()
            .map(|state| state.code.bytes().chain([FILLER, FILLER]).take(3).collect::<Vec<_>>())
            .filter(|code| {
                code.iter().zip(&raw).zip(&read).all(|((printed, typed), cell)| {
                    looks_like(*typed, *printed, *cell)
                        || cell.is_some_and(|cell| looks_like(cell.symbol, *printed, Some(cell)))
                })
            })
            .collect();
        match fitting.as_slice() {
            [code] => {
                for (offset, symbol) in code.iter().enumerate() {
                    self.set(item.span.line, item.span.start + offset, *symbol, Proof::KnownState);
                }
            }
            [] => {}
            several => self.uncertain.push((name, several.iter().take(4).map(|code| text(code)).collect())),
        }
    }

    /// Turns misread fillers behind the names back into fillers, where the grammar of the name field leaves no doubt.
    pub(super) fn repair_name_tail(&mut self, layout: &Layout) {
        let items: Vec<_> = layout.items.iter().filter(|item| item.name == FieldName::Names).collect();
        let [item] = items.as_slice() else { return };
        let raw = item.span.of(&self.lines).to_vec();
        let split = split_names(&raw);
        let tail_start = raw.len() - split.tail.len();
        let has_names = !split.primary.is_empty();
        if has_names && !split.tail.is_empty() && split.tail.iter().all(|symbol| is_filler_lookalike(*symbol)) {
            for position in tail_start..raw.len() {
                self.set(item.span.line, item.span.start + position, FILLER, Proof::NameSyntax);
            }
            return;
        }
        // A run of one lookalike to the end that begins after a filler: no name is made of four equal letters.
        let names_end = raw.iter().rposition(|symbol| *symbol != FILLER).map_or(0, |last| last + 1);
        let names = raw.get(..names_end).unwrap_or_default();
        let Some(last) = names.last().copied().filter(|last| is_filler_lookalike(*last)) else { return };
        let run = names.iter().rev().take_while(|symbol| **symbol == last).count();
        let run_start = names_end - run;
        let follows_filler = run_start > 0 && names.get(run_start - 1) == Some(&FILLER);
        if run >= 3 && follows_filler {
            for position in run_start..names_end {
                self.set(item.span.line, item.span.start + position, FILLER, Proof::NameSyntax);
            }
        } else if run >= 3 {
            // How many of them belong to the name cannot be told.
            let with = |kept: usize| text(names.get(..run_start + kept).unwrap_or_default());
            self.uncertain.push((FieldName::Names, vec![with(0), with(1)]));
        }
    }

    /// Where other characters were misread, a name in one part with a lookalike beside a filler may have lost the `<<`
    /// between its parts; the other readings are noted.
    pub(super) fn note_lost_separator(&mut self, layout: &Layout) {
        let items: Vec<_> = layout.items.iter().filter(|item| item.name == FieldName::Names).collect();
        let ([item], true) = (items.as_slice(), self.is_damaged()) else { return };
        let raw = item.span.of(&self.lines).to_vec();
        let split = split_names(&raw);
        if !split.secondary.is_empty() {
            return;
        }
        let lookalike = |symbol: u8| symbol != FILLER && is_filler_lookalike(symbol);
        let lost: Vec<String> = (1..split.primary.len())
            .filter_map(|at| {
                let (before, after) = (*split.primary.get(at - 1)?, *split.primary.get(at)?);
                let misread = match (before, after) {
                    (FILLER, symbol) if lookalike(symbol) => at,
                    (symbol, FILLER) if lookalike(symbol) => at - 1,
                    _ => return None,
                };
                let mut other = raw.clone();
                *other.get_mut(misread)? = FILLER;
                Some(text(&other))
            })
            .take(4)
            .collect();
        if !lost.is_empty() {
            self.uncertain.push((FieldName::Names, lost));
        }
    }

    /// Marks fields where the recogniser saw another character that no check digit could tell from the one it chose.
    pub(super) fn note_undetectable(&mut self, layout: &Layout) {
        // The chosen character is less than a hundred times as probable as the other. Of 1 983 generated photographs seven have right check
        // digits and a wrong name, most from worn print: all are marked, and 35 of the 1 970 exact ones. At 10, with an earlier locator, four of
        // seven were.
        const CLOSE: f64 = 2.0 * std::f64::consts::LN_10;
        let is_damaged = self.is_damaged();
        for item in layout.items {
            let span = item.span;
            for position in span.start..span.end {
                let Some(cell) = self.cells.get(span.line).and_then(|line| line.get(position)) else { continue };
                let chosen = parse::at(&self.lines, span.line, position);
                let is_checked = layout.checks().any(|check| {
                    check.covers.iter().any(|covered| covered.contains(span.line, position))
                        && is_valid(check, &self.lines)
                });
                let alternatives: Vec<String> = cell
                    .others
                    .iter()
                    .copied()
                    .chain([(cell.symbol, 0.0)])
                    .filter(|(other, cost)| *other != chosen && *cost < CLOSE && item.alphabet.allows(*other))
                    .filter(|(other, _)| {
                        let same = value(*other).map(|value| value % 10) == value(chosen).map(|value| value % 10);
                        !is_checked || same
                    })
                    .filter(|_| chosen == cell.symbol)
                    .map(|(other, _)| {
                        let mut raw = span.of(&self.lines).to_vec();
                        if let Some(symbol) = raw.get_mut(position - span.start) {
                            *symbol = other;
                        }
                        text(&raw)
                    })
                    .collect();
                if !alternatives.is_empty() {
                    self.uncertain.push((item.name, alternatives));
                }
                if let Some(other) = self.suspect(layout, span, position, is_damaged) {
                    self.uncertain.push((item.name, vec![other]));
                }
            }
            self.note_undetectable_pairs(layout, item);
        }
    }

    /// Marks a field where the recogniser saw, at two places, the other character of the same confusion, and the check digits are
    /// right either way: 22 and ZZ beside each other in a document number.
    fn note_undetectable_pairs(&mut self, layout: &Layout, item: &Item) {
        // As probable as this against each of the two as read. One misreading makes the same one beside it no surprise, so the
        // dearer of the two is the price of both.
        const CLOSE: f64 = 3.5;
        let span = item.span;
        let doubts: Vec<(usize, u8)> = (span.start..span.end)
            .filter_map(|position| {
                let cell = self.cells.get(span.line)?.get(position)?;
                let chosen = parse::at(&self.lines, span.line, position);
                let is_confused = |other: u8| {
                    CONFUSIONS.iter().any(|confusion| (confusion.read, confusion.printed) == (chosen, other))
                };
                let others = cell.others.iter().filter(|(other, cost)| {
                    chosen == cell.symbol && *cost < CLOSE && item.alphabet.allows(*other) && is_confused(*other)
                });
                others.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(other, _)| (position, *other))
            })
            .collect();
        let checks: Vec<_> = layout
            .checks()
            .filter(|check| check.covers.iter().any(|covered| covered.contains(span.line, span.start)))
            .filter(|check| is_valid(check, &self.lines))
            .collect();
        if checks.is_empty() {
            return;
        }
        for (index, &(first, other)) in doubts.iter().enumerate() {
            for &(second, also) in &doubts[index + 1..] {
                let chosen = |position| parse::at(&self.lines, span.line, position);
                if also != other || chosen(first) != chosen(second) {
                    continue;
                }
                let mut lines = self.lines.clone();
                let Some(line) = lines.get_mut(span.line) else { continue };
                [first, second].into_iter().for_each(|position| line[position] = other);
                if checks.iter().all(|check| is_valid(check, &lines)) {
                    self.uncertain.push((item.name, vec![text(span.of(&lines))]));
                }
            }
        }
    }

    /// The other reading of a character that is out of place and has the same value modulo 10 as what is usually taken for
    /// it: a G or an L among digits where other characters were misread too, a K alone in a run of fillers.
    pub(super) fn suspect(&self, layout: &Layout, span: Span, position: usize, is_damaged: bool) -> Option<String> {
        let chosen = parse::at(&self.lines, span.line, position);
        let neighbours = self.neighbours(layout, span.line, position);
        // A number may well begin with a G or an L.
        let digits = |symbol: &Option<u8>| symbol.is_some_and(|symbol| symbol.is_ascii_digit());
        let other = match chosen {
            _ if layout.alphabet(span.line, position) != Alphabet::Any => return None,
            b'G' if is_damaged && neighbours.iter().all(digits) => b'6',
            b'L' if is_damaged && neighbours.iter().all(digits) => b'1',
            b'K' if neighbours == [Some(FILLER); 2] => FILLER,
            _ => return None,
        };
        let mut raw = span.of(&self.lines).to_vec();
        *raw.get_mut(position.checked_sub(span.start)?)? = other;
        Some(text(&raw))
    }
}
