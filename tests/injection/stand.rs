//! A daemon with an audit log and metrics, what it is known to answer, and its state, read from outside.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::imageops::FilterType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vouch::api::proto::verify_event::Event;
use vouch::api::proto::{CheckResult, GetStatusRequest, MatchFacesRequest, Media, MediaKind, VerifyRequest};

use super::{Row, callers, decoders, host, models};
use crate::common::decoders::{decoders_of, field, is_alive, resident_of_decoders};
use crate::common::{self, Client, photo, root, vouchd};

/// Longer than anything here takes on a busy machine with an unoptimised daemon.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a caller gives a request here.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Daemons that differ in how they are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    Plain,
    /// Its socket is held by another process, as systemd does.
    Activated,
    /// Two processes decode, which may take little memory and time.
    Decoders,
    /// Requests may take three seconds.
    Hurried,
    /// Little of requests may be on its way at once.
    Narrow,
    /// Its model for passive liveness fails on all that is not grey.
    Failing,
    /// Its model for passive liveness never ends on what is not grey.
    Endless,
    /// Its wall clock can be set.
    Clock,
    /// Its audit log and its cache lie where they can be made read-only, and each record of the log begins a file. As root alone.
    ReadOnly,
}

/// Outcomes, scores and measurements as bits, by check.
pub type Known = BTreeMap<String, (i32, Option<u64>, BTreeMap<String, u64>)>;

/// What a daemon is made of, seen from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub threads: usize,
    /// Those of the runtime come and go with the load.
    pub pool_threads: usize,
    pub descriptors: usize,
    pub resident_mb: u64,
    /// Of the processes that decode, all together.
    pub decoders_mb: u64,
    pub running: u32,
    pub waiting: u32,
    pub queued: u32,
    pub sessions: u32,
}

/// Resident memory may differ by this much: arenas keep what the last requests needed, and a debug build more.
const RESIDENT_TOLERANCE_MB: u64 = 64;

pub struct Stand {
    pub runtime: tokio::runtime::Runtime,
    pub setting: Setting,
    pub folder: tempfile::TempDir,
    pub child: Child,
    /// The answer to [`verification`], by a daemon to which nothing was done.
    pub known: Known,
    known_match: u64,
    pub pictures: Pictures,
    variables: Vec<(String, String)>,
    /// Others ask it too: what is only true of an idle daemon is not looked at.
    pub is_loaded: bool,
    /// Of [`Setting::Activated`].
    pub held: Option<std::os::unix::net::UnixListener>,
}

/// Small pictures of faces, so that an unoptimised daemon is not kept waiting by pixels.
#[derive(Clone)]
pub struct Pictures {
    pub selfie: Bytes,
    pub portrait: Bytes,
}

impl Pictures {
    fn new() -> Self {
        let small = |name: &str| {
            let image = image::load_from_memory(&photo(name)).unwrap().resize(320, 320, FilterType::Triangle);
            let mut file = std::io::Cursor::new(Vec::new());
            image.to_rgb8().write_to(&mut file, image::ImageFormat::Jpeg).unwrap();
            Bytes::from(file.into_inner())
        };
        Self { selfie: small("selfie.jpg"), portrait: small("portrait.jpg") }
    }

    pub fn verification(&self) -> VerifyRequest {
        let media = |kind: MediaKind, data: &Bytes| Media { kind: kind.into(), data: data.clone() };
        let media = vec![media(MediaKind::Selfie, &self.selfie), media(MediaKind::Portrait, &self.portrait)];
        VerifyRequest { media, ..VerifyRequest::default() }
    }

    pub fn matching(&self) -> MatchFacesRequest {
        let (probe, reference) = (self.selfie.clone(), self.portrait.clone());
        MatchFacesRequest { probe, reference, ..MatchFacesRequest::default() }
    }
}

/// How a request ended, in the words of the table.
pub fn end_of(status: &Status) -> String {
    let code = vouch::api::status::code_name(status.code());
    match status.get_error_details().error_info() {
        Some(info) if info.reason == code => code.to_owned(),
        Some(info) => format!("{code} ({})", info.reason),
        // Of the caller's own transport, not of the daemon.
        None if status.code() == Code::Unknown || status.code() == Code::Unavailable => "connection closed".to_owned(),
        None => format!("{code} of the transport"),
    }
}

/// One request, which must end within its deadline: `Err` tells what the caller got instead of its result, in the words of the table.
pub async fn in_time<T>(request: impl Future<Output = Result<T, Status>>) -> Result<T, String> {
    match tokio::time::timeout(DEADLINE, request).await {
        Err(_) => Err(HANGS.to_owned()),
        Ok(ended) => ended.map_err(|status| end_of(&status)),
    }
}

/// The one end that is no end.
pub const HANGS: &str = "NO END BY ITS DEADLINE";

pub async fn verify(client: &mut Client, request: VerifyRequest) -> Result<Known, (Status, Known)> {
    let mut known = Known::new();
    let mut events = match client.verify(request).await {
        Ok(events) => events.into_inner(),
        Err(status) => return Err((status, known)),
    };
    let mut has_summary = false;
    loop {
        match events.message().await {
            Ok(None) if has_summary => return Ok(known),
            Ok(None) => return Err((Status::data_loss("the stream ended without its summary"), known)),
            Ok(Some(event)) => match event.event {
                Some(Event::Result(result)) => drop(known.insert(result.check.clone(), bits(&result))),
                Some(Event::Summary(_)) => has_summary = true,
                _ => {}
            },
            Err(status) => return Err((status, known)),
        }
    }
}

/// Asks again where a machine that is busy makes the daemon miss its own deadline.
async fn verify_patiently(socket: &Path, pictures: &Pictures) -> Result<Known, (Status, Known)> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut client = common::client_of(socket).await;
        let ended = tokio::time::timeout(PATIENCE, verify(&mut client, pictures.verification())).await;
        match ended.unwrap_or_else(|_| Err((Status::data_loss(HANGS), Known::new()))) {
            Err((status, _)) if status.code() == Code::DeadlineExceeded && Instant::now() < until => {}
            ended => return ended,
        }
    }
}

fn bits(result: &CheckResult) -> (i32, Option<u64>, BTreeMap<String, u64>) {
    let measured = result.measurements.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect();
    (result.outcome, result.score.map(f64::to_bits), measured)
}

/// The bits of the score of a match.
pub async fn match_faces(client: &mut Client, request: MatchFacesRequest) -> Result<u64, Status> {
    let answer = client.match_faces(request).await?.into_inner().result.unwrap_or_default();
    Ok(answer.score.map_or(0, f64::to_bits))
}

impl Stand {
    /// Starts a daemon and asks it what it answers.
    pub fn new(setting: Setting) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["faults", "cache", "audit"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("salt"), [7; 32]).unwrap();
        // Nobody here pauses for malformed input, of which much is sent.
        fs::write(at("vouch.toml"), "[[callers]]\nname = 'test'\nmalformed_burst = 0\n").unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut variables = vec![
            ("TEST_FAULTS_DIR".to_owned(), text(at("faults"))),
            ("VOUCH_CONFIG".into(), text(at("vouch.toml"))),
            ("VOUCH_AUDIT__DIR".into(), text(at("audit"))),
            ("VOUCH_AUDIT__SALT_FILE".into(), text(at("salt"))),
            ("VOUCH_METRICS__SOCKET".into(), text(at("metrics.sock"))),
            ("VOUCH_LOG__FORMAT".into(), "human".into()),
        ];
        let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
        match setting {
            Setting::Plain | Setting::Activated => {}
            Setting::Decoders => {
                set("VOUCH_DECODERS__PROCESSES", "2".into());
                set("VOUCH_DECODERS__DEADLINE_MS", decoders::DEADLINE.as_millis().to_string());
                set("VOUCH_DECODERS__MEMORY_MB", decoders::MEMORY_MB.to_string());
            }
            Setting::Hurried => {
                set("VOUCH_LIMITS__MAX_REQUEST_SECONDS", "3".into());
            }
            Setting::Narrow => set("VOUCH_LIMITS__MAX_ARRIVING_BYTES", (callers::ARRIVING_MB << 20).to_string()),
            Setting::Failing | Setting::Endless => {
                let model = if setting == Setting::Failing { models::failing() } else { models::endless() };
                set("VOUCH_MODELS__OVERRIDES", text(models::lay(folder.path(), &model)));
                models::borrow_cache(&at("cache"));
                set("VOUCH_MODELS__CACHE_DIR", text(at("cache")));
                if setting == Setting::Endless {
                    set("VOUCH_LIMITS__MAX_REQUEST_SECONDS", "10".into());
                    set("VOUCH_DRAIN_SECONDS", "1".into());
                    set("NOTIFY_SOCKET", text(at("notify")));
                    set("WATCHDOG_USEC", models::WATCHDOG.as_micros().to_string());
                }
            }
            Setting::Clock => {
                let (library, offset) = host::settable_clock(folder.path());
                set("LD_PRELOAD", text(library));
                set("CLOCK_OFFSET", text(offset));
            }
            Setting::ReadOnly => {
                models::borrow_cache(&at("cache"));
                set("VOUCH_MODELS__CACHE_DIR", text(at("cache")));
                set("VOUCH_MODELS__OVERRIDES", text(at("models.toml")));
                fs::write(at("models.toml"), "").unwrap();
                set("VOUCH_AUDIT__MAX_FILE_BYTES", "4096".into());
            }
        }
        let held = (setting == Setting::Activated)
            .then(|| std::os::unix::net::UnixListener::bind(folder.path().join("vouch.sock")).unwrap());
        let child = spawn(folder.path(), &variables, held.as_ref());
        let pictures = Pictures::new();
        let mut stand = Self {
            runtime,
            setting,
            folder,
            child,
            known: Known::new(),
            known_match: 0,
            pictures,
            variables,
            is_loaded: false,
            held,
        };
        stand.wait_until_ready();
        stand.learn();
        stand
    }

    /// Another daemon on the same socket.
    pub fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.start_again();
        self.wait_until_ready();
    }

    /// As [`restart`](Self::restart), with nobody to end and without waiting.
    pub fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), &self.variables, self.held.as_ref());
    }

    fn learn(&mut self) {
        let (mut client, pictures) = (self.client(), self.pictures.clone());
        let (selfie, socket) = (common::photo("selfie.jpg"), self.socket());
        if self.setting == Setting::Endless {
            // What it is not asked cannot hold it up.
            self.known_match = self.runtime.block_on(match_faces(&mut client, pictures.matching())).unwrap();
            return;
        }
        let (known, known_match) = self.runtime.block_on(async {
            // Several at once, so that the runtime has as many threads as it will have.
            let crowd: Vec<_> = (0..4)
                .map(|_| {
                    let (mut client, request) = (client.clone(), pictures.verification());
                    tokio::spawn(async move { verify(&mut client, request).await })
                })
                .collect();
            for one in crowd {
                // How they end is no matter on a machine that is busy.
                let _ = one.await.unwrap();
            }
            // A picture of full size, so that the detector's largest input has its memory.
            let request = vouch::api::proto::DetectFacesRequest { image: selfie };
            let _ = client.detect_faces(request).await;
            let known = verify_patiently(&socket, &pictures).await.unwrap_or_else(|(_, known)| known);
            (known, match_faces(&mut client, pictures.matching()).await.unwrap())
        });
        (self.known, self.known_match) = (known, known_match);
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("vouch.sock")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Of the daemon itself.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub fn client(&self) -> Client {
        self.runtime.block_on(common::client_of(&self.socket()))
    }

    /// How many connections this user has open, that of the client included. Some that were dropped a moment ago may still be closing.
    pub fn connections(&self, client: &mut Client) -> usize {
        let counts = (0..10).map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            let status = self.runtime.block_on(client.get_status(GetStatusRequest::default())).unwrap().into_inner();
            status.callers.iter().map(|caller| caller.connections as usize).sum()
        });
        counts.min().unwrap()
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn wait_until_ready(&mut self) {
        let until = Instant::now() + 2 * PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                panic!("vouchd ended while starting: {status}: {}", self.journal());
            }
            // A held socket can be connected to before there is a daemon.
            let is_ready = self.runtime.block_on(async {
                let ask = async {
                    let mut client = common::try_client_of(&self.socket()).await.ok()?;
                    client.get_status(GetStatusRequest::default()).await.ok().map(tonic::Response::into_inner)
                };
                tokio::time::timeout(2 * PATIENCE, ask).await.ok().flatten()
            });
            // All sessions are there, so that their threads do not look like a leak later.
            if is_ready.is_some_and(|status| status.models.iter().all(|one| one.sessions == one.sessions_planned)) {
                return;
            }
            assert!(Instant::now() < until, "vouchd does not become ready: {}", self.journal());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn journal(&self) -> String {
        fs::read_to_string(self.path("journal")).unwrap()
    }

    /// What the daemon is now.
    pub fn state(&self) -> State {
        let pid = self.pid();
        let mut client = self.client();
        let status = self.runtime.block_on(client.get_status(GetStatusRequest::default())).unwrap().into_inner();
        drop(client);
        let names: Vec<String> = fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("comm")).ok())
            .collect();
        let pool_threads = names.iter().filter(|name| name.starts_with("tokio-")).count();
        State {
            threads: names.len() - pool_threads,
            pool_threads,
            // Decoders that were killed are started anew when they are needed; each has three descriptors in the daemon.
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
                .unwrap()
                .count()
                .saturating_sub(3 * decoders_of(pid.cast_unsigned()).into_iter().filter(|one| is_alive(*one)).count()),
            resident_mb: status.resident_bytes >> 20,
            decoders_mb: resident_of_decoders(self.child.id()) >> 20,
            running: status.running,
            waiting: status.waiting,
            queued: status.models.iter().map(|model| model.queued).sum(),
            sessions: status.models.iter().map(|model| model.sessions).sum(),
        }
    }

    /// What has not come back to what it was before; nothing for a daemon that is well. Waits for what takes its time.
    pub fn differences(&mut self, before: &State) -> Vec<String> {
        let until = Instant::now() + Duration::from_secs(25);
        let mut differences = loop {
            let now = self.state();
            let mut found = Vec::new();
            let mut compare = |what: &str, before: u64, now: u64, tolerance: u64| {
                if now > before + tolerance {
                    found.push(format!("{what}: {before} before, {now} after"));
                }
            };
            compare("threads", before.threads as u64, now.threads as u64, 0);
            compare("threads missing", 0, before.threads.saturating_sub(now.threads) as u64, 0);
            compare("threads of the runtime", before.pool_threads as u64, now.pool_threads as u64, 16);
            compare("descriptors", before.descriptors as u64, now.descriptors as u64, 0);
            compare("resident MB", before.resident_mb, now.resident_mb, RESIDENT_TOLERANCE_MB);
            compare("resident MB of decoders", before.decoders_mb, now.decoders_mb, RESIDENT_TOLERANCE_MB);
            compare("running", 0, now.running.into(), 0);
            compare("waiting", 0, now.waiting.into(), 0);
            compare("queued for models", 0, now.queued.into(), 0);
            // Those of one that was started anew are still being made.
            compare("sessions missing", 0, u64::from(before.sessions.saturating_sub(now.sessions)), 0);
            if found.is_empty() || Instant::now() > until {
                break found;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let known = self.runtime.block_on(verify_patiently(&self.socket(), &self.pictures));
        let known = known.unwrap_or_else(|(status, known)| {
            // With a model that fails, all other checks are still answered.
            if self.setting != Setting::Failing {
                differences.push(format!("a known verification: {status:?}"));
            }
            known
        });
        if known != self.known {
            differences.push(format!("a known verification: {:?} before, {known:?} after", self.known));
        }
        differences.extend(self.audit_problem());
        differences
    }

    /// What `vouch audit verify` finds in the log, its running end left out.
    pub fn audit_problem(&self) -> Option<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vouch"));
        command.args(["audit", "verify", "--json"]).arg(self.path("audit"));
        let output = command.arg("--anchors").arg(self.path("journal")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (!output.status.success()).then(|| format!("audit log: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The answer on the metrics socket.
    pub fn metrics(&self) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.path("metrics.sock"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// From now on [`Self::peak_mb`] counts.
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    /// The most resident memory since then.
    pub fn peak_mb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        field(&status, "VmHWM").trim_end_matches(" kB").trim().parse::<u64>().unwrap() >> 10
    }

    /// One counter of the metrics; 0 if it is not there yet.
    pub fn count(&self, series: &str) -> u64 {
        let text = self.metrics().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)).map_or("0", str::trim);
        value.parse().unwrap()
    }

    /// Processor time that the daemon has used.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // After the name, which is in parentheses: the twelfth and thirteenth field, in ticks of a hundredth second.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Somebody else who asks again and again, on a connection of its own, until [`Bystander::leave`].
    pub fn bystander(&self) -> Bystander {
        let (mut client, request, known) = (self.client(), self.pictures.matching(), self.known_match);
        let (is_over, is_loaded) = (Arc::new(AtomicBool::new(false)), self.is_loaded);
        let task = self.runtime.spawn({
            let is_over = Arc::clone(&is_over);
            async move {
                let mut seen = Seen::default();
                // Once at least, and once after the fault.
                while !is_over.load(Ordering::Relaxed) || seen.right < 2 {
                    let began = Instant::now();
                    match in_time(match_faces(&mut client, request.clone())).await {
                        Ok(score) if score == known => seen.right += 1,
                        Ok(_) => seen.wrong.push("another score".into()),
                        // Another's load is no fault: who is refused comes back.
                        Err(end) if is_loaded && end == "RESOURCE_EXHAUSTED (OVERLOADED)" => {
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                        Err(end) => seen.wrong.push(end),
                    }
                    seen.slowest = seen.slowest.max(began.elapsed());
                    if seen.wrong.len() > 20 {
                        break;
                    }
                }
                seen
            }
        });
        Bystander { task, is_over }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        host::unmount(self.folder.path());
    }
}

#[derive(Debug, Default)]
pub struct Seen {
    pub right: u64,
    pub wrong: Vec<String>,
    pub slowest: Duration,
}

pub struct Bystander {
    task: JoinHandle<Seen>,
    is_over: Arc<AtomicBool>,
}

impl Bystander {
    /// Ends it, and notes what it saw.
    pub fn leave(self, stand: &Stand, row: &mut Row) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let seen = stand.runtime.block_on(self.task).unwrap();
        *row.ends.entry("OK (bystander)".into()).or_default() += seen.right;
        for wrong in &seen.wrong {
            row.lost.push(format!("a bystander: {wrong}"));
        }
        seen
    }
}

/// Starts the daemon, its journal in a file.
fn spawn(folder: &Path, variables: &[(String, String)], held: Option<&std::os::unix::net::UnixListener>) -> Child {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::process::CommandExt as _;
    let socket = folder.join("vouch.sock");
    let plain = vouchd(&socket);
    let mut command = match held {
        None => plain,
        Some(listener) => {
            // LISTEN_PID must be the daemon's own number, which the shell has before it becomes the daemon.
            let mut shell = Command::new("sh");
            shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\""]).arg(plain.get_program());
            shell.current_dir(root()).env("VOUCH_SOCKET", &socket);
            let descriptor = listener.as_raw_fd();
            // SAFETY: dup2 may be called between fork and exec.
            unsafe {
                shell.pre_exec(move || {
                    if nix::libc::dup2(descriptor, 3) == 3 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
                });
            }
            shell
        }
    };
    let journal = File::options().create(true).append(true).open(folder.join("journal")).unwrap();
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.stderr(journal).spawn().unwrap()
}
