//! The batcher: what the queue costs beside a direct call, and what batches gain on this machine for each model.
//!
//! `queue` is a round trip through the queue and a worker with a model that does nothing; its baseline `direct` calls the same
//! runner. `batch` runs each real model on 1, 2, 4 and 8 inputs; where the time for 8 is not clearly below 8 times that for 1, one input
//! is one run. `cargo bench --bench batcher` (after `make pack`)

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use common::root;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vouch::inference::batcher::{BatchRunner, Batcher, BatcherLimits};
use vouch::inference::provider::Provider;
use vouch::inference::session::{ModelSource, OnnxRunner, Runtime};
use vouch::inference::{Model, Outputs, RequestContext, Tensor};
use vouch::models::manifest::{Layout, Manifest};

/// Gives every input back.
struct Echo;

impl BatchRunner for Echo {
    fn run_batch(&mut self, inputs: &[Tensor]) -> Result<Vec<Outputs>, String> {
        Ok(inputs.iter().map(|input| vec![("out".into(), input.clone())]).collect())
    }
}

fn queue(criterion: &mut Criterion) {
    let limits = BatcherLimits { max_batch: 1, max_delay: Duration::ZERO, max_queued: 16 };
    let batcher = Batcher::start("echo", vec![Box::new(Echo)], limits).unwrap();
    let context: Arc<RequestContext> = Arc::default();
    let input = Tensor { shape: vec![3, 112, 112], data: vec![0.5; 3 * 112 * 112] };
    let mut group = criterion.benchmark_group("queue");
    group.bench_function("direct", |bencher| {
        bencher.iter(|| Echo.run_batch(std::slice::from_ref(black_box(&input))).unwrap());
    });
    group.bench_function("through the queue", |bencher| {
        // Cloned outside of the measured time: a caller makes its tensor anyway.
        let setup = || input.clone();
        bencher.iter_batched(setup, |input| batcher.run(input, &context).unwrap(), criterion::BatchSize::SmallInput);
    });
    group.finish();
}

fn batch(criterion: &mut Criterion) {
    let manifest = Manifest::shipped().unwrap();
    let pack = root().join("models/pack");
    let runtime = Runtime::load(&manifest.runtime_path(&pack), &manifest.runtime().version)
        .expect("the model pack is missing; run `make pack`");
    for entry in manifest.models() {
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
        let mut runner = OnnxRunner::load(&runtime, &source, 1).unwrap().remove(0);
        let [width, height] = entry.input.size.map(|side| if side == 0 { 320 } else { side as usize });
        let shape = match entry.input.layout {
            Layout::Nchw => vec![3, height, width],
            Layout::Nhwc => vec![height, width, 3],
        };
        let mut group = criterion.benchmark_group(format!("batch/{}", entry.role.name()));
        group.sample_size(10);
        for size in [1, 2, 4, 8] {
            let inputs = vec![Tensor { data: vec![0.3; shape.iter().product()], shape: shape.clone() }; size];
            group.throughput(Throughput::Elements(size as u64));
            group.bench_with_input(BenchmarkId::from_parameter(size), &inputs, |bencher, inputs| {
                bencher.iter(|| runner.run_batch(black_box(inputs)).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, queue, batch);
criterion_main!(benches);
