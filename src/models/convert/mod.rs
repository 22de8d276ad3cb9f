//! Turns the model files that packages carry into plain fp32 ONNX files with a free batch dimension.
//!
//! Called by `models::pull`. Every conversion is a pure function from bytes to bytes and gives the same bytes on every
//! machine, so that the manifest can name the SHA-256 of its result. Whether the result computes what the source computes is
//! the business of `models::probe`. Only the operators that the shipped models use are handled; anything else is refused by
//! name, never skipped.

mod builder;
pub mod ctc;
pub mod dlib;
pub mod fold;
pub mod onnx;
pub mod tfjs;
pub mod tflite;

use super::manifest::Conversion;

/// Why a model file was not converted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConvertError {
    /// The bytes are not what their format demands.
    #[error("malformed model file: {0}")]
    Malformed(String),
    /// The file is sound but uses something that no shipped model uses.
    #[error("not supported by the converter: {0}")]
    Unsupported(String),
}

impl ConvertError {
    fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }
}

/// Converts the files of one source, in the order in which the manifest lists them.
///
/// # Errors
/// [`ConvertError`] if a file is malformed, uses an unknown operator, or a file that the conversion needs is not there.
pub fn convert(conversion: Conversion, files: &[Vec<u8>]) -> Result<Vec<u8>, ConvertError> {
    match (conversion, files) {
        (Conversion::None, [file]) => Ok(file.clone()),
        (Conversion::Fold, [file]) => fold::fold(file, fold::FreeDimensions::Batch),
        (Conversion::FoldFreeSize, [file]) => fold::fold(file, fold::FreeDimensions::BatchAndSize),
        (Conversion::CtcText, [file]) => ctc::convert(file),
        (Conversion::Tflite, [file]) => tflite::convert(file),
        (Conversion::Dlib, [file]) => dlib::convert(file),
        (Conversion::Tfjs, [graph, weights]) => tfjs::convert(graph, weights),
        (conversion, files) => Err(ConvertError::malformed(format!(
            "the conversion {conversion:?} cannot start from {} files",
            files.len()
        ))),
    }
}
