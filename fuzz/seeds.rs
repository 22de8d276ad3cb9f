//! Writes first inputs for the fuzz targets: `cargo run --example fuzz_seeds -- FOLDER` makes FOLDER/TARGET/…, `fuzz/pictures.py` adds pictures and PDF files.
//!
//! All of it is generated or part of the repository; none of it is of a person.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use vouch::api::proto::{self, verify_live_request};
use vouch::audit::chain::{self, Link};
use vouch::document::aamva::{self, CardKind, Colour, Height, Sex};
use vouch::document::mrz;
use zxingcpp::BarcodeFormat;

/// Sealed records as the daemon's own events have them, in short.
const BODIES: [&str; 5] = [
    r#"{"class_uid":6002,"unmapped":{"event":"start","head":null}}"#,
    r#"{"class_uid":6003,"text":"a \"hash\" b"}"#,
    r#"{"class_uid":6002,"unmapped":{"event":"gap","lost":2,"refused":1}}"#,
    r#"{"class_uid":6002,"unmapped":{"event":"retention","through":{"sequence":1,"hash":"x"}}}"#,
    r#"{"class_uid":6002,"unmapped":{"event":"stop"}}"#,
];

struct Seeds {
    folder: PathBuf,
}

impl Seeds {
    fn write(&self, target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: fuzz_seeds FOLDER")?;
    let seeds = Seeds { folder: folder.into() };
    exif(&seeds)?;
    zones(&seeds)?;
    licences(&seeds)?;
    barcodes(&seeds)?;
    requests(&seeds)?;
    audit(&seeds)?;
    files(&seeds)
}

fn exif(seeds: &Seeds) -> Result<(), Box<dyn std::error::Error>> {
    for orientation in [1, 6] {
        let mut block = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        block.extend([orientation, 0, 0, 0, 0, 0, 0]);
        seeds.write("exif", &format!("big-{orientation}"), &block)?;
        let mut block = b"II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        block.extend([orientation, 0, 0, 0]);
        // A second entry: a text that lies behind, and a further directory.
        block.extend(
            b"\x0f\x01\x02\0\x06\0\0\0\x2a\0\0\0\x30\0\0\0maker\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0\0\0\0\0",
        );
        seeds.write("exif", &format!("little-{orientation}"), &block)?;
    }
    Ok(())
}

fn zones(seeds: &Seeds) -> Result<(), Box<dyn std::error::Error>> {
    use mrz::{Fields, Format};
    for format in [Format::Td1, Format::Td2, Format::Td3, Format::MrvA, Format::MrvB] {
        let is_visa = matches!(format, Format::MrvA | Format::MrvB);
        let date = |year, month, day| mrz::DateParts { year: Some(year), month: Some(month), day: Some(day) };
        let lines = mrz::generate(&Fields {
            format,
            document_code: if is_visa {
                "V"
            } else if format == Format::Td3 {
                "P"
            } else {
                "I"
            }
            .into(),
            issuing_state: "UTO".into(),
            primary: "Eriksson".into(),
            secondary: "Anna Maria".into(),
            document_number: "L898902C3".into(),
            nationality: "UTO".into(),
            birth: date(1974, 8, 12),
            sex: mrz::Sex::Female,
            expiry: date(2032, 4, 15),
            optional_data: String::new(),
            optional_data_2: String::new(),
        })?;
        for mode in [0u8, 1] {
            let name = format!("{}-{mode}", format.name());
            // With second choices each position is two characters.
            let text: String = lines
                .join("\n")
                .chars()
                .flat_map(|c| if mode == 1 && c != '\n' { vec![c, '0'] } else { vec![c] })
                .collect();
            seeds.write("mrz", &name, &[&[mode * 101][..], text.as_bytes()].concat())?;
        }
    }
    seeds.write("mrz", "names", "\0Müller-Łukasz Åse\nMUELLER<LUKASZ<<AASE".as_bytes())?;
    Ok(())
}

fn licence(version: u8, iin: u32) -> aamva::Specimen {
    let date = |year, month, day| Some(aamva::Date { year, month, day });
    aamva::Specimen {
        version,
        jurisdiction_version: 1,
        iin,
        kind: CardKind::DrivingLicence,
        number: "X1234567".into(),
        family_name: "SPECIMEN".into(),
        given_name: "CARLA".into(),
        middle_names: "Q".into(),
        suffix: "JR".into(),
        birth: date(1990, 1, 31),
        expiry: date(2030, 1, 31),
        issue: date(2022, 2, 1),
        card_revision: date(2020, 5, 5),
        sex: Some(Sex::Female),
        eyes: Some(Colour::Brown),
        hair: Some(Colour::Black),
        height: Some(Height::Inches(69)),
        street_1: "1 MAIN ST".into(),
        street_2: String::new(),
        city: "ANYTOWN".into(),
        postal_code: "123450000".into(),
        document_discriminator: "D1".into(),
        vehicle_class: "C".into(),
        restrictions: "NONE".into(),
        endorsements: "NONE".into(),
        own: vec![('A', "OWN".into())],
    }
}

fn licences(seeds: &Seeds) -> Result<(), Box<dyn std::error::Error>> {
    // California, Ontario, a number that nobody has.
    for (version, iin) in [(1, 636_014), (3, 636_012), (8, 636_014), (10, 999_999)] {
        seeds.write("aamva", &format!("version-{version}"), aamva::write(&licence(version, iin)).as_bytes())?;
    }
    Ok(())
}

fn barcodes(seeds: &Seeds) -> Result<(), Box<dyn std::error::Error>> {
    let short = licence(8, 636_014);
    let text = aamva::write(&aamva::Specimen { own: Vec::new(), street_1: String::new(), ..short });
    for (format, text, name) in [
        (BarcodeFormat::PDF417, text.as_str(), "pdf417"),
        (BarcodeFormat::QRCode, "vouch", "qr"),
        (BarcodeFormat::MicroQRCode, "12345", "micro-qr"),
        (BarcodeFormat::Aztec, "vouch", "aztec"),
        (BarcodeFormat::DataMatrix, "vouch", "data-matrix"),
        (BarcodeFormat::MaxiCode, "vouch", "maxi"),
        (BarcodeFormat::Code128, "VOUCH-1", "code-128"),
        (BarcodeFormat::Code39, "VOUCH", "code-39"),
        (BarcodeFormat::ITF, "123456", "itf"),
        (BarcodeFormat::Codabar, "A1234B", "codabar"),
        (BarcodeFormat::EAN13, "4006381333931", "ean"),
        (BarcodeFormat::DataBar, "0112345678901231", "databar"),
    ] {
        let drawn = zxingcpp::create(format).from_slice(text.as_bytes());
        let drawn = drawn.and_then(|code| code.to_image_with(&zxingcpp::write().scale(1).add_quiet_zones(true)));
        let Ok(image) = drawn else {
            eprintln!("{name} cannot be drawn");
            continue;
        };
        let (width, height) = (image.width() as usize, image.height() as usize);
        if width > 256 || height > 256 {
            eprintln!("{name} is too large: {width} × {height}");
            continue;
        }
        let mut bits = vec![0u8; (width * height).div_ceil(8)];
        for (at, pixel) in image.data().iter().enumerate() {
            bits[at / 8] |= u8::from(*pixel < 128) << (at % 8);
        }
        for (mode, way) in [(2u8 | 2 << 2, "once"), (3 | 1 << 2, "full")] {
            let head = [(width - 1) as u8, (height - 1) as u8, mode];
            seeds.write("barcode", &format!("{name}-{way}"), &[&head[..], &bits].concat())?;
        }
    }
    Ok(())
}

fn requests(seeds: &Seeds) -> Result<(), Box<dyn std::error::Error>> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 9, 99]))
        .write_to(&mut png, image::ImageFormat::Png)?;
    let picture = bytes::Bytes::from(png.into_inner());
    let media = |kind: proto::MediaKind| proto::Media { kind: kind.into(), data: picture.clone() };
    let check = |name: &str| proto::CheckRequest { name: name.into(), ..Default::default() };
    let unary = |method: u8, message: Vec<u8>| [vec![method, 0], message].concat();
    let all = proto::VerifyRequest {
        media: vec![media(proto::MediaKind::Selfie), media(proto::MediaKind::DocumentFront)],
        ..Default::default()
    };
    seeds.write("request", "verify-all", &unary(0, all.encode_to_vec()))?;
    let claims = [("birth_date", "1990-01-31"), ("family_name", "Specimen"), ("document_number", "X1")];
    let some = proto::VerifyRequest {
        media: vec![media(proto::MediaKind::DocumentFront), media(proto::MediaKind::DocumentBack)],
        checks: vec![check("document_consistency"), check("document_expiry")],
        claims: claims.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        client_reference: "seed".into(),
    };
    seeds.write("request", "verify-claims", &unary(0, some.encode_to_vec()))?;
    let aged = proto::VerifyRequest {
        media: vec![media(proto::MediaKind::Selfie), media(proto::MediaKind::Reference)],
        checks: vec![
            proto::CheckRequest { parameters: [("min_age".to_owned(), 18.0)].into(), ..check("age_estimation") },
            proto::CheckRequest { operating_point: "fmr_1e-4".into(), ..check("face_match") },
        ],
        ..Default::default()
    };
    seeds.write("request", "verify-parameters", &unary(0, aged.encode_to_vec()))?;
    seeds.write(
        "request",
        "detect",
        &unary(1, proto::DetectFacesRequest { image: picture.clone() }.encode_to_vec()),
    )?;
    let pair = proto::MatchFacesRequest { probe: picture.clone(), reference: picture.clone(), ..Default::default() };
    seeds.write("request", "match", &unary(2, pair.encode_to_vec()))?;
    seeds.write(
        "request",
        "liveness",
        &unary(3, proto::CheckPassiveLivenessRequest { selfie: picture.clone(), ..Default::default() }.encode_to_vec()),
    )?;
    seeds.write(
        "request",
        "age",
        &unary(4, proto::EstimateAgeRequest { selfie: picture.clone(), ..Default::default() }.encode_to_vec()),
    )?;
    let document =
        proto::ReadDocumentRequest { images: vec![picture.clone(); 2], parts: vec!["mrz".into(), "barcode".into()] };
    seeds.write("request", "document", &unary(5, document.encode_to_vec()))?;
    seeds.write("request", "status", &unary(8, Vec::new()))?;

    let parted = |method: u8, messages: &[Vec<u8>]| {
        let part = |message: &Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], message].concat();
        [vec![method, 0], messages.iter().flat_map(part).collect()].concat()
    };
    let frame = proto::ScanMrzRequest { frame: picture.clone() }.encode_to_vec();
    seeds.write("request", "scan", &parted(6, &[frame.clone(), frame]))?;
    let policy = proto::LivePolicy {
        actions: vec![proto::LiveAction::TurnLeft.into(), proto::LiveAction::Blink.into()],
        steps: 2,
        step_time: Some(prost_types::Duration { seconds: 5, nanos: 1 }),
        session_time: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        client_reference: "seed".into(),
        with_signals: true,
        ..Default::default()
    };
    let message = |message| proto::VerifyLiveRequest { message: Some(message) }.encode_to_vec();
    let frame = |index: u32| {
        let frame = proto::LiveFrame { index, captured_us: u64::from(index) * 40_000, image: picture.clone() };
        message(verify_live_request::Message::Frame(frame))
    };
    let messages = [message(verify_live_request::Message::Policy(policy)), frame(0), frame(1)];
    seeds.write("request", "live", &parted(7, &messages))?;
    let framed: Vec<u8> = messages
        .iter()
        .flat_map(|message| [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat())
        .collect();
    seeds.write("request", "live-framed", &[vec![7, 1], framed].concat())?;
    Ok(())
}

fn audit(seeds: &Seeds) -> Result<(), Box<dyn std::error::Error>> {
    let mut last = Link::NONE;
    let mut log = Vec::new();
    for body in BODIES {
        let line;
        (last, line) = chain::seal(last, body);
        log.push(line);
    }
    let head = format!("{{\"sequence\":{},\"hash\":\"{}\"}}", last.sequence, last.hash);
    let whole = [vec![0], head.clone().into_bytes(), vec![0], log.concat().into_bytes()].concat();
    seeds.write("audit", "log", &whole)?;
    let parted =
        [vec![0], head.into_bytes(), vec![0], log[..2].concat().into_bytes(), vec![0], log[2..].concat().into_bytes()]
            .concat();
    seeds.write("audit", "log-parted", &parted)?;
    seeds.write("audit", "log-cut", &whole[..whole.len() - 40])?;
    let anchors = [
        format!("{}:{}", last.sequence, last.hash),
        format!("{{\"message\":\"audit anchor\",\"sequence\":{},\"hash\":\"{}\"}}", last.sequence, last.hash),
        format!(
            "\u{1b}[2m2026\u{1b}[0m INFO audit anchor \u{1b}[3msequence\u{1b}[0m={} hash=\"{}\"",
            last.sequence, last.hash
        ),
    ];
    for (index, anchor) in anchors.iter().enumerate() {
        seeds.write("audit", &format!("anchor-{index}"), &[&[1], anchor.as_bytes()].concat())?;
    }
    for (name, edit) in
        [("edit-cut", &[2, 90, 255][..]), ("edit-swap", &[2, 30, 1, b'7']), ("edit-end", &[2, 255, 0, b'{', b'\n'])]
    {
        seeds.write("audit", name, edit)?;
    }
    Ok(())
}

/// What the repository has anyway.
fn files(seeds: &Seeds) -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sample = fs::read_to_string(root.join("systemd/vouch.toml"))?;
    let settings: String = sample
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    seeds.write("config", "sample", settings.as_bytes())?;
    seeds.write("config", "environment", b"drain_seconds = 5\n\0VOUCH_SOCKET=/run/a/b\nVOUCH_LIMITS__MAX_RUNNING=4\nVOUCH_SOCKET__ALLOWED_USERS=a,b\nVOUCH_SOCKET__MODE=0660")?;
    seeds.write("config", "wrong", b"[limits]\nmax_pixels = 1\nno_such = 2\n[socket]\npath = \"a\"\nmode = \"9\"\n[metrics]\nlisten = \"10.0.0.1:1\"\n")?;
    for name in ["face_match", "passive_liveness", "age_estimation", "active_liveness"] {
        seeds.write("calibration", name, &fs::read(root.join("calibration").join(name).with_extension("toml"))?)?;
    }
    let own = "[[model]]\nrole = \"face_embedder\"\nname = \"own\"\nfile = \"own.onnx\"\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\nlicence = \"MIT\"\noutputs = [\"a\"]\nbatch_exact = true\n[model.input]\nname = \"x\"\nlayout = \"nchw\"\ncolour = \"rgb\"\nmean = [0.0, 0.0, 0.0]\nscale = [1.0, 1.0, 1.0]\nsize = [112, 112]\n";
    seeds.write("manifest", "own", own.as_bytes())?;
    let two = format!("{own}\n{}", own.replace("face_embedder", "age_a").replace("\"own\"", "\"other\""));
    seeds.write("manifest", "two", two.as_bytes())?;
    seeds.write("manifest", "wrong", own.replace("nchw", "square").as_bytes())?;
    Ok(())
}
