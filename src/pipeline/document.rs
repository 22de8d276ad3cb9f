//! Reads one picture of a document: machine-readable zone and barcodes.
//!
//! Called by `api` from a blocking thread. This is where stages are timed and the deadline is asked, since `document` reads no
//! clock. The two parts need nothing of each other and run beside each other. Left out: what the fields of several pictures amount to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::document::aamva::{self, AamvaError, Record};
use crate::document::barcode::{self, Barcode, Luma};
use crate::document::fields::{self, DocumentField};
use crate::error::Error;
use crate::imaging::Image;
use crate::imaging::decode::{DecodeOptions, Decoded, decode};
use crate::imaging::quality::luma;
use crate::inference::RequestContext;

/// How long barcodes are looked for in one picture. Most pictures hold none, and the whole ladder of attempts on a large one takes
/// seconds; what is found at all is nearly always found in a tenth of this.
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
        self.barcodes.iter().filter_map(|barcode| barcode.licence.as_ref()).flat_map(fields::of_aamva).collect()
    }
}

/// Decodes and reads a picture. `field` is its place in the request, for error messages.
///
/// # Errors
/// [`Error::InvalidInput`] if the picture cannot be decoded, and those of the models.
pub fn read(
    data: &Bytes,
    field: &str,
    options: &DecodeOptions,
    parts: Parts,
    context: &Arc<RequestContext>,
) -> Result<Page, Error> {
    let started = Instant::now();
    context.check(started)?;
    let Decoded { image, source_width, source_height, .. } =
        decode(data, options).map_err(|error| Error::invalid(field, error.code(), error.to_string()))?;
    let mut page = Page {
        source_size: [source_width, source_height],
        barcodes: Vec::new(),
        stages: vec![("decode", started.elapsed())],
    };
    if parts.barcode {
        let started = Instant::now();
        page.barcodes = read_barcodes(&image, context)?;
        page.stages.push(("barcode", started.elapsed()));
    }
    context.check(Instant::now())?;
    Ok(page)
}

fn read_barcodes(image: &Image, context: &RequestContext) -> Result<Vec<ReadBarcode>, Error> {
    let until = Instant::now() + BARCODE_BUDGET;
    let is_over = || {
        let now = Instant::now();
        now >= until || context.check(now).is_err()
    };
    let Some(picture) = Luma::new(image.width, image.height, luma(image)) else {
        return Err(Error::internal("a decoded picture has sides that the barcode reader does not take"));
    };
    let symbols = barcode::read(&picture, &barcode::Request::default(), &is_over)
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
