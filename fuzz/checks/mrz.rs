//! Any text and any readings through `parse`, `repair`, `names_agree` and `transliterations`: bounded, and the promises that hold for every input.
//!
//! Run by the fuzz target `mrz` and, on the committed corpus, by `tests/fuzz_corpus.rs`. The first byte chooses how the rest is used: as text, or as readings with a
//! second choice for every position.

use vouch::document::fields;
use vouch::document::mrz::{Date, Proof, ReadLine, Reading, names_agree, parse, repair, transliterations};

/// Repair tries combinations of replacements, whose number it bounds itself.
pub const MAX_BYTES: usize = 16 << 20;

pub fn check(bytes: &[u8]) {
    let (Some(today), Some((mode, rest))) = (Date::new(2026, 11, 23), bytes.split_first()) else { return };
    let text = String::from_utf8_lossy(rest);
    let lines: Vec<&str> = text.split('\n').collect();
    let parsed = parse(&lines, today);
    let read: Vec<ReadLine> = if mode % 2 == 0 {
        lines.iter().map(|line| ReadLine::from_text(line)).collect()
    } else {
        lines.iter().map(|line| pairs(line, f32::from(*mode) / 255.0)).collect()
    };
    match repair(&read, today) {
        Err(error) => assert!(error.to_string().len() < 200),
        Ok(result) => {
            let lengths: Vec<_> = result.mrz.lines.iter().map(String::len).collect();
            assert_eq!(lengths, result.mrz.format.line_lengths());
            for change in &result.repairs {
                // A replacement ends in what now stands there.
                if let (Some(to), true) = (change.to, change.proof != Proof::FillerRun) {
                    assert_eq!(result.mrz.lines[change.line].chars().nth(change.position), Some(to));
                }
            }
            if mode % 2 == 0
                && let Ok(parsed) = &parsed
                && parsed.all_check_digits_valid()
                && parsed.warnings.is_empty()
            {
                let by_search = |proof| matches!(proof, Proof::CheckDigit | Proof::TwoCheckDigits);
                assert!(!result.repairs.iter().any(|change| by_search(change.proof)));
            }
            for field in fields::of_mrz(&result.mrz) {
                assert!(!field.name.is_empty());
            }
            // What was read once is read again from the lines that came of it, to the same.
            let lines: Vec<&str> = result.mrz.lines.iter().map(String::as_str).collect();
            let again = parse(&lines, today).expect("lines of a format");
            assert_eq!(again.lines, result.mrz.lines);
        }
    }
    if let [visual, mrz, ..] = lines.as_slice() {
        names_agree(visual, mrz, mode % 2 == 0);
        assert!(transliterations(visual).len() <= 256);
    }
}

/// Pairs of characters: what was read, and the second choice with its probability.
fn pairs(line: &str, second: f32) -> ReadLine {
    let symbols: Vec<char> = line.chars().collect();
    let position = |pair: &[char]| {
        pair.iter().zip([1.0, second]).map(|(&symbol, probability)| Reading { symbol, probability }).collect()
    };
    ReadLine { positions: symbols.chunks(2).map(position).collect() }
}
