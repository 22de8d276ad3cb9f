//! Any bytes as an audit log, and any edit of a good one: a log that is found whole is a chain, and no edit of a good one goes unseen.
//!
//! Run by the fuzz target `audit` and, on the committed corpus, by `tests/fuzz_corpus.rs`. The first byte chooses: a log as it stands, its files parted by zero bytes and
//! the head file first; a line of the journal; or an edit of a log of sealed records, by two numbers for the place and the bytes that shall stand there.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use vouch::audit::chain::{self, Hash, Link};
use vouch::audit::store::{HEAD_FILE, file_name, files, read_head};
use vouch::audit::verify::{anchor_in, parse_anchor, verify_dir, verify_files};

/// Lines of up to 1 MiB, as text and as JSON.
pub const MAX_BYTES: usize = 64 << 20;

pub fn check(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    match mode % 3 {
        0 => log(rest),
        1 => journal(&String::from_utf8_lossy(rest)),
        _ => edit(rest),
    }
}

fn log(bytes: &[u8]) {
    thread_local!(static FOLDER: TempDir = TempDir::new().expect("a temporary folder"));
    FOLDER.with(|folder| {
        let dir = folder.path();
        for entry in fs::read_dir(dir).expect("the folder").flatten() {
            fs::remove_file(entry.path()).expect("a file of the last run");
        }
        let mut parts = bytes.split(|byte| *byte == 0);
        fs::write(dir.join(HEAD_FILE), parts.next().unwrap_or_default()).expect("a written head");
        for (number, part) in (1..).zip(parts.take(3)) {
            fs::write(dir.join(file_name(number)), part).expect("a written file");
        }
        judged(dir);
    });
}

/// Verifies a folder; what is found whole is looked at once more, by other means.
fn judged(dir: &Path) {
    let paths: Vec<_> = files(dir).expect("the folder").into_iter().map(|(_, path)| path).collect();
    let anchors: Vec<Link> = read_head(dir).expect("a file of our own").into_iter().collect();
    let report = verify_dir(dir, &anchors).expect("files that can be read");
    let of_files = verify_files(&paths, &anchors).expect("files that can be read");
    assert_eq!(of_files.records, report.records);
    assert!(report.findings.iter().chain(&report.notices).all(|finding| finding.code.is_ascii()));
    if !report.is_whole() {
        return;
    }
    let text: Vec<u8> = paths.iter().flat_map(|path| fs::read(path).expect("the file")).collect();
    let mut last: Option<Link> = None;
    let mut records = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        // A torn line that the next start tells of is a notice.
        let Some(claim) = line.strip_suffix(b"\n").and_then(chain::read) else { continue };
        assert!(claim.is_sound);
        if let Some(last) = last {
            assert_eq!((claim.sequence, claim.previous), (last.sequence + 1, last.hash));
        }
        last = Some(claim.link());
        records += 1;
    }
    assert_eq!(records, report.records);
    assert_eq!(last.map(|last| last.hash.to_string()), report.hash);
}

fn journal(line: &str) {
    for link in [parse_anchor(line), anchor_in(line)].into_iter().flatten() {
        let text = format!("{}:{}", link.sequence, link.hash);
        assert_eq!(parse_anchor(&text), Some(link));
        let json =
            format!("{{\"message\":\"audit anchor\",\"sequence\":{},\"hash\":\"{}\"}}", link.sequence, link.hash);
        assert_eq!(anchor_in(&json), Some(link));
    }
}

/// A log of three records in two files, in which some bytes are replaced.
fn edit(bytes: &[u8]) {
    let [from, length, with @ ..] = bytes else { return };
    let mut last = Link::NONE;
    let mut lines = Vec::new();
    for body in [r#"{"class_uid":6003,"text":"a"}"#, r#"{"class_uid":6003,"text":"b \"hash\""}"#, r#"{"time":3}"#] {
        let line;
        (last, line) = chain::seal(last, body);
        lines.push(line);
    }
    let good = [lines[..2].concat(), lines[2].clone()];
    let whole = good.concat().into_bytes();
    // Two files of some 560 bytes: in steps of three bytes every place can be reached.
    let from = (usize::from(*from) * 3).min(whole.len());
    let end = (from + usize::from(*length)).min(whole.len());
    let mut edited = whole.clone();
    edited.splice(from..end, with.iter().copied());
    if edited == whole {
        return;
    }
    thread_local!(static FOLDER: TempDir = TempDir::new().expect("a temporary folder"));
    FOLDER.with(|folder| {
        let dir = folder.path();
        let parted = edited.len().min(good[0].len());
        for (number, part) in (1..).zip([&edited[..parted], &edited[parted..]]) {
            fs::write(dir.join(file_name(number)), part).expect("a written file");
        }
        let head = format!("{{\"sequence\":{},\"hash\":\"{}\"}}", last.sequence, last.hash);
        fs::write(dir.join(HEAD_FILE), head).expect("a written head");
        let report = verify_dir(dir, &[]).expect("files that can be read");
        assert!(!report.is_whole(), "{} bytes at {from} became {} others, unseen", end - from, with.len());
        judged(dir);
        // Without the head, an anchor shows it as well, unless what was cut off or added is behind it.
        assert_ne!(Hash::of(&edited), Hash::of(&whole));
    });
}
