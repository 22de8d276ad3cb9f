//! The table of faults and inputs: what was injected into the real daemon, how often it was afterwards what it had been before, what was lost, how often it crashed, and what callers got.
//!
//! `make faults` (`cargo bench --profile dev --features faults --bench faults -- [--times N] [--inputs N] [--seed N] [--only WORDS] [--markdown]`), after `make pack sample-photos`. The faults are those of
//! `tests/injection`; the panics inside of the daemon need the feature, which needs a build with debug assertions; without it those lines are missing, and it says so. Exit status 1 if anything was
//! lost or the daemon has crashed.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/injection/mod.rs"]
mod injection;

use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Parser;
use injection::stand::{Setting, Stand};
use injection::{Row, all, inject, inputs};

#[derive(Parser)]
struct Args {
    /// How often each fault is injected.
    #[arg(long, default_value_t = 5)]
    times: u64,
    /// How many malformed inputs are sent.
    #[arg(long, default_value_t = 2000)]
    inputs: u64,
    /// Of the inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only lines that hold these words.
    #[arg(long, default_value = "")]
    only: String,
    /// Prints the table for a page of Markdown.
    #[arg(long)]
    markdown: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const INPUTS: &str = "malformed inputs to every RPC";

fn main() -> ExitCode {
    let args = Args::parse();
    let can_mount = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    let mut rows: Vec<(&str, Row)> = Vec::new();
    let mut stand: Option<Stand> = None;
    for fault in all().iter().filter(|fault| fault.name.contains(&args.only)) {
        if fault.on == Setting::ReadOnly && !(nix::unistd::geteuid().is_root() && can_mount) {
            eprintln!("NOT RUN: {}, which needs to mount as root", fault.name);
            continue;
        }
        if stand.as_ref().is_none_or(|stand| stand.setting != fault.on) {
            // The one before ends first.
            stand = None;
        }
        let stand = stand.get_or_insert_with(|| Stand::new(fault.on));
        let began = Instant::now();
        let row = inject(fault, stand, args.times);
        let took = began.elapsed().as_secs_f64();
        eprintln!("{}: {} of {} in {took:.0} s: {}", fault.name, row.survived, row.injected, row.ends());
        row.lost.iter().for_each(|lost| eprintln!("    LOST: {lost}"));
        rows.push((fault.name, row));
    }
    drop(stand);
    if INPUTS.contains(&args.only) {
        let began = Instant::now();
        let mut stand = Stand::new(Setting::Plain);
        let before = stand.state();
        let mut row = Row::default();
        inputs::send_all(&mut stand, &mut row, args.inputs, args.seed);
        if stand.ended().is_some() {
            row.crashes += 1;
        } else {
            row.lost.extend(stand.differences(&before));
        }
        eprintln!("{INPUTS}: {} of {} in {:.0} s", row.survived, row.injected, began.elapsed().as_secs_f64());
        row.lost.iter().for_each(|lost| eprintln!("    LOST: {lost}"));
        rows.push((INPUTS, row));
    }
    if !cfg!(feature = "faults") {
        eprintln!("NOT RUN: panics inside of the daemon, which need `--features faults`");
    }
    print(&rows, args.markdown);
    if rows.iter().all(|(_, row)| row.is_well()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(rows: &[(&str, Row)], markdown: bool) {
    let cell = |name: &str, row: [String; 4], ends: &str| {
        let [injected, survived, lost, crashes] = row;
        if markdown {
            println!("| {name} | {injected} | {survived} | {lost} | {crashes} | {ends} |");
        } else {
            println!("{name:50} {injected:>8} {survived:>8} {lost:>5} {crashes:>7}  {ends}");
        }
    };
    cell("fault", ["injected", "survived", "lost", "crashes"].map(str::to_owned), "how requests ended");
    if markdown {
        println!("|---|---:|---:|---:|---:|---|");
    }
    let mut all = Row::default();
    for (name, row) in rows {
        let lost = row.lost.len() as u64;
        cell(name, [row.injected, row.survived, lost, row.crashes].map(|count| count.to_string()), &row.ends());
        all.injected += row.injected;
        all.survived += row.survived;
        all.crashes += row.crashes;
        all.lost.extend(row.lost.iter().cloned());
    }
    let lost = all.lost.len() as u64;
    cell("all", [all.injected, all.survived, lost, all.crashes].map(|count| count.to_string()), "");
}
