//! Active liveness: what a frame costs by stage, which labelled events are seen, and what sessions over labelled clips end with.
//!
//! `cargo bench --bench live -- stages`                 cost of a 640 × 480 frame on one thread, by stage (after `make pack sample-photos`)
//! `cargo bench --bench live -- events LABELS`          recall and false alarms of each action over labelled clips (needs ffmpeg)
//! `cargo bench --bench live -- motion LABELS`          how fast faces move and how alike frames are in them: what limits must leave room for
//! `cargo bench --bench live -- sessions LABELS`        rehearsals of challenges fitted to the clips
//! `cargo bench --bench live -- scores CROP FOLDER...`  lower quartile of passive liveness over the frames of each folder, cropped to CROP heights of the face
//! `cargo bench --bench live -- trace FOLDER`           what is measured on each frame of a folder of pictures
//! `cargo bench --bench live -- replay FOLDER...`       folders of frames held against a challenge of one smile, for their passive liveness
//!
//! LABELS is a JSON file `{"videos": [{"file", "fps", "live", "events": [[name, first, last]...]}]}` beside its clips; turns are named by the side of the picture.

#[path = "../tests/common/mod.rs"]
mod common;
mod models;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use serde::Deserialize;
use vouch::config::Config;
use vouch::decoders::Decoders;
use vouch::face::detect::FaceDetector;
use vouch::face::embed::{Crop, FaceEmbedder};
use vouch::face::landmarks::{FaceLandmarks, Mesh, Region};
use vouch::face::liveness::PassiveLiveness;
use vouch::face::{Bounds, align};
use vouch::imaging::Image;
use vouch::imaging::decode::{DecodeOptions, decode};
use vouch::imaging::tensor::to_tensor;
use vouch::imaging::warp::Sampling;
use vouch::inference::RequestContext;
use vouch::live::actions::{Eyes, level};
use vouch::live::neutral::Neutral;
use vouch::live::session::{Policy, Rehearsal};
use vouch::live::signals::{Relative, Signals, median};
use vouch::live::solid::{Change, parallax_share};
use vouch::live::terms::Terms;
use vouch::live::{Action, CHECK, Mirroring};
use vouch::models::manifest::Role;
use vouch::pipeline::Engine;
use vouch::pipeline::live::{Frame, LiveSession, Looked, outcome, relief};

#[derive(Deserialize)]
struct Labels {
    videos: Vec<Video>,
}

#[derive(Deserialize)]
struct Video {
    file: String,
    fps: f64,
    live: bool,
    events: Vec<(String, usize, usize)>,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["stages"] => stages(),
        ["events", labels] => events(Path::new(labels)),
        ["motion", labels] => motion(Path::new(labels)),
        ["sessions", labels] => sessions(Path::new(labels)),
        ["scores", crop, folders @ ..] => scores(crop.parse()?, folders),
        ["trace", folder] => trace(Path::new(folder)),
        ["replay", folders @ ..] => replay(folders),
        _ => anyhow::bail!("see the head of benches/live.rs"),
    }
}

// ---------------------------------------------------------------- clips

/// The labelled clips that are there, each with its path.
fn clips(labels: &Path) -> anyhow::Result<Vec<(PathBuf, Video)>> {
    let text = std::fs::read_to_string(labels).with_context(|| labels.display().to_string())?;
    let found: Labels = serde_json::from_str(&text)?;
    let folder = labels.parent().unwrap_or(Path::new("."));
    let (there, missing): (Vec<_>, Vec<_>) =
        found.videos.into_iter().map(|video| (folder.join(&video.file), video)).partition(|(path, _)| path.exists());
    if !missing.is_empty() {
        println!("{} of the labelled clips are not there and not counted", missing.len());
    }
    Ok(there)
}

/// The frames of a video as JPEG files.
fn frames(path: &Path) -> anyhow::Result<Vec<Bytes>> {
    let arguments =
        ["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p", "-fps_mode", "passthrough", "-enc_time_base", "1:90000"];
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(arguments)
        .args(["-f", "image2pipe", "-"])
        .stdin(Stdio::null())
        .output()
        .context("ffmpeg is needed (apt-get install ffmpeg)")?;
    anyhow::ensure!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    let bytes = Bytes::from(output.stdout);
    let mut starts: Vec<usize> =
        (0..bytes.len().saturating_sub(3)).filter(|&at| bytes[at..].starts_with(&[0xff, 0xd8, 0xff])).collect();
    starts.push(bytes.len());
    Ok(starts.windows(2).map(|ends| bytes.slice(ends[0]..ends[1])).collect())
}

/// The models, without queue and session of the daemon.
struct Models {
    detector: FaceDetector,
    landmarks: FaceLandmarks,
    embedder: FaceEmbedder,
    liveness: PassiveLiveness,
    context: Arc<RequestContext>,
    _registry: vouch::inference::registry::Registry,
}

impl Models {
    fn load() -> anyhow::Result<Self> {
        let registry = models::registry()?;
        Ok(Self {
            detector: FaceDetector::new(models::port(&registry, Role::FaceDetector)?),
            landmarks: FaceLandmarks::new(models::port(&registry, Role::FaceLandmarks)?),
            embedder: FaceEmbedder::new(models::port(&registry, Role::FaceEmbedder)?, Crop::ArcFace),
            liveness: PassiveLiveness::new(models::port(&registry, Role::PassiveLiveness)?),
            context: Arc::default(),
            _registry: registry,
        })
    }

    /// The mesh of each frame, tracked; `None` where there is no face.
    fn meshes(&self, files: &[Bytes]) -> anyhow::Result<Vec<Option<Mesh>>> {
        let mut region = None;
        files
            .iter()
            .map(|file| {
                let options = DecodeOptions { min_long_side_px: Some(640), ..DecodeOptions::default() };
                let image = decode(file, &options)?.image;
                if region.is_none() {
                    let faces = self.detector.find_upright(&image, &self.context)?;
                    region = faces.first().map(Region::of_face);
                }
                let Some(tracked) = region else { return Ok(None) };
                let mesh = self.landmarks.mesh(&image, &tracked, &self.context)?;
                let is_face = mesh.presence >= 0.5;
                region = is_face.then(|| mesh.region());
                Ok(is_face.then_some(mesh))
            })
            .collect()
    }
}

fn terms() -> anyhow::Result<Terms> {
    let path = common::root().join("calibration").join(format!("{CHECK}.toml"));
    let calibration = vouch::calibration::Calibration::load(&path)?;
    let point = calibration.operating_point("").context("no default operating point")?;
    Terms::from_point(point).map_err(|wrong| anyhow::anyhow!("{}", wrong.join(", ")))
}

/// The neutral face and, of each frame, the difference to it; as `live::session` has it, but from the first still stretch of the clip and without instructions.
fn relatives(meshes: &[Option<Mesh>], fps: f64) -> Option<(usize, Vec<Option<Relative>>)> {
    let mut learned = Neutral::default();
    let found = meshes.iter().enumerate().find_map(|(frame, mesh)| {
        let neutral = learned.add(frame as f64 / fps * 1e3, Signals::of(mesh.as_ref()?))?;
        Some((frame, neutral))
    });
    let (known_at, neutral) = found?;
    let signals: Vec<Option<Signals>> = meshes.iter().map(|mesh| mesh.as_ref().map(Signals::of)).collect();
    let smooth = |frame: usize| {
        let around: Option<Vec<Signals>> = (frame.saturating_sub(2)..=frame).map(|at| signals[at]).collect();
        let around = around?;
        Some(Signals { eyes: around.last()?.eyes, ..Signals::combined(&around, median) })
    };
    Some((known_at, (0..meshes.len()).map(|frame| smooth(frame).map(|now| Relative::to(&now, &neutral))).collect()))
}

// ---------------------------------------------------------------- events

/// What a label means: the action, and whether it must be seen. Slight and gradual motions may be, being below what a person does who is asked.
fn meaning(label: &str) -> Vec<(Action, bool)> {
    match label {
        "turn_image_right" => vec![(Action::TurnLeft, true)],
        "turn_image_left" => vec![(Action::TurnRight, true)],
        "turn_slight_image_right" => vec![(Action::TurnLeft, false)],
        "turn_slight" | "head_motion" | "lean_or_roll" => {
            vec![
                (Action::TurnLeft, false),
                (Action::TurnRight, false),
                (Action::LookUp, false),
                (Action::LookDown, false),
            ]
        }
        "look_up" => vec![(Action::LookUp, true)],
        "look_up_gradual" => vec![(Action::LookUp, false)],
        "look_down" => vec![(Action::LookDown, true)],
        "smile" => vec![(Action::Smile, true), (Action::OpenMouth, false)],
        "smile_slight" => vec![(Action::Smile, false)],
        "smile_open" => vec![(Action::Smile, true), (Action::OpenMouth, false)],
        "mouth_open" => vec![(Action::OpenMouth, true)],
        "blink" => vec![(Action::Blink, true)],
        "blink_or_eyes_closed" | "eyes_closed" => vec![(Action::Blink, true)],
        _ => Vec::new(),
    }
}

/// Labels are exact to this many frames.
const TOLERANCE: usize = 10;

/// The stretches in which an action counts as done.
fn seen(action: Action, relative: &[Option<Relative>], from: usize, fps: f64, terms: &Terms) -> Vec<(usize, usize)> {
    let mut eyes = Eyes::default();
    let holds: Vec<bool> = relative
        .iter()
        .enumerate()
        .map(|(frame, now)| {
            let Some(now) = now else { return false };
            if action == Action::Blink {
                return eyes.see(frame as f64 / fps * 1e3, now.eyes, terms) >= 0.5;
            }
            frame >= from && level(action, now, Mirroring::NotMirrored, terms) >= 1.0
        })
        .collect();
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for (frame, _) in holds.iter().enumerate().filter(|(_, holds)| **holds) {
        match stretches.last_mut() {
            // A short dip does not make two of one.
            Some((_, last)) if frame - *last <= 5 => *last = frame,
            _ => stretches.push((frame, frame)),
        }
    }
    stretches.retain(|(first, last)| action == Action::Blink || last > first);
    stretches
}

fn events(labels: &Path) -> anyhow::Result<()> {
    let (models, terms) = (Models::load()?, terms()?);
    let mut table: BTreeMap<Action, (usize, usize, usize, usize, f64)> = BTreeMap::new();
    let mut minutes = 0.0;
    for (path, video) in clips(labels)? {
        let meshes = models.meshes(&frames(&path)?)?;
        let Some((known_at, relative)) = relatives(&meshes, video.fps) else {
            println!("{}: never at rest, not counted", video.file);
            continue;
        };
        minutes += relative.len() as f64 / video.fps / 60.0;
        for action in Action::ALL {
            let found = seen(action, &relative, known_at, video.fps, &terms);
            let labelled: Vec<(usize, usize, bool)> = video
                .events
                .iter()
                .flat_map(|(name, first, last)| {
                    meaning(name)
                        .into_iter()
                        .filter(|(meant, _)| *meant == action)
                        .map(|(_, must)| (*first, *last, must))
                })
                .collect();
            let meets = |(first, last): (usize, usize), label: &(usize, usize, bool)| {
                first <= label.1 + TOLERANCE && label.0 <= last + TOLERANCE
            };
            let row = table.entry(action).or_default();
            for label in labelled.iter().filter(|label| label.2) {
                // What ends before the neutral face is known cannot be seen.
                if label.1 <= known_at {
                    row.3 += 1;
                    continue;
                }
                row.0 += 1;
                if found.iter().any(|stretch| meets(*stretch, label)) {
                    row.1 += 1;
                } else {
                    println!("{}: missed {} {}..{}", video.file, action.as_str(), label.0, label.1);
                }
            }
            for stretch in &found {
                if !labelled.iter().any(|label| meets(*stretch, label)) {
                    row.2 += 1;
                    if action != Action::Blink {
                        println!("{}: unlabelled {} {}..{}", video.file, action.as_str(), stretch.0, stretch.1);
                    }
                }
            }
        }
    }
    println!(
        "\n{minutes:.1} minutes of clips\n| action | labelled | seen | recall | unlabelled | before neutral |\n|---|---|---|---|---|---|"
    );
    for (action, (labelled, seen, false_alarms, before, _)) in &table {
        let recall =
            if *labelled == 0 { "–".into() } else { format!("{:.0} %", 100.0 * *seen as f64 / *labelled as f64) };
        println!("| {} | {labelled} | {seen} | {recall} | {false_alarms} | {before} |", action.as_str());
    }
    Ok(())
}

// ---------------------------------------------------------------- motion

/// Speeds, likeness of consecutive frames, and planes against heads, over all clips.
fn motion(labels: &Path) -> anyhow::Result<()> {
    let models = Models::load()?;
    println!(
        "clip: fastest turn (degrees/s; at twice the speed), fastest shift (eye spans/s), over a tenth of a second; least correlation of consecutive faces; \
              frames whose shape changes, least plane/body ratio and 5 % quantile, largest body residual"
    );
    for (path, video) in clips(labels)? {
        let files = frames(&path)?;
        let meshes = models.meshes(&files)?;
        let signals: Vec<Option<Signals>> = meshes.iter().map(|mesh| mesh.as_ref().map(Signals::of)).collect();
        // Every `times`-th frame at the distance of the camera's: so many times as fast.
        let fastest = |times: usize, of: &dyn Fn(&Signals, &Signals) -> f64| {
            let kept: Vec<&Option<Signals>> = signals.iter().step_by(times).collect();
            let pairs = kept.windows(2).filter_map(|pair| Some((pair[0].as_ref()?, pair[1].as_ref()?)));
            let speeds: Vec<f64> = pairs.map(|(a, b)| of(a, b) * video.fps).collect();
            // About what `live::motion` takes: the mean of a tenth of a second.
            let steps = ((video.fps / 10.0).round() as usize).max(1);
            speeds.windows(steps).map(|window| window.iter().sum::<f64>() / steps as f64).fold(0.0, f64::max)
        };
        let turn = |a: &Signals, b: &Signals| (b.yaw_deg - a.yaw_deg).hypot(b.pitch_deg - a.pitch_deg);
        let shift = |a: &Signals, b: &Signals| (b.centre[0] - a.centre[0]).hypot(b.centre[1] - a.centre[1]) / a.span_px;
        let mut thumbs = Vec::new();
        for (file, mesh) in files.iter().zip(&meshes) {
            let Some(mesh) = mesh else { continue };
            let options = DecodeOptions { min_long_side_px: Some(640), ..DecodeOptions::default() };
            thumbs.push(vouch::pipeline::live::thumb(&decode(file, &options)?.image, &mesh.region()).0);
        }
        let least =
            thumbs.windows(2).map(|pair| vouch::live::motion::correlation(&pair[0], &pair[1])).fold(1.0, f64::min);
        let known_at = relatives(&meshes, video.fps).map_or(5, |(known_at, _)| known_at);
        let neutral = meshes.iter().skip(known_at).flatten().next();
        let changes: Vec<Change> = neutral
            .map(|neutral| meshes.iter().flatten().map(|mesh| Change::between(neutral, mesh)).collect())
            .unwrap_or_default();
        let shaped: Vec<&Change> = changes.iter().filter(|change| change.shape >= 0.07).collect();
        let mut ratios: Vec<f64> = shaped.iter().map(|change| change.ratio()).collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "{}: {:.0} ({:.0}) {:.1}; {least:.2}; {} {:.2} {:.2} {:.3}",
            video.file,
            fastest(1, &turn),
            fastest(2, &turn),
            fastest(1, &shift),
            shaped.len(),
            ratios.first().copied().unwrap_or(f64::NAN),
            ratios.get(ratios.len() / 20).copied().unwrap_or(f64::NAN),
            shaped.iter().map(|change| change.body).fold(0.0, f64::max),
        );
    }
    Ok(())
}

// ---------------------------------------------------------------- sessions

fn engine() -> anyhow::Result<Arc<Engine>> {
    let mut config = Config::default();
    config.models.pack_dir = Some(common::root().join("models/pack"));
    Ok(Engine::load(&config, Decoders::in_process(), 1)?)
}

/// Holds a rehearsal over frames; what it ended with.
fn rehearse(
    engine: &Arc<Engine>,
    files: &[Bytes],
    fps: f64,
    steps: &[Action],
    any_reaction_time: bool,
) -> anyhow::Result<(String, Vec<f64>)> {
    let policy = Policy {
        actions: Action::ALL.to_vec(),
        steps: steps.len(),
        step_ms: 10_000.0,
        session_ms: 120_000.0,
        mirroring: Mirroring::NotMirrored,
        rehearsal: Some(Rehearsal { steps: steps.to_vec(), any_reaction_time }),
    };
    let context: Arc<RequestContext> = Arc::default();
    let mut session = LiveSession::new(engine, policy, "", &context, Box::new(|| 0))?.context("no calibration")?;
    let mut took = Vec::new();
    let mut verdict = None;
    for (index, file) in files.iter().enumerate() {
        let frame = Frame { index: index as u32, at_ms: index as f64 / fps * 1e3, file: file.clone() };
        let started = Instant::now();
        let looked = session.look(frame, false)?;
        took.push(started.elapsed().as_secs_f64() * 1e3);
        if let Looked::Told(told, _) = looked
            && let Some(reached) = told.verdict
        {
            verdict = Some(reached);
            break;
        }
    }
    let verdict = verdict.unwrap_or_else(|| session.end(vouch::live::Reason::CallerEnded));
    let today = vouch::document::mrz::Date::of_unix_time(0);
    let (finding, reason) = session.judge_samples(&verdict, "", today);
    let mut reasons = verdict.reasons.clone();
    reasons.extend(reason);
    let codes: Vec<&str> = reasons.iter().map(|reason| reason.code()).collect();
    let passed = verdict.steps.iter().filter(|step| step.passed).count();
    let text = format!(
        "{} {passed}/{} steps, liveness {} of {} frames, {} {:?}",
        outcome(&reasons).as_str(),
        steps.len(),
        verdict.live.map_or("–".into(), |live| format!("{live:.3}")),
        verdict.samples,
        finding.outcome.as_str(),
        codes
    );
    Ok((text, took))
}

fn sessions(labels: &Path) -> anyhow::Result<()> {
    let engine = engine()?;
    let mut all = Vec::new();
    for (path, video) in clips(labels)? {
        let files = frames(&path)?;
        let mut events = video.events.clone();
        events.sort_by_key(|(_, first, _)| *first);
        // All that the clip shows in its order, and each alone.
        let asked: Vec<Action> = events
            .iter()
            .filter_map(|(name, ..)| meaning(name).into_iter().find(|(_, must)| *must).map(|(action, _)| action))
            .collect();
        let turns: Vec<Action> = asked.iter().copied().filter(|action| action.turns_head()).collect();
        let mut challenges: Vec<Vec<Action>> = vec![turns];
        challenges.extend(asked.iter().map(|action| vec![*action]));
        challenges.retain(|steps| !steps.is_empty() && steps.len() <= 8);
        challenges.dedup();
        println!("{}{}", video.file, if video.live { "" } else { " (attack)" });
        for steps in challenges {
            let names: Vec<&str> = steps.iter().map(|action| action.as_str()).collect();
            for any in [false, true] {
                let (text, took) = rehearse(&engine, &files, video.fps, &steps, any)?;
                let how = if any { "any reaction" } else { "150 ms" };
                println!("  {} ({how}): {text}", names.join(","));
                all.extend(took);
            }
        }
    }
    println!("per frame: median {:.1} ms", median(&mut all));
    Ok(())
}

/// The files of a folder by name.
fn files_of(folder: &Path) -> anyhow::Result<Vec<Bytes>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    paths.sort();
    paths.iter().map(|path| Ok(std::fs::read(path)?.into())).collect()
}

/// What `calibration/active_liveness.toml` is made from.
fn scores(crop: f64, folders: &[&str]) -> anyhow::Result<()> {
    let models = Models::load()?;
    for folder in folders {
        let mut live = Vec::new();
        for file in files_of(Path::new(folder))? {
            let image = decode(&file, &DecodeOptions::default())?.image;
            let faces = models.detector.find_upright(&image, &models.context)?;
            let Some(face) = faces.first() else { continue };
            // A square around the face, inside of the frame.
            let side = (face.bounds.height * crop).min(f64::from(image.width)).min(f64::from(image.height));
            let corner = |centre: f64, length: u32| (centre - side / 2.0).clamp(0.0, f64::from(length) - side);
            let [x, y] = face.bounds.centre();
            let (left, top) = (corner(x, image.width), corner(y, image.height));
            let part = image.part([left as u32, top as u32], [side as u32; 2]);
            let bounds = Bounds { x: face.bounds.x - left.floor(), y: face.bounds.y - top.floor(), ..face.bounds };
            live.push(models.liveness.score(&part, &bounds, &models.context)?.live);
        }
        live.sort_by(f64::total_cmp);
        let quartile = live.get(live.len().saturating_sub(1) / 4).copied().unwrap_or(f64::NAN);
        println!("{folder}: {} frames, lower quartile {quartile:.4}", live.len());
    }
    Ok(())
}

fn trace(folder: &Path) -> anyhow::Result<()> {
    let models = Models::load()?;
    let files = files_of(folder)?;
    let meshes = models.meshes(&files)?;
    let Some((known_at, relative)) = relatives(&meshes, 30.0) else { anyhow::bail!("never at rest") };
    let neutral = meshes[known_at].as_ref().context("no face")?;
    let relief = |frame: usize, mesh: &Mesh| {
        let image = decode(&files[frame], &DecodeOptions::default()).ok()?.image;
        Some((relief(&image, mesh, &mesh.region())?, f64::from(image.width.max(image.height))))
    };
    let far = relief(known_at, neutral).context("no relief")?.0;
    println!("frame    yaw  pitch   eyes  mouth  smile   lift   size  shape  ratio   body parallax");
    for (frame, (mesh, now)) in meshes.iter().zip(&relative).enumerate() {
        let (Some(mesh), Some(now)) = (mesh, now) else {
            println!("{frame:>5} no face");
            continue;
        };
        let change = Change::between(neutral, mesh);
        let share = relief(frame, mesh).and_then(|(near, side)| parallax_share(&far, &near, side));
        println!(
            "{frame:>5} {:>6.1} {:>6.1} {:>6.2} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.2} {:>6.3} {:>8}",
            now.yaw_deg,
            now.pitch_deg,
            now.eyes,
            now.mouth,
            now.smile_width,
            now.smile_lift,
            now.size,
            change.shape,
            change.ratio(),
            change.body,
            share.map_or("-".into(), |share| format!("{share:.2}")),
        );
    }
    Ok(())
}

fn replay(folders: &[&str]) -> anyhow::Result<()> {
    let engine = engine()?;
    for folder in folders {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
        paths.sort();
        let files: Vec<Bytes> =
            paths.iter().map(|path| Ok(std::fs::read(path)?.into())).collect::<anyhow::Result<_>>()?;
        for steps in [vec![Action::Smile], vec![Action::TurnLeft, Action::TurnRight]] {
            let (text, _) = rehearse(&engine, &files, 3.75, &steps, true)?;
            println!("{folder} {}: {text}", steps.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(","));
        }
    }
    Ok(())
}

// ---------------------------------------------------------------- stages

/// Rounds of each stage.
const ROUNDS: usize = 200;

fn stages() -> anyhow::Result<()> {
    let models = Models::load()?;
    let photo = decode(&common::photo("selfie.jpg"), &DecodeOptions::default())?.image;
    let frame = frame_of(&photo, 640, 480);
    let mut file = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 90).encode(
        &frame.rgb,
        frame.width,
        frame.height,
        image::ExtendedColorType::Rgb8,
    )?;
    let file = Bytes::from(file);
    let options = DecodeOptions { min_long_side_px: Some(640), ..DecodeOptions::default() };
    let faces = models.detector.find_upright(&frame, &models.context)?;
    let face = faces.first().context("the frame shows no face")?;
    let region = Region::of_face(face);
    let mesh = models.landmarks.mesh(&frame, &region, &models.context)?;
    let turned = {
        let mut other = mesh.clone();
        other.upright.iter_mut().for_each(|point| point[0] += 0.05 * point[2]);
        other
    };
    println!("one thread, {ROUNDS} rounds, medians in ms; frame 640 × 480, {} bytes", file.len());
    let time = |name: &str, work: &mut dyn FnMut()| {
        let mut took: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let started = Instant::now();
                work();
                started.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!("{name:<34} {:>7.2}  (95 %: {:.2})", took[ROUNDS / 2], took[ROUNDS * 95 / 100]);
        took[ROUNDS / 2]
    };
    let context = &models.context;
    time("decode", &mut || drop(decode(&file, &options)));
    time("detect", &mut || drop(models.detector.find_upright(&frame, context)));
    let crop = |sampling| drop(align::upright_square(&frame, &region, 192, sampling));
    time("crop for the mesh", &mut || crop(Sampling::Bilinear));
    time("the same by areas", &mut || crop(Sampling::Area));
    let port = models::port(&models._registry, Role::FaceLandmarks)?;
    let cut = align::upright_square(&frame, &region, 192, Sampling::Bilinear).0;
    let tensor = to_tensor(&cut, &port.input);
    time("its tensor", &mut || drop(to_tensor(&cut, &port.input)));
    time("the model alone", &mut || drop(port.model.run(tensor.clone(), context)));
    time("mesh, all of it", &mut || drop(models.landmarks.mesh(&frame, &region, context)));
    time("signals", &mut || _ = std::hint::black_box(Signals::of(&mesh)));
    time("plane or head", &mut || _ = std::hint::black_box(Change::between(&mesh, &turned)));
    time("small picture of the face", &mut || _ = std::hint::black_box(vouch::pipeline::live::thumb(&frame, &region)));
    time("passive liveness", &mut || drop(models.liveness.score(&frame, &face.bounds, context)));
    time("embedding", &mut || drop(models.embedder.embed(&frame, face, context)));

    // A whole session's frames, as the daemon runs them: each frame a little other than the last, so that none is taken for a copy.
    let engine = engine()?;
    let shifted: Vec<Bytes> = (0..240)
        .map(|index: u32| {
            let moved = frame_of(&photo, 640 + index % 7, 480);
            let moved = moved.part([index % 7, 0], [640, 480]);
            let mut file = Vec::new();
            let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 90);
            let encoded = encoder.write(&moved);
            encoded.map(|()| Bytes::from(file))
        })
        .collect::<anyhow::Result<_>>()?;
    let (text, took) = rehearse(&engine, &shifted, 30.0, &[Action::MoveCloser], false)?;
    let mut sorted = took.clone();
    sorted.sort_by(f64::total_cmp);
    println!(
        "whole frames of a session: {} frames, median {:.2} ms, 95 % {:.2}, worst {:.2} ({text})",
        took.len(),
        sorted[sorted.len() / 2],
        sorted[sorted.len() * 95 / 100],
        sorted[sorted.len() - 1]
    );
    Ok(())
}

trait Write {
    fn write(self, image: &Image) -> anyhow::Result<()>;
}

impl Write for image::codecs::jpeg::JpegEncoder<&mut Vec<u8>> {
    fn write(mut self, image: &Image) -> anyhow::Result<()> {
        Ok(self.encode(&image.rgb, image.width, image.height, image::ExtendedColorType::Rgb8)?)
    }
}

/// The middle of a photograph, scaled to fill a frame.
fn frame_of(photo: &Image, width: u32, height: u32) -> Image {
    let scale = f64::max(f64::from(width) / f64::from(photo.width), f64::from(height) / f64::from(photo.height));
    let size = [photo.width, photo.height].map(|side| (f64::from(side) * scale).ceil() as u32);
    let scaled = vouch::imaging::resize::resize(photo, size[0].max(width), size[1].max(height));
    scaled.part([(scaled.width - width) / 2, 0], [width, height])
}
