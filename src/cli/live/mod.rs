//! `vouch live`: a session of active liveness with the frames of a video, a folder of pictures, or a camera.
//!
//! Called by `cli`. Here are the arguments, the policy made of them, and the conversation with the daemon. `media` reads the frames, `terminal` and
//! `words` print the events, `draw` draws them. Leaves every judgement to the daemon. No picture is written anywhere unless `--draw` or
//! `--best-frame` asks for it.

mod draw;
mod ffmpeg;
mod media;
mod mjpeg;
mod terminal;
mod words;

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use self::draw::{Drawing, InFlight};
use self::media::{Frame, Input, Size, Source};
use self::terminal::Terminal;
use super::connect::{self, CallArgs, Failure, Target};
use super::report;
use crate::api::proto::verify_live_event::Event;
use crate::api::proto::verify_live_request::Message;
use crate::api::proto::{
    LiveAction, LiveDecision, LiveFrame, LiveMirroring, LivePolicy, LiveRehearsal, VerifyLiveEvent, VerifyLiveRequest,
};

/// How long the command waits for its decision when nothing else is said: the longest session of the contract, and half a minute for what comes before
/// and after.
pub const DEFAULT_TIMEOUT: &str = "150s";

/// Messages on their way to the daemon. What a camera takes beyond them while the daemon does not read is left out here.
const ON_THE_WAY: usize = 2;

/// What a shell makes of a command that an interrupt ended: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

#[derive(Debug, Args)]
pub struct LiveArgs {
    /// A video that ffmpeg can read, or a folder of pictures that are taken in the order of their names
    #[arg(required_unless_present = "camera")]
    video: Option<PathBuf>,
    /// A camera of this host, such as /dev/video0, in place of a video
    #[arg(long, value_name = "DEVICE", conflicts_with_all = [
        "video", "fps", "start", "speed", "real_time", "challenge", "any_reaction_time",
    ])]
    camera: Option<PathBuf>,
    /// Draw what was measured on each frame: into a video if the name ends in .mp4, .mkv, .webm or .gif, else as pictures into a folder of that name
    #[arg(long, value_name = "OUT")]
    draw: Option<PathBuf>,
    /// Write the frame that is best for a match into a file, as it was sent
    #[arg(long, value_name = "FILE")]
    best_frame: Option<PathBuf>,

    /// How many pictures of a folder make a second [default: 30]
    #[arg(long, value_name = "RATE", value_parser = parse_positive)]
    fps: Option<f64>,
    /// Make the frames of a video fit into this size, such as 640x480; of a camera, the size to ask it for [default: 640x480 of a camera]
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = parse_size)]
    size: Option<Size>,
    /// Begin so many seconds after the start of the video or folder
    #[arg(long, value_name = "SECONDS", default_value = "0", hide_default_value = true, value_parser = parse_seconds)]
    start: f64,
    /// Play a video or folder so many times as fast
    #[arg(long, value_name = "FACTOR", default_value = "1", hide_default_value = true, value_parser = parse_positive)]
    speed: f64,
    /// Send the frames of a video at the pace at which they were taken, without waiting for the daemon. Without this option the next frame is sent when
    /// the daemon has looked at the one before, and the session is a rehearsal
    #[arg(long)]
    real_time: bool,

    /// Ask for these actions in this order instead of drawing them, such as turn_left,blink; the session is then a rehearsal
    #[arg(long, value_name = "ACTION,...", value_delimiter = ',', value_parser = action_parser())]
    challenge: Vec<LiveAction>,
    /// Accept an action that begins sooner than a person can react, as it may in a video; the session is then a rehearsal
    #[arg(long)]
    any_reaction_time: bool,
    /// The actions to draw from [default: all]
    #[arg(long, value_name = "ACTION,...", value_delimiter = ',', conflicts_with = "challenge")]
    #[arg(value_parser = action_parser())]
    actions: Vec<LiveAction>,
    /// How many actions are asked for [default: the daemon's, 3]
    #[arg(long, value_name = "NUMBER", conflicts_with = "challenge")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=8))]
    steps: Option<u32>,
    /// How long the person may take for one action, such as 8s [default: the daemon's, 8s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    step_time: Option<prost_types::Duration>,
    /// How long the session may last, such as 60s [default: what the daemon's configuration allows]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    session_time: Option<prost_types::Duration>,
    /// The named threshold of active_liveness to decide at [default: the calibration's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    operating_point: String,
    /// A picture of the person who is expected, which the best frame is compared with
    #[arg(long, value_name = "IMAGE")]
    reference: Option<PathBuf>,
    /// The named threshold of face_match to decide at [default: the calibration's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, requires = "reference")]
    match_operating_point: String,
    /// Whether the frames show the person as in a mirror
    #[arg(long, value_name = "ANSWER", default_value = "no")]
    mirrored: Mirrored,
    /// Say that the person sees their own picture as in a mirror; prompts then tell its sides accordingly
    #[arg(long)]
    preview_mirrored: bool,

    #[command(flatten)]
    pub call: CallArgs,
}

/// Whether frames are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Mirrored {
    /// They show the person as others see them
    No,
    /// They show the person as in a mirror
    Yes,
    /// The first turn of the head tells
    Unknown,
}

/// When the next frame is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pace {
    /// When the daemon has answered the one before.
    Lockstep,
    /// When its capture time has come.
    CaptureTime,
    /// When the camera has taken it.
    Camera,
}

impl LiveArgs {
    fn pace(&self) -> Pace {
        match (&self.camera, self.real_time) {
            (Some(_), _) => Pace::Camera,
            (None, true) => Pace::CaptureTime,
            (None, false) => Pace::Lockstep,
        }
    }

    /// # Errors
    /// [`Failure::BadInput`] if an option does not go with the input.
    fn input(&self) -> Result<Input, Failure> {
        let unfit = |option: &str, input: &str| Failure::BadInput(format!("{option} cannot be used with {input}"));
        if let Some(path) = &self.camera {
            return Ok(Input::Camera { path: path.clone(), size: self.size });
        }
        let path = self.video.clone().unwrap_or_default();
        let (start_s, speed) = (self.start, self.speed);
        match (path.is_dir(), self.fps, self.size) {
            (true, _, Some(_)) => Err(unfit("--size", "a folder, whose pictures are sent as they are")),
            (true, fps, None) => Ok(Input::Folder { path, fps: fps.unwrap_or(media::DEFAULT_FPS), start_s, speed }),
            (false, Some(_), _) => Err(unfit("--fps", "a video, which tells the times of its frames")),
            (false, None, size) => Ok(Input::Video { path, size, start_s, speed }),
        }
    }

    /// # Errors
    /// Those of [`connect::read_picture`].
    fn policy(&self) -> Result<LivePolicy, Failure> {
        // A camera is always judged as it is; in lockstep capture times have nothing to do with the daemon's clock.
        let is_rehearsal = match self.pace() {
            Pace::Camera => false,
            Pace::Lockstep => true,
            Pace::CaptureTime => self.any_reaction_time || !self.challenge.is_empty(),
        };
        let numbers = |actions: &[LiveAction]| actions.iter().map(|action| *action as i32).collect();
        Ok(LivePolicy {
            actions: numbers(&self.actions),
            steps: self.steps.unwrap_or(0),
            step_time: self.step_time,
            session_time: self.session_time,
            operating_point: self.operating_point.clone(),
            reference: self.reference.as_deref().map(connect::read_picture).transpose()?.unwrap_or_default(),
            match_operating_point: self.match_operating_point.clone(),
            frames_are: match self.mirrored {
                Mirrored::No => LiveMirroring::NotMirrored,
                Mirrored::Yes => LiveMirroring::Mirrored,
                Mirrored::Unknown => LiveMirroring::Unknown,
            }
            .into(),
            preview_is_mirrored: self.preview_mirrored,
            with_signals: self.draw.is_some() || self.call.json,
            rehearsal: is_rehearsal
                .then(|| LiveRehearsal { steps: numbers(&self.challenge), any_reaction_time: self.any_reaction_time }),
            client_reference: String::new(),
        })
    }
}

/// Holds one session and shows it; the exit code tells its outcome.
///
/// # Errors
/// Any [`Failure`]; with `--json` it has been printed as the last line too.
pub async fn live(args: &LiveArgs, target: &Target) -> Result<u8, Failure> {
    let mut terminal = Terminal::new(args.call.json);
    let result = {
        let session = pin!(hold_session(args, target, &mut terminal));
        // Dropping the session ends its child processes and finishes the drawing.
        tokio::select! {
            result = session => result,
            code = interrupt() => code,
        }
    };
    let files = args
        .reference
        .iter()
        .flat_map(|path| ["policy.reference", "reference"].map(|name| (name.into(), path.clone())));
    terminal.leave();
    result.map_err(|failure| failure.naming(files.collect()))
}

/// Waits for the signals that end a command, and tells the exit code of the one that came.
async fn interrupt() -> Result<u8, Failure> {
    let listen = |kind| signal(kind).map_err(Failure::Runtime);
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(INTERRUPTED),
        _ = terminate.recv() => Ok(TERMINATED),
    }
}

async fn hold_session(args: &LiveArgs, target: &Target, terminal: &mut Terminal) -> Result<u8, Failure> {
    // Everything that can be wrong on this side is found before the daemon is called.
    let (policy, input, pace) = (args.policy()?, args.input()?, args.pace());
    let mut frames = Frames::new(Source::open(input)?, pace);
    let mut drawing = args.draw.as_deref().map(|path| Drawing::begin(path, pace == Pace::Lockstep)).transpose()?;

    let mut client = connect::connect(target).await?;
    let (sender, messages) = mpsc::channel(ON_THE_WAY);
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    request.set_timeout(target.timeout);
    let until = connect::patience(target);
    // The channel is empty and its reader is in the request.
    let _ = sender.try_send(VerifyLiveRequest { message: Some(Message::Policy(policy)) });
    let mut events = connect::answer(target, until, client.verify_live(request)).await?.into_inner();

    // Dropped after the last frame, which ends the stream.
    let mut sender = Some(sender);
    let mut in_flight = InFlight::default();
    let mut decision = None;
    loop {
        let event = tokio::select! {
            event = connect::answer(target, until, events.message()) => event?,
            frame = frames.next(), if sender.is_some() => {
                match frame.transpose()? {
                    Some(frame) => sender = sender.filter(|sender| {
                        let is_taken = send(sender, &frame);
                        if drawing.is_some() && is_taken != Sent::Not {
                            in_flight.keep(frame);
                        }
                        // If nobody takes them, the daemon has ended the stream, and says why there.
                        is_taken != Sent::Not
                    }),
                    None => sender = None,
                }
                continue;
            }
        };
        let Some(event) = event else { break };
        terminal.event(&event)?;
        frames.answered(&event);
        if let Some(drawing) = &mut drawing {
            draw_event(drawing, &mut in_flight, &event).await?;
        }
        if let Some(Event::Decision(last)) = event.event {
            decision = Some(last);
            break;
        }
    }
    let decision = decision.ok_or(Failure::Unfinished)?;
    drop(frames);
    if let Some(drawing) = &mut drawing {
        drawing.finish().await?;
    }
    save_best_frame(args, &decision)?;
    Ok(report::exit_code_of(decision.outcome()))
}

/// What became of a frame.
#[derive(Debug, PartialEq)]
enum Sent {
    Yes,
    /// The daemon does not read as fast as the camera takes.
    LeftOut,
    Not,
}

fn send(sender: &mpsc::Sender<VerifyLiveRequest>, frame: &Frame) -> Sent {
    let Frame { index, captured_us, image } = frame.clone();
    let message = Message::Frame(LiveFrame { index, captured_us, image });
    match sender.try_send(VerifyLiveRequest { message: Some(message) }) {
        Ok(()) => Sent::Yes,
        Err(TrySendError::Full(_)) => Sent::LeftOut,
        Err(TrySendError::Closed(_)) => Sent::Not,
    }
}

async fn draw_event(drawing: &mut Drawing, in_flight: &mut InFlight, event: &VerifyLiveEvent) -> Result<(), Failure> {
    match &event.event {
        Some(Event::Started(started)) => drawing.started(started.steps),
        Some(Event::Prompt(prompt)) => drawing.prompted(prompt.step),
        Some(Event::Feedback(feedback)) => {
            if let Some(frame) = in_flight.take(feedback.frame) {
                drawing.frame(frame, feedback).await?;
            }
        }
        Some(Event::Decision(decision)) => drawing.decided(decision).await?,
        Some(Event::Step(_)) | None => {}
    }
    Ok(())
}

fn save_best_frame(args: &LiveArgs, decision: &LiveDecision) -> Result<(), Failure> {
    match &args.best_frame {
        Some(path) if !decision.best_frame.is_empty() => std::fs::write(path, &decision.best_frame)
            .map_err(|error| Failure::BadInput(format!("{}: {error}", path.display()))),
        _ => Ok(()),
    }
}

/// The frames of a source, each when its time has come.
struct Frames {
    source: Source,
    pace: Pace,
    /// Read, and not due yet.
    pending: Option<Frame>,
    /// The session has begun.
    started: bool,
    /// The frame that the daemon has not answered yet.
    unanswered: Option<u32>,
    /// When the first frame was due.
    begin: Option<Instant>,
}

impl Frames {
    fn new(source: Source, pace: Pace) -> Self {
        Self { source, pace, pending: None, started: false, unanswered: None, begin: None }
    }

    /// The next frame when it is due, or nothing after the last. May be cancelled without losing one.
    async fn next(&mut self) -> Option<Result<Frame, Failure>> {
        // A camera is read all the time, so that the first frame sent is a new one.
        if self.pace != Pace::Camera && (!self.started || self.unanswered.is_some()) {
            return std::future::pending().await;
        }
        if self.pending.is_none() {
            match self.source.next().await? {
                Ok(frame) => self.pending = Some(frame),
                Err(failure) => return Some(Err(failure)),
            }
        }
        let captured_us = self.pending.as_ref()?.captured_us;
        match self.pace {
            Pace::Lockstep => self.unanswered = self.pending.as_ref().map(|frame| frame.index),
            Pace::CaptureTime => {
                let begin = *self.begin.get_or_insert_with(Instant::now);
                tokio::time::sleep_until(begin + Duration::from_micros(captured_us)).await;
            }
            Pace::Camera => {}
        }
        self.pending.take().map(Ok)
    }

    /// Takes notice of an event, which may make the next frame due.
    fn answered(&mut self, event: &VerifyLiveEvent) {
        match &event.event {
            Some(Event::Started(_)) => self.started = true,
            Some(Event::Feedback(feedback)) if self.unanswered.is_some_and(|index| index <= feedback.frame) => {
                self.unanswered = None;
            }
            _ => {}
        }
    }
}

/// Reads an action, and lets the help and the completions list them.
fn action_parser() -> impl TypedValueParser<Value = LiveAction> {
    let words = words::ACTIONS.map(|(word, _)| word);
    // Only words of the list come through.
    PossibleValuesParser::new(words).map(|word| words::action_of(&word).unwrap_or_default())
}

/// Reads `640x480`.
fn parse_size(text: &str) -> Result<Size, String> {
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match sides {
        Some((width @ 16..=8192, height @ 16..=8192)) => Ok(Size { width, height }),
        _ => Err("expected width and height of 16 to 8192 pixels, such as 640x480".into()),
    }
}

fn parse_positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.01..=1000.0).contains(&number) => Ok(number),
        _ => Err("expected a number between 0.01 and 1000".into()),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=86_400.0).contains(&number) => Ok(number),
        _ => Err("expected a number of seconds within a day".into()),
    }
}

/// Reads `800ms`, `8s` or `2m`. Which times are allowed, the daemon knows.
fn parse_time(text: &str) -> Result<prost_types::Duration, String> {
    prost_types::Duration::try_from(connect::parse_duration(text)?).map_err(|_| "expected a shorter time".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::{LiveFeedback, LiveStarted};
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        live: LiveArgs,
    }

    fn parse(line: &str) -> Result<LiveArgs, clap::Error> {
        let words = std::iter::once("live").chain(line.split_ascii_whitespace());
        Line::try_parse_from(words).map(|line| line.live)
    }

    #[test]
    fn actions_are_read_from_a_list() {
        let args = parse("a.mp4 --challenge turn_left,blink --challenge move_closer").unwrap();
        assert_eq!(args.challenge, [LiveAction::TurnLeft, LiveAction::Blink, LiveAction::MoveCloser]);
        for wrong in ["turn_left,wink", "turn_left,", "TURN_LEFT", "unspecified"] {
            assert!(parse(&format!("a.mp4 --challenge {wrong}")).is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn a_camera_takes_nothing_that_is_meant_for_videos() {
        assert!(parse("").is_err());
        assert_eq!(parse("--camera /dev/video0").unwrap().pace(), Pace::Camera);
        for option in
            ["a.mp4", "--fps 30", "--start 1", "--speed 2", "--real-time", "--challenge blink", "--any-reaction-time"]
        {
            assert!(parse(&format!("--camera /dev/video0 {option}")).is_err(), "{option} was taken");
        }
    }

    #[test]
    fn only_what_cannot_be_judged_live_is_a_rehearsal() {
        let rehearsal = |line: &str| parse(line).unwrap().policy().unwrap().rehearsal;
        assert_eq!(rehearsal("--camera /dev/video0"), None);
        assert_eq!(rehearsal("a.mp4 --real-time"), None);
        assert_eq!(rehearsal("a.mp4"), Some(LiveRehearsal::default()));
        let steps = vec![LiveAction::Blink as i32];
        assert_eq!(
            rehearsal("a.mp4 --real-time --challenge blink"),
            Some(LiveRehearsal { steps: steps.clone(), any_reaction_time: false })
        );
        assert_eq!(
            rehearsal("a.mp4 --challenge blink --any-reaction-time"),
            Some(LiveRehearsal { steps, any_reaction_time: true })
        );
    }

    #[test]
    fn options_become_the_policy() {
        let line = "--camera c --actions smile,look_up --steps 2 --step-time 1.5s --session-time 1m \
                    --operating-point a --mirrored unknown --preview-mirrored --draw out.mp4";
        let policy = parse(line).unwrap().policy().unwrap();
        let expected = LivePolicy {
            actions: vec![LiveAction::Smile as i32, LiveAction::LookUp as i32],
            steps: 2,
            step_time: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            session_time: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            operating_point: "a".into(),
            frames_are: LiveMirroring::Unknown.into(),
            preview_is_mirrored: true,
            with_signals: true,
            ..LivePolicy::default()
        };
        assert_eq!(policy, expected);
        assert!(!parse("a.mp4").unwrap().policy().unwrap().with_signals);
    }

    #[test]
    fn options_that_do_not_go_with_the_input_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().display();
        assert!(parse(&format!("{folder} --size 64x64")).unwrap().input().is_err());
        assert!(parse("a.mp4 --fps 10").unwrap().input().is_err());
        assert!(matches!(parse(&format!("{folder} --fps 10")).unwrap().input(), Ok(Input::Folder { fps: 10.0, .. })));
    }

    #[test]
    fn numbers_are_read_within_their_bounds() {
        assert_eq!(parse_size("640x480"), Ok(Size { width: 640, height: 480 }));
        assert!(["640", "x", "640x", "0x480", "-1x5", "99999x99999"].iter().all(|text| parse_size(text).is_err()));
        assert!(["0", "-1", "nan", "inf", "x"].iter().all(|text| parse_positive(text).is_err()));
        assert_eq!(parse_seconds("0"), Ok(0.0));
        assert!(["-1", "nan"].iter().all(|text| parse_seconds(text).is_err()));
        assert!(["8", "s", "-8s", "8h"].iter().all(|text| parse_time(text).is_err()));
    }

    /// Frames of a folder with `count` files.
    fn frames(folder: &tempfile::TempDir, count: u32, pace: Pace) -> Frames {
        for number in 0..count {
            std::fs::write(folder.path().join(format!("{number}.jpg")), "picture").unwrap();
        }
        let input = Input::Folder { path: folder.path().to_owned(), fps: 10.0, start_s: 0.0, speed: 1.0 };
        Frames::new(Source::open(input).unwrap(), pace)
    }

    fn event(event: Event) -> VerifyLiveEvent {
        VerifyLiveEvent { elapsed_ms: 0.0, event: Some(event) }
    }

    async fn next_at_once(frames: &mut Frames) -> Option<u32> {
        let next = tokio::time::timeout(Duration::from_millis(50), frames.next()).await;
        next.ok().flatten().map(|frame| frame.unwrap().index)
    }

    #[tokio::test]
    async fn in_lockstep_a_frame_waits_for_the_feedback_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut frames = frames(&folder, 3, Pace::Lockstep);
        assert_eq!(next_at_once(&mut frames).await, None, "before the session has started");
        frames.answered(&event(Event::Started(LiveStarted::default())));
        assert_eq!(frames.next().await.unwrap().unwrap().index, 0);
        assert_eq!(next_at_once(&mut frames).await, None);
        frames.answered(&event(Event::Feedback(LiveFeedback { frame: 0, ..LiveFeedback::default() })));
        assert_eq!(frames.next().await.unwrap().unwrap().index, 1);
        frames.answered(&event(Event::Feedback(LiveFeedback { frame: 0, ..LiveFeedback::default() })));
        assert_eq!(next_at_once(&mut frames).await, None, "an answer to an older frame");
    }

    #[tokio::test]
    async fn in_real_time_a_frame_waits_for_its_capture_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut frames = frames(&folder, 3, Pace::CaptureTime);
        frames.answered(&event(Event::Started(LiveStarted::default())));
        assert_eq!(frames.next().await.unwrap().unwrap().index, 0);
        assert_eq!(next_at_once(&mut frames).await, None, "it is due after 100 ms and is not lost");
        assert_eq!(frames.next().await.unwrap().unwrap().index, 1);
        assert!(frames.begin.unwrap().elapsed() >= Duration::from_millis(100));
    }
}
