//! Makes AAMVA texts out of fields.
//!
//! Called by tests and by whoever draws specimens; the daemon itself never writes one. It follows the edition asked for: names in
//! one element in version 1, given names in one element in versions 2 and 3, truncation flags from version 4 on; the year first in
//! version 1 and in Canada. Source: as `parse`.

use super::jurisdiction;
use super::{CardKind, Colour, Date, Height, Sex};

/// What to write. Empty texts and `None` leave the element out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specimen {
    /// 1 to 10.
    pub version: u8,
    /// 0 to 99; not written in version 1.
    pub jurisdiction_version: u8,
    /// Six digits; it decides over country and order of dates.
    pub iin: u32,
    pub kind: CardKind,
    pub number: String,
    pub family_name: String,
    pub given_name: String,
    pub middle_names: String,
    pub suffix: String,
    pub birth: Option<Date>,
    pub expiry: Option<Date>,
    pub issue: Option<Date>,
    pub card_revision: Option<Date>,
    pub sex: Option<Sex>,
    pub eyes: Option<Colour>,
    pub hair: Option<Colour>,
    pub height: Option<Height>,
    pub street_1: String,
    pub street_2: String,
    pub city: String,
    pub postal_code: String,
    pub document_discriminator: String,
    pub vehicle_class: String,
    pub restrictions: String,
    pub endorsements: String,
    /// Elements of the jurisdiction's own subfile: third character of the name, and text.
    pub own: Vec<(char, String)>,
}

/// The text of a barcode with true offsets and lengths, in bytes of its UTF-8 form. Control characters in the fields are left out.
pub fn write(specimen: &Specimen) -> String {
    let issuer = jurisdiction::by_iin(specimen.iin);
    let country = issuer.map_or("USA", |issuer| issuer.country);
    let first = specimen.version <= 1;
    let date = |date: Option<Date>| {
        date.map_or(String::new(), |Date { year, month, day }| match first || country == "CAN" {
            true => format!("{year:04}{month:02}{day:02}"),
            false => format!("{month:02}{day:02}{year:04}"),
        })
    };
    let given = [specimen.given_name.as_str(), &specimen.middle_names].join(",");
    let mut elements: Vec<(&str, String)> = vec![("DAQ", specimen.number.clone())];
    match specimen.version {
        ..=1 => elements.push(("DAA", [&specimen.family_name, given.as_str(), &specimen.suffix].join(","))),
        2..=3 => elements.extend([("DCS", specimen.family_name.clone()), ("DCT", given)]),
        4.. => elements.extend([
            ("DCS", specimen.family_name.clone()),
            ("DDE", "N".to_owned()),
            ("DAC", specimen.given_name.clone()),
            ("DDF", "N".to_owned()),
            // The standard's word for no middle name; without it a last letter of the given name would be taken for one.
            ("DAD", if specimen.middle_names.is_empty() { "NONE".to_owned() } else { specimen.middle_names.clone() }),
            ("DDG", "N".to_owned()),
        ]),
    }
    if !first {
        elements.push(("DCU", specimen.suffix.clone()));
        elements.push(("DCF", specimen.document_discriminator.clone()));
        elements.push(("DCG", country.to_owned()));
        elements.push(("DDB", date(specimen.card_revision)));
    }
    let [class, restrictions, endorsements] = if first { ["DAR", "DAS", "DAT"] } else { ["DCA", "DCB", "DCD"] };
    elements.extend([
        (class, specimen.vehicle_class.clone()),
        (restrictions, specimen.restrictions.clone()),
        (endorsements, specimen.endorsements.clone()),
        ("DBB", date(specimen.birth)),
        ("DBA", date(specimen.expiry)),
        ("DBD", date(specimen.issue)),
        ("DBC", specimen.sex.map_or("", |sex| sex_code(sex, first)).to_owned()),
        ("DAY", specimen.eyes.map_or("", colour_code).to_owned()),
        ("DAZ", specimen.hair.map_or("", colour_code).to_owned()),
        ("DAG", specimen.street_1.clone()),
        ("DAH", specimen.street_2.clone()),
        ("DAI", specimen.city.clone()),
        ("DAJ", issuer.map_or("", |issuer| issuer.code).to_owned()),
        ("DAK", specimen.postal_code.clone()),
    ]);
    match specimen.height {
        Some(Height::Inches(inches)) if first => elements.push(("DAU", format!("{}{:02}", inches / 12, inches % 12))),
        Some(Height::Inches(inches)) => elements.push(("DAU", format!("{inches:03} IN"))),
        Some(Height::Centimetres(height)) if first => elements.push(("DAV", format!("{height:03}"))),
        Some(Height::Centimetres(height)) => elements.push(("DAU", format!("{height:03} CM"))),
        None => {}
    }
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let lines = elements.iter().filter(|(_, text)| !text.is_empty());
    let main_kind = match specimen.kind {
        CardKind::DrivingLicence => "DL",
        CardKind::IdentityCard => "ID",
        CardKind::Enhanced => "EN",
    };
    let main = lines.map(|(id, text)| format!("{id}{}", clean(text))).collect::<Vec<_>>().join("\n");
    let mut subfiles = vec![(main_kind.to_owned(), format!("{main_kind}{main}\r"))];
    if !specimen.own.is_empty() {
        let kind = format!("Z{}", issuer.and_then(|issuer| issuer.code.chars().next()).unwrap_or('X'));
        let own = specimen.own.iter().map(|(letter, text)| format!("{kind}{letter}{}", clean(text)));
        let own = own.collect::<Vec<_>>().join("\n");
        subfiles.push((kind.clone(), format!("{kind}{own}\r")));
    }
    let version = match first {
        true => format!("{:02}{:02}", 1, subfiles.len()),
        false => format!("{:02}{:02}{:02}", specimen.version, specimen.jurisdiction_version.min(99), subfiles.len()),
    };
    let mut text = format!("@\n\u{1e}\rANSI {:06}{version}", specimen.iin % 1_000_000);
    let mut offset = text.len() + 10 * subfiles.len();
    for (kind, body) in &subfiles {
        text.push_str(&format!("{kind}{:04}{:04}", offset % 10_000, body.len() % 10_000));
        offset += body.len();
    }
    subfiles.into_iter().for_each(|(_, body)| text.push_str(&body));
    text
}

fn sex_code(sex: Sex, first_edition: bool) -> &'static str {
    match (sex, first_edition) {
        (Sex::Male, true) => "M",
        (Sex::Female, true) => "F",
        (Sex::Male, false) => "1",
        (Sex::Female, false) => "2",
        (Sex::NotSpecified, _) => "9",
    }
}

fn colour_code(colour: Colour) -> &'static str {
    match colour {
        Colour::Bald => "BAL",
        Colour::Black => "BLK",
        Colour::Blond => "BLN",
        Colour::Blue => "BLU",
        Colour::Brown => "BRO",
        Colour::Dichromatic => "DIC",
        Colour::Gray => "GRY",
        Colour::Green => "GRN",
        Colour::Hazel => "HAZ",
        Colour::Maroon => "MAR",
        Colour::Pink => "PNK",
        Colour::RedAuburn => "RED",
        Colour::Sandy => "SDY",
        Colour::White => "WHI",
    }
}
