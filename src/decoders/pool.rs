//! The decoder processes of a daemon: started before it is ready, lent to one question at a time, replaced when they have ended.
//!
//! Called by `decoders` from blocking threads. Whoever asks waits for a process (the oldest request first, and while others wait none gets more than half of them), then for its answer, and meanwhile
//! looks at its request every few milliseconds: a moment after the
//! caller has gone, or when the time is over, the process is killed, which is the only way to stop a decoder. The next question that finds none starts another and pays for
//! it, so that a flood of files that kill decoders costs their senders and does not become a flood of processes. No file is tried twice; only a process that has ended
//! between two questions is replaced without a word. One that has answered for long is ended and replaced beside the work ([`Wear`]), since it may have been taken over.
//!
//! Processes are started by one thread that lives as long as the pool, because the kernel ends them with the *thread* that started them (`PR_SET_PDEATHSIG`).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::ptr::NonNull;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Job;
use super::process::ARGUMENT;
use super::wire::{Answer, Hello, Layout, MAX_MESSAGE_BYTES, Question, Refusal, Setup};
use crate::error::{Error, Unavailable};
use crate::imaging::decode::DecodeOptions;
use crate::ops::{faults, metrics as names, process};

/// How often a waiting thread looks at its request. Shorter, callers that left cost less; each look costs some microseconds.
const LOOK: Duration = Duration::from_millis(10);

/// After so long at rest the memory file of a process is emptied: longer than the pause between two frames of a camera, so that a session of active
/// liveness works in memory that is there.
const IDLE: Duration = Duration::from_millis(250);

/// What a process may take yet when nobody waits for its answer any more: most are done in it, and to start another costs as much, so that callers who leave again and again gain little.
const GRACE: Duration = Duration::from_millis(50);

/// How long a new process may take until it is ready: some milliseconds, on a busy machine in a debug build a second.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// When to try again where no process could be started.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a pool is made of.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// The program that becomes a decoder process when it is given [`ARGUMENT`].
    pub program: PathBuf,
    pub processes: usize,
    /// Memory that each may take beyond what it has when it starts.
    pub memory_bytes: u64,
    /// How long one question may take.
    pub deadline: Duration,
    /// Largest file that a question can be about.
    pub max_file_bytes: usize,
    /// Largest picture, width × height, that a question can be about or its answer can hold.
    pub max_pixels: u64,
    pub wear: Wear,
}

/// After what a process is ended and another takes its place, so that one that was taken over does not see everybody's files for ever.
#[derive(Debug, Clone, Copy)]
pub struct Wear {
    /// Questions that it has answered.
    pub questions: u32,
    /// Processor time of all its threads. Looked at after each answer.
    pub processor: Duration,
}

impl Default for Wear {
    /// A new process takes some 15 ms, which adds 0.03 ms to a question here: 2 % of the smallest frame, and beside the work. The time is that of 120 ms for each question.
    fn default() -> Self {
        Self { questions: 500, processor: Duration::from_secs(60) }
    }
}

impl Wear {
    /// Processor time that no good process reaches, in whole seconds: what it may have before a question, and two threads, of which a HEIC picture has the second, until the deadline.
    fn most_processor_seconds(&self, deadline: Duration) -> u64 {
        (self.processor + 2 * deadline).as_secs() + 2
    }
}

/// Why there are no decoder processes.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("it cannot be started: {0}")]
    Spawn(#[from] io::Error),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("it did not become ready")]
    Silent,
}

impl From<Errno> for StartError {
    fn from(errno: Errno) -> Self {
        Self::Spawn(errno.into())
    }
}

/// The processes.
pub struct Pool {
    processes: usize,
    deadline: Duration,
    wear: Wear,
    layout: Layout,
    shared: Arc<Shared>,
    starter: Starter,
}

/// What the starter's thread sees too.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A process has come back, or may be started, or somebody waits no longer.
    freed: Condvar,
    /// What the kernel tells of the memory of each process, as long as there is the process.
    memory: Mutex<Vec<Weak<File>>>,
}

/// What decoder processes hold, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub processes: usize,
    /// Resident memory. What processes share, such as the program, counts in each.
    pub resident_bytes: u64,
}

#[derive(Default)]
struct State {
    /// The last that came back is lent first: its memory is warm, and the others can give theirs back.
    idle: Vec<Idle>,
    /// How many have ended and are not being replaced yet.
    missing: usize,
    /// How many are on their way for those who wait.
    starting: usize,
    /// Until then none is started: the last could not be.
    rests_until: Option<Instant>,
    /// Who waits: the order of each request, and a number that tells its threads apart.
    waiting: BTreeSet<(u64, u64)>,
    /// Numbers given so far.
    numbers: u64,
    /// Processes in use, by the order of the request.
    used: BTreeMap<u64, usize>,
}

/// A process at rest.
struct Idle {
    process: DecoderProcess,
    since: Instant,
    /// Its memory file is empty.
    is_clear: bool,
}

impl Idle {
    fn new(process: DecoderProcess) -> Self {
        Self { process, since: Instant::now(), is_clear: false }
    }
}

impl State {
    /// Whether none is to be started at the moment.
    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Whether it is the turn of who waits so: nobody older may have one.
    fn is_turn_of(&self, waiting: (u64, u64), processes: usize) -> bool {
        let most = (processes / 2).max(1);
        let may_have = |order: &u64| {
            let others_wait = self.waiting.iter().any(|(other, _)| other != order);
            !others_wait || self.used.get(order).is_none_or(|used| *used < most)
        };
        self.waiting.iter().find(|(order, _)| may_have(order)) == Some(&waiting)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of processes that have ended at rest, by the host's hand, and makes their places free. The next question that needs one starts it.
    fn miss_ended(&self) {
        let mut state = self.state();
        let (ended, idle) = std::mem::take(&mut state.idle).into_iter().partition(|idle| !idle.process.is_ready());
        state.idle = idle;
        let ended: Vec<Idle> = ended;
        state.missing += ended.len();
        drop(state);
        for _ in ended {
            metrics::counter!(names::DECODER_FAILURES, "reason" => "at_rest").increment(1);
            tracing::warn!("a decoder process has ended at rest; another is started when it is needed");
        }
    }

    /// Empties the memory files of processes that have been at rest for long. Each is out of the others' reach meanwhile.
    fn clear_idle(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            let rests = |idle: &Idle| !idle.is_clear && idle.since.elapsed() >= IDLE;
            let Some(at) = state.idle.iter().position(rests) else { return };
            let mut idle = state.idle.remove(at);
            drop(state);
            let place = Place::out_of_reach(self);
            idle.process.memory.clear();
            idle.is_clear = true;
            place.fill(idle);
        }
    }
}

/// The place of a process that is out of the others' reach. If it is not filled, for whichever reason, the next question that needs one starts a process there.
struct Place {
    shared: Arc<Shared>,
    is_filled: bool,
    /// A process that was missing is started there.
    is_starting: bool,
}

impl Place {
    fn out_of_reach(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), is_filled: false, is_starting: false }
    }

    /// That of a process which is missing and shall be started: `None` where none is missing, or as many are on their way as somebody waits for.
    fn missing(shared: &Arc<Shared>, state: &mut State, now: Instant) -> Option<Self> {
        if state.missing == 0 || state.starting >= state.waiting.len() || state.rests(now) {
            return None;
        }
        state.missing -= 1;
        state.starting += 1;
        Some(Self { shared: Arc::clone(shared), is_filled: false, is_starting: true })
    }

    /// Puts a process there, to be lent after those whose memory is warm.
    fn fill(mut self, idle: Idle) {
        self.shared.state().idle.insert(0, idle);
        self.is_filled = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.missing += usize::from(!self.is_filled);
        state.starting -= usize::from(self.is_starting);
        drop(state);
        self.shared.freed.notify_all();
    }
}

/// Why a question was not answered.
enum Fault {
    /// The process has ended.
    Ended,
    /// It took longer than it may.
    Slow,
    /// It said what it should not.
    Broken,
    /// The host has no memory for the question.
    Host,
    /// Nobody waits for the answer any more.
    Pointless(Error),
}

impl Pool {
    /// Starts all processes and waits until they are ready.
    ///
    /// # Errors
    /// If one cannot be started, or this host does not let it confine itself.
    pub fn start(settings: PoolSettings) -> Result<Self, StartError> {
        let PoolSettings { program, processes, memory_bytes, deadline, max_file_bytes, max_pixels, wear } = settings;
        let layout = Layout::new(max_file_bytes, max_pixels, DecodeOptions::default().max_side_px);
        let shared = Arc::<Shared>::default();
        let setup = Setup { layout, memory_bytes, processor_seconds: wear.most_processor_seconds(deadline) };
        let starter = Starter::new(program, setup, wear, Arc::clone(&shared))?;
        let processes = processes.max(1);
        for _ in 0..processes {
            let process = starter.start()?;
            shared.state().idle.push(Idle::new(process));
        }
        Ok(Self { processes, deadline, wear, layout, shared, starter })
    }

    /// How many processes there are now, and what they hold.
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        let memory = self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for statm in memory.iter().filter_map(Weak::upgrade) {
            // One that has ended, and was not missed yet, holds nothing.
            let resident_bytes = process::resident_bytes_in(&statm).unwrap_or(0);
            held.processes += usize::from(resident_bytes > 0);
            held.resident_bytes += resident_bytes;
        }
        held
    }

    /// How many processes there shall be.
    pub fn processes(&self) -> usize {
        self.processes
    }

    /// Asks a question about `input`. `take` reads the answer, with the memory file from the place where its output begins; `None` is an answer that no honest process gives.
    ///
    /// # Errors
    /// What ended the question, as the caller of the request shall read it.
    pub(super) fn ask<T>(
        &self,
        job: &Job<'_>,
        input: &[u8],
        question: &Question,
        take: impl FnOnce(Answer, &Output<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let mut lent = self.lend(job)?;
        let left = Cell::new(None);
        let asked = lent.process().ask(input, question, |started| {
            let now = Instant::now();
            if let Err(error) = job.context.check(now) {
                let since = left.get().unwrap_or(now);
                left.set(Some(since));
                if now >= since + GRACE {
                    return Err(Fault::Pointless(error));
                }
            }
            if now >= started + self.deadline { Err(Fault::Slow) } else { Ok(()) }
        });
        let fault = match asked {
            Ok(answer) => {
                let Layout { input_bytes, output_bytes } = self.layout;
                let output = Output { memory: &lent.process().memory, begin: input_bytes, most: output_bytes };
                match take(answer, &output) {
                    Some(taken) => {
                        if lent.process().is_worn(&self.wear) {
                            lent.give_back_worn(&self.starter);
                        } else {
                            lent.give_back();
                        }
                        return Ok(taken);
                    }
                    None => Fault::Broken,
                }
            }
            Err(fault) => fault,
        };
        Err(self.told(job, fault, lent))
    }

    /// What a fault is to the caller, and to whoever reads the log. The process is ended.
    fn told(&self, job: &Job<'_>, fault: Fault, lent: Lent<'_>) -> Error {
        let reason = match &fault {
            Fault::Pointless(_) | Fault::Host => None,
            Fault::Slow => Some("slow"),
            Fault::Broken => Some("protocol"),
            Fault::Ended => Some("ended"),
        };
        let status = lent.end();
        if let Some(reason) = reason {
            job.context.harmed();
            let signal = status.and_then(|status| status.signal()).and_then(|number| Signal::try_from(number).ok());
            let reason = match (&fault, signal) {
                (Fault::Ended, Some(Signal::SIGSYS)) => "forbidden",
                _ => reason,
            };
            metrics::counter!(names::DECODER_FAILURES, "reason" => reason).increment(1);
            let signal = signal.map_or("none", Signal::as_str);
            tracing::warn!(reason, signal, "a decoder process has ended at work; the next question starts another");
        }
        let deadline_ms = self.deadline.as_millis();
        match fault {
            Fault::Pointless(error) => error,
            Fault::Host => {
                tracing::error!("there is no memory to hand a file to a decoder process");
                Error::Unavailable { state: Unavailable::NoDecoder, retry_after: RETRY_AFTER }
            }
            Fault::Slow => Error::invalid(
                job.field,
                "IMAGE_DECODER_TIMEOUT",
                format!("it takes longer to decode than the {deadline_ms} ms that are allowed"),
            ),
            Fault::Ended | Fault::Broken => Error::invalid(
                job.field,
                super::FAILED,
                "the decoder has ended at it: it is damaged, made to harm, or takes more memory than a decoder may use",
            ),
        }
    }

    /// Waits for a process.
    fn lend(&self, job: &Job<'_>) -> Result<Lent<'_>, Error> {
        let order = job.context.order();
        let no_decoder = Error::Unavailable { state: Unavailable::NoDecoder, retry_after: RETRY_AFTER };
        let in_line = InLine::new(&self.shared, order);
        let mut state = self.shared.state();
        loop {
            let now = Instant::now();
            job.context.check(now)?;
            let is_turn = state.is_turn_of(in_line.place, self.processes);
            if is_turn && let Some(Idle { process, .. }) = state.idle.pop() {
                let mut lent = Lent::new(&self.shared, &mut state, process, order);
                drop(state);
                if lent.process().is_ready() {
                    return Ok(lent);
                }
                // It has ended between two questions, by the host's hand: nothing that this one could have to do with.
                metrics::counter!(names::DECODER_FAILURES, "reason" => "at_rest").increment(1);
                tracing::warn!("a decoder process has ended at rest; another is started");
                lent.end();
                state = self.shared.state();
            } else if let Some(place) = Place::missing(&self.shared, &mut state, now) {
                drop(state);
                // It goes to whoever is first in line then, also if this caller has left.
                self.starter.want(Wanted::At(place));
                state = self.shared.state();
            } else if state.missing >= self.processes && state.rests(now) {
                // Nobody has one that could be waited for.
                return Err(no_decoder);
            } else {
                state = self.shared.freed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// Somebody who waits for a process; dropping it leaves the line.
struct InLine<'a> {
    shared: &'a Shared,
    place: (u64, u64),
}

impl<'a> InLine<'a> {
    fn new(shared: &'a Shared, order: u64) -> Self {
        let mut state = shared.state();
        state.numbers += 1;
        let place = (order, state.numbers);
        state.waiting.insert(place);
        drop(state);
        Self { shared, place }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.shared.state().waiting.remove(&self.place);
        self.shared.freed.notify_all();
    }
}

/// A process in use. If it is not given back, in whichever way its use ends, the process is killed and its place becomes free.
struct Lent<'a> {
    shared: &'a Arc<Shared>,
    process: Option<DecoderProcess>,
    /// Of the request.
    order: u64,
}

impl<'a> Lent<'a> {
    fn new(shared: &'a Arc<Shared>, state: &mut State, process: DecoderProcess, order: u64) -> Self {
        *state.used.entry(order).or_default() += 1;
        Self { shared, process: Some(process), order }
    }

    fn process(&mut self) -> &mut DecoderProcess {
        self.process.as_mut().expect("it is there until it is given back or ended")
    }

    fn give_back(mut self) {
        if let Some(process) = self.process.take() {
            self.leave(Some(Idle::new(process)));
        }
        std::mem::forget(self);
    }

    /// Has the process ended and replaced, without waiting for either.
    fn give_back_worn(mut self, starter: &Starter) {
        if let Some(process) = self.process.take() {
            self.leave_use(&mut self.shared.state());
            starter.want(Wanted::Instead(process, Place::out_of_reach(self.shared)));
        }
        std::mem::forget(self);
    }

    /// Kills the process and tells how it had ended before, or now.
    fn end(mut self) -> Option<ExitStatus> {
        self.process.take().and_then(DecoderProcess::end)
    }

    fn leave_use(&self, state: &mut State) {
        if let Some(used) = state.used.get_mut(&self.order) {
            *used -= 1;
            if *used == 0 {
                state.used.remove(&self.order);
            }
        }
    }

    fn leave(&self, process: Option<Idle>) {
        let mut state = self.shared.state();
        self.leave_use(&mut state);
        match process {
            Some(process) => state.idle.push(process),
            None => state.missing += 1,
        }
        drop(state);
        self.shared.freed.notify_all();
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        drop(self.process.take());
        self.leave(None);
    }
}

/// The part of a process's memory file in which its answer lies. Only copied from: the process could still write there.
pub(super) struct Output<'a> {
    memory: &'a MemoryFile,
    begin: usize,
    most: usize,
}

impl Output<'_> {
    /// Copies its first bytes. `None` if there are not so many.
    pub fn copy(&self, to: &mut [u8]) -> Option<()> {
        (to.len() <= self.most).then(|| self.memory.copy(self.begin, to)).flatten()
    }
}

// ---------------------------------------------------------------------------------------------------------- one process

/// One process; killed and waited for when dropped.
struct DecoderProcess {
    child: Child,
    socket: OwnedFd,
    memory: MemoryFile,
    /// Its processor time, as the kernel counts it.
    clock: Option<ClockId>,
    /// Questions that it has answered.
    answered: u32,
    /// It was to be replaced and could not be; until then it is not tried again.
    stays_until: Option<Instant>,
    /// Its `/proc/PID/statm`, for [`Shared::memory`].
    _statm: Option<Arc<File>>,
}

impl DecoderProcess {
    fn start(program: &Path, setup: &Setup, shared: &Shared) -> Result<Self, StartError> {
        let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let memory = MemoryFile::new(setup.layout.bytes())?;
        let child = Command::new(program)
            // What `ps` shows, whatever the program is called through.
            .arg0("vouchd")
            .arg(ARGUMENT)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(memory.file.try_clone()?))
            // What decoders print may quote the picture.
            .stderr(Stdio::null())
            .spawn()?;
        let clock = clock_getcpuclockid(Pid::from_raw(child.id().cast_signed())).ok();
        // As long as it waits for its first message: under `ProtectProc=invisible` it cannot be seen once it is not dumpable.
        let statm = File::open(format!("/proc/{}/statm", child.id())).ok().map(Arc::new);
        let mut of_all = shared.memory.lock().unwrap_or_else(PoisonError::into_inner);
        of_all.retain(|statm| statm.strong_count() > 0);
        of_all.extend(statm.as_ref().map(Arc::downgrade));
        drop(of_all);
        let process = Self { child, socket, memory, clock, answered: 0, stays_until: None, _statm: statm };
        process.send(setup).map_err(|_| StartError::Silent)?;
        let started = Instant::now();
        let patience = || if started.elapsed() < START_PATIENCE { Ok(()) } else { Err(Fault::Slow) };
        let hello: Hello = process.receive(patience).map_err(|_| StartError::Silent)?;
        Ok(hello.map(|()| process)?)
    }

    /// True if it waits for a question and has said nothing unasked.
    fn is_ready(&self) -> bool {
        recv(self.socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) == Err(Errno::EAGAIN)
    }

    /// Hands over the input, asks, and waits for the answer while `look` has nothing against it.
    fn ask(
        &mut self,
        input: &[u8],
        question: &Question,
        look: impl Fn(Instant) -> Result<(), Fault>,
    ) -> Result<Answer, Fault> {
        let started = Instant::now();
        // Fails only without memory for it: the host's trouble, and the question cannot be answered.
        self.memory.file.write_all_at(input, 0).map_err(|_| Fault::Host)?;
        self.send(question)?;
        let answer = self.receive(|| look(started))?;
        self.answered += 1;
        Ok(answer)
    }

    fn is_worn(&self, wear: &Wear) -> bool {
        let stays = self.stays_until.is_some_and(|until| Instant::now() < until);
        self.is_over(wear) || (!stays && self.answered >= wear.questions)
    }

    /// Whether it must not go on even where no other can be started: after as many questions again, or out of processor time, which would end it at a picture that is none the worse.
    fn is_over(&self, wear: &Wear) -> bool {
        self.answered >= wear.questions.saturating_mul(2) || self.processor() >= wear.processor
    }

    /// Its processor time. Where the kernel does not tell it, none: the number of questions decides then.
    fn processor(&self) -> Duration {
        self.clock.and_then(|clock| clock.now().ok()).map_or(Duration::ZERO, Duration::from)
    }

    fn send(&self, message: &impl Serialize) -> Result<(), Fault> {
        let bytes = serde_json::to_vec(message).map_err(|_| Fault::Broken)?;
        // At most one message is under way, for which there is always room.
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match send(self.socket.as_raw_fd(), &bytes, flags) {
            Ok(sent) if sent == bytes.len() && sent <= MAX_MESSAGE_BYTES => Ok(()),
            Ok(_) | Err(Errno::EAGAIN) => Err(Fault::Broken),
            Err(_) => Err(Fault::Ended),
        }
    }

    fn receive<T: DeserializeOwned>(&self, look: impl Fn() -> Result<(), Fault>) -> Result<T, Fault> {
        let look_ms = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
        loop {
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], look_ms) {
                Ok(0) | Err(Errno::EINTR) => look()?,
                Err(_) => return Err(Fault::Ended),
                Ok(_) => break,
            }
        }
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(_) => Err(Fault::Ended),
            Ok(length) => serde_json::from_slice(&buffer[..length]).map_err(|_| Fault::Broken),
        }
    }

    fn end(mut self) -> Option<ExitStatus> {
        // A process that has ended already keeps its own status.
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

impl Drop for DecoderProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file in memory alone, of a fixed size that neither side can change, and never to be run.
struct MemoryFile {
    file: File,
    /// All of it, to be copied from: three times as fast as reading the file.
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and to no thread.
unsafe impl Send for MemoryFile {}

impl MemoryFile {
    fn new(bytes: usize) -> Result<Self, StartError> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let name = c"vouch-decoder";
        let no_code = MFdFlags::from_bits_retain(nix::libc::MFD_NOEXEC_SEAL);
        let file = match memfd_create(name, flags | no_code) {
            // A kernel before 6.3.
            Err(Errno::EINVAL) => memfd_create(name, flags)?,
            result => result?,
        };
        let file = File::from(file);
        file.set_len(bytes as u64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        // SAFETY: the kernel chooses a place that is free, and the file cannot be shortened any more.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self { file, start: start.cast(), bytes })
    }

    /// Gives its pages back; what is read afterwards is zero. To be called between two questions.
    fn clear(&mut self) {
        let all = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // If it fails, memory is held a little longer.
        let _ = fallocate(&self.file, all, 0, self.bytes as i64);
    }

    /// Copies what lies from `at` on. `None` if there are not so many bytes.
    fn copy(&self, at: usize, to: &mut [u8]) -> Option<()> {
        if at.checked_add(to.len())? > self.bytes {
            return None;
        }
        // The process could write there at this moment. Then other bytes are copied, and nothing else comes of it: there is no reference to them, and what was copied is looked at
        // only afterwards.
        // SAFETY: within the mapping, as just checked, and `to` lies elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(self.start.as_ptr().add(at), to.as_mut_ptr(), to.len()) };
        Some(())
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and unmapped only here. If it fails, it stays mapped.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}

// -------------------------------------------------------------------------------------------------------- the starter

/// The thread that starts and replaces processes, and empties the memory files of those at rest.
struct Starter(Mutex<mpsc::Sender<Wanted>>);

/// Where a new process shall go.
enum Wanted {
    /// To who makes the pool.
    To(mpsc::SyncSender<Result<DecoderProcess, StartError>>),
    At(Place),
    /// Into the place of that one.
    Instead(DecoderProcess, Place),
}

impl Starter {
    fn new(program: PathBuf, setup: Setup, wear: Wear, shared: Arc<Shared>) -> Result<Self, StartError> {
        let (sender, wanted) = mpsc::channel::<Wanted>();
        thread::Builder::new().name("decoder-start".into()).spawn(move || {
            loop {
                let wanted = match wanted.recv_timeout(IDLE) {
                    Ok(wanted) => Some(wanted),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    // The pool has gone.
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                };
                let turn = || {
                    faults::point("starter");
                    match wanted {
                        Some(Wanted::To(to)) => drop(to.send(DecoderProcess::start(&program, &setup, &shared))),
                        Some(Wanted::At(place)) => match DecoderProcess::start(&program, &setup, &shared) {
                            Ok(process) => place.fill(Idle::new(process)),
                            Err(error) => {
                                tracing::error!(reason = error.to_string(), "a decoder process cannot be started");
                                shared.state().rests_until = Some(Instant::now() + RETRY_AFTER);
                            }
                        },
                        Some(Wanted::Instead(mut worn, place)) => {
                            // Before another takes memory too.
                            worn.memory.clear();
                            match DecoderProcess::start(&program, &setup, &shared) {
                                Ok(process) => place.fill(Idle::new(process)),
                                Err(error) => {
                                    let reason = error.to_string();
                                    tracing::warn!(reason, "a decoder process cannot be replaced after its time");
                                    // Better than none, for a while.
                                    if !worn.is_over(&wear) {
                                        worn.stays_until = Some(Instant::now() + RETRY_AFTER);
                                        place.fill(Idle::new(worn));
                                    }
                                }
                            }
                        }
                        None => {
                            shared.miss_ended();
                            shared.clear_idle();
                        }
                    }
                };
                // All processes would end with this thread. Whoever asked hears that there is none.
                if catch_unwind(AssertUnwindSafe(turn)).is_err() {
                    tracing::error!("starting a decoder process panicked; its place stands in the journal");
                }
            }
        })?;
        Ok(Self(Mutex::new(sender)))
    }

    /// Has it done, without waiting. If there is nobody to do it, what was to be replaced is killed, and its place is free.
    fn want(&self, wanted: Wanted) {
        let sent = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(wanted);
        if let Err(mpsc::SendError(Wanted::At(place) | Wanted::Instead(_, place))) = sent {
            place.shared.state().rests_until = Some(Instant::now() + RETRY_AFTER);
        }
    }

    /// Waits for a new process.
    fn start(&self) -> Result<DecoderProcess, StartError> {
        let (sender, started) = mpsc::sync_channel(1);
        self.want(Wanted::To(sender));
        started.recv().unwrap_or(Err(StartError::Silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(waiting: &[(u64, u64)], used: &[(u64, usize)]) -> State {
        State { waiting: waiting.iter().copied().collect(), used: used.iter().copied().collect(), ..State::default() }
    }

    #[test]
    fn the_oldest_request_is_first_and_of_its_threads_the_first_that_came() {
        let state = state(&[(7, 1), (3, 5), (3, 2)], &[]);
        let turns = [(3, 2), (3, 5), (7, 1)].map(|waiting| state.is_turn_of(waiting, 4));
        assert_eq!(turns, [true, false, false]);
    }

    #[test]
    fn while_others_wait_a_request_has_at_most_half() {
        let two_in_use = state(&[(3, 2), (7, 1)], &[(3, 2)]);
        assert!(!two_in_use.is_turn_of((3, 2), 4) && two_in_use.is_turn_of((7, 1), 4));
        let one_in_use = state(&[(3, 2), (7, 1)], &[(3, 1)]);
        assert!(one_in_use.is_turn_of((3, 2), 4) && !one_in_use.is_turn_of((7, 1), 4));
        // Alone it may have all of them, and of a single one it has all or nothing.
        assert!(state(&[(3, 2)], &[(3, 3)]).is_turn_of((3, 2), 4));
        assert!(state(&[(3, 2), (7, 1)], &[]).is_turn_of((3, 2), 1));
    }
}
