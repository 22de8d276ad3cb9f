//! Pairs that agree and pairs that do not, and laws that hold for all.

use proptest::prelude::*;

use super::super::mrz::transliterate;
use super::Agreement::{Agrees, AgreesAsFarAsPrinted as AsFar, Differs, NotComparable, Unsure};
use super::*;

fn field(source: Source, name: &'static str, value: &str) -> DocumentField {
    DocumentField {
        name,
        value: Some(value.to_owned()),
        raw: value.to_owned(),
        source,
        check_digit: CheckDigit::NotApplicable,
        certainty: Certainty::AsRead,
        alternatives: Vec::new(),
        warnings: Vec::new(),
        confidence: (source == Source::Visual).then_some(0.99),
        quad: None,
    }
}

fn agreement(name: &'static str, a: &str, b: &str) -> Agreement {
    let (a, b) = (field(Source::Barcode, name, a), field(Source::Claim, name, b));
    let verdict = compare(&a, &b);
    assert_eq!(verdict, compare(&b, &a), "not symmetric");
    verdict.0
}

#[test]
fn family_names() {
    for (a, b, expected) in [
        ("Müller", "MUELLER", Agrees),
        ("Müller", "MULLER", Agrees),
        ("MULLER", "MUELLER", Agrees),
        ("Muñoz", "MUNXXOZ", Agrees),
        ("Muñoz", "Munoz", Agrees),
        ("Strauß", "STRAUSS", Agrees),
        ("Łukasiewicz-Nowak", "LUKASIEWICZ NOWAK", Agrees),
        ("Ткаченко", "TKACHENKO", Agrees),
        ("Ткаченко", "Tkačenko", Agrees),
        ("Παπαδόπουλος", "PAPADOPOULOS", Agrees),
        ("Øster Åby", "OESTERAABY", Agrees),
        // Letters of two words are no pair that is spelled together.
        ("Øγ'γΓ", "OEGNG", Agrees),
        ("Øγγ'Γ", "OENGG", Agrees),
        ("Øγ'γΓ", "OEGGN", Differs),
        ("O'Neill", "ONEILL", Agrees),
        ("D’Arc", "D ARC", Agrees),
        ("García", "GARCIA LOPEZ", Unsure),
        ("Miller", "Müller", Differs),
        ("Specimen", "Sample", Differs),
        ("王", "WANG", NotComparable),
        ("王", "王", Agrees),
        ("", "WANG", NotComparable),
    ] {
        assert_eq!(agreement("family_name", a, b), expected, "{a} {b}");
    }
}

#[test]
fn given_names() {
    for (a, b, expected) in [
        ("Anna Maria", "ANNA MARIA", Agrees),
        ("Anna-Maria", "ANNAMARIA", Agrees),
        ("Anna Maria", "Anna", AsFar),
        ("Anna Maria Sophie", "Anna Sophie", AsFar),
        ("Anna Maria", "Anna M.", AsFar),
        ("Anna Maria", "A. Maria", AsFar),
        ("Anne-Marie Sophie", "Annemarie", AsFar),
        ("MISS MATHANIDA", "Mathanida", Agrees),
        ("Anna Maria", "Maria", Differs),
        ("Anna Maria", "Maria Anna", Differs),
        ("Anna Maria", "Anna Sophie", Differs),
        ("Dr", "Dragan", Differs),
    ] {
        assert_eq!(agreement("given_names", a, b), expected, "{a} {b}");
    }
}

#[test]
fn cut_names_agree_by_prefix_only_if_they_say_that_they_are_cut() {
    let mut mrz = field(Source::Mrz, "given_names", "CHRISTELLE HELENE LAUR");
    let visual = field(Source::Visual, "given_names", "Christelle Hélène Laurence");
    assert_eq!(compare(&mrz, &visual).0, Differs);
    mrz.warnings.push("MRZ_NAME_TRUNCATED");
    assert_eq!(compare(&mrz, &visual), (AsFar, Some(Detail::Truncated)));
    assert_eq!(compare(&visual, &mrz), (AsFar, Some(Detail::Truncated)));
    assert_eq!(compare(&mrz, &field(Source::Visual, "given_names", "Christine")).0, Differs);
}

#[test]
fn dates() {
    for (a, b, expected) in [
        ("1974-08-12", "1974-08-12", Agrees),
        ("1974-XX-XX", "1974-08-12", AsFar),
        ("1974-08-XX", "1974-08-XX", AsFar),
        ("1974-08-12", "1974-12-08", Differs),
        ("1974-08-XX", "1974-09-12", Differs),
        ("XXXX-08-12", "1974-08-12", NotComparable),
        ("1911-01-01", "2011-01-01", Differs),
        ("12.08.1974", "1974-08-12", NotComparable),
    ] {
        assert_eq!(agreement("birth_date", a, b), expected, "{a} {b}");
    }
    let mrz = field(Source::Mrz, "birth_date", "2011-01-01");
    let visual = field(Source::Visual, "birth_date", "1911-01-01");
    assert_eq!(compare(&mrz, &visual), (AsFar, Some(Detail::CenturyNotPrinted)));
    let fields = record(&[mrz, visual]);
    assert_eq!(
        (fields[0].value.as_str(), fields[0].source, fields[0].agreement),
        ("1911-01-01", Source::Visual, Some(AsFar))
    );
}

#[test]
fn a_date_with_two_readings_agrees_with_either() {
    let open = DocumentField {
        value: None,
        certainty: Certainty::Uncertain,
        alternatives: vec!["1990-03-04".to_owned(), "1990-04-03".to_owned()],
        ..field(Source::Visual, "birth_date", "")
    };
    assert_eq!(compare(&open, &field(Source::Mrz, "birth_date", "1990-04-03")).0, AsFar);
    assert_eq!(compare(&open, &field(Source::Mrz, "birth_date", "1990-04-04")).0, NotComparable);
}

#[test]
fn numbers() {
    for (a, b, expected) in [
        ("ZZC 301730", "zzc301730", Agrees),
        ("000-5906961-01", "000590696101", Agrees),
        ("L898902C3", "L898902C36", AsFar),
        ("L898902C3", "L898902C37", Differs),
        ("L898902C3", "L8989O2C3", Differs),
        ("--", "L8", NotComparable),
    ] {
        assert_eq!(agreement("document_number", a, b), expected, "{a} {b}");
    }
    let mrz = DocumentField { check_digit: CheckDigit::Valid, ..field(Source::Mrz, "document_number", "EP2000000") };
    let mut visual = field(Source::Visual, "document_number", "ER2000000");
    assert_eq!(compare(&mrz, &visual).0, Differs);
    visual.confidence = Some(0.7);
    assert_eq!(compare(&mrz, &visual), (Unsure, Some(Detail::ConfusableCharacters)));
    visual.value = Some("ER2111111".to_owned());
    assert_eq!(compare(&mrz, &visual).0, Differs);
    visual.confidence = Some(0.1);
    assert_eq!(compare(&mrz, &visual).0, Unsure);
}

#[test]
fn states() {
    for (text, expected) in [
        ("D", Some("DEU")),
        ("de", Some("DEU")),
        ("DEU", Some("DEU")),
        ("Germany", Some("DEU")),
        ("GB", Some("GBR")),
        ("GBD", Some("GBD")),
        ("United Kingdom", Some("GBR")),
        ("United States of America", Some("USA")),
        ("Czech Republic", Some("CZE")),
        ("XK", Some("RKS")),
        ("Reunion", Some("REU")),
        ("Germania", None),
        ("QQ", None),
        ("", None),
    ] {
        assert_eq!(state_code(text), expected, "{text}");
    }
    assert_eq!(agreement("nationality", "D", "DEU"), Agrees);
    assert_eq!(agreement("nationality", "AUT", "DEU"), Differs);
    assert_eq!(agreement("address", "A", "A"), NotComparable);
}

#[test]
fn claims_have_one_form() {
    for (name, value, expected) in [
        ("birth_date", "1974-08-12", Ok("1974-08-12")),
        ("birth_date", "12.08.1974", Err(ClaimError::Date)),
        ("birth_date", "1974-8-12", Err(ClaimError::Date)),
        ("birth_date", "1974-02-30", Err(ClaimError::Date)),
        ("birth_date", "+974-08-12", Err(ClaimError::Date)),
        ("sex", "f", Ok("F")),
        ("sex", "female", Err(ClaimError::Sex)),
        ("nationality", "Norway", Ok("NOR")),
        ("nationality", "Atlantis", Err(ClaimError::State)),
        ("family_name", " ", Err(ClaimError::Empty)),
        ("family_name", "--", Err(ClaimError::NoText)),
        ("document_number", "é", Err(ClaimError::NoText)),
        ("shoe_size", "42", Err(ClaimError::UnknownField)),
    ] {
        let claimed = claim(name, value).map(|field| field.value.unwrap_or_default());
        assert_eq!(claimed.as_deref(), expected.as_ref().copied(), "{name} {value}");
    }
    assert_eq!(claim("family_name", &"A".repeat(513)).err(), Some(ClaimError::TooLong));
    assert!(!ClaimError::Date.to_string().contains("1974"));
}

#[test]
fn all_sources_are_compared_with_each_other() {
    let fields = [
        field(Source::Mrz, "family_name", "MUELLER"),
        field(Source::Mrz, "given_names", "ANNA MARIA"),
        field(Source::Mrz, "birth_date", "1974-08-12"),
        field(Source::Mrz, "optional_data", "45911231023"),
        field(Source::Visual, "family_name", "Müller"),
        field(Source::Visual, "given_names", "Anna Maria"),
        field(Source::Visual, "birth_date", "1974-08-13"),
        field(Source::Visual, "personal_number", "4591123-1023"),
        claim("full_name", "Anna Müller").unwrap(),
    ];
    let all = cross_check(&fields);
    let found = |name, second| {
        all.iter()
            .find(|one| one.name == name && one.sources == [Source::Mrz, second])
            .map(|one| (one.agreement, one.code()))
    };
    assert_eq!(found("family_name", Source::Visual), Some((Agrees, None)));
    assert_eq!(found("given_names", Source::Visual), Some((Agrees, None)));
    assert_eq!(found("birth_date", Source::Visual), Some((Differs, Some("BIRTH_DATE_DIFFERS"))));
    assert_eq!(found("personal_number", Source::Visual), Some((Agrees, None)));
    assert_eq!(found("full_name", Source::Claim), Some((AsFar, None)));
    assert_eq!(all.len(), 6, "{all:?}");
    let best = record(&fields);
    let name = best.iter().find(|field| field.name == "family_name").unwrap();
    assert_eq!((name.value.as_str(), name.source, name.agreement), ("Müller", Source::Visual, Some(Agrees)));
    let birth = best.iter().find(|field| field.name == "birth_date").unwrap();
    assert_eq!((birth.value.as_str(), birth.agreeing.len(), birth.agreement), ("1974-08-12", 0, Some(Differs)));
    assert!(best.iter().all(|field| field.source != Source::Claim));
}

#[test]
fn names_in_the_wrong_places_are_told() {
    let fields = [
        field(Source::Mrz, "family_name", "MARTIN"),
        field(Source::Mrz, "given_names", "PAULA"),
        claim("family_name", "Paula").unwrap(),
        claim("given_names", "Martin").unwrap(),
    ];
    let all = cross_check(&fields);
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|one| one.agreement == Differs && one.detail == Some(Detail::Swapped)), "{all:?}");
}

#[test]
fn middle_names_of_a_barcode_belong_to_the_given_names() {
    let fields = [
        field(Source::Barcode, "family_name", "DOE"),
        field(Source::Barcode, "given_names", "JOHN"),
        field(Source::Barcode, "middle_names", "PAUL"),
        claim("family_name", "Doe").unwrap(),
        claim("given_names", "John Paul").unwrap(),
    ];
    let all = cross_check(&fields);
    assert!(all.iter().all(|one| one.agreement == Agrees) && all.len() == 2, "{all:?}");
}

#[test]
fn arabic_spellings_and_letters_a_recogniser_does_not_know_are_doubts() {
    let mrz = field(Source::Mrz, "family_name", "MXHMWD");
    assert_eq!(compare(&mrz, &field(Source::Visual, "family_name", "MAHMOUD")).0, Unsure);
    let mrz = field(Source::Mrz, "given_names", "THURIDUR OESP");
    assert_eq!(compare(&mrz, &field(Source::Visual, "given_names", "PURIDUR ÖSP")).0, Unsure);
    assert_eq!(compare(&mrz, &field(Source::Visual, "given_names", "SIGRIDUR ÖSP")).0, Differs);
}

const LETTERS: &str = "[A-Za-zÄÖÜäöüßÑñŁłØøÅåÆæÞþÐðŠšČčЁЖЩЮЯабвгдежзийклмнΑΒΓΔΕαβγδε' -]{1,40}";

proptest! {
    #[test]
    fn agreement_is_symmetric(a in "\\PC{0,60}", b in "\\PC{0,60}") {
        for name in ["family_name", "given_names", "full_name", "document_number", "birth_date", "nationality", "sex"] {
            for (first, second) in [(Source::Mrz, Source::Visual), (Source::Barcode, Source::Claim)] {
                let (a, b) = (field(first, name, &a), field(second, name, &b));
                prop_assert_eq!(compare(&a, &b), compare(&b, &a));
            }
        }
    }

    #[test]
    fn similar_names_are_compared_symmetrically(a in "[ABE.]( ?-?[ABEÄ]){0,6}", b in "[ABE.]( ?-?[ABEÄ]){0,6}", cut in any::<bool>()) {
        for name in ["family_name", "given_names", "full_name"] {
            let (mut a, b) = (field(Source::Mrz, name, &a), field(Source::Visual, name, &b));
            if cut {
                a.warnings.push("MRZ_NAME_TRUNCATED");
            }
            prop_assert_eq!(compare(&a, &b), compare(&b, &a));
        }
    }

    #[test]
    fn a_name_agrees_with_its_own_spelling(name in LETTERS) {
        if let Some(spelled) = transliterate(&name).filter(|spelled| !spelled.is_empty()) {
            for kind in ["family_name", "given_names", "full_name"] {
                let verdict = compare(&field(Source::Visual, kind, &name), &field(Source::Mrz, kind, &spelled));
                prop_assert_eq!(verdict.0, Agrees, "{} {} {}", kind, name, spelled);
            }
        }
    }

    #[test]
    fn nothing_panics(texts in proptest::collection::vec("\\PC{0,300}", 6), bytes in proptest::collection::vec(any::<char>(), 0..300)) {
        let any: String = bytes.into_iter().collect();
        let names = ["family_name", "given_names", "full_name", "document_number", "birth_date", "optional_data"];
        let sources = [Source::Mrz, Source::Visual, Source::Claim, Source::Barcode];
        let fields: Vec<DocumentField> = names
            .iter()
            .zip(&texts)
            .flat_map(|(name, text)| sources.map(|source| field(source, name, text)))
            .chain(names.map(|name| field(Source::Visual, name, &any)))
            .collect();
        prop_assert!(cross_check(&fields).len() <= 6 * 12);
        prop_assert!(record(&fields).len() <= names.len());
        let claimed = claim("family_name", &any);
        prop_assert!(claimed.is_err() || !any.trim().is_empty());
    }
}
