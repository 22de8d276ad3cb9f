//! Reads the lines of text of a document's page, the page brought upright first.
//!
//! Called by `pipeline` after the machine-readable zone, which tells the direction of the text; without one, a few lines are read both ways
//! and the better reading decides, which takes least if the outline's direction was right. Lines are read beside each other, so that those of one width share runs of the model. Left
//! out: what the lines mean, which is [`visual`]'s business.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ocr::{Line, Quad, TextDetector, TextLine, TextRecogniser, is_inside};
use super::upright_page::{UprightPage, whole};
use super::visual;
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::orient::{self, Orientation};
use crate::inference::RequestContext;

/// Longest side of an upright page, on which lines are looked for. The small print of a card is then about eight pixels high. With 640 pixels some of it is lost
/// (ARCHITECTURE.md); with 960, finding lines takes half as long again and finds no more. Lines are read from the picture itself, with all the pixels that it has.
const MAX_PAGE_PX: f64 = 768.0;

/// Most lines that are read, the highest ones first; the fullest side of a document has about eighty. Raised, a picture full of
/// text costs more runs of the model.
const MAX_LINES: usize = 100;

/// Sum of their lengths, each in multiples of its height. The fullest side of a document has about 600. Reading as much as this takes a
/// second and a half on one core.
const MAX_TOTAL_LENGTH: f64 = 1500.0;

/// Lines lower than this in the picture are unreadable.
const MIN_LINE_PX: f64 = 6.0;

/// Lines that are read both ways to find out which way is up.
const PROBES: usize = 4;

/// Lines that are read beside each other: enough to fill runs of the model, few enough not to crowd out other requests.
const READERS: usize = 4;

/// Where a document lies in a picture, as far as that is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place<'a> {
    /// Around the document, clockwise; `None`: the whole picture.
    pub quad: Option<&'a Quad>,
    /// The first corner of `quad` is the document's own top left. Taken for likely, not for sure.
    pub is_upright: bool,
    /// Around its machine-readable zone, clockwise from the top left of the text. It is not read again.
    pub zone: Option<&'a Quad>,
}

/// What stands on a page.
#[derive(Debug, Clone)]
pub struct PageText {
    pub page: UprightPage,
    /// In pixel areas of `page`, from top to bottom.
    pub lines: Vec<visual::TextLine>,
    /// The picture shows its text mirrored, as a front camera's preview does: `lines` are worth nothing then.
    pub mirrored: bool,
}

/// Mean confidence of the lines read on trial below which they may be mirrored, and by how much it must be higher in the mirrored
/// picture then. Of real pages, mirrored ones had at most 0.86 and gained 0.09 to 0.37; of others those below 0.9 lost 0.05 and more.
const DOUBTFUL: f64 = 0.9;
const CLEARLY_BETTER: f64 = 0.05;

/// The reader.
#[derive(Clone)]
pub struct TextReader {
    detector: TextDetector,
    recogniser: TextRecogniser,
}

impl TextReader {
    pub fn new(detector: TextDetector, recogniser: TextRecogniser) -> Self {
        Self { detector, recogniser }
    }

    /// The lines of a page. `None` without any text.
    ///
    /// # Errors
    /// Those of [`Model::run`](crate::inference::Model::run).
    pub fn read(
        &self,
        image: &Image,
        place: &Place<'_>,
        context: &Arc<RequestContext>,
    ) -> Result<Option<PageText>, Error> {
        let all = whole(image);
        let quad = place.quad.unwrap_or(&all);
        let first_side = |quad: &Quad| [quad[1][0] - quad[0][0], quad[1][1] - quad[0][1]];
        let along = match place.zone {
            Some(zone) => first_side(zone),
            None if place.is_upright => first_side(quad),
            None => [1.0, 0.0],
        };
        let Some(mut page) = UprightPage::cut(image, quad, along, MAX_PAGE_PX) else { return Ok(None) };
        let mut lines = self.find(&page.image, context)?;
        let mut mirrored = false;
        if place.zone.is_none() {
            let Some(direction) = self.direction(&page.image, &lines, context)? else { return Ok(None) };
            let along = direction.along;
            mirrored = direction.mirrored;
            if along != [1.0, 0.0] {
                let (from, to) = (page.to_picture([0.0, 0.0]), page.to_picture(along));
                let Some(turned) = UprightPage::cut(image, quad, [to[0] - from[0], to[1] - from[1]], MAX_PAGE_PX)
                else {
                    return Ok(None);
                };
                page = turned;
                lines = self.find(&page.image, context)?;
            }
        }
        lines.retain(|line| {
            let middle = page.to_picture(centre(&line.quad));
            page.line_to_picture(line).size()[1] >= MIN_LINE_PX
                && !place.zone.is_some_and(|zone| is_inside(middle, zone))
        });
        lines.sort_by(|a, b| b.size()[1].total_cmp(&a.size()[1]));
        lines.truncate(MAX_LINES);
        let mut total = 0.0;
        lines.retain(|line| {
            let [along, across] = line.size();
            total += along / across.max(1.0);
            total <= MAX_TOTAL_LENGTH
        });
        lines.sort_by(|a, b| centre(&a.quad)[1].total_cmp(&centre(&b.quad)[1]));
        let lines: Vec<TextLine> = lines.into_iter().map(running_right).collect();
        let in_picture: Vec<TextLine> = lines.iter().map(|line| page.line_to_picture(line)).collect();
        let read = self.read_all(image, &in_picture, context)?;
        let text = |(found, read): (&TextLine, Line)| visual::TextLine {
            text: read.text,
            confidence: read.confidence,
            quad: found.quad,
            characters: read.characters.iter().map(|character| character.probability).collect(),
        };
        let lines = lines.iter().zip(read).map(text).filter(|line| !line.text.is_empty()).collect();
        Ok(Some(PageText { page, lines, mirrored }))
    }

    fn find(&self, image: &Image, context: &Arc<RequestContext>) -> Result<Vec<TextLine>, Error> {
        self.detector.find(image, image.width.max(image.height), context)
    }

    /// In which of the four directions the text of a picture runs. `None` without text.
    fn direction(
        &self,
        image: &Image,
        lines: &[TextLine],
        context: &Arc<RequestContext>,
    ) -> Result<Option<Direction>, Error> {
        let mut longest: Vec<TextLine> = lines.to_vec();
        longest.sort_by(|a, b| (b.size()[0] / b.size()[1]).total_cmp(&(a.size()[0] / a.size()[1])));
        longest.truncate(PROBES);
        let level = longest.iter().filter(|line| is_level(line)).count();
        let is_upright = 2 * level >= longest.len();
        longest.retain(|line| is_level(line) == is_upright);
        if longest.is_empty() {
            return Ok(None);
        }
        let running = if is_upright { running_right } else { running_down };
        let probes: Vec<TextLine> = longest.into_iter().map(running).collect();
        let [forth, back] = self.both_ways(image, &probes, context)?;
        let mut mirrored = false;
        if forth.max(back) < DOUBTFUL {
            let flipped: Vec<TextLine> = probes.iter().map(|line| running(mirror(line, image.width))).collect();
            let image = orient::apply(image, Orientation::FlipHorizontal);
            let [flipped_forth, flipped_back] = self.both_ways(&image, &flipped, context)?;
            mirrored = flipped_forth.max(flipped_back) > forth.max(back) + CLEARLY_BETTER;
        }
        let sign = if forth >= back { 1.0 } else { -1.0 };
        Ok(Some(Direction { along: if is_upright { [sign, 0.0] } else { [0.0, sign] }, mirrored }))
    }

    /// Mean confidence of lines read as they are and from their other ends.
    fn both_ways(&self, image: &Image, lines: &[TextLine], context: &Arc<RequestContext>) -> Result<[f64; 2], Error> {
        let both: Vec<TextLine> = lines.iter().copied().chain(lines.iter().map(TextLine::turned)).collect();
        let read = self.read_all(image, &both, context)?;
        let (forth, back) = read.split_at(lines.len());
        Ok([forth, back].map(|read| read.iter().map(|line| line.confidence).sum::<f64>() / lines.len().max(1) as f64))
    }

    /// Reads lines beside each other; the answers come in the order of the lines.
    fn read_all(&self, image: &Image, lines: &[TextLine], context: &Arc<RequestContext>) -> Result<Vec<Line>, Error> {
        let next = AtomicUsize::new(0);
        let read = Mutex::new(vec![Ok(Line::default()); lines.len()]);
        std::thread::scope(|scope| {
            for _ in 0..READERS.min(lines.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(line) = lines.get(index) else { break };
                        let answer = self.recogniser.read(image, &line.quad, context);
                        let failed = answer.is_err();
                        read.lock().unwrap_or_else(PoisonError::into_inner)[index] = answer;
                        if failed {
                            break;
                        }
                    }
                });
            }
        });
        read.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
    }
}

/// How text lies in a picture.
struct Direction {
    along: [f64; 2],
    mirrored: bool,
}

/// The line in a picture of that width after it was mirrored left to right, read from the same end.
fn mirror(line: &TextLine, width: u32) -> TextLine {
    let [a, b, c, d] = line.quad.map(|[x, y]| [f64::from(width) - x, y]);
    TextLine { quad: [b, a, d, c], ..*line }
}

fn is_level(line: &TextLine) -> bool {
    let [a, b, ..] = line.quad;
    (b[0] - a[0]).abs() >= (b[1] - a[1]).abs()
}

fn running_right(line: TextLine) -> TextLine {
    if line.quad[1][0] >= line.quad[0][0] { line } else { line.turned() }
}

fn running_down(line: TextLine) -> TextLine {
    if line.quad[1][1] >= line.quad[0][1] { line } else { line.turned() }
}

fn centre(quad: &Quad) -> [f64; 2] {
    let sum = quad.iter().fold([0.0, 0.0], |sum, corner| [sum[0] + corner[0], sum[1] + corner[1]]);
    sum.map(|sum| sum / 4.0)
}
