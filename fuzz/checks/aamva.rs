//! Any bytes as the payload of a barcode through the AAMVA parser: a record whose fields all stand in the text, or an error.
//!
//! Run by the fuzz target `aamva` and, on the committed corpus, by `tests/fuzz_corpus.rs`.

use vouch::document::aamva::{self, Field};
use vouch::document::agreement::{cross_check, record};
use vouch::document::fields;

/// A text has at most some thousand bytes, of which elements are copies.
pub const MAX_BYTES: usize = 4 << 20;

pub fn check(bytes: &[u8]) {
    let Ok(card) = aamva::parse(bytes) else { return };
    assert!(!card.elements.is_empty());
    assert!(card.warnings.is_sorted() && card.warnings.windows(2).all(|pair| pair[0] != pair[1]));
    let stands_there = |element: &str, raw: &str| {
        assert!(card.elements.iter().any(|other| other.id == element && other.raw == raw), "no element {element}");
    };
    fn of<T>(field: &Option<Field<T>>) -> Option<(&str, &str)> {
        field.as_ref().map(|field| (field.element.as_str(), field.raw.as_str()))
    }
    let named = [of(&card.number), of(&card.family_name), of(&card.given_name), of(&card.birth), of(&card.expiry)];
    let further = [of(&card.sex), of(&card.height), of(&card.weight), of(&card.eyes), of(&card.address.postal_code)];
    named.into_iter().chain(further).flatten().for_each(|(element, raw)| stands_there(element, raw));
    for date in [&card.birth, &card.expiry, &card.issue].into_iter().flatten().filter_map(|field| field.value) {
        assert!((1..=12).contains(&date.month) && (1..=31).contains(&date.day));
    }
    let fields = fields::of_aamva(&card);
    cross_check(&fields);
    assert!(record(&fields).len() <= fields.len());
    assert_eq!(aamva::parse(bytes), Ok(card));
}
