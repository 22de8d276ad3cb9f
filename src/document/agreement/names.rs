//! Names: whether two are the same person's, however they are spelled, cut or shortened.
//!
//! Called by `agreement` for family names, given names and full names. Two names are the same if a spelling of one is a spelling of the
//! other; separators, case and accents do not count. Sources: ICAO Doc 9303 part 3, sections 4.6 (truncation) and 6 (transliteration);
//! the rules for names that one side leaves out are this module's own. Left out: nicknames, and names that changed.

use super::super::fields::Source;
use super::super::mrz::{names_agree, transliterations};
use super::{AGREES, Agreement, Detail, Fact, NOT_COMPARABLE, Verdict, difference, edit_distance};

/// Names longer than this are not compared; the field of a passport holds 39 characters, visual zones a few lines.
const MAX_NAME_CHARS: usize = 200;

/// All spellings are listed only for names up to this length: their number, and the time to list them, grow with it. Longer names
/// of which neither is in plain Latin letters must be equal to agree.
const MAX_LISTED_CHARS: usize = 40;

/// At most so many spellings of one name are looked at; a Cyrillic name has a few dozen.
const MAX_LISTED_SPELLINGS: usize = 128;

fn is_separator(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '<' | '-'
                | '‐'
                | '‑'
                | '–'
                | '\''
                | '’'
                | '‘'
                | '`'
                | '´'
                | 'ʼ'
                | 'ʻ'
                | '.'
                | ','
                | '/'
                | '('
                | ')'
                | '*'
                | '·'
        )
}

/// The words of a name, upper case.
pub(super) fn words(name: &str) -> Vec<String> {
    if name.chars().nth(MAX_NAME_CHARS).is_some() {
        return Vec::new();
    }
    let upper: String = name.chars().flat_map(char::to_uppercase).collect();
    upper.split(is_separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// How two names, or two words of names, are the same.
fn same_name(a: &str, b: &str) -> Option<Option<Detail>> {
    if a == b {
        return Some(None);
    }
    let is_spelling = (b.is_ascii() && names_agree(a, b, false)) || (a.is_ascii() && names_agree(b, a, false));
    let is_same = is_spelling || {
        let other = canonical(b);
        canonical(a).iter().any(|spelling| other.contains(spelling))
    };
    is_same.then_some(Some(Detail::Transliterated))
}

/// Spellings of a name in which the several ways to write one letter have become one: Ä, AE, AXX and A are A. Letter by letter, without
/// the pairs that only whole words have. Empty if a letter has no spelling.
fn canonical(name: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    if name.is_ascii() {
        all = vec![name.to_ascii_uppercase()];
    } else {
        if name.chars().nth(MAX_LISTED_CHARS).is_some() {
            return Vec::new();
        }
        for letter in name.chars().filter(|letter| !('\u{300}'..='\u{36f}').contains(letter)) {
            let options = transliterations(letter.encode_utf8(&mut [0; 4]));
            all =
                all.iter().flat_map(|spelled| options.iter().map(move |option| format!("{spelled}{option}"))).collect();
            all.sort_unstable();
            all.dedup();
            all.truncate(MAX_LISTED_SPELLINGS);
        }
    }
    all = all.iter().map(|spelled| merge_spellings(spelled)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn merge_spellings(spelled: &str) -> String {
    let mut merged = String::with_capacity(spelled.len());
    let mut rest = spelled;
    while let Some(first) = rest.chars().next() {
        merged.push(first);
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
        let skipped = match first {
            'A' if rest.starts_with('E') || rest.starts_with('A') => 1,
            'O' | 'U' if rest.starts_with('E') => 1,
            'A' | 'O' | 'U' | 'N' if rest.starts_with("XX") => 2,
            _ => 0,
        };
        rest = rest.get(skipped..).unwrap_or_default();
    }
    merged
}

/// True if `cut` may be the beginning of `whole`.
fn is_beginning(cut: &str, whole: &str) -> bool {
    if cut.is_empty() {
        return false;
    }
    whole.starts_with(cut)
        || (cut.is_ascii() && names_agree(whole, cut, true))
        || canonical(cut).iter().any(|cut| canonical(whole).iter().any(|whole| whole.starts_with(cut.as_str())))
}

/// True if `joined` is a spelling of the words, or of their beginning, with nothing between them: `ΑΓ'ΓΑ` is `AGGA`, and `ΑΓΓΑ` `ANGA`,
/// because letters of two words are no pair.
fn is_spelled_in_words(words: &[String], joined: &str, is_cut: bool) -> bool {
    joined.is_ascii() && names_agree(&words.join("'"), joined, is_cut)
}

/// Whole names: all words, whatever separates them, with the prefix rule if one is cut.
fn compare_whole(left: &[String], right: &[String], a: Fact<'_>, b: Fact<'_>) -> Option<Verdict> {
    let (joined_left, joined_right) = (left.concat(), right.concat());
    let spaced = same_name(&left.join(" "), &right.join(" "));
    if let Some(detail) = spaced.or_else(|| same_name(&joined_left, &joined_right)) {
        return Some((Agreement::Agrees, detail));
    }
    if is_spelled_in_words(left, &joined_right, false) || is_spelled_in_words(right, &joined_left, false) {
        return Some((Agreement::Agrees, Some(Detail::Transliterated)));
    }
    let is_cut = (a.is_cut
        && (is_beginning(&joined_left, &joined_right) || is_spelled_in_words(right, &joined_left, true)))
        || (b.is_cut && (is_beginning(&joined_right, &joined_left) || is_spelled_in_words(left, &joined_right, true)));
    is_cut.then_some((Agreement::AgreesAsFarAsPrinted, Some(Detail::Truncated)))
}

/// Letters of the Arabic script in an MRZ (ICAO Doc 9303 part 3 section 6, table C). Names spelled so read differently in the visual
/// zone, where the issuer romanises them as they sound; the two cannot be told from different names.
const ARABIC_SPELLINGS: &[&str] =
    &["XH", "XSH", "XSS", "XDH", "XDZ", "XTH", "XTT", "XZZ", "XAA", "XTA", "XAY", "XKA", "XGH", "XEE"];

/// True if one letter differs, or two in a longer name. A recogniser that does not know a letter of a language (Þ, Æ, Ğ) takes another
/// for it or leaves it out, and is as sure of that as of any other, so that the confidence does not tell.
fn is_misread_name(a: &str, b: &str) -> bool {
    let limit = match a.len().min(b.len()) {
        0..=3 => 0,
        4..=7 => 1,
        _ => 2,
    };
    limit > 0 && edit_distance(a, b, limit).is_some()
}

/// What is said of names that do not agree.
fn name_difference(left: &[String], right: &[String], a: Fact<'_>, b: Fact<'_>) -> Verdict {
    let [left, right] = [left, right].map(<[String]>::concat);
    let (spelled_left, spelled_right) = (canonical(&left), canonical(&right));
    let is_arabic = |fact: Fact<'_>, spelled: &str| {
        fact.source == Source::Mrz && ARABIC_SPELLINGS.iter().any(|letter| spelled.contains(letter))
    };
    match (spelled_left.first(), spelled_right.first()) {
        (Some(left), Some(right)) if is_arabic(a, left) != is_arabic(b, right) => {
            (Agreement::Unsure, Some(Detail::Transliterated))
        }
        (Some(left), Some(right)) if [a.source, b.source].contains(&Source::Visual) && is_misread_name(left, right) => {
            (Agreement::Unsure, Some(Detail::ConfusableCharacters))
        }
        (Some(left), Some(right)) => difference(left, right, a, b),
        // A script without a spelling: another spelling of the same name cannot be told from another name.
        _ => NOT_COMPARABLE,
    }
}

/// Family names must agree whole. Where one side has only the first of several names (as is custom in everyday use of Spanish and
/// Portuguese names), it stays a doubt.
pub(super) fn compare_family(a: Fact<'_>, b: Fact<'_>) -> Verdict {
    let (left, right) = (words(a.text), words(b.text));
    if left.is_empty() || right.is_empty() {
        return NOT_COMPARABLE;
    }
    if let Some(verdict) = compare_whole(&left, &right, a, b) {
        return verdict;
    }
    let begins = begins_with(&left, &right) || begins_with(&right, &left);
    if begins {
        return (Agreement::Unsure, Some(Detail::FewerNames));
    }
    name_difference(&left, &right, a, b)
}

/// Given names keep their order, and the first must agree. The shorter list may leave out later names; a single letter stands for a
/// name that begins with it; a title before the first name does not count.
pub(super) fn compare_given(a: Fact<'_>, b: Fact<'_>) -> Verdict {
    compare_given_words(&words(a.text), &words(b.text), a, b)
}

/// Titles that some States print, or their issuers enter, before the given names.
const TITLES: &[&str] = &["MR", "MRS", "MS", "MISS", "DR", "PROF", "MSTR", "MASTER"];

fn compare_given_words(left: &[String], right: &[String], a: Fact<'_>, b: Fact<'_>) -> Verdict {
    if left.is_empty() || right.is_empty() {
        return NOT_COMPARABLE;
    }
    if let Some(verdict) = compare_whole(left, right, a, b) {
        return verdict;
    }
    let (left, right) = (without_title(left), without_title(right));
    if let Some(verdict) = compare_whole(left, right, a, b) {
        return verdict;
    }
    let left_is_short = left.len() <= right.len();
    let ((short, short_is_cut), (long, long_is_cut)) =
        if left_is_short { ((left, a.is_cut), (right, b.is_cut)) } else { ((right, b.is_cut), (left, a.is_cut)) };
    let first_words = begins_with(left, right) || begins_with(right, left);
    if first_words {
        return (Agreement::AgreesAsFarAsPrinted, Some(Detail::FewerNames));
    }
    let mut detail = if short.len() < long.len() { Some(Detail::FewerNames) } else { None };
    let mut at = 0;
    for (index, word) in short.iter().enumerate() {
        let found = long.iter().enumerate().skip(at).take(if index == 0 { 1 } else { usize::MAX }).find_map(
            |(place, other)| {
                let word_is_cut = short_is_cut && index + 1 == short.len();
                let other_is_cut = long_is_cut && place + 1 == long.len();
                same_word(word, other, word_is_cut, other_is_cut).map(|detail| (place, detail))
            },
        );
        let Some((place, how)) = found else { return name_difference(left, right, a, b) };
        detail = match how {
            Some(Detail::Truncated) => how,
            Some(Detail::Initial) if detail != Some(Detail::Truncated) => how,
            _ => detail,
        };
        at = place + 1;
    }
    (Agreement::AgreesAsFarAsPrinted, detail)
}

/// True if the first words of a name, but not all, are the other name.
fn begins_with(long: &[String], short: &[String]) -> bool {
    let short = short.concat();
    let begins = |count| long.get(..count).is_some_and(|first| same_name(&first.concat(), &short).is_some());
    (1..long.len()).any(begins)
}

fn without_title(words: &[String]) -> &[String] {
    match words {
        [title, rest @ ..] if !rest.is_empty() && TITLES.contains(&title.as_str()) => rest,
        _ => words,
    }
}

fn same_word(a: &str, b: &str, a_is_cut: bool, b_is_cut: bool) -> Option<Option<Detail>> {
    if let Some(detail) = same_name(a, b) {
        return Some(detail);
    }
    let is_letter = |word: &str| word.chars().count() == 1;
    if (is_letter(a) && is_beginning(a, b)) || (is_letter(b) && is_beginning(b, a)) {
        return Some(Some(Detail::Initial));
    }
    ((a_is_cut && is_beginning(a, b)) || (b_is_cut && is_beginning(b, a))).then_some(Some(Detail::Truncated))
}

/// Full names are the same words with the family name first or last.
pub(super) fn compare_full(a: Fact<'_>, b: Fact<'_>) -> Verdict {
    let (left, right) = (words(a.text), words(b.text));
    if left.is_empty() || right.is_empty() {
        return NOT_COMPARABLE;
    }
    let mut verdicts = vec![compare_given_words(&left, &right, a, b)];
    for count in 1..left.len().max(right.len()).min(12) {
        let turned = |words: &[String]| {
            let mut turned = words.to_vec();
            turned.rotate_left(count.min(words.len()));
            turned
        };
        verdicts.extend(compare_whole(&left, &turned(&right), a, b));
        verdicts.extend(compare_whole(&turned(&left), &right, a, b));
    }
    // A caption such as "Name" stands before family names alone on some documents.
    let holds = |long: &[String], short: &[String]| short.iter().all(|word| long.contains(word));
    if holds(&left, &right) || holds(&right, &left) {
        verdicts.push((Agreement::Unsure, Some(Detail::FewerNames)));
    }
    let key = |verdict: &Verdict| (verdict.0, verdict.1.map(Detail::code));
    verdicts.into_iter().min_by_key(key).unwrap_or(NOT_COMPARABLE)
}

/// A full name against its two parts.
pub(super) fn compare_full_to_parts(full: Fact<'_>, family: Fact<'_>, given: Option<Fact<'_>>) -> Verdict {
    let all = words(full.text);
    let (family_words, given_words) = (words(family.text), given.map(|given| words(given.text)).unwrap_or_default());
    if all.is_empty() || family_words.is_empty() || all.len() > 16 {
        return NOT_COMPARABLE;
    }
    let mut best: Option<Verdict> = None;
    for count in 1..=all.len() {
        let (first, rest) = all.split_at(count);
        let (tail, head) =
            (all.get(all.len() - count..).unwrap_or_default(), all.get(..all.len() - count).unwrap_or_default());
        for (family_part, given_part) in [(first, rest), (tail, head)] {
            let Some(verdict) = compare_whole(family_part, &family_words, full, family) else { continue };
            let given_verdict = match (given, given_part.is_empty(), given_words.is_empty()) {
                (_, true, true) => AGREES,
                (Some(given), false, false) => compare_given_words(given_part, &given_words, full, given),
                // Who claims a full name claims given names too.
                _ if full.source == Source::Claim => (Agreement::Unsure, Some(Detail::FewerNames)),
                _ => (Agreement::AgreesAsFarAsPrinted, Some(Detail::FewerNames)),
            };
            let worse = if given_verdict.0 > verdict.0 { given_verdict } else { verdict };
            best = Some(best.filter(|best| best.0 <= worse.0).unwrap_or(worse));
        }
    }
    best.unwrap_or_else(|| {
        let parts: Vec<String> = family_words.iter().chain(&given_words).cloned().collect();
        name_difference(&all, &parts, full, family)
    })
}
