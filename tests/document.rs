//! Documents read by the real daemon with real models. The documents are drawn here.

mod common;
#[path = "common/drawn.rs"]
mod drawn;
#[path = "common/pages.rs"]
mod pages;

use bytes::Bytes;
use common::{Daemon, pdf, photo, png};
use drawn::drawn;
use image::{GrayImage, ImageFormat, RgbImage};
use pages::{card, on_a_table};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vouch::api::proto::document_part::Part;
use vouch::api::proto::verify_event::Event;
use vouch::api::proto::{
    CheckDigit, CheckResult, FieldSource, Media, MediaKind, Outcome, ReadDocumentRequest, ReadDocumentResponse,
    VerifyEvent, VerifyRequest,
};
use vouch::document::aamva::{self, CardKind, Date, Sex, Specimen};
use vouch::document::barcode;
use vouch::document::mrz::{self, DateParts, Fields, Format};
use vouch::imaging::Image;
use vouch::imaging::orient::{Rotation, rotate};
use vouch::specimen::document::{Kind, Options, specimen};
use vouch::specimen::photograph::{Shot, photograph};

/// The passport of ICAO Doc 9303 part 4, appendix A.
const PASSPORT: [&str; 2] =
    ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"];

async fn read(daemon: &Daemon, images: Vec<Bytes>, parts: &[&str]) -> Result<ReadDocumentResponse, Status> {
    let parts = parts.iter().map(|&part| part.to_owned()).collect();
    let mut client = daemon.client().await;
    client.read_document(ReadDocumentRequest { images, parts }).await.map(tonic::Response::into_inner)
}

fn value<'a>(read: &'a ReadDocumentResponse, source: FieldSource, name: &str) -> &'a str {
    read.fields.iter().find(|field| field.name == name && field.source() == source).map_or("", |field| &field.value)
}

#[tokio::test]
async fn a_passport_is_read_whichever_way_it_lies() {
    let daemon = Daemon::start();
    let upright = drawn(&PASSPORT);
    for rotation in [Rotation::R0, Rotation::R90, Rotation::R180, Rotation::R270] {
        let picture = rotate(&upright, rotation);
        let read = read(&daemon, vec![png(&picture)], &["mrz"]).await.unwrap();
        let mrz = read.pages[0].mrz.as_ref().unwrap_or_else(|| panic!("{rotation:?}: no zone"));
        assert_eq!(mrz.lines, PASSPORT, "{rotation:?}");
        assert!(mrz.check_digits_valid && mrz.composite() == CheckDigit::Valid, "{rotation:?}");
        let of_mrz = |name| value(&read, FieldSource::Mrz, name);
        assert_eq!((of_mrz("family_name"), of_mrz("given_names")), ("ERIKSSON", "ANNA MARIA"), "{rotation:?}");
        assert_eq!((of_mrz("birth_date"), of_mrz("expiry_date")), ("1974-08-12", "2012-04-15"), "{rotation:?}");
        // The zone lies where it was drawn, its first corner at the top left of the text.
        let back = rotation.inverse();
        let corner = back.apply_to_point([mrz.quad[0].x, mrz.quad[0].y], picture.width, picture.height);
        assert!((corner[0] - 40.0).abs() < 28.0 && (corner[1] - 60.0).abs() < 28.0, "{rotation:?}: {corner:?}");
        let roles: Vec<&str> = read.models.iter().map(|model| model.role.as_str()).collect();
        assert_eq!(roles, ["page_locator", "text_detector", "mrz_recogniser"]);
    }
}

#[tokio::test]
async fn the_back_of_a_licence_gives_its_fields() {
    let text = aamva::write(&Specimen {
        version: 10,
        jurisdiction_version: 2,
        iin: 636_014,
        kind: CardKind::DrivingLicence,
        number: "D1234567".into(),
        family_name: "SPECIMEN".into(),
        given_name: "ALEXANDRA".into(),
        middle_names: "MARIE ANN".into(),
        suffix: String::new(),
        birth: Some(Date { year: 1985, month: 1, day: 15 }),
        expiry: Some(Date { year: 2029, month: 1, day: 15 }),
        issue: Some(Date { year: 2019, month: 8, day: 24 }),
        card_revision: None,
        sex: Some(Sex::Female),
        eyes: None,
        hair: None,
        height: None,
        street_1: "1234 MAIN STREET".into(),
        street_2: String::new(),
        city: "SACRAMENTO".into(),
        postal_code: "958181234".into(),
        document_discriminator: "08242019534B1AAFD29".into(),
        vehicle_class: "C".into(),
        restrictions: String::new(),
        endorsements: String::new(),
        own: Vec::new(),
    });
    let symbol = zxingcpp::create(zxingcpp::BarcodeFormat::PDF417).from_slice(text.as_bytes()).unwrap();
    let image = symbol.to_image_with(&zxingcpp::write().scale(3).add_quiet_zones(true)).unwrap();
    let grey = GrayImage::from_raw(image.width() as u32, image.height() as u32, image.data()).unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    grey.write_to(&mut file, ImageFormat::Png).unwrap();
    let daemon = Daemon::start();
    let read = read(&daemon, vec![png(&drawn(&[])), file.into_inner().into()], &["barcode"]).await.unwrap();
    assert!(read.pages[0].barcodes.is_empty());
    assert_eq!(read.pages[0].warnings[0].code, "BARCODE_NOT_FOUND");
    let [barcode] = read.pages[1].barcodes.as_slice() else { panic!("{:?}", read.pages[1]) };
    assert_eq!((barcode.symbology.as_str(), barcode.content.as_str()), ("PDF417", "AAMVA"));
    assert_eq!(barcode.payload, text.as_bytes());
    for (name, expected) in [
        ("document_type", "driving_licence"),
        ("issuing_state", "USA"),
        ("issuing_jurisdiction", "CA"),
        ("document_number", "D1234567"),
        ("family_name", "SPECIMEN"),
        ("given_names", "ALEXANDRA"),
        ("middle_names", "MARIE ANN"),
        ("birth_date", "1985-01-15"),
        ("expiry_date", "2029-01-15"),
        ("issue_date", "2019-08-24"),
        ("sex", "F"),
        ("address_city", "SACRAMENTO"),
        ("address_jurisdiction", "CA"),
    ] {
        assert_eq!(value(&read, FieldSource::Barcode, name), expected, "{name}");
    }
    assert!(read.fields.iter().all(|field| field.page == 1 && field.source() == FieldSource::Barcode));
}

#[tokio::test]
async fn pictures_without_a_document_are_told_and_are_no_errors() {
    let daemon = Daemon::start();
    // A person, half a zone, text that is none, and a mirrored zone.
    let mirrored = {
        let image = drawn(&PASSPORT);
        let mut mirrored = RgbImage::from_raw(image.width, image.height, image.rgb.to_vec()).unwrap();
        image::imageops::flip_horizontal_in_place(&mut mirrored);
        Image { rgb: mirrored.into_raw().into(), ..image }
    };
    let half = drawn(&[&PASSPORT[0][..20], &PASSPORT[1][..20]]);
    let text = drawn(&["THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG", "PACK MY BOX WITH FIVE DOZEN LIQUOR JUGS NOW"]);
    for (what, image) in
        [("person", photo("selfie.jpg")), ("half", png(&half)), ("text", png(&text)), ("mirrored", png(&mirrored))]
    {
        let read = read(&daemon, vec![image], &["mrz"]).await.unwrap();
        let page = &read.pages[0];
        assert!(page.mrz.as_ref().is_none_or(|mrz| !mrz.check_digits_valid), "{what}: {:?}", page.mrz);
        if matches!(what, "person" | "text") {
            assert!(page.mrz.is_none(), "{what}: {:?}", page.mrz);
        }
        assert!(page.mrz.is_some() || page.warnings[0].code == "MRZ_NOT_FOUND", "{what}");
    }
    // A front camera's preview of a card is named as what it is.
    let (mut card, _) = card_on_a_table();
    image::imageops::flip_horizontal_in_place(&mut card);
    let read = read(&daemon, vec![encoded(&card)], &[]).await.unwrap();
    let codes: Vec<&str> = read.pages[0].warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["MRZ_NOT_FOUND", "BARCODE_NOT_FOUND", "MIRRORED"]);
    assert!(read.fields.is_empty(), "{:?}", read.fields);
}

#[tokio::test]
async fn odd_pictures_have_clear_results() {
    let daemon = Daemon::start();
    // Two documents: the zone of one of them, never a mixture.
    let other = valid_passport();
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    let (above, below) = (drawn(&PASSPORT), drawn(&other));
    let mut both =
        RgbImage::from_pixel(above.width.max(below.width), above.height + below.height + 200, image::Rgb([235; 3]));
    for (image, y) in [(&above, 0), (&below, i64::from(above.height) + 200)] {
        let image = RgbImage::from_raw(image.width, image.height, image.rgb.to_vec()).unwrap();
        image::imageops::replace(&mut both, &image, 0, y);
    }
    let answer = read(&daemon, vec![encoded(&both)], &["mrz"]).await.unwrap();
    let lines = &answer.pages[0].mrz.as_ref().unwrap().lines;
    assert!(*lines == PASSPORT || *lines == other, "{lines:?}");

    // One bit and sixteen bits to a sample.
    let picture = drawn(&PASSPORT);
    let grey = |x: u32, y: u32| picture.pixel(x, y)[0];
    let deep = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(picture.width, picture.height, |x, y| {
        image::Luma([u16::from(grey(x, y)) * 257])
    });
    let fax =
        GrayImage::from_fn(picture.width, picture.height, |x, y| image::Luma([if grey(x, y) > 128 { 255 } else { 0 }]));
    let mut files = [std::io::Cursor::new(Vec::new()), std::io::Cursor::new(Vec::new())];
    deep.write_to(&mut files[0], ImageFormat::Png).unwrap();
    fax.write_to(&mut files[1], ImageFormat::Tiff).unwrap();
    for file in files {
        let answer = read(&daemon, vec![file.into_inner().into()], &["mrz"]).await.unwrap();
        assert_eq!(
            answer.pages[0].mrz.as_ref().map(|mrz| mrz.lines.clone()),
            Some(PASSPORT.map(str::to_owned).to_vec())
        );
    }

    // Right check digits over days that do not exist.
    let absurd = ["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7413324F2999313ZE184226B<<<<<18"];
    let events = verify(&daemon, vec![(MediaKind::DocumentFront, png(&drawn(&absurd)))]).await;
    for (check, outcome) in [
        ("mrz", Outcome::Review),
        ("document", Outcome::Review),
        ("document_expiry", Outcome::Review),
        ("document_age", Outcome::Review),
    ] {
        assert_eq!(result(&events, check).outcome(), outcome, "{:?}", result(&events, check));
    }

    // More symbols than any document has.
    let symbol = zxingcpp::create(zxingcpp::BarcodeFormat::QRCode).from_slice(b"VOUCH").unwrap();
    let image = symbol.to_image_with(&zxingcpp::write().scale(3).add_quiet_zones(true)).unwrap();
    let tile = GrayImage::from_raw(image.width() as u32, image.height() as u32, image.data()).unwrap();
    let bomb = GrayImage::from_fn(tile.width() * 10, tile.height() * 10, |x, y| {
        *tile.get_pixel(x % tile.width(), y % tile.height())
    });
    let mut file = std::io::Cursor::new(Vec::new());
    bomb.write_to(&mut file, ImageFormat::Png).unwrap();
    let answer = read(&daemon, vec![file.into_inner().into()], &["barcode"]).await.unwrap();
    let found = answer.pages[0].barcodes.len();
    assert!((1..=usize::from(barcode::MAX_SYMBOLS)).contains(&found), "{found}");
}

#[tokio::test]
async fn requests_that_make_no_sense_name_the_field_and_the_next_one_is_answered() {
    let daemon = Daemon::start();
    let good = png(&drawn(&PASSPORT));
    for (images, parts, field) in [
        (vec![], &[][..], "images"),
        (vec![good.clone(); 5], &[], "images"),
        (vec![good.clone(), Bytes::new()], &[], "images[1]"),
        (vec![good.clone(), Bytes::from_static(b"text")], &[], "images[1]"),
        (vec![good.clone()], &["mrz", "photo"], "parts[1]"),
    ] {
        let refused = read(&daemon, images, parts).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        assert_eq!(refused.get_error_details().bad_request().unwrap().field_violations[0].field, field);
    }
    let read = read(&daemon, vec![good], &[]).await.unwrap();
    assert!(read.pages[0].mrz.as_ref().unwrap().check_digits_valid);
}

/// The lines of a passport of Utopia that is valid for five more years, and was so on the day the test was written.
fn valid_passport() -> Vec<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let today = mrz::Date::of_unix_time(now.as_secs());
    let date = |year, month, day| DateParts { year: Some(year), month: Some(month), day: Some(day) };
    mrz::generate(&Fields {
        format: Format::Td3,
        document_code: "P".into(),
        issuing_state: "UTO".into(),
        primary: "Specimen".into(),
        secondary: "Bernd Otto".into(),
        document_number: "P1234567".into(),
        nationality: "UTO".into(),
        birth: date(1961, 8, 4),
        sex: mrz::Sex::Male,
        expiry: date(today.year() + 5, 6, 30),
        optional_data: String::new(),
        optional_data_2: String::new(),
    })
    .unwrap()
}

/// A data page: a photograph above the lines of the zone.
fn data_page(photograph: &str, lines: &[String]) -> Bytes {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let zone = drawn(&lines);
    let face = image::load_from_memory(&photo(photograph)).unwrap().to_rgb8();
    let face =
        image::imageops::resize(&face, 420, 420 * face.height() / face.width(), image::imageops::FilterType::Triangle);
    let mut page = RgbImage::from_pixel(zone.width, face.height() + 60 + zone.height, image::Rgb([235; 3]));
    let zone = RgbImage::from_raw(zone.width, zone.height, zone.rgb.to_vec()).unwrap();
    image::imageops::replace(&mut page, &face, 50, 40);
    image::imageops::replace(&mut page, &zone, 0, i64::from(face.height()) + 60);
    let mut file = std::io::Cursor::new(Vec::new());
    page.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner().into()
}

/// A card with captions and a portrait, but without a zone, on a dark table: the picture, and the corners of the card.
fn card_on_a_table() -> (RgbImage, [[f64; 2]; 4]) {
    let picture = on_a_table(&card(&photo("portrait.jpg")), [1600, 1100], [340, 230]);
    (picture, [[340.0, 230.0], [1340.0, 230.0], [1340.0, 860.0], [340.0, 860.0]])
}

fn encoded(picture: &RgbImage) -> Bytes {
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner().into()
}

#[tokio::test]
async fn a_card_is_located_and_what_is_printed_on_it_is_read() {
    // Unoptimised and beside other tests, half a minute may not be enough.
    let daemon = Daemon::start_with(&[("VOUCH_LIMITS__MAX_REQUEST_SECONDS", "120")]);
    let (picture, corners) = card_on_a_table();
    let read = read(&daemon, vec![encoded(&picture)], &[]).await.unwrap();
    let page = &read.pages[0];
    let location = page.location.as_ref().unwrap_or_else(|| panic!("{read:?}"));
    for (found, [x, y]) in location.quad.iter().zip(corners) {
        assert!((found.x - x).hypot(found.y - y) < 8.0, "{:?}", location.quad);
    }
    assert!(!location.whole_picture && location.format == "ID_1" && location.confidence > 0.5, "{location:?}");
    for (name, expected) in [
        ("family_name", "SPECIMEN"),
        ("given_names", "BERND OTTO"),
        ("birth_date", "1961-08-04"),
        ("document_number", "P1234567"),
    ] {
        assert_eq!(value(&read, FieldSource::Visual, name), expected, "{name}");
    }
    let birth = read.fields.iter().find(|field| field.name == "birth_date").unwrap();
    let corner = &birth.quad[0];
    assert!((corner.x - 700.0).abs() < 25.0 && (corner.y - 605.0).abs() < 25.0, "{corner:?}");
    let portrait = page.portrait.as_ref().unwrap().face.as_ref().unwrap().r#box.unwrap();
    assert!((390.0..630.0).contains(&(portrait.x + portrait.width / 2.0)), "{portrait:?}");
    let codes: Vec<&str> = page.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["MRZ_NOT_FOUND", "BARCODE_NOT_FOUND"]);
}

#[tokio::test]
async fn the_outline_of_a_page_is_told_upright_also_upside_down() {
    let daemon = Daemon::start();
    let page = specimen(Kind::Td3, 23, &Options { dpi: 200, ..Options::default() }).pages.remove(0);
    for (seed, is_turned) in [(1, false), (3, true)] {
        let taken = photograph(&page, &Shot { seed, level: 1, size_px: [1280, 720] });
        let (truth, capture) = (&taken.truth, taken.truth.capture.as_ref().unwrap());
        assert_eq!((capture.angle_deg.abs() > 150.0, capture.corners_inside), (is_turned, 4), "{capture:?}");
        let read = read(&daemon, vec![taken.jpeg.clone().into()], &["mrz", "visual"]).await.unwrap();
        assert_eq!(read.pages[0].mrz.as_ref().unwrap().lines, truth.mrz.as_ref().unwrap().lines, "{seed}");
        let location = read.pages[0].location.as_ref().unwrap_or_else(|| panic!("{seed}: {read:?}"));
        assert!(location.upright && !location.whole_picture && location.format == "ID_2_OR_ID_3", "{location:?}");
        for (found, [x, y]) in location.quad.iter().zip(truth.document_quad) {
            assert!(
                (found.x - x).hypot(found.y - y) < 15.0,
                "{seed}: {:?} for {:?}",
                location.quad,
                truth.document_quad
            );
        }
    }
}

#[tokio::test]
async fn a_picture_of_a_person_has_no_outline() {
    let daemon = Daemon::start();
    let read = read(&daemon, vec![photo("selfie.jpg")], &["portrait", "visual"]).await.unwrap();
    assert_eq!(read.pages[0].location, None);
}

#[tokio::test]
async fn a_face_beside_the_document_is_not_its_portrait() {
    let daemon = Daemon::start();
    let (mut picture, _) = card_on_a_table();
    // The holder, larger than the portrait, beside the card.
    let holder = image::load_from_memory(&photo("selfie.jpg")).unwrap().to_rgb8();
    let holder = image::imageops::resize(&holder, 330, 420, image::imageops::FilterType::Triangle);
    image::imageops::replace(&mut picture, &holder, 0, 600);
    let read = read(&daemon, vec![encoded(&picture)], &["portrait", "visual"]).await.unwrap();
    let portrait = read.pages[0].portrait.as_ref().unwrap();
    let bounds = portrait.face.as_ref().unwrap().r#box.unwrap();
    assert!((390.0..630.0).contains(&(bounds.x + bounds.width / 2.0)), "{portrait:?}");
    assert!(portrait.further.is_empty(), "{portrait:?}");

    // A card without a portrait has none, whoever is beside it.
    image::imageops::replace(&mut picture, &RgbImage::from_pixel(260, 320, image::Rgb([235; 3])), 380, 360);
    let events =
        verify(&daemon, vec![(MediaKind::Selfie, photo("selfie.jpg")), (MediaKind::DocumentFront, encoded(&picture))])
            .await;
    let matched = result(&events, "face_match");
    assert_eq!(matched.outcome(), Outcome::Inconclusive, "{matched:?}");
    assert!(matched.warnings.iter().any(|warning| warning.code == "PORTRAIT_NOT_FOUND"), "{matched:?}");
}

#[tokio::test]
async fn a_pdf_file_is_as_many_pages_as_it_has() {
    let daemon = Daemon::start();
    let (zone, blank) = (drawn(&PASSPORT), Image::build(600, 400, |rgb| rgb.fill(255)));
    let front = png(&blank);
    let answer = read(&daemon, vec![front.clone(), pdf(&[&blank, &zone], "")], &["mrz"]).await.unwrap();
    assert_eq!(answer.pages.iter().map(|page| page.image).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(answer.pages[2].mrz.as_ref().map(|mrz| mrz.lines.clone()), Some(PASSPORT.map(str::to_owned).to_vec()));
    assert_eq!((answer.pages[2].width_px, answer.pages[2].height_px), (zone.width, zone.height));
    assert!(answer.fields.iter().all(|field| field.page == 2), "{:?}", answer.fields);
    let whole = pdf(&[&zone], "");
    for (images, field, code) in [
        (vec![pdf(&[&blank; 5], "")], "images[0]", "PDF_TOO_MANY_PAGES"),
        (vec![front.clone(), pdf(&[&blank; 4], "")], "images[1]", "DOCUMENT_TOO_MANY_PAGES"),
        (vec![pdf(&[&zone], "/Encrypt << /Filter /Standard /V 1 /R 2 >>")], "images[0]", "PDF_ENCRYPTED"),
        (vec![whole.slice(..whole.len() / 2)], "images[0]", "PDF_DAMAGED"),
    ] {
        let refused = read(&daemon, images, &[]).await.unwrap_err();
        let details = refused.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(code), "{refused:?}");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    // As a side of a verification, but not as a picture of a face.
    let events = verify(&daemon, vec![(MediaKind::DocumentFront, whole.clone())]).await;
    assert_eq!(result(&events, "mrz").outcome(), Outcome::Pass, "{:?}", result(&events, "mrz"));
    let media = vec![(MediaKind::Selfie, whole), (MediaKind::Portrait, photo("portrait.jpg"))];
    let refused = claiming(&daemon, media, &[]).await.unwrap_err();
    let reason = refused.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("IMAGE_UNSUPPORTED_FORMAT"), "{refused:?}");
}

async fn verify(daemon: &Daemon, media: Vec<(MediaKind, Bytes)>) -> Vec<VerifyEvent> {
    claiming(daemon, media, &[]).await.unwrap()
}

async fn claiming(
    daemon: &Daemon,
    media: Vec<(MediaKind, Bytes)>,
    claims: &[(&str, &str)],
) -> Result<Vec<VerifyEvent>, Status> {
    let media = media.into_iter().map(|(kind, data)| Media { kind: kind.into(), data }).collect();
    let claims = claims.iter().map(|&(name, value)| (name.into(), value.into())).collect();
    let mut client = daemon.client().await;
    let request = VerifyRequest { media, claims, ..VerifyRequest::default() };
    let mut stream = client.verify(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await? {
        events.push(event);
    }
    Ok(events)
}

fn result<'a>(events: &'a [VerifyEvent], check: &str) -> &'a CheckResult {
    let found = events.iter().find_map(|event| match event.event.as_ref().unwrap() {
        Event::Result(result) if result.check == check => Some(result),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no result of {check}: {events:?}"))
}

fn place(events: &[VerifyEvent], is_it: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(|event| is_it(event.event.as_ref().unwrap())).unwrap_or_else(|| panic!("{events:?}"))
}

#[tokio::test]
async fn a_passport_and_a_selfie_make_a_whole_verification() {
    let daemon = Daemon::start();
    let lines = valid_passport();
    let page = data_page("portrait.jpg", &lines);
    let media = vec![(MediaKind::Selfie, photo("selfie.jpg")), (MediaKind::DocumentFront, page.clone())];
    let events = verify(&daemon, media).await;
    for (check, outcome) in [
        ("face_match", Outcome::Pass),
        ("mrz", Outcome::Pass),
        ("barcode", Outcome::Skipped),
        ("document_expiry", Outcome::Pass),
        ("document_age", Outcome::Pass),
    ] {
        assert_eq!(result(&events, check).outcome(), outcome, "{:?}", result(&events, check));
    }
    // What is read is told when it is read, not at the end.
    let zone = place(&events, |event| {
        let Event::DocumentPart(part) = event else { return false };
        matches!(&part.part, Some(Part::Mrz(mrz)) if mrz.lines == lines && part.media() == MediaKind::DocumentFront)
    });
    let fields = place(&events, |event| {
        let Event::DocumentFields(document) = event else { return false };
        document.fields.iter().any(|field| field.name == "family_name" && field.value == "SPECIMEN")
    });
    assert!(zone < fields, "{events:?}");
    assert!(matches!(events.last().unwrap().event, Some(Event::Summary(_))));
    // Faces and text were read from one decoding.
    let decodings = events.iter().filter(|event| {
        matches!(&event.event, Some(Event::Progress(progress))
            if progress.stage == "decode" && progress.media() == MediaKind::DocumentFront)
    });
    assert_eq!(decodings.count(), 1);

    let media = vec![(MediaKind::Selfie, photo("other-person.jpg")), (MediaKind::DocumentFront, page)];
    let events = verify(&daemon, media).await;
    assert_eq!(result(&events, "face_match").outcome(), Outcome::Fail);
    assert_eq!(result(&events, "mrz").outcome(), Outcome::Pass);
    let Some(Event::Summary(summary)) = &events.last().unwrap().event else { panic!("{events:?}") };
    assert_eq!(summary.outcome(), Outcome::Fail);
}

#[tokio::test]
async fn an_expired_passport_without_portrait_fails_and_says_why() {
    let daemon = Daemon::start();
    let events = verify(
        &daemon,
        vec![(MediaKind::Selfie, photo("selfie.jpg")), (MediaKind::DocumentFront, png(&drawn(&PASSPORT)))],
    )
    .await;
    let expiry = result(&events, "document_expiry");
    assert_eq!((expiry.outcome(), expiry.warnings[0].code.as_str()), (Outcome::Fail, "DOCUMENT_EXPIRED"));
    let matched = result(&events, "face_match");
    assert_eq!(matched.outcome(), Outcome::Inconclusive);
    let missing = matched.warnings.iter().find(|warning| warning.code == "PORTRAIT_NOT_FOUND");
    assert_eq!(missing.map(|warning| warning.media()), Some(MediaKind::DocumentFront), "{matched:?}");
    // A document alone is a verification too.
    let events = verify(&daemon, vec![(MediaKind::DocumentFront, png(&drawn(&PASSPORT)))]).await;
    let Some(Event::Accepted(accepted)) = &events[0].event else { panic!("{events:?}") };
    let document_checks = ["document", "mrz", "barcode", "document_consistency", "document_expiry", "document_age"];
    assert_eq!(accepted.checks, document_checks);
}

#[tokio::test]
async fn a_good_back_does_not_mend_a_bad_front() {
    let daemon = Daemon::start();
    // Another birth date than the check digits know, and another person's zone on the back.
    let forged = [PASSPORT[0], "L898902C36UTO8408122F1204159ZE184226B<<<<<10"];
    let other = valid_passport();
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    for front in [PASSPORT, forged] {
        let media =
            vec![(MediaKind::DocumentFront, png(&drawn(&front))), (MediaKind::DocumentBack, png(&drawn(&other)))];
        let events = verify(&daemon, media).await;
        let consistency = result(&events, "document_consistency");
        assert_eq!(consistency.outcome(), Outcome::Fail, "{consistency:?}");
        let zone = if front == forged { Outcome::Fail } else { Outcome::Pass };
        assert_eq!(result(&events, "mrz").outcome(), zone);
    }
}

#[tokio::test]
async fn what_a_person_claims_is_compared_with_the_document() {
    let daemon = Daemon::start();
    let front = || vec![(MediaKind::DocumentFront, png(&drawn(&PASSPORT)))];
    let truth = [("family_name", "Eriksson"), ("given_names", "Anna"), ("birth_date", "1974-08-12")];
    let events = claiming(&daemon, front(), &truth).await.unwrap();
    let consistency = result(&events, "document_consistency");
    assert_eq!(consistency.outcome(), Outcome::Pass, "{consistency:?}");
    let lie = [("family_name", "Eriksson"), ("birth_date", "1984-08-12")];
    let events = claiming(&daemon, front(), &lie).await.unwrap();
    let consistency = result(&events, "document_consistency");
    assert_eq!(consistency.outcome(), Outcome::Fail);
    let codes: Vec<&str> = consistency.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["BIRTH_DATE_DIFFERS"]);
    let said = format!("{:?}", consistency.warnings);
    assert!(!said.contains("1984") && !said.contains("1974"), "{said}");

    for (media, claim, code, field) in [
        (front(), ("shoe_size", "44"), "CLAIM_UNKNOWN", "claims"),
        (front(), ("birth_date", "12.08.1974"), "CLAIM_INVALID", "claims.birth_date"),
        (vec![(MediaKind::Selfie, photo("selfie.jpg"))], truth[0], "CLAIMS_NOT_COMPARED", "claims"),
    ] {
        let status = claiming(&daemon, media, &[claim]).await.unwrap_err();
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(code), "{status:?}");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
        assert!(!status.message().contains(claim.1), "{status:?}");
    }
}
