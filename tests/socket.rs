//! The real `vouchd` on real sockets: lock, permissions, peers, connections, drain, socket activation.

mod common;

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use common::{channel_over, connect_as};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, getgid};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use vouch::api::proto::ReloadRequest;
use vouch::api::proto::administration_client::AdministrationClient;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn command(socket: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouchd"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VOUCH_")) {
        command.env_remove(name);
    }
    command.env("VOUCH_SOCKET", socket).envs(variables.iter().copied()).stderr(Stdio::piped());
    command
}

/// A running daemon; killed when dropped.
struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    fn start(socket: &Path, variables: &[(&str, &str)]) -> Self {
        Self::of(command(socket, variables).spawn().unwrap(), socket)
    }

    fn of(child: Child, socket: &Path) -> Self {
        let mut daemon = Self { child, socket: socket.to_owned() };
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("vouchd ended with {status}: {}", daemon.log());
            }
            assert!(Instant::now() < until, "vouchd does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "vouchd does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has written; to be asked once it has ended.
    fn log(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    async fn health(&self) -> Result<ServingStatus, tonic::Status> {
        health(UnixStream::connect(&self.socket).unwrap()).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn health(stream: UnixStream) -> Result<ServingStatus, tonic::Status> {
    let channel = channel_over(stream).await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let request = HealthCheckRequest { service: String::new() };
    let response: HealthCheckResponse = HealthClient::new(channel).check(request).await?.into_inner();
    Ok(response.status())
}

/// A directory that everybody may look into, so that only the socket's own permissions count.
fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = directory.path().join("run/v.sock");
    (directory, socket)
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_served_and_reflection_knows_the_contract() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let (_directory, socket) = directory();
    let daemon = Daemon::start(&socket, &[]);
    assert_eq!(daemon.health().await.unwrap(), ServingStatus::Serving);

    let mut client = ServerReflectionClient::new(channel_over(UnixStream::connect(&socket).unwrap()).await.unwrap());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("vouch.v1.Verification".into())),
    };
    let answer = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner().message().await;
    let answer = answer.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mode_group_and_directory_are_as_configured() {
    let (_directory, socket) = directory();
    // Root may give files to any group; others only to their own.
    let group = if Uid::effective().is_root() { 12_345 } else { getgid().as_raw() };
    let variables = [("VOUCH_SOCKET__MODE", "0620"), ("VOUCH_SOCKET__GROUP", &*group.to_string())];
    let _daemon = Daemon::start(&socket, &variables);
    let found = fs::metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o620, group));
    let parent = fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!((parent.mode() & 0o7777, parent.gid()), (0o750, group));
    let names: Vec<_> =
        fs::read_dir(socket.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "socket and lock file alone, but there are {names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_is_told_of_the_first_and_leaves_it_alone() {
    let (_directory, socket) = directory();
    let first = Daemon::start(&socket, &[]);
    let inode = fs::metadata(&socket).unwrap().ino();
    let output = command(&socket, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    let text = stderr(&output);
    let last = text.lines().last().unwrap();
    assert!(last.contains(&format!("process {}", first.pid())) && last.contains(socket.to_str().unwrap()), "{text}");
    assert_eq!(fs::metadata(&socket).unwrap().ino(), inode);
    assert_eq!(first.health().await.unwrap(), ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_left_by_a_killed_daemon_is_replaced() {
    let (_directory, socket) = directory();
    let mut first = Daemon::start(&socket, &[]);
    first.signal(Signal::SIGKILL);
    first.wait();
    let left = fs::metadata(&socket).expect("a killed daemon leaves its socket");
    let second = Daemon::start(&socket, &[]);
    assert_ne!(fs::metadata(&socket).unwrap().ino(), left.ino());
    assert_eq!(second.health().await.unwrap(), ServingStatus::Serving);
}

#[test]
fn what_is_not_a_stale_socket_is_never_replaced() {
    let (_directory, socket) = directory();
    fs::create_dir(socket.parent().unwrap()).unwrap();
    fs::write(&socket, "precious").unwrap();
    let output = command(&socket, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");

    fs::remove_file(&socket).unwrap();
    let other_program = UnixListener::bind(&socket).unwrap();
    let output = command(&socket, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    // The daemon's own probe is the first connection.
    other_program.accept().unwrap();
    let _mine = UnixStream::connect(&socket).unwrap();
    other_program.accept().unwrap();
}

#[test]
fn a_lock_file_that_is_a_symbolic_link_is_not_followed() {
    let (directory, socket) = directory();
    fs::create_dir(socket.parent().unwrap()).unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, socket.with_extension("sock.lock")).unwrap();
    let output = command(&socket, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_and_sigint_drain_end_with_0_and_remove_the_socket() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (_directory, socket) = directory();
        let mut daemon = Daemon::start(&socket, &[]);
        // A connection that does nothing must not hold up the drain.
        let idle = channel_over(UnixStream::connect(&socket).unwrap()).await.unwrap();
        let asked = Instant::now();
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert!(!socket.exists());
        drop(idle);
        for line in daemon.log().lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("not on a terminal, each line is JSON");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_watcher_hears_not_serving_and_does_not_hold_up_the_drain() {
    let (_directory, socket) = directory();
    let mut daemon = Daemon::start(&socket, &[]);
    let mut client = HealthClient::new(channel_over(UnixStream::connect(&socket).unwrap()).await.unwrap());
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let asked = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none(), "the stream ends well");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_request_is_answered_during_the_drain_while_new_callers_are_refused() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

    let (_directory, socket) = directory();
    let mut daemon = Daemon::start(&socket, &[]);
    let channel = channel_over(UnixStream::connect(&socket).unwrap()).await.unwrap();
    let (questions, receiver) = tokio::sync::mpsc::channel(1);
    let questions_of_the_stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let question = || ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    questions.send(question()).await.unwrap();
    let mut answers = client.server_reflection_info(questions_of_the_stream).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();

    daemon.signal(Signal::SIGTERM);
    let until = Instant::now() + PATIENCE;
    while UnixStream::connect(&socket).is_ok() {
        assert!(Instant::now() < until, "a draining daemon still lets callers connect");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(daemon.child.try_wait().unwrap().is_none(), "it waits for the running request");
    questions.send(question()).await.unwrap();
    answers.message().await.unwrap().expect("the running request is still answered");
    drop(questions);
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(daemon.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_never_ends_is_cut_off_after_drain_seconds_or_by_a_second_signal() {
    for (drain_seconds, second_signal) in [("1", false), ("600", true)] {
        let (_directory, socket) = directory();
        let mut daemon = Daemon::start(&socket, &[("VOUCH_DRAIN_SECONDS", drain_seconds)]);
        // Connected, but silent: it never answers the server's goodbye.
        let silent = UnixStream::connect(&socket).unwrap();
        silent.set_nonblocking(true).unwrap();
        // Seen as open once a later connection is served.
        daemon.health().await.unwrap();
        daemon.signal(Signal::SIGTERM);
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_ok() {
            assert!(Instant::now() < until, "a draining daemon still lets callers connect");
            std::thread::sleep(Duration::from_millis(5));
        }
        if second_signal {
            daemon.signal(Signal::SIGTERM);
        }
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(!socket.exists());
        let log = daemon.log();
        assert!(log.contains("stopped"), "{log}");
        drop(silent);
    }
}

#[test]
fn a_socket_that_somebody_else_has_put_in_place_is_not_removed_at_the_end() {
    let (_directory, socket) = directory();
    let mut daemon = Daemon::start(&socket, &[]);
    fs::remove_file(&socket).unwrap();
    let _other_program = UnixListener::bind(&socket).unwrap();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(UnixStream::connect(&socket).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_closed_and_a_place_given_back_is_free() {
    let (_directory, socket) = directory();
    let _daemon = Daemon::start(&socket, &[("VOUCH_LIMITS__MAX_CONNECTIONS", "2")]);
    let keep = || async {
        let channel = channel_over(UnixStream::connect(&socket).unwrap()).await;
        let channel = channel.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let request = HealthCheckRequest { service: String::new() };
        HealthClient::new(channel.clone()).check(request).await?;
        Ok(channel)
    };
    // Who asks is the operator, who may have four more. The connection that waited for the daemon may still be closing.
    let mut kept = Vec::new();
    for _ in 0..6 {
        kept.push(retry(&keep).await);
    }
    // On the bare socket, since a gRPC client says different things by the moment at which it meets the closed connection.
    let mut another = UnixStream::connect(&socket).unwrap();
    another.set_read_timeout(Some(PATIENCE)).unwrap();
    match another.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("the seventh connection is not closed: {other:?}"),
    }
    HealthClient::new(kept[5].clone()).check(HealthCheckRequest { service: String::new() }).await.unwrap();
    drop(kept.pop());
    retry(&keep).await;
}

async fn retry<T, F: Future<Output = Result<T, tonic::Status>>>(attempt: &impl Fn() -> F) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(status) => assert!(Instant::now() < until, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// ---------------------------------------------------------------- who is at the other end

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn only_listed_users_and_members_of_listed_groups_are_answered() {
    let (_directory, socket) = directory();
    let variables = [
        ("VOUCH_SOCKET__MODE", "0666"),
        ("VOUCH_SOCKET__ALLOWED_USERS", "12001,12002"),
        ("VOUCH_SOCKET__ALLOWED_GROUPS", "23001"),
    ];
    let mut daemon = Daemon::start(&socket, &variables);
    for (uid, gid, groups) in [
        (12_001, 65_534, &[][..]),
        (12_002, 65_534, &[]),
        (65_534, 23_001, &[]),
        (65_534, 65_534, &[1, 23_001]),
        (0, 0, &[]),
    ] {
        let stream = connect_as(&socket, uid, gid, groups).unwrap();
        assert_eq!(health(stream).await.unwrap(), ServingStatus::Serving, "uid {uid} gid {gid} groups {groups:?}");
    }
    for (uid, gid, groups) in [(65_534, 65_534, &[][..]), (23_001, 12_001, &[]), (12_003, 65_534, &[1, 2, 12_001])] {
        let refused = health(connect_as(&socket, uid, gid, groups).unwrap()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "uid {uid} gid {gid} groups {groups:?}");
    }
    assert_eq!(daemon.health().await.unwrap(), ServingStatus::Serving);
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    assert!(daemon.log().contains("\"uid\":65534"), "the journal tells who was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn a_reload_is_for_the_operator_and_its_list_holds_for_open_connections() {
    let (directory, socket) = directory();
    let file = directory.path().join("vouch.toml");
    fs::write(&file, "[socket]\nmode = '0666'\nallowed_users = [12001]\n").unwrap();
    let daemon = Daemon::start(&socket, &[("VOUCH_CONFIG", file.to_str().unwrap())]);
    let caller = channel_over(connect_as(&socket, 12_001, 65_534, &[]).unwrap()).await.unwrap();
    let refused = AdministrationClient::new(caller.clone()).reload(ReloadRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let ask = async || HealthClient::new(caller.clone()).check(HealthCheckRequest::default()).await;
    assert!(ask().await.is_ok());

    fs::write(&file, "[socket]\nmode = '0666'\nallowed_users = [12002]\n").unwrap();
    let operator = channel_over(UnixStream::connect(&daemon.socket).unwrap()).await.unwrap();
    let done = AdministrationClient::new(operator).reload(ReloadRequest {}).await.unwrap().into_inner();
    assert_eq!(done.applied, ["socket.allowed_users"]);
    assert_eq!(ask().await.unwrap_err().code(), Code::PermissionDenied);
}

/// More supplementary groups than the first buffer holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn membership_is_found_among_many_groups() {
    let (_directory, socket) = directory();
    let _daemon = Daemon::start(&socket, &[("VOUCH_SOCKET__MODE", "0666"), ("VOUCH_SOCKET__ALLOWED_GROUPS", "30299")]);
    let groups: &'static [u32] = (30_000..30_300).collect::<Vec<u32>>().leak();
    let stream = connect_as(&socket, 65_534, 65_534, groups).unwrap();
    assert_eq!(health(stream).await.unwrap(), ServingStatus::Serving);
    let stream = connect_as(&socket, 65_534, 65_534, &groups[..299]).unwrap();
    assert_eq!(health(stream).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, to connect as another user"]
async fn refused_callers_cannot_take_the_places_of_others() {
    let (_directory, socket) = directory();
    let variables = [
        ("VOUCH_SOCKET__MODE", "0666"),
        ("VOUCH_SOCKET__ALLOWED_USERS", "12001"),
        ("VOUCH_LIMITS__MAX_CONNECTIONS", "1"),
    ];
    let daemon = Daemon::start(&socket, &variables);
    let _crowd: Vec<_> = (0..40).map(|_| connect_as(&socket, 65_534, 65_534, &[]).unwrap()).collect();
    let answer = retry(&|| daemon.health()).await;
    assert_eq!(answer, ServingStatus::Serving);
}

#[test]
#[ignore = "needs root, to connect as another user"]
fn the_mode_keeps_others_from_connecting_at_all() {
    let (directory, _) = directory();
    // An existing directory that everybody may enter: the socket's mode alone decides.
    let socket = directory.path().join("v.sock");
    let _daemon = Daemon::start(&socket, &[("VOUCH_SOCKET__GROUP", "23001")]);
    let refused = connect_as(&socket, 65_534, 65_534, &[]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    connect_as(&socket, 65_534, 65_534, &[23_001]).unwrap();
}

/// So that the packaged service needs no `socket.group`; see `systemd/vouch.tmpfiles.conf`.
#[test]
#[ignore = "needs root, to connect as another user"]
fn a_set_group_id_directory_gives_the_socket_its_group() {
    let (_directory, socket) = directory();
    let parent = socket.parent().unwrap();
    fs::create_dir(parent).unwrap();
    std::os::unix::fs::chown(parent, None, Some(23_001)).unwrap();
    fs::set_permissions(parent, Permissions::from_mode(0o2750)).unwrap();
    let _daemon = Daemon::start(&socket, &[]);
    let found = fs::metadata(&socket).unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, 23_001));
    connect_as(&socket, 65_534, 65_534, &[23_001]).unwrap();
    connect_as(&socket, 65_534, 65_534, &[]).unwrap_err();
}

// ---------------------------------------------------------------- the service manager

/// A service manager's end: the socket that it listens on, and what it hears next.
fn manager(directory: &Path) -> (PathBuf, impl FnMut() -> String) {
    let notify = directory.join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = move || {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    (notify, hear)
}

#[test]
fn the_service_manager_hears_ready_when_the_socket_is_there_and_stopping() {
    let (directory, socket) = directory();
    let (notify, mut hear) = manager(directory.path());
    let child = command(&socket, &[("NOTIFY_SOCKET", notify.to_str().unwrap())]).spawn().unwrap();
    assert!(hear().starts_with("READY=1\n"));
    UnixStream::connect(&socket).expect("ready means that callers can connect");
    let mut daemon = Daemon::of(child, &socket);
    daemon.signal(Signal::SIGTERM);
    assert!(hear().starts_with("STOPPING=1\n"));
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn the_watchdog_is_fed_and_a_reload_is_told() {
    let (directory, socket) = directory();
    let (notify, mut hear) = manager(directory.path());
    let watchdog = [("NOTIFY_SOCKET", notify.to_str().unwrap()), ("WATCHDOG_USEC", "900000")];
    let mut daemon = Daemon::of(command(&socket, &watchdog).spawn().unwrap(), &socket);
    let mut told =
        |wanted: &str| std::iter::repeat_with(&mut hear).find(|message| message.starts_with(wanted)).unwrap();
    told("READY=1\n");
    told("WATCHDOG=1\n");
    let began = Instant::now();
    assert_eq!(told("WATCHDOG=1\n"), "WATCHDOG=1\nSTATUS=ready: 0 running, 0 waiting, 0 requests so far\n");
    told("WATCHDOG=1\n");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?} for two thirds of a period");
    daemon.signal(Signal::SIGHUP);
    assert!(told("RELOADING=1\n").contains("MONOTONIC_USEC="));
    told("READY=1\n");
    daemon.signal(Signal::SIGTERM);
    told("STOPPING=1\n");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_passed_by_the_service_manager_is_served_and_left_in_place() {
    let (directory, unused) = directory();
    let socket = directory.path().join("activated.sock");
    let manager = UnixListener::bind(&socket).unwrap();
    let descriptor = manager.as_raw_fd();
    // LISTEN_PID must be the daemon's own number, which the shell has before it becomes the daemon.
    let mut shell = Command::new("sh");
    shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\""]).arg(env!("CARGO_BIN_EXE_vouchd"));
    shell.env("VOUCH_SOCKET", &unused).stderr(Stdio::piped());
    // SAFETY: dup2 may be called between fork and exec.
    unsafe {
        shell.pre_exec(move || if libc::dup2(descriptor, 3) == 3 { Ok(()) } else { Err(io::Error::last_os_error()) });
    }
    let mut daemon = Daemon::of(shell.spawn().unwrap(), &socket);
    assert_eq!(daemon.health().await.unwrap(), ServingStatus::Serving);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(socket.exists() && !unused.exists());
    // Still listened on by the manager: the next caller waits for the next daemon.
    UnixStream::connect(&socket).unwrap();
}

#[test]
fn as_many_files_may_be_open_as_the_host_allows() {
    let (_directory, socket) = directory();
    let mut command = command(&socket, &[("VOUCH_LIMITS__MAX_CONNECTIONS", "2000")]);
    // SAFETY: setrlimit(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1500 };
            let set = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
            if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
    let mut daemon = Daemon::of(command.spawn().unwrap(), &socket);
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let open = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(open.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["1500", "1500"]);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let log = daemon.log();
    assert!(log.contains("raise LimitNOFILE="), "{log}");
}

#[test]
fn core_dumps_are_off_unless_asked_for() {
    let (_directory, socket) = directory();
    let core_limit = |daemon: &Daemon| {
        let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
        limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned()
    };
    let daemon = Daemon::start(&socket, &[]);
    let fields: Vec<String> = core_limit(&daemon).split_whitespace().map(str::to_owned).collect();
    assert_eq!(&fields[4..6], ["0", "0"], "{fields:?}");
    drop(daemon);
    let mut allowed = command(&socket, &[]);
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    let daemon = Daemon::of(allowed.arg("--allow-core-dumps").spawn().unwrap(), &socket);
    assert!(own.contains(&core_limit(&daemon)), "the limit is inherited");
}
