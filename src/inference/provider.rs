//! Where models run: the device asked for, and the ONNX Runtime execution provider that serves it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The operator's wish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The processor, always.
    #[default]
    Cpu,
    /// A GPU if one can be used, else the processor; what was chosen stands in status and journal.
    Preferred,
    /// A GPU, or the daemon does not start.
    Required,
}

impl Device {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Preferred => "preferred",
            Self::Required => "required",
        }
    }
}

/// What runs models on a GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuProvider {
    /// Each operator by itself.
    #[default]
    Cuda,
    /// Whole graphs compiled for the GPU, which takes minutes at the first start; what it does not know runs by CUDA.
    Tensorrt,
}

/// What numbers a GPU calculates with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits, as on the processor, which the calibrations were measured with.
    #[default]
    Full,
    /// 16 bits where TensorRT finds it faster. Scores differ: measure with `vouch evaluate` before it decides anything.
    Half,
}

/// How a GPU is to be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuSettings {
    pub provider: GpuProvider,
    pub precision: Precision,
    /// Folder of the libraries.
    pub folder: PathBuf,
}

/// The execution provider in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda,
    TensorRt(Precision),
}

impl From<&GpuSettings> for Provider {
    fn from(settings: &GpuSettings) -> Self {
        match settings.provider {
            GpuProvider::Cuda => Self::Cuda,
            GpuProvider::Tensorrt => Self::TensorRt(settings.precision),
        }
    }
}

impl Provider {
    /// ONNX Runtime's own name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::TensorRt(_) => "TensorrtExecutionProvider",
        }
    }
}
