//! Where models run: the device asked for, and the ONNX Runtime execution provider that serves it.

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

/// The execution provider in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda,
}

impl Provider {
    /// ONNX Runtime's own name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
        }
    }
}
