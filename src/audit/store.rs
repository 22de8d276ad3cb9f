//! The files of the log: append, sync, rotate, keep so many, and go on where a former daemon ended, however it ended.
//!
//! A folder holds `audit-00000001.jsonl`, `audit-00000002.jsonl`, …, the newest last, and `audit.head`, which says how far the log goes. Files are opened for appending
//! and each line is one write; what a write that failed has left is cut off at once, so that no file has half a line in its middle. What a daemon that was killed or
//! a power cut has left at the end of a file stays as it is: the next file begins by saying what it is. Called by `writer`, from its thread alone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde_json::json;

use super::chain::{self, Hash, Link};
use super::record::Torn;

/// The state beside the log.
pub const HEAD_FILE: &str = "audit.head";

/// The state has always this length, so that writing it needs no room on a full disk, and is one write within a sector.
const HEAD_BYTES: usize = 256;

/// How far back from the end of a file its last whole line is looked for. Records have some kilobytes.
const TAIL_BYTES: u64 = 1 << 20;

/// Name of a file by its number.
pub fn file_name(number: u64) -> String {
    format!("audit-{number:08}.jsonl")
}

/// Number of a file by its name.
pub fn file_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    number.parse().ok().filter(|&parsed| file_name(parsed) == name)
}

/// The files of a log, oldest first.
///
/// # Errors
/// If the folder cannot be read.
pub fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(file_number) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// What the head file says; `None` if there is none, or it is none.
///
/// # Errors
/// If it is there and this process may not read it.
pub fn read_head(dir: &Path) -> io::Result<Option<Link>> {
    let path = dir.join(HEAD_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(parse_head(&text)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        }
        Err(_) => Ok(None),
    }
}

fn parse_head(text: &str) -> Option<Link> {
    let state: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(Link { sequence: state["sequence"].as_u64()?, hash: Hash::parse(state["hash"].as_str()?)? })
}

/// How large files become and how many are kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A record that would make a file larger begins the next one.
    pub max_file_bytes: u64,
    /// 0: all.
    pub max_files: usize,
}

/// An open log.
pub struct Store {
    dir: PathBuf,
    bounds: Bounds,
    number: u64,
    file: File,
    /// Bytes of whole lines in the file.
    whole_bytes: u64,
    last: Link,
    /// Its lock keeps a second daemon away.
    head: Flock<File>,
    /// Something was written since the last [`Store::sync`].
    is_dirty: bool,
    /// The state was written since the last [`Store::settle`].
    is_head_dirty: bool,
}

/// In what state a log was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub head: Option<Link>,
    pub torn: Option<Torn>,
}

impl Store {
    /// Opens the log in a folder, which is made if it is missing. Where the head file says that the log went on beyond what is there, or ends otherwise, the chain
    /// goes on from the head, so that what is missing stays missing for ever.
    ///
    /// # Errors
    /// If the folder cannot be used, or another daemon does.
    pub fn open(dir: &Path, bounds: Bounds) -> io::Result<(Self, Found)> {
        if !dir.exists() {
            DirBuilder::new().recursive(true).create(dir)?;
            // The group may read, whatever the process's mask.
            fs::set_permissions(dir, Permissions::from_mode(0o750))?;
        }
        let head = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(dir.join(HEAD_FILE))?;
        head.set_permissions(Permissions::from_mode(0o640))?;
        let mut head = Flock::lock(head, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            Errno::EWOULDBLOCK => io::Error::new(io::ErrorKind::ResourceBusy, "another vouchd writes this audit log"),
            error => error.into(),
        })?;
        let mut state = String::new();
        // What is not text is no state.
        let said = head.read_to_string(&mut state).ok().and_then(|_| parse_head(&state));
        let Ending { newest, last, torn, is_damaged } = ending(dir)?;
        let last = match said {
            // Ahead of the log, or at its end with another hash: lines are missing or were altered.
            Some(said) if said.sequence > last.sequence || (said.sequence == last.sequence && said != last) => said,
            _ => last,
        };
        let (number, file, whole_bytes) = match newest {
            // An empty one was begun after what is torn or damaged, and nothing could be written to it.
            Some((number, bytes)) if bytes == 0 || (torn.is_none() && !is_damaged) => {
                (number, append_to(&dir.join(file_name(number)), false)?, bytes)
            }
            newest => {
                let number = newest.map_or(0, |(number, _)| number) + 1;
                let file = append_to(&dir.join(file_name(number)), true)?;
                File::open(dir)?.sync_all()?;
                (number, file, 0)
            }
        };
        let store = Self {
            dir: dir.to_owned(),
            bounds,
            number,
            file,
            whole_bytes,
            last,
            head,
            is_dirty: false,
            is_head_dirty: true,
        };
        store.write_head()?;
        Ok((store, Found { head: said, torn }))
    }

    /// The last line.
    pub fn last(&self) -> Link {
        self.last
    }

    /// True if a body of this length would begin the next file.
    pub fn is_full_for(&self, body: &str) -> bool {
        // A line has some 160 bytes beside its body; a file has one line at least.
        self.whole_bytes > 0 && self.whole_bytes + body.len() as u64 + 160 > self.bounds.max_file_bytes
    }

    /// Adds a line with one write. It is on the disk after [`Store::sync`].
    ///
    /// # Errors
    /// Nothing is left of the line then, or cut off before the next one.
    pub fn append(&mut self, body: &str) -> io::Result<Link> {
        let length = self.file.metadata()?.len();
        if length > self.whole_bytes {
            // Left by a write that failed, and could not be cut off then.
            self.file.set_len(self.whole_bytes)?;
        } else if length < self.whole_bytes {
            // Somebody else has cut the file. The chain shows what is missing; a line that was cut must not take the next one with it.
            if ends_with_line_feed(&self.dir.join(file_name(self.number)), length)? {
                self.whole_bytes = length;
            } else {
                self.begin_file()?;
            }
        }
        let (link, line) = chain::seal(self.last, body);
        self.is_dirty = true;
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // If this fails too, the next attempt does it.
            let _ = self.file.set_len(self.whole_bytes);
            return Err(error);
        }
        self.whole_bytes += line.len() as u64;
        self.last = link;
        Ok(link)
    }

    /// Puts all lines on the disk, and then says how far they go. That state reaches the disk with [`Store::settle`]: a power cut may leave an older one, which knows less
    /// but nothing wrong, and a second wait for the disk is spared.
    ///
    /// # Errors
    /// Lines may be lost in a power cut then.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.is_dirty {
            self.file.sync_data()?;
            self.write_head()?;
            (self.is_dirty, self.is_head_dirty) = (false, true);
        }
        Ok(())
    }

    /// Puts all lines and the state on the disk.
    ///
    /// # Errors
    /// As [`Store::sync`].
    pub fn settle(&mut self) -> io::Result<()> {
        self.sync()?;
        if self.is_head_dirty {
            self.head.sync_data()?;
            self.is_head_dirty = false;
        }
        Ok(())
    }

    /// Says how far the log goes, not yet on the disk.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_head(&self) -> io::Result<()> {
        let (file, hash) = (file_name(self.number), self.last.hash.to_string());
        let mut text = json!({"file": file, "sequence": self.last.sequence, "hash": hash}).to_string();
        text.extend(std::iter::repeat_n(' ', HEAD_BYTES - 1 - text.len()));
        text.push('\n');
        self.head.write_all_at(text.as_bytes(), 0)?;
        // A longer one was not written here.
        self.head.set_len(HEAD_BYTES as u64)
    }

    /// Begins the next file.
    ///
    /// # Errors
    /// The log goes on in the old file then.
    pub fn rotate(&mut self) -> io::Result<()> {
        self.settle()?;
        self.begin_file()
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let number = self.number + 1;
        let path = self.dir.join(file_name(number));
        // There is one already, and empty, if an attempt before failed at what comes next.
        let is_new = !fs::metadata(&path).is_ok_and(|found| found.len() == 0);
        let file = append_to(&path, is_new)?;
        File::open(&self.dir)?.sync_all()?;
        (self.number, self.file, self.whole_bytes) = (number, file, 0);
        Ok(())
    }

    /// The files that are too many, and the last line of them; `None` if there are not.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn too_many(&self) -> io::Result<Option<(Vec<String>, Link)>> {
        if self.bounds.max_files == 0 {
            return Ok(None);
        }
        let files = files(&self.dir)?;
        let Some(count) = files.len().checked_sub(self.bounds.max_files).filter(|&count| count > 0) else {
            return Ok(None);
        };
        // What the first file that is kept follows is the last line of those before it.
        let mut through = self.last;
        for (_, path) in &files[count..] {
            if let Some(claim) = first_line(path)?.as_deref().and_then(chain::read) {
                through = Link { sequence: claim.sequence.saturating_sub(1), hash: claim.previous };
                break;
            }
        }
        Ok(Some((files[..count].iter().map(|(number, _)| file_name(*number)).collect(), through)))
    }

    /// Removes files.
    ///
    /// # Errors
    /// Those of removing; what is gone already is none.
    pub fn remove(&self, names: &[String]) -> io::Result<()> {
        for name in names {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(&self.dir)?.sync_all()
    }
}

fn append_to(path: &Path, is_new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(is_new).mode(0o640).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = options.open(path)?;
    if is_new {
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    Ok(file)
}

fn ends_with_line_feed(path: &Path, length: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if length > 0 {
        File::open(path)?.read_exact_at(&mut last, length - 1)?;
    }
    Ok(last == [b'\n'])
}

fn first_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut start = Vec::new();
    File::open(path)?.take(TAIL_BYTES).read_to_end(&mut start)?;
    Ok(start.iter().position(|&byte| byte == b'\n').map(|end| start[..end].to_vec()))
}

/// How a log ends.
struct Ending {
    /// Number and length of the newest file.
    newest: Option<(u64, u64)>,
    /// The last sound line.
    last: Link,
    /// The end of the newest file that is not empty, if it is no whole line.
    torn: Option<Torn>,
    /// The last whole line is none of the log.
    is_damaged: bool,
}

fn ending(dir: &Path) -> io::Result<Ending> {
    let mut has_content = false;
    let mut ending = Ending { newest: None, last: Link::NONE, torn: None, is_damaged: false };
    for (number, path) in files(dir)?.into_iter().rev() {
        let mut file = File::open(&path)?;
        let length = file.metadata()?.len();
        ending.newest.get_or_insert((number, length));
        let is_newest_with_content = length > 0 && !has_content;
        has_content |= length > 0;
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if is_newest_with_content && whole < tail.len() {
            let rest = &tail[whole..];
            ending.torn = Some(Torn { file: file_name(number), bytes: rest.len() as u64, hash: Hash::of(rest) });
        }
        let mut lines = tail[..whole].split(|&byte| byte == b'\n').rev().skip(1);
        let Some(last) = lines.next() else { continue };
        let sound = |line: &[u8]| chain::read(line).filter(|claim| claim.is_sound);
        let found = sound(last);
        ending.is_damaged |= found.is_none();
        if let Some(claim) = found.or_else(|| lines.find_map(sound)) {
            ending.last = claim.link();
            break;
        }
    }
    Ok(ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max_file_bytes: 1 << 20, max_files: 0 };

    fn content(dir: &Path, number: u64) -> Vec<u8> {
        fs::read(dir.join(file_name(number))).unwrap()
    }

    /// It was: the head file had the mode that the unit's mask left, and who read the log as the group found a damaged one.
    #[test]
    fn the_group_may_read_all_of_it_whatever_the_mask() {
        let folder = tempfile::tempdir().unwrap();
        let head = folder.path().join(HEAD_FILE);
        fs::write(&head, "").unwrap();
        fs::set_permissions(&head, Permissions::from_mode(0o600)).unwrap();
        let _store = Store::open(folder.path(), BOUNDS).unwrap();
        for name in [HEAD_FILE.to_owned(), file_name(1)] {
            let mode = fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{name}");
        }
    }

    fn filled(lines: usize) -> (tempfile::TempDir, Link) {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, found) = Store::open(folder.path(), BOUNDS).unwrap();
        assert_eq!(found, Found { head: None, torn: None });
        for line in 0..lines {
            store.append(&format!("{{\"line\":{line}}}")).unwrap();
        }
        store.sync().unwrap();
        let last = store.last();
        (folder, last)
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let (folder, last) = filled(3);
        let (mut store, found) = Store::open(folder.path(), BOUNDS).unwrap();
        assert_eq!((found.head, found.torn, store.last()), (Some(last), None, last));
        assert_eq!(store.append("{\"a\":1}").unwrap().sequence, 4);
        assert_eq!(files(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_torn_line_stays_and_the_next_file_goes_on() {
        let (folder, last) = filled(3);
        let mut whole = content(folder.path(), 1);
        whole.extend(b"{\"sequence\":4,\"prev");
        fs::write(folder.path().join(file_name(1)), &whole).unwrap();
        let (store, found) = Store::open(folder.path(), BOUNDS).unwrap();
        let torn = found.torn.unwrap();
        assert_eq!((torn.file.as_str(), torn.bytes), (file_name(1).as_str(), 19));
        assert_eq!((store.last(), store.number), (last, 2));
        assert_eq!(content(folder.path(), 1), whole);
    }

    #[test]
    fn a_torn_line_is_told_by_the_first_start_that_can_write() {
        let (folder, last) = filled(3);
        let mut whole = content(folder.path(), 1);
        whole.extend(b"{\"sequence\":4,\"prev");
        fs::write(folder.path().join(file_name(1)), &whole).unwrap();
        // Each begins the next file, or uses it, and writes nothing.
        for _ in 0..3 {
            let (store, found) = Store::open(folder.path(), BOUNDS).unwrap();
            assert_eq!((found.torn.unwrap().bytes, store.last(), store.number), (19, last, 2));
        }
        let (mut store, _) = Store::open(folder.path(), BOUNDS).unwrap();
        store.append("{\"a\":1}").unwrap();
        drop(store);
        let (store, found) = Store::open(folder.path(), BOUNDS).unwrap();
        assert_eq!((found.torn, store.number, store.last().sequence), (None, 2, 4));
    }

    #[test]
    fn a_log_that_was_cut_goes_on_from_its_head() {
        let (folder, last) = filled(5);
        let whole = content(folder.path(), 1);
        let cut = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        fs::write(folder.path().join(file_name(1)), &whole[..cut]).unwrap();
        let (store, found) = Store::open(folder.path(), BOUNDS).unwrap();
        assert_eq!((found.head, store.last()), (Some(last), last));
        drop(store);
        // All of it gone.
        fs::remove_file(folder.path().join(file_name(1))).unwrap();
        let (store, _) = Store::open(folder.path(), BOUNDS).unwrap();
        assert_eq!(store.last(), last);
    }

    #[test]
    fn a_file_that_a_crash_left_empty_is_used() {
        let (folder, last) = filled(2);
        fs::write(folder.path().join(file_name(2)), "").unwrap();
        let (mut store, _) = Store::open(folder.path(), BOUNDS).unwrap();
        assert_eq!((store.last(), store.number), (last, 2));
        store.append("{\"a\":1}").unwrap();
        assert!(content(folder.path(), 2).starts_with(b"{\"sequence\":3,"));
    }

    #[test]
    fn a_second_daemon_is_kept_away() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Store::open(folder.path(), BOUNDS).unwrap();
        assert_eq!(Store::open(folder.path(), BOUNDS).err().unwrap().kind(), io::ErrorKind::ResourceBusy);
    }

    /// It was: the log went on in a file whose place in the folder was never put on the disk.
    #[test]
    fn a_file_that_cannot_be_begun_leaves_the_log_in_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path(), BOUNDS).unwrap();
        store.append("{\"a\":1}").unwrap();
        // Files can be made in the folder, but it cannot be opened to be put on the disk; as another user, since root can.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o300)).unwrap();
        let nobody = nix::unistd::geteuid().is_root().then_some(65_534);
        std::os::unix::fs::chown(folder.path(), nobody, None).unwrap();
        let mut store = std::thread::spawn(move || {
            nobody.inspect(|uid| {
                // SAFETY: a plain system call, which changes this thread alone.
                unsafe { nix::libc::syscall(nix::libc::SYS_setfsuid, *uid) };
            });
            let refused = store.rotate().unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            assert_eq!((store.number, store.append("{\"a\":2}").unwrap().sequence), (1, 2));
            store
        })
        .join()
        .unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(content(folder.path(), 1).iter().filter(|&&byte| byte == b'\n').count(), 2);
        // The attempt has left an empty file, which the next one takes.
        store.rotate().unwrap();
        store.append("{\"a\":3}").unwrap();
        assert!(content(folder.path(), 2).starts_with(b"{\"sequence\":3,"));
    }

    #[test]
    fn a_line_cut_by_somebody_else_does_not_take_the_next_one_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path(), BOUNDS).unwrap();
        store.append("{\"a\":1}").unwrap();
        store.append("{\"a\":2}").unwrap();
        let length = content(folder.path(), 1).len() as u64;
        OpenOptions::new().write(true).open(folder.path().join(file_name(1))).unwrap().set_len(length - 5).unwrap();
        store.append("{\"a\":3}").unwrap();
        assert!(content(folder.path(), 2).starts_with(b"{\"sequence\":3,"));
    }
}
