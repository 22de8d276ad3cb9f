//! `VerifyLive`: the frames of a camera in, prompts and feedback for the person out, a decision at the end.
//!
//! The first message is the policy. Frames are taken in as they come and judged by order, clock and bytes ([`Intake`]); of those that arrive while another is looked at
//! the newest wins. Each frame that is looked at takes a place of its own, so that a session that waits for frames costs nothing but its memory. The session ends with
//! its decision, whatever the caller sends after it; with the caller's deadline; or when the caller goes away, which frees everything at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::callers::Share;
use super::convert::{self, milliseconds};
use super::newest::{self, Arrival, Newest};
use super::proto::verify_live_event::Event;
use super::proto::verify_live_request::Message;
use super::proto::{self, VerifyLiveEvent, VerifyLiveRequest};
use super::request::{Call, LAST_WORD, MAX_CLIENT_REFERENCE_BYTES};
use super::unwind::caught;
use crate::checks::{MediaKind, Outcome, Warning};
use crate::error::{Error, Unavailable};
use crate::live::challenge::{Chance, MAX_STEPS};
use crate::live::intake::Intake;
use crate::live::session::{Policy, Prompt, Rehearsal, StepEnd, Told, Verdict};
use crate::live::{Action, CHECK, Mirroring, Reason, SCORE_KIND, Side};
use crate::pipeline::Engine;
use crate::pipeline::admission::Place;
use crate::pipeline::live::{Frame, LiveSession, Looked, ROLES, Shown, outcome, told};
use crate::pipeline::source::Media;
use crate::pipeline::verify::CheckRequest;

/// What the caller reads. Dropping it ends the session.
pub type LiveStream = Pin<Box<dyn Stream<Item = Result<VerifyLiveEvent, Status>> + Send>>;

/// Events that may wait for a slow caller; then no further frame is looked at.
const WAITING_EVENTS: usize = 8;

/// Actions that are asked for unless the policy says otherwise.
const DEFAULT_STEPS: usize = 3;

/// What the policy may set, in seconds, and its default for a step.
const STEP_SECONDS: std::ops::RangeInclusive<f64> = 1.0..=60.0;
const DEFAULT_STEP: Duration = Duration::from_secs(8);
const MIN_SESSION: Duration = Duration::from_secs(5);

/// Without a frame for so long, by the daemon's clock, the session ends.
const IDLE: Duration = Duration::from_secs(10);

/// How much longer than in capture time a session may last by the daemon's clock: frames take time to arrive.
const LATENESS: Duration = Duration::from_secs(5);

/// A session's call may last beyond the session itself, for the decision and its match.
const CLOSING: Duration = Duration::from_secs(15);

/// Longest time for which an overloaded daemon looks at no frame of a session.
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// The longest that a call may take by the limits of the configuration.
pub fn max_duration(engine: &Engine) -> Duration {
    engine.live.max_duration + LATENESS + CLOSING
}

/// # Errors
/// None at once: the policy is read from the stream, and errors end it.
pub async fn verify_live(call: Call, messages: Streaming<VerifyLiveRequest>) -> Result<LiveStream, Status> {
    let (events, stream) = mpsc::channel(WAITING_EVENTS);
    tokio::spawn(async move {
        tokio::select! {
            result = caught(call.until_deadline(hold(&call, messages, &events))) => {
                if let Err(error) = result {
                    // The caller may have gone, or read nothing for longer than a call may take.
                    let _ = tokio::time::timeout(LAST_WORD, events.send(Err(error.into()))).await;
                }
            }
            // The caller closed the stream: dropping the call ends what is queued.
            () = events.closed() => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(stream)))
}

/// What the caller wants, checked.
struct Wanted {
    policy: Policy,
    operating_point: String,
    match_operating_point: String,
    reference: Bytes,
    preview_is_mirrored: bool,
    with_signals: bool,
    client_reference: String,
}

/// What the receiving side hands over.
enum Incoming {
    /// Until it is looked at, it is a part of what callers may have on its way.
    Frame { frame: Frame, _held: Option<Share> },
    /// A frame that ends the session. Nothing is taken in after it.
    End(Reason),
}

/// Frames so far, counted by the receiving side.
#[derive(Default)]
struct Counts {
    received: AtomicU32,
    /// Those that came last could not be kept.
    have_no_room: AtomicBool,
}

type Events = mpsc::Sender<Result<VerifyLiveEvent, Status>>;

/// A session on its way.
struct Held<'a> {
    call: &'a Call,
    events: &'a Events,
    wanted: Wanted,
    counts: Arc<Counts>,
    last_frame: u32,
    _place: OwnedSemaphorePermit,
    /// Of its user's sessions.
    _share: Option<Share>,
}

async fn hold(call: &Call, mut messages: Streaming<VerifyLiveRequest>, events: &Events) -> Result<(), Error> {
    let first = tokio::time::timeout(IDLE, newest::next(&mut messages, "policy")).await;
    let first = first.map_err(|_| Error::invalid("policy", "POLICY_MISSING", "no policy came within 10 seconds"))?;
    let wanted = match first? {
        Some(VerifyLiveRequest { message: Some(Message::Policy(policy)) }) => {
            call.audit.note_message(&policy);
            wanted(&call.engine, policy)?
        }
        Some(_) => return Err(Error::invalid("policy", "POLICY_MISSING", "the first message must be the policy")),
        None => return Ok(()),
    };
    let share = call.conduct.hold_session()?;
    let Ok(place) = Arc::clone(&call.engine.live_places).try_acquire_owned() else {
        return Err(Error::Overloaded { retry_after: Duration::from_secs(1) });
    };
    if call.engine.admission.status().draining {
        return Err(Error::Unavailable { state: Unavailable::Draining, retry_after: Duration::from_secs(1) });
    }
    let session =
        LiveSession::new(&call.engine, wanted.policy.clone(), &wanted.operating_point, &call.context, system_chance())?;
    let counts = Arc::new(Counts::default());
    let held = Held { call, events, wanted, counts: Arc::clone(&counts), last_frame: 0, _place: place, _share: share };
    let Some(session) = session else {
        let verdict = Verdict {
            reasons: vec![Reason::NotCalibrated],
            steps: Vec::new(),
            live: None,
            samples: 0,
            is_unsettled: true,
        };
        held.started(held.wanted.policy.steps).await?;
        return held.decide(None, verdict).await;
    };
    held.started(session.steps()).await?;
    held.check_reference().await?;
    let started = Instant::now();
    let compares_clocks = held.wanted.policy.rehearsal.is_none();
    let mut intake = Intake::new(call.engine.live.bounds, compares_clocks);
    let mut has_ended = false;
    let (audit, conduct) = (call.audit.clone(), Arc::clone(&call.conduct));
    let newest = Newest::of(&call.engine, messages, "frame", move |request: VerifyLiveRequest| {
        let Some(Message::Frame(frame)) = request.message else {
            return Err(Error::invalid("policy", "POLICY_TWICE", "only the first message may be a policy"));
        };
        if has_ended {
            return Ok(None);
        }
        audit.frame(&frame.image);
        let taken = intake.take(frame.index, frame.captured_us, &frame.image, milliseconds(started.elapsed()));
        counts.received.store(intake.frames(), Ordering::Relaxed);
        Ok(Some(match taken {
            Ok(at_ms) => {
                // A busy moment does not end a session: without room the frame counts as replaced.
                let held = conduct.hold_frame(frame.image.len() as u64);
                counts.have_no_room.store(held.is_err(), Ordering::Relaxed);
                let Ok(_held) = held else { return Ok(None) };
                Incoming::Frame { frame: Frame { index: frame.index, at_ms, file: frame.image }, _held }
            }
            Err(reason) => {
                has_ended = true;
                Incoming::End(reason)
            }
        }))
    });
    held.run(session, newest, started).await
}

impl Held<'_> {
    async fn run(
        mut self,
        mut session: LiveSession,
        mut newest: Newest<Incoming>,
        started: Instant,
    ) -> Result<(), Error> {
        let session_time = Duration::from_secs_f64(self.wanted.policy.session_ms / 1e3);
        let mut last_arrival = Instant::now();
        loop {
            let arrival = newest.wait().await?;
            let late = if started.elapsed() > session_time + LATENESS {
                Some(Reason::SessionExpired)
            } else {
                match arrival {
                    Arrival::Frame => None,
                    Arrival::Ended => Some(Reason::CallerEnded),
                    Arrival::Nothing if last_arrival.elapsed() <= IDLE => continue,
                    Arrival::Nothing if self.counts.have_no_room.load(Ordering::Relaxed) => {
                        return Err(Error::Overloaded { retry_after: Duration::from_secs(1) });
                    }
                    Arrival::Nothing => Some(Reason::FramesInterrupted),
                }
            };
            if let Some(reason) = late {
                let verdict = session.end(reason);
                return self.decide(Some(&session), verdict).await;
            }
            last_arrival = Instant::now();
            let bytes = newest.peek(|incoming| match incoming {
                Incoming::Frame { frame, .. } => frame.file.len() as u64,
                Incoming::End(_) => 0,
            });
            if bytes.is_some_and(|bytes| bytes > 0) {
                self.call.conduct.check()?;
            }
            // A place first: the frame that is the newest then is looked at.
            let place = match self.call.enter(bytes.unwrap_or(0)).await {
                Ok(place) => place,
                // A busy moment does not end a session: the frame counts as replaced, unless none comes after it.
                Err(Error::Overloaded { retry_after }) => {
                    tokio::time::sleep(retry_after.min(MAX_PAUSE)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let frame = match newest.take() {
                Some(Incoming::Frame { frame, .. }) => frame,
                Some(Incoming::End(reason)) => {
                    let verdict = session.end(reason);
                    drop(place);
                    return self.decide(Some(&session), verdict).await;
                }
                None => continue,
            };
            self.last_frame = frame.index;
            let looked;
            (looked, session) = look(session, frame, place, self.wanted.with_signals).await?;
            if let Some(verdict) = self.tell(&session, looked).await? {
                return self.decide(Some(&session), verdict).await;
            }
        }
    }

    async fn send(&self, event: Event) -> Result<(), Error> {
        let event = VerifyLiveEvent { elapsed_ms: milliseconds(self.call.received.elapsed()), event: Some(event) };
        self.events.send(Ok(event)).await.map_err(|_| Error::Cancelled)
    }

    async fn started(&self, steps: usize) -> Result<(), Error> {
        let session_id = session_id()?;
        let bounds = self.call.engine.live.bounds;
        self.send(Event::Started(proto::LiveStarted {
            session_id,
            client_reference: self.wanted.client_reference.clone(),
            steps: steps as u32,
            session_time: prost_types::Duration::try_from(Duration::from_secs_f64(self.wanted.policy.session_ms / 1e3))
                .ok(),
            max_frames: bounds.max_frames,
            max_bytes: bounds.max_bytes,
        }))
        .await
    }

    /// A reference that cannot be used is told before the person is asked for anything.
    async fn check_reference(&self) -> Result<(), Error> {
        if self.wanted.reference.is_empty() {
            return Ok(());
        }
        let place = self.call.enter(self.wanted.reference.len() as u64).await?;
        let media = self.reference();
        let (engine, context) = (Arc::clone(&self.call.engine), Arc::clone(&self.call.context));
        let work = move || {
            let _place = place;
            use crate::checks::FaceEvidence;
            let listener: Arc<crate::pipeline::source::Listener> = Arc::new(|_, _| {});
            let picture = engine.picture(media, &context, &listener);
            picture.faces().map(|faces| faces.main().is_some())
        };
        let has_face = tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|_| Err(Error::internal("looking at the reference panicked")))?;
        if has_face {
            Ok(())
        } else {
            Err(Error::invalid("policy.reference", "NO_FACE_DETECTED", "no face was found in the reference"))
        }
    }

    fn reference(&self) -> Media {
        Media { kind: MediaKind::Reference, data: self.wanted.reference.clone(), field: "policy.reference".to_owned() }
    }

    /// Sends what a frame led to; the verdict if it was the last.
    async fn tell(&self, session: &LiveSession, looked: Looked) -> Result<Option<Verdict>, Error> {
        let mut feedback = proto::LiveFeedback {
            frame: self.last_frame,
            frames_dropped: self.dropped(session),
            ..proto::LiveFeedback::default()
        };
        let (told, shown) = match looked {
            Looked::Told(told, shown) => (*told, shown),
            Looked::Unusable(error) => {
                if let Error::InvalidInput { code, reason, .. } = error {
                    self.call.conduct.malformed();
                    feedback.warning =
                        Some(proto::Warning { code: code.into(), message: reason, ..Default::default() });
                }
                feedback.instruction = "FRAME_UNUSABLE".into();
                self.send(Event::Feedback(feedback)).await?;
                return Ok(None);
            }
        };
        if let Some(step) = &told.step {
            self.send(Event::Step(step_result(step))).await?;
        }
        if let Some(prompt) = told.prompt {
            self.send(Event::Prompt(self.prompt(prompt))).await?;
        }
        feedback.instruction = told.instruction.as_str().into();
        feedback.progress = told.progress;
        feedback.step_progress = told.step_progress;
        feedback.signals = shown.map(|shown| signals(*shown, &told));
        self.send(Event::Feedback(feedback)).await?;
        Ok(told.verdict)
    }

    fn dropped(&self, session: &LiveSession) -> u32 {
        self.counts.received.load(Ordering::Relaxed).saturating_sub(session.processed())
    }

    fn prompt(&self, prompt: Prompt) -> proto::LivePrompt {
        let preview = match (prompt.action.is_turn(), self.wanted.preview_is_mirrored) {
            (false, _) => None,
            (true, mirrored) => {
                let seen = if mirrored { Mirroring::Mirrored } else { Mirroring::NotMirrored };
                seen.side_of(prompt.action)
            }
        };
        proto::LivePrompt {
            step: prompt.step as u32,
            action: action_message(prompt.action).into(),
            frame_side: side(prompt.frame_side).into(),
            preview_side: side(preview).into(),
            frame: self.last_frame,
        }
    }

    /// Adds what calibrations say to the verdict, and sends the last event.
    async fn decide(self, session: Option<&LiveSession>, verdict: Verdict) -> Result<(), Error> {
        let mut reasons = verdict.reasons.clone();
        let mut decision = proto::LiveDecision {
            steps: verdict.steps.iter().map(step_result).collect(),
            frames_received: self.counts.received.load(Ordering::Relaxed),
            ..proto::LiveDecision::default()
        };
        if let Some(session) = session {
            decision.frames_processed = session.processed();
            decision.frames_dropped = self.dropped(session);
            let (finding, reason) = session.judge_samples(&verdict, &self.wanted.operating_point, self.call.today());
            // That too few frames were seen is no news where the session ended before its time.
            reasons.extend(reason.filter(|reason| {
                reasons.is_empty() || !matches!(reason, Reason::TooFewFrontalFrames | Reason::NotCalibrated)
            }));
            let loaded = self.call.engine.calibrations.get(CHECK);
            decision.liveness = Some(proto::CheckResult {
                check: CHECK.into(),
                outcome: convert::outcome(finding.outcome).into(),
                score: finding.score,
                score_kind: SCORE_KIND.into(),
                operating_point: finding.operating_point.map(convert::operating_point),
                warnings: finding.warnings.into_iter().map(convert::warning).collect(),
                measurements: finding.measurements.iter().map(|(&name, &value)| (name.into(), value)).collect(),
                models: convert::model_refs(&self.call.engine.registry, &ROLES),
                calibration_sha256: loaded.map_or_else(String::new, |loaded| loaded.sha256.clone()),
                ..proto::CheckResult::default()
            });
            if let Some(best) = session.best() {
                (decision.best_frame, decision.best_frame_index) = (best.file.clone(), best.index);
            }
            // A match adds nothing to a session that has failed.
            if !self.wanted.reference.is_empty() && outcome(&reasons) != Outcome::Fail {
                reasons.extend(self.match_reference(&mut decision).await?);
            }
        }
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.gravity()));
        decision.outcome = convert::outcome(outcome(&reasons)).into();
        decision.reasons = reasons.iter().map(|reason| convert::warning(told(*reason))).collect();
        if self.wanted.policy.rehearsal.is_some() {
            let message = "a rehearsal says nothing about a live person".to_owned();
            decision.warnings.push(convert::warning(Warning { code: "REHEARSAL", message, media: None }));
        }
        if verdict.reasons.is_empty() && !verdict.steps.iter().any(|step| step.action.turns_head()) {
            let message = "no motion of the head was asked for, so nothing shows that it is one".to_owned();
            decision.warnings.push(convert::warning(Warning { code: "NO_HEAD_MOTION", message, media: None }));
        }
        decision.best_frame = self.held(decision.best_frame).await;
        decision.duration_ms = milliseconds(self.call.received.elapsed());
        self.send(Event::Decision(decision)).await
    }

    /// The best frame of a decision that is complete, as a part of what callers may have on its way until it is read. The person has done all that was asked: room is waited for, until the call's deadline.
    async fn held(&self, frame: Bytes) -> Bytes {
        loop {
            match self.call.conduct.hold_answer(frame.clone()) {
                Ok(frame) => return frame,
                Err(_) => tokio::time::sleep(MAX_PAUSE).await,
            }
        }
    }

    /// The best frame against the reference, by the check `face_match`.
    async fn match_reference(&self, decision: &mut proto::LiveDecision) -> Result<Option<Reason>, Error> {
        if decision.best_frame.is_empty() {
            return Ok(Some(Reason::FaceMatchInconclusive));
        }
        let selfie =
            Media { kind: MediaKind::Selfie, data: decision.best_frame.clone(), field: "frame.image".to_owned() };
        let request = CheckRequest {
            name: "face_match".into(),
            operating_point: self.wanted.match_operating_point.clone(),
            ..CheckRequest::default()
        };
        let result = loop {
            match self.call.one_check(vec![selfie.clone(), self.reference()], request.clone()).await {
                // The person has done all that was asked: a busy moment is waited for, until the call's deadline.
                Err(Error::Overloaded { retry_after }) => tokio::time::sleep(retry_after.min(MAX_PAUSE)).await,
                Err(Error::InvalidInput { .. }) => return Ok(Some(Reason::FaceMatchInconclusive)),
                result => break result?,
            }
        };
        let reason = match result.finding.outcome {
            Outcome::Pass => None,
            Outcome::Fail => Some(Reason::FaceMatchFailed),
            Outcome::Review => Some(Reason::FaceMatchUnsure),
            Outcome::Inconclusive | Outcome::Skipped => Some(Reason::FaceMatchInconclusive),
        };
        decision.face_match = Some(convert::check_result(&self.call.engine, result));
        Ok(reason)
    }
}

async fn look(
    mut session: LiveSession,
    frame: Frame,
    place: Place,
    shows: bool,
) -> Result<(Looked, LiveSession), Error> {
    let work = move || {
        // Held until the work has ended, also when the caller has gone before.
        let _place = place;
        session.look(frame, shows).map(|looked| (looked, session))
    };
    let looked = tokio::task::spawn_blocking(work).await;
    looked.unwrap_or_else(|_| Err(Error::internal("looking at a frame panicked; its place stands in the journal")))
}

// ---------------------------------------------------------------- policy

fn wanted(engine: &Engine, policy: proto::LivePolicy) -> Result<Wanted, Error> {
    let invalid = |field: &str, reason: String| Error::invalid(format!("policy.{field}"), "POLICY_INVALID", reason);
    let mut actions = Vec::new();
    for &action in &policy.actions {
        let action = known_action(action).ok_or_else(|| invalid("actions", "an action is not known".into()))?;
        if actions.contains(&action) {
            return Err(invalid("actions", format!("{} is named twice", action.as_str())));
        }
        actions.push(action);
    }
    if actions.is_empty() {
        actions = Action::ALL.to_vec();
    }
    let steps = if policy.steps == 0 { DEFAULT_STEPS } else { policy.steps as usize };
    if steps > MAX_STEPS {
        return Err(invalid("steps", format!("{steps} is more than {MAX_STEPS}")));
    }
    let step = duration(policy.step_time.as_ref(), DEFAULT_STEP).map_err(|reason| invalid("step_time", reason))?;
    if !STEP_SECONDS.contains(&step.as_secs_f64()) {
        return Err(invalid("step_time", "must be 1 to 60 seconds".into()));
    }
    let longest = engine.live.max_duration;
    let session = duration(policy.session_time.as_ref(), longest).map_err(|reason| invalid("session_time", reason))?;
    if !(MIN_SESSION..=longest).contains(&session) {
        return Err(invalid("session_time", format!("must be 5 to {} seconds", longest.as_secs())));
    }
    let Ok(frames_are) = proto::LiveMirroring::try_from(policy.frames_are) else {
        return Err(invalid("frames_are", "is not known".into()));
    };
    let mirroring = match frames_are {
        proto::LiveMirroring::Unspecified | proto::LiveMirroring::NotMirrored => Mirroring::NotMirrored,
        proto::LiveMirroring::Mirrored => Mirroring::Mirrored,
        proto::LiveMirroring::Unknown => Mirroring::Unknown,
    };
    let rehearsal = policy.rehearsal.as_ref().map(|rehearsal| {
        let steps: Option<Vec<Action>> = rehearsal.steps.iter().map(|&step| known_action(step)).collect();
        match steps {
            Some(steps) if steps.len() <= MAX_STEPS => {
                Ok(Rehearsal { steps, any_reaction_time: rehearsal.any_reaction_time })
            }
            Some(steps) => Err(invalid("rehearsal.steps", format!("{} are more than {MAX_STEPS}", steps.len()))),
            None => Err(invalid("rehearsal.steps", "an action is not known".into())),
        }
    });
    let rehearsal = rehearsal.transpose()?;
    if policy.client_reference.len() > MAX_CLIENT_REFERENCE_BYTES {
        return Err(invalid("client_reference", format!("is longer than {MAX_CLIENT_REFERENCE_BYTES} bytes")));
    }
    if !policy.reference.is_empty() {
        engine.check_size(&policy.reference, "policy.reference")?;
    }
    let known = |check: &str, point: &str, field: &str| match engine.calibrations.get(check) {
        Some(loaded) if loaded.calibration.operating_point(point).is_none() => {
            let names: Vec<_> = loaded.calibration.operating_points.iter().map(|point| point.name.as_str()).collect();
            let reason = format!("{check} has no operating point of this name, only {}", names.join(", "));
            Err(Error::invalid(format!("policy.{field}"), "OPERATING_POINT_UNKNOWN", reason))
        }
        _ => Ok(()),
    };
    known(CHECK, &policy.operating_point, "operating_point")?;
    known("face_match", &policy.match_operating_point, "match_operating_point")?;
    Ok(Wanted {
        policy: Policy {
            actions,
            steps,
            step_ms: milliseconds(step),
            session_ms: milliseconds(session),
            mirroring,
            rehearsal,
        },
        operating_point: policy.operating_point,
        match_operating_point: policy.match_operating_point,
        reference: policy.reference,
        preview_is_mirrored: policy.preview_is_mirrored,
        with_signals: policy.with_signals,
        client_reference: policy.client_reference,
    })
}

fn duration(given: Option<&prost_types::Duration>, default: Duration) -> Result<Duration, String> {
    given.map_or(Ok(default), |given| Duration::try_from(*given).map_err(|_| "is no length of time".to_owned()))
}

/// Bits of the system's cryptographic generator.
fn system_chance() -> Chance {
    Box::new(|| {
        let mut bits = [0; 8];
        // It fails only where the kernel offers no source at all, and a challenge that can be guessed is worse than none.
        getrandom::fill(&mut bits).expect("the system's random source");
        u64::from_ne_bytes(bits)
    })
}

fn session_id() -> Result<String, Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| Error::internal(format!("the system's random source: {error}")))?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

// ---------------------------------------------------------------- to and from messages

fn known_action(action: i32) -> Option<Action> {
    proto::LiveAction::try_from(action).ok().and_then(action_of)
}

fn action_of(action: proto::LiveAction) -> Option<Action> {
    Some(match action {
        proto::LiveAction::Unspecified => return None,
        proto::LiveAction::TurnLeft => Action::TurnLeft,
        proto::LiveAction::TurnRight => Action::TurnRight,
        proto::LiveAction::LookUp => Action::LookUp,
        proto::LiveAction::LookDown => Action::LookDown,
        proto::LiveAction::Blink => Action::Blink,
        proto::LiveAction::Smile => Action::Smile,
        proto::LiveAction::OpenMouth => Action::OpenMouth,
        proto::LiveAction::MoveCloser => Action::MoveCloser,
    })
}

fn action_message(action: Action) -> proto::LiveAction {
    match action {
        Action::TurnLeft => proto::LiveAction::TurnLeft,
        Action::TurnRight => proto::LiveAction::TurnRight,
        Action::LookUp => proto::LiveAction::LookUp,
        Action::LookDown => proto::LiveAction::LookDown,
        Action::Blink => proto::LiveAction::Blink,
        Action::Smile => proto::LiveAction::Smile,
        Action::OpenMouth => proto::LiveAction::OpenMouth,
        Action::MoveCloser => proto::LiveAction::MoveCloser,
    }
}

fn side(side: Option<Side>) -> proto::LiveSide {
    match side {
        None => proto::LiveSide::Unspecified,
        Some(Side::Left) => proto::LiveSide::Left,
        Some(Side::Right) => proto::LiveSide::Right,
    }
}

fn step_result(step: &StepEnd) -> proto::LiveStepResult {
    proto::LiveStepResult {
        step: step.step as u32,
        action: action_message(step.action).into(),
        passed: step.passed,
        reaction_ms: step.reaction_ms.unwrap_or(0.0),
        duration_ms: step.duration_ms,
        frame: step.frame,
    }
}

fn signals(shown: Shown, told: &Told) -> proto::LiveSignals {
    let bounds = shown.region.face_bounds();
    let relative = told.relative.unwrap_or_default();
    proto::LiveSignals {
        r#box: Some(proto::Box { x: bounds.x, y: bounds.y, width: bounds.width, height: bounds.height }),
        yaw_deg: shown.signals.yaw_deg,
        pitch_deg: shown.signals.pitch_deg,
        roll_deg: shown.signals.roll_deg,
        yaw_from_neutral_deg: relative.yaw_deg,
        pitch_from_neutral_deg: relative.pitch_deg,
        eyes: relative.eyes,
        mouth: relative.mouth,
        smile: relative.smile_width,
        size: relative.size,
        face_presence: shown.signals.presence,
        live_probability: shown.live,
        landmarks: shown.landmarks.into_iter().map(|[x, y]| proto::Point { x, y }).collect(),
        neutral_known: told.relative.is_some(),
    }
}
