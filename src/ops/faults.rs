//! Places in the code where a test can make the daemon fail: nothing unless it was built with the feature `faults`, which no release has.
//!
//! Called by api, pipeline, inference, decoders and audit at the few places that [`POINTS`] lists. A test of the real binary names a folder in `TEST_FAULTS_DIR` and lays a file there
//! that bears the name of a point: whoever comes by next takes the file away and panics, so that one file is one fault, at a moment of the test's choosing. Left out: delays and
//! errors, which the tests make from outside.

#[cfg(all(feature = "faults", not(debug_assertions)))]
compile_error!("the feature `faults` is for tests: a build without debug assertions never has it");

/// Every point.
///
/// - `check`: a check, on its own thread.
/// - `decode`: the decoding of a picture, which several checks wait for.
/// - `door`: a handler, while it holds the lock of the door.
/// - `queue`: who asks a model, while holding the lock of its queue.
/// - `worker`: a model's worker, between taking a batch and running it.
/// - `events`: what tells the events of a verification to its caller.
/// - `audit`: the thread that writes the audit log, before a batch of records.
/// - `tick`: the same thread, each second.
/// - `starter`: the thread that starts decoder processes, whenever it does something.
/// - `reload`: a reload that has read everything and is about to put it in place.
pub const POINTS: [&str; 10] =
    ["check", "decode", "door", "queue", "worker", "events", "audit", "tick", "starter", "reload"];

/// Panics if a test wants it so.
#[cfg(feature = "faults")]
pub fn point(name: &'static str) {
    use std::sync::LazyLock;
    static FOLDER: LazyLock<Option<std::path::PathBuf>> =
        LazyLock::new(|| std::env::var_os("TEST_FAULTS_DIR").map(Into::into));
    debug_assert!(POINTS.contains(&name), "{name}");
    let is_wanted = FOLDER.as_ref().is_some_and(|folder| std::fs::remove_file(folder.join(name)).is_ok());
    assert!(!is_wanted, "a test wanted this");
}

/// Nothing.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_name: &'static str) {}
