//! What happened between two answers of the daemon: differences of its counters, and what follows from them.
//!
//! Called by `top`, whose views show nothing else. Pure: the length of an interval is that by which the daemon's own uptime has grown, so that a late answer makes no wrong rate.
//! Left out: how anything is shown (`view`).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::api::metrics::BESIDE;
use crate::api::proto::{Activity, CallerStatus, CodeCount, GetStatusResponse, Outcome, Timing};
use crate::cli::status::uptime_seconds;
use crate::ops::counts::{BUCKETS, FIRST_BOUND, PER_DOUBLING};

/// Two answers, and what lies between them.
#[derive(Debug, Clone)]
pub struct Interval {
    /// The later answer.
    pub status: GetStatusResponse,
    /// Its activity.
    pub activity: Activity,
    /// Length of the interval; since the start of the daemon where there is no earlier answer of the same process.
    pub seconds: f64,
    pub span: Span,
    /// Calls that work on media, all together.
    pub all: Calls,
    pub rpcs: Vec<(String, Calls)>,
    pub stages: Vec<(String, Times)>,
    pub models: Vec<Model>,
    pub checks: Vec<Check>,
    pub errors: Vec<Reason>,
    pub callers: Vec<Caller>,
    pub admission_wait: Times,
    pub refused: u64,
    /// Cores in use on average.
    pub cores: f64,
}

/// From when an interval counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// From the answer before.
    Between,
    /// From the daemon's start: this is the first answer.
    SinceStart,
    /// From the daemon's start, which lies after the answer before.
    Restarted,
}

/// Times that were measured in an interval.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times {
    pub count: u64,
    pub total_seconds: f64,
    buckets: Vec<u64>,
}

/// Calls that have ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calls {
    pub ended: u64,
    pub by_code: BTreeMap<String, u64>,
    pub time: Times,
    pub since_start: u64,
}

/// One model, by its role.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub role: String,
    pub provider: String,
    pub sessions: u32,
    pub queued: u32,
    pub run: Times,
    pub wait: Times,
    /// Inputs in a run on average; 0 without runs.
    pub batch: f64,
    /// Share of the sessions' time that was spent on runs, 0..=1.
    pub busy: f64,
    pub failures: u64,
}

/// Answers of one check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Check {
    pub name: String,
    pub by_outcome: BTreeMap<&'static str, u64>,
    pub since_start: u64,
}

/// Calls that were not processed for one reason.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reason {
    pub code: String,
    pub reason: String,
    pub count: u64,
    pub since_start: u64,
}

/// What one user asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Caller {
    pub uid: u32,
    pub policy: String,
    pub connections: u32,
    pub running: u32,
    pub requests: u64,
    pub malformed: u64,
    /// By its policy, whichever key.
    pub refused: u64,
    pub requests_since_start: u64,
    /// How long it has to pause yet.
    pub pause_ms: f64,
}

impl Interval {
    /// `None` if the later answer tells no activity, as that of an older daemon.
    pub fn between(before: Option<&GetStatusResponse>, status: GetStatusResponse) -> Option<Self> {
        let activity = status.activity.clone()?;
        let same = before.filter(|before| is_same_process(before, &status));
        let span = match (before, same) {
            (_, Some(_)) => Span::Between,
            (None, None) => Span::SinceStart,
            (Some(_), None) => Span::Restarted,
        };
        let nothing = GetStatusResponse::default();
        let (old_status, old) = (same.unwrap_or(&nothing), same.and_then(|same| same.activity.as_ref()));
        let (old, none) = (old.cloned().unwrap_or_default(), Timing::default());
        let seconds = (uptime_seconds(&status) - uptime_seconds(old_status)).max(0.001);
        let rpcs: Vec<(String, Calls)> = activity
            .rpcs
            .iter()
            .map(|rpc| {
                let old = old.rpcs.iter().find(|old| old.rpc == rpc.rpc);
                let codes = old.map_or(&[][..], |old| &old.codes);
                let time = times(rpc.time.as_ref(), old.and_then(|old| old.time.as_ref()));
                (rpc.rpc.clone(), Calls::between(codes, &rpc.codes, time))
            })
            .collect();
        let all = rpcs.iter().filter(|(name, _)| !BESIDE.contains(&name.as_str())).fold(
            Calls::default(),
            |mut all, (_, calls)| {
                all.add(calls);
                all
            },
        );
        let stages = activity.stages.iter().map(|stage| {
            let old = old.stages.iter().find(|old| old.stage == stage.stage);
            (stage.stage.clone(), times(stage.time.as_ref(), old.and_then(|old| old.time.as_ref())))
        });
        let models = status.models.iter().map(|loaded| {
            let [new, old] =
                [&activity, &old].map(|one| one.models.iter().find(|model| model.role == loaded.role).cloned());
            let (new, old) = (new.unwrap_or_default(), old.unwrap_or_default());
            let run = times(new.run.as_ref(), old.run.as_ref());
            Model {
                role: loaded.role.clone(),
                provider: loaded.provider.clone(),
                sessions: loaded.sessions,
                queued: loaded.queued,
                wait: times(new.wait.as_ref(), old.wait.as_ref()),
                batch: if run.count == 0 { 0.0 } else { grown(new.items, old.items) as f64 / run.count as f64 },
                busy: (run.total_seconds / seconds / f64::from(loaded.sessions.max(1))).min(1.0),
                failures: grown(new.failures, old.failures),
                run,
            }
        });
        let errors = activity.errors.iter().map(|error| {
            let same = |old: &&crate::api::proto::ErrorCount| old.code == error.code && old.reason == error.reason;
            let before = old.errors.iter().find(same).map_or(0, |old| old.count);
            Reason {
                code: error.code.clone(),
                reason: error.reason.clone(),
                count: grown(error.count, before),
                since_start: error.count,
            }
        });
        let callers = status.callers.iter().map(|caller| {
            let same = old_status.callers.iter().find(|old| old.uid == caller.uid);
            let refused = |status: &CallerStatus| status.refused_total.values().sum();
            Caller {
                uid: caller.uid,
                policy: caller.policy.clone(),
                connections: caller.connections,
                running: caller.running,
                requests: grown(caller.requests_total, same.map_or(0, |old| old.requests_total)),
                malformed: grown(caller.malformed_total, same.map_or(0, |old| old.malformed_total)),
                refused: grown(refused(caller), same.map_or(0, refused)),
                requests_since_start: caller.requests_total,
                pause_ms: caller.pause_ms,
            }
        });
        Some(Self {
            seconds,
            span,
            all,
            stages: stages.collect(),
            models: models.collect(),
            checks: checks(&old, &activity),
            errors: errors.collect(),
            callers: callers.collect(),
            admission_wait: times(activity.admission_wait.as_ref(), Some(old.admission_wait.as_ref().unwrap_or(&none))),
            refused: grown(status.refused_total, old_status.refused_total),
            cores: (activity.cpu_seconds - old.cpu_seconds).max(0.0) / seconds,
            rpcs,
            status,
            activity,
        })
    }

    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds
    }

    /// Of what the daemon runs with, eight digits each, to be compared by eye: its models and its calibrations.
    pub fn short_hashes(&self) -> [String; 2] {
        let models = self.status.models.iter().map(|model| (&model.role, &model.sha256));
        let calibrations = self.status.checks.iter().map(|check| (&check.name, &check.calibration_sha256));
        [short_hash(models), short_hash(calibrations.filter(|(_, hash)| !hash.is_empty()))]
    }
}

fn short_hash<'a>(each: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let mut lines: Vec<String> = each.map(|(name, hash)| format!("{name} {hash}\n")).collect();
    if lines.is_empty() {
        return "none".into();
    }
    lines.sort();
    let digest = Sha256::digest(lines.concat());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// In a container the daemon has the same number after a restart, but not the same age.
fn is_same_process(before: &GetStatusResponse, now: &GetStatusResponse) -> bool {
    let [old, new] = [before, now].map(|status| status.activity.as_ref().map(|activity| activity.process_id));
    old == new && uptime_seconds(before) <= uptime_seconds(now)
}

/// A counter that has become smaller began anew.
fn grown(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn times(now: Option<&Timing>, before: Option<&Timing>) -> Times {
    let (nothing, zero) = (Timing::default(), Timing::default());
    let now = now.unwrap_or(&nothing);
    let before = before.filter(|before| before.count <= now.count).unwrap_or(&zero);
    let old = |index: usize| before.buckets.get(index).copied().unwrap_or(0);
    Times {
        count: now.count - before.count,
        total_seconds: (now.total_seconds - before.total_seconds).max(0.0),
        buckets: now.buckets.iter().enumerate().map(|(index, count)| count.saturating_sub(old(index))).collect(),
    }
}

fn checks(old: &Activity, new: &Activity) -> Vec<Check> {
    let mut checks: BTreeMap<&str, Check> = BTreeMap::new();
    for one in &new.outcomes {
        let same = |old: &&crate::api::proto::OutcomeCount| old.check == one.check && old.outcome == one.outcome;
        let before = old.outcomes.iter().find(same).map_or(0, |old| old.count);
        let check = checks.entry(&one.check).or_insert_with(|| Check { name: one.check.clone(), ..Check::default() });
        check.since_start += one.count;
        let outcome = Outcome::try_from(one.outcome).unwrap_or(Outcome::Unspecified);
        check.by_outcome.insert(crate::cli::report::outcome_word(outcome), grown(one.count, before));
    }
    checks.into_values().collect()
}

impl Calls {
    fn between(before: &[CodeCount], now: &[CodeCount], time: Times) -> Self {
        let mut calls = Self { time, ..Self::default() };
        for code in now {
            let old = before.iter().find(|old| old.code == code.code).map_or(0, |old| old.count);
            let count = grown(code.count, old);
            calls.since_start += code.count;
            calls.ended += count;
            if count > 0 {
                calls.by_code.insert(code.code.clone(), count);
            }
        }
        calls
    }

    fn add(&mut self, other: &Self) {
        self.ended += other.ended;
        self.since_start += other.since_start;
        for (code, count) in &other.by_code {
            *self.by_code.entry(code.clone()).or_default() += count;
        }
        self.time.add(&other.time);
    }

    /// Those that ended otherwise than well.
    pub fn failed(&self) -> u64 {
        self.ended - self.by_code.get("OK").copied().unwrap_or(0)
    }
}

impl Times {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.total_seconds += other.total_seconds;
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
    }

    /// The time in seconds within which this share of all ended, 0..=1, to within 9 %: the middle of the bucket that it lies in. `None` if there were none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.buckets.iter().sum();
        let wanted = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
        let mut so_far = 0;
        let bucket = self.buckets.iter().take(BUCKETS).position(|count| {
            so_far += count;
            so_far >= wanted
        })?;
        Some(FIRST_BOUND * ((bucket as f64 - 0.5) / PER_DOUBLING).exp2())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn rates_are_differences_over_the_daemons_own_time() {
        let (before, after) = (sample::first(), sample::second());
        let interval = Interval::between(Some(&before), after).unwrap();
        assert_eq!((interval.span, interval.seconds), (Span::Between, 2.0));
        let (name, verify) = interval.rpcs.iter().find(|(name, _)| name == "Verify").unwrap();
        assert_eq!((name.as_str(), verify.ended, verify.failed(), verify.since_start), ("Verify", 24, 4, 1024));
        assert_eq!(interval.per_second(verify.ended), 12.0);
        // The status itself is no work.
        assert_eq!(interval.all.ended, 24 + 6);
        assert_eq!(interval.refused, 4);
        assert_eq!(interval.cores, 1.5);
        let detector = interval.models.iter().find(|model| model.role == "face_detector").unwrap();
        assert_eq!((detector.run.count, detector.batch, detector.queued), (20, 1.5, 3));
        assert!((detector.busy - 0.25).abs() < 1e-9, "{}", detector.busy);
        let check = interval.checks.iter().find(|check| check.name == "face_match").unwrap();
        assert_eq!((check.by_outcome["PASS"], check.by_outcome["FAIL"], check.since_start), (18, 2, 1020));
        assert_eq!(interval.errors.iter().map(|error| error.count).collect::<Vec<_>>(), [4, 0]);
        let [orchestrator, attacker] = interval.callers.as_slice() else { panic!("{:?}", interval.callers) };
        assert_eq!((orchestrator.requests, orchestrator.malformed, orchestrator.refused), (24, 0, 0));
        assert_eq!((attacker.requests, attacker.malformed, attacker.refused), (6, 6, 9));
        assert_eq!(orchestrator.requests_since_start, 1024);
    }

    #[test]
    fn after_a_restart_nothing_is_subtracted() {
        let mut after = sample::first();
        after.uptime = Some(prost_types::Duration { seconds: 5, nanos: 0 });
        after.activity.as_mut().unwrap().process_id += 1;
        let interval = Interval::between(Some(&sample::second()), after.clone()).unwrap();
        assert_eq!((interval.span, interval.seconds), (Span::Restarted, 5.0));
        assert_eq!(interval.all.ended, interval.all.since_start);
        // The same number, as in a container.
        after.activity.as_mut().unwrap().process_id -= 1;
        assert_eq!(Interval::between(Some(&sample::second()), after.clone()).unwrap().span, Span::Restarted);
        assert_eq!(Interval::between(None, after).unwrap().span, Span::SinceStart);
    }

    #[test]
    fn quantiles_are_the_middle_of_their_bucket() {
        let mut buckets = vec![0; 33];
        (buckets[28], buckets[32]) = (90, 10);
        let times = Times { count: 100, total_seconds: 2.0, buckets };
        // 0.0001 × 2^7 = 12.8 ms, 0.0001 × 2^8 = 25.6 ms; half a bucket below.
        assert!((times.quantile(0.5).unwrap() - 0.0128 / 2f64.powf(0.125)).abs() < 1e-9);
        assert!((times.quantile(0.95).unwrap() - 0.0256 / 2f64.powf(0.125)).abs() < 1e-9);
        assert_eq!(Times::default().quantile(0.5), None);
        assert_eq!(Times { buckets: vec![0, 0], ..Times::default() }.quantile(0.5), None);
    }

    #[test]
    fn an_older_daemon_tells_no_activity() {
        assert!(Interval::between(None, GetStatusResponse::default()).is_none());
    }
}
