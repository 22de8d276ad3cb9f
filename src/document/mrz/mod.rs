//! The machine-readable zone: lines of text to typed fields, repair of misread characters, and the way back.
//!
//! Called by the document reader, the command line and whoever makes specimens. Pure: no image, no clock, no input or output;
//! the day of the check is a parameter. Nothing here quotes a field in an error.
//!
//! Reading order: [`parse`](fn@parse) (lines to fields), [`repair`](fn@repair) (recogniser output to lines and fields),
//! [`generate`](fn@generate) (fields to lines), `transliterate` (names between the visual zone and the MRZ), `layout` (the
//! positions of every format), `date`, `states`, `check_digit`.
//!
//! Sources: ICAO Doc 9303 parts 3 to 7, eighth edition; what lies outside it is described in `layout`.

mod check_digit;
mod date;
mod generate;
mod layout;
mod parse;
mod repair;
mod states;
#[cfg(test)]
mod tests;
mod transliterate;

pub use check_digit::check_digit;
pub use date::{CenturyRule, Date, DateFault, OLDEST_PERSON_YEARS, PartialDate};
pub use generate::{DateParts, Fields, GenerateError, generate};
pub use layout::{FieldName, Format, Span};
pub use parse::{Certainty, CheckDigit, DocumentType, Field, Mrz, Names, ParseError, Sex, Warning, WarningKind, parse};
pub use repair::{Proof, ReadLine, Reading, Repair, Repaired, repair};
pub use states::{STATES, State, StateKind, find as find_state};
pub use transliterate::{names_agree, transliterate, transliterations};
