//! The real daemon with real models on a temporary socket, and the sample photographs, for the tests that need both.
//!
//! `make test` fetches the model pack and the photographs first; without them these tests fail and say so.

#![allow(dead_code, reason = "each test target uses a part of it")]

pub mod decoders;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use image::{ImageFormat, RgbImage};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use vouch::api::proto::verification_client::VerificationClient;
use vouch::api::proto::{CheckRequest, Media, MediaKind, VerifyRequest};
use vouch::imaging::Image;

pub type Client = VerificationClient<Channel>;

/// A debug build on a busy machine warms up slowly; this long means that it never will.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Bytes of a sample photograph: `portrait.jpg` and `selfie.jpg` show one person, `other-person.jpg` another.
pub fn photo(name: &str) -> Bytes {
    let path = root().join(".cache/photos").join(name);
    fs::read(&path).unwrap_or_else(|_| panic!("{} is missing; run `make sample-photos`", path.display())).into()
}

/// A request to match the selfie with the portrait.
pub fn verification() -> VerifyRequest {
    let media = [(MediaKind::Selfie, "selfie.jpg"), (MediaKind::Portrait, "portrait.jpg")];
    VerifyRequest {
        media: media.map(|(kind, file)| Media { kind: kind.into(), data: photo(file) }).into(),
        checks: vec![CheckRequest { name: "face_match".into(), ..CheckRequest::default() }],
        ..VerifyRequest::default()
    }
}

/// A picture as a PNG file.
pub fn png(image: &Image) -> Bytes {
    let image = RgbImage::from_raw(image.width, image.height, image.rgb.to_vec()).unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner().into()
}

/// A PDF file with a picture on each page, unpacked.
pub fn pdf(pages: &[&Image], trailer: &str) -> Bytes {
    let mut objects = vec![b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(), Vec::new()];
    let mut kids = String::new();
    for image in pages {
        let [width, height] = [image.width, image.height];
        let first = objects.len() + 1;
        kids += &format!("{first} 0 R ");
        objects.push(
            format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents {} 0 R \
                 /Resources << /XObject << /P {} 0 R >> >> >>",
                first + 1,
                first + 2
            )
            .into_bytes(),
        );
        let drawing = format!("{width} 0 0 {height} 0 0 cm /P Do");
        objects.push(format!("<< /Length {} >>\nstream\n{drawing}\nendstream", drawing.len()).into_bytes());
        let mut picture = format!(
            "<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB \
             /BitsPerComponent 8 /Length {} >>\nstream\n",
            image.rgb.len()
        )
        .into_bytes();
        picture.extend_from_slice(&image.rgb);
        picture.extend(b"\nendstream");
        objects.push(picture);
    }
    objects[1] = format!("<< /Type /Pages /Kids [{kids}] /Count {} >>", pages.len()).into_bytes();
    let mut file = b"%PDF-1.4\n".to_vec();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(file.len());
        file.extend(format!("{} 0 obj\n", index + 1).into_bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let table = file.len();
    file.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    file.extend(places.iter().flat_map(|place| format!("{place:010} 00000 n \n").into_bytes()));
    let end = format!("trailer\n<< /Size {} /Root 1 0 R {trailer} >>\nstartxref\n{table}\n%%EOF", objects.len() + 1);
    file.extend(end.into_bytes());
    file.into()
}

/// The command of a daemon on a socket, without what the environment of the test says to daemons.
pub fn vouchd(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouchd"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VOUCH_")) {
        command.env_remove(name);
    }
    command.env("VOUCH_SOCKET", socket).current_dir(root()).stdin(Stdio::null());
    // In a debug build on a busy machine the search for barcodes in a picture without any may take longer than the default.
    command.env("VOUCH_DECODERS__DEADLINE_MS", "60000");
    command
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    pub child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts with environment variables and waits until it accepts connections, which it does once it is warm.
    pub fn start_with(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vouch.sock");
        let child = vouchd(&socket).envs(variables.iter().copied()).spawn().unwrap();
        let mut daemon = Self { child, folder };
        let until = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let ended = daemon.child.try_wait().unwrap();
            assert_eq!(ended, None, "vouchd ended while starting; is the model pack there (`make pack`)?");
            assert!(Instant::now() < until, "vouchd does not become ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("vouch.sock")
    }

    pub fn terminate(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
    }

    pub async fn client(&self) -> Client {
        client_of(&self.socket()).await
    }
}

pub async fn client_of(socket: &Path) -> Client {
    try_client_of(socket).await.unwrap()
}

/// For a daemon that may be away.
pub async fn try_client_of(socket: &Path) -> Result<Client, tonic::transport::Error> {
    Ok(VerificationClient::new(try_channel_of(socket).await?).max_encoding_message_size(64 << 20))
}

/// One whose transport takes so many bytes of a stream's answers before somebody reads them.
pub async fn client_with_window(socket: &Path, bytes: u32) -> Client {
    let endpoint = endpoint().initial_stream_window_size(Some(bytes));
    VerificationClient::new(try_channel(endpoint, socket).await.unwrap())
}

pub async fn channel_of(socket: &Path) -> Channel {
    try_channel_of(socket).await.unwrap()
}

async fn try_channel_of(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    try_channel(endpoint(), socket).await
}

/// The address is not used: the connector knows the socket.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://vouch.local")
}

async fn try_channel(endpoint: Endpoint, socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connect).await
}

/// A connection that is there already, and the only one: the first attempt takes it.
///
/// # Errors
/// If the daemon has closed it.
pub async fn channel_over(stream: std::os::unix::net::UnixStream) -> Result<Channel, tonic::transport::Error> {
    stream.set_nonblocking(true).unwrap();
    let mut stream = Some(UnixStream::from_std(stream).unwrap());
    let connect = move |_| {
        let stream = stream.take().map(TokioIo::new).ok_or(io::Error::from(io::ErrorKind::NotConnected));
        async move { stream }
    };
    let connect = tower::service_fn(connect);
    Endpoint::from_static("http://vouchd").connect_with_connector(connect).await
}

/// Connects as somebody else. The raw system calls change this one thread, whose credentials the kernel then records as the
/// peer's; the wrappers of the C library would change the whole process.
pub fn connect_as(
    socket: &Path,
    uid: u32,
    gid: u32,
    groups: &'static [u32],
) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = socket.to_owned();
    let thread = std::thread::spawn(move || {
        let check = |result: libc::c_long| {
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: plain system calls; the pointer and the count describe `groups`.
        unsafe {
            check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
            check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        }
        std::os::unix::net::UnixStream::connect(socket)
    });
    thread.join().unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
