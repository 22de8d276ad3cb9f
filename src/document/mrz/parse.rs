//! From the lines of an MRZ to its fields.
//!
//! Called by whoever has the text: the reader after `repair`, the command line with lines typed in. A damaged field never
//! discards the others: what cannot be understood becomes a warning beside the field, and the raw text stays. Only lines that
//! fit no format are an error. Left out: changing any character (that is `repair`), and judging a document by its content.
//! Sources: ICAO Doc 9303 parts 3 to 7; see `layout` for the formats outside it.

use super::check_digit::{FILLER, UNREADABLE, check_digit, value};
use super::date::{self, Date, DateFault, DateKind, PartialDate};
use super::layout::{Check, FieldName, Format, Item, Layout, Span};
use super::states::{self, State};

/// Input beyond this many characters is refused before it is looked at; the largest MRZ has 90.
const MAX_INPUT_BYTES: usize = 4096;

/// Everything an MRZ says.
#[derive(Debug, Clone, PartialEq)]
pub struct Mrz {
    pub format: Format,
    /// The lines as they were understood: upper case, no spaces, `?` for characters outside the alphabet.
    pub lines: Vec<String>,
    /// Without fillers, such as `P` or `ID`.
    pub document_code: Field<String>,
    /// What the document code stands for.
    pub document_type: DocumentType,
    pub issuing_state: Field<&'static State>,
    /// Absent on driving licences other than the French and the Swiss.
    pub names: Option<Field<Names>>,
    /// Whole, also where it runs over into the optional data. Absent where the layout of a licence is not known.
    pub document_number: Option<Field<String>>,
    pub nationality: Option<Field<&'static State>>,
    pub birth: Option<Field<PartialDate>>,
    pub sex: Option<Field<Sex>>,
    pub expiry: Option<Field<PartialDate>>,
    /// French identity card only; year and month.
    pub issue: Option<Field<PartialDate>>,
    /// Without the fillers at its end and without the rest of a long document number. The personal number on TD3.
    pub optional_data: Option<Field<String>>,
    pub optional_data_2: Option<Field<String>>,
    /// The check digit over several fields; [`CheckDigit::NotApplicable`] in formats that have none.
    pub composite: CheckDigit,
    pub warnings: Vec<Warning>,
}

impl Mrz {
    /// True if the format has check digits and every one of them is valid (a personal number may go without). Says nothing
    /// about fields without check digits: names, State, nationality, sex.
    pub fn all_check_digits_valid(&self) -> bool {
        let is_good = |(name, digit)| match digit {
            CheckDigit::Valid | CheckDigit::NotApplicable => true,
            CheckDigit::Absent => name == FieldName::OptionalData,
            CheckDigit::Failed { .. } => false,
        };
        self.check_digits().all(is_good) && self.check_digits().any(|(_, digit)| digit == CheckDigit::Valid)
    }

    /// The check digit of each field that is present, the composite last.
    pub fn check_digits(&self) -> impl Iterator<Item = (FieldName, CheckDigit)> {
        [
            self.document_number.as_ref().map(|field| (FieldName::DocumentNumber, field.check)),
            self.birth.as_ref().map(|field| (FieldName::Birth, field.check)),
            self.expiry.as_ref().map(|field| (FieldName::Expiry, field.check)),
            self.optional_data.as_ref().map(|field| (FieldName::OptionalData, field.check)),
            Some((FieldName::Composite, self.composite)),
        ]
        .into_iter()
        .flatten()
    }

    /// Whether a character can stand at a place of a zone of this form, by what is printed there: no digit in a name, no letter in a date.
    pub fn allows(&self, line: usize, position: usize, symbol: char) -> bool {
        let lines: Vec<Vec<u8>> = self.lines.iter().map(|line| line.clone().into_bytes()).collect();
        let layout = Layout::of(self.format, &lines);
        u8::try_from(symbol).is_ok_and(|symbol| layout.alphabet(line, position).allows(symbol))
    }

    /// How far a field's text can be relied on. `None` for fields that this MRZ does not have.
    pub fn certainty(&self, name: FieldName) -> Option<Certainty> {
        match name {
            FieldName::DocumentCode => Some(self.document_code.certainty),
            FieldName::IssuingState => Some(self.issuing_state.certainty),
            FieldName::Names => self.names.as_ref().map(|field| field.certainty),
            FieldName::DocumentNumber => self.document_number.as_ref().map(|field| field.certainty),
            FieldName::Nationality => self.nationality.as_ref().map(|field| field.certainty),
            FieldName::Birth => self.birth.as_ref().map(|field| field.certainty),
            FieldName::Sex => self.sex.as_ref().map(|field| field.certainty),
            FieldName::Expiry => self.expiry.as_ref().map(|field| field.certainty),
            FieldName::Issue => self.issue.as_ref().map(|field| field.certainty),
            FieldName::OptionalData => self.optional_data.as_ref().map(|field| field.certainty),
            FieldName::OptionalData2 => self.optional_data_2.as_ref().map(|field| field.certainty),
            FieldName::Composite => None,
        }
    }

    /// Sets certainty and alternatives of a field; nothing happens if this MRZ does not have it.
    pub(super) fn set_certainty(&mut self, name: FieldName, certainty: Certainty, alternatives: Vec<String>) {
        if let Some(reliance) = self.reliance(name) {
            *reliance.0 = certainty;
            *reliance.1 = alternatives;
        }
    }

    /// Certainty and alternatives of a field. `None` for fields that this MRZ does not have.
    pub(super) fn reliance(&mut self, name: FieldName) -> Option<(&mut Certainty, &mut Vec<String>)> {
        fn of<T>(field: &mut Field<T>) -> (&mut Certainty, &mut Vec<String>) {
            (&mut field.certainty, &mut field.alternatives)
        }
        match name {
            FieldName::DocumentCode => Some(of(&mut self.document_code)),
            FieldName::IssuingState => Some(of(&mut self.issuing_state)),
            FieldName::Names => self.names.as_mut().map(of),
            FieldName::DocumentNumber => self.document_number.as_mut().map(of),
            FieldName::Nationality => self.nationality.as_mut().map(of),
            FieldName::Birth => self.birth.as_mut().map(of),
            FieldName::Sex => self.sex.as_mut().map(of),
            FieldName::Expiry => self.expiry.as_mut().map(of),
            FieldName::Issue => self.issue.as_mut().map(of),
            FieldName::OptionalData => self.optional_data.as_mut().map(of),
            FieldName::OptionalData2 => self.optional_data_2.as_mut().map(of),
            FieldName::Composite => None,
        }
    }
}

/// One field.
#[derive(Debug, Clone, PartialEq)]
pub struct Field<T> {
    /// `None` if the field is empty or could not be understood.
    pub value: Option<T>,
    /// The characters as in the MRZ, fillers included.
    pub raw: String,
    /// Where `raw` lies; the first place where a field has several.
    pub place: Span,
    pub check: CheckDigit,
    pub certainty: Certainty,
    /// Other readings of `raw` that the evidence does not exclude, most probable first. Never empty in silence: a field with
    /// alternatives is [`Certainty::Uncertain`].
    pub alternatives: Vec<String>,
}

/// State of a check digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckDigit {
    Valid,
    /// `expected` is `?` if a covered character is unreadable.
    Failed {
        expected: char,
        found: char,
    },
    /// The format has one here, but a filler stands in its place, as on personal numbers that are empty.
    Absent,
    /// The format has none for this field.
    NotApplicable,
}

/// How far the text of a field can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// No character was changed.
    AsRead,
    /// Characters were changed, and check digits prove the result.
    Proved,
    /// Characters were changed because only these can stand there; no check digit covers them.
    Presumed,
    /// Other readings remain possible.
    Uncertain,
}

/// The holder's names, fillers turned into spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names {
    /// Usually the family name. Empty if the field is.
    pub primary: String,
    /// Usually the given names. Empty if there are none.
    pub secondary: String,
    /// The field is full to its end, so that the names may go on: compare them by prefix.
    pub truncated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sex {
    Male,
    Female,
    /// `X` or a filler.
    Unspecified,
}

/// What the first letters of the document code stand for (parts 4 to 7, and 3 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentType {
    Passport,
    /// `I`, and `A` or `C` where they mean cards.
    IdentityCard,
    /// `IR`, `AR`, `CR` and the like: the second letter `R` on a card.
    ResidencePermit,
    /// `AC`.
    CrewMemberCertificate,
    Visa,
    DrivingLicence,
    Other,
}

/// Something a caller should know about a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Warning {
    pub field: FieldName,
    pub kind: WarningKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WarningKind {
    CheckDigitFailed,
    /// A character that cannot stand there, such as a letter in a date.
    CharacterNotAllowed,
    /// No such day.
    DateImpossible,
    /// Parts of the date are not given.
    DateIncomplete,
    /// The birth lies after the expiry.
    DatesInWrongOrder,
    /// A code that neither ISO 3166-1 nor ICAO knows.
    StateUnknown,
    /// No `<<` between the two parts of the name.
    NameSeparatorMissing,
    /// Characters after the end of the names.
    NameFillerDamaged,
    /// A field that must be there is empty.
    Empty,
    /// The document code is not one of this format.
    DocumentCodeUnknown,
    /// The discretionary data of this State's licences have no published layout and are given as they are.
    LayoutUnknown,
    /// Spaces between lines, other lengths or the like were made good; see the repairs.
    LineLengthRepaired,
}

impl WarningKind {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::CheckDigitFailed => "MRZ_CHECK_DIGIT_FAILED",
            Self::CharacterNotAllowed => "MRZ_CHARACTER_NOT_ALLOWED",
            Self::DateImpossible => "MRZ_DATE_IMPOSSIBLE",
            Self::DateIncomplete => "MRZ_DATE_INCOMPLETE",
            Self::DatesInWrongOrder => "MRZ_DATES_IN_WRONG_ORDER",
            Self::StateUnknown => "MRZ_STATE_UNKNOWN",
            Self::NameSeparatorMissing => "MRZ_NAME_SEPARATOR_MISSING",
            Self::NameFillerDamaged => "MRZ_NAME_FILLER_DAMAGED",
            Self::Empty => "MRZ_FIELD_EMPTY",
            Self::DocumentCodeUnknown => "MRZ_DOCUMENT_CODE_UNKNOWN",
            Self::LayoutUnknown => "MRZ_LAYOUT_UNKNOWN",
            Self::LineLengthRepaired => "MRZ_LINE_LENGTH_REPAIRED",
        }
    }
}

/// Why lines are no MRZ. Never quotes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("no text")]
    Empty,
    #[error("the text is longer than {MAX_INPUT_BYTES} bytes")]
    TooLong,
    /// No format has lines of these lengths. At most the first eight lengths are given.
    #[error("no MRZ format has {lines} lines of {lengths:?} characters")]
    UnknownFormat { lines: usize, lengths: Vec<usize> },
    /// The lengths fit, but the first letter is that of no document with lines like these.
    #[error("the lines have the size of an MRZ, but do not begin as one")]
    UnknownDocumentCode,
}

/// Reads an MRZ. Lower case, spaces, line ends and empty lines do not matter; two-line formats may come as one string.
/// `today` decides the centuries.
///
/// # Errors
/// If the lines have the lengths of no format. Everything else is a warning in the result.
pub fn parse(lines: &[&str], today: Date) -> Result<Mrz, ParseError> {
    let lines = normalise(lines)?;
    let format = detect(&lines)?;
    Ok(read(format, &lines, today))
}

/// Upper case ASCII lines without spaces and empty lines; other characters become [`UNREADABLE`].
pub(super) fn normalise(lines: &[&str]) -> Result<Vec<Vec<u8>>, ParseError> {
    if lines.iter().map(|line| line.len()).sum::<usize>() > MAX_INPUT_BYTES {
        return Err(ParseError::TooLong);
    }
    let mut normal: Vec<Vec<u8>> = lines
        .iter()
        .flat_map(|line| line.lines())
        .map(|line| line.chars().flat_map(symbols).collect::<Vec<_>>())
        .filter(|line| !line.is_empty())
        .collect();
    if let [line] = normal.as_slice()
        && let Some(length) = match line.len() {
            88 => Some(44),
            72 => Some(36),
            90 => Some(30),
            _ => None,
        }
    {
        normal = line.chunks(length).map(<[u8]>::to_vec).collect();
    }
    if normal.is_empty() { Err(ParseError::Empty) } else { Ok(normal) }
}

/// The characters of the MRZ that a character stands for; quotation marks are what recognisers make of fillers.
pub(super) fn symbols(character: char) -> impl Iterator<Item = u8> {
    let (symbol, count) = match character {
        '\u{feff}' | '\u{200b}' => (FILLER, 0),
        '«' | '≪' | '《' => (FILLER, 2),
        '‹' | '＜' | '〈' | '≤' | '˂' => (FILLER, 1),
        _ if character.is_whitespace() => (FILLER, 0),
        _ => match u8::try_from(character.to_ascii_uppercase()) {
            Ok(byte) if value(byte).is_some() => (byte, 1),
            _ => (UNREADABLE, 1),
        },
    };
    std::iter::repeat_n(symbol, count)
}

/// The format of lines whose lengths are exact.
pub(super) fn detect(lines: &[Vec<u8>]) -> Result<Format, ParseError> {
    let lengths: Vec<_> = lines.iter().map(Vec::len).collect();
    let fits = |format: Format| format.line_lengths() == lengths;
    if !Format::ALL.into_iter().any(fits) {
        return Err(ParseError::UnknownFormat { lines: lines.len(), lengths: lengths.into_iter().take(8).collect() });
    }
    by_content(lines)
}

/// The format by number of lines, length of the second (or only) line and document code; the lengths may be a little off.
pub(super) fn by_content(lines: &[Vec<u8>]) -> Result<Format, ParseError> {
    let first = lines.first().map_or(&[][..], Vec::as_slice);
    let code = first.first().copied().unwrap_or(UNREADABLE);
    let is_short = lines.iter().map(Vec::len).max().is_some_and(|length| length < 40);
    match lines.len() {
        1 if matches!(code, b'D' | b'A' | b'B') => Ok(Format::DrivingLicence),
        2 if is_short && code == b'V' => Ok(Format::MrvB),
        2 if is_short && is_french_card(lines) => Ok(Format::FrenchIdentityCard),
        2 if is_short => Ok(Format::Td2),
        2 if code == b'V' => Ok(Format::MrvA),
        2 => Ok(Format::Td3),
        3 if first.len() < 15 => Ok(Format::SwissDrivingLicence),
        3 => Ok(Format::Td1),
        _ => Err(ParseError::UnknownDocumentCode),
    }
}

/// The old French card begins `IDFRA` as a TD2 card of France would; what tells them apart is where the birth date is. Check
/// digits vote first, then the kind of character.
fn is_french_card(lines: &[Vec<u8>]) -> bool {
    if !lines.first().is_some_and(|line| line.starts_with(b"IDFRA")) {
        return false;
    }
    let votes = |format: Format| {
        let layout = Layout::of(format, lines);
        let valid = layout.checks().filter(|check| is_valid(check, lines)).count();
        let fitting = layout
            .items
            .iter()
            .filter(|item| item.span.line == 1)
            .flat_map(|item| item.span.of(lines).iter().map(|symbol| item.alphabet.allows(*symbol)))
            .filter(|fits| *fits)
            .count();
        (valid, fitting)
    };
    votes(Format::FrenchIdentityCard) >= votes(Format::Td2)
}

/// The character at a position; unreadable beyond the end.
pub(super) fn at(lines: &[Vec<u8>], line: usize, position: usize) -> u8 {
    lines.get(line).and_then(|line| line.get(position)).copied().unwrap_or(UNREADABLE)
}

/// The digit that a check should show.
pub(super) fn expected(check: &Check, lines: &[Vec<u8>]) -> Option<u8> {
    check_digit(check.covers.iter().flat_map(|span| span.of(lines).iter().copied()))
}

pub(super) fn is_valid(check: &Check, lines: &[Vec<u8>]) -> bool {
    expected(check, lines) == Some(at(lines, check.line, check.position))
}

/// The rest of a document number that runs over into the optional data, and the check digit that follows it.
pub(super) struct LongNumber {
    pub(super) rest: Span,
    /// Position of the check digit, in the line of `rest`.
    pub(super) check_position: usize,
}

/// Finds the rest of a long number: the number fills its field, a filler stands in the place of the check digit, and the
/// optional data begin with at least one more character and a digit.
pub(super) fn long_number(layout: &Layout, lines: &[Vec<u8>]) -> Option<LongNumber> {
    let (number, optional) = (layout.item(FieldName::DocumentNumber)?, layout.item(FieldName::OptionalData)?);
    let check = number.check.as_ref()?;
    let is_full = !number.span.of(lines).ends_with(&[FILLER]);
    if !layout.long_numbers || !is_full || at(lines, check.line, check.position) != FILLER {
        return None;
    }
    let length = optional.span.of(lines).iter().take_while(|symbol| **symbol != FILLER).count();
    let check_position = optional.span.start + length.checked_sub(1).filter(|rest| *rest > 0)?;
    Some(LongNumber { rest: Span { end: check_position, ..optional.span }, check_position })
}

/// Reads lines that have the lengths of `format`.
pub(super) fn read(format: Format, lines: &[Vec<u8>], today: Date) -> Mrz {
    let mut reader = Reader { layout: Layout::of(format, lines), lines, today, warnings: Vec::new() };
    let code = reader.text(FieldName::DocumentCode).unwrap_or_else(|| reader.missing());
    let document_type = document_type(format, code.raw.as_bytes());
    if document_type == DocumentType::Other {
        reader.warn(FieldName::DocumentCode, WarningKind::DocumentCodeUnknown);
    }
    let issuing_state = reader.state(FieldName::IssuingState).unwrap_or_else(|| reader.missing());
    let names = reader.names();
    let long = long_number(reader.layout, lines);
    let document_number = reader.document_number(long.as_ref());
    let mut mrz = Mrz {
        format,
        lines: lines.iter().map(|line| text(line)).collect(),
        document_code: code,
        document_type,
        issuing_state,
        names,
        document_number,
        nationality: reader.state(FieldName::Nationality),
        birth: reader.date(FieldName::Birth, DateKind::Birth),
        sex: reader.sex(),
        expiry: reader.date(FieldName::Expiry, DateKind::Expiry),
        issue: reader.date(FieldName::Issue, DateKind::Birth),
        optional_data: reader.optional_data(long.as_ref()),
        optional_data_2: reader.text(FieldName::OptionalData2),
        composite: reader.composite(),
        warnings: Vec::new(),
    };
    if format == Format::DrivingLicence && mrz.document_number.is_none() {
        reader.warn(FieldName::OptionalData, WarningKind::LayoutUnknown);
    }
    let day = |field: &Option<Field<PartialDate>>| field.as_ref().and_then(|field| field.value);
    if let (Some(birth), Some(expiry)) = (day(&mrz.birth), day(&mrz.expiry))
        && birth.earliest() > expiry.latest()
        && expiry.year.is_some()
    {
        reader.warn(FieldName::Expiry, WarningKind::DatesInWrongOrder);
    }
    mrz.warnings = reader.warnings;
    mrz
}

struct Reader<'a> {
    layout: &'static Layout,
    lines: &'a [Vec<u8>],
    today: Date,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn warn(&mut self, field: FieldName, kind: WarningKind) {
        let warning = Warning { field, kind };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Stands for a field that every layout has.
    fn missing<T>(&self) -> Field<T> {
        field(None, &[], Span { line: 0, start: 0, end: 0 }, CheckDigit::NotApplicable)
    }

    /// The state of a check digit, with a warning if it failed.
    fn check(&mut self, name: FieldName, expected: Option<u8>, found: u8, may_be_absent: bool) -> CheckDigit {
        if expected == Some(found) {
            return CheckDigit::Valid;
        }
        if found == FILLER && may_be_absent {
            return CheckDigit::Absent;
        }
        self.warn(name, WarningKind::CheckDigitFailed);
        CheckDigit::Failed { expected: char::from(expected.unwrap_or(UNREADABLE)), found: char::from(found) }
    }

    fn item_check(&mut self, item: &Item, may_be_absent: bool) -> CheckDigit {
        match &item.check {
            None => CheckDigit::NotApplicable,
            Some(check) => {
                let found = at(self.lines, check.line, check.position);
                self.check(item.name, expected(check, self.lines), found, may_be_absent)
            }
        }
    }

    /// A field's characters, with a warning for those that cannot stand there.
    fn raw(&mut self, item: &Item) -> Vec<u8> {
        let raw = item.span.of(self.lines).to_vec();
        if !raw.iter().all(|symbol| item.alphabet.allows(*symbol)) {
            self.warn(item.name, WarningKind::CharacterNotAllowed);
        }
        raw
    }

    /// A field that is plain text.
    fn text(&mut self, name: FieldName) -> Option<Field<String>> {
        let item = self.layout.item(name)?;
        let raw = self.raw(item);
        let check = self.item_check(item, false);
        Some(field(plain(&raw), &raw, item.span, check))
    }

    fn composite(&mut self) -> CheckDigit {
        self.layout.composite.as_ref().map_or(CheckDigit::NotApplicable, |check| {
            let found = at(self.lines, check.line, check.position);
            self.check(FieldName::Composite, expected(check, self.lines), found, false)
        })
    }

    fn document_number(&mut self, long: Option<&LongNumber>) -> Option<Field<String>> {
        let item = self.layout.item(FieldName::DocumentNumber)?;
        let mut raw = self.raw(item);
        let check = match long {
            Some(long) => {
                raw.extend_from_slice(long.rest.of(self.lines));
                let found = at(self.lines, long.rest.line, long.check_position);
                self.check(FieldName::DocumentNumber, check_digit(raw.iter().copied()), found, false)
            }
            None => self.item_check(item, raw.iter().all(|symbol| *symbol == FILLER)),
        };
        if raw.iter().all(|symbol| *symbol == FILLER) {
            self.warn(FieldName::DocumentNumber, WarningKind::Empty);
        }
        Some(field(plain(&raw), &raw, item.span, check))
    }

    /// The optional data without the part that belongs to a long number. An empty personal number may have `0`, which is its
    /// true check digit, or a filler (part 4, section 4.2.2.2).
    fn optional_data(&mut self, long: Option<&LongNumber>) -> Option<Field<String>> {
        let item = self.layout.item(FieldName::OptionalData)?;
        let whole = self.raw(item);
        let span = match long {
            Some(long) => Span { start: (long.check_position + 1).min(item.span.end), ..item.span },
            None => item.span,
        };
        let raw = span.of(self.lines);
        let check = self.item_check(item, whole.iter().all(|symbol| *symbol == FILLER));
        let value = plain(raw.strip_prefix(b"<").filter(|_| long.is_some()).unwrap_or(raw));
        Some(field(value, raw, span, check))
    }

    fn state(&mut self, name: FieldName) -> Option<Field<&'static State>> {
        let item = self.layout.item(name)?;
        let raw = self.raw(item);
        let code = text(trim_end(&raw));
        let state = states::find(&code);
        if code.is_empty() {
            self.warn(name, WarningKind::Empty);
        } else if state.is_none() {
            self.warn(name, WarningKind::StateUnknown);
        }
        Some(field(state, &raw, item.span, CheckDigit::NotApplicable))
    }

    fn sex(&mut self) -> Option<Field<Sex>> {
        let item = self.layout.item(FieldName::Sex)?;
        let raw = self.raw(item);
        let sex = match raw.as_slice() {
            b"M" => Some(Sex::Male),
            b"F" => Some(Sex::Female),
            b"X" | b"<" => Some(Sex::Unspecified),
            _ => None,
        };
        Some(field(sex, &raw, item.span, CheckDigit::NotApplicable))
    }

    fn date(&mut self, name: FieldName, kind: DateKind) -> Option<Field<PartialDate>> {
        let item = self.layout.item(name)?;
        let raw = self.raw(item);
        let (value, fault) = date::read(&raw, kind, self.today);
        match fault {
            Some(DateFault::Impossible) => self.warn(name, WarningKind::DateImpossible),
            Some(DateFault::Incomplete) => self.warn(name, WarningKind::DateIncomplete),
            None => {}
        }
        let check = self.item_check(item, raw.iter().all(|symbol| *symbol == FILLER));
        Some(field(value, &raw, item.span, check))
    }

    fn names(&mut self) -> Option<Field<Names>> {
        let mut items = self.layout.items.iter().filter(|item| item.name == FieldName::Names);
        let item = items.next()?;
        let mut raw = self.raw(item);
        if let Some(given) = items.next() {
            // The French card: both parts have a field of their own.
            let secondary = self.raw(given);
            let is_full = |part: &[u8]| part.last().is_some_and(|symbol| *symbol != FILLER);
            let names = Names {
                primary: words(&raw),
                secondary: words(&secondary),
                truncated: is_full(&raw) || is_full(&secondary),
            };
            raw.extend_from_slice(&secondary);
            return Some(field(Some(names), &raw, item.span, CheckDigit::NotApplicable));
        }
        let split = split_names(&raw);
        // A name in one part needs no separator, but then it ends in fillers.
        let truncated = raw.last().is_some_and(|symbol| *symbol != FILLER);
        if split.primary.is_empty() && split.secondary.is_empty() {
            self.warn(FieldName::Names, WarningKind::Empty);
        } else if truncated && split.separator.is_none() {
            self.warn(FieldName::Names, WarningKind::NameSeparatorMissing);
        }
        if split.tail.iter().any(|symbol| *symbol != FILLER) {
            self.warn(FieldName::Names, WarningKind::NameFillerDamaged);
        }
        let names = Names { primary: words(split.primary), secondary: words(split.secondary), truncated };
        let is_empty = names.primary.is_empty() && names.secondary.is_empty();
        Some(field((!is_empty).then_some(names), &raw, item.span, CheckDigit::NotApplicable))
    }
}

/// The parts of a name field.
pub(super) struct SplitNames<'a> {
    pub(super) primary: &'a [u8],
    pub(super) secondary: &'a [u8],
    /// What follows the names: fillers, unless they were misread.
    pub(super) tail: &'a [u8],
    /// Where the `<<` between the parts begins.
    pub(super) separator: Option<usize>,
}

/// Splits a name field at its first `<<`. The secondary part ends at the next run of two fillers: inside it words are
/// separated by one (part 3, section 4.6).
pub(super) fn split_names(raw: &[u8]) -> SplitNames<'_> {
    let double = |text: &[u8]| text.windows(2).position(|pair| pair == b"<<");
    let Some(separator) = double(raw) else {
        return SplitNames { primary: raw, secondary: &[], tail: &[], separator: None };
    };
    let (primary, rest) = raw.split_at(separator);
    let rest = rest.get(2..).unwrap_or_default();
    if rest.first() == Some(&FILLER) {
        // Three fillers: there is no secondary part, and what follows them is either nothing or a misread. Text that
        // cannot be a misread filler is kept as the secondary part, so that no name gets lost.
        let text_start = rest.iter().position(|symbol| *symbol != FILLER).unwrap_or(rest.len());
        let (fillers, text) = rest.split_at(text_start);
        return if text.iter().any(|symbol| !is_filler_lookalike(*symbol)) {
            let end = double(text).unwrap_or(text.len());
            let (secondary, tail) = text.split_at(end);
            SplitNames { primary, secondary, tail, separator: Some(separator) }
        } else {
            let tail = if text.is_empty() { fillers } else { rest };
            SplitNames { primary, secondary: &[], tail, separator: Some(separator) }
        };
    }
    let (secondary, tail) = rest.split_at(double(rest).unwrap_or(rest.len()));
    SplitNames { primary, secondary, tail, separator: Some(separator) }
}

/// Letters that recognisers make of fillers (public reports name K, S and X; C and L were seen at low resolution).
pub(super) fn is_filler_lookalike(symbol: u8) -> bool {
    matches!(symbol, FILLER | b'K' | b'S' | b'X' | b'C' | b'L')
}

fn document_type(format: Format, code: &[u8]) -> DocumentType {
    let first = code.first().copied().unwrap_or(UNREADABLE);
    let second = code.get(1).copied().unwrap_or(UNREADABLE);
    match (format, first, second) {
        (Format::SwissDrivingLicence | Format::DrivingLicence, ..) => DocumentType::DrivingLicence,
        (Format::MrvA | Format::MrvB, ..) | (_, b'V', _) => DocumentType::Visa,
        (_, b'P', _) => DocumentType::Passport,
        (_, b'A', b'C') => DocumentType::CrewMemberCertificate,
        (_, b'I' | b'A' | b'C', b'R') => DocumentType::ResidencePermit,
        (_, b'I' | b'A' | b'C', _) => DocumentType::IdentityCard,
        _ => DocumentType::Other,
    }
}

fn field<T>(value: Option<T>, raw: &[u8], place: Span, check: CheckDigit) -> Field<T> {
    Field { value, raw: text(raw), place, check, certainty: Certainty::AsRead, alternatives: Vec::new() }
}

/// The text of a field without the fillers at its end; fillers inside it stay. `None` if nothing is left.
fn plain(raw: &[u8]) -> Option<String> {
    Some(text(trim_end(raw))).filter(|text| !text.is_empty())
}

/// Words separated by single spaces.
fn words(raw: &[u8]) -> String {
    let words: Vec<_> = raw.split(|symbol| *symbol == FILLER).filter(|word| !word.is_empty()).map(text).collect();
    words.join(" ")
}

fn trim_end(raw: &[u8]) -> &[u8] {
    let end = raw.iter().rposition(|symbol| *symbol != FILLER).map_or(0, |last| last + 1);
    raw.get(..end).unwrap_or_default()
}

pub(super) fn text(raw: &[u8]) -> String {
    raw.iter().copied().map(char::from).collect()
}
