//! Draws the documents of people and States that do not exist, with the truth about everything on them.
//!
//! Called by `vouch specimen`, by `photograph`, by tests and benchmarks. One seed is one person: the passport, the card, the licence and
//! the letter of a seed name the same holder. All States' designs are sums of waves and invented emblems; `SPECIMEN` is printed across
//! every page. Left out: the other pages of booklets, holograms that move, scripts other than Latin.
//!
//! Reading order: [`specimen`], `sheet` (prints fields and notes where), `passport`, `card`, `visa`, `licence`, `letter`, `portrait`,
//! `security`. Sources: ICAO Doc 9303 parts 3 to 7 (sizes, zones, captions), ISO/IEC 7810 (round corners), AAMVA DL/ID Card Design
//! Standard 2020 (data of the barcode).

mod card;
mod letter;
mod licence;
mod passport;
mod portrait;
pub(super) mod security;
mod sheet;
mod visa;

use super::person::{Person, STATES, State};
use super::random::Random;
use super::truth::PageTruth;
use crate::document::mrz::{Date, Format, Sex, transliterate};
use crate::imaging::Image;

/// The kinds of documents that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Identity card of 85.6 × 54 mm with three lines of MRZ on its back.
    Td1,
    /// Identity card of 105 × 74 mm.
    Td2,
    /// Data page of a passport.
    Td3,
    /// Visa of 120 × 80 mm.
    MrvA,
    /// Visa of 105 × 74 mm.
    MrvB,
    /// North American driving licence with a PDF417 on its back.
    Licence,
    /// Letter of a power company, as proof of an address.
    Letter,
}

impl Kind {
    pub const ALL: [Self; 7] = [Self::Td1, Self::Td2, Self::Td3, Self::MrvA, Self::MrvB, Self::Licence, Self::Letter];

    /// Stable name, such as `mrv-a`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Td1 => "td1",
            Self::Td2 => "td2",
            Self::Td3 => "td3",
            Self::MrvA => "mrv-a",
            Self::MrvB => "mrv-b",
            Self::Licence => "licence",
            Self::Letter => "letter",
        }
    }
}

/// Least and most dots to an inch.
pub const MIN_DPI: u32 = 72;
pub const MAX_DPI: u32 = 600;

/// What can be asked for beside kind and seed.
#[derive(Debug, Clone)]
pub struct Options {
    /// In place of the drawn portrait; its middle is cut to 35 × 45.
    pub portrait: Option<Image>,
    /// [`MIN_DPI`] to [`MAX_DPI`]; others are taken for the nearest of them.
    pub dpi: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { portrait: None, dpi: 300 }
    }
}

/// A drawn document.
#[derive(Debug, Clone)]
pub struct Specimen {
    pub kind: Kind,
    pub seed: u64,
    pub person: Person,
    /// Front first.
    pub pages: Vec<Page>,
}

/// One side of a document.
#[derive(Debug, Clone)]
pub struct Page {
    pub kind: Kind,
    /// White outside of round corners.
    pub image: Image,
    pub truth: PageTruth,
    /// Radius of the corners.
    pub corner_px: f64,
    pub px_per_mm: f64,
}

/// What a page needs to know.
struct Request {
    kind: Kind,
    seed: u64,
    person: Person,
    portrait: Image,
    px_per_mm: f32,
}

impl Request {
    /// The chance of one part of this document.
    fn random(&self, part: &str) -> Random {
        Random::new(self.seed, &format!("{} {part}", self.kind.name()))
    }
}

/// Draws a document.
pub fn specimen(kind: Kind, seed: u64, options: &Options) -> Specimen {
    let mut person = Person::new(&mut Random::new(seed, "person"));
    let mut numbers = Random::new(seed, &format!("{} number", kind.name()));
    match kind {
        Kind::Td3 | Kind::Letter => {}
        Kind::Td1 | Kind::Td2 => person.document_number = numbers.characters("CFGHJKLMNPRTVWXYZ0123456789", 9),
        Kind::MrvA | Kind::MrvB => {
            person.document_number = numbers.characters("0123456789", 9);
            // A visa is good for a year; days up to the 28th exist in each.
            let issue = person.issue;
            person.expiry = Date::new(issue.year() + 1, issue.month(), issue.day()).unwrap_or(person.expiry);
        }
        Kind::Licence => {
            person.document_number = format!("{}{}", numbers.character("DLNRSTX"), numbers.characters("0123456789", 8));
        }
    }
    let px_per_mm = options.dpi.clamp(MIN_DPI, MAX_DPI) as f32 / 25.4;
    let portrait = options.portrait.clone().unwrap_or_else(|| {
        let age = person.birth.age_on(person.issue).unwrap_or(40);
        // As wide as the widest place for it.
        portrait::portrait(person.sex, age, (34.0 * px_per_mm) as u32, &mut Random::new(seed, "portrait"))
    });
    let request = Request { kind, seed, person, portrait, px_per_mm };
    let pages = match kind {
        Kind::Td3 => vec![passport::page(&request)],
        Kind::Td1 => vec![card::front(&request), card::back(&request)],
        Kind::Td2 => vec![card::large(&request)],
        Kind::MrvA => vec![visa::page(&request, Format::MrvA)],
        Kind::MrvB => vec![visa::page(&request, Format::MrvB)],
        Kind::Licence => vec![licence::front(&request), licence::back(&request)],
        Kind::Letter => vec![letter::page(&request)],
    };
    Specimen { kind, seed, person: request.person, pages }
}

fn sex_letter(sex: Sex) -> &'static str {
    match sex {
        Sex::Male => "M",
        Sex::Female => "F",
        Sex::Unspecified => "X",
    }
}

/// Of what State somebody is, in the words of a document.
fn citizen(state: &State) -> &'static str {
    match state.code {
        "UTO" => "UTOPIAN",
        "XQA" => "ARCADIAN",
        "XQB" => "EREWHONIAN",
        _ => "LAPUTAN",
    }
}

/// A text as cards print it that know no accents.
fn plain(text: &str) -> String {
    // House numbers are no names; they stay.
    let word = |word: &str| transliterate(word).map_or_else(|| word.to_uppercase(), |spelt| spelt.replace('<', " "));
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Another State than this one.
fn neighbour(state: &State, random: &mut Random) -> State {
    let others: Vec<&State> = STATES.iter().filter(|other| other.code != state.code).collect();
    *others[random.below(others.len())]
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::document::barcode::{Luma, Request as BarcodeRequest, Symbology, read};
    use crate::document::{aamva, mrz};

    const SMALL: u32 = 72;

    fn small(kind: Kind, seed: u64) -> Specimen {
        specimen(kind, seed, &Options { dpi: SMALL, ..Options::default() })
    }

    fn bytes(made: &Specimen) -> Vec<u8> {
        made.pages.iter().flat_map(|page| page.image.rgb.iter().copied()).collect()
    }

    #[test]
    fn a_seed_draws_the_same_bytes_and_another_others() {
        for kind in Kind::ALL {
            let first = small(kind, 7);
            let again = small(kind, 7);
            assert!(bytes(&first) == bytes(&again), "{kind:?}");
            assert!(bytes(&first) != bytes(&small(kind, 8)), "{kind:?}");
            let truth =
                |made: &Specimen| -> Vec<PageTruth> { made.pages.iter().map(|page| page.truth.clone()).collect() };
            assert_eq!(truth(&first), truth(&again));
        }
    }

    /// Pinned: known documents stay known from version to version. Who changes a design on purpose writes the new value here.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_passport_has_the_bytes_it_always_had() {
        let made = specimen(Kind::Td3, 7, &Options { dpi: 100, ..Options::default() });
        let digest = Sha256::digest(&made.pages[0].image.rgb[..]);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "30279b26b8861fe8fd32f3d48741f6c728d1a21f52976cafbfa843511efa802c");
    }

    #[test]
    fn zone_and_print_agree() {
        for seed in 0..6 {
            for kind in [Kind::Td1, Kind::Td2, Kind::Td3, Kind::MrvA, Kind::MrvB] {
                let made = small(kind, seed);
                let zone = made.pages.iter().find_map(|page| page.truth.mrz.clone()).expect("a zone");
                let lines: Vec<&str> = zone.lines.iter().map(String::as_str).collect();
                let read = mrz::parse(&lines, made.person.issue).expect("an MRZ");
                assert!(read.all_check_digits_valid(), "{lines:?}");
                assert_eq!(read.format.name(), zone.format);
                let printed: Vec<_> = made.pages.iter().flat_map(|page| page.truth.fields.clone()).collect();
                let value = |name: &str| &printed.iter().find(|field| field.name == name).expect(name).value;
                for field in crate::document::fields::of_mrz(&read) {
                    let said = field.value.unwrap_or_default();
                    match field.name {
                        "document_number" | "birth_date" | "expiry_date" | "sex" => {
                            assert_eq!(&said, value(field.name), "{kind:?} {}", field.name);
                        }
                        // A State that does not exist is known to nobody.
                        "nationality" => assert_eq!(&field.raw, value(field.name), "{kind:?}"),
                        "family_name" => assert!(mrz::names_agree(value(field.name), &said, false), "{said}"),
                        _ => {}
                    }
                }
            }
        }
    }

    #[test]
    fn the_barcode_is_read_and_says_what_is_printed() {
        let made = specimen(Kind::Licence, 5, &Options::default());
        let [front, back] = &made.pages[..] else { panic!("two pages") };
        let green = back.image.rgb.iter().skip(1).step_by(3).copied().collect();
        let grey = Luma::new(back.image.width, back.image.height, green).expect("a picture");
        let wanted = BarcodeRequest { wanted: vec![Symbology::Pdf417], ..BarcodeRequest::default() };
        let found = read(&grey, &wanted, &|| false).unwrap();
        let truth = back.truth.barcode.as_ref().expect("a barcode");
        assert_eq!(found.iter().map(|code| code.text.as_str()).collect::<Vec<_>>(), [truth.text.as_str()]);
        for (found, truth) in found[0].quad.iter().zip(truth.quad) {
            let away = (f64::from(found[0]) - truth[0]).abs() + (f64::from(found[1]) - truth[1]).abs();
            assert!(away < 12.0, "{found:?} {truth:?}");
        }
        let record = aamva::parse(&found[0].bytes).unwrap();
        // No jurisdiction that exists.
        assert_eq!(record.warnings, [aamva::AamvaWarning::UnknownIssuer]);
        let printed = |name: &str| &front.truth.fields.iter().find(|field| field.name == name).expect(name).value;
        for field in crate::document::fields::of_aamva(&record) {
            if matches!(
                field.name,
                "document_number" | "family_name" | "birth_date" | "expiry_date" | "issue_date" | "sex"
            ) {
                assert_eq!(field.value.as_ref(), Some(printed(field.name)), "{}", field.name);
            }
        }
    }

    #[test]
    fn what_is_printed_lies_within_the_page_and_off_the_zone() {
        for (kind, seed) in Kind::ALL.into_iter().flat_map(|kind| (0..8).map(move |seed| (kind, seed))) {
            for page in &small(kind, seed).pages {
                let [width, height] = [page.image.width, page.image.height].map(f64::from);
                assert_eq!(page.truth.size_px, [page.image.width, page.image.height]);
                for (name, quad) in page.truth.quads() {
                    let what = format!("{kind:?} {seed} {name} {quad:?}");
                    assert!(
                        quad.iter().all(|[x, y]| (0.0..=width).contains(x) && (0.0..=height).contains(y)),
                        "{what}"
                    );
                    assert!(quad[0][0] < quad[1][0] && quad[0][1] < quad[3][1], "{what}");
                }
                let lines = page.truth.mrz.iter().flat_map(|mrz| &mrz.quads);
                let top = lines.map(|quad| quad[0][1]).fold(f64::MAX, f64::min);
                assert!(page.truth.fields.iter().all(|field| field.quad[3][1] < top), "{kind:?} {seed}");
                // No value is printed over another.
                for (index, a) in page.truth.fields.iter().enumerate() {
                    for b in &page.truth.fields[index + 1..] {
                        let apart =
                            (0..2).any(|axis| a.quad[2][axis] < b.quad[0][axis] || b.quad[2][axis] < a.quad[0][axis]);
                        assert!(apart, "{kind:?} {seed}: {} and {}", a.name, b.name);
                    }
                }
            }
        }
    }

    #[test]
    fn a_given_picture_takes_the_place_of_the_portrait() {
        let blue = Image::build(90, 200, |rgb| {
            rgb.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&[20, 40, 200]))
        });
        let options = Options { portrait: Some(blue), dpi: SMALL };
        for kind in [Kind::Td1, Kind::Td2, Kind::Td3, Kind::MrvA, Kind::MrvB, Kind::Licence] {
            let made = specimen(kind, 3, &options);
            let page = &made.pages[0];
            let quad = page.truth.portrait_quad.expect("a portrait");
            let [x, y] = [0, 1].map(|axis: usize| ((quad[0][axis] + quad[2][axis]) / 2.0) as u32);
            assert_eq!(page.image.pixel(x, y), [20, 40, 200], "{kind:?}");
        }
    }
}
