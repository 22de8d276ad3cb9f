//! From fields to the lines of an MRZ, with check digits.
//!
//! Called by tests and by the maker of specimens. Generates the five formats of ICAO Doc 9303 (parts 4 to 7); names are
//! spelled by `transliterate` and truncated as part 4 section 4.2.3 shows: the last position of the field holds a letter, so
//! that the truncation can be seen, and at least one letter of the secondary part remains. Left out: the forms outside ICAO,
//! and judging whether a document like this could exist.

use super::check_digit::FILLER;
use super::date::Date;
use super::layout::{Alphabet, FieldName, Format, Layout};
use super::parse::{Sex, expected, text};
use super::transliterate::transliterate;

/// What goes into an MRZ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    pub format: Format,
    /// One or two characters, such as `P` or `ID`.
    pub document_code: String,
    /// Up to three letters.
    pub issuing_state: String,
    /// In the spelling of the visual zone, any case.
    pub primary: String,
    pub secondary: String,
    /// Letters, digits and fillers. More than nine characters are possible on TD1 and TD2 only.
    pub document_number: String,
    /// Up to three letters.
    pub nationality: String,
    pub birth: DateParts,
    pub sex: Sex,
    pub expiry: DateParts,
    /// Personal number on TD3.
    pub optional_data: String,
    /// TD1 only; must be empty elsewhere.
    pub optional_data_2: String,
}

/// A date of which parts may be unknown. Of the year the last two digits are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DateParts {
    pub year: Option<u16>,
    pub month: Option<u8>,
    pub day: Option<u8>,
}

impl From<Date> for DateParts {
    fn from(date: Date) -> Self {
        Self { year: Some(date.year()), month: Some(date.month()), day: Some(date.day()) }
    }
}

impl DateParts {
    fn symbols(self) -> Vec<u8> {
        let two = |part: Option<u16>| part.map_or("<<".to_owned(), |part| format!("{:02}", part % 100));
        [self.year, self.month.map(u16::from), self.day.map(u16::from)]
            .into_iter()
            .flat_map(|part| two(part).into_bytes())
            .collect()
    }
}

/// Why fields make no MRZ. Never quotes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    #[error("MRZ of this format are read but not generated")]
    FormatNotGenerated,
    #[error("{} is too long", .0.name())]
    TooLong(FieldName),
    #[error("{} holds a character that cannot stand there", .0.name())]
    CharacterNotAllowed(FieldName),
    #[error("the names hold a letter without a spelling in the MRZ")]
    NoSpelling,
    #[error("{} is empty", .0.name())]
    Empty(FieldName),
}

/// Makes the lines of an MRZ, top to bottom.
///
/// # Errors
/// If a field is too long, holds characters that cannot stand in it, or must not be empty but is (document code, State,
/// number, primary name). Dates are written as they are, also those that do not exist.
pub fn generate(fields: &Fields) -> Result<Vec<String>, GenerateError> {
    if !matches!(fields.format, Format::Td1 | Format::Td2 | Format::Td3 | Format::MrvA | Format::MrvB) {
        return Err(GenerateError::FormatNotGenerated);
    }
    let layout = Layout::of(fields.format, &[]);
    let mut lines: Vec<Vec<u8>> = fields.format.line_lengths().iter().map(|length| vec![FILLER; *length]).collect();
    let (number, overflow) = split_number(layout, fields.document_number.trim_end_matches('<'))?;
    if !fields.optional_data_2.is_empty() && layout.item(FieldName::OptionalData2).is_none() {
        return Err(GenerateError::TooLong(FieldName::OptionalData2));
    }
    let sex = match fields.sex {
        Sex::Male => "M",
        Sex::Female => "F",
        Sex::Unspecified => "<",
    };
    for item in layout.items {
        let content: Vec<u8> = match item.name {
            FieldName::DocumentCode => required(item.name, &fields.document_code)?,
            FieldName::IssuingState => required(item.name, &fields.issuing_state)?,
            FieldName::Names => names(&fields.primary, &fields.secondary, item.span.end - item.span.start)?,
            FieldName::DocumentNumber => number.clone(),
            FieldName::Nationality => fields.nationality.clone().into_bytes(),
            FieldName::Birth => fields.birth.symbols(),
            FieldName::Sex => sex.as_bytes().to_vec(),
            FieldName::Expiry => fields.expiry.symbols(),
            FieldName::OptionalData => overflow.iter().copied().chain(fields.optional_data.bytes()).collect(),
            FieldName::OptionalData2 => fields.optional_data_2.clone().into_bytes(),
            FieldName::Issue | FieldName::Composite => Vec::new(),
        };
        if !content.iter().all(|symbol| item.alphabet.allows(*symbol)) {
            return Err(GenerateError::CharacterNotAllowed(item.name));
        }
        let place = lines.get_mut(item.span.line).and_then(|line| line.get_mut(item.span.start..item.span.end));
        let place = place.and_then(|place| place.get_mut(..content.len()));
        place.ok_or(GenerateError::TooLong(item.name))?.copy_from_slice(&content);
    }
    for check in layout.checks() {
        // A long number has its check digit in the optional data, and a filler here.
        let is_number = layout.item(FieldName::DocumentNumber).and_then(|item| item.check.as_ref()) == Some(check);
        let digit = expected(check, &lines);
        if let (Some(digit), false) = (digit, is_number && !overflow.is_empty())
            && let Some(place) = lines.get_mut(check.line).and_then(|line| line.get_mut(check.position))
        {
            *place = digit;
        }
    }
    Ok(lines.iter().map(|line| text(line)).collect())
}

fn required(name: FieldName, content: &str) -> Result<Vec<u8>, GenerateError> {
    if content.is_empty() { Err(GenerateError::Empty(name)) } else { Ok(content.as_bytes().to_vec()) }
}

/// The number's own field, and what stands at the beginning of the optional data: the rest, its check digit and a filler.
fn split_number(layout: &Layout, number: &str) -> Result<(Vec<u8>, Vec<u8>), GenerateError> {
    const FIELD: usize = 9;
    let name = FieldName::DocumentNumber;
    let number = required(name, number)?;
    if !number.iter().all(|symbol| Alphabet::Any.allows(*symbol)) {
        return Err(GenerateError::CharacterNotAllowed(name));
    }
    let Some((own, rest)) = number.split_at_checked(FIELD).filter(|(_, rest)| !rest.is_empty()) else {
        return Ok((number, Vec::new()));
    };
    if !layout.long_numbers {
        return Err(GenerateError::TooLong(name));
    }
    // A filler inside the rest would end it, and one before it would look like the end of a short number.
    if rest.contains(&FILLER) || own.ends_with(&[FILLER]) {
        return Err(GenerateError::CharacterNotAllowed(name));
    }
    let digit = super::check_digit::check_digit(number.iter().copied());
    let digit = digit.ok_or(GenerateError::CharacterNotAllowed(name))?;
    Ok((own.to_vec(), rest.iter().copied().chain([digit, FILLER]).collect()))
}

/// The name field without the fillers at its end.
fn names(primary: &str, secondary: &str, length: usize) -> Result<Vec<u8>, GenerateError> {
    let spell = |name: &str| transliterate(name).ok_or(GenerateError::NoSpelling);
    let (primary, secondary) = (spell(primary)?, spell(secondary)?);
    if primary.is_empty() {
        return Err(GenerateError::Empty(FieldName::Names));
    }
    if secondary.is_empty() {
        return Ok(fit(&primary, length));
    }
    // Two fillers and one letter of the secondary part have to remain.
    let mut field = fit(&primary, length.saturating_sub(3));
    field.extend_from_slice(b"<<");
    let rest = length.saturating_sub(field.len());
    field.extend(fit(&secondary, rest));
    Ok(field)
}

/// The words of a name, cut to a length. A cut name ends in a letter: where the cut would fall behind a word, the longest
/// word before it gives a letter away, so that the next one shows its first.
fn fit(words: &str, length: usize) -> Vec<u8> {
    if words.len() <= length {
        return words.as_bytes().to_vec();
    }
    let mut words: Vec<Vec<u8>> = words.split('<').map(|word| word.as_bytes().to_vec()).collect();
    loop {
        let mut cut = words.join(&FILLER);
        cut.truncate(length);
        if cut.last() != Some(&FILLER) {
            return cut;
        }
        let whole = cut.split(|symbol| *symbol == FILLER).count().saturating_sub(1);
        match words.iter_mut().take(whole).max_by_key(|word| word.len()) {
            Some(longest) if longest.len() > 1 => longest.pop(),
            // Nothing but initials: they end in a filler and are as short as they can be.
            _ => {
                cut.pop();
                return cut;
            }
        };
    }
}
