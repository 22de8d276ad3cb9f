//! Names between the visual zone and the MRZ: which spellings of a letter an MRZ may have, and whether two names agree.
//!
//! Called by `generate` for the spelling that is recommended, and by the cross-check of a document's zones for all that are
//! allowed. Sources: ICAO Doc 9303 part 3 section 6, table A (Latin) and B (Cyrillic), with the spellings of the national
//! notes; Greek, which has no table there, after ELOT 743, as Greek passports have it. Left out: Arabic and other scripts,
//! whose MRZ spelling is the issuer's own romanisation; such letters have no spelling here and agree with nothing.

/// At most this many spellings are listed for one name; a name with eight umlauts would have 6561.
const MAX_SPELLINGS: usize = 256;

/// Names longer than this are not compared; an MRZ holds 39 letters of a name.
const MAX_NAME_CHARS: usize = 256;

/// The spelling that ICAO recommends, with `<` between words: `Günther-Müller` becomes `GUENTHER<MUELLER`. `None` if a letter
/// has no known spelling.
pub fn transliterate(name: &str) -> Option<String> {
    let mut spelled = String::new();
    for options in letters(name) {
        let first = options.first()?;
        if *first != "<" || !(spelled.is_empty() || spelled.ends_with('<')) {
            spelled.push_str(first);
        }
    }
    Some(spelled.trim_end_matches('<').to_owned())
}

/// All spellings that an MRZ may have for a name, the recommended one first, at most 256. Empty if a letter has none.
pub fn transliterations(name: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for options in letters(name) {
        let mut next: Vec<String> = Vec::new();
        for spelled in &all {
            for option in options {
                let is_doubled = *option == "<" && (spelled.is_empty() || spelled.ends_with('<'));
                let spelling = if is_doubled { spelled.clone() } else { format!("{spelled}{option}") };
                if next.len() < MAX_SPELLINGS && !next.contains(&spelling) {
                    next.push(spelling);
                }
            }
        }
        all = next;
    }
    for spelling in &mut all {
        spelling.truncate(spelling.trim_end_matches('<').len());
    }
    all
}

/// True if `mrz` can be the MRZ's spelling of the name `visual`. Case, double spaces and the kind of separator do not matter;
/// with `truncated` the MRZ may end before the name does, also inside a word. A name that is empty on either side agrees with
/// nothing but an empty one.
pub fn names_agree(visual: &str, mrz: &str, truncated: bool) -> bool {
    if visual.len() > MAX_NAME_CHARS * 4 || mrz.len() > MAX_NAME_CHARS {
        return false;
    }
    // The MRZ side in its own alphabet, one filler between words.
    let mut wanted: Vec<u8> = Vec::new();
    for symbol in mrz.trim().chars() {
        match u8::try_from(symbol.to_ascii_uppercase()) {
            Ok(b' ' | b'<') if wanted.last() == Some(&b'<') => {}
            Ok(b' ' | b'<') => wanted.push(b'<'),
            Ok(byte) => wanted.push(byte),
            Err(_) => return false,
        }
    }
    while wanted.last() == Some(&b'<') {
        wanted.pop();
    }
    // Positions of the MRZ side that some spelling of the letters so far reaches; the flag tells that a separator, which may
    // come in several characters, was just taken.
    let mut reached = vec![false; wanted.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    let mut was_any = false;
    for options in letters(visual.trim()) {
        was_any = true;
        let mut next = vec![false; wanted.len() + 1];
        for (at, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
            // A truncated MRZ that has been used up agrees with whatever follows.
            if truncated && at == wanted.len() && at > 0 {
                return true;
            }
            for option in options {
                let rest = wanted.get(at..).unwrap_or_default();
                let is_doubled = *option == "<" && (at == 0 || wanted.get(at - 1) == Some(&b'<'));
                let end = if is_doubled {
                    at
                } else if rest.starts_with(option.as_bytes()) {
                    at + option.len()
                } else if truncated && !rest.is_empty() && option.as_bytes().starts_with(rest) {
                    wanted.len()
                } else {
                    continue;
                };
                if let Some(reached) = next.get_mut(end) {
                    *reached = true;
                }
            }
        }
        reached = next;
    }
    if !was_any || wanted.is_empty() {
        return !was_any && wanted.is_empty();
    }
    reached.last() == Some(&true)
}

/// The spellings of each letter (or pair of letters) of a name, in order. A letter without any yields an empty list.
fn letters(name: &str) -> impl Iterator<Item = &'static [&'static str]> {
    let mut characters = name.chars().flat_map(char::to_uppercase).peekable();
    std::iter::from_fn(move || {
        let mut character = characters.next()?;
        // Decomposed accents (NFD): the mark belongs to the letter before it.
        while let Some(mark) = characters.next_if(|next| ('\u{300}'..='\u{36f}').contains(next)) {
            character = compose(character, mark);
        }
        let pair = characters.peek().and_then(|next| greek_pair(character, *next));
        if pair.is_some() {
            characters.next();
        }
        Some(pair.unwrap_or_else(|| spellings(character)))
    })
}

/// A letter with a mark, where the two are spelled differently from the letter alone.
fn compose(letter: char, mark: char) -> char {
    match (letter, mark) {
        ('A', '\u{308}') => 'Ä',
        ('O', '\u{308}') => 'Ö',
        ('U', '\u{308}') => 'Ü',
        ('A', '\u{30a}') => 'Å',
        ('N', '\u{303}') => 'Ñ',
        ('И', '\u{306}') => 'Й',
        ('Е', '\u{308}') => 'Ё',
        ('І', '\u{308}') => 'Ї',
        ('У', '\u{306}') => 'Ў',
        _ => letter,
    }
}

/// Pairs of Greek letters that are spelled together (ELOT 743).
fn greek_pair(first: char, second: char) -> Option<&'static [&'static str]> {
    Some(match (first, second) {
        ('Ο', 'Υ' | 'Ύ') | ('Ό', 'Υ') => &["OU"],
        ('Α', 'Υ' | 'Ύ') | ('Ά', 'Υ') => &["AV", "AF"],
        ('Ε', 'Υ' | 'Ύ') | ('Έ', 'Υ') => &["EV", "EF"],
        ('Η', 'Υ' | 'Ύ') | ('Ή', 'Υ') => &["IV", "IF"],
        ('Μ', 'Π') => &["MP", "B"],
        ('Γ', 'Γ') => &["NG"],
        ('Γ', 'Ξ') => &["NX"],
        ('Γ', 'Χ') => &["NCH"],
        _ => return None,
    })
}

/// The spellings of one upper-case character, the recommended one first; empty if there is none. Separators are `<`.
fn spellings(character: char) -> &'static [&'static str] {
    match character {
        'A' => &["A"],
        'B' => &["B"],
        'C' => &["C"],
        'D' => &["D"],
        'E' => &["E"],
        'F' => &["F"],
        'G' => &["G"],
        'H' => &["H"],
        'I' => &["I"],
        'J' => &["J"],
        'K' => &["K"],
        'L' => &["L"],
        'M' => &["M"],
        'N' => &["N"],
        'O' => &["O"],
        'P' => &["P"],
        'Q' => &["Q"],
        'R' => &["R"],
        'S' => &["S"],
        'T' => &["T"],
        'U' => &["U"],
        'V' => &["V"],
        'W' => &["W"],
        'X' => &["X"],
        'Y' => &["Y"],
        'Z' => &["Z"],
        // Separators. Hyphens become fillers, apostrophes and full stops go (part 3, sections 4.6.1 and 4.6.2); issuers do
        // otherwise often enough.
        ' ' | '<' | '\u{a0}' | ',' | '/' => &["<"],
        '-' | '‐' | '‑' | '–' => &["<", ""],
        '\'' | '’' | '‘' | '`' | '´' | 'ʼ' | 'ʻ' | '.' => &["", "<"],
        // Table A, Latin.
        'Ä' => &["AE", "A", "AXX"],
        'Å' => &["AA", "A"],
        'Æ' | 'Ǽ' => &["AE"],
        'Ö' => &["OE", "O", "OXX"],
        'Ø' | 'Ǿ' => &["OE", "O"],
        'Ü' => &["UE", "U", "UXX"],
        'Ñ' => &["N", "NXX"],
        'Œ' => &["OE"],
        'ẞ' | 'ß' => &["SS"],
        'Þ' => &["TH"],
        'Ð' | 'Đ' => &["D", "DJ", "DH"],
        'Ĳ' => &["IJ"],
        'ĸ' => &["Q", "K"],
        'À'..='Ã' | 'Ā' | 'Ă' | 'Ą' | 'Ǎ' | 'Ạ'..='ặ' => &["A"],
        'Ç' | 'Ć' | 'Ĉ' | 'Ċ' | 'Č' => &["C"],
        'Ď' => &["D"],
        'È'..='Ë' | 'Ē' | 'Ĕ' | 'Ė' | 'Ę' | 'Ě' | 'Ẹ'..='ệ' => &["E"],
        'Ĝ' | 'Ğ' | 'Ġ' | 'Ģ' => &["G"],
        'Ĥ' | 'Ħ' => &["H"],
        'Ì'..='Ï' | 'Ĩ' | 'Ī' | 'Ĭ' | 'Į' | 'İ' | 'Ǐ' | 'Ỉ'..='ị' => &["I"],
        'Ĵ' => &["J"],
        'Ķ' => &["K"],
        'Ĺ' | 'Ļ' | 'Ľ' | 'Ŀ' | 'Ł' => &["L"],
        'Ń' | 'Ņ' | 'Ň' | 'Ŋ' => &["N"],
        'Ò'..='Õ' | 'Ō' | 'Ŏ' | 'Ő' | 'Ơ' | 'Ǒ' | 'Ọ'..='ợ' => &["O"],
        'Ŕ' | 'Ŗ' | 'Ř' => &["R"],
        'Ś' | 'Ŝ' | 'Ş' | 'Š' | 'Ș' => &["S"],
        'Ţ' | 'Ť' | 'Ŧ' | 'Ț' => &["T"],
        'Ù'..='Û' | 'Ũ' | 'Ū' | 'Ŭ' | 'Ů' | 'Ű' | 'Ų' | 'Ư' | 'Ǔ' | 'Ụ'..='ự' => &["U"],
        'Ŵ' | 'Ẁ' | 'Ẃ' | 'Ẅ' => &["W"],
        'Ý' | 'Ŷ' | 'Ÿ' | 'Ỳ'..='ỹ' => &["Y"],
        'Ź' | 'Ż' | 'Ž' => &["Z"],
        'Ə' => &["E", "A"],
        // Table B, Cyrillic; what follows the first spelling are the national notes.
        'А' => &["A"],
        'Б' => &["B"],
        'В' => &["V"],
        'Г' => &["G", "H"],
        'Ґ' => &["G"],
        'Д' => &["D"],
        'Е' => &["E", "IE", "YE", "JE"],
        'Ё' => &["E", "IO", "YO"],
        'Ж' => &["ZH", "Z"],
        'З' => &["Z"],
        'И' => &["I", "Y"],
        'Й' => &["I", "Y", "J"],
        'К' => &["K"],
        'Л' => &["L"],
        'М' => &["M"],
        'Н' => &["N"],
        'О' => &["O"],
        'П' => &["P"],
        'Р' => &["R"],
        'С' => &["S"],
        'Т' => &["T"],
        'У' => &["U"],
        'Ф' => &["F"],
        'Х' => &["KH", "H"],
        'Ц' => &["TS", "C"],
        'Ч' => &["CH", "C"],
        'Ш' => &["SH", "S"],
        'Щ' => &["SHCH", "SHT"],
        'Ъ' => &["IE", "A", ""],
        'Ы' => &["Y"],
        'Ь' => &["", "Y"],
        'Э' => &["E"],
        'Ю' => &["IU", "YU", "JU"],
        'Я' => &["IA", "YA", "JA"],
        'Ђ' => &["D", "DJ"],
        'Ѓ' => &["G", "GJ"],
        'Є' => &["IE", "YE"],
        'Ѕ' => &["DZ"],
        'І' => &["I"],
        'Ї' => &["I", "YI"],
        'Ј' => &["J"],
        'Љ' => &["LJ"],
        'Њ' => &["NJ"],
        'Ћ' => &["C"],
        'Ќ' => &["K", "KJ"],
        'Ў' => &["U"],
        'Џ' => &["DZ", "DJ"],
        // Greek, ELOT 743.
        'Α' | 'Ά' => &["A"],
        'Β' => &["V"],
        'Γ' => &["G"],
        'Δ' => &["D"],
        'Ε' | 'Έ' => &["E"],
        'Ζ' => &["Z"],
        'Η' | 'Ή' | 'Ι' | 'Ί' | 'Ϊ' => &["I"],
        'Θ' => &["TH"],
        'Κ' => &["K"],
        'Λ' => &["L"],
        'Μ' => &["M"],
        'Ν' => &["N"],
        'Ξ' => &["X"],
        'Ο' | 'Ό' | 'Ω' | 'Ώ' => &["O"],
        'Π' => &["P"],
        'Ρ' => &["R"],
        'Σ' => &["S"],
        'Τ' => &["T"],
        'Υ' | 'Ύ' | 'Ϋ' => &["Y"],
        'Φ' => &["F"],
        'Χ' => &["CH"],
        'Ψ' => &["PS"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recommended_spellings() {
        let cases = [
            ("Günther-Müller", "GUENTHER<MUELLER"),
            ("Þórunn Æsa Øst Åse", "THORUNN<AESA<OEST<AASE"),
            ("O'Connor St. James", "OCONNOR<ST<JAMES"),
            ("Straße", "STRASSE"),
            ("Peña  Núñez", "PENA<NUNEZ"),
            ("Щербаков Юрий", "SHCHERBAKOV<IURII"),
            ("Παπαδόπουλος Ευγένιος", "PAPADOPOULOS<EVGENIOS"),
            ("Nguyễn Văn Đức", "NGUYEN<VAN<DUC"),
            ("Mu\u{308}ller", "MUELLER"),
        ];
        for (name, expected) in cases {
            assert_eq!(transliterate(name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(transliterate("王"), None);
        assert_eq!(transliterate("").as_deref(), Some(""));
    }

    #[test]
    fn all_spellings() {
        assert_eq!(transliterations("Ñu"), ["NU", "NXXU"]);
        assert_eq!(transliterations("Ärö").len(), 9);
        assert!(transliterations("王").is_empty());
        let all = transliterations(&"Ä".repeat(40));
        assert_eq!(all.len(), MAX_SPELLINGS);
        assert!(transliterations("Müller").contains(&transliterate("Müller").unwrap()));
    }

    #[test]
    fn names_that_agree() {
        let cases = [
            ("Müller", "MUELLER", false),
            ("Müller", "MULLER", false),
            ("Müller", "MUXXLLER", false),
            ("MULLER", "MULLER", false),
            ("Muñoz", "MUNXXOZ", false),
            ("Anne-Marie", "ANNE MARIE", false),
            ("Anne-Marie", "ANNEMARIE", false),
            ("Anne  - Marie", "ANNE<MARIE", false),
            ("O’Connor", "O CONNOR", false),
            ("Ткаченко", "TKACHENKO", false),
            ("Мар’яна", "MARIANA", false),
            ("Μπάμπης Παππούς", "BAMPIS PAPPOUS", false),
            ("Hélène Laurence", "HELENE LAUR", true),
            ("Christelle Hélène", "CHRISTELLE", true),
            // The cut may fall into the spelling of one letter.
            ("Jörg", "JO", true),
            ("Wäß", "WAES", true),
            ("", "", false),
        ];
        for (visual, mrz, truncated) in cases {
            assert!(names_agree(visual, mrz, truncated), "{visual} {mrz}");
        }
    }

    #[test]
    fn names_that_do_not() {
        let cases = [
            ("Müller", "MILLER", false),
            ("Hélène Laurence", "HELENE LAUR", false),
            ("Helene", "HELENE LAUR", true),
            ("Anna", "", true),
            ("", "ANNA", true),
            ("王", "WANG", false),
            ("Anna Maria", "ANNAMARIA", false),
        ];
        for (visual, mrz, truncated) in cases {
            assert!(!names_agree(visual, mrz, truncated), "{visual} {mrz}");
        }
    }
}
