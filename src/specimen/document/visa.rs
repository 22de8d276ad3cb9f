//! Visas: MRV-A (120 × 80 mm) and MRV-B (105 × 74 mm), stickers that cover a page or a part of one.
//!
//! Called by `specimen`. Sizes and zones follow ICAO Doc 9303 part 7 section 3. The holder is a citizen of another of our States.

use super::sheet::{Entry, Sheet, ZONE_MM};
use super::{Page, Request, neighbour, security, sex_letter};
use crate::document::mrz::Format;
use crate::specimen::canvas::{Ink, Lettering};
use crate::specimen::font::Font;
use crate::specimen::random::Random;

pub fn page(request: &Request, format: Format) -> Page {
    let person = &request.person;
    let state = &person.state;
    let size_mm = if format == Format::MrvA { [120.0, 80.0] } else { [105.0, 74.0] };
    let [width, height] = size_mm;
    let mut random = request.random("front");
    let home = neighbour(state, &mut random);
    let mut sheet = Sheet::new(request, "front", size_mm, state.paper, &mut random);
    let mut design = Random::new(2, &format!("{} {width}", state.code));
    security::background(&mut sheet.canvas, [0.0, 0.0, width, height], state, &mut design);
    security::grain(&mut sheet.canvas, &mut random);
    sheet.style.caption_mm = 1.6;
    sheet.style.value_mm = 2.8;
    let dark = sheet.style.caption;
    security::emblem(&mut sheet.canvas, [8.0, 6.4], 4.4, state, Ink { opacity: 0.85, ..dark });
    let title = Lettering { font: Font::bold(), size_mm: 4.2, ink: dark };
    let taken = sheet.canvas.text("VISA", [14.5, 8.0], Lettering { size_mm: 6.2, ..title });
    sheet.canvas.text(&state.name.to_uppercase(), [18.0 + taken, 8.0], title);
    let number = Entry::plain("Visa No. / N° de visa", "document_number", &*person.document_number);
    sheet.entry(&number, [width - 30.0, 5.0], 26.0);
    let micro = format!("VISA {} SPECIMEN ", state.name.to_uppercase());
    security::microtext(&mut sheet.canvas, &micro, [3.0, 11.0], width - 9.0, Ink { opacity: 0.7, ..dark });

    let portrait_height = height - ZONE_MM - 15.5;
    let portrait = [4.5, 13.2, portrait_height * 35.0 / 45.0, portrait_height];
    sheet.portrait(&request.portrait, portrait);
    let left = portrait[0] + portrait[2] + 3.5;
    let middle = left + (width - left) * 0.5;
    let narrow = middle - left - 2.0;
    let pitch = (height - ZONE_MM - 15.0) / 6.0;
    let row = |row: u8| 14.6 + pitch * f32::from(row);
    let date = |date: crate::document::mrz::Date| (date.to_string(), sheet.style.date(date));
    let [birth, issue, expiry] = [person.birth, person.issue, person.expiry].map(date);
    sheet.entry(&Entry::other("Valid for / Valable pour", state.name.to_uppercase()), [left, row(0)], narrow);
    let category = ["TOURIST", "BUSINESS", "STUDENT", "TRANSIT"][random.below(4)];
    sheet.entry(&Entry::other("Type of visa / Type de visa", category), [middle, row(0)], narrow);
    sheet.entry(
        &Entry::of("Date of issue / Date de délivrance", "issue_date", issue.0, issue.1),
        [left, row(1)],
        narrow,
    );
    sheet.entry(
        &Entry::of("Valid until / Valable jusqu’au", "expiry_date", expiry.0, expiry.1),
        [middle, row(1)],
        narrow,
    );
    let entries = ["1", "2", "MULTIPLE"][random.below(3)];
    sheet.entry(&Entry::other("Number of entries / Nombre d’entrées", entries), [left, row(2)], narrow);
    let passport = random.characters("0123456789", 9);
    sheet.entry(&Entry::plain("Passport No. / N° de passeport", "passport_number", passport), [middle, row(2)], narrow);
    sheet.entry(&Entry::plain("Surname / Nom", "family_name", person.surname.to_uppercase()), [left, row(3)], narrow);
    let given = Entry::plain("Given names / Prénoms", "given_names", person.given_names.to_uppercase());
    sheet.entry(&given, [middle, row(3)], narrow);
    sheet.entry(&Entry::plain("Nationality / Nationalité", "nationality", home.code), [left, row(4)], narrow * 0.5);
    sheet.entry(&Entry::plain("Sex / Sexe", "sex", sex_letter(person.sex)), [left + narrow * 0.62, row(4)], 10.0);
    sheet.entry(
        &Entry::of("Date of birth / Date de naissance", "birth_date", birth.0, birth.1),
        [middle, row(4)],
        narrow,
    );
    sheet.caption("Remarks / Observations", [left, row(5)], narrow);
    let film = [portrait[0] + portrait[2] - 2.4, portrait[1] + portrait[3] - 5.0];
    security::film(&mut sheet.canvas, film, 4.0, &mut request.random("film"));
    sheet.overprint([left - 2.0, 8.0, width - left, height - ZONE_MM - 8.0]);
    let mut fields = person.fields(format);
    home.code.clone_into(&mut fields.nationality);
    sheet.zone(&fields, 4.0, &mut request.random("zone"));
    sheet.finish(0.0)
}
