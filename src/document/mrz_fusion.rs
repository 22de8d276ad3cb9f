//! Brings together what several pictures of one machine-readable zone show.
//!
//! Called by `api::scan_mrz` for the frames of a camera. Of each place of the zone the probabilities that the frames give are multiplied,
//! and the repair works on the product: what one frame shows blurred, another shows clearly. Left out: where the zone lies, which
//! moves from frame to frame.

use super::mrz::{self, CheckDigit, Date, DocumentType, Mrz, Proof, ReadLine, Reading, Repaired};
use super::mrz_reader::FoundMrz;
use super::ocr::MRZ_CHARACTERS;

/// Probability of a character that a frame does not list: a tenth of the least that is listed.
const UNLISTED: f32 = 1e-5;

/// A character is sure from this probability on, and a frame shows another document if at so many places, fillers left out, both it and the
/// frames before it are sure of different characters. Two documents differ in number, dates and names, by more than four characters as a
/// rule. Fewer would let single misreadings throw away what is known, more would mix the documents of one family.
const SURE: f32 = 0.9;
const CONTRADICTIONS: usize = 4;

/// A place is settled from this probability on, among the characters that can stand there. A judgement, not measured: lowered, a
/// scan ends earlier and lets more misread names through.
const SETTLED: f32 = 0.995;

const SYMBOLS: usize = MRZ_CHARACTERS.len();

/// The frames so far.
#[derive(Debug, Clone)]
pub struct MrzFusion {
    today: Date,
    sums: Option<Sums>,
    /// Of the last frame whose lines were not seen whole: its characters do not lie over those of others.
    single: Option<Repaired>,
}

#[derive(Debug, Clone)]
struct Sums {
    frames: usize,
    /// By line and place the sums of the logarithms.
    lines: Vec<Vec<[f32; SYMBOLS]>>,
}

/// What the frames show together.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    pub repaired: Repaired,
    /// Frames that it was read from.
    pub frames: usize,
    /// Nothing is left to find out: at least two check digits are there, all are right, the kind of document is known, no field is uncertain, and
    /// every character was seen clearly or is proved by check digits. Frames in which a line was cut do not count.
    pub is_proved: bool,
}

impl MrzFusion {
    /// `today` decides centuries.
    pub fn new(today: Date) -> Self {
        Self { today, sums: None, single: None }
    }

    /// Takes in what a frame shows. A frame of another document starts anew.
    pub fn add(&mut self, found: &FoundMrz) {
        let lines: Vec<Vec<[f32; SYMBOLS]>> = found.read.iter().map(logarithms).collect();
        let lengths: Vec<usize> = lines.iter().map(Vec::len).collect();
        if lengths != found.repaired.mrz.format.line_lengths() || !found.is_whole() {
            // With another number it is of another document, of which no frame was seen whole yet.
            let number = |mrz: &Mrz| mrz.document_number.as_ref().and_then(|number| number.value.clone());
            let new = &found.repaired.mrz;
            if new.all_check_digits_valid()
                && self.read().is_some_and(|known| number(&known.repaired.mrz) != number(new))
            {
                self.sums = None;
            }
            self.single = Some(found.repaired.clone());
            return;
        }
        match &mut self.sums {
            Some(sums) if !sums.contradict(&lines) => {
                sums.frames += 1;
                for (sum, new) in sums.lines.iter_mut().flatten().zip(lines.iter().flatten()) {
                    sum.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
                }
            }
            _ => self.sums = Some(Sums { frames: 1, lines }),
        }
    }

    /// What the frames show together; `None` before the first zone.
    pub fn read(&self) -> Option<Fused> {
        let single = || Some(Fused { repaired: self.single.clone()?, frames: 1, is_proved: false });
        let Some(sums) = &self.sums else { return single() };
        let lines = sums.lines();
        let Ok(repaired) = mrz::repair(&lines, self.today) else { return single() };
        let is_proved = repaired.mrz.all_check_digits_valid()
            && repaired.mrz.document_type != DocumentType::Other
            && repaired.uncertain().next().is_none()
            && valid_digits(&repaired) >= 2
            && (0..lines.len()).all(|line| is_settled(line, &lines[line], &repaired));
        Some(Fused { repaired, frames: sums.frames, is_proved })
    }
}

impl Sums {
    /// True if these are lines of another document.
    fn contradict(&self, lines: &[Vec<[f32; SYMBOLS]>]) -> bool {
        if self.lines.len() != lines.len() || self.lines.iter().zip(lines).any(|(a, b)| a.len() != b.len()) {
            return true;
        }
        let surely = |readings: &[Reading]| {
            let best = readings.first().filter(|best| best.probability >= SURE && best.symbol != '<');
            best.map(|best| best.symbol)
        };
        let new = Self { frames: 1, lines: lines.to_vec() }.lines();
        let known = self.lines();
        let places = known.iter().zip(&new).flat_map(|(a, b)| a.positions.iter().zip(&b.positions));
        let pairs = places.filter_map(|(a, b)| Some((surely(a)?, surely(b)?)));
        pairs.filter(|(a, b)| a != b).count() >= CONTRADICTIONS
    }

    fn lines(&self) -> Vec<ReadLine> {
        // Frames of one camera share their faults: so many count as the square root of so many independent ones.
        let by = 1.0 / (self.frames as f32).sqrt();
        let position = |sums: &[f32; SYMBOLS]| -> Vec<Reading> {
            let most = sums.iter().copied().fold(f32::MIN, f32::max);
            let weights = sums.map(|sum| ((sum - most) * by).exp());
            let total: f32 = weights.iter().sum();
            let readings = MRZ_CHARACTERS.chars().zip(weights);
            // Exactly 1 would mean that nothing is known of the probability.
            let readings =
                readings.map(|(symbol, weight)| Reading { symbol, probability: (weight / total).min(0.9999) });
            let mut readings: Vec<Reading> = readings.filter(|reading| reading.probability >= 1e-4).collect();
            readings.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            readings
        };
        self.lines.iter().map(|line| ReadLine { positions: line.iter().map(position).collect() }).collect()
    }
}

fn logarithms(line: &ReadLine) -> Vec<[f32; SYMBOLS]> {
    let place = |readings: &Vec<Reading>| {
        let mut logarithms = [UNLISTED.ln(); SYMBOLS];
        for reading in readings {
            if let Some(index) = MRZ_CHARACTERS.find(reading.symbol) {
                logarithms[index] = reading.probability.max(UNLISTED).ln();
            }
        }
        logarithms
    };
    line.positions.iter().map(place).collect()
}

fn valid_digits(repaired: &Repaired) -> usize {
    repaired.mrz.check_digits().filter(|(_, digit)| *digit == CheckDigit::Valid).count()
}

/// Whether every place of a line was seen clearly among the characters that can stand there, or is proved by check digits.
fn is_settled(line: usize, seen: &ReadLine, repaired: &Repaired) -> bool {
    let text = repaired.mrz.lines.get(line).map_or("", String::as_str);
    text.chars().zip(&seen.positions).enumerate().all(|(place, (symbol, readings))| {
        let is_proved = |repair: &mrz::Repair| {
            (repair.line, repair.position, repair.to) == (line, place, Some(symbol))
                && matches!(repair.proof, Proof::CheckDigit | Proof::TwoCheckDigits)
        };
        let allowed = readings.iter().filter(|reading| repaired.mrz.allows(line, place, reading.symbol));
        let total: f32 = allowed.map(|reading| reading.probability).sum();
        let share = readings.iter().find(|reading| reading.symbol == symbol).map_or(0.0, |found| found.probability);
        share >= SETTLED * total.max(f32::MIN_POSITIVE) || repaired.repairs.iter().any(is_proved)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::mrz_reader::tests::{frame, today};

    const PASSPORT: [&str; 2] =
        ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"];

    #[test]
    fn what_one_frame_shows_blurred_another_shows_clearly() {
        // The K of the surname, which no check digit covers, looks more like an X in the first frame.
        let first = frame(&PASSPORT, 0.9990);
        let mut blurred = first.clone();
        blurred.read[0].positions[8] =
            vec![Reading { symbol: 'X', probability: 0.6 }, Reading { symbol: 'K', probability: 0.4 }];
        let mut fusion = MrzFusion::new(today());
        fusion.add(&blurred);
        let alone = fusion.read().unwrap();
        assert_eq!(&alone.repaired.mrz.lines[0][..14], "P<UTOERIXSSON<");
        assert!(!alone.is_proved, "an unclear letter is no proof, whatever the check digits say");
        fusion.add(&first);
        fusion.add(&first);
        let fused = fusion.read().unwrap();
        assert_eq!((fused.repaired.mrz.lines.as_slice(), fused.frames), (PASSPORT.map(String::from).as_slice(), 3));
        assert!(fused.is_proved);
    }

    #[test]
    fn a_clear_frame_proves_itself_and_an_unsure_one_does_not() {
        let mut fusion = MrzFusion::new(today());
        assert_eq!(fusion.read(), None);
        fusion.add(&frame(&PASSPORT, 0.97));
        assert!(!fusion.read().unwrap().is_proved);
        let mut clear = MrzFusion::new(today());
        clear.add(&frame(&PASSPORT, 0.9999));
        assert!(clear.read().unwrap().is_proved);
    }

    #[test]
    fn a_character_that_was_guessed_is_no_proof() {
        // Nobody can tell B from S here; the 8, which was seen best, cannot stand in a name.
        let mut guessed = frame(&PASSPORT, 0.9999);
        let readings = [('8', 0.5), ('B', 0.3), ('S', 0.2)];
        guessed.read[0].positions[8] = readings.map(|(symbol, probability)| Reading { symbol, probability }).to_vec();
        let mut fusion = MrzFusion::new(today());
        fusion.add(&guessed);
        let fused = fusion.read().unwrap();
        assert!(fused.repaired.mrz.all_check_digits_valid());
        assert!(!fused.is_proved);
        // A 0 that can only be an O is settled, as nothing else was seen.
        guessed.read[0].positions[8] =
            [('0', 0.6), ('O', 0.3999)].map(|(symbol, probability)| Reading { symbol, probability }).to_vec();
        let mut fusion = MrzFusion::new(today());
        fusion.add(&guessed);
        assert!(fusion.read().unwrap().is_proved);
    }

    #[test]
    fn a_frame_of_another_length_is_told_but_not_laid_over_others() {
        let mut cut = frame(&PASSPORT, 0.9999);
        cut.read[0].positions.pop();
        cut.repaired = mrz::repair(&cut.read, today()).unwrap();
        let mut fusion = MrzFusion::new(today());
        fusion.add(&cut);
        let fused = fusion.read().unwrap();
        assert_eq!((fused.frames, fused.is_proved), (1, false));
        assert_eq!(fused.repaired.mrz.lines[1], PASSPORT[1]);
    }

    #[test]
    fn a_frame_in_which_a_line_may_be_cut_is_no_proof() {
        let mut cut = frame(&PASSPORT, 0.9999);
        cut.of_these_lengths = 1e-6;
        let mut fusion = MrzFusion::new(today());
        fusion.add(&cut);
        let fused = fusion.read().unwrap();
        assert_eq!(
            (fused.repaired.mrz.lines.as_slice(), fused.is_proved),
            (PASSPORT.map(String::from).as_slice(), false)
        );
        // Nor does it change what whole frames prove.
        fusion.add(&frame(&PASSPORT, 0.9999));
        fusion.add(&cut);
        let fused = fusion.read().unwrap();
        assert_eq!((fused.frames, fused.is_proved), (1, true));
    }

    const OTHER: [&str; 2] =
        ["P<UTODOE<<JOHN<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<", "X123456785UTO8001014M3001019<<<<<<<<<<<<<<<2"];

    #[test]
    fn another_document_that_was_never_seen_whole_is_told_all_the_same() {
        let mut fusion = MrzFusion::new(today());
        fusion.add(&frame(&PASSPORT, 0.9999));
        let mut cut = frame(&OTHER, 0.9999);
        assert!(cut.repaired.mrz.all_check_digits_valid());
        cut.of_these_lengths = 1e-6;
        fusion.add(&cut);
        let fused = fusion.read().unwrap();
        assert_eq!((&fused.repaired.mrz.lines[0][..12], fused.is_proved), ("P<UTODOE<<JO", false));
    }

    #[test]
    fn another_document_starts_anew() {
        let mut fusion = MrzFusion::new(today());
        fusion.add(&frame(&PASSPORT, 0.999));
        fusion.add(&frame(&OTHER, 0.999));
        let fused = fusion.read().unwrap();
        assert_eq!((fused.frames, &fused.repaired.mrz.lines[0][..12]), (1, "P<UTODOE<<JO"));
    }
}
