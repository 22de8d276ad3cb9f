//! Where each field of each format lies, what may stand in it, and which characters its check digits cover.
//!
//! Called by `parse`, `repair` and `generate`; the only place that knows positions. Sources: ICAO Doc 9303 parts 4 (TD3), 5
//! (TD1), 6 (TD2) and 7 (MRV-A, MRV-B), each section 4.2. The one-line licences follow ISO/IEC 18013-3 as the EU uses it
//! (Regulation 383/2012: `D`, a configuration character, the State, discretionary data, a check digit over all before it);
//! the French and the Dutch use of the discretionary data, the French identity card of 1988 to 2021 and the Swiss licence are
//! described by their issuers only in part, and were taken from printed specimens.

use super::check_digit::FILLER;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Identity card, three lines of 30.
    Td1,
    /// Identity card, two lines of 36.
    Td2,
    /// Passport, two lines of 44.
    Td3,
    /// Visa, two lines of 44.
    MrvA,
    /// Visa, two lines of 36.
    MrvB,
    /// Driving licence, one line of 30.
    DrivingLicence,
    /// French identity card of 1988 to 2021, two lines of 36 of its own form.
    FrenchIdentityCard,
    /// Driving licence of Switzerland and Liechtenstein, lines of 9, 30 and 30.
    SwissDrivingLicence,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 8] = [
        Self::Td1,
        Self::Td2,
        Self::Td3,
        Self::MrvA,
        Self::MrvB,
        Self::DrivingLicence,
        Self::FrenchIdentityCard,
        Self::SwissDrivingLicence,
    ];

    /// Stable name, such as `TD1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Td1 => "TD1",
            Self::Td2 => "TD2",
            Self::Td3 => "TD3",
            Self::MrvA => "MRV-A",
            Self::MrvB => "MRV-B",
            Self::DrivingLicence => "DRIVING_LICENCE",
            Self::FrenchIdentityCard => "FRENCH_IDENTITY_CARD",
            Self::SwissDrivingLicence => "SWISS_DRIVING_LICENCE",
        }
    }

    /// Characters of each line, top to bottom.
    pub fn line_lengths(self) -> &'static [usize] {
        match self {
            Self::Td1 => &[30, 30, 30],
            Self::Td2 | Self::MrvB | Self::FrenchIdentityCard => &[36, 36],
            Self::Td3 | Self::MrvA => &[44, 44],
            Self::DrivingLicence => &[30],
            Self::SwissDrivingLicence => &[9, 30, 30],
        }
    }
}

/// Fields of all formats. No format has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldName {
    DocumentCode,
    IssuingState,
    Names,
    DocumentNumber,
    Nationality,
    Birth,
    Sex,
    Expiry,
    /// Month of issue, French identity card.
    Issue,
    /// First optional field; the personal number on TD3, the discretionary data of a driving licence.
    OptionalData,
    /// Second optional field of TD1; the office of issue on the French identity card.
    OptionalData2,
    /// The check digit over several fields.
    Composite,
}

impl FieldName {
    /// Stable name, such as `document_number`.
    pub fn name(self) -> &'static str {
        match self {
            Self::DocumentCode => "document_code",
            Self::IssuingState => "issuing_state",
            Self::Names => "names",
            Self::DocumentNumber => "document_number",
            Self::Nationality => "nationality",
            Self::Birth => "birth",
            Self::Sex => "sex",
            Self::Expiry => "expiry",
            Self::Issue => "issue",
            Self::OptionalData => "optional_data",
            Self::OptionalData2 => "optional_data_2",
            Self::Composite => "composite",
        }
    }
}

/// Part of a line: characters `start..end`, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    pub line: usize,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// The characters of the span; shorter where the line is.
    pub(super) fn of<'a>(&self, lines: &'a [Vec<u8>]) -> &'a [u8] {
        let line = lines.get(self.line).map_or(&[][..], Vec::as_slice);
        let end = self.end.min(line.len());
        line.get(self.start..end).unwrap_or_default()
    }

    pub(super) fn contains(&self, line: usize, position: usize) -> bool {
        self.line == line && (self.start..self.end).contains(&position)
    }
}

/// What may stand in a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// Letters and fillers.
    Letters,
    /// Digits and fillers.
    Digits,
    /// `M`, `F`, `X` and the filler.
    Sex,
    /// Everything.
    Any,
}

impl Alphabet {
    pub(super) fn allows(self, symbol: u8) -> bool {
        match self {
            Self::Letters => symbol.is_ascii_uppercase() || symbol == FILLER,
            Self::Digits => symbol.is_ascii_digit() || symbol == FILLER,
            Self::Sex => matches!(symbol, b'M' | b'F' | b'X' | FILLER),
            Self::Any => symbol.is_ascii_uppercase() || symbol.is_ascii_digit() || symbol == FILLER,
        }
    }
}

/// A check digit: its position and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) line: usize,
    pub(super) position: usize,
    pub(super) covers: &'static [Span],
}

/// A field at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: FieldName,
    pub(super) span: Span,
    pub(super) alphabet: Alphabet,
    pub(super) check: Option<Check>,
}

/// All fields of a format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) items: &'static [Item],
    pub(super) composite: Option<Check>,
    /// Numbers longer than their field go on in the first optional field (parts 5 and 6, section 4.2.2, note j).
    pub(super) long_numbers: bool,
}

impl Layout {
    /// The layout of a format; for driving licences it depends on the issuing State in `lines`.
    pub(super) fn of(format: Format, lines: &[Vec<u8>]) -> &'static Self {
        match format {
            Format::Td1 => &TD1,
            Format::Td2 => &TD2,
            Format::Td3 => &TD3,
            Format::MrvA => &MRV_A,
            Format::MrvB => &MRV_B,
            Format::FrenchIdentityCard => &FRENCH_CARD,
            Format::SwissDrivingLicence => &SWISS_LICENCE,
            Format::DrivingLicence => match span(0, 2, 5).of(lines) {
                b"FRA" => &FRENCH_LICENCE,
                b"NLD" => &DUTCH_LICENCE,
                _ => &LICENCE,
            },
        }
    }

    pub(super) fn item(&self, name: FieldName) -> Option<&'static Item> {
        self.items.iter().find(|item| item.name == name)
    }

    /// What may stand at a position. Where fields overlap, the later one of the table decides.
    pub(super) fn alphabet(&self, line: usize, position: usize) -> Alphabet {
        if self.checks().any(|check| (check.line, check.position) == (line, position)) {
            return Alphabet::Digits;
        }
        let item = self.items.iter().rev().find(|item| item.span.contains(line, position));
        item.map_or(Alphabet::Any, |item| item.alphabet)
    }

    /// All check digits, the composite last.
    pub(super) fn checks(&self) -> impl Iterator<Item = &Check> {
        self.items.iter().filter_map(|item| item.check.as_ref()).chain(&self.composite)
    }
}

const fn span(line: usize, start: usize, end: usize) -> Span {
    Span { line, start, end }
}

const fn item(name: FieldName, span: Span, alphabet: Alphabet) -> Item {
    Item { name, span, alphabet, check: None }
}

/// A field whose check digit follows it and covers it alone.
const fn checked(name: FieldName, covers: &'static [Span; 1], alphabet: Alphabet) -> Item {
    let [span] = *covers;
    Item { name, span, alphabet, check: Some(Check { line: span.line, position: span.end, covers }) }
}

use Alphabet::{Any, Digits, Letters};
use FieldName::{
    Birth, DocumentCode, DocumentNumber, Expiry, Issue, IssuingState, Names, Nationality, OptionalData, OptionalData2,
};

// The first letter of a document code is a letter in every format; the second may be a digit on cards in use (`C1`).
const CODE: Item = item(DocumentCode, span(0, 0, 2), Any);
const STATE: Item = item(IssuingState, span(0, 2, 5), Letters);

static TD1: Layout = Layout {
    items: &[
        CODE,
        STATE,
        checked(DocumentNumber, &[span(0, 5, 14)], Any),
        item(OptionalData, span(0, 15, 30), Any),
        checked(Birth, &[span(1, 0, 6)], Digits),
        item(FieldName::Sex, span(1, 7, 8), Alphabet::Sex),
        checked(Expiry, &[span(1, 8, 14)], Digits),
        item(Nationality, span(1, 15, 18), Letters),
        item(OptionalData2, span(1, 18, 29), Any),
        item(Names, span(2, 0, 30), Letters),
    ],
    composite: Some(Check {
        line: 1,
        position: 29,
        covers: &[span(0, 5, 30), span(1, 0, 7), span(1, 8, 15), span(1, 18, 29)],
    }),
    long_numbers: true,
};

static TD2: Layout = Layout {
    items: &[
        CODE,
        STATE,
        item(Names, span(0, 5, 36), Letters),
        checked(DocumentNumber, &[span(1, 0, 9)], Any),
        item(Nationality, span(1, 10, 13), Letters),
        checked(Birth, &[span(1, 13, 19)], Digits),
        item(FieldName::Sex, span(1, 20, 21), Alphabet::Sex),
        checked(Expiry, &[span(1, 21, 27)], Digits),
        item(OptionalData, span(1, 28, 35), Any),
    ],
    composite: Some(Check { line: 1, position: 35, covers: &[span(1, 0, 10), span(1, 13, 20), span(1, 21, 35)] }),
    long_numbers: true,
};

static TD3: Layout = Layout {
    items: &[
        CODE,
        STATE,
        item(Names, span(0, 5, 44), Letters),
        checked(DocumentNumber, &[span(1, 0, 9)], Any),
        item(Nationality, span(1, 10, 13), Letters),
        checked(Birth, &[span(1, 13, 19)], Digits),
        item(FieldName::Sex, span(1, 20, 21), Alphabet::Sex),
        checked(Expiry, &[span(1, 21, 27)], Digits),
        checked(OptionalData, &[span(1, 28, 42)], Any),
    ],
    composite: Some(Check { line: 1, position: 43, covers: &[span(1, 0, 10), span(1, 13, 20), span(1, 21, 43)] }),
    long_numbers: false,
};

static MRV_A: Layout = Layout {
    items: &[
        CODE,
        STATE,
        item(Names, span(0, 5, 44), Letters),
        checked(DocumentNumber, &[span(1, 0, 9)], Any),
        item(Nationality, span(1, 10, 13), Letters),
        checked(Birth, &[span(1, 13, 19)], Digits),
        item(FieldName::Sex, span(1, 20, 21), Alphabet::Sex),
        checked(Expiry, &[span(1, 21, 27)], Digits),
        item(OptionalData, span(1, 28, 44), Any),
    ],
    composite: None,
    long_numbers: false,
};

static MRV_B: Layout = Layout {
    items: &[
        CODE,
        STATE,
        item(Names, span(0, 5, 36), Letters),
        checked(DocumentNumber, &[span(1, 0, 9)], Any),
        item(Nationality, span(1, 10, 13), Letters),
        checked(Birth, &[span(1, 13, 19)], Digits),
        item(FieldName::Sex, span(1, 20, 21), Alphabet::Sex),
        checked(Expiry, &[span(1, 21, 27)], Digits),
        item(OptionalData, span(1, 28, 36), Any),
    ],
    composite: None,
    long_numbers: false,
};

/// The number is year and month of issue, the office of issue and five digits; the first names are in the second line.
static FRENCH_CARD: Layout = Layout {
    items: &[
        CODE,
        STATE,
        item(Names, span(0, 5, 30), Letters),
        item(OptionalData, span(0, 30, 36), Any),
        Item {
            name: DocumentNumber,
            span: span(1, 0, 12),
            alphabet: Any,
            check: Some(Check { line: 1, position: 12, covers: &[span(1, 0, 12)] }),
        },
        item(Issue, span(1, 0, 4), Digits),
        item(OptionalData2, span(1, 4, 7), Any),
        item(Names, span(1, 13, 27), Letters),
        checked(Birth, &[span(1, 27, 33)], Digits),
        item(FieldName::Sex, span(1, 34, 35), Alphabet::Sex),
    ],
    composite: Some(Check { line: 1, position: 35, covers: &[span(0, 0, 36), span(1, 0, 35)] }),
    long_numbers: false,
};

const LICENCE_CHECK: Option<Check> = Some(Check { line: 0, position: 29, covers: &[span(0, 0, 29)] });

static LICENCE: Layout = Layout {
    items: &[CODE, STATE, item(OptionalData, span(0, 5, 29), Any)],
    composite: LICENCE_CHECK,
    long_numbers: false,
};

static FRENCH_LICENCE: Layout = Layout {
    items: &[
        CODE,
        STATE,
        Item {
            name: DocumentNumber,
            span: span(0, 5, 14),
            alphabet: Any,
            check: Some(Check { line: 0, position: 14, covers: &[span(0, 0, 14)] }),
        },
        item(Expiry, span(0, 15, 21), Digits),
        item(Names, span(0, 21, 29), Letters),
    ],
    composite: LICENCE_CHECK,
    long_numbers: false,
};

/// One version character, ten digits of the licence number, thirteen characters of key material.
static DUTCH_LICENCE: Layout = Layout {
    items: &[CODE, STATE, item(DocumentNumber, span(0, 6, 16), Digits), item(OptionalData, span(0, 16, 29), Any)],
    composite: LICENCE_CHECK,
    long_numbers: false,
};

/// No check digits at all. The first line is the number of the blank with the language as its last letter; the optional data
/// are the nine digits of the register's number and the three of the version.
static SWISS_LICENCE: Layout = Layout {
    items: &[
        item(DocumentNumber, span(0, 0, 9), Any),
        item(DocumentCode, span(1, 0, 2), Letters),
        item(IssuingState, span(1, 2, 5), Letters),
        item(OptionalData, span(1, 5, 17), Digits),
        item(Birth, span(1, 19, 25), Digits),
        item(Names, span(2, 0, 30), Letters),
    ],
    composite: None,
    long_numbers: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_lies_within_its_lines() {
        for format in Format::ALL {
            for state in ["FRA", "NLD", "UTO"] {
                let lengths = format.line_lengths();
                let lines: Vec<_> = lengths.iter().map(|_| format!("D1{state}").into_bytes()).collect();
                let layout = Layout::of(format, &lines);
                let covered = layout.checks().flat_map(|check| check.covers);
                for span in layout.items.iter().map(|item| &item.span).chain(covered) {
                    assert!(span.start < span.end && span.end <= lengths[span.line], "{format:?} {span:?}");
                }
                for check in layout.checks() {
                    assert!(check.position < lengths[check.line], "{format:?} {check:?}");
                }
            }
        }
    }

    #[test]
    fn the_positions_of_an_icao_format_belong_to_one_field_each() {
        for format in [Format::Td1, Format::Td2, Format::Td3, Format::MrvA, Format::MrvB] {
            let layout = Layout::of(format, &[]);
            for (line, length) in format.line_lengths().iter().enumerate() {
                for position in 0..*length {
                    let fields = layout.items.iter().filter(|item| item.span.contains(line, position)).count();
                    let checks =
                        layout.checks().filter(|check| (check.line, check.position) == (line, position)).count();
                    assert_eq!(fields + checks, 1, "{format:?} line {line} position {position}");
                }
            }
        }
    }
}
