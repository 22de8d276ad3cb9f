//! `vouch evaluate` and `vouch calibrate`: figures against truths that are known, on data drawn here and through the binary.
//!
//! Two halves. Intervals are tried on scores drawn from known distributions, many times, through the library: a 95 % interval must hold
//! the truth about so often. Everything else runs the real `vouch` as a process against a made-up daemon (`common/made_up.rs`)
//! whose scores follow from the bytes of a "picture", so that every figure is known by construction.

#[path = "common/draws.rs"]
mod draws;
#[path = "common/made_up.rs"]
mod made_up;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Child;
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use vouch::calibration::{Calibration, Decision, Support};
use vouch::evaluation::scores::{Answer, Reading, Scores, Truth};
use vouch::evaluation::summary::Circumstances;
use vouch::evaluation::{Question, age, face_match, latency, liveness, reading};

use draws::{Coverage, Dice, answer, over_draws, phi, scores};
use made_up::{Ended, Manner, Stage};

// ---------------------------------------------------------------- intervals hold the truth

const DRAWS: u64 = 300;

/// The 90 % quantile of the normal distribution.
const Z_90: f64 = 1.281_551_565_544_600_4;

fn circumstances() -> Circumstances<'static> {
    Circumstances { date: "2026-11-26", callers: 1, seconds: None }
}

fn pair(genuine: bool, subjects: Option<[u32; 2]>) -> Truth {
    Truth::Pair { genuine, fold: None, subjects }
}

/// The measures of a face match whose genuine scores are N(2, 1) and whose impostor scores are N(0, 1), judged at 1.
fn count_face_match(coverage: &mut Coverage, figures: &Value) {
    coverage.add_from(figures, "fmr", phi(-1.0));
    coverage.add_from(figures, "fnmr", phi(-1.0));
    coverage.add_from(figures, "eer", phi(-1.0));
    // At 1e-2 and 1e-3 so few impostors decide by a handful, or by none.
    coverage.add_from(figures, "tar_at_fmr/1e-1", phi(2.0 - Z_90));
    let detail = &figures["tar_at_fmr_detail"]["1e-1"];
    coverage.add("fmr of tar_at_fmr/1e-1", &detail["fmr"], phi(-detail["threshold"].as_f64().unwrap()));
}

#[test]
fn intervals_of_independent_pairs_hold_the_truth() {
    let coverage = over_draws(DRAWS, |dice, coverage| {
        // As many of each, so that half-way between the two means is the best threshold and accuracy there is known.
        let trials = (0..PAIRS)
            .map(|place| {
                let genuine = place / 2 % 2 == 0;
                let score = dice.normal() + if genuine { 2.0 } else { 0.0 };
                (pair(genuine, None), answer(dice, score, 0.1))
            })
            .collect();
        let scores = scores(Question::FaceMatch, &[("fmr_1e-1", 1.0)], trials);
        let figures = face_match::evaluate(&scores, &circumstances(), None).json;
        count_face_match(coverage, &figures);
        coverage.add_from(&figures, "accuracy", *expected_accuracy());
        coverage.add("failures_to_process", &figures["failures_to_process"], 0.1);
    });
    let independent =
        ["fmr", "fnmr", "eer", "tar_at_fmr/1e-1", "fmr of tar_at_fmr/1e-1", "accuracy", "failures_to_process"];
    coverage.check("independent pairs", &independent);
}

/// Pairs of the independent draws, a tenth of which fails and a tenth of the rest is held out when a threshold is chosen.
const PAIRS: usize = 200;
const CHOOSING: usize = 162;

/// Accuracy at a threshold chosen on 162 other pairs as the library chooses it: a little below the best possible, 84.13 %. By many draws of the
/// pairs that choose; what the threshold is then worth is computed.
fn expected_accuracy() -> &'static f64 {
    static EXPECTED: OnceLock<f64> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let draws = 2_000;
        let sum: f64 = (0..draws)
            .map(|seed| {
                let mut dice = Dice::new(1_000_000 + seed);
                let mut pairs: Vec<(f64, bool)> =
                    (0..CHOOSING).map(|n| (dice.normal() + if n % 2 == 0 { 2.0 } else { 0.0 }, n % 2 == 0)).collect();
                pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
                let mut right = CHOOSING as i32 / 2;
                let (mut best, mut threshold) = (right, pairs[0].0);
                for window in pairs.windows(2) {
                    right += if window[0].1 { -1 } else { 1 };
                    if right > best {
                        (best, threshold) = (right, (window[0].0 + window[1].0) / 2.0);
                    }
                }
                (phi(threshold) + phi(2.0 - threshold)) / 2.0
            })
            .sum();
        sum / draws as f64
    })
}

/// Tables often tell a genuine and an impostor pair in turn. A fold must not hold one kind alone for that: its threshold, chosen on the
/// others, would then be the wrong one for it.
#[test]
fn folds_that_are_dealt_out_hold_both_kinds() {
    for with_persons in [false, true] {
        let draws = 40;
        let sum: f64 = (0..draws)
            .map(|seed| {
                let mut dice = Dice::new(seed);
                let trials = (0..PAIRS as u32)
                    .map(|place| {
                        let genuine = place % 2 == 0;
                        let persons = if genuine { [2 * place; 2] } else { [2 * place, 2 * place + 1] };
                        let score = dice.normal() + if genuine { 2.0 } else { 0.0 };
                        (pair(genuine, with_persons.then_some(persons)), answer(&mut dice, score, 0.0))
                    })
                    .collect();
                let figures =
                    face_match::evaluate(&scores(Question::FaceMatch, &[], trials), &circumstances(), None).json;
                figures["accuracy"].as_f64().unwrap()
            })
            .sum();
        // The mean of forty is known to 0.4 %.
        let found = sum / f64::from(draws as u32);
        assert!((found - expected_accuracy()).abs() < 0.01, "{with_persons}: {found} is not {}", expected_accuracy());
    }
}

/// All replicates of a bootstrap over trials without an error are without one; that proves no more than the rule of three does.
#[test]
fn rates_of_which_no_error_was_seen_are_not_certain() {
    for persons in [false, true] {
        let score = |n: u32, right: bool| if right { 0.9 } else { 0.1 } + 1e-4 * f64::from(n);
        let given = |score| Answer { outcome: "PASS".into(), score: Some(score), latency_ms: 1.0, ..Answer::default() };
        let pairs = (0..120u32).map(|n| {
            let (genuine, first) = (n % 3 == 0, 2 * n);
            let both = if genuine { [first; 2] } else { [first, first + 1] };
            (pair(genuine, persons.then_some(both)), given(score(n, genuine)))
        });
        let figures =
            face_match::evaluate(&scores(Question::FaceMatch, &[], pairs.collect()), &circumstances(), None).json;
        let bound = |path: &str, name: &str| figures["intervals"][path][name].as_f64().unwrap();
        // Forty genuine and eighty impostor pairs.
        near(&figures["eer"], 0.0);
        near(&figures["intervals"]["tar_at_fmr/1e-1"]["low_95"], 1.0 - 3.0 / 40.0);
        near(&figures["intervals"]["accuracy"]["low_95"], 1.0 - 3.0 / 120.0);
        assert!(
            bound("eer", "high_95") >= 3.0 / 120.0 && bound("eer", "low_95") == 0.0,
            "{}",
            figures["intervals"]["eer"]
        );
    }
    let frames = (0..200u32).map(|n| {
        let (live, subject) = (n % 2 == 0, format!("s{}", n / 10));
        let truth = Truth::Presentation { species: (!live).then(|| "print".into()), subject };
        let score = if live { 0.9 } else { 0.1 };
        (truth, Answer { outcome: "PASS".into(), score: Some(score), latency_ms: 1.0, ..Answer::default() })
    });
    let figures = liveness::evaluate(&scores(Question::Liveness, &[], frames.collect()), &circumstances()).json;
    // Twenty persons.
    near(&figures["intervals"]["bpcer"]["high_95"], 0.15);
    assert!(figures["intervals"]["eer"]["high_95"].as_f64().unwrap() >= 3.0 / 40.0, "{}", figures["intervals"]["eer"]);
}

#[test]
fn intervals_of_pairs_that_share_persons_hold_the_truth() {
    const PERSONS: u32 = 30;
    let coverage = over_draws(DRAWS, |dice, coverage| {
        // Half of the variance is the person's: all genuine pairs of one are good or bad together, and so are all impostor pairs.
        let persons: Vec<[f64; 2]> = (0..PERSONS).map(|_| [dice.normal(), dice.normal()]).collect();
        let mut trials = Vec::new();
        for (number, [own, lamb]) in (0..PERSONS).zip(&persons) {
            for _ in 0..2 {
                let score = 2.0 + (own + dice.normal()) * 0.5f64.sqrt();
                trials.push((pair(true, Some([number; 2])), answer(dice, score, 0.05)));
            }
            for step in 1..=2 {
                let other = (number + step) % PERSONS;
                let score = 0.5 * (lamb + persons[other as usize][1]) + dice.normal() * 0.5f64.sqrt();
                trials.push((pair(false, Some([number, other])), answer(dice, score, 0.05)));
            }
        }
        let scores = scores(Question::FaceMatch, &[("fmr_1e-1", 1.0)], trials);
        let figures = face_match::evaluate(&scores, &circumstances(), None).json;
        count_face_match(coverage, &figures);
        coverage.add("failures_to_process", &figures["failures_to_process"], 0.05);
    });
    coverage.check("pairs of 30 persons", &[]);
}

#[test]
fn intervals_of_frames_hold_the_truth() {
    const PERSONS: u32 = 30;
    const FRAMES: u32 = 2;
    // Normal deviates of the kinds' scores; the threshold lies at 0.
    let kinds = [(None, 1.0), (Some("print"), -1.0), (Some("screen_replay"), -0.2)];
    // Where as many live frames lie below as attacks above: both species have as many frames.
    let eer = {
        let (mut low, mut high) = (-3.0, 3.0);
        for _ in 0..60 {
            let middle: f64 = (low + high) / 2.0;
            let attacks = (phi(-1.0 - middle) + phi(-0.2 - middle)) / 2.0;
            if phi(middle - 1.0) < attacks { low = middle } else { high = middle }
        }
        phi(low - 1.0)
    };
    let coverage = over_draws(DRAWS, |dice, coverage| {
        let mut trials = Vec::new();
        for (species, mean) in kinds {
            for person in 0..PERSONS {
                // A third of the variance is the person's (and the session's: it is drawn anew for each kind).
                let own = dice.normal();
                for _ in 0..FRAMES {
                    let deviate = mean + own * (1.0f64 / 3.0).sqrt() + dice.normal() * (2.0f64 / 3.0).sqrt();
                    let truth =
                        Truth::Presentation { species: species.map(str::to_owned), subject: format!("s{person}") };
                    // Within 0.5 to 0.7, where the table of thresholds has none: 33 bootstraps less for each draw.
                    trials.push((truth, answer(dice, 0.5 + 0.2 * phi(deviate), 0.05)));
                }
            }
        }
        let scores = scores(Question::Liveness, &[("bpcer_2e-1", 0.6)], trials);
        let figures = liveness::evaluate(&scores, &circumstances()).json;
        coverage.add_from(&figures, "bpcer", phi(-1.0));
        coverage.add_from(&figures, "apcer_by_species/print", phi(-1.0));
        coverage.add_from(&figures, "apcer_by_species/screen_replay", phi(-0.2));
        coverage.add_from(&figures, "apcer", phi(-0.2));
        coverage.add_from(&figures, "eer", eer);
        coverage.add("failures_to_process", &figures["failures_to_process"], 0.05);
    });
    coverage.check("frames of 30 persons", &[]);
}

/// Estimates are `true age + bias + N(0, 5²)`, 36 % of the variance the person's; the young look two years older than they are, the
/// grown-up two years younger.
fn count_ages(dice: &mut Dice, coverage: &mut Coverage, pictures_each: usize) {
    const DEVIATION: f64 = 5.0;
    let (young, grown) = (16.0, 35.0);
    let mut trials = Vec::new();
    for person in 0..if pictures_each == 1 { 100 } else { 36 } {
        let (age, bias) = if person % 2 == 0 { (young, 2.0) } else { (grown, -2.0) };
        let own = dice.normal();
        for _ in 0..pictures_each {
            let deviate = if pictures_each == 1 { own } else { 0.6 * own + 0.8 * dice.normal() };
            let mut answer = answer(dice, age + bias + DEVIATION * deviate, 0.05);
            let estimate = answer.score.unwrap_or_default();
            answer.measurements.insert(age::LOW_95.into(), estimate - 1.5 * DEVIATION);
            answer.measurements.insert(age::HIGH_95.into(), estimate + 1.5 * DEVIATION);
            trials.push((Truth::Face { age, subject: (pictures_each > 1).then(|| format!("s{person}")) }, answer));
        }
    }
    let scores = scores(Question::Age, &[("challenge_21", 21.0)], trials);
    let figures = age::evaluate(&scores, &circumstances(), 18.0).json;
    // The mean of |N(2, 5²)|, which is that of |N(−2, 5²)|.
    let z: f64 = 2.0 / DEVIATION;
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let mae = 2.0 * DEVIATION * density + 2.0 * (1.0 - 2.0 * phi(-z));
    // Of several pictures each, a band has 18 persons only: too few to tell 95 % from 92 % in so many draws.
    let bands = [("mae_by_band/13-18", mae), ("bias_by_band/13-18", 2.0), ("bias_by_band/30-40", -2.0)];
    for (path, truth) in bands.into_iter().filter(|_| pictures_each == 1).chain([
        ("mae", mae),
        ("bias", 0.0),
        ("gates/challenge_21/fpr", phi((young + 2.0 - 21.0) / DEVIATION)),
        ("gates/challenge_21/fnr", phi((21.0 - grown + 2.0) / DEVIATION)),
        // By more than 7.5 years too old or too young.
        ("outside_stated_interval", phi((2.0 - 7.5) / DEVIATION) + phi((-2.0 - 7.5) / DEVIATION)),
    ]) {
        coverage.add_from(&figures, path, truth);
    }
    coverage.add("failures_to_process", &figures["failures_to_process"], 0.05);
}

#[test]
fn intervals_of_ages_hold_the_truth() {
    let single = over_draws(DRAWS, |dice, coverage| count_ages(dice, coverage, 1));
    // The share of false rejections is 0.5 %: most draws of 60 have none, and the rule of three holds that.
    let independent =
        ["mae", "bias", "mae_by_band/13-18", "bias_by_band/13-18", "bias_by_band/30-40", "gates/challenge_21/fpr"];
    single.check("single pictures", &independent);
    let several = over_draws(DRAWS, |dice, coverage| count_ages(dice, coverage, 2));
    several.check("two pictures of each person", &[]);
}

#[test]
fn intervals_of_latencies_hold_the_truth() {
    let coverage = over_draws(DRAWS, |dice, coverage| {
        let trials = (0..75)
            .map(|_| {
                let mut answer = answer(dice, 0.0, 0.0);
                answer.latency_ms = 20.0 * dice.normal().exp();
                (Truth::Media, answer)
            })
            .collect();
        let figures = latency::evaluate(&scores(Question::Latency, &[], trials), &circumstances()).json;
        let intervals = &figures["latency_ms_intervals"];
        let median = json!({
            "value": figures["latency_ms"]["p50"],
            "low_95": intervals["50 %"]["low_95"],
            "high_95": intervals["50 %"]["high_95"],
        });
        coverage.add("median", &median, 20.0);
        coverage.add("90 %", &intervals["90 %"], 20.0 * Z_90.exp());
    });
    coverage.check("latency", &["median", "90 %"]);
}

#[test]
fn intervals_of_reading_hold_the_truth() {
    let coverage = over_draws(2 * DRAWS, |dice, coverage| {
        // A zone has two lines. A dark one (30 %) is read wrong in each line by half, any other by a twentieth.
        let zones = (0..90)
            .map(|_| {
                let chance = if dice.hits(0.3) { 0.5 } else { 0.05 };
                let wrong = [dice.hits(chance), dice.hits(chance)].map(u32::from);
                let errors = wrong[0] + wrong[1];
                read(Reading {
                    expected: true,
                    found: true,
                    exact: errors == 0,
                    lines: 2,
                    lines_exact: 2 - errors,
                    characters: 88,
                    character_errors: 8 * errors,
                    ..Reading::default()
                })
            })
            .collect();
        let figures = reading::evaluate(&scores(Question::Mrz, &[], zones), &circumstances()).json;
        coverage.add_from(&figures, "exact_rate", 0.3 * 0.25 + 0.7 * 0.95 * 0.95);
        let line_error = 0.3 * 0.5 + 0.7 * 0.05;
        coverage.add_from(&figures, "line_exact_rate", 1.0 - line_error);
        coverage.add_from(&figures, "character_error_rate", line_error * 16.0 / 88.0);

        let symbols = (0..120)
            .map(|place| {
                let expected = place % 2 == 0;
                let found = dice.hits(if expected { 0.8 } else { 0.1 });
                read(Reading { expected, found, exact: expected && found, ..Reading::default() })
            })
            .collect();
        let figures = reading::evaluate(&scores(Question::Barcode, &[], symbols), &circumstances()).json;
        coverage.add_from(&figures, "decoded_rate", 0.8);
        coverage.add_from(&figures, "false_positive_rate", 0.1);
    });
    coverage.check("reading", &["exact_rate", "decoded_rate", "false_positive_rate"]);
}

fn read(reading: Reading) -> (Truth, Answer) {
    (Truth::Document, Answer { reading: Some(reading), latency_ms: 1.0, ..Answer::default() })
}

// ---------------------------------------------------------------- figures through the binary

/// 400 genuine and 400 impostor pairs in two folds, everybody in one pair alone. Genuine scores 0.6 and 0.9, four of them 0.3;
/// impostors 0 to 0.399. Two more pairs cannot be compared.
fn face_set(stage: &Stage) {
    let mut table = String::from("a,b,same,fold\n");
    for i in 0..400 {
        let fold = i % 2 + 1;
        let genuine = match i {
            0 | 101 | 200 | 301 => 0.3,
            _ if i / 2 % 2 == 0 => 0.6,
            _ => 0.9,
        };
        stage.write(&format!("g{i}/a.jpg"), "0");
        stage.write(&format!("g{i}/b.jpg"), &format!("{}", 1.0 - genuine));
        table += &format!("g{i}/a.jpg,g{i}/b.jpg,1,{fold}\n");
        stage.write(&format!("i{i}/a.jpg"), "0");
        stage.write(&format!("j{i}/a.jpg"), &format!("{}", 1.0 - f64::from(i) / 1_000.0));
        table += &format!("i{i}/a.jpg,j{i}/a.jpg,impostor,{fold}\n");
    }
    stage.write("x/a.jpg", "noface");
    stage.write("x/b.jpg", "0");
    stage.write("y/a.jpg", "0");
    stage.write("z/a.jpg", "broken");
    table += "x/a.jpg,x/b.jpg,1,1\ny/a.jpg,z/a.jpg,0,2\n";
    stage.write("pairs.csv", &table);
}

fn near(value: &Value, expected: f64) {
    let found = value.as_f64().unwrap_or_else(|| panic!("no number: {value}"));
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

/// A page that needs nothing else, and says what it is about.
fn is_self_contained(stage: &Stage, name: &str, title: &str) {
    let page = stage.read(name);
    for foreign in ["http://", "https://", "<script", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign:?} is in {name}");
    }
    assert!(page.starts_with("<!") && page.contains(title), "{name} does not tell of {title}");
}

/// No results but these, and nothing left over from the run.
fn results_are(stage: &Stage, names: &[&str]) {
    assert_eq!(stage.results().keys().map(String::as_str).collect::<Vec<_>>(), names);
}

const FACE: &str = "evaluate face-match --pairs data/pairs.csv";
const ALL: &str = "--json out/r.json --html out/r.html --scores out/s.jsonl";

#[test]
fn face_match_from_pairs_to_a_calibration() {
    let stage = Stage::new(Manner::at("face_match", "fmr_1e-2", 0.5));
    face_set(&stage);
    let ended = stage.succeed(&format!("{FACE} {ALL} --name made --callers 3"));
    results_are(&stage, &["r.html", "r.json", "s.jsonl"]);
    is_self_contained(&stage, "out/r.html", "1:1 face match");
    // Every pair was scored in spite of the refusals, and none twice.
    assert_eq!(stage.questions(), 802);
    assert!(stage.calls() > 802);

    let figures = stage.json("out/r.json");
    assert_eq!((&figures["vouch_evaluation"], &figures["question"]), (&json!(1), &json!("face_match")));
    assert_eq!((&figures["genuine"], &figures["impostor"]), (&json!(400), &json!(400)));
    assert_eq!((&figures["trials"], &figures["subjects"]), (&json!(802), &json!(1_203)));
    assert_eq!(figures["failures_to_process"]["errors"], 2);
    assert_eq!(figures["failures_to_process"]["by_reason"], json!({ "NO_FACE": 1, "IMAGE_TRUNCATED": 1 }));
    // Every threshold between 0.399 and 0.6 is best: four genuine pairs of 800 are wrong.
    near(&figures["accuracy"], 796.0 / 800.0);
    // A failed genuine pair counts as a non-match, a failed impostor pair as rejected.
    near(&figures["accuracy_failures_as_non_match"], 797.0 / 802.0);
    // At 0.396 four impostors pass, and the four genuine pairs do not.
    near(&figures["eer"], 0.01);
    for fmr in ["1e-1", "1e-2", "1e-3"] {
        near(&figures["tar_at_fmr"][fmr], 0.99);
    }
    let detail = &figures["tar_at_fmr_detail"];
    assert_eq!((&detail["1e-1"]["fmr"]["errors"], &detail["1e-2"]["fmr"]["errors"]), (&json!(40), &json!(4)));
    // 400 pairs without an error show 3/400 and no less.
    assert_eq!((&detail["1e-2"]["supported"], &detail["1e-3"]["supported"]), (&json!(true), &json!(false)));
    ended.says("cannot show an FMR of 1e-3");
    near(&figures["fmr"], 0.0);
    near(&figures["fnmr"], 0.01);
    assert_eq!(figures["intervals"]["fnmr"]["errors"], 4);
    near(&figures["intervals"]["fmr"]["high_95"], 3.0 / 400.0);
    for path in ["accuracy", "eer", "fnmr", "tar_at_fmr/1e-1"] {
        let interval = &figures["intervals"][path];
        let [low, value, high] = ["low_95", "value", "high_95"].map(|name| interval[name].as_f64().unwrap());
        assert!(low < value && value < high, "{path}: {interval}");
    }
    assert!(figures["latency_ms"]["p50"].as_f64().unwrap() > 0.0);
    assert_eq!(figures["decisions"]["genuine"], json!({ "PASS": 400, "INCONCLUSIVE": 1 }));
    assert_eq!(figures["options"]["operating point"], "fmr_1e-2");

    // ------------------------------------------------ the calibration
    let ended = stage.succeed("calibrate --scores out/s.jsonl --out out/face_match.toml --html out/c.html");
    is_self_contained(&stage, "out/c.html", "Calibration of face_match");
    let calibration = Calibration::load(&stage.path("out/face_match.toml")).unwrap();
    let [point] = &calibration.operating_points[..] else { panic!("{:?}", calibration.operating_points) };
    // Four of 400 impostors may pass: above 0.395, which is the fifth highest.
    assert_eq!((point.name.as_str(), point.threshold, point.rates["fmr"].errors), ("fmr_1e-2", 0.3951, 4));
    assert_eq!((point.rates["fmr"].support(), point.rates["fnmr"].errors), (Support::FewErrors, 4));
    assert_eq!(
        (calibration.decide(point, 0.6), calibration.decide(point, 0.395)),
        (Decision::Accept, Decision::Reject)
    );
    assert_eq!(calibration.models["face_embedder"], "ab".repeat(32));
    assert!(!calibration.models.contains_key("face_embedder_b"), "a model that takes no part");
    assert_eq!((calibration.data.failures_to_process.values().sum::<u64>(), calibration.data.subjects), (2, 1_200));
    assert_eq!(calibration.data.set, "made");
    assert_eq!(figures["date"], calibration.data.measured_on, "a run over midnight");
    // What the data cannot bear is named and not made up, and beyond the last score there is a bound and no line drawn on.
    for target in ["fmr_1e-3", "fmr_1e-4", "fmr_1e-5", "fmr_1e-6"] {
        ended.says(&format!("{target} is not offered: 400 trials"));
    }
    let beyond = calibration.calibrate(0.99).unwrap();
    assert!(beyond.beyond_support && beyond.low_95 == 0.0 && beyond.value >= 3.0 / 400.0, "{beyond:?}");
}

#[test]
fn a_calibration_tells_what_would_change_and_carries_the_limits_over() {
    let stage = Stage::new(Manner::default());
    face_set(&stage);
    stage.succeed(&format!("{FACE} --scores out/s.jsonl"));
    let calibrate = "calibrate --scores out/s.jsonl --out out/face_match.toml";
    stage.succeed(&format!("{calibrate} --limit inter_eye_px_min=10 --review-rate 0.1"));
    let first = Calibration::load(&stage.path("out/face_match.toml")).unwrap();
    // Forty of 400 may go to a person: above 0.359.
    assert_eq!(first.operating_points[0].review_threshold, Some(0.3591));
    // In use is one with a threshold that rejects 0.6.
    fs::create_dir(stage.path("use")).unwrap();
    let text = stage.read("out/face_match.toml").replace("0.3951", "0.7");
    fs::write(stage.path("use/face_match.toml"), text).unwrap();
    fs::remove_file(stage.path("out/face_match.toml")).unwrap();
    let ended = stage.succeed(&format!("{calibrate} --base use/face_match.toml --dry-run"));
    results_are(&stage, &["s.jsonl"]);
    ended.says("fmr_1e-2 0.7000 0.3951");
    // Between 0.3591 and 0.7 the one in use sends to a person; the new one has no such range.
    for row in ["genuine REVIEW PASS 196", "genuine PASS PASS 200", "genuine FAIL FAIL 4", "impostor REVIEW PASS 4"] {
        ended.says(row);
    }
    ended.says("would be written");

    let ended = stage.succeed(&format!("{calibrate} --base use/face_match.toml"));
    ended.says("is written; the daemon takes it at its next start");
    let second = Calibration::load(&stage.path("out/face_match.toml")).unwrap();
    assert_eq!((second.operating_points[0].threshold, second.operating_points[0].review_threshold), (0.3951, None));
    assert_eq!(second.operating_points[0].limits["inter_eye_px_min"], 10.0);
    // Without --base, the file at --out is the one in use.
    stage.succeed(calibrate).says("fmr_1e-2 0.3951 0.3951");
}

#[test]
fn similarities_of_two_models_are_fused() {
    let stage = Stage::new(Manner::default());
    let mut table = String::from("a,b,same\n");
    let mut dice = Dice::new(1);
    for i in 0..300 {
        let mut picture = |name: String, likeness: f64| {
            let [a, b] = [0.1, 0.1].map(|deviation| likeness + deviation * dice.normal());
            stage.write(&name, &format!("{} {}", 1.0 - a, 1.0 - b));
        };
        picture(format!("g{i}/b.jpg"), 0.7);
        picture(format!("j{i}/a.jpg"), 0.4);
        stage.write(&format!("g{i}/a.jpg"), "0 0");
        table += &format!("g{i}/a.jpg,g{i}/b.jpg,1\ng{i}/a.jpg,j{i}/a.jpg,0\n");
    }
    stage.write("pairs.csv", &table);
    stage.succeed(&format!("{FACE} {ALL}"));
    let figures = stage.json("out/r.json");
    // Each alone confuses 6.7 % (half of 3 standard deviations), both together 1.7 %.
    for (path, rate) in [("cosine_a", phi(-1.5)), ("cosine_b", phi(-1.5))] {
        let eer = figures["by_measurement"][path]["eer"].as_f64().unwrap();
        assert!((eer - rate).abs() < 0.03, "{path}: {eer}");
    }
    let ended = stage.succeed("calibrate --scores out/s.jsonl --out out/face_match.toml");
    ended.says("What fusing brings");
    let calibration = Calibration::load(&stage.path("out/face_match.toml")).unwrap();
    let weights: Vec<f64> = calibration.fusion.as_ref().unwrap().terms.iter().map(|term| term.weight).collect();
    assert!(weights.len() == 2 && weights.iter().all(|weight| (weight - 0.5).abs() < 0.1), "{weights:?}");
    assert!(calibration.models.contains_key("face_embedder_b"));
    let point = calibration.operating_point("").unwrap();
    let missed = phi((point.threshold - 0.7) / (0.1 * 0.5f64.sqrt()));
    assert!((point.rates["fnmr"].low_95..point.rates["fnmr"].high_95).contains(&missed), "{missed} {point:?}");

    stage.succeed("calibrate --scores out/s.jsonl --out out/face_match.toml --fuse cosine_a");
    let alone = Calibration::load(&stage.path("out/face_match.toml")).unwrap();
    assert!(alone.operating_point("").unwrap().rates["fnmr"].errors > point.rates["fnmr"].errors);
    let refused = stage.run("calibrate --scores out/s.jsonl --out out/face_match.toml --fuse cosine_c");
    refused.refused(65, &["--fuse cosine_c: not every answer has it"]);
}

/// Five subjects of twenty frames for each kind. Live 0.8 to 0.895, prints below 0.2, replays 0.2 to 0.39 but for ten frames of subject 3.
fn liveness_set(stage: &Stage) {
    for subject in 0..5 {
        for frame in 0..20 {
            let x = f64::from(frame) / 100.0;
            stage.write(&format!("live/s{subject}/{frame}.jpg"), &format!("{}", 0.8 + x / 2.0));
            stage.write(&format!("print/s{subject}/{frame}.png"), &format!("uncalibrated {x}"));
            // Subject 3's screen looks live half of the time.
            let screen = if subject == 3 && frame >= 10 { 0.85 } else { 0.2 + x };
            stage.write(&format!("screen_replay/s{subject}/{frame}.jpg"), &format!("{screen}"));
        }
    }
    stage.write("live/s0/none.jpg", "noface");
    stage.write("live/s0/notes.txt", "is no picture");
}

#[test]
fn liveness_by_species_and_subject() {
    let stage = Stage::new(Manner::at("passive_liveness", "apcer_5e-2", 0.5));
    liveness_set(&stage);
    let ended = stage.succeed(&format!("evaluate liveness --dir data {ALL}"));
    is_self_contained(&stage, "out/r.html", "Passive liveness");
    assert_eq!(stage.questions(), 301);
    let figures = stage.json("out/r.json");
    assert_eq!(figures["attacks"]["screen_replay"], json!({ "frames": 100, "subjects": 5 }));
    assert_eq!(figures["live"], json!({ "frames": 100, "subjects": 5 }));
    near(&figures["apcer_by_species"]["screen_replay"], 0.1);
    near(&figures["apcer_by_species"]["print"], 0.0);
    near(&figures["apcer"], 0.1);
    assert_eq!(figures["apcer_worst_species"], "screen_replay");
    near(&figures["bpcer"], 0.0);
    assert_eq!(figures["failures_to_process"]["by_reason"], json!({ "NO_FACE": 1 }));
    // One subject of five caused them all: the interval must reach far above 10 %.
    assert!(figures["intervals"]["apcer"]["high_95"].as_f64().unwrap() >= 0.3);
    // Five subjects without an error prove little, however many frames they have.
    near(&figures["intervals"]["bpcer"]["high_95"], 0.6);
    ended.says("screen_replay: 5 persons. The interval, not the value, says what is known");
    let of_subject = |kind: &str, subject: &str| {
        let all = figures["by_subject"].as_array().unwrap();
        all.iter().find(|entry| entry["kind"] == kind && entry["subject"] == subject).unwrap().clone()
    };
    assert_eq!(of_subject("screen_replay", "s3")["errors"], 10);
    assert_eq!(of_subject("screen_replay", "s2")["errors"], 0);
    assert_eq!(figures["decisions"]["print"], json!({ "INCONCLUSIVE": 100 }));

    let calibrate = "calibrate --scores out/s.jsonl --out out/passive_liveness.toml";
    stage.succeed(&format!("{calibrate} --default apcer_1e-1"));
    let calibration = Calibration::load(&stage.path("out/passive_liveness.toml")).unwrap();
    let point = calibration.operating_point("").unwrap();
    // Ten of 100 screen replays may pass, and exactly ten score 0.85: above the next one, 0.39.
    assert_eq!((point.threshold, point.rates["apcer"].errors, point.rates["bpcer"].errors), (0.3901, 10, 0));
    assert_eq!((point.rates["apcer_print"].errors, point.rates["apcer_screen_replay"].errors), (0, 10));
    assert!(point.rates["apcer"].high_95 >= 0.3, "{:?}", point.rates["apcer"]);
    assert_eq!(point.rates["bpcer"].high_95, 0.6);
    // Five subjects without an error leave 60 % open: neither 5 % nor less can be named after them, however many frames there are.
    for refused in ["apcer_5e-2", "apcer_2e-2"] {
        assert!(calibration.operating_point(refused).is_none(), "{refused}");
    }

    // By default the strictest threshold that rejects at most 5 % of the live frames: five of 100 lie below 0.805.
    stage
        .succeed(&format!("{calibrate} --base out/passive_liveness.toml --default bpcer_5e-2"))
        .says("apcer_1e-1: in use, and not in the new file");
    let calibration = Calibration::load(&stage.path("out/passive_liveness.toml")).unwrap();
    let point = calibration.operating_point("").unwrap();
    assert!((point.threshold - 0.805).abs() < 2e-4 && point.rates["bpcer"].errors == 5, "{point:?}");
}

/// The estimates of two models for 600 pictures of ages 5 to 64, two of each person. One is too low by 10 %, the other too high by 8 years; both wobble.
fn age_estimates() -> impl Iterator<Item = (u32, f64, f64, f64)> {
    (0..600u32).map(|i| {
        let age = f64::from(5 + i % 60);
        let a = age * 0.9 + f64::from(i * 7 % 11) / 2.0 - 2.5;
        (i, age, a, age + 8.0 + f64::from(i * 11 % 13) / 2.0 - 3.0)
    })
}

fn age_set(stage: &Stage) {
    let mut table = String::from("file,age,subject,camera\n");
    for (i, age, a, b) in age_estimates() {
        stage.write(&format!("f{i}.jpg"), &format!("{a} {b}"));
        table += &format!("f{i}.jpg,{age},s{},{}\n", i % 300, if i < 590 { "front" } else { "back" });
    }
    stage.write("f.jpg", "noface");
    stage.write("ages.csv", &(table + "f.jpg,30,s,front\n"));
}

#[test]
fn age_combines_the_estimators() {
    let stage = Stage::new(Manner::at("age_estimation", "challenge_25", 25.0));
    age_set(&stage);
    let ended = stage.succeed(&format!("evaluate age --labels data/ages.csv {ALL}"));
    is_self_contained(&stage, "out/r.html", "Age estimation");
    let figures = stage.json("out/r.json");
    assert_eq!(
        (&figures["images"], &figures["failures_to_process"]["by_reason"]),
        (&json!(600), &json!({ "NO_FACE": 1 }))
    );
    let errors: Vec<(f64, f64)> = age_estimates().map(|(_, age, a, b)| (age, (a + b) / 2.0 - age)).collect();
    let mean = |from: f64, to: f64, value: &dyn Fn(f64) -> f64| {
        let inside: Vec<f64> =
            errors.iter().filter(|(age, _)| (from..to).contains(age)).map(|(_, error)| value(*error)).collect();
        inside.iter().sum::<f64>() / inside.len() as f64
    };
    near(&figures["mae"], mean(0.0, 99.0, &f64::abs));
    near(&figures["bias"], mean(0.0, 99.0, &|error| error));
    for (band, from, to) in [("0-13", 0.0, 13.0), ("13-18", 13.0, 18.0), ("18-25", 18.0, 25.0), ("50-65", 50.0, 65.0)] {
        near(&figures["bias_by_band"][band], mean(from, to, &|error| error));
        near(&figures["mae_by_band"][band], mean(from, to, &f64::abs));
        assert!(figures["intervals"][format!("bias_by_band/{band}")]["low_95"].is_number());
    }
    // The young pass whose estimate is 25 or more.
    let passes = age_estimates().filter(|(_, age, a, b)| *age < 18.0 && a + b >= 50.0).count();
    let gate = &figures["intervals"]["gates/challenge_25/fpr"];
    assert_eq!((&gate["errors"], &gate["trials"]), (&json!(passes), &json!(130)));
    // b − age goes evenly from 5 to 11.
    near(&figures["by_estimator"]["age_b_years"]["bias"], {
        age_estimates().map(|(_, age, _, b)| b - age).sum::<f64>() / 600.0
    });
    // Each estimate says ± 4 years.
    near(&figures["outside_stated_interval"], mean(0.0, 99.0, &|error| f64::from(u8::from(error.abs() > 4.0))));
    ended.says("groups of camera that are too small to say anything: 1");
    let groups = figures["groups"].as_array().unwrap();
    assert!(groups.iter().any(|group| group["group"] == "back" && group["trials"] == 10 && group["too_small"] == true));

    stage
        .succeed("calibrate --scores out/s.jsonl --out out/age_estimation.toml")
        .says("What combining brings, cross-validated");
    let calibration = Calibration::load(&stage.path("out/age_estimation.toml")).unwrap();
    let age = calibration.age.as_ref().unwrap().apply(&[("age_a_years", 36.0), ("age_b_years", 48.0)]).unwrap();
    assert!((age.value - 40.0).abs() < 1.0 && age.low_95 < 40.0 && age.high_95 > 40.0, "{age:?}");
    let point = calibration.operating_point("").unwrap();
    assert_eq!((point.name.as_str(), point.rates["fpr"].trials, point.rates["fpr"].errors), ("challenge_25", 130, 0));
    // Everybody of 18 to 24 and hardly anybody of 25 to 29 lies below 25.
    assert!((0.5..0.75).contains(&point.rates["fnr_18_to_30"].value), "{:?}", point.rates);
    let single = ["age_a_years", "age_b_years"].map(|name| figures["by_estimator"][name]["mae"].as_f64().unwrap());
    let raw = single.into_iter().fold(mean(0.0, 99.0, &f64::abs), f64::min);
    let bands = &calibration.age.as_ref().unwrap().bands;
    let images: u64 = bands.iter().map(|band| band.images).sum();
    let combined = bands.iter().map(|band| band.mae * band.images as f64).sum::<f64>() / images as f64;
    assert!(images == 600 && combined < 1.5 && combined < raw, "{combined} {raw}");
    // People are told apart, so both pictures of one are in one part; the one that failed is not counted among the pictures.
    assert_eq!((calibration.data.trials["images"], calibration.data.failures_to_process["NO_FACE"]), (600, 1));
}

#[test]
fn zones_are_compared_with_what_is_printed() {
    let stage = Stage::new(Manner::default());
    let printed = ["P<UTOA", "L89890"];
    let zone = |first: &str, rest: &str| format!("mrz {first}\nmrz {}\n{rest}", printed[1]);
    let pictures = [
        zone(printed[0], "valid"),
        zone(printed[0], "valid"),
        zone(printed[0], "valid\nfield sex=F?"),
        // A letter wrong and all check digits right: once not doubted, once doubted.
        zone("P<UTOB", "valid"),
        zone("P<UTOB", "valid\nfield family_name=B?"),
        // Wrong, and known to be.
        zone("P<XXXX", ""),
        "nothing here".to_owned(),
    ];
    let mut truth = Vec::new();
    for (i, picture) in pictures.iter().enumerate() {
        stage.write(&format!("{i}.png"), picture);
        truth.push(json!({ "image": format!("{i}.png"), "lines": printed, "format": "TD3" }));
    }
    stage.write("truth.json", &json!(truth).to_string());
    stage.succeed(&format!("evaluate mrz --truth data/truth.json {ALL}"));
    is_self_contained(&stage, "out/r.html", "Machine-readable zones");
    let figures = stage.json("out/r.json");
    near(&figures["exact_rate"], 3.0 / 7.0);
    near(&figures["not_found_rate"], 1.0 / 7.0);
    near(&figures["line_exact_rate"], 9.0 / 14.0);
    // Of 84 characters: one, one, four, and all twelve of the zone that was not found.
    near(&figures["character_error_rate"], 18.0 / 84.0);
    let counts = ["exact", "valid_but_wrong", "valid_but_wrong_unmarked", "exact_but_doubted"].map(|key| &figures[key]);
    assert_eq!(counts, [&json!(3), &json!(2), &json!(1), &json!(1)]);
    assert!(figures["intervals"]["exact_rate"]["low_95"].as_f64().unwrap() < 0.25);
    // What was read and printed stays out of the results.
    assert!(stage.results().values().all(|file| !String::from_utf8_lossy(file).contains("UTO")));
}

#[test]
fn symbols_and_false_finds_are_counted() {
    let stage = Stage::new(Manner::default());
    for i in 0..10 {
        let picture = match i {
            8 => "symbol other",
            9 => "nothing",
            _ => "symbol (01)0123",
        };
        stage.write(&format!("qr/{i}-1.png"), picture);
        stage.write(&format!("qr/{i}.txt"), "010123");
    }
    for i in 0..5 {
        stage.write(&format!("none/{i}.png"), if i == 0 { "symbol ghost" } else { "nothing" });
    }
    stage.succeed(&format!("evaluate barcode --dir data {ALL}"));
    is_self_contained(&stage, "out/r.html", "Barcodes");
    let figures = stage.json("out/r.json");
    let counts =
        ["decoded", "with_symbol", "wrong_payload", "false_positives", "without_symbol"].map(|key| &figures[key]);
    assert_eq!(counts, [&json!(8), &json!(10), &json!(1), &json!(1), &json!(5)]);
    near(&figures["decoded_rate"], 0.8);
    near(&figures["false_positive_rate"], 0.2);
    let groups = figures["groups"].as_array().unwrap();
    assert_eq!((&groups[0]["column"], &groups[0]["groups"][0]["group"]), (&json!("folder"), &json!("qr")));
}

#[test]
fn fields_are_right_wrong_doubted_or_missing() {
    let stage = Stage::new(Manner::default());
    let pictures = [
        "field sex=F\nfield birth_date=1990-01-02",
        "field sex=F\nfield birth_date=1990-01-02",
        "field sex=M\nfield birth_date=1990-01-02",
        "field sex=F\nfield birth_date=1990-01-03?",
        "field sex=F",
    ];
    for (i, picture) in pictures.iter().enumerate() {
        stage.write(&format!("t/{i}.png"), picture);
        let fields =
            [("sex", "F"), ("birth_date", "1990-01-02")].map(|(name, value)| json!({ "name": name, "value": value }));
        let truth = json!({ "kind": "td3", "pages": [{ "file": format!("{i}.png"), "fields": fields }] });
        stage.write(&format!("t/{i}.json"), &truth.to_string());
    }
    stage.succeed(&format!("evaluate document --truth data/t {ALL}"));
    is_self_contained(&stage, "out/r.html", "Fields of documents");
    let figures = stage.json("out/r.json");
    near(&figures["exact_rate"], 0.4);
    near(&figures["field_exact_rate"], 0.7);
    let counts = ["wrong_fields", "doubted_fields", "missing_fields"].map(|key| &figures[key]);
    assert_eq!(counts, [&json!(1), &json!(1), &json!(1)]);
    near(&figures["fields"]["sex"], 0.8);
    assert_eq!(figures["field_counts"]["birth_date"], json!({ "right": 3, "doubted": 1, "missing": 1 }));
    assert!(stage.results().values().all(|file| !String::from_utf8_lossy(file).contains("1990")));
}

/// A picture that could not be decoded is counted as a failure, and as one that was not read: whoever shows it gets no answer. It still shows
/// what it shows, so that a symbol that was refused is none of the pictures without one.
#[test]
fn documents_that_cannot_be_decoded_are_not_read() {
    let stage = Stage::new(Manner::default());
    let (right, wrong) = ("valid\nmrz A\nsymbol A\nfield sex=A", "mrz B\nsymbol B\nfield sex=B");
    let mut zones = Vec::new();
    for (i, picture) in [right, wrong, "unreadable", "unreadable"].into_iter().enumerate() {
        let name = format!("{i}.png");
        stage.write(&format!("d/{name}"), picture);
        stage.write(&format!("d/{i}.txt"), "A");
        zones.push(json!({ "image": name, "lines": ["A"] }));
        let page = json!({ "file": name, "fields": [{ "name": "sex", "value": "A" }] });
        stage.write(&format!("d/{i}.json"), &json!({ "kind": "td1", "pages": [page] }).to_string());
    }
    stage.write("d/empty.png", "nothing");
    stage.write("d/zones", &json!(zones).to_string());
    let mut wrong = Vec::new();
    for (arguments, rate) in [
        ("mrz --truth data/d/zones", "exact_rate"),
        ("barcode --dir data/d", "decoded_rate"),
        ("document --truth data/d", "exact_rate"),
    ] {
        stage.succeed(&format!("evaluate {arguments} --json out/r.json"));
        let figures = stage.json("out/r.json");
        assert_eq!(figures["failures_to_process"]["by_reason"], json!({ "IMAGE_TRUNCATED": 2 }));
        if figures[rate] != 0.25 || figures["intervals"][rate]["value"] != 0.25 {
            wrong.push(format!("{arguments}: {}", figures["intervals"][rate]));
        }
        if let Some(without) = figures.get("without_symbol").filter(|count| **count != 1) {
            wrong.push(format!("{arguments}: {without} pictures without a symbol"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn whole_verifications_are_timed() {
    let stage = Stage::new(Manner { pause: Duration::from_millis(20), ..Manner::default() });
    for i in 0..3 {
        stage.write(&format!("selfie/{i}.jpg"), "a");
        stage.write(&format!("document/{i}.jpg"), if i == 0 { "broken" } else { "b" });
    }
    stage.succeed(&format!("evaluate latency --media data --rounds 10 --callers 2 {ALL}"));
    is_self_contained(&stage, "out/r.html", "Latency");
    let figures = stage.json("out/r.json");
    assert_eq!((&figures["trials"], &figures["answered"], &figures["callers"]), (&json!(30), &json!(20), &json!(2)));
    let number = |path: &str| figures.pointer(path).unwrap().as_f64().unwrap_or_else(|| panic!("{path}: {figures}"));
    assert!((20.0..2_000.0).contains(&number("/latency_ms/p50")), "{}", figures["latency_ms"]);
    assert!(number("/latency_ms/p99") >= number("/latency_ms/p50"));
    assert!(number("/stages_ms/first result/p50") > 0.0 && number("/stages_ms/face_match/p50") > 0.0);
    let interval = &figures["latency_ms_intervals"]["50 %"];
    assert!(interval["low_95"].as_f64() <= Some(number("/latency_ms/p50")));
    assert!(number("/per_second") > 0.0 && number("/seconds") > 0.2);
}

/// A failure is told sooner than an answer takes, so it must not shorten the times of answers.
#[test]
fn times_are_those_of_answers() {
    let trials = (0..90)
        .map(|place| {
            let mut answer = Answer { latency_ms: 100.0, ..Answer::default() };
            if place % 3 != 0 {
                answer = Answer { failure: Some("IMAGE_TRUNCATED".into()), latency_ms: 1.0, ..Answer::default() };
            }
            (Truth::Media, answer)
        })
        .collect();
    let figures = latency::evaluate(&scores(Question::Latency, &[], trials), &circumstances()).json;
    assert_eq!(figures["latency_ms"]["p50"], 100.0);
    assert_eq!(figures["latency_ms_intervals"]["50 %"], json!({ "low_95": 100.0, "high_95": 100.0 }));
}

// ---------------------------------------------------------------- interrupted and taken up again

const INTERRUPTED: usize = 150;

/// A run of 150 questions that takes a second or more.
fn slow_stage() -> Stage {
    let stage = Stage::new(Manner::slow());
    let mut table = String::from("file,age,subject\n");
    for i in 0..INTERRUPTED {
        stage.write(&format!("{i}.jpg"), &format!("{} {}", i % 60, (i * 7) % 60));
        table += &format!("{i}.jpg,{},s{}\n", i % 60, i / 2);
    }
    stage.write("ages.csv", &table);
    stage
}

const AGE: &str = "evaluate age --labels data/ages.csv --callers 3";

/// Begins the run and waits until it is well under way.
fn begin(stage: &Stage, line: &str) -> Child {
    let child = stage.command(line).spawn().unwrap();
    stage.wait_for_calls(60);
    child
}

/// The answers in a file of scores, without a line that was cut.
fn kept(stage: &Stage, name: &str) -> usize {
    Scores::read(&stage.path(name)).unwrap().scored.len()
}

/// A result without what no two runs have in common.
fn comparable(mut figures: Value) -> Value {
    let object = figures.as_object_mut().unwrap();
    for key in ["seconds", "latency_ms", "date"] {
        assert!(object.remove(key).is_some(), "{key} is missing");
    }
    figures
}

/// Takes up what was interrupted and compares it with a run that was not.
fn goes_on(stage: &Stage, line: &str) {
    let before = kept(stage, "out/s.jsonl.partial");
    // All but what was on its way in the three callers and in the queue behind them.
    assert!((40..INTERRUPTED).contains(&before), "{before}");
    stage.start(Manner::default());
    let ended = stage.succeed(line);
    assert_eq!(stage.questions() as usize, INTERRUPTED - before, "asked for what was there already");
    assert!(
        ended.err.contains(&format!("{before} of {INTERRUPTED} answers are there already; going on")),
        "{}",
        ended.err
    );
    results_are(stage, &["r.json", "s.jsonl"]);
    assert_eq!(stage.json("out/r.json")["seconds"], Value::Null);

    stage.succeed(&format!("{AGE} --json out/whole.json --scores out/whole.jsonl"));
    assert_eq!(comparable(stage.json("out/r.json")), comparable(stage.json("out/whole.json")));
    let scores = |name: &str| {
        let mut scores = Scores::read(&stage.path(name)).unwrap();
        scores.scored.iter_mut().for_each(|scored| scored.answer.latency_ms = 0.0);
        assert!(scores.is_complete());
        scores
    };
    assert_eq!(scores("out/s.jsonl"), scores("out/whole.jsonl"));
}

#[test]
fn a_run_that_was_killed_goes_on_where_it_was() {
    let stage = slow_stage();
    let line = format!("{AGE} --json out/r.json --scores out/s.jsonl");
    let mut child = begin(&stage, &line);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None);
    results_are(&stage, &["s.jsonl.partial"]);
    goes_on(&stage, &line);
}

#[test]
fn a_run_that_was_interrupted_says_so_and_goes_on() {
    let stage = slow_stage();
    let line = format!("{AGE} --json out/r.json --scores out/s.jsonl");
    let child = begin(&stage, &line);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    let told = format!("stopped after {} of {INTERRUPTED}", kept(&stage, "out/s.jsonl.partial"));
    ended.refused(75, &[&told, "out/s.jsonl.partial; the same command goes on from there"]);
    results_are(&stage, &["s.jsonl.partial"]);
    goes_on(&stage, &line);
}

#[test]
fn a_daemon_that_dies_leaves_what_was_answered() {
    let stage = slow_stage();
    let line = format!("{AGE} --json out/r.json --scores out/s.jsonl");
    let child = begin(&stage, &line);
    stage.stop();
    let ended = Ended::from(child.wait_with_output().unwrap());
    ended.refused(69, &["the daemon cannot be reached", "the same command goes on from there"]);
    results_are(&stage, &["s.jsonl.partial"]);
    // Nobody there: neither lost nor finished.
    stage.run(&line).refused(69, &["is vouchd running?"]);
    goes_on(&stage, &line);
}

#[test]
fn an_interrupted_run_is_not_mixed_with_another() {
    let stage = slow_stage();
    let line = format!("{AGE} --json out/r.json");
    let mut child = begin(&stage, &line);
    child.kill().unwrap();
    child.wait().unwrap();
    let partial = stage.results();
    assert_eq!(partial.keys().collect::<Vec<_>>(), ["r.json.partial"]);

    let table = stage.read("data/ages.csv");
    stage.start(Manner { models: "ef".repeat(32), ..Manner::default() });
    let words =
        "holds an interrupted run with another daemon (version, models or calibration); begin anew with --restart";
    stage.run(&line).refused(65, &["out/r.json.partial", words]);
    stage.start(Manner::default());
    stage.write("ages.csv", &table.replacen("0.jpg,0,s0", "0.jpg,1,s0", 1));
    stage.run(&line).refused(65, &["holds an interrupted run with another data;", "--restart"]);
    let other = "evaluate liveness --dir data/l --json out/r.json";
    stage.write("l/live/a/1.jpg", "1");
    stage.write("l/print/a/1.jpg", "0");
    stage.run(other).refused(65, &["another question and another data", "--restart"]);
    assert_eq!(stage.calls(), 0, "the daemon was asked");
    assert_eq!(stage.results(), partial);

    stage.succeed(&format!("{line} --restart"));
    assert_eq!(stage.questions() as usize, INTERRUPTED);
    results_are(&stage, &["r.json"]);
}

/// Killed before its first line was whole. There is nothing to go on with, and a file that is not ours is not written over unasked.
#[test]
fn an_interrupted_run_that_kept_nothing_begins_anew_when_told_to() {
    let stage = slow_stage();
    let line = format!("{AGE} --json out/r.json");
    for left in ["", "{\"vouch_sco"] {
        fs::write(stage.path("out/r.json.partial"), left).unwrap();
        stage.run(&line).refused(65, &["out/r.json.partial: is not a scores file", "begin anew with --restart"]);
        assert_eq!(stage.read("out/r.json.partial"), left);
    }
    stage.succeed(&format!("{line} --restart"));
    results_are(&stage, &["r.json"]);
}

#[test]
fn a_daemon_that_changes_its_models_midway_gives_no_figures() {
    let stage = slow_stage();
    stage.start(Manner { models_change_after: Some(50), ..Manner::default() });
    let ended = stage.run(&format!("{AGE} --json out/r.json"));
    ended.refused(65, &["models or calibration changed during the run", "--restart"]);
    assert!(!stage.path("out/r.json").exists());
}

// ---------------------------------------------------------------- bad input

/// Four persons with three pictures each, and results of an earlier run.
fn bad_input_stage() -> Stage {
    let stage = Stage::new(Manner::default());
    for person in ["p", "q", "r", "s"] {
        for picture in 1..=3 {
            stage.write(&format!("{person}/{picture}.jpg"), "0.5");
        }
    }
    for name in ["r.json", "r.html", "s.jsonl"] {
        fs::write(stage.path("out").join(name), "of an earlier run").unwrap();
    }
    stage
}

#[test]
fn tables_with_a_problem_are_refused_whole() {
    let stage = bad_input_stage();
    let before = stage.results();
    let pair = "p/1.jpg,p/2.jpg";
    let tables: [(&str, &str, i32, &[&str]); 17] = [
        ("face-match --pairs", "a,c,same\nx,y,1\n", 65, &["data/t:1: the header has no column b; it needs a, b, same"]),
        ("face-match --pairs", "", 65, &["data/t:1: the header has no column a, b, same"]),
        ("face-match --pairs", "a,b,same\n", 65, &["has a header and no rows"]),
        ("face-match --pairs", "a,b,same\np/1.jpg,p/2.jpg\n", 65, &["line: 2"]),
        (
            "face-match --pairs",
            &format!("a,b,same\n{pair},yess\np/1.jpg,q/1.jpg,o\n"),
            65,
            &["t:2: same is \"yess\"", "t:3: same is \"o\"; expected 1 or 0"],
        ),
        (
            "face-match --pairs",
            &format!("a,b,same\n{pair},1\np/1.jpg,q/1.jpg,0\np/2.jpg,p/1.jpg,1\n"),
            65,
            &["t:4: repeats the pair of line 2"],
        ),
        (
            "face-match --pairs",
            &format!("a,b,same\n{pair},1\n"),
            65,
            &["holds genuine pairs only; both kinds are needed"],
        ),
        ("face-match --pairs", "a,b,same\np/1.jpg,q/1.jpg,0\n", 65, &["holds impostor pairs only"]),
        (
            "face-match --pairs",
            &format!("a,b,same\n{pair},1\np/1.jpg,q/9.jpg,0\np/1.jpg,q/8.jpg,0\n"),
            66,
            &["q/9.jpg: no such file", "q/8.jpg: no such file"],
        ),
        (
            "face-match --pairs",
            &format!("a,b,same,subject_a,subject_b\n{pair},1,p,q\n"),
            65,
            &["which subject_a and subject_b contradict"],
        ),
        ("age --labels", "file,age\np/1.jpg,NaN\np/2.jpg,old\n", 65, &["t:2: age is \"NaN\"", "t:3: age is \"old\""]),
        ("age --labels", "file,age\np/1.jpg,20\np/1.jpg,21\n", 65, &["t:3: repeats the file of line 2"]),
        ("age --labels", "file,age\np/9.jpg,20\n", 66, &["p/9.jpg: no such file"]),
        ("age --labels", "file,years\np/1.jpg,20\n", 65, &["the header has no column age"]),
        ("mrz --truth", "[{\"image\": \"p/1.jpg\", \"lines\": []}]", 65, &["p/1.jpg: has no lines"]),
        ("mrz --truth", "{", 65, &["data/t: "]),
        ("document --truth", "{\"kind\": \"td3\", \"pages\": []}", 65, &["has no page or no field"]),
    ];
    for (command, table, code, words) in tables {
        stage.write("t", table);
        stage.run(&format!("evaluate {command} data/t {ALL}")).refused(code, words);
    }
    let (only_live, loose) = (stage.path("data/live"), "x.jpg");
    fs::create_dir_all(only_live.join("a")).unwrap();
    stage.write("live/a/1.jpg", "1");
    for (arguments, code, words) in [
        ("face-match --pairs data/none.csv", 66, "data/none.csv: "),
        ("age --labels data/none.csv", 66, "data/none.csv: "),
        ("mrz --truth data/none.json", 66, "data/none.json: "),
        ("document --truth data/none.json", 66, "data/none.json: "),
        ("barcode --dir data/none", 66, "data/none: "),
        ("latency --media data/none", 66, "data/none: "),
        ("liveness --dir data/none", 66, "data/none: "),
        ("liveness --dir data/live", 65, "there are 1 live pictures and 0 of attacks"),
        ("barcode --dir data/p", 65, "no picture has its payload beside it"),
        ("latency --media data", 65, "no pictures"),
    ] {
        stage.run(&format!("evaluate {arguments} {ALL}")).refused(code, &[words]);
    }
    stage.write(&format!("live/{loose}"), "1");
    stage.run("evaluate liveness --dir data/live").refused(65, &["x.jpg: lies in no subject's folder"]);
    assert_eq!(stage.calls(), 0, "the daemon was asked");
    assert_eq!(stage.results(), before);
}

#[test]
fn a_minimum_age_that_is_no_age_is_refused() {
    let stage = bad_input_stage();
    stage.write("ages.csv", "file,age\np/1.jpg,20\n");
    for age in ["NaN", "inf", "=-1", "400"] {
        let line = format!("evaluate age --labels data/ages.csv --minimum-age {age}").replace(" =", "=");
        stage.run(&line).refused(64, &["--minimum-age"]);
    }
}

const GOOD: &str = "a,b,same\np/1.jpg,p/2.jpg,1\np/1.jpg,q/1.jpg,0\n";

#[test]
fn what_is_needed_beside_the_table_is_seen_to_before_anything_is_asked() {
    let stage = bad_input_stage();
    stage.write("pairs.csv", GOOD);
    let before = stage.results();
    for option in ["--json", "--html", "--scores"] {
        let missing = format!("{FACE} {option} nowhere/r");
        stage.run(&missing).refused(74, &["nowhere/r cannot be written"]);
        stage.run(&format!("{FACE} {option} out")).refused(74, &["is a directory"]);
    }
    stage
        .run(&format!("{FACE} {ALL} --operating-point fmr_1e-9"))
        .refused(65, &["--operating-point fmr_1e-9: the daemon has"]);
    stage.run(&format!("{FACE} {ALL} --compare out/none.json")).refused(66, &["out/none.json"]);
    stage.run(&format!("{FACE} {ALL} --compare out/r.json")).refused(65, &["out/r.json"]);
    assert_eq!(stage.calls(), 0, "the daemon was asked");
    stage.stop();
    stage.run(&format!("{FACE} {ALL}")).refused(69, &["the daemon cannot be reached at", "is vouchd running?"]);
    fs::remove_file(stage.path("s")).unwrap();
    stage.run(&format!("{FACE} {ALL}")).refused(69, &["no such socket"]);
    assert_eq!(stage.results(), before);
}

#[test]
fn scores_that_are_no_numbers_are_failures() {
    let mut wrong = Vec::new();
    for words in ["NaN", "inf", "uncalibrated NaN"] {
        let stage = bad_input_stage();
        for (name, score) in
            [("live/a/1", "0.9"), ("live/a/2", words), ("print/a/1", "0.1"), ("print/b/1", "uncalibrated 0.2")]
        {
            stage.write(&format!("frames/{name}.jpg"), score);
        }
        stage.succeed(&format!("evaluate liveness --dir data/frames {ALL}"));
        let figures = stage.json("out/r.json");
        assert_eq!(
            (&figures["live"]["frames"], &figures["attacks"]["print"]["frames"]),
            (&json!(1), &json!(2)),
            "{words}"
        );
        let scores = Scores::read(&stage.path("out/s.jsonl")).unwrap();
        assert!(scores.is_complete() && scores.scored[1].answer.score.is_none());
        let failures = &figures["failures_to_process"];
        // An outcome is no reason for a failure.
        if failures["errors"] != 1 || failures["by_reason"].get("PASS").is_some() {
            wrong.push(format!("{words}: {failures}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A measurement that is no number has no form in JSON, and must not make the rest of the file unreadable.
#[test]
fn measurements_that_are_no_numbers_are_left_out() {
    let stage = bad_input_stage();
    stage.write("pairs.csv", GOOD);
    stage.write("q/1.jpg", "0.5 nomeasure");
    stage.succeed(&format!("{FACE} {ALL}"));
    let scores = Scores::read(&stage.path("out/s.jsonl")).unwrap();
    assert!(scores.is_complete(), "{} answers can be read", scores.scored.len());
    let measurements = &scores.scored[1].answer.measurements;
    assert!(measurements.contains_key("cosine_a") && !measurements.contains_key("sharpness"), "{measurements:?}");
}

/// Three persons with eighty pictures each, for a face match, an age and, with twenty frames, liveness: evaluations and their checks.
fn three_persons(stage: &Stage) -> [(&'static str, &'static str); 3] {
    let (mut pairs, mut ages) = (String::from("a,b,same\n"), String::from("file,age,subject\n"));
    let mut dice = Dice::new(3);
    for person in 0..3 {
        for picture in 0..80 {
            let name = format!("p{person}/{picture}.jpg");
            let (age, place) = (5.0 + f64::from(picture), f64::from(person) / 3.0 + 0.01 * dice.normal());
            let [a, b] = [dice.normal(), dice.normal()].map(|error| age + 3.0 * error);
            // For the age two estimates, for the match a place, in a picture of its own.
            stage.write(&format!("age/{name}"), &format!("{a} {b}"));
            stage.write(&format!("face/{name}"), &format!("{place}"));
            ages += &format!("{name},{age},s{person}\n");
            if picture > 0 {
                pairs += &format!("p{person}/0.jpg,{name},1\n{name},p{}/0.jpg,0\n", (person + 1) % 3);
            }
            if picture < 20 {
                stage.write(&format!("frames/live/{name}"), &format!("{}", 0.9 + 0.01 * dice.normal()));
                stage.write(&format!("frames/print/{name}"), &format!("{}", 0.1 + 0.01 * dice.normal()));
            }
        }
    }
    stage.write("face/pairs.csv", &pairs);
    stage.write("age/ages.csv", &ages);
    [
        ("face-match --pairs data/face/pairs.csv", "face_match"),
        ("liveness --dir data/frames", "passive_liveness"),
        ("age --labels data/age/ages.csv", "age_estimation"),
    ]
}

#[test]
fn three_persons_are_evaluated_with_a_warning() {
    let stage = Stage::new(Manner::default());
    let mut silent = Vec::new();
    for (arguments, check) in three_persons(&stage) {
        let ended = stage.succeed(&format!("evaluate {arguments} --json out/{check}.json"));
        if !(ended.out.contains("warning: ") && ended.out.contains("3 persons")) {
            silent.push(check);
        }
    }
    assert!(silent.is_empty(), "no word of how few persons there are: {silent:?}");
}

#[test]
fn three_persons_are_no_ground_for_a_calibration() {
    let stage = Stage::new(Manner::default());
    let mut taken = Vec::new();
    for (arguments, check) in three_persons(&stage) {
        stage.succeed(&format!("evaluate {arguments} --scores out/{check}.jsonl"));
        let ended = stage.run(&format!("calibrate --scores out/{check}.jsonl --out out/{check}.toml"));
        if ended.code == Some(65) {
            ended.refused(65, &["no calibration: 3 ", "persons are no ground for a threshold"]);
            assert!(!stage.path("out").join(format!("{check}.toml")).exists());
        } else {
            taken.push(check);
        }
    }
    assert!(taken.is_empty(), "calibrated on three persons: {taken:?}");
}

#[test]
fn a_calibration_that_fails_leaves_the_one_in_use_untouched() {
    let stage = Stage::new(Manner::default());
    face_set(&stage);
    stage.succeed(&format!("{FACE} --scores out/s.jsonl"));
    stage.succeed("calibrate --scores out/s.jsonl --out out/face_match.toml");

    let scores = stage.read("out/s.jsonl");
    let lines: Vec<&str> = scores.lines().collect();
    let with = |name: &str, lines: &[&str]| fs::write(stage.path(name), lines.join("\n") + "\n").unwrap();
    with("out/short.jsonl", &lines[..700]);
    // A line that was cut in the middle of the file is damage; one at its end is an interruption.
    with("out/damaged.jsonl", &[&lines[..9], &[&lines[9][..20]], &lines[10..]].concat());
    with("out/twice.jsonl", &[&lines[..], &lines[5..6]].concat());
    fs::write(stage.path("out/cut.jsonl"), &scores[..scores.len() - 9]).unwrap();
    with("out/foreign.jsonl", &["a,b,same", "1,2,1"]);
    stage.write("z/1.png", "mrz A");
    stage.write("z/t.json", "[{\"image\": \"1.png\", \"lines\": [\"A\"]}]");
    stage.succeed("evaluate mrz --truth data/z/t.json --scores out/mrz.jsonl");
    let before = stage.results();
    for (arguments, code, words) in [
        (
            "out/short.jsonl --out out/face_match.toml",
            65,
            "699 of 802 trials are answered: finish the evaluation first",
        ),
        ("out/cut.jsonl --out out/face_match.toml", 65, "801 of 802 trials are answered"),
        ("out/damaged.jsonl --out out/face_match.toml", 65, "out/damaged.jsonl:10: "),
        ("out/twice.jsonl --out out/face_match.toml", 65, "out/twice.jsonl:804: a trial stands twice"),
        ("out/foreign.jsonl --out out/face_match.toml", 65, "is not a scores file of `vouch evaluate`"),
        ("out/none.jsonl --out out/face_match.toml", 66, "out/none.jsonl"),
        ("out/mrz.jsonl --out out/mrz.toml", 65, "mrz decides by no score, so there is nothing to calibrate"),
        ("out/s.jsonl --out out/match.toml", 65, "--out out/match.toml: the file must be named face_match.toml"),
        (
            "out/s.jsonl --out out/face_match.toml --default fmr_1e-4",
            65,
            "fmr_1e-4 is not supported by the data: 400 trials",
        ),
        (
            "out/s.jsonl --out out/face_match.toml --default fmr_0",
            65,
            "--default fmr_0: there is no such operating point",
        ),
        ("out/s.jsonl --out nowhere/face_match.toml", 74, "nowhere/face_match.toml cannot be written"),
        ("out/s.jsonl --out out/face_match.toml --base out/s.jsonl", 65, "out/s.jsonl"),
        ("out/s.jsonl --out out/face_match.toml --limit x=NaN", 64, "--limit"),
        ("out/s.jsonl --out out/face_match.toml --review-rate 2", 64, "--review-rate"),
    ] {
        let ended = stage.run(&format!("calibrate --scores {arguments}"));
        ended.refused(code, &[words]);
        assert!(stage.results() == before, "{arguments}: changed {:?}", changed(&before, &stage.results()));
    }
}

fn changed(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names = before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name));
    names.cloned().collect()
}

/// The daemon passes over a file of another extension.
#[test]
fn a_calibration_under_a_name_that_no_daemon_reads_is_refused() {
    let stage = Stage::new(Manner::default());
    liveness_set(&stage);
    stage.succeed("evaluate liveness --dir data --scores out/s.jsonl");
    let ended = stage.run("calibrate --scores out/s.jsonl --out out/passive_liveness.json");
    ended.refused(65, &["the file must be named passive_liveness.toml"]);
    results_are(&stage, &["s.jsonl"]);
}

#[test]
fn a_page_that_cannot_be_written_leaves_the_calibration_in_use() {
    let stage = Stage::new(Manner::default());
    liveness_set(&stage);
    stage.succeed("evaluate liveness --dir data --scores out/s.jsonl");
    let calibrate = "calibrate --scores out/s.jsonl --out out/passive_liveness.toml";
    stage.succeed(calibrate);
    let before = stage.results();
    stage
        .run(&format!("{calibrate} --note new --html nowhere/c.html"))
        .refused(74, &["nowhere/c.html cannot be written"]);
    assert!(stage.results() == before, "changed: {:?}", changed(&before, &stage.results()));
}

/// The operator writes the file as one user, the daemon reads it as another.
#[test]
fn a_calibration_can_be_read_by_whom_any_file_can() {
    let stage = Stage::new(Manner::default());
    liveness_set(&stage);
    stage.succeed("evaluate liveness --dir data --json out/r.json --scores out/s.jsonl");
    stage.succeed("calibrate --scores out/s.jsonl --out out/passive_liveness.toml");
    let mode = |name: &str| stage.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(format!("{:o}", mode("out/passive_liveness.toml") & 0o044), "44");
    let _ = fs::File::create(stage.path("out/plain")).unwrap();
    assert_eq!(format!("{:o}", mode("out/r.json")), format!("{:o}", mode("out/plain")));
}

// ---------------------------------------------------------------- side by side, and group by group

#[test]
fn two_results_are_set_side_by_side() {
    let stage = Stage::new(Manner::default());
    face_set(&stage);
    stage.succeed(&format!("{FACE} --json out/r.json"));
    let mut earlier = stage.json("out/r.json");
    earlier["intervals"]["eer"] = json!({ "value": 0.3, "low_95": 0.28, "high_95": 0.32 });
    earlier["intervals"]["accuracy"]["value"] = json!(0.994);
    earlier["models"]["face_embedder"] = json!("ef".repeat(32));
    earlier["date"] = json!("2026-01-02");
    fs::write(stage.path("out/earlier.json"), earlier.to_string()).unwrap();
    let ended =
        stage.succeed(&format!("{FACE} --json out/again.json --html out/again.html --compare out/earlier.json"));
    ended.says("Compared with another run");
    ended.says("Not the same: models.");
    ended.says("Other: data of 2026-01-02");
    ended.says("eer 0.30000 0.01000 -0.29000 differs");
    ended.says("accuracy 0.99400 0.99500 0.00100 may be chance");
    ended.says("accuracy_failures_as_non_match 0.99377 0.99377 0 the same");
    assert!(stage.read("out/again.html").contains("Compared with another run"));
}

/// Before the daemon is asked for an hour.
#[test]
fn a_result_that_cannot_be_compared_is_refused_at_once() {
    let stage = bad_input_stage();
    stage.write("pairs.csv", GOOD);
    stage.succeed(&format!("{FACE} --json out/r.json"));
    let mut earlier = stage.json("out/r.json");
    earlier["question"] = json!("age");
    fs::write(stage.path("out/age.json"), earlier.to_string()).unwrap();
    fs::write(stage.path("out/other.json"), "{}").unwrap();
    let (before, calls) = (stage.results(), stage.calls());
    let refused = stage.run(&format!("{FACE} --json out/r.json --compare out/age.json"));
    refused.refused(65, &["--compare: is a result of \"age\", not of face_match"]);
    let refused = stage.run(&format!("{FACE} --json out/r.json --compare out/other.json"));
    refused.refused(65, &["--compare: is no result of `vouch evaluate --json`"]);
    assert_eq!(stage.calls(), calls, "the daemon was asked");
    assert!(stage.results() == before, "{:?}", changed(&before, &stage.results()));
}

#[test]
fn columns_of_the_table_are_groups() {
    let stage = Stage::new(Manner::at("face_match", "fmr_1e-2", 0.5));
    let mut table = String::from("a,b,same,Sex\n");
    let mut person = 0;
    for (sex, wrong, count) in [("F", 80, 200), ("M", 40, 200), ("X<b>", 1, 5)] {
        for n in 0..count {
            stage.write(&format!("g{person}/a.jpg"), "0");
            stage.write(&format!("g{person}/b.jpg"), if n < wrong { "0.7" } else { "0.2" });
            table += &format!("g{person}/a.jpg,g{person}/b.jpg,1,{sex}\n");
            person += 1;
        }
    }
    for n in 0..40 {
        stage.write(&format!("i{n}/a.jpg"), "0.9");
        table += &format!("i{n}/a.jpg,g{n}/a.jpg,0,\n");
    }
    stage.write("pairs.csv", &table);
    let ended = stage.succeed(&format!("{FACE} {ALL}"));
    let figures = stage.json("out/r.json");
    let [group] = &figures["groups"].as_array().unwrap()[..] else { panic!("{}", figures["groups"]) };
    assert_eq!((&group["column"], &group["measure"], &group["differs"]), (&json!("sex"), &json!("fnmr"), &json!(true)));
    near(&group["ratio"], 2.0);
    let rates: Vec<(&str, u64, u64, bool)> = group["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            let number = |key: &str| group[key].as_u64().unwrap();
            (
                group["group"].as_str().unwrap(),
                number("errors"),
                number("trials"),
                group["too_small"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(rates, [("F", 80, 200, false), ("M", 40, 200, false), ("X<b>", 1, 5, true)]);
    ended.says("FNMR by sex");
    ended.says("Worst to best of the groups that are large enough: 2.0 times, at least 1.3 times by the intervals.");
    ended.says("the intervals of F and M do not overlap: they differ by more than chance makes between two groups");
    ended.says("warning: 1 of 3 groups are too small to say much");
    let page = stage.read("out/r.html");
    assert!(page.contains("large enough: 2.0 times") && page.contains("1 of 3 groups are too small"));
    // Names come from the customer's file.
    assert!(page.contains("X&lt;b&gt;") && !page.contains("X<b>"));
}
