//! Callers that are slow, silent, broken or hostile. Beside each, a bystander is served as if they were not there, and what they held is free again when they have gone.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use rand::{RngExt, SeedableRng};
use tokio_stream::wrappers::UnboundedReceiverStream;
use vouch::api::proto::{DetectFacesRequest, ReadDocumentRequest, ScanMrzRequest};

use super::Row;
use super::stand::{Stand, in_time};
use super::wire::{self, Refusal};

/// What a flood may cost the daemon while it lasts.
const FLOOD_MEMORY_MB: u64 = 96;

/// Does something beside a bystander.
fn beside_a_bystander<T>(stand: &mut Stand, row: &mut Row, work: impl FnOnce(&mut Stand, &mut Row) -> T) -> T {
    let bystander = stand.bystander();
    let done = work(stand, row);
    bystander.leave(stand, row);
    done
}

/// True if the other side closes within a moment; what it says before is read.
fn closes(stream: &mut UnixStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Of 256 places.
pub fn silent_crowd(stand: &mut Stand, row: &mut Row) {
    beside_a_bystander(stand, row, |stand, row| {
        let crowd: Vec<_> = (0..200).map(|_| stand.connect()).collect();
        // Some begin to speak.
        for (number, mut one) in crowd.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
            let said = &wire::PREFACE[..(number % wire::PREFACE.len())];
            let _ = one.write_all(said);
        }
        let another = stand.bystander();
        std::thread::sleep(Duration::from_millis(300));
        another.leave(stand, row);
    });
}

/// Those beyond the bound hear so at once, and nobody else is hurt.
pub fn too_many_connections(stand: &mut Stand, row: &mut Row) {
    beside_a_bystander(stand, row, |stand, row| {
        // Of the bystander and of who asks, which stays.
        let mut client = stand.client();
        let open = stand.connections(&mut client);
        let mut crowd: Vec<_> = (0..300).map(|_| stand.connect()).collect();
        let (mut closed, until) = (0, Instant::now() + Duration::from_secs(10));
        crowd.iter().for_each(|one| one.set_nonblocking(true).unwrap());
        // An operator may have 256 and four more.
        let expected = 300 + open - 260;
        while closed < expected && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
            // The daemon's settings come unasked only after the preface, so nothing is there to be read but the end.
            crowd.retain_mut(|one| !matches!(one.read(&mut [0; 64]), Ok(0)));
            closed = 300 - crowd.len();
        }
        drop(client);
        row.expect(closed == expected, || format!("{closed} of 300 connections were closed, and not {expected}"));
        for _ in 0..closed {
            row.end("connection closed");
        }
    });
}

pub fn no_http2(stand: &mut Stand, row: &mut Row) {
    beside_a_bystander(stand, row, |stand, row| {
        let mut random = rand_pcg::Pcg64::seed_from_u64(row.injected);
        for number in 0..100 {
            let mut stream = stand.connect();
            let bytes: Vec<u8> = match number {
                0 => b"GET / HTTP/1.1\r\nHost: vouch\r\n\r\n".to_vec(),
                1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
                // A preface, and then what are no frames.
                2..40 => [wire::PREFACE.to_vec(), (0..4096).map(|_| random.random()).collect()].concat(),
                _ => (0..4096).map(|_| random.random()).collect(),
            };
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
            row.expect(closes(&mut stream), || "a connection that speaks no HTTP/2 stays open".into());
            row.end("connection closed");
        }
    });
}

/// A message of half a megabyte that announces its length.
fn upload() -> Vec<u8> {
    let request = DetectFacesRequest { image: vec![0xff; 1 << 19].into() };
    wire::message(&request.encode_to_vec())
}

pub fn dropped_upload(stand: &mut Stand, row: &mut Row) {
    beside_a_bystander(stand, row, |stand, row| {
        let bytes = upload();
        for number in 1..=20 {
            let mut stream = stand.connect();
            wire::begin(&mut stream, &[]).unwrap();
            stream.write_all(&wire::headers(1, "DetectFaces")).unwrap();
            // Within the smallest window that the daemon may have.
            stream.write_all(&wire::data(1, &bytes[..number * 3000], false)).unwrap();
            // With what the daemon has sent unread, the close is a reset.
            drop(stream);
            row.end("caller gone");
        }
    });
}

pub fn reset_upload(stand: &mut Stand, row: &mut Row) {
    beside_a_bystander(stand, row, |stand, row| {
        let bytes = upload();
        let mut stream = stand.connect();
        wire::begin(&mut stream, &[]).unwrap();
        for number in 0..15 {
            let id = 2 * number + 1;
            stream.write_all(&wire::headers(id, "DetectFaces")).unwrap();
            stream.write_all(&wire::data(id, &bytes[..3000], false)).unwrap();
            stream.write_all(&wire::frame(wire::RST_STREAM, 0, id, &wire::CANCEL.to_be_bytes())).unwrap();
            row.end("caller gone");
        }
        // The connection is as good as before.
        let end = read_to_end(&mut stream, 101, "GetStatus", &request_for_status(), 1 << 16);
        row.expect(end == Some(true), || format!("a call on the same connection: {end:?}"));
    });
}

fn request_for_status() -> Vec<u8> {
    wire::message(&[])
}

/// Sends a call and reads until its end, giving `grant` bytes of window for each frame of data: whether it ended with OK, or `None` if the connection did before.
fn read_to_end(stream: &mut UnixStream, id: u32, rpc: &str, request: &[u8], grant: u32) -> Option<bool> {
    stream.write_all(&wire::headers(id, rpc)).ok()?;
    stream.write_all(&wire::data(id, request, true)).ok()?;
    loop {
        let frame = wire::read(stream).ok()?;
        if frame.kind == wire::DATA {
            std::thread::sleep(Duration::from_millis(1));
            stream.write_all(&wire::frame(wire::WINDOW_UPDATE, 0, id, &grant.to_be_bytes())).ok()?;
        }
        if frame.stream == id && frame.kind == wire::HEADERS && frame.flags & wire::END_STREAM != 0 {
            // The value `0` of grpc-status: one byte in Huffman's code, five bits of zero and the rest ones.
            return Some(frame.payload.windows(2).any(|value| value == [0x81, 0x07]));
        }
    }
}

/// The caller closes its side after the request, as some do, and is answered all the same or closed; either way nothing stays.
pub fn half_closed(stand: &mut Stand, row: &mut Row) {
    beside_a_bystander(stand, row, |stand, row| {
        for _ in 0..10 {
            let mut stream = stand.connect();
            wire::begin(&mut stream, &[]).unwrap();
            stream.write_all(&wire::headers(1, "GetStatus")).unwrap();
            stream.write_all(&wire::data(1, &request_for_status(), true)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            row.expect(closes(&mut stream), || "a connection that is closed on one side stays open".into());
            row.end("connection closed");
        }
    });
}

/// A window that allows one byte, and then a few for each frame that was read: it takes long and is answered whole.
pub fn slow_reader(stand: &mut Stand, row: &mut Row) {
    beside_a_bystander(stand, row, |stand, row| {
        let mut stream = stand.connect();
        wire::begin(&mut stream, &[(wire::INITIAL_WINDOW_SIZE, 1)]).unwrap();
        let request = wire::message(&stand.pictures.verification().encode_to_vec());
        assert!(request.len() < 65_535, "within the first window");
        let end = read_to_end(&mut stream, 1, "Verify", &request, 64);
        row.expect(end == Some(true), || format!("a slow reader: {end:?}"));
        row.end("OK");
        // That the end is told from others.
        let refused = read_to_end(&mut stream, 3, "DetectFaces", &request_for_status(), 64);
        row.expect(refused == Some(false), || format!("a slow reader of an error: {refused:?}"));
        row.end("INVALID_ARGUMENT");
    });
}

/// Answers are ready and cannot be sent: places are free again all the same, and what waits to be sent is bounded by streams × connections.
pub fn never_reads(stand: &mut Stand, row: &mut Row) {
    beside_a_bystander(stand, row, |stand, row| {
        let before = stand.state();
        let request = wire::message(&stand.pictures.verification().encode_to_vec());
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let mut stream = stand.connect();
                wire::begin(&mut stream, &[(wire::INITIAL_WINDOW_SIZE, 0)]).unwrap();
                stream.write_all(&wire::headers(1, "Verify")).unwrap();
                stream.write_all(&wire::data(1, &request, true)).unwrap();
                for number in 1..60 {
                    let id = 2 * number + 1;
                    stream.write_all(&wire::headers(id, "GetStatus")).unwrap();
                    stream.write_all(&wire::data(id, &request_for_status(), true)).unwrap();
                }
                stream
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(15);
        // The bystander may be at work at any moment.
        while stand.state().running > 1 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let now = stand.state();
        row.expect(now.running <= 1 && now.waiting == 0, || format!("places of those who do not read: {now:?}"));
        row.expect(now.resident_mb <= before.resident_mb + FLOOD_MEMORY_MB, || {
            format!("{} MB before, {} MB for those who do not read", before.resident_mb, now.resident_mb)
        });
        callers.iter().for_each(|_| row.end("answer not read"));
    });
}

/// The transport ends what never arrives whole, some seconds after the time that a request may take.
pub fn half_a_message(stand: &mut Stand, row: &mut Row) {
    const LATE: &str = "vouch_requests_total{rpc=\"DetectFaces\",code=\"DEADLINE_EXCEEDED\"}";
    beside_a_bystander(stand, row, |stand, row| {
        let late = stand.count(LATE);
        let bytes = upload();
        let began = Instant::now();
        let mut all: Vec<_> = (0..8)
            .map(|_| {
                let mut stream = stand.connect();
                wire::begin(&mut stream, &[]).unwrap();
                stream.write_all(&wire::headers(1, "DetectFaces")).unwrap();
                stream.write_all(&wire::data(1, &bytes[..20_000], false)).unwrap();
                stream
            })
            .collect();
        for stream in &mut all {
            let is_told = std::iter::from_fn(|| wire::read(stream).ok())
                .any(|frame| frame.stream == 1 && frame.kind == wire::HEADERS && frame.flags & wire::END_STREAM != 0);
            row.expect(is_told, || "half a message is waited for without end".into());
            row.end("DEADLINE_EXCEEDED");
        }
        let told = stand.count(LATE) - late;
        row.expect(told == 8, || format!("{told} of 8 halves of messages were ended with DEADLINE_EXCEEDED"));
        // Three seconds for the request and five for its arrival.
        let took = began.elapsed();
        row.expect((7.0..12.0).contains(&took.as_secs_f64()), || format!("half a message was ended after {took:?}"));
    });
}

/// What may be on its way here, in all: the least that may be configured.
pub const ARRIVING_MB: u64 = 64;

/// Messages of a megabyte, none of which is ever whole, and together more than the daemon holds: the last are refused, and the rest is free again with its connections.
pub fn too_much_on_its_way(stand: &mut Stand, row: &mut Row) {
    let before = stand.state();
    let part = wire::message(&vec![0; 1 << 20]);
    let mut callers: Vec<_> = (0..24)
        .map(|_| {
            let mut stream = stand.connect();
            wire::begin_and_wait(&mut stream).unwrap();
            for id in [1, 3, 5, 7] {
                stream.write_all(&wire::headers(id, "DetectFaces")).unwrap();
                // Four of them are within the window of a connection.
                stream.write_all(&wire::data(id, &part[..900_000], false)).unwrap();
            }
            stream
        })
        .collect();
    // Long enough for all that was sent, and shorter than a request may take.
    std::thread::sleep(Duration::from_millis(1500));
    let mut refused = 0;
    for stream in &mut callers {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let frames = std::iter::from_fn(|| wire::read(stream).ok());
        refused += frames.filter(|frame| frame.kind == wire::HEADERS && frame.flags & wire::END_STREAM != 0).count();
    }
    let now = stand.state();
    row.expect(refused > 0, || "nobody was refused".into());
    (0..refused).for_each(|_| row.end("refused"));
    row.expect(now.resident_mb <= before.resident_mb + ARRIVING_MB + FLOOD_MEMORY_MB, || {
        format!("{} MB before, {} MB with what is on its way", before.resident_mb, now.resident_mb)
    });
}

/// Messages of 16 MB that are 8 million empty pictures, of 32 bytes each in memory once they are decoded.
pub fn many_parts(stand: &mut Stand, row: &mut Row) {
    beside_a_bystander(stand, row, |stand, row| {
        let before = stand.state();
        let mut client = stand.client();
        let request = ReadDocumentRequest { images: vec![Bytes::new(); 8 << 20], parts: Vec::new() };
        stand.forget_peak();
        for _ in 0..3 {
            let asked = client.read_document(request.clone());
            let ended = stand.runtime.block_on(in_time(asked));
            let end = ended.map_or_else(|end| end, |_| "OK".into());
            row.expect(end == "INVALID_ARGUMENT (MESSAGE_MALFORMED)", || end.clone());
            row.end(end);
        }
        let peak_mb = stand.peak_mb();
        row.expect(peak_mb <= before.resident_mb + FLOOD_MEMORY_MB, || {
            format!("{} MB before, {peak_mb} MB at most with messages of many parts", before.resident_mb)
        });
    });
}

/// Frames of 7 MB that are no pictures, in streams that go on, and together more than the daemon holds: what was looked at is not held, the memory of each stream is bounded with what is on
/// its way, and the last are refused.
pub fn frames_of_many_streams(stand: &mut Stand, row: &mut Row) {
    let before = stand.state();
    stand.forget_peak();
    let frame = ScanMrzRequest { frame: vec![7; 7 << 20].into() };
    let mut client = stand.client();
    let (mut streams, mut refused) = (Vec::new(), 0);
    for _ in 0..40 {
        let (frames, sent) = tokio::sync::mpsc::unbounded_channel();
        frames.send(frame.clone()).unwrap();
        let events = stand.runtime.block_on(in_time(client.scan_mrz(UnboundedReceiverStream::new(sent)))).unwrap();
        let mut events = events.into_inner();
        let end = stand.runtime.block_on(in_time(events.message()));
        let end = end.map_or_else(|end| end, |event| event.map_or("OK".into(), |_| "told, stream goes on".into()));
        refused += u32::from(end == "RESOURCE_EXHAUSTED (OVERLOADED)");
        row.expect(end == "told, stream goes on" || refused > 0, || format!("a frame that is no picture: {end}"));
        row.end(end);
        streams.push((frames, events));
    }
    let peak_mb = stand.peak_mb();
    row.expect(refused > 0, || "nobody was refused".into());
    row.expect(peak_mb <= before.resident_mb + ARRIVING_MB + FLOOD_MEMORY_MB, || {
        format!("{} MB before, {peak_mb} MB at most with frames of 40 streams", before.resident_mb)
    });
}

// ---------------------------------------------------------------- floods

/// Floods beside a bystander, and notes how it was ended, what it cost and how long the bystander waited at most.
fn flooded(
    stand: &mut Stand,
    row: &mut Row,
    reads: bool,
    frames: impl Iterator<Item = Vec<u8>>,
    is_well: impl Fn(&Refusal) -> bool,
) {
    let before = stand.state();
    let bystander = stand.bystander();
    let mut stream = stand.connect();
    wire::begin(&mut stream, &[]).unwrap();
    let refusal = wire::flood(&mut stream, frames, reads);
    let during = stand.state();
    row.expect(is_well(&refusal), || format!("the flood ended by {refusal:?}"));
    row.expect(during.resident_mb <= before.resident_mb + FLOOD_MEMORY_MB, || {
        format!("{} MB before, {} MB after the flood", before.resident_mb, during.resident_mb)
    });
    // An open connection whose flood stands still costs no processor time.
    let used = stand.processor_time();
    bystander.leave(stand, row);
    let rest = Instant::now();
    let used_by_now = stand.processor_time();
    std::thread::sleep(Duration::from_millis(500));
    let idle = stand.processor_time() - used_by_now;
    row.expect(stand.is_loaded || idle < Duration::from_millis(250), || {
        format!("{idle:?} of processor time in {:?} after the flood ({used:?} before)", rest.elapsed())
    });
    row.end(match refusal {
        Refusal::GoAway(11) => "GOAWAY (ENHANCE_YOUR_CALM)".to_owned(),
        Refusal::GoAway(reason) => format!("GOAWAY ({reason})"),
        Refusal::Closed => "connection closed".to_owned(),
        Refusal::Stalled => "not read any more".to_owned(),
        Refusal::Took => "taken".to_owned(),
    });
}

/// CVE-2023-44487: streams that are opened and reset at once.
pub fn rapid_reset(stand: &mut Stand, row: &mut Row) {
    let frames = (0..100_000_u32).map(|number| {
        let id = 2 * number + 1;
        [wire::headers(id, "DetectFaces"), wire::frame(wire::RST_STREAM, 0, id, &wire::CANCEL.to_be_bytes())].concat()
    });
    flooded(stand, row, true, frames, |refusal| matches!(refusal, Refusal::GoAway(_) | Refusal::Closed));
}

/// CVE-2024-27316 and its like: header fields without end, a gigabyte of them.
pub fn continuation_flood(stand: &mut Stand, row: &mut Row) {
    let fields = [wire::fields("DetectFaces"), [0, 1, b'a', 100].to_vec(), [b'b'; 100].to_vec()].concat();
    let more: Vec<u8> = std::iter::repeat_n([&[0, 1, b'a', 100][..], &[b'b'; 100]].concat(), 150).flatten().collect();
    let frames = std::iter::once(wire::frame(wire::HEADERS, 0, 1, &fields))
        .chain(std::iter::repeat_n(wire::frame(wire::CONTINUATION, 0, 1, &more), 65_536));
    flooded(stand, row, true, frames, |refusal| matches!(refusal, Refusal::GoAway(_) | Refusal::Closed));
}

/// CVE-2019-9512: pings whose answers nobody reads.
pub fn ping_flood(stand: &mut Stand, row: &mut Row) {
    let frames = std::iter::repeat_n(wire::frame(wire::PING, 0, 0, &[7; 8]), 2_000_000);
    flooded(stand, row, false, frames, |refusal| matches!(refusal, Refusal::Stalled));
}

/// CVE-2019-9515: settings whose acknowledgements nobody reads.
pub fn settings_flood(stand: &mut Stand, row: &mut Row) {
    let frames = std::iter::repeat_n(wire::settings(&[(wire::INITIAL_WINDOW_SIZE, 65_535)]), 2_000_000);
    flooded(stand, row, false, frames, |refusal| matches!(refusal, Refusal::Stalled));
}
