//! `VerifyLive` and `vouch live` against the real daemon with real models: generated clips of a head that does what it is asked, and attacks that do not.

#[path = "common/clips/mod.rs"]
mod clips;
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clips::attacks::{self, FlatPhoto};
use clips::head::{Pose, Subject};
use clips::{Actor, Clip, ClipFrame, FRAME_US, Timing, head};
use common::{Client, Daemon, photo};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use vouch::api::proto::verify_live_event::Event;
use vouch::api::proto::verify_live_request::Message;
use vouch::api::proto::{
    GetStatusRequest, LiveAction, LiveDecision, LiveFeedback, LiveFrame, LiveMirroring, LivePolicy, LivePrompt,
    LiveRehearsal, LiveStarted, LiveStepResult, Outcome, VerifyLiveEvent, VerifyLiveRequest,
};

use LiveAction::{Blink, LookDown, LookUp, MoveCloser, OpenMouth, Smile, TurnLeft, TurnRight};

/// A session as its caller sees it.
struct Live {
    messages: Option<UnboundedSender<VerifyLiveRequest>>,
    events: Streaming<VerifyLiveEvent>,
}

/// What a session has told.
#[derive(Default)]
struct Told {
    started: Option<LiveStarted>,
    prompts: Vec<LivePrompt>,
    steps: Vec<LiveStepResult>,
    feedback: Vec<LiveFeedback>,
    decision: Option<LiveDecision>,
}

impl Told {
    fn decision(&self) -> &LiveDecision {
        self.decision.as_ref().expect("a decision")
    }

    fn reasons(&self) -> Vec<&str> {
        self.decision().reasons.iter().map(|reason| reason.code.as_str()).collect()
    }

    fn warnings(&self) -> Vec<&str> {
        self.feedback.iter().filter_map(|feedback| Some(feedback.warning.as_ref()?.code.as_str())).collect()
    }
}

fn request(message: Message) -> VerifyLiveRequest {
    VerifyLiveRequest { message: Some(message) }
}

impl Live {
    async fn open(client: &mut Client, policy: LivePolicy) -> Result<Self, Status> {
        let (messages, stream) = unbounded_channel();
        messages.send(request(Message::Policy(policy))).unwrap();
        let events = client.verify_live(UnboundedReceiverStream::new(stream)).await?.into_inner();
        Ok(Self { messages: Some(messages), events })
    }

    async fn start(daemon: &Daemon, policy: LivePolicy) -> Self {
        Self::open(&mut daemon.client().await, policy).await.unwrap()
    }

    fn send(&self, frame: &ClipFrame) {
        let &ClipFrame { index, captured_us, .. } = frame;
        let frame = LiveFrame { index, captured_us, image: frame.jpeg.clone() };
        // Nobody takes it once the session has ended.
        let _ = self.messages.as_ref().unwrap().send(request(Message::Frame(frame)));
    }

    /// No more frames.
    fn close(&mut self) {
        self.messages = None;
    }

    /// Takes the next event in; false at the end of the stream.
    async fn next(&mut self, told: &mut Told) -> Result<bool, Status> {
        let Some(event) = self.events.message().await? else { return Ok(false) };
        match event.event.unwrap() {
            Event::Started(started) => told.started = Some(started),
            Event::Prompt(prompt) => told.prompts.push(prompt),
            Event::Feedback(feedback) => told.feedback.push(feedback),
            Event::Step(step) => told.steps.push(step),
            Event::Decision(decision) => told.decision = Some(decision),
        }
        Ok(true)
    }

    /// Everything up to the end of the stream.
    async fn rest(mut self, mut told: Told) -> Told {
        while self.next(&mut told).await.unwrap() {}
        told
    }

    /// Frames one at a time, the next when the one before was judged; `frames` is told each prompt, and gives `None` when it has no more.
    async fn play(mut self, mut frames: impl FnMut(Option<LivePrompt>) -> Option<ClipFrame>) -> Told {
        let mut told = Told::default();
        let mut prompts = 0;
        loop {
            let prompt = told.prompts.get(prompts).cloned();
            prompts = told.prompts.len();
            let Some(frame) = frames(prompt) else {
                self.close();
                return self.rest(told).await;
            };
            self.send(&frame);
            let judged = told.feedback.len();
            while told.feedback.len() == judged {
                if !self.next(&mut told).await.unwrap() {
                    return told;
                }
            }
        }
    }

    /// An actor that does what `respond` makes of each prompt.
    async fn act(self, mut actor: Actor, mut respond: impl FnMut(LiveAction, &mut Actor)) -> Told {
        self.play(|prompt| {
            if let Some(prompt) = prompt {
                respond(prompt.action(), &mut actor);
            }
            (actor.now_ms() < 60_000.0).then(|| actor.next_frame())
        })
        .await
    }

    /// A recorded clip.
    async fn show(self, clip: &Clip) -> Told {
        let mut frames = clip.frames.iter().cloned();
        self.play(|_| frames.next()).await
    }
}

/// Steps that are known beforehand; none: drawn. Capture times are not those of the test's clock.
fn rehearsal(steps: &[LiveAction]) -> LivePolicy {
    let steps = steps.iter().map(|step| i32::from(*step)).collect();
    LivePolicy { rehearsal: Some(LiveRehearsal { steps, any_reaction_time: false }), ..LivePolicy::default() }
}

fn person(seed: u64) -> Actor {
    Actor::new(head("portrait.jpg"), seed)
}

fn obey(action: LiveAction, actor: &mut Actor) {
    actor.prompt(action);
}

async fn passes(daemon: &Daemon, steps: &[LiveAction], seed: u64) {
    let policy = LivePolicy { with_signals: true, ..rehearsal(steps) };
    let told = Live::start(daemon, policy).await.act(person(seed), obey).await;
    let decision = told.decision();
    assert_eq!((told.reasons(), decision.outcome()), (vec![], Outcome::Pass), "{steps:?} {:?}", told.steps);
    let asked: Vec<LiveAction> = told.prompts.iter().map(LivePrompt::action).collect();
    assert_eq!(asked, steps);
    assert!(told.steps.iter().all(|step| step.passed && step.reaction_ms > 150.0), "{:?}", told.steps);
}

// ---------------------------------------------------------------- persons

#[tokio::test]
async fn a_person_who_turns_looks_and_comes_closer_as_asked_passes() {
    passes(&Daemon::start(), &[TurnLeft, LookUp, TurnRight, LookDown, MoveCloser], 1).await;
}

#[tokio::test]
async fn a_person_who_blinks_smiles_and_opens_the_mouth_as_asked_passes() {
    passes(&Daemon::start(), &[Blink, Smile, OpenMouth], 2).await;
}

#[tokio::test]
async fn a_drawn_challenge_is_told_step_by_step_and_ends_with_a_decision_that_says_all() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit");
    let daemon = Daemon::start_with(&[("VOUCH_AUDIT__DIR", audit.to_str().unwrap())]);
    let policy = LivePolicy {
        reference: photo("selfie.jpg"),
        client_reference: "order 17".into(),
        preview_is_mirrored: true,
        steps: 2,
        actions: [TurnLeft, TurnRight, LookUp].map(i32::from).to_vec(),
        ..rehearsal(&[])
    };
    let told = Live::start(&daemon, policy).await.act(person(3), obey).await;
    let started = told.started.as_ref().unwrap();
    assert_eq!((started.client_reference.as_str(), started.steps, started.session_id.len()), ("order 17", 2, 32));
    let decision = told.decision();
    assert_eq!((told.reasons(), decision.outcome()), (vec![], Outcome::Pass));
    assert_eq!(decision.warnings[0].code, "REHEARSAL");
    assert_eq!((told.prompts.len(), told.steps.len(), decision.steps.len()), (2, 2, 2));
    for prompt in &told.prompts {
        // In frames that are not mirrored a turn to the person's left is one to the right; in the mirrored preview it is not.
        let sides = (prompt.frame_side().as_str_name(), prompt.preview_side().as_str_name());
        let expected = match prompt.action() {
            TurnLeft => ("LIVE_SIDE_RIGHT", "LIVE_SIDE_LEFT"),
            TurnRight => ("LIVE_SIDE_LEFT", "LIVE_SIDE_RIGHT"),
            LookUp => ("LIVE_SIDE_UNSPECIFIED", "LIVE_SIDE_UNSPECIFIED"),
            other => panic!("{other:?} was not among the actions"),
        };
        assert_eq!(sides, expected);
    }
    let progress: Vec<f64> = told.feedback.iter().map(|feedback| feedback.progress).collect();
    assert!(progress.windows(2).all(|pair| pair[0] <= pair[1]) && progress.last() == Some(&1.0), "{progress:?}");
    assert!(told.feedback.iter().all(|feedback| feedback.signals.is_none()), "not asked for");
    let liveness = decision.liveness.as_ref().unwrap();
    assert_eq!((liveness.check.as_str(), liveness.outcome()), ("active_liveness", Outcome::Pass));
    assert_eq!(liveness.operating_point.as_ref().unwrap().name, "standard");
    assert_eq!((liveness.models.len(), liveness.calibration_sha256.len()), (4, 64));
    let matched = decision.face_match.as_ref().unwrap();
    assert_eq!((matched.check.as_str(), matched.outcome()), ("face_match", Outcome::Pass));
    assert!(vouch::imaging::decode::decode(&decision.best_frame, &Default::default()).is_ok());
    assert_eq!(decision.frames_dropped, 0);
    assert_eq!(decision.frames_received, decision.frames_processed);

    // Its record is there before the call has ended, and says the same.
    let files = vouch::audit::store::files(&audit).unwrap();
    let log = std::fs::read_to_string(&files[0].1).unwrap();
    let record: serde_json::Value = serde_json::from_str(log.lines().next_back().unwrap()).unwrap();
    assert_eq!((&record["api"]["operation"], &record["status_code"]), (&"VerifyLive".into(), &"OK".into()));
    let noted = &record["unmapped"];
    let checks: Vec<_> =
        noted["checks"].as_array().unwrap().iter().map(|one| (&one["check"], &one["outcome"])).collect();
    assert_eq!(
        checks,
        [(&"active_liveness".into(), &"PASS".into()), (&"face_match".into(), &"PASS".into())],
        "{record}"
    );
    let kinds: Vec<_> = noted["media"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(noted["outcome"], "PASS", "{record}");
    assert_eq!(kinds, ["reference", "best_frame"], "{record}");
    let received = u64::from(decision.frames_received);
    assert!(noted["frames"]["count"].as_u64().unwrap() >= received && !log.contains("order 17"), "{record}");
}

#[tokio::test]
async fn the_person_of_another_reference_fails_the_match_and_nothing_else() {
    let daemon = Daemon::start();
    let policy = LivePolicy { reference: photo("other-person.jpg"), ..rehearsal(&[TurnLeft]) };
    let told = Live::start(&daemon, policy).await.act(person(4), obey).await;
    assert_eq!((told.reasons(), told.decision().outcome()), (vec!["FACE_MATCH_FAILED"], Outcome::Fail));
}

#[tokio::test]
async fn mirrored_frames_are_judged_as_the_policy_says() {
    let daemon = Daemon::start();
    let policy = |frames_are: LiveMirroring| LivePolicy { frames_are: frames_are.into(), ..rehearsal(&[TurnLeft]) };
    let mirrored = || person(5).mirrored();
    let told = Live::start(&daemon, policy(LiveMirroring::Mirrored)).await.act(mirrored(), obey).await;
    assert_eq!((told.reasons(), told.prompts[0].frame_side().as_str_name()), (vec![], "LIVE_SIDE_LEFT"));
    let told = Live::start(&daemon, policy(LiveMirroring::NotMirrored)).await.act(mirrored(), obey).await;
    assert_eq!(told.reasons(), ["WRONG_ACTION"]);
}

// ---------------------------------------------------------------- attacks

/// What a session over a subject that responds so ends with.
async fn ends(
    daemon: &Daemon,
    steps: &[LiveAction],
    actor: Actor,
    respond: impl FnMut(LiveAction, &mut Actor),
) -> Told {
    let told = Live::start(daemon, rehearsal(steps)).await.act(actor, respond).await;
    assert_eq!(told.decision().outcome(), Outcome::Fail, "{:?}", told.reasons());
    told
}

#[tokio::test]
async fn a_photograph_that_is_waved_to_look_like_a_turn_is_flat() {
    let daemon = Daemon::start();
    let print = || -> Arc<dyn Subject> { Arc::new(FlatPhoto::new(&head("portrait.jpg"))) };
    let slowly = Timing { onset_ms: 900.0, hold_ms: 300.0, release_ms: 900.0 };
    for pose in [Pose { yaw_deg: 62.0, ..Pose::default() }, Pose { yaw_deg: 45.0, pitch_deg: 30.0, ..Pose::default() }]
    {
        let told = ends(&daemon, &[TurnLeft], Actor::new(print(), 6), |_, actor| actor.prompt_pose(pose, slowly)).await;
        assert_eq!(told.reasons()[0], "FACE_FLAT", "{pose:?}");
    }
}

#[tokio::test]
async fn a_photograph_that_is_brought_closer_has_no_parallax() {
    let daemon = Daemon::start();
    let print: Arc<dyn Subject> = Arc::new(FlatPhoto::new(&head("portrait.jpg")));
    let told = ends(&daemon, &[MoveCloser], Actor::new(print, 7), obey).await;
    assert_eq!(told.reasons()[0], "NO_PARALLAX");
}

#[tokio::test]
async fn a_photograph_with_holes_for_the_eyes_can_blink_and_cannot_turn() {
    let daemon = Daemon::start();
    let print: Arc<dyn Subject> = Arc::new(FlatPhoto::with_holes(&head("portrait.jpg")));
    let slowly = Timing { onset_ms: 900.0, hold_ms: 300.0, release_ms: 900.0 };
    let told = ends(&daemon, &[Blink, TurnRight], Actor::new(print, 8), |action, actor| match action {
        Blink => actor.prompt(Blink),
        _ => actor.prompt_pose(Pose { yaw_deg: -60.0, ..Pose::default() }, slowly),
    })
    .await;
    assert_eq!(told.reasons()[0], "FACE_FLAT");
    assert_eq!(told.steps.iter().map(|step| step.passed).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn another_person_in_mid_challenge_is_a_cut_and_after_a_gap_another_face() {
    let daemon = Daemon::start();
    let told = ends(&daemon, &[TurnLeft], person(9), |_, actor| actor.replace_by(head("other-person.jpg"))).await;
    assert_eq!(told.reasons()[0], "FRAMES_CUT");
    // The frames stall for half a second, and then another person does what is asked.
    let (mut actor, mut other, mut stalled) = (person(10), Actor::new(head("other-person.jpg"), 11), false);
    let told = Live::start(&daemon, rehearsal(&[TurnLeft]))
        .await
        .play(|prompt| {
            if prompt.is_some() {
                stalled = true;
                (0..14).for_each(|_| drop(actor.next_frame()));
            }
            let mut frame = actor.next_frame();
            if stalled {
                frame.jpeg = other.next_frame().jpeg;
            }
            (frame.captured_us < 20_000_000).then_some(frame)
        })
        .await;
    assert_eq!(told.reasons()[0], "FACE_CHANGED");
}

#[tokio::test]
async fn the_right_actions_in_another_order_and_a_wrong_one_fail() {
    let daemon = Daemon::start();
    let order = [TurnLeft, LookUp];
    let mut step = 0;
    let told = ends(&daemon, &order, person(12), |_, actor| {
        step += 1;
        actor.prompt(order[step % 2]);
    })
    .await;
    assert_eq!(told.reasons(), ["WRONG_ACTION"]);
}

/// A clip of a person who turns left and looks up, made beforehand: briskly, as some do.
fn recording() -> Arc<Clip> {
    let brisk = Timing { onset_ms: 230.0, hold_ms: 400.0, release_ms: 400.0 };
    clips::cached("recording", || {
        clips::Performance::new(head("portrait.jpg"), 13)
            .rest(2600.0)
            .act_in(clips::pose_of(TurnLeft), brisk)
            .rest(900.0)
            .act_in(clips::pose_of(LookUp), brisk)
            .rest(1500.0)
            .clip()
    })
}

#[tokio::test]
async fn a_recording_passes_only_the_challenge_that_it_was_made_for_and_never_at_twice_its_speed() {
    let daemon = Daemon::start();
    let fitted = Live::start(&daemon, rehearsal(&[TurnLeft, LookUp])).await.show(&recording()).await;
    assert_eq!(fitted.reasons(), Vec::<&str>::new(), "{:?}", fitted.steps);
    let other = Live::start(&daemon, rehearsal(&[LookUp, TurnLeft])).await.show(&recording()).await;
    assert_eq!(other.reasons(), ["WRONG_ACTION"]);
    // Every second frame at the distance of a camera: no head turns so fast.
    let faster = attacks::faster(&recording(), 2);
    let told = Live::start(&daemon, rehearsal(&[TurnLeft, LookUp])).await.show(&faster).await;
    assert_eq!(
        (told.reasons()[0], told.decision().outcome()),
        ("MOTION_IMPOSSIBLE", Outcome::Fail),
        "{:?}",
        told.steps
    );
    // The clip with its own capture times, faster than they say: they leave the daemon's clock behind.
    let mut live = Live::start(&daemon, LivePolicy::default()).await;
    for frame in &recording().frames {
        live.send(frame);
    }
    live.close();
    assert_eq!(live.rest(Told::default()).await.reasons()[0], "CAPTURE_CLOCK_MISMATCH");
}

#[tokio::test]
async fn a_loop_is_seen_as_one_also_with_fresh_grain() {
    let daemon = Daemon::start();
    let swaying = clips::cached("swaying", || clips::Performance::new(head("portrait.jpg"), 14).rest(4500.0).clip());
    // The prompt is not obeyed: the clip is of a person who waits, moving as people do, played again and again.
    let nodding = clips::Performance::new(head("portrait.jpg"), 15)
        .rest(1200.0)
        .act_in(
            Pose { yaw_deg: 9.0, pitch_deg: 4.0, ..Pose::default() },
            Timing { onset_ms: 500.0, hold_ms: 100.0, release_ms: 500.0 },
        )
        .rest(300.0)
        .clip();
    let count = nodding.frames.len();
    let looped = attacks::looped(&nodding, 30..count, 4, 16);
    let told = Live::start(&daemon, rehearsal(&[Smile])).await.show(&looped).await;
    assert_eq!(told.reasons()[0], "FRAMES_LOOPED");
    // A person who only waits is none.
    let told = Live::start(&daemon, rehearsal(&[Smile])).await.show(&swaying).await;
    assert_eq!(told.reasons(), ["FRAMES_ENDED"]);
}

#[tokio::test]
async fn a_still_picture_of_the_right_person_does_nothing_that_is_asked() {
    let daemon = Daemon::start();
    let still = recording().frames[3].jpeg.clone();
    let policy =
        LivePolicy { step_time: Some(prost_types::Duration { seconds: 2, nanos: 0 }), ..rehearsal(&[TurnLeft]) };
    let told = Live::start(&daemon, policy.clone()).await.show(&attacks::frozen(&still, 150, 17)).await;
    assert_eq!((told.reasons()[0], told.decision().outcome()), ("ACTION_MISSING", Outcome::Fail));
    // The very same file again and again.
    let mut live = Live::start(&daemon, policy).await;
    for index in 0..60 {
        live.send(&ClipFrame { index, captured_us: u64::from(index) * FRAME_US, jpeg: still.clone() });
    }
    live.close();
    assert_eq!(live.rest(Told::default()).await.reasons()[0], "FRAMES_FROZEN");
}

#[tokio::test]
async fn frames_in_another_order_end_the_session_by_their_numbers_or_by_their_pictures() {
    let daemon = Daemon::start();
    let numbered = async |clip: &Clip| Live::start(&daemon, rehearsal(&[TurnLeft])).await.show(clip).await;
    let mut swapped = (*recording()).clone();
    swapped.frames.swap(10, 11);
    assert_eq!(numbered(&swapped).await.reasons()[0], "FRAMES_OUT_OF_ORDER");
    let mut backwards = (*recording()).clone();
    backwards.frames[12].captured_us = backwards.frames[5].captured_us;
    assert_eq!(numbered(&backwards).await.reasons()[0], "FRAMES_OUT_OF_ORDER");
    // Numbered anew after being mixed, during the turn: no head moves so.
    let mixed = attacks::reordered(&recording(), 78..110, 18);
    let told = numbered(&mixed).await;
    assert_eq!(told.decision().outcome(), Outcome::Fail);
    assert!(
        ["FRAMES_CUT", "MOTION_IMPOSSIBLE", "ACTION_TOO_EARLY"].contains(&told.reasons()[0]),
        "{:?}",
        told.reasons()
    );
    // A file that came before.
    let mut repeated = (*recording()).clone();
    repeated.frames[20].jpeg = repeated.frames[15].jpeg.clone();
    assert_eq!(numbered(&repeated).await.reasons()[0], "FRAMES_REPEATED");
}

#[tokio::test]
async fn a_second_face_that_joins_during_the_challenge_fails() {
    let daemon = Daemon::start();
    let two = attacks::two_faces(&head("portrait.jpg"), &head("other-person.jpg"), 19);
    // Before the challenge it only holds it up.
    let crowd = attacks::frozen(&two, 40, 20);
    let told = Live::start(&daemon, rehearsal(&[TurnLeft])).await.show(&crowd).await;
    assert_eq!((told.prompts.len(), told.reasons()[0]), (0, "FRAMES_ENDED"));
    assert!(told.feedback.iter().skip(1).any(|feedback| feedback.instruction == "MULTIPLE_FACES"));
}

// ---------------------------------------------------------------- bad input

#[tokio::test]
async fn a_damaged_frame_in_between_is_left_out_and_the_session_passes() {
    let daemon = Daemon::start();
    let mut actor = person(21);
    let told = Live::start(&daemon, rehearsal(&[TurnRight]))
        .await
        .play(|prompt| {
            if let Some(prompt) = prompt {
                actor.prompt(prompt.action());
            }
            let mut frame = actor.next_frame();
            match frame.index % 20 {
                7 => frame.jpeg = attacks::cut_short(&frame.jpeg, 0.6),
                13 => frame.jpeg = format!("no picture at all, number {}", frame.index).into(),
                _ => {}
            }
            (frame.index < 600).then_some(frame)
        })
        .await;
    assert_eq!(told.reasons(), Vec::<&str>::new());
    let warnings = told.warnings();
    for code in ["IMAGE_TRUNCATED", "IMAGE_UNSUPPORTED_FORMAT"] {
        assert!(warnings.contains(&code), "{code} {warnings:?}");
    }
    let unusable = told.feedback.iter().filter(|feedback| feedback.instruction == "FRAME_UNUSABLE").count();
    assert_eq!(unusable, warnings.len());
}

#[tokio::test]
async fn frames_of_another_size_end_the_session_and_large_ones_do_not() {
    let daemon = Daemon::start();
    let clip = recording();
    let mut changed = Clip::of(clip.frames[..12].iter().map(|frame| frame.jpeg.clone()));
    changed.frames[8].jpeg = attacks::resized(&changed.frames[8].jpeg, 320, 240);
    let told = Live::start(&daemon, rehearsal(&[TurnLeft])).await.show(&changed).await;
    assert_eq!((told.reasons()[0], told.decision().outcome()), ("FRAME_SIZE_CHANGED", Outcome::Inconclusive));
    let large = Clip::of(clip.frames[..8].iter().map(|frame| attacks::resized(&frame.jpeg, 3840, 2160)));
    let told = Live::start(&daemon, rehearsal(&[TurnLeft])).await.show(&large).await;
    assert_eq!((told.reasons()[0], told.warnings().len()), ("FRAMES_ENDED", 0));
    assert!(told.feedback.iter().all(|feedback| feedback.instruction == "HOLD_STILL"));
}

#[tokio::test]
async fn ten_seconds_without_a_face_end_the_session() {
    let daemon = Daemon::start();
    let empty = Clip {
        frames: (0..30)
            .map(|index| ClipFrame {
                index,
                captured_us: u64::from(index) * 500_000,
                jpeg: attacks::empty_scene(u64::from(index)),
            })
            .collect(),
    };
    let told = Live::start(&daemon, rehearsal(&[TurnLeft])).await.show(&empty).await;
    assert_eq!((told.reasons()[0], told.decision().outcome()), ("NO_FACE_DETECTED", Outcome::Inconclusive));
    assert!(told.feedback[..20].iter().all(|feedback| feedback.instruction == "NO_FACE"));
    assert!(told.decision().best_frame.is_empty());
}

#[tokio::test]
async fn ten_thousand_frames_at_once_end_at_the_bound_and_leave_the_daemon_as_it_was() {
    let daemon = Daemon::start_with(&[("VOUCH_LIVE__MAX_FRAMES", "2000")]);
    let mut client = daemon.client().await;
    // The daemon answers before the further sessions of its models are made.
    let before = loop {
        let status = client.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
        if status.models.iter().all(|model| model.sessions == model.sessions_planned) {
            break status.resident_bytes;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let frame = recording().frames[0].jpeg.clone();
    let mut live = Live::open(&mut client, rehearsal(&[TurnLeft])).await.unwrap();
    for index in 0..10_000_u32 {
        // Each is another file, by its last bytes.
        let mut jpeg = frame.to_vec();
        jpeg.extend_from_slice(&index.to_le_bytes());
        live.send(&ClipFrame { index, captured_us: u64::from(index) * 100, jpeg: jpeg.into() });
    }
    live.close();
    let told = live.rest(Told::default()).await;
    assert_eq!((told.reasons()[0], told.decision().outcome()), ("TOO_MANY_FRAMES", Outcome::Inconclusive));
    assert_eq!(told.decision().frames_received, 2001);
    assert!(told.decision().frames_processed < 300, "{}", told.decision().frames_processed);
    let after = client.get_status(GetStatusRequest::default()).await.unwrap().into_inner().resident_bytes;
    // Four connection windows' worth of messages and the working memory of models that had not yet run.
    assert!(after < before + (160 << 20), "{before} {after}");
}

#[tokio::test]
async fn a_policy_that_cannot_be_held_is_refused_with_its_field() {
    let daemon = Daemon::start();
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let unknown = || vec![99];
    let cases = [
        (LivePolicy { actions: unknown(), ..LivePolicy::default() }, "policy.actions"),
        (LivePolicy { actions: vec![1, 1], ..LivePolicy::default() }, "policy.actions"),
        (LivePolicy { frames_are: 9, ..LivePolicy::default() }, "policy.frames_are"),
        (LivePolicy { steps: 9, ..LivePolicy::default() }, "policy.steps"),
        (LivePolicy { step_time: seconds(0), ..LivePolicy::default() }, "policy.step_time"),
        (LivePolicy { session_time: seconds(4000), ..LivePolicy::default() }, "policy.session_time"),
        (LivePolicy { session_time: seconds(-1), ..LivePolicy::default() }, "policy.session_time"),
        (LivePolicy { operating_point: "lax".into(), ..LivePolicy::default() }, "policy.operating_point"),
        (LivePolicy { match_operating_point: "lax".into(), ..LivePolicy::default() }, "policy.match_operating_point"),
        (LivePolicy { client_reference: "x".repeat(129), ..LivePolicy::default() }, "policy.client_reference"),
        (LivePolicy { reference: Bytes::from_static(b"no picture"), ..LivePolicy::default() }, "policy.reference"),
        (LivePolicy { reference: attacks::empty_scene(1), ..LivePolicy::default() }, "policy.reference"),
        (
            LivePolicy {
                rehearsal: Some(LiveRehearsal { steps: vec![0], ..LiveRehearsal::default() }),
                ..LivePolicy::default()
            },
            "policy.rehearsal.steps",
        ),
        (
            LivePolicy {
                rehearsal: Some(LiveRehearsal { steps: vec![1; 9], ..LiveRehearsal::default() }),
                ..LivePolicy::default()
            },
            "policy.rehearsal.steps",
        ),
    ];
    let refused = |status: Status, field: &str| {
        assert_eq!(status.code(), Code::InvalidArgument, "{field} {status:?}");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    };
    for (policy, field) in cases {
        let mut live = Live::start(&daemon, policy).await;
        let mut told = Told::default();
        let status = loop {
            match live.next(&mut told).await {
                Ok(true) => {}
                Ok(false) => panic!("{field} was accepted: {:?}", told.decision),
                Err(status) => break status,
            }
        };
        refused(status, field);
    }
    // A frame in place of the policy, and a second policy.
    let (messages, stream) = unbounded_channel();
    messages.send(request(Message::Frame(LiveFrame::default()))).unwrap();
    let mut events =
        daemon.client().await.verify_live(UnboundedReceiverStream::new(stream)).await.unwrap().into_inner();
    refused(events.message().await.unwrap_err(), "policy");
    let mut live = Live::start(&daemon, rehearsal(&[TurnLeft])).await;
    live.messages.as_ref().unwrap().send(request(Message::Policy(LivePolicy::default()))).unwrap();
    let mut told = Told::default();
    assert!(live.next(&mut told).await.unwrap());
    refused(live.next(&mut told).await.unwrap_err(), "policy");
}

// ---------------------------------------------------------------- sessions

/// Waits until the daemon works for nobody.
async fn is_idle(client: &mut Client) {
    for _ in 0..200 {
        let status = client.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
        if (status.running, status.waiting) == (0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a place is still taken");
}

#[tokio::test]
async fn two_hundred_idle_sessions_cost_little_and_callers_that_vanish_free_them_at_once() {
    let daemon = Daemon::start_with(&[("VOUCH_LIVE__MAX_SESSIONS", "200")]);
    let mut client = daemon.client().await;
    let resident = async |client: &mut Client| {
        client.get_status(GetStatusRequest::default()).await.unwrap().into_inner().resident_bytes
    };
    let frame = recording().frames[0].clone();
    let open = async |client: &mut Client| {
        let mut live = Live::open(client, LivePolicy::default()).await.unwrap();
        assert!(live.next(&mut Told::default()).await.unwrap());
        live
    };
    // One session first that has seen a frame, so that what is made once is there.
    let mut first = open(&mut client).await;
    first.send(&frame);
    assert!(first.next(&mut Told::default()).await.unwrap());
    let before = resident(&mut client).await;
    let mut sessions = vec![first];
    let mut connections = Vec::new();
    for _ in 0..4 {
        let mut connection = daemon.client().await;
        for _ in 0..50 {
            if sessions.len() < 200 {
                sessions.push(open(&mut connection).await);
            }
        }
        connections.push(connection);
    }
    let after = resident(&mut client).await;
    let each = after.saturating_sub(before) / 199;
    assert!(each < 400 << 10, "{each} bytes for each idle session");
    let mut one_more = Live::open(&mut client, LivePolicy::default()).await.unwrap();
    let refused = one_more.next(&mut Told::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.get_error_details().retry_info().is_some());
    drop((sessions, connections));
    is_idle(&mut client).await;
    let began = Instant::now();
    loop {
        let mut live = Live::open(&mut client, LivePolicy::default()).await.unwrap();
        match live.next(&mut Told::default()).await {
            Ok(_) => break,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
        assert!(began.elapsed() < Duration::from_secs(5), "sessions are not freed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_caller_that_stops_sending_gets_a_decision() {
    let daemon = Daemon::start();
    let frame = recording().frames[0].clone();
    let began = Instant::now();
    let live = Live::start(&daemon, LivePolicy::default()).await;
    live.send(&frame);
    let told = live.rest(Told::default()).await;
    assert_eq!((told.reasons()[0], told.decision().outcome()), ("FRAMES_INTERRUPTED", Outcome::Inconclusive));
    assert!((Duration::from_secs(10)..Duration::from_secs(16)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

/// It was: frames of 20 MB were held for whoever took no byte of the decision, as many as there were streams.
#[tokio::test]
async fn who_does_not_read_a_decision_with_its_frame_loses_the_connection() {
    let daemon = Daemon::start();
    let mut actor = person(1);
    // A decoder reads a file as far as its picture.
    let padded = |frame: ClipFrame| ClipFrame { jpeg: [&frame.jpeg[..], &[0; 1 << 20]].concat().into(), ..frame };
    let frames: Vec<ClipFrame> = (0..45).map(|_| padded(actor.next_frame())).collect();
    let mut shown = frames.iter().cloned();
    let told = Live::start(&daemon, rehearsal(&[TurnLeft])).await.play(|_| shown.next()).await;
    assert!(told.decision().best_frame.len() > 1 << 20, "{:?}", told.reasons());

    // As many as all events before the decision have, and some of its own.
    let mut client = common::client_with_window(&daemon.socket(), 64 << 10).await;
    let mut live = Live::open(&mut client, rehearsal(&[TurnLeft])).await.unwrap();
    for frame in &frames {
        live.send(frame);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    live.close();
    let began = Instant::now();
    // Another stream of the same connection tells when that is gone.
    let mut other = client.scan_mrz(tokio_stream::pending()).await.unwrap().into_inner();
    let ended = other.message().await.unwrap_err();
    assert!(ended.get_error_details().error_info().is_none(), "not the daemon's word: {ended:?}");
    assert!(began.elapsed() > Duration::from_secs(15), "{:?}", began.elapsed());
    daemon.client().await.get_status(GetStatusRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_session_that_waits_for_frames_does_not_hold_up_the_drain() {
    let mut daemon = Daemon::start();
    let mut live = Live::start(&daemon, LivePolicy::default()).await;
    let mut told = Told::default();
    assert!(live.next(&mut told).await.unwrap());
    let asked = Instant::now();
    daemon.terminate();
    let ended = live.next(&mut told).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    drop(live);
    let status = tokio::task::spawn_blocking(move || daemon.child.wait().unwrap()).await.unwrap();
    assert!(status.success() && asked.elapsed() < Duration::from_secs(10), "{status} {:?}", asked.elapsed());
}

// ---------------------------------------------------------------- the command

#[tokio::test]
async fn the_command_plays_a_folder_of_frames_and_draws_what_was_seen() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    for frame in &recording().frames {
        std::fs::write(folder.path().join(format!("{:05}.jpg", frame.index)), &frame.jpeg).unwrap();
    }
    let drawn = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vouch"));
        command.arg("--socket").arg(daemon.socket()).arg("live").arg(folder.path()).args(arguments);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let out = drawn.path().join("frames");
    let (code, text, err) = run(&["--challenge", "turn_left,look_up", "--draw", out.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{text}");
    assert!(text.contains("PASS"), "{text}");
    assert!(std::fs::read_dir(&out).unwrap().count() > 100);
    let (code, text, _) = run(&["--challenge", "look_up,turn_left", "--json"]);
    assert_eq!(code, Some(1), "{text}");
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["outcome"]), (&"decision".into(), &"FAIL".into()), "{last}");
    assert_eq!(last["reasons"][0]["code"], "WRONG_ACTION");
}
