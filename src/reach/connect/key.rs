//! Private keys in files.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::reach::error::ReachError;

/// Keys are a few thousand bytes.
const MOST_BYTES: u64 = 64 * 1024;

/// The text of a private key that we can use: readable by nobody else, and not
/// encrypted.
pub fn read(path: &Path) -> Result<String, ReachError> {
    let failed = |problem: String| ReachError::Key { path: path.to_owned(), problem };
    // A pipe in its place would be waited for without this.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| failed(error.to_string()))?;
    let meta = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !meta.is_file() {
        return Err(failed(String::from("it is no file")));
    }
    if meta.mode() & 0o077 != 0 {
        let advice = format!("others may read it; chmod 600 '{}'", path.display());
        return Err(failed(advice));
    }
    let mut text = String::new();
    let read = file.take(MOST_BYTES).read_to_string(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    if is_encrypted(&text) {
        return Err(ReachError::KeyEncrypted { path: path.to_owned() });
    }
    Ok(text)
}

/// The key as it goes over the wire, from the `.pub` file beside it.
pub fn public_blob(path: &Path) -> Option<Vec<u8>> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let text = std::fs::read_to_string(beside).ok()?;
    STANDARD.decode(text.split_ascii_whitespace().nth(1)?).ok()
}

/// Whether a passphrase is needed. OpenSSH's format names its cipher, the older
/// ones say so in their first lines.
fn is_encrypted(text: &str) -> bool {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return true;
    }
    let body: String = text
        .lines()
        .skip_while(|line| !line.contains("BEGIN OPENSSH PRIVATE KEY"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let Ok(bytes) = STANDARD.decode(body) else { return false };
    let Some(rest) = bytes.strip_prefix(b"openssh-key-v1\0") else { return false };
    !rest.starts_with(b"\0\0\0\x04none")
}
