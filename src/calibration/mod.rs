//! From a model's raw score to measured error rates, and the thresholds that go with them.
//!
//! One TOML file per check, `calibration/<check>.toml`, made by measuring (`vouch calibrate` with [`fit`]) and never written
//! by hand. The daemon loads the directory at start ([`CalibrationSet::load`]); `checks/` ask [`Calibration::operating_point`],
//! [`Calibration::decide`] and [`Calibration::calibrate`]. A file is bound to the hashes of the models that it was measured
//! with; [`Calibration::matches_models`] tells when others are loaded, and the check then answers INCONCLUSIVE.
//!
//! Rates carry their 95 % interval and their number of errors and trials, after ISO/IEC 19795-1 (FMR, FNMR) and ISO/IEC
//! 30107-3 (APCER, BPCER). Nothing is extrapolated: a score beyond the last measured point gets that point's bound, flagged.
//!
//! Left out: the measuring itself and any policy (which operating point suits whom).
//!
//! Reading order: this file (format, load, apply), [`intervals`] (confidence), [`fit`] (scores to a file), [`impostors`] (all
//! pairs of a face data set), [`age`] (several estimators to one), [`fusion`] (several measurements to one score), `validate` and `write` (the two ends of the file).

pub mod age;
pub mod fit;
pub mod fusion;
pub mod impostors;
pub mod intervals;
mod validate;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use age::{AgeBand, AgeModel, Estimator};
pub use fusion::Fusion;
pub use intervals::{IntervalMethod, Rate, Support};
pub use validate::Problem;

/// What was measured about one check: the whole of one calibration file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Name of the check, such as `face_match`; also the file's name without `.toml`.
    pub check: String,
    /// What the score is, such as `cosine_similarity`; the thresholds are in its units.
    pub score_kind: String,
    /// Which side of a threshold is accepted.
    pub direction: Direction,
    /// Software that took the measurement, such as `vouch 0.1.0`.
    pub software: String,
    /// What happened to a picture before the model saw it. A change there makes the file out of date just as a new model does.
    pub preprocessing: String,
    /// The operating point used when a request names none.
    pub default_operating_point: String,
    /// Role to SHA-256 (lower-case hexadecimal) of every model that the scores depend on.
    pub models: BTreeMap<String, String>,
    /// Where the figures come from.
    pub data: Data,
    /// The named thresholds.
    #[serde(rename = "operating_point")]
    pub operating_points: Vec<OperatingPoint>,
    /// Score to error rate; absent for checks whose score is no similarity or probability (age).
    #[serde(default)]
    pub curve: Option<Curve>,
    /// How several measurements become the score; absent where the check has one of its own.
    #[serde(default)]
    pub fusion: Option<Fusion>,
    /// Estimators to age; `age_estimation` only.
    #[serde(default)]
    pub age: Option<AgeModel>,
}

/// Which scores a threshold accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Scores at or above the threshold are accepted.
    HigherAccepts,
    /// Scores at or below the threshold are accepted.
    LowerAccepts,
}

/// The data set behind the figures.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Its name, with the part used, such as `LFW (deep-funneled), View 2, folds 1-5`.
    pub set: String,
    /// What it shows, how it differs from the product's use, and what that means for the figures.
    pub description: String,
    /// Where it came from and under which licence or restriction.
    pub source: String,
    /// Day of the measurement, `YYYY-MM-DD`.
    pub measured_on: String,
    /// Different persons in it.
    pub subjects: u64,
    /// Kind of trial (`genuine`, `impostor`, `live`, `attack_print`, `images`, ...) to number of trials that gave a score.
    pub trials: BTreeMap<String, u64>,
    /// Reason (a warning or error code) to number of trials that gave no score. They are in none of the rates.
    #[serde(default)]
    pub failures_to_process: BTreeMap<String, u64>,
}

/// A named threshold with the rates measured at it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatingPoint {
    /// Stable name, such as `fmr_1e-3`.
    pub name: String,
    /// Scores on its accepting side, itself included, are accepted.
    pub threshold: f64,
    /// A more lenient threshold: scores between the two go to a person (REVIEW) instead of being rejected.
    #[serde(default)]
    pub review_threshold: Option<f64>,
    /// Rates at `threshold` by ISO name in lower case (`fmr`, `fnmr`, `apcer`, `apcer_<species>`, `bpcer`; for age `fpr`,
    /// `fnr`, and both with `_<from>_to_<to>` behind), see [`validate`](Calibration::problems) for the list.
    #[serde(default)]
    pub rates: BTreeMap<String, Rate>,
    /// Limits on further measurements of the check, by the measurement's name; for checks that judge more than one number.
    #[serde(default)]
    pub limits: BTreeMap<String, f64>,
    /// What a reader must know of this point, such as that too few errors stand behind it.
    #[serde(default)]
    pub note: Option<String>,
}

/// Score to error rate, measured point by point.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    pub kind: CurveKind,
    /// `[score, rate, low_95, high_95]`, ascending by score. The rate is the share of trials that should be rejected and
    /// score on the accepting side of, or exactly at, that score.
    pub points: Vec<[f64; 4]>,
}

/// Which rate a curve tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CurveKind {
    /// False match rate: share of different-person comparisons that score at least as well.
    Fmr,
    /// Attack presentation classification error rate, of the worst attack species measured.
    Apcer,
}

impl CurveKind {
    /// The name in the API and in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fmr => "fmr",
            Self::Apcer => "apcer",
        }
    }
}

/// A score in terms of what was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibratedValue {
    /// `fmr`, `apcer` or `age_years`.
    pub kind: &'static str,
    /// Rate in 0..1, or years.
    pub value: f64,
    /// Lower end of the 95 % interval, in the unit of `value`.
    pub low_95: f64,
    /// Upper end of the 95 % interval.
    pub high_95: f64,
    /// True if the score lies beyond the measured points: `value` is then the bound that the nearest point gives and the
    /// interval is open (0 or 1) on the far side.
    pub beyond_support: bool,
}

/// What a threshold says about a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Accept,
    /// Between `review_threshold` and `threshold`.
    Review,
    Reject,
}

/// The loaded models are not those that the calibration was measured with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the calibration of {check} was measured with another model for {role}: {expected}, but {} is loaded", found.as_deref().unwrap_or("none"))]
pub struct Mismatch {
    pub check: String,
    pub role: String,
    /// SHA-256 that the calibration is bound to.
    pub expected: String,
    /// SHA-256 of the model loaded for that role, if one is.
    pub found: Option<String>,
}

/// Why a calibration could not be loaded. Each variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Not TOML, an unknown or missing key, or a value of the wrong type; the message shows the line.
    #[error("{}: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    /// Well-formed, but what it says cannot be so.
    #[error("{}: {}", path.display(), list(problems))]
    Invalid { path: PathBuf, problems: Vec<Problem> },
    #[error("no calibration directory found; looked at {}", list(tried.iter().map(|path| path.display())))]
    NoDirectory { tried: Vec<PathBuf> },
}

fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join("; ")
}

impl Calibration {
    /// Reads and validates one file.
    ///
    /// # Errors
    /// [`LoadError`] with the path, and every problem found in a well-formed file.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Ok(LoadedCalibration::load(path)?.calibration)
    }

    /// Reads and validates the text of a file. `path` is for the messages; its stem must be the name of the check.
    ///
    /// # Errors
    /// [`LoadError::Syntax`] or [`LoadError::Invalid`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, LoadError> {
        let calibration: Self = toml::from_str(text)
            .map_err(|error| LoadError::Syntax { path: path.to_owned(), message: error.to_string() })?;
        let mut problems = calibration.problems();
        if path.file_stem().and_then(|stem| stem.to_str()) != Some(&calibration.check) {
            problems.push(Problem::new("check", format!("is {:?}, which is not the file's name", calibration.check)));
        }
        if problems.is_empty() { Ok(calibration) } else { Err(LoadError::Invalid { path: path.to_owned(), problems }) }
    }

    /// The operating point of that name; the default one for an empty name. `None` if there is none of that name.
    pub fn operating_point(&self, name: &str) -> Option<&OperatingPoint> {
        let name = if name.is_empty() { &self.default_operating_point } else { name };
        self.operating_points.iter().find(|point| point.name == name)
    }

    /// On which side of the operating point's thresholds the score lies. A threshold itself belongs to its accepting side;
    /// a score that is not a number is rejected.
    pub fn decide(&self, point: &OperatingPoint, score: f64) -> Decision {
        if self.accepts(score, point.threshold) {
            Decision::Accept
        } else if point.review_threshold.is_some_and(|threshold| self.accepts(score, threshold)) {
            Decision::Review
        } else {
            Decision::Reject
        }
    }

    fn accepts(&self, score: f64, threshold: f64) -> bool {
        match self.direction {
            Direction::HigherAccepts => score >= threshold,
            Direction::LowerAccepts => score <= threshold,
        }
    }

    /// Maps a score to the curve's error rate; between two measured points the logarithm of the rate is linear in the score.
    ///
    /// Beyond the last point on the accepting side the answer is that point's rate as an upper bound: the interval runs from
    /// 0 to the point's own upper end, and `beyond_support` is set. Beyond the other end it is a lower bound with 1 as upper
    /// end. `None` if the file has no curve or the score is not a number.
    pub fn calibrate(&self, score: f64) -> Option<CalibratedValue> {
        let curve = self.curve.as_ref()?;
        if score.is_nan() {
            return None;
        }
        let kind = curve.kind.as_str();
        let (first, last) = (curve.points.first()?, curve.points.last()?);
        // The end with the lowest rate is the accepting one.
        let (strict, lenient) = match self.direction {
            Direction::HigherAccepts => (last, first),
            Direction::LowerAccepts => (first, last),
        };
        if score < first[0] || score > last[0] {
            return Some(if self.accepts(score, strict[0]) {
                CalibratedValue { kind, value: strict[1], low_95: 0.0, high_95: strict[3], beyond_support: true }
            } else {
                CalibratedValue { kind, value: lenient[1], low_95: lenient[2], high_95: 1.0, beyond_support: true }
            });
        }
        let right = curve.points.partition_point(|point| point[0] < score);
        let (a, b) = (&curve.points[right.saturating_sub(1)], &curve.points[right]);
        let t = if b[0] > a[0] { (score - a[0]) / (b[0] - a[0]) } else { 1.0 };
        let at = |column: usize| interpolate_rate(a[column], b[column], t);
        Some(CalibratedValue { kind, value: at(1), low_95: at(2), high_95: at(3), beyond_support: false })
    }

    /// Compares the models that the file is bound to with those loaded (role to SHA-256). Further loaded roles do not matter.
    ///
    /// # Errors
    /// [`Mismatch`] with the first role that differs or is missing.
    pub fn matches_models(&self, loaded: &BTreeMap<String, String>) -> Result<(), Mismatch> {
        for (role, expected) in &self.models {
            let found = loaded.get(role);
            if found != Some(expected) {
                return Err(Mismatch {
                    check: self.check.clone(),
                    role: role.clone(),
                    expected: expected.clone(),
                    found: found.cloned(),
                });
            }
        }
        Ok(())
    }
}

/// Between two rates, linear in the logarithm; linear in the rate where one of them is 0.
fn interpolate_rate(a: f64, b: f64, t: f64) -> f64 {
    if a > 0.0 && b > 0.0 { (a.ln() + (b.ln() - a.ln()) * t).exp() } else { a + (b - a) * t }
}

/// A calibration and the file that it came from.
#[derive(Debug, Clone)]
pub struct LoadedCalibration {
    pub calibration: Calibration,
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, lower-case hexadecimal; every result that uses the file names it.
    pub sha256: String,
}

impl LoadedCalibration {
    /// Reads, hashes and validates one file.
    ///
    /// # Errors
    /// As [`Calibration::load`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let bytes = fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = String::from_utf8(bytes)
            .map_err(|error| LoadError::Syntax { path: path.to_owned(), message: error.to_string() })?;
        Ok(Self { calibration: Calibration::parse(&text, path)?, path: path.to_owned(), sha256 })
    }
}

/// The calibrations of a directory, by check.
#[derive(Debug, Clone, Default)]
pub struct CalibrationSet {
    by_check: BTreeMap<String, LoadedCalibration>,
}

impl CalibrationSet {
    /// Loads every `*.toml` of a directory; other files are passed over.
    ///
    /// # Errors
    /// [`LoadError`] of the first file, by name, that cannot be used.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        let read_error = |source| LoadError::Read { path: dir.to_owned(), source };
        let mut paths = fs::read_dir(dir)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>())
            .map_err(read_error)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        let mut by_check = BTreeMap::new();
        for path in paths {
            // Two files cannot claim one check: the name of the check is the name of the file.
            let loaded = LoadedCalibration::load(&path)?;
            by_check.insert(loaded.calibration.check.clone(), loaded);
        }
        Ok(Self { by_check })
    }

    /// The calibration of a check, if there is one.
    pub fn get(&self, check: &str) -> Option<&LoadedCalibration> {
        self.by_check.get(check)
    }

    /// All of them, by the name of the check.
    pub fn iter(&self) -> impl Iterator<Item = &LoadedCalibration> {
        self.by_check.values()
    }
}

/// Finds the calibration directory: the configured one; else `calibration/` of a checkout around the executable or the
/// current directory; else `/etc/vouch/calibration`; else `/usr/share/vouch/calibration`.
///
/// # Errors
/// [`LoadError::NoDirectory`] with the places tried. A configured directory is never replaced by another one.
pub fn find_calibration_dir(explicit: Option<&Path>) -> Result<PathBuf, LoadError> {
    let starts: Vec<PathBuf> = [env::current_exe(), env::current_dir()].into_iter().flatten().collect();
    search(explicit, &starts, &["/etc/vouch/calibration", "/usr/share/vouch/calibration"].map(PathBuf::from))
}

/// A directory is taken for a calibration directory of a checkout if it holds this file.
const LANDMARK: &str = "calibration/face_match.toml";

fn search(explicit: Option<&Path>, starts: &[PathBuf], installed: &[PathBuf]) -> Result<PathBuf, LoadError> {
    if let Some(dir) = explicit {
        return if dir.is_dir() {
            Ok(dir.to_owned())
        } else {
            Err(LoadError::NoDirectory { tried: vec![dir.to_owned()] })
        };
    }
    starts
        .iter()
        .flat_map(|start| start.ancestors())
        .find(|dir| dir.join(LANDMARK).is_file())
        .map(|dir| dir.join("calibration"))
        .or_else(|| installed.iter().find(|dir| dir.is_dir()).cloned())
        .ok_or_else(|| LoadError::NoDirectory {
            tried: starts.iter().map(|start| start.join("calibration")).chain(installed.iter().cloned()).collect(),
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small, valid file as the other tests want it.
    pub(crate) fn sample() -> Calibration {
        let rate = |errors, trials| Rate::wilson(errors, trials);
        let point = |name: &str, threshold, fmr, fnmr| OperatingPoint {
            name: name.to_owned(),
            threshold,
            review_threshold: None,
            rates: BTreeMap::from([("fmr".to_owned(), rate(fmr, 10_000)), ("fnmr".to_owned(), rate(fnmr, 1_500))]),
            limits: BTreeMap::new(),
            note: None,
        };
        Calibration {
            check: "face_match".to_owned(),
            score_kind: "cosine_similarity".to_owned(),
            direction: Direction::HigherAccepts,
            software: "vouch 0.1.0".to_owned(),
            preprocessing: "5-point similarity, 112 px".to_owned(),
            default_operating_point: "fmr_1e-3".to_owned(),
            models: BTreeMap::from([("face_embedder".to_owned(), "ab".repeat(32))]),
            data: Data {
                set: "generated".to_owned(),
                description: "numbers for a test".to_owned(),
                source: "none".to_owned(),
                measured_on: "2026-11-23".to_owned(),
                subjects: 10,
                trials: BTreeMap::from([("genuine".to_owned(), 1_500), ("impostor".to_owned(), 10_000)]),
                failures_to_process: BTreeMap::new(),
            },
            operating_points: vec![point("fmr_1e-2", 0.25, 100, 10), point("fmr_1e-3", 0.36, 10, 20)],
            curve: Some(Curve {
                kind: CurveKind::Fmr,
                points: vec![
                    [-0.2, 1.0, 0.9997, 1.0],
                    [0.2, 0.01, 0.00824, 0.0121],
                    [0.4, 0.0001, 0.00001765, 0.000566],
                ],
            }),
            fusion: None,
            age: None,
        }
    }

    #[test]
    fn calibrate_is_linear_in_the_logarithm_between_points() {
        let file = sample();
        let middle = file.calibrate(0.3).unwrap();
        // Half-way between 1e-2 and 1e-4 in the logarithm.
        assert!((middle.value - 1e-3).abs() < 1e-12);
        assert!(!middle.beyond_support && middle.kind == "fmr");
        assert!(middle.low_95 < middle.value && middle.value < middle.high_95);
        assert_eq!(file.calibrate(0.2).unwrap().value, 0.01f64.ln().exp());
        assert_eq!(file.calibrate(-0.2).unwrap().value, 1.0);
    }

    #[test]
    fn calibrate_does_not_extrapolate() {
        let file = sample();
        let high = file.calibrate(0.95).unwrap();
        assert_eq!((high.value, high.low_95, high.high_95, high.beyond_support), (0.0001, 0.0, 0.000566, true));
        let low = file.calibrate(-0.9).unwrap();
        assert_eq!((low.value, low.high_95, low.beyond_support), (1.0, 1.0, true));
        assert_eq!(file.calibrate(f64::NAN), None);
        assert_eq!(Calibration { curve: None, ..file }.calibrate(0.5), None);
    }

    #[test]
    fn a_curve_where_lower_accepts_runs_the_other_way() {
        let mut file = sample();
        file.direction = Direction::LowerAccepts;
        file.curve =
            Some(Curve { kind: CurveKind::Apcer, points: vec![[0.3, 0.001, 0.0002, 0.004], [0.9, 0.1, 0.08, 0.12]] });
        let best = file.calibrate(0.1).unwrap();
        assert_eq!((best.value, best.low_95, best.high_95, best.beyond_support), (0.001, 0.0, 0.004, true));
        let worst = file.calibrate(1.1).unwrap();
        assert_eq!((worst.value, worst.low_95, worst.high_95), (0.1, 0.08, 1.0));
        assert_eq!(file.decide(&file.operating_points[0], 0.25), Decision::Accept);
        assert_eq!(file.decide(&file.operating_points[0], 0.26), Decision::Reject);
    }

    #[test]
    fn decide_knows_the_review_band_and_refuses_nan() {
        let file = sample();
        let point = OperatingPoint { review_threshold: Some(0.25), ..file.operating_points[1].clone() };
        assert_eq!(file.decide(&point, 0.36), Decision::Accept);
        assert_eq!(file.decide(&point, 0.3599), Decision::Review);
        assert_eq!(file.decide(&point, 0.25), Decision::Review);
        assert_eq!(file.decide(&point, 0.2499), Decision::Reject);
        assert_eq!(file.decide(&point, f64::NAN), Decision::Reject);
    }

    #[test]
    fn the_empty_name_is_the_default_point() {
        let file = sample();
        assert_eq!(file.operating_point("").unwrap().name, "fmr_1e-3");
        assert_eq!(file.operating_point("fmr_1e-2").unwrap().threshold, 0.25);
        assert!(file.operating_point("fmr_1e-9").is_none());
    }

    #[test]
    fn another_or_a_missing_model_is_a_mismatch() {
        let file = sample();
        let mut loaded = file.models.clone();
        loaded.insert("age_a".to_owned(), "cd".repeat(32));
        assert_eq!(file.matches_models(&loaded), Ok(()));
        loaded.insert("face_embedder".to_owned(), "cd".repeat(32));
        let other = file.matches_models(&loaded).unwrap_err();
        assert_eq!((other.role.as_str(), other.found.as_deref()), ("face_embedder", Some(&*"cd".repeat(32))));
        assert!(file.matches_models(&BTreeMap::new()).unwrap_err().to_string().contains("none is loaded"));
    }

    #[test]
    fn a_set_loads_every_file_and_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("face_match.toml"), sample().to_toml()).unwrap();
        fs::write(dir.path().join("README.md"), "not a calibration").unwrap();
        let set = CalibrationSet::load(dir.path()).unwrap();
        assert_eq!(set.iter().count(), 1);
        let loaded = set.get("face_match").unwrap();
        // Compared as text, because rates are rounded when they are written.
        assert_eq!(loaded.calibration.to_toml(), sample().to_toml());
        assert_eq!(loaded.sha256.len(), 64);

        fs::rename(dir.path().join("face_match.toml"), dir.path().join("age.toml")).unwrap();
        let error = CalibrationSet::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("age.toml") && error.contains("check: is \"face_match\""), "{error}");
    }

    #[test]
    fn syntax_errors_name_file_and_key() {
        let text = sample().to_toml().replace("score_kind", "skore_kind");
        let error = Calibration::parse(&text, Path::new("/x/face_match.toml")).unwrap_err().to_string();
        assert!(error.contains("/x/face_match.toml") && error.contains("skore_kind"), "{error}");
        let missing = Calibration::load(Path::new("/nonexistent/face_match.toml")).unwrap_err();
        assert!(matches!(missing, LoadError::Read { .. }));
    }

    #[test]
    fn the_directory_is_found_from_below_the_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("checkout");
        let below = root.join("target/debug/vouchd");
        let installed = dir.path().join("etc");
        fs::create_dir_all(&below).unwrap();
        fs::create_dir_all(root.join("calibration")).unwrap();
        fs::create_dir_all(&installed).unwrap();
        // Without the landmark the checkout does not count and the installed directory is taken.
        let find = |explicit| search(explicit, std::slice::from_ref(&below), std::slice::from_ref(&installed));
        assert_eq!(find(None).unwrap(), installed);
        fs::write(root.join(LANDMARK), "").unwrap();
        assert_eq!(find(None).unwrap(), root.join("calibration"));
        assert_eq!(find(Some(&installed)).unwrap(), installed);
        assert!(matches!(find(Some(Path::new("/nonexistent"))), Err(LoadError::NoDirectory { .. })));
        let none = search(None, &[], &[PathBuf::from("/nonexistent/a")]).unwrap_err();
        assert!(none.to_string().contains("/nonexistent/a"));
    }
}
