//! Dates as documents print them: `12.08.1974`, `12 AUG 74`, `12 AOÛT/AUG 74`, `AUG 12, 1974`, `1974-08-12`.
//!
//! Called by `visual` for every line. A text that allows several days keeps them all; which one is meant is decided by the page. Source:
//! ICAO Doc 9303 part 3 section 4.7 and appendix A (the form of dates in the visual zone, months of the three languages of the
//! Organisation); months in other languages are common knowledge. Left out: calendars other than the Gregorian one.

use super::super::agreement::{edit_distance, fold};
use super::super::mrz::Date;

/// Years that identity documents carry; others are misread.
const YEARS: std::ops::RangeInclusive<u16> = 1880..=2149;

/// A date on the page, with every day it may stand for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PrintedDate {
    /// Where it stands, in characters of the line.
    pub start: usize,
    pub end: usize,
    /// The first that [`Order::DayFirst`] allows comes first.
    pub readings: Vec<Reading>,
}

/// One way to read a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub order: Order,
    year: u16,
    /// Two digits only: `year` is 0 to 99.
    is_short: bool,
    month: u8,
    day: u8,
}

/// Which of day and month comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    DayFirst,
    MonthFirst,
    /// The form itself tells, as a month in letters does.
    Plain,
}

/// Which century a date in the past or the future takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tense {
    Past,
    Near,
}

impl Reading {
    /// The day; the century of a short year is the latest that lies in the past, or the nearest to today, as for the MRZ. `None` if
    /// there is no such day.
    pub fn day(self, tense: Tense, today: Date) -> Option<Date> {
        if !self.is_short {
            return Date::new(self.year, self.month, self.day);
        }
        let century = today.year() - today.year() % 100;
        let of = |year: Option<u16>| year.and_then(|year| Date::new(year, self.month, self.day));
        let this = century.checked_add(self.year);
        match tense {
            Tense::Past => {
                of(this).filter(|day| *day <= today).or_else(|| of(this.and_then(|year| year.checked_sub(100))))
            }
            Tense::Near => {
                let first = today.year().saturating_sub(50);
                of(Some(first + (self.year + 100 - first % 100) % 100))
            }
        }
    }

    /// True if day and month are the same number, so that their order shows nothing.
    pub fn is_symmetric(self) -> bool {
        self.month == self.day
    }

    /// True if this may be the day, whatever the century of a short year.
    pub fn may_be(self, day: Date) -> bool {
        let year = if self.is_short { day.year() % 100 } else { day.year() };
        (self.year, self.month, self.day) == (year, day.month(), day.day())
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number {
        value: u16,
        digits: usize,
    },
    Word(String),
    /// Anything between them that is no letter or digit.
    Gap(String),
}

struct Placed {
    token: Token,
    start: usize,
    end: usize,
}

/// All dates of a line, from left to right. `characters` is the line.
pub(super) fn find(characters: &[char]) -> Vec<PrintedDate> {
    let tokens = tokenise(characters);
    let mut dates = Vec::new();
    let (mut at, mut floor) = (0, 0);
    while at < tokens.len() {
        match date_at(&tokens, at, floor) {
            Some((date, after)) => {
                dates.push(date);
                (at, floor) = (after, after);
            }
            None => at += 1,
        }
    }
    dates
}

/// A text that is eight digits and nothing else, with or without its separators, as where they were not read: under a label such a
/// number is a date if only one order gives one.
pub(super) fn compact(characters: &[char]) -> Option<Reading> {
    let digits: Vec<u16> =
        characters.iter().filter_map(|c| c.to_digit(10)).filter_map(|digit| u16::try_from(digit).ok()).collect();
    let is_other = |c: &char| !c.is_ascii_digit() && !matches!(c, ' ' | '.' | '-' | '/');
    if digits.len() != 8 || characters.len() > 12 || characters.iter().any(is_other) {
        return None;
    }
    let number =
        |from: usize, to: usize| digits.get(from..to).map(|part| part.iter().fold(0, |sum, digit| sum * 10 + digit));
    let reading = |order, year: u16, month: u16, day: u16| {
        let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
        let real = YEARS.contains(&year) && Date::new(year, month, day).is_some();
        real.then_some(Reading { order, year, is_short: false, month, day })
    };
    let day_first = reading(Order::Plain, number(4, 8)?, number(2, 4)?, number(0, 2)?);
    let year_first = reading(Order::Plain, number(0, 4)?, number(4, 6)?, number(6, 8)?);
    match (day_first, year_first) {
        (Some(reading), None) | (None, Some(reading)) => Some(reading),
        _ => None,
    }
}

fn tokenise(characters: &[char]) -> Vec<Placed> {
    let kind = |c: char| {
        if c.is_ascii_digit() {
            0
        } else if c.is_alphabetic() {
            1
        } else {
            2
        }
    };
    let mut tokens: Vec<Placed> = Vec::new();
    let mut start = 0;
    while let Some(first) = characters.get(start) {
        let length =
            characters.get(start..).unwrap_or_default().iter().take_while(|c| kind(**c) == kind(*first)).count();
        let text: String = characters.get(start..start + length).unwrap_or_default().iter().collect();
        let token = match kind(*first) {
            0 => Token::Number { value: text.parse().unwrap_or(u16::MAX), digits: length },
            1 => Token::Word(fold(&text)),
            _ => Token::Gap(text.split_whitespace().collect()),
        };
        // The letter O of October, taken for a zero.
        if let (Token::Word(word), Some(Placed { token: Token::Number { value: 0, digits: 1 }, start: zero, .. })) =
            (&token, tokens.last())
            && word == "CT"
        {
            let zero = *zero;
            tokens.pop();
            tokens.push(Placed { token: Token::Word("OCT".to_owned()), start: zero, end: start + length });
        } else {
            tokens.push(Placed { token, start, end: start + length });
        }
        start += length;
    }
    tokens
}

/// A date that begins at a token, and the first token after it. What stands before `floor` belongs to another date.
fn date_at(tokens: &[Placed], at: usize, floor: usize) -> Option<(PrintedDate, usize)> {
    // Not in the middle of a longer number or word.
    let before = at.checked_sub(1).and_then(|before| tokens.get(before)).map(|placed| &placed.token);
    if matches!(before, Some(Token::Number { .. } | Token::Word(_))) {
        return None;
    }
    if let Some(Token::Gap(gap)) = before
        && matches!(gap.as_str(), "." | "-" | "/")
        && matches!(
            at.checked_sub(2).and_then(|first| tokens.get(first)).map(|placed| &placed.token),
            Some(Token::Number { .. })
        )
        && touches(tokens, at)
    {
        return None;
    }
    let (readings, after) =
        in_numbers(tokens, at).or_else(|| in_letters(tokens, at)).or_else(|| month_first(tokens, at))?;
    // A number just before may be the day, and this one something else that was misread.
    let earlier = at.checked_sub(2).filter(|earlier| *earlier >= floor).and_then(|earlier| number(tokens, earlier));
    if matches!(earlier, Some((_, 1 | 2))) && before == Some(&Token::Gap(String::new())) {
        return None;
    }
    // "3. 14.07.1988" begins with the number of the field: the date begins at the next number.
    let goes_on = matches!(gap(tokens, after), Some("." | "-" | "/")) && number(tokens, after + 1).is_some();
    if goes_on && touches(tokens, after + 1) {
        return None;
    }
    let end = tokens.get(after - 1)?.end;
    if matches!(tokens.get(after).map(|placed| &placed.token), Some(Token::Number { .. } | Token::Word(_))) {
        return None;
    }
    Some((PrintedDate { start: tokens.get(at)?.start, end, readings }, after))
}

/// True if nothing but one character lies between a token and the number before the gap.
fn touches(tokens: &[Placed], at: usize) -> bool {
    at.checked_sub(1).and_then(|gap| tokens.get(gap)).is_some_and(|gap| gap.end - gap.start == 1)
}

fn number(tokens: &[Placed], at: usize) -> Option<(u16, usize)> {
    match tokens.get(at)?.token {
        Token::Number { value, digits } => Some((value, digits)),
        _ => None,
    }
}

fn gap(tokens: &[Placed], at: usize) -> Option<&str> {
    match &tokens.get(at)?.token {
        Token::Gap(gap) => Some(gap),
        _ => None,
    }
}

/// Day, month and year in figures.
fn in_numbers(tokens: &[Placed], at: usize) -> Option<(Vec<Reading>, usize)> {
    let parts = [number(tokens, at)?, number(tokens, at + 2)?, number(tokens, at + 4)?];
    let gaps = [gap(tokens, at + 1)?, gap(tokens, at + 3)?];
    let is_gap = |gap: &str| matches!(gap, "" | "." | "-" | "/" | "–" | "," | "·" | "..");
    if !gaps.iter().all(|gap| is_gap(gap)) {
        return None;
    }
    let lengths = parts.map(|(_, digits)| digits);
    // Numbers with nothing but spaces between them are a date only in full.
    if gaps.contains(&"") && !matches!(lengths, [2, 2, 4] | [4, 2, 2]) {
        return None;
    }
    let [a, b, c] = parts.map(|(value, _)| value);
    let reading = |order, year: u16, month: u16, day: u16, is_short: bool| {
        let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
        // A short year may be a leap year in one of two centuries.
        let real = if is_short {
            Date::new(2000, month, day).is_some()
        } else {
            YEARS.contains(&year) && Date::new(year, month, day).is_some()
        };
        real.then_some(Reading { order, year, is_short, month, day })
    };
    let readings: Vec<Reading> = match lengths {
        [4, 1 | 2, 1 | 2] => reading(Order::Plain, a, b, c, false).into_iter().collect(),
        [1 | 2, 1 | 2, length @ (2 | 4)] => {
            let is_short = length == 2;
            let day_first = reading(Order::DayFirst, c, b, a, is_short);
            let month_first = reading(Order::MonthFirst, c, a, b, is_short).filter(|_| a != b);
            // 74-08-12: the first can only be a year.
            let year_first = (is_short && a > 31).then(|| reading(Order::Plain, a, b, c, true)).flatten();
            [day_first, month_first, year_first].into_iter().flatten().collect()
        }
        _ => return None,
    };
    (!readings.is_empty()).then_some((readings, at + 5))
}

/// Day, month in letters (in one or two languages), year.
fn in_letters(tokens: &[Placed], at: usize) -> Option<(Vec<Reading>, usize)> {
    let (day, digits) = number(tokens, at)?;
    if digits > 2 {
        return None;
    }
    let mut next = at + 1;
    let mut months: u16 = 0;
    let mut in_figures = None;
    // At most the day, a month in figures as Korean passports have it, three months in letters, and gaps between them.
    while next <= at + 8 {
        match &tokens.get(next)?.token {
            Token::Gap(gap) if matches!(gap.as_str(), "" | "." | "-" | "/" | "," | "./" | "'") => {}
            Token::Word(word) => {
                let known = month_of(word);
                months = match (months, known) {
                    (0, known) => known,
                    (months, 0) => months,
                    (months, known) => {
                        if months & known == 0 {
                            return None;
                        }
                        months & known
                    }
                };
            }
            Token::Number { value, digits: 1 | 2 }
                if months == 0 && in_figures.is_none() && gap(tokens, next + 1) == Some("/") =>
            {
                in_figures = Some(*value);
            }
            Token::Number { value, digits } if months != 0 => {
                return finish(day, months, in_figures, (*value, *digits)).map(|reading| (vec![reading], next + 1));
            }
            _ => return None,
        }
        next += 1;
    }
    None
}

/// Month in letters, day, year, as in the United States.
fn month_first(tokens: &[Placed], at: usize) -> Option<(Vec<Reading>, usize)> {
    let Token::Word(word) = &tokens.get(at)?.token else { return None };
    let (day, digits) = number(tokens, at + 2)?;
    let is_gap = matches!(gap(tokens, at + 1)?, "" | ".") && matches!(gap(tokens, at + 3)?, "" | "," | ".,");
    if digits > 2 || !is_gap {
        return None;
    }
    let (year, year_digits) = number(tokens, at + 4)?;
    let reading = finish(day, month_of(word), None, (year, year_digits)).filter(|_| year_digits == 4)?;
    Some((vec![reading], at + 5))
}

fn finish(day: u16, months: u16, in_figures: Option<u16>, (year, digits): (u16, usize)) -> Option<Reading> {
    if months.count_ones() != 1 {
        return None;
    }
    let month = u8::try_from(months.trailing_zeros() + 1).ok()?;
    if in_figures.is_some_and(|figures| figures != u16::from(month)) {
        return None;
    }
    let day = u8::try_from(day).ok()?;
    let is_short = digits == 2;
    let is_real = match digits {
        2 => Date::new(2000, month, day).is_some(),
        4 => YEARS.contains(&year) && Date::new(year, month, day).is_some(),
        _ => false,
    };
    is_real.then_some(Reading { order: Order::Plain, year, is_short, month, day })
}

/// The months that a word may name, bit 0 for January; 0 for none. A word may be cut to three letters, and one letter of a longer one
/// may be misread.
fn month_of(word: &str) -> u16 {
    if word.len() < 3 || word.len() > 12 {
        return 0;
    }
    let all = |is_it: &dyn Fn(&str) -> bool| {
        let named = MONTHS.iter().enumerate().filter(|(_, names)| names.split(' ').any(is_it));
        named.fold(0, |months, (month, _)| months | 1 << month)
    };
    // A word of the table as it stands goes before the beginning of another: MAR is no November though MARRASKUU is.
    let exact = all(&|name| name == word);
    if exact != 0 {
        return exact;
    }
    let cut = all(&|name| name.starts_with(word));
    if cut != 0 {
        return cut;
    }
    all(&|name| word.len() > 3 && name.len() > 5 && edit_distance(name, word, 1).is_some())
}

/// Names of the months without accents, Cyrillic and Greek in the shortest Latin spelling. A few mean different months in neighbouring
/// languages (LISTOPAD, SRPEN and SRPANJ, LIPIEN and LIPANJ): alone and cut short they name no month, beside a second language they do.
/// English, French, German, Spanish, Italian, Portuguese, Dutch, Polish, Czech, Slovak, Slovenian, Croatian, Hungarian, Romanian, Swedish,
/// Danish, Finnish, Estonian, Latvian, Lithuanian, Turkish, Icelandic, Greek, Ukrainian, Russian.
#[rustfmt::skip]
const MONTHS: [&str; 12] = [
    "JANUARY JAN JANVIER JANUAR JANNER ENERO ENE GENNAIO GEN JANEIRO JANUARI STYCZEN STY LEDEN SIJECANJ SIJ IANUARIE IAN TAMMIKUU TAMMI JAANUAR JANVARIS SAUSIS SAU OCAK IANOUARIOS SICEN SIC SICHEN YANVAR ANVAR",
    "FEBRUARY FEB FEVRIER FEV FEBRUAR FEBRERO FEBBRAIO FEVEREIRO FEBRUARI LUTY LUT UNOR VELJACA VELJ VEL FEBRUARIE HELMIKUU HELMI VEEBRUAR VEEBR FEBRUARIS VASARIS VAS SUBAT SUB FEBROUARIOS FEVRAL LUTI",
    "MARCH MAR MARS MARZ MARZO MARCO MARET MAART MAA MRT MARZEC BREZEN BRE OZUJAK OZU MARCIUS MARTIE MARTS MAALISKUU MAALIS MARTS KOVAS KOV MART MARTIOS BEREZEN BER",
    "APRIL APR AVRIL AVR ABRIL ABR APRILE KWIECIEN KWI DUBEN DUB TRAVANJ TRA APRILIS APRILIE HUHTIKUU HUHTI APRILLI BALANDIS BAL NISAN NIS APRILIOS KVITEN KVI APREL",
    "MAY MAI MAIO MAYO MAGGIO MAG MEI MAJ MAJUS KVETEN KVE SVIBANJ SVI TOUKOKUU TOUKO MAIJS GEGUZE GEG MAYIS MAIOS TRAVEN TRA",
    "JUNE JUN JUIN JUNI JUNIO GIUGNO GIU JUNHO CZERWIEC CZE CERVEN LIPANJ LIP JUNIUS IUNIE IUN KESAKUU KESA JUUNI JUNIJS BIRZELIS BIR HAZIRAN HAZ IOUNIOS CERVEN CER IUN",
    "JULY JUL JUILLET JUIL JULI JULIO LUGLIO LUG JULHO LIPIEC LIP CERVENEC SRPANJ SRP JULIUS IULIE IUL HEINAKUU HEINA JUULI JULIJS LIEPA LIE TEMMUZ TEM IOULIOS LIPEN LIP IUL",
    "AUGUST AUG AOUT AOU AGOSTO AGO AUGUSTUS SIERPIEN SIE SRPEN SRP KOLOVOZ KOL AUGUSZTUS ELOKUU ELO AUGUSTS RUGPJUTIS RGP AGUSTOS AGU AVGOUSTOS SERPEN SER AVGUST AVG",
    "SEPTEMBER SEP SEPTEMBRE SEPT SEPTIEMBRE SETTEMBRE SET SETEMBRO WRZESIEN WRZ ZARI RUJAN RUJ SZEPTEMBER SZEPT SEPTEMBRIE SYYSKUU SYYS SEPTEMBRIS RUGSEJIS RGS EYLUL EYL SEPTEMVRIOS VERESEN VER SENTABR SENT",
    "OCTOBER OCT OCTOBRE OKTOBER OKT OCTUBRE OTTOBRE OTT OUTUBRO OUT PAZDZIERNIK PAZ RIJEN LISTOPAD LIS OKTOBAR OCTOMBRIE LOKAKUU LOKA OKTOOBER OKTOBRIS SPALIS SPA EKIM EKI OKTOVRIOS ZOVTEN ZOV OKTABR",
    "NOVEMBER NOV NOVEMBRE NOVIEMBRE NOVEMBRO LISTOPAD LIS STUDENI STU NOIEMBRIE NOI MARRASKUU MARRAS NOVEMBRIS LAPKRITIS LAP KASIM KAS NOEMVRIOS LISTOPAD NOABR",
    "DECEMBER DEC DECEMBRE DEZEMBER DEZ DICIEMBRE DIC DICEMBRE DEZEMBRO GRUDZIEN GRU PROSINEC PRO PROSINAC DECEMBRIE JOULUKUU JOULU DETSEMBER DETS DECEMBRIS GRUODIS GRD ARALIK ARA DEKEMVRIOS GRUDEN GRU DEKABR DES DESEMBER",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn dates(text: &str) -> Vec<Vec<String>> {
        let today = Date::new(2026, 11, 23).unwrap();
        let line: Vec<char> = text.chars().collect();
        let day = |reading: &Reading| reading.day(Tense::Past, today).map(|day| day.to_string()).unwrap_or_default();
        find(&line).iter().map(|date| date.readings.iter().map(day).collect()).collect()
    }

    #[test]
    fn usual_forms() {
        for text in [
            "12.08.1974",
            "12-08-74",
            "12 08 1974",
            "12 AUG 74",
            "12 AUGUST/AOUT 74",
            "12 AOÛT/AUG 1974",
            "12AUG74",
            "AUG 12, 1974",
            "1974-08-12",
            "12. srpna/Aug 1974",
            "12 CEP/AUG 74",
            "12 8/AUG 1974",
            "12 sierpień 1974",
            "12 серпень 1974",
            "12 AĞUSTOS 1974",
        ] {
            let found = dates(text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0][0], "1974-08-12", "{text}");
        }
        assert_eq!(dates("07 0CT2009 07 0CT 2013"), [["2009-10-07"], ["2013-10-07"]]);
        assert_eq!(dates("16/03/2008 15/05/2015"), [["2008-03-16"], ["2015-05-15"]]);
        assert_eq!(dates("30 6/JUN2021"), [["2021-06-30"]]);
        assert_eq!(dates("3. 14.07.1988 CARDIFF"), [["1988-07-14"]]);
    }

    #[test]
    fn day_and_month_stay_open() {
        assert_eq!(dates("04/03/1990"), [["1990-03-04", "1990-04-03"]]);
        assert_eq!(dates("13/03/1990"), [["1990-03-13"]]);
        assert_eq!(dates("04/04/1990"), [["1990-04-04"]]);
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "31.02.1990",
            "121282-88882",
            "1.2.3.4.1990",
            "112.08.1974",
            "12.08.19745",
            "90 11 12",
            "12 LIS 1990",
            "00.00.0000",
            "12 AUG",
            "10 JAN/FEB 1990",
            "30 5/JUN 2021",
            "01/01/2999",
            "+32 (0)78 150 350",
            "V2350966/20/02",
            "12 MAI/JUN 1990",
        ] {
            assert_eq!(dates(text), Vec::<Vec<String>>::new(), "{text}");
        }
        // The second language decides.
        assert_eq!(dates("12 LIS/NOV 1990"), [["1990-11-12"]]);
        assert_eq!(dates("12 LIS/OCT 1990"), [["1990-10-12"]]);
    }

    #[test]
    fn english_abbreviations_are_never_open() {
        for (month, name) in
            ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"].iter().enumerate()
        {
            assert_eq!(month_of(name), 1 << month, "{name}");
        }
        for name in ["LIS", "SRP", "LIP", "XYZ", "MA", "J"] {
            assert_ne!(month_of(name).count_ones(), 1, "{name}");
        }
    }

    #[test]
    fn eight_digits() {
        let read = |text: &str| {
            compact(&text.chars().collect::<Vec<_>>())
                .and_then(|reading| reading.day(Tense::Past, Date::new(2026, 1, 1)?))
        };
        assert_eq!(read("23111959"), Date::new(1959, 11, 23));
        assert_eq!(read("06.062008"), Date::new(2008, 6, 6));
        assert_eq!(read("19591123"), Date::new(1959, 11, 23));
        assert_eq!(read("20121210"), Date::new(2012, 12, 10));
        assert_eq!(read("98765432"), None);
    }
}
