//! An interval as text: the full view for a screen or a file, one line, one JSON object.
//!
//! Called by `top`. The full view is made of bands, one below the other, and a band of one table or of two side by side; where the screen is low, the tallest bands lose the rows that matter
//! least in the chosen order. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::rates::{Caller, Check, Interval, Model, Span, Times};
use crate::api::proto::{AuditState, Outcome};
use crate::cli::report::{Paint, outcome_word};
use crate::cli::status::{mib, short_hash, state_word, uptime_seconds, uptime_words};

/// From this width on tables stand side by side that otherwise stand below each other.
const WIDE: usize = 118;

/// Columns of the left table of a pair, and of the gap.
const LEFT_WIDE: usize = 77;
const LEFT_NARROW: usize = 36;
const GAP: usize = 2;

/// Rows above the tables and the one below.
const FRAME: usize = 6;

/// By what the rows of each table are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The most time spent, or the most counted.
    #[default]
    Activity,
    /// The longest 95 % time.
    Latency,
    Name,
}

impl Order {
    pub fn next(self) -> Self {
        match self {
            Self::Activity => Self::Latency,
            Self::Latency => Self::Name,
            Self::Name => Self::Activity,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Latency => "latency",
            Self::Name => "name",
        }
    }
}

/// One point of the sparklines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub per_second: f64,
    /// Seconds; `None` if no call ended.
    pub p95: Option<f64>,
}

/// What is shown beside the figures.
#[derive(Debug, Clone, Default)]
pub struct Around<'a> {
    pub order: Order,
    pub is_paused: bool,
    /// Why there is no newer answer.
    pub trouble: Option<&'a str>,
    /// Seconds since the daemon was seen to have been restarted.
    pub restarted_ago: Option<f64>,
    pub every_seconds: f64,
    /// Those of the last minute, the oldest first.
    pub history: &'a [Point],
}

/// The full view, at most `height` lines of at most `width` columns, the last with the keys.
pub fn screen(interval: &Interval, around: &Around<'_>, width: usize, height: usize, paint: Paint) -> Vec<String> {
    let mut lines = head(interval, around, width);
    lines.extend(sparklines(interval, around.history, width));
    let bands = bands(interval, around.order, width);
    lines.extend(fitted(&bands, height.saturating_sub(FRAME), width));
    lines.resize(lines.len().max(height.saturating_sub(1)), Line::default());
    lines.truncate(height.saturating_sub(1));
    lines.push(foot(around));
    lines.iter().map(|line| line.painted(width, paint)).collect()
}

/// The full view for a file: every row, no sparklines, no keys.
pub fn table(interval: &Interval, around: &Around<'_>, width: usize, paint: Paint) -> String {
    let mut lines = head(interval, around, width);
    for band in bands(interval, around.order, width) {
        lines.push(Line::default());
        lines.extend(band.lines(usize::MAX, width));
    }
    lines.iter().map(|line| line.painted(width, paint) + "\n").collect()
}

/// What the keys do.
pub fn help(height: usize, width: usize, paint: Paint) -> Vec<String> {
    const TEXT: [&str; 18] = [
        "q, ^C   quit",
        "space   pause, and go on",
        "s       sort by activity, latency, name",
        "?       this help, and back",
        "",
        "Rates, times and shares are of the last interval; totals in brackets are since the daemon's start.",
        "Medians and 95 % values are exact to 9 %; a call counts when it has ended.",
        "",
        "door    running and waiting requests, how long 95 % waited for their place, refusals",
        "RPC     failed: ended with another code than OK; the code that most had",
        "MODEL   queue: inputs that wait now; batch: inputs in a run; busy: share of its sessions' time",
        "STAGE   parts of the work on a picture",
        "CHECK   answers by outcome: pass, fail, review, inconclusive, skipped",
        "REASON  why calls were not processed, by gRPC code and the reason of the ErrorInfo",
        "CALLER  a user; open: its calls at work or waiting; malf: malformed; refused: by its policy, or in a pause",
        "",
        "config, models, calibrations: the beginnings of hashes. Daemons that run with the same show the same.",
        "cpu     cores in use; rss: resident memory of daemon + decoders, MiB; thr: threads; fd: open files",
    ];
    let lines = TEXT.iter().map(|text| Line::of(Style::Plain, text).painted(width, paint));
    lines.take(height.max(1)).collect()
}

// ---------------------------------------------------------------- lines

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Dim,
    Bold,
    /// The captions of a table.
    Caption,
    Warning,
}

/// Text in several styles.
#[derive(Debug, Clone, Default)]
struct Line(Vec<(Style, String)>);

impl Line {
    fn of(style: Style, text: &str) -> Self {
        Self(vec![(style, text.to_owned())])
    }

    fn push(&mut self, style: Style, text: impl Into<String>) {
        self.0.push((style, text.into()));
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Cut to a width, and without anything that steers the terminal.
    fn painted(&self, width: usize, paint: Paint) -> String {
        let mut left = width;
        let mut painted = String::new();
        for (style, text) in &self.0 {
            let text: String = text.chars().take(left).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            left -= text.chars().count();
            painted += &match style {
                Style::Plain => text,
                Style::Dim => paint.dim(&text),
                Style::Bold | Style::Caption => paint.bold(&text),
                Style::Warning => paint.warning(&text),
            };
        }
        if paint.on { painted } else { painted.trim_end().to_owned() }
    }
}

// ---------------------------------------------------------------- above and below the tables

fn head(interval: &Interval, around: &Around<'_>, width: usize) -> Vec<Line> {
    let (status, activity) = (&interval.status, &interval.activity);
    let mut first = Line::of(Style::Bold, &format!("vouchd {}", status.version));
    match around.trouble {
        Some(trouble) => first.push(Style::Warning, format!("  {trouble}")),
        None => first.push(Style::Plain, format!("  {}", state_word(status.state()))),
    }
    if let Some(ago) = around.restarted_ago {
        first.push(Style::Warning, format!("  restarted {} ago", uptime_words(ago)));
    }
    if around.trouble.is_none() {
        let process = format!(
            "  up {}  pid {}  cpu {:.2}  rss {:.0}+{:.0}M  thr {}  fd {}",
            uptime_words(uptime_seconds(status)),
            activity.process_id,
            interval.cores,
            mib(status.resident_bytes),
            mib(status.decoder_resident_bytes),
            activity.threads,
            activity.open_files
        );
        first.push(Style::Plain, process);
    }
    let [models, calibrations] = interval.short_hashes();
    let mut second = Line::default();
    let config = short_hash(&activity.config_sha256);
    second.push(Style::Dim, format!("config {config}  models {models}  calibrations {calibrations}"));
    let is_broken = activity.audit() == AuditState::Broken;
    second.push(if is_broken { Style::Warning } else { Style::Dim }, format!("  audit {}", audit_word(interval)));
    if width >= WIDE {
        second.push(Style::Dim, format!("  ONNX Runtime {} on {}", status.runtime_version, status.device_in_use));
    }
    let mut third = Line::of(Style::Plain, "door ");
    let is_full = status.running >= status.max_running;
    let door = format!("{}/{} run  ", status.running, status.max_running);
    third.push(if is_full { Style::Warning } else { Style::Plain }, door);
    let waiting = format!("{}/{} wait  ", status.waiting, status.max_waiting);
    third.push(if status.waiting > 0 { Style::Warning } else { Style::Plain }, waiting);
    third.push(Style::Plain, format!("95% {}  ", time(interval.admission_wait.quantile(0.95))));
    let refused = format!("refused {}/s ({})", rate(interval.per_second(interval.refused)), status.refused_total);
    third.push(if interval.refused > 0 { Style::Warning } else { Style::Plain }, refused);
    third.push(Style::Plain, format!("  conns {}  live {}", activity.connections, activity.live_sessions));
    vec![first, second, third]
}

fn audit_word(interval: &Interval) -> &'static str {
    match interval.activity.audit() {
        AuditState::Off => "off",
        AuditState::Writing => "on",
        AuditState::Broken => "BROKEN",
        AuditState::Unspecified => "unknown",
    }
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Throughput and latency now and before, each as a share of its own largest.
fn sparklines(interval: &Interval, history: &[Point], width: usize) -> Vec<Line> {
    const LABEL: usize = 20;
    let columns = width.saturating_sub(LABEL + 12);
    let history = &history[history.len().saturating_sub(columns)..];
    let line = |label: &str, now: String, most: String, values: Vec<Option<f64>>| {
        let bars: String = bars(&values);
        let mut line = Line::of(Style::Bold, &format!("{label:<8}{now:>9}  "));
        line.push(Style::Plain, format!("{bars:<width$}", width = history.len()));
        if !history.is_empty() {
            line.push(Style::Dim, format!(" max {most}"));
        }
        line
    };
    let rates: Vec<Option<f64>> = history.iter().map(|point| Some(point.per_second)).collect();
    let times: Vec<Option<f64>> = history.iter().map(|point| point.p95).collect();
    let largest = |values: &[Option<f64>]| values.iter().flatten().copied().reduce(f64::max);
    let all = &interval.all;
    let now = rate(interval.per_second(all.ended));
    vec![
        line("calls/s", now, largest(&rates).map_or("-".into(), rate), rates),
        line("95%", time(all.time.quantile(0.95)), time(largest(&times)), times),
    ]
}

fn bars(values: &[Option<f64>]) -> String {
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let bar = |value: &Option<f64>| match value {
        None => ' ',
        Some(value) if most > 0.0 => {
            let step = (value / most * (BARS.len() - 1) as f64).ceil() as usize;
            BARS[step.min(BARS.len() - 1)]
        }
        Some(_) => BARS[0],
    };
    values.iter().map(bar).collect()
}

fn foot(around: &Around<'_>) -> Line {
    let mut line = Line::of(
        Style::Dim,
        &format!("q quit  space pause  s sort: {}  ? help  every {} s", around.order.as_str(), around.every_seconds),
    );
    if around.is_paused {
        line.push(Style::Warning, "  PAUSED");
    }
    line
}

// ---------------------------------------------------------------- tables

/// A column: its caption and its width; the first is aligned to the left and takes what is left over.
type Column = (&'static str, usize);

struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

struct Row {
    cells: Vec<String>,
    is_idle: bool,
    is_alarming: bool,
}

impl Table {
    fn line(&self, cells: impl Iterator<Item = String>, style: Style, width: usize) -> Line {
        let others: usize = self.columns.iter().skip(1).map(|(_, width)| width).sum();
        let mut text = String::new();
        for (index, (cell, (_, column))) in cells.zip(&self.columns).enumerate() {
            // Writing to a String does not fail.
            let _ = if index == 0 {
                let column = width.saturating_sub(others).min(*column);
                let cell: String = cell.chars().take(column).collect();
                write!(text, "{cell:<column$}")
            } else {
                write!(text, "{cell:>column$}")
            };
        }
        Line::of(style, &text)
    }

    fn lines(&self, height: usize, width: usize) -> Vec<Line> {
        let mut lines = vec![self.line(self.columns.iter().map(|(name, _)| (*name).to_owned()), Style::Caption, width)];
        lines.extend(self.rows.iter().take(height.saturating_sub(1)).map(|row| {
            let style = match row {
                Row { is_alarming: true, .. } => Style::Warning,
                Row { is_idle: true, .. } => Style::Dim,
                _ => Style::Plain,
            };
            self.line(row.cells.iter().cloned(), style, width)
        }));
        lines
    }
}

/// One table, or two side by side.
struct Band {
    tables: Vec<Table>,
    left: usize,
}

impl Band {
    fn height(&self) -> usize {
        self.tables.iter().map(|table| table.rows.len() + 1).max().unwrap_or(0)
    }

    fn lines(&self, height: usize, width: usize) -> Vec<Line> {
        let mut tables = self.tables.iter();
        let Some(first) = tables.next() else { return Vec::new() };
        let left = if self.tables.len() > 1 { self.left } else { width };
        let mut lines = first.lines(height, left);
        if let Some(second) = tables.next() {
            let right = second.lines(height, width.saturating_sub(left + GAP));
            lines.resize(lines.len().max(right.len()), Line::default());
            for (line, right) in lines.iter_mut().zip(right) {
                let room = (left + GAP).saturating_sub(line.width());
                line.push(Style::Plain, " ".repeat(room));
                line.0.extend(right.0);
            }
        }
        lines
    }
}

/// The bands in a height: rows are taken from the tallest until all fit, and whole bands from the end if that is not enough.
fn fitted(bands: &[Band], height: usize, width: usize) -> Vec<Line> {
    let mut heights: Vec<usize> = bands.iter().map(Band::height).collect();
    while heights.iter().sum::<usize>() > height {
        match heights.iter_mut().rev().max_by_key(|height| **height) {
            Some(tallest) if *tallest > 2 => *tallest -= 1,
            _ => {
                if heights.pop().is_none() {
                    break;
                }
            }
        }
    }
    bands.iter().zip(heights).flat_map(|(band, height)| band.lines(height, width)).collect()
}

fn bands(interval: &Interval, order: Order, width: usize) -> Vec<Band> {
    let (rpcs, models) = (rpcs(interval, order), models(interval, order));
    let (stages, checks) = (stages(interval, order), checks(interval, order));
    let (errors, callers) = (errors(interval, order), callers(interval, order));
    let pair = |left: Table, right: Option<Table>, width: usize| {
        let tables = std::iter::once(left).chain(right).filter(|table| !table.rows.is_empty()).collect();
        Band { tables, left: width }
    };
    let bands = if width >= WIDE {
        vec![
            pair(rpcs, Some(stages), LEFT_WIDE),
            pair(models, Some(checks), LEFT_WIDE),
            pair(errors, Some(callers), LEFT_WIDE),
        ]
    } else {
        vec![
            pair(rpcs, None, width),
            pair(models, None, width),
            pair(stages, Some(checks), LEFT_NARROW),
            pair(errors, None, width),
            pair(callers, None, width),
        ]
    };
    bands.into_iter().filter(|band| !band.tables.is_empty()).collect()
}

/// What rows are sorted by: the larger the earlier, and then by name.
fn sorted<T>(rows: &[T], order: Order, name: impl Fn(&T) -> &str, keys: impl Fn(&T) -> (f64, f64)) -> Vec<&T> {
    let mut sorted: Vec<&T> = rows.iter().collect();
    let key = |row: &T| match order {
        Order::Activity => keys(row).0,
        Order::Latency => keys(row).1,
        Order::Name => 0.0,
    };
    sorted.sort_by(|one, other| key(other).total_cmp(&key(one)).then_with(|| name(one).cmp(name(other))));
    sorted
}

fn latency(times: &Times) -> f64 {
    times.quantile(0.95).unwrap_or(-1.0)
}

fn rpcs(interval: &Interval, order: Order) -> Table {
    let rows =
        sorted(&interval.rpcs, order, |(name, _)| name, |(_, calls)| (calls.time.total_seconds, latency(&calls.time)));
    let row = |(name, calls): &(String, super::rates::Calls)| {
        let failed = calls.by_code.iter().filter(|(code, _)| *code != "OK").max_by_key(|(_, count)| **count);
        Row {
            cells: vec![
                name.clone(),
                rate(interval.per_second(calls.ended)),
                rate(interval.per_second(calls.failed())),
                failed.map_or(String::new(), |(code, _)| code.to_lowercase()),
                time(calls.time.quantile(0.5)),
                time(calls.time.quantile(0.95)),
                format!("({})", calls.since_start),
            ],
            is_idle: calls.ended == 0,
            is_alarming: calls.failed() > 0,
        }
    };
    Table {
        columns: vec![("RPC", 21), ("calls/s", 8), ("failed/s", 9), ("", 20), ("median", 8), ("95%", 8), ("(all)", 0)],
        rows: rows.into_iter().map(row).collect(),
    }
    .with_last(10)
}

impl Table {
    /// Gives the last column its width, which the narrowest screens have no room for beyond 74 columns of the others.
    fn with_last(mut self, width: usize) -> Self {
        if let Some(last) = self.columns.last_mut() {
            last.1 = width;
        }
        self
    }
}

fn models(interval: &Interval, order: Order) -> Table {
    let rows =
        sorted(&interval.models, order, |model| &model.role, |model| (model.run.total_seconds, latency(&model.run)));
    let row = |model: &Model| Row {
        cells: vec![
            model.role.clone(),
            provider(&model.provider).to_owned(),
            model.queued.to_string(),
            rate(interval.per_second(model.run.count)),
            if model.batch == 0.0 { "-".into() } else { format!("{:.1}", model.batch) },
            time(model.wait.quantile(0.5)),
            time(model.wait.quantile(0.95)),
            time(model.run.quantile(0.5)),
            time(model.run.quantile(0.95)),
            format!("{:.0}%", model.busy * 100.0),
        ],
        is_idle: model.run.count == 0,
        is_alarming: model.failures > 0 || model.sessions == 0,
    };
    Table {
        columns: vec![
            ("MODEL", 17),
            ("on", 6),
            ("queue", 6),
            ("runs/s", 7),
            ("batch", 6),
            ("wait", 7),
            ("95%", 7),
            ("run", 8),
            ("95%", 7),
            ("busy", 6),
        ],
        rows: rows.into_iter().map(row).collect(),
    }
}

/// `CUDAExecutionProvider` is `CUDA`.
fn provider(name: &str) -> &str {
    match name.strip_suffix("ExecutionProvider").unwrap_or(name) {
        "Tensorrt" | "TensorRT" => "TRT",
        short => short.get(..5).unwrap_or(short),
    }
}

fn stages(interval: &Interval, order: Order) -> Table {
    let rows = sorted(&interval.stages, order, |(name, _)| name, |(_, times)| (times.total_seconds, latency(times)));
    let row = |(name, times): &(String, Times)| Row {
        cells: vec![
            name.clone(),
            rate(interval.per_second(times.count)),
            time(times.quantile(0.5)),
            time(times.quantile(0.95)),
        ],
        is_idle: times.count == 0,
        is_alarming: false,
    };
    Table {
        columns: vec![("STAGE", 12), ("per s", 8), ("median", 8), ("95%", 8)],
        rows: rows.into_iter().map(row).collect(),
    }
}

/// The outcomes in the order of their columns.
const OUTCOMES: [Outcome; 5] = [Outcome::Pass, Outcome::Fail, Outcome::Review, Outcome::Inconclusive, Outcome::Skipped];

fn checks(interval: &Interval, order: Order) -> Table {
    let answered = |check: &Check| check.by_outcome.values().sum::<u64>() as f64;
    let rows =
        sorted(&interval.checks, order, |check| &check.name, |check| (answered(check), check.since_start as f64));
    let row = |check: &Check| {
        let each = OUTCOMES.map(|outcome| check.by_outcome.get(outcome_word(outcome)).copied().unwrap_or(0));
        Row {
            cells: std::iter::once(check.name.clone()).chain(each.iter().map(u64::to_string)).collect(),
            is_idle: each.iter().sum::<u64>() == 0,
            is_alarming: false,
        }
    };
    Table {
        columns: vec![("CHECK", 21), ("pass", 5), ("fail", 5), ("rev", 4), ("inc", 4), ("skip", 5)],
        rows: rows.into_iter().map(row).collect(),
    }
}

fn errors(interval: &Interval, order: Order) -> Table {
    let rows =
        sorted(&interval.errors, order, |error| &error.reason, |error| (error.count as f64, error.since_start as f64));
    let row = |error: &super::rates::Reason| Row {
        cells: vec![
            error.reason.clone(),
            error.code.to_lowercase(),
            rate(interval.per_second(error.count)),
            format!("({})", error.since_start),
        ],
        is_idle: error.count == 0,
        is_alarming: error.count > 0,
    };
    Table {
        columns: vec![("REASON", 32), ("", 20), ("per s", 10), ("(all)", 12)],
        rows: rows.into_iter().map(row).collect(),
    }
}

fn callers(interval: &Interval, order: Order) -> Table {
    let name = |caller: &Caller| format!("{} {}", caller.uid, caller.policy);
    let named: Vec<_> = interval.callers.iter().map(|caller| (name(caller), caller)).collect();
    let asked = |(_, caller): &(String, &Caller)| (caller.requests + caller.refused) as f64;
    let rows = sorted(&named, order, |(name, _)| name, |one| (asked(one), one.1.requests_since_start as f64));
    let row = |(name, caller): &(String, &Caller)| Row {
        cells: vec![
            name.clone(),
            caller.running.to_string(),
            rate(interval.per_second(caller.requests)),
            rate(interval.per_second(caller.malformed)),
            rate(interval.per_second(caller.refused)),
        ],
        is_idle: caller.requests + caller.refused == 0,
        is_alarming: caller.malformed + caller.refused > 0 || caller.pause_ms > 0.0,
    };
    Table {
        columns: vec![("CALLER", 36), ("open", 5), ("per s", 6), ("malf", 6), ("refused", 8)],
        rows: rows.into_iter().map(row).collect(),
    }
}

// ---------------------------------------------------------------- numbers

/// Three digits and a unit: `0.41ms`, `41ms`, `4.1s`.
fn time(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".into() };
    let ms = seconds * 1e3;
    if ms < 1.0 {
        format!("{ms:.2}ms")
    } else if ms < 10.0 {
        format!("{ms:.1}ms")
    } else if ms < 1000.0 {
        format!("{ms:.0}ms")
    } else if seconds < 10.0 {
        format!("{seconds:.1}s")
    } else {
        format!("{seconds:.0}s")
    }
}

fn rate(per_second: f64) -> String {
    if per_second == 0.0 {
        "0".into()
    } else if per_second < 10.0 {
        format!("{per_second:.2}")
    } else if per_second < 100.0 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

// ---------------------------------------------------------------- one line each

/// What the figures of [`line`] are.
pub const LINE_HEADER: &str = "  calls/s failed/s refused/s   median      95%  running  waiting   cpu  rss_mib  queued";

/// One interval on one line.
pub fn line(interval: &Interval) -> String {
    let (status, all) = (&interval.status, &interval.all);
    let queued: u32 = interval.models.iter().map(|model| model.queued).sum();
    format!(
        "{:>9}{:>9}{:>10}{:>9}{:>9}{:>9}{:>9}{:>6.2}{:>9.0}{:>8}",
        rate(interval.per_second(all.ended)),
        rate(interval.per_second(all.failed())),
        rate(interval.per_second(interval.refused)),
        time(all.time.quantile(0.5)),
        time(all.time.quantile(0.95)),
        status.running,
        status.waiting,
        interval.cores,
        mib(status.resident_bytes),
        queued
    )
}

/// One interval as an object. Counts are of the interval, `*_total` since the daemon's start; times are in milliseconds, null where nothing was measured.
pub fn json(interval: &Interval) -> Value {
    let (status, activity, all) = (&interval.status, &interval.activity, &interval.all);
    let ms = |times: &Times, share: f64| times.quantile(share).map(|seconds| (seconds * 1e6).round() / 1e3);
    let timed = |times: &Times| json!({"count": times.count, "median_ms": ms(times, 0.5), "p95_ms": ms(times, 0.95)});
    let calls = |calls: &super::rates::Calls| {
        json!({
            "ended": calls.ended, "failed": calls.failed(), "codes": calls.by_code, "ended_total": calls.since_start,
            "median_ms": ms(&calls.time, 0.5), "p95_ms": ms(&calls.time, 0.95),
        })
    };
    let [models, calibrations] = interval.short_hashes();
    json!({
        "event": "interval",
        "seconds": interval.seconds,
        "since": match interval.span {
            Span::Between => "last",
            Span::SinceStart => "start",
            Span::Restarted => "restart",
        },
        "version": status.version, "state": state_word(status.state()), "uptime_seconds": uptime_seconds(status),
        "process_id": activity.process_id, "config_sha256": activity.config_sha256,
        "models_short": models, "calibrations_short": calibrations, "audit": audit_word(interval).to_lowercase(),
        "device_in_use": status.device_in_use,
        "cpu_cores": interval.cores, "resident_bytes": status.resident_bytes,
        "decoder_resident_bytes": status.decoder_resident_bytes, "threads": activity.threads,
        "open_files": activity.open_files, "connections": activity.connections,
        "live_sessions": activity.live_sessions,
        "running": status.running, "waiting": status.waiting, "refused": interval.refused,
        "refused_total": status.refused_total, "admission_wait": timed(&interval.admission_wait),
        "calls": calls(all),
        "rpcs": interval.rpcs.iter().map(|(name, one)| (name.clone(), calls(one))).collect::<serde_json::Map<_, _>>(),
        "stages":
            interval.stages.iter().map(|(name, one)| (name.clone(), timed(one))).collect::<serde_json::Map<_, _>>(),
        "models": interval.models.iter().map(|model| json!({
            "role": model.role, "provider": model.provider, "sessions": model.sessions, "queued": model.queued,
            "run": timed(&model.run), "wait": timed(&model.wait), "batch": model.batch, "busy": model.busy,
            "failures": model.failures,
        })).collect::<Vec<_>>(),
        "checks": interval.checks.iter().map(|check| (check.name.clone(), json!(check.by_outcome)))
            .collect::<serde_json::Map<_, _>>(),
        "errors": interval.errors.iter().map(|error| json!({
            "code": error.code, "reason": error.reason, "count": error.count, "count_total": error.since_start,
        })).collect::<Vec<_>>(),
        "callers": interval.callers.iter().map(|caller| json!({
            "uid": caller.uid, "policy": caller.policy, "connections": caller.connections, "running": caller.running,
            "requests": caller.requests, "malformed": caller.malformed, "refused": caller.refused,
            "requests_total": caller.requests_since_start, "pause_ms": caller.pause_ms,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    const PLAIN: Paint = Paint { on: false };

    fn interval() -> Interval {
        Interval::between(Some(&sample::first()), sample::second()).unwrap()
    }

    fn history() -> Vec<Point> {
        let point = |n: u32| Point {
            per_second: f64::from(n % 16),
            p95: (!n.is_multiple_of(20)).then(|| f64::from(n) / 100.0),
        };
        (0..60).map(point).collect()
    }

    fn shown(width: usize, height: usize) -> String {
        let history = history();
        let around = Around { every_seconds: 2.0, history: &history, ..Around::default() };
        let lines = screen(&interval(), &around, width, height, PLAIN);
        assert_eq!(lines.len(), height);
        lines.join("\n") + "\n"
    }

    /// Compares with a file beside this one; where it differs the whole is printed, to be looked at and put there.
    fn assert_golden(shown: &str, golden: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/top").join(golden);
        assert!(shown == std::fs::read_to_string(path).unwrap(), "shown:\n{shown}");
    }

    #[test]
    fn a_small_terminal_shows_what_matters_most() {
        assert_golden(&shown(80, 24), "view_80x24.txt");
    }

    #[test]
    fn a_large_terminal_shows_tables_side_by_side() {
        assert_golden(&shown(120, 40), "view_120x40.txt");
    }

    #[test]
    fn no_line_is_longer_and_no_screen_higher_than_the_terminal() {
        let history = history();
        let around = Around {
            is_paused: true,
            trouble: Some("UNREACHABLE: nobody listens there; is vouchd running? (3 s)"),
            restarted_ago: Some(7.0),
            every_seconds: 0.5,
            history: &history,
            order: Order::Latency,
        };
        for (width, height) in [(1, 1), (20, 3), (40, 10), (79, 23), (117, 30), (118, 30), (300, 100)] {
            let lines = screen(&interval(), &around, width, height, PLAIN);
            assert_eq!(lines.len(), height, "{width}x{height}");
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}x{height}: {lines:#?}");
            assert!(help(height, width, PLAIN).iter().all(|line| line.chars().count() <= width));
        }
        let all = screen(&interval(), &around, 120, 24, PLAIN).join("\n");
        for words in ["UNREACHABLE: nobody", "restarted 7.0 s ago", "PAUSED", "sort: latency"] {
            assert!(all.contains(words), "{words} in\n{all}");
        }
    }

    #[test]
    fn rows_are_sorted_as_the_user_wishes() {
        let first = |order| rpcs(&interval(), order).rows[0].cells[0].clone();
        assert_eq!(
            [first(Order::Activity), first(Order::Latency), first(Order::Name)],
            ["Verify", "Verify", "DetectFaces"]
        );
        let models = |order| models(&interval(), order).rows[0].cells[0].clone();
        assert_eq!([models(Order::Latency), models(Order::Name)], ["face_embedder_b", "age_a"]);
        assert_eq!(Order::Activity.next().next().next(), Order::Activity);
    }

    #[test]
    fn what_steers_a_terminal_is_not_printed() {
        let mut interval = interval();
        interval.rpcs[0].0 = "Ve\x1b[2Jrify".into();
        interval.status.version = "1\n2".into();
        let text = screen(&interval, &Around::default(), 120, 40, PLAIN).concat();
        assert!(!text.contains('\x1b') && !text.contains('\n'), "{text}");
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let times = [0.000_41, 0.0041, 0.041, 0.41, 4.1, 41.0].map(|seconds| time(Some(seconds)));
        assert_eq!(times, ["0.41ms", "4.1ms", "41ms", "410ms", "4.1s", "41s"]);
        assert_eq!([0.0, 0.25, 12.34, 123.4].map(rate), ["0", "0.25", "12.3", "123"]);
        assert_eq!(bars(&[None, Some(0.0), Some(0.1), Some(4.0), Some(8.0)]), " ▁▂▅█");
        assert_eq!(bars(&[Some(0.0), None]), "▁ ");
    }

    #[test]
    fn a_line_stands_below_its_header_and_json_has_the_same_figures() {
        let interval = interval();
        let line = line(&interval);
        assert_eq!(line.chars().count(), LINE_HEADER.chars().count(), "{LINE_HEADER}\n{line}");
        let object = json(&interval);
        assert_eq!((&object["rpcs"]["Verify"]["ended"], &object["calls"]["failed"]), (&json!(24), &json!(4)));
        assert_eq!(object["checks"]["face_match"]["PASS"], json!(18));
        assert_eq!(object["models"][0]["batch"], json!(1.5));
        assert_eq!(
            (&object["callers"][1]["uid"], &object["callers"][1]["refused"]),
            (&json!(4_294_967_294_u32), &json!(9))
        );
        assert_eq!(object["since"], "last");
    }
}
