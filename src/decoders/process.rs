//! A decoder process: `vouchd` started again with [`ARGUMENT`], which reads foreign bytes and nothing else.
//!
//! Called by `vouchd` before anything else happens there, so that neither configuration nor ONNX Runtime is ever in this process. It has one thread, a socket to the daemon,
//! a memory file, and after `sandbox::confine` no way to anything more. It ends with the daemon: when the socket closes, or by the kernel's hand while it is at work.
//! Left out: any word to the journal. What a decoder or its panic has to say may quote the picture.

use std::ffi::CStr;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{MsgFlags, recv, send};

use super::sandbox::{self, SOCKET};
use super::wire::{Answer, Hello, Layout, MAX_MESSAGE_BYTES, PageHead, PictureHead, Question, Refusal, Setup, Step};
use crate::document::barcode::{self, Luma};
use crate::error::exit;
use crate::imaging::decode::{Canvas, DecodeError, DecodeOptions, Decoded, decode, decode_onto};
use crate::imaging::{Image, heic, pdf};
use crate::ops::process;

/// The argument that makes `vouchd` a decoder process.
pub const ARGUMENT: &str = "--decoder-process";

/// Descriptor of the memory file.
const MEMORY: i32 = 1;

/// Shown by `ps` and `/proc`; at most 15 bytes.
const NAME: &CStr = c"vouch-decoder";

/// After so long without a question the heap of the last ones is given back.
const IDLE: Duration = Duration::from_millis(250);

/// Serves the daemon until it goes away.
pub fn run() -> ExitCode {
    match start() {
        Some(mut memory) => serve(&mut memory),
        // Nobody to say it to but whoever has typed the command.
        None => eprintln!("vouchd: {ARGUMENT} is for the daemon's own use"),
    }
    ExitCode::from(exit::UNAVAILABLE)
}

/// Everything until the first question. `None` if there is no daemon at the other end, or the process could not be confined.
fn start() -> Option<Memory> {
    close_other_descriptors();
    let setup: Setup = serde_json::from_slice(receive(&mut [0; MAX_MESSAGE_BYTES])?).ok()?;
    std::panic::set_hook(Box::new(|_| ()));
    let prepared = prepare(&setup);
    let hello: Hello = prepared.as_ref().map(|_| ()).map_err(|refusal| *refusal);
    answer(&hello)?;
    // The daemon has the reason.
    let Ok(memory) = prepared else { std::process::exit(exit::CONFIG.into()) };
    Some(memory)
}

fn prepare(setup: &Setup) -> Result<Memory, Refusal> {
    let failed = |step: Step| move |errno: Errno| Refusal { step, errno: errno as i32 };
    tie_to_daemon().map_err(failed(Step::Tie))?;
    // The first that the kernel ends for want of memory: one file is refused then, where the daemon's end would be every caller's. While the process is still dumpable, since afterwards
    // the file belongs to root. Where it cannot be written, the kernel chooses by size alone.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // As in the daemon: no other process of the same user may look into this one.
    prctl::set_dumpable(false).map_err(failed(Step::Limits))?;
    // A name is a comfort.
    let _ = prctl::set_name(NAME);
    process::keep_memory();
    sandbox::widen_stack()?;
    let memory = Memory::map(setup.layout).map_err(failed(Step::Memory))?;
    let has_heic = warm_up();
    sandbox::confine(setup.memory_bytes, setup.processor_seconds, has_heic)?;
    Ok(memory)
}

/// Ends this process with the daemon and not before: whoever stops the service or presses Ctrl-C means the daemon, which still drains.
fn tie_to_daemon() -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: no handler is installed.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// The daemon marks all its descriptors to be closed here; libraries inside of it may not.
fn close_other_descriptors() {
    const FIRST: u32 = 3;
    // SAFETY: nothing in this process has opened a descriptor yet.
    if unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, 0) } == 0 {
        return;
    }
    // A kernel before 5.9, or a service that does not allow the call.
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in names.into_iter().filter(|descriptor| *descriptor >= FIRST as i32) {
        // SAFETY: as above; the folder's own is closed already.
        unsafe { libc::close(descriptor) };
    }
}

/// Runs what loads or looks something up when it is first used. True if HEIC files can be read.
fn warm_up() -> bool {
    // A JPEG, since libjpeg-turbo looks up the processor; the others hold everything in the program.
    let pixels = turbojpeg::Image {
        pixels: &[128u8; 3][..],
        width: 1,
        pitch: 3,
        height: 1,
        format: turbojpeg::PixelFormat::RGB,
    };
    if let Ok(file) = turbojpeg::compress(pixels, 90, turbojpeg::Subsamp::None) {
        let _ = decode(&file, &DecodeOptions::default());
    }
    heic::warm_up()
}

// ------------------------------------------------------------------------------------------------------------- memory

/// The memory file, mapped. The daemon writes to it before it asks and reads from it when it was answered, never in between; and it alone gives its pages back, since it alone knows that
/// neither is going on.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn map(layout: Layout) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(layout.bytes()).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the descriptor was handed over by the daemon and is open as long as the process.
        let file = unsafe { BorrowedFd::borrow_raw(MEMORY) };
        // SAFETY: the kernel chooses a place that is free, and the file cannot be shortened (the daemon has sealed it).
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), layout })
    }

    /// What came in, so many bytes of it, and the room for what goes out.
    fn parts(&mut self, input_bytes: usize) -> (&[u8], Output<'_>) {
        let Layout { input_bytes: most, output_bytes } = self.layout;
        // SAFETY: both lie within the mapping, beside each other, and are borrowed like it; all of it is initialised (a file's holes are zeros), and the daemon leaves it
        // alone until it has its answer.
        unsafe {
            let input = std::slice::from_raw_parts(self.start.as_ptr(), input_bytes.min(most));
            (input, Output(std::slice::from_raw_parts_mut(self.start.as_ptr().add(most), output_bytes)))
        }
    }
}

/// Room for an answer.
struct Output<'a>(&'a mut [u8]);

impl Output<'_> {
    /// # Panics
    /// If there is less room than that, which ends this process.
    fn put(&mut self, bytes: &[u8]) {
        self.0[..bytes.len()].copy_from_slice(bytes);
    }
}

/// Pixels are decoded where the daemon reads them.
impl Canvas for Output<'_> {
    type Picture = ();

    fn build(
        &mut self,
        width: u32,
        height: u32,
        fill: impl FnOnce(&mut [u8]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        fill(&mut self.0[..width as usize * height as usize * 3])
    }

    fn place(&mut self, image: Image) {
        self.put(&image.rgb);
    }
}

// ---------------------------------------------------------------------------------------------------------- questions

fn serve(memory: &mut Memory) {
    let mut message = [0; MAX_MESSAGE_BYTES];
    loop {
        if !is_asked(PollTimeout::try_from(IDLE).unwrap_or(PollTimeout::MAX)) {
            process::give_back_free_memory();
            is_asked(PollTimeout::NONE);
        }
        let Some(question) = receive(&mut message) else { return };
        let Ok(question) = serde_json::from_slice(question) else { return };
        if answer(&work(question, memory)).is_none() {
            return;
        }
    }
}

/// Waits until there is a question, or the daemon has gone. False if the time is over before.
fn is_asked(timeout: PollTimeout) -> bool {
    // SAFETY: the socket is open as long as the process.
    let socket = unsafe { BorrowedFd::borrow_raw(SOCKET) };
    loop {
        match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            result => return result != Ok(0),
        }
    }
}

/// A message; `None` when there are no more.
fn receive(buffer: &mut [u8; MAX_MESSAGE_BYTES]) -> Option<&[u8]> {
    loop {
        match recv(SOCKET, buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => return None,
            Ok(length) => return buffer.get(..length),
        }
    }
}

fn answer(answer: &impl serde::Serialize) -> Option<()> {
    let bytes = serde_json::to_vec(answer).ok()?;
    let sent = send(SOCKET, &bytes, MsgFlags::MSG_NOSIGNAL).ok()?;
    (sent == bytes.len()).then_some(())
}

fn work(question: Question, memory: &mut Memory) -> Answer {
    // Time is the daemon's business: it ends this process.
    let in_time = || false;
    match question {
        Question::Picture { bytes, options } => {
            let (file, mut output) = memory.parts(bytes);
            Answer::Picture(decode_onto(&mut output, file, &options).map(|decoded| head_of_picture(&decoded)))
        }
        Question::PageCount { bytes, options } => {
            Answer::PageCount(pdf::page_count_here(memory.parts(bytes).0, &options, &in_time))
        }
        Question::Page { bytes, page, options } => {
            let (file, mut output) = memory.parts(bytes);
            let rendered = pdf::render_here(file, page, &options, &in_time);
            Answer::Page(rendered.map(|pdf::RenderedPage { image: Image { width, height, rgb }, dpi, is_scan }| {
                output.put(&rgb);
                PageHead { width, height, dpi, is_scan }
            }))
        }
        Question::Barcodes { width, height, request, budget_ms } => {
            let started = Instant::now();
            let is_over = || started.elapsed() >= Duration::from_millis(budget_ms);
            let (pixels, mut output) = memory.parts(width as usize * height as usize);
            let picture = Luma::new(width, height, pixels.to_vec()).ok_or(barcode::BarcodeError::Decoder);
            let symbols = picture.and_then(|picture| barcode::read(&picture, &request, &is_over));
            Answer::Barcodes(symbols.and_then(|symbols| {
                let text = serde_json::to_vec(&symbols).map_err(|_| barcode::BarcodeError::Decoder)?;
                output.put(&text);
                Ok(text.len())
            }))
        }
    }
}

fn head_of_picture(decoded: &Decoded<()>) -> PictureHead {
    PictureHead {
        source_width: decoded.source_width,
        source_height: decoded.source_height,
        // Exact: the scale is 1, 1/2, 1/4 or 1/8.
        reduction: (1.0 / decoded.scale) as u32,
        format: decoded.format,
        orientation: decoded.orientation,
    }
}
