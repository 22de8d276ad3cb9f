//! Time of the pixel work around the models, and of what decoding in a process of its own adds. Run with `cargo bench --bench imaging`.
//!
//! The pictures are generated, 4000 × 3000 with photograph-like noise, so absolute figures depend on the machine alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use image::ImageEncoder;
use vouch::decoders::{Decoders, Job, Pool, PoolSettings, Wear};
use vouch::imaging::decode::{DecodeOptions, decode};
use vouch::imaging::orient::{Rotation, rotate};
use vouch::imaging::tensor::to_tensor;
use vouch::imaging::warp::{Affine, Sampling, warp};
use vouch::imaging::{Image, quality, resize};
use vouch::inference::RequestContext;
use vouch::models::manifest::{Colour, InputSpec, Layout};

const SIZE: (u32, u32) = (4000, 3000);

/// Waves of several lengths with a little noise: a JPEG of it has about the size of a photograph's.
fn photograph() -> Image {
    let mut state = 1u32;
    Image::build(SIZE.0, SIZE.1, |rgb| {
        for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            let (x, y) = ((i as u32 % SIZE.0) as f32, (i as u32 / SIZE.0) as f32);
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = 128.0 + 60.0 * (x / 91.0).sin() * (y / 57.0).cos() + 30.0 * ((x + 2.0 * y) / 9.0).sin();
            let noise = (state >> 28) as f32 - 8.0;
            for (channel, byte) in pixel.iter_mut().enumerate() {
                *byte = (value + noise + 10.0 * channel as f32) as u8;
            }
        }
    })
}

fn jpeg(image: &Image) -> Vec<u8> {
    let (width, height) = (image.width as usize, image.height as usize);
    let pixels = turbojpeg::Image {
        pixels: &image.rgb[..],
        width,
        pitch: width * 3,
        height,
        format: turbojpeg::PixelFormat::RGB,
    };
    turbojpeg::compress(pixels, 90, turbojpeg::Subsamp::Sub2x2).expect("encoding").to_vec()
}

fn png(image: &Image) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut file);
    encoder.write_image(&image.rgb, image.width, image.height, image::ExtendedColorType::Rgb8).expect("encoding");
    file
}

fn decoding(criterion: &mut Criterion) {
    let file = jpeg(&photograph());
    let mut group = criterion.benchmark_group(format!("decode 12 MP JPEG of {} kB", file.len() / 1000));
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for (name, wanted) in [("full", None), ("half", Some(2000)), ("quarter", Some(1000)), ("eighth", Some(500))] {
        let options = DecodeOptions { min_long_side_px: wanted, ..DecodeOptions::default() };
        group.bench_function(name, |bencher| bencher.iter(|| decode(black_box(&file), &options).expect("a good file")));
    }
}

/// What a process of its own adds: the same decode here and there by turns, so that a busy machine troubles both alike. Printed in milliseconds.
fn isolation(_: &mut Criterion) {
    // Criterion's own filter does not reach here.
    if std::env::args().skip(1).any(|argument| !argument.starts_with('-') && !"isolation".contains(argument.as_str())) {
        return;
    }
    let settings = PoolSettings {
        program: env!("CARGO_BIN_EXE_vouchd").into(),
        processes: 1,
        memory_bytes: 1 << 30,
        deadline: Duration::from_secs(60),
        max_file_bytes: 20 << 20,
        max_pixels: 50_000_000,
        wear: Wear::default(),
    };
    let isolated = Decoders::isolated(Pool::start(settings.clone()).expect("a decoder process"));
    let places = [Decoders::in_process(), isolated];
    let large = photograph();
    let frame = resize::resize(&large, 640, 480);
    let scan = resize::resize(&large, 1600, 1200);
    let context = RequestContext::default();
    let job = Job { field: "picture", context: &context };
    println!(
        "{:<28}{:>8}{:>12}{:>12}{:>12}{:>12}{:>10}",
        "isolation", "kB", "here least", "median", "there least", "median", "ratio"
    );
    for (name, rounds, file, min_long_side_px) in [
        ("640 x 480 JPEG", 500, jpeg(&frame), None),
        ("12 MP JPEG", 50, jpeg(&large), None),
        ("12 MP JPEG at half", 50, jpeg(&large), Some(1600)),
        ("1600 x 1200 PNG", 50, png(&scan), None),
    ] {
        let options = DecodeOptions { min_long_side_px, ..DecodeOptions::default() };
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (decoders, times) in places.iter().zip(&mut times) {
                let started = Instant::now();
                black_box(decoders.picture(black_box(&file), &options, &job).expect("a good file"));
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        let [here, there] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            [times[0], times[times.len() / 2]]
        });
        let ratio = there[1] / here[1];
        println!(
            "{name:<28}{:>8}{:>12.3}{:>12.3}{:>12.3}{:>12.3}{ratio:>10.3}",
            file.len() / 1000,
            here[0],
            here[1],
            there[0],
            there[1]
        );
    }
    let mut starts: Vec<f64> = (0..20)
        .map(|_| {
            let started = Instant::now();
            drop(Pool::start(settings.clone()).expect("a decoder process"));
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    starts.sort_by(f64::total_cmp);
    println!("{:<36}{:>12.3}{:>12.3}", "a process until it is ready", starts[0], starts[10]);
}

fn geometry(criterion: &mut Criterion) {
    let image = photograph();
    let mut group = criterion.benchmark_group("geometry");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    group.bench_function("resize 12 MP to 640", |bencher| {
        bencher.iter(|| resize::letterbox(black_box(&image), 640, 64))
    });
    group.bench_function("rotate 12 MP by 90", |bencher| bencher.iter(|| rotate(black_box(&image), Rotation::R90)));
    for reduction in [0.8, 1.5, 3.0, 8.0] {
        let (sin, cos) = 0.2f64.sin_cos();
        let (a, b) = (reduction * cos, reduction * sin);
        let map = Affine { m: [[a, -b, 1500.0], [b, a, 1000.0]] };
        for sampling in [Sampling::Area, Sampling::Bilinear] {
            group.bench_function(format!("warp to 112 x 112, reduced by {reduction}, {sampling:?}"), |bencher| {
                bencher.iter(|| warp(black_box(&image), &map, [112, 112], sampling));
            });
        }
    }
}

fn crops(criterion: &mut Criterion) {
    let image = photograph();
    let crop = warp(&image, &Affine::IDENTITY, [112, 112], Sampling::Bilinear);
    let detector = resize::resize(&image, 640, 480);
    let mut group = criterion.benchmark_group("crop");
    for (name, layout) in [("NCHW", Layout::Nchw), ("NHWC", Layout::Nhwc)] {
        let spec = InputSpec {
            name: "input".into(),
            layout,
            colour: Colour::Bgr,
            mean: [127.5; 3],
            scale: [1.0 / 128.0; 3],
            size: [0, 0],
        };
        group.bench_function(format!("to_tensor 112 x 112 {name}"), |bencher| {
            bencher.iter(|| to_tensor(black_box(&crop), &spec))
        });
        group.bench_function(format!("to_tensor 640 x 480 {name}"), |bencher| {
            bencher.iter(|| to_tensor(black_box(&detector), &spec))
        });
    }
    group.bench_function("quality 112 x 112", |bencher| bencher.iter(|| quality::measure(black_box(&crop))));
}

criterion_group!(benches, decoding, isolation, geometry, crops);
criterion_main!(benches);
