//! `document`: does the picture show a document that can be read?
//!
//! Decides by rule: PASS when the facts that every document has (number, family name, birth date) were read from any source, REVIEW when some
//! of them are missing or uncertain, INCONCLUSIVE when nothing was read. What the photograph suffers from is told in warnings, which ask for a
//! better picture and decide nothing: what was read in spite of them has been read.

use super::document_facts::is_certain;
use super::{Check, Evidence, Finding, MediaKind, Outcome, Terms, Warning};
use crate::document::capture::CaptureWarning;
use crate::error::Error;
use crate::models::manifest::Role;

pub struct DocumentCheck;

/// Each with the names of the fields that hold it.
const NEEDED: [(&str, &[&str]); 3] = [
    ("document number", &["document_number"]),
    ("name", &["family_name", "full_name"]),
    ("birth date", &["birth_date"]),
];

impl Check for DocumentCheck {
    fn name(&self) -> &'static str {
        "document"
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
        &[Role::PageLocator, Role::TextDetector, Role::MrzRecogniser, Role::TextRecogniser]
    }

    fn applies_to(&self, media: &[MediaKind]) -> bool {
        media.iter().any(|kind| kind.is_document())
    }

    fn run(&self, evidence: &Evidence<'_>, _: &Terms<'_>) -> Result<Finding, Error> {
        let Some(document) = evidence.document else {
            return Err(Error::internal("document was planned without a document"));
        };
        let mut finding = Finding::inconclusive(Vec::new());
        let fields = document.fields()?;
        for (capture, media) in document.captures()?.into_iter().zip(document.media()) {
            match capture {
                Some(warnings) => finding
                    .warnings
                    .extend(warnings.iter().map(|warning| Warning::new(warning.code(), message(*warning), media))),
                None if fields.is_empty() => {
                    finding.warnings.push(Warning::new("DOCUMENT_NOT_FOUND", "no document was found", media));
                }
                // The outline is not needed where the content was read.
                None => {}
            }
        }
        if fields.is_empty() {
            return Ok(finding);
        }
        let mut complete = true;
        for (fact, names) in NEEDED {
            let known = fields.iter().filter(|field| names.contains(&field.name) && field.value.is_some());
            let (count, certain) =
                known.fold((0, false), |(count, certain), field| (count + 1, certain || is_certain(field)));
            let media = document.media().first().copied();
            if count == 0 {
                let message = format!("no {fact} was read");
                finding.warnings.push(Warning { code: "DOCUMENT_FACT_MISSING", message, media });
            } else if !certain {
                let message = format!("the {fact} was not read with certainty");
                finding.warnings.push(Warning { code: "DOCUMENT_FACT_UNCERTAIN", message, media });
            }
            complete &= certain;
        }
        finding.outcome = if complete { Outcome::Pass } else { Outcome::Review };
        Ok(finding)
    }
}

/// What to tell a person.
pub(crate) fn message(warning: CaptureWarning) -> &'static str {
    match warning {
        CaptureWarning::DocumentCutOff => "a part of the document lies outside the picture",
        CaptureWarning::Blurred => "the document is blurred",
        CaptureWarning::Glare => "a reflection covers a part of the document",
        CaptureWarning::TooDark => "the document is too dark",
        CaptureWarning::TooSmall => "the document has too few pixels; go nearer",
        CaptureWarning::ColourCopySuspected => "the document has no colours; it may be a copy",
        CaptureWarning::Mirrored => "the picture is mirrored; send it as the camera took it",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeDocument, codes, run};
    use super::*;

    fn check(document: &FakeDocument) -> Finding {
        run(&DocumentCheck, &Evidence { document: Some(document), ..Evidence::default() }, None, &[])
    }

    #[test]
    fn facts_that_were_read_pass_and_nothing_is_inconclusive() {
        assert_eq!(check(&FakeDocument::with_licence()).outcome, Outcome::Pass);
        let nothing = check(&FakeDocument::empty());
        assert_eq!((nothing.outcome, codes(&nothing)), (Outcome::Inconclusive, vec!["DOCUMENT_NOT_FOUND"]));
    }

    #[test]
    fn an_uncertain_birth_date_is_for_a_person() {
        let wrong_digit = check(&FakeDocument::with_mrz(&[
            "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
            "L898902C36UTO7408123F1204159ZE184226B<<<<<10",
        ]));
        assert_eq!((wrong_digit.outcome, codes(&wrong_digit)), (Outcome::Review, vec!["DOCUMENT_FACT_UNCERTAIN"]));
    }
}
