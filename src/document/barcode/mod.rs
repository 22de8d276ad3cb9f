//! Reads barcodes out of a grey picture.
//!
//! Called by the pipeline with the luma plane of a document side; what a PDF417 of a North American licence says is read by the
//! sibling `aamva`. The decoder is zxing-cpp. On a picture that it cannot read as it is, this module tries again on better
//! pictures, the cheapest first, until a wanted symbol is found, the ladder is at its end or the caller's time is over. What lifts
//! PDF417 most is `rectify`: zxing-cpp follows rows that are level within about four degrees only. Left out: colour, decoding of
//! payloads, and any clock: time comes in as a question the caller answers. Symbologies: ISO/IEC 15438 (PDF417), 24728
//! (MicroPDF417), 18004 (QR), 23941 (rMQR), 24778 (Aztec), 16022 (Data Matrix), 16023 (MaxiCode), 15417 (Code 128), 16388
//! (Code 39), 16390 (ITF), 15420 (EAN/UPC), 24724 (DataBar).

mod locate;
mod luma;
mod rectify;

pub use luma::Luma;

use serde::{Deserialize, Serialize};
use zxingcpp::{BarcodeFormat, BarcodeReader, Binarizer, ImageFormat, ImageView, TextMode};

/// Pictures with more pixels are scaled down first. A card that fills a 12-megapixel photograph has PDF417 modules of about five
/// pixels, so nothing is lost; raising it raises the longest time that looking for PDF417 can take.
const MAX_PIXELS: usize = 12_000_000;

/// All symbologies together are looked for in at most this many pixels; only PDF417 is looked for in more. A picture full of the
/// finder patterns of matrix codes costs the decoder time that grows with the square of its pixels: 16 s at 12 megapixels.
const MAX_OVERVIEW_PIXELS: usize = 4_000_000;

/// Enlarged pictures have at most this many pixels: four times a 2-megapixel picture.
const MAX_ENLARGED_PIXELS: usize = 8_000_000;

/// How much a picture is enlarged for another try. Three times found nothing in the samples that twice had not found.
const ENLARGEMENT: f64 = 2.0;

/// Radius of the unsharp mask on the enlarged picture, in its pixels: about a module of a symbol that is too small to be read.
const SHARPENING_PX: f64 = 2.4;

/// Most symbols returned by one call. zxing-cpp holds its own limit in eight bits.
pub const MAX_SYMBOLS: u8 = 32;

/// A kind of symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Symbology {
    /// With its compact form.
    Pdf417,
    MicroPdf417,
    /// Models 1 and 2.
    QrCode,
    MicroQrCode,
    RectangularMicroQrCode,
    /// With runes.
    Aztec,
    DataMatrix,
    MaxiCode,
    Code128,
    Code39,
    Code93,
    Codabar,
    Itf,
    /// EAN-8, EAN-13, UPC-A and UPC-E.
    EanUpc,
    /// All forms.
    DataBar,
    Telepen,
    DxFilmEdge,
}

impl Symbology {
    /// Every symbology the decoder knows.
    pub const ALL: [Self; 17] = [
        Self::Pdf417,
        Self::MicroPdf417,
        Self::QrCode,
        Self::MicroQrCode,
        Self::RectangularMicroQrCode,
        Self::Aztec,
        Self::DataMatrix,
        Self::MaxiCode,
        Self::Code128,
        Self::Code39,
        Self::Code93,
        Self::Codabar,
        Self::Itf,
        Self::EanUpc,
        Self::DataBar,
        Self::Telepen,
        Self::DxFilmEdge,
    ];

    /// What identity documents carry. The symbologies left out have weak check characters or none and would only bring false finds.
    pub const DOCUMENT: [Self; 8] = [
        Self::Pdf417,
        Self::MicroPdf417,
        Self::QrCode,
        Self::MicroQrCode,
        Self::Aztec,
        Self::DataMatrix,
        Self::Code128,
        Self::Code39,
    ];

    /// True for symbols with Reed-Solomon error correction, whose false finds are rare enough to look for them again and again.
    pub fn corrects_errors(self) -> bool {
        matches!(
            self,
            Self::Pdf417
                | Self::MicroPdf417
                | Self::QrCode
                | Self::MicroQrCode
                | Self::RectangularMicroQrCode
                | Self::Aztec
                | Self::DataMatrix
                | Self::MaxiCode
        )
    }

    fn format(self) -> BarcodeFormat {
        match self {
            Self::Pdf417 => BarcodeFormat::PDF417,
            Self::MicroPdf417 => BarcodeFormat::MicroPDF417,
            Self::QrCode => BarcodeFormat::QRCode,
            Self::MicroQrCode => BarcodeFormat::MicroQRCode,
            Self::RectangularMicroQrCode => BarcodeFormat::RMQRCode,
            Self::Aztec => BarcodeFormat::Aztec,
            Self::DataMatrix => BarcodeFormat::DataMatrix,
            Self::MaxiCode => BarcodeFormat::MaxiCode,
            Self::Code128 => BarcodeFormat::Code128,
            Self::Code39 => BarcodeFormat::Code39,
            Self::Code93 => BarcodeFormat::Code93,
            Self::Codabar => BarcodeFormat::Codabar,
            Self::Itf => BarcodeFormat::ITF,
            Self::EanUpc => BarcodeFormat::EANUPC,
            Self::DataBar => BarcodeFormat::DataBar,
            Self::Telepen => BarcodeFormat::Telepen,
            Self::DxFilmEdge => BarcodeFormat::DXFilmEdge,
        }
    }

    fn of(code: &zxingcpp::Barcode) -> Option<Self> {
        let (format, symbology) = (code.format(), code.symbology());
        Self::ALL
            .into_iter()
            .find(|kind| kind.format() == format)
            // The symbology of MicroPDF417 is PDF417, so the exact format is asked first.
            .or_else(|| Self::ALL.into_iter().find(|kind| kind.format() == symbology))
    }
}

/// What to look for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Symbologies to report.
    pub wanted: Vec<Symbology>,
    /// Reading goes on until one of these is found. Empty: any of `wanted`.
    pub until: Vec<Symbology>,
    /// Most symbols reported, at most [`MAX_SYMBOLS`].
    pub max_symbols: u8,
    /// How far to climb the ladder of attempts.
    pub effort: Effort,
}

impl Default for Request {
    fn default() -> Self {
        Self { wanted: Symbology::DOCUMENT.to_vec(), until: Vec::new(), max_symbols: MAX_SYMBOLS, effort: Effort::Full }
    }
}

/// How much is tried on a picture that shows no symbol at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Effort {
    /// One run of the decoder on the picture as it is.
    Once,
    /// Every attempt.
    Full,
}

/// What a symbol was found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attempt {
    /// The picture as it is, or smaller.
    Plain,
    /// The same with one threshold for all of it.
    Global,
    /// A region that looks like a PDF417, its rows laid level.
    Straightened,
    /// The same, upside down.
    Turned,
    /// The large picture in full.
    FullSize,
    Enlarged,
    EnlargedGlobal,
    EnlargedSharp,
}

/// The place of a symbol in a message spread over several (structured append, Macro PDF417).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Common to all parts of a message.
    pub id: String,
    /// From 0.
    pub index: u32,
    /// Number of parts; `None` where only the last part would tell it.
    pub count: Option<u32>,
}

/// One symbol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Barcode {
    pub symbology: Symbology,
    /// The payload as encoded, without extended channel interpretations.
    pub bytes: Vec<u8>,
    /// The payload as text, control characters kept; character sets are guessed where the symbol does not name one.
    pub text: String,
    /// Corners in source pixels, origin top-left, in the symbol's own order: top left, top right, bottom right, bottom left.
    pub quad: [[f32; 2]; 4],
    pub part: Option<Part>,
    /// Light on dark.
    pub inverted: bool,
    /// Which attempt found it.
    pub found_by: Attempt,
    /// Two attempts gave the same payload. Always so for symbologies other than PDF417, of which the decoder now and then returns
    /// a payload that is none: a PDF417 without agreement must be checked by its content.
    pub agreed: bool,
}

/// Why a picture was not looked at.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, thiserror::Error, PartialEq, Eq)]
pub enum BarcodeError {
    /// The decoder refused its input: a bug here, never a property of the picture.
    #[error("barcode decoder refused the picture")]
    Decoder,
}

/// Reads the symbols of a picture, in the order in which they were found. `out_of_time` is asked before every attempt but the first
/// and ends the search when it answers true; a single attempt is bounded by the size of the picture, not by it.
///
/// No symbol is an empty list.
///
/// # Errors
/// [`BarcodeError::Decoder`] if the decoder fails.
pub fn read(source: &Luma, request: &Request, out_of_time: &dyn Fn() -> bool) -> Result<Vec<Barcode>, BarcodeError> {
    let shrunk = shrink(source, MAX_PIXELS);
    let picture = shrunk.as_ref().unwrap_or(source);
    let small = shrink(picture, MAX_OVERVIEW_PIXELS);
    let overview = small.as_ref().unwrap_or(picture);
    let mut search = Search { picture, overview, source_width: source.width(), request, found: Vec::new() };
    search.decode_overview(&request.wanted, Binarizer::LocalAverage, Attempt::Plain)?;
    if request.effort == Effort::Full {
        search.climb(out_of_time)?;
    }
    Ok(search.finish())
}

/// Joins the parts of messages spread over several symbols, possibly of several pictures. A complete message becomes one barcode
/// with the place of its first part; parts of incomplete messages and all other symbols stay as they are. Order is kept.
pub fn join_parts(codes: Vec<Barcode>) -> Vec<Barcode> {
    let mut joined: Vec<Barcode> = Vec::new();
    let mut rest = codes;
    while !rest.is_empty() {
        let first = rest.remove(0);
        let Some(part) = first.part.clone() else {
            joined.push(first);
            continue;
        };
        let same = |code: &Barcode| {
            code.symbology == first.symbology && code.part.as_ref().is_some_and(|other| other.id == part.id)
        };
        let (mut parts, others): (Vec<Barcode>, Vec<Barcode>) = rest.into_iter().partition(|code| same(code));
        rest = others;
        parts.insert(0, first);
        parts.sort_by_key(|code| (code.part.as_ref().map_or(0, |part| part.index), !code.agreed));
        // Of copies of a part the agreed one comes first.
        let mut once = parts.clone();
        once.dedup_by_key(|code| code.part.as_ref().map(|part| part.index));
        let count = once.iter().find_map(|code| code.part.as_ref()?.count);
        let complete = count == u32::try_from(once.len()).ok()
            && once
                .iter()
                .enumerate()
                .all(|(at, code)| code.part.as_ref().is_some_and(|part| part.index as usize == at));
        if complete {
            let mut whole = once.remove(0);
            for code in once {
                whole.bytes.extend(code.bytes);
                whole.text.push_str(&code.text);
                whole.agreed &= code.agreed;
            }
            whole.part = None;
            joined.push(whole);
        } else {
            joined.extend(parts);
        }
    }
    joined
}

/// The picture with at most so many pixels; `None` if it has no more.
fn shrink(picture: &Luma, most: usize) -> Option<Luma> {
    let count = picture.pixels().len();
    (count > most).then(|| picture.scaled((most as f64 / count as f64).sqrt()))
}

/// One call of [`read`].
struct Search<'a> {
    picture: &'a Luma,
    /// `picture`, smaller if it is large.
    overview: &'a Luma,
    /// Pixels across the caller's picture.
    source_width: u32,
    request: &'a Request,
    found: Vec<Barcode>,
}

impl Search<'_> {
    /// True if nothing more is to be done: a symbol asked for is there, and no PDF417 waits for a second reading.
    fn satisfied(&self) -> bool {
        let until = if self.request.until.is_empty() { &self.request.wanted } else { &self.request.until };
        let waits = self.found.iter().any(|code| !code.agreed && !self.is_outvoted(code));
        self.found.len() >= self.limit() || (!waits && self.found.iter().any(|code| until.contains(&code.symbology)))
    }

    /// True for a payload read once where another was read twice.
    fn is_outvoted(&self, code: &Barcode) -> bool {
        let wins =
            |other: &Barcode| other.agreed && other.symbology == code.symbology && overlap(&other.quad, &code.quad);
        !code.agreed && self.found.iter().any(wins)
    }

    /// The symbols found, without those that lost against an agreed reading of the same place, and of several unagreed readings of
    /// a place only the first.
    fn finish(self) -> Vec<Barcode> {
        let mut kept: Vec<Barcode> = Vec::new();
        for code in &self.found {
            let is_repeat = kept
                .iter()
                .any(|other| !code.agreed && code.symbology == other.symbology && overlap(&other.quad, &code.quad));
            if !is_repeat && !self.is_outvoted(code) {
                kept.push(code.clone());
            }
        }
        kept
    }

    fn limit(&self) -> usize {
        usize::from(self.request.max_symbols.clamp(1, MAX_SYMBOLS))
    }

    /// Tries one picture after the other, from the cheapest to the dearest.
    fn climb(&mut self, out_of_time: &dyn Fn() -> bool) -> Result<(), BarcodeError> {
        macro_rules! attempt {
            ($run:expr) => {
                if self.satisfied() || out_of_time() {
                    return Ok(());
                }
                $run?;
            };
        }
        let strong: Vec<Symbology> =
            self.request.wanted.iter().copied().filter(|kind| kind.corrects_errors()).collect();
        let picture = self.picture;
        if strong.contains(&Symbology::Pdf417) {
            if self.found.iter().any(|code| !code.agreed) {
                let kinds = [Symbology::Pdf417];
                attempt!(self.decode_overview(&kinds, Binarizer::GlobalHistogram, Attempt::Global));
            }
            for region in locate::regions(picture) {
                attempt!(self.rectified(&region, out_of_time));
            }
            if picture.width() > self.overview.width() {
                let kinds = [Symbology::Pdf417];
                attempt!(self.decode(picture, &kinds, Binarizer::LocalAverage, Attempt::FullSize, &|point| point));
            }
        }
        // A PDF417 that was read once only is not worth the dear attempts: its content will tell.
        if self.found.iter().any(|code| !code.agreed) {
            return Ok(());
        }
        attempt!(self.decode_overview(&strong, Binarizer::GlobalHistogram, Attempt::Global));
        if picture.pixels().len() as f64 * ENLARGEMENT * ENLARGEMENT > MAX_ENLARGED_PIXELS as f64 {
            return Ok(());
        }
        let enlarged = picture.scaled(ENLARGEMENT);
        let back = |[x, y]: [f64; 2]| [x / ENLARGEMENT, y / ENLARGEMENT];
        attempt!(self.decode(&enlarged, &strong, Binarizer::LocalAverage, Attempt::Enlarged, &back));
        attempt!(self.decode(&enlarged, &strong, Binarizer::GlobalHistogram, Attempt::EnlargedGlobal, &back));
        let sharp = enlarged.sharpened(SHARPENING_PX);
        attempt!(self.decode(&sharp, &strong, Binarizer::LocalAverage, Attempt::EnlargedSharp, &back));
        Ok(())
    }

    /// Straightens a region that looks like a PDF417 and reads it.
    fn rectified(&mut self, region: &locate::Region, out_of_time: &dyn Fn() -> bool) -> Result<(), BarcodeError> {
        for (map, name) in rectify::maps(self.picture, region).iter().zip([Attempt::Straightened, Attempt::Turned]) {
            let crop = map.sample(self.picture);
            let back = |point: [f64; 2]| map.to_picture(point);
            let kinds = [Symbology::Pdf417];
            self.decode(&crop, &kinds, Binarizer::LocalAverage, name, &back)?;
            if self.satisfied() || out_of_time() {
                return Ok(());
            }
            self.decode(&crop.smoothed_down(map.pixels_per_source()), &kinds, Binarizer::LocalAverage, name, &back)?;
            if self.satisfied() || out_of_time() {
                return Ok(());
            }
            self.decode(&crop, &kinds, Binarizer::GlobalHistogram, name, &back)?;
            if self.satisfied() || out_of_time() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Runs the decoder on the smaller picture.
    fn decode_overview(
        &mut self,
        kinds: &[Symbology],
        binarizer: Binarizer,
        found_by: Attempt,
    ) -> Result<(), BarcodeError> {
        let (overview, factor) = (self.overview, f64::from(self.picture.width()) / f64::from(self.overview.width()));
        self.decode(overview, kinds, binarizer, found_by, &|point| point.map(|place| place * factor))
    }

    /// Runs the decoder and keeps what is new. `back` leads from the decoded picture to `self.picture`.
    fn decode(
        &mut self,
        picture: &Luma,
        kinds: &[Symbology],
        binarizer: Binarizer,
        found_by: Attempt,
        back: &dyn Fn([f64; 2]) -> [f64; 2],
    ) -> Result<(), BarcodeError> {
        if kinds.is_empty() {
            return Ok(());
        }
        let formats: Vec<BarcodeFormat> = kinds.iter().map(|kind| kind.format()).collect();
        let view = ImageView::from_slice(picture.pixels(), picture.width(), picture.height(), ImageFormat::Lum)
            .map_err(|_| BarcodeError::Decoder)?;
        let room = self.limit().saturating_sub(self.found.len()).max(1);
        let reader = BarcodeReader::default()
            .formats(&formats)
            .binarizer(binarizer)
            .text_mode(TextMode::Plain)
            .max_number_of_symbols(room as i32);
        let scale = f64::from(self.picture.width()) / f64::from(self.source_width);
        for code in reader.from(view).map_err(|_| BarcodeError::Decoder)? {
            let Some(symbology) = Symbology::of(&code).filter(|_| code.is_valid()) else { continue };
            let corners = code.position();
            let quad = [corners.top_left, corners.top_right, corners.bottom_right, corners.bottom_left].map(|corner| {
                let [x, y] = back([f64::from(corner.x), f64::from(corner.y)]);
                [(x / scale) as f32, (y / scale) as f32]
            });
            let bytes = code.bytes();
            let same = |other: &&mut Barcode| {
                other.symbology == symbology && other.bytes == bytes && overlap(&other.quad, &quad)
            };
            if let Some(known) = self.found.iter_mut().find(same) {
                known.agreed = true;
            } else if self.found.len() < self.limit() {
                let part = (code.sequence_index() >= 0).then(|| Part {
                    id: code.sequence_id(),
                    index: code.sequence_index().unsigned_abs(),
                    count: u32::try_from(code.sequence_size()).ok().filter(|count| *count > 0),
                });
                let (text, inverted, agreed) = (code.text(), code.is_inverted(), symbology != Symbology::Pdf417);
                self.found.push(Barcode { symbology, bytes, text, quad, part, inverted, found_by, agreed });
            }
        }
        Ok(())
    }
}

/// True if the upright boxes around two quads meet.
fn overlap(a: &[[f32; 2]; 4], b: &[[f32; 2]; 4]) -> bool {
    (0..2).all(|axis| {
        let range = |quad: &[[f32; 2]; 4]| {
            quad.iter().fold((f32::MAX, f32::MIN), |(low, high), point| (low.min(point[axis]), high.max(point[axis])))
        };
        let ((a_low, a_high), (b_low, b_high)) = (range(a), range(b));
        a_low <= b_high && b_low <= a_high
    })
}

#[cfg(test)]
mod tests;
