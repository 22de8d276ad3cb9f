//! Memory of the daemon under mixed requests of all kinds, good and bad, with pictures of many sizes, four at a time: resident bytes after
//! 5 000 requests and after every 20 000, beside those after the first 5 000. Read at rest, when the daemon has given its free pages back, and right after the last
//! answer as well, which varies with what the last requests were. Requests of much work are rarer than those of little, so that 100 000 take
//! one to two hours of two cores.
//!
//! `cargo bench --bench soak [-- REQUESTS]` (after `make pack sample-photos`); a tenth of these numbers with fewer than 50 000.
//!
//! `cargo bench --bench soak -- faults [--minutes 30] [--load 0.8]` instead holds the daemon at a share of its capacity while faults are injected (`soak/under_faults.rs`).

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/drawn.rs"]
mod drawn;
#[path = "../tests/injection/mod.rs"]
mod injection;
#[path = "../tests/common/pages.rs"]
mod pages;
#[path = "soak/under_faults.rs"]
mod under_faults;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Client, Daemon, photo, png};
use drawn::drawn;
use image::{ImageFormat, RgbImage, imageops};
use pages::{card, on_a_table};
use vouch::api::proto::{
    CheckPassiveLivenessRequest, DetectFacesRequest, EstimateAgeRequest, GetStatusRequest, MatchFacesRequest, Media,
    MediaKind, ReadDocumentRequest, ScanMrzRequest, VerifyRequest,
};

const CALLERS: usize = 4;

/// The daemon gives free pages back every five seconds, the last time up to ten seconds after the last request.
const REST: Duration = Duration::from_secs(12);

/// The sample photographs at several sizes, upright and on their side, as JPEG and PNG, and files that are no pictures.
fn pictures() -> (Vec<Bytes>, Vec<Bytes>) {
    let encoded = |image: &RgbImage, format| {
        let mut file = std::io::Cursor::new(Vec::new());
        image.write_to(&mut file, format).unwrap();
        Bytes::from(file.into_inner())
    };
    let mut good = Vec::new();
    for name in ["selfie.jpg", "portrait.jpg", "other-person.jpg"] {
        let image = image::load_from_memory(&photo(name)).unwrap().into_rgb8();
        for long_side in [240, 500, 900, 1700, 2600] {
            let scale = f64::from(long_side) / f64::from(image.width().max(image.height()));
            let sized = |side: u32| (f64::from(side) * scale).round() as u32;
            let (width, height) = (sized(image.width()), sized(image.height()));
            let resized = imageops::resize(&image, width, height, imageops::FilterType::Triangle);
            good.push(encoded(&resized, ImageFormat::Jpeg));
            if long_side <= 900 {
                good.push(encoded(&imageops::rotate90(&resized), ImageFormat::Png));
            }
        }
    }
    let truncated = good[0].slice(..good[0].len() / 2);
    let faceless = encoded(&RgbImage::from_pixel(800, 600, image::Rgb([90, 120, 30])), ImageFormat::Png);
    (good, vec![Bytes::new(), truncated, Bytes::from_static(b"not a picture"), faceless])
}

/// What is asked with: photographs of faces and of a document, and what is none of these.
struct Material {
    faces: Vec<Bytes>,
    small_faces: Vec<Bytes>,
    documents: Vec<Bytes>,
    zone: Bytes,
    bad: Vec<Bytes>,
}

impl Material {
    fn new() -> Self {
        let (faces, bad) = pictures();
        let zone =
            drawn(&["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"]);
        let card = card(&photo("portrait.jpg"));
        let documents = [[1280, 960], [1600, 1200]].map(|size| {
            let mut file = std::io::Cursor::new(Vec::new());
            on_a_table(&card, size, [120, 90]).write_to(&mut file, ImageFormat::Jpeg).unwrap();
            Bytes::from(file.into_inner())
        });
        let mut small_faces = faces.clone();
        small_faces.sort_by_key(Bytes::len);
        small_faces.truncate(4);
        let zone = png(&zone);
        Self { faces, small_faces, documents: documents.into_iter().chain([zone.clone()]).collect(), zone, bad }
    }

    /// Sends one request; true if it was answered and not refused for what it is.
    async fn ask(&self, client: &mut Client, number: usize) -> bool {
        let face = |step: usize| self.faces[(number * step + number / 7) % self.faces.len()].clone();
        let small = || self.small_faces[(number + number / 7) % self.small_faces.len()].clone();
        let document = || self.documents[number / 1000 % self.documents.len()].clone();
        let media = |kind: MediaKind, data| Media { kind: kind.into(), data };
        let operating_point = String::new();
        // Of a thousand, in an order that does not put those of one kind beside each other.
        match number * 371 % 1000 {
            0 => self.verify(client, media(MediaKind::DocumentFront, document()), face(1)).await,
            1 => {
                let request = ReadDocumentRequest { images: vec![document()], ..ReadDocumentRequest::default() };
                client.read_document(request).await.is_ok()
            }
            2..7 => self.verify(client, media(MediaKind::Portrait, face(5)), face(1)).await,
            7..17 => {
                let request = MatchFacesRequest { probe: face(1), reference: face(3), operating_point };
                client.match_faces(request).await.is_ok()
            }
            17..20 => client.detect_faces(DetectFacesRequest { image: face(1) }).await.is_ok(),
            20..100 => {
                let request = CheckPassiveLivenessRequest { selfie: small(), operating_point };
                client.check_passive_liveness(request).await.is_ok()
            }
            100..120 => {
                let request = EstimateAgeRequest { selfie: small(), ..EstimateAgeRequest::default() };
                client.estimate_age(request).await.is_ok()
            }
            120..270 => {
                let frames = tokio_stream::iter([ScanMrzRequest { frame: self.zone.clone() }]);
                let Ok(events) = client.scan_mrz(frames).await else { return false };
                read_to_end(events.into_inner()).await
            }
            270..720 => client.detect_faces(DetectFacesRequest { image: small() }).await.is_ok(),
            720..870 => client.get_status(GetStatusRequest::default()).await.is_ok(),
            _ => {
                let image = self.bad[number / 1000 % self.bad.len()].clone();
                client.detect_faces(DetectFacesRequest { image }).await.is_ok()
            }
        }
    }

    async fn verify(&self, client: &mut Client, reference: Media, selfie: Bytes) -> bool {
        let selfie = Media { kind: MediaKind::Selfie.into(), data: selfie };
        let request = VerifyRequest { media: vec![selfie, reference], ..VerifyRequest::default() };
        let Ok(events) = client.verify(request).await else { return false };
        read_to_end(events.into_inner()).await
    }
}

/// True if the stream ended well.
async fn read_to_end<T>(mut events: tonic::Streaming<T>) -> bool {
    loop {
        match events.message().await {
            Ok(Some(_)) => {}
            ended => return ended.is_ok(),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "faults") {
        let after = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1)?.parse().ok()
        };
        return under_faults::run(after("--minutes").unwrap_or(30.0), after("--load").unwrap_or(0.8));
    }
    let wanted = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(10_000usize);
    let first = if wanted < 50_000 { 500 } else { 5000 };
    let material = Arc::new(Material::new());
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let daemon = Daemon::start();
        let client = daemon.client().await;
        let (next, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let started = Instant::now();
        let mut after_first = None;
        for goal in std::iter::once(first).chain((4 * first..=wanted).step_by(4 * first)) {
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| {
                    let (mut client, material) = (client.clone(), Arc::clone(&material));
                    let (next, answered) = (Arc::clone(&next), Arc::clone(&answered));
                    tokio::spawn(async move {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= goal {
                                break;
                            }
                            if material.ask(&mut client, number).await {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.await.unwrap();
            }
            next.store(goal, Ordering::Relaxed);
            let resident = async || {
                let status = client.clone().get_status(GetStatusRequest::default()).await.unwrap().into_inner();
                status.resident_bytes as f64 / 1e6
            };
            let busy = resident().await;
            tokio::time::sleep(REST).await;
            let resident = resident().await;
            let base = *after_first.get_or_insert(resident);
            println!(
                "{goal:6} requests, {} answered, {:5.0} s: resident {resident:6.1} MB at rest, {:.3} of that after the first ({busy:.1} MB at work)",
                answered.load(Ordering::Relaxed),
                started.elapsed().as_secs_f64(),
                resident / base
            );
            assert!(resident <= 1.03 * base, "memory grows");
        }
    });
    ExitCode::SUCCESS
}
