//! Calendar dates of the MRZ: two digits of a year, and parts that are unknown.
//!
//! Called by `parse` and `generate`, and by callers that need an age. The day of the check is always a parameter; nothing
//! here reads a clock. Source: ICAO Doc 9303 part 3, section 4.8 (dates, unknown parts are fillers); the century is not in the
//! MRZ, so both rules below are this module's own and are reported with every date. Left out: times and time zones.

use std::fmt;

/// A day of the proleptic Gregorian calendar, ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// A day that exists: year 1 to 9999, month 1 to 12, day 1 to the length of the month.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let exists = (1..=9999).contains(&year) && day >= 1 && day <= days_in_month(Some(year), month);
        exists.then_some(Self { year, month, day })
    }

    /// The day in UTC at so many seconds after the beginning of 1970, from H. Hinnant, "chrono-compatible low-level date algorithms"
    /// (`civil_from_days`). Times beyond the year 9999 give its last day.
    pub fn of_unix_time(seconds: u64) -> Self {
        const LAST: Date = Date { year: 9999, month: 12, day: 31 };
        // Days since 1 March of the year 0; years begin in March, so that the leap day is the last.
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let parts = (u16::try_from(year), u8::try_from(month), u8::try_from(day));
        if let (Ok(year), Ok(month), Ok(day)) = parts { Self::new(year, month, day).unwrap_or(LAST) } else { LAST }
    }

    pub fn year(self) -> u16 {
        self.year
    }

    /// 1 to 12.
    pub fn month(self) -> u8 {
        self.month
    }

    /// 1 to 31.
    pub fn day(self) -> u8 {
        self.day
    }

    /// Days since 1 March of the year 0, from the same source (`days_from_civil`). Differences of two days count the days between them.
    pub fn day_number(self) -> i32 {
        let year = i32::from(self.year) - i32::from(self.month <= 2);
        let (era, year_of_era) = (year / 400, year % 400);
        let month_from_march = (i32::from(self.month) + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + i32::from(self.day) - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
    }

    /// Completed years of a person born on this day, on the day `on`; `None` if that day lies before the birth. A person
    /// born on 29 February completes a year on 1 March of the other years.
    pub fn age_on(self, on: Self) -> Option<u16> {
        let had_birthday = (on.month, on.day) >= (self.month, self.day);
        (on >= self).then(|| (on.year - self.year).saturating_sub(u16::from(!had_birthday)))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// Length of a month; 29 for February of an unknown year, 0 for a month that does not exist.
fn days_in_month(year: Option<u16>, month: u8) -> u8 {
    let is_leap = |year: u16| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u8::from(year.is_none_or(is_leap)),
        _ => 0,
    }
}

/// How the century of a date was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CenturyRule {
    /// The latest year that does not put the date after the day of the check; for birth and issue.
    LatestPast,
    /// The year nearest to the day of the check: 50 years back to 49 years ahead; for expiry.
    Nearest,
    /// The year is not in the MRZ.
    YearUnknown,
}

/// What an MRZ says about a date. Parts that are fillers, unreadable or impossible are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartialDate {
    /// With its century as `century` says.
    pub year: Option<u16>,
    pub month: Option<u8>,
    pub day: Option<u8>,
    pub century: CenturyRule,
    /// The same two digits a hundred years earlier, where that person would be less than [`OLDEST_PERSON_YEARS`] old.
    /// Birth dates only.
    pub alternative_year: Option<u16>,
}

/// No person older than this is expected; the oldest one known reached 122 years.
pub const OLDEST_PERSON_YEARS: u16 = 123;

impl PartialDate {
    /// The day, if all parts are known.
    pub fn complete(&self) -> Option<Date> {
        Date::new(self.year?, self.month?, self.day?)
    }

    /// The first day that fits, for comparisons. `None` without a year.
    pub fn earliest(&self) -> Option<Date> {
        Date::new(self.year?, self.month.unwrap_or(1), self.day.unwrap_or(1))
    }

    /// The last day that fits. `None` without a year.
    pub fn latest(&self) -> Option<Date> {
        let month = self.month.unwrap_or(12);
        Date::new(self.year?, month, self.day.unwrap_or(days_in_month(self.year, month)))
    }
}

/// How a date was found to be wrong or incomplete; the graver fault is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DateFault {
    /// Some parts are fillers, which the standard allows.
    Incomplete,
    /// No such day (month 13, 31 February), or characters that are no digits.
    Impossible,
}

/// Which century rule applies to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DateKind {
    Birth,
    Expiry,
}

/// Reads `YYMMDD`, or `YYMM` if only four characters are given. Anything else is impossible.
pub(super) fn read(text: &[u8], kind: DateKind, today: Date) -> (Option<PartialDate>, Option<DateFault>) {
    let unknown =
        PartialDate { year: None, month: None, day: None, century: CenturyRule::YearUnknown, alternative_year: None };
    let mut fault = None;
    let mut two_digits = |at: usize| match text.get(at..at + 2) {
        Some([tens @ b'0'..=b'9', ones @ b'0'..=b'9']) => Some((tens - b'0') * 10 + (ones - b'0')),
        Some(b"<<") => {
            fault = fault.max(Some(DateFault::Incomplete));
            None
        }
        Some(_) => {
            fault = Some(DateFault::Impossible);
            None
        }
        None => None,
    };
    let (short_year, mut month, mut day) = (two_digits(0), two_digits(2), two_digits(4));
    if month.is_some_and(|month| !(1..=12).contains(&month)) {
        (month, fault) = (None, Some(DateFault::Impossible));
    }
    // The day is judged against the longest such month; the leap year is judged once the century is known.
    let longest = month.map_or(31, |month| days_in_month(None, month));
    if day.is_some_and(|day| day < 1 || day > longest) {
        (day, fault) = (None, Some(DateFault::Impossible));
    }
    let Some(short_year) = short_year else {
        let is_known = month.is_some() || day.is_some();
        return (is_known.then_some(PartialDate { month, day, ..unknown }), fault);
    };
    let (year, century) = match kind {
        DateKind::Birth => (latest_past(short_year, month, day, today), CenturyRule::LatestPast),
        DateKind::Expiry => (nearest(short_year, today), CenturyRule::Nearest),
    };
    if let (Some(in_month), Some(in_day)) = (month, day)
        && in_day > days_in_month(Some(year), in_month)
    {
        (day, fault) = (None, Some(DateFault::Impossible));
    }
    let alternative_year = year
        .checked_sub(100)
        .filter(|earlier| kind == DateKind::Birth && today.year.saturating_sub(*earlier) < OLDEST_PERSON_YEARS);
    (Some(PartialDate { year: Some(year), month, day, century, alternative_year }), fault)
}

/// The latest year ending in `short_year` in which the date, as far as it is known, does not lie after `today`.
fn latest_past(short_year: u8, month: Option<u8>, day: Option<u8>, today: Date) -> u16 {
    let this_century = today.year - today.year % 100 + u16::from(short_year);
    let first_fit = (this_century, month.unwrap_or(1), day.unwrap_or(1));
    if first_fit > (today.year, today.month, today.day) { this_century.saturating_sub(100) } else { this_century }
}

/// The year ending in `short_year` from 50 years before to 49 years after `today`.
fn nearest(short_year: u8, today: Date) -> u16 {
    let first = today.year.saturating_sub(50);
    first + (u16::from(short_year) + 100 - first % 100) % 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: u16, month: u8, day: u8) -> Date {
        Date::new(year, month, day).unwrap()
    }

    const NO_FAULT: Option<DateFault> = None;

    #[test]
    fn only_days_that_exist() {
        assert!(Date::new(2024, 2, 29).is_some() && Date::new(2000, 2, 29).is_some());
        for (year, month, day) in [(2023, 2, 29), (1900, 2, 29), (2024, 13, 1), (2024, 0, 1), (2024, 4, 31), (0, 1, 1)]
        {
            assert_eq!(Date::new(year, month, day), None);
        }
    }

    #[test]
    fn ages() {
        let born = day(2008, 6, 15);
        assert_eq!(born.age_on(day(2026, 6, 14)), Some(17));
        assert_eq!(born.age_on(day(2026, 6, 15)), Some(18));
        assert_eq!(born.age_on(day(2008, 6, 15)), Some(0));
        assert_eq!(born.age_on(day(2008, 6, 14)), None);
        assert_eq!(day(2008, 2, 29).age_on(day(2026, 2, 28)), Some(17));
        assert_eq!(day(2008, 2, 29).age_on(day(2026, 3, 1)), Some(18));
    }

    #[test]
    fn the_century_of_a_birth_is_the_latest_that_is_not_in_the_future() {
        let today = day(2026, 11, 23);
        let year = |text: &[u8; 6]| read(text, DateKind::Birth, today).0.and_then(|date| date.year);
        assert_eq!(year(b"740812"), Some(1974));
        assert_eq!(year(b"261123"), Some(2026));
        assert_eq!(year(b"261124"), Some(1926));
        assert_eq!(year(b"26<<<<"), Some(2026));
        // A person of sixteen could be one of 116 years.
        let (young, fault) = read(b"100101", DateKind::Birth, today);
        assert_eq!((young.and_then(|date| date.alternative_year), fault), (Some(1910), NO_FAULT));
        assert_eq!(read(b"740812", DateKind::Birth, today).0.and_then(|date| date.alternative_year), None);
        // The rule depends on the day of the check only.
        assert_eq!(read(b"740812", DateKind::Birth, day(1999, 1, 1)).0.and_then(|date| date.year), Some(1974));
    }

    #[test]
    fn the_century_of_an_expiry_is_the_nearest() {
        let today = day(2026, 11, 23);
        let year = |text: &[u8; 6]| read(text, DateKind::Expiry, today).0.and_then(|date| date.year);
        assert_eq!(year(b"120415"), Some(2012));
        assert_eq!(year(b"961231"), Some(1996));
        assert_eq!(year(b"750101"), Some(2075));
        assert_eq!(year(b"760101"), Some(1976));
        assert_eq!(year(b"260101"), Some(2026));
    }

    #[test]
    fn unknown_and_impossible_parts_leave_the_rest() {
        let today = day(2026, 11, 23);
        let parts = |text: &[u8]| {
            let (date, fault) = read(text, DateKind::Birth, today);
            (date.map(|date| (date.year, date.month, date.day)), fault)
        };
        let (incomplete, impossible) = (Some(DateFault::Incomplete), Some(DateFault::Impossible));
        assert_eq!(parts(b"74<<<<"), (Some((Some(1974), None, None)), incomplete));
        assert_eq!(parts(b"7408<<"), (Some((Some(1974), Some(8), None)), incomplete));
        assert_eq!(parts(b"<<0812"), (Some((None, Some(8), Some(12))), incomplete));
        assert_eq!(parts(b"<<<<<<"), (None, incomplete));
        assert_eq!(parts(b"741312"), (Some((Some(1974), None, Some(12))), impossible));
        assert_eq!(parts(b"740231"), (Some((Some(1974), Some(2), None)), impossible));
        assert_eq!(parts(b"750229"), (Some((Some(1975), Some(2), None)), impossible));
        assert_eq!(parts(b"76O229"), (Some((Some(1976), None, Some(29))), impossible));
        assert_eq!(parts(b"7<0812"), (Some((None, Some(8), Some(12))), impossible));
        assert_eq!(parts(b"9409"), (Some((Some(1994), Some(9), None)), None));
    }
}
