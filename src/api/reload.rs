//! `Reload` and SIGHUP: models, calibrations, the list of callers and their policies read anew, while requests run.
//!
//! Called by the `Administration` service and, on a signal, by `server`. Everything is loaded and warmed up beside what runs; then it is exchanged in one step. A request keeps what it
//! began with, and what did not change is taken over, so that a reload costs the memory of the new models alone. If anything is wrong with the new, all of the old stays.
//! Left out: every other setting, which takes effect at the next start; the answer names those that have changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::callers::Callers;
use super::listener::{Access, PeerIdentity, Warned};
use super::proto::ReloadRequest;
use super::proto::ReloadResponse;
use super::proto::administration_server::{Administration, AdministrationServer, SERVICE_NAME};
use super::unwind::caught;
use crate::audit::AuditLog;
use crate::audit::record::{AskedBy, Loaded as AuditLoaded};
use crate::config::{Config, ConfigError, Loaded};
use crate::error::Error;
use crate::ops::{faults, metrics as names, systemd};
use crate::pipeline::{Engine, EngineSlot};

/// What a reload takes from the new configuration: keys, or sections with a dot at the end.
const RELOADED: [&str; 5] = ["models.", "calibration.", "callers", "socket.allowed_users", "socket.allowed_groups"];

/// Reads the configuration in all its layers, as at the start.
pub type ReadConfig = dyn Fn() -> Result<Loaded, ConfigError> + Send + Sync;

/// Exchanges what can be exchanged, one reload after the other.
pub struct Reloader {
    engine: Arc<EngineSlot>,
    access: Arc<Access>,
    callers: Arc<Callers>,
    audit: Option<Arc<AuditLog>>,
    read: Box<ReadConfig>,
    cores: usize,
    /// In effect now.
    config: Mutex<Config>,
}

/// What a reload has done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys of the configuration whose new values are in effect.
    pub applied: Vec<String>,
    /// Keys with new values that wait for the next start.
    pub needs_restart: Vec<String>,
    /// Roles whose model is another one now.
    pub models: Vec<String>,
    /// Checks whose calibration is another one now, or is there or gone.
    pub calibrations: Vec<String>,
    /// Checks that decide nothing now, for want of a calibration that fits the models.
    pub undecided: Vec<String>,
}

impl Reloader {
    /// `config` is what the daemon was started with, `cores` those that it may use.
    pub fn new(
        engine: Arc<EngineSlot>,
        access: Arc<Access>,
        callers: Arc<Callers>,
        audit: Option<Arc<AuditLog>>,
        config: Config,
        cores: usize,
        read: Box<ReadConfig>,
    ) -> Arc<Self> {
        Arc::new(Self { engine, access, callers, audit, read, cores, config: Mutex::new(config) })
    }

    /// Reads everything anew and puts it in place. Tells the service manager while it goes on.
    ///
    /// # Errors
    /// [`Error::ReloadRefused`] with every problem that was found; nothing has changed then.
    pub async fn reload(self: &Arc<Self>, asked_by: AskedBy) -> Result<Reloaded, Error> {
        // Not ended by a caller that goes away: a reload is done whole or not at all.
        let reloader = Arc::clone(self);
        let work = tokio::spawn(async move {
            let mut config = reloader.config.lock().await;
            systemd::reloading();
            let result = caught(reloader.exchange(&mut config, asked_by)).await;
            // Whatever came of it, or the service manager would wait for it until it gives the daemon up.
            systemd::ready();
            let word = if result.is_ok() { "done" } else { "refused" };
            metrics::counter!(names::RELOADS, "result" => word).increment(1);
            match &result {
                Ok(done) => tracing::info!(?done, ?asked_by, "reloaded"),
                Err(error) => {
                    tracing::error!(
                        reason = error.to_string(),
                        ?asked_by,
                        "the reload was refused: everything stays as it was"
                    )
                }
            }
            result
        });
        work.await.unwrap_or_else(|_| Err(Error::internal("a reload was cut off")))
    }

    /// Waits for the reload that goes on, for a moment: to be called before the process ends, when no more sessions are made.
    pub async fn ended(&self) {
        let patience = Duration::from_secs(10);
        if tokio::time::timeout(patience, self.config.lock()).await.is_err() {
            tracing::warn!("a reload was still going on at the end");
        }
    }

    async fn exchange(self: &Arc<Self>, config: &mut Config, asked_by: AskedBy) -> Result<Reloaded, Error> {
        let refused = |problems: String| Error::ReloadRefused { problems };
        let read = (self.read)().map_err(|error| refused(error.to_string()))?.config;
        let access = Access::resolve(&read.socket).map_err(|error| refused(error.to_string()))?;
        let callers = Callers::resolve(&read).map_err(|error| refused(error.to_string()))?;
        let is_reloaded = |key: &String| {
            RELOADED.iter().any(|reloaded| key == reloaded || (reloaded.ends_with('.') && key.starts_with(reloaded)))
        };
        let (applied, needs_restart) = config.differences(&read).into_iter().partition(is_reloaded);
        let mut next = config.clone();
        (next.models, next.calibration, next.callers) = (read.models, read.calibration, read.callers);
        (next.socket.allowed_users, next.socket.allowed_groups) =
            (read.socket.allowed_users, read.socket.allowed_groups);
        let old = self.engine.current();
        let new = {
            let (old, next, cores) = (Arc::clone(&old), next.clone(), self.cores);
            tokio::task::spawn_blocking(move || old.reload(&next, cores))
                .await
                .map_err(|_| Error::internal("loading the models panicked; its place stands in the journal"))?
                .map_err(|error| refused(error.to_string()))?
        };
        let (before, now) = (loaded(&old), loaded(&new));
        let done = Reloaded {
            applied,
            needs_restart,
            models: changed(&before.models, &now.models),
            calibrations: changed(&before.calibrations, &now.calibrations),
            undecided: new.undecided().into_iter().map(str::to_owned).collect(),
        };
        faults::point("reload");
        if let Some(audit) = &self.audit {
            audit.reloaded(next.sha256(), now, asked_by).await;
        }
        drop(old);
        put_away(self.engine.exchange(new));
        self.access.replace(access);
        self.callers.replace(&callers);
        *config = next;
        Ok(done)
    }
}

/// Ends an engine when the last request that began with it has ended, on a thread that may wait for the models' own.
fn put_away(engine: Arc<Engine>) {
    tokio::spawn(async move {
        while Arc::strong_count(&engine) > 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = tokio::task::spawn_blocking(|| drop(engine)).await;
    });
}

/// The hashes of what an engine runs with.
pub fn loaded(engine: &Engine) -> AuditLoaded {
    let models = engine.registry.models().map(|model| (model.entry.role.name().to_owned(), model.entry.sha256.clone()));
    let calibrations = engine.calibrations.iter().map(|(check, loaded)| (check.clone(), loaded.sha256.clone()));
    AuditLoaded { models: models.collect(), calibrations: calibrations.collect() }
}

/// Keys whose value differs, or that only one of the two has.
fn changed(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let mut keys: Vec<String> =
        old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Who asked for a reload and may not.
static NOT_OPERATORS: Warned = Warned::new();

/// The service of the operator.
pub struct AdministrationService {
    reloader: Arc<Reloader>,
}

impl AdministrationService {
    pub fn server(reloader: Arc<Reloader>) -> AdministrationServer<Self> {
        AdministrationServer::new(Self { reloader })
    }
}

/// Whether a call to this path is to reload.
pub fn is_reload(path: &str) -> bool {
    path.strip_prefix('/').and_then(|path| path.split_once('/')) == Some((SERVICE_NAME, "Reload"))
}

#[tonic::async_trait]
impl Administration for AdministrationService {
    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        let peer = request.extensions().get::<PeerIdentity>();
        let Some(operator) = peer.filter(|peer| peer.is_operator()) else {
            if let (Some(PeerIdentity { uid, pid, .. }), Some(untold)) = (peer, NOT_OPERATORS.tell()) {
                tracing::warn!(uid, pid, untold, "a reload was asked for by a user who is not the operator");
            }
            return Err(Error::RpcNotAllowed.into());
        };
        let done = self.reloader.reload(AskedBy::User(operator.uid)).await?;
        let Reloaded { applied, needs_restart, models, calibrations, undecided } = done;
        Ok(Response::new(ReloadResponse { applied, needs_restart, models, calibrations, undecided }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_reload_and_no_other() {
        assert!(is_reload("/vouch.v1.Administration/Reload"));
        assert!(
            !["/vouch.v1.Verification/Verify", "/Reload", "vouch.v1.Administration/Reload", ""]
                .into_iter()
                .any(is_reload)
        );
    }

    #[test]
    fn what_is_there_in_one_only_or_differs_has_changed() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (old, new) = (map(&[("a", "1"), ("b", "1"), ("c", "1")]), map(&[("b", "2"), ("c", "1"), ("d", "1")]));
        assert_eq!(changed(&old, &new), ["a", "b", "d"]);
        assert!(changed(&old, &old).is_empty());
    }
}
