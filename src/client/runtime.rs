//! The runtime file, the token, and the proof that a port is the daemon's.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use super::ClientError;
use crate::config::Paths;

/// A text that `Debug` does not show.
#[derive(Clone)]
pub(super) struct Secret(String);

impl Secret {
    /// The text, on its way to where it belongs.
    pub fn reveal(self) -> String {
        self.0
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What the daemon wrote about itself when it became ready.
#[derive(Clone, Debug, Deserialize)]
pub struct RuntimeFile {
    pub schema: u32,
    pub version: String,
    pub instance: String,
    pub pid: i32,
    /// RFC 3339.
    pub started: String,
    pub port: u16,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    proof_key: ProofKey,
}

#[derive(Clone, Deserialize)]
struct ProofKey(String);

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey")
    }
}

/// The layout this client reads.
const SCHEMA: u32 = 1;

/// Far more than the files have; a bound against a device or a mistake.
const MAX_FILE: u64 = 64 * 1024;

impl RuntimeFile {
    /// Reads the file that `~/.fleetd/fleetd.json` points to.
    pub(super) fn read(paths: &Paths) -> Result<Self, ClientError> {
        let path = paths.pointer();
        let unusable = |problem: String| ClientError::RuntimeFile { path: path.clone(), problem };
        let text = match read_private(&path) {
            Ok(text) => text,
            Err(Unusable::Missing) => return Err(ClientError::NotRunning),
            Err(Unusable::Because(problem)) => return Err(unusable(problem)),
        };
        let file: Self =
            serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        if file.schema != SCHEMA {
            return Err(unusable(format!(
                "it has schema {}, and this fleetctl {} reads {SCHEMA}; fleetd is {}",
                file.schema,
                env!("CARGO_PKG_VERSION"),
                file.version
            )));
        }
        Ok(file)
    }

    /// Whether `proof` is the answer to `challenge` by the one who wrote this file:
    /// `hex(HMAC-SHA256(proof_key, challenge ":" port))`. The port is part of it,
    /// so nobody can pass the challenge on to the real daemon on another port.
    pub(super) fn proves(&self, challenge: &[u8], proof: &str) -> bool {
        let Some(key) = from_hex(&self.proof_key.0).filter(|key| key.len() == 32) else {
            return false;
        };
        let Some(proof) = from_hex(proof) else { return false };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return false };
        mac.update(challenge);
        mac.update(format!(":{}", self.port).as_bytes());
        mac.verify_slice(&proof).is_ok()
    }
}

/// Reads the bearer token.
pub(super) fn read_token(paths: &Paths) -> Result<Secret, ClientError> {
    let path = paths.token();
    let unusable = |problem: String| ClientError::Token { path: path.clone(), problem };
    let text = read_private(&path).map_err(|problem| match problem {
        Unusable::Missing => unusable("it is not there".to_owned()),
        Unusable::Because(problem) => unusable(problem),
    })?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable(
            "it holds no token; make one with `fleetctl token rotate`".to_owned(),
        ));
    }
    Ok(Secret(token.to_owned()))
}

enum Unusable {
    Missing,
    Because(String),
}

/// Reads a file that has to be ours alone: another user who could write it
/// could send us and our token anywhere.
fn read_private(path: &Path) -> Result<String, Unusable> {
    let because = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Unusable::Missing,
        _ => Unusable::Because(error.to_string()),
    };
    let file = File::open(path).map_err(because)?;
    let about = file.metadata().map_err(because)?;
    if !about.is_file() {
        return Err(Unusable::Because("it is not a plain file".to_owned()));
    }
    if about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Unusable::Because(format!("it belongs to user id {}", about.uid())));
    }
    if about.mode() & 0o077 != 0 {
        return Err(Unusable::Because(format!(
            "others may use it (mode {:03o}); `chmod 600` it",
            about.mode() & 0o777
        )));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(because)?;
    Ok(text)
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(port: u16) -> RuntimeFile {
        RuntimeFile {
            schema: 1,
            version: "0".into(),
            instance: "i".into(),
            pid: 1,
            started: "2026-11-20T10:00:00Z".into(),
            port,
            url: format!("http://127.0.0.1:{port}"),
            proof_key: ProofKey("0b".repeat(32)),
        }
    }

    #[test]
    fn a_proof_holds_for_its_challenge_and_port_only() {
        // Computed with another implementation:
        // python3 -c 'import hmac; print(hmac.new(b"\x0b"*32, b"\x01"*16+b":7001", "sha256").hexdigest())'
        let proof = "71b15bdea6c29d30438d9186cc27b7c340460141a103f3d02a9ddbf4e1e4a0d2";
        assert!(file(7001).proves(&[1; 16], proof));
        assert!(!file(7002).proves(&[1; 16], proof));
        assert!(!file(7001).proves(&[2; 16], proof));
        assert!(!file(7001).proves(&[1; 16], &proof[2..]));
        assert!(!file(7001).proves(&[1; 16], ""));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", file(1), Secret("hunter2".into()));
        assert!(!shown.contains("0b0b") && !shown.contains("hunter2"), "{shown}");
    }
}
