//! Writing our own file.

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::line::{Line, Marker};
use super::{algorithm, text};
use crate::reach::error::ReachError;

/// Puts `blob` in the place of all keys that the file has for the host of this
/// name; other lines stay as they are. The new file is there as a whole or not
/// at all, and readable by us alone.
pub fn pin(path: &Path, name: &str, blob: &[u8]) -> Result<(), ReachError> {
    let failed = |error: std::io::Error| ReachError::KnownHosts {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    let old = text(path)?;
    let is_replaced = |line: &&str| {
        let entry = Line::parse(line, 0);
        entry.is_some_and(|entry| entry.marker == Marker::None && entry.names(name))
    };
    let mut new: String =
        old.lines().filter(|line| !is_replaced(line)).flat_map(|line| [line, "\n"]).collect();
    new += &format!("{name} {} {}\n", algorithm(blob), STANDARD.encode(blob));
    let folder = path.parent().unwrap_or(Path::new("."));
    // The mode of a temporary file is 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(new.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
