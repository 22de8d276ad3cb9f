//! HTTP/2 by hand, for callers that do what no library does.
//!
//! Frames after RFC 9113, section 4.1 and 6; header fields as literals without indexing, without Huffman coding, after RFC 7541, section 6.2.2.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The setting of how much a peer may send on a stream before it is told that it may send more.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// The reason of a stream that is no longer wanted.
pub const CANCEL: u32 = 8;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(key, value)| [&key.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// The header fields of a call.
pub fn fields(rpc: &str) -> Vec<u8> {
    let path = format!("/vouch.v1.Verification/{rpc}");
    // :method POST and :scheme http from the static table, then :path and content-type by the names there, and te.
    let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
    block.extend(path.bytes());
    block.extend([0x01, 1, b'v', 0x0f, 0x10, 16]);
    block.extend(b"application/grpc");
    block.extend([0x00, 2]);
    block.extend(b"te");
    block.push(8);
    block.extend(b"trailers");
    block
}

pub fn headers(stream: u32, rpc: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &fields(rpc))
}

/// A message with gRPC's prefix: not compressed, and its length.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// The frames of data, none longer than every peer must take.
pub fn data(stream: u32, bytes: &[u8], ends: bool) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut parts = bytes.chunks(16_384).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        frames.extend(frame(DATA, if is_last && ends { END_STREAM } else { 0 }, stream, part));
    }
    frames
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn read(stream: &mut UnixStream) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Ok(Frame { kind: head[3], flags: head[4], stream: number, payload })
}

/// Begins a connection: preface, settings, and an end of the window that is large enough.
pub fn begin(stream: &mut UnixStream, own: &[(u16, u32)]) -> io::Result<()> {
    stream.write_all(PREFACE)?;
    stream.write_all(&settings(own))?;
    stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
    stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes()))
}

/// Begins a connection and waits until the other side has said how much it takes: more than 64 KiB before would be the caller's fault.
pub fn begin_and_wait(stream: &mut UnixStream) -> io::Result<()> {
    begin(stream, &[])?;
    let (mut has_settings, mut has_window) = (false, false);
    while !(has_settings && has_window) {
        let frame = read(stream)?;
        has_settings |= frame.kind == SETTINGS && frame.flags & ACK == 0;
        has_window |= frame.kind == WINDOW_UPDATE && frame.stream == 0;
    }
    Ok(())
}

/// How a peer that is flooded ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// With this reason.
    GoAway(u32),
    Closed,
    /// It did not: it reads no more until the peer reads, or takes all there is.
    Stalled,
    Took,
}

/// Sends frames until there are no more, the other side ends it, or nothing moves for a moment. Reads only if it `reads`.
pub fn flood(stream: &mut UnixStream, frames: impl Iterator<Item = Vec<u8>>, reads: bool) -> Refusal {
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let reader = reads.then(|| {
        let mut reading = stream.try_clone().unwrap();
        reading.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        std::thread::spawn(move || {
            loop {
                match read(&mut reading) {
                    Ok(Frame { kind: GOAWAY, payload, .. }) => {
                        return Refusal::GoAway(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Refusal::Took,
                    Err(_) => return Refusal::Closed,
                }
            }
        })
    });
    let mut sent = Refusal::Took;
    let until = Instant::now() + Duration::from_secs(20);
    // Some at a time: a system call for each would bound the flood.
    let mut batch = Vec::new();
    let mut frames = frames.peekable();
    while frames.peek().is_some() && Instant::now() < until {
        batch.clear();
        while batch.len() < 1 << 16
            && let Some(frame) = frames.next()
        {
            batch.extend(frame);
        }
        match stream.write_all(&batch) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sent = Refusal::Stalled;
                break;
            }
            Err(_) => {
                sent = Refusal::Closed;
                break;
            }
        }
    }
    reader.map_or(sent, |reader| reader.join().unwrap())
}
