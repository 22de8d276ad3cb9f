//! Finds a machine-readable zone in a picture, in any direction, and reads it.
//!
//! Called by `pipeline`. Lines are taken from the page locator first, then from the detector of text; those that lie below each other and are as
//! long as lines of a zone are read with the recogniser for zones, from both ends where it is not clear which way up they stand, and handed to
//! [`mrz::repair`]. Left out: the visual zone, and finding the document itself.

use std::panic::resume_unwind;
use std::sync::Arc;

use super::locate::is_inside;
use super::mrz::{self, Date, DocumentType, Mrz, ReadLine, Reading, Repaired};
use super::ocr::{MrzLine, MrzRecogniser, Position, Quad, TextDetector, TextLine, quad_size};
use super::page_locator::{LONG_SIDE_PX, PageLocator, PageView, SeenPage};
use crate::error::Error;
use crate::imaging::Image;
use crate::inference::RequestContext;

/// Where lines are looked for, in this order: what the locator saw in the small picture, then in one of twice the size; then the general
/// detector, which takes four times as long at 640. There the characters of a passport page that fills the picture are eight pixels high; small
/// zones need more. Nothing more is seen in a picture that is made larger than it is: each has the long side that a picture must exceed.
const SEARCHES: [(Search, u32); 4] = [
    (Search::Seen, 0),
    (Search::Locator(2 * LONG_SIDE_PX), LONG_SIDE_PX),
    (Search::Detector(640), 0),
    (Search::Detector(1280), 640),
];

/// Share of the picture's long side from which an outlined document is large enough for the first run of the general detector: characters of a passport
/// page are then at least eight pixels apart. Without a zone seen by then, what the second run costs, most of a second, is spared. Real zones on a document that takes
/// 0.3 or 0.45 of a photograph were found by it alone in 4 of 114 cases, none of which had an outline.
const LARGE_SHARE: f64 = 0.6;

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

/// Probability of the lengths of lines from which they were read whole. Lines that were cut by a character have next to none.
const WHOLE: f64 = 0.5;

/// Share of the page's width that two lines of 36 characters take at least: at a tenth of an inch each, 0.87 of the 105 mm of TD2. What of a visa's
/// lines of 44 is beside a reflection looks like such a zone, with right check digits; it takes 0.76 at most.
const MIN_SHARE_OF_WIDTH: f64 = 0.81;

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
    /// How probable it is that the lines have the lengths that they were read with, 0..1.
    pub of_these_lengths: f64,
    /// Around all lines, clockwise from the top left corner of the text, in pixel areas of the picture.
    pub quad: Quad,
}

/// The reader.
#[derive(Clone)]
pub struct MrzReader {
    locator: PageLocator,
    detector: TextDetector,
    recogniser: MrzRecogniser,
}

/// A way to find lines, with the long side of the picture that is looked at.
#[derive(Debug, Clone, Copy)]
enum Search {
    Seen,
    Locator(u32),
    Detector(u32),
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
    pub fn new(locator: PageLocator, detector: TextDetector, recogniser: MrzRecogniser) -> Self {
        Self { locator, detector, recogniser }
    }

    /// Reads the zone of a picture, `None` if there is none. `view` is what the locator sees in it at [`LONG_SIDE_PX`]; `outline` gives where the document lies,
    /// and is asked only where no zone was seen; `today` decides centuries.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run) and of `outline`.
    pub fn read(
        &self,
        image: &Image,
        view: &PageView,
        outline: impl Fn() -> Result<Option<Quad>, Error>,
        today: Date,
        context: &Arc<RequestContext>,
    ) -> Result<Option<FoundMrz>, Error> {
        let side = image.width.max(image.height);
        let mut best: Option<FoundMrz> = None;
        let mut valid: Vec<(Mrz, [f64; 2])> = Vec::new();
        let page = view.page.as_ref().filter(|page| page.is_sure());
        let is_short = |found: &FoundMrz| page.is_some_and(|page| found.is_short_for(page));
        for (search, _) in SEARCHES.into_iter().filter(|(_, from)| side > *from) {
            // What is right but was not seen clearly may have a wrong name, which no check digit guards: other ways to see it are worth their
            // time. The dearest is so only where an end may be missing.
            let is_enough = |found: &FoundMrz| found.is_valid() && found.has_known_type() && found.is_whole();
            if matches!(search, Search::Detector(1280)) {
                let is_over = match &best {
                    Some(found) => is_enough(found),
                    None => outline()?.is_some_and(|quad| is_large(&quad, side)),
                };
                if is_over {
                    break;
                }
            }
            let lines = match search {
                Search::Seen => view.lines.clone(),
                Search::Locator(long) => self.locator.look(image, long, context)?.lines,
                Search::Detector(long) => self.detector.find(image, long, context)?,
            };
            let strips = joined(lines);
            for group in groups(&strips).into_iter().take(MAX_GROUPS) {
                let Some(mut found) = self.read_group(image, &group, today, context)? else { continue };
                if is_short(&found) {
                    found.of_these_lengths = 0.0;
                }
                if found.is_clear() {
                    return Ok(Some(found));
                }
                let is_valid = found.is_valid();
                if is_valid {
                    valid.push((found.repaired.mrz.clone(), middle(&found.quad)));
                }
                best = [best, Some(found)].into_iter().flatten().max_by(by_evidence);
                if is_valid {
                    break;
                }
            }
        }
        if let Some(best) = best.as_mut().filter(|best| best.is_valid()) {
            // Of another document in the picture nothing is told.
            let same = valid.iter().filter(|(_, middle)| is_inside(*middle, &best.quad, 0.0));
            same.for_each(|(other, _)| best.repaired.doubt(other));
            if is_short(best) {
                best.repaired.doubt_ends();
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
        let mut best = found;
        for aligned in [aligned(group, Ends::Inner), aligned(group, Ends::Outer)].into_iter().flatten() {
            let again = self.read_lines(image, &aligned, today, context)?;
            best = [again, best].into_iter().flatten().max_by(by_evidence);
            if best.as_ref().is_some_and(FoundMrz::is_clear) {
                break;
            }
        }
        Ok(best)
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
    fn is_valid(&self) -> bool {
        self.repaired.mrz.all_check_digits_valid()
    }

    /// The zone says of what kind the document is. One that was cut at its beginning does not.
    fn has_known_type(&self) -> bool {
        self.repaired.mrz.document_type != DocumentType::Other
    }

    /// As many characters were seen as the zone has. Of a line that was cut, a filler is made up at the end.
    pub(super) fn is_whole(&self) -> bool {
        self.of_these_lengths >= WHOLE
    }

    /// A zone that is narrower than its page can have it: the end of its lines was not seen.
    fn is_short_for(&self, page: &SeenPage) -> bool {
        self.repaired.mrz.format.line_lengths() == [36, 36]
            && page.share_of_width(&self.quad).is_some_and(|share| share < MIN_SHARE_OF_WIDTH)
    }

    /// Whole lines of a known kind, every character of which was seen clearly.
    fn is_legible(&self) -> bool {
        self.is_whole() && self.has_known_type() && self.clarity() >= CLEAR
    }

    /// Legible, with all check digits right and no field uncertain.
    fn is_clear(&self) -> bool {
        self.is_legible() && self.is_valid() && self.repaired.uncertain().next().is_none()
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

/// Orders zones by what speaks for them: all check digits right; whole lines of a known kind that were seen clearly (a specimen may be
/// printed with wrong digits: a misreading that has fewer wrong ones is no better); then how many digits are right, and each of the rest.
fn by_evidence(a: &FoundMrz, b: &FoundMrz) -> std::cmp::Ordering {
    a.is_valid()
        .cmp(&b.is_valid())
        .then(a.is_legible().cmp(&b.is_legible()))
        .then(rank(a).cmp(&rank(b)))
        .then(a.has_known_type().cmp(&b.has_known_type()))
        .then(a.is_whole().cmp(&b.is_whole()))
        .then(a.clarity().total_cmp(&b.clarity()))
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

/// The document takes so much of a picture with that long side that its characters are seen in a small one.
fn is_large(quad: &Quad, picture_side: u32) -> bool {
    let [along, across] = quad_size(quad);
    along.max(across) >= LARGE_SHARE * f64::from(picture_side)
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
        // Nothing was assumed of their lengths, and what the repair makes of them is its guess.
        let as_read = (0.0, as_read);
        of_known_lengths(strips)
            .into_iter()
            .chain([as_read])
            .map(move |(probability, lines)| (strips, probability, lines))
    });
    let found = readings.filter_map(|(strips, of_these_lengths, lines)| {
        let repaired = mrz::repair(&lines, today).ok()?;
        let seen = strips.iter().flat_map(|strip| &strip.positions);
        let fillers = seen.filter(|position| position.best() == '<').count();
        let valid = repaired.mrz.check_digits().filter(|(_, digit)| *digit == mrz::CheckDigit::Valid).count();
        // Other text looks like a zone too, mirrored ones most of all: without a right check digit it must be read surely.
        let is_sure = strips.len() > 1 && confidence(strips) >= SURELY_UPRIGHT;
        let is_zone = valid >= MIN_VALID_DIGITS || (fillers >= MIN_FILLERS && (valid > 0 || is_sure));
        let replaced = repaired.repairs.iter().filter(|repair| repair.proof != mrz::Proof::FillerRun).count();
        let is_invented = replaced > MAX_UNPROVED_REPAIRS && !repaired.mrz.all_check_digits_valid();
        (is_zone && !is_invented).then(|| FoundMrz { repaired, read: lines, of_these_lengths, quad: around(strips) })
    });
    // Of equals the first, which has the most lines.
    let of_all = |a: &(usize, FoundMrz), b: &(usize, FoundMrz)| by_evidence(&a.1, &b.1).then(b.0.cmp(&a.0));
    found.enumerate().max_by(of_all).map(|(_, found)| found)
}

/// The lines read as lines of the most probable lengths that a zone with so many has, with the probability of these.
fn of_known_lengths(strips: &[Strip]) -> Option<(f64, Vec<ReadLine>)> {
    let mut lengths: Vec<&[usize]> = mrz::Format::ALL.into_iter().map(mrz::Format::line_lengths).collect();
    lengths.retain(|lengths| lengths.len() == strips.len());
    lengths.sort_unstable();
    lengths.dedup();
    let read = lengths.into_iter().filter_map(|lengths| of_lengths(strips, lengths));
    read.max_by(|a, b| a.0.total_cmp(&b.0))
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
    middle(&line.quad)
}

fn middle(quad: &Quad) -> [f64; 2] {
    let sum = quad.iter().fold([0.0, 0.0], |sum, corner| [sum[0] + corner[0], sum[1] + corner[1]]);
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

/// Which of the ends of two lines are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The other line was joined with something.
    Inner,
    /// The other line was cut.
    Outer,
}

/// Lines of one group that all begin and end where most of them do; of two, where `ends` says. `None` if they do so already.
fn aligned(group: &[TextLine], ends: Ends) -> Option<Vec<TextLine>> {
    let first = group.first()?;
    if ends == Ends::Outer && group.len() != 2 {
        // Of three, most decide.
        return None;
    }
    let middle = |mut of_lines: Vec<f64>, is_later: bool| {
        of_lines.sort_by(f64::total_cmp);
        match of_lines.as_slice() {
            [earlier, later] => *if is_later { later } else { earlier },
            of_lines => of_lines.get(of_lines.len() / 2).copied().unwrap_or(0.0),
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
    let start = middle(extents.iter().map(|extent| extent[0]).collect(), ends == Ends::Inner);
    let end = middle(extents.iter().map(|extent| extent[1]).collect(), ends == Ends::Outer);
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
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::inference::{Model, ModelPort, Outputs, Tensor};
    use crate::models::manifest::{Manifest, Role};

    pub fn today() -> Date {
        Date::new(2026, 1, 1).unwrap()
    }

    /// A zone of which each place shows its character with `probability`, and something else with the rest.
    pub fn frame(lines: &[&str], probability: f32) -> FoundMrz {
        let place = |symbol: char| {
            let other = if symbol == 'M' { 'N' } else { 'M' };
            vec![Reading { symbol, probability }, Reading { symbol: other, probability: 1.0 - probability }]
        };
        let read: Vec<ReadLine> =
            lines.iter().map(|line| ReadLine { positions: line.chars().map(place).collect() }).collect();
        FoundMrz {
            repaired: mrz::repair(&read, today()).unwrap(),
            read,
            of_these_lengths: 1.0,
            quad: Default::default(),
        }
    }

    /// Sees nothing, and remembers the long sides of what it was shown.
    #[derive(Default)]
    struct Blind(Mutex<Vec<usize>>);

    impl Model for Blind {
        fn run(&self, input: Tensor, _: &Arc<RequestContext>) -> Result<Outputs, Error> {
            let [_, height, width] = input.shape[..] else { panic!("{:?}", input.shape) };
            self.0.lock().unwrap().push(height.max(width));
            let blank = |name: &str, shape: Vec<usize>| {
                let data = vec![0.0; shape.iter().product()];
                (name.into(), Tensor { shape, data })
            };
            Ok(vec![
                // The text detector's map comes first, the locator asks for its own by name.
                blank("text", vec![1, height, width]),
                blank("page", vec![3, height / 4, width / 4]),
                blank("fine", vec![2, height / 2, width / 2]),
            ])
        }
    }

    /// Long sides at which the general detector looks at a picture of 2000 pixels that shows no zone.
    fn looks(outline: Option<Quad>) -> Vec<usize> {
        let port = |role: Role, model: &Arc<Blind>| ModelPort {
            model: Arc::clone(model) as _,
            input: Manifest::shipped().unwrap().entry(role).unwrap().input.clone(),
        };
        let (detector, other) = (Arc::new(Blind::default()), Arc::new(Blind::default()));
        let reader = MrzReader::new(
            PageLocator::new(port(Role::PageLocator, &other)),
            TextDetector::new(port(Role::TextDetector, &detector)),
            MrzRecogniser::new(port(Role::MrzRecogniser, &other)),
        );
        let image = Image::build(2000, 1500, |rgb| rgb.fill(90));
        let found = reader.read(&image, &PageView::default(), || Ok(outline), today(), &Arc::default()).unwrap();
        assert!(found.is_none());
        detector.0.lock().unwrap().clone()
    }

    #[test]
    fn where_a_large_document_shows_no_zone_none_is_looked_for_in_the_large_picture() {
        let page = |width: f64| [[100.0, 100.0], [100.0 + width, 100.0], [100.0 + width, 800.0], [100.0, 800.0]];
        assert_eq!(looks(Some(page(1200.0))), [640]);
        assert_eq!(looks(Some(page(1190.0))), [640, 1280]);
        assert_eq!(looks(None), [640, 1280]);
    }

    const PASSPORT: [&str; 2] =
        ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"];

    #[test]
    fn the_better_proved_zone_is_taken() {
        let better = |a: &FoundMrz, b: &FoundMrz| {
            assert_eq!((by_evidence(a, b), by_evidence(b, a)), (std::cmp::Ordering::Greater, std::cmp::Ordering::Less));
        };
        let valid = frame(&PASSPORT, 0.9);
        let clear = frame(&PASSPORT, 0.9999);
        // Printed with wrong digits, and clearly so.
        let wrong = ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C31UTO7408121F1204151ZE184226B<<<<<11"];
        let specimen = frame(&wrong, 0.9999);
        let cut = FoundMrz {
            of_these_lengths: 1e-6,
            ..frame(&[wrong[0], "L898902C36UTO7408122F1204151ZE184226B<<<<<11"], 0.98)
        };
        assert!(rank(&cut) > rank(&specimen) && !cut.is_valid() && !specimen.is_valid());
        better(&valid, &specimen);
        better(&specimen, &cut);
        better(&clear, &valid);
        better(&valid, &FoundMrz { of_these_lengths: 0.1, ..valid.clone() });
        better(&valid, &frame(&["XXUTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", PASSPORT[1]], 0.9));
    }

    #[test]
    fn only_two_lines_of_36_characters_can_be_too_short_for_their_page() {
        let page = SeenPage {
            quad: [[100.0, 50.0], [1100.0, 50.0], [1100.0, 750.0], [100.0, 750.0]],
            confidence: 0.9,
            pixel_px: 1.0,
        };
        let across = |lines: &[&str], share: f64| {
            let right = 150.0 + 1000.0 * share;
            let quad = [[150.0, 600.0], [right, 600.0], [right, 700.0], [150.0, 700.0]];
            FoundMrz { quad, ..frame(lines, 0.99) }.is_short_for(&page)
        };
        let card = ["I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "D231458907UTO7408122F1204159<<<<<<<6"];
        assert!(across(&card, 0.76));
        assert!(!across(&card, 0.87));
        // A passport on a larger sheet.
        assert!(!across(&PASSPORT, 0.53));
    }

    #[test]
    fn only_what_is_whole_valid_certain_and_legible_is_clear() {
        let clear = frame(&PASSPORT, 0.9999);
        assert!(clear.is_clear());
        assert!(!frame(&PASSPORT, 0.99).is_clear());
        assert!(!FoundMrz { of_these_lengths: 0.4, ..clear.clone() }.is_clear());
        assert!(
            !frame(
                &["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<11"],
                0.9999
            )
            .is_clear()
        );
        let mut doubtful = clear;
        doubtful.repaired.doubt_ends();
        assert!(!doubtful.is_clear());
    }

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
    fn lines_that_were_joined_with_something_or_cut_are_made_to_begin_and_end_together() {
        for degrees in [0.0, -15.0, 75.0] {
            let joined = vec![line(-150.0, 0.0, 550.0, 20.0, degrees), line(0.0, 45.0, 400.0, 20.0, degrees)];
            let cut = aligned(&joined, Ends::Inner).unwrap();
            let expected = [line(0.0, 0.0, 400.0, 20.0, degrees), line(0.0, 45.0, 400.0, 20.0, degrees)];
            for (cut, expected) in cut.iter().zip(&expected) {
                for (a, b) in cut.quad.iter().flatten().zip(expected.quad.iter().flatten()) {
                    assert!((a - b).abs() < 1e-6, "{degrees}°: {cut:?} for {expected:?}");
                }
            }
            // And one that was cut is made longer.
            let stretched = aligned(&joined, Ends::Outer).unwrap();
            assert!(stretched.iter().all(|line| (line.size()[0] - 550.0).abs() < 1e-6), "{degrees}°: {stretched:?}");
            // Of three lines two decide, here against one that was cut.
            let three = vec![
                line(0.0, 0.0, 400.0, 20.0, degrees),
                line(0.0, 45.0, 300.0, 20.0, degrees),
                line(1.0, 90.0, 400.0, 20.0, degrees),
            ];
            let whole = aligned(&three, Ends::Inner).unwrap();
            assert!(whole.iter().all(|line| (line.size()[0] - 400.0).abs() < 1.5), "{whole:?}");
            assert_eq!(aligned(&three, Ends::Outer), None);
            assert_eq!(aligned(&expected, Ends::Inner), None);
            assert_eq!(aligned(&expected, Ends::Outer), None);
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
