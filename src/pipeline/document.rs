//! One document at work: its pictures, what stands in each, and the fields that they give together.
//!
//! Called from blocking threads by `verify` and by `ReadDocument`. As with faces, each result is computed when it is first asked for and
//! then shared. Machine-readable zones and barcodes need nothing of each other and are read beside each other. Left out: what the
//! fields of several sources amount to, which is a check's business.

use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::source::{News, Source, Stage};
use crate::checks::{DocumentEvidence, MediaKind};
use crate::document::agreement::{Comparison, RecordField, cross_check, record};
use crate::document::barcode::{self, Effort, Luma, Symbology};
use crate::document::capture::{self, CaptureWarning};
use crate::document::content::ReadBarcode;
use crate::document::fields::{self, DocumentField};
use crate::document::locate::{self, Located};
use crate::document::mrz::Date;
use crate::document::mrz_reader::{FoundMrz, MrzReader};
use crate::document::text_reader::{Place, TextReader};
use crate::document::visual;
use crate::error::Error;
use crate::imaging::decode::Decoded;
use crate::imaging::quality::luma;

/// After so long no new attempt to find barcodes in a picture is started. The whole ladder of attempts on a large one takes seconds.
/// One attempt is bounded by the size of the picture alone.
const BARCODE_BUDGET: Duration = Duration::from_millis(1500);

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    pub mrz: bool,
    pub barcode: bool,
    /// What is printed for people.
    pub visual: bool,
}

impl Parts {
    pub const ALL: Self = Self { mrz: true, barcode: true, visual: true };
}

/// The readers of text.
#[derive(Clone)]
pub struct DocumentReaders {
    pub mrz: MrzReader,
    pub text: TextReader,
}

/// One picture of a document.
pub struct Page {
    source: Arc<Source>,
    located: OnceLock<Result<Option<Arc<Located>>, Error>>,
    mrz: OnceLock<Result<Option<Arc<FoundMrz>>, Error>>,
    barcodes_at_once: OnceLock<Result<Vec<Arc<ReadBarcode>>, Error>>,
    barcodes: OnceLock<Result<Vec<Arc<ReadBarcode>>, Error>>,
}

/// The pictures of one document.
pub struct Document {
    pages: Vec<Page>,
    parts: Parts,
    readers: DocumentReaders,
    /// Decides centuries.
    today: Date,
    coded_fields: OnceLock<Result<Vec<PageField>, Error>>,
    fields: OnceLock<Result<Vec<PageField>, Error>>,
}

/// A field, and the picture that it was read from, counted from 0.
#[derive(Debug, Clone)]
pub struct PageField {
    pub field: DocumentField,
    pub page: usize,
}

/// What a document says, source by source and all in all.
#[derive(Debug, Clone)]
pub struct DocumentFields {
    pub fields: Vec<PageField>,
    /// One value for each fact.
    pub record: Vec<RecordField>,
    /// Each fact that two sources have, claims among them.
    pub comparisons: Vec<Comparison>,
}

impl DocumentFields {
    /// Puts the fields of a document and the caller's claims together.
    pub fn new(fields: &[PageField], claims: &[DocumentField]) -> Self {
        let all: Vec<DocumentField> = fields.iter().map(|field| &field.field).chain(claims).cloned().collect();
        Self { fields: fields.to_vec(), record: record(&all), comparisons: cross_check(&all) }
    }
}

impl Document {
    /// A document of which `parts` will be read; what is not among them counts as not there.
    pub fn new(sources: Vec<Arc<Source>>, parts: Parts, readers: DocumentReaders, today: Date) -> Self {
        let page = |source| Page {
            source,
            located: OnceLock::new(),
            mrz: OnceLock::new(),
            barcodes_at_once: OnceLock::new(),
            barcodes: OnceLock::new(),
        };
        Self {
            pages: sources.into_iter().map(page).collect(),
            parts,
            readers,
            today,
            coded_fields: OnceLock::new(),
            fields: OnceLock::new(),
        }
    }

    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Size of a source picture, EXIF orientation applied.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if it cannot be decoded.
    pub fn source_size(&self, page: usize) -> Result<[u32; 2], Error> {
        let Decoded { source_width, source_height, .. } = self.pages[page].source.decoded()?;
        Ok([*source_width, *source_height])
    }

    /// The zone of a page.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn mrz(&self, page: usize) -> Result<Option<&Arc<FoundMrz>>, Error> {
        if !self.parts.mrz {
            return Ok(None);
        }
        let Page { source, mrz, .. } = &self.pages[page];
        let read = mrz.get_or_init(|| {
            let image = &source.decoded()?.image;
            let found =
                source.timed(Stage::Mrz, || self.readers.mrz.read(image, self.today, &source.context))?.map(Arc::new);
            if let Some(found) = &found {
                source.tell(News::Mrz(Arc::clone(found)));
            }
            Ok(found)
        });
        read.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Where the document lies on a page. Its zone, if there is one, must lie inside.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn located(&self, page: usize) -> Result<Option<&Arc<Located>>, Error> {
        let Page { source, located, .. } = &self.pages[page];
        let find = || {
            let image = &source.decoded()?.image;
            let hints: Vec<_> = self.mrz(page)?.map(|found| found.quad).into_iter().collect();
            let located = source.timed(Stage::Locate, || Ok(locate::locate(image, &hints)))?.map(Arc::new);
            if let Some(located) = &located {
                source.tell(News::Located(Arc::clone(located)));
            }
            Ok(located)
        };
        located.get_or_init(find).as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// What a page suffers from; `None` where the document's outline was not found.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn capture_warnings(&self, page: usize) -> Result<Option<Vec<CaptureWarning>>, Error> {
        let image = &self.pages[page].source.decoded()?.image;
        Ok(self.located(page)?.map(|located| capture::assess(image, located)))
    }

    /// The barcodes that one look at a page shows.
    ///
    /// # Errors
    /// Those of decoding, and the request's end.
    pub fn barcodes_at_once(&self, page: usize) -> Result<&[Arc<ReadBarcode>], Error> {
        if !self.parts.barcode {
            return Ok(&[]);
        }
        let Page { source, barcodes_at_once, .. } = &self.pages[page];
        barcodes_at_once.get_or_init(|| read_barcodes(source, Effort::Once)).as_deref().map_err(Clone::clone)
    }

    /// The barcodes of a page. Where one look shows none, the page is searched with every attempt there is, unless the document has
    /// told already what it has to tell: a proved zone, or a symbol on any page.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn barcodes(&self, page: usize) -> Result<&[Arc<ReadBarcode>], Error> {
        let barcodes = &self.pages[page].barcodes;
        let search = || {
            let source = &self.pages[page].source;
            let read = if !self.parts.barcode || self.has_told()? {
                self.barcodes_at_once(page)?.to_vec()
            } else {
                read_barcodes(source, Effort::Full)?
            };
            read.iter().for_each(|barcode| source.tell(News::Barcode(Arc::clone(barcode))));
            Ok(read)
        };
        barcodes.get_or_init(search).as_deref().map_err(Clone::clone)
    }

    /// True if the quick looks at all pages gave what a document has to tell. Asked in an order that does not depend on which is done first.
    fn has_told(&self) -> Result<bool, Error> {
        for page in 0..self.pages.len() {
            if tells_something(self.barcodes_at_once(page)?) {
                return Ok(true);
            }
        }
        for page in 0..self.pages.len() {
            if self.mrz(page)?.is_some_and(|found| found.repaired.mrz.all_check_digits_valid()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The fields of zones and barcodes: by page, and within a page those of the zone first.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn coded_fields(&self) -> Result<&[PageField], Error> {
        let gather = || {
            let mut all = Vec::new();
            for page in 0..self.pages.len() {
                let zone = self.mrz(page)?.into_iter().flat_map(|found| fields::of_mrz(&found.repaired.mrz));
                let licences = self.barcodes(page)?.iter().filter_map(|barcode| barcode.licence.as_ref());
                let fields = zone.chain(licences.flat_map(fields::of_aamva));
                all.extend(fields.map(|field| PageField { field, page }));
            }
            Ok(all)
        };
        self.coded_fields.get_or_init(gather).as_deref().map_err(Clone::clone)
    }

    /// Every field of the document: by page, and within a page those of the zone first and those of the visual zone last.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn fields(&self) -> Result<&[PageField], Error> {
        let gather = || {
            let mut all = self.coded_fields()?.to_vec();
            if !self.parts.visual {
                return Ok(all);
            }
            // What is proved already tells where to look on every side of the document.
            let known: Vec<DocumentField> = all.iter().map(|field| field.field.clone()).collect();
            let known = &known;
            let read: Vec<Result<Vec<DocumentField>, Error>> = std::thread::scope(|scope| {
                let pages: Vec<_> =
                    (0..self.pages.len()).map(|page| scope.spawn(move || self.visual(page, known))).collect();
                pages.into_iter().map(|page| page.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
            });
            for (page, fields) in read.into_iter().enumerate() {
                all.extend(fields?.into_iter().map(|field| PageField { field, page }));
            }
            all.sort_by_key(|field| field.page);
            Ok(all)
        };
        self.fields.get_or_init(gather).as_deref().map_err(Clone::clone)
    }

    /// The fields of a page's visual zone, in pixels of the source picture.
    fn visual(&self, page: usize, known: &[DocumentField]) -> Result<Vec<DocumentField>, Error> {
        let source = &self.pages[page].source;
        let Decoded { image, scale, .. } = source.decoded()?;
        let located = self.located(page)?;
        let place =
            Place { quad: located.map(|located| &located.quad), zone: self.mrz(page)?.map(|found| &found.quad) };
        let read = source.timed(Stage::Text, || self.readers.text.read(image, &place, &source.context))?;
        let Some((upright, lines)) = read else { return Ok(Vec::new()) };
        let mut fields = visual::read(&lines, known, self.today);
        for corner in fields.iter_mut().flat_map(|field| field.quad.iter_mut().flatten()) {
            *corner = upright.to_picture(*corner).map(|at| at / scale);
        }
        Ok(fields)
    }

    /// Does the whole work, each page and each part on a thread of its own. Errors are told by whoever asks for the results.
    pub fn read(&self) {
        std::thread::scope(|scope| {
            for page in 0..self.pages.len() {
                scope.spawn(move || drop(self.barcodes_at_once(page)));
                scope.spawn(move || drop(self.mrz(page)));
            }
        });
        std::thread::scope(|scope| {
            for page in 0..self.pages.len() {
                scope.spawn(move || drop(self.barcodes(page)));
            }
        });
    }
}

impl DocumentEvidence for Document {
    fn media(&self) -> Vec<MediaKind> {
        self.pages.iter().map(|page| page.source.kind()).collect()
    }

    fn zones(&self) -> Result<Vec<Option<&FoundMrz>>, Error> {
        (0..self.pages.len()).map(|page| Ok(self.mrz(page)?.map(Arc::as_ref))).collect()
    }

    fn barcodes(&self) -> Result<Vec<Vec<&ReadBarcode>>, Error> {
        (0..self.pages.len())
            .map(|page| Ok(Document::barcodes(self, page)?.iter().map(Arc::as_ref).collect()))
            .collect()
    }

    fn captures(&self) -> Result<Vec<Option<Vec<CaptureWarning>>>, Error> {
        (0..self.pages.len()).map(|page| self.capture_warnings(page)).collect()
    }

    fn coded_fields(&self) -> Result<Vec<&DocumentField>, Error> {
        Ok(Document::coded_fields(self)?.iter().map(|field| &field.field).collect())
    }

    fn fields(&self) -> Result<Vec<&DocumentField>, Error> {
        Ok(Document::fields(self)?.iter().map(|field| &field.field).collect())
    }
}

/// Many cards carry a bar code of a line beside the symbol that says something: finding that one is no reason to stop.
fn tells_something(barcodes: &[Arc<ReadBarcode>]) -> bool {
    barcodes.iter().any(|barcode| barcode.symbol.symbology.corrects_errors() && barcode.symbol.agreed)
}

fn read_barcodes(source: &Source, effort: Effort) -> Result<Vec<Arc<ReadBarcode>>, Error> {
    let image = &source.decoded()?.image;
    let read = source.timed(Stage::Barcode, || {
        let end = Instant::now() + BARCODE_BUDGET;
        let is_over = || {
            let now = Instant::now();
            now >= end || source.context.check(now).is_err()
        };
        let Some(picture) = Luma::new(image.width, image.height, luma(image)) else {
            return Err(Error::internal("a decoded picture has sides that the barcode reader does not take"));
        };
        let until = Symbology::DOCUMENT.into_iter().filter(|kind| kind.corrects_errors()).collect();
        let request = barcode::Request { until, effort, ..barcode::Request::default() };
        let symbols =
            barcode::read(&picture, &request, &is_over).map_err(|error| Error::internal(error.to_string()))?;
        source.context.check(Instant::now())?;
        Ok(symbols)
    })?;
    let read: Vec<_> = barcode::join_parts(read).into_iter().filter_map(ReadBarcode::of).map(Arc::new).collect();
    Ok(read)
}
