//! Identity cards: TD1 (85.6 × 53.98 mm, round corners, the zone on the back) and TD2 (105 × 74 mm, the zone on the front).
//!
//! Called by `specimen`. Sizes and zones follow ICAO Doc 9303 parts 5 and 6 section 3; the places within the zones are ours.

use super::sheet::{CARD_CORNER_MM, Entry, Sheet, ZONE_MM};
use super::{Page, Request, citizen, security, sex_letter};
use crate::document::mrz::{Date, Format};
use crate::specimen::canvas::{Ink, Lettering};
use crate::specimen::font::Font;
use crate::specimen::random::Random;

/// ID-1 and ID-2 of ISO/IEC 7810.
pub const SMALL_MM: [f32; 2] = [85.6, 53.98];
const LARGE_MM: [f32; 2] = [105.0, 74.0];

/// The ground of a side of a State's cards, with its name.
fn ground(request: &Request, side: &'static str, size_mm: [f32; 2], random: &mut Random) -> Sheet {
    let state = &request.person.state;
    let mut sheet = Sheet::new(request, side, size_mm, state.paper, random);
    let mut design = Random::new(1, &format!("{} {side} {}", state.code, size_mm[0]));
    security::background(&mut sheet.canvas, [0.0, 0.0, size_mm[0], size_mm[1]], state, &mut design);
    security::grain(&mut sheet.canvas, random);
    sheet
}

fn header(sheet: &mut Sheet, request: &Request) {
    let state = &request.person.state;
    let [width, _] = sheet.size_mm;
    let dark = sheet.style.caption;
    // Two of the States print their name on a coloured bar.
    let is_bar = matches!(state.code, "XQA" | "XQC");
    let ink = if is_bar { Ink::solid([250, 250, 248]) } else { dark };
    if is_bar {
        sheet.canvas.rectangle([0.0, 0.0, width, 9.2], Ink { opacity: 0.85, ..dark });
    }
    security::emblem(&mut sheet.canvas, [6.6, 4.7], 3.5, state, ink);
    let title = Lettering { font: Font::bold(), size_mm: 3.4, ink };
    sheet.canvas.text(&state.name.to_uppercase(), [11.6, 4.6], title);
    sheet.canvas.text("IDENTITY CARD / CARTE D’IDENTITÉ", [11.6, 7.6], Lettering { size_mm: 2.1, ..title });
    let micro = format!("{} SPECIMEN ", state.name.to_uppercase());
    security::microtext(&mut sheet.canvas, &micro, [3.5, 9.9], width - 9.0, Ink { opacity: 0.7, ..dark });
}

/// One of the States puts the portrait to the right.
fn is_mirrored(request: &Request) -> bool {
    request.person.state.code == "XQA"
}

fn day(date: Date, sheet: &Sheet) -> (String, String) {
    (date.to_string(), sheet.style.date(date))
}

/// The side of a TD1 with the portrait.
pub fn front(request: &Request) -> Page {
    let person = &request.person;
    let mut random = request.random("front");
    let mut sheet = ground(request, "front", SMALL_MM, &mut random);
    sheet.style.caption_mm = 1.5;
    sheet.style.value_mm = 2.75;
    header(&mut sheet, request);
    let [width, height] = SMALL_MM;
    let is_mirrored = is_mirrored(request);
    let portrait = [if is_mirrored { width - 28.6 } else { 4.2 }, 13.2, 24.4, 31.4];
    sheet.portrait(&request.portrait, portrait);
    let left = if is_mirrored { 4.6 } else { 31.0 };
    let room = width - 35.0;
    let dark = sheet.style.caption;
    sheet.ghost(&request.portrait, [left + 38.5, 31.5, 12.0, 15.4], dark.rgb);

    let row = |row: u8| 13.4 + 6.7 * f32::from(row);
    let [birth, expiry] = [person.birth, person.expiry].map(|date| day(date, &sheet));
    sheet.entry(&Entry::plain("Surname / Nom", "family_name", person.surname.to_uppercase()), [left, row(0)], room);
    let given = Entry::plain("Given names / Prénoms", "given_names", person.given_names.to_uppercase());
    sheet.entry(&given, [left, row(1)], room);
    sheet.entry(&Entry::plain("Sex / Sexe", "sex", sex_letter(person.sex)), [left, row(2)], 9.0);
    let nationality = Entry::plain("Nationality / Nationalité", "nationality", person.state.code);
    sheet.entry(&nationality, [left + 11.0, row(2)], 16.0);
    sheet.entry(
        &Entry::of("Date of birth / Date de naiss.", "birth_date", birth.0, birth.1),
        [left + 29.0, row(2)],
        22.0,
    );
    let place = Entry::plain("Place of birth / Lieu de naissance", "birth_place", person.place_of_birth.to_uppercase());
    sheet.entry(&place, [left, row(3)], 36.0);
    let number = Entry::plain("Document No. / N° du document", "document_number", &*person.document_number);
    sheet.entry(&number, [left, row(4)], 18.5);
    sheet.entry(
        &Entry::of("Date of expiry / Date d’exp.", "expiry_date", expiry.0, expiry.1),
        [left + 20.0, row(4)],
        17.5,
    );
    sheet.caption("Signature of holder / Signature du titulaire", [left, row(5)], 34.0);
    sheet.signature([left, row(5) + 0.3, 25.0, 5.4], &mut request.random("signature"));

    let edge = if is_mirrored { portrait[0] + 2.6 } else { portrait[0] + portrait[2] - 2.6 };
    security::film(&mut sheet.canvas, [edge, 40.6], 4.2, &mut request.random("film"));
    sheet.overprint([left - 3.0, 9.0, room + 4.0, height - 9.0]);
    sheet.finish(CARD_CORNER_MM)
}

/// The side of a TD1 with the machine-readable zone.
pub fn back(request: &Request) -> Page {
    let person = &request.person;
    let mut random = request.random("back");
    let mut sheet = ground(request, "back", SMALL_MM, &mut random);
    sheet.style.caption_mm = 1.5;
    sheet.style.value_mm = 2.6;
    let [width, height] = SMALL_MM;
    let left = 5.0;
    let issue = day(person.issue, &sheet);
    sheet.caption("Address / Adresse", [left, 5.2], 30.0);
    let lines =
        [person.street.to_uppercase(), format!("{} {}", person.post_code, person.place_of_birth.to_uppercase())];
    sheet.block(&Entry::of("", "address", lines.join(", "), lines.join("\n")), [left, 8.4], 3.3, 42.0);
    sheet.entry(&Entry::of("Date of issue / Date de délivrance", "issue_date", issue.0, issue.1), [left, 16.0], 26.0);
    let tall = Entry::of("Height / Taille", "height", person.height_cm.to_string(), format!("{} cm", person.height_cm));
    sheet.entry(&tall, [left + 30.0, 16.0], 16.0);
    let authority = Entry::plain("Authority / Autorité", "authority", "REGISTRY OFFICE");
    sheet.entry(&authority, [left, 22.8], 28.0);
    if !person.personal_number.is_empty() {
        let number = Entry::plain("Personal No. / N° personnel", "personal_number", &*person.personal_number);
        sheet.entry(&number, [left + 30.0, 22.8], 22.0);
    }
    let state = person.state;
    let dark = sheet.style.caption;
    security::emblem(&mut sheet.canvas, [width - 13.0, 12.0], 8.0, &state, Ink { opacity: 0.7, ..dark });
    sheet.overprint([0.0, 0.0, width, height - ZONE_MM]);
    sheet.zone(&person.fields(Format::Td1), 4.0, &mut request.random("zone"));
    sheet.finish(CARD_CORNER_MM)
}

/// The front of a TD2.
pub fn large(request: &Request) -> Page {
    let person = &request.person;
    let mut random = request.random("front");
    let mut sheet = ground(request, "front", LARGE_MM, &mut random);
    sheet.style.caption_mm = 1.55;
    sheet.style.value_mm = 2.8;
    header(&mut sheet, request);
    let [width, height] = LARGE_MM;
    let is_mirrored = is_mirrored(request);
    let portrait = [if is_mirrored { width - 33.6 } else { 4.6 }, 12.0, 29.0, 37.2];
    sheet.portrait(&request.portrait, portrait);
    let left = if is_mirrored { 5.0 } else { 37.0 };
    let room = width - 41.0;
    let row = |row: u8| 13.0 + 6.5 * f32::from(row);
    let [birth, issue, expiry] = [person.birth, person.issue, person.expiry].map(|date| day(date, &sheet));
    sheet.entry(&Entry::plain("Surname / Nom", "family_name", person.surname.to_uppercase()), [left, row(0)], room);
    let given = Entry::plain("Given names / Prénoms", "given_names", person.given_names.to_uppercase());
    sheet.entry(&given, [left, row(1)], room);
    let nationality = Entry::of("Nationality / Nationalité", "nationality", person.state.code, citizen(&person.state));
    sheet.entry(&nationality, [left, row(2)], 28.0);
    sheet.entry(&Entry::plain("Sex / Sexe", "sex", sex_letter(person.sex)), [left + 32.0, row(2)], 14.0);
    sheet.entry(&Entry::of("Date of birth / Date de naissance", "birth_date", birth.0, birth.1), [left, row(3)], 28.0);
    let place = Entry::plain("Place of birth / Lieu de naissance", "birth_place", person.place_of_birth.to_uppercase());
    sheet.entry(&place, [left + 32.0, row(3)], 32.0);
    let number = Entry::plain("Document No. / N° du document", "document_number", &*person.document_number);
    sheet.entry(&number, [left, row(4)], 28.0);
    sheet.entry(
        &Entry::of("Date of issue / Date de délivrance", "issue_date", issue.0, issue.1),
        [left + 32.0, row(4)],
        32.0,
    );
    sheet.entry(
        &Entry::of("Date of expiry / Date d’expiration", "expiry_date", expiry.0, expiry.1),
        [left, row(5)],
        28.0,
    );
    sheet.caption("Signature / Signature", [left + 32.0, row(5)], 20.0);
    sheet.signature([left + 32.0, row(5) + 0.2, 24.0, 4.8], &mut request.random("signature"));
    let edge = if is_mirrored { portrait[0] + 2.6 } else { portrait[0] + portrait[2] - 2.6 };
    security::film(&mut sheet.canvas, [edge, 45.2], 4.2, &mut request.random("film"));
    sheet.overprint([left - 2.0, 9.0, room + 3.0, height - ZONE_MM - 9.0]);
    sheet.zone(&person.fields(Format::Td2), 4.0, &mut request.random("zone"));
    sheet.finish(CARD_CORNER_MM)
}
