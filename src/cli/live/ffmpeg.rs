//! The program `ffmpeg` as a child process: started, listened to, and reaped however the command ends.
//!
//! Called by `media`, which reads from it, and by `draw`, which writes into it. Leaves its arguments to them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cli::connect::Failure;

/// How many of its last lines are kept to explain a failure.
const KEPT_LINES: usize = 3;

/// How often an ending is looked for; short beside what ffmpeg takes to start.
const POLL: Duration = Duration::from_millis(10);

/// A running `ffmpeg`. Dropping it ends it.
#[derive(Debug)]
pub struct Ffmpeg {
    child: Killer,
    words: Option<JoinHandle<String>>,
}

/// Ends an `ffmpeg` from another thread than the one that reads from it or writes into it.
#[derive(Debug, Clone)]
pub struct Killer(Arc<Mutex<Child>>);

impl Killer {
    pub fn kill(&self) {
        let mut child = self.lock();
        // Both fail only if it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        // Nothing that panics is done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which end of it is used.
#[derive(Debug, Clone, Copy)]
pub enum Pipe {
    Reading,
    Writing,
}

impl Ffmpeg {
    /// Starts it with these arguments. Each line that it writes to standard error goes to `take` first; the last of those that
    /// `take` does not want are kept for [`Ffmpeg::end`].
    ///
    /// # Errors
    /// [`Failure::BadInput`] if it is not installed, [`Failure::Runtime`] if it cannot be started.
    pub fn start(
        arguments: &[OsString],
        pipe: Pipe,
        mut take: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Result<Self, Failure> {
        let (stdin, stdout) = match pipe {
            Pipe::Reading => (Stdio::null(), Stdio::piped()),
            Pipe::Writing => (Stdio::piped(), Stdio::null()),
        };
        let mut child = Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-nostats", "-loglevel", "error"])
            .args(arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            // A key that interrupts the command on a terminal reaches the command alone, which then ends its child in good order.
            .process_group(0)
            .spawn()
            .map_err(not_started)?;
        let words = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let (mut reader, mut line) = (BufReader::new(stderr), Vec::new());
                let mut kept = VecDeque::new();
                while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                    let text = String::from_utf8_lossy(&line);
                    let text = text.trim();
                    if !text.is_empty() && !take(text) {
                        kept.truncate(KEPT_LINES - 1);
                        kept.push_front(text.chars().take(300).collect::<String>());
                    }
                    line.clear();
                }
                kept.into_iter().rev().collect::<Vec<_>>().join("; ")
            })
        });
        Ok(Self { child: Killer(Arc::new(Mutex::new(child))), words })
    }

    /// Its output; once.
    pub fn take_output(&self) -> Option<ChildStdout> {
        self.child.lock().stdout.take()
    }

    /// Its input; once. It ends by itself when this is dropped.
    pub fn take_input(&self) -> Option<ChildStdin> {
        self.child.lock().stdin.take()
    }

    pub fn killer(&self) -> Killer {
        self.child.clone()
    }

    /// Waits until it has ended, and ends it after `patience`. The result tells whether it did its work, the error its last words.
    ///
    /// # Errors
    /// Its last lines.
    pub fn end(mut self, patience: Duration) -> Result<(), String> {
        let until = Instant::now() + patience;
        let succeeded = loop {
            let state = self.child.lock().try_wait();
            match state {
                Ok(Some(status)) => break status.success(),
                Ok(None) if Instant::now() < until => std::thread::sleep(POLL),
                Ok(None) | Err(_) => break false,
            }
        };
        self.child.kill();
        let words = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        match (succeeded, words.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => Err("ffmpeg failed".into()),
            (false, false) => Err(words),
        }
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        self.child.kill();
    }
}

/// Makes sure that it is installed, before anything is asked of the daemon.
///
/// # Errors
/// [`Failure::BadInput`] if it is not installed, [`Failure::Runtime`] if it cannot be started.
pub fn find() -> Result<(), Failure> {
    let status = Command::new("ffmpeg")
        .arg("-version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.map(drop).map_err(not_started)
}

fn not_started(error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::BadInput(
            "videos and cameras are read, and videos written, through the program ffmpeg, which is not installed; it \
             comes with the package ffmpeg (apt-get install ffmpeg), and 5.1 is the oldest release that will do"
                .into(),
        ),
        _ => Failure::Runtime(error),
    }
}

/// What the operating system says, without Rust's "(os error 2)".
pub fn io_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// What ffmpeg says about a file, without the file's name in front.
pub fn without_name<'a>(path: &Path, words: &'a str) -> &'a str {
    let unprefixed = words.strip_prefix("file:").unwrap_or(words);
    unprefixed.strip_prefix(&*path.to_string_lossy()).map_or(words, |rest| rest.trim_start_matches([':', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_explained_with_its_package() {
        let failure = not_started(ErrorKind::NotFound.into());
        assert_eq!(failure.exit_code(), crate::error::exit::DATA_ERR);
        assert!(failure.to_string().contains("apt-get install ffmpeg"));
    }
}
