//! What only root may do: mounting. Fails loudly where nobody may.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::run;
use super::wait::eventually;

/// `args` as root: directly, or with password-less sudo.
pub fn root_command(args: &[&str]) -> Command {
    if nix::unistd::geteuid().is_root() {
        let mut command = Command::new(args[0]);
        command.args(&args[1..]);
        command
    } else {
        let mut command = Command::new("sudo");
        command.arg("--non-interactive").args(args);
        command
    }
}

/// Runs `args` as root.
///
/// # Panics
/// If that is not possible, or fails.
#[track_caller]
pub fn as_root(args: &[&str]) {
    run(root_command(args), b"", Duration::from_secs(30)).ok();
}

pub fn path_text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}

/// A small file system in memory, mounted while this lives.
pub struct SmallDisk {
    mount: TempDir,
}

impl SmallDisk {
    /// A disk with room for `kib` KiB.
    pub fn new(kib: u64) -> Self {
        let mount = tempfile::Builder::new().prefix("s").tempdir().expect("a mount point");
        let uid = nix::unistd::getuid();
        let options = format!("size={kib}k,mode=0700,uid={uid}");
        as_root(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &path_text(mount.path())]);
        Self { mount }
    }

    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Gives the disk another size.
    pub fn resize(&self, kib: u64) {
        self.remount(&format!("size={kib}k"));
    }

    /// Makes the disk read-only; nobody may have a file open for writing.
    pub fn read_only(&self) {
        self.remount("ro");
    }

    fn remount(&self, option: &str) {
        as_root(&["mount", "-o", &format!("remount,{option}"), &path_text(self.mount.path())]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mount = path_text(self.mount.path());
        let gone = || root_command(&["umount", &mount]).status().is_ok_and(|s| s.success());
        if std::thread::panicking() {
            // The disk may be in use by what failed; a second panic would hide the first.
            drop(root_command(&["umount", "--lazy", &mount]).status());
        } else {
            eventually("the disk is unmounted", gone);
        }
    }
}
