//! Audit logs made up without a daemon, and what somebody might do to one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use vouch::audit::chain::{self, Hash, Link};
use vouch::audit::record::{self, Actor, CheckAnswer, Common, Draft, End, Event, Loaded, Medium};
use vouch::audit::salt::Salt;
use vouch::audit::store::{Bounds, Store, file_name, files};

/// A log as bytes: names and contents of its files, oldest first.
pub type Files = Vec<(String, Vec<u8>)>;

pub fn common() -> Common {
    Common { salt: Salt::new(&[7; 32]), scores: true, config_sha256: Hash::of(b"config").to_string() }
}

/// A record like those of `Verify`.
pub fn request(number: usize, common: &Common) -> String {
    let actor = Actor { uid: 1000, groups: vec![1000, 4], pid: Some(4711) };
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_200_000 + number as u64);
    let mut draft = Draft::new("Verify", format!("{number:016x}"), actor, started);
    draft.duration = Duration::from_millis(180);
    draft.end = End::ok();
    draft.outcome = Some("PASS");
    draft.asked = vec!["face_match", "passive_liveness"];
    draft.checks = ["face_match", "passive_liveness"].map(|check| answer(check, number)).to_vec();
    draft.media = vec![Arc::new(Medium::new("selfie", Bytes::from(format!("picture {number}"))))];
    draft.models = BTreeMap::from([("face_detector".to_owned(), Hash::of(b"model").to_string())]);
    record::request(&draft, common)
}

fn answer(check: &str, number: usize) -> CheckAnswer {
    CheckAnswer {
        check: check.into(),
        outcome: "PASS",
        operating_point: "fmr_1e-4".into(),
        warnings: vec!["MULTIPLE_FACES".into()],
        calibration_sha256: Hash::of(b"calibration").to_string(),
        score: Some(0.5 + number as f64 / 1000.0),
    }
}

/// Writes a log of so many verifications into a folder, in files of about ten.
pub fn write_log(dir: &Path, records: usize) {
    let common = common();
    let (mut store, found) = Store::open(dir, Bounds { max_file_bytes: 16 << 10, max_files: 0 }).unwrap();
    let start = Event::Start { head: found.head, torn: None, loaded: &Loaded::default() };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_200_000);
    store.append(&record::event(&start, &common, now)).unwrap();
    for number in 0..records {
        let body = request(number, &common);
        if store.is_full_for(&body) {
            store.rotate().unwrap();
        }
        store.append(&body).unwrap();
    }
    store.append(&record::event(&Event::Stop, &common, now)).unwrap();
    store.sync().unwrap();
}

pub fn read_files(dir: &Path) -> Files {
    files(dir).unwrap().into_iter().map(|(number, path)| (file_name(number), fs::read(path).unwrap())).collect()
}

/// Puts altered files in the place of those that are there.
pub fn replace_files(dir: &Path, altered: &Files) {
    for (_, path) in files(dir).unwrap() {
        fs::remove_file(path).unwrap();
    }
    for (name, content) in altered {
        fs::write(dir.join(name), content).unwrap();
    }
}

/// What is done to a log.
pub const EDITS: [&str; 14] = [
    "flip a bit",
    "remove a byte",
    "insert a byte",
    "remove a line",
    "repeat a line",
    "swap two lines",
    "move a line to another file",
    "cut whole lines at the end",
    "cut a file anywhere",
    "change a field",
    "change a field and its own hash",
    "change a field and seal all lines after it in the file anew",
    "swap two files",
    "remove a file",
];

/// Does one of [`EDITS`], somewhere. The bytes of the log are others afterwards.
pub fn edit(kind: &str, original: &Files, seed: u64) -> Files {
    let mut random = Pcg64::seed_from_u64(seed);
    loop {
        let mut files = original.clone();
        let at = random.random_range(0..files.len());
        let other = random.random_range(0..files.len());
        let byte = random.random_range(0..files[at].1.len());
        let mut lines = lines_of(&files[at].1);
        let line = random.random_range(0..lines.len());
        match kind {
            "flip a bit" => files[at].1[byte] ^= 1 << random.random_range(0..8),
            "remove a byte" => drop(files[at].1.remove(byte)),
            "insert a byte" => files[at].1.insert(byte, random.random()),
            "remove a line" => {
                lines.remove(line);
                files[at].1 = lines.concat();
            }
            "repeat a line" => {
                lines.insert(random.random_range(0..=lines.len()), lines[line].clone());
                files[at].1 = lines.concat();
            }
            "swap two lines" => {
                let with = random.random_range(0..lines.len());
                lines.swap(line, with);
                files[at].1 = lines.concat();
            }
            "move a line to another file" => {
                let moved = lines.remove(line);
                files[at].1 = lines.concat();
                let mut into = lines_of(&files[other].1);
                into.insert(random.random_range(0..=into.len()), moved);
                files[other].1 = into.concat();
            }
            "cut whole lines at the end" => {
                let last = files.len() - 1;
                let mut lines = lines_of(&files[last].1);
                lines.truncate(random.random_range(0..lines.len()));
                files[last].1 = lines.concat();
            }
            "cut a file anywhere" => files[at].1.truncate(byte),
            "change a field" => {
                lines[line] = with_field_changed(&lines[line]);
                files[at].1 = lines.concat();
            }
            "change a field and its own hash" => {
                let changed = with_field_changed(&lines[line]);
                lines[line] = resealed(&changed, before(&changed)).1;
                files[at].1 = lines.concat();
            }
            "change a field and seal all lines after it in the file anew" => {
                lines[line] = with_field_changed(&lines[line]);
                let mut last = before(&lines[line]);
                for one in &mut lines[line..] {
                    (last, *one) = resealed(one, last);
                }
                files[at].1 = lines.concat();
            }
            "swap two files" => {
                let content = std::mem::take(&mut files[at].1);
                files[at].1 = std::mem::replace(&mut files[other].1, content);
                if at == other {
                    continue;
                }
            }
            "remove a file" => drop(files.remove(at)),
            _ => panic!("no such edit: {kind}"),
        }
        if files != *original {
            return files;
        }
    }
}

fn lines_of(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// The time made one greater: a second of another sequence of digits of the same length.
fn with_field_changed(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).unwrap();
    let from = text.find("\"time\":").unwrap() + 7;
    let digits = text[from..].find(|end: char| !end.is_ascii_digit()).unwrap();
    let time: u64 = text[from..from + digits].parse().unwrap();
    format!("{}{}{}", &text[..from], time + 1, &text[from + digits..]).into_bytes()
}

/// What a line says it follows.
fn before(line: &[u8]) -> Link {
    let claim = chain::read(line.trim_ascii_end()).unwrap();
    Link { sequence: claim.sequence - 1, hash: claim.previous }
}

/// The line as it would have been written after `last`.
fn resealed(line: &[u8], last: Link) -> (Link, Vec<u8>) {
    let text = std::str::from_utf8(line.trim_ascii_end()).unwrap();
    // `{"sequence":N,"previous":"…",` before and `,"hash":"…"}` behind.
    let from = text.find("\"previous\":\"").unwrap() + 12 + 64 + 2;
    let body = format!("{{{}}}", &text[from..text.len() - 75]);
    let (link, line) = chain::seal(last, &body);
    (link, line.into_bytes())
}
