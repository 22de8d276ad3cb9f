//! `document_expiry`: is the document still valid?
//!
//! Score: days from the day of the check to the last day of validity, 0 on that day, negative after it. Decides by rule: FAIL when that day has
//! passed, or comes sooner than `minimum_days_valid` asks. A date that was not read with certainty, or of which parts are unknown, fails or passes
//! only where every day that it may stand for does; else it is REVIEW.

use super::document_facts::{Reading, date};
use super::{Check, Evidence, Finding, MediaKind, Outcome, Parameter, Terms, Warning};
use crate::error::Error;
use crate::models::manifest::Role;

pub struct DocumentExpiry;

const MINIMUM_DAYS: &str = "minimum_days_valid";

impl Check for DocumentExpiry {
    fn name(&self) -> &'static str {
        "document_expiry"
    }

    fn decides_by_rule(&self) -> bool {
        true
    }

    fn reads_document(&self) -> bool {
        true
    }

    fn score_kind(&self) -> &'static str {
        "days_left"
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::PageLocator, Role::TextDetector, Role::MrzRecogniser]
    }

    fn applies_to(&self, media: &[MediaKind]) -> bool {
        media.iter().any(|kind| kind.is_document())
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter { name: MINIMUM_DAYS, range: [0.0, 3650.0] }]
    }

    fn run(&self, evidence: &Evidence<'_>, terms: &Terms<'_>) -> Result<Finding, Error> {
        let Some(document) = evidence.document else {
            return Err(Error::internal("document_expiry was planned without a document"));
        };
        let mut finding = Finding::inconclusive(Vec::new());
        let media = document.media().first().copied();
        let mut warn = |code, message: &str| finding.warnings.push(Warning { code, message: message.into(), media });
        let Some(Reading { earliest, latest, certain }) = date(document, "expiry_date")? else {
            warn("EXPIRY_DATE_NOT_FOUND", "no date of expiry was read");
            return Ok(finding);
        };
        let days_to = |day: crate::document::mrz::Date| f64::from(day.day_number() - terms.today.day_number());
        let (least, most) = (days_to(earliest), days_to(latest));
        let wanted = terms.parameters.get(MINIMUM_DAYS).copied().unwrap_or(0.0);
        if most < 0.0 {
            warn("DOCUMENT_EXPIRED", "the last day of validity has passed");
        } else if most < wanted {
            warn("DOCUMENT_EXPIRES_SOON", "the document is valid for fewer days than asked");
        } else if least < wanted {
            warn("EXPIRY_DATE_UNCERTAIN", "parts of the date are unknown");
        }
        if !certain {
            warn("EXPIRY_DATE_UNCERTAIN", "the date could be read otherwise");
        }
        finding.outcome = if !certain || (most >= wanted && least < wanted) {
            Outcome::Review
        } else if most < wanted {
            Outcome::Fail
        } else {
            Outcome::Pass
        };
        finding.score = Some(least);
        Ok(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeDocument, codes, run, run_on};
    use super::*;
    use crate::document::mrz::Date;

    /// Valid until 15 April 2012.
    fn passport() -> FakeDocument {
        FakeDocument::with_mrz(&[
            "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
            "L898902C36UTO7408122F1204159ZE184226B<<<<<10",
        ])
    }

    fn on(year: u16, month: u8, day: u8, parameters: &[(&str, f64)]) -> Finding {
        let document = passport();
        let evidence = Evidence { document: Some(&document), ..Evidence::default() };
        run_on(&DocumentExpiry, &evidence, None, parameters, Date::new(year, month, day).unwrap())
    }

    #[test]
    fn the_last_day_is_valid_and_the_next_is_not() {
        let last = on(2012, 4, 15, &[]);
        assert_eq!((last.outcome, last.score), (Outcome::Pass, Some(0.0)));
        let next = on(2012, 4, 16, &[]);
        assert_eq!((next.outcome, next.score, codes(&next)), (Outcome::Fail, Some(-1.0), vec!["DOCUMENT_EXPIRED"]));
    }

    #[test]
    fn more_days_can_be_asked_for() {
        assert_eq!(on(2012, 1, 1, &[("minimum_days_valid", 90.0)]).outcome, Outcome::Pass);
        let soon = on(2012, 2, 1, &[("minimum_days_valid", 90.0)]);
        assert_eq!((soon.outcome, codes(&soon)), (Outcome::Fail, vec!["DOCUMENT_EXPIRES_SOON"]));
    }

    #[test]
    fn a_date_that_could_be_read_otherwise_is_for_a_person() {
        let wrong_digit = FakeDocument::with_mrz(&[
            "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
            "L898902C36UTO7408122F1204158ZE184226B<<<<<10",
        ]);
        let evidence = Evidence { document: Some(&wrong_digit), ..Evidence::default() };
        let finding = run(&DocumentExpiry, &evidence, None, &[]);
        assert_eq!(finding.outcome, Outcome::Review);
        assert!(codes(&finding).contains(&"EXPIRY_DATE_UNCERTAIN"));
        let nothing = FakeDocument::empty();
        let evidence = Evidence { document: Some(&nothing), ..Evidence::default() };
        let finding = run(&DocumentExpiry, &evidence, None, &[]);
        assert_eq!((finding.outcome, codes(&finding)), (Outcome::Inconclusive, vec!["EXPIRY_DATE_NOT_FOUND"]));
    }
}
