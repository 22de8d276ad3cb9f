//! What the host does to the daemon: no file descriptors, a wall clock that jumps, file systems that become read-only.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use nix::libc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use vouch::api::proto::verify_live_request::Message;
use vouch::api::proto::{LiveFrame, LivePolicy, VerifyLiveRequest};

use super::stand::{DEADLINE, HANGS, PATIENCE, Stand, end_of, in_time, match_faces, verify};
use super::{Row, models};

// ---------------------------------------------------------------- descriptors

/// The limit of open files of a process, and that it had before.
fn limit_descriptors(pid: i32, limit: u64) -> u64 {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: prlimit(2) reads one structure and writes the other; both outlive the call.
    let got = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut old) };
    assert_eq!(got, 0, "the limits of another process of the same user can be read");
    let new = libc::rlimit { rlim_cur: limit, rlim_max: old.rlim_max };
    // SAFETY: as above.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const new, std::ptr::null_mut()) };
    assert_eq!(set, 0, "the soft limit can be set below the hard one");
    old.rlim_cur
}

/// The numbers of the descriptors of a process.
fn descriptors(pid: i32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// With no descriptor left, those who are connected are served, those who connect hear at once that there is no room, and nothing spins. Afterwards all is as before.
pub fn out_of_descriptors(stand: &mut Stand, row: &mut Row) {
    let bystander = stand.bystander();
    std::thread::sleep(Duration::from_millis(200));
    let pid = stand.pid();
    // Above all that are open, as a limit is that was never moved: one below would also be above descriptors that the daemon keeps for this.
    let open = descriptors(pid);
    let limit = open.last().unwrap() + 7;
    let free = usize::try_from(limit).unwrap() - open.len();
    let usual = limit_descriptors(pid, limit);
    let mut crowd: Vec<UnixStream> = (0..free + 54).map(|_| stand.connect()).collect();
    std::thread::sleep(Duration::from_millis(500));
    let turned_away = crowd
        .iter_mut()
        .filter_map(|one| {
            one.set_nonblocking(true).unwrap();
            matches!(one.read(&mut [0; 64]), Ok(0)).then_some(())
        })
        .count();
    // Decoder processes and calls that begin or end meanwhile take some or leave them.
    row.expect((40..60).contains(&turned_away), || {
        format!("of {} who connected, with {free} descriptors, {turned_away} heard that there is no room", crowd.len())
    });
    for _ in 0..turned_away {
        row.end("connection closed");
    }
    // A caller who comes now is told.
    let mut late = stand.connect();
    late.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    row.expect(matches!(late.read(&mut [0; 64]), Ok(0)), || {
        "a caller waits for a descriptor without knowing it".into()
    });
    bystander.leave(stand, row);
    let (used, began) = (stand.processor_time(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let share = (stand.processor_time() - used).as_secs_f64() / began.elapsed().as_secs_f64();
    row.expect(stand.is_loaded || share < 0.3, || {
        format!("{share:.2} of a core in use without descriptors and without requests")
    });
    // The log goes on: its files are open.
    limit_descriptors(pid, usual);
    drop(crowd);
    let mut client = stand.client();
    let request = stand.pictures.matching();
    let ended = stand.runtime.block_on(in_time(match_faces(&mut client, request)));
    row.end(ended.as_ref().err().map_or("OK", String::as_str));
    row.expect(ended.is_ok(), || format!("after the limit was lifted: {ended:?}"));
}

/// The same on the socket of the metrics, whose readers wait.
pub fn out_of_descriptors_for_metrics(stand: &mut Stand, row: &mut Row) {
    let bystander = stand.bystander();
    std::thread::sleep(Duration::from_millis(200));
    row.expect(stand.metrics().is_ok(), || "no metrics before".into());
    let pid = stand.pid();
    // The lowest that is free is beyond it.
    let open = descriptors(pid);
    let usual = limit_descriptors(pid, (0..).find(|number| !open.contains(number)).unwrap());
    let metrics = stand.path("metrics.sock");
    let reader = std::thread::spawn(move || {
        use std::io::Write;
        let began = Instant::now();
        let mut stream = UnixStream::connect(metrics).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| (answer.contains("vouch_build_info"), began.elapsed()))
    });
    std::thread::sleep(Duration::from_millis(500));
    bystander.leave(stand, row);
    let (used, began) = (stand.processor_time(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let share = (stand.processor_time() - used).as_secs_f64() / began.elapsed().as_secs_f64();
    row.expect(stand.is_loaded || share < 0.3, || {
        format!("{share:.2} of a core in use without descriptors for metrics")
    });
    limit_descriptors(pid, usual);
    let read = reader.join().unwrap();
    row.expect(matches!(read, Ok((true, _))), || format!("a reader of metrics who waited: {read:?}"));
    row.end("metrics read");
}

// ---------------------------------------------------------------- the clock

/// Builds a library that shifts the wall clock, and that alone, by the seconds that stand in a file; gives the paths of both.
pub fn settable_clock(folder: &Path) -> (PathBuf, PathBuf) {
    const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long *offset;
__attribute__((constructor)) static void begin(void) {
    offset = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC), 0);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
    return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    int result = clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec, now->tv_usec = time.tv_nsec / 1000;
    return result;
}
time_t time(time_t *now) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    if (now) *now = time.tv_sec;
    return time.tv_sec;
}
"#;
    let (source, library, offset) = (folder.join("clock.c"), folder.join("clock.so"), folder.join("clock"));
    fs::write(&source, SOURCE).unwrap();
    fs::write(&offset, [0; 8]).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").output();
    let built = built.expect("a C compiler, which the build needs too");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    (library, offset)
}

fn shift_clock(stand: &Stand, seconds: i64) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().write(true).open(stand.path("clock")).unwrap();
    file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
}

/// Deadlines, scores, live sessions and the chain of the log do not go by the wall clock.
pub fn clock_jumps(stand: &mut Stand, row: &mut Row) {
    const DAY: i64 = 86_400;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let bystander = stand.bystander();
    let (messages, stream) = tokio::sync::mpsc::unbounded_channel();
    // Nobody takes it where the session has ended, which is found out by what is not told.
    let send = |message| drop(messages.send(VerifyLiveRequest { message: Some(message) }));
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let policy = LivePolicy { step_time: seconds(60), session_time: seconds(120), ..LivePolicy::default() };
    send(Message::Policy(policy));
    let began = Instant::now();
    let (mut client, pictures) = (stand.client(), stand.pictures.clone());
    let live = stand.runtime.block_on(in_time(client.verify_live(UnboundedReceiverStream::new(stream))));
    let mut live = live.unwrap().into_inner();
    let mut seen = 0;
    let offsets = [0, DAY, -DAY, 5 - now, -now - 3 * 365 * DAY, 200 * 365 * DAY, 0];
    // Within the time that a session gives its first frames.
    for (index, offset) in offsets.into_iter().enumerate() {
        shift_clock(stand, offset);
        let index = u32::try_from(index).unwrap();
        let frame =
            LiveFrame { index, captured_us: began.elapsed().as_micros() as u64, image: noisy(&pictures.selfie, index) };
        send(Message::Frame(frame));
        let told = stand.runtime.block_on(async {
            use vouch::api::proto::verify_live_event::Event;
            loop {
                match tokio::time::timeout(PATIENCE, live.message()).await {
                    Err(_) => break Err(HANGS.to_owned()),
                    Ok(Ok(Some(event))) if matches!(event.event, Some(Event::Feedback(_))) => break Ok(()),
                    Ok(Ok(Some(event))) if matches!(event.event, Some(Event::Decision(_))) => {
                        break Err(format!("{event:?}"));
                    }
                    Ok(Ok(Some(_))) => {}
                    Ok(Ok(None)) => break Err("the session ended".to_owned()),
                    Ok(Err(status)) => break Err(end_of(&status)),
                }
            }
        });
        seen += u32::from(told.is_ok());
        row.expect(told.is_ok(), || format!("a live session, {offset} s off: {told:?}"));
    }
    row.expect(seen == 7, || format!("{seen} of 7 frames of a live session were looked at"));
    drop(messages);
    drop(live);
    for offset in offsets {
        shift_clock(stand, offset);
        let (mut client, request) = (client.clone(), pictures.verification());
        let ended =
            stand.runtime.block_on(async { tokio::time::timeout(DEADLINE, verify(&mut client, request)).await });
        match ended {
            Ok(Ok(known)) => {
                row.end("OK");
                row.expect(known == stand.known, || format!("another answer {offset} s off"));
            }
            other => row.lost.push(format!("{offset} s off: {other:?}")),
        }
    }
    // That the clock was really another: records from just after 1970, and from two hundred years hence.
    let times: Vec<i64> = vouch::audit::store::files(&stand.path("audit"))
        .unwrap()
        .into_iter()
        .flat_map(|(_, file)| fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap()["time"].as_i64())
        .collect();
    let (first, last) = (times.iter().min().unwrap_or(&0) / 1000, times.iter().max().unwrap_or(&0) / 1000);
    row.expect(first < 10 * DAY && last > now + 199 * 365 * DAY, || format!("the log spans {first} to {last}"));
    bystander.leave(stand, row);
}

/// The picture as a camera would give it once more, since frames that stand still end a session.
fn noisy(picture: &[u8], number: u32) -> bytes::Bytes {
    use rand::{RngExt as _, SeedableRng as _};
    let mut random = rand_pcg::Pcg64::seed_from_u64(number.into());
    let mut image = image::load_from_memory(picture).unwrap().to_rgb8();
    for value in image.iter_mut() {
        *value = value.saturating_add(random.random_range(0..8));
    }
    let mut file = std::io::Cursor::new(Vec::new());
    image.write_to(&mut file, image::ImageFormat::Jpeg).unwrap();
    file.into_inner().into()
}

// ---------------------------------------------------------------- file systems

/// Lays a read-only view of a folder over it: what is open stays open, and nothing can be opened for writing or made there any more.
fn make_read_only(folder: &Path) {
    let mount = |arguments: &[&str]| Command::new("mount").args(arguments).arg(folder).status().unwrap().success();
    let path = folder.to_str().unwrap();
    assert!(mount(&["--bind", path]) && mount(&["-o", "remount,bind,ro"]), "mounting needs root");
}

/// Takes away what was laid over folders of a stand, if anything was.
pub fn unmount(folder: &Path) {
    let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for name in ["audit", "cache"] {
        let path = folder.join(name);
        if mounted.lines().any(|line| line.split(' ').nth(1) == path.to_str()) {
            let _ = Command::new("umount").arg("--lazy").arg(path).status();
        }
    }
}

/// The audit log refuses requests as its policy says until it can be written; a cache that cannot be written costs a warning.
pub fn read_only(stand: &mut Stand, row: &mut Row) {
    make_read_only(&stand.path("audit"));
    let (client, request) = (stand.client(), stand.pictures.matching());
    // The open file has room for some records.
    let mut refused = 0;
    for _ in 0..12 {
        let ended = stand.runtime.block_on(in_time(match_faces(&mut client.clone(), request.clone())));
        let end = ended.err().unwrap_or_else(|| "OK".to_owned());
        row.expect(end == "OK" || end == "UNAVAILABLE (AUDIT_UNAVAILABLE)", || format!("without a log: {end}"));
        refused += u32::from(end != "OK");
        row.end(end);
    }
    row.expect(refused >= 6, || format!("{refused} of 12 requests were refused without a log"));
    let status =
        stand.runtime.block_on(in_time(client.clone().get_status(vouch::api::proto::GetStatusRequest::default())));
    row.expect(status.is_ok(), || format!("status without a log: {status:?}"));
    unmount(stand.folder.path());
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let ended = stand.runtime.block_on(match_faces(&mut client.clone(), request.clone()));
        match ended {
            Ok(_) => break,
            Err(status) if Instant::now() > until || status.code() != Code::Unavailable => {
                row.lost.push(format!("the log is writable again: {}", end_of(&status)));
                break;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    row.end("OK");

    // Another model comes with a reload: its graph cannot be kept.
    make_read_only(&stand.path("cache"));
    let mut model = fs::read(crate::common::root().join("models/pack/fr_liveness.onnx")).unwrap();
    // A comment, another in each round: another file, the same network.
    model.extend([&b"\x32\x08"[..], format!("{:08}", row.injected).as_bytes()].concat());
    models::lay(stand.folder.path(), &model);
    let end = models::reload(stand);
    row.expect(end == "OK", || format!("a reload without a cache: {end}"));
    row.end(end);
    row.expect(stand.journal().contains("cannot be cached"), || "the journal does not tell of the cache".into());
    fs::write(stand.path("models.toml"), "").unwrap();
    let end = models::reload(stand);
    row.expect(end == "OK", || format!("a reload back: {end}"));
    unmount(stand.folder.path());
}
