//! `vouch top`: what a running daemon does, anew with each interval.
//!
//! Called by `cli`. Asks `GetStatus` for the daemon's counts, which are there whether or not metrics are configured, and shows differences (`rates`): on a terminal as a full screen (`view`,
//! `screen`), otherwise as one line for each interval. A daemon that goes away is waited for, and one that was restarted is told as such. Left out: anything older than the
//! last minute, which is the business of Prometheus.

mod rates;
#[cfg(test)]
mod sample;
mod screen;
mod view;

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use self::rates::{Interval, Span};
use self::screen::Screen;
use self::view::{Around, Order, Point};
use super::connect::{self, Failure, Target, parse_duration};
use super::report::Paint;
use crate::api::proto::verification_client::VerificationClient;
use crate::api::proto::{GetStatusRequest, GetStatusResponse};

/// Most points of the sparklines, whatever the interval.
const MAX_POINTS: usize = 60;

/// What the sparklines show at most.
const HISTORY: Duration = Duration::from_secs(60);

/// How long the screen says that the daemon was restarted.
const RESTART_SHOWN: Duration = Duration::from_secs(60);

/// Shorter intervals would show the load of `vouch top` itself.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Width of the table where there is no terminal that tells one.
const FILE_WIDTH: usize = 100;

/// Lines of plain output between two headers.
const HEADER_EVERY: usize = 20;

/// What a shell makes of a command that a signal ended: 128 and its number.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

#[derive(Debug, Args)]
pub struct TopArgs {
    /// How often to look, such as 500ms, 2s or 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Print all of one interval as a table, and end
    #[arg(long)]
    once: bool,

    /// Print JSON instead of text: one object on each line, one line for each interval
    #[arg(long)]
    pub json: bool,
}

impl TopArgs {
    /// How long the daemon may take for one answer.
    pub fn timeout(&self) -> Duration {
        self.interval.max(Duration::from_secs(5))
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < MIN_INTERVAL { Err("expected at least 100ms".into()) } else { Ok(interval) }
}

/// Shows what the daemon does until the user has enough, or for one interval.
///
/// # Errors
/// Any [`Failure`] of the first answer; later ones are shown and waited out.
pub async fn run(args: &TopArgs, target: &Target) -> Result<u8, Failure> {
    let mut source = Source { target, client: None };
    let first = source.ask().await?;
    // Before anything is drawn, what cannot be shown is told.
    let shown = Interval::between(None, first.clone()).ok_or_else(not_told)?;
    let mut watch = Watch {
        source,
        newest: first,
        shown,
        history: VecDeque::new(),
        points: (HISTORY.as_millis() / args.interval.as_millis().max(1)).clamp(1, MAX_POINTS as u128) as usize,
        trouble: None,
        restarted: None,
    };
    let is_screen = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    if !args.once && !args.json && is_screen {
        on_screen(args, &mut watch).await
    } else {
        in_lines(args, &mut watch).await
    }
}

fn not_told() -> Failure {
    Failure::NotTold("the daemon tells what it does to root and to its own user alone, and not at all if it is older than this command".into())
}

/// Where answers come from: one connection, made anew when it broke.
struct Source<'a> {
    target: &'a Target,
    client: Option<VerificationClient<tonic::transport::Channel>>,
}

impl Source<'_> {
    async fn ask(&mut self) -> Result<GetStatusResponse, Failure> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => connect::connect(self.target).await?,
        };
        let request = connect::request(self.target, GetStatusRequest { with_activity: true })?;
        let answer = connect::answer(self.target, connect::patience(self.target), client.get_status(request)).await?;
        self.client = Some(client);
        Ok(answer.into_inner())
    }
}

/// What is known of the daemon so far.
struct Watch<'a> {
    source: Source<'a>,
    newest: GetStatusResponse,
    shown: Interval,
    history: VecDeque<Point>,
    points: usize,
    /// Since when and why there is no answer.
    trouble: Option<(Instant, String)>,
    restarted: Option<Instant>,
}

impl Watch<'_> {
    /// Asks once more. False if there was no answer.
    async fn step(&mut self) -> bool {
        let answer = match self.source.ask().await {
            Ok(status) => Interval::between(Some(&self.newest), status.clone())
                .map(|interval| (status, interval))
                .ok_or_else(not_told),
            Err(failure) => Err(failure),
        };
        match answer {
            Ok((status, interval)) => {
                self.trouble = None;
                if interval.span == Span::Restarted {
                    self.restarted = Some(Instant::now());
                }
                if self.history.len() == self.points {
                    self.history.pop_front();
                }
                let (all, p95) = (&interval.all, interval.all.time.quantile(0.95));
                self.history.push_back(Point { per_second: interval.per_second(all.ended), p95 });
                (self.newest, self.shown) = (status, interval);
                true
            }
            Err(failure) => {
                self.trouble.get_or_insert_with(|| (Instant::now(), String::new())).1 = reason(&failure);
                if self.history.len() == self.points {
                    self.history.pop_front();
                }
                self.history.push_back(Point { per_second: 0.0, p95: None });
                false
            }
        }
    }
}

/// Without the socket's path, which the user has named.
fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Unreachable { reason, .. } => format!("UNREACHABLE: {reason}"),
        other => format!("NO ANSWER: {other}"),
    }
}

async fn on_screen(args: &TopArgs, watch: &mut Watch<'_>) -> Result<u8, Failure> {
    let paint = Paint { on: super::colour_wanted(&std::io::stdout()) };
    let mut resized = signal(SignalKind::window_change()).map_err(Failure::Runtime)?;
    let mut signals = Signals::new()?;
    let mut screen = Screen::enter()?;
    let mut ticks = ticks(args.interval);
    let (mut order, mut is_paused, mut is_help) = (Order::default(), false, false);
    loop {
        let (width, height) = screen::size();
        let lines = if is_help {
            view::help(height, width, paint)
        } else {
            let trouble =
                watch.trouble.as_ref().map(|(since, reason)| format!("{reason} ({} s)", since.elapsed().as_secs()));
            let restarted = watch.restarted.filter(|since| since.elapsed() < RESTART_SHOWN);
            let history: Vec<Point> = watch.history.iter().copied().collect();
            let around = Around {
                order,
                is_paused,
                trouble: trouble.as_deref(),
                restarted_ago: restarted.map(|since| since.elapsed().as_secs_f64()),
                every_seconds: args.interval.as_secs_f64(),
                history: &history,
            };
            view::screen(&watch.shown, &around, width, height, paint)
        };
        screen.show(&lines)?;
        tokio::select! {
            _ = ticks.tick() => {
                // The daemon is asked all the same: what happened during a pause must not look like one interval.
                if is_paused {
                    let shown = watch.shown.clone();
                    watch.step().await;
                    watch.shown = shown;
                } else {
                    watch.step().await;
                }
            }
            key = screen.key() => match key {
                b'q' | b'Q' => return Ok(0),
                b' ' => is_paused = !is_paused,
                b's' => order = order.next(),
                b'?' | b'h' => is_help = !is_help,
                _ => {}
            },
            _ = resized.recv() => {}
            code = signals.next() => return Ok(code),
        }
    }
}

async fn in_lines(args: &TopArgs, watch: &mut Watch<'_>) -> Result<u8, Failure> {
    let paint = Paint { on: super::colour_wanted(&std::io::stdout()) };
    let mut signals = Signals::new()?;
    let mut ticks = ticks(args.interval);
    let mut lines = 0;
    let mut was_there = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            code = signals.next() => return Ok(code),
        }
        let is_there = watch.step().await;
        let mut text = String::new();
        if let Some((since, reason)) = watch.trouble.as_ref().filter(|_| !is_there) {
            if args.once {
                return Err(watch.source.ask().await.err().unwrap_or_else(|| Failure::Wrong(reason.clone())));
            }
            if args.json {
                let seconds = since.elapsed().as_secs_f64();
                text = format!("{}\n", json!({"event": "unreachable", "reason": reason, "seconds": seconds}));
            } else if was_there {
                text = format!("{reason}\n");
            }
        } else {
            if !was_there || watch.shown.span == Span::Restarted {
                lines = 0;
            }
            let is_restarted = watch.shown.span == Span::Restarted;
            if args.json {
                text = format!("{}\n", view::json(&watch.shown));
            } else if args.once {
                let width = if std::io::stdout().is_terminal() { screen::size().0 } else { FILE_WIDTH };
                text = view::table(&watch.shown, &Around::default(), width, paint);
            } else {
                if is_restarted {
                    text += &format!("the daemon was restarted: process {}\n", watch.shown.activity.process_id);
                }
                if lines % HEADER_EVERY == 0 {
                    text += &paint.dim(view::LINE_HEADER);
                    text.push('\n');
                }
                lines += 1;
                text += &view::line(&watch.shown);
                text.push('\n');
            }
        }
        was_there = is_there;
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        if args.once {
            return Ok(0);
        }
    }
}

/// The first tick is one interval away; one that was missed is not made up for.
fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What ends the command from outside.
struct Signals([(tokio::signal::unix::Signal, u8); 3]);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::Runtime);
        Ok(Self([
            (listen(SignalKind::interrupt())?, INTERRUPTED),
            (listen(SignalKind::terminate())?, TERMINATED),
            (listen(SignalKind::hangup())?, TERMINATED),
        ]))
    }

    /// The exit code that goes with the next one.
    async fn next(&mut self) -> u8 {
        let [(interrupt, interrupted), (terminate, terminated), (hang_up, hung_up)] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => *interrupted,
            _ = terminate.recv() => *terminated,
            _ = hang_up.recv() => *hung_up,
        }
    }
}
