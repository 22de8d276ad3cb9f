//! The chain: each line carries its number, the hash of the line before it, and its own hash.
//!
//! A line is one JSON object that begins with `{"sequence":N,"previous":"HASH",` and ends with `,"hash":"HASH"}` and a line feed. Its hash is the SHA-256 of the line's
//! bytes before `,"hash":"`, so that `sha256sum` can repeat it without knowing JSON. The first line of a log has the number 1 and follows [`Hash::NONE`]. Pure: used
//! by the writer (`store`) and by who verifies.

use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What the first line of a log follows.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 hexadecimal digits in lower case. Only one spelling is taken, so that no byte of a log can be changed without notice.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let bytes = text.as_bytes();
        let mut hash = [0; 32];
        if bytes.len() != 64 {
            return None;
        }
        for (value, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *value = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub sequence: u64,
    pub hash: Hash,
}

impl Link {
    /// Before the first line.
    pub const NONE: Self = Self { sequence: 0, hash: Hash::NONE };
}

/// A line as it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub sequence: u64,
    pub previous: Hash,
    pub hash: Hash,
    /// True if the hash is that of the line's text.
    pub is_sound: bool,
}

impl Claim {
    pub fn link(&self) -> Link {
        Link { sequence: self.sequence, hash: self.hash }
    }
}

const BEGIN: &str = "{\"sequence\":";
const PREVIOUS: &str = ",\"previous\":\"";
const HASH: &str = ",\"hash\":\"";
const END: &str = "\"}";

/// The line that follows `last`, with its line feed. `body` is a JSON object of at least one key, on one line.
pub fn seal(last: Link, body: &str) -> (Link, String) {
    let sequence = last.sequence + 1;
    let mut line = format!("{BEGIN}{sequence}{PREVIOUS}{}\",{}", last.hash, &body[1..body.len() - 1]);
    let hash = Hash::of(line.as_bytes());
    line.push_str(&format!("{HASH}{hash}{END}\n"));
    (Link { sequence, hash }, line)
}

/// Reads a line without its line feed; `None` if it is not of the form.
pub fn read(line: &[u8]) -> Option<Claim> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix(BEGIN)?;
    let (number, rest) = rest.split_once(PREVIOUS)?;
    let sequence: u64 = number.parse().ok()?;
    // One spelling alone: no sign, no leading zero.
    if sequence.to_string() != number {
        return None;
    }
    let previous = Hash::parse(rest.get(..64)?)?;
    let rest = rest[64..].strip_prefix("\",")?;
    let tail_bytes = HASH.len() + 64 + END.len();
    let tail = rest.get(rest.len().checked_sub(tail_bytes)?..)?;
    let hash = Hash::parse(tail.strip_prefix(HASH)?.strip_suffix(END)?)?;
    let is_sound = Hash::of(&line.as_bytes()[..line.len() - tail_bytes]) == hash;
    Some(Claim { sequence, previous, hash, is_sound })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_line_is_json_and_read_back() {
        let (first, line) = seal(Link::NONE, r#"{"time":1,"text":"a \"hash\" b"}"#);
        let claim = read(line.trim_end().as_bytes()).unwrap();
        assert_eq!((claim.sequence, claim.previous, claim.hash, claim.is_sound), (1, Hash::NONE, first.hash, true));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (json["sequence"].as_u64(), json["hash"].as_str()),
            (Some(1), Some(first.hash.to_string().as_str()))
        );
        let (second, line) = seal(first, r#"{"time":2}"#);
        assert_eq!(read(line.trim_end().as_bytes()).unwrap().previous, first.hash);
        assert_eq!(second.sequence, 2);
    }

    #[test]
    fn every_flipped_bit_of_a_line_is_seen() {
        let (_, line) = seal(Link { sequence: 41, hash: Hash::of(b"x") }, r#"{"time":1}"#);
        let line = line.trim_end().as_bytes();
        for byte in 0..line.len() {
            for bit in 0..8 {
                let mut altered = line.to_vec();
                altered[byte] ^= 1 << bit;
                assert!(read(&altered).is_none_or(|claim| !claim.is_sound), "byte {byte}, bit {bit}");
            }
        }
    }

    #[test]
    fn other_spellings_are_not_taken() {
        for text in ["", "{}", "{\"sequence\":1}", "{\"sequence\":01,\"previous\":\"", "\u{fffd}"] {
            assert_eq!(read(text.as_bytes()), None);
        }
        assert_eq!(Hash::parse(&"A".repeat(64)), None);
        assert_eq!(Hash::parse(&"é".repeat(32)), None);
    }
}
