//! Labelled files to trials.
//!
//! Called by `cli::evaluate` before the daemon is asked anything: a data set with a problem is refused whole, with every problem
//! named, because a run of an hour that ends at a misspelt label is worse. Layouts are told at each function and in docs/evaluation.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::scores::{Trial, Truth};
use super::table::Table;
use super::{DataError, Question};

/// Trials with their media.
#[derive(Debug, Clone)]
pub struct DataSet {
    pub question: Question,
    /// By default the name of the folder or file.
    pub name: String,
    pub cases: Vec<Case>,
    /// What is to be known of the labels.
    pub remarks: Vec<String>,
}

/// A trial, its files, and what should be read from them.
#[derive(Debug, Clone)]
pub struct Case {
    pub trial: Trial,
    pub media: Vec<PathBuf>,
    pub expected: Expected,
}

/// What stands on a document. Compared when the answer comes, and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    Nothing,
    /// Lines of a machine-readable zone.
    Lines(Vec<String>),
    /// What a symbol holds; `None` for a picture without one.
    Payload(Option<Vec<u8>>),
    /// Values of fields by name.
    Fields(BTreeMap<String, String>),
}

/// Different values of a column beyond which it makes no groups.
const MAX_GROUPS: usize = 100;

/// Extensions of pictures that the daemon reads.
const PICTURES: [&str; 9] = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "heic", "heif", "pdf"];

impl DataSet {
    /// SHA-256 over labels, paths as given and sizes of all files, hexadecimal.
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        let common = self.common_folder();
        for case in &self.cases {
            let mut line = format!("{:?} {:?}", case.trial, case.expected);
            for path in &case.media {
                let size = path.metadata().map_or(0, |metadata| metadata.len());
                let path = path.strip_prefix(&common).unwrap_or(path);
                let _ = write!(line, " {path:?} {size}");
            }
            digest.update(line);
            digest.update(b"\n");
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The deepest folder that all files lie in.
    fn common_folder(&self) -> PathBuf {
        let mut folders = self.cases.iter().flat_map(|case| &case.media).map(|path| folder_of(path));
        let Some(first) = folders.next() else { return PathBuf::new() };
        folders.fold(first.to_owned(), |common, folder| {
            let shared = common.components().zip(folder.components()).take_while(|(a, b)| a == b);
            shared.map(|(component, _)| component).collect()
        })
    }

    /// Leaves out columns with so many different values that they are no groups but belong to single persons, such as names.
    fn without_personal_columns(mut self) -> Self {
        let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (column, value) in self.cases.iter().flat_map(|case| &case.trial.groups) {
            values.entry(column.clone()).or_default().insert(value.clone());
        }
        for (column, values) in values.into_iter().filter(|(_, values)| values.len() > MAX_GROUPS) {
            self.cases.iter_mut().for_each(|case| drop(case.trial.groups.remove(&column)));
            let count = values.len();
            self.remarks.push(format!(
                "the column {column} has {count} different values and was left out: groups are at most {MAX_GROUPS}"
            ));
        }
        self
    }

    fn new(question: Question, path: &Path, cases: Vec<Case>) -> Self {
        let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let named = if absolute.is_file() { absolute.parent().unwrap_or(&absolute) } else { &absolute };
        let name = named.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
        Self { question, name, cases, remarks: Vec::new() }
    }

    /// Refuses files that are not there.
    fn checked(self) -> Result<Self, DataError> {
        let files: BTreeSet<&PathBuf> = self.cases.iter().flat_map(|case| &case.media).collect();
        let missing: Vec<String> = files
            .into_iter()
            .filter(|path| !path.is_file())
            .map(|path| format!("{}: no such file", path.display()))
            .collect();
        if missing.is_empty() { Ok(self.without_personal_columns()) } else { Err(DataError::Missing(missing)) }
    }

    /// All trials so often, one round after the other.
    pub fn repeated(mut self, rounds: usize) -> Self {
        let count = self.cases.len();
        self.cases = self.cases.into_iter().cycle().take(count * rounds).collect();
        self.cases.iter_mut().enumerate().for_each(|(index, case)| case.trial.index = index);
        self
    }

    /// Every `every`-th trial: for a quick look.
    pub fn thinned(mut self, every: usize) -> Self {
        if every > 1 {
            self.cases = self.cases.into_iter().step_by(every).collect();
            self.cases.iter_mut().enumerate().for_each(|(index, case)| case.trial.index = index);
            self.remarks.push(format!("only one trial in {every} of the data set was taken"));
        }
        self
    }
}

fn case(index: usize, truth: Truth, groups: BTreeMap<String, String>, media: Vec<PathBuf>) -> Case {
    Case { trial: Trial { index, truth, groups }, media, expected: Expected::Nothing }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

// ---------------------------------------------------------------- face match

/// Pairs of pictures: `a,b,same[,fold][,subject_a,subject_b][,any group]`, paths below the table's folder; `same` is 1 or 0, `true` or
/// `false`, `genuine` or `impostor`. Where the subjects are not given, the folder that a picture lies in is taken for its person,
/// provided that this agrees with every label.
///
/// # Errors
/// [`DataError`] with every problem: labels, duplicates, one class only, missing files.
pub fn face_match(pairs: &Path) -> Result<DataSet, DataError> {
    let table = Table::read(pairs, &["a", "b", "same"])?;
    let root = folder_of(pairs);
    let has_subjects = table.has("subject_a") && table.has("subject_b");
    let by_folder = !has_subjects && folders_are_persons(&table);
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let mut number = |name: String| {
        let next = numbers.len() as u32;
        *numbers.entry(name).or_insert(next)
    };
    let mut seen: BTreeMap<[&str; 2], u64> = BTreeMap::new();
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for (index, row) in table.rows().iter().enumerate() {
        let value = |column| table.value(row, column);
        let (a, b) = (value("a"), value("b"));
        let mut problem = |reason: String| problems.push(table.problem(row, reason));
        let genuine = same(value("same"));
        if genuine.is_none() {
            problem(format!("same is {:?}; expected 1 or 0, true or false, genuine or impostor", value("same")));
        }
        let fold = match value("fold") {
            "" if table.has("fold") => {
                problem("fold is empty".into());
                None
            }
            "" => None,
            text => {
                let fold = text.parse().ok();
                if fold.is_none() {
                    problem(format!("fold is {text:?}, which is no whole number"));
                }
                fold
            }
        };
        if a.is_empty() || b.is_empty() {
            problem("a or b is empty".into());
        } else if a == b {
            problem(format!("compares {a} with itself"));
        }
        let pair = if a <= b { [a, b] } else { [b, a] };
        if let Some(line) = seen.insert(pair, row.line) {
            problem(format!("repeats the pair of line {line}"));
        }
        let names = if has_subjects {
            [value("subject_a"), value("subject_b")].map(str::to_owned)
        } else {
            [a, b].map(|file| folder_of(Path::new(file)).to_string_lossy().into_owned())
        };
        if has_subjects && names.iter().any(String::is_empty) {
            problem("subject_a or subject_b is empty".into());
        } else if has_subjects && genuine.is_some_and(|genuine| genuine != (names[0] == names[1])) {
            problem(format!("same is {:?}, which subject_a and subject_b contradict", value("same")));
        }
        let subjects = (has_subjects || by_folder).then(|| names.map(&mut number));
        let groups = table.groups(row, &["a", "b", "same", "fold", "subject_a", "subject_b"]);
        let truth = Truth::Pair { genuine: genuine.unwrap_or(false), fold, subjects };
        cases.push(case(index, truth, groups, vec![root.join(a), root.join(b)]));
    }
    let is_genuine = |case: &Case| matches!(case.trial.truth, Truth::Pair { genuine: true, .. });
    let genuine = cases.iter().filter(|case| is_genuine(case)).count();
    if problems.is_empty() && (genuine == 0 || genuine == cases.len()) {
        let there = if genuine == 0 { "impostor" } else { "genuine" };
        problems.push(format!(
            "{}: holds {there} pairs only; both kinds are needed, since a threshold stands between them",
            pairs.display()
        ));
    }
    if !problems.is_empty() {
        return Err(DataError::Bad(problems));
    }
    let mut set = DataSet::new(Question::FaceMatch, pairs, cases);
    if !has_subjects && !by_folder {
        set.remarks.push(
            "the persons are not known (no columns subject_a and subject_b, and the folders are not persons): every pair counts as \
             independent, and where persons come more than once the intervals are too narrow"
                .into(),
        );
    }
    set.checked()
}

/// Whether in every row the pictures lie in one folder exactly if they show one person.
fn folders_are_persons(table: &Table) -> bool {
    table.rows().iter().all(|row| {
        let [a, b] = ["a", "b"].map(|column| folder_of(Path::new(table.value(row, column))));
        let named = [a, b].iter().all(|folder| !folder.as_os_str().is_empty());
        named && same(table.value(row, "same")) == Some(a == b)
    })
}

fn same(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "1" | "true" | "genuine" => Some(true),
        "0" | "false" | "impostor" => Some(false),
        _ => None,
    }
}

// ---------------------------------------------------------------- liveness

/// Frames of presentations. Each folder is either a class (`live`, or an attack species such as `print`) with one folder for each
/// subject, or holds such classes; what a class folder is called is the species' name, unless `renamed` gives another. Pictures are whole
/// camera frames.
///
/// # Errors
/// [`DataError`]: no live presentation, no attack, pictures that lie in no subject's folder.
pub fn liveness(folders: &[PathBuf], renamed: &[(String, String)]) -> Result<DataSet, DataError> {
    let mut classes: Vec<(Option<String>, PathBuf)> = Vec::new();
    for folder in folders {
        if folder.join(LIVE).is_dir() {
            let set = folder.file_name().map(|name| name.to_string_lossy().into_owned());
            let inside = sorted(folder)?.into_iter().filter(|path| path.is_dir());
            classes.extend(inside.map(|path| (set.clone(), path)));
        } else {
            // The class's own parent names the set, so that subjects of two sets are not taken for one person.
            let parent = folder.canonicalize().ok().and_then(|path| Some(path.parent()?.file_name()?.to_owned()));
            classes.push((parent.map(|name| name.to_string_lossy().into_owned()), folder.clone()));
        }
    }
    let several_sets = classes.iter().map(|(set, _)| set).collect::<BTreeSet<_>>().len() > 1;
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    let named = |folder: &str| {
        let names = classes.iter().filter_map(|(_, class)| {
            class.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().to_lowercase())
        });
        names.into_iter().any(|name| name == folder.to_lowercase())
    };
    for (folder, species) in renamed {
        if !named(folder) || species == LIVE || folder == LIVE {
            problems.push(format!("--species {folder}={species}: names no folder of attacks, or no species"));
        }
    }
    for (set, class) in &classes {
        let absolute = class.canonicalize().unwrap_or_else(|_| class.clone());
        let name = absolute.file_name().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
        let other =
            renamed.iter().find(|(folder, _)| folder.to_lowercase() == name).map(|(_, species)| species.clone());
        let species = (name != LIVE).then(|| other.unwrap_or_else(|| name.replace([' ', '-'], "_")));
        if species.as_deref().is_some_and(|name| name.is_empty() || !name.bytes().all(is_name_byte)) {
            problems.push(format!("{}: the name of a species is made of a-z, 0-9 and _", class.display()));
        }
        for entry in sorted(class)? {
            if !entry.is_dir() {
                if is_picture(&entry) {
                    problems.push(format!("{}: lies in no subject's folder", entry.display()));
                }
                continue;
            }
            let person = entry.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let subject = match set {
                Some(set) if several_sets => format!("{set}/{person}"),
                _ => person,
            };
            let groups: BTreeMap<String, String> =
                set.iter().filter(|_| several_sets).map(|set| ("set".to_owned(), set.clone())).collect();
            let (files, others): (Vec<PathBuf>, Vec<PathBuf>) =
                sorted(&entry)?.into_iter().partition(|path| is_picture(path));
            let folders = others.iter().filter(|path| path.is_dir());
            problems.extend(
                folders.map(|path| format!("{}: a subject's folder holds pictures, no folders", path.display())),
            );
            for file in files {
                let truth = Truth::Presentation { species: species.clone(), subject: subject.clone() };
                cases.push(case(cases.len(), truth, groups.clone(), vec![file]));
            }
        }
    }
    let live =
        cases.iter().filter(|case| matches!(case.trial.truth, Truth::Presentation { species: None, .. })).count();
    if problems.is_empty() && (live == 0 || live == cases.len()) {
        problems.push(format!(
            "there are {live} live pictures and {} of attacks; both are needed, as DIR/live/SUBJECT/* and DIR/SPECIES/SUBJECT/*",
            cases.len() - live
        ));
    }
    if !problems.is_empty() {
        return Err(DataError::Bad(problems));
    }
    let mut set = DataSet::new(Question::Liveness, folders.first().map_or(Path::new("."), PathBuf::as_path), cases);
    let names: BTreeSet<&str> = classes.iter().filter_map(|(set, _)| set.as_deref()).collect();
    if !names.is_empty() {
        set.name = names.into_iter().collect::<Vec<_>>().join(" + ");
    }
    set.checked()
}

const LIVE: &str = "live";

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase);
    extension.is_some_and(|extension| PICTURES.contains(&extension.as_str()))
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>())
        .map_err(|error| DataError::Missing(vec![format!("{}: {error}", folder.display())]))?;
    paths.sort();
    Ok(paths)
}

// ---------------------------------------------------------------- age

/// Ages no one has reached are slips of the pen.
const OLDEST_YEARS: f64 = 122.0;

/// Faces of known age: `file,age[,subject][,any group]`, paths below the table's folder, ages in years.
///
/// # Errors
/// [`DataError`] with every problem: ages that are none, duplicates, missing files.
pub fn age(labels: &Path) -> Result<DataSet, DataError> {
    let table = Table::read(labels, &["file", "age"])?;
    let root = folder_of(labels);
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for (index, row) in table.rows().iter().enumerate() {
        let (file, text) = (table.value(row, "file"), table.value(row, "age"));
        let mut problem = |reason: String| problems.push(table.problem(row, reason));
        let age = text.parse::<f64>().ok().filter(|age| (0.0..=OLDEST_YEARS).contains(age));
        if age.is_none() {
            problem(format!("age is {text:?}; expected years from 0 to {OLDEST_YEARS}"));
        }
        if file.is_empty() {
            problem("file is empty".into());
        }
        if let Some(line) = seen.insert(file, row.line) {
            problem(format!("repeats the file of line {line}"));
        }
        let subject = Some(table.value(row, "subject")).filter(|subject| !subject.is_empty()).map(str::to_owned);
        let groups = table.groups(row, &["file", "age", "subject"]);
        cases.push(case(index, Truth::Face { age: age.unwrap_or(0.0), subject }, groups, vec![root.join(file)]));
    }
    if !problems.is_empty() {
        return Err(DataError::Bad(problems));
    }
    let mut set = DataSet::new(Question::Age, labels, cases);
    if !table.has("subject") {
        set.remarks.push("persons are not told apart (no column subject): every picture counts as one person".into());
    }
    set.checked()
}

// ---------------------------------------------------------------- documents

#[derive(Deserialize)]
struct ZoneTruth {
    image: String,
    lines: Vec<String>,
    format: Option<String>,
    level: Option<u64>,
}

/// Pictures of machine-readable zones: a JSON list of `{"image", "lines"[, "format"][, "level"]}`, images below its folder.
///
/// # Errors
/// [`DataError`] with every problem.
pub fn mrz(truth: &Path) -> Result<DataSet, DataError> {
    let zones: Vec<ZoneTruth> = read_json(truth)?;
    let root = folder_of(truth);
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let cases: Vec<Case> = zones
        .into_iter()
        .enumerate()
        .map(|(index, zone)| {
            if zone.lines.is_empty() || zone.lines.iter().any(String::is_empty) {
                problems.push(format!("{}: {}: has no lines, or an empty one", truth.display(), zone.image));
            }
            if !seen.insert(zone.image.clone()) {
                problems.push(format!("{}: {}: stands twice", truth.display(), zone.image));
            }
            let format = zone.format.map(|format| ("format".to_owned(), format));
            let level = zone.level.map(|level| ("level".to_owned(), level.to_string()));
            let groups = format.into_iter().chain(level).collect();
            let mut case = case(index, Truth::Document, groups, vec![root.join(&zone.image)]);
            case.expected = Expected::Lines(zone.lines);
            case
        })
        .collect();
    if cases.is_empty() {
        problems.push(format!("{}: lists no image", truth.display()));
    }
    if problems.is_empty() {
        DataSet::new(Question::Mrz, truth, cases).checked()
    } else {
        Err(DataError::Bad(problems))
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, DataError> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| DataError::Missing(vec![format!("{name}: {error}")]))?;
    serde_json::from_slice(&bytes).map_err(|error| DataError::bad(format!("{name}: {error}")))
}

/// Pictures of barcodes, in the folder or in folders below it: beside each the payload as `NAME.txt` or `NAME.bin`, which pictures `NAME-1`,
/// `NAME-2` may share. A picture without one shows no symbol: what is found there is a false positive. Folders are groups.
///
/// # Errors
/// [`DataError`] if there is no picture, or no payload at all.
pub fn barcode(folder: &Path) -> Result<DataSet, DataError> {
    let mut cases = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(here) = waiting.pop() {
        for path in sorted(&here)? {
            if path.is_dir() {
                waiting.push(path);
            } else if is_picture(&path) {
                let below = here.strip_prefix(folder).unwrap_or(&here).to_string_lossy().into_owned();
                let groups = Some(below).filter(|below| !below.is_empty()).map(|below| ("folder".to_owned(), below));
                let mut case = case(cases.len(), Truth::Document, groups.into_iter().collect(), vec![path.clone()]);
                case.expected = Expected::Payload(payload_beside(&path)?);
                cases.push(case);
            }
        }
    }
    if !cases.iter().any(|case| case.expected != Expected::Payload(None)) {
        let reason = format!("{}: no picture has its payload beside it as NAME.txt or NAME.bin", folder.display());
        return Err(DataError::Bad(vec![reason]));
    }
    cases.sort_by(|a, b| a.media.cmp(&b.media));
    cases.iter_mut().enumerate().for_each(|(index, case)| case.trial.index = index);
    Ok(DataSet::new(Question::Barcode, folder, cases))
}

fn payload_beside(picture: &Path) -> Result<Option<Vec<u8>>, DataError> {
    let Some(stem) = picture.file_stem().and_then(|stem| stem.to_str()) else { return Ok(None) };
    let shared = stem.rsplit_once('-').map(|(head, _)| head);
    for stem in [Some(stem), shared].into_iter().flatten() {
        for extension in ["txt", "bin"] {
            let path = picture.with_file_name(format!("{stem}.{extension}"));
            match std::fs::read(&path) {
                Ok(payload) => return Ok(Some(payload)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(DataError::Missing(vec![format!("{}: {error}", path.display())])),
            }
        }
    }
    Ok(None)
}

#[derive(Deserialize)]
struct SpecimenTruth {
    kind: String,
    pages: Vec<SpecimenPage>,
}

#[derive(Deserialize)]
struct SpecimenPage {
    file: String,
    fields: Vec<SpecimenField>,
    capture: Option<SpecimenCapture>,
}

#[derive(Deserialize)]
struct SpecimenField {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct SpecimenCapture {
    level: u8,
}

/// Documents with known fields: files as `vouch specimen` writes them (`{"kind", "pages": [{"file", "fields": [{"name", "value"}]}]}`), or
/// a folder of them. Pictures lie beside the file.
///
/// # Errors
/// [`DataError`] with every problem.
pub fn document(truth: &Path) -> Result<DataSet, DataError> {
    let files = if truth.is_dir() {
        sorted(truth)?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect()
    } else {
        vec![truth.to_owned()]
    };
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for path in files {
        let specimen: SpecimenTruth = match read_json(&path) {
            Ok(specimen) => specimen,
            Err(DataError::Bad(reasons)) => {
                problems.extend(reasons);
                continue;
            }
            Err(missing) => return Err(missing),
        };
        let mut fields = BTreeMap::new();
        for field in specimen.pages.iter().flat_map(|page| &page.fields) {
            fields.entry(field.name.clone()).or_insert_with(|| field.value.clone());
        }
        if specimen.pages.is_empty() || fields.is_empty() {
            problems.push(format!("{}: has no page or no field", path.display()));
        }
        let level = specimen.pages.iter().find_map(|page| page.capture.as_ref()).map(|capture| capture.level);
        let groups = [("kind".to_owned(), specimen.kind)]
            .into_iter()
            .chain(level.map(|level| ("level".to_owned(), level.to_string())))
            .collect();
        let media = specimen.pages.iter().map(|page| folder_of(&path).join(&page.file)).collect();
        let mut case = case(cases.len(), Truth::Document, groups, media);
        case.expected = Expected::Fields(fields);
        cases.push(case);
    }
    if cases.is_empty() && problems.is_empty() {
        problems.push(format!("{}: holds no truth in JSON", truth.display()));
    }
    if problems.is_empty() {
        DataSet::new(Question::Document, truth, cases).checked()
    } else {
        Err(DataError::Bad(problems))
    }
}

// ---------------------------------------------------------------- latency

/// Media to be verified for the time that it takes. A folder with `selfie/` and `document/` gives verifications of both, the n-th of one with
/// the n-th of the other, the shorter list over again; a folder of pictures gives verifications of each as a selfie.
///
/// # Errors
/// [`DataError`] if there is no picture.
pub fn latency(folder: &Path) -> Result<DataSet, DataError> {
    let pictures = |folder: &Path| -> Result<Vec<PathBuf>, DataError> {
        Ok(sorted(folder)?.into_iter().filter(|path| path.is_file() && is_picture(path)).collect())
    };
    let (selfies, documents) = (folder.join("selfie"), folder.join("document"));
    let media: Vec<Vec<PathBuf>> = if selfies.is_dir() && documents.is_dir() {
        let (selfies, documents) = (pictures(&selfies)?, pictures(&documents)?);
        let count = if selfies.is_empty() || documents.is_empty() { 0 } else { selfies.len().max(documents.len()) };
        (0..count).map(|n| vec![selfies[n % selfies.len()].clone(), documents[n % documents.len()].clone()]).collect()
    } else {
        pictures(folder)?.into_iter().map(|picture| vec![picture]).collect()
    };
    if media.is_empty() {
        return Err(DataError::bad(format!(
            "{}: no pictures, neither here nor in selfie/ and document/ below",
            folder.display()
        )));
    }
    let cases = media.into_iter().enumerate().map(|(index, media)| case(index, Truth::Media, BTreeMap::new(), media));
    Ok(DataSet::new(Question::Latency, folder, cases.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with empty files of these names.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn with_table(files: &[&str], name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = folder(files);
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    const FACES: [&str; 4] = ["p/1.jpg", "p/2.jpg", "q/1.jpg", "r/1.jpg"];

    fn pairs(text: &str) -> Result<DataSet, String> {
        let (_folder, path) = with_table(&FACES, "pairs.csv", text);
        face_match(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn folders_are_persons_where_every_label_agrees() {
        let set = pairs("a,b,same,fold,sex\np/1.jpg,p/2.jpg,1,1,F\np/1.jpg,q/1.jpg,impostor,2,M\n").unwrap();
        let truths: Vec<&Truth> = set.cases.iter().map(|case| &case.trial.truth).collect();
        assert_eq!(truths[0], &Truth::Pair { genuine: true, fold: Some(1), subjects: Some([0, 0]) });
        assert_eq!(truths[1], &Truth::Pair { genuine: false, fold: Some(2), subjects: Some([0, 1]) });
        assert_eq!(set.cases[0].trial.groups["sex"], "F");
        assert!(set.remarks.is_empty());
        // One genuine pair over two folders: they are no persons, and the report says what that means.
        let set = pairs("a,b,same\np/1.jpg,q/1.jpg,1\np/1.jpg,r/1.jpg,0\n").unwrap();
        assert!(matches!(set.cases[0].trial.truth, Truth::Pair { subjects: None, .. }));
        assert!(set.remarks[0].contains("intervals are too narrow"));
        let set = pairs("a,b,same,subject_a,subject_b\np/1.jpg,q/1.jpg,1,x,x\np/1.jpg,r/1.jpg,0,x,y\n").unwrap();
        assert!(matches!(set.cases[1].trial.truth, Truth::Pair { subjects: Some([0, 1]), .. }));
    }

    #[test]
    fn every_problem_of_a_table_of_pairs_is_told_with_its_line() {
        let told = pairs(
            "a,b,same,fold\np/1.jpg,p/2.jpg,yess,1\np/1.jpg,q/1.jpg,0,one\np/2.jpg,p/1.jpg,1,1\np/1.jpg,p/1.jpg,1,1\n,q/1.jpg,0,1\n",
        )
        .unwrap_err();
        for expected in [
            "pairs.csv:2: same is \"yess\"",
            "pairs.csv:3: fold is \"one\"",
            "pairs.csv:4: repeats the pair of line 2",
            "pairs.csv:5: compares p/1.jpg with itself",
            "pairs.csv:6: a or b is empty",
        ] {
            assert!(told.contains(expected), "{expected} not in {told}");
        }
        assert!(pairs("a,b,same\np/1.jpg,p/2.jpg,1\n").unwrap_err().contains("holds genuine pairs only"));
        let told = pairs("a,b,same,subject_a,subject_b\np/1.jpg,q/1.jpg,1,x,y\n").unwrap_err();
        assert!(told.contains("which subject_a and subject_b contradict"), "{told}");
        let told = pairs("a,b,same\np/1.jpg,p/2.jpg,1\np/1.jpg,q/7.jpg,0\n").unwrap_err();
        assert!(told.contains("q/7.jpg: no such file"), "{told}");
    }

    #[test]
    fn ages_must_be_ages() {
        let (_folder, path) = with_table(&["1.jpg"], "ages.csv", "file,age\n1.jpg,NaN\n1.jpg,200\n");
        let told = age(&path).unwrap_err().to_string();
        for expected in [":2: age is \"NaN\"", ":3: age is \"200\"", ":3: repeats the file of line 2"] {
            assert!(told.contains(expected), "{told}");
        }
        let (_folder, path) = with_table(&["1.jpg"], "ages.csv", "age,file,subject,camera\n17.5,1.jpg,s1,front\n");
        let set = age(&path).unwrap();
        assert_eq!(set.cases[0].trial.truth, Truth::Face { age: 17.5, subject: Some("s1".into()) });
        assert_eq!(set.cases[0].trial.groups["camera"], "front");
    }

    #[test]
    fn presentations_come_from_folders_of_classes_or_from_the_classes() {
        let files = ["live/s1/1.jpg", "live/s2/1.jpg", "print/s1/1.jpg", "print/s1/2.png", "print/s1/notes.txt"];
        let folder = folder(&files);
        let whole = liveness(&[folder.path().to_owned()], &[]).unwrap();
        let single = liveness(&[folder.path().join("live"), folder.path().join("print")], &[]).unwrap();
        for set in [&whole, &single] {
            assert_eq!(set.cases.len(), 4);
            let first_attack = &set.cases[2].trial;
            let expected = Truth::Presentation { species: Some("print".into()), subject: "s1".into() };
            assert_eq!((first_attack.index, &first_attack.truth), (2, &expected));
        }
        let renamed = liveness(&[folder.path().to_owned()], &[("print".into(), "paper".into())]).unwrap();
        let paper = Truth::Presentation { species: Some("paper".into()), subject: "s1".into() };
        assert_eq!(renamed.cases[3].trial.truth, paper);
        let told = liveness(&[folder.path().join("live")], &[]).unwrap_err().to_string();
        assert!(told.contains("2 live pictures and 0 of attacks"), "{told}");
        std::fs::write(folder.path().join("live/loose.jpg"), "").unwrap();
        let told = liveness(&[folder.path().to_owned()], &[]).unwrap_err().to_string();
        assert!(told.contains("loose.jpg: lies in no subject's folder"), "{told}");
    }

    #[test]
    fn payloads_lie_beside_their_pictures() {
        let folder = folder(&["qr/1-1.png", "qr/1-2.png", "none/2.png"]);
        std::fs::write(folder.path().join("qr/1.txt"), "payload").unwrap();
        let set = barcode(folder.path()).unwrap();
        let payloads: Vec<&Expected> = set.cases.iter().map(|case| &case.expected).collect();
        let payload = Expected::Payload(Some(b"payload".to_vec()));
        assert_eq!(payloads, [&Expected::Payload(None), &payload, &payload]);
        assert_eq!(set.cases[1].trial.groups["folder"], "qr");
        std::fs::remove_file(folder.path().join("qr/1.txt")).unwrap();
        assert!(barcode(folder.path()).is_err());
    }

    #[test]
    fn the_digest_changes_with_labels_and_files_alone() {
        let text = "a,b,same\np/1.jpg,p/2.jpg,1\np/1.jpg,q/1.jpg,0\n";
        let (folder, path) = with_table(&FACES, "pairs.csv", text);
        let digest = face_match(&path).unwrap().sha256();
        assert_eq!(digest, face_match(&path).unwrap().sha256());
        std::fs::write(folder.path().join("q/1.jpg"), "x").unwrap();
        assert_ne!(digest, face_match(&path).unwrap().sha256());
    }

    #[test]
    fn verifications_pair_selfies_with_documents() {
        let folder = folder(&["selfie/1.jpg", "document/1.jpg", "document/2.jpg"]);
        let set = latency(folder.path()).unwrap();
        assert_eq!(set.cases.iter().map(|case| case.media.len()).collect::<Vec<_>>(), [2, 2]);
        assert!(latency(&folder.path().join("selfie")).is_ok());
        assert!(latency(&folder.path().join("none")).is_err());
    }
}
