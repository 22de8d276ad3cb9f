//! Any text and any readings through `parse`, `repair`, `names_agree` and `transliterations`: no panic, bounded time, and the
//! promises that hold for every input. Seeds are worth having: the worked examples, one per file, in `fuzz/corpus/mrz`.
//!
//! The first byte chooses how the rest is used: as text, or as readings with a second choice for every position.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vouch::document::mrz::{Date, Proof, ReadLine, Reading, names_agree, parse, repair, transliterations};

fuzz_target!(|bytes: &[u8]| {
    let (Some(today), Some((mode, rest))) = (Date::new(2026, 11, 23), bytes.split_first()) else { return };
    let text = String::from_utf8_lossy(rest);
    let lines: Vec<&str> = text.split('\n').collect();
    let parsed = parse(&lines, today);
    let read: Vec<ReadLine> = if mode % 2 == 0 {
        lines.iter().map(|line| ReadLine::from_text(line)).collect()
    } else {
        // Pairs of characters: what was read, and the second choice, whose probability follows from the mode.
        let pairs = |line: &&str| {
            line.chars()
                .collect::<Vec<_>>()
                .chunks(2)
                .map(|pair| {
                    let probabilities = [1.0, f32::from(*mode) / 255.0];
                    pair.iter()
                        .zip(probabilities)
                        .map(|(symbol, probability)| Reading { symbol: *symbol, probability })
                        .collect()
                })
                .collect()
        };
        lines.iter().map(|line| ReadLine { positions: pairs(line) }).collect()
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
                && let Ok(parsed) = parsed
                && parsed.all_check_digits_valid()
                && parsed.warnings.is_empty()
            {
                let by_search = |proof| matches!(proof, Proof::CheckDigit | Proof::TwoCheckDigits);
                assert!(!result.repairs.iter().any(|change| by_search(change.proof)));
            }
        }
    }
    if let [visual, mrz, ..] = lines.as_slice() {
        names_agree(visual, mrz, mode % 2 == 0);
        assert!(transliterations(visual).len() <= 256);
    }
});
