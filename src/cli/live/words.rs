//! The events of a session in plain words and as JSON.
//!
//! Called by `live`, `terminal` and `draw`. The JSON keys are stable: the field names of the contract beside `event`, enums as their short
//! upper-case words. The picture of a decision is left out of JSON: its number of bytes stands in its place.

use std::borrow::Cow;

use prost_types::Duration;
use serde_json::{Value, json};

use crate::api::proto::verify_event;
use crate::api::proto::verify_live_event::Event;
use crate::api::proto::{
    CheckResult, LiveAction, LiveDecision, LiveFeedback, LivePrompt, LiveSide, LiveSignals, LiveStepResult,
    VerifyLiveEvent,
};
use crate::cli::report::{event_to_json, outcome_word, warning_to_json};

/// All that a person can be asked to do, with the words of the command line.
pub const ACTIONS: [(&str, LiveAction); 8] = [
    ("turn_left", LiveAction::TurnLeft),
    ("turn_right", LiveAction::TurnRight),
    ("look_up", LiveAction::LookUp),
    ("look_down", LiveAction::LookDown),
    ("blink", LiveAction::Blink),
    ("smile", LiveAction::Smile),
    ("open_mouth", LiveAction::OpenMouth),
    ("move_closer", LiveAction::MoveCloser),
];

/// `TURN_LEFT` for `LIVE_ACTION_TURN_LEFT`.
fn action_name(action: LiveAction) -> &'static str {
    let name = action.as_str_name();
    name.strip_prefix("LIVE_ACTION_").unwrap_or(name)
}

/// The word of the command line.
pub fn action_word(action: LiveAction) -> &'static str {
    ACTIONS.iter().find(|(_, known)| *known == action).map_or("unknown", |(word, _)| word)
}

/// The action of a word of the command line.
pub fn action_of(word: &str) -> Option<LiveAction> {
    ACTIONS.iter().find(|(known, _)| *known == word).map(|(_, action)| *action)
}

/// What to say to the person.
pub fn action_in_words(action: LiveAction) -> &'static str {
    match action {
        LiveAction::TurnLeft => "turn your head to your left",
        LiveAction::TurnRight => "turn your head to your right",
        LiveAction::LookUp => "look up",
        LiveAction::LookDown => "look down",
        LiveAction::Blink => "blink",
        LiveAction::Smile => "smile",
        LiveAction::OpenMouth => "open your mouth",
        LiveAction::MoveCloser => "move closer to the camera",
        LiveAction::Unspecified => "something that this client does not know",
    }
}

/// The instruction of a feedback in words for the person. One that this client does not know is shown as it is written.
pub fn instruction_in_words(code: &str) -> Cow<'static, str> {
    if let Some(action) = code.strip_prefix("NOW_").and_then(|name| action_of(&name.to_ascii_lowercase())) {
        return action_in_words(action).into();
    }
    match code {
        "NO_FACE" => "show your face to the camera".into(),
        "MULTIPLE_FACES" => "only one face may be in the picture".into(),
        "MOVE_CLOSER" => "come closer".into(),
        "MOVE_BACK" => "move back a little".into(),
        "CENTER_FACE" => "bring your face to the middle".into(),
        "TOO_DARK" => "it is too dark".into(),
        "TOO_BRIGHT" => "it is too bright".into(),
        "HOLD_STILL" => "hold still".into(),
        "LOOK_STRAIGHT" => "look straight at the camera".into(),
        "FRAME_UNUSABLE" => "this frame cannot be used".into(),
        "DONE" => "done".into(),
        other => other.to_lowercase().replace('_', " ").into(),
    }
}

/// `turn your head to your left (the right side of the frame)`.
pub fn prompt_in_words(prompt: &LivePrompt) -> String {
    let words = action_in_words(prompt.action());
    match side(prompt.frame_side()) {
        Some(side) => format!("{words} (the {} side of the frame)", side.to_lowercase()),
        None => words.to_owned(),
    }
}

fn side(side: LiveSide) -> Option<&'static str> {
    match side {
        LiveSide::Left => Some("LEFT"),
        LiveSide::Right => Some("RIGHT"),
        LiveSide::Unspecified => None,
    }
}

/// One event as a JSON object. Maps are sorted by key.
pub fn to_json(event: &VerifyLiveEvent) -> Value {
    let mut object = match &event.event {
        Some(Event::Started(started)) => json!({
            "event": "started",
            "session_id": started.session_id,
            "client_reference": started.client_reference,
            "steps": started.steps,
            "session_time_s": started.session_time.as_ref().map(seconds),
            "max_frames": started.max_frames,
            "max_bytes": started.max_bytes,
        }),
        Some(Event::Prompt(prompt)) => json!({
            "event": "prompt",
            "step": prompt.step,
            "action": action_name(prompt.action()),
            "frame_side": side(prompt.frame_side()),
            "preview_side": side(prompt.preview_side()),
            "frame": prompt.frame,
        }),
        Some(Event::Feedback(feedback)) => feedback_to_json(feedback),
        Some(Event::Step(step)) => {
            let mut object = step_to_json(step);
            object["event"] = json!("step");
            object
        }
        Some(Event::Decision(decision)) => decision_to_json(decision),
        // An event of a kind that this client does not know yet.
        None => json!({"event": "unknown"}),
    };
    object["elapsed_ms"] = json!(event.elapsed_ms);
    object
}

fn seconds(time: &Duration) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}

fn feedback_to_json(feedback: &LiveFeedback) -> Value {
    json!({
        "event": "feedback",
        "frame": feedback.frame,
        "instruction": feedback.instruction,
        "progress": feedback.progress,
        "step_progress": feedback.step_progress,
        "frames_dropped": feedback.frames_dropped,
        "warning": feedback.warning.as_ref().map(warning_to_json),
        "signals": feedback.signals.as_ref().map(signals_to_json),
    })
}

fn signals_to_json(signals: &LiveSignals) -> Value {
    json!({
        "box": signals.r#box.as_ref().map(|b| json!({"x": b.x, "y": b.y, "width": b.width, "height": b.height})),
        "yaw_deg": signals.yaw_deg,
        "pitch_deg": signals.pitch_deg,
        "roll_deg": signals.roll_deg,
        "yaw_from_neutral_deg": signals.yaw_from_neutral_deg,
        "pitch_from_neutral_deg": signals.pitch_from_neutral_deg,
        "eyes": signals.eyes,
        "mouth": signals.mouth,
        "smile": signals.smile,
        "size": signals.size,
        "face_presence": signals.face_presence,
        "live_probability": signals.live_probability,
        "landmarks": signals.landmarks.iter().map(|point| json!({"x": point.x, "y": point.y})).collect::<Vec<_>>(),
        "neutral_known": signals.neutral_known,
    })
}

fn step_to_json(step: &LiveStepResult) -> Value {
    json!({
        "step": step.step,
        "action": action_name(step.action()),
        "passed": step.passed,
        "reaction_ms": step.reaction_ms,
        "duration_ms": step.duration_ms,
        "frame": step.frame,
    })
}

fn decision_to_json(decision: &LiveDecision) -> Value {
    let result = |result: &Option<CheckResult>| {
        let result = result.clone()?;
        let mut object = event_to_json(None, &verify_event::Event::Result(result));
        object.as_object_mut()?.remove("event");
        Some(object)
    };
    let has_frame = !decision.best_frame.is_empty();
    json!({
        "event": "decision",
        "outcome": outcome_word(decision.outcome()),
        "reasons": decision.reasons.iter().map(warning_to_json).collect::<Vec<_>>(),
        "warnings": decision.warnings.iter().map(warning_to_json).collect::<Vec<_>>(),
        "steps": decision.steps.iter().map(step_to_json).collect::<Vec<_>>(),
        "liveness": result(&decision.liveness),
        "face_match": result(&decision.face_match),
        "best_frame_bytes": decision.best_frame.len(),
        "best_frame_index": has_frame.then_some(decision.best_frame_index),
        "frames_received": decision.frames_received,
        "frames_processed": decision.frames_processed,
        "frames_dropped": decision.frames_dropped,
        "duration_ms": decision.duration_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::{LiveStarted, Outcome, Warning};

    fn event(event: Event) -> Value {
        to_json(&VerifyLiveEvent { elapsed_ms: 12.5, event: Some(event) })
    }

    #[test]
    fn actions_have_the_words_of_the_command_line() {
        for (word, action) in ACTIONS {
            assert_eq!((action_of(word), action_word(action)), (Some(action), word));
            assert_eq!(action_name(action).to_ascii_lowercase(), word);
        }
        for wrong in ["", "unspecified", "TURN_LEFT", "wink"] {
            assert_eq!(action_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_instruction_of_the_contract_has_words_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        let mut codes: Vec<String> =
            ACTIONS.iter().map(|(_, action)| format!("NOW_{}", action_name(*action))).collect();
        codes.extend(
            [
                "NO_FACE",
                "MULTIPLE_FACES",
                "MOVE_CLOSER",
                "MOVE_BACK",
                "CENTER_FACE",
                "TOO_DARK",
                "TOO_BRIGHT",
                "HOLD_STILL",
                "LOOK_STRAIGHT",
                "FRAME_UNUSABLE",
                "DONE",
            ]
            .map(str::to_owned),
        );
        for code in &codes {
            let words = instruction_in_words(code);
            assert!(!words.contains('_') && words.chars().count() <= 40, "{words}");
            assert!(seen.insert(words.clone()), "{words} is said twice");
        }
        assert_eq!(instruction_in_words("NOW_TURN_LEFT"), "turn your head to your left");
        assert_eq!(instruction_in_words("TAKE_OFF_HAT"), "take off hat");
        assert_eq!(instruction_in_words("NOW_WINK"), "now wink");
    }

    #[test]
    fn a_prompt_names_the_side_of_the_frame() {
        let mut prompt = LivePrompt { action: LiveAction::TurnLeft.into(), ..LivePrompt::default() };
        assert_eq!(prompt_in_words(&prompt), "turn your head to your left");
        prompt.set_frame_side(LiveSide::Right);
        assert_eq!(prompt_in_words(&prompt), "turn your head to your left (the right side of the frame)");
        let object = event(Event::Prompt(prompt));
        assert_eq!(object["action"], "TURN_LEFT");
        assert_eq!(object["frame_side"], "RIGHT");
        assert_eq!(object["preview_side"], Value::Null);
    }

    #[test]
    fn the_picture_of_a_decision_is_told_by_its_size_alone() {
        let decision = LiveDecision {
            outcome: Outcome::Fail.into(),
            reasons: vec![Warning { code: "STEP_NOT_SHOWN".into(), ..Warning::default() }],
            liveness: Some(CheckResult {
                check: "active_liveness".into(),
                score: Some(0.25),
                ..CheckResult::default()
            }),
            best_frame: vec![1, 2, 3].into(),
            best_frame_index: 57,
            ..LiveDecision::default()
        };
        let object = event(Event::Decision(decision));
        assert_eq!(object["event"], "decision");
        assert_eq!(object["outcome"], "FAIL");
        assert_eq!(object["elapsed_ms"], 12.5);
        assert_eq!(object["best_frame_bytes"], 3);
        assert_eq!(object["best_frame_index"], 57);
        assert!(object.get("best_frame").is_none());
        assert_eq!(object["reasons"][0]["code"], "STEP_NOT_SHOWN");
        assert_eq!(object["liveness"]["check"], "active_liveness");
        assert!(object["liveness"].get("event").is_none());
        assert_eq!(object["face_match"], Value::Null);
        assert_eq!(event(Event::Decision(LiveDecision::default()))["best_frame_index"], Value::Null);
    }

    #[test]
    fn times_are_told_in_seconds_and_absent_signals_as_null() {
        let time = Duration { seconds: 1, nanos: 500_000_000 };
        assert_eq!(
            event(Event::Started(LiveStarted { session_time: Some(time), ..LiveStarted::default() }))["session_time_s"],
            1.5
        );
        let object = event(Event::Feedback(LiveFeedback::default()));
        assert_eq!(object["signals"], Value::Null);
        assert_eq!(to_json(&VerifyLiveEvent::default())["event"], "unknown");
    }
}
