//! Finds a machine-readable zone in a picture, in any direction, and reads it.
//!
//! Called by `pipeline`. Lines of text are found first; those that lie below each other and are as long as lines of a zone are read
//! with the recogniser for zones, from both ends where it is not clear which way up they stand, and handed to [`mrz::repair`]. Left
//! out: the visual zone, and finding the document itself.

use std::panic::resume_unwind;
use std::sync::Arc;

use super::mrz::{self, Date, ReadLine, Reading, Repaired};
use super::ocr::{MrzLine, MrzRecogniser, Position, Quad, TextDetector, TextLine};
use crate::error::Error;
use crate::imaging::Image;
use crate::inference::RequestContext;

/// Long sides at which lines are looked for, tried in this order. At 640 the characters of a passport page that fills the picture
/// are eight pixels high; small zones need more.
const SEARCH_SIDES_PX: [u32; 2] = [640, 1280];

/// Length over height from which a strip may be a line of a zone. The lines of TD1, the shortest, have about 17; half of that leaves
/// room for a line of which a part is hidden.
const MIN_ELONGATION: f64 = 8.0;

/// Strips that are looked at, the longest first, and groups that are read. Raised, a page full of text costs more runs of the model.
const MAX_STRIPS: usize = 40;
const MAX_GROUPS: usize = 6;

/// Lines of a zone are spaced by about twice the height of a found line; other distances are no neighbours.
const LINE_PITCH: std::ops::RangeInclusive<f64> = 0.6..=3.5;

/// Mean probability of the characters from which a line counts as read the right way up.
const SURELY_UPRIGHT: f64 = 0.9;

/// Probability that the lines have the lengths of a format, below which they are not read as having them. Chosen low, as both readings are
/// judged by their check digits in the end: it only spares the repair what is next to impossible. Raised, a zone with a hidden end is left
/// to the repair of lengths, which knows less.
const MIN_LENGTH_PROBABILITY: f64 = 1e-9;

/// Mean probability of the characters from which nothing better is looked for: of 88 characters less than half a one is in doubt.
/// Lowered, more zones with a badly cut line are taken as they are; raised, more are read twice.
const CLEAR: f64 = 0.995;

/// How far a line may begin or end from the others of its zone, in heights of the found lines: a little more than half a character.
const MAX_UNALIGNED: f64 = 0.35;

/// What makes a group of lines a zone: so many right check digits, or fewer and so many fillers that were seen. One digit of five is
/// right by chance in two of five readings of any text.
const MIN_VALID_DIGITS: usize = 2;
const MIN_FILLERS: usize = 3;

/// Characters that may be replaced in a zone whose check digits are not all right in the end. Mirrored pages gave 20 to 50, the three real
/// zones of that kind none.
const MAX_UNPROVED_REPAIRS: usize = 12;

/// A zone that was found.
#[derive(Debug, Clone)]
pub struct FoundMrz {
    pub repaired: Repaired,
    /// What the recogniser saw, before the repair.
    pub read: Vec<ReadLine>,
    /// Around all lines, clockwise from the top left corner of the text, in pixel areas of the picture.
    pub quad: Quad,
}

/// The reader.
#[derive(Clone)]
pub struct MrzReader {
    detector: TextDetector,
    recogniser: MrzRecogniser,
}

/// A line as it was read, in one direction.
#[derive(Debug, Clone)]
struct Strip {
    line: TextLine,
    seen: MrzLine,
    /// The characters that stand out by themselves.
    positions: Vec<Position>,
}

impl MrzReader {
    pub fn new(detector: TextDetector, recogniser: MrzRecogniser) -> Self {
        Self { detector, recogniser }
    }

    /// Reads the zone of a picture, `None` if there is none. `today` decides centuries.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn read(&self, image: &Image, today: Date, context: &Arc<RequestContext>) -> Result<Option<FoundMrz>, Error> {
        let mut best: Option<FoundMrz> = None;
        for (attempt, &side) in SEARCH_SIDES_PX.iter().enumerate() {
            if attempt > 0 && image.width.max(image.height) <= SEARCH_SIDES_PX[attempt - 1] {
                break;
            }
            let strips = joined(self.detector.find(image, side, context)?);
            for group in groups(&strips).into_iter().take(MAX_GROUPS) {
                let Some(found) = self.read_group(image, &group, today, context)? else { continue };
                if found.repaired.mrz.all_check_digits_valid() {
                    return Ok(Some(found));
                }
                if best.as_ref().is_none_or(|best| rank(&found) > rank(best)) {
                    best = Some(found);
                }
            }
        }
        Ok(best)
    }

    /// Reads lines that lie below each other, the uppermost first.
    fn read_group(
        &self,
        image: &Image,
        group: &[TextLine],
        today: Date,
        context: &Arc<RequestContext>,
    ) -> Result<Option<FoundMrz>, Error> {
        let found = self.read_lines(image, group, today, context)?;
        if found.as_ref().is_some_and(FoundMrz::is_clear) {
            return Ok(found);
        }
        // Lines of a zone begin and end together: one that does not was joined with what stands beside the document, or cut.
        let Some(aligned) = aligned(group) else { return Ok(found) };
        let again = self.read_lines(image, &aligned, today, context)?;
        Ok([again, found].into_iter().flatten().max_by(by_evidence))
    }

    /// Reads lines as they were found, from both ends where it is not clear which way up they stand.
    fn read_lines(
        &self,
        image: &Image,
        group: &[TextLine],
        today: Date,
        context: &Arc<RequestContext>,
    ) -> Result<Option<FoundMrz>, Error> {
        let upright = self.read_strips(image, group.to_vec(), context)?;
        if confidence(&upright) >= SURELY_UPRIGHT
            && let Some(found) = zone(&upright, today)
        {
            return Ok(Some(found));
        }
        let turned = group.iter().rev().map(TextLine::turned).collect();
        let turned = self.read_strips(image, turned, context)?;
        Ok([upright, turned].iter().filter_map(|strips| zone(strips, today)).max_by(by_evidence))
    }

    /// Reads lines beside each other.
    fn read_strips(
        &self,
        image: &Image,
        lines: Vec<TextLine>,
        context: &Arc<RequestContext>,
    ) -> Result<Vec<Strip>, Error> {
        let read = |line: TextLine| -> Result<Strip, Error> {
            let seen = self.recogniser.read(image, &line.capitals(), context)?;
            Ok(Strip { line, positions: seen.as_read(), seen })
        };
        std::thread::scope(|scope| {
            let strips: Vec<_> = lines.into_iter().map(|line| scope.spawn(move || read(line))).collect();
            strips.into_iter().map(|strip| strip.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }
}

impl FoundMrz {
    /// All check digits are right, no field is uncertain, and the characters were seen clearly.
    fn is_clear(&self) -> bool {
        self.repaired.mrz.all_check_digits_valid()
            && self.repaired.uncertain().next().is_none()
            && self.clarity() >= CLEAR
    }

    /// Mean probability of the characters as they were seen.
    fn clarity(&self) -> f64 {
        let seen = self.read.iter().flat_map(|line| &line.positions);
        let (sum, count) = seen.fold((0.0, 0), |(sum, count), readings| {
            let best = readings.iter().map(|reading| f64::from(reading.probability)).fold(0.0, f64::max);
            (sum + best, count + 1)
        });
        if count == 0 { 0.0 } else { sum / f64::from(count) }
    }
}

/// Orders zones by what speaks for them: check digits, then how clearly they were seen.
fn by_evidence(a: &FoundMrz, b: &FoundMrz) -> std::cmp::Ordering {
    rank(a).cmp(&rank(b)).then(a.clarity().total_cmp(&b.clarity()))
}

/// How much speaks for a zone: right check digits, less its wrong ones.
fn rank(found: &FoundMrz) -> i32 {
    found.repaired.mrz.check_digits().fold(0, |rank, (_, digit)| match digit {
        mrz::CheckDigit::Valid => rank + 2,
        mrz::CheckDigit::Failed { .. } => rank - 1,
        mrz::CheckDigit::Absent | mrz::CheckDigit::NotApplicable => rank,
    })
}

/// Mean probability of the characters, 0 without any.
fn confidence(strips: &[Strip]) -> f64 {
    let best = |position: &Position| position.alternatives.first().map_or(0.0, |&(_, probability)| probability);
    let all = strips.iter().flat_map(|strip| &strip.positions);
    let (sum, count) = all.fold((0.0, 0), |(sum, count), position| (sum + best(position), count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

/// The zone that lines make, also if one line above or below does not belong to it.
fn zone(strips: &[Strip], today: Date) -> Option<FoundMrz> {
    let choices: &[std::ops::Range<usize>] = match strips.len() {
        1 => std::slice::from_ref(&(0..1)),
        2 => &[0..2, 0..1, 1..2],
        3 => &[0..3, 1..3, 0..2],
        _ => &[],
    };
    let readings = choices.iter().flat_map(|choice| {
        let strips = &strips[choice.clone()];
        let as_read: Vec<ReadLine> = strips.iter().map(|strip| read_line(&strip.positions)).collect();
        of_known_lengths(strips).into_iter().chain([as_read]).map(move |lines| (strips, lines))
    });
    let found = readings.filter_map(|(strips, lines)| {
        let repaired = mrz::repair(&lines, today).ok()?;
        let seen = strips.iter().flat_map(|strip| &strip.positions);
        let fillers = seen.filter(|position| position.best() == '<').count();
        let valid = repaired.mrz.check_digits().filter(|(_, digit)| *digit == mrz::CheckDigit::Valid).count();
        // Other text looks like a zone too, mirrored ones most of all: without a right check digit it must be read surely.
        let is_sure = strips.len() > 1 && confidence(strips) >= SURELY_UPRIGHT;
        let is_zone = valid >= MIN_VALID_DIGITS || (fillers >= MIN_FILLERS && (valid > 0 || is_sure));
        let replaced = repaired.repairs.iter().filter(|repair| repair.proof != mrz::Proof::FillerRun).count();
        let is_invented = replaced > MAX_UNPROVED_REPAIRS && !repaired.mrz.all_check_digits_valid();
        (is_zone && !is_invented).then(|| FoundMrz { repaired, read: lines, quad: around(strips) })
    });
    // Of equals the first, which has the most lines.
    let of_all = |a: &(usize, FoundMrz), b: &(usize, FoundMrz)| by_evidence(&a.1, &b.1).then(b.0.cmp(&a.0));
    found.enumerate().max_by(of_all).map(|(_, found)| found)
}

/// The lines read as lines of the most probable lengths that a zone with so many has.
fn of_known_lengths(strips: &[Strip]) -> Option<Vec<ReadLine>> {
    let mut lengths: Vec<&[usize]> = mrz::Format::ALL.into_iter().map(mrz::Format::line_lengths).collect();
    lengths.retain(|lengths| lengths.len() == strips.len());
    lengths.sort_unstable();
    lengths.dedup();
    let read = lengths.into_iter().filter_map(|lengths| of_lengths(strips, lengths));
    let (_, lines) = read.max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(lines)
}

/// The lines read as having these lengths, with the probability that they do.
fn of_lengths(strips: &[Strip], lengths: &[usize]) -> Option<(f64, Vec<ReadLine>)> {
    let mut probability = 1.0;
    let mut lines = Vec::new();
    for (strip, &length) in strips.iter().zip(lengths) {
        // Where less than half of a line stands out, it is another.
        if 2 * strip.positions.len() < length {
            return None;
        }
        let (of_length, positions) = strip.seen.of_length(length)?;
        probability *= of_length;
        if probability < MIN_LENGTH_PROBABILITY {
            return None;
        }
        lines.push(read_line(&positions));
    }
    Some((probability, lines))
}

/// What a recogniser saw, for the repair.
fn read_line(positions: &[Position]) -> ReadLine {
    // Exactly 1 would mean that nothing is known of the probability.
    let reading = |&(symbol, p): &(char, f64)| Reading { symbol, probability: (p as f32).min(0.9999) };
    ReadLine {
        positions: positions.iter().map(|position| position.alternatives.iter().map(reading).collect()).collect(),
    }
}

/// The quadrilateral from the first line's top to the last line's feet.
fn around(strips: &[Strip]) -> Quad {
    match (strips.first(), strips.last()) {
        (Some(first), Some(last)) => [first.line.quad[0], first.line.quad[1], last.line.quad[2], last.line.quad[3]],
        _ => Quad::default(),
    }
}

// ---------------------------------------------------------------- geometry

/// Direction of a line, of length 1.
fn direction(line: &TextLine) -> [f64; 2] {
    let [a, b, ..] = line.quad;
    let length = (b[0] - a[0]).hypot(b[1] - a[1]).max(f64::MIN_POSITIVE);
    [(b[0] - a[0]) / length, (b[1] - a[1]) / length]
}

fn centre(line: &TextLine) -> [f64; 2] {
    let sum = line.quad.iter().fold([0.0, 0.0], |sum, corner| [sum[0] + corner[0], sum[1] + corner[1]]);
    sum.map(|sum| sum / 4.0)
}

/// Where the centre of `other` lies from that of `line`: along its direction, and across it (downwards is positive).
fn offset(line: &TextLine, other: &TextLine) -> [f64; 2] {
    let ([dx, dy], from, to) = (direction(line), centre(line), centre(other));
    let [x, y] = [to[0] - from[0], to[1] - from[1]];
    [x * dx + y * dy, y * dx - x * dy]
}

fn are_parallel(line: &TextLine, other: &TextLine) -> bool {
    let ([ax, ay], [bx, by]) = (direction(line), direction(other));
    // Short pieces are measured badly: eight degrees.
    ax * bx + ay * by > 0.99
}

/// Lines with the pieces of broken ones joined, those that are too short for a zone left out; the longest first.
///
/// A run of fillers looks so little like text that the detector often breaks a line there.
fn joined(mut lines: Vec<TextLine>) -> Vec<TextLine> {
    lines.sort_by(|a, b| b.size()[0].total_cmp(&a.size()[0]));
    let mut strips: Vec<TextLine> = Vec::new();
    let mut used = vec![false; lines.len()];
    for start in 0..lines.len() {
        if used[start] {
            continue;
        }
        let mut strip = lines[start];
        loop {
            let next =
                (0..lines.len()).find(|&index| index != start && !used[index] && continues(&strip, &lines[index]));
            let Some(next) = next else { break };
            used[next] = true;
            strip = extended(&strip, &lines[next]);
        }
        let [length, height] = strip.size();
        if length >= MIN_ELONGATION * height {
            used[start] = true;
            strips.push(strip);
        }
        if strips.len() >= MAX_STRIPS {
            break;
        }
    }
    strips.sort_by(|a, b| b.size()[0].total_cmp(&a.size()[0]));
    strips
}

/// True if `piece` goes on where `strip` ends, at either end.
fn continues(strip: &TextLine, piece: &TextLine) -> bool {
    let ([length, height], [piece_length, piece_height]) = (strip.size(), piece.size());
    let [along, across] = offset(strip, piece);
    let gap = along.abs() - (length + piece_length) / 2.0;
    // A piece of one or two characters has no direction worth the name.
    let fits = piece_length < 3.0 * piece_height || are_parallel(strip, piece);
    fits && across.abs() < 0.5 * height
        && (-height..3.0 * height).contains(&gap)
        && piece_height < 1.6 * height
        && height < 2.5 * piece_height
}

/// The strip made longer to the far end of the piece.
fn extended(strip: &TextLine, piece: &TextLine) -> TextLine {
    let ([length, _], [piece_length, _]) = (strip.size(), piece.size());
    let ([dx, dy], [along, _]) = (direction(strip), offset(strip, piece));
    let by = (along.abs() + piece_length / 2.0 - length / 2.0).max(0.0);
    let moved = |[x, y]: [f64; 2], sign: f64| [x + sign * by * dx, y + sign * by * dy];
    let [a, b, c, d] = strip.quad;
    let quad = if along >= 0.0 { [a, moved(b, 1.0), moved(c, 1.0), d] } else { [moved(a, -1.0), b, c, moved(d, -1.0)] };
    TextLine { quad, score: strip.score.min(piece.score) }
}

/// Lines of one group that all begin and end where most of them do; of two, where both are. `None` if they do so already.
fn aligned(group: &[TextLine]) -> Option<Vec<TextLine>> {
    let first = group.first()?;
    let middle = |mut ends: Vec<f64>, inner: fn(f64, f64) -> f64| {
        ends.sort_by(f64::total_cmp);
        match ends.as_slice() {
            [a, b] => inner(*a, *b),
            ends => ends.get(ends.len() / 2).copied().unwrap_or(0.0),
        }
    };
    // Along the first line, from its centre.
    let extents: Vec<[f64; 2]> = group
        .iter()
        .map(|line| {
            let ([along, _], [length, _]) = (offset(first, line), line.size());
            [along - length / 2.0, along + length / 2.0]
        })
        .collect();
    let start = middle(extents.iter().map(|extent| extent[0]).collect(), f64::max);
    let end = middle(extents.iter().map(|extent| extent[1]).collect(), f64::min);
    let most = MAX_UNALIGNED * first.size()[1];
    let is_aligned = extents.iter().all(|[from, to]| (from - start).abs() <= most && (to - end).abs() <= most);
    if is_aligned || end <= start {
        return None;
    }
    let moved = group.iter().zip(&extents).map(|(line, [from, to])| {
        let [dx, dy] = direction(line);
        let shift = |[x, y]: [f64; 2], by: f64| [x + by * dx, y + by * dy];
        let [a, b, c, d] = line.quad;
        let (before, after) = (start - from, end - to);
        TextLine { quad: [shift(a, before), shift(b, after), shift(c, after), shift(d, before)], ..*line }
    });
    Some(moved.collect())
}

/// Two or three strips below each other, and single ones after them; groups of longer lines first.
fn groups(strips: &[TextLine]) -> Vec<Vec<TextLine>> {
    let below = |line: &TextLine| {
        let follows = |other: &&TextLine| {
            let ([length, height], [other_length, other_height]) = (line.size(), other.size());
            let [along, across] = offset(line, other);
            are_parallel(line, other)
                && LINE_PITCH.contains(&(across / height.max(other_height)))
                && (0.6..1.67).contains(&(other_length / length))
                && along.abs() < 0.35 * length
        };
        strips.iter().filter(follows).min_by(|a, b| offset(line, a)[1].total_cmp(&offset(line, b)[1])).copied()
    };
    let mut groups: Vec<Vec<TextLine>> = Vec::new();
    for line in strips {
        let mut group = vec![*line];
        while group.len() < 3 {
            let Some(next) = group.last().and_then(below) else { break };
            group.push(next);
        }
        groups.push(group);
    }
    // The last lines of a longer group make a group of their own, which adds nothing to it.
    let is_part =
        |group: &Vec<TextLine>| groups.iter().any(|other| other.len() > group.len() && other.ends_with(group));
    let mut whole: Vec<Vec<TextLine>> = groups.iter().filter(|group| !is_part(group)).cloned().collect();
    let length = |group: &Vec<TextLine>| group.iter().map(|line| line.size()[0]).fold(0.0, f64::max);
    let is_single = |group: &Vec<TextLine>| group.len() == 1;
    whole.sort_by(|a, b| is_single(a).cmp(&is_single(b)).then(length(b).total_cmp(&length(a))));
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with its top left corner at a place, turned clockwise by an angle around the origin.
    fn line(x: f64, y: f64, length: f64, height: f64, degrees: f64) -> TextLine {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let corners = [[x, y], [x + length, y], [x + length, y + height], [x, y + height]];
        TextLine { quad: corners.map(|[x, y]| [x * cos - y * sin, x * sin + y * cos]), score: 1.0 }
    }

    #[test]
    fn broken_lines_are_joined_in_any_direction_and_other_text_is_not() {
        for degrees in [0.0, 30.0, 89.0] {
            let pieces = vec![
                line(0.0, 0.0, 300.0, 20.0, degrees),
                line(330.0, 1.0, 60.0, 20.0, degrees),
                line(410.0, 0.0, 25.0, 18.0, degrees),
                // The next line, and a word far away.
                line(0.0, 45.0, 430.0, 20.0, degrees),
                line(900.0, 0.0, 60.0, 20.0, degrees),
            ];
            let strips = joined(pieces);
            assert_eq!(strips.len(), 2, "{degrees}°: {strips:?}");
            let mut lengths: Vec<f64> = strips.iter().map(|strip| strip.size()[0].round()).collect();
            lengths.sort_by(f64::total_cmp);
            assert_eq!(lengths, [430.0, 435.0], "{degrees}°");
        }
    }

    #[test]
    fn a_line_joined_with_something_beside_the_document_is_cut_back() {
        for degrees in [0.0, -15.0, 75.0] {
            let joined = vec![line(-150.0, 0.0, 550.0, 20.0, degrees), line(0.0, 45.0, 400.0, 20.0, degrees)];
            let cut = aligned(&joined).unwrap();
            let expected = [line(0.0, 0.0, 400.0, 20.0, degrees), line(0.0, 45.0, 400.0, 20.0, degrees)];
            for (cut, expected) in cut.iter().zip(&expected) {
                for (a, b) in cut.quad.iter().flatten().zip(expected.quad.iter().flatten()) {
                    assert!((a - b).abs() < 1e-6, "{degrees}°: {cut:?} for {expected:?}");
                }
            }
            // Of three lines two decide, here against one that was cut.
            let three = vec![
                line(0.0, 0.0, 400.0, 20.0, degrees),
                line(0.0, 45.0, 300.0, 20.0, degrees),
                line(1.0, 90.0, 400.0, 20.0, degrees),
            ];
            let whole = aligned(&three).unwrap();
            assert!(whole.iter().all(|line| (line.size()[0] - 400.0).abs() < 1.5), "{whole:?}");
            assert_eq!(aligned(&expected), None);
        }
    }

    #[test]
    fn lines_below_each_other_make_one_group_the_uppermost_first() {
        let strips = joined(vec![
            line(0.0, 100.0, 400.0, 20.0, 10.0),
            line(3.0, 60.0, 398.0, 20.0, 10.0),
            line(0.0, 20.0, 401.0, 20.0, 10.0),
            line(0.0, 300.0, 250.0, 20.0, 10.0),
        ]);
        let groups = groups(&strips);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
        let heights: Vec<f64> = groups[0].iter().map(|line| centre(line)[1]).collect();
        assert!(heights.is_sorted(), "{heights:?}");
    }
}
