//! The daemon at a share of its capacity for a long time, while faults are injected: each reply is compared whole with the known answer, memory, descriptors and threads are sampled, and it is
//! killed once and restarted in order once, both times with its socket held by this process, as systemd does.
//!
//! Requests arrive at random (Poisson) from several callers, whether or not earlier ones were answered. Those that are in flight at a restart are counted apart, and must each get a clear error. Left
//! out: faults that need a daemon of their own (`benches/faults.rs`).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use tonic::Status;
use vouch::api::proto::verify_event::Event;
use vouch::api::proto::{
    CheckPassiveLivenessRequest, CheckResult, DetectFacesRequest, DetectFacesResponse, EstimateAgeRequest,
    ReadDocumentRequest, ReadDocumentResponse, ScanMrzEvent, ScanMrzRequest, Summary,
};

use crate::common::decoders::resident_of_decoders;
use crate::common::{Client, client_of, png};
use crate::drawn::drawn;
use crate::injection::stand::{DEADLINE, HANGS, Pictures, Setting, Stand, end_of};
use crate::injection::{Inject, Row, callers, host, inputs, models};

/// Connections that requests come from, in turns.
const CALLERS: usize = 6;

const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// What is left out of samples after a start: the daemon's pools and arenas are still filling.
const WARMING: Duration = Duration::from_secs(40);

/// Growth from the first third of the longest time without restart to its last third that is still flat: what an hour of other work moves resident memory by.
const RESIDENT_TOLERANCE: f64 = 0.05;

/// A reply without what differs each time: identifiers and times.
#[derive(Debug, Clone, PartialEq)]
enum Reply {
    Faces(DetectFacesResponse),
    Check(CheckResult),
    Document(ReadDocumentResponse),
    Scan(Vec<ScanMrzEvent>),
    Verification(BTreeMap<String, CheckResult>, Summary),
}

/// What is asked, and how often of a hundred.
const MIX: [(&str, u32); 7] = [
    ("DetectFaces", 20),
    ("MatchFaces", 26),
    ("CheckPassiveLiveness", 22),
    ("EstimateAge", 12),
    ("ScanMrz", 8),
    ("ReadDocument", 4),
    ("Verify", 8),
];

struct Material {
    pictures: Pictures,
    zone: Bytes,
}

impl Material {
    async fn ask(&self, client: &mut Client, rpc: &str) -> Result<Reply, Status> {
        let selfie = self.pictures.selfie.clone();
        let check = |result: Option<CheckResult>| Reply::Check(timeless(result.unwrap_or_default()));
        Ok(match rpc {
            "DetectFaces" => {
                let mut reply = client.detect_faces(DetectFacesRequest { image: selfie }).await?.into_inner();
                reply.duration_ms = 0.0;
                Reply::Faces(reply)
            }
            "MatchFaces" => check(client.match_faces(self.pictures.matching()).await?.into_inner().result),
            "CheckPassiveLiveness" => {
                let request = CheckPassiveLivenessRequest { selfie, ..CheckPassiveLivenessRequest::default() };
                check(client.check_passive_liveness(request).await?.into_inner().result)
            }
            "EstimateAge" => {
                let request = EstimateAgeRequest { selfie, ..EstimateAgeRequest::default() };
                check(client.estimate_age(request).await?.into_inner().result)
            }
            "ScanMrz" => {
                let frames = tokio_stream::iter([ScanMrzRequest { frame: self.zone.clone() }]);
                let mut events = client.scan_mrz(frames).await?.into_inner();
                let mut all = Vec::new();
                while let Some(mut event) = events.message().await? {
                    event.elapsed_ms = 0.0;
                    all.push(event);
                }
                Reply::Scan(all)
            }
            "ReadDocument" => {
                let parts = vec!["mrz".to_owned()];
                let request = ReadDocumentRequest { images: vec![self.zone.clone()], parts };
                let mut reply = client.read_document(request).await?.into_inner();
                reply.duration_ms = 0.0;
                reply.pages.iter_mut().for_each(|page| page.stage_ms.clear());
                Reply::Document(reply)
            }
            _ => {
                let mut events = client.verify(self.pictures.verification()).await?.into_inner();
                let (mut results, mut summary) = (BTreeMap::new(), None);
                while let Some(event) = events.message().await? {
                    match event.event {
                        Some(Event::Result(result)) => drop(results.insert(result.check.clone(), timeless(result))),
                        Some(Event::Summary(told)) => summary = Some(Summary { duration_ms: 0.0, ..told }),
                        _ => {}
                    }
                }
                Reply::Verification(results, summary.ok_or_else(|| Status::data_loss("no summary"))?)
            }
        })
    }
}

fn timeless(result: CheckResult) -> CheckResult {
    CheckResult { duration_ms: 0.0, ..result }
}

/// How requests of one kind ended.
#[derive(Debug, Default, Clone)]
struct Ends {
    right: u64,
    /// For want of room, with the time after which to come back.
    refused: u64,
    /// Ended by a restart, with a clear error.
    in_flight: u64,
    wrong: Vec<String>,
    lost: Vec<String>,
    milliseconds: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    pid: i32,
    resident_mb: f64,
    /// Of the processes that decode, all together.
    decoders_mb: f64,
    descriptors: f64,
    /// Those of models, audit log and main; those of the runtime come and go with the load.
    threads: f64,
    pool_threads: f64,
}

/// From when to when a daemon went away and came back.
type Restarts = Arc<Mutex<Vec<(Instant, Option<Instant>)>>>;

/// # Panics
/// If the daemon cannot be started.
pub fn run(minutes: f64, load: f64) -> ExitCode {
    let mut stand = Stand::new(Setting::Activated);
    stand.is_loaded = true;
    let zone = drawn(&["P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"]);
    let material = Arc::new(Material { pictures: stand.pictures.clone(), zone: png(&zone) });
    let known: Arc<BTreeMap<&str, Reply>> = Arc::new(stand.runtime.block_on(async {
        let mut client = client_of(&stand.socket()).await;
        let mut known = BTreeMap::new();
        for (rpc, _) in MIX {
            known.insert(rpc, material.ask(&mut client, rpc).await.unwrap());
        }
        known
    }));
    let seconds = minutes * 60.0;
    let capacity = capacity(&stand, &material, Duration::from_secs_f64((seconds / 20.0).clamp(10.0, 60.0)));
    let rate = load * capacity;
    println!("capacity {capacity:.1} requests a second; {rate:.1} a second arrive for {minutes} minutes, with faults");

    let began = Instant::now();
    let until = began + Duration::from_secs_f64(seconds);
    let (restarts, ends) = (Restarts::default(), Arc::new(Mutex::new(BTreeMap::<&str, Ends>::new())));
    let arrivals = stand.runtime.spawn(arrive(
        Arc::clone(&material),
        Arc::clone(&known),
        stand.socket(),
        rate,
        until,
        Arc::clone(&restarts),
        Arc::clone(&ends),
    ));
    let samples = Arc::new(Mutex::new(Vec::new()));
    let (pid, is_over) = (Arc::new(Mutex::new(stand.pid())), Arc::new(AtomicBool::new(false)));
    let sampler = std::thread::spawn({
        let (samples, pid, is_over) = (Arc::clone(&samples), Arc::clone(&pid), Arc::clone(&is_over));
        move || {
            while !is_over.load(Ordering::Relaxed) {
                if let Some(sample) = sample(*pid.lock().unwrap(), began.elapsed()) {
                    samples.lock().unwrap().push(sample);
                }
                std::thread::sleep(SAMPLE_EVERY.min(Duration::from_secs_f64(seconds / 60.0)));
            }
        }
    });

    let mut faults = BTreeMap::<&str, Row>::new();
    let kinds: [(&str, Inject); 9] = [
        ("malformed inputs, 40", |stand, row| {
            let seed = 1000 + row.injected;
            let mut sent = Row::default();
            inputs::send_all(stand, &mut sent, 40, seed);
            row.lost.extend(sent.lost);
            for (end, count) in sent.ends {
                *row.ends.entry(end).or_default() += count;
            }
        }),
        ("connection dropped in mid-upload", callers::dropped_upload),
        ("stream reset in mid-upload", callers::reset_upload),
        ("reads a byte at a time", callers::slow_reader),
        ("200 connections that say nothing", callers::silent_crowd),
        ("out of descriptors", host::out_of_descriptors),
        ("reload by SIGHUP", |stand, row| {
            stand.signal(Signal::SIGHUP);
            row.end(models::reload(stand));
        }),
        ("HTTP/2 rapid reset", callers::rapid_reset),
        ("HTTP/2 PING flood, answers not read", callers::ping_flood),
    ];
    // Each kind several times in the longest time without restart.
    let pause = Duration::from_secs_f64((seconds / 60.0).clamp(2.0, 20.0));
    let mut restarts_left = vec![(0.3, Signal::SIGTERM), (0.15, Signal::SIGKILL)];
    for (name, inject) in kinds.into_iter().cycle() {
        let done = began.elapsed().as_secs_f64() / seconds;
        if done >= 1.0 {
            break;
        }
        if restarts_left.last().is_some_and(|(at, _)| done >= *at) {
            let (_, signal) = restarts_left.pop().unwrap();
            restart(&mut stand, signal, &restarts, faults.entry("restart, socket held").or_default());
            *pid.lock().unwrap() = stand.pid();
        }
        let row = faults.entry(name).or_default();
        row.injected += 1;
        let lost = row.lost.len();
        inject(&mut stand, row);
        row.survived += u64::from(row.lost.len() == lost);
        if let Some(status) = stand.ended() {
            row.crashes += 1;
            row.lost.push(format!("the daemon ended: {status}"));
            restarts.lock().unwrap().push((Instant::now(), None));
            stand.restart();
            restarts.lock().unwrap().last_mut().unwrap().1 = Some(Instant::now());
            *pid.lock().unwrap() = stand.pid();
        }
        std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
    }
    stand.runtime.block_on(arrivals).unwrap();
    is_over.store(true, Ordering::Relaxed);
    sampler.join().unwrap();
    let (ends, samples) = (ends.lock().unwrap().clone(), samples.lock().unwrap().clone());
    let mut is_well = print_requests(&ends);
    is_well &= print_faults(&faults);
    is_well &= print_samples(&samples);
    stand.signal(Signal::SIGTERM);
    let status = stand.child.wait().unwrap();
    let audit = stand.audit_problem();
    println!("ended by SIGTERM: {status}; audit log: {}", audit.as_deref().unwrap_or("whole"));
    is_well &= status.success() && audit.is_none();
    println!("{}", if is_well { "well" } else { "NOT WELL" });
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which RPC comes next.
fn next_rpc(random: &mut Pcg64) -> &'static str {
    let mut left = random.random_range(0..MIX.iter().map(|(_, share)| share).sum());
    for (rpc, share) in MIX {
        if left < share {
            return rpc;
        }
        left -= share;
    }
    MIX[0].0
}

/// Answers a second to the mix, from as many callers as the daemon works on at once.
fn capacity(stand: &Stand, material: &Arc<Material>, during: Duration) -> f64 {
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (material, mut client) = (Arc::clone(material), stand.client());
            stand.runtime.spawn(async move {
                let mut random = Pcg64::seed_from_u64(caller as u64);
                let mut answered = 0_u32;
                while began.elapsed() < during {
                    material.ask(&mut client, next_rpc(&mut random)).await.unwrap();
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let answered: u32 = callers.into_iter().map(|caller| stand.runtime.block_on(caller).unwrap()).sum();
    f64::from(answered) / began.elapsed().as_secs_f64()
}

async fn arrive(
    material: Arc<Material>,
    known: Arc<BTreeMap<&'static str, Reply>>,
    socket: std::path::PathBuf,
    rate: f64,
    until: Instant,
    restarts: Restarts,
    ends: Arc<Mutex<BTreeMap<&'static str, Ends>>>,
) {
    let mut clients = Vec::new();
    for _ in 0..CALLERS {
        clients.push(client_of(&socket).await);
    }
    let mut random = Pcg64::seed_from_u64(17);
    let mut at = tokio::time::Instant::now();
    let mut open = tokio::task::JoinSet::new();
    for number in 0.. {
        // Exponentially distributed pauses make a Poisson process.
        at += Duration::from_secs_f64(-random.random::<f64>().max(1e-9).ln() / rate);
        if at.into_std() >= until {
            break;
        }
        tokio::time::sleep_until(at).await;
        while open.try_join_next().is_some() {}
        let rpc = next_rpc(&mut random);
        let (material, known, mut client) =
            (Arc::clone(&material), Arc::clone(&known), clients[number % CALLERS].clone());
        let (restarts, ends) = (Arc::clone(&restarts), Arc::clone(&ends));
        open.spawn(async move {
            let began = Instant::now();
            // Who comes while there is no daemon waits for the next one, which needs its time.
            let patience = 6 * DEADLINE;
            let answer = tokio::time::timeout(patience, material.ask(&mut client, rpc)).await;
            let took = began.elapsed();
            // Restarts that lie within the request's time.
            let is_restarted =
                restarts.lock().unwrap().iter().any(|(from, to)| {
                    *from <= Instant::now() && to.is_none_or(|to| to + Duration::from_secs(2) >= began)
                });
            let mut ends = ends.lock().unwrap();
            let ends = ends.entry(rpc).or_default();
            match answer {
                Err(_) => ends.lost.push(HANGS.to_owned()),
                Ok(Ok(reply)) if Some(&reply) == known.get(rpc) => {
                    ends.right += 1;
                    ends.milliseconds.push(took.as_secs_f64() * 1e3);
                }
                Ok(Ok(reply)) => ends.wrong.push(format!("{reply:?}")),
                Ok(Err(status)) => match end_of(&status).as_str() {
                    "RESOURCE_EXHAUSTED (OVERLOADED)" => ends.refused += 1,
                    "connection closed" | "UNAVAILABLE (DRAINING)" if is_restarted => ends.in_flight += 1,
                    other => ends.lost.push(format!("{other}: {}", status.message())),
                },
            }
        });
    }
    while open.join_next().await.is_some() {}
}

/// Ends the daemon and starts the next one. Callers who come meanwhile wait.
fn restart(stand: &mut Stand, signal: Signal, restarts: &Restarts, row: &mut Row) {
    row.injected += 1;
    restarts.lock().unwrap().push((Instant::now(), None));
    stand.signal(signal);
    let status = stand.child.wait().unwrap();
    let is_well = signal == Signal::SIGKILL || status.success();
    row.expect(is_well, || format!("{signal}: {status}"));
    stand.start_again();
    stand.wait_until_ready();
    restarts.lock().unwrap().last_mut().unwrap().1 = Some(Instant::now());
    row.survived += u64::from(is_well);
    row.end(signal.as_str());
}

fn sample(pid: i32, at: Duration) -> Option<Sample> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<f64> {
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64;
    let (mut threads, mut pool_threads) = (0.0, 0.0);
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // One that has just ended has no name.
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        *if name.starts_with("tokio-") { &mut pool_threads } else { &mut threads } += 1.0;
    }
    let decoders_mb = resident_of_decoders(pid.cast_unsigned()) as f64 / f64::from(1 << 20);
    Some(Sample { at, pid, resident_mb: field("VmRSS:")? / 1024.0, decoders_mb, descriptors, threads, pool_threads })
}

// ---------------------------------------------------------------- what came of it

fn print_requests(all: &BTreeMap<&str, Ends>) -> bool {
    println!(
        "\n{:22} {:>8} {:>8} {:>10} {:>6} {:>5} {:>9} {:>9}",
        "requests", "right", "refused", "in flight", "wrong", "lost", "p50 ms", "p99 ms"
    );
    let mut is_well = !all.is_empty();
    for (rpc, ends) in all {
        let mut times = ends.milliseconds.clone();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get((share * times.len() as f64) as usize).copied().unwrap_or(f64::NAN);
        println!(
            "{rpc:22} {:>8} {:>8} {:>10} {:>6} {:>5} {:>9.1} {:>9.1}",
            ends.right,
            ends.refused,
            ends.in_flight,
            ends.wrong.len(),
            ends.lost.len(),
            at(0.5),
            at(0.99)
        );
        is_well &= ends.wrong.is_empty() && ends.lost.is_empty() && ends.right > 0;
        ends.wrong.iter().take(3).for_each(|wrong| println!("    WRONG: {wrong}"));
        ends.lost.iter().take(10).for_each(|lost| println!("    LOST: {lost}"));
    }
    is_well
}

fn print_faults(faults: &BTreeMap<&str, Row>) -> bool {
    println!("\n{:40} {:>8} {:>8} {:>5} {:>7}  how requests ended", "fault", "injected", "survived", "lost", "crashes");
    for (name, row) in faults {
        let (lost, ends) = (row.lost.len(), row.ends());
        println!("{name:40} {:>8} {:>8} {lost:>5} {:>7}  {ends}", row.injected, row.survived, row.crashes);
        row.lost.iter().take(10).for_each(|lost| println!("    LOST: {lost}"));
    }
    faults.values().all(Row::is_well)
}

/// Of the longest time without a restart: what a line through the samples rises by in an hour, and whether its last third is what its first was.
fn print_samples(samples: &[Sample]) -> bool {
    println!(
        "\n{:>8} {:>9} {:>12} {:>12} {:>12} {:>8} {:>13}",
        "seconds", "process", "resident MB", "decoders MB", "descriptors", "threads", "pool threads"
    );
    for Sample { at, pid, resident_mb, decoders_mb, descriptors, threads, pool_threads } in samples {
        println!(
            "{:>8.0} {pid:>9} {resident_mb:>12.1} {decoders_mb:>12.1} {descriptors:>12} {threads:>8} {pool_threads:>13}",
            at.as_secs_f64()
        );
    }
    let of = |pid: i32| samples.iter().filter(move |sample| sample.pid == pid);
    let Some(longest) = samples.iter().map(|sample| sample.pid).max_by_key(|pid| of(*pid).count()) else {
        return false;
    };
    let start = of(longest).next().map_or(Duration::ZERO, |sample| sample.at);
    let last = of(longest).next_back().map_or(Duration::ZERO, |sample| sample.at);
    let warming = WARMING.min((last - start) / 4);
    let kept: Vec<&Sample> = of(longest).filter(|sample| sample.at >= start + warming).collect();
    let third = kept.len() / 3;
    if third == 0 {
        println!("too few samples to tell of growth");
        return false;
    }
    let mut is_flat = true;
    for (name, value, tolerance) in [
        ("resident MB", (|sample| sample.resident_mb) as fn(&Sample) -> f64, RESIDENT_TOLERANCE),
        // They rest and work by turns, and a new one holds less than one that has worked.
        ("decoders MB", |sample| sample.decoders_mb, 0.25),
        // Connections of the faults come and go.
        ("descriptors", |sample| sample.descriptors, 0.1),
        ("threads", |sample| sample.threads, 0.0),
        ("pool threads", |sample| sample.pool_threads, 0.25),
    ] {
        let of = |samples: &[&Sample]| median(samples.iter().map(|one| value(one)).collect());
        let (first, end) = (of(&kept[..third]), of(&kept[kept.len() - third..]));
        // The median of the slopes between all pairs (Theil and Sen), which single peaks do not move.
        let slopes = kept.iter().enumerate().flat_map(|(at, later)| {
            let earlier = &kept[..at];
            earlier.iter().map(|one| (value(later) - value(one)) / (later.at - one.at).as_secs_f64() * 3600.0)
        });
        let slope = median(slopes.collect());
        let ok = end <= first * (1.0 + tolerance);
        println!(
            "{name}: {first:.1} in the first third, {end:.1} in the last (medians), {slope:+.1} an hour: {}",
            if ok { "flat" } else { "GROWS" }
        );
        is_flat &= ok;
    }
    is_flat
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
