//! A measurement as JSON and as a report: headlines, tables, plots.
//!
//! Called by `vouch bench` once the steps are done. The renderers are those of [`crate::evaluation::report`]; the keys of the JSON are listed
//! in docs/performance.md.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::figures::{StepFigures, digits};
use super::machine::Machine;
use super::media::PictureFacts;
use super::plan::{LEAST_RISE, PLANNED_LOAD, Saturation};
use super::tables::{
    cost_table, counts_table, distributions, latency_table, mebibytes, parts_table, percentiles, ways_table,
};
use crate::api::proto::GetStatusResponse;
use crate::evaluation::report::{Block, Document, Headline, Section};

/// Version of the JSON.
pub const FORMAT: u32 = 1;

/// A whole measurement.
#[derive(Debug)]
pub struct Measurement {
    /// `YYYY-MM-DD`.
    pub date: String,
    pub machine: Machine,
    pub status: GetStatusResponse,
    /// The daemon's process, or why it was not looked at.
    pub pid: Result<i32, String>,
    pub settings: Settings,
    pub pictures: Vec<PictureFacts>,
    pub first_answers: Vec<FirstAnswer>,
    pub steps: Vec<StepFigures>,
    pub saturation: Option<Saturation>,
    /// Ended by the user before all steps were done.
    pub interrupted: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    pub scenario: String,
    pub warm_up_s: f64,
    pub duration_s: Option<f64>,
    /// Of a closed loop, in place of the duration.
    pub requests: Option<u64>,
    pub timeout_s: f64,
    pub max_in_flight: usize,
}

/// What a part of the mix was answered first, and has to be answered ever after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FirstAnswer {
    pub part: &'static str,
    pub weight: u32,
    pub outcome: &'static str,
    pub outcomes: BTreeMap<String, &'static str>,
}

impl Measurement {
    /// The result for programs.
    pub fn json(&self) -> Value {
        let models: Vec<Value> = self
            .status
            .models
            .iter()
            .map(|model| {
                json!({
                    "role": model.role, "name": model.name, "sha256": model.sha256, "provider": model.provider,
                    "sessions": model.sessions, "threads_per_session": model.threads_per_session,
                    "max_batch": model.max_batch,
                })
            })
            .collect();
        json!({
            "format": FORMAT,
            "date": self.date,
            "interrupted": self.interrupted,
            "machine": self.machine,
            "daemon": {
                "version": self.status.version,
                "runtime_version": self.status.runtime_version,
                "device": self.status.device_in_use,
                "pid": self.pid.as_ref().ok(),
                "max_running": self.status.max_running,
                "max_waiting": self.status.max_waiting,
                "models": models,
            },
            "settings": self.settings,
            "pictures": self.pictures,
            "first_answers": self.first_answers,
            "saturation": self.saturation.map(|found| json!({ "per_second": found.per_second, "callers": found.callers })),
            "steps": self.steps,
            "warnings": self.warnings(),
        })
    }

    /// The result for people.
    pub fn document(&self) -> Document {
        let scenario = &self.settings.scenario;
        Document {
            title: "Latency and throughput".into(),
            subtitle: format!(
                "{scenario}, {} on {} cores, {}, measured {}",
                if self.machine.cpu.is_empty() { "unnamed processor" } else { &self.machine.cpu },
                self.machine.cores,
                self.status.device_in_use,
                self.date
            ),
            headlines: self.headlines(),
            sections: vec![self.steps_section(), self.plots(), self.limits(), self.origin()],
        }
    }

    /// What limits the meaning of the whole.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.interrupted {
            warnings.push("the measurement was interrupted; steps are missing".into());
        }
        if let Err(reason) = &self.pid {
            warnings.push(format!("processor time and memory of the daemon are not known: {reason}"));
        }
        let fewer: Vec<&str> = self
            .status
            .models
            .iter()
            .filter(|model| model.sessions < model.sessions_planned)
            .map(|model| model.role.as_str())
            .collect();
        if !fewer.is_empty() {
            warnings.push(format!(
                "the daemon had not yet made all sessions of {}: let it run for a moment before measuring",
                fewer.join(", ")
            ));
        }
        for answer in &self.first_answers {
            // A barcode that a passport does not have is SKIPPED, after the same search.
            let undecided = answer.outcomes.iter().filter(|(_, outcome)| **outcome == "INCONCLUSIVE");
            let checks: Vec<&str> = undecided.map(|(check, _)| check.as_str()).collect();
            if !checks.is_empty() {
                warnings.push(format!(
                    "with these pictures the daemon cannot answer {} of {}: such an answer may cost less than one in use",
                    checks.join(", "),
                    answer.part
                ));
            }
        }
        if let Some(saturation) = self.saturation {
            let most = self.steps.iter().map(|step| step.answered_per_second).fold(0.0, f64::max);
            if most > saturation.per_second * (1.0 + LEAST_RISE) {
                warnings.push(format!(
                    "the search for saturation ended too early: another step had {} answers a second",
                    digits(most)
                ));
            }
        }
        warnings
    }

    /// The step whose latency a hurried reader takes home: at the load that capacity is planned for, or else the first.
    fn main_step(&self) -> Option<&StepFigures> {
        let planned = self.steps.iter().find(|step| step.share_of_saturation == Some(PLANNED_LOAD));
        planned.or_else(|| self.steps.first())
    }

    fn headlines(&self) -> Vec<Headline> {
        let mut headlines = Vec::new();
        let mut add = |label: &str, value: String, note: String| {
            headlines.push(Headline { label: label.into(), value, note });
        };
        if let Some(saturation) = self.saturation {
            let note = format!("closed loop, {} callers", saturation.callers);
            add("throughput at saturation", format!("{}/s", digits(saturation.per_second)), note);
        } else if let Some(best) =
            self.steps.iter().max_by(|a, b| a.answered_per_second.total_cmp(&b.answered_per_second))
        {
            add("highest throughput", format!("{}/s", digits(best.answered_per_second)), best.name());
        }
        if let Some(step) = self.main_step() {
            let name = step.name();
            if let Some(spread) = step.latency_ms {
                add("latency, median", format!("{} ms", digits(spread.p50)), format!("at {name}"));
                add("latency, 99 %", format!("{} ms", digits(spread.p99)), format!("at {name}"));
            }
            if let Some(cpu_s) = step.daemon_cpu_s_per_answer {
                add("processor time of an answer", format!("{} s", digits(cpu_s)), format!("at {name}"));
            }
        }
        let peak = self.steps.iter().filter_map(|step| Some(step.cost.daemon?.resident_bytes_peak)).max();
        if let Some(peak) = peak {
            add("resident memory", format!("{} MiB", mebibytes(peak)), "the most seen".into());
        }
        headlines
    }

    fn steps_section(&self) -> Section {
        let blocks =
            [latency_table, counts_table, cost_table, ways_table].map(|table| Block::Table(table(&self.steps)));
        let mut blocks: Vec<Block> = blocks.into();
        if self.first_answers.len() > 1 {
            blocks.insert(1, Block::Table(parts_table(&self.steps)));
        }
        Section { title: "Steps".into(), blocks }
    }

    fn plots(&self) -> Section {
        let open: Vec<&StepFigures> = self.steps.iter().filter(|step| step.offered_per_second.is_some()).collect();
        let closed: Vec<&StepFigures> = self.steps.iter().filter(|step| step.callers.is_some()).collect();
        let mut blocks = Vec::new();
        if !open.is_empty() {
            let plot = percentiles("Latency by offered load", "requests offered a second", &open, |step| {
                step.offered_per_second.unwrap_or(0.0)
            });
            blocks.push(Block::Plot(plot));
        }
        if !closed.is_empty() {
            let plot = percentiles("Latency by throughput, closed loop", "answers a second", &closed, |step| {
                step.answered_per_second
            });
            blocks.push(Block::Plot(plot));
        }
        blocks.push(Block::Plot(distributions(&self.steps)));
        Section { title: "Latency".into(), blocks }
    }

    fn limits(&self) -> Section {
        let mut blocks: Vec<Block> = self.warnings().into_iter().map(Block::Warning).collect();
        let limited = self.steps.iter().filter(|step| !step.warnings.is_empty());
        blocks.extend(limited.map(|step| Block::Warning(format!("{}: {}", step.name(), step.warnings.join("; ")))));
        blocks.push(Block::Paragraph(
            "Latencies of a given rate count from the moment at which a request was to begin, those of callers from sending: a caller that \
             waits for a slow answer sends nothing meanwhile, so that its percentiles flatter a server that stands still now and then."
                .into(),
        ));
        Section { title: "What the figures do not show".into(), blocks }
    }

    fn origin(&self) -> Section {
        let Settings { scenario, warm_up_s, duration_s, requests, timeout_s, max_in_flight } = &self.settings;
        let length = match (requests, duration_s) {
            (Some(requests), _) => format!("{requests} requests"),
            (None, duration_s) => format!("{} s", duration_s.unwrap_or_default()),
        };
        let mut facts = vec![
            ("scenario".to_owned(), scenario.clone()),
            ("processor".to_owned(), self.machine.cpu.clone()),
            ("cores".to_owned(), self.machine.cores.to_string()),
            ("kernel".to_owned(), self.machine.kernel.clone()),
            (
                "software".to_owned(),
                format!(
                    "vouchd {}, ONNX Runtime {}, {}",
                    self.status.version, self.status.runtime_version, self.status.device_in_use
                ),
            ),
            (
                "the daemon's limits".to_owned(),
                format!("{} running, {} waiting", self.status.max_running, self.status.max_waiting),
            ),
            ("step".to_owned(), format!("{length} after {warm_up_s} s of warm-up")),
            ("timeout".to_owned(), format!("{timeout_s} s")),
            ("most under way".to_owned(), max_in_flight.to_string()),
        ];
        for answer in &self.first_answers {
            let outcomes: Vec<String> =
                answer.outcomes.iter().map(|(check, outcome)| format!("{check} {outcome}")).collect();
            facts.push((
                format!("answer to {} (weight {})", answer.part, answer.weight),
                format!("{}: {}", answer.outcome, outcomes.join(", ")),
            ));
        }
        for picture in &self.pictures {
            let drawn = if picture.drawn { ", drawn" } else { "" };
            facts.push((picture.kind.into(), format!("{} bytes{drawn}, {}", picture.bytes, picture.sha256)));
        }
        facts.extend(self.status.models.iter().map(|model| {
            let how = format!("{} × {} threads, {}", model.sessions, model.threads_per_session, model.provider);
            (format!("model {}", model.role), format!("{}, {how}, {}", model.name, model.sha256))
        }));
        Section { title: "Where the figures come from".into(), blocks: vec![Block::Facts(facts)] }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::figures::Setting;
    use super::super::load::{End, Load, Outcome, Reply};
    use super::super::machine::Cost;
    use super::super::plan::Planned;
    use super::super::tally::{Begun, Tally};
    use super::*;
    use crate::api::proto::ModelStatus;
    use crate::evaluation::report::text;

    /// A step of 10 s with so many answers of 20 ms.
    fn step(load: Load, share: Option<f64>, answers: u64) -> StepFigures {
        let mut tally = Tally::new(1);
        let begun = Begun { counts: true, ended_in_window: true, lag: Duration::ZERO };
        let ended = Duration::from_millis(20);
        let reply = Reply { part: 0, end: End::Answered, accepted: None, first_result: None, ended };
        (0..answers).for_each(|_| tally.add(begun, &reply));
        let step = Planned { load, is_search: false, share };
        let outcome = Outcome { tally, window: Duration::from_secs(10), ended_early: false };
        StepFigures::new(&step, &outcome, Cost::default(), &["selfie"], Setting { connections: 1, cores: 2 })
    }

    fn measurement(steps: Vec<StepFigures>, saturation: Option<Saturation>) -> Measurement {
        Measurement {
            date: "2030-01-02".into(),
            machine: Machine { cpu: String::new(), cores: 2, kernel: "6".into() },
            status: GetStatusResponse::default(),
            pid: Ok(7),
            settings: Settings {
                scenario: "selfie".into(),
                warm_up_s: 0.0,
                duration_s: Some(10.0),
                requests: None,
                timeout_s: 30.0,
                max_in_flight: 10,
            },
            pictures: Vec::new(),
            first_answers: vec![FirstAnswer {
                part: "selfie",
                weight: 1,
                outcome: "INCONCLUSIVE",
                outcomes: [("barcode".into(), "SKIPPED"), ("face_match".into(), "INCONCLUSIVE")].into(),
            }],
            steps,
            saturation,
            interrupted: false,
        }
    }

    fn open(per_second: f64) -> Load {
        Load::Open { per_second, max_in_flight: 10 }
    }

    #[test]
    fn the_headline_is_the_planned_load() {
        let closed = step(Load::Closed { callers: 8, requests: None }, None, 1000);
        let planned = step(open(70.0), Some(PLANNED_LOAD), 700);
        let saturation = Some(Saturation { per_second: 100.0, callers: 8 });
        let measured = measurement(vec![closed, planned, step(open(300.0), Some(3.0), 1020)], saturation);
        let values: Vec<String> = measured.headlines().into_iter().map(|line| line.value + " " + &line.note).collect();
        assert_eq!(values, ["100/s closed loop, 8 callers", "20.0 ms at 70.0/s (70 %)", "20.0 ms at 70.0/s (70 %)"]);
        // 1020 in 10 s is no more than chance above 100 a second.
        assert_eq!(measured.warnings().len(), 1);
        let shown = text::render(&measured.document());
        assert!(shown.contains("the daemon cannot answer face_match"), "{shown}");
        assert!(!shown.contains("too few answers"), "{shown}");
        assert_eq!(measured.json()["steps"][1]["answered_per_second"], 70.0);
    }

    #[test]
    fn sessions_that_are_still_to_be_made_are_told() {
        let mut measured = measurement(vec![step(open(3.0), None, 5)], None);
        let model = |sessions| ModelStatus {
            role: "face_embedder".into(),
            sessions,
            sessions_planned: 2,
            ..ModelStatus::default()
        };
        let tells = |measured: &Measurement| measured.warnings().iter().any(|words| words.contains("face_embedder"));
        measured.status.models = vec![model(1)];
        assert!(tells(&measured));
        measured.status.models = vec![model(2)];
        assert!(!tells(&measured));
    }

    #[test]
    fn a_search_that_another_step_outdoes_is_told() {
        let saturation = Some(Saturation { per_second: 100.0, callers: 8 });
        let measured = measurement(vec![step(open(300.0), Some(3.0), 1200)], saturation);
        assert!(measured.warnings().iter().any(|words| words.contains("ended too early")));
        let few = measurement(vec![step(open(3.0), None, 5)], None);
        let shown = text::render(&few.document());
        assert!(shown.contains("too few answers for a 99 % quantile (5)"), "{shown}");
        let json = few.json();
        assert_eq!((&json["saturation"], &json["steps"][0]["daemon_cpu_s_per_answer"]), (&Value::Null, &Value::Null));
    }
}
