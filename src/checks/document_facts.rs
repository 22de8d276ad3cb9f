//! Facts of a document as checks need them: of several sources of one fact the best.

use super::DocumentEvidence;
use crate::document::agreement::SURE_CONFIDENCE;
use crate::document::fields::{DocumentField, days, is_absurd};
use crate::document::mrz::{Certainty, CheckDigit, Date};
use crate::error::Error;

/// A date as far as it is known.
pub(super) struct Reading {
    pub earliest: Date,
    pub latest: Date,
    /// False if the characters could be read otherwise, or its check digit is wrong.
    pub certain: bool,
}

/// The date of that name: one that a check digit proves before others, and one that is certain before one that is not. The visual zone
/// is asked only where zone and barcode leave the date open.
///
/// # Errors
/// Those of reading the document.
pub(super) fn date(document: &dyn DocumentEvidence, name: &str) -> Result<Option<Reading>, Error> {
    let coded = best(&document.coded_fields()?, name);
    if coded.as_ref().is_some_and(|reading| reading.certain) {
        return Ok(coded);
    }
    Ok(best(&document.fields()?, name))
}

/// True if the value cannot be read otherwise as far as the reader knows, no check digit speaks against it, and it is possible.
pub(super) fn is_certain(field: &DocumentField) -> bool {
    field.certainty != Certainty::Uncertain
        && !matches!(field.check_digit, CheckDigit::Failed { .. })
        && field.confidence.is_none_or(|confidence| confidence >= SURE_CONFIDENCE)
        && !field.warnings.iter().any(|code| is_absurd(code))
}

fn best(fields: &[&DocumentField], name: &str) -> Option<Reading> {
    let dates = fields.iter().filter(|field| field.name == name).filter_map(|field| {
        let (earliest, latest) = days(field.value.as_deref()?)?;
        let certain = is_certain(field);
        Some((Reading { earliest, latest, certain }, field.check_digit == CheckDigit::Valid))
    });
    // `max_by_key` takes the last of equals; the first source stands first.
    let dates: Vec<_> = dates.collect();
    dates.into_iter().rev().max_by_key(|(reading, proved)| (reading.certain, *proved)).map(|(reading, _)| reading)
}
