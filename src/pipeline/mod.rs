//! From a request in our own types to its events: the engine that holds models and calibrations, the door that admits
//! requests, and the run of a verification.
//!
//! Called by `api`; knows no proto type. Below it everything is pure or a model run.

pub mod admission;
pub mod document;
pub mod live;
pub mod page;
pub mod picture;
pub mod source;
pub mod verify;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use admission::{Admission, AdmissionLimits};
use document::{Document, Parts};
use page::DocumentReaders;
use picture::{FaceModels, Picture};
use source::{Listener, Media, MediaReader, Source};

use crate::calibration::{self, CalibrationSet, LoadedCalibration};
use crate::checks;
use crate::config::Config;
use crate::decoders::Decoders;
use crate::document::mrz::Date;
use crate::document::mrz_reader::MrzReader;
use crate::document::ocr::{MrzRecogniser, TextDetector, TextRecogniser, strip};
use crate::document::page_locator::PageLocator;
use crate::document::text_reader::TextReader;
use crate::error::{Error, exit};
use crate::face::ModelPort;
use crate::face::age::AgeEstimators;
use crate::face::detect::FaceDetector;
use crate::face::embed::{Crop, FaceEmbedder};
use crate::face::landmarks::FaceLandmarks;
use crate::face::liveness::PassiveLiveness;
use crate::imaging::pdf::PdfOptions;
use crate::inference::RequestContext;
use crate::inference::provider::GpuSettings;
use crate::inference::registry::{InferenceSettings, Registry, RegistryError};
use crate::live::CHECK as LIVE_CHECK;
use crate::live::intake::Bounds;
use crate::live::terms::Terms;
use crate::models;
use crate::models::manifest::{Colour, Layout, Manifest, ManifestError, Role};

/// What an engine is loaded after.
enum Origin<'a> {
    Start(Arc<Decoders>),
    Reload(&'a Engine),
}

/// Everything that is loaded once and shared by all requests.
pub struct Engine {
    pub registry: Registry,
    /// Those that were measured with the models that are loaded.
    pub calibrations: BTreeMap<String, LoadedCalibration>,
    pub admission: Arc<Admission>,
    face_models: Arc<FaceModels>,
    document_readers: DocumentReaders,
    pub reader: MediaReader,
    pub live: LiveLimits,
    /// Places for sessions of active liveness.
    pub live_places: Arc<Semaphore>,
    pub started: Instant,
    /// Of the settings that it was loaded with.
    pub config_sha256: String,
}

/// The checks that decide by a score.
fn need_calibration() -> impl Iterator<Item = &'static str> {
    checks::ALL.iter().filter(|check| !check.decides_by_rule()).map(|check| check.name()).chain([LIVE_CHECK])
}

/// The engine in use. It is exchanged whole by a reload: a request keeps the one that it began with.
pub struct EngineSlot(RwLock<Arc<Engine>>);

impl EngineSlot {
    pub fn new(engine: Arc<Engine>) -> Arc<Self> {
        Arc::new(Self(RwLock::new(engine)))
    }

    pub fn current(&self) -> Arc<Engine> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another in its place and gives back the one that was.
    pub fn exchange(&self, engine: Arc<Engine>) -> Arc<Engine> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), engine)
    }
}

/// What one picture may cost.
#[derive(Debug, Clone, Copy)]
pub struct MediaLimits {
    pub max_image_bytes: usize,
    /// Width × height.
    pub max_pixels: u64,
}

/// What sessions of active liveness may take.
#[derive(Debug, Clone, Copy)]
pub struct LiveLimits {
    pub max_sessions: usize,
    pub max_duration: Duration,
    pub bounds: Bounds,
}

impl MediaLimits {
    fn pdf(&self) -> PdfOptions {
        let options = PdfOptions::default();
        PdfOptions {
            max_bytes: self.max_image_bytes as u64,
            max_pages: document::MAX_PAGES,
            max_pixels: self.max_pixels.min(options.max_pixels),
            ..options
        }
    }
}

/// Long side that face models profit from: a face a tenth as wide still has 160 pixels. JPEGs are decoded at half, a quarter or an eighth of their size as
/// long as this much is left. Lowered, small portraits in document pictures lose detail; raised, 12-megapixel pictures cost twice the decoding time.
pub const FACE_LONG_SIDE_PX: u32 = 1600;

/// The models that the daemon runs.
pub const ROLES: [Role; 11] = [
    Role::FaceDetector,
    Role::FaceEmbedder,
    Role::FaceEmbedderB,
    Role::FaceLandmarks,
    Role::PassiveLiveness,
    Role::AgeA,
    Role::AgeB,
    Role::TextDetector,
    Role::MrzRecogniser,
    Role::TextRecogniser,
    Role::PageLocator,
];

/// Why the engine cannot be loaded. The daemon does not start then.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Models(#[from] RegistryError),
    #[error(transparent)]
    Calibration(#[from] calibration::LoadError),
    #[error("the calibration of {check}: {problems}")]
    Terms { check: &'static str, problems: String },
    #[error("the manifest has no model for the role {}", .0.name())]
    RoleMissing(Role),
    #[error("the model for the role {} must take {} in the layout nchw (models/README.md)", .role.name(), .takes)]
    WrongInput { role: Role, takes: String },
}

impl LoadError {
    /// The exit code that this error ends the daemon with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Manifest(_)
            | Self::Calibration(_)
            | Self::Terms { .. }
            | Self::RoleMissing(_)
            | Self::WrongInput { .. } => exit::CONFIG,
            Self::Models(error) => error.exit_code(),
        }
    }
}

impl Engine {
    /// Finds and loads everything that the configuration names, and warms it up. `cores` are those that the process may use. Whatever `config.decoders` says,
    /// media are read by the `decoders` given.
    ///
    /// # Errors
    /// What is missing, altered or contradictory.
    pub fn load(config: &Config, decoders: Decoders, cores: usize) -> Result<Arc<Self>, LoadError> {
        Self::load_after(Origin::Start(Arc::new(decoders)), config, cores).map(Arc::new)
    }

    /// Loads models and calibrations anew. What did not change is taken over, and so are the decoders, the door and who stands there: `config.limits` and
    /// `config.live` are not looked at.
    ///
    /// # Errors
    /// What is missing, altered or contradictory; this engine is as good as before then.
    pub fn reload(&self, config: &Config, cores: usize) -> Result<Arc<Self>, LoadError> {
        Self::load_after(Origin::Reload(self), config, cores).map(Arc::new)
    }

    fn load_after(origin: Origin<'_>, config: &Config, cores: usize) -> Result<Self, LoadError> {
        let (previous, decoders) = match origin {
            Origin::Start(decoders) => (None, decoders),
            Origin::Reload(previous) => (Some(previous), Arc::clone(&previous.reader.decoders)),
        };
        let pack_dir = models::find_pack_dir(config.models.pack_dir.as_deref());
        let own_models = models::find_own_models(config.models.overrides.as_deref());
        let manifest = Manifest::load(own_models.as_deref())?;
        let calibration_dir = calibration::find_calibration_dir(config.calibration.dir.as_deref())?;
        let calibrations = CalibrationSet::load(&calibration_dir)?;
        let cache_dir = config.models.cache_dir.clone().unwrap_or_else(|| pack_dir.join("cache"));
        let inference = InferenceSettings {
            device: config.inference.device,
            gpu: GpuSettings {
                provider: config.inference.gpu_provider,
                precision: config.inference.gpu_precision,
                folder: config.inference.gpu_runtime_dir.clone().unwrap_or_else(|| pack_dir.join("runtime-gpu")),
            },
            sessions_per_model: config.inference.sessions_per_model,
            threads_per_session: config.inference.threads_per_session,
            max_batch: config.inference.max_batch,
            max_batch_delay: Duration::from_micros(config.inference.max_batch_delay_us),
            queue_per_model: config.inference.queue_per_model,
            cores,
        };
        let running = previous.map(|previous| &previous.registry);
        let registry = Registry::load(&manifest, &ROLES, &pack_dir, Some(&cache_dir), &inference, running)?;
        let limits =
            MediaLimits { max_image_bytes: config.limits.max_image_bytes, max_pixels: config.limits.max_pixels };
        let admission = AdmissionLimits {
            max_running: if config.limits.max_running == 0 { 2 * cores } else { config.limits.max_running },
            max_waiting: config.limits.max_waiting,
            max_waiting_bytes: config.limits.max_waiting_bytes,
            max_wait: Duration::from_millis(config.limits.max_wait_ms),
        };
        let live = LiveLimits {
            max_sessions: config.live.max_sessions,
            max_duration: Duration::from_secs(config.live.max_seconds),
            bounds: Bounds { max_frames: config.live.max_frames, max_bytes: config.live.max_bytes },
        };
        let reader = MediaReader { limits, decoders };
        let engine =
            Self { config_sha256: config.sha256(), ..Self::new(registry, calibrations, reader, live, admission)? };
        Ok(match previous {
            None => engine,
            Some(previous) => {
                engine.registry.take_over(&previous.registry)?;
                Self {
                    admission: Arc::clone(&previous.admission),
                    reader: previous.reader.clone(),
                    live: previous.live,
                    live_places: Arc::clone(&previous.live_places),
                    started: previous.started,
                    ..engine
                }
            }
        })
    }

    /// Puts loaded parts together. A calibration that was measured with other models is left out, with a warning: its check then gives scores without decisions.
    ///
    /// # Errors
    /// [`LoadError::RoleMissing`] if a check's model is not there.
    pub fn new(
        registry: Registry,
        calibrations: CalibrationSet,
        reader: MediaReader,
        live: LiveLimits,
        admission: AdmissionLimits,
    ) -> Result<Self, LoadError> {
        let port = |role: Role| {
            let model = registry.get(role).ok_or(LoadError::RoleMissing(role))?;
            Ok::<_, LoadError>(ModelPort { model: Arc::clone(model) as _, input: model.entry.input.clone() })
        };
        let face_models = Arc::new(FaceModels {
            detector: FaceDetector::new(port(Role::FaceDetector)?),
            embedder: FaceEmbedder::new(port(Role::FaceEmbedder)?, Crop::ArcFace),
            embedder_b: FaceEmbedder::new(port(Role::FaceEmbedderB)?, Crop::DlibChip),
            landmarks: FaceLandmarks::new(port(Role::FaceLandmarks)?),
            liveness: PassiveLiveness::new(port(Role::PassiveLiveness)?),
            ages: AgeEstimators::new(port(Role::AgeA)?, port(Role::AgeB)?),
        });
        let (zone_lines, pages) = (port(Role::MrzRecogniser)?, port(Role::PageLocator)?);
        let input = &zone_lines.input;
        if (input.colour, input.layout, input.size[1]) != (Colour::Grey, Layout::Nchw, strip::HEIGHT_PX as u32) {
            return Err(LoadError::WrongInput {
                role: Role::MrzRecogniser,
                takes: format!("grey strips of {} rows", strip::HEIGHT_PX),
            });
        }
        if pages.input.colour == Colour::Grey || pages.input.layout != Layout::Nchw || pages.input.size != [0, 0] {
            return Err(LoadError::WrongInput {
                role: Role::PageLocator,
                takes: "pictures in colour, of any size,".into(),
            });
        }
        let locator = PageLocator::new(pages);
        let text_detector = TextDetector::new(port(Role::TextDetector)?);
        let document_readers = DocumentReaders {
            locator: locator.clone(),
            mrz: MrzReader::new(locator, text_detector.clone(), MrzRecogniser::new(zone_lines)),
            text: TextReader::new(text_detector, TextRecogniser::new(port(Role::TextRecogniser)?)),
        };
        let loaded: BTreeMap<String, String> =
            registry.models().map(|model| (model.entry.role.name().to_owned(), model.entry.sha256.clone())).collect();
        let mut usable = BTreeMap::new();
        for check in need_calibration() {
            match calibrations.get(check) {
                None => {
                    tracing::warn!(check, "no calibration: the check gives scores without decisions")
                }
                Some(calibration) => match calibration.calibration.matches_models(&loaded) {
                    Ok(()) => {
                        usable.insert(check.to_owned(), calibration.clone());
                    }
                    Err(mismatch) => tracing::warn!(
                        check,
                        reason = mismatch.to_string(),
                        "the calibration does not fit the models: the check gives scores without decisions"
                    ),
                },
            }
        }
        if let Some(loaded) = usable.get(LIVE_CHECK) {
            for point in &loaded.calibration.operating_points {
                Terms::from_point(point).map_err(|wrong| LoadError::Terms {
                    check: LIVE_CHECK,
                    problems: format!("operating point {}: {}", point.name, wrong.join(", ")),
                })?;
            }
        }
        Ok(Self {
            registry,
            calibrations: usable,
            admission: Admission::new(admission),
            face_models,
            document_readers,
            reader,
            live,
            live_places: Arc::new(Semaphore::new(live.max_sessions)),
            started: Instant::now(),
            config_sha256: String::new(),
        })
    }

    /// The checks that decide nothing: neither by a rule, nor by a calibration that was measured with the models that are loaded.
    pub fn undecided(&self) -> Vec<&'static str> {
        need_calibration().filter(|check| !self.calibrations.contains_key(*check)).collect()
    }

    /// Sessions of active liveness that are held now.
    pub fn live_sessions(&self) -> usize {
        self.live.max_sessions.saturating_sub(self.live_places.available_permits())
    }

    /// Puts a picture to work in which faces are all that is looked for.
    pub fn picture(&self, media: Media, context: &Arc<RequestContext>, listener: &Arc<Listener>) -> Picture {
        let source = Source::of_face(media, &self.reader, FACE_LONG_SIDE_PX, context, listener);
        Picture::new(source, Arc::clone(&self.face_models))
    }

    /// Puts the pictures of a document to work. Counting the pages of a PDF file takes time, of a hostile one seconds: to be called from a blocking
    /// thread.
    ///
    /// # Errors
    /// Those of [`Source::of_document`].
    pub fn document(
        &self,
        media: Vec<Media>,
        parts: Parts,
        today: Date,
        context: &Arc<RequestContext>,
        listener: &Arc<Listener>,
    ) -> Result<Document, Error> {
        let sources = Source::of_document(media, &self.reader, context, listener)?;
        Ok(Document::new(sources, parts, &self.document_readers, &self.face_models, today))
    }

    /// Refuses a picture that is too large to be looked at, before it waits for its turn.
    ///
    /// # Errors
    /// [`Error::InvalidInput`].
    pub fn check_size(&self, data: &[u8], field: &str) -> Result<(), Error> {
        let (size, limit) = (data.len(), self.reader.limits.max_image_bytes);
        if size == 0 {
            Err(Error::invalid(field, "IMAGE_EMPTY", "there are no bytes"))
        } else if size > limit {
            Err(Error::invalid(field, "IMAGE_TOO_LARGE", format!("{size} bytes are more than {limit}")))
        } else {
            Ok(())
        }
    }
}
