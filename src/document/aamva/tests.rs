//! Tests of the parser on generated texts: identity, damage, and that no bytes make it panic.

use super::*;
use proptest::prelude::*;

fn specimen(version: u8) -> Specimen {
    Specimen {
        version,
        jurisdiction_version: 2,
        iin: 636014,
        kind: CardKind::DrivingLicence,
        number: "D1234567".to_owned(),
        family_name: "SPECIMEN".to_owned(),
        given_name: "ALEXANDRA".to_owned(),
        middle_names: "MARIE ANN".to_owned(),
        suffix: "JR".to_owned(),
        birth: Some(Date { year: 1985, month: 1, day: 15 }),
        expiry: Some(Date { year: 2029, month: 1, day: 15 }),
        issue: Some(Date { year: 2019, month: 8, day: 24 }),
        card_revision: Some(Date { year: 2018, month: 4, day: 16 }),
        sex: Some(Sex::Female),
        eyes: Some(Colour::Brown),
        hair: Some(Colour::Black),
        height: Some(Height::Inches(65)),
        street_1: "1234 MAIN STREET".to_owned(),
        street_2: "APT 5".to_owned(),
        city: "SACRAMENTO".to_owned(),
        postal_code: "958181234".to_owned(),
        document_discriminator: "08242019534B1AAFD29".to_owned(),
        vehicle_class: "C".to_owned(),
        restrictions: "01".to_owned(),
        endorsements: "M".to_owned(),
        own: vec![('A', "BRO".to_owned()), ('B', "7".to_owned())],
    }
}

fn text(field: &Option<Field<String>>) -> String {
    field.as_ref().and_then(|field| field.value.clone()).unwrap_or_default()
}

fn value<T: Copy>(field: &Option<Field<T>>) -> Option<T> {
    field.as_ref().and_then(|field| field.value)
}

/// The specimen that the record was made from, as far as its edition carries the fields.
fn back(record: &Record, like: &Specimen) -> Specimen {
    let own = record.elements.iter().filter(|element| element.subfile.starts_with('Z'));
    Specimen {
        version: record.header.version,
        jurisdiction_version: record.header.jurisdiction_version.unwrap_or(like.jurisdiction_version),
        iin: record.header.iin,
        kind: record.kind,
        number: text(&record.number),
        family_name: text(&record.family_name),
        given_name: text(&record.given_name),
        middle_names: text(&record.middle_names),
        suffix: text(&record.suffix),
        birth: value(&record.birth),
        expiry: value(&record.expiry),
        issue: value(&record.issue),
        card_revision: if like.version == 1 { like.card_revision } else { value(&record.card_revision) },
        sex: value(&record.sex),
        eyes: value(&record.eyes),
        hair: value(&record.hair),
        height: value(&record.height),
        street_1: text(&record.address.street_1),
        street_2: text(&record.address.street_2),
        city: text(&record.address.city),
        postal_code: text(&record.address.postal_code),
        document_discriminator: match like.version {
            1 => like.document_discriminator.clone(),
            _ => text(&record.document_discriminator),
        },
        vehicle_class: text(&record.vehicle_class),
        restrictions: text(&record.restrictions),
        endorsements: text(&record.endorsements),
        own: own.map(|element| (element.id.chars().last().unwrap_or('?'), element.raw.clone())).collect(),
    }
}

#[test]
fn every_edition_is_read_back_without_a_warning() {
    for version in 1..=10 {
        let made = specimen(version);
        let record = parse(write(&made).as_bytes()).unwrap();
        assert_eq!(back(&record, &made), made, "version {version}");
        assert_eq!(record.warnings, [], "version {version}");
        assert_eq!(text(&record.country), "USA");
    }
}

#[test]
fn canada_puts_the_year_first() {
    let made = Specimen {
        iin: 636012,
        postal_code: "N1M3J6".to_owned(),
        height: Some(Height::Centimetres(170)),
        ..specimen(8)
    };
    let written = write(&made);
    assert!(written.contains("DBB19850115"));
    let record = parse(written.as_bytes()).unwrap();
    assert_eq!(back(&record, &made), made);
    assert_eq!((text(&record.country).as_str(), record.warnings.len()), ("CAN", 0));
}

#[test]
fn scanner_damage_does_not_change_the_fields() {
    let made = specimen(8);
    let good = write(&made);
    let damages: [(&str, String); 9] = [
        ("CR and RS dropped", good.replace(['\r', '\u{1e}'], "")),
        ("LF became CR", good.replace('\n', "\r")),
        ("CR LF", good.replace('\n', "\r\n")),
        ("LF became replacement character", good.replace('\n', "\u{FFFD}")),
        ("written out", good.replace('\n', "<LF>").replace('\r', "<CR>").replace('\u{1e}', "<RS>")),
        ("percent", good.replace('\n', "%0A").replace('\r', "%0D").replace('\u{1e}', "%1E")),
        ("small letters", good.to_lowercase()),
        ("no indicator", good.trim_start_matches(['@', '\n', '\r', '\u{1e}']).to_owned()),
        ("typed with Ctrl", good.replace('\u{1e}', "6").replace('\r', "M").replacen("MANSI", "ANSI", 1)),
    ];
    for (name, damaged) in damages {
        let record = parse(damaged.as_bytes()).expect(name);
        let mut read = back(&record, &made);
        if name == "typed with Ctrl" {
            // The letter behind the last element cannot be told from its text.
            read.own = made.own.clone();
        }
        assert_eq!(read, made, "{name}");
        assert!(record.warnings.contains(&AamvaWarning::HeaderDamaged), "{name}");
    }
}

#[test]
fn lost_separators_are_found_again() {
    for (sign, version) in [("", 8), (" ", 8), ("", 4), (" ", 1), ("", 3)] {
        let made = Specimen { own: Vec::new(), ..specimen(version) };
        let damaged = write(&made).replace(['\n', '\r', '\u{1e}'], sign);
        let record = parse(damaged.as_bytes()).unwrap();
        assert_eq!(back(&record, &made), made, "version {version} with {sign:?}");
        assert!(record.warnings.contains(&AamvaWarning::SeparatorsLost));
    }
}

#[test]
fn a_bad_date_costs_only_itself() {
    let made = write(&specimen(8)).replace("DBB01151985", "DBB13451985");
    let record = parse(made.as_bytes()).unwrap();
    assert_eq!(record.birth, Some(Field { element: "DBB".into(), raw: "13451985".into(), value: None }));
    assert_eq!(value(&record.expiry), Some(Date { year: 2029, month: 1, day: 15 }));
    assert_eq!(text(&record.family_name), "SPECIMEN");
    assert_eq!(record.warnings, [AamvaWarning::DateInvalid]);
}

#[test]
fn a_date_in_the_other_order_is_read_and_reported() {
    let record = parse(write(&specimen(8)).replace("DBB01151985", "DBB19850115").as_bytes()).unwrap();
    assert_eq!(value(&record.birth), Some(Date { year: 1985, month: 1, day: 15 }));
    assert_eq!(record.warnings, [AamvaWarning::DateOrder]);
}

#[test]
fn wrong_offsets_are_reported_and_not_followed() {
    let good = write(&specimen(8));
    let record = parse(good.replace("DL0041", "DL0999").as_bytes()).unwrap();
    assert_eq!(back(&record, &specimen(8)), specimen(8));
    assert_eq!(record.warnings, [AamvaWarning::OffsetsWrong]);
}

#[test]
fn refuses_what_is_no_card() {
    assert_eq!(parse(b""), Err(AamvaError::NoHeader));
    assert_eq!(parse(b"https://example.org/ANSI"), Err(AamvaError::NoHeader));
    assert_eq!(parse(b"@\n\x1e\rANSI 636014100102DL00410288"), Err(AamvaError::NoElements));
    assert_eq!(parse(&vec![b'A'; 9000]), Err(AamvaError::TooLong));
    assert_eq!(parse(&[0xff; 300]), Err(AamvaError::NoHeader));
}

#[test]
fn heights_in_every_form() {
    for (raw, first, expected) in [
        ("070 IN", false, Some(Height::Inches(70))),
        ("75 in", false, Some(Height::Inches(75))),
        ("510", true, Some(Height::Inches(70))),
        ("600", true, Some(Height::Inches(72))),
        ("5'10\"", false, Some(Height::Inches(70))),
        ("5-06", false, Some(Height::Inches(66))),
        ("508 IN", false, Some(Height::Inches(68))),
        ("170 CM", false, Some(Height::Centimetres(170))),
        ("168", false, Some(Height::Centimetres(168))),
        ("072", false, Some(Height::Inches(72))),
        ("TALL", false, None),
        ("513 IN", false, None),
        ("65535 53020000", false, None),
        ("60000-03", false, None),
    ] {
        assert_eq!(read_height(raw, first), expected, "{raw}");
    }
}

#[test]
fn names_in_one_element() {
    for (raw, family, given, middle, suffix) in [
        ("CORTEZ,PABLO,,JR", "CORTEZ", "PABLO", "", "JR"),
        ("SMITH, MARY JONES", "SMITH", "MARY", "JONES", ""),
        ("JOHN ROBERT LEE SMITH", "SMITH", "JOHN", "ROBERT LEE", ""),
        ("JOHN P SMITH JR", "SMITH", "JOHN", "P", "JR"),
        ("SMITH@JOHN@Q", "SMITH", "JOHN", "Q", ""),
        ("DOE,JANE,ANN,MARIE,III", "DOE", "JANE", "ANN MARIE", "III"),
        ("DOE", "DOE", "", "", ""),
    ] {
        let expected =
            NameParts { family: family.into(), given: given.into(), middle: middle.into(), suffix: suffix.into() };
        assert_eq!(whole_name(raw), expected, "{raw}");
    }
}

#[test]
fn a_name_that_looks_like_the_start_of_the_jurisdictions_subfile_stays_whole() {
    // Arizona's own subfile is ZA.
    let made = Specimen { iin: 636026, family_name: "ALIZAZAI".into(), given_name: "ZAZAI".into(), ..specimen(1) };
    let made = Specimen { own: vec![('A', "BRO".into())], ..made };
    assert!(write(&made).contains("ZAZAABRO"));
    assert_eq!(back(&parse(write(&made).as_bytes()).unwrap(), &made), made);
}

#[test]
fn impossible_days_are_no_dates() {
    assert_eq!(read_date("02292023"), None);
    assert_eq!(read_date("02292024"), Some((Date { year: 2024, month: 2, day: 29 }, false)));
    assert_eq!(read_date("2024-02-29"), Some((Date { year: 2024, month: 2, day: 29 }, true)));
    assert_eq!(read_date("0315201"), None);
}

prop_compose! {
    fn any_specimen()(
        version in 1u8..=10,
        issuer in prop::sample::select(vec![636000u32, 636001, 636010, 636012, 636014, 636015, 604432, 636028, 636045]),
        names in prop::array::uniform3("[A-Z]{2,12}"),
        more in "([A-Z]{2,9}( [A-Z]{2,9})?)?",
        number in "[A-Z0-9]{1,4}[0-9]{1,20}",
        dates in prop::array::uniform4((1850u16..2150, 1u8..=12, 1u8..=28)),
        height in prop_oneof![(36u16..96).prop_map(Height::Inches), (110u16..250).prop_map(Height::Centimetres)],
        street in "[0-9]{1,5} [A-Z]{3,20}( (ST|AVE|APT [0-9]))?",
        sex in prop::sample::select(vec![Sex::Male, Sex::Female, Sex::NotSpecified]),
        postal in "[1-9][0-9]{8}",
    ) -> Specimen {
        let [family_name, given_name, city] = names;
        let [birth, expiry, issue, card_revision] = dates.map(|(year, month, day)| Some(Date { year, month, day }));
        Specimen {
            iin: issuer, family_name, given_name, city, middle_names: more, number, birth, expiry, issue, card_revision, sex: Some(sex),
            height: Some(height), street_1: street, postal_code: postal, ..specimen(version)
        }
    }
}

/// Words that mean "nothing" in a field are not fields of the identity, and four zeros are filling.
fn says_something(made: &Specimen) -> bool {
    let words = [&made.family_name, &made.given_name, &made.city, &made.middle_names];
    !words.iter().any(|word| !word.is_empty() && (says_nothing(word) || is_suffix(word)))
}

proptest! {
    #[test]
    fn written_fields_are_read_back(made in any_specimen()) {
        prop_assume!(says_something(&made) && !made.postal_code.ends_with("0000"));
        let record = parse(write(&made).as_bytes()).unwrap();
        prop_assert_eq!(back(&record, &made), made);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_text_behind_a_header_makes_it_panic(text in "(DL[0-9]{8}|Z[A-Z][0-9]{8}|D[A-D][A-Z]|Z[A-Z][A-Z]|[A-Z0-9 ,é\u{FFFD}]|\n|<LF>){0,200}") {
        let _ = parse(format!("@\n\u{1e}\rANSI 636014100102{text}").as_bytes());
    }

    #[test]
    fn no_change_of_a_few_bytes_makes_it_panic(places in prop::collection::vec((0usize..400, any::<u8>()), 0..40)) {
        let mut bytes = write(&specimen(8)).into_bytes();
        for (place, byte) in places {
            if let Some(slot) = bytes.get_mut(place) {
                *slot = byte;
            }
        }
        let _ = parse(&bytes);
    }
}
