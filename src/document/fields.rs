//! One form for the facts of a document, whatever they were read from.
//!
//! Called by the pipeline and the command line with what `mrz` and `aamva` understood. Values are brought to one notation (dates,
//! States, sex), so that sources can be compared; the text as it stands on the document stays beside them. Left out: comparing
//! them, which is a check's business.

use super::aamva::{self, CardKind, Record, Truncation};
use super::mrz::{Certainty, CheckDigit, Date, DocumentType, Field, FieldName, Mrz, PartialDate, Sex, State};

/// A fact, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentField {
    /// Stable name, such as `document_number`.
    pub name: &'static str,
    /// Dates as `YYYY-MM-DD` with `XX` for unknown parts, States as ISO 3166-1 alpha-3 or ICAO's own code, sex as `M`, `F` or `X`.
    /// `None` if the field is empty or could not be understood.
    pub value: Option<String>,
    /// As it stands on the document.
    pub raw: String,
    pub source: Source,
    pub check_digit: CheckDigit,
    pub certainty: Certainty,
    /// Other readings of `raw`, most probable first.
    pub alternatives: Vec<String>,
    /// Stable codes.
    pub warnings: Vec<&'static str>,
    /// How sure the reader is of every character and of what the text means, 0..1; `None` where check digits or error correction
    /// answer that question, and for claims.
    pub confidence: Option<f64>,
    /// Where `raw` stands, for text of the visual zone: pixels of the page handed in, clockwise from the top left of the text.
    pub quad: Option<[[f64; 2]; 4]>,
}

/// What a fact was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Mrz,
    Barcode,
    /// Text printed for people to read.
    Visual,
    /// Said by the caller, not read from the document.
    Claim,
}

impl Source {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Mrz => "MRZ",
            Self::Barcode => "BARCODE",
            Self::Visual => "VISUAL",
            Self::Claim => "CLAIM",
        }
    }
}

/// The fields of an MRZ, in the order of ICAO Doc 9303 part 4. Fields that the format does not have are left out; empty ones are there
/// without a value.
pub fn of_mrz(mrz: &Mrz) -> Vec<DocumentField> {
    let mut fields = Vec::new();
    let mut add = |name, of: FieldName, part: Part<'_>| {
        let Part { value, raw, check_digit, certainty, alternatives, own_warnings } = part;
        let warned = mrz.warnings.iter().filter(|warning| warning.field == of).map(|warning| warning.kind.code());
        let warnings = warned.chain(own_warnings).collect();
        fields.push(DocumentField {
            name,
            value: value.filter(|value| !value.is_empty()),
            raw: raw.to_owned(),
            source: Source::Mrz,
            check_digit,
            certainty,
            alternatives: alternatives.to_vec(),
            warnings,
            confidence: None,
            quad: None,
        });
    };
    let code = Part::of(&mrz.document_code, Clone::clone);
    let document_type = Part { value: document_type(mrz.document_type).map(str::to_owned), ..code.clone() };
    add("document_type", FieldName::DocumentCode, document_type);
    add("document_code", FieldName::DocumentCode, code);
    add("issuing_state", FieldName::IssuingState, Part::of(&mrz.issuing_state, state));
    if let Some(names) = &mrz.names {
        let is_cut = names.value.as_ref().is_some_and(|names| names.truncated);
        let cut = is_cut.then_some("MRZ_NAME_TRUNCATED");
        add("family_name", FieldName::Names, Part::of(names, |names| names.primary.clone()));
        add(
            "given_names",
            FieldName::Names,
            Part { own_warnings: cut, ..Part::of(names, |names| names.secondary.clone()) },
        );
    }
    if let Some(number) = &mrz.document_number {
        add("document_number", FieldName::DocumentNumber, Part::of(number, Clone::clone));
    }
    if let Some(nationality) = &mrz.nationality {
        add("nationality", FieldName::Nationality, Part::of(nationality, state));
    }
    for (name, of, field) in [
        ("birth_date", FieldName::Birth, &mrz.birth),
        ("expiry_date", FieldName::Expiry, &mrz.expiry),
        ("issue_date", FieldName::Issue, &mrz.issue),
    ] {
        if let Some(field) = field {
            add(name, of, Part::of(field, date));
        }
    }
    if let Some(field) = &mrz.sex {
        add("sex", FieldName::Sex, Part::of(field, |sex| sex_letter(*sex).to_owned()));
    }
    for (name, of, field) in [
        ("optional_data", FieldName::OptionalData, &mrz.optional_data),
        ("optional_data_2", FieldName::OptionalData2, &mrz.optional_data_2),
    ] {
        if let Some(field) = field {
            add(name, of, Part::of(field, Clone::clone));
        }
    }
    fields
}

/// The fields of a North American licence, those that the text does not have left out. What is no fact about the holder or the
/// document (revision dates, donor flags and the like) stays in the record.
pub fn of_aamva(record: &Record) -> Vec<DocumentField> {
    let mut fields = Vec::new();
    let mut add = |name, value: Option<String>, raw: &str, warning: Option<&'static str>| {
        fields.push(DocumentField {
            name,
            value,
            raw: raw.to_owned(),
            source: Source::Barcode,
            check_digit: CheckDigit::NotApplicable,
            certainty: Certainty::AsRead,
            alternatives: Vec::new(),
            warnings: warning.into_iter().collect(),
            confidence: None,
            quad: None,
        });
    };
    let document_type = match record.kind {
        CardKind::DrivingLicence | CardKind::Enhanced => "driving_licence",
        CardKind::IdentityCard => "identity_card",
    };
    add("document_type", Some(document_type.to_owned()), "", None);
    if let Some(issuer) = record.issuer {
        add("issuing_jurisdiction", Some(issuer.code.to_owned()), "", None);
    }
    let is_cut = |flag: &Option<aamva::Field<Truncation>>| {
        let cut = flag.as_ref().and_then(|field| field.value) == Some(Truncation::Truncated);
        cut.then_some("AAMVA_NAME_TRUNCATED")
    };
    for (name, field, warning) in [
        ("issuing_state", &record.country, None),
        ("document_number", &record.number, None),
        ("family_name", &record.family_name, is_cut(&record.family_name_truncated)),
        ("given_names", &record.given_name, is_cut(&record.given_name_truncated)),
        ("middle_names", &record.middle_names, is_cut(&record.middle_names_truncated)),
        ("name_suffix", &record.suffix, None),
        ("birth_place", &record.birth_place, None),
        ("address_street", &record.address.street_1, None),
        ("address_street_2", &record.address.street_2, None),
        ("address_city", &record.address.city, None),
        ("address_jurisdiction", &record.address.jurisdiction, None),
        ("address_postal_code", &record.address.postal_code, None),
        ("document_discriminator", &record.document_discriminator, None),
    ] {
        if let Some(field) = field {
            add(name, field.value.clone(), &field.raw, warning);
        }
    }
    for (name, field) in [("birth_date", &record.birth), ("expiry_date", &record.expiry), ("issue_date", &record.issue)]
    {
        if let Some(field) = field {
            let day = |date: aamva::Date| format!("{:04}-{:02}-{:02}", date.year, date.month, date.day);
            // The only reason for text without a value, besides text that says nothing.
            let is_wrong = field.value.is_none() && field.raw.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
            add(name, field.value.map(day), &field.raw, is_wrong.then_some("AAMVA_DATE_INVALID"));
        }
    }
    if let Some(field) = &record.sex {
        let letter = |sex| match sex {
            aamva::Sex::Male => "M",
            aamva::Sex::Female => "F",
            aamva::Sex::NotSpecified => "X",
        };
        add("sex", field.value.map(|sex| letter(sex).to_owned()), &field.raw, None);
    }
    fields
}

/// Ends of the codes of warnings of fields that no real document has.
const ABSURD: [&str; 5] =
    ["_DATE_IMPOSSIBLE", "_DATE_INVALID", "_DATES_IN_WRONG_ORDER", "_CHARACTER_NOT_ALLOWED", "_FIELD_EMPTY"];

/// True if the code of a field's warning says that the field says what cannot be.
pub fn is_absurd(code: &str) -> bool {
    ABSURD.iter().any(|end| code.ends_with(end))
}

/// The first and the last day that the value of a date may stand for. `None` if the value is no date, or not even its year is known.
pub fn days(value: &str) -> Option<(Date, Date)> {
    let mut parts = value.splitn(3, '-');
    let year = parts.next()?.parse().ok()?;
    let mut part = || match parts.next()? {
        "XX" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    let (month, day): (Option<u8>, Option<u8>) = (part()?, part()?);
    let earliest = Date::new(year, month.unwrap_or(1), day.unwrap_or(1))?;
    let last_of_month = |month| (28..=31).rev().find_map(|day| Date::new(year, month, day));
    let month = month.unwrap_or(12);
    let latest = day.map_or_else(|| last_of_month(month), |day| Date::new(year, month, day))?;
    Some((earliest, latest))
}

/// A field of an MRZ on its way.
#[derive(Clone)]
struct Part<'a> {
    value: Option<String>,
    raw: &'a str,
    check_digit: CheckDigit,
    certainty: Certainty,
    alternatives: &'a [String],
    own_warnings: Option<&'static str>,
}

impl<'a> Part<'a> {
    fn of<T>(field: &'a Field<T>, value: impl FnOnce(&T) -> String) -> Self {
        Self {
            value: field.value.as_ref().map(value),
            raw: &field.raw,
            check_digit: field.check,
            certainty: field.certainty,
            alternatives: &field.alternatives,
            own_warnings: None,
        }
    }
}

fn state(state: &&'static State) -> String {
    // Germany has one letter in the MRZ and three everywhere else (ICAO Doc 9303 part 3, section 5).
    if state.code == "D" { "DEU".to_owned() } else { state.code.to_owned() }
}

fn date(date: &PartialDate) -> String {
    let two = |part: Option<u8>| part.map_or("XX".to_owned(), |part| format!("{part:02}"));
    let year = date.year.map_or("XXXX".to_owned(), |year| format!("{year:04}"));
    format!("{year}-{}-{}", two(date.month), two(date.day))
}

fn sex_letter(sex: Sex) -> &'static str {
    match sex {
        Sex::Male => "M",
        Sex::Female => "F",
        Sex::Unspecified => "X",
    }
}

fn document_type(kind: DocumentType) -> Option<&'static str> {
    match kind {
        DocumentType::Passport => Some("passport"),
        DocumentType::IdentityCard => Some("identity_card"),
        DocumentType::ResidencePermit => Some("residence_permit"),
        DocumentType::CrewMemberCertificate => Some("crew_member_certificate"),
        DocumentType::Visa => Some("visa"),
        DocumentType::DrivingLicence => Some("driving_licence"),
        DocumentType::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::mrz::parse;
    use super::*;

    fn fields(lines: &[&str]) -> Vec<DocumentField> {
        of_mrz(&parse(lines, Date::new(2026, 11, 23).unwrap()).unwrap())
    }

    fn value<'a>(fields: &'a [DocumentField], name: &str) -> &'a str {
        fields.iter().find(|field| field.name == name).and_then(|field| field.value.as_deref()).unwrap_or("")
    }

    /// The passport of ICAO Doc 9303 part 4, appendix A.
    #[test]
    fn a_passport_gives_every_field_in_one_notation() {
        let fields =
            fields(&["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"]);
        for (name, expected) in [
            ("document_type", "passport"),
            ("document_code", "P"),
            ("issuing_state", "UTO"),
            ("family_name", "ERIKSSON"),
            ("given_names", "ANNA MARIA"),
            ("document_number", "L898902C3"),
            ("nationality", "UTO"),
            ("birth_date", "1974-08-12"),
            ("expiry_date", "2012-04-15"),
            ("sex", "F"),
            ("optional_data", "ZE184226B"),
        ] {
            assert_eq!(value(&fields, name), expected, "{name}");
        }
        assert!(fields.iter().all(|field| field.warnings.is_empty() && field.source == Source::Mrz));
        let number = fields.iter().find(|field| field.name == "document_number").unwrap();
        assert_eq!((number.check_digit, &*number.raw), (CheckDigit::Valid, "L898902C3"));
    }

    #[test]
    fn unknown_parts_of_dates_full_names_and_germany_are_told() {
        let fields =
            fields(&["P<D<<MUSTERMANN<VON<UND<ZU<MUSTERBERG<<ERIKA", "C01X00T478D<<64<<<<8F2702283<<<<<<<<<<<<<<<6"]);
        assert_eq!(value(&fields, "issuing_state"), "DEU");
        assert_eq!(value(&fields, "birth_date"), "1964-XX-XX");
        let given = fields.iter().find(|field| field.name == "given_names").unwrap();
        assert!(given.warnings.contains(&"MRZ_NAME_TRUNCATED"), "{given:?}");
    }

    #[test]
    fn days_are_bounds_of_what_is_known() {
        let bounds = |value: &str| days(value).map(|(earliest, latest)| (earliest.to_string(), latest.to_string()));
        let expected = |earliest: &str, latest: &str| Some((earliest.to_owned(), latest.to_owned()));
        assert_eq!(bounds("1974-08-12"), expected("1974-08-12", "1974-08-12"));
        assert_eq!(bounds("1996-02-XX"), expected("1996-02-01", "1996-02-29"));
        assert_eq!(bounds("1964-XX-XX"), expected("1964-01-01", "1964-12-31"));
        for nothing in ["XXXX-08-12", "1974-02-31", "1974", "", "ERIKSSON"] {
            assert_eq!(bounds(nothing), None, "{nothing}");
        }
    }
}
