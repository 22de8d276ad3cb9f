//! `ReadDocument`: what stands on a document's pictures, as fields.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tonic::Status;

use super::convert;
use super::detect_faces::face_message;
use super::proto::{self, ReadDocumentRequest, ReadDocumentResponse};
use super::request::Call;
use crate::checks::{self, MediaKind};
use crate::document::agreement::{Agreement, Detail};
use crate::document::barcode::Symbology;
use crate::document::content::ReadBarcode;
use crate::document::fields::{DocumentField, Source as FieldSource};
use crate::document::locate::{Format, Located};
use crate::document::mrz::{Certainty, CheckDigit, Proof, Repaired};
use crate::document::mrz_reader::FoundMrz;
use crate::error::Error;
use crate::models::manifest::Role;
use crate::pipeline::document::{Document, DocumentFields, MAX_PAGES, PageField, Parts};
use crate::pipeline::picture::Portrait;
use crate::pipeline::source::{Listener, Media, News};

/// # Errors
/// Those of decoding and of the models.
pub async fn read_document(call: Call, request: ReadDocumentRequest) -> Result<ReadDocumentResponse, Status> {
    let response = call
        .until_deadline(async {
            let parts = parts(&request.parts)?;
            let images = request.images;
            if images.is_empty() || images.len() > MAX_PAGES {
                let reason = format!("there are {} pictures; 1 to {MAX_PAGES} make a document", images.len());
                return Err(Error::invalid("images", "IMAGE_COUNT", reason));
            }
            for (index, image) in images.iter().enumerate() {
                call.engine.check_size(image, &format!("images[{index}]"))?;
            }
            let place = call.enter(images.iter().map(|image| image.len() as u64).sum()).await?;
            let started = Instant::now();
            let media = images.into_iter().enumerate().map(|(index, data)| Media {
                kind: if index == 0 { MediaKind::DocumentFront } else { MediaKind::DocumentBack },
                data,
                field: format!("images[{index}]"),
            });
            let (engine, context, media) = (Arc::clone(&call.engine), Arc::clone(&call.context), media.collect());
            let today = call.today();
            let read = tokio::task::spawn_blocking(move || {
                // Held until the work has ended, also when the caller has gone before.
                let _place = place;
                let stages = Arc::new(Mutex::new(vec![BTreeMap::new(); MAX_PAGES]));
                let document = engine.document(media, parts, today, &context, &times(&stages))?;
                document.read();
                let mut response = response(&document, parts)?;
                let mut stages = stages.lock().unwrap_or_else(PoisonError::into_inner);
                for (page, stages) in response.pages.iter_mut().zip(stages.iter_mut()) {
                    page.stage_ms = std::mem::take(stages).into_iter().collect();
                }
                Ok(response)
            });
            let mut response = read
                .await
                .unwrap_or_else(|_| Err(Error::internal("reading panicked; its place stands in the journal")))?;
            // The zone tells where the document lies.
            let locates = parts.visual || parts.portrait;
            let roles = [
                (locates || parts.mrz, Role::PageLocator),
                (locates || parts.mrz, Role::TextDetector),
                (locates || parts.mrz, Role::MrzRecogniser),
                (parts.visual, Role::TextRecogniser),
                (parts.portrait, Role::FaceDetector),
            ];
            let used: Vec<Role> = roles.into_iter().filter_map(|(used, role)| used.then_some(role)).collect();
            response.models = convert::model_refs(&call.engine.registry, &used);
            response.duration_ms = convert::milliseconds(started.elapsed());
            Ok(response)
        })
        .await?;
    Ok(response)
}

/// Milliseconds by stage of each page.
type Stages = Arc<Mutex<Vec<BTreeMap<String, f64>>>>;

/// Notes the times of stages; one that is run twice counts with both.
fn times(stages: &Stages) -> Arc<Listener> {
    let stages = Arc::clone(stages);
    Arc::new(move |origin, news| {
        if let News::Stage(stage, took) = news {
            let mut stages = stages.lock().unwrap_or_else(PoisonError::into_inner);
            *stages[origin.page].entry(stage.as_str().to_owned()).or_default() += convert::milliseconds(took);
        }
    })
}

/// The parts that a request names; all of them if it names none.
fn parts(names: &[String]) -> Result<Parts, Error> {
    if names.is_empty() {
        return Ok(Parts::ALL);
    }
    let mut parts = Parts::NONE;
    for (index, name) in names.iter().enumerate() {
        match name.as_str() {
            "mrz" => parts.mrz = true,
            "barcode" => parts.barcode = true,
            "visual" => parts.visual = true,
            "portrait" => parts.portrait = true,
            _ => {
                let reason = "there is no such part; the parts are mrz, barcode, visual and portrait";
                return Err(Error::invalid(format!("parts[{index}]"), "PART_UNKNOWN", reason));
            }
        }
    }
    Ok(parts)
}

fn response(document: &Document, parts: Parts) -> Result<ReadDocumentResponse, Error> {
    let pages = (0..document.page_count()).map(|page| page_message(document, page, parts));
    let pages = pages.collect::<Result<_, _>>()?;
    let proto::DocumentFields { fields, record, comparisons } =
        fields_message(DocumentFields::new(document.fields()?, &[]));
    Ok(ReadDocumentResponse { pages, fields, record, comparisons, models: Vec::new(), duration_ms: 0.0 })
}

fn page_message(document: &Document, page: usize, parts: Parts) -> Result<proto::DocumentPage, Error> {
    let source = document.source(page);
    let [width_px, height_px] = source.decoded()?.source_size;
    let (mrz, barcodes) = (document.mrz(page)?, document.barcodes(page)?);
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message: &str| {
        warnings.push(proto::Warning { code: code.into(), message: message.into(), ..Default::default() });
    };
    if parts.mrz && mrz.is_none() {
        warn("MRZ_NOT_FOUND", "no machine-readable zone was found in the picture");
    }
    if parts.barcode && barcodes.is_empty() {
        warn("BARCODE_NOT_FOUND", "no barcode was found in the picture");
    }
    let portrait = document.portrait()?;
    if parts.portrait && page == 0 && portrait.is_none() {
        warn("PORTRAIT_NOT_FOUND", "no portrait was found on the document");
    }
    let located = if parts.visual { document.located(page)? } else { None };
    if parts.visual {
        let nothing =
            mrz.is_none() && barcodes.is_empty() && !document.fields()?.iter().any(|field| field.page == page);
        match document.capture_warnings(page)? {
            Some(warnings) => {
                warnings.into_iter().for_each(|warning| warn(warning.code(), checks::document::message(warning)));
            }
            None if nothing => warn("DOCUMENT_NOT_FOUND", "no document was found in the picture"),
            None => {}
        }
    }
    Ok(proto::DocumentPage {
        image: source.file(),
        location: located.map(|located| location(located)),
        portrait: portrait.filter(|(on, _)| *on == page).map(|(_, portrait)| portrait_message(portrait)),
        width_px,
        height_px,
        mrz: mrz.map(|found| found_mrz(found)),
        barcodes: barcodes.iter().map(|read| barcode(read)).collect(),
        warnings,
        stage_ms: Default::default(),
    })
}

/// The outline of a document as a message.
pub fn location(located: &Located) -> proto::DocumentLocation {
    proto::DocumentLocation {
        quad: located.quad.iter().map(|&[x, y]| proto::Point { x, y }).collect(),
        confidence: located.confidence,
        format: match located.format {
            Format::Id1 => "ID_1",
            Format::Id2OrId3 => "ID_2_OR_ID_3",
            Format::Other => "",
        }
        .into(),
        whole_picture: located.whole_picture,
        upright: located.is_upright,
    }
}

/// The portrait as a message.
pub fn portrait_message(portrait: &Portrait) -> proto::Portrait {
    proto::Portrait {
        face: Some(face_message(&portrait.face, None)),
        further: portrait.further.iter().map(|face| face_message(face, None)).collect(),
    }
}

/// The MRZ of a picture as a message.
pub fn found_mrz(found: &FoundMrz) -> proto::Mrz {
    proto::Mrz {
        quad: found.quad.iter().map(|&[x, y]| proto::Point { x, y }).collect(),
        ..mrz_message(&found.repaired)
    }
}

/// A barcode as a message.
pub fn barcode(read: &ReadBarcode) -> proto::Barcode {
    let ReadBarcode { symbol, licence } = read;
    proto::Barcode {
        symbology: symbology(symbol.symbology).into(),
        payload: symbol.bytes.clone().into(),
        text: symbol.text.clone(),
        quad: symbol.quad.iter().map(|&[x, y]| proto::Point { x: f64::from(x), y: f64::from(y) }).collect(),
        content: if licence.is_some() { "AAMVA" } else { "" }.into(),
        warnings: licence.iter().flat_map(|record| &record.warnings).map(|warning| warning.code().into()).collect(),
    }
}

fn symbology(symbology: Symbology) -> &'static str {
    match symbology {
        Symbology::Pdf417 => "PDF417",
        Symbology::MicroPdf417 => "MICRO_PDF417",
        Symbology::QrCode => "QR_CODE",
        Symbology::MicroQrCode => "MICRO_QR_CODE",
        Symbology::RectangularMicroQrCode => "RECTANGULAR_MICRO_QR_CODE",
        Symbology::Aztec => "AZTEC",
        Symbology::DataMatrix => "DATA_MATRIX",
        Symbology::MaxiCode => "MAXI_CODE",
        Symbology::Code128 => "CODE_128",
        Symbology::Code39 => "CODE_39",
        Symbology::Code93 => "CODE_93",
        Symbology::Codabar => "CODABAR",
        Symbology::Itf => "ITF",
        Symbology::EanUpc => "EAN_UPC",
        Symbology::DataBar => "DATA_BAR",
        Symbology::Telepen => "TELEPEN",
        Symbology::DxFilmEdge => "DX_FILM_EDGE",
    }
}

/// The MRZ as a message; `quad` stays empty.
pub fn mrz_message(repaired: &Repaired) -> proto::Mrz {
    let mrz = &repaired.mrz;
    let letter = |symbol: Option<char>| symbol.map(String::from).unwrap_or_default();
    let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    proto::Mrz {
        format: mrz.format.name().into(),
        lines: mrz.lines.clone(),
        check_digits_valid: mrz.all_check_digits_valid(),
        composite: check_digit(mrz.composite).into(),
        repairs: repaired
            .repairs
            .iter()
            .map(|repair| proto::MrzRepair {
                line: index(repair.line),
                position: index(repair.position),
                from: letter(repair.from),
                to: letter(repair.to),
                proof: proof(repair.proof).into(),
            })
            .collect(),
        quad: Vec::new(),
    }
}

/// What a document says, as a message.
pub fn fields_message(document: DocumentFields) -> proto::DocumentFields {
    let DocumentFields { fields, record, comparisons } = document;
    proto::DocumentFields {
        fields: fields.into_iter().map(|PageField { field, page }| field_message(field, page)).collect(),
        record: record
            .into_iter()
            .map(|field| proto::RecordField {
                name: field.name.into(),
                value: field.value,
                source: source_message(field.source).into(),
                agreeing: field.agreeing.into_iter().map(|source| source_message(source).into()).collect(),
                agreement: field.agreement.map_or(proto::Agreement::Unspecified, agreement).into(),
            })
            .collect(),
        comparisons: comparisons
            .into_iter()
            .map(|comparison| proto::FieldComparison {
                name: comparison.name.into(),
                sources: comparison.sources.map(|source| source_message(source).into()).to_vec(),
                agreement: agreement(comparison.agreement).into(),
                detail: comparison.detail.map_or("", Detail::code).into(),
            })
            .collect(),
    }
}

fn agreement(agreement: Agreement) -> proto::Agreement {
    match agreement {
        Agreement::Agrees => proto::Agreement::Agrees,
        Agreement::AgreesAsFarAsPrinted => proto::Agreement::AgreesAsFarAsPrinted,
        Agreement::NotComparable => proto::Agreement::NotComparable,
        Agreement::Unsure => proto::Agreement::Unsure,
        Agreement::Differs => proto::Agreement::Differs,
    }
}

fn source_message(source: FieldSource) -> proto::FieldSource {
    match source {
        FieldSource::Mrz => proto::FieldSource::Mrz,
        FieldSource::Barcode => proto::FieldSource::Barcode,
        FieldSource::Visual => proto::FieldSource::Visual,
        FieldSource::Claim => proto::FieldSource::Claim,
    }
}

/// A field as a message. `page` is the picture it was read from, counted from 0.
pub fn field_message(field: DocumentField, page: usize) -> proto::DocumentField {
    proto::DocumentField {
        name: field.name.into(),
        value: field.value.unwrap_or_default(),
        raw: field.raw,
        source: source_message(field.source).into(),
        check_digit: check_digit(field.check_digit).into(),
        certainty: match field.certainty {
            Certainty::AsRead => proto::Certainty::AsRead,
            Certainty::Proved => proto::Certainty::Proved,
            Certainty::Presumed => proto::Certainty::Presumed,
            Certainty::Uncertain => proto::Certainty::Uncertain,
        }
        .into(),
        alternatives: field.alternatives,
        warnings: field.warnings.into_iter().map(str::to_owned).collect(),
        page: u32::try_from(page).unwrap_or(u32::MAX),
        confidence: field.confidence,
        quad: field.quad.iter().flatten().map(|&[x, y]| proto::Point { x, y }).collect(),
    }
}

fn check_digit(state: CheckDigit) -> proto::CheckDigit {
    match state {
        CheckDigit::Valid => proto::CheckDigit::Valid,
        CheckDigit::Failed { .. } => proto::CheckDigit::Failed,
        CheckDigit::Absent => proto::CheckDigit::Absent,
        CheckDigit::NotApplicable => proto::CheckDigit::NotApplicable,
    }
}

fn proof(proof: Proof) -> &'static str {
    match proof {
        Proof::Alphabet => "ALPHABET",
        Proof::CheckDigit => "CHECK_DIGIT",
        Proof::TwoCheckDigits => "TWO_CHECK_DIGITS",
        Proof::KnownState => "KNOWN_STATE",
        Proof::NameSyntax => "NAME_SYNTAX",
        Proof::FillerRun => "FILLER_RUN",
    }
}
