//! A North American driving licence of a jurisdiction that does not exist: 85.6 × 53.98 mm, a PDF417 on its back.
//!
//! Called by `specimen`. The numbers before the captions and the data of the barcode follow the AAMVA DL/ID Card Design Standard (2020),
//! annexes A and D. The issuer's number begins with 9999: the first 9 announces a number that a country gives out itself, and 999 is
//! among the country numbers that ISO 3166-1 leaves to users, so nobody issues under it.

use tiny_skia::{PathBuilder, Rect};

use super::card::SMALL_MM;
use super::sheet::{CARD_CORNER_MM, Entry, Sheet};
use super::{Page, Request, plain, security, sex_letter};
use crate::document::aamva::{self, CardKind, Colour, Height};
use crate::document::mrz::{Date, Sex};
use crate::specimen::canvas::{Canvas, Ink, Lettering};
use crate::specimen::font::Font;
use crate::specimen::person::STATES;
use crate::specimen::random::Random;

/// The facts of the licence, the same on both sides.
fn facts(request: &Request) -> aamva::Specimen {
    let person = &request.person;
    let mut random = request.random("facts");
    let day = |date: Date| Some(aamva::Date { year: date.year(), month: date.month(), day: date.day() });
    let given = plain(&person.given_names);
    let (first, middle) = given.split_once(' ').unwrap_or((&given, ""));
    let issuer = (1..).zip(&STATES).find(|(_, state)| state.code == person.state.code).map_or(1, |(number, _)| number);
    aamva::Specimen {
        version: 10,
        jurisdiction_version: 1,
        iin: 999_900 + issuer,
        kind: CardKind::DrivingLicence,
        number: person.document_number.clone(),
        family_name: plain(&person.surname),
        given_name: first.to_owned(),
        middle_names: middle.to_owned(),
        suffix: String::new(),
        birth: day(person.birth),
        expiry: day(person.expiry),
        issue: day(person.issue),
        card_revision: day(Date::new(2018, 4, 16).unwrap_or(person.issue)),
        sex: Some(match person.sex {
            Sex::Male => aamva::Sex::Male,
            Sex::Female => aamva::Sex::Female,
            Sex::Unspecified => aamva::Sex::NotSpecified,
        }),
        eyes: Some([Colour::Brown, Colour::Blue, Colour::Green, Colour::Hazel, Colour::Gray][random.below(5)]),
        hair: None,
        height: Some(Height::Inches((f64::from(person.height_cm) / 2.54).round() as u16)),
        street_1: plain(&person.street),
        street_2: String::new(),
        city: plain(person.place_of_birth),
        postal_code: format!("{}0000", person.post_code),
        document_discriminator: random.characters("0123456789", 12),
        vehicle_class: ["C", "D", "M"][random.below(3)].to_owned(),
        restrictions: ["NONE", "B", "A"][random.below(3)].to_owned(),
        endorsements: "NONE".to_owned(),
        own: Vec::new(),
    }
}

fn ground(request: &Request, side: &'static str, random: &mut Random) -> Sheet {
    let state = &request.person.state;
    let mut sheet = Sheet::new(request, side, SMALL_MM, state.paper, random);
    let mut design = Random::new(3, &format!("{} {side}", state.code));
    security::background(&mut sheet.canvas, [0.0, 0.0, SMALL_MM[0], SMALL_MM[1]], state, &mut design);
    security::grain(&mut sheet.canvas, random);
    sheet.style.caption_mm = 1.6;
    sheet.style.value_mm = 2.55;
    sheet
}

/// The side with the portrait.
pub fn front(request: &Request) -> Page {
    let person = &request.person;
    let facts = facts(request);
    let mut sheet = ground(request, "front", &mut request.random("front"));
    let dark = sheet.style.caption;
    let [width, height] = SMALL_MM;
    sheet.canvas.rectangle([0.0, 0.0, width, 8.4], Ink { opacity: 0.25, ..dark });
    let title = Lettering { font: Font::bold(), size_mm: 4.6, ink: dark };
    let taken = sheet.canvas.text(&person.state.name.to_uppercase(), [4.4, 6.3], title);
    sheet.canvas.text("DRIVER LICENSE", [taken + 8.0, 6.3], Lettering { size_mm: 2.9, ..title });
    let state = person.state;
    security::emblem(&mut sheet.canvas, [width - 8.5, 14.6], 4.6, &state, Ink { opacity: 0.6, ..dark });
    sheet.portrait(&request.portrait, [4.2, 11.0, 23.2, 29.8]);
    sheet.ghost(&request.portrait, [68.6, 33.6, 12.6, 16.2], dark.rgb);

    let left = 30.0;
    let date = |date: Date| format!("{:02}/{:02}/{}", date.month(), date.day(), date.year());
    let day = |caption, name, of: Date| Entry::of(caption, name, of.to_string(), date(of));
    sheet.inline(&Entry::plain("4d DLN", "document_number", &*facts.number), [left, 12.8], 34.0);
    sheet.inline(&day("3 DOB", "birth_date", person.birth), [left, 16.6], 30.0);
    sheet.inline(&day("4b EXP", "expiry_date", person.expiry), [left, 20.4], 26.0);
    sheet.inline(&day("4a ISS", "issue_date", person.issue), [left + 25.0, 20.4], 26.0);
    sheet.inline(&Entry::plain("1", "family_name", &*facts.family_name), [left, 24.6], 50.0);
    let given = [facts.given_name.as_str(), &facts.middle_names].join(" ");
    sheet.inline(&Entry::plain("2", "given_names", given.trim()), [left, 28.4], 50.0);
    let lines = [facts.street_1.clone(), format!("{}, {} {}", facts.city, state.code, person.post_code)];
    sheet.caption("8", [left, 32.6], 3.0);
    sheet.block(&Entry::of("8", "address", lines.join(", "), lines.join("\n")), [left + 1.7, 32.6], 3.3, 36.0);
    sheet.inline(&Entry::plain("15 SEX", "sex", sex_letter(person.sex)), [left, 40.6], 12.0);
    let inches = match facts.height {
        Some(Height::Inches(inches)) => inches,
        _ => 0,
    };
    sheet.inline(&Entry::other("16 HGT", format!("{}'-{:02}\"", inches / 12, inches % 12)), [left + 12.0, 40.6], 16.0);
    let eyes = match facts.eyes {
        Some(Colour::Blue) => "BLU",
        Some(Colour::Green) => "GRN",
        Some(Colour::Hazel) => "HAZ",
        Some(Colour::Gray) => "GRY",
        _ => "BRO",
    };
    sheet.inline(&Entry::other("18 EYES", eyes), [left + 26.5, 40.6], 12.0);
    sheet.inline(&Entry::other("9 CLASS", &*facts.vehicle_class), [left, 44.6], 12.0);
    sheet.inline(&Entry::other("12 REST", &*facts.restrictions), [left + 12.0, 44.6], 14.0);
    sheet.inline(&Entry::other("9a END", &*facts.endorsements), [left + 26.5, 44.6], 12.0);
    sheet.inline(&Entry::other("5 DD", &*facts.document_discriminator), [left, 48.6], 34.0);
    sheet.signature([4.4, 41.8, 23.0, 8.0], &mut request.random("signature"));
    sheet.overprint([28.0, 8.0, width - 28.0, height - 8.0]);
    sheet.finish(CARD_CORNER_MM)
}

/// The side with the barcode.
pub fn back(request: &Request) -> Page {
    let mut sheet = ground(request, "back", &mut request.random("back"));
    let facts = facts(request);
    // The writer knows the countries of existing issuers alone; ours has a code of the same length.
    let text = aamva::write(&facts).replace("\nDCGUSA\n", &format!("\nDCG{}\n", request.person.state.code));
    let [width, height] = SMALL_MM;
    let quiet = 1.2;
    let symbol = Symbol::pdf417(&text);
    let area = [5.4, 5.4, width - 10.8, (width - 10.8) * symbol.height as f32 / symbol.width as f32];
    let around = [area[0] - quiet, area[1] - quiet, area[2] + 2.0 * quiet, area[3] + 2.0 * quiet];
    sheet.canvas.rectangle(around, Ink::solid([252, 252, 252]));
    symbol.draw(&mut sheet.canvas, area);
    sheet.has_barcode("PDF417", text, area);

    let dark = sheet.style.caption;
    let below = area[1] + area[3];
    let lettering = Lettering { font: Font::text(), size_mm: 1.7, ink: dark };
    let lines = [
        "CLASS: C passenger vehicles and light trucks; D and M as noted.",
        "RESTRICTIONS: A none; B corrective lenses.   ENDORSEMENTS: none.",
        "This card belongs to nobody. It is a specimen of a State that does not exist.",
    ];
    for (row, line) in lines.into_iter().enumerate() {
        sheet.canvas.text(line, [5.4, below + 5.0 + 2.8 * row as f32], lettering);
    }
    let number = request.random("inventory").characters("0123456789", 14);
    sheet.canvas.text(
        &number,
        [5.4, height - 3.6],
        Lettering { font: Font::ocr_b(), size_mm: 2.4, ink: Ink::solid([22, 22, 26]) },
    );
    let state = request.person.state;
    security::emblem(&mut sheet.canvas, [width - 11.0, height - 9.5], 5.4, &state, Ink { opacity: 0.6, ..dark });
    sheet.overprint([0.0, below + 1.0, width, height - below - 1.0]);
    sheet.finish(CARD_CORNER_MM)
}

/// The modules of a barcode, without a quiet zone.
struct Symbol {
    width: usize,
    height: usize,
    dark: Vec<bool>,
}

impl Symbol {
    fn pdf417(text: &str) -> Self {
        // Thirteen columns of codewords: the symbol is as wide as a card and leaves room below; level 5 is what AAMVA asks for at this
        // length.
        let creator = zxingcpp::create(zxingcpp::BarcodeFormat::PDF417).options("columns=13,ecLevel=5");
        let drawn = creator
            .from_slice(text.as_bytes())
            .and_then(|code| code.to_image_with(&zxingcpp::write().scale(1).add_quiet_zones(false)));
        // It holds up to 1100 bytes, and a licence of ours has less than half of it.
        let image = drawn.expect("the data of a licence fit into a PDF417");
        let [width, height] = [image.width(), image.height()].map(|side| side as usize);
        Self { width, height, dark: image.data().iter().map(|&value| value < 128).collect() }
    }

    fn draw(&self, canvas: &mut Canvas, [x, y, width, height]: [f32; 4]) {
        let [across, down] = [width / self.width as f32, height / self.height as f32];
        let rows: Vec<&[bool]> = self.dark.chunks_exact(self.width).collect();
        let mut path = PathBuilder::new();
        let mut top = 0;
        while top < rows.len() {
            // Equal rows are drawn as one.
            let tall = rows[top..].iter().take_while(|row| *row == &rows[top]).count();
            let mut column = 0;
            while column < self.width {
                let run = rows[top][column..].iter().take_while(|dark| **dark == rows[top][column]).count();
                let left = x + column as f32 * across;
                let bar = Rect::from_xywh(left, y + top as f32 * down, run as f32 * across, tall as f32 * down);
                if let (true, Some(bar)) = (rows[top][column], bar) {
                    path.push_rect(bar);
                }
                column += run;
            }
            top += tall;
        }
        security::fill(canvas, path, Ink::solid([16, 16, 18]));
    }
}
