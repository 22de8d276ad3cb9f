//! Runs the models of a pack on a known input and compares the outputs with those of the source.
//!
//! Called by `vouch models pull` and `vouch models verify`. A hash shows that a file is the one that was examined; this shows
//! that the file, the runtime and the processor together still compute what the original model computed in its own runtime.
//! The expected values are in `models/reference/probes.toml`; the scripts beside it made them and say how. The input is
//! [`picture`], a synthetic picture in integer arithmetic, so that any language can make the same one.

use std::path::Path;

use serde::Deserialize;

use super::manifest::{InputSpec, Layout, Manifest, ModelEntry};
use crate::inference::batcher::BatchRunner;
use crate::inference::provider::Provider;
use crate::inference::session::{LoadError, ModelSource, OnnxRunner, Runtime};
use crate::inference::{Outputs, Tensor};

const PROBES: &str = include_str!("../../models/reference/probes.toml");

/// What one model gives for the probe picture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// SHA-256 of the model file that these values belong to.
    pub sha256: String,
    /// What computed the values, with its version.
    pub computed_by: String,
    /// `[width, height]` of the probe picture in pixels.
    pub size: [u32; 2],
    pub outputs: Vec<ExpectedOutput>,
}

/// One output tensor in brief.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedOutput {
    pub name: String,
    /// Number of values.
    pub count: usize,
    /// Mean of all values.
    pub mean: f64,
    pub minimum: f32,
    pub maximum: f32,
    /// Values at equal distances over the flat tensor: sample `k` of `n` is at index `k × (count − 1) / (n − 1)`, rounded
    /// down.
    pub samples: Vec<f32>,
    /// The largest difference that each of these may have.
    pub tolerance: f32,
}

/// The largest difference found for one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Largest absolute difference of mean, minimum, maximum and samples over all outputs.
    pub difference: f32,
    /// The same as a share of the output's tolerance; above 1 the probe has failed.
    pub share_of_tolerance: f32,
}

/// Why a probe did not pass.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("models/reference/probes.toml: {0}")]
    Malformed(String),
    #[error("{model}: {reason}")]
    Run { model: String, reason: String },
    #[error(
        "{model}: its outputs depend on what else is in the batch on this processor, and the manifest says that they do not"
    )]
    BatchDependent { model: String },
    #[error("{model}: output {output} differs by {difference:e} from the source, more than {tolerance:e}")]
    Differs { model: String, output: String, difference: f32, tolerance: f32 },
}

/// The probe for a model file; `None` for a file that has no expected values, such as an operator's own model.
///
/// # Errors
/// [`ProbeError::Malformed`] never in a released binary: a test reads the same text.
pub fn probe_for(entry: &ModelEntry) -> Result<Option<Probe>, ProbeError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        probe: Vec<Probe>,
    }
    let file: File = toml::from_str(PROBES).map_err(|error| ProbeError::Malformed(error.to_string()))?;
    Ok(file.probe.into_iter().find(|probe| probe.sha256 == entry.sha256))
}

/// The probe picture: the 0..255 value of channel `c` at column `x` and row `y`, three parts coarse blocks of 16 pixels and
/// one part noise.
pub fn picture(x: u32, y: u32, c: u32) -> u8 {
    fn mix(x: u32, y: u32, c: u32) -> u32 {
        // The multipliers are the usual primes of spatial hashing (Teschner et al. 2003); the finish is MurmurHash2's.
        let hash = x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ c.wrapping_mul(83_492_791);
        let hash = (hash ^ (hash >> 13)).wrapping_mul(0x5bd1_e995);
        (hash ^ (hash >> 15)) & 0xff
    }
    // At most (3 × 255 + 255) / 4 = 255.
    ((3 * mix(x >> 4, y >> 4, c) + mix(x, y, c + 3)) / 4) as u8
}

/// The probe picture as an input of the model, without the batch dimension. `c` counts in the model's order of colours.
pub fn input(spec: &InputSpec, [width, height]: [u32; 2]) -> Tensor {
    let value = |x, y, c: u32| {
        let channel = c as usize;
        (f32::from(picture(x, y, c)) - spec.mean[channel]) * spec.scale[channel]
    };
    let (w, h) = (width as usize, height as usize);
    let channels = spec.channels() as u32;
    let mut data = Vec::with_capacity(spec.channels() * w * h);
    let shape = match spec.layout {
        Layout::Nchw => {
            for c in 0..channels {
                for y in 0..height {
                    data.extend((0..width).map(|x| value(x, y, c)));
                }
            }
            vec![spec.channels(), h, w]
        }
        Layout::Nhwc => {
            for y in 0..height {
                for x in 0..width {
                    data.extend((0..channels).map(|c| value(x, y, c)));
                }
            }
            vec![h, w, spec.channels()]
        }
    };
    Tensor { shape, data }
}

/// Compares the outputs of one run with the expected values.
///
/// # Errors
/// [`ProbeError::Differs`] if a value is out of tolerance or not a number, [`ProbeError::Run`] if an output is missing or has
/// another size.
pub fn compare(model: &str, probe: &Probe, outputs: &Outputs) -> Result<Agreement, ProbeError> {
    let mut agreement = Agreement { difference: 0.0, share_of_tolerance: 0.0 };
    for expected in &probe.outputs {
        let found = outputs.iter().find(|(name, _)| **name == *expected.name).map(|(_, tensor)| tensor.data.as_slice());
        let found = found.filter(|data| data.len() == expected.count).ok_or_else(|| ProbeError::Run {
            model: model.to_owned(),
            reason: format!("no output {} of {} values", expected.name, expected.count),
        })?;
        let difference = largest_difference(expected, found);
        if difference.is_nan() || difference > expected.tolerance {
            return Err(ProbeError::Differs {
                model: model.to_owned(),
                output: expected.name.clone(),
                difference,
                tolerance: expected.tolerance,
            });
        }
        agreement.difference = agreement.difference.max(difference);
        agreement.share_of_tolerance = agreement.share_of_tolerance.max(difference / expected.tolerance);
    }
    Ok(agreement)
}

fn largest_difference(expected: &ExpectedOutput, found: &[f32]) -> f32 {
    let mean = found.iter().map(|&value| f64::from(value)).sum::<f64>() / found.len() as f64;
    let minimum = found.iter().copied().fold(f32::INFINITY, f32::min);
    let maximum = found.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let steps = expected.samples.len().saturating_sub(1).max(1);
    let samples = expected.samples.iter().enumerate();
    let samples = samples.map(|(k, expected)| (found[k * (found.len() - 1) / steps] - expected).abs());
    let summary =
        [(mean - expected.mean).abs() as f32, (minimum - expected.minimum).abs(), (maximum - expected.maximum).abs()];
    // `f32::max` would drop a NaN.
    samples.chain(summary).fold(
        0.0,
        |largest, difference| {
            if difference > largest || difference.is_nan() { difference } else { largest }
        },
    )
}

/// Makes the session of one model; tests give fakes.
pub type Loader<'a> = dyn FnMut(&ModelEntry) -> Result<Box<dyn BatchRunner>, String> + 'a;

/// Probes every model of the manifest that `wanted` accepts: its outputs against the expected values, if it has some, and
/// whether they stay the same to the last bit in a batch, if the manifest says so.
///
/// # Errors
/// The first [`ProbeError`].
pub fn probe_models(
    manifest: &Manifest,
    wanted: impl Fn(&ModelEntry) -> bool,
    loader: &mut Loader<'_>,
) -> Result<Vec<(String, Agreement)>, ProbeError> {
    let mut agreements = Vec::new();
    for entry in manifest.models().iter().filter(|entry| wanted(entry)) {
        let Some(probe) = probe_for(entry)? else { continue };
        let mut session = loader(entry).map_err(|reason| ProbeError::Run { model: entry.name.clone(), reason })?;
        agreements.push((entry.name.clone(), probe_model(entry, &probe, session.as_mut())?));
    }
    Ok(agreements)
}

fn probe_model(entry: &ModelEntry, probe: &Probe, session: &mut dyn BatchRunner) -> Result<Agreement, ProbeError> {
    let picture = input(&entry.input, probe.size);
    let mut other = picture.clone();
    other.data.reverse();
    let mut run = |inputs: &[Tensor]| {
        let outputs =
            session.run_batch(inputs).and_then(|mut outputs| outputs.pop().ok_or_else(|| "no outputs".into()));
        outputs.map_err(|reason| ProbeError::Run { model: entry.name.clone(), reason })
    };
    let alone = run(std::slice::from_ref(&picture))?;
    let agreement = compare(&entry.name, probe, &alone)?;
    if entry.batch_exact && run(&[other, picture])? != alone {
        return Err(ProbeError::BatchDependent { model: entry.name.clone() });
    }
    Ok(agreement)
}

/// Loads models with the ONNX Runtime of the pack, for the CPU with one thread. The library's hash must have been checked: it
/// is loaded into the process.
///
/// # Errors
/// If the library cannot be loaded or is another version.
pub fn loader(manifest: &Manifest, pack_dir: &Path) -> Result<Box<Loader<'static>>, LoadError> {
    let runtime = Runtime::load(&manifest.runtime_path(pack_dir), &manifest.runtime().version)?;
    let pack_dir = pack_dir.to_owned();
    Ok(Box::new(move |entry| {
        let path = entry.path_in(&pack_dir);
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
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
        let mut runners = OnnxRunner::load(&runtime, &source, 1).map_err(|error| error.to_string())?;
        let runner = runners.pop().ok_or("no session was made")?;
        Ok(Box::new(runner) as Box<dyn BatchRunner>)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::manifest::Role;

    fn probe() -> Probe {
        let expected = ExpectedOutput {
            name: "y".into(),
            count: 5,
            mean: 3.0,
            minimum: 1.0,
            maximum: 5.0,
            samples: vec![1.0, 3.0, 5.0],
            tolerance: 0.01,
        };
        Probe { sha256: String::new(), computed_by: String::new(), size: [2, 2], outputs: vec![expected] }
    }

    fn outputs(data: &[f32]) -> Outputs {
        vec![("y".into(), Tensor { shape: vec![data.len()], data: data.to_vec() })]
    }

    #[test]
    fn agreement_within_the_tolerance_and_refusal_beyond() {
        let found = compare("m", &probe(), &outputs(&[1.0, 2.0, 3.005, 4.0, 5.0])).unwrap();
        assert!((found.difference - 0.005).abs() < 1e-5 && (found.share_of_tolerance - 0.5).abs() < 1e-3);
        let wrong: [&[f32]; 4] =
            [&[1.0, 2.0, 3.1, 4.0, 5.0], &[1.0, 2.9, 3.0, 4.0, 5.0], &[1.0, 9.0, 3.0, 4.0, 5.0], &[f32::NAN; 5]];
        for data in wrong {
            assert!(matches!(compare("m", &probe(), &outputs(data)), Err(ProbeError::Differs { .. })), "{data:?}");
        }
        assert!(matches!(compare("m", &probe(), &outputs(&[1.0])), Err(ProbeError::Run { .. })));
        assert!(matches!(compare("m", &probe(), &Vec::new()), Err(ProbeError::Run { .. })));
    }

    /// Gives the mean of the input, and adds the size of the batch times `leak`.
    struct Fake {
        leak: f32,
    }

    impl BatchRunner for Fake {
        fn run_batch(&mut self, inputs: &[Tensor]) -> Result<Vec<Outputs>, String> {
            let mean = |input: &Tensor| input.data.iter().sum::<f32>() / input.data.len() as f32;
            let value = |input| mean(input) + self.leak * (inputs.len() - 1) as f32;
            Ok(inputs
                .iter()
                .map(|input| vec![("y".into(), Tensor { shape: vec![1], data: vec![value(input)] })])
                .collect())
        }
    }

    #[test]
    fn outputs_that_depend_on_the_batch_are_noticed() {
        let manifest = Manifest::shipped().unwrap();
        let mut entry = manifest.entry(Role::FaceDetector).unwrap().clone();
        assert!(entry.batch_exact);
        let mean = input(&entry.input, [8, 8]).data.iter().sum::<f32>() / 192.0;
        let mut probe = probe();
        probe.size = [8, 8];
        probe.outputs[0] = ExpectedOutput {
            count: 1,
            mean: f64::from(mean),
            minimum: mean,
            maximum: mean,
            samples: vec![mean],
            ..probe.outputs[0].clone()
        };
        assert!(probe_model(&entry, &probe, &mut Fake { leak: 0.0 }).is_ok());
        let error = probe_model(&entry, &probe, &mut Fake { leak: 1e-3 }).unwrap_err();
        assert!(matches!(error, ProbeError::BatchDependent { .. }));
        entry.batch_exact = false;
        assert!(probe_model(&entry, &probe, &mut Fake { leak: 1e-3 }).is_ok(), "nothing is promised then");
    }

    #[test]
    fn the_picture_is_the_one_that_the_reference_scripts_make() {
        // Computed by models/reference/probe_picture.py.
        let found: Vec<u8> =
            [(0, 0, 0), (1, 0, 0), (0, 1, 2), (17, 40, 1), (639, 639, 2)].map(|(x, y, c)| picture(x, y, c)).into();
        assert_eq!(found, PICTURE_VALUES);
    }

    const PICTURE_VALUES: [u8; 5] = [30, 1, 30, 130, 190];

    #[test]
    fn both_layouts_hold_the_same_picture() {
        let manifest = Manifest::shipped().unwrap();
        let mut spec = manifest.entry(Role::AgeA).unwrap().input.clone();
        let planes = input(&spec, [5, 4]);
        spec.layout = Layout::Nhwc;
        let pixels = input(&spec, [5, 4]);
        assert_eq!((planes.shape, pixels.shape), (vec![3, 4, 5], vec![4, 5, 3]));
        for (c, y, x) in [(0, 0, 0), (1, 2, 3), (2, 3, 4)] {
            assert_eq!(planes.data[(c * 4 + y) * 5 + x], pixels.data[(y * 5 + x) * 3 + c]);
        }
        assert_eq!(planes.data[0], (f32::from(picture(0, 0, 0)) - 122.782) * 0.003_906_25);
    }

    #[test]
    fn every_shipped_model_has_expected_values() {
        for entry in Manifest::shipped().unwrap().models() {
            let probe = probe_for(entry).unwrap().unwrap_or_else(|| panic!("no probe for {}", entry.name));
            let names: Vec<&str> = probe.outputs.iter().map(|output| output.name.as_str()).collect();
            assert_eq!(names, entry.outputs, "{}", entry.name);
            assert!(probe.outputs.iter().all(|output| output.count > 0 && output.tolerance > 0.0), "{}", entry.name);
        }
    }
}
