//! Memory of the daemon under mixed requests: resident bytes after 1 000 and after 10 000 requests of all kinds, good and bad, with
//! pictures of many sizes, four at a time. Read at rest, when the daemon has given its free pages back, and right after the last
//! answer as well, which varies with what the last requests were.
//!
//! `cargo bench --bench soak [-- REQUESTS]` (after `make pack sample-photos`)

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Client, Daemon, photo};
use image::{ImageFormat, RgbImage, imageops};
use vouch::api::proto::{
    CheckPassiveLivenessRequest, DetectFacesRequest, EstimateAgeRequest, GetStatusRequest, MatchFacesRequest, Media,
    MediaKind, VerifyRequest,
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

async fn ask(client: &mut Client, number: usize, good: &[Bytes], bad: &[Bytes]) -> bool {
    let picture = |step: usize| good[(number * step + number / 7) % good.len()].clone();
    match number % 12 {
        0..3 => {
            let media = |kind: MediaKind, data| Media { kind: kind.into(), data };
            let request = VerifyRequest {
                media: vec![media(MediaKind::Selfie, picture(1)), media(MediaKind::Portrait, picture(5))],
                ..VerifyRequest::default()
            };
            let Ok(stream) = client.verify(request).await else { return false };
            let mut stream = stream.into_inner();
            while let Ok(Some(_)) = stream.message().await {}
            true
        }
        3..6 => {
            let request =
                MatchFacesRequest { probe: picture(1), reference: picture(3), operating_point: String::new() };
            client.match_faces(request).await.is_ok()
        }
        6 | 7 => {
            let request = CheckPassiveLivenessRequest { selfie: picture(1), operating_point: String::new() };
            client.check_passive_liveness(request).await.is_ok()
        }
        8 => client.estimate_age(EstimateAgeRequest { selfie: picture(1), ..Default::default() }).await.is_ok(),
        9 | 10 => client.detect_faces(DetectFacesRequest { image: picture(1) }).await.is_ok(),
        _ => {
            let request = DetectFacesRequest { image: bad[number / 12 % bad.len()].clone() };
            client.detect_faces(request).await.is_ok()
        }
    }
}

fn main() {
    let wanted = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(10_000usize);
    let (good, bad) = pictures();
    let (good, bad) = (Arc::new(good), Arc::new(bad));
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let daemon = Daemon::start();
        let client = daemon.client().await;
        let (next, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let started = Instant::now();
        let mut after_1000 = None;
        for goal in (1000..=wanted).step_by(1000) {
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| {
                    let (mut client, good, bad) = (client.clone(), Arc::clone(&good), Arc::clone(&bad));
                    let (next, answered) = (Arc::clone(&next), Arc::clone(&answered));
                    tokio::spawn(async move {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= goal {
                                break;
                            }
                            if ask(&mut client, number, &good, &bad).await {
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
                let status = client.clone().get_status(GetStatusRequest {}).await.unwrap().into_inner();
                status.resident_bytes as f64 / 1e6
            };
            let busy = resident().await;
            tokio::time::sleep(REST).await;
            let resident = resident().await;
            let base = *after_1000.get_or_insert(resident);
            println!(
                "{goal:6} requests, {} answered, {:5.0} s: resident {resident:6.1} MB at rest, {:.3} of that after 1000 ({busy:.1} MB at work)",
                answered.load(Ordering::Relaxed),
                started.elapsed().as_secs_f64(),
                resident / base
            );
            assert!(resident <= 1.05 * base, "memory grows");
        }
    });
}
