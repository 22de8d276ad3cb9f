//! ONNX Runtime: the library, and sessions that run one model. The only file that names `ort`.
//!
//! Called by `registry` at start and by the batcher's workers afterwards. A session belongs to one worker, because a run
//! needs it exclusively. Left out: which models, how many sessions, which limits (`registry`).

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::ep::{self, ExecutionProvider};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session};
use ort::value::TensorRef;
use sha2::{Digest, Sha256};

use super::batcher::BatchRunner;
use super::provider::{Precision, Provider};
use super::{Outputs, Tensor, gpu, rewrite};
use crate::models::manifest::{InputSpec, Layout};

/// Why ONNX Runtime or a model could not be loaded. The daemon does not start then.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("ONNX Runtime library {path}: {reason}", path = path.display())]
    Library { path: PathBuf, reason: String },
    #[error(
        "ONNX Runtime library {path} is version {found}, and {needed} is needed; `vouch models pull` installs it",
        path = path.display()
    )]
    Version { path: PathBuf, found: String, needed: String },
    #[error("inference.device is `required`, but no GPU can be used: {reason}")]
    NoGpu { reason: String },
    #[error("model {name}: {reason}")]
    Model { name: String, reason: String },
}

/// The loaded library. Cheap to clone; there is one for each process.
#[derive(Clone)]
pub struct Runtime {
    environment: ort::environment::Environment,
    version: Arc<str>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("version", &self.version).finish_non_exhaustive()
    }
}

/// ONNX Runtime allows one environment in a process.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the shared library, or gives the one already loaded by this process.
    ///
    /// # Errors
    /// If the file is no ONNX Runtime, or not version `needed` (`major.minor` are compared; a library of another version
    /// may lack functions that we call, and would then abort the process).
    pub fn load(path: &Path, needed: &str) -> Result<Self, LoadError> {
        Self::load_if(path, needed, |found| major_minor(found) == major_minor(needed))
    }

    /// Loads the library for GPUs from a folder, and before it what it needs.
    ///
    /// # Errors
    /// If the folder does not hold all of it, or the library is older than the functions that we call.
    pub fn load_for_gpu(folder: &Path) -> Result<Self, LoadError> {
        let failed = |reason| LoadError::Library { path: folder.into(), reason };
        let path = gpu::runtime_in(folder).map_err(failed)?;
        gpu::preload(folder).map_err(failed)?;
        let needed = format!("1.{}", ort::sys::ORT_API_VERSION);
        Self::load_if(
            &path,
            &needed,
            |found| matches!(major_minor(found)[..], ["1", minor] if minor.parse::<u32>().is_ok_and(|minor| minor >= ort::sys::ORT_API_VERSION)),
        )
    }

    fn load_if(path: &Path, needed: &str, fits: impl FnOnce(&str) -> bool) -> Result<Self, LoadError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return Ok(runtime.clone());
        }
        let found = library_version(path)?;
        if !fits(&found) {
            return Err(LoadError::Version { path: path.into(), found, needed: needed.into() });
        }
        let failed = |reason: String| LoadError::Library { path: path.into(), reason };
        let environment = ort::init_from(path)
            .map_err(|error| failed(error.to_string()))?
            .with_name("vouch")
            // By itself this comes too late for the first event: see `ops::process::turn_telemetry_off`.
            .with_telemetry(false)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        // Its own informational lines tell nothing that an operator needs.
        environment.set_log_level(ort::logging::LogLevel::Warning);
        let runtime = Self { environment, version: found.into() };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// Such as `1.32.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether the library was built with a provider.
    pub fn has(&self, provider: Provider) -> bool {
        match provider {
            Provider::Cpu => true,
            Provider::Cuda => ep::CUDA::is_available().unwrap_or(false),
            Provider::TensorRt(_) => ep::TensorRT::is_available().unwrap_or(false),
        }
    }
}

fn major_minor(version: &str) -> Vec<&str> {
    version.split('.').take(2).collect()
}

/// Asks the library for its version before anything else of it is used.
fn library_version(path: &Path) -> Result<String, LoadError> {
    let failed = |reason: String| LoadError::Library { path: path.into(), reason };
    // SAFETY: the file was checked against the manifest's hash or named by the operator; loading it runs its initialisers,
    // as every use of it does.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| failed(error.to_string()))?;
    // SAFETY: this is the signature of the one symbol that every ONNX Runtime exports (onnxruntime_c_api.h).
    let base: libloading::Symbol<'_, unsafe extern "C" fn() -> *const ort::sys::OrtApiBase> =
        unsafe { library.get(b"OrtGetApiBase") }.map_err(|_| failed("not an ONNX Runtime library".into()))?;
    // SAFETY: the returned table is static in the library, which stays open in this function; the string is static too.
    let version = unsafe {
        let base = base();
        if base.is_null() {
            return Err(failed("it gives no API".into()));
        }
        std::ffi::CStr::from_ptr(((*base).GetVersionString)())
    };
    Ok(version.to_string_lossy().into_owned())
}

/// One model and how its sessions shall run.
#[derive(Debug, Clone, Copy)]
pub struct ModelSource<'a> {
    /// For messages.
    pub name: &'a str,
    /// The ONNX file, already checked against its hash.
    pub bytes: &'a [u8],
    /// Lower-case hexadecimal SHA-256 of `bytes`.
    pub sha256: &'a str,
    pub provider: Provider,
    /// Threads that work on one run.
    pub threads: usize,
    /// Where optimised graphs are kept; `None` optimises at every start.
    pub cache_dir: Option<&'a Path>,
    pub input: &'a InputSpec,
    /// Most inputs in one run.
    pub max_batch: usize,
}

/// Inputs of more values than a 640 × 640 picture have their working memory given back after the run. Raised, a daemon that
/// has once seen a large picture stays large; lowered, every run pays for fresh pages.
const KEPT_INPUT_VALUES: usize = 3 * 640 * 640;

/// A session together with what one run of it needs.
pub struct OnnxRunner {
    /// `None` after the fault of a device, until it is made anew.
    session: Option<Session>,
    run_options: RunOptions,
    /// For inputs so large that the memory of their run should not be kept.
    shrinking_run_options: RunOptions,
    output_names: Vec<Arc<str>>,
    /// Where several inputs are laid side by side; kept between runs.
    joined: Vec<f32>,
    /// Shape of the smallest input that was ever run, with the batch dimension: that of the warm-up at most.
    smallest: Option<Vec<i64>>,
    /// Something larger was run since memory was last given back.
    holds_more: bool,
    provider: Provider,
    /// A run on a device failed, after which none of this session can be trusted.
    is_lost: bool,
    recipe: Option<Recipe>,
}

/// Makes a session once more.
pub type Recipe = Arc<dyn Fn() -> Result<OnnxRunner, String> + Send + Sync>;

impl OnnxRunner {
    /// Makes `count` sessions of one model, the first of which leaves its optimised graph in the cache.
    ///
    /// # Errors
    /// If ONNX Runtime refuses the file or the provider.
    pub fn load(runtime: &Runtime, source: &ModelSource<'_>, count: usize) -> Result<Vec<Self>, LoadError> {
        let failed = |error: String| LoadError::Model { name: source.name.into(), reason: error };
        // TensorRT keeps what it has compiled by itself.
        let dir = source.cache_dir.filter(|_| !matches!(source.provider, Provider::TensorRt(_)));
        let cache = dir.map(|dir| OptimisedGraph::new(dir, source, &runtime.version));
        if let Some(bytes) = cache.as_ref().and_then(OptimisedGraph::read) {
            let runners: Result<Vec<_>, String> =
                (0..count).map(|_| Self::open(runtime, source, &bytes, Graph::Optimised)).collect();
            match runners {
                Ok(runners) => return Ok(runners),
                Err(reason) => {
                    tracing::warn!(model = source.name, reason, "cached graph is unusable and is made anew");
                }
            }
        }
        let rewritten = if source.provider == Provider::Cpu { rewrite::rewritten(source.bytes) } else { None };
        if let Some(bytes) = rewritten {
            match Self::make(runtime, &ModelSource { bytes: &bytes, ..*source }, cache.as_ref(), count) {
                Ok(runners) => return Ok(runners),
                Err(reason) => {
                    tracing::warn!(model = source.name, reason, "rewritten graph is refused: the model runs as it is");
                }
            }
        }
        Self::make(runtime, source, cache.as_ref(), count).map_err(failed)
    }

    fn make(
        runtime: &Runtime,
        source: &ModelSource<'_>,
        cache: Option<&OptimisedGraph>,
        count: usize,
    ) -> Result<Vec<Self>, String> {
        let mut runners = Vec::with_capacity(count);
        if let Some(cache) = cache {
            runners.push(cache.write(runtime, source)?);
        }
        while runners.len() < count {
            runners.push(Self::open(runtime, source, source.bytes, Graph::Source)?);
        }
        Ok(runners)
    }

    fn open(runtime: &Runtime, source: &ModelSource<'_>, bytes: &[u8], graph: Graph<'_>) -> Result<Self, String> {
        let mut builder = builder(runtime, source).map_err(|error| error.to_string())?;
        builder = match graph {
            Graph::Source => Ok(builder),
            // Optimising again would only cost time.
            Graph::Optimised => builder.with_optimization_level(GraphOptimizationLevel::Disable),
            // It would warn that the graph only suits this processor, which the cache's key takes care of.
            Graph::SourceSavedTo(path) => builder
                .with_log_level(ort::logging::LogLevel::Error)
                .map_err(|error| error.to_string())?
                .with_optimized_model_path(path),
        }
        .map_err(|error| error.to_string())?;
        let session = builder.commit_from_memory(bytes).map_err(|error| error.to_string())?;
        let output_names = session.outputs().iter().map(|output| output.name().into()).collect();
        let run_options = RunOptions::new().map_err(|error| error.to_string())?;
        let mut shrinking_run_options = RunOptions::new().map_err(|error| error.to_string())?;
        if source.provider == Provider::Cpu {
            shrinking_run_options
                .set("memory.enable_memory_arena_shrinkage", "cpu:0")
                .map_err(|error| error.to_string())?;
        }
        Ok(Self {
            session: Some(session),
            run_options,
            shrinking_run_options,
            output_names,
            joined: Vec::new(),
            smallest: None,
            holds_more: false,
            provider: source.provider,
            is_lost: false,
            recipe: None,
        })
    }

    /// Says how to make the session anew when its device has failed.
    #[must_use]
    pub fn rebuilt_by(self, recipe: Recipe) -> Self {
        Self { recipe: Some(recipe), ..self }
    }
}

enum Graph<'a> {
    Source,
    SourceSavedTo(&'a Path),
    Optimised,
}

fn builder(runtime: &Runtime, source: &ModelSource<'_>) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(source.threads)?
        .with_inter_threads(1)?
        // Spinning burns a core between runs and gains nothing here.
        .with_intra_op_spinning(false)?
        // Patterns are kept for each input shape; with the detector's many shapes they only cost memory.
        .with_memory_pattern(false)?;
    // 32 bits are 32 bits, also in the tensor cores; no more memory than asked for; and no minute of trying out every algorithm for each new size.
    let cuda = ep::CUDA::default()
        .with_tf32(false)
        .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
        .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
        .build();
    match source.provider {
        Provider::Cpu => Ok(builder),
        Provider::Cuda => Ok(builder.with_execution_providers([cuda.error_on_failure()])?),
        Provider::TensorRt(precision) => {
            let [smallest, usual, largest] = profile(source.input, source.max_batch);
            let mut tensorrt = ep::TensorRT::default()
                .with_fp16(precision == Precision::Half)
                .with_profile_min_shapes(smallest)
                .with_profile_opt_shapes(usual)
                .with_profile_max_shapes(largest);
            if let Some(dir) = source.cache_dir.and_then(Path::to_str) {
                tensorrt = tensorrt
                    .with_engine_cache(true)
                    .with_engine_cache_path(dir)
                    .with_engine_cache_prefix(&source.sha256[..source.sha256.len().min(16)])
                    .with_timing_cache(true)
                    .with_timing_cache_path(dir);
            }
            Ok(builder.with_execution_providers([tensorrt.build().error_on_failure(), cuda])?)
        }
    }
}

/// Sides of inputs of any size for which TensorRT compiles: the smallest, the usual and the largest. A page for a detector, or the width of a line of text.
const PAGE_PX: [u32; 3] = [32, 640, 1280];
const LINE_PX: [u32; 3] = [32, 640, 3200];

/// The smallest, the usual and the largest input of a model as TensorRT writes them, such as `input:1x3x112x112`.
fn profile(input: &InputSpec, max_batch: usize) -> [String; 3] {
    let free = if input.size == [0, 0] { PAGE_PX } else { LINE_PX };
    [(0, 1), (1, 1), (2, max_batch)].map(|(which, batch)| {
        let [width, height] = input.size.map(|side| if side == 0 { free[which] } else { side });
        let (name, channels) = (&input.name, input.channels());
        match input.layout {
            Layout::Nchw => format!("{name}:{batch}x{channels}x{height}x{width}"),
            Layout::Nhwc => format!("{name}:{batch}x{height}x{width}x{channels}"),
        }
    })
}

impl BatchRunner for OnnxRunner {
    fn run_batch(&mut self, inputs: &[Tensor]) -> Result<Vec<Outputs>, String> {
        let [first, others @ ..] = inputs else { return Ok(Vec::new()) };
        let mut shape = Vec::with_capacity(first.shape.len() + 1);
        shape.push(inputs.len() as i64);
        shape.extend(first.shape.iter().map(|&size| size as i64));
        let values = |shape: &[i64]| shape.iter().product::<i64>();
        let is_smallest = self.smallest.as_deref().is_none_or(|smallest| values(&shape) <= values(smallest));
        if is_smallest {
            self.smallest = Some(shape.clone());
        }
        let data = if others.is_empty() {
            &first.data
        } else {
            self.joined.clear();
            for input in inputs {
                self.joined.extend_from_slice(&input.data);
            }
            &self.joined
        };
        let input = TensorRef::from_array_view((shape, data.as_slice())).map_err(|error| error.to_string())?;
        let shrinks = data.len() > KEPT_INPUT_VALUES;
        self.holds_more = !shrinks && (self.holds_more || !is_smallest);
        let run_options = if shrinks { &self.shrinking_run_options } else { &self.run_options };
        let session = self.session.as_mut().ok_or("the session is lost")?;
        let outputs = session.run_with_options(ort::inputs![input], run_options);
        // On the processor a run fails for what it was given, and the next is none the worse.
        self.is_lost = outputs.is_err() && self.provider != Provider::Cpu;
        let outputs = outputs.map_err(|error| error.to_string())?;
        let mut results: Vec<Outputs> = inputs.iter().map(|_| Vec::with_capacity(self.output_names.len())).collect();
        for name in &self.output_names {
            let (shape, data) = outputs[name.as_ref()]
                .try_extract_tensor::<f32>()
                .map_err(|error| format!("output {name}: {error}"))?;
            if shape.first() != Some(&(inputs.len() as i64)) {
                return Err(format!("output {name} has shape {shape:?} for a batch of {}", inputs.len()));
            }
            let item: Vec<usize> = shape[1..].iter().map(|&size| size as usize).collect();
            let length = item.iter().product::<usize>().max(1);
            for (result, values) in results.iter_mut().zip(data.chunks_exact(length)) {
                result.push((Arc::clone(name), Tensor { shape: item.clone(), data: values.to_vec() }));
            }
        }
        Ok(results)
    }

    fn is_lost(&self) -> bool {
        self.is_lost && self.recipe.is_some()
    }

    fn rebuild(&mut self) -> Result<(), String> {
        let Some(recipe) = self.recipe.clone() else { return Ok(()) };
        // First, so that its memory on the device is free for the next.
        self.session = None;
        *self = recipe()?.rebuilt_by(recipe);
        Ok(())
    }

    /// A run on the smallest input, after which ONNX Runtime gives back what only larger ones needed: there is no other way to ask
    /// it for that. Models with one input size and no batches have nothing to give back.
    fn rest(&mut self) {
        self.joined = Vec::new();
        // Only the memory of the CPU's arena can be given back.
        self.holds_more &= self.provider == Provider::Cpu;
        let Some(shape) = self.smallest.clone().filter(|_| std::mem::take(&mut self.holds_more)) else { return };
        let Some(session) = self.session.as_mut() else { return };
        let nothing = vec![0.0_f32; shape.iter().product::<i64>() as usize];
        let ran = TensorRef::from_array_view((shape, nothing.as_slice()))
            .and_then(|input| session.run_with_options(ort::inputs![input], &self.shrinking_run_options));
        if let Err(error) = ran {
            tracing::warn!(reason = error.to_string(), "working memory of a model could not be given back");
        }
    }
}

/// A graph that ONNX Runtime has optimised for this processor, kept on disk beside its own hash.
struct OptimisedGraph {
    path: PathBuf,
    digest_path: PathBuf,
}

impl OptimisedGraph {
    fn new(dir: &Path, source: &ModelSource<'_>, runtime_version: &str) -> Self {
        // All that the optimised form depends on. Threads do not matter to it.
        let key = format!(
            "{}-{}-{}-{}-{}",
            &source.sha256[..source.sha256.len().min(16)],
            runtime_version,
            source.provider.as_str(),
            processor(),
            rewrite::REVISION
        );
        Self { path: dir.join(format!("{key}.onnx")), digest_path: dir.join(format!("{key}.sha256")) }
    }

    /// The graph, if it is there and whole.
    fn read(&self) -> Option<Vec<u8>> {
        let bytes = fs::read(&self.path).ok()?;
        let expected = fs::read_to_string(&self.digest_path).ok()?;
        (expected.trim() == hex(&Sha256::digest(&bytes))).then_some(bytes)
    }

    /// Opens the source and leaves its optimised graph in the cache. A cache that cannot be written costs start time only.
    fn write(&self, runtime: &Runtime, source: &ModelSource<'_>) -> Result<OnnxRunner, String> {
        // The process id keeps two daemons that share a cache out of each other's way.
        let partial = self.path.with_extension(format!("{}.partial", std::process::id()));
        let prepared = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        let saved = prepared
            .map_err(|error| error.to_string())
            .and_then(|()| OnnxRunner::open(runtime, source, source.bytes, Graph::SourceSavedTo(&partial)));
        let kept = saved.and_then(|runner| self.keep(&partial).map(|()| runner).map_err(|error| error.to_string()));
        kept.or_else(|reason| {
            let _ = fs::remove_file(&partial);
            tracing::warn!(
                model = source.name,
                reason,
                "the optimised graph cannot be cached; every start will optimise anew"
            );
            OnnxRunner::open(runtime, source, source.bytes, Graph::Source)
        })
    }

    fn keep(&self, partial: &Path) -> io::Result<()> {
        let digest = hex(&Sha256::digest(fs::read(partial)?));
        let digest_partial = partial.with_extension("sha256");
        fs::write(&digest_partial, digest)?;
        // A digest without its graph, or with an older one, is read as a miss.
        fs::rename(digest_partial, &self.digest_path)?;
        fs::rename(partial, &self.path)
    }
}

/// What the layout of an optimised graph depends on besides the model.
fn processor() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            "x86_64-avx512"
        } else if std::arch::is_x86_feature_detected!("avx2") {
            "x86_64-avx2"
        } else {
            "x86_64"
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
