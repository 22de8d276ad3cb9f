//! The data page of a passport: 125 × 88 mm, TD3.
//!
//! Called by `specimen`. Zones and captions follow ICAO Doc 9303 part 4 section 3; their places within the zones are ours.

use tiny_skia::PathBuilder;

use super::sheet::{Entry, Sheet, ZONE_MM};
use super::{Page, Request, citizen, security, sex_letter};
use crate::document::mrz::Format;
use crate::specimen::canvas::{Ink, Lettering};
use crate::specimen::font::Font;

const SIZE_MM: [f32; 2] = [125.0, 88.0];

pub fn page(request: &Request) -> Page {
    let person = &request.person;
    let state = &person.state;
    let mut random = request.random("design");
    let mut sheet = Sheet::new(request, "front", SIZE_MM, state.paper, &mut random);
    let [width, height] = SIZE_MM;
    // The design is that of the State, not of the holder.
    let mut design = super::Random::new(0, state.code);
    security::background(&mut sheet.canvas, [0.0, 0.0, width, height], state, &mut design);
    security::grain(&mut sheet.canvas, &mut random);
    let dark = sheet.style.caption;
    let micro = format!("{} SPECIMEN ", state.name.to_uppercase());
    security::microtext(
        &mut sheet.canvas,
        &micro,
        [2.0, height - ZONE_MM - 0.2],
        width - 6.0,
        Ink { opacity: 0.8, ..dark },
    );

    security::emblem(&mut sheet.canvas, [9.0, 7.4], 5.2, state, Ink { opacity: 0.85, ..dark });
    let title = Lettering { font: Font::bold(), size_mm: 4.6, ink: dark };
    sheet.canvas.text(&state.name.to_uppercase(), [16.0, 6.6], title);
    sheet.canvas.text("PASSPORT / PASSEPORT", [16.0, 10.6], Lettering { size_mm: 2.5, ..title });

    let portrait = [5.0, 15.2, 34.0, 43.7];
    sheet.portrait(&request.portrait, portrait);
    if design.chance(0.6) {
        let frame = PathBuilder::from_rect(
            tiny_skia::Rect::from_xywh(portrait[0], portrait[1], portrait[2], portrait[3])
                .expect("a portrait has an area"),
        );
        sheet.canvas.stroke(&frame, 0.18, Ink { opacity: 0.6, ..dark });
    }
    sheet.ghost(&request.portrait, [107.0, 44.5, 13.5, 17.3], dark.rgb);

    let columns = [43.0, 83.0];
    let (wide, narrow) = (width - columns[0] - 5.0, columns[1] - columns[0] - 2.0);
    sheet.entry(&Entry::other("Type / Type", "P"), [columns[0] + 14.0, 5.2], 12.0);
    sheet.entry(
        &Entry::plain("Code of issuing State / Code de l’État émetteur", "issuing_state", state.code),
        [71.0, 5.2],
        26.0,
    );
    sheet.entry(
        &Entry::plain("Passport No. / N° de passeport", "document_number", &*person.document_number),
        [99.0, 5.2],
        23.0,
    );

    let date = |date| (crate::document::mrz::Date::to_string(&date), sheet.style.date(date));
    let [birth, issue, expiry] = [person.birth, person.issue, person.expiry].map(date);
    let rows: [f32; 7] = std::array::from_fn(|row| 14.8 + 7.0 * row as f32);
    sheet.entry(
        &Entry::plain("Surname / Nom", "family_name", person.surname.to_uppercase()),
        [columns[0], rows[0]],
        wide,
    );
    sheet.entry(
        &Entry::plain("Given names / Prénoms", "given_names", person.given_names.to_uppercase()),
        [columns[0], rows[1]],
        wide,
    );
    sheet.entry(
        &Entry::of("Nationality / Nationalité", "nationality", state.code, citizen(state)),
        [columns[0], rows[2]],
        narrow,
    );
    if !person.personal_number.is_empty() {
        let number = Entry::plain("Personal No. / N° personnel", "personal_number", &*person.personal_number);
        sheet.entry(&number, [columns[1], rows[2]], narrow);
    }
    sheet.entry(
        &Entry::of("Date of birth / Date de naissance", "birth_date", birth.0, birth.1),
        [columns[0], rows[3]],
        narrow,
    );
    let height_cm =
        Entry::of("Height / Taille", "height", person.height_cm.to_string(), format!("{} cm", person.height_cm));
    sheet.entry(&height_cm, [columns[1], rows[3]], 20.0);
    sheet.entry(&Entry::plain("Sex / Sexe", "sex", sex_letter(person.sex)), [columns[0], rows[4]], 14.0);
    let place = Entry::plain("Place of birth / Lieu de naissance", "birth_place", person.place_of_birth.to_uppercase());
    sheet.entry(&place, [columns[0] + 17.0, rows[4]], 40.0);
    sheet.entry(
        &Entry::of("Date of issue / Date de délivrance", "issue_date", issue.0, issue.1),
        [columns[0], rows[5]],
        narrow,
    );
    let authority = Entry::plain("Authority / Autorité", "authority", "PASSPORT OFFICE");
    sheet.entry(&authority, [columns[1], rows[5]], 23.0);
    sheet.entry(
        &Entry::of("Date of expiry / Date d’expiration", "expiry_date", expiry.0, expiry.1),
        [columns[0], rows[6]],
        narrow,
    );
    sheet.caption("Signature of bearer / Signature du titulaire", [columns[1], rows[6]], 23.0);
    sheet.signature([columns[1], rows[6] + 0.2, 22.0, 6.4], &mut request.random("signature"));

    let mut film = request.random("film");
    security::film(
        &mut sheet.canvas,
        [portrait[0] + portrait[2] - 1.6, portrait[1] + portrait[3] - 5.0],
        4.8,
        &mut film,
    );
    sheet.overprint([40.0, 10.0, width - 40.0, height - ZONE_MM - 10.0]);
    sheet.zone(&person.fields(Format::Td3), 6.0, &mut request.random("zone"));
    sheet.finish(0.0)
}
