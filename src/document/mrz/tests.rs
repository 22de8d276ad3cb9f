//! The worked examples of ICAO Doc 9303, the reports from the field, and properties of parser, repairer and generator.

use proptest::prelude::*;

use super::*;

fn today() -> Date {
    Date::new(2026, 11, 23).unwrap()
}

fn parsed(lines: &[&str]) -> Mrz {
    parse(lines, today()).unwrap()
}

fn repaired(lines: &[&str]) -> Repaired {
    let lines: Vec<_> = lines.iter().map(|line| ReadLine::from_text(line)).collect();
    repair(&lines, today()).unwrap()
}

fn has(mrz: &Mrz, field: FieldName, kind: WarningKind) -> bool {
    mrz.warnings.contains(&Warning { field, kind })
}

fn names(mrz: &Mrz) -> (&str, &str, bool) {
    let names = mrz.names.as_ref().unwrap().value.as_ref().unwrap();
    (&names.primary, &names.secondary, names.truncated)
}

fn number(mrz: &Mrz) -> &str {
    mrz.document_number.as_ref().unwrap().value.as_deref().unwrap()
}

fn day(field: &Option<Field<PartialDate>>) -> String {
    field.as_ref().unwrap().value.unwrap().complete().unwrap().to_string()
}

const TD3: [&str; 2] = ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"];
const TD1: [&str; 3] =
    ["I<UTOD231458907<<<<<<<<<<<<<<<", "7408122F1204159UTO<<<<<<<<<<<6", "ERIKSSON<<ANNA<MARIA<<<<<<<<<<"];
const TD2: [&str; 2] = ["I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "D231458907UTO7408122F1204159<<<<<<<6"];
const MRV_A: [&str; 2] =
    ["V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L8988901C4XXX4009078F96121096ZE184226B<<<<<<"];
const MRV_B: [&str; 2] = ["V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "L8988901C4XXX4009078F9612109<<<<<<<<"];

#[test]
fn part_4_passport() {
    let mrz = parsed(&TD3);
    assert_eq!(mrz.format, Format::Td3);
    assert_eq!((mrz.document_code.value.as_deref(), mrz.document_type), (Some("P"), DocumentType::Passport));
    assert_eq!(mrz.issuing_state.value.map(|state| state.kind), Some(StateKind::Specimen));
    assert_eq!(names(&mrz), ("ERIKSSON", "ANNA MARIA", false));
    assert_eq!(number(&mrz), "L898902C3");
    assert_eq!(mrz.nationality.as_ref().unwrap().value.map(|state| state.code), Some("UTO"));
    assert_eq!((day(&mrz.birth), day(&mrz.expiry)), ("1974-08-12".into(), "2012-04-15".into()));
    assert_eq!(mrz.sex.as_ref().unwrap().value, Some(Sex::Female));
    assert_eq!(mrz.optional_data.as_ref().unwrap().value.as_deref(), Some("ZE184226B"));
    assert!(mrz.all_check_digits_valid() && mrz.warnings.is_empty());
    assert_eq!(mrz.check_digits().filter(|(_, digit)| *digit == CheckDigit::Valid).count(), 5);
}

#[test]
fn parts_5_and_6_identity_cards() {
    for lines in [&TD1[..], &TD2[..]] {
        let mrz = parsed(lines);
        assert_eq!(mrz.document_type, DocumentType::IdentityCard);
        assert_eq!((number(&mrz), names(&mrz)), ("D23145890", ("ERIKSSON", "ANNA MARIA", false)));
        assert_eq!((day(&mrz.birth), day(&mrz.expiry)), ("1974-08-12".into(), "2012-04-15".into()));
        assert!(mrz.all_check_digits_valid() && mrz.warnings.is_empty());
        assert_eq!(mrz.optional_data.as_ref().unwrap().value, None);
    }
    assert_eq!((parsed(&TD1).format, parsed(&TD2).format), (Format::Td1, Format::Td2));
}

#[test]
fn part_7_visas() {
    for (lines, format, optional) in [(MRV_A, Format::MrvA, Some("6ZE184226B")), (MRV_B, Format::MrvB, None)] {
        let mrz = parsed(&lines);
        assert_eq!((mrz.format, mrz.document_type), (format, DocumentType::Visa));
        assert_eq!(number(&mrz), "L8988901C");
        assert_eq!(mrz.nationality.as_ref().unwrap().value.map(|state| state.kind), Some(StateKind::Unspecified));
        assert_eq!((day(&mrz.birth), day(&mrz.expiry)), ("1940-09-07".into(), "1996-12-10".into()));
        assert_eq!(mrz.composite, CheckDigit::NotApplicable);
        assert_eq!(mrz.optional_data.as_ref().unwrap().value.as_deref(), optional);
        assert!(mrz.all_check_digits_valid());
    }
}

#[test]
fn long_document_numbers() {
    // Part 5, section 4.2.2, note j: the number is D23145890734.
    let td1 = ["I<UTOD23145890<7349<<<<<<<<<<<", "3407127M9507122UTO<<<<<<<<<<<2", "STEVENSON<<PETER<JOHN<<<<<<<<<"];
    let mrz = parsed(&td1);
    let field = mrz.document_number.as_ref().unwrap();
    assert_eq!((number(&mrz), field.check), ("D23145890734", CheckDigit::Valid));
    assert_eq!(mrz.optional_data.as_ref().unwrap().value, None);
    assert!(mrz.all_check_digits_valid(), "{mrz:?}");
    // Belgian card of twelve digits, and numbers of ten and eleven characters with optional data behind them.
    let belgium =
        ["IDBEL600000257<6642<<<<<<<<<<<", "1301014F2311207BEL130101123594", "SPECIMEN<<SPECIMEN<<<<<<<<<<<<"];
    assert_eq!(number(&parsed(&belgium)), "600000257664");
    assert!(parsed(&belgium).all_check_digits_valid());
    for number_text in ["AB12345678", "AB123456789"] {
        for format in [Format::Td1, Format::Td2] {
            let fields = Fields { format, document_number: number_text.into(), optional_data: "X".into(), ..fields() };
            let lines = generate(&fields).unwrap();
            let mrz = parsed(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(number(&mrz), number_text);
            assert_eq!(mrz.optional_data.as_ref().unwrap().value.as_deref(), Some("X"));
            assert!(mrz.all_check_digits_valid());
        }
    }
}

#[test]
fn names_of_part_4_section_4_2_3() {
    // The field with the names, of a TD3 of Utopia; examples of usual, long, single and truncated names.
    let cases = [
        ("ERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "ERIKSSON", "ANNA MARIA", false),
        ("VAN<DER<MUELLEN<<HILLARY<SUSAN<<<<<<<<<", "VAN DER MUELLEN", "HILLARY SUSAN", false),
        ("OCONNOR<<ENYA<SIOBHAN<<<<<<<<<<<<<<<<<<", "OCONNOR", "ENYA SIOBHAN", false),
        ("ARKFREITH<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<", "ARKFREITH", "", false),
        ("PAPANDROPOULOUS<<JONATHON<WARREN<TREVOR", "PAPANDROPOULOUS", "JONATHON WARREN TREVOR", true),
        ("NILAVADHANANANDA<<CHAYAPA<DEJTHAMRONG<K", "NILAVADHANANANDA", "CHAYAPA DEJTHAMRONG K", true),
        ("NILAVADHANANANDA<<CHAYAPA<DEJTHAM<KRASU", "NILAVADHANANANDA", "CHAYAPA DEJTHAM KRASU", true),
        ("BENNELONG<WOOLOOMOOLOO<WARRANDYTE<W<<DI", "BENNELONG WOOLOOMOOLOO WARRANDYTE W", "DI", true),
        ("BENNELONG<WOOLOOMOOLOO<WARRANDYTE<WARNA", "BENNELONG WOOLOOMOOLOO WARRANDYTE WARNA", "", true),
    ];
    for (field, primary, secondary, truncated) in cases {
        let mrz = parsed(&[&format!("P<UTO{field}"), TD3[1]]);
        assert_eq!(names(&mrz), (primary, secondary, truncated), "{field}");
    }
}

#[test]
fn generated_names_are_truncated_as_in_part_4() {
    let line = |primary: &str, secondary: &str| {
        let fields = Fields { primary: primary.into(), secondary: secondary.into(), ..fields() };
        generate(&fields).unwrap()[0][5..].to_owned()
    };
    assert_eq!(line("Nilavadhanananda", "Chayapa Dejthamrong Krasuang"), "NILAVADHANANANDA<<CHAYAPA<DEJTHAMRONG<K");
    assert_eq!(line("Papandropoulous", "Jonathon Warren Trevor"), "PAPANDROPOULOUS<<JONATHON<WARREN<TREVOR");
    let long = line("Bennelong Wooloomooloo Warrandyte Warnambool", "Dingo Potoroo");
    assert_eq!(long, "BENNELONG<WOOLOOMOOLOO<WARRANDYTE<WA<<D");
    // A cut behind a word would hide the truncation; a letter of a longer word goes instead.
    assert_eq!(line("Aaaaaaaaaaaaaaaaaaaaaaaa", "Bbbbbb Ccccc D Eeee"), "AAAAAAAAAAAAAAAAAAAAAAAA<<BBBBB<CCCCC<D");
}

#[test]
fn reports_from_the_field() {
    // A Chinese passport without a filler in its second line.
    let china = ["POCHNABULIKEMU<<ABULA<<<<<<<<<<<<<<<<<<<<<<<", "E596593216CHN9701078M2510077LAKCLCLMMBKGG932"];
    let mrz = parsed(&china);
    assert!(mrz.all_check_digits_valid());
    assert_eq!(mrz.optional_data.as_ref().unwrap().value.as_deref(), Some("LAKCLCLMMBKGG9"));
    assert_eq!(mrz.document_code.value.as_deref(), Some("PO"));
    // Germany, and an empty personal number with a filler in place of its check digit.
    let germany = ["P<D<<MUSTERMANN<<ERIKA<<<<<<<<<<<<<<<<<<<<<<", "C01X0006H1D<<6408125F1710319<<<<<<<<<<<<<<<0"];
    let mrz = parsed(&germany);
    assert_eq!(mrz.issuing_state.value.and_then(|state| state.alpha_2), Some("DE"));
    assert_eq!(mrz.optional_data.as_ref().unwrap().check, CheckDigit::Absent);
    assert!(mrz.all_check_digits_valid() && mrz.warnings.is_empty(), "{mrz:?}");
    // The same with a zero.
    let belgium = ["P<BELSPECIMEN<<EMMA<<<<<<<<<<<<<<<<<<<<<<<<<", "ES000000<2BEL9412147F2602280<<<<<<<<<<<<<<04"];
    assert_eq!(parsed(&belgium).optional_data.as_ref().unwrap().check, CheckDigit::Valid);
    // Lower case, spaces, line ends, one string.
    let text = "i<utod231458907<<<<<<<<<<<<<<<\r\n\n 7408122F1204159UTO <<<<<<<<<<<6\nERIKSSON<<ANNA<MARIA<<<<<<<<<<\n";
    assert_eq!(parsed(&[text]).lines, TD1);
    assert_eq!(parsed(&[&TD3.concat()]).lines, TD3);
    assert_eq!(parsed(&[&TD3[0].replace("<<", "«"), TD3[1]]).lines, TD3);
}

#[test]
fn one_bad_field_leaves_the_others() {
    let mrz = parsed(&[TD3[0], "L898902C36UTO7413122F1204159ZE184226B<<<<<10"]);
    let birth = mrz.birth.as_ref().unwrap();
    assert_eq!(birth.check, CheckDigit::Failed { expected: '8', found: '2' });
    assert_eq!(birth.value.map(|date| (date.year, date.month, date.day)), Some((Some(1974), None, Some(12))));
    assert!(has(&mrz, FieldName::Birth, WarningKind::DateImpossible));
    assert_eq!((number(&mrz), day(&mrz.expiry).as_str()), ("L898902C3", "2012-04-15"));
    assert!(!mrz.all_check_digits_valid());
    // Unknown parts are not a fault of the check digit.
    let partial = Fields { birth: DateParts { year: Some(1974), ..DateParts::default() }, ..fields() };
    let lines = generate(&partial).unwrap();
    let mrz = parsed(&[&lines[0], &lines[1]]);
    assert!(mrz.all_check_digits_valid() && has(&mrz, FieldName::Birth, WarningKind::DateIncomplete));
    // Valid digits around an absurd order of dates.
    let absurd = Fields { expiry: DateParts { year: Some(1980), month: Some(1), day: Some(1) }, ..fields() };
    let absurd = Fields { birth: DateParts { year: Some(1999), month: Some(1), day: Some(1) }, ..absurd };
    let lines = generate(&absurd).unwrap();
    assert!(has(&parsed(&[&lines[0], &lines[1]]), FieldName::Expiry, WarningKind::DatesInWrongOrder));
    let unknown = parsed(&["P<QQQERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", TD3[1]]);
    assert!(has(&unknown, FieldName::IssuingState, WarningKind::StateUnknown));
    assert_eq!(unknown.issuing_state.raw, "QQQ");
}

#[test]
fn forms_outside_icao() {
    let mrz = parsed(&["IDFRABERTHIER<<<<<<<<<<<<<<<<<<<<<<<", "9409923102854CORINNE<<<<<<<6512068F4"]);
    assert_eq!(mrz.format, Format::FrenchIdentityCard);
    assert_eq!((number(&mrz), names(&mrz)), ("940992310285", ("BERTHIER", "CORINNE", false)));
    assert_eq!(day(&mrz.birth), "1965-12-06");
    assert_eq!(mrz.issue.as_ref().unwrap().value.map(|date| (date.year, date.month)), Some((Some(1994), Some(9))));
    assert!(mrz.all_check_digits_valid());
    // A TD2 card of France is not taken for one.
    let td2 =
        generate(&Fields { format: Format::Td2, document_code: "ID".into(), issuing_state: "FRA".into(), ..fields() });
    let td2 = td2.unwrap();
    assert_eq!(parsed(&[&td2[0], &td2[1]]).format, Format::Td2);

    let mrz = parsed(&["D1FRA13AA000026181231MARTIN<<9"]);
    assert_eq!((mrz.format, mrz.document_type), (Format::DrivingLicence, DocumentType::DrivingLicence));
    assert_eq!((number(&mrz), names(&mrz).0, day(&mrz.expiry).as_str()), ("13AA00002", "MARTIN", "2018-12-31"));
    assert!(mrz.all_check_digits_valid() && mrz.birth.is_none());
    let mrz = parsed(&["D1NLD15094962111659VW87Z78NB84"]);
    assert_eq!(number(&mrz), "5094962111");
    assert!(mrz.all_check_digits_valid());
    let mrz = parsed(&["AAA001D<<", "FACHE305142128097<<800126<<<<<", "MARCHAND<<FABIENNE<<<<<<<<<<<<"]);
    assert_eq!(mrz.format, Format::SwissDrivingLicence);
    assert_eq!((number(&mrz), names(&mrz).1, day(&mrz.birth).as_str()), ("AAA001D", "FABIENNE", "1980-01-26"));
    // It has no check digit, so none is reported valid.
    assert!(!mrz.all_check_digits_valid());
}

#[test]
fn what_is_no_mrz() {
    assert_eq!(parse(&[], today()), Err(ParseError::Empty));
    assert_eq!(parse(&["  ", "\n"], today()), Err(ParseError::Empty));
    assert_eq!(parse(&["HELLO"], today()), Err(ParseError::UnknownFormat { lines: 1, lengths: vec![5] }));
    assert_eq!(parse(&[&"<".repeat(5000)], today()), Err(ParseError::TooLong));
    assert_eq!(parse(&[&"X".repeat(30)], today()), Err(ParseError::UnknownDocumentCode));
    assert!(matches!(parse(&[TD3[0]], today()), Err(ParseError::UnknownFormat { .. })));
}

#[test]
fn typed_positions_are_repaired_and_listed() {
    let repaired =
        repaired(&["P<UT0ERIK55ON<<ANNA<MAR1A<<<<<<<<<<<<<<<<<<<", "L898902C36UTO74OB1Z2F12O4IS9ZE184226B<<<<<10"]);
    assert_eq!(repaired.mrz.lines, TD3);
    let listed: Vec<_> =
        repaired.repairs.iter().map(|repair| (repair.line, repair.position, repair.from, repair.to)).collect();
    assert_eq!(listed.len(), 10);
    assert_eq!(listed[0], (0, 4, Some('0'), Some('O')));
    assert!(repaired.repairs.iter().all(|repair| repair.proof == Proof::Alphabet));
    assert_eq!(repaired.mrz.birth.unwrap().certainty, Certainty::Proved);
    assert_eq!(repaired.mrz.names.unwrap().certainty, Certainty::Presumed);
    assert_eq!(repaired.mrz.document_number.unwrap().certainty, Certainty::AsRead);
}

#[test]
fn check_digits_prove_confusions_in_numbers() {
    let british = "P<GBRUNITED<KINGDOM<TWENTY<SIX<<JODIE<PIPPA<";
    let czech = "P<CZESPECIMEN<<VZOR<<<<<<<<<<<<<<<<<<<<<<<<<";
    for (lines, expected) in [
        ([british, "1O71828900GBR8501178F1601312<<<<<<<<<<<<<<06"], "107182890"),
        ([czech, "99OO3853<1CZE1101018M1207046110101111<<<<<94"], "99003853"),
    ] {
        let result = repaired(&lines);
        assert_eq!(number(&result.mrz), expected);
        assert!(result.mrz.all_check_digits_valid());
        assert_eq!(result.mrz.document_number.as_ref().unwrap().certainty, Certainty::Proved);
        assert!(result.repairs.iter().all(|repair| repair.proof == Proof::CheckDigit));
    }
    // Here another change of a common pair satisfies the check digits as well, so the text stays and both are listed.
    let result = repaired(&[british, "I071828900GBR8501178F1601312<<<<<<<<<<<<<<06"]);
    let field = result.mrz.document_number.as_ref().unwrap();
    assert_eq!((field.value.as_deref(), field.certainty), (Some("I07182890"), Certainty::Uncertain));
    assert!(field.alternatives.contains(&"1071828900".to_owned()) && field.alternatives.len() > 1);
}

#[test]
fn unproved_characters_stay_and_are_uncertain() {
    // A digit misread as another digit is in no list: nothing may be changed to please the check digit.
    let lines = ["P<GBRUNITED<KINGDOM<TWENTY<SIX<<JODIE<PIPPA<", "1071828300GBR8501178F1601312<<<<<<<<<<<<<<06"];
    let result = repaired(&lines);
    assert_eq!((result.mrz.lines.as_slice(), result.repairs.as_slice()), (&lines.map(str::to_owned)[..], &[][..]));
    assert_eq!(result.uncertain().collect::<Vec<_>>(), [FieldName::DocumentNumber]);
    assert!(!result.mrz.all_check_digits_valid());
    // The recogniser's second choice proves it.
    let mut read = [ReadLine::from_text(lines[0]), ReadLine::from_text(lines[1])];
    read[1].positions[7] = vec![Reading { symbol: '3', probability: 0.6 }, Reading { symbol: '9', probability: 0.3 }];
    let result = repair(&read, today()).unwrap();
    assert_eq!(number(&result.mrz), "107182890");
    assert!(result.mrz.all_check_digits_valid());
    // 6 and G have the same value modulo 10: no check digit can tell them apart.
    let mut read = TD3.map(ReadLine::from_text);
    read[1].positions[35] = vec![Reading { symbol: '6', probability: 0.5 }, Reading { symbol: 'G', probability: 0.4 }];
    let result = repair(&read, today()).unwrap();
    assert_eq!(result.mrz.lines, TD3);
    let field = result.mrz.optional_data.unwrap();
    assert_eq!((field.certainty, field.alternatives), (Certainty::Uncertain, vec!["ZE18422GB<<<<<".to_owned()]));
    // Nor 22 from ZZ at the beginning of a number: 7 and 3 times 33 make 330.
    let lines = ["I<POL22C3017302<<<<<<<<<<<<<<<", "7910018M2901215POL791001121790", "KOWALSKI<<JAN<<<<<<<<<<<<<<<<<"];
    let mut read = lines.map(ReadLine::from_text);
    for (position, doubt) in [(5, 0.07), (6, 0.05)] {
        read[0].positions[position] =
            vec![Reading { symbol: '2', probability: 0.93 }, Reading { symbol: 'Z', probability: doubt }];
    }
    let result = repair(&read, today()).unwrap();
    assert!(result.mrz.all_check_digits_valid());
    let field = result.mrz.document_number.unwrap();
    assert_eq!((field.certainty, field.alternatives), (Certainty::Uncertain, vec!["ZZC301730".to_owned()]));
}

#[test]
fn what_another_reading_has_differently_is_uncertain() {
    let other = "P<UTOERIKSSON<<ANNA<MARLA<<<<<<<<<<<<<<<<<<<";
    let mut result = repaired(&TD3);
    result.doubt(&repaired(&TD3).mrz);
    assert_eq!(result.uncertain().count(), 0, "the same reading is no doubt");
    result.doubt(&repaired(&[other, TD3[1]]).mrz);
    result.doubt(&repaired(&[other, TD3[1]]).mrz);
    assert_eq!(result.uncertain().collect::<Vec<_>>(), [FieldName::Names]);
    assert_eq!(result.mrz.names.as_ref().unwrap().alternatives, [&other[5..]], "told once");
    assert_eq!(result.mrz.lines, TD3);
    // A zone of another format is another zone.
    let mut result = repaired(&TD3);
    result.doubt(&repaired(&TD2).mrz);
    assert_eq!(result.uncertain().count(), 0);
}

#[test]
fn what_may_go_on_beyond_the_lines_is_uncertain_unless_a_check_digit_covers_it() {
    let doubtful = |lines: &[&str]| {
        let mut result = repaired(lines);
        result.doubt_ends();
        result.uncertain().collect::<Vec<_>>()
    };
    assert_eq!(doubtful(&TD3), [FieldName::Names]);
    // The composite of TD1 covers what ends its first line; nothing covers the optional data of a visa.
    assert_eq!(doubtful(&TD1), [FieldName::Names]);
    assert_eq!(doubtful(&MRV_A), [FieldName::Names, FieldName::OptionalData]);
}

#[test]
fn misread_fillers_behind_the_names() {
    for damaged in ["ERIKSSON<<ANNA<MARIA<<<<K<<<<<SS<<<<<<X", "ERIKSSON<<ANNA<MARIA<KKKKKKKKKKKKKKKKKK"] {
        let result = repaired(&[&format!("P<UTO{damaged}"), TD3[1]]);
        assert_eq!(result.mrz.lines, TD3, "{damaged}");
        assert!(result.repairs.iter().all(|repair| repair.proof == Proof::NameSyntax));
    }
    // An initial is not a misread filler, and a K that touches the name may belong to it.
    let initial = "P<UTOERIKSSON<<ANNA<K<<<<<<<<<<<<<<<<<<<<<<<";
    assert_eq!(repaired(&[initial, TD3[1]]).mrz.lines[0], initial);
    let result = repaired(&["P<UTOERIKSSON<<FRANKKKKKKKKKKKKKKKKKKKKKKKKK", TD3[1]]);
    assert_eq!(result.mrz.names.as_ref().unwrap().certainty, Certainty::Uncertain);
    assert!(result.repairs.is_empty());
}

#[test]
fn lost_and_doubled_fillers() {
    let short = [&TD3[0][..40], "L898902C36UTO7408122F1204159ZE184226B<<<10"];
    let result = repaired(&short);
    assert_eq!(result.mrz.lines, TD3);
    assert_eq!(result.repairs.len(), 6);
    assert!(result.repairs.iter().all(|repair| repair.proof == Proof::FillerRun && repair.to == Some('<')));
    let long = [&format!("{}<<", TD3[0]), "L898902C36UTO7408122F1204159ZE184226B<<<<<<10"];
    assert_eq!(repaired(&long).mrz.lines, TD3);
    // The end of the names was not seen: the other fields are read, and the names are uncertain.
    let result = repaired(&["P<UTOERIKSSON<<ANNA<MAR", TD3[1]]);
    assert_eq!((names(&result.mrz), number(&result.mrz)), (("ERIKSSON", "ANNA MAR", false), "L898902C3"));
    assert!(result.mrz.all_check_digits_valid());
    assert_eq!(result.uncertain().collect::<Vec<_>>(), [FieldName::Names]);
    // A whole run of fillers that was seen short is not.
    let result = repaired(&["P<UTOERIKSSON<<ANNA<MARIA<<", TD3[1]]);
    assert_eq!((result.mrz.lines.as_slice(), result.uncertain().count()), (&TD3.map(str::to_owned)[..], 0));
    // Where characters other than fillers are missing, nothing is made up.
    let lines = [ReadLine::from_text(TD3[0]), ReadLine::from_text("L898902C36UTO740812F1204159ZE184226B<<<<<10")];
    assert!(matches!(repair(&lines, today()), Err(ParseError::UnknownFormat { .. })));
}

#[test]
fn states_that_look_alike() {
    let result =
        repaired(&["P<DKCMUSTERMANN<<ERIKA<<<<<<<<<<<<<<<<<<<<<<", "C01X0006H1D<<6408125F1710319<<<<<<<<<<<<<<<0"]);
    assert_eq!(result.mrz.issuing_state.value.map(|state| state.code), Some("D"));
    assert_eq!(result.mrz.issuing_state.certainty, Certainty::Presumed);
}

/// Documents with all check digits valid, on which every single misread is tried.
fn specimens() -> Vec<Vec<String>> {
    let british = ["P<GBRUNITED<KINGDOM<TWENTY<SIX<<JODIE<PIPPA<", "1071828900GBR8501178F1601312<<<<<<<<<<<<<<06"];
    let french = ["P<FRAULYSSE<<CHRISTOPHE<<<<<<<<<<<<<<<<<<<<<", "08CD503380FRA6004103M1806058<<<<<<<<<<<<<<06"];
    let belgian =
        ["IDBEL600000257<6642<<<<<<<<<<<", "1301014F2311207BEL130101123594", "SPECIMEN<<SPECIMEN<<<<<<<<<<<<"];
    [&TD3[..], &TD2, &TD1, &MRV_A, &british, &french, &belgian]
        .iter()
        .map(|lines| lines.iter().map(|line| (*line).to_owned()).collect())
        .collect()
}

#[test]
fn what_the_search_changes_after_one_misread() {
    let (mut listed, mut right, mut listed_wrong) = (0, 0, 0);
    let (mut unlisted, mut unlisted_wrong) = (0, 0);
    for printed in specimens() {
        for (line, text) in printed.iter().enumerate() {
            for (position, symbol) in text.chars().enumerate() {
                for (count, misread) in ('A'..='Z').chain('0'..='9').enumerate() {
                    // Of the misreads that are in no list every twelfth will do.
                    let is_listed = STRONG_PAIRS.contains(&(symbol, misread));
                    if misread == symbol || !is_listed && (count + position) % 12 != 0 {
                        continue;
                    }
                    let mut damaged = printed.clone();
                    damaged[line] = replace(text, position, misread);
                    let read: Vec<_> = damaged.iter().map(|line| ReadLine::from_text(line)).collect();
                    let Ok(result) = repair(&read, today()) else { continue };
                    let is_wrong = result.repairs.iter().any(|change| {
                        matches!(change.proof, Proof::CheckDigit | Proof::TwoCheckDigits)
                            && printed[change.line].chars().nth(change.position) != change.to
                    });
                    if is_listed {
                        listed += 1;
                        right += usize::from(result.mrz.lines == printed);
                        listed_wrong += usize::from(is_wrong);
                    } else {
                        unlisted += 1;
                        unlisted_wrong += usize::from(is_wrong);
                    }
                }
            }
        }
    }
    // No listed misread is made worse, and of the others, which look like nothing in particular, hardly any.
    assert!(listed > 150 && unlisted > 1_200, "{listed} {unlisted}");
    assert_eq!(listed_wrong, 0);
    assert!(right * 100 >= listed * 70, "{right} of {listed} are right");
    println!("{right} of {listed} listed right, {unlisted_wrong} of {unlisted} others wrong");
    assert!(unlisted_wrong * 100 < unlisted, "{unlisted_wrong} of {unlisted} are wrong");
}

fn fields() -> Fields {
    Fields {
        format: Format::Td3,
        document_code: "P".into(),
        issuing_state: "UTO".into(),
        primary: "Eriksson".into(),
        secondary: "Anna Maria".into(),
        document_number: "L898902C3".into(),
        nationality: "UTO".into(),
        birth: Date::new(1974, 8, 12).unwrap().into(),
        sex: Sex::Female,
        expiry: Date::new(2012, 4, 15).unwrap().into(),
        optional_data: String::new(),
        optional_data_2: String::new(),
    }
}

#[test]
fn the_generator_makes_the_worked_examples() {
    let td3 = Fields { optional_data: "ZE184226B".into(), ..fields() };
    assert_eq!(generate(&td3).unwrap(), TD3);
    let card = Fields { document_code: "I".into(), document_number: "D23145890".into(), ..fields() };
    assert_eq!(generate(&Fields { format: Format::Td1, ..card.clone() }).unwrap(), TD1);
    assert_eq!(generate(&Fields { format: Format::Td2, ..card }).unwrap(), TD2);
    let visa = Fields {
        document_code: "V".into(),
        document_number: "L8988901C".into(),
        nationality: "XXX".into(),
        birth: Date::new(1940, 9, 7).unwrap().into(),
        expiry: Date::new(1996, 12, 10).unwrap().into(),
        ..fields()
    };
    let visa_a = Fields { format: Format::MrvA, optional_data: "6ZE184226B".into(), ..visa.clone() };
    assert_eq!(generate(&visa_a).unwrap(), MRV_A);
    assert_eq!(generate(&Fields { format: Format::MrvB, ..visa }).unwrap(), MRV_B);
}

#[test]
fn what_the_generator_refuses() {
    let refused = |fields: Fields| generate(&fields).unwrap_err();
    let number = FieldName::DocumentNumber;
    assert_eq!(refused(Fields { document_number: "1234567890".into(), ..fields() }), GenerateError::TooLong(number));
    assert_eq!(
        refused(Fields { document_number: "12-3".into(), ..fields() }),
        GenerateError::CharacterNotAllowed(number)
    );
    assert_eq!(refused(Fields { document_number: "".into(), ..fields() }), GenerateError::Empty(number));
    assert_eq!(refused(Fields { primary: "王".into(), ..fields() }), GenerateError::NoSpelling);
    assert_eq!(refused(Fields { format: Format::DrivingLicence, ..fields() }), GenerateError::FormatNotGenerated);
}

fn any_fields() -> impl Strategy<Value = Fields> {
    let format =
        prop_oneof![Just(Format::Td1), Just(Format::Td2), Just(Format::Td3), Just(Format::MrvA), Just(Format::MrvB)];
    let state = prop::sample::select(STATES).prop_map(|state| state.code.to_owned());
    let date = (1950_u16..2040, 1_u8..=12, 1_u8..=28).prop_map(|(year, month, day)| DateParts {
        year: Some(year),
        month: Some(month),
        day: Some(day),
    });
    let sex = prop_oneof![Just(Sex::Male), Just(Sex::Female), Just(Sex::Unspecified)];
    // Three equal letters at the end of the names may be misread fillers, and are rightly in doubt; no name has them.
    let name = "[A-Z]{2,9}( [A-Z]{1,8}){0,2}".prop_map(|name: String| {
        let letters: Vec<_> = name.chars().collect();
        let is_third = |at: usize| at >= 2 && letters[at - 2..at] == [letters[at]; 2];
        (0..letters.len()).filter(|at| !is_third(*at)).map(|at| letters[at]).collect::<String>()
    });
    (
        (format, state.clone(), state, name.clone(), prop_oneof![Just(String::new()), name]),
        ("[A-Z0-9]{1,9}", "[A-Z0-9]{0,7}", "[A-Z0-9]{0,11}", "[A-Z0-9]{1,3}"),
        (date.clone(), date, sex),
    )
        .prop_map(|((format, issuing_state, nationality, primary, secondary), texts, (birth, expiry, sex))| {
            let (mut document_number, optional_data, mut optional_data_2, more) = texts;
            let is_visa = matches!(format, Format::MrvA | Format::MrvB);
            let optional_data = if document_number.len() == 9 && matches!(format, Format::Td1 | Format::Td2) {
                document_number.push_str(&more);
                // A K alone among fillers would be suspect, rightly.
                optional_data.chars().take(2).collect::<String>().replace('K', "J")
            } else {
                optional_data
            };
            if format != Format::Td1 {
                optional_data_2.clear();
            }
            let code = match format {
                Format::Td3 => "P",
                _ if is_visa => "V",
                _ => "I",
            };
            Fields {
                format,
                document_code: code.into(),
                issuing_state,
                primary,
                secondary,
                document_number,
                nationality,
                birth,
                sex,
                expiry,
                optional_data,
                optional_data_2,
            }
        })
}

/// The letter or digit that a recogniser puts in the place of another, from the pairs it most often confuses.
const STRONG_PAIRS: [(char, char); 10] = [
    ('0', 'O'),
    ('O', '0'),
    ('1', 'I'),
    ('I', '1'),
    ('8', 'B'),
    ('B', '8'),
    ('5', 'S'),
    ('S', '5'),
    ('2', 'Z'),
    ('Z', '2'),
];

fn replace(line: &str, position: usize, to: char) -> String {
    line.chars().enumerate().map(|(at, symbol)| if at == position { to } else { symbol }).collect()
}

#[test]
fn a_composite_digit_that_fails_alone_puts_what_it_alone_covers_in_doubt() {
    // The 8 of the optional data, read as a B.
    let result = repaired(&["I<ABWAA<<<<<<<<<<<<<<<<<<<<<<<<<<<<<", "ADF01CL38<ABW5001013M500101303<B<<<4"]);
    assert!(!result.mrz.all_check_digits_valid());
    assert_eq!(result.uncertain().collect::<Vec<_>>(), [FieldName::OptionalData]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn generated_lines_parse_to_their_fields(fields in any_fields()) {
        let lines = generate(&fields).unwrap();
        let mrz = parsed(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(mrz.format, fields.format);
        prop_assert!(mrz.all_check_digits_valid());
        prop_assert_eq!(mrz.issuing_state.value.map(|state| state.code), Some(fields.issuing_state.as_str()));
        prop_assert_eq!(mrz.nationality.as_ref().unwrap().value.map(|state| state.code), Some(fields.nationality.as_str()));
        prop_assert_eq!(number(&mrz), fields.document_number.as_str());
        prop_assert_eq!(mrz.sex.as_ref().unwrap().value, Some(fields.sex));
        let optional = |field: &Option<Field<String>>| field.as_ref().and_then(|field| field.value.clone()).unwrap_or_default();
        prop_assert_eq!(optional(&mrz.optional_data), fields.optional_data);
        prop_assert_eq!(optional(&mrz.optional_data_2), fields.optional_data_2);
        for (read, written) in [(&mrz.birth, fields.birth), (&mrz.expiry, fields.expiry)] {
            let read = read.as_ref().unwrap().value.unwrap();
            prop_assert_eq!((read.month, read.day), (written.month, written.day));
            prop_assert_eq!(read.year.map(|year| year % 100), written.year.map(|year| year % 100));
        }
        let (primary, secondary, truncated) = names(&mrz);
        if truncated {
            prop_assert!(names_agree(&fields.secondary, secondary, true) || !fields.secondary.starts_with(secondary));
            prop_assert!(primary.starts_with(&fields.primary[..1]));
        } else {
            prop_assert_eq!((primary, secondary), (fields.primary.as_str(), fields.secondary.as_str()));
        }
    }

    #[test]
    fn repair_changes_nothing_in_valid_lines(fields in any_fields()) {
        let lines = generate(&fields).unwrap();
        let result = repaired(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(&result.mrz.lines, &lines);
        prop_assert!(result.repairs.is_empty());
        prop_assert_eq!(result.uncertain().count(), 0);
    }

    #[test]
    fn a_single_confusion_is_repaired_rightly_or_stays_visible(fields in any_fields(), line in 0_usize..3, at in 0_usize..44) {
        let lines = generate(&fields).unwrap();
        let line = line % lines.len();
        let position = at % lines[line].len();
        let symbol = lines[line].chars().nth(position).unwrap();
        if let Some((_, misread)) = STRONG_PAIRS.iter().find(|(printed, _)| *printed == symbol) {
            let mut damaged = lines.clone();
            damaged[line] = replace(&lines[line], position, *misread);
            let result = repaired(&damaged.iter().map(String::as_str).collect::<Vec<_>>());
            // Visas do not cover their optional data with any check digit, and no format covers its document code.
            let is_optional_of_visa = line == 1 && position >= 28 && matches!(fields.format, Format::MrvA | Format::MrvB);
            let is_covered = !is_optional_of_visa && (line, position) != (0, 1);
            if is_covered && result.mrz.all_check_digits_valid() {
                prop_assert_eq!(&result.mrz.lines, &lines);
            }
            if result.mrz.lines != lines && is_covered {
                prop_assert!(result.uncertain().count() > 0);
            }
        }
    }

    #[test]
    fn anything_is_read_without_a_panic(lines in prop::collection::vec("[ -~<<<<]{0,50}|[A-Z0-9<]{30}|[A-Z0-9<]{36}|[A-Z0-9<]{44}", 0..4)) {
        let text: Vec<_> = lines.iter().map(String::as_str).collect();
        let _ = parse(&text, today());
        let read: Vec<_> = text.iter().map(|line| ReadLine::from_text(line)).collect();
        if let Ok(result) = repair(&read, today()) {
            let again: Vec<_> = result.mrz.lines.iter().map(String::as_str).collect();
            let lengths: Vec<_> = again.iter().map(|line| line.len()).collect();
            prop_assert_eq!(lengths.as_slice(), result.mrz.format.line_lengths());
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse(&[&text], today());
        let _ = names_agree(&text, "ERIKSSON", true);
        prop_assert!(transliterations(&text).len() <= 256);
    }
}

#[test]
fn seconds_of_unix_time_become_days() {
    for (seconds, day) in [
        (0, "1970-01-01"),
        (86_399, "1970-01-01"),
        (951_782_400, "2000-02-29"),
        (951_868_800, "2000-03-01"),
        (1_795_392_000, "2026-11-23"),
        (4_107_542_400, "2100-03-01"),
        (253_402_300_799, "9999-12-31"),
        (u64::MAX, "9999-12-31"),
    ] {
        assert_eq!(Date::of_unix_time(seconds).to_string(), day, "{seconds}");
    }
}
