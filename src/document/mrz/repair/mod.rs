//! Makes good what a recogniser misread, as far as the MRZ itself proves it.
//!
//! Called by the reader with what it saw at each position, and by the command line with plain text. Four kinds of change are
//! made, each listed with its proof: characters that cannot stand where they were read (a letter in a date), characters that
//! the check digits prove, fillers that the grammar of a name field proves, and fillers missing from a run of fillers.
//! Everything else stays as read; where the evidence leaves several readings, the field is marked uncertain and keeps them.
//!
//! Reading order: this file (input, output, the order of the steps), `lengths` (lines of the wrong length), `confusions` (what
//! is taken for what, and characters that cannot stand where they were read), `grammar` (States, names, doubts that no check
//! digit can settle), `search` (what the check digits prove).
//!
//! Left out: finding lines in a picture; repairs from other sources such as the visual zone.

mod confusions;
mod grammar;
mod lengths;
mod search;

use super::check_digit::{FILLER, UNREADABLE};
use super::date::Date;
use super::layout::{self, FieldName, Format, Layout, Span};
use super::parse::{self, Certainty, CheckDigit, Mrz, ParseError, Warning, WarningKind, by_content, is_valid, symbols};
use lengths::{Variant, with_right_lengths};

/// Readings costlier than this are not followed: they would be e⁻¹² as probable as the reading as it stands.
const COST_LIMIT: f64 = 12.0;

/// Readings looked at for one position.
const MAX_READINGS: usize = 8;

/// The longest line looked at, and the most lines: the largest format has 44 characters, or three lines.
const MAX_LINE: usize = 64;
const MAX_LINES: usize = 3;

/// One reading of a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    pub symbol: char,
    /// 0..=1; need not sum up to 1. Exactly 1 means that nothing is known of how sure the recogniser was.
    pub probability: f32,
}

/// One line as a recogniser read it: for each position its readings in any order, of which the
/// first eight are looked at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadLine {
    pub positions: Vec<Vec<Reading>>,
}

impl ReadLine {
    /// A line without alternatives.
    pub fn from_text(text: &str) -> Self {
        Self { positions: text.chars().map(|symbol| vec![Reading { symbol, probability: 1.0 }]).collect() }
    }
}

/// The MRZ after repair.
#[derive(Debug, Clone, PartialEq)]
pub struct Repaired {
    pub mrz: Mrz,
    /// In order of line and position.
    pub repairs: Vec<Repair>,
}

impl Repaired {
    /// Fields in which other readings remain possible.
    pub fn uncertain(&self) -> impl Iterator<Item = FieldName> {
        ALL_FIELDS.into_iter().filter(|name| self.mrz.certainty(*name) == Some(Certainty::Uncertain))
    }

    /// Marks as uncertain what `other`, another reading of the same zone with right check digits, has differently.
    pub fn doubt(&mut self, other: &Mrz) {
        if self.mrz.format != other.format {
            return;
        }
        let bytes = |mrz: &Mrz| -> Vec<Vec<u8>> { mrz.lines.iter().map(|line| line.clone().into_bytes()).collect() };
        let (own, other) = (bytes(&self.mrz), bytes(other));
        for item in Layout::of(self.mrz.format, &own).items {
            let (read, alternative) = (item.span.of(&own), item.span.of(&other));
            if read != alternative
                && let Some((certainty, alternatives)) = self.mrz.reliance(item.name)
            {
                *certainty = Certainty::Uncertain;
                let alternative = parse::text(alternative);
                if alternatives.len() < MAX_READINGS && !alternatives.contains(&alternative) {
                    alternatives.push(alternative);
                }
            }
        }
    }

    /// Marks as uncertain what may go on where the lines were thought to end, unless a check digit covers it.
    pub fn doubt_ends(&mut self) {
        let lines: Vec<Vec<u8>> = self.mrz.lines.iter().map(|line| line.clone().into_bytes()).collect();
        let layout = Layout::of(self.mrz.format, &lines);
        let is_checked = |item: &layout::Item| {
            let mut checks = layout.checks().filter(|check| is_valid(check, &lines));
            checks.any(|check| check.covers.iter().any(|covered| covered.contains(item.span.line, item.span.start)))
        };
        for item in layout.items {
            let is_last = lines.get(item.span.line).is_some_and(|line| line.len() == item.span.end);
            if is_last
                && !is_checked(item)
                && let Some((certainty, _)) = self.mrz.reliance(item.name)
            {
                *certainty = Certainty::Uncertain;
            }
        }
    }
}

/// One change. `line` and `position` count from 0, in the lines of the result; a removal stands where the character was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repair {
    pub line: usize,
    pub position: usize,
    /// `None` for an insertion.
    pub from: Option<char>,
    /// `None` for a removal.
    pub to: Option<char>,
    pub proof: Proof,
}

/// What a change rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// What was read cannot stand in this position.
    Alphabet,
    /// One check digit.
    CheckDigit,
    /// The check digit of the field and the composite, with different weights.
    TwoCheckDigits,
    /// Of all known States only this one looks like what was read.
    KnownState,
    /// Nothing but fillers can follow the end of the names.
    NameSyntax,
    /// A run of fillers had the wrong length.
    FillerRun,
}

const ALL_FIELDS: [FieldName; 11] = [
    FieldName::DocumentCode,
    FieldName::IssuingState,
    FieldName::Names,
    FieldName::DocumentNumber,
    FieldName::Nationality,
    FieldName::Birth,
    FieldName::Sex,
    FieldName::Expiry,
    FieldName::Issue,
    FieldName::OptionalData,
    FieldName::OptionalData2,
];

/// Reads an MRZ and repairs what can be proved. An MRZ whose check digits are all valid as read is changed only where a
/// character cannot stand in its position or a filler was misread behind the names. `today` decides the centuries.
///
/// # Errors
/// If the lines are those of no format, also when fillers are added to or taken from them.
pub fn repair(lines: &[ReadLine], today: Date) -> Result<Repaired, ParseError> {
    let lines = cells(lines)?;
    let read_symbols = as_read(&lines);
    let format = by_content(&read_symbols)?;
    let lengths: Vec<_> = lines.iter().map(Vec::len).collect();
    if format.line_lengths() == lengths {
        return Ok(Solver::new(format, lines, Vec::new()).solve(today));
    }
    let refused = ParseError::UnknownFormat { lines: lines.len(), lengths };
    let variants = with_right_lengths(format, &lines).ok_or_else(|| refused.clone())?;
    let mut solved: Vec<Repaired> = Vec::new();
    for Variant { lines, repairs, proved } in variants {
        let mut repaired = Solver::new(format, lines, repairs).solve(today);
        // A filler put into a line that goes on behind it moves everything that follows; only check digits can prove that.
        let is_proved = proved || repaired.mrz.all_check_digits_valid();
        if is_proved && !solved.iter().any(|other| other.mrz.lines == repaired.mrz.lines) {
            let warning = Warning { field: FieldName::OptionalData, kind: WarningKind::LineLengthRepaired };
            repaired.mrz.warnings.push(warning);
            solved.push(repaired);
        }
    }
    // Several results mean that nothing tells where the filler was lost.
    solved.pop().filter(|_| solved.is_empty()).ok_or(refused)
}

/// What was read at a position.
#[derive(Debug, Clone, PartialEq)]
struct Cell {
    symbol: u8,
    /// Probability of `symbol`, 0..=1; 1 where the recogniser gave none.
    probability: f64,
    /// The recogniser's other readings with their cost against `symbol`.
    others: Vec<(u8, f64)>,
}

impl Cell {
    fn filler() -> Self {
        Self { symbol: FILLER, probability: 1.0, others: Vec::new() }
    }
}

/// The readings in the alphabet of the MRZ, without spaces and empty lines.
fn cells(lines: &[ReadLine]) -> Result<Vec<Vec<Cell>>, ParseError> {
    let mut all = Vec::new();
    for line in lines {
        if line.positions.len() > 2 * MAX_LINE {
            return Err(ParseError::TooLong);
        }
        let mut cells: Vec<Cell> = Vec::new();
        for readings in &line.positions {
            let mut readings: Vec<_> = readings
                .iter()
                .take(MAX_READINGS)
                .map(|reading| (reading.symbol, f64::from(reading.probability).clamp(0.0, 1.0)))
                .filter(|(_, probability)| !probability.is_nan())
                .collect();
            readings.sort_by(|a, b| b.1.total_cmp(&a.1));
            let Some((best, probability)) = readings.first().copied() else { continue };
            let mut merged: Vec<(u8, f64)> = Vec::new();
            for (symbol, probability) in readings.iter().skip(1) {
                let mut single = symbols(*symbol);
                if let (Some(symbol), None) = (single.next(), single.next())
                    && symbol != UNREADABLE
                    && *probability > 0.0
                    && !merged.iter().any(|(known, _)| *known == symbol)
                {
                    merged.push((symbol, *probability));
                }
            }
            for symbol in symbols(best) {
                let others = merged.iter().filter(|(other, _)| *other != symbol);
                let others = others.map(|(other, p)| (*other, (probability.max(1e-9) / p).ln().max(0.0))).collect();
                cells.push(Cell { symbol, probability, others });
            }
        }
        if !cells.is_empty() && all.len() <= MAX_LINES {
            all.push(cells);
        }
    }
    match all.len() {
        0 => Err(ParseError::Empty),
        1..=MAX_LINES if all.iter().all(|line| line.len() <= MAX_LINE) => Ok(all),
        lines => {
            let lengths = all.iter().map(Vec::len).take(8).collect();
            Err(ParseError::UnknownFormat { lines, lengths })
        }
    }
}

fn as_read(lines: &[Vec<Cell>]) -> Vec<Vec<u8>> {
    lines.iter().map(|line| line.iter().map(|cell| cell.symbol).collect()).collect()
}

/// What is known of the reading while it is worked out.
struct Solver {
    format: Format,
    cells: Vec<Vec<Cell>>,
    /// The text as it stands.
    lines: Vec<Vec<u8>>,
    repairs: Vec<Repair>,
    /// Alternatives of fields that could not be decided.
    uncertain: Vec<(FieldName, Vec<String>)>,
}

impl Solver {
    fn new(format: Format, cells: Vec<Vec<Cell>>, repairs: Vec<Repair>) -> Self {
        let lines = as_read(&cells);
        Self { format, cells, lines, repairs, uncertain: Vec::new() }
    }

    fn solve(mut self, today: Date) -> Repaired {
        // The layout of a licence depends on its State, so the letters of the State come first.
        self.force_alphabet(Layout::of(self.format, &self.lines), true);
        let layout = Layout::of(self.format, &self.lines);
        self.force_alphabet(layout, false);
        self.repair_state(layout, FieldName::IssuingState);
        self.repair_state(layout, FieldName::Nationality);
        self.repair_name_tail(layout);
        let layout = Layout::of(self.format, &self.lines);
        if layout.checks().next().is_some() && !self.all_valid(layout, today) {
            self.search_check_digits(layout);
        }
        self.note_undetectable(layout);
        self.note_lost_separator(layout);
        self.finish(layout, today)
    }

    fn all_valid(&self, layout: &Layout, today: Date) -> bool {
        // A personal number may go without its check digit and a long number has it elsewhere; `read` knows both.
        let mrz = parse::read(self.format, &self.lines, today);
        layout.checks().next().is_none()
            || mrz.check_digits().all(|(_, digit)| !matches!(digit, CheckDigit::Failed { .. }))
    }

    fn set(&mut self, line: usize, position: usize, to: u8, proof: Proof) {
        if let Some(symbol) = self.lines.get_mut(line).and_then(|line| line.get_mut(position))
            && *symbol != to
        {
            // One entry per position, from what was read to what it became.
            let read = self.cells.get(line).and_then(|line| line.get(position)).map_or(*symbol, |cell| cell.symbol);
            *symbol = to;
            self.repairs.retain(|repair| {
                (repair.line, repair.position) != (line, position) || repair.proof == Proof::FillerRun
            });
            let (from, to) = (Some(char::from(read)), Some(char::from(to)));
            if from != to {
                self.repairs.push(Repair { line, position, from, to, proof });
            }
        }
    }

    /// True if a character was found to be misread.
    fn is_damaged(&self) -> bool {
        self.repairs.iter().any(|repair| repair.proof != Proof::FillerRun)
    }

    fn finish(mut self, layout: &'static Layout, today: Date) -> Repaired {
        let mut mrz = parse::read(self.format, &self.lines, today);
        self.repairs.sort_by_key(|repair| (repair.line, repair.position));
        let mut is_explained = !matches!(mrz.composite, CheckDigit::Failed { .. });
        let mut unproved = Vec::new();
        for name in ALL_FIELDS {
            let spans: Vec<Span> = layout.items.iter().filter(|item| item.name == name).map(|item| item.span).collect();
            let changed = self.repairs.iter().any(|repair| {
                spans.iter().any(|span| span.contains(repair.line, repair.position)) && repair.to.is_some()
            });
            let mut alternatives: Vec<String> = Vec::new();
            let mut is_uncertain = false;
            for (_, others) in self.uncertain.iter().filter(|(field, _)| *field == name) {
                is_uncertain = true;
                for other in others.iter().take(4) {
                    if alternatives.len() < MAX_READINGS && !alternatives.contains(other) {
                        alternatives.push(other.clone());
                    }
                }
            }
            let digit = mrz.check_digits().find(|(field, _)| *field == name).map(|(_, digit)| digit);
            let failed = matches!(digit, Some(CheckDigit::Failed { .. }));
            // Optional data of cards have no check digit of their own, but the composite covers them.
            let composite_covers = layout.composite.as_ref().is_some_and(|check| {
                spans.iter().all(|span| {
                    let covers = |covered: &Span| {
                        covered.line == span.line && covered.start <= span.start && span.end <= covered.end
                    };
                    check.covers.iter().any(covers)
                })
            });
            let proved = digit == Some(CheckDigit::Valid) || composite_covers && mrz.composite == CheckDigit::Valid;
            let is_unreadable = spans.iter().any(|span| span.of(&self.lines).contains(&UNREADABLE));
            // Fillers added at the very end of a line stand for an end that was not seen.
            let is_cut_off = self.repairs.iter().any(|repair| {
                let is_last = self.lines.get(repair.line).is_some_and(|line| line.len() == repair.position + 1);
                let is_inserted = repair.proof == Proof::FillerRun && repair.from.is_none();
                is_last && is_inserted && spans.iter().any(|span| span.contains(repair.line, repair.position))
            });
            let certainty = if is_uncertain || failed || is_unreadable || is_cut_off {
                Certainty::Uncertain
            } else if !changed {
                Certainty::AsRead
            } else if proved {
                Certainty::Proved
            } else {
                Certainty::Presumed
            };
            is_explained |= certainty == Certainty::Uncertain;
            if composite_covers && digit != Some(CheckDigit::Valid) && !spans.is_empty() {
                unproved.push(name);
            }
            mrz.set_certainty(name, certainty, alternatives);
        }
        // A composite digit that fails for nothing that is in doubt: what it alone covers is.
        if !is_explained {
            unproved.into_iter().for_each(|name| mrz.set_certainty(name, Certainty::Uncertain, Vec::new()));
        }
        Repaired { mrz, repairs: self.repairs }
    }
}
