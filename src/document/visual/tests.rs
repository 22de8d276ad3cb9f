//! Invented people on invented documents in several layouts and languages.

use proptest::prelude::*;

use super::super::agreement::{Agreement, cross_check};
use super::super::fields::of_mrz;
use super::super::mrz::parse;
use super::*;

fn today() -> Date {
    Date::new(2026, 11, 23).unwrap()
}

/// A line of 10 px letters, 6 px wide, that begins at a place.
fn line(x: f64, y: f64, text: &str) -> TextLine {
    let width = 6.0 * f64::from(u32::try_from(text.chars().count()).unwrap());
    let quad = [[x, y], [x + width, y], [x + width, y + 10.0], [x, y + 10.0]];
    TextLine { text: text.to_owned(), confidence: 1.0, quad, characters: Vec::new() }
}

fn page(lines: &[(f64, f64, &str)]) -> Vec<TextLine> {
    lines.iter().map(|(x, y, text)| line(*x, *y, text)).collect()
}

fn field<'a>(fields: &'a [DocumentField], name: &str) -> Option<&'a DocumentField> {
    fields.iter().find(|field| field.name == name)
}

#[track_caller]
fn expect(fields: &[DocumentField], expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(field(fields, name).and_then(|field| field.value.as_deref()), Some(*value), "{name}");
    }
}

fn passport() -> Vec<TextLine> {
    page(&[
        (100.0, 10.0, "UTOPIA"),
        (100.0, 30.0, "Type/ Type"),
        (180.0, 30.0, "Country code/ Code du pays"),
        (400.0, 30.0, "Passport No./ N° de passeport"),
        (105.0, 42.0, "P"),
        (185.0, 42.0, "UTO"),
        (405.0, 42.0, "L898902C3"),
        (100.0, 60.0, "1. Surname/ Nom"),
        (105.0, 72.0, "ERIKSSON"),
        (100.0, 90.0, "2. Given names/ Prénoms"),
        (105.0, 102.0, "ANNA MARIA"),
        (100.0, 120.0, "3. Nationality/ Nationalité"),
        (105.0, 132.0, "UTOPIAN"),
        (100.0, 150.0, "4. Date of birth/ Date de naissance"),
        (400.0, 150.0, "Personal No./ N° personnel"),
        (105.0, 162.0, "12 AUG/AOÛT 74"),
        (405.0, 162.0, "ZE 184226 B"),
        (100.0, 180.0, "Sex/ Sexe"),
        (250.0, 180.0, "Place of birth/ Lieu de naissance"),
        (105.0, 192.0, "F"),
        (255.0, 192.0, "ZENITH"),
        (100.0, 210.0, "Date of issue/ Date de délivrance"),
        (400.0, 210.0, "Authority/ Autorité"),
        (105.0, 222.0, "16 APR/AVR 07"),
        (405.0, 222.0, "PASSPORT OFFICE"),
        (100.0, 240.0, "Date of expiry/ Date d'expiration"),
        (105.0, 252.0, "15 APR/AVR 12"),
        (10.0, 300.0, "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<"),
        (10.0, 320.0, "L898902C36UTO7408122F1204159ZE184226B<<<<<10"),
    ])
}

/// The passport of ICAO Doc 9303 part 4, appendix A.
fn mrz() -> Vec<DocumentField> {
    let lines = ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"];
    of_mrz(&parse(&lines, today()).unwrap())
}

#[test]
fn a_passport_by_captions_alone() {
    let fields = read(&passport(), &[], today());
    expect(
        &fields,
        &[
            ("family_name", "ERIKSSON"),
            ("given_names", "ANNA MARIA"),
            ("document_number", "L898902C3"),
            ("nationality", "UTO"),
            ("issuing_state", "UTO"),
            ("birth_date", "1974-08-12"),
            ("birth_place", "ZENITH"),
            ("sex", "F"),
            ("issue_date", "2007-04-16"),
            ("expiry_date", "2012-04-15"),
            ("authority", "PASSPORT OFFICE"),
            ("personal_number", "ZE184226B"),
        ],
    );
    assert_eq!(fields.len(), 12);
    let name = field(&fields, "family_name").unwrap();
    assert_eq!((name.source, name.quad.unwrap()[0], name.confidence), (Source::Visual, [105.0, 72.0], Some(1.0)));
    let mut all = mrz();
    all.extend(fields);
    let compared = cross_check(&all);
    assert!(compared.len() >= 9 && compared.iter().all(|one| one.agreement == Agreement::Agrees), "{compared:?}");
}

#[test]
fn a_tilted_page_reads_the_same() {
    let tilted: Vec<TextLine> = passport()
        .into_iter()
        .map(|line| {
            let (sin, cos) = 0.12_f64.sin_cos();
            TextLine { quad: line.quad.map(|[x, y]| [x * cos - y * sin, x * sin + y * cos]), ..line }
        })
        .collect();
    let values = |fields: Vec<DocumentField>| {
        let mut values: Vec<_> = fields.into_iter().map(|field| (field.name, field.value)).collect();
        values.sort_unstable();
        values
    };
    assert_eq!(values(read(&tilted, &[], today())), values(read(&passport(), &[], today())));
}

#[test]
fn anchors_find_what_captions_do_not_say() {
    let without: Vec<TextLine> = passport().into_iter().filter(|line| !line.text.contains("/ ")).collect();
    assert_eq!(read(&without, &[], today()), []);
    let fields = read(&without, &mrz(), today());
    expect(
        &fields,
        &[
            ("family_name", "ERIKSSON"),
            ("given_names", "ANNA MARIA"),
            ("document_number", "L898902C3"),
            ("birth_date", "1974-08-12"),
            ("expiry_date", "2012-04-15"),
            ("issue_date", "2007-04-16"),
        ],
    );
    assert_eq!(field(&fields, "issue_date").unwrap().certainty, Certainty::Presumed);
    assert_eq!(field(&fields, "birth_date").unwrap().certainty, Certainty::AsRead);
    assert_eq!(fields.len(), 6);
}

#[test]
fn a_changed_fact_differs_and_is_not_explained_away() {
    let mut changed = passport();
    for line in &mut changed {
        line.text = line.text.replace("12 AUG/AOÛT 74", "12 AUG/AOÛT 84").replace("ERIKSSON", "LINDQVIST");
    }
    // The MRZ stays as it was.
    let fields = read(&changed, &mrz(), today());
    expect(&fields, &[("birth_date", "1984-08-12"), ("family_name", "LINDQVIST")]);
    let mut all = mrz();
    all.extend(fields);
    let differing: Vec<_> =
        cross_check(&all).into_iter().filter(|one| one.agreement == Agreement::Differs).map(|one| one.name).collect();
    assert_eq!(differing, ["birth_date", "family_name"]);
}

#[test]
fn a_caption_that_contradicts_another_place_of_the_page_is_a_doubt() {
    let mut lines = passport();
    for line in &mut lines {
        line.text = line.text.replace("12 AUG/AOÛT 74", "12 AUG/AOÛT 84");
    }
    lines.push(line(500.0, 250.0, "12.08.1974"));
    let mut all = mrz();
    let fields = read(&lines, &all, today());
    assert_eq!(field(&fields, "birth_date").unwrap().certainty, Certainty::Uncertain);
    all.extend(fields);
    let birth = cross_check(&all).into_iter().find(|one| one.name == "birth_date").unwrap();
    assert_eq!(birth.agreement, Agreement::Unsure);
}

#[test]
fn a_card_with_captions_of_two_lines_and_values_below() {
    let fields = read(
        &page(&[
            (100.0, 10.0, "Naam / Name"),
            (100.0, 22.0, "De Visser"),
            (100.0, 40.0, "Voornamen / Given names"),
            (100.0, 52.0, "Pieter Jan"),
            (100.0, 70.0, "Geboortedatum/Geburtsdatum/"),
            (100.0, 81.0, "Date of birth"),
            (100.0, 93.0, "03 MEI/MAY 1981"),
            (300.0, 70.0, "Geslacht/ Geschlecht/"),
            (300.0, 81.0, "Sex"),
            (300.0, 93.0, "M/M"),
            (100.0, 110.0, "Geldig tot / Date of expiry"),
            (100.0, 122.0, "14.02.2031"),
        ]),
        &[],
        today(),
    );
    expect(
        &fields,
        &[
            ("family_name", "De Visser"),
            ("given_names", "Pieter Jan"),
            ("birth_date", "1981-05-03"),
            ("sex", "M"),
            ("expiry_date", "2031-02-14"),
        ],
    );
}

#[test]
fn captions_and_values_on_one_line() {
    let fields = read(
        &page(&[
            (10.0, 10.0, "Nazwisko: KOWALCZYK"),
            (10.0, 30.0, "Imiona: ADAM PIOTR"),
            (10.0, 50.0, "Data urodzenia: 05.11.1990"),
            (10.0, 70.0, "Płeć: M"),
            (10.0, 90.0, "Nr dowodu: ABC 123456"),
            (10.0, 110.0, "Obywatelstwo:"),
            (120.0, 110.0, "POLSKIE"),
            (10.0, 130.0, "Wzrost 182 cm"),
        ]),
        &[],
        today(),
    );
    expect(
        &fields,
        &[
            ("family_name", "KOWALCZYK"),
            ("given_names", "ADAM PIOTR"),
            ("sex", "M"),
            ("document_number", "ABC123456"),
            ("nationality", "POL"),
            ("height", "182"),
        ],
    );
    // No State and no other date tell whether this is May or November.
    let birth = field(&fields, "birth_date").unwrap();
    assert_eq!((birth.value.as_deref(), birth.alternatives.len(), birth.certainty), (None, 2, Certainty::Uncertain));
}

#[test]
fn a_date_beside_the_caption_of_a_number_is_none() {
    let lines = |number| page(&[(10.0, 10.0, "Document No."), (120.0, 10.0, number)]);
    let number = |text| read(&lines(text), &mrz(), today()).into_iter().find(|field| field.name == "document_number");
    assert_eq!(number("1208 1974"), None);
    assert_eq!(number("12081974"), None);
    assert_eq!(number("12081975").unwrap().value.as_deref(), Some("12081975"));
}

#[test]
fn other_dates_or_the_state_decide_the_order_of_day_and_month() {
    let lines = |expiry| {
        page(&[
            (10.0, 10.0, "Date of birth"),
            (10.0, 22.0, "05/11/1990"),
            (10.0, 50.0, "Expiry date"),
            (10.0, 62.0, expiry),
        ])
    };
    expect(&read(&lines("25/12/2030"), &[], today()), &[("birth_date", "1990-11-05"), ("expiry_date", "2030-12-25")]);
    expect(&read(&lines("12/25/2030"), &[], today()), &[("birth_date", "1990-05-11"), ("expiry_date", "2030-12-25")]);
    let of =
        |state: &str| vec![DocumentField { name: "issuing_state", value: Some(state.to_owned()), ..mrz().remove(0) }];
    expect(
        &read(&lines("11/12/2030"), &of("USA"), today()),
        &[("birth_date", "1990-05-11"), ("expiry_date", "2030-11-12")],
    );
    expect(
        &read(&lines("11/12/2030"), &of("GBR"), today()),
        &[("birth_date", "1990-11-05"), ("expiry_date", "2030-12-11")],
    );
}

#[test]
fn a_driving_licence_by_its_numbers() {
    let fields = read(
        &page(&[
            (100.0, 5.0, "DRIVING LICENCE"),
            (100.0, 20.0, "1. HUGHES"),
            (100.0, 34.0, "2. GARETH OWAIN"),
            (100.0, 48.0, "3. 14.07.1988 CARDIFF"),
            (100.0, 62.0, "4a. 03.02.2020 4c. DVLA"),
            (100.0, 76.0, "4b. 02.02.2030"),
            (100.0, 90.0, "5. HUGHE807148GO9AB"),
            (100.0, 104.0, "8. 12 HIGH STREET, SWANSEA"),
        ]),
        &[],
        today(),
    );
    expect(
        &fields,
        &[
            ("family_name", "HUGHES"),
            ("given_names", "GARETH OWAIN"),
            ("birth_date", "1988-07-14"),
            ("issue_date", "2020-02-03"),
            ("expiry_date", "2030-02-02"),
            ("authority", "DVLA"),
            ("document_number", "HUGHE807148GO9AB"),
            ("address", "12 HIGH STREET, SWANSEA"),
        ],
    );
}

#[test]
fn a_cyrillic_and_a_greek_page() {
    let ukrainian = page(&[
        (10.0, 10.0, "Прізвище/Surname"),
        (10.0, 22.0, "ШЕВЧУК/SHEVCHUK"),
        (10.0, 40.0, "Ім'я/Name"),
        (10.0, 52.0, "ОЛЕНА/OLENA"),
        (10.0, 70.0, "Дата народження/Date of birth"),
        (10.0, 82.0, "24 СЕР/AUG 91"),
        (10.0, 100.0, "Стать/Sex"),
        (10.0, 112.0, "Ж/F"),
    ]);
    expect(
        &read(&ukrainian, &[], today()),
        &[("family_name", "SHEVCHUK"), ("given_names", "OLENA"), ("birth_date", "1991-08-24"), ("sex", "F")],
    );
    let greek =
        page(&[(10.0, 10.0, "Επώνυμο"), (10.0, 22.0, "ΠΑΠΑΔΑΚΗΣ"), (10.0, 40.0, "Όνομα"), (10.0, 52.0, "ΝΙΚΟΣ")]);
    expect(&read(&greek, &[], today()), &[("family_name", "ΠΑΠΑΔΑΚΗΣ"), ("given_names", "ΝΙΚΟΣ")]);
}

#[test]
fn what_is_not_understood_is_left_out() {
    let fields = read(
        &page(&[
            (10.0, 10.0, "Date of birth"),
            (10.0, 22.0, "31.02.1990"),
            (10.0, 40.0, "Sex"),
            (10.0, 52.0, "ITIW"),
            (10.0, 70.0, "Document No."),
            (10.0, 82.0, "PASSPORT OFFICE"),
            (10.0, 100.0, "Surname"),
            (10.0, 112.0, "01 Pd/ Su"),
            (10.0, 130.0, "Date of issue"),
            (10.0, 142.0, "01.01.2090"),
        ]),
        &[],
        today(),
    );
    assert_eq!(fields, []);
}

#[test]
fn a_name_at_birth_or_of_a_parent_is_no_family_name() {
    for caption in [
        "NAZWISKO RODOWE / FAMILY NAME",
        "Name of father",
        "Geburtsname",
        "Nom d'usage",
        "IMIONA RODZICÓW / PARENTS' GIVEN NAMES",
    ] {
        let fields = read(&page(&[(10.0, 10.0, caption), (10.0, 22.0, "NOVAK")]), &[], today());
        assert_eq!(fields, [], "{caption}");
    }
}

#[test]
fn dates_in_the_wrong_order_are_doubts() {
    let lines = page(&[
        (10.0, 10.0, "Date of issue"),
        (10.0, 22.0, "25.03.2020"),
        (10.0, 50.0, "Date of expiry"),
        (10.0, 62.0, "25.03.2015"),
    ]);
    let fields = read(&lines, &[], today());
    assert!(fields.len() == 2 && fields.iter().all(|field| field.certainty == Certainty::Uncertain));
}

#[test]
fn confidence_is_that_of_the_worst_character() {
    let mut lines = page(&[(10.0, 10.0, "Surname"), (10.0, 22.0, "NOVAK")]);
    lines[1].confidence = 0.98;
    let confidence = |lines: &[TextLine]| {
        field(&read(lines, &[], today()), "family_name").and_then(|field| field.confidence).unwrap()
    };
    assert!((confidence(&lines) - 0.9).abs() < 1e-9);
    lines[1].characters = vec![1.0, 0.97, 1.0, 1.0, 1.0];
    assert!((confidence(&lines) - 0.97).abs() < 1e-9);
}

/// More than is looked at, of the text that costs most. The limit is for a build without optimisation on a busy machine.
#[test]
fn a_hostile_page_costs_little() {
    for (text, step) in [
        ("DATE OF BIRTH SURNAME A B C 12 AUG 12.12.12 / ", 2.0),
        ("SEX/F ", 0.01),
        ("ЕЄЮЯЙ ЕЄЮЯЙ ", 0.5),
        ("4a. 4b. ", 1.0),
    ] {
        let lines: Vec<TextLine> =
            (0..2000).map(|at| line(f64::from(at % 7) * 3.0, f64::from(at) * step, &text.repeat(40))).collect();
        let begin = std::time::Instant::now();
        let fields = read(&lines, &mrz(), today());
        assert!(fields.len() < 20);
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{text} {:?}", begin.elapsed());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_text_panics(
        texts in proptest::collection::vec(("(\\PC{0,80})|((Surname|Nom|4a\\.|4b\\.|Sex/|Date of birth|[0-9./ ]{4,12}|[A-Z]{2,9}|/|É|ß){1,6})", any::<[f64; 4]>()), 0..40),
        confidence in any::<f64>(),
    ) {
        let lines: Vec<TextLine> = texts
            .into_iter()
            .map(|(text, [x, y, w, h])| TextLine {
                characters: vec![confidence; text.chars().count() / 2],
                text,
                confidence,
                quad: [[x, y], [x + w, y], [x + w, y + h], [x, y + h]],
            })
            .collect();
        for known in [Vec::new(), mrz()] {
            for field in read(&lines, &known, today()) {
                prop_assert!(field.confidence.is_some_and(|confidence| (0.0..=1.0).contains(&confidence)));
                prop_assert!(field.value.is_some() || field.certainty == Certainty::Uncertain);
            }
        }
    }

    #[test]
    fn any_text_in_any_place(texts in proptest::collection::vec(("(Surname|Nom|Sex|Given names|Date of birth|4a\\.|4b\\.|[0-9]{2}[./ ][0-9]{2}[./ ][0-9]{2,4}|[A-Z]{1,9}|/| |É|ß){1,6}", 0.0..300.0, 0.0..300.0), 0..60)) {
        let lines: Vec<TextLine> = texts.iter().map(|(text, x, y)| line(*x, *y, text)).collect();
        let fields = read(&lines, &mrz(), today());
        let mut names: Vec<_> = fields.iter().map(|field| field.name).collect();
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(names.len(), fields.len());
        for field in &fields {
            // A value never comes from nowhere.
            prop_assert!(!field.raw.is_empty() && field.quad.is_some());
        }
    }
}
