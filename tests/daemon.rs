//! The real daemon with real models: verdicts, event order, bad input, overload, callers that vanish, drain, determinism.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Client, Daemon, photo, root, vouchd};
use image::{ImageFormat, RgbImage, imageops};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use vouch::api::proto::verify_event::Event;
use vouch::api::proto::{
    CheckRequest, CheckResult, DetectFacesRequest, GetStatusRequest, MatchFacesRequest, Media, MediaKind, Outcome,
    VerifyEvent, VerifyRequest,
};

fn encoded(image: &RgbImage, format: ImageFormat) -> Bytes {
    let mut file = std::io::Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner().into()
}

fn decoded(name: &str) -> RgbImage {
    image::load_from_memory(&photo(name)).unwrap().into_rgb8()
}

fn media(kind: MediaKind, data: Bytes) -> Media {
    Media { kind: kind.into(), data }
}

async fn match_faces(client: &mut Client, probe: Bytes, reference: Bytes) -> Result<CheckResult, Status> {
    let request = MatchFacesRequest { probe, reference, operating_point: String::new() };
    client.match_faces(request).await.map(|response| response.into_inner().result.unwrap())
}

async fn verify(client: &mut Client, request: VerifyRequest) -> Result<Vec<VerifyEvent>, Status> {
    let mut stream = client.verify(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await? {
        events.push(event);
    }
    Ok(events)
}

fn codes(result: &CheckResult) -> Vec<&str> {
    result.warnings.iter().map(|warning| warning.code.as_str()).collect()
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn one_person_matches_and_two_do_not() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let same = match_faces(&mut client, photo("selfie.jpg"), photo("portrait.jpg")).await.unwrap();
    assert_eq!(same.outcome(), Outcome::Pass, "{same:?}");
    let other = match_faces(&mut client, photo("selfie.jpg"), photo("other-person.jpg")).await.unwrap();
    assert_eq!(other.outcome(), Outcome::Fail, "{other:?}");
    // Every result names what it rests on.
    assert_eq!(same.score_kind, "cosine_similarity");
    assert_eq!(same.calibration_sha256.len(), 64);
    assert_eq!(
        same.models.iter().map(|model| model.role.as_str()).collect::<Vec<_>>(),
        ["face_detector", "face_embedder", "face_embedder_b"]
    );
    let point = same.operating_point.unwrap();
    assert!(same.score.unwrap() >= point.threshold && other.score.unwrap() < point.threshold);
    assert!(point.rates.contains_key("fmr") && point.rates.contains_key("fnmr"));
    assert!(same.calibrated.unwrap().value < other.calibrated.unwrap().value);
}

#[tokio::test]
async fn a_verification_streams_its_events_in_order_and_ends_with_the_summary() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let request = VerifyRequest {
        media: vec![media(MediaKind::Selfie, photo("selfie.jpg")), media(MediaKind::Portrait, photo("portrait.jpg"))],
        checks: vec![],
        client_reference: "order 17".into(),
        ..VerifyRequest::default()
    };
    let events = verify(&mut client, request).await.unwrap();
    let Some(Event::Accepted(accepted)) = &events[0].event else { panic!("{:?}", events[0]) };
    assert_eq!(accepted.client_reference, "order 17");
    assert_eq!(accepted.checks, ["face_quality", "passive_liveness", "face_match", "age_estimation"]);
    let Some(Event::Summary(summary)) = &events.last().unwrap().event else { panic!("{:?}", events.last()) };
    let mut outcomes = BTreeMap::new();
    let mut decoded = BTreeMap::new();
    for event in &events {
        match event.event.as_ref().unwrap() {
            Event::Result(result) => {
                assert_ne!(result.outcome(), Outcome::Unspecified);
                assert!(!codes(result).contains(&"NOT_CALIBRATED"), "{result:?}");
                assert!(result.calibrated.is_some() || result.check == "face_quality", "{result:?}");
                outcomes.insert(result.check.clone(), result.outcome);
            }
            Event::Progress(progress) => *decoded.entry((progress.media, progress.stage.clone())).or_insert(0) += 1,
            _ => {}
        }
    }
    assert_eq!(outcomes, summary.outcomes.clone().into_iter().collect());
    assert_eq!(outcomes.len(), 4);
    // Four checks looked at the selfie; each stage ran once.
    assert!(decoded.values().all(|&count| count == 1), "{decoded:?}");
    assert_eq!(decoded.keys().filter(|(_, stage)| stage == "decode").count(), 2);
    assert!(events.windows(2).all(|pair| pair[0].elapsed_ms <= pair[1].elapsed_ms));
}

/// The header of a PNG that claims to be 50 000 × 50 000 pixels.
fn png_bomb() -> Bytes {
    let tiny = RgbImage::new(1, 1);
    let mut file = encoded(&tiny, ImageFormat::Png).to_vec();
    let side = 50_000u32.to_be_bytes();
    // Signature 8, chunk length 4, "IHDR" 4, then width and height; the CRC of the chunk follows its 13 bytes.
    file[16..20].copy_from_slice(&side);
    file[20..24].copy_from_slice(&side);
    let mut crc = u32::MAX;
    for &byte in &file[12..29] {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    file[29..33].copy_from_slice(&(!crc).to_be_bytes());
    file.into()
}

/// A WebP of two frames, put together from two still ones after the container specification.
fn animated_webp() -> Bytes {
    fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut chunk = name.to_vec();
        chunk.extend((content.len() as u32).to_le_bytes());
        chunk.extend(content);
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    }
    let still = encoded(&RgbImage::new(8, 8), ImageFormat::WebP);
    let mut frame = [0; 16].to_vec();
    // Offsets 0, width and height minus one, 100 ms.
    (frame[6], frame[9], frame[12]) = (7, 7, 100);
    frame.extend(&still[12..]);
    let mut content = b"WEBP".to_vec();
    content.extend(chunk(b"VP8X", &[0b10, 0, 0, 0, 7, 0, 0, 7, 0, 0]));
    content.extend(chunk(b"ANIM", &[0; 6]));
    content.extend(chunk(b"ANMF", &frame));
    content.extend(chunk(b"ANMF", &frame));
    chunk(b"RIFF", &content).into()
}

#[tokio::test]
async fn bad_input_gets_a_clear_error_and_the_next_good_request_succeeds() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let good = photo("selfie.jpg");
    let truncated = good.slice(..good.len() / 2);
    let bad: [(&str, Bytes, &str); 6] = [
        ("empty", Bytes::new(), "IMAGE_EMPTY"),
        ("truncated JPEG", truncated, "IMAGE_TRUNCATED"),
        ("50 000 × 50 000 PNG header", png_bomb(), "IMAGE_TOO_LARGE"),
        ("text named .jpg", Bytes::from_static(b"This is not a picture at all."), "IMAGE_UNSUPPORTED_FORMAT"),
        ("animated WebP", animated_webp(), "IMAGE_ANIMATED"),
        ("21 MiB of zeros", Bytes::from(vec![0; 21 << 20]), "IMAGE_TOO_LARGE"),
    ];
    for (name, data, code) in bad {
        let started = Instant::now();
        let status = match_faces(&mut client, good.clone(), data.clone()).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, code), "{name}: {status:?}");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "reference", "{name}");
        assert!(started.elapsed() < Duration::from_secs(5), "{name} took {:?}", started.elapsed());
        let request =
            VerifyRequest { media: vec![media(MediaKind::Selfie, data)], checks: vec![], ..VerifyRequest::default() };
        let status = verify(&mut client, request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, code), "{name}");
        let result = match_faces(&mut client, good.clone(), good.clone()).await.unwrap();
        assert_eq!(result.outcome(), Outcome::Pass, "after {name}");
    }
}

#[tokio::test]
async fn a_request_of_33_mib_is_refused_as_too_large() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let huge = Bytes::from(vec![0; 33 << 20]);
    let status = match_faces(&mut client, huge, photo("selfie.jpg")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "MESSAGE_TOO_LARGE"), "{status:?}");
    let result = match_faces(&mut client, photo("selfie.jpg"), photo("portrait.jpg")).await.unwrap();
    assert_eq!(result.outcome(), Outcome::Pass);
}

#[tokio::test]
async fn pictures_without_a_usable_face_are_outcomes_and_not_errors() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let noise = RgbImage::from_fn(640, 480, |x, y| {
        image::Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x ^ y) % 256) as u8])
    });
    for (name, picture) in [("no face", noise), ("one pixel", RgbImage::new(1, 1))] {
        let result =
            match_faces(&mut client, encoded(&picture, ImageFormat::Png), photo("portrait.jpg")).await.unwrap();
        assert_eq!((result.outcome(), codes(&result)), (Outcome::Inconclusive, vec!["NO_FACE_DETECTED"]), "{name}");
        assert_eq!(result.score, None, "{name}");
    }
}

#[tokio::test]
async fn forty_faces_are_all_found_and_warned_of() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let face = imageops::resize(&decoded("portrait.jpg"), 200, 240, imageops::FilterType::Triangle);
    let mut crowd = RgbImage::new(8 * 200, 5 * 240);
    for place in 0..40 {
        imageops::replace(&mut crowd, &face, (place % 8) * 200, (place / 8) * 240);
    }
    let crowd = encoded(&crowd, ImageFormat::Jpeg);
    let found = client.detect_faces(DetectFacesRequest { image: crowd.clone() }).await.unwrap().into_inner();
    assert_eq!(found.faces.len(), 40);
    assert_eq!((found.width_px, found.height_px, found.rotation_deg), (1600, 1200, 0));
    assert_eq!(found.warnings[0].code, "MULTIPLE_FACES");
    let result = match_faces(&mut client, crowd, photo("portrait.jpg")).await.unwrap();
    assert!(codes(&result).contains(&"MULTIPLE_FACES"), "{result:?}");
}

#[tokio::test]
async fn a_selfie_on_its_side_still_works_and_is_warned_of() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let upright = decoded("selfie.jpg");
    let reference = client.detect_faces(DetectFacesRequest { image: photo("selfie.jpg") }).await.unwrap().into_inner();
    let upright_box = reference.faces[0].r#box.unwrap();
    let turned = [
        (imageops::rotate90(&upright), 270),
        (imageops::rotate180(&upright), 180),
        (imageops::rotate270(&upright), 90),
    ];
    for (picture, rotation_deg) in turned {
        let file = encoded(&picture, ImageFormat::Png);
        let result = match_faces(&mut client, file.clone(), photo("portrait.jpg")).await.unwrap();
        assert_eq!(result.outcome(), Outcome::Pass, "{rotation_deg}: {result:?}");
        assert!(codes(&result).contains(&"IMAGE_ROTATED"), "{rotation_deg}");
        let found = client.detect_faces(DetectFacesRequest { image: file }).await.unwrap().into_inner();
        assert_eq!(found.rotation_deg, rotation_deg);
        // The box is told in the picture as it was sent.
        let (found_box, landmark) = (found.faces[0].r#box.unwrap(), found.faces[0].landmarks[2]);
        let expected = match rotation_deg {
            270 => f64::from(upright.height()) - upright_box.y - upright_box.height,
            180 => f64::from(upright.width()) - upright_box.x - upright_box.width,
            _ => upright_box.y,
        };
        assert!((found_box.x - expected).abs() < 0.15 * upright_box.width, "{rotation_deg}: {found_box:?}");
        assert!(landmark.x > found_box.x && landmark.x < found_box.x + found_box.width, "{rotation_deg}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_name_the_field() {
    let daemon = Daemon::start();
    let mut client = daemon.client().await;
    let selfie = || media(MediaKind::Selfie, photo("selfie.jpg"));
    let check = |name: &str| CheckRequest { name: name.into(), ..CheckRequest::default() };
    let cases = [
        (vec![], vec![], "media", "MEDIA_MISSING"),
        (vec![selfie(), selfie()], vec![], "media[1].kind", "MEDIA_KIND_REPEATED"),
        (vec![media(MediaKind::Unspecified, photo("selfie.jpg"))], vec![], "media[0].kind", "MEDIA_KIND_UNKNOWN"),
        (vec![selfie()], vec![check("face_match")], "checks[0].name", "MEDIA_MISSING"),
        (vec![selfie()], vec![check("palm_reading")], "checks[0].name", "CHECK_UNKNOWN"),
        (vec![selfie()], vec![check("face_quality"), check("face_quality")], "checks[1].name", "CHECK_REPEATED"),
        (
            vec![selfie()],
            vec![CheckRequest { operating_point: "lucky".into(), ..check("passive_liveness") }],
            "checks[0].operating_point",
            "OPERATING_POINT_UNKNOWN",
        ),
        (
            vec![selfie()],
            vec![CheckRequest { parameters: [("minimum_age_years".into(), -3.0)].into(), ..check("age_estimation") }],
            "checks[0].parameters",
            "PARAMETER_OUT_OF_RANGE",
        ),
        (
            vec![selfie()],
            vec![CheckRequest { parameters: [("height".into(), 1.0)].into(), ..check("age_estimation") }],
            "checks[0].parameters",
            "PARAMETER_UNKNOWN",
        ),
    ];
    for (media, checks, field, code) in cases {
        let request = VerifyRequest { media, checks, ..VerifyRequest::default() };
        let status = verify(&mut client, request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, code), "{status:?}");
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, field);
    }
}

#[tokio::test]
async fn the_same_input_gives_the_same_score_to_the_last_bit_alone_and_beside_31_others() {
    let daemon = Daemon::start_with(&PATIENT);
    same_scores_alone_and_in_a_crowd(&daemon).await;
}

#[tokio::test]
async fn batches_do_not_change_a_bit() {
    let daemon = Daemon::start_with(&[
        PATIENT[0],
        PATIENT[1],
        ("VOUCH_INFERENCE__MAX_BATCH", "8"),
        ("VOUCH_INFERENCE__MAX_BATCH_DELAY_US", "20000"),
        ("VOUCH_LIMITS__MAX_RUNNING", "16"),
    ]);
    // Which requests meet in a queue is up to the scheduler, so the crowd comes again until every model has seen a batch.
    for _ in 0..10 {
        same_scores_alone_and_in_a_crowd(&daemon).await;
        let status = daemon.client().await.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
        // Those of documents have nothing to do here.
        let used: Vec<_> = status.models.iter().filter(|model| model.runs_total > 0).collect();
        assert_eq!(used.len(), 7);
        if used.iter().all(|model| model.items_total > model.runs_total) {
            return;
        }
    }
    panic!("a model was never batched");
}

/// For a crowd of requests on a debug build.
const PATIENT: [(&str, &str); 2] =
    [("VOUCH_LIMITS__MAX_REQUEST_SECONDS", "600"), ("VOUCH_LIMITS__MAX_WAIT_MS", "600000")];

async fn same_scores_alone_and_in_a_crowd(daemon: &Daemon) {
    let mut client = daemon.client().await;
    let pictures = [photo("selfie.jpg"), photo("portrait.jpg"), photo("other-person.jpg")];
    let pairs: Vec<(usize, usize)> = (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).collect();
    let request = |(a, b): (usize, usize)| VerifyRequest {
        media: vec![media(MediaKind::Selfie, pictures[a].clone()), media(MediaKind::Portrait, pictures[b].clone())],
        checks: vec![],
        ..VerifyRequest::default()
    };
    let scores = |events: Vec<VerifyEvent>| -> BTreeMap<String, (Option<u64>, BTreeMap<String, u64>)> {
        let results = events.into_iter().filter_map(|event| match event.event {
            Some(Event::Result(result)) => Some(result),
            _ => None,
        });
        results
            .map(|result| {
                let measured = result.measurements.into_iter().map(|(name, value)| (name, value.to_bits())).collect();
                (result.check, (result.score.map(f64::to_bits), measured))
            })
            .collect()
    };
    let mut alone = Vec::new();
    for &pair in &pairs {
        alone.push(scores(verify(&mut client, request(pair)).await.unwrap()));
    }
    assert_ne!(alone[0], alone[1], "different pictures have different scores");
    let crowd: Vec<_> = (0..32)
        .map(|index| {
            let (mut client, request) = (client.clone(), request(pairs[index % pairs.len()]));
            tokio::spawn(async move { verify(&mut client, request).await.unwrap() })
        })
        .collect();
    for (index, task) in crowd.into_iter().enumerate() {
        assert_eq!(scores(task.await.unwrap()), alone[index % pairs.len()], "request {index}");
    }
}

#[tokio::test]
async fn deadlines_and_vanished_callers_free_their_places() {
    let daemon = Daemon::start_with(&[("VOUCH_LIMITS__MAX_RUNNING", "1"), ("VOUCH_LIMITS__MAX_WAITING", "2")]);
    let mut client = daemon.client().await;
    let request = || VerifyRequest {
        media: vec![media(MediaKind::Selfie, photo("selfie.jpg")), media(MediaKind::Portrait, photo("portrait.jpg"))],
        checks: vec![],
        ..VerifyRequest::default()
    };
    let mut hurried = Request::new(request());
    hurried.set_timeout(Duration::from_millis(1));
    let status = match client.verify(hurried).await {
        Err(status) => status,
        Ok(stream) => {
            let mut stream = stream.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("a deadline of 1 ms was met"),
                    Err(status) => break status,
                }
            }
        }
    };
    // tonic's own client calls the end of its local timer CANCELLED; whichever side notices first is right.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    async fn model_runs(client: &mut Client) -> u64 {
        let status = client.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
        status.models.iter().map(|model| model.runs_total).sum()
    }
    let runs_before = model_runs(&mut client).await;
    for _ in 0..20 {
        let stream = client.verify(request()).await.unwrap().into_inner();
        drop(stream);
    }
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let status = client.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
        if (status.running, status.waiting) == (0, 0) {
            break;
        }
        assert!(Instant::now() < until, "places are not given back: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A whole verification takes sixteen runs (two detections, eight embeddings, four of age, liveness, landmarks); those whose caller left are dropped on the way.
    let runs = model_runs(&mut client).await - runs_before;
    assert!(runs < 20 * 16 / 2, "{runs} runs for callers that had gone");
    assert_eq!(verify(&mut client, request()).await.unwrap().len(), 1 + 11 + 4 + 1);
}

#[tokio::test]
async fn one_request_too_many_is_refused_at_once_with_a_time_to_come_back() {
    let daemon = Daemon::start_with(&[("VOUCH_LIMITS__MAX_RUNNING", "1"), ("VOUCH_LIMITS__MAX_WAITING", "1")]);
    let client = daemon.client().await;
    let crowd: Vec<_> = (0..12)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { match_faces(&mut client, photo("selfie.jpg"), photo("portrait.jpg")).await })
        })
        .collect();
    let (mut answered, mut refused) = (0, 0);
    for task in crowd {
        match task.await.unwrap() {
            Ok(result) => {
                assert_eq!(result.outcome(), Outcome::Pass);
                answered += 1;
            }
            Err(status) => {
                assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
                let delay = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
                assert!(delay > Duration::ZERO && delay < Duration::from_secs(60), "{delay:?}");
                refused += 1;
            }
        }
    }
    assert!(answered >= 2 && refused >= 1, "{answered} answered, {refused} refused");
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_removes_the_socket() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client().await;
    let request = VerifyRequest {
        media: vec![media(MediaKind::Selfie, photo("selfie.jpg")), media(MediaKind::Portrait, photo("portrait.jpg"))],
        checks: vec![],
        ..VerifyRequest::default()
    };
    let mut stream = client.verify(request).await.unwrap().into_inner();
    assert!(matches!(stream.message().await.unwrap().unwrap().event, Some(Event::Accepted(_))));
    daemon.terminate();
    let mut last = None;
    while let Some(event) = stream.message().await.unwrap() {
        last = event.event;
    }
    assert!(matches!(last, Some(Event::Summary(_))), "{last:?}");
    assert!(daemon.child.wait().unwrap().success());
    assert!(!daemon.socket().exists());
}

/// A copy of the pack in which every file is a link to the real one.
fn linked_pack() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pack = vouch::models::find_pack_dir(Some(&root().join("models/pack")));
    fs::create_dir(folder.path().join("runtime")).unwrap();
    for entry in fs::read_dir(&pack).expect("the model pack is missing; run `make pack`").map(Result::unwrap) {
        if entry.path().is_file() {
            symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    for entry in fs::read_dir(pack.join("runtime")).unwrap().map(Result::unwrap) {
        symlink(entry.path(), folder.path().join("runtime").join(entry.file_name())).unwrap();
    }
    folder
}

fn start_with_pack(pack: &tempfile::TempDir) -> (i32, String) {
    let socket = pack.path().join("vouch.sock");
    let output = vouchd(&socket)
        .arg("--pack")
        .arg(pack.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_missing_model_and_one_with_a_flipped_byte_are_named_and_stop_the_start() {
    let pack = linked_pack();
    let model = pack.path().join("sface.onnx");
    let mut bytes = fs::read(&model).unwrap();
    fs::remove_file(&model).unwrap();
    let (code, log) = start_with_pack(&pack);
    assert_eq!(code, 66, "{log}");
    assert!(log.contains("sface.onnx is missing") && log.contains("vouch models pull"), "{log}");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).unwrap();
    let (code, log) = start_with_pack(&pack);
    assert_eq!(code, 78, "{log}");
    assert!(log.contains("sface.onnx") && log.contains("SHA-256"), "{log}");
}

#[test]
fn a_library_that_is_not_the_right_runtime_is_named_and_stops_the_start() {
    let pack = linked_pack();
    let library = pack.path().join("runtime/libonnxruntime.so");
    fs::remove_file(&library).unwrap();
    fs::write(&library, b"not a library").unwrap();
    let (code, log) = start_with_pack(&pack);
    assert_eq!(code, 78, "{log}");
    assert!(log.contains("libonnxruntime.so"), "{log}");
}

#[test]
fn a_required_gpu_that_is_not_there_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("vouch.sock");
    let output = vouchd(&socket).args(["--device", "required"]).stderr(Stdio::piped()).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{log}");
    assert!(log.contains("GPU"), "{log}");
}

#[tokio::test]
async fn the_status_tells_what_is_loaded() {
    let daemon = Daemon::start();
    let status = daemon.client().await.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!((status.device_requested.as_str(), status.device_in_use.as_str()), ("cpu", "CPUExecutionProvider"));
    assert_eq!(status.models.len(), 11);
    assert!(status.checks.iter().all(|check| check.calibrated != check.decides_by_rule), "{:?}", status.checks);
    assert!(
        status.checks.iter().any(|check| check.calibrated) && status.checks.iter().any(|check| check.decides_by_rule)
    );
    assert!(status.resident_bytes > 50 << 20);
}

#[tokio::test]
async fn nothing_is_left_in_the_home_folder_of_the_daemon() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(&[
        ("HOME", home.path().to_str().unwrap()),
        // Where the runtime's telemetry would go instead, were it there.
        ("XDG_CACHE_HOME", home.path().to_str().unwrap()),
        ("VOUCH_PACK_DIR", root().join("models/pack").to_str().unwrap()),
    ]);
    let result = match_faces(&mut daemon.client().await, photo("selfie.jpg"), photo("portrait.jpg")).await.unwrap();
    assert_eq!(result.outcome(), Outcome::Pass);
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
