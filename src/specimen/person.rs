//! People who do not exist, and the facts that their documents state.
//!
//! Called by the documents and by the maker of training strips. The States are ICAO's Utopia and codes that ISO 3166 leaves to users, so
//! that no document can be taken for that of an existing State.

use super::random::Random;
use crate::document::mrz::{Date, DateParts, Fields, Format, Sex};

/// Given names and surnames, in the spelling of the visual zone. Common ones of many languages, put together by chance.
const FEMALE: [&str; 24] = [
    "Anna Maria",
    "Zoë",
    "Ingrid",
    "Léa",
    "Fatima",
    "Mei",
    "Olena",
    "Sofía",
    "Aïcha",
    "Jūratė",
    "Chloé",
    "Nur",
    "Valentina",
    "Åsa",
    "Ewa",
    "Yuki",
    "Priya",
    "Eleni",
    "Birgül",
    "Ama",
    "Hanna-Liisa",
    "Rosalind",
    "Teresa",
    "Květa",
];
const MALE: [&str; 24] = [
    "Jan",
    "Matthias",
    "José Luis",
    "Øyvind",
    "Mehmet",
    "Wei",
    "Dmytro",
    "François",
    "Kwame",
    "Łukasz",
    "Tomáš",
    "Ahmed",
    "Giovanni",
    "Björn",
    "Arjun",
    "Ioannis",
    "Hiroshi",
    "Mihai",
    "Samuel",
    "Péter",
    "Niels-Christian",
    "Brendan",
    "Émile",
    "Žiga",
];
const SURNAMES: [&str; 36] = [
    "Eriksson",
    "Müller",
    "Nguyen",
    "García Márquez",
    "O’Connor",
    "Kowalczyk",
    "Öztürk",
    "Smith-Jones",
    "Papadopoulou",
    "Sørensen",
    "Yamada",
    "Ivanenko",
    "da Silva",
    "van der Berg",
    "Diallo",
    "Novák",
    "Szabó",
    "Rossi",
    "Dupont",
    "Haddad",
    "Chaudhary",
    "Wójcik",
    "Jõesaar",
    "Bērziņš",
    "Ionescu",
    "Hasanović",
    "Mensah",
    "Kim",
    "Lindqvist",
    "Ferreira",
    "Okafor",
    "Weißmüller",
    "Stevenson",
    "Al Rashid",
    "Quintanilla Xavier",
    "Zwyssig",
];
const PLACES: [&str; 14] = [
    "Zenith",
    "Amaurot",
    "Port Anyder",
    "Novigrad",
    "Lakeside",
    "Hythloday",
    "San Serriffe",
    "Kaltenberg",
    "Freiland",
    "Aurora",
    "Tamoé",
    "Whitebridge",
    "Ostrava Nova",
    "Kallipolis",
];

/// A State of our specimens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub code: &'static str,
    pub name: &'static str,
    /// Main colours of its documents: of the paper, and of its security print.
    pub paper: [u8; 3],
    pub print: [[u8; 3]; 2],
}

/// Utopia of ICAO Doc 9303, and friends whose codes are among those left to users by ISO 3166-1 (`XAA`–`XZZ`, here unassigned ones).
pub const STATES: [State; 4] = [
    State { code: "UTO", name: "Utopia", paper: [238, 232, 222], print: [[120, 150, 190], [200, 150, 140]] },
    State { code: "XQA", name: "Arcadia", paper: [228, 238, 226], print: [[110, 165, 120], [180, 170, 100]] },
    State { code: "XQB", name: "Erewhon", paper: [226, 232, 242], print: [[110, 130, 190], [150, 120, 170]] },
    State { code: "XQC", name: "Laputa", paper: [243, 228, 232], print: [[190, 110, 130], [120, 140, 180]] },
];

/// A person and the facts of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    pub surname: String,
    pub given_names: String,
    pub sex: Sex,
    pub birth: Date,
    pub place_of_birth: &'static str,
    pub state: State,
    pub issue: Date,
    pub expiry: Date,
    pub document_number: String,
    pub personal_number: String,
    pub height_cm: u32,
    pub street: String,
    pub post_code: String,
}

impl Person {
    /// A person with a document that was issued within the ten years before 2030 and is good for ten.
    pub fn new(random: &mut Random) -> Self {
        let sex = match random.below(20) {
            0 => Sex::Unspecified,
            1..=10 => Sex::Female,
            _ => Sex::Male,
        };
        let given = if sex == Sex::Male || sex == Sex::Unspecified && random.chance(0.5) { &MALE } else { &FEMALE };
        let mut given_names = random.pick(given).to_owned();
        if random.chance(0.25) {
            given_names = format!("{given_names} {}", random.pick(given));
        }
        let issued = random.between(2019, 2029);
        let age = random.between(16, 85);
        let birth = date(issued - age, random);
        let issue = date(issued, random);
        // The day before, ten years later, which exists in every year.
        let expiry = day(issued + 10, u32::from(issue.month()), u32::from(issue.day()).saturating_sub(1).max(1));
        let alphabet = if random.chance(0.5) { "0123456789" } else { "CFGHJKLMNPRTVWXYZ0123456789" };
        let length = if random.chance(0.15) { random.between(7, 8) } else { 9 } as usize;
        let house = random.between(1, 199);
        Self {
            surname: random.pick(&SURNAMES).to_owned(),
            given_names,
            sex,
            birth,
            place_of_birth: random.pick(&PLACES),
            state: STATES[if random.chance(0.6) { 0 } else { random.below(STATES.len()) }],
            issue,
            expiry,
            document_number: random.characters(alphabet, length),
            personal_number: if random.chance(0.6) { random.characters("0123456789", 10) } else { String::new() },
            height_cm: random.between(150, 203),
            street: format!("{house} {} Street", random.pick(&SURNAMES)),
            post_code: random.characters("0123456789", 5),
        }
    }

    /// What the machine-readable zone says.
    pub fn fields(&self, format: Format) -> Fields {
        let document_code = match format {
            Format::Td3 => "P",
            Format::MrvA | Format::MrvB => "V",
            _ => "ID",
        };
        let is_td3 = format == Format::Td3;
        Fields {
            format,
            document_code: document_code.to_owned(),
            issuing_state: self.state.code.to_owned(),
            primary: self.surname.clone(),
            secondary: self.given_names.clone(),
            document_number: self.document_number.clone(),
            nationality: self.state.code.to_owned(),
            birth: DateParts::from(self.birth),
            sex: self.sex,
            expiry: DateParts::from(self.expiry),
            optional_data: if is_td3 || format == Format::Td1 { self.personal_number.clone() } else { String::new() },
            optional_data_2: String::new(),
        }
    }
}

/// Some day of a year.
fn date(year: u32, random: &mut Random) -> Date {
    day(year, random.between(1, 12), random.between(1, 28))
}

fn day(year: u32, month: u32, day: u32) -> Date {
    // Years of four digits, months up to 12 and days up to 28 always make a date.
    Date::new(year as u16, month as u8, day as u8).expect("a day that exists")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::mrz::{find_state, generate, parse};

    #[test]
    fn people_are_plausible_and_their_zones_are_valid() {
        for seed in 0..300 {
            let person = Person::new(&mut Random::new(seed, "person"));
            assert!(person.birth < person.issue && person.issue < person.expiry, "{person:?}");
            for format in [Format::Td1, Format::Td2, Format::Td3, Format::MrvA, Format::MrvB] {
                let lines = generate(&person.fields(format)).unwrap();
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                let mrz = parse(&lines, person.issue).unwrap();
                assert!(mrz.all_check_digits_valid(), "{lines:?}");
            }
        }
    }

    #[test]
    fn no_document_is_that_of_an_existing_state() {
        use crate::document::mrz::StateKind;
        for state in STATES {
            let known = find_state(state.code);
            assert!(known.is_none_or(|known| known.kind == StateKind::Specimen), "{}", state.code);
        }
    }
}
