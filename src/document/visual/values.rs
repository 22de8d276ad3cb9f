//! What may stand beside a caption, and its notation: names, numbers, sex, nationality, height.
//!
//! Called by `visual` with text that a caption points at. A text that does not look like what the caption announces is no value: a missing
//! field costs less than a wrong one. Sources: ICAO Doc 9303 part 3 section 3 (the visual zone); the words for
//! nationalities are those that the States print. Left out: free text such as addresses, which is handed on as it is.

use super::super::agreement::{edit_distance, fold, state_code};
use super::super::mrz::{find_state, transliterate};

/// A name in the visual zone is at most a few lines of a card long.
const MAX_NAME_CHARS: usize = 80;

/// Words of captions that are hardly names: a line with one of them is a caption that was misread.
#[rustfmt::skip]
const CAPTION_WORDS: &[&str] = &[
    "NAME", "NAMES", "SURNAME", "GIVEN", "FORENAME", "FORENAMES", "PRENOM", "PRENOMS", "VORNAME", "VORNAMEN", "NOMBRE", "NOMBRES",
    "APELLIDO", "APELLIDOS", "NATIONALITY", "NATIONALITE", "NATIONALITAT", "NACIONALIDAD", "BIRTH", "NAISSANCE", "NACIMIENTO", "DATE",
    "PASSPORT", "PASSEPORT", "AUTHORITY", "AUTORITE", "SIGNATURE", "HOLDER", "HOLDERS", "EXPIRY", "ISSUE", "PERSONAL", "NUMBER",
    "REPUBLIC", "REPUBLIQUE", "MINISTRY",
];

/// The name of a person, from a line of text. Of two scripts with a slash between them the Latin one is taken.
pub(super) fn name(text: &str) -> Option<String> {
    let trimmed = text
        .trim()
        .trim_matches(|c: char| matches!(c, '*' | ':' | '.' | ',' | ';' | '-' | '_' | '|' | '·' | '='))
        .trim();
    if let Some((first, second)) = trimmed.split_once('/') {
        // Mixed case with a slash is how captions are printed.
        let is_upper = |part: &str| !part.chars().any(char::is_lowercase);
        let both = is_upper(first) && is_upper(second) && !second.contains('/');
        return if both { name(second).filter(|name| name.is_ascii()).or_else(|| name(first)) } else { None };
    }
    let letters = trimmed.chars().filter(|c| c.is_alphabetic()).count();
    let is_allowed =
        |c: char| c.is_alphabetic() || c == ' ' || matches!(c, '-' | '\'' | '’' | '.' | ',' | '\u{300}'..='\u{36f}');
    let is_name = letters >= 2
        && trimmed.chars().count() <= MAX_NAME_CHARS
        && trimmed.chars().all(is_allowed)
        && trimmed.chars().next().is_some_and(char::is_uppercase)
        && trimmed.split(' ').filter(|word| !word.is_empty()).count() <= 8;
    let is_caption = |word: &str| {
        let folded = fold(word);
        let near =
            |caption: &&str| *caption == folded || (caption.len() >= 6 && edit_distance(caption, &folded, 1).is_some());
        CAPTION_WORDS.iter().any(near)
    };
    if trimmed.split([' ', '.', ',', '-']).any(is_caption) {
        return None;
    }
    // Letters without a spelling in the MRZ cannot be compared with anything.
    (is_name && transliterate(&trimmed.replace('.', "")).is_some())
        .then(|| trimmed.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The number of a document: letters and digits without their separators.
pub(super) fn document_number(text: &str) -> Option<String> {
    // Four groups and more, or a slash, are several numbers or dates in one line.
    let groups: Vec<&str> = text.split([' ', '-', '.']).filter(|group| !group.is_empty()).collect();
    let is_several = groups.len() > 4 || (groups.len() == 4 && text.bytes().any(|byte| byte.is_ascii_alphabetic()));
    if text.contains('/') || is_several { None } else { personal_number(text) }
}

/// The number of a person, which may have a slash inside, as in Czech and Slovak ones.
pub(super) fn personal_number(text: &str) -> Option<String> {
    let trimmed = text.trim().trim_matches(|c: char| matches!(c, ':' | '.' | ',' | '*' | '#' | '=' | '-'));
    let is_allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, ' ' | '-' | '.' | '/' | '–');
    let stripped: String = trimmed.chars().filter(char::is_ascii_alphanumeric).collect();
    let digits = stripped.bytes().filter(u8::is_ascii_digit).count();
    // More than one group of letters is text with a number in it.
    let is_word = |group: &&str| group.len() > 2 && group.bytes().all(|byte| byte.is_ascii_alphabetic());
    let lettered = trimmed.split([' ', '-', '.', '/']).filter(is_word).count();
    let is_number =
        (5..=20).contains(&stripped.len()) && digits >= 2 && lettered <= 1 && trimmed.chars().all(is_allowed);
    is_number.then_some(stripped)
}

/// `M`, `F` or `X`. Letters that mean a man in one language and a woman in another (M and V in Spanish, F in Hungarian, M in Lithuanian)
/// are understood only beside a second language or where the State is known to be another; `issuer` is the State, `is_sexo` that the
/// caption is Spanish alone.
pub(super) fn sex(text: &str, issuer: Option<&str>, is_sexo: bool) -> Option<&'static str> {
    if text.chars().count() > 24 {
        return None;
    }
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(|word| match word {
            // Cyrillic letters of the two words, before they are transliterated.
            "Ж" | "ж" | "ЖІН" => "F".to_owned(),
            "Ч" | "ч" | "ЧОЛ" | "МУЖ" => "M".to_owned(),
            "Ž" | "ž" => "F".to_owned(),
            "Θ" | "Γ" => "F".to_owned(),
            _ => fold(word),
        })
        .collect();
    let international = |word: &str| match word {
        "M" | "MALE" | "MASCULIN" | "MANNLICH" | "MASCULINO" | "MASCHILE" | "MAN" => Some("M"),
        "F" | "FEMALE" | "FEMININ" | "WEIBLICH" | "FEMENINO" | "FEMININO" | "FEMMINILE" => Some("F"),
        "X" | "DIVERS" => Some("X"),
        _ => None,
    };
    match words.as_slice() {
        [only] => {
            let is_open = match (only.as_str(), issuer) {
                ("M", Some("ESP" | "MEX" | "LTU")) | ("F", Some("HUN")) => true,
                ("M", None) => is_sexo,
                _ => false,
            };
            if is_open {
                return None;
            }
            // Woman in Germanic, Slavic and Turkish words beginning with K; no man's word begins so.
            if only == "K" { Some("F") } else { international(only) }
        }
        [_, last] => international(last),
        [_, _, last] => international(last),
        _ => None,
    }
}

/// The State of a nationality: a code, its English name, its own name or the word for its people. `None` if two parts of the text
/// mean two States, or none is understood.
pub(super) fn nationality(text: &str) -> Option<&'static str> {
    if text.chars().count() > 90 {
        return None;
    }
    let whole = nationality_of(text);
    let mut parts = text.split(['/', '|', '·', '(', ')', ',', '*']).filter_map(nationality_of);
    match (whole, parts.next()) {
        (Some(code), _) => Some(code),
        (None, Some(first)) => parts.all(|other| other == first).then_some(first),
        (None, None) => None,
    }
}

fn nationality_of(text: &str) -> Option<&'static str> {
    let folded = fold(text);
    let is_code = matches!(folded.len(), 3) && text.trim().chars().all(|c| c.is_ascii_uppercase());
    if is_code && find_state(&folded).is_some() {
        return state_code(&folded);
    }
    if folded == "D" {
        return Some("DEU");
    }
    if folded.len() < 4 {
        return None;
    }
    let all = |is_it: &dyn Fn(&str) -> bool| -> Vec<&'static str> {
        NATIONALITIES.iter().filter(|(_, words)| words.split(' ').any(is_it)).map(|(code, _)| *code).collect()
    };
    let exact = || all(&|word| word == folded).first().copied();
    // One letter misread in a longer word, if that is near to one State alone (ISLANDAISE and IRLANDAISE are not).
    let near = || match all(&|word| folded.len() >= 8 && edit_distance(word, &folded, 1).is_some()).as_slice() {
        [only] => Some(*only),
        _ => None,
    };
    // "Republic of Moldova" and the like: the English short name behind it.
    let behind =
        || ["REPUBLICOF", "KINGDOMOF", "STATEOF"].iter().find_map(|prefix| state_code(folded.strip_prefix(prefix)?));
    exact().or_else(|| state_code(&folded)).or_else(behind).or_else(near)
}

/// An alpha-3 code as such.
pub(super) fn state(text: &str) -> Option<&'static str> {
    let trimmed = text.trim().trim_matches(|c: char| matches!(c, ':' | '.' | '(' | ')'));
    let is_code = trimmed == "D" || (trimmed.len() == 3 && trimmed.bytes().all(|byte| byte.is_ascii_uppercase()));
    if is_code { find_state(trimmed).and_then(|state| state_code(state.code)) } else { None }
}

/// Centimetres, from `175`, `175 cm`, `1.75 m` or `1,75`.
pub(super) fn height(text: &str) -> Option<String> {
    let lower = text.trim().trim_start_matches(':').trim().to_lowercase();
    let figures = lower.trim_end_matches("cm").trim_end_matches('m').trim();
    let centimetres: u32 = match figures.split_once(['.', ',']) {
        Some((metres, rest)) if metres.len() == 1 && rest.len() == 2 => {
            metres.parse::<u32>().ok()? * 100 + rest.parse::<u32>().ok()?
        }
        None if figures.len() <= 3 => figures.parse().ok()?,
        _ => return None,
    };
    // The smallest newborn child to the tallest person known.
    (30..=272).contains(&centimetres).then(|| format!("{centimetres}"))
}

/// Words for nationalities and States, without accents and spaces, Cyrillic and Greek in their shortest spelling.
#[rustfmt::skip]
const NATIONALITIES: &[(&str, &str)] = &[
    ("ALB", "ALBANIAN SHQIPTARE SHQIPTAR SHQIPERIA"), ("AND", "ANDORRAN ANDORRANA"), ("ARG", "ARGENTINE ARGENTINA ARGENTINIAN"),
    ("AUS", "AUSTRALIAN"), ("AUT", "AUSTRIAN OSTERREICH OSTERREICHER OSTERREICHERIN AUTRICHIENNE"),
    ("BEL", "BELGIAN BELG BELGE BELGIQUE BELGIE BELGIER BELGISCHE"), ("BGR", "BULGARIAN BULGARIA BALGARIA"),
    ("BIH", "BOSNIAHERZEGOVINA BOSNAIHERCEGOVINA"), ("BLR", "BELARUSIAN"), ("BRA", "BRAZILIAN BRASIL BRASILEIRA BRASILEIRO BRASILEIROA"),
    ("CAN", "CANADIAN CANADIENNE CANADIENNECANADIAN CANADIANCANADIENNE"), ("CHE", "SWISS SCHWEIZ SUISSE SVIZZERA SCHWEIZER SCHWEIZERIN"),
    ("CHL", "CHILEAN CHILENA CHILENO"), ("CHN", "CHINESE"), ("COL", "COLOMBIAN COLOMBIANA COLOMBIANO"), ("CYP", "CYPRIOT KYPRIAKI"),
    ("CZE", "CZECH CESKAREPUBLIKA CESKA CESKE REPUBLIQUETCHEQUE"), ("DEU", "GERMAN DEUTSCH ALLEMANDE DEUTSCHLAND DEUTSCHE DEUTSCHER"),
    ("DNK", "DANISH DANSK DANMARK DANOISE"), ("EGY", "EGYPTIAN EGYPTIENNE"), ("ESP", "SPANISH ESPANOLA ESPANOL ESPANA ESPAGNOLE"),
    ("EST", "ESTONIAN EESTI"), ("FIN", "FINNISH SUOMI FINLANDE SUOMIFINLAND SUOMIFINLANDFINLANDFINLANDE"),
    ("FRA", "FRENCH FRANCAISE FRANCAIS"), ("GBR", "BRITISHCITIZEN BRITISH BRITANNIQUE"), ("GEO", "GEORGIAN"),
    ("GRC", "GREEK ELLINIKI HELLENIC ELLADA ELLAS"), ("HRV", "CROATIAN HRVATSKO HRVATSKA CROATE HRVATSKI"),
    ("HUN", "HUNGARIAN MAGYAR MAGYARORSZAG HONGROISE"), ("IND", "INDIAN"), ("IRL", "IRISH EIREANNACH EIRE IRLANDAISE"),
    ("ISL", "ICELANDIC ISLENSKUR ISLENSK ISLANDAISE ISLENSKT ISLAND"), ("ISR", "ISRAELI"), ("ITA", "ITALIAN ITALIANA ITALIANO ITALIENNE ITALIA"),
    ("JPN", "JAPANESE"), ("KOR", "KOREAN REPUBLICOFKOREA"), ("LIE", "LIECHTENSTEINER LIECHTENSTEINERIN"),
    ("LTU", "LITHUANIAN LIETUVOS LIETUVOSRESPUBLIKOS LIETUVOSRESPUBLIKA LIETUVA LITUANIENNE"), ("LUX", "LUXEMBOURGEOISE LUXEMBOURGEOIS LETZEBUERG"),
    ("LVA", "LATVIAN LATVIJAS LATVIJA LETTONNE"), ("MAR", "MOROCCAN MAROCAINE"), ("MCO", "MONEGASQUE"), ("MDA", "MOLDOVAN REPUBLICOFMOLDOVA"),
    ("MEX", "MEXICAN MEXICANA MEXICANO"), ("MKD", "MACEDONIAN MAKEDONSKO"), ("MLT", "MALTESE MALTIJA"), ("MNE", "MONTENEGRIN CRNOGORSKO"),
    ("NLD", "DUTCH NEDERLANDSE NEDERLANDS NEDERLAND NEERLANDAISE"), ("NOR", "NORWEGIAN NORSK NORGE NORVEGIENNE"),
    ("NZL", "NEWZEALANDER"), ("PAK", "PAKISTANI"), ("PER", "PERUVIAN PERUANA PERUANO"), ("PHL", "FILIPINO"),
    ("POL", "POLISH POLSKIE POLSKA POLONAISE RZECZPOSPOLITAPOLSKA"), ("PRT", "PORTUGUESE PORTUGUESA PORTUGAISE"),
    ("ROU", "ROMANIAN ROMANA ROUMAINE"), ("RUS", "RUSSIAN RUSSIANFEDERATION ROSSIISKAAFEDERACIA"), ("SRB", "SERBIAN SRPSKO SRBIJA"),
    ("SVK", "SLOVAK SLOVENSKAREPUBLIKA SLOVENSKA SLOVAQUE"), ("SVN", "SLOVENIAN SLOVENSKO SLOVENIJA REPUBLIKASLOVENIJA SLOVENE"),
    ("SWE", "SWEDISH SVENSK SVERIGE SUEDOISE"), ("THA", "THAI"), ("TUN", "TUNISIAN TUNISIENNE"), ("TUR", "TURKISH TURK TURQUE TURKIYECUMHURIYETI TCTUR"),
    ("TWN", "REPUBLICOFCHINA"), ("UKR", "UKRAINIAN UKRAINA"), ("USA", "AMERICAN UNITEDSTATESOFAMERICA"), ("UTO", "UTOPIAN UTOPIA"),
    ("VNM", "VIETNAMESE"), ("ZAF", "SOUTHAFRICAN"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name("Willeke Liselotte").as_deref(), Some("Willeke Liselotte"));
        assert_eq!(name("*MARTIN*").as_deref(), Some("MARTIN"));
        assert_eq!(name("МАР'ЯНА/MARIANA").as_deref(), Some("MARIANA"));
        assert_eq!(name("EVARSDÓTTIR").as_deref(), Some("EVARSDÓTTIR"));
        for text in [
            "01 Pd/ Su",
            "Kenninafa/surnde",
            "2",
            "林美華",
            "12 AUG 74",
            "F",
            "",
            "surname",
            "Given namesiNombres. apeilioos",
        ] {
            assert_eq!(name(text), None, "{text}");
        }
    }

    #[test]
    fn numbers() {
        let number = document_number;
        assert_eq!(number("ZZC 301730").as_deref(), Some("ZZC301730"));
        assert_eq!(number("000-5906961-01").as_deref(), Some("000590696101"));
        assert_eq!(personal_number("110101/111").as_deref(), Some("110101111"));
        for text in [
            "ZENITH",
            "PASSPORT OFFICE",
            "FOOOOOOOO",
            "1234",
            "xXXX1234",
            "EMBASSY OF 12 STREET 34",
            "110101/111",
            "S00589 D 01 2025",
            "12",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn sexes() {
        for (text, expected) in [
            ("F", Some("F")),
            ("V/F", Some("F")),
            ("V/M", Some("M")),
            ("Ж/F", Some("F")),
            ("F/M", Some("M")),
            ("K", Some("F")),
            ("Ч", Some("M")),
            ("ITIW", None),
            ("V", None),
            ("male", Some("M")),
        ] {
            assert_eq!(sex(text, None, false), expected, "{text}");
        }
        assert_eq!(sex("M", Some("ESP"), true), None);
        assert_eq!(sex("M", None, true), None);
        assert_eq!(sex("F", Some("HUN"), false), None);
        assert_eq!(sex("F", Some("ESP"), true), Some("F"));
    }

    #[test]
    fn nationalities() {
        for (text, expected) in [
            ("UTOPIAN", Some("UTO")),
            ("ISLENSKUR/ICELANDIC/ISLANDAISE", Some("ISL")),
            ("ČESKÁ REPUBLIKA/CZECH REPUBLIC", Some("CZE")),
            ("BRITISH CITIZEN", Some("GBR")),
            ("REPUBLIC OFMOLDOVA", Some("MDA")),
            ("IND", Some("IND")),
            ("D", Some("DEU")),
            ("Luxembourgeoise", Some("LUX")),
            ("УКРАЇНА/UKRAINE", Some("UKR")),
            ("FRENCH/GERMAN", None),
            ("MARTIN", None),
            ("Specimen", None),
        ] {
            assert_eq!(nationality(text), expected, "{text}");
        }
    }

    #[test]
    fn heights() {
        for (text, expected) in [
            ("175", Some("175")),
            ("175cm", Some("175")),
            ("1,75 m", Some("175")),
            ("1.66M", Some("166")),
            ("999", None),
            ("1.755", None),
            ("tall", None),
        ] {
            assert_eq!(height(text).as_deref(), expected, "{text}");
        }
    }
}
