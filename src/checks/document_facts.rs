//! Facts of a document as checks need them: of several sources of one fact the best.

use crate::document::fields::{DocumentField, days};
use crate::document::mrz::{Certainty, CheckDigit, Date};

/// A date as far as it is known.
pub(super) struct Reading {
    pub earliest: Date,
    pub latest: Date,
    /// False if the characters could be read otherwise, or its check digit is wrong.
    pub certain: bool,
}

/// The date of that name: one that a check digit proves before others, and one that is certain before one that is not.
pub(super) fn date(fields: &[&DocumentField], name: &str) -> Option<Reading> {
    let dates = fields.iter().filter(|field| field.name == name).filter_map(|field| {
        let (earliest, latest) = days(field.value.as_deref()?)?;
        let certain =
            field.certainty != Certainty::Uncertain && !matches!(field.check_digit, CheckDigit::Failed { .. });
        Some((Reading { earliest, latest, certain }, field.check_digit == CheckDigit::Valid))
    });
    // `max_by_key` takes the last of equals; the first source stands first.
    let dates: Vec<_> = dates.collect();
    dates.into_iter().rev().max_by_key(|(reading, proved)| (reading.certain, *proved)).map(|(reading, _)| reading)
}
