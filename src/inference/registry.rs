//! The loaded models by role.
//!
//! Filled at start from the manifest: each file's hash is checked, a first session is made and warmed up, its queue is opened, and the further
//! sessions follow beside the first requests. Asked by `face/` for a role's [`Model`] and by `GetStatus` for its figures. Left out: how sessions run (`session`)
//! and how batches form (`batcher`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::batcher::{BatchRunner, Batcher, BatcherLimits, BatcherStatus};
use super::gpu;
use super::provider::{Device, GpuSettings, Provider};
use super::session::{LoadError, ModelSource, OnnxRunner, Recipe, Runtime};
use super::{Model, Tensor};
use crate::error::exit;
use crate::models::manifest::{Layout, Manifest, ModelEntry, Role};
use crate::models::{PackError, read_verified};

/// How models are run; zero means that the machine and the measurements decide.
#[derive(Debug, Clone)]
pub struct InferenceSettings {
    pub device: Device,
    pub gpu: GpuSettings,
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

/// Inputs that wait for a model whose runner was given: the default of `inference.queue_per_model`.
const GIVEN_QUEUE: usize = 256;

impl InferenceSettings {
    /// One on a GPU: a device runs one thing at a time, and each session prepares each shape for itself, for seconds.
    fn sessions(&self, provider: Provider) -> usize {
        match (self.sessions_per_model, provider) {
            (0, Provider::Cpu) => self.cores.clamp(1, MAX_AUTO_SESSIONS),
            (0, Provider::Cuda | Provider::TensorRt(_)) => 1,
            (wanted, _) => wanted,
        }
    }

    fn threads(&self) -> usize {
        match self.threads_per_session {
            0 => (self.cores / self.sessions(Provider::Cpu)).max(1),
            wanted => wanted,
        }
    }

    /// A model whose outputs depend on the batch, in the last bits, is never batched: the same input must give the same score.
    fn max_batch(&self, entry: &ModelEntry, provider: Provider) -> usize {
        match (entry.batch_exact, self.max_batch, provider) {
            (false, _, _) => 1,
            (true, 0, Provider::Cpu) => 1,
            (true, 0, Provider::Cuda | Provider::TensorRt(_)) => AUTO_BATCH_GPU,
            (true, wanted, _) => wanted,
        }
    }
}

/// A model that is ready to run.
pub struct LoadedModel {
    pub entry: ModelEntry,
    pub provider: Provider,
    /// Sessions that it shall have; those that it has by now are in its status.
    pub sessions: usize,
    pub threads: usize,
    pub max_batch: usize,
    /// `None` if what runs it was given.
    maker: Option<Arc<SessionMaker>>,
    batcher: Batcher,
}

impl LoadedModel {
    pub fn status(&self) -> BatcherStatus {
        self.batcher.status()
    }
}

impl Model for LoadedModel {
    fn run(&self, input: Tensor, context: &Arc<super::RequestContext>) -> Result<super::Outputs, crate::error::Error> {
        let span = context.trace.model(self.entry.role.name(), self.provider.as_str());
        span.in_scope(|| self.batcher.run(input, context))
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
    further: Mutex<Option<JoinHandle<()>>>,
    /// Another registry has taken over: this one makes no further sessions.
    superseded: Arc<AtomicBool>,
    /// The process ends. Shared with the registries before and after, since models pass from one to the next.
    ending: Arc<AtomicBool>,
    /// `None` if all that runs was given.
    runtime: Option<Runtime>,
    device: Device,
    provider: Provider,
    fallback: Option<String>,
}

impl Registry {
    /// Loads those models of the manifest that have one of the `roles`, several at a time, with one session each. The further sessions are made
    /// afterwards, beside the first requests, which need not wait for them. What `previous` runs in the same way is taken over from it, sessions and all.
    ///
    /// # Errors
    /// The first that went wrong: a missing or altered file, a library of another version, a graph that does not run.
    pub fn load(
        manifest: &Manifest,
        roles: &[Role],
        pack_dir: &Path,
        cache_dir: Option<&Path>,
        settings: &InferenceSettings,
        previous: Option<&Self>,
    ) -> Result<Self, RegistryError> {
        let running = previous.and_then(|previous| Some((previous, previous.runtime.clone()?)));
        let (runtime, mut provider, mut fallback) = match running {
            // A process has one ONNX Runtime, and stays with the device that it found.
            Some((previous, runtime)) => (runtime, previous.provider, previous.fallback.clone()),
            None => load_runtime(manifest, pack_dir, settings)?,
        };
        let entries: Vec<&ModelEntry> = manifest.models().iter().filter(|entry| roles.contains(&entry.role)).collect();
        let ending = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.ending));
        let maker = |entry: &ModelEntry, provider| SessionMaker {
            entry: entry.clone(),
            path: entry.path_in(pack_dir),
            cache_dir: cache_dir.map(Path::to_owned),
            runtime: runtime.clone(),
            provider,
            threads: settings.threads(),
            max_batch: settings.max_batch(entry, provider),
            ending: Arc::clone(&ending),
        };
        // That a library knows a device does not mean that there is one: the smallest model tells.
        if provider != Provider::Cpu
            && previous.is_none()
            && let Some(smallest) = entries.iter().min_by_key(|entry| entry.bytes)
            && let Err(error) = Arc::new(maker(smallest, provider)).make(1)
        {
            match (error, settings.device) {
                // A file that is missing or altered is no matter of the device.
                (error @ RegistryError::Pack(_), _) => return Err(error),
                (error, Device::Required) => return Err(LoadError::NoGpu { reason: error.to_string() }.into()),
                (error, _) => (provider, fallback) = (Provider::Cpu, Some(error.to_string())),
            }
        }
        if let Some(reason) = &fallback {
            tracing::warn!(reason, "no usable GPU: models run on the CPU");
        }
        // Loading is hashing and graph building, both single-threaded, so one thread for each model fills the cores.
        let loaded = std::thread::scope(|scope| {
            let threads: Vec<_> = entries
                .iter()
                .map(|entry| {
                    let maker = maker(entry, provider);
                    let same = previous.and_then(|previous| previous.get(entry.role)).filter(|model| {
                        model.entry == **entry
                            && model
                                .maker
                                .as_ref()
                                .is_some_and(|other| (&other.path, &other.cache_dir) == (&maker.path, &maker.cache_dir))
                    });
                    scope.spawn(move || match same {
                        Some(model) => Ok(Arc::clone(model)),
                        None => load_model(maker, settings).map(Arc::new),
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let models: BTreeMap<_, _> = loaded.into_iter().map(|model| (model.entry.role, model)).collect();
        let further = Mutex::new(None);
        let device = settings.device;
        let superseded = Arc::default();
        let runtime = Some(runtime);
        let registry = Self { models, further, superseded, ending, runtime, device, provider, fallback };
        if previous.is_none() {
            registry.begin_further()?;
        }
        Ok(registry)
    }

    /// Models that run by what is given, one runner each, without ONNX Runtime: for those who need an engine and no weights, as tests and fuzz targets do.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn of_runners(
        runners: impl IntoIterator<Item = (ModelEntry, Box<dyn BatchRunner>)>,
    ) -> Result<Self, RegistryError> {
        let limits = BatcherLimits { max_batch: 1, max_delay: Duration::ZERO, max_queued: GIVEN_QUEUE };
        let start = |(entry, runner): (ModelEntry, _)| {
            let batcher = Batcher::start(entry.role.name(), vec![runner], limits)?;
            let (provider, role) = (Provider::Cpu, entry.role);
            let model = LoadedModel { entry, provider, sessions: 1, threads: 1, max_batch: 1, maker: None, batcher };
            Ok::<_, RegistryError>((role, Arc::new(model)))
        };
        Ok(Self {
            models: runners.into_iter().map(start).collect::<Result<_, _>>()?,
            further: Mutex::default(),
            superseded: Arc::default(),
            ending: Arc::default(),
            runtime: None,
            device: Device::Cpu,
            provider: Provider::Cpu,
            fallback: None,
        })
    }

    /// Ends the making of sessions by the registry that this one was loaded after, and goes on with it: to be called when nothing can prevent any more that it takes its place.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn take_over(&self, previous: &Self) -> Result<(), RegistryError> {
        previous.end_further();
        self.begin_further()
    }

    fn begin_further(&self) -> Result<(), RegistryError> {
        let further = {
            let models = self.models.clone();
            let is_over = [Arc::clone(&self.ending), Arc::clone(&self.superseded)];
            std::thread::Builder::new().name("sessions".into()).spawn(move || {
                for model in models.values() {
                    if let Err(error) = add_sessions(model, &is_over) {
                        tracing::error!(model = model.entry.name, reason = error.to_string(), "no further sessions");
                    }
                }
            })?
        };
        *self.further.lock().unwrap_or_else(PoisonError::into_inner) = Some(further);
        Ok(())
    }

    /// Waits for the session that is being made at the moment, and makes no more: to be called before the process ends, since the library's own memory must not go
    /// while a session is made from it.
    pub fn end_loading(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.end_further();
    }

    fn end_further(&self) {
        self.superseded.store(true, Ordering::Relaxed);
        let further = self.further.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It catches nothing, but whatever it panicked with stands in the journal.
        further.map(JoinHandle::join);
    }

    /// The model of a role, if the manifest has one.
    pub fn get(&self, role: Role) -> Option<&Arc<LoadedModel>> {
        self.models.get(&role)
    }

    /// All models, in the order of the roles.
    pub fn models(&self) -> impl Iterator<Item = &Arc<LoadedModel>> {
        self.models.values()
    }

    /// Empty without ONNX Runtime.
    pub fn runtime_version(&self) -> &str {
        self.runtime.as_ref().map_or("", Runtime::version)
    }

    /// What the operator asked for.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Why the processor is in use although a GPU was asked for.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// The longest time for which a model has had no session left, its device having failed.
    pub fn unable_for(&self) -> Option<Duration> {
        self.models.values().filter_map(|model| model.status().unable_for).max()
    }

    /// The longest time for which a model has had work and made no progress with it.
    pub fn stalled_for(&self) -> Duration {
        self.models.values().map(|model| model.status().stalled_for).max().unwrap_or_default()
    }

    /// What is in use.
    pub fn provider(&self) -> Provider {
        self.provider
    }
}

/// The library for what the operator wishes, the provider in it, and the reason if it is less than the wish.
fn load_runtime(
    manifest: &Manifest,
    pack_dir: &Path,
    settings: &InferenceSettings,
) -> Result<(Runtime, Provider, Option<String>), RegistryError> {
    let mut fallback = None;
    if settings.device != Device::Cpu {
        let provider = Provider::from(&settings.gpu);
        let usable = gpu::devices().and_then(|_| {
            let runtime = Runtime::load_for_gpu(&settings.gpu.folder).map_err(|error| error.to_string())?;
            if runtime.has(provider) {
                Ok(runtime)
            } else {
                Err(format!("ONNX Runtime in {} lacks the {}", settings.gpu.folder.display(), provider.as_str()))
            }
        });
        match usable {
            Ok(runtime) => return Ok((runtime, provider, None)),
            Err(reason) if settings.device == Device::Required => return Err(LoadError::NoGpu { reason }.into()),
            Err(reason) => fallback = Some(reason),
        }
    }
    let library = manifest.runtime_path(pack_dir);
    if let Some(build) = manifest.runtime().build() {
        read_verified(&library, build.sha256())?;
    }
    Ok((Runtime::load(&library, &manifest.runtime().version)?, Provider::Cpu, fallback))
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.end_further();
    }
}

/// All that is needed to make sessions of a model, at the start and after the fault of a device.
struct SessionMaker {
    entry: ModelEntry,
    path: PathBuf,
    cache_dir: Option<PathBuf>,
    runtime: Runtime,
    provider: Provider,
    threads: usize,
    max_batch: usize,
    /// The process ends: no more sessions.
    ending: Arc<AtomicBool>,
}

impl SessionMaker {
    /// Makes `count` sessions and warms them up.
    fn make(self: &Arc<Self>, count: usize) -> Result<Vec<OnnxRunner>, RegistryError> {
        if self.ending.load(Ordering::Relaxed) {
            return Err(RegistryError::Warmup { name: self.entry.name.clone(), reason: "the daemon ends".into() });
        }
        let bytes = read_verified(&self.path, &self.entry.sha256)?;
        let source = ModelSource {
            name: &self.entry.name,
            bytes: &bytes,
            sha256: &self.entry.sha256,
            provider: self.provider,
            threads: self.threads,
            cache_dir: self.cache_dir.as_deref(),
            input: &self.entry.input,
            max_batch: self.max_batch,
        };
        let maker = Arc::clone(self);
        let recipe: Recipe = Arc::new(move || {
            if maker.ending.load(Ordering::Relaxed) {
                return Err("the daemon ends".into());
            }
            let made = maker.make(1).map_err(|error| error.to_string())?;
            made.into_iter().next().ok_or_else(|| "no session was made".into())
        });
        let warm = |mut runner: OnnxRunner| {
            warm_up(&self.entry, &mut runner)?;
            Ok(runner.rebuilt_by(Arc::clone(&recipe)))
        };
        OnnxRunner::load(&self.runtime, &source, count)?.into_iter().map(warm).collect()
    }
}

fn load_model(maker: SessionMaker, settings: &InferenceSettings) -> Result<LoadedModel, RegistryError> {
    let started = std::time::Instant::now();
    let (provider, threads) = (maker.provider, maker.threads);
    let (entry, maker) = (maker.entry.clone(), Arc::new(maker));
    let (sessions, max_batch) = (settings.sessions(maker.provider), maker.max_batch);
    let runners = maker.make(1)?.into_iter().map(|runner| Box::new(runner) as Box<dyn BatchRunner>).collect();
    let limits = BatcherLimits { max_batch, max_delay: settings.max_batch_delay, max_queued: settings.queue_per_model };
    let batcher = Batcher::start(entry.role.name(), runners, limits)?;
    tracing::info!(
        model = entry.name,
        provider = provider.as_str(),
        sessions,
        threads,
        max_batch,
        ms = started.elapsed().as_millis() as u64,
        "model is ready"
    );
    Ok(LoadedModel { entry, provider, sessions, threads, max_batch, maker: Some(maker), batcher })
}

/// Makes the sessions of a model that it shall have and has not yet, until one of the two says that it is over.
fn add_sessions(model: &LoadedModel, is_over: &[Arc<AtomicBool>; 2]) -> Result<(), RegistryError> {
    let Some(maker) = &model.maker else { return Ok(()) };
    for _ in model.batcher.workers()..model.sessions {
        if is_over.iter().any(|over| over.load(Ordering::Relaxed)) {
            break;
        }
        for runner in maker.make(1)? {
            model.batcher.add(Box::new(runner))?;
        }
    }
    Ok(())
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
