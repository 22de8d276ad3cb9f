//! Lines that are too short or too long, because a recogniser lost count in a run of fillers.
//!
//! Called by `repair`. Only fillers are added or removed, and only in runs of at least two. Left out: judging the result, which
//! is the caller's work; lines that lost anything else.

use super::super::check_digit::FILLER;
use super::super::layout::{Format, Layout};
use super::{Cell, Proof, Repair};

/// How many characters a line may be too long or too short where it does not end in fillers.
const MAX_LENGTH_ERROR: usize = 3;

/// The same where it does: recognisers lose count in long runs of fillers.
const MAX_TAIL_ERROR: usize = 34;

/// A line whose end was not seen at all is filled up only if it has at least document code, State and some letters.
const MIN_LINE: usize = 8;

/// Lines with fillers added or removed so that they have the lengths of a format.
pub(super) struct Variant {
    pub(super) lines: Vec<Vec<Cell>>,
    pub(super) repairs: Vec<Repair>,
    /// Only runs at the ends of lines were touched, which moves nothing else.
    pub(super) proved: bool,
}

/// All ways to reach the lengths of `format`, or `None` if there is none or the lines are too far off.
pub(super) fn with_right_lengths(format: Format, lines: &[Vec<Cell>]) -> Option<Vec<Variant>> {
    let lengths = format.line_lengths();
    if lengths.len() != lines.len() {
        return None;
    }
    let mut variants = vec![Variant { lines: Vec::new(), repairs: Vec::new(), proved: true }];
    for (index, (line, length)) in lines.iter().zip(lengths).enumerate() {
        let ways = line_with_right_length(format, index, line, *length);
        variants = variants
            .iter()
            .flat_map(|variant| {
                ways.iter().map(|(line, repairs, proved)| Variant {
                    lines: variant.lines.iter().chain([line]).cloned().collect(),
                    repairs: variant.repairs.iter().chain(repairs).copied().collect(),
                    proved: variant.proved && *proved,
                })
            })
            .collect();
    }
    Some(variants).filter(|variants| !variants.is_empty())
}

type LineWay = (Vec<Cell>, Vec<Repair>, bool);

fn line_with_right_length(format: Format, index: usize, line: &[Cell], length: usize) -> Vec<LineWay> {
    if line.len() == length {
        return vec![(line.to_vec(), Vec::new(), true)];
    }
    let ends_in_check =
        Layout::of(format, &[]).checks().any(|check| check.line == index && check.position + 1 == length);
    let error = line.len().abs_diff(length);
    let is_run = |start: usize, end: usize| end - start >= 2;
    let mut ways = Vec::new();
    let mut start = 0;
    while start < line.len() {
        let end = start + line[start..].iter().take_while(|cell| cell.symbol == FILLER).count();
        let is_tail = end == line.len() && !ends_in_check;
        let limit = if is_tail { MAX_TAIL_ERROR } else { MAX_LENGTH_ERROR };
        // A run keeps two fillers, or it would no longer be seen as one; the `<<` between the names has two already.
        let room = line.len() < length || end - start >= error + 2;
        if end > start && (is_tail || ends_in_check) && is_run(start, end) && error <= limit && room {
            let mut changed = line.to_vec();
            let place = |offset: usize| Repair {
                line: index,
                position: start + offset,
                from: None,
                to: None,
                proof: Proof::FillerRun,
            };
            let repairs = if line.len() < length {
                changed.splice(start..start, std::iter::repeat_n(Cell::filler(), error));
                (0..error).map(|offset| Repair { to: Some('<'), ..place(offset) }).collect()
            } else {
                changed.drain(start..start + error);
                (0..error).map(|_| Repair { from: Some('<'), ..place(0) }).collect()
            };
            ways.push((changed, repairs, is_tail));
        }
        start = end.max(start + 1);
    }
    if ways.is_empty() && !ends_in_check && (MIN_LINE..length).contains(&line.len()) {
        // The end of the line was not seen. The other lines must not suffer from it; the field at the end is uncertain.
        let fillers = std::iter::repeat_n(Cell::filler(), error);
        let place =
            |position: usize| Repair { line: index, position, from: None, to: Some('<'), proof: Proof::FillerRun };
        let filled = line.iter().cloned().chain(fillers).collect();
        ways.push((filled, (line.len()..length).map(place).collect(), true));
    }
    ways
}
