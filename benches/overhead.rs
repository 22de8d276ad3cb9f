//! What the daemon adds to the models: `MatchFaces` through the socket of the real daemon, beside bare ONNX Runtime runs of
//! the same models on the same inputs and as many threads, plus decoding.
//!
//! Two baselines, taken in turn with the daemon so that a drifting machine hurts all three alike: everything one after the other
//! on one thread, and the two pictures on two threads, as the daemon does it. Prints medians and the ratio of each round.
//!
//! `cargo bench --bench overhead` (after `make pack sample-photos`)

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Daemon, photo, root};
use vouch::api::proto::MatchFacesRequest;
use vouch::error::Error;
use vouch::face::ModelPort;
use vouch::face::detect::FaceDetector;
use vouch::face::embed::{Crop, FaceEmbedder};
use vouch::imaging::decode::{DecodeOptions, decode};
use vouch::inference::batcher::BatchRunner;
use vouch::inference::provider::Provider;
use vouch::inference::session::{ModelSource, OnnxRunner, Runtime};
use vouch::inference::{Model, Outputs, RequestContext, Tensor};
use vouch::models::manifest::{Manifest, Role};
use vouch::pipeline::FACE_LONG_SIDE_PX;

const ROUNDS: usize = 200;
const WARM_UP: usize = 20;

/// A bare session that also keeps what it was asked.
struct Recorder {
    runner: Mutex<OnnxRunner>,
    asked: Mutex<Vec<Tensor>>,
}

impl Model for Recorder {
    fn run(&self, input: Tensor, _context: &Arc<RequestContext>) -> Result<Outputs, Error> {
        self.asked.lock().unwrap().push(input.clone());
        Ok(self.runner.lock().unwrap().run_batch(&[input]).unwrap().remove(0))
    }
}

/// One picture with the inputs that its face path gives to the models, and sessions of its own.
struct Bare {
    file: bytes::Bytes,
    options: DecodeOptions,
    /// A session with what it is asked: the detector, and the two embedders with the face and its mirror image each.
    models: [(OnnxRunner, Vec<Tensor>); 3],
}

impl Bare {
    fn new(file: bytes::Bytes, manifest: &Manifest, runtime: &Runtime) -> Self {
        let pack = vouch::models::find_pack_dir(Some(&root().join("models/pack")));
        let session = |role: Role| {
            let entry = manifest.entry(role).unwrap();
            let bytes = std::fs::read(entry.path_in(&pack)).expect("the model pack is missing; run `make pack`");
            let source = ModelSource {
                name: &entry.name,
                bytes: &bytes,
                sha256: &entry.sha256,
                provider: Provider::Cpu,
                threads: 1,
                cache_dir: None,
                input: &entry.input,
                max_batch: 1,
            };
            (OnnxRunner::load(runtime, &source, 1).unwrap().remove(0), entry.input.clone())
        };
        let recorded = |role| {
            let (runner, input) = session(role);
            let recorder = Arc::new(Recorder { runner: Mutex::new(runner), asked: Mutex::default() });
            (Arc::clone(&recorder), ModelPort { model: recorder, input })
        };
        let (detector_asked, detector) = recorded(Role::FaceDetector);
        let (first_asked, first) = recorded(Role::FaceEmbedder);
        let (second_asked, second) = recorded(Role::FaceEmbedderB);
        let options = DecodeOptions { min_long_side_px: Some(FACE_LONG_SIDE_PX), ..DecodeOptions::default() };
        let image = decode(&file, &options).unwrap().image;
        let context = Arc::default();
        let found = FaceDetector::new(detector).find(&image, &context).unwrap();
        for (embedder, crop) in [(first, Crop::ArcFace), (second, Crop::DlibChip)] {
            let embedder = FaceEmbedder::new(embedder, crop);
            drop(embedder.embed_with_mirror(&found.image, &found.faces[0], &context).unwrap());
        }
        let asked = |role, asked: &Recorder| (session(role).0, std::mem::take(&mut *asked.asked.lock().unwrap()));
        Self {
            file,
            options,
            models: [
                asked(Role::FaceDetector, &detector_asked),
                asked(Role::FaceEmbedder, &first_asked),
                asked(Role::FaceEmbedderB, &second_asked),
            ],
        }
    }

    fn run(&mut self) {
        std::hint::black_box(decode(&self.file, &self.options).unwrap());
        for (model, inputs) in &mut self.models {
            for input in inputs.iter() {
                std::hint::black_box(model.run_batch(std::slice::from_ref(input)).unwrap());
            }
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn main() {
    let manifest = Manifest::shipped().unwrap();
    let pack = vouch::models::find_pack_dir(Some(&root().join("models/pack")));
    let runtime = Runtime::load(&manifest.runtime_path(&pack), &manifest.runtime().version).unwrap();
    let (probe, reference) = (photo("selfie.jpg"), photo("portrait.jpg"));
    let mut bare = [probe.clone(), reference.clone()].map(|file| Bare::new(file, &manifest, &runtime));

    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let daemon = Daemon::start();
    let mut client = tokio.block_on(daemon.client());
    let (mut one_thread, mut two_threads, mut socket) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let serial = timed(|| bare.iter_mut().for_each(Bare::run));
        let parallel = timed(|| {
            std::thread::scope(|scope| bare.iter_mut().for_each(|picture| drop(scope.spawn(|| picture.run()))));
        });
        let request =
            MatchFacesRequest { probe: probe.clone(), reference: reference.clone(), operating_point: String::new() };
        let call = timed(|| drop(tokio.block_on(client.match_faces(request)).unwrap()));
        if round >= WARM_UP {
            for (times, time) in [(&mut one_thread, serial), (&mut two_threads, parallel), (&mut socket, call)] {
                times.push(time.as_secs_f64() * 1e3);
            }
        }
    }
    let ratio = |baseline: &[f64]| median(socket.iter().zip(baseline).map(|(call, bare)| call / bare).collect());
    let runs: usize = bare.iter().flat_map(|picture| &picture.models).map(|(_, inputs)| inputs.len()).sum();
    println!("{ROUNDS} rounds, {runs} model runs each, {} cores", vouch::ops::process::available_cores());
    println!(
        "bare, one thread:    median {:7.2} ms   daemon / bare {:.3}",
        median(one_thread.clone()),
        ratio(&one_thread)
    );
    println!(
        "bare, two threads:   median {:7.2} ms   daemon / bare {:.3}",
        median(two_threads.clone()),
        ratio(&two_threads)
    );
    println!("MatchFaces, socket:  median {:7.2} ms", median(socket.clone()));
}
