//! Splits the text of an AAMVA barcode into header and data elements.
//!
//! Called by `aamva::parse`, which gives the elements their meaning. Subfile offsets and lengths are read and reported but never
//! followed: in the field they are wrong more often than the text is, and every element names itself. Damage by keyboard-wedge
//! scanners is undone here: control characters that were dropped, doubled, turned into spaces, into the letter typed with the
//! Ctrl key (`M` for CR, `6` for RS), into U+FFFD, or written out (`<LF>`, `\n`, `%0A`). Source: AAMVA DL/ID Card Design Standard
//! (2020), Annex D.12.3 (header), D.12.4 (subfile designator), D.12.5 (elements), and the 2000 edition for the shorter header.

use super::jurisdiction;

/// Longest text looked at, in bytes. One PDF417 symbol holds at most 1850 characters (ISO/IEC 15438), so this leaves room for
/// written-out control characters; a longer text is refused because the search for lost separators is quadratic in its length.
pub(super) const MAX_TEXT_BYTES: usize = 8192;

/// Most subfiles read from a header. The standard has two digits for the number; real cards have one or two.
const MAX_SUBFILES: usize = 10;

/// How far into the text the file type may start: compliance indicator, separators and what a scanner put before them.
const MAX_HEADER_START: usize = 64;

/// With fewer self-delimited elements than this the separators count as lost. The shortest real card has more than twice as many.
const MIN_DELIMITED: usize = 5;

/// Most places considered as the start of an element when separators are lost. A real card has about 40 elements.
const MAX_CANDIDATES: usize = 600;

/// What a scanner may have written instead of a separator, when it writes control characters out.
const WRITTEN_OUT: [&str; 14] =
    ["<LF>", "<CR>", "<RS>", "<0A>", "<0D>", "<1E>", "\\n", "\\r", "\\x0a", "\\x0d", "\\x1e", "\\u001e", "%0A", "%0D"];

/// A place in a subfile: three characters that name an element, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// `DL`, `ID`, `EN` or the jurisdiction's own, `Z` and a letter.
    pub subfile: String,
    /// Three characters, such as `DAQ`.
    pub id: String,
    /// The text behind the id, without the separator; spaces at its end are removed.
    pub raw: String,
}

/// One entry of the header's table of subfiles, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subfile {
    pub kind: String,
    /// Byte offset from the start of the text.
    pub offset: u32,
    /// Bytes from `offset` to the end of the subfile.
    pub length: u32,
}

/// The header as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Issuer identification number.
    pub iin: u32,
    /// 1 to 10 for the editions 2000, 2003, 2005, 2009, 2010, 2011, 2012, 2013, 2016, 2020; 0 for a card of the jurisdiction's own.
    pub version: u8,
    /// Missing in the first edition.
    pub jurisdiction_version: Option<u8>,
    pub subfiles: Vec<Subfile>,
}

/// What [`split`] found.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub header: Header,
    pub elements: Vec<Element>,
    /// The text does not start with the compliance indicator and the file type as the standard writes them.
    pub header_damaged: bool,
    /// Element boundaries were guessed from the known element names.
    pub separators_lost: bool,
    /// A subfile is not where the header says.
    pub offsets_wrong: bool,
    /// Text that belongs to no element was left out.
    pub stray_text: bool,
}

/// What an element holds, as far as it helps to find where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name,
    Number,
    Date,
    Sex,
    Flag,
    Truncation,
    Country,
    State,
    Postal,
    Measure,
    Colour,
    Text,
}

/// Element names with their kind and longest length: Tables D.3 and D.4 of the 2020 edition and the table of the 2000 edition.
#[rustfmt::skip]
const KNOWN: [(&str, Kind, usize); 91] = [
    ("DAA", Kind::Name, 80), ("DAB", Kind::Name, 40), ("DAC", Kind::Name, 40), ("DAD", Kind::Name, 40), ("DAE", Kind::Name, 5),
    ("DAF", Kind::Name, 5), ("DAG", Kind::Text, 35), ("DAH", Kind::Text, 35), ("DAI", Kind::Name, 20), ("DAJ", Kind::State, 2),
    ("DAK", Kind::Postal, 11), ("DAL", Kind::Text, 35), ("DAM", Kind::Text, 35), ("DAN", Kind::Name, 20), ("DAO", Kind::State, 2),
    ("DAP", Kind::Postal, 11), ("DAQ", Kind::Number, 25), ("DAR", Kind::Text, 6), ("DAS", Kind::Text, 20), ("DAT", Kind::Text, 6),
    ("DAU", Kind::Measure, 8), ("DAV", Kind::Measure, 6), ("DAW", Kind::Measure, 6), ("DAX", Kind::Measure, 6),
    ("DAY", Kind::Colour, 12), ("DAZ", Kind::Colour, 12),
    ("DBA", Kind::Date, 10), ("DBB", Kind::Date, 10), ("DBC", Kind::Sex, 1), ("DBD", Kind::Date, 10), ("DBE", Kind::Text, 30),
    ("DBF", Kind::Text, 2), ("DBG", Kind::Name, 40), ("DBH", Kind::Text, 10), ("DBI", Kind::Text, 1), ("DBJ", Kind::Number, 25),
    ("DBK", Kind::Number, 11), ("DBL", Kind::Date, 10), ("DBM", Kind::Number, 11), ("DBN", Kind::Name, 40), ("DBO", Kind::Name, 40),
    ("DBP", Kind::Name, 40), ("DBQ", Kind::Name, 40), ("DBR", Kind::Name, 5), ("DBS", Kind::Name, 5),
    ("DCA", Kind::Text, 6), ("DCB", Kind::Text, 12), ("DCD", Kind::Text, 6), ("DCE", Kind::Flag, 1), ("DCF", Kind::Number, 25),
    ("DCG", Kind::Country, 3), ("DCH", Kind::Text, 4), ("DCI", Kind::Text, 33), ("DCJ", Kind::Text, 25), ("DCK", Kind::Number, 25),
    ("DCL", Kind::Text, 3), ("DCM", Kind::Text, 4), ("DCN", Kind::Text, 5), ("DCO", Kind::Text, 12), ("DCP", Kind::Text, 50),
    ("DCQ", Kind::Text, 50), ("DCR", Kind::Text, 50), ("DCS", Kind::Name, 40), ("DCT", Kind::Name, 80), ("DCU", Kind::Name, 5),
    ("DDA", Kind::Flag, 1), ("DDB", Kind::Date, 10), ("DDC", Kind::Date, 10), ("DDD", Kind::Flag, 1), ("DDE", Kind::Truncation, 1),
    ("DDF", Kind::Truncation, 1), ("DDG", Kind::Truncation, 1), ("DDH", Kind::Date, 10), ("DDI", Kind::Date, 10),
    ("DDJ", Kind::Date, 10), ("DDK", Kind::Flag, 1), ("DDL", Kind::Flag, 1),
    ("PAA", Kind::Text, 6), ("PAB", Kind::Date, 10), ("PAC", Kind::Number, 25), ("PAD", Kind::Date, 10), ("PAE", Kind::Text, 20),
    ("PAF", Kind::Text, 6),
    // Elements that some issuers write although no edition lists them.
    ("DBT", Kind::Text, 12), ("DBU", Kind::Text, 12), ("DBV", Kind::Text, 12), ("DBW", Kind::Text, 12), ("DBX", Kind::Text, 12),
    ("DBY", Kind::Text, 12), ("DBZ", Kind::Text, 12), ("DCC", Kind::Text, 25),
];

fn known(id: &str) -> Option<(usize, Kind, usize)> {
    KNOWN.iter().position(|(name, ..)| *name == id).map(|at| (at, KNOWN[at].1, KNOWN[at].2))
}

/// True for the elements of the standard.
pub(super) fn is_known(id: &str) -> bool {
    known(id).is_some()
}

/// Splits a text into header and elements. `None` if there is no AAMVA header.
pub(super) fn split(bytes: &[u8]) -> Option<Parts> {
    let (text, case_turned) = decode(bytes);
    let (mut parts, body) = read_header(&text)?;
    parts.header_damaged |= case_turned;
    parts.offsets_wrong = parts.header.subfiles.iter().any(|subfile| {
        let start = subfile.offset as usize;
        bytes.get(start..start.saturating_add(2)) != Some(subfile.kind.as_bytes())
    });
    let separated = |text: &str, is_separator: fn(char) -> bool| -> (Vec<Element>, bool) {
        delimited(text.split(is_separator), &parts.header.subfiles)
    };
    let control = |c: char| c.is_control();
    let mut tried = separated(&body.replace('\u{FFFD}', ""), control);
    if tried.0.len() < MIN_DELIMITED {
        tried = separated(body, |c| c.is_control() || c == '\u{FFFD}');
    }
    if tried.0.len() < MIN_DELIMITED {
        let written = WRITTEN_OUT.iter().fold(body.to_owned(), |text, sign| text.replace(sign, "\n"));
        tried = separated(&written, control);
    }
    if tried.0.len() < MIN_DELIMITED {
        let guessed =
            undelimited(&body.replace(|c: char| c.is_control() || c == '\u{FFFD}', " "), &parts.header.subfiles);
        if guessed.len() > tried.0.len() {
            parts.separators_lost = true;
            tried = (guessed, false);
        }
    }
    (parts.elements, parts.stray_text) = tried;
    Some(parts)
}

/// The bytes as text: UTF-8 if they are that, else Latin-1, which the standard allows. A text all in small letters comes from a
/// scanner with the caps lock on and is turned back; the second value says so.
fn decode(bytes: &[u8]) -> (String, bool) {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.trim_start_matches('\u{FEFF}').to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    let has = |test: fn(char) -> bool| text.chars().any(test);
    let small = has(|c| c.is_ascii_lowercase()) && !has(|c| c.is_ascii_uppercase());
    (if small { text.to_ascii_uppercase() } else { text }, small)
}

/// Reads the header and returns what follows it.
fn read_header(text: &str) -> Option<(Parts, &str)> {
    let (start, mut rest) = ["ANSI", "AAMVA"]
        .iter()
        .filter_map(|token| text.find(token).map(|at| (at, &text[at + token.len()..])))
        .filter(|(at, rest)| *at <= MAX_HEADER_START && digits_ahead(rest))
        .min_by_key(|(at, _)| *at)
        .or_else(|| bare_issuer(text))?;
    let mut parts = Parts { header_damaged: !text.starts_with("@\n\x1e\r") || start != 4, ..Parts::default() };
    rest = skip_gaps(rest);
    let count = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, mut rest) = rest.split_at(count);
    parts.header.iin = digits.get(..6)?.parse().ok()?;
    parts.header.version = digits.get(6..8).unwrap_or_default().parse().unwrap_or(0);
    // The first edition has no jurisdiction version, so its digits are two fewer.
    match count {
        10 => {}
        12 => parts.header.jurisdiction_version = digits.get(8..10).and_then(|pair| pair.parse().ok()),
        _ => parts.header_damaged = true,
    }
    while parts.header.subfiles.len() < MAX_SUBFILES {
        let Some((subfile, after)) = read_designator(skip_gaps(rest)) else { break };
        parts.header.subfiles.push(subfile);
        rest = after;
    }
    Some((parts, rest))
}

/// True if, apart from gaps, a number of at least eight digits follows.
fn digits_ahead(text: &str) -> bool {
    skip_gaps(text).bytes().take_while(u8::is_ascii_digit).count() >= 8
}

/// A header whose file type was lost: a known issuer's number followed by versions and a subfile.
fn bare_issuer(text: &str) -> Option<(usize, &str)> {
    let start = text.char_indices().take(MAX_HEADER_START).find_map(|(at, c)| c.is_ascii_digit().then_some(at))?;
    // A scanner that types `6` for RS puts one digit in front of the number.
    [start, start + 1].into_iter().find_map(|at| {
        let rest = text.get(at..)?;
        let count = rest.bytes().take_while(u8::is_ascii_digit).count();
        let iin = rest.get(..6)?.parse().ok()?;
        let follows = rest.get(count..count + 2).is_some_and(is_subfile_kind);
        (matches!(count, 10 | 12) && follows && jurisdiction::by_iin(iin).is_some()).then_some((at, rest))
    })
}

fn skip_gaps(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_control() || c == ' ' || c == '\u{FFFD}')
}

/// Two letters and up to eight digits. Fewer than four digits are an element's value, not a designator.
fn read_designator(text: &str) -> Option<(Subfile, &str)> {
    let kind = text.get(..2)?;
    let rest = &text[2..];
    let count = rest.bytes().take(8).take_while(u8::is_ascii_digit).count();
    if !is_subfile_kind(kind) || count < 4 {
        return None;
    }
    let (digits, after) = rest.split_at(count);
    let number = |part: Option<&str>| part.and_then(|part| part.parse().ok()).unwrap_or(0);
    Some((Subfile { kind: kind.to_owned(), offset: number(digits.get(..4)), length: number(digits.get(4..)) }, after))
}

fn is_subfile_kind(kind: &str) -> bool {
    matches!(kind, "DL" | "ID" | "EN") || matches!(kind.as_bytes(), [b'Z', b'A'..=b'Z'])
}

fn is_element_id(id: &str) -> bool {
    matches!(id.as_bytes(), [b'D', b'A'..=b'D', b'A'..=b'Z'] | [b'P', b'A', b'A'..=b'F'])
        || matches!(id.as_bytes(), [b'Z', b'A'..=b'Z', b'A'..=b'Z' | b'0'..=b'9'])
}

/// Reads elements that stand one to a line. The second value says whether text was left over.
fn delimited<'a>(lines: impl Iterator<Item = &'a str> + Clone, subfiles: &[Subfile]) -> (Vec<Element>, bool) {
    let within: Vec<String> = subfiles
        .iter()
        .filter(|entry| entry.kind.starts_with('Z'))
        .filter(|entry| !lines.clone().any(|line| begins_subfile(line, &entry.kind)))
        .map(|entry| format!("{0}{0}", entry.kind))
        .collect();
    let mut subfile = subfiles.first().map_or("DL", |entry| entry.kind.as_str()).to_owned();
    let (mut elements, mut stray_text) = (Vec::new(), false);
    for line in lines {
        for piece in at_subfiles(line.trim_start(), &within) {
            let mut piece = piece;
            if let Some(kind) = piece.get(..2).filter(|kind| is_subfile_kind(kind)) {
                let rest = piece[2..].trim_start();
                let names_element = rest.get(..3).is_some_and(|id| match kind.as_bytes() {
                    [b'Z', _] => id.starts_with(kind),
                    _ => is_element_id(id),
                });
                if names_element || rest.is_empty() {
                    subfile = kind.to_owned();
                    piece = rest;
                }
            }
            match piece.get(..3).filter(|id| is_element_id(id)) {
                Some(id) => elements.push(Element {
                    subfile: subfile.clone(),
                    id: id.to_owned(),
                    raw: piece[3..].trim_end().to_owned(),
                }),
                None => stray_text |= !piece.trim().is_empty(),
            }
        }
    }
    (elements, stray_text)
}

/// True if a jurisdiction's subfile starts a line of its own, as it should: with its first element, or alone.
fn begins_subfile(line: &str, kind: &str) -> bool {
    line.trim().strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.trim_start().starts_with(kind))
}

/// Cuts a line where a declared jurisdiction subfile starts in its midst (`...20120316MZWZWA...`), as no line begins with it; else such
/// letters belong to a name (Zazai in Arizona). The `M` in front of it is the CR that ended the subfile before.
fn at_subfiles<'a>(line: &'a str, within: &[String]) -> Vec<&'a str> {
    let start = within.iter().find_map(|start| line.find(start).filter(|at| *at > 3));
    match start {
        Some(at) => {
            let (before, after) = line.split_at(at);
            vec![before.strip_suffix('M').unwrap_or(before), after]
        }
        None => vec![line],
    }
}

/// Finds elements in a text without separators: of all ways to cut it at known names the one whose values fit their elements best,
/// no name used twice. Works on at most [`MAX_CANDIDATES`] names, in time quadratic in their number.
fn undelimited(text: &str, subfiles: &[Subfile]) -> Vec<Element> {
    struct Candidate<'a> {
        at: usize,
        id: &'a str,
        index: Option<usize>,
        score: i32,
        used: u128,
        from: Option<usize>,
    }
    let kinds: Vec<&str> =
        subfiles.iter().map(|entry| entry.kind.as_str()).filter(|kind| kind.starts_with('Z')).collect();
    // An empty subfile of the jurisdiction leaves its name at the end.
    let text = text.trim_end();
    let text = kinds.iter().find_map(|kind| text.strip_suffix(kind)).unwrap_or(text);
    let mut candidates: Vec<Candidate> = text
        .char_indices()
        .filter_map(|(at, _)| {
            let id = text.get(at..at + 3)?;
            let index = known(id).map(|(index, ..)| index);
            let own = kinds.iter().any(|kind| id.starts_with(kind)) && is_element_id(id);
            (index.is_some() || own).then_some(Candidate { at, id, index, score: i32::MIN, used: 0, from: None })
        })
        .take(MAX_CANDIDATES)
        .collect();
    let value = |start: usize, end: usize| text.get(start + 3..end).unwrap_or_default().trim();
    let bit = |index: Option<usize>| index.map_or(0, |index| 1u128 << index);
    let spaced = |at: usize| text[..at].ends_with(' ');
    // Where separators became spaces, an element that does not follow one is an accident inside a word.
    let led = candidates.iter().filter(|candidate| spaced(candidate.at)).count();
    let unled = if led * 5 >= candidates.len() * 4 { -4 } else { 0 };
    for to in 0..candidates.len() {
        let (before, rest) = candidates.split_at_mut(to);
        let Some(next) = rest.first_mut() else { break };
        if next.at <= 4 {
            (next.score, next.used) = (0, bit(next.index));
        }
        for (from, previous) in before.iter().enumerate() {
            if previous.score == i32::MIN || previous.at + 3 > next.at || previous.used & bit(next.index) != 0 {
                continue;
            }
            let score = previous.score
                + fit(previous.id, value(previous.at, next.at))
                + if spaced(next.at) { 1 } else { unled };
            if score > next.score {
                (next.score, next.used, next.from) = (score, previous.used | bit(next.index), Some(from));
            }
        }
    }
    let best = candidates
        .iter()
        .enumerate()
        .filter(|(_, last)| last.score > i32::MIN)
        .max_by_key(|(_, last)| last.score + fit(last.id, value(last.at, text.len())));
    let (mut chain, mut end, mut at) = (Vec::new(), text.len(), best.map(|(at, _)| at));
    while let Some(last) = at.and_then(|at| candidates.get(at)) {
        let mut raw = value(last.at, end);
        // The name of the next subfile stands at the end of the last element before it.
        if let Some(kind) = kinds.iter().find(|kind| raw.ends_with(**kind) && text[end..].starts_with(**kind)) {
            raw = raw.strip_suffix(kind).unwrap_or(raw).trim_end();
        }
        let subfile = kinds.iter().find(|kind| last.id.starts_with(**kind));
        let main = subfiles.first().map_or("DL", |entry| entry.kind.as_str());
        let subfile = subfile.copied().unwrap_or(main).to_owned();
        chain.push(Element { subfile, id: last.id.to_owned(), raw: raw.to_owned() });
        (end, at) = (last.at, last.from);
    }
    chain.reverse();
    chain
}

/// How well a value fits an element: positive for a fitting one, strongly negative for an impossible one.
fn fit(id: &str, value: &str) -> i32 {
    let Some((_, kind, longest)) = known(id) else { return 1 };
    if value.len() > longest {
        return -12;
    }
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let good = |fits: bool, score: i32| if fits { score } else { -10 };
    // Issuers write elements without content, so two names in a row are more likely than a value that looks like a name.
    if value.is_empty() {
        return 1;
    }
    match kind {
        Kind::Date => good(digits == 8, 6),
        Kind::Sex => good(matches!(value, "0" | "1" | "2" | "9" | "M" | "F" | "X"), 4),
        Kind::Truncation => good(matches!(value, "T" | "N" | "U"), 4),
        Kind::Country => good(matches!(value, "USA" | "CAN" | "MEX"), 5),
        Kind::State => good(jurisdiction::by_code(value).is_some(), 4),
        Kind::Postal => good(digits >= 3, 3),
        Kind::Measure => good(digits >= 1 && value.starts_with(|c: char| c.is_ascii_digit()), 3),
        Kind::Colour => good(digits == 0, 2),
        Kind::Name => {
            if digits == 0 {
                2
            } else {
                -6
            }
        }
        Kind::Number => {
            if digits > 0 {
                3
            } else {
                -1
            }
        }
        Kind::Flag => 2,
        Kind::Text => 1,
    }
}
