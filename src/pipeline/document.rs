//! One document at work: its pages, and the fields that they give together.
//!
//! Called from blocking threads by `verify` and by `ReadDocument`. As with faces, each result is computed when it is first asked for and
//! then shared. Machine-readable zones, barcodes and portraits need nothing of each other and are looked for beside each other. Left out:
//! what the fields of several sources amount to, which is a check's business.

use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};

use super::page::{DocumentReaders, Page};
use super::picture::{FaceModels, Picture, Portrait};
use super::source::{News, Source};
use crate::checks::{DocumentEvidence, FaceEvidence, FacesInPicture, MediaKind};
use crate::document::agreement::{Comparison, RecordField, cross_check, cross_check_pages, record};
use crate::document::barcode::Effort;
use crate::document::capture::CaptureWarning;
use crate::document::content::ReadBarcode;
use crate::document::fields::{self, DocumentField};
use crate::document::locate::Located;
use crate::document::mrz::Date;
use crate::document::mrz_reader::FoundMrz;
use crate::error::Error;
use crate::face::age::AgeEstimates;
use crate::face::embed::{Embedding, EmbeddingKind};
use crate::face::liveness::LivenessScore;
use crate::face::quality::FaceQuality;

/// Most pages of one document: two sides, each once more under other light.
pub const MAX_PAGES: usize = 4;

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    pub mrz: bool,
    pub barcode: bool,
    /// What is printed for people.
    pub visual: bool,
    pub portrait: bool,
}

impl Parts {
    pub const ALL: Self = Self { mrz: true, barcode: true, visual: true, portrait: true };
    pub const NONE: Self = Self { mrz: false, barcode: false, visual: false, portrait: false };
}

/// The pages of one document.
pub struct Document {
    pages: Vec<Arc<Page>>,
    /// The faces of each page.
    faces: Vec<Picture>,
    barcodes: Vec<OnceLock<Result<Vec<Arc<ReadBarcode>>, Error>>>,
    parts: Parts,
    portrait: OnceLock<Result<Option<(usize, Portrait)>, Error>>,
    coded_fields: OnceLock<Result<Vec<PageField>, Error>>,
    fields: OnceLock<Result<Vec<PageField>, Error>>,
}

/// A field, and the page that it was read from, counted from 0.
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
        let comparisons = cross_check(&all).into_iter().chain(between_pages(fields)).collect();
        Self { fields: fields.to_vec(), record: record(&all), comparisons }
    }
}

fn between_pages(fields: &[PageField]) -> Vec<Comparison> {
    let mut pages = vec![Vec::new(); MAX_PAGES];
    for PageField { field, page } in fields {
        pages[*page].push(field.clone());
    }
    cross_check_pages(&pages)
}

impl Document {
    /// A document of which `parts` will be read; what is not among them counts as not there.
    pub fn new(
        sources: Vec<Arc<Source>>,
        parts: Parts,
        readers: &DocumentReaders,
        face_models: &Arc<FaceModels>,
        today: Date,
    ) -> Self {
        let page = |source| Arc::new(Page::new(source, readers.clone(), today));
        let pages: Vec<_> = sources.into_iter().map(page).collect();
        Self {
            faces: (0..).zip(&pages).map(|(at, page)| Picture::of_page(page, at, Arc::clone(face_models))).collect(),
            barcodes: pages.iter().map(|_| OnceLock::new()).collect(),
            pages,
            parts,
            portrait: OnceLock::new(),
            coded_fields: OnceLock::new(),
            fields: OnceLock::new(),
        }
    }

    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// The picture that a page comes from.
    pub fn source(&self, page: usize) -> &Source {
        &self.pages[page].source
    }

    /// The portrait and its page: the first that shows one. Sides may have been taken for each other.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn portrait(&self) -> Result<Option<&(usize, Portrait)>, Error> {
        let search = || {
            for (page, faces) in self.faces.iter().enumerate().filter(|_| self.parts.portrait) {
                if let Some(portrait) = faces.portrait()? {
                    return Ok(Some((page, portrait)));
                }
            }
            Ok(None)
        };
        self.portrait.get_or_init(search).as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// The faces of the page with the portrait; without one, of the first page.
    fn shown(&self) -> Result<&Picture, Error> {
        let page = self.portrait()?.map_or(0, |(page, _)| *page);
        self.faces.get(page).ok_or_else(|| Error::internal("a document without pages"))
    }

    /// The zone of a page.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn mrz(&self, page: usize) -> Result<Option<&Arc<FoundMrz>>, Error> {
        if self.parts.mrz { self.pages[page].mrz() } else { Ok(None) }
    }

    /// Where the document lies on a page.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn located(&self, page: usize) -> Result<Option<&Arc<Located>>, Error> {
        self.pages[page].located()
    }

    /// What a page suffers from; `None` where the document's outline was not found.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn capture_warnings(&self, page: usize) -> Result<Option<Vec<CaptureWarning>>, Error> {
        self.pages[page].capture_warnings()
    }

    /// The barcodes that one look at a page shows.
    ///
    /// # Errors
    /// Those of decoding, and the request's end.
    pub fn barcodes_at_once(&self, page: usize) -> Result<&[Arc<ReadBarcode>], Error> {
        if self.parts.barcode { self.pages[page].barcodes_at_once() } else { Ok(&[]) }
    }

    /// The barcodes of a page. Where one look shows none, the page is searched with every attempt there is, unless the document has
    /// told already what it has to tell: a proved zone, or a symbol on any page.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    pub fn barcodes(&self, page: usize) -> Result<&[Arc<ReadBarcode>], Error> {
        let search = || {
            let source = &self.pages[page].source;
            let read = if !self.parts.barcode || self.has_told()? {
                self.barcodes_at_once(page)?.to_vec()
            } else {
                self.pages[page].read_barcodes(Effort::Full)?
            };
            read.iter().for_each(|barcode| source.tell(News::Barcode(Arc::clone(barcode))));
            Ok(read)
        };
        self.barcodes[page].get_or_init(search).as_deref().map_err(Clone::clone)
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
                    self.pages.iter().map(|page| scope.spawn(move || page.visual_fields(known))).collect();
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

    /// Does the whole work, each page and each part on a thread of its own; what needs another part waits for it. Errors are told by whoever asks for the results.
    pub fn read(&self) {
        std::thread::scope(|scope| {
            for page in 0..self.pages.len() {
                scope.spawn(move || drop(self.barcodes(page)));
                scope.spawn(move || drop(self.mrz(page)));
                if self.parts.visual {
                    // Text takes longest, and needs no more than where the page lies.
                    scope.spawn(move || drop(self.pages[page].text()));
                    scope.spawn(move || drop(self.pages[page].assessed()));
                }
            }
            scope.spawn(|| drop(self.portrait()));
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

    fn between_pages(&self) -> Result<Vec<Comparison>, Error> {
        Ok(between_pages(Document::fields(self)?))
    }
}

/// The portrait as one side of a match.
impl FaceEvidence for Document {
    fn kind(&self) -> MediaKind {
        self.shown().map_or(MediaKind::DocumentFront, FaceEvidence::kind)
    }

    fn faces(&self) -> Result<&FacesInPicture, Error> {
        self.shown()?.faces()
    }

    fn quality(&self) -> Result<Option<FaceQuality>, Error> {
        self.shown()?.quality()
    }

    fn embedding(&self, kind: EmbeddingKind) -> Result<Option<&Embedding>, Error> {
        self.shown()?.embedding(kind)
    }

    fn liveness(&self) -> Result<Option<LivenessScore>, Error> {
        self.shown()?.liveness()
    }

    fn ages(&self) -> Result<Option<AgeEstimates>, Error> {
        self.shown()?.ages()
    }
}

/// Many cards carry a bar code of a line beside the symbol that says something: finding that one is no reason to stop.
fn tells_something(barcodes: &[Arc<ReadBarcode>]) -> bool {
    barcodes.iter().any(|barcode| barcode.symbol.symbology.corrects_errors() && barcode.symbol.agreed)
}
