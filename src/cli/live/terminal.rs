//! Shows a session on the terminal while it runs: a line for each thing that is told once, and one line that is rewritten with each frame.
//!
//! Called by `live`. Where standard output is no terminal, the instruction is printed as a line when it changes. With `--json` each event is
//! one line.

use std::io::{IsTerminal as _, Stdout, Write as _};

use super::words::{action_word, instruction_in_words, prompt_in_words, to_json};
use crate::api::proto::verify_event;
use crate::api::proto::verify_live_event::Event;
use crate::api::proto::{CheckResult, LiveDecision, LiveFeedback, LiveStepResult, Summary, VerifyLiveEvent};
use crate::cli::connect::Failure;
use crate::cli::report::{Paint, Report, warning_to_text};

/// Marks of the progress bar; with all else the line stays within 80 columns.
const BAR: usize = 20;

/// Goes to the start of the line and clears it.
const CLEAR: &str = "\r\x1b[2K";

pub struct Terminal {
    out: Stdout,
    report: Report,
    json: bool,
    paint: Paint,
    /// Whether a line can be rewritten.
    rewrites: bool,
    /// Whether the line that is rewritten is there.
    shown: bool,
    state: State,
}

/// What the last events said.
#[derive(Debug, Default)]
struct State {
    steps: u32,
    /// Counted from 1; 0 before the first prompt.
    step: u32,
    instruction: String,
    warning: String,
}

impl Terminal {
    pub fn new(json: bool) -> Self {
        let out = std::io::stdout();
        let paint = Paint { on: crate::cli::colour_wanted(&out) };
        let rewrites = !json && out.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { out, report: Report::to_stdout(json), json, paint, rewrites, shown: false, state: State::default() }
    }

    /// Shows one event.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn event(&mut self, event: &VerifyLiveEvent) -> Result<(), Failure> {
        if self.json {
            return self.write(&format!("{}\n", to_json(event)));
        }
        let mut text = self.state.lines(event, self.rewrites, self.paint);
        if self.rewrites {
            if self.shown {
                text.insert_str(0, CLEAR);
            }
            self.shown = matches!(event.event, Some(Event::Feedback(_)));
            if let Some(Event::Feedback(feedback)) = &event.event {
                text += &self.state.status(feedback, self.paint);
            }
        }
        self.write(&text)?;
        match &event.event {
            Some(Event::Decision(decision)) => self.decision(decision),
            _ => Ok(()),
        }
    }

    /// Ends the line that is rewritten, so that what follows begins on one of its own.
    pub fn leave(&mut self) {
        if std::mem::take(&mut self.shown) {
            // Only for the eye.
            let _ = self.write("\n");
        }
    }

    /// Results, reasons and counts, and the outcome as the last line.
    fn decision(&mut self, decision: &LiveDecision) -> Result<(), Failure> {
        let results: Vec<&CheckResult> = decision.liveness.iter().chain(&decision.face_match).collect();
        for result in &results {
            self.report.event(None, &verify_event::Event::Result((*result).clone()))?;
        }
        self.write(&decision_lines(decision, self.paint))?;
        let summary = Summary {
            outcome: decision.outcome,
            outcomes: results.iter().map(|result| (result.check.clone(), result.outcome)).collect(),
            duration_ms: decision.duration_ms,
        };
        self.report.event(None, &verify_event::Event::Summary(summary))
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }
}

impl State {
    /// The lines that stay. Feedback leaves one where no line is rewritten and the instruction has changed.
    fn lines(&mut self, event: &VerifyLiveEvent, rewrites: bool, paint: Paint) -> String {
        let margin = paint.dim(&format!("{:9.1} ms ", event.elapsed_ms)) + " ";
        match &event.event {
            Some(Event::Started(started)) => {
                self.steps = started.steps;
                format!("{margin}session {}, steps: {}\n", started.session_id, started.steps)
            }
            Some(Event::Prompt(prompt)) => {
                self.step = prompt.step + 1;
                let step = paint.bold(&format!("step {} of {}", self.step, self.steps));
                format!("{margin}{step}: {}\n", prompt_in_words(prompt))
            }
            Some(Event::Feedback(feedback)) => {
                let mut text = String::new();
                let code = feedback.warning.as_ref().map_or("", |warning| &warning.code);
                // A camera that sends one bad frame sends many.
                if self.warning != code {
                    code.clone_into(&mut self.warning);
                    text.extend(
                        feedback.warning.iter().map(|warning| format!("{margin}{}\n", warning_to_text(warning, paint))),
                    );
                }
                if self.instruction != feedback.instruction {
                    self.instruction.clone_from(&feedback.instruction);
                    if !rewrites {
                        text += &format!("{margin}{}\n", instruction_in_words(&self.instruction));
                    }
                }
                text
            }
            Some(Event::Step(step)) => format!("{margin}{}\n", step_to_text(step, paint)),
            Some(Event::Decision(_)) | None => String::new(),
        }
    }

    /// The line that is rewritten.
    fn status(&self, feedback: &LiveFeedback, paint: Paint) -> String {
        let step = if self.step == 0 { String::new() } else { format!("step {} of {}", self.step, self.steps) };
        let words = instruction_in_words(&feedback.instruction);
        // Instructions of a later daemon may be longer than the line.
        let words: String = words.chars().take(40).collect();
        format!("[{}] {} {}", bar(feedback.progress), paint.dim(&format!("{step:<11}")), paint.bold(&words))
    }
}

/// `####--------` for a third.
fn bar(progress: f64) -> String {
    // NaN becomes 0.
    let done = (progress.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    "#".repeat(done) + &"-".repeat(BAR - done)
}

fn step_to_text(step: &LiveStepResult, paint: Paint) -> String {
    let action = action_word(step.action());
    if step.passed {
        format!("shown: {action}, begun after {:.0} ms, done after {:.0} ms", step.reaction_ms, step.duration_ms)
    } else {
        format!("{}: {action}", paint.warning("not shown"))
    }
}

fn decision_lines(decision: &LiveDecision, paint: Paint) -> String {
    let mut lines = Vec::new();
    let mut line = |label: &str, text: String| {
        lines.push(format!("{:13} {} {text}\n", "", paint.dim(&format!("{label:<13}"))));
    };
    for reason in &decision.reasons {
        line("reason", warning_to_text(reason, paint));
    }
    for warning in &decision.warnings {
        line("warning", warning_to_text(warning, paint));
    }
    if !decision.best_frame.is_empty() {
        line("best frame", decision.best_frame_index.to_string());
    }
    let LiveDecision { frames_received, frames_processed, frames_dropped, .. } = decision;
    line("frames", format!("received {frames_received}, looked at {frames_processed}, dropped {frames_dropped}"));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::{LiveAction, LivePrompt, LiveStarted, Warning};

    const PLAIN: Paint = Paint { on: false };

    fn lines(state: &mut State, rewrites: bool, event: Event) -> String {
        state.lines(&VerifyLiveEvent { elapsed_ms: 40.0, event: Some(event) }, rewrites, PLAIN)
    }

    fn feedback(instruction: &str) -> Event {
        Event::Feedback(LiveFeedback { instruction: instruction.into(), progress: 0.5, ..LiveFeedback::default() })
    }

    #[test]
    fn an_instruction_is_a_line_when_it_changes() {
        let mut state = State::default();
        assert_eq!(lines(&mut state, false, feedback("HOLD_STILL")), "     40.0 ms  hold still\n");
        assert_eq!(lines(&mut state, false, feedback("HOLD_STILL")), "");
        assert_eq!(lines(&mut state, true, feedback("NO_FACE")), "");
    }

    #[test]
    fn steps_are_counted_from_one() {
        let mut state = State::default();
        lines(&mut state, true, Event::Started(LiveStarted { steps: 3, ..LiveStarted::default() }));
        let prompt = LivePrompt { step: 1, action: LiveAction::Smile.into(), ..LivePrompt::default() };
        assert_eq!(lines(&mut state, true, Event::Prompt(prompt)), "     40.0 ms  step 2 of 3: smile\n");
        let Event::Feedback(feedback) = feedback("NOW_SMILE") else { unreachable!() };
        assert_eq!(state.status(&feedback, PLAIN), "[##########----------] step 2 of 3 smile");
        let step = LiveStepResult {
            action: LiveAction::Smile.into(),
            passed: true,
            reaction_ms: 412.4,
            duration_ms: 1300.0,
            ..LiveStepResult::default()
        };
        assert_eq!(step_to_text(&step, PLAIN), "shown: smile, begun after 412 ms, done after 1300 ms");
    }

    #[test]
    fn the_line_that_is_rewritten_fits_on_a_terminal() {
        let state = State { steps: 8, step: 8, ..State::default() };
        let feedback = LiveFeedback { instruction: "A_VERY_LONG_".repeat(9), progress: 7.0, ..LiveFeedback::default() };
        assert!(state.status(&feedback, PLAIN).chars().count() < 80);
        assert_eq!(bar(f64::NAN), "-".repeat(BAR));
    }

    #[test]
    fn a_warning_is_printed_once_for_a_run_of_bad_frames() {
        let mut state = State::default();
        let mut bad = LiveFeedback {
            warning: Some(Warning { code: "IMAGE_TRUNCATED".into(), ..Warning::default() }),
            ..LiveFeedback::default()
        };
        bad.instruction = "FRAME_UNUSABLE".into();
        assert!(lines(&mut state, true, Event::Feedback(bad.clone())).contains("IMAGE_TRUNCATED"));
        assert_eq!(lines(&mut state, true, Event::Feedback(bad)), "");
    }

    #[test]
    fn a_decision_tells_its_reasons_and_frames() {
        let decision = LiveDecision {
            reasons: vec![Warning {
                code: "NO_STEP".into(),
                message: "nothing was shown".into(),
                ..Warning::default()
            }],
            frames_received: 9,
            ..LiveDecision::default()
        };
        let text = decision_lines(&decision, PLAIN);
        assert!(text.contains("reason        NO_STEP: nothing was shown\n"), "{text}");
        assert!(text.contains("received 9, looked at 0, dropped 0\n") && !text.contains("best frame"), "{text}");
    }
}
