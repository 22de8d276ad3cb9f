//! Malformed inputs for every RPC: pictures and PDF files that were cut, altered, put together or lie about their size, and bytes that are no messages.
//!
//! Each must be answered, with a result or an error of its own, on a connection that stays open. An INTERNAL error counts as lost: it is a fault of ours that an input has found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use image::ImageFormat;
use image::imageops::FilterType;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tokio_stream::StreamExt;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status, Streaming};
use vouch::api::proto::verify_live_request::Message;
use vouch::api::proto::{
    CheckPassiveLivenessRequest, DetectFacesRequest, EstimateAgeRequest, LiveFrame, LivePolicy, MatchFacesRequest,
    Media, MediaKind, ReadDocumentRequest, ScanMrzRequest, VerifyLiveRequest, VerifyRequest,
};

use super::Row;
use super::stand::{HANGS, Stand, end_of};
use crate::common::{Client, channel_of, photo};

/// All of the service, and others that a caller can reach without being the operator.
const PATHS: [&str; 10] = [
    "/vouch.v1.Verification/Verify",
    "/vouch.v1.Verification/MatchFaces",
    "/vouch.v1.Verification/DetectFaces",
    "/vouch.v1.Verification/CheckPassiveLiveness",
    "/vouch.v1.Verification/EstimateAge",
    "/vouch.v1.Verification/ReadDocument",
    "/vouch.v1.Verification/ScanMrz",
    "/vouch.v1.Verification/VerifyLive",
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// Longer than the daemon's own limit for a request, so that what it ends by itself is an end.
const LIMIT: Duration = Duration::from_secs(45);

/// Files from which malformed ones are made.
pub struct Files(Vec<Vec<u8>>);

impl Files {
    pub fn new() -> Self {
        let face = image::load_from_memory(&photo("selfie.jpg")).unwrap().resize(160, 160, FilterType::Triangle);
        let face = face.to_rgb8();
        let formats = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff];
        let mut files: Vec<_> = formats
            .iter()
            .map(|format| {
                let mut file = std::io::Cursor::new(Vec::new());
                face.write_to(&mut file, *format).unwrap();
                file.into_inner()
            })
            .collect();
        let pdf = pdf(&files[0], face.dimensions());
        files.push(pdf);
        Self(files)
    }

    /// A malformed file; the same for the same number.
    pub fn malformed(&self, random: &mut Pcg64) -> Bytes {
        let mut file = self.0[random.random_range(0..self.0.len())].clone();
        match random.random_range(0..9) {
            0 => file.truncate(random.random_range(0..file.len())),
            1 | 2 => {
                for _ in 0..random.random_range(1..32) {
                    let at = random.random_range(0..file.len());
                    file[at] ^= 1 << random.random_range(0..8);
                }
            }
            // In the first bytes stand sizes, counts and offsets.
            3 | 4 => {
                for _ in 0..random.random_range(1..8) {
                    let at = random.random_range(0..file.len().min(200));
                    file[at] = random.random();
                }
            }
            5 => {
                let at = random.random_range(0..file.len());
                let end = (at + random.random_range(1..2000)).min(file.len());
                file[at..end].fill(if random.random() { 0 } else { 0xff });
            }
            6 => {
                let other = &self.0[random.random_range(0..self.0.len())];
                file.truncate(random.random_range(0..file.len()));
                file.extend(&other[random.random_range(0..other.len())..]);
            }
            7 => {
                let at = random.random_range(0..file.len());
                let piece = file[at..(at + 500).min(file.len())].to_vec();
                file.splice(at..at, piece.repeat(random.random_range(1..40)));
            }
            _ => file = special(random),
        }
        file.into()
    }
}

/// What no alteration of a file would give.
fn special(random: &mut Pcg64) -> Vec<u8> {
    match random.random_range(0..8) {
        0 => Vec::new(),
        1 => b"GIF89a\xff\xff\xff\xff\0\0\0".to_vec(),
        2 => [&[0, 0, 0, 24][..], b"ftypheic", &[0; 8], b"mif1heic"].concat(),
        3 => b"<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\">]><svg>&a;</svg>".to_vec(),
        4 => png_of_one_colour(40_000),
        5 => png_of_one_colour(7_000),
        6 => (0..random.random_range(1..5000)).map(|_| random.random()).collect(),
        _ => [
            b"%PDF-1.7\n1 0 obj <</Type/Catalog/Pages 1 0 R>> endobj\ntrailer <</Root 1 0 R>>\n".to_vec(),
            b"[".repeat(20_000),
        ]
        .concat(),
    }
}

/// A PNG of so many pixels on each side, all black, whose file is small: a decompression bomb.
fn png_of_one_colour(side: u32) -> Vec<u8> {
    use std::io::Write;
    let chunk = |name: &[u8; 4], content: &[u8]| {
        let named = [&name[..], content].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&named);
        [&(content.len() as u32).to_be_bytes()[..], &named, &crc.sum().to_be_bytes()].concat()
    };
    let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let mut pixels = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    // Not all rows of the larger ones: it is refused by its header.
    for _ in 0..side.min(8_000) {
        pixels.write_all(&vec![0; side as usize + 1]).unwrap();
    }
    let signature = b"\x89PNG\r\n\x1a\n";
    [&signature[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &pixels.finish().unwrap()), &chunk(b"IEND", &[])]
        .concat()
}

/// A page that shows a JPEG.
fn pdf(jpeg: &[u8], (width, height): (u32, u32)) -> Vec<u8> {
    let drawing = "q 200 0 0 200 0 0 cm /I Do Q";
    let objects: [Vec<u8>; 5] = [
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>".to_vec(),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>".to_vec(),
        format!("<</Length {}>>stream\n{drawing}\nendstream", drawing.len()).into_bytes(),
        [
            format!(
                "<</Type/XObject/Subtype/Image/Width {width}/Height {height}/BitsPerComponent 8/ColorSpace/DeviceRGB\
                 /Filter/DCTDecode/Length {}>>stream\n",
                jpeg.len()
            )
            .into_bytes(),
            jpeg.to_vec(),
            b"\nendstream".to_vec(),
        ]
        .concat(),
    ];
    let mut file = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(file.len());
        file.extend(format!("{} 0 obj\n", index + 1).bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let table = file.len();
    file.extend(b"xref\n0 6\n0000000000 65535 f \n");
    places.iter().for_each(|place| file.extend(format!("{place:010} 00000 n \n").bytes()));
    file.extend(format!("trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n").bytes());
    file
}

/// Messages that are sent as they are.
#[derive(Debug, Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Reads a stream to its end.
async fn drain<T>(mut events: Streaming<T>) -> Result<(), Status> {
    while events.message().await?.is_some() {}
    Ok(())
}

/// Sends one malformed input, to one RPC after the other.
async fn send(client: &mut Client, files: &Files, number: u64, random: &mut Pcg64) -> Result<(), Status> {
    let file = files.malformed(random);
    let good = || Bytes::from(files.0[0].clone());
    let media = |kind: MediaKind, data| Media { kind: kind.into(), data };
    match number % 10 {
        0 => drop(client.detect_faces(DetectFacesRequest { image: file }).await?),
        1 => {
            let request = MatchFacesRequest { probe: good(), reference: file, ..MatchFacesRequest::default() };
            client.match_faces(request).await?;
        }
        2 => {
            let request = CheckPassiveLivenessRequest { selfie: file, ..CheckPassiveLivenessRequest::default() };
            client.check_passive_liveness(request).await?;
        }
        3 => drop(client.estimate_age(EstimateAgeRequest { selfie: file, ..EstimateAgeRequest::default() }).await?),
        4 => {
            let request = ReadDocumentRequest { images: vec![file], ..ReadDocumentRequest::default() };
            client.read_document(request).await?;
        }
        5 => {
            let frames = [file, files.malformed(random)].map(|frame| ScanMrzRequest { frame });
            drain(client.scan_mrz(tokio_stream::iter(frames)).await?.into_inner()).await?;
        }
        6 => {
            let media = vec![media(MediaKind::Selfie, good()), media(MediaKind::DocumentFront, file)];
            drain(client.verify(VerifyRequest { media, ..VerifyRequest::default() }).await?.into_inner()).await?;
        }
        7 => {
            let frame = LiveFrame { image: file, ..LiveFrame::default() };
            let messages = [Message::Policy(LivePolicy::default()), Message::Frame(frame)];
            let messages = messages.map(|message| VerifyLiveRequest { message: Some(message) });
            drain(client.verify_live(tokio_stream::iter(messages)).await?.into_inner()).await?;
        }
        _ => unreachable!("other numbers are bytes that are no messages"),
    }
    Ok(())
}

/// Bytes that are no message, or one of another kind, to a path.
async fn send_bytes(channel: tonic::transport::Channel, number: u64, random: &mut Pcg64) -> Result<(), Status> {
    let bytes: Vec<u8> = match random.random_range(0..4) {
        0 => Vec::new(),
        1 => (0..random.random_range(1..2000)).map(|_| random.random()).collect(),
        // Lengths that reach beyond the message, nested.
        2 => [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f].repeat(random.random_range(1..200)),
        _ => [0x0a, 0x80].repeat(random.random_range(1..2000)),
    };
    let path = PATHS[(number / 10) as usize % PATHS.len()].parse().unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let sent = tokio_stream::iter([Bytes::from(bytes)]);
    let mut answers = client.streaming(Request::new(sent), path, Raw).await?.into_inner();
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

/// Sends so many, four at a time, beside a bystander. The same for the same seed.
pub fn send_all(stand: &mut Stand, row: &mut Row, count: u64, seed: u64) {
    let bystander = stand.bystander();
    let files = Arc::new(Files::new());
    let next = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (files, next, mut client, socket) =
                (Arc::clone(&files), Arc::clone(&next), stand.client(), stand.socket());
            stand.runtime.spawn(async move {
                let channel = channel_of(&socket).await;
                let mut ends = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return ends;
                    }
                    let mut random = Pcg64::seed_from_u64(seed << 32 | number);
                    let sent = async {
                        if number % 10 < 8 {
                            send(&mut client, &files, number, &mut random).await
                        } else {
                            send_bytes(channel.clone(), number, &mut random).await
                        }
                    };
                    let end = match tokio::time::timeout(LIMIT, sent).await {
                        Err(_) => HANGS.to_owned(),
                        Ok(Ok(())) => "OK".to_owned(),
                        Ok(Err(status)) => end_of(&status),
                    };
                    ends.push((number, end));
                }
            })
        })
        .collect();
    for caller in callers {
        for (number, end) in stand.runtime.block_on(caller).unwrap() {
            row.injected += 1;
            if end == HANGS || end == "INTERNAL" || end == "connection closed" {
                row.lost.push(format!("input {number} of seed {seed}: {end}"));
            } else {
                row.survived += 1;
            }
            row.end(end);
        }
    }
    bystander.leave(stand, row);
}
