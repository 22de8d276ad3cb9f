//! The daemon goes away in the midst of requests, and comes back on the same socket.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Row;
use super::stand::{DEADLINE, HANGS, Stand, end_of, match_faces, verify};
use crate::common;

/// SIGKILL: callers of what is in flight hear at once that the connection is closed; the next daemon is there at the same path, with a log that verifies.
pub fn killed(stand: &mut Stand, row: &mut Row) {
    let (client, pictures) = (stand.client(), stand.pictures.clone());
    let in_flight: Vec<_> = (0..6)
        .map(|_| {
            let (mut client, request) = (client.clone(), pictures.verification());
            stand.runtime.spawn(async move {
                let ended = tokio::time::timeout(DEADLINE, verify(&mut client, request)).await;
                (ended, Instant::now())
            })
        })
        .collect();
    wait_for_load(stand, 2);
    stand.signal(Signal::SIGKILL);
    let killed = Instant::now();
    let _ = stand.child.wait();
    for one in in_flight {
        let (ended, at) = stand.runtime.block_on(one).unwrap();
        match ended {
            Err(_) => row.lost.push(HANGS.into()),
            Ok(Ok(_)) => row.end("OK"),
            Ok(Err((status, _))) => {
                row.end(end_of(&status));
                let after = at.saturating_duration_since(killed);
                row.expect(after < Duration::from_secs(2), || format!("a caller heard of it after {after:?}"));
            }
        }
    }
    stand.start_again();
    stand.wait_until_ready();
}

/// Waits until so many requests are at work.
fn wait_for_load(stand: &Stand, running: u32) {
    let until = Instant::now() + Duration::from_secs(10);
    while stand.state().running < running && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A graceful restart while callers go on asking, with a connection for each request: those who come while there is no daemon wait for the next; what the one that ends cannot take any more is
/// refused with UNAVAILABLE, and is answered when it is sent again.
pub fn held_socket(stand: &mut Stand, row: &mut Row) {
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let known = stand.runtime.block_on(async {
        let mut client = common::client_of(&stand.socket()).await;
        match_faces(&mut client, stand.pictures.matching()).await.unwrap()
    });
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, socket, request) =
                (std::sync::Arc::clone(&is_over), stand.socket(), stand.pictures.matching());
            stand.runtime.spawn(async move {
                let (mut ends, mut lost) = (Vec::new(), Vec::new());
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let until = Instant::now() + 6 * DEADLINE;
                    // Until it is answered.
                    loop {
                        let ask = async {
                            let mut client = common::try_client_of(&socket)
                                .await
                                .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
                            match_faces(&mut client, request.clone()).await
                        };
                        match tokio::time::timeout_at(until.into(), ask).await {
                            Err(_) => {
                                lost.push(HANGS.to_owned());
                                break;
                            }
                            Ok(Ok(score)) if score == known => {
                                ends.push("OK".to_owned());
                                break;
                            }
                            Ok(Ok(_)) => {
                                lost.push("another score".to_owned());
                                break;
                            }
                            Ok(Err(status)) => {
                                ends.push(format!("{}, answered when sent again", end_of(&status)));
                                tokio::time::sleep(Duration::from_millis(100)).await;
                            }
                        }
                    }
                }
                (ends, lost)
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    stand.signal(Signal::SIGTERM);
    let status = stand.child.wait().unwrap();
    row.expect(status.success(), || format!("SIGTERM: {status}"));
    // Nobody listens for a moment, and those who come wait.
    std::thread::sleep(Duration::from_millis(300));
    stand.start_again();
    stand.wait_until_ready();
    std::thread::sleep(Duration::from_millis(500));
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    for caller in callers {
        let (ends, lost) = stand.runtime.block_on(caller).unwrap();
        ends.into_iter().for_each(|end| row.end(end));
        row.lost.extend(lost);
    }
}
