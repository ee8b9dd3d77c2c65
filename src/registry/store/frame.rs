//! One file: a line that says what follows, and the bytes.
//!
//! `fallway-registry 1 snapshot 1234 <sha256>` and a line end, then 1234 bytes of canonical JSON with that hash. The
//! file can be read with `tail -n +2` and checked with `sha256sum`. There is one way to write the line, so every
//! changed bit of it is an error, and the hash answers for the rest.

use super::super::Digest;
use std::fmt;

/// Why a file is not what it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// Not the first line of such a file.
    Header,
    /// Shorter or longer than it says.
    Length,
    /// Other bytes than were written.
    Hash,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "the first line is not that of a registry file",
            Self::Length => "it is shorter or longer than it says",
            Self::Hash => "its bytes are not those that were written",
        })
    }
}

fn header(kind: &str, payload: &[u8]) -> String {
    format!("fallway-registry 1 {kind} {} {}\n", payload.len(), Digest::of(payload))
}

pub(super) fn encode(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, payload).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

pub(super) fn decode<'b>(kind: &str, bytes: &'b [u8]) -> Result<&'b [u8], Broken> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Broken::Header)? + 1;
    let (line, payload) = bytes.split_at(end);
    let text = std::str::from_utf8(line).map_err(|_| Broken::Header)?;
    let length = text.strip_prefix(&format!("fallway-registry 1 {kind} ")).and_then(|rest| rest.split(' ').next());
    let length: usize = length.and_then(|length| length.parse().ok()).ok_or(Broken::Header)?;
    if length != payload.len() {
        return Err(Broken::Length);
    }
    if line == header(kind, payload).as_bytes() { Ok(payload) } else { Err(Broken::Hash) }
}
