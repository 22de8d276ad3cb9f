//! Whether a log is whole, and if not, where it is not.
//!
//! Called by `vouch audit verify`; needs nothing but the files. Three things are compared: each line with its own hash, each line with the one before it, and the log
//! with what is known from elsewhere: the head file beside it, the head that each start of a daemon has found, and anchors from the journal. A line that is wrong is told
//! once and the search goes on after it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::chain::{self, Claim, Hash, Link};
use super::store;

/// Longest line that is read. Records have some kilobytes.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// How often a log that changes meanwhile is read anew.
const LIVE_ATTEMPTS: usize = 5;

/// Hashes that are kept to compare with the head that a start has found: it is a second old at most.
const KEPT_HASHES: usize = 1 << 16;

/// Something about a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable upper-case code.
    pub code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The record concerned, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    pub what: String,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub files: usize,
    pub records: u64,
    /// Sequence of the first and the last record.
    pub first: Option<u64>,
    pub last: Option<u64>,
    /// Hash of the last record.
    pub hash: Option<String>,
    /// Anchors that were compared with a record.
    pub anchors: usize,
    /// What shows that the log is not as it was written.
    pub findings: Vec<Finding>,
    /// What is worth knowing and no damage.
    pub notices: Vec<Finding>,
}

impl Report {
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies the log of a folder, its head file included.
///
/// # Errors
/// If the folder or a file in it cannot be read.
pub fn verify_dir(dir: &Path, anchors: &[Link]) -> io::Result<Report> {
    // A daemon at work writes and removes meanwhile, which is no damage: what was read then is read anew.
    for _ in 0..LIVE_ATTEMPTS {
        if let Some(report) = verify_at_rest(dir, anchors)? {
            return Ok(report);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the log changes faster than it can be read"))
}

/// `None` if a file was removed before it could be read, or the last one was read while a line was being written.
fn verify_at_rest(dir: &Path, anchors: &[Link]) -> io::Result<Option<Report>> {
    // The head first: a daemon that is at work writes it after the lines.
    let head = store::read_head(dir)?;
    let files = store::files(dir)?;
    let mut walk = Walk::new(anchors);
    let mut former: Option<u64> = None;
    for (number, path) in &files {
        if let Some(former) = former.filter(|former| former + 1 != *number) {
            let what = format!("between this file and {} there are none", store::file_name(former));
            walk.find("FILE_MISSING", Some(path), None, None, what);
        }
        former = Some(*number);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut lines = BufReader::new(&file);
        walk.file(path, &mut lines)?;
        if walk.torn.is_some() && file.metadata()?.len() > lines.stream_position()? {
            return Ok(None);
        }
    }
    walk.untold_torn();
    let path = dir.join(store::HEAD_FILE);
    match head {
        Some(head) => walk.compare(head, &Known::Head(&path)),
        None if files.is_empty() => walk.find("NO_LOG", Some(dir), None, None, "there is no log here".into()),
        None => {
            let what = "the head file is missing or unreadable, so a cut at the end of the log would not show";
            walk.find("HEAD_MISSING", Some(&path), None, None, what.into());
        }
    }
    Ok(Some(walk.end()))
}

/// Verifies files, in this order. Without the head file a cut at the end shows by anchors alone.
///
/// # Errors
/// If a file cannot be read.
pub fn verify_files(files: &[PathBuf], anchors: &[Link]) -> io::Result<Report> {
    let mut walk = Walk::new(anchors);
    for path in files {
        walk.file(path, BufReader::new(File::open(path)?))?;
    }
    Ok(walk.end())
}

/// Where something is known from that a record is compared with.
enum Known<'a> {
    Head(&'a Path),
    /// The start that is recorded there found this head.
    Start(&'a Path, u64),
    Anchor,
}

struct Walk {
    report: Report,
    anchors: Vec<Link>,
    /// By sequence, of anchors and, until they have gone, of the last records.
    hashes: VecDeque<Link>,
    at_anchors: BTreeMap<u64, Hash>,
    /// The first record and what it follows.
    first: Option<(Link, PathBuf)>,
    last: Option<Link>,
    /// What the next line must follow; `None` before the first record.
    expected: Option<Link>,
    /// Lines since then that are no records.
    unread: u64,
    /// The end of the former file that is no whole line, with where it is.
    torn: Option<(PathBuf, u64, u64, Hash)>,
    /// What the log says was removed.
    removed: Vec<Link>,
    /// The last record of a daemon's end.
    stopped: Option<u64>,
}

impl Walk {
    fn new(anchors: &[Link]) -> Self {
        Self {
            report: Report::default(),
            anchors: anchors.to_vec(),
            hashes: VecDeque::new(),
            at_anchors: BTreeMap::new(),
            first: None,
            last: None,
            expected: None,
            unread: 0,
            torn: None,
            removed: Vec::new(),
            stopped: None,
        }
    }

    fn find(
        &mut self,
        code: &'static str,
        file: Option<&Path>,
        line: Option<u64>,
        sequence: Option<u64>,
        what: String,
    ) {
        self.report.findings.push(Finding { code, file: file.map(Path::to_owned), line, sequence, what });
    }

    fn notice(
        &mut self,
        code: &'static str,
        file: Option<&Path>,
        line: Option<u64>,
        sequence: Option<u64>,
        what: String,
    ) {
        self.report.notices.push(Finding { code, file: file.map(Path::to_owned), line, sequence, what });
    }

    fn file(&mut self, path: &Path, mut lines: impl BufRead) -> io::Result<()> {
        self.report.files += 1;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            if line.pop_if(|last| *last == b'\n').is_none() {
                if line.len() as u64 == MAX_LINE_BYTES {
                    self.malformed(path, number, "the line is longer than any record");
                    skip_line(&mut lines)?;
                    continue;
                }
                self.untold_torn();
                self.torn = Some((path.to_owned(), number, line.len() as u64, Hash::of(&line)));
                break;
            }
            self.line(path, number, &line);
        }
        Ok(())
    }

    fn line(&mut self, path: &Path, number: u64, line: &[u8]) {
        let Some(claim) = chain::read(line) else {
            self.untold_torn();
            return self.malformed(path, number, "the line is no record: its beginning or its end is not of the form");
        };
        let Claim { sequence, previous, .. } = claim;
        self.report.records += 1;
        let here = (Some(path), Some(number), Some(sequence));
        if !claim.is_sound {
            self.find("ALTERED", here.0, here.1, here.2, "the line's text does not give its hash".into());
        }
        let unread = std::mem::take(&mut self.unread);
        match self.expected {
            Some(last) if sequence.saturating_sub(last.sequence) > unread + 1 => {
                let what = match (last.sequence + unread + 1, sequence - 1) {
                    (one, other) if one == other => format!("record {one} is missing before this line"),
                    (from, to) => format!("the records {from} to {to} are missing before this line"),
                };
                self.find("GAP", here.0, here.1, here.2, what);
            }
            Some(last) if sequence <= last.sequence => {
                let next = last.sequence.saturating_add(1);
                let what = format!("record {next} was expected: the line is repeated or out of order");
                self.find("OUT_OF_ORDER", here.0, here.1, here.2, what);
            }
            // What a line that is no record was, nobody knows.
            Some(last) if sequence == last.sequence + 1 && previous != last.hash => {
                let what = "the line does not follow the one before it: one of both was altered".into();
                self.find("NOT_FOLLOWING", here.0, here.1, here.2, what);
            }
            _ => {}
        }
        if self.first.is_none() {
            self.first = Some((Link { sequence: sequence.saturating_sub(1), hash: previous }, path.to_owned()));
            self.report.first = Some(sequence);
        }
        let link = claim.link();
        self.expected = Some(link);
        if self.last.is_none_or(|last| link.sequence >= last.sequence) {
            self.last = Some(link);
        }
        if self.anchors.iter().any(|anchor| anchor.sequence == sequence) {
            self.at_anchors.insert(sequence, link.hash);
        }
        if self.hashes.len() == KEPT_HASHES {
            self.hashes.pop_front();
        }
        if claim.is_sound
            && memmem(line, b"\"class_uid\":6002")
            && let Ok(event) = serde_json::from_slice::<Value>(line)
        {
            self.event(path, number, sequence, &event["unmapped"]);
        }
        self.untold_torn();
        self.hashes.push_back(link);
    }

    /// A line that is no record. It may have been one, and then the next line has the number after it, or have come in between.
    fn malformed(&mut self, path: &Path, number: u64, what: &str) {
        let sequence = self.expected.map(|last| last.sequence.saturating_add(self.unread + 1));
        self.find("MALFORMED", Some(path), Some(number), sequence, what.into());
        self.unread += 1;
    }

    /// A record of the log about itself.
    fn event(&mut self, path: &Path, number: u64, sequence: u64, event: &Value) {
        let link = |value: &Value| {
            Some(Link { sequence: value["sequence"].as_u64()?, hash: Hash::parse(value["hash"].as_str()?)? })
        };
        match event["event"].as_str() {
            Some("stop") => self.stopped = Some(sequence),
            Some("start") => {
                let is_seen = self.report.first != Some(sequence) && sequence > 1;
                if is_seen && self.stopped != Some(sequence - 1) {
                    let what = "the daemon before this start did not record its end: it was killed, or could not write, and then what it answered after the line before is not known";
                    self.notice("END_NOT_RECORDED", Some(path), Some(number), Some(sequence), what.into());
                }
                if let Some((file, line, bytes, hash)) = self.torn.take() {
                    let told = &event["torn"];
                    let is_told = told["bytes"].as_u64() == Some(bytes)
                        && told["sha256"].as_str() == Some(&hash.to_string())
                        && file.file_name().is_some_and(|name| told["file"].as_str() == name.to_str());
                    let what = format!("{bytes} bytes at the end of the file are no whole line");
                    if is_told {
                        let what = format!("{what}; the daemon that started next has set them aside");
                        self.notice("TORN_LINE_SET_ASIDE", Some(&file), Some(line), None, what);
                    } else {
                        self.find("TORN", Some(&file), Some(line), None, what);
                    }
                }
                match link(&event["head"]) {
                    Some(head) => self.compare(head, &Known::Start(path, number)),
                    None if sequence > 1 => {
                        let what =
                            "the daemon found no head file when it started, so a cut before this line would not show";
                        self.find("HEAD_MISSING", Some(path), Some(number), Some(sequence), what.into());
                    }
                    None => {}
                }
            }
            Some("retention") => self.removed.extend(link(&event["through"])),
            Some("gap") => {
                let (lost, refused) = (event["lost"].as_u64().unwrap_or(0), event["refused"].as_u64().unwrap_or(0));
                let what = format!(
                    "the log could not be written for a while: {lost} requests were answered without a record, {refused} were refused"
                );
                self.notice("RECORDS_LOST", Some(path), Some(number), Some(sequence), what);
            }
            _ => {}
        }
    }

    /// A torn end that no start tells of.
    fn untold_torn(&mut self) {
        if let Some((file, line, bytes, _)) = self.torn.take() {
            let what = format!("{bytes} bytes at the end of the file are no whole line");
            self.find("TORN", Some(&file), Some(line), None, what);
        }
    }

    /// Compares the log with a place in it that is known from elsewhere.
    fn compare(&mut self, known: Link, from: &Known<'_>) {
        if known.sequence == 0 {
            return;
        }
        let (file, line, said) = match from {
            Known::Head(path) => (Some(*path), None, "the head file"),
            Known::Start(path, line) => (Some(*path), Some(*line), "the head file that this start has found"),
            Known::Anchor => (None, None, "an anchor"),
        };
        let before = self.first.as_ref().map(|(before, _)| *before);
        let at = match from {
            Known::Anchor => self.at_anchors.get(&known.sequence).copied(),
            _ => self.hashes.iter().rev().find(|link| link.sequence == known.sequence).map(|link| link.hash),
        };
        let at = at.or(before.filter(|before| before.sequence == known.sequence).map(|before| before.hash));
        let sequence = Some(known.sequence);
        match at {
            Some(hash) if hash == known.hash => {
                self.report.anchors += usize::from(matches!(from, Known::Anchor));
                // Of a start, the line that is looked at is not among them yet.
                let own = u64::from(matches!(from, Known::Start(..)));
                let last = self.last.map_or(0, |last| last.sequence);
                let after = last.saturating_sub(known.sequence + own);
                if after > 0 && !matches!(from, Known::Anchor) {
                    let what = format!(
                        "{after} records lie after this one, the last that {said} knows: the daemon is at work or was killed there, or they were added"
                    );
                    self.notice("AFTER_HEAD", file, line, sequence, what);
                }
            }
            Some(_) => {
                let what =
                    format!("{said} tells another hash of this record: the log was made anew from there or before");
                self.find("ANCHOR_DIFFERS", file, line, sequence, what);
            }
            None if before.is_some_and(|before| known.sequence < before.sequence) => {
                let what = format!("{said} is of a record before the first that is there");
                self.notice("ANCHOR_BEFORE_BEGINNING", file, line, sequence, what);
            }
            None if self.last.is_none_or(|last| known.sequence > last.sequence) => {
                let end =
                    self.last.map_or("holds no record".into(), |last| format!("ends with record {}", last.sequence));
                let what = format!("{said} is of record {}, but the log {end}: the end was cut off", known.sequence);
                self.find("CUT", file, line, sequence, what);
            }
            // It lies in a gap, which was told.
            None if !self.report.findings.is_empty() => {
                let what = format!("{said} is of a record that is missing");
                self.find("ANCHOR_MISSING", file, line, sequence, what);
            }
            None => {
                let what = format!("{said} is of a record too far back to be compared");
                self.notice("ANCHOR_NOT_COMPARED", file, line, sequence, what);
            }
        }
    }

    fn end(mut self) -> Report {
        self.untold_torn();
        if let Some((before, path)) = self.first.clone().filter(|(before, _)| *before != Link::NONE) {
            let (code, what) = if self.removed.contains(&before) {
                let what =
                    format!("the records up to {} were removed because only so many files are kept", before.sequence);
                ("BEGINNING_REMOVED", what)
            } else if before.sequence == 0 {
                ("BEGINNING_ALTERED", "the first record follows something".to_owned())
            } else {
                let what = format!(
                    "the records up to {} are missing, and the log does not say that they were removed",
                    before.sequence
                );
                ("BEGINNING_MISSING", what)
            };
            let sequence = Some(before.sequence);
            if code == "BEGINNING_REMOVED" {
                self.notice(code, Some(&path), Some(1), sequence, what);
            } else {
                self.find(code, Some(&path), Some(1), sequence, what);
            }
        }
        for anchor in std::mem::take(&mut self.anchors) {
            self.compare(anchor, &Known::Anchor);
        }
        self.report.last = self.last.map(|last| last.sequence);
        self.report.hash = self.last.map(|last| last.hash.to_string());
        self.report
    }
}

fn memmem(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

fn skip_line(lines: &mut impl BufRead) -> io::Result<()> {
    loop {
        let part = lines.fill_buf()?;
        let (used, is_end) = match part.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (part.len(), part.is_empty()),
        };
        lines.consume(used);
        if is_end {
            return Ok(());
        }
    }
}

// ---------------------------------------------------------------- anchors

/// The message that anchors have in the journal.
const ANCHOR_MESSAGE: &str = "audit anchor";

/// Reads `SEQUENCE:HASH`.
pub fn parse_anchor(text: &str) -> Option<Link> {
    let (sequence, hash) = text.split_once(':')?;
    Some(Link { sequence: sequence.parse().ok()?, hash: Hash::parse(hash)? })
}

/// The anchor in a line of the journal, if it holds one: the daemon's lines in JSON or for people, alone or as `journalctl` prints them (`short`, `cat` and `json`).
pub fn anchor_in(line: &str) -> Option<Link> {
    if !line.contains(ANCHOR_MESSAGE) {
        return None;
    }
    let json = line.find('{').and_then(|at| serde_json::from_str::<Value>(line[at..].trim_end()).ok());
    if let Some(object) = json {
        if let Some(message) = object["MESSAGE"].as_str() {
            return anchor_in(message);
        }
        if object["message"].as_str() != Some(ANCHOR_MESSAGE) {
            return None;
        }
        return Some(Link { sequence: object["sequence"].as_u64()?, hash: Hash::parse(object["hash"].as_str()?)? });
    }
    let plain = without_colour(line);
    let after = |name: &str| {
        let at = plain.find(name)? + name.len();
        Some(plain[at..].trim_start_matches('"').split(|end: char| !end.is_ascii_alphanumeric()).next().unwrap_or(""))
    };
    Some(Link { sequence: after("sequence=")?.parse().ok()?, hash: Hash::parse(after("hash=")?)? })
}

/// Without the escape sequences of a terminal's colours.
fn without_colour(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        let end = after.find(|end: char| end.is_ascii_alphabetic()).map_or(after.len(), |end| end + 1);
        rest = &after[end..];
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was: the line after one that is no record was compared with nothing.
    #[test]
    fn records_missing_after_a_line_that_is_none_are_told() {
        let mut lines = Vec::new();
        let mut last = Link::NONE;
        for number in 1..=8 {
            let (link, line) = chain::seal(last, &format!("{{\"number\":{number}}}"));
            lines.push(line);
            last = link;
        }
        let found = |lines: &[String]| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(store::file_name(1));
            std::fs::write(&path, lines.concat()).unwrap();
            let report = verify_files(&[path], &[]).unwrap();
            report.findings.into_iter().map(|one| (one.code, one.sequence, one.what)).collect::<Vec<_>>()
        };
        assert_eq!(found(&lines), []);
        let is_none = |sequence| {
            (
                "MALFORMED",
                Some(sequence),
                "the line is no record: its beginning or its end is not of the form".to_owned(),
            )
        };
        let mut edited = lines.clone();
        edited[2] = "{}\n".into();
        assert_eq!(found(&edited), [is_none(3)]);
        // Two of them, and what was there is not known.
        edited[3] = "{}\n".into();
        assert_eq!(found(&edited), [is_none(3), is_none(4)]);
        edited.drain(4..6);
        let gap = "the records 5 to 6 are missing before this line".to_owned();
        assert_eq!(found(&edited), [is_none(3), is_none(4), ("GAP", Some(7), gap)]);
        // One that came in between.
        let mut edited = lines.clone();
        edited.insert(2, "{}\n".into());
        assert_eq!(found(&edited), [is_none(3)]);
        // Followed by one from before.
        edited[3] = lines[1].clone();
        let found = found(&edited);
        assert_eq!(
            found.iter().map(|one| one.0).collect::<Vec<_>>(),
            ["MALFORMED", "OUT_OF_ORDER", "GAP"],
            "{found:?}"
        );
    }

    #[test]
    fn anchors_are_read_in_every_form_that_a_journal_prints() {
        let hash = "ab".repeat(32);
        let wanted = Some(Link { sequence: 12, hash: Hash([0xab; 32]) });
        let json = format!(
            r#"{{"timestamp":"x","level":"INFO","message":"audit anchor","sequence":12,"hash":"{hash}","reason":"stop","target":"vouch::audit"}}"#
        );
        let human = format!(
            "2026-11-27T11:00:00Z  INFO vouch::audit: audit anchor sequence=12 hash=\"{hash}\" reason=\"stop\""
        );
        let coloured = format!(
            "\u{1b}[2m2026\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m audit anchor \u{1b}[3msequence\u{1b}[0m\u{1b}[2m=\u{1b}[0m12 \u{1b}[3mhash\u{1b}[0m\u{1b}[2m=\u{1b}[0m\"{hash}\""
        );
        let journal = serde_json::json!({"MESSAGE": json, "_PID": "1"}).to_string();
        let short = format!("Nov 27 11:00:00 host vouchd[1]: {json}");
        for line in [&json, &human, &coloured, &journal, &short] {
            assert_eq!(anchor_in(line), wanted, "{line}");
        }
        assert_eq!(parse_anchor(&format!("12:{hash}")), wanted);
        for other in ["", "audit anchor", "{\"message\":\"audit anchor\"}", "ready", "{\"MESSAGE\":\"audit anchor\"}"] {
            assert_eq!(anchor_in(other), None);
        }
    }
}
