//! The loaded models by role.
//!
//! Filled once at start from the manifest: each file's hash is checked, its sessions are made and warmed up, and its queue is
//! opened. Asked by `face/` for a role's [`Model`] and by `GetStatus` for its figures. Left out: how sessions run (`session`)
//! and how batches form (`batcher`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::batcher::{BatchRunner, Batcher, BatcherLimits, BatcherStatus};
use super::provider::{Device, Provider};
use super::session::{LoadError, ModelSource, OnnxRunner, Runtime};
use super::{Model, Tensor};
use crate::error::exit;
use crate::models::manifest::{Layout, Manifest, ModelEntry, Role};
use crate::models::{PackError, read_verified};

/// How models are run; zero means that the machine and the measurements decide.
#[derive(Debug, Clone)]
pub struct InferenceSettings {
    pub device: Device,
    /// Sessions of each model, each run by a worker thread.
    pub sessions_per_model: usize,
    /// Threads that work on one run.
    pub threads_per_session: usize,
    /// Most inputs in one run.
    pub max_batch: usize,
    /// How long an input may wait for others.
    pub max_batch_delay: Duration,
    /// Most inputs that wait for one model.
    pub queue_per_model: usize,
    /// Cores that the process may use.
    pub cores: usize,
}

/// Sessions beyond this number no longer pay for their memory (SFace holds about 55 MB in each): with more cores than this,
/// a session gets several threads instead.
const MAX_AUTO_SESSIONS: usize = 4;

/// Batch on a GPU, where a run costs nearly the same for 1 input and for 16. On a CPU larger batches measured slower or no
/// faster for each of our models (`benches/batcher.rs`), so one input is one run there.
const AUTO_BATCH_GPU: usize = 16;

impl InferenceSettings {
    fn sessions(&self) -> usize {
        if self.sessions_per_model == 0 { self.cores.clamp(1, MAX_AUTO_SESSIONS) } else { self.sessions_per_model }
    }

    fn threads(&self) -> usize {
        if self.threads_per_session == 0 { (self.cores / self.sessions()).max(1) } else { self.threads_per_session }
    }

    /// A model whose outputs depend on the batch, in the last bits, is never batched: the same input must give the same score.
    fn max_batch(&self, entry: &ModelEntry, provider: Provider) -> usize {
        match (entry.batch_exact, self.max_batch, provider) {
            (false, _, _) => 1,
            (true, 0, Provider::Cpu) => 1,
            (true, 0, Provider::Cuda) => AUTO_BATCH_GPU,
            (true, wanted, _) => wanted,
        }
    }
}

/// A model that is ready to run.
pub struct LoadedModel {
    pub entry: ModelEntry,
    pub provider: Provider,
    pub sessions: usize,
    pub threads: usize,
    pub max_batch: usize,
    batcher: Batcher,
}

impl LoadedModel {
    pub fn status(&self) -> BatcherStatus {
        self.batcher.status()
    }
}

impl Model for LoadedModel {
    fn run(&self, input: Tensor, context: &Arc<super::RequestContext>) -> Result<super::Outputs, crate::error::Error> {
        self.batcher.run(input, context)
    }
}

/// Why a model cannot be used. The daemon does not start then.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("model {name}: {reason}")]
    Warmup { name: String, reason: String },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("no thread could be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl RegistryError {
    /// The exit code that this error ends the daemon with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Pack(error) => error.exit_code(),
            Self::Warmup { .. } | Self::Load(_) => exit::CONFIG,
            Self::Thread(_) => exit::TEMP_FAIL,
        }
    }
}

/// The models of this daemon.
pub struct Registry {
    models: BTreeMap<Role, Arc<LoadedModel>>,
    /// Makes the sessions beyond the first of each model.
    further: Option<JoinHandle<()>>,
    ending: Arc<AtomicBool>,
    runtime: Runtime,
    device: Device,
    provider: Provider,
}

impl Registry {
    /// Loads those models of the manifest that have one of the `roles`, several at a time, with one session each. The further sessions are made
    /// afterwards, beside the first requests, which need not wait for them.
    ///
    /// # Errors
    /// The first that went wrong: a missing or altered file, a library of another version, a graph that does not run.
    pub fn load(
        manifest: &Manifest,
        roles: &[Role],
        pack_dir: &Path,
        cache_dir: Option<&Path>,
        settings: &InferenceSettings,
    ) -> Result<Self, RegistryError> {
        let library = manifest.runtime_path(pack_dir);
        if let Some(build) = manifest.runtime().build() {
            read_verified(&library, build.sha256())?;
        }
        let runtime = Runtime::load(&library, &manifest.runtime().version)?;
        let provider = runtime.choose_provider(settings.device)?;
        if provider == Provider::Cpu && settings.device == Device::Preferred {
            tracing::warn!("no usable GPU: models run on the CPU");
        }
        // Loading is hashing and graph building, both single-threaded, so one thread for each model fills the cores.
        let loaded = std::thread::scope(|scope| {
            let threads: Vec<_> = manifest
                .models()
                .iter()
                .filter(|entry| roles.contains(&entry.role))
                .map(|entry| {
                    let runtime = &runtime;
                    scope.spawn(move || load_model(entry, pack_dir, cache_dir, settings, runtime, provider))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let models: BTreeMap<_, _> = loaded.into_iter().map(|model| (model.entry.role, Arc::new(model))).collect();
        let ending = Arc::new(AtomicBool::new(false));
        let further = {
            let (models, ending, runtime) = (models.clone(), Arc::clone(&ending), runtime.clone());
            let (pack_dir, cache_dir) = (pack_dir.to_owned(), cache_dir.map(Path::to_owned));
            std::thread::Builder::new().name("sessions".into()).spawn(move || {
                for model in models.values().take_while(|_| !ending.load(Ordering::Relaxed)) {
                    if let Err(error) = add_sessions(model, &pack_dir, cache_dir.as_deref(), &runtime) {
                        tracing::error!(model = model.entry.name, reason = error.to_string(), "no further sessions");
                    }
                }
            })?
        };
        Ok(Self { models, further: Some(further), ending, runtime, device: settings.device, provider })
    }

    /// The model of a role, if the manifest has one.
    pub fn get(&self, role: Role) -> Option<&Arc<LoadedModel>> {
        self.models.get(&role)
    }

    /// All models, in the order of the roles.
    pub fn models(&self) -> impl Iterator<Item = &Arc<LoadedModel>> {
        self.models.values()
    }

    pub fn runtime_version(&self) -> &str {
        self.runtime.version()
    }

    /// What the operator asked for.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What is in use.
    pub fn provider(&self) -> Provider {
        self.provider
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // A session that is being made must be whole before the library's own memory goes.
        if let Some(further) = self.further.take() {
            let _ = further.join();
        }
    }
}

fn load_model(
    entry: &ModelEntry,
    pack_dir: &Path,
    cache_dir: Option<&Path>,
    settings: &InferenceSettings,
    runtime: &Runtime,
    provider: Provider,
) -> Result<LoadedModel, RegistryError> {
    let started = std::time::Instant::now();
    let bytes = read_verified(&entry.path_in(pack_dir), &entry.sha256)?;
    let (sessions, threads) = (settings.sessions(), settings.threads());
    let max_batch = settings.max_batch(entry, provider);
    let source = ModelSource { name: &entry.name, bytes: &bytes, sha256: &entry.sha256, provider, threads, cache_dir };
    let runners = warm_sessions(entry, runtime, &source, 1)?;
    let limits = BatcherLimits { max_batch, max_delay: settings.max_batch_delay, max_queued: settings.queue_per_model };
    let batcher = Batcher::start(&entry.name, runners, limits)?;
    tracing::info!(
        model = entry.name,
        provider = provider.as_str(),
        sessions,
        threads,
        max_batch,
        ms = started.elapsed().as_millis() as u64,
        "model is ready"
    );
    Ok(LoadedModel { entry: entry.clone(), provider, sessions, threads, max_batch, batcher })
}

/// Makes the sessions of a model beyond its first.
fn add_sessions(
    model: &LoadedModel,
    pack_dir: &Path,
    cache_dir: Option<&Path>,
    runtime: &Runtime,
) -> Result<(), RegistryError> {
    let LoadedModel { entry, provider, sessions, threads, .. } = model;
    if *sessions == 1 {
        return Ok(());
    }
    let bytes = read_verified(&entry.path_in(pack_dir), &entry.sha256)?;
    let (name, sha256) = (entry.name.as_str(), entry.sha256.as_str());
    let source = ModelSource { name, bytes: &bytes, sha256, provider: *provider, threads: *threads, cache_dir };
    for runner in warm_sessions(entry, runtime, &source, sessions - 1)? {
        model.batcher.add(runner)?;
    }
    Ok(())
}

fn warm_sessions(
    entry: &ModelEntry,
    runtime: &Runtime,
    source: &ModelSource<'_>,
    count: usize,
) -> Result<Vec<Box<dyn BatchRunner>>, RegistryError> {
    let warm = |mut runner: OnnxRunner| {
        warm_up(entry, &mut runner)?;
        Ok(Box::new(runner) as Box<dyn BatchRunner>)
    };
    OnnxRunner::load(runtime, source, count)?.into_iter().map(warm).collect()
}

/// One run on grey, so that the first caller does not pay for first-use allocations, and that a graph whose inputs or
/// outputs are not those of the manifest is found out before anyone asks.
fn warm_up(entry: &ModelEntry, runner: &mut OnnxRunner) -> Result<(), RegistryError> {
    let failed = |reason: String| RegistryError::Warmup { name: entry.name.clone(), reason };
    // A side that may have any size is warmed up near that of its commonest use.
    let [width, height] = entry.input.size.map(|side| if side == 0 { 320 } else { side as usize });
    let shape = match entry.input.layout {
        Layout::Nchw => vec![entry.input.channels(), height, width],
        Layout::Nhwc => vec![height, width, entry.input.channels()],
    };
    let grey = (127.0 - entry.input.mean[0]) * entry.input.scale[0];
    let outputs = runner.run_batch(&[Tensor { data: vec![grey; shape.iter().product()], shape }]).map_err(failed)?;
    let found: Vec<&str> = outputs[0].iter().map(|(name, _)| name.as_ref()).collect();
    match entry.outputs.iter().find(|output| !found.contains(&output.as_str())) {
        None => Ok(()),
        Some(missing) => Err(failed(format!("it has no output {missing:?}, only {found:?}"))),
    }
}
