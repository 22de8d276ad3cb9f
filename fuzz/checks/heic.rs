//! Any bytes behind the mark of a HEIC file through `imaging::decode`, as in the target `decode`.
//!
//! Run by the fuzz target `heic` and, on the committed corpus, by `tests/fuzz_corpus.rs`. libheif and libde265 are the host's: they are not instrumented, so that the fuzzer
//! sees nothing of their branches, and errors in memory show only where they end the process. Without them every file is refused.

use super::decode;

/// What libde265 takes for a frame that is larger than declared is not bounded by the header (see `imaging::heic`), so this is no promise but what shows its absence.
pub const MAX_BYTES: usize = 1 << 30;

pub fn check(bytes: &[u8]) {
    let mut file = bytes.to_vec();
    if let Some(mark) = file.get_mut(4..8) {
        mark.copy_from_slice(b"ftyp");
        decode::picture(&file);
    }
}
