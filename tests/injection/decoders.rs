//! Faults of the processes that decode: each costs the requests that it works for, with an error that says so, and nobody else.
//!
//! A process that is stopped (SIGSTOP) is one that hangs in a file, wherever that is.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;
use vouch::api::proto::DetectFacesRequest;

use super::Row;
use super::stand::{Stand, in_time};
use crate::common::decoders::{decoders_of, deep_png, is_alive};

/// What a file may take on [`Setting::Decoders`](super::stand::Setting::Decoders): enough for the pictures of a verification in an unoptimised daemon.
pub const DEADLINE: Duration = Duration::from_secs(5);
pub const MEMORY_MB: u32 = 128;

const FAILED: &str = "INVALID_ARGUMENT (IMAGE_DECODER_FAILED)";
const TIMEOUT: &str = "INVALID_ARGUMENT (IMAGE_DECODER_TIMEOUT)";

fn signal_all(stand: &Stand, signal: Signal) {
    for decoder in decoders_of(stand.child.id()) {
        kill(Pid::from_raw(decoder.cast_signed()), signal).unwrap();
    }
}

fn detect(stand: &Stand, image: Bytes) -> JoinHandle<Result<(), String>> {
    let mut client = stand.client();
    stand.runtime.spawn(async move { in_time(client.detect_faces(DetectFacesRequest { image })).await.map(drop) })
}

fn expect_end(stand: &Stand, row: &mut Row, request: JoinHandle<Result<(), String>>, wanted: Result<(), &str>) {
    let ended = stand.runtime.block_on(request).unwrap();
    let end = ended.as_ref().map_or_else(String::as_str, |()| "OK");
    row.end(end);
    row.expect(end == wanted.err().unwrap_or("OK"), || format!("{end} instead of {wanted:?}"));
}

/// One request for each process, all of which hang in it; the rest is up to `end`.
fn hang(stand: &mut Stand, row: &mut Row, wanted: &str, end: impl FnOnce(&Stand)) {
    let waiting = decoders_of(stand.child.id()).len().max(1);
    signal_all(stand, Signal::SIGSTOP);
    let pictures = stand.pictures.clone();
    let requests: Vec<_> = (0..waiting).map(|_| detect(stand, pictures.selfie.clone())).collect();
    let until = Instant::now() + DEADLINE / 2;
    while (stand.state().running as usize) < waiting && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    end(stand);
    for request in requests {
        expect_end(stand, row, request, Err(wanted));
    }
}

/// All that work, each on a picture.
pub fn killed_at_work(stand: &mut Stand, row: &mut Row) {
    hang(stand, row, FAILED, |stand| {
        // From running to a decoder is a moment.
        std::thread::sleep(Duration::from_millis(300));
        signal_all(stand, Signal::SIGKILL);
    });
}

/// None says anything until its time is up.
pub fn hanging(stand: &mut Stand, row: &mut Row) {
    hang(stand, row, TIMEOUT, |_| ());
    row.expect(decoders_of(stand.child.id()).is_empty(), || "a process that hangs is kept".into());
}

/// By the host, while nobody needs them: whoever comes next does not notice.
pub fn killed_at_rest(stand: &mut Stand, row: &mut Row) {
    let at_rest = decoders_of(stand.child.id());
    row.expect(!at_rest.is_empty(), || "there is no decoder process".into());
    signal_all(stand, Signal::SIGKILL);
    let until = Instant::now() + DEADLINE;
    while at_rest.iter().any(|decoder| is_alive(*decoder)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let request = detect(stand, stand.pictures.selfie.clone());
    expect_end(stand, row, request, Ok(()));
}

/// Pixels that take three times as much as a process may have, beside a bystander.
pub fn too_much_memory(stand: &mut Stand, row: &mut Row) {
    let bystander = stand.bystander();
    let request = detect(stand, deep_png());
    expect_end(stand, row, request, Err(FAILED));
    bystander.leave(stand, row);
}
