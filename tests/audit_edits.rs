//! Every edit of an audit log is found: a thousand at random, of each kind that somebody might think of.

#[path = "common/edits.rs"]
mod edits;

use std::collections::BTreeMap;
use std::fs;

use edits::{EDITS, edit, read_files, replace_files, write_log};
use vouch::audit::chain::{Hash, Link};
use vouch::audit::store::{HEAD_FILE, file_name, read_head};
use vouch::audit::verify::{verify_dir, verify_files};

/// So many lines are far more than the daemon has between two anchors of the journal by default.
const RECORDS: usize = 60;

fn log() -> (tempfile::TempDir, edits::Files) {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path(), RECORDS);
    let files = read_files(folder.path());
    assert!(files.len() >= 4, "{}", files.len());
    (folder, files)
}

#[test]
fn a_thousand_random_edits_are_all_found_by_the_head_file_and_by_one_anchor() {
    let (folder, original) = log();
    let dir = folder.path();
    let report = verify_dir(dir, &[]).unwrap();
    assert!(report.is_whole() && report.notices.is_empty(), "{report:?}");
    assert_eq!(report.records as usize, RECORDS + 2);
    let anchor = read_head(dir).unwrap().unwrap();
    assert_eq!(report.hash, Some(anchor.hash.to_string()));

    let mut table: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut missed = Vec::new();
    for number in 0..1000_u64 {
        let kind = EDITS[number as usize % EDITS.len()];
        replace_files(dir, &edit(kind, &original, number));
        let by_head = verify_dir(dir, &[]).unwrap();
        let files: Vec<_> = read_files(dir).iter().map(|(name, _)| dir.join(name)).collect();
        let by_anchor = verify_files(&files, &[anchor]).unwrap();
        let counts = table.entry(kind).or_default();
        counts[0] += 1;
        counts[1] += usize::from(!by_head.is_whole());
        counts[2] += usize::from(!by_anchor.is_whole());
        if by_head.is_whole() || by_anchor.is_whole() {
            missed.push((number, kind, by_head.findings.len(), by_anchor.findings.len()));
        }
    }
    println!("{:<62}{:>6}{:>14}{:>16}", "edit", "done", "found by head", "found by anchor");
    for (kind, [done, by_head, by_anchor]) in &table {
        println!("{kind:<62}{done:>6}{by_head:>14}{by_anchor:>16}");
    }
    assert_eq!(missed, []);
}

#[test]
fn a_finding_says_where() {
    let (folder, original) = log();
    let dir = folder.path();
    let lines = |file: usize| original[file].1.split_inclusive(|&byte| byte == b'\n').collect::<Vec<_>>();
    let first_of_second = 1 + lines(0).len() as u64;
    let with = |file: usize, content: Vec<u8>| {
        let mut files = original.clone();
        files[file].1 = content;
        replace_files(dir, &files);
        let report = verify_dir(dir, &[]).unwrap();
        let one = &report.findings[0];
        let name = one.file.as_ref().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        (report.findings.len(), one.code, name, one.line, one.sequence)
    };
    let second = file_name(2);
    // A line altered.
    let mut content = original[1].1.clone();
    let at = lines(1)[0].len() + 200;
    content[at] ^= 1;
    let sequence = Some(first_of_second + 1);
    assert_eq!(with(1, content), (1, "ALTERED", second.clone(), Some(2), sequence));
    // Removed, and repeated.
    let gone: Vec<u8> =
        lines(1).iter().enumerate().filter(|(line, _)| *line != 2).flat_map(|(_, line)| *line).copied().collect();
    assert_eq!(with(1, gone), (1, "GAP", second.clone(), Some(3), Some(first_of_second + 3)));
    let mut twice = lines(1)[0].to_vec();
    twice.extend(&original[1].1);
    assert_eq!(with(1, twice), (1, "OUT_OF_ORDER", second.clone(), Some(2), Some(first_of_second)));
    // Cut at the end, between lines and within one.
    let last = original.len() - 1;
    let all = lines(last);
    let cut = all[..all.len() - 1].concat();
    assert_eq!(with(last, cut), (1, "CUT", HEAD_FILE.to_owned(), None, Some(RECORDS as u64 + 2)));
    let content = original[last].1[..original[last].1.len() - 9].to_vec();
    let (_, code, file, line, _) = with(last, content);
    assert_eq!((code, file, line), ("TORN", file_name(last as u64 + 1), Some(all.len() as u64)));
}

#[test]
fn anchors_find_a_log_that_was_made_anew_with_its_head() {
    let (folder, _) = log();
    let anchor = read_head(folder.path()).unwrap().unwrap();
    let other = tempfile::tempdir().unwrap();
    write_log(other.path(), RECORDS + 1);
    assert!(verify_dir(other.path(), &[]).unwrap().is_whole());
    let report = verify_dir(other.path(), &[anchor]).unwrap();
    assert_eq!(report.findings[0].code, "ANCHOR_DIFFERS");
    let beyond = Link { sequence: 1000, hash: Hash::of(b"x") };
    assert_eq!(verify_dir(other.path(), &[beyond]).unwrap().findings[0].code, "CUT");
    assert_eq!(verify_dir(folder.path(), &[anchor]).unwrap().anchors, 1);
}

#[test]
fn a_missing_head_and_a_missing_beginning_are_findings() {
    let (folder, original) = log();
    let dir = folder.path();
    fs::remove_file(dir.join(file_name(1))).unwrap();
    let report = verify_dir(dir, &[]).unwrap();
    assert_eq!(report.findings.iter().map(|one| one.code).collect::<Vec<_>>(), ["BEGINNING_MISSING"]);
    replace_files(dir, &original);
    fs::remove_file(dir.join(HEAD_FILE)).unwrap();
    assert_eq!(verify_dir(dir, &[]).unwrap().findings[0].code, "HEAD_MISSING");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(verify_dir(empty.path(), &[]).unwrap().findings[0].code, "NO_LOG");
}
