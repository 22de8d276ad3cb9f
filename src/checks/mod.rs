//! Checks: each asks one question and turns evidence and calibration into an outcome.
//!
//! A check is one file with one type that implements [`Check`], one line in [`ALL`], and, if it decides by a score of a model, one file in
//! `calibration/`. The
//! pipeline computes what a check asks its evidence for, once for all checks of a verification. No check does I/O, reads a
//! clock, or holds a threshold: thresholds come from the calibration.

mod age_estimation;
mod barcode;
pub(crate) mod document;
mod document_age;
mod document_consistency;
mod document_expiry;
mod document_facts;
pub(crate) mod face_match;
mod face_quality;
mod limits;
mod mrz;
mod passive_liveness;

use std::collections::BTreeMap;

use crate::calibration::{self, LoadedCalibration};
use crate::document::agreement::Comparison;
use crate::document::capture::CaptureWarning;
use crate::document::content::ReadBarcode;
use crate::document::fields::DocumentField;
use crate::document::mrz::Date;
use crate::document::mrz_reader::FoundMrz;
use crate::error::Error;
use crate::face::Face;
use crate::face::age::AgeEstimates;
use crate::face::embed::{Embedding, EmbeddingKind};
use crate::face::liveness::LivenessScore;
use crate::face::quality::FaceQuality;
use crate::imaging::orient::Rotation;
use crate::models::manifest::Role;

/// Every check, in the order in which they are listed and run.
pub static ALL: &[&dyn Check] = &[
    &face_quality::FaceQualityCheck,
    &passive_liveness::PassiveLivenessCheck,
    &face_match::FaceMatch,
    &age_estimation::AgeEstimation,
    &document::DocumentCheck,
    &mrz::MrzCheck,
    &barcode::BarcodeCheck,
    &document_consistency::DocumentConsistency,
    &document_expiry::DocumentExpiry,
    &document_age::DocumentAge,
];

/// Whether a limit of that name, such as `inter_eye_px_min`, means something to a check.
pub fn is_limit(name: &str) -> bool {
    limits::is_known(name)
}

/// The check of that name.
pub fn find(name: &str) -> Option<&'static dyn Check> {
    ALL.iter().copied().find(|check| check.name() == name)
}

/// One question.
pub trait Check: Send + Sync {
    /// Stable name, also that of its calibration file.
    fn name(&self) -> &'static str;

    /// True if it decides by what is written, not by a score of a model: it then needs no calibration.
    fn decides_by_rule(&self) -> bool {
        false
    }

    /// What its score is; the calibration must agree. Empty if it has none.
    fn score_kind(&self) -> &'static str;

    /// The models that take part.
    fn roles(&self) -> &'static [Role];

    /// Whether a verification with these kinds of media can be asked it.
    fn applies_to(&self, media: &[MediaKind]) -> bool;

    /// True if it asks what stands on the document.
    fn reads_document(&self) -> bool {
        false
    }

    /// The numbers that a request may give it.
    fn parameters(&self) -> &'static [Parameter] {
        &[]
    }

    /// Answers the question.
    ///
    /// # Errors
    /// Those of the model runs. That the evidence allows no answer is the outcome [`Outcome::Inconclusive`].
    fn run(&self, evidence: &Evidence<'_>, terms: &Terms<'_>) -> Result<Finding, Error>;
}

/// A number that a request may give to a check.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    pub name: &'static str,
    /// Accepted values, both ends included.
    pub range: [f64; 2],
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    Selfie,
    Portrait,
    Reference,
    DocumentFront,
    DocumentBack,
}

impl MediaKind {
    /// True for a side of a document.
    pub fn is_document(self) -> bool {
        matches!(self, Self::DocumentFront | Self::DocumentBack)
    }

    /// Lower-case word for messages and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Selfie => "selfie",
            Self::Portrait => "portrait",
            Self::Reference => "reference",
            Self::DocumentFront => "document_front",
            Self::DocumentBack => "document_back",
        }
    }
}

/// What one picture has to say about the face in it. Each answer is computed when it is first asked for; `None` means that
/// there is no face.
pub trait FaceEvidence: Send + Sync {
    fn kind(&self) -> MediaKind;

    /// # Errors
    /// Those of decoding and of the detector.
    fn faces(&self) -> Result<&FacesInPicture, Error>;

    /// # Errors
    /// Those of [`faces`](Self::faces) and of the landmark model.
    fn quality(&self) -> Result<Option<FaceQuality>, Error>;

    /// # Errors
    /// Those of [`faces`](Self::faces) and of the embedder.
    fn embedding(&self, kind: EmbeddingKind) -> Result<Option<&Embedding>, Error>;

    /// # Errors
    /// Those of [`faces`](Self::faces) and of the liveness model.
    fn liveness(&self) -> Result<Option<LivenessScore>, Error>;

    /// # Errors
    /// Those of [`faces`](Self::faces) and of the age models.
    fn ages(&self) -> Result<Option<AgeEstimates>, Error>;
}

/// What the pictures of one document have to say. Each answer is computed when it is first asked for. Lists by page are as long as
/// [`media`](Self::media).
pub trait DocumentEvidence: Send + Sync {
    /// What each page shows.
    fn media(&self) -> Vec<MediaKind>;

    /// What each page suffers from; `None` where the document's outline was not found.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    fn captures(&self) -> Result<Vec<Option<Vec<CaptureWarning>>>, Error>;

    /// The machine-readable zone of each page.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    fn zones(&self) -> Result<Vec<Option<&FoundMrz>>, Error>;

    /// The barcodes of each page.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    fn barcodes(&self) -> Result<Vec<Vec<&ReadBarcode>>, Error>;

    /// The fields of zones and barcodes, which are known before those of the visual zone.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    fn coded_fields(&self) -> Result<Vec<&DocumentField>, Error>;

    /// Every field of every page and source.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    fn fields(&self) -> Result<Vec<&DocumentField>, Error>;

    /// What the pages say of the same facts, compared within each source.
    ///
    /// # Errors
    /// Those of decoding and of the models.
    fn between_pages(&self) -> Result<Vec<Comparison>, Error>;
}

/// The faces of one picture, as far as checks are concerned.
#[derive(Debug, Clone)]
pub struct FacesInPicture {
    /// The main face first. Pixels of the analysed picture.
    pub faces: Vec<Face>,
    /// How the picture had to be turned.
    pub rotation: Rotation,
    /// Length of one pixel of the analysed picture in pixels of the source.
    pub source_px: f64,
    /// For a page of a document.
    pub on_document: Option<OnDocument>,
}

/// How far a face on a page of a document is known to be its portrait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDocument {
    /// The document's outline, or its zone, tells that the faces are on it.
    pub confirmed: bool,
    /// Place of the page in the document, counted from 0.
    pub page: usize,
}

/// Warnings over a portrait that leave no match without a person's look.
pub(crate) const PORTRAIT_DOUBTS: [&str; 3] =
    ["PORTRAIT_NOT_CONFIRMED", "PORTRAIT_ON_OTHER_PAGE", "SEVERAL_FACES_ON_DOCUMENT"];

/// A second face on a document is a doubt if its area is at least this share of the portrait's; the second images of portraits that many
/// documents show are smaller.
const SECOND_PORTRAIT_SHARE: f64 = 0.3;

/// A further face is worth a warning if its area is at least this share of the main face's; smaller ones are people far behind.
pub(crate) const FURTHER_FACE_SHARE: f64 = 0.1;

impl FacesInPicture {
    pub fn main(&self) -> Option<&Face> {
        self.faces.first()
    }

    /// Distance between the eyes of the main face in source pixels.
    pub fn inter_eye_px(&self) -> Option<f64> {
        self.main().map(|face| face.inter_eye_px() * self.source_px)
    }

    /// What is to be said of the picture whichever check looks at it.
    pub fn warnings(&self, media: MediaKind) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let Some(main) = self.main() else {
            let (code, message) = if media.is_document() {
                ("PORTRAIT_NOT_FOUND", "no portrait was found on the document")
            } else {
                ("NO_FACE_DETECTED", "no face was found")
            };
            return vec![Warning::new(code, message, media)];
        };
        let others = |share: f64| {
            let further = |face: &&Face| face.bounds.area() >= share * main.bounds.area();
            self.faces[1..].iter().filter(further).count()
        };
        if let Some(OnDocument { confirmed, page }) = self.on_document {
            let [not_confirmed, other_page, several] = PORTRAIT_DOUBTS;
            let doubts = [
                (!confirmed, not_confirmed, "neither outline nor zone tells whether the face is on the document"),
                (page > 0, other_page, "the portrait is not on the first page of the document"),
                (others(SECOND_PORTRAIT_SHARE) > 0, several, "the document shows more than one large face"),
            ];
            let holding = doubts.into_iter().filter(|(holds, ..)| *holds);
            warnings.extend(holding.map(|(_, code, message)| Warning::new(code, message, media)));
            return warnings;
        }
        let others = others(FURTHER_FACE_SHARE);
        if others > 0 {
            let message = format!("{} faces; the largest and most central one was used", others + 1);
            warnings.push(Warning::new("MULTIPLE_FACES", message, media));
        }
        if self.rotation != Rotation::R0 {
            let message = format!("the picture was turned by {} degrees clockwise", self.rotation.degrees());
            warnings.push(Warning::new("IMAGE_ROTATED", message, media));
        }
        warnings
    }
}

/// The pictures of one verification.
#[derive(Clone, Copy, Default)]
pub struct Evidence<'a> {
    pub selfie: Option<&'a dyn FaceEvidence>,
    /// The picture that the selfie is matched with: the portrait; without one the front of the document; without that the reference.
    pub other_side: Option<&'a dyn FaceEvidence>,
    pub document: Option<&'a dyn DocumentEvidence>,
    /// What the caller says of the person and the document.
    pub claims: &'a [DocumentField],
}

/// On which terms a check decides.
pub struct Terms<'a> {
    /// The check's calibration, if one was measured with the models that are loaded.
    pub calibration: Option<&'a LoadedCalibration>,
    /// The operating point asked for; `None` if there is no calibration.
    pub operating_point: Option<&'a calibration::OperatingPoint>,
    /// Numbers given in the request, by name; names and ranges have been checked.
    pub parameters: &'a BTreeMap<String, f64>,
    /// The day of the check.
    pub today: Date,
}

/// The answer to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Fail,
    Review,
    Inconclusive,
    Skipped,
}

impl From<calibration::Decision> for Outcome {
    fn from(decision: calibration::Decision) -> Self {
        match decision {
            calibration::Decision::Accept => Self::Pass,
            calibration::Decision::Review => Self::Review,
            calibration::Decision::Reject => Self::Fail,
        }
    }
}

impl Outcome {
    /// The upper-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Review => "REVIEW",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Skipped => "SKIPPED",
        }
    }

    /// The outcome of several checks together: the most severe. Skipped ones count only if there is nothing else.
    pub fn most_severe(outcomes: impl IntoIterator<Item = Self>) -> Self {
        let severity = |outcome: &Self| match outcome {
            Self::Skipped => 0,
            Self::Pass => 1,
            Self::Inconclusive => 2,
            Self::Review => 3,
            Self::Fail => 4,
        };
        outcomes.into_iter().max_by_key(severity).unwrap_or(Self::Skipped)
    }
}

/// Something worth knowing beside an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Stable upper-case code.
    pub code: &'static str,
    /// For a person; holds no personal data.
    pub message: String,
    pub media: Option<MediaKind>,
}

impl Warning {
    pub fn new(code: &'static str, message: impl Into<String>, media: MediaKind) -> Self {
        Self { code, message: message.into(), media: Some(media) }
    }
}

/// A threshold as it was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct AppliedPoint {
    pub name: String,
    pub threshold: f64,
    /// Measured rates by ISO name in lower case.
    pub rates: BTreeMap<String, f64>,
}

impl From<&calibration::OperatingPoint> for AppliedPoint {
    fn from(point: &calibration::OperatingPoint) -> Self {
        let rates = point.rates.iter().map(|(name, rate)| (name.clone(), rate.value)).collect();
        Self { name: point.name.clone(), threshold: point.threshold, rates }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub outcome: Outcome,
    pub score: Option<f64>,
    pub calibrated: Option<calibration::CalibratedValue>,
    pub operating_point: Option<AppliedPoint>,
    pub warnings: Vec<Warning>,
    /// Further numbers by name, with the unit as suffix.
    pub measurements: BTreeMap<&'static str, f64>,
}

impl Finding {
    /// A finding without an answer yet; `warnings` say why, if it stays so.
    pub fn inconclusive(warnings: Vec<Warning>) -> Self {
        Self {
            outcome: Outcome::Inconclusive,
            score: None,
            calibrated: None,
            operating_point: None,
            warnings,
            measurements: BTreeMap::new(),
        }
    }

    /// Applies the operating point to the score. Without a calibration the score stands alone and the outcome stays inconclusive.
    pub(crate) fn decide(mut self, score: f64, terms: &Terms<'_>) -> Self {
        self.score = Some(score);
        match (terms.calibration, terms.operating_point) {
            (Some(loaded), Some(point)) => {
                self.outcome = loaded.calibration.decide(point, score).into();
                self.calibrated = loaded.calibration.calibrate(score);
                self.operating_point = Some(point.into());
            }
            _ => self.warnings.push(not_calibrated()),
        }
        self
    }
}

fn not_calibrated() -> Warning {
    Warning {
        code: "NOT_CALIBRATED",
        message: "no calibration was measured with the models that are loaded; the score allows no decision".into(),
        media: None,
    }
}

/// Evidence and calibrations made up for the tests of the checks.
#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;

    use super::*;
    use crate::document::barcode::{Attempt, Barcode, Symbology};
    use crate::document::fields::Source;
    use crate::document::mrz::{ReadLine, repair};
    use crate::document::{aamva, fields};
    use crate::face::Bounds;
    use crate::face::landmarks::HeadPose;

    /// A picture with known answers.
    pub struct FakePicture {
        pub kind: MediaKind,
        pub faces: FacesInPicture,
        pub quality: Option<FaceQuality>,
        pub embedding: Option<Embedding>,
        pub liveness: Option<LivenessScore>,
        pub ages: Option<AgeEstimates>,
    }

    impl FaceEvidence for FakePicture {
        fn kind(&self) -> MediaKind {
            self.kind
        }
        fn faces(&self) -> Result<&FacesInPicture, Error> {
            Ok(&self.faces)
        }
        fn quality(&self) -> Result<Option<FaceQuality>, Error> {
            Ok(self.quality)
        }
        fn embedding(&self, _kind: EmbeddingKind) -> Result<Option<&Embedding>, Error> {
            Ok(self.embedding.as_ref())
        }
        fn liveness(&self) -> Result<Option<LivenessScore>, Error> {
            Ok(self.liveness)
        }
        fn ages(&self) -> Result<Option<AgeEstimates>, Error> {
            Ok(self.ages)
        }
    }

    /// A document of one page with known answers.
    pub struct FakeDocument {
        pub zone: Option<FoundMrz>,
        pub barcode: Option<ReadBarcode>,
        pub fields: Vec<DocumentField>,
    }

    impl FakeDocument {
        pub fn empty() -> Self {
            Self { zone: None, barcode: None, fields: Vec::new() }
        }

        /// A page with these lines, read without a doubt.
        pub fn with_mrz(lines: &[&str]) -> Self {
            let lines: Vec<_> = lines.iter().map(|line| ReadLine::from_text(line)).collect();
            let repaired = repair(&lines, today()).unwrap();
            let fields = fields::of_mrz(&repaired.mrz);
            Self {
                zone: Some(FoundMrz { repaired, read: lines, of_these_lengths: 1.0, quad: [[0.0; 2]; 4] }),
                barcode: None,
                fields,
            }
        }

        /// The back of a licence.
        pub fn with_licence() -> Self {
            let text = "@\n\u{1e}\rANSI 636014100102DL00410081DLDAQD1234567\nDCSSPECIMEN\nDDEN\nDACALEXANDRA\nDDFN\nDADNONE\nDDGN\n\
                        DBB01151985\nDBA01152029\nDBD08242019\nDBC2\nDCGUSA\r";
            let barcode = Barcode {
                symbology: Symbology::Pdf417,
                bytes: text.as_bytes().to_vec(),
                text: text.to_owned(),
                quad: [[0.0; 2]; 4],
                part: None,
                inverted: false,
                found_by: Attempt::Plain,
                agreed: true,
            };
            let licence = aamva::parse(text.as_bytes()).unwrap();
            let fields = fields::of_aamva(&licence);
            Self { zone: None, barcode: Some(ReadBarcode { symbol: barcode, licence: Some(licence) }), fields }
        }
    }

    impl DocumentEvidence for FakeDocument {
        fn media(&self) -> Vec<MediaKind> {
            vec![MediaKind::DocumentFront]
        }
        fn zones(&self) -> Result<Vec<Option<&FoundMrz>>, Error> {
            Ok(vec![self.zone.as_ref()])
        }
        fn barcodes(&self) -> Result<Vec<Vec<&ReadBarcode>>, Error> {
            Ok(vec![self.barcode.iter().collect()])
        }
        fn captures(&self) -> Result<Vec<Option<Vec<CaptureWarning>>>, Error> {
            Ok(vec![None])
        }
        fn coded_fields(&self) -> Result<Vec<&DocumentField>, Error> {
            Ok(self.fields.iter().filter(|field| field.source != Source::Visual).collect())
        }
        fn between_pages(&self) -> Result<Vec<Comparison>, Error> {
            Ok(Vec::new())
        }

        fn fields(&self) -> Result<Vec<&DocumentField>, Error> {
            Ok(self.fields.iter().collect())
        }
    }

    /// The day of the check in tests that do not care.
    fn today() -> Date {
        Date::new(2026, 11, 23).unwrap()
    }

    pub fn face(x: f64, size: f64) -> Face {
        let at = |share_x: f64, share_y: f64| [x + share_x * size, share_y * size];
        Face {
            bounds: Bounds { x, y: 0.0, width: size, height: size },
            score: 0.9,
            landmarks: [at(0.3, 0.4), at(0.7, 0.4), at(0.5, 0.6), at(0.35, 0.8), at(0.65, 0.8)],
        }
    }

    /// A good picture of one face.
    pub fn picture(kind: MediaKind) -> FakePicture {
        let pose = HeadPose { yaw_deg: 2.0, pitch_deg: -3.0, roll_deg: 1.0, presence: 0.99 };
        FakePicture {
            kind,
            faces: FacesInPicture {
                faces: vec![face(100.0, 200.0)],
                rotation: Rotation::R0,
                source_px: 1.0,
                on_document: None,
            },
            quality: Some(FaceQuality {
                inter_eye_px: 80.0,
                sharpness: 300.0,
                luma_mean: 120.0,
                under_exposed: 0.01,
                over_exposed: 0.01,
                pose,
                cut_off_px: 0.0,
            }),
            embedding: Embedding::normalised(&[1.0, 0.0]),
            liveness: Some(LivenessScore { live: 0.9, crop_scale: 2.7 }),
            ages: Some(AgeEstimates { age_a_years: 30.0, age_b_years: 34.0 }),
        }
    }

    /// A picture without a face.
    pub fn empty(kind: MediaKind) -> FakePicture {
        FakePicture {
            kind,
            faces: FacesInPicture { faces: vec![], rotation: Rotation::R0, source_px: 1.0, on_document: None },
            quality: None,
            embedding: None,
            liveness: None,
            ages: None,
        }
    }

    /// The calibration that ships with the product.
    pub fn shipped(check: &str) -> LoadedCalibration {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("calibration").join(format!("{check}.toml"));
        LoadedCalibration::load(&path).unwrap()
    }

    /// Runs a check with a calibration's default operating point and the given parameters.
    pub fn run(
        check: &dyn Check,
        evidence: &Evidence<'_>,
        loaded: Option<&LoadedCalibration>,
        parameters: &[(&str, f64)],
    ) -> Finding {
        run_on(check, evidence, loaded, parameters, today())
    }

    /// As [`run`], on a given day.
    pub fn run_on(
        check: &dyn Check,
        evidence: &Evidence<'_>,
        loaded: Option<&LoadedCalibration>,
        parameters: &[(&str, f64)],
        today: Date,
    ) -> Finding {
        let parameters = parameters.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let operating_point = loaded.and_then(|loaded| loaded.calibration.operating_point(""));
        check.run(evidence, &Terms { calibration: loaded, operating_point, parameters: &parameters, today }).unwrap()
    }

    pub fn codes(finding: &Finding) -> Vec<&'static str> {
        finding.warnings.iter().map(|warning| warning.code).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_outcome_wins_and_skipped_ones_do_not_count() {
        use Outcome::*;
        assert_eq!(Outcome::most_severe([Pass, Skipped, Pass]), Pass);
        assert_eq!(Outcome::most_severe([Pass, Inconclusive]), Inconclusive);
        assert_eq!(Outcome::most_severe([Inconclusive, Review]), Review);
        assert_eq!(Outcome::most_severe([Review, Fail, Pass]), Fail);
        assert_eq!(Outcome::most_severe([]), Skipped);
    }

    #[test]
    fn every_check_has_its_shipped_calibration_with_the_same_score_kind_and_models() {
        for check in ALL.iter().filter(|check| !check.decides_by_rule()) {
            let loaded = testing::shipped(check.name());
            assert_eq!(loaded.calibration.score_kind, check.score_kind(), "{}", check.name());
            let mut roles: Vec<String> = check.roles().iter().map(|role| role.name().to_owned()).collect();
            roles.sort();
            let bound: Vec<String> = loaded.calibration.models.keys().cloned().collect();
            assert_eq!(bound, roles, "{}", check.name());
            for point in &loaded.calibration.operating_points {
                let unknown: Vec<_> = point.limits.keys().filter(|limit| !limits::is_known(limit)).collect();
                assert!(unknown.is_empty(), "{}: {unknown:?}", check.name());
            }
        }
    }

    #[test]
    fn a_small_face_behind_is_no_second_person() {
        let mut faces = testing::picture(MediaKind::Selfie).faces;
        faces.faces.push(testing::face(0.0, 40.0));
        assert_eq!(faces.warnings(MediaKind::Selfie), []);
        faces.faces.push(testing::face(0.0, 100.0));
        assert_eq!(faces.warnings(MediaKind::Selfie)[0].code, "MULTIPLE_FACES");
    }
}
