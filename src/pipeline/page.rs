//! One page of a document at work: what stands on it and where.
//!
//! Called by [`document`](super::document), which brings pages together, and by [`picture`](super::picture), which looks for the portrait
//! inside of the document's outline. Each result is computed when it is first asked for and then shared. Left out: what one page tells
//! about another.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::source::{News, Source, Stage};
use crate::document::barcode::{self, Effort, Luma, Symbology};
use crate::document::capture::{self, CaptureWarning};
use crate::document::content::ReadBarcode;
use crate::document::fields::DocumentField;
use crate::document::locate::{self, Located, Quad};
use crate::document::mrz::{CheckDigit, Date};
use crate::document::mrz_reader::{FoundMrz, MrzReader};
use crate::document::page_locator::{LONG_SIDE_PX, PageLocator, PageView};
use crate::document::text_reader::{PageText, Place, TextReader};
use crate::document::visual;
use crate::error::Error;
use crate::imaging::quality::luma;

/// After so long no new attempt to find barcodes in a picture is started. The whole ladder of attempts on a large one takes seconds.
/// One attempt is bounded by the size of the picture alone.
const BARCODE_BUDGET: Duration = Duration::from_millis(1500);

/// The readers of text.
#[derive(Clone)]
pub struct DocumentReaders {
    pub locator: PageLocator,
    pub mrz: MrzReader,
    pub text: TextReader,
}

/// Where on a page the portrait can be.
#[derive(Debug, Clone, Copy)]
pub struct PortraitRegion {
    /// Clockwise, in pixel areas of the decoded picture.
    pub quad: Quad,
    /// As the document's text runs, as far as that is known.
    pub along: [f64; 2],
    /// A zone was proved, which runs so.
    pub is_certain: bool,
}

/// One page of a document.
pub struct Page {
    pub source: Arc<Source>,
    readers: DocumentReaders,
    /// Decides centuries.
    today: Date,
    view: OnceLock<Result<PageView, Error>>,
    mrz: OnceLock<Result<Option<Arc<FoundMrz>>, Error>>,
    outline: OnceLock<Result<Option<Located>, Error>>,
    located: OnceLock<Result<Option<Arc<Located>>, Error>>,
    barcodes_at_once: OnceLock<Result<Vec<Arc<ReadBarcode>>, Error>>,
    text: OnceLock<Result<Option<PageText>, Error>>,
    assessed: OnceLock<Result<Option<Vec<CaptureWarning>>, Error>>,
}

impl Page {
    pub fn new(source: Arc<Source>, readers: DocumentReaders, today: Date) -> Self {
        Self {
            source,
            readers,
            today,
            view: OnceLock::new(),
            mrz: OnceLock::new(),
            outline: OnceLock::new(),
            located: OnceLock::new(),
            barcodes_at_once: OnceLock::new(),
            text: OnceLock::new(),
            assessed: OnceLock::new(),
        }
    }

    /// Where the page and the lines of its zone lie in the small picture.
    fn view(&self) -> Result<&PageView, Error> {
        let source = &self.source;
        let look = || self.readers.locator.look(&source.decoded()?.image, LONG_SIDE_PX, &source.context);
        self.view.get_or_init(look).as_ref().map_err(Clone::clone)
    }

    /// The machine-readable zone.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn mrz(&self) -> Result<Option<&Arc<FoundMrz>>, Error> {
        let source = &self.source;
        let read = self.mrz.get_or_init(|| {
            let image = &source.decoded()?.image;
            let outline = || Ok(self.outline()?.map(|outline| outline.quad));
            let read = || self.readers.mrz.read(image, self.view()?, outline, self.today, &source.context);
            let found = source.timed(Stage::Mrz, read)?.map(Arc::new);
            if let Some(found) = &found {
                source.tell(News::Mrz(Arc::clone(found)));
            }
            Ok(found)
        });
        read.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Where the document lies. Its zone, if there is one that was proved, must lie inside.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn located(&self) -> Result<Option<&Arc<Located>>, Error> {
        let source = &self.source;
        let find = || {
            let find = || match self.proved_zone()? {
                // How a zone runs that was proved is more certain than any outline.
                Some(zone) => Ok(self.locate(&[zone.quad])?.map(|located| located.along(&zone.quad))),
                None => self.outline().map(Option::<&Located>::cloned),
            };
            let located = source.timed(Stage::Locate, find)?.map(Arc::new);
            if let Some(located) = &located {
                source.tell(News::Located(Arc::clone(located)));
            }
            Ok(located)
        };
        self.located.get_or_init(find).as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Where the document lies by itself, whatever was read on it.
    fn outline(&self) -> Result<Option<&Located>, Error> {
        self.outline.get_or_init(|| self.locate(&[])).as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    fn locate(&self, hints: &[Quad]) -> Result<Option<Located>, Error> {
        let image = &self.source.decoded()?.image;
        let look_again = |seen| self.readers.locator.look_again(image, seen, &self.source.context);
        let seen = self.view()?.page.as_ref().map(look_again).transpose()?;
        Ok(locate::locate(image, seen.as_ref(), hints))
    }

    /// The zone, unless it has no right check digit: other text is taken for a zone at times, which does not tell how the page lies.
    fn proved_zone(&self) -> Result<Option<&Arc<FoundMrz>>, Error> {
        let is_proved =
            |found: &&Arc<FoundMrz>| found.repaired.mrz.check_digits().any(|(_, digit)| digit == CheckDigit::Valid);
        Ok(self.mrz()?.filter(is_proved))
    }

    /// The part of the picture that can show the portrait: the document; where its outline was not found, as much above its zone
    /// as a page has. `None` if neither is known.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn portrait_region(&self) -> Result<Option<PortraitRegion>, Error> {
        let zone = self.proved_zone()?;
        if let Some(located) = self.located()? {
            let along = if located.is_upright { first_side(&located.quad) } else { [1.0, 0.0] };
            return Ok(Some(PortraitRegion { quad: located.widened(), along, is_certain: zone.is_some() }));
        }
        Ok(zone.map(|found| {
            let quad = page_above(&found.quad);
            PortraitRegion { quad, along: first_side(&quad), is_certain: true }
        }))
    }

    /// What the photograph suffers from, by its outline.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn assessed(&self) -> Result<&Option<Vec<CaptureWarning>>, Error> {
        let assess = || {
            let image = &self.source.decoded()?.image;
            Ok(self.located()?.map(|located| capture::assess(image, located)))
        };
        self.assessed.get_or_init(assess).as_ref().map_err(Clone::clone)
    }

    /// What the page suffers from; `None` where neither its outline nor its text tells.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn capture_warnings(&self) -> Result<Option<Vec<CaptureWarning>>, Error> {
        let told = self.assessed()?.clone();
        if self.text()?.is_some_and(|text| text.mirrored) {
            return Ok(Some(told.into_iter().flatten().chain([CaptureWarning::Mirrored]).collect()));
        }
        Ok(told)
    }

    /// The barcodes that one look shows.
    ///
    /// # Errors
    /// Those of decoding, and the request's end.
    pub fn barcodes_at_once(&self) -> Result<&[Arc<ReadBarcode>], Error> {
        self.barcodes_at_once.get_or_init(|| self.read_barcodes(Effort::Once)).as_deref().map_err(Clone::clone)
    }

    /// Looks for barcodes.
    ///
    /// # Errors
    /// Those of decoding, and the request's end.
    pub fn read_barcodes(&self, effort: Effort) -> Result<Vec<Arc<ReadBarcode>>, Error> {
        let source = &self.source;
        let image = &source.decoded()?.image;
        let read = source.timed(Stage::Barcode, || {
            let Some(picture) = Luma::new(image.width, image.height, luma(image)) else {
                return Err(Error::internal("a decoded picture has sides that the barcode reader does not take"));
            };
            let until = Symbology::DOCUMENT.into_iter().filter(|kind| kind.corrects_errors()).collect();
            let request = barcode::Request { until, effort, ..barcode::Request::default() };
            source.barcodes(&picture, &request, BARCODE_BUDGET)
        })?;
        Ok(barcode::join_parts(read).into_iter().filter_map(ReadBarcode::of).map(Arc::new).collect())
    }

    /// What is printed for people; `None` without any text.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn text(&self) -> Result<Option<&PageText>, Error> {
        let source = &self.source;
        let read = || {
            let image = &source.decoded()?.image;
            let located = self.located()?;
            let zone = self.proved_zone()?.map(|found| &found.quad);
            let place = Place {
                quad: located.map(|located| &located.quad),
                is_upright: located.is_some_and(|located| located.is_upright),
                zone,
            };
            source.timed(Stage::Text, || self.readers.text.read(image, &place, &source.context))
        };
        self.text.get_or_init(read).as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// The fields of the visual zone, in pixels of the source picture. `known` is what the document has proved elsewhere.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn visual_fields(&self, known: &[DocumentField]) -> Result<Vec<DocumentField>, Error> {
        let scale = self.source.decoded()?.scale;
        let Some(text) = self.text()?.filter(|text| !text.mirrored) else { return Ok(Vec::new()) };
        let mut fields = visual::read(&text.lines, known, self.today);
        for corner in fields.iter_mut().flat_map(|field| field.quad.iter_mut().flatten()) {
            *corner = text.page.to_picture(*corner).map(|at| at / scale);
        }
        Ok(fields)
    }
}

fn first_side(quad: &Quad) -> [f64; 2] {
    [quad[1][0] - quad[0][0], quad[1][1] - quad[0][1]]
}

/// The page of which `zone` is the lowest part, in proportions of the data page of a passport, the highest of all.
fn page_above(zone: &Quad) -> Quad {
    /// Shares of the width of the zone.
    const HEIGHT: f64 = 0.65;
    const MARGIN: f64 = 0.08;
    let [left, right, ..] = *zone;
    let along = first_side(zone);
    let at = |from: [f64; 2], across: f64, up: f64| {
        [from[0] + across * along[0] + up * along[1], from[1] + across * along[1] - up * along[0]]
    };
    [at(left, -MARGIN, HEIGHT), at(right, MARGIN, HEIGHT), at(zone[2], MARGIN, 0.0), at(zone[3], -MARGIN, 0.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_above_a_zone_turns_with_it() {
        let upright = page_above(&[[100.0, 500.0], [500.0, 500.0], [500.0, 540.0], [100.0, 540.0]]);
        assert_eq!(upright, [[68.0, 240.0], [532.0, 240.0], [532.0, 540.0], [68.0, 540.0]]);
        // Upside down: the page lies below the zone.
        let turned = page_above(&[[500.0, 540.0], [100.0, 540.0], [100.0, 500.0], [500.0, 500.0]]);
        assert_eq!(turned, [[532.0, 800.0], [68.0, 800.0], [68.0, 500.0], [532.0, 500.0]]);
    }
}
