//! The runtime file: how clients find the daemon, and how it proves itself.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::place::{self, PlaceError};
use crate::config::Paths;
use crate::http::Secret;
use crate::model::Timestamp;

/// Raised when a client has to read it differently.
const SCHEMA: u32 = 1;

/// What the file says. It holds no token: the proof key only lets a client
/// check that whoever answers on the port is the one who wrote the file.
#[derive(Serialize)]
struct Content<'a> {
    schema: u32,
    version: &'a str,
    instance: &'a str,
    pid: u32,
    started: Timestamp,
    started_ms: i64,
    port: u16,
    url: &'a str,
    proof_key: &'a str,
}

/// What a latecomer wants to know of the daemon that lives.
#[derive(Clone, Debug, Deserialize)]
pub struct Seen {
    pub pid: i32,
    pub url: String,
}

/// What is to be written.
pub struct Facts<'a> {
    pub instance: &'a str,
    pub started: Timestamp,
    pub port: u16,
    pub url: &'a str,
    pub proof_key: &'a Secret,
}

/// The written file; taken back at a clean exit.
#[derive(Debug)]
pub struct Card {
    file: PathBuf,
    pointer: PathBuf,
    content: String,
}

impl Card {
    /// Writes the runtime file and the pointer below HOME, both atomically.
    ///
    /// # Errors
    /// If either directory cannot be written.
    pub fn write(paths: &Paths, facts: &Facts<'_>) -> Result<Self, PlaceError> {
        let content = Content {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            instance: facts.instance,
            pid: std::process::id(),
            started: facts.started,
            started_ms: facts.started.millis(),
            port: facts.port,
            url: facts.url,
            proof_key: facts.proof_key.reveal(),
        };
        let (file, pointer) = (paths.runtime_file(), paths.pointer());
        let content = serde_json::to_string_pretty(&content)
            .map_err(|error| PlaceError::io(&file, error.into()))?;
        place::write_private(&file, &content)?;
        // A link cannot be replaced in place: make it beside and move it over.
        let beside = pointer.with_extension("json.new");
        let point = || {
            let _ = std::fs::remove_file(&beside);
            symlink(&file, &beside)?;
            std::fs::rename(&beside, &pointer)
        };
        point().map_err(|source| PlaceError::io(&pointer, source))?;
        Ok(Self { file, pointer, content })
    }

    /// What the daemon that lives says about itself, if it says so already.
    pub fn read(paths: &Paths) -> Option<Seen> {
        let text = std::fs::read_to_string(paths.pointer()).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Removes both, if they are still ours: a later daemon's stay.
    pub fn withdraw(&self) {
        let ours = std::fs::read_to_string(&self.file).is_ok_and(|text| text == self.content);
        if ours {
            let _ = std::fs::remove_file(&self.file);
        }
        let points_to_ours = std::fs::read_link(&self.pointer).is_ok_and(|to| to == self.file);
        if points_to_ours && !self.file.exists() {
            let _ = std::fs::remove_file(&self.pointer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_through_home_and_taken_back_only_if_it_is_ours() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let paths = Paths {
            home: at("home"),
            state: at("state"),
            runtime: at("run"),
            config: at("fleetd.toml"),
        };
        place::directory(&paths.home).unwrap();
        place::directory(&paths.runtime).unwrap();
        let proof_key = Secret::generate().unwrap();
        let facts = |port, url| Facts {
            instance: "i",
            started: Timestamp::now(),
            port,
            url,
            proof_key: &proof_key,
        };
        let first = Card::write(&paths, &facts(1, "http://127.0.0.1:1")).unwrap();
        assert_eq!(Card::read(&paths).unwrap().url, "http://127.0.0.1:1");
        let second = Card::write(&paths, &facts(2, "http://127.0.0.1:2")).unwrap();
        first.withdraw();
        assert_eq!(Card::read(&paths).unwrap().url, "http://127.0.0.1:2");
        second.withdraw();
        assert!(Card::read(&paths).is_none());
        assert!(std::fs::symlink_metadata(paths.pointer()).is_err());
    }
}
