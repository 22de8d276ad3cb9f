//! Sessions with a made-up person who does what is asked, and with attackers who do something else.

use super::super::actions::testing::{neutral, terms};
use super::super::solid::testing::{head, print, relief};
use super::*;

/// What a face shows on one frame, in terms of what was asked.
#[derive(Debug, Clone, Copy, Default)]
struct Pose {
    yaw: f64,
    pitch: f64,
    smile: f64,
    mouth: f64,
    closed: f64,
    closer: f64,
}

impl Pose {
    fn of(action: Action, level: f64) -> Self {
        let mut pose = Self::default();
        match action {
            Action::TurnLeft => pose.yaw = 30.0 * level,
            Action::TurnRight => pose.yaw = -30.0 * level,
            Action::LookUp => pose.pitch = 22.0 * level,
            Action::LookDown => pose.pitch = -22.0 * level,
            Action::Blink => pose.closed = level,
            Action::Smile => pose.smile = level,
            Action::OpenMouth => pose.mouth = level,
            Action::MoveCloser => pose.closer = level,
        }
        pose
    }
}

/// Whose face it is and what of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Face {
    Person,
    OtherPerson,
    Print,
}

const FRAME_MS: f64 = 100.0 / 3.0;

fn face(pose: Pose, of: Face, frame: u32) -> FaceSeen {
    // The sway of a person: three rhythms that do not meet again.
    let t = f64::from(frame) / 30.0;
    let (sway_yaw, sway_pitch) = (1.2 * (t * 1.7).sin() + 0.7 * (t * 4.1).sin(), 0.8 * (t * 1.3).cos());
    let (yaw, pitch) = (pose.yaw + sway_yaw, pose.pitch + sway_pitch);
    let distance = 8.0 / (1.0 + 0.35 * pose.closer);
    let mut mesh = if of == Face::Print { print(yaw, pitch, 8.0) } else { head(yaw, pitch, distance) };
    let grown = 1.0 + 0.35 * pose.closer;
    mesh.to_picture.m[0][0] *= grown;
    mesh.to_picture.m[1][1] *= grown;
    let base = neutral();
    // The landmark model sees little of a print's turn.
    let seen = if of == Face::Print { 0.2 } else { 1.0 };
    let signals = Signals {
        yaw_deg: yaw * seen,
        pitch_deg: pitch * seen,
        eyes: base.eyes * (1.0 - 0.6 * pose.closed),
        mouth: base.mouth + 0.35 * pose.mouth,
        mouth_width: base.mouth_width + 0.12 * pose.smile,
        mouth_lift: base.mouth_lift + 0.05 * pose.smile,
        span_px: base.span_px * grown,
        ..base
    };
    let texture = if of == Face::OtherPerson { 211 } else { 7 };
    FaceSeen {
        mesh,
        signals,
        // The last term is the noise of a camera.
        thumb: std::array::from_fn(|at| (at as u8).wrapping_mul(texture) ^ u8::from(at as u32 == frame % 500)),
        luma: 120.0,
        crop_scale: 2.4 / grown,
        sample: None,
        embedding: None,
        relief: None,
    }
}

fn embedding(of: Face) -> Embedding {
    let values = if of == Face::OtherPerson { [0.0, 1.0] } else { [1.0, 0.1] };
    Embedding::normalised(&values).unwrap()
}

fn policy(steps: &[Action]) -> Policy {
    Policy {
        actions: Action::ALL.to_vec(),
        steps: 3,
        step_ms: 4000.0,
        session_ms: 60_000.0,
        mirroring: Mirroring::NotMirrored,
        rehearsal: (!steps.is_empty()).then(|| Rehearsal { steps: steps.to_vec(), any_reaction_time: false }),
    }
}

/// A session with its clock.
struct Run {
    session: Session,
    frame: u32,
    prompts: Vec<Prompt>,
    progress: f64,
}

impl Run {
    fn new(policy: Policy) -> Self {
        let mut state = 3_u64;
        let chance = Box::new(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state
        });
        Self { session: Session::new(policy, terms(), chance), frame: 0, prompts: Vec::new(), progress: 0.0 }
    }

    fn at_ms(&self) -> f64 {
        f64::from(self.frame) * FRAME_MS
    }

    /// Shows a frame.
    fn show(&mut self, seen: Option<(Pose, Face)>, second_face: Option<bool>) -> Told {
        let at_ms = self.at_ms();
        let face = seen.map(|(pose, of)| {
            let mut face = face(pose, of, self.frame);
            let wants = self.session.wants(at_ms, &face.signals, face.crop_scale);
            face.sample = wants.sample.then_some(Sample { live: 0.9, sharpness: 100.0 });
            let is_best = face.sample.is_some_and(|sample| self.session.would_be_best(&sample, &face.signals));
            face.embedding = (wants.embedding || is_best).then(|| embedding(of));
            face.relief = wants.relief.then(|| relief(&face.mesh));
            face
        });
        let told = self.session.see(Seen { index: self.frame, at_ms, frame_size: [640, 480], face, second_face });
        self.frame += 1;
        assert!(told.progress >= self.progress && told.progress <= 1.0, "progress fell: {told:?}");
        self.progress = told.progress;
        self.prompts.extend(told.prompt);
        told
    }

    fn pose(&mut self, pose: Pose) -> Option<Verdict> {
        self.show(Some((pose, Face::Person)), None).verdict
    }

    /// A person who does what `respond` makes of each prompt, after `reaction` frames.
    fn play(&mut self, reaction: u32, respond: impl Fn(usize, Action) -> Action) -> Verdict {
        let mut since = None;
        for _ in 0..2000 {
            let pose = match since {
                Some((began, action)) if self.frame >= began => {
                    let level = envelope(action, self.frame - began);
                    level.map_or(Pose::default(), |level| Pose::of(action, level))
                }
                _ => Pose::default(),
            };
            let told = self.show(Some((pose, Face::Person)), None);
            if let Some(verdict) = told.verdict {
                return verdict;
            }
            if let Some(prompt) = told.prompt {
                since = Some((self.frame + reaction, respond(prompt.step, prompt.action)));
            }
        }
        panic!("the session does not end");
    }
}

/// How far a natural movement is after so many frames; `None` when it is over.
fn envelope(action: Action, frames: u32) -> Option<f64> {
    let (rise, hold, fall) = if action == Action::Blink { (3, 3, 4) } else { (12, 8, 12) };
    let eased = |done: u32, of: u32| {
        let t = f64::from(done) / f64::from(of);
        t * t * (3.0 - 2.0 * t)
    };
    match frames {
        f if f < rise => Some(eased(f, rise)),
        f if f < rise + hold => Some(1.0),
        f if f < rise + hold + fall => Some(1.0 - eased(f - rise - hold, fall)),
        _ => None,
    }
}

fn obedient(_: usize, action: Action) -> Action {
    action
}

#[test]
fn a_person_who_does_what_is_asked_passes_each_action() {
    for action in Action::ALL {
        let mut run = Run::new(policy(&[action]));
        let verdict = run.play(12, obedient);
        assert_eq!(verdict.reasons, [], "{action:?} {verdict:?}");
        let [step] = verdict.steps.as_slice() else { panic!("{verdict:?}") };
        assert!(step.passed && (300.0..900.0).contains(&step.reaction_ms.unwrap()), "{step:?}");
        assert!(verdict.samples >= 6 && verdict.live == Some(0.9));
        assert_eq!(run.progress, 1.0);
    }
}

#[test]
fn a_drawn_challenge_is_passed_and_differs_from_one_session_to_the_next() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..12_u64 {
        let mut run = Run::new(policy(&[]));
        let mut state = seed;
        run.session.challenge = Challenge::new(
            3,
            Action::ALL.to_vec(),
            Vec::new(),
            Box::new(move || {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z ^ (z >> 27)
            }),
        );
        let verdict = run.play(12, obedient);
        assert_eq!(verdict.reasons, [], "{:?} {verdict:?}", run.prompts);
        assert_eq!(run.prompts.len(), 3);
        seen.insert(run.prompts.iter().map(|prompt| prompt.action).collect::<Vec<_>>());
    }
    assert!(seen.len() > 8, "{seen:?}");
}

#[test]
fn no_prompt_comes_before_the_neutral_face_is_known_and_none_before_the_face_is_at_rest() {
    let mut run = Run::new(policy(&[Action::TurnLeft, Action::Smile]));
    let verdict = run.play(12, obedient);
    assert_eq!(verdict.reasons, []);
    assert_eq!(run.prompts.len(), 2);
    let mut run = Run::new(policy(&[Action::TurnLeft, Action::Smile]));
    // The head is turned from the first prompt on and never comes back.
    while run.prompts.is_empty() {
        assert_eq!(run.pose(Pose::default()), None);
        assert!(run.frame < 100);
    }
    assert!(run.at_ms() > 700.0);
    let ended = (0..900).find_map(|frame| run.pose(Pose::of(Action::TurnLeft, (f64::from(frame) / 20.0).min(1.0))));
    assert_eq!(run.prompts.len(), 1);
    assert_eq!(ended.unwrap().reasons, [Reason::NoNeutralFace]);
}

#[test]
fn another_action_than_the_one_asked_for_fails() {
    let pairs = [
        (Action::TurnLeft, Action::TurnRight),
        (Action::LookUp, Action::LookDown),
        (Action::TurnRight, Action::LookDown),
        (Action::Smile, Action::TurnLeft),
        (Action::Blink, Action::OpenMouth),
        (Action::MoveCloser, Action::TurnRight),
    ];
    for (asked, done) in pairs {
        let verdict = Run::new(policy(&[asked])).play(12, |_, _| done);
        assert_eq!(verdict.reasons, [Reason::WrongAction], "{asked:?} {done:?}");
        assert!(!verdict.steps[0].passed);
    }
}

#[test]
fn the_right_actions_in_another_order_fail() {
    let order = [Action::TurnLeft, Action::LookUp, Action::TurnRight];
    let verdict = Run::new(policy(&order)).play(12, |step, _| order[(step + 1) % 3]);
    assert_eq!(verdict.reasons, [Reason::WrongAction]);
}

#[test]
fn nothing_done_is_an_action_missing() {
    let mut run = Run::new(policy(&[Action::Smile]));
    let verdict = run.play(12, |_, _| Action::MoveCloser);
    assert_eq!(verdict.reasons, [Reason::ActionMissing]);
}

#[test]
fn an_action_that_begins_with_its_prompt_is_too_early_unless_the_rehearsal_allows_it() {
    let steps = [Action::TurnLeft];
    assert_eq!(Run::new(policy(&steps)).play(0, obedient).reasons, []);
    // A clip in which the head turns at once: the rise takes 12 frames, and half of it is less than a reaction.
    let quick = |any_reaction_time: bool| {
        let mut policy = policy(&steps);
        policy.rehearsal = Some(Rehearsal { steps: steps.to_vec(), any_reaction_time });
        let mut run = Run::new(policy);
        while run.prompts.is_empty() {
            assert_eq!(run.pose(Pose::default()), None);
        }
        for level in [0.1, 0.22, 0.34, 0.46] {
            if let Some(verdict) = run.pose(Pose::of(Action::TurnLeft, level)) {
                return verdict.reasons;
            }
        }
        loop {
            let back = if run.session.steps.is_empty() { 1.0 } else { 0.0 };
            if let Some(verdict) = run.pose(Pose::of(Action::TurnLeft, back)) {
                return verdict.reasons;
            }
        }
    };
    assert_eq!(quick(false), [Reason::ActionTooEarly]);
    assert_ne!(quick(true), [Reason::ActionTooEarly]);
}

#[test]
fn a_second_face_stops_the_challenge_and_only_delays_its_beginning() {
    let mut run = Run::new(policy(&[Action::TurnLeft]));
    for _ in 0..60 {
        let told = run.show(Some((Pose::default(), Face::Person)), Some(true));
        assert_eq!((told.instruction, told.verdict, told.prompt), (Instruction::MultipleFaces, None, None));
    }
    while run.prompts.is_empty() {
        assert_eq!(run.show(Some((Pose::default(), Face::Person)), Some(false)).verdict, None);
    }
    assert_eq!(run.show(Some((Pose::default(), Face::Person)), Some(true)).verdict, None, "one may be a slip");
    let ended = run.show(Some((Pose::default(), Face::Person)), Some(true)).verdict;
    assert_eq!(ended.unwrap().reasons, [Reason::MultipleFaces]);
}

/// Plays until the prompt, then something else.
fn after_prompt(steps: &[Action], then: impl Fn(u32) -> Option<(Pose, Face)>) -> Verdict {
    let mut run = Run::new(policy(steps));
    while run.prompts.is_empty() {
        assert_eq!(run.pose(Pose::default()), None);
    }
    (0..2000).find_map(|frame| run.show(then(frame), None).verdict).expect("an end")
}

#[test]
fn another_person_in_mid_challenge_is_seen_as_a_cut_and_after_a_gap_as_another_face() {
    let cut = after_prompt(&[Action::TurnLeft], |_| Some((Pose::default(), Face::OtherPerson)));
    assert_eq!(cut.reasons, [Reason::FramesCut]);
    // The face is gone for half a second, and another one comes back.
    let swapped =
        after_prompt(&[Action::TurnLeft], |frame| (frame >= 15).then_some((Pose::default(), Face::OtherPerson)));
    assert_eq!(swapped.reasons, [Reason::FaceChanged]);
}

#[test]
fn a_face_that_goes_away_is_lost_and_one_that_never_comes_is_no_face() {
    assert_eq!(after_prompt(&[Action::TurnLeft], |_| None).reasons, [Reason::FaceLost]);
    let mut run = Run::new(policy(&[]));
    let ended = (0..1000).find_map(|_| run.show(None, Some(false)).verdict).unwrap();
    assert_eq!(ended.reasons, [Reason::NoFace]);
    assert!((9_900.0..10_200.0).contains(&run.at_ms()));
}

#[test]
fn a_print_that_is_waved_is_flat() {
    let waved = after_prompt(&[Action::TurnLeft], |frame| {
        let t = f64::from(frame) / 30.0;
        Some((Pose { yaw: 40.0 * (t * 2.0).sin(), pitch: 20.0 * (t * 1.1).sin(), ..Pose::default() }, Face::Print))
    });
    assert_eq!(waved.reasons, [Reason::FaceFlat]);
}

#[test]
fn a_print_that_is_brought_closer_lacks_perspective() {
    let mut run = Run::new(policy(&[Action::MoveCloser]));
    while run.prompts.is_empty() {
        assert_eq!(run.show(Some((Pose::default(), Face::Print)), None).verdict, None);
    }
    let ended = (0..200).find_map(|frame| {
        let closer = (f64::from(frame - 12) / 15.0).clamp(0.0, 1.0);
        run.show(Some((Pose { closer, ..Pose::default() }, Face::Print)), None).verdict
    });
    assert_eq!(ended.unwrap().reasons, [Reason::NoParallax]);
}

#[test]
fn who_was_seen_before_the_challenge_is_neither_the_best_frame_nor_a_sample() {
    let mut run = Run::new(policy(&[Action::TurnLeft]));
    // Not still, so that it does not settle; sharp and frontal all the same.
    for frame in 0..40 {
        let pose = Pose { yaw: if frame % 2 == 0 { 0.0 } else { 8.0 }, ..Pose::default() };
        let told = run.show(Some((pose, Face::OtherPerson)), None);
        assert!(!told.is_best && told.verdict.is_none());
    }
    assert_eq!(run.session.samples.len(), 0);
    let verdict = run.session.end(Reason::CallerEnded);
    assert_eq!((verdict.live, verdict.is_unsettled), (Some(0.9), true), "told, and of no use to pass");
}

#[test]
fn a_person_who_steps_in_for_the_action_alone_is_another_face() {
    let mut run = Run::new(policy(&[Action::TurnLeft]));
    while run.prompts.is_empty() {
        assert_eq!(run.pose(Pose::default()), None);
    }
    assert_eq!(run.pose(Pose::default()), None);
    // Too long for a cut to be seen, too short to be an interruption.
    run.frame += 14;
    let ended = (0..60).find_map(|frame| {
        let level = envelope(Action::TurnLeft, frame).unwrap_or(0.0);
        run.show(Some((Pose::of(Action::TurnLeft, level), Face::OtherPerson)), None).verdict
    });
    assert_eq!(ended.unwrap().reasons, [Reason::FaceChanged]);
}

#[test]
fn a_diagonal_turn_is_no_turn_and_a_smile_does_not_make_a_turn_flat() {
    let diagonal = after_prompt(&[Action::TurnLeft], |frame| {
        let level = (f64::from(frame) / 14.0).min(1.0);
        Some((Pose { yaw: 24.0 * level, pitch: -18.0 * level, ..Pose::default() }, Face::Person))
    });
    assert!([Reason::ActionMissing, Reason::WrongAction].contains(&diagonal.reasons[0]), "{diagonal:?}");
    let mut run = Run::new(policy(&[Action::TurnLeft]));
    while run.prompts.is_empty() {
        assert_eq!(run.pose(Pose::default()), None);
    }
    let began = run.frame + 10;
    let ended = (0..300).find_map(|_| {
        let frames = run.frame.checked_sub(began).unwrap_or(u32::MAX);
        let level = envelope(Action::TurnLeft, frames).unwrap_or(0.0);
        run.pose(Pose { smile: 0.8 * level, ..Pose::of(Action::TurnLeft, level) })
    });
    assert_eq!(ended.unwrap().reasons, []);
}

#[test]
fn frames_that_stop_for_long_interrupt_the_challenge_and_time_ends_it() {
    let mut run = Run::new(policy(&[Action::TurnLeft]));
    while run.prompts.is_empty() {
        assert_eq!(run.pose(Pose::default()), None);
    }
    run.frame += 20;
    assert_eq!(run.pose(Pose::default()).unwrap().reasons, [Reason::FramesInterrupted]);
    let mut run = Run::new(Policy { session_ms: 5000.0, ..policy(&[Action::TurnLeft]) });
    run.frame = 160;
    assert_eq!(run.pose(Pose::default()).unwrap().reasons, [Reason::SessionExpired]);
}

#[test]
fn mirrored_frames_turn_the_other_way_and_unknown_ones_are_told_by_the_first_turn() {
    let with = |mirroring, steps: &[Action], respond: &dyn Fn(usize, Action) -> Action| {
        let mut run = Run::new(Policy { mirroring, ..policy(steps) });
        run.play(12, respond).reasons
    };
    let swap = |_: usize, action: Action| match action {
        Action::TurnLeft => Action::TurnRight,
        Action::TurnRight => Action::TurnLeft,
        other => other,
    };
    let both = [Action::TurnLeft, Action::TurnRight];
    assert_eq!(with(Mirroring::Mirrored, &both, &swap), []);
    assert_eq!(with(Mirroring::Mirrored, &both, &obedient), [Reason::WrongAction]);
    assert_eq!(with(Mirroring::Unknown, &both, &swap), []);
    assert_eq!(with(Mirroring::Unknown, &both, &obedient), []);
    // The first turn says that the frames are mirrored, the second that they are not.
    assert_eq!(with(Mirroring::Unknown, &both, &|_, _| Action::TurnRight), [Reason::WrongAction]);
}

#[test]
fn too_few_frames_at_rest_leave_passive_liveness_unanswered() {
    let mut run = Run::new(policy(&[Action::TurnLeft]));
    run.session.samples.clear();
    let verdict = run.session.end(Reason::CallerEnded);
    assert_eq!((verdict.reasons.as_slice(), verdict.live), ([Reason::CallerEnded].as_slice(), None));
}

#[test]
fn the_lower_quartile_lets_one_bad_frame_in_four_pass_and_no_more() {
    let mut run = Run::new(policy(&[]));
    let mut live = |samples: &[f64]| {
        run.session.samples = samples.to_vec();
        run.session.end(Reason::CallerEnded).live
    };
    assert_eq!(live(&[0.0, 0.9, 0.9, 0.9, 0.9, 0.9]), Some(0.9));
    assert_eq!(live(&[0.0, 0.0, 0.9, 0.9, 0.9, 0.9]), Some(0.0));
    assert_eq!(live(&[0.9; 5]), None);
}
