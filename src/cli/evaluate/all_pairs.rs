//! Comparisons of every picture with every picture of another person, by the models of the pack in this process.
//!
//! For `vouch evaluate face-match --all-pairs` and `vouch calibrate --all-pairs`: a few thousand labelled pairs say nothing about an FMR
//! below 1e-3, millions of comparisons do. They need the identity vectors, which the daemon never gives away, so the same engine as the
//! daemon's runs here and nothing of it is kept. That it is the same engine is checked: the labelled pairs must score here as they did there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::connect::{Failure, read_picture};
use super::engine::{InProcess, in_parallel};
use crate::calibration::impostors::{ImpostorScores, Template};
use crate::calibration::{Fusion, LoadedCalibration, find_calibration_dir};
use crate::checks::FaceEvidence as _;
use crate::error::Error;
use crate::evaluation::calibrate::Sample;
use crate::evaluation::data_set::DataSet;
use crate::evaluation::scores::{Scored, Scores, Truth};
use crate::face::embed::{Embedding, EmbeddingKind};

/// Where the models and the calibration are that the daemon runs with.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// With --all-pairs: the model pack [default: where the daemon looks for it]
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// With --all-pairs: the daemon's calibrations [default: where the daemon looks for them]
    #[arg(long, value_name = "DIR")]
    calibration: Option<PathBuf>,
}

/// Scores of the same picture in two processes may differ by no more than this.
const SAME_SCORE: f64 = 1e-6;

/// The identity vectors of every picture of a data set.
pub struct Vectors {
    /// By picture: the person's number, and the vectors by kind.
    pictures: BTreeMap<PathBuf, (u32, BTreeMap<&'static str, Embedding>)>,
}

/// The impostor scores of a data set with the fusion that the daemon uses.
///
/// # Errors
/// As [`vectors`]; persons that are not known; a calibration that is not the daemon's.
pub fn scores(set: &DataSet, scores: &Scores, args: &EngineArgs) -> Result<ImpostorScores, Failure> {
    let fusion = daemons_fusion(scores, args)?;
    let vectors = vectors(set, args.pack.as_deref())?;
    vectors.agree_with(set, scores, &fusion)?;
    vectors.impostors(&fusion)
}

/// The fusion that the daemon's scores were made with.
fn daemons_fusion(scores: &Scores, args: &EngineArgs) -> Result<Fusion, Failure> {
    let sha256 = &scores.header.daemon.calibration_sha256;
    if sha256.is_empty() {
        return Ok(plain());
    }
    let dir =
        find_calibration_dir(args.calibration.as_deref()).map_err(|error| Failure::BadInput(error.to_string()))?;
    let path = dir.join("face_match.toml");
    let loaded = LoadedCalibration::load(&path).map_err(|error| Failure::BadInput(error.to_string()))?;
    if loaded.sha256 != *sha256 {
        let reason =
            format!("{} is not the calibration of the daemon; name its folder with --calibration", path.display());
        return Err(Failure::BadInput(reason));
    }
    Ok(loaded.calibration.fusion.unwrap_or_else(plain))
}

/// The score of a calibration that fuses nothing, and of none.
fn plain() -> Fusion {
    let measurement = EmbeddingKind::A.measurement().to_owned();
    Fusion { terms: vec![crate::calibration::fusion::Term { measurement, weight: 1.0 }] }
}

/// Embeds every picture of the data set.
///
/// # Errors
/// A pack that cannot be loaded, a picture that cannot be read, persons that are not known.
pub fn vectors(set: &DataSet, pack: Option<&Path>) -> Result<Vectors, Failure> {
    let mut persons: BTreeMap<&Path, u32> = BTreeMap::new();
    for case in &set.cases {
        let Truth::Pair { subjects: Some(subjects), .. } = &case.trial.truth else {
            let reason =
                "--all-pairs needs to know the persons: columns subject_a and subject_b, or a folder for each person";
            return Err(Failure::BadInput(reason.into()));
        };
        persons.extend(case.media.iter().map(PathBuf::as_path).zip(*subjects));
    }
    let engine = InProcess::load(pack)?;
    let files: Vec<&Path> = persons.keys().copied().collect();
    let embedded = in_parallel(&files, |file| {
        let picture = engine.picture(read_picture(file)?);
        let vector =
            |kind: EmbeddingKind| Ok(picture.embedding(kind)?.map(|vector| (kind.measurement(), vector.clone())));
        let vectors: Result<Vec<_>, Error> = EmbeddingKind::ALL.into_iter().map(vector).collect();
        let vectors = vectors.map_err(|error| Failure::BadInput(format!("{}: {error}", file.display())))?;
        Ok::<_, Failure>(vectors.into_iter().flatten().collect::<BTreeMap<_, _>>())
    })?;
    let pictures = files
        .into_iter()
        .zip(embedded)
        .filter(|(_, vectors)| !vectors.is_empty())
        .map(|(file, vectors)| (file.to_owned(), (persons[file], vectors)))
        .collect();
    Ok(Vectors { pictures })
}

impl Vectors {
    /// Makes sure that the labelled pairs score here as they did in the daemon.
    ///
    /// # Errors
    /// [`Failure::BadInput`] if one does not.
    pub fn agree_with(&self, set: &DataSet, scores: &Scores, fusion: &Fusion) -> Result<(), Failure> {
        self.agree(set, scores, |scored, cosine| {
            let here = fusion.apply(cosine)?;
            Some((here - scored.answer.score?).abs())
        })
    }

    /// As [`agree_with`](Self::agree_with), measurement by measurement.
    ///
    /// # Errors
    /// [`Failure::BadInput`] if one does not.
    pub fn agree_with_measurements(&self, set: &DataSet, scores: &Scores) -> Result<(), Failure> {
        self.agree(set, scores, |scored, cosine| {
            let told = scored.answer.measurements.iter();
            told.filter_map(|(name, value)| Some((cosine(name)? - value).abs())).reduce(f64::max)
        })
    }

    /// `difference` gets the similarity of the pair's pictures by kind.
    fn agree(
        &self,
        set: &DataSet,
        scores: &Scores,
        difference: impl Fn(&Scored, &dyn Fn(&str) -> Option<f64>) -> Option<f64>,
    ) -> Result<(), Failure> {
        let mut largest = 0f64;
        for scored in &scores.scored {
            let media = set.cases.get(scored.trial.index).map(|case| case.media.as_slice());
            let Some([a, b]) = media else { continue };
            if let (Some((_, a)), Some((_, b))) = (self.pictures.get(a), self.pictures.get(b))
                && let Some(difference) = difference(scored, &|name| Some(a.get(name)?.cosine(b.get(name)?)))
            {
                largest = largest.max(difference);
            }
        }
        if largest > SAME_SCORE {
            return Err(Failure::BadInput(format!(
                "scores in this process differ from the daemon's by up to {largest:.1e}: not the same models or not the same version"
            )));
        }
        Ok(())
    }

    /// Compares all pictures of different persons by a fusion: its weighted mean of cosines is the cosine of one vector for each picture, put
    /// together of its parts scaled by the roots of the weights.
    ///
    /// # Errors
    /// [`Failure::BadInput`] if there are fewer than two persons.
    pub fn impostors(&self, fusion: &Fusion) -> Result<ImpostorScores, Failure> {
        let template = |(person, vectors): &(u32, BTreeMap<&'static str, Embedding>)| {
            let mut vector = Vec::new();
            for term in &fusion.terms {
                let root = term.weight.sqrt() as f32;
                let part = vectors.get(term.measurement.as_str())?.values_for_calibration();
                vector.extend(part.iter().map(|value| value * root));
            }
            Some(Template { identity: *person, vector })
        };
        let templates: Vec<Template> = self.pictures.values().filter_map(template).collect();
        ImpostorScores::of_all_pairs(&templates).map_err(|error| Failure::BadInput(error.to_string()))
    }

    /// The similarities of about `count` pairs of different persons, evenly spread over all of them, by kind in the order of `kinds`; with
    /// the numbers of the two persons.
    pub fn some_impostors(&self, kinds: &[&str], count: usize) -> Sample {
        let pictures: Vec<_> = self.pictures.values().collect();
        let all = pictures.len() * pictures.len().saturating_sub(1) / 2;
        // A step that shares no factor with the number of pairs in practice: it walks through all rows.
        let step = (all / count.max(1)).max(1) | 1;
        let (mut comparisons, mut passed) = (Vec::new(), 0usize);
        for (index, (person, vectors)) in pictures.iter().enumerate() {
            let first = (step - passed % step) % step;
            for (other, other_vectors) in pictures[index + 1..].iter().skip(first).step_by(step) {
                let cosine = |name: &&str| Some(vectors.get(*name)?.cosine(other_vectors.get(*name)?));
                let values: Option<Vec<f64>> = kinds.iter().map(cosine).collect();
                if person != other
                    && let Some(values) = values
                {
                    comparisons.push(([*person, *other], values));
                }
            }
            passed += pictures.len() - index - 1;
        }
        Sample { comparisons, weight: step as f64 }
    }
}
