//! Draws what the daemon found on the frames of a session, and writes them as a video or as pictures of a folder.
//!
//! Called by `live`; the strokes and letters are those of `cli::draw`. A thread of its own decodes, draws and encodes, so that a session in
//! real time does not wait for it; a frame that it has no time for is left out. Leaves out sound and everything else of the source.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::RgbImage;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::ffmpeg::{self, Ffmpeg, Killer, Pipe};
use super::media::Frame;
use super::words::instruction_in_words;
use crate::api::proto::{LiveDecision, LiveFeedback};
use crate::cli::connect::Failure;
use crate::cli::draw::{self, LiveMarks};
use crate::cli::report::outcome_word;

/// Frames that wait to be drawn.
const WAITING: usize = 4;

/// Bytes of frames that wait for their feedback: some seconds of a camera. The oldest make room.
const IN_FLIGHT_BYTES: usize = 64 << 20;

/// How long the last frame stands with the outcome on it.
const LAST_FRAME_S: f64 = 2.0;

/// A frame stands no longer than this, whatever the capture times say.
const LONGEST_STILL_S: f64 = 10.0;

/// How long ffmpeg may take to write the rest of a video.
const END_PATIENCE: Duration = Duration::from_mins(1);

/// How long it may take when the command was interrupted, and how often an ending is looked for.
const INTERRUPTED_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// Frames that were sent and may still be asked for.
#[derive(Debug, Default)]
pub struct InFlight {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl InFlight {
    pub fn keep(&mut self, frame: Frame) {
        self.bytes += frame.image.len();
        self.frames.push_back(frame);
        while self.bytes > IN_FLIGHT_BYTES && self.drop_oldest().is_some() {}
    }

    /// The frame of that index. Those before it will not be asked for any more: the daemon answers in order.
    pub fn take(&mut self, index: u32) -> Option<Frame> {
        while self.frames.front()?.index < index {
            self.drop_oldest();
        }
        if self.frames.front()?.index == index { self.drop_oldest() } else { None }
    }

    fn drop_oldest(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.image.len();
        Some(frame)
    }
}

/// A drawing in the making. Dropping it finishes what was drawn so far, if that does not take long.
#[derive(Debug)]
pub struct Drawing {
    jobs: Option<mpsc::Sender<Job>>,
    artist: Option<JoinHandle<()>>,
    /// How the thread ended.
    ending: Option<oneshot::Receiver<Result<(), Failure>>>,
    encoder: SharedKiller,
    /// Whether the session waits for the drawing rather than leaving frames out.
    waits: bool,
    steps: u32,
    step: u32,
    live_probability: Option<f64>,
}

/// The child process that the drawing thread has started, if it has.
type SharedKiller = Arc<Mutex<Option<Killer>>>;

/// Feedback is large only by its points, of which it has some hundred.
enum Job {
    Frame { frame: Frame, feedback: Box<LiveFeedback>, step: String, live_probability: Option<f64> },
    Outcome(Vec<String>),
}

impl Drawing {
    /// Begins a drawing: a video if the name ends like one, else a folder, which is made.
    ///
    /// # Errors
    /// [`Failure::BadInput`] if the folder cannot be made, or if ffmpeg is needed and not installed.
    pub fn begin(path: &Path, waits: bool) -> Result<Self, Failure> {
        let killer = SharedKiller::default();
        let canvas = if is_video(path) {
            ffmpeg::find()?;
            Canvas::Video { path: path.to_owned(), encoder: None, killer: Arc::clone(&killer) }
        } else {
            std::fs::create_dir_all(path).map_err(|error| unwritable(path, &ffmpeg::io_words(&error)))?;
            Canvas::Folder(path.to_owned())
        };
        let (jobs, waiting) = mpsc::channel(WAITING);
        let (ended, ending) = oneshot::channel();
        let artist = std::thread::spawn(move || {
            // Nobody asks after an interrupt.
            let _ = ended.send(draw_all(canvas, waiting));
        });
        Ok(Self {
            jobs: Some(jobs),
            artist: Some(artist),
            ending: Some(ending),
            encoder: killer,
            waits,
            steps: 0,
            step: 0,
            live_probability: None,
        })
    }

    /// How many steps the session has.
    pub fn started(&mut self, steps: u32) {
        self.steps = steps;
    }

    /// Which step has begun, counted from 0.
    pub fn prompted(&mut self, step: u32) {
        self.step = step + 1;
    }

    /// Draws the feedback on its frame.
    ///
    /// # Errors
    /// [`Failure::BadInput`] if frames before could not be drawn or written.
    pub async fn frame(&mut self, frame: Frame, feedback: &LiveFeedback) -> Result<(), Failure> {
        // Asked on some frames only; the last answer stands until the next.
        self.live_probability =
            feedback.signals.as_ref().and_then(|signals| signals.live_probability).or(self.live_probability);
        let step = if self.step == 0 { String::new() } else { format!("step {} of {}", self.step, self.steps) };
        let feedback = Box::new(feedback.clone());
        self.send(Job::Frame { frame, feedback, step, live_probability: self.live_probability }, self.waits).await
    }

    /// Draws the outcome on the last frame.
    ///
    /// # Errors
    /// As for [`Drawing::frame`].
    pub async fn decided(&mut self, decision: &LiveDecision) -> Result<(), Failure> {
        let mut lines = vec![outcome_word(decision.outcome()).to_owned()];
        lines.extend(decision.reasons.iter().chain(&decision.warnings).map(|warning| warning.code.clone()));
        if let Some(score) = decision.liveness.as_ref().and_then(|liveness| liveness.score) {
            lines.push(format!("live {score:.2}"));
        }
        if let Some(score) = decision.face_match.as_ref().and_then(|result| result.score) {
            lines.push(format!("match {score:.2}"));
        }
        self.send(Job::Outcome(lines), true).await
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// [`Failure::BadInput`] if something could not be drawn or written.
    pub async fn finish(&mut self) -> Result<(), Failure> {
        self.jobs = None;
        match self.ending.take() {
            // The thread is gone without an answer only if it panicked, which has been printed.
            Some(ending) => {
                ending.await.unwrap_or_else(|_| Err(Failure::BadInput("the drawing was not finished".into())))
            }
            None => Ok(()),
        }
    }

    async fn send(&mut self, job: Job, waits: bool) -> Result<(), Failure> {
        let Some(jobs) = &self.jobs else { return Ok(()) };
        let is_gone = if waits {
            jobs.send(job).await.is_err()
        } else {
            matches!(jobs.try_send(job), Err(TrySendError::Closed(_)))
        };
        // The thread ends early only by a failure.
        if is_gone { self.finish().await } else { Ok(()) }
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(artist) = self.artist.take() else { return };
        let until = Instant::now() + INTERRUPTED_PATIENCE;
        while !artist.is_finished() && Instant::now() < until {
            std::thread::sleep(POLL);
        }
        if let Some(encoder) = self.encoder.lock().unwrap_or_else(PoisonError::into_inner).take() {
            encoder.kill();
        }
        // A panic of the thread has already been printed.
        let _ = artist.join();
    }
}

fn unwritable(path: &Path, reason: &str) -> Failure {
    Failure::BadInput(format!("{} cannot be written: {reason}", path.display()))
}

fn extension_of(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn is_video(path: &Path) -> bool {
    matches!(extension_of(path).as_str(), "mp4" | "mkv" | "webm" | "gif")
}

/// Where pictures go.
enum Canvas {
    Folder(PathBuf),
    Video { path: PathBuf, encoder: Option<Encoder>, killer: SharedKiller },
}

/// The drawing thread.
fn draw_all(mut canvas: Canvas, mut jobs: mpsc::Receiver<Job>) -> Result<(), Failure> {
    let mut last: Option<(Frame, RgbImage)> = None;
    while let Some(job) = jobs.blocking_recv() {
        match job {
            Job::Frame { frame, feedback, step, live_probability } => {
                let Some(mut picture) = decode(&frame.image) else { continue };
                let instruction = instruction_in_words(&feedback.instruction);
                let marks = LiveMarks { feedback: &feedback, instruction: &instruction, step: &step, live_probability };
                draw::live(&mut picture, &marks);
                canvas.put(&frame, &picture)?;
                // The bytes are not needed any more.
                last = Some((Frame { image: Bytes::new(), ..frame }, picture));
            }
            Job::Outcome(lines) => {
                if let Some((frame, picture)) = &mut last {
                    draw::live_outcome(picture, &lines);
                    canvas.put(frame, picture)?;
                    canvas.hold(LAST_FRAME_S)?;
                }
            }
        }
    }
    canvas.end()
}

/// A frame that the daemon could not decode either is left out of the drawing.
fn decode(image: &[u8]) -> Option<RgbImage> {
    draw::canvas(Path::new("frame"), image, 0).ok()
}

impl Canvas {
    fn put(&mut self, frame: &Frame, picture: &RgbImage) -> Result<(), Failure> {
        match self {
            Self::Folder(path) => draw::save(picture, &path.join(format!("{:06}.jpg", frame.index))),
            Self::Video { path, encoder, killer } => {
                let encoder = match encoder {
                    Some(encoder) => encoder,
                    None => {
                        let started = Encoder::start(path, picture)?;
                        *killer.lock().unwrap_or_else(PoisonError::into_inner) = Some(started.child.killer());
                        encoder.insert(started)
                    }
                };
                let result = encoder.put(frame.captured_us, picture);
                if result { Ok(()) } else { self.end() }
            }
        }
    }

    /// Lets the last picture of a video stand.
    fn hold(&mut self, time_s: f64) -> Result<(), Failure> {
        match self {
            Self::Video { encoder: Some(encoder), .. } => {
                let frames = (time_s * encoder.fps).round() as u64;
                if encoder.repeat(frames) { Ok(()) } else { self.end() }
            }
            Self::Video { .. } | Self::Folder(_) => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Video { path, encoder, .. } => match encoder.take() {
                Some(encoder) => encoder.end().map_err(|words| unwritable(path, ffmpeg::without_name(path, &words))),
                None => Ok(()),
            },
            Self::Folder(_) => Ok(()),
        }
    }
}

/// A video in the making. Its rate is even, so each picture is repeated until the next one's capture time.
struct Encoder {
    child: Ffmpeg,
    input: Option<ChildStdin>,
    size: (u32, u32),
    fps: f64,
    first_us: Option<u64>,
    written: u64,
    /// The picture that stands until the next one.
    picture: Vec<u8>,
}

impl Encoder {
    fn start(path: &Path, picture: &RgbImage) -> Result<Self, Failure> {
        // GIF counts hundredths of a second; 20 is the highest even rate below 30.
        let fps = if extension_of(path) == "gif" { 20.0 } else { 30.0 };
        let child = Ffmpeg::start(&arguments(path, picture.dimensions(), fps), Pipe::Writing, |_| false)?;
        let input = child.take_input();
        Ok(Self { child, input, size: picture.dimensions(), fps, first_us: None, written: 0, picture: Vec::new() })
    }

    /// False if ffmpeg takes no more.
    fn put(&mut self, captured_us: u64, picture: &RgbImage) -> bool {
        let first_us = *self.first_us.get_or_insert(captured_us);
        let place = (captured_us.saturating_sub(first_us) as f64 * self.fps / 1e6).round() as u64;
        let still = place.saturating_sub(self.written).min((LONGEST_STILL_S * self.fps) as u64);
        // Before the first picture there is nothing to repeat.
        let is_taken = self.picture.is_empty() || self.repeat(still);
        self.picture = if picture.dimensions() == self.size {
            picture.as_raw().clone()
        } else {
            // Frames of one session have one size; where they do not, the corner is shown.
            let mut fitted = RgbImage::new(self.size.0, self.size.1);
            image::imageops::replace(&mut fitted, picture, 0, 0);
            fitted.into_raw()
        };
        is_taken
    }

    /// Writes the standing picture that often.
    fn repeat(&mut self, times: u64) -> bool {
        let Some(input) = &mut self.input else { return false };
        self.written += times;
        (0..times).all(|_| input.write_all(&self.picture).is_ok())
    }

    fn end(mut self) -> Result<(), String> {
        // A broken pipe is explained by the words of ffmpeg.
        let is_taken = self.repeat(1);
        self.input = None;
        let ended = self.child.end(END_PATIENCE);
        if is_taken { ended } else { ended.and(Err("ffmpeg ended before the video did".into())) }
    }
}

/// The arguments with which ffmpeg makes a video of raw pictures on its standard input.
fn arguments(path: &Path, (width, height): (u32, u32), fps: f64) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", &format!("{width}x{height}")]);
    add(&["-framerate", &fps.to_string(), "-i", "-"]);
    // Most players want sides of an even number of pixels.
    let even = "pad=ceil(iw/2)*2:ceil(ih/2)*2";
    match extension_of(path).as_str() {
        // A palette made from the pictures; the one that is fixed turns skin to blotches.
        "gif" => add(&["-vf", "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"]),
        "webm" => {
            add(&["-vf", even, "-pix_fmt", "yuv420p", "-c:v", "libvpx-vp9", "-deadline", "realtime"]);
            add(&["-cpu-used", "8", "-row-mt", "1", "-crf", "30", "-b:v", "0"]);
        }
        "mp4" => {
            add(&["-vf", even, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast"]);
            add(&["-movflags", "+faststart"]);
        }
        _ => add(&["-vf", even, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast"]),
    }
    let mut url = OsString::from("file:");
    url.push(path);
    arguments.push(url);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(index: u32, bytes: usize) -> Frame {
        Frame { index, captured_us: u64::from(index) * 33_333, image: vec![0; bytes].into() }
    }

    #[test]
    fn frames_wait_for_their_feedback_and_older_ones_are_let_go() {
        let mut waiting = InFlight::default();
        for index in 0..5 {
            waiting.keep(frame(index, 10));
        }
        assert_eq!(waiting.take(2), Some(frame(2, 10)));
        assert_eq!(waiting.take(1), None);
        assert_eq!(waiting.bytes, 20);
        assert_eq!(waiting.take(9), None);
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn frames_that_wait_hold_a_bounded_number_of_bytes() {
        let mut waiting = InFlight::default();
        for index in 0..40 {
            waiting.keep(frame(index, 4 << 20));
        }
        assert_eq!(waiting.bytes, IN_FLIGHT_BYTES);
        assert_eq!(waiting.take(23), None, "made room");
        assert_eq!(waiting.take(24).map(|frame| frame.index), Some(24));
    }

    #[test]
    fn a_name_tells_a_video_from_a_folder() {
        assert!(["a.mp4", "b.MKV", "c.webm", "d.gif"].iter().all(|name| is_video(Path::new(name))));
        assert!(
            ["frames", "a.mp4/", "a.jpg", ".mp4"].iter().all(|name| is_video(Path::new(name)) == (*name == "a.mp4/"))
        );
    }

    #[tokio::test]
    async fn a_folder_gets_each_frame_and_the_outcome_on_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new");
        let mut jpeg = std::io::Cursor::new(Vec::new());
        RgbImage::from_pixel(160, 120, image::Rgb([90, 120, 150]))
            .write_to(&mut jpeg, image::ImageFormat::Jpeg)
            .unwrap();
        let jpeg = Bytes::from(jpeg.into_inner());
        let mut drawing = Drawing::begin(&out, true).unwrap();
        for index in [3, 4] {
            let frame = Frame { index, captured_us: 0, image: jpeg.clone() };
            let feedback = LiveFeedback { frame: index, instruction: "HOLD_STILL".into(), ..LiveFeedback::default() };
            drawing.frame(frame, &feedback).await.unwrap();
        }
        drawing.finish().await.unwrap();
        let plain = std::fs::read(out.join("000004.jpg")).unwrap();
        let mut drawing = Drawing::begin(&out, true).unwrap();
        drawing.frame(Frame { index: 4, captured_us: 0, image: jpeg }, &LiveFeedback::default()).await.unwrap();
        drawing.decided(&LiveDecision::default()).await.unwrap();
        drawing.finish().await.unwrap();
        assert!(out.join("000003.jpg").exists());
        assert_ne!(std::fs::read(out.join("000004.jpg")).unwrap(), plain);
    }
}
