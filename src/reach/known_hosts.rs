//! Whom we trust to be whom: our own reading of `known_hosts`.
//!
//! A host is `name`, or `[name]:port` where the port is not 22. Our own file
//! decides alone where it names the host; the other files are asked where it is
//! silent. `@revoked` counts wherever it stands. Lines that cannot be read are
//! skipped, files that cannot be read are an error.

mod line;
mod pin;

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};

use super::error::ReachError;
use super::options::ReachOptions;
use line::{Line, Marker};
pub(super) use pin::pin;

/// More than a hundred thousand hosts.
const MOST_BYTES: u64 = 32 * 1024 * 1024;

/// A host's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// Such as `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:` and base64 without padding, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

impl HostKey {
    /// From the key as it goes over the wire.
    pub(super) fn of(blob: &[u8]) -> Self {
        Self { algorithm: algorithm(blob), fingerprint: fingerprint(blob) }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.fingerprint)
    }
}

/// What the files say of a key that a host shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Known,
    /// No file has a word on the host.
    Unknown,
    /// The files have other keys of the host, in `place`.
    Changed {
        known: String,
        place: String,
    },
    Revoked {
        place: String,
    },
    /// Only a certificate authority is named.
    Certified {
        place: String,
    },
}

/// What the files said when they were read.
pub(super) struct KnownHosts {
    /// Ours first.
    files: Vec<(PathBuf, Vec<Line>)>,
}

/// How the files call a host.
pub(super) fn name(host: &str, port: u16) -> String {
    // With the dot of the root it is the same host.
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

impl KnownHosts {
    /// Reads all files; one that is not there is empty.
    pub fn read(options: &ReachOptions) -> Result<Self, ReachError> {
        let paths = std::iter::once(&options.known_hosts).chain(&options.other_known_hosts);
        let files = paths.map(|path| Ok((path.clone(), lines(&text(path)?))));
        Ok(Self { files: files.collect::<Result<_, ReachError>>()? })
    }

    /// Judges the key that the host of this [`name`] shows.
    pub fn judge(&self, name: &str, blob: &[u8]) -> Verdict {
        let entries = || {
            self.files.iter().flat_map(|(path, lines)| lines.iter().map(move |line| (path, line)))
        };
        let naming = || entries().filter(|(_, line)| line.names(name));
        let revoked = naming().find(|(_, l)| l.marker == Marker::Revoked && l.blob == blob);
        if let Some((path, line)) = revoked {
            return Verdict::Revoked { place: place(path, line) };
        }
        let (deciding, pinned) = self.deciding(name);
        if pinned.iter().any(|line| line.blob == blob) {
            return Verdict::Known;
        }
        if let Some(first) = pinned.first() {
            let known: Vec<_> = pinned.iter().map(|line| fingerprint(&line.blob)).collect();
            return Verdict::Changed { known: known.join(" or "), place: place(deciding, first) };
        }
        match naming().find(|(_, line)| line.marker == Marker::Authority) {
            Some((path, line)) => Verdict::Certified { place: place(path, line) },
            None => Verdict::Unknown,
        }
    }

    /// The kinds of keys that are known of the host: to be asked for first.
    pub fn algorithms(&self, name: &str) -> Vec<String> {
        let (_, pinned) = self.deciding(name);
        let mut found: Vec<String> = Vec::new();
        for line in pinned {
            if !found.contains(&line.algorithm) {
                found.push(line.algorithm.clone());
            }
        }
        found
    }

    /// The host's plain entries in our file or, if it has none, in the others.
    fn deciding(&self, name: &str) -> (&Path, Vec<&Line>) {
        let plain = |lines: &'_ [Line]| -> Vec<usize> {
            let is_plain = |line: &Line| line.marker == Marker::None && line.names(name);
            lines.iter().enumerate().filter(|(_, l)| is_plain(l)).map(|(at, _)| at).collect()
        };
        let Some(((ours, our_lines), others)) = self.files.split_first() else {
            return (Path::new(""), Vec::new());
        };
        let pins = plain(our_lines);
        if !pins.is_empty() {
            return (ours, pins.into_iter().map(|at| &our_lines[at]).collect());
        }
        let mut deciding: Option<&Path> = None;
        let mut found = Vec::new();
        for (path, lines) in others {
            let here = plain(lines);
            if !here.is_empty() {
                deciding = deciding.or(Some(path));
            }
            found.extend(here.into_iter().map(|at| &lines[at]));
        }
        (deciding.unwrap_or(ours), found)
    }
}

fn place(path: &Path, line: &Line) -> String {
    format!("{}:{}", path.display(), line.number)
}

fn text(path: &Path) -> Result<String, ReachError> {
    let failed = |problem: String| ReachError::KnownHosts { path: path.to_owned(), problem };
    let mut bytes = Vec::new();
    match std::fs::File::open(path) {
        Ok(file) => file.take(MOST_BYTES + 1).read_to_end(&mut bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => Err(error),
    }
    .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(format!("it has more than {MOST_BYTES} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn lines(text: &str) -> Vec<Line> {
    text.lines().enumerate().filter_map(|(at, line)| Line::parse(line, at + 1)).collect()
}

fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}

/// The name that a key begins with.
fn algorithm(blob: &[u8]) -> String {
    let name = blob.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest.get(..length)
    });
    let name = name.unwrap_or(b"unknown");
    super::plain::plain(&String::from_utf8_lossy(name), 40)
}

#[cfg(test)]
mod tests;
