//! Reads one picture of a document: machine-readable zone and barcodes.
//!
//! Called by `api` from a blocking thread. This is where stages are timed and the deadline is asked, since `document` reads no
//! clock. The two parts need nothing of each other and run beside each other. Left out: what the fields of several pictures amount to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::document::aamva::{self, AamvaError, Record};
use crate::document::barcode::{self, Barcode, Luma, Symbology};
use crate::document::fields::{self, DocumentField};
use crate::document::mrz::Date;
use crate::document::mrz_reader::{FoundMrz, MrzReader};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::decode::{DecodeOptions, Decoded, decode};
use crate::imaging::quality::luma;
use crate::inference::RequestContext;

/// After so long no new attempt to find barcodes in a picture is started. Most pictures hold none, and the whole ladder of attempts on
/// a large one takes seconds. One attempt is bounded by the size of the picture alone.
const BARCODE_BUDGET: Duration = Duration::from_millis(1500);

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    pub mrz: bool,
    pub barcode: bool,
}

/// What one picture showed.
#[derive(Debug)]
pub struct Page {
    /// Size of the source picture, EXIF orientation applied.
    pub source_size: [u32; 2],
    pub mrz: Option<FoundMrz>,
    pub barcodes: Vec<ReadBarcode>,
    /// Every stage that was run, with the time it took.
    pub stages: Vec<(&'static str, Duration)>,
}

/// A symbol and what it says.
#[derive(Debug)]
pub struct ReadBarcode {
    pub symbol: Barcode,
    /// The licence that it describes, if it does.
    pub licence: Option<Record>,
}

impl Page {
    /// The fields that this picture gives, by source.
    pub fn fields(&self) -> Vec<DocumentField> {
        let mrz = self.mrz.iter().flat_map(|found| fields::of_mrz(&found.repaired.mrz));
        let licences = self.barcodes.iter().filter_map(|barcode| barcode.licence.as_ref());
        mrz.chain(licences.flat_map(fields::of_aamva)).collect()
    }
}

/// A picture and what to read in it.
#[derive(Debug)]
pub struct Side {
    /// The encoded file.
    pub data: Bytes,
    /// Its place in the request, for error messages.
    pub field: String,
    pub parts: Parts,
    /// Decides centuries.
    pub today: Date,
}

/// Decodes and reads a picture.
///
/// # Errors
/// [`Error::InvalidInput`] if the picture cannot be decoded, and those of the models.
pub fn read(
    side: &Side,
    options: &DecodeOptions,
    reader: &MrzReader,
    context: &Arc<RequestContext>,
) -> Result<Page, Error> {
    let started = Instant::now();
    context.check(started)?;
    let Decoded { image, source_width, source_height, .. } =
        decode(&side.data, options).map_err(|error| Error::invalid(&side.field, error.code(), error.to_string()))?;
    let mut stages = vec![("decode", started.elapsed())];
    context.check(Instant::now())?;
    let (mrz, barcodes) = std::thread::scope(|scope| {
        let barcodes = side.parts.barcode.then(|| scope.spawn(|| timed(|| read_barcodes(&image, context))));
        let mrz = side.parts.mrz.then(|| timed(|| reader.read(&image, side.today, context)));
        // A panic there goes on here, and ends the request as any other does.
        let joined = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        (mrz, barcodes.map(joined))
    });
    let mut page =
        Page { source_size: [source_width, source_height], mrz: None, barcodes: Vec::new(), stages: Vec::new() };
    if let Some((mrz, took)) = mrz {
        page.mrz = mrz?;
        stages.push(("mrz", took));
    }
    if let Some((barcodes, took)) = barcodes {
        page.barcodes = barcodes?;
        stages.push(("barcode", took));
    }
    context.check(Instant::now())?;
    Ok(Page { stages, ..page })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed())
}

fn read_barcodes(image: &Image, context: &RequestContext) -> Result<Vec<ReadBarcode>, Error> {
    let end = Instant::now() + BARCODE_BUDGET;
    let is_over = || {
        let now = Instant::now();
        now >= end || context.check(now).is_err()
    };
    let Some(picture) = Luma::new(image.width, image.height, luma(image)) else {
        return Err(Error::internal("a decoded picture has sides that the barcode reader does not take"));
    };
    // Many cards carry a bar code of a line beside the symbol that says something: finding that one is no reason to stop.
    let until = Symbology::DOCUMENT.into_iter().filter(|kind| kind.corrects_errors()).collect();
    let symbols = barcode::read(&picture, &barcode::Request { until, ..barcode::Request::default() }, &is_over)
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(barcode::join_parts(symbols).into_iter().filter_map(understood).collect())
}

/// A symbol with its content. A PDF417 that only one attempt found and that holds no licence is left out: the decoder now and then
/// gives a payload that is none.
fn understood(symbol: Barcode) -> Option<ReadBarcode> {
    match aamva::parse(&symbol.bytes) {
        Ok(licence) => Some(ReadBarcode { symbol, licence: Some(licence) }),
        Err(AamvaError::NoHeader | AamvaError::NoElements | AamvaError::TooLong) => {
            symbol.agreed.then_some(ReadBarcode { symbol, licence: None })
        }
    }
}
