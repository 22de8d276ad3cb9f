//! `barcode`: is there a barcode that tells what the document says?
//!
//! Decides by rule, without a score. Understood are the licences of North America (AAMVA). Documents that prove themselves by a
//! machine-readable zone need none: the check is then SKIPPED.

use super::{Check, Evidence, Finding, MediaKind, Outcome, Terms, Warning};
use crate::document::aamva::AamvaWarning;
use crate::error::Error;
use crate::models::manifest::Role;

pub struct BarcodeCheck;

impl Check for BarcodeCheck {
    fn name(&self) -> &'static str {
        "barcode"
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
        &[]
    }

    fn applies_to(&self, media: &[MediaKind]) -> bool {
        media.iter().any(|kind| kind.is_document())
    }

    fn run(&self, evidence: &Evidence<'_>, _: &Terms<'_>) -> Result<Finding, Error> {
        let Some(document) = evidence.document else {
            return Err(Error::internal("barcode was planned without a document"));
        };
        let barcodes = document.barcodes()?;
        let mut finding = Finding::inconclusive(Vec::new());
        finding.measurements.insert("barcodes", barcodes.iter().map(Vec::len).sum::<usize>() as f64);
        for (page, media) in barcodes.iter().zip(document.media()) {
            for licence in page.iter().filter_map(|barcode| barcode.licence.as_ref()) {
                let warnings = licence.warnings.iter().map(|warning| warning.code());
                let message = "the text is not as the standard asks";
                finding.warnings.extend(warnings.map(|code| Warning::new(code, message, media)));
                let absurd = licence.warnings.iter().any(is_absurd);
                let outcome = if absurd { Outcome::Review } else { Outcome::Pass };
                finding.outcome = match finding.outcome {
                    Outcome::Inconclusive => outcome,
                    known => Outcome::most_severe([known, outcome]),
                };
            }
        }
        if finding.outcome != Outcome::Inconclusive {
            return Ok(finding);
        }
        for (page, media) in barcodes.iter().zip(document.media()) {
            finding.warnings.push(if page.is_empty() {
                Warning::new("BARCODE_NOT_FOUND", "no barcode was found in the picture", media)
            } else {
                Warning::new("BARCODE_NOT_UNDERSTOOD", "the barcode does not hold the text of a licence", media)
            });
        }
        if document.zones()?.iter().flatten().any(|zone| zone.repaired.mrz.all_check_digits_valid()) {
            finding.outcome = Outcome::Skipped;
        }
        Ok(finding)
    }
}

/// Text that no card of an issuer holds; the other warnings are about habits of issuers and damage of readers, which are made good.
fn is_absurd(warning: &AamvaWarning) -> bool {
    matches!(
        warning,
        AamvaWarning::UnknownIssuer
            | AamvaWarning::DateInvalid
            | AamvaWarning::DateOrder
            | AamvaWarning::JurisdictionMismatch
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeDocument, codes, run};
    use super::*;

    fn check(document: &FakeDocument) -> Finding {
        run(&BarcodeCheck, &Evidence { document: Some(document), ..Evidence::default() }, None, &[])
    }

    #[test]
    fn a_licence_passes_and_nothing_is_inconclusive() {
        let licence = check(&FakeDocument::with_licence());
        assert_eq!((licence.outcome, licence.measurements["barcodes"]), (Outcome::Pass, 1.0), "{licence:?}");
        let nothing = check(&FakeDocument::empty());
        assert_eq!((nothing.outcome, codes(&nothing)), (Outcome::Inconclusive, vec!["BARCODE_NOT_FOUND"]));
    }

    #[test]
    fn a_proved_zone_needs_no_barcode() {
        let passport = FakeDocument::with_mrz(&[
            "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
            "L898902C36UTO7408122F1204159ZE184226B<<<<<10",
        ]);
        assert_eq!(check(&passport).outcome, Outcome::Skipped);
    }
}
