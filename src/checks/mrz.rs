//! `mrz`: is there a machine-readable zone, and does it prove itself?
//!
//! Decides by rule, without a score: the check digits of ICAO Doc 9303 are right or wrong. A wrong digit fails where the characters could
//! not be read otherwise, and is REVIEW where they could. A zone whose digits are right is REVIEW if a field remains open or says what cannot be.
//! Documents that tell their facts in a barcode have none: the check is then SKIPPED.

use super::{Check, DocumentEvidence, Evidence, Finding, MediaKind, Outcome, Terms, Warning};
use crate::document::fields::{self, DocumentField};
use crate::document::mrz::{Certainty, CheckDigit};
use crate::document::mrz_reader::FoundMrz;
use crate::error::Error;
use crate::models::manifest::Role;

pub struct MrzCheck;

impl Check for MrzCheck {
    fn name(&self) -> &'static str {
        "mrz"
    }

    fn decides_by_rule(&self) -> bool {
        true
    }

    fn reads_document(&self) -> bool {
        true
    }

    fn score_kind(&self) -> &'static str {
        ""
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::PageLocator, Role::TextDetector, Role::MrzRecogniser]
    }

    fn applies_to(&self, media: &[MediaKind]) -> bool {
        media.iter().any(|kind| kind.is_document())
    }

    fn run(&self, evidence: &Evidence<'_>, _: &Terms<'_>) -> Result<Finding, Error> {
        let Some(document) = evidence.document else {
            return Err(Error::internal("mrz was planned without a document"));
        };
        let zones = document.zones()?;
        let found: Vec<_> =
            zones.iter().zip(document.media()).filter_map(|(zone, media)| Some(((*zone)?, media))).collect();
        let has_valid = |zone: &FoundMrz| zone.repaired.mrz.check_digits().any(|(_, digit)| digit == CheckDigit::Valid);
        let any_valid = found.iter().any(|(zone, _)| has_valid(zone));
        // A card may show a line of text on its other side that only looks like a zone. Of zones the worst counts: a good one on
        // another page proves nothing for a bad one.
        let judged =
            found.iter().filter(|(zone, _)| !any_valid || has_valid(zone)).map(|&(zone, media)| judge(zone, media));
        let judged: Vec<Finding> = judged.collect();
        let worst = Outcome::most_severe(judged.iter().map(|finding| finding.outcome));
        judged.into_iter().find(|finding| finding.outcome == worst).map_or_else(|| not_found(document), Ok)
    }
}

fn judge(zone: &FoundMrz, media: MediaKind) -> Finding {
    let mrz = &zone.repaired.mrz;
    let mut finding = Finding::inconclusive(Vec::new());
    let digits: Vec<CheckDigit> = mrz.check_digits().map(|(_, digit)| digit).collect();
    let valid = digits.iter().filter(|digit| **digit == CheckDigit::Valid).count();
    let failed = digits.iter().filter(|digit| matches!(digit, CheckDigit::Failed { .. })).count();
    finding.measurements.extend([
        ("check_digits_valid", valid as f64),
        ("check_digits_failed", failed as f64),
        ("repairs", zone.repaired.repairs.len() as f64),
    ]);
    let fields = fields::of_mrz(mrz);
    let uncertain = fields.iter().filter(|field| field.certainty == Certainty::Uncertain);
    let open = uncertain.clone().any(|field| !field.alternatives.is_empty());
    let mut warn = |code, message: &str| finding.warnings.push(Warning::new(code, message, media));
    if failed > 0 {
        warn("MRZ_CHECK_DIGIT_FAILED", "a check digit does not fit its field");
    }
    if uncertain.count() > 0 && (open || failed == 0) {
        warn("MRZ_UNCERTAIN", "characters could be read otherwise, and no check digit decides");
    }
    let absurd = absurdities(&fields);
    for code in &absurd {
        warn(code, "a field says what cannot be");
    }
    finding.outcome = match (failed, open) {
        (1.., false) => Outcome::Fail,
        (1.., true) => Outcome::Review,
        (0, _) if finding.warnings.is_empty() => Outcome::Pass,
        (0, _) => Outcome::Review,
    };
    finding
}

fn absurdities(fields: &[DocumentField]) -> Vec<&'static str> {
    let mut codes: Vec<_> = fields.iter().flat_map(|field| &field.warnings).copied().collect();
    codes.retain(|code| fields::is_absurd(code));
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn not_found(document: &dyn DocumentEvidence) -> Result<Finding, Error> {
    let mut warnings = Vec::new();
    for media in document.media() {
        warnings.push(Warning::new("MRZ_NOT_FOUND", "no machine-readable zone was found in the picture", media));
    }
    let mut finding = Finding::inconclusive(warnings);
    if document.barcodes()?.iter().flatten().any(|barcode| barcode.licence.is_some()) {
        finding.outcome = Outcome::Skipped;
    }
    Ok(finding)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeDocument, codes, run};
    use super::*;

    const FIRST: &str = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<";
    const SECOND: &str = "L898902C36UTO7408122F1204159ZE184226B<<<<<10";

    fn check(document: &FakeDocument) -> Finding {
        run(&MrzCheck, &Evidence { document: Some(document), ..Evidence::default() }, None, &[])
    }

    #[test]
    fn right_digits_pass_and_a_wrong_one_fails() {
        let good = check(&FakeDocument::with_mrz(&[FIRST, SECOND]));
        assert_eq!((good.outcome, codes(&good)), (Outcome::Pass, vec![]));
        assert_eq!(good.measurements["check_digits_valid"], 5.0);
        let wrong = check(&FakeDocument::with_mrz(&[FIRST, "L898902C36UTO7408123F1204159ZE184226B<<<<<10"]));
        assert_eq!((wrong.outcome, codes(&wrong)), (Outcome::Fail, vec!["MRZ_CHECK_DIGIT_FAILED"]));
    }

    #[test]
    fn right_digits_over_an_absurd_date_are_for_a_person() {
        // 31 February 1974, with its right check digits.
        let absurd = check(&FakeDocument::with_mrz(&[FIRST, "L898902C36UTO7402315F1204159ZE184226B<<<<<16"]));
        assert_eq!(absurd.outcome, Outcome::Review, "{absurd:?}");
        assert!(codes(&absurd).contains(&"MRZ_DATE_IMPOSSIBLE"), "{absurd:?}");
        assert_eq!(absurd.measurements["check_digits_failed"], 0.0);
    }

    #[test]
    fn no_zone_is_inconclusive_and_skipped_where_a_barcode_tells_all() {
        let nothing = check(&FakeDocument::empty());
        assert_eq!((nothing.outcome, codes(&nothing)), (Outcome::Inconclusive, vec!["MRZ_NOT_FOUND"]));
        let licence = check(&FakeDocument::with_licence());
        assert_eq!(licence.outcome, Outcome::Skipped);
    }
}
