//! Decoder processes: the same pixels as without them, walls that hold, and what is left of the daemon when a file ends one of them.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::decoders::{decoders_of, deep_png, field, is_alive, resident_of, resident_of_decoders};
use common::{Daemon, photo, vouchd};
use image::codecs::tiff::TiffEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use vouch::api::proto::{DetectFacesRequest, DetectFacesResponse, GetStatusRequest};
use vouch::decoders::{Decoders, Job, Pool, PoolSettings, Wear};
use vouch::document::barcode::{self, Luma, Symbology};
use vouch::error::{Error, Unavailable};
use vouch::imaging::decode::{DecodeOptions, Decoded};
use vouch::imaging::pdf::PdfOptions;
use vouch::imaging::{Image, heic, quality};
use vouch::inference::{Caller, RequestContext};
use vouch::specimen::document::{Kind, Options, specimen};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

// ------------------------------------------------------------------------------------------------------------- pictures

fn settings() -> PoolSettings {
    PoolSettings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_vouchd")),
        processes: 1,
        memory_bytes: 1 << 30,
        deadline: PATIENCE,
        max_file_bytes: 20 << 20,
        max_pixels: 50_000_000,
        wear: Wear::default(),
    }
}

fn isolated(settings: PoolSettings) -> Decoders {
    Decoders::isolated(Pool::start(settings).unwrap())
}

fn context() -> RequestContext {
    RequestContext::default()
}

fn job(context: &RequestContext) -> Job<'_> {
    Job { field: "picture", context }
}

/// Waves with a little noise in all channels.
fn waves(width: u32, height: u32) -> Image {
    let mut state = 1u32;
    Image::build(width, height, |rgb| {
        for (index, byte) in rgb.iter_mut().enumerate() {
            let (x, y) = ((index / 3) as u32 % width, (index / 3) as u32 / width);
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (x / 3 + y / 5 + 40 * (index as u32 % 3)) as u8 ^ (state >> 29) as u8;
        }
    })
}

fn jpeg(image: &Image, settings: impl Fn(&mut turbojpeg::Compressor)) -> Vec<u8> {
    let (width, height) = (image.width as usize, image.height as usize);
    let format = turbojpeg::PixelFormat::RGB;
    let pixels = turbojpeg::Image { pixels: &image.rgb[..], width, pitch: width * 3, height, format };
    let mut compressor = turbojpeg::Compressor::new().unwrap();
    settings(&mut compressor);
    compressor.compress_to_vec(pixels).unwrap()
}

/// A JPEG that takes seconds: 49 megapixels in as many scans as are accepted.
fn slow_jpeg() -> Bytes {
    let file = jpeg(&waves(7000, 7000), |compressor| {
        compressor.set_quality(20).unwrap();
        compressor.set_progressive(true).unwrap();
    });
    let scans: Vec<usize> = (0..file.len() - 1).filter(|at| file[*at..*at + 2] == *b"\xff\xda").collect();
    assert!(scans.len() > 3, "not progressive");
    // A scan that refines nothing may come any number of times.
    let mut slow = file[..scans[1]].to_vec();
    for _ in scans.len()..=32 {
        slow.extend(&file[scans[1]..scans[2]]);
    }
    slow.extend(&file[scans[1]..]);
    assert!(slow.len() < 20 << 20, "{} bytes", slow.len());
    slow.into()
}

fn assert_same(isolated: &Decoded, own: &Decoded, what: &str) {
    assert!(isolated.image.rgb == own.image.rgb, "other pixels: {what}");
    let rest = |decoded: &Decoded| {
        let Decoded { image, source_width, source_height, scale, format, orientation } = decoded;
        (image.width, image.height, *source_width, *source_height, *scale, *format, *orientation)
    };
    assert_eq!(rest(isolated), rest(own), "{what}");
}

#[test]
fn pictures_of_every_format_are_the_same_to_the_byte_with_and_without_a_process() {
    let (there, here) = (isolated(settings()), Decoders::in_process());
    let image = waves(401, 299);
    let (rgb, size) = (&image.rgb[..], (image.width, image.height));
    let encode = |encoder: &mut dyn FnMut(&mut Cursor<Vec<u8>>)| {
        let mut file = Cursor::new(Vec::new());
        encoder(&mut file);
        file.into_inner()
    };
    let color = ExtendedColorType::Rgb8;
    let mut files: Vec<(&str, Vec<u8>)> = vec![
        ("JPEG", jpeg(&image, |_| ())),
        ("progressive JPEG", jpeg(&image, |compressor| compressor.set_progressive(true).unwrap())),
        ("photograph", photo("selfie.jpg").to_vec()),
        ("PNG", common::png(&image).to_vec()),
        ("TIFF", encode(&mut |file| TiffEncoder::new(file).write_image(rgb, size.0, size.1, color).unwrap())),
        ("WebP", encode(&mut |file| WebPEncoder::new_lossless(file).write_image(rgb, size.0, size.1, color).unwrap())),
        ("HEIC", include_bytes!("common/quadrants.heic").to_vec()),
        ("nothing", Vec::new()),
        ("text", b"no picture".to_vec()),
        ("cut JPEG", jpeg(&image, |_| ())[..5000].to_vec()),
    ];
    // Turned by its EXIF: the orientation is 6.
    let mut turned = jpeg(&image, |_| ());
    let exif = b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    turned.splice(2..2, exif.iter().copied());
    files.push(("turned JPEG", turned));

    let context = context();
    let mut decoded = 0;
    for (name, file) in &files {
        for min_long_side_px in [None, Some(640), Some(200), Some(60)] {
            let options = DecodeOptions { min_long_side_px, ..DecodeOptions::default() };
            let what = format!("{name}, {min_long_side_px:?}");
            match (there.picture(file, &options, &job(&context)), here.picture(file, &options, &job(&context))) {
                (Ok(isolated), Ok(own)) => {
                    assert_same(&isolated, &own, &what);
                    decoded += 1;
                }
                (Err(isolated), Err(own)) => assert_eq!(isolated.to_string(), own.to_string(), "{what}"),
                (isolated, own) => panic!("{what}: {:?} and {:?}", isolated.err(), own.err()),
            }
        }
    }
    // Eight files, four times each.
    assert_eq!(decoded, if heic::is_available() { 32 } else { 28 });
    // The limits hold at the other side too.
    let options = DecodeOptions { max_pixels: 1000, ..DecodeOptions::default() };
    let refused = there.picture(&files[0].1, &options, &job(&context)).unwrap_err();
    assert_eq!(code(&refused), "IMAGE_TOO_LARGE");
}

/// A PDF file of these JPEGs, a page each.
fn pdf(pages: &[&Image]) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|page| format!("{} 0 R", 3 + 3 * page)).collect();
    let tree = format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len());
    let mut objects = vec![b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(), tree.into_bytes()];
    for (page, image) in pages.iter().enumerate() {
        let first = 3 + 3 * page;
        let (width, height, file) = (image.width, image.height, jpeg(image, |_| ()));
        objects.push(
            format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents {} 0 R \
                 /Resources << /XObject << /I {} 0 R >> >> >>",
                first + 1,
                first + 2
            )
            .into_bytes(),
        );
        let draw = format!("{width} 0 0 {height} 0 0 cm /I Do");
        objects.push(format!("<< /Length {} >>\nstream\n{draw}\nendstream", draw.len()).into_bytes());
        let head = format!(
            "<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB \
             /BitsPerComponent 8 /Filter /DCTDecode /Length {} >>\nstream\n",
            file.len()
        );
        objects.push([head.as_bytes(), &file, b"\nendstream"].concat());
    }
    let (mut out, mut table) = (b"%PDF-1.7\n".to_vec(), String::new());
    for (index, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", out.len()));
        out.extend(format!("{} 0 obj\n", index + 1).bytes());
        out.extend(object);
        out.extend(b"\nendobj\n");
    }
    let (start, count) = (out.len(), objects.len() + 1);
    out.extend(format!("xref\n0 {count}\n0000000000 65535 f \n{table}").bytes());
    out.extend(format!("trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n").bytes());
    out
}

#[test]
fn pages_and_symbols_are_the_same_with_and_without_a_process() {
    let (there, here) = (isolated(settings()), Decoders::in_process());
    let (context, options) = (context(), PdfOptions::default());
    let job = job(&context);
    let file = pdf(&[&waves(300, 200), &waves(200, 300)]);
    assert_eq!(there.page_count(&file, &options, &job).unwrap(), 2);
    for page in 0..2 {
        let [isolated, own] = [&there, &here].map(|decoders| decoders.page(&file, page, &options, &job).unwrap());
        assert!(isolated.image.rgb == own.image.rgb, "page {page}");
        assert_eq!((isolated.image.width, isolated.dpi, isolated.is_scan), (own.image.width, own.dpi, own.is_scan));
    }
    for bad in [&file[..file.len() / 2], b"%PDF-1.7 and nothing", &file.repeat(200)] {
        let [isolated, own] =
            [&there, &here].map(|decoders| decoders.page(bad, 0, &options, &job).map(|page| page.dpi));
        assert_eq!(isolated.map_err(|error| error.to_string()), own.map_err(|error| error.to_string()));
    }
    // As deep as the renderer goes, on the stack of the process's only thread.
    let nested =
        [&file[..0], b"%PDF-1.7\n1 0 obj\n", &b"[".repeat(100_000), b"\nendobj\ntrailer << /Root 1 0 R >>"].concat();
    assert_eq!(code(&there.page(&nested, 0, &options, &job).unwrap_err()), "PDF_DAMAGED");

    let licence = specimen(Kind::Licence, 5, &Options { dpi: 300, ..Options::default() }).pages.remove(1);
    let picture = Luma::new(licence.image.width, licence.image.height, quality::luma(&licence.image)).unwrap();
    let request = barcode::Request::default();
    let [isolated, own] =
        [&there, &here].map(|decoders| decoders.barcodes(&picture, &request, PATIENCE, &job).unwrap());
    assert!(own.iter().any(|symbol| symbol.symbology == Symbology::Pdf417), "{own:?}");
    assert_eq!(isolated, own);
}

fn code(error: &Error) -> &'static str {
    match error {
        Error::InvalidInput { code, .. } => code,
        other => panic!("{other}"),
    }
}

// ------------------------------------------------------------------------------------------------- decoders taken over

/// Says what its file says: first that it is ready, then the file itself as its answer, twice if that begins with a space.
const LIAR: &str = r#"#!/usr/bin/env python3
import json, os, socket
daemon = socket.socket(fileno=0)
daemon.recv(4096)
daemon.send(b'{"Ok":null}')
while message := daemon.recv(4096):
    question, = json.loads(message).values()
    answer = os.pread(1, question["bytes"], 0)
    daemon.send(answer)
    if answer.startswith(b" "):
        daemon.send(answer)
"#;

#[test]
fn what_a_decoder_that_was_taken_over_says_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("liar.py");
    // Without an environment there is no search path either.
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| Path::new(path).exists());
    fs::write(&program, LIAR.replace("/usr/bin/env python3", python.expect("python3"))).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let liar = isolated(PoolSettings { program, ..settings() });
    let (context, options) = (context(), DecodeOptions { max_pixels: 1000, ..DecodeOptions::default() });
    let job = job(&context);
    let picture = |width: u64, height: u64, rest: &str| {
        format!("{{\"Picture\":{{\"Ok\":{{\"source_width\":{width},\"source_height\":{height},{rest}}}}}}}")
    };
    let rest = "\"reduction\":1,\"format\":\"Png\",\"orientation\":\"Upright\"";
    let ask = |answer: &str| liar.picture(answer.as_bytes(), &options, &job);

    // It is heard where it says what can be.
    let believed = ask(&picture(20, 50, rest)).unwrap();
    assert_eq!((believed.image.width, believed.image.rgb.len()), (20, 3000));
    assert_eq!(code(&ask("{\"Picture\":{\"Err\":\"OutOfMemory\"}}").unwrap_err()), "IMAGE_DECODER_FAILED");
    assert_eq!(code(&ask("{\"Picture\":{\"Err\":\"Empty\"}}").unwrap_err()), "IMAGE_EMPTY");

    let long = format!("{{\"Picture\":{}", " ".repeat(5000));
    let lies = [
        "x".to_owned(),
        "null".into(),
        long,
        "\u{fffd}".into(),
        "{\"PageCount\":{\"Ok\":1}}".into(),
        "{\"Barcodes\":{\"Ok\":1048577}}".into(),
        "{\"Picture\":{\"Err\":\"SomethingElse\"}}".into(),
        picture(20, 51, rest),
        picture(0, 50, rest),
        picture(u64::from(u32::MAX), u64::from(u32::MAX), rest),
        picture(u64::MAX, 1, rest),
        picture(20, 50, &rest.replace(":1,", ":2,")),
        picture(20, 50, &rest.replace(":1,", ":-1,")),
        picture(20, 50, &rest.replace("Png", "Exe")),
    ];
    for lie in lies {
        assert_eq!(code(&ask(&lie).unwrap_err()), "IMAGE_DECODER_FAILED", "{lie}");
    }
    let pages = PdfOptions::default();
    for count in ["0", "51", "-1", "1e3", "18446744073709551616"] {
        let lie = format!("{{\"PageCount\":{{\"Ok\":{count}}}}}");
        assert_eq!(code(&liar.page_count(lie.as_bytes(), &pages, &job).unwrap_err()), "IMAGE_DECODER_FAILED", "{lie}");
    }
    // An answer said in advance is not taken for that of the next question.
    assert_eq!(ask(&format!(" {}", picture(10, 10, rest))).unwrap().image.width, 10);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ask(&picture(20, 20, rest)).unwrap().image.width, 20);
}

// ---------------------------------------------------------------------------------------------------------------- costs

#[test]
fn a_file_that_takes_more_memory_or_time_than_allowed_is_refused_and_the_next_is_decoded() {
    let (context, options) = (context(), DecodeOptions::default());
    let small = jpeg(&waves(64, 64), |_| ());
    let (slow, deep) = (slow_jpeg(), deep_png());

    let little = isolated(PoolSettings { memory_bytes: 96 << 20, ..settings() });
    for file in [&slow, &deep] {
        let before = resident(std::process::id());
        assert_eq!(code(&little.picture(file, &options, &job(&context)).unwrap_err()), "IMAGE_DECODER_FAILED");
        assert!(resident(std::process::id()) < before + (64 << 20));
        little.picture(&small, &options, &job(&context)).unwrap();
    }

    let hasty = isolated(PoolSettings { deadline: Duration::from_millis(150), ..settings() });
    let started = Instant::now();
    let refused = hasty.picture(&slow, &options, &job(&context)).unwrap_err();
    assert_eq!(code(&refused), "IMAGE_DECODER_TIMEOUT", "{refused}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    // A request's own end is not the file's fault, and comes as soon.
    let patient = isolated(settings());
    let soon = RequestContext::new(Some(Instant::now() + Duration::from_millis(150)), Caller::default());
    let ended = patient.picture(&slow, &options, &job(&soon)).unwrap_err();
    assert!(matches!(ended, Error::DeadlineExceeded), "{ended}");

    let left = Arc::new(RequestContext::default());
    let leaving = std::thread::spawn({
        let left = Arc::clone(&left);
        move || {
            std::thread::sleep(Duration::from_millis(150));
            left.cancel();
        }
    });
    let ended = patient.picture(&slow, &options, &job(&left)).unwrap_err();
    assert!(matches!(ended, Error::Cancelled), "{ended}");
    leaving.join().unwrap();
    patient.picture(&small, &options, &job(&context)).unwrap();
}

#[test]
fn a_process_is_replaced_after_so_many_questions_or_so_much_processor_time() {
    let file = jpeg(&waves(64, 64), |_| ());
    let (context, options, own) = (context(), DecodeOptions::default(), std::process::id());
    let ever = Wear { questions: u32::MAX, processor: PATIENCE };
    for (wear, most) in [
        (Wear { questions: 3, ..ever }, 3),
        // Its start has taken more than that.
        (Wear { processor: Duration::from_nanos(1), ..ever }, 1),
    ] {
        let decoders = isolated(PoolSettings { wear, ..settings() });
        let mut answers: BTreeMap<u32, u32> = BTreeMap::new();
        for _ in 0..10 {
            // The next one is started without being asked for.
            let mut decoder = 0;
            until("a process at rest", || {
                let alive: Vec<u32> = decoders_of(own).into_iter().filter(|decoder| is_alive(*decoder)).collect();
                decoder = alive.first().copied().unwrap_or(0);
                alive.len() == 1
            });
            decoders.picture(&file, &options, &job(&context)).unwrap();
            *answers.entry(decoder).or_default() += 1;
            until("the process is replaced in its time", || is_alive(decoder) == (answers[&decoder] < most));
        }
        assert!(answers.values().all(|answers| *answers <= most), "{answers:?}");
        assert_eq!(answers.len(), 10usize.div_ceil(most as usize), "{answers:?}");
        // Those who come meanwhile wait for the new one.
        for _ in 0..10 {
            decoders.picture(&file, &options, &job(&context)).unwrap();
        }
        drop(decoders);
        until("all have ended", || decoders_of(own).is_empty());
    }
    let decoders = isolated(PoolSettings { processes: 2, ..settings() });
    let lasting = decoders_of(own);
    for _ in 0..10 {
        decoders.picture(&file, &options, &job(&context)).unwrap();
    }
    assert_eq!(decoders_of(own), lasting);
}

#[test]
fn while_no_process_can_be_started_those_that_are_there_answer_all() {
    let folder = tempfile::tempdir().unwrap();
    let [program, away] = ["decoder", "away"].map(|name| folder.path().join(name));
    fs::copy(env!("CARGO_BIN_EXE_vouchd"), &program).unwrap();
    let (context, options, own) = (context(), DecodeOptions::default(), std::process::id());
    let wear = Wear { questions: 20, processor: PATIENCE };
    let decoders = isolated(PoolSettings { program: program.clone(), processes: 2, wear, ..settings() });
    let file = jpeg(&waves(64, 64), |_| ());
    let ask = || decoders.picture(&file, &options, &job(&context)).map(drop);
    let first = decoders_of(own);
    fs::rename(&program, &away).unwrap();
    // Those that are past their time go on, for as much again.
    for _ in 0..30 {
        ask().unwrap();
    }
    assert_eq!(decoders_of(own), first);
    // One is killed: the other is waited for.
    kill(Pid::from_raw(first[0].cast_signed()), Signal::SIGKILL).unwrap();
    until("the killed one is gone", || !is_alive(first[0]));
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..2).try_for_each(|_| ask()))).collect();
        asking.into_iter().for_each(|asking| asking.join().unwrap().unwrap());
    });
    // With none at all, all who ask hear at once when to come again, and then there are new ones.
    kill(Pid::from_raw(first[1].cast_signed()), Signal::SIGKILL).unwrap();
    until("the killed one is gone", || !is_alive(first[1]));
    let began = Instant::now();
    let asking: Vec<Error> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| ask().unwrap_err())).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let is_none = |error: &Error| matches!(error, Error::Unavailable { state: Unavailable::NoDecoder, .. });
    assert!(asking.iter().all(is_none), "{asking:?}");
    let retry_after = Duration::from_secs(1);
    assert!(began.elapsed() < 3 * retry_after, "one after the other: {:?}", began.elapsed());
    fs::rename(&away, &program).unwrap();
    std::thread::sleep(retry_after);
    for _ in 0..10 {
        ask().unwrap();
    }
    let alive: Vec<_> = decoders_of(own).into_iter().filter(|decoder| is_alive(*decoder)).collect();
    assert!((1..=2).contains(&alive.len()) && alive.iter().all(|decoder| !first.contains(decoder)), "{alive:?}");
}

/// It was: it stayed a zombie until the next question, and nobody heard of it.
#[test]
fn a_process_that_ends_at_rest_is_missed_and_started_when_it_is_needed() {
    let own = std::process::id();
    let decoders = isolated(settings());
    let [decoder] = decoders_of(own).try_into().unwrap();
    kill(Pid::from_raw(decoder.cast_signed()), Signal::SIGKILL).unwrap();
    until("the killed one is waited for", || !Path::new(&format!("/proc/{decoder}")).exists());
    assert!(decoders_of(own).is_empty());
    decoders.picture(&jpeg(&waves(64, 64), |_| ()), &DecodeOptions::default(), &job(&context())).unwrap();
    assert_eq!(decoders_of(own).len(), 1);
}

#[test]
fn callers_who_leave_again_and_again_start_one_process_and_not_one_each() {
    let folder = tempfile::tempdir().unwrap();
    let [program, starts] = ["decoder", "starts"].map(|name| folder.path().join(name));
    let vouchd = env!("CARGO_BIN_EXE_vouchd");
    fs::write(&program, format!("#!/bin/sh\necho >> {}\nsleep 0.3\nexec {vouchd} \"$@\"\n", starts.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let (options, own) = (DecodeOptions::default(), std::process::id());
    let decoders = isolated(PoolSettings { program, processes: 2, ..settings() });
    let file = jpeg(&waves(64, 64), |_| ());
    for decoder in decoders_of(own) {
        kill(Pid::from_raw(decoder.cast_signed()), Signal::SIGKILL).unwrap();
        until("the killed one is gone", || !is_alive(decoder));
    }
    for _ in 0..15 {
        let leaves = RequestContext::new(Some(Instant::now() + Duration::from_millis(1)), Caller::default());
        let left = decoders.picture(&file, &options, &job(&leaves)).unwrap_err();
        assert!(matches!(left, Error::DeadlineExceeded), "{left:?}");
    }
    // What was started for the first of them is there for who comes then.
    decoders.picture(&file, &options, &job(&context())).unwrap();
    // Another would be on its way by now.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(fs::read_to_string(&starts).unwrap().lines().count(), 2 + 1);
}

#[test]
fn the_memory_that_processes_hold_is_told_as_the_kernel_counts_it() {
    let own = std::process::id();
    let pool = Arc::new(isolated(PoolSettings { processes: 2, ..settings() }));
    let held = pool.held();
    let counted = resident_of_decoders(own);
    assert_eq!(held.processes, 2);
    assert!(held.resident_bytes.abs_diff(counted) < 4 << 20, "{held:?}, {counted}");
    // Of one at work too.
    let slow = slow_jpeg();
    let work = std::thread::spawn({
        let pool = Arc::clone(&pool);
        move || pool.picture(&slow, &DecodeOptions::default(), &job(&RequestContext::default())).map(drop)
    });
    until("a picture's pixels are held", || pool.held().resident_bytes > held.resident_bytes + (64 << 20));
    // How it ends is no matter.
    let _ = work.join().unwrap();
    // One that was killed and not missed yet is none.
    kill(Pid::from_raw(decoders_of(own)[0] as i32), Signal::SIGKILL).unwrap();
    until("one is left", || pool.held().processes == 1);
    assert_eq!(Decoders::in_process().held(), vouch::decoders::Held::default());
}

// --------------------------------------------------------------------------------------------------------------- daemon

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes of memory in use.
fn resident(pid: u32) -> u64 {
    resident_of(pid).unwrap()
}

/// Ticks of processor time, of which there are 100 in a second.
fn ticks(pid: u32) -> u64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0 };
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

async fn detect(daemon: &Daemon, image: Bytes) -> Result<DetectFacesResponse, Status> {
    let mut client = daemon.client().await;
    client.detect_faces(Request::new(DetectFacesRequest { image })).await.map(tonic::Response::into_inner)
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_decoder_costs_its_own_request_alone() {
    let daemon = Daemon::start_with(&[("VOUCH_DECODERS__PROCESSES", "2")]);
    let pid = daemon.child.id();
    let before = detect(&daemon, photo("selfie.jpg")).await.unwrap();
    assert!(!before.faces.is_empty());
    let decoders = decoders_of(pid);
    assert_eq!(decoders.len(), 2);
    let at_start: Vec<u64> = decoders.iter().map(|decoder| ticks(*decoder)).collect();

    let (slow, mut client) = (slow_jpeg(), daemon.client().await);
    let first = tokio::spawn(async move { client.detect_faces(DetectFacesRequest { image: slow }).await });
    // The one that works on the slow picture.
    let mut busy = None;
    until("a decoder at work", || {
        busy = decoders.iter().zip(&at_start).find(|(pid, start)| ticks(**pid) > **start + 15).map(|(pid, _)| *pid);
        busy.is_some()
    });
    let beside = detect(&daemon, photo("selfie.jpg"));
    let (other, ()) =
        tokio::join!(beside, async { kill(Pid::from_raw(busy.unwrap() as i32), Signal::SIGKILL).unwrap() });
    let first = first.await.unwrap();
    let error = first.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "IMAGE_DECODER_FAILED"), "{error}");
    assert_eq!(other.unwrap().faces, before.faces);
    // The place is filled by the next that needs it.
    assert_eq!(decoders_of(pid).len(), 1);
    let (a, b) = tokio::join!(detect(&daemon, photo("selfie.jpg")), detect(&daemon, photo("selfie.jpg")));
    assert_eq!((a.unwrap().faces, b.unwrap().faces), (before.faces.clone(), before.faces.clone()));
    assert!(!decoders_of(pid).is_empty());

    // One that the host has ended at rest is replaced without a word to the caller.
    let at_rest = decoders_of(pid);
    for decoder in &at_rest {
        kill(Pid::from_raw(*decoder as i32), Signal::SIGKILL).unwrap();
    }
    until("the decoders have ended", || !at_rest.iter().any(|decoder| is_alive(*decoder)));
    assert_eq!(detect(&daemon, photo("selfie.jpg")).await.unwrap().faces, before.faces);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decoders_are_confined_and_end_with_the_daemon_and_not_before() {
    let mut daemon = Daemon::start_with(&[("VOUCH_DECODERS__PROCESSES", "3")]);
    let status = daemon.client().await.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(status.decoder_processes, 3);
    assert!(status.decoder_resident_bytes > 3 << 20, "{status:?}");
    let decoders = decoders_of(daemon.child.id());
    assert_eq!(decoders.len(), 3);
    for decoder in &decoders {
        let status = fs::read_to_string(format!("/proc/{decoder}/status")).unwrap();
        assert_eq!(
            (field(&status, "Seccomp"), field(&status, "NoNewPrivs"), field(&status, "Threads")),
            ("2", "1", "1")
        );
        let limits = fs::read_to_string(format!("/proc/{decoder}/limits")).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let values: Vec<_> = line.split_whitespace().take(2).collect();
            assert_eq!(values[0], values[1], "{name}: it could be raised");
            values[0].parse::<u64>().unwrap_or(u64::MAX)
        };
        assert_eq!((limit("Max core file size"), limit("Max file size"), limit("Max open files")), (0, 0, 3));
        // 60 s before a question, and two threads until its deadline, which is 60 s here; one more for each rounding.
        assert_eq!(limit("Max cpu time"), 60 + 2 * 60 + 2);
        // Before the daemon, where the kernel has to end something.
        assert_eq!(fs::read_to_string(format!("/proc/{decoder}/oom_score_adj")).unwrap().trim(), "1000");
        let mapped = field(&status, "VmPeak").trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
        assert!(limit("Max address space") <= mapped + (1024 << 20), "{mapped}");
        let open: Vec<_> =
            fs::read_dir(format!("/proc/{decoder}/fd")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let mut targets: Vec<_> = open.iter().map(|path| fs::read_link(path).unwrap().display().to_string()).collect();
        targets.sort();
        assert_eq!(targets.len(), 3, "{targets:?}");
        assert!(targets[0] == "/dev/null" && targets[1].starts_with("/memfd:") && targets[2].starts_with("socket:"));
        assert_eq!(fs::read(format!("/proc/{decoder}/environ")).unwrap(), b"");
        let maps = fs::read_to_string(format!("/proc/{decoder}/maps")).unwrap();
        assert!(!maps.contains("onnxruntime"), "models are in a decoder process");
        assert!(!maps.lines().any(|line| line.contains(" rwx")), "{maps}");
        // Those of whoever stops the whole service, or presses Ctrl-C.
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            kill(Pid::from_raw(*decoder as i32), signal).unwrap();
        }
    }
    assert!(!detect(&daemon, photo("selfie.jpg")).await.unwrap().faces.is_empty());
    assert_eq!(decoders_of(daemon.child.id()), decoders);

    daemon.terminate();
    assert!(daemon.child.wait().unwrap().success());
    until("the decoders have ended with the daemon", || !decoders.iter().any(|decoder| is_alive(*decoder)));

    // And when it is killed with a decoder at work.
    let mut daemon = Daemon::start_with(&[("VOUCH_DECODERS__PROCESSES", "2")]);
    let decoders = decoders_of(daemon.child.id());
    assert_eq!(decoders.len(), 2);
    let at_start: u64 = decoders.iter().map(|decoder| ticks(*decoder)).sum();
    let (slow, work) = (slow_jpeg(), daemon.client().await);
    let mut client = work;
    let working = tokio::spawn(async move { client.detect_faces(DetectFacesRequest { image: slow }).await });
    until("a decoder at work", || decoders.iter().map(|decoder| ticks(*decoder)).sum::<u64>() > at_start + 10);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let killed = Instant::now();
    until("the decoders have ended with the daemon", || !decoders.iter().any(|decoder| is_alive(*decoder)));
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    working.await.unwrap().unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_pictures_leave_neither_memory_nor_descriptors_nor_processes_behind() {
    // Nobody has to pause for what is sent here.
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(config.path(), "[[callers]]\nname = 'test'\nmalformed_burst = 0\n").unwrap();
    let daemon = Daemon::start_with(&[
        ("VOUCH_CONFIG", config.path().to_str().unwrap()),
        ("VOUCH_DECODERS__PROCESSES", "2"),
        ("VOUCH_INFERENCE__SESSIONS_PER_MODEL", "1"),
    ]);
    let pid = daemon.child.id();
    let mut client = daemon.client().await;
    let files = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    // Most end too early: decoded to there, refused, and no work for the models.
    let good = Bytes::from(jpeg(&waves(640, 480), |_| ()));
    let cut = good.slice(..good.len() - 100);
    let mut seen = Vec::new();
    for round in 0..6 {
        for number in 0..100 {
            let image = if number % 50 == 0 { good.clone() } else { cut.clone() };
            let answer = client.detect_faces(DetectFacesRequest { image }).await;
            assert_eq!(answer.is_ok(), number % 50 == 0, "{answer:?}");
        }
        // Each is replaced after its time.
        until("two decoders", || decoders_of(pid).len() == 2);
        seen.push((round, files(pid), resident(pid), resident_of_decoders(pid)));
    }
    let (_, first_files, first_daemon, first_decoders) = seen[0];
    let (_, last_files, last_daemon, last_decoders) = seen[5];
    assert!(last_files <= first_files + 1, "{seen:?}");
    assert!(last_daemon < first_daemon + (24 << 20) && last_decoders < first_decoders + (4 << 20), "{seen:?}");

    // A large picture is let go of, when no other comes.
    let large = Bytes::from(jpeg(&waves(6000, 4000), |_| ()));
    client.detect_faces(DetectFacesRequest { image: large }).await.unwrap();
    until("what a large picture took is given back", || {
        decoders_of(pid).into_iter().filter_map(resident_of).all(|held| held < last_decoders / 2 + (16 << 20))
    });
}

#[tokio::test]
async fn without_isolation_the_same_faces_are_found_and_the_status_tells() {
    let alone = Daemon::start_with(&[("VOUCH_DECODERS__ISOLATED", "false")]);
    assert!(decoders_of(alone.child.id()).is_empty());
    let status = alone.client().await.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!((status.decoder_processes, status.decoder_resident_bytes), (0, 0));
    let daemon = Daemon::start();
    assert!(!decoders_of(daemon.child.id()).is_empty());
    for name in ["selfie.jpg", "portrait.jpg"] {
        let [with, without] = [detect(&daemon, photo(name)).await.unwrap(), detect(&alone, photo(name)).await.unwrap()];
        assert_eq!(with.faces, without.faces);
    }
}

#[test]
fn a_host_that_does_not_allow_isolation_is_a_fault_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let start = |prepare: fn() -> std::io::Result<()>, isolated: &str| {
        let mut command = vouchd(&folder.path().join("vouch.sock"));
        // A pack that is not there, so that without isolation it ends for another reason.
        command.env("VOUCH_DECODERS__ISOLATED", isolated).env("VOUCH_PACK_DIR", folder.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: what is prepared makes system calls alone.
        let output = unsafe { command.pre_exec(prepare) }.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let no_seccomp: fn() -> std::io::Result<()> = || {
        // prctl(PR_SET_SECCOMP) answers as a kernel without seccomp does.
        let is_seccomp = seccompiler::SeccompCondition::new(
            0,
            seccompiler::SeccompCmpArgLen::Dword,
            seccompiler::SeccompCmpOp::Eq,
            libc::PR_SET_SECCOMP as u64,
        );
        let rule = seccompiler::SeccompRule::new(vec![is_seccomp.unwrap()]).unwrap();
        let (allow, refuse) =
            (seccompiler::SeccompAction::Allow, seccompiler::SeccompAction::Errno(libc::EINVAL as u32));
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = seccompiler::SeccompFilter::new([(libc::SYS_prctl, vec![rule])].into(), allow, refuse, arch);
        let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
        seccompiler::apply_filter(&program).map_err(std::io::Error::other)
    };
    let small_stack: fn() -> std::io::Result<()> =
        || Ok(nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_STACK, 8 << 20, 8 << 20)?);
    for (prepare, word) in [(no_seccomp, "seccomp"), (small_stack, "limits")] {
        let (exit, words) = start(prepare, "true");
        assert_eq!(exit, Some(78), "{words}");
        assert!(words.contains("decoders.isolated = true") && words.contains(word), "{words}");
        let (_, words) = start(prepare, "false");
        assert!(!words.contains("isolated = true"), "{words}");
        assert!(words.contains("decoders.isolated = false"), "{words}");
    }
}

#[test]
fn the_argument_alone_starts_nothing() {
    let mut command = vouchd(Path::new("/nowhere.sock"));
    let output = command.arg("--decoder-process").output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("daemon's own use"), "{output:?}");
}
