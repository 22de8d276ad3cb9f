//! Whether two sources say the same about a person or a document, and one record made of all of them.
//!
//! Called by the check that compares a document with itself and with what the caller claims. Names are compared through their
//! spellings in the machine-readable zone, dates as far as both know them, numbers without their separators. Left out: what a
//! difference means for the outcome, which is the check's business, and values in results: a comparison names fields, never what they
//! say. Sources: ICAO Doc 9303 part 3, section 4 (names, truncation, dates) and section 6 (transliteration); where the standard is
//! silent, the rule is this module's own and is told at the function.

mod names;
#[cfg(test)]
mod tests;

use super::fields::{DocumentField, Source};
use super::mrz::{Certainty, CheckDigit, Date, STATES, check_digit, find_state, transliterations};
use names::{compare_family, compare_full, compare_full_to_parts, compare_given, words};

/// A claim longer than this is refused. The longest field that documents are known to have is an address.
const MAX_CLAIM_BYTES: usize = 512;

/// Below this, the confidence of a reading leaves room for a pair of characters that look alike. Chosen, not fitted: a misread `P` in
/// a number of nine characters was seen at 0.74, and right values lie mostly above 0.95. Raising it turns more differences into doubts.
pub const SURE_CONFIDENCE: f64 = 0.9;

/// Below this, one character of any kind may be wrong or missing. Chosen as the constant above.
const WEAK_CONFIDENCE: f64 = 0.6;

/// Below this, a difference proves nothing: on small pictures such readings were wrong more often than the document.
const DOUBTFUL_CONFIDENCE: f64 = 0.5;

/// How two facts stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Agreement {
    Agrees,
    /// Nothing contradicts, but one side says less: a cut name, an initial, fewer given names, a date with unknown parts.
    AgreesAsFarAsPrinted,
    /// One side is empty, or in a script that has no spelling here.
    NotComparable,
    /// They differ, but no more than a misreading would explain, or one side is itself uncertain.
    Unsure,
    Differs,
}

/// Why an agreement is not plain equality, or what kind of difference it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detail {
    /// The same name in another spelling.
    Transliterated,
    Truncated,
    /// One side has fewer names.
    FewerNames,
    Initial,
    /// Unknown parts, or an order of day and month that the text leaves open.
    DatePartlyUnknown,
    /// Two dates a hundred years apart, of which an MRZ prints no century.
    CenturyNotPrinted,
    /// The family name is the other side's given name and the other way round.
    Swapped,
    /// They differ only in characters that look alike.
    ConfusableCharacters,
    /// One side prints the check digit after the number.
    CheckDigitAppended,
    /// It is not the reading held for the most probable that agrees, but another one of the same text.
    OtherReading,
}

impl Detail {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Transliterated => "TRANSLITERATED",
            Self::Truncated => "TRUNCATED",
            Self::FewerNames => "FEWER_NAMES",
            Self::Initial => "INITIAL",
            Self::DatePartlyUnknown => "DATE_PARTLY_UNKNOWN",
            Self::CenturyNotPrinted => "CENTURY_NOT_PRINTED",
            Self::Swapped => "SWAPPED",
            Self::ConfusableCharacters => "CONFUSABLE_CHARACTERS",
            Self::CheckDigitAppended => "CHECK_DIGIT_APPENDED",
            Self::OtherReading => "OTHER_READING",
        }
    }
}

/// One fact in two sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Comparison {
    /// As in [`DocumentField::name`].
    pub name: &'static str,
    /// In the order MRZ, barcode, visual zone, claim.
    pub sources: [Source; 2],
    pub agreement: Agreement,
    pub detail: Option<Detail>,
}

impl Comparison {
    /// Stable code of a difference (`DOCUMENT_NUMBER_DIFFERS`) or of a doubt (`DOCUMENT_NUMBER_UNSURE`); `None` otherwise.
    pub fn code(&self) -> Option<&'static str> {
        let row = COMPARED.iter().find(|row| row.name == self.name)?;
        match self.agreement {
            Agreement::Differs => Some(row.differs),
            Agreement::Unsure => Some(row.unsure),
            Agreement::Agrees | Agreement::AgreesAsFarAsPrinted | Agreement::NotComparable => None,
        }
    }
}

/// A field of the record that all sources together make.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordField {
    pub name: &'static str,
    /// In the notation of [`DocumentField::value`].
    pub value: String,
    /// The source whose value this is.
    pub source: Source,
    /// The other sources of the document that say the same, as far as they say it.
    pub agreeing: Vec<Source>,
    /// The worst of the comparisons between the sources of the document (claims do not count); `None` if only one has the field.
    pub agreement: Option<Agreement>,
}

/// What a field is compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Family,
    Given,
    FullName,
    Date,
    Sex,
    State,
    Code,
}

struct Compared {
    name: &'static str,
    kind: Kind,
    differs: &'static str,
    unsure: &'static str,
}

const fn compared(name: &'static str, kind: Kind, differs: &'static str, unsure: &'static str) -> Compared {
    Compared { name, kind, differs, unsure }
}

/// The fields that are compared. Free text (addresses, places, authorities) is not: every source words it in its own way.
#[rustfmt::skip]
static COMPARED: &[Compared] = &[
    compared("document_type", Kind::Code, "DOCUMENT_TYPE_DIFFERS", "DOCUMENT_TYPE_UNSURE"),
    compared("issuing_state", Kind::State, "ISSUING_STATE_DIFFERS", "ISSUING_STATE_UNSURE"),
    compared("document_number", Kind::Number, "DOCUMENT_NUMBER_DIFFERS", "DOCUMENT_NUMBER_UNSURE"),
    compared("family_name", Kind::Family, "FAMILY_NAME_DIFFERS", "FAMILY_NAME_UNSURE"),
    compared("given_names", Kind::Given, "GIVEN_NAMES_DIFFER", "GIVEN_NAMES_UNSURE"),
    compared("full_name", Kind::FullName, "FULL_NAME_DIFFERS", "FULL_NAME_UNSURE"),
    compared("birth_date", Kind::Date, "BIRTH_DATE_DIFFERS", "BIRTH_DATE_UNSURE"),
    compared("sex", Kind::Sex, "SEX_DIFFERS", "SEX_UNSURE"),
    compared("nationality", Kind::State, "NATIONALITY_DIFFERS", "NATIONALITY_UNSURE"),
    compared("issue_date", Kind::Date, "ISSUE_DATE_DIFFERS", "ISSUE_DATE_UNSURE"),
    compared("expiry_date", Kind::Date, "EXPIRY_DATE_DIFFERS", "EXPIRY_DATE_UNSURE"),
    compared("personal_number", Kind::Number, "PERSONAL_NUMBER_DIFFERS", "PERSONAL_NUMBER_UNSURE"),
];

/// How much of a difference a misreading may explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Firmness {
    /// One character may be wrong, missing or too many.
    Weak,
    /// Up to two characters may be taken for others that look alike.
    Plausible,
    /// The text is what it is.
    Firm,
}

/// One side of a comparison.
#[derive(Clone, Copy)]
struct Fact<'a> {
    text: &'a str,
    is_cut: bool,
    firmness: Firmness,
    source: Source,
}

type Verdict = (Agreement, Option<Detail>);

const AGREES: Verdict = (Agreement::Agrees, None);
const DIFFERS: Verdict = (Agreement::Differs, None);
const NOT_COMPARABLE: Verdict = (Agreement::NotComparable, None);

/// Compares two fields of the same kind, such as the birth date of the MRZ and that of a claim. Symmetric. Fields that are not
/// compared by nature (addresses, places) and empty ones are [`Agreement::NotComparable`].
pub fn compare(a: &DocumentField, b: &DocumentField) -> (Agreement, Option<Detail>) {
    match COMPARED.iter().find(|row| row.name == a.name) {
        Some(row) if a.name == b.name => compare_readings(row.kind, &Readings::of(a), &Readings::of(b)),
        _ => NOT_COMPARABLE,
    }
}

/// Compares all sources with each other. Given names include middle names of the same source; where one side has only a full name, it
/// is compared with both parts of the other. Pairs of which one side is empty are left out, so that what is listed was compared.
pub fn cross_check(fields: &[DocumentField]) -> Vec<Comparison> {
    const ORDER: [Source; 4] = [Source::Mrz, Source::Barcode, Source::Visual, Source::Claim];
    let mut all = Vec::new();
    for (at, first) in ORDER.into_iter().enumerate() {
        for second in ORDER.into_iter().skip(at + 1) {
            let sides = [Side { fields, source: first }, Side { fields, source: second }];
            all.extend(compare_sides(&sides));
        }
    }
    all
}

/// Compares what each source says on one page with what the same source says on another: the pages of one document do not contradict
/// each other.
pub fn cross_check_pages(pages: &[Vec<DocumentField>]) -> Vec<Comparison> {
    let mut all = Vec::new();
    for (at, first) in pages.iter().enumerate() {
        for second in &pages[at + 1..] {
            for source in [Source::Mrz, Source::Barcode, Source::Visual] {
                all.extend(compare_sides(&[Side { fields: first, source }, Side { fields: second, source }]));
            }
        }
    }
    all
}

/// One value for each fact of the document, from the source that proves it best: an MRZ field with a valid check digit, a barcode, an
/// MRZ field without one, the visual zone if it was read surely, then the rest. A name with letters that the MRZ cannot write, or
/// whole where the MRZ cuts it, is taken from the visual zone or the barcode if it agrees with the MRZ and was read surely, and so is a
/// birth with a century. Claims
/// are never a source. Sorted as the fields come.
pub fn record(fields: &[DocumentField]) -> Vec<RecordField> {
    let comparisons = cross_check(fields);
    let mut all: Vec<RecordField> = Vec::new();
    for field in fields {
        if field.source == Source::Claim || all.iter().any(|known| known.name == field.name) {
            continue;
        }
        let same: Vec<&DocumentField> = fields
            .iter()
            .filter(|other| other.name == field.name && other.source != Source::Claim && other.value.is_some())
            .collect();
        let Some(mut best) = same.iter().copied().min_by_key(|field| rank(field)) else { continue };
        if matches!(field.name, "family_name" | "given_names" | "birth_date") {
            let fuller = same.iter().copied().find(|other| is_fuller(other, best));
            best = fuller.unwrap_or(best);
        }
        let Some(value) = best.value.clone() else { continue };
        let between =
            |comparison: &&Comparison| comparison.name == field.name && !comparison.sources.contains(&Source::Claim);
        let agreement = comparisons.iter().filter(between).map(|comparison| comparison.agreement).max();
        let agreeing = comparisons
            .iter()
            .filter(between)
            .filter(|comparison| comparison.agreement <= Agreement::AgreesAsFarAsPrinted)
            .filter(|comparison| comparison.sources.contains(&best.source))
            .flat_map(|comparison| comparison.sources)
            .filter(|source| *source != best.source)
            .collect();
        all.push(RecordField { name: field.name, value, source: best.source, agreeing, agreement });
    }
    all
}

/// Why a claim cannot be compared. Never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("no such field")]
    UnknownField,
    #[error("empty")]
    Empty,
    #[error("longer than {MAX_CLAIM_BYTES} bytes")]
    TooLong,
    #[error("not a date in the form YYYY-MM-DD")]
    Date,
    #[error("sex must be M, F or X")]
    Sex,
    #[error("not an ISO 3166-1 code, a code of ICAO Doc 9303 part 3 or the English name of a State")]
    State,
    #[error("no letter and no digit")]
    NoText,
}

/// The fields of which [`claim`] takes claims.
pub fn claimable() -> impl Iterator<Item = &'static str> {
    COMPARED.iter().map(|row| row.name)
}

/// A fact that the caller claims, in the form of a field. Dates are `YYYY-MM-DD` and nothing else; sex is `M`, `F` or `X`; States are
/// alpha-3, alpha-2 or ICAO codes or English short names; names and numbers are taken as they are.
///
/// # Errors
/// [`ClaimError`] if the field is unknown or the value has not the form above.
pub fn claim(name: &str, value: &str) -> Result<DocumentField, ClaimError> {
    let row = COMPARED.iter().find(|row| row.name == name).ok_or(ClaimError::UnknownField)?;
    if value.len() > MAX_CLAIM_BYTES {
        return Err(ClaimError::TooLong);
    }
    let text = value.trim();
    if text.is_empty() {
        return Err(ClaimError::Empty);
    }
    let understood = match row.kind {
        Kind::Date => parse_claimed_date(text).ok_or(ClaimError::Date)?.to_string(),
        Kind::Sex => match text {
            "M" | "m" => "M".to_owned(),
            "F" | "f" => "F".to_owned(),
            "X" | "x" => "X".to_owned(),
            _ => return Err(ClaimError::Sex),
        },
        Kind::State => state_code(text).ok_or(ClaimError::State)?.to_owned(),
        Kind::Number if strip_number(text).is_empty() => return Err(ClaimError::NoText),
        Kind::Family | Kind::Given | Kind::FullName if words(text).is_empty() => return Err(ClaimError::NoText),
        Kind::Number | Kind::Family | Kind::Given | Kind::FullName | Kind::Code => text.to_owned(),
    };
    Ok(DocumentField {
        name: row.name,
        value: Some(understood),
        raw: value.to_owned(),
        source: Source::Claim,
        check_digit: CheckDigit::NotApplicable,
        certainty: Certainty::AsRead,
        alternatives: Vec::new(),
        warnings: Vec::new(),
        confidence: None,
        quad: None,
    })
}

/// The code of a State, alpha-3 or ICAO's own (Germany as `DEU`), from a code or the English short name. Case and accents do not
/// matter.
pub fn state_code(text: &str) -> Option<&'static str> {
    /// Names in common use that differ from the short names of ISO 3166-1.
    const ALIASES: &[(&str, &str)] = &[
        ("UK", "GBR"),
        ("GREATBRITAIN", "GBR"),
        ("UNITEDKINGDOMOFGREATBRITAINANDNORTHERNIRELAND", "GBR"),
        ("UNITEDSTATESOFAMERICA", "USA"),
        ("RUSSIA", "RUS"),
        ("TURKEY", "TUR"),
        ("TURKIYE", "TUR"),
        ("CZECHREPUBLIC", "CZE"),
        ("CZECHIA", "CZE"),
        ("REPUBLICOFKOREA", "KOR"),
        ("PEOPLESREPUBLICOFCHINA", "CHN"),
        ("VIETNAM", "VNM"),
        ("CAPEVERDE", "CPV"),
        ("IVORYCOAST", "CIV"),
        ("MACEDONIA", "MKD"),
        ("SWAZILAND", "SWZ"),
        ("BURMA", "MMR"),
        ("VATICAN", "VAT"),
    ];
    if text.len() > 200 {
        return None;
    }
    let folded = fold(text);
    let found = match folded.len() {
        0 => None,
        1 | 3 => find_state(&folded),
        2 => {
            let is_it = |state: &&'static super::mrz::State| state.alpha_2 == Some(folded.as_str());
            // Several codes share an alpha-2 code (the British statuses, withdrawn codes): only States in force have one of their own.
            let mut own = STATES.iter().filter(is_it).filter(|state| is_own(state.code));
            own.next().or_else(|| find_alias(ALIASES, &folded))
        }
        _ => find_alias(ALIASES, &folded).or_else(|| STATES.iter().find(|state| fold(state.name) == folded)),
    };
    found.map(|state| same_state(state.code))
}

fn find_alias(aliases: &[(&str, &str)], folded: &str) -> Option<&'static super::mrz::State> {
    aliases.iter().find(|(name, _)| *name == folded).and_then(|(_, code)| find_state(code))
}

/// False for codes that share their alpha-2 code with another that is preferred.
fn is_own(code: &str) -> bool {
    use super::mrz::StateKind::{Historical, Organisation, State};
    find_state(code).is_some_and(|state| match state.kind {
        State => !matches!(code, "XKX" | "XXK" | "D"),
        Organisation => matches!(code, "UNO" | "EUE"),
        Historical => !STATES.iter().any(|other| other.kind == State && other.alpha_2 == state.alpha_2),
        _ => false,
    })
}

/// One code for each State that has several over time or by custom.
fn same_state(code: &'static str) -> &'static str {
    match code {
        "D" => "DEU",
        "ROM" => "ROU",
        "ZAR" => "COD",
        "TMP" => "TLS",
        "XKX" | "XXK" => "RKS",
        "INP" => "XPO",
        other => other,
    }
}

/// Capital letters and digits, the shortest spelling of others.
pub(super) fn fold(text: &str) -> String {
    let mut folded = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            folded.push(character.to_ascii_uppercase());
        } else if !character.is_ascii() {
            let spellings = transliterations(character.encode_utf8(&mut [0; 4]));
            let shortest =
                spellings.iter().filter(|spelling| !spelling.is_empty()).min_by_key(|spelling| spelling.len());
            folded.extend(shortest.into_iter().flat_map(|spelling| spelling.chars()));
        }
    }
    folded
}

fn parse_claimed_date(text: &str) -> Option<Date> {
    let is_form = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    if !is_form {
        return None;
    }
    Date::new(text.get(..4)?.parse().ok()?, text.get(5..7)?.parse().ok()?, text.get(8..)?.parse().ok()?)
}

/// A field with all its readings.
struct Readings<'a> {
    value: Option<Fact<'a>>,
    alternatives: Vec<Fact<'a>>,
    is_uncertain: bool,
}

impl<'a> Readings<'a> {
    fn of(field: &'a DocumentField) -> Self {
        let is_proved = field.check_digit == CheckDigit::Valid || field.certainty == Certainty::Proved;
        let firmness = match field.source {
            Source::Mrz if is_proved => Firmness::Firm,
            Source::Mrz => Firmness::Plausible,
            Source::Barcode | Source::Claim => Firmness::Firm,
            Source::Visual => match field.confidence.unwrap_or(0.0) {
                confidence if confidence >= SURE_CONFIDENCE => Firmness::Firm,
                confidence if confidence >= WEAK_CONFIDENCE => Firmness::Plausible,
                _ => Firmness::Weak,
            },
        };
        let is_cut =
            field.warnings.iter().any(|warning| matches!(*warning, "MRZ_NAME_TRUNCATED" | "AAMVA_NAME_TRUNCATED"));
        let fact = |text: &'a String| Fact { text, is_cut, firmness, source: field.source };
        Self {
            value: field.value.as_ref().map(fact),
            alternatives: field.alternatives.iter().map(fact).collect(),
            is_uncertain: field.certainty == Certainty::Uncertain
                || field.confidence.is_some_and(|confidence| confidence < DOUBTFUL_CONFIDENCE),
        }
    }

    fn all(&self) -> impl Iterator<Item = Fact<'a>> {
        self.value.iter().chain(self.alternatives.iter().take(8)).copied()
    }
}

/// The value that is held for the most probable decides; another reading that agrees makes a difference a doubt.
fn compare_readings(kind: Kind, a: &Readings<'_>, b: &Readings<'_>) -> Verdict {
    let one_is_uncertain = a.is_uncertain || b.is_uncertain;
    let verdict = match (a.value, b.value) {
        (Some(a), Some(b)) => compare_facts(kind, a, b),
        _ => NOT_COMPARABLE,
    };
    if verdict.0 <= Agreement::AgreesAsFarAsPrinted {
        return verdict;
    }
    let agrees = |a: Fact<'_>, b: Fact<'_>| compare_facts(kind, a, b).0 <= Agreement::AgreesAsFarAsPrinted;
    let other = a.all().any(|a| b.all().any(|b| agrees(a, b)));
    let is_open_date = kind == Kind::Date && (a.value.is_none() || b.value.is_none());
    match (other, verdict.0) {
        (true, _) if is_open_date => (Agreement::AgreesAsFarAsPrinted, Some(Detail::DatePartlyUnknown)),
        (true, _) => (Agreement::Unsure, Some(Detail::OtherReading)),
        (false, Agreement::Differs) if one_is_uncertain => (Agreement::Unsure, verdict.1),
        _ => verdict,
    }
}

fn compare_facts(kind: Kind, a: Fact<'_>, b: Fact<'_>) -> Verdict {
    match kind {
        Kind::Number => compare_numbers(a, b),
        Kind::Family => compare_family(a, b),
        Kind::Given => compare_given(a, b),
        Kind::FullName => compare_full(a, b),
        Kind::Date => compare_dates(a, b),
        Kind::State => match (state_code(a.text), state_code(b.text)) {
            (Some(a), Some(b)) if a == b => AGREES,
            (Some(_), Some(_)) => DIFFERS,
            _ => NOT_COMPARABLE,
        },
        Kind::Sex | Kind::Code => match (a.text.trim(), b.text.trim()) {
            ("", _) | (_, "") => NOT_COMPARABLE,
            // An MRZ writes X, or a filler, for all that is not M or F; a card may print nothing at all.
            (a, b) if a.eq_ignore_ascii_case(b) => AGREES,
            _ => DIFFERS,
        },
    }
}

/// Letters and digits, upper case.
pub(super) fn strip_number(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|character| character.to_ascii_uppercase()).collect()
}

fn compare_numbers(a: Fact<'_>, b: Fact<'_>) -> Verdict {
    let (left, right) = (strip_number(a.text), strip_number(b.text));
    if left.is_empty() || right.is_empty() || left.len().max(right.len()) > MAX_CLAIM_BYTES {
        return NOT_COMPARABLE;
    }
    if left == right {
        return AGREES;
    }
    let (short, long) = if left.len() < right.len() { (&left, &right) } else { (&right, &left) };
    // Where a number ends is known in zones and barcodes.
    let is_open = matches!(if left.len() < right.len() { b.source } else { a.source }, Source::Visual | Source::Claim);
    if let Some(digit) = long.strip_prefix(short.as_str())
        && is_open
        && digit.len() == 1
        && check_digit(short.bytes()).map(char::from) == digit.chars().next()
    {
        return (Agreement::AgreesAsFarAsPrinted, Some(Detail::CheckDigitAppended));
    }
    difference(&left, &right, a, b)
}

/// A difference, or a doubt if the weaker side may be misread so.
fn difference(left: &str, right: &str, a: Fact<'_>, b: Fact<'_>) -> Verdict {
    let firmness = a.firmness.min(b.firmness);
    if firmness < Firmness::Firm && differ_in_confusable_only(left, right) {
        return (Agreement::Unsure, Some(Detail::ConfusableCharacters));
    }
    let length = left.chars().count().min(right.chars().count());
    if firmness == Firmness::Weak && length >= 5 && edit_distance(left, right, 1).is_some() {
        return (Agreement::Unsure, None);
    }
    DIFFERS
}

/// Groups of characters that text recognisers take for each other, in the visual zone of documents.
const CONFUSABLE: &[&str] = &[
    "0ODQ", "1IL7J", "8B3", "5S", "2Z", "6G", "4A", "7T", "06", "08", "38", "35", "56", "68", "89", "69", "CG", "EF",
    "PR", "UV", "MN", "VY", "HN", "KX", "HM", "CO",
];

fn differ_in_confusable_only(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let differing: Vec<(char, char)> = a.iter().copied().zip(b.iter().copied()).filter(|(a, b)| a != b).collect();
    let look_alike = |a: char, b: char| CONFUSABLE.iter().any(|group| group.contains(a) && group.contains(b));
    a.len() == b.len()
        && differing.len() <= (a.len() / 3).clamp(1, 2)
        && differing.into_iter().all(|(a, b)| look_alike(a, b))
}

/// Insertions, deletions and replacements that turn one into the other, if they are at most `limit`.
pub(super) fn edit_distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    edit_distance_of(&a, &b, limit)
}

/// As [`edit_distance`].
pub(super) fn edit_distance_of(a: &[char], b: &[char], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, left) in a.iter().enumerate() {
        let mut diagonal = at;
        let mut before = at + 1;
        let mut least = before;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (right, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let next = (*cell + 1).min(before + 1).min(diagonal + usize::from(left != right));
            diagonal = *cell;
            *cell = next;
            before = next;
            least = least.min(next);
        }
        if least > limit {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= limit)
}

/// Parts that are not known on one side cannot contradict; the year must be known on both.
fn compare_dates(a: Fact<'_>, b: Fact<'_>) -> Verdict {
    let (Some(left), Some(right)) = (date_parts(a.text), date_parts(b.text)) else { return NOT_COMPARABLE };
    let pairs: Vec<_> = left.into_iter().zip(right).collect();
    let contradicts = pairs.iter().any(|(a, b)| matches!((a, b), (Some(a), Some(b)) if a != b));
    let is_complete = pairs.iter().all(|(a, b)| a.is_some() && b.is_some());
    if contradicts {
        let year = |parts: &[Option<u16>; 3]| parts.first().copied().flatten();
        // Nobody who has a document was born before 1900.
        let are_centuries_apart =
            matches!((year(&left), year(&right)), (Some(a), Some(b)) if a.abs_diff(b) == 100 && a.min(b) >= 1900);
        if are_centuries_apart
            && left.get(1..) == right.get(1..)
            && (a.source == Source::Mrz || b.source == Source::Mrz)
        {
            return (Agreement::AgreesAsFarAsPrinted, Some(Detail::CenturyNotPrinted));
        }
        return difference(a.text, b.text, a, b);
    }
    match pairs.first() {
        _ if is_complete => AGREES,
        Some((Some(_), Some(_))) => (Agreement::AgreesAsFarAsPrinted, Some(Detail::DatePartlyUnknown)),
        _ => NOT_COMPARABLE,
    }
}

/// Year, month and day of `YYYY-MM-DD`, where parts may be `X`.
fn date_parts(text: &str) -> Option<[Option<u16>; 3]> {
    let mut parts = text.trim().splitn(3, '-');
    let mut part = |length: usize| {
        let part = parts.next().filter(|part| part.len() == length)?;
        if part.bytes().all(|byte| byte == b'X') {
            return Some(None);
        }
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).map(Some)?
    };
    Some([part(4)?, part(2)?, part(2)?])
}

/// The fields of one source.
#[derive(Clone, Copy)]
struct Side<'a> {
    fields: &'a [DocumentField],
    source: Source,
}

impl<'a> Side<'a> {
    /// The first field of this name that says anything.
    fn field(&self, name: &str) -> Option<&'a DocumentField> {
        let says = |field: &&DocumentField| field.value.is_some() || !field.alternatives.is_empty();
        self.fields.iter().filter(|field| field.source == self.source && field.name == name).find(says)
    }

    /// Given names followed by middle names, where the source tells them apart.
    fn given(&self) -> Option<DocumentField> {
        let given = self.field("given_names")?.clone();
        let Some(middle) = self.field("middle_names") else { return Some(given) };
        let value = match (given.value.as_deref(), middle.value.as_deref()) {
            (Some(given), Some(middle)) => Some(format!("{given} {middle}")),
            _ => given.value.clone(),
        };
        // Only the last name can be cut inside: a cut first name with whole names after it is compared word for word.
        Some(DocumentField { value, warnings: middle.warnings.clone(), ..given })
    }

    /// With the truncation of the whole name, if there are no given names to carry it.
    fn family(&self) -> Option<DocumentField> {
        let mut family = self.field("family_name")?.clone();
        if self.field("given_names").is_none() {
            let cut = |field: &&DocumentField| field.source == self.source && field.name == "given_names";
            family.warnings.extend(self.fields.iter().filter(cut).flat_map(|field| field.warnings.iter().copied()));
        }
        Some(family)
    }
}

fn compare_sides(sides: &[Side<'_>; 2]) -> Vec<Comparison> {
    let [first, second] = sides;
    let sources = [first.source, second.source];
    let mut all = Vec::new();
    let mut add = |name, (agreement, detail): Verdict| {
        if agreement != Agreement::NotComparable {
            all.push(Comparison { name, sources, agreement, detail });
        }
    };
    for row in COMPARED.iter().filter(|row| !matches!(row.kind, Kind::Family | Kind::Given | Kind::FullName)) {
        if let (Some(a), Some(b)) = (first.field(row.name), second.field(row.name)) {
            add(row.name, compare(a, b));
        }
    }
    let families = (first.family(), second.family());
    let givens = (first.given(), second.given());
    if let (Some(a), Some(b)) = &families {
        let mut family = compare(a, b);
        let mut given = if let (Some(a), Some(b)) = &givens { compare(a, b) } else { NOT_COMPARABLE };
        if family.0 == Agreement::Differs
            && let (Some(given_a), Some(given_b)) = &givens
            && are_swapped(a, given_a, b, given_b)
        {
            (family, given) =
                ((Agreement::Differs, Some(Detail::Swapped)), (Agreement::Differs, Some(Detail::Swapped)));
        }
        add("family_name", family);
        add("given_names", given);
    } else if let (Some(a), Some(b)) = &givens {
        add("given_names", compare(a, b));
    }
    match (first.field("full_name"), second.field("full_name")) {
        (Some(a), Some(b)) => add("full_name", compare(a, b)),
        (Some(full), None) => add("full_name", full_to_parts(full, families.1.as_ref(), givens.1.as_ref())),
        (None, Some(full)) => add("full_name", full_to_parts(full, families.0.as_ref(), givens.0.as_ref())),
        (None, None) => {}
    }
    // What an issuer puts into optional data is its own affair: a personal number found there agrees, another text says nothing.
    for (personal, optional) in [(first, second), (second, first)] {
        let Some(number) = personal.field("personal_number").and_then(|field| field.value.as_deref()).map(strip_number)
        else {
            continue;
        };
        let holds = |name: &str| {
            let data =
                optional.field(name).and_then(|field| field.value.as_deref()).map(strip_number).unwrap_or_default();
            number.len() >= 6 && data.contains(&number)
        };
        if holds("optional_data") || holds("optional_data_2") {
            add("personal_number", AGREES);
        }
    }
    all
}

fn full_to_parts(full: &DocumentField, family: Option<&DocumentField>, given: Option<&DocumentField>) -> Verdict {
    let (full, family, given) = (Readings::of(full), family.map(Readings::of), given.map(Readings::of));
    let (Some(text), Some(family)) = (full.value, family.and_then(|family| family.value)) else {
        return NOT_COMPARABLE;
    };
    match compare_full_to_parts(text, family, given.and_then(|given| given.value)) {
        (Agreement::Differs, detail) if full.is_uncertain => (Agreement::Unsure, detail),
        verdict => verdict,
    }
}

fn are_swapped(
    family_a: &DocumentField,
    given_a: &DocumentField,
    family_b: &DocumentField,
    given_b: &DocumentField,
) -> bool {
    let agrees = |family: &DocumentField, given: &DocumentField| {
        let (family, given) = (Readings::of(family), Readings::of(given));
        let (Some(family), Some(given)) = (family.value, given.value) else { return false };
        compare_given(family, given).0 <= Agreement::AgreesAsFarAsPrinted
    };
    agrees(family_a, given_b) && agrees(family_b, given_a)
}

/// Order of trust; the smaller the better.
fn rank(field: &DocumentField) -> u8 {
    if field.certainty == Certainty::Uncertain || matches!(field.check_digit, CheckDigit::Failed { .. }) {
        return 7;
    }
    match field.source {
        Source::Mrz if field.check_digit == CheckDigit::Valid || field.certainty == Certainty::Proved => 0,
        Source::Barcode => 1,
        Source::Mrz if field.certainty == Certainty::AsRead => 2,
        Source::Visual if is_sure(field) && field.certainty == Certainty::AsRead => 3,
        Source::Mrz => 4,
        Source::Visual if field.certainty == Certainty::AsRead => 5,
        Source::Visual => 6,
        Source::Claim => 8,
    }
}

fn is_sure(field: &DocumentField) -> bool {
    field.confidence.is_none_or(|confidence| confidence >= SURE_CONFIDENCE)
}

/// True if `other` says what the MRZ field `best` says, and more: letters of its own or those that were cut away, or a century.
fn is_fuller(other: &DocumentField, best: &DocumentField) -> bool {
    let (Some(value), Some(known)) = (other.value.as_deref(), best.value.as_deref()) else { return false };
    if best.source != Source::Mrz
        || other.source == Source::Mrz
        || !is_sure(other)
        || other.certainty != Certainty::AsRead
    {
        return false;
    }
    match compare(other, best) {
        (Agreement::Agrees, _) => !value.is_ascii(),
        (Agreement::AgreesAsFarAsPrinted, Some(Detail::CenturyNotPrinted)) => true,
        (Agreement::AgreesAsFarAsPrinted, Some(Detail::Truncated)) => value.chars().count() > known.chars().count(),
        _ => false,
    }
}
