//! The one thread that writes the log, and the handle that requests have of it.
//!
//! Requests hand in drafts through a bounded queue; the thread makes records of them and writes those that wait together, with one sync for all. While the log cannot be
//! written, the thread tries again each second; the first line that succeeds says what is missing. Anchors, the number and hash of a line, go to the journal, where
//! who can alter the log's folder cannot follow. Nothing here runs on the threads that serve requests.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Mutex, mpsc, oneshot};

use super::chain::Link;
use metrics::gauge;

use super::record::{self, AskedBy, Common, Draft, End, Event, Loaded, Torn};
use super::salt::{Salt, SaltError};
use super::store::{Bounds, Store};
use crate::config::{AuditConfig, AuditFailure, AuditSync};
use crate::error::exit;
use crate::ops::metrics as names;

/// Records that may wait. Beyond this, requests wait with their answer.
const QUEUE: usize = 256;

/// Requests that are open or wait with their record. A disk that hangs must not make the daemon grow: beyond this, records are counted as lost.
const MAX_OPEN: usize = 1 << 16;

/// Records that are written before one sync.
const MAX_TOGETHER: usize = 64;

/// How often lines are put on the disk with `sync = "seconds"`.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// How often a log that cannot be written is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Longest time without an anchor while there are new lines.
const ANCHOR_AFTER: Duration = Duration::from_secs(600);

/// How often the journal is told that the log cannot be written.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Longest wait at the end for requests that were cut off.
const CLOSING: Duration = Duration::from_secs(1);

/// How long the last records may take to be on the disk.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Salt(#[from] SaltError),
    #[error("the audit log in {} cannot be written: {cause}; see audit.dir and audit.on_failure", dir.display())]
    Dir { dir: PathBuf, cause: io::Error },
    #[error("the thread of the audit log, or its clock, cannot be started: {0}")]
    Thread(io::Error),
}

impl OpenError {
    /// The exit code that this error ends the daemon with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Salt(_) => exit::CONFIG,
            Self::Dir { cause, .. } => match cause.kind() {
                // Both pass.
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ResourceBusy => {
                    exit::TEMP_FAIL
                }
                _ => exit::CONFIG,
            },
            Self::Thread(_) => exit::SOFTWARE,
        }
    }
}

/// A record could not be written, and the policy is to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotWritten;

/// When a log that could not be written is tried again, for who is refused until then.
pub const RETRY_AFTER: Duration = RETRY_EVERY;

/// How long a call waits for its record.
const PATIENCE: Duration = Duration::from_secs(5);

/// The audit log as requests see it.
pub struct AuditLog {
    queue: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    common: Arc<Common>,
    sync: AuditSync,
    on_failure: AuditFailure,
    /// Requests whose record is not handed in yet.
    open: AtomicUsize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    is_broken: AtomicBool,
    /// A call has waited in vain for its record: the disk does not answer, of which the thread, which waits for it, can say nothing.
    hangs: AtomicBool,
    /// Since when the thread does what it does now.
    busy_since: std::sync::Mutex<Option<Instant>>,
    /// The daemon ends, and the thread with it.
    is_ending: AtomicBool,
    /// Since the log broke: requests without a record, and requests refused.
    lost: AtomicU64,
    refused: AtomicU64,
}

enum Message {
    Record(Box<Draft>, Option<Asker>),
    /// The hash of the settings, and what they have loaded.
    Reload(String, Loaded, AskedBy),
    Stop,
}

/// A call that waits for its record.
struct Asker {
    answer: oneshot::Sender<Result<(), NotWritten>>,
    /// It has waited for as long as it may, and its caller was told that the answer is withheld.
    is_withheld: Arc<AtomicBool>,
}

impl Asker {
    fn is_withheld(&self) -> bool {
        self.is_withheld.load(Ordering::Relaxed)
    }
}

impl AuditLog {
    /// Opens the log and says in it that a daemon has started; `None` if none is configured.
    ///
    /// # Errors
    /// [`OpenError`]. With `on_failure = "warn"` a folder that cannot be written is none, only a warning.
    pub fn start(config: &AuditConfig, config_sha256: String, loaded: Loaded) -> Result<Option<Arc<Self>>, OpenError> {
        let Some(dir) = config.dir.clone() else {
            return Ok(None);
        };
        let common =
            Arc::new(Common { salt: Salt::find(config.salt_file.as_deref())?, scores: config.scores, config_sha256 });
        let (queue, messages) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let bounds = Bounds { max_file_bytes: config.max_file_bytes, max_files: config.max_files };
        let mut writer = Writer {
            dir: dir.clone(),
            bounds,
            loaded,
            untold_reload: None,
            sync: config.sync,
            on_failure: config.on_failure,
            anchor_every: config.anchor_every,
            common: Arc::clone(&common),
            shared: Arc::clone(&shared),
            store: None,
            broken: None,
            unanchored: 0,
            anchored: Instant::now(),
            complained: None,
        };
        gauge!(names::AUDIT_BROKEN).set(0.0);
        if let Err(cause) = writer.open() {
            if config.on_failure == AuditFailure::Refuse {
                return Err(OpenError::Dir { dir, cause });
            }
            writer.fails(&cause);
        }
        // A runtime of its own for the clock alone: this thread may block.
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(OpenError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(messages, &clock))
            .map_err(OpenError::Thread)?;
        Ok(Some(Arc::new(Self {
            queue,
            shared,
            common,
            sync: config.sync,
            on_failure: config.on_failure,
            open: AtomicUsize::new(0),
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// The salt of the digests.
    pub fn salt(&self) -> &Salt {
        &self.common.salt
    }

    /// True while requests are to be refused because they could not be recorded.
    pub fn refuses(&self) -> bool {
        // A disk that is slow for a moment costs those who have waited for it, and not all who come.
        let hangs = || self.shared.hangs.load(Ordering::Relaxed) && self.shared.busy_for() > 2 * PATIENCE;
        self.on_failure == AuditFailure::Refuse && (self.shared.is_broken.load(Ordering::Relaxed) || hangs())
    }

    /// Counts a request that has begun and was refused without a record.
    pub fn refuse(&self) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request has begun; its draft comes.
    pub fn begin(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Hands a record in, and waits until it is written as far as the configuration wants: on the disk with `sync = "each"`, in the file with
    /// `on_failure = "refuse"`, else not at all. The record is written also if this is not waited for.
    ///
    /// # Errors
    /// [`NotWritten`] if the request must not be answered.
    pub async fn record(self: &Arc<Self>, draft: Draft) -> Result<(), NotWritten> {
        let waits = self.sync == AuditSync::Each || self.on_failure == AuditFailure::Refuse;
        let (answer, written) = oneshot::channel();
        let is_withheld = Arc::new(AtomicBool::new(false));
        let asker = Asker { answer, is_withheld: Arc::clone(&is_withheld) };
        let handing_in = self.hand_in(Message::Record(Box::new(draft), waits.then_some(asker)));
        let is_lost = handing_in.is_err();
        let writing = async {
            if let Ok(Some(handing_in)) = handing_in {
                // It fails only when the runtime is going away.
                let _ = handing_in.await;
            }
            !waits || matches!(written.await, Ok(Ok(())))
        };
        let is_written = !is_lost && self.in_time(writing).await.unwrap_or(false);
        if is_written || self.on_failure == AuditFailure::Warn {
            return Ok(());
        }
        is_withheld.store(true, Ordering::Relaxed);
        Err(NotWritten)
    }

    /// Waits for the thread, but not for ever: a disk that hangs is no better than a full one. While it is known to hang nobody waits who need not.
    async fn in_time<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        let is_known = self.on_failure == AuditFailure::Warn && self.shared.hangs.load(Ordering::Relaxed);
        let patience = if is_known { Duration::ZERO } else { PATIENCE };
        let done = tokio::time::timeout(patience, waiting).await.ok();
        if done.is_none() {
            self.hangs();
        }
        done
    }

    /// Notes, and tells once, that the thread does not get on.
    fn hangs(&self) {
        if !self.shared.hangs.swap(true, Ordering::Relaxed) {
            gauge!(names::AUDIT_BROKEN).set(1.0);
            let policy = self.on_failure.as_str();
            tracing::error!(target: "vouch::audit", policy, "the audit log cannot be written: its disk does not answer");
        }
    }

    /// Hands in the record of a request that nobody waits for any more.
    pub fn record_without_waiting(self: &Arc<Self>, draft: Draft) {
        // Counted if it is lost.
        drop(self.hand_in(Message::Record(Box::new(draft), None)));
    }

    /// Puts a message into the queue; where that is full, by a task of its own, which does not end with who hands it in. The error is a record that is lost, and counted.
    fn hand_in(self: &Arc<Self>, message: Message) -> Result<Option<tokio::task::JoinHandle<()>>, NotWritten> {
        // Where nobody waits for a record, nobody would see it otherwise until the queue is full.
        if self.shared.busy_for() > PATIENCE {
            self.hangs();
        }
        let message = match self.queue.try_send(message) {
            Err(mpsc::error::TrySendError::Full(message)) => message,
            result => {
                if result.is_err() {
                    self.closed();
                }
                self.open.fetch_sub(1, Ordering::Relaxed);
                return Ok(None);
            }
        };
        let may_wait = self.open.load(Ordering::Relaxed) <= MAX_OPEN && !self.shared.hangs.load(Ordering::Relaxed);
        let runtime = tokio::runtime::Handle::try_current().ok();
        let Some(runtime) = runtime.filter(|_| may_wait) else {
            self.shared.count_missing(1, self.on_failure);
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(NotWritten);
        };
        let log = Arc::clone(self);
        Ok(Some(runtime.spawn(async move {
            if log.queue.send(message).await.is_err() {
                log.closed();
            }
            log.open.fetch_sub(1, Ordering::Relaxed);
        })))
    }

    /// Nobody takes messages any more: the daemon ends, or the thread did, and then the log is broken for good.
    fn closed(&self) {
        if self.shared.is_ending.load(Ordering::Relaxed) {
            return;
        }
        self.shared.count_missing(1, self.on_failure);
        if !self.shared.is_broken.swap(true, Ordering::Relaxed) {
            gauge!(names::AUDIT_BROKEN).set(1.0);
            let policy = self.on_failure.as_str();
            tracing::error!(target: "vouch::audit", policy, "the audit log cannot be written: its thread has ended");
        }
    }

    /// Says in the log that the daemon runs with something else, at whose word; calls that begin later bear the new hash of the settings.
    pub async fn reloaded(self: &Arc<Self>, config_sha256: String, loaded: Loaded, asked_by: AskedBy) {
        let message = Message::Reload(config_sha256, loaded, asked_by);
        let log = Arc::clone(self);
        // Handed in however long it takes, for what comes after it belongs to what is loaded now.
        let handing_in = tokio::spawn(async move {
            if log.queue.send(message).await.is_err() {
                log.closed();
            }
        });
        // How it went is told by the log.
        let _ = self.in_time(handing_in).await;
    }

    /// Writes what is waiting, says in the log that the daemon ends, and closes it. Requests that were cut off are waited for, for a moment.
    pub fn stop(&self) {
        let until = Instant::now() + CLOSING;
        while self.open.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.shared.is_ending.store(true, Ordering::Relaxed);
        // A disk that hangs must not hold the daemon's end up for ever.
        let until = Instant::now() + LAST_WRITE;
        while Instant::now() < until
            && matches!(self.queue.try_send(Message::Stop), Err(mpsc::error::TrySendError::Full(_)))
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(thread) = self.thread.blocking_lock().take() {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                let _ = thread.join();
            } else {
                tracing::error!("the audit log could not be closed: its disk does not answer");
            }
        }
    }
}

impl Shared {
    fn busy(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.busy_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn busy_for(&self) -> Duration {
        self.busy().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Counts requests that have no record.
    fn count_missing(&self, requests: u64, on_failure: AuditFailure) {
        match on_failure {
            AuditFailure::Refuse => self.refused.fetch_add(requests, Ordering::Relaxed),
            AuditFailure::Warn => self.lost.fetch_add(requests, Ordering::Relaxed),
        };
    }
}

/// What the thread holds.
struct Writer {
    dir: PathBuf,
    bounds: Bounds,
    loaded: Loaded,
    /// What is loaded has changed, and the log does not say so yet: at whose word.
    untold_reload: Option<AskedBy>,
    sync: AuditSync,
    on_failure: AuditFailure,
    anchor_every: u64,
    common: Arc<Common>,
    shared: Arc<Shared>,
    /// `None` until it could be opened.
    store: Option<Store>,
    /// Since when and why the log cannot be written.
    broken: Option<(SystemTime, String)>,
    /// Lines since the last anchor.
    unanchored: u64,
    anchored: Instant,
    complained: Option<Instant>,
}

type Waiting = (Box<Draft>, Option<Asker>);

impl Writer {
    fn run(mut self, mut messages: mpsc::Receiver<Message>, clock: &tokio::runtime::Runtime) {
        clock.block_on(async {
            let mut second = tokio::time::interval(SYNC_EVERY.min(RETRY_EVERY));
            second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    message = messages.recv() => {
                        let Some(first) = message else { return self.survive(0, Self::end) };
                        let mut together = Vec::new();
                        let (mut is_end, mut reload) = (false, None);
                        let mut next = Some(first);
                        while let Some(message) = next {
                            match message {
                                Message::Record(draft, answer) => together.push((draft, answer)),
                                Message::Reload(config_sha256, loaded, asked_by) => {
                                    reload = Some((config_sha256, loaded, asked_by));
                                }
                                Message::Stop => is_end = true,
                            }
                            // What comes after a reload belongs to what it has loaded.
                            next = if together.len() < MAX_TOGETHER && reload.is_none() { messages.try_recv().ok() } else { None };
                        }
                        // Those of the batch hear that their answer was dropped, which is as good as not written.
                        let records = together.len() as u64;
                        self.survive(records, |writer| writer.write(together));
                        self.answers();
                        if let Some((config_sha256, loaded, asked_by)) = reload {
                            Arc::make_mut(&mut self.common).config_sha256 = config_sha256;
                            self.loaded = loaded;
                            self.untold_reload = Some(asked_by);
                            self.survive(0, Self::tell_reload);
                        }
                        if is_end {
                            return self.survive(0, Self::end);
                        }
                    }
                    _ = second.tick() => {
                        self.survive(0, Self::tick);
                        self.answers();
                    }
                }
            }
        });
    }

    /// The thread has got something done: if its disk did not answer, it does again.
    fn answers(&self) {
        if self.shared.hangs.swap(false, Ordering::Relaxed) {
            tracing::warn!(target: "vouch::audit", "the disk of the audit log answers again");
        }
        gauge!(names::AUDIT_BROKEN).set(f64::from(u8::from(self.broken.is_some())));
    }

    /// Does something with so many records in hand. A panic in it is a log that cannot be written, and not the end of the thread.
    fn survive(&mut self, records: u64, work: impl FnOnce(&mut Self)) {
        *self.shared.busy() = Some(Instant::now());
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.panicked(records);
        }
        *self.shared.busy() = None;
    }

    /// Opens the log and writes that the daemon has started.
    fn open(&mut self) -> io::Result<()> {
        let (mut store, found) = Store::open(&self.dir, self.bounds)?;
        if let Some(Torn { file, bytes, .. }) = &found.torn {
            tracing::warn!(target: "vouch::audit", file, bytes, "the audit log ended within a line, which was set aside");
        }
        let start = Event::Start { head: found.head, torn: found.torn.as_ref(), loaded: &self.loaded };
        store.append(&record::event(&start, &self.common, SystemTime::now()))?;
        store.sync()?;
        self.store = Some(store);
        self.anchor("start");
        Ok(())
    }

    /// Where the log cannot be written at the moment, it is told when it can.
    fn tell_reload(&mut self) {
        if let Some(asked_by) = self.untold_reload.filter(|_| self.broken.is_none()) {
            let event = Event::Reload { loaded: &self.loaded, asked_by };
            let body = record::event(&event, &self.common, SystemTime::now());
            match self.add(&body).and_then(|_| self.store.as_mut().map_or(Ok(()), Store::sync)) {
                Ok(()) => self.untold_reload = None,
                Err(error) => self.fails(&error),
            }
        }
    }

    fn write(&mut self, together: Vec<Waiting>) {
        crate::ops::faults::point("audit");
        if self.broken.is_some() {
            self.mend();
        }
        let mut written: Vec<(Option<Asker>, bool)> = Vec::with_capacity(together.len());
        for (mut draft, asker) in together {
            // Its record says so, and nobody waits for it.
            let is_withheld = asker.as_ref().is_some_and(Asker::is_withheld);
            if is_withheld {
                draft.end = End::withheld();
            }
            let asker = asker.filter(|_| !is_withheld);
            let result = if self.broken.is_some() {
                Err(None)
            } else {
                self.add(&record::request(&draft, &self.common)).map_err(Some)
            };
            if let Err(Some(error)) = &result {
                self.fails(error);
            }
            written.push((asker, result.is_ok()));
        }
        let mut is_synced = true;
        if let Some(store) = self.store.as_mut().filter(|_| self.broken.is_none()) {
            let result = if self.sync == AuditSync::Each { store.sync() } else { store.write_head() };
            if let Err(error) = result {
                // The lines stand in the file, but nobody can say that they stay.
                is_synced = false;
                self.fails(&error);
            }
        } else if let Some(store) = &mut self.store {
            // Those that were written before one failed.
            is_synced = self.sync == AuditSync::Seconds || store.sync().is_ok();
        }
        for (asker, is_written) in written {
            let is_written = is_written && is_synced;
            // Whose answer was withheld while its line was on its way to the disk has a record that says otherwise, which the gap makes good.
            if !is_written || asker.as_ref().is_some_and(Asker::is_withheld) {
                self.shared.count_missing(1, self.on_failure);
            }
            if let Some(asker) = asker {
                // Nobody may be waiting any more.
                let _ = asker.answer.send(if is_written { Ok(()) } else { Err(NotWritten) });
            }
        }
        if self.unanchored >= self.anchor_every {
            self.anchor("count");
        }
    }

    /// After a panic nobody knows what the open file holds: it is closed, and opened and looked through as at a start.
    fn panicked(&mut self, records: u64) {
        self.shared.count_missing(records, self.on_failure);
        self.store = None;
        self.fails(&io::Error::other("writing panicked; its place stands in the journal"));
    }

    /// Adds a line, in the next file if this one is full.
    fn add(&mut self, body: &str) -> io::Result<Link> {
        let not_open = || io::Error::from(io::ErrorKind::NotConnected);
        let store = self.store.as_mut().ok_or_else(not_open)?;
        let is_full = store.is_full_for(body);
        if is_full {
            store.rotate()?;
            self.anchor("rotation");
            self.keep_so_many()?;
        }
        let link = self.store.as_mut().ok_or_else(not_open)?.append(body)?;
        self.unanchored += 1;
        Ok(link)
    }

    /// Removes what is too much. The log says so first.
    fn keep_so_many(&mut self) -> io::Result<()> {
        let Some(store) = &mut self.store else { return Ok(()) };
        if let Some((files, through)) = store.too_many()? {
            let event = Event::Retention { files: &files, through };
            store.append(&record::event(&event, &self.common, SystemTime::now()))?;
            store.sync()?;
            self.unanchored += 1;
            store.remove(&files)?;
        }
        Ok(())
    }

    fn tick(&mut self) {
        crate::ops::faults::point("tick");
        if self.broken.is_some() {
            return self.mend();
        }
        // Calls that found the queue full, or that came while the log was being mended.
        if self.shared.lost.load(Ordering::Relaxed) + self.shared.refused.load(Ordering::Relaxed) > 0 {
            self.broken = Some((SystemTime::now(), "calls that left no record".into()));
            return self.mend();
        }
        if let Some(Err(error)) = self.store.as_mut().map(Store::settle) {
            return self.fails(&error);
        }
        if self.unanchored > 0 && self.anchored.elapsed() >= ANCHOR_AFTER {
            self.anchor("time");
        }
    }

    /// Tries whether the log can be written again, by writing what is missing.
    fn mend(&mut self) {
        let Some((since, error)) = self.broken.clone() else { return };
        let result = match &mut self.store {
            None => self.open(),
            Some(_) => Ok(()),
        };
        let (lost, refused) = (self.shared.lost.load(Ordering::Relaxed), self.shared.refused.load(Ordering::Relaxed));
        let event = Event::Gap { since, lost, refused, error: &error };
        let body = record::event(&event, &self.common, SystemTime::now());
        let result =
            result.and_then(|()| self.add(&body)).and_then(|_| self.store.as_mut().map_or(Ok(()), Store::sync));
        match result {
            Ok(()) => {
                self.shared.lost.fetch_sub(lost, Ordering::Relaxed);
                self.shared.refused.fetch_sub(refused, Ordering::Relaxed);
                self.broken = None;
                self.complained = None;
                self.shared.is_broken.store(false, Ordering::Relaxed);
                gauge!(names::AUDIT_BROKEN).set(0.0);
                self.tell_reload();
                tracing::warn!(target: "vouch::audit", lost, refused, "the audit log can be written again");
            }
            Err(error) => self.fails(&error),
        }
    }

    fn fails(&mut self, error: &io::Error) {
        if self.broken.is_none() {
            self.broken = Some((SystemTime::now(), error.kind().to_string()));
        }
        self.shared.is_broken.store(true, Ordering::Relaxed);
        gauge!(names::AUDIT_BROKEN).set(1.0);
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            let policy = self.on_failure.as_str();
            let lost = self.shared.lost.load(Ordering::Relaxed);
            tracing::error!(target: "vouch::audit", %error, policy, lost, "the audit log cannot be written");
        }
    }

    /// Tells the journal how far the log goes.
    fn anchor(&mut self, reason: &'static str) {
        if let Some(store) = &self.store {
            let Link { sequence, hash } = store.last();
            tracing::info!(target: "vouch::audit", sequence, hash = hash.to_string(), reason, "audit anchor");
        }
        self.unanchored = 0;
        self.anchored = Instant::now();
    }

    fn end(&mut self) {
        if self.broken.is_some() {
            self.mend();
        }
        let (lost, refused) = (self.shared.lost.load(Ordering::Relaxed), self.shared.refused.load(Ordering::Relaxed));
        if lost + refused > 0 {
            tracing::error!(target: "vouch::audit", lost, refused, "the daemon ends, and the audit log could not be told of so many calls");
        }
        let body = record::event(&Event::Stop, &self.common, SystemTime::now());
        if self.broken.is_none() {
            let result = self.add(&body).and_then(|_| self.store.as_mut().map_or(Ok(()), Store::settle));
            match result {
                Ok(()) => self.anchor("stop"),
                Err(error) => self.fails(&error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Actor;
    use crate::config::Config;

    fn log(dir: &std::path::Path, on_failure: AuditFailure) -> Arc<AuditLog> {
        let config = AuditConfig { dir: Some(dir.to_owned()), on_failure, ..Config::default().audit };
        AuditLog::start(&config, String::new(), Loaded::default()).unwrap().unwrap()
    }

    fn draft() -> Draft {
        Draft::new("Verify", String::new(), Actor::default(), SystemTime::UNIX_EPOCH)
    }

    /// The log's own thread has ended then, and changes nothing any more.
    fn replace_queue(log: &mut Arc<AuditLog>, queue: mpsc::Sender<Message>) {
        let log = Arc::get_mut(log).unwrap();
        log.queue = queue;
        log.thread.get_mut().take().unwrap().join().unwrap();
    }

    /// It was: taken for the daemon's end, and with `warn` calls went on without records and without a word.
    #[tokio::test]
    async fn a_log_whose_thread_has_ended_is_broken() {
        for (on_failure, answer, counts) in
            [(AuditFailure::Refuse, Err(NotWritten), (0, 1)), (AuditFailure::Warn, Ok(()), (1, 0))]
        {
            let folder = tempfile::tempdir().unwrap();
            let mut log = log(folder.path(), on_failure);
            replace_queue(&mut log, mpsc::channel(1).0);
            log.begin();
            assert_eq!(log.record(draft()).await, answer);
            let Shared { is_broken, lost, refused, .. } = &*log.shared;
            assert_eq!((lost.load(Ordering::Relaxed), refused.load(Ordering::Relaxed)), counts);
            assert!(is_broken.load(Ordering::Relaxed));
            assert_eq!(log.refuses(), on_failure == AuditFailure::Refuse);
        }
    }

    /// It was: recorded as answered.
    #[test]
    fn a_call_whose_answer_was_withheld_is_recorded_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), AuditFailure::Refuse);
        for is_withheld in [true, false] {
            let (answer, _) = oneshot::channel();
            let asker = Asker { answer, is_withheld: Arc::new(AtomicBool::new(is_withheld)) };
            log.begin();
            log.hand_in(Message::Record(Box::new(draft()), Some(asker))).unwrap();
        }
        log.stop();
        let file = super::super::store::files(folder.path()).unwrap().remove(0).1;
        let lines = std::fs::read_to_string(file).unwrap();
        let calls: Vec<&str> = lines.lines().filter(|line| line.contains("\"operation\":\"Verify\"")).collect();
        let is_withheld = |line: &&str| line.contains("\"status\":\"Failure\"") && line.contains("AUDIT_UNAVAILABLE");
        assert_eq!(calls.iter().map(is_withheld).collect::<Vec<_>>(), [true, false], "{lines}");
    }

    /// It was: a file that was removed meanwhile could not be opened, which ended the verification.
    #[test]
    fn a_log_that_is_rotated_while_it_is_verified_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let config = AuditConfig {
            dir: Some(folder.path().to_owned()),
            max_file_bytes: 4096,
            max_files: 2,
            ..Config::default().audit
        };
        let log = AuditLog::start(&config, String::new(), Loaded::default()).unwrap().unwrap();
        let is_over = AtomicBool::new(false);
        let verified = std::thread::scope(|scope| {
            let verifying = scope.spawn(|| {
                let mut verified = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let report = super::super::verify::verify_dir(folder.path(), &[]).unwrap();
                    assert!(report.findings.is_empty(), "{:?}", report.findings);
                    verified += 1;
                }
                verified
            });
            for _ in 0..1000 {
                log.begin();
                log.record_without_waiting(draft());
                std::thread::sleep(Duration::from_millis(1));
            }
            is_over.store(true, Ordering::Relaxed);
            verifying.join().unwrap()
        });
        log.stop();
        assert!(verified > 100, "{verified}");
    }

    /// It was: calls waited for ever once the queue was full, and nobody was told.
    #[tokio::test(start_paused = true)]
    async fn while_the_disk_hangs_nobody_waits_for_long_and_it_is_told() {
        for (on_failure, answer, counts) in
            [(AuditFailure::Refuse, Err(NotWritten), (0, 1)), (AuditFailure::Warn, Ok(()), (1, 0))]
        {
            let folder = tempfile::tempdir().unwrap();
            let mut log = log(folder.path(), on_failure);
            // A thread that takes nothing any more.
            let (queue, mut stuck) = mpsc::channel(1);
            replace_queue(&mut log, queue);
            log.begin();
            log.record_without_waiting(draft());
            let ask = async || {
                let began = tokio::time::Instant::now();
                log.begin();
                let answered = log.record(draft()).await;
                (answered, began.elapsed())
            };
            assert_eq!(ask().await, (answer, PATIENCE));
            assert!(!log.refuses(), "a moment");
            *log.shared.busy() = Instant::now().checked_sub(3 * PATIENCE);
            assert_eq!(log.refuses(), on_failure == AuditFailure::Refuse);
            let (answered, took) = ask().await;
            assert!(answered == answer && took < Duration::from_millis(10), "{took:?}");
            let Shared { lost, refused, hangs, .. } = &*log.shared;
            assert_eq!((lost.load(Ordering::Relaxed), refused.load(Ordering::Relaxed)), counts);
            assert!(hangs.load(Ordering::Relaxed));
            // The first two are still to be written.
            assert!(matches!(stuck.recv().await, Some(Message::Record(_, None))));
            let Some(Message::Record(_, Some(asker))) = stuck.recv().await else { panic!("it is still to be written") };
            assert_eq!(asker.is_withheld(), on_failure == AuditFailure::Refuse);
            assert!(stuck.try_recv().is_err());
            log.reloaded(String::new(), Loaded::default(), AskedBy::Signal).await;
        }
    }

    #[tokio::test]
    async fn a_thread_that_is_stuck_is_noticed_by_calls_that_do_not_wait_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), AuditFailure::Warn);
        let hangs = || log.shared.hangs.load(Ordering::Relaxed);
        log.begin();
        log.record(draft()).await.unwrap();
        assert!(!hangs());
        // As if it had begun something long ago. Now and then the thread, which is at work, says otherwise first.
        let long_ago = Instant::now().checked_sub(2 * PATIENCE).unwrap();
        let noticed = (0..1000).any(|_| {
            *log.shared.busy() = Some(long_ago);
            log.begin();
            log.record_without_waiting(draft());
            hangs()
        });
        assert!(noticed, "a thread that does not get on");
        let until = Instant::now() + Duration::from_secs(20);
        while hangs() {
            assert!(Instant::now() < until, "the thread goes on, and that is not noticed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_log_that_the_daemon_has_closed_is_not_broken() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), AuditFailure::Refuse);
        tokio::task::spawn_blocking({
            let log = Arc::clone(&log);
            move || log.stop()
        })
        .await
        .unwrap();
        log.begin();
        log.record_without_waiting(draft());
        assert!(!log.refuses());
    }
}
