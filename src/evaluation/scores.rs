//! The scores file: every trial of a run and what the daemon answered, one JSON object on each line.
//!
//! Written while a run goes on, so that an interrupted one goes on where it stopped; read by `vouch calibrate`. The first line tells
//! what was asked of which daemon, each further one holds a trial with its answer, in the order in which the answers came. It holds scores, labels, and
//! the subjects' and groups' names of the data set. It holds no picture, no template and no text that was read. Its owner alone may read it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{DataError, Question};

/// Version of the format; files of another one are refused.
pub const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub vouch_scores: u32,
    pub question: Question,
    /// Day on which the run began, `YYYY-MM-DD`.
    #[serde(default)]
    pub date: String,
    pub data: DataDescription,
    pub daemon: DaemonDescription,
    /// What was asked beside the media: the operating point, parameters.
    pub options: BTreeMap<String, String>,
}

/// The data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataDescription {
    pub name: String,
    /// What it shows and how it differs from use; the operator's words.
    pub description: String,
    pub source: String,
    pub trials: usize,
    /// SHA-256 over labels, the files' paths below their common folder, and sizes, in order: two runs over the same data have the same.
    pub sha256: String,
    /// What is to be known of the labels, such as that subjects are not told apart.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// What answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonDescription {
    pub version: String,
    pub runtime: String,
    pub device: String,
    /// Role to SHA-256 of the loaded models that take part in the check.
    pub models: BTreeMap<String, String>,
    /// Of the check's calibration; empty if it has none.
    pub calibration_sha256: String,
    pub default_operating_point: String,
    /// Operating points in use: name, threshold, stated rates.
    pub operating_points: Vec<PointInUse>,
}

/// An operating point of the daemon's calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointInUse {
    pub name: String,
    pub threshold: f64,
    pub rates: BTreeMap<String, f64>,
}

/// One labelled trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Place in the data set, counted from 0.
    pub index: usize,
    pub truth: Truth,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
}

/// What is true of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Truth {
    Pair {
        genuine: bool,
        /// Part of a cross-validation protocol.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fold: Option<u32>,
        /// Numbers of the two persons; absent if they are not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subjects: Option<[u32; 2]>,
    },
    Presentation {
        /// Attack species; absent for a live presentation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        species: Option<String>,
        subject: String,
    },
    Face {
        age: f64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
    },
    /// A picture to be read; what stands on it is compared at once and not kept.
    Document,
    /// A picture without a label.
    Media,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// `PASS`, `FAIL`, `REVIEW`, `INCONCLUSIVE`, `SKIPPED`; empty where the question has no outcome.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measurements: BTreeMap<String, f64>,
    /// Why there is no answer that counts: a warning or an error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading>,
    /// From sending to the whole answer.
    pub latency_ms: f64,
    /// Milliseconds to single results by name, where they were told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages_ms: BTreeMap<String, f64>,
}

/// How far a document was read as printed, in numbers alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Reading {
    /// Whether the picture shows what is looked for.
    pub expected: bool,
    pub found: bool,
    /// Everything as printed.
    pub exact: bool,
    /// The answer calls itself proved: all check digits right.
    pub valid: bool,
    /// The answer itself doubts a field.
    pub doubted: bool,
    pub lines: u32,
    pub lines_exact: u32,
    pub characters: u32,
    /// Edit distance to what is printed.
    pub character_errors: u32,
    /// By name of the field: `right`, `wrong`, `doubted` (wrong, and said to be uncertain), `missing`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// A trial and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    #[serde(flatten)]
    pub trial: Trial,
    pub answer: Answer,
}

impl Scored {
    /// The score of an answer that counts.
    pub fn score(&self) -> Option<f64> {
        self.answer.score.filter(|score| score.is_finite() && self.answer.failure.is_none())
    }
}

/// The scores of a run, complete or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub header: Header,
    /// Ascending by index, each index at most once.
    pub scored: Vec<Scored>,
}

impl Scores {
    /// Reads a file. A last line that was cut, as when the machine went down, is passed over.
    ///
    /// # Errors
    /// [`DataError`] with file and line.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let name = path.display();
        let missing = |error: std::io::Error| DataError::Missing(vec![format!("{name}: {error}")]);
        let mut lines = BufReader::new(File::open(path).map_err(missing)?).split(b'\n').enumerate();
        let not_scores = || DataError::bad(format!("{name}: is not a scores file of `vouch evaluate`"));
        let first = lines.next().ok_or_else(not_scores)?.1.map_err(missing)?;
        let header: Header = serde_json::from_slice(&first).map_err(|_| not_scores())?;
        if header.vouch_scores != FORMAT {
            return Err(DataError::bad(format!("{name}: is of format {}, not {FORMAT}", header.vouch_scores)));
        }
        let mut by_index = BTreeMap::new();
        let mut cut = None;
        for (number, line) in lines {
            let line = line.map_err(missing)?;
            if line.is_empty() {
                continue;
            }
            if let Some(problem) = cut.take() {
                return Err(DataError::bad(problem));
            }
            match serde_json::from_slice::<Scored>(&line) {
                Ok(scored) if scored.trial.index >= header.data.trials => {
                    let reason = format!("{name}:{}: trial {} is beyond the data set", number + 1, scored.trial.index);
                    return Err(DataError::bad(reason));
                }
                Ok(scored) => {
                    if by_index.insert(scored.trial.index, scored).is_some() {
                        return Err(DataError::bad(format!("{name}:{}: a trial stands twice", number + 1)));
                    }
                }
                Err(error) => cut = Some(format!("{name}:{}: {error}", number + 1)),
            }
        }
        Ok(Self { header, scored: by_index.into_values().collect() })
    }

    pub fn is_complete(&self) -> bool {
        self.scored.len() == self.header.data.trials
    }
}

/// A scores file that grows.
#[derive(Debug)]
pub struct Log {
    file: File,
}

impl Log {
    /// Begins a file with its header; refuses one that exists.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin(path: &Path, header: &Header) -> std::io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut log = Self { file };
        log.line(header)?;
        Ok(log)
    }

    /// Goes on with a file of which these scores were read, without what may have been cut at its end.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn resume(path: &Path, scores: &Scores) -> std::io::Result<Self> {
        // Written anew beside and moved in place, so that a cut line is gone and nothing is lost if this stops half-way.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let beside = tempfile::NamedTempFile::new_in(folder)?;
        let mut log = Self { file: beside.reopen()? };
        log.line(&scores.header)?;
        for scored in &scores.scored {
            log.line(scored)?;
        }
        beside.persist(path).map_err(|error| error.error)?;
        Ok(log)
    }

    /// Adds an answer.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add(&mut self, scored: &Scored) -> std::io::Result<()> {
        self.line(scored)
    }

    fn line(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        // One write for one line: whoever reads meanwhile sees whole lines.
        self.file.write_all(&line)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub fn header(question: Question, trials: usize) -> Header {
        Header {
            vouch_scores: FORMAT,
            question,
            date: "2026-11-26".into(),
            data: DataDescription {
                name: "drawn".into(),
                description: "drawn from known distributions".into(),
                source: "this test".into(),
                trials,
                sha256: "00".repeat(32),
                remarks: Vec::new(),
            },
            daemon: DaemonDescription {
                version: "0.1.0".into(),
                runtime: "1.32.0".into(),
                device: "CPUExecutionProvider".into(),
                models: BTreeMap::from([("face_detector".into(), "ab".repeat(32))]),
                calibration_sha256: String::new(),
                default_operating_point: String::new(),
                operating_points: Vec::new(),
            },
            options: BTreeMap::new(),
        }
    }

    pub fn scored(index: usize, truth: Truth, score: f64) -> Scored {
        Scored {
            trial: Trial { index, truth, groups: BTreeMap::new() },
            answer: Answer { score: Some(score), latency_ms: 1.0, ..Answer::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Scored> {
        let pair = |genuine| Truth::Pair { genuine, fold: Some(1), subjects: Some([3, 4]) };
        // A value whose shortest decimal form must come back to the last bit.
        vec![testing::scored(1, pair(true), 0.1 + 0.2), testing::scored(0, pair(false), -1.0 / 3.0)]
    }

    fn write(path: &Path) -> Header {
        let header = testing::header(Question::FaceMatch, 3);
        let mut log = Log::begin(path, &header).unwrap();
        sample().iter().for_each(|scored| log.add(scored).unwrap());
        header
    }

    #[test]
    fn what_is_written_comes_back_to_the_last_bit_in_the_order_of_the_trials() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        let header = write(&path);
        let read = Scores::read(&path).unwrap();
        let mut expected = sample();
        expected.reverse();
        assert_eq!((&read.header, &read.scored, read.is_complete()), (&header, &expected, false));
        assert!(Log::begin(&path, &header).is_err(), "a file that exists was written over");
    }

    #[test]
    fn a_cut_last_line_is_forgotten_and_the_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let read = Scores::read(&path).unwrap();
        assert_eq!(read.scored.len(), 1);
        let mut log = Log::resume(&path, &read).unwrap();
        log.add(&sample()[1]).unwrap();
        assert_eq!(Scores::read(&path).unwrap().scored.len(), 2);
    }

    #[test]
    fn damaged_and_foreign_files_are_refused_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.jsonl");
        write(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Scores::read(&path).unwrap_err().to_string()
        };
        let mut lines: Vec<&str> = text.lines().collect();
        lines[1] = "{";
        assert!(told(&lines.join("\n")).contains("scores.jsonl:2: "));
        let twice = format!("{text}{}\n", text.lines().last().unwrap());
        assert!(told(&twice).contains(":4: a trial stands twice"));
        assert!(told("a,b\n1,2\n").contains("is not a scores file"));
        assert!(told("").contains("is not a scores file"));
        assert!(told(&text.replace("\"vouch_scores\":1", "\"vouch_scores\":9")).contains("is of format 9"));
        assert!(told(&text.replace("\"trials\":3", "\"trials\":1")).contains("beyond the data set"));
    }
}
