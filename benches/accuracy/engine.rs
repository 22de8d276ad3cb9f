//! The engine inside this process, for what the daemon never gives away (embeddings) and for pictures that are made here.
//!
//! Used by the all-pairs comparison of `face_match` and by `degrade`. The same code as the daemon's decodes, detects and runs
//! the models; only the socket is left out.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context as _;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _};
use indicatif::ProgressBar;
use vouch::checks::MediaKind;
use vouch::config::Config;
use vouch::imaging::Image;
use vouch::inference::RequestContext;
use vouch::models::manifest::Role;
use vouch::pipeline::Engine;
use vouch::pipeline::picture::Picture;
use vouch::pipeline::source::{Listener, Media};

use super::daemon::Measured;

/// Loaded models.
pub struct InProcess {
    engine: Arc<Engine>,
    context: Arc<RequestContext>,
}

impl InProcess {
    /// Loads the model pack, without any calibration.
    ///
    /// # Errors
    /// A pack that is missing or does not fit its manifest.
    pub fn load(pack: Option<&Path>) -> anyhow::Result<Self> {
        let no_calibration = tempfile::tempdir().context("cannot make an empty calibration directory")?;
        let mut config = Config::default();
        config.models.pack_dir = pack.map(Path::to_owned);
        config.calibration.dir = Some(no_calibration.path().to_owned());
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let engine = Engine::load(&config, cores).context("cannot load the models")?;
        Ok(Self { engine, context: Arc::default() })
    }

    /// A picture from an encoded file.
    pub fn picture(&self, file: impl Into<bytes::Bytes>) -> Picture {
        let media = Media { kind: MediaKind::Selfie, data: file.into(), field: "selfie".into() };
        let listener: Arc<Listener> = Arc::new(|_, _| {});
        self.engine.picture(media, &self.context, &listener)
    }

    /// A picture from pixels; they pass through a lossless file, so that they are decoded as a user's would be.
    ///
    /// # Errors
    /// If the pixels cannot be encoded.
    pub fn picture_of(&self, image: &Image) -> anyhow::Result<Picture> {
        let mut file = Cursor::new(Vec::new());
        PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::NoFilter)
            .write_image(&image.rgb, image.width, image.height, ExtendedColorType::Rgb8)
            .context("cannot encode a picture")?;
        Ok(self.picture(file.into_inner()))
    }

    /// What a calibration file says of the software and of the models of these roles; without answers.
    pub fn measured(&self, score_kind: &str, roles: &[Role]) -> Measured {
        let registry = &self.engine.registry;
        let models = registry.models().filter(|model| roles.contains(&model.entry.role));
        Measured {
            answers: Vec::new(),
            score_kind: score_kind.to_owned(),
            models: models
                .map(|model| (model.entry.role.name().to_owned(), model.entry.sha256.clone()))
                .collect::<BTreeMap<_, _>>(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime: registry.runtime_version().to_owned(),
            device: "cpu".to_owned(),
        }
    }
}

/// Does the work for every item on `threads` threads; results in the order of the items.
///
/// # Errors
/// The first error of the work.
pub fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    threads: usize,
    work: impl Fn(&I) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let progress = ProgressBar::new(items.len() as u64);
    let mut done = thread::scope(|scope| {
        let run = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { return anyhow::Ok(done) };
                done.push((index, work(item)?));
                progress.inc(1);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let mut all = Vec::with_capacity(items.len());
        for worker in workers {
            all.extend(worker.join().map_err(|_| anyhow::anyhow!("a thread of the measurement panicked"))??);
        }
        anyhow::Ok(all)
    })?;
    progress.finish_and_clear();
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
