//! Issuer identification numbers of the jurisdictions that issue AAMVA driving licences and identity cards.
//!
//! Read by `aamva` to name the issuer of a barcode and to fill in a country that the early versions do not carry. Source: AAMVA,
//! "Issuer Identification Numbers (IIN)", the list that Annex D.12.3 of the DL/ID Card Design Standard (2020) refers to. Numbers
//! that are not in the list are reported as unknown, never guessed.

/// One issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jurisdiction {
    /// Issuer identification number, six digits.
    pub iin: u32,
    /// Two-letter code as printed in the address of a card (`DAJ`).
    pub code: &'static str,
    /// ISO 3166-1 alpha-3 code of the country.
    pub country: &'static str,
    /// English name.
    pub name: &'static str,
}

/// The issuer with this number.
pub fn by_iin(iin: u32) -> Option<&'static Jurisdiction> {
    JURISDICTIONS.iter().find(|entry| entry.iin == iin)
}

/// The issuer with this two-letter code, in capitals.
pub fn by_code(code: &str) -> Option<&'static Jurisdiction> {
    JURISDICTIONS.iter().find(|entry| entry.code == code)
}

const fn usa(iin: u32, code: &'static str, name: &'static str) -> Jurisdiction {
    Jurisdiction { iin, code, country: "USA", name }
}

const fn can(iin: u32, code: &'static str, name: &'static str) -> Jurisdiction {
    Jurisdiction { iin, code, country: "CAN", name }
}

const fn mex(iin: u32, code: &'static str, name: &'static str) -> Jurisdiction {
    Jurisdiction { iin, code, country: "MEX", name }
}

static JURISDICTIONS: [Jurisdiction; 73] = [
    usa(636000, "VA", "Virginia"),
    usa(636001, "NY", "New York"),
    usa(636002, "MA", "Massachusetts"),
    usa(636003, "MD", "Maryland"),
    usa(636004, "NC", "North Carolina"),
    usa(636005, "SC", "South Carolina"),
    usa(636006, "CT", "Connecticut"),
    usa(636007, "LA", "Louisiana"),
    usa(636008, "MT", "Montana"),
    usa(636009, "NM", "New Mexico"),
    usa(636010, "FL", "Florida"),
    usa(636011, "DE", "Delaware"),
    can(636012, "ON", "Ontario"),
    can(636013, "NS", "Nova Scotia"),
    usa(636014, "CA", "California"),
    usa(636015, "TX", "Texas"),
    can(636016, "NL", "Newfoundland and Labrador"),
    can(636017, "NB", "New Brunswick"),
    usa(636018, "IA", "Iowa"),
    usa(636019, "GU", "Guam"),
    usa(636020, "CO", "Colorado"),
    usa(636021, "AR", "Arkansas"),
    usa(636022, "KS", "Kansas"),
    usa(636023, "OH", "Ohio"),
    usa(636024, "VT", "Vermont"),
    usa(636025, "PA", "Pennsylvania"),
    usa(636026, "AZ", "Arizona"),
    usa(636027, "DS", "United States Department of State"),
    can(636028, "BC", "British Columbia"),
    usa(636029, "OR", "Oregon"),
    usa(636030, "MO", "Missouri"),
    usa(636031, "WI", "Wisconsin"),
    usa(636032, "MI", "Michigan"),
    usa(636033, "AL", "Alabama"),
    usa(636034, "ND", "North Dakota"),
    usa(636035, "IL", "Illinois"),
    usa(636036, "NJ", "New Jersey"),
    usa(636037, "IN", "Indiana"),
    usa(636038, "MN", "Minnesota"),
    usa(636039, "NH", "New Hampshire"),
    usa(636040, "UT", "Utah"),
    usa(636041, "ME", "Maine"),
    usa(636042, "SD", "South Dakota"),
    usa(636043, "DC", "District of Columbia"),
    can(636044, "SK", "Saskatchewan"),
    usa(636045, "WA", "Washington"),
    usa(636046, "KY", "Kentucky"),
    usa(636047, "HI", "Hawaii"),
    can(636048, "MB", "Manitoba"),
    usa(636049, "NV", "Nevada"),
    usa(636050, "ID", "Idaho"),
    usa(636051, "MS", "Mississippi"),
    usa(636052, "RI", "Rhode Island"),
    usa(636053, "TN", "Tennessee"),
    usa(636054, "NE", "Nebraska"),
    usa(636055, "GA", "Georgia"),
    mex(636056, "CU", "Coahuila"),
    mex(636057, "HL", "Hidalgo"),
    usa(636058, "OK", "Oklahoma"),
    usa(636059, "AK", "Alaska"),
    usa(636060, "WY", "Wyoming"),
    usa(636061, "WV", "West Virginia"),
    usa(636062, "VI", "United States Virgin Islands"),
    can(604426, "PE", "Prince Edward Island"),
    usa(604427, "AS", "American Samoa"),
    can(604428, "QC", "Quebec"),
    can(604429, "YT", "Yukon"),
    usa(604430, "MP", "Northern Mariana Islands"),
    usa(604431, "PR", "Puerto Rico"),
    can(604432, "AB", "Alberta"),
    // Alberta's own number from before it had one of the ISO/IEC 7812 series; cards with it are in circulation.
    can(990876, "AB", "Alberta"),
    can(604433, "NU", "Nunavut"),
    can(604434, "NT", "Northwest Territories"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_unique_and_only_alberta_has_two() {
        let numbers: HashSet<u32> = JURISDICTIONS.iter().map(|entry| entry.iin).collect();
        let codes: HashSet<&str> = JURISDICTIONS.iter().map(|entry| entry.code).collect();
        assert_eq!((numbers.len(), codes.len()), (JURISDICTIONS.len(), JURISDICTIONS.len() - 1));
    }

    #[test]
    fn finds_a_province_and_no_stranger() {
        assert_eq!(by_iin(636012).map(|entry| (entry.code, entry.country)), Some(("ON", "CAN")));
        assert_eq!(by_code("TN").map(|entry| entry.iin), Some(636053));
        assert_eq!(by_iin(636999), None);
    }
}
