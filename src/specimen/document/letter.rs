//! A letter of a power company on A4, as people send it for proof of an address.
//!
//! Called by `specimen`. Its place for the address is that of a window envelope (DIN 5008 form B). The company does not exist.

use tiny_skia::PathBuilder;

use super::sheet::{Entry, Sheet};
use super::{Page, Request, security};
use crate::document::mrz::Date;
use crate::specimen::canvas::{Ink, Lettering};
use crate::specimen::font::Font;

const SIZE_MM: [f32; 2] = [210.0, 297.0];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub fn page(request: &Request) -> Page {
    let person = &request.person;
    let state = &person.state;
    let mut random = request.random("letter");
    let mut sheet = Sheet::new(request, "front", SIZE_MM, [253, 253, 251], &mut random);
    let [width, height] = SIZE_MM;
    let dark = sheet.style.caption;
    let black = Ink::solid([30, 30, 34]);
    let text = Lettering { font: Font::text(), size_mm: 4.0, ink: black };
    let bold = Lettering { font: Font::bold(), ..text };
    let small = Lettering { size_mm: 2.7, ink: Ink::solid([90, 92, 98]), ..text };
    sheet.style.value_mm = text.size_mm;
    sheet.style.value = black;

    let company =
        format!("{} {}", person.place_of_birth, ["Power & Light", "Water", "Energy", "Telephone"][random.below(4)]);
    let drop = [24.0, 24.0];
    if let Some(circle) = PathBuilder::from_circle(drop[0], drop[1], 8.0) {
        sheet.canvas.fill(&circle, dark);
    }
    security::rosette(&mut sheet.canvas, drop, 7.0, Ink::thin([255, 255, 255], 0.9), &mut random);
    sheet.canvas.text(&company, [36.0, 24.0], Lettering { size_mm: 7.4, ink: dark, ..bold });
    sheet.canvas.text("Customer service · P.O. Box 100 · www.example.org", [36.0, 30.0], small);
    sheet.canvas.rectangle([16.0, 36.0, width - 32.0, 0.5], dark);

    let full_name = format!("{} {}", person.given_names, person.surname);
    let place = [person.street.clone(), format!("{} {}", person.post_code, person.place_of_birth)];
    sheet.canvas.text(
        &format!("{company}, P.O. Box 100, {}", person.place_of_birth),
        [25.0, 50.0],
        Lettering { size_mm: 2.1, ..small },
    );
    sheet.value(&Entry::plain("", "full_name", full_name.clone()), [25.0, 58.0], 80.0);
    sheet.block(&Entry::of("", "address", place.join(", "), place.join("\n")), [25.0, 63.6], 5.6, 80.0);
    sheet.canvas.text(&state.name.to_uppercase(), [25.0, 74.8], text);

    // Within the first years of the document, so that both are good on one day.
    let month = random.between(1, 12);
    let date = Date::new(person.issue.year() + 1, month as u8, random.between(1, 28) as u8).unwrap_or(person.issue);
    let month_name = |month: u32| MONTHS[((month + 11) % 12) as usize];
    let printed = format!("{} {} {}", date.day(), month_name(u32::from(date.month())), date.year());
    let account = format!("{} {}", random.characters("0123456789", 4), random.characters("0123456789", 6));
    let facts = [
        Entry::of("Date", "issue_date", date.to_string(), printed),
        Entry::other("Customer number", account.clone()),
        Entry::other("Invoice", random.characters("0123456789", 8)),
    ];
    for (row, fact) in facts.iter().enumerate() {
        let y = 58.0 + 6.2 * row as f32;
        sheet.canvas.text(fact.caption, [128.0, y], small);
        sheet.value(fact, [160.0, y], 38.0);
    }

    sheet.canvas.text("Your statement", [25.0, 102.0], Lettering { size_mm: 5.6, ..bold });
    sheet.canvas.text(&format!("Dear {full_name},"), [25.0, 113.0], text);
    let before = (month + 10) % 12 + 1;
    for (row, line) in [
        format!(
            "this is what you used until the end of {}. The amount is due within fourteen days;",
            month_name(before)
        ),
        "nothing needs to be done if we may collect it from your account.".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        sheet.canvas.text(line, [25.0, 122.0 + 5.8 * row as f32], text);
    }

    let columns = [25.0, 88.0, 126.0, 162.0];
    let top = 140.0;
    sheet.canvas.rectangle([23.0, top, width - 46.0, 8.0], Ink { opacity: 0.16, ..dark });
    for (column, title) in columns.iter().zip(["Period", "Quantity", "Price", "Amount (EUR)"]) {
        sheet.canvas.text(title, [*column, top + 5.5], Lettering { size_mm: 3.5, ..bold });
    }
    let mut total = 0;
    for row in 0..4 {
        let y = top + 15.0 + 8.0 * row as f32;
        let (quantity, cents) = (random.between(110, 420), random.between(18, 39));
        let amount = quantity * cents;
        total += amount;
        let period = month_name((month + 7 + row) % 12 + 1);
        let money = |cents: u32| format!("{}.{:02}", cents / 100, cents % 100);
        for (column, cell) in
            columns.iter().zip([period.to_owned(), format!("{quantity} units"), money(cents), money(amount)])
        {
            sheet.canvas.text(&cell, [*column, y], Lettering { size_mm: 3.7, ..text });
        }
        sheet.canvas.rectangle([23.0, y + 2.4, width - 46.0, 0.12], Ink::solid([170, 172, 178]));
    }
    let y = top + 49.0;
    sheet.canvas.text("Total", [columns[0], y], bold);
    sheet.canvas.text(&format!("{}.{:02}", total / 100, total % 100), [columns[3], y], bold);
    sheet.canvas.rectangle([columns[3] - 2.0, y + 1.6, 28.0, 0.35], black);
    sheet.canvas.text("Yours sincerely", [25.0, 208.0], text);
    sheet.signature([25.0, 210.0, 42.0, 13.0], &mut random);
    sheet.canvas.text("Accounts department", [25.0, 230.0], text);
    sheet.canvas.rectangle([16.0, height - 26.0, width - 32.0, 0.25], dark);
    for (row, line) in [
        format!("{company} is not a company. This letter is a specimen: its holder, address and amounts are made up."),
        format!("Customer number {account} · page 1 of 1"),
    ]
    .iter()
    .enumerate()
    {
        sheet.canvas.text(line, [16.0, height - 20.0 + 4.2 * row as f32], small);
    }
    // Folded twice to fit the envelope.
    for share in [1.0 / 3.0, 2.0 / 3.0] {
        sheet.canvas.rectangle([0.0, height * share, width, 0.25], Ink::thin([120, 120, 126], 0.22));
        sheet.canvas.rectangle([0.0, height * share + 0.25, width, 0.9], Ink::thin([150, 150, 156], 0.08));
    }
    sheet.overprint([10.0, 90.0, width - 20.0, 130.0]);
    sheet.finish(0.0)
}
