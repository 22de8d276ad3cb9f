//! How right the daemon is on labelled data, and what can be said from it.
//!
//! `vouch evaluate` (`cli::evaluate`) asks the daemon and calls this; `vouch calibrate` reads the scores that it wrote. Everything here
//! is pure but for reading the data set and reading and writing the scores file: no socket, no clock. Rates are those of ISO/IEC 19795-1 and 30107-3, each
//! with a 95 % interval that knows which trials belong to one person.
//!
//! Reading order: [`data_set`] (labelled files to trials), [`scores`] (trials and answers on disk, so that a run can go on where it
//! stopped), [`statistics`] (intervals over subjects), one file of figures for each question ([`face_match`], [`liveness`], [`age`],
//! [`reading`], [`latency`]), [`calibrate`] (scores to a calibration file), [`groups`] (differential performance), [`report`] (the figures as a page, as text) and [`compare`]
//! (two runs side by side).
//!
//! Left out: any judgement on whether a rate is good enough.

pub mod age;
pub mod calibrate;
pub mod compare;
pub mod data_set;
pub mod face_match;
pub mod groups;
pub mod latency;
pub mod liveness;
pub mod reading;
pub mod report;
pub mod scores;
pub mod statistics;
pub mod summary;
pub mod table;

use serde::{Deserialize, Serialize};

/// What is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Are two pictures of one person? `face_match`.
    FaceMatch,
    /// Is a live person in front of the camera? `passive_liveness`.
    Liveness,
    /// How old is the person? `age_estimation`.
    Age,
    /// Is the machine-readable zone read as printed?
    Mrz,
    /// Are barcodes decoded, and is nothing decoded where there is none?
    Barcode,
    /// Are the fields of documents right?
    Document,
    /// How long does a verification take?
    Latency,
}

impl Question {
    /// The name in files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FaceMatch => "face_match",
            Self::Liveness => "liveness",
            Self::Age => "age",
            Self::Mrz => "mrz",
            Self::Barcode => "barcode",
            Self::Document => "document",
            Self::Latency => "latency",
        }
    }

    /// The check whose calibration decides, if it is one that decides by a score.
    pub fn check(self) -> Option<&'static str> {
        match self {
            Self::FaceMatch => Some("face_match"),
            Self::Liveness => Some("passive_liveness"),
            Self::Age => Some("age_estimation"),
            Self::Mrz | Self::Barcode | Self::Document | Self::Latency => None,
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::FaceMatch => "1:1 face match",
            Self::Liveness => "Passive liveness",
            Self::Age => "Age estimation",
            Self::Mrz => "Machine-readable zones",
            Self::Barcode => "Barcodes",
            Self::Document => "Fields of documents",
            Self::Latency => "Latency",
        }
    }
}

/// Why labelled data or a scores file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// A file that is needed cannot be read.
    #[error("{}", list(.0))]
    Missing(Vec<String>),
    /// What stands in a file cannot be so; each problem names file and line.
    #[error("{}", list(.0))]
    Bad(Vec<String>),
}

/// Problems that are told one by one; of more only the number.
const PROBLEMS_TOLD: usize = 10;

fn list(problems: &[String]) -> String {
    let mut text = problems.iter().take(PROBLEMS_TOLD).cloned().collect::<Vec<_>>().join("\n  ");
    if problems.len() > PROBLEMS_TOLD {
        text += &format!("\n  and {} more", problems.len() - PROBLEMS_TOLD);
    }
    text
}

impl DataError {
    pub(crate) fn bad(problem: impl Into<String>) -> Self {
        Self::Bad(vec![problem.into()])
    }
}
