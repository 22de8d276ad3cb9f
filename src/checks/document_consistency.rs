//! `document_consistency`: do all sources say the same? Machine-readable zone, barcode, visual zone, and what the caller claims.
//!
//! Decides by rule. What zone, barcode and claims contradict fails. A contradiction of the visual zone is REVIEW: where its values stand is
//! found by labels and layout, which are the document's own. Without two sources of one fact the check is SKIPPED; claims that the document
//! says nothing about leave it INCONCLUSIVE. Warnings name fields and sources, never values.

use super::{Check, Evidence, Finding, MediaKind, Outcome, Terms, Warning};
use crate::document::agreement::{Agreement, Comparison, cross_check};
use crate::document::fields::{DocumentField, Source};
use crate::error::Error;
use crate::models::manifest::Role;

pub struct DocumentConsistency;

impl Check for DocumentConsistency {
    fn name(&self) -> &'static str {
        "document_consistency"
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
            return Err(Error::internal("document_consistency was planned without a document"));
        };
        let fields: Vec<DocumentField> = document.fields()?.into_iter().chain(evidence.claims).cloned().collect();
        let comparisons: Vec<Comparison> = cross_check(&fields).into_iter().chain(document.between_pages()?).collect();
        Ok(judge(&comparisons, evidence.claims))
    }
}

fn judge(comparisons: &[Comparison], claims: &[DocumentField]) -> Finding {
    let mut finding = Finding::inconclusive(Vec::new());
    let count = |agreement: &[Agreement]| {
        comparisons.iter().filter(|comparison| agreement.contains(&comparison.agreement)).count() as f64
    };
    finding.measurements.extend([
        ("comparisons_agreeing", count(&[Agreement::Agrees, Agreement::AgreesAsFarAsPrinted])),
        ("comparisons_unsure", count(&[Agreement::Unsure])),
        ("comparisons_differing", count(&[Agreement::Differs])),
    ]);
    for comparison in comparisons {
        let Some(code) = comparison.code() else { continue };
        let [a, b] = comparison.sources.map(Source::code);
        let detail = comparison.detail.map(|detail| format!(" ({})", detail.code())).unwrap_or_default();
        let message = format!("{} of {a} and {b}{detail}", comparison.name);
        finding.warnings.push(Warning { code, message, media: None });
    }
    let unanswered: Vec<&str> = claims
        .iter()
        .map(|claim| claim.name)
        .filter(|name| {
            !comparisons.iter().any(|comparison| {
                // A document that gives the full name alone is compared with both parts of a claimed one.
                let is_part = comparison.name == "full_name" && matches!(*name, "family_name" | "given_names");
                (comparison.name == *name || is_part)
                    && comparison.sources.contains(&Source::Claim)
                    && comparison.agreement != Agreement::NotComparable
            })
        })
        .collect();
    for name in &unanswered {
        let message = format!("the document says nothing about {name} that was read");
        finding.warnings.push(Warning { code: "CLAIM_NOT_ON_DOCUMENT", message, media: None });
    }
    let outcomes = comparisons.iter().map(outcome);
    finding.outcome = match Outcome::most_severe(outcomes) {
        Outcome::Pass | Outcome::Skipped if !unanswered.is_empty() => Outcome::Inconclusive,
        outcome => outcome,
    };
    finding
}

fn outcome(comparison: &Comparison) -> Outcome {
    match comparison.agreement {
        Agreement::Agrees | Agreement::AgreesAsFarAsPrinted => Outcome::Pass,
        Agreement::NotComparable => Outcome::Skipped,
        Agreement::Unsure => Outcome::Review,
        Agreement::Differs if comparison.sources.contains(&Source::Visual) => Outcome::Review,
        Agreement::Differs => Outcome::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeDocument, codes, run};
    use super::*;
    use crate::document::agreement::claim;

    /// Of Anna Maria Eriksson, born on 12 August 1974.
    fn check(claims: &[(&str, &str)]) -> Finding {
        let document = FakeDocument::with_mrz(&[
            "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
            "L898902C36UTO7408122F1204159ZE184226B<<<<<10",
        ]);
        let claims: Vec<_> = claims.iter().map(|(name, value)| claim(name, value).unwrap()).collect();
        let evidence = Evidence { document: Some(&document), claims: &claims, ..Evidence::default() };
        run(&DocumentConsistency, &evidence, None, &[])
    }

    #[test]
    fn claims_in_the_caller_s_spelling_pass() {
        let finding = check(&[("family_name", "Eriksson"), ("given_names", "Anna"), ("birth_date", "1974-08-12")]);
        assert_eq!((finding.outcome, codes(&finding)), (Outcome::Pass, vec![]), "{finding:?}");
        assert_eq!(finding.measurements["comparisons_agreeing"], 3.0);
    }

    #[test]
    fn another_birth_date_fails_and_no_value_is_told() {
        let finding = check(&[("family_name", "Eriksson"), ("birth_date", "1974-08-13")]);
        assert_eq!((finding.outcome, codes(&finding)), (Outcome::Fail, vec!["BIRTH_DATE_DIFFERS"]));
        assert_eq!(finding.warnings[0].message, "birth_date of MRZ and CLAIM");
    }

    #[test]
    fn claims_that_leave_something_out_do_not_pass() {
        assert_eq!(check(&[("given_names", "Anna Maria")]).outcome, Outcome::Pass);
        let other = check(&[("given_names", "Bob")]);
        assert_eq!((other.outcome, codes(&other)), (Outcome::Fail, vec!["GIVEN_NAMES_DIFFER"]));
        assert_eq!(check(&[("full_name", "Anna Maria Eriksson")]).outcome, Outcome::Pass);
        assert_eq!(check(&[("full_name", "Eriksson")]).outcome, Outcome::Review);
        assert_eq!(check(&[("birth_date", "1874-08-12")]).outcome, Outcome::Fail);
        assert_eq!(check(&[("document_number", "L898902C")]).outcome, Outcome::Fail);
        assert_eq!(check(&[("document_number", "L898902C36")]).outcome, Outcome::Pass, "with its check digit");
    }

    #[test]
    fn one_source_is_nothing_to_compare_and_a_claim_may_stay_open() {
        assert_eq!(check(&[]).outcome, Outcome::Skipped);
        let open = check(&[("family_name", "Eriksson"), ("personal_number", "12345")]);
        assert_eq!((open.outcome, codes(&open)), (Outcome::Inconclusive, vec!["CLAIM_NOT_ON_DOCUMENT"]));
    }
}
