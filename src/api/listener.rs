//! The Unix socket: binds it without ever stealing a live one, accepts connections and knows who is at the other end.
//!
//! Called by `vouchd` and `server`. [`Reservation::take`] takes a lock file beside the socket, so that of two daemons one is told
//! of the other; [`Reservation::listen`] renames the finished socket into place, so that it never exists with the wrong
//! permissions. Under socket activation the service manager has done all that. [`Access`] decides by the peer's credentials as the kernel
//! recorded them when it connected; it is asked for each request, so that a refused caller gets a gRPC status and not just a
//! closed connection.
//!
//! Sources: `unix(7)`, `flock(2)`, `sd_listen_fds(3)`.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::libc;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr, sockopt};
use nix::unistd::{Gid, Group, Uid, User};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::callers::{Callers, ConnectionPermit};
use crate::config::{Principal, SocketConfig};
use crate::error::exit;
use crate::inference::Caller;
use crate::ops::metrics as names;

/// Why the daemon cannot listen. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("another vouchd{} already listens on {}; stop it or configure another path",
        pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default(), path.display())]
    Held { path: PathBuf, pid: Option<String> },
    #[error("another program already listens on {}; stop it or configure another path", path.display())]
    Live { path: PathBuf },
    #[error("{} exists and is not a socket; remove it or configure another path", path.display())]
    NotASocket { path: PathBuf },
    #[error("{key}: there is no {kind} {name:?} on this host; create it or correct the name")]
    Unknown { key: &'static str, kind: &'static str, name: String },
    #[error("socket.mode {0:?} is not an octal number up to 0777")]
    Mode(String),
    #[error("cannot use the socket that the service manager passed: {0}")]
    Activation(String),
    #[error("cannot listen on {address} (metrics.listen): {cause}")]
    Address { address: SocketAddr, cause: io::Error },
    #[error("cannot serve on the socket: {0}")]
    Runtime(#[from] io::Error),
    #[error("cannot {action} {}: {cause}; check the configured path and that the daemon's user may write there", path.display())]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
}

impl BindError {
    /// The exit code that goes with it, from [`crate::error::exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Held { .. } | Self::Live { .. } => exit::TEMP_FAIL,
            Self::Runtime(_) => exit::SOFTWARE,
            Self::NotASocket { .. }
            | Self::Unknown { .. }
            | Self::Mode(_)
            | Self::Activation(_)
            | Self::Address { .. }
            | Self::Io { .. } => exit::CONFIG,
        }
    }

    fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { action, path, cause: cause.into() }
    }
}

/// A place to listen, taken before there is a socket, so that a second daemon fails before it has loaded its models.
#[derive(Debug)]
pub struct Reservation {
    access: Arc<Access>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The service manager listens already.
    Inherited(UnixListener),
    Locked {
        path: PathBuf,
        mode: u32,
        group: Option<Gid>,
        lock: Flock<File>,
    },
}

impl Reservation {
    /// Takes the socket that the service manager passed, or else the lock beside `socket.path`. To be called once, and before
    /// threads are started that could use file descriptors.
    ///
    /// A missing directory is made, with mode 0750 (0755 if `mode` lets everybody in) and the socket's group.
    ///
    /// # Errors
    /// [`BindError::Held`] or [`BindError::Live`] if somebody listens there, whose socket stays untouched; otherwise what
    /// stands in the way.
    pub fn take(config: &SocketConfig) -> Result<Self, BindError> {
        match inherited()? {
            Some(listener) => {
                Ok(Self { access: Arc::new(Access::resolve(config)?), place: Place::Inherited(listener) })
            }
            None => Self::take_own(config),
        }
    }

    /// As [`take`](Self::take), for a socket that no service manager passes.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_own(config: &SocketConfig) -> Result<Self, BindError> {
        let access = Arc::new(Access::resolve(config)?);
        let path = config.path.clone();
        let mode = config.mode_bits().ok_or_else(|| BindError::Mode(config.mode.clone()))?;
        let group = socket_group(config)?;
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            let directory_mode = if mode & 0o007 == 0 { 0o750 } else { 0o755 };
            let failed = || BindError::io("make the directory", directory);
            DirBuilder::new().recursive(true).mode(directory_mode).create(directory).map_err(failed())?;
            if let Some(group) = group {
                chown(directory, None, Some(group.as_raw())).map_err(failed())?;
            }
        }
        let lock = lock(&path)?;
        refuse_to_replace_what_lives(&path)?;
        Ok(Self { access, place: Place::Locked { path, mode, group, lock } })
    }

    /// Who may use the daemon.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    /// Binds and puts the socket in place; from then on callers can connect, and wait until [`Listener::accept`]. A socket that
    /// nobody listens on, left by a daemon that was killed, is replaced.
    ///
    /// # Errors
    /// [`BindError::Io`].
    pub fn listen(self) -> Result<Listener, BindError> {
        let (path, mode, group, lock) = match self.place {
            Place::Inherited(listener) => {
                return Ok(Listener { access: self.access, listener, file: None });
            }
            Place::Locked { path, mode, group, lock } => (path, mode, group, lock),
        };
        let new = with_suffix(&path, ".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BindError::io("remove", &new)(error));
            }
            _ => {}
        }
        let failed = || BindError::io("bind", &new);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed())?;
        socket::bind(socket.as_raw_fd(), &UnixAddr::new(&new).map_err(failed())?).map_err(failed())?;
        // Nobody can connect before `listen`, so the permissions are right before they matter.
        if let Some(group) = group {
            chown(&new, None, Some(group.as_raw())).map_err(BindError::io("set the group of", &new))?;
        }
        fs::set_permissions(&new, Permissions::from_mode(mode)).map_err(BindError::io("set the mode of", &new))?;
        socket::listen(&socket, Backlog::MAXCONN).map_err(failed())?;
        let made = fs::symlink_metadata(&new).map_err(BindError::io("look at", &new))?;
        fs::rename(&new, &path).map_err(BindError::io("put in place", &path))?;
        let file = SocketFile { path, identity: (made.dev(), made.ino()), _lock: lock };
        Ok(Listener { access: self.access, listener: UnixListener::from(socket), file: Some(file) })
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    access: Arc<Access>,
    listener: UnixListener,
    /// `None` under socket activation: the file then belongs to the service manager.
    file: Option<SocketFile>,
}

/// The socket in the file system. Dropping it removes the file, if it still is the one that was made, and gives up the lock.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// The lock file itself is never removed: a daemon that has opened the removed file would not exclude one that makes a new.
    _lock: Flock<File>,
}

/// What comes of accepting.
#[derive(Debug)]
pub struct Accepting {
    /// The connections, for tonic. Dropping it closes the listening socket.
    pub incoming: ReceiverStream<io::Result<Connection>>,
    /// How many are open.
    pub connections: OpenConnections,
    /// To be kept as long as the daemon works.
    pub file: Option<SocketFile>,
}

impl Listener {
    /// Takes the place and listens there at once: [`Reservation::take`], then [`Reservation::listen`].
    ///
    /// # Errors
    /// As these two.
    pub fn bind(config: &SocketConfig) -> Result<Self, BindError> {
        Reservation::take(config)?.listen()
    }

    /// Starts to accept; must be called within a tokio runtime.
    ///
    /// At most `max_connections` connections are open at once, of a user at most as many as its policy says, and one that comes on top is closed at once: waiting callers
    /// would hang without knowing why. Callers that are not allowed share [`MAX_REFUSED_CONNECTIONS`] places of their own, so that they
    /// cannot take those of others; the operator has [`OPERATOR_CONNECTIONS`] when all others are taken.
    ///
    /// # Errors
    /// If the socket cannot be registered with the runtime.
    pub fn accept(self, max_connections: usize, callers: Arc<Callers>) -> io::Result<Accepting> {
        let listener = tokio::net::UnixListener::from_std(self.listener)?;
        let connections = OpenConnections { places: Arc::new(Semaphore::new(max_connections)), max_connections };
        let (accepted, incoming) = mpsc::channel(1);
        tokio::spawn(accept(listener, self.access, callers, connections.clone(), accepted));
        Ok(Accepting { incoming: ReceiverStream::new(incoming), connections, file: self.file })
    }

    /// The plain socket, for whoever accepts by themselves, and what is to be kept as long as it is there.
    ///
    /// # Errors
    /// If it cannot be registered with the runtime.
    pub fn into_tokio(self) -> io::Result<(tokio::net::UnixListener, Option<SocketFile>)> {
        Ok((tokio::net::UnixListener::from_std(self.listener)?, self.file))
    }
}

/// The socket that the service manager listens on for us, if it does.
fn inherited() -> Result<Option<UnixListener>, BindError> {
    let failed = |error: io::Error| BindError::Activation(error.to_string());
    let mut passed = sd_notify::listen_fds().map_err(failed)?;
    let Some(descriptor) = passed.next() else {
        return Ok(None);
    };
    if passed.next().is_some() {
        return Err(BindError::Activation("there is more than one; vouchd listens on one alone".into()));
    }
    // SAFETY: by the protocol of sd_listen_fds(3) this descriptor was passed to this process, and this is the one place that
    // takes it, once.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let is_unix = socket::getsockname::<UnixAddr>(socket.as_raw_fd()).is_ok();
    let listens = socket::getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false);
    let is_stream = socket::getsockopt(&socket, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
    if !(is_unix && listens && is_stream) {
        return Err(BindError::Activation("it is not a listening Unix stream socket (ListenStream=)".into()));
    }
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Some(listener))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "the socket file could not be removed");
        }
    }
}

/// Connections that refused callers may hold open together: enough to be told so, too few to be a burden.
pub const MAX_REFUSED_CONNECTIONS: usize = 8;

/// Connections that the operator may open on top, to see and to stop what has taken all others.
pub const OPERATOR_CONNECTIONS: usize = 4;

/// How many connections are open.
#[derive(Debug, Clone)]
pub struct OpenConnections {
    places: Arc<Semaphore>,
    max_connections: usize,
}

impl OpenConnections {
    /// Connections of allowed callers that are open now.
    pub fn count(&self) -> usize {
        self.max_connections - self.places.available_permits()
    }
}

/// How long nothing is accepted after that has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the journal is told no more of one kind of trouble with connections: whoever makes it could otherwise fill the journal, in which the audit log has its anchors.
const WARNED_FOR: Duration = Duration::from_secs(5);

/// When the journal was told of something, and what it was not told since.
pub(super) struct Warned(Mutex<(Option<Instant>, u64)>);

impl Warned {
    pub(super) const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Whether to tell of one more, and of how many since the last time that were not told.
    pub(super) fn tell(&self) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, untold) = &mut *told;
        if at.is_some_and(|at| at.elapsed() < WARNED_FOR) {
            *untold += 1;
            return None;
        }
        *at = Some(Instant::now());
        Some(std::mem::take(untold))
    }
}

/// What was told of callers who do not read.
static UNREAD: Warned = Warned::new();

/// How long a caller may take to say that it speaks HTTP/2.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes in which a caller says so.
const PREFACE_BYTES: usize = 24;

/// File descriptors kept back for when there is no other: whoever connects then would wait, with a connection that seems to be open, for as long as the others keep theirs. More than
/// one, since other threads may get what is given up for a moment.
#[derive(Default)]
struct Spare(Vec<File>);

/// How many there are.
const SPARE_DESCRIPTORS: usize = 4;

impl Spare {
    /// True if all are there.
    fn fill(&mut self) -> bool {
        while self.0.len() < SPARE_DESCRIPTORS {
            match File::open("/dev/null") {
                Ok(file) => self.0.push(file),
                // Then it is tried again.
                Err(_) => return false,
            }
        }
        true
    }

    /// Takes the next caller with a spare descriptor and closes the connection, which tells at once that there is no room; false if others got the descriptors.
    async fn turn_one_away(&mut self, listener: &tokio::net::UnixListener) -> bool {
        self.fill();
        while self.0.pop().is_some() {
            let taken = tokio::time::timeout(ACCEPT_PAUSE, listener.accept()).await;
            let is_over = !matches!(taken, Ok(Err(_)));
            // Its descriptor becomes the spare one.
            drop(taken);
            if is_over {
                self.fill();
                return true;
            }
        }
        false
    }
}

async fn accept(
    listener: tokio::net::UnixListener,
    access: Arc<Access>,
    callers: Arc<Callers>,
    connections: OpenConnections,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let OpenConnections { places, max_connections } = connections;
    let refused_places = Arc::new(Semaphore::new(MAX_REFUSED_CONNECTIONS));
    let operator_places = Arc::new(Semaphore::new(OPERATOR_CONNECTIONS));
    let mut spare = Spare::default();
    spare.fill();
    let [failed, unknown, stranger, crowded, greedy] = std::array::from_fn(|_| Warned::new());
    loop {
        let stream = tokio::select! {
            () = accepted.closed() => return,
            result = listener.accept() => match result {
                // Nobody keeps a descriptor that is to be spare: without those, the next would wait.
                Ok((stream, _)) if !spare.fill() => {
                    drop(stream);
                    if let Some(untold) = failed.tell() {
                        tracing::warn!(untold, "a connection was closed: there is no file descriptor for it");
                    }
                    spare.fill();
                    continue;
                }
                Ok((stream, _)) => stream,
                Err(error) => {
                    if let Some(untold) = failed.tell() {
                        tracing::warn!(%error, untold, "a connection could not be accepted");
                    }
                    let lacks_descriptors = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                    if !lacks_descriptors || !spare.turn_one_away(&listener).await {
                        // The next attempt would fail at once, so this must not spin.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            },
        };
        let peer = match PeerIdentity::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                if let Some(untold) = unknown.tell() {
                    tracing::warn!(%error, untold, "a connection was closed: the kernel does not tell who it is");
                }
                continue;
            }
        };
        let PeerIdentity { uid, gid, pid, .. } = peer;
        let allowed = access.allowed(&peer);
        if !allowed && let Some(untold) = stranger.tell() {
            tracing::warn!(uid, gid, pid, untold, "a caller who is not allowed has connected");
        }
        let place = if allowed { &places } else { &refused_places };
        let place = Arc::clone(place).try_acquire_owned();
        let place = if peer.is_operator() {
            place.or_else(|_| Arc::clone(&operator_places).try_acquire_owned())
        } else {
            place
        };
        let Ok(place) = place else {
            if let Some(untold) = crowded.tell() {
                tracing::warn!(uid, pid, untold, "a connection was closed: there are too many");
            }
            continue;
        };
        let connected = if allowed { callers.connect(&peer, max_connections).map(Some) } else { Some(None) };
        let Some(connected) = connected else {
            if let Some(untold) = greedy.tell() {
                tracing::warn!(uid, pid, untold, "a connection was closed: its user has too many");
            }
            continue;
        };
        let preface = Some(Preface { missing: PREFACE_BYTES, until: Box::pin(tokio::time::sleep(PREFACE_TIMEOUT)) });
        let hung_up = Box::pin(peer.hang_up.clone().cancelled_owned());
        let connection =
            Connection { stream, peer, preface, hung_up, _place: place, _connected: connected, _open: Open::new() };
        if accepted.send(Ok(connection)).await.is_err() {
            return;
        }
    }
}

/// What a caller has to say first, and until when.
#[derive(Debug)]
struct Preface {
    missing: usize,
    until: Pin<Box<tokio::time::Sleep>>,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    stream: tokio::net::UnixStream,
    peer: PeerIdentity,
    /// None once it was said.
    preface: Option<Preface>,
    hung_up: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
    /// Callers who are not allowed have no account of connections.
    _connected: Option<ConnectionPermit>,
    _open: Open,
}

/// Counts an open connection as long as it is there.
#[derive(Debug)]
struct Open;

impl Open {
    fn new() -> Self {
        metrics::gauge!(names::CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!(names::CONNECTIONS).decrement(1.0);
    }
}

/// Who is at the other end: as the kernel recorded it when the caller connected, so it cannot be forged. Handlers find it in the
/// extensions of each request.
#[derive(Debug, Clone)]
pub struct PeerIdentity {
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Arc<[u32]>,
    /// Process, if it is visible from here; for the log and for sharing only, since numbers are used again.
    pub pid: Option<i32>,
    /// Closes the connection: for what a caller keeps that it must not, where no answer would reach it.
    pub hang_up: CancellationToken,
}

impl PeerIdentity {
    /// Whose share of the daemon a request takes: each process of each user has one of its own.
    pub fn caller(&self) -> Caller {
        let pid = self.pid.unwrap_or_default().cast_unsigned();
        Caller(u64::from(self.uid) << 32 | u64::from(pid))
    }

    /// Root, or the user that the daemon runs as.
    pub fn is_operator(&self) -> bool {
        self.uid == 0 || self.uid == Uid::effective().as_raw()
    }

    fn of(stream: &tokio::net::UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let groups = peer_groups(stream).unwrap_or_else(|error| {
            // Kernels before 4.13. The caller is then known by user and primary group alone, which refuses rather than allows.
            tracing::debug!(%error, "the kernel does not tell the supplementary groups of callers");
            Vec::new()
        });
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            groups: groups.into(),
            pid: credentials.pid(),
            hang_up: CancellationToken::new(),
        })
    }
}

/// Who may use the daemon.
#[derive(Debug)]
pub struct Access {
    own_uid: u32,
    lists: RwLock<Lists>,
}

/// Users and groups; `None`: everybody who can open the socket.
type Lists = Option<(HashSet<u32>, HashSet<u32>)>;

impl Access {
    /// Looks the configured names up, once.
    ///
    /// # Errors
    /// [`BindError::Unknown`] if this host has no such user or group.
    pub fn resolve(config: &SocketConfig) -> Result<Self, BindError> {
        let users = user_ids(&config.allowed_users, "socket.allowed_users")?;
        let groups = group_ids(&config.allowed_groups, "socket.allowed_groups")?;
        // Also looked up here, so that checking the configuration finds it missing.
        socket_group(config)?;
        let open = users.is_empty() && groups.is_empty();
        Ok(Self { own_uid: Uid::effective().as_raw(), lists: RwLock::new((!open).then_some((users, groups))) })
    }

    /// From now on those of `other` may. It is asked for each request, so it also holds for connections that are open.
    pub fn replace(&self, other: Self) {
        let lists = other.lists.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.lists.write().unwrap_or_else(PoisonError::into_inner) = lists;
    }

    /// Root and the daemon's own user always are; others if a list names them or a group of theirs, or if there are no lists.
    pub fn allowed(&self, peer: &PeerIdentity) -> bool {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let Some((users, groups)) = lists.as_ref() else {
            return true;
        };
        peer.uid == 0
            || peer.uid == self.own_uid
            || users.contains(&peer.uid)
            || groups.contains(&peer.gid)
            || peer.groups.iter().any(|group| groups.contains(group))
    }
}

/// Users by number.
///
/// # Errors
/// [`BindError::Unknown`] if this host does not know one.
pub fn user_ids(users: &[Principal], key: &'static str) -> Result<HashSet<u32>, BindError> {
    resolve_all(users, key, "user", |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
}

/// Groups by number.
///
/// # Errors
/// As for users.
pub fn group_ids(groups: &[Principal], key: &'static str) -> Result<HashSet<u32>, BindError> {
    resolve_all(groups, key, "group", |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
}

fn resolve_all(
    principals: &[Principal],
    key: &'static str,
    kind: &'static str,
    look_up: impl Fn(&str) -> Result<Option<u32>, Errno>,
) -> Result<HashSet<u32>, BindError> {
    principals
        .iter()
        .map(|principal| match principal {
            Principal::Id(id) => Ok(*id),
            // A number in quotes, or from the environment, where everything is text.
            Principal::Name(name) => name.parse().or_else(|_| {
                let unknown = || BindError::Unknown { key, kind, name: name.clone() };
                look_up(name).ok().flatten().ok_or_else(unknown)
            }),
        })
        .collect()
}

fn socket_group(config: &SocketConfig) -> Result<Option<Gid>, BindError> {
    let Some(name) = &config.group else {
        return Ok(None);
    };
    let principal = [Principal::Name(name.clone())];
    let ids = group_ids(&principal, "socket.group")?;
    Ok(ids.into_iter().next().map(Gid::from_raw))
}

/// Takes the lock beside the socket and writes our process number into it.
fn lock(path: &Path) -> Result<Flock<File>, BindError> {
    let lock_path = with_suffix(path, ".lock");
    let failed = || BindError::io("open the lock file", &lock_path);
    // Not through a symbolic link, which somebody else could have laid in a directory that all may write to.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        // Whoever can open it can lock it and so keep the daemon from starting.
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&lock_path)
        .map_err(failed())?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)
                .and_then(|()| lock.rewind())
                .and_then(|()| writeln!(lock, "{}", std::process::id()))
                .map_err(BindError::io("write the lock file", &lock_path))?;
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid);
            let pid = pid.trim();
            let known = read.is_ok() && !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
            Err(BindError::Held { path: path.to_owned(), pid: known.then(|| pid.to_owned()) })
        }
        Err((_, error)) => Err(BindError::io("lock", &lock_path)(error)),
    }
}

/// What is at `path` may be replaced only if it is a socket that nobody listens on.
fn refuse_to_replace_what_lives(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::io("look at", path)(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(BindError::io("find out whether somebody listens on", path)(error)),
        Ok(_) => Err(BindError::Live { path: path.to_owned() }),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Supplementary groups of the peer when it connected (`SO_PEERGROUPS`, Linux 4.13). Unlike a look-up by user name this knows
/// the groups that a service manager adds to a service, asks no directory server, and is right for containers.
fn peer_groups(stream: &tokio::net::UnixStream) -> io::Result<Vec<u32>> {
    /// From `asm-generic/socket.h`; the libc crate does not have it.
    const SO_PEERGROUPS: libc::c_int = 59;
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
        // SAFETY: the pointer and the length describe `groups`, which outlives the call; the kernel writes at most `bytes` bytes.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        // In both cases the kernel has set the length to what there is.
        let count = bytes as usize / size_of::<libc::gid_t>();
        match Errno::result(result) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err(Errno::ERANGE) if count > groups.len() => groups.resize(count, 0),
            Err(error) => return Err(error.into()),
        }
    }
}

// ---------------------------------------------------------------- what tonic asks of a connection

impl Connected for Connection {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_pending() && self.hung_up.as_mut().poll(cx).is_ready() {
            if let Some(untold) = UNREAD.tell() {
                let PeerIdentity { uid, pid, .. } = self.peer;
                tracing::warn!(uid, pid, untold, "a connection was closed: its caller does not read a long answer");
            }
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let Some(preface) = &mut self.preface else { return polled };
        preface.missing = preface.missing.saturating_sub(buffer.filled().len() - before);
        if preface.missing == 0 {
            self.preface = None;
        } else if polled.is_pending() && preface.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_kind_of_trouble_the_journal_is_told_once_in_a_while_and_how_often_it_was_not() {
        let warned = Warned::new();
        assert_eq!(warned.tell(), Some(0));
        assert_eq!([warned.tell(), warned.tell()], [None; 2]);
        warned.0.lock().unwrap().0 = Instant::now().checked_sub(WARNED_FOR);
        assert_eq!([warned.tell(), warned.tell()], [Some(2), None]);
        warned.0.lock().unwrap().0 = Instant::now().checked_sub(WARNED_FOR);
        assert_eq!(warned.tell(), Some(1));
    }
}
