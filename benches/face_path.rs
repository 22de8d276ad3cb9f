//! Each stage of a selfie's way through the models, on the sample photograph, with real models on one thread each.
//!
//! The baselines of the whole path, bare ONNX Runtime runs, are in `overhead.rs`. `cargo bench --bench face_path` (after `make pack sample-photos`)

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::sync::Arc;

use common::{photo, root};
use criterion::{Criterion, criterion_group, criterion_main};
use vouch::checks::{FaceEvidence, MediaKind};
use vouch::config::Config;
use vouch::decoders::Decoders;
use vouch::face::align;
use vouch::face::embed::EmbeddingKind;
use vouch::imaging::decode::{DecodeOptions, decode};
use vouch::inference::RequestContext;
use vouch::pipeline::picture::{Picture, Search};
use vouch::pipeline::source::{Listener, Media};
use vouch::pipeline::{Engine, FACE_LONG_SIDE_PX};

fn stages(criterion: &mut Criterion) {
    let mut config = Config::default();
    config.models.pack_dir = Some(root().join("models/pack"));
    let engine = Engine::load(&config, Decoders::in_process(), 1).expect("the model pack is missing; run `make pack`");
    let context: Arc<RequestContext> = Arc::default();
    let listener: Arc<Listener> = Arc::new(|_, _| {});
    let file = photo("selfie.jpg");
    let picture = || -> Picture {
        let media = Media { kind: MediaKind::Selfie, data: file.clone(), field: "selfie".into() };
        engine.picture(media, &context, &listener)
    };
    let options = DecodeOptions { min_long_side_px: Some(FACE_LONG_SIDE_PX), ..DecodeOptions::default() };
    let found = picture();
    let found = found.found(Search::MainFace).unwrap();
    let face = found.faces.main().expect("the sample shows a face");

    let mut group = criterion.benchmark_group("face_path");
    group.sample_size(30);
    group.bench_function("decode", |bencher| bencher.iter(|| decode(black_box(&file), &options).unwrap()));
    group.bench_function("align 112", |bencher| {
        bencher.iter(|| align::to_template(black_box(&found.image), face, &align::ARCFACE, 112));
    });
    group.bench_function("decode + detect", |bencher| {
        bencher.iter(|| drop(black_box(picture().found(Search::MainFace).map(drop))));
    });
    group.bench_function("decode + detect + embed", |bencher| {
        bencher.iter(|| drop(black_box(picture().embedding(EmbeddingKind::A).map(drop))));
    });
    group.bench_function("everything", |bencher| {
        bencher.iter(|| {
            let picture = picture();
            drop(black_box((picture.quality(), picture.liveness(), picture.ages())));
            drop(black_box(picture.embedding(EmbeddingKind::A).map(drop)));
        });
    });
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
