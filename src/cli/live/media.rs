//! Where the frames come from: a folder of pictures, a video, or a camera.
//!
//! Called by `live`. A thread reads ahead by a few frames and no more, however long the video is. Pictures of a folder are sent as they are;
//! videos and cameras are read through [`Ffmpeg`](super::ffmpeg::Ffmpeg) as JPEG pictures. Leaves out the pace at which frames are sent.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::ffmpeg::{self, Ffmpeg, Killer, Pipe};
use super::mjpeg::Splitter;
use crate::cli::connect::{self, Failure, MAX_MESSAGE_BYTES};

/// Frames read ahead. More would only cost memory: decoding is faster than what follows.
const READ_AHEAD: usize = 2;

/// Bytes read from a pipe at once; what a pipe of Linux holds.
const CHUNK_BYTES: usize = 64 << 10;

/// How long ffmpeg may take to end after its last frame.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Names of pictures that the daemon reads; other files of a folder are passed over.
const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "heic", "heif"];

/// Capture rate of a camera, and of a folder when none is given.
pub const DEFAULT_FPS: f64 = 30.0;

/// Side lengths in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

/// What a camera is asked for when nothing else is said: nearly all have it, and a face at arm's length is 150 px wide in it.
const CAMERA_SIZE: Size = Size { width: 640, height: 480 };

/// What is to be read.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The pictures of a folder, sorted by name.
    Folder { path: PathBuf, fps: f64, start_s: f64, speed: f64 },
    /// Any file that ffmpeg reads. `size` bounds the frames, which keep their shape.
    Video { path: PathBuf, size: Option<Size>, start_s: f64, speed: f64 },
    /// A device of Video4Linux.
    Camera { path: PathBuf, size: Option<Size> },
}

/// One picture and when it was taken, in microseconds since the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Counted from 0.
    pub index: u32,
    pub captured_us: u64,
    pub image: Bytes,
}

/// A stream of frames. Dropping it ends the thread and the child process behind it.
#[derive(Debug)]
pub struct Source {
    frames: mpsc::Receiver<Result<Frame, Failure>>,
    running: Arc<Mutex<Running>>,
    reader: Option<JoinHandle<()>>,
}

/// What has to end with the source.
#[derive(Debug, Default)]
struct Running {
    stopped: bool,
    child: Option<Killer>,
}

impl Source {
    /// Opens the input and begins to read.
    ///
    /// # Errors
    /// [`Failure::File`] if the file, folder or device cannot be opened; [`Failure::BadInput`] if a folder holds no picture, or if ffmpeg is
    /// needed and not installed.
    pub fn open(input: Input) -> Result<Self, Failure> {
        let pictures = match &input {
            Input::Folder { path, fps, start_s, .. } => {
                // Whole pictures; a start that is beyond any folder leaves none.
                pictures_in(path)?.into_iter().skip((start_s * fps).round() as usize).collect()
            }
            Input::Video { path, .. } | Input::Camera { path, .. } => {
                File::open(path).map_err(|error| unreadable(path, &error))?;
                ffmpeg::find()?;
                Vec::new()
            }
        };
        let (sender, frames) = mpsc::channel(READ_AHEAD);
        let running = Arc::new(Mutex::new(Running::default()));
        let reading = Reading { sender, running: Arc::clone(&running), next_index: 0 };
        let reader = std::thread::spawn(move || reading.read(&input, pictures));
        Ok(Self { frames, running, reader: Some(reader) })
    }

    /// The next frame, or nothing after the last. May be cancelled without losing one.
    ///
    /// # Errors
    /// [`Failure::File`] or [`Failure::BadInput`] naming the file that cannot be read.
    pub async fn next(&mut self) -> Option<Result<Frame, Failure>> {
        self.frames.recv().await
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.frames.close();
        let child = {
            let mut running = lock(&self.running);
            running.stopped = true;
            running.child.take()
        };
        if let Some(child) = child {
            // The reader finds the end of its pipe.
            child.kill();
        }
        if let Some(reader) = self.reader.take() {
            // A panic of the reader has already been printed.
            let _ = reader.join();
        }
    }
}

/// Nothing that panics is done under the lock, so its state is whole.
fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody wants further frames.
struct Stopped;

/// The thread's side of a source.
struct Reading {
    sender: mpsc::Sender<Result<Frame, Failure>>,
    running: Arc<Mutex<Running>>,
    next_index: u32,
}

impl Reading {
    fn read(mut self, input: &Input, pictures: Vec<PathBuf>) {
        // What is left unsaid when the source is dropped, nobody asks for.
        let _ = match input {
            Input::Folder { fps, speed, .. } => self.read_pictures(&pictures, fps * speed),
            Input::Video { path, speed, .. } => self.read_video(input, path, *speed),
            Input::Camera { path, .. } => self.read_camera(input, path),
        };
    }

    fn read_pictures(&mut self, pictures: &[PathBuf], fps: f64) -> Result<(), Stopped> {
        for (place, path) in pictures.iter().enumerate() {
            match connect::read_picture(path) {
                Ok(image) => self.send((place as f64 * 1e6 / fps) as u64, image)?,
                Err(failure) => return self.fail(failure),
            }
        }
        Ok(())
    }

    fn read_video(&mut self, input: &Input, path: &Path, speed: f64) -> Result<(), Stopped> {
        let mut clock = VideoClock::new(speed);
        // A frame's time is written before the frame, so it is there when the frame is.
        let (times, time) = std_mpsc::channel();
        let take = move |line: &str| match parse_time(line) {
            Line::Time(pts_us) => {
                // The reader may have stopped.
                let _ = times.send(pts_us);
                true
            }
            Line::Mark => true,
            Line::Words => false,
        };
        let stamp = move || clock.tell(time.recv().ok().flatten());
        match self.read_pipe(path, &arguments(input, Coding::Encoded), take, stamp)? {
            Ending { frames: 0, words } => self.fail(unusable(path, &words)),
            Ending { .. } => Ok(()),
        }
    }

    /// A camera has no end but a failure. The first try copies its own JPEG pictures; a camera that has none is read in its own format.
    fn read_camera(&mut self, input: &Input, path: &Path) -> Result<(), Stopped> {
        let mut ending = Ending { frames: 0, words: String::new() };
        for coding in [Coding::Copied, Coding::Encoded] {
            let mut begin = None;
            let stamp = move || {
                let now = Instant::now();
                // 2^64 µs are longer than any session.
                now.duration_since(*begin.get_or_insert(now)).as_micros() as u64
            };
            ending = self.read_pipe(path, &arguments(input, coding), |_| false, stamp)?;
            if ending.frames > 0 {
                break;
            }
        }
        self.fail(unusable(path, &ending.words))
    }

    /// Runs ffmpeg and sends its pictures, each with the time that `stamp` tells when it is complete.
    fn read_pipe(
        &mut self,
        path: &Path,
        arguments: &[OsString],
        take: impl FnMut(&str) -> bool + Send + 'static,
        mut stamp: impl FnMut() -> u64,
    ) -> Result<Ending, Stopped> {
        let child = match Ffmpeg::start(arguments, Pipe::Reading, take) {
            Ok(child) => child,
            Err(failure) => return self.fail(failure).and(Err(Stopped)),
        };
        let output = child.take_output();
        {
            let mut running = lock(&self.running);
            if running.stopped {
                return Err(Stopped);
            }
            running.child = Some(child.killer());
        }
        let (mut splitter, mut chunk, mut frames) = (Splitter::default(), vec![0; CHUNK_BYTES], 0);
        if let Some(mut output) = output {
            while let Ok(read @ 1..) = output.read(&mut chunk) {
                splitter.push(&chunk[..read]);
                loop {
                    match splitter.next() {
                        Ok(Some(image)) => self.send(stamp(), image)?,
                        Ok(None) => break,
                        Err(_) => {
                            let mib = MAX_MESSAGE_BYTES >> 20;
                            let words =
                                format!("a frame is larger than the {mib} MiB that the daemon takes; see --size");
                            return self.fail(unusable(path, &words)).and(Err(Stopped));
                        }
                    }
                    frames += 1;
                }
            }
        }
        let words = child.end(END_PATIENCE).err().unwrap_or_else(|| "it holds no frame".into());
        Ok(Ending { frames, words })
    }

    fn send(&mut self, captured_us: u64, image: Bytes) -> Result<(), Stopped> {
        let frame = Frame { index: self.next_index, captured_us, image };
        self.next_index += 1;
        self.sender.blocking_send(Ok(frame)).map_err(|_| Stopped)
    }

    fn fail(&self, failure: Failure) -> Result<(), Stopped> {
        self.sender.blocking_send(Err(failure)).map_err(|_| Stopped)
    }
}

/// How a run of ffmpeg ended.
struct Ending {
    frames: u64,
    words: String,
}

/// Whether the pictures of a camera are taken as they are.
#[derive(Clone, Copy, PartialEq)]
enum Coding {
    Copied,
    Encoded,
}

/// The arguments with which ffmpeg writes the input as JPEG pictures to its standard output.
fn arguments(input: &Input, coding: Coding) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    let (path, fit) = match input {
        Input::Folder { path, .. } => (path.clone().into_os_string(), None),
        Input::Video { path, size, start_s, .. } => {
            if *start_s > 0.0 {
                add(&["-ss", &start_s.to_string()]);
            }
            // A playlist may name other files, but nothing on the network.
            add(&["-protocol_whitelist", "file"]);
            let mut url = OsString::from("file:");
            url.push(path);
            (url, *size)
        }
        Input::Camera { path, size } => {
            let size = size.unwrap_or(CAMERA_SIZE);
            add(&["-fflags", "nobuffer", "-f", "v4l2"]);
            if coding == Coding::Copied {
                add(&["-input_format", "mjpeg"]);
            }
            add(&["-framerate", &DEFAULT_FPS.to_string(), "-video_size", &format!("{}x{}", size.width, size.height)]);
            (path.clone().into_os_string(), None)
        }
    };
    arguments.push("-i".into());
    arguments.push(path);
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-map", "0:v:0"]);
    if coding == Coding::Copied {
        add(&["-c:v", "copy"]);
    } else {
        // 2 is the best quality: artefacts of compression must not be what the daemon judges.
        add(&["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"]);
    }
    if matches!(input, Input::Video { .. }) {
        // Each frame once, as it was taken: none repeated or left out to make the rate even.
        add(&["-fps_mode", "passthrough", "-vf", &filters(fit)]);
    }
    add(&["-f", "image2pipe", "-"]);
    arguments
}

/// The filters of a video. The time base is made microseconds, and each frame gets a mark, which is the condition for its time to be
/// written to standard error. FFmpeg turns the frames of a video that was taken upright before these filters.
fn filters(fit: Option<Size>) -> String {
    let fit = fit.map_or_else(String::new, |Size { width, height }| {
        format!("scale={width}:{height}:force_original_aspect_ratio=decrease,")
    });
    let (mark, print) = (format!("mode=add:key={MARK}:value=1"), format!("mode=print:key={MARK}:direct=1"));
    format!("{fit}settb=1/1000000,metadata={mark},metadata={print}:file=pipe\\\\:2")
}

/// A key that no video carries by chance.
const MARK: &str = "vouch_frame";

/// A line of ffmpeg's standard error.
#[derive(Debug, PartialEq)]
enum Line {
    /// The time of the next frame in microseconds, if it has one.
    Time(Option<i64>),
    /// The mark, which follows each time.
    Mark,
    /// Anything else.
    Words,
}

/// Reads `frame:12   pts:480000  pts_time:0.48`.
fn parse_time(line: &str) -> Line {
    if line.strip_prefix(MARK).is_some_and(|rest| rest.starts_with('=')) {
        return Line::Mark;
    }
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next().and_then(|word| word.strip_prefix("pts:"))) {
        (Some(frame), Some(pts)) if frame.starts_with("frame:") => Line::Time(pts.parse().ok()),
        _ => Line::Words,
    }
}

/// Turns the times of a video's frames into capture times, which begin at 0 and always grow.
#[derive(Debug)]
struct VideoClock {
    speed: f64,
    first_us: Option<i64>,
    /// In the video's own time, since its first frame.
    last_us: Option<i64>,
}

impl VideoClock {
    /// Between frames of which one has no time.
    const STEP_US: i64 = (1e6 / DEFAULT_FPS) as i64;

    fn new(speed: f64) -> Self {
        Self { speed, first_us: None, last_us: None }
    }

    fn tell(&mut self, pts_us: Option<i64>) -> u64 {
        let guess = self.last_us.map_or(0, |last| last + Self::STEP_US);
        let since_first = pts_us.map(|pts| pts.saturating_sub(*self.first_us.get_or_insert(pts.saturating_sub(guess))));
        let time = match (since_first, self.last_us) {
            (Some(time), Some(last)) if time <= last => last + 1,
            (Some(time), _) => time.max(0),
            (None, _) => guess,
        };
        self.last_us = Some(time);
        // Not negative, and rounding towards zero keeps the order.
        (time as f64 / self.speed) as u64
    }
}

/// The pictures of a folder, sorted by name.
fn pictures_in(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut pictures = Vec::new();
    for entry in entries {
        let picture = entry.map_err(|error| unreadable(path, &error))?.path();
        let extension = picture.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if PICTURES.iter().any(|name| extension.eq_ignore_ascii_case(name)) {
            pictures.push(picture);
        }
    }
    if pictures.is_empty() {
        return Err(Failure::BadInput(format!("{}: the folder holds no picture", path.display())));
    }
    pictures.sort();
    Ok(pictures)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::File { path: path.to_owned(), reason: ffmpeg::io_words(error) }
}

fn unusable(path: &Path, words: &str) -> Failure {
    Failure::BadInput(format!("{} cannot be read by ffmpeg: {}", path.display(), ffmpeg::without_name(path, words)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::exit;

    fn words(arguments: &[OsString]) -> String {
        arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn times_of_frames_are_told_from_other_lines() {
        assert_eq!(parse_time("frame:0    pts:77000   pts_time:0.077"), Line::Time(Some(77_000)));
        assert_eq!(parse_time("frame:12   pts:-5      pts_time:-5e-06"), Line::Time(Some(-5)));
        assert_eq!(parse_time("frame:3    pts:NOPTS   pts_time:NOPTS"), Line::Time(None));
        assert_eq!(parse_time("vouch_frame=1"), Line::Mark);
        assert_eq!(parse_time("a.mp4: Invalid data found when processing input"), Line::Words);
        assert_eq!(parse_time(""), Line::Words);
    }

    #[test]
    fn capture_times_begin_at_zero_and_always_grow() {
        let mut clock = VideoClock::new(1.0);
        let times = [Some(77_000), Some(144_000), Some(144_000), Some(100_000), None, Some(300_000)];
        assert_eq!(times.map(|time| clock.tell(time)), [0, 67_000, 67_001, 67_002, 100_335, 223_000]);
        let mut clock = VideoClock::new(2.0);
        assert_eq!([None, Some(90_000), Some(190_000)].map(|time| clock.tell(time)), [0, 16_666, 66_666]);
    }

    #[test]
    fn a_video_is_read_from_a_file_alone_and_frame_by_frame() {
        let size = Some(Size { width: 640, height: 480 });
        let video = Input::Video { path: "-a.mp4".into(), size, start_s: 1.5, speed: 1.0 };
        let line = words(&arguments(&video, Coding::Encoded));
        assert!(line.starts_with("-ss 1.5 -protocol_whitelist file -i file:-a.mp4 -map 0:v:0 -c:v mjpeg"), "{line}");
        assert!(
            line.contains("-fps_mode passthrough -vf scale=640:480:force_original_aspect_ratio=decrease,"),
            "{line}"
        );
        assert!(line.ends_with("-f image2pipe -"), "{line}");
    }

    #[test]
    fn a_camera_is_asked_for_its_own_pictures_first() {
        let camera = Input::Camera { path: "/dev/video0".into(), size: None };
        let line = words(&arguments(&camera, Coding::Copied));
        assert!(
            line.contains("-f v4l2 -input_format mjpeg -framerate 30 -video_size 640x480 -i /dev/video0"),
            "{line}"
        );
        assert!(line.ends_with("-c:v copy -f image2pipe -"), "{line}");
        let line = words(&arguments(&camera, Coding::Encoded));
        assert!(!line.contains("input_format") && line.contains("-c:v mjpeg"), "{line}");
    }

    #[test]
    fn missing_files_and_devices_are_named() {
        let path = PathBuf::from("/nonexistent/video9");
        for input in [
            Input::Camera { path: path.clone(), size: None },
            Input::Video { path: path.clone(), size: None, start_s: 0.0, speed: 1.0 },
            Input::Folder { path: path.clone(), fps: 30.0, start_s: 0.0, speed: 1.0 },
        ] {
            let failure = Source::open(input).unwrap_err();
            assert_eq!(failure.exit_code(), exit::NO_INPUT);
            assert_eq!(failure.to_string(), "/nonexistent/video9: no such file or directory");
        }
    }

    #[test]
    fn a_folder_gives_its_pictures_by_name_and_at_its_rate() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.JPG", "a.png", "c.jpeg", "notes.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let input = Input::Folder { path: folder.path().to_owned(), fps: 10.0, start_s: 0.1, speed: 2.0 };
        let mut source = Source::open(input).unwrap();
        let mut next = || source.frames.blocking_recv().map(|frame| frame.unwrap());
        let frame = |index, captured_us, name: &'static str| Some(Frame { index, captured_us, image: name.into() });
        assert_eq!(next(), frame(0, 0, "b.JPG"));
        assert_eq!(next(), frame(1, 50_000, "c.jpeg"));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_folder_without_pictures_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let input = Input::Folder { path: folder.path().to_owned(), fps: 10.0, start_s: 0.0, speed: 1.0 };
        assert_eq!(Source::open(input).unwrap_err().exit_code(), exit::DATA_ERR);
    }

    #[test]
    fn dropping_a_source_that_has_not_been_read_ends_its_thread() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..10 {
            std::fs::write(folder.path().join(format!("{number}.jpg")), "picture").unwrap();
        }
        let input = Input::Folder { path: folder.path().to_owned(), fps: 10.0, start_s: 0.0, speed: 1.0 };
        drop(Source::open(input).unwrap());
    }

    #[test]
    fn the_words_of_ffmpeg_do_not_repeat_the_name() {
        let failure = unusable(Path::new("a.mp4"), "file:a.mp4: Invalid data found when processing input");
        assert_eq!(failure.to_string(), "a.mp4 cannot be read by ffmpeg: Invalid data found when processing input");
        assert_eq!(ffmpeg::without_name(Path::new("a.mp4"), "no space left"), "no space left");
    }
}
