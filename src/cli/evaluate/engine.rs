//! The daemon's engine inside this process, for what the daemon never gives away: identity vectors.
//!
//! Called by `all_pairs` and by `benches/accuracy`. The same code as the daemon's decodes, detects and runs the models; only the socket is left
//! out.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressDrawTarget};

use super::super::connect::Failure;
use crate::checks::MediaKind;
use crate::config::Config;
use crate::decoders::Decoders;
use crate::inference::RequestContext;
use crate::pipeline::Engine;
use crate::pipeline::picture::Picture;
use crate::pipeline::source::{Listener, Media};

/// Loaded models, without any calibration.
pub struct InProcess {
    pub engine: Arc<Engine>,
    context: Arc<RequestContext>,
}

impl InProcess {
    /// Loads the model pack.
    ///
    /// # Errors
    /// [`Failure::BadInput`] if a pack is missing or does not fit its manifest.
    pub fn load(pack: Option<&Path>) -> Result<Self, Failure> {
        let no_calibration = tempfile::tempdir().map_err(Failure::Runtime)?;
        let mut config = Config::default();
        config.models.pack_dir = pack.map(Path::to_owned);
        config.calibration.dir = Some(no_calibration.path().to_owned());
        let engine = Engine::load(&config, Decoders::in_process(), cores())
            .map_err(|error| Failure::BadInput(format!("the models cannot be loaded: {error}")))?;
        Ok(Self { engine, context: Arc::default() })
    }

    /// A picture from an encoded file.
    pub fn picture(&self, file: impl Into<bytes::Bytes>) -> Picture {
        let media = Media { kind: MediaKind::Selfie, data: file.into(), field: "selfie".into() };
        let listener: Arc<Listener> = Arc::new(|_, _| {});
        self.engine.picture(media, &self.context, &listener)
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does the work for every item on as many threads as there are cores; results in the order of the items.
///
/// # Errors
/// The first error of the work.
pub fn in_parallel<I: Sync, T: Send, E: Send>(
    items: &[I],
    work: impl Fn(&I) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let shown = std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(items.len() as u64), target);
    let mut done = thread::scope(|scope| {
        let run = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { return Ok(done) };
                done.push((index, work(item)?));
                progress.inc(1);
            }
        };
        let workers: Vec<_> = (0..cores()).map(|_| scope.spawn(run)).collect();
        let mut all: Vec<(usize, T)> = Vec::with_capacity(items.len());
        for worker in workers {
            // A panic of the work is a panic of whoever asked for it.
            all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok::<_, E>(all)
    })?;
    progress.finish_and_clear();
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
