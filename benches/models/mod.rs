//! Real models for benchmarks of what calls them, without a daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vouch::inference::ModelPort;
use vouch::inference::provider::{Device, GpuSettings};
use vouch::inference::registry::{InferenceSettings, Registry};
use vouch::models::find_pack_dir;
use vouch::models::manifest::{Manifest, Role};

/// All models, each in one session of one thread.
pub fn registry() -> anyhow::Result<Registry> {
    let pack = find_pack_dir(None);
    let settings = InferenceSettings {
        device: Device::Cpu,
        gpu: GpuSettings::default(),
        sessions_per_model: 1,
        threads_per_session: 1,
        max_batch: 0,
        max_batch_delay: Duration::ZERO,
        queue_per_model: 16,
        cores: 1,
    };
    // Other models than the shipped ones, as in the daemon's `models.manifest`.
    let own = std::env::var_os("VOUCH_MODELS").map(PathBuf::from);
    Ok(Registry::load(&Manifest::load(own.as_deref())?, &Role::ALL, &pack, Some(&pack.join("cache")), &settings, None)?)
}

/// The model of a role.
pub fn port(registry: &Registry, role: Role) -> anyhow::Result<ModelPort> {
    let model = registry.get(role).ok_or_else(|| anyhow::anyhow!("no {}", role.name()))?;
    Ok(ModelPort { model: Arc::clone(model) as _, input: model.entry.input.clone() })
}
