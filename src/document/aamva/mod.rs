//! Reads the text of the PDF417 on North American driving licences and identity cards into typed fields.
//!
//! Called by the pipeline with the payload that the sibling `barcode` found. Every field keeps the element it came from and its raw
//! text; a field that cannot be understood has no value and costs a warning, never another field. `elements` undoes damage done by
//! scanners, `write` makes such texts for tests and specimens. Left out: what only a jurisdiction knows (its own `Z` subfile is
//! handed on as it is), and any judgement whether the card is genuine. Source: AAMVA DL/ID Card Design Standard, editions 2000 to
//! 2020 (versions 1 to 10), Annex D.12 and Tables D.3 and D.4.

mod elements;
mod jurisdiction;
mod write;

pub use elements::{Element, Header, Subfile};
pub use jurisdiction::{Jurisdiction, by_code, by_iin};
pub use write::{Specimen, write};

/// Newest edition known, of 2020.
const NEWEST_VERSION: u8 = 10;

/// Years taken for a real date. Outside them eight digits are in the other order or damaged.
const YEARS: std::ops::RangeInclusive<u16> = 1800..=2199;

/// Fewest known elements of a card. Text with the header of a card and less than this is not one.
const MIN_ELEMENTS: usize = 4;

/// Why a text is not taken for a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AamvaError {
    #[error("no AAMVA header")]
    NoHeader,
    #[error("AAMVA header without the elements of a card")]
    NoElements,
    #[error("text is longer than any AAMVA barcode")]
    TooLong,
}

/// What is unusual about a text that was read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AamvaWarning {
    HeaderDamaged,
    OffsetsWrong,
    SeparatorsLost,
    StrayText,
    UnknownIssuer,
    UnknownVersion,
    DateInvalid,
    /// A date is written in the order of the other country; it was read all the same.
    DateOrder,
    SexInvalid,
    HeightInvalid,
    PostalCodeInvalid,
    /// The address or the country names another jurisdiction than the issuer's number.
    JurisdictionMismatch,
    /// An element stands twice with different text; the first is used.
    ElementRepeated,
}

impl AamvaWarning {
    /// Stable code for results.
    pub fn code(self) -> &'static str {
        match self {
            Self::HeaderDamaged => "AAMVA_HEADER_DAMAGED",
            Self::OffsetsWrong => "AAMVA_OFFSETS_WRONG",
            Self::SeparatorsLost => "AAMVA_SEPARATORS_LOST",
            Self::StrayText => "AAMVA_STRAY_TEXT",
            Self::UnknownIssuer => "AAMVA_ISSUER_UNKNOWN",
            Self::UnknownVersion => "AAMVA_VERSION_UNKNOWN",
            Self::DateInvalid => "AAMVA_DATE_INVALID",
            Self::DateOrder => "AAMVA_DATE_ORDER",
            Self::SexInvalid => "AAMVA_SEX_INVALID",
            Self::HeightInvalid => "AAMVA_HEIGHT_INVALID",
            Self::PostalCodeInvalid => "AAMVA_POSTAL_CODE_INVALID",
            Self::JurisdictionMismatch => "AAMVA_JURISDICTION_MISMATCH",
            Self::ElementRepeated => "AAMVA_ELEMENT_REPEATED",
        }
    }
}

/// A field with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<T> {
    /// The element it was read from, such as `DBB`.
    pub element: String,
    /// The element's text.
    pub raw: String,
    /// `None` if the text says nothing (empty, `NONE`, `UNAVL`) or cannot be understood; only the latter costs a warning.
    pub value: Option<T>,
}

/// A day of the Gregorian calendar that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    pub year: u16,
    pub month: u8,
    pub day: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardKind {
    DrivingLicence,
    IdentityCard,
    /// Enhanced driving licence, a border-crossing document.
    Enhanced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sex {
    Male,
    Female,
    /// `9`, not specified, or `X`.
    NotSpecified,
}

/// As printed; [`Height::centimetres`] converts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Height {
    Inches(u16),
    Centimetres(u16),
}

impl Height {
    pub fn centimetres(self) -> f32 {
        match self {
            Self::Inches(inches) => f32::from(inches) * 2.54,
            Self::Centimetres(centimetres) => f32::from(centimetres),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    Pounds(u16),
    Kilograms(u16),
    /// A range in pounds, both ends included; the last has no upper end.
    PoundsRange(u16, Option<u16>),
}

/// Colours of eyes (D-20 of the standard) and hair (D-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Bald,
    Black,
    Blond,
    Blue,
    Brown,
    Dichromatic,
    Gray,
    Green,
    Hazel,
    Maroon,
    Pink,
    RedAuburn,
    Sandy,
    White,
}

/// Whether a name was cut to fit the barcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    Truncated,
    NotTruncated,
    Unknown,
}

/// Compliance with the REAL ID Act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compliance {
    Full,
    /// `M`, materially compliant, in older cards.
    Material,
    None,
}

/// The address as the card gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    pub street_1: Option<Field<String>>,
    pub street_2: Option<Field<String>>,
    pub city: Option<Field<String>>,
    /// Two letters.
    pub jurisdiction: Option<Field<String>>,
    /// Letters and digits only, without the four zeros that fill up a five-digit code.
    pub postal_code: Option<Field<String>>,
}

/// A card. Fields are `None` if the text has no such element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub header: Header,
    pub kind: CardKind,
    pub issuer: Option<&'static Jurisdiction>,
    /// ISO 3166-1 alpha-3: from the text, else the issuer's.
    pub country: Option<Field<String>>,
    pub number: Option<Field<String>>,
    pub family_name: Option<Field<String>>,
    pub given_name: Option<Field<String>>,
    /// All further given names, with single spaces between them.
    pub middle_names: Option<Field<String>>,
    pub suffix: Option<Field<String>>,
    pub family_name_truncated: Option<Field<Truncation>>,
    pub given_name_truncated: Option<Field<Truncation>>,
    pub middle_names_truncated: Option<Field<Truncation>>,
    pub birth: Option<Field<Date>>,
    pub expiry: Option<Field<Date>>,
    pub issue: Option<Field<Date>>,
    pub card_revision: Option<Field<Date>>,
    pub hazmat_expiry: Option<Field<Date>>,
    pub under_18_until: Option<Field<Date>>,
    pub under_19_until: Option<Field<Date>>,
    pub under_21_until: Option<Field<Date>>,
    pub sex: Option<Field<Sex>>,
    pub eyes: Option<Field<Colour>>,
    pub hair: Option<Field<Colour>>,
    pub height: Option<Field<Height>>,
    pub weight: Option<Field<Weight>>,
    pub address: Address,
    pub birth_place: Option<Field<String>>,
    pub document_discriminator: Option<Field<String>>,
    pub inventory_control_number: Option<Field<String>>,
    pub audit_information: Option<Field<String>>,
    pub vehicle_class: Option<Field<String>>,
    pub restrictions: Option<Field<String>>,
    pub endorsements: Option<Field<String>>,
    pub compliance: Option<Field<Compliance>>,
    pub limited_duration: Option<Field<bool>>,
    pub organ_donor: Option<Field<bool>>,
    pub veteran: Option<Field<bool>>,
    /// Every element in the order of the text, those of the jurisdiction's own subfile as well.
    pub elements: Vec<Element>,
    /// Sorted, without repetition.
    pub warnings: Vec<AamvaWarning>,
}

/// Reads the payload of a barcode, or text that a scanner typed.
///
/// # Errors
/// [`AamvaError`] if it is not an AAMVA text. A damaged one is read as far as possible.
pub fn parse(bytes: &[u8]) -> Result<Record, AamvaError> {
    if bytes.len() > elements::MAX_TEXT_BYTES {
        return Err(AamvaError::TooLong);
    }
    let parts = elements::split(bytes).ok_or(AamvaError::NoHeader)?;
    if parts.elements.iter().filter(|element| elements::is_known(&element.id)).count() < MIN_ELEMENTS {
        return Err(AamvaError::NoElements);
    }
    let mut warnings = Vec::new();
    for (warned, warning) in [
        (parts.header_damaged, AamvaWarning::HeaderDamaged),
        (parts.offsets_wrong, AamvaWarning::OffsetsWrong),
        (parts.separators_lost, AamvaWarning::SeparatorsLost),
        (parts.stray_text, AamvaWarning::StrayText),
        (!(1..=NEWEST_VERSION).contains(&parts.header.version), AamvaWarning::UnknownVersion),
    ] {
        if warned {
            warnings.push(warning);
        }
    }
    let issuer = by_iin(parts.header.iin);
    if issuer.is_none() {
        warnings.push(AamvaWarning::UnknownIssuer);
    }
    Ok(Reader { elements: &parts.elements, version: parts.header.version, issuer, warnings }.record(&parts))
}

/// The elements on their way to fields.
struct Reader<'a> {
    elements: &'a [Element],
    version: u8,
    issuer: Option<&'static Jurisdiction>,
    warnings: Vec<AamvaWarning>,
}

impl Reader<'_> {
    fn record(mut self, parts: &elements::Parts) -> Record {
        let name = self.names();
        let first = self.version == 1;
        // The first edition has elements of its own for what later ones call DCA, DCB and DCD.
        let either = |old: &'static str, new: &'static str| if first { [old, new] } else { [new, old] };
        let address = self.address();
        let country = self.country(&address);
        let record = Record {
            header: parts.header.clone(),
            kind: self.kind(&parts.header),
            issuer: self.issuer,
            number: self.field(&["DAQ"], |raw| Some(raw.to_owned())),
            family_name: name.family,
            given_name: name.given,
            middle_names: name.middle,
            suffix: name.suffix,
            family_name_truncated: self.field(&["DDE"], truncation),
            given_name_truncated: self.field(&["DDF"], truncation),
            middle_names_truncated: self.field(&["DDG"], truncation),
            birth: self.date("DBB"),
            expiry: self.date("DBA"),
            issue: self.date("DBD"),
            card_revision: self.date("DDB"),
            hazmat_expiry: self.date("DDC"),
            under_18_until: self.date("DDH"),
            under_19_until: self.date("DDI"),
            under_21_until: self.date("DDJ"),
            sex: self.checked(&["DBC"], sex, AamvaWarning::SexInvalid),
            eyes: self.field(&["DAY"], colour),
            hair: self.field(&["DAZ"], colour),
            height: self.height(),
            weight: self.weight(),
            address,
            country,
            birth_place: self.text(&["DCI"]),
            document_discriminator: self.text(&["DCF"]),
            inventory_control_number: self.text(&["DCK"]),
            audit_information: self.text(&["DCJ"]),
            vehicle_class: self.text(&either("DAR", "DCA")),
            restrictions: self.text(&either("DAS", "DCB")),
            endorsements: self.text(&either("DAT", "DCD")),
            compliance: self.field(&["DDA"], compliance),
            limited_duration: self.field(&["DDD"], flag),
            organ_donor: self.field(&if first { ["DBH", "DDK"] } else { ["DDK", "DBH"] }, flag),
            veteran: self.field(&["DDL"], flag),
            elements: parts.elements.clone(),
            warnings: Vec::new(),
        };
        let mut warnings = self.warnings;
        for (at, element) in parts.elements.iter().enumerate() {
            let repeats = |other: &&Element| other.id == element.id && other.raw != element.raw;
            if parts.elements.iter().take(at).any(|other| repeats(&other)) {
                warnings.push(AamvaWarning::ElementRepeated);
            }
        }
        warnings.sort_unstable();
        warnings.dedup();
        Record { warnings, ..record }
    }

    /// First of these elements that says something, else the first that is there at all.
    fn element(&self, ids: &[&str]) -> Option<&Element> {
        let named = |id: &&str| self.elements.iter().find(|element| element.id == **id);
        let says = |id: &&str| self.elements.iter().find(|element| element.id == **id && !says_nothing(&element.raw));
        ids.iter().find_map(says).or_else(|| ids.iter().find_map(named))
    }

    /// A field whose text is trimmed before it is read.
    fn field<T>(&self, ids: &[&str], read: impl Fn(&str) -> Option<T>) -> Option<Field<T>> {
        let element = self.element(ids)?;
        let trimmed = trim(&element.raw);
        let value = if trimmed.is_empty() { None } else { read(trimmed) };
        Some(Field { element: element.id.clone(), raw: element.raw.clone(), value })
    }

    /// A field that costs a warning if it says something that is not understood.
    fn checked<T>(
        &mut self,
        ids: &[&str],
        read: impl Fn(&str) -> Option<T>,
        warning: AamvaWarning,
    ) -> Option<Field<T>> {
        let field = self.field(ids, read)?;
        if field.value.is_none() && !says_nothing(&field.raw) {
            self.warnings.push(warning);
        }
        Some(field)
    }

    fn text(&self, ids: &[&str]) -> Option<Field<String>> {
        self.field(ids, |raw| (!says_nothing(raw)).then(|| raw.to_owned()))
    }

    /// Both orders of a date have the year where the other has a month and a day, and no year of [`YEARS`] begins with a month, so
    /// the digits tell which order it is whatever the country.
    fn date(&mut self, id: &str) -> Option<Field<Date>> {
        let is_zero = |raw: &str| !raw.is_empty() && raw.bytes().all(|byte| byte == b'0');
        if self.element(&[id]).is_some_and(|element| is_zero(trim(&element.raw))) {
            return self.field(&[id], |_| None);
        }
        let field = self.checked(&[id], |raw| read_date(raw).map(|(date, _)| date), AamvaWarning::DateInvalid)?;
        // The first edition and Canada put the year first, Mexico has no rule that cards follow.
        let year_first = match self.issuer.map(|issuer| issuer.country) {
            Some("USA") => Some(self.version == 1),
            Some("CAN") => Some(true),
            _ => None,
        };
        if let (Some((_, is_year_first)), Some(expected)) = (read_date(trim(&field.raw)), year_first)
            && is_year_first != expected
        {
            self.warnings.push(AamvaWarning::DateOrder);
        }
        Some(field)
    }

    fn kind(&self, header: &Header) -> CardKind {
        let first = self.elements.first().map(|element| element.subfile.as_str());
        let kinds = header.subfiles.iter().map(|subfile| subfile.kind.as_str()).chain(first);
        for kind in kinds {
            match kind {
                "ID" => return CardKind::IdentityCard,
                "EN" => return CardKind::Enhanced,
                _ => {}
            }
        }
        CardKind::DrivingLicence
    }

    fn names(&self) -> Names {
        let whole = self.field(&["DAA"], |raw| Some(whole_name(raw))).filter(|field| field.value.is_some());
        let part = |pick: fn(&NameParts) -> &str| {
            let field = whole.as_ref()?;
            let value = pick(field.value.as_ref()?).to_owned();
            let value = (!says_nothing(&value)).then_some(value);
            Some(Field { element: field.element.clone(), raw: field.raw.clone(), value })
        };
        let given = self.field(&["DAC", "DCT"], |raw| Some(raw.to_owned())).filter(|field| !says_nothing(&field.raw));
        let middle = self.field(&["DAD"], |raw| (!says_nothing(raw)).then(|| raw.to_owned()));
        let has_middle = middle.as_ref().is_some_and(|field| field.value.is_some());
        let (given, middle) = match given {
            Some(field) if !has_middle => {
                let (first, rest) = split_given(trim(&field.raw), field.element == "DCT");
                let rest = (!rest.is_empty()).then(|| Field { value: Some(rest), ..field.clone() });
                (Some(Field { value: Some(first), ..field }), rest.or(middle))
            }
            Some(field) => (Some(field), middle),
            None => (part(|name| &name.given), part(|name| &name.middle)),
        };
        let family = self.text(&["DCS", "DAB"]).filter(|field| field.value.is_some());
        let suffix = self.text(&["DCU", "DAE"]);
        Names {
            family: family.or_else(|| part(|name| &name.family)),
            given,
            middle,
            suffix: suffix.filter(|field| field.value.is_some()).or_else(|| part(|name| &name.suffix)),
        }
    }

    fn address(&mut self) -> Address {
        // The mailing address comes first in the first edition, but some issuers leave it empty and give the residence.
        let mailing = self.text(&["DAG"]).is_some_and(|field| field.value.is_some());
        let order = |mail: &'static str, home: &'static str| if mailing { [mail, home] } else { [home, mail] };
        let is_canada = self.issuer.is_some_and(|issuer| issuer.country == "CAN");
        let postal_code = self.text(&["DAK", "DAP"]).map(|field| Field {
            value: field.value.as_deref().map(postal_code).filter(|code| !code.is_empty()),
            ..field
        });
        if let Some(code) = postal_code.as_ref().and_then(|field| field.value.as_deref()) {
            let is_number = code.bytes().all(|byte| byte.is_ascii_digit());
            let is_right =
                if is_canada { code.len() == 6 && !is_number } else { is_number && matches!(code.len(), 5 | 9) };
            if !is_right {
                self.warnings.push(AamvaWarning::PostalCodeInvalid);
            }
        }
        let jurisdiction = self.text(&["DAJ", "DAO"]);
        Address {
            street_1: self.text(&order("DAG", "DAL")),
            // The second line belongs to the first: never the residence's line under the mailing address.
            street_2: self.text(if mailing { &["DAH"] } else { &["DAM", "DAH"] }),
            city: self.text(&["DAI", "DAN"]),
            jurisdiction,
            postal_code,
        }
    }

    /// The country of the text, else of the issuer, else of the address.
    fn country(&mut self, address: &Address) -> Option<Field<String>> {
        let field = self.text(&["DCG"]);
        let stated = field.as_ref().and_then(|field| field.value.clone());
        let home = address.jurisdiction.as_ref().and_then(|field| field.value.as_deref()).and_then(by_code);
        if let Some(issuer) = self.issuer {
            let other_country = stated.as_deref().is_some_and(|country| country != issuer.country);
            if other_country || home.is_some_and(|home| home.code != issuer.code) {
                self.warnings.push(AamvaWarning::JurisdictionMismatch);
            }
        }
        let implied = self.issuer.or(home).map(|entry| entry.country.to_owned());
        match field {
            Some(field) => Some(Field { value: stated.or(implied), ..field }),
            None => implied.map(|country| Field { element: String::new(), raw: String::new(), value: Some(country) }),
        }
    }

    fn height(&mut self) -> Option<Field<Height>> {
        let metric =
            self.field(&["DAV"], |raw| number(raw).map(Height::Centimetres)).filter(|field| field.value.is_some());
        if self.element(&["DAU"]).is_none_or(|element| says_nothing(&element.raw)) && metric.is_some() {
            return metric;
        }
        let first = self.version == 1;
        self.checked(&["DAU"], |raw| read_height(raw, first), AamvaWarning::HeightInvalid)
    }

    fn weight(&self) -> Option<Field<Weight>> {
        let pounds = self.field(&["DAW"], |raw| {
            let value = number(raw).filter(|value| *value > 0)?;
            Some(if raw.to_ascii_uppercase().contains("KG") { Weight::Kilograms(value) } else { Weight::Pounds(value) })
        });
        let kilograms = self.field(&["DAX"], |raw| number(raw).filter(|value| *value > 0).map(Weight::Kilograms));
        let range = self.field(&["DCE"], weight_range);
        let has_value = |field: &Option<Field<Weight>>| field.as_ref().is_some_and(|field| field.value.is_some());
        let found = [&pounds, &kilograms, &range].into_iter().find(|field| has_value(field)).cloned().flatten();
        found.or(pounds)
    }
}

struct Names {
    family: Option<Field<String>>,
    given: Option<Field<String>>,
    middle: Option<Field<String>>,
    suffix: Option<Field<String>>,
}

#[derive(Debug, PartialEq, Eq)]
struct NameParts {
    family: String,
    given: String,
    middle: String,
    suffix: String,
}

/// A name in one element: family, given, middle, suffix between commas (some issuers use `@` or `$`). Without any of them it is
/// written as it is spoken, the family name last.
fn whole_name(raw: &str) -> NameParts {
    let join = |words: &[&str]| words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ");
    let sign = [',', '@', '$'].into_iter().find(|sign| raw.contains(*sign));
    let Some(sign) = sign else {
        let words: Vec<&str> = raw.split_whitespace().collect();
        return match words.as_slice() {
            [] => {
                NameParts { family: String::new(), given: String::new(), middle: String::new(), suffix: String::new() }
            }
            [family] => NameParts {
                family: (*family).to_owned(),
                given: String::new(),
                middle: String::new(),
                suffix: String::new(),
            },
            [given, middle @ .., family] => {
                // A suffix stands last and the family name before it.
                let (family, middle, suffix) = match middle.split_last() {
                    Some((before, rest)) if is_suffix(family) => (*before, rest, *family),
                    _ => (*family, middle, ""),
                };
                NameParts {
                    family: family.to_owned(),
                    given: (*given).to_owned(),
                    middle: join(middle),
                    suffix: suffix.to_owned(),
                }
            }
        };
    };
    let parts: Vec<&str> = raw.split(sign).map(str::trim).collect();
    let at = |place: usize| parts.get(place).copied().unwrap_or_default();
    let (mut middle, mut suffix) = (at(2).to_owned(), at(3).to_owned());
    if let Some((last, between)) = parts.get(2..).and_then(|rest| rest.split_last()) {
        if parts.len() > 4 && is_suffix(last) {
            (middle, suffix) = (join(between), (*last).to_owned());
        } else if parts.len() > 4 && !last.is_empty() {
            (middle, suffix) = (join(&parts[2..]), String::new());
        } else if parts.len() == 3 && is_suffix(last) {
            (middle, suffix) = (String::new(), (*last).to_owned());
        }
    }
    let (given, rest) = if middle.is_empty() { split_given(at(1), true) } else { (at(1).to_owned(), String::new()) };
    NameParts { family: at(0).to_owned(), given, middle: if middle.is_empty() { rest } else { middle }, suffix }
}

/// Splits given names: at a comma, as the standard says, else at the first space where one element holds all given names. An
/// element for the first given name alone may hold two that belong together, so there only a single last letter is split off.
fn split_given(raw: &str, holds_all: bool) -> (String, String) {
    let words = |text: &str| text.split([',', ' ']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if let Some((first, rest)) = raw.split_once(',') {
        return (first.trim().to_owned(), words(rest));
    }
    let initial = |rest: &str| rest.trim_end_matches('.').chars().count() == 1;
    match if holds_all { raw.split_once(' ') } else { raw.rsplit_once(' ').filter(|(_, rest)| initial(rest)) } {
        Some((first, rest)) => (first.trim().to_owned(), words(rest)),
        None => (raw.to_owned(), String::new()),
    }
}

/// Suffixes of names (Annex D, D.12.5.1, name suffix).
fn is_suffix(word: &str) -> bool {
    let word = word.trim_end_matches('.').to_ascii_uppercase();
    matches!(
        word.as_str(),
        "JR" | "SR"
            | "I"
            | "II"
            | "III"
            | "IV"
            | "V"
            | "VI"
            | "VII"
            | "VIII"
            | "IX"
            | "1ST"
            | "2ND"
            | "3RD"
            | "4TH"
            | "5TH"
            | "ESQ"
    )
}

/// Spaces around a text, and the commas that some issuers put behind it.
fn trim(raw: &str) -> &str {
    raw.trim().trim_end_matches([',', ' '])
}

/// True for what the standard and its issuers write in a field that has no content.
fn says_nothing(raw: &str) -> bool {
    let raw = trim(raw);
    raw.is_empty() || ["NONE", "UNAVL", "UNAVAIL", "N/A"].iter().any(|word| raw.eq_ignore_ascii_case(word))
}

/// The number at the start of a text.
fn number(raw: &str) -> Option<u16> {
    let count = raw.bytes().take(4).take_while(u8::is_ascii_digit).count();
    raw.get(..count)?.parse().ok()
}

/// A date, and whether its year comes first. Dashes, slashes and dots between the digits, and letters behind them, do not matter.
fn read_date(raw: &str) -> Option<(Date, bool)> {
    let end = raw.find(|c: char| !c.is_ascii_digit() && !"-/. ".contains(c)).unwrap_or(raw.len());
    let digits: Vec<u16> =
        raw.get(..end)?.bytes().filter(u8::is_ascii_digit).map(|byte| u16::from(byte - b'0')).collect();
    let &[a, b, c, d, e, f, g, h] = digits.as_slice() else { return None };
    let day = |year: u16, month: u16, day: u16| {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        let fits = YEARS.contains(&year) && (1..=days).contains(&day);
        fits.then_some(Date { year, month: month as u8, day: day as u8 })
    };
    let year_first = day(a * 1000 + b * 100 + c * 10 + d, e * 10 + f, g * 10 + h).map(|date| (date, true));
    year_first.or_else(|| day(e * 1000 + f * 100 + g * 10 + h, a * 10 + b, c * 10 + d).map(|date| (date, false)))
}

fn sex(raw: &str) -> Option<Sex> {
    match raw {
        "1" | "M" | "m" => Some(Sex::Male),
        "2" | "F" | "f" => Some(Sex::Female),
        "9" | "0" | "X" | "x" => Some(Sex::NotSpecified),
        // The letter that a scanner typed for the CR behind the field.
        _ => raw.strip_suffix('M').filter(|rest| !rest.is_empty()).and_then(sex),
    }
}

fn truncation(raw: &str) -> Option<Truncation> {
    match raw {
        "T" => Some(Truncation::Truncated),
        "N" => Some(Truncation::NotTruncated),
        "U" => Some(Truncation::Unknown),
        _ => None,
    }
}

fn compliance(raw: &str) -> Option<Compliance> {
    match raw.chars().next() {
        Some('F') => Some(Compliance::Full),
        Some('M') => Some(Compliance::Material),
        Some('N') => Some(Compliance::None),
        _ => None,
    }
}

fn flag(raw: &str) -> Option<bool> {
    match raw.to_ascii_uppercase().as_str() {
        "1" | "Y" | "YES" | "DONOR" | "VETERAN" => Some(true),
        "0" | "N" | "NO" | "NONE" => Some(false),
        _ => None,
    }
}

/// Three letters of the standard, or a word that begins like one of the colours.
fn colour(raw: &str) -> Option<Colour> {
    const NAMES: [(&str, Colour); 25] = [
        ("BAL", Colour::Bald),
        ("BLK", Colour::Black),
        ("BLA", Colour::Black),
        ("BLN", Colour::Blond),
        ("BLO", Colour::Blond),
        ("BLU", Colour::Blue),
        ("BL", Colour::Blue),
        ("BR", Colour::Brown),
        ("DIC", Colour::Dichromatic),
        ("DI", Colour::Dichromatic),
        ("GRY", Colour::Gray),
        ("GRA", Colour::Gray),
        ("GRE", Colour::Green),
        ("GRN", Colour::Green),
        ("GR", Colour::Green),
        ("GY", Colour::Gray),
        ("GN", Colour::Green),
        ("HA", Colour::Hazel),
        ("HZ", Colour::Hazel),
        ("MAR", Colour::Maroon),
        ("PNK", Colour::Pink),
        ("PIN", Colour::Pink),
        ("RED", Colour::RedAuburn),
        ("SDY", Colour::Sandy),
        ("WHI", Colour::White),
    ];
    let raw = raw.to_ascii_uppercase();
    let known = NAMES.iter().find(|(name, _)| raw.starts_with(name)).map(|(_, colour)| *colour);
    known.or(match raw.as_str() {
        "SANDY" => Some(Colour::Sandy),
        "AUB" | "AUBURN" => Some(Colour::RedAuburn),
        _ => None,
    })
}

/// Heights: `070 IN`, `178 CM`, `5'10"`, `510` (feet and two digits of inches, the first edition's form).
fn read_height(raw: &str, first_edition: bool) -> Option<Height> {
    let upper = raw.to_ascii_uppercase();
    let numbers: Vec<u16> = upper.split(|c: char| !c.is_ascii_digit()).filter_map(number).collect();
    let inches = |feet: u16, inches: u16| (feet < 9 && inches < 12).then(|| Height::Inches(feet * 12 + inches));
    match *numbers.as_slice() {
        [feet, more] => inches(feet, more),
        [value] if upper.contains("CM") => (30..=280).contains(&value).then_some(Height::Centimetres(value)),
        // Some issuers write feet and inches and call it inches.
        [value] if upper.contains("IN") || !first_edition && value <= 108 => {
            if (12..=108).contains(&value) {
                Some(Height::Inches(value))
            } else {
                inches(value / 100, value % 100)
            }
        }
        [value] => {
            let imperial = if value > 280 || first_edition {
                inches(value / 100, value % 100).filter(|_| value >= 200)
            } else {
                None
            };
            imperial.or_else(|| (100..=280).contains(&value).then_some(Height::Centimetres(value)))
        }
        _ => None,
    }
}

/// Weight ranges 0 to 9 (Table D.3, `DCE`).
fn weight_range(raw: &str) -> Option<Weight> {
    const RANGES: [(u16, Option<u16>); 10] = [
        (0, Some(70)),
        (71, Some(100)),
        (101, Some(130)),
        (131, Some(160)),
        (161, Some(190)),
        (191, Some(220)),
        (221, Some(250)),
        (251, Some(280)),
        (281, Some(320)),
        (321, None),
    ];
    let value = number(raw).filter(|_| raw.len() == 1)?;
    RANGES.get(usize::from(value)).map(|(low, high)| Weight::PoundsRange(*low, *high))
}

/// Letters and digits of a postal code, without the zeros that fill up a five-digit one to nine (also where some are missing).
fn postal_code(raw: &str) -> String {
    let words: Vec<&str> = raw.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let digits = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    if let [code, rest] = words.as_slice()
        && code.len() == 5
        && digits(code)
        && rest.len() < 4
        && digits(rest)
    {
        return (*code).to_owned();
    }
    let code = words.concat();
    match code.strip_suffix("0000") {
        Some(short) if short.len() >= 5 && digits(short) => short.to_owned(),
        _ => code,
    }
}

#[cfg(test)]
mod tests;
