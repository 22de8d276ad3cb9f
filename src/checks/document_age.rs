//! `document_age`: is the person old enough by the date of birth on the document?
//!
//! Score: completed years on the day of the check; where parts of the date are unknown, the least that they allow. Decides by rule. Says nothing
//! about who shows the document: that is `face_match`.

use super::document_facts::{Reading, date};
use super::{Check, Evidence, Finding, MediaKind, Outcome, Parameter, Terms, Warning};
use crate::error::Error;
use crate::models::manifest::Role;

pub struct DocumentAge;

const MINIMUM_AGE: &str = "minimum_age_years";

/// The age that is asked for most, as in `age_estimation`.
const DEFAULT_MINIMUM_AGE_YEARS: f64 = 18.0;

impl Check for DocumentAge {
    fn name(&self) -> &'static str {
        "document_age"
    }

    fn decides_by_rule(&self) -> bool {
        true
    }

    fn reads_document(&self) -> bool {
        true
    }

    fn score_kind(&self) -> &'static str {
        "age_years"
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::PageLocator, Role::TextDetector, Role::MrzRecogniser]
    }

    fn applies_to(&self, media: &[MediaKind]) -> bool {
        media.iter().any(|kind| kind.is_document())
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter { name: MINIMUM_AGE, range: [1.0, 99.0] }]
    }

    fn run(&self, evidence: &Evidence<'_>, terms: &Terms<'_>) -> Result<Finding, Error> {
        let Some(document) = evidence.document else {
            return Err(Error::internal("document_age was planned without a document"));
        };
        let mut finding = Finding::inconclusive(Vec::new());
        let media = document.media().first().copied();
        let mut warn = |code, message: &str| finding.warnings.push(Warning { code, message: message.into(), media });
        let Some(Reading { earliest, latest, certain }) = date(document, "birth_date")? else {
            warn("BIRTH_DATE_NOT_FOUND", "no date of birth was read");
            return Ok(finding);
        };
        let (Some(most), Some(least)) = (earliest.age_on(terms.today), latest.age_on(terms.today).or(Some(0))) else {
            warn("BIRTH_DATE_IN_FUTURE", "the date of birth lies after the day of the check");
            return Ok(finding);
        };
        let minimum = terms.parameters.get(MINIMUM_AGE).copied().unwrap_or(DEFAULT_MINIMUM_AGE_YEARS);
        let (least, most) = (f64::from(least), f64::from(most));
        if !certain || (least < minimum && most >= minimum) {
            warn("BIRTH_DATE_UNCERTAIN", "the date is not known well enough to decide");
            finding.outcome = Outcome::Review;
        } else if most < minimum {
            warn("AGE_BELOW_MINIMUM", "the person is younger than the minimum age");
            finding.outcome = Outcome::Fail;
        } else {
            finding.outcome = Outcome::Pass;
        }
        finding.score = Some(least);
        Ok(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeDocument, codes, run_on};
    use super::*;
    use crate::document::mrz::Date;

    /// Born on 12 August 1974.
    fn on(second: &str, year: u16, month: u8, day: u8) -> Finding {
        let document = FakeDocument::with_mrz(&["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", second]);
        let evidence = Evidence { document: Some(&document), ..Evidence::default() };
        run_on(&DocumentAge, &evidence, None, &[], Date::new(year, month, day).unwrap())
    }

    #[test]
    fn the_birthday_decides() {
        let born = "L898902C36UTO7408122F1204159ZE184226B<<<<<10";
        let before = on(born, 1992, 8, 11);
        assert_eq!(
            (before.outcome, before.score, codes(&before)),
            (Outcome::Fail, Some(17.0), vec!["AGE_BELOW_MINIMUM"])
        );
        assert_eq!(on(born, 1992, 8, 12).outcome, Outcome::Pass);
    }

    #[test]
    fn an_unknown_day_decides_only_outside_the_year_in_question() {
        // Month and day of birth unknown.
        let unknown = "C01X00T478D<<64<<<<4F2702283<<<<<<<<<<<<<<<2";
        assert_eq!(on(unknown, 1981, 12, 31).outcome, Outcome::Fail);
        let within = on(unknown, 1982, 6, 1);
        assert_eq!((within.outcome, codes(&within)), (Outcome::Review, vec!["BIRTH_DATE_UNCERTAIN"]));
        assert_eq!(on(unknown, 1982, 12, 31).outcome, Outcome::Pass);
    }
}
